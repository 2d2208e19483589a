/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_NGINX_H
#define LB_CONTROL_NGINX_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The syntax of NGINX's configuration files: words up to ";" or a block in braces, quotes,
 * comments, "include". What directives mean is not known here, but for "include" and for blocks of
 * Lua, whose text is no configuration and is skipped.
 */

#define LB_NGINX_MAX_BYTES (16u << 20)     /* of one file */
#define LB_NGINX_MAX_ALL_BYTES (64u << 20) /* of all files */
#define LB_NGINX_MAX_DEPTH 32u         /* of blocks and includes within each other */
#define LB_NGINX_MAX_DIRECTIVES 1000000u
#define LB_NGINX_MAX_WORDS 4096u /* of one directive */
#define LB_NGINX_MAX_FILES 4096u

struct lb_nginx_directive {
	const char *file; /* as it was opened; owned by the tree */
	unsigned line;
	char **words; /* n_words >= 1; words[0] is the directive's name, quotes taken off */
	size_t n_words;
	bool is_block; /* "{ ... }", or an include that could be read */
	struct lb_nginx_directive *children;
	size_t n_children;
	char *problem; /* of an include: why it could not be read; else NULL */
};

struct lb_nginx {
	struct lb_nginx_directive root; /* words: none */
	char **files;                   /* names of all files read */
	size_t n_files;
	size_t n_directives, n_bytes;
};

/**
 * Read @p path ("-": standard input) and what it includes. An include of a file that cannot be read
 * is no error: its directive says so in .problem. Relative names of includes begin at the folder of
 * @p path.
 * @param nginx zeroed; to be freed by lb_nginx_fini() in any case.
 * @param error receives "FILE:LINE: reason" in new memory, to be freed, unless 0 is returned.
 * @return 0; -EINVAL wrong syntax, or a limit above; -errno: @p path cannot be read.
 */
int lb_nginx_read(const char *path, struct lb_nginx *nginx, char **error);
void lb_nginx_fini(struct lb_nginx *nginx);

#endif
