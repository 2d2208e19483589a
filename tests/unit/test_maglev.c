/* SPDX-License-Identifier: BSD-3-Clause */
/* Properties of lookup tables: balance, disruption, and that only names, weights and health matter.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lb/hash.h"
#include "lb/maglev.h"

#define MAX_NODES 1000u
#define SMALL 65537u
#define LARGE 655373u

static const uint32_t table_sizes[] = {SMALL, LARGE};
static const uint32_t node_counts[] = {1, 2, 3, 10, 100, 1000};
#define N_ELEMENTS(array) (sizeof(array) / sizeof(*(array)))

/* The linker lets these take the allocator's place: the fail_after-th call from now fails. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);

static unsigned fail_after;

static bool fails_now(void)
{
	return fail_after > 0 && --fail_after == 0;
}

void *__wrap_malloc(size_t bytes)
{
	return fails_now() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
	return fails_now() ? NULL : __real_calloc(n, bytes);
}

static char names[MAX_NODES][16];
static struct lb_maglev_node nodes[MAX_NODES];
static bool all_eligible[MAX_NODES];
static uint32_t counts[UINT16_MAX + 1u];

/* Nodes "api-0" ... of weight 1, all in the base, id = 10 + index. */
static void nodes_init(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "api-%u", i);
		nodes[i] = (struct lb_maglev_node){
			.name = names[i], .weight = 1, .id = (uint16_t)(10 + i), .base = true};
	}
}

static struct lb_maglev *create(uint32_t n_slots, uint32_t n)
{
	struct lb_maglev *maglev = NULL;

	assert_int_equal(0, lb_maglev_create(n_slots, nodes, n, &maglev));
	assert_non_null(maglev);
	return maglev;
}

/* The table for @p eligible, to be freed. */
static uint16_t *fill(const struct lb_maglev *maglev, uint32_t n_slots, const bool *eligible)
{
	uint16_t *slots = malloc(n_slots * sizeof(*slots));

	assert_non_null(slots);
	assert_int_equal(0, lb_maglev_fill(maglev, eligible, slots));
	return slots;
}

/* The table of `nodes` with everyone up, to be freed. */
static uint16_t *table(uint32_t n_slots, uint32_t n)
{
	struct lb_maglev *maglev = create(n_slots, n);
	uint16_t *slots = fill(maglev, n_slots, all_eligible);

	lb_maglev_destroy(maglev);
	return slots;
}

static void count(const uint16_t *slots, uint32_t n_slots)
{
	memset(counts, 0, sizeof(counts));
	for (uint32_t i = 0; i < n_slots; i++)
		counts[slots[i]]++;
}

/* Slots that changed, neither from nor to the node with @p id: flows that moved for no good reason.
 */
static uint32_t n_moved_of_others(
	const uint16_t *before, const uint16_t *after, uint32_t n_slots, uint16_t id)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_slots; i++)
		n += before[i] != after[i] && before[i] != id && after[i] != id;
	return n;
}

static uint32_t n_unlike(const uint16_t *a, const uint16_t *b, uint32_t n_slots)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_slots; i++)
		n += a[i] != b[i];
	return n;
}

static void assert_balanced(
	const uint16_t *slots, uint32_t n_slots, const bool *eligible, uint32_t n)
{
	uint32_t min = UINT32_MAX, max = 0, total = 0;

	count(slots, n_slots);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t n_own = counts[nodes[i].id];

		if (!eligible[i]) {
			assert_int_equal(0, n_own);
			continue;
		}
		min = n_own < min ? n_own : min;
		max = n_own > max ? n_own : max;
		total += n_own;
	}
	assert_int_equal(n_slots, total);
	assert_in_range(max - min, 0, 1);
}

static void equal_weights_differ_by_at_most_one_slot(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_ELEMENTS(table_sizes); i++)
		for (unsigned j = 0; j < N_ELEMENTS(node_counts); j++) {
			uint16_t *slots;

			nodes_init(node_counts[j]);
			slots = table(table_sizes[i], node_counts[j]);
			assert_balanced(slots, table_sizes[i], all_eligible, node_counts[j]);
			free(slots);
		}
}

/* Every node has its exact share, rounded down or up. */
static void assert_proportional(const uint16_t *slots, uint32_t n_slots, uint32_t n)
{
	uint64_t weight = 0, total = 0;

	count(slots, n_slots);
	for (uint32_t i = 0; i < n; i++)
		weight += nodes[i].weight;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t share = (uint64_t)nodes[i].weight * n_slots / weight;
		bool whole = (uint64_t)nodes[i].weight * n_slots % weight == 0;

		assert_in_range(counts[nodes[i].id], share, share + !whole);
		total += counts[nodes[i].id];
	}
	assert_int_equal(n_slots, total);
}

static void weights_5_3_2_are_met_within_a_thousandth(void **state)
{
	static const uint32_t weights[] = {5, 3, 2};

	(void)state;
	for (unsigned i = 0; i < N_ELEMENTS(table_sizes); i++) {
		uint32_t n_slots = table_sizes[i];
		uint16_t *slots;

		nodes_init(3);
		for (unsigned j = 0; j < 3; j++)
			nodes[j].weight = weights[j];
		slots = table(n_slots, 3);
		count(slots, n_slots);
		for (unsigned j = 0; j < 3; j++) {
			double share = (double)counts[nodes[j].id] / n_slots;

			assert_true(share > weights[j] * 0.1 - 0.001);
			assert_true(share < weights[j] * 0.1 + 0.001);
		}
		assert_proportional(slots, n_slots, 3);
		free(slots);
	}
}

static void any_weights_are_met_within_one_slot(void **state)
{
	static const uint32_t max_weights[] = {7, 256, 65535};

	(void)state;
	for (unsigned i = 0; i < N_ELEMENTS(max_weights); i++)
		for (unsigned j = 0; j < N_ELEMENTS(node_counts); j++) {
			uint16_t *slots;

			nodes_init(node_counts[j]);
			for (uint32_t k = 0; k < node_counts[j]; k++)
				nodes[k].weight = 1 + (uint32_t)(lb_hash_bytes(&k, sizeof(k), i) %
								 max_weights[i]);
			slots = table(SMALL, node_counts[j]);
			assert_proportional(slots, SMALL, node_counts[j]);
			free(slots);
		}
}

static void one_heavy_node_among_light_ones_gets_its_share(void **state)
{
	uint16_t *slots;

	(void)state;
	nodes_init(300);
	for (uint32_t i = 0; i < 300; i++)
		nodes[i].weight = i + 1;
	nodes[17].weight = 65535;
	slots = table(SMALL, 300);
	assert_proportional(slots, SMALL, 300);
	free(slots);
}

static void weight_0_takes_no_slot(void **state)
{
	uint16_t *with, *without;

	(void)state;
	nodes_init(11);
	without = table(SMALL, 10);
	nodes[10].weight = 0;
	with = table(SMALL, 11);
	assert_int_equal(0, n_unlike(with, without, SMALL));
	free(with);
	free(without);
}

static void more_nodes_than_slots_get_one_or_none(void **state)
{
	bool eligible[MAX_NODES];
	struct lb_maglev *maglev;
	uint16_t *slots;

	(void)state;
	nodes_init(MAX_NODES);
	maglev = create(101, MAX_NODES);
	memcpy(eligible, all_eligible, sizeof(eligible));
	for (unsigned run = 0; run < 3; run++) {
		slots = fill(maglev, 101, eligible);
		assert_balanced(slots, 101, eligible, MAX_NODES);
		// next, without those that have a slot now
		for (uint32_t i = 0; i < 101; i++)
			eligible[slots[i] - 10] = false;
		free(slots);
	}
	lb_maglev_destroy(maglev);
}

/* One table size and node count: every kind of failure of one node, and its return. */
static void check_failure_and_return(uint32_t n_slots, uint32_t n)
{
	struct lb_maglev *maglev = create(n_slots, n);
	uint16_t *base = fill(maglev, n_slots, all_eligible);
	bool eligible[MAX_NODES];

	for (uint32_t failed = 0; failed < n; failed += n / 5 + 1) {
		uint16_t *during, *after;

		memcpy(eligible, all_eligible, sizeof(eligible));
		eligible[failed] = false;
		during = fill(maglev, n_slots, eligible);
		for (uint32_t i = 0; i < n_slots; i++) {
			if (base[i] != nodes[failed].id)
				assert_int_equal(base[i], during[i]);
			else
				assert_int_not_equal(base[i], during[i]);
		}
		if (n > 1)
			assert_balanced(during, n_slots, eligible, n);
		eligible[failed] = true;
		after = fill(maglev, n_slots, eligible);
		assert_memory_equal(base, after, n_slots * sizeof(*base));
		free(during);
		free(after);
	}
	free(base);
	lb_maglev_destroy(maglev);
}

static void failure_moves_no_slot_of_another_and_return_restores(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_ELEMENTS(table_sizes); i++)
		for (unsigned j = 0; j < N_ELEMENTS(node_counts); j++) {
			nodes_init(node_counts[j]);
			check_failure_and_return(table_sizes[i], node_counts[j]);
		}
}

static void many_failures_move_no_slot_of_those_left(void **state)
{
	bool eligible[MAX_NODES];
	uint16_t *base, *during;
	struct lb_maglev *maglev;

	(void)state;
	nodes_init(100);
	for (uint32_t i = 0; i < 100; i++)
		nodes[i].weight = 1 + i % 7;
	maglev = create(SMALL, 100);
	base = fill(maglev, SMALL, all_eligible);
	memcpy(eligible, all_eligible, sizeof(eligible));
	// fewer and fewer, down to one
	for (uint32_t i = 0; i < 99; i++) {
		eligible[i * 37 % 100] = false;
		during = fill(maglev, SMALL, eligible);
		for (uint32_t j = 0; j < SMALL; j++) {
			assert_true(eligible[during[j] - 10]);
			if (eligible[base[j] - 10])
				assert_int_equal(base[j], during[j]);
		}
		free(during);
	}
	free(base);
	lb_maglev_destroy(maglev);
}

static void failure_keeps_weights_among_those_left(void **state)
{
	static const uint32_t weights[] = {5, 3, 2};
	bool eligible[] = {true, false, true};
	struct lb_maglev *maglev;
	uint16_t *slots;

	(void)state;
	nodes_init(3);
	for (unsigned i = 0; i < 3; i++)
		nodes[i].weight = weights[i];
	maglev = create(SMALL, 3);
	slots = fill(maglev, SMALL, eligible);
	nodes[1].weight = 0;
	assert_proportional(slots, SMALL, 3);
	free(slots);
	lb_maglev_destroy(maglev);
}

static void second_failure_moves_few_slots_refilled_after_the_first(void **state)
{
	bool eligible[MAX_NODES];
	uint16_t *base, *first, *second;
	struct lb_maglev *maglev;
	uint32_t n_refilled = 0, n_moved = 0;

	(void)state;
	nodes_init(10);
	maglev = create(SMALL, 10);
	base = fill(maglev, SMALL, all_eligible);
	memcpy(eligible, all_eligible, sizeof(eligible));
	eligible[3] = false;
	first = fill(maglev, SMALL, eligible);
	eligible[7] = false;
	second = fill(maglev, SMALL, eligible);
	for (uint32_t i = 0; i < SMALL; i++)
		if (base[i] == nodes[3].id && first[i] != nodes[7].id) {
			n_refilled++;
			n_moved += first[i] != second[i];
		}
	assert_in_range(n_refilled, SMALL / 10 * 8 / 9 - 1, SMALL / 10);
	assert_in_range(n_moved, 0, n_refilled / 10);
	free(base);
	free(first);
	free(second);
	lb_maglev_destroy(maglev);
}

/* Remove node @p removed of @p n from the config: others' slots that move, in thousandths of all.
 */
static double disruption_of_removal(uint32_t n_slots, uint32_t n, uint32_t removed)
{
	struct lb_maglev_node gone = nodes[removed];
	uint16_t *before = table(n_slots, n), *after;
	uint32_t n_moved;

	nodes[removed] = nodes[n - 1];
	after = table(n_slots, n - 1);
	nodes[removed] = gone;
	n_moved = n_moved_of_others(before, after, n_slots, gone.id);
	free(before);
	free(after);
	return 1000.0 * n_moved / n_slots;
}

static void removal_by_config_moves_at_most_a_hundredth_of_others(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_ELEMENTS(table_sizes); i++)
		for (uint32_t removed = 0; removed < 100; removed += 9) {
			nodes_init(100);
			assert_true(disruption_of_removal(table_sizes[i], 100, removed) < 5);
		}
	// the same with weights, also of the heaviest
	nodes_init(100);
	for (uint32_t i = 0; i < 100; i++)
		nodes[i].weight = 1 + i % 10;
	nodes[50].weight = 40;
	for (uint32_t removed = 50; removed < 60; removed++)
		assert_true(disruption_of_removal(SMALL, 100, removed) < 10);
	nodes_init(1000);
	assert_true(disruption_of_removal(SMALL, 1000, 123) < 5);
	nodes_init(10);
	assert_true(disruption_of_removal(SMALL, 10, 4) < 5);
}

static void weight_from_5_to_6_moves_few_slots_of_others(void **state)
{
	uint16_t *before, *after;

	(void)state;
	for (uint32_t n = 3; n <= 100; n *= 5) {
		nodes_init(n);
		for (uint32_t i = 0; i < n; i++)
			nodes[i].weight = 5;
		before = table(SMALL, n);
		nodes[1].weight = 6;
		after = table(SMALL, n);
		assert_in_range(
			n_moved_of_others(before, after, SMALL, nodes[1].id), 0, SMALL / 100);
		count(before, SMALL);
		for (uint32_t i = 0; i < SMALL; i++)
			counts[nodes[1].id] -= before[i] == nodes[1].id && after[i] == nodes[1].id;
		// of its own it keeps nearly all
		assert_in_range(counts[nodes[1].id], 0, SMALL / n / 20);
		free(before);
		free(after);
	}
}

static void weights_only_matter_in_proportion(void **state)
{
	uint16_t *ones, *sevens;

	(void)state;
	nodes_init(50);
	ones = table(SMALL, 50);
	for (uint32_t i = 0; i < 50; i++)
		nodes[i].weight = 7;
	sevens = table(SMALL, 50);
	assert_int_equal(0, n_unlike(ones, sevens, SMALL));
	free(ones);
	free(sevens);
}

static void order_of_the_config_does_not_matter(void **state)
{
	struct lb_maglev_node shuffled[MAX_NODES];
	bool eligible[MAX_NODES], eligible_shuffled[MAX_NODES];
	struct lb_maglev *a, *b;
	uint16_t *x, *y;

	(void)state;
	for (unsigned i = 0; i < N_ELEMENTS(node_counts); i++) {
		uint32_t n = node_counts[i];

		nodes_init(n);
		for (uint32_t j = 0; j < n; j++) {
			uint32_t k = (uint32_t)((j * 617u + 5) % n); // 617 is prime to each n

			nodes[j].weight = 1 + j % 3;
			nodes[j].base = j % 10 != 9;
			eligible[j] = j % 4 != 1;
			shuffled[k] = nodes[j];
			eligible_shuffled[k] = eligible[j];
		}
		a = create(SMALL, n);
		assert_int_equal(0, lb_maglev_create(SMALL, shuffled, n, &b));
		x = fill(a, SMALL, all_eligible);
		y = fill(b, SMALL, all_eligible);
		assert_int_equal(0, n_unlike(x, y, SMALL));
		assert_int_equal(0, lb_maglev_fill(a, eligible, x));
		assert_int_equal(0, lb_maglev_fill(b, eligible_shuffled, y));
		assert_int_equal(0, n_unlike(x, y, SMALL));
		free(x);
		free(y);
		lb_maglev_destroy(a);
		lb_maglev_destroy(b);
	}
}

static void table_does_not_depend_on_what_failed_before(void **state)
{
	bool eligible[MAX_NODES];
	struct lb_maglev *old, *fresh;
	uint16_t *x, *y;

	(void)state;
	nodes_init(20);
	old = create(SMALL, 20);
	for (uint32_t run = 0; run < 20; run++) {
		for (uint32_t i = 0; i < 20; i++)
			eligible[i] = lb_hash_bytes(&i, sizeof(i), run) % 3 != 0;
		x = fill(old, SMALL, eligible);
		fresh = create(SMALL, 20);
		y = fill(fresh, SMALL, eligible);
		assert_int_equal(0, n_unlike(x, y, SMALL));
		lb_maglev_destroy(fresh);
		free(x);
		free(y);
	}
	lb_maglev_destroy(old);
}

static void ids_do_not_matter_but_as_labels(void **state)
{
	uint16_t *before, *after;

	(void)state;
	nodes_init(10);
	before = table(SMALL, 10);
	for (uint32_t i = 0; i < 10; i++)
		nodes[i].id = (uint16_t)(65534 - i);
	after = table(SMALL, 10);
	for (uint32_t i = 0; i < SMALL; i++)
		assert_int_equal(before[i] - 10, 65534 - after[i]);
	free(before);
	free(after);
}

static void names_are_copied(void **state)
{
	struct lb_maglev *maglev;
	uint16_t *before, *after;

	(void)state;
	nodes_init(10);
	maglev = create(SMALL, 10);
	before = fill(maglev, SMALL, all_eligible);
	memset(names, 'x', sizeof(names) - 1);
	memset(nodes, 0, sizeof(nodes));
	after = fill(maglev, SMALL, all_eligible);
	assert_int_equal(0, n_unlike(before, after, SMALL));
	free(before);
	free(after);
	lb_maglev_destroy(maglev);
}

static void backups_take_over_only_what_is_free(void **state)
{
	bool eligible[6] = {true, true, true, true, true, true};
	struct lb_maglev *maglev;
	uint16_t *base, *slots;

	(void)state;
	nodes_init(6);
	nodes[4].base = nodes[5].base = false;
	maglev = create(SMALL, 6);
	base = fill(maglev, SMALL, eligible);
	count(base, SMALL);
	assert_int_equal(0, counts[nodes[4].id] + counts[nodes[5].id]);

	// one primary down: its slots go to the backups, which have none yet, for an even load
	eligible[0] = false;
	slots = fill(maglev, SMALL, eligible);
	count(base, SMALL);
	assert_int_equal(counts[nodes[0].id], n_unlike(base, slots, SMALL));
	count(slots, SMALL);
	assert_in_range(counts[nodes[4].id], SMALL / 8, SMALL / 8 + 1);
	assert_in_range(counts[nodes[5].id], SMALL / 8, SMALL / 8 + 1);
	free(slots);

	// all primaries down
	eligible[1] = eligible[2] = eligible[3] = false;
	slots = fill(maglev, SMALL, eligible);
	assert_balanced(slots, SMALL, eligible, 6);
	free(slots);

	// all primaries back
	eligible[0] = eligible[1] = eligible[2] = eligible[3] = true;
	slots = fill(maglev, SMALL, eligible);
	assert_int_equal(0, n_unlike(base, slots, SMALL));
	free(slots);
	free(base);
	lb_maglev_destroy(maglev);
}

static void backups_alone_make_a_table(void **state)
{
	uint16_t *slots;

	(void)state;
	nodes_init(3);
	for (unsigned i = 0; i < 3; i++)
		nodes[i].base = false;
	slots = table(SMALL, 3);
	assert_balanced(slots, SMALL, all_eligible, 3);
	free(slots);
}

static void nobody_eligible_leaves_all_slots_empty(void **state)
{
	bool eligible[3] = {false, false, false};
	struct lb_maglev *maglev;
	uint16_t *slots;

	(void)state;
	nodes_init(3);
	nodes[2].weight = 0;
	maglev = create(SMALL, 3);
	for (unsigned run = 0; run < 2; run++) {
		slots = fill(maglev, SMALL, eligible);
		count(slots, SMALL);
		assert_int_equal(SMALL, counts[LB_MAGLEV_EMPTY]);
		free(slots);
		eligible[2] = true; // its weight is 0: still nobody
	}
	lb_maglev_destroy(maglev);

	slots = table(SMALL, 0);
	count(slots, SMALL);
	assert_int_equal(SMALL, counts[LB_MAGLEV_EMPTY]);
	free(slots);
}

static void smallest_tables_work(void **state)
{
	static const uint32_t primes[] = {2, 3, 5, 7, 11, 13};
	uint16_t *slots;

	(void)state;
	nodes_init(20);
	for (unsigned i = 0; i < N_ELEMENTS(primes); i++)
		for (uint32_t n = 1; n <= 20; n++) {
			slots = table(primes[i], n);
			assert_balanced(slots, primes[i], all_eligible, n);
			free(slots);
		}
}

static void wrong_arguments_are_refused(void **state)
{
	static const uint32_t not_sizes[] = {0, 1, 4, 65536, 65535, 655371, 655379, UINT32_MAX};
	struct lb_maglev *maglev = NULL;

	(void)state;
	nodes_init(3);
	for (unsigned i = 0; i < N_ELEMENTS(not_sizes); i++)
		assert_int_equal(-EINVAL, lb_maglev_create(not_sizes[i], nodes, 3, &maglev));
	nodes[2].name = "api-0";
	assert_int_equal(-EINVAL, lb_maglev_create(SMALL, nodes, 3, &maglev));
	nodes[2].weight = 2; // also with another weight
	assert_int_equal(-EINVAL, lb_maglev_create(SMALL, nodes, 3, &maglev));
	nodes_init(3);
	nodes[1].id = LB_MAGLEV_EMPTY;
	assert_int_equal(-EINVAL, lb_maglev_create(SMALL, nodes, 3, &maglev));
	nodes_init(3);
	nodes[1].weight = 65536;
	assert_int_equal(-EINVAL, lb_maglev_create(SMALL, nodes, 3, &maglev));
	assert_int_equal(-EINVAL, lb_maglev_create(SMALL, nodes, 65536, &maglev));
	assert_null(maglev);
	lb_maglev_destroy(NULL);
}

/* Leaks would be AddressSanitizer's to find. */
static void lack_of_memory_is_an_error(void **state)
{
	bool eligible[10] = {false, true, true, true, true, true, true, true, true, true};
	struct lb_maglev *maglev = NULL;
	uint16_t slots[1009];
	unsigned n;
	int rc;

	(void)state;
	nodes_init(10);
	for (n = 1, rc = -ENOMEM; rc != 0; n++) {
		fail_after = n;
		rc = lb_maglev_create(1009, nodes, 10, &maglev);
		assert_true(rc == 0 || rc == -ENOMEM);
		assert_int_equal(rc == 0, maglev != NULL);
	}
	assert_true(n > 8);
	for (n = 1, rc = -ENOMEM; rc != 0; n++) {
		fail_after = n;
		rc = lb_maglev_fill(maglev, eligible, slots);
		assert_true(rc == 0 || rc == -ENOMEM);
	}
	assert_true(n > 6);
	fail_after = 0;
	assert_balanced(slots, 1009, eligible, 10);
	lb_maglev_destroy(maglev);
}

static void primes_are_told_apart(void **state)
{
	static const uint32_t large[] = {65537, 655373, 4294967291u};
	bool composite[10000] = {true, true};

	(void)state;
	for (uint32_t i = 2; i < N_ELEMENTS(composite); i++) {
		assert_int_equal(!composite[i], lb_maglev_is_prime(i));
		for (uint32_t j = 2 * i; j < N_ELEMENTS(composite); j += i)
			composite[j] = true;
	}
	assert_false(lb_maglev_is_prime(0));
	assert_false(lb_maglev_is_prime(1));
	for (unsigned i = 0; i < N_ELEMENTS(large); i++)
		assert_true(lb_maglev_is_prime(large[i]));
	assert_false(lb_maglev_is_prime(4294836225u)); // 65535^2
	assert_false(lb_maglev_is_prime(4293001441u)); // 65521^2
	assert_false(lb_maglev_is_prime(UINT32_MAX));
}

/* All hosts of a fleet must agree, also while they are upgraded one by one: a change here breaks
 * flows. */
static void table_is_the_same_in_every_release(void **state)
{
	bool eligible[MAX_NODES];
	struct lb_maglev *maglev;
	uint16_t *slots;

	(void)state;
	nodes_init(100);
	for (uint32_t i = 0; i < 100; i++)
		nodes[i].weight = 1 + i % 5;
	maglev = create(SMALL, 100);
	slots = fill(maglev, SMALL, all_eligible);
	assert_int_equal(
		UINT64_C(0xfcbe3bde7844e356), lb_hash_bytes(slots, SMALL * sizeof(*slots), 0));
	free(slots);
	memcpy(eligible, all_eligible, sizeof(eligible));
	eligible[7] = eligible[8] = false;
	slots = fill(maglev, SMALL, eligible);
	assert_int_equal(
		UINT64_C(0x7be59246b1642b62), lb_hash_bytes(slots, SMALL * sizeof(*slots), 0));
	free(slots);
	lb_maglev_destroy(maglev);
}

static int setup(void **state)
{
	(void)state;
	memset(all_eligible, true, sizeof(all_eligible));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_weights_differ_by_at_most_one_slot),
		cmocka_unit_test(weights_5_3_2_are_met_within_a_thousandth),
		cmocka_unit_test(any_weights_are_met_within_one_slot),
		cmocka_unit_test(one_heavy_node_among_light_ones_gets_its_share),
		cmocka_unit_test(weight_0_takes_no_slot),
		cmocka_unit_test(more_nodes_than_slots_get_one_or_none),
		cmocka_unit_test(failure_moves_no_slot_of_another_and_return_restores),
		cmocka_unit_test(many_failures_move_no_slot_of_those_left),
		cmocka_unit_test(failure_keeps_weights_among_those_left),
		cmocka_unit_test(second_failure_moves_few_slots_refilled_after_the_first),
		cmocka_unit_test(removal_by_config_moves_at_most_a_hundredth_of_others),
		cmocka_unit_test(weight_from_5_to_6_moves_few_slots_of_others),
		cmocka_unit_test(weights_only_matter_in_proportion),
		cmocka_unit_test(order_of_the_config_does_not_matter),
		cmocka_unit_test(table_does_not_depend_on_what_failed_before),
		cmocka_unit_test(ids_do_not_matter_but_as_labels),
		cmocka_unit_test(names_are_copied),
		cmocka_unit_test(backups_take_over_only_what_is_free),
		cmocka_unit_test(backups_alone_make_a_table),
		cmocka_unit_test(nobody_eligible_leaves_all_slots_empty),
		cmocka_unit_test(smallest_tables_work),
		cmocka_unit_test(wrong_arguments_are_refused),
		cmocka_unit_test(lack_of_memory_is_an_error),
		cmocka_unit_test(primes_are_told_apart),
		cmocka_unit_test(table_is_the_same_in_every_release),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
