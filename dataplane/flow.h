/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_FLOW_H
#define LB_DATAPLANE_FLOW_H

#include "dataplane/worker.h"
#include "lb/decide.h"

/**
 * Where a flow without a (valid) entry in @p worker's table goes: for the flow stage, and for trace. @p hash: of
 * @p key, as lb_hash_flows() says. @p begins: a SYN, or no TCP. @p commit: false for display: schedulers that take turns
 * stay where they are. @return backend LB_BACKEND_NONE if there is no table or nobody serves the slot. Worker; or
 * main lcore, for display.
 */
struct lb_choice lb_flow_choose(const struct lb_worker *worker, uint16_t service_id,
	const struct lb_flow_key *key, uint64_t hash, bool begins, bool commit);

/** The hash that chooses the slot of flow @p key of @p service_id: @p hash, unless the client's address alone does. */
uint64_t lb_flow_slot_hash(const struct lb_dp *dp, uint16_t service_id,
	const struct lb_flow_key *key, uint64_t hash);

/**
 * Where a packet of the flow in mid-stream would go now, for one that belongs to the flow but is not part of it.
 * Nothing is recorded. @return LB_BACKEND_NONE: nobody would take it. Worker.
 */
uint16_t lb_flow_find(struct lb_worker *worker, uint16_t service_id, const struct lb_flow_key *key,
	uint64_t hash);

/**
 * Packet @p i, whose flow had no entry or one that does not hold, looked up again, as an earlier packet of the burst may
 * have recorded the flow; else a new choice is made for it. @p hash: the packet's. @return true: it is a hit by now. Worker.
 */
bool lb_flow_settle_again(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t hash);

/**
 * Note packet @p i of a flow whose @p entry is live and of the packet's service: the first one in this tick, or one that
 * makes its state @p state. Worker.
 */
void lb_flow_refresh(const struct lb_worker *worker, const struct lb_burst *burst, unsigned i, uint64_t *entry,
	uint64_t hash, enum lb_flow_state state);

#endif
