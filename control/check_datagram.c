/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The checks by datagrams: udp (a text, and what the answer must hold) and dns (a real query). Each probe has a
 * connected socket of its own: only the backend's datagrams come in, and an ICMP "port unreachable" becomes
 * ECONNREFUSED, which judges at once.
 */
#include <ares.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/health_internal.h"

#define DNS_HEADER_BYTES 12u /* RFC 1035, 4.1.1 */
#define DNS_CLASS_IN 1
#define ANSWER_BYTES 65536u

/* One buffer for all: the loop reads one answer at a time. */
static uint8_t answer[ANSWER_BYTES];

struct datagram_probe {
	struct lb_health_check *check;
	struct sockaddr_storage address;
	socklen_t address_bytes;
	int fd; /* -1: none in flight */
	struct event event;
	const char *invalid;
	uint8_t *request; /* udp: `send`; dns: the query */
	size_t request_bytes;
	uint8_t *expect; /* udp; NULL: any */
	size_t expect_bytes;
	bool is_dns;
};

static void datagram_destroy(void *data)
{
	struct datagram_probe *probe = data;

	if (probe->is_dns && probe->request)
		ares_free_string(probe->request);
	else
		free(probe->request);
	free(probe->expect);
	free(probe);
}

static void datagram_cancel(void *data)
{
	struct datagram_probe *probe = data;

	event_del(&probe->event);
	close(probe->fd);
	probe->fd = -1;
}

static struct datagram_probe *make(
	struct lb_health_check *check, const struct lb_config_check *config, bool is_dns)
{
	struct datagram_probe *probe = calloc(1, sizeof(*probe));

	if (!probe)
		return NULL;
	probe->check = check;
	probe->fd = -1;
	probe->is_dns = is_dns;
	probe->address_bytes = lb_health_check_address(check, config, &probe->address);
	return probe;
}

/* @return whether there was memory. */
static bool unescape(struct datagram_probe *probe, const char *text, uint8_t **bytes, size_t *n)
{
	if (!text)
		return true;
	*bytes = malloc(strlen(text) + 1);
	if (*bytes && lb_check_unescape(text, *bytes, n) < 0)
		probe->invalid = "an escape in send or expect is wrong";
	return *bytes;
}

static void *udp_create(struct lb_health_check *check, const struct lb_config_check *config)
{
	struct datagram_probe *probe = make(check, config, false);

	if (!probe)
		return NULL;
	if (!unescape(probe, config->send, &probe->request, &probe->request_bytes) ||
		!unescape(probe, config->expect, &probe->expect, &probe->expect_bytes)) {
		datagram_destroy(probe);
		return NULL;
	}
	return probe;
}

static void *dns_create(struct lb_health_check *check, const struct lb_config_check *config)
{
	struct datagram_probe *probe = make(check, config, true);
	unsigned char *query = NULL;
	int n = 0, rc;

	if (!probe)
		return NULL;
	rc = ares_create_query(config->query ? config->query : ".", DNS_CLASS_IN,
		lb_check_record_value(config->record), 0, 1, &query, &n, 0);
	if (rc == ARES_ENOMEM) {
		datagram_destroy(probe);
		return NULL;
	}
	if (rc != ARES_SUCCESS)
		probe->invalid = "query is no domain name";
	probe->request = query;
	probe->request_bytes = (size_t)n;
	return probe;
}

static void done(struct datagram_probe *probe, enum lb_health_result result, const char *reason)
{
	datagram_cancel(probe);
	lb_health_result(probe->check, result, "%s", reason);
}

static void judge_udp(struct datagram_probe *probe, size_t n)
{
	char reason[80];

	if (!probe->expect || memmem(answer, n, probe->expect, probe->expect_bytes)) {
		done(probe, LB_HEALTH_OK, "ok");
		return;
	}
	snprintf(reason, sizeof(reason), "answer without the expected text (in %zu bytes)", n);
	done(probe, LB_HEALTH_FAILED, reason);
}

static const char *rcode_name(unsigned rcode)
{
	static const char *const names[] = {
		"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"};

	return rcode < sizeof(names) / sizeof(names[0]) ? names[rcode] : "an unknown code";
}

static unsigned be16_at(size_t at)
{
	return (unsigned)answer[at] << 8 | answer[at + 1];
}

static void judge_dns(struct datagram_probe *probe, size_t n)
{
	unsigned rcode, n_answers;
	bool is_cut;
	char reason[80];

	// Not the answer to this query: whoever sent it, the real one may still come.
	if (n < probe->request_bytes || memcmp(answer, probe->request, 2) != 0 ||
		!(answer[2] & 0x80) || be16_at(4) != 1 ||
		memcmp(answer + DNS_HEADER_BYTES, probe->request + DNS_HEADER_BYTES,
			probe->request_bytes - DNS_HEADER_BYTES) != 0)
		return;
	rcode = answer[3] & 0x0f;
	n_answers = be16_at(6);
	is_cut = answer[2] & 0x02; // the rest would come by TCP: the server knows an answer
	if (rcode == 0 && (n_answers > 0 || is_cut)) {
		done(probe, LB_HEALTH_OK, "ok: NOERROR");
		return;
	}
	snprintf(reason, sizeof(reason), rcode ? "DNS %s" : "DNS %s without an answer",
		rcode_name(rcode));
	done(probe, LB_HEALTH_FAILED, reason);
}

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
	struct datagram_probe *probe = arg;
	ssize_t n = recv(fd, answer, sizeof(answer), 0);
	int error = errno;

	(void)what;
	if (n < 0 && (error == EAGAIN || error == EINTR))
		return;
	if (n < 0) {
		datagram_cancel(probe);
		lb_health_result_errno(probe->check, error);
	} else if (probe->is_dns) {
		judge_dns(probe, (size_t)n);
	} else {
		judge_udp(probe, (size_t)n);
	}
}

static int datagram_start(void *data)
{
	struct datagram_probe *probe = data;
	int error, fd = lb_health_socket(probe->address.ss_family, SOCK_DGRAM);

	if (fd < 0)
		return fd;
	if (probe->is_dns && getrandom(probe->request, 2, GRND_NONBLOCK) < 0)
		probe->request[0]++; // an early boot: better than the same again
	if (connect(fd, (struct sockaddr *)&probe->address, probe->address_bytes) < 0 ||
		send(fd, probe->request ? probe->request : (const void *)"", probe->request_bytes, 0) < 0) {
		error = errno;
		close(fd);
		return -error;
	}
	event_assign(&probe->event, probe->check->health->base, fd, EV_READ | EV_PERSIST, on_answer,
		probe);
	if (event_add(&probe->event, NULL) < 0) {
		close(fd);
		return -ENOMEM;
	}
	probe->fd = fd;
	return 0;
}

static const char *datagram_phase(const void *data)
{
	(void)data;
	return "waiting for the answer";
}

static const char *datagram_invalid(const void *data)
{
	return ((const struct datagram_probe *)data)->invalid;
}

/* Without `expect` no answer is owed: what is checked is that nobody refused. */
static bool udp_may_be_silent(const void *data)
{
	return !((const struct datagram_probe *)data)->expect;
}

const struct lb_health_ops lb_check_udp_ops = {
	.create = udp_create,
	.destroy = datagram_destroy,
	.start = datagram_start,
	.cancel = datagram_cancel,
	.phase = datagram_phase,
	.invalid = datagram_invalid,
	.may_be_silent = udp_may_be_silent,
};

const struct lb_health_ops lb_check_dns_ops = {
	.create = dns_create,
	.destroy = datagram_destroy,
	.start = datagram_start,
	.cancel = datagram_cancel,
	.phase = datagram_phase,
	.invalid = datagram_invalid,
};
