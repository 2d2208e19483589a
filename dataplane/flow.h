/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_FLOW_H
#define LB_DATAPLANE_FLOW_H

#include "dataplane/dp.h"
#include "lb/decide.h"

/**
 * Where a flow without a (valid) entry goes: for the flow stage, and for trace. @p begins: a SYN, or
 * no TCP. @p pressure: the flow table
 * is nearly full. @return backend LB_BACKEND_NONE if there is no table or nobody serves the slot. Under RCU, or main lcore.
 */
struct lb_choice lb_flow_choose(const struct lb_dp *dp, uint16_t service_id, uint64_t hash, bool is_tcp,
	bool begins, bool pressure, uint32_t now_s);

#endif
