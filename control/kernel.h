/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_KERNEL_H
#define LB_CONTROL_KERNEL_H

#include <event2/event.h>

#include "lb/addr.h"

/*
 * What the kernel knows of next hops: a mirror of its links, routes (main table, unicast and
 * connected) and neighbours of chosen interfaces, over netlink (libmnl), kept up to date by its
 * notifications. The kernel resolves; we ask it to (NTF_USE) and watch. Everything from one
 * libevent loop, nothing blocks.
 *
 * And what it takes for itself: the local addresses of this network namespace, of any interface.
 *
 * Neighbours follow their notifications. Routes do not: Linux drops routes without a word when a
 * link or an address goes, and what an appended or replaced one means depends on those before it.
 * So whatever may have changed them asks for a fresh dump, some milliseconds later and never more
 * than a part of the time.
 */
struct lb_kernel;

struct lb_kernel_route {
	struct lb_addr prefix;
	uint8_t family; /* 4, 6 */
	uint8_t length; /* 0..32, 0..128 */
	uint32_t ifindex;
	struct lb_addr gateway; /* of any family; all zero: connected, the destination itself */
	uint32_t metric;
};

struct lb_kernel_callbacks {
	/*
	 * The set of routes or of local addresses changed (any number at once; debounced to one
	 * call per loop turn). Also once when all of their first dumps are complete, even if they
	 * are empty: lookups tell the truth from then on.
	 */
	void (*routes_changed)(void *arg);
	/*
	 * A unicast neighbour of one of the interfaces, watched or not, became known, changed its
	 * MAC, or was lost (resolved = false, mac is all zero). Also once for each that is known
	 * when the mirror starts. A watched one that is lost is asked for again at once and
	 * reported only if that brings nothing for a second, so that a flushed table interrupts
	 * nobody.
	 */
	void (*neighbour_changed)(void *arg, uint32_t ifindex, const struct lb_addr *addr,
		const uint8_t mac[6], bool resolved);
};

struct lb_kernel_stats {
	uint64_t n_dumps;       /* complete */
	uint64_t n_interrupted; /* dumps that the kernel's tables changed under, made again */
	uint64_t n_resyncs;     /* notifications were lost: everything dumped afresh */
	uint64_t n_invalid;     /* messages with an impossible length or value, ignored */
	uint64_t n_asked;       /* requests to resolve a neighbour */
	uint64_t n_refused;     /* requests that the kernel answered with an error */
	uint32_t n_neighbours;  /* now held, resolved or not */
	uint32_t n_watched;     /* of these */
};

/**
 * Open a netlink socket in the network namespace of the caller, subscribe, and begin to dump.
 * Callbacks come from the loop, never from inside a call; they may call anything but
 * lb_kernel_destroy(). ENOBUFS (lost notifications) is handled by a fresh dump.
 * @param ifindexes  (@p n_ifindexes, copied) routes out of these and neighbours on them are
 * mirrored; only routes whose link is up and has a carrier; of a multipath route the first nexthop
 * that is usable and on one of these. Of none (0): only the local addresses are mirrored.
 * @return 0; -ENOMEM; -errno of the socket calls.
 */
int lb_kernel_create(struct event_base *base, const uint32_t *ifindexes, size_t n_ifindexes,
	const struct lb_kernel_callbacks *callbacks, void *arg, struct lb_kernel **out);

/** NULL is ignored. */
void lb_kernel_destroy(struct lb_kernel *kernel);

void lb_kernel_stats(const struct lb_kernel *kernel, struct lb_kernel_stats *stats);

/**
 * Whether every dump asked for has ended and was reported: what is held is what the kernel has. Not
 * so for a moment after the start, and after whatever makes it dump afresh.
 */
bool lb_kernel_is_complete(const struct lb_kernel *kernel);

/**
 * All mirrored routes, one per prefix (that of the lowest metric), IPv4 before IPv6, longer
 * prefixes first; valid until the loop runs on. NULL if none.
 */
const struct lb_kernel_route *lb_kernel_routes(const struct lb_kernel *kernel, size_t *n_routes);

/** The best route to @p addr: longest prefix, lowest metric. @return 0; -ENOENT. */
int lb_kernel_lookup(
	const struct lb_kernel *kernel, const struct lb_addr *addr, struct lb_kernel_route *route);

/**
 * What the kernel takes for its own: the local routes of its table "local", link-local ones among
 * them, without loopback (127.0.0.0/8, ::1). Each is an address of some interface, or, by "ip route
 * add local", a whole prefix. Only prefix, family and length are set; ordered as
 * lb_kernel_routes(); valid until the loop runs on. NULL if none.
 */
const struct lb_kernel_route *lb_kernel_locals(const struct lb_kernel *kernel, size_t *n_locals);

/** Whether @p addr is one of these. */
bool lb_kernel_is_local(const struct lb_kernel *kernel, const struct lb_addr *addr);

/**
 * Keep @p addr on @p ifindex resolved: ask the kernel now and whenever the entry goes stale or
 * fails (with a back-off of 1 to 30 s), until unwatched; results arrive by neighbour_changed (at
 * once, from the loop, if already known). Watches are counted: as many unwatches end them.
 * @return 0; -ENOMEM; -EINVAL: @p ifindex is none of the interfaces.
 */
int lb_kernel_watch(struct lb_kernel *kernel, uint32_t ifindex, const struct lb_addr *addr);

/** Undo one watch; what was never watched is ignored. */
void lb_kernel_unwatch(struct lb_kernel *kernel, uint32_t ifindex, const struct lb_addr *addr);

#endif
