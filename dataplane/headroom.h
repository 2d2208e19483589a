/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_HEADROOM_H
#define LB_DATAPLANE_HEADROOM_H

#include <rte_mbuf.h>

/**
 * Whether there are @p n_bytes in front of a packet for us to write: nobody else may see it. What a NIC received is ours
 * alone, also in memory of its own (external: AF_XDP's, a guest's, a large buffer cut into pieces); but a clone's memory is
 * another buffer's too, and a clone of one with external memory does not call itself a clone: the memory's own count tells.
 */
static inline bool lb_headroom_is_ours(const struct rte_mbuf *mbuf, unsigned n_bytes)
{
	if (unlikely(mbuf->data_off < n_bytes) || unlikely(rte_mbuf_refcnt_read(mbuf) != 1))
		return false;
	if (likely(RTE_MBUF_DIRECT(mbuf)))
		return true;
	return !RTE_MBUF_CLONED(mbuf) && rte_mbuf_ext_refcnt_read(mbuf->shinfo) == 1;
}

#endif
