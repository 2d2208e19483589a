/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode fullnat, between classify and flow: takes the packets of fullnat services, and what comes to a local address,
 * out of the burst's lists and settles them: session, backend, rewriting. A client's packet without a session begins
 * one if it may (SYN, or UDP); a reply goes by its exact tuple.
 */
#include "dataplane/fullnat.h"

#include <netinet/in.h>

#include "dataplane/checksum.h"
#include "dataplane/classify.h"
#include "dataplane/clientaddr.h"
#include "dataplane/flow.h"
#include "dataplane/mss.h"
#include "dataplane/stages.h"

// How many ports of one that has none left may be looked at for one that only a SYN has taken.
#define EVICT_TRIES 16u

// How often a port that is free in its pool may turn out to be another pool's, see choose_port().
#define PORT_TRIES 16u
#define PORT_STEP 7919u // a prime, so that tries differ whatever the number of ports

// TCP flags that matter to a session's life.
#define FLAGS_ENDING (LB_TCP_FIN | LB_TCP_SYN | LB_TCP_RST)

/* What the stage has of a burst: clients' packets first, then replies. Indices of packets. */
struct lists {
	unsigned n_clients, n;
	uint8_t idx[2 * LB_BURST];
	struct lb_flow_key keys[LB_BURST];
	uint64_t hashes[LB_BURST];
};

struct match {
	const struct lb_dp *dp;
	const struct lb_flow_key *key;
};

static inline bool client_matches(const struct lb_session *session, const void *arg)
{
	const struct match *match = arg;
	const struct lb_backend *backend = &match->dp->backends[session->backend];

	return lb_addr_equal(&session->client, &match->key->src) &&
	       session->client_port_be == match->key->sport_be &&
	       session->vip_port_be == match->key->dport_be &&
	       lb_addr_equal(&backend->vip, &match->key->dst) && backend->proto == match->key->proto;
}

static inline bool reply_matches(const struct lb_session *session, const void *arg)
{
	const struct match *match = arg;
	const struct lb_backend *backend = &match->dp->backends[session->backend];
	uint16_t port_be = backend->port_be != 0 ? backend->port_be : session->vip_port_be;

	return lb_addr_equal(&session->local, &match->key->dst) &&
	       session->local_port_be == match->key->dport_be && port_be == match->key->sport_be &&
	       lb_addr_equal(&backend->addr, &match->key->src) && backend->proto == match->key->proto;
}

struct lb_session *lb_fullnat_find(const struct lb_worker *worker, const struct lb_flow_key *key,
	uint64_t hash, enum lb_session_dir dir)
{
	struct match match = {.dp = worker->dp, .key = key};

	if (dir == LB_SESSION_CLIENT)
		return lb_sessions_find(&worker->sessions, hash, LB_SESSION_CLIENT, worker->tick,
			client_matches, &match);
	return lb_sessions_find(
		&worker->sessions, hash, LB_SESSION_REPLY, worker->tick, reply_matches, &match);
}

unsigned lb_fullnat_owner(const struct lb_worker *worker, const struct lb_flow_key *key, uint64_t hash)
{
	const struct lb_dp *dp = worker->dp;

	for (unsigned k = 0; k < dp->n_workers; k++)
		if (k != worker->idx && lb_fullnat_find(dp->workers[k], key, hash, LB_SESSION_CLIENT) != NULL)
			return k;
	return dp->n_workers;
}

void lb_fullnat_prepare(const struct lb_dp *dp, struct lb_session *session)
{
	const struct lb_backend *backend = &dp->backends[session->backend];
	uint16_t backend_port_be = backend->port_be != 0 ? backend->port_be : session->vip_port_be;
	uint16_t ports = lb_sum_add(lb_sum_change(session->client_port_be, session->local_port_be),
		lb_sum_change(session->vip_port_be, backend_port_be));

	session->ip_sum = lb_sum_add(lb_sum_address_change(&session->client, &session->local),
		lb_sum_address_change(&backend->vip, &backend->addr));
	session->l4_sum = lb_sum_add(session->ip_sum, ports);
}

// The clients' packets of fullnat services leave the list for the flow stage.
static void pick_clients(const struct lb_dp *dp, struct lb_burst *burst, struct lists *lists)
{
	unsigned n_left = 0;

	for (unsigned k = 0; k < burst->n_to_service; k++) {
		uint8_t i = burst->to_service[k];
		bool ours = dp->services[burst->packets[i].service].mode == LB_MODE_FULLNAT;

		lists->idx[lists->n] = i;
		lists->n += ours;
		burst->to_service[n_left] = i;
		n_left += !ours;
	}
	burst->n_to_service = n_left;
	lists->n_clients = lists->n;
}

static void drop_from_replies(struct lb_burst *burst, uint8_t i)
{
	unsigned n_left = 0;

	for (unsigned k = 0; k < burst->n_to_client; k++) {
		burst->to_client[n_left] = burst->to_client[k];
		n_left += burst->to_client[k] != i;
	}
	burst->n_to_client = n_left;
}

/*
 * What comes to a local address: the host's so far, or taken for a nat backend's reply, as the same server may be
 * both. Another worker's goes there.
 */
static void pick_replies(struct lb_worker *worker, const struct lb_fullnat *fullnat, struct lb_burst *burst,
	struct lists *lists)
{
	const struct lb_fullnat_locals *locals =
		atomic_load_explicit(&fullnat->locals, memory_order_acquire);

	for (unsigned k = 0; k < burst->n_ip; k++) {
		uint8_t i = burst->ip_list[k];
		struct lb_packet *packet = &burst->packets[i];
		unsigned owner;

		if ((packet->verdict != LB_VERDICT_HOST && packet->verdict != LB_VERDICT_REPLY) ||
			lb_fullnat_local(locals, &burst->keys[i].dst) == LB_MAX_LOCALS)
			continue;
		if (unlikely(packet->pending != 0)) { // ICMP is in the odd_list by now
			if (packet->pending != LB_VERDICT_VIP_PROTOCOL)
				packet->verdict = packet->pending;
			if (packet->pending == LB_VERDICT_FRAGMENT)
				burst->odd_list[burst->n_odd++] = i;
			continue;
		}
		if (packet->verdict == LB_VERDICT_REPLY)
			drop_from_replies(burst, i);
		packet->verdict = LB_VERDICT_HOST;
		owner = lb_ports_owner(rte_be_to_cpu_16(burst->keys[i].dport_be), fullnat->n_shares);
		if (owner != worker->idx && owner < worker->dp->n_workers)
			packet->verdict = lb_handover_give(worker, burst, i, owner);
		else
			lists->idx[lists->n++] = i;
	}
}

static void look_up(const struct lb_worker *worker, const struct lb_burst *burst, struct lists *lists)
{
	for (unsigned k = 0; k < lists->n; k++)
		lists->keys[k] = burst->keys[lists->idx[k]];
	lb_hash_flows(&worker->dp->hash_key, lists->keys, lists->hashes, lists->n);
	for (unsigned k = 0; k < lists->n; k++)
		lb_sessions_prefetch(&worker->sessions, lists->hashes[k]);
	for (unsigned k = 0; k < lists->n; k++)
		lb_sessions_prefetch_entry(&worker->sessions, lists->hashes[k]);
}

static inline bool is_syn(const struct lb_packet *packet)
{
	return lb_tcp_is_syn(packet->tcp_flags);
}

// Over once both sides have sent a FIN.
static void note_fin(struct lb_session *session, uint8_t flag)
{
	session->flags |= flag;
	session->state = (session->flags & (LB_SESSION_CLIENT_FIN | LB_SESSION_BACKEND_FIN)) ==
					 (LB_SESSION_CLIENT_FIN | LB_SESSION_BACKEND_FIN)
				 ? LB_FLOW_CLOSED
				 : LB_FLOW_FIN;
}

/*
 * As lb_flow_tcp_state() says, but that both sides are seen. A segment after an RST shows that it was not the
 * client's, or not accepted: the session goes on.
 */
static void note_client(const struct lb_worker *worker, struct lb_session *session, uint8_t tcp_flags)
{
	session->time = (uint16_t)worker->tick;
	if (session->state == LB_FLOW_UDP ||
		likely(session->state == LB_FLOW_ESTABLISHED && (tcp_flags & FLAGS_ENDING) == 0))
		return;
	if (tcp_flags & LB_TCP_RST)
		session->state = LB_FLOW_CLOSED;
	else if (tcp_flags & LB_TCP_FIN)
		note_fin(session, LB_SESSION_CLIENT_FIN);
	else if ((session->flags & (LB_SESSION_CLIENT_FIN | LB_SESSION_BACKEND_FIN)) == 0)
		session->state = (uint8_t)lb_flow_tcp_state(session->state, tcp_flags);
}

static void note_backend(const struct lb_worker *worker, struct lb_session *session, uint8_t tcp_flags)
{
	session->time = (uint16_t)worker->tick;
	if (likely((tcp_flags & (LB_TCP_FIN | LB_TCP_RST)) == 0) || session->state == LB_FLOW_UDP)
		return;
	if (tcp_flags & LB_TCP_RST)
		session->state = LB_FLOW_CLOSED;
	else
		note_fin(session, LB_SESSION_BACKEND_FIN);
}

// Both MACs in front of the packet, from the next-hop word. The VLAN tag, if any, stays.
uint8_t lb_fullnat_send(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t nexthop, uint8_t verdict)
{
	uint16_t port = lb_nexthop_port(nexthop);
	uint8_t *frame = lb_packet_at(burst, i, 0);

	if (unlikely(port >= worker->n_ports))
		return LB_VERDICT_NEXTHOP_UNRESOLVED;
	burst->nexthops[i] = nexthop;
	memcpy(frame, &nexthop, 6);
	memcpy(frame + 6, &worker->src_macs[port], 6);
	return verdict;
}

// Dropped; the sender is told, if that is proper, how large it may be.
static uint8_t too_big(struct lb_burst *burst, unsigned i, uint32_t room)
{
	burst->mtus[i] = (uint16_t)room;
	lb_burst_answer(burst, i);
	return LB_VERDICT_TOO_BIG;
}

static uint8_t forward(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_session *session)
{
	const struct lb_backend *backend = &worker->dp->backends[session->backend];
	struct lb_packet *packet = &burst->packets[i];
	struct lb_backend_counters *counters = &worker->counters->backends[session->backend];
	uint32_t wire_bytes = packet->wire_bytes;
	uint32_t room;
	uint64_t nexthop = atomic_load_explicit(&backend->nexthop, memory_order_relaxed);
	uint8_t verdict;

	packet->backend = session->backend;
	if (likely(packet->l4 != 0))
		note_client(worker, session, packet->tcp_flags);
	else
		session->time = (uint16_t)worker->tick;
	if (unlikely(lb_nexthop_port(nexthop) >= worker->n_ports))
		return LB_VERDICT_NEXTHOP_UNRESOLVED;
	// In terms of the packet as it is, before anything is changed: its sender may have to see it.
	room = lb_translate_room(burst, i, &backend->addr, worker->mtus[lb_nexthop_port(nexthop)]);
	if (unlikely(lb_packet_ip_bytes(burst, i) > room))
		return too_big(burst, i, room);
	if (unlikely(packet->tcp_flags & LB_TCP_SYN))
		lb_mss_clamp(worker, burst, i, backend, burst->port, lb_nexthop_port(nexthop));
	if (likely(packet->l4 != 0)) {
		verdict = lb_client_address_out(
			worker, burst, i, session, (uint16_t)RTE_MIN(room, (uint32_t)UINT16_MAX));
		if (unlikely(verdict == LB_VERDICT_TOO_BIG))
			return too_big(burst, i, burst->mtus[i]);
		if (unlikely(verdict != LB_VERDICT_FORWARD))
			return verdict;
	}
	verdict = lb_translate(worker, burst, i,
		&(struct lb_translation){.src = &session->local,
			.dst = &backend->addr,
			.sport_be = session->local_port_be,
			.dport_be = backend->port_be != 0 ? backend->port_be : session->vip_port_be,
			.ip_sum = session->ip_sum,
			.l4_sum = session->l4_sum});
	if (unlikely(verdict != LB_VERDICT_FORWARD))
		return verdict;
	counters->in_pkts++;
	counters->in_bytes += wire_bytes;
	return lb_fullnat_send(worker, burst, i, nexthop, LB_VERDICT_FORWARD);
}

/*
 * A free port from one of the local addresses of the backend's family, in turns, so that all fill alike. A backend of a
 * service for all ports has a pool of its own, whose sessions may look to the server like those of another: then
 * somewhere else, as the other's ports lie side by side.
 */
static uint8_t find_port(struct lb_worker *worker, const struct lb_fullnat *fullnat,
	struct lb_session *session, uint64_t *reply_hash)
{
	const struct lb_fullnat_locals *locals =
		atomic_load_explicit(&fullnat->locals, memory_order_acquire);
	uint8_t verdict = LB_VERDICT_NO_LOCAL_ADDRESS;

	for (unsigned k = 0; k < locals->n; k++) {
		unsigned local = (worker->local_turn + k) % locals->n;
		struct lb_ports *ports = lb_fullnat_share(fullnat, worker, session->backend, local);

		if (ports == NULL || !locals->usable[local])
			continue;
		for (unsigned try = 0; try < PORT_TRIES; try++) {
			uint32_t idx = lb_ports_take(ports);
			struct lb_flow_key key;

			verdict = LB_VERDICT_PORTS_EXHAUSTED;
			if (unlikely(idx == LB_PORTS_NONE)) {
				worker->counters->locals[local].ports_exhausted++;
				break;
			}
			session->local = locals->addrs[local];
			session->local_idx = (uint8_t)local;
			session->local_port_be =
				rte_cpu_to_be_16(lb_ports_number(idx, worker->idx, fullnat->n_shares));
			key = lb_fullnat_reply_key(worker->dp, session);
			lb_hash_flows(&worker->dp->hash_key, &key, reply_hash, 1);
			if (likely(lb_fullnat_find(worker, &key, *reply_hash, LB_SESSION_REPLY) == NULL)) {
				worker->local_turn = local + 1;
				return LB_VERDICT_FORWARD;
			}
			lb_ports_give(ports, idx);
			// Not twice to the same place: behind it the search may come out where it was.
			lb_ports_skip(ports, (uint32_t)(*reply_hash >> 16) + try * PORT_STEP);
		}
	}
	return verdict;
}

/*
 * All ports to the backend are taken: one of a session of which only a SYN has been seen is given back, if there is one
 * among the next few in turn, which are those that were taken longest ago. Established ones stay.
 */
static bool make_way(struct lb_worker *worker, const struct lb_fullnat *fullnat, const struct lb_session *session)
{
	const struct lb_fullnat_locals *locals =
		atomic_load_explicit(&fullnat->locals, memory_order_acquire);
	struct lb_session holder = *session;

	for (unsigned local = 0; local < locals->n; local++) {
		struct lb_ports *ports = lb_fullnat_share(fullnat, worker, session->backend, local);

		if (ports == NULL || !locals->usable[local])
			continue;
		holder.local = locals->addrs[local];
		for (unsigned try = 0; try < EVICT_TRIES; try++) {
			uint32_t idx = ports->cursor;
			struct lb_session *found;
			struct lb_flow_key key;
			uint64_t hash;

			holder.local_port_be = rte_cpu_to_be_16(lb_ports_number(idx, worker->idx, fullnat->n_shares));
			key = lb_fullnat_reply_key(worker->dp, &holder);
			lb_hash_flows(&worker->dp->hash_key, &key, &hash, 1);
			found = lb_fullnat_find(worker, &key, hash, LB_SESSION_REPLY);
			// What looks alike to the backend may hold a port of another pool (find_port()): of no use here.
			if (found != NULL && found->state == LB_FLOW_SYN &&
				lb_fullnat_share(fullnat, worker, found->backend, local) == ports) {
				lb_sessions_evict(&worker->sessions, found);
				lb_ports_skip(ports, idx);
				return true;
			}
			lb_ports_skip(ports, idx + 1);
		}
	}
	return false;
}

static uint8_t choose_port(struct lb_worker *worker, const struct lb_fullnat *fullnat,
	struct lb_session *session, uint64_t *reply_hash)
{
	uint8_t verdict = find_port(worker, fullnat, session, reply_hash);

	if (unlikely(verdict == LB_VERDICT_PORTS_EXHAUSTED) && make_way(worker, fullnat, session))
		verdict = find_port(worker, fullnat, session, reply_hash);
	return verdict;
}

// With `on_empty: reset` the client is told (answer.c).
static void refuse(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint8_t verdict)
{
	burst->packets[i].verdict = verdict;
	if (worker->dp->services[burst->packets[i].service].on_empty == LB_ON_EMPTY_RESET)
		lb_burst_answer(burst, i);
}

static struct lb_session *begin(struct lb_worker *worker, const struct lb_fullnat *fullnat, struct lb_burst *burst,
	unsigned i, uint64_t hash)
{
	struct lb_packet *packet = &burst->packets[i];
	const struct lb_flow_key *key = &burst->keys[i];
	bool is_tcp = key->proto == IPPROTO_TCP;
	struct lb_choice choice = lb_flow_choose(worker, packet->service, key, hash, true, true);
	struct lb_session content = {.client = key->src, .client_port_be = key->sport_be,
		.vip_port_be = key->dport_be, .service = packet->service, .backend = choice.backend,
		.state = is_tcp ? LB_FLOW_SYN : LB_FLOW_UDP,
		.flags = lb_client_address_flags(
			worker->dp->services[packet->service].client_address)};
	uint64_t hashes[2] = {[LB_SESSION_CLIENT] = hash};
	struct lb_session *session;

	if (unlikely(packet->pending == LB_VERDICT_FRAGMENT) && !is_tcp)
		content.flags |= LB_SESSION_FRAGMENT;
	if (unlikely(choice.backend == LB_BACKEND_NONE)) {
		refuse(worker, burst, i,
			atomic_load_explicit(&worker->dp->services[packet->service].table,
				memory_order_relaxed) != NULL
				? LB_VERDICT_NO_BACKEND
				: LB_VERDICT_NO_TABLE);
		worker->counters->services[packet->service].no_backend++;
		return NULL;
	}
	packet->backend = choice.backend;
	packet->verdict = choose_port(worker, fullnat, &content, &hashes[LB_SESSION_REPLY]);
	if (unlikely(packet->verdict != LB_VERDICT_FORWARD)) {
		worker->counters->sessions.ports_exhausted +=
			packet->verdict == LB_VERDICT_PORTS_EXHAUSTED;
		return NULL;
	}
	lb_fullnat_prepare(worker->dp, &content);
	if (unlikely(lb_sessions_full(&worker->sessions)))
		lb_sessions_make_way(&worker->sessions, worker->tick);
	session = lb_sessions_insert(&worker->sessions, &content, hashes, worker->tick);
	worker->counters->locals[content.local_idx].ports_used++;
	lb_fullnat_count_fragment(worker, &content, 1);
	if (unlikely(session == NULL)) {
		worker->sessions.release(worker, &content);
		packet->verdict = LB_VERDICT_SESSIONS_FULL;
		return NULL;
	}
	worker->counters->backends[choice.backend].new_flows++;
	return session;
}

/*
 * Whether the session goes on with this packet. A new connection on one that is over begins anew; one whose backend
 * is down is over, for no other backend knows of it.
 */
static bool goes_on(struct lb_worker *worker, struct lb_session *session, const struct lb_packet *packet)
{
	const struct lb_backend *backend = &worker->dp->backends[session->backend];

	if (unlikely(atomic_load_explicit(&backend->state, memory_order_relaxed) == LB_BACKEND_DOWN))
		return false;
	return likely(!is_syn(packet)) ||
	       (session->state != LB_FLOW_FIN && session->state != LB_FLOW_CLOSED);
}

/*
 * A UDP flow whose first datagram was in fragments has its session at the worker that RSS gives those; whole datagrams,
 * which come here, go there: the server would take them for another client's. Few workers have any such session.
 */
static bool give_to_fragments(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t hash)
{
	const struct lb_dp *dp = worker->dp;

	if (burst->keys[i].proto != IPPROTO_UDP || burst->packets[i].pending == LB_VERDICT_FRAGMENT)
		return false;
	for (unsigned k = 0; k < dp->n_workers; k++) {
		const struct lb_worker *other = dp->workers[k];

		if (likely(__atomic_load_n(&other->n_fragment_sessions, __ATOMIC_RELAXED) == 0) || other == worker ||
			lb_fullnat_find(other, &burst->keys[i], hash, LB_SESSION_CLIENT) == NULL)
			continue;
		burst->packets[i].verdict = lb_handover_give(worker, burst, i, k);
		return true;
	}
	return false;
}

static void settle_client(struct lb_worker *worker, const struct lb_fullnat *fullnat, struct lb_burst *burst,
	unsigned i, uint64_t hash)
{
	struct lb_packet *packet = &burst->packets[i];
	const struct lb_flow_key *key = &burst->keys[i];
	struct lb_session *session = lb_fullnat_find(worker, key, hash, LB_SESSION_CLIENT);

	uint8_t lost = LB_VERDICT_NO_SESSION;

	if (session != NULL && unlikely(!goes_on(worker, session, packet))) {
		if (worker->dp->services[packet->service].on_empty == LB_ON_EMPTY_RESET)
			lost = LB_VERDICT_BACKEND_DOWN;
		lb_sessions_del(&worker->sessions, session);
		session = NULL;
	}
	worker->counters->flow.hit += session != NULL;
	if (unlikely(session == NULL)) {
		worker->counters->flow.miss++;
		if (key->proto == IPPROTO_TCP && !is_syn(packet)) {
			refuse(worker, burst, i, lost);
			return;
		}
		if (unlikely(give_to_fragments(worker, burst, i, hash)))
			return;
		session = begin(worker, fullnat, burst, i, hash);
		if (session == NULL)
			return;
	}
	packet->verdict = forward(worker, burst, i, session);
}

static uint8_t reply(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_session *session)
{
	const struct lb_dp *dp = worker->dp;
	const struct lb_backend *backend = &dp->backends[session->backend];
	struct lb_packet *packet = &burst->packets[i];
	struct lb_backend_counters *counters = &worker->counters->backends[session->backend];
	uint64_t route = lb_fib_lookup(&dp->fib, lb_addr_is_ipv4(&session->client) ? 4 : 6, &session->client);
	uint64_t nexthop = lb_fib_nexthop_word(&dp->fib, route);
	uint32_t wire_bytes = packet->wire_bytes, room;
	uint8_t verdict;

	packet->backend = session->backend;
	packet->service = session->service;
	note_backend(worker, session, packet->tcp_flags);
	if (unlikely(route == LB_NEXTHOP_NONE || route == LB_NEXTHOP_HOST))
		return LB_VERDICT_NO_ROUTE;
	if (unlikely(lb_nexthop_port(nexthop) >= worker->n_ports))
		return LB_VERDICT_NEXTHOP_UNRESOLVED;
	room = lb_translate_room(burst, i, &session->client, worker->mtus[lb_nexthop_port(nexthop)]);
	if (unlikely(lb_packet_ip_bytes(burst, i) > room))
		return too_big(burst, i, room);
	if (unlikely(packet->tcp_flags & LB_TCP_SYN))
		lb_mss_clamp(worker, burst, i, backend, lb_nexthop_port(nexthop), burst->port);
	if (unlikely(session->flags & (LB_SESSION_TOA | LB_SESSION_PROXY)) && packet->l4 != 0) {
		verdict = lb_client_address_back(burst, i, session);
		if (unlikely(verdict != LB_VERDICT_FORWARD))
			return verdict;
	}
	verdict = lb_translate(worker, burst, i,
		&(struct lb_translation){.src = &backend->vip,
			.dst = &session->client,
			.sport_be = session->vip_port_be,
			.dport_be = session->client_port_be,
			// The way back: each change is undone, which in one's complement is the negative.
			.ip_sum = (uint16_t)~session->ip_sum,
			.l4_sum = (uint16_t)~session->l4_sum});
	if (unlikely(verdict != LB_VERDICT_FORWARD))
		return verdict;
	counters->out_pkts++;
	counters->out_bytes += wire_bytes;
	counters->resets += (packet->tcp_flags & LB_TCP_RST) != 0;
	return lb_fullnat_send(worker, burst, i, nexthop, LB_VERDICT_REPLY);
}

uint8_t lb_fullnat_not_ours(const struct lb_worker *worker, const struct lb_addr *local, uint8_t verdict)
{
	uint64_t route = lb_fib_lookup(&worker->dp->fib, lb_addr_is_ipv4(local) ? 4 : 6, local);

	return route == LB_NEXTHOP_HOST ? LB_VERDICT_HOST : verdict;
}

static void settle_reply(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t hash)
{
	const struct lb_flow_key *key = &burst->keys[i];
	struct lb_session *session = lb_fullnat_find(worker, key, hash, LB_SESSION_REPLY);

	if (likely(session != NULL))
		burst->packets[i].verdict = reply(worker, burst, i, session);
	else
		burst->packets[i].verdict = lb_fullnat_not_ours(worker, &key->dst, LB_VERDICT_NO_SESSION);
}

uint8_t lb_fullnat_first(struct lb_worker *worker, struct lb_burst *burst, unsigned i, uint64_t *hash, uint8_t *owner)
{
	const struct lb_fullnat *fullnat =
		atomic_load_explicit(&worker->dp->fullnat, memory_order_acquire);
	const struct lb_flow_key *key = &burst->keys[i];
	bool is_reply = burst->packets[i].service == LB_CLASSIFY_NONE;
	unsigned has_it = worker->idx;

	lb_hash_flows(&worker->dp->hash_key, key, hash, 1);
	if (is_reply)
		has_it = lb_ports_owner(rte_be_to_cpu_16(key->dport_be), fullnat->n_shares);
	else if (lb_fullnat_find(worker, key, *hash, LB_SESSION_CLIENT) == NULL)
		has_it = lb_fullnat_owner(worker, key, *hash);
	if (has_it != worker->idx && has_it < worker->dp->n_workers) {
		*owner = (uint8_t)has_it;
		return lb_handover_give(worker, burst, i, has_it);
	}
	if (is_reply)
		settle_reply(worker, burst, i, *hash);
	else
		settle_client(worker, fullnat, burst, i, *hash);
	return burst->packets[i].verdict;
}

uint8_t lb_fullnat_follow(struct lb_worker *worker, struct lb_burst *burst, unsigned i, const struct lb_flow_key *key,
	uint64_t hash, enum lb_session_dir dir)
{
	struct lb_packet *packet = &burst->packets[i];
	struct lb_session *session = lb_fullnat_find(worker, key, hash, dir);

	packet->l4 = 0;
	packet->tcp_flags = 0;
	if (session == NULL)
		return LB_VERDICT_NO_SESSION; // has ended meanwhile
	packet->service = session->service;
	return dir == LB_SESSION_CLIENT ? forward(worker, burst, i, session) : reply(worker, burst, i, session);
}

void lb_stage_fullnat(struct lb_worker *worker, struct lb_burst *burst)
{
	const struct lb_fullnat *fullnat =
		atomic_load_explicit(&worker->dp->fullnat, memory_order_acquire);
	struct lists lists;

	for (unsigned k = 0; k < burst->n_ip; k++)
		lb_burst_lengthen(burst, burst->ip_list[k]);
	lists.n = 0;
	pick_clients(worker->dp, burst, &lists);
	pick_replies(worker, fullnat, burst, &lists);
	if (lists.n == 0)
		return;
	look_up(worker, burst, &lists);
	for (unsigned k = 0; k < lists.n_clients; k++)
		settle_client(worker, fullnat, burst, lists.idx[k], lists.hashes[k]);
	for (unsigned k = lists.n_clients; k < lists.n; k++)
		settle_reply(worker, burst, lists.idx[k], lists.hashes[k]);
}
