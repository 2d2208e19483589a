/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/smooth.h"

#include <errno.h>
#include <stdlib.h>

/* Looks at groups that a sequence may cost: some 20 ms. */
#define MAX_LOOKS (UINT32_C(1) << 24)

/*
 * Members of the same weight take turns in their order: only the one whose turn it is can have the
 * most credit of them. So a step looks at one member per weight, not at all.
 */
struct group {
	uint32_t weight;
	uint32_t first, n; /* in the sorted members */
	uint32_t turn;     /* 0..n-1 */
	uint64_t n_rounds; /* how often the one whose turn it is has been next */
};

struct sorted {
	uint32_t weight, member;
};

static uint32_t gcd(uint32_t a, uint32_t b)
{
	while (b != 0) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static int compare(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;

	if (x->weight != y->weight)
		return x->weight > y->weight ? -1 : 1;
	return x->member < y->member ? -1 : x->member > y->member;
}

static uint64_t sum_of(const struct sorted *sorted, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += sorted[i].weight;
	return sum;
}

static uint32_t count_weights(const struct sorted *sorted, uint32_t n)
{
	uint32_t n_weights = 0;

	for (uint32_t i = 0; i < n; i++)
		n_weights += i == 0 || sorted[i].weight != sorted[i - 1].weight;
	return n_weights;
}

/* Sort by weight; reduce the weights by their common divisor, or scale them to what can be done. */
static struct sorted *reduce(const uint32_t *weights, uint32_t n)
{
	struct sorted *sorted = malloc(n * sizeof(*sorted));
	uint32_t divisor = 0;
	uint64_t sum, max;

	if (sorted == NULL)
		return NULL;
	for (uint32_t i = 0; i < n; i++) {
		sorted[i] = (struct sorted){weights[i], i};
		divisor = gcd(weights[i], divisor);
	}
	qsort(sorted, n, sizeof(*sorted), compare);
	for (uint32_t i = 0; i < n; i++)
		sorted[i].weight /= divisor;
	sum = sum_of(sorted, n);
	max = MAX_LOOKS / count_weights(sorted, n);
	max = max > LB_SMOOTH_MAX ? LB_SMOOTH_MAX : max;
	// n are kept for those that are rounded up to 1
	max = max < 2 * (uint64_t)n ? 2 * (uint64_t)n : max;
	max = max > LB_SMOOTH_MAX ? LB_SMOOTH_MAX : max;
	for (uint32_t i = 0; i < n && sum > max; i++) {
		uint64_t scaled = sorted[i].weight * (max - n) / sum;

		sorted[i].weight = scaled > 0 ? (uint32_t)scaled : 1;
	}
	return sorted;
}

uint32_t lb_smooth_length(const uint32_t *weights, uint32_t n)
{
	struct sorted *sorted;
	uint64_t length;

	if (n == 0)
		return 0;
	sorted = reduce(weights, n);
	if (sorted == NULL)
		return 0;
	length = sum_of(sorted, n);
	free(sorted);
	return (uint32_t)length;
}

static uint32_t make_groups(const struct sorted *sorted, uint32_t n, struct group *groups)
{
	uint32_t n_groups = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (i == 0 || sorted[i].weight != sorted[i - 1].weight)
			groups[n_groups++] = (struct group){.weight = sorted[i].weight, .first = i};
		groups[n_groups - 1].n++;
	}
	return n_groups;
}

/* Who is next at @p step (from 1): credit = step x weight - rounds x sum. */
static struct group *next_group(struct group *groups, uint32_t n_groups, const struct sorted *sorted,
	uint64_t step, uint64_t sum)
{
	struct group *best = NULL;
	int64_t most = 0;

	for (uint32_t i = 0; i < n_groups; i++) {
		struct group *group = &groups[i];
		int64_t credit = (int64_t)(step * group->weight) - (int64_t)(group->n_rounds * sum);

		if (best == NULL || credit > most ||
			(credit == most && sorted[group->first + group->turn].member <
						   sorted[best->first + best->turn].member)) {
			best = group;
			most = credit;
		}
	}
	return best;
}

int lb_smooth_fill(const uint32_t *weights, uint32_t n, uint16_t *sequence)
{
	struct sorted *sorted = n > 0 ? reduce(weights, n) : NULL;
	struct group *groups = malloc((n + UINT64_C(1)) * sizeof(*groups));
	uint32_t n_groups;
	uint64_t sum;

	if (groups == NULL || (n > 0 && sorted == NULL)) {
		free(groups);
		free(sorted);
		return -ENOMEM;
	}
	n_groups = n > 0 ? make_groups(sorted, n, groups) : 0;
	sum = n > 0 ? sum_of(sorted, n) : 0;
	for (uint64_t step = 1; step <= sum; step++) {
		struct group *group = next_group(groups, n_groups, sorted, step, sum);

		sequence[step - 1] = (uint16_t)sorted[group->first + group->turn].member;
		if (++group->turn == group->n) {
			group->turn = 0;
			group->n_rounds++;
		}
	}
	free(groups);
	free(sorted);
	return 0;
}
