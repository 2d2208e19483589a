/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_MSG_H
#define LB_MSG_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "lb/addr.h"
#include "lb/hash.h"

/*
 * The 64-byte messages of the three rings. Control sends commands; the data plane answers each with one
 * reply that carries the same `seq` and an errno-style status (0 or -errno); workers send events. Fields
 * named zero must be zero: a message that sets them is refused with -EINVAL, so that they can get a
 * meaning later. Ids are indexes: they are checked by the receiver, never trusted.
 */

#define LB_MAX_SERVICES 4096u  /* service ids 0..4095 */
#define LB_MAX_BACKENDS 65535u /* backend ids 0..65534; 65535 is "none" */
#define LB_MAX_NEXTHOPS 16384u /* next-hop ids 1..16382; 0 is "none" (rte_fib, 2-byte entries: 15 bits) */
#define LB_MAX_LOCALS 64u      /* local addresses: 0..64 */
#define LB_BACKEND_NONE UINT16_MAX
#define LB_NEXTHOP_NONE 0u
/* As a route's next hop, always there: the destination is this host's own; such packets are left to the kernel. */
#define LB_NEXTHOP_HOST (LB_MAX_NEXTHOPS - 1u)

enum lb_op {
	LB_OP_PING = 1,       /* no payload */
	LB_OP_SYNC_BEGIN,     /* no payload: every object becomes unmentioned */
	LB_OP_SYNC_END,       /* no payload: objects still unmentioned are removed; -EINVAL without BEGIN */
	LB_OP_SECRET_SET,     /* .secret; -EBUSY if another secret is set and flows are live */
	LB_OP_SERVICE_SET,    /* .service; -EEXIST if its key belongs to another id */
	LB_OP_SERVICE_DEL,    /* .id: with its table and its backends; -ENOENT */
	LB_OP_BACKEND_SET,    /* .backend; -ENOENT no such service; -EEXIST nat endpoint in use by another id;
			       * -EAFNOSUPPORT, -EINVAL family or port that the mode does not go with;
			       * -EBUSY id belongs to another endpoint or service (delete first) */
	LB_OP_BACKEND_DEL,    /* .id; -ENOENT; -EBUSY while the service's table names it */
	LB_OP_TABLE_PUBLISH,  /* .table; -EINVAL length, buffer or pick table; -EBADMSG checksum; -ERANGE a slot
			       * or member names no backend of this service */
	LB_OP_NEXTHOP_SET,    /* .nexthop; -EINVAL also for LB_NEXTHOP_HOST; -ENOSPC too many VLANs */
	LB_OP_NEXTHOP_DEL,    /* .id; -ENOENT; -EBUSY while a backend or route names it */
	LB_OP_ROUTE_SET,      /* .route; -ENOENT no such next hop; -ENOSPC */
	LB_OP_ROUTE_DEL,      /* .route (next hop ignored); -ENOENT */
	LB_OP_TRACE,          /* .trace; reply.trace */
	LB_OP_FLOWS_FLUSH,    /* .flush; reply.n_flows */
	LB_OP_FLOWS_COUNT,    /* .flush: as above but only counts */
	LB_OP_LOCAL_SET,      /* .local: one after the other, in force with the last; -EINVAL also out of order */
	LB_OP_SESSION_NEXT,   /* .session_query; reply.session: the next session of mode fullnat, if any; -EINVAL */
	LB_OP_SYNC_OBJECTS,   /* no payload: all objects but tables have been said, so that forwarding may begin;
			       * -EINVAL without BEGIN or SECRET_SET */
	LB_OP_N
};

enum lb_event_op {
	LB_EVENT_TRACKING = 1, /* unused: tracking turns per worker, which is the next one */
	LB_EVENT_TABLE_PRESSURE, /* a worker's flow table is full, or soon, or no longer; .pressure */
	LB_EVENT_BACKEND_SUSPECT, /* backend refused or did not answer; .id */
	LB_EVENT_PORT_LINK,    /* .link */
};

enum lb_mode { LB_MODE_NAT, LB_MODE_FULLNAT, LB_MODE_DSR, LB_MODE_IPIP, LB_MODE_GUE, LB_MODE_N };

/* The packet is put whole into another one, whose family may differ from the VIP's. */
static inline bool lb_mode_is_tunnel(unsigned mode)
{
	return mode == LB_MODE_IPIP || mode == LB_MODE_GUE;
}

/* Replies come from the backend's endpoint, which is known by it alone and therefore one service's only. */
static inline bool lb_mode_owns_endpoints(unsigned mode)
{
	return mode == LB_MODE_NAT;
}

/* The packet arrives with the port that the client wrote: the backend's port cannot be another. */
static inline bool lb_mode_keeps_port(unsigned mode)
{
	return mode == LB_MODE_DSR || lb_mode_is_tunnel(mode);
}

/* TCP's MSS option, as both directions pass: lowered where it is larger. */
#define LB_MSS_NONE 0u            /* left alone */
#define LB_MSS_AUTO UINT16_MAX    /* to what the ports' MTUs have room for; always done but with NONE */
#define LB_MSS_MIN 88u            /* what Linux takes as the least (TCP_MIN_MSS) */
#define LB_MSS_MAX (65535u - 40u) /* of the largest IP packet */

/* Both sides' SYNs pass: the protocol is IANA's number. */
static inline bool lb_mode_has_mss(unsigned mode, unsigned proto)
{
	return proto == 6 && (mode == LB_MODE_NAT || mode == LB_MODE_FULLNAT);
}

/* Mode fullnat: how the backend learns of the client's address. */
enum lb_client_address {
	LB_CLIENT_ADDRESS_NONE, LB_CLIENT_ADDRESS_TOA, LB_CLIENT_ADDRESS_PROXY_V2, LB_CLIENT_ADDRESS_N
};

enum lb_on_empty { LB_ON_EMPTY_DROP, LB_ON_EMPTY_RESET, LB_ON_EMPTY_LAST_RESORT, LB_ON_EMPTY_N };
enum lb_tracking { LB_TRACKING_ALL, LB_TRACKING_CHANGED, LB_TRACKING_N };
enum lb_scheduler {
	LB_SCHED_MAGLEV, LB_SCHED_RING, LB_SCHED_RR, LB_SCHED_WRR, LB_SCHED_LC, LB_SCHED_WLC,
	LB_SCHED_P2C, LB_SCHED_SOURCE, LB_SCHED_N
};

/* What the data plane needs to know of a backend's state: may its recorded flows go on? */
enum lb_backend_state {
	LB_BACKEND_DOWN,  /* flows with an entry are looked up anew */
	LB_BACKEND_UP,    /* serves */
	LB_BACKEND_DRAIN, /* recorded flows go on; the table has no slot for it */
	LB_BACKEND_STATE_N
};

struct lb_msg_service {
	struct lb_service_key key;
	uint16_t id;
	uint8_t mode;      /* enum lb_mode */
	uint8_t on_empty;  /* enum lb_on_empty */
	uint8_t tracking;  /* enum lb_tracking */
	uint8_t scheduler; /* enum lb_scheduler */
	uint16_t gue_port_be; /* mode gue: UDP port of the backends' tunnel ends, else 0 */
	uint32_t idle_timeout_ms; /* 1000..LB_IDLE_TIMEOUT_MAX_MS */
	uint8_t client_address; /* enum lb_client_address; NONE but in mode fullnat */
	uint8_t zero;
	uint16_t mss; /* LB_MSS_*, or the largest in a SYN, LB_MSS_MIN..MAX; NONE unless lb_mode_has_mss() */
};

struct lb_msg_backend {
	struct lb_addr addr;
	uint16_t port_be; /* 0: the packet's port is kept (service with port 0) */
	uint16_t id;
	uint16_t service;
	uint16_t nexthop; /* LB_NEXTHOP_NONE: not resolved yet */
	uint8_t state;    /* enum lb_backend_state */
	uint8_t zero[3];
	uint32_t weight; /* for display and load-aware schedulers */
};

struct lb_msg_table {
	uint16_t service;
	uint16_t buffer; /* 0..LB_SHM_N_TABLES-1; control leaves it alone until the reply */
	uint32_t n_slots;
	uint64_t checksum; /* lb_hash_bytes(words, 2 * (n_slots + 2 * n_members + n_sequence), version) */
	uint32_t version;  /* chosen by control, shown in status */
	/* The pick table behind the slots (lb/pick.h). All zero: none. */
	uint32_t n_members;
	uint32_t n_sequence;
	uint16_t max_load_percent;
	uint8_t scheduler; /* enum lb_scheduler: how the table is used; in lb_msg_service: for display */
	uint8_t zero;
};

/* The 802.1Q tag with which packets leave for a next hop. */
#define LB_VLAN_KEEP 0u    /* that with which they came, or none if they had none */
#define LB_VLAN_MAX 4094u  /* 1..4094: this VLAN, with the priority that they had */
#define LB_VLAN_NONE 4095u /* none */

struct lb_msg_nexthop {
	uint16_t id;
	uint16_t port; /* DPDK port id to send from */
	uint8_t mac[6];
	uint16_t vlan;    /* LB_VLAN_* or 1..LB_VLAN_MAX */
	uint8_t resolved; /* 0: packets for it are dropped and counted until it is */
	uint8_t zero[3];
};

struct lb_msg_route {
	struct lb_addr prefix; /* bits past the length are zero; IPv4 in mapped form */
	uint8_t family;        /* 4 or 6 */
	uint8_t length;        /* 0..32 or 0..128 */
	uint16_t nexthop;
	uint32_t zero;
};

/*
 * One of this host's addresses that are ours to send from (tunnels' outer sources, fullnat). A list is sent as
 * index 0, 1 .. count - 1 and replaces the one before, as a whole, with the last of them; count 0 (and index 0,
 * address all zeroes): no address. A sync that does not mention them ends with none.
 */
struct lb_msg_local {
	struct lb_addr addr;
	uint16_t index;
	uint16_t count; /* 0..LB_MAX_LOCALS */
	uint32_t zero;
};

struct lb_msg_flush {
	uint16_t service;
	uint16_t backend; /* LB_BACKEND_NONE: every backend of the service */
	uint32_t zero;
};

/* From where a traced packet's backend came: design section 7's decision order. */
enum lb_decision {
	LB_DECISION_NONE,      /* no service, or no backend; see .verdict */
	LB_DECISION_ENTRY,     /* flow-table entry */
	LB_DECISION_SLOT,      /* the slot's backend */
	LB_DECISION_ORIGIN,    /* the slot's origin: slot in transition, flow may be older than it */
	LB_DECISION_REPLY,     /* from a nat backend to a client: source becomes the VIP */
	LB_DECISION_SCHEDULER, /* chosen beside the slot: by load or in turn */
	LB_DECISION_N
};

struct lb_msg_trace { /* command */
	struct lb_addr src, dst;
	uint16_t sport_be, dport_be;
	uint8_t proto;
	uint8_t syn; /* 1: as a TCP SYN, 0: as a mid-stream packet */
	uint8_t zero[2];
};

struct lb_msg_trace_reply {
	uint16_t service;
	uint16_t backend;
	uint16_t origin; /* the slot's origin, LB_BACKEND_NONE if the slot is not in transition */
	uint8_t decision; /* enum lb_decision */
	uint8_t verdict;  /* enum lb_verdict: what would happen to such a packet */
	uint32_t slot;
	uint32_t slot_age_s; /* since the slot's last change; UINT32_MAX: never */
	uint32_t entry_age_s;
	uint16_t worker;     /* that holds the entry; UINT16_MAX: none */
	uint8_t entry_state; /* enum lb_flow_state */
	uint8_t zero;
	uint32_t table_version;
	uint64_t hash;
	uint16_t slot_backend; /* the slot's backend now */
	uint16_t local_port_be; /* of the entry, a session of mode fullnat; else 0 */
	uint8_t local_idx;      /* its local address: place in lb_shm_header.locals */
	uint8_t zero2[3];
};

/* Where a walk over all sessions goes on: 0, 0 at first, then next_worker and next_entry of the reply before. */
struct lb_msg_session_query {
	uint32_t entry;
	uint16_t worker;
	uint16_t service; /* of this one only; UINT16_MAX: of all */
	uint64_t zero;
};

/* A session as it was a moment ago. */
struct lb_msg_session {
	struct lb_addr client;
	uint32_t next_entry;
	uint32_t idle_s;      /* since its last packet */
	uint16_t next_worker; /* UINT16_MAX: the walk is over */
	uint16_t worker;
	uint16_t service;
	uint16_t backend;
	uint16_t client_port_be, vip_port_be, local_port_be;
	uint8_t local_idx; /* its local address: place in lb_shm_header.locals */
	uint8_t state;     /* enum lb_flow_state */
	uint8_t found;     /* 0: none so far; but for next_* nothing is filled in */
	uint8_t zero[7];
};

struct lb_msg {
	uint32_t seq; /* replies: of the command; events: counts up per worker */
	uint16_t op;  /* enum lb_op or enum lb_event_op */
	uint16_t worker; /* events: which worker; else 0 */
	union {
		uint8_t payload[56];
		uint16_t id;
		uint8_t secret[16];
		struct lb_msg_service service;
		struct lb_msg_backend backend;
		struct lb_msg_table table;
		struct lb_msg_nexthop nexthop;
		struct lb_msg_route route;
		struct lb_msg_flush flush;
		struct lb_msg_local local;
		struct lb_msg_trace trace;
		struct lb_msg_session_query session_query;
		struct {
			int32_t status; /* 0 or -errno */
			uint32_t zero;
			union {
				struct lb_msg_trace_reply trace;
				struct lb_msg_session session;
				uint64_t n_flows;
			};
		} reply;
		struct {
			uint16_t service;
			uint8_t tracking; /* enum lb_tracking in force from now */
		} tracking;
		struct {
			uint64_t n_used, n_max;
			uint8_t on; /* 1: records only flows on slots in transition from now; 0: no longer */
		} pressure;
		struct {
			uint16_t port;
			uint8_t up;
		} link;
	};
};
static_assert(sizeof(struct lb_msg) == 64, "one cache line");

/** Longest idle timeout: 2 h, what the flow table's 12-bit time can tell apart. */
#define LB_IDLE_TIMEOUT_MAX_MS 7200000u
#define LB_IDLE_TIMEOUT_MIN_MS 1000u

/** Names for logs and lbctl, e.g. "TABLE_PUBLISH", "nat"; "?" out of range. */
const char *lb_op_name(unsigned op);
const char *lb_event_name(unsigned op);
const char *lb_mode_name(unsigned mode);
const char *lb_scheduler_name(unsigned scheduler);
const char *lb_on_empty_name(unsigned on_empty);
const char *lb_tracking_name(unsigned tracking);
const char *lb_backend_state_name(unsigned state);
const char *lb_decision_name(unsigned decision);

#endif
