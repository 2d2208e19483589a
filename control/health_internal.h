/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_HEALTH_INTERNAL_H
#define LB_CONTROL_HEALTH_INTERNAL_H

#include <event2/event_struct.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "control/agent.h"
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

/* Probes in flight are bounded for each kind of what they take. */
enum lb_health_lane { LB_HEALTH_LANE_SOCKET, LB_HEALTH_LANE_EXEC, LB_HEALTH_N_LANES };

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
	/* Whether a probe that has not ended by its deadline is a success. NULL: no. */
	bool (*may_be_silent)(const void *probe);
	enum lb_health_lane lane;
	bool needs_no_port;
	bool start_fails_us; /* what start() returns is never the backend's fault */
};

TAILQ_HEAD(lb_health_check_list, lb_health_check);

struct lb_health_queue {
	struct lb_health_check_list waiting; /* due, but max_in_flight are running; in order */
	uint32_t n_waiting, n_in_flight, max_in_flight;
};

struct lb_health {
	struct event_base *base;
	struct lb_health_http *http; /* check_http.c's: curl multi, handles */
	struct lb_health_exec *exec; /* check_exec.c's: processes */
	struct lb_health_check_list checks;
	struct lb_health_queue lanes[LB_HEALTH_N_LANES];
	struct event kick; /* starts the waiting */
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
	lb_health_reported_fn *reported; /* NULL: nobody asks */
	void *arg;
	struct lb_health_status status;
	struct lb_health_histogram *histogram;          /* NULL: none */
	const char *service_name, *backend_name;        /* for programs; the caller's; NULL: none */

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
extern const struct lb_health_ops lb_check_http_ops; /* and https */
extern const struct lb_health_ops lb_check_udp_ops;
extern const struct lb_health_ops lb_check_dns_ops;
extern const struct lb_health_ops lb_check_exec_ops;
extern const struct lb_health_ops lb_check_agent_ops;

/** The port to connect to, network byte order; 0: none is known. */
uint16_t lb_health_check_port_be(
	const struct lb_health_check *check, const struct lb_config_check *config);

/** Where to connect to. @return the length of the address. */
socklen_t lb_health_check_address(const struct lb_health_check *check,
	const struct lb_config_check *config, struct sockaddr_storage *address);

/** What the backend says of itself, before lb_health_result(); @p text: in its own words. */
void lb_health_report(struct lb_health_check *check, const struct lb_agent_words *words,
	const char *text);

/** The probe in flight is done. The last a caller may do with its data: it may be gone on return.
 */
void lb_health_result(struct lb_health_check *check, enum lb_health_result result,
	const char *format, ...) __attribute__((format(printf, 3, 4)));

/** The same for an errno value: failed, or not judged when it tells of our own resources. */
void lb_health_result_errno(struct lb_health_check *check, int error);

/** Whether @p error tells of our own resources, not of the backend. */
bool lb_health_is_own_fault(int error);

/**
 * A socket for one probe: non-blocking, close-on-exec; SOCK_STREAM is closed by RST, so that no
 * TIME_WAIT stays.
 * @return fd; -errno.
 */
int lb_health_socket(int family, int type);

/** @return 0, -ENOMEM. */
int lb_health_http_create(struct event_base *base, struct lb_health_http **out);
void lb_health_http_destroy(struct lb_health_http *http);
/** @return 0, -ENOMEM. */
int lb_health_exec_create(struct event_base *base, struct lb_health_exec **out);
/** Kills what still runs. */
void lb_health_exec_destroy(struct lb_health_exec *exec);

#endif
