/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lb/maglev.h"

/* Shared by all tables over the same members. */
struct population {
	unsigned n_refs;
	uint32_t n_slots;
	size_t n;
	struct lb_maglev
		*maglev; /* NULL until the first fill: building thousands at start takes seconds */
	struct lb_maglev_node *nodes;
	char *names; /* what nodes[].name point into */
};

struct lb_table {
	unsigned n_refs;
	struct population *population;
	bool eligible[];
};

static bool may_serve(const struct lb_table_member *member)
{
	return member->state == LB_BACKEND_UP && member->weight > 0;
}

static uint32_t lowest_tier(const struct lb_table_member *members, size_t n)
{
	uint32_t lowest = UINT32_MAX;

	for (size_t i = 0; i < n; i++)
		if (members[i].tier < lowest)
			lowest = members[i].tier;
	return lowest;
}

/* The smallest tier above @p tier; UINT32_MAX: none. */
static uint32_t tier_after(const struct lb_table_member *members, size_t n, uint32_t tier)
{
	uint32_t next = UINT32_MAX;

	for (size_t i = 0; i < n; i++)
		if (members[i].tier > tier && members[i].tier < next)
			next = members[i].tier;
	return next;
}

int lb_table_eligible(
	const struct lb_table_member *members, size_t n, uint32_t min_healthy, bool *eligible)
{
	uint32_t n_healthy = 0;
	int active = -1;

	memset(eligible, 0, n * sizeof(*eligible));
	for (uint32_t tier = lowest_tier(members, n); tier != UINT32_MAX;
		tier = tier_after(members, n, tier)) {
		for (size_t i = 0; i < n; i++) {
			if (members[i].tier != tier || !may_serve(&members[i]))
				continue;
			eligible[i] = true;
			n_healthy++;
			active = (int)tier;
		}
		if (n_healthy > 0 && n_healthy >= min_healthy)
			break;
	}
	return active;
}

static void population_unref(struct population *population)
{
	if (--population->n_refs > 0)
		return;
	lb_maglev_destroy(population->maglev);
	free(population->nodes);
	free(population->names);
	free(population);
}

static struct population *population_create(
	uint32_t n_slots, const struct lb_table_member *members, size_t n)
{
	struct population *population = calloc(1, sizeof(*population));
	uint32_t base_tier = lowest_tier(members, n);
	size_t names_bytes = 1, at = 0;

	if (population == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++)
		names_bytes += strlen(members[i].name) + 1;
	*population = (struct population){
		.n_refs = 1,
		.n_slots = n_slots,
		.n = n,
		.nodes = calloc(n + 1, sizeof(*population->nodes)),
		.names = malloc(names_bytes),
	};
	if (population->nodes == NULL || population->names == NULL) {
		population_unref(population);
		return NULL;
	}
	for (size_t i = 0; i < n; i++) {
		population->nodes[i] = (struct lb_maglev_node){
			.name = strcpy(population->names + at, members[i].name),
			.weight = members[i].weight,
			.id = members[i].id,
			.base = members[i].tier == base_tier,
		};
		at += strlen(members[i].name) + 1;
	}
	return population;
}

static bool population_fits(const struct population *population, uint32_t n_slots,
	const struct lb_table_member *members, size_t n)
{
	uint32_t base_tier = lowest_tier(members, n);

	if (population->n_slots != n_slots || population->n != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct lb_maglev_node *node = &population->nodes[i];

		if (node->weight != members[i].weight || node->id != members[i].id ||
			node->base != (members[i].tier == base_tier) ||
			strcmp(node->name, members[i].name) != 0)
			return false;
	}
	return true;
}

struct lb_table *lb_table_create(uint32_t n_slots, const struct lb_table_member *members, size_t n,
	const bool *eligible, const struct lb_table *like)
{
	struct lb_table *table = calloc(1, sizeof(*table) + n * sizeof(*eligible));

	if (table == NULL)
		return NULL;
	table->n_refs = 1;
	memcpy(table->eligible, eligible, n * sizeof(*eligible));
	if (like != NULL && population_fits(like->population, n_slots, members, n)) {
		table->population = like->population;
		table->population->n_refs++;
	} else {
		table->population = population_create(n_slots, members, n);
	}
	if (table->population == NULL) {
		free(table);
		return NULL;
	}
	return table;
}

struct lb_table *lb_table_ref(struct lb_table *table)
{
	table->n_refs++;
	return table;
}

void lb_table_unref(struct lb_table *table)
{
	if (table == NULL || --table->n_refs > 0)
		return;
	population_unref(table->population);
	free(table);
}

bool lb_table_equal(const struct lb_table *a, const struct lb_table *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	// a population is shared whenever it can be
	return a->population == b->population &&
	       memcmp(a->eligible, b->eligible, a->population->n * sizeof(*a->eligible)) == 0;
}

uint32_t lb_table_n_slots(const struct lb_table *table)
{
	return table->population->n_slots;
}

int lb_table_fill(struct lb_table *table, uint16_t *slots)
{
	struct population *population = table->population;
	int rc;

	if (population->n == 0) {
		for (uint32_t i = 0; i < population->n_slots; i++)
			slots[i] = LB_MAGLEV_EMPTY;
		return 0;
	}
	if (population->maglev == NULL) {
		rc = lb_maglev_create(population->n_slots, population->nodes,
			(uint32_t)population->n, &population->maglev);
		if (rc < 0)
			return rc;
	}
	return lb_maglev_fill(population->maglev, table->eligible, slots);
}
