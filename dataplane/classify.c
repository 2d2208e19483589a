/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stage 2, classify: is the packet for a service (by VIP, port, protocol; then by VIP and protocol), a reply
 * of a nat backend (by its endpoint), or the host's? VIPs come first: a backend may be a client too.
 */
#include "dataplane/stages.h"

#include "dataplane/worker.h"

#define NOT_FOUND UINT16_MAX

static inline uint16_t find_service(const struct lb_dp *dp, const struct lb_keymap *map, uint64_t hash,
	const struct lb_addr *addr, uint16_t port_be, uint8_t proto)
{
	unsigned probe = 0;
	uint32_t id;

	while ((id = lb_keymap_find(map, hash, &probe)) != LB_KEYMAP_MISS) {
		const struct lb_service_key *key = &dp->services[id].key;

		if (likely(lb_addr_equal(&key->addr, addr) && key->port_be == port_be &&
			    key->proto == proto))
			return (uint16_t)id;
		probe++;
	}
	return NOT_FOUND;
}

static inline uint16_t find_endpoint(const struct lb_dp *dp, const struct lb_keymap *map,
	const struct lb_addr *addr, uint16_t port_be, uint8_t proto)
{
	uint64_t hash = lb_keymap_hash(addr, port_be, proto);
	unsigned probe = 0;
	uint32_t id;

	while ((id = lb_keymap_find(map, hash, &probe)) != LB_KEYMAP_MISS) {
		const struct lb_backend *backend = &dp->backends[id];

		if (likely(lb_addr_equal(&backend->addr, addr) && backend->port_be == port_be &&
			    backend->proto == proto))
			return (uint16_t)id;
		probe++;
	}
	return NOT_FOUND;
}

// By the tag alone: a false yes (2^-32) costs a stray packet, which is then dropped under a wrong name.
static inline bool has_address(const struct lb_keymap *map, const struct lb_addr *addr)
{
	unsigned probe = 0;

	return lb_keymap_find(map, lb_keymap_hash(addr, 0, 0), &probe) != LB_KEYMAP_MISS;
}

// Not exactly a service's: a service for all ports, a stray packet to a VIP, a reply, or the host's.
static uint8_t classify_rest(const struct lb_dp *dp, const struct lb_keymap *services,
	const struct lb_keymap *endpoints, const struct lb_flow_key *key, struct lb_packet *packet)
{
	if (has_address(services, &key->dst)) {
		if (packet->pending != 0)
			return packet->pending;
		if (services->n_wildcard != 0)
			packet->service = find_service(dp, services,
				lb_keymap_hash(&key->dst, 0, key->proto), &key->dst, 0, key->proto);
		return packet->service != NOT_FOUND ? LB_VERDICT_FORWARD : LB_VERDICT_VIP_NO_SERVICE;
	}
	if (endpoints->n_used == 0 || !has_address(endpoints, &key->src))
		return LB_VERDICT_HOST;
	if (packet->pending != 0)
		return packet->pending == LB_VERDICT_VIP_PROTOCOL ? LB_VERDICT_HOST : packet->pending;
	packet->backend = find_endpoint(dp, endpoints, &key->src, key->sport_be, key->proto);
	if (packet->backend == NOT_FOUND && endpoints->n_wildcard != 0)
		packet->backend = find_endpoint(dp, endpoints, &key->src, 0, key->proto);
	return packet->backend != NOT_FOUND ? LB_VERDICT_REPLY : LB_VERDICT_HOST;
}

void lb_stage_classify(struct lb_worker *worker, struct lb_burst *burst)
{
	const struct lb_dp *dp = worker->dp;
	const struct lb_keymap *services = atomic_load_explicit(&dp->service_map, memory_order_acquire);
	const struct lb_keymap *endpoints =
		atomic_load_explicit(&dp->endpoint_map, memory_order_acquire);
	uint64_t hashes[LB_BURST];

	for (unsigned k = 0; k < burst->n_ip; k++) {
		const struct lb_flow_key *key = &burst->keys[burst->ip_list[k]];

		hashes[k] = lb_keymap_hash(&key->dst, key->dport_be, key->proto);
		rte_prefetch0(services->lines[(uint32_t)hashes[k] & services->line_mask]);
	}
	burst->n_to_service = 0;
	burst->n_to_client = 0;
	for (unsigned k = 0; k < burst->n_ip; k++) {
		uint8_t i = burst->ip_list[k];
		struct lb_packet *packet = &burst->packets[i];
		const struct lb_flow_key *key = &burst->keys[i];

		packet->service = NOT_FOUND;
		packet->backend = LB_BACKEND_NONE;
		if (likely(packet->pending == 0))
			packet->service = find_service(
				dp, services, hashes[k], &key->dst, key->dport_be, key->proto);
		if (packet->service == NOT_FOUND)
			packet->verdict = classify_rest(dp, services, endpoints, key, packet);
		burst->to_service[burst->n_to_service] = i;
		burst->n_to_service += packet->verdict == LB_VERDICT_FORWARD;
		burst->to_client[burst->n_to_client] = i;
		burst->n_to_client += packet->verdict == LB_VERDICT_REPLY;
	}
}
