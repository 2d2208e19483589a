/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lb/hash.h"
#include "lb/slots.h"

#define T 60u

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((random_state >> 32) * n >> 32);
}

static struct lb_slot_table *table_alloc(uint32_t n_slots)
{
	uint64_t n_bytes = (lb_slots_bytes(n_slots) + 63) & ~UINT64_C(63);
	struct lb_slot_table *table = aligned_alloc(64, n_bytes);

	assert_non_null(table);
	memset(table, 0xa5, n_bytes);
	return table;
}

/* A table after @p old; @p old is freed. */
static struct lb_slot_table *table_next(struct lb_slot_table *old, const uint16_t *backends,
	uint32_t n_slots, uint32_t transition_s, uint32_t now_s)
{
	struct lb_slot_table *table = table_alloc(n_slots);

	lb_slots_adopt(table, old, backends, n_slots, old != NULL ? old->version + 1 : 1,
		transition_s, now_s);
	free(old);
	return table;
}

static bool moving(const struct lb_slot_table *table, uint32_t i, uint32_t now_s)
{
	return lb_slot_in_transition(&table->slots[i], table->transition_s, now_s);
}

static void first_table_is_not_in_transition(void **state)
{
	uint16_t backends[3] = {4, LB_SLOT_NONE, 6};
	struct lb_slot_table *table = table_next(NULL, backends, 3, T, 0);

	(void)state;
	assert_int_equal((uintptr_t)table->slots % 64, 0);
	assert_int_equal(table->n_slots, 3);
	assert_int_equal(table->version, 1);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(table->slots[i].backend, backends[i]);
		assert_false(moving(table, i, 0));
		assert_false(moving(table, i, UINT32_MAX));
	}
	free(table);
}

static void only_changed_slots_get_an_origin(void **state)
{
	uint16_t before[3] = {1, 2, LB_SLOT_NONE};
	uint16_t after[3] = {1, 9, 7};
	struct lb_slot_table *table = table_next(NULL, before, 3, T, 5);
	struct lb_slot_table *next = table_alloc(3);

	(void)state;
	assert_int_equal(lb_slots_adopt(next, table, after, 3, 2, T, 100), 2);
	assert_false(moving(next, 0, 100));
	assert_int_equal(next->slots[0].changed_s, 0);
	assert_true(moving(next, 1, 100));
	assert_int_equal(next->slots[1].origin, 2);
	assert_false(moving(next, 2, 100)); // nobody had it: no flow is older than this
	assert_int_equal(next->slots[2].origin, 7);
	free(table);
	free(next);
}

static void first_backend_of_a_slot_is_its_origin_from_then_on(void **state)
{
	uint16_t none = LB_SLOT_NONE, a = 1, b = 2;
	struct lb_slot_table *table = table_next(NULL, &none, 1, T, 0);

	(void)state;
	table = table_next(table, &a, 1, T, 10);
	assert_false(moving(table, 0, 10));
	table = table_next(table, &b, 1, T, 11); // well within T of the start
	assert_true(moving(table, 0, 11));
	assert_int_equal(table->slots[0].origin, a);
	free(table);
}

static void transition_lasts_t_after_the_last_change(void **state)
{
	uint16_t a = 1, b = 2;
	struct lb_slot_table *table = table_next(NULL, &a, 1, T, 0);

	(void)state;
	table = table_next(table, &b, 1, T, 0); // a change at second 0 is a change too
	assert_true(moving(table, 0, 0));
	assert_true(moving(table, 0, T - 1));
	assert_false(moving(table, 0, T + 1));
	table = table_next(table, &a, 1, T, 1000);
	assert_true(moving(table, 0, 990)); // by the clock that a worker read before it was changed
	assert_true(moving(table, 0, 1000 + T - 1));
	assert_false(moving(table, 0, 1000 + T + 1));
	free(table);
}

static void changes_within_t_keep_the_first_origin(void **state)
{
	uint16_t a = 1, b = 2, c = 3, d = 4;
	struct lb_slot_table *table = table_next(NULL, &a, 1, T, 0);

	(void)state;
	table = table_next(table, &b, 1, T, 100);
	table = table_next(table, &c, 1, T, 100 + T - 1);
	assert_int_equal(table->slots[0].origin, a);
	assert_true(moving(table, 0, 100 + 2 * T - 2)); // counted from the last change
	table = table_next(table, &a, 1, T, 100 + 2 * T - 2);
	assert_int_equal(table->slots[0].origin, a);
	assert_true(moving(table, 0, 100 + 3 * T - 4));
	table = table_next(table, &d, 1, T, 1000);
	assert_int_equal(table->slots[0].origin, a); // where it had come back to
	table = table_next(table, &b, 1, T, 2000);
	assert_int_equal(table->slots[0].origin, d);
	free(table);
}

static void empty_slot_on_the_way_keeps_the_origin(void **state)
{
	uint16_t a = 1, none = LB_SLOT_NONE, b = 2;
	struct lb_slot_table *table = table_next(NULL, &a, 1, T, 0);

	(void)state;
	table = table_next(table, &none, 1, T, 100);
	table = table_next(table, &b, 1, T, 110);
	assert_int_equal(table->slots[0].backend, b);
	assert_int_equal(table->slots[0].origin, a);
	assert_true(moving(table, 0, 110 + T - 1));
	free(table);
}

static void longer_t_does_not_revive_old_history(void **state)
{
	uint16_t a = 1, b = 2;
	struct lb_slot_table *table = table_next(NULL, &a, 1, T, 0);

	(void)state;
	table = table_next(table, &b, 1, T, 100);
	table = table_next(table, &b, 1, 10 * T, 100 + 2 * T);
	assert_false(moving(table, 0, 100 + 2 * T)); // flows began at b without a record
	assert_int_equal(table->transition_s, 10 * T);
	free(table);

	table = table_next(NULL, &a, 1, T, 0);
	table = table_next(table, &b, 1, T, 100);
	table = table_next(table, &b, 1, 10 * T, 100 + T / 2);
	assert_true(moving(table, 0, 100 + 9 * T)); // not over yet: the longer T holds
	assert_int_equal(table->slots[0].origin, a);
	free(table);
}

/*
 * The rule against its definition: per slot, all changes are kept; the slot is in transition if one
 * is less than T ago, and its origin is what was there before the first of the last run of changes
 * less than T apart. A backend that comes where nobody was begins anew.
 */
static void history_equals_its_definition(void **state)
{
	enum { N_SLOTS = 64, N_STEPS = 400 };
	static uint16_t seen[N_STEPS][N_SLOTS];
	static uint32_t at_s[N_STEPS];
	struct lb_slot_table *table = NULL;
	uint32_t n_in_transition = 0, n_chains = 0;

	(void)state;
	random_state = 1;
	for (unsigned step = 0; step < N_STEPS; step++) {
		at_s[step] = step == 0 ? 7 : at_s[step - 1] + 1 + random_below(T);
		for (unsigned i = 0; i < N_SLOTS; i++) {
			seen[step][i] = step > 0 ? seen[step - 1][i] : 0;
			if (random_below(4) == 0)
				seen[step][i] =
					random_below(8) ? (uint16_t)random_below(5) : LB_SLOT_NONE;
		}
		table = table_next(table, seen[step], N_SLOTS, T, at_s[step]);
		for (unsigned i = 0; i < N_SLOTS; i++) {
			uint16_t origin = seen[0][i];
			uint32_t last_s = 0;
			unsigned n_changes = 0; // of the run that is not over yet

			for (unsigned s = 1; s <= step; s++) {
				if (n_changes > 0 && at_s[s] - last_s > T)
					n_changes = 0;
				if (n_changes == 0)
					origin = seen[s - 1][i];
				if (seen[s][i] == seen[s - 1][i])
					continue;
				if (seen[s - 1][i] == LB_SLOT_NONE && origin == LB_SLOT_NONE) {
					n_changes = 0; // nobody had it
					continue;
				}
				last_s = at_s[s];
				n_changes++;
			}
			assert_int_equal(table->slots[i].backend, seen[step][i]);
			assert_int_equal(moving(table, i, at_s[step]), n_changes > 0);
			if (n_changes == 0)
				continue;
			n_in_transition++;
			n_chains += n_changes > 1;
			assert_int_equal(table->slots[i].origin, origin);
			assert_int_equal(table->slots[i].changed_s, last_s + 1);
		}
	}
	assert_true(n_in_transition > N_STEPS && n_chains > N_STEPS); // the case was exercised
	free(table);
}

static void same_slots_keep_history_bit_for_bit(void **state)
{
	uint16_t backends[32];
	struct lb_slot_table *table, *next = table_alloc(32);

	(void)state;
	random_state = 2;
	for (unsigned i = 0; i < 32; i++)
		backends[i] = (uint16_t)i;
	table = table_next(NULL, backends, 32, T, 10);
	for (unsigned i = 0; i < 32; i += 2)
		backends[i] = 99;
	table = table_next(table, backends, 32, T, 20);
	assert_int_equal(lb_slots_adopt(next, table, backends, 32, 7, T, 40), 0);
	assert_memory_equal(next->slots, table->slots, 32 * sizeof(struct lb_slot));
	free(table);
	free(next);
}

/* What a hash met in the old table is its slot's predecessor in the new one, for all but the slots
 * that straddle. */
static void resized_table_maps_hashes_to_their_old_slots(void **state)
{
	static const uint32_t sizes[][2] = {
		{101, 1009}, {1009, 101}, {65537, 655373}, {7, 7}, {1, 5}, {5, 1}};

	(void)state;
	for (unsigned s = 0; s < 6; s++) {
		uint32_t n_old = sizes[s][0], n_new = sizes[s][1], n_right = 0, n_hashes = 20000;
		uint16_t *backends = calloc(n_old + n_new, sizeof(*backends));
		struct lb_slot_table *old, *new;

		assert_non_null(backends);
		for (uint32_t i = 0; i < n_old; i++)
			backends[i] = (uint16_t)(i % 65000);
		old = table_next(NULL, backends, n_old, T, 10);
		for (uint32_t i = 0; i < n_new; i++)
			backends[i] = 65001;
		new = table_alloc(n_new);
		assert_int_equal(lb_slots_adopt(new, old, backends, n_new, 2, T, 20), n_new);
		random_state = s;
		for (uint32_t k = 0; k < n_hashes; k++) {
			uint64_t hash =
				(uint64_t)random_below(UINT32_MAX) << 32 | random_below(UINT32_MAX);
			const struct lb_slot *slot = &new->slots[lb_hash_slot(hash, n_new)];

			assert_true(lb_slot_in_transition(slot, T, 20));
			n_right += slot->origin == old->slots[lb_hash_slot(hash, n_old)].backend;
		}
		if (n_new >= n_old) // at most one slot in n_new / n_old straddles, and half of its
				    // hashes are right
			assert_true(n_right >= n_hashes - n_hashes * (uint64_t)n_old / n_new);
		else // one new slot covers n_old / n_new of them
			assert_true(n_right > n_hashes * (uint64_t)n_new / n_old / 2);
		if (n_new == n_old)
			assert_int_equal(n_right, n_hashes);
		free(backends);
		free(old);
		free(new);
	}
}

static void resized_table_keeps_transitions(void **state)
{
	uint16_t backends[30];
	struct lb_slot_table *table;

	(void)state;
	for (unsigned i = 0; i < 30; i++)
		backends[i] = 1;
	table = table_next(NULL, backends, 10, T, 0);
	backends[4] = 2;
	table = table_next(table, backends, 10, T, 50);
	backends[4] = 1;
	for (unsigned i = 12; i < 15; i++) // the thirds of slot 4
		backends[i] = 2;
	backends[13] = 3;
	table = table_next(table, backends, 30, T, 70);
	for (uint32_t i = 0; i < 30; i++)
		assert_int_equal(moving(table, i, 70), i >= 12 && i < 15);
	assert_int_equal(table->slots[12].changed_s, 51);
	assert_int_equal(table->slots[13].changed_s, 71);
	assert_int_equal(table->slots[13].origin, 1);
	free(table);
}

static void memory_is_judged_before_it_is_gone_on_with(void **state)
{
	uint16_t backends[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	struct lb_slot_table *table = table_next(NULL, backends, 8, T, 10);
	uint64_t n_bytes = lb_slots_bytes(8);

	(void)state;
	assert_true(lb_slots_valid(table, n_bytes, 10));
	assert_false(lb_slots_valid(table, n_bytes - 1, 10));
	assert_false(lb_slots_valid(table, 8, 10));
	table->slots[7].changed_s = 12;
	assert_false(lb_slots_valid(table, n_bytes, 11)); // later than the table's last change
	table->changed_s = 12;
	assert_true(lb_slots_valid(table, n_bytes, 11));
	assert_false(lb_slots_valid(table, n_bytes, 10)); // a change in the future
	table->slots[7].changed_s = 0;
	assert_false(lb_slots_valid(table, n_bytes, 10));
	table->changed_s = 0;
	table->n_slots = 0;
	assert_false(lb_slots_valid(table, n_bytes, 10));
	table->n_slots = UINT32_MAX;
	assert_false(lb_slots_valid(table, UINT64_MAX, 10));
	table->n_slots = 8;
	table->transition_s = UINT32_MAX;
	assert_false(lb_slots_valid(table, n_bytes, 10));
	table->transition_s = T;
	table->magic ^= 1;
	assert_false(lb_slots_valid(table, n_bytes, 10));
	free(table);
}

static void forgotten_backend_is_no_origin(void **state)
{
	uint16_t before[4] = {1, 1, 2, 3};
	uint16_t after[4] = {5, 6, 7, 3};
	struct lb_slot_table *table = table_next(NULL, before, 4, T, 10);

	(void)state;
	table = table_next(table, after, 4, T, 20);
	assert_int_equal(lb_slots_forget(table, 1), 2);
	assert_int_equal(table->slots[0].origin, LB_SLOT_NONE);
	assert_int_equal(table->slots[1].origin, LB_SLOT_NONE);
	assert_int_equal(table->slots[2].origin, 2);
	assert_true(moving(table, 0, 20)); // and flows on it go on to be recorded
	assert_int_equal(table->slots[0].backend, 5);
	free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_table_is_not_in_transition),
		cmocka_unit_test(only_changed_slots_get_an_origin),
		cmocka_unit_test(first_backend_of_a_slot_is_its_origin_from_then_on),
		cmocka_unit_test(transition_lasts_t_after_the_last_change),
		cmocka_unit_test(changes_within_t_keep_the_first_origin),
		cmocka_unit_test(empty_slot_on_the_way_keeps_the_origin),
		cmocka_unit_test(longer_t_does_not_revive_old_history),
		cmocka_unit_test(history_equals_its_definition),
		cmocka_unit_test(same_slots_keep_history_bit_for_bit),
		cmocka_unit_test(resized_table_maps_hashes_to_their_old_slots),
		cmocka_unit_test(resized_table_keeps_transitions),
		cmocka_unit_test(memory_is_judged_before_it_is_gone_on_with),
		cmocka_unit_test(forgotten_backend_is_no_origin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
