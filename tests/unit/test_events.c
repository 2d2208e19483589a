/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "control/events.h"
#include "lb/log.h"

/* What the API tells; new reference. */
static json_t *events_json(const struct lb_events *of, uint64_t since, uint32_t limit)
{
	struct lb_writer out = {0};
	json_t *json;

	lb_events_write(of, since, limit, &out);
	json = json_loadb(out.text, out.len, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(json);
	lb_writer_fini(&out);
	return json;
}

/* Fill with @p n events whose causes are their numbers. */
static struct lb_events *make(uint32_t capacity, unsigned n)
{
	struct lb_events *events = lb_events_create(capacity);

	assert_non_null(events);
	for (unsigned i = 1; i <= n; i++)
		lb_events_add(events, "test", "subject", "up", NULL, "%u", i);
	return events;
}

static void check(const struct lb_events *events, uint64_t since, uint32_t limit, json_int_t first,
	json_int_t last, json_int_t n_lost, json_int_t from, json_int_t to)
{
	json_t *json = events_json(events, since, limit),
	       *list = json_object_get(json, "events");
	size_t n = to >= from ? (size_t)(to - from + 1) : 0;

	assert_int_equal(json_integer_value(json_object_get(json, "first_seq")), first);
	assert_int_equal(json_integer_value(json_object_get(json, "last_seq")), last);
	assert_int_equal(json_integer_value(json_object_get(json, "n_lost")), n_lost);
	assert_int_equal(json_array_size(list), n);
	for (size_t i = 0; i < n; i++) {
		json_t *event = json_array_get(list, i);
		json_int_t seq = json_integer_value(json_object_get(event, "seq"));

		assert_int_equal(seq, from + (json_int_t)i);
		assert_int_equal(atoll(json_string_value(json_object_get(event, "cause"))), seq);
		assert_string_equal(json_string_value(json_object_get(event, "from")), "up");
		assert_true(json_is_null(json_object_get(event, "to")));
	}
	json_decref(json);
}

static void an_empty_log_has_no_sequence(void **state)
{
	struct lb_events *events = make(4, 0);

	(void)state;
	check(events, 0, 100, 0, 0, 0, 1, 0);
	check(events, 5, 100, 0, 0, 0, 1, 0);
	lb_events_destroy(events);
}

static void since_gives_what_came_after(void **state)
{
	struct lb_events *events = make(10, 7);

	(void)state;
	check(events, 0, 100, 1, 7, 0, 1, 7);
	check(events, 3, 100, 1, 7, 0, 4, 7);
	check(events, 7, 100, 1, 7, 0, 1, 0);
	check(events, 99, 100, 1, 7, 0, 1, 0);
	lb_events_destroy(events);
}

static void old_events_are_lost_and_counted(void **state)
{
	struct lb_events *events = make(10, 25);

	(void)state;
	check(events, 0, 100, 16, 25, 0, 16, 25);
	check(events, 10, 100, 16, 25, 5, 16, 25);
	check(events, 15, 100, 16, 25, 0, 16, 25);
	check(events, 20, 100, 16, 25, 0, 21, 25);
	lb_events_destroy(events);
}

static void a_limit_takes_the_newest_or_goes_on_from_since(void **state)
{
	struct lb_events *events = make(10, 25);

	(void)state;
	check(events, 0, 3, 16, 25, 0, 23, 25);
	check(events, 18, 3, 16, 25, 0, 19, 21);
	check(events, 21, 3, 16, 25, 0, 22, 24);
	check(events, 24, 3, 16, 25, 0, 25, 25);
	lb_events_destroy(events);
}

static void hostile_text_stays_json(void **state)
{
	struct lb_events *events = lb_events_create(4);
	char longer[1000];
	json_t *json, *list;

	(void)state;
	memset(longer, 0, sizeof(longer));
	for (size_t i = 0; i + 3 < sizeof(longer); i += 3)
		memcpy(longer + i, "\xe2\x82\xac", 3); // the euro sign, cut somewhere in its middle
	lb_events_add(events, "test", longer, NULL, NULL, "%s", longer);
	lb_events_add(events, "test", "s", NULL, NULL, "bad \xff\xfe bytes");
	lb_events_add(events, "test", "s", "a state name much too long", NULL, NULL);
	json = events_json(events, 0, 10);
	list = json_object_get(json, "events");
	assert_int_equal(json_array_size(list), 3);
	assert_non_null(strstr(json_string_value(json_object_get(json_array_get(list, 0), "cause")),
		"\xe2\x82\xac"));
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "cause")),
		"bad ?? bytes");
	assert_true(json_is_null(json_object_get(json_array_get(list, 2), "cause")));
	json_decref(json);
	lb_events_destroy(events);
}

static void count(void *arg)
{
	++*(unsigned *)arg;
}

static void listeners_hear_of_each_event(void **state)
{
	struct lb_events *events = make(4, 1);
	unsigned n = 0;
	struct lb_events_listener listener = {.added = count, .arg = &n};

	(void)state;
	lb_events_listen(events, &listener);
	lb_events_add(events, "test", "s", NULL, NULL, NULL);
	lb_events_add(events, "test", "s", NULL, NULL, NULL);
	lb_events_unlisten(events, &listener);
	lb_events_add(events, "test", "s", NULL, NULL, NULL);
	assert_int_equal(n, 2);
	lb_events_destroy(events);
}

/* The level of the one line that such an event makes in the log. */
static void assert_level(const char *level, const char *kind, const char *from, const char *to)
{
	struct lb_events *events = make(4, 0);
	int saved = dup(STDERR_FILENO), pipe_fd[2];
	char line[LB_LOG_LINE_MAX] = "", wanted[160];

	assert_true(saved >= 0);
	assert_int_equal(0, pipe(pipe_fd));
	assert_true(dup2(pipe_fd[1], STDERR_FILENO) >= 0);
	lb_log_set_level(LB_LOG_INFO);
	lb_events_add(events, kind, "subject", from, to, "why");
	lb_log_set_level(LB_LOG_ERROR);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	close(pipe_fd[1]);
	assert_true(read(pipe_fd[0], line, sizeof(line) - 1) > 0);
	close(pipe_fd[0]);
	snprintf(wanted, sizeof(wanted), "%s events: %s: subject", level, kind);
	assert_non_null(strstr(line, wanted));
	assert_non_null(strstr(line, ": why\n"));
	lb_events_destroy(events);
}

static void what_went_down_or_was_refused_is_a_warning_in_the_log(void **state)
{
	(void)state;
	assert_level("WARN", "config_refused", NULL, NULL);
	assert_level("WARN", "dataplane_refused", NULL, NULL);
	assert_level("WARN", "dataplane_state", "up", "down");
	assert_level("WARN", "backend_state", "up", "down");
	assert_level("WARN", "service_state", "degraded", "down");
	assert_level("WARN", "port_link", NULL, "down");
	assert_level("INFO", "port_link", NULL, "up");
	assert_level("INFO", "backend_state", NULL, "down"); // a new one, not checked yet
	assert_level("INFO", "backend_state", "down", "up");
	assert_level("INFO", "backend_state", "down", NULL);
	assert_level("INFO", "dataplane_state", "down", "syncing");
	assert_level("INFO", "config_applied", NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_log_has_no_sequence),
		cmocka_unit_test(since_gives_what_came_after),
		cmocka_unit_test(old_events_are_lost_and_counted),
		cmocka_unit_test(a_limit_takes_the_newest_or_goes_on_from_since),
		cmocka_unit_test(hostile_text_stays_json),
		cmocka_unit_test(listeners_hear_of_each_event),
		cmocka_unit_test(what_went_down_or_was_refused_is_a_warning_in_the_log),
	};

	lb_log_set_level(LB_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
