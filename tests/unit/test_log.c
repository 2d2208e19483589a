/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lb/log.h"

static int saved_stderr, pipe_fds[2];
static char captured[65536];

/* From here to captured_lines(), standard error goes to a pipe that holds 64 KB. */
static void capture(void)
{
	assert_int_equal(0, pipe2(pipe_fds, O_NONBLOCK));
	saved_stderr = dup(STDERR_FILENO);
	assert_int_equal(STDERR_FILENO, dup2(pipe_fds[1], STDERR_FILENO));
}

/* Number of lines since capture(); they are in `captured`. */
static unsigned captured_lines(void)
{
	size_t len = 0;
	unsigned n = 0;
	ssize_t got;

	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(pipe_fds[1]);
	while ((got = read(pipe_fds[0], captured + len, sizeof(captured) - 1 - len)) > 0)
		len += (size_t)got;
	close(pipe_fds[0]);
	captured[len] = '\0';
	for (size_t i = 0; i < len; i++)
		n += captured[i] == '\n';
	return n;
}

static void assert_captured_matches(const char *pattern)
{
	regex_t regex;

	assert_int_equal(0, regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB));
	if (regexec(&regex, captured, 0, NULL, 0) != 0)
		fail_msg("\"%s\" does not match %s", captured, pattern);
	regfree(&regex);
}

static void line_has_time_level_and_topic(void **state)
{
	(void)state;
	unsetenv("JOURNAL_STREAM");
	capture();
	lb_log(LB_LOG_WARN, "health", "%s is %d", "api-1", 7);
	assert_int_equal(1, captured_lines());
	assert_captured_matches(
		"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
		"WARN health: api-1 is 7\n$");
}

static void journal_gets_no_time(void **state)
{
	(void)state;
	setenv("JOURNAL_STREAM", "9:12345", 1);
	capture();
	lb_log(LB_LOG_ERROR, "config", "line 3");
	assert_int_equal(1, captured_lines());
	assert_string_equal("ERROR config: line 3\n", captured);
}

static void lesser_levels_are_silent(void **state)
{
	(void)state;
	capture();
	lb_log(LB_LOG_DEBUG, "x", "not at start");
	lb_log_set_level(LB_LOG_DEBUG);
	lb_log(LB_LOG_DEBUG, "x", "1");
	lb_log_set_level(LB_LOG_ERROR);
	lb_log(LB_LOG_WARN, "x", "no");
	lb_log(LB_LOG_ERROR, "x", "2");
	lb_log_set_level(LB_LOG_INFO);
	lb_log(LB_LOG_INFO, "x", "3");
	assert_int_equal(3, captured_lines());
	assert_string_equal("DEBUG x: 1\nERROR x: 2\nINFO x: 3\n", captured);
}

static void hostile_text_cannot_forge_a_line(void **state)
{
	(void)state;
	capture();
	lb_log(LB_LOG_INFO, "api", "no service \"%s\"",
		"a\nERROR shm: gone\r\x1b[2J\x7f\tb\xc3\xa4");
	assert_int_equal(1, captured_lines());
	assert_string_equal(
		"INFO api: no service \"a?ERROR shm: gone??[2J??b\xc3\xa4\"\n", captured);
}

static void long_text_is_cut(void **state)
{
	char text[5000];

	(void)state;
	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (unsigned len = LB_LOG_LINE_MAX - 20; len < sizeof(text); len++) {
		char last = text[len];

		// no length overruns the line, whatever is in front
		text[len] = '\0';
		capture();
		lb_log(LB_LOG_INFO, "x", "%s", text);
		assert_int_equal(1, captured_lines());
		assert_in_range(strlen(captured), 1, LB_LOG_LINE_MAX);
		if (len >= LB_LOG_LINE_MAX)
			assert_string_equal("...\n", captured + strlen(captured) - 4);
		text[len] = last;
		len += len > LB_LOG_LINE_MAX + 5 ? 500 : 0;
	}
	capture();
	lb_log(LB_LOG_INFO, text, "long topic");
	assert_int_equal(1, captured_lines());
	assert_non_null(strstr(captured, "yyy: long topic\n"));
}

static void errno_is_left_alone(void **state)
{
	int fd = dup(STDERR_FILENO);

	(void)state;
	close(STDERR_FILENO);
	errno = ENOTTY;
	lb_log(LB_LOG_INFO, "x", "to nobody");
	assert_int_equal(ENOTTY, errno);
	dup2(fd, STDERR_FILENO);
	close(fd);
}

static void flood_is_limited_and_counted(void **state)
{
	struct lb_log_limit limit = {0};

	(void)state;
	capture();
	for (unsigned i = 0; i < 1000; i++)
		lb_log_limited(&limit, LB_LOG_WARN, "ring", "bad message %u", i);
	assert_int_equal(LB_LOG_LIMIT_N, captured_lines());
	assert_captured_matches("^WARN ring: bad message 0\n(.*\n){8}WARN ring: bad message 9\n$");
	assert_int_equal(990, limit.n_suppressed);

	// the window ends
	limit.window_ns -= LB_LOG_LIMIT_NS;
	capture();
	lb_log_limited(&limit, LB_LOG_WARN, "ring", "bad message again");
	lb_log_limited(&limit, LB_LOG_WARN, "ring", "and again");
	assert_int_equal(3, captured_lines());
	assert_string_equal("WARN ring: 990 lines like the next were suppressed\n"
			    "WARN ring: bad message again\nWARN ring: and again\n",
		captured);
}

static void rare_lines_are_not_limited(void **state)
{
	struct lb_log_limit limit = {0};

	(void)state;
	capture();
	for (unsigned i = 0; i < 100; i++) {
		lb_log_limited(&limit, LB_LOG_INFO, "x", "%u", i);
		limit.window_ns -= LB_LOG_LIMIT_NS / LB_LOG_LIMIT_N;
	}
	assert_int_equal(100, captured_lines());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(line_has_time_level_and_topic),
		cmocka_unit_test(journal_gets_no_time),
		cmocka_unit_test(lesser_levels_are_silent),
		cmocka_unit_test(hostile_text_cannot_forge_a_line),
		cmocka_unit_test(long_text_is_cut),
		cmocka_unit_test(errno_is_left_alone),
		cmocka_unit_test(flood_is_limited_and_counted),
		cmocka_unit_test(rare_lines_are_not_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
