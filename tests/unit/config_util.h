/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_TESTS_CONFIG_UTIL_H
#define LB_TESTS_CONFIG_UTIL_H

#include <stdbool.h>
#include <stdint.h>

#include "control/config.h"

/** xorshift64*: the same numbers for a seed everywhere. @p state is not 0. */
uint64_t random_next(uint64_t *state);
/** 0..n-1; n is not 0. */
uint32_t random_below(uint64_t *state, uint32_t n);

/** A valid config of up to 6 services with up to 6 backends each, any value anywhere; free it. */
struct lb_config *config_random(uint64_t *state);

/** Whether every value is the same, in the same order; lines do not count. */
bool config_equal(const struct lb_config *a, const struct lb_config *b);

/**
 * Whether the YAML and the JSON form of @p config parse back to its equal.
 * @return NULL if so, else what is wrong (static).
 */
const char *config_round_trip(const struct lb_config *config);

#endif
