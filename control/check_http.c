/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The http and https checks: one GET on a connection of its own, by libcurl's multi interface. The answer's
 * status must be within the expected, the body (its first LB_HEALTH_MAX_BODY_BYTES) must hold the
 * expected text. No redirect is followed, no name resolved, no proxy asked; all that a server can
 * send is bounded.
 *
 * Easy handles are costly to make and some kilobytes each: probes in flight borrow one from a pool.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>

#include "control/health_internal.h"

#define MAX_POOLED 256u
#define URL_BYTES (LB_CONFIG_HOST_MAX + 24) // "https://[" address or name "]:65535/"
#define WEIGHT_HEADER "X-LB-Weight:"
#define CA_CACHE_S 60L // how long a CA file that was replaced is still used

enum http_verdict { NO_VERDICT, WRONG_STATUS, ENOUGH_BODY, TOO_MANY_HEADERS };

struct lb_health_http {
	struct event_base *base;
	CURLM *multi;
	struct event timer; /* libcurl's */
	SLIST_HEAD(, http_slot) pool;
	uint32_t n_pooled;
};

struct http_probe;

/* An easy handle and the state of the probe that borrows it. */
struct http_slot {
	SLIST_ENTRY(http_slot) link;
	CURL *easy;
	struct http_probe *probe;
	size_t header_bytes, body_bytes;
	size_t n_matched; /* bytes of the expected text that the body so far ends in */
	bool found;
	bool head_ended; /* the answer's headers, not those of a "100 Continue", came in whole */
	enum http_verdict verdict; /* why a callback made libcurl stop */
	int socket_error;          /* of our socket(); 0: none */
	bool in_handshake;         /* https: the connection is there */
	char weight[16];           /* the header's value; empty: none came */
	char error[CURL_ERROR_SIZE];
};

struct http_probe {
	struct lb_health_check *check;
	const char *target; /* config's */
	const char *needle; /* config's; NULL: any body */
	size_t needle_bytes;
	uint32_t *borders; /* Knuth-Morris-Pratt: so a match may span any number of reads */
	struct curl_slist *headers;
	struct curl_slist *connect_to; /* https: the backend, whatever name the URL has */
	bool is_tls;
	const char *invalid;    /* why nothing can be sent */
	struct http_slot *slot; /* NULL: none in flight */
	char url[URL_BYTES];
};

/* ---- libcurl on libevent ---- */

static void harvest(struct lb_health_http *http);

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct lb_health_http *http = arg;
	int n_running, action = 0;

	action |= what & EV_READ ? CURL_CSELECT_IN : 0;
	action |= what & EV_WRITE ? CURL_CSELECT_OUT : 0;
	curl_multi_socket_action(http->multi, fd, action, &n_running);
	harvest(http);
}

static void on_curl_timer(evutil_socket_t fd, short what, void *arg)
{
	struct lb_health_http *http = arg;
	int n_running;

	(void)fd, (void)what;
	curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &n_running);
	harvest(http);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct lb_health_http *http = arg;
	struct event *event = socket_arg;
	short events = EV_PERSIST;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (event)
			event_free(event);
		curl_multi_assign(http->multi, fd, NULL);
		return 0;
	}
	events |= what & CURL_POLL_IN ? EV_READ : 0;
	events |= what & CURL_POLL_OUT ? EV_WRITE : 0;
	if (event) {
		event_del(event);
		event_assign(event, http->base, fd, events, on_socket, http);
	} else {
		event = event_new(http->base, fd, events, on_socket, http);
		if (!event)
			return 0; // the deadline judges
		curl_multi_assign(http->multi, fd, event);
	}
	event_add(event, NULL);
	return 0;
}

static int set_timer(CURLM *multi, long wait_ms, void *arg)
{
	struct lb_health_http *http = arg;
	struct timeval wait = {wait_ms / 1000, wait_ms % 1000 * 1000};

	(void)multi;
	if (wait_ms < 0)
		event_del(&http->timer);
	else
		event_add(&http->timer, &wait);
	return 0;
}

int lb_health_http_create(struct event_base *base, struct lb_health_http **out)
{
	struct lb_health_http *http;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	http = calloc(1, sizeof(*http));
	if (!http)
		goto fail;
	http->base = base;
	SLIST_INIT(&http->pool);
	http->multi = curl_multi_init();
	if (!http->multi)
		goto fail;
	evtimer_assign(&http->timer, base, on_curl_timer, http);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, 1L); // none is kept
	*out = http;
	return 0;
fail:
	free(http);
	curl_global_cleanup();
	return -ENOMEM;
}

static void free_slot(struct http_slot *slot)
{
	curl_easy_cleanup(slot->easy);
	free(slot);
}

void lb_health_http_destroy(struct lb_health_http *http)
{
	struct http_slot *slot;

	while ((slot = SLIST_FIRST(&http->pool))) {
		SLIST_REMOVE_HEAD(&http->pool, link);
		free_slot(slot);
	}
	curl_multi_cleanup(http->multi); // may still set the timer
	event_del(&http->timer);
	free(http);
	curl_global_cleanup();
}

/* ---- what a server sends ---- */

static bool expected_status(const struct http_probe *probe, long status)
{
	const struct lb_config_check *config = &probe->check->config;

	return status >= config->expect_status_min && status <= config->expect_status_max;
}

// The line is no string. Of several headers the last counts.
static void note_weight(struct http_slot *slot, const char *data, size_t n)
{
	size_t skip = sizeof(WEIGHT_HEADER) - 1, len;

	if (n >= 5 && memcmp(data, "HTTP/", 5) == 0)
		slot->weight[0] = '\0'; // what came before was a "100 Continue"
	if (n < skip || strncasecmp(data, WEIGHT_HEADER, skip) != 0)
		return;
	while (skip < n && (data[skip] == ' ' || data[skip] == '\t'))
		skip++;
	while (n > skip && (unsigned char)data[n - 1] <= ' ')
		n--;
	len = n - skip < sizeof(slot->weight) - 1 ? n - skip : sizeof(slot->weight) - 1;
	memcpy(slot->weight, data + skip, len);
	slot->weight[len] = '\0';
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct http_slot *slot = arg;
	long status = 0;

	slot->header_bytes += size * n;
	note_weight(slot, data, size * n);
	if (slot->header_bytes > LB_HEALTH_MAX_HEADER_BYTES) {
		slot->verdict = TOO_MANY_HEADERS;
		return 0;
	}
	if (data[0] != '\r' && data[0] != '\n') // the empty line ends them
		return size * n;
	curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
	slot->head_ended = status >= 200;
	if (slot->head_ended && !expected_status(slot->probe, status)) {
		slot->verdict = WRONG_STATUS;
		return 0;
	}
	return size * n;
}

static void match(struct http_slot *slot, const char *data, size_t n)
{
	const struct http_probe *probe = slot->probe;

	for (size_t i = 0; i < n && !slot->found; i++) {
		while (slot->n_matched && probe->needle[slot->n_matched] != data[i])
			slot->n_matched = probe->borders[slot->n_matched - 1];
		slot->n_matched += probe->needle[slot->n_matched] == data[i];
		slot->found = slot->n_matched == probe->needle_bytes;
	}
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct http_slot *slot = arg;
	size_t left = LB_HEALTH_MAX_BODY_BYTES - slot->body_bytes;
	size_t take = size * n < left ? size * n : left;

	if (slot->probe->needle)
		match(slot, data, take);
	slot->body_bytes += take;
	if (slot->body_bytes == LB_HEALTH_MAX_BODY_BYTES) {
		slot->verdict = ENOUGH_BODY;
		return 0;
	}
	return size * n;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http_slot *slot = arg;
	int fd = lb_health_socket(address->family, SOCK_STREAM);

	(void)purpose;
	if (fd < 0) {
		slot->socket_error = -fd;
		return CURL_SOCKET_BAD;
	}
	return fd;
}

// Before the first byte of TLS. Nothing else tells when the connection was made.
static CURLcode on_handshake(CURL *easy, void *context, void *arg)
{
	struct http_slot *slot = arg;

	(void)easy, (void)context;
	slot->in_handshake = true;
	return CURLE_OK;
}

/* ---- the pool ---- */

// Options that are the same for every probe.
static CURL *make_easy(struct http_slot *slot)
{
	CURL *easy = curl_easy_init();

	if (!easy)
		return NULL;
	curl_easy_setopt(easy, CURLOPT_PRIVATE, slot);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, ""); // not the environment's either
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "fulcrum/" LB_VERSION);
	// A connection each: that new ones are accepted is the point.
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 4096L);
	// Ours are literal addresses; libcurl keeps those too, and looks through all for each probe
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
	curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, CA_CACHE_S);
#endif
	curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L); // a whole handshake is the check
	curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_handshake);
	curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, slot);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot->error);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, slot);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, slot);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, slot);
	return easy;
}

static struct http_slot *borrow_slot(struct lb_health_http *http, struct http_probe *probe)
{
	struct http_slot *slot = SLIST_FIRST(&http->pool);

	if (slot) {
		SLIST_REMOVE_HEAD(&http->pool, link);
		http->n_pooled--;
	} else {
		slot = calloc(1, sizeof(*slot));
		if (!slot)
			return NULL;
		slot->easy = make_easy(slot);
		if (!slot->easy) {
			free(slot);
			return NULL;
		}
	}
	*slot = (struct http_slot){.easy = slot->easy, .probe = probe};
	return slot;
}

static void return_slot(struct lb_health_http *http, struct http_slot *slot)
{
	slot->probe->slot = NULL;
	slot->probe = NULL;
	if (http->n_pooled >= MAX_POOLED) {
		free_slot(slot);
		return;
	}
	SLIST_INSERT_HEAD(&http->pool, slot, link);
	http->n_pooled++;
}

/* ---- judgement ---- */

struct outcome {
	enum lb_health_result result;
	int error; /* errno value that says it all; 0: @reason does */
	char reason[LB_HEALTH_REASON_BYTES];
};

static void judge_answer(const struct http_slot *slot, struct outcome *outcome)
{
	const struct http_probe *probe = slot->probe;
	long status = 0;

	curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
	outcome->result = LB_HEALTH_FAILED;
	if (!slot->head_ended) { // libcurl is content with this
		snprintf(outcome->reason, sizeof(outcome->reason), "answer cut short");
	} else if (!expected_status(probe, status)) {
		snprintf(outcome->reason, sizeof(outcome->reason), "HTTP %ld", status);
	} else if (probe->needle && !slot->found) {
		snprintf(outcome->reason, sizeof(outcome->reason),
			"HTTP %ld without the expected body (in %zu bytes)", status,
			slot->body_bytes);
	} else {
		outcome->result = LB_HEALTH_OK;
		snprintf(outcome->reason, sizeof(outcome->reason), "ok: HTTP %ld", status);
	}
}

static const char *error_reason(CURLcode code)
{
	switch (code) {
	case CURLE_GOT_NOTHING:
		return "connection closed without an answer";
	case CURLE_PARTIAL_FILE:
		return "answer cut short";
	case CURLE_UNSUPPORTED_PROTOCOL: // HTTP/0.9, as everything without a status line is
	case CURLE_WEIRD_SERVER_REPLY:
		return "answer is not HTTP/1.x";
	case CURLE_PEER_FAILED_VERIFICATION:
		return "certificate is not trusted";
	case CURLE_SSL_CONNECT_ERROR:
		return "TLS handshake failed";
	case CURLE_OUT_OF_MEMORY: // also a header line without end
		return "header line too long, or no memory";
	default:
		return curl_easy_strerror(code);
	}
}

// What libcurl and OpenSSL say of a handshake, if they say more than its code.
static void judge_tls(const struct http_slot *slot, CURLcode code, struct outcome *outcome)
{
	const char *detail = slot->error;
	const char *colon = strstr(detail, "SSL routines::");

	if (colon) // "error:0A00010B:SSL routines::wrong version number"
		detail = colon + strlen("SSL routines::");
	else if (strncmp(detail, "SSL: ", strlen("SSL: ")) == 0)
		detail += strlen("SSL: ");
	if (code == CURLE_SSL_CACERT_BADFILE) { // ours, not the backend's
		outcome->result = LB_HEALTH_NOT_JUDGED;
		snprintf(outcome->reason, sizeof(outcome->reason),
			"not checked: the CA file cannot be used");
		return;
	}
	snprintf(outcome->reason, sizeof(outcome->reason), detail[0] ? "%s: %s" : "%s",
		error_reason(code), detail);
}

static void judge_error(const struct http_slot *slot, CURLcode code, struct outcome *outcome)
{
	long error = 0;

	outcome->result = LB_HEALTH_FAILED;
	if (slot->verdict == TOO_MANY_HEADERS) {
		snprintf(outcome->reason, sizeof(outcome->reason), "more than %u bytes of headers",
			LB_HEALTH_MAX_HEADER_BYTES);
		return;
	}
	curl_easy_getinfo(slot->easy, CURLINFO_OS_ERRNO, &error);
	if (slot->socket_error)
		outcome->error = slot->socket_error;
	else if (code == CURLE_SSL_CACERT_BADFILE || code == CURLE_PEER_FAILED_VERIFICATION ||
		 code == CURLE_SSL_CONNECT_ERROR)
		judge_tls(slot, code, outcome);
	else if ((code == CURLE_COULDNT_CONNECT || code == CURLE_RECV_ERROR ||
			 code == CURLE_SEND_ERROR) &&
		 error > 0)
		outcome->error = (int)error;
	else
		snprintf(outcome->reason, sizeof(outcome->reason), "%s", error_reason(code));
}

static void finish(struct lb_health_http *http, struct http_slot *slot, CURLcode code)
{
	struct lb_health_check *check = slot->probe->check;
	struct outcome outcome = {0};
	struct lb_agent_words words = {0};
	char weight[sizeof(slot->weight)];

	if (code == CURLE_OK || slot->verdict == WRONG_STATUS || slot->verdict == ENOUGH_BODY)
		judge_answer(slot, &outcome);
	else
		judge_error(slot, code, &outcome);
	memcpy(weight, slot->weight, sizeof(weight));
	curl_multi_remove_handle(http->multi, slot->easy);
	return_slot(http, slot);
	if (outcome.result == LB_HEALTH_OK && check->config.weight_header) {
		if (weight[0] == '\0')
			lb_health_report(check, NULL, "");
		else if (lb_agent_parse_weight(weight, &words) == 0)
			lb_health_report(check, &words, weight);
		else
			snprintf(outcome.reason, sizeof(outcome.reason),
				"ok, but " WEIGHT_HEADER " is not 0..256 or NN%%");
	}
	if (outcome.error)
		lb_health_result_errno(check, outcome.error);
	else
		lb_health_result(check, outcome.result, "%s", outcome.reason);
}

static void harvest(struct lb_health_http *http)
{
	CURLMsg *message;
	int n_left;

	// A result's callback may destroy checks: libcurl drops messages of handles taken from it
	while ((message = curl_multi_info_read(http->multi, &n_left))) {
		struct http_slot *slot = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &slot);
		finish(http, slot, message->data.result);
	}
}

/* ---- the check type ---- */

// A text that goes into the request as it is must not bring a header of its own.
static bool is_clean(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text <= ' ' || *text == 0x7f)
			return false;
	}
	return true;
}

static int build_borders(struct http_probe *probe)
{
	size_t n = probe->needle_bytes, k = 0;

	probe->borders = calloc(n, sizeof(*probe->borders));
	if (!probe->borders)
		return -ENOMEM;
	for (size_t i = 1; i < n; i++) {
		while (k && probe->needle[k] != probe->needle[i])
			k = probe->borders[k - 1];
		k += probe->needle[k] == probe->needle[i];
		probe->borders[i] = (uint32_t)k;
	}
	return 0;
}

static int build_headers(struct http_probe *probe, const char *host)
{
	struct curl_slist *more;
	char *line;

	probe->headers = curl_slist_append(NULL, "Connection: close");
	if (!probe->headers)
		return -ENOMEM;
	if (!host)
		return 0;
	if (asprintf(&line, "Host: %s", host) < 0)
		return -ENOMEM;
	more = curl_slist_append(probe->headers, line);
	free(line);
	return more ? 0 : -ENOMEM;
}

static void http_destroy(void *data)
{
	struct http_probe *probe = data;

	curl_slist_free_all(probe->headers);
	curl_slist_free_all(probe->connect_to);
	free(probe->borders);
	free(probe);
}

/*
 * The URL's name is what SNI says and the certificate must be for: `sni`, else the name of `host`, else
 * the address (no SNI then, RFC 6066, 3). CONNECT_TO leads to the backend all the same.
 */
static int build_url(struct http_probe *probe, const struct lb_config_check *config)
{
	const struct lb_health_check *check = probe->check;
	bool is_ipv4 = lb_addr_is_ipv4(&check->endpoint.addr);
	unsigned port = be16toh(lb_health_check_port_be(check, config));
	char text[LB_ADDR_STRLEN], address[LB_ADDR_STRLEN + 2], name[LB_CONFIG_HOST_MAX + 1] = "";
	char line[LB_ADDR_STRLEN + 16];

	snprintf(address, sizeof(address), is_ipv4 ? "%s" : "[%s]",
		lb_addr_format(&check->endpoint.addr, text));
	if (probe->is_tls && config->sni)
		snprintf(name, sizeof(name), "%s", config->sni);
	else if (probe->is_tls && config->host && config->host[0] != '[')
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(config->host, ":"), config->host);
	snprintf(probe->url, sizeof(probe->url), "%s://%s:%u/", probe->is_tls ? "https" : "http",
		name[0] ? name : address, port);
	if (!name[0])
		return 0;
	snprintf(line, sizeof(line), "::%s:%u", address, port);
	probe->connect_to = curl_slist_append(NULL, line);
	return probe->connect_to ? 0 : -ENOMEM;
}

static void *http_create(struct lb_health_check *check, const struct lb_config_check *config)
{
	struct http_probe *probe = calloc(1, sizeof(*probe));

	if (!probe)
		return NULL;
	probe->check = check;
	probe->is_tls = config->type == LB_CHECK_HTTPS;
	probe->target = config->path && config->path[0] ? config->path : "/";
	if (!is_clean(probe->target))
		probe->invalid = "path has a space or a control character";
	else if (config->host && !is_clean(config->host))
		probe->invalid = "host has a space or a control character";
	if (config->expect_body && config->expect_body[0]) {
		probe->needle = config->expect_body;
		probe->needle_bytes = strlen(probe->needle);
	}
	if (build_url(probe, config) < 0 || build_headers(probe, config->host) < 0 || (probe->needle && build_borders(probe) < 0)) {
		http_destroy(probe);
		return NULL;
	}
	return probe;
}

/*
 * Whom to trust: the file given and nobody else, or whom the system does. A directory of certificates keeps
 * libcurl from caching them: it is set only where there is no file.
 */
static CURLcode set_trust(const struct http_probe *probe, CURL *easy)
{
	const struct lb_config_check *config = &probe->check->config;
	const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
	const char *file = config->ca_file ? config->ca_file : info->cainfo;
	CURLcode code = curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, config->verify ? 1L : 0L);

	if (code == CURLE_OK)
		code = curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, config->verify ? 2L : 0L);
	if (code == CURLE_OK)
		code = curl_easy_setopt(easy, CURLOPT_CAINFO, file);
	if (code == CURLE_OK)
		code = curl_easy_setopt(easy, CURLOPT_CAPATH, file ? NULL : info->capath);
	return code;
}

static int http_start(void *data)
{
	struct http_probe *probe = data;
	struct lb_health_http *http = probe->check->health->http;
	struct http_slot *slot;

	slot = borrow_slot(http, probe);
	if (!slot)
		return -ENOMEM;
	probe->slot = slot;
	if (curl_easy_setopt(slot->easy, CURLOPT_URL, probe->url) != CURLE_OK ||
		curl_easy_setopt(slot->easy, CURLOPT_REQUEST_TARGET, probe->target) != CURLE_OK ||
		curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, probe->headers) != CURLE_OK ||
		curl_easy_setopt(slot->easy, CURLOPT_CONNECT_TO, probe->connect_to) != CURLE_OK ||
		(probe->is_tls && set_trust(probe, slot->easy) != CURLE_OK) ||
		curl_multi_add_handle(http->multi, slot->easy) != CURLM_OK) {
		return_slot(http, slot);
		return -ENOMEM;
	}
	return 0;
}

static void http_cancel(void *data)
{
	struct http_probe *probe = data;
	struct lb_health_http *http = probe->check->health->http;

	curl_multi_remove_handle(http->multi, probe->slot->easy);
	return_slot(http, probe->slot);
}

static const char *http_invalid(const void *data)
{
	return ((const struct http_probe *)data)->invalid;
}

static const char *http_phase(const void *data)
{
	const struct http_probe *probe = data;
	double connected_s = 0;

	curl_easy_getinfo(probe->slot->easy,
		probe->is_tls ? CURLINFO_APPCONNECT_TIME : CURLINFO_CONNECT_TIME, &connected_s);
	if (connected_s <= 0)
		return probe->slot->in_handshake ? "in the TLS handshake" : "connecting";
	if (probe->slot->header_bytes == 0)
		return "waiting for the answer";
	return probe->slot->body_bytes ? "reading the body" : "reading the headers";
}

const struct lb_health_ops lb_check_http_ops = {
	.create = http_create,
	.destroy = http_destroy,
	.start = http_start,
	.cancel = http_cancel,
	.phase = http_phase,
	.invalid = http_invalid,
};
