#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Write vectors.json: frames in, frames and verdicts out, for test_vectors.c.

usage: generate.py [--check]     --check: fail if vectors.json is not what this script writes

What is expected is built from scratch by scapy, checksums included; nothing is taken from what the balancer does.
"""
import json
import logging
import socket
import struct
import sys
from pathlib import Path

from scapy.utils import checksum as scapy_checksum
from scapy.all import (ICMP, IP, TCP, UDP, Dot1Q, Ether, ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest,
                       ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded, ICMPv6ND_NS, IPOption, IPv6,
                       IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Raw)

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)  # upper layers are also built alone, to be measured

# MAC addresses: the balancer's on ports 0 (clients) and 1 (backends), the router, the backends' next hop.
LB = {0: "02:00:00:00:00:01", 1: "02:00:00:00:01:01"}
PEER = {0: "02:00:00:00:00:c1", 1: "02:00:00:00:00:b1"}
CLIENT = {4: "198.51.100.7", 6: "2001:db8:c::7"}
ROUTER = {4: "192.0.2.99", 6: "2001:db8:99::1"}
VIP = {4: "203.0.113.10", 6: "2001:db8::10"}
EMPTY = {4: "203.0.113.40", 6: "2001:db8::40"}  # on_empty: reset, nobody there
DEAD = {4: "203.0.113.60", 6: "2001:db8::60"}  # on_empty: reset
OTHER = {4: "192.0.2.200", 6: "2001:db8:ffff::1"}  # not ours
BACKEND = {(4, "tcp"): ("10.0.0.11", 8080), (4, "udp"): ("10.0.0.12", 5353),
           (6, "tcp"): ("fd00::11", 8080), (6, "udp"): ("fd00::12", 5353)}
PORT = {"tcp": 80, "udp": 53}
PROTO = {"tcp": 6, "udp": 17}
SPORT = 40000


def setup_nat():
    services, backends = [], []

    def add(vip, port, proto, slot=None, on_empty="drop", **extra):
        services.append({"id": len(services), "vip": vip, "port": port, "proto": PROTO[proto], "mode": "nat",
                         "on_empty": on_empty, **({} if slot == "none" else {"slot": slot}), **extra})

    def backend(address, port):
        backends.append({"id": len(backends), "service": len(services), "address": address, "port": port})
        return len(backends) - 1

    for family in (4, 6):
        for proto in ("tcp", "udp"):
            add(VIP[family], PORT[proto], proto, backend(*BACKEND[family, proto]))
            add(EMPTY[family], PORT[proto], proto, on_empty="reset")
        add(DEAD[family], 80, "tcp", backend({4: "10.0.0.21", 6: "fd00::21"}[family], 8080), "reset")
    add("203.0.113.20", 0, "tcp", backend("10.0.0.13", 0))
    add("203.0.113.30", 80, "tcp", "none")
    add("203.0.113.31", 80, "tcp", "none", "reset")
    add("203.0.113.50", 80, "tcp")
    return {"services": services, "backends": backends}


LOCAL = {4: "192.0.2.10", 6: "2001:db8:10::10"}
GUE_PORT = 6080
# (mode, family of the VIP, family of the backend): (VIP, backend)
DIRECT = {(mode, inner, outer): ({4: f"203.0.113.{150 + n}", 6: f"2001:db8::{150 + n}"}[inner],
                                 {4: f"10.7.0.{n + 1}", 6: f"fd00:7::{n + 1}"}[outer])
          for n, (mode, inner, outer) in enumerate(
              (mode, inner, outer) for mode in ("dsr", "ipip", "gue") for inner in (4, 6) for outer in (4, 6)
              if mode != "dsr" or inner == outer)}


def setup_direct():
    services, backends = [], []
    for (mode, _, _), (vip, backend) in DIRECT.items():
        for proto in ("tcp", "udp"):
            services.append({"id": len(services), "vip": vip, "port": PORT[proto], "proto": PROTO[proto], "mode": mode,
                             "on_empty": "drop", "slot": len(backends), **({"gue_port": GUE_PORT} if mode == "gue" else {})})
            backends.append({"id": len(backends), "service": len(backends), "address": backend, "port": PORT[proto]})
    return {"services": services, "backends": backends, "locals": list(LOCAL.values())}


# name: (mode, mss as the messages have it: 0 is none, 65535 auto, last octet of VIP and backend)
CLAMPED = {"1000": ("nat", 1000, 90), "auto": ("nat", 65535, 91), "none": ("nat", 0, 92), "dsr": ("dsr", 0, 93)}
CLAMPED_MTUS = [1400, 1500]


def clamped(name, family):
    """VIP, backend."""
    n = CLAMPED[name][2]
    return {4: (f"203.0.113.{n}", f"10.9.0.{n}"), 6: (f"2001:db8::9:{n}", f"fd00:9::{n}")}[family]


def setup_mss():
    services, backends = [], []
    for name, (mode, mss, _) in CLAMPED.items():
        for family in (4, 6):
            vip, backend = clamped(name, family)
            services.append({"id": len(services), "vip": vip, "port": 80, "proto": 6, "mode": mode, "mss": mss,
                             "on_empty": "drop", "slot": len(backends)})
            backends.append({"id": len(backends), "service": len(backends), "address": backend, "port": 80})
    return {"services": services, "backends": backends, "mtus": CLAMPED_MTUS}


SETUPS = {"nat": setup_nat(), "direct": setup_direct(), "mss": setup_mss()}
DEAD_IDS = {b["address"]: b["id"] for b in SETUPS["nat"]["backends"]}
CASES = []


# -- building blocks

def network(family, src, dst, ttl=64, **fields):
    if family == 4:
        return IP(src=src, dst=dst, ttl=ttl, **fields)
    return IPv6(src=src, dst=dst, hlim=ttl, **fields)


def arriving(packet, port=0, vlan=None):
    ether = Ether(src=PEER[port], dst=LB[port])
    return ether / Dot1Q(vlan=vlan, prio=3) / packet if vlan else ether / packet


def leaving(packet, port, vlan=None):
    ether = Ether(src=LB[port], dst=PEER[port])
    return ether / Dot1Q(vlan=vlan, prio=3) / packet if vlan else ether / packet


def step(frame, verdict, out=(), port=0, states=None):
    """One frame in; `out`: what is sent, as (port, frame)."""
    return {"in": bytes(frame).hex(), "port": port, "verdict": verdict,
            "out": [[p, bytes(f).hex(), *masks] for p, f, *masks in out], **({"states": states} if states else {})}


def case(name, *steps, setup="nat"):
    assert name not in {c["name"] for c in CASES}, name
    CASES.append({"name": name, "setup": setup, "steps": list(steps)})


def drop(name, frame, verdict, port=0):
    case(name, step(frame, verdict, port=port))


def data(n):
    return bytes(i * 7 + 1 & 0xff for i in range(n))


def l4(proto, sport, dport, payload=b"", **tcp):
    if proto == "tcp":
        return TCP(sport=sport, dport=dport, **{"flags": "A", "seq": 1000, "ack": 2000, **tcp}) / Raw(payload)
    return UDP(sport=sport, dport=dport) / Raw(payload)


def forwarded(name, build, family, proto, vlan=None):
    """build(src, dst, sport, dport, ttl): a packet of a client, once as it arrives, once as it leaves."""
    address, port = BACKEND[family, proto]
    frame = build(CLIENT[family], VIP[family], SPORT, PORT[proto], 64)
    wanted = build(CLIENT[family], address, SPORT, port, 63)
    case(name, step(arriving(frame, 0, vlan), "forward", [(1, leaving(wanted, 1, vlan))]))


def replied(name, build, family, proto, vlan=None):
    """build(src, dst, sport, dport, ttl): a packet of a backend."""
    address, port = BACKEND[family, proto]
    frame = build(address, CLIENT[family], port, SPORT, 64)
    wanted = build(VIP[family], CLIENT[family], PORT[proto], SPORT, 63)
    case(name, step(arriving(frame, 1, vlan), "reply", [(0, leaving(wanted, 0, vlan))], port=1))


# -- nat, plain

def nat_cases():
    for family in (4, 6):
        for proto in ("tcp", "udp"):
            for n in (0, 1, 2, 33, 512, 1400):
                def plain(src, dst, sport, dport, ttl):
                    return network(family, src, dst, ttl) / l4(proto, sport, dport, data(n))
                forwarded(f"nat ipv{family} {proto}: request with {n} bytes", plain, family, proto)
                replied(f"nat ipv{family} {proto}: reply with {n} bytes", plain, family, proto)

            def tagged(src, dst, sport, dport, ttl):
                return network(family, src, dst, ttl) / l4(proto, sport, dport, data(10))
            forwarded(f"nat ipv{family} {proto}: 802.1Q tag is kept", tagged, family, proto, vlan=77)
            replied(f"nat ipv{family} {proto}: 802.1Q tag of a reply is kept", tagged, family, proto, vlan=4094)

        for flags in ("S", "SA", "PA", "FA", "R", "RA", "SEC"):
            def flagged(src, dst, sport, dport, ttl):
                return network(family, src, dst, ttl) / l4("tcp", sport, dport, flags=flags)
            forwarded(f"nat ipv{family} tcp: flags {flags}", flagged, family, "tcp")

        def options(src, dst, sport, dport, ttl):
            return network(family, src, dst, ttl) / l4(
                "tcp", sport, dport, flags="S",
                options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)])
        forwarded(f"nat ipv{family} tcp: options", options, family, "tcp")

        def traffic_class(src, dst, sport, dport, ttl):
            fields = {"tos": 0xb9} if family == 4 else {"tc": 0xb9, "fl": 0x12345}
            return network(family, src, dst, ttl, **fields) / l4("udp", sport, dport, data(9))
        forwarded(f"nat ipv{family} udp: traffic class and flow label", traffic_class, family, "udp")

        def least_ttl(src, dst, sport, dport, ttl):
            return network(family, src, dst, ttl - 62) / l4("tcp", sport, dport)
        forwarded(f"nat ipv{family} tcp: hop limit 2 becomes 1", least_ttl, family, "tcp")

    def no_checksum(src, dst, sport, dport, ttl):
        return network(4, src, dst, ttl) / UDP(sport=sport, dport=dport, chksum=0) / data(11)
    forwarded("nat ipv4 udp: no checksum stays none", no_checksum, 4, "udp")

    def ip_options(src, dst, sport, dport, ttl):
        return network(4, src, dst, ttl, options=[IPOption(b"\x94\x04\0\0"), IPOption(b"\x01")]) / l4("tcp", sport, dport)
    forwarded("nat ipv4 tcp: IP options are kept", ip_options, 4, "tcp")

    def extension_headers(src, dst, sport, dport, ttl):
        return (network(6, src, dst, ttl) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() /
                IPv6ExtHdrRouting(addresses=[], segleft=0) / l4("tcp", sport, dport, data(3)))
    forwarded("nat ipv6 tcp: extension headers are kept", extension_headers, 6, "tcp")

    for n_pad in (1, 6, 26):
        frame = network(4, CLIENT[4], VIP[4]) / l4("udp", SPORT, 53, b"q")
        wanted = network(4, CLIENT[4], "10.0.0.12", 63) / l4("udp", SPORT, 5353, b"q")
        case(f"nat ipv4 udp: {n_pad} bytes of padding are kept",
             step(bytes(arriving(frame)) + data(n_pad), "forward", [(1, bytes(leaving(wanted, 1)) + data(n_pad))]))

    frame = network(4, CLIENT[4], "203.0.113.20") / l4("tcp", SPORT, 4711, flags="S")
    wanted = network(4, CLIENT[4], "10.0.0.13", 63) / l4("tcp", SPORT, 4711, flags="S")
    case("nat ipv4 tcp: a service for all ports keeps the port", step(arriving(frame), "forward", [(1, leaving(wanted, 1))]))
    frame = network(4, "10.0.0.13", CLIENT[4]) / l4("tcp", 4711, SPORT, flags="SA")
    wanted = network(4, "203.0.113.20", CLIENT[4], 63) / l4("tcp", 4711, SPORT, flags="SA")
    case("nat ipv4 tcp: a reply of a service for all ports", step(arriving(frame, 1), "reply", [(0, leaving(wanted, 0))], 1))


# -- what is dropped

def drop_cases():
    for family in (4, 6):
        def to_vip(upper, **fields):
            return arriving(network(family, CLIENT[family], VIP[family], **fields) / upper)

        v = f"ipv{family}"
        drop(f"drop {v}: port without a service", to_vip(l4("tcp", SPORT, 81, flags="S")), "vip_no_service")
        drop(f"drop {v}: service of the other protocol", to_vip(l4("udp", SPORT, 80)), "vip_no_service")
        drop(f"drop {v}: SYN and FIN", to_vip(l4("tcp", SPORT, 80, flags="SF")), "tcp_bad_flags")
        drop(f"drop {v}: SYN and RST", to_vip(l4("tcp", SPORT, 80, flags="SR")), "tcp_bad_flags")
        drop(f"drop {v}: no TCP flags", to_vip(l4("tcp", SPORT, 80, flags="")), "tcp_bad_flags")
        drop(f"drop {v}: TCP data offset below 20", to_vip(TCP(sport=SPORT, dport=80, flags="A", dataofs=4)), "tcp_bad_header")
        drop(f"drop {v}: TCP data offset beyond the end", to_vip(TCP(sport=SPORT, dport=80, flags="A", dataofs=6)),
             "tcp_bad_header")
        drop(f"drop {v}: UDP length below 8", to_vip(UDP(sport=SPORT, dport=53, len=7)), "udp_bad_length")
        drop(f"drop {v}: UDP length beyond the end", to_vip(UDP(sport=SPORT, dport=53, len=9)), "udp_bad_length")
        drop(f"drop {v}: source port 0", to_vip(l4("udp", 0, 53)), "port_zero")
        drop(f"drop {v}: destination port 0", to_vip(l4("tcp", SPORT, 0)), "port_zero")
        drop(f"drop {v}: TCP header cut off", to_vip(Raw(bytes(TCP(sport=1, dport=80))[:19]),
                                                   **({"proto": 6} if family == 4 else {"nh": 6})), "truncated_l4")
        drop(f"drop {v}: other protocol to a VIP", to_vip(Raw(bytes(40)), **({"proto": 47} if family == 4 else {"nh": 47})),
             "vip_protocol")
        drop(f"drop {v}: source is the destination", arriving(network(family, VIP[family], VIP[family]) / l4("tcp", 1, 80)),
             "ip_bad_address")
        drop(f"drop {v}: source is multicast", arriving(
            network(family, {4: "224.0.0.5", 6: "ff02::5"}[family], VIP[family]) / l4("tcp", 1, 80)), "ip_bad_address")
        drop(f"host {v}: not for a VIP", arriving(network(family, CLIENT[family], OTHER[family]) / l4("tcp", 1, 80)), "host")
        drop(f"host {v}: a backend's other port", arriving(
            network(family, BACKEND[family, "tcp"][0], CLIENT[family]) / l4("tcp", 22, SPORT), 1), "host", port=1)
        drop(f"drop {v}: two tags", Ether(src=PEER[0], dst=LB[0]) / Dot1Q(vlan=1) / Dot1Q(vlan=2) /
             network(family, CLIENT[family], VIP[family]) / l4("tcp", 1, 80), "vlan_stacked")

    drop("drop ipv4: header checksum", arriving(IP(src=CLIENT[4], dst=VIP[4], chksum=1) / l4("tcp", 1, 80)), "ip_bad_checksum")
    drop("drop ipv4: source route", arriving(IP(src=CLIENT[4], dst=VIP[4], options=[IPOption(b"\x83\x07\x04\1\2\3\4")]) /
                                             l4("tcp", 1, 80)), "ip_bad_options")
    drop("drop ipv4: length beyond the frame", arriving(IP(src=CLIENT[4], dst=VIP[4], len=100) / l4("tcp", 1, 80)),
         "ip_bad_length")
    drop("drop ipv6: routing header with segments left", arriving(
        IPv6(src=CLIENT[6], dst=VIP[6]) / IPv6ExtHdrRouting(addresses=["2001:db8::1"], segleft=1) / l4("tcp", 1, 80)),
         "ip6_routing")
    many = IPv6(src=CLIENT[6], dst=VIP[6])
    for _ in range(9):
        many = many / IPv6ExtHdrDestOpt()
    drop("drop ipv6: nine extension headers", arriving(many / l4("tcp", 1, 80)), "ip6_ext_headers")
    drop("drop ipv4: no backend", arriving(IP(src=CLIENT[4], dst="203.0.113.50") / l4("tcp", 1, 80, flags="S")), "no_backend")
    drop("drop ipv4: no table", arriving(IP(src=CLIENT[4], dst="203.0.113.30") / l4("tcp", 1, 80, flags="S")), "no_table")


# -- ICMP errors that follow the flow that they quote

def icmp_error(family, kind):
    """The header in front of the quoted packet."""
    if family == 4:
        return {"unreachable": ICMP(type=3, code=1), "port": ICMP(type=3, code=3),
                "too_big": ICMP(type=3, code=4, nexthopmtu=1280), "time": ICMP(type=11, code=0),
                "parameter": ICMP(type=12, code=0, ptr=9)}[kind]
    return {"unreachable": ICMPv6DestUnreach(code=3), "port": ICMPv6DestUnreach(code=4),
            "too_big": ICMPv6PacketTooBig(mtu=1280), "time": ICMPv6TimeExceeded(code=0),
            "parameter": ICMPv6ParamProblem(code=0, ptr=6)}[kind]


KINDS = ("unreachable", "port", "too_big", "time", "parameter")
HEADERS = {4: 20, 6: 40}


def quoted(family, src, dst, sport, dport, proto, n_l4, ttl=50, n_data=600, tail=b"", **fields):
    """A packet as far as an error quotes it: n_l4 bytes behind the IP header. @return Raw."""
    packet = bytes(network(family, src, dst, ttl, **fields) / l4(proto, sport, dport, data(n_data)))
    header = (packet[0] & 15) * 4 if family == 4 else 40
    return Raw(packet[:header + n_l4] + tail)


def icmp_to_backend(name, family, proto, kind, n_l4, src=None, vlan=None, **quote):
    address, port = BACKEND[family, proto]
    src = src or ROUTER[family]
    frame = network(family, src, VIP[family]) / icmp_error(family, kind) / quoted(
        family, VIP[family], CLIENT[family], PORT[proto], SPORT, proto, n_l4, **quote)
    wanted = network(family, src, address, 63) / icmp_error(family, kind) / quoted(
        family, address, CLIENT[family], port, SPORT, proto, n_l4, **quote)
    case(name, step(arriving(frame, 0, vlan), "forward", [(1, leaving(wanted, 1, vlan))]))


def icmp_to_client(name, family, proto, kind, n_l4, src=None, **quote):
    address, port = BACKEND[family, proto]
    frame = network(family, src or address, CLIENT[family]) / icmp_error(family, kind) / quoted(
        family, CLIENT[family], address, SPORT, port, proto, n_l4, **quote)
    wanted = network(family, VIP[family], CLIENT[family], 63) / icmp_error(family, kind) / quoted(
        family, CLIENT[family], VIP[family], SPORT, PORT[proto], proto, n_l4, **quote)
    case(name, step(arriving(frame, 1), "reply", [(0, leaving(wanted, 0))], port=1))


def icmp_cases():
    for family in (4, 6):
        for proto in ("tcp", "udp"):
            v = f"ipv{family} {proto}"
            for kind in KINDS:
                icmp_to_backend(f"icmp {v}: {kind} of a router, 8 bytes quoted", family, proto, kind, 8)
                icmp_to_client(f"icmp {v}: {kind} of the backend, 8 bytes quoted", family, proto, kind, 8)
            for n in (9, 16, 18, 19, 20, 60, 501):  # (half a checksum, with 17, is left as it was)
                icmp_to_backend(f"icmp {v}: too_big, {n} bytes quoted", family, proto, "too_big", n)
                icmp_to_client(f"icmp {v}: port of the backend, {n} bytes quoted", family, proto, "port", n)
            icmp_to_backend(f"icmp {v}: error of the client itself", family, proto, "port", 28, src=CLIENT[family])
            icmp_to_backend(f"icmp {v}: quoted without its time to live", family, proto, "time", 8, ttl=0)
            icmp_to_backend(f"icmp {v}: tagged", family, proto, "too_big", 8, vlan=9)
            icmp_to_backend(f"icmp {v}: extension behind the quote (RFC 4884)", family, proto, "time", 80,
                            tail=bytes.fromhex("2000dead00080101fffff140"))
            icmp_to_client(f"icmp {v}: error of a router behind us", family, proto, "too_big", 8, src="10.9.9.9"
                           if family == 4 else "fd00:9::9")
        icmp_to_backend(f"icmp ipv{family} tcp: a short segment quoted whole", family, "tcp", "time", 20, n_data=0)

        def bad(name, verdict, upper, src=None, dst=None, **fields):
            drop(f"icmp ipv{family}: {name}", arriving(network(family, src or ROUTER[family], dst or VIP[family], **fields) /
                                                    icmp_error(family, "too_big") / upper), verdict)
        whole = (family, VIP[family], CLIENT[family], 80, SPORT, "tcp")
        bad("nothing quoted", "icmp_malformed", Raw(b""))
        bad("an IP header quoted, no more", "icmp_malformed", quoted(*whole, 0))
        bad("7 bytes quoted", "icmp_malformed", quoted(*whole, 7))
        bad("a packet of another sender quoted", "icmp_malformed",
            quoted(family, OTHER[family], CLIENT[family], 80, SPORT, "tcp", 8))
        bad("an echo reply quoted", "icmp_malformed", network(family, VIP[family], CLIENT[family]) / (
            ICMP(type=0) if family == 4 else ICMPv6EchoReply()) / data(8))
        bad("a port of no service quoted", "icmp_no_flow", quoted(family, VIP[family], CLIENT[family], 81, SPORT, "tcp", 8))
        bad("the other family quoted", "icmp_malformed", quoted(10 - family, VIP[10 - family], CLIENT[10 - family], 80,
                                                               SPORT, "tcp", 40))
        bad("hop limit 1", "ttl_expired", quoted(*whole, 8), ttl=1)
        bad("a service without a backend quoted", "no_backend",
            quoted(family, EMPTY[family], CLIENT[family], 80, SPORT, "tcp", 8), dst=EMPTY[family])
        # The other side's: left to the kernel unless it is about a backend.
        drop(f"icmp ipv{family}: error to a host that quotes no backend", arriving(
            network(family, ROUTER[family], CLIENT[family]) / icmp_error(family, "time") /
            quoted(family, CLIENT[family], OTHER[family], SPORT, 80, "tcp", 8), 1), "host", port=1)
        drop(f"icmp ipv{family}: error to another host than it quotes", arriving(
            network(family, ROUTER[family], OTHER[family]) / icmp_error(family, "time") /
            quoted(family, CLIENT[family], BACKEND[family, "tcp"][0], SPORT, 8080, "tcp", 8), 1), "host", port=1)

    icmp_to_backend("icmp ipv4 tcp: quoted with IP options", 4, "tcp", "time", 8,
                    options=[IPOption(b"\x94\x04\0\0")])
    later = IP(src=VIP[4], dst=CLIENT[4], frag=10) / Raw(data(40))
    drop("icmp ipv4: a later fragment quoted", arriving(
        IP(src=ROUTER[4], dst=VIP[4]) / ICMP(type=11, code=1) / later), "icmp_malformed")

    # UDP without a checksum: quoted, it stays without one.
    def about_udp(src, dst, sport, dport, outer_dst, ttl):
        inner = IP(src=src, dst=dst, ttl=9) / UDP(sport=sport, dport=dport, chksum=0) / data(20)
        return IP(src=ROUTER[4], dst=outer_dst, ttl=ttl) / ICMP(type=3, code=4, nexthopmtu=1280) / inner
    case("icmp ipv4 udp: quoted without a checksum", step(
        arriving(about_udp(VIP[4], CLIENT[4], 53, SPORT, VIP[4], 64)), "forward",
        [(1, leaving(about_udp("10.0.0.12", CLIENT[4], 5353, SPORT, "10.0.0.12", 63), 1))]))

    # A flow that has an entry: its ICMP errors go where the entry says, whatever happened to the slot since.
    for family in (4, 6):
        frame = network(family, CLIENT[family], VIP[family]) / l4("tcp", SPORT, 80, flags="S")
        wanted = network(family, CLIENT[family], BACKEND[family, "tcp"][0], 63) / l4("tcp", SPORT, 8080, flags="S")
        error = network(family, ROUTER[family], VIP[family]) / icmp_error(family, "too_big") / quoted(
            family, VIP[family], CLIENT[family], 80, SPORT, "tcp", 8)
        right = network(family, ROUTER[family], BACKEND[family, "tcp"][0], 63) / icmp_error(family, "too_big") / quoted(
            family, BACKEND[family, "tcp"][0], CLIENT[family], 8080, SPORT, "tcp", 8)
        case(f"icmp ipv{family} tcp: after the SYN of its flow",
             step(arriving(frame), "forward", [(1, leaving(wanted, 1))]),
             step(arriving(error), "forward", [(1, leaving(right, 1))]))


# -- what the balancer sends itself

def echo(family, reply, payload, **fields):
    if family == 4:
        return ICMP(type=0 if reply else 8, id=77, seq=3, **fields) / payload
    return (ICMPv6EchoReply if reply else ICMPv6EchoRequest)(id=77, seq=3, data=payload, **fields)


def echo_cases():
    for family in (4, 6):
        for n in (0, 1, 56, 1400):
            for vlan in (None, 12):
                case(f"echo ipv{family}: {n} bytes{', tagged' if vlan else ''}", step(
                    arriving(network(family, CLIENT[family], VIP[family], 3) / echo(family, False, data(n)), 0, vlan),
                    "echo", [(0, leaving(network(family, VIP[family], CLIENT[family]) / echo(family, True, data(n)), 0, vlan))]))
        case(f"echo ipv{family}: to the VIP of a service without backends", step(
            arriving(network(family, CLIENT[family], EMPTY[family]) / echo(family, False, b"x")), "echo",
            [(0, leaving(network(family, EMPTY[family], CLIENT[family]) / echo(family, True, b"x"), 0))]))
        case(f"echo ipv{family}: hop limit 1 suffices", step(
            arriving(network(family, CLIENT[family], VIP[family], 1) / echo(family, False, b"x")), "echo",
            [(0, leaving(network(family, VIP[family], CLIENT[family]) / echo(family, True, b"x"), 0))]))
        drop(f"echo ipv{family}: to a host", arriving(
            network(family, CLIENT[family], OTHER[family]) / echo(family, False, b"x")), "host")
        drop(f"echo ipv{family}: a reply to a VIP", arriving(
            network(family, CLIENT[family], VIP[family]) / echo(family, True, b"x")), "vip_protocol")
        drop(f"echo ipv{family}: cut off", arriving(network(
            family, CLIENT[family], VIP[family], **({"proto": 1} if family == 4 else {"nh": 58})) /
            Raw(bytes(echo(family, False, b""))[:7])), "truncated_l4")
    # A wrong checksum stays as wrong: 8 << 8 less in the sum.
    wrong = IP(src=CLIENT[4], dst=VIP[4]) / echo(4, False, b"x", chksum=0x1234)
    case("echo ipv4: a wrong checksum stays wrong", step(arriving(wrong), "echo", [
        (0, leaving(IP(src=VIP[4], dst=CLIENT[4]) / echo(4, True, b"x", chksum=0x1234 + 0x0800), 0))]))
    drop("echo ipv6: neighbour solicitation to a VIP", arriving(
        IPv6(src=CLIENT[6], dst=VIP[6]) / ICMPv6ND_NS(tgt=VIP[6])), "vip_protocol")


def own(family, src, dst, **fields):
    """The IP header of what the balancer makes itself."""
    if family == 4:
        return IP(src=src, dst=dst, ttl=64, id=0, flags="DF", **fields)
    return IPv6(src=src, dst=dst, hlim=64, **({"tc": fields["tos"]} if "tos" in fields else {}))


def error_about(family, vip, packet, header):
    """An error of ours about a packet: as much of it as fits into 576 bytes, or into 1280."""
    n = {4: 576 - 28, 6: 1280 - 48}[family]
    return own(family, vip, CLIENT[family], tos=0xc0) / header / Raw(bytes(packet)[:n])


def reset_cases():
    for family in (4, 6):
        v = f"ipv{family}"

        def tcp(n=0, **fields):
            return network(family, CLIENT[family], EMPTY[family]) / l4("tcp", SPORT, 80, data(n), **fields)

        def reset(**fields):
            answer = {"seq": 0, "ack": 0, "window": 0, **fields}
            return own(family, EMPTY[family], CLIENT[family]) / TCP(sport=80, dport=SPORT, **answer)

        def refused(name, frame, answer, vlan=None):
            case(f"reset {v}: {name}", step(arriving(frame, 0, vlan), "no_backend", [(0, leaving(answer, 0, vlan))]))

        refused("SYN", tcp(flags="S", ack=0), reset(flags="RA", ack=1001))
        refused("SYN with options", tcp(flags="S", ack=0, options=[("MSS", 1460), ("WScale", 7), ("NOP", None)]),
                reset(flags="RA", ack=1001))
        refused("SYN with data", tcp(5, flags="S", ack=0), reset(flags="RA", ack=1006))
        refused("SYN at the end of the sequence numbers", tcp(flags="S", seq=0xffffffff, ack=0), reset(flags="RA", ack=0))
        refused("FIN without ACK", tcp(7, flags="F", ack=0), reset(flags="RA", ack=1008))
        refused("ACK", tcp(flags="A"), reset(flags="R", seq=2000))
        refused("data", tcp(900, flags="PA"), reset(flags="R", seq=2000))
        refused("FIN and ACK", tcp(flags="FA"), reset(flags="R", seq=2000))
        refused("SYN and ACK", tcp(flags="SA"), reset(flags="R", seq=2000))
        refused("tagged", tcp(flags="S", ack=0), reset(flags="RA", ack=1001), vlan=5)
        drop(f"reset {v}: never to an RST", arriving(tcp(flags="R")), "no_backend")
        drop(f"reset {v}: never to an RST and ACK", arriving(tcp(flags="RA")), "no_backend")

        header = ICMP(type=3, code=3) if family == 4 else ICMPv6DestUnreach(code=4)
        for n in (0, 100, 519, 520, 521, 1183, 1184, 1185, 1400):
            packet = network(family, CLIENT[family], EMPTY[family]) / l4("udp", SPORT, 53, data(n))
            case(f"reset {v}: port unreachable about {n} bytes of UDP", step(
                arriving(packet), "no_backend", [(0, leaving(error_about(family, EMPTY[family], packet, header), 0))]))

        # The connection's backend is down.
        def dead(dst, port, ttl, flags, **fields):
            return network(family, CLIENT[family], dst, ttl) / l4("tcp", SPORT, port, flags=flags, **fields)
        address = {4: "10.0.0.21", 6: "fd00::21"}[family]
        begin = step(arriving(dead(DEAD[family], 80, 64, "S")), "forward", [(1, leaving(dead(address, 8080, 63, "S"), 1))])
        down = {str(DEAD_IDS[address]): "down"}
        answer = own(family, DEAD[family], CLIENT[family]) / TCP(sport=80, dport=SPORT, flags="R", seq=2000, ack=0, window=0)
        case(f"reset {v}: a connection whose backend is down", begin, step(
            arriving(dead(DEAD[family], 80, 64, "PA")), "backend_down", [(0, leaving(answer, 0))], states=down))
        case(f"reset {v}: an RST to a backend that is down", begin, step(
            arriving(dead(DEAD[family], 80, 64, "R")), "backend_down", states=down))
        case(f"reset {v}: not while it drains", begin, step(
            arriving(dead(DEAD[family], 80, 64, "A")), "forward", [(1, leaving(dead(address, 8080, 63, "A"), 1))],
            states={str(DEAD_IDS[address]): "drain"}))

        # Hop limit.
        for proto in ("tcp", "udp"):
            header = ICMP(type=11, code=0) if family == 4 else ICMPv6TimeExceeded(code=0)
            for ttl in (0, 1):
                packet = network(family, CLIENT[family], VIP[family], ttl) / l4(proto, SPORT, PORT[proto], data(12))
                case(f"hop limit {v}: {ttl}, {proto}", step(
                    arriving(packet), "ttl_expired", [(0, leaving(error_about(family, VIP[family], packet, header), 0))]))
        drop(f"hop limit {v}: of a reply", arriving(network(family, BACKEND[family, "tcp"][0], CLIENT[family], 1) /
                                                   l4("tcp", 8080, SPORT), 1), "ttl_expired", port=1)

    frame = IP(src=CLIENT[4], dst="203.0.113.31") / l4("tcp", SPORT, 80, flags="S", ack=0)
    drop("reset ipv4: not while there is no table yet", arriving(frame), "no_table")
    frame = Ether(src=PEER[0], dst="ff:ff:ff:ff:ff:ff") / IP(src=CLIENT[4], dst=EMPTY[4]) / l4("tcp", SPORT, 80, flags="S")
    drop("reset ipv4: never to a broadcast", frame, "no_backend")
    frame = Ether(src=PEER[0], dst=LB[0]) / IP(src=CLIENT[4], dst=EMPTY[4], options=[IPOption(b"\x94\x04\0\0")]) / l4(
        "tcp", SPORT, 80, data(3), flags="S", ack=0)
    answer = own(4, EMPTY[4], CLIENT[4]) / TCP(sport=80, dport=SPORT, flags="RA", seq=0, ack=1004, window=0)
    case("reset ipv4: the answer has no IP options", step(frame, "no_backend", [(0, leaving(answer, 0))]))


# -- fragments

def pieces(family, packet, cuts, ident=0x1234):
    """The packet (no options, no extension headers) as fragments, cut at these offsets of its data."""
    whole = bytes(packet)
    header, rest = whole[:HEADERS[family]], whole[HEADERS[family]:]
    bounds = [0, *cuts, len(rest)]
    out = []
    for start, end in zip(bounds, bounds[1:]):
        more = int(end != len(rest))
        if family == 4:
            ip = IP(header)
            out.append(IP(src=ip.src, dst=ip.dst, ttl=ip.ttl, proto=ip.proto, id=ident, frag=start // 8,
                          flags=more) / Raw(rest[start:end]))
        else:
            ip = IPv6(header)
            out.append(IPv6(src=ip.src, dst=ip.dst, hlim=ip.hlim) / IPv6ExtHdrFragment(
                nh=ip.nh, offset=start // 8, m=more, id=ident) / Raw(rest[start:end]))
    return out


def raw_piece(family, src, dst, proto, offset, more, body, ident=0x1234, ttl=64):
    if family == 4:
        return IP(src=src, dst=dst, ttl=ttl, proto=PROTO.get(proto, proto), id=ident, frag=offset // 8,
                  flags=int(more)) / Raw(body)
    return IPv6(src=src, dst=dst, hlim=ttl) / IPv6ExtHdrFragment(
        nh=PROTO.get(proto, proto), offset=offset // 8, m=int(more), id=ident) / Raw(body)


def fragment_cases():
    for family in (4, 6):
        for proto in ("udp", "tcp"):
            address, port = BACKEND[family, proto]
            v = f"ipv{family} {proto}"

            def both(n, cuts, reply=False, ident=0x1234):
                """[(as it arrives, as it leaves)] of each fragment of a datagram with n bytes."""
                if reply:
                    packet = network(family, address, CLIENT[family]) / l4(proto, port, SPORT, data(n))
                    wanted = network(family, VIP[family], CLIENT[family], 63) / l4(proto, PORT[proto], SPORT, data(n))
                    return [(arriving(a, 1), (0, leaving(b, 0))) for a, b in zip(
                        pieces(family, packet, cuts, ident), pieces(family, wanted, cuts, ident))]
                packet = network(family, CLIENT[family], VIP[family]) / l4(proto, SPORT, PORT[proto], data(n))
                wanted = network(family, CLIENT[family], address, 63) / l4(proto, SPORT, port, data(n))
                return [(arriving(a), (1, leaving(b, 1))) for a, b in zip(
                    pieces(family, packet, cuts, ident), pieces(family, wanted, cuts, ident))]

            for reply in (False, True):
                word, fate = ("reply", "reply") if reply else ("request", "forward")
                side = int(reply)
                parts = both(1000, (200, 600), reply)
                case(f"fragments {v}: {word}, in order", *[step(a, fate, [b], side) for a, b in parts])
                case(f"fragments {v}: {word}, reversed",
                     step(parts[2][0], "held", port=side), step(parts[1][0], "held", port=side),
                     step(parts[0][0], fate, [parts[0][1], parts[2][1], parts[1][1]], side))
                case(f"fragments {v}: {word}, the first in the middle",
                     step(parts[1][0], "held", port=side),
                     step(parts[0][0], fate, [parts[0][1], parts[1][1]], side), step(parts[2][0], fate, [parts[2][1]], side))
                case(f"fragments {v}: {word}, the same id again once all have come",
                     *[step(a, fate, [b], side) for a, b in both(500, (104,), reply) + both(700, (304,), reply)])
            parts = both(8000, (1480, 2960, 4440, 5920, 7400) if family == 4 else (1448, 2896, 4344, 5792, 7240))
            case(f"fragments {v}: 8 000 bytes, in order", *[step(a, "forward", [b]) for a, b in parts])
            case(f"fragments {v}: 8 000 bytes, reversed", *[step(a, "held") for a, _ in parts[:0:-1]],
                 step(parts[0][0], "forward", [parts[0][1]] + [b for _, b in parts[:0:-1]]))
            parts = both(1000, (200, 600))
            case(f"fragments {v}: repeated ones are dropped", step(parts[0][0], "forward", [parts[0][1]]),
                 step(parts[0][0], "fragment_overlap"), step(parts[1][0], "forward", [parts[1][1]]),
                 step(parts[1][0], "fragment_overlap"), step(parts[2][0], "forward", [parts[2][1]]))
            case(f"fragments {v}: an overlap ends the datagram", step(parts[0][0], "forward", [parts[0][1]]),
                 step(arriving(raw_piece(family, CLIENT[family], VIP[family], proto, 192, True, data(64))), "fragment_overlap"),
                 step(parts[1][0], "fragment_overlap"), step(parts[2][0], "fragment_overlap"))
            case(f"fragments {v}: an overlap with one that waits", step(parts[1][0], "held"),
                 step(arriving(raw_piece(family, CLIENT[family], VIP[family], proto, 192, True, data(64))), "fragment_overlap"),
                 step(parts[0][0], "fragment_overlap"))
            case(f"fragments {v}: two ends", step(parts[0][0], "forward", [parts[0][1]]),
                 step(arriving(raw_piece(family, CLIENT[family], VIP[family], proto, 800, False, data(64))), "forward", [
                     (1, leaving(raw_piece(family, CLIENT[family], address, proto, 800, False, data(64), ttl=63), 1))]),
                 step(arriving(raw_piece(family, CLIENT[family], VIP[family], proto, 400, False, data(64))), "fragment_overlap"))
            case(f"fragments {v}: one that waited too long", step(parts[2][0], "held"),
                 {**step(parts[0][0], "forward", [parts[0][1]]), "wait": True})
            many = [arriving(raw_piece(family, CLIENT[family], VIP[family], proto, 80 + 16 * k, True, data(8)))
                    for k in range(9)]
            case(f"fragments {v}: nine holes", *[step(f, "held") for f in many[:8]], step(many[8], "fragment_limit"))
            to_vip = (family, CLIENT[family], VIP[family], proto)
            drop(f"fragments {v}: first without its header", arriving(raw_piece(*to_vip, 0, True, data(16)[:16 if proto ==
                 "tcp" else 8][:16] if proto == "tcp" else b"")), "fragment_tiny" if proto == "tcp" else "fragment_bad")
            drop(f"fragments {v}: length is not a multiple of 8", arriving(raw_piece(*to_vip, 80, True, data(31))),
                 "fragment_bad")
            drop(f"fragments {v}: empty", arriving(raw_piece(*to_vip, 80, False, b"")), "fragment_bad")
            drop(f"fragments {v}: beyond 65535", arriving(raw_piece(*to_vip, 65528, False, data(8))), "fragment_bad")
            drop(f"fragments {v}: hop limit 1", arriving(raw_piece(*to_vip, 80, False, data(8), ttl=1)), "ttl_expired")
            drop(f"fragments {v}: to a port of no service", arriving(pieces(family, network(
                family, CLIENT[family], VIP[family]) / l4(proto, SPORT, 99, data(80)), (48,))[0]), "vip_no_service")
            stray = pieces(family, network(family, CLIENT[family], VIP[family]) / l4(proto, SPORT, 99, data(80)), (48,))
            case(f"fragments {v}: of a datagram to no service", step(arriving(stray[1]), "held"),
                 step(arriving(stray[0]), "vip_no_service"))
            host = pieces(family, network(family, address, CLIENT[family]) / l4(proto, 22, SPORT, data(80)), (48,))
            case(f"fragments {v}: of a backend's own traffic", *[step(arriving(f, 1), "host", port=1) for f in host])
        drop(f"fragments ipv{family}: second over the TCP flags", arriving(
            raw_piece(family, CLIENT[family], VIP[family], "tcp", 8, True, data(32))), "fragment_tiny")
        drop(f"fragments ipv{family}: of an echo request", arriving(raw_piece(
            family, CLIENT[family], VIP[family], 1 if family == 4 else 58, 0, True, data(32))), "vip_protocol")
        drop(f"fragments ipv{family}: not for us", arriving(raw_piece(
            family, CLIENT[family], OTHER[family], "udp", 0, True, data(32))), "host")

    def atomic(src, dst, sport, dport, ttl):
        return network(6, src, dst, ttl) / IPv6ExtHdrFragment(id=5) / l4("tcp", sport, dport, data(9))
    forwarded("fragments ipv6 tcp: an atomic one is a whole packet", atomic, 6, "tcp")

    def options_first(src, dst, sport, dport, ttl):
        return (network(6, src, dst, ttl) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=6, m=1) /
                IPv6ExtHdrDestOpt() / l4("udp", sport, dport, data(48)))
    frame = options_first(CLIENT[6], VIP[6], SPORT, 53, 64)
    wanted = options_first(CLIENT[6], "fd00::12", SPORT, 5353, 63)
    case("fragments ipv6 udp: extension headers around the fragment header",
         step(arriving(frame), "forward", [(1, leaving(wanted, 1))]))
    drop("fragments ipv6: two fragment headers", arriving(IPv6(src=CLIENT[6], dst=VIP[6]) / IPv6ExtHdrFragment(id=6, m=1) /
         IPv6ExtHdrFragment(id=7, m=1) / l4("udp", SPORT, 53, data(48))), "ip6_ext_headers")


# -- dsr, ipip and gue

def wrapped(mode, outer, backend, inner, tos=0):
    """What is sent for a packet, its hop limit less one: (port, frame, bytes that hold the flow's hash)."""
    if mode == "dsr":
        return 1, leaving(inner, 1), []
    proto = 4 if IP in inner and inner.version == 4 else 41
    masks, at = [], 14 + HEADERS[outer]
    if outer == 6:
        masks.append([16, 2])  # of the flow label
    upper = inner
    if mode == "gue":
        masks.append([at, 2])
        if outer == 6:
            masks.append([at + 6, 2])
        upper = UDP(sport=50000, dport=GUE_PORT, **({"chksum": 0} if outer == 4 else {})) / Raw(bytes([0, proto, 0, 0])) / inner
        proto = 17
    if outer == 4:
        ip = IP(src=LOCAL[4], dst=backend, ttl=64, id=0, flags="DF", tos=tos, proto=proto)
    else:
        ip = IPv6(src=LOCAL[6], dst=backend, hlim=64, tc=tos, nh=proto)
        masks.append([15, 1])  # its first 4 bits, and 4 of the traffic class
    return 1, leaving(ip / upper, 1), masks


def direct_cases():
    for (mode, inner, outer), (vip, backend) in DIRECT.items():
        v = f"{mode} {inner}in{outer}" if mode != "dsr" else f"dsr ipv{inner}"

        def sent(name, build, verdict="forward"):
            """build(ttl): the packet."""
            case(f"{v}: {name}", step(arriving(build(64)), verdict, [wrapped(mode, outer, backend, build(63))]), setup="direct")

        for proto in ("tcp", "udp"):
            for n in (0, 7, 1200):
                sent(f"{proto} with {n} bytes", lambda ttl: network(inner, CLIENT[inner], vip, ttl) /
                     l4(proto, SPORT, PORT[proto], data(n)))
            packet = network(inner, CLIENT[inner], vip) / l4(proto, SPORT, PORT[proto], data(1000))
            wanted = network(inner, CLIENT[inner], vip, 63) / l4(proto, SPORT, PORT[proto], data(1000))
            parts = [(arriving(a), wrapped(mode, outer, backend, b)) for a, b in zip(
                pieces(inner, packet, (200, 600)), pieces(inner, wanted, (200, 600)))]
            case(f"{v}: {proto} in fragments, in order", *[step(a, "forward", [b]) for a, b in parts], setup="direct")
            case(f"{v}: {proto} in fragments, reversed", step(parts[2][0], "held"), step(parts[1][0], "held"),
                 step(parts[0][0], "forward", [parts[0][1], parts[2][1], parts[1][1]]), setup="direct")
            for kind in ("too_big", "port"):  # what the backend sent had the VIP as its source: quoted as it was
                sent(f"icmp {kind} about {proto}", lambda ttl: network(inner, ROUTER[inner], vip, ttl) /
                     icmp_error(inner, kind) / quoted(inner, vip, CLIENT[inner], PORT[proto], SPORT, proto, 8))
        case(f"{v}: echo", step(arriving(network(inner, CLIENT[inner], vip) / echo(inner, False, b"x")), "echo", [
            (0, leaving(network(inner, vip, CLIENT[inner]) / echo(inner, True, b"x"), 0))]), setup="direct")
        room = 1500 - (0 if mode == "dsr" else HEADERS[outer] + (12 if mode == "gue" else 0))
        if mode == "dsr":
            continue  # the ports have the same MTU
        n = room - HEADERS[inner] - 20
        flags = {"flags": "DF"} if inner == 4 else {}
        sent("the largest that fits", lambda ttl: network(inner, CLIENT[inner], vip, ttl, **flags) /
             l4("tcp", SPORT, 80, data(n)))
        packet = network(inner, CLIENT[inner], vip, **flags) / l4("tcp", SPORT, 80, data(n + 1))
        header = ICMP(type=3, code=4, nexthopmtu=room) if inner == 4 else ICMPv6PacketTooBig(mtu=room)
        case(f"{v}: one byte too big", step(arriving(packet), "too_big", [
            (0, leaving(error_about(inner, vip, packet, header), 0))]), setup="direct")
        if inner == 4:
            case(f"{v}: too big without DF", step(arriving(network(4, CLIENT[4], vip) / l4("tcp", SPORT, 80, data(n + 1))),
                                                 "too_big"), setup="direct")
        about = network(inner, ROUTER[inner], vip, **flags) / icmp_error(inner, "time") / quoted(
            inner, vip, CLIENT[inner], 80, SPORT, "tcp", 1400, n_data=1400)
        about = about / Raw(data(room + 1 - len(bytes(about)))) if len(bytes(about)) <= room else about
        case(f"{v}: nothing is said about an ICMP error", step(arriving(about), "too_big"), setup="direct")


# -- fullnat

# What test_vectors.c sees to: ports to each backend, and numbers of packets that become IPv4, begin here.
LOCAL_PORT, IPV4_ID = 30000, 0x4242
SERVER_ISN = 0x7ffffff0
CLIENT_ADDRESS = {"none": 0, "toa": 1, "proxy_v2": 2}
MIXES = [(client, server) for client in (4, 6) for server in (4, 6)]
# (client_address, family of the client, of the backend, protocol): (VIP, its port, backend, its port)
FULLNAT = {(what, client, server, proto): (
    {4: f"203.0.113.{170 + n}", 6: f"2001:db8::f:{n + 1:x}"}[client], PORT[proto],
    {4: f"10.8.{n}.1", 6: f"fd00:8::{n + 1:x}"}[server], {"tcp": 8080, "udp": 5353}[proto])
    for n, (what, client, server, proto) in enumerate(
        (what, client, server, proto) for what in CLIENT_ADDRESS for client, server in MIXES for proto in ("tcp", "udp")
        if (what, proto) != ("toa", "udp"))}


def setup_fullnat():
    services, backends = [], []
    for (what, _, _, proto), (vip, port, backend, backend_port) in FULLNAT.items():
        services.append({"id": len(services), "vip": vip, "port": port, "proto": PROTO[proto], "mode": "fullnat",
                         "on_empty": "drop", "client_address": CLIENT_ADDRESS[what], "slot": len(backends)})
        backends.append({"id": len(backends), "service": len(backends), "address": backend, "port": backend_port})
    return {"services": services, "backends": backends, "locals": list(LOCAL.values())}


SETUPS["fullnat"] = setup_fullnat()
SYN_OPTIONS = bytes.fromhex("020403e8 0402 080a0102030400000000 01030307".replace(" ", ""))  # MSS 1000
TIMES = bytes.fromhex("0101080a1112131415161718")
FORGED = bytes.fromhex("fe0800500a000001")  # a TOA option of the client's


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def segment(sport, dport, seq, ack, flags, options=b"", payload=b""):
    return TCP(sport=sport, dport=dport, seq=seq & 0xffffffff, ack=ack & 0xffffffff, flags=flags, window=0x1234,
               dataofs=5 + len(options) // 4) / Raw(options + payload)


class Flow:
    """A connection, or a datagram flow, as the client and as the backend see it: steps of a case."""

    def __init__(self, what, client, server, proto="tcp", isn=0xfffffff0, sport=SPORT, local_port=LOCAL_PORT):
        self.what, self.client, self.server, self.proto, self.isn, self.sport = what, client, server, proto, isn, sport
        self.vip, self.port, self.backend, self.backend_port = FULLNAT[what, client, server, proto]
        self.local_port, self.n_translated = local_port, 0
        kind = {"tcp": 1, "udp": 2}[proto] | {4: 0x10, 6: 0x20}[client]
        addresses = packed(CLIENT[client]) + packed(self.vip) + struct.pack("!HH", sport, self.port)
        self.header = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, kind, len(addresses)) + addresses
        option = struct.pack("!H", sport) + packed(CLIENT[client])
        self.toa = bytes([254, 2 + len(option)]) + option

    def header_of(self, family_in, family, src, dst, n_l4, ttl=63, tos=0, **kept):
        """The IP header in which a packet leaves; @kept within a family."""
        if family_in == family:
            return network(family, src, dst, ttl, **({"tos": tos} if family == 4 else {"tc": tos}), **kept)
        if family == 6:
            return IPv6(src=src, dst=dst, hlim=ttl, tc=tos)
        if 20 + n_l4 > 1260:  # RFC 7915, section 5.1
            return IP(src=src, dst=dst, ttl=ttl, tos=tos, id=0, flags="DF")
        self.n_translated += 1
        return IP(src=src, dst=dst, ttl=ttl, tos=tos, id=IPV4_ID + self.n_translated - 1)

    def up(self, l4_in, l4_out, tos=0, vlan=None, ttl=64, extension=None, split=None, **kept):
        """A packet of the client's, and what the backend gets; None: dropped."""
        header = network(self.client, CLIENT[self.client], self.vip, ttl, **({"tos": tos} if self.client == 4 else
                                                                          {"tc": tos}), **kept)
        frame = arriving((header / extension if extension else header) / l4_in, 0, vlan)
        wanted = self.header_of(self.client, self.server, LOCAL[self.server], self.backend, len(bytes(IP() / l4_out)) - 20, ttl - 1, tos,
                                **(kept if self.client == self.server else {}))
        if extension and self.client == self.server:
            wanted = wanted / extension
        made = step(frame, "forward", [(1, leaving(wanted / l4_out, 1, vlan))])
        return {**made, **({"split": split} if split else {})}

    def down(self, l4_in, l4_out, tos=0, vlan=None):
        header = network(self.server, self.backend, LOCAL[self.server], 64, **({"tos": tos} if self.server == 4 else
                                                                            {"tc": tos}))
        wanted = self.header_of(self.server, self.client, self.vip, CLIENT[self.client], len(bytes(IP() / l4_out)) - 20, 63, tos)
        return step(arriving(header / l4_in, 1, vlan), "reply", [(0, leaving(wanted / l4_out, 0, vlan))], port=1)

    # TCP; @rel and @ack count from the initial sequence numbers of client and server.

    def send(self, rel, flags="A", ack=1, options=b"", payload=b"", shift=0, prefix=b"", added=b"", left=None, **more):
        """@left: the options that are left of it; @added: in front of them; @prefix: in front of the data."""
        l4_in = segment(self.sport, self.port, self.isn + rel, SERVER_ISN + ack if "A" in flags else 0, flags, options,
                        payload)
        l4_out = segment(self.local_port, self.backend_port, self.isn + rel + shift,
                         SERVER_ISN + ack if "A" in flags else 0, flags, added + (options if left is None else left),
                         prefix + payload)
        return self.up(l4_in, l4_out, **more)

    def answer(self, rel, ack, flags="A", told=None, options=b"", left=None, payload=b"", **more):
        """@ack: as the backend counts; @told: what the client is told."""
        l4_in = segment(self.backend_port, self.local_port, SERVER_ISN + rel, self.isn + ack, flags, options, payload)
        l4_out = segment(self.port, self.sport, SERVER_ISN + rel, self.isn + (ack if told is None else told), flags,
                         options if left is None else left, payload)
        return self.down(l4_in, l4_out, **more)

    def shake(self, with_header=True):
        """SYN, SYN and ACK, ACK: the last has the header where there is one."""
        added = self.toa if self.what == "toa" else b""
        lowered = {"none": 1000, "toa": 1000 - len(self.toa), "proxy_v2": 1000 - len(self.header)}[self.what]
        steps = [self.send(0, "S", options=SYN_OPTIONS, added=added, tos=0xb8),
                 self.answer(0, 1, "SA", options=SYN_OPTIONS, left=SYN_OPTIONS[:2] + struct.pack("!H", lowered) +
                             SYN_OPTIONS[4:], tos=0x02)]
        if with_header:
            steps.append(self.send(1, options=TIMES, added=added,
                                   prefix=self.header if self.what == "proxy_v2" else b""))
        return steps

    def udp(self, payload, prefix=b"", no_checksum=False, **more):
        zero = {"chksum": 0} if no_checksum else {}
        kept = zero if self.server == 4 else {}  # IPv6 wants one
        return self.up(UDP(sport=self.sport, dport=self.port, **zero) / Raw(payload),
                       UDP(sport=self.local_port, dport=self.backend_port, **kept) / Raw(prefix + payload), **more)

    def udp_answer(self, payload, **more):
        return self.down(UDP(sport=self.backend_port, dport=self.local_port) / Raw(payload),
                         UDP(sport=self.port, dport=self.sport) / Raw(payload), **more)


def refuse(frame, verdict, port=0):
    return step(frame, verdict, port=port)


def sack(*edges):
    return b"\1\1\5" + bytes([2 + 4 * len(edges)]) + b"".join(struct.pack("!I", e & 0xffffffff) for e in edges)


def fullnat_connections(what, client, server):
    """Whole connections, from SYN to both FINs, with their data."""
    v = f"fullnat {what} {client}->{server}"
    flow = Flow(what, client, server)
    n = len(flow.header) if what == "proxy_v2" else 0
    added = flow.toa if what == "toa" else b""
    case(f"{v}: a whole connection", *flow.shake(),
         flow.send(1, "PA", options=TIMES, payload=data(300), added=added, prefix=flow.header[:n], tos=0xb9),
         flow.answer(1, 301 + n, told=301, tos=0x03),
         flow.answer(1, 301 + n, "PA", told=301, options=TIMES, payload=data(900)),
         flow.send(301, ack=901, options=TIMES, shift=n),
         flow.send(301, "PA", ack=901, payload=data(77), shift=n),
         flow.send(378, "FA", ack=901, shift=n),
         flow.answer(901, 379 + n, "FA", told=379),
         flow.send(379, ack=902, shift=n), setup="fullnat")
    flow = Flow(what, client, server, isn=77)
    case(f"{v}: a reset of the client", *flow.shake(), flow.send(1, "R", ack=0, shift=n, added=added), setup="fullnat")
    flow = Flow(what, client, server, isn=0xfffffffe)
    case(f"{v}: a reset of the backend", *flow.shake(), flow.answer(1, 1 + n, "RA", told=1), setup="fullnat")
    flow, other = Flow(what, client, server), Flow(what, client, server, local_port=LOCAL_PORT + 1)
    case(f"{v}: the client's port once more after a reset", *flow.shake(), flow.send(1, "R", ack=0, shift=n, added=added),
         again(flow, other, added), setup="fullnat")


def again(before, after, added):
    """Numbers of translated packets go on."""
    after.n_translated = before.n_translated
    return after.send(0, "S", options=SYN_OPTIONS, added=added)


def fullnat_refusals():
    for client, server in MIXES:
        v = f"fullnat {client}->{server}"
        flow = Flow("none", client, server)
        for flags in ("A", "SA", "PA", "FA", "R"):
            case(f"{v}: {flags} without a session", refuse(arriving(
                network(client, CLIENT[client], flow.vip) / segment(SPORT, 80, 1, 1, flags)), "no_session"), setup="fullnat")
        stray = network(server, flow.backend, LOCAL[server]) / segment(8080, LOCAL_PORT, 1, 1, "SA")
        case(f"{v}: a reply without a session", refuse(arriving(stray, 1), "no_session", 1), setup="fullnat")
        stray = network(server, flow.backend, LOCAL[server]) / segment(8081, LOCAL_PORT, 1, 1, "SA")
        case(f"{v}: a reply from another port than the backend's", *flow.shake(), refuse(arriving(stray, 1), "no_session", 1),
             setup="fullnat")
        flow = Flow("none", client, server)
        dead = network(server, flow.backend, LOCAL[server], 1) / segment(8080, LOCAL_PORT, 1, 1, "A")
        case(f"{v}: a reply with hop limit 1", *flow.shake(), refuse(arriving(dead, 1), "ttl_expired", 1), setup="fullnat")


def fullnat_headers():
    """What becomes of what is in front of TCP and UDP."""
    for client, server in MIXES:
        v = f"fullnat {client}->{server}"
        flow = Flow("none", client, server, "udp")
        case(f"{v}: 802.1Q tag is kept", flow.udp(b"query", vlan=77), flow.udp_answer(b"answer", vlan=78), setup="fullnat")
        flow = Flow("none", client, server, "udp")
        case(f"{v}: hop limit 2 becomes 1", flow.udp(b"query", ttl=2), setup="fullnat")
        for n in (1231, 1232, 1233):  # of IPv4 1 259, 1 260 and 1 261 bytes
            flow = Flow("none", client, server, "udp")
            case(f"{v}: {n} bytes of UDP", flow.udp(data(n)), flow.udp_answer(data(n)), setup="fullnat")
    flow = Flow("none", 4, 4, "udp")
    case("fullnat 4->4: identification and DF are kept", flow.udp(b"x", id=777, flags="DF"), setup="fullnat")
    flow = Flow("none", 4, 6, "udp")
    case("fullnat 4->6: identification and DF are not", flow.udp(b"x", id=777, flags="DF"), setup="fullnat")
    for server in (4, 6):
        flow = Flow("none", 4, server, "udp")
        case(f"fullnat 4->{server}: IP options", flow.udp(b"x", options=[IPOption(b"\x94\x04\0\0"), IPOption(b"\x01")]),
             setup="fullnat")
        flow = Flow("none", 6, server, "udp")
        case(f"fullnat 6->{server}: extension headers", flow.udp(
            b"x", extension=IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()), setup="fullnat")
        flow = Flow("none", 6, server, "udp")
        case(f"fullnat 6->{server}: flow label", flow.udp(b"x", fl=0x12345), setup="fullnat")


def fullnat_datagrams():
    for what in ("none", "proxy_v2"):
        for client, server in MIXES:
            v = f"fullnat {what} {client}->{server} udp"
            for no_checksum in (False, True) if client == 4 else (False,):
                flow = Flow(what, client, server, "udp")
                header = flow.header if what == "proxy_v2" else b""
                case(f"{v}{', no checksum' if no_checksum else ''}: header in the first datagram only",
                     flow.udp(b"question", header, no_checksum, tos=0xb8), flow.udp_answer(b"answer", tos=0x22),
                     flow.udp(b"again", b"", no_checksum), flow.udp(b"", b"", no_checksum), setup="fullnat")
            flow = Flow(what, client, server, "udp")
            header = flow.header if what == "proxy_v2" else b""
            case(f"{v}: an empty first datagram", flow.udp(b"", header), flow.udp_answer(b""), setup="fullnat")
            for n in (1, 2, 33, 1000):
                flow = Flow(what, client, server, "udp")
                case(f"{v}: first datagram with {n} bytes", flow.udp(data(n), header), setup="fullnat")
            flow = Flow(what, client, server, "udp")
            padded = flow.udp(b"q", header)
            (out_port, out), = padded["out"]
            case(f"{v}: padding stays behind", {**padded, "in": padded["in"] + "00" * 17, "out": [[out_port, out + "00" * 17]]},
                 setup="fullnat")
            flow = Flow(what, client, server, "udp")
            case(f"{v}: in two buffers", flow.udp(data(201), header, split=14 + HEADERS[client] + 8), setup="fullnat")


def fullnat_proxy():
    """The header in front of the first data, and what follows from it for sequence numbers."""
    for client, server in MIXES:
        v = f"fullnat proxy_v2 {client}->{server}"

        def new(isn=0xfffffff0):
            return Flow("proxy_v2", client, server, isn=isn)
        n = len(new().header)
        head = new().header
        flow = new()
        case(f"{v}: the first data again, until the header is acknowledged", *flow.shake(),
             flow.send(1, "PA", payload=data(100), prefix=head), flow.send(1, "PA", payload=data(100), prefix=head),
             flow.answer(1, 1 + n - 1, told=1),  # not all of the header: the client is told nothing of it
             flow.send(1, "PA", payload=data(100), prefix=head), flow.answer(1, 1 + n, told=1),
             flow.send(1, "PA", payload=data(100), shift=n), flow.answer(1, 101 + n, told=101),
             flow.send(1, "PA", payload=data(100), shift=n), setup="fullnat")
        flow = new()
        case(f"{v}: data before the handshake's ACK", *flow.shake(False), flow.send(1, "PA", payload=data(50), prefix=head),
             flow.send(51, "PA", payload=data(60), shift=n), flow.answer(1, 111 + n, told=111), setup="fullnat")
        flow = new()
        case(f"{v}: later data before the first", *flow.shake(False), flow.send(501, "PA", payload=data(60), shift=n),
             flow.answer(1, 1, told=1, options=sack(flow.isn + 501 + n, flow.isn + 561 + n),
                         left=sack(flow.isn + 501, flow.isn + 561)),
             flow.send(1, "PA", payload=data(500), prefix=head), flow.answer(1, 561 + n, told=561), setup="fullnat")
        flow = new()
        edges = [flow.isn + k for k in (1001, 1101, 1201, 1301, 1401, 1501)]
        case(f"{v}: SACK blocks", *flow.shake(), flow.answer(1, 1 + n, told=1, options=sack(*[e + n for e in edges]),
                                                            left=sack(*edges)),
             flow.answer(1, 1 + n, told=1, options=b"\1" + sack(*[e + n for e in edges[:2]])[1:] + TIMES[2:] + b"\1\1",
                         left=b"\1" + sack(*edges[:2])[1:] + TIMES[2:] + b"\1\1"), setup="fullnat")
        flow = new()
        case(f"{v}: a server that speaks first", *flow.shake(), flow.answer(1, 1 + n, "PA", told=1, payload=data(40)),
             flow.send(1, ack=41, shift=n), flow.send(1, "PA", ack=41, payload=data(9), shift=n),
             flow.answer(41, 10 + n, told=10), setup="fullnat")
        flow = new()
        case(f"{v}: FIN without data", *flow.shake(False), flow.send(1, "FA", prefix=head),
             flow.answer(1, 2 + n, "FA", told=2), flow.send(2, ack=2, shift=n), setup="fullnat")
        flow = new()
        case(f"{v}: a reset before the header", *flow.shake(False), flow.send(1, "R", ack=0), setup="fullnat")
        flow = new(isn=0xffffffff - n // 2)
        case(f"{v}: sequence numbers that wrap within the header", *flow.shake(),
             flow.send(1, "PA", payload=data(64), prefix=head), flow.answer(1, 1 + n // 2, told=1),
             flow.answer(1, 65 + n, told=65), flow.send(65, "PA", payload=data(64), shift=n), setup="fullnat")
        flow = new()
        case(f"{v}: a jump of half the sequence numbers", *flow.shake(), flow.answer(1, 1 + n, told=1),
             flow.send(1 + 0x80000000, "PA", payload=data(3), shift=n), flow.send(0x7fffffff, shift=n),
             flow.answer(1, n + 1 + 0x80000000, told=1 + 0x80000000), setup="fullnat")
        flow = new()
        syn_in = segment(SPORT, 80, flow.isn, 0, "S", SYN_OPTIONS, data(101))
        syn_out = segment(LOCAL_PORT, 8080, flow.isn, 0, "S", SYN_OPTIONS)
        case(f"{v}: data in a SYN is cut off", flow.up(syn_in, syn_out), setup="fullnat")
        flow = new()
        case(f"{v}: data in two buffers", *flow.shake(), flow.send(
            1, "PA", payload=data(333), prefix=head, split=14 + HEADERS[client] + 20 + 100), setup="fullnat")
        flow = new()
        case(f"{v}: a late SYN leaves the connection alone", *flow.shake(), flow.answer(1, 1 + n, told=1),
             flow.send(1, "PA", payload=data(5), shift=n), flow.send(4242, "S", options=SYN_OPTIONS),
             flow.send(6, "PA", payload=data(5), shift=n), setup="fullnat")


def fullnat_options():
    """TOA options that come, and that do not fit; options that are none."""
    for what in ("none", "toa", "proxy_v2"):
        for client, server in MIXES:
            v = f"fullnat {what} {client}->{server}"

            def syn(name, options, left=None, room=True):
                flow = Flow(what, client, server)
                case(f"{v}: {name}", flow.send(0, "S", options=options, left=left,
                                               added=flow.toa if what == "toa" and room else b""), setup="fullnat")
            syn("a forged TOA option", FORGED, b"\1" * 8)
            syn("a forged TOA option of IPv6", b"\xfe\x14" + data(18), b"\1" * 20)
            syn("two forged TOA options between others", b"\2\4\3\xe8" + FORGED[:4] + data(4) + b"\1\1\4\2",
                b"\2\4\3\xe8" + b"\1" * 8 + b"\1\1\4\2")
            syn("a forged TOA option of odd length", b"\xfe\3\7\1", b"\1" * 4)
            syn("a TOA option behind the end of options is data", b"\0" + FORGED + b"\0\0\0")
            syn("a TOA option behind a malformed one", b"\x22\1" + FORGED + b"\0\0")
            syn("a TOA option beyond the header", b"\xfe\x09" + data(6))
            syn("a TOA option of length 0", b"\xfe\0" + data(6))
            syn("a last byte that has no length", b"\1\1\1\xfe")
            syn("all 40 bytes of options", b"\1" * 40, room=False)
            syn("all 40 bytes of forged TOA options", FORGED * 5, b"\1" * 40, room=False)
    for client, server in MIXES:
        flow = Flow("toa", client, server)
        room = 40 - len(flow.toa)
        for n in (room, room + 4):
            flow = Flow("toa", client, server)
            case(f"fullnat toa {client}->{server}: {n} bytes of options", flow.send(
                0, "S", options=b"\1" * n, added=flow.toa if n == room else b""), setup="fullnat")
        flow = Flow("toa", client, server)
        case(f"fullnat toa {client}->{server}: until the backend's first segment", *flow.shake(),
             flow.send(1, "PA", payload=data(3), added=flow.toa), flow.answer(0, 1, "SA"),
             flow.send(1, "PA", payload=data(3), added=flow.toa), flow.answer(1, 4),
             flow.send(4, "PA", payload=data(3)), flow.send(1, "PA", payload=data(3)), setup="fullnat")
        flow = Flow("toa", client, server)
        case(f"fullnat toa {client}->{server}: in two buffers", flow.send(
            0, "S", options=TIMES, payload=data(50), added=flow.toa, split=14 + HEADERS[client] + 32), setup="fullnat")
        flow = Flow("toa", client, server)
        bad = network(client, CLIENT[client], flow.vip) / TCP(sport=SPORT, dport=80, flags="A", dataofs=15)
        case(f"fullnat toa {client}->{server}: data offset beyond the end", *flow.shake(),
             refuse(arriving(bad), "tcp_bad_header"), setup="fullnat")


def fullnat_cases():
    for what in CLIENT_ADDRESS:
        for client, server in MIXES:
            fullnat_connections(what, client, server)
    for make in (fullnat_refusals, fullnat_headers, fullnat_datagrams, fullnat_proxy, fullnat_options):
        make()


# -- fullnat: ICMP errors, fragments, answers

# (family of the VIP, of the backend): (VIP, backend)
ODD_MIXES = {(c, b): ({4: f"203.0.113.{170 + b}", 6: f"2001:db8::17{b}"}[c], {4: f"10.8.0.{c}", 6: f"fd00:8::{c}"}[b])
         for c in (4, 6) for b in (4, 6)}
BPORT = {"tcp": 8080, "udp": 5353}
LPORT = LOCAL_PORT


def setup_fullnat_odd():
    services, backends = [], []
    for vip, backend in ODD_MIXES.values():
        for proto in ("tcp", "udp"):
            services.append({"id": len(services), "vip": vip, "port": PORT[proto], "proto": PROTO[proto], "mode": "fullnat",
                             "on_empty": "reset", "slot": len(backends)})
            backends.append({"id": len(backends), "service": len(backends), "address": backend, "port": BPORT[proto]})
    return {"services": services, "backends": backends, "locals": list(LOCAL.values())}


SETUPS["fullnat_odd"] = setup_fullnat_odd()

# ICMPv4 errors and what they become, and back (RFC 7915, figures of 4.2 and 5.2); None: dropped.
TO_IPV6 = {
    **{f"unreachable {code}": (ICMP(type=3, code=code), ICMPv6DestUnreach(code=to)) for code, to in {
        0: 0, 1: 0, 3: 4, 5: 0, 6: 0, 7: 0, 8: 0, 9: 1, 10: 1, 11: 0, 12: 0, 13: 1, 15: 1}.items()},
    "unreachable 2": (ICMP(type=3, code=2), ICMPv6ParamProblem(code=1, ptr=6)),
    "unreachable 14": (ICMP(type=3, code=14), None),
    "unreachable 16": (ICMP(type=3, code=16), None),
    "too big 1300": (ICMP(type=3, code=4, nexthopmtu=1300), ICMPv6PacketTooBig(mtu=1320)),
    "too big 1000": (ICMP(type=3, code=4, nexthopmtu=1000), ICMPv6PacketTooBig(mtu=1280)),
    "too big 0": (ICMP(type=3, code=4, nexthopmtu=0), ICMPv6PacketTooBig(mtu=1280)),
    "time 0": (ICMP(type=11, code=0), ICMPv6TimeExceeded(code=0)),
    "time 1": (ICMP(type=11, code=1), ICMPv6TimeExceeded(code=1)),
    "time 2": (ICMP(type=11, code=2), None),
    **{f"parameter {ptr}": (ICMP(type=12, code=0, ptr=ptr), None if to is None else ICMPv6ParamProblem(code=0, ptr=to))
       for ptr, to in {0: 0, 1: 1, 2: 4, 3: 4, 4: None, 6: None, 8: 7, 9: 6, 10: None, 12: 8, 15: 8, 16: 24, 19: 24,
                       20: None, 255: None}.items()},
    "parameter of code 1": (ICMP(type=12, code=1), None),
    "parameter of code 2": (ICMP(type=12, code=2, ptr=2), ICMPv6ParamProblem(code=0, ptr=4)),
}
TO_IPV4 = {
    **{f"unreachable {code}": (ICMPv6DestUnreach(code=code), ICMP(type=3, code=to)) for code, to in {
        0: 1, 1: 10, 2: 1, 3: 1, 4: 3}.items()},
    "unreachable 5": (ICMPv6DestUnreach(code=5), None),
    "too big 1400": (ICMPv6PacketTooBig(mtu=1400), ICMP(type=3, code=4, nexthopmtu=1380)),
    "too big 60": (ICMPv6PacketTooBig(mtu=60), ICMP(type=3, code=4, nexthopmtu=68)),
    "too big 4294967295": (ICMPv6PacketTooBig(mtu=0xffffffff), ICMP(type=3, code=4, nexthopmtu=65535)),
    "time 0": (ICMPv6TimeExceeded(code=0), ICMP(type=11, code=0)),
    "time 1": (ICMPv6TimeExceeded(code=1), ICMP(type=11, code=1)),
    "time 2": (ICMPv6TimeExceeded(code=2), None),
    **{f"parameter {ptr}": (ICMPv6ParamProblem(code=0, ptr=ptr), None if to is None else ICMP(type=12, code=0, ptr=to))
       for ptr, to in {0: 0, 1: 1, 2: None, 4: 2, 5: 2, 6: 9, 7: 8, 8: 12, 23: 12, 24: 16, 39: 16, 40: None,
                       0x1000000: None}.items()},
    "parameter of code 1": (ICMPv6ParamProblem(code=1, ptr=40), ICMP(type=3, code=2)),
    "parameter of code 2": (ICMPv6ParamProblem(code=2, ptr=6), None),
}
SAME = {4: {kind: (error, error) for kind, (error, _) in TO_IPV6.items()
            if kind.split()[0] != "unreachable" or kind.split()[1] in ("3", "14")},
        6: {kind: (error, error) for kind, (error, _) in TO_IPV4.items()}}
ERRORS = {(4, 4): SAME[4], (6, 6): SAME[6], (4, 6): TO_IPV6, (6, 4): TO_IPV4}
MESSAGE_MAX = 1280


class Mix:
    """Packets of one session: of a client, and what becomes of them."""

    def __init__(self, client, server, proto):
        self.c, self.b, self.proto = client, server, proto
        self.vip, self.backend = ODD_MIXES[client, server]
        self.n_made = 0  # IPv4 packets made from IPv6 so far: their ids

    def ip(self, family, other, src, dst, ttl, n_bytes, **fields):
        """The header of a translated packet of n_bytes behind it; other: the family that it was of."""
        if family == 4 and other == 6:
            large = 20 + n_bytes > 1260
            fields = {"id": 0 if large else IPV4_ID + self.n_made, **({"flags": "DF"} if large else {}), **fields}
            self.n_made += not large
        return network(family, src, dst, ttl, **fields)

    def request(self, upper_in, upper_out):
        arrives = network(self.c, CLIENT[self.c], self.vip) / upper_in
        leaves = self.ip(self.b, self.c, LOCAL[self.b], self.backend, 63, len(bytes(upper_out))) / upper_out
        return step(arriving(arrives), "forward", [(1, leaving(leaves, 1))])

    def first(self):
        if self.proto == "tcp":
            return self.request(l4("tcp", SPORT, 80, flags="S"), l4("tcp", LPORT, 8080, flags="S"))
        return self.request(l4("udp", SPORT, 53, data(30)), l4("udp", LPORT, 5353, data(30)))

    def quote(self, family, to_client, n_l4, other=None, n_data=600, inside=False, **fields):
        """A packet to the client or from it, as that knows it, or (inside) as the backend does. other: its family before."""
        sides = [(self.backend, BPORT[self.proto]), (LOCAL[self.b], LPORT)] if inside else [
            (self.vip, PORT[self.proto]), (CLIENT[self.c], SPORT)]
        (src, sport), (dst, dport) = sides if to_client else sides[::-1]
        if family == 4 and other == 6:
            large = 20 + (20 if self.proto == "tcp" else 8) + n_data > 1260
            fields = {"id": 0, **({"flags": "DF"} if large else {}), **fields}
        return quoted(family, src, dst, sport, dport, self.proto, n_l4, n_data=n_data, **fields)

    def error_to_backend(self, error, wanted, n_l4, verdict="forward", tail=b"", **quote):
        arrives = network(self.c, ROUTER[self.c], self.vip) / error / self.quote(self.c, True, n_l4, tail=tail, **quote)
        if wanted is None:
            return step(arriving(arrives), verdict)
        if self.b != self.c:
            tail = b""
        payload = wanted / self.quote(self.b, True, n_l4, self.c, inside=True, tail=tail, **quote)
        leaves = self.ip(self.b, self.c, LOCAL[self.b], self.backend, 63, len(bytes(payload))) / payload
        return step(arriving(arrives), verdict, [(1, leaving(leaves, 1))])

    def error_to_client(self, error, wanted, n_l4, verdict="reply", src=None, tail=b"", **quote):
        arrives = network(self.b, src or self.backend, LOCAL[self.b]) / error / self.quote(
            self.b, False, n_l4, inside=True, tail=tail, **quote)
        if wanted is None:
            return step(arriving(arrives, 1), verdict, port=1)
        if self.b != self.c:
            tail = b""
        payload = wanted / self.quote(self.c, False, n_l4, self.b, tail=tail, **quote)
        leaves = self.ip(self.c, self.b, self.vip, CLIENT[self.c], 63, len(bytes(payload))) / payload
        return step(arriving(arrives, 1), verdict, [(0, leaving(leaves, 0))], port=1)


def odd_case(name, *steps):
    case(f"fullnat {name}", *steps, setup="fullnat_odd")


def fullnat_icmp_cases():
    for (c, b) in ODD_MIXES:
        for proto in ("tcp", "udp"):
            v = f"icmp {c} to {b} {proto}"

            def mix():
                return Mix(c, b, proto)

            for kind, (error, wanted) in ERRORS[c, b].items():
                m = mix()
                fate = "forward" if wanted is not None else "icmp_untranslated"
                odd_case(f"{v}: {kind} of a router before us", m.first(), m.error_to_backend(error, wanted, 8, fate))
            for kind, (error, wanted) in ERRORS[b, c].items():
                m = mix()
                fate = "reply" if wanted is not None else "icmp_untranslated"
                odd_case(f"{v}: {kind} of the backend", m.first(), m.error_to_client(error, wanted, 8, fate))
            time_c, time_b = ERRORS[c, b]["time 0"], ERRORS[b, c]["time 0"]
            for n in (9, 16, 18, 19, 20, 60, 501):
                m = mix()
                odd_case(f"{v}: {n} bytes quoted", m.first(), m.error_to_backend(*time_c, n), m.error_to_client(*time_b, n))
            m = mix()
            odd_case(f"{v}: large ones quoted in short", m.first(), m.error_to_backend(*time_c, 64, n_data=1300),
                         m.error_to_client(*time_b, 64, n_data=1300))
            m = mix()
            odd_case(f"{v}: a router behind us", m.first(),
                         m.error_to_client(*time_b, 28, src={4: "10.9.9.9", 6: "fd00:9::9"}[b]))
            n_whole = (20 if proto == "tcp" else 8) + 600
            extension = bytes.fromhex("2000dead00080101fffff140")
            m = mix()
            n_quoted = {f: (128 - HEADERS[f]) for f in (4, 6)}  # as RFC 4884 has it: 128 bytes in all

            def with_length(error, family):
                error = error.copy()
                error.length = 128 // (4 if family == 4 else 8)
                return error
            if c == b:
                odd_case(f"{v}: extensions behind the quote stay", m.first(), m.error_to_backend(
                    with_length(time_c[0], c), with_length(time_c[1], c), n_quoted[c], tail=extension))
            else:
                odd_case(f"{v}: extensions behind the quote go", m.first(), m.error_to_backend(
                    with_length(time_c[0], c), time_c[1], n_quoted[c], tail=extension))
                m = mix()
                odd_case(f"{v}: a wrong length of the quote", m.first(), m.error_to_backend(
                    with_length(time_c[0], c), None, n_quoted[c] - 1, "icmp_malformed"))
                m = mix()
                damaged = m.error_to_backend(time_c[0], None, 28, "icmp_malformed")
                damaged["in"] = damaged["in"][:-2] + f"{int(damaged['in'][-2:], 16) ^ 1:02x}"
                odd_case(f"{v}: a wrong checksum", m.first(), damaged)
            m = mix()
            odd_case(f"{v}: without a session", m.error_to_backend(time_c[0], None, 8, "no_session"),
                         m.error_to_client(time_b[0], None, 8, "no_session"))
            m = mix()
            odd_case(f"{v}: 7 bytes quoted", m.first(), m.error_to_backend(time_c[0], None, 7, "icmp_malformed"),
                         m.error_to_client(time_b[0], None, 7, "icmp_malformed"))
            whole = m.quote(b, False, 8, inside=True)
            odd_case(f"{v}: to another local address than it quotes", mix().first(), step(arriving(
                network(b, m.backend, LOCAL[b]) / time_b[0] / quoted(b, OTHER[b], m.backend, LPORT, BPORT[proto], proto, 8),
                1), "icmp_malformed", port=1), step(arriving(
                    network(b, m.backend, OTHER[b]) / time_b[0] / whole, 1), "host", port=1))
            odd_case(f"{v}: another session's port quoted", mix().first(), step(arriving(
                network(b, m.backend, LOCAL[b]) / time_b[0] / quoted(b, LOCAL[b], m.backend, LPORT + 1, BPORT[proto], proto,
                                                                     8), 1), "no_session", port=1))
            odd_case(f"{v}: hop limit 1", mix().first(), step(arriving(
                network(b, m.backend, LOCAL[b], 1) / time_b[0] / whole, 1), "ttl_expired", port=1))
    # IPv4 cannot say of a fragment what IPv6 does, and the other way round, but in a header of its own.
    m = Mix(4, 6, "udp")
    first = bytes(network(4, m.vip, CLIENT[4], 50, id=0x4321, flags="MF") / l4("udp", 53, SPORT, data(1000)))
    inside = IPv6(src=m.backend, dst=LOCAL[6], hlim=50) / IPv6ExtHdrFragment(nh=17, m=1, id=0x4321) / Raw(
        bytes(IPv6(src=m.backend, dst=LOCAL[6]) / l4("udp", 5353, LPORT, data(1000)))[40:])
    odd_case("icmp 4 to 6 udp: a first fragment quoted", m.first(), step(
        arriving(network(4, ROUTER[4], m.vip) / ICMP(type=3, code=4, nexthopmtu=1300) / Raw(first[:20 + 100])), "forward",
        [(1, leaving(network(6, LOCAL[6], m.backend, 63) / ICMPv6PacketTooBig(mtu=1328) / Raw(
            bytes(inside)[:48 + 100]), 1))]))
    m = Mix(6, 4, "udp")
    first = bytes(IPv6(src=m.vip, dst=CLIENT[6], hlim=50) / IPv6ExtHdrFragment(nh=17, m=1, id=0x87654321) / Raw(
        bytes(IPv6(src=m.vip, dst=CLIENT[6]) / l4("udp", 53, SPORT, data(1000)))[40:]))
    inside = network(4, m.backend, LOCAL[4], 50, id=0x4321, flags="MF") / l4("udp", 5353, LPORT, data(1000))
    begin = m.first()
    odd_case("icmp 6 to 4 udp: a first fragment quoted", begin, step(
        arriving(network(6, ROUTER[6], m.vip) / ICMPv6PacketTooBig(mtu=1300) / Raw(first[:48 + 100])), "forward",
        [(1, leaving(network(4, LOCAL[4], m.backend, 63, id=IPV4_ID + 1) / ICMP(type=3, code=4, nexthopmtu=1272) / Raw(
            bytes(inside)[:20 + 100]), 1))]))


def fullnat_fragment_cases():
    for (c, b) in ODD_MIXES:
        for proto in ("udp", "tcp"):
            v = f"fragments {c} to {b} {proto}"
            m = Mix(c, b, proto)

            def as_other(family, other, packet, cuts, ident):
                """The pieces of a packet with ids of the other family."""
                if family == 4 and other == 6:
                    ident &= 0xffff
                return pieces(family, packet, cuts, ident)

            def both(n, cuts, reply=False, ident=0x1234):
                """[(as it arrives, as it leaves)]"""
                ident |= 0xabcd0000 if (b if reply else c) == 6 else 0
                if reply:
                    packet = network(b, m.backend, LOCAL[b]) / l4(proto, BPORT[proto], LPORT, data(n))
                    wanted = network(c, m.vip, CLIENT[c], 63) / l4(proto, PORT[proto], SPORT, data(n))
                    return [(arriving(x, 1), (0, leaving(y, 0))) for x, y in zip(
                        pieces(b, packet, cuts, ident), as_other(c, b, wanted, cuts, ident))]
                packet = network(c, CLIENT[c], m.vip) / l4(proto, SPORT, PORT[proto], data(n))
                wanted = network(b, LOCAL[b], m.backend, 63) / l4(proto, LPORT, BPORT[proto], data(n))
                return [(arriving(x), (1, leaving(y, 1))) for x, y in zip(
                    pieces(c, packet, cuts, ident), as_other(b, c, wanted, cuts, ident))]

            def begin():
                return Mix(c, b, proto).first()

            for reply in (False, True):
                word, fate, side = ("reply", "reply", 1) if reply else ("request", "forward", 0)
                parts = both(1000, (200, 600), reply)
                odd_case(f"{v}: {word}, in order", begin(), *[step(x, fate, [y], side) for x, y in parts])
                odd_case(f"{v}: {word}, reversed", begin(),
                             step(parts[2][0], "held", port=side), step(parts[1][0], "held", port=side),
                             step(parts[0][0], fate, [parts[0][1], parts[2][1], parts[1][1]], side))
                cuts = tuple(range(1400, 8000, 1400))
                parts = both(8000, cuts, reply)
                odd_case(f"{v}: {word}, 8 000 bytes reversed", begin(),
                             *[step(x, "held", port=side) for x, _ in parts[:0:-1]],
                             step(parts[0][0], fate, [parts[0][1]] + [y for _, y in parts[:0:-1]], side))
            if proto == "udp":  # a session may begin with one
                odd_case(f"{v}: of the first datagram", *[step(x, "forward", [y]) for x, y in both(1000, (200, 600))])
            else:
                parts = both(1000, (200, 600))
                odd_case(f"{v}: without a session", *[step(x, "no_session") for x, _ in parts])
            stray = both(1000, (200, 600), True)
            odd_case(f"{v}: replies without a session", *[step(x, "no_session", port=1) for x, _ in stray])
            if c != b:
                # The largest that has room for the other header, and for one of its own.
                room = 1500 - (48 if b == 6 else 20)
                arrives = 1500 - (48 if c == 6 else 20)
                cut = min(room, arrives) // 8 * 8
                parts = both(3000, (cut, 2 * cut))
                odd_case(f"{v}: the largest that fit", begin(), *[step(x, "forward", [y]) for x, y in parts])
                if c == 4:
                    parts = both(3000, (1480, 2960))
                    odd_case(f"{v}: full-sized ones do not fit", begin(), step(parts[0][0], "too_big"),
                                 step(parts[1][0], "too_big"), step(parts[2][0], "too_big"))
    m = Mix(4, 6, "udp")
    packet = bytes(network(4, CLIENT[4], m.vip) / UDP(sport=SPORT, dport=53, chksum=0) / data(100))
    odd_case("fragments 4 to 6 udp: without a checksum", *[
        step(arriving(x), "fragment") for x in pieces(4, packet, (48,))])
    m = Mix(6, 4, "udp")
    packet = IPv6(src=CLIENT[6], dst=m.vip) / IPv6ExtHdrFragment(id=6, m=1) / IPv6ExtHdrDestOpt() / l4(
        "udp", SPORT, 53, data(48))
    odd_case("fragments 6 to 4 udp: extension headers behind the fragment header", step(arriving(packet), "fragment"))


def fullnat_answer_cases():
    for (c, b), (vip, backend) in ODD_MIXES.items():
        v = f"{c} to {b}"
        room = 1500 + (20 if (c, b) == (6, 4) else -20 if (c, b) == (4, 6) else 0)

        def tcp(**fields):
            return network(c, CLIENT[c], vip) / l4("tcp", SPORT, 80, **fields)
        answer = own(c, vip, CLIENT[c]) / TCP(sport=80, dport=SPORT, flags="R", seq=2000, ack=0, window=0)
        odd_case(f"reset {v}: in mid-stream, without a session", step(arriving(tcp(flags="PA")), "no_session", [
            (0, leaving(answer, 0))]), step(arriving(tcp(flags="R")), "no_session"))
        m = Mix(c, b, "tcp")
        ids = {s["vip"]: s["id"] for s in SETUPS["fullnat_odd"]["services"] if s["proto"] == 6}
        odd_case(f"reset {v}: whose backend is down", m.first(), step(arriving(tcp(flags="A")), "backend_down", [
            (0, leaving(answer, 0))], states={str(ids[vip]): "down"}))
        if (c, b) != (4, 6):
            continue
        flags = {"flags": "DF"}
        n = room - 28
        packet = network(4, CLIENT[4], vip, **flags) / l4("udp", SPORT, 53, data(n + 1))
        odd_case(f"too big {v}: one byte", step(arriving(packet), "too_big", [
            (0, leaving(error_about(4, vip, packet, ICMP(type=3, code=4, nexthopmtu=room)), 0))]))
    # The other way: a backend's answer, back to whom it came from.
    m = Mix(6, 4, "udp")
    packet = network(4, m.backend, LOCAL[4], flags="DF") / l4("udp", 5353, LPORT, data(1480 - 28 + 1))
    answer = own(4, LOCAL[4], m.backend, tos=0xc0) / ICMP(type=3, code=4, nexthopmtu=1480) / Raw(bytes(packet)[:576 - 28])
    odd_case("too big 6 to 4: of the backend", m.first(), step(arriving(packet, 1), "too_big", [
        (1, leaving(answer, 1))], port=1))


def tunnel_error_cases():
    for (mode, inner, outer), (vip, backend) in DIRECT.items():
        if mode == "dsr":
            continue
        v = f"tunnel error {mode} {inner}in{outer}"
        n_outer = HEADERS[outer] + (12 if mode == "gue" else 0)

        def sent(proto="tcp", n=1000, src=None, dst=None, to=None):
            """What we put on the wire, as a router quotes it."""
            fields = {"flags": "DF"} if inner == 4 else {}
            packet = network(inner, src or CLIENT[inner], dst or vip, 63, **fields) / l4(proto, SPORT, PORT[proto], data(n))
            _, frame, _ = wrapped(mode, outer, to or backend, packet)
            return bytes(frame)[14:], bytes(packet)

        def too_big(mtu):
            return ICMP(type=3, code=4, nexthopmtu=mtu) if outer == 4 else ICMPv6PacketTooBig(mtu=mtu)

        def told(packet, mtu, n_quoted):
            header = ICMP(type=3, code=4, nexthopmtu=mtu) if inner == 4 else ICMPv6PacketTooBig(mtu=max(1280, mtu))
            return own(inner, vip, CLIENT[inner], tos=0xc0) / header / Raw(
                packet[:min(n_quoted, {4: 576 - 28, 6: 1280 - 48}[inner])])

        def error(header, quote):
            return arriving(network(outer, ROUTER[outer], LOCAL[outer]) / header / Raw(quote), 1)

        for proto in ("tcp", "udp"):
            quote, packet = sent(proto)
            for mtu in (1400, 1300):
                for n in (HEADERS[inner] + 8, len(packet)):
                    case(f"{v}: {mtu}, {proto}, {n} bytes quoted", step(
                        error(too_big(mtu), quote[:n_outer + n]), "tunnel_too_big",
                        [(0, leaving(told(packet, mtu - n_outer, n), 0))], port=1), setup="direct")
        quote, packet = sent()
        for n in (0, 8, HEADERS[inner], HEADERS[inner] + 7):
            case(f"{v}: {n} bytes of the inner packet quoted", step(
                error(too_big(1400), quote[:n_outer + n]), "tunnel_quote", port=1), setup="direct")
        unreachable = ICMP(type=3, code=1) if outer == 4 else ICMPv6DestUnreach(code=0)
        case(f"{v}: unreachable", step(error(unreachable, quote[:200]), "tunnel_error", port=1), setup="direct")
        for name, other in (("to a VIP that is none", {"dst": OTHER[inner]}),
                            ("to another backend", {"to": {4: "10.7.0.99", 6: "fd00:7::99"}[outer]})):
            case(f"{v}: {name}", step(error(too_big(1400), sent(**other)[0][:200]), "tunnel_quote", port=1), setup="direct")


# -- VLAN tags

NO_TAG = 4095  # LB_VLAN_NONE; 0 is LB_VLAN_KEEP
VLAN_RULES = {"100 and 200": (100, 200), "none": (NO_TAG, NO_TAG), "keep and 4094": (0, 4094), "1 and none": (1, NO_TAG)}
for _rule, _vlans in VLAN_RULES.items():
    SETUPS[f"nat, vlan {_rule}"] = {**setup_nat(), "vlans": list(_vlans)}
    SETUPS[f"direct, vlan {_rule}"] = {**setup_direct(), "vlans": list(_vlans)}


def tag(frame, tci, rule):
    """The frame, untagged, as it leaves when it came with tci (None: untagged), by this rule."""
    frame = bytes(frame)
    if rule == NO_TAG or (rule == 0 and tci is None):
        return frame
    vlan = tci if rule == 0 else (tci or 0) & 0xf000 | rule
    return frame[:12] + struct.pack("!HH", 0x8100, vlan) + frame[12:]


def tagged(frame, tci):
    return tag(frame, tci, 0)


def vlan_cases():
    for rule, (to_client, to_backend) in VLAN_RULES.items():
        for tci in (None, 0x0064, 0x6064, 0xf064, 0xe000, 0x1ffe):
            v = f"vlan {rule}, {'untagged' if tci is None else f'tag {tci:04x}'}"
            nat, direct = f"nat, vlan {rule}", f"direct, vlan {rule}"
            for family in (4, 6):
                address, port = BACKEND[family, "tcp"]
                frame = network(family, CLIENT[family], VIP[family]) / l4("tcp", SPORT, 80, data(100))
                wanted = network(family, CLIENT[family], address, 63) / l4("tcp", SPORT, port, data(100))
                case(f"{v}: nat ipv{family}, request", step(tagged(arriving(frame), tci), "forward", [
                    (1, tag(leaving(wanted, 1), tci, to_backend))]), setup=nat)
                frame = network(family, address, CLIENT[family]) / l4("tcp", port, SPORT, data(100))
                wanted = network(family, VIP[family], CLIENT[family], 63) / l4("tcp", 80, SPORT, data(100))
                case(f"{v}: nat ipv{family}, reply", step(tagged(arriving(frame, 1), tci), "reply", [
                    (0, tag(leaving(wanted, 0), tci, to_client))], 1), setup=nat)
                case(f"{v}: echo ipv{family}", step(
                    tagged(arriving(network(family, CLIENT[family], VIP[family]) / echo(family, False, data(60))), tci), "echo", [
                        (0, tag(leaving(network(family, VIP[family], CLIENT[family]) / echo(family, True, data(60)), 0), tci,
                                to_client))]), setup=nat)
                rst = TCP(sport=80, dport=SPORT, flags="RA", seq=0, ack=1001, window=0)
                case(f"{v}: RST ipv{family}", step(
                    tagged(arriving(network(family, CLIENT[family], EMPTY[family]) / l4("tcp", SPORT, 80, flags="S", ack=0)), tci),
                    "no_backend", [(0, tag(leaving(own(family, EMPTY[family], CLIENT[family]) / rst, 0), tci, to_client))]), setup=nat)
            for (mode, inner, outer), (vip, backend) in DIRECT.items():
                packet = network(inner, CLIENT[inner], vip) / l4("udp", SPORT, 53, data(200))
                wanted = network(inner, CLIENT[inner], vip, 63) / l4("udp", SPORT, 53, data(200))
                at, sent, *masks = wrapped(mode, outer, backend, wanted)
                shift = 4 if len(tag(sent, tci, to_backend)) > len(bytes(sent)) else 0
                masks = [[[offset + shift, n] for offset, n in mask] for mask in masks]
                case(f"{v}: {mode} {inner}in{outer}", step(tagged(arriving(packet), tci), "forward", [
                    (at, tag(sent, tci, to_backend), *masks)]), setup=direct)
        # Fragments, some of which wait for the first one.
        packet = network(4, CLIENT[4], VIP[4]) / l4("udp", SPORT, 53, data(900))
        wanted = network(4, CLIENT[4], BACKEND[4, "udp"][0], 63) / l4("udp", SPORT, BACKEND[4, "udp"][1], data(900))
        parts = [(tagged(arriving(a), 0x6064), tag(leaving(b, 1), 0x6064, to_backend)) for a, b in zip(
            pieces(4, packet, (200, 600)), pieces(4, wanted, (200, 600)))]
        case(f"vlan {rule}: fragments, reversed", step(parts[2][0], "held"), step(parts[1][0], "held"),
             step(parts[0][0], "forward", [(1, parts[0][1]), (1, parts[2][1]), (1, parts[1][1])]), setup=f"nat, vlan {rule}")
        # A short frame without its tag has the least length again.
        frame = network(4, CLIENT[4], VIP[4]) / l4("udp", SPORT, 53, b"q")
        wanted = network(4, CLIENT[4], BACKEND[4, "udp"][0], 63) / l4("udp", SPORT, BACKEND[4, "udp"][1], b"q")
        padded = bytes(arriving(frame)) + bytes(60 - 4 - 43 if to_backend == NO_TAG else 60 - 43)
        out = tag(bytes(leaving(wanted, 1)) + bytes(60 - 43), 0x6064, to_backend)
        case(f"vlan {rule}: a short frame", step(tagged(padded, 0x6064), "forward", [(1, out)]), setup=f"nat, vlan {rule}")
    good = bytes(arriving(network(4, CLIENT[4], VIP[4]) / l4("tcp", SPORT, 80)))
    for setup in ("nat", "nat, vlan 100 and 200", "nat, vlan none"):
        def bad(name, frame, verdict):
            case(f"vlan ({setup}): {name}", step(frame, verdict), setup=setup)
        bad("VLAN 4095", tagged(good, 0x0fff), "vlan_reserved")
        bad("VLAN 4095 with priority", tagged(good, 0xffff), "vlan_reserved")
        bad("two tags", tagged(tagged(good, 1), 2), "vlan_stacked")
        bad("three tags", tagged(tagged(tagged(good, 1), 2), 3), "vlan_stacked")
        bad("802.1ad", good[:12] + bytes.fromhex("88a80001") + good[12:], "vlan_stacked")
        bad("802.1ad within 802.1Q", tagged(good[:12] + bytes.fromhex("88a80001") + good[12:], 5), "vlan_stacked")
        for n in (12, 13, 14, 15, 16, 17):
            bad(f"cut off after {n} bytes", tagged(good, 7)[:n], "truncated_l2")
        bad("no IP header behind the tag", tagged(good, 7)[:18], "truncated_l3")
        bad("ARP behind the tag", tagged(good, 7)[:16] + b"\x08\x06" + bytes(28), "host")


# -- the MSS clamp

def mss_cases():
    def syn(name, title, family, before, after=None, flags="S", vlan=None, upper=b"", **fields):
        """Raw TCP options as a SYN or SYN/ACK has them, and as they leave (None: the same); a multiple of 4 bytes."""
        vip, backend = clamped(name, family)
        after = before if after is None else after

        def segment(options, sport, dport):
            bare = bytes(TCP(sport=sport, dport=dport, flags=flags, seq=1000, ack=2000 if "A" in flags else 0,
                             dataofs=5 + len(options) // 4, chksum=0))[:20]
            return bare + options + upper

        def packet(src, dst, ttl, raw):
            """The options are bytes: scapy would write some of them otherwise."""
            fields_l3 = {"proto": 6} if family == 4 else {"nh": 6}
            return network(family, src, dst, ttl, **fields, **fields_l3) / Raw(
                raw[:16] + checksum(src, dst, raw) + raw[18:])

        if "A" in flags:
            frame = packet(backend, CLIENT[family], 64, segment(before, 80, SPORT))
            wanted = packet(vip, CLIENT[family], 63, segment(after, 80, SPORT))
            steps = step(arriving(frame, 1, vlan), "reply", [(0, leaving(wanted, 0, vlan))], 1)
        else:
            frame = packet(CLIENT[family], vip, 64, segment(before, SPORT, 80))
            to = vip if name == "dsr" else backend
            wanted = packet(CLIENT[family], to, 63, segment(after, SPORT, 80))
            steps = step(arriving(frame, 0, vlan), "forward", [(1, leaving(wanted, 1, vlan))])
        case(f"mss ipv{family}: {title}", steps, setup="mss")

    def mss(n):
        return b"\x02\x04" + n.to_bytes(2, "big")

    linux = b"\x04\x02\x08\x0a\0\x01\x02\x03\0\0\0\0\x01\x03\x03\x07"
    for family in (4, 6):
        fits = CLAMPED_MTUS[0] - HEADERS[family] - 20
        for flags, what in (("S", "SYN"), ("SA", "SYN-ACK")):
            syn("1000", f"{what}: 1460 becomes 1000", family, mss(1460), mss(1000), flags)
            syn("1000", f"{what}: 999 stays", family, mss(999), flags=flags)
            syn("1000", f"{what}: without options", family, b"", flags=flags)
            syn("1000", f"{what}: options of Linux", family, mss(1460) + linux, mss(1000) + linux, flags)
            syn("1000", f"{what}: at an odd place", family, b"\x01" + mss(1460) + b"\x01\x01\x01",
                b"\x01" + mss(1000) + b"\x01\x01\x01", flags)
            syn("auto", f"{what}: what the smaller MTU has room for", family, mss(9000), mss(fits), flags)
            syn("auto", f"{what}: what just fits stays", family, mss(fits), flags=flags)
            syn("none", f"{what}: none leaves 65535", family, mss(65535), flags=flags)
            syn("1000", f"{what}: tagged", family, mss(1460), mss(1000), flags, vlan=12)
        syn("1000", "twice", family, mss(1460) + mss(1200), mss(1000) * 2)
        syn("1000", "behind the end of the list", family, b"\0\0\0\0" + mss(1460))
        syn("1000", "behind a malformed option", family, b"\x4d\0\x01\x01" + mss(1460))
        syn("1000", "3 bytes long", family, b"\x02\x03\x05\0")
        syn("1000", "cut off", family, b"\x01\x01\x02\x04")
        syn("1000", "SYN with data (Fast Open)", family, mss(1460), mss(1000), upper=data(33))
        syn("dsr", "dsr changes nothing", family, mss(9000))
    syn("1000", "behind IP options", 4, mss(1460), mss(1000), options=[IPOption(b"\x94\x04\0\0")])


def checksum(src, dst, segment):
    """Of a TCP segment that scapy would write otherwise."""
    pseudo = packed(src) + packed(dst) + len(segment).to_bytes(4, "big") + (6).to_bytes(4, "big")
    return scapy_checksum(pseudo + segment[:16] + b"\0\0" + segment[18:]).to_bytes(2, "big")


def main():
    for make in (nat_cases, drop_cases, icmp_cases, echo_cases, reset_cases, fragment_cases, direct_cases,
                 fullnat_cases, fullnat_icmp_cases, fullnat_fragment_cases, fullnat_answer_cases, tunnel_error_cases,
                 mss_cases, vlan_cases):
        make()
    path = Path(__file__).with_name("vectors.json")
    lines = ",\n".join("  " + json.dumps(c) for c in CASES)
    text = f'{{\n "setups": {json.dumps(SETUPS)},\n "cases": [\n{lines}\n ]\n}}\n'
    if "--check" in sys.argv[1:]:
        if path.read_text() != text:
            sys.exit(f"{path} is not what {__file__} writes")
        return
    path.write_text(text)
    print(f"{len(CASES)} cases")


if __name__ == "__main__":
    main()
