/* SPDX-License-Identifier: BSD-3-Clause */
/* The tcp check: a backend that completes the handshake is healthy; nothing is sent. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/health_internal.h"

struct tcp_probe {
	struct lb_health_check *check;
	struct sockaddr_storage address;
	socklen_t address_bytes;
	int fd; /* -1: none in flight */
	struct event event;
};

static void *tcp_create(struct lb_health_check *check, const struct lb_config_check *config)
{
	struct tcp_probe *probe = calloc(1, sizeof(*probe));

	if (!probe)
		return NULL;
	probe->check = check;
	probe->fd = -1;
	probe->address_bytes = lb_health_check_address(check, config, &probe->address);
	return probe;
}

static void tcp_cancel(void *data)
{
	struct tcp_probe *probe = data;

	event_del(&probe->event);
	close(probe->fd);
	probe->fd = -1;
}

static void on_connect(evutil_socket_t fd, short what, void *arg)
{
	struct tcp_probe *probe = arg;
	int error = 0;
	socklen_t error_bytes = sizeof(error);

	(void)what;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) < 0)
		error = errno;
	tcp_cancel(probe);
	if (error)
		lb_health_result_errno(probe->check, error);
	else
		lb_health_result(probe->check, LB_HEALTH_OK, "ok");
}

static int tcp_start(void *data)
{
	struct tcp_probe *probe = data;
	int fd, error;

	fd = lb_health_socket(probe->address.ss_family, SOCK_STREAM);
	if (fd < 0)
		return fd;
	// A connection that is complete at once (loopback) is reported from the loop like any
	// other.
	if (connect(fd, (struct sockaddr *)&probe->address, probe->address_bytes) < 0 &&
		errno != EINPROGRESS) {
		error = errno;
		close(fd);
		return -error;
	}
	event_assign(&probe->event, probe->check->health->base, fd, EV_WRITE, on_connect, probe);
	if (event_add(&probe->event, NULL) < 0) {
		close(fd);
		return -ENOMEM;
	}
	probe->fd = fd;
	return 0;
}

static const char *tcp_phase(const void *data)
{
	(void)data;
	return "connecting";
}

const struct lb_health_ops lb_check_tcp_ops = {
	.create = tcp_create,
	.destroy = free,
	.start = tcp_start,
	.cancel = tcp_cancel,
	.phase = tcp_phase,
};
