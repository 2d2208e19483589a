/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_STATE_H
#define LB_CONTROL_STATE_H

#include "control/model.h"

/*
 * What survives a restart of the daemon: the running config, the ids, the secret if we made one,
 * and a hash of the --config file over which the running config came to be.
 */

#define LB_STATE_FILE "state.json" /* in the run dir */

/** Save the state as it will be with @p config. @return 0; -errno and @p why. */
int lb_state_save(
	const struct lb_model *model, const struct lb_config *config, char *why, size_t why_bytes);

/**
 * Put the first config in force: the saved running config if it was made over the same content of
 * model->config_file, else the file. @return 0; -errno and @p error: then there is nothing to run.
 */
int lb_state_start(struct lb_model *model, struct lb_config_error *error);

/** Load model->config_file again and put it in force. @return 0; -errno and @p error, nothing has
 * changed. */
int lb_state_reload(struct lb_model *model, struct lb_config_error *error);

#endif
