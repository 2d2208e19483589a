/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_STAGE_H
#define LB_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "lb/msg.h"

/*
 * Staged moves: from the lookup table that is published to the one that is wanted, in steps.
 *
 * A backend that comes, goes or changes its weight has to gain or lose slots: these move at once.
 * But the even counts of a Maglev table (lb/population.h) move others with them, between two
 * backends of which neither changed: *excess*. It serves nobody to have these at once, and while a
 * slot is in transition a balancer that inherits a flow from another that died cannot know whether
 * the flow is older than the move. So excess moves wait and go a few at a time.
 *
 * What is wanted depends on names and weights only and is the same on all hosts. What is published
 * differs from it in the slots that wait; hosts that saw the same changes have the same ones, as the
 * order in which they go is fixed by the slots' numbers.
 *
 * The pace: in an idle timeout (as long as a slot is in transition) an eighth of what waits, but at
 * least LB_STAGE_FLOOR of all slots, so that it comes to an end. When a 469th backend joins, 0.42 %
 * of all slots wait: all have moved after 8 idle timeouts, and at no time are more than 0.05 % of
 * all slots in transition for this. With a backend more per minute and 5 minutes of idle timeout
 * about a sixth of all slots would wait.
 */
#define LB_STAGE_FLOOR 2000u           /* 1/2000 */
#define LB_STAGE_SHARE 8u              /* 1/8 */
#define LB_STAGE_MIN_INTERVAL_MS 10000 /* between two steps: each is a table to publish */

/**
 * Backends that nothing changed for since the table was published: eligible then and now, with the
 * same weight. One bit per id.
 */
struct lb_stage_settled {
	uint64_t bits[(LB_MAX_BACKENDS + 64u) / 64u];
};

static inline void lb_stage_settle(struct lb_stage_settled *settled, uint16_t id)
{
	settled->bits[id / 64] |= UINT64_C(1) << id % 64;
}

static inline bool lb_stage_is_settled(const struct lb_stage_settled *settled, uint16_t id)
{
	return id < LB_MAX_BACKENDS && (settled->bits[id / 64] >> id % 64 & 1) != 0;
}

/**
 * Move on towards the table that is wanted: every slot that has to do with a backend that is not
 * settled, and at most @p budget of the others.
 *
 * @param slots   n_slots ids or LB_BACKEND_NONE, as published; becomes what to publish next.
 * @param target  n_slots, what is wanted.
 * @param budget  of excess moves; UINT32_MAX: no limit, and @p slots becomes @p target.
 * @return number of slots that still differ from @p target.
 */
uint32_t lb_stage_move(uint16_t *slots, const uint16_t *target, uint32_t n_slots,
	const struct lb_stage_settled *settled, uint32_t budget);

/** When to take the next step, and how large. */
struct lb_stage_step {
	uint32_t budget;
	uint32_t after_ms;
};

/**
 * The next step when @p n_waiting of @p n_slots wait; 1..n_slots.
 * @param transition_ms the service's idle timeout.
 */
struct lb_stage_step lb_stage_next(uint32_t n_slots, uint32_t n_waiting, uint32_t transition_ms);

#endif
