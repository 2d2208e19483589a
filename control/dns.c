/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/dns.h"

#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <event2/event_struct.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "control/mem.h"
#include "lb/log.h"

#define MAX_SERVERS 8u
#define MAX_RECORDS 256
#define TIMEOUT_MS 1500 /* of one try at one server; then the next, twice around */
#define TRIES 2
#define EDNS_BYTES 1232 /* what passes everywhere unfragmented (DNS flag day 2020) */
#define RESOLV_CONF "/etc/resolv.conf"

/* One of c-ares' descriptors. */
struct watch {
	SLIST_ENTRY(watch) link;
	struct lb_dns *dns;
	int fd;
	struct event event;
};

struct question {
	struct lb_dns_query *query;
	bool is_ipv6;
	struct lb_addr addrs[MAX_RECORDS];
};

struct lb_dns_query {
	struct lb_dns *dns;
	lb_dns_answered_fn *answered; /* NULL: cancelled */
	void *arg;
	unsigned n_pending;
	struct lb_dns_answer answers[2];
	struct question questions[2];
	TAILQ_ENTRY(lb_dns_query) done_link;
};

struct lb_dns {
	struct event_base *base;
	ares_channel channel; /* NULL: could not be made */
	SLIST_HEAD(, watch) watches;
	struct event timer;
	struct lb_endpoint servers[MAX_SERVERS];
	size_t n_servers;
	struct timespec read_at; /* of RESOLV_CONF: what it was when it was read */
	size_t n_queries;        /* that c-ares has */
	/* Answered ones: told from the loop, never from within a call of ours. */
	TAILQ_HEAD(, lb_dns_query) done;
	struct event tell;
};

static void rearm(struct lb_dns *dns)
{
	struct timeval longest = {3600, 0}, wait;

	event_del(&dns->timer);
	if (dns->channel != NULL && dns->n_queries > 0)
		event_add(&dns->timer, ares_timeout(dns->channel, &longest, &wait));
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct watch *watch = arg;
	struct lb_dns *dns = watch->dns; // the watch may go in the call

	ares_process_fd(dns->channel, what & EV_READ ? fd : ARES_SOCKET_BAD,
		what & EV_WRITE ? fd : ARES_SOCKET_BAD);
	rearm(dns);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct lb_dns *dns = arg;

	(void)fd, (void)what;
	ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	rearm(dns);
}

static void watch_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct lb_dns *dns = arg;
	struct watch *watch;

	SLIST_FOREACH (watch, &dns->watches, link)
		if (watch->fd == fd)
			break;
	if (watch != NULL)
		event_del(&watch->event);
	if (!readable && !writable) {
		if (watch != NULL) {
			SLIST_REMOVE(&dns->watches, watch, watch, link);
			free(watch);
		}
		return;
	}
	if (watch == NULL) {
		watch = lb_xcalloc(1, sizeof(*watch));
		watch->dns = dns;
		watch->fd = fd;
		SLIST_INSERT_HEAD(&dns->watches, watch, link);
	}
	event_assign(&watch->event, dns->base, fd,
		(short)(EV_PERSIST | (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0)), on_socket,
		watch);
	event_add(&watch->event, NULL);
}

static void set_ports(struct lb_dns *dns)
{
	struct ares_addr_port_node nodes[MAX_SERVERS] = {{0}};

	for (size_t i = 0; i < dns->n_servers; i++) {
		const struct lb_endpoint *server = &dns->servers[i];

		nodes[i].next = i + 1 < dns->n_servers ? &nodes[i + 1] : NULL;
		nodes[i].udp_port = nodes[i].tcp_port = ntohs(server->port_be);
		nodes[i].family = lb_addr_is_ipv4(&server->addr) ? AF_INET : AF_INET6;
		if (nodes[i].family == AF_INET)
			nodes[i].addr.addr4.s_addr = lb_addr_ipv4_be(&server->addr);
		else
			memcpy(&nodes[i].addr.addr6, server->addr.bytes, 16);
	}
	ares_set_servers_ports(dns->channel, nodes);
}

static void open_channel(struct lb_dns *dns)
{
	struct ares_options options = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS,
		.timeout = TIMEOUT_MS,
		.tries = TRIES,
		.ednspsz = EDNS_BYTES,
		.sock_state_cb = watch_socket,
		.sock_state_cb_data = dns,
	};
	struct stat file;

	dns->read_at = stat(RESOLV_CONF, &file) == 0 ? file.st_mtim : (struct timespec){0};
	if (ares_init_options(&dns->channel, &options,
		    ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ |
			    ARES_OPT_SOCK_STATE_CB) != ARES_SUCCESS) {
		dns->channel = NULL;
		return;
	}
	if (dns->n_servers > 0)
		set_ports(dns);
}

static void close_channel(struct lb_dns *dns)
{
	if (dns->channel != NULL)
		ares_destroy(dns->channel); // answers what it has, with ARES_EDESTRUCTION
	dns->channel = NULL;
	event_del(&dns->timer);
}

/* The file may have changed since it was read. */
static void refresh_channel(struct lb_dns *dns)
{
	struct stat file;

	if (dns->channel != NULL && (dns->n_servers > 0 || dns->n_queries > 0 ||
					    stat(RESOLV_CONF, &file) < 0 ||
					    (file.st_mtim.tv_sec == dns->read_at.tv_sec &&
						    file.st_mtim.tv_nsec == dns->read_at.tv_nsec)))
		return;
	close_channel(dns);
	open_channel(dns);
}

/* ---- answers ---- */

static int parse_ipv4(
	const unsigned char *reply, int n, struct question *question, struct lb_dns_answer *answer)
{
	struct ares_addrttl found[MAX_RECORDS];
	int n_found = MAX_RECORDS, rc = ares_parse_a_reply(reply, n, NULL, found, &n_found);

	for (int i = 0; rc == ARES_SUCCESS && i < n_found; i++) {
		question->addrs[i] = lb_addr_from_ipv4(found[i].ipaddr.s_addr);
		answer->ttl_s = found[i].ttl >= 0 && (uint32_t)found[i].ttl < answer->ttl_s ?
			(uint32_t)found[i].ttl : answer->ttl_s;
	}
	answer->n = rc == ARES_SUCCESS ? (size_t)n_found : 0;
	return rc;
}

static int parse_ipv6(
	const unsigned char *reply, int n, struct question *question, struct lb_dns_answer *answer)
{
	struct ares_addr6ttl found[MAX_RECORDS];
	int n_found = MAX_RECORDS, rc = ares_parse_aaaa_reply(reply, n, NULL, found, &n_found);

	for (int i = 0; rc == ARES_SUCCESS && i < n_found; i++) {
		memcpy(question->addrs[i].bytes, &found[i].ip6addr, 16);
		answer->ttl_s = found[i].ttl >= 0 && (uint32_t)found[i].ttl < answer->ttl_s ?
			(uint32_t)found[i].ttl : answer->ttl_s;
	}
	answer->n = rc == ARES_SUCCESS ? (size_t)n_found : 0;
	return rc;
}

static const char *reason_of(int status)
{
	switch (status) {
	case ARES_SUCCESS:
		return "";
	case ARES_ENODATA:
		return "no address";
	case ARES_ENOTFOUND:
		return "NXDOMAIN";
	case ARES_ESERVFAIL:
		return "SERVFAIL";
	case ARES_EREFUSED:
		return "REFUSED";
	case ARES_ETIMEOUT:
		return "timeout";
	case ARES_ECONNREFUSED:
		return "no name server gives an answer"; // also: all said SERVFAIL or the like
	case ARES_EDESTRUCTION:
	case ARES_ECANCELLED:
		return "asking others";
	default:
		return ares_strerror(status);
	}
}

static void finish(struct lb_dns_query *query)
{
	if (--query->n_pending > 0)
		return;
	TAILQ_INSERT_TAIL(&query->dns->done, query, done_link);
	event_active(&query->dns->tell, EV_TIMEOUT, 0);
}

static void on_answer(void *arg, int status, int n_timeouts, unsigned char *reply, int n)
{
	struct question *question = arg;
	struct lb_dns_query *query = question->query;
	struct lb_dns_answer *answer = &query->answers[question->is_ipv6];

	(void)n_timeouts;
	*answer = (struct lb_dns_answer){.addrs = question->addrs, .ttl_s = UINT32_MAX};
	if (status == ARES_SUCCESS)
		status = question->is_ipv6 ? parse_ipv6(reply, n, question, answer) :
			parse_ipv4(reply, n, question, answer);
	if (status == ARES_SUCCESS && answer->n == 0)
		status = ARES_ENODATA;
	answer->reason = reason_of(status);
	if (status != ARES_SUCCESS && status != ARES_ENODATA && status != ARES_ENOTFOUND)
		answer->result = LB_DNS_FAILED;
	query->dns->n_queries--;
	finish(query);
}

static void on_tell(evutil_socket_t fd, short what, void *arg)
{
	struct lb_dns *dns = arg;
	struct lb_dns_query *query;

	(void)fd, (void)what;
	while ((query = TAILQ_FIRST(&dns->done)) != NULL) {
		TAILQ_REMOVE(&dns->done, query, done_link);
		if (query->answered != NULL)
			query->answered(query->arg, query->answers);
		free(query);
	}
}

/* ---- what is public ---- */

int lb_dns_create(struct event_base *base, struct lb_dns **out)
{
	struct lb_dns *dns = lb_xcalloc(1, sizeof(*dns));

	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
		free(dns);
		return -ENOMEM;
	}
	dns->base = base;
	SLIST_INIT(&dns->watches);
	TAILQ_INIT(&dns->done);
	evtimer_assign(&dns->timer, base, on_timer, dns);
	evtimer_assign(&dns->tell, base, on_tell, dns);
	*out = dns;
	return 0;
}

void lb_dns_destroy(struct lb_dns *dns)
{
	struct lb_dns_query *query;

	close_channel(dns);
	while ((query = TAILQ_FIRST(&dns->done)) != NULL) {
		TAILQ_REMOVE(&dns->done, query, done_link);
		free(query);
	}
	event_del(&dns->tell);
	ares_library_cleanup();
	free(dns);
}

static bool same_servers(const struct lb_endpoint *a, const struct lb_endpoint *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i].port_be != b[i].port_be || !lb_addr_equal(&a[i].addr, &b[i].addr))
			return false;
	return true;
}

bool lb_dns_set_servers(struct lb_dns *dns, const struct lb_endpoint *servers, size_t n)
{
	n = n < MAX_SERVERS ? n : MAX_SERVERS;
	if (n == dns->n_servers && same_servers(servers, dns->servers, n))
		return false;
	dns->n_servers = n;
	if (n > 0)
		memcpy(dns->servers, servers, n * sizeof(*servers));
	close_channel(dns); // the next question opens another
	return true;
}

struct lb_dns_query *lb_dns_ask(
	struct lb_dns *dns, const char *name, lb_dns_answered_fn *answered, void *arg)
{
	struct lb_dns_query *query;

	refresh_channel(dns);
	if (dns->channel == NULL)
		return NULL;
	query = lb_xcalloc(1, sizeof(*query));
	*query = (struct lb_dns_query){.dns = dns, .answered = answered, .arg = arg};
	query->n_pending = 3; // two answers, and this function: they may come at once
	dns->n_queries += 2;
	for (unsigned i = 0; i < 2; i++) {
		query->questions[i].query = query;
		query->questions[i].is_ipv6 = i == 1;
		ares_query(dns->channel, name, ns_c_in, i == 1 ? ns_t_aaaa : ns_t_a, on_answer,
			&query->questions[i]);
	}
	rearm(dns);
	finish(query);
	return query;
}

void lb_dns_cancel(struct lb_dns_query *query)
{
	query->answered = NULL;
}
