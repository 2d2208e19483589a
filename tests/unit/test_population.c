/* SPDX-License-Identifier: BSD-3-Clause */
/* The population of a table against a model that does what population.h says, one look at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lb/population.h"

#define MAX_WALKERS 300u
#define UNCLAIMED UINT16_MAX
#define NOT_STOPPED UINT32_MAX

struct fixture {
	uint32_t n_slots, n_walkers;
	struct lb_walker walkers[MAX_WALKERS];
	uint32_t weights[MAX_WALKERS];
	uint64_t *taken;
	uint16_t *slots, *model_slots;
	uint32_t next[MAX_WALKERS], model_next[MAX_WALKERS];
	uint32_t n_free;
};

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((random_state >> 33) % n);
}

static int by_falling(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x < y) - (x > y);
}

/* Walkers of random weights up to @p max_weight; one slot in @p one_taken_of is taken before (0:
 * none). */
static void fixture_init(struct fixture *f, uint32_t n_slots, uint32_t n_walkers,
	uint32_t max_weight, uint32_t one_taken_of)
{
	*f = (struct fixture){.n_slots = n_slots, .n_walkers = n_walkers};
	f->taken = calloc(lb_population_words(n_slots), sizeof(*f->taken));
	f->slots = malloc(n_slots * sizeof(*f->slots));
	f->model_slots = malloc(n_slots * sizeof(*f->model_slots));
	assert_true(f->taken && f->slots && f->model_slots);
	memset(f->slots, 0xff, n_slots * sizeof(*f->slots));
	memset(f->model_slots, 0xff, n_slots * sizeof(*f->model_slots));
	memset(f->next, 0xff, sizeof(f->next));
	memset(f->model_next, 0xff, sizeof(f->model_next));

	for (uint32_t i = 0; i < n_slots; i++) {
		bool taken = one_taken_of > 0 && random_below(one_taken_of) == 0;

		f->taken[i / 64] |= (uint64_t)taken << i % 64;
		f->n_free += !taken;
	}
	for (uint32_t i = 0; i < n_walkers; i++)
		f->weights[i] = 1 + random_below(max_weight);
	qsort(f->weights, n_walkers, sizeof(*f->weights), by_falling);
	for (uint32_t i = 0; i < n_walkers; i++)
		f->walkers[i] = (struct lb_walker){
			.pos = random_below(n_slots),
			.skip = 1 + random_below(n_slots - 1),
			.value = (uint16_t)(1000 + i),
			.node = (uint16_t)i,
		};
	for (uint32_t i = 0; i < f->n_free; i++)
		f->walkers[random_below(n_walkers)].due++;
}

static void fixture_fini(struct fixture *f)
{
	free(f->taken);
	free(f->slots);
	free(f->model_slots);
}

/*
 * Time in ticks of 1/LB_POPULATION_UNIT of a look for a weight of 1: after tick t a walker has
 * looked t * weight / UNIT times. Slots in a tick that are due to several go to the first. Ticks
 * are doubled as long as nobody left looks twice in one; alone, a walker looks in every tick.
 */
static void model_run(struct fixture *f)
{
	struct lb_walker walkers[MAX_WALKERS];
	uint32_t credit[MAX_WALKERS] = {0}, n_free = f->n_free;
	uint32_t step[MAX_WALKERS];
	bool taken;

	memcpy(walkers, f->walkers, sizeof(walkers));
	memcpy(step, f->weights, sizeof(step));
	while (n_free > 0) {
		uint32_t max = 0, min = UINT32_MAX;

		for (uint32_t i = 0; i < f->n_walkers; i++) {
			if (walkers[i].due == 0)
				continue;
			max = step[i] > max ? step[i] : max;
			min = step[i] < min ? step[i] : min;
		}
		for (uint32_t i = 0; i < f->n_walkers; i++)
			step[i] = min == max ? LB_POPULATION_UNIT : step[i];
		for (; min != max && max <= LB_POPULATION_UNIT / 2; max *= 2)
			for (uint32_t i = 0; i < f->n_walkers; i++)
				step[i] *= 2;
		for (uint32_t i = 0; i < f->n_walkers; i++) {
			struct lb_walker *w = &walkers[i];
			uint32_t pos = w->pos;

			if (w->due == 0)
				continue;
			credit[i] += step[i];
			if (credit[i] < LB_POPULATION_UNIT)
				continue;
			credit[i] -= LB_POPULATION_UNIT;
			w->pos = (uint32_t)(((uint64_t)pos + w->skip) % f->n_slots);
			taken = (f->taken[pos / 64] >> pos % 64 & 1) ||
				f->model_slots[pos] != UNCLAIMED;
			if (taken)
				continue;
			f->model_slots[pos] = w->value;
			n_free--;
			if (--w->due == 0)
				f->model_next[w->node] = w->pos;
		}
	}
}

static void compare_with_model(
	uint32_t n_slots, uint32_t n_walkers, uint32_t max_weight, uint32_t one_taken_of)
{
	struct fixture f;

	fixture_init(&f, n_slots, n_walkers, max_weight, one_taken_of);
	model_run(&f);
	assert_int_equal(0, lb_population_run(&(struct lb_population){
				    .n_slots = n_slots,
				    .n_free = f.n_free,
				    .taken = f.taken,
				    .slots = f.slots,
				    .next = f.next,
				    .walkers = f.walkers,
				    .weights = f.weights,
				    .n_walkers = n_walkers,
			    }));
	assert_memory_equal(f.slots, f.model_slots, n_slots * sizeof(*f.slots));
	assert_memory_equal(f.next, f.model_next, sizeof(f.next));
	fixture_fini(&f);
}

static void equal_weights_match_the_model(void **state)
{
	static const uint32_t primes[] = {2, 3, 5, 7, 13, 101, 251, 1009, 4099};

	(void)state;
	for (unsigned i = 0; i < sizeof(primes) / sizeof(*primes); i++)
		for (uint32_t n_walkers = 1; n_walkers <= MAX_WALKERS;
			n_walkers = n_walkers * 3 + 1)
			for (unsigned run = 0; run < 5; run++)
				compare_with_model(primes[i], n_walkers, 1, run);
	compare_with_model(65537, 100, 1, 0);
}

static void random_weights_match_the_model(void **state)
{
	static const uint32_t primes[] = {2, 3, 5, 7, 13, 101, 251, 1009, 4099};
	static const uint32_t max_weights[] = {2, 10, 256, 65535};

	(void)state;
	for (unsigned i = 0; i < sizeof(primes) / sizeof(*primes); i++)
		for (unsigned j = 0; j < sizeof(max_weights) / sizeof(*max_weights); j++)
			for (unsigned run = 0; run < 8; run++)
				compare_with_model(
					primes[i], 1 + random_below(40), max_weights[j], run);
	compare_with_model(65537, 30, 7, 0);
}

static void few_free_slots_match_the_model(void **state)
{
	(void)state;
	// one free in a hundred: little or nothing is walked, the rest is computed
	for (unsigned run = 0; run < 1000; run++) {
		struct fixture f;

		fixture_init(&f, 2003, 2 + run % 10, 1 + run % 7, 0);
		for (uint32_t i = 0; i < f.n_slots; i++)
			if (random_below(100) != 0)
				f.taken[i / 64] |= UINT64_C(1) << i % 64;
		f.n_free = 0;
		for (uint32_t i = 0; i < f.n_slots; i++)
			f.n_free += (f.taken[i / 64] >> i % 64 & 1) == 0;
		for (uint32_t i = 0; i < f.n_walkers; i++)
			f.walkers[i].due = 0;
		for (uint32_t i = 0; i < f.n_free; i++)
			f.walkers[random_below(f.n_walkers)].due++;
		model_run(&f);
		assert_int_equal(0, lb_population_run(&(struct lb_population){
					    .n_slots = f.n_slots,
					    .n_free = f.n_free,
					    .taken = f.taken,
					    .slots = f.slots,
					    .next = f.next,
					    .walkers = f.walkers,
					    .weights = f.weights,
					    .n_walkers = f.n_walkers,
				    }));
		assert_memory_equal(f.slots, f.model_slots, f.n_slots * sizeof(*f.slots));
		assert_memory_equal(f.next, f.model_next, sizeof(f.next));
		fixture_fini(&f);
	}
}

static void nothing_free_changes_nothing(void **state)
{
	uint64_t taken[2] = {UINT64_MAX, UINT64_MAX};
	uint16_t slots[101];

	(void)state;
	memset(slots, 0x5a, sizeof(slots));
	assert_int_equal(0, lb_population_run(&(struct lb_population){
				    .n_slots = 101, .taken = taken, .slots = slots}));
	for (unsigned i = 0; i < 101; i++)
		assert_int_equal(0x5a5a, slots[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_weights_match_the_model),
		cmocka_unit_test(random_weights_match_the_model),
		cmocka_unit_test(few_free_slots_match_the_model),
		cmocka_unit_test(nothing_free_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
