/* SPDX-License-Identifier: BSD-3-Clause */
/* Explains where a packet would go, by the same code that decides for packets. Main lcore only. */
#include "dataplane/trace.h"

#include <errno.h>

#include <netinet/in.h>

#include "dataplane/encap.h"
#include "dataplane/flow.h"
#include "dataplane/fullnat.h"
#include "dataplane/worker.h"

static uint16_t find_service(const struct lb_dp *dp, const struct lb_flow_key *key)
{
	const struct lb_keymap *map = dp->service_map;
	struct lb_service_key exact = {
		.addr = key->dst, .port_be = key->dport_be, .proto = key->proto};
	struct lb_service_key all_ports = {.addr = key->dst, .proto = key->proto};
	uint32_t id = lb_keymap_get(map, &exact);

	if (id == LB_KEYMAP_MISS)
		id = lb_keymap_get(map, &all_ports);
	return id == LB_KEYMAP_MISS ? UINT16_MAX : (uint16_t)id;
}

// A session of mode fullnat, at whichever worker. May be gone by now: only for display.
static const struct lb_session *find_session(const struct lb_dp *dp, const struct lb_flow_key *key,
	enum lb_session_dir dir, struct lb_msg_trace_reply *reply)
{
	const struct lb_session *session = NULL;

	for (unsigned i = 0; dp->fullnat != NULL && session == NULL && i < dp->n_workers; i++) {
		session = lb_fullnat_find(dp->workers[i], key, reply->hash, dir);
		reply->worker = session != NULL ? (uint16_t)i : UINT16_MAX;
	}
	if (session == NULL)
		return NULL;
	reply->backend = session->backend;
	reply->local_port_be = session->local_port_be;
	reply->local_idx = session->local_idx;
	reply->entry_state = session->state;
	reply->entry_age_s = lb_session_age(session, dp->tick) * (LB_FLOW_TICK_MS / 1000);
	return session;
}

// What becomes of a reply to @p client. @p to_host: if that is this host.
static uint8_t reply_verdict(const struct lb_dp *dp, const struct lb_addr *client, uint8_t to_host)
{
	uint64_t route = lb_fib_lookup(&dp->fib, lb_addr_is_ipv4(client) ? 4 : 6, client);

	if (route == LB_NEXTHOP_NONE)
		return LB_VERDICT_NO_ROUTE;
	if (route == LB_NEXTHOP_HOST)
		return to_host;
	return lb_fib_nexthop_word(&dp->fib, route) == LB_NEXTHOP_UNRESOLVED
		       ? LB_VERDICT_NEXTHOP_UNRESOLVED
		       : LB_VERDICT_REPLY;
}

// What comes to a local address of mode fullnat is a session's, or else nobody's but the host's own.
static bool trace_fullnat_reply(
	const struct lb_dp *dp, const struct lb_flow_key *key, struct lb_msg_trace_reply *reply)
{
	const struct lb_session *session;

	if (dp->fullnat == NULL ||
		lb_fullnat_local(atomic_load(&dp->fullnat->locals), &key->dst) == LB_MAX_LOCALS)
		return false;
	session = find_session(dp, key, LB_SESSION_REPLY, reply);
	if (session != NULL) {
		reply->service = session->service;
		reply->decision = LB_DECISION_REPLY;
		reply->verdict = reply_verdict(dp, &session->client, LB_VERDICT_NO_ROUTE);
	} else if (lb_fib_lookup(&dp->fib, lb_addr_is_ipv4(&key->dst) ? 4 : 6, &key->dst) !=
		   LB_NEXTHOP_HOST) {
		reply->verdict = LB_VERDICT_NO_SESSION;
	}
	return true;
}

static bool trace_reply(const struct lb_dp *dp, const struct lb_flow_key *key,
	struct lb_msg_trace_reply *reply)
{
	struct lb_service_key exact = {
		.addr = key->src, .port_be = key->sport_be, .proto = key->proto};
	struct lb_service_key all_ports = {.addr = key->src, .proto = key->proto};
	uint32_t id = lb_keymap_get(dp->endpoint_map, &exact);

	if (id == LB_KEYMAP_MISS)
		id = lb_keymap_get(dp->endpoint_map, &all_ports);
	if (id == LB_KEYMAP_MISS)
		return false;
	reply->backend = (uint16_t)id;
	reply->service = dp->backends[id].service;
	reply->decision = LB_DECISION_REPLY;
	reply->verdict = reply_verdict(dp, &key->dst, LB_VERDICT_HOST);
	return true;
}

static void trace_slot(const struct lb_dp *dp, const struct lb_flow_key *key,
	struct lb_msg_trace_reply *reply)
{
	const struct lb_slot_table *table = dp->services[reply->service].table;
	const struct lb_slot *slot;

	if (table == NULL)
		return;
	reply->slot = lb_hash_slot(
		lb_flow_slot_hash(dp, reply->service, key, reply->hash), table->n_slots);
	reply->table_version = table->version;
	slot = &table->slots[reply->slot];
	reply->slot_backend = slot->backend;
	if (slot->changed_s != 0)
		reply->slot_age_s = dp->now_s + 1 - slot->changed_s;
	if (lb_slot_in_transition(slot, table->transition_s, dp->now_s))
		reply->origin = slot->origin;
}

// As the stage's goes_on(): a SYN begins a connection that is over anew.
static bool trace_session(
	const struct lb_dp *dp, const struct lb_flow_key *key, bool syn, struct lb_msg_trace_reply *reply)
{
	const struct lb_session *session = find_session(dp, key, LB_SESSION_CLIENT, reply);

	return session != NULL && lb_decide_alive(dp->backend_states, reply->backend) &&
	       (!syn || (reply->entry_state != LB_FLOW_FIN && reply->entry_state != LB_FLOW_CLOSED));
}

// Whether a new session finds a local port; which worker it will be at, RSS knows: at any of them. That a session with only
// a SYN would make way for it is not foretold.
static uint8_t new_session_verdict(const struct lb_dp *dp, uint16_t backend)
{
	const struct lb_fullnat *fullnat = dp->fullnat;
	const struct lb_fullnat_locals *locals = atomic_load(&fullnat->locals);
	uint8_t verdict = LB_VERDICT_NO_LOCAL_ADDRESS;

	for (unsigned local = 0; local < locals->n; local++)
		for (unsigned i = 0; i < dp->n_workers; i++) {
			const struct lb_ports *ports = lb_fullnat_share(fullnat, dp->workers[i], backend, local);

			if (ports == NULL || !locals->usable[local])
				continue;
			verdict = LB_VERDICT_PORTS_EXHAUSTED;
			if (__atomic_load_n(&ports->n_used, __ATOMIC_RELAXED) != ports->n_ports)
				return LB_VERDICT_FORWARD;
		}
	return verdict;
}

// Any worker may hold the entry: RSS knows which.
static bool trace_entry(const struct lb_dp *dp, const struct lb_flow_key *key, bool syn,
	struct lb_msg_trace_reply *reply)
{
	if (dp->services[reply->service].mode == LB_MODE_FULLNAT)
		return trace_session(dp, key, syn, reply);
	for (unsigned i = 0; dp->live && i < dp->n_workers; i++) {
		struct lb_flowtable *table = &dp->workers[i]->flowtable;
		uint64_t *found = lb_flowtable_lookup(table, reply->hash, dp->tick);
		uint64_t entry;

		if (found == NULL)
			continue;
		entry = __atomic_load_n(found, __ATOMIC_RELAXED); // may be gone by now: only for display
		if (dp->backends[lb_flow_entry_backend(entry)].service != reply->service)
			continue;
		reply->backend = lb_flow_entry_backend(entry);
		reply->worker = (uint16_t)i;
		reply->entry_state = (uint8_t)lb_flow_entry_state(entry);
		reply->entry_age_s = lb_flow_entry_age(entry, dp->tick) * (LB_FLOW_TICK_MS / 1000);
		return lb_decide_alive(dp->backend_states, reply->backend);
	}
	return false;
}

static bool msg_valid(const struct lb_msg_trace *msg)
{
	return (msg->proto == IPPROTO_TCP || msg->proto == IPPROTO_UDP) && msg->sport_be != 0 &&
	       msg->dport_be != 0 && msg->syn <= 1 && msg->zero[0] == 0 && msg->zero[1] == 0 &&
	       lb_addr_is_ipv4(&msg->src) == lb_addr_is_ipv4(&msg->dst);
}

int lb_trace(const struct lb_dp *dp, const struct lb_msg_trace *msg, struct lb_msg_trace_reply *reply)
{
	struct lb_flow_key key = {.src = msg->src, .dst = msg->dst, .sport_be = msg->sport_be,
		.dport_be = msg->dport_be, .proto = msg->proto};
	struct lb_choice choice;

	if (!msg_valid(msg))
		return -EINVAL;
	*reply = (struct lb_msg_trace_reply){.service = UINT16_MAX, .backend = LB_BACKEND_NONE,
		.origin = LB_BACKEND_NONE, .slot_backend = LB_BACKEND_NONE, .worker = UINT16_MAX,
		.slot_age_s = UINT32_MAX, .verdict = LB_VERDICT_HOST};
	lb_hash_flows(&dp->hash_key, &key, &reply->hash, 1);
	reply->service = find_service(dp, &key);
	if (reply->service == UINT16_MAX) {
		if (!trace_fullnat_reply(dp, &key, reply) && !trace_reply(dp, &key, reply) &&
			lb_keymap_get(dp->service_map, &(struct lb_service_key){.addr = key.dst}) !=
				LB_KEYMAP_MISS)
			reply->verdict = LB_VERDICT_VIP_NO_SERVICE;
		return 0;
	}
	trace_slot(dp, &key, reply);
	if (trace_entry(dp, &key, msg->syn != 0, reply)) {
		reply->decision = LB_DECISION_ENTRY;
	} else if (dp->services[reply->service].mode == LB_MODE_FULLNAT && msg->proto == IPPROTO_TCP &&
		   msg->syn == 0) {
		reply->backend = LB_BACKEND_NONE;
		reply->verdict = LB_VERDICT_NO_SESSION;
		return 0;
	} else {
		choice = lb_flow_choose(dp->workers[0], reply->service, &key, reply->hash,
			msg->syn != 0 || msg->proto != IPPROTO_TCP, false);
		reply->backend = choice.backend;
		reply->decision = choice.decision;
	}
	if (reply->backend == LB_BACKEND_NONE)
		reply->verdict = dp->services[reply->service].table == NULL ? LB_VERDICT_NO_TABLE
									     : LB_VERDICT_NO_BACKEND;
	else if (dp->backends[reply->backend].nexthop == LB_NEXTHOP_UNRESOLVED)
		reply->verdict = LB_VERDICT_NEXTHOP_UNRESOLVED;
	else if (dp->services[reply->service].mode == LB_MODE_FULLNAT)
		reply->verdict = reply->decision == LB_DECISION_ENTRY || dp->fullnat == NULL
					 ? LB_VERDICT_FORWARD
					 : new_session_verdict(dp, reply->backend);
	else if (lb_mode_is_tunnel(dp->services[reply->service].mode) &&
		 dp->encaps[reply->backend].kind == LB_ENCAP_NONE)
		reply->verdict = LB_VERDICT_NO_LOCAL_ADDRESS;
	else
		reply->verdict = LB_VERDICT_FORWARD;
	return 0;
}
