/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/pick.h"

#include <string.h>

#include "lb/smooth.h"

static_assert(LB_PICK_MAX_SEQUENCE == LB_SMOOTH_MAX, "every sequence can be published");

#define NOBODY UINT32_MAX
#define MAX_SKIPS 16u /* members of a sequence that are passed over because they are not up */

bool lb_pick_spec_valid(const struct lb_pick_spec *spec)
{
	bool has_sequence = spec->scheduler == LB_SCHED_RR || spec->scheduler == LB_SCHED_WRR ||
			    spec->scheduler == LB_SCHED_P2C;

	if (spec->scheduler >= LB_SCHED_N || spec->n_members > LB_MAX_BACKENDS ||
		spec->n_sequence > LB_PICK_MAX_SEQUENCE)
		return false;
	if ((spec->n_sequence != 0) != (has_sequence && spec->n_members != 0))
		return false;
	if (spec->max_load_percent == 0)
		return spec->n_members == 0 || !lb_pick_is_hash(spec->scheduler);
	return lb_pick_is_hash(spec->scheduler) && spec->max_load_percent >= LB_PICK_MAX_LOAD_MIN &&
	       spec->max_load_percent <= LB_PICK_MAX_LOAD_MAX;
}

static uint64_t align(uint64_t bytes)
{
	return (bytes + 63) & ~UINT64_C(63);
}

/* Counts are kept only where counting all of them each time would take too long. */
static uint64_t counts_bytes(const struct lb_pick_spec *spec)
{
	return spec->max_load_percent != 0 && spec->n_members > LB_PICK_SCAN
		       ? align(spec->n_members * sizeof(uint32_t))
		       : 0;
}

uint64_t lb_pick_bytes(const struct lb_pick_spec *spec, uint32_t n_workers)
{
	return align(sizeof(struct lb_pick)) + align(lb_pick_words(spec) * sizeof(uint16_t)) +
	       n_workers * (sizeof(struct lb_pick_state) + counts_bytes(spec));
}

static bool words_valid(const struct lb_pick *pick)
{
	for (uint32_t i = 0; i < pick->spec.n_members; i++)
		if (pick->members[i].weight == 0 || pick->members[i].backend == LB_BACKEND_NONE ||
			(i > 0 && pick->members[i].backend <= pick->members[i - 1].backend))
			return false;
	for (uint32_t i = 0; i < pick->spec.n_sequence; i++)
		if (pick->sequence[i] >= pick->spec.n_members)
			return false;
	return true;
}

/* How many places a rotation has. */
static uint32_t n_places(const struct lb_pick_spec *spec)
{
	return spec->n_sequence != 0 ? spec->n_sequence : spec->n_members;
}

static void init_state(struct lb_pick *pick, uint32_t worker, const struct lb_pick *before)
{
	struct lb_pick_state *state = &pick->states[worker];
	uint32_t n = n_places(&pick->spec), position;

	state->random = UINT64_C(0x9e3779b97f4a7c15) * (worker + 1);
	if (n == 0)
		return;
	// workers begin in different places, or each would give its first flow to the same backend
	position = (uint32_t)((uint64_t)worker * n / pick->n_workers);
	if (before != NULL && worker < before->n_workers && n_places(&before->spec) != 0)
		position = atomic_load_explicit(
				   &before->states[worker].position, memory_order_relaxed) %
			   n;
	atomic_store_explicit(&state->position, position, memory_order_relaxed);
}

struct lb_pick *lb_pick_init(void *mem, const struct lb_pick_spec *spec, const uint16_t *words,
	uint32_t n_workers, const struct lb_pick *before)
{
	struct lb_pick *pick = mem;
	uint8_t *at = (uint8_t *)mem + align(sizeof(*pick));

	pick->spec = *spec;
	pick->n_workers = n_workers;
	if (lb_pick_words(spec) != 0)
		memcpy(at, words, lb_pick_words(spec) * sizeof(uint16_t));
	pick->members = (const struct lb_pick_member *)at;
	pick->sequence = (const uint16_t *)(pick->members + spec->n_members);
	if (!words_valid(pick))
		return NULL;
	for (uint32_t i = 0; i < spec->n_members; i++)
		pick->weight_sum += pick->members[i].weight;
	at += align(lb_pick_words(spec) * sizeof(uint16_t));
	pick->states = (struct lb_pick_state *)at;
	at += n_workers * sizeof(*pick->states);
	for (uint32_t i = 0; i < n_workers; i++) {
		init_state(pick, i, before);
		if (counts_bytes(spec) != 0)
			pick->states[i].counts = (uint32_t *)(at + i * counts_bytes(spec));
	}
	return pick;
}

/* Active flows of a member. The counter lies in shared memory: it may say anything. */
static uint64_t load_of(const struct lb_pick_member *member, const int64_t *active, size_t stride)
{
	int64_t n = *(const int64_t *)((const uint8_t *)active + member->backend * stride);

	return n < 0 ? 0 : n > UINT32_MAX ? UINT32_MAX : (uint64_t)n;
}

static void prefetch(const struct lb_pick_member *member, const struct lb_pick_view *view)
{
	__builtin_prefetch((const uint8_t *)view->active + member->backend * view->active_stride);
}

static bool is_up(const struct lb_pick_member *member, const struct lb_pick_view *view)
{
	return view->backend_state[member->backend] == LB_BACKEND_UP;
}

/* rr, wrr: the next of the sequence. */
static uint32_t next_in_sequence(
	const struct lb_pick *pick, struct lb_pick_state *state, const struct lb_pick_view *view, bool commit)
{
	uint32_t position = atomic_load_explicit(&state->position, memory_order_relaxed);
	uint32_t found = NOBODY;

	for (unsigned skips = 0; skips < MAX_SKIPS && found == NOBODY; skips++) {
		uint32_t idx = pick->sequence[position];

		if (is_up(&pick->members[idx], view))
			found = idx;
		position = position + 1 < pick->spec.n_sequence ? position + 1 : 0;
	}
	if (commit)
		atomic_store_explicit(&state->position, position, memory_order_relaxed);
	return found;
}

/* Whether a flow more makes @p a less loaded by weight than @p b: (loads + 1) / weights compared. */
static bool is_lesser(uint64_t load_a, uint32_t weight_a, uint64_t load_b, uint32_t weight_b)
{
	return (load_a + 1) * weight_b < (load_b + 1) * weight_a;
}

/*
 * lc, wlc: the least loaded. Up to LB_PICK_SCAN members all are looked at, beginning after the one
 * that was chosen last, so that equals take turns; of more, so many in turn.
 */
static uint32_t least_loaded(
	const struct lb_pick *pick, struct lb_pick_state *state, const struct lb_pick_view *view, bool commit)
{
	uint32_t n_members = pick->spec.n_members, n = n_members < LB_PICK_SCAN ? n_members : LB_PICK_SCAN;
	uint32_t first = atomic_load_explicit(&state->position, memory_order_relaxed);
	uint32_t best = NOBODY, idx = first, position;
	uint64_t least = 0;

	for (uint32_t k = 0; k < n; k++, idx = idx + 1 < n_members ? idx + 1 : 0)
		prefetch(&pick->members[idx], view);
	idx = first;
	for (uint32_t k = 0; k < n; k++, idx = idx + 1 < n_members ? idx + 1 : 0) {
		const struct lb_pick_member *member = &pick->members[idx];
		uint64_t load = load_of(member, view->active, view->active_stride);

		if (!is_up(member, view))
			continue;
		if (best == NOBODY ||
			is_lesser(load, member->weight, least, pick->members[best].weight)) {
			best = idx;
			least = load;
		}
	}
	position = n_members > n || best == NOBODY ? idx : best + 1 < n_members ? best + 1 : 0;
	if (commit)
		atomic_store_explicit(&state->position, position, memory_order_relaxed);
	return best;
}

static uint64_t next_random(struct lb_pick_state *state, bool commit)
{
	uint64_t x = state->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	if (commit)
		state->random = x;
	return x;
}

/* p2c: two different ones, each drawn by weight; the one less loaded by weight. */
static uint32_t lesser_of_two(
	const struct lb_pick *pick, struct lb_pick_state *state, const struct lb_pick_view *view, bool commit)
{
	uint64_t random = next_random(state, commit);
	uint32_t n = pick->spec.n_sequence;
	uint32_t a = pick->sequence[(random >> 32) * n >> 32];
	uint32_t b = pick->sequence[(random & UINT32_MAX) * n >> 32];
	const struct lb_pick_member *one, *other;

	if (a == b)
		b = a + 1 < pick->spec.n_members ? a + 1 : 0;
	one = &pick->members[a];
	other = &pick->members[b];
	if (!is_up(one, view) || !is_up(other, view))
		return is_up(one, view) ? a : is_up(other, view) ? b : NOBODY;
	return is_lesser(load_of(other, view->active, view->active_stride), other->weight,
		       load_of(one, view->active, view->active_stride), one->weight)
		       ? b
		       : a;
}

/* Bounded loads. */

static uint64_t count_all(const struct lb_pick *pick, const int64_t *active, size_t stride)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < pick->spec.n_members; i++)
		total += load_of(&pick->members[i], active, stride);
	return total;
}

static void recount(struct lb_pick *pick, struct lb_pick_state *state, uint32_t n,
	const int64_t *active, size_t stride)
{
	for (uint32_t k = 0; k < n; k++) {
		uint32_t i = state->recount;
		uint32_t count = (uint32_t)load_of(&pick->members[i], active, stride);

		state->total += count;
		state->total -= state->counts[i];
		state->counts[i] = count;
		state->recount = i + 1 < pick->spec.n_members ? i + 1 : 0;
	}
}

void lb_pick_count(struct lb_pick *pick, uint32_t worker, const int64_t *active, size_t active_stride)
{
	if (pick->states[worker].counts != NULL)
		recount(pick, &pick->states[worker], pick->spec.n_members, active, active_stride);
}

/* Flows of all members, exact up to LB_PICK_SCAN of them. */
static uint64_t total_of(const struct lb_pick *pick, struct lb_pick_state *state,
	const struct lb_pick_view *view, bool commit)
{
	if (state->counts == NULL)
		return count_all(pick, view->active, view->active_stride);
	if (commit)
		recount((struct lb_pick *)(uintptr_t)pick, state, LB_PICK_SCAN, view->active,
			view->active_stride);
	return state->total;
}

/*
 * Whether a flow more keeps @p member within max_load x its share by weight of @p total, rounded up.
 * There is always one: if none had room, their flows would add up to max_load x total.
 */
static bool has_room(const struct lb_pick *pick, const struct lb_pick_member *member, uint64_t total,
	const struct lb_pick_view *view)
{
	uint64_t load = load_of(member, view->active, view->active_stride);

	if (!is_up(member, view))
		return false;
	return load == 0 || (unsigned __int128)load * (100 * pick->weight_sum) <
				    (unsigned __int128)total * ((uint64_t)pick->spec.max_load_percent *
								       member->weight);
}

static uint32_t find_member(const struct lb_pick *pick, uint16_t backend)
{
	uint32_t low = 0, high = pick->spec.n_members;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (pick->members[middle].backend < backend)
			low = middle + 1;
		else
			high = middle;
	}
	return low < pick->spec.n_members && pick->members[low].backend == backend ? low : NOBODY;
}

static uint64_t mix(uint64_t x) /* splitmix64 */
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* Place @p k of the order of @p slot: itself, then others that depend on nothing but it. */
static uint32_t probe(uint32_t slot, uint32_t k, uint32_t n_slots)
{
	return k == 0 ? slot : (uint32_t)((mix((uint64_t)slot << 32 | k) >> 32) * n_slots >> 32);
}

/* max_load: the first in the slot's order that has room. */
static uint32_t first_with_room(
	const struct lb_pick *pick, struct lb_pick_state *state, const struct lb_pick_view *view, bool commit)
{
	const struct lb_slot_table *table = view->table;
	uint64_t total = total_of(pick, state, view, commit);
	uint32_t n = pick->spec.n_members, idx;

	for (uint32_t k = 0; k <= LB_PICK_PROBES; k++) {
		idx = find_member(
			pick, table->slots[probe(view->slot, k, table->n_slots)].backend);
		if (idx != NOBODY && has_room(pick, &pick->members[idx], total, view))
			return idx;
	}
	idx = (uint32_t)((mix(view->slot) >> 32) * n >> 32);
	for (uint32_t k = 0; k < n; k++, idx = idx + 1 < n ? idx + 1 : 0)
		if (has_room(pick, &pick->members[idx], total, view))
			return idx;
	return NOBODY; // counts of long ago, or nobody is up
}

uint16_t lb_pick_choose(const struct lb_pick *pick, uint32_t worker, const struct lb_pick_view *view,
	bool commit)
{
	struct lb_pick_state *state = &pick->states[worker];
	uint32_t idx = NOBODY;

	if (pick->spec.n_members == 0)
		return LB_BACKEND_NONE;
	switch ((enum lb_scheduler)pick->spec.scheduler) {
	case LB_SCHED_RR:
	case LB_SCHED_WRR:
		idx = next_in_sequence(pick, state, view, commit);
		break;
	case LB_SCHED_LC:
	case LB_SCHED_WLC:
		idx = least_loaded(pick, state, view, commit);
		break;
	case LB_SCHED_P2C:
		idx = lesser_of_two(pick, state, view, commit);
		break;
	default:
		idx = first_with_room(pick, state, view, commit);
	}
	return idx != NOBODY ? pick->members[idx].backend : LB_BACKEND_NONE;
}

uint64_t lb_pick_source_hash(const struct lb_hash_key *key, const struct lb_flow_key *flow)
{
	struct lb_flow_key client = {.src = flow->src};
	uint64_t hash;

	lb_hash_flows(key, &client, &hash, 1);
	return hash;
}
