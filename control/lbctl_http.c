/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/lbctl_http.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include <curl/curl.h>

#include "control/lbctl_text.h"

struct sink {
	struct lbctl_http_response *response;
	size_t n_allocated;
	bool too_large;
};

static size_t receive(char *data, size_t size, size_t n, void *arg)
{
	struct sink *sink = arg;
	struct lbctl_http_response *response = sink->response;
	size_t n_bytes = size * n;

	if (n_bytes > LBCTL_HTTP_MAX_BYTES - response->body_bytes) {
		sink->too_large = true;
		return 0;
	}
	if (response->body_bytes + n_bytes + 1 > sink->n_allocated) {
		sink->n_allocated = 2 * (response->body_bytes + n_bytes) + 4096;
		response->body = lbctl_text_realloc(response->body, sink->n_allocated);
	}
	memcpy(response->body + response->body_bytes, data, n_bytes);
	response->body_bytes += n_bytes;
	response->body[response->body_bytes] = '\0';
	return n_bytes;
}

// libcurl's result as ours. Before a connection is made, errno of connect() is the better reason.
static int explain(CURL *curl, CURLcode code, const struct sink *sink,
	const struct lbctl_http_request *request, char *error, size_t error_bytes)
{
	long os_errno = 0, status = 0;

	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	if (status > 0 && (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR))
		code = CURLE_PARTIAL_FILE; // an answer had begun
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_CONNECT:
		curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_errno);
		if (os_errno <= 0)
			os_errno = ECONNREFUSED;
		snprintf(error, error_bytes, "cannot connect: %s", strerror((int)os_errno));
		return (int)-os_errno;
	case CURLE_OPERATION_TIMEDOUT:
		snprintf(error, error_bytes, "no answer within %u ms", request->timeout_ms);
		return -ETIMEDOUT;
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		snprintf(error, error_bytes, "closed the connection without an answer");
		return -ECONNRESET;
	default:
		if (sink->too_large) {
			snprintf(error, error_bytes, "the answer is larger than %u MiB",
				LBCTL_HTTP_MAX_BYTES >> 20);
			return -EFBIG;
		}
		snprintf(error, error_bytes, "the answer is no valid HTTP: %s",
			curl_easy_strerror(code));
		return -EPROTO;
	}
}

static struct curl_slist *set_options(
	CURL *curl, const struct lbctl_http_request *request, const char *url, struct sink *sink)
{
	struct curl_slist *headers = NULL;
	char *type;

	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, request->socket_path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
	// A service may be called "..": its path must arrive as it was built.
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, sink);
	if (request->body != NULL) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
		curl_easy_setopt(
			curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_bytes);
		type = lbctl_text_printf("Content-Type: %s", request->content_type);
		headers = curl_slist_append(headers, type);
		free(type);
		// Without it a large body would wait for "100 Continue" for a second.
		headers = curl_slist_append(headers, "Expect:");
		curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	}
	return headers;
}

int lbctl_http(const struct lbctl_http_request *request, struct lbctl_http_response *response,
	char *error, size_t error_bytes)
{
	struct sink sink = {.response = response};
	struct curl_slist *headers;
	CURL *curl;
	char *url;
	int r;

	*response = (struct lbctl_http_response){.body = lbctl_text_copy("")};
	if (strlen(request->socket_path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
		snprintf(error, error_bytes, "the path is too long for a socket");
		return -ENAMETOOLONG;
	}
	// No TLS is spoken here: its library need not be set up.
	if (curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK) {
		snprintf(error, error_bytes, "cannot start an HTTP client");
		return -ENOMEM;
	}
	curl = curl_easy_init();
	if (curl == NULL) {
		snprintf(error, error_bytes, "cannot start an HTTP client");
		return -ENOMEM;
	}
	url = lbctl_text_printf("http://fulcrum%s", request->path);
	headers = set_options(curl, request, url, &sink);
	r = explain(curl, curl_easy_perform(curl), &sink, request, error, error_bytes);
	if (r == 0)
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response->status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(curl);
	free(url);
	return r;
}

void lbctl_http_response_fini(struct lbctl_http_response *response)
{
	free(response->body);
	*response = (struct lbctl_http_response){0};
}
