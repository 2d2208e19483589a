/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_RESUME_H
#define LB_DATAPLANE_RESUME_H

#include "dataplane/dp.h"

/*
 * The first sync of a data plane that was restarted. Once every object but the tables has been told, workers
 * begin: recorded flows go on at once, by their entries. Then each service's kept table (history.h) is taken
 * into use, those of services with flows first; control's own tables follow, and replace what they differ
 * from. A service that has no table yet drops what it has no entry for, and tells nobody (NO_TABLE): the
 * sender tries again. Main lcore only.
 */

/** LB_OP_SYNC_OBJECTS: let workers begin, if they have not. */
void lb_resume_begin(struct lb_dp *dp);

/** Take the next few kept tables, for some milliseconds. @return whether there are more. */
bool lb_resume_step(struct lb_dp *dp);

/** The service whose turn is the @p i th from now; UINT16_MAX: there are not so many. */
uint16_t lb_resume_list(const struct lb_dp *dp, uint32_t i);

void lb_resume_fini(struct lb_dp *dp);

#endif
