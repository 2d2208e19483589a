/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/slots.h"

#include <assert.h>

#define SLOTS_MAGIC UINT64_C(0x73746f6c736c7546) /* "Fulslots" */

uint64_t lb_slots_bytes(uint32_t n_slots)
{
	return sizeof(struct lb_slot_table) + (uint64_t)n_slots * sizeof(struct lb_slot);
}

/* The slot of a table of @p n_old in which the middle of slot @p i's hashes lies, of a table of @p
 * n_new. */
static uint32_t predecessor(uint32_t i, uint32_t n_new, uint32_t n_old)
{
	if (n_new == n_old)
		return i;
	// lb_hash_slot() divides the hashes evenly: slot i is [i, i + 1) / n
	return (uint32_t)((2 * (uint64_t)i + 1) * n_old / (2 * (uint64_t)n_new));
}

static struct lb_slot succeed(
	const struct lb_slot *before, uint32_t old_transition_s, uint16_t backend, uint32_t now_s)
{
	struct lb_slot slot = *before;

	if (!lb_slot_in_transition(before, old_transition_s, now_s)) {
		slot.origin = before->backend;
		slot.changed_s = 0;
	}
	if (backend == before->backend)
		return slot;
	// Nobody had it, and before that nobody who is still known: no flow is older than this, and the
	// slot is as if it had had this backend always.
	if (before->backend == LB_SLOT_NONE && slot.origin == LB_SLOT_NONE)
		return (struct lb_slot){.backend = backend, .origin = backend};
	slot.backend = backend;
	slot.changed_s = now_s + 1;
	return slot;
}

uint32_t lb_slots_adopt(struct lb_slot_table *table, const struct lb_slot_table *old,
	const uint16_t *backends, uint32_t n_slots, uint32_t version, uint32_t transition_s,
	uint32_t now_s)
{
	uint32_t n_changed = 0;

	assert(table != old && n_slots > 0);
	table->magic = 0;
	table->n_slots = n_slots;
	table->version = version;
	table->transition_s = transition_s;
	table->changed_s = old != NULL ? old->changed_s : 0;
	for (uint32_t i = 0; i < n_slots; i++) {
		struct lb_slot first = {.backend = backends[i], .origin = backends[i]};
		const struct lb_slot *before = &first;

		if (old != NULL)
			before = &old->slots[predecessor(i, n_slots, old->n_slots)];
		table->slots[i] =
			succeed(before, old != NULL ? old->transition_s : 0, backends[i], now_s);
		n_changed += before->backend != backends[i];
	}
	if (n_changed != 0)
		table->changed_s = now_s + 1;
	// A process killed before this leaves no table; pairs with the check in lb_slots_valid() of
	// the next one
	__atomic_store_n(&table->magic, SLOTS_MAGIC, __ATOMIC_RELEASE);
	return n_changed;
}

bool lb_slots_valid(const struct lb_slot_table *table, uint64_t size_bytes, uint32_t now_s)
{
	if (size_bytes < sizeof(*table) || table->magic != SLOTS_MAGIC || table->n_slots == 0 ||
		table->n_slots > LB_MAGLEV_MAX_SLOTS ||
		size_bytes < lb_slots_bytes(table->n_slots) ||
		table->transition_s > lb_slots_transition_s(LB_IDLE_TIMEOUT_MAX_MS))
		return false;
	if (table->changed_s > now_s + 1)
		return false;
	for (uint32_t i = 0; i < table->n_slots; i++)
		if (table->slots[i].changed_s > table->changed_s)
			return false;
	return true;
}

uint32_t lb_slots_forget(struct lb_slot_table *table, uint16_t backend)
{
	uint32_t n_forgotten = 0;

	for (uint32_t i = 0; i < table->n_slots; i++) {
		if (table->slots[i].origin != backend)
			continue;
		__atomic_store_n(&table->slots[i].origin, LB_SLOT_NONE, __ATOMIC_RELAXED);
		n_forgotten++;
	}
	return n_forgotten;
}
