/* SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "control/lbctl_views.h"

/* Mode fullnat's sessions and local ports, for status and stats. */

static void print_sessions(const struct lbctl *ctl, const json_t *workers)
{
	static const struct lbctl_column columns[] = {
		{"FULLNAT WORKER", true},
		{"SESSIONS", true},
		{"MAX", true},
		{"BEGUN", true},
		{"EXPIRED", true},
		{"EVICTED", true},
		{"FULL", true},
		{"NO PORT", true},
		{"HANDED OVER", true},
		{"TAKEN OVER", true},
	};
	static const char *const keys[] = {"used", "max", "insert", "expire", "evict", "full", "ports_exhausted",
		"handed_over", "taken_over"};
	struct lbctl_table *table =
		lbctl_table_create(columns, sizeof(columns) / sizeof(columns[0]));
	const json_t *worker;
	size_t i;

	json_array_foreach (workers, i, worker) {
		const json_t *sessions = json_object_get(worker, "sessions");

		lbctl_cell_value(table, LBCTL_PLAIN, worker, "id");
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
			bool bad = (k >= 4 && k <= 6) && lbctl_json_number(sessions, keys[k]) > 0;

			lbctl_cell_value(table, bad ? LBCTL_YELLOW : LBCTL_PLAIN, sessions, keys[k]);
		}
	}
	lbctl_table_print(table, stdout, 0, ctl->colour);
	lbctl_table_destroy(table);
}

static void print_locals(const struct lbctl *ctl, const json_t *workers)
{
	static const struct lbctl_column columns[] = {
		{"LOCAL ADDRESS", false},
		{"WORKER", true},
		{"PORTS USED", true},
		{"FREE", true},
		{"EXHAUSTED", true},
	};
	struct lbctl_table *table =
		lbctl_table_create(columns, sizeof(columns) / sizeof(columns[0]));
	const json_t *worker, *local;
	size_t i, k;

	json_array_foreach (workers, i, worker) {
		json_array_foreach (json_object_get(worker, "locals"), k, local) {
			bool exhausted = lbctl_json_number(local, "ports_exhausted") > 0;

			lbctl_cell_value(table, LBCTL_PLAIN, local, "address");
			lbctl_cell_value(table, LBCTL_PLAIN, worker, "id");
			lbctl_cell_value(table, LBCTL_PLAIN, local, "ports_used");
			lbctl_cell_value(table, LBCTL_PLAIN, local, "ports_free");
			lbctl_cell_value(table, exhausted ? LBCTL_YELLOW : LBCTL_PLAIN, local,
				"ports_exhausted");
		}
	}
	if (lbctl_table_n_rows(table) > 0) {
		putchar('\n');
		lbctl_table_print(table, stdout, 0, ctl->colour);
	}
	lbctl_table_destroy(table);
}

void lbctl_view_fullnat(const struct lbctl *ctl, const json_t *fullnat)
{
	const json_t *workers = json_object_get(fullnat, "workers");

	if (json_array_size(workers) == 0)
		return;
	putchar('\n');
	print_sessions(ctl, workers);
	print_locals(ctl, workers);
	putchar('\n');
}

static void print_session_use(const struct lbctl *ctl, const json_t *sessions)
{
	double used = lbctl_json_number(sessions, "used"), max = lbctl_json_number(sessions, "max");
	double percent = max > 0 ? 100 * used / max : NAN;
	char *used_text = lbctl_json_format(json_object_get(sessions, "used"));
	char *max_text = lbctl_json_format(json_object_get(sessions, "max"));
	char *full = lbctl_json_format(json_object_get(sessions, "full"));

	if (percent >= 0 && percent <= 100)
		lbctl_print_field(ctl, "sessions", percent > 90 ? LBCTL_YELLOW : LBCTL_PLAIN,
			"%s of %s used (%.1f%%), %s refused for want of room", used_text, max_text, percent,
			full);
	else
		lbctl_print_field(ctl, "sessions", LBCTL_PLAIN, "%s of %s used", used_text, max_text);
	free(full);
	free(max_text);
	free(used_text);
}

void lbctl_view_fullnat_use(const struct lbctl *ctl, const json_t *fullnat)
{
	const json_t *local;
	size_t i;

	if (!json_is_object(fullnat))
		return;
	print_session_use(ctl, json_object_get(fullnat, "sessions"));
	json_array_foreach (json_object_get(fullnat, "locals"), i, local) {
		char *used = lbctl_json_format(json_object_get(local, "ports_used"));
		char *n_free = lbctl_json_format(json_object_get(local, "ports_free"));
		char *exhausted = lbctl_json_format(json_object_get(local, "ports_exhausted"));

		lbctl_print_field(ctl, i == 0 ? "local ports" : "",
			lbctl_json_number(local, "ports_exhausted") > 0 ? LBCTL_YELLOW : LBCTL_PLAIN,
			"%s: %s used, %s free, %s times none%s", lbctl_json_text(local, "address"), used,
			n_free, exhausted,
			lbctl_json_true(local, "usable") ? "" : ", takes no new sessions");
		free(exhausted);
		free(n_free);
		free(used);
	}
}
