/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_BURST_H
#define LB_DATAPLANE_BURST_H

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "lb/hash.h"
#include "lb/verdict.h"

#define LB_BURST 32u

/*
 * What the stages know of one packet. Offsets are from the start of the frame and lie within the first
 * segment: parse has checked that the headers they point to are there in full.
 */
struct lb_packet {
	uint8_t verdict; /* enum lb_verdict: HOST until a stage decides */
	uint8_t pending; /* parse: the drop reason if the packet turns out to be for a VIP; 0: none */
	uint8_t family;  /* 4, 6; 0: not IP */
	uint8_t tcp_flags;
	uint16_t l3; /* offset of the IP header */
	uint16_t l4; /* offset of the TCP or UDP header; 0: leave it alone, only the IP header is rewritten */
	uint16_t service;
	uint16_t backend;
	uint32_t wire_bytes; /* length of the frame */
};
static_assert(sizeof(struct lb_packet) == 16, "four to a cache line");

/*
 * A burst on its way through the stages: worker-private, reused. Stages hand packets on as lists of
 * indices; each stage does one thing to a whole list, so that what the next needs is fetched by then.
 */
struct lb_burst {
	unsigned n;
	uint16_t port; /* where it came from */
	struct rte_mbuf *mbufs[LB_BURST];
	struct lb_packet packets[LB_BURST] __attribute__((aligned(64)));
	struct lb_flow_key keys[LB_BURST]; /* same index as packets; see short_keys */
	struct lb_flow_key4 keys4[LB_BURST] __attribute__((aligned(64)));
	uint8_t ip_list[LB_BURST];  /* parse -> fast -> classify: TCP and UDP, and what a VIP may object to */
	unsigned n_ip;
	uint8_t to_service[LB_BURST]; /* classify -> flow -> rewrite */
	unsigned n_to_service;
	uint8_t to_client[LB_BURST];  /* classify -> rewrite: replies of nat backends */
	unsigned n_to_client;
	/*
	 * parse: bit per packet: plain IPv4, with its key in keys4, and not (or not known to be) in keys: see lb_burst_key(). In
	 * keys as well after lb_burst_lengthen().
	 */
	uint32_t short_keys;
	uint32_t plain6; /* parse: bit per packet: plain IPv6 */
	/*
	 * fast, miss: bit per packet: it is what its backend gets, has its next hop, and is in no list; its service and backend
	 * are not told, unless it is one of `misses`. Who changes its verdict after all clears the bit.
	 */
	uint32_t settled;
	bool mostly_services; /* parse: as were those of this port before; all are hashed by the fetch stage */
	bool mostly_hits;     /* parse: so were their flows known */
	bool mostly_strangers; /* parse: most were the host's */
	struct lb_flow_bucket *buckets[LB_BURST]; /* fetch: the first in which the flow may be */
	struct lb_flow_bucket *seconds[LB_BURST]; /* likewise the second; with mostly_hits, fast: of those not found in the first */
	uint32_t away; /* with them: bit per packet: the flow may be in the second */
	uint64_t hashes[LB_BURST]; /* by packet index; from the flow stage on, in the order of to_service */
	uint64_t nexthops[LB_BURST]; /* rewrite -> tx: next-hop word by packet index */
	uint16_t mtus[LB_BURST]; /* rewrite, with verdict TOO_BIG: the largest IP packet that fits, by packet index */
	uint32_t misses; /* bit per packet: a simple miss (miss.h), which is in no list between the miss stage's two steps */
	/* what its first step tells its second of them */
	uint32_t records; /* bit per packet: its flow is recorded, if it begins with this packet */
	uint32_t clamps;  /* likewise: its MSS option is looked at, if it is a SYN */
	uint64_t miss_hashes[LB_BURST]; /* by packet index, if there are other packets */
	uint64_t inserts_before;        /* likewise: flow.insert, as it was at the first step */
	uint8_t odd_list[LB_BURST]; /* classify -> odd: for a service or of a backend, but no plain TCP or UDP */
	unsigned n_odd;
	uint8_t answer_list[LB_BURST]; /* any stage -> answer: not forwarded, and its sender may be told why */
	unsigned n_answer;
	uint32_t held; /* odd -> tx: bit per packet: it waits (frag.c), its buffer is no longer the burst's */
	uint32_t answered; /* answer -> tx: bit per packet: its buffer now holds what answers it */
};
static_assert(LB_BURST <= 32, "a bit per packet");

/*
 * A *plain* packet is what traffic is made of: without VLAN tag, options, extension headers or fragments. The first
 * eight bytes of its struct lb_packet are the same for all of a family, but for the TCP flags: one comparison tells, and
 * every offset is a constant.
 */

/** What lb_packet_head() is of a plain packet with this verdict; @p family 4 or 6. */
static inline uint64_t lb_plain_head(uint8_t verdict, uint8_t family)
{
	uint64_t l3 = RTE_ETHER_HDR_LEN, l4 = l3 + (family == 4 ? 20 : 40);

	return (uint64_t)verdict << 8 * offsetof(struct lb_packet, verdict) |
	       (uint64_t)family << 8 * offsetof(struct lb_packet, family) |
	       l3 << 8 * offsetof(struct lb_packet, l3) | l4 << 8 * offsetof(struct lb_packet, l4);
}

static_assert(offsetof(struct lb_packet, service) == sizeof(uint64_t), "little endian, all of the head in one word");

/** The first eight bytes of @p packet without those of its TCP flags that are not in @p tcp_flags. */
static inline uint64_t lb_packet_head_with(const struct lb_packet *packet, uint8_t tcp_flags)
{
	uint64_t head;

	memcpy(&head, packet, sizeof(head));
	return head & ~((uint64_t)(uint8_t)~tcp_flags << 8 * offsetof(struct lb_packet, tcp_flags));
}

/** The first eight bytes of @p packet without its TCP flags. */
static inline uint64_t lb_packet_head(const struct lb_packet *packet)
{
	return lb_packet_head_with(packet, 0);
}

/** Service and backend of @p packet in one store. */
static inline void lb_packet_set(struct lb_packet *packet, uint32_t service, uint32_t backend)
{
	uint32_t both = service | backend << 16;

	static_assert(offsetof(struct lb_packet, backend) == offsetof(struct lb_packet, service) + 2,
		"little endian");
	memcpy(&packet->service, &both, sizeof(both));
}

/** The flow key of packet @p i, in whichever form it is there. */
static inline struct lb_flow_key lb_burst_key(const struct lb_burst *burst, unsigned i)
{
	return burst->short_keys >> i & 1 ? lb_flow_key_lengthen(&burst->keys4[i]) : burst->keys[i];
}

/** That packet's protocol alone. */
static inline uint8_t lb_burst_proto(const struct lb_burst *burst, unsigned i)
{
	return burst->short_keys >> i & 1 ? burst->keys4[i].proto : burst->keys[i].proto;
}

/** Have that key in burst->keys. */
static inline void lb_burst_lengthen(struct lb_burst *burst, unsigned i)
{
	const struct lb_flow_key4 *short_key = &burst->keys4[i];
	struct lb_flow_key *key = &burst->keys[i];
	// ports, protocol, zeros in one store; what comes behind is never anything else
	uint64_t end = short_key->sport_be | (uint64_t)short_key->dport_be << 16 | (uint64_t)short_key->proto << 32;

	if ((burst->short_keys >> i & 1) == 0)
		return;
	key->src = lb_addr_from_ipv4(short_key->src_be);
	key->dst = lb_addr_from_ipv4(short_key->dst_be);
	memcpy(&key->sport_be, &end, sizeof(end));
	static_assert(offsetof(struct lb_flow_key, proto) == offsetof(struct lb_flow_key, sport_be) + 4, "little endian");
}

/** Have the answer stage look at packet @p i, whose verdict says why it is not forwarded. */
static inline void lb_burst_answer(struct lb_burst *burst, unsigned i)
{
	burst->answer_list[burst->n_answer++] = (uint8_t)i;
}

/** Take the packets with a bit in @p packets out of ip_list. */
static inline void lb_burst_shorten(struct lb_burst *burst, uint32_t packets)
{
	unsigned n = burst->n_ip, n_left = 0;

	for (unsigned k = 0; k < n; k++) {
		uint8_t i = burst->ip_list[k];

		burst->ip_list[n_left] = i;
		n_left += (packets >> i & 1) == 0;
	}
	burst->n_ip = n_left;
}

/** All of the burst's packets as bits. */
static inline uint32_t lb_burst_all(const struct lb_burst *burst)
{
	return (uint32_t)((UINT64_C(1) << burst->n) - 1);
}

static inline uint8_t *lb_packet_at(const struct lb_burst *burst, unsigned i, uint16_t offset)
{
	const struct rte_mbuf *mbuf = burst->mbufs[i]; // the macro would read it twice

	return rte_pktmbuf_mtod_offset(mbuf, uint8_t *, offset);
}

/** Bytes of packet @p i from its IP header on, as that says; parse has checked that they are there. */
static inline uint32_t lb_packet_ip_bytes(const struct lb_burst *burst, unsigned i)
{
	const uint8_t *l3 = lb_packet_at(burst, i, burst->packets[i].l3);

	return burst->packets[i].family == 4 ? l3[2] * 256u + l3[3] : l3[4] * 256u + l3[5] + 40u;
}

#endif
