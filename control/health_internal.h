/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_HEALTH_INTERNAL_H
#define LB_CONTROL_HEALTH_INTERNAL_H

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "control/health.h"

/*
 * What the engine (health.c) and the check types (check_*.c) share. The engine owns schedule,
 * deadline and judgement; a type owns one probe: it starts it, and reports once by
 * lb_health_result().
 */

enum lb_health_result {
	LB_HEALTH_OK,
	LB_HEALTH_FAILED,
	LB_HEALTH_NOT_JUDGED, /* our own fault: keeps the state, tried again soon */
};

struct lb_health_ops {
	/* Prepare probes of @p config, whose strings live as long as the result. @return the type's
	 * data; NULL: no memory. */
	void *(*create)(struct lb_health_check *check, const struct lb_config_check *config);
	/* Frees what create() made; never with a probe in flight. */
	void (*destroy)(void *probe);
	/*
	 * Begin one probe. @return 0: a call of lb_health_result() follows from the loop, never
	 * from inside; -errno: it could not be begun, and none follows.
	 */
	int (*start)(void *probe);
	/* Give up the probe in flight; no result follows. */
	void (*cancel)(void *probe);
	/* What the probe in flight is doing, for "timeout after 1000 ms while ...". */
	const char *(*phase)(const void *probe);
	/* Why no probe can be made of these parameters; NULL: it can. May be NULL itself. */
	const char *(*invalid)(const void *probe);
};

TAILQ_HEAD(lb_health_check_list, lb_health_check);

struct lb_health {
	struct event_base *base;
	struct lb_health_http *http; /* check_http.c's: curl multi, handles */
	struct lb_health_check_list checks;
	struct lb_health_check_list waiting; /* due, but max_in_flight are running; in order */
	struct event kick;                   /* starts the waiting */
	uint32_t max_in_flight;
	uint64_t random;
	struct lb_health_stats stats;
};

struct lb_health_check {
	TAILQ_ENTRY(lb_health_check) link, waiting_link;
	struct lb_health *health;
	const struct lb_health_ops *ops; /* NULL: LB_CHECK_NONE */
	void *probe;                     /* ops' data */
	struct lb_config_check config;   /* strings are ours */
	struct lb_endpoint endpoint;
	lb_health_changed_fn *changed;
	void *arg;
	struct lb_health_status status;

	struct event due;      /* at due_ns; earlier when `extra` */
	struct event deadline; /* of the probe in flight, at deadline_ns */
	uint64_t grid_ns;      /* CLOCK_MONOTONIC, as all here: the regular plan */
	uint64_t due_ns;       /* grid_ns with jitter */
	uint64_t started_ns;   /* of the last probe; 0: none yet */
	uint64_t deadline_ns;
	bool extra;     /* `due` is armed for a probe beside the plan */
	bool in_flight; /* ops->start() done, result to come */
	bool waiting;   /* in the list of the waiting */
	bool again;     /* due while in flight: another follows at once */
	bool extended;  /* the deadline was moved, as the loop had been stalled */
};

extern const struct lb_health_ops lb_check_tcp_ops;
extern const struct lb_health_ops lb_check_http_ops;

/** The port to connect to, network byte order; 0: none is known. */
uint16_t lb_health_check_port_be(
	const struct lb_health_check *check, const struct lb_config_check *config);

/** The probe in flight is done. The last a caller may do with its data: it may be gone on return.
 */
void lb_health_result(struct lb_health_check *check, enum lb_health_result result,
	const char *format, ...) __attribute__((format(printf, 3, 4)));

/** The same for an errno value: failed, or not judged when it tells of our own resources. */
void lb_health_result_errno(struct lb_health_check *check, int error);

/** Whether @p error tells of our own resources, not of the backend. */
bool lb_health_is_own_fault(int error);

/**
 * A socket for one probe: non-blocking, close-on-exec, closed by RST, so that no TIME_WAIT stays.
 * @return fd; -errno.
 */
int lb_health_socket(int family);

/** @return 0, -ENOMEM. */
int lb_health_http_create(struct event_base *base, struct lb_health_http **out);
void lb_health_http_destroy(struct lb_health_http *http);

#endif
