/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_KERNEL_H
#define LB_CONTROL_KERNEL_H

#include <event2/event.h>

#include "lb/addr.h"

/*
 * What the kernel knows of next hops: a mirror of its links, addresses, routes (main table, unicast and
 * connected) and neighbours of chosen interfaces, over netlink (libmnl), kept up to date by its
 * notifications. The kernel resolves; we ask it to (NTF_USE) and watch.
 */
struct lb_kernel;

struct lb_kernel_route {
	struct lb_addr prefix;
	uint8_t family; /* 4, 6 */
	uint8_t length; /* 0..32, 0..128 */
	uint32_t ifindex;
	struct lb_addr gateway; /* all zero: connected, the next hop is the destination itself */
};

struct lb_kernel_callbacks {
	/* The set of routes changed (any number at once; debounced to one call per loop turn). */
	void (*routes_changed)(void *arg);
	/*
	 * A unicast neighbour of one of the interfaces, watched or not, became known, changed its MAC, or was
	 * lost (resolved = false, mac is all zero). Also once for each that is known when the mirror starts.
	 */
	void (*neighbour_changed)(void *arg, uint32_t ifindex, const struct lb_addr *addr,
		const uint8_t mac[6], bool resolved);
};

/**
 * Open netlink sockets, dump, subscribe. @return 0; -errno. ENOBUFS (lost notifications) is handled by a
 * fresh dump. Only routes out of the interfaces in @p ifindexes (n_ifindexes) are mirrored.
 */
int lb_kernel_create(struct event_base *base, const uint32_t *ifindexes, size_t n_ifindexes,
	const struct lb_kernel_callbacks *callbacks, void *arg, struct lb_kernel **out);
void lb_kernel_destroy(struct lb_kernel *kernel);

/** All mirrored routes; valid until the loop runs on. */
const struct lb_kernel_route *lb_kernel_routes(const struct lb_kernel *kernel, size_t *n_routes);

/** The best route to @p addr: longest prefix, lowest metric. @return 0; -ENOENT. */
int lb_kernel_lookup(const struct lb_kernel *kernel, const struct lb_addr *addr,
	struct lb_kernel_route *route);

/**
 * Keep @p addr on @p ifindex resolved: ask the kernel now and whenever the entry goes stale or fails (with a back-off),
 * until unwatched; results arrive by neighbour_changed (at once, from the loop, if already known).
 */
int lb_kernel_watch(struct lb_kernel *kernel, uint32_t ifindex, const struct lb_addr *addr);
void lb_kernel_unwatch(struct lb_kernel *kernel, uint32_t ifindex, const struct lb_addr *addr);

#endif
