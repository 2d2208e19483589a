/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_COMMAND_H
#define LB_DATAPLANE_COMMAND_H

#include "dataplane/dp.h"

/**
 * Take what is in the command ring (as much as there is room for replies), apply it as one batch, answer
 * each. A command that is not valid is answered with -errno, counted, logged (rate-limited) and changes
 * nothing. Main lcore. @return number of commands.
 */
unsigned lb_command_poll(struct lb_dp *dp);

/** Apply one command without the rings, for tests. @return 0 or -errno; query results go to @p reply. */
int lb_command_apply(struct lb_dp *dp, const struct lb_msg *command, struct lb_msg *reply);

#endif
