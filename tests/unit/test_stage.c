/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lb/maglev.h"
#include "lb/stage.h"

#define N_SLOTS 16381u
#define MAX_NODES 120u
#define T_MS 300000u

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((random_state >> 32) * n >> 32);
}

/* The backends of a service; a node that is not there has no name in the table. */
struct fleet {
	bool there[MAX_NODES], up[MAX_NODES];
	uint32_t weight[MAX_NODES];
};

static uint16_t id_of(unsigned node)
{
	return (uint16_t)(node * 500 + 3);
}

static void build(const struct fleet *fleet, uint16_t *slots)
{
	static char names[MAX_NODES][16];
	struct lb_maglev_node nodes[MAX_NODES];
	bool eligible[MAX_NODES];
	struct lb_maglev *maglev;
	uint32_t n = 0;

	for (unsigned i = 0; i < MAX_NODES; i++) {
		if (!fleet->there[i])
			continue;
		snprintf(names[i], sizeof(names[i]), "node-%u", i);
		eligible[n] = fleet->up[i];
		nodes[n++] = (struct lb_maglev_node){.name = names[i],
			.weight = fleet->weight[i],
			.id = id_of(i),
			.base = true};
	}
	assert_int_equal(lb_maglev_create(N_SLOTS, nodes, n, &maglev), 0);
	assert_int_equal(lb_maglev_fill(maglev, eligible, slots), 0);
	lb_maglev_destroy(maglev);
}

static bool serves(const struct fleet *fleet, unsigned i)
{
	return fleet->there[i] && fleet->up[i] && fleet->weight[i] > 0;
}

static bool is_steady(const struct fleet *a, const struct fleet *b, unsigned i)
{
	return serves(a, i) && serves(b, i) && a->weight[i] == b->weight[i];
}

static struct lb_stage_settled settled_of(const struct fleet *before, const struct fleet *after)
{
	struct lb_stage_settled settled = {0};

	for (unsigned i = 0; i < MAX_NODES; i++)
		if (is_steady(before, after, i))
			lb_stage_settle(&settled, id_of(i));
	return settled;
}

static struct fleet full_fleet(unsigned n)
{
	struct fleet fleet = {0};

	for (unsigned i = 0; i < MAX_NODES; i++) {
		fleet.there[i] = i < n;
		fleet.up[i] = true;
		fleet.weight[i] = 1 + i % 3;
	}
	return fleet;
}

static void change(struct fleet *fleet)
{
	unsigned i = random_below(MAX_NODES);

	switch (random_below(3)) {
	case 0:
		fleet->there[i] = !fleet->there[i];
		break;
	case 1:
		fleet->up[i] = !fleet->up[i];
		break;
	default:
		fleet->weight[i] = random_below(5);
	}
	fleet->there[0] = fleet->up[0] = true; // somebody serves
	fleet->weight[0] = 1;
}

static void without_limit_the_target_is_reached(void **state)
{
	struct fleet before = full_fleet(100), after = before;
	uint16_t slots[N_SLOTS], target[N_SLOTS];
	struct lb_stage_settled settled;

	(void)state;
	after.there[100] = true;
	build(&before, slots);
	build(&after, target);
	settled = settled_of(&before, &after);
	assert_int_equal(lb_stage_move(slots, target, N_SLOTS, &settled, UINT32_MAX), 0);
	assert_memory_equal(slots, target, sizeof(slots));
}

static void a_new_backend_has_its_slots_at_once(void **state)
{
	struct fleet before = full_fleet(100), after = before;
	uint16_t slots[N_SLOTS], old[N_SLOTS], target[N_SLOTS];
	struct lb_stage_settled settled;
	uint32_t n_waiting, n_excess = 0;

	(void)state;
	after.there[100] = true;
	build(&before, slots);
	build(&after, target);
	memcpy(old, slots, sizeof(old));
	settled = settled_of(&before, &after);
	n_waiting = lb_stage_move(slots, target, N_SLOTS, &settled, 0);
	for (uint32_t i = 0; i < N_SLOTS; i++) {
		assert_int_equal(slots[i], target[i] == id_of(100) ? target[i] : old[i]);
		n_excess += slots[i] != target[i];
	}
	assert_int_equal(n_waiting, n_excess);
	assert_true(n_excess > 0); // or there would be nothing to test
}

static void a_backend_that_fails_loses_its_slots_at_once(void **state)
{
	struct fleet before = full_fleet(100), after = before;
	uint16_t slots[N_SLOTS], target[N_SLOTS];
	struct lb_stage_settled settled;

	(void)state;
	after.up[7] = false;
	build(&before, slots);
	build(&after, target);
	settled = settled_of(&before, &after);
	// nothing else moves anyway
	assert_int_equal(lb_stage_move(slots, target, N_SLOTS, &settled, 0), 0);
	assert_memory_equal(slots, target, sizeof(slots));
}

static void a_weight_acts_at_once(void **state)
{
	struct fleet before = full_fleet(100), after = before;
	uint16_t slots[N_SLOTS], target[N_SLOTS];
	struct lb_stage_settled settled;
	uint32_t has = 0, wants = 0;

	(void)state;
	after.weight[7] = 9;
	build(&before, slots);
	build(&after, target);
	settled = settled_of(&before, &after);
	assert_true(lb_stage_move(slots, target, N_SLOTS, &settled, 0) > 0);
	for (uint32_t i = 0; i < N_SLOTS; i++) {
		has += slots[i] == id_of(7);
		wants += target[i] == id_of(7);
	}
	assert_int_equal(has, wants);
}

static void slots_of_nobody_and_of_strangers_move_at_once(void **state)
{
	uint16_t slots[5] = {LB_BACKEND_NONE, 1, 9, 1, 2};
	const uint16_t target[5] = {1, LB_BACKEND_NONE, 1, 9, 1};
	struct lb_stage_settled settled = {0};

	(void)state;
	lb_stage_settle(&settled, 1);
	lb_stage_settle(&settled, 2);
	assert_int_equal(lb_stage_move(slots, target, 5, &settled, 0), 1);
	assert_memory_equal(slots, target, 4 * sizeof(slots[0]));
	assert_int_equal(slots[4], 2);
}

static void hosts_go_in_the_same_order(void **state)
{
	struct fleet before = full_fleet(100), after = before;
	uint16_t big[N_SLOTS], small[N_SLOTS], target[N_SLOTS];
	struct lb_stage_settled settled;

	(void)state;
	after.there[100] = true;
	build(&before, big);
	build(&before, small);
	build(&after, target);
	settled = settled_of(&before, &after);
	lb_stage_move(big, target, N_SLOTS, &settled, 12);
	for (unsigned i = 0; i < 4; i++)
		lb_stage_move(small, target, N_SLOTS, &settled, 3);
	assert_memory_equal(big, small, sizeof(big));
}

/* Shares of those that serve, as far as a binomial would be even: six standard deviations. */
static void check_balance(const struct fleet *fleet, const uint16_t *slots)
{
	static uint32_t counts[LB_MAX_BACKENDS + 1u];
	double weights = 0;

	memset(counts, 0, sizeof(counts));
	for (uint32_t i = 0; i < N_SLOTS; i++)
		counts[slots[i]]++;
	for (unsigned i = 0; i < MAX_NODES; i++)
		weights += serves(fleet, i) ? fleet->weight[i] : 0;
	for (unsigned i = 0; i < MAX_NODES; i++) {
		double due = serves(fleet, i) ? N_SLOTS * fleet->weight[i] / weights : 0;
		double off = counts[id_of(i)] - due;

		assert_true(off * off <= 36 * due);
	}
}

/*
 * Random changes with a step after each: at no time has a slot a backend that does not serve, at
 * most the budget moves between those that stay as they are, and shares are close. When the changes
 * end the table is soon the one that is wanted.
 */
static void many_changes_stay_safe_close_and_converge(void **state)
{
	struct fleet before = full_fleet(100), after = before;
	uint16_t slots[N_SLOTS], old[N_SLOTS], target[N_SLOTS];
	struct lb_stage_settled settled;
	uint32_t n_waiting = 0, n_steps;

	(void)state;
	build(&before, slots);
	for (unsigned round = 0; round < 300; round++) {
		uint32_t budget = random_below(20), n_moved = 0;

		change(&after);
		build(&after, target);
		memcpy(old, slots, sizeof(old));
		settled = settled_of(&before, &after);
		n_waiting = lb_stage_move(slots, target, N_SLOTS, &settled, budget);
		for (uint32_t i = 0; i < N_SLOTS; i++) {
			assert_int_equal(slots[i] % 500, 3);
			assert_true(serves(&after, slots[i] / 500));
			assert_true(slots[i] == old[i] || slots[i] == target[i]);
			n_moved += slots[i] != old[i] && is_steady(&before, &after, old[i] / 500) &&
				   is_steady(&before, &after, slots[i] / 500);
		}
		assert_true(n_moved <= budget);
		check_balance(&after, slots);
		before = after;
	}
	assert_true(n_waiting > 0);
	settled = settled_of(&after, &after);
	for (n_steps = 0; n_waiting > 0; n_steps++) {
		struct lb_stage_step step = lb_stage_next(N_SLOTS, n_waiting, T_MS);
		uint32_t left = lb_stage_move(slots, target, N_SLOTS, &settled, step.budget);

		assert_int_equal(left, n_waiting - step.budget);
		n_waiting = left;
	}
	assert_true(n_steps < 1000);
	assert_memory_equal(slots, target, sizeof(slots));
}

/* In an idle timeout at most 1/2000 of all slots, or an eighth of those that wait. */
static void pace_is_bounded(void **state)
{
	static const uint32_t sizes[] = {2, 13, 1021, 16381, 65537, 655373};
	static const uint32_t timeouts_ms[] = {1000, 30000, 300000, 900000, LB_IDLE_TIMEOUT_MAX_MS};

	(void)state;
	for (unsigned i = 0; i < 6 * 5; i++) {
		uint32_t n_slots = sizes[i % 6], transition_ms = timeouts_ms[i / 6];

		for (uint32_t waiting = 1; waiting <= n_slots; waiting += 1 + waiting / 3) {
			struct lb_stage_step step = lb_stage_next(n_slots, waiting, transition_ms);
			double pace = (double)step.budget * transition_ms / step.after_ms;

			assert_in_range(step.budget, 1, waiting);
			assert_true(step.after_ms >= LB_STAGE_MIN_INTERVAL_MS);
			assert_true(pace <= 1.01 || pace <= n_slots / 2000.0 + 0.01 ||
				    pace <= waiting / 8.0 + 0.01);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_limit_the_target_is_reached),
		cmocka_unit_test(a_new_backend_has_its_slots_at_once),
		cmocka_unit_test(a_backend_that_fails_loses_its_slots_at_once),
		cmocka_unit_test(a_weight_acts_at_once),
		cmocka_unit_test(slots_of_nobody_and_of_strangers_move_at_once),
		cmocka_unit_test(hosts_go_in_the_same_order),
		cmocka_unit_test(many_changes_stay_safe_close_and_converge),
		cmocka_unit_test(pace_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
