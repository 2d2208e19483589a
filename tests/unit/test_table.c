/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <string.h>

#include "control/table.h"
#include "lb/maglev.h"

#define UP LB_BACKEND_UP
#define DOWN LB_BACKEND_DOWN
#define DRAIN LB_BACKEND_DRAIN
#define N_SLOTS 1009u

/* Three primaries, a backup, and a backup of the backup. */
static void members_init(struct lb_table_member members[5])
{
	static const struct lb_table_member all_up[5] = {
		{"a", 5, 0, 10, UP},
		{"b", 3, 0, 11, UP},
		{"c", 2, 0, 12, UP},
		{"d", 1, 1, 13, UP},
		{"e", 1, 2, 14, UP},
	};

	memcpy(members, all_up, sizeof(all_up));
}

static void check(
	const struct lb_table_member *members, uint32_t min_healthy, int tier, const char *names)
{
	bool eligible[5];

	assert_int_equal(lb_table_eligible(members, 5, min_healthy, eligible), tier);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(eligible[i], strchr(names, members[i].name[0]) != NULL);
}

static void only_the_first_tier_serves_while_it_is_healthy(void **state)
{
	struct lb_table_member members[5];

	(void)state;
	members_init(members);
	check(members, 1, 0, "abc");
	check(members, 3, 0, "abc");
	members[0].state = members[1].state = DOWN;
	check(members, 1, 0, "c");
}

static void the_next_tier_joins_below_min_healthy(void **state)
{
	struct lb_table_member members[5];

	(void)state;
	members_init(members);
	members[0].state = DOWN;
	check(members, 2, 0, "bc");
	check(members, 3, 1, "bcd");
	check(members, 4, 2, "bcde");
	members[1].state = members[2].state = DOWN;
	check(members, 1, 1, "d");
	members[3].state = DOWN;
	check(members, 1, 2, "e");
	members[4].state = DOWN;
	check(members, 1, -1, "");
}

static void drained_and_weightless_members_do_not_count(void **state)
{
	struct lb_table_member members[5];

	(void)state;
	members_init(members);
	members[0].state = DRAIN;
	members[1].weight = 0;
	check(members, 1, 0, "c");
	members[2].state = DRAIN;
	check(members, 1, 1, "d");
}

static void tiers_may_have_any_numbers_and_order(void **state)
{
	struct lb_table_member members[5];

	(void)state;
	members_init(members);
	members[0].tier = members[1].tier = members[2].tier = 7;
	members[3].tier = 3;
	members[4].tier = 5;
	check(members, 1, 3, "d");
	members[3].state = DOWN;
	check(members, 1, 5, "e");
	check(members, 2, 7, "abce");
}

static void count(struct lb_table *table, uint32_t counts[65536])
{
	uint16_t *slots = calloc(lb_table_n_slots(table), sizeof(*slots));

	memset(counts, 0, 65536 * sizeof(*counts));
	assert_non_null(slots);
	assert_int_equal(lb_table_fill(table, slots), 0);
	for (uint32_t i = 0; i < lb_table_n_slots(table); i++)
		counts[slots[i]]++;
	free(slots);
}

static struct lb_table_spec spec = {.scheduler = LB_SCHED_MAGLEV, .n_slots = N_SLOTS};

static struct lb_table *make(
	const struct lb_table_member *members, size_t n, const struct lb_table *like)
{
	bool eligible[5] = {false};
	struct lb_table *table;

	lb_table_eligible(members, n, 1, eligible);
	table = lb_table_create(&spec, members, n, eligible, like);
	assert_non_null(table);
	return table;
}

static void slots_follow_weights_of_the_eligible(void **state)
{
	static uint32_t counts[65536];
	struct lb_table_member members[5];
	struct lb_table *table, *less;

	(void)state;
	members_init(members);
	table = make(members, 5, NULL);
	count(table, counts);
	assert_in_range(counts[10], N_SLOTS * 5 / 10 - 2, N_SLOTS * 5 / 10 + 2);
	assert_in_range(counts[11], N_SLOTS * 3 / 10 - 2, N_SLOTS * 3 / 10 + 2);
	assert_int_equal(counts[13] + counts[14], 0);
	members[0].state = DRAIN;
	less = make(members, 5, table);
	count(less, counts);
	assert_int_equal(counts[10], 0);
	assert_int_equal(counts[11] + counts[12], N_SLOTS);
	lb_table_unref(table);
	lb_table_unref(less);
}

static void nobody_eligible_means_empty_slots(void **state)
{
	static uint32_t counts[65536];
	struct lb_table_member members[5];
	struct lb_table *table;

	(void)state;
	members_init(members);
	for (size_t i = 0; i < 5; i++)
		members[i].state = DOWN;
	table = make(members, 5, NULL);
	count(table, counts);
	assert_int_equal(counts[LB_MAGLEV_EMPTY], N_SLOTS);
	lb_table_unref(table);
	table = make(members, 0, NULL);
	count(table, counts);
	assert_int_equal(counts[LB_MAGLEV_EMPTY], N_SLOTS);
	lb_table_unref(table);
}

static void equality_is_by_content(void **state)
{
	struct lb_table_member members[5];
	struct lb_table *first, *same, *other;

	(void)state;
	members_init(members);
	first = make(members, 5, NULL);
	same = make(members, 5, first);
	assert_true(lb_table_equal(first, same));
	assert_false(lb_table_equal(first, NULL));
	assert_true(lb_table_equal(NULL, NULL));
	// the state of a backup changes nothing while it does not serve
	members[4].state = DOWN;
	other = make(members, 5, first);
	assert_true(lb_table_equal(first, other));
	lb_table_unref(other);
	members[1].state = DOWN;
	other = make(members, 5, first);
	assert_false(lb_table_equal(first, other));
	lb_table_unref(other);
	members_init(members);
	members[1].weight++;
	other = make(members, 5, first);
	assert_false(lb_table_equal(first, other));
	lb_table_unref(other);
	members_init(members);
	members[1].name = "x";
	other = make(members, 5, first);
	assert_false(lb_table_equal(first, other));
	lb_table_unref(other);
	lb_table_unref(first);
	// the population outlives the table it was made for
	members_init(members);
	other = make(members, 5, same);
	assert_true(lb_table_equal(same, other));
	lb_table_unref(same);
	lb_table_unref(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_first_tier_serves_while_it_is_healthy),
		cmocka_unit_test(the_next_tier_joins_below_min_healthy),
		cmocka_unit_test(drained_and_weightless_members_do_not_count),
		cmocka_unit_test(tiers_may_have_any_numbers_and_order),
		cmocka_unit_test(slots_follow_weights_of_the_eligible),
		cmocka_unit_test(nobody_eligible_means_empty_slots),
		cmocka_unit_test(equality_is_by_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
