/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/lbctl_api.h"
#include "control/lbctl_args.h"

/* lbctl events */

#define MAX_LIMIT 4096 /* of the API */
#define WAIT_S 30u
/* A server that answers a waiting request at once, with nothing, must not make us spin. */
#define IDLE_PAUSE_MS 200

// One line, the same with and without --follow: columns have a least width, not one of the widest.
static void print_event(const struct lbctl *ctl, const json_t *event)
{
	const char *from = lbctl_json_text(event, "from"), *to = lbctl_json_text(event, "to");
	const char *cause = lbctl_json_text(event, "cause");
	bool has_states = *from || *to;
	char time_text[LBCTL_TEXT_NUMBER_BYTES];
	char *kind = lbctl_text_escape(lbctl_json_text(event, "kind"));
	char *subject = lbctl_text_escape(lbctl_json_text(event, "subject"));
	char *rest = has_states ? lbctl_text_printf("%s -> %s%s%s", *from ? from : "none",
					  *to ? to : "none", *cause ? "  " : "", cause)
				: lbctl_text_copy(cause);
	char *escaped = lbctl_text_escape(rest);
	enum lbctl_colour colour = lbctl_state_colour(to);
	bool coloured = ctl->colour && has_states && colour != LBCTL_PLAIN;

	printf("%s  %-17s  %-24s  %s%s%s\n",
		lbctl_text_format_time(lbctl_json_number(event, "time_ns") / 1e9, time_text), kind,
		subject, coloured ? lbctl_table_sequence(colour) : "", escaped,
		coloured ? lbctl_table_sequence(LBCTL_PLAIN) : "");
	free(escaped);
	free(rest);
	free(subject);
	free(kind);
}

// @return how many there were; @p last becomes the greatest seq.
static size_t print_events(const struct lbctl *ctl, const json_t *answer, json_int_t *last)
{
	const json_t *events = json_object_get(answer, "events"), *event;
	size_t i;

	json_array_foreach (events, i, event) {
		json_int_t seq = lbctl_json_integer(event, "seq", 0);

		if (seq > *last)
			*last = seq;
		if (ctl->json)
			lbctl_api_print(event, true);
		else
			print_event(ctl, event);
	}
	return json_array_size(events);
}

static void note_lost(const struct lbctl *ctl, const json_t *answer)
{
	json_int_t n_lost = lbctl_json_integer(answer, "n_lost", 0);

	if (n_lost > 0)
		lbctl_note(ctl, NULL,
			"%" JSON_INTEGER_FORMAT " older event%s not in memory any more", n_lost,
			n_lost == 1 ? " is" : "s are");
}

/*
 * Follow from after @p since. The daemon numbers its events anew when it starts; a last_seq below
 * ours says that it did. While it is away we wait for it, and ask without waiting first when it is
 * back.
 */
static enum lbctl_exit follow(const struct lbctl *ctl, json_int_t since)
{
	const struct timespec pause = {.tv_nsec = IDLE_PAUSE_MS * 1000000L};
	// A waiting request must be answered well before our own patience ends.
	const unsigned long_wait_s =
		ctl->timeout_ms / 2000 < WAIT_S ? ctl->timeout_ms / 2000 : WAIT_S;
	enum lbctl_exit status = LBCTL_OK;
	unsigned wait_s = long_wait_s;

	while (status == LBCTL_OK) {
		char *path = lbctl_text_printf(
			"/v1/events?since=%" JSON_INTEGER_FORMAT "&wait=%u", since, wait_s);
		json_t *answer;

		status = lbctl_api_get(ctl, path, &answer);
		free(path);
		wait_s = long_wait_s;
		if (status == LBCTL_UNREACHABLE) {
			lbctl_api_wait(ctl);
			status = LBCTL_OK;
			wait_s = 0;
			continue;
		}
		if (status == LBCTL_OK && lbctl_json_integer(answer, "last_seq", since) < since) {
			since = 0;
			nanosleep(&pause, NULL);
		} else if (status == LBCTL_OK) {
			note_lost(ctl, answer);
			if (print_events(ctl, answer, &since) == 0)
				nanosleep(&pause, NULL);
		}
		json_decref(answer);
		if (fflush(stdout) != 0)
			status = LBCTL_FAILED;
	}
	return status;
}

enum lbctl_exit lbctl_events_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	bool is_follow = lbctl_args_option(args, "--follow") != NULL;
	uint64_t limit = is_follow ? 10 : 1000;
	enum lbctl_exit status = lbctl_args_number(ctl, args, "--limit", 1, MAX_LIMIT, &limit);
	json_int_t since = 0;
	json_t *answer;
	char *path;

	if (status != LBCTL_OK)
		return status;
	path = lbctl_text_printf("/v1/events?limit=%" PRIu64, limit);
	status = lbctl_api_get(ctl, path, &answer);
	free(path);
	if (status != LBCTL_OK)
		return status;
	if (ctl->json && !is_follow)
		lbctl_api_print(answer, false);
	else if (print_events(ctl, answer, &since) == 0 && !is_follow)
		puts("no events");
	// Newer than those shown, if the limit cut some off: what is asked for next comes after all
	// of them.
	since = lbctl_json_integer(answer, "last_seq", since);
	json_decref(answer);
	fflush(stdout);
	return is_follow ? follow(ctl, since < 0 ? 0 : since) : LBCTL_OK;
}
