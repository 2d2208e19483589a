/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The oracle's long set (tests/sim/sim.h): flows that break, and flow-table entries in use, for hashing only, full tracking
 * and ours, over the rate of backend changes; 468 servers, idle timeout 5 min, 10 min of changes. 100 000 live flows;
 * `-- --long` takes 10 million that live ten times as long (some 10 GB of memory, hours of time). Virtual time: figures are
 * exact, and the same in each run.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench/bench.h"
#include "tests/sim/sim.h"

static const struct {
	const char *name;
	enum sim_strategy strategy;
	unsigned table_part; /* of the live flows: the table has room for 1/table_part of them; 0: for all */
} strategies[] = {
	{"hash", SIM_HASH, 0},
	{"tracking", SIM_TRACK, 0},
	{"tracking_quarter", SIM_TRACK, 4},
	{"ours", SIM_OURS, 0},
	{"ours_quarter", SIM_OURS, 4},
};
#define N_STRATEGIES (sizeof(strategies) / sizeof(strategies[0]))
#define N_RATES 5u
static const unsigned rates[N_RATES] = {1, 2, 10, 20, 80};

static uint64_t broken[N_STRATEGIES][N_RATES];

static struct sim_config config_of(unsigned strategy, unsigned rate, bool is_long)
{
	uint32_t n_flows = is_long ? 10000000 : bench.quick ? 10000 : 100000;

	return (struct sim_config){.strategy = strategies[strategy].strategy,
		.seed = 1,
		.n_backends = 468,
		.n_slots = 65537,
		.n_flows = n_flows,
		.table_flows = strategies[strategy].table_part != 0 ? n_flows / strategies[strategy].table_part
								    : n_flows * 2,
		.idle_timeout_s = 300,
		.warm_up_s = 320,
		.duration_s = bench.quick ? 300 : 600,
		.life_scale = is_long ? 10 : 1,
		.changes_per_minute = rate};
}

static void report(const char *what, unsigned strategy, unsigned rate, double value, const char *unit)
{
	char name[128];

	snprintf(name, sizeof(name), "sim/%s?strategy=%s&changes_per_minute=%u", what,
		strategies[strategy].name, rate);
	bench_result_add(name, unit, &value, 1);
}

// Broken flows on a logarithmic scale, a line per strategy and rate.
static void plot(void)
{
	for (unsigned r = 0; r < N_RATES; r++) {
		printf("\n%u changes per minute\n", rates[r]);
		for (unsigned s = 0; s < N_STRATEGIES; s++) {
			int width = broken[s][r] == 0 ? 0 : 1 + (int)(log10((double)broken[s][r]) * 10);

			printf("  %-17s %9lu %.*s\n", strategies[s].name, broken[s][r], width,
				"############################################################");
		}
	}
}

int main(int argc, char **argv)
{
	bool is_long;

	bench_parse_args(argc, argv);
	is_long = bench.n_args > 0 && strcmp(bench.args[0], "--long") == 0;
	sim_init();
	for (unsigned r = 0; r < N_RATES; r++) {
		for (unsigned s = 0; s < N_STRATEGIES; s++) {
			struct sim_config config = config_of(s, rates[r], is_long);
			struct sim_result result;

			if (!bench_wanted(strategies[s].name))
				continue;
			sim_run(&config, &result);
			broken[s][r] = result.broken;
			report("broken_flows", s, rates[r], (double)result.broken, "flows");
			report("table_entries", s, rates[r], (double)result.entries_max, "entries");
		}
	}
	sim_fini();
	plot();
	return bench_finish();
}
