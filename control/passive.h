/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_PASSIVE_H
#define LB_CONTROL_PASSIVE_H

#include "control/model.h"

/*
 * Passive health: what passes tells whether a backend answers. Each second the counters that workers keep
 * anyway are compared with those of the second before; a backend whose new flows meet refusals or silence
 * becomes suspect: it is checked at once, and shown so, but stays in the table until the check says more.
 * Only where replies pass (mode nat), and where there is a check that can say more.
 */

/** Look at all backends; once a second. */
void lb_passive_tick(struct lb_model *model);

/** A worker, or lb_passive_tick(), has reason to suspect @p backend. */
void lb_passive_suspect(struct lb_backend *backend, const char *why);

/**
 * Whether these two seconds, the last one and the one before, are those of a backend that
 * - refuses: in the last second at least min_flows flows began, resets are at least refused_percent of them,
 *   and fewer other packets came back than flows began (each answered one brings one at least); or
 * - is silent: in the second before at least min_flows flows began, and nothing came back in either.
 * @return why; NULL: there is nothing to suspect.
 */
const char *lb_passive_judge(const struct lb_config_passive *config,
	const struct lb_passive_second *before, const struct lb_passive_second *last);

#endif
