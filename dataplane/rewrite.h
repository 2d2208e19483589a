/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_REWRITE_H
#define LB_DATAPLANE_REWRITE_H

#include "dataplane/dp.h"

/**
 * Precompute the checksum differences of @p backend from its addresses and ports (RFC 1624, eqn. 3). Before
 * anything refers to it. Main lcore.
 */
void lb_rewrite_prepare(struct lb_backend *backend);

#endif
