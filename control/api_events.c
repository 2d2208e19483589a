/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/api.h"

#include "control/mem.h"

#define MAX_WAIT_S 60u
#define DEFAULT_LIMIT 1000u

static void reply(struct lb_api_request *request, uint64_t since, uint32_t limit)
{
	struct lb_writer out = {0};

	lb_events_write(request->model->events, since, limit, &out);
	lb_api_reply_written(request, 200, &out);
}

/* A request that waits for the next event. */
struct waiting {
	struct lb_api_request *request;
	struct lb_events_listener listener;
	struct event *deadline;
	uint64_t since;
	uint32_t limit;
};

static void on_cancel(struct lb_api_request *request)
{
	struct waiting *waiting = request->state;

	lb_events_unlisten(request->model->events, &waiting->listener);
	event_free(waiting->deadline);
	free(waiting);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct waiting *waiting = arg;
	struct lb_api_request *request = waiting->request;

	(void)fd;
	(void)what;
	reply(request, waiting->since, waiting->limit);
}

/* Answer at the end of the loop turn: what happens together is told together, and no list changes
 * under our feet. */
static void on_added(void *arg)
{
	struct waiting *waiting = arg;

	event_active(waiting->deadline, EV_TIMEOUT, 0);
}

static void wait_for_event(
	struct lb_api_request *request, uint64_t since, uint32_t limit, uint64_t wait_s)
{
	struct waiting *waiting = lb_xcalloc(1, sizeof(*waiting));
	struct timeval delay = {.tv_sec = (time_t)wait_s};

	waiting->request = request;
	waiting->since = since;
	waiting->limit = limit;
	waiting->deadline = evtimer_new(request->model->base, on_deadline, waiting);
	if (waiting->deadline == NULL) {
		free(waiting);
		lb_api_reply(request, 500, NULL);
		return;
	}
	event_add(waiting->deadline, &delay);
	waiting->listener.added = on_added;
	waiting->listener.arg = waiting;
	lb_events_listen(request->model->events, &waiting->listener);
	request->state = waiting;
	request->cancel = on_cancel;
}

void lb_api_events(struct lb_api_request *request)
{
	const struct lb_events *events = request->model->events;
	uint64_t since = 0, wait_s = 0, limit = DEFAULT_LIMIT;

	if (!lb_api_number(request, "since", INT64_MAX, &since) ||
		!lb_api_number(request, "wait", MAX_WAIT_S, &wait_s) ||
		!lb_api_number(request, "limit", LB_EVENTS_CAPACITY, &limit))
		return;
	if (request->is_tcp)
		wait_s = 0; // connections there are few: nobody may keep one for long
	if (limit == 0)
		lb_api_error(request, 400, "invalid", "limit", "limit is not an integer in 1..%u",
			LB_EVENTS_CAPACITY);
	else if (wait_s > 0 && since == lb_events_last(events))
		wait_for_event(request, since, (uint32_t)limit, wait_s);
	else
		reply(request, since, (uint32_t)limit);
}
