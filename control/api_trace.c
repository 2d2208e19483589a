/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/api.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "control/counters.h"
#include "control/json.h"
#include "control/mem.h"
#include "lb/flowtable.h"
#include "lb/slots.h"

/*
 * The two requests that need an answer of the data plane. The command outlives the request when the
 * client goes away first, so the link between the two is an object of its own.
 */
struct question {
	struct lb_api_request *request; /* NULL: nobody listens any more */
	void (*answer)(struct question *question, const struct lb_msg *reply);
	struct lb_msg_trace trace;
	char service[LB_CONFIG_NAME_MAX + 1],
		backend[LB_CONFIG_NAME_MAX + 1]; /* flush: of whom; empty: all */
};

static void on_cancel(struct lb_api_request *request)
{
	struct question *question = request->state;

	question->request = NULL;
}

static void on_reply(
	void *arg, const struct lb_msg *command, int status, const struct lb_msg *reply)
{
	struct question *question = arg;
	struct lb_api_request *request = question->request;

	if (request != NULL && status == 0 && reply != NULL)
		question->answer(question, reply);
	else if (request != NULL && status == -ENOTCONN)
		lb_api_error(
			request, 504, "dataplane_timeout", NULL, "the data plane did not answer");
	else if (request != NULL)
		lb_api_error(request, 502, "dataplane_refused", NULL, "%s: %s",
			lb_op_name(command->op), strerror(-status));
	free(question);
}

/* Takes @p question; the request is held until the reply. */
static void ask(struct question *question, const struct lb_msg *msg)
{
	struct lb_api_request *request = question->request;
	int rc;

	request->state = question;
	request->cancel = on_cancel;
	rc = lb_dp_send(request->model->dp, msg, on_reply, question);
	if (rc == 0)
		return;
	lb_api_error(request, 500, "internal", NULL, "%s", strerror(-rc));
	free(question);
}

/* Trace. */

const char *lb_api_flow_state_name(unsigned state)
{
	static const char *const names[] = {"free", "syn", "established", "fin", "closed", "udp"};

	static_assert(sizeof(names) / sizeof(names[0]) == LB_FLOW_STATE_N, "one name each");
	return state < LB_FLOW_STATE_N ? names[state] : "?";
}

/* NULL if there is none, or it is not ours any more. */
static const char *backend_name(const struct lb_model *model, uint16_t id)
{
	const struct lb_backend *backend = model->backend_by_id[id];

	return backend != NULL ? backend->config->name : NULL;
}

static const struct lb_service *service_of(
	const struct lb_model *model, const struct lb_msg_trace_reply *reply)
{
	return reply->service < LB_MAX_SERVICES ? model->service_by_id[reply->service] : NULL;
}

static void explain(const struct lb_model *model, const struct lb_msg_trace_reply *reply, char *why,
	size_t bytes)
{
	const struct lb_service *service = service_of(model, reply);
	const char *name = backend_name(model, reply->backend);
	const char *slot_name = backend_name(model, reply->slot_backend);
	uint32_t n_slots = service != NULL ? service->config->table_size : 0;
	bool is_fullnat = service != NULL && service->config->mode == LB_MODE_FULLNAT;
	const char *what = is_fullnat ? "session" : "flow entry";
	const char *none = reply->worker == UINT16_MAX ? is_fullnat ? "no session" : "no flow entry"
			   : is_fullnat ? "its session is over" : "the backend of its flow entry is down";
	char since[64] = "never changed";

	if (reply->slot_age_s != UINT32_MAX)
		snprintf(since, sizeof(since), "changed %" PRIu32 " s ago", reply->slot_age_s);
	name = name != NULL ? name : "nobody";
	slot_name = slot_name != NULL ? slot_name : "nobody";
	switch (reply->decision) {
	case LB_DECISION_ENTRY:
		snprintf(why, bytes,
			"worker %u has a %s for %s, last used %" PRIu32 " s ago", reply->worker, what,
			name, reply->entry_age_s);
		break;
	case LB_DECISION_SLOT:
		snprintf(why, bytes,
			"%s; slot %" PRIu32 " of %" PRIu32 " belongs to %s (%s)", none, reply->slot,
			 n_slots, name, since);
		break;
	case LB_DECISION_ORIGIN:
		snprintf(why, bytes,
			"%s; slot %" PRIu32 " of %" PRIu32 " went from %s to %s (%s), and "
			"a connection older than that is at %s",
			none, reply->slot, n_slots, name, slot_name, since, name);
		break;
	case LB_DECISION_SCHEDULER:
		snprintf(why, bytes,
			"%s; a new flow is placed by the scheduler (%s), on worker 0 now at %s", none,
			lb_scheduler_name(
				service != NULL ? service->config->scheduler : LB_SCHED_N),
			name);
		if (!is_fullnat)
			snprintf(why + strlen(why), bytes - strlen(why),
				"; in mid-stream slot %" PRIu32 " of %" PRIu32 " leads to %s",
				reply->slot, n_slots, slot_name);
		break;
	case LB_DECISION_REPLY:
		snprintf(why, bytes, "from backend %s to a client: the source becomes the VIP",
			name);
		break;
	default:
		snprintf(why, bytes, "%s", lb_verdict_meaning(reply->verdict));
		break;
	}
}

static json_t *entry_json(const struct lb_model *model, const struct lb_msg_trace_reply *reply)
{
	struct lb_addr local = lb_counters_local_addr(lb_dp_map(model->dp), reply->local_idx);
	char text[LB_ENDPOINT_STRLEN];

	if (reply->worker == UINT16_MAX)
		return json_null();
	return json_pack("{s:i, s:s, s:I, s:o}", "worker", reply->worker, "state",
		lb_api_flow_state_name(reply->entry_state), "age_s", (json_int_t)reply->entry_age_s, "local",
		reply->local_port_be != 0
			? json_string(lb_endpoint_format(&local, reply->local_port_be, text))
			: json_null());
}

/*
 * Why the slot has no origin, for people; NULL: it has one. A change within T and no origin: the backend
 * before is not in
 * the config any more, so nothing could be kept for its connections.
 */
static const char *why_no_origin(const struct lb_model *model, const struct lb_service *service,
	const struct lb_msg_trace_reply *reply, char *why, size_t bytes)
{
	uint32_t transition_s = lb_slots_transition_s(service->config->idle_timeout_ms);

	if (backend_name(model, reply->origin) != NULL)
		return NULL;
	if (reply->slot_age_s == UINT32_MAX)
		return "the slot has had no other backend within the idle timeout";
	if (reply->slot_age_s <= transition_s)
		return "the backend before is not in the config any more";
	snprintf(why, bytes,
		"that is longer ago than the idle timeout of %" PRIu32 " s: older flows have ended or "
		"have an entry", transition_s);
	return why;
}

static void add_slot(
	json_t *json, const struct lb_model *model, const struct lb_msg_trace_reply *reply)
{
	const struct lb_service *service = service_of(model, reply);
	bool has_slot = service != NULL && reply->decision != LB_DECISION_NONE &&
			reply->decision != LB_DECISION_REPLY;
	bool has_age = has_slot && reply->slot_age_s != UINT32_MAX;
	char why[128];

	json_object_update_new(json,
		json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "slot",
			has_slot ? json_integer(reply->slot) : json_null(), "n_slots",
			has_slot ? json_integer(service->config->table_size) : json_null(),
			"slot_backend",
			lb_json_text(has_slot ? backend_name(model, reply->slot_backend) : NULL),
			"slot_age_s", has_age ? json_integer(reply->slot_age_s) : json_null(),
			"origin",
			lb_json_text(has_slot ? backend_name(model, reply->origin) : NULL),
			"origin_reason",
			lb_json_text(has_slot ? why_no_origin(model, service, reply, why, sizeof(why))
					      : NULL),
			"table_version",
			has_slot ? json_integer(reply->table_version) : json_null(), "entry",
			entry_json(model, reply)));
}

static void answer_trace(struct question *question, const struct lb_msg *msg)
{
	struct lb_api_request *request = question->request;
	const struct lb_model *model = request->model;
	const struct lb_msg_trace_reply *reply = &msg->reply.trace;
	const struct lb_service *service = service_of(model, reply);
	const struct lb_msg_trace *trace = &question->trace;
	char src[LB_ENDPOINT_STRLEN], dst[LB_ENDPOINT_STRLEN], hash[17], why[400];
	json_t *json;

	explain(model, reply, why, sizeof(why));
	snprintf(hash, sizeof(hash), "%016" PRIx64, reply->hash);
	json = json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:s, s:s, s:s, s:s, s:s}", "src",
		lb_endpoint_format(&trace->src, trace->sport_be, src), "dst",
		lb_endpoint_format(&trace->dst, trace->dport_be, dst), "proto",
		trace->proto == IPPROTO_UDP ? "udp" : "tcp", "syn", trace->syn, "service",
		lb_json_text(service != NULL ? service->config->name : NULL), "backend",
		lb_json_text(reply->decision != LB_DECISION_NONE
				     ? backend_name(model, reply->backend)
				     : NULL),
		"verdict", lb_verdict_name(reply->verdict), "meaning",
		lb_verdict_meaning(reply->verdict), "decision", lb_decision_name(reply->decision),
		"why", why, "hash", hash);
	add_slot(json, model, reply);
	lb_api_reply(request, 200, json);
}

static bool parse_endpoint(
	struct lb_api_request *request, const char *name, struct lb_endpoint *endpoint)
{
	const char *text = lb_api_param(request, name);

	if (text != NULL && lb_endpoint_parse(text, endpoint) == 0 && endpoint->port_be != 0)
		return true;
	lb_api_error(request, 400, "invalid", name, "expected ADDRESS:PORT or [ADDRESS]:PORT, found %s",
		text != NULL ? text : "nothing");
	return false;
}

void lb_api_trace(struct lb_api_request *request)
{
	const char *proto = lb_api_param(request, "proto");
	struct lb_msg msg = {.op = LB_OP_TRACE};
	struct lb_endpoint src, dst;
	struct question *question;
	bool is_udp;
	uint64_t syn;

	if (!parse_endpoint(request, "src", &src) || !parse_endpoint(request, "dst", &dst))
		return;
	if (proto != NULL && strcmp(proto, "tcp") != 0 && strcmp(proto, "udp") != 0) {
		lb_api_error(
			request, 400, "invalid", "proto", "expected tcp or udp, found %s", proto);
		return;
	}
	if (lb_addr_is_ipv4(&src.addr) != lb_addr_is_ipv4(&dst.addr)) {
		lb_api_error(request, 400, "invalid", "dst",
			"expected an address of the source's family");
		return;
	}
	is_udp = proto != NULL && strcmp(proto, "udp") == 0;
	syn = !is_udp;
	if (!lb_api_number(request, "syn", 1, &syn) || !lb_api_need_dataplane(request))
		return;
	msg.trace = (struct lb_msg_trace){
		.src = src.addr,
		.dst = dst.addr,
		.sport_be = src.port_be,
		.dport_be = dst.port_be,
		.proto = is_udp ? IPPROTO_UDP : IPPROTO_TCP,
		.syn = syn && !is_udp,
	};
	question = lb_xcalloc(1, sizeof(*question));
	question->request = request;
	question->answer = answer_trace;
	question->trace = msg.trace;
	ask(question, &msg);
}

/* Flush. */

static void answer_flush(struct question *question, const struct lb_msg *reply)
{
	lb_api_reply(question->request, 200,
		json_pack("{s:s, s:o, s:o}", "service", question->service, "backend",
			lb_json_text(question->backend), "n_flows",
			lb_json_u64(reply->reply.n_flows)));
}

/* Find what the body names. @return false: answered. */
static bool find_flushed(struct lb_api_request *request, json_t *body, struct lb_service **service,
	struct lb_backend **backend)
{
	const char *service_name = NULL, *backend_name = NULL;
	json_error_t error;

	if (json_unpack_ex(body, &error, JSON_STRICT, "{s:s, s?s}", "service", &service_name,
		    "backend", &backend_name) < 0) {
		lb_api_error(request, 400, "invalid", "request:1",
			"{\"service\": NAME, \"backend\": NAME} "
			"is expected: %s",
			error.text);
		return false;
	}
	*service = lb_model_service(request->model, service_name);
	*backend = *service != NULL && backend_name != NULL
			   ? lb_model_backend(*service, backend_name)
			   : NULL;
	if (*service != NULL && (backend_name == NULL || *backend != NULL))
		return true;
	lb_api_error(request, 404, "not_found", NULL,
		*service == NULL ? "no service \"%s\"" : "no backend \"%2$s\" in service %1$s",
		service_name, backend_name);
	return false;
}

void lb_api_flush(struct lb_api_request *request)
{
	struct lb_msg msg = {.op = LB_OP_FLOWS_FLUSH, .flush.backend = LB_BACKEND_NONE};
	json_t *body = lb_api_body_object(request);
	struct lb_service *service = NULL;
	struct lb_backend *backend = NULL;
	struct question *question;

	if (body == NULL)
		return;
	if (find_flushed(request, body, &service, &backend) && lb_api_need_dataplane(request)) {
		question = lb_xcalloc(1, sizeof(*question));
		question->request = request;
		question->answer = answer_flush;
		snprintf(question->service, sizeof(question->service), "%s", service->config->name);
		msg.flush.service = service->id;
		if (backend != NULL) {
			snprintf(question->backend, sizeof(question->backend), "%s",
				backend->config->name);
			msg.flush.backend = backend->id;
		}
		ask(question, &msg);
	}
	json_decref(body);
}
