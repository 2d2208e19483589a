/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fast stage for the modes whose replies do not pass here. One function for each kind of outer header and each family
 * of the packets: all lengths, and where everything lies, are constants. What is not as nearly all packets are is left to
 * encap.c, which says what an outer header has in it; tests/unit/test_fast.c holds the two against each other.
 */
#include "dataplane/encap.h"
#include "dataplane/fast.h"
#include "dataplane/outer.h"
#include "dataplane/rewrite.h"
#include "dataplane/worker.h"

static_assert(sizeof(struct lb_encap) == 64, "one distance for all");

static inline const struct lb_encap *encap_at(const struct lb_fast *fast, size_t distance)
{
	return (const void *)((const uint8_t *)fast->encaps + distance);
}

static inline bool kind_is_gue(enum lb_encap_kind kind)
{
	return kind == LB_ENCAP_GUE4 || kind == LB_ENCAP_GUE6;
}

static inline unsigned outer_ip_bytes(enum lb_encap_kind kind)
{
	return kind == LB_ENCAP_IPIP4 || kind == LB_ENCAP_GUE4 ? 20 : kind != LB_ENCAP_NONE ? 40 : 0;
}

static inline unsigned outer_bytes(enum lb_encap_kind kind)
{
	return outer_ip_bytes(kind) + (kind_is_gue(kind) ? (unsigned)sizeof(struct lb_udp_gue_hdr) : 0);
}

// One reference and one segment, in one comparison; its buffer its own; and room before the packet.
static inline bool may_grow(const struct rte_mbuf *mbuf, unsigned n_outer)
{
	uint32_t refcnt_nb_segs;
	uint8_t high_flags = (uint8_t)(mbuf->ol_flags >> 56);

	static_assert(offsetof(struct rte_mbuf, nb_segs) == offsetof(struct rte_mbuf, refcnt) + 2, "side by side");
	memcpy(&refcnt_nb_segs, &mbuf->refcnt, sizeof(refcnt_nb_segs));
	return likely(refcnt_nb_segs == 0x00010001u) &&
	       likely((high_flags & (RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL) >> 56) == 0) &&
	       likely(mbuf->data_off >= n_outer);
}

// Puts the outer header before a frame's IP packet, but for the Ethernet header. @return bytes of the frame by now.
static inline __attribute__((always_inline)) uint32_t wrap(struct rte_mbuf *mbuf, const struct lb_encap *encap,
	uint64_t hash, enum lb_encap_kind kind, uint8_t family, uint8_t proto)
{
	const unsigned n_ip = outer_ip_bytes(kind), n_outer = outer_bytes(kind);
	const uint16_t l3 = RTE_ETHER_HDR_LEN;
	uint8_t *inner = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, l3), *outer = inner - n_outer;
	uint32_t inner_bytes = lb_outer_inner_bytes(inner, family);
	uint64_t sum = 0;
	uint16_t first;

	if (family == 4)
		memcpy(&first, inner, sizeof(first)); // no options: it is right as it is
	else
		first = lb_outer_first_word(lb_outer_traffic_class(inner, family));

	lb_decrement_ttl(inner, family);
	if (kind == LB_ENCAP_GUE6)
		sum = lb_outer_inner_sum(mbuf, l3, l3 + (family == 4 ? 20 : 40), family, proto, inner_bytes);
	lb_outer_grow(mbuf, l3, n_outer, inner_bytes);
	memcpy(outer, encap->header + LB_ENCAP_MAX_BYTES - n_outer, n_outer);
	if (n_ip == 20)
		lb_outer_finish_ipv4(outer, encap, first, inner_bytes + n_outer);
	else
		lb_outer_finish_ipv6(outer, hash, (uint8_t)(first >> 8), inner_bytes + n_outer);
	if (kind_is_gue(kind))
		lb_outer_finish_udp(outer + n_ip, hash, inner_bytes + n_outer - n_ip);
	if (kind == LB_ENCAP_GUE6)
		lb_outer_finish_udp6_checksum(outer + n_ip, encap, sum);
	return l3 + n_outer + inner_bytes;
}

// Packet @p i. @p kind NONE: dsr. @return whether it has been dealt with.
static inline __attribute__((always_inline)) bool send_directly(struct lb_worker *worker, struct lb_burst *burst,
	const struct lb_fast *fast, unsigned i, enum lb_mode mode, enum lb_encap_kind kind, uint8_t family)
{
	struct lb_packet *packet = &burst->packets[i];
	uint8_t flags = packet->tcp_flags, *frame;
	uint64_t entry = fast->entries[i], nexthop;
	size_t distance = lb_fast_distance(entry);
	const struct lb_backend *backend = lb_fast_backend(fast, distance);
	struct lb_backend_counters *counters = lb_fast_counters(fast, distance);
	const struct lb_encap *encap = encap_at(fast, distance);
	struct rte_mbuf *mbuf = burst->mbufs[i];
	unsigned n_outer = outer_bytes(kind);
	uint16_t port;

	if (unlikely(flags & LB_FAST_DECIDING) || unlikely(!lb_fast_is_of(burst, i, backend, family, mode)) ||
		unlikely(!lb_fast_is_settled(fast, entry, flags != 0)))
		return false;
	nexthop = atomic_load_explicit(&backend->nexthop, memory_order_relaxed);
	port = lb_nexthop_port(nexthop);
	// padding included: if it does not fit, its IP packet may yet
	if (unlikely(packet->wire_bytes + n_outer > worker->frame_limits[port]))
		return false;
	if (kind != LB_ENCAP_NONE && (unlikely(encap->kind != kind) || unlikely(!may_grow(mbuf, n_outer))))
		return false;
	frame = rte_pktmbuf_mtod(mbuf, uint8_t *); // as it came
	counters->in_pkts++;
	counters->in_bytes += packet->wire_bytes;
	burst->nexthops[i] = nexthop;
	if (kind != LB_ENCAP_NONE) { // TCP without any flag is not let in
		packet->wire_bytes =
			wrap(mbuf, encap, burst->hashes[i], kind, family, flags != 0 ? IPPROTO_TCP : IPPROTO_UDP);
	} else {
		lb_decrement_ttl(frame + RTE_ETHER_HDR_LEN, family);
	}
	lb_write_ethernet(frame - n_outer, nexthop,
		lb_worker_source(worker, port, kind == LB_ENCAP_NONE ? family : outer_ip_bytes(kind) == 20 ? 4 : 6));
	return true;
}

/* Packets from @p i on, as long as they go this way. @return how many. */
typedef unsigned run_fn(struct lb_worker *worker, const struct lb_fast *fast, unsigned i);

static inline __attribute__((always_inline)) unsigned run(struct lb_worker *worker, const struct lb_fast *fast,
	unsigned first, enum lb_mode mode, enum lb_encap_kind kind, uint8_t family)
{
	struct lb_burst *burst = &worker->burst;
	uint64_t others = ~(uint64_t)(family == 4 ? burst->short_keys : burst->plain6);
	unsigned i, end = first + (unsigned)__builtin_ctzll(others >> first); // there are none beyond the burst's

	for (i = first; i < end; i++)
		if (unlikely(!send_directly(worker, burst, fast, i, mode, kind, family)))
			break;
	return i - first;
}

#define RUN(name, mode, kind)                                                                           \
	static __rte_noinline unsigned name##_4(struct lb_worker *worker, const struct lb_fast *fast, unsigned i) \
	{                                                                                               \
		return run(worker, fast, i, mode, kind, 4);                                             \
	}                                                                                               \
	static __rte_noinline unsigned name##_6(struct lb_worker *worker, const struct lb_fast *fast, unsigned i) \
	{                                                                                               \
		return run(worker, fast, i, mode, kind, 6);                                             \
	}
RUN(unwrapped, LB_MODE_DSR, LB_ENCAP_NONE)
RUN(in_ipv4, LB_MODE_IPIP, LB_ENCAP_IPIP4)
RUN(in_ipv6, LB_MODE_IPIP, LB_ENCAP_IPIP6)
RUN(in_gue4, LB_MODE_GUE, LB_ENCAP_GUE4)
RUN(in_gue6, LB_MODE_GUE, LB_ENCAP_GUE6)
#undef RUN

// By kind, as of encaps, and family.
static run_fn *const runs[][2] = {
	[LB_ENCAP_NONE] = {unwrapped_4, unwrapped_6},
	[LB_ENCAP_IPIP4] = {in_ipv4_4, in_ipv4_6},
	[LB_ENCAP_IPIP6] = {in_ipv6_4, in_ipv6_6},
	[LB_ENCAP_GUE4] = {in_gue4_4, in_gue4_6},
	[LB_ENCAP_GUE6] = {in_gue6_4, in_gue6_6},
};

unsigned lb_fast_direct(struct lb_worker *worker, const struct lb_fast *fast, unsigned i, unsigned family)
{
	const struct lb_burst *burst = &worker->burst;
	size_t distance = lb_fast_distance(fast->entries[i]);
	const struct lb_backend *backend = lb_fast_backend(fast, distance);
	uint64_t difference = family == 4 ? lb_fast_difference4(&burst->keys4[i], backend)
					  : lb_fast_difference6(&burst->keys[i], backend);
	unsigned kind = LB_ENCAP_NONE;

	if (difference << 8 != 0 || !lb_fast_way_is_direct(difference >> 56))
		return 0;
	if (difference >> 56 != LB_MODE_DSR)
		kind = encap_at(fast, distance)->kind; // NONE without a local address: it is not dsr's, and stays
	return runs[kind][family == 6](worker, fast, i);
}
