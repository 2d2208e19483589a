/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_FLOWTABLE_H
#define LB_FLOWTABLE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lb/msg.h"
#include "lb/shm.h"

/*
 * A worker's flow table: 64-byte buckets of eight 8-byte entries, two candidate buckets per flow, keyed by
 * the 64-bit flow hash. Private to one worker, no atomics; the main lcore may read entries (each is one
 * aligned 64-bit word) for display. It stores no tuple: 32 bits of signature and the pair of buckets
 * identify a flow, and the caller treats a hit on a backend of another service as a miss.
 */

#define LB_FLOWTABLE_WAYS 8u

/* Coarse time: 12 bits of 2-second ticks tell 8 192 s apart; timeouts go up to LB_IDLE_TIMEOUT_MAX_MS. */
#define LB_FLOW_TICK_MS 2000u
#define LB_FLOW_TIME_BITS 12u

enum lb_flow_state {
	LB_FLOW_FREE,        /* the entry is empty (the whole word is 0) */
	LB_FLOW_SYN,         /* SYN seen, nothing else yet: first to be replaced */
	LB_FLOW_ESTABLISHED, /* TCP past the SYN, or adopted mid-stream */
	LB_FLOW_FIN,         /* FIN from the client seen */
	LB_FLOW_CLOSED,      /* RST seen: leaves soonest */
	LB_FLOW_UDP,
	LB_FLOW_STATE_N
};

/* Idle time in ticks after which an entry in this state is expired; ESTABLISHED and UDP: the service's. */
#define LB_FLOW_SYN_TICKS 15u    /* 30 s: RFC 6298 back-off sends a SYN again after 1, 3, 7, 15 s */
#define LB_FLOW_FIN_TICKS 30u    /* 60 s: half-closed, as tcp_fin_timeout */
#define LB_FLOW_CLOSED_TICKS 1u

/* | signature 32 | backend 16 | time 12 | state 4 | from the high end. */
typedef uint64_t lb_flow_entry_u64;

static inline enum lb_flow_state lb_flow_entry_state(uint64_t entry)
{
	return (enum lb_flow_state)(entry & 0xf);
}
static inline uint32_t lb_flow_entry_time(uint64_t entry)
{
	return (uint32_t)(entry >> 4) & 0xfff;
}
static inline uint16_t lb_flow_entry_backend(uint64_t entry)
{
	return (uint16_t)(entry >> 16);
}
static inline uint32_t lb_flow_entry_signature(uint64_t entry)
{
	return (uint32_t)(entry >> 32);
}

struct lb_flowtable; /* see below: defined here so that the lookup can be inlined */

/** Bytes of memory for at least @p n_flows entries (header and buckets; a power of two of buckets is not required). */
uint64_t lb_flowtable_bytes(uint64_t n_flows);

struct lb_flowtable_config {
	void *mem;           /* 64-byte aligned, better 2 MB pages; owned by the caller */
	uint64_t mem_bytes;  /* as lb_flowtable_bytes() said, or more: the rest is not used */
	uint64_t n_flows;
	uint64_t secret_id;  /* hash of the fleet secret: an adopted table must have the same */
	const uint16_t *idle_ticks; /* per backend id, LB_MAX_BACKENDS + 1; written by the main lcore */
	int64_t *active;     /* per backend id: entries in use, with a stride of active_stride bytes */
	size_t active_stride;
	struct lb_flow_counters *counters; /* this worker's; insert, expire, evict, used are kept here */
};

/**
 * Prepare the table in @p config->mem. If the memory holds a valid table of the same version, geometry
 * and secret (a restart), its entries are adopted: counted into active and used, those that expired
 * meanwhile dropped; else it is cleared.
 * @param now_tick ticks of CLOCK_MONOTONIC, which goes on over a restart of the process.
 * @param why receives why nothing was adopted, or "" (why_bytes; may be NULL).
 * @return number of adopted entries, or -EINVAL.
 */
int64_t lb_flowtable_init(struct lb_flowtable *table, const struct lb_flowtable_config *config,
	uint32_t now_tick, char *why, size_t why_bytes);

/** Fetch both candidate buckets' lines. Worker. */
static inline void lb_flowtable_prefetch(const struct lb_flowtable *table, uint64_t hash);

/**
 * Find the live entry of @p hash. @return a pointer to it, valid until the next insert or sweep; NULL: miss
 * (an entry that has expired is a miss). Worker.
 */
static inline uint64_t *lb_flowtable_lookup(struct lb_flowtable *table, uint64_t hash, uint32_t now_tick);

/**
 * The next entry after @p entry whose signature matches too: for the caller that found the first one to belong
 * to another service. @return as lookup. Worker.
 */
uint64_t *lb_flowtable_lookup_next(struct lb_flowtable *table, uint64_t hash, uint64_t *entry,
	uint32_t now_tick);

/**
 * Note a packet of the flow: refresh the time and set the state; writes the line only if something changed.
 */
static inline void lb_flowtable_touch(uint64_t *entry, enum lb_flow_state state, uint32_t now_tick);

/** Point an entry to another backend (its own is down), keeping both active counts right. */
void lb_flowtable_move(struct lb_flowtable *table, uint64_t *entry, uint16_t backend);

/**
 * Record a flow (which the caller has just looked up and missed). Takes, of both buckets, the emptier
 * bucket's free entry; else an expired one; else the oldest embryonic or closed one (SYN, CLOSED, FIN);
 * else, unless @p may_evict is false or the flow is only a SYN, the oldest one: a SYN never evicts an established flow.
 * @return the entry; NULL if nothing could be replaced (counted as insert_failed). Worker.
 */
uint64_t *lb_flowtable_insert(struct lb_flowtable *table, uint64_t hash, uint16_t backend,
	enum lb_flow_state state, uint32_t now_tick, bool may_evict);

/** Remove an entry. Worker. */
void lb_flowtable_del(struct lb_flowtable *table, uint64_t *entry);

/**
 * Go on with the sweep over at most @p n_buckets buckets, reclaiming expired entries and those of purged
 * backends. Must go round once in less than 4096 - 3600 ticks (992 s) or old entries look young again: the caller sees
 * to that. Worker. @return entries reclaimed.
 */
unsigned lb_flowtable_sweep(struct lb_flowtable *table, uint32_t now_tick, unsigned n_buckets);

/** Remove every entry of @p backend, or of every backend with a flag in @p purge (LB_MAX_BACKENDS + 1 bytes), walking the whole table. Worker. @return entries removed. */
uint64_t lb_flowtable_purge(struct lb_flowtable *table, const uint8_t *purge);

/** Entries in use per backend and state, for display: racy but never out of bounds. Any thread. */
uint64_t lb_flowtable_count(const struct lb_flowtable *table, uint16_t backend);

#endif
