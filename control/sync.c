/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/sync.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control/forwarding.h"
#include "control/mirror.h"
#include "control/passive.h"
#include "control/push.h"
#include "lb/log.h"

#define NS_PER_S UINT64_C(1000000000)

/* After a refusal everything is sent again, in case its reason is gone: soon, then ever more
 * rarely. */
static const unsigned resync_delays_ms[] = {100, 1000, 5000, 30000, 60000};
#define N_RESYNC_DELAYS (sizeof(resync_delays_ms) / sizeof(resync_delays_ms[0]))

/* What workers report is limited, so that a scribbled ring does not push everything else out of the
 * log. */
#define MAX_DP_EVENTS_PER_S 50u

/* Refusals. */

static void subject_of(
	const struct lb_model *model, const struct lb_msg *command, char *buf, size_t bytes)
{
	const struct lb_service *service = NULL;
	const struct lb_backend *backend = NULL;
	char text[LB_ADDR_STRLEN], label[140];

	switch (command->op) {
	case LB_OP_SERVICE_SET:
		service = model->service_by_id[command->service.id % LB_MAX_SERVICES];
		break;
	case LB_OP_SERVICE_DEL:
		snprintf(buf, bytes, "service id %u", command->id);
		return;
	case LB_OP_TABLE_PUBLISH:
		service = model->service_by_id[command->table.service % LB_MAX_SERVICES];
		break;
	case LB_OP_BACKEND_SET:
		backend = model->backend_by_id[command->backend.id];
		if (backend == NULL) {
			snprintf(buf, bytes, "backend id %u", command->backend.id);
			return;
		}
		break;
	case LB_OP_BACKEND_DEL:
		snprintf(buf, bytes, "backend id %u", command->id);
		return;
	case LB_OP_NEXTHOP_SET:
		lb_nexthops_label(model->nexthops, command->nexthop.id, label, sizeof(label));
		snprintf(buf, bytes, "nexthop %s", label);
		return;
	case LB_OP_NEXTHOP_DEL:
		snprintf(buf, bytes, "nexthop id %u", command->id);
		return;
	case LB_OP_ROUTE_SET:
	case LB_OP_ROUTE_DEL:
		snprintf(buf, bytes, "route %s/%u", lb_addr_format(&command->route.prefix, text),
			command->route.length);
		return;
	case LB_OP_SECRET_SET:
		snprintf(buf, bytes, "hash_secret");
		return;
	case LB_OP_LOCAL_SET:
		snprintf(buf, bytes, "local address %s",
			lb_addr_format(&command->local.addr, text));
		return;
	default:
		snprintf(buf, bytes, "sync");
		return;
	}
	if (backend != NULL)
		snprintf(buf, bytes, "backend %s", lb_backend_label(backend, label, sizeof(label)));
	else
		snprintf(buf, bytes, "service %s", service != NULL ? service->config->name : "?");
}

static void resync_later(struct lb_model *model)
{
	unsigned step =
		model->resync_step < N_RESYNC_DELAYS ? model->resync_step : N_RESYNC_DELAYS - 1;
	struct timeval delay = {
		.tv_sec = resync_delays_ms[step] / 1000,
		.tv_usec = (suseconds_t)(resync_delays_ms[step] % 1000) * 1000,
	};

	if (event_pending(model->resync, EV_TIMEOUT, NULL))
		return;
	event_add(model->resync, &delay);
	model->resync_step++;
}

static void on_resync(evutil_socket_t fd, short what, void *arg)
{
	struct lb_model *model = arg;

	(void)fd;
	(void)what;
	lb_dp_resync(model->dp);
}

void lb_sync_refused(struct lb_model *model, const struct lb_msg *command, int status)
{
	struct lb_refusal *refusal = &model->refusals[model->n_refusals++ % LB_N_REFUSALS];

	refusal->time_ns = lb_realtime_ns();
	refusal->op = lb_op_name(command->op);
	refusal->status = status;
	subject_of(model, command, refusal->subject, sizeof(refusal->subject));
	if (command->op == LB_OP_SECRET_SET && status == -EBUSY) {
		// it stays refused until the data plane starts anew, and then it is told all in any case
		lb_events_add(model->events, "dataplane_refused", refusal->subject, NULL, NULL,
			"%s: " LB_OTHER_SECRET ": " LB_OTHER_SECRET_HINT, refusal->op);
		return;
	}
	lb_events_add(model->events, "dataplane_refused", refusal->subject, NULL, NULL, "%s: %s",
		refusal->op, strerror(-status));
	resync_later(model);
}

/* Coming and going. */

static void note_boot(struct lb_model *model, uint64_t boot_id)
{
	if (model->boot_id == boot_id)
		return;
	model->boot_id = boot_id;
	// the counters of a new data plane begin at 0
	for (size_t i = 0; i < model->n_services; i++) {
		struct lb_service *service = model->services[i];

		service->baseline_no_backend = 0;
		for (size_t j = 0; j < service->n_backends; j++)
			memset(&service->backends[j]->baseline, 0,
				sizeof(service->backends[j]->baseline));
	}
}

static void on_attached(void *arg)
{
	struct lb_model *model = arg;
	const struct lb_shm_map *map = lb_dp_map(model->dp);

	model->attached_ns = lb_now_ns();
	note_boot(model, __atomic_load_n(&map->shm->header.boot_id, __ATOMIC_RELAXED));
	model->is_mirror_old = true;
	if (model->nexthops != NULL)
		lb_nexthops_set_ports(model->nexthops, map);
}

/*
 * A data plane that forwards already must not be told that a route is gone or a next hop unresolved
 * only because the kernel has not been asked yet. And none may be given backends before it can tell
 * which of their packets are ours.
 */
static bool on_may_sync(void *arg)
{
	struct lb_model *model = arg;
	const struct lb_shm_map *map = lb_dp_map(model->dp);

	if (model->is_starting || !lb_nexthops_is_ready(model->nexthops))
		return false;
	if (__atomic_load_n(&map->shm->header.synced, __ATOMIC_RELAXED) == 0)
		return true;
	if (!lb_nexthops_is_complete(model->nexthops))
		return false;
	for (size_t i = 0; i < model->n_services; i++) {
		for (size_t j = 0; j < model->services[i]->n_backends; j++) {
			const struct lb_nexthop *nexthop = model->services[i]->backends[j]->nexthop;

			if (nexthop == NULL || !nexthop->resolved)
				return false;
		}
	}
	return true;
}

/* It has what was carried over, which is mostly the same: that can wait until the data plane has something to do. */
static void renew_mirror(struct lb_model *model)
{
	if (!model->is_mirror_old)
		return;
	model->is_mirror_old = false;
	for (size_t i = 0; i < model->n_services; i++) {
		for (size_t j = 0; j < model->services[i]->n_backends; j++)
			lb_mirror_write(model->services[i]->backends[j]);
		lb_dp_pump(model->dp);
	}
}

static int on_sync(void *arg)
{
	struct lb_model *model = arg;
	int rc;

	if (lb_dp_map(model->dp) != NULL)
		lb_nexthops_set_ports(model->nexthops, lb_dp_map(model->dp));
	model->n_refusals_at_sync = model->n_refusals;
	rc = lb_push_everything(model);
	renew_mirror(model);
	return rc;
}

static void on_state_changed(
	void *arg, enum lb_dp_state from, enum lb_dp_state to, const char *reason)
{
	struct lb_model *model = arg;

	lb_events_add(model->events, "dataplane_state", "dataplane", lb_dp_state_name(from),
		lb_dp_state_name(to), reason[0] != '\0' ? "%s" : NULL, reason);
	if (to != LB_DP_DOWN)
		return;
	model->resync_step = 0;
	event_del(model->resync);
	lb_push_disconnected(model);
}

static void on_refused(void *arg, const struct lb_msg *command, int status)
{
	lb_sync_refused(arg, command, status);
}

/* Settling. */

static bool is_settled(const struct lb_model *model)
{
	if (lb_dp_state(model->dp) == LB_DP_DOWN)
		return true;
	if (lb_dp_state(model->dp) == LB_DP_SYNCING || lb_dp_n_pending(model->dp) > 0)
		return false;
	for (size_t i = 0; i < model->n_services; i++)
		if (model->services[i]->dirty)
			return false;
	return true;
}

void lb_sync_settle(struct lb_model *model)
{
	struct lb_settle_waiter *waiter;

	if (!is_settled(model))
		return;
	if (lb_dp_state(model->dp) == LB_DP_UP) {
		lb_rest_settled(model->rest, lb_dp_map(model->dp));
		lb_nexthops_collect(model->nexthops);
		if (model->n_refusals == model->n_refusals_at_sync)
			model->resync_step = 0;
	}
	while ((waiter = TAILQ_FIRST(&model->waiters)) != NULL) {
		TAILQ_REMOVE(&model->waiters, waiter, link);
		waiter->settled(waiter->arg);
	}
}

static void on_progress(void *arg)
{
	lb_sync_settle(arg);
}

void lb_sync_wait_settled(struct lb_model *model, struct lb_settle_waiter *waiter)
{
	TAILQ_INSERT_TAIL(&model->waiters, waiter, link);
	event_active(model->flush, EV_TIMEOUT, 0);
}

void lb_sync_cancel_wait(struct lb_model *model, struct lb_settle_waiter *waiter)
{
	TAILQ_REMOVE(&model->waiters, waiter, link);
}

/* What workers report. */

static bool may_report(struct lb_model *model)
{
	uint64_t now_ns = lb_now_ns();

	if (now_ns - model->dp_events_window_ns > NS_PER_S) {
		if (model->n_dp_events > MAX_DP_EVENTS_PER_S)
			lb_log(LB_LOG_WARN, "sync", "%u events of the data plane were left out",
				model->n_dp_events - MAX_DP_EVENTS_PER_S);
		model->dp_events_window_ns = now_ns;
		model->n_dp_events = 0;
	}
	return ++model->n_dp_events <= MAX_DP_EVENTS_PER_S;
}

static void on_event(void *arg, unsigned worker, const struct lb_msg *event)
{
	struct lb_model *model = arg;
	char subject[32];

	if (!may_report(model))
		return;
	switch (event->op) {
	case LB_EVENT_TABLE_PRESSURE:
		snprintf(subject, sizeof(subject), "worker %u", worker);
		lb_events_add(model->events, "table_pressure", subject,
			event->pressure.on ? "all" : "changed", event->pressure.on ? "changed" : "all",
			"%" PRIu64 " of %" PRIu64 " flows", event->pressure.n_used,
			event->pressure.n_max);
		break;
	case LB_EVENT_BACKEND_SUSPECT:
		if (model->backend_by_id[event->id] != NULL)
			lb_passive_suspect(model->backend_by_id[event->id], "no answer to clients");
		break;
	case LB_EVENT_PORT_LINK:
		snprintf(subject, sizeof(subject), "port %u", event->link.port);
		lb_events_add(model->events, "port_link", subject, NULL,
			event->link.up ? "up" : "down", NULL);
		break;
	default:
		lb_log(LB_LOG_WARN, "sync", "worker %u sent an event of unknown kind %u", worker,
			event->op);
		break;
	}
}

const struct lb_dp_callbacks lb_sync_dp_callbacks = {
	.attached = on_attached,
	.may_sync = on_may_sync,
	.sync = on_sync,
	.state_changed = on_state_changed,
	.event = on_event,
	.refused = on_refused,
	.progress = on_progress,
};

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct lb_model *model = arg;

	(void)fd;
	(void)what;
	if (lb_dp_map(model->dp) != NULL)
		lb_nexthops_set_ports(model->nexthops, lb_dp_map(model->dp));
	lb_model_sweep_names(model);
	if (lb_dp_state(model->dp) == LB_DP_UP) {
		if (is_settled(model))
			lb_rest_settled(model->rest, lb_dp_map(model->dp));
		lb_rest_tick(model->rest, lb_dp_map(model->dp));
	}
	lb_passive_tick(model);
	lb_forwarding_tick(model);
	lb_push_tick(model);
}

int lb_sync_init(struct lb_model *model)
{
	static const struct timeval second = {.tv_sec = 1};

	model->resync = evtimer_new(model->base, on_resync, model);
	model->tick = event_new(model->base, -1, EV_PERSIST, on_tick, model);
	if (model->resync == NULL || model->tick == NULL)
		return -ENOMEM;
	event_add(model->tick, &second);
	return 0;
}

void lb_sync_fini(struct lb_model *model)
{
	if (model->resync != NULL)
		event_free(model->resync);
	if (model->tick != NULL)
		event_free(model->tick);
	model->resync = model->tick = NULL;
}
