/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lb/ports.h"

static struct lb_ports *make(uint32_t n_shares, uint32_t seed)
{
	struct lb_ports *ports = aligned_alloc(64, lb_ports_bytes(n_shares));

	lb_ports_init(ports, n_shares, seed);
	return ports;
}

static uint64_t random_state = 88172645463325252u;

static uint32_t next_random(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 16) % below);
}

static void shares_are_powers_of_two(void **state)
{
	static const uint32_t cases[][2] = {
		{1, 1}, {2, 2}, {3, 4}, {4, 4}, {5, 8}, {33, 64}, {64, 64}};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(lb_ports_n_shares(cases[i][0]), cases[i][1]);
}

// Over all workers every port from 1024 on is handed out exactly once, each by the worker it names.
static void every_port_has_one_owner(void **state)
{
	(void)state;
	for (uint32_t n_shares = 1; n_shares <= 64; n_shares *= 2) {
		uint8_t seen[65536] = {0};

		for (uint32_t worker = 0; worker < n_shares; worker++) {
			struct lb_ports *ports = make(n_shares, worker * 977);
			uint32_t idx;

			while ((idx = lb_ports_take(ports)) != LB_PORTS_NONE) {
				uint16_t port = lb_ports_number(idx, worker, n_shares);

				assert_int_equal(lb_ports_owner(port, n_shares), worker);
				assert_int_equal(lb_ports_index(port, n_shares), idx);
				assert_int_equal(seen[port]++, 0);
			}
			assert_int_equal(ports->n_used, LB_PORTS_ALL / n_shares);
			assert_int_equal(ports->exhausted, 1);
			free(ports);
		}
		for (unsigned port = 0; port < 65536; port++)
			assert_int_equal(seen[port], port >= LB_PORTS_FIRST);
	}
}

static void a_port_given_back_comes_last(void **state)
{
	struct lb_ports *ports = make(16, 100);
	uint32_t first = lb_ports_take(ports), last = first;

	(void)state;
	assert_int_equal(first, 100);
	lb_ports_give(ports, first);
	for (uint32_t i = 1; i < ports->n_ports; i++) {
		last = lb_ports_take(ports);
		assert_int_not_equal(last, first);
	}
	assert_int_equal(lb_ports_take(ports), first);
	assert_int_equal(lb_ports_take(ports), LB_PORTS_NONE);
	lb_ports_give(ports, last);
	assert_int_equal(lb_ports_take(ports), last);
	free(ports);
}

static void what_is_not_in_use_cannot_be_given_back(void **state)
{
	struct lb_ports *ports = make(64, 0);

	(void)state;
	lb_ports_give(ports, 5);
	lb_ports_give(ports, ports->n_ports);
	lb_ports_give(ports, UINT32_MAX - 1);
	assert_int_equal(ports->n_used, 0);
	assert_true(lb_ports_take_at(ports, 5));
	assert_false(lb_ports_take_at(ports, 5));
	assert_false(lb_ports_take_at(ports, ports->n_ports));
	lb_ports_give(ports, 5);
	lb_ports_give(ports, 5);
	assert_int_equal(ports->n_used, 0);
	free(ports);
}

// Against an array of flags, at every degree of fullness.
static void ports_agree_with_a_model(void **state)
{
	(void)state;
	for (uint32_t n_shares = 1; n_shares <= 64; n_shares *= 8) {
		struct lb_ports *ports = make(n_shares, next_random(UINT32_MAX));
		bool *used = calloc(ports->n_ports, 1);
		uint32_t n_used = 0;

		for (unsigned step = 0; step < 400000; step++) {
			// Fill, then empty, in turns: with random steps alone it would stay half full.
			bool filling = (step / 70000) % 2 == 0;

			if (next_random(10) < (filling ? 8 : 2)) {
				uint32_t idx = lb_ports_take(ports);

				assert_int_equal(idx == LB_PORTS_NONE, n_used == ports->n_ports);
				if (idx == LB_PORTS_NONE)
					continue;
				assert_true(idx < ports->n_ports && !used[idx]);
				used[idx] = true;
				n_used++;
			} else {
				uint32_t idx = next_random(ports->n_ports);

				n_used -= used[idx];
				used[idx] = false;
				lb_ports_give(ports, idx);
			}
			assert_int_equal(ports->n_used, n_used);
		}
		free(used);
		free(ports);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_are_powers_of_two),
		cmocka_unit_test(every_port_has_one_owner),
		cmocka_unit_test(a_port_given_back_comes_last),
		cmocka_unit_test(what_is_not_in_use_cannot_be_given_back),
		cmocka_unit_test(ports_agree_with_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
