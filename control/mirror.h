/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_MIRROR_H
#define LB_CONTROL_MIRROR_H

#include "control/model.h"

/*
 * The health mirror in the shared region: what the checks last said of each backend, at the index
 * of its id, so that a restarted daemon begins with the truth and no backend flaps.
 */

/** Write what backend->health says; without a region, nothing. */
void lb_mirror_write(const struct lb_backend *backend);

/** Read the entry of backend->id into @p health and @p since_ns; both are left alone if it is
 * another backend's or damaged. */
void lb_mirror_read(
	const struct lb_backend *backend, enum lb_health_state *health, uint64_t *since_ns);

#endif
