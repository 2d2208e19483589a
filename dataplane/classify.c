/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stage 2, classify: is the packet for a service (by VIP, port, protocol; then by VIP and protocol), a reply
 * of a nat backend (by its endpoint), or the host's? VIPs come first: a backend may be a client too.
 */
#include "dataplane/classify.h"

#include <netinet/in.h>

#include "dataplane/stages.h"

#include "dataplane/worker.h"

#define NOT_FOUND LB_CLASSIFY_NONE
static_assert(NOT_FOUND == (uint16_t)LB_KEYMAP_MISS, "a miss, cut to 16 bits");

// What is compared of a packet: destination or source of its flow key.
struct side {
	const struct lb_addr *addr;
	uint32_t word; /* lb_keymap_word() of port and protocol */
};

static inline struct side dst_of(const struct lb_flow_key *key)
{
	struct side side = {.addr = &key->dst};

	memcpy(&side.word, &key->dport_be, sizeof(side.word)); // port, protocol and a zero
	return side;
}

static inline struct side src_of(const struct lb_flow_key *key)
{
	return (struct side){
		.addr = &key->src, .word = lb_keymap_word(key->sport_be, key->proto)};
}

static inline struct side all_ports(const struct lb_addr *addr, const struct lb_flow_key *key)
{
	return (struct side){.addr = addr, .word = lb_keymap_word(0, key->proto)};
}

static inline uint64_t hash_of(struct side side)
{
	return lb_keymap_hash_word(side.addr, side.word);
}

static inline bool is_service(const struct lb_dp *dp, uint32_t id, struct side side)
{
	const struct lb_service_key *key = &dp->services[id].key;

	uint32_t word; // port, protocol and a zero

	memcpy(&word, &key->port_be, sizeof(word));
	return word == side.word && lb_addr_equal(&key->addr, side.addr);
}

static inline bool is_endpoint(const struct lb_dp *dp, uint32_t id, struct side side)
{
	const struct lb_backend *backend = &dp->backends[id];

	return lb_addr_equal(&backend->addr, side.addr) &&
	       lb_keymap_word(backend->port_be, backend->proto) == side.word;
}

// The first candidate was another's: two keys with the same 32-bit tag.
static __rte_noinline uint16_t find_further(const struct lb_dp *dp, const struct lb_keymap *map, uint64_t hash,
	struct side side, bool (*is_it)(const struct lb_dp *dp, uint32_t id, struct side side))
{
	unsigned probe = 0;
	uint32_t id;

	for (; (id = lb_keymap_find(map, hash, &probe)) != LB_KEYMAP_MISS; probe++)
		if (is_it(dp, id, side))
			return (uint16_t)id;
	return NOT_FOUND;
}

static inline uint16_t find_service(
	const struct lb_dp *dp, const struct lb_keymap *map, uint64_t hash, struct side side)
{
	const uint64_t *line = lb_keymap_line(map, hash);
	uint32_t ways = lb_flow_match(line, lb_keymap_tag(hash));

	if (likely(ways != 0)) {
		uint16_t id = lb_keymap_entry_id(line[__builtin_ctz(ways)]);

		if (likely(is_service(dp, id, side)))
			return id;
	}
	return find_further(dp, map, hash, side, is_service);
}

static inline uint16_t find_endpoint(
	const struct lb_dp *dp, const struct lb_keymap *map, uint64_t hash, struct side side)
{
	uint32_t id = lb_keymap_first(map, hash);

	if (id == LB_KEYMAP_MISS || likely(is_endpoint(dp, id, side)))
		return (uint16_t)id;
	return find_further(dp, map, hash, side, is_endpoint);
}

// By the tag alone: a false yes (2^-32) costs a stray packet, which is then dropped under a wrong name.
static inline bool has_address(const struct lb_keymap *map, uint64_t hash)
{
	return lb_keymap_first(map, hash) != LB_KEYMAP_MISS;
}

// To a VIP, but not (or not known to be) to a service's address, port and protocol.
static uint8_t classify_stray(const struct lb_dp *dp, const struct lb_keymap *services,
	const struct lb_flow_key *key, struct lb_packet *packet)
{
	if (packet->pending != 0)
		return packet->pending;
	packet->service = find_service(dp, services, hash_of(dst_of(key)), dst_of(key));
	if (packet->service == NOT_FOUND && services->n_wildcard != 0) {
		struct side side = all_ports(&key->dst, key);

		packet->service = find_service(dp, services, hash_of(side), side);
	}
	return packet->service != NOT_FOUND ? LB_VERDICT_FORWARD : LB_VERDICT_VIP_NO_SERVICE;
}

// Not to a VIP: a reply, or the host's. @p hash is of its source, port and protocol.
static inline uint8_t classify_source(const struct lb_dp *dp, const struct lb_keymap *endpoints, uint64_t hash,
	const struct lb_flow_key *key, struct lb_packet *packet)
{
	if (unlikely(packet->pending != 0)) {
		if (packet->pending == LB_VERDICT_VIP_PROTOCOL ||
			!has_address(endpoints, lb_keymap_hash(&key->src, 0, 0)))
			return LB_VERDICT_HOST;
		return packet->pending;
	}
	packet->backend = find_endpoint(dp, endpoints, hash, src_of(key));
	if (packet->backend == NOT_FOUND && endpoints->n_wildcard != 0) {
		struct side side = all_ports(&key->src, key);

		packet->backend = find_endpoint(dp, endpoints, hash_of(side), side);
	}
	return packet->backend != NOT_FOUND ? LB_VERDICT_REPLY : LB_VERDICT_HOST;
}

// Not plain TCP or UDP: to a VIP; about a backend, perhaps, if it is ICMP; or from a backend in fragments.
static bool is_odd(bool to_vip, const struct lb_packet *packet, const struct lb_flow_key *key)
{
	if (to_vip)
		return true;
	if (packet->pending == LB_VERDICT_VIP_PROTOCOL)
		return key->proto == IPPROTO_ICMP || key->proto == IPPROTO_ICMPV6;
	return packet->verdict == LB_VERDICT_FRAGMENT;
}

/*
 * What is not exactly a service's: a service for all ports, a stray packet to a VIP, a reply, or the host's.
 * Those of the burst's ip_list whose service is not found.
 */
static __rte_noinline void classify_rest(const struct lb_dp *dp, const struct lb_keymap *services,
	const struct lb_keymap *endpoints, struct lb_burst *burst)
{
	uint64_t vip_hashes[LB_BURST], source_hashes[LB_BURST];
	uint8_t list[LB_BURST];
	unsigned n_ip = burst->n_ip, n = 0;

	for (unsigned k = 0; k < n_ip; k++) {
		uint8_t i = burst->ip_list[k];

		list[n] = i;
		if (burst->packets[i].service != NOT_FOUND)
			continue;
		lb_burst_lengthen(burst, i);
		n++;
	}
	for (unsigned k = 0; k < n; k++) {
		const struct lb_flow_key *key = &burst->keys[list[k]];

		vip_hashes[k] = lb_keymap_hash_word(&key->dst, 0);
		rte_prefetch0(lb_keymap_line(services, vip_hashes[k]));
		source_hashes[k] = hash_of(src_of(key));
		rte_prefetch0(lb_keymap_line(endpoints, source_hashes[k]));
	}
	for (unsigned k = 0; k < n; k++) {
		struct lb_packet *packet = &burst->packets[list[k]];
		const struct lb_flow_key *key = &burst->keys[list[k]];
		bool to_vip = has_address(services, vip_hashes[k]);

		if (to_vip)
			packet->verdict = classify_stray(dp, services, key, packet);
		else
			packet->verdict = classify_source(dp, endpoints, source_hashes[k], key, packet);
		if (unlikely(packet->pending != 0) && is_odd(to_vip, packet, key))
			burst->odd_list[burst->n_odd++] = list[k];
	}
}

// Whether one of the addresses of packet @p i may be in a map. @p family of its key; 0: whichever.
static inline __attribute__((always_inline)) bool may_be_known(const struct lb_keymap *services,
	const struct lb_keymap *endpoints, const struct lb_burst *burst, unsigned i, unsigned family)
{
	uint64_t vip_hash, source_hash;

	if (family == 4 || (family == 0 && (burst->short_keys >> i & 1) != 0)) {
		vip_hash = lb_keymap_hash_ipv4(burst->keys4[i].dst_be, 0);
		source_hash = lb_keymap_hash_ipv4(burst->keys4[i].src_be, 0);
	} else { // of anything, if it is not plain
		vip_hash = lb_keymap_hash_word(&burst->keys[i].dst, 0);
		source_hash = lb_keymap_hash_word(&burst->keys[i].src, 0);
	}
	return lb_keymap_may_have(services, vip_hash) | lb_keymap_may_have(endpoints, source_hash);
}

static inline __attribute__((always_inline)) uint32_t find_known(const struct lb_keymap *services,
	const struct lb_keymap *endpoints, const struct lb_burst *burst, unsigned family)
{
	uint32_t known = 0;

	for (unsigned i = 0, n = burst->n; i < n; i++)
		known |= (uint32_t)may_be_known(services, endpoints, burst, i, family) << i;
	return known;
}

/*
 * On a port where most packets are the host's: those plain ones of which neither address may be in a map are that, and leave
 * the list. By the maps' filters, so that nothing else of these is read; what may be more than that stays. Not with mode
 * fullnat in use, whose replies come to the host's addresses.
 */
static void drop_strangers(const struct lb_keymap *services, const struct lb_keymap *endpoints, struct lb_burst *burst)
{
	uint32_t plain = burst->short_keys | burst->plain6, strangers;
	unsigned n_ip = burst->n_ip, n_left = 0;

	if (likely(burst->short_keys == lb_burst_all(burst)))
		strangers = ~find_known(services, endpoints, burst, 4);
	else if (burst->plain6 == lb_burst_all(burst))
		strangers = ~find_known(services, endpoints, burst, 6);
	else
		strangers = plain & ~find_known(services, endpoints, burst, 0);
	for (unsigned k = 0; k < n_ip; k++) {
		uint8_t i = burst->ip_list[k];

		lb_packet_set(&burst->packets[i], NOT_FOUND, LB_BACKEND_NONE);
		if (likely(strangers >> i & 1))
			burst->packets[i].verdict = LB_VERDICT_HOST;
		else
			burst->ip_list[n_left++] = i;
	}
	burst->n_ip = n_left;
}

// Whether packet @p i, a plain one, comes from the endpoint of @p backend.
static inline bool is_from(const struct lb_burst *burst, unsigned i, const struct lb_backend *backend)
{
	const struct lb_flow_key4 *key4 = &burst->keys4[i];
	uint32_t word = lb_keymap_word(backend->port_be, backend->proto);
	struct lb_addr addr;

	if (burst->short_keys >> i & 1) {
		addr = lb_addr_from_ipv4(key4->src_be);
		return word == lb_keymap_word(key4->sport_be, key4->proto) && lb_addr_equal(&backend->addr, &addr);
	}
	return word == src_of(&burst->keys[i]).word && lb_addr_equal(&backend->addr, &burst->keys[i].src);
}

/*
 * Plain packets to no VIP from the address, port and protocol of a nat backend: replies. They leave the list for to_client; what
 * classify_rest() would take for one, but not so directly, stays. Not with mode fullnat in use.
 */
static void find_replies(const struct lb_dp *dp, const struct lb_keymap *services, const struct lb_keymap *endpoints,
	struct lb_burst *burst)
{
	uint32_t candidates = 0, found = 0;
	uint64_t hashes[LB_BURST];
	uint16_t ids[LB_BURST];

	for (unsigned k = 0; k < burst->n_ip; k++) {
		unsigned i = burst->ip_list[k];
		uint64_t vip_hash;

		if (likely(burst->short_keys >> i & 1)) {
			const struct lb_flow_key4 *key = &burst->keys4[i];

			vip_hash = lb_keymap_hash_ipv4(key->dst_be, 0);
			hashes[i] = lb_keymap_hash_ipv4(key->src_be, lb_keymap_word(key->sport_be, key->proto));
		} else { // of anything, if it is not plain
			vip_hash = lb_keymap_hash_word(&burst->keys[i].dst, 0);
			hashes[i] = hash_of(src_of(&burst->keys[i]));
		}
		candidates |= (uint32_t)!lb_keymap_may_have(services, vip_hash) << i;
		rte_prefetch0(lb_keymap_line(endpoints, hashes[i]));
	}
	candidates &= burst->short_keys | burst->plain6;
	for (uint32_t left = candidates; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctz(left);
		const uint64_t *line = lb_keymap_line(endpoints, hashes[i]);
		uint32_t ways = lb_flow_match(line, lb_keymap_tag(hashes[i]));

		if (unlikely(ways == 0))
			continue;
		found |= UINT32_C(1) << i;
		ids[i] = lb_keymap_entry_id(line[__builtin_ctz(ways)]);
		rte_prefetch0(&dp->backends[ids[i]]);
	}
	for (uint32_t left = found; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctz(left);

		if (unlikely(!is_from(burst, i, &dp->backends[ids[i]]))) {
			found &= ~(UINT32_C(1) << i);
			continue;
		}
		lb_packet_set(&burst->packets[i], NOT_FOUND, ids[i]);
		burst->packets[i].verdict = LB_VERDICT_REPLY;
		burst->to_client[burst->n_to_client++] = (uint8_t)i;
	}
	if (likely((unsigned)__builtin_popcount(found) == burst->n_ip))
		burst->n_ip = 0;
	else if (found != 0)
		lb_burst_shorten(burst, found);
}

// Behind those that are in the lists already.
static void list_by_verdict(struct lb_burst *burst)
{
	unsigned n_ip = burst->n_ip, n_to_service = burst->n_to_service, n_to_client = burst->n_to_client;

	for (unsigned k = 0; k < n_ip; k++) {
		uint8_t i = burst->ip_list[k];
		uint8_t verdict = burst->packets[i].verdict;

		burst->to_service[n_to_service] = i;
		n_to_service += verdict == LB_VERDICT_FORWARD;
		burst->to_client[n_to_client] = i;
		n_to_client += verdict == LB_VERDICT_REPLY;
	}
	burst->n_to_service = n_to_service;
	burst->n_to_client = n_to_client;
}

static inline uint64_t dst_hash(const struct lb_burst *burst, unsigned i)
{
	const struct lb_flow_key4 *key = &burst->keys4[i];

	return burst->short_keys >> i & 1 ? lb_keymap_hash_ipv4(key->dst_be, lb_keymap_word(key->dport_be, key->proto))
					  : hash_of(dst_of(&burst->keys[i]));
}

static inline uint32_t find_service_of(
	const struct lb_dp *dp, const struct lb_keymap *services, uint64_t hash, const struct lb_burst *burst, unsigned i)
{
	struct lb_flow_key key;

	if (unlikely(burst->packets[i].pending != 0))
		return NOT_FOUND;
	key = lb_burst_key(burst, i);
	return find_service(dp, services, hash, dst_of(&key));
}

/*
 * The packets that are to a service's address, port and protocol. Many are to the same as the one before, which plain ones of
 * IPv4 tell by one comparison. @return how many.
 */
static unsigned find_services(
	const struct lb_dp *dp, const struct lb_keymap *services, struct lb_burst *burst)
{
	uint64_t hashes[LB_BURST], before = 0;
	uint32_t service = NOT_FOUND;
	unsigned n_ip = burst->n_ip, n_found = 0;

	for (unsigned k = 0; k < n_ip; k++) {
		unsigned i = burst->ip_list[k];
		uint64_t word = burst->short_keys >> i & 1 ? lb_flow_key4_dst(&burst->keys4[i]) : 0;

		if (word != 0 && word == before)
			continue;
		before = word;
		hashes[k] = dst_hash(burst, i);
		rte_prefetch0(lb_keymap_line(services, hashes[k]));
	}
	before = 0;
	for (unsigned k = 0; k < n_ip; k++) {
		unsigned i = burst->ip_list[k];
		uint64_t word = burst->short_keys >> i & 1 ? lb_flow_key4_dst(&burst->keys4[i]) : 0;

		if (word == 0 || word != before)
			service = find_service_of(dp, services, hashes[k], burst, i);
		before = word;
		lb_packet_set(&burst->packets[i], service, LB_BACKEND_NONE);
		n_found += service != NOT_FOUND;
	}
	return n_found;
}

unsigned lb_classify_services(const struct lb_dp *dp, struct lb_burst *burst)
{
	return find_services(dp, atomic_load_explicit(&dp->service_map, memory_order_acquire), burst);
}

// What the next burst of this port will be like. @p n_ip: packets in the list at first.
static void watch_strangers(struct lb_worker *worker, const struct lb_burst *burst, unsigned n_ip)
{
	unsigned n_ours = burst->n_to_service + burst->n_to_client;
	uint32_t port = UINT32_C(1) << burst->port;

	worker->stranger_ports = n_ours * 2 < n_ip ? worker->stranger_ports | port : worker->stranger_ports & ~port;
}

void lb_stage_classify(struct lb_worker *worker, struct lb_burst *burst)
{
	unsigned n_ip = burst->n_ip;
	const struct lb_dp *dp = worker->dp;
	const struct lb_keymap *services = atomic_load_explicit(&dp->service_map, memory_order_acquire);
	const struct lb_keymap *endpoints = atomic_load_explicit(&dp->endpoint_map, memory_order_acquire);

	if (likely(burst->mostly_services)) {
		if (likely(find_services(dp, services, burst) == burst->n_ip)) {
			memcpy(burst->to_service, burst->ip_list, sizeof(burst->to_service));
			burst->n_to_service = burst->n_ip;
			burst->n_to_client = 0;
			return;
		}
	} else if (burst->mostly_strangers) {
		drop_strangers(services, endpoints, burst);
	} else {
		// Most are not even to a VIP, which classify_rest() looks at first.
		for (unsigned k = 0; k < burst->n_ip; k++)
			lb_packet_set(&burst->packets[burst->ip_list[k]], NOT_FOUND, LB_BACKEND_NONE);
	}
	burst->n_to_service = burst->n_to_client = 0;
	if (!burst->mostly_strangers && likely(atomic_load_explicit(&dp->fullnat, memory_order_relaxed) == NULL))
		find_replies(dp, services, endpoints, burst);
	if (burst->n_ip != 0) {
		classify_rest(dp, services, endpoints, burst);
		list_by_verdict(burst);
	}
	watch_strangers(worker, burst, n_ip);
}

uint16_t lb_classify_service(
	const struct lb_dp *dp, const struct lb_addr *vip, uint16_t port_be, uint8_t proto)
{
	const struct lb_keymap *map = atomic_load_explicit(&dp->service_map, memory_order_acquire);
	struct side side = {.addr = vip, .word = lb_keymap_word(port_be, proto)};
	uint16_t id = find_service(dp, map, hash_of(side), side);

	if (id != NOT_FOUND || map->n_wildcard == 0)
		return id;
	side.word = lb_keymap_word(0, proto);
	return find_service(dp, map, hash_of(side), side);
}

uint16_t lb_classify_endpoint(
	const struct lb_dp *dp, const struct lb_addr *addr, uint16_t port_be, uint8_t proto)
{
	const struct lb_keymap *map = atomic_load_explicit(&dp->endpoint_map, memory_order_acquire);
	struct side side = {.addr = addr, .word = lb_keymap_word(port_be, proto)};
	uint16_t id = find_endpoint(dp, map, hash_of(side), side);

	if (id != NOT_FOUND || map->n_wildcard == 0)
		return id;
	side.word = lb_keymap_word(0, proto);
	return find_endpoint(dp, map, hash_of(side), side);
}

bool lb_classify_is_vip(const struct lb_dp *dp, const struct lb_addr *addr)
{
	const struct lb_keymap *map = atomic_load_explicit(&dp->service_map, memory_order_acquire);

	return has_address(map, lb_keymap_hash(addr, 0, 0));
}
