/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/lbctl_text.h"

static int set_locale(void **state)
{
	(void)state;
	return setlocale(LC_CTYPE, "C.UTF-8") != NULL ? 0 : -1;
}

static void assert_escaped(const char *text, const char *expected)
{
	char *escaped = lbctl_text_escape(text);

	assert_string_equal(escaped, expected);
	free(escaped);
}

static void control_characters_are_escaped(void **state)
{
	(void)state;
	assert_escaped("\033[2Jgone\a\n\t\r\177", "\\x1b[2Jgone\\x07\\n\\t\\r\\x7f");
	assert_escaped("\xc2\x9b"
		       "31m", "\\u009b31m"); // the one-character CSI
}

static void invisible_and_reordering_characters_are_escaped(void **state)
{
	(void)state;
	assert_escaped("a\xe2\x80\xae"
		       "b", "a\\u202eb"); // right-to-left override
	assert_escaped("a\xe2\x80\x8b"
		       "b", "a\\u200bb"); // zero-width space
	assert_escaped("a\xe2\x80\xa8"
		       "b", "a\\u2028b"); // line separator
	assert_escaped("\xf3\xa0\x80\x81", "\\U000e0001"); // language tag
}

static void invalid_utf8_is_escaped_byte_by_byte(void **state)
{
	(void)state;
	assert_escaped("\xff", "\\xff");
	assert_escaped("\xc3", "\\xc3");
	assert_escaped("\xc0\xaf", "\\xc0\\xaf");
	assert_escaped("\xed\xa0\x80", "\\xed\\xa0\\x80"); // a surrogate
}

static void ordinary_text_is_left_alone(void **state)
{
	(void)state;
	assert_escaped("", "");
	assert_escaped("[2001:db8::1]:443 {x} \\ %s", "[2001:db8::1]:443 {x} \\ %s");
	assert_escaped("Z\xc3\xbcrich \xe6\x9d\xb1", "Z\xc3\xbcrich \xe6\x9d\xb1");
}

// Every byte pair: the escaped text holds nothing that a terminal would act on.
static void escaped_text_is_always_printable(void **state)
{
	(void)state;
	for (unsigned a = 1; a < 256; a++) {
		for (unsigned b = 1; b < 256; b++) {
			const char text[3] = {(char)a, (char)b, '\0'};
			char *escaped = lbctl_text_escape(text);

			for (const char *c = escaped; *c != '\0'; c++) {
				assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
				assert_false(c[0] == '\xc2' && (unsigned char)c[1] < 0xa0);
			}
			assert_true(lbctl_text_width(escaped) > 0);
			free(escaped);
		}
	}
}

static void width_counts_columns(void **state)
{
	(void)state;
	assert_int_equal(lbctl_text_width(""), 0);
	assert_int_equal(lbctl_text_width("abc"), 3);
	assert_int_equal(lbctl_text_width("Z\xc3\xbcrich"), 6);
	assert_int_equal(lbctl_text_width("\xe6\x9d\xb1"), 2); // a wide character
}

static void durations_are_parsed_in_every_unit(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {
		{"0s", 0}, {"500ms", 500}, {"2s", 2000}, {"15m", 900000}, {"2h", 7200000},
		{"1d", 86400000}, {"007s", 7000}, {"366d", LBCTL_TEXT_DURATION_MAX_MS},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t ms = 1;

		assert_int_equal(lbctl_text_parse_duration(good[i].text, &ms), 0);
		assert_true(ms == good[i].ms);
	}
}

static void bad_durations_are_refused(void **state)
{
	static const char *const bad[] = {
		"", "5", "s", "-5s", "+5s", " 5s", "5 s", "5s ", "1.5s", "5S", "5sec", "1h30m",
		"0x5s", "five",
	};
	static const char *const too_long[] = {"367d", "99999999999999999999999999999ms",
		"18446744073709551616s"};
	uint64_t ms = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(lbctl_text_parse_duration(bad[i], &ms), -EINVAL);
	for (size_t i = 0; i < sizeof(too_long) / sizeof(too_long[0]); i++)
		assert_int_equal(lbctl_text_parse_duration(too_long[i], &ms), -ERANGE);
	assert_true(ms == 42);
}

static void numbers_are_parsed_within_their_range(void **state)
{
	uint64_t n = 42;

	(void)state;
	assert_int_equal(lbctl_text_parse_number("", 0, 9, &n), -EINVAL);
	assert_int_equal(lbctl_text_parse_number("-1", 0, 9, &n), -EINVAL);
	assert_int_equal(lbctl_text_parse_number("1e3", 0, 9999, &n), -EINVAL);
	assert_int_equal(lbctl_text_parse_number("10", 0, 9, &n), -ERANGE);
	assert_int_equal(lbctl_text_parse_number("1", 2, 9, &n), -ERANGE);
	assert_int_equal(
		lbctl_text_parse_number("18446744073709551616", 0, UINT64_MAX, &n), -ERANGE);
	assert_true(n == 42);
	assert_int_equal(lbctl_text_parse_number("18446744073709551615", 0, UINT64_MAX, &n), 0);
	assert_true(n == UINT64_MAX);
}

static void rates_have_three_digits_and_a_prefix(void **state)
{
	static const struct {
		double value;
		const char *text;
	} cases[] = {
		{0, "0"}, {7, "7"}, {999, "999"}, {0.25, "0.25"}, {12.34, "12.3"}, {999.4, "999"},
		{999.6, "1.00k"}, {1000, "1.00k"}, {1234, "1.23k"}, {45600, "45.6k"},
		{99960, "100k"},
		{999499, "999k"}, {999500, "1.00M"}, {14.88e6, "14.9M"}, {1e9, "1.00G"},
		{1e18, "1.00E"},
		{1e30, ">999E"}, {INFINITY, ">999E"}, {-1, "-"}, {NAN, "-"},
	};
	char buf[LBCTL_TEXT_NUMBER_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(lbctl_text_format_si(cases[i].value, buf), cases[i].text);
}

static void spans_have_their_two_largest_units(void **state)
{
	static const struct {
		double s;
		const char *text;
	} cases[] = {
		{0, "0s"}, {0.35, "350ms"}, {4, "4s"}, {59.9, "59s"}, {60, "1m"}, {200, "3m 20s"},
		{3600, "1h"}, {3661, "1h 1m"}, {86399, "23h 59m"}, {90000, "1d 1h"},
		{1e12, "forever"},
		{1e300, "forever"}, {-1, "-"}, {NAN, "-"},
	};
	char buf[LBCTL_TEXT_NUMBER_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(lbctl_text_format_span(cases[i].s, buf), cases[i].text);
}

static void times_are_local_with_milliseconds(void **state)
{
	char buf[LBCTL_TEXT_NUMBER_BYTES];

	(void)state;
	setenv("TZ", "UTC0", 1);
	assert_string_equal(lbctl_text_format_time(1753790000.25, buf), "2025-07-29 11:53:20.250");
	assert_string_equal(lbctl_text_format_time(0, buf), "-");
	assert_string_equal(lbctl_text_format_time(-1e18, buf), "-");
	assert_string_equal(lbctl_text_format_time(1e18, buf), "-");
	assert_string_equal(lbctl_text_format_time(NAN, buf), "-");
	assert_string_equal(lbctl_text_format_time(INFINITY, buf), "-");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control_characters_are_escaped),
		cmocka_unit_test(invisible_and_reordering_characters_are_escaped),
		cmocka_unit_test(invalid_utf8_is_escaped_byte_by_byte),
		cmocka_unit_test(ordinary_text_is_left_alone),
		cmocka_unit_test(escaped_text_is_always_printable),
		cmocka_unit_test(width_counts_columns),
		cmocka_unit_test(durations_are_parsed_in_every_unit),
		cmocka_unit_test(bad_durations_are_refused),
		cmocka_unit_test(numbers_are_parsed_within_their_range),
		cmocka_unit_test(rates_have_three_digits_and_a_prefix),
		cmocka_unit_test(spans_have_their_two_largest_units),
		cmocka_unit_test(times_are_local_with_milliseconds),
	};

	return cmocka_run_group_tests_name("lbctl_text", tests, set_locale, NULL);
}
