/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/counters.h"

#include <string.h>

static uint64_t read_u64(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* Add @p n counters that lie one after the other. */
static void add(uint64_t *sums, const uint64_t *counters, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sums[i] += read_u64(&counters[i]);
}

static unsigned n_workers_of(const struct lb_shm_map *map)
{
	return map != NULL ? map->n_workers : 0;
}

void lb_counters_backend(const struct lb_shm_map *map, uint16_t id, struct lb_backend_counters *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (unsigned i = 0; i < n_workers_of(map); i++)
		add((uint64_t *)sum, (const uint64_t *)&map->shm->workers[i].backends[id],
			sizeof(*sum) / sizeof(uint64_t));
	// one worker may be seen before, another after the same flow moved
	if (sum->active_flows < 0)
		sum->active_flows = 0;
	if (sum->closing_flows < 0)
		sum->closing_flows = 0;
}

uint64_t lb_counters_no_backend(const struct lb_shm_map *map, uint16_t id)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n_workers_of(map); i++)
		sum += read_u64(&map->shm->workers[i].services[id].no_backend);
	return sum;
}

void lb_counters_flow(const struct lb_shm_map *map, struct lb_flow_counters *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (unsigned i = 0; i < n_workers_of(map); i++)
		add((uint64_t *)sum, (const uint64_t *)&map->shm->workers[i].flow,
			sizeof(*sum) / sizeof(uint64_t));
}

bool lb_counters_any_pressure(const struct lb_shm_map *map)
{
	for (unsigned i = 0; i < n_workers_of(map); i++)
		if (read_u64(&map->shm->workers[i].flow.tracking_changes) % 2 != 0)
			return true;
	return false;
}

void lb_counters_answers(const struct lb_shm_map *map, struct lb_answer_counters *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (unsigned i = 0; i < n_workers_of(map); i++)
		add((uint64_t *)sum, (const uint64_t *)&map->shm->workers[i].answers,
			sizeof(*sum) / sizeof(uint64_t));
}

void lb_counters_sessions(
	const struct lb_shm_map *map, unsigned worker, struct lb_session_counters *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (unsigned i = 0; i < n_workers_of(map); i++)
		if (worker == i || worker == LB_ALL_WORKERS)
			add((uint64_t *)sum, (const uint64_t *)&map->shm->workers[i].sessions,
				sizeof(*sum) / sizeof(uint64_t));
}

struct lb_addr lb_counters_local_addr(const struct lb_shm_map *map, unsigned idx)
{
	return map != NULL && idx < LB_MAX_LOCALS ? map->shm->header.locals[idx] : (struct lb_addr){0};
}

bool lb_counters_local(
	const struct lb_shm_map *map, unsigned worker, unsigned idx, struct lb_local_sum *sum)
{
	static const struct lb_addr none;

	*sum = (struct lb_local_sum){.addr = lb_counters_local_addr(map, idx)};
	if (lb_addr_equal(&sum->addr, &none))
		return false;
	for (unsigned i = 0; i < map->n_workers; i++) {
		const struct lb_local_counters *counters = &map->shm->workers[i].locals[idx];

		if (worker != i && worker != LB_ALL_WORKERS)
			continue;
		sum->n_used += read_u64(&counters->ports_used);
		sum->n_exhausted += read_u64(&counters->ports_exhausted);
		sum->n_max += read_u64(&map->shm->header.local_ports[idx]);
	}
	return sum->n_max != 0 || sum->n_used != 0;
}

void lb_counters_verdicts(const struct lb_shm_map *map, uint64_t sums[LB_VERDICT_N])
{
	memset(sums, 0, LB_VERDICT_N * sizeof(*sums));
	for (unsigned i = 0; i < n_workers_of(map); i++)
		add(sums, map->shm->workers[i].verdicts, LB_VERDICT_N);
}

void lb_counters_worker(const struct lb_shm_map *map, unsigned worker, struct lb_worker_sum *sum)
{
	const struct lb_worker_counters *counters = &map->shm->workers[worker];

	*sum = (struct lb_worker_sum){
		.rx_pkts = read_u64(&counters->rx_pkts),
		.rx_bytes = read_u64(&counters->rx_bytes),
		.tx_pkts = read_u64(&counters->tx_pkts),
		.tx_bytes = read_u64(&counters->tx_bytes),
		.polls = read_u64(&counters->polls),
		.polls_idle = read_u64(&counters->polls_idle),
		.events_lost = read_u64(&counters->events_lost),
		.flows_used = read_u64(&counters->flow.used),
		.lcore = __atomic_load_n(&counters->lcore, __ATOMIC_RELAXED),
	};
}

void lb_counters_text(char *dst, size_t dst_bytes, const char *src, size_t src_bytes)
{
	size_t n = 0;

	while (n < src_bytes && n + 1 < dst_bytes) {
		char c = __atomic_load_n(&src[n], __ATOMIC_RELAXED);

		if (c == '\0')
			break;
		dst[n++] = c >= 0x20 && c < 0x7f ? c : '?';
	}
	dst[n] = '\0';
}

bool lb_counters_port(const struct lb_shm_map *map, unsigned port, struct lb_shm_port *copy)
{
	const struct lb_shm_port *src;

	if (map == NULL || port >= __atomic_load_n(&map->shm->header.n_ports, __ATOMIC_RELAXED))
		return false;
	src = &map->shm->header.ports[port];
	*copy = *src;
	lb_counters_text(copy->name, sizeof(copy->name), src->name, sizeof(src->name));
	lb_counters_text(copy->driver, sizeof(copy->driver), src->driver, sizeof(src->driver));
	return copy->in_use != 0;
}
