/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_LOG_H
#define LB_LOG_H

#include <stdint.h>

/*
 * Log lines to standard error, "2025-01-31T12:00:00.000Z WARN health: message"; without the time
 * under systemd ($JOURNAL_STREAM is set), whose journal has its own. One line and one write(2) per
 * call; control characters in the message become "?", so that hostile text cannot forge a line. Any
 * thread, not workers.
 */
enum lb_log_level { LB_LOG_ERROR, LB_LOG_WARN, LB_LOG_INFO, LB_LOG_DEBUG };

#define LB_LOG_LINE_MAX 1024 /* bytes; longer messages are cut and end in "..." */

/** Print only lines of @p level and worse; LB_LOG_INFO at start. */
void lb_log_set_level(enum lb_log_level level);

/** Log a message under @p topic, the name of a module. */
void lb_log(enum lb_log_level level, const char *topic, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define LB_LOG_LIMIT_N 10u
#define LB_LOG_LIMIT_NS UINT64_C(10000000000)

/** State of one rate-limited message, zero at start; one thread. */
struct lb_log_limit {
	uint64_t window_ns; /* start of the window, CLOCK_MONOTONIC; 0: none yet */
	uint32_t n;         /* printed in this window */
	uint64_t n_suppressed;
};

/**
 * As lb_log(), for what hostile input can cause: at most LB_LOG_LIMIT_N lines in LB_LOG_LIMIT_NS,
 * then silence until the window ends; the next line after it is preceded by the number of lines
 * suppressed.
 */
void lb_log_limited(struct lb_log_limit *limit, enum lb_log_level level, const char *topic,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
