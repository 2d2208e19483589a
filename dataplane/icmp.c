/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ICMP and ICMPv6. An error follows the flow that it quotes: to a VIP, it quotes what a backend sent, so it goes to
 * that backend, as a packet of the client in mid-stream would, but nothing is recorded; from the backends' side, it
 * quotes what we sent to a backend, so it goes to the client. In nat mode the quoted packet becomes what its sender
 * knows of (RFC 5508, section 4), down to its checksums, with as little as 8 bytes behind its IP header. All
 * checksums are changed by what changes: a wrong one stays wrong, and whoever gets it drops it.
 *
 * What comes to a local address of ours is about a packet that we sent from there: of a session of mode fullnat
 * (icmp_session.c), or of a tunnel (icmp_tunnel.c).
 */
#include "dataplane/icmp.h"

#include <netinet/in.h>

#include <rte_byteorder.h>
#include <rte_ip.h>

#include "dataplane/checksum.h"
#include "dataplane/classify.h"
#include "dataplane/encap.h"
#include "dataplane/flow.h"
#include "dataplane/icmp_follow.h"
#include "dataplane/worker.h"

bool lb_icmp_is_error(const struct lb_burst *burst, unsigned i)
{
	const struct lb_packet *packet = &burst->packets[i];
	uint8_t type;

	if (!lb_icmp_is(packet->family, burst->keys[i].proto))
		return false;
	if (packet->l4 == 0 || packet->l4 >= burst->mbufs[i]->data_len)
		return true;
	type = *lb_packet_at(burst, i, packet->l4);
	return packet->family == 6 ? type < LB_ICMP6_ECHO : type != LB_ICMP_ECHO && type != LB_ICMP_ECHO_REPLY;
}

static bool follows_flow(unsigned family, uint8_t type)
{
	if (family == 6)
		return type >= LB_ICMP6_UNREACHABLE && type <= LB_ICMP6_PARAMETER;
	return type == LB_ICMP_UNREACHABLE || type == LB_ICMP_TIME_EXCEEDED || type == LB_ICMP_PARAMETER;
}

// Settled: the rewrite stage does the rest, to the IP header and in front of it.
static void go_on(struct lb_burst *burst, unsigned i, uint16_t service, uint16_t backend, uint8_t verdict)
{
	struct lb_packet *packet = &burst->packets[i];

	packet->service = service;
	packet->backend = backend;
	packet->verdict = verdict;
	packet->tcp_flags = 0;
	packet->l4 = 0;
	if (verdict == LB_VERDICT_FORWARD)
		burst->to_service[burst->n_to_service++] = (uint8_t)i;
	else
		burst->to_client[burst->n_to_client++] = (uint8_t)i;
}

/*
 * RSS brings an error to any worker, by what its own header says, and the entry is at the one that gets the flow's
 * packets. Its table is only looked at.
 */
uint16_t lb_icmp_backend(struct lb_worker *worker, uint16_t service, const struct lb_flow_key *flow, uint64_t hash)
{
	const struct lb_dp *dp = worker->dp;

	for (unsigned k = 0; k < dp->n_workers; k++) {
		struct lb_flowtable *table = &dp->workers[(worker->idx + k) % dp->n_workers]->flowtable;
		const uint64_t *found = lb_flowtable_lookup(table, hash, worker->tick);
		uint64_t entry = found != NULL ? __atomic_load_n(found, __ATOMIC_RELAXED) : 0;
		uint16_t id = lb_flow_entry_backend(entry);

		// By now its owner may have put another flow's there, or none.
		if (lb_flow_entry_state(entry) != LB_FLOW_FREE && lb_flow_entry_signature(entry) == hash >> 32 &&
			dp->backends[id].service == service && lb_decide_alive(dp->backend_states, id))
			return id;
	}
	return lb_flow_find(worker, service, flow, hash);
}

/** An error to a VIP. @return its verdict. */
static uint8_t follow_to_backend(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote)
{
	struct lb_dp *dp = worker->dp;
	struct lb_packet *packet = &burst->packets[i];
	struct lb_flow_key flow = {.src = quote->key.dst, .dst = quote->key.src,
		.sport_be = quote->key.dport_be, .dport_be = quote->key.sport_be, .proto = quote->key.proto};
	uint16_t service, id;
	const struct lb_backend *backend;
	uint64_t hash;

	// RFC 1812, 4.3.2.4: an error is sent to the source of what it quotes.
	if (!lb_addr_equal(&quote->key.src, &burst->keys[i].dst))
		return LB_VERDICT_ICMP_MALFORMED;
	service = lb_classify_service(dp, &flow.dst, flow.dport_be, flow.proto);
	if (service == LB_CLASSIFY_NONE)
		return LB_VERDICT_ICMP_NO_FLOW;
	if (dp->services[service].mode == LB_MODE_FULLNAT)
		return lb_icmp_session_to_backend(worker, burst, i, quote, service);
	if (!lb_icmp_ttl_is_left(burst, i))
		return LB_VERDICT_TTL_EXPIRED;
	lb_hash_flows(&dp->hash_key, &flow, &hash, 1);
	id = lb_icmp_backend(worker, service, &flow, hash);
	if (id == LB_BACKEND_NONE)
		return LB_VERDICT_NO_BACKEND;
	backend = &dp->backends[id];
	if (dp->services[service].mode == LB_MODE_NAT) {
		if (packet->family == 6) // the checksum covers the address that the rewrite stage is to change
			lb_quote_change(quote->icmp + 2, lb_sum_address_change(&backend->vip, &backend->addr));
		lb_quote_rewrite(quote, true, &backend->addr, backend->port_be);
	}
	burst->hashes[burst->n_to_service] = hash;
	go_on(burst, i, service, id, LB_VERDICT_FORWARD);
	return LB_VERDICT_FORWARD;
}

/*
 * An error to anybody else. If it quotes a client's packet to a nat backend, it comes from that backend or from a
 * router on the way there; the client sees it come from the VIP in either case (RFC 5508, section 4.2: the outer
 * source becomes an address of the NAT's outside). @return its verdict: HOST if it is none of ours.
 */
static uint8_t follow_to_client(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote)
{
	struct lb_dp *dp = worker->dp;
	struct lb_packet *packet = &burst->packets[i];
	struct lb_flow_key *key = &burst->keys[i];
	uint16_t id = lb_classify_endpoint(dp, &quote->key.dst, quote->key.dport_be, quote->key.proto);
	const struct lb_backend *backend = &dp->backends[id];

	if (id == LB_CLASSIFY_NONE || !lb_addr_equal(&quote->key.src, &key->dst) ||
		lb_fib_lookup(&dp->fib, packet->family, &key->dst) == LB_NEXTHOP_HOST)
		return LB_VERDICT_HOST;
	if (!lb_icmp_ttl_is_left(burst, i))
		return LB_VERDICT_TTL_EXPIRED;
	lb_quote_rewrite(quote, false, &backend->vip, backend->vip_port_be);
	if (packet->family == 6) {
		struct rte_ipv6_hdr *ip = (void *)lb_packet_at(burst, i, packet->l3);

		lb_quote_change(quote->icmp + 2, lb_sum_address_change(&key->src, &backend->vip));
		memcpy(ip->src_addr, &backend->addr, 16);
	} else {
		struct rte_ipv4_hdr *ip = (void *)lb_packet_at(burst, i, packet->l3);

		// The rewrite stage changes the checksum as for the backend's own packets.
		ip->hdr_checksum = lb_checksum_change(
			ip->hdr_checksum, lb_sum_address_change(&key->src, &backend->addr));
	}
	go_on(burst, i, backend->service, id, LB_VERDICT_REPLY);
	return LB_VERDICT_REPLY;
}

static bool is_local(const struct lb_dp *dp, const struct lb_addr *addr)
{
	const struct lb_fullnat *fullnat = atomic_load_explicit(&dp->fullnat, memory_order_acquire);
	const struct lb_locals *locals = atomic_load_explicit(&dp->locals, memory_order_acquire);

	for (uint32_t i = 0; i < locals->n; i++)
		if (lb_addr_equal(&locals->addrs[i], addr))
			return true;
	return fullnat != NULL && // one that went may have sessions yet
	       lb_fullnat_local(atomic_load_explicit(&fullnat->locals, memory_order_acquire), addr) != LB_MAX_LOCALS;
}

/** An error to a local address. @return its verdict: HOST if it is none of ours and the address the host's. */
static uint8_t follow_from_local(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	const struct lb_addr *local = &burst->keys[i].dst;
	struct lb_quote quote;
	uint8_t verdict;

	if (!lb_quote_read(burst, i, &quote) || !lb_addr_equal(&quote.key.src, local))
		verdict = LB_VERDICT_ICMP_MALFORMED;
	else if (lb_icmp_tunnel(worker, burst, i, &quote, &verdict))
		;
	else if (!lb_quote_read_ports(&quote))
		verdict = LB_VERDICT_ICMP_MALFORMED;
	else
		verdict = lb_icmp_session_to_client(worker, burst, i, &quote);
	if (verdict == LB_VERDICT_NO_SESSION && lb_icmp_may_be_gue(worker->dp, &quote))
		verdict = LB_VERDICT_TUNNEL_QUOTE;
	switch (verdict) {
	case LB_VERDICT_ICMP_MALFORMED:
	case LB_VERDICT_TUNNEL_QUOTE:
	case LB_VERDICT_NO_SESSION:
		return lb_fullnat_not_ours(worker, local, verdict);
	default:
		return verdict;
	}
}

void lb_icmp_follow(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	struct lb_packet *packet = &burst->packets[i];
	bool to_vip = packet->verdict != LB_VERDICT_HOST;
	struct lb_quote quote;
	uint8_t type;

	if (packet->l3 + lb_packet_ip_bytes(burst, i) < packet->l4 + LB_ICMP_HEADER_BYTES ||
		burst->mbufs[i]->data_len < packet->l4 + LB_ICMP_HEADER_BYTES) {
		if (to_vip)
			packet->verdict = LB_VERDICT_TRUNCATED_L4;
		return;
	}
	type = *lb_packet_at(burst, i, packet->l4);
	if (to_vip && type == (packet->family == 4 ? LB_ICMP_ECHO : LB_ICMP6_ECHO)) {
		packet->verdict = LB_VERDICT_ECHO;
		lb_burst_answer(burst, i);
		return;
	}
	if (!follows_flow(packet->family, type))
		return;
	if (!to_vip && is_local(worker->dp, &burst->keys[i].dst)) {
		packet->verdict = follow_from_local(worker, burst, i);
		return;
	}
	if (!lb_quote_parse(burst, i, &quote)) {
		if (to_vip)
			packet->verdict = LB_VERDICT_ICMP_MALFORMED;
		return;
	}
	packet->verdict = to_vip ? follow_to_backend(worker, burst, i, &quote)
				 : follow_to_client(worker, burst, i, &quote);
}
