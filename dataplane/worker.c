/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A worker core: polls its queue of every port and runs each burst to completion through the stages,
 *   rx -> parse -> (fast) -> (miss) -> classify -> flow -> rewrite -> tx
 * one file each (fetch, between the first two, is flow's; miss has a second step after flow). It never allocates, locks, logs
 * or waits; what it needs to know changes under it by RCU.
 */
#include "dataplane/worker.h"

#include <rte_ethdev.h>

#include "dataplane/frag.h"
#include "dataplane/fullnat.h"
#include "dataplane/mss.h"
#include "dataplane/reset.h"
#include "dataplane/stages.h"
#include "dataplane/vlan.h"

// One round of the sweep takes 8 ticks (16 s): well within what entries need (lb/flowtable.h), and a
// removed backend's id is free again after two rounds.
#define SWEEP_TICKS 8u
static_assert(SWEEP_TICKS * LB_FLOW_TICK_MS == LB_SWEEP_ROUND_S * 1000, "what control reckons with");
#define SWEEP_BUCKETS_BUSY 2u  // per poll that brought packets: about one more line per 16 packets
#define SWEEP_BUCKETS_IDLE 16u
#define FLUSH_BUCKETS 256u

/*
 * The flow table is under pressure from 15/16 full on, or when it grows so fast in this tick that it would be full
 * before a flood's first SYNs expire: flows that come and go at any rate do not make it grow. No longer when it is
 * below 7/8, has not grown like that for as long as SYNs live, and what a flood left has expired; if the flood goes
 * on, the next tick tells.
 */
static void watch_pressure(struct lb_worker *worker)
{
	uint64_t n_max = lb_flowtable_capacity(&worker->flowtable);
	uint64_t n_used = worker->counters->flow.used;
	uint64_t n_grown = n_used > worker->used_before ? n_used - worker->used_before : 0;
	bool filling = n_used > n_max / 16 * 15 || n_grown * LB_FLOW_SYN_TICKS > n_max - n_used;
	bool pressure = filling;

	if (unlikely(filling))
		worker->filling_tick = worker->tick;
	else if (unlikely(worker->pressure))
		pressure = n_used > n_max / 8 * 7 || worker->tick - worker->filling_tick <= LB_FLOW_SYN_TICKS;
	if (likely(pressure == worker->pressure))
		return;
	worker->pressure = pressure;
	worker->counters->flow.tracking_changes++;
	lb_worker_event(worker, &(struct lb_msg){.op = LB_EVENT_TABLE_PRESSURE,
				.pressure = {.n_used = n_used, .n_max = n_max, .on = pressure}});
}

/*
 * Overload (lb/decide.h): in a tick, more than one in 32 of what was recorded was lost again. A few lost ones are
 * few broken flows; to stop trusting the origins would break those that have not sent since their slot changed.
 */
static void watch_losses(struct lb_worker *worker)
{
	uint64_t n_lost = worker->counters->flow.lost - worker->lost_before;
	uint64_t n_inserted = worker->counters->flow.insert - worker->inserted_before;

	worker->lost_before += n_lost;
	worker->inserted_before += n_inserted;
	if (likely(n_lost < 64 || n_lost * 32 < n_inserted))
		return;
	if (worker->overload_s == 0 || worker->now_s - worker->overload_s > LB_IDLE_TIMEOUT_MAX_MS / 1000)
		worker->counters->flow.overloads++;
	worker->overload_s = worker->now_s;
}

// One session is a line, as a bucket is.
static void sweep_sessions(struct lb_worker *worker, uint32_t n)
{
	n = RTE_MIN(n, worker->session_sweep_left);
	if (n == 0)
		return;
	lb_sessions_sweep(&worker->sessions, worker->tick, n);
	worker->session_sweep_left -= n;
	worker->sessions_swept += n;
}

static void sweep(struct lb_worker *worker, unsigned n_rx)
{
	uint32_t n_buckets = worker->flowtable.n_buckets;
	uint32_t n_sessions = worker->sessions.n_entries; // 0: no fullnat service yet
	uint32_t n = n_rx != 0 ? SWEEP_BUCKETS_BUSY : SWEEP_BUCKETS_IDLE;

	sweep_sessions(worker, n);
	if (worker->sweep_left == 0)
		return;
	n = RTE_MIN(n, worker->sweep_left);
	lb_flowtable_sweep(&worker->flowtable, worker->tick, n);
	worker->sweep_left -= n;
	worker->swept += n;
	if (worker->swept >= n_buckets && worker->sessions_swept >= n_sessions) {
		worker->swept = 0;
		worker->sessions_swept = 0;
		atomic_store_explicit(&worker->sweeps, lb_worker_sweeps(worker) + 1, memory_order_release);
		__atomic_store_n(&worker->counters->sweeps, lb_worker_sweeps(worker), __ATOMIC_RELAXED);
	}
}

// An operator's flush, in steps of some 16 KB, so that packets wait no longer than for a burst or two.
static void flush_flows(struct lb_worker *worker)
{
	struct lb_dp *dp = worker->dp;
	uint32_t wanted = atomic_load_explicit(&dp->flushes, memory_order_acquire);

	if (likely(wanted == atomic_load_explicit(&worker->flushes, memory_order_relaxed)))
		return;
	lb_flowtable_purge_range(&worker->flowtable, dp->flush, worker->flushed, FLUSH_BUCKETS);
	if (atomic_load_explicit(&dp->fullnat, memory_order_acquire) != NULL)
		lb_sessions_purge_range(&worker->sessions, dp->flush, worker->flushed, FLUSH_BUCKETS);
	worker->flushed += FLUSH_BUCKETS;
	if (worker->flushed >= RTE_MAX(worker->flowtable.n_buckets, worker->sessions.n_entries)) {
		worker->flushed = 0;
		atomic_store_explicit(&worker->flushes, wanted, memory_order_release);
	}
}

static void keep_time(struct lb_worker *worker)
{
	uint32_t tick = atomic_load_explicit(&worker->dp->tick, memory_order_relaxed);

	worker->now_s = atomic_load_explicit(&worker->dp->now_s, memory_order_relaxed);
	if (likely(tick == worker->tick))
		return;
	worker->tick = tick;
	worker->frags_due = true;
	watch_losses(worker);
	worker->used_before = worker->counters->flow.used;
	worker->sweep_left = worker->flowtable.n_buckets / SWEEP_TICKS + 1;
	if (atomic_load_explicit(&worker->dp->fullnat, memory_order_acquire) != NULL)
		worker->session_sweep_left = worker->sessions.n_entries / SWEEP_TICKS + 1;
}

void lb_worker_keep_house(struct lb_worker *worker, unsigned n_rx)
{
	keep_time(worker);
	lb_reset_take(worker);
	sweep(worker, n_rx);
	flush_flows(worker);
	if (unlikely(worker->frags_due))
		lb_frag_sweep(worker);
	watch_pressure(worker);
}

void lb_worker_event(struct lb_worker *worker, struct lb_msg *event)
{
	event->seq = worker->event_seq++;
	event->worker = worker->idx;
	if (worker->events.shm == NULL || !lb_ring_push(&worker->events, event))
		worker->counters->events_lost++;
}

// What the fast stage has left.
static void process_rest(struct lb_worker *worker, struct lb_burst *burst)
{
	lb_stage_classify(worker, burst);
	if (unlikely(atomic_load_explicit(&worker->dp->fullnat, memory_order_relaxed) != NULL))
		lb_stage_fullnat(worker, burst);
	if (unlikely(burst->n_odd != 0))
		lb_frag_begin(worker, burst);
	lb_stage_flow(worker, burst);
	if (burst->misses != 0)
		lb_stage_miss_settle(worker);
	lb_stage_rewrite(worker, burst);
	if (unlikely(burst->n_odd != 0))
		lb_stage_odd(worker, burst);
	if (burst->settled != lb_burst_all(burst) && unlikely(lb_mss_any_syn(burst)))
		lb_stage_mss(worker, burst);
	if (unlikely(burst->n_answer != 0))
		lb_stage_answer(worker, burst);
}

void lb_worker_process(struct lb_worker *worker)
{
	struct lb_burst *burst = &worker->burst;

	lb_stage_parse(worker, burst);
	lb_stage_fetch(worker, burst);
	if (likely(burst->mostly_hits))
		lb_stage_fast(worker);
	else if (burst->mostly_services)
		lb_stage_miss_find(worker, UINT32_MAX);
	if (unlikely(burst->settled != lb_burst_all(burst)))
		process_rest(worker, burst);
	if (unlikely(lb_vlan_is_used(worker->dp)))
		lb_stage_vlan(worker, burst);
}

static void pass_burst(struct lb_worker *worker)
{
	struct lb_burst *burst = &worker->burst;

	lb_worker_process(worker);
	lb_stage_tx(worker, burst);
	while (lb_frag_release_more(worker, burst)) {
		lb_worker_process(worker);
		lb_stage_tx(worker, burst);
	}
}

static unsigned poll_port(struct lb_worker *worker, uint16_t port)
{
	struct lb_burst *burst = &worker->burst;
	uint64_t n_bytes = 0;
	unsigned n_rx;

	n_rx = burst->n = rte_eth_rx_burst(port, worker->idx, burst->mbufs, LB_BURST);
	if (n_rx == 0)
		return 0;
	burst->port = port;
	for (unsigned i = 0; i < burst->n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(burst->mbufs[i], void *));
	for (unsigned i = 0; i < burst->n; i++)
		n_bytes += burst->mbufs[i]->pkt_len;
	worker->counters->rx_pkts += burst->n;
	worker->counters->rx_bytes += n_bytes;
	pass_burst(worker);
	return n_rx;
}

// Packets that other workers have passed on: counted as received by those.
static unsigned poll_handover(struct lb_worker *worker)
{
	unsigned n = lb_handover_take(worker, &worker->burst);

	if (n != 0)
		pass_burst(worker);
	return n;
}

int lb_worker_run(void *arg)
{
	struct lb_worker *worker = arg;
	struct lb_dp *dp = worker->dp;

	rte_rcu_qsbr_thread_register(dp->qsbr, worker->lcore);
	rte_rcu_qsbr_thread_online(dp->qsbr, worker->lcore);
	while (!atomic_load_explicit(&dp->stop, memory_order_relaxed)) {
		unsigned n_rx = 0;

		for (uint16_t port = 0; port < worker->n_ports; port++)
			n_rx += poll_port(worker, port);
		n_rx += poll_handover(worker);
		// Before the first sync no service is there, and the flow table is still the main lcore's.
		if (likely(atomic_load_explicit(&dp->live, memory_order_acquire)))
			lb_worker_keep_house(worker, n_rx);
		rte_rcu_qsbr_quiescent(dp->qsbr, worker->lcore);
		worker->counters->polls++;
		if (n_rx != 0)
			continue;
		worker->counters->polls_idle++;
		if (worker->idle_sleep_us != 0) {
			rte_rcu_qsbr_thread_offline(dp->qsbr, worker->lcore);
			rte_delay_us_sleep(worker->idle_sleep_us);
			rte_rcu_qsbr_thread_online(dp->qsbr, worker->lcore);
		}
	}
	rte_rcu_qsbr_thread_offline(dp->qsbr, worker->lcore);
	rte_rcu_qsbr_thread_unregister(dp->qsbr, worker->lcore);
	return 0;
}
