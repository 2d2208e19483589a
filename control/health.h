/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_HEALTH_H
#define LB_CONTROL_HEALTH_H

#include <event2/event.h>

#include "control/config.h"

/*
 * Active health checks: all from one libevent loop, none blocking. A check owns its timer and its
 * connection; its result is a debounced state (`rise` successes in a row: up, `fall` failures:
 * down).
 *
 * A check has at most one probe in flight. Probes start on a grid of the interval, whose phase is
 * random and each point of which is moved by up to 2.5 % (so two starts are the interval ± 5 %
 * apart, and the error never adds up). A probe that is still running when the next is due delays
 * that one only. A probe that could not be made for want of our own resources (descriptors, memory)
 * judges nothing.
 */
struct lb_health;       /* the engine: libcurl multi, socket limits */
struct lb_health_check; /* one backend's check */

#define LB_HEALTH_MAX_BODY_BYTES 65536u   /* of an HTTP body are read, the rest is not looked at */
#define LB_HEALTH_MAX_HEADER_BYTES 32768u /* of HTTP headers, in all; more is a failure */
#define LB_HEALTH_MAX_PROGRAMS 32u        /* of exec checks that run at once */

// "certificate is not trusted: no alternative certificate subject name matches target host name '...'" has 97 without the name
#define LB_HEALTH_REASON_BYTES 256u

enum lb_health_state { LB_HEALTH_UNKNOWN, LB_HEALTH_UP, LB_HEALTH_DOWN };

struct lb_health_status {
	enum lb_health_state state;
	uint32_t n_successes, n_failures; /* in a row */
	uint64_t n_checks, n_failed;      /* since start */
	uint64_t last_ns;                 /* CLOCK_REALTIME of the last result, 0: none */
	uint32_t last_duration_us;
	/* Of the last result: "ok", "ok: HTTP 200", "HTTP 503", "connection refused",
	 * "timeout after 1000 ms while connecting", "not checked: too many open files". */
	char reason[LB_HEALTH_REASON_BYTES];
};

/* How long something took, for /metrics. */
#define LB_HEALTH_N_BOUNDS 14u
struct lb_health_histogram {
	uint64_t n[LB_HEALTH_N_BOUNDS + 1]; /* by the first bound that is not below; the last: above all */
	uint64_t sum_us;
};
extern const uint32_t lb_health_bounds_us[LB_HEALTH_N_BOUNDS];

struct lb_health_stats {
	uint32_t n_checks;     /* that exist, of any type but none */
	uint32_t n_in_flight;  /* probes running */
	uint32_t n_waiting;    /* probes that are due and wait for a descriptor */
	uint64_t n_probes;     /* started since start */
	uint64_t n_not_judged; /* probes that failed for want of our own resources */
	uint32_t max_late_us; /* the worst delay of a probe's start against its plan, since start */
	struct lb_health_histogram late; /* all of them */
};

/**
 * Called from the loop when the debounced state changes, not on each result. May destroy checks,
 * not the engine.
 */
typedef void lb_health_changed_fn(
	void *arg, struct lb_health_check *check, const struct lb_health_status *status);

struct lb_agent_words;

/**
 * Called from the loop for each probe by which the backend said something of its weight or state:
 * an agent's line, or the header X-LB-Weight of an expected answer. @p words NULL: an expected
 * answer without that header. May not destroy the check.
 */
typedef void lb_health_reported_fn(void *arg, struct lb_health_check *check,
	const struct lb_agent_words *words, const char *text);

/**
 * Make the engine. Raises the process' soft limit of open files to the hard one (at most 2^20);
 * what it allows, less a reserve for the rest of the daemon, bounds the probes in flight.
 * @return 0, -ENOMEM.
 */
int lb_health_create(struct event_base *base, struct lb_health **out);

/** Destroy the engine and the checks left. NULL is ignored. Not from a callback of a check. */
void lb_health_destroy(struct lb_health *health);

void lb_health_stats(const struct lb_health *health, struct lb_health_stats *stats);

/**
 * Start checking @p endpoint as @p config says (copied). With an UNKNOWN @p initial state the first
 * probe comes after 50 to 200 ms, else within a random part of the interval, at most 1 s; both
 * later when there are thousands of checks. The regular ones follow at interval ± 5 % jitter, on a
 * grid that begins anywhere in the first interval.
 * @param initial state to begin from (a resync after a restart): UP or DOWN needs fall/rise results
 * to change; UNKNOWN is settled by the first result.
 * @return the check; NULL without memory. Type LB_CHECK_NONE: stays in @p initial or UP if UNKNOWN,
 * never calls back.
 */
struct lb_health_check *lb_health_check_create(struct lb_health *health,
	const struct lb_config_check *config, const struct lb_endpoint *endpoint,
	enum lb_health_state initial, lb_health_changed_fn *changed, void *arg);

/** Tell @p reported (with the arg of creation) what the backend says of itself; NULL: nobody. */
void lb_health_check_on_report(struct lb_health_check *check, lb_health_reported_fn *reported);

/** Count durations in @p histogram (the caller's; NULL: no more). */
void lb_health_check_measure(struct lb_health_check *check, struct lb_health_histogram *histogram);

/** The names that an exec check's program is told; the caller's, they live as long as the check or
 * the next call. */
void lb_health_check_name(
	struct lb_health_check *check, const char *service_name, const char *backend_name);

/** Stop and free; no callback follows. NULL is ignored. */
void lb_health_check_destroy(struct lb_health_check *check);

/**
 * Take new parameters without forgetting the state; equal ones change nothing. A probe in flight is
 * given up without a judgement and a new one comes within a random part of the interval, at most
 * 1 s. A change to LB_CHECK_NONE makes the state UP; if it was another, changed() is called from
 * the loop.
 * @return 0; -ENOMEM, and the check goes on as it was.
 */
int lb_health_check_update(struct lb_health_check *check, const struct lb_config_check *config);

/**
 * Probe now, besides the regular ones (a suspect backend). A probe in flight, begun before the
 * suspicion, is followed by another. Not more often than each 100 ms: a call that comes earlier
 * takes effect then.
 */
void lb_health_check_now(struct lb_health_check *check);

void lb_health_check_status(const struct lb_health_check *check, struct lb_health_status *status);

/** "unknown", "up", "down". */
const char *lb_health_state_name(enum lb_health_state state);

#endif
