/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdio.h>

#include "control/announce.h"
#include "control/api.h"
#include "control/counters.h"
#include "control/document.h"

/*
 * Prometheus text format 0.0.4. Names of services and backends need no escaping: the config allows
 * neither quotes nor backslashes in them. All lines of a metric have to stand together: there is a part of the document
 * for each metric that services or backends have.
 */

#define line(out, format, ...) lb_writer_format(out, format "\n", ##__VA_ARGS__)

static void head(struct lb_writer *out, const char *name, const char *type, const char *help)
{
	line(out, "# HELP fulcrum_%s %s", name, help);
	line(out, "# TYPE fulcrum_%s %s", name, type);
}

static void single(
	struct lb_writer *out, const char *name, const char *type, const char *help, uint64_t value)
{
	head(out, name, type, help);
	line(out, "fulcrum_%s %" PRIu64, name, value);
}

static void global_metrics(struct lb_writer *out, const struct lb_model *model)
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

static void answer_metrics(struct lb_writer *out, const struct lb_shm_map *map)
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

static void vip_line(void *arg, const struct lb_announced_vip *vip)
{
	line((struct lb_writer *)arg, "fulcrum_vip_announced{vip=\"%s\"} %d", vip->address, vip->is_announced);
}

static void announce_metrics(struct lb_writer *out, const struct lb_model *model)
{
	single(out, "maintenance", "gauge", "1 while maintenance is on and no VIP is announced.",
		lb_announce_maintenance(model->announce));
	head(out, "vip_announced", "gauge", "1 if the VIP has its route in announce.table.");
	lb_announce_each(model->announce, vip_line, out);
}

static void verdict_metrics(struct lb_writer *out, const struct lb_model *model)
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
static void worker_metric(struct lb_writer *out, const struct lb_shm_map *map, const char *name,
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

static void worker_metrics(struct lb_writer *out, const struct lb_model *model)
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

static void port_metric(struct lb_writer *out, const struct lb_shm_map *map, const char *name,
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

static void port_metrics(struct lb_writer *out, const struct lb_model *model)
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

static void session_metric(struct lb_writer *out, const struct lb_shm_map *map, const char *name,
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

static void local_metric(struct lb_writer *out, const struct lb_shm_map *map, const char *name,
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

static void fullnat_metrics(struct lb_writer *out, const struct lb_shm_map *map)
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

static void ring_metrics(struct lb_writer *out, const struct lb_model *model)
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

/* Metrics of each service and of each backend. */

struct metric {
	const char *name, *type, *help;
	uint64_t (*of_service)(const struct lb_service *service);
	uint64_t (*of_backend)(const struct lb_backend *backend);
	size_t offset; /* else: in struct lb_backend_counters */
	bool is_signed;
};

static void begin_metric(struct lb_document *document)
{
	const struct metric *metric = document->part->arg;

	head(&document->out, metric->name, metric->type, metric->help);
}

/* There may be a million such lines: without a format, which would take most of the time. */
static void begin_line(struct lb_writer *out, const char *name, const char *service)
{
	lb_writer_text(out, "fulcrum_");
	lb_writer_text(out, name);
	lb_writer_text(out, "{service=\"");
	lb_writer_text(out, service);
}

static void end_line(struct lb_writer *out, const struct metric *metric, uint64_t value)
{
	bool is_negative = metric->is_signed && (int64_t)value < 0;

	lb_writer_text(out, is_negative ? "\"} -" : "\"} ");
	lb_writer_decimal(out, is_negative ? -value : value);
	lb_writer_text(out, "\n");
}

static void service_line(struct lb_document *document, struct lb_service *service)
{
	const struct metric *metric = document->part->arg;

	begin_line(&document->out, metric->name, service->config->name);
	end_line(&document->out, metric, metric->of_service(service));
}

static uint64_t counter_of(const struct lb_backend *backend, const struct metric *metric)
{
	struct lb_backend_counters counters;
	uint64_t value;

	lb_api_backend_counters(backend, &counters);
	memcpy(&value, (const char *)&counters + metric->offset, sizeof(value));
	return value;
}

static void backend_line(struct lb_document *document, struct lb_backend *backend)
{
	const struct metric *metric = document->part->arg;
	struct lb_writer *out = &document->out;

	begin_line(out, metric->name, backend->service->config->name);
	lb_writer_text(out, "\",backend=\"");
	lb_writer_text(out, backend->config->name);
	end_line(out, metric, metric->of_backend != NULL ? metric->of_backend(backend) : counter_of(backend, metric));
}

static uint64_t live_version(const struct lb_service *service)
{
	return service->live_version;
}

static uint64_t active_tier(const struct lb_service *service)
{
	return (uint64_t)service->active_tier;
}

static uint64_t health_ignored(const struct lb_service *service)
{
	return service->health_ignored != LB_HEALTH_HEEDED;
}

static uint64_t no_backend(const struct lb_service *service)
{
	return lb_api_no_backend(service);
}

static uint64_t is_up(const struct lb_backend *backend)
{
	return backend->effective == LB_BACKEND_UP;
}

static uint64_t is_suspect(const struct lb_backend *backend)
{
	return backend->suspect;
}

static uint64_t weight(const struct lb_backend *backend)
{
	return backend->config->weight;
}

static uint64_t weight_percent(const struct lb_backend *backend)
{
	return lb_model_weight_percent(backend);
}

/* @p label: "" or "service=\"web\"". */
static void histogram(struct lb_writer *out, const char *name, const char *label,
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

static void service_durations(struct lb_document *document, struct lb_service *service)
{
	char label[100];

	snprintf(label, sizeof(label), "service=\"%s\"", service->config->name);
	histogram(&document->out, "check_duration_seconds", label, &service->durations);
}

static void check_metrics(struct lb_writer *out, const struct lb_model *model)
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
}

static void name_line(void *arg, const struct lb_name_info *info)
{
	line((struct lb_writer *)arg, "fulcrum_name_resolved{name=\"%s\"} %d", info->name,
		info->state == LB_NAME_RESOLVED);
}

static void name_metrics(struct lb_writer *out, const struct lb_model *model)
{
	head(out, "name_resolved", "gauge", "1 if the last question for the host name was answered.");
	lb_names_each(model->names, name_line, out);
}

static void begin_metrics(struct lb_document *document)
{
	const struct lb_model *model = document->model;
	struct lb_writer *out = &document->out;

	global_metrics(out, model);
	announce_metrics(out, model);
	verdict_metrics(out, model);
	worker_metrics(out, model);
	port_metrics(out, model);
	fullnat_metrics(out, lb_dp_map(model->dp));
	ring_metrics(out, model);
	check_metrics(out, model);
	name_metrics(out, model);
}

#define OF_SERVICE(...) {.begin = begin_metric, .service = service_line, .arg = &(const struct metric){__VA_ARGS__}}
#define OF_BACKEND(...) {.begin = begin_metric, .backend = backend_line, .arg = &(const struct metric){__VA_ARGS__}}
#define COUNTER(field) .offset = offsetof(struct lb_backend_counters, field)

static const struct lb_document_part parts[] = {
	{.begin = begin_metrics},
	OF_SERVICE("service_table_version", "gauge",
		"Version of the lookup table that the data plane has confirmed, 0: none.", .of_service = live_version),
	OF_SERVICE("service_active_tier", "gauge", "Highest tier that takes part, -1: no backend is eligible.",
		.of_service = active_tier, .is_signed = true),
	OF_SERVICE("service_health_ignored", "gauge", "1 if health is ignored: in panic, or as the last resort.",
		.of_service = health_ignored),
	OF_SERVICE("service_no_backend_total", "counter", "Packets dropped as no backend could take them.",
		.of_service = no_backend),
	{.begin = begin_metric, .service = service_durations,
		.arg = &(const struct metric){"check_duration_seconds", "histogram",
			"How long health checks took, failed ones too, by service."}},
	OF_BACKEND("backend_up", "gauge", "1 if the backend takes new flows, by health and admin state.",
		.of_backend = is_up),
	OF_BACKEND("backend_suspect", "gauge", "1 if what passes says that it does not answer.",
		.of_backend = is_suspect),
	OF_BACKEND("backend_weight", "gauge", "Configured weight.", .of_backend = weight),
	OF_BACKEND("backend_weight_percent", "gauge",
		"Share of its configured weight that is in effect: slow start, agent.", .of_backend = weight_percent),
	OF_BACKEND("backend_in_packets_total", "counter", "Packets to the backend.", COUNTER(in_pkts)),
	OF_BACKEND("backend_in_bytes_total", "counter", "Bytes to the backend.", COUNTER(in_bytes)),
	OF_BACKEND("backend_out_packets_total", "counter", "Packets of the backend to clients.", COUNTER(out_pkts)),
	OF_BACKEND("backend_out_bytes_total", "counter", "Bytes of the backend to clients.", COUNTER(out_bytes)),
	OF_BACKEND("backend_new_flows_total", "counter", "Flows that began.", COUNTER(new_flows)),
	OF_BACKEND("backend_active_flows", "gauge", "Flows that are open.", COUNTER(active_flows)),
	OF_BACKEND("backend_closing_flows", "gauge",
		"Flows that are over, until their entries go.", COUNTER(closing_flows)),
	OF_BACKEND("backend_resets_total", "counter", "Resets sent by the backend.", COUNTER(resets)),
};

void lb_api_metrics(struct lb_api_request *request)
{
	lb_document_reply(request, "text/plain; version=0.0.4; charset=utf-8", parts,
		sizeof(parts) / sizeof(parts[0]), NULL, NULL, NULL);
}
