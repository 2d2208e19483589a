/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/lbctl_api.h"
#include "control/lbctl_args.h"
#include "control/lbctl_views.h"

/* lbctl service list|show|add|set|del */

void lbctl_view_services(const struct lbctl *ctl, const json_t *services, int indent)
{
	static const struct lbctl_column columns[] = {
		{"SERVICE", false},
		{"VIP", false},
		{"MODE", false},
		{"SCHEDULER", false},
		{"STATE", false},
		{"UP", true},
		{"DRAIN", true},
		{"DOWN", true},
		{"TIER", true},
		{"TRACKING", false},
		{"FLOWS", true},
		{"NO BACKEND", true},
	};
	struct lbctl_table *table =
		lbctl_table_create(columns, sizeof(columns) / sizeof(columns[0]));
	const json_t *service;
	size_t i;

	json_array_foreach (services, i, service) {
		const json_t *counters = json_object_get(service, "counters");
		const char *state = lbctl_json_text(service, "state");
		const char *tracking = lbctl_json_text(service, "tracking_now");
		json_int_t n_lost = lbctl_json_integer(counters, "no_backend_pkts", 0);
		char *vip = lbctl_view_vip(service);

		lbctl_cell_value(table, LBCTL_PLAIN, service, "name");
		lbctl_table_add(table, LBCTL_PLAIN, vip);
		lbctl_cell_value(table, LBCTL_PLAIN, service, "mode");
		lbctl_cell_value(table, LBCTL_PLAIN, service, "scheduler");
		lbctl_table_add(table, lbctl_state_colour(state), state);
		lbctl_cell_value(table, LBCTL_PLAIN, service, "n_up");
		lbctl_cell_value(table, LBCTL_PLAIN, service, "n_drain");
		lbctl_cell_value(table, LBCTL_PLAIN, service, "n_down");
		lbctl_cell_value(table, LBCTL_PLAIN, service, "active_tier");
		lbctl_table_add(table, lbctl_state_colour(tracking), tracking);
		lbctl_cell_value(table, LBCTL_PLAIN, counters, "active_flows");
		lbctl_cell_value(
			table, n_lost > 0 ? LBCTL_RED : LBCTL_PLAIN, counters, "no_backend_pkts");
		free(vip);
	}
	lbctl_table_print(table, stdout, indent, ctl->colour);
	lbctl_table_destroy(table);
}

char *lbctl_view_vip(const json_t *service)
{
	char *endpoint = lbctl_json_endpoint(service, "vip");
	char *vip = lbctl_text_printf("%s/%s", endpoint, lbctl_json_text(service, "protocol"));

	free(endpoint);
	return vip;
}

enum lbctl_exit lbctl_service_list_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	const json_t *services;
	json_t *answer;
	enum lbctl_exit status = lbctl_api_get(ctl, "/v1/services", &answer);

	(void)args;
	if (status != LBCTL_OK)
		return status;
	services = json_object_get(answer, "services");
	if (ctl->json) {
		lbctl_api_print(answer, false);
	} else {
		lbctl_api_check_dataplane(ctl, answer);
		if (json_array_size(services) > 0)
			lbctl_view_services(ctl, services, 0);
		else
			puts("no services: lbctl service add or lbctl apply FILE makes some");
	}
	json_decref(answer);
	return LBCTL_OK;
}

// The settings as "service set" takes them: nested keys with dots. Backends have their own table.
static void print_settings(
	const struct lbctl *ctl, const char *prefix, const json_t *config, int depth)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)config, key, value) {
		char *path = lbctl_text_printf("%s%s", prefix, key);
		char *escaped = lbctl_text_escape(path);

		if (json_is_object(value) && depth < 4) {
			char *deeper = lbctl_text_printf("%s.", path);

			print_settings(ctl, deeper, value, depth + 1);
			free(deeper);
		} else if (!json_is_array(value) && !json_is_object(value)) {
			char *text =
				json_is_boolean(value)
					? lbctl_text_copy(json_is_true(value) ? "true" : "false")
					: lbctl_json_format(value);
			char *value_escaped = lbctl_text_escape(text);

			printf("  %s=%s\n", escaped, value_escaped);
			free(value_escaped);
			free(text);
		}
		free(escaped);
		free(path);
	}
}

static void print_traffic(const struct lbctl *ctl, const json_t *counters)
{
	static const char *const names[][2] = {
		{"in", "in_pkts"},
		{NULL, "in_bytes"},
		{"out", "out_pkts"},
		{NULL, "out_bytes"},
	};
	char *values[4];

	for (size_t i = 0; i < 4; i++)
		values[i] = lbctl_json_format(json_object_get(counters, names[i][1]));
	lbctl_print_field(ctl, "in", LBCTL_PLAIN, "%s packets, %s bytes", values[0], values[1]);
	lbctl_print_field(ctl, "out", LBCTL_PLAIN, "%s packets, %s bytes", values[2], values[3]);
	for (size_t i = 0; i < 4; i++)
		free(values[i]);
}

static void print_service(const struct lbctl *ctl, const json_t *answer)
{
	const json_t *service = json_object_get(answer, "service");
	const json_t *counters = json_object_get(service, "counters");
	const json_t *table = json_object_get(service, "table");
	const json_t *backends = json_object_get(answer, "backends");
	const char *state = lbctl_json_text(service, "state");
	char *vip = lbctl_view_vip(service);
	char *tier = lbctl_json_format(json_object_get(service, "active_tier"));
	char *flows = lbctl_json_format(json_object_get(counters, "active_flows"));
	char *new_flows = lbctl_json_format(json_object_get(counters, "new_flows"));
	char *lost = lbctl_json_format(json_object_get(counters, "no_backend_pkts"));
	char *n_slots = lbctl_json_format(json_object_get(table, "n_slots"));
	char *version = lbctl_json_format(json_object_get(table, "version"));

	lbctl_print_field(ctl, "service", LBCTL_BOLD, "%s", lbctl_json_text(service, "name"));
	lbctl_print_field(ctl, "vip", LBCTL_PLAIN, "%s", vip);
	if (lbctl_json_true(service, "vip_local"))
		lbctl_print_field(ctl, "warning", LBCTL_YELLOW,
			"the VIP is an address of this host, whose kernel may answer clients too: take it off the interface");
	lbctl_print_field(ctl, "state", lbctl_state_colour(state), "%s", state);
	lbctl_print_field(ctl, "forwarding", LBCTL_PLAIN,
		"mode %s, scheduler %s, tracking %s (now %s)", lbctl_json_text(service, "mode"),
		lbctl_json_text(service, "scheduler"), lbctl_json_text(service, "tracking"),
		lbctl_json_text(service, "tracking_now"));
	lbctl_print_field(ctl, "table", LBCTL_PLAIN, "version %s, %s slots, %s", version, n_slots,
		lbctl_json_true(table, "published") ? "in the data plane"
						    : "not in the data plane yet");
	if (lbctl_json_integer(table, "n_pending_moves", 0) > 0)
		lbctl_print_field(ctl, "moving", LBCTL_PLAIN,
			"%" JSON_INTEGER_FORMAT " slots go to their new backend little by little",
			lbctl_json_integer(table, "n_pending_moves", 0));
	if (*lbctl_json_text(service, "health_ignored") != '\0')
		lbctl_print_field(ctl, "health", LBCTL_RED, "ignored (%s): all backends are used",
			lbctl_json_text(service, "health_ignored"));
	lbctl_print_field(ctl, "active tier", LBCTL_PLAIN, "%s", *tier ? tier : "none");
	lbctl_print_field(ctl, "flows", LBCTL_PLAIN, "%s active, %s seen", flows, new_flows);
	print_traffic(ctl, counters);
	lbctl_print_field(ctl, "no backend", LBCTL_PLAIN, "%s packets dropped", lost);
	puts("settings");
	print_settings(ctl, "", json_object_get(answer, "config"), 0);
	putchar('\n');
	if (json_array_size(backends) > 0)
		lbctl_view_backends(ctl, backends, answer, 0);
	else
		puts("no backends: lbctl backend add makes some");
	free(version);
	free(n_slots);
	free(lost);
	free(new_flows);
	free(flows);
	free(tier);
	free(vip);
}

enum lbctl_exit lbctl_service_show_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	char *path;
	json_t *answer;
	enum lbctl_exit status = lbctl_args_path(ctl, args, 1, "/v1/services/%s", &path);

	if (status != LBCTL_OK)
		return status;
	status = lbctl_api_get(ctl, path, &answer);
	if (status == LBCTL_OK && ctl->json) {
		lbctl_api_print(answer, false);
	} else if (status == LBCTL_OK) {
		lbctl_api_check_dataplane(ctl, answer);
		print_service(ctl, answer);
	}
	json_decref(answer);
	free(path);
	return status;
}

// Put "VIP:PORT/PROTOCOL" into the service @p object.
static enum lbctl_exit put_vip(const struct lbctl *ctl, const char *text, json_t *object)
{
	const char *slash = strrchr(text, '/');
	char *endpoint, *address, *port;
	enum lbctl_exit status;
	uint64_t number;

	if (slash == NULL || slash[1] == '\0')
		return lbctl_error(ctl, LBCTL_USAGE, text,
			"write VIP:PORT/PROTOCOL, such as 203.0.113.10:443/tcp or "
			"[2001:db8::10]:all/udp",
			"the protocol is missing");
	endpoint = lbctl_text_printf("%.*s", (int)(slash - text), text);
	status = lbctl_args_split_endpoint(ctl, endpoint, false, &address, &port);
	free(endpoint);
	if (status != LBCTL_OK)
		return status;
	status = lbctl_args_put_text(ctl, object, "vip", address);
	if (status == LBCTL_OK)
		status = lbctl_args_put_text(ctl, object, "protocol", slash + 1);
	if (strcmp(port, "all") == 0)
		json_object_set_new(object, "port", json_string("all"));
	else if (lbctl_text_parse_number(port, 1, 65535, &number) == 0)
		json_object_set_new(object, "port", json_integer((json_int_t)number));
	else
		status = lbctl_error(ctl, LBCTL_USAGE, text, NULL,
			"port '%s' is neither 1..65535 nor \"all\"", port);
	free(port);
	free(address);
	return status;
}

enum lbctl_exit lbctl_service_add_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	json_t *body = json_object();
	enum lbctl_exit status = lbctl_args_put_text(ctl, body, "name", args->operands[0]);

	if (status == LBCTL_OK)
		status = put_vip(ctl, args->operands[1], body);
	if (status == LBCTL_OK)
		status = lbctl_args_settings(ctl, args, 2, body);
	if (status == LBCTL_OK)
		status = lbctl_api_change(ctl, "POST", "/v1/services", body);
	json_decref(body);
	return status;
}

enum lbctl_exit lbctl_service_set_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	json_t *body = json_object();
	char *path;
	enum lbctl_exit status = lbctl_args_path(ctl, args, 1, "/v1/services/%s", &path);

	if (status == LBCTL_OK)
		status = lbctl_args_settings(ctl, args, 1, body);
	if (status == LBCTL_OK)
		status = lbctl_api_change(ctl, "PATCH", path, body);
	free(path);
	json_decref(body);
	return status;
}

enum lbctl_exit lbctl_service_del_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	char *path;
	enum lbctl_exit status = lbctl_args_path(ctl, args, 1, "/v1/services/%s", &path);

	if (status == LBCTL_OK)
		status = lbctl_api_change(ctl, "DELETE", path, NULL);
	free(path);
	return status;
}
