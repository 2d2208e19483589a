/* SPDX-License-Identifier: BSD-3-Clause */
/* Stage 5, tx: count every packet under its verdict, send what is forwarded, free the rest. */
#include "dataplane/stages.h"

#include <rte_ethdev.h>

#include "dataplane/worker.h"

// A full queue drains while we try again; 4 bursts' time is what a NIC takes for the packets ahead of us.
#define TX_TRIES 4u

static void flush(struct lb_worker *worker, uint16_t port)
{
	struct lb_tx_buffer *tx = &worker->tx[port];
	uint16_t n_sent = 0;

	for (unsigned try = 0; try < TX_TRIES && n_sent < tx->n; try++)
		n_sent += rte_eth_tx_burst(port, worker->idx, tx->mbufs + n_sent,
			(uint16_t)(tx->n - n_sent));
	worker->counters->tx_pkts += n_sent;
	if (unlikely(n_sent < tx->n)) {
		worker->counters->verdicts[LB_VERDICT_TX_FULL] += tx->n - n_sent;
		rte_pktmbuf_free_bulk(tx->mbufs + n_sent, tx->n - n_sent);
	}
	tx->n = 0;
}

void lb_count_verdicts(struct lb_worker *worker, const struct lb_burst *burst)
{
	uint64_t *verdicts = worker->counters->verdicts;
	unsigned n_forward = 0, n_reply = 0, n_host = 0;

	if (likely(burst->settled == lb_burst_all(burst))) {
		verdicts[LB_VERDICT_FORWARD] += burst->n;
		return;
	}
	// Counted in registers: in memory, each packet would wait for the one before.
	for (unsigned i = 0; i < burst->n; i++) {
		n_forward += burst->packets[i].verdict == LB_VERDICT_FORWARD;
		n_reply += burst->packets[i].verdict == LB_VERDICT_REPLY;
		n_host += burst->packets[i].verdict == LB_VERDICT_HOST;
	}
	verdicts[LB_VERDICT_FORWARD] += n_forward;
	verdicts[LB_VERDICT_REPLY] += n_reply;
	verdicts[LB_VERDICT_HOST] += n_host;
	if (likely(n_forward + n_reply + n_host == burst->n))
		return;
	for (unsigned i = 0; i < burst->n; i++)
		if (burst->packets[i].verdict > LB_VERDICT_HOST && (burst->held >> i & 1) == 0)
			verdicts[burst->packets[i].verdict]++;
}

void lb_stage_tx(struct lb_worker *worker, struct lb_burst *burst)
{
	uint64_t used_ports = 0, n_bytes = 0;
	uint16_t port = 0, n = 0; // where packets go now, and how many it has

	bool all_go = burst->settled == lb_burst_all(burst);

	lb_count_verdicts(worker, burst);
	for (unsigned i = 0; i < burst->n; i++) {
		uint8_t verdict = burst->packets[i].verdict;

		if (!all_go && unlikely(verdict != LB_VERDICT_FORWARD && verdict != LB_VERDICT_REPLY &&
			    (burst->answered >> i & 1) == 0)) {
			if ((burst->held >> i & 1) || verdict == LB_VERDICT_TAKEN)
				continue; // its time will come, and it be counted
			rte_pktmbuf_free(burst->mbufs[i]);
			continue;
		}
		if (unlikely(lb_nexthop_port(burst->nexthops[i]) != port)) {
			worker->tx[port].n = n;
			port = lb_nexthop_port(burst->nexthops[i]);
			n = worker->tx[port].n;
		}
		n_bytes += burst->packets[i].wire_bytes;
		worker->tx[port].mbufs[n++] = burst->mbufs[i];
		used_ports |= UINT64_C(1) << port;
	}
	worker->tx[port].n = n;
	worker->counters->tx_bytes += n_bytes;
	for (; used_ports != 0; used_ports &= used_ports - 1)
		flush(worker, (uint16_t)__builtin_ctzll(used_ports));
}
