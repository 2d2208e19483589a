/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "control/api.h"
#include "control/backend_agent.h"
#include "control/counters.h"
#include "control/document.h"
#include "control/json.h"
#include "control/push.h"

#define API_VERSION 1

static void write_port(struct lb_writer *out, uint16_t port_be)
{
	if (port_be != 0)
		lb_writer_u64(out, "port", ntohs(port_be));
	else
		lb_writer_string(out, "port", "all");
}

static void write_addr(struct lb_writer *out, const char *key, const struct lb_addr *addr)
{
	char text[LB_ADDR_STRLEN];

	lb_writer_string(out, key, lb_addr_format(addr, text));
}

void lb_api_write_stamp(struct lb_writer *out, const struct lb_model *model)
{
	lb_writer_u64(out, "timestamp_ns", lb_realtime_ns());
	lb_writer_string(out, "dataplane", lb_dp_state_name(lb_dp_state(model->dp)));
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

void lb_api_write_counters(
	struct lb_writer *out, const char *key, const struct lb_backend_counters *counters, const uint64_t *no_backend)
{
	lb_writer_open(out, key, '{');
	lb_writer_u64(out, "in_pkts", counters->in_pkts);
	lb_writer_u64(out, "in_bytes", counters->in_bytes);
	lb_writer_u64(out, "out_pkts", counters->out_pkts);
	lb_writer_u64(out, "out_bytes", counters->out_bytes);
	lb_writer_u64(out, "new_flows", counters->new_flows);
	lb_writer_u64(out, "active_flows", (uint64_t)counters->active_flows);
	lb_writer_u64(out, "closing_flows", (uint64_t)counters->closing_flows);
	lb_writer_u64(out, "resets", counters->resets);
	if (no_backend != NULL)
		lb_writer_u64(out, "no_backend_pkts", *no_backend);
	lb_writer_close(out, '}');
}

void lb_api_add_counters(struct lb_backend_counters *sum, const struct lb_backend_counters *one)
{
	sum->in_pkts += one->in_pkts;
	sum->in_bytes += one->in_bytes;
	sum->out_pkts += one->out_pkts;
	sum->out_bytes += one->out_bytes;
	sum->new_flows += one->new_flows;
	sum->active_flows += one->active_flows;
	sum->closing_flows += one->closing_flows;
	sum->resets += one->resets;
}

uint64_t lb_api_no_backend(const struct lb_service *service)
{
	return lb_counters_no_backend(lb_dp_map(service->model->dp), service->id) -
	       service->baseline_no_backend;
}

/* SERVICE and BACKEND of docs/api.md. */

static void write_table(struct lb_writer *out, const struct lb_service *service)
{
	lb_writer_open(out, "table", '{');
	lb_writer_u64(out, "n_slots", service->config->table_size);
	lb_writer_u64(out, "version", service->table_version);
	lb_writer_bool(out, "published",
		service->table_version != 0 && service->live_version == service->table_version);
	lb_writer_u64(out, "n_pending_moves", service->table != NULL ? lb_table_n_waiting(service->table) : 0);
	lb_writer_close(out, '}');
}

static void write_sums(struct lb_writer *out, const struct lb_service *service)
{
	unsigned n[LB_BACKEND_STATE_N] = {0};
	struct lb_backend_counters sum = {0}, one;
	uint64_t no_backend = lb_api_no_backend(service);

	for (size_t i = 0; i < service->n_backends; i++) {
		n[service->backends[i]->effective]++;
		lb_api_backend_counters(service->backends[i], &one);
		lb_api_add_counters(&sum, &one);
	}
	lb_writer_u64(out, "n_backends", service->n_backends);
	lb_writer_u64(out, "n_up", n[LB_BACKEND_UP]);
	lb_writer_u64(out, "n_drain", n[LB_BACKEND_DRAIN]);
	lb_writer_u64(out, "n_down", n[LB_BACKEND_DOWN]);
	lb_api_write_counters(out, "counters", &sum, &no_backend);
}

static void write_service(struct lb_writer *out, const char *key, const struct lb_service *service)
{
	const struct lb_config_service *config = service->config;

	lb_writer_open(out, key, '{');
	lb_writer_string(out, "name", config->name);
	lb_writer_u64(out, "id", service->id);
	write_addr(out, "vip", &config->key.addr);
	write_port(out, config->key.port_be);
	lb_writer_string(out, "protocol", config->key.proto == IPPROTO_UDP ? "udp" : "tcp");
	lb_writer_string(out, "mode", lb_mode_name(config->mode));
	lb_writer_string(out, "scheduler", lb_scheduler_name(config->scheduler));
	lb_writer_string(out, "on_empty", lb_on_empty_name(config->on_empty));
	lb_writer_string(out, "state", service->state != NULL ? service->state : "down");
	if (service->active_tier >= 0)
		lb_writer_int(out, "active_tier", service->active_tier);
	else
		lb_writer_null(out, "active_tier");
	lb_writer_string(out, "tracking", lb_tracking_name(config->tracking));
	lb_writer_string(out, "tracking_now", lb_tracking_name(lb_model_tracking_now(service)));
	lb_writer_string(out, "health_ignored", lb_health_ignored_name(service->health_ignored));
	lb_writer_bool(out, "vip_local", service->vip_is_own);
	write_table(out, service);
	write_sums(out, service);
	lb_writer_close(out, '}');
}

static void write_health(struct lb_writer *out, const struct lb_backend *backend)
{
	struct lb_health_status status;

	lb_health_check_status(backend->check, &status);
	lb_writer_open(out, "health", '{');
	lb_writer_string(out, "type",
		lb_check_type_name(lb_config_check_of(backend->service->config, backend->config)->type));
	lb_writer_string(out, "state", lb_health_state_name(status.state));
	lb_writer_string(out, "reason", status.last_ns != 0 ? status.reason : NULL);
	lb_writer_time(out, "last_ns", status.last_ns);
	lb_writer_u64(out, "last_duration_us", status.last_duration_us);
	lb_writer_u64(out, "n_checks", status.n_checks);
	lb_writer_u64(out, "n_failed", status.n_failed);
	lb_writer_u64(out, "n_successes", status.n_successes);
	lb_writer_u64(out, "n_failures", status.n_failures);
	lb_writer_close(out, '}');
}

static void write_mac(struct lb_writer *out, const uint8_t mac[6])
{
	static const char digits[] = "0123456789abcdef";
	char text[18];

	for (unsigned i = 0; i < 6; i++) {
		text[3 * i] = digits[mac[i] >> 4];
		text[3 * i + 1] = digits[mac[i] & 15];
		text[3 * i + 2] = i < 5 ? ':' : '\0';
	}
	lb_writer_string(out, "mac", text);
}

static void write_nexthop(struct lb_writer *out, const struct lb_backend *backend)
{
	const struct lb_nexthop *nexthop = backend->nexthop;
	bool is_resolved = nexthop != NULL && nexthop->resolved;

	lb_writer_open(out, "nexthop", '{');
	if (nexthop != NULL)
		lb_writer_u64(out, "id", nexthop->id);
	else
		lb_writer_null(out, "id");
	lb_writer_bool(out, "resolved", is_resolved);
	if (nexthop != NULL && !nexthop->is_static)
		write_addr(out, "address", &nexthop->addr);
	else
		lb_writer_null(out, "address");
	if (is_resolved)
		write_mac(out, nexthop->mac);
	else
		lb_writer_null(out, "mac");
	if (nexthop != NULL)
		lb_writer_u64(out, "port", nexthop->port);
	else
		lb_writer_null(out, "port");
	lb_writer_string(out, "reason",
		nexthop == NULL ? backend->nexthop_why : is_resolved ? NULL : LB_NEXTHOP_UNRESOLVED);
	lb_writer_close(out, '}');
}

static void write_backend(struct lb_document *document, struct lb_backend *backend)
{
	const struct lb_config_backend *config = backend->config;
	struct lb_service *service = backend->service;
	struct lb_writer *out = &document->out;
	struct lb_backend_counters counters;
	uint32_t n_slots;
	char why[300];

	lb_push_count_slots(service);
	n_slots = service->counted ? backend->n_slots : 0;
	lb_api_backend_counters(backend, &counters);
	lb_writer_open(out, NULL, '{');
	lb_writer_string(out, "service", service->config->name);
	lb_writer_string(out, "name", config->name);
	lb_writer_u64(out, "id", backend->id);
	write_addr(out, "address", &backend->endpoint.addr);
	lb_writer_u64(out, "port", ntohs(backend->endpoint.port_be));
	lb_writer_u64(out, "weight", config->weight);
	lb_writer_u64(out, "tier", config->tier);
	lb_writer_string(out, "state", lb_admin_state_name(config->admin));
	lb_writer_string(out, "effective", lb_backend_state_name(backend->effective));
	lb_writer_u64(out, "since_ns", backend->since_ns);
	lb_backend_agent_write(backend, out, "agent");
	lb_writer_string(out, "condition", lb_backend_condition(backend, why, sizeof(why)));
	lb_writer_string(out, "condition_reason", why);
	lb_writer_string(out, "host", config->host);
	lb_writer_u64(out, "slots", n_slots);
	lb_writer_real(out, "share", (double)n_slots / (double)service->config->table_size);
	write_health(out, backend);
	write_nexthop(out, backend);
	lb_api_write_counters(out, "counters", &counters, NULL);
	lb_writer_u64(out, "weight_percent", lb_model_weight_percent(backend));
	lb_writer_close(out, '}');
}

/* Documents. */

#define JSON_TYPE "application/json"

void lb_api_document_begin(struct lb_document *document)
{
	lb_writer_open(&document->out, NULL, '{');
	lb_api_write_stamp(&document->out, document->model);
	if (document->part->arg != NULL)
		lb_writer_open(&document->out, document->part->arg, '[');
}

void lb_api_document_end(struct lb_document *document)
{
	lb_writer_text(&document->out, "]}\n");
}

static void list_service(struct lb_document *document, struct lb_service *service)
{
	write_service(&document->out, NULL, service);
}

void lb_api_services(struct lb_api_request *request)
{
	static const struct lb_document_part parts[] = {
		{.begin = lb_api_document_begin, .service = list_service, .end = lb_api_document_end, .arg = "services"},
	};

	lb_document_reply(request, JSON_TYPE, parts, 1, NULL, NULL, NULL);
}

/* One service of the config, as /v1/config has it. */
static void write_service_config(struct lb_document *document, const struct lb_service *service)
{
	// as it was written: the running one may have addresses in the place of names
	const char *text = lb_config_service_text(
		lb_config_find_service(document->model->config, service->config->name));

	lb_writer_raw(&document->out, "config", text);
}

static void begin_one_service(struct lb_document *document, struct lb_service *service)
{
	write_service(&document->out, "service", service);
	write_service_config(document, service);
	lb_writer_open(&document->out, "backends", '[');
}

void lb_api_service(struct lb_api_request *request)
{
	static const struct lb_document_part parts[] = {
		{.begin = lb_api_document_begin, .service = begin_one_service, .backend = write_backend,
			.end = lb_api_document_end},
	};
	const struct lb_service *service = lb_model_service(request->model, request->segments[2]);

	if (service != NULL)
		lb_document_reply(request, JSON_TYPE, parts, 1, service, NULL, NULL);
	else
		lb_api_error(
			request, 404, "not_found", NULL, "no service \"%s\"", request->segments[2]);
}

void lb_api_backends(struct lb_api_request *request)
{
	static const struct lb_document_part parts[] = {
		{.begin = lb_api_document_begin, .backend = write_backend, .end = lb_api_document_end,
			.arg = "backends"},
	};
	const char *name = lb_api_param(request, "service");
	const struct lb_service *service = name != NULL ? lb_model_service(request->model, name) : NULL;

	if (name != NULL && service == NULL)
		lb_api_error(request, 404, "not_found", "service", "no service \"%s\"", name);
	else
		lb_document_reply(request, JSON_TYPE, parts, 1, service, NULL, NULL);
}

/* Names. */

static void write_name(void *arg, const struct lb_name_info *info)
{
	struct lb_writer *out = arg;

	lb_writer_open(out, NULL, '{');
	lb_writer_string(out, "name", info->name);
	lb_writer_string(out, "state", lb_name_state_name(info->state));
	lb_writer_string(out, "reason", info->reason);
	lb_writer_time(out, "last_ns", info->last_ns);
	lb_writer_time(out, "next_ns", info->next_ns);
	lb_writer_open(out, "addresses", '[');
	for (size_t i = 0; i < info->n_addresses; i++) {
		lb_writer_open(out, NULL, '{');
		write_addr(out, "address", &info->addresses[i].addr);
		lb_writer_bool(out, "gone", info->addresses[i].gone);
		lb_writer_u64(out, "since_ns", info->addresses[i].since_ns);
		lb_writer_close(out, '}');
	}
	lb_writer_close(out, ']');
	lb_writer_close(out, '}');
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

static void begin_status(struct lb_document *document)
{
	const struct lb_model *model = document->model;
	struct lb_writer *out = &document->out;

	lb_writer_open(out, NULL, '{');
	lb_writer_u64(out, "timestamp_ns", lb_realtime_ns());
	lb_writer_string(out, "instance", model->instance);
	lb_writer_json(out, "control", control_json(model));
	lb_writer_json(out, "dataplane", dataplane_json(model));
	lb_writer_json(out, "warnings", lb_api_warnings_json(model, model->config));
	lb_writer_open(out, "names", '[');
	lb_names_each(model->names, write_name, out);
	lb_writer_close(out, ']');
	lb_writer_open(out, "services", '[');
}

void lb_api_status(struct lb_api_request *request)
{
	static const struct lb_document_part
		full = {.begin = begin_status, .service = list_service, .end = lb_api_document_end},
		brief = {.begin = begin_status, .end = lb_api_document_end};
	const char *services = lb_api_param(request, "services");
	bool is_brief = services != NULL && strcmp(services, "0") == 0;

	lb_document_reply(request, JSON_TYPE, is_brief ? &brief : &full, 1, NULL, NULL, NULL);
}
