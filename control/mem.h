/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_MEM_H
#define LB_CONTROL_MEM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Allocation of the daemon's own small objects. Without memory the process ends: its state is on
 * disk and in the shared region, forwarding goes on without it, and a restart resumes without a
 * flap: better than a half-applied change. What a request can make large (bodies, configs, JSON) is
 * checked for NULL instead.
 */
static inline void *lb_xcalloc(size_t n, size_t bytes)
{
	void *mem = calloc(n > 0 ? n : 1, bytes);

	if (mem == NULL) {
		fputs("out of memory\n", stderr);
		abort();
	}
	return mem;
}

static inline void *lb_xrealloc(void *old, size_t n, size_t bytes)
{
	void *mem = reallocarray(old, n > 0 ? n : 1, bytes);

	if (mem == NULL) {
		fputs("out of memory\n", stderr);
		abort();
	}
	return mem;
}

static inline char *lb_xstrdup(const char *text)
{
	size_t len = strlen(text) + 1;

	return memcpy(lb_xcalloc(len, 1), text, len);
}

#endif
