/* SPDX-License-Identifier: BSD-3-Clause */
/* Mode fullnat's sessions, one after the other, for display. Main lcore only; workers go on meanwhile. */
#include <errno.h>

#include "dataplane/fullnat.h"
#include "dataplane/trace.h"

// Entries looked at per command: 4 MB, some hundred microseconds for which other commands wait.
#define LOOK_AT 65536u

// A copy of an entry, which may change meanwhile: what it names is checked, the rest only shown.
static bool read_session(
	const struct lb_dp *dp, const struct lb_sessions *table, uint32_t entry, struct lb_session *copy)
{
	const struct lb_backend *backend;

	if (__atomic_load_n(&table->entries[entry].state, __ATOMIC_ACQUIRE) == LB_FLOW_FREE)
		return false;
	*copy = table->entries[entry];
	backend = &dp->backends[copy->backend];
	return copy->state != LB_FLOW_FREE && backend->in_use && backend->mode == LB_MODE_FULLNAT &&
	       backend->service == copy->service && lb_session_live(table, copy, dp->tick);
}

static void fill_in(const struct lb_dp *dp, const struct lb_session *session, struct lb_msg_session *reply)
{
	reply->client = session->client;
	reply->client_port_be = session->client_port_be;
	reply->vip_port_be = session->vip_port_be;
	reply->local_port_be = session->local_port_be;
	reply->local_idx = session->local_idx;
	reply->service = session->service;
	reply->backend = session->backend;
	reply->state = session->state;
	reply->idle_s = lb_session_age(session, dp->tick) * (LB_FLOW_TICK_MS / 1000);
	reply->found = 1;
}

int lb_session_next(
	const struct lb_dp *dp, const struct lb_msg_session_query *query, struct lb_msg_session *reply)
{
	uint32_t entry = query->entry, n_left = LOOK_AT;

	if (query->zero != 0 || (query->service >= LB_MAX_SERVICES && query->service != UINT16_MAX))
		return -EINVAL;
	*reply = (struct lb_msg_session){.next_worker = UINT16_MAX, .backend = LB_BACKEND_NONE};
	for (unsigned i = query->worker; dp->fullnat != NULL && i < dp->n_workers; i++, entry = 0) {
		const struct lb_sessions *table = &dp->workers[i]->sessions;

		for (; entry < table->n_entries; entry++) {
			struct lb_session session;
			bool found;

			reply->next_worker = (uint16_t)i;
			reply->next_entry = entry;
			if (n_left-- == 0)
				return 0;
			found = read_session(dp, table, entry, &session);
			if (!found || (query->service != UINT16_MAX && query->service != session.service))
				continue;
			fill_in(dp, &session, reply);
			reply->worker = (uint16_t)i;
			reply->next_entry = entry + 1;
			return 0;
		}
	}
	reply->next_worker = UINT16_MAX;
	return 0;
}
