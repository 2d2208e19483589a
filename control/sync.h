/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_SYNC_H
#define LB_CONTROL_SYNC_H

#include "control/model.h"

/*
 * The model's side of the connection to the data plane: its coming and going, what it refuses, what
 * its workers report, and when it has answered everything.
 */

/* What is said of a data plane that keeps to the secret that it was started with. */
#define LB_OTHER_SECRET "the data plane runs with another one than the configuration's, and goes on with that"
#define LB_OTHER_SECRET_HINT                                                                         \
	"restart lb-dataplane to have the new one (connections move to other backends by that), or take " \
	"hash_secret back to what it was: out of the config, if it had none"

/** The callbacks for lb_dp_create(); their argument is the model. */
extern const struct lb_dp_callbacks lb_sync_dp_callbacks;

/** @return 0; -ENOMEM. */
int lb_sync_init(struct lb_model *model);
void lb_sync_fini(struct lb_model *model);

/** Record that @p command was refused: event, status; and send everything again later, unless that
 * would be refused as well (another secret). */
void lb_sync_refused(struct lb_model *model, const struct lb_msg *command, int status);

/**
 * Call @p waiter->settled once, from the loop, when nothing is left to be sent or answered, or the
 * data plane is down.
 */
void lb_sync_wait_settled(struct lb_model *model, struct lb_settle_waiter *waiter);

/** Do not call it; only for one that was not called yet. */
void lb_sync_cancel_wait(struct lb_model *model, struct lb_settle_waiter *waiter);

/** Call the waiters if it is settled. */
void lb_sync_settle(struct lb_model *model);

#endif
