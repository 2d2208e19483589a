/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_NEXTHOP_H
#define LB_CONTROL_NEXTHOP_H

#include <stdbool.h>

#include <event2/event.h>
#include <jansson.h>

#include "control/config.h"
#include "control/dp.h"
#include "control/kernel.h"

/*
 * Where frames go: next hops (a DPDK port and a MAC address) and routes to them, as the data plane
 * wants them, taken from the kernel's tables or from the config's static gateway.
 *
 * Each neighbour that the kernel knows on one of our interfaces is a next hop and, if it is on a
 * connected network, has a host route: a connected prefix cannot be one route, since each host in
 * it has a MAC address of its own.
 *
 * The host's own addresses have routes to LB_NEXTHOP_HOST, with a static gateway too: what nat
 * backends answer to the host itself (its health checks, above all) is no reply to a client, and
 * left to the kernel.
 */
struct lb_nexthops;

struct lb_nexthop {
	uint16_t id;
	bool is_static; /* the config's gateway: no address */
	uint32_t ifindex;
	struct lb_addr addr; /* the neighbour */
	uint16_t port;       /* DPDK port id */
	uint16_t vlan;       /* LB_VLAN_*, or the tag that packets leave with */
	uint8_t mac[6];
	bool resolved;
};

/* Why a destination has no (usable) next hop: texts for people. */
#define LB_NEXTHOP_NO_ROUTE "no route"
#define LB_NEXTHOP_NO_DATAPLANE "the data plane's ports are not known"
#define LB_NEXTHOP_UNRESOLVED "neighbour unknown"
#define LB_NEXTHOP_NO_IDS "too many next hops"
#define LB_NEXTHOP_NOT_ON_LINK "behind a router, and mode dsr needs it on the link"
#define LB_NEXTHOP_OWN "an address of this host itself"

/**
 * @param dp       where next hops and routes are sent, at once, while it is connected.
 * @param path     file in which the ids are kept.
 * @param changed  called from the loop when lb_nexthops_lookup() may give new answers.
 * @param state    called when a next hop of a backend or route was resolved or lost.
 * @return 0; -ENOMEM.
 */
int lb_nexthops_create(struct event_base *base, struct lb_dp *dp, const char *path,
	void (*changed)(void *arg), void (*state)(void *arg, const struct lb_nexthop *nexthop),
	void *arg, struct lb_nexthops **out);
void lb_nexthops_destroy(struct lb_nexthops *nexthops);

/**
 * VLAN tags: @p port_vlans (LB_SHM_MAX_PORTS of them) for what is reached through the ports' own interfaces or the
 * static gateway; @p interfaces, @p n of them, which may come and go. Before lb_nexthops_set_gateway().
 */
void lb_nexthops_set_links(struct lb_nexthops *nexthops, const uint16_t *port_vlans,
	const struct lb_config_interface *interfaces, size_t n);

/** Use the static gateway (@p mac not NULL), or the kernel (NULL). Does nothing if that is so
 * already. */
void lb_nexthops_set_gateway(struct lb_nexthops *nexthops, const uint8_t *mac, uint16_t port);

/** The data plane's ports may have changed: mirror the kernel for these interfaces. */
void lb_nexthops_set_ports(struct lb_nexthops *nexthops, const struct lb_shm_map *map);

/**
 * The next hop towards @p addr; it is being resolved if it is not. Takes a reference.
 * @param why receives one of the texts above if NULL is returned.
 */
struct lb_nexthop *lb_nexthops_get(
	struct lb_nexthops *nexthops, const struct lb_addr *addr, const char **why);
/** Give a reference back; NULL is allowed. */
void lb_nexthops_put(struct lb_nexthops *nexthops, struct lb_nexthop *nexthop);

/** Delete next hops that nobody needs: call it when no command that names one is on its way. */
void lb_nexthops_collect(struct lb_nexthops *nexthops);

/** Send every next hop and route. @return 0, -ENOMEM. */
int lb_nexthops_sync(struct lb_nexthops *nexthops);

/** What a refused command was about: "10.0.0.1", "gateway", or "?" for an unknown id. */
void lb_nexthops_label(const struct lb_nexthops *nexthops, uint16_t id, char *buf, size_t bytes);

/**
 * Whether all that is to be known before a first sync is: the kernel's routes and the host's own
 * addresses. A data plane without the latter would send answers to health checks on to clients.
 */
bool lb_nexthops_is_ready(const struct lb_nexthops *nexthops);

/** Also the neighbours: nothing that the kernel knows is missing. */
bool lb_nexthops_is_complete(const struct lb_nexthops *nexthops);

/** Whether @p addr is the host's own; not to be relied on before lb_nexthops_is_ready(). */
bool lb_nexthops_is_own(const struct lb_nexthops *nexthops, const struct lb_addr *addr);

/** Number of routes wanted. */
size_t lb_nexthops_n_routes(const struct lb_nexthops *nexthops);

#endif
