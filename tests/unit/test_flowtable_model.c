/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The flow table against a naive model: an array of flows with their full times. Random packets,
 * changes and removals, sweeps, jumps in time, purges and restarts at loads from 10 % to 95 %:
 * every answer has to be the model's. What the table evicts it has to have said, and to have been
 * allowed to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lb/flowtable.h"

#define N_FLOWS 30000u
#define N_UNIVERSE (2u * N_FLOWS)
#define N_BACKENDS 40u
#define N_STEPS 1000000u /* per load */
#define MAP_SIZE (1u << 18)

struct flow {
	uint64_t hash;
	uint32_t last_tick;
	uint16_t backend;
	uint8_t state;  /* without LB_FLOW_PINNED */
	uint8_t pinned; /* LB_FLOW_PINNED or 0 */
	bool recorded;
};

static struct flow flows[N_UNIVERSE];
static uint32_t flow_map[MAP_SIZE]; /* identity in the table -> index + 1; open addressing */
static struct lb_flowtable table;
static struct lb_flowtable_config config;
static struct lb_flow_counters counters;
static int64_t active[LB_MAX_BACKENDS + 1u], closing[LB_MAX_BACKENDS + 1u];
static uint16_t idle_ticks[LB_MAX_BACKENDS + 1u];
static uint32_t now_tick;
static uint64_t random_state;

static uint64_t random_u64(void)
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

/* ---- the model ---- */

static bool model_live(const struct flow *flow)
{
	uint32_t limit = idle_ticks[flow->backend];

	if (!flow->recorded || limit == 0)
		return false;
	limit--; // what a flow outlives
	if (flow->state == LB_FLOW_SYN && limit > LB_FLOW_SYN_TICKS)
		limit = LB_FLOW_SYN_TICKS;
	if ((flow->state == LB_FLOW_FIN || flow->state == LB_FLOW_CLOSED) && limit > LB_FLOW_FIN_TICKS)
		limit = LB_FLOW_FIN_TICKS;
	if (flow->state == LB_FLOW_CLOSED && !flow->pinned && limit > LB_FLOW_CLOSED_TICKS)
		limit = LB_FLOW_CLOSED_TICKS;
	return now_tick - flow->last_tick <= limit;
}

/* Place in flow_map of the flow that an entry with @p signature in @p bucket stands for. */
static uint32_t map_place(uint32_t signature, uint32_t bucket)
{
	uint32_t other = lb_flowtable_other_bucket(&table, bucket, signature);
	uint32_t place = (signature ^ (bucket + other) * 2654435761u) % MAP_SIZE;

	for (; flow_map[place] != 0; place = (place + 1) % MAP_SIZE) {
		uint64_t hash = flows[flow_map[place] - 1].hash;
		uint32_t first = lb_flowtable_first_bucket(&table, hash);

		if ((uint32_t)(hash >> 32) == signature && (first == bucket || first == other))
			break;
	}
	return place;
}

/* Flows that the table can tell apart: with 32 bits of signature hardly one in a million cannot be.
 */
static void make_universe(void)
{
	memset(flow_map, 0, sizeof(flow_map));
	for (uint32_t i = 0; i < N_UNIVERSE; i++) {
		uint32_t place;

		do {
			flows[i] = (struct flow){.hash = random_u64()};
			place = map_place((uint32_t)(flows[i].hash >> 32),
				lb_flowtable_first_bucket(&table, flows[i].hash));
		} while (flow_map[place] != 0);
		flow_map[place] = i + 1;
	}
}

/* ---- checks ---- */

static uint64_t *expect_lookup(const struct flow *flow)
{
	uint64_t *entry = lb_flowtable_lookup(&table, flow->hash, now_tick);

	assert_int_equal(entry != NULL, model_live(flow));
	if (entry == NULL)
		return NULL;
	assert_int_equal(lb_flow_entry_signature(*entry), flow->hash >> 32);
	assert_int_equal(lb_flow_entry_backend(*entry), flow->backend);
	assert_int_equal(lb_flow_entry_state(*entry), flow->state);
	assert_int_equal(lb_flow_entry_pinned(*entry), flow->pinned != 0);
	assert_int_equal(lb_flow_entry_time(*entry), flow->last_tick & LB_FLOW_TIME_MASK);
	assert_null(lb_flowtable_lookup_next(&table, flow->hash, entry, now_tick));
	return entry;
}

/* Whether each guest has its bit, and, if it is @p exact, nothing else has one. */
static void expect_away(bool exact)
{
	unsigned n_guests = 0, n_bits = 0;
	static uint8_t seen[1 << 16];

	assert_true(table.n_buckets <= sizeof(seen));
	memset(seen, 0, sizeof(seen));
	for (uint32_t b = 0; b < table.n_buckets; b++) {
		for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++) {
			uint64_t entry = table.buckets[b].entries[way];
			uint32_t home = lb_flowtable_other_bucket(&table, b, lb_flow_entry_signature(entry));

			if (entry == 0 || !lb_flow_is_guest(&table, b, lb_flow_entry_signature(entry)))
				continue;
			assert_true(lb_flowtable_away(&table, home));
			n_guests += !seen[home];
			seen[home] = 1;
		}
	}
	for (uint32_t b = 0; b < table.n_buckets; b++)
		n_bits += lb_flowtable_away(&table, b);
	if (exact)
		assert_int_equal(n_bits, n_guests);
}

static void expect_everything(void)
{
	int64_t n_active[N_BACKENDS] = {0}, n_closing[N_BACKENDS] = {0};
	uint64_t n_live = 0;

	for (uint32_t i = 0; i < N_UNIVERSE; i++) {
		n_live += expect_lookup(&flows[i]) != NULL;
		if (!model_live(&flows[i]))
			continue;
		if (flows[i].state == LB_FLOW_FIN || flows[i].state == LB_FLOW_CLOSED)
			n_closing[flows[i].backend]++;
		else
			n_active[flows[i].backend]++;
	}
	expect_away(false);
	lb_flowtable_sweep(&table, now_tick, table.n_buckets);
	expect_away(false);
	lb_flowtable_sweep(&table, now_tick, table.n_buckets);
	expect_away(true);
	assert_int_equal(counters.used, n_live);
	assert_int_equal(lb_flowtable_count(&table, LB_BACKEND_NONE), n_live);
	for (uint16_t i = 0; i < N_BACKENDS; i++) {
		assert_int_equal(active[i], n_active[i]);
		assert_int_equal(closing[i], n_closing[i]);
	}
}

/* ---- steps ---- */

/* The buckets that an insertion may change. @return how many. */
static unsigned reach(uint64_t hash, uint32_t buckets[18])
{
	uint32_t first = lb_flowtable_first_bucket(&table, hash);
	unsigned n = 0;

	buckets[n++] = first;
	buckets[n++] = lb_flowtable_other_bucket(&table, first, (uint32_t)(hash >> 32));
	for (unsigned b = 0; b < 2; b++)
		for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++)
			buckets[n++] = lb_flowtable_other_bucket(&table, buckets[b],
				lb_flow_entry_signature(table.buckets[buckets[b]].entries[way]));
	return n;
}

static uint8_t random_state_of_flow(void)
{
	return (uint8_t)(LB_FLOW_SYN + random_below(LB_FLOW_STATE_N - 1));
}

static uint8_t random_pinned(void)
{
	return random_below(3) == 0 ? LB_FLOW_PINNED : 0;
}

/* Whether @p victim may go for a new flow of this kind: what lb_flowtable_insert() promises. */
static bool may_go(const struct flow *victim, uint32_t state, uint32_t pinned, bool may_evict)
{
	bool is_syn = state == LB_FLOW_SYN;

	if (victim->state == LB_FLOW_CLOSED || victim->state == LB_FLOW_SYN)
		return true;
	if (!may_evict || (is_syn && !pinned))
		return false;
	if (victim->state == LB_FLOW_FIN || !victim->pinned)
		return true;
	return pinned && !is_syn;
}

// As insert() does, or put() where that is easy.
static uint64_t *insert(uint64_t hash, uint16_t backend, uint32_t state, bool may_evict)
{
	uint32_t signature = (uint32_t)(hash >> 32), first = lb_flowtable_first_bucket(&table, hash);
	uint32_t second = lb_flowtable_other_bucket(&table, first, signature);

	if (random_below(2) == 0 && !lb_flowtable_may_hold(&table, hash) &&
		lb_flowtable_put(&table, &table.buckets[first], &table.buckets[second],
			lb_flow_entry_make(signature, backend, now_tick, state)))
		return lb_flowtable_lookup(&table, hash, now_tick);
	return lb_flowtable_insert(&table, hash, backend, state, now_tick, may_evict);
}

static void step_insert(struct flow *flow)
{
	uint8_t state = random_state_of_flow(), pinned = random_pinned();
	uint16_t backend = (uint16_t)random_below(N_BACKENDS);
	bool may_evict = random_below(2);
	struct lb_flow_counters were = counters;
	uint64_t before[18][LB_FLOWTABLE_WAYS], n_gone = 0, n_lost = 0, *entry;
	uint32_t buckets[18];
	unsigned n_buckets = reach(flow->hash, buckets);

	for (unsigned b = 0; b < n_buckets; b++)
		memcpy(before[b], table.buckets[buckets[b]].entries, sizeof(before[b]));
	entry = insert(flow->hash, backend, state | pinned, may_evict);
	for (unsigned b = 0; b < n_buckets && counters.evict != were.evict; b++)
		for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++) {
			uint32_t signature = lb_flow_entry_signature(before[b][way]);
			struct flow *other;

			if (before[b][way] == 0)
				continue;
			other = &flows[flow_map[map_place(signature, buckets[b])] - 1];
			if (!model_live(other) ||
				lb_flowtable_lookup(&table, other->hash, now_tick))
				continue;
			assert_true(may_go(other, state, pinned, may_evict));
			n_lost += other->pinned && (other->state == LB_FLOW_ESTABLISHED ||
							   other->state == LB_FLOW_UDP);
			other->recorded = false;
			n_gone++;
		}
	n_lost += entry == NULL && pinned;
	assert_true(n_gone <= 1);
	assert_int_equal(n_gone, counters.evict - were.evict);
	assert_int_equal(n_lost, counters.lost - were.lost);
	assert_int_equal(entry == NULL, counters.insert_failed - were.insert_failed);
	assert_int_equal(entry != NULL, counters.insert - were.insert);
	assert_int_equal(counters.used + n_gone + (counters.expire - were.expire),
		were.used + (entry != NULL));
	*flow = (struct flow){flow->hash, now_tick, backend, state, pinned, entry != NULL};
	assert_ptr_equal(expect_lookup(flow), entry);
}

static void step_packet(struct flow *flow, bool may_insert)
{
	uint64_t *entry = expect_lookup(flow);

	if (entry == NULL && may_insert)
		step_insert(flow);
	if (entry == NULL)
		return;
	switch (random_below(10)) {
	case 0:
		lb_flowtable_del(&table, entry);
		flow->recorded = false;
		break;
	case 1:
		flow->backend = (uint16_t)random_below(N_BACKENDS);
		lb_flowtable_move(&table, entry, flow->backend);
		break;
	case 2:
		flow->state = random_state_of_flow();
		flow->pinned = random_pinned();
		/* fall through */
	default:
		flow->last_tick = now_tick;
		lb_flowtable_touch(&table, entry, (uint32_t)flow->state | flow->pinned, now_tick);
	}
}

static void step_burst(void)
{
	uint64_t hashes[32] = {0}, *entries[32];
	unsigned n = random_below(33), n_hits = 0;
	struct flow *burst[32];

	for (unsigned i = 0; i < n; i++) {
		burst[i] = i > 0 && random_below(8) == 0 ? burst[random_below(i)]
							 : &flows[random_below(N_UNIVERSE)];
		hashes[i] = burst[i]->hash;
	}
	n_hits = lb_flowtable_lookup_burst(&table, hashes, entries, n, now_tick);
	for (unsigned i = 0; i < n; i++) {
		assert_ptr_equal(entries[i], expect_lookup(burst[i]));
		n_hits -= entries[i] != NULL;
	}
	assert_int_equal(n_hits, 0);
}

static void step_purge(void)
{
	static uint8_t purge[LB_MAX_BACKENDS + 1u];
	uint16_t backend = (uint16_t)random_below(N_BACKENDS), ticks = idle_ticks[backend];
	uint64_t n_expected = (uint64_t)(active[backend] + closing[backend]);

	idle_ticks[backend] = 0;
	expect_lookup(&flows[random_below(N_UNIVERSE)]);
	purge[backend] = 1;
	assert_int_equal(lb_flowtable_purge(&table, purge), n_expected);
	purge[backend] = 0;
	idle_ticks[backend] = ticks;
	for (uint32_t i = 0; i < N_UNIVERSE; i++)
		if (flows[i].backend == backend)
			flows[i].recorded = false;
}

static void step_restart(void)
{
	int64_t n_live = 0;
	char why[200];

	now_tick += random_below(10);
	for (uint32_t i = 0; i < N_UNIVERSE; i++)
		n_live += model_live(&flows[i]);
	memset(&table, 0xee, sizeof(table));
	memset(active, 0, sizeof(active));
	memset(closing, 0, sizeof(closing));
	assert_int_equal(lb_flowtable_init(&table, &config, now_tick, why, sizeof(why)), n_live);
	assert_string_equal(why, "");
}

static void step(uint64_t n_target)
{
	struct flow *flow = &flows[random_below(N_UNIVERSE)];

	step_packet(flow, counters.used < n_target);
	lb_flowtable_sweep(&table, now_tick, random_below(3));
	if (random_below(3000) == 0)
		now_tick++;
	if (random_below(100) == 0)
		step_burst();
	if (random_below(50000) == 0)
		step_purge();
	if (random_below(5000) == 0)
		expect_away(false);
	if (random_below(50000) == 0) {
		step_restart();
		expect_away(true);
	}
	if (random_below(100000) == 0) { // a jump, as far as a sweep per 992 s allows
		now_tick += random_below(490);
		lb_flowtable_sweep(&table, now_tick, table.n_buckets);
	}
}

static void run_at_load(unsigned percent)
{
	uint64_t n_bytes = (lb_flowtable_bytes(N_FLOWS) + 63) & ~UINT64_C(63), n_target,
		 n_at_target = 0;

	random_state = percent;
	now_tick = UINT32_MAX - random_below(400); // across the 32-bit limit
	memset(&counters, 0, sizeof(counters));
	memset(active, 0, sizeof(active));
	memset(closing, 0, sizeof(closing));
	for (uint16_t i = 0; i < N_BACKENDS; i++)
		idle_ticks[i] =
			(uint16_t)(i % 4 == 0 ? LB_FLOW_IDLE_TICKS_MAX : 1 + random_below(900));
	config = (struct lb_flowtable_config){
		.mem = aligned_alloc(64, n_bytes),
		.mem_bytes = n_bytes,
		.n_flows = N_FLOWS,
		.idle_ticks = idle_ticks,
		.active = active,
		.closing = closing,
		.active_stride = sizeof(active[0]),
		.counters = &counters,
	};
	assert_non_null(config.mem);
	memset(config.mem, 0xa5, n_bytes);
	assert_int_equal(lb_flowtable_init(&table, &config, now_tick, NULL, 0), 0);
	make_universe();
	n_target = lb_flowtable_capacity(&table) * percent / 100;
	for (unsigned i = 0; i < N_STEPS; i++) {
		step(n_target);
		n_at_target += counters.used >= n_target - n_target / 50;
	}
	assert_true(n_at_target > N_STEPS / 4); // the load was what it says, between jumps
	assert_true(counters.insert > 2 * n_target && counters.expire > n_target / 4);
	if (percent <= 90)
		assert_true((counters.evict + counters.insert_failed) * 1000 < counters.insert);
	expect_everything();
	for (uint32_t end_tick = now_tick + LB_FLOW_IDLE_TICKS_MAX + 1; now_tick != end_tick;
		now_tick++)
		lb_flowtable_sweep(&table, now_tick, table.n_buckets / 400);
	lb_flowtable_sweep(&table, now_tick, table.n_buckets);
	memset(flows, 0, sizeof(flows));
	assert_int_equal(counters.used, 0);
	for (uint32_t i = 0; i <= LB_MAX_BACKENDS; i++)
		assert_true(active[i] == 0 && closing[i] == 0);
	free(config.mem);
}

static void table_equals_model(void **state)
{
	static const unsigned loads[] = {10, 30, 50, 70, 80, 90, 95, 100};

	(void)state;
	for (unsigned i = 0; i < sizeof(loads) / sizeof(loads[0]); i++)
		run_at_load(loads[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_equals_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
