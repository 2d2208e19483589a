/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_TCPOPT_H
#define LB_DATAPLANE_TCPOPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_tcp.h>

#include "dataplane/burst.h"
#include "dataplane/checksum.h"

/* TCP options: walking through them, and keeping the checksum right when some are changed. Worker. */

#define LB_TCPOPT_NOP 1u
#define LB_TCPOPT_MSS 2u
#define LB_TCPOPT_SACK 5u
#define LB_TCPOPT_TOA 254u

/* One option. */
struct lb_tcpopt {
	uint8_t *at; /* kind, length, ... */
	unsigned kind, n_bytes;
};

static inline unsigned lb_tcp_header_bytes(const struct rte_tcp_hdr *tcp)
{
	return (tcp->data_off >> 4) * 4u;
}

/** Whether all of packet @p i's TCP header is in the first segment: parse has checked the first 20 bytes only. */
static inline bool lb_tcp_header_is_readable(const struct lb_burst *burst, unsigned i)
{
	const struct rte_tcp_hdr *tcp = (const void *)lb_packet_at(burst, i, burst->packets[i].l4);

	return burst->packets[i].l4 + lb_tcp_header_bytes(tcp) <= burst->mbufs[i]->data_len;
}

/**
 * The option at @p at or after it, which moves behind it. As Linux reads them: what follows a malformed one is not
 * read. @return false: there is none.
 */
static inline bool lb_tcpopt_next(uint8_t **at, const uint8_t *end, struct lb_tcpopt *option)
{
	while (*at < end && **at == LB_TCPOPT_NOP)
		(*at)++;
	if (end - *at < 2 || (*at)[0] == 0)
		return false;
	*option = (struct lb_tcpopt){.at = *at, .kind = (*at)[0], .n_bytes = (*at)[1]};
	if (option->n_bytes < 2 || option->n_bytes > (size_t)(end - *at))
		return false;
	*at += option->n_bytes;
	return true;
}

/** Sum of all options, for the checksum's change: an option may begin at an odd place. */
static inline uint16_t lb_tcpopt_sum(const struct rte_tcp_hdr *tcp)
{
	return lb_sum_words(tcp + 1, (lb_tcp_header_bytes(tcp) - (unsigned)sizeof(*tcp)) / 2);
}

/** Options whose sum was @p before have been changed in place. */
static inline void lb_tcpopt_changed(struct rte_tcp_hdr *tcp, uint16_t before)
{
	tcp->cksum = lb_checksum_change(tcp->cksum, lb_sum_change(before, lb_tcpopt_sum(tcp)));
}

#endif
