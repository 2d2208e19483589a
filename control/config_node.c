/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/config_node.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (256u << 10)
static_assert(CHUNK_BYTES > LB_TREE_MAX_SCALAR_BYTES + 1 + sizeof(struct lb_node),
	"every allocation fits into a fresh chunk");

struct lb_tree_chunk {
	struct lb_tree_chunk *next;
	size_t used_bytes;
	alignas(max_align_t) char bytes[CHUNK_BYTES];
};

void lb_tree_fini(struct lb_tree *tree)
{
	while (tree->chunks) {
		struct lb_tree_chunk *chunk = tree->chunks;

		tree->chunks = chunk->next;
		free(chunk);
	}
	memset(tree, 0, sizeof(*tree));
}

static void *tree_alloc(struct lb_tree *tree, size_t size_bytes)
{
	struct lb_tree_chunk *chunk = tree->chunks;
	void *mem;

	size_bytes = (size_bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (size_bytes > CHUNK_BYTES)
		return NULL;
	if (!chunk || CHUNK_BYTES - chunk->used_bytes < size_bytes) {
		chunk = malloc(sizeof(*chunk));
		if (!chunk)
			return NULL;
		chunk->next = tree->chunks;
		chunk->used_bytes = 0;
		tree->chunks = chunk;
	}
	mem = chunk->bytes + chunk->used_bytes;
	chunk->used_bytes += size_bytes;
	return mem;
}

struct lb_node *lb_tree_add(struct lb_tree *tree, struct lb_node *parent, enum lb_node_kind kind)
{
	struct lb_node *node;

	if (tree->n_nodes >= LB_TREE_MAX_NODES)
		return NULL;
	node = tree_alloc(tree, sizeof(*node));
	if (!node)
		return NULL;
	memset(node, 0, sizeof(*node));
	node->kind = kind;
	node->parent = parent;
	tree->n_nodes++;
	if (!parent) {
		tree->root = node;
		return node;
	}
	node->index = parent->n_children++;
	if (parent->last)
		parent->last->next = node;
	else
		parent->first = node;
	parent->last = node;
	return node;
}

char *lb_tree_copy(struct lb_tree *tree, const char *text, size_t len_bytes)
{
	char *copy = tree_alloc(tree, len_bytes + 1);

	if (!copy)
		return NULL;
	memcpy(copy, text, len_bytes);
	copy[len_bytes] = '\0';
	return copy;
}

const struct lb_node *lb_node_get(const struct lb_node *node, const char *key)
{
	if (!node || node->kind != LB_NODE_MAP)
		return NULL;
	for (node = node->first; node; node = node->next)
		if (!strcmp(node->key, key))
			return node;
	return NULL;
}

const struct lb_node *lb_node_at(const struct lb_node *node, size_t index)
{
	if (!node)
		return NULL;
	for (node = node->first; node && index > 0; index--)
		node = node->next;
	return node;
}

void lb_node_path(const struct lb_node *node, char *buf, size_t size_bytes)
{
	const struct lb_node *way[LB_TREE_MAX_DEPTH + 1];
	size_t n = 0, used = 0;

	for (; node->parent && n < LB_TREE_MAX_DEPTH + 1; node = node->parent)
		way[n++] = node;
	buf[0] = '\0';
	while (n > 0 && used < size_bytes) {
		int written;

		node = way[--n];
		if (node->key)
			written = snprintf(buf + used, size_bytes - used, "%s%.64s", used ? "." : "",
				node->key);
		else
			written = snprintf(buf + used, size_bytes - used, "[%u]", node->index);
		used += written > 0 ? (size_t)written : 0;
	}
}

/* What the text of a JSON scalar would be in YAML. */
static const char *scalar_text(json_t *value, char buf[32])
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		return json_string_value(value);
	case JSON_INTEGER:
		snprintf(buf, 32, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return buf;
	case JSON_REAL:
		snprintf(buf, 32, "%.15g", json_real_value(value));
		// 3.0 is no integer, and the message should show why.
		if (!strpbrk(buf, ".en"))
			strcat(buf, ".0");
		return buf;
	case JSON_TRUE:
		return "true";
	case JSON_FALSE:
		return "false";
	default:
		return "null";
	}
}

static int fail(struct lb_tree_error *error, const char *message)
{
	snprintf(error->message, sizeof(error->message), "%s", message);
	return -EINVAL;
}

static int add_json(struct lb_tree *tree, struct lb_node *parent, const char *key, json_t *value,
	unsigned depth, struct lb_tree_error *error);

static int add_json_children(struct lb_tree *tree, struct lb_node *node, json_t *value,
	unsigned depth, struct lb_tree_error *error)
{
	const char *key;
	json_t *child;
	size_t i;
	int rc;

	if (depth >= LB_TREE_MAX_DEPTH)
		return fail(error, "nested too deeply");
	json_object_foreach(value, key, child) {
		rc = add_json(tree, node, key, child, depth + 1, error);
		if (rc)
			return rc;
	}
	json_array_foreach(value, i, child) {
		rc = add_json(tree, node, NULL, child, depth + 1, error);
		if (rc)
			return rc;
	}
	return 0;
}

static int add_json(struct lb_tree *tree, struct lb_node *parent, const char *key, json_t *value,
	unsigned depth, struct lb_tree_error *error)
{
	enum lb_node_kind kind = json_is_object(value) ? LB_NODE_MAP :
		json_is_array(value) ? LB_NODE_LIST : LB_NODE_SCALAR;
	struct lb_node *node = lb_tree_add(tree, parent, kind);
	char buf[32];
	const char *text;
	size_t len;

	if (!node)
		return tree->n_nodes >= LB_TREE_MAX_NODES ? fail(error, "too many values") : -ENOMEM;
	if (key) {
		node->key = lb_tree_copy(tree, key, strnlen(key, LB_TREE_MAX_SCALAR_BYTES));
		if (!node->key)
			return -ENOMEM;
	}
	if (kind != LB_NODE_SCALAR)
		return add_json_children(tree, node, value, depth, error);
	text = scalar_text(value, buf);
	len = json_is_string(value) ? json_string_length(value) : strlen(text);
	if (len > LB_TREE_MAX_SCALAR_BYTES)
		return fail(error, "a text of more than 4096 bytes");
	if (memchr(text, '\0', len))
		return fail(error, "a text with a NUL character");
	node->is_plain = true;
	node->is_null = json_is_null(value);
	node->len_bytes = (uint32_t)len;
	node->text = lb_tree_copy(tree, text, len);
	return node->text ? 0 : -ENOMEM;
}

int lb_tree_from_json(struct lb_tree *tree, json_t *value, struct lb_tree_error *error)
{
	memset(tree, 0, sizeof(*tree));
	memset(error, 0, sizeof(*error));
	return add_json(tree, NULL, NULL, value, 0, error);
}
