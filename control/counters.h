/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_COUNTERS_H
#define LB_CONTROL_COUNTERS_H

#include "lb/shm.h"

/*
 * Counters of the region, summed over its workers. @p map may be NULL (no region): all zero. Each
 * value is read once and only added up, so that whatever the region holds does no harm.
 */

void lb_counters_backend(
	const struct lb_shm_map *map, uint16_t id, struct lb_backend_counters *sum);

/** Packets of the service that found no backend. @p id below LB_MAX_SERVICES. */
uint64_t lb_counters_no_backend(const struct lb_shm_map *map, uint16_t id);

void lb_counters_flow(const struct lb_shm_map *map, struct lb_flow_counters *sum);

/** Whether any worker records only flows on slots in transition now, for want of room. */
bool lb_counters_any_pressure(const struct lb_shm_map *map);

void lb_counters_answers(const struct lb_shm_map *map, struct lb_answer_counters *sum);

#define LB_ALL_WORKERS UINT32_MAX /* instead of one */

/** Mode fullnat's sessions at @p worker. capacity 0: no fullnat service yet. */
void lb_counters_sessions(
	const struct lb_shm_map *map, unsigned worker, struct lb_session_counters *sum);

/* Ports of a local address of mode fullnat. */
struct lb_local_sum {
	struct lb_addr addr;
	uint64_t n_used, n_exhausted;
	uint64_t n_max; /* towards all backends together; 0: not for new sessions, others go on */
};

/** Place @p idx of the local addresses, at @p worker. @return false: none there, or not of use. */
bool lb_counters_local(
	const struct lb_shm_map *map, unsigned worker, unsigned idx, struct lb_local_sum *sum);

/** The address at place @p idx (any number) of mode fullnat's; all zeroes: none. */
struct lb_addr lb_counters_local_addr(const struct lb_shm_map *map, unsigned idx);

/** By enum lb_verdict. */
void lb_counters_verdicts(const struct lb_shm_map *map, uint64_t sums[LB_VERDICT_N]);

/* A worker's own, without the large arrays. */
struct lb_worker_sum {
	uint64_t rx_pkts, rx_bytes, tx_pkts, tx_bytes, polls, polls_idle, events_lost, flows_used;
	uint32_t lcore;
};

/** @p worker below map->n_workers. */
void lb_counters_worker(const struct lb_shm_map *map, unsigned worker, struct lb_worker_sum *sum);

/** @p port below LB_SHM_MAX_PORTS: a copy with terminated, printable strings. @return whether the
 * port is in use. */
bool lb_counters_port(const struct lb_shm_map *map, unsigned port, struct lb_shm_port *copy);

/** Copy text from the region: at most @p src_bytes, up to its NUL, what is not printable ASCII
 * becomes "?". */
void lb_counters_text(char *dst, size_t dst_bytes, const char *src, size_t src_bytes);

#endif
