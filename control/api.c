/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/api.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "control/document.h"
#include "control/json.h"
#include "control/mem.h"
#include "lb/log.h"

#define GROUP_NAME "fulcrum"
#define MAX_HEADER_BYTES 16384
#define TIMEOUT_S 30 /* of a client that does not go on reading or writing */
#define TCP_TIMEOUT_S 5
/* Sockets must be left for the health checks, whatever clients do. */
#define MAX_CONNECTIONS 128u
#define MAX_TCP_CONNECTIONS 32u
#define MAX_SINGLE_WRITE (1u << 20) /* libevent's 16 KiB would need a turn of the loop each */
#define MAX_UNREAD_BYTES 65536u /* of what a client sends before it has read its answer */
#define BACKLOG 256         /* those who wait while the limit is reached */
#define ACCEPT_PAUSE_MS 200 /* after a failed accept, usually for want of file descriptors */

/* One listening side. */
struct server {
	struct lb_api *api;
	struct evhttp *http;
	struct evconnlistener *listener; /* http's */
	unsigned n_connections, max_connections;
	bool is_tcp;
	bool stopped; /* goes with its last connection, which libevent frees late */
};

struct lb_api {
	struct lb_model *model;
	char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	bool owns_socket;
	struct server *unix_side, *tcp_side; /* the second may be NULL */
	TAILQ_HEAD(, lb_api_request) requests;   /* not answered yet */
	struct lb_documents *documents;          /* of these requests */
	const char **hosts; /* that the TCP side may be asked for by, beside addresses */
	size_t n_hosts;
	char own_host[HOST_NAME_MAX + 1];
};

struct route {
	enum evhttp_cmd_type method;
	const char *path; /* "*" stands for one segment */
	lb_api_handler *handler;
	bool whole_config; /* the body may be large */
	bool on_tcp;       /* served on --listen too: shows, and changes nothing */
};

static const struct route routes[] = {
	{EVHTTP_REQ_GET, "", lb_api_dashboard, false, true},
	{EVHTTP_REQ_GET, "v1/version", lb_api_version, false, true},
	{EVHTTP_REQ_GET, "v1/status", lb_api_status, false, true},
	{EVHTTP_REQ_GET, "v1/services", lb_api_services, false, true},
	{EVHTTP_REQ_POST, "v1/services", lb_api_service_add, false, false},
	{EVHTTP_REQ_GET, "v1/services/*", lb_api_service, false, true},
	{EVHTTP_REQ_PATCH, "v1/services/*", lb_api_service_set, false, false},
	{EVHTTP_REQ_DELETE, "v1/services/*", lb_api_service_del, false, false},
	{EVHTTP_REQ_POST, "v1/services/*/backends", lb_api_backend_add, false, false},
	{EVHTTP_REQ_PATCH, "v1/services/*/backends/*", lb_api_backend_set, false, false},
	{EVHTTP_REQ_DELETE, "v1/services/*/backends/*", lb_api_backend_del, false, false},
	{EVHTTP_REQ_GET, "v1/backends", lb_api_backends, false, true},
	{EVHTTP_REQ_GET, "v1/stats", lb_api_stats, false, true},
	{EVHTTP_REQ_GET, "v1/drops", lb_api_drops, false, true},
	{EVHTTP_REQ_GET, "v1/events", lb_api_events, false, true},
	{EVHTTP_REQ_GET, "v1/trace", lb_api_trace, false, false},
	{EVHTTP_REQ_GET, "v1/flows", lb_api_flows, false, false},
	{EVHTTP_REQ_GET, "v1/sessions", lb_api_sessions, false, false},
	{EVHTTP_REQ_POST, "v1/flows/flush", lb_api_flush, false, false},
	{EVHTTP_REQ_GET, "v1/config", lb_api_config_get, false, false},
	{EVHTTP_REQ_PUT, "v1/config", lb_api_config_put, true, false},
	{EVHTTP_REQ_POST, "v1/diff", lb_api_config_diff, true, false},
	{EVHTTP_REQ_GET, "v1/announce", lb_api_announce, false, true},
	{EVHTTP_REQ_PUT, "v1/maintenance", lb_api_maintenance, false, false},
	{EVHTTP_REQ_GET, "metrics", lb_api_metrics, false, true},
};
#define N_ROUTES (sizeof(routes) / sizeof(routes[0]))

struct lb_model *lb_api_model(const struct lb_api *api)
{
	return api->model;
}

struct lb_documents *lb_api_documents(const struct lb_api *api)
{
	return api->documents;
}

/* Requests. */

static void request_end(struct lb_api_request *request)
{
	TAILQ_REMOVE(&request->api->requests, request, link);
	if (request->cancel != NULL)
		request->cancel(request);
	for (size_t i = 0; i < request->n_segments; i++)
		free(request->segments[i]);
	evhttp_clear_headers(&request->query);
	free(request);
}

static void limit_input(struct evhttp_connection *connection, size_t max_bytes)
{
	if (connection != NULL)
		bufferevent_setwatermark(evhttp_connection_get_bufferevent(connection), EV_READ, 0, max_bytes);
}

static void on_answered(struct evhttp_request *http, void *arg)
{
	(void)arg;
	limit_input(evhttp_request_get_connection(http), 0); // a body may be large: it is read whole
}

static void begin_answer(struct lb_api_request *request, const char *content_type)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request->http);

	// libevent goes on reading, to see the client go, but takes nothing of it until the answer is out
	limit_input(request->connection, MAX_UNREAD_BYTES);
	evhttp_request_set_on_complete_cb(request->http, on_answered, NULL);
	evhttp_add_header(headers, "Content-Type", content_type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
}

void lb_api_reply_buffer(
	struct lb_api_request *request, int status, const char *content_type, struct evbuffer *body)
{
	begin_answer(request, content_type);
	evhttp_send_reply(request->http, status, NULL, body);
	request_end(request);
}

static void send_text(struct lb_api_request *request, int status, const char *content_type,
	const char *text, size_t len)
{
	struct evbuffer *body = evbuffer_new();

	if (body == NULL || evbuffer_add(body, text, len) < 0)
		status = 500;
	lb_api_reply_buffer(request, status, content_type, body);
	if (body != NULL)
		evbuffer_free(body);
}

void lb_api_reply_text(
	struct lb_api_request *request, int status, const char *content_type, const char *text)
{
	send_text(request, status, content_type, text, strlen(text));
}

void lb_api_reply(struct lb_api_request *request, int status, json_t *json)
{
	static const char no_memory[] = "{\"error\": {\"code\": \"internal\", \"message\": \"out "
					"of memory\", \"where\": null}}\n";
	char *text = json != NULL ? json_dumps(json, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15)) : NULL;
	size_t len;

	json_decref(json);
	if (text == NULL) {
		lb_api_reply_text(request, 500, "application/json", no_memory);
		return;
	}
	len = strlen(text);
	text[len] = '\n'; // in the place of the NUL
	send_text(request, status, "application/json", text, len + 1);
	free(text);
}

void lb_api_reply_written(struct lb_api_request *request, int status, struct lb_writer *json)
{
	lb_writer_bytes(json, "\n", 1);
	if (json->failed)
		lb_api_reply(request, 500, NULL);
	else
		send_text(request, status, "application/json", json->text, json->len);
	lb_writer_fini(json);
}

void lb_api_stream_begin(struct lb_api_request *request, const char *content_type)
{
	begin_answer(request, content_type);
	evhttp_send_reply_start(request->http, 200, NULL);
}

void lb_api_stream(struct lb_api_request *request, struct evbuffer *body,
	void (*drained)(struct evhttp_connection *connection, void *arg), void *arg)
{
	evhttp_send_reply_chunk_with_cb(request->http, body, drained, arg);
}

size_t lb_api_stream_pending(const struct lb_api_request *request)
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(request->connection);

	return evbuffer_get_length(bufferevent_get_output(bev));
}

void lb_api_stream_end(struct lb_api_request *request)
{
	evhttp_send_reply_end(request->http);
	request_end(request);
}

void lb_api_stream_abort(struct lb_api_request *request)
{
	evhttp_connection_free(request->connection); // calls on_close()
}

void lb_api_error(struct lb_api_request *request, int status, const char *code, const char *where,
	const char *format, ...)
{
	char message[800];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	lb_api_reply(request, status,
		json_pack("{s:{s:s, s:o, s:o}}", "error", "code", code, "message",
			lb_json_text(message), "where", lb_json_text(where)));
}

const char *lb_api_param(const struct lb_api_request *request, const char *name)
{
	return evhttp_find_header(&request->query, name);
}

bool lb_api_flag(const struct lb_api_request *request, const char *name)
{
	const char *value = lb_api_param(request, name);

	return value != NULL &&
	       (strcmp(value, "1") == 0 || strcmp(value, "true") == 0 || strcmp(value, "yes") == 0);
}

bool lb_api_number(struct lb_api_request *request, const char *name, uint64_t max, uint64_t *value)
{
	const char *text = lb_api_param(request, name);
	unsigned long long number;
	char *end;

	if (text == NULL)
		return true;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number > max) {
		lb_api_error(request, 400, "invalid", name, "%s is not an integer in 0..%llu", name,
			(unsigned long long)max);
		return false;
	}
	*value = number;
	return true;
}

const char *lb_api_body(const struct lb_api_request *request, size_t *len)
{
	struct evbuffer *buffer = evhttp_request_get_input_buffer(request->http);
	const char *text;

	*len = evbuffer_get_length(buffer);
	text = *len > 0 ? (const char *)evbuffer_pullup(buffer, -1) : "";
	if (text == NULL)
		*len = 0;
	return text != NULL ? text : "";
}

json_t *lb_api_body_object(struct lb_api_request *request)
{
	json_error_t error;
	size_t len;
	const char *text = lb_api_body(request, &len);
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	char where[64];

	if (json == NULL) {
		snprintf(where, sizeof(where), "request:%d", error.line);
		lb_api_error(request, 400, "invalid", where, "the body is no JSON: %s", error.text);
		return NULL;
	}
	if (!json_is_object(json)) {
		json_decref(json);
		lb_api_error(request, 400, "invalid", "request:1", "the body is no JSON object");
		return NULL;
	}
	return json;
}

bool lb_api_need_dataplane(struct lb_api_request *request)
{
	const struct lb_dp *dp = request->model->dp;

	if (lb_dp_state(dp) != LB_DP_DOWN)
		return true;
	lb_api_error(request, 503, "dataplane_down", NULL, "the data plane is down: %s",
		lb_dp_reason(dp));
	return false;
}

/* Routing. */

static bool matches(const struct lb_api_request *request, const char *pattern)
{
	if (*pattern == '\0')
		return request->n_segments == 1 && request->segments[0][0] == '\0';
	for (size_t i = 0; i < request->n_segments; i++) {
		size_t len = strcspn(pattern, "/");

		if (len == 0)
			return false;
		if (!(len == 1 && pattern[0] == '*') &&
			(strlen(request->segments[i]) != len ||
				memcmp(request->segments[i], pattern, len) != 0))
			return false;
		pattern += len;
		pattern += *pattern == '/';
	}
	return *pattern == '\0';
}

static void dispatch(struct lb_api_request *request, bool is_tcp)
{
	enum evhttp_cmd_type method = evhttp_request_get_command(request->http);
	bool path_known = false;
	size_t len;

	for (size_t i = 0; i < N_ROUTES; i++) {
		if (!matches(request, routes[i].path) ||
			(is_tcp && !routes[i].on_tcp))
			continue;
		path_known = true;
		if (routes[i].method != method)
			continue;
		(void)lb_api_body(request, &len);
		if (len > LB_API_MAX_BODY_BYTES && !routes[i].whole_config)
			lb_api_error(request, 413, "too_large", NULL,
				"the body has %zu bytes, not more than "
				"%u are allowed here",
				len, LB_API_MAX_BODY_BYTES);
		else
			routes[i].handler(request);
		return;
	}
	if (path_known)
		lb_api_error(
			request, 405, "method_not_allowed", NULL, "no such method on this path");
	else
		lb_api_error(request, 404, "not_found", NULL, "no such path");
}

/* @return false: a segment holds NUL, or there are too many. */
static bool split_path(struct lb_api_request *request, const char *path)
{
	while (*path == '/') {
		size_t len = strcspn(++path, "/"), decoded_len = 0;
		char *raw;

		if (request->n_segments == LB_API_MAX_SEGMENTS)
			return false;
		raw = lb_xcalloc(len + 1, 1);
		memcpy(raw, path, len);
		request->segments[request->n_segments] = evhttp_uridecode(raw, 0, &decoded_len);
		free(raw);
		if (request->segments[request->n_segments] == NULL ||
			strlen(request->segments[request->n_segments++]) != decoded_len)
			return false;
		path += len;
	}
	return true;
}

/* "NAME", "NAME:PORT", "ADDRESS", "ADDRESS:PORT", "[ADDRESS6]:PORT" without the port into @p name; false: neither. */
static bool strip_port(const char *host, char *name, size_t bytes)
{
	bool is_bracketed = host[0] == '[';
	size_t len = strcspn(host + is_bracketed, is_bracketed ? "]" : ":");
	const char *rest = host + is_bracketed + len;

	if (is_bracketed && *rest++ != ']')
		return false;
	if (*rest != '\0' && (*rest != ':' || rest[1 + strspn(rest + 1, "0123456789")] != '\0'))
		return false;
	if (len == 0 || len >= bytes)
		return false;
	memcpy(name, host + is_bracketed, len);
	name[len] = '\0';
	if (name[len - 1] == '.')
		name[len - 1] = '\0';
	return true;
}

/*
 * A page of somebody else's in a browser that reaches us may ask for its own name, once that has been made to resolve
 * to our address, and read the answers. No such name is an address, or one of ours. Who names no host is no browser.
 */
static bool is_our_host(const struct lb_api *api, const char *host)
{
	char name[256];
	struct lb_addr addr;

	if (host == NULL)
		return true;
	if (!strip_port(host, name, sizeof(name)))
		return false;
	if (lb_addr_parse(name, &addr) == 0 || strcasecmp(name, "localhost") == 0 ||
		strcasecmp(name, api->own_host) == 0)
		return true;
	for (size_t i = 0; i < api->n_hosts; i++)
		if (strcasecmp(name, api->hosts[i]) == 0)
			return true;
	return false;
}

static void refuse_host(struct lb_api_request *request, const char *host)
{
	lb_api_error(request, 421, "wrong_host", "Host",
		"asked for %.100s: expected an address, localhost or %s, or a name given to lb-control by "
		"--allow-host", host, request->api->own_host);
}

static void on_request(struct evhttp_request *http, void *arg)
{
	struct server *server = arg;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(http);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	const char *query = uri != NULL ? evhttp_uri_get_query(uri) : NULL;
	const char *host = evhttp_find_header(evhttp_request_get_input_headers(http), "Host");
	struct lb_api_request *request = lb_xcalloc(1, sizeof(*request));

	request->api = server->api;
	request->is_tcp = server->is_tcp;
	request->model = server->api->model;
	request->http = http;
	request->connection = evhttp_request_get_connection(http);
	TAILQ_INIT(&request->query);
	TAILQ_INSERT_TAIL(&server->api->requests, request, link);
	if (server->is_tcp && !is_our_host(server->api, host))
		refuse_host(request, host);
	else if (path == NULL || !split_path(request, path))
		lb_api_error(request, 404, "not_found", NULL, "no such path");
	else if (query != NULL && evhttp_parse_query_str(query, &request->query) < 0)
		lb_api_error(request, 400, "invalid", NULL, "the query is malformed");
	else
		dispatch(request, server->is_tcp);
}

/* Connections. */

static void connection_ended(struct server *server)
{
	if (--server->n_connections < server->max_connections && !server->stopped)
		evconnlistener_enable(server->listener);
	if (server->stopped && server->n_connections == 0)
		free(server);
}

static void on_close(struct evhttp_connection *connection, void *arg)
{
	struct server *server = arg;
	struct lb_api_request *request, *next;

	for (request = TAILQ_FIRST(&server->api->requests); request != NULL; request = next) {
		next = TAILQ_NEXT(request, link);
		if (request->connection != connection)
			continue;
		// libevent leaves a request to us whose answer was not complete when the client went
		if (evhttp_request_get_connection(request->http) == NULL)
			evhttp_request_free(request->http);
		request_end(request);
	}
	connection_ended(server);
}

struct newcomer {
	struct server *server;
	struct bufferevent *bev;
};

/* By now evhttp has made its connection and set it as the argument of the callbacks, or has given
 * up. */
static void on_adopted(evutil_socket_t fd, short what, void *arg)
{
	struct newcomer *newcomer = arg;
	void *connection = NULL;

	(void)fd;
	(void)what;
	bufferevent_getcb(newcomer->bev, NULL, NULL, NULL, &connection);
	if (connection != NULL)
		evhttp_connection_set_closecb(connection, on_close, newcomer->server);
	else
		connection_ended(newcomer->server);
	bufferevent_decref(newcomer->bev);
	free(newcomer);
}

/*
 * Called at each accept; at the limit nobody is accepted any more: further clients wait in the
 * backlog. evhttp shows its connection only with the first request, and one that sends none has to
 * be counted as well.
 */
static struct bufferevent *new_connection(struct event_base *base, void *arg)
{
	struct bufferevent *bev = bufferevent_socket_new(base, -1, 0);
	struct newcomer *newcomer;

	if (bev == NULL)
		return NULL;
	bufferevent_set_max_single_write(bev, MAX_SINGLE_WRITE);
	newcomer = lb_xcalloc(1, sizeof(*newcomer));
	*newcomer = (struct newcomer){.server = arg, .bev = bev};
	if (event_base_once(base, -1, EV_TIMEOUT, on_adopted, newcomer, NULL) < 0) {
		free(newcomer);
		return bev;
	}
	bufferevent_incref(bev);
	if (++newcomer->server->n_connections >= newcomer->server->max_connections)
		evconnlistener_disable(newcomer->server->listener);
	return bev;
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	evconnlistener_enable(arg);
}

static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	static const struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};

	(void)arg; // evhttp's
	lb_log(LB_LOG_WARN, "api", "accept: %s", strerror(errno));
	// the connection stays in the backlog: without a pause the loop would spin on it
	if (event_base_once(evconnlistener_get_base(listener), -1, EV_TIMEOUT, on_resume, listener,
		    &pause) == 0)
		evconnlistener_disable(listener);
}

static void server_stop(struct server *server)
{
	if (server == NULL)
		return;
	server->stopped = true;
	server->n_connections++; // ourselves, until evhttp has ended the others
	if (server->http != NULL)
		evhttp_free(server->http);
	connection_ended(server);
}

/* Takes @p fd, also on failure. NULL without memory. */
static struct server *server_start(struct lb_api *api, evutil_socket_t fd, bool is_tcp)
{
	struct server *server = lb_xcalloc(1, sizeof(*server));
	struct evhttp_bound_socket *bound = NULL;

	server->api = api;
	server->is_tcp = is_tcp;
	server->max_connections = is_tcp ? MAX_TCP_CONNECTIONS : MAX_CONNECTIONS;
	server->http = evhttp_new(api->model->base);
	if (server->http != NULL)
		bound = evhttp_accept_socket_with_handle(server->http, fd);
	if (bound == NULL) {
		close(fd);
		server_stop(server);
		return NULL;
	}
	evhttp_set_max_headers_size(server->http, MAX_HEADER_BYTES);
	evhttp_set_max_body_size(server->http, is_tcp ? 0 : LB_CONFIG_MAX_BYTES);
	evhttp_set_timeout(server->http, is_tcp ? TCP_TIMEOUT_S : TIMEOUT_S);
	evhttp_set_allowed_methods(
		server->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
				      EVHTTP_REQ_DELETE | EVHTTP_REQ_PATCH | EVHTTP_REQ_OPTIONS);
	evhttp_set_bevcb(server->http, new_connection, server);
	evhttp_set_gencb(server->http, on_request, server);
	server->listener = evhttp_bound_socket_get_listener(bound);
	evconnlistener_set_error_cb(server->listener, on_accept_error);
	return server;
}

/* Listening. */

static int failed(int error, const char *what, const char *name, char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "%s %s: %s", what, name, strerror(error));
	return -error;
}

/* Whether somebody accepts connections on the socket. */
static bool is_answered(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool answered;

	if (fd < 0)
		return true;
	answered =
		connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN;
	close(fd);
	return answered;
}

static void set_group(const char *path)
{
	struct group *group = getgrnam(GROUP_NAME);

	if (group != NULL && chown(path, (uid_t)-1, group->gr_gid) < 0)
		lb_log(LB_LOG_WARN, "api", "%s: cannot give it to group %s: %s", path, GROUP_NAME,
			strerror(errno));
}

static int bind_unix(const struct sockaddr_un *addr, char *why, size_t why_bytes)
{
	const char *path = addr->sun_path;
	struct stat st;
	mode_t mask;
	int fd, rc;

	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return failed(EEXIST, "not a socket:", path, why, why_bytes);
		if (is_answered(addr))
			return failed(
				EADDRINUSE, "another daemon answers on", path, why, why_bytes);
		unlink(path);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return failed(errno, "socket", path, why, why_bytes);
	mask = umask(0117); // never open to others, not even for a moment
	rc = bind(fd, (const struct sockaddr *)addr, sizeof(*addr));
	umask(mask);
	if (rc == 0) {
		set_group(path);
		rc = listen(fd, BACKLOG);
	}
	if (rc < 0) {
		rc = failed(errno, "cannot listen on", path, why, why_bytes);
		close(fd);
		return rc;
	}
	return fd;
}

int lb_api_create(struct lb_model *model, const char *socket_path, struct lb_api **out, char *why,
	size_t why_bytes)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct lb_api *api;
	int fd;

	if (strlen(socket_path) >= sizeof(addr.sun_path))
		return failed(ENAMETOOLONG, "socket", socket_path, why, why_bytes);
	strcpy(addr.sun_path, socket_path);
	fd = bind_unix(&addr, why, why_bytes);
	if (fd < 0)
		return fd;
	api = lb_xcalloc(1, sizeof(*api));
	api->model = model;
	strcpy(api->socket_path, socket_path);
	api->owns_socket = true;
	if (gethostname(api->own_host, sizeof(api->own_host) - 1) < 0 || api->own_host[0] == '\0')
		strcpy(api->own_host, "localhost");
	TAILQ_INIT(&api->requests);
	api->documents = lb_documents_create(model->base);
	if (api->documents != NULL)
		api->unix_side = server_start(api, fd, false);
	else
		close(fd);
	if (api->unix_side == NULL) {
		lb_api_destroy(api);
		return failed(ENOMEM, "cannot serve", socket_path, why, why_bytes);
	}
	*out = api;
	return 0;
}

int lb_api_listen_tcp(struct lb_api *api, const char *address, char *why, size_t why_bytes)
{
	struct sockaddr_storage addr;
	int len = sizeof(addr), one = 1, fd, rc;
	char local[32];

	if (strlen(address) < 6 && address[strspn(address, "0123456789")] == '\0') {
		snprintf(local, sizeof(local), "127.0.0.1:%s", address);
		address = local;
	}
	if (evutil_parse_sockaddr_port(address, (struct sockaddr *)&addr, &len) < 0 ||
		(addr.ss_family == AF_INET && ((struct sockaddr_in *)&addr)->sin_port == 0) ||
		(addr.ss_family == AF_INET6 && ((struct sockaddr_in6 *)&addr)->sin6_port == 0))
		return failed(EINVAL, "not ADDR:PORT, [ADDR6]:PORT or PORT:", address, why, why_bytes);
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return failed(errno, "socket", address, why, why_bytes);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&addr, (socklen_t)len) < 0 || listen(fd, BACKLOG) < 0) {
		rc = failed(errno, "cannot listen on", address, why, why_bytes);
		close(fd);
		return rc;
	}
	api->tcp_side = server_start(api, fd, true);
	return api->tcp_side == NULL ? failed(ENOMEM, "cannot serve", address, why, why_bytes)
					 : 0;
}

void lb_api_allow_host(struct lb_api *api, const char *name)
{
	api->hosts = lb_xrealloc(api->hosts, api->n_hosts + 1, sizeof(*api->hosts));
	api->hosts[api->n_hosts++] = name;
}

void lb_api_destroy(struct lb_api *api)
{
	struct lb_api_request *request;

	if (api == NULL)
		return;
	server_stop(api->unix_side);
	server_stop(api->tcp_side);
	while ((request = TAILQ_FIRST(&api->requests)) != NULL)
		request_end(request);
	lb_documents_destroy(api->documents);
	if (api->owns_socket)
		unlink(api->socket_path);
	free(api->hosts);
	free(api);
}
