# SPDX-License-Identifier: BSD-3-Clause
"""Every frame is forwarded with the right bytes, or counted under the right reason. Never a crash.

The server here is a packet socket at the other end of the balancer's cable, before the switch (a bridge takes
Ethernet padding off) and without any IP address (the neighbour entries are static): nothing but the test's own
frames is on the wire, and both directions are checked byte by byte against scapy.
"""
import random

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP, IPOption_Timestamp
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether

import configs
import packets
from conftest import finish
from lab import VIP, VIP6, VIPS, Lab, wait_for
from packets import CLIENT, CLIENT6
from wire import Wire

SINK, SINK6, SINK_MAC = "10.2.0.50", "2001:db8:2::50", "02:00:00:00:00:50"
SINKS, CLIENTS = {4: SINK, 6: SINK6}, {4: CLIENT, 6: CLIENT6}
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


def service(name, family, port, protocol, backend_port, backend=None):
    return {"name": name, "vip": VIPS[family], "port": port, "protocol": protocol, "mode": "nat",
            "health_check": {"type": "none"},
            "backends": [{"name": "sink", "address": backend or SINKS[family], "port": backend_port}]}


class Link:
    """The client's and the server's wire, and what the balancer counts."""

    def __init__(self, lab):
        self.lab = lab
        self.client = Wire(lab.client, "eth0")
        self.server = Wire(lab.switch, "p0")
        self.to = packets.To(self.client.mac, lab.lb.mac("vethc"))
        self.lb_to_server = lab.lb.mac("vethb")

    def request(self, packet):
        """As the client sends it."""
        return Ether(src=self.client.mac, dst=self.to.dst) / packet

    def delivered(self, packet):
        """As the server must get it."""
        return Ether(src=self.lb_to_server, dst=SINK_MAC) / packet

    def reply(self, packet):
        """As the server sends it."""
        return Ether(src=SINK_MAC, dst=self.lb_to_server) / packet

    def returned(self, packet):
        """As the client must get it."""
        return Ether(src=self.to.dst, dst=self.client.mac) / packet

    def count(self, *reasons):
        drops = self.lab.drops()
        return {reason: drops[reason] for reason in reasons or drops}


def start(lab, *services):
    """Start both daemons. DPDK sets each port's MAC address anew when it starts it, which empties the kernel's
    neighbour table: the entries of the server come after that."""
    lab.write_config(configs.config(*services))
    lab.start_dataplane()
    lab.lb.ip(*[f"neigh replace {sink} lladdr {SINK_MAC} dev vethb nud permanent" for sink in SINKS.values()])
    lab.start_control()


@pytest.fixture(scope="module")
def link():
    with Lab(n_backends=0) as lab:
        start(lab, *[service(f"tcp{f}", f, packets.TCP_PORT, "tcp", 8080) for f in (4, 6)],
              *[service(f"udp{f}", f, packets.UDP_PORT, "udp", 5353) for f in (4, 6)])
        lab.wait_ready()
        yield Link(lab)
        finish(lab)


def is_ours(frame):
    """IP between the test's addresses: not what the kernels around it say by ICMP or neighbour discovery."""
    packet = Ether(frame)
    for layer, icmp in ((IP, 1), (IPv6, 58)):
        if layer in packet:
            protocol = packet[layer].proto if layer is IP else packet[layer].nh
            return protocol != icmp and not {packet[layer].src, packet[layer].dst}.isdisjoint(
                {SINK, SINK6, CLIENT, CLIENT6})
    return False


@pytest.mark.parametrize("reason,build", [c[1:] for c in packets.CASES], ids=[c[0] for c in packets.CASES])
@pytest.mark.smoke
def test_malformed_packet_is_counted_under_its_reason(link, reason, build):
    link.server.flush()
    before = link.count()
    link.client.send(build(link.to))
    wait_for(lambda: link.count(reason)[reason] > before[reason],
             lambda: f"{reason}; counted: { {k: v - before[k] for k, v in link.count().items() if v != before[k]} }")
    after = link.count()
    changed = {k: v - before[k] for k, v in after.items() if v != before[k] and k != "host"}
    assert changed == ({reason: 1} if reason != "host" else {})
    assert link.server.received(is_ours) == [], "it must not reach the server"


PAYLOADS = [b"", b"x", b"odd", b"even", bytes(range(256)) * 5 + b"tail"]
# An MSS that both families have room for, so that it is not clamped.
TCP_OPTIONS = [("MSS", 1440), ("NOP", None), ("WScale", 7), ("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]


def network(family, src, dst, ttl, **extra):
    if family == 4:
        return IP(src=src, dst=dst, ttl=ttl, id=0x1234, tos=0xb9, flags="DF", **extra)
    return IPv6(src=src, dst=dst, hlim=ttl, tc=0xb9, fl=0x54321, **extra)


def l4_cases(sport, dport):
    yield TCP(sport=sport, dport=dport, flags="S", seq=0xfffffff0, options=TCP_OPTIONS)
    for payload in PAYLOADS:
        yield TCP(sport=sport, dport=dport, flags="PA", seq=7, ack=9, urgptr=3) / payload
        yield UDP(sport=sport, dport=dport) / payload
    yield TCP(sport=sport, dport=dport, flags="FA")
    yield TCP(sport=sport, dport=dport, flags="R")


def ports_of(l4, family):
    """(service port, backend port) of the service for this protocol."""
    return (packets.TCP_PORT, 8080) if TCP in l4 else (packets.UDP_PORT, 5353)


@FAMILIES
@pytest.mark.parametrize("ttl", [2, 64, 255])
def test_request_bytes(link, family, ttl):
    for sent in l4_cases(40001, 0):
        front, back = ports_of(sent, family)
        sent.dport = front
        link.client.send(link.request(network(family, CLIENTS[family], VIPS[family], ttl) / sent))
        sent.dport = back
        wanted = bytes(link.delivered(network(family, CLIENTS[family], SINKS[family], ttl - 1) / sent))
        got = link.server.expect(is_ours)
        assert got.hex() == wanted.hex()


@FAMILIES
@pytest.mark.parametrize("ttl", [2, 64])
@pytest.mark.smoke
def test_reply_bytes(link, family, ttl):
    for sent in l4_cases(0, 40002):
        front, back = ports_of(sent, family)
        sent.sport = back
        link.server.send(link.reply(network(family, SINKS[family], CLIENTS[family], ttl) / sent))
        sent.sport = front
        wanted = bytes(link.returned(network(family, VIPS[family], CLIENTS[family], ttl - 1) / sent))
        got = link.client.expect(is_ours)
        assert got.hex() == wanted.hex()


def test_ipv4_options_and_padding_are_kept(link):
    options = [IPOption_NOP(), IPOption_NOP(), IPOption_NOP(), IPOption_NOP(), IPOption_Timestamp(length=8, flg=0)]
    datagram = UDP(sport=40003, dport=packets.UDP_PORT) / b"q"
    # The smallest Ethernet frame has 60 bytes: what follows the IP packet is padding, and no part of any checksum.
    padding = b"\xaa" * 12
    link.client.send(bytes(link.request(IP(src=CLIENT, dst=VIP, ttl=9, options=options) / datagram)) + padding)
    datagram.dport = 5353
    wanted = bytes(link.delivered(IP(src=CLIENT, dst=SINK, ttl=8, options=options) / datagram)) + padding
    assert link.server.expect(is_ours).hex() == wanted.hex()


def test_ipv6_extension_headers_are_kept(link):
    for front, back, l4 in ((packets.TCP_PORT, 8080, TCP(sport=40004, flags="A") / b"data"),
                            (packets.UDP_PORT, 5353, UDP(sport=40004) / b"data")):
        extensions = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / l4
        extensions[type(l4)].dport = front
        link.client.send(link.request(IPv6(src=CLIENT6, dst=VIP6, hlim=9) / extensions))
        extensions[type(l4)].dport = back
        wanted = bytes(link.delivered(IPv6(src=CLIENT6, dst=SINK6, hlim=8) / extensions))
        assert link.server.expect(is_ours).hex() == wanted.hex()


@FAMILIES
def test_vlan_tag_is_kept(link, family):
    datagram = UDP(sport=40005, dport=packets.UDP_PORT) / b"tagged"
    link.client.send(Ether(src=link.client.mac, dst=link.to.dst) / Dot1Q(vlan=77, prio=5) /
                     network(family, CLIENTS[family], VIPS[family], 9) / datagram)
    datagram.dport = 5353
    wanted = bytes(Ether(src=link.lb_to_server, dst=SINK_MAC) / Dot1Q(vlan=77, prio=5) /
                   network(family, CLIENTS[family], SINKS[family], 8) / datagram)
    assert link.server.expect(is_ours).hex() == wanted.hex()


def test_udp_without_checksum_stays_without(link):
    link.client.send(link.request(IP(src=CLIENT, dst=VIP) / UDP(sport=40006, dport=packets.UDP_PORT, chksum=0) / b"q"))
    wanted = bytes(link.delivered(IP(src=CLIENT, dst=SINK, ttl=63) / UDP(sport=40006, dport=5353, chksum=0) / b"q"))
    assert link.server.expect(is_ours).hex() == wanted.hex()


@FAMILIES
def test_udp_checksum_never_becomes_zero(link, family):
    # Find a payload with which the rewritten datagram sums to 0: it must go out as 0xffff (RFC 768).
    def rewritten(filler):
        return (network(family, CLIENTS[family], SINKS[family], 8) /
                UDP(sport=40007, dport=5353) / filler.to_bytes(2, "big"))
    layer = IP if family == 4 else IPv6
    plain = type(rewritten(0))(bytes(rewritten(0)))[layer][UDP].chksum
    filler = plain  # adding the checksum itself to the sum gives 0xffff, of which the complement is 0
    sent = UDP(sport=40007, dport=packets.UDP_PORT) / filler.to_bytes(2, "big")
    link.client.send(link.request(network(family, CLIENTS[family], VIPS[family], 9) / sent))
    got = link.server.expect(is_ours)
    assert got.hex() == bytes(link.delivered(rewritten(filler))).hex()
    assert Ether(got)[UDP].chksum == 0xffff


@FAMILIES
def test_wrong_l4_checksum_stays_wrong(link, family):
    # The balancer must not launder a corrupted packet into a valid one: the error stays as large as it was.
    for l4, back in ((TCP(sport=40008, dport=packets.TCP_PORT, flags="A"), 8080),
                     (UDP(sport=40008, dport=packets.UDP_PORT), 5353)):
        sent = Ether(bytes(link.request(network(family, CLIENTS[family], VIPS[family], 9) / l4 / b"data")))
        error = 0x0100
        sent[type(l4)].chksum = checksum_plus(sent[type(l4)].chksum, error)
        link.client.send(sent)
        l4.dport = back
        wanted = Ether(bytes(link.delivered(network(family, CLIENTS[family], SINKS[family], 8) / l4 / b"data")))
        wanted[type(l4)].chksum = checksum_plus(wanted[type(l4)].chksum, error)
        assert link.server.expect(is_ours).hex() == bytes(wanted).hex()


def checksum_plus(checksum, error):
    """One's complement sum of two 16-bit values."""
    total = checksum + error
    return (total & 0xffff) + (total >> 16)


def test_malformed_replies_are_counted(link):
    def sent(reason, packet):
        before = link.count(reason)[reason]
        link.server.send(link.reply(packet))
        # what the kernels around say to each other is left to the host, too
        wait_for(lambda: link.count(reason)[reason] == before + 1 if reason != "host" else
                 link.count(reason)[reason] > before, reason)

    for family in (4, 6):
        answer = TCP(sport=8080, dport=40009, flags="SA")
        sent("ttl_expired", network(family, SINKS[family], CLIENTS[family], 1) / answer)
        impossible = TCP(sport=8080, dport=40009, flags="SF")
        sent("tcp_bad_flags", network(family, SINKS[family], CLIENTS[family], 9) / impossible)
    sent("fragment_bad", IPv6(src=SINK6, dst=CLIENT6) / IPv6ExtHdrFragment(m=1) / TCP(sport=8080, dport=40009) / bytes(5))
    sent("ip_bad_checksum", IP(src=SINK, dst=CLIENT, chksum=1) / TCP(sport=8080, dport=40009, flags="A"))
    # Not an endpoint of any service: the server's own traffic, which the balancer leaves to the kernel.
    link.client.flush()
    sent("host", IP(src=SINK, dst=CLIENT) / TCP(sport=22, dport=40009, flags="SA"))
    sent("host", IP(src="10.2.0.51", dst=CLIENT) / TCP(sport=8080, dport=40009, flags="SA"))
    assert link.client.received(is_ours) == []


def test_nothing_is_silent(link):
    """Frames mutated at random: the data plane lives, and every one of them has a fate that is counted."""
    rng = random.Random(1)
    seeds = [build(link.to) for _, _, build in packets.CASES]
    seeds += [bytes(link.request(network(f, CLIENTS[f], VIPS[f], 9) / l4)) for f in (4, 6)
              for l4 in (TCP(dport=packets.TCP_PORT, flags="S"), UDP(dport=packets.UDP_PORT) / b"query")]

    def received():
        totals = link.lab.api("/v1/stats")["totals"]
        return totals["rx_pkts"], sum(totals[key] for key in ("forward_pkts", "reply_pkts", "host_pkts", "echo_pkts",
                                                            "drop_pkts"))

    n_before, _ = received()
    n_sent = 4000
    for i in range(n_sent):
        frame = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            frame[rng.randrange(12, len(frame))] = rng.randrange(256)
        if rng.random() < 0.3:
            del frame[rng.randrange(14, len(frame) + 1):]
        link.client.send(frame)
        if i % 250 == 249:  # no faster than a busy machine can take it
            wait_for(lambda: received()[0] - n_before >= i * 0.9, "the frames to arrive")
    n_rx, n_fates = wait_for(lambda: (lambda r: r if r[0] == r[1] else None)(received()), "rx to equal the fates")
    assert n_rx - n_before >= 0.9 * n_sent
    # And it still forwards.
    link.server.flush()
    link.client.send(link.request(IP(src=CLIENT, dst=VIP) / TCP(sport=40010, dport=packets.TCP_PORT, flags="S")))
    assert Ether(link.server.expect(lambda f: is_ours(f) and Ether(f)[IP].sport == 40010))[IP].dst == SINK


def test_counted_when_nobody_can_take_it():
    """no_backend, nexthop_unresolved, no_route, and a service for all ports."""
    with Lab(n_backends=0) as lab:
        lab.lb.ip("route del default", "route add 198.51.100.0/25 via 10.1.0.2")
        every = service("every", 4, "all", "tcp", 0)
        del every["backends"][0]["port"]
        dead = service("dead", 4, packets.UDP_PORT, "udp", 5353, "10.2.0.51")
        empty = service("empty", 4, 8000, "udp", 8000, "10.2.0.52")
        empty["backends"][0]["weight"] = 0
        start(lab, every, dead, empty)
        wait_for(lambda: all(s["table"]["published"] for s in lab.status()["services"]), "the tables")
        wait_for(lambda: lab.backend_list("every")["sink"]["nexthop"]["resolved"], "the next hop")
        link = Link(lab)

        def dropped(reason, send, packet):
            before = link.count(reason)[reason]
            send(packet)
            wait_for(lambda: link.count(reason)[reason] == before + 1, reason)

        dropped("nexthop_unresolved", link.client.send, link.request(IP(src=CLIENT, dst=VIP) / UDP(dport=53) / b"q"))
        dropped("no_backend", link.client.send, link.request(IP(src=CLIENT, dst=VIP) / UDP(dport=8000) / b"q"))
        dropped("no_route", link.server.send,
                link.reply(IP(src=SINK, dst="192.0.2.77") / TCP(sport=4000, dport=4001, flags="A")))
        for port in (1, 22, 8080, 65535):  # the port is kept both ways
            link.client.send(link.request(IP(src=CLIENT, dst=VIP) / TCP(sport=4444, dport=port, flags="S")))
            wanted = link.delivered(IP(src=CLIENT, dst=SINK, ttl=63) / TCP(sport=4444, dport=port, flags="S"))
            assert link.server.expect(is_ours).hex() == bytes(wanted).hex()
            link.server.send(link.reply(IP(src=SINK, dst=CLIENT) / TCP(sport=port, dport=4444, flags="SA")))
            wanted = link.returned(IP(src=VIP, dst=CLIENT, ttl=63) / TCP(sport=port, dport=4444, flags="SA"))
            assert link.client.expect(is_ours).hex() == bytes(wanted).hex()
        finish(lab)
