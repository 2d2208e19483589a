/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_ENCAP_H
#define LB_DATAPLANE_ENCAP_H

#include <rte_prefetch.h>

#include "dataplane/burst.h"
#include "dataplane/dp.h"

/* IPv6, UDP and GUE: the longest of the outer headers. */
#define LB_ENCAP_MAX_BYTES 52u

/* The source ports of gue: RFC 6335, section 6: the dynamic ports, 49152..65535. */
#define LB_ENCAP_ENTROPY_PORTS 0xc000u

enum lb_encap_kind { LB_ENCAP_NONE, LB_ENCAP_IPIP4, LB_ENCAP_IPIP6, LB_ENCAP_GUE4, LB_ENCAP_GUE6 };

/*
 * What goes in front of every packet to a tunnel backend, ready but for what depends on the packet: lengths, DSCP and
 * ECN, entropy, checksums; these are zero here. main lcore: wo, before anything refers to it or in a copy that
 * replaces the array; workers: ro.
 */
struct lb_encap {
	uint8_t header[LB_ENCAP_MAX_BYTES]; /* at its end, so that workers copy a fixed length */
	uint8_t kind;    /* enum lb_encap_kind, by outer family; NONE: no local address of that family */
	uint8_t n_bytes; /* of `header` */
	uint16_t ip_checksum; /* IPv4: of the IP header as it is here, but without its first two bytes */
	uint16_t udp_sum; /* GUE over IPv6: of pseudo header, UDP and GUE header, as they are here */
	uint8_t zero[6];
} __attribute__((aligned(64)));
static_assert(sizeof(struct lb_encap) == 64, "one cache line per tunnel backend");

/**
 * Make the outer header of backend @p id, of tunnel service @p service, at @p addr.
 * @param fresh no worker can still use the id: written in place; else readers see it with the next commit.
 * @return 0, -ENOMEM. Main lcore.
 */
int lb_encap_prepare(struct lb_dp *dp, uint16_t id, const struct lb_service *service,
	const struct lb_addr *addr, bool fresh);

/**
 * Make the outer headers of all tunnel backends anew, of service @p service only unless it is NULL: local addresses
 * or a GUE port changed. @return 0, -ENOMEM. Main lcore.
 */
int lb_encap_prepare_all(struct lb_dp *dp, const struct lb_service *service);

/** Let workers see what lb_encap_prepare() changed; the array before is retired. Main lcore, in lb_dp_commit(). */
void lb_encap_commit(struct lb_dp *dp);

/**
 * Fetch what lb_encap_list() will need for packet @p i, which is for @p backend of mode @p mode.
 * @param encaps dp->encaps, NULL if there is no tunnel. Worker.
 */
static inline void lb_encap_prefetch(const struct lb_encap *encaps, const struct lb_burst *burst, unsigned i,
	uint16_t backend, uint8_t mode)
{
	if (!lb_mode_is_tunnel(mode))
		return;
	rte_prefetch0(&encaps[backend]);
	rte_prefetch0(lb_packet_at(burst, i, 0) - RTE_CACHE_LINE_SIZE); // where the header goes
}

/**
 * The rewrite stage for what is not nat: packets list[0..n-1], with verdict FORWARD and their backends. @p hashes of their
 * flows, by packet index. Worker.
 */
void lb_encap_list(struct lb_worker *worker, struct lb_burst *burst, const uint8_t *list, const uint64_t *hashes,
	unsigned n);

#endif
