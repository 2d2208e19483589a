/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/passive.h"

#include <stdio.h>

#include "control/counters.h"

#define NS_PER_S UINT64_C(1000000000)
/* A suspicion ends this long after its last reason, if the check is content: no coming and going. */
#define CALM_NS (5 * NS_PER_S)

const char *lb_passive_judge(const struct lb_config_passive *config,
	const struct lb_passive_second *before, const struct lb_passive_second *last)
{
	uint64_t answered = last->out_pkts > last->resets ? last->out_pkts - last->resets : 0;

	if (last->new_flows >= config->min_flows &&
		last->resets * 100 >= (uint64_t)config->refused_percent * last->new_flows &&
		answered < last->new_flows)
		return "it resets clients' new connections";
	if (before->new_flows >= config->min_flows && before->out_pkts == 0 && last->out_pkts == 0)
		return "no answer to clients";
	return NULL;
}

void lb_passive_suspect(struct lb_backend *backend, const char *why)
{
	uint64_t now_ns = lb_now_ns();
	char subject[160] = "backend ";

	if (backend->check == NULL ||
		(backend->suspect_ns != 0 && now_ns - backend->suspect_ns < NS_PER_S / 2))
		return;
	backend->suspect_ns = now_ns;
	snprintf(backend->suspect_why, sizeof(backend->suspect_why), "%s", why);
	if (!backend->suspect) {
		backend->suspect = true;
		lb_backend_label(backend, subject + 8, sizeof(subject) - 8);
		lb_events_add(backend->service->model->events, "backend_suspect", subject,
			lb_backend_state_name(backend->effective), "suspect", "%s", why);
	}
	lb_health_check_now(backend->check);
}

static void acquit(struct lb_backend *backend)
{
	struct lb_health_status status;
	char subject[160] = "backend ";

	lb_health_check_status(backend->check, &status);
	if (backend->effective != LB_BACKEND_DOWN &&
		(status.n_failures > 0 || lb_now_ns() - backend->suspect_ns < CALM_NS))
		return;
	backend->suspect = false;
	lb_backend_label(backend, subject + 8, sizeof(subject) - 8);
	lb_events_add(backend->service->model->events, "backend_suspect", subject, "suspect",
		lb_backend_state_name(backend->effective), "health: %s", status.reason);
}

static bool is_watched(const struct lb_backend *backend)
{
	const struct lb_config_service *config = backend->service->config;

	return config->passive.enabled && config->mode == LB_MODE_NAT &&
	       lb_config_check_of(config, backend->config)->type != LB_CHECK_NONE;
}

static uint64_t since(uint64_t now, uint64_t *last)
{
	uint64_t difference = now >= *last ? now - *last : 0; // another data plane begins at 0

	*last = now;
	return difference;
}

static void watch(struct lb_backend *backend)
{
	struct lb_passive_second last, before = backend->second;
	struct lb_backend_counters counters;
	const char *why;

	lb_counters_backend(lb_dp_map(backend->service->model->dp), backend->id, &counters);
	last.new_flows = since(counters.new_flows, &backend->seen.new_flows);
	last.out_pkts = since(counters.out_pkts, &backend->seen.out_pkts);
	last.resets = since(counters.resets, &backend->seen.resets);
	backend->second = last;
	if (!backend->is_seen) { // the first look has no second before it
		backend->is_seen = true;
		backend->second = (struct lb_passive_second){0};
		return;
	}
	why = backend->effective == LB_BACKEND_DOWN ?
		NULL : lb_passive_judge(&backend->service->config->passive, &before, &last);
	if (why != NULL)
		lb_passive_suspect(backend, why);
}

void lb_passive_tick(struct lb_model *model)
{
	for (size_t i = 0; i < model->n_services; i++) {
		for (size_t j = 0; j < model->services[i]->n_backends; j++) {
			struct lb_backend *backend = model->services[i]->backends[j];

			if (is_watched(backend) && lb_dp_map(model->dp) != NULL)
				watch(backend);
			if (backend->suspect)
				acquit(backend);
		}
	}
}
