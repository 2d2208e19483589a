/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between fetch and classify: the packets of flows that are under way, which are nearly all. The flow table's entry names
 * the backend, and the backend knows which address, port and protocol are its service's: if the packet has these, there
 * is nothing to classify, and nothing to decide either unless the packet begins or ends a connection. It is rewritten
 * here and leaves the burst's list. All others go on as if this stage were not there, and so would these:
 * tests/unit/test_fast.c holds the two ways against each other.
 */
#include "dataplane/encap.h"
#include "dataplane/flow.h"
#include "dataplane/rewrite.h"
#include "dataplane/stages.h"
#include "dataplane/worker.h"

#define FLAGS_DECIDING (LB_TCP_FIN | LB_TCP_SYN | LB_TCP_RST)

struct lookup {
	const struct lb_backend *backends;
	struct lb_backend_counters *counters;
	uint16_t established, udp; /* what lb_flow_entry_settled() looks for */
	uint64_t *entries[LB_BURST]; /* by packet index; `nothing` while there is none */
	uint64_t nothing;            /* a free entry */
	struct lb_flow_pending pending;
	uint8_t direct[LB_BURST]; /* not mode nat's */
	uint64_t direct_hashes[LB_BURST];
	unsigned n_direct;
};

static void look_up_first(struct lb_worker *worker, const struct lb_burst *burst, struct lookup *lookup)
{
	const struct lb_flowtable table = {.buckets = worker->flowtable.buckets, .n_buckets = worker->flowtable.n_buckets};
	const struct lb_backend *backends = lookup->backends;
	struct lb_backend_counters *counters = lookup->counters;
	uint32_t missing = 0;
	unsigned n = burst->n;

	// All of the burst: what parse has refused has a hash of whatever, and is not looked up further.
	for (unsigned i = 0; i < n; i++) {
		uint64_t *entry = lb_flowtable_probe(&table, burst->hashes[i], &lookup->nothing);
		uint16_t id = lb_flow_entry_backend(*entry);

		lookup->entries[i] = entry;
		missing |= (uint32_t)(entry == &lookup->nothing) << i;
		rte_prefetch0(&backends[id]);
		rte_prefetch0_write(&counters[id]);
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

// A flow key's last words against a backend's: port, protocol, and its mode where the key has zero.
static inline uint32_t key_difference(const struct lb_flow_key *key, const struct lb_backend *backend)
{
	uint32_t packet, its;

	memcpy(&packet, &key->dport_be, sizeof(packet));
	memcpy(&its, &backend->vip_port_be, sizeof(its));
	static_assert(offsetof(struct lb_flow_key, proto) == offsetof(struct lb_flow_key, dport_be) + 2 &&
			      offsetof(struct lb_backend, proto) == offsetof(struct lb_backend, vip_port_be) + 2 &&
			      offsetof(struct lb_backend, mode) == offsetof(struct lb_backend, proto) + 1,
		"one word");
	return packet ^ its;
}
#define MODE_SHIFT 24

// The first packet of an established flow in this tick. @return false: the flow stage has to look.
static __rte_noinline bool refresh(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t *entry,
	enum lb_flow_state state)
{
	if (lb_flow_entry_state(*entry) != state ||
		!lb_flow_entry_live(worker->flowtable.idle_ticks, *entry, worker->tick))
		return false;
	lb_flow_refresh(worker, burst, i, entry, burst->hashes[i], state);
	return true;
}

/* @return whether packet @p i, which is plain and whose flow has an entry at @p entry_at, has been dealt with. */
static inline __attribute__((always_inline)) bool settle_plain(struct lb_worker *worker, struct lb_burst *burst,
	struct lookup *lookup, unsigned i, uint64_t *entry_at, unsigned family, uint8_t proto)
{
	enum lb_flow_state state = proto == IPPROTO_TCP ? LB_FLOW_ESTABLISHED : LB_FLOW_UDP;
	uint64_t entry = *entry_at;
	uint16_t id = lb_flow_entry_backend(entry);
	const struct lb_backend *backend = &lookup->backends[id];
	struct lb_packet *packet = &burst->packets[i];
	const struct lb_flow_key *key = &burst->keys[i];
	uint32_t difference = key_difference(key, backend);
	struct lb_backend_counters *counters;
	struct lb_change change;
	uint64_t nexthop;
	uint16_t port;

	if (unlikely(difference << (32 - MODE_SHIFT) != 0) || unlikely(!lb_addr_equal(&key->dst, &backend->vip)) ||
		unlikely(atomic_load_explicit(&backend->state, memory_order_relaxed) == LB_BACKEND_DOWN))
		return false;
	nexthop = atomic_load_explicit(&backend->nexthop, memory_order_relaxed);
	port = lb_nexthop_port(nexthop);
	if (unlikely(packet->wire_bytes > worker->frame_limits[port]))
		return false;
	lb_packet_set(packet, backend->service, id);
	if (unlikely(((uint16_t)entry & (uint16_t)~LB_FLOW_PINNED) !=
		    (proto == IPPROTO_TCP ? lookup->established : lookup->udp)) &&
		!refresh(worker, burst, i, entry_at, state))
		return false;
	if (unlikely(difference != LB_MODE_NAT << MODE_SHIFT)) {
		if (difference == LB_MODE_FULLNAT << MODE_SHIFT)
			return false;
		lookup->direct_hashes[lookup->n_direct] = burst->hashes[i];
		lookup->direct[lookup->n_direct++] = (uint8_t)i;
		return true;
	}
	change = lb_change_to_backend(backend);
	if (change.port_be == 0) // for that the service's would be, too
		__builtin_unreachable();
	lb_rewrite_plain(lb_packet_at(burst, i, 0), nexthop, worker->src_macs[port], family, proto, &change);
	burst->nexthops[i] = nexthop;
	counters = &lookup->counters[id];
	counters->in_pkts++;
	counters->in_bytes += packet->wire_bytes;
	return true;
}

static inline __attribute__((always_inline)) bool settle(
	struct lb_worker *worker, struct lb_burst *burst, struct lookup *lookup, unsigned i, uint64_t *entry_at)
{
	uint64_t head = lb_packet_head_with(&burst->packets[i], FLAGS_DECIDING);
	bool is_tcp = burst->keys[i].proto == IPPROTO_TCP;

	if (likely(head == lb_plain_head(LB_VERDICT_FORWARD, 4)))
		return is_tcp ? settle_plain(worker, burst, lookup, i, entry_at, 4, IPPROTO_TCP)
			      : settle_plain(worker, burst, lookup, i, entry_at, 4, IPPROTO_UDP);
	if (likely(head == lb_plain_head(LB_VERDICT_FORWARD, 6)))
		return is_tcp ? settle_plain(worker, burst, lookup, i, entry_at, 6, IPPROTO_TCP)
			      : settle_plain(worker, burst, lookup, i, entry_at, 6, IPPROTO_UDP);
	return false;
}

/*
 * In the burst's order up to the first RST: what follows it may be its flow's, and revives the entry. Nothing else that
 * is left to the flow stage makes a difference to what is settled ahead of it.
 * @return index of that RST, or the burst's size.
 */
static unsigned settle_first(struct lb_worker *worker, struct lb_burst *burst, struct lookup *lookup)
{
	unsigned i, n = burst->n;
	uint32_t left = 0;

	for (i = 0; i < n; i++) {
		if (likely(settle(worker, burst, lookup, i, lookup->entries[i])))
			continue;
		if (unlikely(burst->packets[i].tcp_flags & LB_TCP_RST) &&
			burst->packets[i].verdict == LB_VERDICT_FORWARD)
			break;
		left |= UINT32_C(1) << i;
	}
	burst->settled = (uint32_t)((UINT64_C(1) << i) - 1) & ~left;
	return i;
}

static void settle_second(struct lb_worker *worker, struct lb_burst *burst, struct lookup *lookup, unsigned end)
{
	lb_flowtable_lookup_end(&worker->flowtable, burst->hashes, lookup->entries, worker->tick, &lookup->pending);
	for (unsigned p = 0; p < lookup->pending.n; p++) {
		unsigned i = lookup->pending.idx[p];

		if (i >= end)
			break;
		if (lookup->entries[i] != NULL && settle(worker, burst, lookup, i, lookup->entries[i]))
			burst->settled |= UINT32_C(1) << i;
	}
}

static void shorten_list(struct lb_burst *burst)
{
	unsigned n = burst->n_ip, n_left = 0;

	burst->n_ip = 0;
	if (likely((unsigned)__builtin_popcount(burst->settled) == n))
		return;
	for (unsigned k = 0; k < n; k++) {
		uint8_t i = burst->ip_list[k];

		burst->ip_list[n_left] = i;
		n_left += (burst->settled >> i & 1) == 0;
	}
	burst->n_ip = n_left;
}

void lb_stage_fast(struct lb_worker *worker)
{
	struct lb_burst *burst = &worker->burst; // known to be: one register less
	struct lookup lookup;
	unsigned end;

	lookup.backends = worker->dp->backends;
	lookup.counters = worker->counters->backends;
	lookup.established = lb_flow_entry_low(worker->tick, LB_FLOW_ESTABLISHED);
	lookup.udp = lb_flow_entry_low(worker->tick, LB_FLOW_UDP);
	lookup.nothing = 0;
	lookup.n_direct = 0;
	look_up_first(worker, burst, &lookup);
	end = settle_first(worker, burst, &lookup);
	if (lookup.pending.n != 0)
		settle_second(worker, burst, &lookup, end);
	if (lookup.n_direct != 0)
		lb_encap_list(worker, burst, lookup.direct, lookup.direct_hashes, lookup.n_direct);
	worker->counters->flow.hit += (unsigned)__builtin_popcount(burst->settled);
	shorten_list(burst);
}
