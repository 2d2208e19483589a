/* SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/lbctl_api.h"
#include "control/lbctl_args.h"
#include "control/lbctl_views.h"

/* lbctl status */

void lbctl_view_ports(const struct lbctl *ctl, const json_t *ports)
{
	static const struct lbctl_column columns[] = {
		{"PORT", true},
		{"NAME", false},
		{"INTERFACE", false},
		{"LINK", false},
		{"MBIT/S", true},
		{"MTU", true},
		{"MAC", false},
		{"QUEUES", true},
		{"RX PKTS", true},
		{"TX PKTS", true},
		{"MISSED", true},
		{"ERRORS", true},
	};
	struct lbctl_table *table =
		lbctl_table_create(columns, sizeof(columns) / sizeof(columns[0]));
	const json_t *port;
	size_t i;

	json_array_foreach (ports, i, port) {
		const char *link = lbctl_json_true(port, "link_up") ? "up" : "down";
		double missed = lbctl_json_number(port, "rx_missed_pkts") +
				lbctl_json_number(port, "rx_nombuf_pkts");
		double errors = lbctl_json_number(port, "rx_error_pkts") +
				lbctl_json_number(port, "tx_error_pkts");

		lbctl_cell_value(table, LBCTL_PLAIN, port, "id");
		lbctl_cell_value(table, LBCTL_PLAIN, port, "name");
		lbctl_cell_value(table, LBCTL_PLAIN, port, "ifname");
		lbctl_table_add(table, lbctl_state_colour(link), link);
		lbctl_cell_value(table, LBCTL_PLAIN, port, "speed_mbps");
		lbctl_cell_value(table, LBCTL_PLAIN, port, "mtu");
		lbctl_cell_value(table, LBCTL_PLAIN, port, "mac");
		lbctl_cell_value(table, LBCTL_PLAIN, port, "n_queues");
		lbctl_cell_value(table, LBCTL_PLAIN, port, "rx_pkts");
		lbctl_cell_value(table, LBCTL_PLAIN, port, "tx_pkts");
		lbctl_cell_si(table, missed > 0 ? LBCTL_YELLOW : LBCTL_PLAIN, missed);
		lbctl_cell_si(table, errors > 0 ? LBCTL_YELLOW : LBCTL_PLAIN, errors);
	}
	lbctl_table_print(table, stdout, 0, ctl->colour);
	lbctl_table_destroy(table);
}

void lbctl_view_workers(const struct lbctl *ctl, const json_t *workers)
{
	static const struct lbctl_column columns[] = {
		{"WORKER", true},
		{"LCORE", true},
		{"RX PKTS", true},
		{"TX PKTS", true},
		{"BUSY", true},
		{"FLOWS", true},
		{"EVENTS LOST", true},
	};
	struct lbctl_table *table =
		lbctl_table_create(columns, sizeof(columns) / sizeof(columns[0]));
	const json_t *worker;
	size_t i;

	json_array_foreach (workers, i, worker) {
		double polls = lbctl_json_number(worker, "polls");
		double busy = 1 - lbctl_json_number(worker, "polls_idle") / polls;
		double n_lost = lbctl_json_number(worker, "events_lost");

		lbctl_cell_value(table, LBCTL_PLAIN, worker, "id");
		lbctl_cell_value(table, LBCTL_PLAIN, worker, "lcore");
		lbctl_cell_value(table, LBCTL_PLAIN, worker, "rx_pkts");
		lbctl_cell_value(table, LBCTL_PLAIN, worker, "tx_pkts");
		// Of its polls, those that found packets.
		if (polls > 0 && busy >= 0 && busy <= 1)
			lbctl_table_addf(table, LBCTL_PLAIN, "%.1f%%", busy * 100);
		else
			lbctl_table_add(table, LBCTL_PLAIN, NULL);
		lbctl_cell_value(table, LBCTL_PLAIN, worker, "flows_used");
		lbctl_cell_value(
			table, n_lost > 0 ? LBCTL_YELLOW : LBCTL_PLAIN, worker, "events_lost");
	}
	lbctl_table_print(table, stdout, 0, ctl->colour);
	lbctl_table_destroy(table);
}

// Seconds since @p key of @p object, as text; "-" if unknown.
static const char *age(const json_t *object, const char *key, const json_t *status, char *buf)
{
	return lbctl_text_format_span(lbctl_json_span_s(object, key, status, "timestamp_ns"), buf);
}

static void print_control(const struct lbctl *ctl, const json_t *status)
{
	const json_t *control = json_object_get(status, "control");
	char buf[LBCTL_TEXT_NUMBER_BYTES];
	char *pid = lbctl_json_format(json_object_get(control, "pid"));
	json_int_t n_resumed = lbctl_json_integer(control, "resumed_changes", 0);
	char *resumed = n_resumed > 0 ? lbctl_text_printf(", with %" JSON_INTEGER_FORMAT
							  " running changes resumed at its start",
						n_resumed)
				      : lbctl_text_copy("");

	lbctl_print_field(ctl, "instance", LBCTL_PLAIN, "%s", lbctl_json_text(status, "instance"));
	lbctl_print_field(ctl, "control", LBCTL_GREEN, "up for %s, version %s, pid %s",
		age(control, "started_ns", status, buf), lbctl_json_text(control, "version"), pid);
	lbctl_print_field(ctl, "config", LBCTL_PLAIN, "%s%s",
		lbctl_json_text(control, "config_file"), resumed);
	free(resumed);
	free(pid);
}

static void print_flow_use(const struct lbctl *ctl, const json_t *flows)
{
	double used = lbctl_json_number(flows, "used"), max = lbctl_json_number(flows, "max");
	double percent = max > 0 ? 100 * used / max : NAN;
	char *used_text = lbctl_json_format(json_object_get(flows, "used"));
	char *max_text = lbctl_json_format(json_object_get(flows, "max"));
	char *adopted = lbctl_json_format(json_object_get(flows, "adopted"));

	if (percent >= 0 && percent <= 100)
		lbctl_print_field(ctl, "flow table", percent > 90 ? LBCTL_YELLOW : LBCTL_PLAIN,
			"%s of %s used (%.1f%%), %s adopted at start", used_text, max_text, percent,
			adopted);
	else
		lbctl_print_field(
			ctl, "flow table", LBCTL_PLAIN, "%s of %s used", used_text, max_text);
	free(adopted);
	free(max_text);
	free(used_text);
}

static void print_commands(const struct lbctl *ctl, const json_t *dataplane, const json_t *status)
{
	static const char *const keys[] = {
		"n_services",
		"n_backends",
		"n_commands",
		"n_commands_refused",
		"n_pending",
		"n_ring_corrupt",
	};
	const json_t *refusal;
	char *values[6];
	size_t i;

	for (i = 0; i < 6; i++)
		values[i] = lbctl_json_format(json_object_get(dataplane, keys[i]));
	lbctl_print_field(ctl, "holds", LBCTL_PLAIN, "%s service%s, %s backend%s", values[0],
		strcmp(values[0], "1") == 0 ? "" : "s", values[1], strcmp(values[1], "1") == 0 ? "" : "s");
	lbctl_print_field(ctl, "commands",
		lbctl_json_number(dataplane, "n_commands_refused") > 0 ||
				lbctl_json_number(dataplane, "n_ring_corrupt") > 0
			? LBCTL_YELLOW
			: LBCTL_PLAIN,
		"%s taken, %s refused, %s pending, %s corrupt", values[2], values[3], values[4],
		values[5]);
	for (i = 0; i < 6; i++)
		free(values[i]);
	json_array_foreach (json_object_get(dataplane, "refused"), i, refusal) {
		char buf[LBCTL_TEXT_NUMBER_BYTES];

		lbctl_print_field(ctl, "refused", LBCTL_RED, "%s ago: %s %s: %s",
			age(refusal, "time_ns", status, buf), lbctl_json_text(refusal, "op"),
			lbctl_json_text(refusal, "subject"), lbctl_json_text(refusal, "error"));
	}
}

static void print_dataplane(const struct lbctl *ctl, const json_t *status)
{
	const json_t *dataplane = json_object_get(status, "dataplane");
	const char *state = lbctl_json_text(dataplane, "state");
	const char *reason = lbctl_json_text(dataplane, "reason");
	const char *version = lbctl_json_text(dataplane, "version");
	char since[LBCTL_TEXT_NUMBER_BYTES], started[LBCTL_TEXT_NUMBER_BYTES];
	char *pid, *n_workers;

	lbctl_print_field(ctl, "data plane", lbctl_state_colour(state), "%s for %s%s%s",
		*state ? state : "in an unknown state", age(dataplane, "since_ns", status, since),
		*reason ? ": " : "", reason);
	if (*version == '\0') // never seen
		return;
	pid = lbctl_json_format(json_object_get(dataplane, "pid"));
	n_workers = lbctl_json_format(json_object_get(dataplane, "n_workers"));
	lbctl_print_field(ctl, "", LBCTL_PLAIN,
		"started %s ago, version %s, pid %s, workers %s, hash %s",
		age(dataplane, "started_ns", status, started), version, pid, n_workers,
		lbctl_json_text(dataplane, "hash_impl"));
	free(n_workers);
	free(pid);
	print_flow_use(ctl, json_object_get(dataplane, "flows"));
	lbctl_view_fullnat_use(ctl, json_object_get(dataplane, "fullnat"));
	print_commands(ctl, dataplane, status);
}

static void print_warnings(const struct lbctl *ctl, const json_t *warnings)
{
	const json_t *warning;
	size_t i;

	json_array_foreach (warnings, i, warning) {
		lbctl_print_field(ctl, "warning", LBCTL_YELLOW, "%s: %s", lbctl_json_text(warning, "where"),
			lbctl_json_text(warning, "message"));
		lbctl_print_field(ctl, "", LBCTL_PLAIN, "%s", lbctl_json_text(warning, "hint"));
	}
}

#define MAX_NAMES_SHOWN 8u /* that fail; with a dead resolver all do */

static void print_failing_names(const struct lbctl *ctl, const json_t *names)
{
	const json_t *name;
	size_t i, n = 0;

	json_array_foreach (names, i, name) {
		size_t n_addresses = json_array_size(json_object_get(name, "addresses"));
		const char *reason = lbctl_json_text(name, "reason");

		if (strcmp(lbctl_json_text(name, "state"), "failing") != 0 || ++n > MAX_NAMES_SHOWN)
			continue;
		lbctl_print_field(ctl, "warning", LBCTL_YELLOW, "name %s: %s: %s", lbctl_json_text(name, "name"),
			*reason ? reason : "failing",
			n_addresses > 0 ? "the addresses that were known stay" : "no address of it is known");
	}
	if (n > MAX_NAMES_SHOWN)
		lbctl_print_field(ctl, "", LBCTL_PLAIN, "and %zu more names", n - MAX_NAMES_SHOWN);
}

static void print_status(const struct lbctl *ctl, const json_t *status)
{
	const json_t *dataplane = json_object_get(status, "dataplane");
	const json_t *ports = json_object_get(dataplane, "ports");
	const json_t *workers = json_object_get(dataplane, "workers");
	const json_t *services = json_object_get(status, "services");

	print_control(ctl, status);
	print_dataplane(ctl, status);
	print_warnings(ctl, json_object_get(status, "warnings"));
	print_failing_names(ctl, json_object_get(status, "names"));
	if (json_array_size(ports) > 0) {
		putchar('\n');
		lbctl_view_ports(ctl, ports);
	}
	if (json_array_size(workers) > 0) {
		putchar('\n');
		lbctl_view_workers(ctl, workers);
	}
	putchar('\n');
	if (json_array_size(services) > 0)
		lbctl_view_services(ctl, services, 0);
	else
		puts("no services: lbctl service add or lbctl apply FILE makes some");
}

enum lbctl_exit lbctl_status_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	const json_t *dataplane;
	json_t *answer;
	enum lbctl_exit status = lbctl_api_get(ctl, "/v1/status", &answer);

	(void)args;
	if (status != LBCTL_OK)
		return status;
	dataplane = json_object_get(answer, "dataplane");
	if (ctl->json)
		lbctl_api_print(answer, false);
	else
		print_status(ctl, answer);
	// A script that waits for a balancer ready to forward waits for "up".
	if (strcmp(lbctl_json_text(dataplane, "state"), "up") != 0)
		status = LBCTL_NO_DATAPLANE;
	json_decref(answer);
	return status;
}
