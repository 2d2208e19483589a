/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine: states, schedule, limits. What single probes see is in test_checks.c. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/health_internal.h"
#include "tests/unit/check_server.h"

static const char reply_200[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static const char reply_500[] = "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n";

struct fixture {
	struct event_base *base;
	struct lb_health *health;
	struct server server;
	struct recorder recorder;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	fixture->base = event_base_new();
	assert_int_equal(lb_health_create(fixture->base, &fixture->health), 0);
	fixture->recorder.health = fixture->health;
	fixture->server.reply = reply_200;
	server_start(&fixture->server, fixture->base, false);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	server_stop(&fixture->server);
	lb_health_destroy(fixture->health);
	event_base_free(fixture->base);
	free(fixture);
	return 0;
}

static struct lb_health_check *check_server(
	struct fixture *fixture, const struct lb_config_check *config, enum lb_health_state initial)
{
	struct lb_health_check *check = lb_health_check_create(fixture->health, config,
		&fixture->server.endpoint, initial, recorder_changed, &fixture->recorder);

	assert_non_null(check);
	return check;
}

static struct lb_health_status status_of(const struct lb_health_check *check)
{
	struct lb_health_status status;

	lb_health_check_status(check, &status);
	return status;
}

/* ---- states ---- */

static void first_result_settles_unknown(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_TCP);

	config.rise = config.fall = 5;
	check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	run_until_changed(fixture->base, &fixture->recorder, 1);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_UP);
	assert_int_equal(fixture->recorder.last.n_checks, 1);

	server_stop(&fixture->server);
	check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	run_until_changed(fixture->base, &fixture->recorder, 2);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_DOWN);
	assert_int_equal(fixture->recorder.last.n_checks, 1);
}

static void state_changes_after_fall_and_rise_results_in_a_row(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_TCP);

	server_stop(&fixture->server);
	check_server(fixture, &config, LB_HEALTH_UP);
	run_until_changed(fixture->base, &fixture->recorder, 1);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_DOWN);
	assert_int_equal(fixture->recorder.last.n_checks, 3);
	assert_int_equal(fixture->recorder.last.n_failures, 3);

	server_resume(&fixture->server);
	run_until_changed(fixture->base, &fixture->recorder, 2);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_UP);
	assert_int_equal(fixture->recorder.last.n_successes, 2);
	assert_int_equal(fixture->recorder.last.n_failures, 0);
}

static void one_success_forgives_failures(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	const char *script[] = {reply_500, reply_500, reply_200, reply_500, reply_500, reply_200,
		reply_500, reply_500, reply_500, NULL};
	struct lb_health_check *check;

	fixture->server.script = script;
	config.interval_ms = 20;
	check = check_server(fixture, &config, LB_HEALTH_UP);
	run_until_checked(fixture->base, check, 8);
	assert_int_equal(fixture->recorder.n_changes, 0);
	run_until_changed(fixture->base, &fixture->recorder, 1);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_DOWN);
	assert_int_equal(fixture->recorder.last.n_checks, 9);
	assert_int_equal(fixture->recorder.last.n_failed, 7);
	assert_string_equal(fixture->recorder.last.reason, "HTTP 500");
}

static void one_failure_resets_successes(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	const char *script[] = {reply_200, reply_500, reply_200, reply_200, NULL};

	fixture->server.script = script;
	config.interval_ms = 20;
	check_server(fixture, &config, LB_HEALTH_DOWN);
	run_until_changed(fixture->base, &fixture->recorder, 1);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_UP);
	assert_int_equal(fixture->recorder.last.n_checks, 4);
}

static void check_of_type_none_keeps_its_state(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_NONE);
	struct lb_health_check *unknown = check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	struct lb_health_check *down = check_server(fixture, &config, LB_HEALTH_DOWN);

	lb_health_check_now(unknown);
	run_for_ms(fixture->base, 300);
	assert_int_equal(status_of(unknown).state, LB_HEALTH_UP);
	assert_int_equal(status_of(down).state, LB_HEALTH_DOWN);
	assert_int_equal(fixture->recorder.n_changes, 0);
	assert_int_equal(fixture->server.n_connections, 0);
}

static void check_without_a_port_fails(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_TCP);
	uint16_t port = be16toh(fixture->server.endpoint.port_be);

	fixture->server.endpoint.port_be = 0;
	check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	run_until_changed(fixture->base, &fixture->recorder, 1);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_DOWN);
	assert_string_equal(fixture->recorder.last.reason, "no port to check");

	config.port = port; // the check's own goes before the backend's
	check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	run_until_changed(fixture->base, &fixture->recorder, 2);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_UP);
}

/* ---- changes ---- */

static void update_keeps_the_state(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	struct lb_health_check *check = check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	struct lb_health_status before;

	run_until_checked(fixture->base, check, 2);
	before = status_of(check);
	assert_int_equal(before.state, LB_HEALTH_UP);
	config.expect_status_min = config.expect_status_max = 204;
	config.fall = 2;
	assert_int_equal(lb_health_check_update(check, &config), 0);
	assert_int_equal(status_of(check).state, LB_HEALTH_UP);
	assert_int_equal(status_of(check).n_checks, before.n_checks);
	run_until_changed(fixture->base, &fixture->recorder, 2);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_DOWN);
	assert_int_equal(fixture->recorder.last.n_failures, 2);
	assert_int_equal(fixture->recorder.last.n_checks, before.n_checks + 2);
}

static void update_may_change_the_type_with_a_probe_in_flight(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	struct lb_health_check *check;

	fixture->server.mode = SERVER_SILENT;
	config.timeout_ms = config.interval_ms = 60000;
	check = check_server(fixture, &config, LB_HEALTH_UP);
	for (struct lb_health_stats stats = {0}; stats.n_in_flight == 0;) {
		event_base_loop(fixture->base, EVLOOP_ONCE);
		lb_health_stats(fixture->health, &stats);
	}
	config.type = LB_CHECK_TCP;
	assert_int_equal(lb_health_check_update(check, &config), 0);
	run_until_checked(fixture->base, check, 1);
	assert_int_equal(status_of(check).n_failed, 0);
	assert_string_equal(status_of(check).reason, "ok");
}

static void equal_update_changes_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	struct lb_health_check *check;
	char path[] = "/a", same_path[] = "/a";

	fixture->server.mode = SERVER_SILENT;
	config.timeout_ms = 300;
	config.interval_ms = 60000;
	config.path = path;
	check = check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	for (struct lb_health_stats stats = {0}; stats.n_in_flight == 0;) {
		event_base_loop(fixture->base, EVLOOP_ONCE);
		lb_health_stats(fixture->health, &stats);
	}
	config.path = same_path;
	assert_int_equal(lb_health_check_update(check, &config), 0);
	run_until_checked(fixture->base, check, 1); // the probe in flight still judges
	assert_int_equal(fixture->health->stats.n_probes, 1);
}

static void update_to_none_brings_up(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_TCP);
	struct lb_health_check *check;

	server_stop(&fixture->server);
	check = check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	run_until_changed(fixture->base, &fixture->recorder, 1);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_DOWN);
	config.type = LB_CHECK_NONE;
	assert_int_equal(lb_health_check_update(check, &config), 0);
	assert_int_equal(fixture->recorder.n_changes, 1); // not from inside the call
	run_until_changed(fixture->base, &fixture->recorder, 2);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_UP);

	config.type = LB_CHECK_TCP;
	assert_int_equal(lb_health_check_update(check, &config), 0);
	run_until_changed(fixture->base, &fixture->recorder, 3);
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_DOWN);
	assert_int_equal(fixture->recorder.last.n_failures, 3); // from new
}

static void checks_may_be_destroyed_in_a_callback(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check tcp = fast_check(LB_CHECK_TCP), http = fast_check(LB_CHECK_HTTP);
	struct lb_health_stats stats;

	for (int i = 0; i < 4; i++) // two of each, so one destroys the others in any phase
		fixture->recorder.destroy[i] =
			check_server(fixture, i % 2 ? &tcp : &http, LB_HEALTH_UNKNOWN);
	run_until_changed(fixture->base, &fixture->recorder, 1);
	run_for_ms(fixture->base, 300);
	assert_int_equal(fixture->recorder.n_changes, 1);
	lb_health_stats(fixture->health, &stats);
	assert_int_equal(stats.n_checks, 0);
	assert_int_equal(stats.n_in_flight, 0);
}

static void engine_may_be_destroyed_with_probes_in_flight(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);

	fixture->server.mode = SERVER_SILENT;
	for (int i = 0; i < 50; i++)
		check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	while (fixture->health->stats.n_in_flight < 20)
		event_base_loop(fixture->base, EVLOOP_ONCE);
	lb_health_destroy(fixture->health); // leaks show under AddressSanitizer
	fixture->health = NULL;
	run_for_ms(fixture->base, 100);
	assert_int_equal(fixture->recorder.n_changes, 0);
}

/* ---- schedule ---- */

static void check_now_does_not_wait_for_the_interval(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_TCP);
	struct lb_health_check *check;

	config.interval_ms = 3600000;
	config.fall = 2;
	check = check_server(fixture, &config, LB_HEALTH_UP);
	run_until_checked(fixture->base, check, 1);
	server_stop(&fixture->server);
	for (uint64_t n = 2; n <= 3; n++) {
		lb_health_check_now(check);
		lb_health_check_now(check); // once more is not twice
		run_until_checked(fixture->base, check, n);
	}
	assert_int_equal(fixture->recorder.last.state, LB_HEALTH_DOWN);
	run_for_ms(fixture->base, 300);
	assert_int_equal(status_of(check).n_checks, 3);
}

static void check_now_during_a_probe_is_followed_by_another(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	struct lb_health_check *check;

	fixture->server.mode = SERVER_DRIP;
	config.interval_ms = 3600000;
	check = check_server(fixture, &config, LB_HEALTH_UP);
	while (fixture->health->stats.n_in_flight == 0)
		event_base_loop(fixture->base, EVLOOP_ONCE);
	lb_health_check_now(check);
	run_until_checked(fixture->base, check, 2);
	assert_int_equal(status_of(check).n_failed, 0);
	run_for_ms(fixture->base, 500); // twice what the server takes
	assert_int_equal(fixture->health->stats.n_probes, 2);
}

static void probes_of_a_check_do_not_stack(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	struct lb_health_check *check;
	uint32_t max_in_flight = 0;

	fixture->server.mode = SERVER_SILENT;
	config.interval_ms = 20;
	config.timeout_ms = 90;
	check = check_server(fixture, &config, LB_HEALTH_UP);
	while (status_of(check).n_checks < 5) {
		event_base_loop(fixture->base, EVLOOP_ONCE);
		if (fixture->health->stats.n_in_flight > max_in_flight)
			max_in_flight = fixture->health->stats.n_in_flight;
	}
	assert_int_equal(max_in_flight, 1);
	assert_in_range(fixture->health->stats.n_probes, 5, 6);
}

static void missed_probes_are_not_made_up_for(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_TCP);
	struct lb_health_check *check;
	uint64_t n_before, planned_ns;

	config.interval_ms = 20;
	check = check_server(fixture, &config, LB_HEALTH_UP);
	run_until_checked(fixture->base, check, 2);
	planned_ns = check->grid_ns;
	n_before = fixture->health->stats.n_probes;
	usleep(400000);
	event_base_loop(fixture->base, EVLOOP_NONBLOCK);
	event_base_loop(fixture->base, EVLOOP_NONBLOCK);
	assert_int_equal(fixture->health->stats.n_probes, n_before + 1);
	// and the grid is where it was
	assert_true(check->grid_ns > planned_ns + 300000000);
	assert_int_equal((check->grid_ns - planned_ns) % 20000000, 0);
}

// Answers each connection with 200, a tenth of a second late.
static void serve_slowly(int fd)
{
	char request[1024];

	for (;;) {
		int connection = accept(fd, NULL, NULL);

		if (read(connection, request, sizeof(request)) <= 0)
			_exit(1);
		usleep(100000);
		if (write(connection, reply_200, sizeof(reply_200) - 1) < 0)
			_exit(1);
		close(connection);
	}
}

static void stalled_loop_is_not_held_against_the_backend(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	struct lb_health_check *check;
	int fd = evconnlistener_get_fd(fixture->server.listener);
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fcntl(fd, F_SETFL, 0);
		serve_slowly(fd);
	}
	evconnlistener_disable(fixture->server.listener);
	config.timeout_ms = 400;
	check = check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	while (fixture->health->stats.n_in_flight == 0)
		event_base_loop(fixture->base, EVLOOP_ONCE);
	usleep(900000); // before it could even connect
	run_until_checked(fixture->base, check, 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_string_equal(status_of(check).reason, "ok: HTTP 200");
}

/* ---- limits ---- */

static bool all_are(struct lb_health_check **checks, size_t n, enum lb_health_state wanted)
{
	for (size_t i = 0; i < n; i++) {
		if (status_of(checks[i]).state != wanted)
			return false;
	}
	return true;
}

struct many {
	struct lb_health_check *checks[400];
	enum lb_health_state wanted;
};

static bool many_are(void *arg)
{
	struct many *many = arg;

	return all_are(many->checks, 400, many->wanted);
}

static void hundreds_of_checks_run_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check tcp = fast_check(LB_CHECK_TCP), http = fast_check(LB_CHECK_HTTP);
	struct many many = {.wanted = LB_HEALTH_UP};

	tcp.interval_ms = http.interval_ms = 400;
	for (size_t i = 0; i < 400; i++)
		many.checks[i] = check_server(fixture, i % 2 ? &tcp : &http, LB_HEALTH_UNKNOWN);
	run_until(fixture->base, many_are, &many);
	server_stop(&fixture->server);
	many.wanted = LB_HEALTH_DOWN;
	run_until(fixture->base, many_are, &many);
	server_resume(&fixture->server);
	many.wanted = LB_HEALTH_UP;
	run_until(fixture->base, many_are, &many);
	assert_int_equal(fixture->recorder.n_changes, 1200);
}

static void probes_wait_when_too_many_are_in_flight(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check config = fast_check(LB_CHECK_HTTP);
	struct lb_health_check *checks[40];
	uint32_t max_waiting = 0, max_in_flight = 0;

	fixture->server.mode = SERVER_SILENT;
	fixture->health->lanes[LB_HEALTH_LANE_SOCKET].max_in_flight = 4;
	config.timeout_ms = 100;
	config.interval_ms = 3600000;
	for (size_t i = 0; i < 40; i++)
		checks[i] = check_server(fixture, &config, LB_HEALTH_UNKNOWN);
	while (!all_are(checks, 40, LB_HEALTH_DOWN)) {
		const struct lb_health_stats *stats = &fixture->health->stats;

		event_base_loop(fixture->base, EVLOOP_ONCE);
		max_waiting = stats->n_waiting > max_waiting ? stats->n_waiting : max_waiting;
		max_in_flight =
			stats->n_in_flight > max_in_flight ? stats->n_in_flight : max_in_flight;
		if (max_waiting > 20 && checks[39]) { // one that waits may go
			lb_health_check_destroy(checks[39]);
			checks[39] = check_server(fixture, &config, LB_HEALTH_DOWN);
		}
	}
	assert_int_equal(max_in_flight, 4);
	assert_true(max_waiting > 0);
}

static void want_of_descriptors_is_not_held_against_the_backend(void **state)
{
	struct fixture *fixture = *state;
	struct lb_config_check tcp = fast_check(LB_CHECK_TCP), http = fast_check(LB_CHECK_HTTP);
	struct lb_health_check *checks[2];
	struct rlimit limit, none;

	tcp.fall = http.fall = 1;
	checks[0] = check_server(fixture, &tcp, LB_HEALTH_UP);
	checks[1] = check_server(fixture, &http, LB_HEALTH_UP);
	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	while (fixture->health->stats.n_not_judged < 6)
		event_base_loop(fixture->base, EVLOOP_ONCE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < 2; i++) {
		assert_string_equal(
			status_of(checks[i]).reason, "not checked: too many open files");
		assert_int_equal(status_of(checks[i]).state, LB_HEALTH_UP);
		assert_int_equal(status_of(checks[i]).n_checks, 0);
	}
	for (int i = 0; i < 2; i++) {
		run_until_checked(fixture->base, checks[i], 2);
		assert_int_equal(status_of(checks[i]).n_failed, 0);
	}
	assert_int_equal(fixture->recorder.n_changes, 0);
}

static void limit_of_open_files_is_raised(void **state)
{
	struct rlimit before, low, after;
	struct event_base *base = event_base_new();
	struct lb_health *health;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &before);
	low = before;
	low.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(lb_health_create(base, &health), 0);
	getrlimit(RLIMIT_NOFILE, &after);
	assert_true(after.rlim_cur == before.rlim_max || after.rlim_cur == 1 << 20);
	assert_true(health->lanes[LB_HEALTH_LANE_SOCKET].max_in_flight < after.rlim_cur);
	lb_health_destroy(health);
	event_base_free(base);
	setrlimit(RLIMIT_NOFILE, &before);
}

static void states_have_names(void **state)
{
	(void)state;
	assert_string_equal(lb_health_state_name(LB_HEALTH_UNKNOWN), "unknown");
	assert_string_equal(lb_health_state_name(LB_HEALTH_UP), "up");
	assert_string_equal(lb_health_state_name(LB_HEALTH_DOWN), "down");
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(first_result_settles_unknown),
		T(state_changes_after_fall_and_rise_results_in_a_row),
		T(one_success_forgives_failures),
		T(one_failure_resets_successes),
		T(check_of_type_none_keeps_its_state),
		T(check_without_a_port_fails),
		T(update_keeps_the_state),
		T(update_may_change_the_type_with_a_probe_in_flight),
		T(equal_update_changes_nothing),
		T(update_to_none_brings_up),
		T(checks_may_be_destroyed_in_a_callback),
		T(engine_may_be_destroyed_with_probes_in_flight),
		T(check_now_does_not_wait_for_the_interval),
		T(check_now_during_a_probe_is_followed_by_another),
		T(probes_of_a_check_do_not_stack),
		T(missed_probes_are_not_made_up_for),
		T(stalled_loop_is_not_held_against_the_backend),
		T(hundreds_of_checks_run_at_once),
		T(probes_wait_when_too_many_are_in_flight),
		T(want_of_descriptors_is_not_held_against_the_backend),
		cmocka_unit_test(limit_of_open_files_is_raised),
		cmocka_unit_test(states_have_names),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
