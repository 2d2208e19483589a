/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_RAMP_H
#define LB_CONTROL_RAMP_H

#include "control/model.h"

/*
 * Slow start: a backend that comes up begins with LB_RAMP_FIRST % of its weight and has all of it after
 * its service's slow_start, in ten even steps. Backends whose state is found out when the daemon starts
 * do not ramp, nor does a restart of the data plane begin a ramp or end one. A restarted daemon goes on with the
 * ramps that the mirror tells of.
 */
#define LB_RAMP_FIRST 10u
#define LB_RAMP_STEPS 10u

/** @return 0; -ENOMEM. */
int lb_ramp_init(struct lb_model *model);
void lb_ramp_fini(struct lb_model *model);

/** The backend came up: begin, if its service has a slow start. */
void lb_ramp_begin(struct lb_backend *backend);

/** The daemon has restarted, and the backend had @p percent of its weight: go on from there. */
void lb_ramp_resume(struct lb_backend *backend, uint8_t percent);

/** The backend went down or away: forget its slow start, if any. Does not touch the service. */
void lb_ramp_cancel(struct lb_backend *backend);

/** Per cent of its weight that a backend has @p elapsed_ms after it came up; 0: all of it, done. */
uint8_t lb_ramp_percent(uint64_t elapsed_ms, uint32_t slow_start_ms);

#endif
