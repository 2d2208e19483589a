/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "lb/flowtable.h"

#define N_BACKENDS 50u  /* ids 0..49 exist */
#define IDLE_TICKS 150u /* that a flow outlives */
#define START_TICK 100000u

/* One table under test and the memory around it. */
struct fixture {
	struct lb_flowtable table;
	struct lb_flowtable_config config;
	struct lb_flow_counters counters;
	struct lb_backend_counters backends[LB_MAX_BACKENDS + 1u];
	uint16_t idle_ticks[LB_MAX_BACKENDS + 1u];
	char why[200];
};

static uint64_t random_state;

static uint64_t random_u64(void) /* splitmix64: as even as the keyed hash */
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint32_t random_below(uint32_t n)
{
	return (uint32_t)(((random_u64() >> 32) * n) >> 32);
}

static struct fixture *fixture_create(uint64_t n_flows)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint64_t n_bytes = lb_flowtable_bytes(n_flows);

	assert_non_null(f);
	f->config = (struct lb_flowtable_config){
		.mem = mmap(
			NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		.mem_bytes = n_bytes,
		.n_flows = n_flows,
		.secret_id = 7,
		.idle_ticks = f->idle_ticks,
		.active = &f->backends[0].active_flows,
		.closing = &f->backends[0].closing_flows,
		.active_stride = sizeof(f->backends[0]),
		.counters = &f->counters,
		.worker = 1,
		.n_workers = 2,
	};
	assert_ptr_not_equal(f->config.mem, MAP_FAILED);
	for (unsigned i = 0; i < N_BACKENDS; i++)
		f->idle_ticks[i] = IDLE_TICKS + 1;
	assert_int_equal(
		lb_flowtable_init(&f->table, &f->config, START_TICK, f->why, sizeof(f->why)), 0);
	return f;
}

static void fixture_destroy(struct fixture *f)
{
	munmap(f->config.mem, f->config.mem_bytes);
	free(f);
}

static uint64_t *insert(
	struct fixture *f, uint64_t hash, uint16_t backend, uint32_t state, uint32_t now_tick)
{
	return lb_flowtable_insert(&f->table, hash, backend, state, now_tick, true);
}

/* What a restart does: the counters and the worker's view are new, the memory is not. */
static int64_t restart(struct fixture *f, uint32_t now_tick)
{
	memset(&f->counters, 0, sizeof(f->counters));
	memset(f->backends, 0, sizeof(f->backends));
	memset(&f->table, 0xee, sizeof(f->table));
	return lb_flowtable_init(&f->table, &f->config, now_tick, f->why, sizeof(f->why));
}

static void sweep_all(struct fixture *f, uint32_t now_tick)
{
	lb_flowtable_sweep(&f->table, now_tick, f->table.n_buckets);
}

static void expect_counts_right(const struct fixture *f)
{
	uint64_t n_counted = 0;

	for (uint32_t i = 0; i <= LB_MAX_BACKENDS; i++) {
		assert_true(f->backends[i].active_flows >= 0 && f->backends[i].closing_flows >= 0);
		n_counted += (uint64_t)(f->backends[i].active_flows + f->backends[i].closing_flows);
	}
	assert_int_equal(n_counted, f->counters.used);
	assert_int_equal(lb_flowtable_count(&f->table, LB_BACKEND_NONE), f->counters.used);
	for (uint16_t i = 0; i < N_BACKENDS; i += 7)
		assert_int_equal(lb_flowtable_count(&f->table, i),
			f->backends[i].active_flows + f->backends[i].closing_flows);
}

static void expect_empty(const struct fixture *f)
{
	assert_int_equal(f->counters.used, 0);
	expect_counts_right(f);
}

/* ---- comparison of a bucket ---- */

static void expect_same_masks(const uint64_t *entries, uint32_t signature)
{
	uint32_t match = lb_flow_match_scalar(entries, signature);
	uint32_t free_ways = lb_flow_match_free_scalar(entries);

	assert_int_equal(lb_flow_match(entries, signature), match);
	assert_int_equal(lb_flow_match_free(entries), free_ways);
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.1")) {
		assert_int_equal(lb_flow_match_sse(entries, signature), match);
		assert_int_equal(lb_flow_match_free_sse(entries), free_ways);
	}
	if (__builtin_cpu_supports("avx2")) {
		assert_int_equal(lb_flow_match_avx2(entries, signature), match);
		assert_int_equal(lb_flow_match_free_avx2(entries), free_ways);
	}
	if (__builtin_cpu_supports("avx512f")) {
		assert_int_equal(lb_flow_match_avx512(entries, signature), match);
		assert_int_equal(lb_flow_match_free_avx512(entries), free_ways);
	}
#endif
}

static void every_instruction_set_gives_the_same_ways(void **state)
{
	static const uint32_t halves[] = {0, 1, 0x80000000, UINT32_MAX, 0x12345678};
	uint64_t entries[8] __attribute__((aligned(64)));

	(void)state;
	random_state = 1;
	for (unsigned round = 0; round < 20000; round++) {
		uint32_t signature = halves[random_below(5)];

		for (unsigned way = 0; way < 8; way++)
			entries[way] =
				(uint64_t)halves[random_below(5)] << 32 | halves[random_below(5)];
		expect_same_masks(entries, signature);
	}
	for (unsigned way = 0; way < 8; way++) {
		memset(entries, 0xff, sizeof(entries));
		entries[way] = UINT64_C(5) << 32;
		assert_int_equal(lb_flow_match(entries, 5), 1u << way);
		entries[way] = 0;
		assert_int_equal(lb_flow_match_free(entries), 1u << way);
		expect_same_masks(entries, 0);
	}
}

/* ---- geometry and memory ---- */

static void other_bucket_is_an_involution(void **state)
{
	static const uint32_t sizes[] = {2, 4, 6, 14, 16, 1000, 138890, (1u << 31) - 2};
	struct lb_flowtable table = {0};

	(void)state;
	random_state = 2;
	for (unsigned s = 0; s < 8; s++) {
		table.n_buckets = sizes[s];
		for (unsigned i = 0; i < 10000; i++) {
			uint64_t hash = random_u64();
			uint32_t first = lb_flowtable_first_bucket(&table, hash);
			uint32_t signature = (uint32_t)(hash >> 32);
			uint32_t other = lb_flowtable_other_bucket(&table, first, signature);

			assert_true(first < table.n_buckets && other < table.n_buckets);
			assert_false(lb_flow_is_guest(&table, first, signature));
			assert_true(lb_flow_is_guest(&table, other, signature));
			assert_int_equal(
				lb_flowtable_other_bucket(&table, other, signature), first);
		}
	}
}

static void nine_bytes_per_flow_at_ninety_percent(void **state)
{
	static const uint64_t sizes[] = {1000000, 10000000, 100000000};
	struct fixture *f = fixture_create(1000000);

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_true(lb_flowtable_bytes(sizes[i]) <= 9 * sizes[i]);
	assert_true((double)lb_flowtable_capacity(&f->table) * 0.9 >= 1000000);
	assert_int_equal(lb_flowtable_bytes(0), 0);
	assert_int_equal(lb_flowtable_bytes(UINT64_MAX), 0);
	fixture_destroy(f);
}

static void bad_config_is_refused(void **state)
{
	struct fixture *f = fixture_create(1000);
	struct lb_flowtable_config bad[8];

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		bad[i] = f->config;
	bad[0].mem = (char *)bad[0].mem + 8;
	bad[1].mem_bytes--;
	bad[2].n_flows = 0;
	bad[3].n_flows = UINT64_MAX / 2;
	bad[4].idle_ticks = NULL;
	bad[5].active = NULL;
	bad[6].counters = NULL;
	bad[7].mem = NULL;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(lb_flowtable_init(&f->table, &bad[i], 1, NULL, 0), -EINVAL);
	fixture_destroy(f);
}

/* ---- time ---- */

static void entry_lives_for_its_timeout_and_no_longer(void **state)
{
	static const struct {
		unsigned state;
		uint16_t idle_ticks;
		uint32_t limit;
	} rows[] = {
		{LB_FLOW_ESTABLISHED, IDLE_TICKS, IDLE_TICKS},
		{LB_FLOW_ESTABLISHED, LB_FLOW_IDLE_TICKS_MAX - 1, LB_FLOW_IDLE_TICKS_MAX - 1},
		{LB_FLOW_UDP, 15, 15},
		{LB_FLOW_SYN, IDLE_TICKS, LB_FLOW_SYN_TICKS},
		{LB_FLOW_SYN, 3, 3},
		{LB_FLOW_FIN, IDLE_TICKS, LB_FLOW_FIN_TICKS},
		{LB_FLOW_CLOSED, IDLE_TICKS, LB_FLOW_CLOSED_TICKS},
		{LB_FLOW_ESTABLISHED | LB_FLOW_PINNED, IDLE_TICKS, IDLE_TICKS},
		{LB_FLOW_UDP | LB_FLOW_PINNED, 15, 15},
		{LB_FLOW_SYN | LB_FLOW_PINNED, IDLE_TICKS, LB_FLOW_SYN_TICKS},
		{LB_FLOW_FIN | LB_FLOW_PINNED, IDLE_TICKS, LB_FLOW_FIN_TICKS},
		{LB_FLOW_CLOSED | LB_FLOW_PINNED, IDLE_TICKS, LB_FLOW_FIN_TICKS},
		{LB_FLOW_CLOSED | LB_FLOW_PINNED, 3, 3},
	};
	struct fixture *f = fixture_create(1000);

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		// every phase of the 12-bit clock
		for (uint32_t start = START_TICK; start < START_TICK + 4096; start += 61) {
			uint64_t *entry = insert(f, 42, 3, rows[i].state, start);

			f->idle_ticks[3] = rows[i].idle_ticks + 1;
			assert_non_null(entry);
			assert_ptr_equal(lb_flowtable_lookup(&f->table, 42, start), entry);
			assert_ptr_equal(
				lb_flowtable_lookup(&f->table, 42, start + rows[i].limit), entry);
			assert_null(lb_flowtable_lookup(&f->table, 42, start + rows[i].limit + 1));
			assert_null(lb_flowtable_lookup(&f->table, 42, start + 4095));
			sweep_all(f, start + rows[i].limit);
			assert_int_equal(f->counters.used, 1);
			sweep_all(f, start + rows[i].limit + 1);
			expect_empty(f);
		}
	fixture_destroy(f);
}

static void idle_timeout_becomes_ticks_rounded_up(void **state)
{
	(void)state;
	assert_int_equal(lb_flow_idle_ticks(0), 2);
	assert_int_equal(lb_flow_idle_ticks(LB_IDLE_TIMEOUT_MIN_MS), 2);
	assert_int_equal(lb_flow_idle_ticks(2000), 2);
	assert_int_equal(lb_flow_idle_ticks(2001), 3);
	assert_int_equal(lb_flow_idle_ticks(LB_IDLE_TIMEOUT_MAX_MS), 3601);
	assert_int_equal(lb_flow_idle_ticks(UINT32_MAX - 2000), 3601);
	assert_int_equal(lb_flow_idle_ticks(UINT32_MAX), 3601);
	assert_int_equal(lb_flow_tick(UINT64_C(3999999999)), 1);
}

static void flows_that_their_client_closed_are_counted_apart(void **state)
{
	struct fixture *f = fixture_create(1000);
	const struct lb_backend_counters *three = &f->backends[3], *four = &f->backends[4];
	uint64_t *entry = insert(f, 42, 3, LB_FLOW_SYN, START_TICK);

	(void)state;
	insert(f, 43, 3, LB_FLOW_UDP, START_TICK);
	assert_int_equal(three->active_flows, 2);
	lb_flowtable_touch(&f->table, entry, LB_FLOW_ESTABLISHED, START_TICK);
	assert_int_equal(three->active_flows, 2);
	lb_flowtable_touch(&f->table, entry, LB_FLOW_FIN | LB_FLOW_PINNED, START_TICK);
	assert_int_equal(three->active_flows, 1);
	assert_int_equal(three->closing_flows, 1);
	lb_flowtable_move(&f->table, entry, 4);
	assert_int_equal(three->closing_flows, 0);
	assert_int_equal(four->closing_flows, 1);
	lb_flowtable_touch(&f->table, entry, LB_FLOW_CLOSED, START_TICK);
	assert_int_equal(four->closing_flows, 1);
	lb_flowtable_touch(&f->table, entry, LB_FLOW_SYN, START_TICK); // the port is used again
	assert_int_equal(four->closing_flows, 0);
	assert_int_equal(four->active_flows, 1);
	lb_flowtable_touch(&f->table, entry, LB_FLOW_CLOSED, START_TICK);
	expect_counts_right(f);
	lb_flowtable_sweep(&f->table, START_TICK + LB_FLOW_CLOSED_TICKS + 1, f->table.n_buckets);
	assert_int_equal(four->closing_flows, 0);
	assert_int_equal(four->active_flows, 0);
	expect_counts_right(f);
	fixture_destroy(f);
}

static void touch_refreshes_and_sets_the_state(void **state)
{
	struct fixture *f = fixture_create(1000);
	uint64_t *entry = insert(f, 42, 3, LB_FLOW_SYN, START_TICK);

	(void)state;
	lb_flowtable_touch(&f->table, entry, LB_FLOW_ESTABLISHED, START_TICK + 10);
	assert_int_equal(lb_flow_entry_state(*entry), LB_FLOW_ESTABLISHED);
	assert_int_equal(lb_flow_entry_age(*entry, START_TICK + 12), 2);
	assert_int_equal(lb_flow_entry_backend(*entry), 3);
	assert_int_equal(lb_flow_entry_signature(*entry), 0);
	assert_ptr_equal(lb_flowtable_lookup(&f->table, 42, START_TICK + 10 + IDLE_TICKS), entry);
	fixture_destroy(f);
}

static void touch_that_changes_nothing_writes_nothing(void **state)
{
	struct fixture *f = fixture_create(1000);
	uint64_t *entry = insert(f, 42, 3, LB_FLOW_ESTABLISHED, START_TICK);

	(void)state;
	assert_int_equal(mprotect(f->config.mem, f->config.mem_bytes, PROT_READ), 0);
	entry = lb_flowtable_lookup(&f->table, 42, START_TICK);
	assert_non_null(entry);
	lb_flowtable_touch(&f->table, entry, LB_FLOW_ESTABLISHED, START_TICK); // or it dies here
	assert_int_equal(mprotect(f->config.mem, f->config.mem_bytes, PROT_READ | PROT_WRITE), 0);
	fixture_destroy(f);
}

/* ---- identity ---- */

static void same_signature_is_found_one_after_the_other(void **state)
{
	static const uint64_t sizes[] = {7, 1000}; // one bucket, both candidates in one; many

	(void)state;
	for (unsigned s = 0; s < 2; s++) {
		struct fixture *f = fixture_create(sizes[s]);
		uint64_t hash = UINT64_C(0x1234567800000000);
		unsigned n_ways = s == 0 ? 8 : 16, seen = 0;
		uint64_t *entry;

		for (uint16_t i = 0; i < n_ways; i++) // each of "another service"
			assert_non_null(insert(f, hash, i, LB_FLOW_ESTABLISHED, START_TICK));
		assert_int_equal(f->counters.evict, 0);
		entry = lb_flowtable_lookup(&f->table, hash, START_TICK);
		for (unsigned i = 0; i < n_ways; i++) {
			assert_non_null(entry);
			seen |= 1u << lb_flow_entry_backend(*entry);
			entry = lb_flowtable_lookup_next(&f->table, hash, entry, START_TICK);
		}
		assert_null(entry);
		assert_int_equal(seen, (1u << n_ways) - 1);
		fixture_destroy(f);
	}
}

static void signature_zero_is_a_flow_like_others(void **state)
{
	struct fixture *f = fixture_create(1000);
	uint64_t *entry;

	(void)state;
	assert_null(lb_flowtable_lookup(&f->table, 0, 0)); // nor is the empty table full of it
	entry = insert(f, 0, 0, LB_FLOW_ESTABLISHED, 0);
	assert_ptr_equal(lb_flowtable_lookup(&f->table, 0, 0), entry);
	assert_null(lb_flowtable_lookup_next(&f->table, 0, entry, 0));
	lb_flowtable_del(&f->table, entry);
	assert_null(lb_flowtable_lookup(&f->table, 0, 0));
	expect_empty(f);
	fixture_destroy(f);
}

static void expired_entry_of_the_flow_never_returns(void **state)
{
	struct fixture *f = fixture_create(1000);
	uint32_t later = START_TICK + IDLE_TICKS + 1;

	(void)state;
	insert(f, 42, 3, LB_FLOW_ESTABLISHED, START_TICK);
	insert(f, 42, 5, LB_FLOW_ESTABLISHED, later);
	assert_int_equal(f->counters.used, 1);
	f->idle_ticks[3] = 2 * IDLE_TICKS + 1; // would be alive again, and be found first
	assert_int_equal(lb_flow_entry_backend(*lb_flowtable_lookup(&f->table, 42, later)), 5);
	expect_counts_right(f);
	fixture_destroy(f);
}

static void burst_finds_what_lookup_finds(void **state)
{
	enum { N = 200 }; // more than is looked up at once
	struct fixture *f = fixture_create(2000);
	uint64_t hashes[N], *entries[N];

	(void)state;
	random_state = 3;
	for (unsigned round = 0; round < 200; round++) {
		unsigned n = random_below(N + 1), n_hits = 0;

		for (unsigned i = 0; i < n; i++) {
			hashes[i] = random_u64();
			if (random_below(2) && f->counters.used < 2000)
				insert(f, hashes[i], 1, LB_FLOW_ESTABLISHED, START_TICK);
			lb_flowtable_prefetch(&f->table, hashes[i]);
			if (random_below(2))
				lb_flowtable_prefetch_second(&f->table, hashes[i]);
		}
		memset(entries, 0xee, sizeof(entries));
		n_hits = lb_flowtable_lookup_burst(&f->table, hashes, entries, n, START_TICK);
		for (unsigned i = 0; i < n; i++) {
			assert_ptr_equal(
				entries[i], lb_flowtable_lookup(&f->table, hashes[i], START_TICK));
			n_hits -= entries[i] != NULL;
		}
		assert_int_equal(n_hits, 0);
	}
	assert_true(f->counters.used > 1900); // second buckets were in use
	fixture_destroy(f);
}

/* A flow in its second bucket, whose first then gets a free way; hashes[0..7] fill the first. */
static void overflow_first_bucket(struct fixture *f, uint64_t hashes[9])
{
	for (uint32_t i = 0; i < 9; i++) {
		hashes[i] = UINT64_C(0x1234567800000000) + ((uint64_t)i << 33);
		assert_non_null(insert(f, hashes[i], (uint16_t)i, LB_FLOW_ESTABLISHED, START_TICK));
	}
	lb_flowtable_del(&f->table, lb_flowtable_lookup(&f->table, hashes[3], START_TICK));
}

static void flow_in_its_second_bucket_moves_to_its_first(void **state)
{
	struct fixture *f = fixture_create(100000);
	uint64_t hashes[9], burst[3], *entries[3], *other;

	(void)state;
	overflow_first_bucket(f, hashes);
	other = lb_flowtable_lookup(&f->table, hashes[8], START_TICK);
	assert_true(other >= f->table.buckets[1].entries); // the first is bucket 0
	burst[0] = burst[2] = hashes[8];
	burst[1] = hashes[5];
	assert_int_equal(lb_flowtable_lookup_burst(&f->table, burst, entries, 3, START_TICK), 3);
	assert_true(entries[0] < f->table.buckets[1].entries);
	assert_ptr_equal(
		entries[2], entries[0]); // a second packet of the flow sees where it is now
	assert_int_equal(lb_flow_entry_backend(*entries[0]), 8);
	assert_int_equal(lb_flow_entry_backend(*entries[1]), 5);
	assert_int_equal(*other, 0);
	expect_counts_right(f);
	fixture_destroy(f);
}

// An expired entry in a flow's second bucket makes room for the new one, though the first has a free way: there are never two.
static void flow_with_an_expired_entry_in_its_second_bucket_has_one(void **state)
{
	struct fixture *f = fixture_create(100000);
	uint32_t later = START_TICK + 10;
	uint64_t hashes[9];

	(void)state;
	overflow_first_bucket(f, hashes);
	f->idle_ticks[8] = 5;
	assert_null(lb_flowtable_lookup(&f->table, hashes[8], later));
	assert_non_null(insert(f, hashes[8], 7, LB_FLOW_ESTABLISHED, later));
	f->idle_ticks[8] = IDLE_TICKS + 1;
	assert_int_equal(lb_flowtable_count(&f->table, 8), 0);
	assert_int_equal(lb_flow_entry_backend(*lb_flowtable_lookup(&f->table, hashes[8], later)), 7);
	expect_counts_right(f);
	fixture_destroy(f);
}

static uint64_t random_hash_in(const struct fixture *f, uint32_t first)
{
	uint64_t hash;

	do
		hash = random_u64();
	while (lb_flowtable_first_bucket(&f->table, hash) != first);
	return hash;
}

// The second packet of a burst moves its flow's entry out of the bucket that had no room for the first packet's: the
// third, of the first's flow, finds room, but what was found for the first must hold.
static void room_that_a_burst_makes_misleads_no_packet_of_it(void **state)
{
	struct fixture *f = fixture_create(1000);
	uint64_t filler, one, other, hashes[3], *entries[3];
	uint32_t second;

	(void)state;
	random_state = 5;
	for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++) {
		filler = random_hash_in(f, 7);
		insert(f, filler, 1, LB_FLOW_ESTABLISHED, START_TICK);
	}
	other = random_hash_in(f, 7);
	second = lb_flowtable_other_bucket(&f->table, 7, (uint32_t)(other >> 32));
	insert(f, other, 2, LB_FLOW_ESTABLISHED, START_TICK);
	for (unsigned way = 1; way < LB_FLOWTABLE_WAYS; way++)
		insert(f, random_hash_in(f, second), 1, LB_FLOW_ESTABLISHED, START_TICK);
	one = random_hash_in(f, second);
	insert(f, one, 3, LB_FLOW_ESTABLISHED, START_TICK);
	lb_flowtable_del(&f->table, lb_flowtable_lookup(&f->table, filler, START_TICK));

	memcpy(hashes, (uint64_t[]){one, other, one}, sizeof(hashes));
	assert_int_equal(lb_flowtable_lookup_burst(&f->table, hashes, entries, 3, START_TICK), 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_ptr_equal(entries[i], lb_flowtable_lookup(&f->table, hashes[i], START_TICK));
		assert_int_equal(lb_flow_entry_backend(*entries[i]), i == 1 ? 2 : 3);
	}
	assert_int_equal((uint64_t)(entries[1] - f->table.buckets[7].entries) < LB_FLOWTABLE_WAYS, 1);
	assert_int_equal(lb_flowtable_lookup_burst(&f->table, hashes, entries, 1, START_TICK), 1);
	assert_int_equal((uint64_t)(entries[0] - f->table.buckets[second].entries) < LB_FLOWTABLE_WAYS, 1);
	fixture_destroy(f);
}

static void lookup_in_two_steps_finds_what_one_finds(void **state)
{
	struct fixture *f = fixture_create(100000);
	struct lb_flow_pending pending;
	uint64_t hashes[10], *entries[10];

	(void)state;
	overflow_first_bucket(f, hashes);
	hashes[9] = 77;
	assert_int_equal(
		lb_flowtable_lookup_begin(&f->table, hashes, entries, 10, START_TICK, &pending), 7);
	assert_int_equal(pending.n, 3);
	assert_int_equal(lb_flow_entry_backend(*entries[7]), 7);
	assert_int_equal(
		lb_flowtable_lookup_end(&f->table, hashes, entries, START_TICK, &pending), 1);
	assert_null(entries[3]);
	assert_null(entries[9]);
	assert_int_equal(lb_flow_entry_backend(*entries[8]), 8);
	fixture_destroy(f);
}

static void burst_sees_past_expired_entries(void **state)
{
	struct fixture *f = fixture_create(100000);
	uint64_t hashes[3] = {42, UINT64_C(42) << 32, UINT64_C(43) << 32}, *entries[3];

	(void)state;
	f->idle_ticks[1] = 10;
	insert(f, hashes[0], 1, LB_FLOW_ESTABLISHED,
		START_TICK); // of another service, expired below
	insert(f, hashes[0], 2, LB_FLOW_ESTABLISHED, START_TICK);
	insert(f, hashes[1], 3, LB_FLOW_ESTABLISHED, START_TICK);
	assert_int_equal(
		lb_flowtable_lookup_burst(&f->table, hashes, entries, 3, START_TICK + 50), 2);
	assert_int_equal(lb_flow_entry_backend(*entries[0]), 2);
	assert_int_equal(lb_flow_entry_backend(*entries[1]), 3);
	assert_null(entries[2]);
	fixture_destroy(f);
}

/* ---- full buckets ---- */

// Of a flow whose first bucket is 0 of two.
static uint64_t even_hash(uint32_t number)
{
	return (uint64_t)number << 33;
}

/*
 * A table of two buckets, of which the first one's ways hold @p states, way i (of flow number i + 1) idle since tick START_TICK +
 * times[i], and the second one's what is the last to go and older than none of them.
 */
static struct fixture *one_bucket(const uint32_t states[8], const uint32_t times[8])
{
	struct fixture *f = fixture_create(7);
	uint32_t last = 0;

	assert_int_equal(lb_flowtable_capacity(&f->table), 16);
	for (uint32_t i = 0; i < 8; i++) {
		assert_non_null(insert(f, even_hash(i + 1), (uint16_t)i, states[i], START_TICK + times[i]));
		last = times[i] > last ? times[i] : last;
	}
	for (uint32_t i = 0; i < 8; i++)
		assert_non_null(insert(f, even_hash(i + 1) | UINT64_C(1) << 32, 21,
			LB_FLOW_ESTABLISHED | LB_FLOW_PINNED, START_TICK + last));
	return f;
}

static bool has(struct fixture *f, uint32_t signature, uint32_t now_tick)
{
	return lb_flowtable_lookup(&f->table, (uint64_t)signature << 32, now_tick) != NULL;
}

static bool has_number(struct fixture *f, uint32_t number, uint32_t now_tick)
{
	return has(f, number << 1, now_tick);
}

/* Insert once more; @p victim is the number that has to go, 0: nothing may and the insert fails. */
static void expect_victim(
	struct fixture *f, uint32_t state, bool may_evict, uint32_t now_tick, uint32_t victim)
{
	uint64_t before[8], n_evict = f->counters.evict, n_failed = f->counters.insert_failed;
	static uint32_t next_number = 1000;
	uint64_t *entry;

	memcpy(before, f->table.buckets[0].entries, sizeof(before));
	entry = lb_flowtable_insert(
		&f->table, even_hash(++next_number), 20, state, now_tick, may_evict);
	assert_int_equal(entry != NULL, victim != 0);
	assert_int_equal(f->counters.evict - n_evict, victim != 0);
	assert_int_equal(f->counters.insert_failed - n_failed, victim == 0);
	for (unsigned way = 0; way < 8; way++) {
		uint32_t number = lb_flow_entry_signature(before[way]) >> 1;

		assert_int_equal(has_number(f, number, now_tick), number != victim);
	}
	expect_counts_right(f);
}

static void syn_evicts_no_more_than_a_syn(void **state)
{
	static const uint32_t times[8] = {7, 6, 5, 4, 3, 2, 1, 0};
	static const uint32_t established[8] = {LB_FLOW_ESTABLISHED, LB_FLOW_FIN, LB_FLOW_UDP,
		LB_FLOW_ESTABLISHED, LB_FLOW_FIN, LB_FLOW_ESTABLISHED, LB_FLOW_UDP,
		LB_FLOW_ESTABLISHED};
	static const uint32_t mixed[8] = {LB_FLOW_ESTABLISHED, LB_FLOW_SYN, LB_FLOW_UDP,
		LB_FLOW_SYN, LB_FLOW_FIN, LB_FLOW_ESTABLISHED, LB_FLOW_UDP, LB_FLOW_ESTABLISHED};
	struct fixture *f = one_bucket(established, times);

	(void)state;
	expect_victim(f, LB_FLOW_SYN, true, START_TICK + 8, 0);
	expect_victim(f, LB_FLOW_SYN, false, START_TICK + 8, 0);
	expect_victim(f, LB_FLOW_ESTABLISHED, false, START_TICK + 8, 0);
	fixture_destroy(f);

	f = one_bucket(mixed, times);
	expect_victim(f, LB_FLOW_SYN, true, START_TICK + 8, 4); // the older of the two SYNs
	expect_victim(f, LB_FLOW_SYN, false, START_TICK + 8, 2);
	fixture_destroy(f);
}

static void eviction_goes_from_closed_to_established(void **state)
{
	static const uint32_t times[8] = {0, 1, 2, 3, 4, 5, 6, 7};
	static const uint32_t states[8] = {LB_FLOW_ESTABLISHED, LB_FLOW_UDP, LB_FLOW_FIN,
		LB_FLOW_ESTABLISHED, LB_FLOW_SYN, LB_FLOW_FIN, LB_FLOW_CLOSED, LB_FLOW_ESTABLISHED};
	static const uint32_t order[7] = {7, 5, 3, 6, 1, 2, 4};
	struct fixture *f = one_bucket(states, times);

	(void)state;
	for (unsigned i = 0; i < 7; i++) {
		expect_victim(f, LB_FLOW_ESTABLISHED, i >= 2, START_TICK + 7, order[i]);
		if (i == 1)
			expect_victim(f, LB_FLOW_ESTABLISHED, false, START_TICK + 7, 0);
	}
	fixture_destroy(f);
}

static void pinned_entries_are_the_last_to_go(void **state)
{
	enum { P = LB_FLOW_PINNED };
	static const uint32_t times[8] = {0, 1, 2, 3, 4, 5, 9, 9};
	static const uint32_t states[8] = {LB_FLOW_ESTABLISHED | P, LB_FLOW_UDP | P,
		LB_FLOW_FIN | P, LB_FLOW_ESTABLISHED, LB_FLOW_SYN | P, LB_FLOW_FIN, LB_FLOW_SYN | P,
		LB_FLOW_CLOSED | P};
	static const uint32_t order[8] = {8, 5, 6, 3, 4, 7, 1, 2};
	struct fixture *f = one_bucket(states, times);

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		if (i >= 2) // of these, a SYN that is not pinned takes none
			expect_victim(f, LB_FLOW_SYN, true, START_TICK + 9, 0);
		if (i == 5) // nor anything that is not pinned, from here on
			expect_victim(f, LB_FLOW_ESTABLISHED, true, START_TICK + 9, 0);
		if (i == 6) { // nor a pinned SYN
			assert_int_equal(f->counters.lost, 0);
			expect_victim(f, LB_FLOW_SYN | P, true, START_TICK + 9, 0);
			assert_int_equal(f->counters.lost, 1);
		}
		expect_victim(f, LB_FLOW_ESTABLISHED | P, true, START_TICK + 9, order[i]);
	}
	assert_int_equal(f->counters.lost, 3); // two live ones gone, one SYN not recorded
	fixture_destroy(f);
}

static void pinned_is_kept_beside_the_state(void **state)
{
	struct fixture *f = fixture_create(1000);
	uint64_t *entry = insert(f, 42, 3, LB_FLOW_SYN | LB_FLOW_PINNED, START_TICK);

	(void)state;
	assert_int_equal(lb_flow_entry_state(*entry), LB_FLOW_SYN);
	assert_true(lb_flow_entry_pinned(*entry));
	assert_null(lb_flowtable_lookup(&f->table, 42, START_TICK + LB_FLOW_SYN_TICKS + 1));
	lb_flowtable_touch(&f->table, entry, LB_FLOW_ESTABLISHED, START_TICK);
	assert_int_equal(lb_flow_entry_state(*entry), LB_FLOW_ESTABLISHED);
	assert_false(lb_flow_entry_pinned(*entry));
	fixture_destroy(f);
}

static void oldest_of_both_buckets_goes(void **state)
{
	(void)state;
	for (uint32_t oldest = 1; oldest <= 16; oldest++) {
		struct fixture *f = fixture_create(14);
		const uint64_t pair = UINT64_C(1) << 63; // such signatures pair bucket 0 with 1

		assert_int_equal(f->table.n_buckets, 2);
		for (uint32_t i = 1; i <= 16; i++)
			insert(f, pair | (uint64_t)i << 32, 1, LB_FLOW_ESTABLISHED,
				START_TICK + (i == oldest ? 0 : i));
		assert_int_equal(f->counters.evict, 0);
		insert(f, pair | UINT64_C(99) << 32, 1, LB_FLOW_ESTABLISHED, START_TICK + 20);
		assert_int_equal(f->counters.evict, 1);
		for (uint32_t i = 1; i <= 16; i++)
			assert_int_equal(has(f, 1u << 31 | i, START_TICK + 20), i != oldest);
		fixture_destroy(f);
	}
}

static void flood_within_a_tick_evicts_in_order_of_arrival(void **state)
{
	static const uint32_t times[8] = {0, 0, 0, 0, 0, 0, 0, 0};
	static const uint32_t states[8] = {LB_FLOW_SYN, LB_FLOW_ESTABLISHED, LB_FLOW_SYN,
		LB_FLOW_SYN, LB_FLOW_ESTABLISHED, LB_FLOW_ESTABLISHED, LB_FLOW_SYN,
		LB_FLOW_ESTABLISHED};
	static const uint32_t order[4] = {1, 3, 4, 7};
	struct fixture *f = one_bucket(states, times);

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		expect_victim(f, LB_FLOW_SYN, true, START_TICK, order[i]);
	for (uint32_t i = 0; i < 100; i++) { // and those that came by the flood too
		uint32_t oldest = lb_flow_entry_signature(f->table.buckets[0].entries[0]) >> 1;

		expect_victim(f, LB_FLOW_SYN, true, START_TICK, oldest);
	}
	fixture_destroy(f);
}

static void expired_entries_make_room_before_eviction(void **state)
{
	static const uint32_t times[8] = {9, 9, 9, 0, 9, 9, 9, 9};
	static const uint32_t states[8] = {LB_FLOW_ESTABLISHED, LB_FLOW_SYN, LB_FLOW_ESTABLISHED,
		LB_FLOW_ESTABLISHED, LB_FLOW_ESTABLISHED, LB_FLOW_ESTABLISHED, LB_FLOW_ESTABLISHED,
		LB_FLOW_ESTABLISHED};
	struct fixture *f = one_bucket(states, times);
	uint32_t now_tick = START_TICK + IDLE_TICKS + 1;

	(void)state;
	lb_flowtable_touch(&f->table, lb_flowtable_lookup(&f->table, even_hash(2), START_TICK + 10),
		LB_FLOW_SYN, now_tick);
	assert_non_null(lb_flowtable_insert(
		&f->table, even_hash(99), 9, LB_FLOW_SYN, now_tick, false));
	assert_int_equal(f->counters.evict, 0);
	assert_int_equal(f->counters.expire, 1);
	assert_false(has_number(f, 4, START_TICK + 1));
	assert_true(has_number(f, 2, now_tick));
	expect_counts_right(f);
	fixture_destroy(f);
}

/*
 * A flood of SYNs into a full table, four fifths of which is established: none of those is lost,
 * and a handshake that takes a fiftieth of the time in which the flood fills the embryonic part
 * succeeds.
 */
static void handshake_gets_through_a_flood(void **state)
{
	enum { N_FLOWS = 50000, N_ESTABLISHED = 40000, N_HANDSHAKES = 4000, LATENCY = 150 };
	struct fixture *f = fixture_create(N_FLOWS);
	uint64_t *established = malloc(N_ESTABLISHED * sizeof(*established));
	uint64_t pending[LATENCY] = {0};
	unsigned n_lost = 0;

	(void)state;
	random_state = 4;
	assert_non_null(established);
	for (unsigned i = 0; i < N_ESTABLISHED; i++) {
		established[i] = random_u64();
		assert_non_null(insert(f, established[i], 1, LB_FLOW_ESTABLISHED, START_TICK));
	}
	for (unsigned i = 0; i < 200000; i++) // until the flood's start is forgotten
		insert(f, random_u64(), 2, LB_FLOW_SYN, START_TICK);
	for (unsigned i = 0; i < N_HANDSHAKES + LATENCY; i++) {
		uint64_t *hash = &pending[i % LATENCY], *entry;

		if (i >= LATENCY) {
			entry = lb_flowtable_lookup(&f->table, *hash, START_TICK);
			n_lost += entry == NULL;
			if (entry != NULL)
				lb_flowtable_del(&f->table, entry);
		}
		*hash = random_u64();
		insert(f, *hash, 3, LB_FLOW_SYN, START_TICK);
		insert(f, random_u64(), 2, LB_FLOW_SYN, START_TICK);
	}
	for (unsigned i = 0; i < N_ESTABLISHED; i++)
		assert_non_null(lb_flowtable_lookup(&f->table, established[i], START_TICK));
	assert_true(n_lost * 1000 <= N_HANDSHAKES);
	free(established);
	fixture_destroy(f);
}

static void ninety_percent_load_loses_less_than_a_thousandth(void **state)
{
	enum { N_FLOWS = 200000 };
	struct fixture *f = fixture_create(N_FLOWS);
	uint64_t *hashes = malloc(N_FLOWS * sizeof(*hashes));
	uint64_t n_lost = 0;

	(void)state;
	random_state = 5;
	assert_non_null(hashes);
	for (unsigned i = 0; i < 4 * N_FLOWS; i++) { // filled once, then renewed three times
		unsigned k = i < N_FLOWS ? i : random_below(N_FLOWS);
		uint64_t *entry =
			i < N_FLOWS ? NULL : lb_flowtable_lookup(&f->table, hashes[k], START_TICK);

		if (entry != NULL)
			lb_flowtable_del(&f->table, entry);
		hashes[k] = random_u64();
		insert(f, hashes[k], (uint16_t)random_below(N_BACKENDS), LB_FLOW_ESTABLISHED,
			START_TICK);
	}
	for (unsigned i = 0; i < N_FLOWS; i++)
		n_lost += lb_flowtable_lookup(&f->table, hashes[i], START_TICK) == NULL;
	assert_true(
		(double)(f->counters.used + n_lost) / (double)lb_flowtable_capacity(&f->table) >=
		0.8999);
	assert_true(n_lost * 1000 < N_FLOWS);
	assert_true(f->counters.evict * 1000 < 4 * N_FLOWS);
	expect_counts_right(f);
	free(hashes);
	fixture_destroy(f);
}

/* ---- removal ---- */

static void everything_expires_to_exactly_zero(void **state)
{
	enum { N_FLOWS = 20000 };
	struct fixture *f = fixture_create(N_FLOWS);
	uint32_t now_tick = START_TICK;

	(void)state;
	random_state = 6;
	for (unsigned i = 0; i < 5 * N_FLOWS;
		i++) { // faster than they expire: every way of losing one
		enum lb_flow_state entry_state = LB_FLOW_SYN + random_below(LB_FLOW_UDP);
		uint64_t *entry = lb_flowtable_insert(&f->table, random_u64(),
			(uint16_t)random_below(N_BACKENDS), entry_state, now_tick, random_below(2));

		if (entry != NULL && random_below(8) == 0)
			lb_flowtable_move(&f->table, entry, (uint16_t)random_below(N_BACKENDS));
		if (entry != NULL && random_below(8) == 0)
			lb_flowtable_del(&f->table, entry);
		now_tick += random_below(500) == 0;
		lb_flowtable_sweep(&f->table, now_tick, random_below(20) == 0);
	}
	assert_true(f->counters.expire > N_FLOWS / 10 && f->counters.evict > N_FLOWS / 10 &&
		    f->counters.insert_failed > 0);
	expect_counts_right(f);
	sweep_all(f, now_tick + IDLE_TICKS + 1);
	expect_empty(f);
	fixture_destroy(f);
}

static void sweep_is_bounded_and_comes_round(void **state)
{
	struct fixture *f = fixture_create(8000);
	uint32_t later = START_TICK + IDLE_TICKS + 1;
	unsigned n_calls = 0, n_reclaimed = 0;

	(void)state;
	random_state = 7;
	for (unsigned i = 0; i < 4000; i++)
		insert(f, random_u64(), 1, LB_FLOW_ESTABLISHED, START_TICK);
	assert_int_equal(lb_flowtable_sweep(&f->table, later, 0), 0);
	while (n_reclaimed < 4000) {
		unsigned n = lb_flowtable_sweep(&f->table, later, 3);

		assert_true(n <= 3 * LB_FLOWTABLE_WAYS);
		n_reclaimed += n;
		n_calls++;
	}
	assert_true(n_calls <= f->table.n_buckets / 3 + 1);
	assert_int_equal(
		lb_flowtable_sweep(&f->table, later, UINT32_MAX), 0); // no more than once round
	expect_empty(f);
	fixture_destroy(f);
}

static void removed_backend_has_no_flows(void **state)
{
	struct fixture *f = fixture_create(8000);
	static uint8_t purge[LB_MAX_BACKENDS + 1u];

	(void)state;
	random_state = 8;
	for (unsigned i = 0; i < 4000; i++)
		insert(f, i == 0 ? 42 : random_u64(), (uint16_t)(i % 4), LB_FLOW_SYN + i % 5,
			START_TICK);
	f->idle_ticks[0] = 0; // from here on they are misses, whatever their state
	for (uint64_t i = 0; i < lb_flowtable_capacity(&f->table); i++) {
		uint64_t entry = lb_flowtable_peek(&f->table, i);

		if (entry != 0 && lb_flow_entry_backend(entry) == 0)
			assert_false(lb_flow_entry_live(f->idle_ticks, entry, START_TICK));
	}
	assert_null(lb_flowtable_lookup(&f->table, 42, START_TICK));
	purge[0] = purge[2] = 1;
	assert_int_equal(lb_flowtable_purge(&f->table, purge), 2000);
	assert_int_equal(lb_flowtable_purge(&f->table, purge), 0);
	assert_int_equal(f->backends[0].active_flows, 0);
	assert_int_equal(f->backends[2].active_flows, 0);
	assert_int_equal(f->backends[1].active_flows, 600);
	assert_int_equal(f->backends[1].closing_flows, 400);
	expect_counts_right(f);
	f->idle_ticks[1] = 0; // without a purge the sweep takes them
	assert_int_equal(lb_flowtable_sweep(&f->table, START_TICK, UINT32_MAX), 1000);
	assert_int_equal(f->backends[1].active_flows, 0);
	fixture_destroy(f);
}

/* ---- adoption ---- */

static void restart_adopts_the_live_entries(void **state)
{
	struct fixture *f = fixture_create(4000);
	uint64_t hashes[3000];
	uint32_t now_tick = START_TICK + 100;

	(void)state;
	random_state = 9;
	for (unsigned i = 0; i < 3000; i++) {
		hashes[i] = random_u64();
		insert(f, hashes[i], (uint16_t)(i % 3), LB_FLOW_ESTABLISHED,
			START_TICK + (i >= 1000) * 100);
	}
	lb_flowtable_sweep(&f->table, now_tick, 1);
	f->idle_ticks[2] = 0; // gone meanwhile
	now_tick += IDLE_TICKS - 99;
	assert_int_equal(restart(f, now_tick), 1333);
	assert_string_equal(f->why, "");
	assert_int_equal(f->counters.used, 1333);
	expect_counts_right(f);
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t *entry = lb_flowtable_lookup(&f->table, hashes[i], now_tick);

		assert_int_equal(entry != NULL, i >= 1000 && i % 3 != 2);
		if (entry != NULL)
			assert_int_equal(lb_flow_entry_backend(*entry), i % 3);
	}
	sweep_all(f, now_tick + IDLE_TICKS + 1);
	expect_empty(f);
	fixture_destroy(f);
}

static void time_away_does_not_wrap(void **state)
{
	struct fixture *f = fixture_create(1000);

	(void)state;
	for (uint32_t away = 0; away < 3 * 4096; away += 97) {
		uint32_t last_tick = START_TICK + 10 * away;

		insert(f, 42, 3, LB_FLOW_ESTABLISHED, last_tick);
		lb_flowtable_sweep(&f->table, last_tick, 0);
		assert_int_equal(restart(f, last_tick + away), away <= IDLE_TICKS);
		sweep_all(f, last_tick + away + IDLE_TICKS + 1);
		expect_empty(f);
	}
	fixture_destroy(f);
}

static void entries_newer_than_the_last_sweep_are_adopted(void **state)
{
	struct fixture *f = fixture_create(1000);

	(void)state;
	lb_flowtable_sweep(&f->table, START_TICK, 1);
	insert(f, 42, 3, LB_FLOW_ESTABLISHED, START_TICK + 20);
	assert_int_equal(restart(f, START_TICK + 21), 1);
	fixture_destroy(f);
}

static void other_tables_are_refused_with_a_reason(void **state)
{
	static const char *const reasons[] = {
		"buckets", "secret", "worker", "of 3", "clock", "version", "no flow table"};

	(void)state;
	for (unsigned i = 0; i < 7; i++) {
		struct fixture *f = fixture_create(1000);
		uint32_t now_tick = START_TICK;

		insert(f, 42, 3, LB_FLOW_ESTABLISHED, START_TICK);
		f->config.n_flows -= i == 0 ? 100 : 0;
		f->config.secret_id += i == 1;
		f->config.worker -= i == 2;
		f->config.n_workers += i == 3;
		now_tick -= i == 4;
		((uint8_t *)f->config.mem)[8] ^= i == 5;
		((uint8_t *)f->config.mem)[0] ^= i == 6;
		assert_int_equal(restart(f, now_tick), 0);
		assert_non_null(strstr(f->why, reasons[i]));
		assert_null(lb_flowtable_lookup(&f->table, 42, now_tick));
		expect_empty(f);
		fixture_destroy(f);
	}
}

static void rubbish_in_the_memory_is_dropped(void **state)
{
	struct fixture *f = fixture_create(4000);
	int64_t n_adopted;

	(void)state;
	random_state = 10;
	lb_flowtable_sweep(&f->table, START_TICK, 0);
	for (uint32_t i = 0; i < f->table.n_buckets; i++)
		for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++)
			f->table.buckets[i].entries[way] = random_u64() & ~(UINT64_C(0xff80) << 16);
	n_adopted = restart(f, START_TICK + 1);
	assert_true(n_adopted > 0 && n_adopted < 4000 / 2);
	expect_counts_right(f);
	for (uint64_t i = 0; i < lb_flowtable_capacity(&f->table); i++) {
		uint64_t entry = lb_flowtable_peek(&f->table, i);

		if (entry == 0)
			continue;
		assert_true(lb_flow_entry_backend(entry) < N_BACKENDS);
		assert_in_range(lb_flow_entry_state(entry), LB_FLOW_SYN, LB_FLOW_UDP);
	}
	for (unsigned i = 0; i < 20000; i++) // and the table works on
		insert(f, random_u64(), 1, LB_FLOW_SYN + random_below(5), START_TICK + 1 + i / 100);
	expect_counts_right(f);
	sweep_all(f, START_TICK + 201 + IDLE_TICKS);
	expect_empty(f);
	fixture_destroy(f);
}

// Entries come and go, so that there are gaps in the buckets: what is put where that is easy lies where insert() has it.
static void put_does_what_insert_does(void **state)
{
	struct fixture *a = fixture_create(500), *b = fixture_create(500);
	unsigned n_easy = 0, n_second = 0, n_not = 0;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t hashes[4] = {random_u64(), 0, 0, 0};
		uint32_t state_bits = random_below(2) == 0 ? LB_FLOW_SYN : LB_FLOW_UDP, tick = START_TICK + i / 50;
		uint16_t backend = (uint16_t)random_below(N_BACKENDS);
		uint64_t entry = lb_flow_entry_make((uint32_t)(hashes[0] >> 32), backend, tick, state_bits);
		struct lb_flow_bucket *first[4], *second[4];
		uint64_t idx = random_below((uint32_t)lb_flowtable_capacity(&a->table)), *at;

		lb_flowtable_buckets(&b->table, hashes, 1, first, second);
		assert_ptr_equal(first[0], &b->table.buckets[lb_flowtable_first_bucket(&b->table, hashes[0])]);
		assert_ptr_equal(second[0], &b->table.buckets[lb_flowtable_other_bucket(&b->table,
						     lb_flowtable_first_bucket(&b->table, hashes[0]), (uint32_t)(hashes[0] >> 32))]);
		assert_false(lb_flowtable_may_hold(&b->table, hashes[0]));
		at = insert(a, hashes[0], backend, state_bits, tick);
		if (lb_flowtable_put(&b->table, first[0], second[0], entry)) {
			n_easy++;
			n_second += (uint64_t)(at - a->table.buckets[0].entries) / LB_FLOWTABLE_WAYS !=
				    lb_flowtable_first_bucket(&a->table, hashes[0]);
		} else {
			insert(b, hashes[0], backend, state_bits, tick);
			n_not++;
		}
		assert_true(at == NULL || lb_flowtable_may_hold(&b->table, hashes[0]));
		if (lb_flowtable_peek(&a->table, idx) != 0 && random_below(2) == 0) {
			lb_flowtable_del(&a->table, &a->table.buckets[0].entries[idx]);
			lb_flowtable_del(&b->table, &b->table.buckets[0].entries[idx]);
		}
		if (random_below(2000) == 0)
			for (unsigned k = 0; k < 2; k++)
				lb_flowtable_purge(k == 0 ? &a->table : &b->table, (const uint8_t[LB_MAX_BACKENDS + 1]){[0 ... 20] = 1});
		assert_memory_equal(a->table.buckets, b->table.buckets, a->table.n_buckets * sizeof(a->table.buckets[0]));
		assert_memory_equal(&a->counters, &b->counters, sizeof(a->counters));
	}
	expect_counts_right(b);
	assert_true(n_easy > 1000 && n_second > 20 && n_not > 1000);
	fixture_destroy(a);
	fixture_destroy(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_instruction_set_gives_the_same_ways),
		cmocka_unit_test(other_bucket_is_an_involution),
		cmocka_unit_test(nine_bytes_per_flow_at_ninety_percent),
		cmocka_unit_test(bad_config_is_refused),
		cmocka_unit_test(entry_lives_for_its_timeout_and_no_longer),
		cmocka_unit_test(idle_timeout_becomes_ticks_rounded_up),
		cmocka_unit_test(flows_that_their_client_closed_are_counted_apart),
		cmocka_unit_test(touch_refreshes_and_sets_the_state),
		cmocka_unit_test(touch_that_changes_nothing_writes_nothing),
		cmocka_unit_test(same_signature_is_found_one_after_the_other),
		cmocka_unit_test(signature_zero_is_a_flow_like_others),
		cmocka_unit_test(expired_entry_of_the_flow_never_returns),
		cmocka_unit_test(burst_finds_what_lookup_finds),
		cmocka_unit_test(flow_in_its_second_bucket_moves_to_its_first),
		cmocka_unit_test(flow_with_an_expired_entry_in_its_second_bucket_has_one),
		cmocka_unit_test(room_that_a_burst_makes_misleads_no_packet_of_it),
		cmocka_unit_test(lookup_in_two_steps_finds_what_one_finds),
		cmocka_unit_test(burst_sees_past_expired_entries),
		cmocka_unit_test(syn_evicts_no_more_than_a_syn),
		cmocka_unit_test(eviction_goes_from_closed_to_established),
		cmocka_unit_test(pinned_entries_are_the_last_to_go),
		cmocka_unit_test(pinned_is_kept_beside_the_state),
		cmocka_unit_test(oldest_of_both_buckets_goes),
		cmocka_unit_test(flood_within_a_tick_evicts_in_order_of_arrival),
		cmocka_unit_test(expired_entries_make_room_before_eviction),
		cmocka_unit_test(handshake_gets_through_a_flood),
		cmocka_unit_test(ninety_percent_load_loses_less_than_a_thousandth),
		cmocka_unit_test(everything_expires_to_exactly_zero),
		cmocka_unit_test(sweep_is_bounded_and_comes_round),
		cmocka_unit_test(removed_backend_has_no_flows),
		cmocka_unit_test(restart_adopts_the_live_entries),
		cmocka_unit_test(time_away_does_not_wrap),
		cmocka_unit_test(entries_newer_than_the_last_sweep_are_adopted),
		cmocka_unit_test(other_tables_are_refused_with_a_reason),
		cmocka_unit_test(put_does_what_insert_does),
		cmocka_unit_test(rubbish_in_the_memory_is_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
