/* SPDX-License-Identifier: BSD-3-Clause */
#include "dataplane/keymap.h"

#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_malloc.h>

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
	if (map->keys == NULL) {
		rte_free(map);
		return NULL;
	}
	map->line_mask = n_lines - 1;
	return map;
}

void lb_keymap_destroy(struct lb_keymap *map)
{
	if (map == NULL)
		return;
	free(map->keys);
	rte_free(map);
}

// Index of the place that holds the key, or of the free one where its probe ends.
static uint32_t place_of(const struct lb_keymap *map, const struct lb_service_key *key, bool *found)
{
	uint64_t hash = key_hash(key);
	uint32_t tag = (uint32_t)(hash >> 32) | 1u;

	for (unsigned i = 0;; i++) {
		uint32_t line = ((uint32_t)hash + (i >> 3)) & map->line_mask;
		uint32_t place = line * 8 + (i & 7);
		const struct lb_keymap_entry *entry = &map->lines[line][i & 7];

		*found = entry->tag == tag && memcmp(&map->keys[place], key, sizeof(*key)) == 0;
		if (*found || entry->tag == 0)
			return place;
	}
}

static struct lb_keymap_entry *entry_at(struct lb_keymap *map, uint32_t place)
{
	return &map->lines[place / 8][place % 8];
}

uint32_t lb_keymap_get(const struct lb_keymap *map, const struct lb_service_key *key)
{
	bool found;
	uint32_t place = place_of(map, key, &found);

	return found ? map->lines[place / 8][place % 8].id : LB_KEYMAP_MISS;
}

static void put(struct lb_keymap *map, const struct lb_service_key *key, uint16_t id, uint16_t refs)
{
	bool found;
	uint32_t place = place_of(map, key, &found);

	map->keys[place] = *key;
	*entry_at(map, place) = (struct lb_keymap_entry){
		.tag = (uint32_t)(key_hash(key) >> 32) | 1u, .id = id, .refs = refs};
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
		entry_at(map, place)->refs++; // at most one per object: fits 16 bits
	else
		put(map, &marker, id, 1);
}

// Linear probing without tombstones: what follows the hole up to the next free place is put anew.
static void take_out(struct lb_keymap *map, uint32_t place)
{
	uint32_t n_places = (map->line_mask + 1) * 8;

	entry_at(map, place)->tag = 0;
	map->n_used--;
	for (uint32_t next = (place + 1) % n_places; entry_at(map, next)->tag != 0;
		next = (next + 1) % n_places) {
		struct lb_keymap_entry entry = *entry_at(map, next);
		struct lb_service_key key = map->keys[next];

		entry_at(map, next)->tag = 0;
		map->n_used--;
		put(map, &key, entry.id, entry.refs);
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
	if (found && --entry_at(map, place)->refs == 0)
		take_out(map, place);
}

struct lb_keymap *lb_keymap_clone(const struct lb_keymap *map, uint32_t n_entries)
{
	struct lb_keymap *copy = lb_keymap_create(RTE_MAX(n_entries, map->n_used));

	if (copy == NULL)
		return NULL;
	for (uint32_t place = 0; place < (map->line_mask + 1) * 8; place++) {
		const struct lb_keymap_entry *entry = &map->lines[place / 8][place % 8];

		if (entry->tag != 0)
			put(copy, &map->keys[place], entry->id, entry->refs);
	}
	copy->n_wildcard = map->n_wildcard;
	return copy;
}
