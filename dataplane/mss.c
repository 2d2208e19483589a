/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MSS clamp, in the modes where both directions pass (nat, fullnat): the MSS option of a client's SYN limits what the
 * backend sends, that of the backend's SYN/ACK what the client sends. Both cross both ports, so both get the same
 * limit: the service's, or what the MTU of either port has room for, whichever is least. It is never raised; a SYN
 * without the option is left alone (its sender expects no more than 536 or 1220 bytes, RFC 9293, section 3.7.1), as
 * are options behind a malformed one, and one whose header is not whole in the first segment of its buffer. What TOA
 * options and PROXY headers take is taken off afterwards, by clientaddr.c.
 *
 * In dsr and the tunnel modes only the client's SYN passes. It limits the backend's segments, which go to the client
 * directly; those that go through the tunnel are the client's, limited by the SYN/ACK that we do not see. So nothing
 * is changed there: what does not fit is answered with its MTU.
 */
#include "dataplane/mss.h"

#include <netinet/in.h>

#include <rte_ip.h>

#include "dataplane/tcpopt.h"

// Bytes of TCP in an IP packet of @p mtu, without options: what an MSS means (RFC 6691).
static unsigned room(uint16_t mtu, const struct lb_addr *addr)
{
	unsigned n_headers = (unsigned)sizeof(struct rte_tcp_hdr) + (lb_addr_is_ipv4(addr)
		? (unsigned)sizeof(struct rte_ipv4_hdr) : (unsigned)sizeof(struct rte_ipv6_hdr));

	return mtu >= n_headers + LB_MSS_MIN ? mtu - n_headers : LB_MSS_MIN;
}

static void lower(struct rte_tcp_hdr *tcp, unsigned limit)
{
	uint8_t *at = (uint8_t *)(tcp + 1), *end = (uint8_t *)tcp + lb_tcp_header_bytes(tcp);
	struct lb_tcpopt option;

	while (lb_tcpopt_next(&at, end, &option)) {
		uint16_t before;

		if (option.kind != LB_TCPOPT_MSS || option.n_bytes != 4 || option.at[2] * 256u + option.at[3] <= limit)
			continue;
		before = lb_tcpopt_sum(tcp);
		option.at[2] = (uint8_t)(limit >> 8);
		option.at[3] = (uint8_t)limit;
		lb_tcpopt_changed(tcp, before);
	}
}

void lb_mss_clamp(const struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	const struct lb_backend *backend, uint16_t client_port, uint16_t backend_port)
{
	unsigned limit = worker->dp->services[backend->service].mss;

	if (limit == LB_MSS_NONE || lb_burst_proto(burst, i) != IPPROTO_TCP || burst->packets[i].l4 == 0 ||
		!lb_tcp_header_is_readable(burst, i))
		return;
	limit = RTE_MIN(limit, room(worker->mtus[client_port], &backend->vip));
	limit = RTE_MIN(limit, room(worker->mtus[backend_port], &backend->addr));
	lower((void *)lb_packet_at(burst, i, burst->packets[i].l4), limit);
}

void lb_stage_mss(const struct lb_worker *worker, struct lb_burst *burst)
{
	for (unsigned i = 0; i < burst->n; i++) {
		const struct lb_packet *packet = &burst->packets[i];
		const struct lb_backend *backend;
		uint16_t out;

		if (burst->settled >> i & 1)
			continue; // no SYN, or its MSS has been looked at
		if ((packet->tcp_flags & LB_MSS_TCP_SYN) == 0 ||
			(packet->verdict != LB_VERDICT_FORWARD && packet->verdict != LB_VERDICT_REPLY))
			continue;
		backend = &worker->dp->backends[packet->backend];
		if (backend->mode != LB_MODE_NAT || worker->dp->services[backend->service].mss == LB_MSS_NONE)
			continue; // fullnat's have been clamped
		out = lb_nexthop_port(burst->nexthops[i]);
		if (packet->verdict == LB_VERDICT_FORWARD)
			lb_mss_clamp(worker, burst, i, backend, burst->port, out);
		else
			lb_mss_clamp(worker, burst, i, backend, out, burst->port);
	}
}
