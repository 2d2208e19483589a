/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_PARSER_H
#define LB_CONTROL_PARSER_H

#include <event2/buffer.h>
#include <event2/event.h>

#include "control/config.h"

/*
 * A thread that parses configs, one after the other: tens of thousands of backends take a second, and a hostile text may
 * take longer, while the loop has checks to make and requests to answer. It has nothing but its text and the config that
 * comes of it; all else is the loop's. Functions belong to the loop's thread.
 */
struct lb_parser;
struct lb_parse_job;

/**
 * Called from the loop, once.
 * @param rc     as of lb_config_parse().
 * @param config with rc 0, the callee's; lb_config_service_text() of its services is made already.
 * @param text   that was parsed, valid until this returns.
 */
typedef void lb_parser_done(void *arg, int rc, struct lb_config *config, const struct lb_config_error *error, const char *text,
	size_t len);

/** The thread comes with the first text. NULL without memory or descriptors. */
struct lb_parser *lb_parser_create(struct event_base *base);
/** Waits for the text that is being parsed; no job may be waited for any more. NULL is allowed. */
void lb_parser_destroy(struct lb_parser *parser);

/**
 * Parse what @p text holds, which is taken out of it.
 * @param file name for messages; copied; NULL as for lb_config_parse().
 * @return the job, until @p done was called; NULL: no memory or no thread, @p done is not called.
 */
struct lb_parse_job *lb_parser_submit(struct lb_parser *parser, const char *file, struct evbuffer *text,
	lb_parser_done *done, void *arg);

/** Nobody waits for @p job any more: its `done` will not be called. */
void lb_parser_cancel(struct lb_parser *parser, struct lb_parse_job *job);

#endif
