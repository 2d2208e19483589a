/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/check_server.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>

#define GUARD_S 20
#define DRIP_US 5000

struct connection {
	struct connection *next;
	struct server *server;
	struct bufferevent *stream;
	struct event *drip;
	const char *left; /* of the reply to drip */
	size_t n_left;
};

static void close_connection(struct connection *connection)
{
	struct connection **link = &connection->server->connections;

	while (*link != connection)
		link = &(*link)->next;
	*link = connection->next;
	if (connection->drip)
		event_free(connection->drip);
	bufferevent_free(connection->stream);
	free(connection);
}

static void on_drip(evutil_socket_t fd, short what, void *arg)
{
	struct connection *connection = arg;

	(void)fd, (void)what;
	if (connection->n_left == 0) {
		close_connection(connection);
		return;
	}
	bufferevent_write(connection->stream, connection->left++, 1);
	connection->n_left--;
}

static void start_drip(struct connection *connection, const char *reply, size_t n)
{
	struct timeval each = {0, DRIP_US};

	connection->left = reply;
	connection->n_left = n;
	connection->drip = event_new(connection->server->base, -1, EV_PERSIST, on_drip, connection);
	event_add(connection->drip, &each);
}

static void reset(struct connection *connection)
{
	struct linger linger = {1, 0};

	setsockopt(bufferevent_getfd(connection->stream), SOL_SOCKET, SO_LINGER, &linger,
		sizeof(linger));
	close_connection(connection);
}

static void on_written(struct bufferevent *stream, void *arg)
{
	struct connection *connection = arg;
	struct server *server = connection->server;

	if (server->mode == SERVER_REPLY) {
		close_connection(connection);
		return;
	}
	for (int i = 0; server->mode == SERVER_FLOOD && i < 16; i++)
		bufferevent_write(stream, server->flood, strlen(server->flood));
}

static void on_request(struct bufferevent *stream, void *arg)
{
	struct connection *connection = arg;
	struct server *server = connection->server;
	struct evbuffer *input = bufferevent_get_input(stream);
	const char *reply = server->reply;
	size_t n = server->reply_bytes;

	if (evbuffer_search(input, "\r\n\r\n", 4, NULL).pos < 0)
		return;
	memset(server->request, 0, sizeof(server->request));
	evbuffer_remove(input, server->request, sizeof(server->request) - 1);
	server->n_requests++;
	if (server->script) {
		reply = *server->script;
		server->script += server->script[1] != NULL;
	}
	n = n ? n : reply ? strlen(reply) : 0;
	if (server->mode == SERVER_REPLY || server->mode == SERVER_FLOOD) {
		bufferevent_setcb(stream, NULL, on_written, NULL, connection);
		bufferevent_write(stream, reply, n);
	} else if (server->mode == SERVER_DRIP) {
		start_drip(connection, reply, n);
	} else if (server->mode == SERVER_RESET) {
		reset(connection);
	}
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	(void)stream, (void)what;
	close_connection(arg);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
	int n, void *arg)
{
	struct server *server = arg;
	struct connection *connection;

	(void)listener, (void)from, (void)n;
	server->n_connections++;
	if (server->mode == SERVER_HANG_UP) {
		close(fd);
		return;
	}
	connection = calloc(1, sizeof(*connection));
	connection->server = server;
	connection->next = server->connections;
	server->connections = connection;
	connection->stream = bufferevent_socket_new(server->base, fd, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(connection->stream, on_request, NULL, on_event, connection);
	bufferevent_enable(connection->stream, EV_READ | EV_WRITE);
	if (server->mode == SERVER_GREET)
		bufferevent_write(connection->stream, server->reply, strlen(server->reply));
}

static socklen_t fill_address(const struct lb_endpoint *endpoint, struct sockaddr_storage *address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	if (lb_addr_is_ipv4(&endpoint->addr)) {
		in->sin_family = AF_INET;
		in->sin_port = endpoint->port_be;
		in->sin_addr.s_addr = lb_addr_ipv4_be(&endpoint->addr);
		return sizeof(*in);
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = endpoint->port_be;
	memcpy(&in6->sin6_addr, &endpoint->addr, sizeof(endpoint->addr));
	return sizeof(*in6);
}

void server_resume(struct server *server)
{
	struct sockaddr_storage address;
	socklen_t n = fill_address(&server->endpoint, &address);

	server->listener = evconnlistener_new_bind(server->base, on_accept, server,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, 1024,
		(struct sockaddr *)&address, (int)n);
	assert_non_null(server->listener);
	getsockname(evconnlistener_get_fd(server->listener), (struct sockaddr *)&address, &n);
	server->endpoint.port_be = address.ss_family == AF_INET
					   ? ((struct sockaddr_in *)&address)->sin_port
					   : ((struct sockaddr_in6 *)&address)->sin6_port;
}

void server_start(struct server *server, struct event_base *base, bool ipv6)
{
	server->base = base;
	server->endpoint.port_be = 0;
	assert_int_equal(lb_addr_parse(ipv6 ? "::1" : "127.0.0.1", &server->endpoint.addr), 0);
	server_resume(server);
}

void server_stop(struct server *server)
{
	if (server->listener)
		evconnlistener_free(server->listener);
	server->listener = NULL;
	while (server->connections)
		close_connection(server->connections);
}

/* ---- the loop ---- */

void recorder_changed(
	void *arg, struct lb_health_check *check, const struct lb_health_status *status)
{
	struct recorder *recorder = arg;

	(void)check;
	recorder->n_changes++;
	recorder->last = *status;
	for (size_t i = 0; i < sizeof(recorder->destroy) / sizeof(recorder->destroy[0]); i++) {
		lb_health_check_destroy(recorder->destroy[i]);
		recorder->destroy[i] = NULL;
	}
}

static void on_guard(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	*(bool *)arg = true;
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static bool run(struct event_base *base, bool (*done)(void *arg), void *arg, struct timeval at_most)
{
	bool over = false;
	struct event *guard = evtimer_new(base, on_guard, &over);

	evtimer_add(guard, &at_most);
	while (!done(arg) && !over)
		event_base_loop(base, EVLOOP_ONCE);
	event_free(guard);
	return !over;
}

void run_until(struct event_base *base, bool (*done)(void *arg), void *arg)
{
	if (!run(base, done, arg, (struct timeval){GUARD_S, 0}))
		fail_msg("not within %d s", GUARD_S);
}

void run_for_ms(struct event_base *base, unsigned ms)
{
	run(base, never, NULL, (struct timeval){ms / 1000, ms % 1000 * 1000});
}

struct awaited {
	const struct lb_health_check *check;
	const struct recorder *recorder;
	uint64_t n;
};

static bool is_checked(void *arg)
{
	const struct awaited *awaited = arg;
	struct lb_health_status status;

	lb_health_check_status(awaited->check, &status);
	return status.n_checks >= awaited->n;
}

void run_until_checked(
	struct event_base *base, const struct lb_health_check *check, uint64_t n_checks)
{
	run_until(base, is_checked, &(struct awaited){.check = check, .n = n_checks});
}

static bool is_changed(void *arg)
{
	const struct awaited *awaited = arg;

	return awaited->recorder->n_changes >= awaited->n;
}

void run_until_changed(struct event_base *base, const struct recorder *recorder, size_t n_changes)
{
	run_until(base, is_changed, &(struct awaited){.recorder = recorder, .n = n_changes});
}

struct lb_config_check fast_check(enum lb_check_type type)
{
	return (struct lb_config_check){.type = type,
		.expect_status_min = 200,
		.expect_status_max = 399,
		.interval_ms = 50,
		.timeout_ms = 2000,
		.rise = 2,
		.fall = 3};
}
