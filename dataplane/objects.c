/* SPDX-License-Identifier: BSD-3-Clause */
/* Services, backends and tables: what the commands change. Main lcore only. */
#include "dataplane/dp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>

#include <rte_malloc.h>

#include "dataplane/encap.h"
#include "dataplane/fullnat.h"
#include "dataplane/history.h"
#include "dataplane/pick.h"
#include "dataplane/reset.h"
#include "dataplane/resume.h"
#include "dataplane/rewrite.h"
#include "dataplane/worker.h"

int lb_dp_init(struct lb_dp *dp, unsigned n_workers)
{
	size_t n_ids = LB_MAX_BACKENDS + 1;

	dp->n_workers = n_workers;
	dp->service_map = lb_keymap_create(64);
	dp->endpoint_map = lb_keymap_create(64);
	dp->services = rte_zmalloc("services", LB_MAX_SERVICES * sizeof(*dp->services), 64);
	dp->backends = rte_zmalloc("backends", n_ids * sizeof(*dp->backends), 64);
	dp->backend_states = rte_zmalloc("backend_states", n_ids, 64);
	dp->idle_ticks = rte_zmalloc("idle_ticks", n_ids * sizeof(*dp->idle_ticks), 64);
	dp->flush = rte_zmalloc("flush", n_ids, 64);
	dp->locals = rte_zmalloc("locals", sizeof(*dp->locals), 64);
	dp->slot_refs = calloc(n_ids, sizeof(*dp->slot_refs));
	dp->quarantine = calloc(n_ids, sizeof(*dp->quarantine));
	dp->qsbr = rte_zmalloc("qsbr", rte_rcu_qsbr_get_memsize(RTE_MAX_LCORE), 64);
	if (dp->service_map == NULL || dp->endpoint_map == NULL || dp->services == NULL ||
		dp->backends == NULL || dp->backend_states == NULL || dp->idle_ticks == NULL ||
		dp->flush == NULL || dp->locals == NULL ||
		dp->slot_refs == NULL || dp->quarantine == NULL || dp->qsbr == NULL ||
		rte_rcu_qsbr_init(dp->qsbr, RTE_MAX_LCORE) != 0 || lb_fib_init(&dp->fib) < 0 ||
		lb_reset_init(dp, n_workers) < 0) {
		lb_dp_fini(dp);
		return -ENOMEM;
	}
	return 0;
}

void lb_dp_fini(struct lb_dp *dp)
{
	for (size_t i = 0; dp->services != NULL && i < LB_MAX_SERVICES; i++) {
		rte_free(dp->services[i].table);
		rte_free(dp->services[i].pick);
	}
	for (size_t i = 0; i < dp->n_retired; i++)
		rte_free(dp->retired[i]);
	lb_keymap_destroy(dp->service_map);
	lb_keymap_destroy(dp->endpoint_map);
	lb_keymap_destroy(dp->next_service_map);
	lb_keymap_destroy(dp->next_endpoint_map);
	lb_map_spare_fini(&dp->service_spare);
	lb_map_spare_fini(&dp->endpoint_spare);
	rte_free(dp->services);
	rte_free(dp->backends);
	rte_free(dp->backend_states);
	rte_free(dp->idle_ticks);
	rte_free(dp->flush);
	lb_fullnat_fini(dp);
	lb_reset_fini(dp);
	rte_free((void *)(uintptr_t)dp->locals);
	rte_free(dp->next_locals);
	rte_free(dp->encaps);
	rte_free(dp->next_encaps);
	rte_free(dp->qsbr);
	lb_resume_fini(dp);
	free(dp->slot_refs);
	free(dp->quarantine);
	free(dp->retired);
	lb_fib_fini(&dp->fib);
}

// The private copy of a map for this batch, with room for one more key. NULL: no memory.
static struct lb_keymap *service_map_for_change(struct lb_dp *dp)
{
	struct lb_keymap *map =
		lb_map_spare_take(&dp->service_spare, dp->service_map, dp->next_service_map);

	if (map != NULL)
		dp->next_service_map = map;
	return map;
}

static struct lb_keymap *endpoint_map_for_change(struct lb_dp *dp)
{
	struct lb_keymap *map =
		lb_map_spare_take(&dp->endpoint_spare, dp->endpoint_map, dp->next_endpoint_map);

	if (map != NULL)
		dp->next_endpoint_map = map;
	return map;
}

static const struct lb_keymap *service_map(const struct lb_dp *dp)
{
	return dp->next_service_map != NULL ? dp->next_service_map : dp->service_map;
}

static const struct lb_keymap *endpoint_map(const struct lb_dp *dp)
{
	return dp->next_endpoint_map != NULL ? dp->next_endpoint_map : dp->endpoint_map;
}

static bool all_zero(const void *bytes, size_t n_bytes)
{
	const uint8_t *b = bytes;

	for (size_t i = 0; i < n_bytes; i++)
		if (b[i] != 0)
			return false;
	return true;
}

static bool mss_valid(const struct lb_msg_service *msg)
{
	if (msg->mss == LB_MSS_NONE)
		return true;
	return lb_mode_has_mss(msg->mode, msg->key.proto) &&
	       (msg->mss == LB_MSS_AUTO || (msg->mss >= LB_MSS_MIN && msg->mss <= LB_MSS_MAX));
}

static bool service_msg_valid(const struct lb_msg_service *msg)
{
	return msg->id < LB_MAX_SERVICES && lb_addr_is_usable(&msg->key.addr) &&
	       (msg->key.proto == IPPROTO_TCP || msg->key.proto == IPPROTO_UDP) &&
	       all_zero(msg->key.zero, sizeof(msg->key.zero)) && msg->mode < LB_MODE_N &&
	       msg->on_empty < LB_ON_EMPTY_N && msg->tracking < LB_TRACKING_N &&
	       msg->scheduler < LB_SCHED_N && msg->client_address < LB_CLIENT_ADDRESS_N &&
	       (msg->client_address == LB_CLIENT_ADDRESS_NONE || msg->mode == LB_MODE_FULLNAT) &&
	       msg->zero == 0 && mss_valid(msg) && (msg->gue_port_be != 0) == (msg->mode == LB_MODE_GUE) &&
	       msg->idle_timeout_ms >= LB_IDLE_TIMEOUT_MIN_MS &&
	       msg->idle_timeout_ms <= LB_IDLE_TIMEOUT_MAX_MS;
}

static void service_update(struct lb_dp *dp, struct lb_service *service, uint16_t id,
	const struct lb_msg_service *msg, bool is_new)
{
	service->on_empty = msg->on_empty;
	service->tracking = msg->tracking;
	service->scheduler = msg->scheduler;
	service->client_address = msg->client_address;
	service->mss = msg->mss;
	service->mentioned = true;
	if (service->idle_ticks == lb_flow_idle_ticks(msg->idle_timeout_ms))
		return;
	service->idle_ticks = lb_flow_idle_ticks(msg->idle_timeout_ms);
	if (is_new)
		return; // no backend is its: spare the walk
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		if (dp->backends[i].in_use && dp->backends[i].service == id)
			dp->idle_ticks[i] = (uint16_t)service->idle_ticks;
}

int lb_service_set(struct lb_dp *dp, const struct lb_msg_service *msg)
{
	struct lb_service *service;
	bool is_new;
	uint32_t owner;

	if (!service_msg_valid(msg))
		return -EINVAL;
	service = &dp->services[msg->id];
	owner = lb_keymap_get(service_map(dp), &msg->key);
	if (owner != LB_KEYMAP_MISS && owner != msg->id)
		return -EEXIST;
	if (service->in_use &&
		(owner == LB_KEYMAP_MISS || service->mode != msg->mode))
		return -EBUSY; // its key and mode stay for the life of the id
	is_new = !service->in_use;
	if (is_new) {
		struct lb_keymap *map;
		int rc = msg->mode == LB_MODE_FULLNAT ? lb_fullnat_start(dp) : 0;

		if (rc < 0)
			return rc;
		if (service->idle_ticks != 0)
			lb_dp_commit(dp); // the id had another life: no worker may still be in it
		map = service_map_for_change(dp);
		if (map == NULL)
			return -ENOMEM;
		service->key = msg->key;
		service->mode = msg->mode;
		service->in_use = true;
		service->resumes = !dp->live;
		dp->n_services++;
		lb_map_spare_add(&dp->service_spare, map, &msg->key, msg->id);
	}
	service_update(dp, service, msg->id, msg, is_new);
	if (service->gue_port_be == msg->gue_port_be)
		return 0;
	service->gue_port_be = msg->gue_port_be;
	return is_new ? 0 : lb_encap_prepare_all(dp, service);
}

static struct lb_service_key endpoint_key(const struct lb_dp *dp, const struct lb_backend *backend)
{
	return (struct lb_service_key){.addr = backend->addr, .port_be = backend->port_be,
		.proto = dp->services[backend->service].key.proto};
}

static void set_backend_state(struct lb_dp *dp, uint16_t id, uint8_t state)
{
	struct lb_backend *backend = &dp->backends[id];
	unsigned way = backend->mode;

	if (!lb_addr_is_ipv4(&backend->vip))
		way |= LB_WAY_IPV6;
	if (state == LB_BACKEND_DOWN)
		way |= LB_WAY_DOWN;
	atomic_store(&backend->state, state);
	atomic_store(&backend->way, (uint8_t)way);
	dp->backend_states[id] = state;
}

static void backend_remove(struct lb_dp *dp, uint16_t id)
{
	struct lb_backend *backend = &dp->backends[id];

	if (lb_mode_owns_endpoints(backend->mode)) {
		struct lb_service_key key = endpoint_key(dp, backend);
		struct lb_keymap *map = endpoint_map_for_change(dp);

		if (map != NULL)
			lb_map_spare_del(&dp->endpoint_spare, map, &key);
	}
	if (backend->mode == LB_MODE_FULLNAT)
		lb_fullnat_backend_del(dp, id);
	lb_fib_nexthop_release(&dp->fib, backend->nexthop_id);
	backend->nexthop_id = LB_NEXTHOP_NONE;
	set_backend_state(dp, id, LB_BACKEND_DOWN);
	dp->idle_ticks[id] = 0; // its flow entries are expired from now on
	backend->in_use = false;
	dp->n_backends--;
	for (unsigned i = 0; i < dp->n_workers; i++)
		dp->quarantine[id].sweeps[i] = lb_worker_sweeps(dp->workers[i]);
	dp->quarantine[id].waiting = true;
}

int lb_service_del(struct lb_dp *dp, uint16_t id)
{
	struct lb_service *service;
	struct lb_keymap *map;

	if (id >= LB_MAX_SERVICES || !dp->services[id].in_use)
		return -ENOENT;
	service = &dp->services[id];
	if (endpoint_map_for_change(dp) == NULL)
		return -ENOMEM;
	map = service_map_for_change(dp);
	if (map == NULL)
		return -ENOMEM;
	lb_map_spare_del(&dp->service_spare, map, &service->key);
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		if (dp->backends[i].in_use && dp->backends[i].service == id) {
			dp->slot_refs[i] = 0;
			backend_remove(dp, (uint16_t)i);
		}
	lb_dp_retire(dp, atomic_exchange(&service->table, NULL));
	lb_dp_retire(dp, atomic_exchange(&service->pick, NULL));
	lb_history_forget(dp, id);
	service->in_use = false;
	dp->n_services--;
	return 0;
}

// An id may name another backend only when no flow entry can still mean the old one.
static bool still_quarantined(struct lb_dp *dp, uint16_t id)
{
	struct lb_id_quarantine *quarantine = &dp->quarantine[id];

	for (unsigned i = 0; quarantine->waiting && i < dp->n_workers; i++)
		if (lb_worker_sweeps(dp->workers[i]) - quarantine->sweeps[i] < 2)
			return true;
	quarantine->waiting = false;
	return false;
}

static bool backend_msg_valid(const struct lb_msg_backend *msg)
{
	return msg->id < LB_MAX_BACKENDS && msg->service < LB_MAX_SERVICES &&
	       lb_addr_is_usable(&msg->addr) && msg->state < LB_BACKEND_STATE_N &&
	       msg->nexthop != LB_NEXTHOP_HOST &&
	       all_zero(msg->zero, sizeof(msg->zero));
}

// Whether the service's mode can bring a packet for its VIP and port to this endpoint.
static int mode_allows(const struct lb_service *service, const struct lb_msg_backend *msg)
{
	bool same_family =
		lb_addr_is_ipv4(&msg->addr) == lb_addr_is_ipv4(&service->key.addr);

	if (!same_family && !lb_mode_is_tunnel(service->mode) && service->mode != LB_MODE_FULLNAT)
		return -EAFNOSUPPORT;
	if ((msg->port_be == 0) != (service->key.port_be == 0))
		return -EINVAL;
	if (lb_mode_keeps_port(service->mode) && msg->port_be != service->key.port_be)
		return -EINVAL;
	return 0;
}

static int backend_add(struct lb_dp *dp, const struct lb_msg_backend *msg)
{
	struct lb_backend *backend = &dp->backends[msg->id];
	const struct lb_service *service = &dp->services[msg->service];
	struct lb_service_key key = {
		.addr = msg->addr, .port_be = msg->port_be, .proto = service->key.proto};
	bool owns_endpoint = lb_mode_owns_endpoints(service->mode);
	struct lb_keymap *map = NULL;
	int rc = mode_allows(service, msg);
	bool known;

	if (rc < 0)
		return rc;
	if (owns_endpoint && lb_keymap_get(endpoint_map(dp), &key) != LB_KEYMAP_MISS)
		return -EEXIST;
	// The same service's own removed backend comes back: its flow entries may go on. Workers may be at them: in
	// another mode they would take its outer header, which is replaced with the commit, for one of that mode.
	known = still_quarantined(dp, msg->id);
	if (known &&
		!(backend->service == msg->service && backend->mode == service->mode &&
			lb_addr_equal(&backend->addr, &msg->addr) && backend->port_be == msg->port_be &&
			lb_addr_equal(&backend->vip, &service->key.addr)))
		return -EAGAIN;
	if (owns_endpoint) {
		map = endpoint_map_for_change(dp);
		if (map == NULL)
			return -ENOMEM;
	}
	if (lb_mode_is_tunnel(service->mode)) {
		rc = lb_encap_prepare(dp, msg->id, service, &msg->addr, !known);
		if (rc < 0)
			return rc;
	}
	backend->addr = msg->addr;
	backend->port_be = msg->port_be;
	backend->vip = service->key.addr;
	backend->vip_port_be = service->key.port_be;
	backend->service = msg->service;
	backend->proto = service->key.proto;
	backend->mode = service->mode;
	rc = backend->mode == LB_MODE_FULLNAT ? lb_fullnat_backend_add(dp, msg->id) : 0;
	if (rc < 0)
		return rc;
	backend->in_use = true;
	dp->n_backends++;
	lb_rewrite_prepare(backend);
	atomic_store(&backend->nexthop, LB_NEXTHOP_UNRESOLVED);
	dp->idle_ticks[msg->id] = (uint16_t)service->idle_ticks;
	if (map != NULL)
		lb_map_spare_add(&dp->endpoint_spare, map, &key, msg->id);
	return 0;
}

int lb_backend_set(struct lb_dp *dp, const struct lb_msg_backend *msg)
{
	struct lb_backend *backend;
	int rc;

	if (!backend_msg_valid(msg))
		return -EINVAL;
	if (!dp->services[msg->service].in_use)
		return -ENOENT;
	backend = &dp->backends[msg->id];
	if (backend->in_use && (backend->service != msg->service || backend->port_be != msg->port_be ||
				       !lb_addr_equal(&backend->addr, &msg->addr)))
		return -EBUSY;
	rc = lb_fib_nexthop_hold(&dp->fib, msg->nexthop);
	if (rc < 0)
		return rc;
	if (!backend->in_use)
		rc = backend_add(dp, msg);
	if (rc < 0) {
		lb_fib_nexthop_release(&dp->fib, msg->nexthop);
		return rc;
	}
	lb_fib_nexthop_release(&dp->fib, backend->nexthop_id);
	backend->nexthop_id = msg->nexthop;
	backend->mentioned = true;
	atomic_store(&backend->nexthop, lb_fib_nexthop_word(&dp->fib, msg->nexthop));
	set_backend_state(dp, msg->id, msg->state);
	return 0;
}

int lb_backend_del(struct lb_dp *dp, uint16_t id)
{
	if (id >= LB_MAX_BACKENDS || !dp->backends[id].in_use)
		return -ENOENT;
	if (dp->slot_refs[id] != 0)
		return -EBUSY;
	if (endpoint_map_for_change(dp) == NULL)
		return -ENOMEM;
	backend_remove(dp, id);
	return 0;
}

// Every slot names a backend of this service or is empty.
static bool slots_valid(const struct lb_dp *dp, uint16_t service, const uint16_t *slots, uint32_t n_slots)
{
	for (uint32_t i = 0; i < n_slots; i++) {
		uint16_t id = slots[i];

		if (id != LB_MAGLEV_EMPTY &&
			(!dp->backends[id].in_use || dp->backends[id].service != service))
			return false;
	}
	return true;
}

static void count_slots(struct lb_dp *dp, const struct lb_slot_table *table, int change)
{
	for (uint32_t i = 0; table != NULL && i < table->n_slots; i++)
		if (table->slots[i].backend != LB_MAGLEV_EMPTY)
			dp->slot_refs[table->slots[i].backend] += change;
}

// The idle timeout T, rounded up to ticks. An entry is dead one tick after that, as it may come just before one.
static uint32_t transition_s(const struct lb_service *service)
{
	return (service->idle_ticks - 1) * (LB_FLOW_TICK_MS / 1000);
}

// Let workers use what was made. The slots' flows go on by the history, the others by their entries.
static void adopt_table(struct lb_dp *dp, const struct lb_msg_table *msg, const uint16_t *slots,
	struct lb_slot_table *table, struct lb_pick *pick)
{
	struct lb_service *service = &dp->services[msg->service];
	struct lb_slot_table *old = service->table, *kept = NULL;

	if (old == NULL && service->resumes)
		kept = lb_history_load(dp, msg->service); // from before a restart
	service->resumes = false;
	lb_slots_adopt(table, old != NULL ? old : kept, slots, msg->n_slots, msg->version,
		transition_s(service), dp->now_s);
	count_slots(dp, old, -1);
	lb_pick_hold(dp, service->pick, -1);
	count_slots(dp, table, 1);
	lb_pick_hold(dp, pick, 1);
	atomic_store_explicit(&service->table, table, memory_order_release);
	lb_dp_retire(dp, old);
	lb_dp_retire(dp, atomic_exchange(&service->pick, pick));
	lb_history_save(dp, msg->service);
	free(kept);
}

// Whether workers would do the same with a table of these slots as with @p table, which has a history beside.
static bool is_same(const struct lb_slot_table *table, const uint16_t *slots, uint32_t n_slots, uint32_t transition)
{
	if (table == NULL || table->n_slots != n_slots || table->transition_s != transition)
		return false;
	for (uint32_t i = 0; i < n_slots; i++)
		if (table->slots[i].backend != slots[i])
			return false;
	return true;
}

static int replace_table(struct lb_dp *dp, const struct lb_msg_table *msg, const uint16_t *words)
{
	struct lb_slot_table *table = rte_malloc("slots", lb_slots_bytes(msg->n_slots), 64);
	struct lb_pick *pick = NULL;
	int rc = -ENOMEM;

	if (table != NULL)
		rc = lb_pick_create(dp, msg, words + msg->n_slots, dp->services[msg->service].pick, &pick);
	if (rc == 0)
		adopt_table(dp, msg, words, table, pick);
	else
		rte_free(table);
	return rc;
}

int lb_table_publish(struct lb_dp *dp, const struct lb_msg_table *msg)
{
	struct lb_pick_spec spec = lb_pick_spec_of(msg);
	struct lb_service *service;
	uint64_t n_bytes;
	uint16_t *slots;
	int rc = 0;

	if (msg->service >= LB_MAX_SERVICES || msg->buffer >= LB_SHM_N_TABLES || msg->zero != 0 ||
		msg->n_slots < LB_MAGLEV_MIN_SLOTS || msg->n_slots > LB_MAGLEV_MAX_SLOTS ||
		!lb_pick_spec_valid(&spec))
		return -EINVAL;
	service = &dp->services[msg->service];
	if (!service->in_use)
		return -ENOENT;
	// Copied before it is checked: what is checked can no longer change.
	n_bytes = (msg->n_slots + lb_pick_words(&spec)) * sizeof(*slots);
	slots = malloc(n_bytes);
	if (slots == NULL)
		return -ENOMEM;
	memcpy(slots, dp->shm.shm->tables[msg->buffer].slots, n_bytes);
	if (lb_hash_bytes(slots, n_bytes, msg->version) != msg->checksum)
		rc = -EBADMSG;
	else if (!slots_valid(dp, msg->service, slots, msg->n_slots))
		rc = -ERANGE;
	else if (service->pick == NULL && !lb_pick_needed(&spec) &&
		 is_same(service->table, slots, msg->n_slots, transition_s(service)))
		__atomic_store_n(&service->table->version, msg->version, __ATOMIC_RELAXED);
	else
		rc = replace_table(dp, msg, slots);
	free(slots);
	return rc;
}

static bool all_up(const struct lb_dp *dp, uint16_t service, const struct lb_slot_table *table)
{
	for (uint32_t i = 0; i < table->n_slots; i++) {
		const struct lb_backend *backend = &dp->backends[table->slots[i].backend];

		if (!backend->in_use || backend->service != service || backend->state != LB_BACKEND_UP)
			return false;
	}
	return true;
}

bool lb_table_resume(struct lb_dp *dp, uint16_t id)
{
	struct lb_service *service = &dp->services[id];
	// Of a pick table nothing is kept: until it comes flows go by their slots, which `source` finds its own way.
	const struct lb_msg_table source = {.service = id, .scheduler = LB_SCHED_SOURCE};
	const uint16_t no_words = 0;
	struct lb_slot_table *kept, *table = NULL;
	struct lb_pick *pick = NULL;

	if (!service->in_use || !service->resumes || service->table != NULL)
		return false;
	kept = lb_history_load(dp, id);
	if (kept != NULL && all_up(dp, id, kept))
		table = rte_malloc("slots", lb_slots_bytes(kept->n_slots), 64);
	if (table != NULL && service->scheduler == LB_SCHED_SOURCE &&
		lb_pick_create(dp, &source, &no_words, NULL, &pick) < 0) {
		rte_free(table);
		table = NULL;
	}
	if (table != NULL) {
		memcpy(table, kept, lb_slots_bytes(kept->n_slots));
		count_slots(dp, table, 1);
		atomic_store_explicit(&service->pick, pick, memory_order_release);
		atomic_store_explicit(&service->table, table, memory_order_release);
		service->resumes = false;
	}
	free(kept);
	return table != NULL;
}

void lb_dp_retire(struct lb_dp *dp, void *memory)
{
	if (memory == NULL)
		return;
	if (dp->n_retired == dp->retired_room) {
		size_t room = dp->retired_room * 2 + 64;
		void *grown = realloc(dp->retired, room * sizeof(dp->retired[0]));

		if (grown == NULL) { // no room to remember it: wait here, free it now
			rte_rcu_qsbr_synchronize(dp->qsbr, RTE_QSBR_THRID_INVALID);
			rte_free(memory);
			return;
		}
		dp->retired = grown;
		dp->retired_room = room;
	}
	dp->retired[dp->n_retired++] = memory;
}

void lb_dp_commit(struct lb_dp *dp)
{
	struct lb_keymap *old_services = NULL, *old_endpoints = NULL;

	lb_encap_commit(dp);
	// Until the first sync has ended workers see no service: its table or backends may not be there yet.
	if (dp->live && dp->next_service_map != NULL) {
		old_services = atomic_exchange(&dp->service_map, dp->next_service_map);
		dp->next_service_map = NULL;
	}
	if (dp->live && dp->next_endpoint_map != NULL) {
		old_endpoints = atomic_exchange(&dp->endpoint_map, dp->next_endpoint_map);
		dp->next_endpoint_map = NULL;
	}
	if (old_services == NULL && old_endpoints == NULL && dp->n_retired == 0)
		return;
	rte_rcu_qsbr_synchronize(dp->qsbr, RTE_QSBR_THRID_INVALID);
	lb_map_spare_keep(&dp->service_spare, old_services);
	lb_map_spare_keep(&dp->endpoint_spare, old_endpoints);
	for (size_t i = 0; i < dp->n_retired; i++)
		rte_free(dp->retired[i]);
	dp->n_retired = 0;
}
