/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/nginx.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "control/lbctl_text.h"

/* Where we are in one file. */
struct cursor {
	struct lb_nginx *nginx;
	const char *folder; /* of the first file: where relative includes begin */
	const char *file;
	const char *at, *end;
	unsigned line;
	unsigned depth;
	char **error;
};

enum end { END_OF_FILE, END_OF_BLOCK, END_OF_DIRECTIVE, BEGIN_OF_BLOCK };

static int fail(const struct cursor *c, unsigned line, const char *reason)
{
	*c->error = lbctl_text_printf("%s:%u: %s", c->file, line, reason);
	return -EINVAL;
}

static int read_text(const char *path, char **text, size_t *n_bytes)
{
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *file = is_stdin ? stdin : fopen(path, "re");
	struct stat stat;
	size_t n_room = 0;
	int rc = 0;

	*text = NULL;
	*n_bytes = 0;
	if (file == NULL)
		return -errno;
	// A FIFO would block for ever, a directory cannot be read.
	if (!is_stdin && (fstat(fileno(file), &stat) < 0 || !S_ISREG(stat.st_mode))) {
		fclose(file);
		return -EISDIR;
	}
	do {
		if (*n_bytes == n_room) {
			n_room = 2 * n_room + 65536;
			*text = lbctl_text_realloc(*text, n_room);
		}
		*n_bytes += fread(*text + *n_bytes, 1, n_room - *n_bytes, file);
	} while (!feof(file) && !ferror(file) && *n_bytes <= LB_NGINX_MAX_BYTES);
	if (ferror(file))
		rc = -EIO;
	else if (*n_bytes > LB_NGINX_MAX_BYTES)
		rc = -EFBIG;
	if (!is_stdin)
		fclose(file);
	if (rc < 0) {
		free(*text);
		*text = NULL;
		return rc;
	}
	*text = lbctl_text_realloc(*text, *n_bytes + 1);
	(*text)[*n_bytes] = '\0';
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_blanks(struct cursor *c)
{
	for (; c->at < c->end; c->at++) {
		if (*c->at == '#')
			while (c->at + 1 < c->end && c->at[1] != '\n')
				c->at++;
		else if (!is_blank(*c->at))
			return;
		c->line += *c->at == '\n';
	}
}

// A quoted word: the quotes go, and the backslash before a quote or another backslash.
static int read_quoted(struct cursor *c, char **word)
{
	unsigned line = c->line;
	char quote = *c->at++;
	const char *end = c->at;
	size_t n = 0;

	// Its end first: memory for each word is that of the word, not of the rest of the file.
	while (end < c->end && *end != quote)
		end += *end == '\\' && end + 1 < c->end ? 2 : 1;
	if (end >= c->end)
		return fail(c, line, "the quotation that begins here has no end");
	*word = lbctl_text_realloc(NULL, (size_t)(end - c->at) + 1);
	for (; c->at < end; c->at++) {
		if (*c->at == '\\' && (c->at[1] == quote || c->at[1] == '\\'))
			c->at++;
		c->line += *c->at == '\n';
		(*word)[n++] = *c->at;
	}
	(*word)[n] = '\0';
	c->at++;
	return 0;
}

static int read_word(struct cursor *c, char **word)
{
	const char *begin = c->at;

	if (*c->at == '"' || *c->at == '\'')
		return read_quoted(c, word);
	for (; c->at < c->end && !is_blank(*c->at); c->at++) {
		if (*c->at == '\\' && c->at + 1 < c->end && c->at[1] != '\n')
			c->at++;
		else if (*c->at == '$' && c->at + 1 < c->end && c->at[1] == '{')
			c->at++; // "${name}" belongs to the word
		else if (*c->at == ';' || *c->at == '{')
			break;
	}
	*word = lbctl_text_printf("%.*s", (int)(c->at - begin), begin);
	return 0;
}

// Words up to ";" or "{".
static int read_words(struct cursor *c, struct lb_nginx_directive *directive, enum end *end)
{
	for (;;) {
		char *word;
		int rc;

		skip_blanks(c);
		if (c->at == c->end && directive->n_words == 0) {
			*end = END_OF_FILE;
			return 0;
		}
		if (c->at == c->end)
			return fail(c, directive->line,
				"the directive that begins here has no end: expected \";\" or "
				"\"{\"");
		if (directive->n_words == 0)
			directive->line = c->line;
		if (*c->at == '}' || *c->at == ';' || *c->at == '{') {
			char mark = *c->at++;

			if (mark == '}' && directive->n_words == 0) {
				*end = END_OF_BLOCK;
				return 0;
			}
			if (mark == '}' || directive->n_words == 0)
				return fail(c, c->line,
					mark == '}' ? "unexpected \"}\": the directive before it "
						      "has no \";\""
						    : "expected a directive before \";\" or \"{\"");
			*end = mark == ';' ? END_OF_DIRECTIVE : BEGIN_OF_BLOCK;
			return 0;
		}
		if (directive->n_words == LB_NGINX_MAX_WORDS)
			return fail(
				c, directive->line, "a directive of more words than NGINX takes");
		rc = read_word(c, &word);
		if (rc < 0)
			return rc;
		directive->words = lbctl_text_realloc(
			directive->words, (directive->n_words + 1) * sizeof(*directive->words));
		directive->words[directive->n_words++] = word;
	}
}

// Past a string of Lua, or a comment to the end of the line; @return whether there was one.
static bool skip_lua_text(struct cursor *c)
{
	char quote = *c->at;

	if (c->at + 1 < c->end && quote == '-' && c->at[1] == '-') {
		while (c->at + 1 < c->end && c->at[1] != '\n')
			c->at++;
		return true;
	}
	if (quote != '"' && quote != '\'')
		return false;
	for (c->at++; c->at < c->end && *c->at != quote; c->at++) {
		c->at += *c->at == '\\' && c->at + 1 < c->end;
		c->line += *c->at == '\n';
	}
	return true;
}

static int skip_lua(struct cursor *c, unsigned line)
{
	unsigned depth = 1;

	for (; c->at < c->end; c->at++) {
		if (skip_lua_text(c)) {
			if (c->at == c->end)
				break;
			continue;
		}
		c->line += *c->at == '\n';
		if (*c->at == '{') {
			depth++;
		} else if (*c->at == '}' && --depth == 0) {
			c->at++;
			return 0;
		}
	}
	return fail(c, line, "the block that begins here has no \"}\"");
}

static int read_block(struct cursor *c, struct lb_nginx_directive *parent);

static int read_file(struct lb_nginx *nginx, const char *folder, const char *path, unsigned depth,
	struct lb_nginx_directive *parent, char **error)
{
	struct cursor c = {
		.nginx = nginx, .folder = folder, .line = 1, .depth = depth, .error = error};
	char *text, *name = lbctl_text_copy(strcmp(path, "-") == 0 ? "<stdin>" : path);
	size_t n_bytes;
	int rc;

	if (nginx->n_files == LB_NGINX_MAX_FILES) {
		*error = lbctl_text_printf(
			"%s: more than %u files included", name, LB_NGINX_MAX_FILES);
		free(name);
		return -EINVAL;
	}
	nginx->files =
		lbctl_text_realloc(nginx->files, (nginx->n_files + 1) * sizeof(*nginx->files));
	nginx->files[nginx->n_files++] = name;
	c.file = name;
	rc = read_text(path, &text, &n_bytes);
	if (rc < 0) {
		*error = lbctl_text_printf(
			"%s: %s", name, rc == -EISDIR ? "not a regular file" : strerror(-rc));
		return rc;
	}
	c.at = text;
	c.end = text + n_bytes;
	nginx->n_bytes += n_bytes;
	if (nginx->n_bytes > LB_NGINX_MAX_ALL_BYTES)
		rc = fail(&c, 1,
			"with this file the configuration is larger than this program takes");
	else if (memchr(text, '\0', n_bytes) != NULL)
		rc = fail(&c, 1, "a file with NUL bytes is no configuration");
	while (rc == 0) {
		rc = read_block(&c, parent);
		if (rc == 0 && c.at < c.end)
			rc = fail(&c, c.line, "unexpected \"}\": no block is open");
		else
			break;
	}
	free(text);
	return rc;
}

// Wrong syntax in an included file is an error; a file that is not there is a problem to be told
// of.
static int include(struct cursor *c, struct lb_nginx_directive *directive)
{
	const char *name = directive->n_words == 2 ? directive->words[1] : NULL;
	char *path;
	glob_t found;
	int rc;

	if (name == NULL)
		return fail(c, directive->line, "expected one file name after \"include\"");
	path = name[0] == '/' ? lbctl_text_copy(name) : lbctl_text_printf("%s/%s", c->folder, name);
	rc = glob(path, 0, NULL, &found);
	if (rc != 0) {
		bool none_wanted = rc == GLOB_NOMATCH && strpbrk(name, "*?[") != NULL;

		directive->is_block = none_wanted;
		if (!none_wanted)
			directive->problem = lbctl_text_printf("cannot read %s", path);
		free(path);
		return 0;
	}
	free(path);
	rc = 0;
	for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++) {
		rc = read_file(
			c->nginx, c->folder, found.gl_pathv[i], c->depth + 1, directive, c->error);
		if (rc < 0 && rc != -EINVAL) {
			directive->problem = *c->error;
			*c->error = NULL;
			rc = 0;
		}
	}
	directive->is_block = directive->problem == NULL;
	globfree(&found);
	return rc;
}

static bool is_lua(const char *name)
{
	size_t n = strlen(name), n_suffix = strlen("_by_lua_block");

	return n > n_suffix && strcmp(name + n - n_suffix, "_by_lua_block") == 0;
}

static struct lb_nginx_directive *add_child(struct lb_nginx_directive *parent)
{
	// Grows by doubling: whenever the count is a power of two the room is used up.
	if ((parent->n_children & (parent->n_children - 1)) == 0)
		parent->children = lbctl_text_realloc(
			parent->children, (parent->n_children == 0 ? 1 : 2 * parent->n_children) *
						  sizeof(*parent->children));
	return &parent->children[parent->n_children++];
}

// Directives up to the "}" of the block, or to the end of the file (@p parent then a file's).
static int read_block(struct cursor *c, struct lb_nginx_directive *parent)
{
	if (c->depth > LB_NGINX_MAX_DEPTH)
		return fail(c, c->line, "blocks or includes within each other too deeply");
	for (;;) {
		struct lb_nginx_directive *directive = add_child(parent);
		enum end end = END_OF_FILE;
		int rc;

		*directive = (struct lb_nginx_directive){.file = c->file, .line = c->line};
		rc = read_words(c, directive, &end);
		if (rc < 0)
			return rc;
		if (end == END_OF_FILE || end == END_OF_BLOCK) {
			parent->n_children--;
			// The caller of a block checks that it did not end with the file.
			c->at -= end == END_OF_BLOCK;
			return 0;
		}
		if (++c->nginx->n_directives > LB_NGINX_MAX_DIRECTIVES)
			return fail(c, c->line, "more directives than this program takes");
		if (end == BEGIN_OF_BLOCK && is_lua(directive->words[0])) {
			rc = skip_lua(c, directive->line);
		} else if (end == BEGIN_OF_BLOCK) {
			directive->is_block = true;
			c->depth++;
			rc = read_block(c, directive);
			c->depth--;
			if (rc == 0 && c->at == c->end)
				rc = fail(c, directive->line,
					"the block that begins here has no \"}\"");
			c->at += rc == 0;
		} else if (strcmp(directive->words[0], "include") == 0) {
			rc = include(c, directive);
		}
		if (rc < 0)
			return rc;
	}
}

int lb_nginx_read(const char *path, struct lb_nginx *nginx, char **error)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash == NULL ? lbctl_text_copy(".")
				     : lbctl_text_printf("%.*s", (int)(slash - path), path);
	int rc = read_file(nginx, folder, path, 0, &nginx->root, error);

	free(folder);
	return rc;
}

static void directive_fini(struct lb_nginx_directive *directive)
{
	for (size_t i = 0; i < directive->n_children; i++)
		directive_fini(&directive->children[i]);
	for (size_t i = 0; i < directive->n_words; i++)
		free(directive->words[i]);
	free(directive->words);
	free(directive->children);
	free(directive->problem);
}

void lb_nginx_fini(struct lb_nginx *nginx)
{
	directive_fini(&nginx->root);
	for (size_t i = 0; i < nginx->n_files; i++)
		free(nginx->files[i]);
	free(nginx->files);
	*nginx = (struct lb_nginx){0};
}
