/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Simple misses (miss.h), in a fraction of the instructions of the stages for everything. In two steps: before classify they
 * are told from the others and leave the burst's list; after the flow stage, which has then dealt with the others, they are
 * recorded and rewritten.
 */
#include "dataplane/miss.h"

#include <netinet/in.h>

#include "dataplane/fast.h"
#include "dataplane/flow.h"
#include "dataplane/mss.h"
#include "dataplane/stages.h"

static inline unsigned first_of(uint32_t packets)
{
	return (unsigned)__builtin_ctz(packets);
}

// 0 if both are for the same address, port and protocol.
static inline uint64_t difference6(const struct lb_flow_key *a, const struct lb_flow_key *b)
{
	uint32_t end_a, end_b; // port, protocol, zero

	memcpy(&end_a, &a->dport_be, sizeof(end_a));
	memcpy(&end_b, &b->dport_be, sizeof(end_b));
	return (a->dst.u64[0] ^ b->dst.u64[0]) | (a->dst.u64[1] ^ b->dst.u64[1]) | (end_a ^ end_b);
}

// Of the packets in @p candidates, plain ones, whether all are for the same address, port and protocol.
static bool are_for_one(const struct lb_burst *burst, uint32_t candidates)
{
	unsigned first = first_of(candidates), n = burst->n;
	uint64_t differences = 0;

	if (likely((candidates & burst->short_keys) == lb_burst_all(burst))) {
		for (unsigned i = 1; i < n; i++)
			differences |= lb_flow_key4_dst(&burst->keys4[0]) ^ lb_flow_key4_dst(&burst->keys4[i]);
		return differences == 0;
	}
	if ((candidates & burst->plain6) == lb_burst_all(burst)) {
		for (unsigned i = 1; i < n; i++)
			differences |= difference6(&burst->keys[0], &burst->keys[i]);
		return differences == 0;
	}
	for (; candidates != 0; candidates &= candidates - 1) {
		unsigned i = first_of(candidates);

		if ((burst->short_keys >> i & 1) != (burst->short_keys >> first & 1))
			return false;
		if (burst->short_keys >> i & 1)
			differences |= lb_flow_key4_dst(&burst->keys4[first]) ^ lb_flow_key4_dst(&burst->keys4[i]);
		else
			differences |= difference6(&burst->keys[first], &burst->keys[i]);
	}
	return differences == 0;
}

/* What is known in the first step. */
struct finding {
	const struct lb_slot *slots[LB_BURST]; /* by packet index */
	uint32_t left;                         /* packets that may be simple misses */
	struct lb_miss_rule rule;              /* of `service` */
	uint16_t service;
};

// @p look at each of those that are left, which are all of the burst nearly always: it takes out what is no simple miss.
static inline __attribute__((always_inline)) void look_at_each(struct lb_worker *worker, struct finding *finding,
	void (*look)(struct lb_worker *worker, unsigned i, struct finding *finding))
{
	if (likely(finding->left == lb_burst_all(&worker->burst))) {
		for (unsigned i = 0, n = worker->burst.n; i < n; i++)
			look(worker, i, finding);
		return;
	}
	for (uint32_t left = finding->left; left != 0; left &= left - 1)
		look(worker, first_of(left), finding);
}

static inline void take_out(struct finding *finding, unsigned i)
{
	finding->left &= ~(UINT32_C(1) << i);
}

static inline void set_flags(struct lb_burst *burst, const struct lb_miss_rule *rule, uint32_t packets)
{
	if (rule->records)
		burst->records |= packets;
	if (rule->clamps)
		burst->clamps |= packets;
}

static inline void find_slot(struct lb_worker *worker, unsigned i, struct finding *finding)
{
	const struct lb_slot_table *table = finding->rule.table;

	finding->slots[i] = &table->slots[lb_hash_slot(worker->burst.hashes[i], table->n_slots)];
	rte_prefetch0(finding->slots[i]);
}

static inline void find_slot_of_one(struct lb_worker *worker, unsigned i, struct finding *finding)
{
	worker->burst.packets[i].service = finding->service;
	find_slot(worker, i, finding);
}

static inline void find_slot_of_several(struct lb_worker *worker, unsigned i, struct finding *finding)
{
	struct lb_burst *burst = &worker->burst;

	if (burst->packets[i].service != finding->service) {
		finding->service = burst->packets[i].service;
		finding->rule = lb_miss_rule_of(worker, finding->service);
	}
	if (unlikely(finding->rule.table == NULL)) {
		take_out(finding, i);
		return;
	}
	set_flags(burst, &finding->rule, UINT32_C(1) << i);
	find_slot(worker, i, finding);
}

static void find_slots(struct lb_worker *worker, struct finding *finding)
{
	struct lb_burst *burst = &worker->burst;
	struct lb_flow_key key;

	burst->records = burst->clamps = 0;
	if (unlikely(!are_for_one(burst, finding->left))) {
		lb_classify_services(worker->dp, burst);
		finding->service = LB_CLASSIFY_NONE;
		finding->rule.table = NULL;
		look_at_each(worker, finding, find_slot_of_several);
		return;
	}
	key = lb_burst_key(burst, first_of(finding->left));
	finding->service = lb_classify_service(worker->dp, &key.dst, key.dport_be, key.proto);
	finding->rule = lb_miss_rule_of(worker, finding->service);
	if (finding->rule.table == NULL) {
		finding->left = 0;
		return;
	}
	set_flags(burst, &finding->rule, UINT32_MAX);
	look_at_each(worker, finding, find_slot_of_one);
}

// The slot's backend, its lines on the way.
static inline void follow_slot(struct lb_worker *worker, unsigned i, struct finding *finding)
{
	const struct lb_dp *dp = worker->dp;
	struct lb_packet *packet = &worker->burst.packets[i];
	struct lb_slot slot = *finding->slots[i];

	if (unlikely(slot.changed_s != 0) || unlikely(slot.backend == LB_SLOT_NONE)) {
		// Another one, perhaps, than the slot is of, or NULL: its service has just been deleted.
		const struct lb_slot_table *table =
			atomic_load_explicit(&dp->services[packet->service].table, memory_order_acquire);

		if (table == NULL || !lb_miss_slot_is_simple(worker, table, slot)) {
			take_out(finding, i);
			return;
		}
	}
	packet->backend = slot.backend;
	rte_prefetch0(&dp->backends[slot.backend]);
	rte_prefetch0_write(&worker->counters->backends[slot.backend]);
}

static inline uint32_t signature_of(const struct lb_burst *burst, unsigned i)
{
	uint32_t signature;

	memcpy(&signature, (const uint8_t *)&burst->hashes[i] + 4, sizeof(signature)); // little endian: from memory
	return signature;
}

// Whether the flow may have an entry, if it cannot be in its second bucket.
static inline void look_for_entry(struct lb_worker *worker, unsigned i, struct finding *finding)
{
	const struct lb_burst *burst = &worker->burst;

	if (unlikely(lb_flow_match(burst->buckets[i]->entries, signature_of(burst, i)) != 0))
		take_out(finding, i);
}

// The same if it may be.
static inline void look_for_entry_in_both(struct lb_worker *worker, unsigned i, struct finding *finding)
{
	const struct lb_burst *burst = &worker->burst;
	const struct lb_flow_bucket *first = burst->buckets[i];
	const struct lb_flow_bucket *second = burst->away >> i & 1 ? burst->seconds[i] : first;
	uint32_t signature = signature_of(burst, i);

	if (unlikely(lb_flow_match_any(first->entries, signature, second->entries, signature)))
		take_out(finding, i);
}

void lb_stage_miss_find(struct lb_worker *worker, uint32_t candidates)
{
	struct lb_burst *burst = &worker->burst;
	struct finding finding;

	finding.left = candidates & (burst->short_keys | burst->plain6);
	if (finding.left == 0)
		return;
	find_slots(worker, &finding);
	look_at_each(worker, &finding, follow_slot);
	// the flow table's lines are the last to arrive
	if (likely((burst->away & finding.left) == 0))
		look_at_each(worker, &finding, look_for_entry);
	else
		look_at_each(worker, &finding, look_for_entry_in_both);
	burst->misses = finding.left;
	if (likely(burst->misses == lb_burst_all(burst))) {
		burst->n_ip = 0;
		return;
	}
	if (burst->misses == 0)
		return;
	lb_burst_shorten(burst, burst->misses);
	burst->inserts_before = worker->counters->flow.insert;
	memcpy(burst->miss_hashes, burst->hashes, sizeof(burst->miss_hashes)); // the flow stage puts those in another order
}

/* What is known in the second step. */
struct settling {
	const uint64_t *hashes; /* by packet index */
	bool others;            /* the flow stage has recorded flows meanwhile, perhaps one of these */
	unsigned n_hits;
	uint32_t left; /* packets that are to be rewritten by the stage for that */
	uint8_t seen[256];
};

static inline void record(struct lb_worker *worker, unsigned i, struct settling *settling)
{
	const struct lb_burst *burst = &worker->burst;
	const struct lb_packet *packet = &burst->packets[i];
	enum lb_flow_state state = packet->tcp_flags != 0 ? LB_FLOW_SYN : LB_FLOW_UDP;
	uint32_t signature = (uint32_t)(settling->hashes[i] >> 32);
	uint64_t entry = lb_flow_entry_make(signature, packet->backend, worker->tick, state);

	settling->seen[(uint8_t)signature] = 1;
	if (unlikely(!lb_flowtable_put(&worker->flowtable, burst->buckets[i], burst->seconds[i], entry)))
		lb_flowtable_insert(&worker->flowtable, settling->hashes[i], packet->backend, state, worker->tick, true);
}

/*
 * An earlier one may be of the same flow, and have recorded it: one whose hash looks like one before is looked up again, as
 * the flow stage does; so is each whose entry that stage may have recorded meanwhile.
 */
static inline bool may_have_entry(const struct lb_worker *worker, unsigned i, const struct settling *settling)
{
	uint64_t hash = settling->hashes[i];

	return unlikely(settling->seen[(uint8_t)(hash >> 32)] != 0) ||
	       (unlikely(settling->others) && lb_flowtable_may_hold(&worker->flowtable, hash));
}

static inline __attribute__((always_inline)) void settle_one(struct lb_worker *worker, unsigned i,
	struct settling *settling, const struct lb_backend *backends, struct lb_backend_counters *all_counters, bool may_record,
	unsigned family)
{
	struct lb_burst *burst = &worker->burst;
	const struct lb_packet *packet = &burst->packets[i];
	const struct lb_backend *backend = &backends[packet->backend];
	struct lb_backend_counters *counters = &all_counters[packet->backend];
	uint8_t flags = packet->tcp_flags;
	bool begins = lb_miss_begins(flags);
	uint64_t nexthop;

	if (may_record) {
		if (unlikely(may_have_entry(worker, i, settling))) {
			settling->n_hits += lb_flow_settle_again(worker, burst, i, settling->hashes[i]);
			settling->left |= UINT32_C(1) << i;
			return;
		}
		if (begins && (burst->records >> i & 1) != 0)
			record(worker, i, settling);
	}
	counters->new_flows += begins;
	nexthop = atomic_load_explicit(&backend->nexthop, memory_order_relaxed);
	if (unlikely(backend->mode != LB_MODE_NAT) ||
		unlikely(packet->wire_bytes > worker->frame_limits[lb_nexthop_port(nexthop)])) {
		settling->left |= UINT32_C(1) << i;
		return;
	}
	if (flags != 0)
		lb_fast_send(worker, burst, i, nexthop, backend, counters, family, IPPROTO_TCP);
	else
		lb_fast_send(worker, burst, i, nexthop, backend, counters, family, IPPROTO_UDP);
	if (flags & LB_TCP_SYN && unlikely(burst->clamps >> i & 1))
		lb_mss_clamp(worker, burst, i, backend, burst->port, lb_nexthop_port(nexthop));
}

static inline __attribute__((always_inline)) void settle(struct lb_worker *worker, struct settling *settling, bool may_record)
{
	const struct lb_burst *burst = &worker->burst;
	const struct lb_backend *backends = worker->dp->backends;
	struct lb_backend_counters *counters = worker->counters->backends;
	uint32_t short_keys = burst->short_keys;

	if (likely((short_keys & burst->misses) == lb_burst_all(burst))) {
		for (unsigned i = 0, n = burst->n; i < n; i++)
			settle_one(worker, i, settling, backends, counters, may_record, 4);
		return;
	}
	for (uint32_t misses = burst->misses; misses != 0; misses &= misses - 1) {
		unsigned i = first_of(misses);

		if (short_keys >> i & 1)
			settle_one(worker, i, settling, backends, counters, may_record, 4);
		else
			settle_one(worker, i, settling, backends, counters, may_record, 6);
	}
}

void lb_stage_miss_settle(struct lb_worker *worker)
{
	struct lb_burst *burst = &worker->burst;
	bool alone = burst->misses == lb_burst_all(burst);
	struct settling settling;

	settling.hashes = alone ? burst->hashes : burst->miss_hashes;
	settling.others = !alone && worker->counters->flow.insert != burst->inserts_before;
	settling.n_hits = 0;
	settling.left = 0;
	if (burst->records != 0 || settling.others) {
		memset(settling.seen, 0, sizeof(settling.seen));
		settle(worker, &settling, true);
	} else {
		settle(worker, &settling, false);
	}
	burst->settled |= burst->misses & ~settling.left;
	for (; unlikely(settling.left != 0); settling.left &= settling.left - 1) {
		unsigned i = first_of(settling.left);

		burst->hashes[burst->n_to_service] = settling.hashes[i]; // a lower index, if it is the same array
		burst->to_service[burst->n_to_service++] = (uint8_t)i;
	}
	worker->counters->flow.hit += settling.n_hits;
	worker->counters->flow.miss += (unsigned)__builtin_popcount(burst->misses) - settling.n_hits;
}
