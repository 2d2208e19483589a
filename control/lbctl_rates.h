/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_LBCTL_RATES_H
#define LB_CONTROL_LBCTL_RATES_H

#include <jansson.h>

/**
 * Put "interval_s" and "rates" into @p now, an answer to /v1/stats, from the one before it: "totals",
 * and "services" with their "backends". A rate is null where a counter is unknown or began anew.
 */
void lbctl_rates_add(json_t *now, const json_t *before);

/** Names of the rates of services and backends, in the order in which they are shown; ends at NULL. */
extern const char *const lbctl_rate_names[];

#endif
