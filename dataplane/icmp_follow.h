/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_ICMP_FOLLOW_H
#define LB_DATAPLANE_ICMP_FOLLOW_H

#include "dataplane/fullnat.h"
#include "dataplane/quote.h"

/*
 * ICMP errors, the parts of icmp.c: those that quote a packet of a fullnat session (icmp_session.c, icmp_family.c), and
 * those that quote one of our tunnels' (icmp_tunnel.c). Each settles packet @p i and @return its verdict. Worker.
 */

/** Whether packet @p i may be forwarded by another hop. */
static inline bool lb_icmp_ttl_is_left(const struct lb_burst *burst, unsigned i)
{
	const struct lb_packet *packet = &burst->packets[i];

	return lb_packet_at(burst, i, packet->l3)[packet->family == 4 ? 8 : 7] > 1;
}

/** An error to the VIP of a fullnat @p service. */
uint8_t lb_icmp_session_to_backend(
	struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote, uint16_t service);

/** One to a local address, about a packet from there to a backend. */
uint8_t lb_icmp_session_to_client(
	struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote);

/* What an error about a session's packet becomes. */
struct lb_icmp_change {
	const struct lb_addr *src, *dst;               /* its own: of the family that it is to have */
	const struct lb_addr *quoted_src, *quoted_dst; /* of what it quotes, likewise */
	uint16_t quoted_sport_be, quoted_dport_be;
	int32_t seq, ack; /* of a quoted TCP header: what is added */
	uint16_t added;   /* bytes that we put into the quoted packet, beside what another family's header takes */
};

/** Whether this type and code say that the quoted packet was too big. */
static inline bool lb_icmp_is_too_big(unsigned family, const uint8_t *icmp)
{
	return family == 6 ? icmp[0] == 2 : icmp[0] == 3 && icmp[1] == 4;
}

/**
 * The MTU that it says; where an old router says none (RFC 1191, section 5), the next lower plateau below the length of
 * what it quotes.
 */
uint32_t lb_icmp_mtu(unsigned family, const struct lb_quote *quote);

/** An MTU within what errors of @p family may say: from the least of all to 65535. */
uint32_t lb_icmp_clamp_mtu(unsigned family, int64_t mtu);

/**
 * Turn an ICMP error into one of the other family (RFC 7915, sections 4.2 to 4.5 and 5.2 to 5.5): it is made anew, of
 * 1280 bytes at most; extensions (RFC 4884) go. TTL less one; MACs are the caller's.
 * @return FORWARD; ICMP_UNTRANSLATED; ICMP_MALFORMED: its checksum or lengths are wrong; NO_HEADROOM.
 */
uint8_t lb_icmp_change_family(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote,
	const struct lb_icmp_change *change);

/**
 * Whether an error to a local address quotes a tunnel's packet, so far as that can be seen: then it is settled, and
 * *verdict says how.
 */
bool lb_icmp_tunnel(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_quote *quote,
	uint8_t *verdict);

/** Whether what is quoted looks like a gue packet, as far as it is there; no session has to do with it. */
bool lb_icmp_may_be_gue(const struct lb_dp *dp, const struct lb_quote *quote);

/** icmp.c: the backend of a flow: of its entry, whichever worker has that, else as lb_flow_find() says. */
uint16_t lb_icmp_backend(struct lb_worker *worker, uint16_t service, const struct lb_flow_key *flow, uint64_t hash);

#endif
