/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_HEALTH_H
#define LB_CONTROL_HEALTH_H

#include <event2/event.h>

#include "control/config.h"

/*
 * Active health checks: all from one libevent loop, none blocking. A check owns its timer and its
 * connection; its result is a debounced state (`rise` successes in a row: up, `fall` failures: down).
 */
struct lb_health;       /* the engine: libcurl multi, socket limits */
struct lb_health_check; /* one backend's check */

enum lb_health_state { LB_HEALTH_UNKNOWN, LB_HEALTH_UP, LB_HEALTH_DOWN };

struct lb_health_status {
	enum lb_health_state state;
	uint32_t n_successes, n_failures; /* in a row */
	uint64_t n_checks, n_failed;      /* since start */
	uint64_t last_ns;                 /* CLOCK_REALTIME of the last result, 0: none */
	uint32_t last_duration_us;
	char reason[128]; /* of the last result: "HTTP 503", "connection refused", "timeout after 1000 ms", "ok" */
};

/** Called from the loop when the debounced state changes, not on each result. May destroy the check. */
typedef void lb_health_changed_fn(void *arg, struct lb_health_check *check,
	const struct lb_health_status *status);

/** @return 0, -ENOMEM. */
int lb_health_create(struct event_base *base, struct lb_health **out);
void lb_health_destroy(struct lb_health *health);

/**
 * Start checking @p endpoint as @p config says (copied). The first check comes within a random part of the
 * interval (so that checks of a fleet spread), the following at interval ± 5 % jitter.
 * @param initial state to begin from (a resync after a restart): UP or DOWN needs fall/rise results to change; UNKNOWN is
 * settled by the first result.
 * @return the check; NULL without memory. Type LB_CHECK_NONE: stays in @p initial or UP if UNKNOWN, never calls back.
 */
struct lb_health_check *lb_health_check_create(struct lb_health *health,
	const struct lb_config_check *config, const struct lb_endpoint *endpoint,
	enum lb_health_state initial, lb_health_changed_fn *changed, void *arg);
void lb_health_check_destroy(struct lb_health_check *check);

/** Take new parameters without forgetting the state. */
int lb_health_check_update(struct lb_health_check *check, const struct lb_config_check *config);

/** Check now (a suspect backend). */
void lb_health_check_now(struct lb_health_check *check);

void lb_health_check_status(const struct lb_health_check *check, struct lb_health_status *status);

const char *lb_health_state_name(enum lb_health_state state);

#endif
