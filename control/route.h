/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_ROUTE_H
#define LB_CONTROL_ROUTE_H

#include "control/dp.h"

/* A set of routes as the data plane is to have them, and the difference between two.
 * Zero-initialised: empty. */
struct lb_routes {
	struct lb_msg_route *list; /* sorted by lb_routes_finish() */
	size_t n, n_allocated;
	bool overflow;
};

/** Beyond this, routes are left out and a line is logged: a full BGP table is not ours to carry. */
#define LB_ROUTES_MAX 65536u

/** Bits past @p length are cleared. */
void lb_routes_add(struct lb_routes *routes, const struct lb_addr *prefix, uint8_t family,
	uint8_t length, uint16_t nexthop);

/** Sort; of several with one prefix the first one added stays. */
void lb_routes_finish(struct lb_routes *routes);

/** Send what turns @p from into @p to (both finished): first what is new or changed, then what is
 * gone. */
void lb_routes_send_difference(
	const struct lb_routes *from, const struct lb_routes *to, struct lb_dp *dp);

/** @return 0; -ENOMEM. */
int lb_routes_send_all(const struct lb_routes *routes, struct lb_dp *dp);

void lb_routes_free(struct lb_routes *routes);

#endif
