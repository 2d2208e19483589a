/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_PICK_H
#define LB_DATAPLANE_PICK_H

#include "dataplane/worker.h"
#include "lb/decide.h"
#include "lb/pick.h"

/** What a TABLE_PUBLISH says of its pick table. */
struct lb_pick_spec lb_pick_spec_of(const struct lb_msg_table *msg);

/**
 * Make the pick table of @p msg, whose words @p words are (a private copy).
 * @param before the service's table so far; NULL: none.
 * @param out    NULL if the service needs none; else to be freed with rte_free().
 * @return 0; -EINVAL the words are no pick table; -ERANGE it names no backend of the service;
 * -ENOMEM. Main lcore.
 */
int lb_pick_create(struct lb_dp *dp, const struct lb_msg_table *msg, const uint16_t *words,
	const struct lb_pick *before, struct lb_pick **out);

/** Count @p pick's members (NULL: none) as uses of backends: such are not deleted. Main lcore. */
void lb_pick_hold(struct lb_dp *dp, const struct lb_pick *pick, int change);

/**
 * A flow begins, and is recorded: put the backend that @p pick chooses into @p choice, which says where
 * @p slot_idx leads. @p commit: false to change nothing. Worker; main lcore without @p commit.
 */
void lb_flow_pick(const struct lb_worker *worker, const struct lb_pick *pick,
	const struct lb_slot_table *table, uint32_t slot_idx, bool commit, struct lb_choice *choice);

#endif
