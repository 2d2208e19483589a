/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_MAPSPARE_H
#define LB_DATAPLANE_MAPSPARE_H

#include "dataplane/keymap.h"

/*
 * The map that was in force before the present one, kept to be the next: brought up to date by the changes that
 * were made since, it spares each batch of commands a copy of the whole map (with 64000 backends 2 ms). Main lcore only.
 */
struct lb_map_spare {
	struct lb_keymap *map; /* NULL: none */
	struct lb_map_change *changes; /* what the present map, or the one under change, has on top of it */
	uint32_t n_changes, room;
	bool lost; /* too many changes, or no memory: what is replaced now is of no use */
};

/**
 * A private copy of @p current to change, with room for a key and its marker more: the spare, or a clone.
 * @param next the copy under change already, or NULL; it may have to grow, and is destroyed then.
 * @return NULL: no memory.
 */
struct lb_keymap *lb_map_spare_take(
	struct lb_map_spare *spare, const struct lb_keymap *current, struct lb_keymap *next);

/** Add a key to the copy under change, or remove it, and remember that. */
void lb_map_spare_add(struct lb_map_spare *spare, struct lb_keymap *next, const struct lb_service_key *key, uint16_t id);
void lb_map_spare_del(struct lb_map_spare *spare, struct lb_keymap *next, const struct lb_service_key *key);

/** The changed copy is in force, and nobody reads @p old any more (NULL: nothing happened): keep it. Takes it. */
void lb_map_spare_keep(struct lb_map_spare *spare, struct lb_keymap *old);

void lb_map_spare_fini(struct lb_map_spare *spare);

#endif
