/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The flow table beside rte_hash, in the same hugepages, with the same flows in the same order, run
 * by run in turn:
 *
 * insert: a new flow comes and an old one goes, at a constant number of flows. Ours: a lookup that
 * misses, an insertion, and its share of a sweep that goes round four times in a flow's life.
 * rte_hash: add_key_with_hash (which looks for the key too) and del_key_with_hash of the oldest,
 * which is told to it for free.
 *
 * lookup: bursts of 32, all hits, in random order, hashes at hand. Ours: the prefetch, which is
 * issued a burst ahead, and the lookup, which also tells whether the flow has expired. rte_hash:
 * lookup_with_hash_bulk, which prefetches within the burst.
 *
 * rte_hash is given room for n flows at 90 % and rounds that up to a power of two, so that it is
 * about half full; 16-byte keys (IPv4), one thread, no locks. Ours is compared at the same load
 * (room for 1.8 n flows at 90 %) and, as `&load=90`, full. `_speedup` compares runs that follow
 * each other, since other work on the machine comes and goes.
 */
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_malloc.h>

#include "bench.h"
#include "lb/flowtable.h"

#define BURST 32u
#define CHUNK 1600u /* flows per reading of the clock; divides the numbers of flows */
#define MAX_RUNS 15u
#define LIFE_TICKS 100u
#define SWEEPS_PER_LIFE 4u
#define UNCACHED_FLOWS 4000000u /* so many that no cache holds the table */
#define PAGE_BYTES (UINT64_C(2) << 20)

struct key {
	uint32_t src, dst;
	uint16_t sport, dport;
	uint8_t proto, zero[3];
};
static_assert(sizeof(struct key) == 16, "rte_hash compares 16 bytes at once");

/* Flows 0 .. n - 1 are in the table at first; the churn adds n, n + 1, ... and removes 0, 1, ... */
struct flows {
	uint64_t n;
	uint64_t n_lookups; /* flows looked up: the newer ones, which are in both tables */
	uint64_t *hashes;
	struct key *keys;
	uint64_t n_window; /* flows that the next step of the churn adds and removes */
	uint64_t *new_hashes, *old_hashes;
	struct key *new_keys, *old_keys;
	uint64_t n_churned;
};

static uint64_t flow_hash(uint64_t flow) /* splitmix64: as even as the keyed hash */
{
	uint64_t z = (flow + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static struct key flow_key(uint64_t flow)
{
	return (struct key){
		.src = (uint32_t)flow, .dst = 1, .sport = (uint16_t)(flow >> 32), .proto = 6};
}

static _Noreturn void give_up(const char *why)
{
	fprintf(stderr, "bench_flowtable: %s\n", why);
	exit(1);
}

static void *must(void *memory)
{
	if (memory == NULL)
		give_up("not enough memory (hugepages?)");
	return memory;
}

static void flows_init(struct flows *flows, uint64_t n)
{
	*flows = (struct flows){
		.n = n, .n_lookups = n / 5 * 4 / CHUNK * CHUNK, .n_window = n / 8 / CHUNK * CHUNK};
	flows->hashes = must(malloc((flows->n_lookups + BURST) * sizeof(uint64_t)));
	flows->keys = must(malloc(flows->n_lookups * sizeof(struct key)));
	flows->new_hashes = must(malloc(flows->n_window * sizeof(uint64_t)));
	flows->old_hashes = must(malloc(flows->n_window * sizeof(uint64_t)));
	flows->new_keys = must(malloc(flows->n_window * sizeof(struct key)));
	flows->old_keys = must(malloc(flows->n_window * sizeof(struct key)));
}

static void flows_fini(struct flows *flows)
{
	free(flows->hashes);
	free(flows->keys);
	free(flows->new_hashes);
	free(flows->old_hashes);
	free(flows->new_keys);
	free(flows->old_keys);
}

static void churn_prepare(struct flows *flows)
{
	for (uint64_t i = 0; i < flows->n_window; i++) {
		uint64_t old = flows->n_churned + i, new = flows->n + old;

		flows->new_hashes[i] = flow_hash(new);
		flows->new_keys[i] = flow_key(new);
		flows->old_hashes[i] = flow_hash(old);
		flows->old_keys[i] = flow_key(old);
	}
	flows->n_churned += flows->n_window;
}

// In another order than that of insertion, which is the order of rte_hash's keys in memory.
static void lookups_prepare(struct flows *flows)
{
	uint64_t oldest = flows->n_churned + flows->n - flows->n_lookups;

	for (uint64_t i = 0; i < flows->n_lookups; i++) {
		uint64_t flow = oldest + i * UINT64_C(2654435761) % flows->n_lookups; // a prime

		flows->hashes[i] = flow_hash(flow);
		flows->keys[i] = flow_key(flow);
	}
	memcpy(flows->hashes + flows->n_lookups, flows->hashes, BURST * sizeof(uint64_t));
}

static const char *result_name(const char *what, uint64_t n_flows)
{
	static char name[96];

	snprintf(name, sizeof(name), "flowtable/%s?flows=%" PRIu64, what, n_flows);
	return name;
}

static void add_result(const char *name, const char *unit, double *samples, unsigned n)
{
	if (bench_wanted(name))
		bench_result_add(name, unit, samples, n);
}

/* Whether anything that bench_flows() measures is. */
static bool is_wanted(uint64_t n_flows)
{
	static const char *const whats[] = {"bytes_per_flow", "rte_hash_bytes_per_flow", "lost_at_fill", "insert",
		"insert_speedup", "rte_hash_insert", "lookup", "lookup_speedup", "rte_hash_lookup"};
	char name[128];

	for (unsigned i = 0; i < sizeof(whats) / sizeof(whats[0]); i++) {
		snprintf(name, sizeof(name), "%s&load=90", result_name(whats[i], n_flows));
		if (bench_wanted(result_name(whats[i], n_flows)) || bench_wanted(name))
			return true;
	}
	return false;
}

/*
 * Cycles of the bursts between two calls, those left out in which the kernel ran something else: a
 * machine that is not ours alone would measure its other work.
 */
struct watch {
	uint64_t tsc, n_switches;
	uint64_t cycles, n_ops; /* counted so far */
	uint64_t all_cycles, n_all_ops; /* with those in which another thread was run */
};

static uint64_t n_switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)(usage.ru_nivcsw + usage.ru_nvcsw);
}

static void watch_start(struct watch *watch)
{
	watch->n_switches = n_switches();
	watch->tsc = rte_rdtsc_precise();
}

static void watch_stop(struct watch *watch, uint64_t n_ops)
{
	uint64_t cycles = rte_rdtsc_precise() - watch->tsc;

	watch->all_cycles += cycles;
	watch->n_all_ops += n_ops;
	if (n_switches() != watch->n_switches)
		return;
	watch->cycles += cycles;
	watch->n_ops += n_ops;
}

static double watch_cycles_per_op(const struct watch *watch)
{
	if (watch->n_ops == 0) // disturbed throughout
		return (double)watch->all_cycles / (double)watch->n_all_ops;
	return (double)watch->cycles / (double)watch->n_ops;
}

/* ---- ours ---- */

struct ours {
	struct lb_flowtable table;
	struct lb_flowtable_config config;
	struct lb_flow_counters counters;
	int64_t active[LB_MAX_BACKENDS + 1u], closing[LB_MAX_BACKENDS + 1u];
	uint16_t idle_ticks[LB_MAX_BACKENDS + 1u];
	uint64_t now; /* insertions so far; a life is n of them, or LIFE_TICKS ticks */
	uint64_t n_flows;
};

static uint32_t ours_tick(const struct ours *ours, uint64_t now)
{
	return (uint32_t)(1000 + now * LIFE_TICKS / ours->n_flows);
}

static void ours_set_life(struct ours *ours, unsigned ticks)
{
	for (unsigned i = 0; i <= LB_MAX_BACKENDS; i++)
		ours->idle_ticks[i] = (uint16_t)ticks;
}

static struct ours *ours_create(uint64_t n_flows, uint64_t n_room)
{
	struct ours *ours = must(calloc(1, sizeof(*ours)));

	ours_set_life(ours, 2 * LIFE_TICKS); // nothing expires until the churn begins
	ours->n_flows = n_flows;
	ours->config = (struct lb_flowtable_config){
		.mem_bytes = lb_flowtable_bytes(n_room),
		.n_flows = n_room,
		.idle_ticks = ours->idle_ticks,
		.active = ours->active,
		.closing = ours->closing,
		.active_stride = sizeof(ours->active[0]),
		.counters = &ours->counters,
	};
	ours->config.mem = must(rte_malloc(NULL, ours->config.mem_bytes, PAGE_BYTES));
	if (lb_flowtable_init(&ours->table, &ours->config, ours_tick(ours, 0), NULL, 0) < 0)
		must(NULL);
	return ours;
}

static void ours_destroy(struct ours *ours)
{
	rte_free(ours->config.mem);
	free(ours);
}

/* Flows 0 to n_flows - 1, over one life. */
static void ours_fill(struct ours *ours)
{
	for (; ours->now < ours->n_flows; ours->now++)
		lb_flowtable_insert(&ours->table, flow_hash(ours->now),
			(uint16_t)(ours->now % 1000), LB_FLOW_ESTABLISHED,
			ours_tick(ours, ours->now), false);
}

/*
 * In stages, as a pipeline does it: a burst's first lines are fetched during the burst before, its
 * second lines during the one after.
 */
static double ours_lookup(struct ours *ours, const struct flows *flows)
{
	struct lb_flowtable *table = &ours->table;
	uint32_t now_tick = ours_tick(ours, ours->now);
	struct lb_flow_pending pending[2] = {0};
	uint64_t *entries[2][BURST], n_hits = 0;
	struct watch watch = {0};

	for (uint64_t i = 0; i < flows->n_lookups; i += CHUNK) {
		const uint64_t *hashes = flows->hashes + i;

		watch_start(&watch);
		for (unsigned b = 0; b < CHUNK / BURST; b++, hashes += BURST) {
			for (unsigned k = 0; k < BURST; k++)
				lb_flowtable_prefetch(table, hashes[BURST + k]);
			n_hits += lb_flowtable_lookup_begin(
				table, hashes, entries[b % 2], BURST, now_tick, &pending[b % 2]);
			if (b > 0)
				n_hits += lb_flowtable_lookup_end(table, hashes - BURST,
					entries[(b - 1) % 2], now_tick, &pending[(b - 1) % 2]);
		}
		n_hits += lb_flowtable_lookup_end(table, hashes - BURST,
			entries[(CHUNK / BURST - 1) % 2], now_tick,
			&pending[(CHUNK / BURST - 1) % 2]);
		watch_stop(&watch, CHUNK);
	}
	if ((double)n_hits < 0.999 * (double)flows->n_lookups)
		give_up("flows are missing");
	return watch_cycles_per_op(&watch);
}

static void ours_churn_burst(struct ours *ours, const uint64_t *hashes, unsigned n_sweep)
{
	uint32_t now_tick = ours_tick(ours, ours->now);
	uint64_t *entries[BURST];

	for (unsigned k = 0; k < BURST; k++)
		lb_flowtable_prefetch(&ours->table, hashes[k]);
	lb_flowtable_lookup_burst(&ours->table, hashes, entries, BURST, now_tick);
	for (unsigned k = 0; k < BURST; k++)
		lb_flowtable_insert(&ours->table, hashes[k], (uint16_t)(k * 31),
			LB_FLOW_ESTABLISHED, now_tick, true);
	lb_flowtable_sweep(&ours->table, now_tick, n_sweep);
	ours->now += BURST;
}

static double ours_churn(struct ours *ours, const struct flows *flows)
{
	double buckets_per_insert =
		(double)SWEEPS_PER_LIFE * ours->table.n_buckets / (double)ours->n_flows;
	struct watch watch = {0};
	uint64_t n_swept = 0;

	for (uint64_t i = 0; i < flows->n_window; i += CHUNK) {
		watch_start(&watch);
		for (uint64_t b = i; b < i + CHUNK; b += BURST) {
			uint64_t n_due = (uint64_t)(buckets_per_insert * (double)(b + BURST));

			ours_churn_burst(ours, flows->new_hashes + b, (unsigned)(n_due - n_swept));
			n_swept = n_due;
		}
		watch_stop(&watch, CHUNK);
	}
	return watch_cycles_per_op(&watch);
}

/* ---- rte_hash ---- */

static uint64_t heap_used_bytes(void)
{
	struct rte_malloc_socket_stats stats;

	return rte_malloc_get_socket_stats(0, &stats) == 0 ? stats.heap_allocsz_bytes : 0;
}

static struct rte_hash *theirs_create(uint64_t n_flows)
{
	struct rte_hash_parameters parameters = {
		.name = "bench",
		.entries = (uint32_t)(n_flows * 10 / 9),
		.key_len = sizeof(struct key),
		.socket_id = 0,
	};

	return must(rte_hash_create(&parameters));
}

static void theirs_fill(struct rte_hash *theirs, uint64_t n_flows)
{
	for (uint64_t i = 0; i < n_flows; i++) {
		struct key key = flow_key(i);

		if (rte_hash_add_key_with_hash(theirs, &key, (uint32_t)flow_hash(i)) < 0)
			give_up("rte_hash: cannot add");
	}
}

static unsigned theirs_lookup_burst(
	const struct rte_hash *theirs, const struct key *flow_keys, const uint64_t *hashes)
{
	const void *keys[BURST];
	hash_sig_t signatures[BURST];
	int32_t positions[BURST];
	unsigned n_hits = 0;

	for (unsigned k = 0; k < BURST; k++) {
		keys[k] = &flow_keys[k];
		signatures[k] = (hash_sig_t)hashes[k];
	}
	rte_hash_lookup_with_hash_bulk(theirs, keys, signatures, BURST, positions);
	for (unsigned k = 0; k < BURST; k++)
		n_hits += positions[k] >= 0;
	return n_hits;
}

static double theirs_lookup(const struct rte_hash *theirs, const struct flows *flows)
{
	struct watch watch = {0};
	uint64_t n_hits = 0;

	for (uint64_t i = 0; i < flows->n_lookups; i += CHUNK) {
		watch_start(&watch);
		for (uint64_t b = i; b < i + CHUNK; b += BURST)
			n_hits += theirs_lookup_burst(theirs, flows->keys + b, flows->hashes + b);
		watch_stop(&watch, CHUNK);
	}
	if (n_hits != flows->n_lookups)
		give_up("rte_hash: flows are missing");
	return watch_cycles_per_op(&watch);
}

static double theirs_churn(struct rte_hash *theirs, const struct flows *flows)
{
	struct watch watch = {0};
	uint64_t n_failed = 0;

	for (uint64_t i = 0; i < flows->n_window; i += CHUNK) {
		watch_start(&watch);
		for (uint64_t k = i; k < i + CHUNK; k++) {
			n_failed += rte_hash_del_key_with_hash(theirs, &flows->old_keys[k],
					    (hash_sig_t)flows->old_hashes[k]) < 0;
			n_failed += rte_hash_add_key_with_hash(theirs, &flows->new_keys[k],
					    (hash_sig_t)flows->new_hashes[k]) < 0;
		}
		watch_stop(&watch, CHUNK);
	}
	if (n_failed != 0)
		give_up("rte_hash: cannot add or delete");
	return watch_cycles_per_op(&watch);
}

/* ---- the runs ---- */

struct sides {
	struct ours *equal; /* as full as rte_hash */
	struct ours *full;  /* 90 % */
	struct rte_hash *theirs;
};

struct samples {
	double equal[MAX_RUNS], full[MAX_RUNS], theirs[MAX_RUNS];
};

static void add_ours(const char *what, uint64_t n_flows, const char *load, double *ours,
	const double *theirs, unsigned n_runs)
{
	double ratios[MAX_RUNS];
	char name[96];

	for (unsigned run = 0; run < n_runs; run++)
		ratios[run] = theirs[run] / ours[run];
	snprintf(name, sizeof(name), "flowtable/%s?flows=%" PRIu64 "%s", what, n_flows, load);
	add_result(name, "cycles", ours, n_runs);
	snprintf(name, sizeof(name), "flowtable/%s_speedup?flows=%" PRIu64 "%s", what, n_flows,
		load);
	add_result(name, "times", ratios, n_runs);
}

static void add_samples(
	const char *what, uint64_t n_flows, struct samples *samples, unsigned n_runs)
{
	char name[64];

	snprintf(name, sizeof(name), "rte_hash_%s", what);
	add_ours(what, n_flows, "", samples->equal, samples->theirs, n_runs);
	add_ours(what, n_flows, "&load=90", samples->full, samples->theirs, n_runs);
	add_result(result_name(name, n_flows), "cycles", samples->theirs, n_runs);
}

static void bench_insert(struct flows *flows, struct sides *sides, unsigned n_runs)
{
	// On average an expired flow waits half a round for the sweep
	unsigned life_ticks = LIFE_TICKS + 1 - LIFE_TICKS / SWEEPS_PER_LIFE / 2;
	struct samples samples;

	ours_set_life(sides->equal, life_ticks);
	ours_set_life(sides->full, life_ticks);
	for (unsigned run = 0; run < n_runs; run++) {
		churn_prepare(flows);
		samples.equal[run] = ours_churn(sides->equal, flows);
		samples.full[run] = ours_churn(sides->full, flows);
		samples.theirs[run] = theirs_churn(sides->theirs, flows);
	}
	add_samples("insert", flows->n, &samples, n_runs);
}

static void bench_lookup(struct flows *flows, struct sides *sides, unsigned n_runs)
{
	struct samples samples;

	lookups_prepare(flows);
	for (unsigned run = 0; run < n_runs; run++) {
		bool warm_up = flows->n < UNCACHED_FLOWS; // bring a side's own back into the caches

		if (warm_up)
			ours_lookup(sides->equal, flows);
		samples.equal[run] = ours_lookup(sides->equal, flows);
		if (warm_up)
			ours_lookup(sides->full, flows);
		samples.full[run] = ours_lookup(sides->full, flows);
		if (warm_up)
			theirs_lookup(sides->theirs, flows);
		samples.theirs[run] = theirs_lookup(sides->theirs, flows);
	}
	add_samples("lookup", flows->n, &samples, n_runs);
}

static void bench_flows(uint64_t n_flows, unsigned n_runs)
{
	uint64_t before_bytes = heap_used_bytes();
	struct sides sides = {.theirs = theirs_create(n_flows)};
	double their_bytes = (double)(heap_used_bytes() - before_bytes) / (double)n_flows;
	struct flows flows;
	double our_bytes, lost;

	sides.equal = ours_create(n_flows, n_flows * 9 / 5);
	sides.full = ours_create(n_flows, n_flows);
	ours_fill(sides.equal);
	ours_fill(sides.full);
	our_bytes = (double)sides.full->config.mem_bytes / (double)sides.full->counters.used;
	lost = 100.0 - 100.0 * (double)sides.full->counters.used / (double)n_flows;
	add_result(result_name("bytes_per_flow", n_flows), "bytes", &our_bytes, 1);
	add_result(result_name("rte_hash_bytes_per_flow", n_flows), "bytes", &their_bytes, 1);
	add_result(result_name("lost_at_fill", n_flows), "%", &lost, 1);
	theirs_fill(sides.theirs, n_flows);
	flows_init(&flows, n_flows);
	bench_insert(&flows, &sides, n_runs);
	bench_lookup(&flows, &sides, n_runs);
	flows_fini(&flows);
	ours_destroy(sides.equal);
	ours_destroy(sides.full);
	rte_hash_free(sides.theirs);
}

/* Memory alone, for more flows than rte_hash would have room for. */
static void bench_bytes(uint64_t n_flows)
{
	double bytes = (double)lb_flowtable_bytes(n_flows) / (double)n_flows;
	void *mem = NULL;

	if (!bench.quick) {
		mem = rte_malloc(NULL, lb_flowtable_bytes(n_flows), PAGE_BYTES);
		rte_free(mem);
		if (mem == NULL)
			fprintf(stderr, "bench_flowtable: %" PRIu64 " flows: by arithmetic\n",
				n_flows);
	}
	if (mem != NULL) {
		struct ours *ours = ours_create(n_flows, n_flows);

		ours_fill(ours);
		bytes = (double)ours->config.mem_bytes / (double)ours->counters.used;
		ours_destroy(ours);
	}
	add_result(result_name("bytes_per_flow", n_flows), "bytes", &bytes, 1);
}

static int try_eal(const char *const *args, int n_args)
{
	char *argv[64] = {"bench_flowtable"};

	for (int i = 0; i < n_args && i < 62; i++)
		argv[i + 1] = must(strdup(args[i]));
	return rte_eal_init(n_args + 1, argv); // keeps pointers into it
}

static void init_eal(void)
{
	static const char *const huge[] = {
		"--in-memory", "--no-pci", "--no-telemetry", "--log-level=3"};
	static const char *const no_huge[] = {
		"--no-huge", "--no-pci", "--no-telemetry", "--log-level=3", "-m2048"};
	cpu_set_t cpus;
	int n;

	sched_getaffinity(0, sizeof(cpus), &cpus);
	if (bench.n_args > 0) {
		n = try_eal((const char *const *)bench.args, bench.n_args);
	} else {
		n = try_eal(huge, 4);
		if (n < 0) {
			fprintf(stderr, "bench_flowtable: no hugepages: both sides get slower\n");
			n = try_eal(no_huge, 5);
		}
	}
	if (n < 0) {
		fprintf(stderr, "bench_flowtable: EAL: %s\n", rte_strerror(rte_errno));
		exit(1);
	}
	sched_setaffinity(0, sizeof(cpus), &cpus); // EAL binds to the first CPU, which may be busy
}

int main(int argc, char **argv)
{
	static const uint64_t sizes[] = {1000000, 10000000};

	bench_parse_args(argc, argv);
	init_eal();
	for (unsigned i = 0; i < 2; i++)
		if (is_wanted(sizes[i]))
			bench_flows(sizes[i], !bench.quick ? MAX_RUNS : i == 0 ? 7 : 3);
	if (bench_wanted(result_name("bytes_per_flow", 100000000)))
		bench_bytes(100000000);
	rte_eal_cleanup();
	return bench_finish();
}
