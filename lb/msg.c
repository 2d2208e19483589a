/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/msg.h"

#define NAME(names, index)                                                                     \
	((index) < sizeof(names) / sizeof(*(names)) && (names)[index] != NULL ? (names)[index] \
									      : "?")

const char *lb_op_name(unsigned op)
{
	static const char *const names[LB_OP_N] = {
		[LB_OP_PING] = "PING",
		[LB_OP_SYNC_BEGIN] = "SYNC_BEGIN",
		[LB_OP_SYNC_END] = "SYNC_END",
		[LB_OP_SYNC_OBJECTS] = "SYNC_OBJECTS",
		[LB_OP_SECRET_SET] = "SECRET_SET",
		[LB_OP_SERVICE_SET] = "SERVICE_SET",
		[LB_OP_SERVICE_DEL] = "SERVICE_DEL",
		[LB_OP_BACKEND_SET] = "BACKEND_SET",
		[LB_OP_BACKEND_DEL] = "BACKEND_DEL",
		[LB_OP_TABLE_PUBLISH] = "TABLE_PUBLISH",
		[LB_OP_NEXTHOP_SET] = "NEXTHOP_SET",
		[LB_OP_NEXTHOP_DEL] = "NEXTHOP_DEL",
		[LB_OP_ROUTE_SET] = "ROUTE_SET",
		[LB_OP_ROUTE_DEL] = "ROUTE_DEL",
		[LB_OP_TRACE] = "TRACE",
		[LB_OP_FLOWS_FLUSH] = "FLOWS_FLUSH",
		[LB_OP_FLOWS_COUNT] = "FLOWS_COUNT",
		[LB_OP_LOCAL_SET] = "LOCAL_SET",
		[LB_OP_SESSION_NEXT] = "SESSION_NEXT",
	};

	return NAME(names, op);
}

const char *lb_event_name(unsigned op)
{
	static const char *const names[] = {
		[LB_EVENT_TRACKING] = "TRACKING",
		[LB_EVENT_TABLE_PRESSURE] = "TABLE_PRESSURE",
		[LB_EVENT_BACKEND_SUSPECT] = "BACKEND_SUSPECT",
		[LB_EVENT_PORT_LINK] = "PORT_LINK",
	};

	return NAME(names, op);
}

const char *lb_mode_name(unsigned mode)
{
	static const char *const names[LB_MODE_N] = {
		[LB_MODE_NAT] = "nat",
		[LB_MODE_FULLNAT] = "fullnat",
		[LB_MODE_DSR] = "dsr",
		[LB_MODE_IPIP] = "ipip",
		[LB_MODE_GUE] = "gue",
	};

	return NAME(names, mode);
}

const char *lb_scheduler_name(unsigned scheduler)
{
	static const char *const names[LB_SCHED_N] = {
		[LB_SCHED_MAGLEV] = "maglev",
		[LB_SCHED_RING] = "ring",
		[LB_SCHED_RR] = "rr",
		[LB_SCHED_WRR] = "wrr",
		[LB_SCHED_LC] = "lc",
		[LB_SCHED_WLC] = "wlc",
		[LB_SCHED_P2C] = "p2c",
		[LB_SCHED_SOURCE] = "source",
	};

	return NAME(names, scheduler);
}

const char *lb_on_empty_name(unsigned on_empty)
{
	static const char *const names[LB_ON_EMPTY_N] = {
		[LB_ON_EMPTY_DROP] = "drop",
		[LB_ON_EMPTY_RESET] = "reset",
		[LB_ON_EMPTY_LAST_RESORT] = "last_resort",
	};

	return NAME(names, on_empty);
}

const char *lb_tracking_name(unsigned tracking)
{
	static const char *const names[LB_TRACKING_N] = {
		[LB_TRACKING_ALL] = "all",
		[LB_TRACKING_CHANGED] = "changed",
	};

	return NAME(names, tracking);
}

const char *lb_backend_state_name(unsigned state)
{
	static const char *const names[LB_BACKEND_STATE_N] = {
		[LB_BACKEND_DOWN] = "down",
		[LB_BACKEND_UP] = "up",
		[LB_BACKEND_DRAIN] = "drain",
	};

	return NAME(names, state);
}

const char *lb_decision_name(unsigned decision)
{
	static const char *const names[LB_DECISION_N] = {
		[LB_DECISION_NONE] = "none",
		[LB_DECISION_ENTRY] = "entry",
		[LB_DECISION_SLOT] = "slot",
		[LB_DECISION_ORIGIN] = "origin",
		[LB_DECISION_REPLY] = "reply",
		[LB_DECISION_SCHEDULER] = "scheduler",
	};

	return NAME(names, decision);
}
