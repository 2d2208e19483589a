/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_QUOTE_H
#define LB_DATAPLANE_QUOTE_H

#include "dataplane/burst.h"

/*
 * The packet that an ICMP or ICMPv6 error quotes, as far as it does: hostile as everything else is, and every length
 * in it may lie. Worker.
 */
#define LB_ICMP_HEADER_BYTES 8u
#define LB_QUOTE_L4_MIN 8u /* RFC 792: what every error quotes at least behind the IP header */
#define LB_TCP_CHECKSUM_AT 16u
#define LB_UDP_CHECKSUM_AT 6u

struct lb_quote {
	uint8_t *icmp; /* the ICMP header */
	uint8_t *l3, *l4;
	uint32_t n_l4;          /* bytes behind its IP header that are there; lb_quote_parse(): LB_QUOTE_L4_MIN or more */
	struct lb_flow_key key; /* as it is written in the packet */
	bool more_fragments;    /* it is the first fragment of several */
	uint32_t fragment_id;   /* of it; network byte order, IPv4: in the last two bytes */
};

/**
 * Read the IP packet of @p family that begins at @p l3, of which @p n_bytes are there: addresses and protocol.
 * @return false: none, or a fragment other than the first.
 */
bool lb_quote_read_at(struct lb_quote *quote, uint8_t *l3, uint32_t n_bytes, unsigned family);

/** Read its ports. @return false: it has none, or they are not there. */
bool lb_quote_read_ports(struct lb_quote *quote);

/** The same for what packet @p i, an ICMP error, quotes. */
bool lb_quote_read(const struct lb_burst *burst, unsigned i, struct lb_quote *quote);

/** Both. */
bool lb_quote_parse(const struct lb_burst *burst, unsigned i, struct lb_quote *quote);

/**
 * One side of the quoted packet (its source, or its destination) becomes @p addr, of its family, and @p port_be (0: its
 * own). The checksums in it and the ICMP checksum, which covers it, follow: wrong ones stay wrong.
 */
void lb_quote_rewrite(struct lb_quote *quote, bool source, const struct lb_addr *addr, uint16_t port_be);

/** Change the @p n_words 16-bit words at @p at, in the ICMP header; the ICMP checksum follows. */
void lb_quote_write(struct lb_quote *quote, uint8_t *at, const void *words, unsigned n_words);

/**
 * Change the @p n_words 16-bit words @p at bytes behind the beginning of the quoted L4 header, which are there. Its checksum
 * follows, if it is there, and by @p pseudo, the change of addresses; and so does the ICMP checksum.
 */
void lb_quote_write_l4(struct lb_quote *quote, unsigned at, const void *words, unsigned n_words, uint16_t pseudo);

/** The checksum at @p field changes by ~m + m' (RFC 1624). */
void lb_quote_change(uint8_t *field, uint16_t change);

#endif
