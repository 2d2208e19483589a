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
#include "dataplane/fast.h"
#include "dataplane/flow.h"
#include "dataplane/stages.h"
#include "dataplane/worker.h"

static void look_up_first(struct lb_worker *worker, struct lb_burst *burst, struct lb_fast *fast)
{
	const struct lb_flowtable table = {.buckets = worker->flowtable.buckets,
		.n_buckets = worker->flowtable.n_buckets, .away = worker->flowtable.away};
	const uint8_t *encaps = fast->encaps != NULL ? (const uint8_t *)fast->encaps : (const uint8_t *)fast->backends;
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
			fast->entries[i] = 0;
			missing |= UINT32_C(1) << i;
			continue;
		}
		entry = bucket->entries[__builtin_ctz(ways)];
		fast->entries[i] = entry;
		rte_prefetch0(lb_fast_backend(fast, lb_fast_distance(entry)));
		rte_prefetch0_write(lb_fast_counters(fast, lb_fast_distance(entry)));
		rte_prefetch0(encaps + lb_fast_distance(entry));
	}
	fast->pending.n = 0;
	fast->missing = 0;
	burst->away = 0;
	for (; missing != 0; missing &= missing - 1) {
		unsigned i = (unsigned)__builtin_ctz(missing);
		uint32_t first = (uint32_t)(burst->buckets[i] - table.buckets);

		if (unlikely(burst->packets[i].verdict != LB_VERDICT_FORWARD) || unlikely(burst->packets[i].pending != 0))
			continue;
		burst->seconds[i] =
			&table.buckets[lb_flowtable_other_bucket(&table, first, (uint32_t)(burst->hashes[i] >> 32))];
		if (!lb_flowtable_away(&table, first)) {
			fast->missing |= UINT32_C(1) << i;
			continue;
		}
		burst->away |= UINT32_C(1) << i;
		fast->pending.idx[fast->pending.n++] = (uint8_t)i;
		rte_prefetch0(burst->seconds[i]);
	}
}

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
	lb_flow_refresh(worker, burst, i, entry, burst->hashes[i], state);
	return true;
}

static inline void put_aside(struct lb_burst *burst, struct lb_fast *fast, unsigned i, uint64_t entry)
{
	burst->packets[i].backend = lb_flow_entry_backend(entry);
	fast->direct[fast->n_direct++] = (uint8_t)i;
}

/*
 * A packet that is plain, but for its flags perhaps, and whose flow has @p entry. @param entry_at: see refresh().
 * @return whether it has been dealt with.
 */
static __rte_noinline bool settle_any(struct lb_worker *worker, struct lb_burst *burst, struct lb_fast *fast, unsigned i,
	uint64_t entry, uint64_t *entry_at)
{
	const struct lb_backend *backend = lb_fast_backend(fast, lb_fast_distance(entry));
	struct lb_backend_counters *counters = lb_fast_counters(fast, lb_fast_distance(entry));
	const struct lb_packet *packet = &burst->packets[i];
	bool ipv4 = burst->short_keys >> i & 1, is_tcp = packet->tcp_flags != 0; // without any it is not let in
	uint64_t difference, nexthop;

	if (lb_packet_head_with(packet, LB_FAST_DECIDING) != lb_plain_head(LB_VERDICT_FORWARD, ipv4 ? 4 : 6))
		return false;
	if (ipv4)
		difference = lb_fast_difference4(&burst->keys4[i], backend);
	else
		difference = lb_fast_difference6(&burst->keys[i], backend);
	if (difference << 8 != 0)
		return false;
	difference >>= 56; // how the backend's way is other than NAT
	nexthop = atomic_load_explicit(&backend->nexthop, memory_order_relaxed);
	if (difference >= LB_MODE_N || packet->wire_bytes > worker->frame_limits[lb_nexthop_port(nexthop)])
		return false;
	if (!lb_fast_is_settled(fast, entry, is_tcp) &&
		!refresh(worker, burst, i, entry_at, is_tcp ? LB_FLOW_ESTABLISHED : LB_FLOW_UDP))
		return false;
	if (lb_fast_way_is_direct(difference)) {
		put_aside(burst, fast, i, entry);
		return true;
	}
	if (difference != LB_MODE_NAT)
		return false;
	if (ipv4 && is_tcp)
		lb_fast_send(worker, burst, i, nexthop, backend, counters, 4, IPPROTO_TCP);
	else if (ipv4)
		lb_fast_send(worker, burst, i, nexthop, backend, counters, 4, IPPROTO_UDP);
	else if (is_tcp)
		lb_fast_send(worker, burst, i, nexthop, backend, counters, 6, IPPROTO_TCP);
	else
		lb_fast_send(worker, burst, i, nexthop, backend, counters, 6, IPPROTO_UDP);
	return true;
}

/*
 * settle_any() for what is the rule: mode nat, an entry that need not be touched. @p proto as the TCP flags tell.
 */
static inline __attribute__((always_inline)) bool settle_proto(struct lb_worker *worker, struct lb_burst *burst,
	struct lb_fast *fast, unsigned i, uint64_t entry, unsigned family, uint8_t proto)
{
	const struct lb_backend *backend = lb_fast_backend(fast, lb_fast_distance(entry));
	uint64_t nexthop = atomic_load_explicit(&backend->nexthop, memory_order_relaxed);

	static_assert(LB_MODE_NAT == 0, "no difference");
	if (unlikely(!lb_fast_is_of(burst, i, backend, family, LB_MODE_NAT)))
		return false;
	if (unlikely(!lb_fast_is_settled(fast, entry, proto == IPPROTO_TCP)) ||
		unlikely(burst->packets[i].wire_bytes > worker->frame_limits[lb_nexthop_port(nexthop)]))
		return false;
	lb_fast_send(worker, burst, i, nexthop, backend, lb_fast_counters(fast, lb_fast_distance(entry)), family, proto);
	return true;
}

// Packet @p i, plain but for its flags perhaps. @return whether it has been dealt with.
static inline __attribute__((always_inline)) bool settle(
	struct lb_worker *worker, struct lb_burst *burst, struct lb_fast *fast, unsigned i, unsigned family)
{
	uint8_t flags = burst->packets[i].tcp_flags;
	uint64_t entry = fast->entries[i];

	if (unlikely(flags & LB_FAST_DECIDING))
		return false;
	return flags != 0 ? settle_proto(worker, burst, fast, i, entry, family, IPPROTO_TCP)
			  : settle_proto(worker, burst, fast, i, entry, family, IPPROTO_UDP);
}

// The same of what settle() leaves, and then perhaps of those behind it. @return how many.
static inline unsigned settle_rest(
	struct lb_worker *worker, struct lb_burst *burst, struct lb_fast *fast, unsigned i, unsigned family)
{
	unsigned n;

	if (unlikely(burst->packets[i].tcp_flags & LB_FAST_DECIDING) || unlikely(fast->entries[i] == 0))
		return 0;
	n = lb_fast_direct(worker, fast, i, family);
	return likely(n != 0) ? n : settle_any(worker, burst, fast, i, fast->entries[i], NULL);
}

// Of a fragment of TCP nothing is known yet.
static inline bool may_be_rst(const struct lb_burst *burst, unsigned i)
{
	const struct lb_packet *packet = &burst->packets[i];

	if (packet->verdict != LB_VERDICT_FORWARD)
		return false;
	if (unlikely(packet->pending == LB_VERDICT_FRAGMENT))
		return burst->keys[i].proto == IPPROTO_TCP;
	return packet->tcp_flags & LB_TCP_RST;
}

/*
 * In the burst's order up to the first RST: what follows it may be its flow's, and revives the entry. Nothing else that
 * is left to the flow stage makes a difference to what is settled ahead of it.
 */
static inline __attribute__((always_inline)) void settle_first(
	struct lb_worker *worker, struct lb_burst *burst, struct lb_fast *fast, bool all4, bool all6)
{
	for (unsigned i = 0, n = burst->n; i < n; i++) {
		bool is4 = all4 || (!all6 && (burst->short_keys >> i & 1)), is6 = all6 || (!is4 && (burst->plain6 >> i & 1));
		unsigned n_settled = 0;

		if (is4 ? likely(settle(worker, burst, fast, i, 4)) : is6 && likely(settle(worker, burst, fast, i, 6)))
			continue;
		if (is4 || is6)
			n_settled = settle_rest(worker, burst, fast, i, is4 ? 4 : 6);
		if (n_settled != 0) {
			i += n_settled - 1;
			continue;
		}
		fast->left |= UINT32_C(1) << i;
		if (unlikely(may_be_rst(burst, i))) {
			fast->left |= UINT32_MAX << i;
			fast->end = i;
			break;
		}
	}
}

// Packet @p i, if its entry is in its second bucket and cannot go to the first. @return whether it has been dealt with.
static inline bool settle_away(struct lb_worker *worker, struct lb_burst *burst, struct lb_fast *fast, unsigned i)
{
	struct lb_flow_bucket *bucket = burst->seconds[i];
	uint32_t ways = lb_flow_match(bucket->entries, (uint32_t)(burst->hashes[i] >> 32));
	uint64_t *entry = &bucket->entries[__builtin_ctz(ways | 1u << LB_FLOWTABLE_WAYS)];

	return likely(ways != 0) && likely(i < fast->end) &&
	       likely(lb_flow_match_free(burst->buckets[i]->entries) == 0) &&
	       likely(settle_any(worker, burst, fast, i, *entry, entry));
}

static void settle_second(struct lb_worker *worker, struct lb_burst *burst, struct lb_fast *fast)
{
	unsigned n = fast->pending.n;

	fast->pending.n = 0;
	for (unsigned p = 0; p < n; p++) {
		uint8_t i = fast->pending.idx[p];

		if (likely(settle_away(worker, burst, fast, i)))
			fast->left &= ~(UINT32_C(1) << i);
		else
			fast->pending.idx[fast->pending.n++] = i;
	}
	if (likely(fast->pending.n == 0))
		return;
	lb_flowtable_lookup_end(&worker->flowtable, burst->hashes, fast->entries_at, worker->tick, &fast->pending);
	for (unsigned p = 0; p < fast->pending.n; p++) {
		unsigned i = fast->pending.idx[p];
		uint64_t *entry = fast->entries_at[i];

		if (entry == NULL)
			fast->missing |= UINT32_C(1) << i;
		else if (i < fast->end && settle_any(worker, burst, fast, i, *entry, entry))
			fast->left &= ~(UINT32_C(1) << i);
	}
}

void lb_stage_fast(struct lb_worker *worker)
{
	struct lb_burst *burst = &worker->burst; // known to be: one register less
	struct lb_fast fast;

	fast.backends = worker->dp->backends;
	fast.counters = worker->counters->backends;
	fast.encaps = atomic_load_explicit(&worker->dp->encaps, memory_order_acquire);
	fast.established = lb_flow_entry_low(worker->tick, LB_FLOW_ESTABLISHED);
	fast.udp = lb_flow_entry_low(worker->tick, LB_FLOW_UDP);
	fast.n_direct = 0;
	fast.left = 0;
	fast.end = LB_BURST;
	look_up_first(worker, burst, &fast);
	if (likely(burst->short_keys == lb_burst_all(burst)))
		settle_first(worker, burst, &fast, true, false);
	else if (likely(burst->plain6 == lb_burst_all(burst)))
		settle_first(worker, burst, &fast, false, true);
	else
		settle_first(worker, burst, &fast, false, false);
	if (fast.pending.n != 0)
		settle_second(worker, burst, &fast);
	burst->settled = lb_burst_all(burst) & ~fast.left;
	worker->counters->flow.hit += (unsigned)__builtin_popcount(burst->settled);
	burst->n_to_service = burst->n_to_client = 0;
	if (likely(burst->settled == lb_burst_all(burst)))
		burst->n_ip = 0;
	else
		lb_burst_shorten(burst, burst->settled);
	if (fast.n_direct != 0)
		lb_encap_list(worker, burst, fast.direct, burst->hashes, fast.n_direct);
	if (fast.missing != 0)
		lb_stage_miss_find(worker, fast.missing);
}
