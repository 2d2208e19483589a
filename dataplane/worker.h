/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_WORKER_H
#define LB_DATAPLANE_WORKER_H

#include "dataplane/answer.h"
#include "dataplane/burst.h"
#include "dataplane/dp.h"
#include "lb/session.h"

#define LB_MAC_MASK UINT64_C(0x0000ffffffffffff) /* the first six bytes of a little-endian word */
static_assert(LB_SHM_MAX_PORTS <= 32, "a bit each in fetch_ports");
#define LB_MAC_ANY UINT64_MAX /* instead of a port's MAC: take every destination (promiscuous) */

/* Packets on their way out of one port. */
struct lb_tx_buffer {
	uint16_t n;
	struct rte_mbuf *mbufs[LB_BURST];
};

/*
 * One worker core. Private to its lcore, but for `sweeps` and `flushes` (worker: wo, main lcore: ro) and what is filled in
 * before the launch.
 */
struct lb_worker {
	struct lb_dp *dp;
	struct lb_worker_counters *counters; /* in shared memory; only this worker writes */
	struct lb_flowtable flowtable;
	struct lb_sessions sessions; /* of mode fullnat; not to be touched while dp->fullnat is NULL */
	uint32_t tick;  /* dp's clock as of this poll */
	uint32_t now_s;
	uint16_t idx;     /* 0..n_workers-1; its RX and TX queue on every port */
	uint16_t n_ports;
	bool pressure;    /* the flow table is full, or soon: record only flows on slots in transition */
	uint32_t filling_tick; /* when it last was */
	uint64_t used_before;  /* flow-table entries at the last tick */
	uint32_t overload_s; /* when entries that mattered were last lost in numbers; 0: never */
	uint64_t lost_before, inserted_before; /* counters at the last tick */
	uint32_t fetch_ports; /* bit per port: most packets of its last burst were for a service */
	uint32_t fast_ports;  /* bit per port: most were of flows with an entry */
	uint32_t stranger_ports; /* bit per port: most were the host's; of no meaning with fetch_ports */
	uint32_t event_seq;
	uint32_t idle_sleep_us;
	unsigned lcore;
	uint32_t sweep_left; /* buckets to sweep in this tick */
	_Atomic uint32_t sweeps; /* times the sweep has gone round */
	uint32_t swept;          /* buckets since then */
	_Atomic uint32_t flushes; /* dp->flushes as far as done here */
	uint32_t flushed;         /* buckets of the flush under way */
	void *flow_mem; /* main lcore: mapped by flowmem.c */
	uint64_t flow_mem_bytes;
	void *session_mem; /* likewise, by pools.c */
	uint64_t session_mem_bytes;
	uint32_t session_sweep_left; /* entries to sweep in this tick */
	uint32_t sessions_swept;     /* since `sweeps` went up */
	uint32_t n_fragment_sessions; /* fullnat: of its own with LB_SESSION_FRAGMENT; others: ro */
	uint32_t local_turn;    /* fullnat: where the search for a free port begins, going round */
	uint32_t handover_turn; /* whose ring is next */
	uint32_t reset_turn;    /* likewise, of reset.c's */
	uint32_t n_waiting;     /* packets taken over, of another port than those before them */
	struct rte_mbuf *waiting[LB_BURST];
	uint16_t ipv4_id; /* of packets translated from IPv6 */
	struct lb_ring events;
	struct lb_answer_tokens answer_tokens;
	struct lb_frags *frags;
	bool frags_due; /* datagrams are to be looked at in this tick */
	uint64_t port_macs[LB_SHM_MAX_PORTS]; /* accepted destination: LB_MAC_MASK bits, or LB_MAC_ANY */
	uint64_t src_macs[LB_SHM_MAX_PORTS];  /* first six bytes: what we send as; see lb_worker_set_mac() */
	uint64_t src_macs4[LB_SHM_MAX_PORTS]; /* the same with IPv4's EtherType behind it */
	uint16_t mtus[LB_SHM_MAX_PORTS];      /* largest IP packet to send */
	uint32_t frame_limits[LB_NEXTHOP_PORTS]; /* by port of a next-hop word: with an Ethernet header; 0: no such port */
	struct lb_tx_buffer tx[LB_SHM_MAX_PORTS];
	struct lb_burst burst;
} __attribute__((aligned(64)));

/** Set what port @p port sends as. Before the launch. */
static inline void lb_worker_set_mac(struct lb_worker *worker, unsigned port, const uint8_t mac[6])
{
	worker->src_macs[port] = 0;
	memcpy(&worker->src_macs[port], mac, 6);
	worker->src_macs4[port] = worker->src_macs[port] | (uint64_t)RTE_BE16(RTE_ETHER_TYPE_IPV4) << 48;
}

/** Bytes 6 to 13 of an untagged frame of @p family that leaves through @p port: source MAC, EtherType. Worker. */
static inline uint64_t lb_worker_source(const struct lb_worker *worker, unsigned port, unsigned family)
{
	if (family == 4)
		return worker->src_macs4[port];
	return worker->src_macs[port] | (uint64_t)RTE_BE16(RTE_ETHER_TYPE_IPV6) << 48;
}

/** Set port @p port's MTU. Before the launch. */
static inline void lb_worker_set_mtu(struct lb_worker *worker, unsigned port, uint16_t mtu)
{
	worker->mtus[port] = mtu;
	worker->frame_limits[port] = mtu + (uint32_t)RTE_ETHER_HDR_LEN;
}

/** Poll until dp->stop; the function given to rte_eal_remote_launch(). @return 0. */
int lb_worker_run(void *worker);

/** One burst through all stages, without the NIC on either end: for worker.c and the benchmark. */
void lb_worker_process(struct lb_worker *worker);

/** What a poll does beside packets (@p n_rx of them): clock, sweep, flush, watching the table's use. Worker. */
void lb_worker_keep_house(struct lb_worker *worker, unsigned n_rx);

/** Push an event to control; dropped and counted if its ring is full. Worker. */
void lb_worker_event(struct lb_worker *worker, struct lb_msg *event);

/** Times this worker's sweep has gone round its whole table. Any thread. */
static inline uint32_t lb_worker_sweeps(const struct lb_worker *worker)
{
	return atomic_load_explicit(&worker->sweeps, memory_order_acquire);
}

#endif
