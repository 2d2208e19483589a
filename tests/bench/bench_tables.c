/* SPDX-License-Identifier: BSD-3-Clause */
/* How long lookup tables take to build, and to refill after failures; how even they are, and what moves. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "lb/maglev.h"
#include "lb/shm.h"

#define MAX_RUNS 51u
#define MAX_NODES 10000u

struct table {
	uint32_t n_nodes, n_slots;
	bool weighted; /* weights 1..5 in turn, otherwise 1 */
};

static struct lb_maglev_node nodes[MAX_NODES];
static char names[MAX_NODES][16];
static bool eligible[MAX_NODES];
static uint16_t slots[LB_MAGLEV_MAX_SLOTS], others[LB_MAGLEV_MAX_SLOTS];

static void die(const char *what)
{
	fprintf(stderr, "%s failed\n", what);
	exit(1);
}

static void nodes_init(const struct table *table)
{
	for (uint32_t i = 0; i < table->n_nodes; i++) {
		snprintf(names[i], sizeof(names[i]), "api-%u", i);
		nodes[i] = (struct lb_maglev_node){
			.name = names[i],
			.weight = table->weighted ? 1 + i % 5 : 1,
			.id = (uint16_t)i,
			.base = true,
		};
		eligible[i] = true;
	}
}

static void result_name(
	char name[128], const char *what, const struct table *table, uint32_t n_failed)
{
	int len = snprintf(name, 128, "tables/maglev/%s?backends=%u&slots=%u", what, table->n_nodes,
		table->n_slots);

	if (table->weighted)
		len += snprintf(name + len, 128 - (size_t)len, "&weights=1..5");
	if (n_failed > 0)
		snprintf(name + len, 128 - (size_t)len, "&failed=%u", n_failed);
}

static void bench_build(const struct table *table)
{
	unsigned n_runs = bench.quick ? 11 : MAX_RUNS;
	double samples[MAX_RUNS];
	struct lb_maglev *maglev;
	char name[128];

	result_name(name, "build", table, 0);
	if (!bench_wanted(name))
		return;
	nodes_init(table);
	for (unsigned i = 0; i < n_runs; i++) {
		uint64_t start_ns = lb_now_ns();

		if (lb_maglev_create(table->n_slots, nodes, table->n_nodes, &maglev) < 0)
			die(name);
		samples[i] = (double)(lb_now_ns() - start_ns) / 1e6;
		lb_maglev_destroy(maglev);
	}
	bench_result_add(name, "ms", samples, n_runs);
}

static void bench_refill(const struct table *table, uint32_t n_failed)
{
	unsigned n_runs = bench.quick ? 11 : MAX_RUNS;
	double samples[MAX_RUNS];
	struct lb_maglev *maglev;
	char name[128];

	result_name(name, "refill", table, n_failed);
	if (!bench_wanted(name))
		return;
	nodes_init(table);
	if (lb_maglev_create(table->n_slots, nodes, table->n_nodes, &maglev) < 0)
		die(name);
	for (unsigned i = 0; i < n_runs; i++) {
		uint64_t start_ns;

		// others fail in each run
		for (uint32_t j = 0; j < table->n_nodes; j++)
			eligible[j] = (j + i * 7) % table->n_nodes >= n_failed;
		start_ns = lb_now_ns();
		if (lb_maglev_fill(maglev, eligible, slots) < 0)
			die(name);
		samples[i] = (double)(lb_now_ns() - start_ns) / 1e6;
	}
	lb_maglev_destroy(maglev);
	bench_result_add(name, "ms", samples, n_runs);
}

static void make(const struct table *table, uint32_t n_nodes, uint16_t *out)
{
	struct lb_maglev *maglev;

	if (lb_maglev_create(table->n_slots, nodes, n_nodes, &maglev) < 0 || lb_maglev_fill(maglev, eligible, out) < 0)
		die("making a table");
	lb_maglev_destroy(maglev);
}

// The largest share beside the mean, in percent.
static void report_balance(const struct table *table)
{
	static uint32_t counts[MAX_NODES];
	double excess = 0;
	char name[128];

	result_name(name, "excess_of_largest", table, 0);
	if (!bench_wanted(name))
		return;
	nodes_init(table);
	make(table, table->n_nodes, slots);
	for (uint32_t i = 0; i < table->n_nodes; i++)
		counts[i] = 0;
	for (uint32_t i = 0; i < table->n_slots; i++)
		counts[slots[i]]++;
	for (uint32_t i = 0; i < table->n_nodes; i++) {
		double share = (double)counts[i] * table->n_nodes / table->n_slots;

		if ((share - 1) * 100 > excess)
			excess = (share - 1) * 100;
	}
	bench_result_add(name, "%", &excess, 1);
}

// Slots of others that move when one backend fails, or goes by config, in percent of all.
static void report_disruption(const struct table *table, bool fails)
{
	uint16_t gone = (uint16_t)(table->n_nodes - 1);
	uint32_t n_moved = 0;
	char name[128];
	double moved;

	result_name(name, fails ? "moved_by_failure" : "moved_by_removal", table, 0);
	if (!bench_wanted(name))
		return;
	nodes_init(table);
	make(table, table->n_nodes, slots);
	eligible[gone] = !fails;
	make(table, table->n_nodes - !fails, others);
	for (uint32_t i = 0; i < table->n_slots; i++)
		n_moved += slots[i] != gone && slots[i] != others[i];
	moved = 100.0 * n_moved / table->n_slots;
	bench_result_add(name, "%", &moved, 1);
}

int main(int argc, char **argv)
{
	static const uint32_t n_slots[] = {4093, 65537, 655373}, n_nodes[] = {10, 100, 1000, 10000};
	struct table tables[13] = {{1000, 65537, true}};
	unsigned n = 1;

	bench_parse_args(argc, argv);
	for (unsigned i = 0; i < 3; i++)
		for (unsigned j = 0; j < 4 && n_nodes[j] < n_slots[i]; j++)
			tables[n++] = (struct table){n_nodes[j], n_slots[i], false};
	for (unsigned i = 0; i < n; i++)
		bench_build(&tables[i]);
	for (unsigned i = 0; i < n; i++) {
		bench_refill(&tables[i], 1);
		bench_refill(&tables[i], tables[i].n_nodes / 2);
	}
	for (unsigned i = 1; i < n; i++) { // of equal weights
		report_balance(&tables[i]);
		report_disruption(&tables[i], true);
		report_disruption(&tables[i], false);
	}
	return bench_finish();
}
