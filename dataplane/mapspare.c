/* SPDX-License-Identifier: BSD-3-Clause */
#include "dataplane/mapspare.h"

#include <stdlib.h>

// Beyond some batches' worth a copy is as cheap. Before the first sync changes pile up in one batch.
#define MAX_CHANGES 4096u

struct lb_map_change {
	struct lb_service_key key;
	uint16_t id;
	bool is_del;
};

static bool has_room(const struct lb_keymap *map)
{
	// one key and its marker more must leave the map at most half full
	return map->n_used + 2 <= (map->line_mask + 1) * 8 / 2;
}

static struct lb_keymap *clone(const struct lb_keymap *map)
{
	uint32_t n_places = (map->line_mask + 1) * 8;

	return lb_keymap_clone(map, has_room(map) ? n_places / 4 : n_places / 2);
}

static void forget_changes(struct lb_map_spare *spare)
{
	spare->n_changes = 0;
	spare->lost = false;
}

// The spare as it must be to replace the present map; NULL: there is none that has room.
static struct lb_keymap *bring_up(struct lb_map_spare *spare)
{
	struct lb_keymap *map = spare->map;

	spare->map = NULL;
	for (uint32_t i = 0; map != NULL && i < spare->n_changes; i++) {
		const struct lb_map_change *change = &spare->changes[i];

		if (change->is_del) {
			lb_keymap_del(map, &change->key);
		} else if (has_room(map)) {
			lb_keymap_add(map, &change->key, change->id);
		} else {
			lb_keymap_destroy(map);
			map = NULL;
		}
	}
	if (map == NULL || has_room(map))
		return map;
	lb_keymap_destroy(map);
	return NULL;
}

struct lb_keymap *lb_map_spare_take(
	struct lb_map_spare *spare, const struct lb_keymap *current, struct lb_keymap *next)
{
	struct lb_keymap *copy;

	if (next == NULL) {
		copy = bring_up(spare);
		forget_changes(spare);
		return copy != NULL ? copy : clone(current);
	}
	if (has_room(next))
		return next;
	copy = clone(next);
	if (copy != NULL)
		lb_keymap_destroy(next);
	return copy;
}

static void remember(struct lb_map_spare *spare, const struct lb_map_change *change)
{
	if (spare->n_changes == spare->room && !spare->lost) {
		uint32_t room = spare->room * 2 + 64;
		struct lb_map_change *grown =
			room <= 2 * MAX_CHANGES ? realloc(spare->changes, room * sizeof(*grown)) : NULL;

		spare->lost = grown == NULL;
		if (grown != NULL) {
			spare->changes = grown;
			spare->room = room;
		}
	}
	if (!spare->lost)
		spare->changes[spare->n_changes++] = *change;
}

void lb_map_spare_add(struct lb_map_spare *spare, struct lb_keymap *next, const struct lb_service_key *key, uint16_t id)
{
	lb_keymap_add(next, key, id);
	remember(spare, &(struct lb_map_change){.key = *key, .id = id});
}

void lb_map_spare_del(struct lb_map_spare *spare, struct lb_keymap *next, const struct lb_service_key *key)
{
	lb_keymap_del(next, key);
	remember(spare, &(struct lb_map_change){.key = *key, .is_del = true});
}

void lb_map_spare_keep(struct lb_map_spare *spare, struct lb_keymap *old)
{
	if (old == NULL)
		return;
	if (!spare->lost)
		spare->map = old;
	else
		lb_keymap_destroy(old);
}

void lb_map_spare_fini(struct lb_map_spare *spare)
{
	lb_keymap_destroy(spare->map);
	free(spare->changes);
	*spare = (struct lb_map_spare){0};
}
