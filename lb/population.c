/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/population.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/*
 * Walkers of the same weight look in the same ticks: only the groups have clocks. A look then is a
 * dozen instructions without a division or a hard-to-predict branch, except at the claims
 * themselves.
 */
struct group {
	uint32_t first, n; /* walkers */
	uint32_t step;     /* looks per tick, in 1/LB_POPULATION_UNIT */
	uint32_t credit;   /* part of a look saved up */
};

/* Most free slots that are left to finish(): it must fit LB_MAGLEV_MAX_SLOTS, see
 * worth_finishing(). */
#define MAX_FINISH 512u

static void claim(struct lb_population *p, struct lb_walker *walker, uint32_t slot)
{
	p->taken[slot / 64] |= UINT64_C(1) << slot % 64;
	p->slots[slot] = walker->value;
	p->n_free--;
	walker->due--;
	if (walker->due == 0 && p->next != NULL) {
		uint32_t next = slot + walker->skip;

		p->next[walker->node] = next < p->n_slots ? next : next - p->n_slots;
	}
}

static void drop_done_walkers(struct lb_population *p, struct group *group)
{
	struct lb_walker *walkers = p->walkers + group->first;
	uint32_t n = 0;

	for (uint32_t i = 0; i < group->n; i++)
		if (walkers[i].due > 0)
			walkers[n++] = walkers[i];
	p->n_walkers -= group->n - n;
	group->n = n;
}

/* Every walker of @p group looks at one slot. */
static void look(struct lb_population *p, struct group *group)
{
	struct lb_walker *walker = p->walkers + group->first;
	struct lb_walker *end = walker + group->n;
	const uint64_t *taken = p->taken;
	uint32_t n_slots = p->n_slots;
	bool any_done = false;

	for (; walker < end; walker++) {
		uint32_t pos = walker->pos, next = pos + walker->skip;

		walker->pos = next < n_slots ? next : next - n_slots;
		if ((taken[pos / 64] >> pos % 64 & 1) == 0) {
			claim(p, walker, pos);
			any_done |= walker->due == 0;
		}
	}
	if (any_done)
		drop_done_walkers(p, group);
}

/*
 * Remove empty groups; then make ticks longer, so that no tick passes without a look: only the
 * ratios of the steps matter. By doubling, since then the moments of the looks stay the same.
 */
static unsigned tidy_groups(struct group *groups, unsigned n_groups)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_groups; i++)
		if (groups[i].n > 0)
			groups[n++] = groups[i];
	if (n == 1)
		groups[0].step = LB_POPULATION_UNIT;
	// the first has the greatest weight
	while (n > 0 && groups[0].step <= LB_POPULATION_UNIT / 2)
		for (unsigned i = 0; i < n; i++)
			groups[i].step *= 2;
	return n;
}

/* The inverse of @p a modulo the prime @p n, by Euclid's extended algorithm. */
static uint32_t inverse(uint32_t a, uint32_t n)
{
	uint32_t r0 = n, r1 = a;
	int64_t t0 = 0, t1 = 1;

	while (r1 > 1) {
		uint32_t quotient = r0 / r1, r2 = r0 % r1;
		int64_t t2 = t0 - (int64_t)quotient * t1;

		r0 = r1, r1 = r2;
		t0 = t1, t1 = t2;
	}
	return (uint32_t)(t1 < 0 ? t1 + n : t1);
}

/* Who comes to a slot first, and when: tick, then place in the order of walkers. */
struct arrival {
	uint64_t key; /* tick << 16 | walker */
	uint32_t slot;
};
#define WALKER_MASK 0xffffu

struct finish {
	struct lb_population *p;
	const struct group *groups;
	unsigned n_groups;
	uint32_t *inverses;  /* by walker */
	uint64_t reciprocal; /* 2^64 / n_slots, rounded down */
};

/* How many looks after the next @p walker comes to @p slot: (slot - pos) / skip, modulo n_slots. */
static uint32_t looks_until(const struct finish *f, uint32_t walker_idx, uint32_t slot)
{
	uint32_t n_slots = f->p->n_slots, pos = f->p->walkers[walker_idx].pos;
	uint32_t distance = slot >= pos ? slot - pos : slot + n_slots - pos;
	uint64_t product = (uint64_t)distance * f->inverses[walker_idx];
	uint64_t quotient = (uint64_t)((unsigned __int128)product * f->reciprocal >> 64);
	uint64_t rest = product - quotient * n_slots; // the quotient may be one too small

	return (uint32_t)(rest < n_slots ? rest : rest - n_slots);
}

static uint64_t first_arrival(const struct finish *f, uint32_t slot)
{
	uint64_t first = UINT64_MAX;

	for (unsigned g = 0; g < f->n_groups; g++) {
		const struct group *group = &f->groups[g];
		uint32_t fewest = UINT32_MAX, walker_idx = 0;
		uint64_t looks_done, tick;

		for (uint32_t i = group->first; i < group->first + group->n; i++) {
			uint32_t looks =
				f->p->walkers[i].due > 0 ? looks_until(f, i, slot) : UINT32_MAX;

			if (looks < fewest) {
				fewest = looks;
				walker_idx = i;
			}
		}
		if (fewest == UINT32_MAX)
			continue;
		// the tick in which the group's clock has gone on by so many looks
		looks_done = ((uint64_t)fewest + 1) * LB_POPULATION_UNIT - group->credit;
		tick = (looks_done + group->step - 1) / group->step;
		if ((tick << 16 | walker_idx) < first)
			first = tick << 16 | walker_idx;
	}
	return first;
}

/*
 * Nearly half of all looks would be for the last hundred slots. Instead of looking on, compute who
 * will come to each of them first; claim the earliest; whoever was to come to others but is done
 * with that one leaves them to the next. The result is the same.
 */
static void finish(const struct finish *f)
{
	struct lb_population *p = f->p;
	struct arrival arrivals[MAX_FINISH];
	uint32_t n = 0;

	for (uint32_t word = 0; n < p->n_free; word++)
		for (uint64_t bits = ~p->taken[word]; bits != 0 && n < p->n_free; bits &= bits - 1)
			arrivals[n++].slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
	for (unsigned g = 0; g < f->n_groups; g++)
		for (uint32_t i = f->groups[g].first; i < f->groups[g].first + f->groups[g].n; i++)
			f->inverses[i] = inverse(p->walkers[i].skip, p->n_slots);
	for (uint32_t i = 0; i < n; i++)
		arrivals[i].key = first_arrival(f, arrivals[i].slot);

	while (n > 0) {
		uint32_t earliest = 0, walker_idx;

		for (uint32_t i = 1; i < n; i++)
			if (arrivals[i].key < arrivals[earliest].key)
				earliest = i;
		walker_idx = arrivals[earliest].key & WALKER_MASK;
		claim(p, &p->walkers[walker_idx], arrivals[earliest].slot);
		arrivals[earliest] = arrivals[--n];
		if (p->walkers[walker_idx].due > 0)
			continue;
		for (uint32_t i = 0; i < n; i++)
			if ((arrivals[i].key & WALKER_MASK) == walker_idx)
				arrivals[i].key = first_arrival(f, arrivals[i].slot);
	}
}

/*
 * finish() takes some (slots x walkers) multiplications and slots^2 comparisons, looking on takes
 * at least n_slots looks. n_slots <= 655373 makes that at most 405 slots.
 */
static bool worth_finishing(const struct lb_population *p)
{
	return (uint64_t)p->n_free * (p->n_free + p->n_walkers) <= p->n_slots / 4 &&
	       p->n_free <= MAX_FINISH;
}

static unsigned make_groups(struct lb_population *p, struct group *groups)
{
	uint32_t n_walkers = p->n_walkers;
	unsigned n = 0;

	for (uint32_t i = 0; i < n_walkers; i++) {
		assert(i == 0 || p->weights[i] <= p->weights[i - 1]);
		if (i == 0 || p->weights[i] != p->weights[i - 1])
			groups[n++] = (struct group){.first = i, .step = p->weights[i]};
		groups[n - 1].n++;
	}
	for (unsigned i = 0; i < n; i++)
		drop_done_walkers(p, &groups[i]);
	return tidy_groups(groups, n);
}

int lb_population_run(struct lb_population *p)
{
	uint32_t n_all = p->n_walkers;
	struct group *groups = malloc(n_all * sizeof(*groups) + 1);
	uint32_t *inverses = malloc(n_all * sizeof(*inverses) + 1);
	unsigned n_groups;
	int rc = -ENOMEM;

	if (groups == NULL || inverses == NULL)
		goto out;
	n_groups = make_groups(p, groups);
	while (!worth_finishing(p)) {
		bool any_empty = false;

		for (unsigned i = 0; i < n_groups; i++) {
			groups[i].credit += groups[i].step;
			if (groups[i].credit < LB_POPULATION_UNIT)
				continue;
			groups[i].credit -= LB_POPULATION_UNIT;
			look(p, &groups[i]);
			any_empty |= groups[i].n == 0;
		}
		if (any_empty)
			n_groups = tidy_groups(groups, n_groups);
	}
	finish(&(struct finish){p, groups, n_groups, inverses, UINT64_MAX / p->n_slots});
	rc = 0;
out:
	free(groups);
	free(inverses);
	return rc;
}
