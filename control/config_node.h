/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_CONFIG_NODE_H
#define LB_CONTROL_CONFIG_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

/*
 * A text as a tree of mappings, lists and scalars: what lies between YAML or JSON and the meaning of the
 * keys. Each node knows its place. Nodes and strings live in the tree's arena and go with it.
 */

/* The deepest place with a meaning is services[i].backends[j].KEY: five collections. */
#define LB_TREE_MAX_DEPTH 8u

/* Keys, checks and texts end long before; no error message or state file has to carry more. */
#define LB_TREE_MAX_SCALAR_BYTES 4096u

/*
 * 65 535 backends of 7 keys each and 4 096 services of 30 are less than 700 000 nodes. The bound keeps a
 * hostile text of 64 MiB ("[1,1,1,...") from becoming gigabytes.
 */
#define LB_TREE_MAX_NODES (1u << 20)

enum lb_node_kind { LB_NODE_SCALAR, LB_NODE_LIST, LB_NODE_MAP };

struct lb_node {
	enum lb_node_kind kind;
	bool is_plain; /* scalar: not quoted */
	bool is_null;  /* scalar: JSON null; YAML: nothing, ~ or null, unquoted */
	unsigned line, column;         /* from 1; 0: not from a text */
	unsigned key_line, key_column; /* of the key, in a mapping */
	unsigned index;                /* position in the parent */
	uint32_t n_children;
	uint32_t len_bytes;
	const char *text;      /* scalar: NUL-terminated, len_bytes without NULs */
	const char *key;       /* in a mapping, else NULL */
	struct lb_node *parent; /* NULL: the root */
	struct lb_node *first, *last, *next;
};

struct lb_tree_chunk;

struct lb_tree {
	struct lb_node *root;
	uint32_t n_nodes;
	struct lb_tree_chunk *chunks;
};

/** Free all nodes; a zeroed tree is allowed. */
void lb_tree_fini(struct lb_tree *tree);

/**
 * Append a zeroed node to @p parent (NULL: it becomes the root).
 * @return NULL without memory or past LB_TREE_MAX_NODES.
 */
struct lb_node *lb_tree_add(struct lb_tree *tree, struct lb_node *parent, enum lb_node_kind kind);

/** Copy @p len_bytes bytes and a NUL into the arena. @return NULL without memory. */
char *lb_tree_copy(struct lb_tree *tree, const char *text, size_t len_bytes);

/** The child of mapping @p node under @p key, or NULL; @p node may be NULL. */
const struct lb_node *lb_node_get(const struct lb_node *node, const char *key);

/** The @p index-th child of @p node, or NULL; @p node may be NULL. */
const struct lb_node *lb_node_at(const struct lb_node *node, size_t index);

/** Write the way from the root, e.g. "services[3].backends[0].weight", into @p buf; "" for the root. */
void lb_node_path(const struct lb_node *node, char *buf, size_t size_bytes);

/** Why a text is no tree. */
struct lb_tree_error {
	unsigned line, column; /* from 1; 0: unknown */
	char message[400];
};

/**
 * Make @p tree of a YAML (or JSON) text: one document, without anchors, aliases and tags.
 * Duplicate keys are left in: who knows the keys refuses them.
 * @return 0; -EINVAL with @p error; -ENOMEM. @p tree is to be freed in every case.
 */
int lb_tree_parse(struct lb_tree *tree, const char *text, size_t len_bytes,
	struct lb_tree_error *error);

/**
 * Make @p tree of a JSON value. Strings count as unquoted: an API change may give each scalar as a string.
 * @return as lb_tree_parse().
 */
int lb_tree_from_json(struct lb_tree *tree, json_t *value, struct lb_tree_error *error);

#endif
