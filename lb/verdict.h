/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_VERDICT_H
#define LB_VERDICT_H

#include <stdbool.h>

/*
 * A packet's fate. Every drop has its own counter, named here once: X(identifier, name, what it means).
 * The order is the index in shared memory: append only, and raise LB_SHM_ABI when one is removed.
 */
#define LB_VERDICTS(X)                                                                              \
	X(FORWARD, "forward", "client to backend, forwarded")                                       \
	X(REPLY, "reply", "backend to client, forwarded")                                           \
	X(HOST, "host", "not for a service: the kernel's, or dropped where there is no kernel port") \
	X(TRUNCATED_L2, "truncated_l2", "frame shorter than its Ethernet and VLAN headers")         \
	X(TRUNCATED_L3, "truncated_l3", "frame shorter than its IP header")                         \
	X(TRUNCATED_L4, "truncated_l4", "frame shorter than its TCP or UDP header")                 \
	X(VLAN_STACKED, "vlan_stacked", "more than one VLAN tag")                                   \
	X(IP_BAD_VERSION, "ip_bad_version", "IP version does not match the EtherType")              \
	X(IP_BAD_HEADER_LENGTH, "ip_bad_header_length", "IPv4 header length below 20 bytes")        \
	X(IP_BAD_LENGTH, "ip_bad_length", "IP length beyond the frame or below its header")         \
	X(IP_BAD_CHECKSUM, "ip_bad_checksum", "IPv4 header checksum is wrong")                      \
	X(IP_BAD_ADDRESS, "ip_bad_address",                                                         \
		"source is multicast, broadcast, loopback or unspecified, or equals the destination") \
	X(IP_OPTIONS_BAD, "ip_bad_options", "source-routing or malformed IPv4 options")             \
	X(IP6_EXT_HEADERS, "ip6_ext_headers", "IPv6 extension headers malformed or too many")       \
	X(IP6_ROUTING, "ip6_routing", "IPv6 routing header with segments left")                     \
	X(FRAGMENT, "fragment", "fullnat: a fragment that cannot be as the backend's side needs it")   \
	X(TTL_EXPIRED, "ttl_expired", "TTL or hop limit would reach 0")                             \
	X(TCP_BAD_HEADER, "tcp_bad_header", "TCP data offset below 20 bytes or beyond the packet")  \
	X(TCP_BAD_FLAGS, "tcp_bad_flags", "TCP flags that no stack sends: SYN with FIN or RST, none") \
	X(UDP_BAD_LENGTH, "udp_bad_length", "UDP length below 8 bytes or beyond the packet")        \
	X(PORT_ZERO, "port_zero", "source or destination port 0")                                   \
	X(VIP_NO_SERVICE, "vip_no_service", "to a VIP, but no service has this port and protocol")  \
	X(VIP_PROTOCOL, "vip_protocol", "to a VIP, but neither TCP nor UDP")                        \
	X(NO_TABLE, "no_table", "the service has no lookup table yet")                              \
	X(NO_BACKEND, "no_backend", "no backend of the service may take the packet")                \
	X(NEXTHOP_UNRESOLVED, "nexthop_unresolved", "the next hop's MAC address is not known (yet)") \
	X(NO_ROUTE, "no_route", "no route back to the client")                                      \
	X(TX_FULL, "tx_full", "the NIC's transmit queue was full")                                  \
	X(MODE_UNSUPPORTED, "mode_unsupported", "the service's mode is not forwarded by this build") \
	X(TOO_BIG, "too_big", "larger than the port it is to leave by allows")                          \
	X(NO_LOCAL_ADDRESS, "no_local_address", "no local address of the family that the mode needs") \
	X(NO_HEADROOM, "no_headroom", "no room in front of the packet for another header") \
	X(BACKEND_DOWN, "backend_down",                                                             \
		"TCP connection whose backend is down, of a service with on_empty: reset")          \
	X(ECHO, "echo", "ICMP echo request to a VIP: answered")                                     \
	X(ICMP_MALFORMED, "icmp_malformed", "ICMP error that quotes no TCP or UDP packet of ours, or is damaged") \
	X(ICMP_NO_FLOW, "icmp_no_flow", "ICMP error to a VIP about a port and protocol of no service") \
	X(FRAGMENT_BAD, "fragment_bad",                                                             \
		"fragment that is empty, not a multiple of 8 bytes long, or ends beyond 65535")     \
	X(FRAGMENT_TINY, "fragment_tiny", "first fragment without all of its TCP or UDP header, or a second one over it") \
	X(FRAGMENT_OVERLAP, "fragment_overlap",                                                     \
		"fragment that repeats one, or contradicts others: then all later ones of its datagram too") \
	X(FRAGMENT_TIMEOUT, "fragment_timeout", "fragment that waited for the first one of its datagram in vain") \
	X(FRAGMENT_LIMIT, "fragment_limit",                                                         \
		"fragment that had to make room: too many datagrams, fragments that wait, or holes") \
	X(NO_SESSION, "no_session", "fullnat: in mid-stream, or a reply, but its session is not known") \
	X(PORTS_EXHAUSTED, "ports_exhausted", "fullnat: no local port is free towards the backend") \
	X(SESSIONS_FULL, "sessions_full", "fullnat: the session table is full")                     \
	X(HANDOVER_FULL, "handover_full", "fullnat: the worker that has the session does not keep up") \
	X(ICMP_UNTRANSLATED, "icmp_untranslated",                                                  \
		"fullnat: ICMP error that has no counterpart in the other address family (RFC 7915)") \
	X(TUNNEL_TOO_BIG, "tunnel_too_big",                                                        \
		"ICMP error: a tunnel's packet was too big on its way; its sender is told")          \
	X(TUNNEL_ERROR, "tunnel_error",                                                            \
		"ICMP error: a tunnel's packet did not arrive for another reason than its size")     \
	X(TUNNEL_QUOTE, "tunnel_quote",                                                            \
		"ICMP error about a tunnel's packet that quotes too little of it, or none of ours")    \
	X(VLAN_RESERVED, "vlan_reserved", "VLAN 4095, which nobody may use")

enum lb_verdict {
#define X(id, name, meaning) LB_VERDICT_##id,
	LB_VERDICTS(X)
#undef X
		LB_VERDICT_N
};

/** Whether a packet with this verdict was lost to its sender: not forwarded, handed on or answered as asked. */
static inline bool lb_verdict_is_drop(unsigned verdict)
{
	return verdict >= LB_VERDICT_TRUNCATED_L2 && verdict != LB_VERDICT_ECHO &&
	       verdict != LB_VERDICT_TUNNEL_TOO_BIG;
}

/*
 * No fate yet: the packet is no longer the burst's, whoever took it counts it. Its place among the counters tells how
 * often that was.
 */
#define LB_VERDICT_TAKEN 63u

/** Name ("ttl_expired") and meaning (a sentence); "?" out of range. */
const char *lb_verdict_name(unsigned verdict);
const char *lb_verdict_meaning(unsigned verdict);

#endif
