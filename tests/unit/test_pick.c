/* SPDX-License-Identifier: BSD-3-Clause */
/* The invariants of each scheduler: who gets a new flow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lb/pick.h"
#include "lb/smooth.h"

#define N_MAX 300u
#define N_SLOTS 1009u
#define N_WORKERS 3u
#define FIRST 7u /* backend ids are not indexes */

static int64_t active[(FIRST + N_MAX) * 8]; /* with the stride of the real counters */
static uint8_t states[LB_MAX_BACKENDS + 1];
static uint16_t words[N_MAX * 2 + LB_SMOOTH_MAX];
static uint32_t weights[N_MAX];
static struct lb_slot_table *table;
static struct lb_pick *pick;
static uint64_t random_state;

static int64_t *load(uint32_t member)
{
	return &active[(FIRST + member) * 8];
}

static uint32_t next_random(uint32_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)((random_state >> 33) % n);
}

static void release(void)
{
	free(pick);
	pick = NULL;
}

static int set_up(void **state)
{
	(void)state;
	memset(active, 0, sizeof(active));
	memset(states, LB_BACKEND_UP, sizeof(states));
	random_state = 1;
	table = aligned_alloc(64, (lb_slots_bytes(N_SLOTS) + 63) & ~UINT64_C(63));
	assert_non_null(table);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	release();
	free(table);
	return 0;
}

static struct lb_pick *make(const struct lb_pick_spec *spec, const struct lb_pick *before)
{
	uint64_t bytes = lb_pick_bytes(spec, N_WORKERS);
	void *mem = aligned_alloc(64, (bytes + 63) & ~UINT64_C(63));
	struct lb_pick *made;

	assert_non_null(mem);
	memset(mem, 0, bytes);
	made = lb_pick_init(mem, spec, words, N_WORKERS, before);
	if (made == NULL)
		free(mem);
	return made;
}

// weights[0..n-1] are the members'. Slots go to them in proportion, mixed.
static void create(enum lb_scheduler scheduler, uint32_t n, uint16_t max_load)
{
	struct lb_pick_spec spec = {
		.scheduler = (uint8_t)scheduler, .max_load_percent = max_load, .n_members = n};
	uint16_t backends[N_SLOTS];
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		words[2 * i] = (uint16_t)(FIRST + i);
		words[2 * i + 1] = (uint16_t)weights[i];
		sum += weights[i];
	}
	if (scheduler == LB_SCHED_RR || scheduler == LB_SCHED_WRR || scheduler == LB_SCHED_P2C) {
		spec.n_sequence = lb_smooth_length(weights, n);
		assert_int_equal(lb_smooth_fill(weights, n, words + 2 * n), 0);
	}
	for (uint32_t i = 0; i < N_SLOTS; i++) {
		uint32_t at = (uint32_t)((uint64_t)i * 7919 % N_SLOTS * sum / N_SLOTS), k = 0;

		for (; at >= weights[k]; k++)
			at -= weights[k];
		backends[i] = (uint16_t)(FIRST + k);
	}
	lb_slots_adopt(table, NULL, backends, N_SLOTS, 1, 60, 1000);
	assert_true(lb_pick_spec_valid(&spec));
	release();
	pick = make(&spec, NULL);
	assert_non_null(pick);
}

static void all_weights(uint32_t n, uint32_t weight)
{
	for (uint32_t i = 0; i < n; i++)
		weights[i] = weight;
}

static uint32_t choose_at(uint32_t worker, uint32_t slot, bool commit)
{
	struct lb_pick_view view = {.table = table, .slot = slot, .backend_state = states,
		.active = active, .active_stride = 8 * sizeof(active[0])};
	uint16_t backend = lb_pick_choose(pick, worker, &view, commit);

	return backend == LB_BACKEND_NONE ? UINT32_MAX : backend - FIRST;
}

static uint32_t choose(void)
{
	return choose_at(0, next_random(N_SLOTS), true);
}

static void wrr_is_the_smooth_sequence(void **state)
{
	static const char expected[] = "abcaabacbaabcaabacba";

	(void)state;
	weights[0] = 5, weights[1] = 3, weights[2] = 2;
	create(LB_SCHED_WRR, 3, 0);
	for (unsigned i = 0; expected[i] != '\0'; i++) {
		assert_int_equal(choose_at(0, 1, false), expected[i] - 'a'); // a look changes nothing
		assert_int_equal(choose(), expected[i] - 'a');
	}
}

static void rotation_goes_on_in_the_next_table(void **state)
{
	struct lb_pick *before;

	(void)state;
	all_weights(5, 1);
	create(LB_SCHED_RR, 5, 0);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(choose(), i % 5);
	before = pick;
	pick = make(&before->spec, before);
	free(before);
	assert_int_equal(choose(), 3);
}

static void workers_begin_apart(void **state)
{
	(void)state;
	all_weights(9, 1);
	create(LB_SCHED_RR, 9, 0);
	for (uint32_t worker = 0; worker < N_WORKERS; worker++)
		assert_int_equal(choose_at(worker, 0, true), worker * 3);
}

static void who_is_not_up_is_passed_over(void **state)
{
	static const enum lb_scheduler all[] = {
		LB_SCHED_RR, LB_SCHED_WRR, LB_SCHED_LC, LB_SCHED_WLC, LB_SCHED_P2C};

	(void)state;
	all_weights(3, 1);
	for (unsigned s = 0; s < 5; s++) {
		memset(states, LB_BACKEND_UP, sizeof(states));
		create(all[s], 3, 0);
		states[FIRST + 1] = LB_BACKEND_DRAIN;
		for (unsigned i = 0; i < 100; i++)
			assert_int_not_equal(choose(), 1);
		memset(states, LB_BACKEND_DOWN, sizeof(states));
		assert_int_equal(choose(), UINT32_MAX); // the slot decides
	}
}

static void lc_picks_the_least(void **state)
{
	(void)state;
	all_weights(LB_PICK_SCAN, 1);
	create(LB_SCHED_LC, LB_PICK_SCAN, 0);
	for (unsigned i = 0; i < 20000; i++) {
		uint32_t chosen = choose();

		for (uint32_t k = 0; k < LB_PICK_SCAN; k++)
			assert_true(*load(chosen) <= *load(k));
		++*load(chosen);
		*load(next_random(LB_PICK_SCAN)) /= 2; // flows end
	}
}

static void lc_lets_equals_take_turns(void **state)
{
	(void)state;
	all_weights(4, 1);
	create(LB_SCHED_LC, 4, 0);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(choose(), i % 4); // nothing is recorded: all stay equal
}

static void wlc_picks_the_least_by_weight(void **state)
{
	uint64_t n[3] = {0};

	(void)state;
	weights[0] = 5, weights[1] = 3, weights[2] = 2;
	create(LB_SCHED_WLC, 3, 0);
	for (unsigned i = 0; i < 10000; i++) {
		uint32_t chosen = choose();

		for (uint32_t k = 0; k < 3; k++)
			assert_true((*load(chosen) + 1) * weights[k] <= (*load(k) + 1) * weights[chosen]);
		++*load(chosen);
		n[chosen]++;
	}
	assert_int_equal(n[0], 5000);
	assert_int_equal(n[1], 3000);
	assert_int_equal(n[2], 2000);
}

/* Of more than LB_PICK_SCAN so many in turn: nobody is left behind for long. */
static void lc_of_many_is_nearly_the_least(void **state)
{
	int64_t least = INT64_MAX, most = 0;

	(void)state;
	all_weights(N_MAX, 1);
	create(LB_SCHED_LC, N_MAX, 0);
	for (unsigned i = 0; i < N_MAX * 100; i++)
		++*load(choose());
	for (uint32_t i = 0; i < N_MAX; i++) {
		least = *load(i) < least ? *load(i) : least;
		most = *load(i) > most ? *load(i) : most;
	}
	assert_true(most - least <= 3);
}

static void p2c_picks_the_lesser_of_two(void **state)
{
	unsigned n_least = 0;

	(void)state;
	all_weights(2, 1);
	create(LB_SCHED_P2C, 2, 0);
	for (unsigned i = 0; i < 1000; i++) { // of two: always the lesser
		uint32_t chosen = choose();

		assert_true(*load(chosen) <= *load(1 - chosen));
		*load(next_random(2)) += next_random(3);
	}
	all_weights(10, 1);
	create(LB_SCHED_P2C, 10, 0);
	for (uint32_t i = 0; i < 10; i++)
		*load(i) = i * 10;
	for (unsigned i = 0; i < 10000; i++) {
		uint32_t chosen = choose();

		assert_int_not_equal(chosen, 9); // the most loaded is never the lesser of two
		n_least += chosen == 0;
	}
	// the least loaded is drawn in 1 - 0.9^2 = 19 % of all pairs, in 20 % of different ones
	assert_in_range(n_least, 1700, 2300);
}

static void p2c_follows_weights(void **state)
{
	(void)state;
	weights[0] = 8, weights[1] = 1, weights[2] = 1;
	create(LB_SCHED_P2C, 3, 0);
	for (unsigned i = 0; i < 10000; i++)
		++*load(choose());
	assert_in_range(*load(0), 7500, 8500);
	assert_in_range(*load(1), 700, 1300);
}

/* Flows come to slots that are chosen by somebody who has it in for a few, and end at random. */
static void bound_holds(uint32_t n, uint16_t max_load, unsigned n_flows)
{
	uint64_t total = 0, sum = 0;
	unsigned n_elsewhere = 0;

	create(LB_SCHED_MAGLEV, n, max_load);
	for (uint32_t i = 0; i < n; i++) {
		sum += weights[i];
		*load(i) = 0;
	}
	for (unsigned i = 0; i < n_flows; i++) {
		uint32_t slot = next_random(3) == 0 ? next_random(N_SLOTS) : next_random(10);
		uint32_t chosen = choose_at(0, slot, true);
		unsigned __int128 bound;

		assert_true(chosen < n);
		++*load(chosen);
		total++;
		// load <= ceil(max_load x total x weight / sum)
		bound = ((unsigned __int128)max_load * total * weights[chosen] + 100 * sum - 1) /
			(100 * sum);
		assert_true((unsigned __int128)*load(chosen) <= bound);
		n_elsewhere += table->slots[slot].backend != FIRST + chosen;
		if (next_random(4) == 0) {
			uint32_t ends = next_random(n);

			total -= *load(ends) > 0;
			*load(ends) -= *load(ends) > 0;
		}
	}
	assert_true(n_elsewhere > 0);
}

static void load_never_exceeds_the_bound(void **state)
{
	(void)state;
	all_weights(10, 1);
	bound_holds(10, 125, 20000);
	bound_holds(10, LB_PICK_MAX_LOAD_MIN, 20000);
	for (uint32_t i = 0; i < LB_PICK_SCAN; i++)
		weights[i] = 1 + i % 7;
	bound_holds(LB_PICK_SCAN, 125, 20000);
	bound_holds(2, 150, 5000);
}

static void below_the_bound_the_slot_decides(void **state)
{
	(void)state;
	all_weights(10, 1);
	create(LB_SCHED_MAGLEV, 10, 200);
	for (uint32_t i = 0; i < 10; i++)
		*load(i) = 100;
	for (uint32_t slot = 0; slot < N_SLOTS; slot++)
		assert_int_equal(choose_at(0, slot, true), table->slots[slot].backend - FIRST);
}

static void overflow_follows_the_order_of_the_slot(void **state)
{
	uint32_t first[N_SLOTS], n_targets[10] = {0};

	(void)state;
	all_weights(10, 1);
	create(LB_SCHED_MAGLEV, 10, 125);
	for (uint32_t i = 0; i < 10; i++)
		*load(i) = i == 0 ? 1000 : 100;
	for (uint32_t slot = 0; slot < N_SLOTS; slot++)
		first[slot] = choose_at(0, slot, true);
	for (uint32_t slot = 0; slot < N_SLOTS; slot++) {
		assert_int_equal(choose_at(1, slot, true), first[slot]); // the same everywhere
		assert_int_not_equal(first[slot], 0);
		n_targets[first[slot]] += table->slots[slot].backend == FIRST;
	}
	for (uint32_t i = 1; i < 10; i++)
		assert_true(n_targets[i] > 0); // not all to one
}

/* With more members than are counted each time the total is up to N / 64 flows old. */
static void bound_of_many_holds_nearly(void **state)
{
	uint64_t total = 0;

	(void)state;
	all_weights(N_MAX, 1);
	create(LB_SCHED_MAGLEV, N_MAX, 125);
	for (unsigned i = 0; i < 60000; i++) {
		uint32_t chosen = choose_at(0, next_random(50), true);

		assert_true(chosen < N_MAX);
		++*load(chosen);
		total++;
		// here nothing ends: an old total is smaller, and the bound tighter
		assert_true((uint64_t)*load(chosen) * 100 * N_MAX <= 125 * total + 100 * N_MAX);
	}
	lb_pick_count(pick, 1, active, 8 * sizeof(active[0]));
	assert_int_equal(pick->states[1].total, total);
}

static void hostile_counters_do_no_harm(void **state)
{
	static const enum lb_scheduler all[] = {LB_SCHED_LC, LB_SCHED_WLC, LB_SCHED_P2C, LB_SCHED_MAGLEV};

	(void)state;
	for (uint32_t i = 0; i < N_MAX; i++) {
		weights[i] = 1 + i * 85;
		*load(i) = i % 3 == 0 ? INT64_MIN : i % 3 == 1 ? INT64_MAX : -1;
	}
	for (unsigned s = 0; s < 4; s++) {
		create(all[s], N_MAX, all[s] == LB_SCHED_MAGLEV ? 125 : 0);
		for (unsigned i = 0; i < 1000; i++)
			assert_true(choose() < N_MAX);
	}
}

static void what_is_no_pick_table_is_refused(void **state)
{
	struct lb_pick_spec spec = {.scheduler = LB_SCHED_RR, .n_members = 3, .n_sequence = 3};
	const uint16_t good[] = {1, 1, 2, 1, 3, 1, 0, 1, 2};

	(void)state;
#define REFUSED(at, value)                                                                         \
	do {                                                                                       \
		memcpy(words, good, sizeof(good));                                                 \
		words[at] = (value);                                                               \
		pick = make(&spec, NULL);                                                          \
		assert_null(pick);                                                                 \
	} while (0)
	memcpy(words, good, sizeof(good));
	pick = make(&spec, NULL);
	assert_non_null(pick);
	release();
	REFUSED(1, 0);      // weight
	REFUSED(2, 1);      // twice
	REFUSED(4, 1);      // not in order
	REFUSED(4, UINT16_MAX); // nobody
	REFUSED(6, 3);      // beyond the members
	REFUSED(8, UINT16_MAX);
}

static void specs_keep_their_limits(void **state)
{
#define SPEC(...) lb_pick_spec_valid(&(struct lb_pick_spec){__VA_ARGS__})
	(void)state;
	assert_true(SPEC(0));
	assert_true(SPEC(.scheduler = LB_SCHED_SOURCE));
	assert_true(SPEC(.scheduler = LB_SCHED_RR)); // nobody is up
	assert_true(SPEC(.scheduler = LB_SCHED_RR, .n_members = 1, .n_sequence = 1));
	assert_true(SPEC(.scheduler = LB_SCHED_LC, .n_members = 1));
	assert_true(SPEC(.scheduler = LB_SCHED_RING, .n_members = 1, .max_load_percent = 125));
	assert_false(SPEC(.scheduler = LB_SCHED_N));
	assert_false(SPEC(.scheduler = LB_SCHED_MAGLEV, .n_members = 1));
	assert_false(SPEC(.scheduler = LB_SCHED_LC, .n_members = 1, .n_sequence = 1));
	assert_false(SPEC(.scheduler = LB_SCHED_WRR, .n_members = 1));
	assert_false(SPEC(.scheduler = LB_SCHED_WRR, .n_sequence = 1));
	assert_false(SPEC(.scheduler = LB_SCHED_LC, .n_members = 1, .max_load_percent = 125));
	assert_false(SPEC(.scheduler = LB_SCHED_MAGLEV, .n_members = 1, .max_load_percent = 100));
	assert_false(SPEC(.scheduler = LB_SCHED_MAGLEV, .n_members = 1, .max_load_percent = 1001));
	assert_false(SPEC(.scheduler = LB_SCHED_LC, .n_members = LB_MAX_BACKENDS + 1));
	assert_false(SPEC(.scheduler = LB_SCHED_RR, .n_members = 1,
		.n_sequence = LB_PICK_MAX_SEQUENCE + 1));
}

static void source_stays_with_the_client(void **state)
{
	struct lb_flow_key flow = {.sport_be = 1, .dport_be = 80, .proto = 6}, neighbour;
	struct lb_hash_key key;
	uint64_t hash;

	(void)state;
	lb_hash_key_init(&key, (const uint8_t *)"0123456789abcdef");
	lb_addr_parse("198.51.100.7", &flow.src);
	lb_addr_parse("203.0.113.10", &flow.dst);
	hash = lb_pick_source_hash(&key, &flow);
	for (unsigned i = 0; i < 100; i++) {
		flow.sport_be++;
		flow.dport_be += 3;
		flow.proto ^= 17;
		assert_int_equal(lb_pick_source_hash(&key, &flow), hash);
	}
	neighbour = flow;
	lb_addr_parse("198.51.100.8", &neighbour.src);
	assert_int_not_equal(lb_pick_source_hash(&key, &neighbour), hash);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(wrr_is_the_smooth_sequence),
		TEST(rotation_goes_on_in_the_next_table),
		TEST(workers_begin_apart),
		TEST(who_is_not_up_is_passed_over),
		TEST(lc_picks_the_least),
		TEST(lc_lets_equals_take_turns),
		TEST(wlc_picks_the_least_by_weight),
		TEST(lc_of_many_is_nearly_the_least),
		TEST(p2c_picks_the_lesser_of_two),
		TEST(p2c_follows_weights),
		TEST(load_never_exceeds_the_bound),
		TEST(below_the_bound_the_slot_decides),
		TEST(overflow_follows_the_order_of_the_slot),
		TEST(bound_of_many_holds_nearly),
		TEST(hostile_counters_do_no_harm),
		TEST(what_is_no_pick_table_is_refused),
		TEST(specs_keep_their_limits),
		TEST(source_stays_with_the_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
