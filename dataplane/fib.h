/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_FIB_H
#define LB_DATAPLANE_FIB_H

#include <stdatomic.h>

#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_hash.h>

#include "lb/msg.h"
#include "lb/shm.h"

/*
 * Next hops and routes. A next hop is one 64-bit word, so that a worker reads MAC and port in one load,
 * whenever the main lcore changes them. Routes live in rte_fib / rte_fib6, changed in place: after each
 * removal the caller waits for a grace period before the next change, so that a group of entries is never
 * reused under a reader (22.11's rte_fib has no RCU of its own).
 */

/* | port 6 | rule for VLAN tags 10 | MAC 48 (byte 0 lowest) |; port 63: not resolved. */
#define LB_NEXTHOP_UNRESOLVED UINT64_MAX
#define LB_NEXTHOP_PORTS 64u
static_assert(LB_SHM_MAX_PORTS < LB_NEXTHOP_PORTS, "ports of next-hop words");

static inline uint16_t lb_nexthop_port(uint64_t word)
{
	return (uint16_t)(word >> 58);
}

#define LB_FIB_N_VLANS 1024u /* rules: 0 is LB_VLAN_KEEP */

/** The word of a next hop without a rule for tags; its MAC, byte 0 lowest, is to be or-ed in. */
static inline uint64_t lb_nexthop_of_port(uint16_t port)
{
	return (uint64_t)port << 58;
}

#define LB_FIB_N_NEXTHOPS (LB_MAX_NEXTHOPS + 1u) /* the last one is fib.c's own */

struct lb_fib {
	struct rte_fib *ipv4;
	struct rte_fib6 *ipv6;
	_Atomic uint64_t *nexthops; /* LB_FIB_N_NEXTHOPS words; main lcore: wo, workers: ro */
	_Atomic uint32_t single[2];  /* per family: the one next hop of all routes incl. a default one; 0: look up */
	/* main lcore: wo, workers: ro. LB_VLAN_*, by the number in next-hop words; written before one has it, and then
	 * never changed: a word that a worker still has keeps its meaning. */
	_Atomic uint16_t vlans[LB_FIB_N_VLANS];
	_Atomic uint32_t n_vlans; /* from 1 on; 0: frames keep what they have */
	/* main lcore only */
	uint32_t n_routes[2];
	uint16_t default_nexthop[2];
	struct rte_hash *routes; /* family, prefix -> position in the next two */
	uint16_t *route_nexthops;
	bool *route_mentioned;
	struct lb_nexthop_info {
		uint32_t refs; /* routes and backends that name it */
		uint32_t n_routes[2]; /* per family */
		bool in_use, mentioned;
	} *info;
};

/** What a next-hop word says of VLAN tags: LB_VLAN_*. */
static inline uint16_t lb_fib_vlan(const struct lb_fib *fib, uint64_t word)
{
	return atomic_load_explicit(&fib->vlans[word >> 48 & (LB_FIB_N_VLANS - 1)], memory_order_relaxed);
}

/** @return 0, -ENOMEM (with --no-huge: give EAL -m 256 or more). */
int lb_fib_init(struct lb_fib *fib);
void lb_fib_fini(struct lb_fib *fib);

/** Commands, see lb/msg.h. @p n_ports: DPDK ports there are. After
 * a successful removal the caller lets a grace period pass before the next change. */
int lb_fib_nexthop_set(struct lb_fib *fib, const struct lb_msg_nexthop *msg, unsigned n_ports);
int lb_fib_nexthop_del(struct lb_fib *fib, uint16_t id);
/** @return as above, or 1: done, but as after a removal a grace period has to pass. */
int lb_fib_route_set(struct lb_fib *fib, const struct lb_msg_route *msg);
int lb_fib_route_del(struct lb_fib *fib, const struct lb_msg_route *msg);

/** Count a backend's use of next hop @p id (0: none). @return 0, -ENOENT. */
int lb_fib_nexthop_hold(struct lb_fib *fib, uint16_t id);
void lb_fib_nexthop_release(struct lb_fib *fib, uint16_t id);

static inline uint64_t lb_fib_nexthop_word(const struct lb_fib *fib, uint64_t id)
{
	if (unlikely(id >= LB_FIB_N_NEXTHOPS))
		return LB_NEXTHOP_UNRESOLVED;
	return atomic_load_explicit(&fib->nexthops[id], memory_order_relaxed);
}

/**
 * Where packets to @p dst, of @p family (4 or 6), leave: for a single one; the rewrite stage looks up whole
 * bursts. @return a next-hop id; LB_NEXTHOP_NONE: no route. Worker.
 */
uint64_t lb_fib_lookup(const struct lb_fib *fib, unsigned family, const struct lb_addr *dst);

/** Full sync: forget what was mentioned; remove what was not (routes first, then next hops). */
void lb_fib_sync_begin(struct lb_fib *fib);
void lb_fib_sync_end_routes(struct lb_fib *fib, void (*grace)(void *arg), void *arg);
void lb_fib_sync_end_nexthops(struct lb_fib *fib);

#endif
