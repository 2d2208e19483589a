/* SPDX-License-Identifier: BSD-3-Clause */
#include "dataplane/keymap.h"

#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_malloc.h>

#define ONE_REF lb_keymap_entry_make(0, 1, 0)

static uint64_t key_hash(const struct lb_service_key *key)
{
	return lb_keymap_hash(&key->addr, key->port_be, key->proto);
}

static struct lb_service_key marker_of(const struct lb_service_key *key)
{
	return (struct lb_service_key){.addr = key->addr};
}

struct lb_keymap *lb_keymap_create(uint32_t n_entries)
{
	// Each key may bring a marker; half full at most: 4 places per key, 8 places per line.
	uint32_t n_lines = rte_align32pow2(RTE_MAX(n_entries, 64u) / 2);
	struct lb_keymap *map =
		rte_zmalloc("keymap", sizeof(*map) + n_lines * sizeof(map->lines[0]), 64);

	if (map == NULL)
		return NULL;
	map->keys = calloc((size_t)n_lines * 8, sizeof(map->keys[0]));
	map->filter = rte_zmalloc("keymap filter", n_lines * sizeof(map->filter[0]), 64);
	if (map->keys == NULL || map->filter == NULL) {
		lb_keymap_destroy(map);
		return NULL;
	}
	map->line_mask = n_lines - 1;
	map->line_offset_mask = (n_lines - 1) * (uint32_t)sizeof(map->lines[0]);
	return map;
}

void lb_keymap_destroy(struct lb_keymap *map)
{
	if (map == NULL)
		return;
	free(map->keys);
	rte_free(map->filter);
	rte_free(map);
}

// Index of the place that holds the key, or of the free one where its probe ends.
static uint32_t place_of(const struct lb_keymap *map, const struct lb_service_key *key, bool *found)
{
	uint64_t hash = key_hash(key);

	for (unsigned i = 0;; i++) {
		uint32_t line = (lb_keymap_line_idx(map, hash) + (i >> 3)) & map->line_mask;
		uint32_t place = line * 8 + (i & 7);
		uint64_t entry = map->lines[line][i & 7];

		*found = lb_keymap_entry_tag(entry) == lb_keymap_tag(hash) &&
			 memcmp(&map->keys[place], key, sizeof(*key)) == 0;
		if (*found || entry == 0)
			return place;
	}
}

static uint64_t *entry_at(struct lb_keymap *map, uint32_t place)
{
	return &map->lines[place / 8][place % 8];
}

uint32_t lb_keymap_get(const struct lb_keymap *map, const struct lb_service_key *key)
{
	bool found;
	uint32_t place = place_of(map, key, &found);

	return found ? lb_keymap_entry_id(map->lines[place / 8][place % 8]) : LB_KEYMAP_MISS;
}

static bool is_marker(const struct lb_service_key *key)
{
	return key->port_be == 0 && key->proto == 0;
}

static void filter_add(struct lb_keymap *map, uint64_t hash)
{
	map->filter[lb_keymap_line_idx(map, hash)] |= UINT64_C(1) << lb_keymap_filter_bit(hash);
}

// After a marker with @p gone_hash has gone: others may have its bit too.
static void filter_renew(struct lb_keymap *map, uint64_t gone_hash)
{
	uint32_t line = lb_keymap_line_idx(map, gone_hash), n_places = (map->line_mask + 1) * 8;

	map->filter[line] = 0;
	for (uint32_t place = line * 8; *entry_at(map, place) != 0; place = (place + 1) % n_places) {
		const struct lb_service_key *key = &map->keys[place];

		if (is_marker(key) && lb_keymap_line_idx(map, key_hash(key)) == line)
			filter_add(map, key_hash(key));
	}
}

static void put(struct lb_keymap *map, const struct lb_service_key *key, uint16_t id, uint16_t refs)
{
	bool found;
	uint32_t place = place_of(map, key, &found);

	map->keys[place] = *key;
	*entry_at(map, place) = lb_keymap_entry_make(lb_keymap_tag(key_hash(key)), refs, id);
	if (is_marker(key))
		filter_add(map, key_hash(key));
	map->n_used++;
}

void lb_keymap_add(struct lb_keymap *map, const struct lb_service_key *key, uint16_t id)
{
	struct lb_service_key marker = marker_of(key);
	bool found;
	uint32_t place;

	put(map, key, id, 1);
	map->n_wildcard += key->port_be == 0;
	place = place_of(map, &marker, &found);
	if (found)
		*entry_at(map, place) += ONE_REF; // at most one per object: fits 16 bits
	else
		put(map, &marker, id, 1);
}

// Linear probing without tombstones: what follows the hole up to the next free place is put anew.
static void take_out(struct lb_keymap *map, uint32_t place)
{
	uint32_t n_places = (map->line_mask + 1) * 8;

	*entry_at(map, place) = 0;
	map->n_used--;
	for (uint32_t next = (place + 1) % n_places; *entry_at(map, next) != 0;
		next = (next + 1) % n_places) {
		uint64_t entry = *entry_at(map, next);
		struct lb_service_key key = map->keys[next];

		*entry_at(map, next) = 0;
		map->n_used--;
		put(map, &key, lb_keymap_entry_id(entry), lb_keymap_entry_refs(entry));
	}
}

void lb_keymap_del(struct lb_keymap *map, const struct lb_service_key *key)
{
	struct lb_service_key marker = marker_of(key);
	bool found;
	uint32_t place = place_of(map, key, &found);

	if (!found)
		return;
	take_out(map, place);
	map->n_wildcard -= key->port_be == 0;
	place = place_of(map, &marker, &found);
	if (!found)
		return;
	*entry_at(map, place) -= ONE_REF;
	if (lb_keymap_entry_refs(*entry_at(map, place)) != 0)
		return;
	take_out(map, place);
	filter_renew(map, key_hash(&marker));
}

struct lb_keymap *lb_keymap_clone(const struct lb_keymap *map, uint32_t n_entries)
{
	struct lb_keymap *copy = lb_keymap_create(RTE_MAX(n_entries, map->n_used));

	if (copy == NULL)
		return NULL;
	for (uint32_t place = 0; place < (map->line_mask + 1) * 8; place++) {
		uint64_t entry = map->lines[place / 8][place % 8];

		if (entry != 0)
			put(copy, &map->keys[place], lb_keymap_entry_id(entry), lb_keymap_entry_refs(entry));
	}
	copy->n_wildcard = map->n_wildcard;
	return copy;
}
