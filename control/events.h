/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_EVENTS_H
#define LB_CONTROL_EVENTS_H

#include <stdint.h>
#include <sys/queue.h>

#include "control/writer.h"

/*
 * What happened: state changes with their time and cause, the last N of them, in memory. Kinds and
 * subjects are those of docs/api.md. Used from the loop only.
 */
struct lb_events;

#define LB_EVENTS_CAPACITY 4096u

/** Keep the last @p capacity (at least 1) events. NULL without memory. */
struct lb_events *lb_events_create(uint32_t capacity);
void lb_events_destroy(struct lb_events *events);

/* Somebody who wants to know of new events. */
struct lb_events_listener {
	TAILQ_ENTRY(lb_events_listener) link;
	void (*added)(void *arg); /* called within lb_events_add(): must not listen or unlisten */
	void *arg;
};
void lb_events_listen(struct lb_events *events, struct lb_events_listener *listener);
void lb_events_unlisten(struct lb_events *events, struct lb_events_listener *listener);

/**
 * Record an event now, and log it: as a warning if something was refused or went "down".
 * @param kind    a literal, kept.
 * @param subject what it is about, e.g. "backend web/api-1"; copied, cut at 159 bytes.
 * @param from, to states before and after; copied; NULL where that makes no sense.
 * @param cause   printf format of the reason, cut at 399 bytes; NULL: none.
 */
void lb_events_add(struct lb_events *events, const char *kind, const char *subject,
	const char *from, const char *to, const char *cause, ...)
	__attribute__((format(printf, 6, 7)));

/** Sequence number of the newest and the oldest in memory; 0: none. */
uint64_t lb_events_last(const struct lb_events *events);
uint64_t lb_events_first(const struct lb_events *events);

/**
 * The document of GET /v1/events: those after @p since, at most @p limit: the oldest if @p since is
 * above 0, else the newest.
 */
void lb_events_write(const struct lb_events *events, uint64_t since, uint32_t limit, struct lb_writer *out);

#endif
