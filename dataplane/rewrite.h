/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_REWRITE_H
#define LB_DATAPLANE_REWRITE_H

#include "dataplane/dp.h"

/**
 * Precompute the checksum differences of @p backend from its addresses and ports (RFC 1624, eqn. 3). Before
 * anything refers to it. Main lcore.
 */
void lb_rewrite_prepare(struct lb_backend *backend);

/**
 * The 14 bytes of an Ethernet header without a tag, in two stores: what the first one writes of the port beside the MAC
 * address, the second covers.
 * @param nexthop next-hop word: destination MAC and port. @param src_mac of that port, see struct lb_worker. Worker.
 */
static inline void lb_write_ethernet(
	uint8_t *frame, uint64_t nexthop, uint64_t src_mac, uint16_t ether_type_be)
{
	src_mac |= (uint64_t)ether_type_be << 48;
	memcpy(frame, &nexthop, 8);
	memcpy(frame + 6, &src_mac, 8);
}

#endif
