/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_POPULATION_H
#define LB_POPULATION_H

#include <stdint.h>

/*
 * Populating a Maglev table: inside of maglev.c, by itself so that tests can compare it with a
 * naive model.
 *
 * Each walker goes through all slots in an order of its own, pos, pos + skip, pos + 2 skip ...
 * modulo the prime number of slots. Time runs in ticks; in each a walker looks at `weight /
 * LB_POPULATION_UNIT` slots (at one in every few ticks, that is) and claims the slot if it is free,
 * until it has what it is due.
 *
 * Unlike NSDI 2016's listing, where a turn goes on until it finds a free slot, a look at a taken
 * slot costs the turn. So when a walker looks at which slot depends on nobody else, and a slot goes
 * to the walker that comes to it first: if another joins or leaves, only the slots that it gets or
 * had move, and some at the end of the population, where walkers stop because they have their due.
 * Measured, 100 walkers of equal weight and 65537 slots, one leaves: 0.29 % of the others' slots
 * move, against 0.56 %.
 *
 * That remainder is the price of even dues. With 468 equal walkers, one of which joins, 0.42 % of
 * all slots move beside the 0.21 % that it is due. Without dues none would, but since each walker
 * comes first to a random number of slots (6 % standard deviation at 140 slots each), the counts
 * would be from 0.80 to 1.20 of the shares; whatever evens that out depends on those numbers, each
 * of which changes when a walker joins. Tried: dues within 2, 4, 6 slots of the share: 0.39 %,
 * 0.24 %, 0.19 %; at most 2, 4, 6 slots above it, no lower bound: 0.39 %, 0.24 %, 0.16 %, but the
 * least count falls to 0.75 of its share. Not worth it: lb/stage.h lets these moves wait instead.
 */
#define LB_POPULATION_UNIT 65536u

struct lb_walker {
	uint32_t pos;   /* the slot it looks at next */
	uint32_t skip;  /* 1..n_slots-1 */
	uint32_t due;   /* slots that it has still to claim */
	uint16_t value; /* what it writes into its slots */
	uint16_t node;  /* caller's */
};

struct lb_population {
	uint32_t n_slots; /* prime */
	uint32_t n_free;
	uint64_t *taken; /* one bit per slot, lowest first; lb_population_words() of them */
	uint16_t *slots; /* n_slots values; written where claimed */
	uint32_t *next;  /* by walker's node: where it stopped; may be NULL */
	struct lb_walker *walkers; /* by falling weight; used up */
	const uint32_t *weights;   /* of the walkers, 1..LB_POPULATION_UNIT */
	uint32_t n_walkers;
};

static inline uint32_t lb_population_words(uint32_t n_slots)
{
	return (n_slots + 63) / 64;
}

/**
 * Claim every free slot. The dues must add up to n_free; walkers with nothing due are allowed. In a
 * tick walkers look in the order of their array. @return 0; -ENOMEM.
 */
int lb_population_run(struct lb_population *population);

#endif
