/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_PUSH_H
#define LB_CONTROL_PUSH_H

#include "control/model.h"

/*
 * Bringing the data plane to what the model wants: differences of dirty services at the end of a
 * loop turn, everything in a sync. The order of the commands of one service:
 *
 *   SERVICE_SET → BACKEND_SET of those that come or change → TABLE_PUBLISH → BACKEND_SET of those
 * that leave (down, drain) → BACKEND_DEL of those that are gone
 *
 * so that a table never names a backend that is not there, and no flow is sent away from a backend
 * before the table has somewhere else for it. While a table of a service is not answered, its
 * further changes wait and become one.
 */

/** @return 0; -ENOMEM. */
int lb_push_init(struct lb_model *model);
void lb_push_fini(struct lb_model *model);

/** The service differs from what the data plane was told: compare and send at the end of this turn.
 */
void lb_push_touch(struct lb_service *service);

/** Every second: touch the services of which moves that waited (lb/stage.h) are due. */
void lb_push_tick(struct lb_model *model);

/** The service left the config: delete it at the data plane, now. */
void lb_push_service_del(struct lb_service *service);

/** Send a new secret. */
void lb_push_secret(struct lb_model *model);

/** Send the config's local addresses. */
void lb_push_locals(struct lb_model *model);

/** The backend is not in the config any more: to be deleted (and freed) when its service's table is
 * without it. */
void lb_push_backend_gone(struct lb_backend *backend);

/**
 * @p backend, not told of yet, has an id that one of its service's backends had: if that one is still to be deleted, the
 * data plane has it, and it need not go.
 */
void lb_push_backend_back(struct lb_backend *backend);

/** The service goes, and with it at the data plane those that are to be deleted: free them. */
void lb_push_forget_gone(struct lb_service *service);

/**
 * Send the secret, the local addresses, all next hops and routes, all services and backends, SYNC_OBJECTS, all tables, in
 * this order: what comes between SYNC_BEGIN and SYNC_END. Tables of services that had flows when the data plane went away
 * come first. @return 0; -ENOMEM.
 */
int lb_push_everything(struct lb_model *model);

/** The data plane went away: forget what it was told. */
void lb_push_disconnected(struct lb_model *model);

/** Make the counts of service->backends[].n_slots those of service->table, building it if need be.
 */
void lb_push_count_slots(struct lb_service *service);

#endif
