/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>

#include "control/api.h"
#include "control/counters.h"
#include "control/document.h"
#include "control/json.h"
#include "control/mem.h"

json_t *lb_api_workers_json(const struct lb_model *model)
{
	const struct lb_shm_map *map = lb_dp_map(model->dp);
	json_t *list = json_array();
	struct lb_worker_sum sum;

	for (unsigned i = 0; map != NULL && i < map->n_workers; i++) {
		lb_counters_worker(map, i, &sum);
		json_array_append_new(list,
			json_pack("{s:i, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id", i,
				"lcore", (json_int_t)sum.lcore, "rx_pkts", lb_json_u64(sum.rx_pkts),
				"rx_bytes", lb_json_u64(sum.rx_bytes), "tx_pkts",
				lb_json_u64(sum.tx_pkts), "tx_bytes", lb_json_u64(sum.tx_bytes),
				"polls", lb_json_u64(sum.polls), "polls_idle",
				lb_json_u64(sum.polls_idle), "events_lost",
				lb_json_u64(sum.events_lost), "flows_used",
				lb_json_u64(sum.flows_used)));
	}
	return list;
}

static json_t *port_json(unsigned id, const struct lb_shm_port *port)
{
	char ifname[IF_NAMESIZE], mac[18];
	bool has_name = port->ifindex != 0 && if_indextoname(port->ifindex, ifname) != NULL;
	json_t *json;

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", port->mac[0], port->mac[1],
		port->mac[2], port->mac[3], port->mac[4], port->mac[5]);
	json = json_pack("{s:i, s:o, s:o, s:o, s:o, s:b, s:I, s:i, s:s, s:i}", "id", id, "name",
		lb_json_text(port->name), "driver", lb_json_text(port->driver), "ifindex",
		port->ifindex != 0 ? json_integer(port->ifindex) : json_null(), "ifname",
		lb_json_text(has_name ? ifname : NULL), "link_up", port->link_up != 0, "speed_mbps",
		(json_int_t)port->speed_mbps, "mtu", port->mtu, "mac", mac, "n_queues",
		port->n_queues);
	json_object_update_new(json,
		json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "rx_pkts",
			lb_json_u64(port->rx_pkts), "rx_bytes", lb_json_u64(port->rx_bytes),
			"tx_pkts", lb_json_u64(port->tx_pkts), "tx_bytes",
			lb_json_u64(port->tx_bytes), "rx_missed_pkts", lb_json_u64(port->rx_missed),
			"rx_error_pkts", lb_json_u64(port->rx_errors), "rx_nombuf_pkts",
			lb_json_u64(port->rx_nombuf), "tx_error_pkts",
			lb_json_u64(port->tx_errors)));
	return json;
}

json_t *lb_api_ports_json(const struct lb_model *model)
{
	const struct lb_shm_map *map = lb_dp_map(model->dp);
	json_t *list = json_array();
	struct lb_shm_port port;

	for (unsigned i = 0; i < LB_SHM_MAX_PORTS; i++)
		if (lb_counters_port(map, i, &port))
			json_array_append_new(list, port_json(i, &port));
	return list;
}

static uint64_t flows_max(const struct lb_shm_map *map)
{
	return map != NULL ? __atomic_load_n(&map->shm->header.flows_max, __ATOMIC_RELAXED) : 0;
}

static json_t *totals_json(const struct lb_shm_map *map, const struct lb_flow_counters *flow)
{
	struct lb_worker_sum sum = {0}, one;
	uint64_t verdicts[LB_VERDICT_N], n_drops = 0;

	for (unsigned i = 0; map != NULL && i < map->n_workers; i++) {
		lb_counters_worker(map, i, &one);
		sum.rx_pkts += one.rx_pkts;
		sum.rx_bytes += one.rx_bytes;
		sum.tx_pkts += one.tx_pkts;
		sum.tx_bytes += one.tx_bytes;
	}
	lb_counters_verdicts(map, verdicts);
	for (unsigned i = 0; i < LB_VERDICT_N; i++)
		n_drops += lb_verdict_is_drop(i) ? verdicts[i] : 0;
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "rx_pkts",
		lb_json_u64(sum.rx_pkts), "rx_bytes", lb_json_u64(sum.rx_bytes), "tx_pkts",
		lb_json_u64(sum.tx_pkts), "tx_bytes", lb_json_u64(sum.tx_bytes), "forward_pkts",
		lb_json_u64(verdicts[LB_VERDICT_FORWARD]), "reply_pkts",
		lb_json_u64(verdicts[LB_VERDICT_REPLY]), "host_pkts",
		lb_json_u64(verdicts[LB_VERDICT_HOST]), "echo_pkts",
		lb_json_u64(verdicts[LB_VERDICT_ECHO]), "drop_pkts", lb_json_u64(n_drops),
		"flows_used", lb_json_u64(flow->used), "flows_max", lb_json_u64(flows_max(map)));
}

static json_t *flow_json(const struct lb_flow_counters *flow)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "hit",
		lb_json_u64(flow->hit), "miss", lb_json_u64(flow->miss), "insert",
		lb_json_u64(flow->insert), "expire", lb_json_u64(flow->expire), "evict",
		lb_json_u64(flow->evict), "insert_failed", lb_json_u64(flow->insert_failed),
		"origin", lb_json_u64(flow->origin), "moved", lb_json_u64(flow->moved),
		"tracking_changes", lb_json_u64(flow->tracking_changes), "reset",
		lb_json_u64(flow->reset), "reset_lost", lb_json_u64(flow->reset_lost));
}

static json_t *answers_json(const struct lb_shm_map *map)
{
	struct lb_answer_counters answers;
	json_t *json = json_object();

	lb_counters_answers(map, &answers);
	for (unsigned i = 0; i < LB_ANSWER_N; i++)
		json_object_set_new(json, lb_answer_name(i), lb_json_u64(answers.sent[i]));
	json_object_set_new(json, "limited", lb_json_u64(answers.limited));
	return json;
}

/* Of the service that is being told of. */
struct service_sum {
	struct lb_backend_counters counters;
	uint64_t no_backend;
};

static void begin_service(struct lb_document *document, struct lb_service *service)
{
	struct service_sum *sum = document->state;

	*sum = (struct service_sum){.no_backend = lb_api_no_backend(service)};
	lb_writer_open(&document->out, NULL, '{');
	lb_writer_string(&document->out, "name", service->config->name);
	lb_writer_open(&document->out, "backends", '[');
}

/* What both documents have of a backend. @return its counters, which are in the sum. */
static struct lb_backend_counters begin_backend(struct lb_document *document, const struct lb_backend *backend)
{
	struct service_sum *sum = document->state;
	struct lb_backend_counters counters;

	lb_api_backend_counters(backend, &counters);
	lb_api_add_counters(&sum->counters, &counters);
	lb_writer_open(&document->out, NULL, '{');
	lb_writer_string(&document->out, "name", backend->config->name);
	lb_writer_string(&document->out, "effective", lb_backend_state_name(backend->effective));
	return counters;
}

static void write_backend_stats(struct lb_document *document, struct lb_backend *backend)
{
	struct lb_backend_counters counters = begin_backend(document, backend);

	lb_writer_u64(&document->out, "weight", backend->config->weight);
	lb_api_write_counters(&document->out, "counters", &counters, NULL);
	lb_writer_close(&document->out, '}');
}

static void end_service_stats(struct lb_document *document)
{
	const struct service_sum *sum = document->state;

	lb_writer_close(&document->out, ']');
	lb_api_write_counters(&document->out, "counters", &sum->counters, &sum->no_backend);
	lb_writer_close(&document->out, '}');
}

static void begin_stats(struct lb_document *document)
{
	const struct lb_model *model = document->model;
	const struct lb_shm_map *map = lb_dp_map(model->dp);
	struct lb_writer *out = &document->out;
	struct lb_flow_counters flow;
	char boot_id[17];

	lb_counters_flow(map, &flow);
	snprintf(boot_id, sizeof(boot_id), "%016" PRIx64, model->boot_id);
	lb_api_document_begin(document);
	lb_writer_string(out, "boot_id", map != NULL ? boot_id : NULL);
	lb_writer_json(out, "totals", totals_json(map, &flow));
	lb_writer_json(out, "flow", flow_json(&flow));
	lb_writer_json(out, "answers", answers_json(map));
	lb_writer_json(out, "fullnat", lb_api_fullnat_json(map));
	lb_writer_json(out, "workers", lb_api_workers_json(model));
	lb_writer_json(out, "ports", lb_api_ports_json(model));
	lb_writer_open(out, "services", '[');
}

void lb_api_stats(struct lb_api_request *request)
{
	static const struct lb_document_part parts[] = {
		{.begin = begin_stats, .service = begin_service, .backend = write_backend_stats,
			.service_end = end_service_stats, .end = lb_api_document_end},
	};

	lb_document_reply(request, "application/json", parts, 1, NULL,
		lb_xcalloc(1, sizeof(struct service_sum)), free);
}

void lb_api_drops(struct lb_api_request *request)
{
	json_t *drops = json_array(), *other = json_array();
	uint64_t verdicts[LB_VERDICT_N], n_drops = 0;
	struct lb_writer out = {0};

	lb_counters_verdicts(lb_dp_map(request->model->dp), verdicts);
	for (unsigned i = 0; i < LB_VERDICT_N; i++) {
		json_array_append_new(lb_verdict_is_drop(i) ? drops : other,
			json_pack("{s:s, s:s, s:o}", "reason", lb_verdict_name(i), "meaning",
				lb_verdict_meaning(i), "pkts", lb_json_u64(verdicts[i])));
		n_drops += lb_verdict_is_drop(i) ? verdicts[i] : 0;
	}
	lb_writer_open(&out, NULL, '{');
	lb_api_write_stamp(&out, request->model);
	lb_writer_u64(&out, "total_pkts", n_drops);
	lb_writer_json(&out, "drops", drops);
	lb_writer_json(&out, "other", other);
	lb_writer_close(&out, '}');
	lb_api_reply_written(request, 200, &out);
}

static void write_backend_flows(struct lb_document *document, struct lb_backend *backend)
{
	struct lb_backend_counters counters = begin_backend(document, backend);

	lb_writer_u64(&document->out, "active_flows", (uint64_t)counters.active_flows);
	lb_writer_close(&document->out, '}');
}

static void end_service_flows(struct lb_document *document)
{
	const struct service_sum *sum = document->state;

	lb_writer_close(&document->out, ']');
	lb_writer_u64(&document->out, "active_flows", (uint64_t)sum->counters.active_flows);
	lb_writer_close(&document->out, '}');
}

static void begin_flows(struct lb_document *document)
{
	const struct lb_shm_map *map = lb_dp_map(document->model->dp);
	struct lb_flow_counters flow;

	lb_counters_flow(map, &flow);
	lb_api_document_begin(document);
	lb_writer_u64(&document->out, "flows_used", flow.used);
	lb_writer_u64(&document->out, "flows_max", flows_max(map));
	lb_writer_open(&document->out, "services", '[');
}

void lb_api_flows(struct lb_api_request *request)
{
	static const struct lb_document_part parts[] = {
		{.begin = begin_flows, .service = begin_service, .backend = write_backend_flows,
			.service_end = end_service_flows, .end = lb_api_document_end},
	};
	const char *name = lb_api_param(request, "service");
	const struct lb_service *service = name != NULL ? lb_model_service(request->model, name) : NULL;

	if (name != NULL && service == NULL) {
		lb_api_error(request, 404, "not_found", "service", "no service \"%s\"", name);
		return;
	}
	if (!lb_api_need_dataplane(request))
		return;
	lb_document_reply(request, "application/json", parts, 1, service,
		lb_xcalloc(1, sizeof(struct service_sum)), free);
}
