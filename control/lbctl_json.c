/* SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "control/lbctl_api.h"

/* Values of the daemon's answers, and how they are shown. */

const char *lbctl_json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

double lbctl_json_number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

json_int_t lbctl_json_integer(const json_t *object, const char *key, json_int_t otherwise)
{
	const json_t *value = json_object_get(object, key);

	return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

bool lbctl_json_true(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

char *lbctl_json_format(const json_t *value)
{
	if (json_is_string(value))
		return lbctl_text_copy(json_string_value(value));
	if (json_is_integer(value))
		return lbctl_text_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
	if (json_is_real(value))
		return lbctl_text_printf("%.6g", json_real_value(value));
	if (json_is_boolean(value))
		return lbctl_text_copy(json_is_true(value) ? "yes" : "no");
	return lbctl_text_copy("");
}

double lbctl_json_span_s(
	const json_t *from, const char *from_key, const json_t *to, const char *to_key)
{
	double span = lbctl_json_number(to, to_key) - lbctl_json_number(from, from_key);

	return span < 0 ? 0 : span / 1e9;
}

void lbctl_cell_value(
	struct lbctl_table *table, enum lbctl_colour colour, const json_t *object, const char *key)
{
	char *text = lbctl_json_format(json_object_get(object, key));

	lbctl_table_add(table, colour, text);
	free(text);
}

void lbctl_cell_si(struct lbctl_table *table, enum lbctl_colour colour, double value)
{
	char buf[LBCTL_TEXT_NUMBER_BYTES];

	lbctl_table_add(table, colour, lbctl_text_format_si(value, buf));
}

void lbctl_cell_state(struct lbctl_table *table, const json_t *object)
{
	const json_t *backends = json_object_get(object, "backends"), *backend;
	const char *state = lbctl_json_text(object, "effective");
	size_t i, n_up = 0, n = json_array_size(backends);

	if (!json_is_array(backends)) {
		lbctl_table_add(table, lbctl_state_colour(state), state);
		return;
	}
	json_array_foreach (backends, i, backend)
		n_up += strcmp(lbctl_json_text(backend, "effective"), "up") == 0;
	lbctl_table_addf(table, n_up == n ? LBCTL_GREEN : n_up > 0 ? LBCTL_YELLOW : LBCTL_RED, "%zu/%zu up", n_up, n);
}

void lbctl_cell_span(struct lbctl_table *table, double seconds)
{
	char buf[LBCTL_TEXT_NUMBER_BYTES];

	lbctl_table_add(table, LBCTL_PLAIN, lbctl_text_format_span(seconds, buf));
}

char *lbctl_json_endpoint(const json_t *object, const char *address_key)
{
	const char *address = lbctl_json_text(object, address_key);
	const json_t *port = json_object_get(object, "port");
	bool all_ports = json_is_integer(port) && json_integer_value(port) == 0;
	char *port_text = all_ports ? lbctl_text_copy("all") : lbctl_json_format(port);
	bool ipv6 = strchr(address, ':') != NULL;
	char *text = lbctl_text_printf("%s%s%s:%s", ipv6 ? "[" : "", address, ipv6 ? "]" : "",
		*port_text ? port_text : "?");

	free(port_text);
	return text;
}

enum lbctl_colour lbctl_state_colour(const char *state)
{
	static const struct {
		const char *state;
		enum lbctl_colour colour;
	} colours[] = {
		{"up", LBCTL_GREEN},
		{"ok", LBCTL_GREEN},
		{"resolved", LBCTL_GREEN},
		{"drain", LBCTL_YELLOW},
		{"degraded", LBCTL_YELLOW},
		{"syncing", LBCTL_YELLOW},
		{"unknown", LBCTL_YELLOW},
		{"changed", LBCTL_YELLOW},
		{"down", LBCTL_RED},
		{"unresolved", LBCTL_RED},
	};

	for (size_t i = 0; i < sizeof(colours) / sizeof(colours[0]); i++) {
		if (strcmp(colours[i].state, state) == 0)
			return colours[i].colour;
	}
	return LBCTL_PLAIN;
}

void lbctl_print_field(const struct lbctl *ctl, const char *label, enum lbctl_colour colour,
	const char *format, ...)
{
	bool coloured = ctl->colour && colour != LBCTL_PLAIN;
	char *text = NULL, *escaped;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	if (n < 0)
		return;
	escaped = lbctl_text_escape(*text ? text : "-");
	printf("%-16s%s%s%s\n", label, coloured ? lbctl_table_sequence(colour) : "", escaped,
		coloured ? lbctl_table_sequence(LBCTL_PLAIN) : "");
	free(escaped);
	free(text);
}
