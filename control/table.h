/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_TABLE_H
#define LB_CONTROL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lb/msg.h"

/*
 * The lookup table of one service: which backends take part (health, admin state, tiers), and the
 * Maglev population behind it, which is built when first needed and kept while names, weights and
 * tiers stay. With schedulers that do not only hash, the pick table of lb/pick.h behind the slots;
 * these then say where packets go that find no entry: a Maglev table as well.
 */

/** One backend as the table sees it. */
struct lb_table_member {
	const char *name;
	uint32_t weight;
	uint32_t tier;
	uint16_t id;
	enum lb_backend_state state;
	bool usable;   /* it may serve although its health says no, when health is ignored */
	uint8_t ramp;  /* slow start: per cent of its weight that it has by now; 0: none under way */
	uint8_t share; /* per cent of its weight that it asks for itself (agent); 0: all of it */
};

/** What is not the members'. */
struct lb_table_spec {
	enum lb_scheduler scheduler;
	uint32_t n_slots;
	uint16_t max_load_percent; /* 0: none */
};

/** When a service's health is not believed. */
struct lb_table_policy {
	uint32_t min_healthy;
	uint32_t panic_threshold; /* per cent; 0: never */
	bool last_resort;
};

enum lb_health_ignored { LB_HEALTH_HEEDED, LB_HEALTH_PANIC, LB_HEALTH_LAST_RESORT };

/** "panic", "last_resort"; NULL: health is heeded. */
const char *lb_health_ignored_name(enum lb_health_ignored ignored);

/**
 * Which members get slots: those that are up and have a weight, of every tier before which fewer
 * than @p min_healthy such members were found (the lowest tier always).
 * @param eligible @p n flags, written.
 * @return the highest tier that takes part, -1 if nobody is eligible.
 */
int lb_table_eligible(
	const struct lb_table_member *members, size_t n, uint32_t min_healthy, bool *eligible);

/**
 * The same with regard for @p policy: in panic, and where nobody is eligible in the last resort, every
 * usable member counts as up. Panic is: of the weight of the usable members of the tiers that serve
 * (take part, with somebody who is up) less than the threshold is up; nobody serving is 0 %.
 * @param ignored what came of it.
 */
int lb_table_judge(const struct lb_table_member *members, size_t n,
	const struct lb_table_policy *policy, bool *eligible, enum lb_health_ignored *ignored);

/* Immutable, shared by reference: what a publication that waits for a buffer needs. */
struct lb_table;

/**
 * A table of @p n members (copied). If @p like has the same members, slots and kind of table, its
 * population is shared and only the eligible flags differ; else a new one will be built by the
 * first fill.
 * @param like      may be NULL.
 * @param eligible  @p n flags, copied.
 * @return a reference; NULL without memory.
 */
struct lb_table *lb_table_create(const struct lb_table_spec *spec,
	const struct lb_table_member *members, size_t n, const bool *eligible,
	const struct lb_table *like);
struct lb_table *lb_table_ref(struct lb_table *table);
/** NULL is allowed. */
void lb_table_unref(struct lb_table *table);

/** Same members, flags and shares: the same content. Either may be NULL. */
bool lb_table_equal(const struct lb_table *a, const struct lb_table *b);

uint32_t lb_table_n_slots(const struct lb_table *table);

/** Sizes, scheduler and bound for TABLE_PUBLISH; the rest of @p msg is zeroed. */
void lb_table_describe(const struct lb_table *table, struct lb_msg_table *msg);

/** Slots and pick table together, in 16-bit words. */
uint32_t lb_table_n_words(const struct lb_table *table);

/** Write them. @return 0; -EINVAL as lb_maglev_create(); -ENOMEM. */
int lb_table_fill(struct lb_table *table, uint16_t *words);

/**
 * Let @p table, which nobody has seen yet, come after @p before: with a hash scheduler, moves of
 * slots that nothing asks for that changed between the two wait (lb/stage.h), and those that wait
 * in @p before go on waiting. Nothing happens if @p before was never filled or is of another size or kind.
 * @return 0; as lb_table_fill(), and then none waits.
 */
int lb_table_follow(struct lb_table *table, struct lb_table *before);

/** Slots that wait, in lb_table_fill(). */
uint32_t lb_table_n_waiting(const struct lb_table *table);

/** A table like @p table, of which some wait, in which up to @p budget of them have moved. @return a reference;
 * NULL without memory. */
struct lb_table *lb_table_step(struct lb_table *table, uint32_t budget);

#endif
