# SPDX-License-Identifier: BSD-3-Clause
"""Packets that no honest stack sends, each with the reason under which it has to be counted.

CASES: list of (name, reason, build); build(to) returns the frame, `to` holds the addresses (class To).
"""
import struct
from dataclasses import dataclass

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
                                IPv6ExtHdrHopByHop, IPv6ExtHdrRouting)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from lab import VIP, VIP6

CLIENT, CLIENT6 = "198.51.100.99", "2001:db8:c::99"
TCP_PORT, UDP_PORT = 80, 53  # of the services


@dataclass
class To:
    """Where frames go: MAC addresses of the client's and the balancer's end of the link."""
    src: str
    dst: str

    def ether(self, **fields):
        return Ether(src=self.src, dst=self.dst, **fields)


def ip(**fields):
    return IP(**{"src": CLIENT, "dst": VIP, "ttl": 64, **fields})


def ip6(**fields):
    return IPv6(**{"src": CLIENT6, "dst": VIP6, "hlim": 64, **fields})


def tcp(**fields):
    return TCP(**{"sport": 40000, "dport": TCP_PORT, "flags": "S", "seq": 1, **fields})


def udp(**fields):
    return UDP(**{"sport": 40000, "dport": UDP_PORT, **fields})


CASES = []


def case(name, reason, build):
    CASES.append((name, reason, build))


def l3(name, reason, packet):
    """An IP packet by itself, scapy filling in what is not given."""
    case(name, reason, lambda to: bytes(to.ether() / packet))


def raw4(name, reason, data):
    """Bytes behind an Ethernet header with the type of IPv4."""
    case(name, reason, lambda to: bytes(to.ether(type=0x0800) / Raw(data)))


def raw6(name, reason, data):
    case(name, reason, lambda to: bytes(to.ether(type=0x86dd) / Raw(data)))


def patched(packet, offset, value):
    """bytes(packet) with `value` written at `offset`, then the IPv4 header checksum made right again."""
    data = bytearray(bytes(packet))
    data[offset:offset + len(value)] = value
    n_bytes = max(20, (data[0] & 15) * 4)
    if data[0] >> 4 == 4 and len(data) >= n_bytes:
        data[10:12] = b"\0\0"
        total = sum(struct.unpack(f"!{n_bytes // 2}H", data[:n_bytes]))
        total = (total & 0xffff) + (total >> 16)
        data[10:12] = struct.pack("!H", 0xffff - ((total & 0xffff) + (total >> 16)))
    return bytes(data)


def upper(protocol, payload):
    """IPv4 with a payload that claims to be a whole `protocol` header."""
    return bytes(ip(proto=protocol) / Raw(payload))


SYN, QUERY = bytes(ip() / tcp()), bytes(ip() / udp() / b"query")
SYN6, QUERY6 = bytes(ip6() / tcp()), bytes(ip6() / udp() / b"query")
TCP_BYTES, UDP_BYTES = SYN[20:], QUERY[20:]

# -- Ethernet. What net_af_packet never shows: a VLAN header cut short (the kernel drops it), and which type the
# outer tag had (the kernel takes it off, the driver puts 0x8100 back). tests/unit/test_packets.c has these.
case("vlan_in_vlan", "vlan_stacked", lambda to: bytes(to.ether() / Dot1Q(vlan=1) / Dot1Q(vlan=2) / ip() / tcp()))
case("vlan_in_service_vlan", "vlan_stacked",
     lambda to: bytes(to.ether(type=0x88a8) / Dot1AD(vlan=1) / Dot1Q(vlan=2) / ip() / tcp()))
case("three_vlans", "vlan_stacked",
     lambda to: bytes(to.ether() / Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / ip() / tcp()))
case("vlan_then_truncated_ipv4", "truncated_l3",
     lambda to: bytes(to.ether() / Dot1Q(vlan=1, type=0x0800) / Raw(SYN[:12])))
case("vlan_then_bad_version", "ip_bad_version",
     lambda to: bytes(to.ether() / Dot1Q(vlan=1, type=0x0800) / Raw(b"\x65" + SYN[1:])))
case("unknown_ethertype", "host", lambda to: bytes(to.ether(type=0x9000) / Raw(b"loopback?")))
case("llc_length_as_ethertype", "host", lambda to: bytes(to.ether(type=60) / Raw(bytes(60))))
case("arp_for_another", "host", lambda to: bytes(to.ether() / ARP(pdst="10.1.0.77")))
case("broadcast_to_the_vip", "host", lambda to: bytes(Ether(src=to.src, dst="ff:ff:ff:ff:ff:ff") / ip() / tcp()))
case("another_hosts_mac", "host", lambda to: bytes(Ether(src=to.src, dst="02:de:ad:be:ef:01") / ip() / tcp()))

# -- IPv4 header
for n in (0, 1, 9, 19):
    raw4(f"ipv4_header_of_{n}_bytes", "truncated_l3", SYN[:n])
raw4("ipv4_options_cut_off", "truncated_l3", patched(SYN[:40], 0, b"\x4f"))
for version in (0, 5, 6, 15):
    raw4(f"ipv4_version_{version}", "ip_bad_version", bytes([version << 4 | 5]) + SYN[1:])
for words in (0, 1, 4):
    raw4(f"ipv4_header_length_{words}", "ip_bad_header_length", bytes([0x40 | words]) + SYN[1:])
raw4("ipv4_total_length_0", "ip_bad_length", patched(SYN, 2, b"\0\0"))
raw4("ipv4_total_length_below_header", "ip_bad_length", patched(SYN, 2, b"\0\x13"))
raw4("ipv4_total_length_one_too_many", "ip_bad_length", patched(SYN, 2, struct.pack("!H", len(SYN) + 1)))
raw4("ipv4_total_length_65535", "ip_bad_length", patched(SYN, 2, b"\xff\xff"))
l3("ipv4_checksum_0", "ip_bad_checksum", ip(chksum=0) / tcp())
l3("ipv4_checksum_ffff", "ip_bad_checksum", ip(chksum=0xffff) / tcp())
raw4("ipv4_checksum_one_bit", "ip_bad_checksum", SYN[:11] + bytes([SYN[11] ^ 1]) + SYN[12:])
for address in ("0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", VIP):
    l3(f"ipv4_source_{address}", "ip_bad_address", ip(src=address) / tcp())

# -- IPv4 options
for name, options in (("loose_source_route", "8307040a01020300"),
                      ("strict_source_route", "8907040a01020300"),
                      ("option_length_0", "44000000"), ("option_length_1", "44010000"),
                      ("option_beyond_the_header", "44080500"), ("option_without_length", "01010144"),
                      ("source_route_behind_nops", "0101018303040000")):
    options = bytes.fromhex(options)
    header = bytearray(SYN[:20])
    header[0] = 0x40 | (20 + len(options)) // 4
    header[2:4] = struct.pack("!H", len(SYN) + len(options))
    raw4(f"ipv4_{name}", "ip_bad_options", patched(bytes(header) + options + SYN[20:], 0, bytes([header[0]])))

# -- IPv4 TTL, protocols. Fragments of IPv4 are put together by the kernel before net_af_packet gets them (the driver
# asks for PACKET_FANOUT_FLAG_DEFRAG); tests/unit/test_packets.c has these too.
for ttl in (0, 1):
    l3(f"ipv4_ttl_{ttl}", "ttl_expired", ip(ttl=ttl) / tcp())
l3("ipv4_ttl_1_udp", "ttl_expired", ip(ttl=1) / udp() / b"query")
for protocol in (0, 2, 41, 47, 50, 132, 255):
    raw4(f"ipv4_protocol_{protocol}", "vip_protocol", upper(protocol, bytes(40)))
l3("ipv4_echo_reply_to_the_vip", "vip_protocol", ip() / ICMP(type=0) / b"ping")

# -- TCP
for n in (0, 1, 4, 13, 19):
    raw4(f"tcp_header_of_{n}_bytes", "truncated_l4", upper(6, TCP_BYTES[:n]))
    raw6(f"tcp6_header_of_{n}_bytes", "truncated_l4", bytes(ip6(nh=6) / Raw(TCP_BYTES[:n])))
for words in (0, 4):
    l3(f"tcp_data_offset_{words}", "tcp_bad_header", ip() / tcp(dataofs=words))
l3("tcp_data_offset_beyond_the_packet", "tcp_bad_header", ip() / tcp(dataofs=15) / b"abc")
l3("tcp6_data_offset_beyond_the_packet", "tcp_bad_header", ip6() / tcp(dataofs=6))
for flags in ("", "U", "P", "SF", "SR", "SFRPAU"):
    l3(f"tcp_flags_{flags or 'none'}", "tcp_bad_flags", ip() / tcp(flags=flags))
l3("tcp6_flags_SF", "tcp_bad_flags", ip6() / tcp(flags="SF"))
l3("tcp_source_port_0", "port_zero", ip() / tcp(sport=0))
l3("tcp_destination_port_0", "port_zero", ip() / tcp(dport=0))

# -- UDP
for n in (0, 1, 7):
    raw4(f"udp_header_of_{n}_bytes", "truncated_l4", upper(17, UDP_BYTES[:n]))
    raw6(f"udp6_header_of_{n}_bytes", "truncated_l4", bytes(ip6(nh=17) / Raw(UDP_BYTES[:n])))
for length in (0, 7, 14, 65535):  # 13 would be right
    l3(f"udp_length_{length}", "udp_bad_length", ip() / udp(len=length) / b"query")
l3("udp6_length_0", "udp_bad_length", ip6() / udp(len=0) / b"query")
l3("udp_source_port_0", "port_zero", ip() / udp(sport=0) / b"query")
l3("udp6_destination_port_0", "port_zero", ip6() / udp(dport=0) / b"query")

# -- no such service
l3("vip_other_port", "vip_no_service", ip() / tcp(dport=81))
l3("vip_udp_to_the_tcp_port", "vip_no_service", ip() / udp(dport=TCP_PORT) / b"query")
l3("vip6_other_port", "vip_no_service", ip6() / udp(dport=54) / b"query")
l3("another_address", "host", ip(dst="203.0.113.99") / tcp())

# -- IPv6 header
for n in (0, 1, 20, 39):
    raw6(f"ipv6_header_of_{n}_bytes", "truncated_l3", SYN6[:n])
for version in (0, 4, 7):
    raw6(f"ipv6_version_{version}", "ip_bad_version", bytes([version << 4]) + SYN6[1:])
raw6("ipv6_payload_one_too_long", "ip_bad_length", patched(SYN6, 4, struct.pack("!H", len(SYN6) - 40 + 1)))
raw6("ipv6_payload_65535", "ip_bad_length", patched(SYN6, 4, b"\xff\xff"))
raw6("ipv6_payload_0", "truncated_l4", patched(SYN6, 4, b"\0\0"))
for address in ("::", "::1", "ff02::1", "::ffff:198.51.100.99", VIP6):
    l3(f"ipv6_source_{address}", "ip_bad_address", ip6(src=address) / tcp())
l3("ipv6_mapped_destination", "ip_bad_address", ip6(dst=f"::ffff:{VIP}") / tcp())
for hops in (0, 1):
    l3(f"ipv6_hop_limit_{hops}", "ttl_expired", ip6(hlim=hops) / tcp())

# -- IPv6 extension headers
l3("ipv6_echo_reply_to_the_vip", "vip_protocol", ip6() / ICMPv6EchoRequest(type=129))
l3("ipv6_no_next_header", "vip_protocol", ip6(nh=59) / Raw(bytes(8)))
raw6("ipv6_hop_by_hop_cut_off", "ip6_ext_headers", bytes(ip6(nh=0) / Raw(b"\x06\x00\x01\x02")))
raw6("ipv6_options_longer_than_the_packet", "ip6_ext_headers", bytes(ip6(nh=60) / Raw(b"\x06\xff" + bytes(30))))
l3("ipv6_hop_by_hop_not_first", "ip6_ext_headers", ip6() / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / tcp())
many = ip6()
for _ in range(9):
    many = many / IPv6ExtHdrDestOpt()
l3("ipv6_nine_extension_headers", "ip6_ext_headers", many / tcp())
l3("ipv6_routing_header", "ip6_routing", ip6() / IPv6ExtHdrRouting(type=0, addresses=["2001:db8::1"]) / tcp())
l3("ipv6_routing_header_of_an_unknown_type", "ip6_routing",
   ip6() / IPv6ExtHdrRouting(type=77, segleft=3, addresses=["2001:db8::1"]) / tcp())
l3("ipv6_first_fragment_not_a_multiple_of_8", "fragment_bad", ip6() / IPv6ExtHdrFragment(m=1, id=7) / tcp() / bytes(5))
l3("ipv6_first_fragment_tiny", "fragment_tiny", ip6() / IPv6ExtHdrFragment(m=1, id=8, nh=6) / Raw(bytes(16)))
l3("ipv6_later_fragment_empty", "fragment_bad", ip6() / IPv6ExtHdrFragment(offset=10, id=9, nh=6))
raw6("ipv6_tcp_cut_off_behind_options", "truncated_l4",
     bytes(ip6() / IPv6ExtHdrDestOpt(nh=6) / Raw(TCP_BYTES[:10])))
