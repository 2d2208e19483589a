/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_FLOWMEM_H
#define LB_DATAPLANE_FLOWMEM_H

#include "dataplane/dp.h"

/**
 * Map the memory of every worker's flow table: a file beside the region (`lb.<instance>.flows.<worker>`, in
 * hugetlbfs where it is), so that it outlives the process. Adopting comes with the first sync, when
 * secret and timeouts are known. @return 0; -errno, with the reason logged. Main lcore.
 */
int lb_flowmem_map(struct lb_dp *dp);

/**
 * Map one such file, `lb.<instance>.<what>.<worker>`, of at least @p n_bytes. @return 0 and where it is, and how large;
 * -errno, logged. Main lcore.
 */
int lb_flowmem_map_file(const struct lb_dp *dp, const char *what, unsigned idx, uint64_t n_bytes,
	void **out, uint64_t *out_bytes);

/** Initialise the tables, adopting what a data plane before left in them. Main lcore, before dp->live. */
void lb_flowmem_adopt(struct lb_dp *dp);

/**
 * LB_OP_FLOWS_COUNT and LB_OP_FLOWS_FLUSH, see lb/msg.h. A flush goes on in the workers after the reply.
 * @return 0 and in *n_flows how many flows there are (to flush); -EINVAL, -ENOENT no such service or backend,
 * -EAGAIN the flush before has not ended. Main lcore.
 */
int lb_flowmem_count(const struct lb_dp *dp, const struct lb_msg_flush *msg, uint64_t *n_flows);
int lb_flowmem_flush(struct lb_dp *dp, const struct lb_msg_flush *msg, uint64_t *n_flows);

/** Unmap; the files stay. */
void lb_flowmem_unmap(struct lb_dp *dp);

#endif
