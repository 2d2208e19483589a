/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>

#include "control/api.h"
#include "control/counters.h"
#include "control/json.h"

static json_t *stamped(const struct lb_model *model)
{
	return json_pack("{s:o, s:s}", "timestamp_ns", lb_json_u64(lb_realtime_ns()), "dataplane",
		lb_dp_state_name(lb_dp_state(model->dp)));
}

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

static json_t *service_stats_json(const struct lb_service *service)
{
	struct lb_backend_counters counters;
	json_t *backends = json_array();

	for (size_t i = 0; i < service->n_backends; i++) {
		const struct lb_backend *backend = service->backends[i];

		lb_api_backend_counters(backend, &counters);
		json_array_append_new(
			backends, json_pack("{s:s, s:s, s:I, s:o}", "name", backend->config->name,
					  "effective", lb_backend_state_name(backend->effective),
					  "weight", (json_int_t)backend->config->weight, "counters",
					  lb_api_backend_counters_json(&counters)));
	}
	return json_pack("{s:s, s:o, s:o}", "name", service->config->name, "counters",
		lb_api_service_counters_json(service), "backends", backends);
}

void lb_api_stats(struct lb_api_request *request)
{
	const struct lb_model *model = request->model;
	const struct lb_shm_map *map = lb_dp_map(model->dp);
	json_t *json = stamped(model), *services = json_array();
	struct lb_flow_counters flow;
	char boot_id[17];

	lb_counters_flow(map, &flow);
	snprintf(boot_id, sizeof(boot_id), "%016" PRIx64, model->boot_id);
	for (size_t i = 0; i < model->n_services; i++)
		json_array_append_new(services, service_stats_json(model->services[i]));
	json_object_update_new(
		json, json_pack("{s:s?, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "boot_id",
			      map != NULL ? boot_id : NULL, "totals", totals_json(map, &flow),
			      "flow", flow_json(&flow), "answers", answers_json(map), "fullnat",
			      lb_api_fullnat_json(map), "workers", lb_api_workers_json(model),
			      "ports", lb_api_ports_json(model), "services", services));
	lb_api_reply(request, 200, json);
}

void lb_api_drops(struct lb_api_request *request)
{
	json_t *json = stamped(request->model), *drops = json_array(), *other = json_array();
	uint64_t verdicts[LB_VERDICT_N], n_drops = 0;

	lb_counters_verdicts(lb_dp_map(request->model->dp), verdicts);
	for (unsigned i = 0; i < LB_VERDICT_N; i++) {
		json_array_append_new(lb_verdict_is_drop(i) ? drops : other,
			json_pack("{s:s, s:s, s:o}", "reason", lb_verdict_name(i), "meaning",
				lb_verdict_meaning(i), "pkts", lb_json_u64(verdicts[i])));
		n_drops += lb_verdict_is_drop(i) ? verdicts[i] : 0;
	}
	json_object_update_new(json, json_pack("{s:o, s:o, s:o}", "total_pkts",
					     lb_json_u64(n_drops), "drops", drops, "other", other));
	lb_api_reply(request, 200, json);
}

static json_t *service_flows_json(const struct lb_service *service)
{
	struct lb_backend_counters counters;
	json_t *backends = json_array();
	uint64_t n_flows = 0;

	for (size_t i = 0; i < service->n_backends; i++) {
		const struct lb_backend *backend = service->backends[i];

		lb_api_backend_counters(backend, &counters);
		n_flows += (uint64_t)counters.active_flows;
		json_array_append_new(backends,
			json_pack("{s:s, s:s, s:o}", "name", backend->config->name, "effective",
				lb_backend_state_name(backend->effective), "active_flows",
				lb_json_u64((uint64_t)counters.active_flows)));
	}
	return json_pack("{s:s, s:o, s:o}", "name", service->config->name, "active_flows",
		lb_json_u64(n_flows), "backends", backends);
}

void lb_api_flows(struct lb_api_request *request)
{
	const struct lb_model *model = request->model;
	const struct lb_shm_map *map = lb_dp_map(model->dp);
	const char *name = lb_api_param(request, "service");
	struct lb_flow_counters flow;
	json_t *json, *services;

	if (name != NULL && lb_model_service(model, name) == NULL) {
		lb_api_error(request, 404, "not_found", "service", "no service \"%s\"", name);
		return;
	}
	if (!lb_api_need_dataplane(request))
		return;
	services = json_array();
	for (size_t i = 0; i < model->n_services; i++)
		if (name == NULL || strcmp(name, model->services[i]->config->name) == 0)
			json_array_append_new(services, service_flows_json(model->services[i]));
	lb_counters_flow(map, &flow);
	json = stamped(model);
	json_object_update_new(
		json, json_pack("{s:o, s:o, s:o}", "flows_used", lb_json_u64(flow.used),
			      "flows_max", lb_json_u64(flows_max(map)), "services", services));
	lb_api_reply(request, 200, json);
}
