/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_MIRROR_H
#define LB_CONTROL_MIRROR_H

#include "control/model.h"

/*
 * The health mirror in the shared region: what checks, agents and slow start last made of each backend, at the
 * index of its id, so that a restarted daemon begins with the truth and neither a backend nor its weight flaps.
 */

struct lb_mirrored {
	enum lb_health_state health; /* LB_HEALTH_UNKNOWN: neither up nor down */
	uint64_t since_ns;           /* CLOCK_REALTIME; 0: not known */
	uint8_t ramp;                /* as lb_backend.ramp */
	uint8_t agent_percent, weight_by, agent_admin, agent_oper; /* as there */
};

/** Write what @p backend is now; without a region, nothing. */
void lb_mirror_write(const struct lb_backend *backend);

/** Read the entry of backend->id. @return false: there is none, or another backend's, or it is damaged. */
bool lb_mirror_read(const struct lb_backend *backend, struct lb_mirrored *mirrored);

#endif
