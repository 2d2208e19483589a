/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_PICK_H
#define LB_PICK_H

#include <stdatomic.h>

#include "lb/hash.h"
#include "lb/slots.h"

/*
 * What chooses a backend at a flow's first packet, where that is not simply the slot's: round robin,
 * least connections, the lesser of two, and the bound on the load of the hash schedulers. A flow
 * chosen so is recorded; packets in mid-stream that find no entry, and all packets while flows are
 * not recorded (pressure), go by the slot: so nothing here ever scatters a flow.
 *
 * A pick table is published together with the slots: who takes part, with which weight, and for rr,
 * wrr and p2c a sequence of them. It is read-only but for one state per worker, which only that
 * worker writes. Loads are the worker's own counts of active flows: no core reads another's lines.
 * RSS spreads flows evenly over the workers, so what each balances among its own is balanced as a
 * whole, within one flow per worker.
 */

/* Backends that one choice looks at (lc, wlc), or counts anew (max_load): a few hundred cycles. */
#define LB_PICK_SCAN 64u
/* Places in a slot's order before all backends are gone through one by one. */
#define LB_PICK_PROBES 64u
#define LB_PICK_MAX_SEQUENCE 65536u
#define LB_PICK_MAX_LOAD_MIN 101u /* per cent of the average */
#define LB_PICK_MAX_LOAD_MAX 1000u

/* What TABLE_PUBLISH says of a pick table. All zero: there is none, flows go by the slot. */
struct lb_pick_spec {
	uint8_t scheduler;         /* enum lb_scheduler */
	uint16_t max_load_percent; /* of maglev, ring, source; 0: none, else as above */
	uint32_t n_members;        /* 0: only the slots' */
	uint32_t n_sequence;       /* of rr, wrr, p2c; else 0 */
};

/* As published, after the slots: members by rising id, then the sequence (indexes of members). */
struct lb_pick_member {
	uint16_t backend;
	uint16_t weight; /* 1.. */
};
static_assert(sizeof(struct lb_pick_member) == 4, "two words of the table buffer");

/** 16-bit words behind the slots. */
static inline uint64_t lb_pick_words(const struct lb_pick_spec *spec)
{
	return (uint64_t)spec->n_members * 2 + spec->n_sequence;
}

/** Whether a flow's slot is chosen by the client's address alone, or a choice is made beside it. */
static inline bool lb_pick_needed(const struct lb_pick_spec *spec)
{
	return spec->scheduler == LB_SCHED_SOURCE || spec->n_members != 0;
}

/** Whether @p scheduler goes by a hash of the packet alone. */
static inline bool lb_pick_is_hash(unsigned scheduler)
{
	return scheduler == LB_SCHED_MAGLEV || scheduler == LB_SCHED_RING ||
	       scheduler == LB_SCHED_SOURCE;
}

/* Worker: rw; main lcore: reads `position` when the next table is made. */
struct lb_pick_state {
	_Atomic uint32_t position; /* in the sequence; lc, wlc: the member to look at first */
	uint32_t recount;          /* max_load: the member to count next */
	uint64_t random;
	uint64_t total;            /* sum of counts */
	uint32_t *counts; /* by member as counted last; NULL: few enough to count each time */
} __attribute__((aligned(64)));

struct lb_pick {
	struct lb_pick_spec spec;
	uint32_t n_workers;
	uint64_t weight_sum;
	const struct lb_pick_member *members;
	const uint16_t *sequence;
	struct lb_pick_state *states; /* by worker */
};

/* What a choice goes by beside the table. */
struct lb_pick_view {
	const struct lb_slot_table *table;
	uint32_t slot;                /* of the flow */
	const uint8_t *backend_state; /* as for lb_decide_miss() */
	const int64_t *active; /* this worker's active flows by backend id, active_stride bytes apart */
	size_t active_stride;
};

/** Whether @p spec keeps the limits above. */
bool lb_pick_spec_valid(const struct lb_pick_spec *spec);

/** Bytes of a pick table; the memory must be 64-byte aligned and zeroed. */
uint64_t lb_pick_bytes(const struct lb_pick_spec *spec, uint32_t n_workers);

/**
 * Make a pick table in @p mem out of the published words. The backends are the caller's to check.
 * @param before the table that it follows: rotations go on where that one is; NULL: none.
 * @return the table (at @p mem); NULL: members are not in order, a weight is 0 or the sequence names
 * nobody.
 */
struct lb_pick *lb_pick_init(void *mem, const struct lb_pick_spec *spec, const uint16_t *words,
	uint32_t n_workers, const struct lb_pick *before);

/** Count all members' flows of a worker, so that it begins with the truth. Before it is used. */
void lb_pick_count(struct lb_pick *pick, uint32_t worker, const int64_t *active, size_t active_stride);

/**
 * The backend of a new flow. @param commit false: what it would be, changing nothing (display).
 * @return LB_BACKEND_NONE: the slot's. Worker.
 */
uint16_t lb_pick_choose(const struct lb_pick *pick, uint32_t worker, const struct lb_pick_view *view,
	bool commit);

/** The hash that chooses the slot of a flow: its own, or with `source` that of the client's address. */
uint64_t lb_pick_source_hash(const struct lb_hash_key *key, const struct lb_flow_key *flow);

#endif
