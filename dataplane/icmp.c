/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ICMP and ICMPv6. An error follows the flow that it quotes: to a VIP, it quotes what a backend sent, so it goes to
 * that backend, as a packet of the client in mid-stream would, but nothing is recorded; from the backends' side, it
 * quotes what we sent to a backend, so it goes to the client. In nat mode the quoted packet becomes what its sender
 * knows of (RFC 5508, section 4), down to its checksums, with as little as 8 bytes behind its IP header. All
 * checksums are changed by what changes: a wrong one stays wrong, and whoever gets it drops it.
 */
#include "dataplane/icmp.h"

#include <rte_byteorder.h>
#include <rte_ip.h>

#include "dataplane/checksum.h"
#include "dataplane/classify.h"
#include "dataplane/flow.h"
#include "dataplane/worker.h"

#define ICMP_HEADER_BYTES 8u
#define L4_BYTES_MIN 8u   // RFC 792: what every error quotes at least
#define TCP_CHECKSUM_AT 16u
#define UDP_CHECKSUM_AT 6u
#define MAX_EXT_HEADERS 8u // as in parse.c

/* The packet that an error quotes, as far as it does. */
struct quote {
	uint8_t *icmp; /* the outer ICMP header */
	uint8_t *l3, *l4;
	uint32_t n_l4;          /* bytes of its L4 header and data that are there, at least L4_BYTES_MIN */
	struct lb_flow_key key; /* as it is written in the packet */
};

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

// @return bytes of the quoted IPv4 header; 0: malformed, or no first fragment.
static uint32_t quoted_ipv4(struct quote *quote, uint32_t n_bytes)
{
	const struct rte_ipv4_hdr *ip = (const void *)quote->l3;
	uint32_t n_header;

	if (n_bytes < sizeof(*ip) || ip->version_ihl >> 4 != 4)
		return 0;
	n_header = (ip->version_ihl & 0xfu) * 4u;
	if (n_header < sizeof(*ip) || (ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK)))
		return 0;
	quote->key.src = lb_addr_from_ipv4(ip->src_addr);
	quote->key.dst = lb_addr_from_ipv4(ip->dst_addr);
	quote->key.proto = ip->next_proto_id;
	return n_header;
}

static uint32_t quoted_ipv6(struct quote *quote, uint32_t n_bytes)
{
	const struct rte_ipv6_hdr *ip = (const void *)quote->l3;
	uint32_t at = sizeof(*ip);
	uint8_t next;

	if (n_bytes < sizeof(*ip) || *quote->l3 >> 4 != 6)
		return 0;
	memcpy(&quote->key.src, ip->src_addr, sizeof(quote->key.src));
	memcpy(&quote->key.dst, ip->dst_addr, sizeof(quote->key.dst));
	next = ip->proto;
	for (unsigned i = 0; i < MAX_EXT_HEADERS; i++) {
		const uint8_t *header = quote->l3 + at;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
			next != IPPROTO_FRAGMENT)
			break;
		if (n_bytes < at + 8 || (next == IPPROTO_FRAGMENT && (header[2] | (header[3] & 0xf8)) != 0))
			return 0;
		at += next == IPPROTO_FRAGMENT ? 8 : (header[1] + 1u) * 8u;
		next = header[0];
	}
	quote->key.proto = next;
	return at;
}

/** Read what packet @p i quotes. @return false: nothing that has ports. */
static bool parse_quote(const struct lb_burst *burst, unsigned i, struct quote *quote)
{
	const struct lb_packet *packet = &burst->packets[i];
	uint32_t end = RTE_MIN(packet->l3 + lb_packet_ip_bytes(burst, i), (uint32_t)burst->mbufs[i]->data_len);
	uint32_t n_bytes, n_l3;

	if (end < packet->l4 + ICMP_HEADER_BYTES)
		return false;
	n_bytes = end - packet->l4 - ICMP_HEADER_BYTES;
	memset(&quote->key, 0, sizeof(quote->key));
	quote->icmp = lb_packet_at(burst, i, packet->l4);
	quote->l3 = quote->icmp + ICMP_HEADER_BYTES;
	n_l3 = packet->family == 4 ? quoted_ipv4(quote, n_bytes) : quoted_ipv6(quote, n_bytes);
	if (n_l3 == 0 || n_bytes < n_l3 + L4_BYTES_MIN ||
		(quote->key.proto != IPPROTO_TCP && quote->key.proto != IPPROTO_UDP))
		return false;
	quote->l4 = quote->l3 + n_l3;
	quote->n_l4 = n_bytes - n_l3;
	memcpy(&quote->key.sport_be, quote->l4, 2);
	memcpy(&quote->key.dport_be, quote->l4 + 2, 2);
	return true;
}

static void change_field(uint8_t *field, uint16_t change)
{
	uint16_t checksum;

	memcpy(&checksum, field, 2);
	checksum = lb_checksum_change(checksum, change);
	memcpy(field, &checksum, 2);
}

static void change_quoted_l4(struct quote *quote, uint16_t change)
{
	uint8_t *udp = quote->l4 + UDP_CHECKSUM_AT;

	if (quote->key.proto == IPPROTO_TCP) {
		if (quote->n_l4 >= TCP_CHECKSUM_AT + 2)
			change_field(quote->l4 + TCP_CHECKSUM_AT, change);
	} else if ((udp[0] | udp[1]) != 0) { // RFC 768: none was computed
		change_field(udp, change);
		if ((udp[0] | udp[1]) == 0)
			memset(udp, 0xff, 2);
	}
}

/**
 * One side of the quoted packet (its source, or its destination) becomes @p addr and @p port_be (0: its own); the
 * ICMP checksum, which covers it, follows.
 */
static void rewrite_quote(
	struct quote *quote, bool source, unsigned family, const struct lb_addr *addr, uint16_t port_be)
{
	uint16_t old_port = source ? quote->key.sport_be : quote->key.dport_be;
	uint16_t change = lb_sum_address_change(source ? &quote->key.src : &quote->key.dst, addr);
	// All that may change, in whole words.
	uint32_t n_l4 = RTE_MIN(quote->n_l4, TCP_CHECKSUM_AT + 2);
	unsigned n_words = (unsigned)(quote->l4 - quote->l3 + n_l4) / 2;
	uint16_t before = lb_sum_words(quote->l3, n_words);

	if (port_be == 0)
		port_be = old_port;
	if (family == 4) {
		struct rte_ipv4_hdr *ip = (void *)quote->l3;

		uint32_t ipv4 = lb_addr_ipv4_be(addr);

		memcpy(quote->l3 + (source ? 12 : 16), &ipv4, sizeof(ipv4));
		ip->hdr_checksum = lb_checksum_change(ip->hdr_checksum, change);
	} else {
		struct rte_ipv6_hdr *ip = (void *)quote->l3;

		memcpy(source ? ip->src_addr : ip->dst_addr, addr, 16);
	}
	memcpy(quote->l4 + (source ? 0 : 2), &port_be, 2);
	change_quoted_l4(quote, lb_sum_add(change, lb_sum_change(old_port, port_be)));
	change_field(quote->icmp + 2, lb_sum_change(before, lb_sum_words(quote->l3, n_words)));
}

static bool ttl_is_left(const struct lb_burst *burst, unsigned i)
{
	const struct lb_packet *packet = &burst->packets[i];
	const uint8_t *l3 = lb_packet_at(burst, i, packet->l3);

	return (packet->family == 4 ? l3[8] : l3[7]) > 1;
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

/** An error to a VIP. @return its verdict. */
static uint8_t follow_to_backend(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct quote *quote)
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
		return LB_VERDICT_MODE_UNSUPPORTED; // what it quotes would have to become its session's
	if (!ttl_is_left(burst, i))
		return LB_VERDICT_TTL_EXPIRED;
	lb_hash_flows(&dp->hash_key, &flow, &hash, 1);
	id = lb_flow_find(worker, service, &flow, hash);
	if (id == LB_BACKEND_NONE)
		return LB_VERDICT_NO_BACKEND;
	backend = &dp->backends[id];
	if (dp->services[service].mode == LB_MODE_NAT) {
		if (packet->family == 6) // the checksum covers the address that the rewrite stage is to change
			change_field(quote->icmp + 2, lb_sum_address_change(&backend->vip, &backend->addr));
		rewrite_quote(quote, true, packet->family, &backend->addr, backend->port_be);
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
static uint8_t follow_to_client(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct quote *quote)
{
	struct lb_dp *dp = worker->dp;
	struct lb_packet *packet = &burst->packets[i];
	struct lb_flow_key *key = &burst->keys[i];
	uint16_t id = lb_classify_endpoint(dp, &quote->key.dst, quote->key.dport_be, quote->key.proto);
	const struct lb_backend *backend = &dp->backends[id];

	if (id == LB_CLASSIFY_NONE || !lb_addr_equal(&quote->key.src, &key->dst) ||
		lb_fib_lookup(&dp->fib, packet->family, &key->dst) == LB_NEXTHOP_HOST)
		return LB_VERDICT_HOST;
	if (!ttl_is_left(burst, i))
		return LB_VERDICT_TTL_EXPIRED;
	rewrite_quote(quote, false, packet->family, &backend->vip, backend->vip_port_be);
	if (packet->family == 6) {
		struct rte_ipv6_hdr *ip = (void *)lb_packet_at(burst, i, packet->l3);

		change_field(quote->icmp + 2, lb_sum_address_change(&key->src, &backend->vip));
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

void lb_icmp_follow(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	struct lb_packet *packet = &burst->packets[i];
	bool to_vip = packet->verdict != LB_VERDICT_HOST;
	struct quote quote;
	uint8_t type;

	if (packet->l3 + lb_packet_ip_bytes(burst, i) < packet->l4 + ICMP_HEADER_BYTES ||
		burst->mbufs[i]->data_len < packet->l4 + ICMP_HEADER_BYTES) {
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
	if (!parse_quote(burst, i, &quote)) {
		if (to_vip)
			packet->verdict = LB_VERDICT_ICMP_MALFORMED;
		return;
	}
	packet->verdict = to_vip ? follow_to_backend(worker, burst, i, &quote)
				 : follow_to_client(worker, burst, i, &quote);
}
