/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/writer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/json.h"

#define MIN_BYTES 4096u

void lb_writer_fini(struct lb_writer *writer)
{
	free(writer->text);
	*writer = (struct lb_writer){0};
}

/* Room for @p n more bytes. */
static bool reserve(struct lb_writer *writer, size_t n)
{
	size_t n_allocated = writer->n_allocated;
	char *text;

	if (writer->failed)
		return false;
	if (n <= n_allocated - writer->len)
		return true;
	n_allocated = 2 * n_allocated + n + MIN_BYTES;
	text = realloc(writer->text, n_allocated);
	writer->failed = text == NULL;
	if (text == NULL)
		return false;
	writer->text = text;
	writer->n_allocated = n_allocated;
	return true;
}

static void free_text(const void *data, size_t len, void *arg)
{
	(void)data, (void)len;
	free(arg);
}

bool lb_writer_move(struct lb_writer *writer, struct evbuffer *buffer)
{
	if (writer->failed)
		return false;
	if (writer->len == 0)
		return true;
	if (evbuffer_add_reference(buffer, writer->text, writer->len, free_text, writer->text) < 0)
		return false;
	writer->text = NULL;
	writer->len = writer->n_allocated = 0;
	return true;
}

void lb_writer_bytes(struct lb_writer *writer, const char *bytes, size_t n)
{
	if (!reserve(writer, n))
		return;
	memcpy(writer->text + writer->len, bytes, n);
	writer->len += n;
}

void lb_writer_text(struct lb_writer *writer, const char *text)
{
	lb_writer_bytes(writer, text, strlen(text));
}

void lb_writer_decimal(struct lb_writer *writer, uint64_t value)
{
	char digits[20];
	size_t first = sizeof(digits);

	do {
		digits[--first] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	lb_writer_bytes(writer, digits + first, sizeof(digits) - first);
}

void lb_writer_format(struct lb_writer *writer, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n < 0 || !reserve(writer, (size_t)n + 1)) // with the NUL
		return;
	va_start(args, format);
	vsnprintf(writer->text + writer->len, (size_t)n + 1, format, args);
	va_end(args);
	writer->len += (size_t)n;
}

/* JSON. */

static void begin_value(struct lb_writer *writer, const char *key)
{
	if (writer->has_before)
		lb_writer_bytes(writer, ", ", 2);
	writer->has_before = true;
	if (key == NULL)
		return;
	lb_writer_bytes(writer, "\"", 1);
	lb_writer_text(writer, key);
	lb_writer_bytes(writer, "\": ", 3);
}

void lb_writer_open(struct lb_writer *writer, const char *key, char bracket)
{
	begin_value(writer, key);
	lb_writer_bytes(writer, &bracket, 1);
	writer->has_before = false;
}

void lb_writer_close(struct lb_writer *writer, char bracket)
{
	lb_writer_bytes(writer, &bracket, 1);
	writer->has_before = true;
}

/* Whether @p text can stand between quotes as it is. */
static bool is_plain(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text < 0x20 || *text > 0x7e || *text == '"' || *text == '\\')
			return false;
	return true;
}

void lb_writer_string(struct lb_writer *writer, const char *key, const char *value)
{
	if (value == NULL || value[0] == '\0' || !is_plain(value)) {
		lb_writer_json(writer, key, lb_json_text(value)); // rare: jansson knows the rules
		return;
	}
	begin_value(writer, key);
	lb_writer_bytes(writer, "\"", 1);
	lb_writer_text(writer, value);
	lb_writer_bytes(writer, "\"", 1);
}

void lb_writer_int(struct lb_writer *writer, const char *key, int64_t value)
{
	begin_value(writer, key);
	if (value < 0)
		lb_writer_bytes(writer, "-", 1);
	lb_writer_decimal(writer, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void lb_writer_u64(struct lb_writer *writer, const char *key, uint64_t value)
{
	begin_value(writer, key);
	lb_writer_decimal(writer, value <= INT64_MAX ? value : INT64_MAX);
}

void lb_writer_time(struct lb_writer *writer, const char *key, uint64_t time_ns)
{
	if (time_ns > 0)
		lb_writer_u64(writer, key, time_ns);
	else
		lb_writer_null(writer, key);
}

void lb_writer_bool(struct lb_writer *writer, const char *key, bool value)
{
	begin_value(writer, key);
	lb_writer_text(writer, value ? "true" : "false");
}

void lb_writer_null(struct lb_writer *writer, const char *key)
{
	begin_value(writer, key);
	lb_writer_bytes(writer, "null", 4);
}

void lb_writer_real(struct lb_writer *writer, const char *key, double value)
{
	char text[40];

	if (value == 0.0) { // most backends that are down; a format takes as long as ten integers
		begin_value(writer, key);
		lb_writer_bytes(writer, "0.0", 3);
		return;
	}
	snprintf(text, sizeof(text), "%.15g", value);
	begin_value(writer, key);
	lb_writer_text(writer, text);
	if (strpbrk(text, ".e") == NULL)
		lb_writer_bytes(writer, ".0", 2);
}

static int append(const char *bytes, size_t n, void *arg)
{
	lb_writer_bytes(arg, bytes, n);
	return 0;
}

#define DUMP_FLAGS (JSON_PRESERVE_ORDER | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))

void lb_writer_json(struct lb_writer *writer, const char *key, json_t *json)
{
	begin_value(writer, key);
	if (json == NULL || json_dump_callback(json, append, writer, DUMP_FLAGS) < 0)
		writer->failed = true;
	json_decref(json);
}

void lb_writer_raw(struct lb_writer *writer, const char *key, const char *json)
{
	begin_value(writer, key);
	if (json != NULL)
		lb_writer_text(writer, json);
	else
		writer->failed = true;
}
