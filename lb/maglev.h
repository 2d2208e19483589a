/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_MAGLEV_H
#define LB_MAGLEV_H

#include <stdbool.h>
#include <stdint.h>

#define LB_MAGLEV_MIN_SLOTS 2u
#define LB_MAGLEV_MAX_SLOTS 655373u
#define LB_MAGLEV_EMPTY UINT16_MAX /* slot value where no backend is eligible */

/**
 * One backend as the table builder sees it.
 * `base` backends share the base population: the *configured* backends of the first tier, up or
 * not. The others (backup tiers) get slots only in a refill.
 */
struct lb_maglev_node {
	const char *name; /* unique in the table; the only thing the permutation depends on */
	uint32_t weight;  /* 0..65535; 0 takes no slot */
	uint16_t id;      /* what is written into the slots; not LB_MAGLEV_EMPTY */
	bool base;
};

struct lb_maglev;

/**
 * Populate the base table: weighted Maglev (NSDI 2016, section 3.4) over the base nodes, from their
 * names and weights only, so that neither their order nor their health matters and every host
 * agrees. Slots are proportional to weight; with equal weights counts differ by at most 1.
 *
 * @param n_slots a prime, LB_MAGLEV_MIN_SLOTS..LB_MAGLEV_MAX_SLOTS.
 * @param nodes   @p n_nodes nodes; copied (names too).
 * @param out     receives an object to be freed with lb_maglev_destroy().
 * @return 0; -EINVAL n_slots out of range or not prime, a duplicate name or an id out of range;
 * -ENOMEM.
 */
int lb_maglev_create(uint32_t n_slots, const struct lb_maglev_node *nodes, uint32_t n_nodes,
	struct lb_maglev **out);

/** Free; NULL is allowed. */
void lb_maglev_destroy(struct lb_maglev *maglev);

/**
 * Write the table for the present health: a base node that is eligible keeps every slot of its own;
 * the slots of those that are not are refilled by going on with the same population over all
 * eligible nodes (base or not) by weight. With everyone eligible the result is the base table, bit
 * for bit.
 *
 * @param eligible one flag per node, in the order given to lb_maglev_create().
 * @param slots    n_slots ids; LB_MAGLEV_EMPTY throughout if no node of weight > 0 is eligible.
 * @return 0; -ENOMEM.
 */
int lb_maglev_fill(const struct lb_maglev *maglev, const bool *eligible, uint16_t *slots);

/** Whether @p n is prime (trial division; n up to 2^32-1). */
bool lb_maglev_is_prime(uint32_t n);

#endif
