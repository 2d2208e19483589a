/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets that the balancer sends itself, in the buffer of the packet that they answer: echo replies; ICMP errors
 * from the VIP (too big, time exceeded, port unreachable); TCP RSTs. The packet keeps its verdict, by which it is
 * counted; what is sent is counted as an answer. An answer leaves by the route to the client, as a reply would; if
 * there is none (dsr and the tunnel modes need none), to whom the packet came from.
 */
#include "dataplane/answer.h"

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_tcp.h>

#include "dataplane/checksum.h"
#include "dataplane/classify.h"
#include "dataplane/headroom.h"
#include "dataplane/icmp.h"
#include "dataplane/stages.h"
#include "dataplane/worker.h"
#include "lb/decide.h"

#define TTL 64u
#define TOS_INTERNETWORK_CONTROL 0xc0u // RFC 1812, 4.3.2.5: precedence 6 or 7

// RFC 1812, 4.3.2.3: as much as fits into 576 bytes; RFC 4443, 2.4 (c): into the least MTU.
#define ERROR_MAX_IPV4 576u
#define ERROR_MAX_IPV6 1280u

struct error {
	uint8_t type, code;
	uint32_t parameter; /* the second word of the header, host byte order */
};

static bool take_token(struct lb_worker *worker, enum lb_answer_limit limit)
{
	struct lb_answer_tokens *tokens = &worker->answer_tokens;

	if (tokens->second != worker->now_s) {
		tokens->second = worker->now_s;
		tokens->left[LB_ANSWER_LIMIT_ECHO] = LB_ANSWER_ECHOES_PER_S;
		tokens->left[LB_ANSWER_LIMIT_ERROR] = LB_ANSWER_ERRORS_PER_S;
		tokens->left[LB_ANSWER_LIMIT_RESET] = LB_ANSWER_RESETS_PER_S;
	}
	if (tokens->left[limit] == 0) {
		worker->counters->answers.limited++;
		return false;
	}
	tokens->left[limit]--;
	return true;
}

/*
 * Whether it is proper to answer at all (RFC 1122, 3.2.2; RFC 4443, 2.4 (e)): not what was sent to many, not a
 * fragment but the first, not an ICMP error. Sources that are no host's have been dropped by parse. And the buffer is whole.
 */
static bool may_answer(const struct lb_burst *burst, unsigned i)
{
	const struct lb_packet *packet = &burst->packets[i];
	const uint8_t *frame = lb_packet_at(burst, i, 0);

	return burst->mbufs[i]->nb_segs == 1 && packet->family != 0 && !(frame[0] & 1) && !(frame[6] & 1) &&
	       packet->l4 != 0 && !lb_icmp_is_error(burst, i);
}

// Set both MACs and have tx send it.
static void send_answer(struct lb_worker *worker, struct lb_burst *burst, unsigned i, enum lb_answer answer)
{
	struct lb_packet *packet = &burst->packets[i];
	uint8_t *frame = lb_packet_at(burst, i, 0);
	// What came to a local address is of a backend, which no route to clients leads to: back as it came.
	uint64_t nexthop = lb_classify_is_vip(worker->dp, &burst->keys[i].dst)
				   ? lb_fib_lookup(&worker->dp->fib, packet->family, &burst->keys[i].src)
				   : LB_NEXTHOP_NONE;
	uint64_t word = nexthop == LB_NEXTHOP_NONE || nexthop == LB_NEXTHOP_HOST
				? LB_NEXTHOP_UNRESOLVED
				: lb_fib_nexthop_word(&worker->dp->fib, nexthop);

	if (lb_nexthop_port(word) >= worker->n_ports) {
		word = lb_nexthop_of_port(burst->port); // with the tag that it came with
		memcpy(&word, frame + 6, 6);
	}
	memcpy(frame, &word, 6);
	memcpy(frame + 6, &worker->src_macs[lb_nexthop_port(word)], 6);
	burst->nexthops[i] = word;
	burst->answered |= 1u << i;
	packet->wire_bytes = burst->mbufs[i]->pkt_len;
	worker->counters->answers.sent[answer]++;
}

/** An IP header of ours, VIP to client, in front of @p n_payload bytes. @return where the payload goes. */
static uint8_t *put_l3(uint8_t *l3, const struct lb_packet *packet, const struct lb_flow_key *key, uint8_t proto,
	uint8_t tos, unsigned n_payload)
{
	if (packet->family == 4) {
		struct rte_ipv4_hdr *ip = (void *)l3;

		*ip = (struct rte_ipv4_hdr){.version_ihl = 0x45, .type_of_service = tos,
			.total_length = rte_cpu_to_be_16((uint16_t)(sizeof(*ip) + n_payload)),
			.fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG), // and so id 0 (RFC 6864)
			.time_to_live = TTL, .next_proto_id = proto,
			.src_addr = lb_addr_ipv4_be(&key->dst), .dst_addr = lb_addr_ipv4_be(&key->src)};
		ip->hdr_checksum = lb_checksum_ipv4(ip);
		return (uint8_t *)(ip + 1);
	}
	struct rte_ipv6_hdr *ip = (void *)l3;

	*ip = (struct rte_ipv6_hdr){.vtc_flow = rte_cpu_to_be_32(UINT32_C(6) << 28 | (uint32_t)tos << 20),
		.payload_len = rte_cpu_to_be_16((uint16_t)n_payload), .proto = proto, .hop_limits = TTL};
	memcpy(ip->src_addr, &key->dst, sizeof(ip->src_addr));
	memcpy(ip->dst_addr, &key->src, sizeof(ip->dst_addr));
	return (uint8_t *)(ip + 1);
}

static uint32_t l3_bytes(unsigned family)
{
	return family == 4 ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr);
}

static uint16_t icmp_checksum(const uint8_t *l3, unsigned family, const void *icmp, uint32_t n_bytes)
{
	if (family == 6)
		return rte_ipv6_udptcp_cksum((const void *)l3, icmp);
	return (uint16_t)~rte_raw_cksum(icmp, n_bytes);
}

/** Put an ICMP error that quotes it in front of the packet. @return false: no room. */
static bool put_error(struct lb_burst *burst, unsigned i, const struct error *error)
{
	const struct lb_packet *packet = &burst->packets[i];
	struct rte_mbuf *mbuf = burst->mbufs[i];
	uint32_t n_headers = l3_bytes(packet->family) + 8;
	uint32_t n_max = packet->family == 4 ? ERROR_MAX_IPV4 : ERROR_MAX_IPV6;
	uint32_t n_quoted = lb_packet_ip_bytes(burst, i), parameter = rte_cpu_to_be_32(error->parameter);
	uint8_t *frame, *icmp;
	uint16_t sum;

	n_quoted = RTE_MIN(n_quoted, n_max - n_headers);
	n_quoted = RTE_MIN(n_quoted, mbuf->pkt_len - packet->l3); // of one that was quoted itself, not all is there
	if (!lb_headroom_is_ours(mbuf, n_headers))
		return false;
	frame = (uint8_t *)rte_pktmbuf_prepend(mbuf, (uint16_t)n_headers);
	memmove(frame, frame + n_headers, packet->l3);
	rte_pktmbuf_trim(mbuf, (uint16_t)(mbuf->pkt_len - (packet->l3 + n_headers + n_quoted)));
	icmp = put_l3(frame + packet->l3, packet, &burst->keys[i],
		packet->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, TOS_INTERNETWORK_CONTROL, 8 + n_quoted);
	memcpy(icmp, (uint8_t[]){error->type, error->code, 0, 0}, 4);
	memcpy(icmp + 4, &parameter, 4);
	sum = icmp_checksum(frame + packet->l3, packet->family, icmp, 8 + n_quoted);
	memcpy(icmp + 2, &sum, 2);
	return true;
}

static void answer_error(struct lb_worker *worker, struct lb_burst *burst, unsigned i, enum lb_answer answer,
	const struct error *error)
{
	if (take_token(worker, LB_ANSWER_LIMIT_ERROR) && put_error(burst, i, error))
		send_answer(worker, burst, i, answer);
}

static void answer_too_big(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	const struct lb_packet *packet = &burst->packets[i];
	const struct rte_ipv4_hdr *ip = (const void *)lb_packet_at(burst, i, packet->l3);
	uint32_t mtu = burst->mtus[i];

	if (packet->family == 6) // RFC 8200, section 5: no path has less
		answer_error(worker, burst, i, LB_ANSWER_TOO_BIG,
			&(struct error){LB_ICMP6_TOO_BIG, 0, RTE_MAX(mtu, 1280u)});
	else if (ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_DF_FLAG)) // RFC 1191, section 4
		answer_error(worker, burst, i, LB_ANSWER_TOO_BIG,
			&(struct error){LB_ICMP_UNREACHABLE, LB_ICMP_FRAGMENTATION_NEEDED, mtu});
}

static void answer_ttl(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	uint8_t type = burst->packets[i].family == 4 ? LB_ICMP_TIME_EXCEEDED : LB_ICMP6_TIME_EXCEEDED;

	answer_error(worker, burst, i, LB_ANSWER_TTL_EXPIRED, &(struct error){type, 0, 0});
}

static void answer_unreachable(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	if (burst->packets[i].family == 4)
		answer_error(worker, burst, i, LB_ANSWER_UNREACHABLE,
			&(struct error){LB_ICMP_UNREACHABLE, LB_ICMP_PORT_UNREACHABLE, 0});
	else
		answer_error(worker, burst, i, LB_ANSWER_UNREACHABLE,
			&(struct error){LB_ICMP6_UNREACHABLE, LB_ICMP6_PORT_UNREACHABLE, 0});
}

// Of a TCP header without anything behind it, and 0 in the checksum's place.
static uint16_t bare_tcp_checksum(const uint8_t *l3, unsigned family, const struct rte_tcp_hdr *tcp)
{
	uint64_t addresses = family == 4 ? lb_sum_of(l3 + 12, 8) : lb_sum_of(l3 + 8, 32);

	return (uint16_t)~lb_sum_fold(
		addresses + RTE_BE16(IPPROTO_TCP) + RTE_BE16(sizeof(*tcp)) + lb_sum_of(tcp, sizeof(*tcp)));
}

// RFC 9293, 3.10.7.1: as a host in state CLOSED.
static void answer_reset(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	struct lb_packet *packet = &burst->packets[i];
	const struct lb_flow_key *key = &burst->keys[i];
	struct rte_mbuf *mbuf = burst->mbufs[i];
	uint8_t *l3 = lb_packet_at(burst, i, packet->l3);
	struct rte_tcp_hdr was, *tcp;
	uint32_t n_segment, n_frame = packet->l3 + l3_bytes(packet->family) + (uint32_t)sizeof(was);

	memcpy(&was, lb_packet_at(burst, i, packet->l4), sizeof(was));
	if ((was.tcp_flags & LB_TCP_RST) || !take_token(worker, LB_ANSWER_LIMIT_RESET))
		return;
	n_segment = packet->l3 + lb_packet_ip_bytes(burst, i) - packet->l4 - (was.data_off >> 4) * 4u;
	n_segment += !!(was.tcp_flags & LB_TCP_SYN) + !!(was.tcp_flags & LB_TCP_FIN);
	rte_pktmbuf_trim(mbuf, (uint16_t)(mbuf->pkt_len - n_frame)); // no TCP packet is shorter
	tcp = (void *)put_l3(l3, packet, key, IPPROTO_TCP, 0, sizeof(*tcp));
	*tcp = (struct rte_tcp_hdr){.src_port = key->dport_be, .dst_port = key->sport_be, .data_off = 0x50};
	if (was.tcp_flags & LB_TCP_ACK) {
		tcp->sent_seq = was.recv_ack;
		tcp->tcp_flags = LB_TCP_RST;
	} else {
		tcp->recv_ack = rte_cpu_to_be_32(rte_be_to_cpu_32(was.sent_seq) + n_segment);
		tcp->tcp_flags = LB_TCP_RST | LB_TCP_ACK;
	}
	tcp->cksum = bare_tcp_checksum(l3, packet->family, tcp);
	send_answer(worker, burst, i, LB_ANSWER_RESET);
}

/*
 * The reply has the request's data, identifier and number (RFC 792; RFC 4443, 4.2). Both checksums are changed by
 * what changes: a wrong one stays wrong.
 */
static void answer_echo(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	const struct lb_packet *packet = &burst->packets[i];
	uint8_t *l3 = lb_packet_at(burst, i, packet->l3), *icmp = lb_packet_at(burst, i, packet->l4);
	uint8_t type = packet->family == 4 ? LB_ICMP_ECHO_REPLY : LB_ICMP6_ECHO_REPLY, header[2] = {type, icmp[1]};
	uint16_t sum;

	if (!take_token(worker, LB_ANSWER_LIMIT_ECHO))
		return;
	memcpy(&sum, icmp + 2, 2);
	sum = lb_checksum_change(sum, lb_sum_change(lb_sum_words(icmp, 1), lb_sum_words(header, 1)));
	memcpy(icmp + 2, &sum, 2);
	icmp[0] = type;
	if (packet->family == 4) {
		struct rte_ipv4_hdr *ip = (void *)l3;
		uint16_t from = lb_sum_words(&ip->time_to_live, 1);

		ip->src_addr = lb_addr_ipv4_be(&burst->keys[i].dst);
		ip->dst_addr = lb_addr_ipv4_be(&burst->keys[i].src);
		ip->time_to_live = TTL;
		ip->hdr_checksum = lb_checksum_change(
			ip->hdr_checksum, lb_sum_change(from, lb_sum_words(&ip->time_to_live, 1)));
	} else {
		struct rte_ipv6_hdr *ip = (void *)l3;

		memcpy(ip->src_addr, &burst->keys[i].dst, sizeof(ip->src_addr));
		memcpy(ip->dst_addr, &burst->keys[i].src, sizeof(ip->dst_addr));
		ip->hop_limits = TTL;
	}
	send_answer(worker, burst, i, LB_ANSWER_ECHO);
}

static void answer_one(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	switch (burst->packets[i].verdict) {
	case LB_VERDICT_ECHO:
		answer_echo(worker, burst, i);
		break;
	case LB_VERDICT_TOO_BIG:
	case LB_VERDICT_TUNNEL_TOO_BIG:
		answer_too_big(worker, burst, i);
		break;
	case LB_VERDICT_TTL_EXPIRED:
		answer_ttl(worker, burst, i);
		break;
	case LB_VERDICT_NO_BACKEND:
	case LB_VERDICT_BACKEND_DOWN:
	case LB_VERDICT_NO_SESSION:
		if (burst->packets[i].pending == LB_VERDICT_FRAGMENT)
			break; // how long is the segment? And it is no host's business to ask
		if (burst->keys[i].proto == IPPROTO_TCP)
			answer_reset(worker, burst, i);
		else
			answer_unreachable(worker, burst, i);
		break;
	default:
		break;
	}
}

void lb_stage_answer(struct lb_worker *worker, struct lb_burst *burst)
{
	for (unsigned k = 0; k < burst->n_answer; k++) {
		lb_burst_lengthen(burst, burst->answer_list[k]);
		if (may_answer(burst, burst->answer_list[k]))
			answer_one(worker, burst, burst->answer_list[k]);
	}
}
