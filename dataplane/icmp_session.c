/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ICMP errors that quote a packet of a fullnat session. Both of their own addresses change as those of the session's
 * packets do, so that they need no other routes: towards the backend they come from the local address, towards the
 * client from the VIP. What they quote becomes what its sender knows of, with its ports, sequence numbers and checksums;
 * the MTU is the sender's: less what we have added to its packet (TOA, PROXY, the longer header of the other family).
 */
#include <netinet/in.h>

#include <rte_byteorder.h>
#include <rte_ip.h>

#include "dataplane/checksum.h"
#include "dataplane/clientaddr.h"
#include "dataplane/icmp.h"
#include "dataplane/icmp_follow.h"

#define TCP_SEQ_AT 4u
#define TCP_ACK_AT 8u

// RFC 1191, section 7.1.
static const uint16_t plateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296};

uint32_t lb_icmp_mtu(unsigned family, const struct lb_quote *quote)
{
	uint32_t mtu, n_bytes;

	if (family == 6) {
		memcpy(&mtu, quote->icmp + 4, sizeof(mtu));
		return rte_be_to_cpu_32(mtu);
	}
	mtu = quote->icmp[6] * 256u + quote->icmp[7];
	n_bytes = quote->l3[2] * 256u + quote->l3[3];
	for (unsigned i = 0; mtu == 0 && i < RTE_DIM(plateaus); i++)
		if (plateaus[i] < n_bytes)
			mtu = plateaus[i];
	return mtu;
}

uint32_t lb_icmp_clamp_mtu(unsigned family, int64_t mtu)
{
	int64_t least = family == 6 ? 1280 : 68; // RFC 8200, section 5; RFC 791, 3.2

	return (uint32_t)RTE_MIN(RTE_MAX(mtu, least), (int64_t)UINT16_MAX);
}

static void add_to(struct lb_quote *quote, unsigned at, int32_t n)
{
	uint32_t number;

	if (n == 0 || quote->n_l4 < at + 4)
		return;
	memcpy(&number, quote->l4 + at, 4);
	number = rte_cpu_to_be_32(rte_be_to_cpu_32(number) + (uint32_t)n);
	lb_quote_write_l4(quote, at, &number, 2, 0);
}

// The MTU of an error that keeps its family.
static void change_mtu(unsigned family, struct lb_quote *quote, unsigned added)
{
	uint32_t mtu;
	uint16_t mtu4_be;

	if (added == 0 || !lb_icmp_is_too_big(family, quote->icmp))
		return;
	mtu = lb_icmp_clamp_mtu(family, (int64_t)lb_icmp_mtu(family, quote) - added);
	mtu4_be = rte_cpu_to_be_16((uint16_t)mtu);
	mtu = rte_cpu_to_be_32(mtu);
	if (family == 6)
		lb_quote_write(quote, quote->icmp + 4, &mtu, 2);
	else
		lb_quote_write(quote, quote->icmp + 6, &mtu4_be, 1);
}

static uint8_t change_within_family(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote,
	const struct lb_icmp_change *change)
{
	struct lb_packet *packet = &burst->packets[i];
	uint16_t sum = lb_sum_add(lb_sum_address_change(&burst->keys[i].src, change->src),
		lb_sum_address_change(&burst->keys[i].dst, change->dst));

	change_mtu(packet->family, quote, change->added);
	lb_quote_rewrite(quote, true, change->quoted_src, change->quoted_sport_be);
	lb_quote_rewrite(quote, false, change->quoted_dst, change->quoted_dport_be);
	if (packet->family == 6) // it has a pseudo header
		lb_quote_change(quote->icmp + 2, sum);
	packet->l4 = 0;
	return lb_translate(worker, burst, i,
		&(struct lb_translation){.src = change->src, .dst = change->dst, .ip_sum = sum});
}

// All of it but the way out.
static uint8_t change_error(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote,
	const struct lb_icmp_change *change)
{
	if (!lb_icmp_ttl_is_left(burst, i))
		return LB_VERDICT_TTL_EXPIRED;
	if (quote->key.proto == IPPROTO_TCP) {
		add_to(quote, TCP_SEQ_AT, change->seq);
		add_to(quote, TCP_ACK_AT, change->ack);
	}
	if (lb_addr_is_ipv4(change->dst) == (burst->packets[i].family == 4))
		return change_within_family(worker, burst, i, quote, change);
	return lb_icmp_change_family(worker, burst, i, quote, change);
}

uint8_t lb_icmp_session_to_backend(
	struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote, uint16_t service)
{
	const struct lb_dp *dp = worker->dp;
	struct lb_packet *packet = &burst->packets[i];
	struct lb_flow_key flow = {.src = quote->key.dst, .dst = quote->key.src, .sport_be = quote->key.dport_be,
		.dport_be = quote->key.sport_be, .proto = quote->key.proto};
	uint32_t wire_bytes = packet->wire_bytes;
	const struct lb_session *session;
	const struct lb_backend *backend;
	struct lb_icmp_change change;
	uint8_t verdict;
	uint64_t hash;

	if (atomic_load_explicit(&dp->fullnat, memory_order_acquire) == NULL)
		return LB_VERDICT_NO_SESSION;
	lb_hash_flows(&dp->hash_key, &flow, &hash, 1);
	session = lb_fullnat_find(worker, &flow, hash, LB_SESSION_CLIENT);
	if (session == NULL) {
		// RSS knows nothing of what is quoted.
		unsigned owner = lb_fullnat_owner(worker, &flow, hash);

		return owner < dp->n_workers ? lb_handover_give(worker, burst, i, owner) : LB_VERDICT_NO_SESSION;
	}
	backend = &dp->backends[session->backend];
	change = (struct lb_icmp_change){.src = &session->local,
		.dst = &backend->addr,
		.quoted_src = &backend->addr,
		.quoted_dst = &session->local,
		.quoted_sport_be = backend->port_be,
		.quoted_dport_be = session->local_port_be,
		.ack = lb_client_address_ack_shift(session)};
	verdict = change_error(worker, burst, i, quote, &change);
	if (verdict != LB_VERDICT_FORWARD)
		return verdict;
	packet->service = service;
	packet->backend = session->backend;
	worker->counters->backends[session->backend].in_pkts++;
	worker->counters->backends[session->backend].in_bytes += wire_bytes;
	return lb_fullnat_send(worker, burst, i, atomic_load_explicit(&backend->nexthop, memory_order_relaxed),
		LB_VERDICT_FORWARD);
}

/*
 * IPv6 knows no MTU below 1280: a client who sends that much already cannot make room for our option. By now the
 * backend has had it in the SYN.
 */
static void spare_toa(struct lb_session *session, unsigned family, const struct lb_quote *quote, unsigned added)
{
	if ((session->flags & LB_SESSION_TOA) && !lb_addr_is_ipv4(&session->client) && added != 0 &&
		lb_icmp_is_too_big(family, quote->icmp))
		session->flags |= LB_SESSION_TOLD;
}

uint8_t lb_icmp_session_to_client(
	struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote)
{
	const struct lb_dp *dp = worker->dp;
	const struct lb_fullnat *fullnat = atomic_load_explicit(&dp->fullnat, memory_order_acquire);
	struct lb_packet *packet = &burst->packets[i];
	struct lb_flow_key flow = {.src = quote->key.dst, .dst = quote->key.src, .sport_be = quote->key.dport_be,
		.dport_be = quote->key.sport_be, .proto = quote->key.proto};
	uint32_t wire_bytes = packet->wire_bytes, seq_be;
	const struct lb_backend *backend;
	struct lb_session *session;
	struct lb_icmp_change change;
	unsigned owner;
	uint64_t hash, route;
	uint8_t verdict;

	if (fullnat == NULL)
		return LB_VERDICT_NO_SESSION;
	owner = lb_ports_owner(rte_be_to_cpu_16(flow.dport_be), fullnat->n_shares);
	if (owner != worker->idx && owner < dp->n_workers)
		return lb_handover_give(worker, burst, i, owner);
	lb_hash_flows(&dp->hash_key, &flow, &hash, 1);
	session = lb_fullnat_find(worker, &flow, hash, LB_SESSION_REPLY);
	if (session == NULL)
		return LB_VERDICT_NO_SESSION;
	backend = &dp->backends[session->backend];
	route = lb_fib_lookup(&dp->fib, lb_addr_is_ipv4(&session->client) ? 4 : 6, &session->client);
	if (route == LB_NEXTHOP_NONE || route == LB_NEXTHOP_HOST)
		return LB_VERDICT_NO_ROUTE;
	memcpy(&seq_be, quote->l4 + TCP_SEQ_AT, 4);
	change = (struct lb_icmp_change){.src = &backend->vip,
		.dst = &session->client,
		.quoted_src = &session->client,
		.quoted_dst = &backend->vip,
		.quoted_sport_be = session->client_port_be,
		.quoted_dport_be = session->vip_port_be};
	change.added = lb_client_address_added(dp, session, rte_be_to_cpu_32(seq_be), &change.seq);
	spare_toa(session, packet->family, quote, change.added);
	verdict = change_error(worker, burst, i, quote, &change);
	if (verdict != LB_VERDICT_FORWARD)
		return verdict;
	packet->service = session->service;
	packet->backend = session->backend;
	worker->counters->backends[session->backend].out_pkts++;
	worker->counters->backends[session->backend].out_bytes += wire_bytes;
	return lb_fullnat_send(worker, burst, i, lb_fib_nexthop_word(&dp->fib, route), LB_VERDICT_REPLY);
}
