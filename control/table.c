/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/mem.h"
#include "control/shares.h"
#include "lb/hashring.h"
#include "lb/maglev.h"
#include "lb/pick.h"
#include "lb/stage.h"

/* Shared by all tables over the same members. */
struct population {
	unsigned n_refs;
	uint32_t n_slots;
	bool is_ring; /* else Maglev */
	size_t n;
	struct lb_maglev
		*maglev; /* NULL until the first fill: building thousands at start takes seconds */
	struct lb_maglev_node *nodes;
	char *names; /* what nodes[].name point into */
};

/* What changes without another population. */
struct standing {
	bool eligible;
	uint8_t ramp, share; /* 1..100; 100 also if it is not eligible */
};

struct lb_table {
	unsigned n_refs;
	struct population *population;
	uint16_t *staged;   /* the slots while some wait, see lb/stage.h, and until they are filled in
			       first; NULL: as wanted */
	uint32_t n_waiting;
	struct lb_pick_spec pick;
	struct standing standing[];
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

const char *lb_health_ignored_name(enum lb_health_ignored ignored)
{
	if (ignored == LB_HEALTH_PANIC)
		return "panic";
	return ignored == LB_HEALTH_LAST_RESORT ? "last_resort" : NULL;
}

static bool is_panic(const struct lb_table_member *members, size_t n, uint32_t threshold,
	const bool *eligible)
{
	uint64_t healthy = 0, serving = 0, all = 0;
	bool serves[UINT8_MAX + 1] = {false};

	for (size_t i = 0; i < n; i++)
		serves[(uint8_t)members[i].tier] |= eligible[i];
	for (size_t i = 0; i < n; i++) {
		if (!members[i].usable)
			continue;
		all += members[i].weight;
		if (!serves[(uint8_t)members[i].tier])
			continue;
		serving += members[i].weight;
		healthy += eligible[i] ? members[i].weight : 0;
	}
	return all > 0 && (serving == 0 || healthy * 100 < serving * threshold);
}

/* As lb_table_eligible(), were every usable member up. */
static int ignore_health(
	const struct lb_table_member *members, size_t n, uint32_t min_healthy, bool *eligible)
{
	struct lb_table_member *healthy = lb_xcalloc(n, sizeof(*healthy));
	int active;

	for (size_t i = 0; i < n; i++) {
		healthy[i] = members[i];
		if (members[i].usable)
			healthy[i].state = LB_BACKEND_UP;
	}
	active = lb_table_eligible(healthy, n, min_healthy, eligible);
	free(healthy);
	return active;
}

int lb_table_judge(const struct lb_table_member *members, size_t n,
	const struct lb_table_policy *policy, bool *eligible, enum lb_health_ignored *ignored)
{
	int active = lb_table_eligible(members, n, policy->min_healthy, eligible);

	*ignored = LB_HEALTH_HEEDED;
	if (policy->panic_threshold > 0 && is_panic(members, n, policy->panic_threshold, eligible))
		*ignored = LB_HEALTH_PANIC;
	else if (policy->last_resort && active < 0)
		*ignored = LB_HEALTH_LAST_RESORT;
	if (*ignored != LB_HEALTH_HEEDED)
		active = ignore_health(members, n, policy->min_healthy, eligible);
	if (active < 0)
		*ignored = LB_HEALTH_HEEDED; // nobody is there to be used
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

/* rr and lc treat all alike, and so do the slots behind them. */
static uint32_t weight_for(enum lb_scheduler scheduler, uint32_t weight)
{
	if (scheduler == LB_SCHED_RR || scheduler == LB_SCHED_LC)
		return weight > 0;
	return weight;
}

static struct population *population_create(
	const struct lb_table_spec *spec, const struct lb_table_member *members, size_t n)
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
		.n_slots = spec->n_slots,
		.is_ring = spec->scheduler == LB_SCHED_RING,
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
			.weight = weight_for(spec->scheduler, members[i].weight),
			.id = members[i].id,
			.base = members[i].tier == base_tier,
		};
		at += strlen(members[i].name) + 1;
	}
	return population;
}

static bool population_fits(const struct population *population, const struct lb_table_spec *spec,
	const struct lb_table_member *members, size_t n)
{
	uint32_t base_tier = lowest_tier(members, n);

	if (population->n_slots != spec->n_slots || population->n != n ||
		population->is_ring != (spec->scheduler == LB_SCHED_RING))
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct lb_maglev_node *node = &population->nodes[i];

		if (node->weight != weight_for(spec->scheduler, members[i].weight) ||
			node->id != members[i].id ||
			node->base != (members[i].tier == base_tier) ||
			strcmp(node->name, members[i].name) != 0)
			return false;
	}
	return true;
}

/* Those that take part; the caller frees. NULL without memory. */
static struct lb_share *shares_of(const struct lb_table *table, size_t *n)
{
	const struct population *population = table->population;
	struct lb_share *shares = malloc((population->n + 1) * sizeof(*shares));

	*n = 0;
	for (size_t i = 0; shares != NULL && i < population->n; i++)
		if (table->standing[i].eligible)
			shares[(*n)++] = (struct lb_share){
				.id = population->nodes[i].id,
				.weight = (uint16_t)population->nodes[i].weight,
				.ramp = table->standing[i].ramp,
				.share = table->standing[i].share,
			};
	return shares;
}

static int size_pick(struct lb_table *table, const struct lb_table_spec *spec)
{
	size_t n;
	struct lb_share *shares = shares_of(table, &n);

	if (shares == NULL)
		return -ENOMEM;
	table->pick = (struct lb_pick_spec){.scheduler = (uint8_t)spec->scheduler,
		.max_load_percent = spec->max_load_percent};
	lb_shares_size_pick(shares, n, &table->pick);
	free(shares);
	return 0;
}

struct lb_table *lb_table_create(const struct lb_table_spec *spec,
	const struct lb_table_member *members, size_t n, const bool *eligible,
	const struct lb_table *like)
{
	struct lb_table *table = calloc(1, sizeof(*table) + n * sizeof(table->standing[0]));

	if (table == NULL)
		return NULL;
	table->n_refs = 1;
	for (size_t i = 0; i < n; i++) {
		bool ramps = eligible[i] && members[i].ramp != 0, shares = eligible[i] && members[i].share != 0;

		table->standing[i] = (struct standing){.eligible = eligible[i],
			.ramp = ramps ? members[i].ramp : 100,
			.share = shares ? members[i].share : 100};
	}
	if (like != NULL && population_fits(like->population, spec, members, n)) {
		table->population = like->population;
		table->population->n_refs++;
	} else {
		table->population = population_create(spec, members, n);
	}
	if (table->population == NULL) {
		free(table);
		return NULL;
	}
	if (size_pick(table, spec) < 0) {
		lb_table_unref(table);
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
	free(table->staged);
	free(table);
}

bool lb_table_equal(const struct lb_table *a, const struct lb_table *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	// a population is shared whenever it can be
	return a->population == b->population && a->pick.scheduler == b->pick.scheduler &&
	       a->pick.max_load_percent == b->pick.max_load_percent &&
	       memcmp(a->standing, b->standing, a->population->n * sizeof(a->standing[0])) == 0;
}

uint32_t lb_table_n_slots(const struct lb_table *table)
{
	return table->population->n_slots;
}

uint32_t lb_table_n_words(const struct lb_table *table)
{
	return table->population->n_slots + (uint32_t)lb_pick_words(&table->pick);
}

void lb_table_describe(const struct lb_table *table, struct lb_msg_table *msg)
{
	*msg = (struct lb_msg_table){
		.n_slots = table->population->n_slots,
		.n_members = table->pick.n_members,
		.n_sequence = table->pick.n_sequence,
		.max_load_percent = table->pick.max_load_percent,
		.scheduler = table->pick.scheduler,
	};
}

static int fill_slots(struct population *population, const bool *eligible, uint16_t *slots)
{
	int rc;

	if (population->n == 0) {
		for (uint32_t i = 0; i < population->n_slots; i++)
			slots[i] = LB_MAGLEV_EMPTY;
		return 0;
	}
	if (population->is_ring)
		return lb_hashring_fill(population->n_slots, population->nodes,
			(uint32_t)population->n, eligible, slots);
	if (population->maglev == NULL) {
		rc = lb_maglev_create(population->n_slots, population->nodes,
			(uint32_t)population->n, &population->maglev);
		if (rc < 0)
			return rc;
	}
	return lb_maglev_fill(population->maglev, eligible, slots);
}

/* Those that are most advanced in their slow start, and their table. */
static int fill_without_ramping(struct lb_table *table, bool *eligible, uint16_t *slots)
{
	uint8_t most = 0;

	for (size_t i = 0; i < table->population->n; i++)
		if (table->standing[i].eligible && table->standing[i].ramp > most)
			most = table->standing[i].ramp;
	for (size_t i = 0; i < table->population->n; i++)
		eligible[i] = table->standing[i].eligible && table->standing[i].ramp == most;
	return fill_slots(table->population, eligible, slots);
}

/* The slots, as they are wanted. */
static int fill_wanted(struct lb_table *table, uint16_t *slots)
{
	struct population *population = table->population;
	uint32_t n_slots = population->n_slots;
	bool *eligible = malloc(population->n + 1);
	uint16_t *without = NULL;
	size_t n = 0;
	struct lb_share *shares = shares_of(table, &n);
	int rc = eligible != NULL && shares != NULL ? 0 : -ENOMEM;

	for (size_t i = 0; rc == 0 && i < population->n; i++)
		eligible[i] = table->standing[i].eligible;
	if (rc == 0)
		rc = fill_slots(population, eligible, slots);
	if (rc == 0 && lb_shares_any_ramp(shares, n)) {
		without = malloc(n_slots * sizeof(*without));
		rc = without != NULL ? fill_without_ramping(table, eligible, without) : -ENOMEM;
		if (rc == 0)
			lb_shares_apply_ramp(shares, n, without, n_slots, slots);
	}
	if (rc == 0 && lb_shares_any_share(shares, n))
		rc = lb_shares_apply_share(shares, n, n_slots, slots);
	free(eligible);
	free(without);
	free(shares);
	return rc;
}

static int fill_pick(const struct lb_table *table, uint16_t *words)
{
	size_t n;
	struct lb_share *shares = shares_of(table, &n);
	int rc = shares != NULL ? lb_shares_fill_pick(shares, n, &table->pick, words) : -ENOMEM;

	free(shares);
	return rc;
}

/* As they are to be published. */
static int fill_published(struct lb_table *table, uint16_t *slots)
{
	if (table->staged == NULL)
		return fill_wanted(table, slots);
	memcpy(slots, table->staged, table->population->n_slots * sizeof(*slots));
	return 0;
}

int lb_table_fill(struct lb_table *table, uint16_t *words)
{
	int rc = fill_published(table, words);

	if (table->n_waiting == 0) {
		free(table->staged); // it is what is wanted: that can be had again
		table->staged = NULL;
	}
	return rc == 0 ? fill_pick(table, words + table->population->n_slots) : rc;
}

/* Staged moves. */

/* With others a packet comes to its slot only if its flow is not known. */
static bool goes_by_slot(const struct lb_table *table)
{
	return table->pick.scheduler == LB_SCHED_MAGLEV || table->pick.scheduler == LB_SCHED_RING ||
	       table->pick.scheduler == LB_SCHED_SOURCE;
}

/* Whether @p after may be a step away from @p before: they are of the same kind, and @p before was
 * filled, or nobody has it. */
static bool is_comparable(const struct lb_table *before, const struct lb_table *after)
{
	return before->population->n_slots == after->population->n_slots &&
	       before->population->is_ring == after->population->is_ring &&
	       (before->population->is_ring || before->population->maglev != NULL) &&
	       goes_by_slot(before) && goes_by_slot(after);
}

/* Index by id of the members; UINT16_MAX: none. LB_MAX_BACKENDS + 1 of them. */
static uint16_t *index_members(const struct population *population)
{
	uint16_t *index = malloc((LB_MAX_BACKENDS + 1u) * sizeof(*index));

	if (index == NULL)
		return NULL;
	memset(index, 0xff, (LB_MAX_BACKENDS + 1u) * sizeof(*index));
	for (size_t i = 0; i < population->n; i++)
		index[population->nodes[i].id] = (uint16_t)i;
	return index;
}

/* Those that are in both tables with the same name, weight and standing. */
static int find_settled(const struct lb_table *before, const struct lb_table *after,
	struct lb_stage_settled *settled)
{
	uint16_t *index = index_members(before->population);

	if (index == NULL)
		return -ENOMEM;
	*settled = (struct lb_stage_settled){0};
	for (size_t i = 0; i < after->population->n; i++) {
		const struct lb_maglev_node *now = &after->population->nodes[i], *old;
		uint16_t k = index[now->id];

		if (k == UINT16_MAX || !after->standing[i].eligible)
			continue;
		old = &before->population->nodes[k];
		if (old->weight == now->weight && old->base == now->base &&
			strcmp(old->name, now->name) == 0 &&
			memcmp(&before->standing[k], &after->standing[i],
				sizeof(after->standing[i])) == 0)
			lb_stage_settle(settled, now->id);
	}
	free(index);
	return 0;
}

/* Let @p table have the slots @p from, moved on towards what it wants; @p from is ours. */
static int move_on(struct lb_table *table, uint16_t *from, const struct lb_stage_settled *settled,
	uint32_t budget)
{
	uint16_t *wanted = malloc(table->population->n_slots * sizeof(*wanted));
	int rc = wanted != NULL ? fill_wanted(table, wanted) : -ENOMEM;

	if (rc == 0)
		table->n_waiting = lb_stage_move(
			from, wanted, table->population->n_slots, settled, budget);
	free(wanted);
	if (rc < 0)
		free(from);
	else
		table->staged = from;
	return rc;
}

int lb_table_follow(struct lb_table *table, struct lb_table *before)
{
	struct lb_stage_settled settled;
	uint16_t *slots;
	int rc;

	if (!is_comparable(before, table))
		return 0;
	slots = malloc(before->population->n_slots * sizeof(*slots));
	rc = slots != NULL ? find_settled(before, table, &settled) : -ENOMEM;
	if (rc == 0)
		rc = fill_published(before, slots);
	if (rc < 0) {
		free(slots);
		return rc;
	}
	return move_on(table, slots, &settled, 0);
}

struct lb_table *lb_table_step(struct lb_table *table, uint32_t budget)
{
	size_t n_bytes = sizeof(*table) + table->population->n * sizeof(table->standing[0]);
	size_t n_slots_bytes = table->population->n_slots * sizeof(*table->staged);
	struct lb_table *next = malloc(n_bytes);
	uint16_t *slots = malloc(n_slots_bytes);
	struct lb_stage_settled settled;

	if (next == NULL || slots == NULL || find_settled(table, table, &settled) < 0) {
		free(next);
		free(slots);
		return NULL;
	}
	memcpy(next, table, n_bytes);
	next->n_refs = 1;
	next->population->n_refs++;
	next->staged = NULL;
	memcpy(slots, table->staged, n_slots_bytes);
	if (move_on(next, slots, &settled, budget) < 0) {
		lb_table_unref(next);
		return NULL;
	}
	return next;
}

uint32_t lb_table_n_waiting(const struct lb_table *table)
{
	return table->n_waiting;
}
