/* SPDX-License-Identifier: BSD-3-Clause */
/* Mode fullnat in /v1/status and /v1/stats: sessions and local ports, per worker and in all. */
#include "control/api.h"
#include "control/counters.h"
#include "control/json.h"

static json_t *sessions_json(const struct lb_session_counters *n)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "used",
		lb_json_u64(n->used), "max", lb_json_u64(n->capacity), "insert",
		lb_json_u64(n->insert), "expire", lb_json_u64(n->expire), "evict",
		lb_json_u64(n->evicted), "full",
		lb_json_u64(n->full), "ports_exhausted", lb_json_u64(n->ports_exhausted),
		"handed_over", lb_json_u64(n->handed_over), "taken_over",
		lb_json_u64(n->taken_over), "toa_added", lb_json_u64(n->toa_added), "toa_no_room",
		lb_json_u64(n->toa_no_room), "toa_removed", lb_json_u64(n->toa_removed),
		"proxy_headers", lb_json_u64(n->proxy_headers));
}

static json_t *local_json(const struct lb_local_sum *local)
{
	char text[LB_ADDR_STRLEN];

	return json_pack("{s:s, s:b, s:o, s:o, s:o}", "address", lb_addr_format(&local->addr, text),
		"usable", local->n_max != 0, "ports_used", lb_json_u64(local->n_used), "ports_free",
		lb_json_u64(local->n_max > local->n_used ? local->n_max - local->n_used : 0),
		"ports_exhausted", lb_json_u64(local->n_exhausted));
}

// Of one worker, or of all (LB_ALL_WORKERS).
static json_t *locals_json(const struct lb_shm_map *map, unsigned worker)
{
	json_t *list = json_array();
	struct lb_local_sum local;

	for (unsigned i = 0; i < LB_MAX_LOCALS; i++)
		if (lb_counters_local(map, worker, i, &local))
			json_array_append_new(list, local_json(&local));
	return list;
}

json_t *lb_api_fullnat_json(const struct lb_shm_map *map)
{
	struct lb_session_counters sessions;
	json_t *workers;

	lb_counters_sessions(map, LB_ALL_WORKERS, &sessions);
	if (sessions.capacity == 0)
		return json_null(); // no fullnat service yet
	workers = json_array();
	for (unsigned i = 0; i < map->n_workers; i++) {
		struct lb_session_counters own;

		lb_counters_sessions(map, i, &own);
		json_array_append_new(workers,
			json_pack("{s:i, s:o, s:o}", "id", i, "sessions", sessions_json(&own),
				"locals", locals_json(map, i)));
	}
	return json_pack("{s:o, s:o, s:o}", "sessions", sessions_json(&sessions), "locals",
		locals_json(map, LB_ALL_WORKERS), "workers", workers);
}
