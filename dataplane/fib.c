/* SPDX-License-Identifier: BSD-3-Clause */
#include "dataplane/fib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_errno.h>
#include <rte_malloc.h>

#define MAX_ROUTES 65536u
/* Another name for the next hop of a route that is being added; see fib_add(). */
#define NEXTHOP_TWIN LB_MAX_NEXTHOPS

struct route_key {
	struct lb_addr prefix;
	uint8_t family;
	uint8_t length;
	uint8_t zero[6];
};

static struct route_key key_of(const struct lb_msg_route *msg)
{
	return (struct route_key){
		.prefix = msg->prefix, .family = msg->family, .length = msg->length};
}

int lb_fib_init(struct lb_fib *fib)
{
	// 2-byte entries: 15 bits of next hop in 32 MB per family, and groups of 512 bytes for what is longer
	// than /24: one per /24 with longer prefixes in IPv4, up to 13 per prefix in IPv6.
	struct rte_fib_conf conf4 = {.type = RTE_FIB_DIR24_8, .default_nh = LB_NEXTHOP_NONE,
		.max_routes = MAX_ROUTES, .dir24_8 = {.nh_sz = RTE_FIB_DIR24_8_2B, .num_tbl8 = 8192}};
	struct rte_fib6_conf conf6 = {.type = RTE_FIB6_TRIE, .default_nh = LB_NEXTHOP_NONE,
		.max_routes = MAX_ROUTES, .trie = {.nh_sz = RTE_FIB6_TRIE_2B, .num_tbl8 = 16384}};
	struct rte_hash_parameters params = {.name = "lb_routes", .entries = MAX_ROUTES,
		.key_len = sizeof(struct route_key), .socket_id = SOCKET_ID_ANY};

	*fib = (struct lb_fib){0};
	fib->ipv4 = rte_fib_create("lb_fib4", SOCKET_ID_ANY, &conf4);
	fib->ipv6 = rte_fib6_create("lb_fib6", SOCKET_ID_ANY, &conf6);
	fib->nexthops = rte_malloc("nexthops", LB_FIB_N_NEXTHOPS * sizeof(uint64_t), 64);
	fib->routes = rte_hash_create(&params);
	fib->route_nexthops = calloc(MAX_ROUTES + 8, sizeof(*fib->route_nexthops));
	fib->route_mentioned = calloc(MAX_ROUTES + 8, sizeof(*fib->route_mentioned));
	fib->info = calloc(LB_MAX_NEXTHOPS, sizeof(*fib->info));
	if (fib->ipv4 == NULL || fib->ipv6 == NULL || fib->nexthops == NULL || fib->routes == NULL ||
		fib->route_nexthops == NULL || fib->route_mentioned == NULL || fib->info == NULL) {
		lb_fib_fini(fib);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < LB_FIB_N_NEXTHOPS; i++)
		atomic_init(&fib->nexthops[i], LB_NEXTHOP_UNRESOLVED);
	fib->info[LB_NEXTHOP_HOST].in_use = true;
	return 0;
}

uint64_t lb_fib_lookup(const struct lb_fib *fib, unsigned family, const struct lb_addr *dst)
{
	uint64_t nexthop = atomic_load_explicit(&fib->single[family == 6], memory_order_relaxed);
	uint32_t ipv4 = rte_be_to_cpu_32(lb_addr_ipv4_be(dst));
	uint8_t ipv6[1][RTE_FIB6_IPV6_ADDR_SIZE];

	if (nexthop != 0)
		return nexthop;
	memcpy(ipv6[0], dst, sizeof(ipv6[0]));
	if (family == 4)
		rte_fib_lookup_bulk(fib->ipv4, &ipv4, &nexthop, 1);
	else
		rte_fib6_lookup_bulk(fib->ipv6, ipv6, &nexthop, 1);
	return nexthop;
}

void lb_fib_fini(struct lb_fib *fib)
{
	rte_fib_free(fib->ipv4);
	rte_fib6_free(fib->ipv6);
	rte_free((void *)(uintptr_t)fib->nexthops);
	rte_hash_free(fib->routes);
	free(fib->route_nexthops);
	free(fib->route_mentioned);
	free(fib->info);
	*fib = (struct lb_fib){0};
}

// The number of this rule in next-hop words. Numbers are never reused: 1023 VLANs in a data plane's life.
static uint32_t vlan_rule(struct lb_fib *fib, uint16_t vlan)
{
	uint32_t n = atomic_load_explicit(&fib->n_vlans, memory_order_relaxed), i = 0;

	while (i <= n && atomic_load_explicit(&fib->vlans[i], memory_order_relaxed) != vlan)
		i++;
	if (i <= n || i == LB_FIB_N_VLANS)
		return i;
	atomic_store_explicit(&fib->vlans[i], vlan, memory_order_relaxed);
	atomic_store_explicit(&fib->n_vlans, i, memory_order_release);
	return i;
}

int lb_fib_nexthop_set(struct lb_fib *fib, const struct lb_msg_nexthop *msg, unsigned n_ports)
{
	static const uint8_t zero[sizeof(msg->zero)];
	uint64_t word = lb_nexthop_of_port(msg->port);
	uint32_t vlan;

	if (msg->id == LB_NEXTHOP_NONE || msg->id >= LB_NEXTHOP_HOST || msg->port >= n_ports ||
		msg->resolved > 1 || (msg->mac[0] & 1) != 0 ||
		msg->vlan > LB_VLAN_NONE || memcmp(msg->zero, zero, sizeof(zero)) != 0)
		return -EINVAL;
	vlan = vlan_rule(fib, msg->vlan);
	if (vlan == LB_FIB_N_VLANS)
		return -ENOSPC;
	word |= (uint64_t)vlan << 48;
	for (unsigned i = 0; i < 6; i++)
		word |= (uint64_t)msg->mac[i] << (8 * i);
	fib->info[msg->id].in_use = true;
	fib->info[msg->id].mentioned = true;
	atomic_store_explicit(&fib->nexthops[msg->id],
		msg->resolved ? word : LB_NEXTHOP_UNRESOLVED, memory_order_release);
	return 0;
}

int lb_fib_nexthop_del(struct lb_fib *fib, uint16_t id)
{
	if (id == LB_NEXTHOP_NONE || id >= LB_NEXTHOP_HOST || !fib->info[id].in_use)
		return -ENOENT;
	if (fib->info[id].refs != 0)
		return -EBUSY;
	fib->info[id].in_use = false;
	atomic_store_explicit(&fib->nexthops[id], LB_NEXTHOP_UNRESOLVED, memory_order_relaxed);
	return 0;
}

int lb_fib_nexthop_hold(struct lb_fib *fib, uint16_t id)
{
	if (id == LB_NEXTHOP_NONE)
		return 0;
	if (id >= LB_MAX_NEXTHOPS || !fib->info[id].in_use)
		return -ENOENT;
	fib->info[id].refs++;
	return 0;
}

void lb_fib_nexthop_release(struct lb_fib *fib, uint16_t id)
{
	if (id != LB_NEXTHOP_NONE)
		fib->info[id].refs--;
}

// A prefix is well-formed if its family and length agree and no bit beyond the length is set.
static bool route_valid(const struct lb_msg_route *msg)
{
	unsigned first_bit = msg->family == 4 ? 96u + msg->length : msg->length;

	if (msg->zero != 0 || (msg->family != 4 && msg->family != 6) ||
		msg->length > (msg->family == 4 ? 32 : 128) ||
		(msg->family == 4) != lb_addr_is_ipv4(&msg->prefix))
		return false;
	for (unsigned bit = first_bit; bit < 128; bit++)
		if (msg->prefix.bytes[bit / 8] & (0x80u >> (bit % 8)))
			return false;
	return true;
}

static int fib_write(struct lb_fib *fib, const struct route_key *key, uint16_t nexthop)
{
	if (key->family == 4)
		return rte_fib_add(fib->ipv4, rte_be_to_cpu_32(lb_addr_ipv4_be(&key->prefix)),
			key->length, nexthop);
	return rte_fib6_add(fib->ipv6, key->prefix.bytes, key->length, nexthop);
}

/*
 * A route longer than /24 with the next hop of the one above it would be added without a group of entries
 * and without being counted, but rte_fib and rte_fib6 (22.11) count it when it is deleted: the number of
 * groups in use falls below 0, and from then on there is "no space" for any. So it is added under another
 * name of the next hop, which no route has, and changed to the true one at once: no look-up misses it.
 */
static int fib_add(struct lb_fib *fib, const struct route_key *key, uint16_t nexthop)
{
	int rc;

	if (key->length <= 24)
		return fib_write(fib, key, nexthop);
	atomic_store_explicit(&fib->nexthops[NEXTHOP_TWIN], lb_fib_nexthop_word(fib, nexthop),
		memory_order_release);
	rc = fib_write(fib, key, NEXTHOP_TWIN);
	return rc == 0 ? fib_write(fib, key, nexthop) : rc;
}

/* What a look-up of the prefix's first address gives now. */
static uint64_t fib_read(struct lb_fib *fib, const struct route_key *key)
{
	uint32_t ipv4 = rte_be_to_cpu_32(lb_addr_ipv4_be(&key->prefix));
	uint64_t nexthop = LB_NEXTHOP_NONE;
	uint8_t ipv6[1][16];

	memcpy(ipv6[0], key->prefix.bytes, 16);
	if (key->family == 4)
		rte_fib_lookup_bulk(fib->ipv4, &ipv4, &nexthop, 1);
	else
		rte_fib6_lookup_bulk(fib->ipv6, ipv6, &nexthop, 1);
	return nexthop;
}

static int fib_erase(struct lb_fib *fib, const struct route_key *key)
{
	if (key->family == 4)
		return rte_fib_delete(
			fib->ipv4, rte_be_to_cpu_32(lb_addr_ipv4_be(&key->prefix)), key->length);
	return rte_fib6_delete(fib->ipv6, key->prefix.bytes, key->length);
}

// Where every route of a family, a default one among them, has the same next hop, workers need no look-up.
static void account(struct lb_fib *fib, const struct route_key *key, uint16_t nexthop, int change)
{
	unsigned i = key->family == 6;
	uint16_t single;

	fib->n_routes[i] += change;
	fib->info[nexthop].n_routes[i] += change;
	if (key->length == 0)
		fib->default_nexthop[i] = change > 0 ? nexthop : LB_NEXTHOP_NONE;
	single = fib->default_nexthop[i];
	if (fib->info[single].n_routes[i] != fib->n_routes[i])
		single = LB_NEXTHOP_NONE;
	atomic_store_explicit(&fib->single[i], single, memory_order_relaxed);
}

int lb_fib_route_set(struct lb_fib *fib, const struct lb_msg_route *msg)
{
	struct route_key key = key_of(msg);
	bool replaced, may_free;
	int32_t place;
	int rc;

	if (!route_valid(msg) || msg->nexthop == LB_NEXTHOP_NONE)
		return -EINVAL;
	rc = lb_fib_nexthop_hold(fib, msg->nexthop);
	if (rc < 0)
		return rc;
	replaced = rte_hash_lookup(fib->routes, &key) >= 0;
	may_free = key.length > 24 && (replaced || fib_read(fib, &key) == msg->nexthop);
	place = rte_hash_add_key(fib->routes, &key);
	if (place < 0)
		rc = place;
	else
		rc = replaced ? fib_write(fib, &key, msg->nexthop) : fib_add(fib, &key, msg->nexthop);
	if (rc < 0) {
		if (!replaced && place >= 0)
			rte_hash_del_key(fib->routes, &key);
		lb_fib_nexthop_release(fib, msg->nexthop);
		return -ENOSPC;
	}
	if (replaced) {
		account(fib, &key, fib->route_nexthops[place], -1);
		lb_fib_nexthop_release(fib, fib->route_nexthops[place]);
	}
	account(fib, &key, msg->nexthop, 1);
	fib->route_nexthops[place] = msg->nexthop;
	fib->route_mentioned[place] = true;
	return may_free ? 1 : 0;
}

static int route_del(struct lb_fib *fib, const struct route_key *key)
{
	int32_t place = rte_hash_lookup(fib->routes, key);

	if (place < 0)
		return -ENOENT;
	fib_erase(fib, key);
	account(fib, key, fib->route_nexthops[place], -1);
	lb_fib_nexthop_release(fib, fib->route_nexthops[place]);
	rte_hash_del_key(fib->routes, key);
	return 0;
}

int lb_fib_route_del(struct lb_fib *fib, const struct lb_msg_route *msg)
{
	struct route_key key = key_of(msg);

	return route_valid(msg) ? route_del(fib, &key) : -EINVAL;
}

void lb_fib_sync_begin(struct lb_fib *fib)
{
	memset(fib->route_mentioned, 0, (MAX_ROUTES + 8) * sizeof(*fib->route_mentioned));
	for (unsigned i = 0; i < LB_MAX_NEXTHOPS; i++)
		fib->info[i].mentioned = false;
}

void lb_fib_sync_end_routes(struct lb_fib *fib, void (*grace)(void *arg), void *arg)
{
	const void *key;
	void *data;
	uint32_t next = 0;
	int32_t place;

	while ((place = rte_hash_iterate(fib->routes, &key, &data, &next)) >= 0) {
		struct route_key route = *(const struct route_key *)key;

		if (!fib->route_mentioned[place]) {
			route_del(fib, &route);
			grace(arg);
		}
	}
}

void lb_fib_sync_end_nexthops(struct lb_fib *fib)
{
	for (uint16_t id = 1; id < LB_NEXTHOP_HOST; id++)
		if (fib->info[id].in_use && !fib->info[id].mentioned)
			lb_fib_nexthop_del(fib, id);
}
