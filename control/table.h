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
 * tiers stay.
 */

/** One backend as the table sees it. */
struct lb_table_member {
	const char *name;
	uint32_t weight;
	uint32_t tier;
	uint16_t id;
	enum lb_backend_state state;
};

/**
 * Which members get slots: those that are up and have a weight, of every tier before which fewer
 * than @p min_healthy such members were found (the lowest tier always).
 * @param eligible @p n flags, written.
 * @return the highest tier that takes part, -1 if nobody is eligible.
 */
int lb_table_eligible(
	const struct lb_table_member *members, size_t n, uint32_t min_healthy, bool *eligible);

/* Immutable, shared by reference: what a publication that waits for a buffer needs. */
struct lb_table;

/**
 * A table of @p n members (copied) with @p n_slots. If @p like has the same members and slots, its
 * population is shared and only the eligible flags differ; else a new one will be built by the
 * first fill.
 * @param like      may be NULL.
 * @param eligible  @p n flags, copied.
 * @return a reference; NULL without memory.
 */
struct lb_table *lb_table_create(uint32_t n_slots, const struct lb_table_member *members, size_t n,
	const bool *eligible, const struct lb_table *like);
struct lb_table *lb_table_ref(struct lb_table *table);
/** NULL is allowed. */
void lb_table_unref(struct lb_table *table);

/** Same slots, members and flags: the same content. Either may be NULL. */
bool lb_table_equal(const struct lb_table *a, const struct lb_table *b);

uint32_t lb_table_n_slots(const struct lb_table *table);

/** Write the slots. @return 0; -EINVAL as lb_maglev_create(); -ENOMEM. */
int lb_table_fill(struct lb_table *table, uint16_t *slots);

#endif
