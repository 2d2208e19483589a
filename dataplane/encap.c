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

#include "dataplane/checksum.h"
#include "dataplane/checksum.h"
#include "dataplane/rewrite.h"
#include "dataplane/worker.h"

#define OUTER_TTL 64u
#define IP4_DF 0x4000u
#define ENTROPY_PORT_MASK 0x3fffu
#define FLOW_LABEL_MASK 0xfffffu

/* draft-ietf-intarea-gue, section 3.2: version 0, a data message, no optional fields. */
struct gue_hdr {
	uint8_t version_control_hlen;
	uint8_t proto;
	uint16_t flags;
};

struct udp_gue_hdr {
	struct rte_udp_hdr udp;
	struct gue_hdr gue;
};
static_assert(sizeof(struct udp_gue_hdr) == 12, "summed in 4-byte words");

static inline uint16_t fold(uint64_t sum)
{
	sum = (sum & 0xffffffffu) + (sum >> 32);
	sum = (sum & 0xffffu) + (sum >> 16);
	sum = (sum & 0xffffu) + (sum >> 16);
	return (uint16_t)((sum & 0xffffu) + (sum >> 16));
}

// One's complement sum of n_bytes (a multiple of 4), not folded.
static inline uint64_t sum_bytes(const void *bytes, unsigned n_bytes)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n_bytes; i += 4) {
		uint32_t word;

		memcpy(&word, (const uint8_t *)bytes + i, 4);
		sum += word;
	}
	return sum;
}

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
		encap->ip_checksum = (uint16_t)~fold(sum_bytes(&ip, sizeof(ip)));
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
		struct udp_gue_hdr header = {.udp.dst_port = service->gue_port_be, .gue.proto = inner};

		encap->n_bytes += sizeof(header);
		memcpy(encap->header + LB_ENCAP_MAX_BYTES - sizeof(header), &header, sizeof(header));
		encap->udp_sum = fold(sum_bytes(from, 16) + sum_bytes(addr, 16) +
				      sum_bytes(&header, sizeof(header)) + RTE_BE16(IPPROTO_UDP));
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

static inline uint32_t ip_bytes(const uint8_t *l3, uint8_t family)
{
	uint16_t length_be;

	memcpy(&length_be, l3 + (family == 4 ? 2 : 4), sizeof(length_be));
	return rte_be_to_cpu_16(length_be) + (family == 4 ? 0u : 40u);
}

static inline uint8_t traffic_class(const uint8_t *l3, uint8_t family)
{
	return family == 4 ? l3[1] : (uint8_t)(l3[0] << 4 | l3[1] >> 4);
}

// RFC 1624, eqn. 3, for the TTL's 16-bit word.
static inline void decrement_ttl(uint8_t *l3, uint8_t family, bool plain)
{
	if (plain && family == 4) {
		lb_change_plain_ipv4_word(l3, lb_ip_difference((uint16_t)~RTE_BE16(0x0100)));
	} else if (family == 4) {
		struct rte_ipv4_hdr *ip = (void *)l3;

		ip->time_to_live--;
		ip->hdr_checksum = lb_checksum_change(ip->hdr_checksum, (uint16_t)~RTE_BE16(0x0100));
	} else {
		((struct rte_ipv6_hdr *)l3)->hop_limits--;
	}
}

/*
 * Sum of a whole IP packet without reading it: an IPv4 header sums up to 0, and TCP or UDP with its checksum to the
 * complement of its pseudo header, whose addresses cancel out those of an IPv6 header. If the inner checksum is wrong,
 * so is what we make of it, and the packet is dropped one header earlier.
 */
static uint64_t inner_sum(const struct rte_mbuf *mbuf, const struct lb_packet *packet, uint8_t proto, uint32_t n_bytes)
{
	const uint8_t *l3 = rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, packet->l3);
	const struct rte_ipv4_hdr *ipv4 = (const void *)l3;
	const struct rte_udp_hdr *udp = rte_pktmbuf_mtod_offset(mbuf, const struct rte_udp_hdr *, packet->l4);
	uint16_t l4_bytes_be = rte_cpu_to_be_16((uint16_t)(n_bytes - (packet->l4 - packet->l3)));
	bool plain = packet->family == 4 ? (ipv4->fragment_offset & RTE_BE16(0x3fff)) == 0
					 : packet->l4 == packet->l3 + 40;

	if (likely(plain && (proto == IPPROTO_TCP || (proto == IPPROTO_UDP && udp->dgram_cksum != 0 &&
							    udp->dgram_len == l4_bytes_be)))) {
		uint64_t pseudo = (uint64_t)l4_bytes_be + rte_cpu_to_be_16(proto);

		if (packet->family == 4)
			return (uint16_t)~fold(pseudo + ipv4->src_addr + ipv4->dst_addr);
		return sum_bytes(l3, 8) + (uint16_t)~fold(pseudo);
	}
	// Fragments, UDP without checksum, extension headers: rare.
	return lb_sum_mbuf(mbuf, packet->l3, n_bytes);
}

static inline void finish_ipv4(uint8_t *outer, const struct lb_encap *encap, uint8_t tos, uint32_t n_bytes)
{
	struct rte_ipv4_hdr *ip = (void *)outer;
	uint16_t length_be = rte_cpu_to_be_16((uint16_t)n_bytes);

	ip->type_of_service = tos;
	ip->total_length = length_be;
	ip->hdr_checksum = lb_checksum_change(encap->ip_checksum, lb_sum_add(rte_cpu_to_be_16(tos), length_be));
}

static inline void finish_ipv6(uint8_t *outer, uint64_t hash, uint8_t tos, uint32_t n_bytes)
{
	struct rte_ipv6_hdr *ip = (void *)outer;

	ip->vtc_flow = rte_cpu_to_be_32(0x60000000u | (uint32_t)tos << 20 | ((uint32_t)hash & FLOW_LABEL_MASK));
	ip->payload_len = rte_cpu_to_be_16((uint16_t)(n_bytes - sizeof(*ip)));
}

static inline void finish_udp(uint8_t *outer_l4, uint64_t hash, uint32_t n_bytes)
{
	struct rte_udp_hdr *udp = (void *)outer_l4;

	udp->src_port = rte_cpu_to_be_16((uint16_t)(LB_ENCAP_ENTROPY_PORTS | (hash & ENTROPY_PORT_MASK)));
	udp->dgram_len = rte_cpu_to_be_16((uint16_t)n_bytes);
}

// With RFC 768's rule: a sum of zero is sent as all ones.
static inline void finish_udp6_checksum(uint8_t *outer_l4, const struct lb_encap *encap, uint64_t payload_sum)
{
	struct rte_udp_hdr *udp = (void *)outer_l4;
	uint16_t checksum = (uint16_t)~fold(payload_sum + encap->udp_sum + udp->src_port + 2u * udp->dgram_len);

	udp->dgram_cksum = checksum != 0 ? checksum : 0xffff;
}

// The packet grows by the outer header; its Ethernet padding goes.
static inline void grow(struct rte_mbuf *mbuf, bool single, uint16_t l3, unsigned n_bytes, uint32_t inner_bytes)
{
	mbuf->data_off = (uint16_t)(mbuf->data_off - n_bytes);
	if (likely(single)) {
		mbuf->data_len = (uint16_t)(l3 + n_bytes + inner_bytes);
		mbuf->pkt_len = l3 + n_bytes + inner_bytes;
	} else {
		mbuf->data_len = (uint16_t)(mbuf->data_len + n_bytes);
		mbuf->pkt_len += n_bytes;
	}
}

// One reference and one segment, in one comparison; and its buffer its own.
static inline bool is_simple(const struct rte_mbuf *mbuf)
{
	uint32_t refcnt_nb_segs;

	static_assert(offsetof(struct rte_mbuf, nb_segs) == offsetof(struct rte_mbuf, refcnt) + 2, "side by side");
	memcpy(&refcnt_nb_segs, &mbuf->refcnt, sizeof(refcnt_nb_segs));
	return refcnt_nb_segs == 0x00010001u && (mbuf->ol_flags & (RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL)) == 0;
}

// What is to be put around a packet, and where it goes.
struct wrap {
	const struct lb_worker *worker;
	struct lb_burst *burst;
	unsigned i;
	const struct lb_encap *encap;
	uint64_t hash;
	uint64_t nexthop;
};

static inline unsigned outer_bytes(bool outer4, bool gue)
{
	return (unsigned)(outer4 ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr)) +
	       (gue ? (unsigned)sizeof(struct udp_gue_hdr) : 0);
}

// By the frame's length, padding included: if not, its IP packet may yet.
static inline bool fits(const struct wrap *wrap, bool outer4, bool gue)
{
	return wrap->burst->packets[wrap->i].wire_bytes + outer_bytes(outer4, gue) <=
	       wrap->worker->frame_limits[lb_nexthop_port(wrap->nexthop)];
}

/*
 * One per kind: lengths and families of the outer header are constants in each, with those of the packet as well if it
 * is @p plain (see burst.h), its buffer simple, and fits() true.
 */
static inline __attribute__((always_inline)) uint8_t encapsulate(
	const struct wrap *wrap, bool outer4, bool gue, bool plain, uint8_t family)
{
	const unsigned n_ip = outer4 ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr);
	const unsigned n_outer = outer_bytes(outer4, gue);
	const struct lb_worker *worker = wrap->worker;
	struct lb_burst *burst = wrap->burst;
	struct lb_packet *packet = &burst->packets[wrap->i];
	struct rte_mbuf *mbuf = burst->mbufs[wrap->i];
	const uint16_t l3 = plain ? RTE_ETHER_HDR_LEN : packet->l3;
	uint8_t *inner = lb_packet_at(burst, wrap->i, l3), *outer = inner - n_outer;
	uint32_t inner_bytes = ip_bytes(inner, family), n_bytes = inner_bytes + n_outer;
	uint16_t port = lb_nexthop_port(wrap->nexthop);
	uint8_t tos = traffic_class(inner, family);
	uint64_t sum = 0;
	uint32_t vlan;

	if (!plain && unlikely(n_bytes > worker->mtus[port])) {
		burst->mtus[wrap->i] = worker->mtus[port] > n_outer ? (uint16_t)(worker->mtus[port] - n_outer) : 0;
		return LB_VERDICT_TOO_BIG;
	}
	// Nobody else may see what we write; what a NIC received is ours alone.
	if (unlikely(mbuf->data_off < n_outer) ||
		(!plain && unlikely(RTE_MBUF_CLONED(mbuf) || rte_mbuf_refcnt_read(mbuf) != 1)))
		return LB_VERDICT_NO_HEADROOM;
	decrement_ttl(inner, family, plain);
	if (gue && !outer4) { // TCP without any flag is not let in, and the keys of plain packets may be short ones
		uint8_t proto = !plain ? burst->keys[wrap->i].proto
				: packet->tcp_flags != 0 ? IPPROTO_TCP : IPPROTO_UDP;

		sum = inner_sum(mbuf, packet, proto, inner_bytes);
	}
	if (!plain)
		memcpy(&vlan, inner - 6, sizeof(vlan)); // if there is one
	grow(mbuf, plain || mbuf->nb_segs == 1, l3, n_outer, inner_bytes);
	memcpy(outer, wrap->encap->header + LB_ENCAP_MAX_BYTES - n_outer, n_outer);
	lb_write_ethernet(outer - l3, wrap->nexthop, lb_worker_source(worker, port, outer4 ? 4 : 6));
	if (!plain && l3 != RTE_ETHER_HDR_LEN) {
		memcpy(outer - 6, &vlan, sizeof(vlan));
		memcpy(outer - 2, outer4 ? "\x08\x00" : "\x86\xdd", 2);
	}
	if (outer4)
		finish_ipv4(outer, wrap->encap, tos, n_bytes);
	else
		finish_ipv6(outer, wrap->hash, tos, n_bytes);
	if (gue)
		finish_udp(outer + n_ip, wrap->hash, n_bytes - n_ip);
	if (gue && !outer4)
		finish_udp6_checksum(outer + n_ip, wrap->encap, sum);
	return LB_VERDICT_FORWARD;
}

#define KIND(name, outer4, gue)                                                                     \
	static __rte_noinline uint8_t name##_any(const struct wrap *wrap)                          \
	{                                                                                          \
		return encapsulate(wrap, outer4, gue, false, wrap->burst->packets[wrap->i].family); \
	}                                                                                          \
	static inline uint8_t name(const struct wrap *wrap)                                        \
	{                                                                                          \
		uint64_t head = lb_packet_head(&wrap->burst->packets[wrap->i]);                    \
                                                                                                   \
		if (unlikely(!is_simple(wrap->burst->mbufs[wrap->i])) ||                           \
			unlikely(!fits(wrap, outer4, gue)))                                        \
			return name##_any(wrap);                                                   \
		if (head == lb_plain_head(LB_VERDICT_FORWARD, 4))                                  \
			return encapsulate(wrap, outer4, gue, true, 4);                            \
		if (head == lb_plain_head(LB_VERDICT_FORWARD, 6))                                  \
			return encapsulate(wrap, outer4, gue, true, 6);                            \
		return name##_any(wrap);                                                           \
	}
KIND(put_in_ipv4, true, false)
KIND(put_in_ipv6, false, false)
KIND(put_in_gue4, true, true)
KIND(put_in_gue6, false, true)
#undef KIND

static inline __attribute__((always_inline)) uint8_t send_directly(
	const struct wrap *wrap, bool plain, uint8_t family)
{
	const struct lb_worker *worker = wrap->worker;
	struct lb_burst *burst = wrap->burst;
	const uint16_t l3 = plain ? RTE_ETHER_HDR_LEN : burst->packets[wrap->i].l3;
	uint8_t *frame = lb_packet_at(burst, wrap->i, 0);
	uint16_t port = lb_nexthop_port(wrap->nexthop);

	if (unlikely(ip_bytes(frame + l3, family) > worker->mtus[port])) {
		burst->mtus[wrap->i] = worker->mtus[port];
		return LB_VERDICT_TOO_BIG;
	}
	decrement_ttl(frame + l3, family, plain);
	memcpy(frame, &wrap->nexthop, 6);
	memcpy(frame + 6, &worker->src_macs[port], 6);
	return LB_VERDICT_FORWARD;
}

static inline uint8_t put_nowhere(const struct wrap *wrap)
{
	uint64_t head = lb_packet_head(&wrap->burst->packets[wrap->i]);

	if (head == lb_plain_head(LB_VERDICT_FORWARD, 4))
		return send_directly(wrap, true, 4);
	if (head == lb_plain_head(LB_VERDICT_FORWARD, 6))
		return send_directly(wrap, true, 6);
	return send_directly(wrap, false, wrap->burst->packets[wrap->i].family);
}

// What the fast stage did not tell of the packet is made good: the stages behind it may ask.
static __rte_noinline void refuse(const struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint8_t verdict)
{
	struct lb_packet *packet = &burst->packets[i];

	packet->verdict = verdict;
	if (burst->settled >> i & 1) {
		burst->settled &= ~(UINT32_C(1) << i);
		packet->service = worker->dp->backends[packet->backend].service;
		if (burst->short_keys >> i & 1)
			burst->keys[i] = lb_flow_key_lengthen(&burst->keys4[i]);
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
