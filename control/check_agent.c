/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The agent check: a connection to somebody who knows how the backend is doing; what is to be said is said, and
 * one line read. What it means is agent.c's. All that the other side can do is bounded.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/health_internal.h"

#define LINE_BYTES 256u

struct agent_probe {
	struct lb_health_check *check;
	struct sockaddr_storage address;
	socklen_t address_bytes;
	int fd; /* -1: none in flight */
	struct event event;
	uint8_t *request;
	size_t request_bytes;
	char line[LINE_BYTES];
	size_t line_bytes;
	bool is_connected;
};

static void agent_destroy(void *data)
{
	struct agent_probe *probe = data;

	free(probe->request);
	free(probe);
}

static void *agent_create(struct lb_health_check *check, const struct lb_config_check *config)
{
	struct agent_probe *probe = calloc(1, sizeof(*probe));

	if (!probe)
		return NULL;
	probe->check = check;
	probe->fd = -1;
	probe->address_bytes = lb_health_check_address(check, config, &probe->address);
	if (!config->send)
		return probe;
	probe->request = malloc(strlen(config->send) + 1);
	if (!probe->request) {
		free(probe);
		return NULL;
	}
	if (lb_check_unescape(config->send, probe->request, &probe->request_bytes) < 0)
		probe->request_bytes = 0; // the config lets none through
	return probe;
}

static void agent_cancel(void *data)
{
	struct agent_probe *probe = data;

	event_del(&probe->event);
	close(probe->fd);
	probe->fd = -1;
}

static void judge(struct agent_probe *probe)
{
	struct lb_agent_words words;

	agent_cancel(probe);
	probe->line[probe->line_bytes] = '\0';
	probe->line[strcspn(probe->line, "\r\n")] = '\0';
	for (char *c = probe->line; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = *c == '\t' ? ' ' : '?';
	if (lb_agent_parse(probe->line, &words) < 0) {
		lb_health_result(probe->check, LB_HEALTH_FAILED, "agent said \"%.60s\"", probe->line);
		return;
	}
	lb_health_report(probe->check, &words, probe->line);
	lb_health_result(probe->check, LB_HEALTH_OK, "ok: %.60s", probe->line);
}

static void fail(struct agent_probe *probe, int error)
{
	agent_cancel(probe);
	lb_health_result_errno(probe->check, error);
}

static void on_readable(struct agent_probe *probe)
{
	ssize_t n = recv(probe->fd, probe->line + probe->line_bytes,
		LINE_BYTES - 1 - probe->line_bytes, 0);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		fail(probe, errno);
		return;
	}
	if (n > 0)
		probe->line_bytes += (size_t)n;
	if (n == 0 || probe->line_bytes == LINE_BYTES - 1 ||
		memchr(probe->line, '\n', probe->line_bytes))
		judge(probe);
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct agent_probe *probe = arg;
	socklen_t error_bytes = sizeof(int);
	int error = 0;

	if (probe->is_connected) {
		on_readable(probe);
		return;
	}
	(void)what;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) < 0)
		error = errno;
	// At most 1 KiB: a new connection's buffer has room for it.
	if (!error && probe->request_bytes &&
		send(fd, probe->request, probe->request_bytes, MSG_NOSIGNAL) < 0)
		error = errno;
	if (error) {
		fail(probe, error);
		return;
	}
	probe->is_connected = true;
	event_del(&probe->event);
	event_assign(&probe->event, probe->check->health->base, fd, EV_READ | EV_PERSIST, on_ready,
		probe);
	if (event_add(&probe->event, NULL) < 0)
		fail(probe, ENOMEM);
}

static int agent_start(void *data)
{
	struct agent_probe *probe = data;
	int error, fd = lb_health_socket(probe->address.ss_family, SOCK_STREAM);

	if (fd < 0)
		return fd;
	if (connect(fd, (struct sockaddr *)&probe->address, probe->address_bytes) < 0 &&
		errno != EINPROGRESS) {
		error = errno;
		close(fd);
		return -error;
	}
	event_assign(&probe->event, probe->check->health->base, fd, EV_WRITE, on_ready, probe);
	if (event_add(&probe->event, NULL) < 0) {
		close(fd);
		return -ENOMEM;
	}
	probe->fd = fd;
	probe->line_bytes = 0;
	probe->is_connected = false;
	return 0;
}

static const char *agent_phase(const void *data)
{
	return ((const struct agent_probe *)data)->is_connected ? "waiting for the answer" :
		"connecting";
}

const struct lb_health_ops lb_check_agent_ops = {
	.create = agent_create,
	.destroy = agent_destroy,
	.start = agent_start,
	.cancel = agent_cancel,
	.phase = agent_phase,
};
