/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>

#include "control/kernel_internal.h"

void lb_kernel_routes_fini(struct lb_kernel_routes *routes)
{
	free(routes->dumped[0].items);
	free(routes->dumped[1].items);
	free(routes->coming.items);
	free(routes->routes);
}

static bool is_up(const struct lb_kernel *kernel, uint32_t ifindex)
{
	const struct lb_kernel_interface *interface = lb_kernel_find_interface(kernel, ifindex);

	return interface && interface->up;
}

// The nexthop of @parsed that we would use; NULL: none.
static const struct lb_netlink_hop *choose_hop(
	const struct lb_kernel *kernel, const struct lb_netlink_route *parsed)
{
	for (uint32_t i = 0; i < parsed->n_hops; i++) {
		const struct lb_netlink_hop *hop = &parsed->hops[i];

		if (hop->usable && is_up(kernel, hop->ifindex))
			return hop;
	}
	return NULL;
}

// A route for some packets only (by TOS, by source) is none for all.
static bool is_ours(const struct lb_kernel_routes *routes, const struct lb_netlink_route *parsed)
{
	return parsed->table == (routes->local ? RT_TABLE_LOCAL : RT_TABLE_MAIN) &&
	       parsed->type == (routes->local ? RTN_LOCAL : RTN_UNICAST) && !parsed->cloned &&
	       !parsed->sourced && parsed->tos == 0;
}

// What is never seen on a link: 127.0.0.0/8, ::1, and parts of them.
static bool is_loopback(const struct lb_kernel_route *route)
{
	static const struct lb_addr one = {.bytes = {[15] = 1}};

	if (route->family == 4)
		return route->length >= 8 && route->prefix.bytes[12] == 127;
	return route->length == 128 && lb_addr_equal(&route->prefix, &one);
}

// The first @length bits of @addr, an IPv4 address keeping the 96 bits of its form.
static struct lb_addr mask(const struct lb_addr *addr, unsigned length)
{
	struct lb_addr masked = *addr;

	for (unsigned i = 0; i < sizeof(masked.bytes); i++) {
		unsigned bits = length > 8 * i ? length - 8 * i : 0;

		if (bits < 8)
			masked.bytes[i] &= (uint8_t)(0xff00 >> bits);
	}
	return masked;
}

static int append(struct lb_kernel_raw_routes *routes, const struct lb_kernel_route *route)
{
	if (routes->n == routes->n_max) {
		size_t n_max = routes->n_max ? 2 * routes->n_max : 64;
		void *items = reallocarray(routes->items, n_max, sizeof(*routes->items));

		if (!items)
			return -ENOMEM;
		routes->items = items;
		routes->n_max = n_max;
	}
	routes->items[routes->n] = (struct lb_kernel_raw_route){*route, routes->n};
	routes->n++;
	return 0;
}

int lb_kernel_routes_take(const struct lb_kernel *kernel, struct lb_kernel_routes *routes,
	const struct lb_netlink_route *parsed)
{
	struct lb_kernel_route route = {
		.prefix = mask(&parsed->prefix, parsed->length + (parsed->family == 4 ? 96u : 0u)),
		.family = parsed->family,
		.length = parsed->length,
	};
	const struct lb_netlink_hop *hop;

	if (!is_ours(routes, parsed))
		return 0;
	if (routes->local) // Linux takes it in by any interface
		return is_loopback(&route) ? 0 : append(&routes->coming, &route);
	hop = choose_hop(kernel, parsed);
	if (!hop)
		return 0;
	route.ifindex = hop->ifindex;
	route.gateway = hop->gateway;
	route.metric = parsed->metric;
	return append(&routes->coming, &route);
}

bool lb_kernel_routes_concerned(const struct lb_kernel *kernel,
	const struct lb_kernel_routes *routes, const struct lb_netlink_route *parsed,
	uint16_t nlmsg_flags)
{
	if (routes->local)
		return parsed->table == RT_TABLE_LOCAL && !parsed->cloned;
	if (parsed->table != RT_TABLE_MAIN || parsed->cloned)
		return false;
	// One that replaces, of whatever kind and interface, may have replaced one of ours.
	if (nlmsg_flags & NLM_F_REPLACE || parsed->n_hops == 0)
		return true;
	for (uint32_t i = 0; i < parsed->n_hops; i++) {
		if (lb_kernel_find_interface(kernel, parsed->hops[i].ifindex))
			return true;
	}
	return parsed->n_hops == LB_NETLINK_MAX_HOPS;
}

void lb_kernel_routes_adopt(struct lb_kernel_routes *routes, unsigned family)
{
	struct lb_kernel_raw_routes old = routes->dumped[family];

	routes->dumped[family] = routes->coming;
	routes->coming = old;
	routes->coming.n = 0;
	routes->known[family] = true;
}

void lb_kernel_routes_abandon(struct lb_kernel_routes *routes)
{
	routes->coming.n = 0;
}

static int compare_prefixes(const struct lb_kernel_route *a, const struct lb_kernel_route *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	if (a->length != b->length)
		return a->length > b->length ? -1 : 1;
	return memcmp(&a->prefix, &b->prefix, sizeof(a->prefix));
}

static int compare_raw(const void *first, const void *second)
{
	const struct lb_kernel_raw_route *a = first, *b = second;
	int by_prefix = compare_prefixes(&a->route, &b->route);

	if (by_prefix)
		return by_prefix;
	if (a->route.metric != b->route.metric)
		return a->route.metric < b->route.metric ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

static bool equal_routes(const struct lb_kernel_route *a, const struct lb_kernel_route *b)
{
	return compare_prefixes(a, b) == 0 && a->ifindex == b->ifindex && a->metric == b->metric &&
	       lb_addr_equal(&a->gateway, &b->gateway);
}

static bool equal_sets(
	const struct lb_kernel_routes *routes, const struct lb_kernel_route *other, size_t n)
{
	if (routes->n_routes != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!equal_routes(&routes->routes[i], &other[i]))
			return false;
	}
	return true;
}

// What the links that are up leave of both dumps, sorted. @return their number.
static size_t gather(const struct lb_kernel *kernel, const struct lb_kernel_routes *routes,
	struct lb_kernel_raw_route *all)
{
	size_t n = 0;

	for (unsigned family = 0; family < 2; family++) {
		const struct lb_kernel_raw_routes *dumped = &routes->dumped[family];

		for (size_t i = 0; i < dumped->n; i++) {
			if (routes->local || is_up(kernel, dumped->items[i].route.ifindex))
				all[n++] = dumped->items[i];
		}
	}
	qsort(all, n, sizeof(*all), compare_raw);
	return n;
}

static void build_groups(struct lb_kernel_routes *routes)
{
	struct lb_kernel_route_group *group = NULL;

	routes->n_groups = 0;
	for (size_t i = 0; i < routes->n_routes; i++) {
		const struct lb_kernel_route *route = &routes->routes[i];

		if (!group || group->family != route->family || group->length != route->length) {
			group = &routes->groups[routes->n_groups++];
			*group = (struct lb_kernel_route_group){route->family, route->length, i, 0};
		}
		group->n++;
	}
}

int lb_kernel_routes_build(const struct lb_kernel *kernel, struct lb_kernel_routes *routes)
{
	size_t n_raw = routes->dumped[0].n + routes->dumped[1].n, n = 0;
	struct lb_kernel_raw_route *all = calloc(n_raw + 1, sizeof(*all));
	struct lb_kernel_route *best = calloc(n_raw + 1, sizeof(*best));
	int changed = 0;

	if (!all || !best) {
		free(all);
		free(best);
		return -ENOMEM;
	}
	n_raw = gather(kernel, routes, all);
	for (size_t i = 0; i < n_raw; i++) {
		if (n == 0 || compare_prefixes(&best[n - 1], &all[i].route) != 0)
			best[n++] = all[i].route;
	}
	free(all);
	if (!equal_sets(routes, best, n)) {
		struct lb_kernel_route *old = routes->routes;

		routes->routes = best;
		routes->n_routes = n;
		build_groups(routes);
		best = old;
		changed = 1;
	}
	free(best);
	return changed;
}

const struct lb_kernel_route *lb_kernel_routes(const struct lb_kernel *kernel, size_t *n_routes)
{
	*n_routes = kernel->routes.n_routes;
	return kernel->routes.n_routes ? kernel->routes.routes : NULL;
}

const struct lb_kernel_route *lb_kernel_locals(const struct lb_kernel *kernel, size_t *n_locals)
{
	*n_locals = kernel->locals.n_routes;
	return kernel->locals.n_routes ? kernel->locals.routes : NULL;
}

static const struct lb_kernel_route *find_in(const struct lb_kernel_routes *routes,
	const struct lb_kernel_route_group *group, const struct lb_addr *addr)
{
	size_t low = group->start, high = group->start + group->n;
	struct lb_addr prefix = mask(addr, group->length + (group->family == 4 ? 96u : 0u));

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = memcmp(&routes->routes[middle].prefix, &prefix, sizeof(prefix));

		if (order == 0)
			return &routes->routes[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

// The longest prefix of @routes that @addr is in; NULL: none.
static const struct lb_kernel_route *find(
	const struct lb_kernel_routes *routes, const struct lb_addr *addr)
{
	uint8_t family = lb_addr_is_ipv4(addr) ? 4 : 6;

	for (size_t i = 0; i < routes->n_groups; i++) {
		const struct lb_kernel_route *found;

		if (routes->groups[i].family != family)
			continue;
		found = find_in(routes, &routes->groups[i], addr);
		if (found)
			return found;
	}
	return NULL;
}

int lb_kernel_lookup(
	const struct lb_kernel *kernel, const struct lb_addr *addr, struct lb_kernel_route *route)
{
	const struct lb_kernel_route *found = find(&kernel->routes, addr);

	if (!found)
		return -ENOENT;
	*route = *found;
	return 0;
}

bool lb_kernel_is_local(const struct lb_kernel *kernel, const struct lb_addr *addr)
{
	return find(&kernel->locals, addr) != NULL;
}
