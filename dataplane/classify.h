/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_CLASSIFY_H
#define LB_DATAPLANE_CLASSIFY_H

#include "dataplane/dp.h"

#define LB_CLASSIFY_NONE UINT16_MAX

/* What the classify stage asks for each packet, for a single one. Under RCU. Worker. */

struct lb_burst;

/** The services of the burst's ip_list, so far as address, port and protocol are one's: into `service`. @return how many. */
unsigned lb_classify_services(const struct lb_dp *dp, struct lb_burst *burst);

/** The service of (VIP, port, protocol), else the one for all ports; LB_CLASSIFY_NONE. */
uint16_t lb_classify_service(
	const struct lb_dp *dp, const struct lb_addr *vip, uint16_t port_be, uint8_t proto);

/** The nat backend at (address, port, protocol), else the one that takes all ports; LB_CLASSIFY_NONE. */
uint16_t lb_classify_endpoint(
	const struct lb_dp *dp, const struct lb_addr *addr, uint16_t port_be, uint8_t proto);

/** Whether some service has the VIP @p addr. */
bool lb_classify_is_vip(const struct lb_dp *dp, const struct lb_addr *addr);

#endif
