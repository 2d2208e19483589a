/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_REST_H
#define LB_CONTROL_REST_H

#include "control/ids.h"
#include "lb/shm.h"

/*
 * Ids of backends that are gone. Flow entries may name one until each worker's sweep has gone round twice since the data
 * plane lost the backend; it refuses the id for somebody new so long, and here it is given to nobody new. So the ids of
 * those that went in the last half minute are as good as used: with the configured backends they can be no more than
 * LB_MAX_BACKENDS.
 */
struct lb_rest;

/** @param ids in which they rest; it outlives this. NULL without memory. */
struct lb_rest *lb_rest_create(struct lb_ids *ids);
void lb_rest_destroy(struct lb_rest *rest);

/** @p id was freed, and the data plane will hear of it. */
void lb_rest_add(struct lb_rest *rest, uint32_t id);

/**
 * The data plane is up and has done all that it was told: who was added until now has gone there. At most once a second
 * this begins a rest; call it again later.
 */
void lb_rest_settled(struct lb_rest *rest, const struct lb_shm_map *map);

/** Each second, while it is up: let go of what has rested. */
void lb_rest_tick(struct lb_rest *rest, const struct lb_shm_map *map);

/**
 * In how many seconds (1 and more) @p n_ids of those that rest now will have done so, if a data plane is up; 0: so many
 * do not rest.
 */
unsigned lb_rest_wait_s(const struct lb_rest *rest, uint32_t n_ids);

#endif
