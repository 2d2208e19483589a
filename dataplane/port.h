/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_PORT_H
#define LB_DATAPLANE_PORT_H

#include <rte_mempool.h>

#include "dataplane/worker.h"

/**
 * Configure and start DPDK port @p port with one RX and one TX queue per worker, RSS over addresses and
 * ports where the device has it, and receive buffers from @p pool.
 * @return 0; -ENOTSUP: fewer queues than workers; -errno of the driver. The reason is logged.
 */
int lb_port_start(uint16_t port, unsigned n_workers, struct rte_mempool *pool);

/** Buffers that the ports' queues and @p n_workers workers need at most. */
unsigned lb_port_mbufs(unsigned n_ports, unsigned n_workers);

/** Refresh the port's line in shared memory: link, counters. Main lcore. @return whether the link changed. */
bool lb_port_describe(uint16_t port, struct lb_shm_port *line);

/** Let @p worker know the port's MTU and MAC address; with @p any_mac, or in promiscuous mode, it takes every one. */
void lb_port_tell_worker(uint16_t port, struct lb_worker *worker, bool any_mac);

#endif
