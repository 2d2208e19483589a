/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

#include "control/ids.h"

static struct lb_ids *make(uint32_t first, uint32_t n, uint32_t start)
{
	struct lb_ids *ids = NULL;

	assert_int_equal(lb_ids_create(first, n, start, &ids), 0);
	return ids;
}

static uint32_t add(struct lb_ids *ids, const char *key)
{
	uint32_t id = UINT32_MAX;

	assert_int_equal(lb_ids_add(ids, key, &id), 0);
	return id;
}

static void a_key_keeps_its_id(void **state)
{
	struct lb_ids *ids = make(1, 10, 0);
	uint32_t id, a = add(ids, "a"), b = add(ids, "b");

	(void)state;
	assert_int_not_equal(a, b);
	assert_int_equal(lb_ids_add(ids, "a", &id), -EEXIST);
	assert_int_equal(id, a);
	assert_int_equal(lb_ids_lookup(ids, "b", &id), 0);
	assert_int_equal(id, b);
	assert_int_equal(lb_ids_lookup(ids, "c", &id), -ENOENT);
	assert_string_equal(lb_ids_key(ids, a), "a");
	assert_int_equal(lb_ids_count(ids), 2);
	lb_ids_destroy(ids);
}

static void a_freed_id_comes_back_last(void **state)
{
	struct lb_ids *ids = make(0, 5, 3);
	uint32_t a = add(ids, "a");
	char key[2] = "b";

	(void)state;
	assert_int_equal(a, 3);
	assert_int_equal(lb_ids_del(ids, "a"), 0);
	assert_int_equal(lb_ids_del(ids, "a"), -ENOENT);
	for (int i = 0; i < 4; i++, key[0]++)
		assert_int_not_equal(add(ids, key), a);
	assert_int_equal(add(ids, "last"), a);
	lb_ids_destroy(ids);
}

static void who_comes_back_has_the_id_that_he_had(void **state)
{
	struct lb_ids *ids = make(0, 3, 0);
	uint32_t id, a;

	(void)state;
	assert_int_equal(lb_ids_add_of(ids, "a", 7, &a), 0);
	assert_int_equal(lb_ids_del_of(ids, "a", 7), 0);
	assert_null(lb_ids_key(ids, a));
	assert_int_equal(lb_ids_lookup(ids, "a", &id), -ENOENT);
	assert_int_equal(lb_ids_add_of(ids, "a", 7, &id), 0);
	assert_int_equal(id, a);
	// of another owner it is another thing
	assert_int_equal(lb_ids_del_of(ids, "a", 7), 0);
	assert_int_equal(lb_ids_add_of(ids, "a", 8, &id), 0);
	assert_int_not_equal(id, a);
	// and when somebody else has got the id, it is gone
	assert_int_equal(lb_ids_del_of(ids, "a", 8), 0);
	add(ids, "b");
	add(ids, "c");
	add(ids, "d");
	assert_int_equal(lb_ids_add_of(ids, "a", 8, &id), -ENOSPC);
	lb_ids_destroy(ids);
}

static void an_id_that_rests_is_given_only_to_who_had_it(void **state)
{
	struct lb_ids *ids = make(0, 3, 0);
	uint32_t a = add(ids, "a"), b = add(ids, "b"), id;

	(void)state;
	add(ids, "c");
	lb_ids_rest(ids, a, 1); // it is used: nothing happens
	assert_int_equal(lb_ids_n_free(ids), 0);
	assert_int_equal(lb_ids_del(ids, "a"), 0);
	assert_int_equal(lb_ids_del(ids, "b"), 0);
	lb_ids_rest(ids, a, 1);
	lb_ids_rest(ids, b, 2);
	assert_int_equal(lb_ids_n_free(ids), 0);
	assert_int_equal(lb_ids_add(ids, "d", &id), -ENOSPC);
	assert_int_equal(add(ids, "a"), a);
	assert_int_equal(lb_ids_del(ids, "a"), 0);
	assert_int_equal(lb_ids_add(ids, "d", &id), -ENOSPC); // it rests still
	lb_ids_rested(ids, 2);
	assert_int_equal(lb_ids_n_free(ids), 1);
	assert_int_equal(add(ids, "d"), b);
	lb_ids_rested(ids, 1);
	assert_int_equal(add(ids, "e"), a);
	lb_ids_destroy(ids);
}

static void a_full_set_says_so_and_a_hole_is_found(void **state)
{
	struct lb_ids *ids = make(7, 3, 0);
	uint32_t id;

	(void)state;
	add(ids, "a");
	id = add(ids, "b");
	add(ids, "c");
	assert_int_equal(lb_ids_add(ids, "d", &(uint32_t){0}), -ENOSPC);
	assert_int_equal(lb_ids_del(ids, "b"), 0);
	assert_int_equal(add(ids, "d"), id);
	lb_ids_destroy(ids);
}

static void json_brings_everything_back(void **state)
{
	struct lb_ids *ids = make(1, 100, 42), *copy = make(1, 100, 0);
	uint32_t id, a = add(ids, "10.0.0.1:80"), b = add(ids, "[2001:db8::1]:80");
	json_t *json;

	(void)state;
	add(ids, "gone");
	lb_ids_del(ids, "gone");
	json = lb_ids_to_json(ids);
	assert_non_null(json);
	assert_int_equal(lb_ids_from_json(copy, json), 0);
	assert_int_equal(lb_ids_lookup(copy, "10.0.0.1:80", &id), 0);
	assert_int_equal(id, a);
	assert_int_equal(lb_ids_lookup(copy, "[2001:db8::1]:80", &id), 0);
	assert_int_equal(id, b);
	// the cycle goes on where it was: the id of "gone" is not the next one
	assert_int_equal(add(copy, "new"), add(ids, "new"));
	json_decref(json);
	lb_ids_destroy(ids);
	lb_ids_destroy(copy);
}

static void wrong_json_is_refused_and_leaves_an_empty_set(void **state)
{
	static const char *const texts[] = {
		"{}",
		"[]",
		"null",
		"{\"next\": 1}",
		"{\"next\": 1, \"ids\": []}",
		"{\"next\": 0, \"ids\": {}}", // below the first
		"{\"next\": 6, \"ids\": {}}", // beyond the last
		"{\"next\": \"1\", \"ids\": {}}",
		"{\"next\": 1, \"ids\": {\"a\": 6}}", // beyond the last
		"{\"next\": 1, \"ids\": {\"a\": -1}}",
		"{\"next\": 1, \"ids\": {\"a\": \"1\"}}",
		"{\"next\": 1, \"ids\": {\"a\": 2, \"b\": 2}}", // twice
		"{\"next\": 1, \"ids\": {\"a\": 4294967297}}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct lb_ids *ids = make(1, 5, 0);
		json_t *json = json_loads(texts[i], JSON_DECODE_ANY, NULL);

		assert_non_null(json);
		assert_int_equal(lb_ids_from_json(ids, json), -EINVAL);
		assert_int_equal(lb_ids_count(ids), 0);
		for (char key[2] = "a"; key[0] < 'f'; key[0]++)
			add(ids, key);
		json_decref(json);
		lb_ids_destroy(ids);
	}
}

/* Against a naive model: an array of keys. */
static void random_use_agrees_with_a_model(void **state)
{
	enum { N = 50, N_KEYS = 80 };
	struct lb_ids *ids = make(100, N, 17);
	uint32_t owner[N_KEYS]; /* id or 0 */
	unsigned n = 0;
	char key[16];

	(void)state;
	for (unsigned i = 0; i < N_KEYS; i++)
		owner[i] = 0;
	srandom(1);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned k = (unsigned)random() % N_KEYS;
		uint32_t id = 0;
		int rc;

		snprintf(key, sizeof(key), "key %u", k);
		if (random() % 2) {
			rc = lb_ids_add(ids, key, &id);
			if (owner[k] != 0) {
				assert_int_equal(rc, -EEXIST);
				assert_int_equal(id, owner[k]);
			} else if (n == N) {
				assert_int_equal(rc, -ENOSPC);
			} else {
				assert_int_equal(rc, 0);
				assert_in_range(id, 100, 100 + N - 1);
				for (unsigned i = 0; i < N_KEYS; i++)
					assert_int_not_equal(owner[i], id);
				owner[k] = id;
				n++;
			}
		} else {
			if (owner[k] != 0 && random() % 4 == 0) { // and it has rested at once
				assert_int_equal(lb_ids_del(ids, key), 0);
				lb_ids_rest(ids, owner[k], step + 1);
				assert_int_equal(lb_ids_n_free(ids), N - n);
				lb_ids_rested(ids, step + 1);
				assert_int_equal(add(ids, key), owner[k]);
			}
			assert_int_equal(lb_ids_del(ids, key), owner[k] != 0 ? 0 : -ENOENT);
			n -= owner[k] != 0;
			owner[k] = 0;
		}
		assert_int_equal(lb_ids_count(ids), n);
	}
	lb_ids_destroy(ids);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_keeps_its_id),
		cmocka_unit_test(a_freed_id_comes_back_last),
		cmocka_unit_test(who_comes_back_has_the_id_that_he_had),
		cmocka_unit_test(an_id_that_rests_is_given_only_to_who_had_it),
		cmocka_unit_test(a_full_set_says_so_and_a_hole_is_found),
		cmocka_unit_test(json_brings_everything_back),
		cmocka_unit_test(wrong_json_is_refused_and_leaves_an_empty_set),
		cmocka_unit_test(random_use_agrees_with_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
