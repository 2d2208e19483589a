/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_FULLNAT_H
#define LB_DATAPLANE_FULLNAT_H

#include <rte_ring.h>

#include "dataplane/worker.h"
#include "lb/ports.h"

/*
 * Mode fullnat: both sides of a packet are rewritten, so that its source is a local address and port of ours and
 * the reply comes back to us wherever the backend's routes lead. Made when the first fullnat service is; there
 * until the end.
 *
 *   fullnat.c      the stage: sessions of packets from clients and of replies; frag.c asks it about fragments
 *   translate.c    headers of both sides, also from one family to the other
 *   icmp_session.c ICMP errors that quote a session's packets; icmp_family.c turns them into those of the other family
 *   handover.c     what RSS brought to another worker than its session's
 *   pools.c      local addresses, ports, tables: what the main lcore does
 */

/*
 * The local ports of one backend endpoint, shared by all backends (of whatever service) that name it: a port is
 * taken per endpoint. Main lcore: rw; workers: the pointers ro, each its own shares.
 */
struct lb_pool {
	struct lb_service_key endpoint;
	uint32_t idx;
	uint32_t n_backends; /* that name it; 0: may be given to another endpoint once no port is in use */
	uint8_t *_Atomic shares[LB_MAX_LOCALS]; /* by local address: a share per worker; NULL: none */
};

/* A local address keeps its place as long as sessions have it, also when the config no longer does. */
struct lb_fullnat_locals {
	uint32_t n;
	struct lb_addr addrs[LB_MAX_LOCALS];
	bool usable[LB_MAX_LOCALS]; /* for new sessions */
};

struct lb_fullnat {
	/* main lcore: wo; workers: ro */
	const struct lb_fullnat_locals *_Atomic locals; /* never NULL; replaced by RCU */
	struct lb_pool *_Atomic *pools; /* by backend id, LB_MAX_BACKENDS + 1; stays when the backend goes */
	uint32_t n_shares;
	uint64_t share_bytes;
	uint8_t *rings; /* n_workers * n_workers, [from][to] */
	uint64_t ring_bytes;

	/* main lcore only */
	struct lb_pool **all_pools;
	uint32_t n_pools;
	uint32_t n_idle_pools;     /* no backend names them */
	uint32_t n_held_pools[2];  /* the others: of IPv4 endpoints, of IPv6 ones */
	struct lb_keymap *pool_map; /* endpoint -> index in all_pools */
};

/** This worker's ports from local address @p local towards the backend; NULL: none. Worker. */
static inline struct lb_ports *lb_fullnat_share(
	const struct lb_fullnat *fullnat, const struct lb_worker *worker, uint16_t backend, unsigned local)
{
	struct lb_pool *pool = atomic_load_explicit(&fullnat->pools[backend], memory_order_acquire);
	uint8_t *shares;

	if (unlikely(pool == NULL))
		return NULL;
	shares = atomic_load_explicit(&pool->shares[local], memory_order_acquire);
	return shares == NULL ? NULL : (void *)(shares + worker->idx * fullnat->share_bytes);
}

/** Place of @p addr among the local addresses, old ones included; LB_MAX_LOCALS: none of ours. */
static inline unsigned lb_fullnat_local(const struct lb_fullnat_locals *locals, const struct lb_addr *addr)
{
	for (unsigned i = 0; i < locals->n; i++)
		if (lb_addr_equal(&locals->addrs[i], addr))
			return i;
	return LB_MAX_LOCALS;
}

/** What a reply of this session looks like. */
static inline struct lb_flow_key lb_fullnat_reply_key(
	const struct lb_dp *dp, const struct lb_session *session)
{
	const struct lb_backend *backend = &dp->backends[session->backend];

	return (struct lb_flow_key){.src = backend->addr,
		.dst = session->local,
		.sport_be = backend->port_be != 0 ? backend->port_be : session->vip_port_be,
		.dport_be = session->local_port_be,
		.proto = backend->proto};
}

/** The session of a packet from a client, or of a reply. @p hash: lb_hash_flows() of @p key. Worker; display. */
struct lb_session *lb_fullnat_find(const struct lb_worker *worker, const struct lb_flow_key *key,
	uint64_t hash, enum lb_session_dir dir);

/**
 * Which other worker has the session of a client's packet that RSS cannot have brought to it: a fragment's, or one that an
 * ICMP error quotes. Reads their tables as the display does: they may be in change, so it is a hint.
 * @return its number; dp->n_workers: nobody. Worker.
 */
unsigned lb_fullnat_owner(const struct lb_worker *worker, const struct lb_flow_key *key, uint64_t hash);

/** A session of @p worker begins or ends: keep n_fragment_sessions right. Worker; main lcore: before workers run. */
static inline void lb_fullnat_count_fragment(struct lb_worker *worker, const struct lb_session *session, int change)
{
	if (unlikely(session->flags & LB_SESSION_FRAGMENT))
		__atomic_store_n(&worker->n_fragment_sessions, worker->n_fragment_sessions + (uint32_t)change,
			__ATOMIC_RELAXED);
}

/** What is to local address @p local, but none of ours: the host's if the address is (its routes say so), else @p verdict. Worker. */
uint8_t lb_fullnat_not_ours(const struct lb_worker *worker, const struct lb_addr *local, uint8_t verdict);

/** Put both MACs in front of packet @p i. @return @p verdict, or NEXTHOP_UNRESOLVED. Worker. */
uint8_t lb_fullnat_send(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t nexthop, uint8_t verdict);

/**
 * Settle the first fragment of a datagram, to a fullnat service or to a local address, whose ports have been read: as any
 * packet, but that it cannot grow. @p hash: of its key, filled in; @p owner: with verdict TAKEN, the worker that has
 * it now. @return its verdict. Worker.
 */
uint8_t lb_fullnat_first(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t *hash, uint8_t *owner);

/** Settle a later one, of the flow @p key: its IP header is rewritten. @return its verdict. Worker. */
uint8_t lb_fullnat_follow(struct lb_worker *worker, struct lb_burst *burst, unsigned i, const struct lb_flow_key *key,
	uint64_t hash, enum lb_session_dir dir);

/** Fill in what follows from a session's identity: checksum differences. */
void lb_fullnat_prepare(const struct lb_dp *dp, struct lb_session *session);

/* handover.c: replies go to the worker that their port names. Worker. */

/** Pass packet @p i to worker @p to. @return its verdict: TAKEN, or HANDOVER_FULL. */
uint8_t lb_handover_give(struct lb_worker *worker, struct lb_burst *burst, unsigned i, unsigned to);

/** Fill the burst with packets that other workers have passed on, all of one port. @return how many. */
unsigned lb_handover_take(struct lb_worker *worker, struct lb_burst *burst);

/** Rings between all workers, in memory of @p fullnat. @return 0, -ENOMEM. Main lcore. */
int lb_handover_init(struct lb_fullnat *fullnat, unsigned n_workers);

/* translate.c */

/* What a packet's headers become: both addresses and ports. */
struct lb_translation {
	const struct lb_addr *src, *dst; /* of one family: the packet's from now on */
	uint16_t sport_be, dport_be;
	uint16_t ip_sum; /* ~m + m' of the addresses, RFC 1624; used within one family */
	uint16_t l4_sum; /* ~m + m' of addresses and ports */
};

/**
 * The largest IP packet that, with the headers of packet @p i, still fits into @p mtu on its way to @p dst: only a
 * change of family makes a packet larger. May be more than 65535. Worker.
 */
uint32_t lb_translate_room(const struct lb_burst *burst, unsigned i, const struct lb_addr *dst, uint16_t mtu);

/**
 * Rewrite packet @p i; packet->l4 0: its IP header alone. With another family that is replaced (RFC 7915): no options and
 * extension headers, TTL and traffic class kept. @return FORWARD; NO_HEADROOM, FRAGMENT: unchanged. Worker.
 */
uint8_t lb_translate(struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	const struct lb_translation *change);

/* pools.c. Main lcore. */

/** The first fullnat service: make everything. @return 0, -ENOMEM or what its files say, logged. */
int lb_fullnat_start(struct lb_dp *dp);

/** Once secret, services and backends are known: take sessions over from a data plane before; workers may begin. */
void lb_fullnat_adopt(struct lb_dp *dp);

/** Backend @p id of a fullnat service, whose line is filled in, needs ports. @return 0, -ENOMEM. */
int lb_fullnat_backend_add(struct lb_dp *dp, uint16_t id);
void lb_fullnat_backend_del(struct lb_dp *dp, uint16_t id);

/** dp->locals has changed. @return 0; -ENOMEM; -ENOSPC: old ones still have sessions. */
int lb_fullnat_locals_changed(struct lb_dp *dp);

/** Free all but the files. No worker runs. */
void lb_fullnat_fini(struct lb_dp *dp);

#endif
