/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_LBCTL_VIEWS_H
#define LB_CONTROL_LBCTL_VIEWS_H

#include "control/lbctl_api.h"

/* Tables of objects that more than one command shows. Objects are as in docs/api.md. */

/** Print an array of SERVICE objects. */
void lbctl_view_services(const struct lbctl *ctl, const json_t *services, int indent);

/** "203.0.113.10:443/tcp" of a SERVICE, in new memory. */
char *lbctl_view_vip(const json_t *service);

/** Print an array of BACKEND objects; ages are told from "timestamp_ns" of @p answer. */
void lbctl_view_backends(
	const struct lbctl *ctl, const json_t *backends, const json_t *answer, int indent);

/** Print an array of ports / of workers, as in /v1/status. */
void lbctl_view_ports(const struct lbctl *ctl, const json_t *ports);
void lbctl_view_workers(const struct lbctl *ctl, const json_t *workers);

/** Mode fullnat's sessions and ports, as in /v1/stats; nothing if it is not in use. lbctl_fullnat.c */
void lbctl_view_fullnat(const struct lbctl *ctl, const json_t *fullnat);

/** The same in a line or two, for status. */
void lbctl_view_fullnat_use(const struct lbctl *ctl, const json_t *fullnat);

#endif
