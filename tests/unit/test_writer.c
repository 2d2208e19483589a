/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control/json.h"
#include "control/writer.h"

/* What was written, as a string that the caller frees. */
static char *text_of(struct lb_writer *writer)
{
	char *text = strndup(writer->len > 0 ? writer->text : "", writer->len);

	assert_false(writer->failed);
	lb_writer_fini(writer);
	return text;
}

static void assert_written(struct lb_writer *writer, const char *expected)
{
	char *text = text_of(writer);

	assert_string_equal(text, expected);
	free(text);
}

static void values_are_laid_out_as_jansson_does_it(void **state)
{
	struct lb_writer writer = {0};
	char *text, *dumped;
	json_t *json;

	(void)state;
	lb_writer_open(&writer, NULL, '{');
	lb_writer_string(&writer, "name", "web");
	lb_writer_string(&writer, "empty", "");
	lb_writer_string(&writer, "none", NULL);
	lb_writer_int(&writer, "least", INT64_MIN);
	lb_writer_int(&writer, "zero", 0);
	lb_writer_u64(&writer, "most", UINT64_MAX);
	lb_writer_time(&writer, "never", 0);
	lb_writer_time(&writer, "once", 17);
	lb_writer_open(&writer, "list", '[');
	for (unsigned i = 0; i < 3; i++) {
		lb_writer_open(&writer, NULL, '{');
		lb_writer_bool(&writer, "even", i % 2 == 0);
		lb_writer_close(&writer, '}');
	}
	lb_writer_close(&writer, ']');
	lb_writer_open(&writer, "nothing", '[');
	lb_writer_close(&writer, ']');
	lb_writer_real(&writer, "share", 0.25);
	lb_writer_real(&writer, "no_share", 0);
	lb_writer_real(&writer, "whole", 1);
	lb_writer_real(&writer, "small", 0.000125);
	lb_writer_raw(&writer, "raw", "[1, 2]");
	lb_writer_json(&writer, "tree", json_pack("{s:i}", "i", 1));
	lb_writer_null(&writer, "null");
	lb_writer_close(&writer, '}');
	text = text_of(&writer);
	json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(json);
	dumped = json_dumps(json, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15));
	assert_string_equal(text, dumped);
	assert_int_equal(json_integer_value(json_object_get(json, "least")), INT64_MIN);
	assert_int_equal(json_integer_value(json_object_get(json, "most")), INT64_MAX);
	assert_true(json_is_null(json_object_get(json, "empty")) && json_is_null(json_object_get(json, "never")));
	assert_int_equal(json_array_size(json_object_get(json, "list")), 3);
	json_decref(json);
	free(dumped);
	free(text);
}

static void any_string_is_written_as_jansson_does_it(void **state)
{
	static const char *const known[] = {"\"", "\\", "\x01", "\x7f", "\xc3\xa9", "\xff", "a/b", "\xe2\x82", "\n\t"};
	struct lb_writer writer = {0};
	uint32_t seed = 1;

	(void)state;
	for (unsigned run = 0; run < 20000; run++) {
		char value[12] = {0}, *text, *dumped;
		json_t *json;

		for (unsigned i = 0; i < run % sizeof(value); i++) {
			seed = seed * 1664525 + 1013904223;
			value[i] = (char)(seed >> 24);
		}
		if (run < sizeof(known) / sizeof(known[0]))
			strcpy(value, known[run]);
		json = lb_json_text(value);
		dumped = json_dumps(json, JSON_ENCODE_ANY);
		lb_writer_string(&writer, NULL, value);
		text = text_of(&writer);
		assert_string_equal(text, dumped);
		json_decref(json);
		free(dumped);
		free(text);
	}
}

static void decimals_are_exact(void **state)
{
	static const uint64_t values[] = {0, 1, 9, 10, 99, 100, INT64_MAX, UINT64_MAX, UINT64_MAX - 1};
	struct lb_writer writer = {0};
	char expected[32];

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(expected, sizeof(expected), "%" PRIu64, values[i]);
		lb_writer_decimal(&writer, values[i]);
		assert_written(&writer, expected);
	}
}

static void a_format_of_any_length_is_written_whole(void **state)
{
	struct lb_writer writer = {0};
	char long_text[20000];

	(void)state;
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	lb_writer_text(&writer, "-");
	lb_writer_format(&writer, "<%s>%d", long_text, 7);
	lb_writer_format(&writer, "%s", "");
	lb_writer_text(&writer, "end");
	assert_int_equal(writer.len, 1 + sizeof(long_text) - 1 + 3 + 3);
	assert_memory_equal(writer.text, "-<xxx", 5);
	assert_memory_equal(writer.text + writer.len - 5, ">7end", 5);
	lb_writer_fini(&writer);
}

static void what_was_moved_is_the_buffers(void **state)
{
	struct lb_writer writer = {0};
	struct evbuffer *buffer = evbuffer_new();
	char text[16] = {0};

	(void)state;
	assert_non_null(buffer);
	assert_true(lb_writer_move(&writer, buffer)); // nothing
	lb_writer_open(&writer, NULL, '[');
	lb_writer_int(&writer, NULL, 1);
	assert_true(lb_writer_move(&writer, buffer));
	assert_int_equal(writer.len, 0);
	lb_writer_int(&writer, NULL, 2); // the comma is not forgotten
	lb_writer_close(&writer, ']');
	assert_true(lb_writer_move(&writer, buffer));
	lb_writer_fini(&writer);
	assert_int_equal(evbuffer_get_length(buffer), 6);
	assert_int_equal(evbuffer_remove(buffer, text, sizeof(text)), 6);
	assert_string_equal(text, "[1, 2]");
	evbuffer_free(buffer);
}

static void without_a_value_the_text_is_no_document(void **state)
{
	struct lb_writer writer = {0};
	struct evbuffer *buffer = evbuffer_new();

	(void)state;
	lb_writer_json(&writer, NULL, NULL);
	assert_true(writer.failed);
	assert_false(lb_writer_move(&writer, buffer));
	lb_writer_fini(&writer);
	lb_writer_raw(&writer, NULL, NULL);
	assert_true(writer.failed);
	lb_writer_text(&writer, "more");
	assert_false(lb_writer_move(&writer, buffer));
	assert_int_equal(evbuffer_get_length(buffer), 0);
	lb_writer_fini(&writer);
	evbuffer_free(buffer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_laid_out_as_jansson_does_it),
		cmocka_unit_test(any_string_is_written_as_jansson_does_it),
		cmocka_unit_test(decimals_are_exact),
		cmocka_unit_test(a_format_of_any_length_is_written_whole),
		cmocka_unit_test(what_was_moved_is_the_buffers),
		cmocka_unit_test(without_a_value_the_text_is_no_document),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
