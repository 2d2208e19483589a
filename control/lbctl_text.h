/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_LBCTL_TEXT_H
#define LB_CONTROL_LBCTL_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * Text for a terminal. Whatever comes from the daemon, from a file or from the command line may
 * hold escape sequences: it goes through lbctl_text_escape() before it is printed. Text is taken
 * for UTF-8 when the LC_CTYPE locale is a UTF-8 one (lbctl sets C.UTF-8); other bytes are escaped.
 */

#define LBCTL_TEXT_NUMBER_BYTES 32 /* enough for each lbctl_text_format_*() */

/**
 * A printable copy of @p text: control characters, invalid UTF-8, and characters without a width
 * (they could reorder or hide text) become "\n", "\t", "\r", "\x1b" or "\u202e".
 * @return the copy, to be freed; never NULL (the program ends without memory).
 */
char *lbctl_text_escape(const char *text);

/** Columns that an escaped @p text takes on a terminal. */
size_t lbctl_text_width(const char *text);

/**
 * Parse a duration as the configuration has it: a whole number and a unit, "500ms", "2s", "15m",
 * "1h", "1d".
 * @return 0 and @p ms; -EINVAL no duration; -ERANGE longer than LBCTL_TEXT_DURATION_MAX_MS.
 */
int lbctl_text_parse_duration(const char *text, uint64_t *ms);
#define LBCTL_TEXT_DURATION_MAX_MS (UINT64_C(366) * 86400 * 1000)

/**
 * Parse a whole decimal number of @p min..@p max (no sign, no space).
 * @return 0 and @p value; -EINVAL no number; -ERANGE out of the range.
 */
int lbctl_text_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *value);

/**
 * "0", "999", "1.23k", "45.6M", "789G": three digits and an SI prefix; "-" for NaN or a
 * negative.
 */
char *lbctl_text_format_si(double value, char buf[LBCTL_TEXT_NUMBER_BYTES]);

/**
 * A span in the two largest units that say something: "350ms", "4s", "3m 20s", "2h 5m", "12d
 * 3h".
 */
char *lbctl_text_format_span(double seconds, char buf[LBCTL_TEXT_NUMBER_BYTES]);

/**
 * Local time, "2026-05-31 17:03:09.123", of a UNIX time in seconds; "-" when it is 0 or beyond
 * year 9999.
 */
char *lbctl_text_format_time(double unix_s, char buf[LBCTL_TEXT_NUMBER_BYTES]);

/** printf into new memory, to be freed; never NULL. */
char *lbctl_text_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** realloc() and strdup() that end the program, with a message and status 1, without memory. */
void *lbctl_text_realloc(void *old, size_t size_bytes);
char *lbctl_text_copy(const char *text);

#endif
