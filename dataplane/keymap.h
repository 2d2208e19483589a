/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_KEYMAP_H
#define LB_DATAPLANE_KEYMAP_H

#include "lb/addr.h"
#include "lb/flowmatch.h"

/*
 * Read-mostly map from (address, port, protocol) to a 16-bit id, looked up for every packet: services by
 * VIP, nat backends by endpoint. 8-byte entries in 64-byte lines, linear probing over lines, at most half
 * full, so that a miss costs one line. Workers read; the main lcore changes a private copy and swaps the
 * pointer (mapspare.c, objects.c). The hash need not be keyed: packets only look up, they never insert.
 *
 * Two keys have a meaning of their own: port 0 is "every port", and port 0 with protocol 0 marks an
 * address that has at least one entry (a VIP, a backend's host), counted in `refs`. Of these there is also
 * a filter of 64 bits for each line, which tells of nearly all other addresses that they are not here,
 * in one load from a small part of the memory.
 */

/*
 * An entry: | tag 32 | refs 16 | id 16 | from the high end, so that a line is compared as a bucket of the flow
 * table is (lb/flowmatch.h); 0: free. The ways of a line fill from the lowest, without gaps.
 */
static inline uint64_t lb_keymap_entry_make(uint32_t tag, uint16_t refs, uint16_t id)
{
	return (uint64_t)tag << 32 | (uint64_t)refs << 16 | id;
}
static inline uint32_t lb_keymap_entry_tag(uint64_t entry)
{
	return (uint32_t)(entry >> 32);
}
/* Of an address marker: entries with this address; else 1. */
static inline uint16_t lb_keymap_entry_refs(uint64_t entry)
{
	return (uint16_t)(entry >> 16);
}
static inline uint16_t lb_keymap_entry_id(uint64_t entry)
{
	return (uint16_t)entry;
}

struct lb_keymap {
	uint32_t line_mask; /* number of lines - 1 */
	uint32_t line_offset_mask; /* the same times 64: the bits of a hash that are the offset of its line */
	uint32_t n_used;
	uint32_t n_wildcard; /* entries with port 0: none, and lookups need not try */
	uint32_t zero[10];
	uint64_t *filter; /* by line, of each marker whose probe begins there the bit that lb_keymap_filter_bit() says */
	struct lb_service_key *keys; /* main lcore only: the full key of each entry, same index */
	uint64_t lines[][8] __attribute__((aligned(64)));
};

#define LB_KEYMAP_MISS UINT32_MAX
#define LB_KEYMAP_WAYS 8u

/* Port and protocol as one word; in a flow key, the four bytes from the destination's port on. */
static inline uint32_t lb_keymap_word(uint16_t port_be, uint8_t proto)
{
	return (uint32_t)proto << 16 | port_be;
}

static inline uint64_t lb_keymap_hash_word(const struct lb_addr *addr, uint32_t word)
{
	uint64_t a = addr->u64[0] ^ UINT64_C(0x9e3779b97f4a7c15);
	uint64_t b = addr->u64[1] ^ word * UINT64_C(0xff51afd7ed558ccd);
	unsigned __int128 m = (unsigned __int128)(a * UINT64_C(0xc4ceb9fe1a85ec53) + b) *
			      UINT64_C(0xd6e8feb86659fd93);

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* The same of an IPv4 address, of which half is known. */
static inline uint64_t lb_keymap_hash_ipv4(uint32_t addr_be, uint32_t word)
{
	struct lb_addr addr = lb_addr_from_ipv4(addr_be);

	return lb_keymap_hash_word(&addr, word);
}

static inline uint64_t lb_keymap_hash(const struct lb_addr *addr, uint16_t port_be, uint8_t proto)
{
	return lb_keymap_hash_word(addr, lb_keymap_word(port_be, proto));
}

static inline uint32_t lb_keymap_tag(uint64_t hash)
{
	return (uint32_t)(hash >> 32) | 1u;
}

/** Number of the line in which a key's probe begins. */
static inline uint32_t lb_keymap_line_idx(const struct lb_keymap *map, uint64_t hash)
{
	return (uint32_t)hash / 64u & map->line_mask;
}

/** That line: in which the probe nearly always ends, too. */
static inline const uint64_t *lb_keymap_line(const struct lb_keymap *map, uint64_t hash)
{
	return (const uint64_t *)(const void *)((const char *)map->lines + (hash & map->line_offset_mask));
}

static inline unsigned lb_keymap_filter_bit(uint64_t hash)
{
	return hash >> 32 & 63; // of the tag: lines are chosen by the other half
}

/** Whether the address may have an entry, by the hash of its marker: no is certain. Any thread under RCU. */
static inline bool lb_keymap_may_have(const struct lb_keymap *map, uint64_t marker_hash)
{
	uint64_t bits;

	memcpy(&bits, (const char *)map->filter + ((marker_hash & map->line_offset_mask) >> 3), sizeof(bits));
	return bits >> lb_keymap_filter_bit(marker_hash) & 1;
}

/**
 * Candidate of a key: the id of the first entry with its tag, from place @p *probe on. The tag is 32 bits
 * of the hash, so the caller compares the object's own key and, if it differs, asks again with probe + 1.
 * @return the id, or LB_KEYMAP_MISS. Any thread under RCU.
 */
static inline uint32_t lb_keymap_find(const struct lb_keymap *map, uint64_t hash, unsigned *probe)
{
	// Place by place, how far the probe goes would be a branch that nobody foresees.
	for (unsigned i = *probe;; i = (i | 7u) + 1) {
		const uint64_t *line = map->lines[(lb_keymap_line_idx(map, hash) + (i >> 3)) & map->line_mask];
		uint32_t ways = lb_flow_match(line, lb_keymap_tag(hash)) & 0xffu << (i & 7);

		if (ways != 0) {
			*probe = (i & ~7u) + (unsigned)__builtin_ctz(ways);
			return lb_keymap_entry_id(line[*probe & 7]);
		}
		if (__builtin_expect(line[7] == 0, 1))
			return LB_KEYMAP_MISS;
	}
}

/** The same from the beginning, for where the candidate is nearly always right, or there is none. */
static inline uint32_t lb_keymap_first(const struct lb_keymap *map, uint64_t hash)
{
	const uint64_t *line = lb_keymap_line(map, hash);
	uint32_t ways = lb_flow_match(line, lb_keymap_tag(hash));
	unsigned probe = LB_KEYMAP_WAYS;

	if (ways != 0)
		return lb_keymap_entry_id(line[__builtin_ctz(ways)]);
	if (__builtin_expect(line[LB_KEYMAP_WAYS - 1] == 0, 1))
		return LB_KEYMAP_MISS;
	return lb_keymap_find(map, hash, &probe);
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
