/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/ports.h"

#include <assert.h>
#include <string.h>

#define WORD_BITS 64u

static_assert(LB_PORTS_ALL / WORD_BITS <= 16 * WORD_BITS, "the summary has a bit for each word");
static_assert(LB_PORTS_FIRST % 64 == 0, "a port's low bits name its owner");

static uint32_t n_words(uint32_t n_ports)
{
	return (n_ports + WORD_BITS - 1) / WORD_BITS;
}

uint64_t lb_ports_bytes(uint32_t n_shares)
{
	uint64_t bytes = sizeof(struct lb_ports) + n_words(LB_PORTS_ALL / n_shares) * sizeof(uint64_t);

	return (bytes + 63) & ~UINT64_C(63);
}

static inline void set_free(struct lb_ports *ports, uint32_t idx)
{
	uint32_t word = idx / WORD_BITS;

	ports->free[word] |= UINT64_C(1) << (idx % WORD_BITS);
	ports->summary[word / WORD_BITS] |= UINT64_C(1) << (word % WORD_BITS);
}

static inline void set_used(struct lb_ports *ports, uint32_t idx)
{
	uint32_t word = idx / WORD_BITS;

	ports->free[word] &= ~(UINT64_C(1) << (idx % WORD_BITS));
	if (ports->free[word] == 0)
		ports->summary[word / WORD_BITS] &= ~(UINT64_C(1) << (word % WORD_BITS));
}

void lb_ports_init(struct lb_ports *ports, uint32_t n_shares, uint32_t seed)
{
	memset(ports, 0, lb_ports_bytes(n_shares));
	ports->n_ports = LB_PORTS_ALL / n_shares;
	ports->cursor = seed % ports->n_ports;
	for (uint32_t i = 0; i < ports->n_ports; i++)
		set_free(ports, i);
}

// First bit that is set in `bits` at or after `from`; -1: none.
static inline int first_from(uint64_t bits, unsigned from)
{
	if (from >= WORD_BITS)
		return -1;
	bits &= ~UINT64_C(0) << from;
	return bits != 0 ? __builtin_ctzll(bits) : -1;
}

// The first free index at or after `from`, without going round; LB_PORTS_NONE.
static uint32_t find_from(const struct lb_ports *ports, uint32_t from)
{
	uint32_t word = from / WORD_BITS;
	int bit = first_from(ports->free[word], from % WORD_BITS);

	if (bit >= 0)
		return word * WORD_BITS + (uint32_t)bit;
	word++;
	for (uint32_t i = word / WORD_BITS; i < 16; i++) {
		bit = first_from(ports->summary[i], i == word / WORD_BITS ? word % WORD_BITS : 0);
		if (bit >= 0) {
			word = i * WORD_BITS + (uint32_t)bit;
			return word * WORD_BITS + (uint32_t)__builtin_ctzll(ports->free[word]);
		}
	}
	return LB_PORTS_NONE;
}

static void take(struct lb_ports *ports, uint32_t idx)
{
	set_used(ports, idx);
	__atomic_store_n(&ports->n_used, ports->n_used + 1, __ATOMIC_RELAXED);
}

uint32_t lb_ports_take(struct lb_ports *ports)
{
	uint32_t idx;

	if (__builtin_expect(ports->n_used == ports->n_ports, 0)) {
		ports->exhausted++;
		return LB_PORTS_NONE;
	}
	idx = find_from(ports, ports->cursor);
	if (idx == LB_PORTS_NONE)
		idx = find_from(ports, 0);
	take(ports, idx);
	ports->cursor = idx + 1 < ports->n_ports ? idx + 1 : 0;
	return idx;
}

static bool is_free(const struct lb_ports *ports, uint32_t idx)
{
	return (ports->free[idx / WORD_BITS] >> (idx % WORD_BITS) & 1) != 0;
}

bool lb_ports_take_at(struct lb_ports *ports, uint32_t idx)
{
	if (idx >= ports->n_ports || !is_free(ports, idx))
		return false;
	take(ports, idx);
	return true;
}

void lb_ports_give(struct lb_ports *ports, uint32_t idx)
{
	if (idx >= ports->n_ports || is_free(ports, idx))
		return;
	set_free(ports, idx);
	__atomic_store_n(&ports->n_used, ports->n_used - 1, __ATOMIC_RELAXED);
}
