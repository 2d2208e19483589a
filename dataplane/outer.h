/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_OUTER_H
#define LB_DATAPLANE_OUTER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_udp.h>

#include "dataplane/checksum.h"
#include "dataplane/encap.h"

/*
 * What of an outer header depends on the packet in it: see encap.c. Where the caller knows families, protocols and offsets,
 * so does what comes of these. Of ntohs() the compiler knows what it is; rte_be_to_cpu_16() is inline assembly.
 */

#define LB_OUTER_ENTROPY_PORT_MASK 0x3fffu
#define LB_OUTER_FLOW_LABEL_MASK 0xfffffu

/* draft-ietf-intarea-gue, section 3.2: version 0, a data message, no optional fields. */
struct lb_gue_hdr {
	uint8_t version_control_hlen;
	uint8_t proto;
	uint16_t flags;
};

struct lb_udp_gue_hdr {
	struct rte_udp_hdr udp;
	struct lb_gue_hdr gue;
};
static_assert(sizeof(struct lb_udp_gue_hdr) == 12, "summed in 4-byte words");

/* Bytes of the IP packet at @p l3, as it says. */
static inline uint32_t lb_outer_inner_bytes(const uint8_t *l3, uint8_t family)
{
	uint16_t length_be;

	memcpy(&length_be, l3 + (family == 4 ? 2 : 4), sizeof(length_be));
	return ntohs(length_be) + (family == 4 ? 0u : 40u);
}

static inline uint8_t lb_outer_traffic_class(const uint8_t *l3, uint8_t family)
{
	return family == 4 ? l3[1] : (uint8_t)(l3[0] << 4 | l3[1] >> 4);
}

/**
 * Sum of a whole IP packet of @p n_bytes without reading it: an IPv4 header sums up to 0, and TCP or UDP with its checksum to
 * the complement of its pseudo header, whose addresses cancel out those of an IPv6 header. If the inner checksum is wrong,
 * so is what we make of it, and the packet is dropped one header earlier.
 * @param l3, l4 offsets of its headers in the frame.
 */
static inline uint64_t lb_outer_inner_sum(
	const struct rte_mbuf *mbuf, uint16_t l3, uint16_t l4, uint8_t family, uint8_t proto, uint32_t n_bytes)
{
	const uint8_t *header = rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, l3);
	const struct rte_ipv4_hdr *ipv4 = (const void *)header;
	const struct rte_udp_hdr *udp = rte_pktmbuf_mtod_offset(mbuf, const struct rte_udp_hdr *, l4);
	uint16_t l4_bytes_be = htons((uint16_t)(n_bytes - (l4 - l3)));
	bool whole = family == 4 ? (ipv4->fragment_offset & RTE_BE16(0x3fff)) == 0 : l4 == l3 + 40;

	if (likely(whole && (proto == IPPROTO_TCP || (proto == IPPROTO_UDP && udp->dgram_cksum != 0 &&
							    udp->dgram_len == l4_bytes_be)))) {
		uint64_t pseudo = (uint64_t)l4_bytes_be + htons(proto);

		if (family == 4)
			return (uint16_t)~lb_sum_fold(pseudo + ipv4->src_addr + ipv4->dst_addr);
		return lb_sum_of(header, 8) + (uint16_t)~lb_sum_fold(pseudo);
	}
	// Fragments, UDP without checksum, extension headers: rare.
	return lb_sum_mbuf(mbuf, l3, n_bytes);
}

/* Room for an outer header in front of a packet in one segment, which has it (headroom.h). Its Ethernet padding goes. */
static inline void lb_outer_grow(struct rte_mbuf *mbuf, uint16_t l3, unsigned n_outer, uint32_t inner_bytes)
{
	mbuf->data_off = (uint16_t)(mbuf->data_off - n_outer);
	mbuf->data_len = (uint16_t)(l3 + n_outer + inner_bytes);
	mbuf->pkt_len = l3 + n_outer + inner_bytes;
}

/* The first two bytes of an IPv4 header without options, as they lie in memory. */
static inline uint16_t lb_outer_first_word(uint8_t tos)
{
	return (uint16_t)(0x45u | (uint32_t)tos << 8);
}

/** @p first: see lb_outer_first_word(). */
static inline void lb_outer_finish_ipv4(uint8_t *outer, const struct lb_encap *encap, uint16_t first, uint32_t n_bytes)
{
	uint16_t length_be = htons((uint16_t)n_bytes);
	uint32_t word = first | (uint32_t)length_be << 16;

	memcpy(outer, &word, sizeof(word));
	((struct rte_ipv4_hdr *)(void *)outer)->hdr_checksum =
		lb_checksum_change(lb_checksum_change(encap->ip_checksum, first), length_be);
}

static inline void lb_outer_finish_ipv6(uint8_t *outer, uint64_t hash, uint8_t tos, uint32_t n_bytes)
{
	struct rte_ipv6_hdr *ip = (void *)outer;

	ip->vtc_flow = htonl(0x60000000u | (uint32_t)tos << 20 | ((uint32_t)hash & LB_OUTER_FLOW_LABEL_MASK));
	ip->payload_len = htons((uint16_t)(n_bytes - sizeof(*ip)));
}

static inline void lb_outer_finish_udp(uint8_t *outer_l4, uint64_t hash, uint32_t n_bytes)
{
	struct rte_udp_hdr *udp = (void *)outer_l4;

	udp->src_port = htons((uint16_t)(LB_ENCAP_ENTROPY_PORTS | (hash & LB_OUTER_ENTROPY_PORT_MASK)));
	udp->dgram_len = htons((uint16_t)n_bytes);
}

// With RFC 768's rule: a sum of zero is sent as all ones.
static inline void lb_outer_finish_udp6_checksum(uint8_t *outer_l4, const struct lb_encap *encap, uint64_t payload_sum)
{
	struct rte_udp_hdr *udp = (void *)outer_l4;
	uint16_t checksum = (uint16_t)~lb_sum_fold(payload_sum + encap->udp_sum + udp->src_port + 2u * udp->dgram_len);

	udp->dgram_cksum = checksum != 0 ? checksum : 0xffff;
}

#endif
