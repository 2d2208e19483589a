/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "control/api.h"
#include "control/backend_agent.h"
#include "control/counters.h"
#include "control/json.h"
#include "control/mem.h"
#include "control/push.h"

#define API_VERSION 1

static json_t *port_json(uint16_t port_be)
{
	return port_be != 0 ? json_integer(ntohs(port_be)) : json_string("all");
}

static json_t *addr_json(const struct lb_addr *addr)
{
	char text[LB_ADDR_STRLEN];

	return json_string(lb_addr_format(addr, text));
}

/* The two that every answer about the running state begins with. */
static json_t *stamped(const struct lb_model *model)
{
	return json_pack("{s:o, s:s}", "timestamp_ns", lb_json_u64(lb_realtime_ns()), "dataplane",
		lb_dp_state_name(lb_dp_state(model->dp)));
}

void lb_api_version(struct lb_api_request *request)
{
	lb_api_reply(request, 200,
		json_pack("{s:s, s:i, s:s}", "version", LB_VERSION, "api", API_VERSION, "instance",
			request->model->instance));
}

/* Counters. */

void lb_api_backend_counters(const struct lb_backend *backend, struct lb_backend_counters *counters)
{
	const struct lb_backend_counters *base = &backend->baseline;

	lb_counters_backend(lb_dp_map(backend->service->model->dp), backend->id, counters);
	counters->in_pkts -= base->in_pkts;
	counters->in_bytes -= base->in_bytes;
	counters->out_pkts -= base->out_pkts;
	counters->out_bytes -= base->out_bytes;
	counters->new_flows -= base->new_flows;
	counters->resets -= base->resets;
}

json_t *lb_api_backend_counters_json(const struct lb_backend_counters *counters)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "in_pkts",
		lb_json_u64(counters->in_pkts), "in_bytes", lb_json_u64(counters->in_bytes),
		"out_pkts", lb_json_u64(counters->out_pkts), "out_bytes",
		lb_json_u64(counters->out_bytes), "new_flows", lb_json_u64(counters->new_flows),
		"active_flows", lb_json_u64((uint64_t)counters->active_flows), "closing_flows",
		lb_json_u64((uint64_t)counters->closing_flows), "resets",
		lb_json_u64(counters->resets));
}

uint64_t lb_api_no_backend(const struct lb_service *service)
{
	return lb_counters_no_backend(lb_dp_map(service->model->dp), service->id) -
	       service->baseline_no_backend;
}

json_t *lb_api_service_counters_json(const struct lb_service *service)
{
	struct lb_backend_counters sum = {0}, one;
	json_t *json;

	for (size_t i = 0; i < service->n_backends; i++) {
		lb_api_backend_counters(service->backends[i], &one);
		sum.in_pkts += one.in_pkts;
		sum.in_bytes += one.in_bytes;
		sum.out_pkts += one.out_pkts;
		sum.out_bytes += one.out_bytes;
		sum.new_flows += one.new_flows;
		sum.active_flows += one.active_flows;
		sum.closing_flows += one.closing_flows;
		sum.resets += one.resets;
	}
	json = lb_api_backend_counters_json(&sum);
	json_object_set_new(json, "no_backend_pkts", lb_json_u64(lb_api_no_backend(service)));
	return json;
}

/* SERVICE and BACKEND of docs/api.md. */

static json_t *service_json(const struct lb_service *service)
{
	const struct lb_config_service *config = service->config;
	unsigned n[LB_BACKEND_STATE_N] = {0};
	json_t *json, *table;

	for (size_t i = 0; i < service->n_backends; i++)
		n[service->backends[i]->effective]++;
	table = json_pack("{s:I, s:I, s:b}", "n_slots", (json_int_t)config->table_size, "version",
		(json_int_t)service->table_version, "published",
		service->table_version != 0 && service->live_version == service->table_version);
	json_object_set_new(table, "n_pending_moves",
		json_integer(service->table != NULL ? lb_table_n_waiting(service->table) : 0));
	json = json_pack("{s:s, s:i, s:o, s:o, s:s, s:s, s:s, s:s}", "name", config->name, "id",
		service->id, "vip", addr_json(&config->key.addr), "port",
		port_json(config->key.port_be), "protocol",
		config->key.proto == IPPROTO_UDP ? "udp" : "tcp", "mode",
		lb_mode_name(config->mode), "scheduler", lb_scheduler_name(config->scheduler),
		"on_empty", lb_on_empty_name(config->on_empty));
	json_object_update_new(
		json, json_pack("{s:s, s:I, s:i, s:i, s:i, s:o, s:s, s:s, s:o, s:o}", "state",
			      service->state != NULL ? service->state : "down", "n_backends",
			      (json_int_t)service->n_backends, "n_up", n[LB_BACKEND_UP], "n_drain",
			      n[LB_BACKEND_DRAIN], "n_down", n[LB_BACKEND_DOWN], "active_tier",
			      service->active_tier >= 0 ? json_integer(service->active_tier)
							: json_null(),
			      "tracking", lb_tracking_name(config->tracking), "tracking_now",
			      lb_tracking_name(lb_model_tracking_now(service)), "table", table, "counters",
			      lb_api_service_counters_json(service)));
	json_object_set_new(json, "health_ignored",
		lb_json_text(lb_health_ignored_name(service->health_ignored)));
	return json;
}

static json_t *health_json(const struct lb_backend *backend)
{
	struct lb_health_status status;

	lb_health_check_status(backend->check, &status);
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "type",
		lb_check_type_name(
			lb_config_check_of(backend->service->config, backend->config)->type), "state",
		lb_health_state_name(status.state), "reason",
		status.last_ns != 0 ? lb_json_text(status.reason) : json_null(), "last_ns",
		lb_json_time(status.last_ns), "last_duration_us",
		lb_json_u64(status.last_duration_us), "n_checks", lb_json_u64(status.n_checks),
		"n_failed", lb_json_u64(status.n_failed), "n_successes",
		lb_json_u64(status.n_successes), "n_failures", lb_json_u64(status.n_failures));
}

static json_t *mac_json(const uint8_t mac[6])
{
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		mac[3], mac[4], mac[5]);
	return json_string(text);
}

static json_t *nexthop_json(const struct lb_backend *backend)
{
	const struct lb_nexthop *nexthop = backend->nexthop;

	if (nexthop == NULL)
		return json_pack("{s:n, s:b, s:n, s:n, s:n, s:o}", "id", "resolved", 0, "address",
			"mac", "port", "reason", lb_json_text(backend->nexthop_why));
	return json_pack("{s:i, s:b, s:o, s:o, s:i, s:s?}", "id", nexthop->id, "resolved",
		nexthop->resolved, "address",
		nexthop->is_static ? json_null() : addr_json(&nexthop->addr), "mac",
		nexthop->resolved ? mac_json(nexthop->mac) : json_null(), "port", nexthop->port,
		"reason", nexthop->resolved ? NULL : LB_NEXTHOP_UNRESOLVED);
}

static json_t *backend_json(const struct lb_backend *backend)
{
	const struct lb_config_backend *config = backend->config;
	struct lb_backend_counters counters;
	uint32_t n_slots = backend->service->counted ? backend->n_slots : 0;
	char why[300];
	json_t *json;

	lb_api_backend_counters(backend, &counters);
	json = json_pack("{s:s, s:s, s:i, s:o, s:i, s:I, s:I, s:s, s:s, s:o}", "service",
		backend->service->config->name, "name", config->name, "id", backend->id, "address",
		addr_json(&backend->endpoint.addr), "port", ntohs(backend->endpoint.port_be),
		"weight", (json_int_t)config->weight, "tier", (json_int_t)config->tier, "state",
		lb_admin_state_name(config->admin), "effective",
		lb_backend_state_name(backend->effective), "since_ns",
		lb_json_u64(backend->since_ns));
	json_object_set_new(json, "agent", lb_backend_agent_json(backend));
	json_object_set_new(json, "condition",
		json_string(lb_backend_condition(backend, why, sizeof(why))));
	json_object_set_new(json, "condition_reason",
		why[0] != '\0' ? lb_json_text(why) : json_null());
	json_object_set_new(json, "host", lb_json_text(config->host));
	json_object_update_new(
		json, json_pack("{s:I, s:f, s:o, s:o, s:o}", "slots", (json_int_t)n_slots, "share",
			      (double)n_slots / (double)backend->service->config->table_size,
			      "health", health_json(backend), "nexthop", nexthop_json(backend),
			      "counters", lb_api_backend_counters_json(&counters)));
	json_object_set_new(
		json, "weight_percent", json_integer(lb_model_weight_percent(backend)));
	return json;
}

static void append_backends(json_t *list, struct lb_service *service)
{
	lb_push_count_slots(service);
	for (size_t i = 0; i < service->n_backends; i++)
		json_array_append_new(list, backend_json(service->backends[i]));
}

static json_t *services_json(const struct lb_model *model)
{
	json_t *list = json_array();

	for (size_t i = 0; i < model->n_services; i++)
		json_array_append_new(list, service_json(model->services[i]));
	return list;
}

void lb_api_services(struct lb_api_request *request)
{
	json_t *json = stamped(request->model);

	json_object_set_new(json, "services", services_json(request->model));
	lb_api_reply(request, 200, json);
}

/* One service of the config, as /v1/config has it. */
static json_t *service_config_json(const struct lb_model *model, const struct lb_service *service)
{
	// as it was written: the running one may have addresses in the place of names
	const char *text = lb_config_service_text(
		lb_config_find_service(model->config, service->config->name));

	return text != NULL ? json_loads(text, 0, NULL) : NULL;
}

void lb_api_service(struct lb_api_request *request)
{
	struct lb_service *service = lb_model_service(request->model, request->segments[2]);
	json_t *json, *backends;

	if (service == NULL) {
		lb_api_error(
			request, 404, "not_found", NULL, "no service \"%s\"", request->segments[2]);
		return;
	}
	backends = json_array();
	append_backends(backends, service);
	json = stamped(request->model);
	json_object_update_new(
		json, json_pack("{s:o, s:o, s:o}", "service", service_json(service), "config",
			      service_config_json(request->model, service), "backends", backends));
	lb_api_reply(request, 200, json);
}

/*
 * All backends, one after the other: a tree of thousands costs twice as much to build and to free. Tens of thousands
 * take seconds: then it is done little by little, over turns of the loop in which checks have theirs.
 */
#define SLICE_NS UINT64_C(3000000)

struct backends_answer {
	struct lb_api_request *request;
	uint16_t *ids; /* of those to tell of, as they were at first */
	size_t n, at, n_written;
	char *text;
	size_t len;
	FILE *out; /* into text; NULL: closed */
	struct event *next;
};

static void on_backends_cancel(struct lb_api_request *request)
{
	struct backends_answer *answer = request->state;

	if (answer->out != NULL)
		fclose(answer->out);
	if (answer->next != NULL)
		event_free(answer->next);
	free(answer->text);
	free(answer->ids);
	free(answer);
}

static void write_backend(struct backends_answer *answer, struct lb_backend *backend)
{
	json_t *json;

	lb_push_count_slots(backend->service);
	json = backend_json(backend);
	if (answer->n_written++ > 0)
		fputs(", ", answer->out);
	(void)json_dumpf(json, answer->out, JSON_PRESERVE_ORDER);
	json_decref(json);
}

static void end_backends(struct backends_answer *answer)
{
	bool failed = ferror(answer->out) != 0;

	failed |= fputs("]}\n", answer->out) < 0;
	failed |= fclose(answer->out) != 0;
	answer->out = NULL;
	if (failed)
		lb_api_reply(answer->request, 500, NULL);
	else
		lb_api_reply_text(answer->request, 200, "application/json", answer->text);
}

static void write_slice(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval soon = {0};
	struct backends_answer *answer = arg;
	struct lb_model *model = answer->request->model;
	uint64_t end_ns = lb_now_ns() + SLICE_NS;

	(void)fd, (void)what;
	for (; answer->at < answer->n; answer->at++) {
		struct lb_backend *backend = model->backend_by_id[answer->ids[answer->at]];

		if (lb_now_ns() >= end_ns) {
			event_add(answer->next, &soon);
			return;
		}
		if (backend != NULL) // else it went meanwhile
			write_backend(answer, backend);
	}
	end_backends(answer);
}

static void write_backends(struct lb_api_request *request, const char *service_name)
{
	struct backends_answer *answer = lb_xcalloc(1, sizeof(*answer));
	struct lb_model *model = request->model;

	answer->request = request;
	answer->ids = lb_xcalloc(LB_MAX_BACKENDS + 1u, sizeof(*answer->ids));
	answer->out = open_memstream(&answer->text, &answer->len);
	answer->next = evtimer_new(model->base, write_slice, answer);
	request->state = answer;
	request->cancel = on_backends_cancel;
	if (answer->out == NULL || answer->next == NULL) {
		lb_api_reply(request, 500, NULL);
		return;
	}
	for (size_t i = 0; i < model->n_services; i++) {
		const struct lb_service *service = model->services[i];

		if (service_name != NULL && strcmp(service_name, service->config->name) != 0)
			continue;
		for (size_t j = 0; j < service->n_backends; j++)
			answer->ids[answer->n++] = service->backends[j]->id;
	}
	fprintf(answer->out, "{\"timestamp_ns\": %" PRIu64 ", \"dataplane\": \"%s\", \"backends\": [",
		lb_realtime_ns(), lb_dp_state_name(lb_dp_state(model->dp)));
	write_slice(-1, 0, answer);
}

void lb_api_backends(struct lb_api_request *request)
{
	const char *name = lb_api_param(request, "service");
	struct lb_model *model = request->model;

	if (name != NULL && lb_model_service(model, name) == NULL) {
		lb_api_error(request, 404, "not_found", "service", "no service \"%s\"", name);
		return;
	}
	write_backends(request, name);
}

/* Names. */

static json_t *name_json(const struct lb_name_info *info)
{
	json_t *list = json_array();

	for (size_t i = 0; i < info->n_addresses; i++)
		json_array_append_new(list,
			json_pack("{s:o, s:b, s:o}", "address", addr_json(&info->addresses[i].addr),
				"gone", info->addresses[i].gone, "since_ns",
				lb_json_u64(info->addresses[i].since_ns)));
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "name", info->name, "state",
		lb_name_state_name(info->state), "reason",
		info->reason[0] != '\0' ? lb_json_text(info->reason) : json_null(), "last_ns",
		lb_json_time(info->last_ns), "next_ns", lb_json_time(info->next_ns), "addresses",
		list);
}

static json_t *names_json(const struct lb_model *model)
{
	json_t *list = json_array();
	struct lb_name_info info;

	for (size_t i = 0; lb_names_at(model->names, i, &info); i++)
		json_array_append_new(list, name_json(&info));
	return list;
}

/* /v1/status. */

static json_t *control_json(const struct lb_model *model)
{
	char path[PATH_MAX];
	size_t n_backends = 0;

	for (size_t i = 0; i < model->n_services; i++)
		n_backends += model->services[i]->n_backends;
	snprintf(path, sizeof(path), "%.*s/state.json", PATH_MAX - 32, model->run_dir);
	return json_pack("{s:s, s:i, s:o, s:o, s:I, s:I, s:I, s:o}", "version", LB_VERSION, "pid",
		getpid(), "started_ns", lb_json_u64(model->started_ns), "config_file",
		lb_json_text(model->config_file), "resumed_changes", (json_int_t)model->n_resumed,
		"n_services", (json_int_t)model->n_services, "n_backends", (json_int_t)n_backends,
		"state_file", lb_json_text(path));
}

json_t *lb_api_refusal_json(const struct lb_refusal *refusal)
{
	return json_pack("{s:s, s:o, s:s, s:o}", "op", refusal->op, "subject",
		lb_json_text(refusal->subject), "error", strerror(-refusal->status), "time_ns",
		lb_json_u64(refusal->time_ns));
}

static json_t *refusals_json(const struct lb_model *model)
{
	uint64_t n = model->n_refusals;
	json_t *list = json_array();

	for (uint64_t i = n > LB_N_REFUSALS ? n - LB_N_REFUSALS : 0; i < n; i++)
		json_array_append_new(
			list, lb_api_refusal_json(&model->refusals[i % LB_N_REFUSALS]));
	return list;
}

/* What is in the region's header; nulls without a region. */
static json_t *header_json(const struct lb_shm_map *map)
{
	struct lb_shm_header header;
	struct lb_flow_counters flow;
	char version[33], hash_impl[17], boot_id[17];
	uint64_t age_ns;

	lb_counters_flow(map, &flow);
	if (map == NULL)
		return json_pack("{s:n, s:n, s:n, s:n, s:n, s:n, s:i, s:i, s:i, s:i, s:i, s:i, "
				 "s:{s:i, s:i, s:i}}",
			"version", "pid", "boot_id", "started_ns", "heartbeat_age_ms", "hash_impl",
			"n_workers", 0, "n_services", 0, "n_backends", 0, "n_commands", 0,
			"n_commands_refused", 0, "n_ring_corrupt", 0, "flows", "used", 0, "max", 0,
			"adopted", 0);
	header = map->shm->header; // one copy: it may change
	age_ns = lb_shm_heartbeat_age_ns(map->shm, LB_SIDE_DATA);
	lb_counters_text(version, sizeof(version), header.version, sizeof(header.version));
	lb_counters_text(hash_impl, sizeof(hash_impl), header.hash_impl, sizeof(header.hash_impl));
	snprintf(boot_id, sizeof(boot_id), "%016" PRIx64, header.boot_id);
	return json_pack(
		"{s:o, s:I, s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:{s:o, s:o, s:I}}",
		"version", lb_json_text(version), "pid", (json_int_t)header.side[LB_SIDE_DATA].pid,
		"boot_id", boot_id, "started_ns", lb_json_u64(header.started_ns),
		"heartbeat_age_ms",
		age_ns != UINT64_MAX ? lb_json_u64(age_ns / 1000000) : json_null(), "hash_impl",
		lb_json_text(hash_impl), "n_workers", (json_int_t)map->n_workers, "n_services",
		(json_int_t)header.n_services, "n_backends", (json_int_t)header.n_backends,
		"n_commands", lb_json_u64(header.n_commands), "n_commands_refused",
		lb_json_u64(header.n_commands_refused), "n_ring_corrupt",
		lb_json_u64(header.n_ring_corrupt), "flows", "used", lb_json_u64(flow.used), "max",
		lb_json_u64(header.flows_max), "adopted", (json_int_t)header.adopted_flows);
}

static json_t *dataplane_json(const struct lb_model *model)
{
	const struct lb_dp *dp = model->dp;
	json_t *json = json_pack("{s:s, s:o, s:o}", "state", lb_dp_state_name(lb_dp_state(dp)),
		"reason", lb_json_text(lb_dp_reason(dp)), "since_ns",
		lb_json_u64(lb_dp_since_ns(dp)));

	json_object_update_new(json, header_json(lb_dp_map(dp)));
	json_object_update_new(json,
		json_pack("{s:I, s:o, s:o, s:o, s:o}", "n_pending", (json_int_t)lb_dp_n_pending(dp),
			"refused", refusals_json(model), "fullnat", lb_api_fullnat_json(lb_dp_map(dp)), "workers", lb_api_workers_json(model),
			"ports", lb_api_ports_json(model)));
	return json;
}

void lb_api_status(struct lb_api_request *request)
{
	const struct lb_model *model = request->model;
	const char *services = lb_api_param(request, "services");
	bool brief = services != NULL && strcmp(services, "0") == 0;

	lb_api_reply(request, 200,
		json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "timestamp_ns",
			lb_json_u64(lb_realtime_ns()), "instance", model->instance, "control",
			control_json(model), "dataplane", dataplane_json(model), "services",
			brief ? json_array() : services_json(model), "names", names_json(model), "warnings", lb_api_warnings_json(model, model->config)));
}
