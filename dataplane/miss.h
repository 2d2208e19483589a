/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_MISS_H
#define LB_DATAPLANE_MISS_H

#include "dataplane/classify.h"
#include "dataplane/worker.h"
#include "lb/decide.h"

/*
 * A *simple* miss is a plain packet (burst.h) of which nothing in the flow table may be the entry, and which goes where its
 * slot says: its service is not for all ports, asks no scheduler, and the slot is not in transition. Those of a burst are
 * dealt with after its other packets, in the burst's order, be it by miss.c or by the flow stage.
 */

/* What a service's misses go by. */
struct lb_miss_rule {
	const struct lb_slot_table *table; /* NULL: none of them is simple */
	bool records;                      /* those that begin a flow */
	bool clamps;                       /* the MSS of those with SYN */
};

/** @p service_id may be LB_CLASSIFY_NONE. Worker. */
static inline struct lb_miss_rule lb_miss_rule_of(const struct lb_worker *worker, uint16_t service_id)
{
	const struct lb_service *service;

	if (service_id == LB_CLASSIFY_NONE)
		return (struct lb_miss_rule){.table = NULL};
	service = &worker->dp->services[service_id];
	if (service->key.port_be == 0 || service->mode == LB_MODE_FULLNAT ||
		atomic_load_explicit(&service->pick, memory_order_relaxed) != NULL)
		return (struct lb_miss_rule){.table = NULL};
	return (struct lb_miss_rule){.table = atomic_load_explicit(&service->table, memory_order_acquire),
		.records = service->tracking == LB_TRACKING_ALL && !worker->pressure,
		.clamps = service->mss != LB_MSS_NONE};
}

/** Whether @p slot of @p table has one backend to send to. Worker. */
static inline bool lb_miss_slot_is_simple(const struct lb_worker *worker, const struct lb_slot_table *table, struct lb_slot slot)
{
	return slot.backend != LB_SLOT_NONE && !lb_slot_in_transition(&slot, table->transition_s, worker->now_s);
}

/** Whether such a packet with these TCP flags (of UDP: none) begins a flow. */
static inline bool lb_miss_begins(uint8_t tcp_flags)
{
	return tcp_flags == 0 || lb_tcp_is_syn(tcp_flags);
}

#endif
