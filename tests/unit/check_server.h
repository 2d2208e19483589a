/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_TESTS_CHECK_SERVER_H
#define LB_TESTS_CHECK_SERVER_H

#include <event2/event.h>
#include <event2/listener.h>

#include "control/health.h"

/*
 * Real servers on loopback for the tests of health checks, well-behaved and not, in the test's own
 * event loop; and what these tests share: a loop with a recorder of callbacks.
 */

enum server_mode {
	SERVER_REPLY,  /* a whole request is answered with `reply`, then the connection is closed */
	SERVER_DRIP,   /* the same, a byte each 5 ms */
	SERVER_FLOOD,  /* `reply`, then `flood` again and again, as fast as it is read */
	SERVER_SILENT, /* never answers */
	SERVER_HANG_UP, /* closes at once */
	SERVER_RESET,   /* resets after the request */
	SERVER_GREET,   /* sends `reply` unasked, then says no more */
};

struct server {
	struct event_base *base;
	struct evconnlistener *listener; /* NULL: refuses connections */
	struct lb_endpoint endpoint;
	enum server_mode mode;
	const char *reply;
	size_t reply_bytes; /* 0: up to the NUL */
	const char *flood;
	const char **script; /* instead of reply: one per request, the last for ever */
	size_t n_requests, n_connections;
	char request[2048]; /* the last one's text */
	struct connection *connections;
};

/** Listen on 127.0.0.1 or ::1, any port. Fails the test otherwise. */
void server_start(struct server *server, struct event_base *base, bool ipv6);

/** Stop listening; connections go as well. */
void server_stop(struct server *server);

/** Listen again on the same port. */
void server_resume(struct server *server);

/* What the callbacks of checks told. */
struct recorder {
	struct lb_health *health;
	size_t n_changes;
	struct lb_health_status last;
	struct lb_health_check *destroy[4]; /* by the callback */
};

void recorder_changed(
	void *arg, struct lb_health_check *check, const struct lb_health_status *status);

/** Run the loop until @p done says so. Fails the test when it does not within 20 s. */
void run_until(struct event_base *base, bool (*done)(void *arg), void *arg);

/** Run the loop for a while, for what must not happen. */
void run_for_ms(struct event_base *base, unsigned ms);

/** Run until @p check has had @p n_checks results. */
void run_until_checked(
	struct event_base *base, const struct lb_health_check *check, uint64_t n_checks);

/** Run until @p recorder has had @p n_changes callbacks. */
void run_until_changed(struct event_base *base, const struct recorder *recorder, size_t n_changes);

/** "200-399", every 50 ms, 2 s time. */
struct lb_config_check fast_check(enum lb_check_type type);

#endif
