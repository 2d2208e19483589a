/* SPDX-License-Identifier: BSD-3-Clause */
/* Choosing a backend at a flow's first packet: schedulers beside plain hashing (lb/pick.h). */
#include "dataplane/pick.h"

#include <errno.h>

#include <rte_malloc.h>

static const int64_t *active_flows(const struct lb_worker *worker)
{
	return &worker->counters->backends[0].active_flows;
}

struct lb_pick_spec lb_pick_spec_of(const struct lb_msg_table *msg)
{
	return (struct lb_pick_spec){.scheduler = msg->scheduler,
		.max_load_percent = msg->max_load_percent,
		.n_members = msg->n_members,
		.n_sequence = msg->n_sequence};
}

static bool members_valid(const struct lb_dp *dp, const struct lb_pick *pick, uint16_t service)
{
	for (uint32_t i = 0; i < pick->spec.n_members; i++) {
		const struct lb_backend *backend = &dp->backends[pick->members[i].backend];

		if (!backend->in_use || backend->service != service)
			return false;
	}
	return true;
}

int lb_pick_create(struct lb_dp *dp, const struct lb_msg_table *msg, const uint16_t *words,
	const struct lb_pick *before, struct lb_pick **out)
{
	struct lb_pick_spec spec = lb_pick_spec_of(msg);
	void *mem;

	*out = NULL;
	if (!lb_pick_needed(&spec))
		return 0;
	mem = rte_zmalloc("pick", lb_pick_bytes(&spec, dp->n_workers), 64);
	if (mem == NULL)
		return -ENOMEM;
	*out = lb_pick_init(mem, &spec, words, dp->n_workers, before);
	if (*out == NULL || !members_valid(dp, *out, msg->service)) {
		int rc = *out == NULL ? -EINVAL : -ERANGE;

		rte_free(mem);
		*out = NULL;
		return rc;
	}
	for (unsigned i = 0; i < dp->n_workers; i++)
		lb_pick_count(*out, i, active_flows(dp->workers[i]), sizeof(struct lb_backend_counters));
	return 0;
}

void lb_pick_hold(struct lb_dp *dp, const struct lb_pick *pick, int change)
{
	for (uint32_t i = 0; pick != NULL && i < pick->spec.n_members; i++)
		dp->slot_refs[pick->members[i].backend] += change;
}

void lb_flow_pick(const struct lb_worker *worker, const struct lb_pick *pick,
	const struct lb_slot_table *table, uint32_t slot_idx, bool commit, struct lb_choice *choice)
{
	struct lb_pick_view view = {.table = table,
		.slot = slot_idx,
		.backend_state = worker->dp->backend_states,
		.active = active_flows(worker),
		.active_stride = sizeof(struct lb_backend_counters)};
	uint16_t backend = lb_pick_choose(pick, worker->idx, &view, commit);

	if (backend == LB_BACKEND_NONE)
		return;
	if (backend != choice->backend || !lb_pick_is_hash(pick->spec.scheduler))
		choice->decision = LB_DECISION_SCHEDULER;
	// Without its entry the flow would go to the slot's backend.
	choice->pinned |= backend != choice->backend;
	choice->backend = backend;
}
