/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/parser.h"

#define GOOD "services: none\n"

static struct event_base *base;
static struct lb_parser *parser;
static char told[16]; /* the jobs in the order in which they ended */
static int last_rc;
static char last_where[300];

static int setup(void **state)
{
	(void)state;
	base = event_base_new();
	parser = lb_parser_create(base);
	assert_non_null(base);
	assert_non_null(parser);
	told[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lb_parser_destroy(parser);
	event_base_free(base);
	return 0;
}

/* @p arg: a letter. */
static void on_done(void *arg, int rc, struct lb_config *config, const struct lb_config_error *error, const char *text,
	size_t len)
{
	size_t n = strlen(told);

	assert_true(n + 1 < sizeof(told));
	told[n] = *(const char *)arg;
	told[n + 1] = '\0';
	last_rc = rc;
	assert_true((rc == 0) == (config != NULL));
	assert_true(len > 0 && memchr(text, '\n', len) != NULL);
	snprintf(last_where, sizeof(last_where), "%s", error->where);
	lb_config_free(config);
}

static struct lb_parse_job *submit(const char *text, const char *letter)
{
	struct evbuffer *buffer = evbuffer_new();
	struct lb_parse_job *job;

	assert_int_equal(evbuffer_add(buffer, text, strlen(text)), 0);
	job = lb_parser_submit(parser, "file.yaml", buffer, on_done, (void *)(uintptr_t)letter);
	assert_non_null(job);
	assert_int_equal(evbuffer_get_length(buffer), 0);
	evbuffer_free(buffer);
	return job;
}

/* Until all of @p letters were told. */
static void run_until(const char *letters)
{
	while (strlen(told) < strlen(letters))
		event_base_loop(base, EVLOOP_ONCE);
	assert_string_equal(told, letters);
}

static void texts_are_parsed_in_their_order(void **state)
{
	(void)state;
	submit(GOOD, "a");
	submit("services:\n  - 5\n", "b");
	submit(GOOD, "c");
	assert_string_equal(told, ""); // from the loop only
	run_until("abc");
	assert_int_equal(last_rc, 0);
}

static void what_is_wrong_is_told_with_its_place(void **state)
{
	(void)state;
	submit("\nservices:\n  - 5\n", "a");
	run_until("a");
	assert_int_equal(last_rc, -EINVAL);
	assert_string_equal(last_where, "file.yaml:3");
}

/* Whether its turn has come or not. */
static void nobody_hears_of_a_job_that_was_cancelled(void **state)
{
	char *large = malloc(1 << 20);
	struct lb_parse_job *first, *second;

	(void)state;
	memset(large, '#', (1 << 20) - 1);
	large[(1 << 20) - 2] = '\n';
	large[(1 << 20) - 1] = '\0';
	for (unsigned i = 0; i < 20; i++) {
		first = submit(large, "x");
		second = submit(GOOD, "y");
		submit(GOOD, "a");
		if (i % 2 == 0)
			lb_parser_cancel(parser, second);
		lb_parser_cancel(parser, first);
		if (i % 2 != 0)
			lb_parser_cancel(parser, second);
		told[0] = '\0';
		run_until("a");
	}
	free(large);
}

static void it_ends_with_jobs_left(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++)
		submit(GOOD, "x"); // some are done by then, and not told
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(texts_are_parsed_in_their_order),
		TEST(what_is_wrong_is_told_with_its_place),
		TEST(nobody_hears_of_a_job_that_was_cancelled),
		TEST(it_ends_with_jobs_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
