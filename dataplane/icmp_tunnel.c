/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ICMP errors about packets that we put into a tunnel (ipip, gue): they come to the outer source, a local address of ours,
 * and quote the outer header. If the inner packet is quoted up to its ports, its sender is told about a packet too big as
 * if the way to the VIP ended here: nothing is remembered, the client lowers what it sends (RFC 2003, section 5.1, without
 * its soft state). It is believed that far only if its flow is one of a tunnel service and its backend the one that
 * the outer header was for.
 */
#include <netinet/in.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "dataplane/classify.h"
#include "dataplane/encap.h"
#include "dataplane/icmp_follow.h"
#include "dataplane/stages.h"

#define GUE_BYTES 4u

/*
 * Where the inner packet begins, in what is quoted behind the outer IP header. @return its family; 0: it cannot be a
 * tunnel's, or not enough is quoted to tell.
 */
static unsigned find_inner(const struct lb_quote *outer, uint32_t *offset)
{
	static const uint8_t n_gue = sizeof(struct rte_udp_hdr) + GUE_BYTES;
	const uint8_t *gue = outer->l4 + sizeof(struct rte_udp_hdr);
	uint8_t proto = outer->key.proto;

	*offset = 0;
	if (proto == IPPROTO_UDP) {
		// Version 0, a data message without fields: what we send.
		if (outer->n_l4 < n_gue || gue[0] != 0 || (gue[2] | gue[3]) != 0)
			return 0;
		proto = gue[1];
		*offset = n_gue;
	}
	return proto == IPPROTO_IPIP ? 4 : proto == IPPROTO_IPV6 ? 6 : 0;
}

bool lb_icmp_may_be_gue(const struct lb_dp *dp, const struct lb_quote *quote)
{
	uint32_t offset;

	if (quote->key.proto != IPPROTO_UDP || atomic_load_explicit(&dp->encaps, memory_order_acquire) == NULL)
		return false;
	if (quote->n_l4 >= sizeof(struct rte_udp_hdr) + GUE_BYTES)
		return find_inner(quote, &offset) != 0;
	return rte_be_to_cpu_16(quote->key.sport_be) >= LB_ENCAP_ENTROPY_PORTS;
}

// Whether the inner packet is a client's and the outer header one that it got from us. Fills in what is of use then.
static bool is_ours(struct lb_worker *worker, const struct lb_quote *outer, const struct lb_quote *inner, uint16_t *service_id)
{
	const struct lb_dp *dp = worker->dp;
	const struct lb_service *service;
	uint16_t id, dport_be;
	uint64_t hash;

	*service_id = LB_CLASSIFY_NONE;
	if (lb_source_is_bad(&inner->key)) // we have sent no such packet, and what answers it would go to many
		return false;
	*service_id = lb_classify_service(dp, &inner->key.dst, inner->key.dport_be, inner->key.proto);
	if (*service_id == LB_CLASSIFY_NONE)
		return false;
	service = &dp->services[*service_id];
	if (outer->key.proto == IPPROTO_UDP) {
		memcpy(&dport_be, outer->l4 + 2, 2);
		if (service->mode != LB_MODE_GUE || dport_be != service->gue_port_be)
			return false;
	} else if (service->mode != LB_MODE_IPIP) {
		return false;
	}
	lb_hash_flows(&dp->hash_key, &inner->key, &hash, 1);
	id = lb_icmp_backend(worker, *service_id, &inner->key, hash);
	return id != LB_BACKEND_NONE && lb_addr_equal(&dp->backends[id].addr, &outer->key.dst);
}

// What is quoted of the inner packet takes the place of the error, as if it had just come from the client.
static void unwrap(struct lb_burst *burst, unsigned i, const struct lb_quote *inner, unsigned family)
{
	struct lb_packet *packet = &burst->packets[i];
	struct rte_mbuf *mbuf = burst->mbufs[i];
	uint8_t *frame = lb_packet_at(burst, i, 0);
	uint32_t n_off = (uint32_t)(inner->l3 - frame) - packet->l3;
	uint32_t n_l3 = (uint32_t)(inner->l4 - inner->l3);
	uint16_t ether_type = family == 4 ? RTE_BE16(RTE_ETHER_TYPE_IPV4) : RTE_BE16(RTE_ETHER_TYPE_IPV6);

	rte_pktmbuf_trim(mbuf, (uint16_t)(mbuf->pkt_len - (packet->l3 + n_off + n_l3 + inner->n_l4)));
	memmove(frame + n_off, frame, packet->l3);
	memcpy(frame + n_off + packet->l3 - 2, &ether_type, 2);
	rte_pktmbuf_adj(mbuf, (uint16_t)n_off);
	packet->family = (uint8_t)family;
	packet->l4 = (uint16_t)(packet->l3 + n_l3);
	packet->pending = 0;
	burst->keys[i] = inner->key;
}

bool lb_icmp_tunnel(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote,
	uint8_t *verdict)
{
	struct lb_packet *packet = &burst->packets[i];
	uint32_t offset, n_outer, mtu;
	unsigned family = find_inner(quote, &offset);
	struct lb_quote inner;
	uint16_t service;

	if (family == 0 || !lb_quote_read_at(&inner, quote->l4 + offset, quote->n_l4 - offset, family) ||
		!lb_quote_read_ports(&inner) || !is_ours(worker, quote, &inner, &service)) {
		*verdict = LB_VERDICT_TUNNEL_QUOTE;
		return quote->key.proto == IPPROTO_IPIP || quote->key.proto == IPPROTO_IPV6;
	}
	packet->service = service;
	*verdict = LB_VERDICT_TUNNEL_ERROR;
	if (!lb_icmp_is_too_big(packet->family, quote->icmp) || burst->mbufs[i]->nb_segs != 1)
		return true;
	*verdict = LB_VERDICT_TUNNEL_TOO_BIG;
	n_outer = (uint32_t)(inner.l3 - quote->l3);
	mtu = lb_icmp_mtu(packet->family, quote);
	burst->mtus[i] = (uint16_t)lb_icmp_clamp_mtu(family, (int64_t)mtu - n_outer);
	unwrap(burst, i, &inner, family);
	lb_burst_answer(burst, i);
	return true;
}
