# SPDX-License-Identifier: BSD-3-Clause
"""Datagrams of 8 000 bytes in fragments, through the kernels of real hosts, both ways."""
import socket

import configs
import pytest
from conftest import finish
from lab import CLIENTS, VIPS, Lab
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from wire import Wire

FAMILIES = (4, 6)
DOMAIN = {4: socket.AF_INET, 6: socket.AF_INET6}
QUERY = bytes(i * 7 & 0xff for i in range(8000))


@pytest.fixture(scope="module")
def fragments_lab():
    with Lab(n_backends=2) as lab:
        lab.raw_ports = True
        lab.start_all(configs.config(*[configs.dns(lab, family) for family in FAMILIES]))
        yield lab
        finish(lab)


def servers(lab, family):
    """A socket of each server."""
    sockets = []
    for backend in lab.backends:
        with backend.ns.entered():
            sock = socket.socket(DOMAIN[family], socket.SOCK_DGRAM)
            sock.bind((backend.addresses[family], 5353))
            sock.settimeout(5)
            sockets.append(sock)
    return sockets


def receive(sockets):
    """The datagram that one of them gets. @return (socket, data, sender)."""
    import select
    ready = select.select(sockets, [], [], 5)[0]
    assert len(ready) == 1, f"{len(ready)} servers have got a datagram"
    return (ready[0], *ready[0].recvfrom(20000))


@pytest.mark.parametrize("family", FAMILIES)
def test_8000_bytes_both_ways(fragments_lab, family):
    sockets = servers(fragments_lab, family)
    with fragments_lab.client.entered(), socket.socket(DOMAIN[family], socket.SOCK_DGRAM) as client:
        client.bind((CLIENTS[family], 0))
        client.settimeout(5)
        client.connect((VIPS[family], 53))
        for turn in range(5):
            client.send(QUERY)
            sock, query, sender = receive(sockets)
            assert query == QUERY and sender[0] == CLIENTS[family]
            sock.sendto(query[::-1], sender)
            assert client.recv(20000) == QUERY[::-1], turn
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_8000_bytes_reversed(fragments_lab, family):
    lab = fragments_lab
    sockets = servers(lab, family)
    wire = Wire(lab.client, "eth0")
    ether = Ether(src=wire.mac, dst=lab.lb.mac("vethc"))
    upper = UDP(sport=40123, dport=53) / Raw(QUERY)
    if family == 4:
        pieces = fragment(IP(src=CLIENTS[4], dst=VIPS[4], id=77) / upper, 1480)
    else:
        pieces = fragment6(IPv6(src=CLIENTS[6], dst=VIPS[6]) / IPv6ExtHdrFragment(id=77) / upper, 1500)
    assert len(pieces) >= 6
    for piece in reversed(pieces):
        wire.send(ether / piece)
    _, query, sender = receive(sockets)
    assert (query, sender[0], sender[1]) == (QUERY, CLIENTS[family], 40123)
    for sock in sockets:
        sock.close()
