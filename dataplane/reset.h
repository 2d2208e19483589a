/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_RESET_H
#define LB_DATAPLANE_RESET_H

#include "dataplane/worker.h"

/*
 * A connection that its backend ends by RST (mode nat: replies pass) is over as one that its client does. The RST's tuple
 * leads to the client's flow; the worker that has its entry marks it CLOSED, which is what a client's RST does.
 *
 * A spoofed RST, from where the backend's packets come from, costs nobody a connection: the entry keeps its backend, any
 * later segment of the client makes it established again, and one that the flow cannot do without (pinned) stays for as
 * long as a half-closed one. Only a SYN may go elsewhere, as after a client's RST.
 *
 * A backend's FIN is not taken for an end: its client may go on sending for as long as it likes, and closes in turn when
 * it does not.
 */

/** Notes between workers, if there are several. @return 0, -ENOMEM. Main lcore, before there are workers. */
int lb_reset_init(struct lb_dp *dp, unsigned n_workers);
void lb_reset_fini(struct lb_dp *dp);

/** Some of the burst's replies have RST set: count those that go to their client, end their flows. Worker. */
void lb_reset_seen(struct lb_worker *worker, const struct lb_burst *burst);

/** End flows of this worker whose RST came to another one: notes from one of the others, in turn. Worker. */
void lb_reset_take(struct lb_worker *worker);

#endif
