/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_DP_H
#define LB_DATAPLANE_DP_H

#include <stdatomic.h>

#include <rte_rcu_qsbr.h>

#include "dataplane/fib.h"
#include "dataplane/keymap.h"
#include "dataplane/mapspare.h"
#include "lb/flowtable.h"
#include "lb/hash.h"
#include "lb/pick.h"
#include "lb/shm.h"
#include "lb/slots.h"

/*
 * The data plane's state. One writer throughout: the main lcore, by commands from the ring; workers only
 * read. What a worker reads through a pointer is replaced and freed after a grace period (rte_rcu_qsbr);
 * what it reads in place is either written before anything refers to it or is a single aligned word.
 */

/* A service, as workers see it. One cache line. main lcore: wo, workers: ro. */
struct lb_service {
	struct lb_service_key key;         /* written before the map names the service */
	struct lb_slot_table *_Atomic table; /* NULL: none published yet */
	struct lb_pick *_Atomic pick;        /* NULL: new flows go by the slot of their hash */
	uint32_t idle_ticks; /* 0: never used */
	uint8_t mode;
	uint8_t on_empty;
	uint8_t tracking;
	uint8_t scheduler;
	bool in_use;
	bool mentioned; /* main lcore: in the sync under way */
	uint16_t mss; /* largest in a SYN, LB_MSS_*; may change at any time */
	uint16_t gue_port_be; /* main lcore */
	uint8_t client_address; /* enum lb_client_address; mode fullnat */
	bool resumes; /* main lcore: from before the first sync's end, and not gone on with the kept table yet */
} __attribute__((aligned(64)));
static_assert(sizeof(struct lb_service) == 64, "one cache line per service");

/*
 * A backend: everything the rewrite stage needs, in one cache line. main lcore: wo, workers: ro. The
 * addresses and checksum differences never change while the id is in use; nexthop and state are single
 * words that may change at any time.
 */
struct lb_backend {
	_Atomic uint64_t nexthop; /* lb_nexthop word: where packets to it are sent */
	struct lb_addr addr;
	struct lb_addr vip;
	uint16_t vip_port_be; /* with the next two, and the address before, compared with a flow key's: see fast.c */
	uint8_t proto; /* of its service */
	_Atomic uint8_t way;   /* enum lb_mode, with LB_WAY_*: what is done to a packet of a flow that is its */
	uint16_t port_be;      /* 0: keep the packet's */
	uint16_t service;
	uint32_t to_backend_ip; /* RFC 1624 differences, see rewrite.c; of IP as lb_ip_difference() says */
	uint16_t to_backend_l4_sum;
	uint16_t to_client_ip_sum;
	uint16_t to_client_l4_sum;
	_Atomic uint8_t state; /* enum lb_backend_state */
	uint8_t mode;  /* enum lb_mode, of its service */
	uint16_t nexthop_id; /* main lcore */
	bool in_use;
	bool mentioned; /* main lcore: in the sync under way */
} __attribute__((aligned(64)));

#define LB_WAY_IPV6 0x40u /* the VIP's family */
#define LB_WAY_DOWN 0x80u
static_assert(LB_MODE_N <= LB_WAY_IPV6, "bits of their own");
static_assert(sizeof(struct lb_backend) == 64, "one cache line per backend");

/* The host's addresses that are ours to send from, in the config's order. Never changed: replaced by RCU. */
struct lb_locals {
	uint32_t n;
	struct lb_addr addrs[LB_MAX_LOCALS];
};

/* What a removed backend's id waits for: every worker's sweep has passed over its whole table twice. */
struct lb_id_quarantine {
	uint32_t sweeps[LB_SHM_MAX_WORKERS];
	bool waiting;
};

struct lb_worker;
struct lb_fullnat;
struct lb_resumed;

struct lb_dp {
	/* main lcore: rw, workers: ro */
	struct lb_keymap *_Atomic service_map;  /* VIP, port, protocol -> service id */
	struct lb_keymap *_Atomic endpoint_map; /* nat backend's address, port, protocol -> backend id */
	const struct lb_locals *_Atomic locals; /* never NULL */
	struct lb_encap *_Atomic encaps;        /* LB_MAX_BACKENDS + 1, see encap.h; NULL: no tunnel yet */
	struct lb_service *services;            /* LB_MAX_SERVICES */
	struct lb_backend *backends;            /* LB_MAX_BACKENDS + 1 */
	uint8_t *backend_states;                /* LB_MAX_BACKENDS + 1; the same as backends[].state, dense */
	uint16_t *idle_ticks;                   /* LB_MAX_BACKENDS + 1; 0: purge its flow entries */
	struct lb_fullnat *_Atomic fullnat;     /* see fullnat.h; NULL: no fullnat service yet, or not live */
	struct lb_hash_key hash_key;
	struct lb_fib fib;
	_Atomic uint32_t tick;  /* LB_FLOW_TICK_MS since boot; workers never ask for the time themselves */
	_Atomic uint32_t now_s; /* seconds since boot, for the slot history */
	uint8_t *flush; /* LB_MAX_BACKENDS + 1: flows of flagged backends are removed; stable while a flush runs */
	_Atomic uint32_t flushes; /* counts up when `flush` is complete: workers begin */
	_Atomic bool live;      /* objects told, flow tables adopted: workers may use them */
	_Atomic bool stop;
	uint8_t *reset_rings; /* n_workers * n_workers, [from][to], see reset.c; NULL: one worker. Set before there are any */
	uint64_t reset_ring_bytes;

	/* main lcore only */
	struct rte_rcu_qsbr *qsbr;
	struct lb_shm_map shm;
	struct lb_ring commands, replies;
	struct lb_keymap *next_service_map; /* private copy under change in this batch; NULL: unchanged */
	struct lb_keymap *next_endpoint_map;
	struct lb_map_spare service_spare, endpoint_spare;
	struct lb_encap *next_encaps;  /* private copy under change in this batch; NULL: unchanged */
	struct lb_locals *next_locals; /* the list that is being told; NULL: none is */
	bool locals_mentioned;         /* in the sync under way */
	void **retired; /* to be freed after the grace period that ends the batch */
	size_t n_retired, retired_room;
	uint32_t *slot_refs; /* per backend: slots of its service's table that name it */
	struct lb_id_quarantine *quarantine; /* per backend id */
	struct lb_resumed *resumed; /* see resume.h; NULL: none wait */
	uint32_t n_resumed, next_resumed, n_taken;
	bool syncing;
	bool secret_set;
	uint8_t secret[16];
	uint64_t flows_per_worker;
	uint64_t sessions_per_worker;
	struct lb_fullnat *fullnat_own; /* the same as `fullnat`, but there before the workers see it */
	uint32_t n_services, n_backends; /* in use */
	unsigned n_workers;
	struct lb_worker *workers[LB_SHM_MAX_WORKERS];
};

/** Allocate everything of @p dp but workers and region. @return 0, -ENOMEM. */
int lb_dp_init(struct lb_dp *dp, unsigned n_workers);
void lb_dp_fini(struct lb_dp *dp);

/* One command each: validate, apply, @return 0 or -errno as lb/msg.h lists them. Main lcore. */
int lb_service_set(struct lb_dp *dp, const struct lb_msg_service *msg);
int lb_service_del(struct lb_dp *dp, uint16_t id);
int lb_backend_set(struct lb_dp *dp, const struct lb_msg_backend *msg);
int lb_backend_del(struct lb_dp *dp, uint16_t id);
int lb_local_set(struct lb_dp *dp, const struct lb_msg_local *msg);
int lb_table_publish(struct lb_dp *dp, const struct lb_msg_table *msg);

/**
 * Let a service that has no table go on with the one that was kept, if each of its slots has a backend that is
 * up: else it waits for what control publishes. @return whether it does. Main lcore.
 */
bool lb_table_resume(struct lb_dp *dp, uint16_t id);

/**
 * End a batch of commands: make the changed maps visible, wait until every worker has passed a quiescent
 * state, free what they may have used before. Replies are sent after this. Main lcore.
 */
void lb_dp_commit(struct lb_dp *dp);

/** Queue @p memory (of rte_malloc(); NULL is allowed) to be freed at the next commit. */
void lb_dp_retire(struct lb_dp *dp, void *memory);

/** The first local address of IPv4 or IPv6; NULL: none. */
const struct lb_addr *lb_local_of_family(const struct lb_locals *locals, bool ipv4);

#endif
