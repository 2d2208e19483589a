/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_FLOWTABLE_H
#define LB_FLOWTABLE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lb/flowmatch.h"
#include "lb/msg.h"
#include "lb/shm.h"

/*
 * A worker's flow table: 64-byte buckets of eight 8-byte entries, two candidate buckets per flow,
 * keyed by the 64-bit flow hash. Private to one worker, no atomics; the main lcore may read entries
 * (each is one aligned 64-bit word) for display. It stores no tuple: 32 bits of signature and the
 * pair of buckets identify a flow, and the caller treats a hit on a backend of another service as a
 * miss.
 *
 * The high 32 bits of the hash are the signature, whose lowest bit and the low 32 bits of the hash
 * choose the first bucket: of the lower half of all if that bit is 0, of the upper one if it is 1. The
 * other bucket lies in the other half, in places that add up to f(signature) modulo their number: the
 * same rule leads from each of the two to the other, so that an entry can be moved by what is stored
 * of it, and the number of buckets need be no more than even. Of a bucket's entries it is known which
 * are at home there and which are *guests*, in their second bucket: they differ in the signature's
 * lowest bit, and never match a flow of the other kind, which makes up for the bit that the place of a
 * bucket and a signature share.
 *
 * An entry goes to its first bucket as long as that has a free way: a lookup then ends in the first
 * line nearly always. A bit per bucket tells whether an entry of it may be *away*, a guest in its
 * second one: if not, a miss ends there too. It is set with each that goes, in two bitmaps; the sweep
 * sets it in the second one for each guest it meets, and at the end of a round that takes the place of
 * the first, in which bits of what has gone meanwhile are still set. A third one is cleared as the
 * sweep goes, to be the next second.
 */

#define LB_FLOWTABLE_WAYS 8u

/* Coarse time: 12 bits of 2-second ticks tell 8 192 s apart; timeouts go up to
 * LB_IDLE_TIMEOUT_MAX_MS. */
#define LB_FLOW_TICK_MS 2000u
#define LB_FLOW_TIME_BITS 12u
#define LB_FLOW_TIME_MASK ((1u << LB_FLOW_TIME_BITS) - 1u)

enum lb_flow_state {
	LB_FLOW_FREE,        /* the entry is empty (the whole word is 0) */
	LB_FLOW_SYN,         /* SYN seen, nothing else yet: first to be replaced */
	LB_FLOW_ESTABLISHED, /* TCP past the SYN, or adopted mid-stream */
	LB_FLOW_FIN,         /* FIN from the client seen */
	LB_FLOW_CLOSED,      /* RST seen: leaves soonest, and first when room is needed */
	LB_FLOW_UDP,
	LB_FLOW_STATE_N
};

/*
 * With the state in an entry, and in what is given to insert and touch: *pinned*, the flow goes
 * elsewhere without its entry, or may soon, because its slot is in transition or has another
 * backend. Such entries are what the promise hangs on; the others only count flows, and are the
 * first to go when the table is full.
 */
#define LB_FLOW_PINNED 0x8u
static_assert(LB_FLOW_STATE_N <= LB_FLOW_PINNED, "a bit of its own");

/*
 * Ticks without a packet that an entry in this state outlives, unless the service's timeout is
 * shorter; ESTABLISHED and UDP: the service's.
 */
#define LB_FLOW_SYN_TICKS 15u /* 30 s: RFC 6298 back-off sends a SYN again after 1, 3, 7, 15 s */
#define LB_FLOW_FIN_TICKS 30u /* 60 s: half-closed, as tcp_fin_timeout */
#define LB_FLOW_CLOSED_TICKS 1u /* if it is pinned, as FIN: the RST may have been a spoofed one */
#define LB_FLOW_IDLE_TICKS_MAX \
	((LB_IDLE_TIMEOUT_MAX_MS + LB_FLOW_TICK_MS - 1) / LB_FLOW_TICK_MS + 1)
static_assert(
	LB_FLOW_IDLE_TICKS_MAX < LB_FLOW_TIME_MASK - 64, "12 bits tell the longest timeout apart");

/**
 * A service's idle timeout as what belongs into idle_ticks: the age in ticks at which an entry is
 * dead, 2..LB_FLOW_IDLE_TICKS_MAX. Rounded up, and one more, since of an age in ticks the time may
 * be one tick short: the promise is kept only by entries that stay for the whole timeout.
 */
static inline uint16_t lb_flow_idle_ticks(uint32_t idle_timeout_ms)
{
	if (idle_timeout_ms > LB_IDLE_TIMEOUT_MAX_MS)
		return LB_FLOW_IDLE_TICKS_MAX;
	if (idle_timeout_ms == 0)
		return 2;
	return (uint16_t)((idle_timeout_ms + LB_FLOW_TICK_MS - 1) / LB_FLOW_TICK_MS + 1);
}

/** A CLOCK_MONOTONIC time as ticks. */
static inline uint32_t lb_flow_tick(uint64_t now_ns)
{
	return (uint32_t)(now_ns / (LB_FLOW_TICK_MS * UINT64_C(1000000)));
}

/* An entry: | signature 32 | backend 16 | time 12 | state 4 | from the high end. */

static inline enum lb_flow_state lb_flow_entry_state(uint64_t entry)
{
	return (enum lb_flow_state)(entry & 0x7);
}
static inline bool lb_flow_entry_pinned(uint64_t entry)
{
	return (entry & LB_FLOW_PINNED) != 0;
}
static inline uint32_t lb_flow_entry_time(uint64_t entry)
{
	return (uint32_t)(entry >> 4) & LB_FLOW_TIME_MASK;
}
static inline uint16_t lb_flow_entry_backend(uint64_t entry)
{
	return (uint16_t)(entry >> 16);
}
static inline uint32_t lb_flow_entry_signature(uint64_t entry)
{
	return (uint32_t)(entry >> 32);
}
static inline uint64_t lb_flow_entry_make(
	uint32_t signature, uint16_t backend, uint32_t tick, enum lb_flow_state state)
{
	return (uint64_t)signature << 32 | (uint64_t)backend << 16 |
	       (uint64_t)(tick & LB_FLOW_TIME_MASK) << 4 | (uint64_t)state;
}

/** Ticks since the entry's last packet, modulo 4096. */
static inline uint32_t lb_flow_entry_age(uint64_t entry, uint32_t now_tick)
{
	return (now_tick - lb_flow_entry_time(entry)) & LB_FLOW_TIME_MASK;
}

struct lb_flow_bucket {
	uint64_t entries[LB_FLOWTABLE_WAYS];
} __attribute__((aligned(64)));
static_assert(sizeof(struct lb_flow_bucket) == 64, "one cache line");

struct lb_flow_header; /* at the start of the memory; private to flowtable.c */

/* The worker's view of its table: worker: rw; main lcore: ro after init, for display. */
struct lb_flowtable {
	struct lb_flow_bucket *buckets; /* 2 <= n_buckets < 2^31, even */
	uint64_t *away; /* bit per bucket */
	uint64_t *away_next, *away_spare; /* likewise: what the sweep makes, and what it clears */
	const uint16_t *idle_ticks; /* per backend id; 0: no such backend, its entries are dead */
	int64_t *active, *closing; /* entries of flows that are open, and that are not: lb_flow_state_is_open() */
	size_t active_stride;
	struct lb_flow_counters *counters;
	uint32_t n_buckets;
	uint32_t sweep_bucket; /* where the sweep goes on */
	uint64_t displace_max; /* with more entries in use than this, none is moved to make room */
	struct lb_flow_header *header;
};

/**
 * Bytes of memory for @p n_flows entries at 90 % load (header, buckets and bitmaps; the number of
 * buckets is even): 8.94 bytes each. 0 if @p n_flows is 0 or beyond 2^33.
 */
uint64_t lb_flowtable_bytes(uint64_t n_flows);

struct lb_flowtable_config {
	void *mem;          /* 64-byte aligned, better 2 MB pages; owned by the caller */
	uint64_t mem_bytes; /* as lb_flowtable_bytes() said, or more: the rest is not used */
	uint64_t n_flows;
	uint64_t secret_id; /* hash of the fleet secret: an adopted table must have the same */
	const uint16_t
		*idle_ticks; /* per backend id, LB_MAX_BACKENDS + 1; written by the main lcore */
	int64_t *active; /* per backend id: entries of open flows, with a stride of active_stride bytes */
	int64_t *closing; /* the same of the others */
	size_t active_stride;
	struct lb_flow_counters
		*counters; /* this worker's; insert, expire, evict, used are kept here */
	uint32_t worker; /* this worker's index, and how many there are: RSS spreads the flows over
			  */
	uint32_t n_workers; /* them, so that an adopted table must have the same */
};

/**
 * Prepare the table in @p config->mem. If the memory holds a valid table of the same version,
 * geometry, worker and secret (a restart), its entries are adopted: counted into active and used,
 * those dropped that expired meanwhile or whose backend has idle_ticks 0; else it is cleared. A
 * table of another size or number of workers is refused, since entries do not hold the whole hash.
 * @param now_tick ticks of CLOCK_MONOTONIC, which goes on over a restart of the process.
 * @param why receives why nothing was adopted, or "" (why_bytes; may be NULL).
 * @return number of adopted entries, or -EINVAL: memory unaligned or too small, n_flows out of
 * range, a pointer is NULL.
 */
int64_t lb_flowtable_init(struct lb_flowtable *table, const struct lb_flowtable_config *config,
	uint32_t now_tick, char *why, size_t why_bytes);

/** Entries that the table has room for: 1 / 0.9 of n_flows. Any thread. */
static inline uint64_t lb_flowtable_capacity(const struct lb_flowtable *table)
{
	return (uint64_t)table->n_buckets * LB_FLOWTABLE_WAYS;
}

/* For the inline functions below: the age at which each state dies by itself; ESTABLISHED and UDP
 * do not. */
static const uint16_t lb_flow_state_limits[16] = {
	[LB_FLOW_SYN] = LB_FLOW_SYN_TICKS + 1,
	[LB_FLOW_ESTABLISHED] = UINT16_MAX,
	[LB_FLOW_FIN] = LB_FLOW_FIN_TICKS + 1,
	[LB_FLOW_CLOSED] = LB_FLOW_CLOSED_TICKS + 1,
	[LB_FLOW_UDP] = UINT16_MAX,
	[LB_FLOW_SYN | LB_FLOW_PINNED] = LB_FLOW_SYN_TICKS + 1,
	[LB_FLOW_ESTABLISHED | LB_FLOW_PINNED] = UINT16_MAX,
	[LB_FLOW_FIN | LB_FLOW_PINNED] = LB_FLOW_FIN_TICKS + 1,
	[LB_FLOW_CLOSED | LB_FLOW_PINNED] = LB_FLOW_FIN_TICKS + 1,
	[LB_FLOW_UDP | LB_FLOW_PINNED] = UINT16_MAX,
};

/** Age in ticks at which @p entry is dead; 0: it is (free, invalid state, no such backend). */
static inline uint32_t lb_flow_entry_limit(const uint16_t *idle_ticks, uint64_t entry)
{
	uint32_t own = lb_flow_state_limits[entry & 0xf];
	uint32_t idle =
		__atomic_load_n(&idle_ticks[lb_flow_entry_backend(entry)], __ATOMIC_RELAXED);

	return own < idle ? own : idle;
}

/** Whether @p entry counts as a flow at @p now_tick. No branch: a lookup asks it of whatever it
 * finds. */
static inline bool lb_flow_entry_live(const uint16_t *idle_ticks, uint64_t entry, uint32_t now_tick)
{
	return lb_flow_entry_age(entry, now_tick) < lb_flow_entry_limit(idle_ticks, entry);
}

static inline uint32_t lb_flowtable_first_bucket(const struct lb_flowtable *table, uint64_t hash)
{
	return (uint32_t)(((hash & ((UINT64_C(1) << 33) - 1)) * (table->n_buckets / 2)) >> 32);
}

/** The other candidate bucket of an entry in @p bucket; an involution. Never the same one. */
static inline uint32_t lb_flowtable_other_bucket(
	const struct lb_flowtable *table, uint32_t bucket, uint32_t signature)
{
	uint32_t half = table->n_buckets / 2, sum = (uint32_t)(((uint64_t)signature * half) >> 32);
	uint32_t from = bucket < half ? 0 : half, place = bucket - from; // in its half

	// A branch on which is greater would go wrong every other time
	return half - from + sum - place + (half & -(uint32_t)(sum < place));
}

/** Whether an entry with @p signature is in its second bucket if it is in @p bucket. */
static inline bool lb_flow_is_guest(const struct lb_flowtable *table, uint32_t bucket, uint32_t signature)
{
	return (bucket >= table->n_buckets / 2) != (signature & 1);
}

/** Whether an entry whose first bucket is @p bucket may be in its second one. Worker; others for a hint. */
static inline bool lb_flowtable_away(const struct lb_flowtable *table, uint32_t bucket)
{
	return table->away[bucket / 64] >> bucket % 64 & 1;
}

/** An entry whose first bucket is @p bucket goes to its second one. Worker. */
static inline void lb_flowtable_set_away(const struct lb_flowtable *table, uint32_t bucket)
{
	table->away[bucket / 64] |= UINT64_C(1) << bucket % 64;
	table->away_next[bucket / 64] |= UINT64_C(1) << bucket % 64;
}

/**
 * The candidate buckets of @p n flows, a multiple of four of which is read and written: first ones into @p first, the others,
 * unless it is NULL, into @p second.
 */
static inline void lb_flowtable_buckets(const struct lb_flowtable *table, const uint64_t *hashes, unsigned n,
	struct lb_flow_bucket **first, struct lb_flow_bucket **second)
{
#ifdef __AVX2__
	__m256i base = _mm256_set1_epi64x((long long)(uintptr_t)table->buckets);
	__m256i half = _mm256_set1_epi64x(table->n_buckets / 2);
	__m256i middle = _mm256_add_epi64(base, _mm256_slli_epi64(half, 6));

	for (unsigned i = 0; i < n; i += 4) {
		__m256i hash = _mm256_loadu_si256((const __m256i *)(hashes + i));
		__m256i place = _mm256_srli_epi64(_mm256_mul_epu32(hash, half), 32), sum, other;
		__m256d upper = _mm256_castsi256_pd(_mm256_slli_epi64(hash, 31)); // in the sign
		__m256d from = _mm256_blendv_pd(_mm256_castsi256_pd(base), _mm256_castsi256_pd(middle), upper);

		_mm256_storeu_si256(
			(__m256i *)(first + i), _mm256_add_epi64(_mm256_castpd_si256(from), _mm256_slli_epi64(place, 6)));
		if (second == NULL)
			continue;
		from = _mm256_blendv_pd(_mm256_castsi256_pd(middle), _mm256_castsi256_pd(base), upper);
		sum = _mm256_srli_epi64(_mm256_mul_epu32(_mm256_srli_epi64(hash, 32), half), 32);
		other = _mm256_sub_epi64(sum, place);
		// negative: beyond the other end
		other = _mm256_add_epi64(other, _mm256_and_si256(half, _mm256_cmpgt_epi64(place, sum)));
		_mm256_storeu_si256(
			(__m256i *)(second + i), _mm256_add_epi64(_mm256_castpd_si256(from), _mm256_slli_epi64(other, 6)));
	}
#else
	for (unsigned i = 0; i < n; i++) {
		uint32_t its_first = lb_flowtable_first_bucket(table, hashes[i]);

		first[i] = &table->buckets[its_first];
		if (second != NULL)
			second[i] = &table->buckets[lb_flowtable_other_bucket(table, its_first, (uint32_t)(hashes[i] >> 32))];
	}
#endif
}

/*
 * To a compiler a function that only prefetches has no effect: it leaves out calls that it has not inlined before it looks.
 */
#define LB_PREFETCHES static inline __attribute__((always_inline)) void

/** Fetch the line in which the flow nearly always is. Worker. */
LB_PREFETCHES lb_flowtable_prefetch(const struct lb_flowtable *table, uint64_t hash)
{
	__builtin_prefetch(&table->buckets[lb_flowtable_first_bucket(table, hash)]);
}

/** Fetch the second candidate's line too, if the flow may be there: where a miss is likely. Worker; others too. */
LB_PREFETCHES lb_flowtable_prefetch_second(const struct lb_flowtable *table, uint64_t hash)
{
	uint32_t first = lb_flowtable_first_bucket(table, hash);

	if (!lb_flowtable_away(table, first))
		return;
	__builtin_prefetch(
		&table->buckets[lb_flowtable_other_bucket(table, first, (uint32_t)(hash >> 32))]);
}

/** The first live entry of @p bucket with @p signature among the ways in @p ways; NULL: none. */
static inline uint64_t *lb_flow_bucket_find(const struct lb_flowtable *table,
	struct lb_flow_bucket *bucket, uint32_t signature, uint32_t ways, uint32_t now_tick)
{
	uint32_t mask = lb_flow_match(bucket->entries, signature) & ways;

	for (; mask != 0; mask &= mask - 1) {
		uint64_t *entry = &bucket->entries[__builtin_ctz(mask)];

		if (__builtin_expect(lb_flow_entry_live(table->idle_ticks, *entry, now_tick), 1))
			return entry;
	}
	return NULL;
}

/**
 * Find the live entry of @p hash. @return a pointer to it, valid until the next insert, purge or
 * sweep (an insert may move other entries); NULL: miss (an entry that has expired is a miss).
 * Worker; others may where a wrong answer does no harm.
 */
static inline uint64_t *lb_flowtable_lookup(
	struct lb_flowtable *table, uint64_t hash, uint32_t now_tick)
{
	uint32_t first = lb_flowtable_first_bucket(table, hash);
	uint32_t signature = (uint32_t)(hash >> 32);
	uint64_t *entry =
		lb_flow_bucket_find(table, &table->buckets[first], signature, 0xff, now_tick);

	if (__builtin_expect(entry != NULL, 1))
		return entry;
	if (!lb_flowtable_away(table, first))
		return NULL;
	first = lb_flowtable_other_bucket(table, first, signature);
	return lb_flow_bucket_find(table, &table->buckets[first], signature, 0xff, now_tick);
}

/**
 * What the first bucket of @p hash, which has been prefetched, holds under its signature: not known
 * to be live, the first of several. In a full table many flows are in their second bucket, which no
 * branch predictor foresees: so there is no branch on it. Worker.
 * @param none what to return if there is nothing.
 */
static inline uint64_t *lb_flowtable_probe(
	const struct lb_flowtable *table, uint64_t hash, uint64_t *none)
{
	struct lb_flow_bucket *bucket = &table->buckets[lb_flowtable_first_bucket(table, hash)];
	uint32_t ways = lb_flow_match(bucket->entries, (uint32_t)(hash >> 32));
	uint64_t *entry = &bucket->entries[__builtin_ctz(ways | 1u << LB_FLOWTABLE_WAYS)];

	return ways != 0 ? entry : none;
}

/** The low 16 bits of an entry: time and state. */
static inline uint16_t lb_flow_entry_low(uint32_t tick, enum lb_flow_state state)
{
	return (uint16_t)((tick & LB_FLOW_TIME_MASK) << 4 | (uint32_t)state);
}

/**
 * Whether @p entry holds an established flow (TCP past its handshake, or UDP: @p state) that has had
 * a packet in this tick already, so that one more, if it changes no state, changes nothing. It is
 * alive unless its backend's idle_ticks are 0.
 */
static inline bool lb_flow_entry_settled(uint64_t entry, enum lb_flow_state state, uint32_t now_tick)
{
	return ((uint32_t)entry & (0xffffu ^ LB_FLOW_PINNED)) == lb_flow_entry_low(now_tick, state);
}

/** Whether an entry of @p hash, live or not, may be in the table. Worker. */
static inline bool lb_flowtable_may_hold(const struct lb_flowtable *table, uint64_t hash)
{
	uint32_t first = lb_flowtable_first_bucket(table, hash), signature = (uint32_t)(hash >> 32);
	uint32_t second = lb_flowtable_other_bucket(table, first, signature);

	if (!lb_flowtable_away(table, first))
		return lb_flow_match(table->buckets[first].entries, signature) != 0;
	return lb_flow_match_any(
		table->buckets[first].entries, signature, table->buckets[second].entries, signature);
}

#define LB_FLOWTABLE_BURST_MAX 64u

/* Flows of a burst that are not in their first bucket. */
struct lb_flow_pending {
	unsigned n;
	uint8_t idx[LB_FLOWTABLE_BURST_MAX + 1]; /* in the burst; one more than can be used */
};

/**
 * Look up @p n flows (at most LB_FLOWTABLE_BURST_MAX), whose first lines have been prefetched, in
 * their first buckets; fetch the second lines of those that are not there. Other work before
 * lb_flowtable_lookup_end() hides how long that takes.
 * @param entries_out n pointers, valid until the next insert, purge or sweep; those of @p pending
 * are not set yet.
 * @return number of hits so far. Worker.
 */
unsigned lb_flowtable_lookup_begin(struct lb_flowtable *table, const uint64_t *hashes,
	uint64_t **entries_out, unsigned n, uint32_t now_tick, struct lb_flow_pending *pending);

/**
 * Go on with those that are pending: entries_out becomes what lb_flowtable_lookup() returns. An
 * entry found in its second bucket is moved to its first if that has room by now: pointers from
 * before this call to the same flow's entry do not survive it, all others do.
 * @return number of hits among them. Worker.
 */
unsigned lb_flowtable_lookup_end(struct lb_flowtable *table, const uint64_t *hashes,
	uint64_t **entries_out, uint32_t now_tick, const struct lb_flow_pending *pending);

/**
 * Both at once, for any @p n. Touch and move the hits before recording the misses, and look up a
 * miss again before it is recorded if an earlier packet of the burst may have recorded it.
 * @return number of hits. Worker.
 */
unsigned lb_flowtable_lookup_burst(struct lb_flowtable *table, const uint64_t *hashes,
	uint64_t **entries_out, unsigned n, uint32_t now_tick);

/**
 * The next live entry after @p entry whose signature matches too: for the caller that found the
 * first one to belong to another service. @return as lookup. Worker.
 */
uint64_t *lb_flowtable_lookup_next(
	struct lb_flowtable *table, uint64_t hash, uint64_t *entry, uint32_t now_tick);

/** Whether a flow of this state (with LB_FLOW_PINNED or without) is load, rather than over but for stragglers. */
static inline bool lb_flow_state_is_open(uint64_t state)
{
	return (1u << LB_FLOW_SYN | 1u << LB_FLOW_ESTABLISHED | 1u << LB_FLOW_UDP) >> (state & 7) & 1;
}

/** Where entries of @p backend in @p state are counted. Worker. */
static inline int64_t *lb_flowtable_count_of(
	const struct lb_flowtable *table, uint16_t backend, uint64_t state)
{
	int64_t *base = lb_flow_state_is_open(state) ? table->active : table->closing;

	return (int64_t *)((char *)base + backend * table->active_stride);
}

/**
 * Note a packet of the flow: refresh the time and set the state (not FREE; with LB_FLOW_PINNED or
 * without); writes the line only if something changed. Worker.
 */
static inline void lb_flowtable_touch(
	const struct lb_flowtable *table, uint64_t *entry, uint32_t state, uint32_t now_tick)
{
	uint64_t old = *entry;
	uint64_t new = (old & ~UINT64_C(0xffff)) | (uint64_t)(now_tick & LB_FLOW_TIME_MASK) << 4 |
		       (uint64_t)state;

	if (new != old)
		__atomic_store_n(entry, new, __ATOMIC_RELAXED);
	if (__builtin_expect(lb_flow_state_is_open(old) != lb_flow_state_is_open(state), 0)) {
		--*lb_flowtable_count_of(table, lb_flow_entry_backend(old), old);
		++*lb_flowtable_count_of(table, lb_flow_entry_backend(old), state);
	}
}

/** Point an entry to another backend (its own is down), keeping both active counts right. Worker.
 */
void lb_flowtable_move(struct lb_flowtable *table, uint64_t *entry, uint16_t backend);

/**
 * Record a flow (which the caller has just looked up and missed). Takes an expired entry of the
 * same flow; else a free way of the first bucket, then of the second; else an expired entry; else
 * moves an entry of these buckets to its other bucket; else replaces one: CLOSED ones first, then
 * the oldest SYN, FIN, and the one idle for longest; of pinned ones a FIN, then a handshake under
 * way, and last a live flow. A SYN replaces no more than a SYN; if it is pinned, nothing that is
 * but FIN. A flow that is not pinned replaces nothing that is but FIN. So a flood replaces what is
 * embryonic, oldest first.
 * @param backend below LB_BACKEND_NONE. @param state not FREE; with LB_FLOW_PINNED or without.
 * @param may_evict false: at most CLOSED ones and SYNs are replaced.
 * @return the entry; NULL if nothing could be replaced (counted as insert_failed). Worker.
 */
uint64_t *lb_flowtable_insert(struct lb_flowtable *table, uint64_t hash, uint16_t backend,
	uint32_t state, uint32_t now_tick, bool may_evict);

/**
 * lb_flowtable_insert() of @p entry where that is easy: @p first and @p second are its buckets, and hold nothing with its
 * signature.
 * @return false: it is not so easy, and nothing has been done. Worker.
 */
static inline bool lb_flowtable_put(const struct lb_flowtable *table, struct lb_flow_bucket *first,
	struct lb_flow_bucket *second, uint64_t entry)
{
	struct lb_flow_bucket *bucket = first;
	uint32_t ways = lb_flow_match_free(bucket->entries);

	if (ways == 0) {
		bucket = second;
		ways = lb_flow_match_free(bucket->entries);
	}
	// All of the free ways are behind the others: so SYNs are in the order of their arrival.
	if (__builtin_expect(ways + (ways & -ways) != 1u << LB_FLOWTABLE_WAYS, 0))
		return false;
	if (bucket != first)
		lb_flowtable_set_away(table, (uint32_t)(first - table->buckets));
	__atomic_store_n(&bucket->entries[__builtin_ctz(ways)], entry, __ATOMIC_RELAXED);
	++*lb_flowtable_count_of(table, lb_flow_entry_backend(entry), entry);
	table->counters->used++;
	table->counters->insert++;
	return true;
}

/** Remove an entry. Worker. */
void lb_flowtable_del(struct lb_flowtable *table, uint64_t *entry);

/**
 * Go on with the sweep over at most @p n_buckets buckets, reclaiming expired entries and those of
 * purged backends. Must be called at least once a minute (it also notes the time for an adoption),
 * and must go round once in less than 4096 - 3600 ticks (992 s) or old entries look young again:
 * the caller sees to that. Worker. @return entries reclaimed.
 */
unsigned lb_flowtable_sweep(struct lb_flowtable *table, uint32_t now_tick, unsigned n_buckets);

/**
 * Remove every entry of every backend that has a flag in @p purge (LB_MAX_BACKENDS + 1 bytes),
 * walking the whole table. Not counted as expired or evicted. Worker. @return entries removed.
 */
uint64_t lb_flowtable_purge(struct lb_flowtable *table, const uint8_t *purge);

/**
 * The same for @p n_buckets buckets from @p from on: a purge in steps, between packets. In between
 * a live entry may be moved to a bucket that is done already; dead ones are not moved: before an id
 * is used again its idle_ticks are to be 0 throughout. Worker.
 */
uint64_t lb_flowtable_purge_range(
	struct lb_flowtable *table, const uint8_t *purge, uint32_t from, uint32_t n_buckets);

/**
 * Entries in use of @p backend (LB_BACKEND_NONE: of all), walking the whole table, for display:
 * racy but never out of bounds; expired ones that have not been reclaimed count. Any thread.
 */
uint64_t lb_flowtable_count(const struct lb_flowtable *table, uint16_t backend);

/** Word @p idx (< capacity) of the table, 0: free; for display. Any thread. */
static inline uint64_t lb_flowtable_peek(const struct lb_flowtable *table, uint64_t idx)
{
	const struct lb_flow_bucket *bucket = &table->buckets[idx / LB_FLOWTABLE_WAYS];

	return __atomic_load_n(&bucket->entries[idx % LB_FLOWTABLE_WAYS], __ATOMIC_RELAXED);
}

#endif
