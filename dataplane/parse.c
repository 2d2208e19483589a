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

static inline bool source_is_bad_ipv4(uint32_t src)
{
	// 0/8 (RFC 1122, 3.2.1.3), 127/8, multicast, reserved and broadcast
	return (src >> 24) == 0 || (src >> 24) == 127 || src >= 0xe0000000u;
}

static inline bool source_is_bad_ipv6(const struct lb_addr *src)
{
	// multicast; ::/96 holds unspecified, loopback and the old compatible form; mapped addresses
	return src->bytes[0] == 0xff ||
	       (src->u64[0] == 0 && (src->u32[2] == 0 || src->u32[2] == LB_ADDR_V4_PREFIX));
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
	if (unlikely(source_is_bad_ipv4(rte_be_to_cpu_32(ip->src_addr)) ||
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
			// RFC 6946: an atomic fragment (offset 0, no more) is a whole packet in disguise,
			// but its header would have to be rewritten with it: dropped as a fragment too.
			packet->pending = LB_VERDICT_FRAGMENT;
			return LB_VERDICT_FORWARD;
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
static inline uint8_t parse_one(const struct rte_mbuf *mbuf, uint64_t port_mac, struct lb_packet *packet,
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

void lb_stage_parse(struct lb_worker *worker, struct lb_burst *burst)
{
	uint64_t port_mac = worker->port_macs[burst->port];

	burst->n_ip = 0;
	for (unsigned i = 0; i < burst->n; i++) {
		uint8_t verdict = parse_one(
			burst->mbufs[i], port_mac, &burst->packets[i], &burst->keys[i]);

		burst->packets[i].verdict = verdict;
		burst->ip_list[burst->n_ip] = (uint8_t)i;
		burst->n_ip += verdict == LB_VERDICT_FORWARD;
	}
}
