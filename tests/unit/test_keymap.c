/* SPDX-License-Identifier: BSD-3-Clause */
/* The maps of services and endpoints against a naive list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include <rte_eal.h>

#include "dataplane/keymap.h"

#define N_KEYS 3000u

static int set_up(void **state)
{
	char *args[] = {(char *)"keymap", (char *)"--no-huge", (char *)"-m", (char *)"64", (char *)"--no-pci",
		(char *)"--no-telemetry", (char *)"--no-shconf", (char *)"-l", (char *)"0", (char *)"--log-level",
		(char *)"error"};

	(void)state;
	return rte_eal_init(sizeof(args) / sizeof(args[0]), args) < 0;
}

static int tear_down(void **state)
{
	(void)state;
	return rte_eal_cleanup();
}

// Few addresses with many ports, so that markers are shared and probes long.
static struct lb_service_key key_of(unsigned i)
{
	struct lb_service_key key = {.addr = lb_addr_from_ipv4(0x0a000000u + i % 37)};

	key.port_be = (uint16_t)(i / 37);
	key.proto = i % 2 ? 6 : 17;
	return key;
}

static bool has_marker(const struct lb_keymap *map, const struct lb_addr *addr)
{
	unsigned probe = 0;

	return lb_keymap_find(map, lb_keymap_hash(addr, 0, 0), &probe) != LB_KEYMAP_MISS;
}

static void check(const struct lb_keymap *map, const bool *present)
{
	unsigned per_addr[37] = {0}, n_wildcard = 0;

	for (unsigned i = 0; i < N_KEYS; i++) {
		struct lb_service_key key = key_of(i);

		assert_int_equal(lb_keymap_get(map, &key), present[i] ? i : LB_KEYMAP_MISS);
		per_addr[i % 37] += present[i];
		n_wildcard += present[i] && key.port_be == 0;
	}
	for (unsigned i = 0; i < 37; i++)
		assert_int_equal(has_marker(map, &(struct lb_addr){.u64 = {key_of(i).addr.u64[0],
						      key_of(i).addr.u64[1]}}),
			per_addr[i] != 0);
	assert_int_equal(map->n_wildcard, n_wildcard);
	assert_true(map->n_used <= (map->line_mask + 1) * 4);
}

static void agrees_with_a_list(void **state)
{
	struct lb_keymap *map = lb_keymap_create(N_KEYS);
	bool present[N_KEYS] = {false};
	uint64_t random = 1;

	(void)state;
	assert_non_null(map);
	for (unsigned step = 0; step < 60000; step++) {
		unsigned i;
		struct lb_service_key key;

		random = random * 6364136223846793005u + 1442695040888963407u;
		i = (unsigned)((random >> 33) % N_KEYS);
		key = key_of(i);
		if (present[i])
			lb_keymap_del(map, &key);
		else
			lb_keymap_add(map, &key, (uint16_t)i);
		present[i] = !present[i];
		if (step % 6000 == 0) {
			struct lb_keymap *copy = lb_keymap_clone(map, N_KEYS);

			assert_non_null(copy);
			lb_keymap_destroy(map);
			map = copy;
			check(map, present);
		}
	}
	check(map, present);
	for (unsigned i = 0; i < N_KEYS; i++)
		if (present[i])
			lb_keymap_del(map, &(struct lb_service_key){.addr = key_of(i).addr,
						    .port_be = key_of(i).port_be, .proto = key_of(i).proto});
	assert_int_equal(map->n_used, 0);
	lb_keymap_destroy(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_a_list)};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
