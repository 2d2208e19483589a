/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_HISTORY_H
#define LB_DATAPLANE_HISTORY_H

#include "dataplane/dp.h"

/*
 * The lookup table and slot history of each service, kept in /dev/shm over a restart of the data plane
 * (`lb.<instance>.slots.<service id>`): without it, a slot that changed just before or during the restart
 * would have no origin, and flows that are not in the flow table would move. Not kept over a reboot; no flow
 * is, either. Main lcore only.
 */

/**
 * Write the service's present table, replacing what was kept. A failure is logged and costs only what the
 * file is for.
 */
void lb_history_save(const struct lb_dp *dp, uint16_t service_id);

/**
 * What a data plane before kept for this service, if its key, checksum and times are right: a table as
 * lb_slots_adopt() takes for its old one, 64-byte aligned. @return NULL: none. The caller frees it (free()).
 */
struct lb_slot_table *lb_history_load(const struct lb_dp *dp, uint16_t service_id);

/** Remove what is kept: the service is gone. */
void lb_history_forget(const struct lb_dp *dp, uint16_t service_id);

#endif
