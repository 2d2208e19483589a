/* SPDX-License-Identifier: BSD-3-Clause */
/* Properties over many generated configs, texts and changes; all from fixed seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_util.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

static void written_config_parses_to_its_equal(void **state)
{
	uint64_t random = 1;

	(void)state;
	for (unsigned i = 0; i < 500; i++) {
		struct lb_config *config = config_random(&random);
		const char *problem = config_round_trip(config);

		if (problem)
			fail_msg("config %u: %s", i, problem);
		lb_config_free(config);
	}
}

static void clone_is_equal(void **state)
{
	uint64_t random = 2;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		struct lb_config *config = config_random(&random);
		struct lb_config *clone = lb_config_clone(config);

		assert_true(config_equal(config, clone));
		assert_int_equal(lb_config_diff(config, clone, NULL, NULL), 0);
		lb_config_free(config);
		lb_config_free(clone);
	}
}

struct signs {
	unsigned n_plus, n_minus, n_other;
};

static void count(void *arg, char sign, const char *path, const char *text)
{
	struct signs *signs = arg;

	assert_true(*path && *text);
	signs->n_plus += sign == '+';
	signs->n_minus += sign == '-';
	signs->n_other += sign == '~';
}

static void difference_back_is_the_reverse(void **state)
{
	uint64_t random = 3;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		struct lb_config *a = config_random(&random);
		struct lb_config *b = config_random(&random);
		struct signs there = {0}, back = {0};

		assert_int_equal(lb_config_diff(a, b, count, &there),
			lb_config_diff(b, a, count, &back));
		assert_int_equal(there.n_plus, back.n_minus);
		assert_int_equal(there.n_minus, back.n_plus);
		assert_int_equal(there.n_other, back.n_other);
		assert_true(there.n_plus + there.n_minus + there.n_other > 0 || config_equal(a, b));
		lb_config_free(a);
		lb_config_free(b);
	}
}

static void order_makes_no_difference(void **state)
{
	uint64_t random = 4;

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		struct lb_config *a = config_random(&random), *b = lb_config_clone(a);

		for (size_t j = 1; j < b->n_services; j += 2) {
			struct lb_config_service *swap = b->services[j];

			b->services[j] = b->services[j - 1];
			b->services[j - 1] = swap;
		}
		assert_int_equal(lb_config_diff(a, b, NULL, NULL), 0);
		lb_config_free(a);
		lb_config_free(b);
	}
}

/* Pieces that are likely to lead somewhere. */
static const char *const pieces[] = {
	"\n", "  ", "    - ", ": ", "{", "}", "[", "]", ",", "\"", "'", "#", "&a", "*a", "!t ", "---\n",
	"...\n", "|\n", ">\n", "? ", "%YAML 1.1\n", "\t", "\r\n", "all", "0", "65536", "-1", "1e9", "~",
	"true", "null", "none", "\xc2\x85", "\xe2\x80\xa8", "\xff", "\xf0\x9f\x98\x80", "\\u0000",
	"name: ", "services:", "backends:", "port: ", "address: ", "10.0.0.1", "::1", "2001:db8::1",
	"health_check: ", "500ms", "99999999999", "<<: ", "\\x00", "203.0.113.10", "udp", "http",
};

/* Put `n_new` bytes in the place of `n_old` at `at`. @return the new length; the old one without room. */
static size_t splice(char *text, size_t len, size_t size, size_t at, size_t n_old,
	const char *new, size_t n_new)
{
	char copy[200];

	n_old = n_old > len - at ? len - at : n_old;
	if (n_new > sizeof(copy) || len - n_old + n_new > size)
		return len;
	memcpy(copy, new, n_new);
	memmove(text + at + n_new, text + at + n_old, len - at - n_old);
	memcpy(text + at, copy, n_new);
	return len - n_old + n_new;
}

/* One mutation; those that leave the syntax alone are the more frequent ones. */
static size_t mutate_once(uint64_t *random, char *text, size_t len, size_t size)
{
	static const char plain[] = "0123456789abcdef:.-";
	const char *piece = pieces[random_below(random, N(pieces))];
	size_t at = random_below(random, (uint32_t)len), n;
	size_t from = random_below(random, (uint32_t)len), line = at, n_line = 1;
	char byte;

	while (line > 0 && text[line - 1] != '\n')
		line--;
	while (line + n_line < len && text[line + n_line - 1] != '\n')
		n_line++;
	switch (random_below(random, 9)) {
	case 0:
		byte = (char)random_next(random);
		return splice(text, len, size, at, 1, &byte, 1);
	case 1:
		return splice(text, len, size, at, random_below(random, 40), "", 0);
	case 2:
		n = random_below(random, 100);
		return splice(text, len, size, at, 0, text + from, n > len - from ? len - from : n);
	case 3:
		return splice(text, len, size, at, 0, piece, strlen(piece));
	case 4:
		return splice(text, len, size, line, n_line, "", 0);
	case 5:
		return splice(text, len, size, line, 0, text + line, n_line);
	default:
		byte = plain[random_below(random, sizeof(plain) - 1)];
		return splice(text, len, size, at, 1, &byte, 1);
	}
}

static size_t mutate(uint64_t *random, char *text, size_t len, size_t size)
{
	unsigned n = 1 + random_below(random, 2) * random_below(random, 4);

	while (n-- && len)
		len = mutate_once(random, text, len, size);
	return len;
}

/* `text` has room for as much again. What is refused has a reason, what is taken can be written. */
static unsigned try_mutations(uint64_t *random, const char *text, unsigned n)
{
	size_t len = strlen(text), size = 2 * len + 200;
	char *copy = malloc(size);
	unsigned n_taken = 0;

	for (unsigned i = 0; i < n; i++) {
		struct lb_config *config = NULL;
		struct lb_config_error error;
		size_t mutated;
		int rc;

		memcpy(copy, text, len);
		mutated = mutate(random, copy, len, size);
		rc = lb_config_parse("m", copy, mutated, &config, &error);
		if (rc) {
			assert_int_equal(rc, -EINVAL);
			assert_null(config);
			assert_memory_equal(error.where, "m:", 2);
			assert_true(strlen(error.message) > 10);
			continue;
		}
		n_taken++;
		if (config_round_trip(config))
			fail_msg("mutation %u: %s\n%.*s", i, config_round_trip(config),
				(int)mutated, copy);
		lb_config_free(config);
	}
	free(copy);
	return n_taken;
}

static void mutated_texts_are_refused_or_right(void **state)
{
	uint64_t random = 5;
	unsigned n_taken = 0;

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		struct lb_config *config = config_random(&random);
		json_t *json = lb_config_to_json(config);
		char *yaml = lb_config_to_yaml(config), *text = json_dumps(json, JSON_INDENT(1));

		n_taken += try_mutations(&random, yaml, 60);
		n_taken += try_mutations(&random, text, 40);
		free(yaml);
		free(text);
		json_decref(json);
		lb_config_free(config);
	}
	// Were all refused, the half of the property that is about right texts would be untested.
	assert_in_range(n_taken, 200, 5800);
}

/* Something that might be the value of a key. */
static json_t *random_value(uint64_t *random, unsigned depth)
{
	static const char *const texts[] = {"a", "tcp", "udp", "nat", "dsr", "10.0.1.9", "2001:db8::9",
		"all", "5s", "10ms", "drain", "enabled", "http", "none", "/x", "", "changed", "65537",
		"251", "true", "203.0.113.9", "10.0.0.1"};

	switch (random_below(random, depth < 3 ? 8 : 6)) {
	case 0:
		return json_integer((json_int_t)random_below(random, 300) - 10);
	case 1:
		return json_boolean(random_below(random, 2));
	case 2:
		return json_null();
	case 3:
	case 4:
	case 5:
		return json_string(texts[random_below(random, N(texts))]);
	case 6: {
		json_t *list = json_array();

		for (unsigned i = random_below(random, 3); i > 0; i--)
			json_array_append_new(list, random_value(random, depth + 1));
		return list;
	}
	default: {
		static const char *const keys[] = {"type", "interval", "path", "port", "name",
			"address", "rise", "host"};
		json_t *object = json_object();

		for (unsigned i = random_below(random, 3); i > 0; i--) {
			const char *key = keys[random_below(random, N(keys))];

			json_object_set_new(object, key, random_value(random, depth + 1));
		}
		return object;
	}
	}
}

static json_t *random_body(uint64_t *random)
{
	static const char *const keys[] = {"name", "vip", "port", "protocol", "mode", "table_size",
		"tracking", "mss", "idle_timeout", "min_healthy", "health_check", "backends", "address",
		"weight", "tier", "backup", "state", "weigth"};
	json_t *object = json_object();

	for (unsigned i = 1 + random_below(random, 2); i > 0; i--) {
		const char *key = keys[random_below(random, N(keys))];

		json_object_set_new(object, key, random_value(random, 0));
	}
	if (random_below(random, 4) == 0)
		json_object_set_new(object, "address", json_string("10.77.0.1"));
	return object;
}

static int random_change(uint64_t *random, struct lb_config *config, struct lb_config_error *error)
{
	const struct lb_config_service *service = config->n_services ?
		config->services[random_below(random, (uint32_t)config->n_services)] : NULL;
	const char *name = service ? service->name : "x";
	const char *backend = service && service->n_backends ?
		service->backends[random_below(random, (uint32_t)service->n_backends)].name : "y";
	json_t *body = random_body(random);
	int rc;

	switch (random_below(random, 12)) {
	case 0:
		rc = lb_config_service_add(config, body, error);
		break;
	case 1:
		rc = lb_config_service_del(config, name, error);
		break;
	case 2:
		rc = lb_config_backend_del(config, name, backend, error);
		break;
	case 3:
	case 4:
		rc = lb_config_backend_add(config, name, body, error);
		break;
	case 5:
	case 6:
	case 7:
		rc = lb_config_service_set(config, name, body, error);
		break;
	default:
		rc = lb_config_backend_set(config, name, backend, body, error);
	}
	json_decref(body);
	return rc;
}

static void random_changes_keep_the_config_valid(void **state)
{
	uint64_t random = 6;
	unsigned n_taken = 0, n_refused = 0;

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		struct lb_config *config = config_random(&random);

		for (unsigned j = 0; j < 80; j++) {
			struct lb_config *before = lb_config_clone(config);
			struct lb_config_error error;
			int rc = random_change(&random, config, &error);
			const char *problem;

			if (rc) {
				assert_true(rc == -EINVAL || rc == -ENOENT || rc == -EEXIST);
				assert_true(config_equal(before, config));
				assert_true(strlen(error.message) > 10);
				n_refused++;
			} else {
				problem = config_round_trip(config);
				if (problem)
					fail_msg("change %u of config %u: %s", j, i, problem);
				n_taken++;
			}
			lb_config_free(before);
		}
		lb_config_free(config);
	}
	assert_in_range(n_taken, 200, 4600);
	assert_int_equal(n_taken + n_refused, 60 * 80);
}

/* The largest config that is promised. Its time is a benchmark's matter; a quadratic one would show here. */
static void four_thousand_services_parse(void **state)
{
	size_t size = 8u << 20, used;
	char *text = malloc(size);
	struct lb_config_error error;
	struct lb_config *config;

	(void)state;
	used = (size_t)snprintf(text, size, "services:\n");
	for (unsigned i = 0; i < 4000; i++) {
		used += (size_t)snprintf(text + used, size - used, "  - name: service-%u\n"
			"    vip: 10.200.%u.%u\n    port: 443\n    protocol: tcp\n    backends:\n", i,
			i >> 8, i & 255);
		for (unsigned j = 0; j < 16; j++)
			used += (size_t)snprintf(text + used, size - used,
				"      - {name: backend-%u, address: 10.%u.%u.%u, port: 8080}\n", j, j,
				i >> 8, i & 255);
	}
	if (lb_config_parse("large", text, used, &config, &error))
		fail_msg("%s: %s", error.where, error.message);
	free(text);
	assert_int_equal(config->n_services, 4000);
	assert_int_equal(config->services[3999]->n_backends, 16);
	assert_int_equal(config->services[3999]->backends[15].line, 1 + 4000 * 21);
	assert_null(config_round_trip(config));
	lb_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(written_config_parses_to_its_equal),
		cmocka_unit_test(clone_is_equal),
		cmocka_unit_test(difference_back_is_the_reverse),
		cmocka_unit_test(order_makes_no_difference),
		cmocka_unit_test(mutated_texts_are_refused_or_right),
		cmocka_unit_test(random_changes_keep_the_config_valid),
		cmocka_unit_test(four_thousand_services_parse),
	};

	return cmocka_run_group_tests_name("config_random", tests, NULL, NULL);
}
