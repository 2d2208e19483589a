/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <unistd.h>

#include "control/rest.h"

#define N_IDS 4u

static struct lb_ids *ids;
static struct lb_rest *rest;
static struct lb_shm_map map;

static int setup(void **state)
{
	(void)state;
	map = (struct lb_shm_map){.n_workers = 2, .size_bytes = lb_shm_bytes(2)};
	map.shm = calloc(1, map.size_bytes);
	assert_non_null(map.shm);
	map.shm->header.boot_id = 1;
	assert_int_equal(lb_ids_create(0, N_IDS, 0, &ids), 0);
	rest = lb_rest_create(ids);
	assert_non_null(rest);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lb_rest_destroy(rest);
	lb_ids_destroy(ids);
	free(map.shm);
	return 0;
}

static void come_and_go(const char *key)
{
	uint32_t id;

	assert_int_equal(lb_ids_add(ids, key, &id), 0);
	assert_int_equal(lb_ids_del(ids, key), 0);
	lb_rest_add(rest, id);
}

static void sweep(unsigned worker, unsigned n_rounds)
{
	map.shm->workers[worker].sweeps += n_rounds;
	lb_rest_tick(rest, &map);
}

static void every_worker_sweeps_twice_before_an_id_is_free(void **state)
{
	(void)state;
	map.shm->workers[0].sweeps = UINT32_MAX; // it wraps
	come_and_go("a");
	sweep(0, 2);
	sweep(1, 2);
	assert_int_equal(lb_ids_n_free(ids), N_IDS - 1); // the data plane need not have heard of it
	lb_rest_settled(rest, &map);
	sweep(0, 1);
	sweep(1, 1);
	sweep(0, 5);
	assert_int_equal(lb_ids_n_free(ids), N_IDS - 1);
	sweep(1, 1);
	assert_int_equal(lb_ids_n_free(ids), N_IDS);
}

static void another_data_plane_sweeps_from_the_start(void **state)
{
	(void)state;
	come_and_go("a");
	lb_rest_settled(rest, &map);
	sweep(0, 2);
	map.shm->header.boot_id = 2;
	sweep(1, 2);
	assert_int_equal(lb_ids_n_free(ids), N_IDS - 1);
	lb_rest_settled(rest, &map);
	sweep(0, 1);
	sweep(1, 2);
	assert_int_equal(lb_ids_n_free(ids), N_IDS - 1);
	sweep(0, 1);
	assert_int_equal(lb_ids_n_free(ids), N_IDS);
}

static void it_tells_how_long_to_wait(void **state)
{
	unsigned first_s, second_s;

	(void)state;
	assert_int_equal(lb_rest_wait_s(rest, 1), 0);
	come_and_go("a");
	lb_rest_settled(rest, &map);
	come_and_go("b");
	lb_rest_settled(rest, &map); // within the same second: later
	first_s = lb_rest_wait_s(rest, 1);
	second_s = lb_rest_wait_s(rest, 2);
	assert_in_range(first_s, 2 * LB_SWEEP_ROUND_S, 2 * LB_SWEEP_ROUND_S + 5);
	assert_in_range(second_s, first_s, 2 * LB_SWEEP_ROUND_S + 5);
	assert_int_equal(lb_rest_wait_s(rest, 3), 0);
}

/* More changes than batches: all of them end. */
static void whatever_began_to_rest_ends_it(void **state)
{
	uint64_t until_ns = lb_now_ns() + UINT64_C(1200000000);
	unsigned n = 0;

	(void)state;
	for (; lb_now_ns() < until_ns; n++) {
		come_and_go("a");
		come_and_go(n % 2 ? "b" : "c");
		lb_rest_settled(rest, &map);
		usleep(20000);
	}
	assert_int_equal(lb_ids_n_free(ids), N_IDS - 3);
	usleep(1100000);
	lb_rest_settled(rest, &map);
	sweep(0, 2);
	sweep(1, 2);
	assert_int_equal(lb_ids_n_free(ids), N_IDS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_worker_sweeps_twice_before_an_id_is_free),
		TEST(another_data_plane_sweeps_from_the_start),
		TEST(it_tells_how_long_to_wait),
		TEST(whatever_began_to_rest_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
