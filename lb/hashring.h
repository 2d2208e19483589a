/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_HASHRING_H
#define LB_HASHRING_H

#include "lb/maglev.h"

/*
 * A consistent-hash ring as a lookup table: every backend has LB_HASHRING_POINTS points per unit of
 * weight on a circle, at places that depend on its name and the point's number only; each slot, whose
 * places are spread evenly, belongs to the backend of the first point at or after it. (Karger et al.,
 * 1997; ketama has the number of points.)
 */
#define LB_HASHRING_POINTS 150u
/*
 * Points of all backends together. Where the weights ask for more, each backend has its share of so
 * many instead, at least one: more than some 16 points per slot change hardly a slot.
 */
#define LB_HASHRING_MAX_POINTS (1u << 20)

/**
 * Write the table for the present health. As with Maglev, a slot whose owner on the ring of all base
 * nodes, up or not, is eligible is that one's; the others go to the next eligible node on the ring of
 * all. So a failure moves only the slots of who failed, and backup nodes get only such.
 *
 * @param nodes    as for lb_maglev_create(): names must be unique (not checked).
 * @param eligible one flag per node.
 * @param slots    @p n_slots ids; LB_MAGLEV_EMPTY throughout if no node of weight > 0 is eligible.
 * @return 0; -EINVAL n_slots is 0 or above LB_MAGLEV_MAX_SLOTS; -ENOMEM.
 */
int lb_hashring_fill(uint32_t n_slots, const struct lb_maglev_node *nodes, uint32_t n_nodes,
	const bool *eligible, uint16_t *slots);

#endif
