/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_BURST_H
#define LB_DATAPLANE_BURST_H

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
	uint16_t l4; /* offset of the TCP or UDP header */
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
	struct lb_packet packets[LB_BURST];
	struct lb_flow_key keys[LB_BURST]; /* same index as packets */
	uint8_t ip_list[LB_BURST];  /* parse -> classify: TCP and UDP, and what a VIP may object to */
	unsigned n_ip;
	uint8_t to_service[LB_BURST]; /* classify -> flow -> rewrite */
	unsigned n_to_service;
	uint8_t to_client[LB_BURST];  /* classify -> rewrite: replies of nat backends */
	unsigned n_to_client;
	bool mostly_services; /* fetch: as were those of this port before; all are hashed already */
	uint64_t hashes[LB_BURST]; /* by packet index; from the flow stage on, in the order of to_service */
	uint64_t nexthops[LB_BURST]; /* rewrite -> tx: next-hop word by packet index */
	uint16_t mtus[LB_BURST]; /* rewrite, with verdict TOO_BIG: the largest IP packet that fits, by packet index */
};

static inline uint8_t *lb_packet_at(const struct lb_burst *burst, unsigned i, uint16_t offset)
{
	return rte_pktmbuf_mtod_offset(burst->mbufs[i], uint8_t *, offset);
}

#endif
