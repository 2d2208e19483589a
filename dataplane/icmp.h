/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_ICMP_H
#define LB_DATAPLANE_ICMP_H

#include "dataplane/burst.h"

struct lb_worker;

/* Types and codes: RFC 792, RFC 1191; RFC 4443. */
enum {
	LB_ICMP_ECHO_REPLY = 0,
	LB_ICMP_UNREACHABLE = 3,
	LB_ICMP_ECHO = 8,
	LB_ICMP_TIME_EXCEEDED = 11,
	LB_ICMP_PARAMETER = 12,
	LB_ICMP_PORT_UNREACHABLE = 3,     /* code */
	LB_ICMP_FRAGMENTATION_NEEDED = 4, /* code */
	LB_ICMP6_UNREACHABLE = 1,
	LB_ICMP6_TOO_BIG = 2,
	LB_ICMP6_TIME_EXCEEDED = 3,
	LB_ICMP6_PARAMETER = 4,
	LB_ICMP6_ECHO = 128,
	LB_ICMP6_ECHO_REPLY = 129,
	LB_ICMP6_PORT_UNREACHABLE = 4, /* code */
};

/** Whether @p key's protocol is the ICMP of its address family. */
static inline bool lb_icmp_is(unsigned family, uint8_t proto)
{
	return proto == (family == 4 ? 1 : 58);
}

/** Whether packet @p i is an ICMP error, or may be one: those are never answered. Worker. */
bool lb_icmp_is_error(const struct lb_burst *burst, unsigned i);

/**
 * An ICMP message, to a VIP or not: settles its verdict. An error that quotes a packet of a service goes where that
 * packet's flow goes, and is put into burst->to_service or to_client with its backend and hash; in nat mode what it
 * quotes is rewritten by then. packet->l4 becomes 0: what is left to do concerns the IP header alone. Worker.
 */
void lb_icmp_follow(struct lb_worker *worker, struct lb_burst *burst, unsigned i);

#endif
