/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/events.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb/log.h"
#include "lb/shm.h"

struct entry {
	uint64_t seq;
	uint64_t time_ns;
	const char *kind;
	char subject[160];
	char from[16], to[16]; /* empty: none */
	char cause[400];
};

struct lb_events {
	uint32_t capacity;
	uint64_t n_added; /* the newest one's seq */
	TAILQ_HEAD(, lb_events_listener) listeners;
	struct entry entries[]; /* seq - 1 modulo capacity */
};

struct lb_events *lb_events_create(uint32_t capacity)
{
	struct lb_events *events =
		calloc(1, sizeof(*events) + capacity * sizeof(events->entries[0]));

	if (events == NULL)
		return NULL;
	events->capacity = capacity;
	TAILQ_INIT(&events->listeners);
	return events;
}

void lb_events_destroy(struct lb_events *events)
{
	free(events);
}

void lb_events_listen(struct lb_events *events, struct lb_events_listener *listener)
{
	TAILQ_INSERT_TAIL(&events->listeners, listener, link);
}

void lb_events_unlisten(struct lb_events *events, struct lb_events_listener *listener)
{
	TAILQ_REMOVE(&events->listeners, listener, link);
}

/* Cutting may leave half of a UTF-8 sequence, which JSON does not take: drop it. */
static void trim_utf8(char *text)
{
	size_t len = strlen(text), start = len;

	while (start > 0 && len - start < 4 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
		start--;
	if (start > 0 && (unsigned char)text[start - 1] >= 0xc0) {
		unsigned char lead = (unsigned char)text[start - 1];
		size_t need = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;

		if (len - start < need)
			text[start - 1] = '\0';
	}
}

/*
 * What somebody who looks for warnings wants to see: what went down, and what was refused. New backends and services
 * (from nothing) are down until they are checked: no news. A link has no state before.
 */
static bool is_bad(const struct entry *entry)
{
	if (strcmp(entry->to, "down") == 0)
		return entry->from[0] != '\0' || strcmp(entry->kind, "port_link") == 0;
	return strcmp(entry->kind, "config_refused") == 0 || strcmp(entry->kind, "dataplane_refused") == 0;
}

static void log_entry(const struct entry *entry)
{
	char states[40] = "";

	if (entry->from[0] != '\0' || entry->to[0] != '\0')
		snprintf(states, sizeof(states), " %s%s%s", entry->from,
			entry->from[0] != '\0' ? " -> " : "",
			entry->to[0] != '\0' ? entry->to : "removed");
	lb_log(is_bad(entry) ? LB_LOG_WARN : LB_LOG_INFO, "events", "%s: %s%s%s%s", entry->kind, entry->subject, states,
		entry->cause[0] != '\0' ? ": " : "", entry->cause);
}

void lb_events_add(struct lb_events *events, const char *kind, const char *subject,
	const char *from, const char *to, const char *cause, ...)
{
	struct entry *entry = &events->entries[events->n_added % events->capacity];
	struct lb_events_listener *listener;
	va_list args;

	memset(entry, 0, sizeof(*entry));
	entry->seq = ++events->n_added;
	entry->time_ns = lb_realtime_ns();
	entry->kind = kind;
	snprintf(entry->subject, sizeof(entry->subject), "%s", subject);
	snprintf(entry->from, sizeof(entry->from), "%s", from != NULL ? from : "");
	snprintf(entry->to, sizeof(entry->to), "%s", to != NULL ? to : "");
	if (cause != NULL) {
		va_start(args, cause);
		vsnprintf(entry->cause, sizeof(entry->cause), cause, args);
		va_end(args);
	}
	trim_utf8(entry->subject);
	trim_utf8(entry->cause);
	log_entry(entry);
	TAILQ_FOREACH (listener, &events->listeners, link)
		listener->added(listener->arg);
}

uint64_t lb_events_last(const struct lb_events *events)
{
	return events->n_added;
}

uint64_t lb_events_first(const struct lb_events *events)
{
	if (events->n_added <= events->capacity)
		return events->n_added > 0 ? 1 : 0;
	return events->n_added - events->capacity + 1;
}

static void write_entry(struct lb_writer *out, const struct entry *entry)
{
	lb_writer_open(out, NULL, '{');
	lb_writer_u64(out, "seq", entry->seq);
	lb_writer_u64(out, "time_ns", entry->time_ns);
	lb_writer_string(out, "kind", entry->kind);
	lb_writer_string(out, "subject", entry->subject);
	lb_writer_string(out, "from", entry->from);
	lb_writer_string(out, "to", entry->to);
	lb_writer_string(out, "cause", entry->cause);
	lb_writer_close(out, '}');
}

void lb_events_write(const struct lb_events *events, uint64_t since, uint32_t limit, struct lb_writer *out)
{
	uint64_t first = lb_events_first(events), last = events->n_added, from, to = last;

	from = since + 1 > first ? since + 1 : first;
	if (last > 0 && since < last && last - from + 1 > limit) {
		if (since > 0)
			to = from + limit - 1;
		else
			from = last - limit + 1;
	}
	lb_writer_open(out, NULL, '{');
	lb_writer_u64(out, "first_seq", first);
	lb_writer_u64(out, "last_seq", last);
	lb_writer_u64(out, "n_lost", since > 0 && first > since + 1 ? first - since - 1 : 0);
	lb_writer_open(out, "events", '[');
	for (uint64_t seq = from; last > 0 && seq <= to; seq++)
		write_entry(out, &events->entries[(seq - 1) % events->capacity]);
	lb_writer_close(out, ']');
	lb_writer_close(out, '}');
}
