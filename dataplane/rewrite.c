/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stage 4, rewrite, nat mode: towards a backend the destination becomes the backend, towards a client
 * the source becomes the VIP. TTL or hop limit goes down by one, checksums are changed incrementally
 * (RFC 1624), so that a wrong one stays wrong and no NIC offload is needed.
 */
#include "dataplane/rewrite.h"

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "dataplane/checksum.h"
#include "dataplane/encap.h"
#include "dataplane/reset.h"
#include "dataplane/stages.h"
#include "dataplane/worker.h"
#include "lb/decide.h"

void lb_rewrite_prepare(struct lb_backend *backend)
{
	// TTL is the high byte of its 16-bit word: one less is ~m + m' = ~0x0100 in network order.
	uint16_t ttl = (uint16_t)~rte_cpu_to_be_16(0x0100);
	uint16_t to_backend = lb_sum_address_change(&backend->vip, &backend->addr);
	uint16_t to_client = lb_sum_address_change(&backend->addr, &backend->vip);

	// With port 0 (all ports) on both sides the port's part is nothing.
	backend->to_backend_ip = lb_ip_difference(lb_sum_add(to_backend, ttl));
	backend->to_client_ip_sum = lb_sum_add(to_client, ttl);
	backend->to_backend_l4_sum = lb_sum_add(
		to_backend, lb_sum_add((uint16_t)~backend->vip_port_be, backend->port_be));
	backend->to_client_l4_sum =
		lb_sum_add(to_client, lb_sum_add((uint16_t)~backend->port_be, backend->vip_port_be));
}

static inline void rewrite_one(struct lb_burst *burst, unsigned i, const struct lb_change *change)
{
	struct lb_packet *packet = &burst->packets[i];
	uint8_t *frame = lb_packet_at(burst, i, 0);

	lb_change_l3(frame + packet->l3, packet->family, change);
	if (likely(packet->l4 != 0))
		lb_change_l4(frame + packet->l4, lb_burst_proto(burst, i), change);
}

// Both MACs in front of the packet, from the next-hop word. The VLAN tag, if any, stays.
static inline bool rewrite_macs(const struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	uint64_t nexthop)
{
	uint16_t port = lb_nexthop_port(nexthop);
	uint8_t *frame = lb_packet_at(burst, i, 0);
	uint64_t head;
	uint32_t tail;

	burst->nexthops[i] = nexthop;
	if (unlikely(port >= worker->n_ports)) {
		burst->packets[i].verdict = LB_VERDICT_NEXTHOP_UNRESOLVED;
		return false;
	}
	// Twelve bytes in two stores.
	head = (nexthop & LB_MAC_MASK) | worker->src_macs[port] << 48;
	tail = (uint32_t)(worker->src_macs[port] >> 16);
	memcpy(frame, &head, sizeof(head));
	memcpy(frame + sizeof(head), &tail, sizeof(tail));
	return true;
}

// What is not plain, has no next hop, or may be too big for its port. @return whether it goes out.
static __rte_noinline bool rewrite_any(const struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	uint64_t nexthop, const struct lb_backend *backend, bool to_client)
{
	struct lb_change change = to_client ? lb_change_to_client(backend) : lb_change_to_backend(backend);
	uint16_t port = lb_nexthop_port(nexthop);

	if (likely(port < worker->n_ports) && unlikely(lb_packet_ip_bytes(burst, i) > worker->mtus[port])) {
		burst->mtus[i] = worker->mtus[port];
		burst->packets[i].verdict = LB_VERDICT_TOO_BIG;
		lb_burst_answer(burst, i);
		return false;
	}
	if (!rewrite_macs(worker, burst, i, nexthop))
		return false;
	rewrite_one(burst, i, &change);
	return true;
}

// Packet @p i on its way from or to @p backend. @return whether it goes out.
static inline __attribute__((always_inline)) bool rewrite_packet(const struct lb_worker *worker,
	struct lb_burst *burst, unsigned i, uint64_t nexthop, const struct lb_backend *backend, bool to_client)
{
	uint8_t verdict = to_client ? LB_VERDICT_REPLY : LB_VERDICT_FORWARD;
	struct lb_change change = to_client ? lb_change_to_client(backend) : lb_change_to_backend(backend);
	uint64_t head = lb_packet_head(&burst->packets[i]);
	uint16_t port = lb_nexthop_port(nexthop);
	// Parse drops TCP packets without any flag: a plain packet without flags is UDP.
	uint8_t proto = burst->packets[i].tcp_flags != 0 ? IPPROTO_TCP : IPPROTO_UDP;

	if (unlikely(port >= worker->n_ports) ||
		unlikely(burst->packets[i].wire_bytes > worker->mtus[port] + (uint32_t)RTE_ETHER_HDR_LEN))
		return rewrite_any(worker, burst, i, nexthop, backend, to_client);
	if (head == lb_plain_head(verdict, 4))
		lb_rewrite_plain(lb_packet_at(burst, i, 0), nexthop, lb_worker_source(worker, port, 4), 4, proto,
			&change);
	else if (head == lb_plain_head(verdict, 6))
		lb_rewrite_plain(lb_packet_at(burst, i, 0), nexthop, lb_worker_source(worker, port, 6), 6, proto,
			&change);
	else
		return rewrite_any(worker, burst, i, nexthop, backend, to_client);
	burst->nexthops[i] = nexthop;
	return true;
}

static void rewrite_to_service(struct lb_worker *worker, struct lb_burst *burst)
{
	const struct lb_dp *dp = worker->dp;
	const struct lb_encap *encaps = atomic_load_explicit(&dp->encaps, memory_order_acquire);
	unsigned n = burst->n_to_service, n_direct = 0;
	uint8_t direct[LB_BURST];
	uint64_t hashes[LB_BURST];

	for (unsigned k = 0; k < n; k++) {
		unsigned i = burst->to_service[k];
		struct lb_packet *packet = &burst->packets[i];
		const struct lb_backend *backend = &dp->backends[packet->backend];
		struct lb_backend_counters *counters;

		if (unlikely(packet->verdict != LB_VERDICT_FORWARD))
			continue; // the flow stage found no backend
		if (backend->mode != LB_MODE_NAT) {
			lb_encap_prefetch(encaps, burst, i, packet->backend, backend->mode);
			hashes[i] = burst->hashes[k];
			direct[n_direct++] = (uint8_t)i;
			continue;
		}
		if (unlikely(!rewrite_packet(worker, burst, i,
			    atomic_load_explicit(&backend->nexthop, memory_order_relaxed), backend, false)))
			continue;
		counters = &worker->counters->backends[packet->backend];
		counters->in_pkts++;
		counters->in_bytes += packet->wire_bytes;
	}
	if (n_direct != 0)
		lb_encap_list(worker, burst, direct, hashes, n_direct);
}

// The next hop of each reply, in the list's order: one for all, or rte_fib's.
static void look_up_routes(const struct lb_fib *fib, const struct lb_burst *burst, unsigned family,
	const uint8_t *list, unsigned n, uint64_t *nexthops)
{
	uint32_t single =
		atomic_load_explicit(&fib->single[family == 6], memory_order_relaxed);
	uint32_t ipv4[LB_BURST];
	uint8_t ipv6[LB_BURST][RTE_FIB6_IPV6_ADDR_SIZE];

	if (single != 0) {
		for (unsigned k = 0; k < n; k++)
			nexthops[k] = single;
		return;
	}
	for (unsigned k = 0; k < n; k++) {
		struct lb_flow_key key = lb_burst_key(burst, list[k]);

		if (family == 4)
			ipv4[k] = rte_be_to_cpu_32(lb_addr_ipv4_be(&key.dst));
		else
			memcpy(ipv6[k], &key.dst, sizeof(ipv6[k]));
	}
	if (family == 4)
		rte_fib_lookup_bulk(fib->ipv4, ipv4, nexthops, (int)n);
	else
		rte_fib6_lookup_bulk(fib->ipv6, ipv6, nexthops, (int)n);
}

static void rewrite_to_client(struct lb_worker *worker, struct lb_burst *burst, unsigned family,
	const uint8_t *list, unsigned n)
{
	const struct lb_dp *dp = worker->dp;
	uint64_t nexthops[LB_BURST];

	if (n == 0)
		return;
	look_up_routes(&dp->fib, burst, family, list, n, nexthops);
	for (unsigned k = 0; k < n; k++) {
		unsigned i = list[k];
		struct lb_packet *packet = &burst->packets[i];
		const struct lb_backend *backend = &dp->backends[packet->backend];
		struct lb_backend_counters *counters;

		if (unlikely(nexthops[k] == LB_NEXTHOP_NONE)) {
			packet->verdict = LB_VERDICT_NO_ROUTE;
			continue;
		}
		if (unlikely(nexthops[k] == LB_NEXTHOP_HOST)) {
			packet->verdict = LB_VERDICT_HOST; // to us, not to a client: a health check's
			continue;
		}
		if (unlikely(!rewrite_packet(
			    worker, burst, i, lb_fib_nexthop_word(&dp->fib, nexthops[k]), backend, true)))
			continue;
		counters = &worker->counters->backends[packet->backend];
		counters->out_pkts++;
		counters->out_bytes += packet->wire_bytes;
	}
}

void lb_stage_rewrite(struct lb_worker *worker, struct lb_burst *burst)
{
	uint8_t lists[2][LB_BURST];
	unsigned n[2] = {0, 0};
	uint8_t flags = 0; // of all replies

	rewrite_to_service(worker, burst);
	for (unsigned k = 0; k < burst->n_to_client; k++) {
		uint8_t i = burst->to_client[k];
		unsigned which = burst->packets[i].family == 6;

		lists[which][n[which]++] = i;
		flags |= burst->packets[i].tcp_flags;
	}
	rewrite_to_client(worker, burst, 4, lists[0], n[0]);
	rewrite_to_client(worker, burst, 6, lists[1], n[1]);
	if (unlikely(flags & LB_TCP_RST))
		lb_reset_seen(worker, burst);
}
