/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_EXPAND_H
#define LB_CONTROL_EXPAND_H

#include "control/names.h"

/*
 * The config that runs: the one that was written, with each backend that has a host name replaced by one
 * backend for each address that is known of it: "NAME/ADDRESS", with all that the config says of NAME. A
 * gone address is drained. What is written, saved, compared and shown as config is never this.
 */

/** Called for an address that cannot be a backend; @p why in the words of the config's errors. */
typedef void lb_expand_dropped_fn(void *arg, const struct lb_config_service *service,
	const struct lb_config_backend *backend, const char *why);

/**
 * @return @p config itself if it has no host names; else a new one, to be freed by lb_config_free();
 * NULL without memory.
 */
struct lb_config *lb_expand(const struct lb_config *config, const struct lb_names *names,
	lb_expand_dropped_fn *dropped, void *arg);

#endif
