/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_TELEMETRY_H
#define LB_DATAPLANE_TELEMETRY_H

#include "dataplane/dp.h"

/**
 * Register "/fulcrum/..." with DPDK's telemetry (dpdk-telemetry.py), for looking at a data plane without
 * a control plane. Answers are made on telemetry's own thread from single words that others write;
 * nothing there follows a pointer that RCU guards. @p dp must stay until lb_telemetry_fini().
 * @return 0; -errno of rte_telemetry_register_cmd(). Main lcore, once.
 */
int lb_telemetry_init(const struct lb_dp *dp, const char *instance);

/** From now on the commands answer with an error. Main lcore. */
void lb_telemetry_fini(void);

#endif
