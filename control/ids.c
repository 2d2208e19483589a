/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/ids.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lb/hash.h"

#define NIL UINT32_MAX

/* By index (id - first). `next` chains the entries of a hash bucket: those that have a key. */
struct entry {
	char *key; /* of a free id: whose it was last; NULL: nobody's */
	uint32_t next;
	uint32_t owner;  /* of a free id: as lb_ids_del_of() said */
	uint32_t ticket; /* it rests while it is free; 0: it does not */
	bool used;
};

struct lb_ids {
	uint32_t first, n;
	uint32_t cursor; /* index where the search for the next free id begins */
	uint32_t n_used, n_resting;
	uint32_t bucket_mask;
	uint32_t *buckets;
	struct entry *entries;
};

static uint32_t *bucket_of(const struct lb_ids *ids, const char *key)
{
	return &ids->buckets[lb_hash_bytes(key, strlen(key), 0) & ids->bucket_mask];
}

int lb_ids_create(uint32_t first, uint32_t n, uint32_t start, struct lb_ids **out)
{
	struct lb_ids *ids;
	uint32_t n_buckets = 16;

	if (n == 0 || n > 1u << 24)
		return -EINVAL;
	while (n_buckets < n)
		n_buckets *= 2;
	ids = calloc(1, sizeof(*ids));
	if (ids == NULL)
		return -ENOMEM;
	*ids = (struct lb_ids){
		.first = first,
		.n = n,
		.cursor = start % n,
		.bucket_mask = n_buckets - 1,
		.buckets = malloc(n_buckets * sizeof(*ids->buckets)),
		.entries = calloc(n, sizeof(*ids->entries)),
	};
	if (ids->buckets == NULL || ids->entries == NULL) {
		lb_ids_destroy(ids);
		return -ENOMEM;
	}
	memset(ids->buckets, 0xff, n_buckets * sizeof(*ids->buckets));
	*out = ids;
	return 0;
}

static void clear(struct lb_ids *ids)
{
	for (uint32_t i = 0; i < ids->n; i++) {
		free(ids->entries[i].key);
		ids->entries[i] = (struct entry){0};
	}
	ids->n_used = ids->n_resting = 0;
	memset(ids->buckets, 0xff, (ids->bucket_mask + 1) * sizeof(*ids->buckets));
}

void lb_ids_destroy(struct lb_ids *ids)
{
	if (ids == NULL)
		return;
	if (ids->entries != NULL && ids->buckets != NULL)
		clear(ids);
	free(ids->entries);
	free(ids->buckets);
	free(ids);
}

/* Where @p key is kept, used or not; NIL. */
static uint32_t find(const struct lb_ids *ids, const char *key)
{
	uint32_t i = *bucket_of(ids, key);

	while (i != NIL && strcmp(ids->entries[i].key, key) != 0)
		i = ids->entries[i].next;
	return i;
}

int lb_ids_lookup(const struct lb_ids *ids, const char *key, uint32_t *id)
{
	uint32_t i = find(ids, key);

	if (i == NIL || !ids->entries[i].used)
		return -ENOENT;
	*id = ids->first + i;
	return 0;
}

static void set_used(struct lb_ids *ids, uint32_t idx, bool used)
{
	struct entry *entry = &ids->entries[idx];

	entry->used = used;
	ids->n_used = used ? ids->n_used + 1 : ids->n_used - 1;
	if (entry->ticket != 0)
		ids->n_resting = used ? ids->n_resting - 1 : ids->n_resting + 1;
}

/* Nobody had it. @p idx is free. */
static void forget(struct lb_ids *ids, uint32_t idx)
{
	struct entry *entry = &ids->entries[idx];
	uint32_t *link;

	if (entry->key == NULL)
		return;
	link = bucket_of(ids, entry->key);
	while (*link != idx)
		link = &ids->entries[*link].next;
	*link = entry->next;
	free(entry->key);
	entry->key = NULL;
}

/* @p idx is free, and does not rest. */
static int insert_at(struct lb_ids *ids, uint32_t idx, const char *key)
{
	uint32_t *bucket = bucket_of(ids, key);
	char *copy = strdup(key);

	if (copy == NULL)
		return -ENOMEM;
	forget(ids, idx); // its bucket may be this one
	ids->entries[idx].key = copy;
	ids->entries[idx].next = *bucket;
	*bucket = idx;
	set_used(ids, idx, true);
	return 0;
}

static bool is_to_be_had(const struct lb_ids *ids, uint32_t idx)
{
	return !ids->entries[idx].used && ids->entries[idx].ticket == 0;
}

int lb_ids_add_of(struct lb_ids *ids, const char *key, uint32_t owner, uint32_t *id)
{
	uint32_t idx = find(ids, key);
	int rc;

	if (idx != NIL) {
		*id = ids->first + idx;
		if (ids->entries[idx].used)
			return -EEXIST;
		if (ids->entries[idx].owner == owner) {
			set_used(ids, idx, true);
			return 0;
		}
		forget(ids, idx); // a key is kept but once
	}
	if (ids->n_used + ids->n_resting == ids->n)
		return -ENOSPC;
	idx = ids->cursor;
	while (!is_to_be_had(ids, idx))
		idx = (idx + 1) % ids->n;
	rc = insert_at(ids, idx, key);
	if (rc < 0)
		return rc;
	ids->cursor = (idx + 1) % ids->n;
	*id = ids->first + idx;
	return 0;
}

int lb_ids_add(struct lb_ids *ids, const char *key, uint32_t *id)
{
	return lb_ids_add_of(ids, key, 0, id);
}

int lb_ids_del_of(struct lb_ids *ids, const char *key, uint32_t owner)
{
	uint32_t idx = find(ids, key);

	if (idx == NIL || !ids->entries[idx].used)
		return -ENOENT;
	ids->entries[idx].owner = owner;
	set_used(ids, idx, false);
	return 0;
}

int lb_ids_del(struct lb_ids *ids, const char *key)
{
	return lb_ids_del_of(ids, key, 0);
}

void lb_ids_rest(struct lb_ids *ids, uint32_t id, uint32_t ticket)
{
	struct entry *entry;

	if (id < ids->first || id - ids->first >= ids->n)
		return;
	entry = &ids->entries[id - ids->first];
	if (entry->used)
		return;
	ids->n_resting += (ticket != 0) - (entry->ticket != 0);
	entry->ticket = ticket;
}

void lb_ids_rested(struct lb_ids *ids, uint32_t ticket)
{
	for (uint32_t i = 0; ticket != 0 && i < ids->n; i++) {
		struct entry *entry = &ids->entries[i];

		if (entry->ticket != ticket)
			continue;
		ids->n_resting -= !entry->used;
		entry->ticket = 0;
	}
}

uint32_t lb_ids_n_free(const struct lb_ids *ids)
{
	return ids->n - ids->n_used - ids->n_resting;
}

const char *lb_ids_key(const struct lb_ids *ids, uint32_t id)
{
	const struct entry *entry;

	if (id < ids->first || id - ids->first >= ids->n)
		return NULL;
	entry = &ids->entries[id - ids->first];
	return entry->used ? entry->key : NULL;
}

uint32_t lb_ids_count(const struct lb_ids *ids)
{
	return ids->n_used;
}

void lb_ids_skip(struct lb_ids *ids, uint32_t n)
{
	ids->cursor = (uint32_t)(((uint64_t)ids->cursor + n) % ids->n);
}

json_t *lb_ids_to_json(const struct lb_ids *ids)
{
	json_t *map = json_object();

	for (uint32_t i = 0; i < ids->n && map != NULL; i++) {
		const struct entry *entry = &ids->entries[i];

		if (entry->used &&
			json_object_set_new(map, entry->key, json_integer(ids->first + i)) < 0) {
			json_decref(map);
			return NULL;
		}
	}
	if (map == NULL)
		return NULL;
	return json_pack("{s:I, s:o}", "next", (json_int_t)(ids->first + ids->cursor), "ids", map);
}

void lb_ids_write(const struct lb_ids *ids, FILE *out)
{
	const char *separator = "";

	fprintf(out, "{\"next\":%u,\"ids\":{", ids->first + ids->cursor);
	for (uint32_t i = 0; i < ids->n; i++) {
		char digits[12], *at = digits + sizeof(digits);

		if (!ids->entries[i].used)
			continue;
		// tens of thousands at each change: what fprintf() takes for them is felt
		*--at = '\0';
		for (uint32_t id = ids->first + i, more = 1; more; id /= 10, more = id > 0)
			*--at = (char)('0' + id % 10);
		fputs_unlocked(separator, out);
		putc_unlocked('"', out);
		fputs_unlocked(ids->entries[i].key, out);
		fputs_unlocked("\":", out);
		fputs_unlocked(at, out);
		separator = ",";
	}
	fputs("}}", out);
}

static int take_over(struct lb_ids *ids, json_int_t next, json_t *map)
{
	const char *key;
	json_t *value;

	if (next < ids->first || next - ids->first >= ids->n)
		return -EINVAL;
	ids->cursor = (uint32_t)next - ids->first;
	json_object_foreach (map, key, value) {
		json_int_t id = json_integer_value(value);
		int rc;

		if (!json_is_integer(value) || id < ids->first || id - ids->first >= ids->n ||
			ids->entries[id - ids->first].used)
			return -EINVAL;
		rc = insert_at(ids, (uint32_t)id - ids->first, key);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int lb_ids_from_json(struct lb_ids *ids, const json_t *json)
{
	json_t *next = json_object_get(json, "next"), *map = json_object_get(json, "ids");
	int rc;

	if (!json_is_integer(next) || !json_is_object(map) || ids->n_used != 0)
		return -EINVAL;
	clear(ids);
	rc = take_over(ids, json_integer_value(next), map);
	if (rc < 0)
		clear(ids);
	return rc;
}
