/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/flowtable.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FLOW_MAGIC UINT64_C(0x776f6c666c7546) /* "Fulflow" */
#define FLOW_VERSION 4u /* 1, 2: the hash of flows was another; 3: so were their buckets */

/*
 * What makes a table in memory usable by the next process. The worker that owns the table writes;
 * at the next start lb_flowtable_init() reads, trusting nothing.
 */
struct lb_flow_header {
	uint64_t magic; /* written last */
	uint32_t version;
	uint32_t entry_bytes;
	uint32_t n_buckets;
	uint32_t tick_ms;
	uint32_t worker;
	uint32_t n_workers;
	uint64_t secret_id;
	uint32_t last_tick; /* of the last sweep: the entries' 12 bits of time are relative to it */
	uint32_t zero[5];
};
static_assert(sizeof(struct lb_flow_header) == 64, "buckets follow, aligned");

// A table of n flows has n / 0.9 ways: with two candidate buckets of eight, next to nothing is lost
// at 90 % load.
static uint64_t n_buckets_for(uint64_t n_flows)
{
	uint64_t n_ways = (n_flows * 10 + 8) / 9;
	uint64_t n_buckets = (n_ways + LB_FLOWTABLE_WAYS - 1) / LB_FLOWTABLE_WAYS;

	return n_buckets + n_buckets % 2;
}

#define N_BITMAPS 3u

// Of one bitmap: whole lines.
static uint64_t bitmap_bytes(uint64_t n_buckets)
{
	return (n_buckets + 511) / 512 * 64;
}

uint64_t lb_flowtable_bytes(uint64_t n_flows)
{
	if (n_flows == 0 || n_flows > UINT64_C(1) << 33)
		return 0;
	return sizeof(struct lb_flow_header) +
	       n_buckets_for(n_flows) * sizeof(struct lb_flow_bucket) +
	       N_BITMAPS * bitmap_bytes(n_buckets_for(n_flows));
}

static inline void count_add(struct lb_flowtable *table, uint64_t entry)
{
	++*lb_flowtable_count_of(table, lb_flow_entry_backend(entry), entry);
	table->counters->used++;
}

static inline void count_del(struct lb_flowtable *table, uint64_t entry)
{
	--*lb_flowtable_count_of(table, lb_flow_entry_backend(entry), entry);
	table->counters->used--;
}

static inline void entry_store(uint64_t *entry, uint64_t value)
{
	__atomic_store_n(entry, value, __ATOMIC_RELAXED); // the main lcore may read it at any time
}

// The bit for @p entry, which is in @p bucket, if it is a guest there.
static inline void note_guest(const struct lb_flowtable *table, uint32_t bucket, uint64_t entry)
{
	uint32_t signature = lb_flow_entry_signature(entry);

	if (lb_flow_is_guest(table, bucket, signature))
		lb_flowtable_set_away(table, lb_flowtable_other_bucket(table, bucket, signature));
}

static inline uint32_t bucket_of(const struct lb_flowtable *table, const uint64_t *entry)
{
	return (uint32_t)((uint64_t)(entry - table->buckets[0].entries) / LB_FLOWTABLE_WAYS);
}

/* ---- start and adoption ---- */

static struct lb_flow_header header_wanted(const struct lb_flowtable *table,
	const struct lb_flowtable_config *config, uint32_t now_tick)
{
	return (struct lb_flow_header){
		.magic = FLOW_MAGIC,
		.version = FLOW_VERSION,
		.entry_bytes = sizeof(uint64_t),
		.n_buckets = table->n_buckets,
		.tick_ms = LB_FLOW_TICK_MS,
		.worker = config->worker,
		.n_workers = config->n_workers,
		.secret_id = config->secret_id,
		.last_tick = now_tick,
	};
}

/* Why the table under @p found cannot be gone on with as @p wanted; "": it can. */
static void why_not(const struct lb_flow_header *found, const struct lb_flow_header *wanted,
	char *why, size_t why_bytes)
{
	if (found->magic != FLOW_MAGIC)
		snprintf(why, why_bytes, "the memory holds no flow table");
	else if (found->version != FLOW_VERSION || found->entry_bytes != wanted->entry_bytes ||
		 found->tick_ms != wanted->tick_ms)
		snprintf(why, why_bytes, "flow table has version %" PRIu32 ", this is %" PRIu32,
			found->version, wanted->version);
	else if (found->n_workers != wanted->n_workers || found->worker != wanted->worker)
		snprintf(why, why_bytes,
			"flow table is worker %" PRIu32 "'s of %" PRIu32 ", this is %" PRIu32
			" of %" PRIu32 ": RSS spreads the flows differently",
			found->worker, found->n_workers, wanted->worker, wanted->n_workers);
	else if (found->n_buckets != wanted->n_buckets)
		snprintf(why, why_bytes,
			"flow table has %" PRIu32 " buckets, this needs %" PRIu32
			": entries do not hold what another size needs",
			found->n_buckets, wanted->n_buckets);
	else if (found->secret_id != wanted->secret_id)
		snprintf(why, why_bytes, "flow table was made with another hash secret");
	else if ((int32_t)(wanted->last_tick - found->last_tick) < 0)
		snprintf(why, why_bytes, "flow table is from the future: the clock went back");
	else
		why[0] = '\0';
}

// Entries may be a little newer than the last sweep, whose tick their time is relative to.
#define ADOPT_SLACK_TICKS 64u

static bool adoptable(
	const struct lb_flowtable *table, uint64_t entry, uint32_t last_tick, uint32_t down_ticks)
{
	uint32_t limit = lb_flow_entry_limit(table->idle_ticks, entry);
	uint32_t age = lb_flow_entry_age(entry, last_tick + ADOPT_SLACK_TICKS);

	age = age > ADOPT_SLACK_TICKS ? age - ADOPT_SLACK_TICKS : 0;
	// age + down_ticks is not wrapped: it tells entries apart however long the process was away
	return (uint64_t)age + down_ticks < limit;
}

static int64_t adopt(struct lb_flowtable *table, uint32_t last_tick, uint32_t now_tick)
{
	uint64_t n_entries = lb_flowtable_capacity(table);
	int64_t n_adopted = 0;

	for (uint64_t i = 0; i < n_entries; i++) {
		uint64_t *entry =
			&table->buckets[i / LB_FLOWTABLE_WAYS].entries[i % LB_FLOWTABLE_WAYS];

		if (*entry == 0)
			continue;
		if (!adoptable(table, *entry, last_tick, now_tick - last_tick)) {
			entry_store(entry, 0);
			continue;
		}
		count_add(table, *entry);
		note_guest(table, (uint32_t)(i / LB_FLOWTABLE_WAYS), *entry);
		n_adopted++;
	}
	return n_adopted;
}

static bool config_valid(const struct lb_flowtable_config *config)
{
	uint64_t n_bytes = lb_flowtable_bytes(config->n_flows);

	return config->mem != NULL && (uintptr_t)config->mem % 64 == 0 && n_bytes != 0 &&
	       config->mem_bytes >= n_bytes && config->idle_ticks != NULL &&
	       config->active != NULL && config->closing != NULL &&
	       config->active_stride % sizeof(int64_t) == 0 &&
	       config->counters != NULL;
}

int64_t lb_flowtable_init(struct lb_flowtable *table, const struct lb_flowtable_config *config,
	uint32_t now_tick, char *why, size_t why_bytes)
{
	struct lb_flow_header *header = config->mem;
	struct lb_flow_header wanted;
	uint64_t n_bitmap_bytes;
	char reason[160];
	int64_t n_adopted = 0;

	if (!config_valid(config))
		return -EINVAL;
	*table = (struct lb_flowtable){
		.header = header,
		.buckets = (struct lb_flow_bucket *)(header + 1),
		.n_buckets = (uint32_t)n_buckets_for(config->n_flows),
		.idle_ticks = config->idle_ticks,
		.active = config->active,
		.closing = config->closing,
		.active_stride = config->active_stride,
		.counters = config->counters,
	};
	// Beyond 31/32 full a free way is rarely one move away, and looking for it costs a line
	// each.
	table->displace_max = lb_flowtable_capacity(table) / 32 * 31;
	n_bitmap_bytes = bitmap_bytes(table->n_buckets);
	table->away = (uint64_t *)(table->buckets + table->n_buckets);
	table->away_next = table->away + n_bitmap_bytes / sizeof(uint64_t);
	table->away_spare = table->away_next + n_bitmap_bytes / sizeof(uint64_t);
	memset(table->away, 0, N_BITMAPS * n_bitmap_bytes);
	table->counters->used = 0;
	wanted = header_wanted(table, config, now_tick);
	why_not(header, &wanted, reason, sizeof(reason));
	if (reason[0] == '\0')
		n_adopted = adopt(table, header->last_tick, now_tick);
	else
		memset(table->buckets, 0, table->n_buckets * sizeof(struct lb_flow_bucket));
	*header = wanted;
	if (why != NULL && why_bytes != 0)
		snprintf(why, why_bytes, "%s", reason);
	return n_adopted;
}

/* ---- lookup ---- */

/* What the loop of lb_flowtable_lookup_begin() does, for the rare burst that hits an expired entry.
 */
static unsigned find_live(struct lb_flowtable *table, const uint64_t *hashes,
	uint64_t **entries_out, unsigned n, uint32_t now_tick, struct lb_flow_pending *pending)
{
	unsigned n_pending = 0;

	for (unsigned i = 0; i < n; i++) {
		struct lb_flow_bucket *bucket =
			&table->buckets[lb_flowtable_first_bucket(table, hashes[i])];

		entries_out[i] = lb_flow_bucket_find(
			table, bucket, (uint32_t)(hashes[i] >> 32), 0xff, now_tick);
		pending->idx[n_pending] = (uint8_t)i;
		n_pending += entries_out[i] == NULL;
	}
	return n_pending;
}

/*
 * There is no branch on whether an entry has expired until all are known: the second loop may be
 * vectorised.
 */
unsigned lb_flowtable_lookup_begin(struct lb_flowtable *table, const uint64_t *hashes,
	uint64_t **entries_out, unsigned n, uint32_t now_tick, struct lb_flow_pending *pending)
{
	unsigned n_pending = 0, n_live = 0;
	uint64_t found[LB_FLOWTABLE_BURST_MAX], nothing = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t *entry = lb_flowtable_probe(table, hashes[i], &nothing);

		entries_out[i] = entry;
		found[i - n_pending] = *entry;
		pending->idx[n_pending] = (uint8_t)i;
		n_pending += entry == &nothing;
	}
	for (unsigned i = 0; i < n - n_pending; i++)
		n_live += lb_flow_entry_live(table->idle_ticks, found[i], now_tick);
	if (__builtin_expect(n_live != n - n_pending, 0))
		n_pending = find_live(table, hashes, entries_out, n, now_tick, pending);
	pending->n = n_pending;
	for (unsigned i = 0; i < n_pending; i++)
		lb_flowtable_prefetch_second(table, hashes[pending->idx[i]]);
	return n - n_pending;
}

/*
 * Bring an entry that was found in its second bucket to its first, if that has a free way by now:
 * both lines are at hand. Each flow that goes on sending ends up where one line is enough.
 */
static uint64_t *promote(struct lb_flow_bucket *first, uint64_t *entry)
{
	uint32_t free_ways = lb_flow_match_free(first->entries);
	uint64_t *better;

	if (free_ways == 0)
		return entry;
	better = &first->entries[__builtin_ctz(free_ways)];
	entry_store(better, *entry);
	entry_store(entry, 0);
	return better;
}

/* What earlier packets of the burst did to entries in their second buckets, perhaps to this one's. */
struct promotions {
	bool any;
	uint64_t stayed; /* bit per value of 6 bits of their signatures: those for which there was no room */
};

static inline uint64_t *lookup_pending(
	struct lb_flowtable *table, uint64_t hash, uint32_t now_tick, struct promotions *promotions)
{
	uint32_t signature = (uint32_t)(hash >> 32);
	uint32_t first = lb_flowtable_first_bucket(table, hash);
	uint32_t second = lb_flowtable_other_bucket(table, first, signature);
	uint64_t *entry = NULL;

	if (lb_flowtable_away(table, first))
		entry = lb_flow_bucket_find(table, &table->buckets[second], signature, 0xff, now_tick);
	if (entry != NULL) {
		uint64_t bit = UINT64_C(1) << (signature & 63), *better;

		// There may be room by now, but an earlier packet's pointer to this entry must hold
		if (promotions->stayed & bit)
			return entry;
		better = promote(&table->buckets[first], entry);
		if (better == entry)
			promotions->stayed |= bit;
		promotions->any = true;
		return better;
	}
	if (__builtin_expect(!promotions->any, 1))
		return entry;
	return lb_flow_bucket_find(table, &table->buckets[first], signature, 0xff, now_tick);
}

unsigned lb_flowtable_lookup_end(struct lb_flowtable *table, const uint64_t *hashes,
	uint64_t **entries_out, uint32_t now_tick, const struct lb_flow_pending *pending)
{
	struct promotions promotions = {0};
	unsigned n_hits = 0;

	for (unsigned i = 0; i < pending->n; i++) {
		unsigned idx = pending->idx[i];

		entries_out[idx] = lookup_pending(table, hashes[idx], now_tick, &promotions);
		n_hits += entries_out[idx] != NULL;
	}
	return n_hits;
}

unsigned lb_flowtable_lookup_burst(struct lb_flowtable *table, const uint64_t *hashes,
	uint64_t **entries_out, unsigned n, uint32_t now_tick)
{
	struct lb_flow_pending pending;
	unsigned n_hits = 0;

	for (unsigned i = 0; i < n; i += LB_FLOWTABLE_BURST_MAX) {
		unsigned n_now = n - i < LB_FLOWTABLE_BURST_MAX ? n - i : LB_FLOWTABLE_BURST_MAX;

		n_hits += lb_flowtable_lookup_begin(
			table, hashes + i, entries_out + i, n_now, now_tick, &pending);
		n_hits += lb_flowtable_lookup_end(
			table, hashes + i, entries_out + i, now_tick, &pending);
	}
	return n_hits;
}

uint64_t *lb_flowtable_lookup_next(
	struct lb_flowtable *table, uint64_t hash, uint64_t *entry, uint32_t now_tick)
{
	uint32_t first = lb_flowtable_first_bucket(table, hash);
	uint32_t signature = (uint32_t)(hash >> 32);
	uint32_t second = lb_flowtable_other_bucket(table, first, signature);
	uint32_t bucket = bucket_of(table, entry);
	uint32_t later_ways = 0xfeu << (entry - table->buckets[bucket].entries);

	entry = lb_flow_bucket_find(
		table, &table->buckets[bucket], signature, later_ways & 0xff, now_tick);
	if (entry != NULL || bucket != first)
		return entry;
	return lb_flow_bucket_find(table, &table->buckets[second], signature, 0xff, now_tick);
}

/* ---- insertion ---- */

/* Ways whose entry is dead, but not free. */
static inline uint32_t dead_ways(
	const struct lb_flowtable *table, const struct lb_flow_bucket *bucket, uint32_t now_tick)
{
	uint32_t live = 0;

	for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++)
		live |= (uint32_t)lb_flow_entry_live(
				table->idle_ticks, bucket->entries[way], now_tick)
			<< way;
	return ~(live | lb_flow_match_free(bucket->entries)) & 0xff;
}

/* Of the ways in @p mask, the first whose entry is dead; NULL: none. */
static uint64_t *find_dead(const struct lb_flowtable *table, struct lb_flow_bucket *bucket,
	uint32_t mask, uint32_t now_tick)
{
	mask &= dead_ways(table, bucket, now_tick);
	return mask != 0 ? &bucket->entries[__builtin_ctz(mask)] : NULL;
}

static void reclaim(struct lb_flowtable *table, uint64_t *entry)
{
	count_del(table, *entry);
	table->counters->expire++;
	entry_store(entry, 0);
}

/* The other buckets of a full bucket's entries, their lines on the way. */
static void find_others(const struct lb_flowtable *table, uint32_t from,
	struct lb_flow_bucket *others[LB_FLOWTABLE_WAYS])
{
	for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++) {
		uint64_t entry = table->buckets[from].entries[way];

		others[way] = &table->buckets[lb_flowtable_other_bucket(
			table, from, lb_flow_entry_signature(entry))];
		__builtin_prefetch(others[way]);
	}
}

// @p entry, which is in bucket @p from, into a way of its other bucket.
static void go_to(struct lb_flowtable *table, uint32_t from, uint64_t *way, uint64_t entry)
{
	if (!lb_flow_is_guest(table, from, lb_flow_entry_signature(entry)))
		lb_flowtable_set_away(table, from);
	entry_store(way, entry);
}

/* Move one entry of bucket @p from to a free way of its other bucket. @return the vacated way. */
static uint64_t *displace(struct lb_flowtable *table, uint32_t from)
{
	struct lb_flow_bucket *bucket = &table->buckets[from];
	struct lb_flow_bucket *others[LB_FLOWTABLE_WAYS];

	find_others(table, from, others);
	for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++) {
		uint32_t free_ways = lb_flow_match_free(others[way]->entries);

		if (free_ways == 0)
			continue;
		// A process killed before the way is overwritten leaves the flow twice, which
		// lookup does not mind
		go_to(table, from, &others[way]->entries[__builtin_ctz(free_ways)], bucket->entries[way]);
		return &bucket->entries[way];
	}
	return NULL;
}

/* What may be evicted, from what goes last to what goes first. */
enum rank {
	RANK_NONE,
	RANK_PINNED_LIVE,
	RANK_PINNED_SYN, // of a handshake under way: its entry is what tells it from an older flow
	RANK_LIVE,
	RANK_PINNED_FIN, // nearly always over
	RANK_FIN,
	RANK_SYN,
	RANK_CLOSED,
	RANK_EXPIRED,
	RANK_FREE
};

static const uint8_t evict_rank[16] = {
	[LB_FLOW_SYN] = RANK_SYN,
	[LB_FLOW_ESTABLISHED] = RANK_LIVE,
	[LB_FLOW_FIN] = RANK_FIN,
	[LB_FLOW_CLOSED] = RANK_CLOSED,
	[LB_FLOW_UDP] = RANK_LIVE,
	[LB_FLOW_SYN | LB_FLOW_PINNED] = RANK_PINNED_SYN,
	[LB_FLOW_ESTABLISHED | LB_FLOW_PINNED] = RANK_PINNED_LIVE,
	[LB_FLOW_FIN | LB_FLOW_PINNED] = RANK_PINNED_FIN,
	[LB_FLOW_CLOSED | LB_FLOW_PINNED] = RANK_CLOSED,
	[LB_FLOW_UDP | LB_FLOW_PINNED] = RANK_PINNED_LIVE,
};

// With fewer SYNs in both buckets, the oldest may be hardly older than a round trip: look further.
// Measured with 28 % of the table embryonic: of SYNs that were evicted, 0.5 % had been there for
// less than 1/13 of the time in which a flood fills that part; 0.01 % with 4.
#define FEW_SYNS 4u

// A handshake takes a round trip, and one tick may end just after the SYN.
#define HANDSHAKE_TICKS 1u

// The most precious that a new entry in this state may replace.
static enum rank rank_to_replace(uint32_t state, bool may_evict)
{
	bool is_syn = (state & ~LB_FLOW_PINNED) == LB_FLOW_SYN;

	if (!may_evict)
		return RANK_SYN;
	if (state & LB_FLOW_PINNED)
		return is_syn ? RANK_LIVE : RANK_PINNED_LIVE;
	return is_syn ? RANK_SYN : RANK_LIVE;
}

static bool is_syn(uint64_t entry)
{
	return lb_flow_entry_state(entry) == LB_FLOW_SYN;
}

static unsigned count_syns(const struct lb_flow_bucket *bucket)
{
	unsigned n = 0;

	for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++)
		n += is_syn(bucket->entries[way]);
	return n;
}

// A pinned SYN is as good as any where there are many, which is a flood, and when its handshake's
// time is over.
static enum rank rank_of(
	const struct lb_flowtable *table, uint64_t entry, unsigned n_syn, uint32_t now_tick)
{
	if (entry == 0)
		return RANK_FREE;
	if (!lb_flow_entry_live(table->idle_ticks, entry, now_tick))
		return RANK_EXPIRED;
	if (is_syn(entry) &&
		(n_syn >= FEW_SYNS || lb_flow_entry_age(entry, now_tick) > HANDSHAKE_TICKS))
		return RANK_SYN;
	return evict_rank[entry & 0xf];
}

struct victim {
	uint64_t *entry; /* NULL: none, and rank is RANK_NONE */
	enum rank rank;
	uint32_t age;
	unsigned n_syn; /* embryonic entries in its bucket */
};

static struct victim find_victim(const struct lb_flowtable *table, struct lb_flow_bucket *bucket,
	enum rank rank_min, uint32_t now_tick)
{
	struct victim victim = {.rank = RANK_NONE, .n_syn = count_syns(bucket)};

	for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++) {
		uint64_t entry = bucket->entries[way];
		enum rank rank = rank_of(table, entry, victim.n_syn, now_tick);
		uint32_t age = lb_flow_entry_age(entry, now_tick);

		if (rank < rank_min || rank < victim.rank ||
			(rank == victim.rank && age <= victim.age))
			continue;
		victim.entry = &bucket->entries[way];
		victim.rank = rank;
		victim.age = age;
	}
	return victim;
}

/*
 * Whether @p a goes rather than @p b. In a flood SYNs come faster than ticks: that of the bucket
 * with more of them has been there longer, as each bucket keeps them in order of arrival.
 */
static bool goes_before(const struct victim *a, const struct victim *b)
{
	if (a->rank != b->rank)
		return a->rank > b->rank;
	if (a->rank == RANK_SYN && a->age <= b->age + 1 && b->age <= a->age + 1 &&
		a->n_syn != b->n_syn)
		return a->n_syn > b->n_syn;
	return a->age > b->age;
}

/*
 * Close the gap at @p entry among the embryonic entries behind it, so that their order in the
 * bucket is that of their arrival also within a tick: under a flood each then lives as long as the
 * bucket's memory of SYNs allows, rather than for a random time, and a client's handshake gets
 * through. @return the way that is now vacant.
 */
static uint64_t *close_gap(uint64_t *entry)
{
	struct lb_flow_bucket *bucket =
		(struct lb_flow_bucket *)((uintptr_t)entry & ~(uintptr_t)63);
	uint32_t behind = 0xfeu << (entry - bucket->entries) & 0xff;

	if (__builtin_expect((lb_flow_match_free(bucket->entries) & behind) == behind, 1))
		return entry; // buckets fill from the lowest way
	for (uint64_t *next = entry + 1; next < bucket->entries + LB_FLOWTABLE_WAYS; next++) {
		if (lb_flow_entry_state(*next) != LB_FLOW_SYN)
			continue;
		entry_store(entry, *next);
		entry = next;
	}
	return entry;
}

static uint64_t *evict(struct lb_flowtable *table, const struct victim *victim)
{
	if (victim->rank == RANK_FREE)
		return victim->entry;
	count_del(table, *victim->entry);
	if (victim->rank == RANK_EXPIRED)
		table->counters->expire++;
	else
		table->counters->evict++;
	table->counters->lost += victim->rank == RANK_PINNED_LIVE;
	return victim->entry;
}

/*
 * Evict a SYN from the other bucket of one of @p from's entries rather than @p victim, and move the
 * entry there.
 * @return the vacated way; NULL: nothing better there.
 */
static uint64_t *evict_elsewhere(
	struct lb_flowtable *table, uint32_t from, struct victim victim, uint32_t now_tick)
{
	struct lb_flow_bucket *bucket = &table->buckets[from];
	struct lb_flow_bucket *others[LB_FLOWTABLE_WAYS];
	unsigned best_way = LB_FLOWTABLE_WAYS;
	uint64_t *vacated;

	find_others(table, from, others);
	for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++) {
		struct victim other;

		if (is_syn(bucket->entries[way]) ||
			lb_flow_entry_state(bucket->entries[way]) == LB_FLOW_CLOSED)
			continue;
		other = find_victim(table, others[way], RANK_SYN, now_tick);
		if (other.entry != NULL && goes_before(&other, &victim)) {
			victim = other;
			best_way = way;
		}
	}
	if (best_way == LB_FLOWTABLE_WAYS)
		return NULL;
	vacated = evict(table, &victim);
	go_to(table, from, vacated, bucket->entries[best_way]);
	return &bucket->entries[best_way];
}

static uint64_t *evict_oldest(struct lb_flowtable *table, uint32_t first, uint32_t second,
	enum rank rank_min, uint32_t now_tick)
{
	struct victim victim = find_victim(table, &table->buckets[first], rank_min, now_tick);
	struct victim other = find_victim(table, &table->buckets[second], rank_min, now_tick);

	if (goes_before(&other, &victim))
		victim = other;
	if (victim.rank < RANK_SYN || (victim.rank == RANK_SYN && victim.n_syn < FEW_SYNS)) {
		uint64_t *entry = evict_elsewhere(table, first, victim, now_tick);

		if (entry != NULL)
			return entry;
	}
	return victim.entry != NULL ? evict(table, &victim) : NULL;
}

/*
 * Both buckets have no free way: find one all the same, to be overwritten. Not inlined, with what
 * comes below: inserts that find a free way would save registers for it.
 */
__attribute__((noinline)) static uint64_t *make_room(struct lb_flowtable *table, uint32_t first,
	uint32_t second, enum rank rank_min, uint32_t now_tick)
{
	uint64_t *entry = find_dead(table, &table->buckets[first], 0xff, now_tick);

	if (entry == NULL)
		entry = find_dead(table, &table->buckets[second], 0xff, now_tick);
	if (entry != NULL) {
		reclaim(table, entry);
		return entry;
	}
	if (table->counters->used <= table->displace_max) {
		entry = displace(table, first);
		if (entry == NULL)
			entry = displace(table, second);
		if (entry != NULL)
			return entry;
	}
	return evict_oldest(table, first, second, rank_min, now_tick);
}

/* Of the ways with a flow's signature, one whose entry is dead, reclaimed. NULL: none. */
__attribute__((noinline)) static uint64_t *reclaim_own(struct lb_flowtable *table,
	struct lb_flow_bucket *first, struct lb_flow_bucket *second, uint32_t signature,
	uint32_t now_tick)
{
	uint64_t *entry = find_dead(
		table, first, lb_flow_match(first->entries, signature), now_tick);

	if (entry == NULL)
		entry = find_dead(
			table, second, lb_flow_match(second->entries, signature), now_tick);
	if (entry != NULL)
		reclaim(table, entry);
	return entry;
}

static inline uint64_t *find_way(struct lb_flowtable *table, uint32_t first, uint32_t signature,
	uint32_t state, bool may_evict, uint32_t now_tick)
{
	uint32_t second = lb_flowtable_other_bucket(table, first, signature);
	struct lb_flow_bucket *bucket1 = &table->buckets[first];
	struct lb_flow_bucket *bucket2 = &table->buckets[second];
	uint32_t free_ways;

	// An expired entry of this flow must not come to life again, be it by a longer timeout,
	// beside the new one
	if (__builtin_expect((lb_flow_match(bucket1->entries, signature) |
				     (lb_flowtable_away(table, first) ? lb_flow_match(bucket2->entries, signature)
								      : 0)) != 0, 0)) {
		uint64_t *entry = reclaim_own(table, bucket1, bucket2, signature, now_tick);

		if (entry != NULL)
			return entry;
	}
	free_ways = lb_flow_match_free(bucket1->entries);
	if (free_ways != 0)
		return &bucket1->entries[__builtin_ctz(free_ways)];
	free_ways = lb_flow_match_free(bucket2->entries);
	if (free_ways != 0)
		return &bucket2->entries[__builtin_ctz(free_ways)];
	return make_room(table, first, second, rank_to_replace(state, may_evict), now_tick);
}

uint64_t *lb_flowtable_insert(struct lb_flowtable *table, uint64_t hash, uint16_t backend,
	uint32_t state, uint32_t now_tick, bool may_evict)
{
	uint32_t signature = (uint32_t)(hash >> 32);
	uint32_t first = lb_flowtable_first_bucket(table, hash);
	uint64_t *entry = find_way(table, first, signature, state, may_evict, now_tick);

	if (entry == NULL) {
		table->counters->insert_failed++;
		table->counters->lost += (state & LB_FLOW_PINNED) != 0;
		return NULL;
	}
	if ((state & ~LB_FLOW_PINNED) == LB_FLOW_SYN)
		entry = close_gap(entry);
	if (bucket_of(table, entry) != first)
		lb_flowtable_set_away(table, first);
	entry_store(entry, lb_flow_entry_make(signature, backend, now_tick, state));
	++*lb_flowtable_count_of(table, backend, state);
	table->counters->used++;
	table->counters->insert++;
	return entry;
}

/* ---- change and removal ---- */

void lb_flowtable_move(struct lb_flowtable *table, uint64_t *entry, uint16_t backend)
{
	uint64_t old = *entry;

	--*lb_flowtable_count_of(table, lb_flow_entry_backend(old), old);
	++*lb_flowtable_count_of(table, backend, old);
	entry_store(entry, (old & ~(UINT64_C(0xffff) << 16)) | (uint64_t)backend << 16);
}

void lb_flowtable_del(struct lb_flowtable *table, uint64_t *entry)
{
	count_del(table, *entry);
	entry_store(entry, 0);
}

// Ways of bucket @p b that hold guests.
static inline uint32_t guest_ways(const struct lb_flowtable *table, uint32_t b)
{
	const uint64_t *entries = table->buckets[b].entries;
	uint32_t odd = lb_flow_odd(entries);

	return (b < table->n_buckets / 2 ? odd : ~odd) & ~lb_flow_match_free(entries) & 0xff;
}

// @p entry is a guest in the bucket at which the sweep is.
static void set_away_next(struct lb_flowtable *table, uint64_t entry)
{
	uint32_t home = lb_flowtable_other_bucket(table, table->sweep_bucket, lb_flow_entry_signature(entry));

	table->away_next[home / 64] |= UINT64_C(1) << home % 64;
}

// All guests are in the next bitmap by now.
static void begin_round(struct lb_flowtable *table)
{
	uint64_t *spare = table->away;

	table->away = table->away_next;
	table->away_next = table->away_spare;
	table->away_spare = spare;
	table->sweep_bucket = 0;
}

unsigned lb_flowtable_sweep(struct lb_flowtable *table, uint32_t now_tick, unsigned n_buckets)
{
	unsigned n_reclaimed = 0;

	if (table->header->last_tick != now_tick)
		table->header->last_tick = now_tick;
	if (n_buckets > table->n_buckets)
		n_buckets = table->n_buckets;
	for (; n_buckets > 0; n_buckets--) {
		struct lb_flow_bucket *bucket = &table->buckets[table->sweep_bucket];
		uint32_t ways = dead_ways(table, bucket, now_tick);

		for (; ways != 0; ways &= ways - 1, n_reclaimed++)
			reclaim(table, &bucket->entries[__builtin_ctz(ways)]);
		for (ways = guest_ways(table, table->sweep_bucket); ways != 0; ways &= ways - 1)
			set_away_next(table, bucket->entries[__builtin_ctz(ways)]);
		if (table->sweep_bucket % 64 == 0)
			table->away_spare[table->sweep_bucket / 64] = 0;
		if (++table->sweep_bucket == table->n_buckets)
			begin_round(table);
	}
	return n_reclaimed;
}

uint64_t lb_flowtable_purge_range(
	struct lb_flowtable *table, const uint8_t *purge, uint32_t from, uint32_t n_buckets)
{
	uint64_t n_removed = 0;

	for (uint64_t b = from; b < (uint64_t)from + n_buckets && b < table->n_buckets; b++) {
		for (unsigned way = 0; way < LB_FLOWTABLE_WAYS; way++) {
			uint64_t *entry = &table->buckets[b].entries[way];

			if (*entry == 0 || !purge[lb_flow_entry_backend(*entry)])
				continue;
			lb_flowtable_del(table, entry);
			n_removed++;
		}
	}
	return n_removed;
}

uint64_t lb_flowtable_purge(struct lb_flowtable *table, const uint8_t *purge)
{
	return lb_flowtable_purge_range(table, purge, 0, table->n_buckets);
}

uint64_t lb_flowtable_count(const struct lb_flowtable *table, uint16_t backend)
{
	uint64_t n_entries = lb_flowtable_capacity(table);
	uint64_t n_found = 0;

	for (uint64_t i = 0; i < n_entries; i++) {
		uint64_t entry = lb_flowtable_peek(table, i);

		if (entry != 0 &&
			(backend == LB_BACKEND_NONE || lb_flow_entry_backend(entry) == backend))
			n_found++;
	}
	return n_found;
}
