/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/shares.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lb/smooth.h"

#define N_IDS (LB_MAX_BACKENDS + 1u)
#define MAX_PROBES 64u /* places looked at for a slot's new owner; then the last one's */

enum purpose { OF_RAMP, OF_SHARE, OF_PLACE };

/* A fixed random number below @p n for try @p k at @p slot. */
static uint32_t draw(enum purpose purpose, uint32_t slot, uint32_t k, uint32_t n)
{
	uint64_t x = (uint64_t)slot << 32 | (uint64_t)purpose << 16 | k;

	x += UINT64_C(0x9e3779b97f4a7c15); // splitmix64
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	return (uint32_t)((x >> 32) * n >> 32);
}

static uint8_t max_ramp(const struct lb_share *shares, size_t n)
{
	uint8_t max = 0;

	for (size_t i = 0; i < n; i++)
		max = shares[i].ramp > max ? shares[i].ramp : max;
	return max;
}

static uint8_t max_share(const struct lb_share *shares, size_t n)
{
	uint8_t max = 0;

	for (size_t i = 0; i < n; i++)
		max = shares[i].share > max ? shares[i].share : max;
	return max;
}

bool lb_shares_any_ramp(const struct lb_share *shares, size_t n)
{
	uint8_t max = max_ramp(shares, n);

	for (size_t i = 0; i < n; i++)
		if (shares[i].ramp < max)
			return true;
	return false;
}

bool lb_shares_any_share(const struct lb_share *shares, size_t n)
{
	uint8_t max = max_share(shares, n);

	for (size_t i = 0; i < n; i++)
		if (shares[i].share < max)
			return true;
	return false;
}

void lb_shares_apply_ramp(const struct lb_share *shares, size_t n, const uint16_t *without,
	uint32_t n_slots, uint16_t *slots)
{
	uint8_t max = max_ramp(shares, n);

	for (size_t i = 0; i < n; i++) {
		if (shares[i].ramp == max)
			continue;
		for (uint32_t slot = 0; slot < n_slots; slot++)
			if (slots[slot] == shares[i].id && draw(OF_RAMP, slot, 0, max) >= shares[i].ramp)
				slots[slot] = without[slot];
	}
}

/* Who has @p slot, whose owner does not want it: drawn by slots and shares. */
static uint16_t new_owner(
	const uint16_t *owners, const uint8_t *share_of, uint8_t max, uint32_t slot, uint32_t n_slots)
{
	uint16_t owner = owners[slot];

	for (uint32_t k = 1; k <= MAX_PROBES; k++) {
		owner = owners[draw(OF_PLACE, slot, k, n_slots)];
		if (draw(OF_SHARE, slot, k, max) < share_of[owner])
			break;
	}
	return owner;
}

int lb_shares_apply_share(const struct lb_share *shares, size_t n, uint32_t n_slots, uint16_t *slots)
{
	uint16_t *owners = malloc(n_slots * sizeof(*owners));
	uint8_t *share_of = calloc(N_IDS, sizeof(*share_of));
	uint8_t max = max_share(shares, n);
	int rc = -ENOMEM;

	if (owners == NULL || share_of == NULL)
		goto out;
	memcpy(owners, slots, n_slots * sizeof(*owners));
	for (size_t i = 0; i < n; i++)
		share_of[shares[i].id] = shares[i].share;
	for (uint32_t slot = 0; slot < n_slots; slot++)
		if (draw(OF_SHARE, slot, 0, max) >= share_of[owners[slot]])
			slots[slot] = new_owner(owners, share_of, max, slot, n_slots);
	rc = 0;
out:
	free(owners);
	free(share_of);
	return rc;
}

/* Pick tables. */

static uint32_t gcd(uint32_t a, uint32_t b)
{
	while (b != 0) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* Effective weights, reduced; NULL without memory. At most 256 x 100. */
static uint32_t *weights_of(const struct lb_share *shares, size_t n)
{
	uint32_t *weights = malloc((n + 1) * sizeof(*weights));
	uint32_t divisor = 0;

	if (weights == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		weights[i] = (uint32_t)shares[i].weight * shares[i].ramp * shares[i].share / 100;
		if (weights[i] == 0)
			weights[i] = 1;
		divisor = gcd(weights[i], divisor);
	}
	for (size_t i = 0; i < n; i++)
		weights[i] /= divisor;
	return weights;
}

static bool has_sequence(const struct lb_pick_spec *spec)
{
	return spec->scheduler == LB_SCHED_RR || spec->scheduler == LB_SCHED_WRR ||
	       spec->scheduler == LB_SCHED_P2C;
}

void lb_shares_size_pick(const struct lb_share *shares, size_t n, struct lb_pick_spec *spec)
{
	uint32_t *weights;

	spec->n_members = spec->n_sequence = 0;
	if (lb_pick_is_hash(spec->scheduler) && spec->max_load_percent == 0)
		return;
	spec->n_members = (uint32_t)n;
	if (!has_sequence(spec) || n == 0)
		return;
	weights = weights_of(shares, n);
	if (weights != NULL)
		spec->n_sequence = lb_smooth_length(weights, (uint32_t)n);
	free(weights);
	if (spec->n_sequence == 0)
		abort(); // as in lb_xcalloc()
}

struct by_id {
	uint16_t id, place;
};

static int compare_ids(const void *a, const void *b)
{
	const struct by_id *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

int lb_shares_fill_pick(const struct lb_share *shares, size_t n, const struct lb_pick_spec *spec,
	uint16_t *words)
{
	uint16_t *sequence = words + 2 * (size_t)spec->n_members;
	uint32_t *weights;
	uint16_t *rank;
	struct by_id *order;
	int rc = 0;

	if (spec->n_members == 0)
		return 0;
	weights = weights_of(shares, n);
	rank = malloc(n * sizeof(*rank));
	order = malloc(n * sizeof(*order));
	if (weights == NULL || rank == NULL || order == NULL) {
		rc = -ENOMEM;
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		order[i] = (struct by_id){shares[i].id, (uint16_t)i};
	qsort(order, n, sizeof(*order), compare_ids);
	for (size_t i = 0; i < n; i++) {
		words[2 * i] = order[i].id;
		words[2 * i + 1] = (uint16_t)weights[order[i].place];
		rank[order[i].place] = (uint16_t)i;
	}
	if (spec->n_sequence != 0)
		rc = lb_smooth_fill(weights, (uint32_t)n, sequence);
	for (uint32_t i = 0; i < spec->n_sequence && rc == 0; i++)
		sequence[i] = rank[sequence[i]];
out:
	free(weights);
	free(rank);
	free(order);
	return rc;
}
