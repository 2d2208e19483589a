/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lb/hashring.h"

#define N_SLOTS 65537u
#define N_NODES 20u

static struct lb_maglev_node nodes[N_NODES];
static char names[N_NODES][16];
static bool eligible[N_NODES];
static uint16_t table[N_SLOTS], other[N_SLOTS];

static int set_up(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < N_NODES; i++) {
		snprintf(names[i], sizeof(names[i]), "api-%u", i);
		nodes[i] = (struct lb_maglev_node){
			.name = names[i], .weight = 1, .id = (uint16_t)(100 + i), .base = true};
		eligible[i] = true;
	}
	return 0;
}

static void fill(uint32_t n, uint16_t *slots)
{
	assert_int_equal(lb_hashring_fill(N_SLOTS, nodes, n, eligible, slots), 0);
}

static uint32_t count(const uint16_t *slots, uint16_t id)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < N_SLOTS; i++)
		n += slots[i] == id;
	return n;
}

static uint32_t moved_of_others(uint16_t id)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < N_SLOTS; i++)
		n += table[i] != other[i] && table[i] != id && other[i] != id;
	return n;
}

static void shares_follow_weights_as_far_as_points_do(void **state)
{
	uint32_t sum = 0;

	(void)state;
	for (uint32_t i = 0; i < N_NODES; i++)
		sum += nodes[i].weight = i < 10 ? 1 : 8;
	fill(N_NODES, table);
	for (uint32_t i = 0; i < N_NODES; i++) {
		double wanted = (double)N_SLOTS * nodes[i].weight / sum;

		// 150 points: a standard deviation of about 8 %, 1200 points: 3 %
		assert_in_range(count(table, nodes[i].id), (uint32_t)(wanted * (i < 10 ? 0.7 : 0.88)),
			(uint32_t)(wanted * (i < 10 ? 1.3 : 1.12)));
	}
}

static void a_new_node_moves_about_its_share_and_nothing_else(void **state)
{
	uint32_t n;

	(void)state;
	fill(N_NODES - 1, table);
	fill(N_NODES, other);
	assert_int_equal(moved_of_others(nodes[N_NODES - 1].id), 0);
	n = count(other, nodes[N_NODES - 1].id);
	assert_in_range(n, N_SLOTS / N_NODES * 3 / 4, N_SLOTS / N_NODES * 5 / 4);
}

static void a_failure_moves_only_its_own_slots(void **state)
{
	(void)state;
	fill(N_NODES, table);
	for (uint32_t i = 0; i < N_NODES; i++) {
		eligible[i] = false;
		fill(N_NODES, other);
		eligible[i] = true;
		assert_int_equal(count(other, nodes[i].id), 0);
		assert_int_equal(count(other, LB_MAGLEV_EMPTY), 0);
		assert_int_equal(moved_of_others(nodes[i].id), 0);
	}
}

static void a_failure_is_as_a_ring_without_the_node(void **state)
{
	(void)state;
	eligible[N_NODES - 1] = false;
	fill(N_NODES, table);
	fill(N_NODES - 1, other);
	assert_memory_equal(table, other, sizeof(table));
}

static void backups_take_only_what_is_free(void **state)
{
	(void)state;
	nodes[3].base = false;
	eligible[3] = false;
	fill(N_NODES, table);
	assert_int_equal(count(table, nodes[3].id), 0);
	eligible[3] = true;
	eligible[5] = false;
	fill(N_NODES, other);
	assert_int_equal(count(other, nodes[5].id), 0);
	assert_true(count(other, nodes[3].id) > 0);
	for (uint32_t i = 0; i < N_SLOTS; i++)
		if (table[i] != nodes[5].id)
			assert_int_equal(table[i], other[i]);
}

static void order_does_not_matter(void **state)
{
	struct lb_maglev_node swap;

	(void)state;
	fill(N_NODES, table);
	for (uint32_t i = 0; i < N_NODES / 2; i++) {
		swap = nodes[i];
		nodes[i] = nodes[N_NODES - 1 - i];
		nodes[N_NODES - 1 - i] = swap;
	}
	fill(N_NODES, other);
	assert_memory_equal(table, other, sizeof(table));
}

/* The slots are those that sorting all points would give. */
static void the_table_is_that_of_a_sorted_ring(void **state)
{
	uint32_t n_small = 3;

	(void)state;
	// with 13 slots and 450 points every slot has points; with 65537 most have none: both agree
	// where their places coincide, at slot 0
	fill(n_small, table);
	assert_int_equal(lb_hashring_fill(1, nodes, n_small, eligible, other), 0);
	assert_int_equal(other[0], table[0]);
	assert_int_equal(lb_hashring_fill(13, nodes, n_small, eligible, other), 0);
	for (uint32_t i = 0; i < 13; i++) {
		// slot i of 13 begins within slot i x 65537 / 13 or at the next
		uint32_t at = (uint32_t)(((uint64_t)i * N_SLOTS + 12) / 13);

		assert_true(other[i] == table[at] || other[i] == table[at - (at > 0)]);
	}
}

static void weight_0_and_nobody(void **state)
{
	(void)state;
	nodes[0].weight = 0;
	fill(N_NODES, table);
	assert_int_equal(count(table, nodes[0].id), 0);
	memset(eligible, 0, sizeof(eligible));
	fill(N_NODES, table);
	assert_int_equal(count(table, LB_MAGLEV_EMPTY), N_SLOTS);
	eligible[0] = true;
	fill(N_NODES, table);
	assert_int_equal(count(table, LB_MAGLEV_EMPTY), N_SLOTS);
	fill(0, table);
	assert_int_equal(count(table, LB_MAGLEV_EMPTY), N_SLOTS);
	assert_int_equal(lb_hashring_fill(0, nodes, 1, eligible, table), -22);
	assert_int_equal(lb_hashring_fill(LB_MAGLEV_MAX_SLOTS + 1, nodes, 1, eligible, table), -22);
}

static void great_weights_have_their_points_scaled(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < N_NODES; i++)
		nodes[i].weight = i == 0 ? 1 : 65535;
	fill(N_NODES, table);
	assert_in_range(count(table, nodes[1].id), N_SLOTS / 19 * 9 / 10, N_SLOTS / 19 * 11 / 10);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(shares_follow_weights_as_far_as_points_do),
		TEST(a_new_node_moves_about_its_share_and_nothing_else),
		TEST(a_failure_moves_only_its_own_slots),
		TEST(a_failure_is_as_a_ring_without_the_node),
		TEST(backups_take_only_what_is_free),
		TEST(order_does_not_matter),
		TEST(the_table_is_that_of_a_sorted_ring),
		TEST(weight_0_and_nobody),
		TEST(great_weights_have_their_points_scaled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
