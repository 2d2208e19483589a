/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stage 4, rewrite, for the modes whose replies do not pass here: dsr gives the packet the backend's MAC address, ipip
 * and gue put it whole behind another header. What the sender wrote stays, but for the TTL: we are a hop on its
 * way (RFC 2003, section 3.1; IPVS does the same in all its modes, as packets could circle for ever otherwise).
 *
 * Outer headers: TTL 64, DF, id 0 (RFC 6864: atomic), DSCP and ECN of the inner one (RFC 6040, normal mode). The flow's
 * hash is in the IPv6 flow label (RFC 6438) and the UDP source port, for the NICs and routers that spread load by these.
 * The outer UDP checksum is zero over IPv4 (RFC 768) and computed over IPv6, since kernels refuse a zero one there
 * unless told otherwise (RFC 6935): from the inner headers alone, as the inner checksum says what the rest sums up to.
 */
#include "dataplane/encap.h"

#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_udp.h>

#include "dataplane/headroom.h"
#include "dataplane/outer.h"
#include "dataplane/rewrite.h"
#include "dataplane/worker.h"

#define OUTER_TTL 64u
#define IP4_DF 0x4000u

/* Making headers. */

static void build_ip(struct lb_encap *encap, const struct lb_addr *from, const struct lb_addr *to,
	uint8_t proto)
{
	uint8_t *header = encap->header + LB_ENCAP_MAX_BYTES - encap->n_bytes;

	if (lb_addr_is_ipv4(to)) {
		struct rte_ipv4_hdr ip = {.version_ihl = 0x45, .time_to_live = OUTER_TTL, .next_proto_id = proto,
			.fragment_offset = RTE_BE16(IP4_DF), .src_addr = lb_addr_ipv4_be(from),
			.dst_addr = lb_addr_ipv4_be(to)};

		memcpy(header, &ip, sizeof(ip));
		ip.version_ihl = 0; // of the first word, which is not always the same
		encap->ip_checksum = (uint16_t)~lb_sum_fold(lb_sum_of(&ip, sizeof(ip)));
	} else {
		struct rte_ipv6_hdr ip = {.vtc_flow = RTE_BE32(0x60000000u), .proto = proto, .hop_limits = OUTER_TTL};

		memcpy(ip.src_addr, from, sizeof(ip.src_addr));
		memcpy(ip.dst_addr, to, sizeof(ip.dst_addr));
		memcpy(header, &ip, sizeof(ip));
	}
}

static void build(struct lb_encap *encap, const struct lb_locals *locals, const struct lb_service *service,
	const struct lb_addr *addr)
{
	bool ipv4 = lb_addr_is_ipv4(addr);
	const struct lb_addr *from = lb_local_of_family(locals, ipv4);
	uint8_t inner = lb_addr_is_ipv4(&service->key.addr) ? IPPROTO_IPIP : IPPROTO_IPV6;
	bool gue = service->mode == LB_MODE_GUE;

	memset(encap, 0, sizeof(*encap));
	if (from == NULL)
		return;
	encap->kind = gue ? (ipv4 ? LB_ENCAP_GUE4 : LB_ENCAP_GUE6) : ipv4 ? LB_ENCAP_IPIP4 : LB_ENCAP_IPIP6;
	encap->n_bytes = ipv4 ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr);
	if (gue) {
		struct lb_udp_gue_hdr header = {.udp.dst_port = service->gue_port_be, .gue.proto = inner};

		encap->n_bytes += sizeof(header);
		memcpy(encap->header + LB_ENCAP_MAX_BYTES - sizeof(header), &header, sizeof(header));
		encap->udp_sum = lb_sum_fold(lb_sum_of(from, 16) + lb_sum_of(addr, 16) +
				      lb_sum_of(&header, sizeof(header)) + RTE_BE16(IPPROTO_UDP));
	}
	build_ip(encap, from, addr, gue ? IPPROTO_UDP : inner);
}

#define ENCAPS_BYTES ((LB_MAX_BACKENDS + 1u) * sizeof(struct lb_encap))

int lb_encap_prepare(struct lb_dp *dp, uint16_t id, const struct lb_service *service,
	const struct lb_addr *addr, bool fresh)
{
	struct lb_encap encap, *now = dp->encaps;

	if (now == NULL) { // no tunnel yet: most never have one
		now = rte_zmalloc("encaps", ENCAPS_BYTES, 64);
		if (now == NULL)
			return -ENOMEM;
		atomic_store_explicit(&dp->encaps, now, memory_order_release);
	}
	build(&encap, dp->locals, service, addr);
	if (memcmp(dp->next_encaps != NULL ? &dp->next_encaps[id] : &now[id], &encap, sizeof(encap)) == 0)
		return 0;
	if (fresh) {
		now[id] = encap;
	} else if (dp->next_encaps == NULL) {
		dp->next_encaps = rte_malloc("encaps", ENCAPS_BYTES, 64);
		if (dp->next_encaps == NULL)
			return -ENOMEM;
		memcpy(dp->next_encaps, now, ENCAPS_BYTES);
	}
	if (dp->next_encaps != NULL)
		dp->next_encaps[id] = encap;
	return 0;
}

int lb_encap_prepare_all(struct lb_dp *dp, const struct lb_service *service)
{
	int rc = 0;

	for (unsigned i = 0; i < LB_MAX_BACKENDS && rc == 0; i++) {
		const struct lb_backend *backend = &dp->backends[i];
		const struct lb_service *its = &dp->services[backend->service];

		if (backend->in_use && lb_mode_is_tunnel(backend->mode) && (service == NULL || service == its))
			rc = lb_encap_prepare(dp, (uint16_t)i, its, &backend->addr, false);
	}
	return rc;
}

void lb_encap_commit(struct lb_dp *dp)
{
	if (dp->next_encaps == NULL)
		return;
	lb_dp_retire(dp, atomic_exchange(&dp->encaps, dp->next_encaps));
	dp->next_encaps = NULL;
}

/* Using them. */

// What is to be put around a packet, and where it goes.
struct wrap {
	const struct lb_worker *worker;
	struct lb_burst *burst;
	unsigned i;
	const struct lb_encap *encap;
	uint64_t hash;
	uint64_t nexthop;
};

// One per kind: the outer header's length and family are constants in each.
static inline __attribute__((always_inline)) uint8_t encapsulate(const struct wrap *wrap, bool outer4, bool gue)
{
	const unsigned n_ip = outer4 ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr);
	const unsigned n_outer = n_ip + (gue ? (unsigned)sizeof(struct lb_udp_gue_hdr) : 0);
	const struct lb_worker *worker = wrap->worker;
	struct lb_burst *burst = wrap->burst;
	const struct lb_packet *packet = &burst->packets[wrap->i];
	struct rte_mbuf *mbuf = burst->mbufs[wrap->i];
	uint8_t *inner = lb_packet_at(burst, wrap->i, packet->l3), *outer = inner - n_outer;
	uint32_t inner_bytes = lb_outer_inner_bytes(inner, packet->family), n_bytes = inner_bytes + n_outer;
	uint16_t port = lb_nexthop_port(wrap->nexthop);
	uint8_t tos = lb_outer_traffic_class(inner, packet->family);
	uint64_t sum = 0;
	uint32_t vlan;

	if (unlikely(n_bytes > worker->mtus[port])) {
		burst->mtus[wrap->i] = worker->mtus[port] > n_outer ? (uint16_t)(worker->mtus[port] - n_outer) : 0;
		return LB_VERDICT_TOO_BIG;
	}
	if (unlikely(!lb_headroom_is_ours(mbuf, n_outer)))
		return LB_VERDICT_NO_HEADROOM;
	lb_decrement_ttl(inner, packet->family);
	if (gue && !outer4)
		sum = lb_outer_inner_sum(
			mbuf, packet->l3, packet->l4, packet->family, lb_burst_proto(burst, wrap->i), inner_bytes);
	memcpy(&vlan, inner - 6, sizeof(vlan)); // if there is one
	if (likely(mbuf->nb_segs == 1))
		lb_outer_grow(mbuf, packet->l3, n_outer, inner_bytes);
	else
		rte_pktmbuf_prepend(mbuf, (uint16_t)n_outer);
	memcpy(outer, wrap->encap->header + LB_ENCAP_MAX_BYTES - n_outer, n_outer);
	lb_write_ethernet(outer - packet->l3, wrap->nexthop, lb_worker_source(worker, port, outer4 ? 4 : 6));
	if (packet->l3 != RTE_ETHER_HDR_LEN) {
		memcpy(outer - 6, &vlan, sizeof(vlan));
		memcpy(outer - 2, outer4 ? "\x08\x00" : "\x86\xdd", 2);
	}
	if (outer4)
		lb_outer_finish_ipv4(outer, wrap->encap, lb_outer_first_word(tos), n_bytes);
	else
		lb_outer_finish_ipv6(outer, wrap->hash, tos, n_bytes);
	if (gue)
		lb_outer_finish_udp(outer + n_ip, wrap->hash, n_bytes - n_ip);
	if (gue && !outer4)
		lb_outer_finish_udp6_checksum(outer + n_ip, wrap->encap, sum);
	return LB_VERDICT_FORWARD;
}

static inline uint8_t put_in_ipv4(const struct wrap *wrap)
{
	return encapsulate(wrap, true, false);
}

static inline uint8_t put_in_ipv6(const struct wrap *wrap)
{
	return encapsulate(wrap, false, false);
}

static inline uint8_t put_in_gue4(const struct wrap *wrap)
{
	return encapsulate(wrap, true, true);
}

static inline uint8_t put_in_gue6(const struct wrap *wrap)
{
	return encapsulate(wrap, false, true);
}

static inline uint8_t put_nowhere(const struct wrap *wrap)
{
	const struct lb_worker *worker = wrap->worker;
	struct lb_burst *burst = wrap->burst;
	const struct lb_packet *packet = &burst->packets[wrap->i];
	uint8_t *frame = lb_packet_at(burst, wrap->i, 0);
	uint16_t port = lb_nexthop_port(wrap->nexthop);

	if (unlikely(lb_outer_inner_bytes(frame + packet->l3, packet->family) > worker->mtus[port])) {
		burst->mtus[wrap->i] = worker->mtus[port];
		return LB_VERDICT_TOO_BIG;
	}
	lb_decrement_ttl(frame + packet->l3, packet->family);
	memcpy(frame, &wrap->nexthop, 6);
	memcpy(frame + 6, &worker->src_macs[port], 6);
	return LB_VERDICT_FORWARD;
}

// What the fast stage did not tell of the packet is made good: the stages behind it may ask.
static __rte_noinline void refuse(const struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint8_t verdict)
{
	struct lb_packet *packet = &burst->packets[i];

	packet->verdict = verdict;
	if (burst->settled >> i & 1) {
		burst->settled &= ~(UINT32_C(1) << i);
		packet->service = worker->dp->backends[packet->backend].service;
	}
	if (verdict == LB_VERDICT_TOO_BIG)
		lb_burst_answer(burst, i);
}

/*
 * Packets list[0..n-1] of the list, as long as they are of the same kind as the first: so many. @p kind tells a packet's,
 * @p wrap_one deals with it.
 */
static inline __attribute__((always_inline)) unsigned wrap_run(struct lb_worker *worker, struct lb_burst *burst,
	const struct lb_encap *encaps, const uint8_t *list, const uint64_t *hashes, unsigned n, uint8_t mode,
	uint8_t kind, uint8_t (*wrap_one)(const struct wrap *wrap))
{
	const struct lb_backend *backends = worker->dp->backends;
	struct wrap wrap = {.worker = worker, .burst = burst};
	unsigned m;

	for (m = 0; m < n; m++) {
		struct lb_packet *packet = &burst->packets[wrap.i = list[m]];
		const struct lb_backend *backend = &backends[packet->backend];
		struct lb_backend_counters *counters;
		uint8_t verdict;

		if (unlikely(backend->mode != mode))
			break;
		if (mode != LB_MODE_DSR) {
			wrap.encap = &encaps[packet->backend];
			if (unlikely(wrap.encap->kind != kind))
				break;
		}
		wrap.nexthop = atomic_load_explicit(&backend->nexthop, memory_order_relaxed);
		if (unlikely(lb_nexthop_port(wrap.nexthop) >= worker->n_ports)) {
			refuse(worker, burst, wrap.i, LB_VERDICT_NEXTHOP_UNRESOLVED);
			continue;
		}
		wrap.hash = hashes[wrap.i];
		verdict = wrap_one(&wrap);
		if (unlikely(verdict != LB_VERDICT_FORWARD)) {
			refuse(worker, burst, wrap.i, verdict);
			continue;
		}
		burst->nexthops[wrap.i] = wrap.nexthop;
		counters = &worker->counters->backends[packet->backend];
		counters->in_pkts++;
		counters->in_bytes += packet->wire_bytes;
		packet->wire_bytes = burst->mbufs[wrap.i]->pkt_len;
	}
	return m;
}

#define RUN(name, mode, kind, wrap_one)                                                            \
	static __rte_noinline unsigned name(struct lb_worker *worker, struct lb_burst *burst,      \
		const struct lb_encap *encaps, const uint8_t *list, const uint64_t *hashes, unsigned n) \
	{                                                                                          \
		return wrap_run(worker, burst, encaps, list, hashes, n, mode, kind, wrap_one);             \
	}
RUN(run_directly, LB_MODE_DSR, LB_ENCAP_NONE, put_nowhere)
RUN(run_in_ipv4, LB_MODE_IPIP, LB_ENCAP_IPIP4, put_in_ipv4)
RUN(run_in_ipv6, LB_MODE_IPIP, LB_ENCAP_IPIP6, put_in_ipv6)
RUN(run_in_gue4, LB_MODE_GUE, LB_ENCAP_GUE4, put_in_gue4)
RUN(run_in_gue6, LB_MODE_GUE, LB_ENCAP_GUE6, put_in_gue6)
#undef RUN

// The first packet of the list and those after it that are of its kind. @return how many, at least 1.
static unsigned run(struct lb_worker *worker, struct lb_burst *burst, const struct lb_encap *encaps,
	const uint8_t *list, const uint64_t *hashes, unsigned n)
{
	struct lb_packet *packet = &burst->packets[list[0]];
	uint8_t mode = worker->dp->backends[packet->backend].mode;

	if (mode == LB_MODE_DSR)
		return run_directly(worker, burst, encaps, list, hashes, n);
	if (unlikely(!lb_mode_is_tunnel(mode))) {
		refuse(worker, burst, list[0], LB_VERDICT_MODE_UNSUPPORTED); // fullnat's fragment, see fullnat.c
		return 1;
	}
	switch (encaps[packet->backend].kind) {
	case LB_ENCAP_IPIP4:
		return run_in_ipv4(worker, burst, encaps, list, hashes, n);
	case LB_ENCAP_IPIP6:
		return run_in_ipv6(worker, burst, encaps, list, hashes, n);
	case LB_ENCAP_GUE4:
		return run_in_gue4(worker, burst, encaps, list, hashes, n);
	case LB_ENCAP_GUE6:
		return run_in_gue6(worker, burst, encaps, list, hashes, n);
	default:
		refuse(worker, burst, list[0], LB_VERDICT_NO_LOCAL_ADDRESS);
		return 1;
	}
}

void lb_encap_list(struct lb_worker *worker, struct lb_burst *burst, const uint8_t *list, const uint64_t *hashes,
	unsigned n)
{
	const struct lb_encap *encaps = atomic_load_explicit(&worker->dp->encaps, memory_order_acquire);

	for (unsigned m = 0; m < n;)
		m += run(worker, burst, encaps, list + m, hashes, n - m);
}
