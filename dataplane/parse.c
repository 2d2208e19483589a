/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stage 1, parse: Ethernet, one VLAN tag, IPv4 with options, IPv6 with extension headers, TCP, UDP. Every
 * length is checked before a byte is read. Packets are hostile: what no honest stack sends is dropped
 * under a name of its own. What is only wrong for a VIP (a fragment, an odd protocol) is noted as
 * `pending`, for the packet may be the host's.
 */
#include "dataplane/stages.h"

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#ifdef __AVX2__
#include "dataplane/parse_eight.h"
#endif
#include "dataplane/worker.h"

// RFC 8504, section 5.3 lets a node limit the number of extension headers; what clients send has one or two.
#define MAX_EXT_HEADERS 8u

#define IP4_OFFSET_AND_MF 0x3fffu

enum { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };

// What parse works on; `end` is where the IP packet ends (Ethernet padding comes after).
struct cursor {
	const uint8_t *data;
	uint32_t n_readable; /* bytes in the first segment: what may be read */
	uint32_t frame_bytes;
	uint32_t end;
	uint32_t at;
};

// By the first octet of an IPv4 source: 0/8 (RFC 1122, 3.2.1.3), 127/8, multicast, reserved and broadcast.
static const bool octet_is_bad_source[256] = {[0] = true, [127] = true, [224 ... 255] = true};

static inline bool source_is_bad_ipv6(const struct lb_addr *src)
{
	// multicast; ::/96 holds unspecified, loopback and the old compatible form; mapped addresses
	return src->bytes[0] == 0xff ||
	       (src->u64[0] == 0 && (src->u32[2] == 0 || src->u32[2] == LB_ADDR_V4_PREFIX));
}

bool lb_source_is_bad(const struct lb_flow_key *key)
{
	if (lb_addr_equal(&key->src, &key->dst))
		return true;
	return lb_addr_is_ipv4(&key->src) ? octet_is_bad_source[key->src.bytes[12]] : source_is_bad_ipv6(&key->src);
}

// Source routing would let a sender choose our next hop; the rest of the options pass unread (RFC 7126).
static uint8_t check_options(const uint8_t *options, unsigned n_bytes)
{
	for (unsigned i = 0; i < n_bytes;) {
		uint8_t type = options[i];

		if (type == 0)
			break;
		if (type == 1) {
			i++;
			continue;
		}
		if (i + 2 > n_bytes || options[i + 1] < 2 || i + options[i + 1] > n_bytes)
			return LB_VERDICT_IP_OPTIONS_BAD;
		if (type == 131 || type == 137)
			return LB_VERDICT_IP_OPTIONS_BAD;
		i += options[i + 1];
	}
	return LB_VERDICT_FORWARD;
}

// Sum of the 20 bytes of an IPv4 header without options, as 16-bit words in one's complement.
static inline uint32_t header_sum(const uint8_t *header, unsigned n_bytes)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n_bytes; i += 4) {
		uint32_t word;

		memcpy(&word, header + i, 4);
		sum += word;
	}
	sum = (sum & 0xffffffffu) + (sum >> 32);
	sum = (sum & 0xffffu) + (sum >> 16);
	sum = (sum & 0xffffu) + (sum >> 16);
	return (uint32_t)((sum & 0xffffu) + (sum >> 16));
}

static inline uint8_t parse_ipv4(
	struct cursor *c, const struct rte_mbuf *mbuf, struct lb_packet *packet, struct lb_flow_key *key)
{
	const struct rte_ipv4_hdr *ip = (const void *)(c->data + c->at);
	uint32_t header_bytes, total_bytes;

	if (unlikely(c->n_readable - c->at < sizeof(*ip)))
		return LB_VERDICT_TRUNCATED_L3;
	if (unlikely(ip->version_ihl >> 4 != 4))
		return LB_VERDICT_IP_BAD_VERSION;
	header_bytes = (ip->version_ihl & 0xfu) * 4u;
	if (unlikely(header_bytes < sizeof(*ip)))
		return LB_VERDICT_IP_BAD_HEADER_LENGTH;
	if (unlikely(c->n_readable - c->at < header_bytes))
		return LB_VERDICT_TRUNCATED_L3;
	total_bytes = rte_be_to_cpu_16(ip->total_length);
	if (unlikely(total_bytes < header_bytes || total_bytes > c->frame_bytes - c->at))
		return LB_VERDICT_IP_BAD_LENGTH;
	if ((mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) != RTE_MBUF_F_RX_IP_CKSUM_GOOD &&
		unlikely(header_sum((const uint8_t *)ip, header_bytes) != 0xffffu))
		return LB_VERDICT_IP_BAD_CHECKSUM;
	if (unlikely(octet_is_bad_source[(uint8_t)ip->src_addr] ||
		    ip->src_addr == ip->dst_addr))
		return LB_VERDICT_IP_BAD_ADDRESS;
	if (unlikely(header_bytes > sizeof(*ip))) {
		uint8_t bad = check_options((const uint8_t *)(ip + 1), header_bytes - (unsigned)sizeof(*ip));

		if (bad != LB_VERDICT_FORWARD)
			return bad;
	}
	key->src = lb_addr_from_ipv4(ip->src_addr);
	key->dst = lb_addr_from_ipv4(ip->dst_addr);
	key->proto = ip->next_proto_id;
	packet->family = 4;
	if (unlikely(ip->fragment_offset & RTE_BE16(IP4_OFFSET_AND_MF)))
		packet->pending = LB_VERDICT_FRAGMENT;
	else if (unlikely(ip->time_to_live <= 1))
		packet->pending = LB_VERDICT_TTL_EXPIRED;
	c->end = c->at + total_bytes;
	c->at += header_bytes;
	return LB_VERDICT_FORWARD;
}

// Walk to the upper-layer header. A header that we do not know is the upper layer.
static uint8_t skip_ext_headers(struct cursor *c, struct lb_packet *packet, uint8_t *next)
{
	bool fragmented = false;

	for (unsigned i = 0;; i++) {
		const uint8_t *header = c->data + c->at;

		if (*next != IPPROTO_HOPOPTS && *next != IPPROTO_ROUTING && *next != IPPROTO_DSTOPTS &&
			*next != IPPROTO_FRAGMENT)
			return LB_VERDICT_FORWARD;
		if (i == MAX_EXT_HEADERS || (*next == IPPROTO_HOPOPTS && i != 0) || c->end - c->at < 8)
			return LB_VERDICT_IP6_EXT_HEADERS;
		if (c->n_readable < c->at + 8)
			return LB_VERDICT_TRUNCATED_L3;
		if (*next == IPPROTO_FRAGMENT) {
			uint16_t offset_more = (uint16_t)(header[2] << 8 | header[3]) & 0xfff9u;

			if (fragmented)
				return LB_VERDICT_IP6_EXT_HEADERS;
			fragmented = true;
			// RFC 6946: an atomic fragment (offset 0, no more) is a whole packet.
			if (offset_more != 0)
				packet->pending = LB_VERDICT_FRAGMENT;
			if (offset_more > 1)
				return LB_VERDICT_FORWARD; // what follows is in the first one
			*next = header[0];
			c->at += 8;
			continue;
		}
		if (*next == IPPROTO_ROUTING && header[3] != 0)
			return LB_VERDICT_IP6_ROUTING;
		if (c->end - c->at < (header[1] + 1u) * 8u)
			return LB_VERDICT_IP6_EXT_HEADERS;
		*next = header[0];
		c->at += (header[1] + 1u) * 8u;
		if (c->at > c->n_readable)
			return LB_VERDICT_TRUNCATED_L3;
	}
}

static inline uint8_t parse_ipv6(struct cursor *c, struct lb_packet *packet, struct lb_flow_key *key)
{
	const struct rte_ipv6_hdr *ip = (const void *)(c->data + c->at);
	uint32_t payload_bytes;
	uint8_t next;

	if (unlikely(c->n_readable - c->at < sizeof(*ip)))
		return LB_VERDICT_TRUNCATED_L3;
	if (unlikely((*(const uint8_t *)ip >> 4) != 6))
		return LB_VERDICT_IP_BAD_VERSION;
	payload_bytes = rte_be_to_cpu_16(ip->payload_len);
	if (unlikely(payload_bytes > c->frame_bytes - c->at - sizeof(*ip)))
		return LB_VERDICT_IP_BAD_LENGTH;
	memcpy(&key->src, ip->src_addr, sizeof(key->src));
	memcpy(&key->dst, ip->dst_addr, sizeof(key->dst));
	if (unlikely(source_is_bad_ipv6(&key->src) || lb_addr_equal(&key->src, &key->dst) ||
		    lb_addr_is_ipv4(&key->dst)))
		return LB_VERDICT_IP_BAD_ADDRESS;
	packet->family = 6;
	if (unlikely(ip->hop_limits <= 1))
		packet->pending = LB_VERDICT_TTL_EXPIRED;
	c->at += (uint32_t)sizeof(*ip);
	c->end = c->at + payload_bytes;
	next = ip->proto;
	if (unlikely(next != IPPROTO_TCP && next != IPPROTO_UDP)) {
		uint8_t bad = skip_ext_headers(c, packet, &next);

		if (bad != LB_VERDICT_FORWARD)
			return bad;
	}
	key->proto = next;
	return LB_VERDICT_FORWARD;
}

static inline uint8_t parse_l4(const struct cursor *c, struct lb_packet *packet, struct lb_flow_key *key)
{
	uint32_t l4_bytes = c->end - c->at;
	const struct rte_tcp_hdr *tcp = (const void *)(c->data + c->at);
	const struct rte_udp_hdr *udp = (const void *)(c->data + c->at);
	uint32_t header_bytes = key->proto == IPPROTO_TCP ? sizeof(*tcp) : sizeof(*udp);

	if (unlikely(key->proto != IPPROTO_TCP && key->proto != IPPROTO_UDP)) {
		packet->pending = LB_VERDICT_VIP_PROTOCOL;
		return LB_VERDICT_FORWARD;
	}
	if (unlikely(l4_bytes < header_bytes || c->n_readable < c->at + header_bytes))
		return LB_VERDICT_TRUNCATED_L4;
	key->sport_be = tcp->src_port; // UDP has its ports in the same place
	key->dport_be = tcp->dst_port;
	if (unlikely(key->sport_be == 0 || key->dport_be == 0))
		return LB_VERDICT_PORT_ZERO;
	if (key->proto == IPPROTO_TCP) {
		uint32_t offset_bytes = (tcp->data_off >> 4) * 4u;

		packet->tcp_flags = tcp->tcp_flags;
		if (unlikely(offset_bytes < sizeof(*tcp) || offset_bytes > l4_bytes))
			return LB_VERDICT_TCP_BAD_HEADER;
		if (unlikely((tcp->tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK | TCP_FIN)) == 0 ||
			    ((tcp->tcp_flags & TCP_SYN) && (tcp->tcp_flags & (TCP_FIN | TCP_RST)))))
			return LB_VERDICT_TCP_BAD_FLAGS;
	} else {
		uint32_t udp_bytes = rte_be_to_cpu_16(udp->dgram_len);

		packet->tcp_flags = 0;
		if (unlikely(udp_bytes < sizeof(*udp) || udp_bytes > l4_bytes))
			return LB_VERDICT_UDP_BAD_LENGTH;
	}
	return LB_VERDICT_FORWARD;
}

// @return HOST: not IP for us; FORWARD: go on with classify; else a drop reason.
static __rte_noinline uint8_t parse_one(const struct rte_mbuf *mbuf, uint64_t port_mac, struct lb_packet *packet,
	struct lb_flow_key *key)
{
	struct cursor c = {
		.data = rte_pktmbuf_mtod(mbuf, const uint8_t *),
		.n_readable = mbuf->data_len,
		.frame_bytes = mbuf->pkt_len,
		.at = RTE_ETHER_HDR_LEN,
	};
	uint16_t ether_type;
	uint64_t dst_mac;
	uint8_t bad;

	packet->wire_bytes = mbuf->pkt_len;
	packet->pending = 0;
	if (unlikely(c.n_readable < RTE_ETHER_HDR_LEN))
		return LB_VERDICT_TRUNCATED_L2;
	memcpy(&dst_mac, c.data, sizeof(dst_mac));
	if (unlikely((dst_mac & LB_MAC_MASK) != port_mac && port_mac != LB_MAC_ANY))
		return LB_VERDICT_HOST; // broadcast, multicast, or flooded to us by a switch
	memcpy(&ether_type, c.data + 12, sizeof(ether_type));
	if (unlikely(ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN))) {
		if (c.n_readable < RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN)
			return LB_VERDICT_TRUNCATED_L2;
		memcpy(&ether_type, c.data + 16, sizeof(ether_type));
		c.at += RTE_VLAN_HLEN;
		if ((c.data[14] & 0x0f) == 0x0f && c.data[15] == 0xff)
			return LB_VERDICT_VLAN_RESERVED;
		if (ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN))
			return LB_VERDICT_VLAN_STACKED;
	}
	packet->l3 = (uint16_t)c.at;
	if (likely(ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV4)))
		bad = parse_ipv4(&c, mbuf, packet, key);
	else if (ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV6))
		bad = parse_ipv6(&c, packet, key);
	else
		return ether_type == RTE_BE16(RTE_ETHER_TYPE_QINQ) ? LB_VERDICT_VLAN_STACKED
								    : LB_VERDICT_HOST;
	if (unlikely(bad != LB_VERDICT_FORWARD))
		return bad;
	packet->l4 = (uint16_t)c.at;
	if (unlikely(packet->pending == LB_VERDICT_FRAGMENT))
		return LB_VERDICT_FORWARD; // its ports may be in another fragment
	return parse_l4(&c, packet, key);
}

/* ---- the packets that traffic is made of ---- */

// The first bytes of the IP header behind an EtherType without a VLAN tag, as a little-endian word: IPv4 without
// options, and IPv6.
#define PLAIN_IPV4 0x450008u
#define PLAIN_IPV4_MASK 0xffffffu
#define PLAIN_IPV6 0x60dd86u
#define PLAIN_IPV6_MASK 0xf0ffffu

static inline uint64_t load64(const uint8_t *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
	return word;
}

static inline uint32_t load32(const uint8_t *bytes)
{
	uint32_t word;

	memcpy(&word, bytes, sizeof(word));
	return word;
}

static inline uint16_t load16(const uint8_t *bytes)
{
	uint16_t word;

	memcpy(&word, bytes, sizeof(word));
	return word;
}

// Whether the 16-bit words of 20 bytes add up to 0xffff in one's complement (RFC 1071), in 64-bit pieces: a number
// added to itself with its halves swapped has their sum, end-around carry and all, in its high half.
static inline bool sum20_is_good(uint64_t a, uint64_t b, uint32_t c)
{
	uint64_t sum = a + b;
	uint32_t high;

	sum += sum < b;
	sum += c;
	sum += sum < c;
	sum += sum << 32 | sum >> 32;
	high = (uint32_t)(sum >> 32);
	high += high << 16 | high >> 16;
	return high >= 0xffff0000u;
}

// All but service and backend, which classify fills in: the first 8 bytes in one store.
static inline void packet_set(
	struct lb_packet *packet, uint8_t family, uint8_t tcp_flags, uint16_t l4, uint32_t wire_bytes)
{
	uint64_t head = (uint64_t)family << 8 * offsetof(struct lb_packet, family) |
			(uint64_t)tcp_flags << 8 * offsetof(struct lb_packet, tcp_flags) |
			(uint64_t)RTE_ETHER_HDR_LEN << 8 * offsetof(struct lb_packet, l3) |
			(uint64_t)l4 << 8 * offsetof(struct lb_packet, l4);

	static_assert(offsetof(struct lb_packet, service) == sizeof(head) && LB_VERDICT_FORWARD == 0,
		"little endian, verdict and pending 0");
	memcpy(packet, &head, sizeof(head));
	packet->wire_bytes = wire_bytes;
}

/*
 * Which of the TCP flags FIN, SYN, RST, PSH, ACK (bits 0 to 4) may stand together: a bit for each of their 32
 * combinations. One of FIN, SYN, RST, ACK is there, and SYN goes neither with FIN nor with RST.
 */
#define FLAGS_GOOD(flags)                                                                          \
	((uint32_t)(((flags) & (TCP_SYN | TCP_RST | TCP_ACK | TCP_FIN)) != 0 &&                    \
		    (((flags) & TCP_SYN) == 0 || ((flags) & (TCP_FIN | TCP_RST)) == 0))            \
		<< (flags))
#define FLAGS_GOOD_4(flags)                                                                        \
	(FLAGS_GOOD(flags) | FLAGS_GOOD((flags) + 1) | FLAGS_GOOD((flags) + 2) | FLAGS_GOOD((flags) + 3))
#define FLAGS_GOOD_16(flags)                                                                       \
	(FLAGS_GOOD_4(flags) | FLAGS_GOOD_4((flags) + 4) | FLAGS_GOOD_4((flags) + 8) | FLAGS_GOOD_4((flags) + 12))

static inline bool tcp_flags_are_good(uint8_t flags)
{
	return (FLAGS_GOOD_16(0) | FLAGS_GOOD_16(16)) >> (flags & 31) & 1;
}

// What parse_l4() checks. @p at: the TCP or UDP header, of which @p l4_bytes belong to the IP packet.
static inline __attribute__((always_inline)) bool parse_plain_l4(const uint8_t *frame, uint32_t n_readable,
	uint32_t at, uint32_t l4_bytes, uint8_t proto, uint8_t family, uint32_t wire_bytes,
	struct lb_packet *packet, struct lb_flow_key *key)
{
	const uint8_t *l4 = frame + at;
	uint8_t flags = 0;
	uint64_t ports;

	if (likely(proto == IPPROTO_TCP)) {
		if (unlikely(n_readable < at + 20) || unlikely(l4_bytes < 20))
			return false;
		flags = l4[13];
		// the header's length is in the high four bits, in words
		if (unlikely(l4[12] < 0x50) || unlikely((l4[12] >> 2 & 0x3cu) > l4_bytes) ||
			unlikely(!tcp_flags_are_good(flags)))
			return false;
	} else {
		uint32_t udp_bytes;

		// the caller has seen to it that there are 8 bytes
		if (unlikely(proto != IPPROTO_UDP))
			return false;
		udp_bytes = rte_be_to_cpu_16(load16(l4 + 4));
		if (unlikely(udp_bytes < 8) || unlikely(udp_bytes > l4_bytes))
			return false;
	}
	ports = load32(l4);
	if (unlikely((uint16_t)ports == 0) || unlikely(ports <= UINT16_MAX))
		return false;
	ports |= (uint64_t)proto << 32; // one store: ports, protocol, zeros
	memcpy(&key->sport_be, &ports, sizeof(ports));
	packet_set(packet, family, flags, (uint16_t)at, wire_bytes);
	return true;
}

// What is to be equal in a frame's first bytes: its destination MAC, unless all are taken.
struct mac_rule {
	uint64_t mask, mac;
};

/*
 * A whole TCP or UDP packet without VLAN tag, options or extension headers, with nothing wrong: nearly all of
 * them, in a fraction of the instructions of parse_one(), which it must agree with. False, and the key may have been
 * written, if there is anything else to it.
 */
static inline __attribute__((always_inline)) bool parse_plain(const struct rte_mbuf *mbuf, struct mac_rule rule,
	struct lb_packet *packet, struct lb_flow_key *key)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const uint8_t *ip = frame + RTE_ETHER_HDR_LEN;
	uint32_t n_readable = mbuf->data_len, wire_bytes = mbuf->pkt_len;
	uint32_t type;

	if (unlikely(n_readable < RTE_ETHER_HDR_LEN + 20 + 8) ||
		unlikely((load64(frame) & rule.mask) != rule.mac))
		return false;
	type = load32(frame + 12);
	if (likely((type & PLAIN_IPV4_MASK) == PLAIN_IPV4)) {
		uint64_t a = load64(ip), b = load64(ip + 8);
		uint32_t src = load32(ip + 12), dst = load32(ip + 16);
		// below 20 it wraps to what no frame has
		uint32_t l4_bytes = rte_be_to_cpu_16(load16(ip + 2)) - 20u;

		if (unlikely(l4_bytes > wire_bytes - (RTE_ETHER_HDR_LEN + 20)) ||
			unlikely(a & (uint64_t)RTE_BE16(IP4_OFFSET_AND_MF) << 48) || unlikely((uint8_t)b <= 1) ||
			unlikely(octet_is_bad_source[(uint8_t)src]) || unlikely(src == dst))
			return false;
		if ((mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) != RTE_MBUF_F_RX_IP_CKSUM_GOOD &&
			unlikely(!sum20_is_good(a, b, dst)))
			return false;
		key->src.u64[0] = 0;
		key->src.u64[1] = (uint64_t)src << 32 | LB_ADDR_V4_PREFIX;
		key->dst.u64[0] = 0;
		key->dst.u64[1] = (uint64_t)dst << 32 | LB_ADDR_V4_PREFIX;
		// UDP's 8 bytes are in the frame; whether they are in the packet, its own length tells
		return parse_plain_l4(frame, n_readable, RTE_ETHER_HDR_LEN + 20, l4_bytes, ip[9], 4, wire_bytes,
			packet, key);
	}
	if ((type & PLAIN_IPV6_MASK) == PLAIN_IPV6 && n_readable >= RTE_ETHER_HDR_LEN + 40 + 8) {
		uint32_t payload_bytes = rte_be_to_cpu_16(load16(ip + 4));

		memcpy(&key->src, ip + 8, sizeof(key->src));
		memcpy(&key->dst, ip + 24, sizeof(key->dst));
		if (unlikely(payload_bytes > wire_bytes - (RTE_ETHER_HDR_LEN + 40)) || unlikely(ip[7] <= 1) ||
			unlikely(source_is_bad_ipv6(&key->src)) ||
			unlikely(lb_addr_equal(&key->src, &key->dst)) || unlikely(key->dst.u64[0] == 0))
			return false;
		return parse_plain_l4(frame, n_readable, RTE_ETHER_HDR_LEN + 40, payload_bytes, ip[6], 6,
			wire_bytes, packet, key);
	}
	return false;
}

// One packet. @return whether it is IP that may be for us: it stays in the list.
static inline bool parse(struct lb_burst *burst, unsigned i, struct mac_rule rule, uint64_t port_mac)
{
	const struct rte_mbuf *mbuf = burst->mbufs[i];
	struct lb_packet *packet = &burst->packets[i];
	struct lb_flow_key *key = &burst->keys[i];

	if (likely(parse_plain(mbuf, rule, packet, key))) {
		if (packet->family == 6) {
			burst->plain6 |= UINT32_C(1) << i;
			return true;
		}
		burst->keys4[i] = lb_flow_key_shorten(key);
		burst->short_keys |= UINT32_C(1) << i;
		return true;
	}
	packet->verdict = parse_one(mbuf, port_mac, packet, key);
	return packet->verdict == LB_VERDICT_FORWARD;
}

#ifdef __AVX2__
// Packets i to i + 7, the first of which looks like @p family; @p n_ip are in the list so far. @return how many are by now.
static inline __attribute__((always_inline)) unsigned parse_eight(struct lb_burst *burst, unsigned i, unsigned n_ip,
	const struct lb_eight_mac *mac, struct mac_rule rule, uint64_t port_mac, unsigned family)
{
	static const struct lb_eight_constants constants __attribute__((aligned(64))) =
		LB_EIGHT_CONSTANTS(FLAGS_GOOD_16(0) | FLAGS_GOOD_16(16));
	uint64_t list = UINT64_C(0x0706050403020100) + i * UINT64_C(0x0101010101010101);
	uint32_t plain;

	if (family == 4) {
		plain = lb_parse_eight4(&burst->mbufs[i], &constants, mac, &burst->packets[i], &burst->keys4[i]);
		burst->short_keys |= plain << i;
	} else {
		plain = lb_parse_eight6(&burst->mbufs[i], &constants, mac, &burst->packets[i], &burst->keys[i]);
		burst->plain6 |= plain << i;
	}
	if (likely(plain == 0xff)) {
		memcpy(&burst->ip_list[n_ip], &list, sizeof(list)); // n_ip <= i <= LB_BURST - 8
		return n_ip + 8;
	}
	for (unsigned k = i; k < i + 8; k++) {
		burst->ip_list[n_ip] = (uint8_t)k;
		n_ip += (plain >> (k - i) & 1) != 0 ||
			parse(burst, k, rule, port_mac);
	}
	return n_ip;
}

// 0: nothing of which there may be eight.
static inline uint16_t ether_type_be(const struct rte_mbuf *mbuf)
{
	return mbuf->data_len >= LB_EIGHT_MIN_BYTES
		       ? load16(rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, 12))
		       : 0;
}
#endif

void lb_stage_parse(struct lb_worker *worker, struct lb_burst *burst)
{
	uint64_t port_mac = worker->port_macs[burst->port];
	uint64_t mask = port_mac == LB_MAC_ANY ? 0 : LB_MAC_MASK;
	struct mac_rule rule = {.mask = mask, .mac = port_mac & mask};
	unsigned n = burst->n, n_ip = 0, i = 0;
#ifdef __AVX2__
	struct lb_eight_mac mac = lb_eight_mac(rule.mask, rule.mac);
#endif

	burst->mostly_services = (worker->fetch_ports >> burst->port & 1) != 0;
	burst->mostly_hits = (worker->fetch_ports & worker->fast_ports) >> burst->port & 1;
	burst->mostly_strangers = !burst->mostly_services && (worker->stranger_ports >> burst->port & 1) != 0 &&
				  atomic_load_explicit(&worker->dp->fullnat, memory_order_relaxed) == NULL;
	burst->short_keys = 0;
	burst->plain6 = 0;
	while (i < n) {
#ifdef __AVX2__
		uint16_t type_be = i + 8 <= n ? ether_type_be(burst->mbufs[i]) : 0;

		if (likely(type_be == RTE_BE16(RTE_ETHER_TYPE_IPV4)) || type_be == RTE_BE16(RTE_ETHER_TYPE_IPV6)) {
			n_ip = likely(type_be == RTE_BE16(RTE_ETHER_TYPE_IPV4))
				       ? parse_eight(burst, i, n_ip, &mac, rule, port_mac, 4)
				       : parse_eight(burst, i, n_ip, &mac, rule, port_mac, 6);
			i += 8;
			continue;
		}
#endif
		burst->ip_list[n_ip] = (uint8_t)i;
		n_ip += parse(burst, i, rule, port_mac);
		i++;
	}
	burst->n_ip = n_ip;
	burst->n_odd = 0;
	burst->n_answer = 0;
	burst->answered = 0;
	burst->held = 0;
	burst->settled = 0;
	burst->misses = 0;
}
