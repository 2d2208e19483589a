/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_KERNEL_INTERNAL_H
#define LB_CONTROL_KERNEL_INTERNAL_H

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "control/kernel.h"
#include "control/netlink.h"

/*
 * Shared by the parts of the kernel mirror: kernel.c (socket, dumps, dispatch), kernel_routes.c
 * (sets of routes and lookups: those to others, and the local ones), kernel_neighbours.c (entries,
 * watches, asking).
 */

/* ---- routes ---- */

/* A route of a dump, before links are looked at. */
struct lb_kernel_raw_route {
	struct lb_kernel_route route;
	size_t order; /* in the dump: of equal ones the kernel takes the first */
};

struct lb_kernel_raw_routes {
	struct lb_kernel_raw_route *items;
	size_t n, n_max;
};

/* Routes of one family and prefix length lie together in `routes`: lookups try group by group. */
struct lb_kernel_route_group {
	uint8_t family, length;
	size_t start, n;
};

/* Of a table of the kernel: "main", our interfaces' unicast routes; or "local", the local ones. */
struct lb_kernel_routes {
	bool local;
	struct lb_kernel_raw_routes dumped[2]; /* IPv4, IPv6: complete dumps */
	bool known[2];                         /* there was one */
	struct lb_kernel_raw_routes coming;    /* the dump that is running */
	uint64_t not_before_ns;                /* the next one: they take only a part of the time */
	struct lb_kernel_route *routes;        /* sorted, one per prefix */
	size_t n_routes;
	struct lb_kernel_route_group groups[33 + 129];
	size_t n_groups;
};

void lb_kernel_routes_fini(struct lb_kernel_routes *routes);

/** Take @p parsed into the running dump of @p routes, if it is of its kind. @return 0; -ENOMEM. */
int lb_kernel_routes_take(const struct lb_kernel *kernel, struct lb_kernel_routes *routes,
	const struct lb_netlink_route *parsed);

/** Whether a notification of @p parsed can mean a change of @p routes. */
bool lb_kernel_routes_concerned(const struct lb_kernel *kernel,
	const struct lb_kernel_routes *routes, const struct lb_netlink_route *parsed,
	uint16_t nlmsg_flags);

/** The running dump of @p family (0: IPv4, 1: IPv6) is complete: it replaces the last one. */
void lb_kernel_routes_adopt(struct lb_kernel_routes *routes, unsigned family);

/** The running dump is void. */
void lb_kernel_routes_abandon(struct lb_kernel_routes *routes);

/**
 * Work out @p routes from the dumps and the links.
 * @return 1: they changed; 0: no; -ENOMEM: they are as before.
 */
int lb_kernel_routes_build(const struct lb_kernel *kernel, struct lb_kernel_routes *routes);

/* ---- neighbours ---- */

struct lb_kernel_neighbour {
	LIST_ENTRY(lb_kernel_neighbour) link; /* of its bucket */
	TAILQ_ENTRY(lb_kernel_neighbour) changed_link;
	struct lb_kernel *kernel;
	uint32_t ifindex;
	struct lb_addr addr;
	uint32_t n_watches;
	uint32_t generation; /* of the dump or notification that last told of it */
	uint32_t n_asked;    /* in vain, in a row: the back-off */
	uint32_t n_missed;   /* dumps in a row that did not mention it */
	uint16_t state;      /* NUD_*; 0: the kernel has no entry */
	bool usable;         /* what the kernel says now; mac is valid */
	bool resolved;       /* what we hold it for: usable, or was until a moment ago */
	bool reported;       /* resolved, as the callback was last told, with reported_mac */
	bool report_anyway;  /* a new watch wants to hear it */
	bool in_changed;
	uint8_t mac[6], reported_mac[6];
	struct event ask;  /* watched ones: the next time to ask */
	struct event lost; /* watched ones: resolved, but not usable any more: the time to say so */
};

LIST_HEAD(lb_kernel_bucket, lb_kernel_neighbour);
TAILQ_HEAD(lb_kernel_changed, lb_kernel_neighbour);

struct lb_kernel_neighbours {
	struct lb_kernel_bucket *buckets;
	uint32_t n_buckets; /* a power of two */
	uint32_t generation;
	bool synced[2]; /* IPv4, IPv6 were dumped: a missing entry is missing in the kernel */
	struct lb_kernel_changed changed; /* to be reported, n_changed of them */
	uint32_t n_changed;
	uint64_t hash_key;
};

/** @return 0, -ENOMEM. */
int lb_kernel_neighbours_init(struct lb_kernel_neighbours *neighbours);
void lb_kernel_neighbours_fini(struct lb_kernel *kernel);

/** The kernel has an entry, or (@p deleted) not any more. */
void lb_kernel_neighbours_update(
	struct lb_kernel *kernel, const struct lb_netlink_neighbour *parsed, bool deleted);

/** A dump begins. */
void lb_kernel_neighbours_dump_begin(struct lb_kernel *kernel);

/**
 * A dump of @p family (0: IPv4, 1: IPv6) is complete: what two in a row did not mention is gone.
 * One may leave out an entry by mistake, as the kernel finds its place again by counting.
 * @return whether that settles all; false: another dump is needed.
 */
bool lb_kernel_neighbours_dump_end(struct lb_kernel *kernel, unsigned family);

/** Call back for all that changed. */
void lb_kernel_neighbours_deliver(struct lb_kernel *kernel);

/* ---- the whole ---- */

enum lb_kernel_dump {
	DUMP_LINKS,
	DUMP_LOCALS4,
	DUMP_LOCALS6,
	DUMP_ROUTES4,
	DUMP_ROUTES6,
	DUMP_NEIGHBOURS4,
	DUMP_NEIGHBOURS6,
	DUMP_N
};

struct lb_kernel_interface {
	uint32_t ifindex;
	bool up;
	bool seen; /* in the running dump of links */
};

struct lb_kernel {
	struct event_base *base;
	struct lb_kernel_callbacks callbacks;
	void *arg;
	struct mnl_socket *socket;
	struct event readable;
	struct event deliver;   /* to call back, from the loop */
	struct event next_dump; /* to start the next one wanted; the watchdog of a running one */
	struct lb_kernel_interface *interfaces;
	size_t n_interfaces;
	struct lb_kernel_routes routes, locals;
	bool routes_changed, routes_told;
	struct lb_kernel_neighbours neighbours;
	struct lb_kernel_stats stats;

	unsigned dumps;    /* that are of use: bits of enum lb_kernel_dump */
	unsigned wanted;   /* of these */
	int running;       /* enum lb_kernel_dump; -1: none */
	uint32_t seq;      /* of the last request */
	uint32_t dump_seq; /* of the running dump */
	bool interrupted;  /* the running dump is inconsistent */
	unsigned n_tries;  /* of the running dump */
	uint64_t dump_started_ns;
	uint64_t resynced_ns; /* the last time */
};

/** The interface, or NULL if it is none of ours. */
struct lb_kernel_interface *lb_kernel_find_interface(
	const struct lb_kernel *kernel, uint32_t ifindex);

/** Send a request that has no answer but an error. @return 0; -errno. */
int lb_kernel_send(struct lb_kernel *kernel, const struct nlmsghdr *nlh);

/** Ask for a dump of the neighbours of @p family (0: IPv4, 1: IPv6). */
void lb_kernel_want_neighbours(struct lb_kernel *kernel, unsigned family);

/** Take one message of the kernel, of nlmsg_len readable bytes. For read and for tests. */
void lb_kernel_handle(struct lb_kernel *kernel, const struct nlmsghdr *nlh);

/** Have deliver run in this turn of the loop or the next. */
void lb_kernel_deliver_soon(struct lb_kernel *kernel);

#endif
