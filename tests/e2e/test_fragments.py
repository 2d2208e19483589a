# SPDX-License-Identifier: BSD-3-Clause
"""Datagrams of 8 000 bytes in fragments, through the kernels of real hosts, both ways.

Hosts send packets of 1 500 bytes; the links take 1 600, as fragments that become IPv6 in mode fullnat grow by 28.
"""
import socket

import configs
import pytest
from conftest import finish
from lab import CLIENTS, VIPS, Lab
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from wire import PATIENCE_S, Wire

FAMILIES = (4, 6)
LOCALS = {4: "192.0.2.1", 6: "2001:db8:a::1"}
MIXES = [(client, server) for client in FAMILIES for server in FAMILIES]  # of fullnat
DOMAIN = {4: socket.AF_INET, 6: socket.AF_INET6}
QUERY = bytes(i * 7 & 0xff for i in range(8000))


@pytest.fixture(scope="module")
def fragments_lab():
    with Lab(n_backends=2) as lab:
        lab.raw_ports = True
        for ns, *interfaces in ((lab.client, "eth0"), (lab.lb, "vethc", "vethb"), (lab.switch, "p0", "p1", "p2", "bridge0"),
                                *[(backend.ns, "eth0") for backend in lab.backends]):
            ns.ip(*[f"link set {interface} mtu 1600" for interface in interfaces])
        lab.client.ip("route change 203.0.113.0/24 via 10.1.0.1 src 198.51.100.10 mtu 1500",
                      "route change 2001:db8:f::/64 via 2001:db8:1::1 src 2001:db8:c::10 mtu 1500")
        lab.lb.ip("route add blackhole 192.0.2.0/24", "route add blackhole 2001:db8:a::/64")
        for backend in lab.backends:
            backend.ns.ip("route change default via 10.2.0.1 mtu 1500", "route change default via 2001:db8:2::1 mtu 1500")
        lab.start_all(configs.config(*[configs.dns(lab, family) for family in FAMILIES],
                                     *[fullnat(lab, *mix) for mix in MIXES], local_addresses=list(LOCALS.values())))
        yield lab
        finish(lab)


def fullnat(lab, client, server):
    return {**configs.dns(lab, server), "name": f"fullnat-{client}to{server}", "vip": VIPS[client], "port": 5300 + server,
            "mode": "fullnat"}


def servers(lab, family):
    """A socket of each server."""
    sockets = []
    for backend in lab.backends:
        with backend.ns.entered():
            sock = socket.socket(DOMAIN[family], socket.SOCK_DGRAM)
            sock.bind((backend.addresses[family], 5353))
            sock.settimeout(PATIENCE_S)
            sockets.append(sock)
    return sockets


def receive(sockets):
    """The datagram that one of them gets. @return (socket, data, sender)."""
    import select
    ready = select.select(sockets, [], [], PATIENCE_S)[0]
    assert len(ready) == 1, f"{len(ready)} servers have got a datagram"
    return (ready[0], *ready[0].recvfrom(20000))


# (service's port, family of the client, of the servers)
CASES = [(53, family, family) for family in FAMILIES] + [(5300 + server, client, server) for client, server in MIXES]
NAMES = [f"nat-{family}" for family in FAMILIES] + [f"fullnat-{client}to{server}" for client, server in MIXES]


def seen_as(port, client, server):
    """Who the server takes the client for."""
    return CLIENTS[client] if port == 53 else LOCALS[server]


@pytest.mark.parametrize("port, client, server", CASES, ids=NAMES)
def test_8000_bytes_both_ways(fragments_lab, port, client, server):
    sockets = servers(fragments_lab, server)
    with fragments_lab.client.entered(), socket.socket(DOMAIN[client], socket.SOCK_DGRAM) as sender:
        sender.bind((CLIENTS[client], 0))
        sender.settimeout(PATIENCE_S)
        sender.connect((VIPS[client], port))
        for turn in range(5):
            sender.send(QUERY)
            sock, query, source = receive(sockets)
            assert query == QUERY and source[0] == seen_as(port, client, server)
            sock.sendto(query[::-1], source)
            assert sender.recv(20000) == QUERY[::-1], turn
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("port, client, server", CASES, ids=NAMES)
def test_8000_bytes_reversed(fragments_lab, port, client, server):
    lab = fragments_lab
    sockets = servers(lab, server)
    wire = Wire(lab.client, "eth0")
    ether = Ether(src=wire.mac, dst=lab.lb.mac("vethc"))
    upper = UDP(sport=40123, dport=port) / Raw(QUERY)
    if client == 4:
        pieces = fragment(IP(src=CLIENTS[4], dst=VIPS[4], id=77) / upper, 1480)
    else:
        pieces = fragment6(IPv6(src=CLIENTS[6], dst=VIPS[6]) / IPv6ExtHdrFragment(id=77) / upper, 1500)
    assert len(pieces) >= 6
    for piece in reversed(pieces):
        wire.send(ether / piece)
    _, query, source = receive(sockets)
    assert (query, source[0]) == (QUERY, seen_as(port, client, server))
    assert source[1] == 40123 or port != 53
    for sock in sockets:
        sock.close()
