/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_BACKEND_AGENT_H
#define LB_CONTROL_BACKEND_AGENT_H

#include "control/mirror.h"
#include "control/model.h"
#include "control/writer.h"

/*
 * What a backend says of itself (by its agent, or by the header X-LB-Weight of its check) and what follows:
 * a part of its configured weight, and whether it is drained, in maintenance or down. Kept in the
 * mirror, so that a restart of the daemon changes nothing of it. An agent that is silent changes nothing of what it said before.
 */

/** The backend has its check, or its config has changed: listen to what the config says now. */
void lb_backend_agent_update(struct lb_backend *backend);

/** The daemon has restarted: what was said before holds, as far as the config still asks for it. */
void lb_backend_agent_restore(struct lb_backend *backend, const struct lb_mirrored *mirrored);

/** Stop; what was said is forgotten with the backend. */
void lb_backend_agent_stop(struct lb_backend *backend);

/** Whether it said that it is not to get any packet; drained. */
bool lb_backend_agent_is_down(const struct lb_backend *backend);
bool lb_backend_agent_is_drained(const struct lb_backend *backend);

/** {"state": ..., "reason": ..., "says": ..., "last_ns": ...}; null: it has none. */
void lb_backend_agent_write(const struct lb_backend *backend, struct lb_writer *out, const char *key);

#endif
