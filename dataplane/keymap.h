/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_KEYMAP_H
#define LB_DATAPLANE_KEYMAP_H

#include "lb/addr.h"

/*
 * Read-mostly map from (address, port, protocol) to a 16-bit id, looked up for every packet: services by
 * VIP, nat backends by endpoint. 8-byte entries in 64-byte lines, linear probing over lines, at most half
 * full, so that a miss costs one line. Workers read; the main lcore changes a private copy and swaps the
 * pointer (maps.c). The hash need not be keyed: packets only look up, they never insert.
 *
 * Two keys have a meaning of their own: port 0 is "every port", and port 0 with protocol 0 marks an
 * address that has at least one entry (a VIP, a backend's host), counted in `refs`.
 */
struct lb_keymap_entry {
	uint32_t tag; /* 0: free */
	uint16_t id;
	uint16_t refs; /* address markers: entries with this address (saturating); else 1 */
};

struct lb_keymap {
	uint32_t line_mask;
	uint32_t n_used;
	uint32_t n_wildcard; /* entries with port 0: none, and lookups need not try */
	uint32_t zero[13];
	struct lb_service_key *keys; /* main lcore only: the full key of each entry, same index */
	struct lb_keymap_entry lines[][8] __attribute__((aligned(64)));
};

#define LB_KEYMAP_MISS UINT32_MAX

static inline uint64_t lb_keymap_hash(const struct lb_addr *addr, uint16_t port_be, uint8_t proto)
{
	uint64_t a = addr->u64[0] ^ UINT64_C(0x9e3779b97f4a7c15);
	uint64_t b = addr->u64[1] ^ ((uint64_t)port_be << 8 | proto) * UINT64_C(0xff51afd7ed558ccd);
	unsigned __int128 m = (unsigned __int128)(a * UINT64_C(0xc4ceb9fe1a85ec53) + b) *
			      UINT64_C(0xd6e8feb86659fd93);

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/**
 * Candidate of a key: the id of the first entry with its tag, from line @p *probe on. The tag is 32 bits
 * of the hash, so the caller compares the object's own key and, if it differs, asks again with probe + 1.
 * @return the id, or LB_KEYMAP_MISS. Any thread under RCU.
 */
static inline uint32_t lb_keymap_find(const struct lb_keymap *map, uint64_t hash, unsigned *probe)
{
	uint32_t tag = (uint32_t)(hash >> 32) | 1u;

	for (unsigned i = *probe;; i++) {
		const struct lb_keymap_entry *line =
			map->lines[((uint32_t)hash + (i >> 3)) & map->line_mask];

		if (line[i & 7].tag == tag) {
			*probe = i;
			return line[i & 7].id;
		}
		if (line[i & 7].tag == 0)
			return LB_KEYMAP_MISS;
	}
}

/** An empty map with room for @p n_entries, on huge pages. @return NULL without memory. Main lcore. */
struct lb_keymap *lb_keymap_create(uint32_t n_entries);

/** A copy with room for at least @p n_entries and what it holds. @return NULL without memory. Main lcore. */
struct lb_keymap *lb_keymap_clone(const struct lb_keymap *map, uint32_t n_entries);

void lb_keymap_destroy(struct lb_keymap *map);

/** Id of exactly @p key; LB_KEYMAP_MISS. Main lcore: compares full keys. */
uint32_t lb_keymap_get(const struct lb_keymap *map, const struct lb_service_key *key);

/** Add a key that is not there, and its address marker. The map has room (lb_keymap_clone). Main lcore. */
void lb_keymap_add(struct lb_keymap *map, const struct lb_service_key *key, uint16_t id);

/** Remove a key that is there, and its address marker if it was the last. Main lcore. */
void lb_keymap_del(struct lb_keymap *map, const struct lb_service_key *key);

#endif
