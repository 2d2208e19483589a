/* SPDX-License-Identifier: BSD-3-Clause */
/* Single probes of the types https, udp, dns, exec and agent; what answers them is real. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event_struct.h>

#include "control/agent.h"
#include "tests/unit/check_server.h"

struct fixture {
	struct event_base *base;
	struct lb_health *health;
	char dir[32];
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	fixture->base = event_base_new();
	assert_int_equal(lb_health_create(fixture->base, &fixture->health), 0);
	strcpy(fixture->dir, "/tmp/test_probes.XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	chmod(fixture->dir, 0755);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	char command[64];

	lb_health_destroy(fixture->health);
	event_base_free(fixture->base);
	snprintf(command, sizeof(command), "rm -rf %s", fixture->dir);
	assert_int_equal(system(command), 0);
	free(fixture);
	return 0;
}

struct told {
	struct recorder recorder;
	size_t n_reports;
	bool has_words;
	struct lb_agent_words words;
	char text[64];
};

static void on_report(void *arg, struct lb_health_check *check, const struct lb_agent_words *words,
	const char *text)
{
	struct told *told = arg;

	(void)check;
	told->n_reports++;
	told->has_words = words != NULL;
	if (words)
		told->words = *words;
	snprintf(told->text, sizeof(told->text), "%s", text);
}

static struct told ask(struct fixture *fixture, const struct lb_config_check *config,
	const struct lb_endpoint *endpoint)
{
	struct told told = {0};
	struct lb_health_check *check = lb_health_check_create(fixture->health, config, endpoint,
		LB_HEALTH_UNKNOWN, recorder_changed, &told);

	assert_non_null(check);
	lb_health_check_on_report(check, on_report);
	lb_health_check_name(check, "web", "api-1/10.0.0.1");
	run_until_changed(fixture->base, &told.recorder, 1);
	lb_health_check_destroy(check);
	return told;
}

static void assert_says(struct fixture *fixture, const struct lb_config_check *config,
	const struct lb_endpoint *endpoint, const char *reason)
{
	struct lb_health_status status = ask(fixture, config, endpoint).recorder.last;

	if (strncmp(status.reason, reason, strlen(reason)) != 0)
		fail_msg("expected \"%s\", found \"%s\"", reason, status.reason);
	assert_int_equal(status.state,
		strncmp(reason, "ok", 2) == 0 ? LB_HEALTH_UP : LB_HEALTH_DOWN);
}

/* ---- a server of datagrams ---- */

struct peer {
	struct event event;
	int fd;
	struct lb_endpoint endpoint;
	uint8_t request[512];
	size_t request_bytes;
	void (*answer)(struct peer *peer, uint8_t *reply, size_t *n); /* NULL: silent */
	const char *text;
	unsigned rcode, n_answers;
	struct sockaddr_storage from;
	socklen_t from_bytes;
};

static void on_datagram(evutil_socket_t fd, short what, void *arg)
{
	struct peer *peer = arg;
	uint8_t reply[1024];
	size_t n = 0;
	ssize_t got;

	(void)what;
	peer->from_bytes = sizeof(peer->from);
	got = recvfrom(fd, peer->request, sizeof(peer->request), 0, (struct sockaddr *)&peer->from,
		&peer->from_bytes);
	assert_true(got >= 0);
	peer->request_bytes = (size_t)got;
	if (!peer->answer)
		return;
	peer->answer(peer, reply, &n);
	sendto(fd, reply, n, 0, (struct sockaddr *)&peer->from, peer->from_bytes);
}

static void peer_start(struct peer *peer, struct event_base *base)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t n = sizeof(address);

	peer->fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(bind(peer->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	getsockname(peer->fd, (struct sockaddr *)&address, &n);
	peer->endpoint.addr = lb_addr_from_ipv4(htonl(INADDR_LOOPBACK));
	peer->endpoint.port_be = address.sin_port;
	event_assign(&peer->event, base, peer->fd, EV_READ | EV_PERSIST, on_datagram, peer);
	event_add(&peer->event, NULL);
}

static void peer_stop(struct peer *peer)
{
	event_del(&peer->event);
	close(peer->fd);
}

static void answer_text(struct peer *peer, uint8_t *reply, size_t *n)
{
	*n = strlen(peer->text);
	memcpy(reply, peer->text, *n);
}

static void udp_sends_bytes_and_looks_for_bytes(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_UDP);
	struct peer peer = {.answer = answer_text, .text = "\x01PONG\xff"};
	char send[] = "\\x00\\xfFping\\r\\n\\\\", expect[] = "PONG\\xff", other[] = "pong";

	peer_start(&peer, fixture->base);
	config.send = send;
	config.expect = expect;
	assert_says(fixture, &config, &peer.endpoint, "ok");
	assert_int_equal(peer.request_bytes, 9);
	assert_memory_equal(peer.request, "\0\xffping\r\n\\", 9);
	config.expect = other;
	assert_says(fixture, &config, &peer.endpoint, "answer without the expected text (in 6 bytes)");
	peer_stop(&peer);
}

static void udp_is_refused_at_once_and_silence_is_judged_by_what_is_expected(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_UDP);
	struct peer peer = {0};
	char text[] = "x";

	config.timeout_ms = 100;
	peer_start(&peer, fixture->base);
	assert_says(fixture, &config, &peer.endpoint, "ok: no answer, and no refusal");
	config.expect = text;
	assert_says(fixture, &config, &peer.endpoint, "timeout after 100 ms while waiting for the answer");
	peer_stop(&peer);
	config.timeout_ms = 60000;
	assert_says(fixture, &config, &peer.endpoint, "connection refused");
	config.expect = NULL;
	assert_says(fixture, &config, &peer.endpoint, "connection refused");
}

/* ---- dns ---- */

static void answer_dns(struct peer *peer, uint8_t *reply, size_t *n)
{
	static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1};

	memcpy(reply, peer->request, peer->request_bytes);
	*n = peer->request_bytes;
	// first one that answers another query: to be passed over
	reply[0] ^= 1;
	reply[2] |= 0x80;
	reply[3] = 2;
	sendto(peer->fd, reply, *n, 0, (struct sockaddr *)&peer->from, peer->from_bytes);
	reply[0] ^= 1;
	reply[3] = (uint8_t)(0x80 | peer->rcode);
	reply[7] = (uint8_t)peer->n_answers;
	if (peer->n_answers) {
		memcpy(reply + *n, record, sizeof(record));
		*n += sizeof(record);
	}
}

static void dns_wants_noerror_and_an_answer(void **state)
{
	static const uint8_t question[] = "\x03www\x07" "example\x03" "com\0\0\x06\0\x01";
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_DNS);
	struct peer peer = {.answer = answer_dns, .n_answers = 1};
	char query[] = "www.example.com";

	config.query = query;
	config.record = 4; // SOA
	peer_start(&peer, fixture->base);
	assert_says(fixture, &config, &peer.endpoint, "ok: NOERROR");
	assert_int_equal(peer.request_bytes, 12 + sizeof(question) - 1);
	assert_memory_equal(peer.request + 12, question, sizeof(question) - 1);
	peer.n_answers = 0;
	assert_says(fixture, &config, &peer.endpoint, "DNS NOERROR without an answer");
	peer.rcode = 3;
	assert_says(fixture, &config, &peer.endpoint, "DNS NXDOMAIN");
	peer.rcode = 2;
	peer.n_answers = 1;
	assert_says(fixture, &config, &peer.endpoint, "DNS SERVFAIL");
	peer.answer = answer_text;
	peer.text = "\0\0\0\0\0";
	config.timeout_ms = 100;
	assert_says(fixture, &config, &peer.endpoint, "timeout after 100 ms");
	peer_stop(&peer);
}

/* ---- exec ---- */

// A script of the fixture's; @return config.command of it and two arguments.
static void write_script(struct fixture *fixture, const char *body, char *command, struct lb_config_check *config)
{
	char path[64];
	FILE *file;
	int n;

	snprintf(path, sizeof(path), "%s/check", fixture->dir);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\n%s\n", body);
	fclose(file);
	chmod(path, 0755);
	n = sprintf(command, "%s", path) + 1;
	n += sprintf(command + n, "two words") + 1;
	n += sprintf(command + n, "$HOME") + 1;
	config->command = command;
	config->command_bytes = (uint32_t)n;
}

static void exec_runs_a_program_with_arguments_and_little_else(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_EXEC);
	struct lb_endpoint endpoint = {lb_addr_from_ipv4(htonl(INADDR_LOOPBACK)), htons(8080)};
	char command[128];
	int fd = dup2(0, 50); // without O_CLOEXEC

	setenv("LB_SECRET", "leaked", 1);
	write_script(fixture, "[ \"$1\" = 'two words' ] && [ \"$2\" = '$HOME' ] && [ $# = 2 ] || exit 2\n"
		"[ \"$FULCRUM_ADDRESS:$FULCRUM_PORT\" = 127.0.0.1:8080 ] || exit 3\n"
		"[ \"$FULCRUM_SERVICE $FULCRUM_BACKEND\" = 'web api-1/10.0.0.1' ] || exit 4\n"
		"[ -z \"$LB_SECRET\" ] || exit 5\n"
		"[ \"$(pwd)\" = / ] || exit 6\n"
		"[ \"$(id -u)\" != 0 ] || exit 7\n"
		"[ ! -e /proc/$$/fd/50 ] || exit 8\n"
		"grep -q 'CapEff:.0000000000000000' /proc/$$/status || exit 9\n"
		"grep -q 'SigIgn:.0000000000000000' /proc/$$/status || exit 10\n"
		"echo fine; exit 0", command, &config);
	assert_says(fixture, &config, &endpoint, "ok: fine");
	write_script(fixture, "echo disk full >&2; echo more; exit 3", command, &config);
	assert_says(fixture, &config, &endpoint, "exit status 3: disk full");
	write_script(fixture, "kill -9 $$", command, &config);
	assert_says(fixture, &config, &endpoint, "killed by signal 9");
	close(fd);
}

static bool is_judged(void *arg)
{
	struct lb_health_status status;

	lb_health_check_status(arg, &status);
	return status.last_ns != 0;
}

static void program_that_is_not_there_judges_nobody(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_EXEC);
	struct lb_endpoint endpoint = {lb_addr_from_ipv4(htonl(INADDR_LOOPBACK)), 0};
	char command[] = "/nonexistent/check";
	struct recorder recorder = {0};
	struct lb_health_status status;
	struct lb_health_check *check;

	config.command = command;
	config.command_bytes = sizeof(command);
	check = lb_health_check_create(fixture->health, &config, &endpoint, LB_HEALTH_UP,
		recorder_changed, &recorder);
	run_until(fixture->base, is_judged, check);
	lb_health_check_status(check, &status);
	assert_int_equal(status.state, LB_HEALTH_UP);
	assert_int_equal(status.n_checks, 0);
	assert_string_equal(status.reason, "not checked: cannot run it: No such file or directory");
	lb_health_check_destroy(check);
}

static size_t n_processes(const char *path)
{
	char command[256];
	unsigned n = 0;
	FILE *out;

	snprintf(command, sizeof(command), "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o "
		"'sh [/]%s' | wc -l", path + 1);
	out = popen(command, "r");
	assert_non_null(out);
	assert_int_equal(fscanf(out, "%u", &n), 1);
	pclose(out);
	return n;
}

static void group_is_killed_at_the_deadline(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_EXEC);
	struct lb_endpoint endpoint = {lb_addr_from_ipv4(htonl(INADDR_LOOPBACK)), 0};
	char command[128], path[64];

	config.timeout_ms = 300;
	config.interval_ms = 3600000;
	write_script(fixture, "trap '' TERM INT HUP\n[ \"$1\" = again ] || $0 again &\nwhile :; do sleep 1; done",
		command, &config);
	assert_says(fixture, &config, &endpoint, "timeout after 300 ms while the program ran");
	run_for_ms(fixture->base, 100);
	snprintf(path, sizeof(path), "%s/check", fixture->dir);
	assert_int_equal(n_processes(path), 0);
}

static void endless_output_and_many_programs_are_bounded(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_EXEC);
	struct lb_endpoint endpoint = {lb_addr_from_ipv4(htonl(INADDR_LOOPBACK)), 0};
	struct lb_health_check *checks[40];
	struct recorder recorder = {0};
	struct lb_health_stats stats;
	char command[128];

	config.timeout_ms = 1000;
	config.interval_ms = 3600000;
	write_script(fixture, "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyy; done", command, &config);
	assert_says(fixture, &config, &endpoint, "timeout after 1000 ms while the program ran");
	write_script(fixture, "exec sleep 0.4", command, &config);
	config.timeout_ms = 20000;
	for (int i = 0; i < 40; i++)
		checks[i] = lb_health_check_create(fixture->health, &config, &endpoint,
			LB_HEALTH_UNKNOWN, recorder_changed, &recorder);
	while (recorder.n_changes < 40) {
		event_base_loop(fixture->base, EVLOOP_ONCE);
		lb_health_stats(fixture->health, &stats);
		assert_true(stats.n_in_flight <= LB_HEALTH_MAX_PROGRAMS);
	}
	for (int i = 0; i < 40; i++)
		lb_health_check_destroy(checks[i]);
}

/* ---- https ---- */

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void shell(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	assert_int_equal(system(command), 0);
}

// `openssl s_server` on a free port; @return its pid.
static pid_t start_tls(struct fixture *fixture, struct lb_endpoint *endpoint)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t n = sizeof(address);
	char port[8], cert[64], key[64];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	pid_t pid;

	shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test "
	      "-addext subjectAltName=DNS:api.example.com -keyout %s/key -out %s/cert 2>/dev/null",
		fixture->dir, fixture->dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	getsockname(fd, (struct sockaddr *)&address, &n);
	close(fd);
	endpoint->addr = lb_addr_from_ipv4(htonl(INADDR_LOOPBACK));
	endpoint->port_be = address.sin_port;
	snprintf(port, sizeof(port), "%u", ntohs(address.sin_port));
	snprintf(cert, sizeof(cert), "%s/cert", fixture->dir);
	snprintf(key, sizeof(key), "%s/key", fixture->dir);
	pid = fork();
	if (pid == 0) {
		// a name that is not asked for is refused: what SNI said is known so
		execlp("openssl", "openssl", "s_server", "-quiet", "-accept", port, "-cert", cert, "-key", key,
			"-servername", "api.example.com", "-servername_fatal", "-cert2", cert, "-key2",
			key, "-www", NULL);
		_exit(127);
	}
	for (int i = 0; i < 200; i++) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			i = 1000;
		else
			usleep(20000);
		close(fd);
	}
	return pid;
}

static void https_names_the_server_and_verifies_it(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTPS);
	struct lb_endpoint endpoint;
	pid_t pid = start_tls(fixture, &endpoint);
	char cert[64], missing[] = "/nonexistent.pem", host[] = "api.example.com:8443", other[] = "b.example.com";
	char sni[] = "api.example.com";
	struct recorder recorder = {0};
	struct lb_health_status status;
	struct lb_health_check *check;

	snprintf(cert, sizeof(cert), "%s/cert", fixture->dir);
	config.verify = true;
	config.host = host;
	assert_says(fixture, &config, &endpoint, "certificate is not trusted: ");
	config.ca_file = cert;
	assert_says(fixture, &config, &endpoint, "ok: HTTP 200");
	config.sni = other; // the server knows no such name
	assert_says(fixture, &config, &endpoint, "TLS handshake failed: ");
	config.sni = sni;
	config.host = other;
	assert_says(fixture, &config, &endpoint, "ok: HTTP 200");
	config.sni = config.host = NULL; // the certificate is not for an address
	status = ask(fixture, &config, &endpoint).recorder.last;
	assert_int_equal(status.state, LB_HEALTH_DOWN);
	assert_int_equal(strncmp(status.reason, "certificate is not trusted: ", 28), 0);
	if (strstr(status.reason, "'127.0.0.1'") == NULL) // what it should have been for comes last
		fail_msg("cut: \"%s\"", status.reason);
	config.verify = false;
	assert_says(fixture, &config, &endpoint, "ok: HTTP 200");
	config.verify = true;
	config.ca_file = missing;
	check = lb_health_check_create(fixture->health, &config, &endpoint, LB_HEALTH_UP,
		recorder_changed, &recorder);
	run_until(fixture->base, is_judged, check);
	lb_health_check_status(check, &status);
	assert_string_equal(status.reason, "not checked: the CA file cannot be used");
	lb_health_check_destroy(check);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void garbage_and_silence_instead_of_tls_are_judged(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTPS);
	struct server server = {.mode = SERVER_SILENT};

	config.verify = true;
	config.timeout_ms = 200;
	server_start(&server, fixture->base, false);
	assert_says(fixture, &config, &server.endpoint, "timeout after 200 ms while in the TLS handshake");
	server_stop(&server);
	server = (struct server){.mode = SERVER_HANG_UP};
	server_start(&server, fixture->base, false);
	assert_says(fixture, &config, &server.endpoint, "TLS handshake failed");
	server_stop(&server);
	server = (struct server){.mode = SERVER_GREET, .reply = "\x16\x03\x01\xff\xff garbage"};
	server_start(&server, fixture->base, false);
	assert_says(fixture, &config, &server.endpoint, "TLS handshake failed");
	server_stop(&server);
	server = (struct server){.mode = SERVER_GREET, .reply = "SSH-2.0-OpenSSH_9.2\r\n"};
	server_start(&server, fixture->base, false);
	assert_says(fixture, &config, &server.endpoint, "TLS handshake failed: wrong version number");
	server_stop(&server);
}

/* ---- what backends say of themselves ---- */

static void agent_line_is_taken_apart(void **state)
{
	static const struct {
		const char *text;
		bool ok, has_weight;
		uint32_t weight;
		enum lb_agent_admin admin;
		enum lb_agent_oper oper;
	} cases[] = {
		{"75%", true, true, 75, 0, 0},
		{"up 100% ready\r\n", true, true, 100, LB_AGENT_READY, LB_AGENT_UP},
		{"DRAIN", true, false, 0, LB_AGENT_DRAIN, 0},
		{"maint,0%", true, true, 0, LB_AGENT_MAINT, 0},
		{"fail # disk is full", true, false, 0, 0, LB_AGENT_DOWN},
		{"stopped", true, false, 0, 0, LB_AGENT_DOWN},
		{"down maxconn:30", true, false, 0, 0, LB_AGENT_DOWN},
		{"up # 50% drain", true, false, 0, 0, LB_AGENT_UP},
		{"", false, false, 0, 0, 0}, {" \n", false, false, 0, 0, 0},
		{"75", false, false, 0, 0, 0}, {"-5%", false, false, 0, 0, 0},
		{"99999999%", false, false, 0, 0, 0}, {"up banana", false, false, 0, 0, 0},
		{"HTTP/1.1 400 Bad Request", false, false, 0, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct lb_agent_words words = {0};
		bool ok = lb_agent_parse(cases[i].text, &words) == 0;

		if (ok != cases[i].ok || words.has_weight != cases[i].has_weight ||
			words.weight != cases[i].weight || words.admin != cases[i].admin ||
			words.oper != cases[i].oper)
			fail_msg("\"%s\"", cases[i].text);
	}
}

static void weights_are_bounded(void **state)
{
	struct lb_agent_words percent = {.has_weight = true, .is_percent = true}, plain = {.has_weight = true};

	(void)state;
	percent.weight = 50;
	assert_int_equal(lb_agent_percent(&percent, 10), 50);
	percent.weight = 25600;
	assert_int_equal(lb_agent_percent(&percent, 200), 100);
	percent.weight = 0;
	assert_int_equal(lb_agent_percent(&percent, 10), 0);
	plain.weight = 7;
	assert_int_equal(lb_agent_percent(&plain, 10), 70);
	assert_int_equal(lb_agent_percent(&plain, 5), 100);
	assert_int_equal(lb_agent_percent(&plain, 0), 100);
	plain.weight = 1;
	assert_int_equal(lb_agent_percent(&plain, 256), 1);
	assert_int_equal(lb_agent_percent(&(struct lb_agent_words){0}, 10), 100);
}

static void agent_is_asked_and_heard(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_AGENT);
	struct server server = {.reply = "75% up\n"};
	char ask_for[] = "how are you?\\r\\n\\r\\n";
	struct told told;

	config.send = ask_for;
	server_start(&server, fixture->base, true);
	told = ask(fixture, &config, &server.endpoint);
	assert_string_equal(told.recorder.last.reason, "ok: 75% up");
	assert_string_equal(told.text, "75% up");
	assert_string_equal(server.request, "how are you?\r\n\r\n");
	assert_int_equal(told.words.weight, 75);
	server.reply = "I do not know\n";
	told = ask(fixture, &config, &server.endpoint);
	assert_string_equal(told.recorder.last.reason, "agent said \"I do not know\"");
	assert_int_equal(told.n_reports, 0);
	server_stop(&server);
	assert_says(fixture, &config, &server.endpoint, "connection refused");
	// one that greets and goes on for ever
	server = (struct server){.mode = SERVER_GREET, .reply = "drain"};
	config.timeout_ms = 200;
	server_start(&server, fixture->base, false);
	assert_says(fixture, &config, &server.endpoint, "timeout after 200 ms while waiting for the answer");
	server_stop(&server);
}

static void weight_comes_by_header(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	struct server server = {.reply = "HTTP/1.1 100 Go\r\nX-LB-Weight: 9\r\n\r\n"
		"HTTP/1.1 200 OK\r\nx-lb-weight:  40% \r\nContent-Length: 0\r\n\r\n"};
	struct told told;

	config.weight_header = true;
	server_start(&server, fixture->base, false);
	told = ask(fixture, &config, &server.endpoint);
	assert_true(told.has_words && told.words.is_percent);
	assert_int_equal(told.words.weight, 40);
	server.reply = "HTTP/1.1 200 OK\r\nX-LB-Weight: 256\r\nContent-Length: 0\r\n\r\n";
	told = ask(fixture, &config, &server.endpoint);
	assert_true(told.has_words && !told.words.is_percent);
	assert_int_equal(told.words.weight, 256);
	server.reply = "HTTP/1.1 200 OK\r\nX-LB-Weight: 257\r\nContent-Length: 0\r\n\r\n";
	told = ask(fixture, &config, &server.endpoint);
	assert_int_equal(told.n_reports, 0);
	assert_string_equal(told.recorder.last.reason, "ok, but X-LB-Weight: is not 0..256 or NN%");
	server.reply = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	told = ask(fixture, &config, &server.endpoint);
	assert_int_equal(told.n_reports, 1);
	assert_false(told.has_words);
	server.reply = "HTTP/1.1 500 Oh\r\nX-LB-Weight: 5\r\nContent-Length: 0\r\n\r\n";
	assert_int_equal(ask(fixture, &config, &server.endpoint).n_reports, 0);
	config.weight_header = false;
	server.reply = "HTTP/1.1 200 OK\r\nX-LB-Weight: 5\r\nContent-Length: 0\r\n\r\n";
	assert_int_equal(ask(fixture, &config, &server.endpoint).n_reports, 0);
	server_stop(&server);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(udp_sends_bytes_and_looks_for_bytes),
		T(udp_is_refused_at_once_and_silence_is_judged_by_what_is_expected),
		T(dns_wants_noerror_and_an_answer),
		T(exec_runs_a_program_with_arguments_and_little_else),
		T(program_that_is_not_there_judges_nobody),
		T(group_is_killed_at_the_deadline),
		T(endless_output_and_many_programs_are_bounded),
		T(https_names_the_server_and_verifies_it),
		T(garbage_and_silence_instead_of_tls_are_judged),
		cmocka_unit_test(agent_line_is_taken_apart),
		cmocka_unit_test(weights_are_bounded),
		T(agent_is_asked_and_heard),
		T(weight_comes_by_header),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
