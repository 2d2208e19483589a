/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VLAN tags on the way out. What came in with one tag or none (parse drops stacked ones) leaves with what its next hop
 * says: the tag it has (LB_VLAN_KEEP), another VLAN in it, a new one in front, or none. Priority and drop-eligible bits
 * stay with a tag that is rewritten; a new one has them 0. A tag is no part of the IP packet, so MTUs are the same with
 * and without.
 */
#include "dataplane/vlan.h"

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "dataplane/headroom.h"

#define MACS_BYTES 12u
#define TAG_BYTES 4u
// IEEE 802.3, without FCS: what an untagged frame has at least. One that had it with its tag gets it again without.
#define FRAME_MIN_BYTES 60u

static inline bool is_tagged(const uint8_t *frame)
{
	return frame[MACS_BYTES] == 0x81 && frame[MACS_BYTES + 1] == 0;
}

static bool insert_tag(struct rte_mbuf *mbuf)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

	if (!lb_headroom_is_ours(mbuf, TAG_BYTES))
		return false;
	memmove(frame - TAG_BYTES, frame, MACS_BYTES);
	rte_pktmbuf_prepend(mbuf, TAG_BYTES);
	memcpy(frame - TAG_BYTES + MACS_BYTES, (uint8_t[TAG_BYTES]){0x81}, TAG_BYTES);
	return true;
}

static void remove_tag(struct rte_mbuf *mbuf)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	uint32_t n_bytes = mbuf->pkt_len;

	memmove(frame + TAG_BYTES, frame, MACS_BYTES);
	rte_pktmbuf_adj(mbuf, TAG_BYTES);
	if (n_bytes >= FRAME_MIN_BYTES && mbuf->pkt_len < FRAME_MIN_BYTES) {
		uint16_t n_pad = (uint16_t)(FRAME_MIN_BYTES - mbuf->pkt_len);
		void *pad = rte_pktmbuf_append(mbuf, n_pad);

		if (pad != NULL)
			memset(pad, 0, n_pad);
	}
}

/** @return false: no room for a tag. */
static bool apply(struct rte_mbuf *mbuf, uint16_t vlan)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	bool tagged = is_tagged(frame);

	if (vlan == LB_VLAN_NONE) {
		if (tagged)
			remove_tag(mbuf);
		return true;
	}
	if (!tagged && !insert_tag(mbuf))
		return false;
	frame = rte_pktmbuf_mtod(mbuf, uint8_t *) + MACS_BYTES + 2;
	frame[0] = (uint8_t)((frame[0] & 0xf0) | vlan >> 8);
	frame[1] = (uint8_t)vlan;
	return true;
}

void lb_stage_vlan(struct lb_worker *worker, struct lb_burst *burst)
{
	const struct lb_fib *fib = &worker->dp->fib;

	for (unsigned i = 0; i < burst->n; i++) {
		struct lb_packet *packet = &burst->packets[i];
		bool is_answer = burst->answered >> i & 1;
		uint16_t vlan;

		if (packet->verdict != LB_VERDICT_FORWARD && packet->verdict != LB_VERDICT_REPLY && !is_answer)
			continue;
		vlan = lb_fib_vlan(fib, burst->nexthops[i]);
		if (vlan == LB_VLAN_KEEP)
			continue;
		if (unlikely(!apply(burst->mbufs[i], vlan))) {
			burst->answered &= ~(1u << i);
			burst->settled &= ~(1u << i);
			if (!is_answer) // an answer's is that of what it answers
				packet->verdict = LB_VERDICT_NO_HEADROOM;
			continue;
		}
		packet->wire_bytes = burst->mbufs[i]->pkt_len;
	}
}
