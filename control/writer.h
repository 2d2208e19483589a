/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_WRITER_H
#define LB_CONTROL_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/buffer.h>
#include <jansson.h>

/*
 * A growing text, and JSON written into it as it goes: for documents about thousands of objects, of which a tree
 * (jansson's) takes some ten times as long to build, to write and to free. Without memory nothing more is
 * written and `failed` is set, for whoever reads it at the end.
 *
 * JSON is laid out as jansson does it: {"key": value, "key": [value, value]}. Keys are literals that need no
 * escapes. A value has the key NULL in an array, and at the top.
 */
struct lb_writer {
	char *text; /* no NUL at its end */
	size_t len, n_allocated;
	bool failed;
	bool has_before; /* JSON: a value stands before, in the same object or array */
};

/** Free the text; the writer is as good as new. */
void lb_writer_fini(struct lb_writer *writer);

/** Append what was written to @p buffer, which takes it over, and go on with an empty text. @return false: no memory. */
bool lb_writer_move(struct lb_writer *writer, struct evbuffer *buffer);

void lb_writer_bytes(struct lb_writer *writer, const char *bytes, size_t n);
/** @p text up to its NUL, as it is. */
void lb_writer_text(struct lb_writer *writer, const char *text);
void lb_writer_decimal(struct lb_writer *writer, uint64_t value);
void lb_writer_format(struct lb_writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* JSON. */

/** @p bracket: '{' or '['. */
void lb_writer_open(struct lb_writer *writer, const char *key, char bracket);
/** @p bracket: '}' or ']'. */
void lb_writer_close(struct lb_writer *writer, char bracket);

/** null for NULL and ""; bytes that are no UTF-8 make every byte that is not ASCII a "?". */
void lb_writer_string(struct lb_writer *writer, const char *key, const char *value);
void lb_writer_int(struct lb_writer *writer, const char *key, int64_t value);
/** Counters from the region may hold anything, JSON's integers stop at 2^63 - 1. */
void lb_writer_u64(struct lb_writer *writer, const char *key, uint64_t value);
/** null for 0: a time that was not yet. */
void lb_writer_time(struct lb_writer *writer, const char *key, uint64_t time_ns);
void lb_writer_bool(struct lb_writer *writer, const char *key, bool value);
void lb_writer_null(struct lb_writer *writer, const char *key);
/** @p value finite, with 15 digits. */
void lb_writer_real(struct lb_writer *writer, const char *key, double value);
/** @p json: a value as text; NULL: no memory. */
void lb_writer_raw(struct lb_writer *writer, const char *key, const char *json);
/** @p json is taken; NULL: no memory. */
void lb_writer_json(struct lb_writer *writer, const char *key, json_t *json);

#endif
