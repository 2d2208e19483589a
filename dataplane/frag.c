/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fragments: see frag.h. On a port with several queues RSS spreads fragments by their addresses alone, so that they
 * may come to another worker than the flow's whole packets. All of one datagram come to the same one, and that
 * chooses by its own table and the slots: by the same rules, hence the same backend, but for a flow that only an
 * entry of the other worker holds where it is. In mode fullnat the worker that has the session gets them all.
 */
#include "dataplane/frag.h"

#include <rte_byteorder.h>
#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "dataplane/classify.h"
#include "dataplane/fullnat.h"
#include "dataplane/worker.h"
#include "lb/decide.h"

#define FATE_UNKNOWN LB_VERDICT_N
#define DATA_MAX 65535u // RFC 791, 3.2; RFC 8200, 4.5
#define MAX_EXT_HEADERS 8u // parse has let no more pass
#define SWEEP_DATAGRAMS 8u
static_assert(LB_VERDICT_N <= UINT8_MAX, "a fate is a verdict or FATE_UNKNOWN");

struct lb_frags *lb_frag_create(int socket_id)
{
	return rte_zmalloc_socket("frags", sizeof(struct lb_frags), 64, socket_id);
}

void lb_frag_destroy(struct lb_frags *frags)
{
	for (unsigned i = 0; frags != NULL && i < LB_FRAG_HELD; i++)
		rte_pktmbuf_free(frags->held[i].mbuf);
	rte_free(frags);
}

void lb_frag_read(const struct lb_burst *burst, unsigned i, struct lb_frag_piece *piece)
{
	const struct lb_packet *packet = &burst->packets[i];
	const uint8_t *l3 = lb_packet_at(burst, i, packet->l3);
	uint32_t end = packet->l3 + lb_packet_ip_bytes(burst, i);

	*piece = (struct lb_frag_piece){.key = {.src = burst->keys[i].src, .dst = burst->keys[i].dst}};
	if (packet->family == 4) {
		const struct rte_ipv4_hdr *ip = (const void *)l3;
		uint16_t word = rte_be_to_cpu_16(ip->fragment_offset);

		piece->at = packet->l3 + (ip->version_ihl & 0xfu) * 4u;
		piece->from = (word & RTE_IPV4_HDR_OFFSET_MASK) * 8u;
		piece->more = word & RTE_IPV4_HDR_MF_FLAG;
		piece->key.id = ip->packet_id;
		piece->key.proto = ip->next_proto_id;
		piece->proto = ip->next_proto_id;
	} else {
		const uint8_t *header = l3 + sizeof(struct rte_ipv6_hdr);
		uint8_t next = l3[6];

		for (unsigned n = 0; next != IPPROTO_FRAGMENT && n < MAX_EXT_HEADERS; n++) {
			next = header[0];
			header += (header[1] + 1u) * 8u;
		}
		piece->at = (uint32_t)(header + 8 - l3) + packet->l3;
		piece->from = (header[2] * 256u + header[3]) & 0xfff8u;
		piece->more = header[3] & 1;
		memcpy(&piece->key.id, header + 4, 4);
		piece->key.proto = IPPROTO_FRAGMENT;
		piece->proto = header[0];
	}
	piece->to = piece->from + (end - piece->at);
}

// @return FORWARD, or why no stack would make such a fragment.
static uint8_t check_piece(const struct lb_frag_piece *piece)
{
	if (piece->from == piece->to || piece->to > DATA_MAX || (piece->more && piece->to % 8 != 0))
		return LB_VERDICT_FRAGMENT_BAD;
	if (piece->from == 8 && piece->proto == IPPROTO_TCP) // RFC 1858, 3.2.2: it would overwrite the flags
		return LB_VERDICT_FRAGMENT_TINY;
	return LB_VERDICT_FORWARD;
}

// -- datagrams

static void free_datagram(struct lb_frags *frags, struct lb_frag_datagram *datagram)
{
	datagram->in_use = false;
	frags->n_used--;
}

// Drop what waits for the datagram's first fragment.
static void drop_held(struct lb_worker *worker, struct lb_frag_datagram *datagram, uint8_t verdict)
{
	struct lb_frags *frags = worker->frags;
	uint16_t idx = (uint16_t)(datagram - frags->datagrams);

	for (unsigned i = 0; datagram->n_held != 0 && i < LB_FRAG_HELD; i++) {
		struct lb_frag_held *held = &frags->held[i];

		if (held->mbuf == NULL || held->datagram != idx)
			continue;
		rte_pktmbuf_free(held->mbuf);
		held->mbuf = NULL;
		frags->n_released -= held->released;
		datagram->n_held--;
		worker->counters->verdicts[verdict]++;
	}
}

static void give_up(struct lb_worker *worker, struct lb_frag_datagram *datagram, uint8_t verdict)
{
	drop_held(worker, datagram, verdict);
	free_datagram(worker->frags, datagram);
}

static bool is_over(const struct lb_worker *worker, const struct lb_frag_datagram *datagram)
{
	return worker->tick - datagram->tick >= LB_FRAG_TICKS;
}

// Keyed, so that nobody can choose ids that meet in one place.
static struct lb_frag_datagram *ways_of(struct lb_worker *worker, const struct lb_frag_key *key)
{
	struct lb_flow_key flow = {.src = key->src, .dst = key->dst, .sport_be = (uint16_t)(key->id >> 16),
		.dport_be = (uint16_t)key->id, .proto = (uint8_t)key->proto};
	uint64_t hash;

	lb_hash_flows(&worker->dp->hash_key, &flow, &hash, 1);
	return &worker->frags->datagrams[hash % (LB_FRAG_DATAGRAMS / LB_FRAG_WAYS) * LB_FRAG_WAYS];
}

static struct lb_frag_datagram *find_datagram(struct lb_worker *worker, const struct lb_frag_key *key)
{
	struct lb_frag_datagram *ways = ways_of(worker, key);

	for (unsigned i = 0; i < LB_FRAG_WAYS; i++) {
		if (!ways[i].in_use || memcmp(&ways[i].key, key, sizeof(*key)) != 0)
			continue;
		if (!is_over(worker, &ways[i]))
			return &ways[i];
		give_up(worker, &ways[i], LB_VERDICT_FRAGMENT_TIMEOUT);
	}
	return NULL;
}

// The datagram, new if need be: in a free place, or in that of the one that has been quiet for longest.
static struct lb_frag_datagram *get_datagram(struct lb_worker *worker, const struct lb_frag_key *key)
{
	struct lb_frag_datagram *datagram = find_datagram(worker, key), *ways;

	if (datagram != NULL)
		return datagram;
	ways = ways_of(worker, key);
	datagram = &ways[0];
	for (unsigned i = 0; i < LB_FRAG_WAYS && datagram->in_use; i++)
		if (!ways[i].in_use || worker->tick - ways[i].tick > worker->tick - datagram->tick ||
			(ways[i].tick == datagram->tick && ways[i].serial - datagram->serial > UINT32_MAX / 2))
			datagram = &ways[i];
	if (datagram->in_use)
		give_up(worker, datagram, LB_VERDICT_FRAGMENT_LIMIT);
	*datagram = (struct lb_frag_datagram){.key = *key, .tick = worker->tick, .fate = FATE_UNKNOWN,
		.in_use = true, .serial = worker->frags->serial++, .backend = LB_BACKEND_NONE};
	worker->frags->n_used++;
	return datagram;
}

static void add_range(struct lb_frag_datagram *datagram, uint32_t from, uint32_t to)
{
	for (unsigned i = 0; i < datagram->n_ranges;) {
		struct lb_frag_range *range = &datagram->ranges[i];

		if (range->to != from && range->from != to) {
			i++;
			continue;
		}
		from = RTE_MIN(from, range->from);
		to = RTE_MAX(to, range->to);
		*range = datagram->ranges[--datagram->n_ranges];
	}
	datagram->ranges[datagram->n_ranges++] = (struct lb_frag_range){from, to};
}

// Whether the datagram cannot be as both this and what came before say.
static bool contradicts(const struct lb_frag_datagram *datagram, const struct lb_frag_piece *piece)
{
	if (datagram->n_bytes != 0 && (piece->more ? piece->to >= datagram->n_bytes : piece->to != datagram->n_bytes))
		return true;
	for (unsigned i = 0; i < datagram->n_ranges; i++) {
		const struct lb_frag_range *range = &datagram->ranges[i];

		if ((piece->from < range->to && piece->to > range->from) || (!piece->more && range->to > piece->to))
			return true;
	}
	return false;
}

static bool is_repeated(const struct lb_frag_datagram *datagram, const struct lb_frag_piece *piece)
{
	for (unsigned i = 0; i < datagram->n_ranges; i++)
		if (piece->from >= datagram->ranges[i].from && piece->to <= datagram->ranges[i].to)
			return true;
	return false;
}

/**
 * Note that the piece has come. One that lies within what has come is dropped by itself: networks repeat packets
 * (and whoever gets the datagram gets the first of both). One that overlaps in another way ends its datagram
 * (RFC 5722, section 4), as does one hole too many. @return FORWARD, or why it is dropped.
 */
static uint8_t note_piece(struct lb_worker *worker, struct lb_frag_datagram *datagram, const struct lb_frag_piece *piece)
{
	if (datagram->fate == LB_VERDICT_FRAGMENT_OVERLAP || datagram->fate == LB_VERDICT_FRAGMENT_LIMIT)
		return datagram->fate;
	if (is_repeated(datagram, piece))
		return LB_VERDICT_FRAGMENT_OVERLAP;
	if (contradicts(datagram, piece))
		datagram->fate = LB_VERDICT_FRAGMENT_OVERLAP;
	else if (datagram->n_ranges == LB_FRAG_RANGES)
		datagram->fate = LB_VERDICT_FRAGMENT_LIMIT;
	datagram->tick = worker->tick;
	if (datagram->fate == LB_VERDICT_FRAGMENT_OVERLAP || datagram->fate == LB_VERDICT_FRAGMENT_LIMIT) {
		drop_held(worker, datagram, datagram->fate);
		return datagram->fate;
	}
	add_range(datagram, piece->from, piece->to);
	if (!piece->more)
		datagram->n_bytes = piece->to;
	return LB_VERDICT_FORWARD;
}

// Its id may be used again at once: nothing more is known of it when all of it has been forwarded.
static void free_if_whole(struct lb_frags *frags, struct lb_frag_datagram *datagram)
{
	if (datagram->n_bytes != 0 && datagram->n_ranges == 1 && datagram->ranges[0].from == 0 &&
		datagram->ranges[0].to == datagram->n_bytes && datagram->n_held == 0 &&
		datagram->fate != FATE_UNKNOWN)
		free_datagram(frags, datagram);
}

// -- the first fragment

/*
 * Its L4 header, as parse does for whole packets, but for lengths, which are the datagram's. It has to be there in
 * full (RFC 1858, 3.2.1; RFC 7112).
 */
static uint8_t read_l4(struct lb_burst *burst, unsigned i, uint32_t end)
{
	struct lb_packet *packet = &burst->packets[i];
	struct lb_flow_key *key = &burst->keys[i];
	const uint8_t *l4 = lb_packet_at(burst, i, packet->l4);
	const struct rte_tcp_hdr *tcp = (const void *)l4;
	uint32_t n_header = key->proto == IPPROTO_TCP ? sizeof(*tcp) : sizeof(struct rte_udp_hdr);

	if (end < packet->l4 + n_header)
		return LB_VERDICT_FRAGMENT_TINY;
	if (burst->mbufs[i]->data_len < packet->l4 + n_header)
		return LB_VERDICT_TRUNCATED_L4;
	memcpy(&key->sport_be, l4, 2);
	memcpy(&key->dport_be, l4 + 2, 2);
	if (key->sport_be == 0 || key->dport_be == 0)
		return LB_VERDICT_PORT_ZERO;
	packet->tcp_flags = 0;
	if (key->proto == IPPROTO_UDP)
		return l4[4] * 256u + l4[5] < n_header ? LB_VERDICT_UDP_BAD_LENGTH : LB_VERDICT_FORWARD;
	n_header = (tcp->data_off >> 4) * 4u;
	if (n_header < sizeof(*tcp))
		return LB_VERDICT_TCP_BAD_HEADER;
	if (end < packet->l4 + n_header)
		return LB_VERDICT_FRAGMENT_TINY;
	packet->tcp_flags = tcp->tcp_flags;
	if ((tcp->tcp_flags & (LB_TCP_SYN | LB_TCP_RST | LB_TCP_ACK | LB_TCP_FIN)) == 0 ||
		((tcp->tcp_flags & LB_TCP_SYN) && (tcp->tcp_flags & (LB_TCP_FIN | LB_TCP_RST))))
		return LB_VERDICT_TCP_BAD_FLAGS;
	return LB_VERDICT_FORWARD;
}

// Whether this is one of fullnat's local addresses.
static bool is_local(const struct lb_dp *dp, const struct lb_addr *addr)
{
	const struct lb_fullnat *fullnat = atomic_load_explicit(&dp->fullnat, memory_order_acquire);

	return fullnat != NULL && lb_fullnat_local(atomic_load_explicit(&fullnat->locals, memory_order_acquire), addr) !=
					  LB_MAX_LOCALS;
}

// As classify does for whole packets; what is of mode fullnat is settled with it.
static uint8_t classify_first(struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	struct lb_frag_datagram *datagram)
{
	const struct lb_dp *dp = worker->dp;
	const struct lb_flow_key *key = &burst->keys[i];
	struct lb_packet *packet = &burst->packets[i];

	packet->service = lb_classify_service(dp, &key->dst, key->dport_be, key->proto);
	if (packet->service != LB_CLASSIFY_NONE) {
		if (dp->services[packet->service].mode != LB_MODE_FULLNAT)
			return LB_VERDICT_FORWARD;
		// Its first service is there before its sessions are.
		return atomic_load_explicit(&dp->fullnat, memory_order_acquire) != NULL
			       ? lb_fullnat_first(worker, burst, i, &datagram->hash, &datagram->owner)
			       : LB_VERDICT_MODE_UNSUPPORTED;
	}
	if (lb_classify_is_vip(dp, &key->dst))
		return LB_VERDICT_VIP_NO_SERVICE;
	if (is_local(dp, &key->dst)) // as lb_stage_fullnat() does, ahead of nat's replies
		return lb_fullnat_first(worker, burst, i, &datagram->hash, &datagram->owner);
	packet->backend = lb_classify_endpoint(dp, &key->src, key->sport_be, key->proto);
	return packet->backend != LB_CLASSIFY_NONE ? LB_VERDICT_REPLY : LB_VERDICT_HOST;
}

// What can be said of a fragment without its datagram. @return FORWARD: nothing.
static uint8_t judge(const struct lb_worker *worker, const struct lb_burst *burst, unsigned i,
	const struct lb_frag_piece *piece)
{
	const struct lb_packet *packet = &burst->packets[i];
	const uint8_t *l3 = lb_packet_at(burst, i, packet->l3);
	bool to_vip = lb_classify_is_vip(worker->dp, &piece->key.dst);
	bool to_local = is_local(worker->dp, &piece->key.dst);
	uint8_t proto = piece->from == 0 ? burst->keys[i].proto : piece->proto;
	bool other = proto != IPPROTO_TCP && proto != IPPROTO_UDP;

	if (!to_vip && !to_local && (lb_fib_lookup(&worker->dp->fib, packet->family, &piece->key.dst) == LB_NEXTHOP_HOST))
		return LB_VERDICT_HOST;
	if (other && !(packet->family == 6 && piece->from != 0 && proto != IPPROTO_ICMPV6))
		return to_vip ? LB_VERDICT_VIP_PROTOCOL : LB_VERDICT_HOST;
	if ((packet->family == 4 ? l3[8] : l3[7]) <= 1)
		return LB_VERDICT_TTL_EXPIRED;
	return check_piece(piece);
}

static void begin_one(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	struct lb_packet *packet = &burst->packets[i];
	struct lb_frags *frags = worker->frags;
	struct lb_frag_datagram *datagram;
	struct lb_frag_piece piece;

	frags->firsts[i].datagram = UINT16_MAX;
	lb_frag_read(burst, i, &piece);
	frags->firsts[i].is_first = piece.from == 0;
	if (piece.from != 0)
		return;
	packet->verdict = judge(worker, burst, i, &piece);
	if (packet->verdict == LB_VERDICT_FORWARD)
		packet->verdict = read_l4(burst, i, piece.at + piece.to);
	if (packet->verdict != LB_VERDICT_FORWARD)
		return;
	datagram = get_datagram(worker, &piece.key);
	packet->verdict = note_piece(worker, datagram, &piece);
	if (packet->verdict != LB_VERDICT_FORWARD)
		return;
	datagram->sport_be = burst->keys[i].sport_be;
	datagram->dport_be = burst->keys[i].dport_be;
	datagram->proto = burst->keys[i].proto;
	packet->verdict = classify_first(worker, burst, i, datagram);
	frags->firsts[i].datagram = (uint16_t)(datagram - frags->datagrams);
	frags->firsts[i].serial = datagram->serial;
}

void lb_frag_begin(struct lb_worker *worker, struct lb_burst *burst)
{
	unsigned n_fragments = 0;

	for (unsigned k = 0; k < burst->n_odd; k++) {
		if (burst->packets[burst->odd_list[k]].pending != LB_VERDICT_FRAGMENT)
			continue;
		begin_one(worker, burst, burst->odd_list[k]);
		n_fragments++;
	}
	if (n_fragments == 0)
		return;
	burst->mostly_services = false; // what was hashed had no ports yet
	burst->n_to_service = 0;
	burst->n_to_client = 0;
	for (unsigned i = 0; i < burst->n; i++) { // the lists are in the burst's order
		if (worker->dp->backends[burst->packets[i].backend].mode == LB_MODE_FULLNAT)
			continue; // settled already
		if ((burst->settled | burst->misses) >> i & 1)
			continue;
		if (burst->packets[i].verdict == LB_VERDICT_FORWARD)
			burst->to_service[burst->n_to_service++] = (uint8_t)i;
		else if (burst->packets[i].verdict == LB_VERDICT_REPLY)
			burst->to_client[burst->n_to_client++] = (uint8_t)i;
	}
}

static void release_held(struct lb_frags *frags, const struct lb_frag_datagram *datagram)
{
	uint16_t idx = (uint16_t)(datagram - frags->datagrams);

	for (unsigned i = 0; datagram->n_held != 0 && i < LB_FRAG_HELD; i++) {
		struct lb_frag_held *held = &frags->held[i];

		if (held->mbuf == NULL || held->datagram != idx || held->released)
			continue;
		held->released = true;
		frags->n_released++;
	}
}

void lb_frag_learn(struct lb_worker *worker, struct lb_burst *burst)
{
	struct lb_frags *frags = worker->frags;

	for (unsigned k = 0; k < burst->n_odd; k++) {
		unsigned i = burst->odd_list[k];
		const struct lb_packet *packet = &burst->packets[i];
		struct lb_frag_datagram *datagram;

		if (packet->pending != LB_VERDICT_FRAGMENT || frags->firsts[i].datagram == UINT16_MAX)
			continue;
		datagram = &frags->datagrams[frags->firsts[i].datagram];
		if (!datagram->in_use || datagram->serial != frags->firsts[i].serial)
			continue; // has made room for another in this burst
		datagram->fate = packet->verdict;
		datagram->service = packet->service;
		datagram->backend = packet->backend;
		for (unsigned at = 0; at < burst->n_to_service; at++)
			if (burst->to_service[at] == i)
				datagram->hash = burst->hashes[at];
		release_held(frags, datagram);
		free_if_whole(frags, datagram);
	}
}

// -- the others

static void hold(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_frag_datagram *datagram)
{
	struct lb_frags *frags = worker->frags;
	struct lb_frag_held *held = &frags->held[frags->hand];

	if (held->mbuf != NULL) // the oldest makes room, with all that waits with it
		give_up(worker, &frags->datagrams[held->datagram], LB_VERDICT_FRAGMENT_LIMIT);
	if (!datagram->in_use || datagram->n_held == LB_FRAG_HELD_EACH) {
		burst->packets[i].verdict = LB_VERDICT_FRAGMENT_LIMIT;
		return;
	}
	*held = (struct lb_frag_held){.mbuf = burst->mbufs[i], .port = burst->port,
		.datagram = (uint16_t)(datagram - frags->datagrams)};
	frags->hand = (frags->hand + 1) % LB_FRAG_HELD;
	datagram->n_held++;
	burst->held |= 1u << i;
	burst->packets[i].verdict = LB_VERDICT_FRAGMENT; // not counted: it has another one when its time comes
}

// One of mode fullnat goes to the worker that got the first, or by its session.
static uint8_t go_on_fullnat(
	struct lb_worker *worker, struct lb_burst *burst, unsigned i, const struct lb_frag_datagram *datagram)
{
	struct lb_flow_key key = {.src = datagram->key.src, .dst = datagram->key.dst, .sport_be = datagram->sport_be,
		.dport_be = datagram->dport_be, .proto = datagram->proto};

	if (datagram->fate == LB_VERDICT_TAKEN)
		return lb_handover_give(worker, burst, i, datagram->owner);
	return lb_fullnat_follow(worker, burst, i, &key, datagram->hash,
		datagram->fate == LB_VERDICT_FORWARD ? LB_SESSION_CLIENT : LB_SESSION_REPLY);
}

static void go_on(struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	const struct lb_frag_datagram *datagram)
{
	struct lb_packet *packet = &burst->packets[i];
	bool sent = datagram->fate == LB_VERDICT_FORWARD || datagram->fate == LB_VERDICT_REPLY;

	if (datagram->fate == LB_VERDICT_TAKEN ||
		(sent && worker->dp->backends[datagram->backend].mode == LB_MODE_FULLNAT)) {
		packet->verdict = go_on_fullnat(worker, burst, i, datagram);
		return;
	}
	packet->verdict = datagram->fate;
	packet->service = datagram->service;
	packet->backend = datagram->backend;
	packet->tcp_flags = 0;
	packet->l4 = 0;
	if (datagram->fate == LB_VERDICT_FORWARD) {
		burst->hashes[burst->n_to_service] = datagram->hash;
		burst->to_service[burst->n_to_service++] = (uint8_t)i;
	} else if (datagram->fate == LB_VERDICT_REPLY) {
		burst->to_client[burst->n_to_client++] = (uint8_t)i;
	}
}

// A fragment that has waited: it is noted already.
static void replay(struct lb_worker *worker, struct lb_burst *burst, unsigned i, const struct lb_frag_piece *piece)
{
	struct lb_frag_datagram *datagram = find_datagram(worker, &piece->key);

	if (datagram == NULL || datagram->fate == FATE_UNKNOWN || datagram->n_held == 0) {
		burst->packets[i].verdict = LB_VERDICT_FRAGMENT_LIMIT; // gone meanwhile, to make room
		return;
	}
	datagram->n_held--;
	go_on(worker, burst, i, datagram);
	free_if_whole(worker->frags, datagram);
}

void lb_frag_follow(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	struct lb_packet *packet = &burst->packets[i];
	struct lb_frag_datagram *datagram;
	struct lb_frag_piece piece;

	if (worker->frags->firsts[i].is_first)
		return;
	lb_frag_read(burst, i, &piece);
	if (worker->frags->replaying) {
		replay(worker, burst, i, &piece);
		return;
	}
	packet->verdict = judge(worker, burst, i, &piece);
	if (packet->verdict != LB_VERDICT_FORWARD)
		return;
	datagram = get_datagram(worker, &piece.key);
	packet->verdict = note_piece(worker, datagram, &piece);
	if (packet->verdict != LB_VERDICT_FORWARD)
		return;
	if (datagram->fate == FATE_UNKNOWN) {
		hold(worker, burst, i, datagram);
		return;
	}
	go_on(worker, burst, i, datagram);
	free_if_whole(worker->frags, datagram);
}

bool lb_frag_release(struct lb_worker *worker, struct lb_burst *burst)
{
	struct lb_frags *frags = worker->frags;

	burst->n = 0;
	for (unsigned n = 0; frags->n_released != 0 && n < LB_FRAG_HELD && burst->n < LB_BURST; n++) {
		struct lb_frag_held *held = &frags->held[(frags->hand + n) % LB_FRAG_HELD];

		if (held->mbuf == NULL || !held->released || (burst->n != 0 && held->port != burst->port))
			continue;
		burst->port = held->port;
		burst->mbufs[burst->n++] = held->mbuf;
		held->mbuf = NULL;
		held->released = false;
		frags->n_released--;
	}
	frags->replaying = burst->n != 0;
	return frags->replaying;
}

void lb_frag_sweep(struct lb_worker *worker)
{
	struct lb_frags *frags = worker->frags;

	if (frags->n_used == 0 || frags->swept_tick == worker->tick) {
		worker->frags_due = false;
		frags->sweep_at = 0;
		return;
	}
	for (unsigned n = 0; n < SWEEP_DATAGRAMS; n++) {
		struct lb_frag_datagram *datagram = &frags->datagrams[frags->sweep_at++];

		if (datagram->in_use && is_over(worker, datagram))
			give_up(worker, datagram, LB_VERDICT_FRAGMENT_TIMEOUT);
	}
	if (frags->sweep_at < LB_FRAG_DATAGRAMS)
		return;
	frags->sweep_at = 0;
	frags->swept_tick = worker->tick;
}
