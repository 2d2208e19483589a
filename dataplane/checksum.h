/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_CHECKSUM_H
#define LB_DATAPLANE_CHECKSUM_H

#include <stdint.h>
#include <string.h>

#include <netinet/in.h>

#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "lb/addr.h"

/*
 * One's complement sums over 16-bit words as they lie in memory: the same whatever the byte order (RFC 1071,
 * section 2, B). What lies at an odd distance from where the checksum's words begin is not for these.
 */

/** Sum of @p n_words words, folded. */
static inline uint16_t lb_sum_words(const void *bytes, unsigned n_words)
{
	const uint8_t *b = bytes;
	uint32_t sum = 0;

	for (unsigned i = 0; i < n_words; i++) {
		uint16_t word;

		memcpy(&word, b + 2 * i, 2);
		sum += word;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

static inline uint16_t lb_sum_add(uint32_t a, uint32_t b)
{
	uint32_t sum = a + b;

	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/** @p sum folded. */
static inline uint16_t lb_sum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffffu) + (sum >> 32);
	sum = (sum & 0xffffu) + (sum >> 16);
	sum = (sum & 0xffffu) + (sum >> 16);
	return (uint16_t)((sum & 0xffffu) + (sum >> 16));
}

/** Sum of @p n_bytes (a multiple of 4) in 4-byte words, not folded. */
static inline uint64_t lb_sum_of(const void *bytes, unsigned n_bytes)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n_bytes; i += 4) {
		uint32_t word;

		memcpy(&word, (const uint8_t *)bytes + i, 4);
		sum += word;
	}
	return sum;
}

/**
 * Checksum of the IPv4 header at @p ip, which has no options and 0 in the checksum's place. Of bytes, however they were
 * written: DPDK's rte_ipv4_cksum() reads the length from a union, and expects nobody to have written it as anything else.
 */
static inline uint16_t lb_checksum_ipv4(const void *ip)
{
	return (uint16_t)~lb_sum_fold(lb_sum_of(ip, sizeof(struct rte_ipv4_hdr)));
}

/**
 * Sum of @p n_bytes of a packet from @p offset on, over all its segments; what is not there does not count. DPDK's own
 * rte_raw_cksum_mbuf() (22.11) loses carries where a segment ends at an odd place.
 */
static inline uint16_t lb_sum_mbuf(const struct rte_mbuf *mbuf, uint32_t offset, uint32_t n_bytes)
{
	uint32_t n_done = 0;
	uint16_t sum = 0;

	for (; mbuf != NULL && n_done < n_bytes; mbuf = mbuf->next) {
		uint32_t n = mbuf->data_len > offset ? RTE_MIN(mbuf->data_len - offset, n_bytes - n_done) : 0;
		uint16_t part = n != 0 ? rte_raw_cksum(rte_pktmbuf_mtod_offset(mbuf, const void *, offset), n) : 0;

		sum = lb_sum_add(sum, n_done % 2 != 0 ? rte_bswap16(part) : part);
		n_done += n;
		offset -= RTE_MIN(offset, (uint32_t)mbuf->data_len);
	}
	return sum;
}

/** ~m + m' of RFC 1624, eqn. 3, for sums m and m' of what was and what is. */
static inline uint16_t lb_sum_change(uint16_t from, uint16_t to)
{
	return lb_sum_add((uint16_t)~from, to);
}

/** The change when one address becomes another, also of IPv4: the mapped form's prefix is common to both. */
static inline uint16_t lb_sum_address_change(const struct lb_addr *from, const struct lb_addr *to)
{
	return lb_sum_change(lb_sum_words(from, 8), lb_sum_words(to, 8));
}

/**
 * HC' = ~(~HC + ~m + m'), as HC - (~m + m') in one's complement: a subtraction whose borrow is taken off again. The
 * two agree in every case, zeros of either kind included.
 */
static inline uint16_t lb_checksum_change(uint16_t checksum, uint16_t change)
{
	uint16_t less;
	bool borrow = __builtin_sub_overflow(checksum, change, &less);

	return (uint16_t)(less - borrow);
}

/**
 * The same to the checksum in a TCP or UDP header. A zero of UDP says that there is none (RFC 768); one that comes out as zero
 * is not to be taken for that.
 */
static inline void lb_checksum_change_l4(uint8_t *l4, uint8_t proto, uint16_t change)
{
	if (proto == IPPROTO_TCP) {
		struct rte_tcp_hdr *tcp = (void *)l4;

		tcp->cksum = lb_checksum_change(tcp->cksum, change);
	} else {
		struct rte_udp_hdr *udp = (void *)l4;

		if (udp->dgram_cksum == 0)
			return;
		udp->dgram_cksum = lb_checksum_change(udp->dgram_cksum, change);
		if (udp->dgram_cksum == 0)
			udp->dgram_cksum = 0xffff;
	}
}

#endif
