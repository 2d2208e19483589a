/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum lb_log_level threshold = LB_LOG_INFO;

void lb_log_set_level(enum lb_log_level level)
{
	__atomic_store_n(&threshold, level, __ATOMIC_RELAXED);
}

static size_t format_time(char *buf, size_t bytes)
{
	struct timespec now;
	struct tm utc;
	size_t len;

	if (getenv("JOURNAL_STREAM") != NULL)
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	len = strftime(buf, bytes, "%FT%T", &utc);
	len += (size_t)snprintf(
		buf + len, bytes - len, ".%03uZ ", (unsigned)(now.tv_nsec / 1000000));
	return len;
}

__attribute__((format(printf, 3, 0))) static void vlog(
	enum lb_log_level level, const char *topic, const char *format, va_list args)
{
	static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG"};
	char line[LB_LOG_LINE_MAX];
	const size_t max = sizeof(line) - 1; // leaves a place for the newline
	int saved_errno = errno;
	size_t len, start;
	int n;

	if (level > __atomic_load_n(&threshold, __ATOMIC_RELAXED))
		return;
	len = format_time(line, 64);
	len += (size_t)snprintf(line + len, 128, "%s %.64s: ", names[level], topic);
	start = len;
	n = vsnprintf(line + len, max - len, format, args);
	if (n < 0)
		return;
	len += (size_t)n;
	if (len >= max) {
		len = max - 1;
		memcpy(line + len - 3, "...", 3);
	}
	for (size_t i = start; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	// nobody to tell if standard error is gone
	if (write(STDERR_FILENO, line, len) < 0)
		errno = saved_errno;
	errno = saved_errno;
}

void lb_log(enum lb_log_level level, const char *topic, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vlog(level, topic, format, args);
	va_end(args);
}

/* Whether a line may be printed now; sets @p n_missed to the suppressed ones to report before it.
 */
static int limit_take(struct lb_log_limit *limit, uint64_t now_ns, uint64_t *n_missed)
{
	*n_missed = 0;
	if (limit->window_ns == 0 || now_ns - limit->window_ns >= LB_LOG_LIMIT_NS) {
		*n_missed = limit->n_suppressed;
		*limit = (struct lb_log_limit){.window_ns = now_ns};
	}
	if (limit->n < LB_LOG_LIMIT_N) {
		limit->n++;
		return 1;
	}
	limit->n_suppressed++;
	return 0;
}

void lb_log_limited(struct lb_log_limit *limit, enum lb_log_level level, const char *topic,
	const char *format, ...)
{
	struct timespec now;
	uint64_t n_missed;
	va_list args;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!limit_take(
		    limit, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, &n_missed))
		return;
	if (n_missed > 0)
		lb_log(level, topic, "%" PRIu64 " lines like the next were suppressed", n_missed);
	va_start(args, format);
	vlog(level, topic, format, args);
	va_end(args);
}
