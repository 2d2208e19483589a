/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_REWRITE_H
#define LB_DATAPLANE_REWRITE_H

#include <netinet/in.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "dataplane/checksum.h"
#include "dataplane/dp.h"

/**
 * Precompute the checksum differences of @p backend from its addresses and ports (RFC 1624, eqn. 3). Before
 * anything refers to it. Main lcore.
 */
void lb_rewrite_prepare(struct lb_backend *backend);

/**
 * The 14 bytes of an Ethernet header without a tag, in two stores: what the first one writes of the port beside the MAC
 * address, the second covers.
 * @param nexthop next-hop word: destination MAC and port. @param source lb_worker_source(). Worker.
 */
static inline void lb_write_ethernet(uint8_t *frame, uint64_t nexthop, uint64_t source)
{
	memcpy(frame, &nexthop, 8);
	memcpy(frame + 6, &source, 8);
}

/**
 * What is taken off an IPv4 header's third word, which holds TTL, protocol and checksum: one of the TTL, and the checksum's
 * difference @p sum (RFC 1624), that of the TTL included.
 */
static inline uint32_t lb_ip_difference(uint16_t sum)
{
	return (uint32_t)sum << 16 | 1;
}

/* What mode nat changes of a packet. */
struct lb_change {
	const struct lb_addr *addr;
	uint16_t port_be; /* 0: keep */
	uint16_t l4_sum;
	uint32_t ip; /* lb_ip_difference() */
	bool source; /* which side is rewritten */
};

static inline struct lb_change lb_change_to_backend(const struct lb_backend *backend)
{
	return (struct lb_change){.addr = &backend->addr,
		.port_be = backend->port_be,
		.ip = backend->to_backend_ip,
		.l4_sum = backend->to_backend_l4_sum,
		.source = false};
}

static inline struct lb_change lb_change_to_client(const struct lb_backend *backend)
{
	return (struct lb_change){.addr = &backend->vip,
		.port_be = backend->vip_port_be,
		.ip = lb_ip_difference(backend->to_client_ip_sum),
		.l4_sum = backend->to_client_l4_sum,
		.source = true};
}

/*
 * TTL and checksum of an IPv4 header by lb_ip_difference(). The TTL is 2 at least: it does not borrow of what lies above it.
 */
static inline void lb_change_ipv4_word(uint8_t *l3, uint32_t difference)
{
	uint32_t word, less;
	bool borrow;

	memcpy(&word, l3 + 8, sizeof(word));
	borrow = __builtin_sub_overflow(word, difference, &less);
	less += -(uint32_t)borrow << 16; // see lb_checksum_change()
	memcpy(l3 + 8, &less, sizeof(less));
}

/* One hop more, and nothing else. */
static inline void lb_decrement_ttl(uint8_t *l3, unsigned family)
{
	if (family == 4)
		lb_change_ipv4_word(l3, lb_ip_difference((uint16_t)~RTE_BE16(0x0100)));
	else
		((struct rte_ipv6_hdr *)l3)->hop_limits--;
}

static inline void lb_change_l3(uint8_t *l3, unsigned family, const struct lb_change *change)
{
	if (family == 4) {
		memcpy(l3 + (change->source ? 12 : 16), &change->addr->u32[3], 4);
		lb_change_ipv4_word(l3, change->ip);
	} else {
		memcpy(l3 + (change->source ? 8 : 24), change->addr, 16);
		lb_decrement_ttl(l3, family);
	}
}

static inline void lb_change_l4(uint8_t *l4, uint8_t proto, const struct lb_change *change)
{
	if (change->port_be != 0)
		memcpy(l4 + (change->source ? 0 : 2), &change->port_be, 2);
	lb_checksum_change_l4(l4, proto, change->l4_sum);
}

/** All of that, and both MACs, to a plain packet (burst.h) of @p family: every offset is a constant. Worker. */
static inline __attribute__((always_inline)) void lb_rewrite_plain(uint8_t *frame, uint64_t nexthop,
	uint64_t source, unsigned family, uint8_t proto, const struct lb_change *change)
{
	uint8_t *l3 = frame + RTE_ETHER_HDR_LEN;

	lb_write_ethernet(frame, nexthop, source);
	lb_change_l3(l3, family, change);
	lb_change_l4(l3 + (family == 4 ? 20 : 40), proto, change);
}

#endif
