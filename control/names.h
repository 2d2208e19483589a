/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_NAMES_H
#define LB_CONTROL_NAMES_H

#include <event2/event.h>
#include <jansson.h>

#include "control/config.h"
#include "control/events.h"

/*
 * Host names of backends: each is asked for (A and AAAA) in the loop, by c-ares, again when the answer's
 * TTL says so. What is known of a name is lost only by an answer that has other addresses: a server that
 * is down, refuses, or says that there is no such name (or no address) leaves everything as it was, with
 * an event. An address that an answer lacks is "gone": the model drains it, and tells when it may be
 * forgotten. All of it is kept over restarts with the model's state.
 */
struct lb_names;

#define LB_NAMES_MAX_ADDRESSES 256u /* of one name; further ones are left out */

struct lb_name_address {
	struct lb_addr addr;
	bool gone;         /* the last answer lacks it */
	bool busy;         /* marked since the last sweep */
	uint64_t since_ns; /* CLOCK_REALTIME: of `gone`, or of its coming */
};

enum lb_name_state {
	LB_NAME_UNKNOWN,  /* never answered */
	LB_NAME_RESOLVED, /* the last questions were answered */
	LB_NAME_FAILING,  /* they were not: what was known stays */
};

struct lb_name_info {
	const char *name;
	enum lb_name_state state;
	const char *reason; /* of the state: "SERVFAIL", "timeout"; "" */
	const struct lb_name_address *addresses;
	size_t n_addresses;
	uint64_t last_ns; /* CLOCK_REALTIME of the last answer with addresses; 0: none */
	uint64_t next_ns; /* of the next question; 0: one is under way */
};

/** Some addresses came, went or returned. Called from the loop. */
typedef void lb_names_changed_fn(void *arg);

/** @return 0; -ENOMEM. */
int lb_names_create(struct event_base *base, struct lb_events *events, lb_names_changed_fn *changed,
	void *arg, struct lb_names **out);
/** NULL is ignored. */
void lb_names_destroy(struct lb_names *names);

/** Make place for the host names of @p config; nothing is asked yet. @return 0; -ENOMEM. */
int lb_names_add(struct lb_names *names, const struct lb_config *config);

/** Be for @p config: its servers and bounds; forget other names, ask for those that are new. */
void lb_names_adopt(struct lb_names *names, const struct lb_config *config);

/** What is known of @p name. @return false: it is none of ours. */
bool lb_names_lookup(const struct lb_names *names, const char *name, struct lb_name_info *info);

/** Whether there are no names at all. */
bool lb_names_is_empty(const struct lb_names *names);

/** Call @p fn for each name. */
void lb_names_each(
	const struct lb_names *names, void (*fn)(void *arg, const struct lb_name_info *info), void *arg);

/** A gone address has flows yet. */
void lb_names_mark_busy(struct lb_names *names, const char *name, const struct lb_addr *addr);

/** Forget addresses that have been gone for @p linger_ns and were not marked busy since the last sweep. */
void lb_names_sweep(struct lb_names *names, uint64_t linger_ns);

/** "unknown", "resolved", "failing". */
const char *lb_name_state_name(enum lb_name_state state);

/** {"NAME": [{"address": …, "gone_ns": …}]}; NULL without memory. New reference. */
json_t *lb_names_to_json(const struct lb_names *names);
/** Take over what lb_names_to_json() wrote; what makes no sense is left out. */
void lb_names_from_json(struct lb_names *names, const json_t *json);

#endif
