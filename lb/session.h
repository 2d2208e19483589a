/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_SESSION_H
#define LB_SESSION_H

#include "lb/flowtable.h"

/*
 * A worker's session table, for mode fullnat: one 64-byte entry per connection (or UDP flow) with its exact
 * tuples, found in both directions: by what the client sends (client, VIP) and by what the backend answers
 * (backend, local address). Written by one worker, no atomics; the main lcore may read it for display, and other
 * workers to find out whose a fragment or an ICMP error is: either may see it in change.
 *
 * An index of 64-byte buckets of eight words, | hash 32 | entry + 1, 31 | direction 1 |, two candidate
 * buckets per key, leads to the entries. Words never move, so that an entry knows its two places and is
 * deleted without a hash. The index has two words for every key: with two buckets to choose from, that a key
 * finds both full is not to be expected (of two million buckets some 20 fill up: 1 in 10^10); it is refused
 * and counted if it happens.
 *
 * The signature only leads to candidates; the caller compares the tuple (the VIP is the service's, the
 * backend's address the backend's: entries hold their ids).
 */

enum lb_session_dir { LB_SESSION_CLIENT, LB_SESSION_REPLY };

/*
 * States are enum lb_flow_state's; here CLOSED is: FIN from both sides, or RST. Half-closed ones (FIN) live as
 * long as established ones: without its entry a connection is over, and it may be waiting for a slow answer.
 */

/* Ticks that a closed session keeps its port: retransmitted FINs still find their way (4 to 6 s). */
#define LB_SESSION_CLOSED_TICKS 2u

enum lb_session_flag {
	LB_SESSION_CLIENT_FIN = 0x01,  /* the client sent a FIN */
	LB_SESSION_BACKEND_FIN = 0x02,
	LB_SESSION_TOLD = 0x04,  /* the client's address has been sent: TOA no longer, PROXY header at least once */
	LB_SESSION_HEARD = 0x08, /* proxy_v2: the backend has acknowledged the whole header */
	LB_SESSION_TOA = 0x10,   /* what the service's client_address was when the session began */
	LB_SESSION_PROXY = 0x20,
	LB_SESSION_FRAGMENT = 0x40, /* UDP: began with a fragment, at the worker that RSS gives those */
};

/*
 * One session. client, local, the ports, backend and service are its identity and never change. `state`
 * is written last at its making and cleared first at its end, so that a table whose process was killed in
 * between can be adopted.
 */
struct lb_session {
	struct lb_addr client;
	struct lb_addr local;
	uint16_t client_port_be;
	uint16_t local_port_be;
	uint16_t vip_port_be; /* what the client sends to; also the backend's if that is 0 */
	uint16_t backend;
	uint16_t service;
	uint16_t l4_sum; /* RFC 1624: ~m + m' of everything that changes towards the backend */
	uint16_t ip_sum; /* the addresses alone; of use within one family */
	uint16_t time;   /* tick of the last packet, modulo 65 536 (36 h) */
	uint32_t isn;    /* sequence number of the client's SYN, host order */
	uint32_t place[2]; /* in the index, by direction; a free entry: place[0] is the next free one */
	uint8_t state;     /* enum lb_flow_state; FREE: not in use */
	uint8_t flags;
	uint8_t local_idx; /* of the owner's list of local addresses */
	uint8_t zero;
} __attribute__((aligned(64)));
static_assert(sizeof(struct lb_session) == 64, "one cache line");

struct lb_session_header; /* at the start of the memory; private to session.c */

/* The worker's view of its table: worker: rw; main lcore: ro after init, for display. */
struct lb_sessions {
	struct lb_session *entries;
	struct lb_flow_bucket *index;
	uint32_t n_entries; /* 0: no table (yet) */
	uint32_t n_buckets;
	uint32_t free_head; /* n_entries: none */
	uint32_t sweep_at;  /* where the sweep goes on */
	uint32_t evict_at;  /* where lb_sessions_make_way() does */
	uint32_t n_barren;  /* entries since it last found one */
	uint32_t barren_tick; /* it went round in vain */
	const uint16_t *idle_ticks; /* per backend id; 0: no such backend, its sessions are dead */
	int64_t *active;
	size_t active_stride;
	struct lb_session_counters *counters;
	void (*release)(void *ctx, const struct lb_session *session);
	void *ctx;
	struct lb_session_header *header;
};

/** Bytes of memory for @p n_sessions (1..2^30). 0: out of range. */
uint64_t lb_sessions_bytes(uint64_t n_sessions);

struct lb_sessions_config {
	void *mem; /* 64-byte aligned; owned by the caller */
	uint64_t mem_bytes;
	uint64_t n_sessions;
	uint64_t secret_id; /* hash of the fleet secret */
	const uint16_t *idle_ticks; /* as the flow table's */
	int64_t *active;            /* per backend id, with a stride: sessions are added to it */
	size_t active_stride;
	struct lb_session_counters *counters;
	uint32_t worker, n_workers;
	/*
	 * Asked for each session found in the memory (a restart): take it? Fills in both hashes, takes its
	 * port, sets local_idx and checks everything: the memory is not to be trusted. NULL: adopt nothing.
	 */
	bool (*adopt)(void *ctx, struct lb_session *session, uint64_t hashes[2]);
	/* Called as each session ends: gives its port back. */
	void (*release)(void *ctx, const struct lb_session *session);
	void *ctx;
};

/**
 * Prepare the table in @p config->mem, adopting the sessions of a valid table of the same version, geometry,
 * worker and secret. @param why receives why nothing was adopted, or "" (why_bytes; may be NULL).
 * @return number of adopted sessions, or -EINVAL: memory unaligned or too small, n_sessions out of range.
 * Main lcore, before a worker uses the table.
 */
int64_t lb_sessions_init(struct lb_sessions *table, const struct lb_sessions_config *config,
	uint32_t now_tick, char *why, size_t why_bytes);

/** Ticks since the session's last packet. */
static inline uint32_t lb_session_age(const struct lb_session *session, uint32_t now_tick)
{
	return (uint16_t)(now_tick - session->time);
}

/** Age in ticks at which @p session is dead; 0: it is. */
static inline uint32_t lb_session_limit(const uint16_t *idle_ticks, const struct lb_session *session)
{
	uint32_t own = session->state == LB_FLOW_CLOSED ? LB_SESSION_CLOSED_TICKS + 1
		       : session->state == LB_FLOW_SYN  ? LB_FLOW_SYN_TICKS + 1
							: UINT16_MAX;
	uint32_t idle = __atomic_load_n(&idle_ticks[session->backend], __ATOMIC_RELAXED);

	return own < idle ? own : idle;
}

static inline bool lb_session_live(
	const struct lb_sessions *table, const struct lb_session *session, uint32_t now_tick)
{
	return lb_session_age(session, now_tick) < lb_session_limit(table->idle_ticks, session);
}

static inline uint32_t lb_sessions_bucket(const struct lb_sessions *table, uint64_t hash, unsigned nth)
{
	uint64_t half = nth == 0 ? hash & UINT32_MAX : hash >> 32;

	return (uint32_t)((half * table->n_buckets) >> 32);
}

/** Fetch the index's line in which the key nearly always is. Worker. */
static inline void lb_sessions_prefetch(const struct lb_sessions *table, uint64_t hash)
{
	__builtin_prefetch(&table->index[lb_sessions_bucket(table, hash, 0)]);
}

/** Fetch the entry that the index's first line leads to. Worker. */
static inline void lb_sessions_prefetch_entry(const struct lb_sessions *table, uint64_t hash)
{
	const uint64_t *words = table->index[lb_sessions_bucket(table, hash, 0)].entries;
	uint32_t mask = lb_flow_match(words, (uint32_t)(hash >> 32));

	if (mask != 0)
		__builtin_prefetch(
			&table->entries[((uint32_t)words[__builtin_ctz(mask)] >> 1) - 1]);
}

/**
 * The live session of @p hash for which @p matches says yes. @p matches is to be inlined; it may be asked about
 * other keys' sessions. @return NULL: none. Valid until its deletion. Worker; the main lcore may, for display.
 */
static inline __attribute__((always_inline)) struct lb_session *lb_sessions_find(
	const struct lb_sessions *table, uint64_t hash, enum lb_session_dir dir, uint32_t now_tick,
	bool (*matches)(const struct lb_session *session, const void *key), const void *key)
{
	for (unsigned nth = 0; nth < 2; nth++) {
		const uint64_t *words = table->index[lb_sessions_bucket(table, hash, nth)].entries;
		uint32_t mask = lb_flow_match(words, (uint32_t)(hash >> 32));

		for (; mask != 0; mask &= mask - 1) {
			uint32_t word = (uint32_t)words[__builtin_ctz(mask)];
			struct lb_session *session = &table->entries[(word >> 1) - 1];

			// A free word is 0, and a hash may be too; the main lcore may read one in change.
			if ((word >> 1) - 1 < table->n_entries && (word & 1) == dir &&
				lb_session_live(table, session, now_tick) && matches(session, key))
				return session;
		}
	}
	return NULL;
}

/**
 * Add a session that is not there: a copy of @p content, but for its places; content->state is not FREE.
 * @return NULL: no room (counted). Worker.
 */
struct lb_session *lb_sessions_insert(struct lb_sessions *table, const struct lb_session *content,
	const uint64_t hashes[2], uint32_t now_tick);

/** End a session: its port is released and its entry free. Worker. */
void lb_sessions_del(struct lb_sessions *table, struct lb_session *session);

/** Whether there is no entry for another session. Worker. */
static inline bool lb_sessions_full(const struct lb_sessions *table)
{
	return table->free_head == table->n_entries;
}

/**
 * End a session of which only a SYN has been seen, for want of room; the search goes on where it was, over
 * LB_SESSION_EVICT_TRIES entries at most, so that they go about in the order in which they came. Established ones never make
 * way. @return whether there was one. Worker.
 */
#define LB_SESSION_EVICT_TRIES 64u
bool lb_sessions_make_way(struct lb_sessions *table, uint32_t now_tick);

/** End this one, and count it as having made way. Worker. */
void lb_sessions_evict(struct lb_sessions *table, struct lb_session *session);

/**
 * Go on with the sweep over at most @p n entries, ending what has expired. Must go round in less than 16 bits of
 * ticks less the longest timeout (34 h). Worker. @return sessions ended.
 */
unsigned lb_sessions_sweep(struct lb_sessions *table, uint32_t now_tick, uint32_t n);

/** End every session of entries @p from to from + @p n whose backend has a flag in @p purge. Worker. */
void lb_sessions_purge_range(
	struct lb_sessions *table, const uint8_t *purge, uint32_t from, uint32_t n);

#endif
