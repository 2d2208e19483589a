/* SPDX-License-Identifier: BSD-3-Clause */
/* Maps changed in batches, each on the map before last brought up to date, against a naive list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>

#include "dataplane/mapspare.h"

#define N_KEYS 3000u

struct maps {
	struct lb_map_spare spare;
	struct lb_keymap *current;
	unsigned n_reused; /* batches that began with the spare */
	bool present[N_KEYS];
};

static int set_up(void **state)
{
	char *args[] = {(char *)"mapspare", (char *)"--no-huge", (char *)"-m", (char *)"64", (char *)"--no-pci",
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

static struct lb_service_key key_of(unsigned i)
{
	return (struct lb_service_key){.addr = lb_addr_from_ipv4(0x0a000000u + i % 37),
		.port_be = (uint16_t)(i / 37), .proto = i % 2 ? 6 : 17};
}

// What workers would see, and what a reader of the map before must still see.
static void check(const struct lb_keymap *map, const bool *present)
{
	for (unsigned i = 0; i < N_KEYS; i++) {
		struct lb_service_key key = key_of(i);

		assert_int_equal(lb_keymap_get(map, &key), present[i] ? i : LB_KEYMAP_MISS);
	}
}

static void change(struct maps *maps, unsigned n_changes, unsigned n_keys)
{
	struct lb_keymap *spare = maps->spare.map, *next = NULL;
	bool before[N_KEYS];

	memcpy(before, maps->present, sizeof(before));
	for (unsigned i = 0; i < n_changes; i++) {
		unsigned k = (unsigned)rand() % n_keys;
		struct lb_service_key key = key_of(k);
		struct lb_keymap *map = lb_map_spare_take(&maps->spare, maps->current, next);

		assert_non_null(map);
		maps->n_reused += next == NULL && map == spare;
		next = map;
		if (maps->present[k])
			lb_map_spare_del(&maps->spare, next, &key);
		else
			lb_map_spare_add(&maps->spare, next, &key, (uint16_t)k);
		maps->present[k] = !maps->present[k];
	}
	check(maps->current, before); // others read it meanwhile
	check(next, maps->present);
	lb_map_spare_keep(&maps->spare, maps->current);
	maps->current = next;
}

static void fini(struct maps *maps)
{
	lb_keymap_destroy(maps->current);
	lb_map_spare_fini(&maps->spare);
}

static void every_batch_is_whole(void **state)
{
	struct maps maps = {.current = lb_keymap_create(64)};

	(void)state;
	srand(11);
	for (unsigned batch = 0; batch < 400; batch++)
		change(&maps, 1 + (unsigned)rand() % 60, N_KEYS);
	assert_true(maps.n_reused > 300);
	fini(&maps);
}

static void growth_and_large_batches_copy_anew(void **state)
{
	struct maps maps = {.current = lb_keymap_create(64)};

	(void)state;
	srand(12);
	change(&maps, 20000, N_KEYS); // more than are remembered
	assert_null(maps.spare.map);
	change(&maps, 5, N_KEYS);
	assert_int_equal(maps.n_reused, 0);
	change(&maps, 5, N_KEYS);
	assert_int_equal(maps.n_reused, 1);
	fini(&maps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_batch_is_whole),
		cmocka_unit_test(growth_and_large_batches_copy_anew),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
