/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_IDS_H
#define LB_CONTROL_IDS_H

#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

/*
 * Small numbers for things that have a name: what the data plane calls services, backends and next
 * hops. A key is what the data plane sees of a thing ("203.0.113.10:443/tcp", "… 10.0.0.11:8080"),
 * so that giving a service or backend another name in the config changes nothing there.
 *
 * Ids are handed out in a cycle: one that became free is used again only after all others have had
 * their turn, since flow entries name backends by id, and an entry of a removed backend must not
 * come to mean a new one. Until then it is its last key's: who comes back has the id, and with it the flows, that he had.
 *
 * An id that is free may also *rest*: then nobody else has it, however long the cycle is (control/rest.h).
 */
struct lb_ids;

/**
 * A set of ids first..first+n-1, all free. @p start is where the cycle begins (taken modulo @p n).
 * @return 0; -EINVAL n is 0; -ENOMEM.
 */
int lb_ids_create(uint32_t first, uint32_t n, uint32_t start, struct lb_ids **out);
void lb_ids_destroy(struct lb_ids *ids);

/** @return 0 and @p id; -ENOENT. */
int lb_ids_lookup(const struct lb_ids *ids, const char *key, uint32_t *id);

/**
 * Give @p key the id that it had last, if @p owner was its owner then, else the next free one that does not rest.
 * @return 0 and @p id; -EEXIST it has one (also in @p id); -ENOSPC; -ENOMEM.
 */
int lb_ids_add_of(struct lb_ids *ids, const char *key, uint32_t owner, uint32_t *id);
/** The same for things without an owner. */
int lb_ids_add(struct lb_ids *ids, const char *key, uint32_t *id);

/** Free the id of @p key, which was @p owner's (for a backend: its service's id). @return 0; -ENOENT. */
int lb_ids_del_of(struct lb_ids *ids, const char *key, uint32_t owner);
int lb_ids_del(struct lb_ids *ids, const char *key);

/** Let @p id, if it is free, rest until lb_ids_rested() of the same @p ticket, which is not 0. */
void lb_ids_rest(struct lb_ids *ids, uint32_t id, uint32_t ticket);
void lb_ids_rested(struct lb_ids *ids, uint32_t ticket);

/** Ids that somebody new can have: free, and at no rest. */
uint32_t lb_ids_n_free(const struct lb_ids *ids);

/** The key that has @p id; NULL: free, or out of range. */
const char *lb_ids_key(const struct lb_ids *ids, uint32_t id);

uint32_t lb_ids_count(const struct lb_ids *ids);

/** Let the cycle go on @p n ids further: after a restart that may have lost the last ids handed
 * out. */
void lb_ids_skip(struct lb_ids *ids, uint32_t n);

/** {"next": 17, "ids": {"KEY": 3, …}}; NULL without memory. New reference. */
json_t *lb_ids_to_json(const struct lb_ids *ids);

/** The same as text. Keys have no quote, backslash or control character. Errors are the stream's. */
void lb_ids_write(const struct lb_ids *ids, FILE *out);

/** Take over what lb_ids_to_json() wrote into an empty set. @return 0; -EINVAL, with the set empty;
 * -ENOMEM. */
int lb_ids_from_json(struct lb_ids *ids, const json_t *json);

#endif
