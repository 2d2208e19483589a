/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between fetch and classify: the packets of flows that are under way, which are nearly all. The flow table's entry names
 * the backend, and the backend knows which address, port and protocol are its service's: if the packet has these, there
 * is nothing to classify, and nothing to decide either unless the packet begins or ends a connection. It is rewritten
 * here and leaves the burst's list. All others go on as if this stage were not there, and so would these:
 * tests/unit/test_fast.c holds the two ways against each other.
 */
#include <netinet/in.h>

#include "dataplane/encap.h"
#include "dataplane/flow.h"
#include "dataplane/rewrite.h"
#include "dataplane/stages.h"
#include "dataplane/worker.h"

#define FLAGS_DECIDING (LB_TCP_FIN | LB_TCP_SYN | LB_TCP_RST)

struct lookup {
	const struct lb_backend *backends;
	struct lb_backend_counters *counters;
	const struct lb_encap *encaps;
	uint16_t established, udp; /* what an entry's low 16 bits are, but for LB_FLOW_PINNED, if it need not be touched */
	uint64_t entries[LB_BURST];  /* as they were found, by packet index; 0: none in the first bucket */
	uint64_t *entries_at[LB_BURST]; /* for lb_flowtable_lookup_end() */
	struct lb_flow_pending pending;
	uint8_t direct[LB_BURST]; /* of the modes that lb_encap_list() knows */
	unsigned n_direct;
	uint32_t left; /* bit per packet: not settled */
	unsigned end;  /* index of the first RST, or LB_BURST */
};

/*
 * An entry's backend and its counters, both by one distance: the id lies where a multiplication by 64 needs no more than
 * a shift and a mask.
 */
static_assert(sizeof(struct lb_backend) == 64 && sizeof(struct lb_backend_counters) == 64, "one distance for both");

static inline size_t distance_of(uint64_t entry)
{
	return (entry >> 10) & (UINT16_MAX * UINT64_C(64));
}

static inline const struct lb_backend *backend_at(const struct lookup *lookup, size_t distance)
{
	return (const void *)((const uint8_t *)lookup->backends + distance);
}

static inline struct lb_backend_counters *counters_at(const struct lookup *lookup, size_t distance)
{
	return (void *)((uint8_t *)lookup->counters + distance);
}

static void look_up_first(struct lb_worker *worker, const struct lb_burst *burst, struct lookup *lookup)
{
	const struct lb_flowtable table = {.buckets = worker->flowtable.buckets, .n_buckets = worker->flowtable.n_buckets};
	uint32_t missing = 0;
	unsigned n = burst->n;

	// All of the burst: what parse has refused has a hash of whatever, and is not looked up further.
	for (unsigned i = 0; i < n; i++) {
		const struct lb_flow_bucket *bucket = burst->buckets[i];
		uint32_t signature, ways;
		uint64_t entry;

		memcpy(&signature, (const uint8_t *)&burst->hashes[i] + 4, sizeof(signature)); // little endian: from memory
		ways = lb_flow_match(bucket->entries, signature);
		if (unlikely(ways == 0)) {
			lookup->entries[i] = 0;
			missing |= UINT32_C(1) << i;
			continue;
		}
		entry = bucket->entries[__builtin_ctz(ways)];
		lookup->entries[i] = entry;
		rte_prefetch0(backend_at(lookup, distance_of(entry)));
		rte_prefetch0_write(counters_at(lookup, distance_of(entry)));
	}
	lookup->pending.n = 0;
	for (; missing != 0; missing &= missing - 1) {
		unsigned i = (unsigned)__builtin_ctz(missing);

		if (unlikely(burst->packets[i].verdict != LB_VERDICT_FORWARD) || unlikely(burst->packets[i].pending != 0))
			continue;
		lookup->pending.idx[lookup->pending.n++] = (uint8_t)i;
		lb_flowtable_prefetch_second(&table, burst->hashes[i]);
	}
}

/*
 * A flow key's last words against a backend's: zero in every byte but the last, which is the backend's way, if both are
 * of the same service. Of a short key: address, port, protocol; else the same without the address.
 */
static inline uint64_t short_key_difference(const struct lb_flow_key4 *key, const struct lb_backend *backend)
{
	uint64_t packet, its;

	memcpy(&packet, &key->dst_be, sizeof(packet));
	memcpy(&its, &backend->vip.u32[3], sizeof(its));
	static_assert(offsetof(struct lb_flow_key4, dport_be) == offsetof(struct lb_flow_key4, dst_be) + 4 &&
			      offsetof(struct lb_flow_key4, proto) == offsetof(struct lb_flow_key4, dst_be) + 6,
		"address, port, protocol, zero");
	return packet ^ its;
}

static inline uint32_t key_difference(const struct lb_flow_key *key, const struct lb_backend *backend)
{
	uint32_t packet, its;

	memcpy(&packet, &key->dport_be, sizeof(packet));
	memcpy(&its, &backend->vip_port_be, sizeof(its));
	static_assert(offsetof(struct lb_flow_key, proto) == offsetof(struct lb_flow_key, dport_be) + 2,
		"port, protocol, zero");
	return packet ^ its;
}
static_assert(offsetof(struct lb_backend, vip_port_be) == offsetof(struct lb_backend, vip) + sizeof(struct lb_addr) &&
		      offsetof(struct lb_backend, proto) == offsetof(struct lb_backend, vip_port_be) + 2 &&
		      offsetof(struct lb_backend, way) == offsetof(struct lb_backend, proto) + 1,
	"address, port, protocol, way");

/*
 * The first packet of an established flow in this tick. @param entry NULL: where look_up_first() found it.
 * @return false: the flow stage has to look.
 */
static __rte_noinline bool refresh(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t *entry,
	enum lb_flow_state state)
{
	uint64_t nothing = 0;
	const struct lb_backend *backend;

	if (entry == NULL)
		entry = lb_flowtable_probe(&worker->flowtable, burst->hashes[i], &nothing);
	if (lb_flow_entry_state(*entry) != state ||
		!lb_flow_entry_live(worker->flowtable.idle_ticks, *entry, worker->tick))
		return false;
	backend = &worker->dp->backends[lb_flow_entry_backend(*entry)];
	lb_packet_set(&burst->packets[i], backend->service, lb_flow_entry_backend(*entry));
	if (burst->short_keys >> i & 1)
		burst->keys[i] = lb_flow_key_lengthen(&burst->keys4[i]);
	lb_flow_refresh(worker, burst, i, entry, burst->hashes[i], state);
	return true;
}

// Whether lb_encap_list() knows what to do in a backend's way, of which LB_WAY_IPV6 has been taken off.
static inline bool way_is_direct(uint64_t way)
{
	static_assert(LB_MODE_IPIP == LB_MODE_DSR + 1 && LB_MODE_GUE == LB_MODE_DSR + 2, "side by side");
	return way - LB_MODE_DSR <= LB_MODE_GUE - LB_MODE_DSR;
}

static inline void put_aside(struct lb_burst *burst, struct lookup *lookup, unsigned i, uint64_t entry)
{
	burst->packets[i].backend = lb_flow_entry_backend(entry);
	lookup->direct[lookup->n_direct++] = (uint8_t)i;
}

static inline __attribute__((always_inline)) void send_to_backend(struct lb_worker *worker, struct lb_burst *burst,
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

/*
 * A packet that is plain, but for its flags perhaps, and whose flow has @p entry. @param entry_at: see refresh().
 * @return whether it has been dealt with.
 */
static __rte_noinline bool settle_any(struct lb_worker *worker, struct lb_burst *burst, struct lookup *lookup, unsigned i,
	uint64_t entry, uint64_t *entry_at)
{
	const struct lb_backend *backend = backend_at(lookup, distance_of(entry));
	struct lb_backend_counters *counters = counters_at(lookup, distance_of(entry));
	const struct lb_packet *packet = &burst->packets[i];
	bool ipv4 = burst->short_keys >> i & 1, is_tcp = packet->tcp_flags != 0; // without any it is not let in
	uint16_t settled = is_tcp ? lookup->established : lookup->udp;
	uint64_t difference, nexthop;

	if (lb_packet_head_with(packet, FLAGS_DECIDING) != lb_plain_head(LB_VERDICT_FORWARD, ipv4 ? 4 : 6))
		return false;
	if (ipv4)
		difference = short_key_difference(&burst->keys4[i], backend);
	else
		difference = (key_difference(&burst->keys[i], backend) ^ LB_WAY_IPV6 << 24) * UINT64_C(0x100000000);
	if (difference << 8 != 0 || (!ipv4 && !lb_addr_equal(&burst->keys[i].dst, &backend->vip)))
		return false;
	difference >>= 56; // how the backend's way is other than NAT
	nexthop = atomic_load_explicit(&backend->nexthop, memory_order_relaxed);
	if (difference >= LB_MODE_N || packet->wire_bytes > worker->frame_limits[lb_nexthop_port(nexthop)])
		return false;
	if (((uint16_t)entry & (uint16_t)~LB_FLOW_PINNED) != settled &&
		!refresh(worker, burst, i, entry_at, is_tcp ? LB_FLOW_ESTABLISHED : LB_FLOW_UDP))
		return false;
	if (way_is_direct(difference)) {
		put_aside(burst, lookup, i, entry);
		return true;
	}
	if (difference != LB_MODE_NAT)
		return false;
	if (ipv4 && is_tcp)
		send_to_backend(worker, burst, i, nexthop, backend, counters, 4, IPPROTO_TCP);
	else if (ipv4)
		send_to_backend(worker, burst, i, nexthop, backend, counters, 4, IPPROTO_UDP);
	else if (is_tcp)
		send_to_backend(worker, burst, i, nexthop, backend, counters, 6, IPPROTO_TCP);
	else
		send_to_backend(worker, burst, i, nexthop, backend, counters, 6, IPPROTO_UDP);
	return true;
}

/*
 * settle_any() for what is the rule: mode nat, an entry that need not be touched. @p proto as the TCP flags tell.
 */
static inline __attribute__((always_inline)) bool settle_proto(struct lb_worker *worker, struct lb_burst *burst,
	struct lookup *lookup, unsigned i, uint64_t entry, unsigned family, uint8_t proto)
{
	const struct lb_backend *backend = backend_at(lookup, distance_of(entry));
	uint64_t nexthop = atomic_load_explicit(&backend->nexthop, memory_order_relaxed);
	uint16_t settled = proto == IPPROTO_TCP ? lookup->established : lookup->udp;

	static_assert(LB_MODE_NAT == 0, "no difference");
	if (family == 4 && unlikely(short_key_difference(&burst->keys4[i], backend) != 0))
		return false;
	if (family == 6 && (unlikely(key_difference(&burst->keys[i], backend) != LB_WAY_IPV6 << 24) ||
				   unlikely(!lb_addr_equal(&burst->keys[i].dst, &backend->vip))))
		return false;
	if (unlikely(((uint16_t)entry & (uint16_t)~LB_FLOW_PINNED) != settled) ||
		unlikely(burst->packets[i].wire_bytes > worker->frame_limits[lb_nexthop_port(nexthop)]))
		return false;
	send_to_backend(worker, burst, i, nexthop, backend, counters_at(lookup, distance_of(entry)), family, proto);
	return true;
}

/* The same for the modes whose replies do not pass here. They look at sizes and next hops for themselves. */
static inline __attribute__((always_inline)) bool settle_direct(
	struct lb_burst *burst, struct lookup *lookup, unsigned i, uint64_t entry, unsigned family)
{
	const struct lb_backend *backend = backend_at(lookup, distance_of(entry));
	uint16_t settled = burst->packets[i].tcp_flags != 0 ? lookup->established : lookup->udp;
	uint64_t way;

	if (family == 4) {
		uint64_t difference = short_key_difference(&burst->keys4[i], backend);

		way = difference << 8 == 0 ? difference >> 56 : LB_MODE_N;
	} else {
		uint32_t difference = key_difference(&burst->keys[i], backend) ^ LB_WAY_IPV6 << 24;

		way = difference << 8 == 0 && lb_addr_equal(&burst->keys[i].dst, &backend->vip) ? difference >> 24 : LB_MODE_N;
	}
	if (!way_is_direct(way) || ((uint16_t)entry & (uint16_t)~LB_FLOW_PINNED) != settled)
		return false;
	put_aside(burst, lookup, i, entry);
	lb_encap_prefetch(lookup->encaps, burst, i, lb_flow_entry_backend(entry), (uint8_t)way);
	return true;
}

// A packet that is plain, but for its flags perhaps.
static inline __attribute__((always_inline)) bool settle(
	struct lb_worker *worker, struct lb_burst *burst, struct lookup *lookup, unsigned i, unsigned family)
{
	uint8_t flags = burst->packets[i].tcp_flags;
	uint64_t entry = lookup->entries[i];

	if (unlikely(flags & FLAGS_DECIDING))
		return false;
	if (likely(flags != 0 ? settle_proto(worker, burst, lookup, i, entry, family, IPPROTO_TCP)
			      : settle_proto(worker, burst, lookup, i, entry, family, IPPROTO_UDP)))
		return true;
	if (settle_direct(burst, lookup, i, entry, family))
		return true;
	return entry != 0 && settle_any(worker, burst, lookup, i, entry, NULL);
}

/*
 * In the burst's order up to the first RST: what follows it may be its flow's, and revives the entry. Nothing else that
 * is left to the flow stage makes a difference to what is settled ahead of it.
 */
static inline __attribute__((always_inline)) void settle_first(
	struct lb_worker *worker, struct lb_burst *burst, struct lookup *lookup, bool all4, bool all6)
{
	for (unsigned i = 0, n = burst->n; i < n; i++) {
		if (all4 || (!all6 && (burst->short_keys >> i & 1)) ? likely(settle(worker, burst, lookup, i, 4))
			: (all6 || (burst->plain6 >> i & 1)) && likely(settle(worker, burst, lookup, i, 6)))
			continue;
		lookup->left |= UINT32_C(1) << i;
		if (unlikely(burst->packets[i].tcp_flags & LB_TCP_RST) &&
			burst->packets[i].verdict == LB_VERDICT_FORWARD) {
			lookup->left |= UINT32_MAX << i;
			lookup->end = i;
			break;
		}
	}
}

static void settle_second(struct lb_worker *worker, struct lb_burst *burst, struct lookup *lookup)
{
	lb_flowtable_lookup_end(&worker->flowtable, burst->hashes, lookup->entries_at, worker->tick, &lookup->pending);
	for (unsigned p = 0; p < lookup->pending.n; p++) {
		unsigned i = lookup->pending.idx[p];
		uint64_t *entry = lookup->entries_at[i];

		if (i >= lookup->end)
			break;
		if (entry != NULL && settle_any(worker, burst, lookup, i, *entry, entry))
			lookup->left &= ~(UINT32_C(1) << i);
	}
}

// ip_list without what is settled; the others' keys in the form that the other stages know.
static void shorten_list(struct lb_burst *burst)
{
	unsigned n = burst->n_ip, n_left = 0;

	for (unsigned k = 0; k < n; k++) {
		uint8_t i = burst->ip_list[k];

		if (burst->settled >> i & 1)
			continue;
		burst->ip_list[n_left++] = i;
		if (burst->short_keys >> i & 1)
			burst->keys[i] = lb_flow_key_lengthen(&burst->keys4[i]);
	}
	burst->n_ip = n_left;
}

void lb_stage_fast(struct lb_worker *worker)
{
	struct lb_burst *burst = &worker->burst; // known to be: one register less
	struct lookup lookup;

	lookup.backends = worker->dp->backends;
	lookup.counters = worker->counters->backends;
	lookup.encaps = atomic_load_explicit(&worker->dp->encaps, memory_order_acquire);
	lookup.established = lb_flow_entry_low(worker->tick, LB_FLOW_ESTABLISHED);
	lookup.udp = lb_flow_entry_low(worker->tick, LB_FLOW_UDP);
	lookup.n_direct = 0;
	lookup.left = 0;
	lookup.end = LB_BURST;
	look_up_first(worker, burst, &lookup);
	if (likely(burst->short_keys == lb_burst_all(burst)))
		settle_first(worker, burst, &lookup, true, false);
	else if (likely(burst->plain6 == lb_burst_all(burst)))
		settle_first(worker, burst, &lookup, false, true);
	else
		settle_first(worker, burst, &lookup, false, false);
	if (lookup.pending.n != 0)
		settle_second(worker, burst, &lookup);
	burst->settled = lb_burst_all(burst) & ~lookup.left;
	worker->counters->flow.hit += (unsigned)__builtin_popcount(burst->settled);
	burst->n_to_service = burst->n_to_client = 0;
	if (likely(burst->settled == lb_burst_all(burst)))
		burst->n_ip = 0;
	else
		shorten_list(burst);
	if (lookup.n_direct != 0)
		lb_encap_list(worker, burst, lookup.direct, burst->hashes, lookup.n_direct);
}
