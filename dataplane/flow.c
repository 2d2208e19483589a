/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stage 3, flow: which backend? In this order (lb/decide.h): the flow table's entry; the slot of the lookup
 * table; for a TCP packet in mid-stream the slot's origin, as long as the slot is in transition.
 */
#include "dataplane/flow.h"

#include <netinet/in.h>

#include "dataplane/miss.h"
#include "dataplane/pick.h"
#include "dataplane/stages.h"
#include "dataplane/worker.h"

static inline bool is_syn(const struct lb_packet *packet)
{
	return lb_tcp_is_syn(packet->tcp_flags);
}

static void hash_and_fetch(struct lb_worker *worker, struct lb_burst *burst)
{
	const struct lb_flowtable table = {.buckets = worker->flowtable.buckets,
		.n_buckets = worker->flowtable.n_buckets, .away = worker->flowtable.away};
	const struct lb_hash_key *key = &worker->dp->hash_key;
	unsigned n = burst->n;
	uint32_t away = 0;

	if (likely(burst->short_keys == lb_burst_all(burst)))
		lb_hash_flows4(key, burst->keys4, burst->hashes, n);
	else if (burst->plain6 == lb_burst_all(burst))
		lb_hash_flows6(key, burst->keys, burst->hashes, n);
	else if (burst->short_keys != 0)
		lb_hash_flows_mixed(key, burst->keys, burst->keys4, burst->short_keys, burst->hashes, n);
	else
		lb_hash_flows(key, burst->keys, burst->hashes, n);
	if (unlikely(!burst->mostly_services)) {
		for (unsigned i = 0; i < n; i++)
			lb_flowtable_prefetch(&table, burst->hashes[i]);
		return;
	}
	static_assert(LB_BURST % 4 == 0, "as lb_flowtable_buckets() wants it");
	if (likely(burst->mostly_hits)) {
		lb_flowtable_buckets(&table, burst->hashes, n, burst->buckets, NULL);
		for (unsigned i = 0; i < n; i++)
			rte_prefetch0(burst->buckets[i]);
		return;
	}
	lb_flowtable_buckets(&table, burst->hashes, n, burst->buckets, burst->seconds);
	for (unsigned i = 0; i < n; i++) {
		rte_prefetch0(burst->buckets[i]);
		away |= (uint32_t)lb_flowtable_away(&table, (uint32_t)(burst->buckets[i] - table.buckets)) << i;
	}
	burst->away = away;
	for (; away != 0; away &= away - 1)
		rte_prefetch0(burst->seconds[__builtin_ctz(away)]);
}

/*
 * Behind a port where most packets were for a service, all are hashed before it is known which are: the lines of the
 * flow table are on their way while classify is at work.
 */
void lb_stage_fetch(struct lb_worker *worker, struct lb_burst *burst)
{
	if (burst->mostly_services)
		hash_and_fetch(worker, burst);
}

// What the next burst of this port will be like. @p n_misses: those that are not simple ones.
static void watch_port(struct lb_worker *worker, const struct lb_burst *burst, unsigned n_misses)
{
	unsigned n = burst->n_to_service + (unsigned)__builtin_popcount(burst->settled | burst->misses);
	uint32_t port = UINT32_C(1) << burst->port;

	n_misses += (unsigned)__builtin_popcount(burst->misses);
	worker->fetch_ports = n * 2 >= burst->n ? worker->fetch_ports | port : worker->fetch_ports & ~port;
	worker->fast_ports = (n - n_misses) * 2 >= burst->n ? worker->fast_ports | port : worker->fast_ports & ~port;
}

// Hashes in the order of to_service, as the flow table's functions take them.
static void order_hashes(struct lb_burst *burst)
{
	if (likely(burst->n_to_service == burst->n))
		return;
	for (unsigned k = 0; k < burst->n_to_service; k++)
		burst->hashes[k] = burst->hashes[burst->to_service[k]]; // k never passes it
}

// A hit goes on if the entry's backend is of this service, and lb/decide.h lets it.
static inline bool entry_holds(const struct lb_dp *dp, uint64_t entry, const struct lb_packet *packet)
{
	const struct lb_backend *backend = &dp->backends[lb_flow_entry_backend(entry)];

	return likely(backend->service == packet->service) &&
	       lb_decide_entry_holds(entry, atomic_load_explicit(&backend->state, memory_order_relaxed),
		       unlikely(is_syn(packet)));
}

// Whether entries that mattered were lost within T: see lb/decide.h.
static inline bool overloaded(const struct lb_worker *worker, const struct lb_slot_table *table)
{
	return unlikely(worker->overload_s != 0 &&
			worker->now_s - worker->overload_s <= table->transition_s);
}

uint64_t lb_flow_slot_hash(const struct lb_dp *dp, uint16_t service_id,
	const struct lb_flow_key *key, uint64_t hash)
{
	const struct lb_pick *pick =
		atomic_load_explicit(&dp->services[service_id].pick, memory_order_acquire);

	if (likely(pick == NULL || pick->spec.scheduler != LB_SCHED_SOURCE))
		return hash;
	return lb_pick_source_hash(&dp->hash_key, key);
}

void lb_flow_refresh(const struct lb_worker *worker, const struct lb_burst *burst, unsigned i, uint64_t *entry,
	uint64_t hash, enum lb_flow_state state)
{
	uint16_t service = burst->packets[i].service;
	const struct lb_slot_table *table =
		atomic_load_explicit(&worker->dp->services[service].table, memory_order_acquire);
	uint32_t pinned = *entry & LB_FLOW_PINNED;

	if (unlikely(table != NULL && lb_slots_in_transition(table, worker->now_s))) {
		struct lb_flow_key key = lb_burst_key(burst, i);

		hash = lb_flow_slot_hash(worker->dp, service, &key, hash);
		pinned = lb_decide_pinned(lb_flow_entry_backend(*entry),
				 &table->slots[lb_hash_slot(hash, table->n_slots)], table->transition_s,
				 worker->now_s, overloaded(worker, table))
				 ? LB_FLOW_PINNED
				 : 0;
	}
	lb_flowtable_touch(&worker->flowtable, entry, state | pinned, worker->tick);
}

static inline void touch(const struct lb_worker *worker, const struct lb_burst *burst, unsigned i, uint64_t *entry,
	uint64_t hash)
{
	enum lb_flow_state state = lb_flow_entry_state(*entry), next = state;

	if (state != LB_FLOW_UDP)
		next = lb_flow_tcp_state(state, burst->packets[i].tcp_flags);
	if (unlikely(next != state || lb_flow_entry_time(*entry) != (worker->tick & LB_FLOW_TIME_MASK)))
		lb_flow_refresh(worker, burst, i, entry, hash, next);
}

static inline const struct lb_slot *slot_of(const struct lb_slot_table *table, uint64_t hash)
{
	return &table->slots[lb_hash_slot(hash, table->n_slots)];
}

struct lb_choice lb_flow_choose(const struct lb_worker *worker, uint16_t service_id,
	const struct lb_flow_key *key, uint64_t hash, bool begins, bool commit)
{
	const struct lb_dp *dp = worker->dp;
	const struct lb_service *service = &dp->services[service_id];
	const struct lb_slot_table *table =
		atomic_load_explicit(&service->table, memory_order_acquire);
	const struct lb_pick *pick = atomic_load_explicit(&service->pick, memory_order_acquire);
	enum lb_tracking tracking = worker->pressure ? LB_TRACKING_CHANGED : service->tracking;
	struct lb_choice choice;
	struct lb_slot slot;
	uint32_t slot_idx;

	if (unlikely(table == NULL))
		return (struct lb_choice){.backend = LB_BACKEND_NONE};
	slot_idx = lb_hash_slot(lb_flow_slot_hash(dp, service_id, key, hash), table->n_slots);
	slot = table->slots[slot_idx];
	// The origin may have been removed, and its id given to another service.
	if (slot.origin != LB_SLOT_NONE && dp->backends[slot.origin].service != service_id)
		slot.origin = LB_SLOT_NONE;
	choice = lb_decide_miss(&slot, table->transition_s, worker->now_s, key->proto == IPPROTO_TCP,
		begins, tracking, overloaded(worker, table), dp->backend_states);
	// Only what is recorded may go elsewhere than its slot says, or its next packet would scatter.
	if (unlikely(pick != NULL) && begins && tracking == LB_TRACKING_ALL && choice.record)
		lb_flow_pick(worker, pick, table, slot_idx, commit, &choice);
	return choice;
}

// The live entry of the flow that belongs to this service, if any.
static uint64_t *find_entry(struct lb_worker *worker, uint64_t hash, uint16_t service)
{
	uint64_t *entry = lb_flowtable_lookup(&worker->flowtable, hash, worker->tick);

	while (entry != NULL &&
		worker->dp->backends[lb_flow_entry_backend(*entry)].service != service)
		entry = lb_flowtable_lookup_next(&worker->flowtable, hash, entry, worker->tick);
	return entry;
}

uint16_t lb_flow_find(struct lb_worker *worker, uint16_t service_id, const struct lb_flow_key *key,
	uint64_t hash)
{
	const uint64_t *entry = find_entry(worker, hash, service_id);

	if (entry != NULL && lb_decide_alive(worker->dp->backend_states, lb_flow_entry_backend(*entry)))
		return lb_flow_entry_backend(*entry);
	return lb_flow_choose(worker, service_id, key, hash, false, false).backend;
}

static void record(struct lb_worker *worker, uint64_t *entry, uint64_t hash, uint16_t backend, uint32_t state)
{
	if (entry != NULL) {
		if (lb_flow_entry_backend(*entry) != backend) {
			lb_flowtable_move(&worker->flowtable, entry, backend);
			worker->counters->flow.moved++;
		}
		lb_flowtable_touch(&worker->flowtable, entry, state, worker->tick);
		return;
	}
	lb_flowtable_insert(&worker->flowtable, hash, backend, state, worker->tick, true);
}

// With `on_empty: reset` the client is told; a fragment's or an ICMP error's sender is not (answer.c).
static void refuse(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint8_t verdict)
{
	burst->packets[i].verdict = verdict;
	if (worker->dp->services[burst->packets[i].service].on_empty == LB_ON_EMPTY_RESET)
		lb_burst_answer(burst, i);
}

static void no_backend(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	uint16_t service = burst->packets[i].service;
	bool has_table = atomic_load_explicit(&worker->dp->services[service].table,
				 memory_order_relaxed) != NULL;

	refuse(worker, burst, i, has_table ? LB_VERDICT_NO_BACKEND : LB_VERDICT_NO_TABLE);
	worker->counters->services[service].no_backend++;
}

// A new choice for the flow of packet @p i with @p entry (that does not hold), or none: NULL.
static void choose_and_record(
	struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t hash, uint64_t *entry)
{
	struct lb_packet *packet = &burst->packets[i];
	const struct lb_flow_key key = lb_burst_key(burst, i);
	bool is_tcp = key.proto == IPPROTO_TCP;
	bool begins = !is_tcp || is_syn(packet);
	struct lb_choice choice =
		lb_flow_choose(worker, packet->service, &key, hash, begins, true);

	packet->backend = choice.backend;
	if (unlikely(choice.backend == LB_BACKEND_NONE)) {
		no_backend(worker, burst, i);
		return;
	}
	worker->counters->flow.origin += choice.decision == LB_DECISION_ORIGIN;
	worker->counters->backends[choice.backend].new_flows += begins;
	if (choice.record || unlikely(entry != NULL))
		record(worker, entry, hash, choice.backend,
			(is_tcp ? lb_flow_tcp_state(LB_FLOW_FREE, packet->tcp_flags) : LB_FLOW_UDP) |
				(choice.pinned ? LB_FLOW_PINNED : 0));
}

bool lb_flow_settle_again(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t hash)
{
	struct lb_packet *packet = &burst->packets[i];
	uint64_t *entry = find_entry(worker, hash, packet->service);

	if (entry != NULL && entry_holds(worker->dp, *entry, packet)) {
		packet->backend = lb_flow_entry_backend(*entry);
		touch(worker, burst, i, entry, hash);
		return true;
	}
	// No other backend knows the connection: it would reset it too, only later and if it can be reached.
	if (entry != NULL && lb_burst_proto(burst, i) == IPPROTO_TCP && !is_syn(packet) &&
		worker->dp->services[packet->service].on_empty == LB_ON_EMPTY_RESET)
		refuse(worker, burst, i, LB_VERDICT_BACKEND_DOWN);
	else
		choose_and_record(worker, burst, i, hash, entry);
	return false;
}

// What is known of the burst's flows: for packet k of to_service its entry, `nothing` or NULL while there is none.
struct lookup {
	uint64_t *entries[LB_BURST];
	uint64_t nothing; /* a free entry */
	struct lb_flow_pending pending; /* not in their first bucket: in the second, or new */
	const struct lb_slot *slots[LB_BURST]; /* of those and of the misses; NULL: the service has no table */
	uint8_t misses[LB_BURST];
	unsigned n_misses;
};

// What a new choice for packet k reads first is on its way.
static inline void prefetch_slot(
	const struct lb_worker *worker, const struct lb_burst *burst, struct lookup *lookup, unsigned k)
{
	const struct lb_packet *packet = &burst->packets[burst->to_service[k]];
	const struct lb_slot_table *table =
		atomic_load_explicit(&worker->dp->services[packet->service].table, memory_order_acquire);

	lookup->slots[k] = likely(table != NULL) ? slot_of(table, burst->hashes[k]) : NULL;
	rte_prefetch0(lookup->slots[k]);
}

static inline void prefetch_backend(const struct lb_worker *worker, uint16_t backend)
{
	rte_prefetch0(&worker->dp->backends[backend]);
	rte_prefetch0_write(&worker->counters->backends[backend]);
}

// Whether packet k is a simple miss: see miss.h.
static bool is_simple(const struct lb_worker *worker, const struct lb_burst *burst, const struct lookup *lookup, unsigned k)
{
	unsigned i = burst->to_service[k];
	struct lb_miss_rule rule = lb_miss_rule_of(worker, burst->packets[i].service);

	return rule.table != NULL && ((burst->short_keys | burst->plain6) >> i & 1) != 0 && lookup->slots[k] != NULL &&
	       lb_miss_slot_is_simple(worker, rule.table, *lookup->slots[k]) &&
	       !lb_flowtable_may_hold(&worker->flowtable, burst->hashes[k]);
}

/*
 * Packet k without an entry that holds. After an earlier packet of the same flow it may have one: if its hash looks like one
 * before, as @p seen tells by eight bits of each, it is looked up again, as it is if it had an entry at the start. @return whether it has one.
 */
static bool settle_miss(
	struct lb_worker *worker, struct lb_burst *burst, const struct lookup *lookup, unsigned k, uint8_t *seen)
{
	uint64_t hash = burst->hashes[k];
	uint8_t *mark = &seen[(uint8_t)(hash >> 32)];
	bool is_hit = false;

	if (unlikely(*mark != 0 || lookup->entries[k] != NULL))
		is_hit = lb_flow_settle_again(worker, burst, burst->to_service[k], hash);
	else
		choose_and_record(worker, burst, burst->to_service[k], hash, NULL);
	*mark = 1;
	return is_hit;
}

// The packets without an entry that holds, in the burst's order, but the simple ones last.
static void settle_misses(struct lb_worker *worker, struct lb_burst *burst, const struct lookup *lookup)
{
	unsigned n = lookup->n_misses, n_hits = 0;
	uint8_t seen[256] = {0};
	uint32_t simple = 0;

	// The backend that the slot names, by now at hand, is the one nearly always.
	for (unsigned m = 0; m < n; m++) {
		unsigned k = lookup->misses[m];

		if (likely(lookup->slots[k] != NULL))
			prefetch_backend(worker, lookup->slots[k]->backend);
		simple |= (uint32_t)is_simple(worker, burst, lookup, k) << m;
	}
	for (unsigned m = 0; m < n; m++)
		if ((simple >> m & 1) == 0)
			n_hits += settle_miss(worker, burst, lookup, lookup->misses[m], seen);
	for (; simple != 0; simple &= simple - 1)
		n_hits += settle_miss(worker, burst, lookup, lookup->misses[__builtin_ctz(simple)], seen);
	worker->counters->flow.hit += n_hits;
	worker->counters->flow.miss += n - n_hits;
}

// Whether packet k goes where its entry says.
static bool follow_entry(struct lb_worker *worker, struct lb_burst *burst, unsigned k, uint64_t *entry)
{
	struct lb_packet *packet = &burst->packets[burst->to_service[k]];

	if (unlikely(!entry_holds(worker->dp, *entry, packet)))
		return false;
	packet->backend = lb_flow_entry_backend(*entry);
	touch(worker, burst, burst->to_service[k], entry, burst->hashes[k]);
	return true;
}

// The first buckets, which are at hand by now; what the next step needs of each backend is on its way.
static void look_up_first(struct lb_worker *worker, const struct lb_burst *burst, struct lookup *lookup)
{
	unsigned n = burst->n_to_service, n_pending = 0;

	for (unsigned k = 0; k < n; k++) {
		uint64_t *entry = lb_flowtable_probe(&worker->flowtable, burst->hashes[k], &lookup->nothing);

		lookup->entries[k] = entry;
		lookup->pending.idx[n_pending] = (uint8_t)k;
		n_pending += entry == &lookup->nothing;
		prefetch_backend(worker, lb_flow_entry_backend(*entry));
	}
	lookup->pending.n = n_pending;
}

static inline void await_second(
	struct lb_worker *worker, const struct lb_burst *burst, struct lookup *lookup, unsigned k)
{
	if (!burst->mostly_services || burst->mostly_hits) // else hash_and_fetch() has done it
		lb_flowtable_prefetch_second(&worker->flowtable, burst->hashes[k]);
	prefetch_slot(worker, burst, lookup, k);
}

// What is not quite plain about packet k, which found an entry.
static __rte_noinline void follow_one(
	struct lb_worker *worker, struct lb_burst *burst, struct lookup *lookup, unsigned k)
{
	struct lb_flowtable *table = &worker->flowtable;
	uint64_t hash = burst->hashes[k], *entry = lookup->entries[k];

	if (unlikely(!lb_flow_entry_live(table->idle_ticks, *entry, worker->tick))) {
		entry = lb_flow_bucket_find(table, &table->buckets[lb_flowtable_first_bucket(table, hash)],
			(uint32_t)(hash >> 32), 0xff, worker->tick);
		lookup->entries[k] = entry;
		if (entry == NULL) {
			lookup->pending.idx[lookup->pending.n++] = (uint8_t)k;
			await_second(worker, burst, lookup, k);
			return;
		}
	}
	if (unlikely(!follow_entry(worker, burst, k, entry))) {
		prefetch_slot(worker, burst, lookup, k);
		lookup->misses[lookup->n_misses++] = (uint8_t)k;
	}
}

/*
 * The packets that found an entry. Nearly all change nothing in it: neither a connection's beginning nor its end, and
 * not the first of their flow in this tick. A backend that is not down is in use, so that its entries live.
 */
static void follow_first(struct lb_worker *worker, struct lb_burst *burst, struct lookup *lookup)
{
	const struct lb_backend *backends = worker->dp->backends;
	unsigned n = burst->n_to_service;
	uint32_t tick = worker->tick;

	for (unsigned k = 0; k < n; k++) {
		struct lb_packet *packet = &burst->packets[burst->to_service[k]];
		uint64_t entry = *lookup->entries[k];
		uint16_t id = lb_flow_entry_backend(entry);
		uint8_t flags = packet->tcp_flags; // of UDP: none
		const struct lb_backend *backend = &backends[id];

		if (likely(lb_flow_entry_settled(entry, flags != 0 ? LB_FLOW_ESTABLISHED : LB_FLOW_UDP, tick)) &&
			likely((flags & (LB_TCP_FIN | LB_TCP_SYN | LB_TCP_RST)) == 0) &&
			likely(backend->service == packet->service) &&
			likely(atomic_load_explicit(&backend->state, memory_order_relaxed) !=
				LB_BACKEND_DOWN))
			packet->backend = id;
		else if (lookup->entries[k] != &lookup->nothing)
			follow_one(worker, burst, lookup, k);
	}
}

void lb_stage_flow(struct lb_worker *worker, struct lb_burst *burst)
{
	unsigned n = burst->n_to_service;
	struct lookup lookup;

	if (n == 0) {
		watch_port(worker, burst, 0);
		return;
	}
	if (unlikely(!burst->mostly_services))
		hash_and_fetch(worker, burst);
	order_hashes(burst);
	lookup.nothing = 0;
	lookup.n_misses = 0;
	look_up_first(worker, burst, &lookup);
	for (unsigned p = 0; p < lookup.pending.n; p++)
		await_second(worker, burst, &lookup, lookup.pending.idx[p]);
	follow_first(worker, burst, &lookup);
	if (lookup.pending.n != 0)
		lb_flowtable_lookup_end(
			&worker->flowtable, burst->hashes, lookup.entries, worker->tick, &lookup.pending);
	for (unsigned p = 0; p < lookup.pending.n; p++) {
		unsigned k = lookup.pending.idx[p];

		if (lookup.entries[k] == NULL || unlikely(!follow_entry(worker, burst, k, lookup.entries[k])))
			lookup.misses[lookup.n_misses++] = (uint8_t)k;
	}
	watch_port(worker, burst, lookup.n_misses);
	worker->counters->flow.hit += n - lookup.n_misses;
	// Last, since an insertion may move the entries that the hits point to.
	if (unlikely(lookup.n_misses != 0))
		settle_misses(worker, burst, &lookup);
}
