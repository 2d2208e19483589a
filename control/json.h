/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_JSON_H
#define LB_CONTROL_JSON_H

#include <stdint.h>

#include <jansson.h>

/** A string; null for NULL and ""; bytes that are no UTF-8 make every byte that is not ASCII a "?".
 */
json_t *lb_json_text(const char *text);

/** An integer; counters from the region may hold anything, JSON's stop at 2^63 - 1. */
json_t *lb_json_u64(uint64_t value);

/** An integer; null for 0: a time that was not yet. */
json_t *lb_json_time(uint64_t time_ns);

#endif
