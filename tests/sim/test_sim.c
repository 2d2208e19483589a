/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The oracle's short set: what `scripts/test sim` runs. Same rules as the long one (`scripts/bench sim`), with
 * fewer servers and flows, an idle timeout of 100 s, and 5 minutes of virtual time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/sim/sim.h"

#define N_FLOWS 20000u
#define FLOOD 10.0
// Changes per minute that make 10 per idle timeout.
#define TEN_PER_TIMEOUT 6.0

static struct sim_config config_of(enum sim_strategy strategy, double changes_per_minute, uint32_t table_flows)
{
	return (struct sim_config){.strategy = strategy, .seed = 1, .n_backends = 117, .n_slots = 16381,
		.n_flows = N_FLOWS, .table_flows = table_flows, .idle_timeout_s = 100, .warm_up_s = 120,
		.duration_s = 180, .changes_per_minute = changes_per_minute};
}

// The run must have been one in which something could break.
static struct sim_result run(const struct sim_config *config)
{
	struct sim_result result;

	sim_run(config, &result);
	print_message("%lu flows, %lu packets, %lu changes: %lu broken, %lu on failed servers, %lu entries at most\n",
		result.n_flows, result.n_packets, result.n_changes, result.broken, result.failed,
		result.entries_max);
	assert_true(result.n_flows > N_FLOWS * 10);
	assert_true(result.n_packets > result.n_flows * 2);
	assert_int_equal(result.dropped, 0);
	return result;
}

static void room_for_all_breaks_none(void **state)
{
	static const double rates[] = {1, 10, 80};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct sim_config ours = config_of(SIM_OURS, rates[i], N_FLOWS * 2);
		struct sim_config hash = config_of(SIM_HASH, rates[i], N_FLOWS * 2);
		struct sim_result result = run(&ours);

		assert_int_equal(result.broken, 0);
		assert_true(result.imbalance < 0.3);
		assert_true(run(&hash).broken > 0); // the same changes do break flows without help
	}
}

static void room_for_a_quarter_breaks_none_up_to_ten_changes(void **state)
{
	struct sim_config ours = config_of(SIM_OURS, TEN_PER_TIMEOUT, N_FLOWS / 4);
	struct sim_config track = config_of(SIM_TRACK, TEN_PER_TIMEOUT, N_FLOWS / 4);

	(void)state;
	assert_int_equal(run(&ours).broken, 0);
	assert_true(run(&track).broken > 0);
}

static void room_for_a_quarter_breaks_fewer_than_tracking(void **state)
{
	static const double rates[] = {12, 30, 80};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct sim_config ours = config_of(SIM_OURS, rates[i], N_FLOWS / 4);
		struct sim_config track = config_of(SIM_TRACK, rates[i], N_FLOWS / 4);

		assert_true(run(&ours).broken < run(&track).broken);
	}
}

static void flood_breaks_none(void **state)
{
	struct sim_config config = config_of(SIM_OURS, TEN_PER_TIMEOUT, N_FLOWS * 2);

	(void)state;
	config.flood_per_flow = FLOOD;
	assert_int_equal(run(&config).broken, 0);
}

static void restart_breaks_none(void **state)
{
	struct sim_config config = config_of(SIM_OURS, TEN_PER_TIMEOUT, N_FLOWS * 2);

	(void)state;
	config.restart = true;
	assert_int_equal(run(&config).broken, 0);
}

static void death_of_a_balancer_breaks_none_without_changes(void **state)
{
	struct sim_config config = config_of(SIM_OURS, 0, N_FLOWS * 2);

	(void)state;
	config.failover = true;
	assert_int_equal(run(&config).broken, 0);
}

/*
 * The survivor cannot know which flows of the slots that changed are older than the change. A server that comes or
 * comes back takes its own slots, 0.2 % of all with 468 servers; half of their flows were at the balancer that died,
 * and the older ones are where the survivor sends them. Slots that an addition moves between others (lb/maglev.h) wait.
 */
static void death_of_a_balancer_after_an_addition_breaks_few(void **state)
{
	struct sim_config config = config_of(SIM_OURS, 1, N_FLOWS * 2);
	struct sim_result result;
	uint64_t broken;

	(void)state;
	config.n_backends = 468;
	config.failover = true;
	config.no_changes_before_failover = true;
	config.returns = true;
	result = run(&config);
	assert_int_equal(result.n_changes, 1);
	assert_true(result.broken * 1000 < N_FLOWS);
	config.returns = false;
	config.joins = true;
	result = run(&config);
	assert_int_equal(result.n_changes, 1);
	assert_true(result.n_waiting > 0);
	assert_true(result.broken * 1000 < N_FLOWS);
	broken = result.broken;
	config.at_once = true;
	result = run(&config);
	assert_int_equal(result.n_waiting, 0);
	assert_true(result.broken > broken);
}

// With room for every entry until it expires: pairs of flows that share both buckets fill these unevenly.
static void colliding_hashes_of_two_services_are_kept_apart(void **state)
{
	struct sim_config config = config_of(SIM_OURS, TEN_PER_TIMEOUT, N_FLOWS * 10);
	struct sim_result result;

	(void)state;
	config.two_services = true;
	result = run(&config);
	assert_int_equal(result.broken, 0);
	assert_int_equal(result.foreign, 0);
}

static void stale_history_is_found(void **state)
{
	struct sim_config config = config_of(SIM_OURS, TEN_PER_TIMEOUT, N_FLOWS / 4);

	(void)state;
	config.bug = SIM_BUG_STALE_HISTORY;
	assert_true(run(&config).broken > 0);
}

static void believed_collision_is_found(void **state)
{
	struct sim_config config = config_of(SIM_OURS, TEN_PER_TIMEOUT, N_FLOWS * 2);

	(void)state;
	config.two_services = true;
	config.bug = SIM_BUG_COLLISION;
	assert_true(run(&config).foreign > 0);
}

static void reset_weights_are_found(void **state)
{
	struct sim_config config = config_of(SIM_OURS, TEN_PER_TIMEOUT, N_FLOWS * 2);

	(void)state;
	config.bug = SIM_BUG_WEIGHTS;
	assert_true(run(&config).imbalance > 0.5);
}

static int set_up(void **state)
{
	(void)state;
	sim_init();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sim_fini();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(room_for_all_breaks_none),
		cmocka_unit_test(room_for_a_quarter_breaks_none_up_to_ten_changes),
		cmocka_unit_test(room_for_a_quarter_breaks_fewer_than_tracking),
		cmocka_unit_test(flood_breaks_none),
		cmocka_unit_test(restart_breaks_none),
		cmocka_unit_test(death_of_a_balancer_breaks_none_without_changes),
		cmocka_unit_test(death_of_a_balancer_after_an_addition_breaks_few),
		cmocka_unit_test(colliding_hashes_of_two_services_are_kept_apart),
		cmocka_unit_test(stale_history_is_found),
		cmocka_unit_test(believed_collision_is_found),
		cmocka_unit_test(reset_weights_are_found),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
