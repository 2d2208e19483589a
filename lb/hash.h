/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_HASH_H
#define LB_HASH_H

#include "lb/addr.h"

/**
 * What is hashed of a packet: its 5-tuple in client-to-service direction, network byte order,
 * padded with zeros to three AES blocks. Of IPv4 the short form below is what is hashed, without the
 * padding. Built by the parse stage; also by trace.
 */
struct lb_flow_key {
	struct lb_addr src;
	struct lb_addr dst;
	uint16_t sport_be;
	uint16_t dport_be;
	uint8_t proto;
	uint8_t zero[11];
};
static_assert(sizeof(struct lb_flow_key) == 48, "three AES blocks");

/** The same of an IPv4 packet, in one AES block: side by side what tells its service. */
struct lb_flow_key4 {
	uint32_t src_be;
	uint16_t sport_be;
	uint16_t zero;
	uint32_t dst_be;
	uint16_t dport_be;
	uint8_t proto;
	uint8_t zero2;
} __attribute__((aligned(16)));
static_assert(sizeof(struct lb_flow_key4) == 16, "one AES block");

static inline bool lb_flow_key_is_ipv4(const struct lb_flow_key *key)
{
	return lb_addr_is_ipv4(&key->src) && lb_addr_is_ipv4(&key->dst);
}

/** @p key, which is of IPv4, in its short form. */
static inline struct lb_flow_key4 lb_flow_key_shorten(const struct lb_flow_key *key)
{
	return (struct lb_flow_key4){.src_be = lb_addr_ipv4_be(&key->src),
		.sport_be = key->sport_be,
		.dst_be = lb_addr_ipv4_be(&key->dst),
		.dport_be = key->dport_be,
		.proto = key->proto};
}

static inline struct lb_flow_key lb_flow_key_lengthen(const struct lb_flow_key4 *key)
{
	return (struct lb_flow_key){.src = lb_addr_from_ipv4(key->src_be),
		.dst = lb_addr_from_ipv4(key->dst_be),
		.sport_be = key->sport_be,
		.dport_be = key->dport_be,
		.proto = key->proto};
}

/** Destination, its port and the protocol in one word; never 0. */
static inline uint64_t lb_flow_key4_dst(const struct lb_flow_key4 *key)
{
	uint64_t word;

	memcpy(&word, &key->dst_be, sizeof(word));
	return word;
}

#define LB_HASH_N_ROUND_KEYS 13u

/** Round keys expanded from the fleet's 128-bit secret. Read-only after init. */
struct lb_hash_key {
	uint8_t round_keys[LB_HASH_N_ROUND_KEYS][16];
} __attribute__((aligned(64)));

/** Expand @p secret (16 bytes). Any thread. */
void lb_hash_key_init(struct lb_hash_key *key, const uint8_t secret[16]);

/**
 * Keyed 64-bit flow hash of @p n keys: AES rounds with VAES or AES-NI where the CPU has it, else the
 * same rounds in portable code: every host of a fleet computes the same value. Any thread.
 */
void lb_hash_flows(const struct lb_hash_key *key, const struct lb_flow_key *keys, uint64_t *hashes,
	unsigned n);

/** The same of @p n keys of IPv4 in their short form. */
void lb_hash_flows4(const struct lb_hash_key *key, const struct lb_flow_key4 *keys, uint64_t *hashes, unsigned n);

/** The same of @p n keys, none of which is of IPv4. */
void lb_hash_flows6(const struct lb_hash_key *key, const struct lb_flow_key *keys, uint64_t *hashes, unsigned n);

/**
 * The same of flows of both kinds, at most LB_HASH_MIXED_MAX: flow i has its key in keys4[i] if bit i of @p short_keys
 * is set, else in keys[i], where it may be of IPv4 too.
 */
#define LB_HASH_MIXED_MAX 32u
void lb_hash_flows_mixed(const struct lb_hash_key *key, const struct lb_flow_key *keys,
	const struct lb_flow_key4 *keys4, uint32_t short_keys, uint64_t *hashes, unsigned n);

/** The portable path by itself, for tests and comparison. */
void lb_hash_flows_portable(const struct lb_hash_key *key, const struct lb_flow_key *keys,
	uint64_t *hashes, unsigned n);

/** Name of the path that lb_hash_flows takes on this CPU: "vaes", "aes-ni" or "portable". */
const char *lb_hash_impl(void);

/**
 * The slot that a flow hash selects in a table of @p n_slots (1..2^32-1). The multiplication by an
 * odd constant first mixes all bits into the high ones, so that the slot is independent of the bits
 * that choose the flow-table bucket: with `tracking: changed` only flows of few slots are recorded,
 * and these must still spread over all buckets.
 */
static inline uint32_t lb_hash_slot(uint64_t hash, uint32_t n_slots)
{
	uint64_t mixed = hash * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t)(((unsigned __int128)mixed * n_slots) >> 64);
}

/**
 * Unkeyed 64-bit hash of a byte string, the same on every CPU: FNV-1a's xor and multiply, but on
 * 64-bit little-endian words (zero-padded; the length is hashed first), folded after each, with a
 * final avalanche (splitmix64's): 8 times as fast, since tables of a megabyte are checked with it.
 * For names and checksums, where every host must agree and nobody gains by colliding. @p seed
 * separates independent uses.
 */
uint64_t lb_hash_bytes(const void *data, size_t len_bytes, uint64_t seed);

#endif
