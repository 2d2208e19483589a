/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_TRACE_H
#define LB_DATAPLANE_TRACE_H

#include "dataplane/dp.h"

/**
 * Say where a packet of this 5-tuple would go now, and why, without sending or recording anything.
 * @return 0, also when it would be dropped (reply->verdict); -EINVAL: no TCP or UDP, a port 0, mixed
 * families. Main lcore.
 */
int lb_trace(const struct lb_dp *dp, const struct lb_msg_trace *msg, struct lb_msg_trace_reply *reply);

/**
 * The next session of mode fullnat from @p query on, for display; a reply without one may only mean that enough was
 * looked at for once. session_list.c. @return 0; -EINVAL. Main lcore.
 */
int lb_session_next(
	const struct lb_dp *dp, const struct lb_msg_session_query *query, struct lb_msg_session *reply);

#endif
