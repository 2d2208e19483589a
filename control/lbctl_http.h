/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_LBCTL_HTTP_H
#define LB_CONTROL_LBCTL_HTTP_H

#include <stddef.h>

/*
 * One HTTP/1.1 request over a Unix socket (libcurl). The other side is not trusted: an answer has a
 * largest size and a last moment, redirects are not followed, proxies of the environment are not
 * used.
 */

/* As large as the largest answer can get (65535 backends with their counters), with room. */
#define LBCTL_HTTP_MAX_BYTES (512u << 20)

struct lbctl_http_request {
	const char *socket_path;
	const char *method;
	const char *path; /* with its query, percent-encoded */
	const char *body; /* NULL: none */
	size_t body_bytes;
	const char *content_type; /* of the body */
	unsigned timeout_ms;      /* for the whole exchange */
};

struct lbctl_http_response {
	long status;
	char *body; /* NUL-terminated; freed by lbctl_http_response_fini() */
	size_t body_bytes;
};

/**
 * Make @p request. The answer is in @p response, to be finished in every case.
 * @param error  what went wrong, a sentence without a dot, of @p error_bytes.
 * @return 0; -ECONNREFUSED, -ENOENT, -EACCES, ...: could not connect; -ETIMEDOUT no whole answer in
 * time; -ECONNRESET closed without an answer; -EPROTO the answer is no HTTP, or is cut; -EFBIG it
 * is too large; -ENAMETOOLONG the socket's path does not fit into a socket address.
 */
int lbctl_http(const struct lbctl_http_request *request, struct lbctl_http_response *response,
	char *error, size_t error_bytes);

void lbctl_http_response_fini(struct lbctl_http_response *response);

#endif
