/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The oracle's long set (tests/sim/sim.h): flows that break, and flow-table entries in use, for hashing only, full
 * tracking and ours, over the rate of backend changes; 468 servers, idle timeout 5 min, 100 000 live flows, 10 min of
 * changes (`--quick`: 10 000, 5 min, three rates). `-- --seeds N`: N times, with the spread. Virtual time: figures are exact, and
 * the same in each run.
 *
 * `-- --long` takes 10 million live flows that live ten times as long and send less often, 5 min of changes, one seed.
 * With --only STRATEGY and --rates a part of it.
 *
 * Then, unless --long: two balancers share the flows and one dies after one server came (back), of weight 2, 3, 4, 1
 * in turn with the seeds; --only failover is this alone.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
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
#define MAX_RATES 8u
#define MAX_SEEDS 32u

static struct {
	bool is_long;
	uint32_t n_flows;
	unsigned n_seeds;
	unsigned n_rates;
	unsigned rates[MAX_RATES]; /* changes per minute */
} options;

// What came before a balancer dies, and how long before.
static const struct {
	const char *name;
	bool returns, at_once;
	uint32_t seconds;
} failovers[] = {
	{"returned", true, false, 30},
	{"added", false, false, 30},
	{"added", false, false, 240},
	{"added_unstaged", false, true, 30},
};
#define N_FAILOVERS (sizeof(failovers) / sizeof(failovers[0]))

static double broken[N_STRATEGIES][MAX_RATES]; /* mean over seeds */

static struct sim_config config_of(unsigned strategy, unsigned rate, unsigned seed)
{
	uint32_t n_flows = options.n_flows;

	return (struct sim_config){.strategy = strategies[strategy].strategy,
		.seed = seed,
		.n_backends = 468,
		.n_slots = 65537,
		.n_flows = n_flows,
		.table_flows = strategies[strategy].table_part != 0 ? n_flows / strategies[strategy].table_part
								    : n_flows * 2,
		.idle_timeout_s = 300,
		.warm_up_s = 320,
		.duration_s = bench.quick || options.is_long ? 300 : 600,
		.life_scale = options.is_long ? 10 : 1,
		.interval_min_s = options.is_long ? 10 : 1,
		.changes_per_minute = rate};
}

static void report(const char *what, unsigned strategy, unsigned rate, double *values, const char *unit)
{
	char name[128];

	snprintf(name, sizeof(name), "sim/%s?strategy=%s&changes_per_minute=%u", what,
		strategies[strategy].name, rate);
	bench_result_add(name, unit, values, options.n_seeds);
}

static void run(unsigned strategy, unsigned rate_idx)
{
	double n_broken[MAX_SEEDS], n_entries[MAX_SEEDS], n_flows[MAX_SEEDS],
		n_packets[MAX_SEEDS];
	unsigned rate = options.rates[rate_idx];

	for (unsigned i = 0; i < options.n_seeds; i++) {
		struct sim_config config = config_of(strategy, rate, i + 1);
		struct sim_result result;

		sim_run(&config, &result);
		n_broken[i] = (double)result.broken;
		n_entries[i] = (double)result.entries_max;
		n_flows[i] = (double)result.n_flows;
		n_packets[i] = (double)result.n_packets;
		broken[strategy][rate_idx] += n_broken[i] / options.n_seeds;
	}
	report("broken_flows", strategy, rate, n_broken, "flows");
	report("flows", strategy, rate, n_flows, "flows");
	report("packets", strategy, rate, n_packets, "packets");
	report("table_entries", strategy, rate, n_entries, "entries");
}

static void run_failover(unsigned kind)
{
	double n_broken[MAX_SEEDS], n_waiting[MAX_SEEDS];
	char name[128];

	for (unsigned i = 0; i < options.n_seeds; i++) {
		struct sim_config config = config_of(N_STRATEGIES - 2, 1, i + 1); // ours, with room for all
		struct sim_result result;

		config.failover = config.no_changes_before_failover = true;
		config.duration_s = 600;
		config.change_before_failover_s = failovers[kind].seconds;
		config.returns = failovers[kind].returns;
		config.joins = !config.returns;
		config.at_once = failovers[kind].at_once;
		sim_run(&config, &result);
		n_broken[i] = (double)result.broken;
		n_waiting[i] = result.n_waiting;
	}
	snprintf(name, sizeof(name), "sim/broken_by_failover?server=%s&seconds_before=%u", failovers[kind].name,
		failovers[kind].seconds);
	bench_result_add(name, "flows", n_broken, options.n_seeds);
	snprintf(name, sizeof(name), "sim/moves_waiting?server=%s&seconds_before=%u", failovers[kind].name,
		failovers[kind].seconds);
	bench_result_add(name, "slots", n_waiting, options.n_seeds);
}

// Broken flows on a logarithmic scale, a line per strategy and rate.
static void plot(void)
{
	for (unsigned r = 0; r < options.n_rates; r++) {
		printf("\n%u changes per minute\n", options.rates[r]);
		for (unsigned s = 0; s < N_STRATEGIES; s++) {
			int width = broken[s][r] == 0 ? 0 : 1 + (int)(log10(broken[s][r] + 1) * 10);

			if (bench_wanted(strategies[s].name))
				printf("  %-17s %9.1f %.*s\n", strategies[s].name, broken[s][r], width,
					"############################################################"
					"####################");
		}
	}
}

static void parse_rates(char *text)
{
	options.n_rates = 0;
	for (char *rate = strtok(text, ","); rate != NULL && options.n_rates < MAX_RATES;
		rate = strtok(NULL, ","))
		options.rates[options.n_rates++] = (unsigned)atoi(rate);
}

static void parse_options(void)
{
	static const struct option names[] = {
		{"long", no_argument, NULL, 'l'},
		{"flows", required_argument, NULL, 'f'},
		{"seeds", required_argument, NULL, 's'},
		{"rates", required_argument, NULL, 'r'},
		{0},
	};
	static char all_rates[] = "1,2,10,20,80", quick_rates[] = "1,10,80";
	// getopt wants the word before the first argument: there is one, "--"
	char **argv = bench.args - 1;
	int option;

	options.n_flows = bench.quick ? 10000 : 100000;
	options.n_seeds = 1;
	parse_rates(bench.quick ? quick_rates : all_rates);
	optind = 0;
	while (bench.n_args > 0 && (option = getopt_long(bench.n_args + 1, argv, "", names, NULL)) != -1) {
		if (option == 'l') {
			options.is_long = true;
			options.n_flows = 10000000;
			options.n_seeds = 1;
		} else if (option == 'f') {
			options.n_flows = (uint32_t)atoi(optarg);
		} else if (option == 's') {
			options.n_seeds = (unsigned)atoi(optarg);
		} else if (option == 'r') {
			parse_rates(optarg);
		} else {
			options.n_rates = 0;
		}
	}
	if (options.n_flows < 1000 || options.n_flows > 100000000 || options.n_seeds < 1 ||
		options.n_seeds > MAX_SEEDS || options.n_rates == 0) {
		fprintf(stderr, "arguments: [--long] [--flows N] [--seeds 1..%u] [--rates N,N,...]\n",
			MAX_SEEDS);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	bench_parse_args(argc, argv);
	parse_options();
	sim_init();
	for (unsigned r = 0; r < options.n_rates; r++)
		for (unsigned s = 0; s < N_STRATEGIES; s++)
			if (bench_wanted(strategies[s].name))
				run(s, r);
	for (unsigned kind = 0; kind < N_FAILOVERS && !options.is_long && bench_wanted("failover"); kind++)
		run_failover(kind);
	sim_fini();
	plot();
	return bench_finish();
}
