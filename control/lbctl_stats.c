/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/lbctl_api.h"
#include "control/lbctl_args.h"
#include "control/lbctl_rates.h"
#include "control/lbctl_views.h"

/* lbctl stats|drops */

static void print_total_rates(const struct lbctl *ctl, const json_t *rates)
{
	static const struct lbctl_column columns[] = {
		{"TOTAL", false}, {"PKT/S", true}, {"BIT/S", true}};
	static const char *const rows[][3] = {
		{"received", "rx_pps", "rx_bps"},
		{"sent", "tx_pps", "tx_bps"},
		{"forwarded", "forward_pps", NULL},
		{"replies", "reply_pps", NULL},
		{"to the host", "host_pps", NULL},
		{"dropped", "drop_pps", NULL},
	};
	struct lbctl_table *table = lbctl_table_create(columns, 3);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		lbctl_table_add(table, LBCTL_PLAIN, rows[i][0]);
		lbctl_cell_si(table, LBCTL_PLAIN, lbctl_json_number(rates, rows[i][1]));
		if (rows[i][2] != NULL)
			lbctl_cell_si(table, LBCTL_PLAIN, lbctl_json_number(rates, rows[i][2]));
		else
			lbctl_table_add(table, LBCTL_PLAIN, NULL);
	}
	lbctl_table_print(table, stdout, 0, ctl->colour);
	lbctl_table_destroy(table);
}

static void add_rate_row(
	struct lbctl_table *table, const char *service, const json_t *object, bool is_backend)
{
	lbctl_table_add(table, is_backend ? LBCTL_PLAIN : LBCTL_BOLD, service);
	lbctl_table_add(table, LBCTL_PLAIN, is_backend ? lbctl_json_text(object, "name") : "all");
	lbctl_cell_state(table, object);
	for (const char *const *name = lbctl_rate_names; *name != NULL; name++)
		lbctl_cell_si(table, LBCTL_PLAIN, lbctl_json_number(object, *name));
	lbctl_cell_value(table, LBCTL_PLAIN, object, "active_flows");
}

static void print_rates(const struct lbctl *ctl, const json_t *stats)
{
	static const struct lbctl_column columns[] = {
		{"SERVICE", false},
		{"BACKEND", false},
		{"STATE", false},
		{"IN PKT/S", true},
		{"IN BIT/S", true},
		{"OUT PKT/S", true},
		{"OUT BIT/S", true},
		{"NEW/S", true},
		{"FLOWS", true},
	};
	struct lbctl_table *table =
		lbctl_table_create(columns, sizeof(columns) / sizeof(columns[0]));
	const json_t *rates = json_object_get(stats, "rates"), *service, *backend;
	char time_text[LBCTL_TEXT_NUMBER_BYTES];
	size_t i, k;

	printf("%s, rates over %.3g s\n\n",
		lbctl_text_format_time(lbctl_json_number(stats, "timestamp_ns") / 1e9, time_text),
		lbctl_json_number(stats, "interval_s"));
	print_total_rates(ctl, json_object_get(rates, "totals"));
	json_array_foreach (json_object_get(rates, "services"), i, service) {
		const char *name = lbctl_json_text(service, "name");

		add_rate_row(table, name, service, false);
		json_array_foreach (json_object_get(service, "backends"), k, backend)
			add_rate_row(table, name, backend, true);
	}
	if (lbctl_table_n_rows(table) > 0) {
		putchar('\n');
		lbctl_table_print(table, stdout, 0, ctl->colour);
	}
	lbctl_table_destroy(table);
}

static void print_total_counters(const struct lbctl *ctl, const json_t *stats)
{
	static const struct lbctl_column columns[] = {
		{"TOTAL", false}, {"PKTS", true}, {"BYTES", true}};
	static const char *const rows[][3] = {
		{"received", "rx_pkts", "rx_bytes"},
		{"sent", "tx_pkts", "tx_bytes"},
		{"forwarded", "forward_pkts", ""},
		{"replies", "reply_pkts", ""},
		{"to the host", "host_pkts", ""},
		{"dropped", "drop_pkts", ""},
	};
	const json_t *totals = json_object_get(stats, "totals"),
		     *flow = json_object_get(stats, "flow");
	struct lbctl_table *table = lbctl_table_create(columns, 3);
	const char *key;
	json_t *value;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		lbctl_table_add(table, LBCTL_PLAIN, rows[i][0]);
		lbctl_cell_value(table, LBCTL_PLAIN, totals, rows[i][1]);
		lbctl_cell_value(table, LBCTL_PLAIN, totals, rows[i][2]);
	}
	lbctl_table_print(table, stdout, 0, ctl->colour);
	lbctl_table_destroy(table);

	static const struct lbctl_column flow_columns[] = {{"FLOW TABLE", false}, {"COUNT", true}};

	table = lbctl_table_create(flow_columns, 2);
	lbctl_table_add(table, LBCTL_PLAIN, "used");
	lbctl_cell_value(table, LBCTL_PLAIN, totals, "flows_used");
	lbctl_table_add(table, LBCTL_PLAIN, "max");
	lbctl_cell_value(table, LBCTL_PLAIN, totals, "flows_max");
	json_object_foreach ((json_t *)flow, key, value) {
		lbctl_table_add(table, LBCTL_PLAIN, key);
		lbctl_cell_value(table, LBCTL_PLAIN, flow, key);
	}
	putchar('\n');
	lbctl_table_print(table, stdout, 0, ctl->colour);
	lbctl_table_destroy(table);
}

static void add_counter_row(
	struct lbctl_table *table, const char *service, const json_t *object, bool is_backend)
{
	static const char *const keys[] = {
		"in_pkts",
		"in_bytes",
		"out_pkts",
		"out_bytes",
		"new_flows",
		"active_flows",
		"resets",
	};
	const json_t *counters = json_object_get(object, "counters");

	lbctl_table_add(table, is_backend ? LBCTL_PLAIN : LBCTL_BOLD, service);
	lbctl_table_add(table, LBCTL_PLAIN, is_backend ? lbctl_json_text(object, "name") : "all");
	lbctl_cell_state(table, object);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		lbctl_cell_value(table, LBCTL_PLAIN, counters, keys[i]);
}

static void print_counters(const struct lbctl *ctl, const json_t *stats)
{
	static const struct lbctl_column columns[] = {
		{"SERVICE", false},
		{"BACKEND", false},
		{"STATE", false},
		{"IN PKTS", true},
		{"IN BYTES", true},
		{"OUT PKTS", true},
		{"OUT BYTES", true},
		{"NEW FLOWS", true},
		{"FLOWS", true},
		{"RESETS", true},
	};
	struct lbctl_table *table =
		lbctl_table_create(columns, sizeof(columns) / sizeof(columns[0]));
	const json_t *service, *backend;
	size_t i, k;

	print_total_counters(ctl, stats);
	lbctl_view_fullnat(ctl, json_object_get(stats, "fullnat"));
	json_array_foreach (json_object_get(stats, "services"), i, service) {
		const char *name = lbctl_json_text(service, "name");

		add_counter_row(table, name, service, false);
		json_array_foreach (json_object_get(service, "backends"), k, backend)
			add_counter_row(table, name, backend, true);
	}
	if (lbctl_table_n_rows(table) > 0) {
		putchar('\n');
		lbctl_table_print(table, stdout, 0, ctl->colour);
	}
	lbctl_table_destroy(table);
}

static void pause_ms(uint64_t ms)
{
	const struct timespec pause = {
		.tv_sec = (time_t)(ms / 1000),
		.tv_nsec = (long)(ms % 1000) * 1000000,
	};

	nanosleep(&pause, NULL);
}

static enum lbctl_exit show_once(const struct lbctl *ctl, bool with_rates, uint64_t interval_ms)
{
	json_t *answer, *before = NULL;
	enum lbctl_exit status = lbctl_api_get(ctl, "/v1/stats", &answer);

	if (status == LBCTL_OK && with_rates) {
		pause_ms(interval_ms);
		before = answer;
		status = lbctl_api_get(ctl, "/v1/stats", &answer);
		if (status == LBCTL_OK)
			lbctl_rates_add(answer, before);
	}
	if (status == LBCTL_OK) {
		if (ctl->json)
			lbctl_api_print(answer, false);
		else if (with_rates)
			print_rates(ctl, answer);
		else
			print_counters(ctl, answer);
		status = lbctl_api_check_dataplane(ctl, answer);
	}
	json_decref(before);
	json_decref(answer);
	return status;
}

// Samples until @p n_times were shown (0: for ever). With --json each is a document on a line of
// its own.
static enum lbctl_exit watch(const struct lbctl *ctl, uint64_t interval_ms, uint64_t n_times)
{
	json_t *before, *now;
	enum lbctl_exit status = lbctl_api_get(ctl, "/v1/stats", &before);

	for (uint64_t n = 0; status == LBCTL_OK && (n_times == 0 || n < n_times); n++) {
		pause_ms(interval_ms);
		status = lbctl_api_get(ctl, "/v1/stats", &now);
		if (status == LBCTL_UNREACHABLE && n_times == 0) {
			lbctl_api_wait(ctl);
			status = lbctl_api_get(ctl, "/v1/stats", &now);
		}
		if (status != LBCTL_OK)
			break;
		lbctl_rates_add(now, before);
		if (ctl->json) {
			lbctl_api_print(now, true);
		} else {
			if (ctl->screen)
				fputs("\033[H\033[2J", stdout);
			else if (n > 0)
				putchar('\n');
			print_rates(ctl, now);
			lbctl_api_check_dataplane(ctl, now);
		}
		json_decref(before);
		before = now;
		if (fflush(stdout) != 0)
			break;
	}
	json_decref(before);
	return status;
}

enum lbctl_exit lbctl_stats_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	bool is_watch = lbctl_args_option(args, "--watch") != NULL;
	bool with_rates = lbctl_args_option(args, "--interval") != NULL;
	uint64_t interval_ms = 1000, n_times = 0;
	enum lbctl_exit status = lbctl_args_duration(ctl, args, "--interval", 100, &interval_ms);

	if (status == LBCTL_OK)
		status = lbctl_args_number(ctl, args, "--count", 1, UINT32_MAX, &n_times);
	if (status == LBCTL_OK && n_times > 0 && !is_watch)
		status = lbctl_error(
			ctl, LBCTL_USAGE, "--count", NULL, "has a meaning only with --watch");
	if (status != LBCTL_OK)
		return status;
	return is_watch ? watch(ctl, interval_ms, n_times)
			: show_once(ctl, with_rates, interval_ms);
}

static int compare_drops(const void *a, const void *b)
{
	json_int_t x = lbctl_json_integer(*(const json_t *const *)a, "pkts", -1);
	json_int_t y = lbctl_json_integer(*(const json_t *const *)b, "pkts", -1);

	return (x < y) - (x > y);
}

static void add_drop_rows(struct lbctl_table *table, const json_t *drops, bool sort)
{
	size_t i, n = json_array_size(drops);
	const json_t **sorted = lbctl_text_realloc(NULL, n * sizeof(sorted[0]));

	for (i = 0; i < n; i++)
		sorted[i] = json_array_get(drops, i);
	if (sort) // the most frequent first; glibc's qsort is stable where memory suffices
		qsort(sorted, n, sizeof(sorted[0]), compare_drops);
	for (i = 0; i < n; i++) {
		bool none = lbctl_json_integer(sorted[i], "pkts", 0) == 0;

		lbctl_cell_value(table, none ? LBCTL_DIM : LBCTL_PLAIN, sorted[i], "pkts");
		lbctl_cell_value(table, none ? LBCTL_DIM : LBCTL_PLAIN, sorted[i], "reason");
		lbctl_cell_value(table, none ? LBCTL_DIM : LBCTL_PLAIN, sorted[i], "meaning");
	}
	free(sorted);
}

static void print_drops(const struct lbctl *ctl, const json_t *answer)
{
	static const struct lbctl_column columns[] = {
		{"PKTS", true}, {"REASON", false}, {"MEANING", false}};
	struct lbctl_table *table = lbctl_table_create(columns, 3);
	char *total = lbctl_json_format(json_object_get(answer, "total_pkts"));

	lbctl_print_field(ctl, "dropped", LBCTL_BOLD, "%s packets", total);
	free(total);
	putchar('\n');
	add_drop_rows(table, json_object_get(answer, "drops"), true);
	lbctl_table_print(table, stdout, 0, ctl->colour);
	lbctl_table_destroy(table);
	if (json_array_size(json_object_get(answer, "other")) == 0)
		return;
	puts("\nnot dropped");
	table = lbctl_table_create(columns, 3);
	add_drop_rows(table, json_object_get(answer, "other"), false);
	lbctl_table_print(table, stdout, 0, ctl->colour);
	lbctl_table_destroy(table);
}

enum lbctl_exit lbctl_drops_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	json_t *answer;
	enum lbctl_exit status = lbctl_api_get(ctl, "/v1/drops", &answer);

	(void)args;
	if (status != LBCTL_OK)
		return status;
	if (ctl->json)
		lbctl_api_print(answer, false);
	else
		print_drops(ctl, answer);
	status = lbctl_api_check_dataplane(ctl, answer);
	json_decref(answer);
	return status;
}
