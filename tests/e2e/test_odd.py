# SPDX-License-Identifier: BSD-3-Clause
"""What is no plain TCP or UDP, through the kernels of real hosts: path MTU discovery, refusals, echo, hop limits.

The client's namespace is a router here, with a host behind a link of 1 280 bytes:

   far (eth0, MTU 1500) --- 1280 --- client --- 1500 --- lb --- 1500 --- be1
"""
import socket
from pathlib import Path

import configs
import pytest
from conftest import finish
from lab import CLIENTS, PYTHON, VIPS, Lab
from netns import Namespace, veth, wait_for
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Ether
from wire import Wire

FAR = {4: "10.3.0.2", 6: "2001:db8:3::2"}
FAMILIES = (4, 6)
N_BYTES = 5_000_000


def add_far(lab):
    far = Namespace(f"{lab.id}-far")
    lab.namespaces.append(far)
    veth(lab.client, "eth1", far, "eth0")
    with lab.client.entered():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    lab.client.ip("addr add 10.3.0.1/24 dev eth1", "addr add 2001:db8:3::1/64 dev eth1 nodad", "link set eth1 mtu 1280")
    far.ip("addr add 10.3.0.2/24 dev eth0", "addr add 2001:db8:3::2/64 dev eth0 nodad",
           "route add default via 10.3.0.1", "route add default via 2001:db8:3::1")
    return far


def empty(family, port, protocol):
    """A service whose only backend takes nothing."""
    return {"name": f"empty-{protocol}{family}", "vip": VIPS[family], "port": port, "protocol": protocol, "mode": "nat",
            "on_empty": "reset", "health_check": {"type": "none"},
            "backends": [{"name": "away", "address": {4: "10.2.0.99", 6: "2001:db8:2::99"}[family], "port": port,
                          "weight": 0}]}


@pytest.fixture(scope="module")
def odd_lab():
    with Lab(n_backends=1) as lab:
        lab.far = add_far(lab)
        (lab.dir / "files").mkdir()
        (lab.dir / "files/big").write_bytes(bytes(N_BYTES))
        backend = lab.backends[0]
        lab.start(backend.ns, "files", [PYTHON, "-m", "http.server", "--bind", "::", "--directory", lab.dir / "files", 8080])
        wait_for(lambda: backend.listens(8080), "the file server")
        web = [{**configs.web(lab, family), "health_check": {"type": "tcp", "interval": "500ms"}} for family in FAMILIES]
        for service in web:
            for b in service["backends"]:
                b.pop("backup", None)
        lab.write_config(configs.config(*web, *[empty(f, port, protocol) for f in FAMILIES
                                                for port, protocol in ((81, "tcp"), (82, "udp"))]))
        lab.start_dataplane()
        lab.start_control()
        for service in web:
            lab.wait_effective(service["name"], **{"api_1": "up"})
        wait_for(lambda: all(b["nexthop"]["resolved"] for b in lab.api("/v1/backends")["backends"] if b["name"] == "api-1"),
                 "the next hop")
        yield lab
        finish(lab)


def url(family, port):
    return f"http://{VIPS[4]}:{port}/big" if family == 4 else f"http://[{VIPS[6]}]:{port}/big"


@pytest.mark.parametrize("family", FAMILIES)
def test_path_mtu_is_found(odd_lab, family):
    done = odd_lab.far.run("curl", "-sS", "--fail", "--max-time", 60, "-o", "/dev/null", "-w", "%{size_download}", url(family, 80))
    assert int(done.stdout) == N_BYTES
    route = odd_lab.backends[0].ns.run("ip", "route", "get", FAR[family]).stdout
    assert "mtu 1280" in route, route  # it was the ICMP error that told the server


@pytest.mark.parametrize("family", FAMILIES)
def test_nobody_there_is_told_at_once(odd_lab, family):
    before = odd_lab.api("/v1/stats")["answers"]
    done = odd_lab.far.run("curl", "-sS", "--max-time", 30, url(family, 81), check=False)
    assert done.returncode == 7, done.stderr  # refused, not timed out (28)
    with odd_lab.far.entered(), socket.socket({4: socket.AF_INET, 6: socket.AF_INET6}[family], socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.connect((VIPS[family], 82))
        sock.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)
    after = wait_for(lambda: (lambda a: a if a["unreachable"] > before["unreachable"] else None)(
        odd_lab.api("/v1/stats")["answers"]), "the count")
    assert after["reset"] > before["reset"]


@pytest.mark.parametrize("family", FAMILIES)
def test_echo_and_hop_limit(odd_lab, family):
    wire = Wire(odd_lab.client, "eth0")
    ether = Ether(src=wire.mac, dst=odd_lab.lb.mac("vethc"))
    src, dst = CLIENTS[family], VIPS[family]
    if family == 4:
        wire.send(ether / IP(src=src, dst=dst) / ICMP(id=7, seq=1) / b"hello")
        answer = Ether(wire.expect(lambda f: ICMP in Ether(f) and Ether(f)[ICMP].type == 0))
        assert (answer[IP].src, answer[IP].dst, bytes(answer[ICMP].payload)[:5]) == (dst, src, b"hello")
        wire.send(ether / IP(src=src, dst=dst, ttl=1) / UDP(sport=33434, dport=33434))
        answer = Ether(wire.expect(lambda f: ICMP in Ether(f) and Ether(f)[ICMP].type == 11))
        assert (answer[IP].src, answer[IP].dst) == (dst, src)
    else:
        wire.send(ether / IPv6(src=src, dst=dst) / ICMPv6EchoRequest(id=7, seq=1, data=b"hello"))
        answer = Ether(wire.expect(lambda f: ICMPv6EchoReply in Ether(f)))
        assert (answer[IPv6].src, answer[IPv6].dst, answer[ICMPv6EchoReply].data) == (dst, src, b"hello")
        wire.send(ether / IPv6(src=src, dst=dst, hlim=1) / UDP(sport=33434, dport=33434))
        answer = Ether(wire.expect(lambda f: ICMPv6TimeExceeded in Ether(f)))
        assert (answer[IPv6].src, answer[IPv6].dst) == (dst, src)
