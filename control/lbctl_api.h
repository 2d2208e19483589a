/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_LBCTL_API_H
#define LB_CONTROL_LBCTL_API_H

#include <jansson.h>

#include "control/lbctl.h"
#include "control/lbctl_table.h"
#include "control/lbctl_text.h"

/*
 * Requests to the daemon, and its answers. An answer is not trusted: each key may be missing or of
 * another type; the getters then give a neutral value.
 */

/**
 * A path of the API in new memory, to be freed: @p format with "%s" only, each replaced by its
 * argument percent-encoded.
 */
char *lbctl_api_path(const char *format, ...);

/**
 * Make a request and take its JSON answer.
 * @param body    sent as JSON, not consumed; NULL: none.
 * @param answer  set to a JSON object when LBCTL_OK (to be given back); else to NULL.
 * @return LBCTL_OK with a 2xx answer. Else after an error message: LBCTL_UNREACHABLE;
 * LBCTL_NO_DATAPLANE (503, 504); LBCTL_FAILED (refused, or the answer cannot be understood).
 */
enum lbctl_exit lbctl_api_request(const struct lbctl *ctl, const char *method, const char *path,
	const json_t *body, json_t **answer);

/** lbctl_api_request() with GET. */
enum lbctl_exit lbctl_api_get(const struct lbctl *ctl, const char *path, json_t **answer);

/**
 * The same with a body and an answer of any kind.
 * @param text  set to the answer when LBCTL_OK, to be freed.
 */
enum lbctl_exit lbctl_api_raw(const struct lbctl *ctl, const char *method, const char *path,
	const char *body, size_t body_bytes, const char *content_type, char **text);

/** Wait until the daemon can be reached again, and say so; asks once a second. */
void lbctl_api_wait(const struct lbctl *ctl);

/** Whether no message is to be printed for a failed request: where it may fail. */
void lbctl_api_set_quiet(bool quiet);

/**
 * Parse @p text as a JSON object, to be given back. @return LBCTL_OK; LBCTL_FAILED after a
 * message.
 */
enum lbctl_exit lbctl_api_parse(const struct lbctl *ctl, const char *text, json_t **object);

/** Print @p value as a JSON document, indented, or on one line. */
void lbctl_api_print(const json_t *value, bool one_line);

/**
 * Warn on standard error when the top-level "dataplane" of @p answer is not "up".
 * @return LBCTL_NO_DATAPLANE when it is "down", else LBCTL_OK.
 */
enum lbctl_exit lbctl_api_check_dataplane(const struct lbctl *ctl, const json_t *answer);

/**
 * Send a change and show what it changed (docs/api.md, "Answers to changes").
 * @return LBCTL_OK; LBCTL_FAILED also where the data plane refused something.
 */
enum lbctl_exit lbctl_api_change(
	const struct lbctl *ctl, const char *method, const char *path, const json_t *body);

/** Show the answer to a change. @return as above. */
enum lbctl_exit lbctl_api_show_changes(const struct lbctl *ctl, const json_t *answer);

/* Getters: of key @p key of @p object, which may be NULL or no object. */
const char *lbctl_json_text(const json_t *object, const char *key); /* "" if no string */
double lbctl_json_number(const json_t *object, const char *key);    /* NaN if no number */
json_int_t lbctl_json_integer(const json_t *object, const char *key, json_int_t otherwise);
bool lbctl_json_true(const json_t *object, const char *key);

/**
 * Any scalar of @p value as text in new memory: a string as it is, numbers, "yes"/"no", "" for
 * null and others.
 */
char *lbctl_json_format(const json_t *value);

/**
 * Seconds between two times "*_ns" of two objects, 0 if the later is before the earlier; NaN if
 * one is unknown.
 */
double lbctl_json_span_s(
	const json_t *from, const char *from_key, const json_t *to, const char *to_key);

/**
 * Cells: a scalar as it is, a number with an SI prefix, a duration in seconds; "-" where
 * unknown.
 */
void lbctl_cell_value(
	struct lbctl_table *table, enum lbctl_colour colour, const json_t *object, const char *key);
void lbctl_cell_si(struct lbctl_table *table, enum lbctl_colour colour, double value);
void lbctl_cell_span(struct lbctl_table *table, double seconds);

/** The state of an object of /v1/stats: a backend's own; of a service how many of its backends are up, "3/4 up". */
void lbctl_cell_state(struct lbctl_table *table, const json_t *object);

/**
 * "ADDRESS:PORT" of an object's @p address_key and "port", with brackets for IPv6; in new
 * memory. Port 0 shows as "all".
 */
char *lbctl_json_endpoint(const json_t *object, const char *address_key);

/** The colour of a state's name: up, ok, true green; drain, degraded, syncing yellow; down red. */
enum lbctl_colour lbctl_state_colour(const char *state);

/** Print "  LABEL  VALUE" with the label padded; escapes the value. */
void lbctl_print_field(const struct lbctl *ctl, const char *label, enum lbctl_colour colour,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
