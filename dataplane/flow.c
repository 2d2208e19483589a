/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stage 3, flow: which backend? In this order (lb/decide.h): the flow table's entry; the slot of the lookup
 * table; for a TCP packet in mid-stream the slot's origin, as long as the slot is in transition.
 */
#include "dataplane/flow.h"

#include <netinet/in.h>

#include "dataplane/stages.h"
#include "dataplane/worker.h"

// Hash of every packet in the list. The keys are already side by side when the whole burst is in it.
static void hash_list(const struct lb_worker *worker, struct lb_burst *burst)
{
	struct lb_flow_key keys[LB_BURST];
	unsigned n = burst->n_to_service;

	if (likely(n == burst->n)) {
		lb_hash_flows(&worker->dp->hash_key, burst->keys, burst->hashes, n);
		return;
	}
	for (unsigned k = 0; k < n; k++)
		keys[k] = burst->keys[burst->to_service[k]];
	lb_hash_flows(&worker->dp->hash_key, keys, burst->hashes, n);
}

static inline bool is_syn(const struct lb_packet *packet)
{
	return (packet->tcp_flags & (LB_TCP_SYN | LB_TCP_ACK)) == LB_TCP_SYN;
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

// First packet of a flow in this tick, or one that changes its state.
static void refresh(const struct lb_worker *worker, uint64_t *entry, uint16_t service, uint64_t hash,
	enum lb_flow_state state)
{
	const struct lb_slot_table *table =
		atomic_load_explicit(&worker->dp->services[service].table, memory_order_acquire);
	uint32_t pinned = *entry & LB_FLOW_PINNED;

	if (unlikely(table != NULL && lb_slots_in_transition(table, worker->now_s)))
		pinned = lb_decide_pinned(lb_flow_entry_backend(*entry),
				 &table->slots[lb_hash_slot(hash, table->n_slots)], table->transition_s,
				 worker->now_s, overloaded(worker, table))
				 ? LB_FLOW_PINNED
				 : 0;
	lb_flowtable_touch(entry, state | pinned, worker->tick);
}

static inline void touch(const struct lb_worker *worker, uint64_t *entry, const struct lb_packet *packet,
	uint64_t hash)
{
	enum lb_flow_state state = lb_flow_entry_state(*entry), next = state;

	if (state != LB_FLOW_UDP)
		next = lb_flow_tcp_state(state, packet->tcp_flags);
	if (unlikely(next != state || lb_flow_entry_time(*entry) != (worker->tick & LB_FLOW_TIME_MASK)))
		refresh(worker, entry, packet->service, hash, next);
}

struct lb_choice lb_flow_choose(const struct lb_worker *worker, uint16_t service_id, uint64_t hash,
	bool is_tcp, bool begins)
{
	const struct lb_dp *dp = worker->dp;
	const struct lb_service *service = &dp->services[service_id];
	const struct lb_slot_table *table =
		atomic_load_explicit(&service->table, memory_order_acquire);
	struct lb_slot slot;

	if (unlikely(table == NULL))
		return (struct lb_choice){.backend = LB_BACKEND_NONE};
	slot = table->slots[lb_hash_slot(hash, table->n_slots)];
	// The origin may have been removed, and its id given to another service.
	if (slot.origin != LB_SLOT_NONE && dp->backends[slot.origin].service != service_id)
		slot.origin = LB_SLOT_NONE;
	return lb_decide_miss(&slot, table->transition_s, worker->now_s, is_tcp, begins,
		worker->pressure ? LB_TRACKING_CHANGED : service->tracking, overloaded(worker, table),
		dp->backend_states);
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

static void record(struct lb_worker *worker, uint64_t *entry, uint64_t hash, uint16_t backend, uint32_t state)
{
	if (entry != NULL) {
		if (lb_flow_entry_backend(*entry) != backend) {
			lb_flowtable_move(&worker->flowtable, entry, backend);
			worker->counters->flow.moved++;
		}
		lb_flowtable_touch(entry, state, worker->tick);
		return;
	}
	lb_flowtable_insert(&worker->flowtable, hash, backend, state, worker->tick, true);
}

static void no_backend(struct lb_worker *worker, struct lb_packet *packet)
{
	bool has_table = atomic_load_explicit(&worker->dp->services[packet->service].table,
				 memory_order_relaxed) != NULL;

	packet->verdict = has_table ? LB_VERDICT_NO_BACKEND : LB_VERDICT_NO_TABLE;
	worker->counters->services[packet->service].no_backend++;
}

/*
 * A packet whose flow has no entry, or one that does not hold. Looks again first: an earlier packet of the burst
 * may have recorded the flow.
 */
static void settle_miss(struct lb_worker *worker, struct lb_burst *burst, unsigned k)
{
	struct lb_packet *packet = &burst->packets[burst->to_service[k]];
	bool is_tcp = burst->keys[burst->to_service[k]].proto == IPPROTO_TCP;
	bool begins = !is_tcp || is_syn(packet);
	uint64_t hash = burst->hashes[k];
	uint64_t *entry = find_entry(worker, hash, packet->service);
	struct lb_choice choice;

	if (entry != NULL && entry_holds(worker->dp, *entry, packet)) {
		packet->backend = lb_flow_entry_backend(*entry);
		touch(worker, entry, packet, hash);
		worker->counters->flow.hit++;
		return;
	}
	worker->counters->flow.miss++;
	choice = lb_flow_choose(worker, packet->service, hash, is_tcp, begins);
	packet->backend = choice.backend;
	if (unlikely(choice.backend == LB_BACKEND_NONE)) {
		no_backend(worker, packet);
		return;
	}
	worker->counters->flow.origin += choice.decision == LB_DECISION_ORIGIN;
	worker->counters->backends[choice.backend].new_flows += begins;
	if (choice.record || entry != NULL)
		record(worker, entry, hash, choice.backend,
			(is_tcp ? lb_flow_tcp_state(LB_FLOW_FREE, packet->tcp_flags) : LB_FLOW_UDP) |
				(choice.pinned ? LB_FLOW_PINNED : 0));
}

void lb_stage_flow(struct lb_worker *worker, struct lb_burst *burst)
{
	const struct lb_dp *dp = worker->dp;
	unsigned n = burst->n_to_service;
	uint64_t *entries[LB_BURST];
	uint8_t misses[LB_BURST];
	unsigned n_misses = 0;

	if (n == 0)
		return;
	hash_list(worker, burst);
	for (unsigned k = 0; k < n; k++)
		lb_flowtable_prefetch(&worker->flowtable, burst->hashes[k]);
	lb_flowtable_lookup_burst(&worker->flowtable, burst->hashes, entries, n, worker->tick);
	for (unsigned k = 0; k < n; k++)
		if (entries[k] != NULL)
			rte_prefetch0(&dp->backends[lb_flow_entry_backend(*entries[k])]);
	for (unsigned k = 0; k < n; k++) {
		struct lb_packet *packet = &burst->packets[burst->to_service[k]];

		if (likely(entries[k] != NULL && entry_holds(dp, *entries[k], packet))) {
			packet->backend = lb_flow_entry_backend(*entries[k]);
			touch(worker, entries[k], packet, burst->hashes[k]);
		} else {
			misses[n_misses++] = (uint8_t)k;
		}
	}
	worker->counters->flow.hit += n - n_misses;
	// Last, since an insertion may move the entries that the hits point to.
	for (unsigned m = 0; m < n_misses; m++)
		settle_miss(worker, burst, misses[m]);
}
