/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_ANNOUNCE_H
#define LB_CONTROL_ANNOUNCE_H

#include "control/model.h"
#include "control/writer.h"

/*
 * Announcement of VIPs: each VIP that may attract traffic has a host route (type blackhole, protocol
 * LB_ANNOUNCE_PROTOCOL) in the kernel routing table of the config's `announce.table`, from which BIRD or FRR exports
 * it. That is a VIP of which at least one service has a backend to serve it, while the data plane is alive and
 * maintenance is off. The routes stay while the daemon is away: forwarding goes on without it. One that comes
 * back takes over what it finds and changes nothing before the data plane is in sync or known to be dead.
 */
struct lb_announce;

#define LB_ANNOUNCE_PROTOCOL 70 /* RTA_PROTOCOL of our routes: `ip route show table N proto 70` */

/** @return 0; -errno of the netlink socket. Maintenance is as it was when the daemon stopped. */
int lb_announce_create(struct lb_model *model, struct lb_announce **out);

/** Leaves the routes as they are. NULL is allowed. */
void lb_announce_destroy(struct lb_announce *announce);

/** Whether the config in force announces anything. */
bool lb_announce_is_configured(const struct lb_announce *announce);

bool lb_announce_maintenance(const struct lb_announce *announce);

/**
 * Withdraw all VIPs, or announce them again; durable. @return 0; -errno of saving, with @p why: nothing has
 * changed.
 */
int lb_announce_set_maintenance(struct lb_announce *announce, bool on, char *why, size_t why_bytes);

struct lb_announced_vip {
	char address[LB_ADDR_STRLEN];
	bool is_announced;
	const char *reason; /* why not; NULL: none to tell */
};

/** Call @p fn for each VIP, in their order; for none without `announce`. */
void lb_announce_each(const struct lb_announce *announce,
	void (*fn)(void *arg, const struct lb_announced_vip *vip), void *arg);

/** {"table", "maintenance", "vips": [{"vip", "announced", "reason"}]}; without `announce` table is null. */
void lb_announce_write(const struct lb_announce *announce, struct lb_writer *out);

#endif
