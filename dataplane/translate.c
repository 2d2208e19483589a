/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rewrites both sides of a packet. Within a family addresses, ports and TTL change in place. From one family to
 * the other the IP header is replaced (RFC 7915, sections 4.1 and 5.1); L4 checksums change by the difference of the
 * pseudo headers all the same, since length and protocol count alike in both. A fragment stays one: what IPv4 says of it
 * in its header, IPv6 does in one of its own.
 */
#include <netinet/in.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "dataplane/checksum.h"
#include "dataplane/frag.h"
#include "dataplane/fullnat.h"
#include "dataplane/headroom.h"

// RFC 7915, section 5.1: a packet that IPv6 would never have fragmented may be in IPv4.
#define IPV6_MIN_MTU 1280u

static void change_ipv4(struct rte_ipv4_hdr *ip, const struct lb_translation *change)
{
	uint16_t ttl = (uint16_t)~rte_cpu_to_be_16(0x0100); // one less in the high byte of its word

	ip->src_addr = lb_addr_ipv4_be(change->src);
	ip->dst_addr = lb_addr_ipv4_be(change->dst);
	ip->time_to_live--;
	ip->hdr_checksum = lb_checksum_change(ip->hdr_checksum, lb_sum_add(change->ip_sum, ttl));
}

static void change_ipv6(struct rte_ipv6_hdr *ip, const struct lb_translation *change)
{
	memcpy(ip->src_addr, change->src, 16);
	memcpy(ip->dst_addr, change->dst, 16);
	ip->hop_limits--;
}

// IPv6 has no UDP without a checksum (RFC 7915, section 4.5): made from the whole datagram, where there was none.
static void make_udp_checksum(struct rte_mbuf *mbuf, const struct rte_ipv6_hdr *ip, uint16_t l4)
{
	struct rte_udp_hdr *udp = rte_pktmbuf_mtod_offset(mbuf, struct rte_udp_hdr *, l4);
	uint16_t sum = lb_sum_mbuf(mbuf, l4, rte_be_to_cpu_16(udp->dgram_len));

	sum = lb_sum_add(sum, lb_sum_words(ip->src_addr, 16)); // and the destination, behind it
	sum = lb_sum_add(sum, lb_sum_add(udp->dgram_len, RTE_BE16(IPPROTO_UDP)));
	udp->dgram_cksum = sum != 0xffff ? (uint16_t)~sum : 0xffff;
}

static void change_l4(uint8_t *l4, uint8_t proto, const struct lb_translation *change)
{
	memcpy(l4, &change->sport_be, 2);
	memcpy(l4 + 2, &change->dport_be, 2);
	lb_checksum_change_l4(l4, proto, change->l4_sum);
}

static inline bool is_fragment(const struct lb_packet *packet)
{
	return unlikely(packet->pending == LB_VERDICT_FRAGMENT);
}

static uint32_t header_bytes_of(const struct lb_packet *packet, bool is_ipv4)
{
	if (is_ipv4)
		return sizeof(struct rte_ipv4_hdr);
	return (uint32_t)(sizeof(struct rte_ipv6_hdr) +
			  (is_fragment(packet) ? sizeof(struct rte_ipv6_fragment_ext) : 0));
}

/* What a new header takes over from the old one. */
struct kept {
	uint32_t at;      /* where the rest begins, in the frame */
	uint32_t n_bytes; /* of the rest */
	uint8_t proto;
	uint8_t traffic_class;
	uint8_t ttl;
	bool is_fragment;
	struct lb_frag_piece piece;
};

static struct kept keep(const struct lb_burst *burst, unsigned i)
{
	const struct lb_packet *packet = &burst->packets[i];
	const uint8_t *l3 = lb_packet_at(burst, i, packet->l3);
	struct kept kept = {.at = packet->l4, .proto = burst->keys[i].proto, .is_fragment = is_fragment(packet)};

	if (kept.is_fragment) {
		lb_frag_read(burst, i, &kept.piece);
		kept.at = kept.piece.at;
		kept.proto = kept.piece.proto;
	}
	kept.n_bytes = packet->l3 + lb_packet_ip_bytes(burst, i) - kept.at;
	if (packet->family == 4) {
		const struct rte_ipv4_hdr *ip = (const void *)l3;

		kept.traffic_class = ip->type_of_service;
		kept.ttl = ip->time_to_live;
	} else {
		const struct rte_ipv6_hdr *ip = (const void *)l3;

		kept.traffic_class = (uint8_t)(rte_be_to_cpu_32(ip->vtc_flow) >> 20);
		kept.ttl = ip->hop_limits;
	}
	return kept;
}

static void write_ipv4(struct lb_worker *worker, uint8_t *l3, const struct kept *kept,
	const struct lb_translation *change)
{
	struct rte_ipv4_hdr *ip = (void *)l3;
	uint32_t total_bytes = (uint32_t)sizeof(*ip) + kept->n_bytes;

	*ip = (struct rte_ipv4_hdr){.version_ihl = RTE_IPV4_VHL_DEF,
		.type_of_service = kept->traffic_class,
		.total_length = rte_cpu_to_be_16((uint16_t)total_bytes),
		.time_to_live = (uint8_t)(kept->ttl - 1),
		.next_proto_id = kept->proto,
		.src_addr = lb_addr_ipv4_be(change->src),
		.dst_addr = lb_addr_ipv4_be(change->dst)};
	if (kept->is_fragment) { // RFC 7915, section 5.1.1: the low half of the id
		ip->fragment_offset = rte_cpu_to_be_16((uint16_t)(kept->piece.from / 8 |
								  (kept->piece.more ? RTE_IPV4_HDR_MF_FLAG : 0)));
		memcpy(&ip->packet_id, (const uint8_t *)&kept->piece.key.id + 2, 2);
	} else if (total_bytes > IPV6_MIN_MTU - (uint32_t)sizeof(*ip)) {
		ip->fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG);
	} else {
		ip->packet_id = rte_cpu_to_be_16(worker->ipv4_id++);
	}
	ip->hdr_checksum = lb_checksum_ipv4(ip);
}

static void write_ipv6(uint8_t *l3, const struct kept *kept, const struct lb_translation *change)
{
	struct rte_ipv6_hdr *ip = (void *)l3;
	uint8_t *fragment = (uint8_t *)(ip + 1);
	uint32_t n_fragment = kept->is_fragment ? sizeof(struct rte_ipv6_fragment_ext) : 0;

	*ip = (struct rte_ipv6_hdr){.vtc_flow = rte_cpu_to_be_32(6u << 28 | (uint32_t)kept->traffic_class << 20),
		.payload_len = rte_cpu_to_be_16((uint16_t)(kept->n_bytes + n_fragment)),
		.proto = kept->is_fragment ? IPPROTO_FRAGMENT : kept->proto,
		.hop_limits = (uint8_t)(kept->ttl - 1)};
	memcpy(ip->src_addr, change->src, 16);
	memcpy(ip->dst_addr, change->dst, 16);
	if (kept->is_fragment) { // RFC 7915, section 4.1
		uint16_t word = rte_cpu_to_be_16((uint16_t)(kept->piece.from | kept->piece.more));

		memcpy(fragment, (uint8_t[]){kept->proto, 0}, 2);
		memcpy(fragment + 2, &word, 2);
		memset(fragment + 4, 0, 2);
		memcpy(fragment + 6, &kept->piece.key.id, 2); // of IPv4: in the first two bytes of what is kept
	}
}

// Make room for an IP header of header_bytes right in front of the rest, the link header before it.
static bool move_link_header(struct rte_mbuf *mbuf, const struct lb_packet *packet, uint32_t at, uint32_t header_bytes)
{
	int grow = (int)header_bytes - (int)(at - packet->l3);
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

	if (grow > 0 && !lb_headroom_is_ours(mbuf, (unsigned)grow))
		return false;
	memmove(frame - grow, frame, packet->l3);
	if (grow > 0)
		rte_pktmbuf_prepend(mbuf, (uint16_t)grow);
	else
		rte_pktmbuf_adj(mbuf, (uint16_t)-grow);
	return true;
}

/*
 * What has to be whole: a fragment whose L4 header comes after extension headers, which would change the place of all that
 * follows; UDP without a checksum towards IPv6, where it would have to be made from the datagram (RFC 7915, section 4.5).
 */
static bool cannot_be_a_fragment(const struct lb_burst *burst, unsigned i, const struct kept *kept)
{
	const struct lb_packet *packet = &burst->packets[i];
	const struct rte_udp_hdr *udp = (const void *)lb_packet_at(burst, i, packet->l4);

	if (packet->l4 == 0) // follows the first
		return false;
	return packet->l4 != kept->at ||
	       (packet->family == 4 && kept->proto == IPPROTO_UDP && udp->dgram_cksum == 0);
}

static uint8_t change_family(struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	const struct lb_translation *change)
{
	struct lb_packet *packet = &burst->packets[i];
	struct rte_mbuf *mbuf = burst->mbufs[i];
	struct kept kept = keep(burst, i);
	bool to_ipv4 = packet->family == 6;
	uint32_t header_bytes = header_bytes_of(packet, to_ipv4);
	uint16_t ether_type = to_ipv4 ? RTE_BE16(RTE_ETHER_TYPE_IPV4) : RTE_BE16(RTE_ETHER_TYPE_IPV6);
	uint8_t *frame;

	if (kept.is_fragment && cannot_be_a_fragment(burst, i, &kept))
		return LB_VERDICT_FRAGMENT;
	if (!move_link_header(mbuf, packet, kept.at, header_bytes))
		return LB_VERDICT_NO_HEADROOM;
	frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	memcpy(frame + packet->l3 - 2, &ether_type, 2);
	if (to_ipv4)
		write_ipv4(worker, frame + packet->l3, &kept, change);
	else
		write_ipv6(frame + packet->l3, &kept, change);
	packet->family = to_ipv4 ? 4 : 6;
	packet->wire_bytes = mbuf->pkt_len;
	if (packet->l4 == 0)
		return LB_VERDICT_FORWARD;
	packet->l4 = (uint16_t)(packet->l3 + header_bytes);
	change_l4(frame + packet->l4, kept.proto, change);
	if (!to_ipv4 && kept.proto == IPPROTO_UDP &&
		((struct rte_udp_hdr *)(frame + packet->l4))->dgram_cksum == 0)
		make_udp_checksum(mbuf, (void *)(frame + packet->l3), packet->l4);
	return LB_VERDICT_FORWARD;
}

uint32_t lb_translate_room(const struct lb_burst *burst, unsigned i, const struct lb_addr *dst, uint16_t mtu)
{
	const struct lb_packet *packet = &burst->packets[i];
	bool to_ipv4 = lb_addr_is_ipv4(dst);
	struct kept kept;

	if (likely(to_ipv4 == (packet->family == 4)))
		return mtu;
	kept = keep(burst, i);
	return mtu + (kept.at - packet->l3) - header_bytes_of(packet, to_ipv4);
}

uint8_t lb_translate(struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	const struct lb_translation *change)
{
	struct lb_packet *packet = &burst->packets[i];
	bool is_ipv4 = packet->family == 4;
	uint8_t *frame = lb_packet_at(burst, i, 0);

	if (unlikely(lb_addr_is_ipv4(change->dst) != is_ipv4))
		return change_family(worker, burst, i, change);
	if (is_ipv4)
		change_ipv4((void *)(frame + packet->l3), change);
	else
		change_ipv6((void *)(frame + packet->l3), change);
	if (likely(packet->l4 != 0))
		change_l4(frame + packet->l4, burst->keys[i].proto, change);
	return LB_VERDICT_FORWARD;
}
