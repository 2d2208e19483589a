/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * YAML text to tree. libyaml's events rather than its document: the document has forgotten anchors and
 * explicit tags, has aliases resolved, and is only there when the whole text has been read, however
 * deeply nested it is. Here each is refused where it stands.
 */
#include "control/config_node.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <yaml.h>

struct builder {
	yaml_parser_t parser;
	struct lb_tree *tree;
	struct lb_tree_error *error;
	const char *text;
	size_t len_bytes;
	struct lb_node *at; /* the open collection; NULL: none */
	unsigned depth;
	unsigned n_documents;
	const char *key; /* read, its value not yet */
	unsigned key_line, key_column;
};

static int refuse(struct builder *b, const yaml_mark_t *mark, const char *message)
{
	b->error->line = (unsigned)mark->line + 1;
	b->error->column = (unsigned)mark->column + 1;
	snprintf(b->error->message, sizeof(b->error->message), "%s", message);
	return -EINVAL;
}

static unsigned line_of_offset(const struct builder *b, size_t offset)
{
	unsigned line = 1;

	for (size_t i = 0; i < offset && i < b->len_bytes; i++)
		line += b->text[i] == '\n';
	return line;
}

/* Whether the indentation of line @p line (from 1) has a tab. */
static bool indented_by_tab(const struct builder *b, unsigned line)
{
	const char *at = b->text, *end = b->text + b->len_bytes;

	while (line > 1 && at < end)
		line -= *at++ == '\n';
	while (at < end && *at == ' ')
		at++;
	return at < end && *at == '\t';
}

/* Behind the blanks at @p at, and whether a line ends there, or a comment begins. */
static bool is_rest_empty(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
		at++;
	return at == end || *at == '\n' || *at == '#';
}

/* The last line (from 1) with more than blanks and a comment; 1: there is none. @p start is where it begins. */
static unsigned last_line(const struct builder *b, const char **start)
{
	const char *end = b->text + b->len_bytes;
	unsigned line = 1, last = 1;

	*start = b->text;
	for (const char *at = b->text; at != NULL; line++) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));

		if (!is_rest_empty(at, end)) {
			*start = at;
			last = line;
		}
		at = newline != NULL ? newline + 1 : NULL;
	}
	return last;
}

/* Whether nothing but blanks and comments follows line @p line, column @p column (from 1 and 0, in characters). */
static bool is_at_end(const struct builder *b, unsigned line, size_t column, const char *last, unsigned n_lines)
{
	const char *end = b->text + b->len_bytes;

	if (line != n_lines)
		return line > n_lines;
	for (; last < end && column > 0; column--) {
		last++;
		while (last < end && ((unsigned char)*last & 0xc0) == 0x80) // the rest of a character in UTF-8
			last++;
	}
	return is_rest_empty(last, end);
}

/* libyaml refused the text: say where and why. */
static int syntax_error(struct builder *b)
{
	const yaml_parser_t *parser = &b->parser;
	struct lb_tree_error *error = b->error;
	unsigned line = (unsigned)parser->problem_mark.line + 1, n_lines, begun;
	const char *what = "not valid YAML", *last;

	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (parser->error == YAML_READER_ERROR) {
		// The scanner is ahead of the reader's complaint: only the offset is right.
		error->line = line_of_offset(b, parser->problem_offset);
		snprintf(error->message, sizeof(error->message),
			"not a YAML text in UTF-8: %s (0x%x)", parser->problem,
			(unsigned)parser->problem_value);
		return -EINVAL;
	}
	n_lines = last_line(b, &last);
	error->line = line;
	error->column = (unsigned)parser->problem_mark.column + 1;
	// A text that was cut off is found wrong after the last line that says anything, where nobody looks.
	if (is_at_end(b, line, parser->problem_mark.column, last, n_lines)) {
		error->line = n_lines;
		error->column = 0;
		what = "the text ends too early";
	}
	begun = (unsigned)parser->context_mark.line + 1;
	if (indented_by_tab(b, line))
		snprintf(error->message, sizeof(error->message),
			"a tab in the indentation: YAML wants spaces");
	else if (parser->context)
		snprintf(error->message, sizeof(error->message), "%s: %s, %s begun on line %u",
			what, parser->problem, parser->context, begun < error->line ? begun : error->line);
	else
		snprintf(error->message, sizeof(error->message), "%s: %s", what,
			parser->problem ? parser->problem : "cannot be read");
	return -EINVAL;
}

/* Anchors and tags would be ways to say things twice or in disguise; a config needs neither. */
static int refuse_decoration(struct builder *b, const yaml_event_t *event, const void *anchor,
	const void *tag)
{
	if (anchor)
		return refuse(b, &event->start_mark,
			"an anchor (&): not supported, write the value out");
	if (tag)
		return refuse(b, &event->start_mark, "a tag (!): not supported, leave it out");
	return 0;
}

static int refuse_as_key(struct builder *b, const yaml_event_t *event)
{
	if (b->at && b->at->kind == LB_NODE_MAP && !b->key)
		return refuse(b, &event->start_mark,
			"expected a key, found a list or mapping");
	return 0;
}

static int add_node(struct builder *b, const yaml_event_t *event, enum lb_node_kind kind,
	struct lb_node **out)
{
	struct lb_node *node = lb_tree_add(b->tree, b->at, kind);

	if (!node && b->tree->n_nodes >= LB_TREE_MAX_NODES)
		return refuse(b, &event->start_mark, "too many values");
	if (!node)
		return -ENOMEM;
	node->line = (unsigned)event->start_mark.line + 1;
	node->column = (unsigned)event->start_mark.column + 1;
	node->key = b->key;
	node->key_line = b->key_line;
	node->key_column = b->key_column;
	b->key = NULL;
	*out = node;
	return 0;
}

static int open_collection(struct builder *b, const yaml_event_t *event, enum lb_node_kind kind)
{
	struct lb_node *node;
	int rc = refuse_as_key(b, event);

	if (rc)
		return rc;
	if (b->depth >= LB_TREE_MAX_DEPTH)
		return refuse(b, &event->start_mark, "nested too deeply");
	rc = add_node(b, event, kind, &node);
	if (rc)
		return rc;
	b->at = node;
	b->depth++;
	return 0;
}

static bool is_null_text(const char *text)
{
	return !*text || !strcmp(text, "~") || !strcmp(text, "null") || !strcmp(text, "Null") ||
		!strcmp(text, "NULL");
}

static int take_scalar(struct builder *b, const yaml_event_t *event)
{
	const char *value = (const char *)event->data.scalar.value;
	size_t len = event->data.scalar.length;
	struct lb_node *node;
	char *text;
	int rc;

	if (len > LB_TREE_MAX_SCALAR_BYTES)
		return refuse(b, &event->start_mark, "a text of more than 4096 bytes");
	if (memchr(value, '\0', len))
		return refuse(b, &event->start_mark, "a text with a NUL character");
	text = lb_tree_copy(b->tree, value, len);
	if (!text)
		return -ENOMEM;
	if (b->at && b->at->kind == LB_NODE_MAP && !b->key) {
		b->key = text;
		b->key_line = (unsigned)event->start_mark.line + 1;
		b->key_column = (unsigned)event->start_mark.column + 1;
		return 0;
	}
	rc = add_node(b, event, LB_NODE_SCALAR, &node);
	if (rc)
		return rc;
	node->text = text;
	node->len_bytes = (uint32_t)len;
	node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	node->is_null = node->is_plain && is_null_text(text);
	return 0;
}

static int take_document(struct builder *b, const yaml_event_t *event)
{
	if (b->n_documents++)
		return refuse(b, &event->start_mark,
			"a second document (---): a config is one document");
	if (event->data.document_start.tag_directives.start !=
		event->data.document_start.tag_directives.end)
		return refuse(b, &event->start_mark, "a %TAG directive: not supported");
	return 0;
}

static int take_event(struct builder *b, const yaml_event_t *event)
{
	int rc;

	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		return take_document(b, event);
	case YAML_ALIAS_EVENT:
		return refuse(b, &event->start_mark,
			"an alias (*): not supported, write the value out (quote a text that begins with *)");
	case YAML_SCALAR_EVENT:
		rc = refuse_decoration(b, event, event->data.scalar.anchor, event->data.scalar.tag);
		return rc ? rc : take_scalar(b, event);
	case YAML_SEQUENCE_START_EVENT:
		rc = refuse_decoration(b, event, event->data.sequence_start.anchor,
			event->data.sequence_start.tag);
		return rc ? rc : open_collection(b, event, LB_NODE_LIST);
	case YAML_MAPPING_START_EVENT:
		rc = refuse_decoration(b, event, event->data.mapping_start.anchor,
			event->data.mapping_start.tag);
		return rc ? rc : open_collection(b, event, LB_NODE_MAP);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		b->at = b->at->parent;
		b->depth--;
		return 0;
	default:
		return 0;
	}
}

static int build(struct builder *b)
{
	for (;;) {
		yaml_event_t event;
		bool is_end;
		int rc;

		if (!yaml_parser_parse(&b->parser, &event))
			return syntax_error(b);
		is_end = event.type == YAML_STREAM_END_EVENT;
		rc = take_event(b, &event);
		yaml_event_delete(&event);
		if (rc || is_end)
			return rc;
	}
}

/*
 * Characters that libyaml takes for something else than everybody: NUL for the end; and YAML 1.1's line
 * breaks U+0085, U+2028 and U+2029, which would be folded to spaces and shift the lines that we report.
 */
static int refuse_odd_characters(struct builder *b)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *message;
	} odd[] = {
		{"\0", 1, "a NUL byte: expected a YAML text in UTF-8"},
		{"\xc2\x85", 2, "the character U+0085 (next line): not supported"},
		{"\xe2\x80\xa8", 3, "the character U+2028 (line separator): not supported"},
		{"\xe2\x80\xa9", 3, "the character U+2029 (paragraph separator): not supported"},
	};

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		const char *at = memmem(b->text, b->len_bytes, odd[i].bytes, odd[i].n);

		if (!at)
			continue;
		b->error->line = line_of_offset(b, (size_t)(at - b->text));
		snprintf(b->error->message, sizeof(b->error->message), "%s", odd[i].message);
		return -EINVAL;
	}
	return 0;
}

int lb_tree_parse(struct lb_tree *tree, const char *text, size_t len_bytes,
	struct lb_tree_error *error)
{
	struct builder b = {.tree = tree, .error = error, .text = text, .len_bytes = len_bytes};
	int rc;

	memset(tree, 0, sizeof(*tree));
	memset(error, 0, sizeof(*error));
	// A byte-order mark in UTF-8 is what some editors leave; it says nothing.
	if (len_bytes >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {
		b.text += 3;
		b.len_bytes -= 3;
	}
	rc = refuse_odd_characters(&b);
	if (rc)
		return rc;
	if (!yaml_parser_initialize(&b.parser))
		return -ENOMEM;
	// Without this, libyaml would take the first bytes for a choice of UTF-16.
	yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&b.parser, (const unsigned char *)(b.len_bytes ? b.text : ""),
		b.len_bytes);
	rc = build(&b);
	yaml_parser_delete(&b.parser);
	if (!rc && !tree->root) {
		error->line = 1;
		snprintf(error->message, sizeof(error->message), "the text is empty");
		rc = -EINVAL;
	}
	return rc;
}
