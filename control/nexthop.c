/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/nexthop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "control/ids.h"
#include "control/mem.h"
#include "control/route.h"
#include "control/store.h"
#include "lb/log.h"

#define N_BUCKETS 4096u
#define STATIC_KEY "gateway"
/* Ids of next hops are saved this much later; a restart that lost some skips this many. */
#define SAVE_DELAY_S 1
#define SKIP_IDS 1024u
/* How long the last known MAC is used after the kernel lost a neighbour: long enough to ask again.
 */
#define GRACE_NS UINT64_C(3000000000)
/* The same for clients, which we do not keep resolved: ARP cache times of hosts are about a minute.
 */
#define NEIGHBOUR_GRACE_NS UINT64_C(60000000000)
#define SWEEP_S 1
#define PURGE_AFTER_SWEEPS 60u

struct node {
	struct lb_nexthop nexthop; /* first: the public pointer is this one's */
	TAILQ_ENTRY(node) link;
	struct node *chain;
	uint32_t n_users; /* backends, and routes with this as their gateway */
	uint32_t n_host;  /* its own host route, in the set in force or the one being built */
	bool neighbour; /* the kernel knew it by itself: it may be a client and gets a host route */
	bool watched;
	uint64_t lost_ns; /* CLOCK_MONOTONIC since when the kernel does not know it; 0: it does */
	bool sent;
	struct lb_msg_nexthop sent_msg;
};

/* An interface of the config. */
struct named {
	struct lb_config_interface interface;
	uint32_t ifindex; /* 0: there is none of this name, or not for us */
	bool missing;     /* said so */
};

struct lb_nexthops {
	struct event_base *base;
	struct lb_dp *dp;
	struct lb_kernel *kernel; /* NULL: ports not known, or no netlink */
	bool has_interfaces; /* next hops are asked of it; else only the host's own addresses */
	bool kernel_told;    /* it knows its routes and addresses */
	bool is_ready;       /* and `routes` are made of them */
	void (*changed)(void *arg);
	void (*state)(void *arg, const struct lb_nexthop *nexthop);
	void *arg;

	struct lb_ids *ids;
	char path[PATH_MAX];
	struct event *save, *sweep, *update;
	unsigned n_sweeps;

	TAILQ_HEAD(, node) nodes;
	struct node *buckets[N_BUCKETS];
	struct node *by_id[LB_MAX_NEXTHOPS];
	struct node *gateway; /* the static one; NULL: the kernel is asked */
	bool idle_nodes;      /* some node may have lost its last use */

	uint32_t ifindexes[LB_SHM_MAX_PORTS]; /* by DPDK port; 0: none */
	unsigned n_ports;
	uint16_t port_vlans[LB_SHM_MAX_PORTS];
	struct named *named; /* further interfaces, as the config has them */
	size_t n_named;
	bool routes_changed; /* the kernel's routes or ours: lookups may say something new */
	struct lb_routes routes;
};

static struct node *node_of(struct lb_nexthop *nexthop)
{
	return (struct node *)nexthop;
}

static struct node **bucket_of(
	struct lb_nexthops *nexthops, uint32_t ifindex, const struct lb_addr *addr)
{
	return &nexthops->buckets[lb_hash_bytes(addr, sizeof(*addr), ifindex) % N_BUCKETS];
}

static struct node *find(struct lb_nexthops *nexthops, uint32_t ifindex, const struct lb_addr *addr)
{
	struct node *node = *bucket_of(nexthops, ifindex, addr);

	while (node != NULL &&
		(node->nexthop.ifindex != ifindex || !lb_addr_equal(&node->nexthop.addr, addr)))
		node = node->chain;
	return node;
}

static void node_key(const struct lb_nexthop *nexthop, char *key, size_t bytes)
{
	char addr[LB_ADDR_STRLEN];

	if (nexthop->is_static)
		snprintf(key, bytes, STATIC_KEY);
	else
		snprintf(key, bytes, "%" PRIu32 "/%s", nexthop->ifindex,
			lb_addr_format(&nexthop->addr, addr));
}

/* Fill in by which port, and with which tag, what is behind nexthop->ifindex is reached. */
static bool find_port(const struct lb_nexthops *nexthops, struct lb_nexthop *nexthop)
{
	uint32_t ifindex = nexthop->ifindex;

	for (unsigned i = 0; ifindex != 0 && i < nexthops->n_ports; i++) {
		if (nexthops->ifindexes[i] == ifindex) {
			nexthop->port = (uint16_t)i;
			nexthop->vlan = nexthops->port_vlans[i];
			return true;
		}
	}
	for (size_t i = 0; ifindex != 0 && i < nexthops->n_named; i++) {
		if (nexthops->named[i].ifindex == ifindex) {
			nexthop->port = nexthops->named[i].interface.port;
			nexthop->vlan = nexthops->named[i].interface.vlan;
			return true;
		}
	}
	return false;
}

/* Look the names up. @return whether anything is another interface than before. */
static bool resolve_names(struct lb_nexthops *nexthops)
{
	bool changed = false;

	for (size_t i = 0; i < nexthops->n_named; i++) {
		struct named *named = &nexthops->named[i];
		uint32_t ifindex = if_nametoindex(named->interface.name);

		if (ifindex == 0 && !named->missing)
			lb_log(LB_LOG_WARN, "nexthop", "no interface %s (ports[].interfaces): nothing is "
				"reached by it until there is", named->interface.name);
		named->missing = ifindex == 0;
		if (named->interface.port >= nexthops->n_ports)
			ifindex = 0;
		for (unsigned p = 0; p < nexthops->n_ports; p++)
			if (nexthops->ifindexes[p] == ifindex)
				ifindex = 0; // the port's own: that is ports[].vlan's
		changed |= ifindex != named->ifindex;
		named->ifindex = ifindex;
	}
	return changed;
}

static void save_soon(struct lb_nexthops *nexthops)
{
	static const struct timeval delay = {.tv_sec = SAVE_DELAY_S};

	if (!event_pending(nexthops->save, EV_TIMEOUT, NULL))
		event_add(nexthops->save, &delay);
}

static void on_save(evutil_socket_t fd, short what, void *arg)
{
	struct lb_nexthops *nexthops = arg;
	json_t *json = lb_ids_to_json(nexthops->ids);
	char why[200];

	(void)fd;
	(void)what;
	if (json != NULL && lb_store_save(nexthops->path, json, why, sizeof(why)) < 0)
		lb_log(LB_LOG_WARN, "nexthop", "%s", why);
	json_decref(json);
}

/* Nodes. */

static void node_push(struct lb_nexthops *nexthops, struct node *node)
{
	const struct lb_nexthop *nexthop = &node->nexthop;
	struct lb_msg msg = {
		.op = LB_OP_NEXTHOP_SET,
		.nexthop = {.id = nexthop->id,
			.port = nexthop->port,
			.vlan = nexthop->vlan,
			.resolved = nexthop->resolved},
	};

	memcpy(msg.nexthop.mac, nexthop->mac, sizeof(nexthop->mac));
	if (node->sent && memcmp(&node->sent_msg, &msg.nexthop, sizeof(msg.nexthop)) == 0)
		return;
	if (lb_dp_send(nexthops->dp, &msg, NULL, NULL) == 0) {
		node->sent = true;
		node->sent_msg = msg.nexthop;
	}
}

static struct node *node_create(struct lb_nexthops *nexthops, const struct lb_nexthop *template)
{
	struct node *node, **bucket;
	char key[LB_ADDR_STRLEN + 16];
	uint32_t id;
	int rc;

	node_key(template, key, sizeof(key));
	rc = lb_ids_add(nexthops->ids, key, &id);
	if (rc < 0 && rc != -EEXIST)
		return NULL;
	if (rc == 0)
		save_soon(nexthops);
	node = lb_xcalloc(1, sizeof(*node));
	node->nexthop = *template;
	node->nexthop.id = (uint16_t)id;
	if (!node->nexthop.is_static) {
		bucket = bucket_of(nexthops, template->ifindex, &template->addr);
		node->chain = *bucket;
		*bucket = node;
	}
	nexthops->by_id[id] = node;
	TAILQ_INSERT_TAIL(&nexthops->nodes, node, link);
	return node;
}

static void node_unlink(struct lb_nexthops *nexthops, struct node *node)
{
	struct node **link = bucket_of(nexthops, node->nexthop.ifindex, &node->nexthop.addr);

	while (*link != NULL && *link != node)
		link = &(*link)->chain;
	if (*link == node)
		*link = node->chain;
	nexthops->by_id[node->nexthop.id] = NULL;
	TAILQ_REMOVE(&nexthops->nodes, node, link);
}

static void node_unwatch(struct lb_nexthops *nexthops, struct node *node)
{
	if (node->watched && nexthops->kernel != NULL)
		lb_kernel_unwatch(nexthops->kernel, node->nexthop.ifindex, &node->nexthop.addr);
	node->watched = false;
}

static void node_destroy(struct lb_nexthops *nexthops, struct node *node)
{
	struct lb_msg msg = {.op = LB_OP_NEXTHOP_DEL, .id = node->nexthop.id};
	char key[LB_ADDR_STRLEN + 16];

	if (node->sent)
		(void)lb_dp_send(nexthops->dp, &msg, NULL, NULL);
	node_unwatch(nexthops, node);
	node_key(&node->nexthop, key, sizeof(key));
	(void)lb_ids_del(nexthops->ids, key);
	save_soon(nexthops);
	node_unlink(nexthops, node);
	free(node);
}

static void node_watch(struct lb_nexthops *nexthops, struct node *node)
{
	if (node->watched || nexthops->kernel == NULL || node->nexthop.is_static)
		return;
	node->watched =
		lb_kernel_watch(nexthops->kernel, node->nexthop.ifindex, &node->nexthop.addr) == 0;
}

static struct node *node_get(
	struct lb_nexthops *nexthops, uint32_t ifindex, const struct lb_addr *addr)
{
	struct lb_nexthop template = {.ifindex = ifindex, .addr = *addr};
	struct node *node = find(nexthops, ifindex, addr);

	if (node == NULL && find_port(nexthops, &template)) {
		node = node_create(nexthops, &template);
		if (node != NULL)
			node_push(nexthops, node);
	}
	return node;
}

struct lb_nexthop *lb_nexthops_get(
	struct lb_nexthops *nexthops, const struct lb_addr *addr, const char **why)
{
	static const struct lb_addr none;
	struct lb_kernel_route route;
	struct node *node = nexthops->gateway;

	if (node == NULL && !nexthops->has_interfaces) {
		*why = LB_NEXTHOP_NO_DATAPLANE;
		return NULL;
	}
	if (node == NULL && lb_kernel_is_local(nexthops->kernel, addr)) {
		*why = LB_NEXTHOP_OWN;
		return NULL;
	}
	if (node == NULL && lb_kernel_lookup(nexthops->kernel, addr, &route) < 0) {
		*why = LB_NEXTHOP_NO_ROUTE;
		return NULL;
	}
	if (node == NULL)
		node = node_get(nexthops, route.ifindex,
			lb_addr_equal(&route.gateway, &none) ? addr : &route.gateway);
	if (node == NULL) {
		*why = LB_NEXTHOP_NO_IDS;
		return NULL;
	}
	node->n_users++;
	node_watch(nexthops, node);
	return &node->nexthop;
}

void lb_nexthops_put(struct lb_nexthops *nexthops, struct lb_nexthop *nexthop)
{
	if (nexthop != NULL && --node_of(nexthop)->n_users == 0)
		nexthops->idle_nodes = true;
}

void lb_nexthops_collect(struct lb_nexthops *nexthops)
{
	struct node *node, *next;

	if (!nexthops->idle_nodes)
		return;
	nexthops->idle_nodes = false;
	for (node = TAILQ_FIRST(&nexthops->nodes); node != NULL; node = next) {
		next = TAILQ_NEXT(node, link);
		if (node->n_users > 0 || node->n_host > 0 || node == nexthops->gateway)
			continue;
		if (!node->neighbour)
			node_destroy(nexthops, node);
		else if (node->lost_ns == 0)
			node_unwatch(nexthops, node);
	}
}

/* Routes. */

static bool is_link_local(const struct lb_addr *addr)
{
	return addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80;
}

/* Whether the kernel would send to @p node's address directly, over its interface. */
static bool is_on_link(const struct lb_nexthops *nexthops, const struct node *node)
{
	static const struct lb_addr none;
	struct lb_kernel_route route;

	return !is_link_local(&node->nexthop.addr) &&
	       !lb_kernel_is_local(nexthops->kernel, &node->nexthop.addr) &&
	       lb_kernel_lookup(nexthops->kernel, &node->nexthop.addr, &route) == 0 &&
	       route.ifindex == node->nexthop.ifindex && lb_addr_equal(&route.gateway, &none);
}

/* First of all, since of several routes with one prefix the first one stays, as it is in the
 * kernel. */
static void want_own_routes(const struct lb_nexthops *nexthops, struct lb_routes *wanted)
{
	const struct lb_kernel_route *locals;
	size_t n;

	locals = lb_kernel_locals(nexthops->kernel, &n);
	for (size_t i = 0; i < n; i++)
		lb_routes_add(wanted, &locals[i].prefix, locals[i].family, locals[i].length,
			LB_NEXTHOP_HOST);
}

static void want_kernel_routes(struct lb_nexthops *nexthops, struct lb_routes *wanted)
{
	static const struct lb_addr none;
	const struct lb_kernel_route *routes;
	struct node *node;
	size_t n;

	routes = lb_kernel_routes(nexthops->kernel, &n);
	for (size_t i = 0; i < n; i++) {
		if (lb_addr_equal(&routes[i].gateway, &none))
			continue;
		node = node_get(nexthops, routes[i].ifindex, &routes[i].gateway);
		if (node == NULL)
			continue;
		node_watch(nexthops, node);
		lb_routes_add(wanted, &routes[i].prefix, routes[i].family, routes[i].length,
			node->nexthop.id);
	}
	TAILQ_FOREACH (node, &nexthops->nodes, link) {
		bool ipv4 = lb_addr_is_ipv4(&node->nexthop.addr);

		if (node->nexthop.resolved && is_on_link(nexthops, node))
			lb_routes_add(wanted, &node->nexthop.addr, ipv4 ? 4 : 6, ipv4 ? 32 : 128,
				node->nexthop.id);
	}
}

static void hold(struct lb_nexthops *nexthops, const struct lb_routes *routes, int by)
{
	for (size_t i = 0; i < routes->n; i++) {
		const struct lb_msg_route *route = &routes->list[i];
		struct node *node = nexthops->by_id[route->nexthop];
		bool is_own;

		if (route->nexthop == LB_NEXTHOP_HOST)
			continue; // always there, and no node
		is_own = route->length == (route->family == 4 ? 32 : 128) &&
			 lb_addr_equal(&route->prefix, &node->nexthop.addr);
		*(is_own ? &node->n_host : &node->n_users) += (uint32_t)by;
		if (node->n_users == 0)
			nexthops->idle_nodes = true;
	}
}

static void update_routes(struct lb_nexthops *nexthops)
{
	static const struct lb_addr v4_any = {.u32 = {0, 0, LB_ADDR_V4_PREFIX, 0}}, v6_any;
	struct lb_routes wanted = {0};

	if (nexthops->kernel != NULL)
		want_own_routes(nexthops, &wanted);
	if (nexthops->gateway != NULL) {
		lb_routes_add(&wanted, &v4_any, 4, 0, nexthops->gateway->nexthop.id);
		lb_routes_add(&wanted, &v6_any, 6, 0, nexthops->gateway->nexthop.id);
	} else if (nexthops->has_interfaces) {
		want_kernel_routes(nexthops, &wanted);
	}
	lb_routes_finish(&wanted);
	hold(nexthops, &wanted, 1);
	lb_routes_send_difference(&nexthops->routes, &wanted, nexthops->dp);
	hold(nexthops, &nexthops->routes, -1);
	lb_routes_free(&nexthops->routes);
	nexthops->routes = wanted;
}

static void on_update(evutil_socket_t fd, short what, void *arg)
{
	struct lb_nexthops *nexthops = arg;
	bool routes_changed = nexthops->routes_changed;

	(void)fd;
	(void)what;
	if (nexthops->kernel != NULL && !nexthops->kernel_told)
		return; // what is in force stays until a new mirror knows; then it calls
	nexthops->routes_changed = false;
	update_routes(nexthops);
	nexthops->is_ready = true;
	if (routes_changed)
		nexthops->changed(nexthops->arg);
}

static void update_soon(struct lb_nexthops *nexthops, bool routes_changed)
{
	nexthops->routes_changed |= routes_changed;
	event_active(nexthops->update, EV_TIMEOUT, 0);
}

/* What the kernel says. */

static void on_routes_changed(void *arg)
{
	struct lb_nexthops *nexthops = arg;

	nexthops->kernel_told = true;
	update_soon(nexthops, true);
}

static void neighbour_lost(struct lb_nexthops *nexthops, struct node *node)
{
	if (node->lost_ns != 0)
		return;
	node->lost_ns = lb_now_ns();
	node_watch(nexthops, node); // ask once more before believing it
}

/* Of the many neighbours that are only clients nobody wants to hear. */
static void tell_state(struct lb_nexthops *nexthops, const struct node *node)
{
	if (node->n_users > 0)
		nexthops->state(nexthops->arg, &node->nexthop);
}

static void neighbour_known(struct lb_nexthops *nexthops, struct node *node, const uint8_t mac[6])
{
	bool was_resolved = node->nexthop.resolved;

	memcpy(node->nexthop.mac, mac, 6);
	node->nexthop.resolved = true;
	node->lost_ns = 0;
	node_push(nexthops, node);
	if (node->n_users == 0)
		node_unwatch(nexthops, node);
	if (was_resolved)
		return;
	update_soon(nexthops, false);
	tell_state(nexthops, node);
}

static void on_neighbour_changed(void *arg, uint32_t ifindex, const struct lb_addr *addr,
	const uint8_t mac[6], bool resolved)
{
	struct lb_nexthops *nexthops = arg;
	struct node *node =
		resolved ? node_get(nexthops, ifindex, addr) : find(nexthops, ifindex, addr);

	if (node == NULL)
		return;
	if (!resolved) {
		neighbour_lost(nexthops, node);
		return;
	}
	node->neighbour = true;
	neighbour_known(nexthops, node, mac);
}

static const struct lb_kernel_callbacks kernel_callbacks = {
	.routes_changed = on_routes_changed,
	.neighbour_changed = on_neighbour_changed,
};

static void start_kernel(struct lb_nexthops *nexthops);

/* Believe the loss of those whose grace is over; look for interfaces of the config. */
static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	struct lb_nexthops *nexthops = arg;
	uint64_t now_ns = lb_now_ns();
	struct node *node;
	bool lost = false;

	(void)fd;
	(void)what;
	TAILQ_FOREACH (node, &nexthops->nodes, link) {
		uint64_t grace_ns = node->n_users > 0 ? GRACE_NS : NEIGHBOUR_GRACE_NS;

		if (node->lost_ns == 0 || now_ns - node->lost_ns < grace_ns ||
			!node->nexthop.resolved)
			continue;
		node->nexthop.resolved = node->neighbour = false;
		node_push(nexthops, node);
		nexthops->idle_nodes = lost = true;
		tell_state(nexthops, node);
	}
	if (lost)
		update_soon(nexthops, false);
	if (nexthops->n_ports != 0 && resolve_names(nexthops))
		start_kernel(nexthops);
	if (++nexthops->n_sweeps != PURGE_AFTER_SWEEPS)
		return;
	// ids of an earlier run that nobody claimed
	for (uint32_t id = 1; id < LB_NEXTHOP_HOST; id++)
		if (nexthops->by_id[id] == NULL && lb_ids_key(nexthops->ids, id) != NULL)
			(void)lb_ids_del(nexthops->ids, lb_ids_key(nexthops->ids, id));
	save_soon(nexthops);
}

/* Set-up. */

static void start_kernel(struct lb_nexthops *nexthops)
{
	uint32_t *ifindexes = lb_xcalloc(nexthops->n_ports + nexthops->n_named + 1, sizeof(*ifindexes));
	struct node *node;
	size_t n = 0;
	int rc;

	lb_kernel_destroy(nexthops->kernel);
	nexthops->kernel = NULL;
	nexthops->kernel_told = nexthops->is_ready = false;
	TAILQ_FOREACH (node, &nexthops->nodes, link) {
		node->watched = node->neighbour = false;
		if (node->lost_ns == 0 && !node->nexthop.is_static)
			node->lost_ns = lb_now_ns();
	}
	nexthops->idle_nodes = true;
	for (unsigned i = 0; i < nexthops->n_ports && nexthops->gateway == NULL; i++)
		if (nexthops->ifindexes[i] != 0)
			ifindexes[n++] = nexthops->ifindexes[i];
	for (size_t i = 0; i < nexthops->n_named && nexthops->gateway == NULL; i++)
		if (nexthops->named[i].ifindex != 0)
			ifindexes[n++] = nexthops->named[i].ifindex;
	rc = lb_kernel_create(
		nexthops->base, ifindexes, n, &kernel_callbacks, nexthops, &nexthops->kernel);
	free(ifindexes);
	if (rc < 0)
		lb_log(LB_LOG_ERROR, "nexthop",
			"cannot mirror the kernel's routes and addresses: %s", strerror(-rc));
	nexthops->has_interfaces = rc == 0 && n > 0;
	TAILQ_FOREACH (node, &nexthops->nodes, link) {
		if (node->n_users > 0)
			node_watch(nexthops, node);
		if (!node->nexthop.is_static && find_port(nexthops, &node->nexthop))
			node_push(nexthops, node);
	}
	update_soon(nexthops, true);
}

void lb_nexthops_set_ports(struct lb_nexthops *nexthops, const struct lb_shm_map *map)
{
	const struct lb_shm_header *header = &map->shm->header;
	uint32_t ifindexes[LB_SHM_MAX_PORTS] = {0};
	unsigned n = *(const volatile uint32_t *)&header->n_ports;

	if (n > LB_SHM_MAX_PORTS)
		n = LB_SHM_MAX_PORTS;
	for (unsigned i = 0; i < n; i++)
		if (header->ports[i].in_use)
			ifindexes[i] = *(const volatile uint32_t *)&header->ports[i].ifindex;
	if (n == 0 || (n == nexthops->n_ports &&
			      memcmp(ifindexes, nexthops->ifindexes, sizeof(ifindexes)) == 0))
		return;
	nexthops->n_ports = n;
	memcpy(nexthops->ifindexes, ifindexes, sizeof(ifindexes));
	resolve_names(nexthops);
	start_kernel(nexthops);
}

static bool same_interfaces(const struct lb_nexthops *nexthops,
	const struct lb_config_interface *interfaces, size_t n)
{
	if (n != nexthops->n_named)
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct lb_config_interface *a = &nexthops->named[i].interface;

		if (strcmp(a->name, interfaces[i].name) != 0 || a->port != interfaces[i].port ||
			a->vlan != interfaces[i].vlan)
			return false;
	}
	return true;
}

void lb_nexthops_set_links(struct lb_nexthops *nexthops, const uint16_t *port_vlans,
	const struct lb_config_interface *interfaces, size_t n)
{
	struct node *node;

	if (!same_interfaces(nexthops, interfaces, n)) {
		free(nexthops->named);
		nexthops->named = lb_xcalloc(n + 1, sizeof(*nexthops->named));
		nexthops->n_named = n;
		for (size_t i = 0; i < n; i++)
			nexthops->named[i].interface = interfaces[i];
		resolve_names(nexthops);
		memcpy(nexthops->port_vlans, port_vlans, sizeof(nexthops->port_vlans));
		if (nexthops->n_ports != 0)
			start_kernel(nexthops);
		return;
	}
	if (memcmp(nexthops->port_vlans, port_vlans, sizeof(nexthops->port_vlans)) == 0)
		return;
	memcpy(nexthops->port_vlans, port_vlans, sizeof(nexthops->port_vlans));
	TAILQ_FOREACH (node, &nexthops->nodes, link)
		if (!node->nexthop.is_static && find_port(nexthops, &node->nexthop))
			node_push(nexthops, node);
}

void lb_nexthops_set_gateway(struct lb_nexthops *nexthops, const uint8_t *mac, uint16_t port)
{
	struct lb_nexthop template = {.is_static = true, .port = port, .resolved = true};
	struct node *gateway = nexthops->gateway;

	if (mac == NULL && gateway == NULL)
		return;
	if (mac == NULL) {
		nexthops->gateway = NULL;
		start_kernel(nexthops);
		return;
	}
	if (gateway == NULL) {
		// one that the config lost a moment ago may still be in use
		uint32_t id;

		if (lb_ids_lookup(nexthops->ids, STATIC_KEY, &id) == 0)
			gateway = nexthops->by_id[id];
		if (gateway == NULL)
			gateway = node_create(nexthops, &template);
		if (gateway == NULL) {
			lb_log(LB_LOG_ERROR, "nexthop", "static gateway: %s", LB_NEXTHOP_NO_IDS);
			return;
		}
		nexthops->gateway = gateway;
		start_kernel(nexthops);
	}
	memcpy(gateway->nexthop.mac, mac, 6);
	gateway->nexthop.port = port;
	gateway->nexthop.vlan = nexthops->port_vlans[port];
	node_push(nexthops, gateway);
}

int lb_nexthops_sync(struct lb_nexthops *nexthops)
{
	struct node *node;

	TAILQ_FOREACH (node, &nexthops->nodes, link) {
		node->sent = false;
		node_push(nexthops, node);
		if (!node->sent)
			return -ENOMEM;
	}
	return lb_routes_send_all(&nexthops->routes, nexthops->dp);
}

static void load_ids(struct lb_nexthops *nexthops)
{
	json_t *json = NULL;
	char why[200];
	int rc = lb_store_load(nexthops->path, &json, why, sizeof(why));

	if (rc == 0) {
		rc = lb_ids_from_json(nexthops->ids, json);
		snprintf(why, sizeof(why), "its content is no list of ids");
	}
	if (rc < 0 && rc != -ENOENT)
		lb_log(LB_LOG_WARN, "nexthop", "%s is ignored: %s", nexthops->path, why);
	lb_ids_skip(nexthops->ids, SKIP_IDS);
	json_decref(json);
}

int lb_nexthops_create(struct event_base *base, struct lb_dp *dp, const char *path,
	void (*changed)(void *arg), void (*state)(void *arg, const struct lb_nexthop *nexthop),
	void *arg, struct lb_nexthops **out)
{
	static const struct timeval period = {.tv_sec = SWEEP_S};
	struct lb_nexthops *nexthops = lb_xcalloc(1, sizeof(*nexthops));

	nexthops->base = base;
	nexthops->dp = dp;
	nexthops->changed = changed;
	nexthops->state = state;
	nexthops->arg = arg;
	nexthops->is_ready = true; // as long as there is nothing to know
	TAILQ_INIT(&nexthops->nodes);
	snprintf(nexthops->path, sizeof(nexthops->path), "%s", path);
	nexthops->save = evtimer_new(base, on_save, nexthops);
	nexthops->update = evtimer_new(base, on_update, nexthops);
	nexthops->sweep = event_new(base, -1, EV_PERSIST, on_sweep, nexthops);
	if (nexthops->save == NULL || nexthops->update == NULL || nexthops->sweep == NULL ||
		lb_ids_create(1, LB_NEXTHOP_HOST - 1, 0, &nexthops->ids) < 0) {
		lb_nexthops_destroy(nexthops);
		return -ENOMEM;
	}
	event_add(nexthops->sweep, &period);
	load_ids(nexthops);
	*out = nexthops;
	return 0;
}

void lb_nexthops_destroy(struct lb_nexthops *nexthops)
{
	struct node *node;

	if (nexthops == NULL)
		return;
	if (nexthops->save != NULL && event_pending(nexthops->save, EV_TIMEOUT, NULL))
		on_save(-1, 0, nexthops);
	lb_kernel_destroy(nexthops->kernel);
	while ((node = TAILQ_FIRST(&nexthops->nodes)) != NULL) {
		TAILQ_REMOVE(&nexthops->nodes, node, link);
		free(node);
	}
	lb_routes_free(&nexthops->routes);
	if (nexthops->save != NULL)
		event_free(nexthops->save);
	if (nexthops->update != NULL)
		event_free(nexthops->update);
	if (nexthops->sweep != NULL)
		event_free(nexthops->sweep);
	lb_ids_destroy(nexthops->ids);
	free(nexthops->named);
	free(nexthops);
}

void lb_nexthops_label(const struct lb_nexthops *nexthops, uint16_t id, char *buf, size_t bytes)
{
	const struct node *node = id < LB_MAX_NEXTHOPS ? nexthops->by_id[id] : NULL;
	char addr[LB_ADDR_STRLEN];

	if (node == NULL)
		snprintf(buf, bytes, "?");
	else if (node->nexthop.is_static)
		snprintf(buf, bytes, STATIC_KEY);
	else
		snprintf(buf, bytes, "%s", lb_addr_format(&node->nexthop.addr, addr));
}

bool lb_nexthops_is_complete(const struct lb_nexthops *nexthops)
{
	return nexthops->is_ready &&
	       (nexthops->kernel == NULL || lb_kernel_is_complete(nexthops->kernel));
}

bool lb_nexthops_is_ready(const struct lb_nexthops *nexthops)
{
	return nexthops->is_ready;
}

bool lb_nexthops_is_own(const struct lb_nexthops *nexthops, const struct lb_addr *addr)
{
	return nexthops->kernel != NULL && lb_kernel_is_local(nexthops->kernel, addr);
}

size_t lb_nexthops_n_routes(const struct lb_nexthops *nexthops)
{
	return nexthops->routes.n;
}
