/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_SHARES_H
#define LB_CONTROL_SHARES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lb/pick.h"

/*
 * Weights that change by themselves: slow start and what a backend asks for. The base table is from the
 * configured weights, whatever these say: a backend with less gives up slots of its own and no other
 * slot moves. Which slots depends on nothing but their number: every host gives up the same ones, and a
 * share that grows takes back slots and gives up none.
 */

/** A backend that takes part. */
struct lb_share {
	uint16_t id;
	uint16_t weight; /* 1..256 */
	uint8_t ramp;    /* 1..100 % of its weight: slow start */
	uint8_t share;   /* 1..100 %: its own wish */
};

/** Whether any backend has another ramp (share) than others: only then anything moves. */
bool lb_shares_any_ramp(const struct lb_share *shares, size_t n);
bool lb_shares_any_share(const struct lb_share *shares, size_t n);

/**
 * Slow start: of each backend's slots, all but ramp % (of the most advanced backend's) go back to who
 * has them while it is away.
 * @param without the table of only those that are most advanced.
 */
void lb_shares_apply_ramp(const struct lb_share *shares, size_t n, const uint16_t *without,
	uint32_t n_slots, uint16_t *slots);

/** Their own wishes: of each backend's slots all but share % (of the greatest) are spread over all by
 * weight and share. @return 0; -ENOMEM. */
int lb_shares_apply_share(const struct lb_share *shares, size_t n, uint32_t n_slots, uint16_t *slots);

/** What @p shares make of @p spec: n_members, n_sequence. */
void lb_shares_size_pick(const struct lb_share *shares, size_t n, struct lb_pick_spec *spec);

/**
 * Write the pick table: members by rising id, each with its weight x ramp x share, and the smooth
 * sequence of these in the order of @p shares.
 * @param words lb_pick_words(spec). @return 0; -ENOMEM.
 */
int lb_shares_fill_pick(const struct lb_share *shares, size_t n, const struct lb_pick_spec *spec,
	uint16_t *words);

#endif
