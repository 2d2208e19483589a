/* SPDX-License-Identifier: BSD-3-Clause */
#include "dataplane/quote.h"

#include <netinet/in.h>

#include <rte_byteorder.h>
#include <rte_ip.h>

#include "dataplane/checksum.h"

#define MAX_EXT_HEADERS 8u // as in parse.c

// @return bytes of the quoted IPv4 header; 0: malformed, or no first fragment.
static uint32_t read_ipv4(struct lb_quote *quote, uint32_t n_bytes)
{
	const struct rte_ipv4_hdr *ip = (const void *)quote->l3;
	uint32_t n_header;

	if (n_bytes < sizeof(*ip) || ip->version_ihl >> 4 != 4)
		return 0;
	n_header = (ip->version_ihl & 0xfu) * 4u;
	if (n_header < sizeof(*ip) || n_header > n_bytes || (ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK)))
		return 0;
	quote->key.src = lb_addr_from_ipv4(ip->src_addr);
	quote->key.dst = lb_addr_from_ipv4(ip->dst_addr);
	quote->key.proto = ip->next_proto_id;
	quote->more_fragments = ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_MF_FLAG);
	memcpy((uint8_t *)&quote->fragment_id + 2, &ip->packet_id, 2);
	return n_header;
}

static uint32_t read_ipv6(struct lb_quote *quote, uint32_t n_bytes)
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
		if (n_bytes < at + 8)
			return 0;
		if (next == IPPROTO_FRAGMENT) {
			if ((header[2] | (header[3] & 0xf8)) != 0)
				return 0;
			quote->more_fragments = header[3] & 1;
			memcpy(&quote->fragment_id, header + 4, 4);
		}
		at += next == IPPROTO_FRAGMENT ? 8 : (header[1] + 1u) * 8u;
		next = header[0];
	}
	quote->key.proto = next;
	return at <= n_bytes ? at : 0;
}

bool lb_quote_read_at(struct lb_quote *quote, uint8_t *l3, uint32_t n_bytes, unsigned family)
{
	uint32_t n_l3;

	memset(quote, 0, sizeof(*quote));
	quote->l3 = l3;
	n_l3 = family == 4 ? read_ipv4(quote, n_bytes) : read_ipv6(quote, n_bytes);
	quote->l4 = l3 + n_l3;
	quote->n_l4 = n_bytes - n_l3;
	return n_l3 != 0;
}

bool lb_quote_read_ports(struct lb_quote *quote)
{
	if (quote->n_l4 < LB_QUOTE_L4_MIN || (quote->key.proto != IPPROTO_TCP && quote->key.proto != IPPROTO_UDP))
		return false;
	memcpy(&quote->key.sport_be, quote->l4, 2);
	memcpy(&quote->key.dport_be, quote->l4 + 2, 2);
	return true;
}

bool lb_quote_read(const struct lb_burst *burst, unsigned i, struct lb_quote *quote)
{
	const struct lb_packet *packet = &burst->packets[i];
	uint32_t end = RTE_MIN(packet->l3 + lb_packet_ip_bytes(burst, i), (uint32_t)burst->mbufs[i]->data_len);
	uint8_t *icmp = lb_packet_at(burst, i, packet->l4);

	if (end < packet->l4 + LB_ICMP_HEADER_BYTES ||
		!lb_quote_read_at(quote, icmp + LB_ICMP_HEADER_BYTES, end - packet->l4 - LB_ICMP_HEADER_BYTES,
			packet->family))
		return false;
	quote->icmp = icmp;
	return true;
}

bool lb_quote_parse(const struct lb_burst *burst, unsigned i, struct lb_quote *quote)
{
	return lb_quote_read(burst, i, quote) && lb_quote_read_ports(quote);
}

void lb_quote_change(uint8_t *field, uint16_t change)
{
	uint16_t checksum;

	memcpy(&checksum, field, 2);
	checksum = lb_checksum_change(checksum, change);
	memcpy(field, &checksum, 2);
}

static void change_l4(struct lb_quote *quote, uint16_t change)
{
	uint8_t *udp = quote->l4 + LB_UDP_CHECKSUM_AT;

	if (quote->key.proto == IPPROTO_TCP) {
		if (quote->n_l4 >= LB_TCP_CHECKSUM_AT + 2)
			lb_quote_change(quote->l4 + LB_TCP_CHECKSUM_AT, change);
	} else if ((udp[0] | udp[1]) != 0) { // RFC 768: none was computed
		lb_quote_change(udp, change);
		if ((udp[0] | udp[1]) == 0)
			memset(udp, 0xff, 2);
	}
}

void lb_quote_write_l4(struct lb_quote *quote, unsigned at, const void *words, unsigned n_words, uint16_t pseudo)
{
	unsigned n_all = RTE_MIN(quote->n_l4, LB_TCP_CHECKSUM_AT + 2) / 2; // all that may change
	uint16_t before = lb_sum_words(quote->l4, n_all);
	uint16_t change = lb_sum_change(lb_sum_words(quote->l4 + at, n_words), lb_sum_words(words, n_words));

	memcpy(quote->l4 + at, words, n_words * 2);
	change_l4(quote, lb_sum_add(change, pseudo));
	lb_quote_change(quote->icmp + 2, lb_sum_change(before, lb_sum_words(quote->l4, n_all)));
}

void lb_quote_rewrite(struct lb_quote *quote, bool source, const struct lb_addr *addr, uint16_t port_be)
{
	uint16_t change = lb_sum_address_change(source ? &quote->key.src : &quote->key.dst, addr);
	uint16_t before = lb_sum_words(quote->l3, (unsigned)(quote->l4 - quote->l3) / 2);

	if (port_be == 0)
		port_be = source ? quote->key.sport_be : quote->key.dport_be;
	if (*quote->l3 >> 4 == 4) {
		struct rte_ipv4_hdr *ip = (void *)quote->l3;
		uint32_t ipv4 = lb_addr_ipv4_be(addr);

		memcpy(quote->l3 + (source ? 12 : 16), &ipv4, sizeof(ipv4));
		ip->hdr_checksum = lb_checksum_change(ip->hdr_checksum, change);
	} else {
		struct rte_ipv6_hdr *ip = (void *)quote->l3;

		memcpy(source ? ip->src_addr : ip->dst_addr, addr, 16);
	}
	lb_quote_change(quote->icmp + 2,
		lb_sum_change(before, lb_sum_words(quote->l3, (unsigned)(quote->l4 - quote->l3) / 2)));
	lb_quote_write_l4(quote, source ? 0 : 2, &port_be, 1, change);
}

void lb_quote_write(struct lb_quote *quote, uint8_t *at, const void *words, unsigned n_words)
{
	lb_quote_change(quote->icmp + 2, lb_sum_change(lb_sum_words(at, n_words), lb_sum_words(words, n_words)));
	memcpy(at, words, n_words * 2);
}
