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

// It has the bits of those of the first @p n addresses that are there, and no others.
static void check_filter(const struct lb_keymap *map, const unsigned *per_addr, unsigned n)
{
	uint64_t *bits = calloc(map->line_mask + 1, sizeof(*bits));

	assert_non_null(bits);
	for (unsigned i = 0; i < n; i++) {
		struct lb_addr addr = lb_addr_from_ipv4(0x0a000000u + i);
		uint64_t hash = lb_keymap_hash(&addr, 0, 0);

		if (per_addr[i] == 0)
			continue;
		assert_true(lb_keymap_may_have(map, hash));
		bits[lb_keymap_line_idx(map, hash)] |= UINT64_C(1) << lb_keymap_filter_bit(hash);
	}
	assert_memory_equal(map->filter, bits, (map->line_mask + 1) * sizeof(*bits));
	free(bits);
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
	check_filter(map, per_addr, 37);
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

			check(map, present);
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
	check_filter(map, (const unsigned[37]){0}, 37);
	lb_keymap_destroy(map);
}

// Addresses so many that they share bits and that probes leave the lines in which they begin, each with one key.
static void filter_has_each_address(void **state)
{
	struct lb_keymap *map = lb_keymap_create(N_KEYS / 4);
	unsigned present[N_KEYS] = {0};
	uint64_t random = 7;

	(void)state;
	assert_non_null(map);
	for (unsigned step = 0; step < 20000; step++) {
		struct lb_service_key key = {.port_be = 1, .proto = 6};
		unsigned i;

		random = random * 6364136223846793005u + 1442695040888963407u;
		i = (unsigned)((random >> 33) % N_KEYS);
		key.addr = lb_addr_from_ipv4(0x0a000000u + i);
		if (present[i])
			lb_keymap_del(map, &key);
		else
			lb_keymap_add(map, &key, (uint16_t)i);
		present[i] = !present[i];
		if (step % 500 == 499)
			check_filter(map, present, N_KEYS);
	}
	assert_true(map->n_used > (map->line_mask + 1) * 8 * 2 / 3);
	lb_keymap_destroy(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_a_list),
		cmocka_unit_test(filter_has_each_address),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
