/* SPDX-License-Identifier: BSD-3-Clause */
/* What single probes, tcp and http, see of a server, and what it sees of them. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/check_server.h"

struct fixture {
	struct event_base *base;
	struct lb_health *health;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	fixture->base = event_base_new();
	assert_int_equal(lb_health_create(fixture->base, &fixture->health), 0);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	lb_health_destroy(fixture->health);
	event_base_free(fixture->base);
	free(fixture);
	return 0;
}

// The status after the first result of one check of @endpoint.
static struct lb_health_status probe(struct fixture *fixture, const struct lb_config_check *config,
	const struct lb_endpoint *endpoint)
{
	struct recorder recorder = {0};
	struct lb_health_check *check = lb_health_check_create(
		fixture->health, config, endpoint, LB_HEALTH_UNKNOWN, recorder_changed, &recorder);

	assert_non_null(check);
	run_until_changed(fixture->base, &recorder, 1);
	lb_health_check_destroy(check);
	return recorder.last;
}

/* ---- tcp ---- */

static void tcp_check_sees_who_listens(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_TCP);

	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		struct server server = {.mode = SERVER_SILENT};
		struct lb_health_status status;

		server_start(&server, fixture->base, ipv6);
		status = probe(fixture, &config, &server.endpoint);
		assert_int_equal(status.state, LB_HEALTH_UP);
		assert_string_equal(status.reason, "ok");
		assert_int_not_equal(status.last_ns, 0);
		server_stop(&server);
		status = probe(fixture, &config, &server.endpoint);
		assert_int_equal(status.state, LB_HEALTH_DOWN);
		assert_string_equal(status.reason, "connection refused");
	}
}

// A listener whose queue is full: further SYNs go unanswered.
static int fill_queue(struct lb_endpoint *endpoint, int clients[8])
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t n = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 0), 0);
	getsockname(fd, (struct sockaddr *)&address, &n);
	for (int i = 0; i < 8; i++) {
		clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(clients[i], (struct sockaddr *)&address, sizeof(address));
	}
	endpoint->addr = lb_addr_from_ipv4(htonl(INADDR_LOOPBACK));
	endpoint->port_be = address.sin_port;
	return fd;
}

static void unanswered_handshake_times_out(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_TCP);
	struct lb_health_status status;
	struct lb_endpoint endpoint;
	int clients[8], fd = fill_queue(&endpoint, clients);

	config.timeout_ms = 100;
	status = probe(fixture, &config, &endpoint);
	assert_int_equal(status.state, LB_HEALTH_DOWN);
	assert_string_equal(status.reason, "timeout after 100 ms while connecting");
	config.type = LB_CHECK_HTTP;
	status = probe(fixture, &config, &endpoint);
	assert_string_equal(status.reason, "timeout after 100 ms while connecting");
	for (int i = 0; i < 8; i++)
		close(clients[i]);
	close(fd);
}

// Lines of /proc/net/tcp in state TIME_WAIT (06) with @port at either end.
static int count_time_wait(uint16_t port)
{
	FILE *file = fopen("/proc/net/tcp", "r");
	char line[512];
	int n = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		unsigned local, remote, state;

		if (sscanf(line, "%*d: %*8x:%x %*8x:%x %x", &local, &remote, &state) == 3)
			n += state == 6 && (local == port || remote == port);
	}
	fclose(file);
	return n;
}

static void checks_leave_no_time_wait(void **state)
{
	static const enum lb_check_type types[] = {LB_CHECK_TCP, LB_CHECK_HTTP};
	struct fixture *fixture = *state;
	struct server server = {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"};

	server_start(&server, fixture->base, false);
	for (int i = 0; i < 2; i++) {
		struct lb_config_check config = fast_check(types[i]);
		struct recorder recorder = {0};
		struct lb_health_check *check;

		config.interval_ms = 5;
		check = lb_health_check_create(fixture->health, &config, &server.endpoint,
			LB_HEALTH_UNKNOWN, recorder_changed, &recorder);
		run_until_checked(fixture->base, check, 20);
		assert_int_equal(recorder.last.state, LB_HEALTH_UP);
		lb_health_check_destroy(check);
		run_for_ms(fixture->base, 50);
		assert_int_equal(count_time_wait(be16toh(server.endpoint.port_be)), 0);
	}
	server_stop(&server);
}

/* ---- http ---- */

#define OK_HEAD "HTTP/1.1 200 OK\r\n"
#define TEN(x) x x x x x x x x x x

static char body_at_limit[LB_HEALTH_MAX_BODY_BYTES + 200], body_past_limit[sizeof(body_at_limit)];

// "needle" ends at the last byte that is read, or one after it.
static void write_big_body(char *reply, size_t past)
{
	static const char head[] = OK_HEAD "\r\n";
	size_t start = sizeof(head) - 1, end = start + LB_HEALTH_MAX_BODY_BYTES + past;

	memset(reply, 'x', sizeof(body_at_limit) - 1);
	memcpy(reply, head, start);
	memcpy(reply + end - 6, "needle", 6);
}

static const struct answer {
	const char *name, *reply;
	size_t reply_bytes;
	uint16_t status_min, status_max;
	const char *expect_body;
	const char *reason; /* "ok: HTTP 200" and the like are up, all else down */
	enum server_mode mode;
} answers[] = {
	{"plain", OK_HEAD "Content-Length: 2\r\n\r\nok", 0, 200, 399, NULL, "ok: HTTP 200"},
	{"until close", OK_HEAD "\r\nsomething", 0, 200, 399, "thing", "ok: HTTP 200"},
	{"1.0", "HTTP/1.0 200 OK\r\n\r\nok", 0, 200, 399, NULL, "ok: HTTP 200"},
	{"no content", "HTTP/1.1 204 No\r\n\r\n", 0, 200, 399, NULL, "ok: HTTP 204"},
	{"bare newlines", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 0, 200, 399, "ok",
		"ok: HTTP 200"},
	{"unavailable", "HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n", 0, 200, 399, NULL,
		"HTTP 503"},
	{"exact status", "HTTP/1.1 418 Tea\r\nContent-Length: 0\r\n\r\n", 0, 418, 418, NULL,
		"ok: HTTP 418"},
	{"below", OK_HEAD "Content-Length: 0\r\n\r\n", 0, 201, 399, NULL, "HTTP 200"},
	{"redirect may be", "HTTP/1.1 302 There\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n",
		0, 200, 399, NULL, "ok: HTTP 302"},
	{"redirect may not be",
		"HTTP/1.1 302 There\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", 0, 200, 299,
		NULL, "HTTP 302"},
	{"continue first", "HTTP/1.1 100 Go\r\n\r\n" OK_HEAD "Content-Length: 2\r\n\r\nok", 0, 200,
		299, "ok", "ok: HTTP 200"},
	{"continue, then bad",
		"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 0, 200, 299,
		NULL, "HTTP 500"},
	{"body", OK_HEAD "Content-Length: 12\r\n\r\nall is well.", 0, 200, 399, "is well",
		"ok: HTTP 200"},
	{"body is the text", OK_HEAD "Content-Length: 2\r\n\r\nok", 0, 200, 399, "ok",
		"ok: HTTP 200"},
	{"other body", OK_HEAD "Content-Length: 3\r\n\r\nbad", 0, 200, 399, "ok",
		"HTTP 200 without the expected body (in 3 bytes)"},
	{"text in a header only", OK_HEAD "X: ok\r\nContent-Length: 0\r\n\r\n", 0, 200, 399, "ok",
		"HTTP 200 without the expected body (in 0 bytes)"},
	{"text over chunks",
		OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nhea\r\n4\r\nlthy\r\n0\r\n\r\n", 0,
		200, 399, "healthy", "ok: HTTP 200"},
	{"text begins in itself", OK_HEAD "Content-Length: 9\r\n\r\naabaabaac", 0, 200, 399,
		"aabaac", "ok: HTTP 200"},
	{"text after a NUL", OK_HEAD "Content-Length: 4\r\n\r\n\0\0ok",
		sizeof(OK_HEAD) - 1 + 21 + 4, 200, 399, "ok", "ok: HTTP 200"},
	{"empty text is any", OK_HEAD "Content-Length: 0\r\n\r\n", 0, 200, 399, "", "ok: HTTP 200"},
	{"text at the limit", body_at_limit, sizeof(body_at_limit) - 1, 200, 399, "needle",
		"ok: HTTP 200"},
	{"text past the limit", body_past_limit, sizeof(body_past_limit) - 1, 200, 399, "needle",
		"HTTP 200 without the expected body (in 65536 bytes)"},
	{"cut short", OK_HEAD "Content-Length: 10\r\n\r\nhalf", 0, 200, 399, NULL,
		"answer cut short"},
	{"cut in the headers", OK_HEAD "Content-Len", 0, 200, 399, NULL, "answer cut short"},
	{"not http", "220 mail.example.com ESMTP\r\n", 0, 200, 399, NULL, "answer is not HTTP/1.x"},
	{"tls", "\x15\x03\x01\x00\x02\x02\x46", 7, 200, 399, NULL, "answer is not HTTP/1.x"},
	{"closed", NULL, 0, 200, 399, NULL, "connection closed without an answer", SERVER_HANG_UP},
	{"reset", NULL, 0, 200, 399, NULL, "connection reset by peer", SERVER_RESET},
	{"many headers", OK_HEAD TEN(TEN(TEN("X-Header: forty bytes of it, or so..\r\n"))) "\r\n",
		0, 200, 399, NULL, "more than 32768 bytes of headers"},
};

static void answers_are_judged(void **state)
{
	struct fixture *fixture = *state;

	write_big_body(body_at_limit, 0);
	write_big_body(body_past_limit, 1);
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		const struct answer *answer = &answers[i];
		struct server server = {.mode = answer->mode,
			.reply = answer->reply,
			.reply_bytes = answer->reply_bytes};
		struct lb_config_check config = fast_check(LB_CHECK_HTTP);
		bool up = strncmp(answer->reason, "ok: ", 4) == 0;
		struct lb_health_status status;

		config.expect_status_min = answer->status_min;
		config.expect_status_max = answer->status_max;
		config.expect_body = (char *)answer->expect_body;
		server_start(&server, fixture->base, i % 2);
		status = probe(fixture, &config, &server.endpoint);
		if (status.state != (up ? LB_HEALTH_UP : LB_HEALTH_DOWN) ||
			strcmp(status.reason, answer->reason) != 0)
			fail_msg("%s: %s, \"%s\"", answer->name, lb_health_state_name(status.state),
				status.reason);
		server_stop(&server);
	}
}

static void request_is_plain_http_on_a_connection_of_its_own(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	struct server server = {
		.reply = "HTTP/1.1 302 There\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"};
	char path[] = "/a/../b?c=d#e%20", host[] = "api.example.com", expected[64];
	struct recorder recorder = {0};
	struct lb_health_check *check;

	server_start(&server, fixture->base, false);
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	config.path = path;
	config.host = host;
	check = lb_health_check_create(fixture->health, &config, &server.endpoint,
		LB_HEALTH_UNKNOWN, recorder_changed, &recorder);
	run_until_checked(fixture->base, check, 3);
	lb_health_check_destroy(check);
	unsetenv("http_proxy");
	assert_ptr_equal(
		strstr(server.request, "GET /a/../b?c=d#e%20 HTTP/1.1\r\n"), server.request);
	assert_non_null(strstr(server.request, "\r\nHost: api.example.com\r\n"));
	assert_null(strstr(server.request, "127.0.0.1"));
	assert_non_null(strstr(server.request, "\r\nConnection: close\r\n"));
	assert_null(strstr(server.request, "there"));
	assert_int_equal(server.n_requests, 3);
	assert_int_equal(server.n_connections, 3);

	config.path = NULL;
	config.host = NULL;
	probe(fixture, &config, &server.endpoint);
	assert_ptr_equal(strstr(server.request, "GET / HTTP/1.1\r\n"), server.request);
	snprintf(expected, sizeof(expected), "\r\nHost: 127.0.0.1:%u\r\n",
		be16toh(server.endpoint.port_be));
	assert_non_null(strstr(server.request, expected));
	server_stop(&server);
}

static void parameters_cannot_smuggle_headers(void **state)
{
	static const char *const texts[] = {"/a\r\nX-Evil: 1", "/a b", "/a\tb", "/a\x7f", "/a\nb"};
	struct fixture *fixture = *state;
	struct server server = {.reply = OK_HEAD "Content-Length: 0\r\n\r\n"};

	server_start(&server, fixture->base, false);
	for (size_t i = 0; i < 2 * sizeof(texts) / sizeof(texts[0]); i++) {
		struct lb_config_check config = fast_check(LB_CHECK_HTTP);
		struct lb_health_status status;

		*(i % 2 ? &config.path : &config.host) = (char *)texts[i / 2];
		status = probe(fixture, &config, &server.endpoint);
		assert_int_equal(status.state, LB_HEALTH_DOWN);
		assert_non_null(strstr(status.reason, "has a space or a control character"));
	}
	assert_int_equal(server.n_connections, 0);
	server_stop(&server);
}

/* ---- servers that do not end ---- */

static struct hostile {
	struct server server;
	const char *expect_body;
	const char *reason; /* or the beginning of it */
	struct lb_health_check *check;
} hostiles[] = {
	{{.mode = SERVER_SILENT}, NULL, "timeout after 300 ms while waiting for the answer"},
	{{.mode = SERVER_DRIP, .reply = OK_HEAD TEN("X-Header: some more of them\r\n")}, NULL,
		"timeout after 300 ms while reading the headers"},
	{{.mode = SERVER_DRIP,
		 .reply = OK_HEAD
		 "\r\n" TEN("some more of the body that never comes to its end\r\n")},
		NULL, "timeout after 300 ms while reading the body"},
	{{.mode = SERVER_FLOOD, .reply = OK_HEAD, .flood = "X-Header: and one more\r\n"}, NULL,
		"more than 32768 bytes of headers"},
	{{.mode = SERVER_FLOOD,
		 .reply = "HTTP/1.1 100 Go\r\n\r\n",
		 .flood = "HTTP/1.1 100 Go\r\n\r\n"},
		NULL, "more than 32768 bytes of headers"},
	{{.mode = SERVER_FLOOD, .reply = OK_HEAD "X-Header: ", .flood = TEN("without end ")}, NULL,
		"header line too long"},
	{{.mode = SERVER_FLOOD, .reply = "HTTP/1.1 200 ", .flood = TEN("fine ")}, NULL,
		"header line too long"},
	{{.mode = SERVER_FLOOD, .reply = OK_HEAD "\r\n", .flood = TEN("more of the body ")},
		"needle", "HTTP 200 without the expected body (in 65536 bytes)"},
	{{.mode = SERVER_FLOOD, .reply = OK_HEAD "\r\n", .flood = TEN("more of the body ")}, NULL,
		"ok: HTTP 200"},
	{{.mode = SERVER_FLOOD,
		 .reply = OK_HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
		 .flood = "X-Trailer: and one more\r\n"},
		NULL, "more than 32768 bytes of headers"},
	{{.mode = SERVER_FLOOD, .reply = "\x16\x03\x01", .flood = TEN("\x16\x03\x01")}, NULL,
		"answer is not HTTP/1.x"},
};
#define N_HOSTILES (sizeof(hostiles) / sizeof(hostiles[0]))

static bool all_are_judged(void *arg)
{
	struct lb_health_status status;

	(void)arg;
	for (size_t i = 0; i < N_HOSTILES; i++) {
		lb_health_check_status(hostiles[i].check, &status);
		if (status.n_checks == 0)
			return false;
	}
	return true;
}

static void endless_answers_are_judged_and_delay_nothing_else(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP), good_config = config;
	struct server good = {.reply = OK_HEAD "Content-Length: 0\r\n\r\n"};
	struct recorder recorder = {0}, good_recorder = {0};
	struct lb_health_check *good_check;
	struct lb_health_status status;

	config.timeout_ms = 300;
	config.interval_ms = 3600000;
	server_start(&good, fixture->base, false);
	good_config.interval_ms = 20;
	good_check = lb_health_check_create(fixture->health, &good_config, &good.endpoint,
		LB_HEALTH_UNKNOWN, recorder_changed, &good_recorder);
	for (size_t i = 0; i < N_HOSTILES; i++) {
		config.expect_body = (char *)hostiles[i].expect_body;
		server_start(&hostiles[i].server, fixture->base, false);
		hostiles[i].check = lb_health_check_create(fixture->health, &config,
			&hostiles[i].server.endpoint, LB_HEALTH_UNKNOWN, recorder_changed,
			&recorder);
	}
	run_until(fixture->base, all_are_judged, NULL);
	for (size_t i = 0; i < N_HOSTILES; i++) {
		lb_health_check_status(hostiles[i].check, &status);
		if (strncmp(status.reason, hostiles[i].reason, strlen(hostiles[i].reason)) != 0)
			fail_msg("hostile server %zu: \"%s\"", i, status.reason);
	}
	lb_health_check_status(good_check, &status);
	assert_int_equal(status.n_failed, 0);
	assert_true(status.n_checks >= 5); // of some 15 to 25 that fit in
	assert_int_equal(good_recorder.n_changes, 1);
	for (size_t i = 0; i < N_HOSTILES; i++)
		server_stop(&hostiles[i].server);
	server_stop(&good);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(tcp_check_sees_who_listens),
		T(unanswered_handshake_times_out),
		T(checks_leave_no_time_wait),
		T(answers_are_judged),
		T(request_is_plain_http_on_a_connection_of_its_own),
		T(parameters_cannot_smuggle_headers),
		T(endless_answers_are_judged_and_delay_nothing_else),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
