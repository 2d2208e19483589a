/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/ramp.h"

#include <errno.h>
#include <stdio.h>

#include "control/mirror.h"
#include "control/push.h"

#define NS_PER_MS UINT64_C(1000000)

uint8_t lb_ramp_percent(uint64_t elapsed_ms, uint32_t slow_start_ms)
{
	uint64_t n_steps;

	if (elapsed_ms >= slow_start_ms)
		return 0;
	n_steps = elapsed_ms * LB_RAMP_STEPS / slow_start_ms;
	return (uint8_t)(LB_RAMP_FIRST + n_steps * (100 - LB_RAMP_FIRST) / LB_RAMP_STEPS);
}

static uint64_t elapsed_ms(const struct lb_backend *backend)
{
	return (lb_now_ns() - backend->ramp_began_ns) / NS_PER_MS;
}

/* Until its next step is due, at least 1. */
static uint64_t left_ms(const struct lb_backend *backend)
{
	uint64_t elapsed = elapsed_ms(backend), total = backend->service->config->slow_start_ms;
	uint64_t step = elapsed * LB_RAMP_STEPS / (total > 0 ? total : 1) + 1;
	uint64_t due = (step * total + LB_RAMP_STEPS - 1) / LB_RAMP_STEPS;

	return due > elapsed ? due - elapsed : 1;
}

static void schedule(struct lb_model *model)
{
	const struct lb_backend *backend;
	uint64_t first_ms = UINT64_MAX;
	struct timeval wait;

	TAILQ_FOREACH (backend, &model->ramping, ramp_link)
		first_ms = left_ms(backend) < first_ms ? left_ms(backend) : first_ms;
	if (first_ms == UINT64_MAX) {
		evtimer_del(model->ramp);
		return;
	}
	wait = (struct timeval){.tv_sec = (time_t)(first_ms / 1000),
		.tv_usec = (suseconds_t)(first_ms % 1000 * 1000)};
	evtimer_add(model->ramp, &wait);
}

static void tell(struct lb_backend *backend, const char *from, const char *to, const char *cause)
{
	char subject[160] = "backend ";

	lb_backend_label(backend, subject + 8, sizeof(subject) - 8);
	lb_events_add(backend->service->model->events, "slow_start", subject, from, to,
		cause != NULL ? "%s" : NULL, cause);
}

void lb_ramp_cancel(struct lb_backend *backend)
{
	if (backend->ramp == 0)
		return;
	TAILQ_REMOVE(&backend->service->model->ramping, backend, ramp_link);
	backend->ramp = 0;
}

static void advance(struct lb_backend *backend)
{
	uint8_t percent =
		lb_ramp_percent(elapsed_ms(backend), backend->service->config->slow_start_ms);

	if (percent == backend->ramp)
		return;
	if (percent == 0) {
		lb_ramp_cancel(backend);
		tell(backend, "ramp", "full", NULL);
	} else {
		backend->ramp = percent;
	}
	lb_mirror_write(backend);
	lb_push_touch(backend->service);
}

static void on_step(evutil_socket_t fd, short what, void *arg)
{
	struct lb_model *model = arg;
	struct lb_backend *backend, *next;

	(void)fd;
	(void)what;
	for (backend = TAILQ_FIRST(&model->ramping); backend != NULL; backend = next) {
		next = TAILQ_NEXT(backend, ramp_link);
		advance(backend);
	}
	schedule(model);
}

void lb_ramp_begin(struct lb_backend *backend)
{
	struct lb_model *model = backend->service->model;

	lb_ramp_cancel(backend);
	if (backend->service->config->slow_start_ms == 0)
		return;
	backend->ramp = LB_RAMP_FIRST;
	backend->ramp_began_ns = lb_now_ns();
	TAILQ_INSERT_TAIL(&model->ramping, backend, ramp_link);
	lb_mirror_write(backend);
	tell(backend, NULL, "ramp", NULL);
	schedule(model);
}

void lb_ramp_resume(struct lb_backend *backend, uint8_t percent)
{
	struct lb_model *model = backend->service->model;
	uint64_t total = backend->service->config->slow_start_ms, gone_ms = 0;
	char cause[40];

	if (total == 0 || percent == 0 || percent >= 100)
		return;
	for (unsigned step = 1; step < LB_RAMP_STEPS && lb_ramp_percent(gone_ms, (uint32_t)total) < percent; step++)
		gone_ms = (step * total + LB_RAMP_STEPS - 1) / LB_RAMP_STEPS;
	backend->ramp = lb_ramp_percent(gone_ms, (uint32_t)total);
	backend->ramp_began_ns = lb_now_ns() - gone_ms * NS_PER_MS;
	TAILQ_INSERT_TAIL(&model->ramping, backend, ramp_link);
	snprintf(cause, sizeof(cause), "goes on with %u %%", backend->ramp);
	tell(backend, NULL, "ramp", cause);
	schedule(model);
}

int lb_ramp_init(struct lb_model *model)
{
	TAILQ_INIT(&model->ramping);
	model->ramp = evtimer_new(model->base, on_step, model);
	return model->ramp != NULL ? 0 : -ENOMEM;
}

void lb_ramp_fini(struct lb_model *model)
{
	if (model->ramp != NULL)
		event_free(model->ramp);
	model->ramp = NULL;
}
