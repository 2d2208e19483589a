/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/lbctl_text.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
#include <wctype.h>

void *lbctl_text_realloc(void *old, size_t size_bytes)
{
	void *memory = realloc(old, size_bytes ? size_bytes : 1);

	if (memory == NULL) {
		fputs("lbctl: out of memory\n", stderr);
		exit(1);
	}
	return memory;
}

char *lbctl_text_copy(const char *text)
{
	size_t n = strlen(text) + 1;

	return memcpy(lbctl_text_realloc(NULL, n), text, n);
}

char *lbctl_text_printf(const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	if (n < 0)
		text = lbctl_text_copy("");
	return text;
}

/*
 * The character at @p text: its bytes, at least 1, and its columns; 0 columns: not to be printed as
 * it is. What is not valid UTF-8 is one byte with @p c set to WEOF.
 */
static size_t decode(const char *text, wint_t *c, int *n_columns)
{
	mbstate_t state = {0};
	wchar_t wide;
	size_t n = mbrtowc(&wide, text, strlen(text), &state);

	*n_columns = 0;
	if (n == 0 || n > MB_LEN_MAX) {
		*c = WEOF;
		return 1;
	}
	*c = (wint_t)wide;
	if (iswprint(*c) && wcwidth(wide) > 0)
		*n_columns = wcwidth(wide);
	return n;
}

static size_t escape_one(char *out, wint_t c, unsigned char byte)
{
	switch (c) {
	case '\n':
		return (size_t)sprintf(out, "\\n");
	case '\r':
		return (size_t)sprintf(out, "\\r");
	case '\t':
		return (size_t)sprintf(out, "\\t");
	default:
		if (c == WEOF || c < 0x80)
			return (size_t)sprintf(out, "\\x%02x", byte);
		return (size_t)sprintf(out, c > 0xffff ? "\\U%08x" : "\\u%04x", (unsigned)c);
	}
}

char *lbctl_text_escape(const char *text)
{
	// The longest growth: one bad byte becomes "\xNN"; a two-byte character becomes "\uNNNN".
	char *copy = lbctl_text_realloc(NULL, 4 * strlen(text) + 16);
	char *out = copy;

	while (*text != '\0') {
		wint_t c;
		int n_columns;
		size_t n = decode(text, &c, &n_columns);

		if (n_columns > 0) {
			memcpy(out, text, n);
			out += n;
		} else {
			out += escape_one(out, c, (unsigned char)*text);
		}
		text += n;
	}
	*out = '\0';
	return copy;
}

size_t lbctl_text_width(const char *text)
{
	size_t width = 0;

	while (*text != '\0') {
		wint_t c;
		int n_columns;

		text += decode(text, &c, &n_columns);
		width += (size_t)n_columns;
	}
	return width;
}

int lbctl_text_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	uint64_t n = 0;

	if (*text == '\0')
		return -EINVAL;
	if (text[strspn(text, "0123456789")] != '\0')
		return -EINVAL;
	for (; *text != '\0'; text++) {
		if (__builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return -ERANGE;
	}
	if (n < min || n > max)
		return -ERANGE;
	*value = n;
	return 0;
}

int lbctl_text_parse_duration(const char *text, uint64_t *ms)
{
	static const struct {
		char name[3];
		uint32_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
	size_t n_digits = strspn(text, "0123456789");
	char digits[24];
	uint64_t n;
	int r;

	if (n_digits == 0)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text + n_digits, units[i].name) != 0)
			continue;
		if (n_digits >= sizeof(digits))
			return -ERANGE;
		memcpy(digits, text, n_digits);
		digits[n_digits] = '\0';
		r = lbctl_text_parse_number(
			digits, 0, LBCTL_TEXT_DURATION_MAX_MS / units[i].ms, &n);
		if (r == 0)
			*ms = n * units[i].ms;
		return r;
	}
	return -EINVAL;
}

char *lbctl_text_format_si(double value, char buf[LBCTL_TEXT_NUMBER_BYTES])
{
	static const char prefixes[] = " kMGTPE";
	size_t i = 0;

	if (isnan(value) || value < 0) {
		strcpy(buf, "-");
		return buf;
	}
	// 999.5 would be rounded to a fourth digit.
	while (value >= 999.5 && i + 2 < sizeof(prefixes)) {
		value /= 1000;
		i++;
	}
	if (value >= 999.5)
		strcpy(buf, ">999E");
	else if (i == 0 && value == floor(value))
		snprintf(buf, LBCTL_TEXT_NUMBER_BYTES, "%.0f", value);
	else
		snprintf(buf, LBCTL_TEXT_NUMBER_BYTES, "%.*f%.*s",
			value < 9.995   ? 2
			: value < 99.95 ? 1
					: 0,
			value, i > 0, prefixes + i);
	return buf;
}

char *lbctl_text_format_span(double seconds, char buf[LBCTL_TEXT_NUMBER_BYTES])
{
	static const struct {
		char name, lower_name;
		uint64_t s, lower_s;
	} units[] = {{'d', 'h', 86400, 3600}, {'h', 'm', 3600, 60}, {'m', 's', 60, 1}};
	uint64_t s;

	if (isnan(seconds) || seconds < 0) {
		strcpy(buf, "-");
		return buf;
	}
	if (seconds >= 1e12) {
		strcpy(buf, "forever");
		return buf;
	}
	s = (uint64_t)seconds;
	if (s == 0) {
		snprintf(buf, LBCTL_TEXT_NUMBER_BYTES, seconds == 0 ? "0s" : "%.0fms",
			seconds * 1000);
		return buf;
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		uint64_t lower = s % units[i].s / units[i].lower_s;

		if (s < units[i].s)
			continue;
		if (lower == 0)
			snprintf(buf, LBCTL_TEXT_NUMBER_BYTES, "%llu%c",
				(unsigned long long)(s / units[i].s), units[i].name);
		else
			snprintf(buf, LBCTL_TEXT_NUMBER_BYTES, "%llu%c %llu%c",
				(unsigned long long)(s / units[i].s), units[i].name,
				(unsigned long long)lower, units[i].lower_name);
		return buf;
	}
	snprintf(buf, LBCTL_TEXT_NUMBER_BYTES, "%llus", (unsigned long long)s);
	return buf;
}

char *lbctl_text_format_time(double unix_s, char buf[LBCTL_TEXT_NUMBER_BYTES])
{
	const double year_10000 = 253402300800.0;
	struct tm tm;
	time_t s;
	size_t n;

	if (!(unix_s > 0 && unix_s < year_10000 - 86400)) {
		strcpy(buf, "-");
		return buf;
	}
	s = (time_t)unix_s;
	if (localtime_r(&s, &tm) == NULL) {
		strcpy(buf, "-");
		return buf;
	}
	n = strftime(buf, LBCTL_TEXT_NUMBER_BYTES, "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(buf + n, LBCTL_TEXT_NUMBER_BYTES - n, ".%03d",
		(int)((unix_s - (double)s) * 1000) % 1000);
	return buf;
}
