/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/hashring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lb/hash.h"

#define SEED_POINT 4 /* of lb_hash_bytes(); maglev.c has those before */
#define NOBODY UINT32_MAX

/*
 * The ring is never sorted: of all points between the places of two slots only the first one matters,
 * so it is enough to keep that one per slot.
 */
struct point {
	uint64_t place;
	uint32_t node; /* NOBODY: no point here */
};

static uint64_t mix(uint64_t x) /* splitmix64 */
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static uint64_t sum_of_weights(const struct lb_maglev_node *nodes, uint32_t n_nodes)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n_nodes; i++)
		sum += nodes[i].weight;
	return sum;
}

static uint64_t n_points(uint32_t weight, uint64_t sum)
{
	uint64_t n;

	if (weight == 0 || sum * LB_HASHRING_POINTS <= LB_HASHRING_MAX_POINTS)
		return (uint64_t)weight * LB_HASHRING_POINTS;
	n = (uint64_t)weight * LB_HASHRING_MAX_POINTS / sum;
	return n > 0 ? n : 1;
}

/* Put the points of node @p idx onto the ring. */
static void add_node(struct point *ring, uint32_t n_slots, const struct lb_maglev_node *nodes,
	uint32_t idx, uint64_t sum)
{
	const char *name = nodes[idx].name;
	uint64_t seed = lb_hash_bytes(name, strlen(name), SEED_POINT);
	uint64_t n = n_points(nodes[idx].weight, sum);

	for (uint64_t i = 0; i < n; i++) {
		uint64_t place = mix(seed ^ mix(i));
		struct point *point = &ring[(uint32_t)(((unsigned __int128)place * n_slots) >> 64)];

		if (point->node == NOBODY || place < point->place ||
			(place == point->place && strcmp(name, nodes[point->node].name) < 0))
			*point = (struct point){place, idx};
	}
}

/* Let every slot without a point have the next one's. */
static void close_ring(struct point *ring, uint32_t n_slots)
{
	struct point next = {.node = NOBODY};

	for (uint32_t i = 0; i < n_slots && next.node == NOBODY; i++)
		next = ring[i];
	for (uint32_t i = n_slots; i-- > 0;) {
		if (ring[i].node != NOBODY)
			next = ring[i];
		ring[i] = next;
	}
}

static void clear(struct point *ring, uint32_t n_slots)
{
	for (uint32_t i = 0; i < n_slots; i++)
		ring[i].node = NOBODY;
}

int lb_hashring_fill(uint32_t n_slots, const struct lb_maglev_node *nodes, uint32_t n_nodes,
	const bool *eligible, uint16_t *slots)
{
	uint64_t sum = sum_of_weights(nodes, n_nodes);
	bool any_left = false;
	struct point *ring;

	if (n_slots == 0 || n_slots > LB_MAGLEV_MAX_SLOTS)
		return -EINVAL;
	ring = malloc(n_slots * sizeof(*ring));
	if (ring == NULL)
		return -ENOMEM;
	clear(ring, n_slots);
	for (uint32_t i = 0; i < n_nodes; i++)
		if (nodes[i].base)
			add_node(ring, n_slots, nodes, i, sum);
	close_ring(ring, n_slots);
	for (uint32_t i = 0; i < n_slots; i++) {
		bool is_there = ring[i].node != NOBODY && eligible[ring[i].node];

		slots[i] = is_there ? nodes[ring[i].node].id : LB_MAGLEV_EMPTY;
		any_left |= !is_there;
	}
	if (any_left) {
		clear(ring, n_slots);
		for (uint32_t i = 0; i < n_nodes; i++)
			if (eligible[i])
				add_node(ring, n_slots, nodes, i, sum);
		close_ring(ring, n_slots);
		for (uint32_t i = 0; i < n_slots; i++)
			if (slots[i] == LB_MAGLEV_EMPTY && ring[i].node != NOBODY)
				slots[i] = nodes[ring[i].node].id;
	}
	free(ring);
	return 0;
}
