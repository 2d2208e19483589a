/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/lbctl_api.h"
#include "control/lbctl_args.h"

/* lbctl flows, flows flush, trace */

struct flow_row {
	const char *service;
	const json_t *backend;
	json_int_t n_flows;
};

static int compare_rows(const void *a, const void *b)
{
	json_int_t x = ((const struct flow_row *)a)->n_flows,
		   y = ((const struct flow_row *)b)->n_flows;

	return (x < y) - (x > y);
}

// The backends of all services in one array, to be freed.
static struct flow_row *collect_rows(const json_t *services, size_t *n_rows)
{
	struct flow_row *rows = NULL;
	const json_t *service, *backend;
	size_t i, k, n_allocated = 0;

	*n_rows = 0;
	json_array_foreach (services, i, service) {
		json_array_foreach (json_object_get(service, "backends"), k, backend) {
			if (*n_rows == n_allocated) {
				n_allocated = 2 * n_allocated + 64;
				rows = lbctl_text_realloc(rows, n_allocated * sizeof(rows[0]));
			}
			rows[(*n_rows)++] = (struct flow_row){
				.service = lbctl_json_text(service, "name"),
				.backend = backend,
				.n_flows = lbctl_json_integer(backend, "active_flows", -1),
			};
		}
	}
	return rows;
}

static void print_flows(const struct lbctl *ctl, const json_t *answer, uint64_t limit, bool limited)
{
	static const struct lbctl_column columns[] = {
		{"SERVICE", false},
		{"BACKEND", false},
		{"STATE", false},
		{"FLOWS", true},
	};
	struct lbctl_table *table = lbctl_table_create(columns, 4);
	char *used = lbctl_json_format(json_object_get(answer, "flows_used"));
	char *max = lbctl_json_format(json_object_get(answer, "flows_max"));
	size_t n_rows;
	struct flow_row *rows = collect_rows(json_object_get(answer, "services"), &n_rows);

	lbctl_print_field(ctl, "flow table", LBCTL_BOLD, "%s of %s entries used", used, max);
	if (limited && n_rows > 0)
		qsort(rows, n_rows, sizeof(rows[0]), compare_rows);
	for (size_t i = 0; i < n_rows && i < limit; i++) {
		const char *state = lbctl_json_text(rows[i].backend, "effective");

		lbctl_table_add(table, LBCTL_PLAIN, rows[i].service);
		lbctl_cell_value(table, LBCTL_PLAIN, rows[i].backend, "name");
		lbctl_table_add(table, lbctl_state_colour(state), state);
		lbctl_cell_value(table, LBCTL_PLAIN, rows[i].backend, "active_flows");
	}
	if (n_rows > 0) {
		putchar('\n');
		lbctl_table_print(table, stdout, 0, ctl->colour);
	}
	lbctl_table_destroy(table);
	free(rows);
	free(max);
	free(used);
}

static void print_sessions(const struct lbctl *ctl, const json_t *answer)
{
	static const struct lbctl_column columns[] = {
		{"SERVICE", false},
		{"CLIENT", false},
		{"VIP", false},
		{"LOCAL", false},
		{"BACKEND", false},
		{"ENDPOINT", false},
		{"PROTOCOL", false},
		{"STATE", false},
		{"IDLE", true},
		{"WORKER", true},
	};
	static const char *const keys[] = {
		"service", "client", "vip", "local", "backend", "endpoint", "protocol", "state"};
	struct lbctl_table *table =
		lbctl_table_create(columns, sizeof(columns) / sizeof(columns[0]));
	const json_t *session;
	size_t i;

	json_array_foreach (json_object_get(answer, "sessions"), i, session) {
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			lbctl_cell_value(table, LBCTL_PLAIN, session, keys[k]);
		lbctl_cell_span(table, lbctl_json_number(session, "idle_s"));
		lbctl_cell_value(table, LBCTL_PLAIN, session, "worker");
	}
	if (lbctl_table_n_rows(table) > 0)
		lbctl_table_print(table, stdout, 0, ctl->colour);
	else
		puts("no sessions of mode fullnat");
	if (!lbctl_json_true(answer, "complete"))
		puts("... and more: --limit N shows more of them");
	lbctl_table_destroy(table);
}

static enum lbctl_exit run_sessions(
	struct lbctl *ctl, const struct lbctl_args *args, uint64_t limit)
{
	const char *service = lbctl_args_operand(args, 0);
	enum lbctl_exit status;
	char *path, number[24];
	json_t *answer;

	snprintf(number, sizeof(number), "%" PRIu64, limit);
	path = service != NULL ? lbctl_api_path("/v1/sessions?limit=%s&service=%s", number, service)
			       : lbctl_api_path("/v1/sessions?limit=%s", number);
	status = lbctl_api_get(ctl, path, &answer);
	free(path);
	if (status != LBCTL_OK)
		return status;
	if (ctl->json)
		lbctl_api_print(answer, false);
	else
		print_sessions(ctl, answer);
	json_decref(answer);
	return LBCTL_OK;
}

enum lbctl_exit lbctl_flows_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	uint64_t limit = UINT64_MAX;
	enum lbctl_exit status = lbctl_args_number(ctl, args, "--limit", 1, UINT32_MAX, &limit);
	json_t *answer;
	char *path = NULL;

	if (status == LBCTL_OK && lbctl_args_option(args, "--sessions") != NULL)
		return run_sessions(ctl, args, limit != UINT64_MAX ? limit : 100);
	if (status == LBCTL_OK && lbctl_args_operand(args, 0) == NULL)
		path = lbctl_text_copy("/v1/flows");
	else if (status == LBCTL_OK)
		status = lbctl_args_path(ctl, args, 1, "/v1/flows?service=%s", &path);
	if (status != LBCTL_OK)
		return status;
	status = lbctl_api_get(ctl, path, &answer);
	free(path);
	if (status != LBCTL_OK)
		return status;
	if (ctl->json)
		lbctl_api_print(answer, false);
	else
		print_flows(ctl, answer, limit, lbctl_args_option(args, "--limit") != NULL);
	json_decref(answer);
	return LBCTL_OK;
}

enum lbctl_exit lbctl_flows_flush_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	const char *backend = lbctl_args_operand(args, 1);
	json_t *body = json_object(), *answer = NULL;
	enum lbctl_exit status = lbctl_args_put_text(ctl, body, "service", args->operands[0]);

	if (status == LBCTL_OK && backend != NULL)
		status = lbctl_args_put_text(ctl, body, "backend", backend);
	if (status == LBCTL_OK)
		status = lbctl_api_request(ctl, "POST", "/v1/flows/flush", body, &answer);
	json_decref(body);
	if (status == LBCTL_OK && ctl->json) {
		lbctl_api_print(answer, false);
	} else if (status == LBCTL_OK) {
		char *n_flows = lbctl_json_format(json_object_get(answer, "n_flows"));
		char *escaped = lbctl_text_escape(*n_flows ? n_flows : "an unknown number of");

		printf("%s flows forgotten\n", escaped);
		free(escaped);
		free(n_flows);
	}
	json_decref(answer);
	return status;
}

static void print_slot(const struct lbctl *ctl, const json_t *trace)
{
	const char *origin = lbctl_json_text(trace, "origin");
	const char *no_origin = lbctl_json_text(trace, "origin_reason");
	double age_s = lbctl_json_number(trace, "slot_age_s");
	char age[LBCTL_TEXT_NUMBER_BYTES];
	char *slot = lbctl_json_format(json_object_get(trace, "slot"));
	char *n_slots = lbctl_json_format(json_object_get(trace, "n_slots"));
	char *version = lbctl_json_format(json_object_get(trace, "table_version"));

	lbctl_print_field(
		ctl, "slot", LBCTL_PLAIN, "%s of %s, table version %s", slot, n_slots, version);
	lbctl_print_field(
		ctl, "slot's backend", LBCTL_PLAIN, "%s", lbctl_json_text(trace, "slot_backend"));
	lbctl_print_field(ctl, "slot changed", LBCTL_PLAIN, "%s%s",
		isnan(age_s) ? "never" : lbctl_text_format_span(age_s, age), isnan(age_s) ? "" : " ago");
	lbctl_print_field(ctl, "slot's origin", LBCTL_PLAIN, "%s%s",
		*origin ? origin : "none: ",
		*origin	     ? ", where a connection without an entry that is older than the change goes on"
		: *no_origin ? no_origin
			     : "lb-control does not say why");
	free(version);
	free(n_slots);
	free(slot);
}

static void print_trace(const struct lbctl *ctl, const json_t *trace)
{
	const json_t *entry = json_object_get(trace, "entry");
	const char *service = lbctl_json_text(trace, "service");
	const char *backend = lbctl_json_text(trace, "backend");
	const char *local = lbctl_json_text(entry, "local");
	char age[LBCTL_TEXT_NUMBER_BYTES];
	char *worker;

	lbctl_print_field(ctl, "packet", LBCTL_PLAIN, "%s -> %s, %s%s",
		lbctl_json_text(trace, "src"), lbctl_json_text(trace, "dst"),
		lbctl_json_text(trace, "proto"),
		strcmp(lbctl_json_text(trace, "proto"), "tcp") != 0 ? ""
		: lbctl_json_true(trace, "syn")                     ? " SYN"
								    : " mid-stream");
	lbctl_print_field(ctl, "service", LBCTL_PLAIN, "%s", *service ? service : "none");
	lbctl_print_field(ctl, "backend", LBCTL_BOLD, "%s", *backend ? backend : "none");
	lbctl_print_field(ctl, "why", LBCTL_PLAIN, "%s (decision: %s)",
		lbctl_json_text(trace, "why"), lbctl_json_text(trace, "decision"));
	lbctl_print_field(ctl, "verdict", LBCTL_PLAIN, "%s: %s", lbctl_json_text(trace, "verdict"),
		lbctl_json_text(trace, "meaning"));
	lbctl_print_field(ctl, "hash", LBCTL_PLAIN, "%s", lbctl_json_text(trace, "hash"));
	if (json_is_number(json_object_get(trace, "slot")))
		print_slot(ctl, trace);
	if (!json_is_object(entry)) {
		lbctl_print_field(ctl, "flow entry", LBCTL_PLAIN, "none");
		return;
	}
	worker = lbctl_json_format(json_object_get(entry, "worker"));
	lbctl_print_field(ctl, *local ? "session" : "flow entry", LBCTL_PLAIN,
		"%s, last packet %s ago, worker %s%s%s", lbctl_json_text(entry, "state"),
		lbctl_text_format_span(lbctl_json_number(entry, "age_s"), age), worker,
		*local ? ", from " : "", local);
	free(worker);
}

enum lbctl_exit lbctl_trace_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	bool mid_stream = lbctl_args_option(args, "--mid-stream") != NULL;
	const char *src = args->operands[0], *dst_proto = args->operands[1];
	const char *slash = strrchr(dst_proto, '/');
	char *dst, *path, *address, *port;
	enum lbctl_exit status = lbctl_args_split_endpoint(ctl, src, false, &address, &port);
	json_t *answer;

	if (status != LBCTL_OK)
		return status;
	free(address);
	free(port);
	if (slash == NULL || slash[1] == '\0')
		return lbctl_error(ctl, LBCTL_USAGE, dst_proto,
			"write DST:PORT/PROTOCOL, such as 203.0.113.10:443/tcp",
			"the protocol is missing");
	if (mid_stream && strcmp(slash + 1, "tcp") != 0)
		return lbctl_error(
			ctl, LBCTL_USAGE, "--mid-stream", NULL, "has a meaning only for tcp");
	dst = lbctl_text_printf("%.*s", (int)(slash - dst_proto), dst_proto);
	status = lbctl_args_split_endpoint(ctl, dst, false, &address, &port);
	if (status != LBCTL_OK) {
		free(dst);
		return status;
	}
	free(address);
	free(port);
	path = lbctl_api_path(mid_stream ? "/v1/trace?src=%s&dst=%s&proto=%s&syn=0"
					 : "/v1/trace?src=%s&dst=%s&proto=%s",
		src, dst, slash + 1);
	free(dst);
	status = lbctl_api_get(ctl, path, &answer);
	free(path);
	if (status != LBCTL_OK)
		return status;
	if (ctl->json)
		lbctl_api_print(answer, false);
	else
		print_trace(ctl, answer);
	json_decref(answer);
	return LBCTL_OK;
}
