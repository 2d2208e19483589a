/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/sim/short.h"

struct sim_config short_config(enum sim_strategy strategy, double changes_per_minute, uint32_t table_flows)
{
	return (struct sim_config){.strategy = strategy, .seed = 1, .n_backends = 117, .n_slots = 16381,
		.n_flows = SHORT_FLOWS, .table_flows = table_flows, .idle_timeout_s = 100, .warm_up_s = 120,
		.duration_s = 180, .changes_per_minute = changes_per_minute};
}

struct sim_result short_run(const struct sim_config *config)
{
	struct sim_result result;

	sim_run(config, &result);
	print_message("%lu flows, %lu packets, %lu changes: %lu broken, %lu on failed servers, %lu entries at most\n",
		result.n_flows, result.n_packets, result.n_changes, result.broken, result.failed,
		result.entries_max);
	assert_true(result.n_flows > SHORT_FLOWS * 10);
	assert_true(result.n_packets > result.n_flows * 2);
	assert_int_equal(result.dropped, 0);
	return result;
}

int short_set_up(void **state)
{
	(void)state;
	sim_init();
	return 0;
}

int short_tear_down(void **state)
{
	(void)state;
	sim_fini();
	return 0;
}
