/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "control/announce.h"
#include "control/api.h"
#include "control/counters.h"

/*
 * Prometheus text format 0.0.4. Names of services and backends need no escaping: the config allows
 * neither quotes nor backslashes in them.
 */

/* A growing text. */
struct out {
	FILE *file;
	char *text;
	size_t len;
};

static void line(struct out *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void line(struct out *out, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(out->file, format, args);
	va_end(args);
	fputc('\n', out->file);
}

static void head(struct out *out, const char *name, const char *type, const char *help)
{
	line(out, "# HELP fulcrum_%s %s", name, help);
	line(out, "# TYPE fulcrum_%s %s", name, type);
}

static void single(
	struct out *out, const char *name, const char *type, const char *help, uint64_t value)
{
	head(out, name, type, help);
	line(out, "fulcrum_%s %" PRIu64, name, value);
}

static void global_metrics(struct out *out, const struct lb_model *model)
{
	const struct lb_shm_map *map = lb_dp_map(model->dp);
	struct lb_flow_counters flow;

	lb_counters_flow(map, &flow);
	head(out, "info", "gauge", "Version and instance.");
	line(out, "fulcrum_info{version=\"%s\",instance=\"%s\"} 1", LB_VERSION, model->instance);
	single(out, "dataplane_up", "gauge", "1 if the data plane is there and in sync.",
		lb_dp_state(model->dp) == LB_DP_UP);
	single(out, "dataplane_commands_pending", "gauge", "Commands that are not answered yet.",
		lb_dp_n_pending(model->dp));
	single(out, "dataplane_refusals_total", "counter", "Commands that the data plane refused.",
		model->n_refusals);
	single(out, "events_total", "counter", "Events recorded.", lb_events_last(model->events));
	single(out, "flows_used", "gauge", "Flow-table entries in use.", flow.used);
	single(out, "flows_max", "gauge", "Flow-table entries there are.",
		map != NULL ? __atomic_load_n(&map->shm->header.flows_max, __ATOMIC_RELAXED) : 0);
	single(out, "flow_hits_total", "counter", "Packets that found their flow entry.", flow.hit);
	single(out, "flow_misses_total", "counter", "Packets that found no flow entry.", flow.miss);
	single(out, "flow_inserts_total", "counter", "Flow entries made.", flow.insert);
	single(out, "flow_expired_total", "counter",
		"Flow entries reclaimed because idle or closed.", flow.expire);
	single(out, "flow_evicted_total", "counter", "Live flow entries replaced for want of room.",
		flow.evict);
	single(out, "flow_insert_failed_total", "counter", "Flows that could not be recorded.",
		flow.insert_failed);
	single(out, "flow_origin_total", "counter", "Packets sent to the origin of their slot.",
		flow.origin);
	single(out, "flow_moved_total", "counter",
		"Flows sent elsewhere as their backend was down.", flow.moved);
	single(out, "flow_resets_total", "counter", "Flows that their backend ended by RST.",
		flow.reset);
	single(out, "flow_resets_lost_total", "counter",
		"RSTs of backends not noted, as the worker with the flow was behind.",
		flow.reset_lost);
	single(out, "tracking_changes_total", "counter", "Turns of flow tracking under pressure.",
		flow.tracking_changes);
}

static void answer_metrics(struct out *out, const struct lb_shm_map *map)
{
	struct lb_answer_counters answers;

	lb_counters_answers(map, &answers);
	head(out, "answers_total", "counter", "Packets that the balancer sent itself, by kind.");
	for (unsigned i = 0; i < LB_ANSWER_N; i++)
		line(out, "fulcrum_answers_total{kind=\"%s\"} %" PRIu64, lb_answer_name(i),
			answers.sent[i]);
	single(out, "answers_limited_total", "counter",
		"Answers not sent as there would have been too many.", answers.limited);
}

static void announce_metrics(struct out *out, const struct lb_model *model)
{
	json_t *announce = lb_announce_json(model->announce);
	const json_t *vip;
	size_t i;

	single(out, "maintenance", "gauge", "1 while maintenance is on and no VIP is announced.",
		lb_announce_maintenance(model->announce));
	head(out, "vip_announced", "gauge", "1 if the VIP has its route in announce.table.");
	json_array_foreach (json_object_get(announce, "vips"), i, vip)
		line(out, "fulcrum_vip_announced{vip=\"%s\"} %d",
			json_string_value(json_object_get(vip, "vip")),
			json_is_true(json_object_get(vip, "announced")));
	json_decref(announce);
}

static void verdict_metrics(struct out *out, const struct lb_model *model)
{
	uint64_t verdicts[LB_VERDICT_N];

	lb_counters_verdicts(lb_dp_map(model->dp), verdicts);
	head(out, "packets_total", "counter",
		"Packets that were no drops, by what became of them.");
	for (unsigned i = 0; i < LB_VERDICT_N; i++) {
		if (lb_verdict_is_drop(i))
			continue;
		line(out, "fulcrum_packets_total{verdict=\"%s\"} %" PRIu64, lb_verdict_name(i),
			verdicts[i]);
	}
	head(out, "drops_total", "counter", "Packets dropped, by reason.");
	for (unsigned i = 0; i < LB_VERDICT_N; i++)
		if (lb_verdict_is_drop(i))
			line(out, "fulcrum_drops_total{reason=\"%s\"} %" PRIu64,
				lb_verdict_name(i), verdicts[i]);
	answer_metrics(out, lb_dp_map(model->dp));
}

/* One metric of every worker: @p offset of its value in struct lb_worker_sum. */
static void worker_metric(struct out *out, const struct lb_shm_map *map, const char *name,
	const char *help, size_t offset)
{
	struct lb_worker_sum sum;

	head(out, name, "counter", help);
	for (unsigned i = 0; map != NULL && i < map->n_workers; i++) {
		lb_counters_worker(map, i, &sum);
		line(out, "fulcrum_%s{worker=\"%u\"} %" PRIu64, name, i,
			*(const uint64_t *)((const char *)&sum + offset));
	}
}

#define WORKER(field) offsetof(struct lb_worker_sum, field)

static void worker_metrics(struct out *out, const struct lb_model *model)
{
	const struct lb_shm_map *map = lb_dp_map(model->dp);

	worker_metric(out, map, "worker_rx_packets_total", "Packets received.", WORKER(rx_pkts));
	worker_metric(out, map, "worker_rx_bytes_total", "Bytes received.", WORKER(rx_bytes));
	worker_metric(out, map, "worker_tx_packets_total", "Packets sent.", WORKER(tx_pkts));
	worker_metric(out, map, "worker_tx_bytes_total", "Bytes sent.", WORKER(tx_bytes));
	worker_metric(
		out, map, "worker_polls_total", "Polls of the receive queues.", WORKER(polls));
	worker_metric(out, map, "worker_idle_polls_total", "Polls that found nothing.",
		WORKER(polls_idle));
	worker_metric(out, map, "worker_events_lost_total", "Events lost as the ring was full.",
		WORKER(events_lost));
}

static void port_metric(struct out *out, const struct lb_shm_map *map, const char *name,
	const char *type, const char *help, size_t offset)
{
	struct lb_shm_port port;

	head(out, name, type, help);
	for (unsigned i = 0; i < LB_SHM_MAX_PORTS; i++)
		if (lb_counters_port(map, i, &port))
			line(out, "fulcrum_%s{port=\"%u\"} %" PRIu64, name, i,
				*(const uint64_t *)((const char *)&port + offset));
}

#define PORT(field) offsetof(struct lb_shm_port, field)

static void port_metrics(struct out *out, const struct lb_model *model)
{
	const struct lb_shm_map *map = lb_dp_map(model->dp);
	struct lb_shm_port port;

	head(out, "port_up", "gauge", "1 if the link is up.");
	for (unsigned i = 0; i < LB_SHM_MAX_PORTS; i++)
		if (lb_counters_port(map, i, &port))
			line(out, "fulcrum_port_up{port=\"%u\"} %d", i, port.link_up != 0);
	port_metric(
		out, map, "port_rx_packets_total", "counter", "Packets received.", PORT(rx_pkts));
	port_metric(out, map, "port_rx_bytes_total", "counter", "Bytes received.", PORT(rx_bytes));
	port_metric(out, map, "port_tx_packets_total", "counter", "Packets sent.", PORT(tx_pkts));
	port_metric(out, map, "port_tx_bytes_total", "counter", "Bytes sent.", PORT(tx_bytes));
	port_metric(out, map, "port_rx_missed_total", "counter",
		"Packets lost as the queue was full.", PORT(rx_missed));
	port_metric(out, map, "port_rx_errors_total", "counter", "Packets received with errors.",
		PORT(rx_errors));
	port_metric(out, map, "port_rx_nombuf_total", "counter",
		"Packets lost for want of buffers.", PORT(rx_nombuf));
	port_metric(out, map, "port_tx_errors_total", "counter", "Packets that could not be sent.",
		PORT(tx_errors));
}

static void session_metric(struct out *out, const struct lb_shm_map *map, const char *name,
	const char *type, const char *help, size_t offset)
{
	struct lb_session_counters sessions;

	head(out, name, type, help);
	for (unsigned i = 0; map != NULL && i < map->n_workers; i++) {
		lb_counters_sessions(map, i, &sessions);
		line(out, "fulcrum_%s{worker=\"%u\"} %" PRIu64, name, i,
			*(const uint64_t *)((const char *)&sessions + offset));
	}
}

static void local_metric(struct out *out, const struct lb_shm_map *map, const char *name,
	const char *type, const char *help, size_t offset)
{
	struct lb_local_sum local;
	char text[LB_ADDR_STRLEN];

	head(out, name, type, help);
	for (unsigned i = 0; map != NULL && i < map->n_workers; i++)
		for (unsigned k = 0; k < LB_MAX_LOCALS; k++)
			if (lb_counters_local(map, i, k, &local))
				line(out, "fulcrum_%s{worker=\"%u\",local=\"%s\"} %" PRIu64, name, i,
					lb_addr_format(&local.addr, text),
					*(const uint64_t *)((const char *)&local + offset));
}

#define SESSION(field) offsetof(struct lb_session_counters, field)
#define LOCAL(field) offsetof(struct lb_local_sum, field)

static void fullnat_metrics(struct out *out, const struct lb_shm_map *map)
{
	session_metric(out, map, "fullnat_sessions_used", "gauge", "Sessions of mode fullnat.", SESSION(used));
	session_metric(out, map, "fullnat_sessions_max", "gauge",
		"Sessions that there is room for, 0: no fullnat service yet.", SESSION(capacity));
	session_metric(out, map, "fullnat_sessions_begun_total", "counter", "Sessions that began.",
		SESSION(insert));
	session_metric(out, map, "fullnat_sessions_expired_total", "counter",
		"Sessions that ended as closed or idle.", SESSION(expire));
	session_metric(out, map, "fullnat_sessions_evicted_total", "counter",
		"Sessions of which only a SYN was seen, that made way for another one.", SESSION(evicted));
	session_metric(out, map, "fullnat_sessions_full_total", "counter",
		"Sessions refused as the table was full.", SESSION(full));
	session_metric(out, map, "fullnat_sessions_without_port_total", "counter",
		"Sessions refused as no local port was free towards their backend.",
		SESSION(ports_exhausted));
	session_metric(out, map, "fullnat_handed_over_packets_total", "counter",
		"Replies passed on to the worker that has their session.", SESSION(handed_over));
	session_metric(out, map, "fullnat_taken_over_packets_total", "counter",
		"Replies taken over from other workers.", SESSION(taken_over));
	session_metric(out, map, "fullnat_toa_added_total", "counter", "Segments given a TOA option.",
		SESSION(toa_added));
	session_metric(out, map, "fullnat_toa_no_room_total", "counter",
		"Segments without room for their TOA option.", SESSION(toa_no_room));
	session_metric(out, map, "fullnat_toa_removed_total", "counter",
		"Segments of clients that brought a TOA option.", SESSION(toa_removed));
	session_metric(out, map, "fullnat_proxy_headers_total", "counter",
		"PROXY headers sent, repeated ones too.", SESSION(proxy_headers));
	local_metric(out, map, "fullnat_ports_used", "gauge",
		"Local ports in use, towards all backends together.", LOCAL(n_used));
	local_metric(out, map, "fullnat_ports_max", "gauge",
		"Local ports there are, towards all backends together; 0: the address is no longer in use.",
		LOCAL(n_max));
	local_metric(out, map, "fullnat_ports_exhausted_total", "counter",
		"Times that none was free towards a backend.", LOCAL(n_exhausted));
}

// Messages in a ring of the region; the other side's indexes are not trusted.
static uint32_t ring_depth(const struct lb_ring_shm *ring)
{
	uint32_t n = __atomic_load_n(&ring->tail, __ATOMIC_RELAXED) -
		     __atomic_load_n(&ring->head, __ATOMIC_RELAXED);

	return n <= LB_RING_CAPACITY ? n : LB_RING_CAPACITY;
}

static void ring_metrics(struct out *out, const struct lb_model *model)
{
	const struct lb_shm_map *map = lb_dp_map(model->dp);

	head(out, "ring_messages", "gauge", "Messages that wait in a ring of the shared memory.");
	if (map == NULL)
		return;
	line(out, "fulcrum_ring_messages{ring=\"command\"} %" PRIu32, ring_depth(&map->shm->command));
	line(out, "fulcrum_ring_messages{ring=\"reply\"} %" PRIu32, ring_depth(&map->shm->reply));
	for (unsigned i = 0; i < map->n_workers; i++)
		line(out, "fulcrum_ring_messages{ring=\"event_%u\"} %" PRIu32, i,
			ring_depth(&map->shm->events[i]));
}

static void service_metrics(struct out *out, const struct lb_model *model)
{
	head(out, "service_table_version", "gauge",
		"Version of the lookup table that the data plane has confirmed, 0: none.");
	for (size_t i = 0; i < model->n_services; i++)
		line(out, "fulcrum_service_table_version{service=\"%s\"} %" PRIu32,
			model->services[i]->config->name, model->services[i]->live_version);
	head(out, "service_active_tier", "gauge",
		"Highest tier that takes part, -1: no backend is eligible.");
	for (size_t i = 0; i < model->n_services; i++)
		line(out, "fulcrum_service_active_tier{service=\"%s\"} %d",
			model->services[i]->config->name, model->services[i]->active_tier);
	head(out, "service_health_ignored", "gauge",
		"1 if health is ignored: in panic, or as the last resort.");
	for (size_t i = 0; i < model->n_services; i++)
		line(out, "fulcrum_service_health_ignored{service=\"%s\"} %d",
			model->services[i]->config->name,
			model->services[i]->health_ignored != LB_HEALTH_HEEDED);
	head(out, "service_no_backend_total", "counter",
		"Packets dropped as no backend could take them.");
	for (size_t i = 0; i < model->n_services; i++)
		line(out, "fulcrum_service_no_backend_total{service=\"%s\"} %" PRIu64,
			model->services[i]->config->name, lb_api_no_backend(model->services[i]));
}

/* @p label: "" or "service=\"web\"". */
static void histogram(struct out *out, const char *name, const char *label,
	const struct lb_health_histogram *values)
{
	const char *comma = label[0] != '\0' ? "," : "", *left = label[0] != '\0' ? "{" : "";
	const char *right = label[0] != '\0' ? "}" : "";
	uint64_t n = 0;

	for (unsigned i = 0; i < LB_HEALTH_N_BOUNDS; i++) {
		n += values->n[i];
		line(out, "fulcrum_%s_bucket{%s%sle=\"%g\"} %" PRIu64, name, label, comma,
			lb_health_bounds_us[i] / 1e6, n);
	}
	n += values->n[LB_HEALTH_N_BOUNDS];
	line(out, "fulcrum_%s_bucket{%s%sle=\"+Inf\"} %" PRIu64, name, label, comma, n);
	line(out, "fulcrum_%s_sum%s%s%s %.6f", name, left, label, right, (double)values->sum_us / 1e6);
	line(out, "fulcrum_%s_count%s%s%s %" PRIu64, name, left, label, right, n);
}

static void duration_metrics(struct out *out, const struct lb_model *model)
{
	char label[100];

	head(out, "check_duration_seconds", "histogram",
		"How long health checks took, failed ones too, by service.");
	for (size_t i = 0; i < model->n_services; i++) {
		snprintf(label, sizeof(label), "service=\"%s\"", model->services[i]->config->name);
		histogram(out, "check_duration_seconds", label, &model->services[i]->durations);
	}
}

static void check_metrics(struct out *out, const struct lb_model *model)
{
	struct lb_health_stats stats;

	lb_health_stats(model->health, &stats);
	single(out, "checks", "gauge", "Health checks there are, agents too.", stats.n_checks);
	single(out, "checks_in_flight", "gauge", "Probes that run.", stats.n_in_flight);
	single(out, "checks_waiting", "gauge", "Probes that are due and wait for a place.",
		stats.n_waiting);
	single(out, "check_probes_total", "counter", "Probes started.", stats.n_probes);
	single(out, "check_not_judged_total", "counter",
		"Probes that failed for want of our own resources.", stats.n_not_judged);
	head(out, "check_max_late_seconds", "gauge",
		"The longest delay of a probe against its plan since the daemon started.");
	line(out, "fulcrum_check_max_late_seconds %.6f", stats.max_late_us / 1e6);
	head(out, "check_late_seconds", "histogram",
		"How late checks began, against their plan.");
	histogram(out, "check_late_seconds", "", &stats.late);
	duration_metrics(out, model);
}

struct backend_metric {
	const char *name, *type, *help;
	size_t offset;
};

#define BACKEND(field) offsetof(struct lb_backend_counters, field)

static const struct backend_metric backend_counters[] = {
	{"backend_in_packets_total", "counter", "Packets to the backend.", BACKEND(in_pkts)},
	{"backend_in_bytes_total", "counter", "Bytes to the backend.", BACKEND(in_bytes)},
	{"backend_out_packets_total", "counter", "Packets of the backend to clients.",
		BACKEND(out_pkts)},
	{"backend_out_bytes_total", "counter", "Bytes of the backend to clients.",
		BACKEND(out_bytes)},
	{"backend_new_flows_total", "counter", "Flows that began.", BACKEND(new_flows)},
	{"backend_active_flows", "gauge", "Flows that are open.", BACKEND(active_flows)},
	{"backend_closing_flows", "gauge", "Flows that are over, until their entries go.",
		BACKEND(closing_flows)},
	{"backend_resets_total", "counter", "Resets sent by the backend.", BACKEND(resets)},
};
#define N_BACKEND_COUNTERS (sizeof(backend_counters) / sizeof(backend_counters[0]))

static void backend_line(
	struct out *out, const char *name, const struct lb_backend *backend, uint64_t value)
{
	line(out, "fulcrum_%s{service=\"%s\",backend=\"%s\"} %" PRIu64, name,
		backend->service->config->name, backend->config->name, value);
}

static void backend_metrics(
	struct out *out, const struct lb_model *model, const struct backend_metric *metric)
{
	struct lb_backend_counters counters;

	head(out, metric->name, metric->type, metric->help);
	for (size_t i = 0; i < model->n_services; i++) {
		for (size_t j = 0; j < model->services[i]->n_backends; j++) {
			const struct lb_backend *backend = model->services[i]->backends[j];

			lb_api_backend_counters(backend, &counters);
			backend_line(out, metric->name, backend,
				*(const uint64_t *)((const char *)&counters + metric->offset));
		}
	}
}

static void name_metrics(struct out *out, const struct lb_model *model)
{
	struct lb_name_info info;

	head(out, "name_resolved", "gauge", "1 if the last question for the host name was answered.");
	for (size_t i = 0; lb_names_at(model->names, i, &info); i++)
		line(out, "fulcrum_name_resolved{name=\"%s\"} %d", info.name,
			info.state == LB_NAME_RESOLVED);
}

static void state_metrics(struct out *out, const struct lb_model *model)
{
	head(out, "backend_up", "gauge",
		"1 if the backend takes new flows, by health and admin state.");
	for (size_t i = 0; i < model->n_services; i++)
		for (size_t j = 0; j < model->services[i]->n_backends; j++)
			backend_line(out, "backend_up", model->services[i]->backends[j],
				model->services[i]->backends[j]->effective == LB_BACKEND_UP);
	head(out, "backend_suspect", "gauge", "1 if what passes says that it does not answer.");
	for (size_t i = 0; i < model->n_services; i++)
		for (size_t j = 0; j < model->services[i]->n_backends; j++)
			backend_line(out, "backend_suspect", model->services[i]->backends[j],
				model->services[i]->backends[j]->suspect);
	head(out, "backend_weight", "gauge", "Configured weight.");
	for (size_t i = 0; i < model->n_services; i++)
		for (size_t j = 0; j < model->services[i]->n_backends; j++)
			backend_line(out, "backend_weight", model->services[i]->backends[j],
				model->services[i]->backends[j]->config->weight);
	head(out, "backend_weight_percent", "gauge",
		"Share of its configured weight that is in effect: slow start, agent.");
	for (size_t i = 0; i < model->n_services; i++)
		for (size_t j = 0; j < model->services[i]->n_backends; j++)
			backend_line(out, "backend_weight_percent", model->services[i]->backends[j],
				lb_model_weight_percent(model->services[i]->backends[j]));
}

void lb_api_metrics(struct lb_api_request *request)
{
	const struct lb_model *model = request->model;
	struct out out = {0};

	out.file = open_memstream(&out.text, &out.len);
	if (out.file == NULL) {
		lb_api_reply(request, 500, NULL);
		return;
	}
	global_metrics(&out, model);
	announce_metrics(&out, model);
	verdict_metrics(&out, model);
	worker_metrics(&out, model);
	port_metrics(&out, model);
	fullnat_metrics(&out, lb_dp_map(model->dp));
	ring_metrics(&out, model);
	service_metrics(&out, model);
	check_metrics(&out, model);
	name_metrics(&out, model);
	state_metrics(&out, model);
	for (size_t i = 0; i < N_BACKEND_COUNTERS; i++)
		backend_metrics(&out, model, &backend_counters[i]);
	if (fclose(out.file) != 0)
		lb_api_reply(request, 500, NULL);
	else
		lb_api_reply_text(
			request, 200, "text/plain; version=0.0.4; charset=utf-8", out.text);
	free(out.text);
}
