/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ICMP errors from one address family to the other: type, code and MTU (RFC 7915, sections 4.2 and 5.2), the header of
 * the packet that they quote (4.3, 5.3), and their own. The message is made anew, since its length and checksum
 * change with all of that; so the checksum it came with is verified first.
 */
#include <netinet/in.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>

#include "dataplane/checksum.h"
#include "dataplane/icmp.h"
#include "dataplane/icmp_follow.h"

#define MESSAGE_MAX 1280u // RFC 4443, section 2.4 (c); more than RFC 1812 asks for
#define NO_POINTER 255u
#define IPV6_MIN_MTU 1280u // as in translate.c: IPv6 would not have fragmented less

/* Type, code, and the second word of the header, network byte order. */
struct header {
	uint8_t type, code;
	uint32_t word;
};

// Where a field of the IPv4 header is in the IPv6 header, and back (RFC 7915, figures 3 and 6).
static const uint8_t pointer_to_ipv6[20] = {0, 1, 4, 4, NO_POINTER, NO_POINTER, NO_POINTER, NO_POINTER, 7, 6, NO_POINTER,
	NO_POINTER, 8, 8, 8, 8, 24, 24, 24, 24};
static const uint8_t pointer_to_ipv4[40] = {0, 1, NO_POINTER, NO_POINTER, 2, 2, 9, 8, [8 ... 23] = 12, [24 ... 39] = 16};

static bool unreachable_to_ipv6(uint8_t code, struct header *header)
{
	switch (code) {
	case 0: // network, host unreachable
	case 1:
	case 5: // source route failed
	case 6: // network, host unknown
	case 7:
	case 8: // isolated
	case 11: // unreachable for this type of service
	case 12:
		*header = (struct header){.type = LB_ICMP6_UNREACHABLE, .code = 0};
		return true;
	case 2: // the protocol: a next header that is not known
		*header = (struct header){.type = LB_ICMP6_PARAMETER, .code = 1, .word = rte_cpu_to_be_32(6)};
		return true;
	case LB_ICMP_PORT_UNREACHABLE:
		*header = (struct header){.type = LB_ICMP6_UNREACHABLE, .code = LB_ICMP6_PORT_UNREACHABLE};
		return true;
	case 9: // prohibited
	case 10:
	case 13:
	case 15:
		*header = (struct header){.type = LB_ICMP6_UNREACHABLE, .code = 1};
		return true;
	default:
		return false;
	}
}

static bool to_ipv6(const struct lb_quote *quote, uint32_t mtu, struct header *header)
{
	uint8_t type = quote->icmp[0], code = quote->icmp[1], pointer = quote->icmp[4];

	if (lb_icmp_is_too_big(4, quote->icmp)) {
		*header = (struct header){.type = LB_ICMP6_TOO_BIG, .word = rte_cpu_to_be_32(mtu)};
		return true;
	}
	if (type == LB_ICMP_UNREACHABLE)
		return unreachable_to_ipv6(code, header);
	if (type == LB_ICMP_TIME_EXCEEDED) {
		*header = (struct header){.type = LB_ICMP6_TIME_EXCEEDED, .code = code};
		return code <= 1;
	}
	if ((code != 0 && code != 2) || pointer >= sizeof(pointer_to_ipv6) || pointer_to_ipv6[pointer] == NO_POINTER)
		return false;
	*header = (struct header){.type = LB_ICMP6_PARAMETER, .word = rte_cpu_to_be_32(pointer_to_ipv6[pointer])};
	return true;
}

static bool to_ipv4(const struct lb_quote *quote, uint32_t mtu, struct header *header)
{
	// No route, prohibited, beyond the source's scope, address, port.
	static const uint8_t unreachable[] = {1, 10, 1, 1, LB_ICMP_PORT_UNREACHABLE};
	uint8_t type = quote->icmp[0], code = quote->icmp[1];
	uint32_t pointer;

	switch (type) {
	case LB_ICMP6_UNREACHABLE:
		if (code >= sizeof(unreachable))
			return false;
		*header = (struct header){.type = LB_ICMP_UNREACHABLE, .code = unreachable[code]};
		return true;
	case LB_ICMP6_TOO_BIG:
		*header = (struct header){.type = LB_ICMP_UNREACHABLE, .code = LB_ICMP_FRAGMENTATION_NEEDED,
			.word = rte_cpu_to_be_32(mtu)};
		return true;
	case LB_ICMP6_TIME_EXCEEDED:
		*header = (struct header){.type = LB_ICMP_TIME_EXCEEDED, .code = code};
		return code <= 1;
	default:
		break;
	}
	if (code == 1) {
		*header = (struct header){.type = LB_ICMP_UNREACHABLE, .code = 2};
		return true;
	}
	memcpy(&pointer, quote->icmp + 4, sizeof(pointer));
	pointer = rte_be_to_cpu_32(pointer);
	if (code != 0 || pointer >= sizeof(pointer_to_ipv4) || pointer_to_ipv4[pointer] == NO_POINTER)
		return false;
	*header = (struct header){.type = LB_ICMP_PARAMETER,
		.word = rte_cpu_to_be_32((uint32_t)pointer_to_ipv4[pointer] << 24)};
	return true;
}

static bool checksum_is_right(const struct lb_burst *burst, unsigned i, uint32_t n_icmp)
{
	const struct lb_packet *packet = &burst->packets[i];
	uint16_t sum = rte_raw_cksum(lb_packet_at(burst, i, packet->l4), n_icmp);

	if (packet->family == 6) { // RFC 8200, section 8.1; its header may not be the IPv6 header's next
		sum = lb_sum_add(sum, lb_sum_words(&burst->keys[i].src, 8));
		sum = lb_sum_add(sum, lb_sum_words(&burst->keys[i].dst, 8));
		sum = lb_sum_add(sum, lb_sum_add(rte_cpu_to_be_16((uint16_t)n_icmp), RTE_BE16(IPPROTO_ICMPV6)));
	}
	return sum == 0xffff;
}

/*
 * Bytes of the quoted packet's L4 header and data that are there. What follows it may be extensions (RFC 4884: then the
 * header says in which length it is quoted, in words of 4 or 8 bytes). @return false: it lies.
 */
static bool quoted_bytes(unsigned family, const struct lb_quote *quote, uint32_t *n_l4)
{
	uint32_t n_quoted = family == 4 ? quote->icmp[5] * 4u : quote->icmp[4] * 8u;
	uint32_t n_header = (uint32_t)(quote->l4 - quote->l3);
	bool has_length = family == 4 ? quote->icmp[0] != LB_ICMP_PARAMETER || quote->icmp[5] != 0
				      : quote->icmp[0] == LB_ICMP6_UNREACHABLE || quote->icmp[0] == LB_ICMP6_TIME_EXCEEDED;

	*n_l4 = quote->n_l4;
	if (!has_length || n_quoted == 0)
		return true;
	if (n_quoted < n_header + LB_QUOTE_L4_MIN || n_quoted > n_header + quote->n_l4)
		return false;
	*n_l4 = n_quoted - n_header;
	return true;
}

static uint32_t quoted_header_bytes(const struct lb_quote *quote, bool ipv4)
{
	if (ipv4)
		return sizeof(struct rte_ipv4_hdr);
	return (uint32_t)(sizeof(struct rte_ipv6_hdr) +
			  (quote->more_fragments ? sizeof(struct rte_ipv6_fragment_ext) : 0));
}

// The header of the quoted packet, of which its sender sent all, whatever is quoted of it.
static void write_quoted_ipv4(uint8_t *at, const struct lb_quote *quote, const struct lb_icmp_change *change)
{
	const struct rte_ipv6_hdr *from = (const void *)quote->l3;
	int32_t n_bytes = (int32_t)(rte_be_to_cpu_16(from->payload_len) + sizeof(*from)) - (int32_t)(quote->l4 - quote->l3);
	struct rte_ipv4_hdr ip = {.version_ihl = RTE_IPV4_VHL_DEF,
		.type_of_service = (uint8_t)(rte_be_to_cpu_32(from->vtc_flow) >> 20),
		.time_to_live = from->hop_limits,
		.next_proto_id = quote->key.proto,
		.src_addr = lb_addr_ipv4_be(change->quoted_src),
		.dst_addr = lb_addr_ipv4_be(change->quoted_dst)};

	n_bytes = RTE_MIN(RTE_MAX(n_bytes, 0) + (int32_t)sizeof(ip), (int32_t)UINT16_MAX);
	ip.total_length = rte_cpu_to_be_16((uint16_t)n_bytes);
	if (quote->more_fragments)
		ip.fragment_offset = RTE_BE16(RTE_IPV4_HDR_MF_FLAG);
	else if (n_bytes > (int32_t)(IPV6_MIN_MTU - sizeof(ip)))
		ip.fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG);
	memcpy(&ip.packet_id, (const uint8_t *)&quote->fragment_id + 2, 2);
	ip.hdr_checksum = lb_checksum_ipv4(&ip);
	memcpy(at, &ip, sizeof(ip));
}

static void write_quoted_ipv6(uint8_t *at, const struct lb_quote *quote, const struct lb_icmp_change *change)
{
	const struct rte_ipv4_hdr *from = (const void *)quote->l3;
	uint32_t n_fragment = quoted_header_bytes(quote, false) - (uint32_t)sizeof(struct rte_ipv6_hdr);
	int32_t n_bytes = (int32_t)rte_be_to_cpu_16(from->total_length) - (int32_t)(quote->l4 - quote->l3);
	struct rte_ipv6_hdr ip = {.vtc_flow = rte_cpu_to_be_32(6u << 28 | (uint32_t)from->type_of_service << 20),
		.proto = n_fragment != 0 ? IPPROTO_FRAGMENT : quote->key.proto,
		.hop_limits = from->time_to_live};

	n_bytes = RTE_MIN(RTE_MAX(n_bytes, 0) + (int32_t)n_fragment, (int32_t)UINT16_MAX);
	ip.payload_len = rte_cpu_to_be_16((uint16_t)n_bytes);
	memcpy(ip.src_addr, change->quoted_src, 16);
	memcpy(ip.dst_addr, change->quoted_dst, 16);
	memcpy(at, &ip, sizeof(ip));
	if (n_fragment != 0) {
		memcpy(at + sizeof(ip), (uint8_t[]){quote->key.proto, 0, 0, 1}, 4);
		memcpy(at + sizeof(ip) + 4, &quote->fragment_id, 4);
	}
}

// The IP header in front of n_icmp bytes, whose checksum is filled in. @p was: the header before.
static void write_outer(struct lb_worker *worker, uint8_t *message, const uint8_t *was, const struct lb_icmp_change *change,
	uint32_t n_icmp)
{
	uint16_t sum;

	if (lb_addr_is_ipv4(change->dst)) {
		const struct rte_ipv6_hdr *from = (const void *)was;
		struct rte_ipv4_hdr *ip = (void *)message;

		*ip = (struct rte_ipv4_hdr){.version_ihl = RTE_IPV4_VHL_DEF,
			.type_of_service = (uint8_t)(rte_be_to_cpu_32(from->vtc_flow) >> 20),
			.total_length = rte_cpu_to_be_16((uint16_t)(sizeof(*ip) + n_icmp)),
			.packet_id = rte_cpu_to_be_16(worker->ipv4_id++), // no longer than IPv6 may fragment
			.time_to_live = (uint8_t)(from->hop_limits - 1),
			.next_proto_id = IPPROTO_ICMP,
			.src_addr = lb_addr_ipv4_be(change->src),
			.dst_addr = lb_addr_ipv4_be(change->dst)};
		ip->hdr_checksum = lb_checksum_ipv4(ip);
		sum = (uint16_t)~rte_raw_cksum(ip + 1, n_icmp);
		memcpy((uint8_t *)(ip + 1) + 2, &sum, 2);
	} else {
		const struct rte_ipv4_hdr *from = (const void *)was;
		struct rte_ipv6_hdr *ip = (void *)message;

		*ip = (struct rte_ipv6_hdr){
			.vtc_flow = rte_cpu_to_be_32(6u << 28 | (uint32_t)from->type_of_service << 20),
			.payload_len = rte_cpu_to_be_16((uint16_t)n_icmp),
			.proto = IPPROTO_ICMPV6,
			.hop_limits = (uint8_t)(from->time_to_live - 1)};
		memcpy(ip->src_addr, change->src, 16);
		memcpy(ip->dst_addr, change->dst, 16);
		sum = rte_ipv6_udptcp_cksum(ip, ip + 1);
		memcpy((uint8_t *)(ip + 1) + 2, &sum, 2);
	}
}

// The packet becomes @p n_bytes of @p message behind its link header.
static bool replace(struct lb_burst *burst, unsigned i, bool ipv4, const uint8_t *message, uint32_t n_bytes)
{
	struct lb_packet *packet = &burst->packets[i];
	struct rte_mbuf *mbuf = burst->mbufs[i];
	uint16_t ether_type = ipv4 ? RTE_BE16(RTE_ETHER_TYPE_IPV4) : RTE_BE16(RTE_ETHER_TYPE_IPV6);
	uint32_t n_frame = packet->l3 + n_bytes;
	uint8_t *l3;

	if (n_frame <= mbuf->pkt_len)
		rte_pktmbuf_trim(mbuf, (uint16_t)(mbuf->pkt_len - n_frame));
	else if (rte_pktmbuf_append(mbuf, (uint16_t)(n_frame - mbuf->pkt_len)) == NULL)
		return false;
	l3 = lb_packet_at(burst, i, packet->l3);
	memcpy(l3 - 2, &ether_type, 2);
	memcpy(l3, message, n_bytes);
	packet->family = ipv4 ? 4 : 6;
	packet->l4 = 0;
	packet->wire_bytes = mbuf->pkt_len;
	return true;
}

uint8_t lb_icmp_change_family(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote,
	const struct lb_icmp_change *change)
{
	const struct lb_packet *packet = &burst->packets[i];
	bool ipv4 = lb_addr_is_ipv4(change->dst);
	uint32_t n_outer = ipv4 ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr);
	uint32_t n_header = quoted_header_bytes(quote, ipv4), n_l4;
	uint16_t ports[2] = {change->quoted_sport_be, change->quoted_dport_be};
	uint8_t message[MESSAGE_MAX] __attribute__((aligned(8)));
	uint8_t *icmp = message + n_outer;
	struct header header;
	int64_t mtu = (int64_t)lb_icmp_mtu(packet->family, quote) - (quote->l4 - quote->l3) + n_header - change->added;

	if (burst->mbufs[i]->nb_segs != 1 ||
		!checksum_is_right(burst, i, packet->l3 + lb_packet_ip_bytes(burst, i) - packet->l4) ||
		!quoted_bytes(packet->family, quote, &n_l4))
		return LB_VERDICT_ICMP_MALFORMED;
	if (!(ipv4 ? to_ipv4 : to_ipv6)(quote, lb_icmp_clamp_mtu(ipv4 ? 4 : 6, mtu), &header))
		return LB_VERDICT_ICMP_UNTRANSLATED;
	n_l4 = RTE_MIN(n_l4, MESSAGE_MAX - n_outer - LB_ICMP_HEADER_BYTES - n_header);
	if (ports[0] == 0)
		ports[0] = quote->key.sport_be;
	lb_quote_write_l4(quote, 0, ports, 2,
		lb_sum_add(lb_sum_address_change(&quote->key.src, change->quoted_src),
			lb_sum_address_change(&quote->key.dst, change->quoted_dst)));
	memcpy(icmp, (uint8_t[]){header.type, header.code, 0, 0}, 4);
	memcpy(icmp + 4, &header.word, 4);
	(ipv4 ? write_quoted_ipv4 : write_quoted_ipv6)(icmp + LB_ICMP_HEADER_BYTES, quote, change);
	memcpy(icmp + LB_ICMP_HEADER_BYTES + n_header, quote->l4, n_l4);
	write_outer(worker, message, lb_packet_at(burst, i, packet->l3), change, LB_ICMP_HEADER_BYTES + n_header + n_l4);
	return replace(burst, i, ipv4, message, n_outer + LB_ICMP_HEADER_BYTES + n_header + n_l4)
		       ? LB_VERDICT_FORWARD
		       : LB_VERDICT_NO_HEADROOM;
}
