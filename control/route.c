/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/mem.h"
#include "lb/log.h"

static void clear_host_bits(struct lb_addr *addr, unsigned length)
{
	for (unsigned bit = length; bit < 128;) {
		if (bit % 8 == 0) {
			addr->bytes[bit / 8] = 0;
			bit += 8;
		} else {
			addr->bytes[bit / 8] &= (uint8_t)(0xff << (8 - bit % 8));
			bit += 8 - bit % 8;
		}
	}
}

void lb_routes_add(struct lb_routes *routes, const struct lb_addr *prefix, uint8_t family,
	uint8_t length, uint16_t nexthop)
{
	struct lb_msg_route *route;

	if (routes->n >= LB_ROUTES_MAX) {
		routes->overflow = true;
		return;
	}
	if (routes->n == routes->n_allocated) {
		routes->n_allocated = routes->n_allocated > 0 ? 2 * routes->n_allocated : 16;
		routes->list =
			lb_xrealloc(routes->list, routes->n_allocated, sizeof(*routes->list));
	}
	route = &routes->list[routes->n++];
	*route = (struct lb_msg_route){
		.prefix = *prefix,
		.family = family,
		.length = length,
		.nexthop = nexthop,
		.zero = (uint32_t)routes->n, // the order of adding, until it is finished
	};
	clear_host_bits(&route->prefix, family == 4 ? 96u + length : length);
}

static int compare_prefix(const struct lb_msg_route *a, const struct lb_msg_route *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	if (a->length != b->length)
		return a->length < b->length ? -1 : 1;
	return memcmp(&a->prefix, &b->prefix, sizeof(a->prefix));
}

static int compare(const void *a, const void *b)
{
	const struct lb_msg_route *left = a, *right = b;
	int order = compare_prefix(left, right);

	return order != 0 ? order : left->zero < right->zero ? -1 : 1;
}

void lb_routes_finish(struct lb_routes *routes)
{
	size_t n = 0;

	if (routes->n > 0)
		qsort(routes->list, routes->n, sizeof(*routes->list), compare);
	for (size_t i = 0; i < routes->n; i++) {
		if (n > 0 && compare_prefix(&routes->list[n - 1], &routes->list[i]) == 0)
			continue;
		routes->list[n] = routes->list[i];
		routes->list[n++].zero = 0;
	}
	routes->n = n;
	if (routes->overflow)
		lb_log(LB_LOG_WARN, "nexthop", "more than %u routes: the rest is left out",
			LB_ROUTES_MAX);
}

static int send_one(const struct lb_msg_route *route, uint16_t op, struct lb_dp *dp)
{
	struct lb_msg msg = {.op = op, .route = *route};

	return lb_dp_send(dp, &msg, NULL, NULL);
}

void lb_routes_send_difference(
	const struct lb_routes *from, const struct lb_routes *to, struct lb_dp *dp)
{
	size_t i = 0;

	for (size_t j = 0; j < to->n; j++) {
		while (i < from->n && compare_prefix(&from->list[i], &to->list[j]) < 0)
			i++;
		if (i == from->n || memcmp(&from->list[i], &to->list[j], sizeof(to->list[j])) != 0)
			(void)send_one(&to->list[j], LB_OP_ROUTE_SET, dp);
	}
	i = 0;
	for (size_t j = 0; j < from->n; j++) {
		while (i < to->n && compare_prefix(&to->list[i], &from->list[j]) < 0)
			i++;
		if (i == to->n || compare_prefix(&to->list[i], &from->list[j]) != 0)
			(void)send_one(&from->list[j], LB_OP_ROUTE_DEL, dp);
	}
}

int lb_routes_send_all(const struct lb_routes *routes, struct lb_dp *dp)
{
	for (size_t i = 0; i < routes->n; i++)
		if (send_one(&routes->list[i], LB_OP_ROUTE_SET, dp) < 0)
			return -ENOMEM;
	return 0;
}

void lb_routes_free(struct lb_routes *routes)
{
	free(routes->list);
	*routes = (struct lb_routes){0};
}
