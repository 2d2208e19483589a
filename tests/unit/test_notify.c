/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "lb/notify.h"

/* A manager's socket at @p name as in $NOTIFY_SOCKET, which is set. */
static int listen_at(const char *name)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	size_t len = strlen(name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	memcpy(at.sun_path, name, len);
	if (name[0] == '@')
		at.sun_path[0] = '\0';
	assert_int_equal(0, bind(fd, (const struct sockaddr *)&at,
				    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)));
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

static void assert_received(int fd, const char *state)
{
	char buf[256];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

	assert_int_equal(strlen(state), n);
	buf[n] = '\0';
	assert_string_equal(state, buf);
}

static void state_arrives_at_an_abstract_socket(void **state)
{
	char name[64];
	int fd, lowest;

	(void)state;
	snprintf(name, sizeof(name), "@lb-test-notify-%d", getpid());
	fd = listen_at(name);
	assert_int_equal(0, lb_notify("READY=1"));
	assert_received(fd, "READY=1");
	assert_int_equal(0, lb_notify("STATUS=two ports\nMAINPID=7"));
	assert_received(fd, "STATUS=two ports\nMAINPID=7");
	lowest = dup(fd);
	close(lowest);
	assert_int_equal(0, lb_notify("WATCHDOG=1"));
	assert_int_equal(lowest, dup(fd)); // no descriptor was left open
	close(lowest);
	close(fd);
	assert_int_equal(-ECONNREFUSED, lb_notify("READY=1"));
}

static void state_arrives_at_a_path(void **state)
{
	char dir[] = "/tmp/lb-test-notify-XXXXXX", name[64];
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(name, sizeof(name), "%s/socket", dir);
	fd = listen_at(name);
	assert_int_equal(0, lb_notify("STOPPING=1"));
	assert_received(fd, "STOPPING=1");
	close(fd);
	unlink(name);
	assert_int_equal(-ENOENT, lb_notify("READY=1"));
	rmdir(dir);
}

static void nobody_to_notify_is_no_error(void **state)
{
	(void)state;
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(0, lb_notify("READY=1"));
	setenv("NOTIFY_SOCKET", "", 1);
	assert_int_equal(0, lb_notify("READY=1"));
}

static void wrong_names_are_refused(void **state)
{
	char name[200];

	(void)state;
	setenv("NOTIFY_SOCKET", "relative/path", 1);
	assert_int_equal(-EINVAL, lb_notify("READY=1"));
	setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
	assert_int_equal(-EINVAL, lb_notify("READY=1"));
	setenv("NOTIFY_SOCKET", "@", 1);
	assert_int_equal(-EINVAL, lb_notify("READY=1"));
	memset(name, 'x', sizeof(name));
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	setenv("NOTIFY_SOCKET", name, 1);
	assert_int_equal(-ENAMETOOLONG, lb_notify("READY=1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(state_arrives_at_an_abstract_socket),
		cmocka_unit_test(state_arrives_at_a_path),
		cmocka_unit_test(nobody_to_notify_is_no_error),
		cmocka_unit_test(wrong_names_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
