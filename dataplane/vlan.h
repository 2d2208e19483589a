/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_VLAN_H
#define LB_DATAPLANE_VLAN_H

#include "dataplane/worker.h"

/** Whether any next hop has ever had a rule for tags: if not, frames keep theirs and there is nothing to do. Worker. */
static inline bool lb_vlan_is_used(const struct lb_dp *dp)
{
	return atomic_load_explicit(&dp->fib.n_vlans, memory_order_relaxed) != 0;
}

/**
 * 802.1Q tags of all that is about to be sent, answers too, as their next hops say: kept, rewritten, inserted or
 * removed. Last of all stages, since offsets into the frames are no longer right after it. A frame without room for
 * a tag is dropped as NO_HEADROOM. Worker.
 */
void lb_stage_vlan(struct lb_worker *worker, struct lb_burst *burst);

#endif
