/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replies to local addresses go to the worker whose session they belong to; the low bits of their port name it. Where
 * RSS brought them to another one, a ring per pair of workers passes them on: one producer, one consumer, and
 * polling an empty one costs a line that nobody writes.
 */
#include <rte_ring.h>

#include "dataplane/fullnat.h"

#include <errno.h>

#include <rte_malloc.h>

/*
 * As long as a NIC's queue, since a worker may be away as long from this as from that: 4 096 packets, less for many
 * workers, so that all rings together take 16 MB at most.
 */
#define RING_PKTS_MAX 4096u
#define RING_PKTS_MIN 512u

static unsigned ring_pkts(unsigned n_workers)
{
	unsigned n = rte_align32prevpow2(32768u / n_workers);

	return RTE_MAX(RING_PKTS_MIN, RTE_MIN(n, RING_PKTS_MAX));
}

static struct rte_ring *ring_of(const struct lb_fullnat *fullnat, unsigned n_workers, unsigned from, unsigned to)
{
	return (void *)(fullnat->rings + (from * n_workers + to) * fullnat->ring_bytes);
}

int lb_handover_init(struct lb_fullnat *fullnat, unsigned n_workers)
{
	unsigned n_pkts = ring_pkts(n_workers);

	fullnat->ring_bytes = RTE_CACHE_LINE_ROUNDUP((uint64_t)rte_ring_get_memsize(n_pkts));
	fullnat->rings = rte_zmalloc("handover", n_workers * n_workers * fullnat->ring_bytes, 64);
	if (fullnat->rings == NULL)
		return -ENOMEM;
	for (unsigned from = 0; from < n_workers; from++)
		for (unsigned to = 0; to < n_workers; to++)
			rte_ring_init(ring_of(fullnat, n_workers, from, to), "handover", n_pkts,
				RING_F_SP_ENQ | RING_F_SC_DEQ);
	return 0;
}

uint8_t lb_handover_give(struct lb_worker *worker, struct lb_burst *burst, unsigned i, unsigned to)
{
	const struct lb_dp *dp = worker->dp;
	const struct lb_fullnat *fullnat = atomic_load_explicit(&dp->fullnat, memory_order_acquire);

	burst->mbufs[i]->port = burst->port;
	if (unlikely(rte_ring_sp_enqueue(
			     ring_of(fullnat, dp->n_workers, worker->idx, to), burst->mbufs[i]) != 0))
		return LB_VERDICT_HANDOVER_FULL;
	worker->counters->sessions.handed_over++;
	return LB_VERDICT_TAKEN;
}

// A burst has one port: packets of another one wait for the next turn, in front of the ring.
static unsigned keep_one_port(struct lb_worker *worker, struct lb_burst *burst, unsigned n)
{
	unsigned n_same = 1;

	while (n_same < n && burst->mbufs[n_same]->port == burst->mbufs[0]->port)
		n_same++;
	worker->n_waiting = n - n_same;
	memcpy(worker->waiting, burst->mbufs + n_same, worker->n_waiting * sizeof(worker->waiting[0]));
	return n_same;
}

unsigned lb_handover_take(struct lb_worker *worker, struct lb_burst *burst)
{
	const struct lb_dp *dp = worker->dp;
	const struct lb_fullnat *fullnat = atomic_load_explicit(&dp->fullnat, memory_order_acquire);
	unsigned n = worker->n_waiting;

	if (likely(fullnat == NULL))
		return 0;
	memcpy(burst->mbufs, worker->waiting, n * sizeof(worker->waiting[0]));
	for (unsigned k = 0; n == 0 && k < dp->n_workers; k++) {
		unsigned from = worker->handover_turn;

		worker->handover_turn = from + 1 < dp->n_workers ? from + 1 : 0;
		n = rte_ring_sc_dequeue_burst(ring_of(fullnat, dp->n_workers, from, worker->idx),
			(void **)burst->mbufs, LB_BURST, NULL);
		worker->counters->sessions.taken_over += n;
	}
	if (n == 0)
		return 0;
	burst->n = keep_one_port(worker, burst, n);
	burst->port = burst->mbufs[0]->port;
	return burst->n;
}
