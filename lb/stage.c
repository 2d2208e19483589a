/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/stage.h"

static bool is_excess(const struct lb_stage_settled *settled, uint16_t from, uint16_t to)
{
	return lb_stage_is_settled(settled, from) && lb_stage_is_settled(settled, to);
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
	while (b != 0) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/*
 * Slots are visited in steps of about n divided by the golden ratio, which spreads any first few of
 * them evenly: no neighbourhood of slots goes before the others.
 */
static uint32_t stride_of(uint32_t n_slots)
{
	uint32_t stride = (uint32_t)((uint64_t)n_slots * 618034 / 1000000);

	if (stride == 0)
		return 1;
	while (common_divisor(n_slots, stride) != 1)
		stride--; // 1 at the latest; the size of a table is prime anyway
	return stride;
}

uint32_t lb_stage_move(uint16_t *slots, const uint16_t *target, uint32_t n_slots,
	const struct lb_stage_settled *settled, uint32_t budget)
{
	uint32_t stride = stride_of(n_slots), slot = 0, n_waiting = 0;

	for (uint32_t i = 0; i < n_slots; i++) {
		if (slots[slot] == target[slot]) {
			// nothing to do
		} else if (!is_excess(settled, slots[slot], target[slot])) {
			slots[slot] = target[slot];
		} else if (budget > 0) {
			slots[slot] = target[slot];
			budget--;
		} else {
			n_waiting++;
		}
		slot = slot < n_slots - stride ? slot + stride : slot - (n_slots - stride);
	}
	return n_waiting;
}

struct lb_stage_step lb_stage_next(uint32_t n_slots, uint32_t n_waiting, uint32_t transition_ms)
{
	// slots that may move in an idle timeout
	uint64_t pace = n_waiting / LB_STAGE_SHARE;
	uint64_t interval_ms = transition_ms / LB_STAGE_SHARE, budget;

	if (pace < n_slots / LB_STAGE_FLOOR)
		pace = n_slots / LB_STAGE_FLOOR;
	if (pace == 0)
		pace = 1;
	// at least one slot per step, and steps not too often
	if (interval_ms < transition_ms / pace)
		interval_ms = transition_ms / pace;
	if (interval_ms < LB_STAGE_MIN_INTERVAL_MS)
		interval_ms = LB_STAGE_MIN_INTERVAL_MS;
	budget = transition_ms > 0 ? pace * interval_ms / transition_ms : pace;
	if (budget == 0)
		budget = 1;
	return (struct lb_stage_step){.budget = budget < n_waiting ? (uint32_t)budget : n_waiting,
		.after_ms = (uint32_t)interval_ms};
}
