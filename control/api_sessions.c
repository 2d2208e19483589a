/* SPDX-License-Identifier: BSD-3-Clause */
/* The sessions of mode fullnat, asked of the data plane one by one. */
#include "control/api.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "control/counters.h"
#include "control/json.h"
#include "control/mem.h"

#define LIMIT_DEFAULT 100u
#define LIMIT_MAX 10000u

/* A walk outlives its request when the client goes away first. */
struct walk {
	struct lb_api_request *request; /* NULL: nobody listens any more */
	struct lb_msg msg;              /* the next question */
	json_t *sessions;
	size_t limit;
};

static void walk_free(struct walk *walk)
{
	json_decref(walk->sessions);
	free(walk);
}

static void on_cancel(struct lb_api_request *request)
{
	struct walk *walk = request->state;

	walk->request = NULL;
}

static json_t *endpoint_json(const struct lb_addr *addr, uint16_t port_be)
{
	char text[LB_ENDPOINT_STRLEN];

	return json_string(lb_endpoint_format(addr, port_be, text));
}

// Left out: what has left the config since.
static void append(const struct lb_model *model, json_t *list, const struct lb_msg_session *session)
{
	const struct lb_backend *backend = model->backend_by_id[session->backend];
	struct lb_addr local = lb_counters_local_addr(lb_dp_map(model->dp), session->local_idx);
	const struct lb_config_service *service;
	uint16_t port_be;

	if (backend == NULL)
		return;
	service = backend->service->config;
	port_be = backend->endpoint.port_be != 0 ? backend->endpoint.port_be : session->vip_port_be;
	json_array_append_new(list,
		json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:I, s:i}", "service", service->name,
			"backend", backend->config->name, "protocol",
			service->key.proto == IPPROTO_UDP ? "udp" : "tcp", "client",
			endpoint_json(&session->client, session->client_port_be), "vip",
			endpoint_json(&service->key.addr, session->vip_port_be), "local",
			endpoint_json(&local, session->local_port_be), "endpoint",
			endpoint_json(&backend->endpoint.addr, port_be), "state",
			lb_api_flow_state_name(session->state), "idle_s", (json_int_t)session->idle_s,
			"worker", session->worker));
}

static void answer(const struct walk *walk, bool complete)
{
	const struct lb_model *model = walk->request->model;

	lb_api_reply(walk->request, 200,
		json_pack("{s:o, s:s, s:b, s:O}", "timestamp_ns", lb_json_u64(lb_realtime_ns()), "dataplane",
			lb_dp_state_name(lb_dp_state(model->dp)), "complete", complete, "sessions",
			walk->sessions));
}

static void ask(struct walk *walk);

static void on_reply(void *arg, const struct lb_msg *command, int status, const struct lb_msg *reply)
{
	const struct lb_msg_session *session = reply != NULL ? &reply->reply.session : NULL;
	struct walk *walk = arg;
	bool is_over;

	if (walk->request == NULL) {
		walk_free(walk);
		return;
	}
	if (status != 0 || session == NULL) {
		if (status == -ENOTCONN)
			lb_api_error(walk->request, 504, "dataplane_timeout", NULL,
				"the data plane did not answer");
		else
			lb_api_error(walk->request, 502, "dataplane_refused", NULL, "%s: %s",
				lb_op_name(command->op), strerror(-status));
		walk_free(walk);
		return;
	}
	if (session->found)
		append(walk->request->model, walk->sessions, session);
	walk->msg.session_query.worker = session->next_worker;
	walk->msg.session_query.entry = session->next_entry;
	is_over = session->next_worker == UINT16_MAX;
	if (!is_over && json_array_size(walk->sessions) < walk->limit) {
		ask(walk);
		return;
	}
	answer(walk, is_over);
	walk_free(walk);
}

static void ask(struct walk *walk)
{
	int rc = lb_dp_send(walk->request->model->dp, &walk->msg, on_reply, walk);

	if (rc == 0)
		return;
	lb_api_error(walk->request, 500, "internal", NULL, "%s", strerror(-rc));
	walk_free(walk);
}

void lb_api_sessions(struct lb_api_request *request)
{
	const char *name = lb_api_param(request, "service");
	const struct lb_service *service = name != NULL ? lb_model_service(request->model, name) : NULL;
	uint64_t limit = LIMIT_DEFAULT;
	struct walk *walk;

	if (name != NULL && service == NULL) {
		lb_api_error(request, 404, "not_found", "service", "no service %s", name);
		return;
	}
	if (!lb_api_number(request, "limit", LIMIT_MAX, &limit) || !lb_api_need_dataplane(request))
		return;
	if (limit == 0) {
		lb_api_error(request, 400, "invalid", "limit", "limit is not in 1..%u", LIMIT_MAX);
		return;
	}
	walk = lb_xcalloc(1, sizeof(*walk));
	walk->request = request;
	walk->sessions = json_array();
	walk->limit = (size_t)limit;
	walk->msg.op = LB_OP_SESSION_NEXT;
	walk->msg.session_query.service = service != NULL ? service->id : UINT16_MAX;
	request->state = walk;
	request->cancel = on_cancel;
	ask(walk);
}
