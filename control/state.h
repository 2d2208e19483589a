/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_STATE_H
#define LB_CONTROL_STATE_H

#include "control/model.h"

/*
 * What survives a restart of the daemon: the running config, the ids, the secret, the one that the
 * data plane has, and a hash of the --config file over which the running config came to be.
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

/**
 * Put @p config in force, which was parsed from @p text. If that is what model->config_file holds by now, changes after it
 * are on top of the file as it is, and a restart resumes them.
 * @return 0, @p config is taken; -errno and @p error, nothing has changed and @p config is the caller's.
 */
int lb_state_apply(struct lb_model *model, struct lb_config *config, const char *text, size_t len,
	const char *cause, struct lb_config_error *error);

/** Called from the loop: 0; -errno and @p error, nothing has changed. */
typedef void lb_state_reloaded(void *arg, int rc, const struct lb_config_error *error);

/** Load model->config_file again and put it in force: @p done is called once it is, which may be before this returns. */
void lb_state_reload(struct lb_model *model, lb_state_reloaded *done, void *arg);

#endif
