/* SPDX-License-Identifier: BSD-3-Clause */
/* The oracle's short set, all but test_crowded.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/sim/short.h"

#define FLOOD 10.0

static void room_for_all_breaks_none(void **state)
{
	static const double rates[] = {1, 10, 80};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct sim_config ours = short_config(SIM_OURS, rates[i], SHORT_FLOWS * 2);
		struct sim_config hash = short_config(SIM_HASH, rates[i], SHORT_FLOWS * 2);
		struct sim_result result = short_run(&ours);

		assert_int_equal(result.broken, 0);
		assert_true(result.imbalance < 0.3);
		assert_true(short_run(&hash).broken > 0); // the same changes do break flows without help
	}
}

static void room_for_a_quarter_breaks_none_up_to_ten_changes(void **state)
{
	struct sim_config ours = short_config(SIM_OURS, TEN_PER_TIMEOUT, SHORT_FLOWS / 4);
	struct sim_config track = short_config(SIM_TRACK, TEN_PER_TIMEOUT, SHORT_FLOWS / 4);

	(void)state;
	assert_int_equal(short_run(&ours).broken, 0);
	assert_true(short_run(&track).broken > 0);
}

static void flood_breaks_none(void **state)
{
	struct sim_config config = short_config(SIM_OURS, TEN_PER_TIMEOUT, SHORT_FLOWS * 2);

	(void)state;
	config.flood_per_flow = FLOOD;
	assert_int_equal(short_run(&config).broken, 0);
}

static void restart_breaks_none(void **state)
{
	struct sim_config config = short_config(SIM_OURS, TEN_PER_TIMEOUT, SHORT_FLOWS * 2);

	(void)state;
	config.restart = true;
	assert_int_equal(short_run(&config).broken, 0);
}

static void death_of_a_balancer_breaks_none_without_changes(void **state)
{
	struct sim_config config = short_config(SIM_OURS, 0, SHORT_FLOWS * 2);

	(void)state;
	config.failover = true;
	assert_int_equal(short_run(&config).broken, 0);
}

/*
 * The survivor cannot know which flows of the slots that changed are older than the change. A server that comes or
 * comes back takes its own slots, 0.2 % of all with 468 servers; half of their flows were at the balancer that died,
 * and the older ones are where the survivor sends them. Slots that an addition moves between others (lb/maglev.h) wait.
 */
static void death_of_a_balancer_after_an_addition_breaks_few(void **state)
{
	struct sim_config config = short_config(SIM_OURS, 1, SHORT_FLOWS * 2);
	struct sim_result result;
	uint64_t broken;

	(void)state;
	config.n_backends = 468;
	config.failover = true;
	config.no_changes_before_failover = true;
	config.returns = true;
	result = short_run(&config);
	assert_int_equal(result.n_changes, 1);
	assert_true(result.broken * 1000 < SHORT_FLOWS);
	config.returns = false;
	config.joins = true;
	result = short_run(&config);
	assert_int_equal(result.n_changes, 1);
	assert_true(result.n_waiting > 0);
	assert_true(result.broken * 1000 < SHORT_FLOWS);
	broken = result.broken;
	config.at_once = true;
	result = short_run(&config);
	assert_int_equal(result.n_waiting, 0);
	assert_true(result.broken > broken);
}

// With room for every entry until it expires: pairs of flows that share both buckets fill these unevenly.
static void colliding_hashes_of_two_services_are_kept_apart(void **state)
{
	struct sim_config config = short_config(SIM_OURS, TEN_PER_TIMEOUT, SHORT_FLOWS * 10);
	struct sim_result result;

	(void)state;
	config.two_services = true;
	result = short_run(&config);
	assert_int_equal(result.broken, 0);
	assert_int_equal(result.foreign, 0);
}

static void stale_history_is_found(void **state)
{
	struct sim_config config = short_config(SIM_OURS, TEN_PER_TIMEOUT, SHORT_FLOWS / 4);

	(void)state;
	config.bug = SIM_BUG_STALE_HISTORY;
	assert_true(short_run(&config).broken > 0);
}

static void believed_collision_is_found(void **state)
{
	struct sim_config config = short_config(SIM_OURS, TEN_PER_TIMEOUT, SHORT_FLOWS * 2);

	(void)state;
	config.two_services = true;
	config.bug = SIM_BUG_COLLISION;
	assert_true(short_run(&config).foreign > 0);
}

static void reset_weights_are_found(void **state)
{
	struct sim_config config = short_config(SIM_OURS, TEN_PER_TIMEOUT, SHORT_FLOWS * 2);

	(void)state;
	config.bug = SIM_BUG_WEIGHTS;
	assert_true(short_run(&config).imbalance > 0.5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(room_for_all_breaks_none),
		cmocka_unit_test(room_for_a_quarter_breaks_none_up_to_ten_changes),
		cmocka_unit_test(flood_breaks_none),
		cmocka_unit_test(restart_breaks_none),
		cmocka_unit_test(death_of_a_balancer_breaks_none_without_changes),
		cmocka_unit_test(death_of_a_balancer_after_an_addition_breaks_few),
		cmocka_unit_test(colliding_hashes_of_two_services_are_kept_apart),
		cmocka_unit_test(stale_history_is_found),
		cmocka_unit_test(believed_collision_is_found),
		cmocka_unit_test(reset_weights_are_found),
	};

	return cmocka_run_group_tests(tests, short_set_up, short_tear_down);
}
