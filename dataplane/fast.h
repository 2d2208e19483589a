/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_FAST_H
#define LB_DATAPLANE_FAST_H

#include "dataplane/burst.h"
#include "dataplane/dp.h"
#include "dataplane/rewrite.h"
#include "dataplane/worker.h"
#include "lb/decide.h"
#include "lb/flowtable.h"

/* The fast stage's own: fast.c, fast_direct.c; of it, miss.c has how a packet is sent. */

#define LB_FAST_DECIDING (LB_TCP_FIN | LB_TCP_SYN | LB_TCP_RST)

/* What it knows of a burst. */
struct lb_fast {
	const struct lb_backend *backends;
	struct lb_backend_counters *counters;
	const struct lb_encap *encaps; /* NULL: there is no tunnel */
	uint16_t established, udp; /* what an entry's low 16 bits are, but for LB_FLOW_PINNED, if it need not be touched */
	uint64_t entries[LB_BURST];  /* as they were found, by packet index; 0: none in the first bucket */
	uint64_t *entries_at[LB_BURST]; /* for lb_flowtable_lookup_end() */
	struct lb_flow_pending pending;
	uint32_t missing; /* bit per packet: it has no entry, and might have one */
	uint8_t direct[LB_BURST]; /* for lb_encap_list() */
	unsigned n_direct;
	uint32_t left; /* bit per packet: not settled */
	unsigned end;  /* index of the first RST, or LB_BURST */
};

/*
 * An entry's backend, its counters and its outer header, all by one distance: the id lies where a multiplication by 64 needs
 * no more than a shift and a mask.
 */
static inline size_t lb_fast_distance(uint64_t entry)
{
	return (entry >> 10) & (UINT16_MAX * UINT64_C(64));
}
static_assert(sizeof(struct lb_backend) == 64 && sizeof(struct lb_backend_counters) == 64, "one distance for all");

static inline const struct lb_backend *lb_fast_backend(const struct lb_fast *fast, size_t distance)
{
	return (const void *)((const uint8_t *)fast->backends + distance);
}

static inline struct lb_backend_counters *lb_fast_counters(const struct lb_fast *fast, size_t distance)
{
	return (void *)((uint8_t *)fast->counters + distance);
}

/* Whether an entry need not be touched for one more packet, which has TCP flags (@p tcp) or is UDP. */
static inline bool lb_fast_is_settled(const struct lb_fast *fast, uint64_t entry, bool tcp)
{
	return ((uint16_t)entry & (uint16_t)~LB_FLOW_PINNED) == (tcp ? fast->established : fast->udp);
}

static_assert(offsetof(struct lb_backend, vip_port_be) == offsetof(struct lb_backend, vip) + sizeof(struct lb_addr) &&
		      offsetof(struct lb_backend, proto) == offsetof(struct lb_backend, vip_port_be) + 2 &&
		      offsetof(struct lb_backend, way) == offsetof(struct lb_backend, proto) + 1,
	"address, port, protocol, way");

/*
 * A flow key's last words against a backend's: zero in every byte but the last, which is the backend's way (without
 * LB_WAY_IPV6), if both are of the same service.
 */
static inline uint64_t lb_fast_difference4(const struct lb_flow_key4 *key, const struct lb_backend *backend)
{
	uint64_t packet, its;

	memcpy(&packet, &key->dst_be, sizeof(packet));
	memcpy(&its, &backend->vip.u32[3], sizeof(its));
	static_assert(offsetof(struct lb_flow_key4, dport_be) == offsetof(struct lb_flow_key4, dst_be) + 4 &&
			      offsetof(struct lb_flow_key4, proto) == offsetof(struct lb_flow_key4, dst_be) + 6,
		"address, port, protocol, zero");
	return packet ^ its;
}

static inline uint64_t lb_fast_difference6(const struct lb_flow_key *key, const struct lb_backend *backend)
{
	uint32_t packet, its;

	memcpy(&packet, &key->dport_be, sizeof(packet));
	memcpy(&its, &backend->vip_port_be, sizeof(its));
	static_assert(offsetof(struct lb_flow_key, proto) == offsetof(struct lb_flow_key, dport_be) + 2,
		"port, protocol, zero");
	return (uint64_t)(packet ^ its ^ LB_WAY_IPV6 << 24) << 32 | !lb_addr_equal(&key->dst, &backend->vip);
}

/* Whether plain packet @p i of @p family is of the service of @p backend, and its way is @p way. */
static inline bool lb_fast_is_of(const struct lb_burst *burst, unsigned i, const struct lb_backend *backend,
	unsigned family, uint64_t way)
{
	if (family == 4)
		return lb_fast_difference4(&burst->keys4[i], backend) == way << 56;
	return lb_fast_difference6(&burst->keys[i], backend) == way << 56;
}

/* Plain packet @p i, of @p family and @p proto, which fits its port, to @p backend of mode nat, whose service has a port. */
static inline __attribute__((always_inline)) void lb_fast_send(struct lb_worker *worker, struct lb_burst *burst,
	unsigned i, uint64_t nexthop, const struct lb_backend *backend, struct lb_backend_counters *counters,
	unsigned family, uint8_t proto)
{
	struct lb_change change = lb_change_to_backend(backend);

	if (change.port_be == 0) // for that the service's would be, too
		__builtin_unreachable();
	lb_rewrite_plain(lb_packet_at(burst, i, 0), nexthop, lb_worker_source(worker, lb_nexthop_port(nexthop), family),
		family, proto, &change);
	burst->nexthops[i] = nexthop;
	counters->in_pkts++;
	counters->in_bytes += burst->packets[i].wire_bytes;
}

/* Whether a way is one for lb_fast_direct() and lb_encap_list(). */
static inline bool lb_fast_way_is_direct(uint64_t way)
{
	static_assert(LB_MODE_IPIP == LB_MODE_DSR + 1 && LB_MODE_GUE == LB_MODE_DSR + 2, "side by side");
	return way - LB_MODE_DSR <= LB_MODE_GUE - LB_MODE_DSR;
}

/*
 * Settle packet @p i, plain and of @p family, which has an entry, if it is for a backend of mode dsr, ipip or gue and there is
 * nothing else to it; then those behind it that go the same way.
 * @return how many: 0 if not even the first.
 */
unsigned lb_fast_direct(struct lb_worker *worker, const struct lb_fast *fast, unsigned i, unsigned family);

#endif
