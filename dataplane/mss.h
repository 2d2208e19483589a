/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_MSS_H
#define LB_DATAPLANE_MSS_H

#include <string.h>

#include "dataplane/dp.h"
#include "dataplane/worker.h"

#define LB_MSS_TCP_SYN 0x02u

/** Whether a packet of the burst may be a SYN or SYN/ACK: a load per packet, no branch. Worker. */
static inline bool lb_mss_any_syn(const struct lb_burst *burst)
{
	uint32_t heads = 0;

	for (unsigned i = 0; i < burst->n; i++) {
		uint32_t head;

		memcpy(&head, &burst->packets[i], sizeof(head)); // tcp_flags are its last byte
		heads |= head;
	}
	static_assert(offsetof(struct lb_packet, tcp_flags) == 3, "little endian");
	return heads >> 24 & LB_MSS_TCP_SYN;
}

/**
 * Lower the MSS option of packet @p i, a SYN or SYN/ACK that is still as it came, to what @p backend's service says
 * and the ports' MTUs allow. @p client_port and @p backend_port: where the connection's two sides are. Worker.
 */
void lb_mss_clamp(const struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	const struct lb_backend *backend, uint16_t client_port, uint16_t backend_port);

/** The same for all of the burst that is forwarded in mode nat and not settled, after the rewrite stage. Worker. */
void lb_stage_mss(const struct lb_worker *worker, struct lb_burst *burst);

#endif
