/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_SLOTS_H
#define LB_SLOTS_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "lb/maglev.h"
#include "lb/msg.h"

/*
 * A lookup table with the history of its slots, as the data plane holds it (design, section 7).
 * With T the idle timeout of the service: a slot that changed within the last T is *in transition*,
 * and its origin is the backend it had before the first of the changes that followed each other
 * within T. A TCP flow of such a slot that has no entry in the flow table is at the origin: it
 * began before the first of them, or its SYN would have been recorded.
 *
 * A table is built by one thread, then only read, by any; a new one is made for each change. Times
 * are CLOCK_MONOTONIC, so that a table in memory that outlives the process goes on being right.
 */

#define LB_SLOT_NONE \
	LB_MAGLEV_EMPTY /* as backend: nobody serves the slot; as origin: nobody known */
static_assert(LB_SLOT_NONE == LB_BACKEND_NONE, "one word for nobody");

struct lb_slot {
	uint16_t backend;
	uint16_t origin;    /* meaningful while in transition; of a slot that never changed: its
			       backend */
	uint32_t changed_s; /* seconds + 1 of the last change; 0: none that still matters */
};
static_assert(sizeof(struct lb_slot) == 8, "eight to a line");

struct lb_slot_table {
	uint64_t magic;        /* written last */
	uint32_t n_slots;      /* LB_MAGLEV_MIN_SLOTS..LB_MAGLEV_MAX_SLOTS */
	uint32_t version;      /* of the TABLE_PUBLISH that made it */
	uint32_t transition_s; /* T */
	uint32_t changed_s;    /* of the slot that changed last, as there */
	struct lb_slot slots[] __attribute__((aligned(64)));
};

/** A service's idle timeout as T: rounded up to seconds. */
static inline uint32_t lb_slots_transition_s(uint32_t idle_timeout_ms)
{
	return (uint32_t)((idle_timeout_ms + UINT64_C(999)) / 1000);
}

/** Bytes of a table of @p n_slots; the memory must be 64-byte aligned. */
uint64_t lb_slots_bytes(uint32_t n_slots);

/**
 * Make a table out of what the slots are from now on and the table before it. A slot whose backend
 * differs is in transition from now on; its origin is the backend before, or, if it was in
 * transition already, remains. One that nobody had (as at a service's first start) is not in
 * transition: no flow is older than its new backend. A slot whose backend stays keeps its history. History that is over
 * by the T of the old table is dropped, since flows have begun without a record since then: so a T
 * that grows does not bring it back. T therefore changes only through here.
 *
 * If the number of slots differs, a new slot's predecessor is the old slot in which the middle of
 * its range of hashes lies. That is right for all hashes of a new slot inside one old slot (with
 * ten times as many slots, for 90 % of them); of the others some flows without an entry go
 * elsewhere, as one origin per slot cannot stand for two.
 *
 * @param table    lb_slots_bytes(n_slots) bytes, 64-byte aligned; not @p old.
 * @param old      table before (only read), whichever its size; NULL: none, and no slot is in
 * transition.
 * @param backends n_slots ids or LB_SLOT_NONE.
 * @param n_slots  1..LB_MAGLEV_MAX_SLOTS.
 * @param transition_s T. @param now_s CLOCK_MONOTONIC in seconds.
 * @return number of slots that changed. Any thread.
 */
uint32_t lb_slots_adopt(struct lb_slot_table *table, const struct lb_slot_table *old,
	const uint16_t *backends, uint32_t n_slots, uint32_t version, uint32_t transition_s,
	uint32_t now_s);

/**
 * Whether memory of @p size_bytes holds a table that can be gone on with (a restart): complete, of
 * a valid size that fits, with no time in the future. Backend ids are not judged: any is safe, and
 * lb_slots_forget() drops those that are gone.
 */
bool lb_slots_valid(const struct lb_slot_table *table, uint64_t size_bytes, uint32_t now_s);

/**
 * Drop @p backend as an origin: before its id may name another backend. Workers may be reading.
 * @return number of slots that named it.
 */
uint32_t lb_slots_forget(struct lb_slot_table *table, uint16_t backend);

/* Whether a change at @p changed_s (as in a slot) is less than T ago; one that @p now_s does not know of yet is. */
static inline bool lb_slots_change_is_recent(uint32_t changed_s, uint32_t transition_s, uint32_t now_s)
{
	return changed_s != 0 && (int32_t)(now_s + 1 - changed_s) <= (int32_t)transition_s;
}

/**
 * Whether @p slot is in transition. Both times are rounded down to seconds, so that it is until at
 * least T after the change. A worker's @p now_s is that of its last poll, and may be before the change.
 */
static inline bool lb_slot_in_transition(
	const struct lb_slot *slot, uint32_t transition_s, uint32_t now_s)
{
	return lb_slots_change_is_recent(slot->changed_s, transition_s, now_s);
}

/** Whether any slot of @p table is in transition. */
static inline bool lb_slots_in_transition(const struct lb_slot_table *table, uint32_t now_s)
{
	return lb_slots_change_is_recent(table->changed_s, table->transition_s, now_s);
}

#endif
