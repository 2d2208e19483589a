/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_DNS_H
#define LB_CONTROL_DNS_H

#include <event2/event.h>

#include "lb/addr.h"

/*
 * Questions to name servers, by c-ares on libevent: A and AAAA of one name at a time, over UDP with EDNS,
 * over TCP when an answer is cut. Names are absolute: no search list, no /etc/hosts, so that every host of a
 * fleet asks the same.
 */
struct lb_dns;
struct lb_dns_query;

enum lb_dns_result {
	LB_DNS_ANSWERED, /* also without addresses: NXDOMAIN, no data */
	LB_DNS_FAILED,   /* timeout, SERVFAIL, REFUSED, no server, … */
};

struct lb_dns_answer {
	enum lb_dns_result result;
	const char *reason; /* "", "NXDOMAIN", "no address", "SERVFAIL", "timeout", … */
	struct lb_addr *addrs;
	size_t n;
	uint32_t ttl_s; /* the smallest, with addresses */
};

/** @p answers: of A and of AAAA; valid during the call. Called from the loop. */
typedef void lb_dns_answered_fn(void *arg, const struct lb_dns_answer answers[2]);

/** @return 0; -ENOMEM. */
int lb_dns_create(struct event_base *base, struct lb_dns **out);
/** Queries under way are forgotten without a call. */
void lb_dns_destroy(struct lb_dns *dns);

/**
 * Ask these servers (at most 8; none: those of /etc/resolv.conf, read again when it changes).
 * Queries under way end as failed. @return whether they are others than before.
 */
bool lb_dns_set_servers(struct lb_dns *dns, const struct lb_endpoint *servers, size_t n);

/** Ask for @p name (at most 253 characters). @return NULL: it cannot be asked now. */
struct lb_dns_query *lb_dns_ask(
	struct lb_dns *dns, const char *name, lb_dns_answered_fn *answered, void *arg);

/** No call follows. */
void lb_dns_cancel(struct lb_dns_query *query);

#endif
