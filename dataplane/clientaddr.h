/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_CLIENTADDR_H
#define LB_DATAPLANE_CLIENTADDR_H

#include "dataplane/fullnat.h"

/* What a new session of this service is to tell its backend: flags for lb_session. */
static inline uint8_t lb_client_address_flags(uint8_t client_address)
{
	return client_address == LB_CLIENT_ADDRESS_TOA	      ? LB_SESSION_TOA
	       : client_address == LB_CLIENT_ADDRESS_PROXY_V2 ? LB_SESSION_PROXY
							      : 0;
}

/**
 * Before packet @p i of a client is rewritten: remove TOA options that it brings, add ours or the PROXY header,
 * shift sequence numbers. @p mtu of the way to the backend.
 * @return FORWARD; TOO_BIG, NO_HEADROOM, TRUNCATED_L4: to be dropped. Worker.
 */
uint8_t lb_client_address_out(struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	struct lb_session *session, uint16_t mtu);

/** The same for a reply: acknowledgements, SACK blocks, MSS. @return FORWARD, TRUNCATED_L4. Worker. */
uint8_t lb_client_address_back(struct lb_burst *burst, unsigned i, struct lb_session *session);

/**
 * How many bytes we have put into the packet of a client that an ICMP error quotes, whose sequence number was @p seq, host
 * order (UDP: anything). @p seq_change: what makes that number the client's own. Worker.
 */
uint16_t lb_client_address_added(
	const struct lb_dp *dp, const struct lb_session *session, uint32_t seq, int32_t *seq_change);

/** What makes the acknowledgement in a quoted packet to the client the backend's own. Worker. */
int32_t lb_client_address_ack_shift(const struct lb_session *session);

#endif
