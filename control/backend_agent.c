/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/backend_agent.h"

#include <stdio.h>
#include <stdlib.h>


bool lb_backend_agent_is_down(const struct lb_backend *backend)
{
	return backend->agent_admin == LB_AGENT_MAINT || backend->agent_oper == LB_AGENT_DOWN;
}

bool lb_backend_agent_is_drained(const struct lb_backend *backend)
{
	return backend->agent_admin == LB_AGENT_DRAIN;
}

static void take_weight(struct lb_backend *backend, bool by_agent, const struct lb_agent_words *words,
	const char *cause)
{
	// only the header takes back by its absence, and only what it gave
	if (words == NULL && backend->weight_by == LB_WEIGHT_BY_HEADER) {
		backend->weight_by = LB_WEIGHT_BY_CONFIG;
		lb_model_set_agent_weight(backend, 100, cause);
	}
	if (words == NULL || !words->has_weight)
		return;
	backend->weight_by = by_agent ? LB_WEIGHT_BY_AGENT : LB_WEIGHT_BY_HEADER;
	lb_model_set_agent_weight(
		backend, lb_agent_percent(words, backend->config->weight), cause);
}

static void on_reported(void *arg, struct lb_health_check *check, const struct lb_agent_words *words,
	const char *text)
{
	struct lb_backend *backend = arg;
	bool by_agent = check == backend->agent;
	char cause[128];

	if (words == NULL)
		snprintf(cause, sizeof(cause), "health: no X-LB-Weight any more");
	else
		snprintf(cause, sizeof(cause), by_agent ? "agent: %.80s" : "X-LB-Weight: %.80s", text);
	take_weight(backend, by_agent, words, cause);
	if (words == NULL)
		return;
	if (by_agent)
		snprintf(backend->agent_says, sizeof(backend->agent_says), "%s", text);
	if (words->admin != LB_AGENT_ADMIN_UNSAID)
		backend->agent_admin = words->admin;
	if (words->oper != LB_AGENT_OPER_UNSAID)
		backend->agent_oper = words->oper;
	lb_model_update_backend(backend, cause);
	lb_mirror_write(backend);
}

/* The agent came or went; not what it says. */
static void on_changed(void *arg, struct lb_health_check *check, const struct lb_health_status *status)
{
	struct lb_backend *backend = arg;
	bool answers = status->state == LB_HEALTH_UP;
	char subject[200] = "backend ";

	(void)check;
	lb_backend_label(backend, subject + 8, sizeof(subject) - 8);
	lb_events_add(backend->service->model->events, "backend_agent", subject, NULL,
		answers ? "answers" : "silent", "%s%s", status->reason,
		answers ? "" : ": what it said last stays");
}

static void forget_agent(struct lb_backend *backend)
{
	lb_health_check_destroy(backend->agent);
	backend->agent = NULL;
	backend->agent_admin = LB_AGENT_ADMIN_UNSAID;
	backend->agent_oper = LB_AGENT_OPER_UNSAID;
	backend->agent_says[0] = '\0';
	if (backend->weight_by == LB_WEIGHT_BY_AGENT) {
		backend->weight_by = LB_WEIGHT_BY_CONFIG;
		lb_model_set_agent_weight(backend, 100, "no agent any more");
	}
	lb_model_update_backend(backend, "no agent any more");
}

static void listen_to_agent(struct lb_backend *backend, const struct lb_config_agent *agent)
{
	const struct lb_config_check config = {
		.type = LB_CHECK_AGENT,
		.port = agent->port,
		.send = agent->send,
		.interval_ms = agent->interval_ms,
		.timeout_ms = agent->timeout_ms,
		.rise = 1,
		.fall = 3,
	};

	if (backend->agent == NULL) {
		backend->agent = lb_health_check_create(backend->service->model->health, &config,
			&backend->endpoint, LB_HEALTH_UNKNOWN, on_changed, backend);
		if (backend->agent == NULL)
			abort(); // as in lb_xcalloc()
		lb_health_check_on_report(backend->agent, on_reported);
	} else if (lb_health_check_update(backend->agent, &config) < 0) {
		abort(); // as in lb_xcalloc()
	}
}

void lb_backend_agent_update(struct lb_backend *backend)
{
	const struct lb_config_service *service = backend->service->config;

	lb_health_check_on_report(backend->check, on_reported);
	if (backend->weight_by == LB_WEIGHT_BY_HEADER &&
		!lb_config_check_of(service, backend->config)->weight_header) {
		backend->weight_by = LB_WEIGHT_BY_CONFIG;
		lb_model_set_agent_weight(backend, 100, "X-LB-Weight is not heeded any more");
	}
	if (service->agent.port != 0)
		listen_to_agent(backend, &service->agent);
	else if (backend->agent != NULL)
		forget_agent(backend);
}

void lb_backend_agent_restore(struct lb_backend *backend, const struct lb_mirrored *mirrored)
{
	const struct lb_config_service *service = backend->service->config;
	bool has_agent = service->agent.port != 0;
	bool has_header = lb_config_check_of(service, backend->config)->weight_header;

	if ((mirrored->weight_by == LB_WEIGHT_BY_AGENT && has_agent) ||
		(mirrored->weight_by == LB_WEIGHT_BY_HEADER && has_header)) {
		backend->weight_by = mirrored->weight_by;
		backend->agent_percent = mirrored->agent_percent;
	}
	if (!has_agent)
		return;
	backend->agent_admin = mirrored->agent_admin;
	backend->agent_oper = mirrored->agent_oper;
	if (mirrored->agent_admin != 0 || mirrored->agent_oper != 0 ||
		mirrored->weight_by == LB_WEIGHT_BY_AGENT)
		snprintf(backend->agent_says, sizeof(backend->agent_says),
			"(before the daemon's restart)");
}

void lb_backend_agent_stop(struct lb_backend *backend)
{
	lb_health_check_destroy(backend->agent);
	backend->agent = NULL;
}

void lb_backend_agent_write(const struct lb_backend *backend, struct lb_writer *out, const char *key)
{
	struct lb_health_status status;

	if (backend->agent == NULL) {
		lb_writer_null(out, key);
		return;
	}
	lb_health_check_status(backend->agent, &status);
	lb_writer_open(out, key, '{');
	lb_writer_string(out, "state",
		status.state == LB_HEALTH_UP	 ? "answers"
		: status.state == LB_HEALTH_DOWN ? "silent"
						 : "unknown");
	lb_writer_string(out, "reason", status.last_ns != 0 ? status.reason : NULL);
	lb_writer_string(out, "says", backend->agent_says);
	lb_writer_time(out, "last_ns", status.last_ns);
	lb_writer_close(out, '}');
}
