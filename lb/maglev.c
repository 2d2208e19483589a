/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/maglev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lb/hash.h"
#include "lb/population.h"

#define MAX_NODES 65535u
#define MAX_WEIGHT 65535u
static_assert(MAX_WEIGHT <= LB_POPULATION_UNIT, "a walker looks at most once per tick");

/* Seeds of lb_hash_bytes() for the independent uses of a name. */
enum { SEED_ORDER = 1, SEED_OFFSET, SEED_SKIP };

struct node {
	uint64_t order; /* hash of the name */
	uint32_t weight;
	uint32_t next; /* slot to look at next, when the base population is done */
	uint32_t skip;
	uint32_t n_slots; /* of its own in the base table */
	uint32_t input_idx;
	uint16_t id;
	bool base;
};

struct lb_maglev {
	uint32_t n_slots;
	uint32_t n_nodes;
	struct node *nodes; /* by falling weight, then by hash of the name, then by name */
	uint16_t *owners;   /* base table: node of each slot; n_nodes where there is none */
};

/* What one population needs beside its result. */
struct work {
	struct lb_population population;
	uint32_t *weights;    /* by walker */
	uint32_t *remainders; /* by walker */
	uint64_t *taken;
	struct lb_walker *walkers;
	uint32_t *next; /* by node */
};

bool lb_maglev_is_prime(uint32_t n)
{
	if (n % 2 == 0)
		return n == 2;
	for (uint32_t i = 3; (uint64_t)i * i <= n; i += 2)
		if (n % i == 0)
			return false;
	return n > 1;
}

/* A node with its name, for as long as nodes are sorted. */
struct named_node {
	struct node node;
	const char *name;
};

static int compare_names(const void *a, const void *b)
{
	const struct named_node *x = a, *y = b;

	if (x->node.order != y->node.order)
		return x->node.order < y->node.order ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int compare_weights(const void *a, const void *b)
{
	const struct named_node *x = a, *y = b;

	if (x->node.weight != y->node.weight)
		return x->node.weight > y->node.weight ? -1 : 1;
	return compare_names(a, b);
}

/* Fill maglev->nodes. */
static int nodes_init(
	struct lb_maglev *maglev, const struct lb_maglev_node *nodes, uint32_t n_nodes)
{
	struct named_node *sorted = malloc(n_nodes * sizeof(*sorted) + 1);
	int rc = -EINVAL;

	if (sorted == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < n_nodes; i++) {
		const char *name = nodes[i].name;
		size_t len = strlen(name);
		uint64_t offset = lb_hash_bytes(name, len, SEED_OFFSET);
		uint64_t skip = lb_hash_bytes(name, len, SEED_SKIP);

		if (nodes[i].id == LB_MAGLEV_EMPTY || nodes[i].weight > MAX_WEIGHT)
			goto out;
		sorted[i].name = name;
		sorted[i].node = (struct node){
			.order = lb_hash_bytes(name, len, SEED_ORDER),
			.weight = nodes[i].weight,
			.next = (uint32_t)(offset % maglev->n_slots),
			.skip = (uint32_t)(skip % (maglev->n_slots - 1) + 1),
			.input_idx = i,
			.id = nodes[i].id,
			.base = nodes[i].base,
		};
	}
	qsort(sorted, n_nodes, sizeof(*sorted), compare_names);
	for (uint32_t i = 1; i < n_nodes; i++)
		if (compare_names(&sorted[i - 1], &sorted[i]) == 0)
			goto out;
	qsort(sorted, n_nodes, sizeof(*sorted), compare_weights);
	for (uint32_t i = 0; i < n_nodes; i++)
		maglev->nodes[i] = sorted[i].node;
	rc = 0;
out:
	free(sorted);
	return rc;
}

static void work_fini(struct work *work)
{
	free(work->weights);
	free(work->remainders);
	free(work->taken);
	free(work->walkers);
	free(work->next);
}

static int work_init(struct work *work, const struct lb_maglev *maglev, uint16_t *slots)
{
	uint32_t n = maglev->n_nodes > 0 ? maglev->n_nodes : 1;

	*work = (struct work){
		.weights = calloc(n, sizeof(*work->weights)),
		.remainders = calloc(n, sizeof(*work->remainders)),
		.taken = calloc(lb_population_words(maglev->n_slots), sizeof(*work->taken)),
		.walkers = calloc(n, sizeof(*work->walkers)),
		.next = calloc(n, sizeof(*work->next)),
	};
	if (work->weights == NULL || work->remainders == NULL || work->taken == NULL ||
		work->walkers == NULL || work->next == NULL) {
		work_fini(work);
		return -ENOMEM;
	}
	work->population = (struct lb_population){
		.n_slots = maglev->n_slots,
		.taken = work->taken,
		.slots = slots,
		.next = work->next,
		.walkers = work->walkers,
		.weights = work->weights,
	};
	return 0;
}

static void walker_add(
	struct work *work, const struct lb_maglev *maglev, uint32_t node_idx, uint16_t value)
{
	const struct node *node = &maglev->nodes[node_idx];
	uint32_t i = work->population.n_walkers++;

	work->weights[i] = node->weight;
	work->walkers[i] = (struct lb_walker){
		.pos = node->next,
		.skip = node->skip,
		.value = value,
		.node = (uint16_t)node_idx,
	};
}

/*
 * Remove walkers whose nodes already have more than their share of what all the walkers have or
 * get; the others' share falls with each, so again until none is left. @p n_slots becomes what
 * those that stay will have together, @p weight is their sum.
 */
static void drop_sated(
	struct work *work, const struct lb_maglev *maglev, uint64_t *n_slots, uint64_t *weight)
{
	struct lb_population *p = &work->population;
	uint32_t n, n_before;

	*n_slots = p->n_free;
	*weight = 0;
	for (uint32_t i = 0; i < p->n_walkers; i++) {
		*n_slots += maglev->nodes[p->walkers[i].node].n_slots;
		*weight += work->weights[i];
	}
	do {
		n_before = p->n_walkers;
		n = 0;
		for (uint32_t i = 0; i < n_before; i++) {
			uint32_t n_own = maglev->nodes[p->walkers[i].node].n_slots;

			if (work->weights[i] * *n_slots < n_own * *weight) {
				*n_slots -= n_own;
				*weight -= work->weights[i];
				continue;
			}
			work->weights[n] = work->weights[i];
			p->walkers[n++] = p->walkers[i];
		}
		p->n_walkers = n;
	} while (n < n_before);
}

/*
 * Of the shares' fractions, the largest are rounded up: as many as there are slots left over.
 * Walkers with the same fraction come in their own order. All fractions are below @p weight.
 */
static void round_up_largest(struct work *work, uint64_t n_left_over, uint64_t weight)
{
	uint32_t n = work->population.n_walkers, *remainders = work->remainders;
	// at least n_left_over fractions are >= low, fewer are >= high
	uint64_t low = 0, high = weight;

	while (high - low > 1) {
		uint64_t middle = (low + high) / 2, n_at_least = 0;

		for (uint32_t i = 0; i < n; i++)
			n_at_least += remainders[i] >= middle;
		if (n_at_least >= n_left_over)
			low = middle;
		else
			high = middle;
	}
	for (uint32_t i = 0; i < n; i++)
		if (remainders[i] > low) {
			work->population.walkers[i].due++;
			n_left_over--;
		}
	for (uint32_t i = 0; i < n && n_left_over > 0; i++)
		if (remainders[i] == low) {
			work->population.walkers[i].due++;
			n_left_over--;
		}
}

/*
 * Set what each walker is due, so that afterwards slots are proportional to weight, within one
 * slot, as far as that is possible without taking any away.
 */
static void share_out(struct work *work, const struct lb_maglev *maglev)
{
	uint64_t n_slots, weight, n_left_over;

	if (work->population.n_walkers == 0)
		return;
	drop_sated(work, maglev, &n_slots, &weight);
	n_left_over = n_slots;
	for (uint32_t i = 0; i < work->population.n_walkers; i++) {
		struct lb_walker *walker = &work->population.walkers[i];
		uint64_t product = work->weights[i] * n_slots; // up to 2^36

		walker->due = (uint32_t)(product / weight) - maglev->nodes[walker->node].n_slots;
		// fits: weights add up to less than 2^32
		work->remainders[i] = (uint32_t)(product % weight);
		n_left_over -= product / weight;
	}
	if (n_left_over > 0)
		round_up_largest(work, n_left_over, weight);
}

/* Populate maglev->owners over the base nodes. */
static int build(struct lb_maglev *maglev)
{
	struct work work;
	int rc;

	for (uint32_t i = 0; i < maglev->n_slots; i++)
		maglev->owners[i] = (uint16_t)maglev->n_nodes;
	rc = work_init(&work, maglev, maglev->owners);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < maglev->n_nodes; i++)
		if (maglev->nodes[i].base && maglev->nodes[i].weight > 0)
			walker_add(&work, maglev, i, (uint16_t)i);
	work.population.n_free = work.population.n_walkers > 0 ? maglev->n_slots : 0;
	share_out(&work, maglev);
	for (uint32_t i = 0; i < work.population.n_walkers; i++) {
		struct lb_walker *walker = &work.walkers[i];

		maglev->nodes[walker->node].n_slots = walker->due;
		work.next[walker->node] = walker->pos; // where it stays if it is due nothing
	}
	rc = lb_population_run(&work.population);
	for (uint32_t i = 0; rc == 0 && i < maglev->n_nodes; i++)
		if (maglev->nodes[i].n_slots > 0)
			maglev->nodes[i].next = work.next[i];
	work_fini(&work);
	return rc;
}

int lb_maglev_create(uint32_t n_slots, const struct lb_maglev_node *nodes, uint32_t n_nodes,
	struct lb_maglev **out)
{
	struct lb_maglev *maglev;
	int rc;

	if (n_slots < LB_MAGLEV_MIN_SLOTS || n_slots > LB_MAGLEV_MAX_SLOTS ||
		!lb_maglev_is_prime(n_slots) || n_nodes > MAX_NODES)
		return -EINVAL;
	maglev = calloc(1, sizeof(*maglev));
	if (maglev == NULL)
		return -ENOMEM;
	maglev->n_slots = n_slots;
	maglev->n_nodes = n_nodes;
	maglev->nodes = calloc(n_nodes > 0 ? n_nodes : 1, sizeof(*maglev->nodes));
	maglev->owners = malloc(n_slots * sizeof(*maglev->owners));
	rc = maglev->nodes != NULL && maglev->owners != NULL ? 0 : -ENOMEM;
	if (rc == 0)
		rc = nodes_init(maglev, nodes, n_nodes);
	if (rc == 0)
		rc = build(maglev);
	if (rc < 0) {
		lb_maglev_destroy(maglev);
		return rc;
	}
	*out = maglev;
	return 0;
}

void lb_maglev_destroy(struct lb_maglev *maglev)
{
	if (maglev == NULL)
		return;
	free(maglev->nodes);
	free(maglev->owners);
	free(maglev);
}

/* Write the ids of the base table's nodes that are eligible; mark the slots of these as taken. */
static int copy_eligible(const struct lb_maglev *maglev, const bool *eligible, uint16_t *slots,
	struct lb_population *p)
{
	uint16_t *ids = malloc((maglev->n_nodes + 1) * sizeof(*ids)); // by node, and for none

	if (ids == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < maglev->n_nodes; i++)
		ids[i] = eligible[maglev->nodes[i].input_idx] ? maglev->nodes[i].id
							      : LB_MAGLEV_EMPTY;
	ids[maglev->n_nodes] = LB_MAGLEV_EMPTY;
	for (uint32_t i = 0; i < maglev->n_slots; i++) {
		uint64_t is_taken = ids[maglev->owners[i]] != LB_MAGLEV_EMPTY;

		slots[i] = ids[maglev->owners[i]];
		p->taken[i / 64] |= is_taken << i % 64;
		p->n_free += !is_taken;
	}
	free(ids);
	return 0;
}

int lb_maglev_fill(const struct lb_maglev *maglev, const bool *eligible, uint16_t *slots)
{
	struct work work;
	int rc;

	rc = work_init(&work, maglev, slots);
	if (rc < 0)
		return rc;
	rc = copy_eligible(maglev, eligible, slots, &work.population);
	if (rc < 0)
		goto out;
	for (uint32_t i = 0; i < maglev->n_nodes; i++)
		if (maglev->nodes[i].weight > 0 && eligible[maglev->nodes[i].input_idx])
			walker_add(&work, maglev, i, maglev->nodes[i].id);
	// with nobody to take them, the free slots stay LB_MAGLEV_EMPTY
	if (work.population.n_free > 0 && work.population.n_walkers > 0) {
		share_out(&work, maglev);
		rc = lb_population_run(&work.population);
	}
out:
	work_fini(&work);
	return rc;
}
