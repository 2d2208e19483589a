/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RSTs of nat's backends: end the client's flow. RSS brings replies to any worker, so the entry is mostly another's: its
 * table is looked into, as the display does, and a note goes to it over a ring per pair of workers (as handover.c's).
 */
#include "dataplane/reset.h"

#include <errno.h>

#include <rte_malloc.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "lb/decide.h"

/* A backend that dies resets all its connections within a moment, but takers poll at least once per burst. Less for many
 * workers, so that all rings together take 10 MB at most. */
#define RING_NOTES_MAX 1024u
#define RING_NOTES_MIN 128u
#define NOTES_BURST 32u

struct note {
	uint64_t hash; /* of the client's flow */
	uint32_t backend;
	uint32_t zero;
};
static_assert(sizeof(struct note) % 4 == 0, "as rte_ring wants its elements");

static unsigned ring_notes(unsigned n_workers)
{
	unsigned n = rte_align32prevpow2(8192u / n_workers);

	return RTE_MAX(RING_NOTES_MIN, RTE_MIN(n, RING_NOTES_MAX));
}

static struct rte_ring *ring_of(const struct lb_dp *dp, unsigned from, unsigned to)
{
	return (void *)(dp->reset_rings + (from * dp->n_workers + to) * dp->reset_ring_bytes);
}

int lb_reset_init(struct lb_dp *dp, unsigned n_workers)
{
	unsigned n_notes = ring_notes(n_workers);

	if (n_workers < 2)
		return 0;
	dp->reset_ring_bytes =
		RTE_CACHE_LINE_ROUNDUP((uint64_t)rte_ring_get_memsize_elem(sizeof(struct note), n_notes));
	dp->reset_rings = rte_zmalloc("resets", n_workers * n_workers * dp->reset_ring_bytes, 64);
	if (dp->reset_rings == NULL)
		return -ENOMEM;
	for (unsigned from = 0; from < n_workers; from++)
		for (unsigned to = 0; to < n_workers; to++)
			rte_ring_init(ring_of(dp, from, to), "resets", n_notes, RING_F_SP_ENQ | RING_F_SC_DEQ);
	return 0;
}

void lb_reset_fini(struct lb_dp *dp)
{
	rte_free(dp->reset_rings);
	dp->reset_rings = NULL;
}

static uint64_t hash_of_client(const struct lb_dp *dp, const struct lb_flow_key *reply, const struct lb_backend *backend)
{
	struct lb_flow_key key = {.src = reply->dst,
		.dst = backend->vip,
		.sport_be = reply->dport_be,
		.dport_be = backend->vip_port_be != 0 ? backend->vip_port_be : reply->sport_be, // 0: all ports
		.proto = reply->proto};
	uint64_t hash;

	lb_hash_flows(&dp->hash_key, &key, &hash, 1);
	return hash;
}

static void prefetch(const struct lb_flowtable *table, uint64_t hash)
{
	lb_flowtable_prefetch(table, hash);
	lb_flowtable_prefetch_second(table, hash);
}

// The flow's live entry, if it is at this backend: a late RST of another one does not end it.
static uint64_t *find_entry(struct lb_worker *worker, uint64_t hash, uint16_t backend)
{
	struct lb_flowtable *table = &worker->flowtable;
	uint64_t *entry = lb_flowtable_lookup(table, hash, worker->tick);

	while (entry != NULL && lb_flow_entry_backend(*entry) != backend)
		entry = lb_flowtable_lookup_next(table, hash, entry, worker->tick);
	return entry;
}

// @return whether the flow is this worker's.
static bool close_flow(struct lb_worker *worker, uint64_t hash, uint16_t backend)
{
	uint64_t *entry = find_entry(worker, hash, backend);

	if (entry == NULL)
		return false;
	if (lb_flow_entry_state(*entry) == LB_FLOW_CLOSED)
		return true; // one more RST does not make it stay
	lb_flowtable_touch(&worker->flowtable, entry,
		LB_FLOW_CLOSED | (lb_flow_entry_pinned(*entry) ? LB_FLOW_PINNED : 0), worker->tick);
	worker->counters->flow.reset++;
	return true;
}

// The same, of another worker's table, which may be in change: a hint.
static bool bucket_has(const struct lb_flowtable *table, uint32_t bucket, uint32_t signature, uint16_t backend)
{
	for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++) {
		uint64_t entry = lb_flowtable_peek(table, (uint64_t)bucket * LB_FLOWTABLE_WAYS + way);

		if (lb_flow_entry_signature(entry) == signature && lb_flow_entry_backend(entry) == backend &&
			lb_flow_entry_state(entry) != LB_FLOW_FREE)
			return true;
	}
	return false;
}

static bool table_has(const struct lb_flowtable *table, uint64_t hash, uint16_t backend)
{
	uint32_t signature = (uint32_t)(hash >> 32);
	uint32_t first = lb_flowtable_first_bucket(table, hash);

	return bucket_has(table, first, signature, backend) ||
	       bucket_has(table, lb_flowtable_other_bucket(table, first, signature), signature, backend);
}

static void tell_owner(struct lb_worker *worker, uint64_t hash, uint16_t backend)
{
	const struct lb_dp *dp = worker->dp;
	struct note note = {.hash = hash, .backend = backend};

	for (unsigned k = 0; k < dp->n_workers; k++)
		prefetch(&dp->workers[k]->flowtable, hash);
	for (unsigned k = 0; k < dp->n_workers; k++) {
		if (k == worker->idx || !table_has(&dp->workers[k]->flowtable, hash, backend))
			continue;
		if (rte_ring_sp_enqueue_elem(ring_of(dp, worker->idx, k), &note, sizeof(note)) != 0)
			worker->counters->flow.reset_lost++; // the flow counts until it is idle
	}
}

static void end_flow(struct lb_worker *worker, const struct lb_burst *burst, unsigned i)
{
	const struct lb_dp *dp = worker->dp;
	uint16_t id = burst->packets[i].backend;
	struct lb_flow_key reply = lb_burst_key(burst, i);
	uint64_t hash = hash_of_client(dp, &reply, &dp->backends[id]);

	worker->counters->backends[id].resets++;
	if (!close_flow(worker, hash, id) && dp->reset_rings != NULL)
		tell_owner(worker, hash, id);
}

void lb_reset_seen(struct lb_worker *worker, const struct lb_burst *burst)
{
	for (unsigned k = 0; k < burst->n_to_client; k++) {
		const struct lb_packet *packet = &burst->packets[burst->to_client[k]];

		if (packet->verdict == LB_VERDICT_REPLY && packet->l4 != 0 && (packet->tcp_flags & LB_TCP_RST) != 0)
			end_flow(worker, burst, burst->to_client[k]);
	}
}

void lb_reset_take(struct lb_worker *worker)
{
	const struct lb_dp *dp = worker->dp;
	struct note notes[NOTES_BURST];
	unsigned n;

	if (likely(dp->reset_rings == NULL))
		return;
	worker->reset_turn = worker->reset_turn + 1 < dp->n_workers ? worker->reset_turn + 1 : 0;
	n = rte_ring_sc_dequeue_burst_elem(
		ring_of(dp, worker->reset_turn, worker->idx), notes, sizeof(notes[0]), NOTES_BURST, NULL);
	for (unsigned k = 0; k < n; k++)
		prefetch(&worker->flowtable, notes[k].hash);
	for (unsigned k = 0; k < n; k++)
		close_flow(worker, notes[k].hash, (uint16_t)notes[k].backend);
}
