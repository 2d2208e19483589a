/* SPDX-License-Identifier: BSD-3-Clause */
/* Mode fullnat, the main lcore's side: tables, local addresses, ports per backend endpoint. Main lcore only. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>

#include <rte_malloc.h>
#include <rte_random.h>

#include "dataplane/flowmem.h"
#include "dataplane/fullnat.h"
#include "lb/log.h"

#define TOPIC "fullnat"

static const struct lb_fullnat_locals *locals_of(const struct lb_fullnat *fullnat)
{
	return atomic_load_explicit(&fullnat->locals, memory_order_relaxed);
}

static bool is_of_family(const struct lb_addr *addr, const struct lb_pool *pool)
{
	return lb_addr_is_ipv4(addr) == lb_addr_is_ipv4(&pool->endpoint.addr);
}

// For display.
static void publish_ports(const struct lb_dp *dp, const struct lb_fullnat *fullnat)
{
	const struct lb_fullnat_locals *locals = locals_of(fullnat);
	uint64_t n_ports = LB_PORTS_ALL / fullnat->n_shares; // of a worker, towards one endpoint

	for (unsigned i = 0; i < locals->n; i++)
		dp->shm.shm->header.local_ports[i] =
			locals->usable[i]
				? n_ports * fullnat->n_held_pools[!lb_addr_is_ipv4(&locals->addrs[i])]
				: 0;
}

// A pool has its first backend (@p by 1), or no longer one (-1).
static void count_held(
	const struct lb_dp *dp, struct lb_fullnat *fullnat, const struct lb_pool *pool, int by)
{
	fullnat->n_held_pools[!lb_addr_is_ipv4(&pool->endpoint.addr)] += (uint32_t)by;
	publish_ports(dp, fullnat);
}

// Every worker's share of the ports from one address to one endpoint. 8 KB for all of them together.
static int add_shares(const struct lb_dp *dp, struct lb_fullnat *fullnat, struct lb_pool *pool, unsigned local)
{
	uint8_t *shares;

	if (pool->shares[local] != NULL)
		return 0;
	shares = rte_malloc("ports", dp->n_workers * fullnat->share_bytes, 64);
	if (shares == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < dp->n_workers; i++)
		// Not from the first port on at each start: a backend may remember what was there before.
		lb_ports_init((void *)(shares + i * fullnat->share_bytes), fullnat->n_shares,
			(uint32_t)rte_rand());
	atomic_store_explicit(&pool->shares[local], shares, memory_order_release);
	return 0;
}

static int add_all_shares(const struct lb_dp *dp, struct lb_fullnat *fullnat, struct lb_pool *pool,
	const struct lb_fullnat_locals *locals)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < locals->n; i++)
		if (locals->usable[i] && is_of_family(&locals->addrs[i], pool))
			rc = add_shares(dp, fullnat, pool, i);
	return rc;
}

static uint32_t n_used(const struct lb_dp *dp, const struct lb_fullnat *fullnat, const struct lb_pool *pool,
	unsigned local)
{
	const uint8_t *shares = pool->shares[local];
	uint32_t n = 0;

	for (unsigned i = 0; shares != NULL && i < dp->n_workers; i++)
		n += __atomic_load_n(
			&((const struct lb_ports *)(shares + i * fullnat->share_bytes))->n_used,
			__ATOMIC_RELAXED);
	return n;
}

static bool pool_is_idle(const struct lb_dp *dp, const struct lb_fullnat *fullnat, const struct lb_pool *pool)
{
	if (pool->n_backends != 0)
		return false;
	for (unsigned i = 0; i < LB_MAX_LOCALS; i++)
		if (n_used(dp, fullnat, pool, i) != 0)
			return false;
	return true;
}

// A worker may still be on its way to a port of a pool that lost its last backend in this batch.
static struct lb_pool *take_idle(struct lb_dp *dp, struct lb_fullnat *fullnat)
{
	if (fullnat->n_idle_pools == 0)
		return NULL;
	rte_rcu_qsbr_synchronize(dp->qsbr, RTE_QSBR_THRID_INVALID);
	for (uint32_t i = 0; i < fullnat->n_pools; i++) {
		struct lb_pool *pool = fullnat->all_pools[i];

		if (!pool_is_idle(dp, fullnat, pool))
			continue;
		for (unsigned local = 0; local < LB_MAX_LOCALS; local++)
			rte_free(atomic_exchange(&pool->shares[local], NULL));
		lb_keymap_del(fullnat->pool_map, &pool->endpoint);
		fullnat->n_idle_pools--;
		return pool;
	}
	return NULL;
}

static struct lb_pool *new_pool(struct lb_fullnat *fullnat)
{
	struct lb_pool **grown = realloc(fullnat->all_pools, (fullnat->n_pools + 1) * sizeof(*grown));
	struct lb_pool *pool;

	if (grown == NULL)
		return NULL;
	fullnat->all_pools = grown;
	pool = rte_zmalloc("pool", sizeof(*pool), 64);
	if (pool == NULL)
		return NULL;
	pool->idx = fullnat->n_pools;
	fullnat->all_pools[fullnat->n_pools++] = pool;
	return pool;
}

// The pool of an endpoint, with one backend more; new ones have no shares yet.
static struct lb_pool *hold_pool(
	struct lb_dp *dp, struct lb_fullnat *fullnat, const struct lb_service_key *endpoint)
{
	uint32_t idx = lb_keymap_get(fullnat->pool_map, endpoint);
	struct lb_pool *pool;

	if (idx != LB_KEYMAP_MISS) {
		pool = fullnat->all_pools[idx];
		if (pool->n_backends == 0) {
			fullnat->n_idle_pools--;
			count_held(dp, fullnat, pool, 1);
		}
		pool->n_backends++;
		return pool;
	}
	pool = take_idle(dp, fullnat);
	if (pool == NULL)
		pool = new_pool(fullnat);
	if (pool == NULL)
		return NULL;
	pool->endpoint = *endpoint;
	pool->n_backends = 1;
	count_held(dp, fullnat, pool, 1);
	lb_keymap_add(fullnat->pool_map, endpoint, (uint16_t)pool->idx);
	return pool;
}

static void release_pool(const struct lb_dp *dp, struct lb_fullnat *fullnat, struct lb_pool *pool)
{
	if (--pool->n_backends != 0)
		return;
	fullnat->n_idle_pools++;
	count_held(dp, fullnat, pool, -1);
}

int lb_fullnat_backend_add(struct lb_dp *dp, uint16_t id)
{
	struct lb_fullnat *fullnat = dp->fullnat_own;
	const struct lb_backend *backend = &dp->backends[id];
	struct lb_service_key endpoint = {
		.addr = backend->addr, .port_be = backend->port_be, .proto = backend->proto};
	struct lb_pool *pool = hold_pool(dp, fullnat, &endpoint);
	int rc;

	if (pool == NULL)
		return -ENOMEM;
	rc = add_all_shares(dp, fullnat, pool, locals_of(fullnat));
	if (rc < 0) {
		release_pool(dp, fullnat, pool);
		return rc;
	}
	atomic_store_explicit(&fullnat->pools[id], pool, memory_order_release);
	return 0;
}

void lb_fullnat_backend_del(struct lb_dp *dp, uint16_t id)
{
	// Its sessions give their ports back to the pool yet.
	release_pool(dp, dp->fullnat_own, dp->fullnat_own->pools[id]);
}

static bool local_is_idle(const struct lb_dp *dp, const struct lb_fullnat *fullnat, unsigned local)
{
	for (uint32_t i = 0; i < fullnat->n_pools; i++)
		if (n_used(dp, fullnat, fullnat->all_pools[i], local) != 0)
			return false;
	return true;
}

// Where an address that is new may go: a place of its own, or that of one which is neither listed nor in use.
static unsigned place_for(struct lb_dp *dp, struct lb_fullnat *fullnat, struct lb_fullnat_locals *locals)
{
	for (unsigned i = 0; i < locals->n; i++) {
		if (locals->usable[i] || !local_is_idle(dp, fullnat, i))
			continue;
		for (uint32_t p = 0; p < fullnat->n_pools; p++)
			lb_dp_retire(dp, atomic_exchange(&fullnat->all_pools[p]->shares[i], NULL));
		return i;
	}
	return locals->n < LB_MAX_LOCALS ? locals->n++ : LB_MAX_LOCALS;
}

static int list_locals(struct lb_dp *dp, struct lb_fullnat *fullnat, struct lb_fullnat_locals *locals)
{
	const struct lb_locals *wanted = dp->locals;
	int rc = 0;

	for (unsigned i = 0; i < wanted->n; i++) {
		unsigned place = lb_fullnat_local(locals, &wanted->addrs[i]);

		if (place < LB_MAX_LOCALS)
			locals->usable[place] = true;
	}
	for (unsigned i = 0; i < wanted->n; i++) {
		unsigned place;

		if (lb_fullnat_local(locals, &wanted->addrs[i]) < LB_MAX_LOCALS)
			continue;
		place = place_for(dp, fullnat, locals);
		if (place == LB_MAX_LOCALS) {
			rc = -ENOSPC;
			break;
		}
		locals->addrs[place] = wanted->addrs[i];
		locals->usable[place] = true;
	}
	return rc;
}

// A changed copy for the workers; the one before is retired.
static void publish_locals(struct lb_dp *dp, struct lb_fullnat *fullnat, struct lb_fullnat_locals *locals)
{
	const struct lb_fullnat_locals *old = locals_of(fullnat);

	atomic_store_explicit(&fullnat->locals, locals, memory_order_release);
	memcpy(dp->shm.shm->header.locals, locals->addrs, sizeof(locals->addrs)); // for display
	publish_ports(dp, fullnat);
	lb_dp_retire(dp, (void *)(uintptr_t)old);
}

static struct lb_fullnat_locals *copy_locals(const struct lb_fullnat *fullnat)
{
	struct lb_fullnat_locals *locals = rte_malloc("fullnat_locals", sizeof(*locals), 64);

	if (locals != NULL)
		*locals = *locals_of(fullnat);
	return locals;
}

static bool is_wanted(const struct lb_locals *wanted, const struct lb_addr *addr)
{
	for (unsigned i = 0; i < wanted->n; i++)
		if (lb_addr_equal(&wanted->addrs[i], addr))
			return true;
	return false;
}

int lb_fullnat_locals_changed(struct lb_dp *dp)
{
	struct lb_fullnat *fullnat = dp->fullnat_own;
	struct lb_fullnat_locals *fewer, *locals;
	int rc;

	if (fullnat == NULL)
		return 0;
	fewer = copy_locals(fullnat);
	if (fewer == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < fewer->n; i++)
		fewer->usable[i] = fewer->usable[i] && is_wanted(dp->locals, &fewer->addrs[i]);
	publish_locals(dp, fullnat, fewer);
	// From here on no session begins on an address that went: its place stays free once it is.
	rte_rcu_qsbr_synchronize(dp->qsbr, RTE_QSBR_THRID_INVALID);
	locals = copy_locals(fullnat);
	if (locals == NULL)
		return -ENOMEM;
	rc = list_locals(dp, fullnat, locals);
	for (uint32_t i = 0; rc == 0 && i < fullnat->n_pools; i++)
		rc = add_all_shares(dp, fullnat, fullnat->all_pools[i], locals);
	publish_locals(dp, fullnat, locals);
	return rc;
}

static void release(void *ctx, const struct lb_session *session)
{
	struct lb_worker *worker = ctx;
	const struct lb_fullnat *fullnat = worker->dp->fullnat_own; // set before any session was made
	struct lb_ports *ports = lb_fullnat_share(fullnat, worker, session->backend, session->local_idx);

	worker->counters->locals[session->local_idx].ports_used--;
	lb_fullnat_count_fragment(worker, session, -1);
	if (ports != NULL)
		lb_ports_give(ports, lb_ports_index(rte_be_to_cpu_16(session->local_port_be),
					     fullnat->n_shares));
}

// Is what a data plane before left still a session of ours, and its port free?
static bool adopt(void *ctx, struct lb_session *session, uint64_t hashes[2])
{
	struct lb_worker *worker = ctx;
	const struct lb_dp *dp = worker->dp;
	const struct lb_fullnat *fullnat = dp->fullnat_own;
	const struct lb_backend *backend = &dp->backends[session->backend];
	unsigned local = lb_fullnat_local(locals_of(fullnat), &session->local);
	uint16_t port = rte_be_to_cpu_16(session->local_port_be);
	struct lb_flow_key keys[2] = {0};
	struct lb_ports *ports;

	if (session->service >= LB_MAX_SERVICES || !backend->in_use || backend->service != session->service ||
		backend->mode != LB_MODE_FULLNAT || local == LB_MAX_LOCALS || port < LB_PORTS_FIRST ||
		lb_ports_owner(port, fullnat->n_shares) != worker->idx ||
		lb_addr_is_ipv4(&session->client) != lb_addr_is_ipv4(&backend->vip) ||
		(backend->vip_port_be != 0 && backend->vip_port_be != session->vip_port_be) ||
		(backend->proto == IPPROTO_UDP) != (session->state == LB_FLOW_UDP))
		return false;
	ports = lb_fullnat_share(fullnat, worker, session->backend, local);
	if (ports == NULL || !lb_ports_take_at(ports, lb_ports_index(port, fullnat->n_shares)))
		return false;
	session->local_idx = (uint8_t)local;
	lb_fullnat_prepare(dp, session);
	keys[LB_SESSION_CLIENT] = (struct lb_flow_key){.src = session->client, .dst = backend->vip,
		.sport_be = session->client_port_be, .dport_be = session->vip_port_be,
		.proto = backend->proto};
	keys[LB_SESSION_REPLY] = lb_fullnat_reply_key(dp, session);
	lb_hash_flows(&dp->hash_key, keys, hashes, 2);
	worker->counters->locals[local].ports_used++;
	lb_fullnat_count_fragment(worker, session, 1);
	return true;
}

void lb_fullnat_adopt(struct lb_dp *dp)
{
	struct lb_fullnat *fullnat = dp->fullnat_own;

	if (fullnat == NULL || atomic_load(&dp->fullnat) != NULL)
		return;
	for (unsigned i = 0; i < dp->n_workers; i++) {
		struct lb_worker *worker = dp->workers[i];
		struct lb_sessions_config config = {
			.mem = worker->session_mem,
			.mem_bytes = worker->session_mem_bytes,
			.n_sessions = dp->sessions_per_worker,
			.secret_id = lb_hash_bytes(dp->secret, sizeof(dp->secret), 1),
			.idle_ticks = dp->idle_ticks,
			.active = &worker->counters->backends[0].active_flows,
			.active_stride = sizeof(worker->counters->backends[0]),
			.counters = &worker->counters->sessions,
			.worker = i,
			.n_workers = dp->n_workers,
			.adopt = adopt,
			.release = release,
			.ctx = worker,
		};
		char why[128];
		int64_t n = lb_sessions_init(&worker->sessions, &config, dp->tick, why, sizeof(why));

		if (n < 0)
			rte_panic("session table of worker %u: %s\n", i, strerror((int)-n)); // sized by ourselves
		lb_log(LB_LOG_INFO, TOPIC, "worker %u: %" PRId64 " sessions adopted, room for %" PRIu64 "%s%s",
			i, n, dp->sessions_per_worker, why[0] != '\0' ? "; " : "", why);
	}
	atomic_store_explicit(&dp->fullnat, fullnat, memory_order_release);
}

static int make(struct lb_dp *dp, struct lb_fullnat *fullnat)
{
	int rc = lb_handover_init(fullnat, dp->n_workers);

	fullnat->n_shares = lb_ports_n_shares(dp->n_workers);
	fullnat->share_bytes = lb_ports_bytes(fullnat->n_shares);
	fullnat->pools = rte_zmalloc("pools", (LB_MAX_BACKENDS + 1) * sizeof(*fullnat->pools), 64);
	fullnat->locals = rte_zmalloc("fullnat_locals", sizeof(*fullnat->locals), 64);
	fullnat->pool_map = lb_keymap_create(LB_MAX_BACKENDS + 1);
	if (rc == 0 && (fullnat->pools == NULL || fullnat->locals == NULL || fullnat->pool_map == NULL))
		rc = -ENOMEM;
	for (unsigned i = 0; rc == 0 && i < dp->n_workers; i++)
		rc = lb_flowmem_map_file(dp, "sessions", i, lb_sessions_bytes(dp->sessions_per_worker),
			&dp->workers[i]->session_mem, &dp->workers[i]->session_mem_bytes);
	return rc;
}

int lb_fullnat_start(struct lb_dp *dp)
{
	int rc;

	if (dp->fullnat_own != NULL)
		return 0;
	dp->fullnat_own = rte_zmalloc("fullnat", sizeof(*dp->fullnat_own), 64);
	rc = dp->fullnat_own != NULL ? make(dp, dp->fullnat_own) : -ENOMEM;
	if (rc == 0)
		rc = lb_fullnat_locals_changed(dp);
	if (rc < 0) {
		lb_log(LB_LOG_ERROR, TOPIC, "no memory for the session tables of mode fullnat: %s",
			strerror(-rc));
		lb_fullnat_fini(dp);
		return rc;
	}
	if (dp->live)
		lb_fullnat_adopt(dp);
	return 0;
}

void lb_fullnat_fini(struct lb_dp *dp)
{
	struct lb_fullnat *fullnat = dp->fullnat_own;

	if (fullnat == NULL)
		return;
	for (uint32_t i = 0; i < fullnat->n_pools; i++) {
		for (unsigned local = 0; local < LB_MAX_LOCALS; local++)
			rte_free(fullnat->all_pools[i]->shares[local]);
		rte_free(fullnat->all_pools[i]);
	}
	free(fullnat->all_pools);
	rte_free(fullnat->rings);
	rte_free(fullnat->pools);
	lb_keymap_destroy(fullnat->pool_map);
	rte_free((void *)(uintptr_t)fullnat->locals);
	rte_free(fullnat);
	dp->fullnat_own = NULL;
	dp->fullnat = NULL;
}
