/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SESSION_MAGIC UINT64_C(0x7373657346) /* "Fsess" */
#define SESSION_VERSION 3u /* 1, 2: the hash of flows was another */
#define WAYS LB_FLOWTABLE_WAYS

/* What makes a table in memory usable by the next process. */
struct lb_session_header {
	uint64_t magic; /* written last */
	uint32_t version;
	uint32_t entry_bytes;
	uint32_t n_entries;
	uint32_t tick_ms;
	uint32_t worker;
	uint32_t n_workers;
	uint64_t secret_id;
	uint32_t last_tick; /* of the last sweep: the entries' 16 bits of time are relative to it */
	uint32_t zero[5];
};
static_assert(sizeof(struct lb_session_header) == 64, "entries follow, aligned");

// Two keys per session, half full: next to no bucket then fills up.
static uint64_t n_buckets_for(uint64_t n_sessions)
{
	return (n_sessions * 4 + WAYS - 1) / WAYS + 1;
}

uint64_t lb_sessions_bytes(uint64_t n_sessions)
{
	if (n_sessions == 0 || n_sessions > UINT64_C(1) << 30)
		return 0;
	return sizeof(struct lb_session_header) + n_sessions * sizeof(struct lb_session) +
	       n_buckets_for(n_sessions) * sizeof(struct lb_flow_bucket);
}

static inline void count(struct lb_sessions *table, uint16_t backend, int change)
{
	*(int64_t *)((char *)table->active + backend * table->active_stride) += change;
	table->counters->used += (uint64_t)(int64_t)change;
}

static inline uint64_t *word_at(const struct lb_sessions *table, uint32_t place)
{
	return &table->index[place / WAYS].entries[place % WAYS];
}

// Enter a key into the emptier of its two buckets. @return its place, UINT32_MAX: both are full.
static uint32_t index_add(
	struct lb_sessions *table, uint64_t hash, uint32_t idx, enum lb_session_dir dir)
{
	uint32_t buckets[2] = {lb_sessions_bucket(table, hash, 0), lb_sessions_bucket(table, hash, 1)};
	uint32_t free_ways[2], place;
	unsigned which;

	for (unsigned nth = 0; nth < 2; nth++)
		free_ways[nth] = lb_flow_match_free(table->index[buckets[nth]].entries);
	// The first one as long as it is not crowded: most lookups then end in one line.
	which = __builtin_popcount(free_ways[0]) < 5 &&
		__builtin_popcount(free_ways[1]) > __builtin_popcount(free_ways[0]);
	if (free_ways[which] == 0)
		return UINT32_MAX;
	place = buckets[which] * WAYS + (uint32_t)__builtin_ctz(free_ways[which]);
	*word_at(table, place) = (hash >> 32) << 32 | (uint64_t)(idx + 1) << 1 | dir;
	return place;
}

static bool index_add_both(struct lb_sessions *table, struct lb_session *session,
	const uint64_t hashes[2])
{
	uint32_t idx = (uint32_t)(session - table->entries);

	for (unsigned dir = 0; dir < 2; dir++) {
		session->place[dir] = index_add(table, hashes[dir], idx, (enum lb_session_dir)dir);
		if (session->place[dir] == UINT32_MAX) {
			if (dir == LB_SESSION_REPLY)
				*word_at(table, session->place[LB_SESSION_CLIENT]) = 0;
			return false;
		}
	}
	return true;
}

static void push_free(struct lb_sessions *table, struct lb_session *session)
{
	session->place[0] = table->free_head;
	table->free_head = (uint32_t)(session - table->entries);
}

static void set_state(struct lb_session *session, uint8_t state)
{
	__atomic_store_n(&session->state, state, __ATOMIC_RELEASE); // after, or before, all the rest
}

struct lb_session *lb_sessions_insert(struct lb_sessions *table, const struct lb_session *content,
	const uint64_t hashes[2], uint32_t now_tick)
{
	struct lb_session *session = &table->entries[table->free_head];
	uint32_t next;

	if (__builtin_expect(table->free_head == table->n_entries, 0)) {
		table->counters->full++;
		return NULL;
	}
	next = session->place[0];
	*session = *content;
	session->state = LB_FLOW_FREE;
	session->time = (uint16_t)now_tick;
	if (__builtin_expect(!index_add_both(table, session, hashes), 0)) {
		session->place[0] = next;
		table->counters->full++;
		return NULL;
	}
	set_state(session, content->state);
	table->free_head = next;
	table->counters->insert++;
	count(table, session->backend, 1);
	return session;
}

void lb_sessions_del(struct lb_sessions *table, struct lb_session *session)
{
	set_state(session, LB_FLOW_FREE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	*word_at(table, session->place[LB_SESSION_CLIENT]) = 0;
	*word_at(table, session->place[LB_SESSION_REPLY]) = 0;
	count(table, session->backend, -1);
	table->release(table->ctx, session);
	push_free(table, session);
}

void lb_sessions_evict(struct lb_sessions *table, struct lb_session *session)
{
	lb_sessions_del(table, session);
	table->counters->evicted++;
}

bool lb_sessions_make_way(struct lb_sessions *table, uint32_t now_tick)
{
	// A table full of established ones is not searched for each SYN of a flood.
	if (table->barren_tick == now_tick)
		return false;
	for (uint32_t n = 0; n < LB_SESSION_EVICT_TRIES; n++) {
		struct lb_session *session = &table->entries[table->evict_at];

		if (++table->evict_at == table->n_entries)
			table->evict_at = 0;
		if (session->state != LB_FLOW_SYN)
			continue;
		lb_sessions_evict(table, session);
		table->n_barren = 0;
		return true;
	}
	table->n_barren += LB_SESSION_EVICT_TRIES;
	if (table->n_barren >= table->n_entries) {
		table->n_barren = 0;
		table->barren_tick = now_tick;
	}
	return false;
}

unsigned lb_sessions_sweep(struct lb_sessions *table, uint32_t now_tick, uint32_t n)
{
	unsigned n_ended = 0;

	table->header->last_tick = now_tick;
	for (; n != 0; n--) {
		struct lb_session *session = &table->entries[table->sweep_at];

		if (session->state != LB_FLOW_FREE && !lb_session_live(table, session, now_tick)) {
			lb_sessions_del(table, session);
			n_ended++;
		}
		if (++table->sweep_at == table->n_entries)
			table->sweep_at = 0;
	}
	table->counters->expire += n_ended;
	return n_ended;
}

void lb_sessions_purge_range(
	struct lb_sessions *table, const uint8_t *purge, uint32_t from, uint32_t n)
{
	for (uint32_t i = from; i < table->n_entries && i - from < n; i++)
		if (table->entries[i].state != LB_FLOW_FREE && purge[table->entries[i].backend])
			lb_sessions_del(table, &table->entries[i]);
}

// @return whether the memory holds a table to adopt from; else why not.
static bool holds_table(const struct lb_session_header *header, const struct lb_sessions_config *config,
	uint32_t now_tick, char *why, size_t why_bytes)
{
	const char *reason = NULL;

	if (header->magic != SESSION_MAGIC)
		reason = "no sessions were kept";
	else if (header->version != SESSION_VERSION || header->entry_bytes != sizeof(struct lb_session) ||
		 header->tick_ms != LB_FLOW_TICK_MS)
		reason = "the kept sessions are of another version";
	else if (header->n_entries != config->n_sessions)
		reason = "the kept table has another size";
	else if (header->worker != config->worker || header->n_workers != config->n_workers)
		reason = "the kept sessions are of another worker, or number of workers";
	else if (header->secret_id != config->secret_id)
		reason = "the hash secret is another";
	else if (now_tick - header->last_tick > UINT16_MAX - LB_FLOW_IDLE_TICKS_MAX)
		reason = "the kept sessions are too old";
	if (why_bytes != 0)
		snprintf(why, why_bytes, "%s", reason != NULL ? reason : "");
	return reason == NULL && config->adopt != NULL;
}

// Of what the memory holds, only the entries are used: the index and the free list are made anew.
static int64_t take_over(struct lb_sessions *table, const struct lb_sessions_config *config, bool valid,
	uint32_t now_tick)
{
	int64_t n_adopted = 0;

	table->free_head = table->n_entries;
	for (uint32_t i = table->n_entries; i-- > 0;) {
		struct lb_session *session = &table->entries[i];
		uint64_t hashes[2];

		if (!valid || session->state == LB_FLOW_FREE || session->state >= LB_FLOW_STATE_N ||
			!lb_session_live(table, session, now_tick) ||
			!config->adopt(config->ctx, session, hashes)) {
			*session = (struct lb_session){.state = LB_FLOW_FREE};
			push_free(table, session);
			continue;
		}
		if (!index_add_both(table, session, hashes)) {
			table->release(table->ctx, session);
			*session = (struct lb_session){.state = LB_FLOW_FREE};
			push_free(table, session);
			continue;
		}
		count(table, session->backend, 1);
		n_adopted++;
	}
	return n_adopted;
}

int64_t lb_sessions_init(struct lb_sessions *table, const struct lb_sessions_config *config,
	uint32_t now_tick, char *why, size_t why_bytes)
{
	uint64_t n_bytes = lb_sessions_bytes(config->n_sessions);
	struct lb_session_header *header = config->mem;
	int64_t n_adopted;
	bool valid;

	if (n_bytes == 0 || header == NULL || (uintptr_t)header % 64 != 0 || config->mem_bytes < n_bytes)
		return -EINVAL;
	*table = (struct lb_sessions){
		.entries = (struct lb_session *)(header + 1),
		.n_entries = (uint32_t)config->n_sessions,
		.n_buckets = (uint32_t)n_buckets_for(config->n_sessions),
		.idle_ticks = config->idle_ticks,
		.active = config->active,
		.active_stride = config->active_stride,
		.counters = config->counters,
		.release = config->release,
		.ctx = config->ctx,
		.header = header,
		.barren_tick = now_tick - 1,
	};
	table->index = (struct lb_flow_bucket *)(table->entries + table->n_entries);
	memset(table->index, 0, table->n_buckets * sizeof(table->index[0]));
	table->counters->capacity = config->n_sessions;
	valid = holds_table(header, config, now_tick, why, why_bytes);
	header->magic = 0;
	n_adopted = take_over(table, config, valid, now_tick);
	*header = (struct lb_session_header){
		.version = SESSION_VERSION,
		.entry_bytes = sizeof(struct lb_session),
		.n_entries = table->n_entries,
		.tick_ms = LB_FLOW_TICK_MS,
		.worker = config->worker,
		.n_workers = config->n_workers,
		.secret_id = config->secret_id,
		.last_tick = now_tick,
	};
	__atomic_store_n(&header->magic, SESSION_MAGIC, __ATOMIC_RELEASE);
	return n_adopted;
}
