/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

/* Shares that change by themselves. */

static uint16_t *words_of(struct lb_table *table)
{
	uint16_t *words = calloc(lb_table_n_words(table), sizeof(*words));

	assert_non_null(words);
	assert_int_equal(lb_table_fill(table, words), 0);
	return words;
}

static uint16_t *words_with(struct lb_table_member *members)
{
	struct lb_table *table = make(members, 5, NULL);
	uint16_t *words = words_of(table);

	lb_table_unref(table);
	return words;
}

static void check_ramp(enum lb_scheduler scheduler)
{
	struct lb_table_member members[5];
	uint16_t *without, *before, *now, *full;
	uint32_t n_before = 0;

	spec.scheduler = scheduler;
	members_init(members);
	full = words_with(members);
	members[1].state = DOWN;
	without = words_with(members);
	before = words_with(members);
	members[1].state = UP;
	for (uint8_t ramp = 10; ramp <= 100; ramp = (uint8_t)(ramp + 10)) {
		uint32_t n = 0, n_full = 0;

		members[1].ramp = ramp;
		now = words_with(members);
		for (uint32_t i = 0; i < N_SLOTS; i++) {
			// as without it, or as with all of it; and what it has it keeps
			assert_true(now[i] == without[i] || (now[i] == 11 && full[i] == 11));
			assert_true(before[i] != 11 || now[i] == 11);
			n += now[i] == 11;
			n_full += full[i] == 11;
		}
		assert_in_range(n + n_full / 8, n_full * ramp / 100, n_full * ramp / 100 + n_full / 4);
		assert_true(n >= n_before);
		n_before = n;
		free(before);
		before = now;
	}
	assert_memory_equal(before, full, N_SLOTS * 2);
	free(without);
	free(before);
	free(full);
	spec.scheduler = LB_SCHED_MAGLEV;
}

static void slow_start_moves_only_own_slots_and_each_once(void **state)
{
	(void)state;
	check_ramp(LB_SCHED_MAGLEV);
	check_ramp(LB_SCHED_RING);
	check_ramp(LB_SCHED_SOURCE);
}

static void who_is_alone_has_everything_at_once(void **state)
{
	struct lb_table_member members[5];
	uint16_t *words, *full;

	(void)state;
	members_init(members);
	full = words_with(members);
	for (size_t i = 0; i < 5; i++) // all come up together
		members[i].ramp = 10;
	words = words_with(members);
	assert_memory_equal(words, full, N_SLOTS * 2);
	free(words);
	members[0].state = members[2].state = DOWN;
	words = words_with(members);
	for (uint32_t i = 0; i < N_SLOTS; i++)
		assert_int_equal(words[i], 11);
	free(words);
	free(full);
}

static void a_wish_for_less_is_spread_over_all(void **state)
{
	struct lb_table_member members[5];
	uint32_t counts[16] = {0};
	uint16_t *words, *full;

	(void)state;
	members_init(members);
	full = words_with(members);
	members[0].share = 50; // 2.5 : 3 : 2
	words = words_with(members);
	for (uint32_t i = 0; i < N_SLOTS; i++) {
		assert_true(full[i] == 10 || words[i] == full[i]);
		counts[words[i]]++;
	}
	assert_in_range(counts[10], N_SLOTS * 33 / 100 - 60, N_SLOTS * 33 / 100 + 60);
	assert_in_range(counts[11], N_SLOTS * 40 / 100 - 60, N_SLOTS * 40 / 100 + 60);
	assert_in_range(counts[12], N_SLOTS * 27 / 100 - 60, N_SLOTS * 27 / 100 + 60);
	free(words);
	for (size_t i = 0; i < 5; i++) // all the same: nothing moves
		members[i].share = 50;
	words = words_with(members);
	assert_memory_equal(words, full, N_SLOTS * 2);
	free(words);
	free(full);
}

/* Members with weights, and the sequence as letters: 'a' is the first member. */
static void check_pick(enum lb_scheduler scheduler, struct lb_table_member *members,
	const uint16_t *expected, size_t n, const char *sequence)
{
	struct lb_msg_table msg;
	struct lb_table *table;
	uint16_t *words;

	spec.scheduler = scheduler;
	table = make(members, 5, NULL);
	words = words_of(table);
	lb_table_describe(table, &msg);
	assert_int_equal(msg.scheduler, scheduler);
	assert_int_equal(msg.n_members, n / 2);
	assert_int_equal(msg.n_sequence, strlen(sequence));
	assert_memory_equal(words + N_SLOTS, expected, n * 2);
	for (size_t i = 0; i < strlen(sequence); i++)
		assert_int_equal(words[N_SLOTS + n + i], sequence[i] - 'a');
	free(words);
	lb_table_unref(table);
	spec.scheduler = LB_SCHED_MAGLEV;
}

static void pick_tables_name_who_takes_part(void **state)
{
	struct lb_table_member members[5];

	(void)state;
	members_init(members);
	check_pick(LB_SCHED_WRR, members, (uint16_t[]){10, 5, 11, 3, 12, 2}, 6, "abcaabacba");
	check_pick(LB_SCHED_RR, members, (uint16_t[]){10, 1, 11, 1, 12, 1}, 6, "abc");
	check_pick(LB_SCHED_LC, members, (uint16_t[]){10, 1, 11, 1, 12, 1}, 6, "");
	check_pick(LB_SCHED_WLC, members, (uint16_t[]){10, 5, 11, 3, 12, 2}, 6, "");
	members[0].state = DOWN;
	members[1].ramp = 50;
	check_pick(LB_SCHED_WRR, members, (uint16_t[]){11, 3, 12, 4}, 4, "bababab");
	check_pick(LB_SCHED_LC, members, (uint16_t[]){11, 1, 12, 2}, 4, "");
	members[1].share = 50;
	check_pick(LB_SCHED_WLC, members, (uint16_t[]){11, 3, 12, 8}, 4, "");
	members[1].state = members[2].state = members[3].state = members[4].state = DOWN;
	check_pick(LB_SCHED_RR, members, NULL, 0, "");
	check_pick(LB_SCHED_MAGLEV, members, NULL, 0, "");
	members_init(members);
	members[0].id = 20; // members come by their ids, the sequence by the config
	spec.max_load_percent = 125;
	check_pick(LB_SCHED_MAGLEV, members, (uint16_t[]){11, 3, 12, 2, 20, 5}, 6, "");
	spec.max_load_percent = 0;
	check_pick(LB_SCHED_WRR, members, (uint16_t[]){11, 3, 12, 2, 20, 5}, 6, "cabccacbac");
}

static void check_judge(struct lb_table_member *members, uint32_t threshold, bool last_resort, int tier,
	enum lb_health_ignored expected, const char *names)
{
	struct lb_table_policy policy = {
		.min_healthy = 1, .panic_threshold = threshold, .last_resort = last_resort};
	enum lb_health_ignored ignored;
	bool eligible[5];

	assert_int_equal(lb_table_judge(members, 5, &policy, eligible, &ignored), tier);
	assert_int_equal(ignored, expected);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(eligible[i], strchr(names, members[i].name[0]) != NULL);
}

static void health_is_ignored_in_panic_and_as_the_last_resort(void **state)
{
	struct lb_table_member members[5];

	(void)state;
	members_init(members);
	for (size_t i = 0; i < 5; i++)
		members[i].usable = true;
	check_judge(members, 100, true, 0, LB_HEALTH_HEEDED, "abc");
	members[0].state = DOWN; // 5 of 10 are up
	check_judge(members, 50, false, 0, LB_HEALTH_HEEDED, "bc");
	check_judge(members, 51, false, 0, LB_HEALTH_PANIC, "abc");
	check_judge(members, 0, true, 0, LB_HEALTH_HEEDED, "bc");
	members[0].usable = false; // drained: it does not count, and is not used
	check_judge(members, 100, false, 0, LB_HEALTH_HEEDED, "bc");
	members[1].state = DOWN; // 2 of 5
	check_judge(members, 50, false, 0, LB_HEALTH_PANIC, "bc");
	members[2].state = DOWN; // a backup that is whole serves without panic
	check_judge(members, 50, true, 1, LB_HEALTH_HEEDED, "d");
	members[3].state = members[4].state = DOWN;
	check_judge(members, 0, false, -1, LB_HEALTH_HEEDED, "");
	check_judge(members, 0, true, 0, LB_HEALTH_LAST_RESORT, "bc");
	check_judge(members, 1, true, 0, LB_HEALTH_PANIC, "bc");
	for (size_t i = 0; i < 5; i++)
		members[i].usable = false;
	check_judge(members, 50, true, -1, LB_HEALTH_HEEDED, "");
}

/* Twenty members and one that joins; weights 1 to 3. */
static struct lb_table *make_fleet(bool joined, bool down, enum lb_scheduler scheduler, const struct lb_table *like)
{
	static char names[21][8];
	struct lb_table_spec fleet_spec = {.scheduler = scheduler, .n_slots = 16381};
	struct lb_table_member members[21];
	bool eligible[21];
	size_t n = joined ? 21 : 20;
	struct lb_table *table;

	for (size_t i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "n%zu", i);
		members[i] = (struct lb_table_member){
			names[i], (uint32_t)(1 + i % 3), 0, (uint16_t)(100 + i), down && i == 4 ? DOWN : UP};
	}
	lb_table_eligible(members, n, 1, eligible);
	table = lb_table_create(&fleet_spec, members, n, eligible, like);
	assert_non_null(table);
	return table;
}

static uint16_t *fill(struct lb_table *table)
{
	uint16_t *words = calloc(lb_table_n_words(table), sizeof(*words));

	assert_non_null(words);
	assert_int_equal(lb_table_fill(table, words), 0);
	return words;
}

/* A member joins, another fails while moves wait, and then these go in steps. */
static void moves_that_nothing_asks_for_wait(void **state)
{
	struct lb_table *before = make_fleet(false, false, LB_SCHED_MAGLEV, NULL);
	struct lb_table *plain = make_fleet(true, false, LB_SCHED_MAGLEV, NULL);
	struct lb_table *joined = make_fleet(true, false, LB_SCHED_MAGLEV, NULL);
	struct lb_table *failed = make_fleet(true, true, LB_SCHED_MAGLEV, joined), *next;
	uint16_t *old = fill(before), *wanted = fill(plain), *now, *again;
	uint32_t n_waiting = 0;

	(void)state;
	assert_int_equal(lb_table_follow(joined, before), 0);
	now = fill(joined);
	for (uint32_t i = 0; i < 16381; i++) {
		assert_int_equal(now[i], wanted[i] == 120 ? 120 : old[i]);
		n_waiting += now[i] != wanted[i];
	}
	assert_true(n_waiting > 20);
	assert_int_equal(lb_table_n_waiting(joined), n_waiting);
	again = fill(joined); // as often as one likes
	assert_memory_equal(again, now, 16381 * 2);
	free(again);

	assert_int_equal(lb_table_follow(failed, joined), 0);
	again = fill(failed);
	for (uint32_t i = 0; i < 16381; i++)
		assert_true(now[i] == 104 ? again[i] != 104 : again[i] == now[i] || wanted[i] == 104);
	free(again);
	free(now);
	free(wanted);
	lb_table_unref(plain);
	plain = make_fleet(true, true, LB_SCHED_MAGLEV, NULL);
	wanted = fill(plain);
	while (lb_table_n_waiting(failed) > 0) {
		n_waiting = lb_table_n_waiting(failed);
		next = lb_table_step(failed, 7);
		assert_non_null(next);
		assert_true(lb_table_equal(next, failed));
		assert_int_equal(lb_table_n_waiting(next), n_waiting > 7 ? n_waiting - 7 : 0);
		lb_table_unref(failed);
		failed = next;
	}
	now = fill(failed);
	assert_memory_equal(now, wanted, 16381 * 2);
	free(now);
	free(old);
	free(wanted);
	lb_table_unref(before);
	lb_table_unref(plain);
	lb_table_unref(joined);
	lb_table_unref(failed);
}

/* Of a table that nobody was given, or of another kind, nothing is kept. */
static void nothing_waits_without_a_table_to_follow(void **state)
{
	static const enum lb_scheduler schedulers[][2] = {{LB_SCHED_MAGLEV, LB_SCHED_RING},
		{LB_SCHED_RR, LB_SCHED_RR}, {LB_SCHED_WRR, LB_SCHED_MAGLEV}};
	struct lb_table *before = make_fleet(false, false, LB_SCHED_MAGLEV, NULL);
	struct lb_table *after = make_fleet(true, false, LB_SCHED_MAGLEV, NULL);

	(void)state;
	assert_int_equal(lb_table_follow(after, before), 0);
	assert_int_equal(lb_table_n_waiting(after), 0);
	for (size_t i = 0; i < 3; i++) {
		lb_table_unref(before);
		lb_table_unref(after);
		before = make_fleet(false, false, schedulers[i][0], NULL);
		after = make_fleet(true, false, schedulers[i][1], NULL);
		free(fill(before));
		assert_int_equal(lb_table_follow(after, before), 0);
		assert_int_equal(lb_table_n_waiting(after), 0);
	}
	lb_table_unref(before);
	lb_table_unref(after);
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
		cmocka_unit_test(slow_start_moves_only_own_slots_and_each_once),
		cmocka_unit_test(who_is_alone_has_everything_at_once),
		cmocka_unit_test(a_wish_for_less_is_spread_over_all),
		cmocka_unit_test(pick_tables_name_who_takes_part),
		cmocka_unit_test(health_is_ignored_in_panic_and_as_the_last_resort),
		cmocka_unit_test(moves_that_nothing_asks_for_wait),
		cmocka_unit_test(nothing_waits_without_a_table_to_follow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
