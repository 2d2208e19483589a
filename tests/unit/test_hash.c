/* SPDX-License-Identifier: BSD-3-Clause */
/* The flow hash: the same on every CPU and in every release, and as good as random to who lacks the
 * key. */
#include <arpa/inet.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lb/hash.h"

static const uint8_t secret[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static struct lb_hash_key key;

static uint64_t random_state = 1;

static uint64_t random_u64(void)
{
	random_state += UINT64_C(0x9e3779b97f4a7c15);
	return lb_hash_bytes(&random_state, sizeof(random_state), 99);
}

static void random_flows(struct lb_flow_key *flows, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < sizeof(*flows) / 8; j++) {
			uint64_t word = random_u64();

			memcpy((uint8_t *)&flows[i] + 8 * j, &word, 8);
		}
}

/* The same with about half of them of IPv4: which are decided by the bits of a random number. */
static void random_mixed_flows(struct lb_flow_key *flows, unsigned n)
{
	random_flows(flows, n);
	for (unsigned i = 0; i < n; i++) {
		memset(flows[i].zero, 0, sizeof(flows[i].zero));
		if (random_u64() % 2 == 0)
			continue;
		flows[i].src = lb_addr_from_ipv4(flows[i].src.u32[3]);
		flows[i].dst = lb_addr_from_ipv4(flows[i].dst.u32[3]);
	}
}

static uint64_t hash_one(const struct lb_flow_key *flow)
{
	uint64_t hash;

	lb_hash_flows(&key, flow, &hash, 1);
	return hash;
}

/* Flow @p i of a client that takes one port after the other, then the next address. */
static struct lb_flow_key sequential_flow(uint32_t i)
{
	struct lb_flow_key flow = {
		.src = lb_addr_from_ipv4(htonl(0xc6336400 + i / 60000)),
		.dst = lb_addr_from_ipv4(htonl(0xcb00710a)),
		.sport_be = htons((uint16_t)(1024 + i % 60000)),
		.dport_be = htons(443),
		.proto = 6,
	};

	return flow;
}

/*
 * Whether @p n counts of @p total events look uniform: chi-square within 5 standard deviations of
 * its mean, on either side (an even spread is as suspicious as a lumpy one).
 */
static void assert_uniform(const uint32_t *counts, uint32_t n, double total)
{
	double expected = total / n, chi2 = 0, freedom = n - 1;

	for (uint32_t i = 0; i < n; i++)
		chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
	if (fabs(chi2 - freedom) > 5 * sqrt(2 * freedom))
		fail_msg("chi-square %.0f with %.0f degrees of freedom", chi2, freedom);
}

static void round_keys_are_aes_of_counters(void **state)
{
	// printf 'fulcrum flow 1\0\x00' | openssl enc -aes-128-ecb -K
	// 000102030405060708090a0b0c0d0e0f
	static const uint8_t first[16] = {0x4a, 0x7c, 0xce, 0x8c, 0xad, 0x49, 0x94, 0xbb, 0x62,
		0xba, 0x02, 0x46, 0xdf, 0x8c, 0x12, 0x64};
	// ... 1\0\x0a
	static const uint8_t tenth[16] = {0x10, 0x1d, 0x7e, 0xec, 0x36, 0xfd, 0x3e, 0xd2, 0x5d, 0x7d,
		0xee, 0xfb, 0x90, 0xb4, 0xb0, 0x16};
	// ... 1\0\x0c
	static const uint8_t last[16] = {0x99, 0xce, 0x1d, 0xb2, 0xfd, 0x90, 0xd4, 0xe6, 0xc9, 0xcc, 0x93, 0xe4,
		0xc0, 0xcc, 0xf7, 0xe1};

	(void)state;
	assert_memory_equal(first, key.round_keys[0], 16);
	assert_memory_equal(tenth, key.round_keys[10], 16);
	assert_memory_equal(last, key.round_keys[LB_HASH_N_ROUND_KEYS - 1], 16);
}

/* Hosts of a fleet are upgraded one by one and must agree meanwhile: these values are for ever. */
static void values_are_the_same_in_every_release(void **state)
{
	struct lb_flow_key flows[2] = {
		{.sport_be = htons(12345), .dport_be = htons(443), .proto = 6},
		{.sport_be = htons(5353), .dport_be = htons(53), .proto = 17},
	};

	(void)state;
	assert_int_equal(0, lb_addr_parse("198.51.100.7", &flows[0].src));
	assert_int_equal(0, lb_addr_parse("203.0.113.10", &flows[0].dst));
	assert_int_equal(0, lb_addr_parse("2001:db8::7", &flows[1].src));
	assert_int_equal(0, lb_addr_parse("2001:db8:1::10", &flows[1].dst));
	// by another program's AES
	assert_int_equal(UINT64_C(0xb04ac774a8b80dbe), hash_one(&flows[0]));
	assert_int_equal(UINT64_C(0x80198d16e014a287), hash_one(&flows[1]));

	assert_int_equal(UINT64_C(0xe8762870b5f4a9a7), lb_hash_bytes("", 0, 0));
	assert_int_equal(UINT64_C(0x49bc1332aa09c0c9), lb_hash_bytes("api-1", 5, 0));
	assert_int_equal(UINT64_C(0xbd5ea53747c18fda), lb_hash_bytes("api-1", 5, 1));
	assert_int_equal(UINT64_C(0xf81d43dbf909ea8f), lb_hash_bytes("0123456789abcdef", 16, 0));
	assert_int_equal(0, lb_hash_slot(0, 65537));
}

static void portable_path_gives_the_same(void **state)
{
	static struct lb_flow_key flows[1000];
	static uint64_t best[1000], portable[1000];

	(void)state;
	assert_true(strcmp(lb_hash_impl(), "vaes") == 0 || strcmp(lb_hash_impl(), "aes-ni") == 0 ||
		    strcmp(lb_hash_impl(), "portable") == 0);
	for (unsigned run = 0; run < 100; run++) {
		uint8_t random_secret[16];
		struct lb_hash_key random_key;
		uint64_t words[2] = {random_u64(), random_u64()};

		memcpy(random_secret, words, 16);
		lb_hash_key_init(&random_key, random_secret);
		if (run % 2 == 0)
			random_flows(flows, 1000);
		else
			random_mixed_flows(flows, 1000);
		lb_hash_flows(&random_key, flows, best, 1000);
		lb_hash_flows_portable(&random_key, flows, portable, 1000);
		assert_memory_equal(best, portable, sizeof(best));
	}
}

static void value_does_not_depend_on_the_burst(void **state)
{
	struct lb_flow_key flows[40];
	uint64_t one_by_one[40], hashes[41];

	(void)state;
	for (unsigned run = 0; run < 3; run++) { // IPv6, IPv4, both
		random_mixed_flows(flows, 40);
		for (unsigned i = 0; run < 2 && i < 40; i++) {
			flows[i].src = flows[i].dst = lb_addr_from_ipv4(flows[i].src.u32[3]);
			flows[i].dst.u64[0] += run == 0;
		}
		for (unsigned i = 0; i < 40; i++)
			one_by_one[i] = hash_one(&flows[i]);
		for (unsigned n = 0; n <= 40; n++) {
			memset(hashes, 0x5a, sizeof(hashes));
			lb_hash_flows(&key, flows, hashes, n);
			assert_memory_equal(one_by_one, hashes, n * sizeof(*hashes));
			assert_int_equal(UINT64_C(0x5a5a5a5a5a5a5a5a), hashes[n]);
		}
	}
}

/*
 * Of IPv4, short and long keys of the same flows; also with flows of IPv6 among them, of which no short key is read, and some of
 * IPv4 in the long form: a packet with a VLAN tag, with options, or a fragment.
 */
static void short_keys_give_the_same(void **state)
{
	struct lb_flow_key flows[LB_HASH_MIXED_MAX], unread;
	struct lb_flow_key4 short_flows[LB_HASH_MIXED_MAX + 1];
	uint64_t hashes[LB_HASH_MIXED_MAX + 1], expected[LB_HASH_MIXED_MAX];

	(void)state;
	memset(&unread, 0xaa, sizeof(unread));
	for (unsigned run = 0; run < 100; run++) {
		unsigned n = run % (LB_HASH_MIXED_MAX + 1), n_short = 0;
		uint32_t short_keys = 0;

		random_mixed_flows(flows, LB_HASH_MIXED_MAX);
		lb_hash_flows(&key, flows, expected, n);
		memset(hashes, 0x5a, sizeof(hashes));
		memset(short_flows, 0xaa, sizeof(short_flows));
		for (unsigned i = 0; i < n; i++) {
			if (!lb_flow_key_is_ipv4(&flows[i]) || random_u64() % 4 == 0)
				continue;
			short_keys |= UINT32_C(1) << i;
			short_flows[i] = lb_flow_key_shorten(&flows[i]);
			struct lb_flow_key again = lb_flow_key_lengthen(&short_flows[i]);
			assert_memory_equal(&again, &flows[i], sizeof(again));
			flows[i] = unread;
			n_short++;
		}
		lb_hash_flows_mixed(&key, flows, short_flows, short_keys, hashes, n);
		assert_memory_equal(hashes, expected, n * sizeof(*hashes));
		assert_int_equal(UINT64_C(0x5a5a5a5a5a5a5a5a), hashes[n]);

		for (unsigned i = 0, k = 0; i < n; i++)
			if (short_keys >> i & 1) {
				expected[k] = expected[i];
				short_flows[k++] = short_flows[i];
			}
		memset(hashes, 0x5a, sizeof(hashes));
		lb_hash_flows4(&key, short_flows, hashes, n_short);
		assert_memory_equal(hashes, expected, n_short * sizeof(*hashes));
		assert_int_equal(UINT64_C(0x5a5a5a5a5a5a5a5a), hashes[n_short]);

		random_flows(flows, LB_HASH_MIXED_MAX); // none of IPv4
		lb_hash_flows(&key, flows, expected, n);
		memset(hashes, 0x5a, sizeof(hashes));
		lb_hash_flows6(&key, flows, hashes, n);
		assert_memory_equal(hashes, expected, n * sizeof(*hashes));
		assert_int_equal(UINT64_C(0x5a5a5a5a5a5a5a5a), hashes[n]);
	}
}

/* Of a flow's key, its padding left out. @p ipv6: the same addresses, but not in the mapped form. */
static void check_bits(bool ipv6)
{
	enum { N_FLOWS = 4000, N_BITS = offsetof(struct lb_flow_key, zero) * 8 };
	static uint32_t n_flips[N_BITS][64];

	memset(n_flips, 0, sizeof(n_flips));
	for (unsigned i = 0; i < N_FLOWS; i++) {
		struct lb_flow_key flow = sequential_flow(i);
		uint64_t hash;

		if (ipv6)
			flow.src.u64[0] = flow.dst.u64[0] = htonl(0x20010db8);
		hash = hash_one(&flow);
		for (unsigned bit = 0; bit < N_BITS; bit++) {
			uint64_t diff;

			((uint8_t *)&flow)[bit / 8] ^= (uint8_t)(1 << bit % 8);
			diff = hash ^ hash_one(&flow);
			((uint8_t *)&flow)[bit / 8] ^= (uint8_t)(1 << bit % 8);
			for (unsigned j = 0; j < 64; j++)
				n_flips[bit][j] += (uint32_t)(diff >> j & 1);
		}
	}
	// 18944 binomial counts, standard deviation 32: the largest is some 4.3 of them off
	for (unsigned bit = 0; bit < N_BITS; bit++)
		for (unsigned j = 0; j < 64; j++)
			assert_in_range(n_flips[bit][j], N_FLOWS / 2 - 190, N_FLOWS / 2 + 190);
}

static void every_input_bit_flips_half_of_the_output(void **state)
{
	(void)state;
	check_bits(false);
	check_bits(true);
}

static void secret_changes_everything(void **state)
{
	struct lb_flow_key flow = sequential_flow(1);
	uint64_t hash = hash_one(&flow), other;
	struct lb_hash_key other_key;
	unsigned n_flips = 0;

	(void)state;
	for (unsigned bit = 0; bit < 128; bit++) {
		uint8_t other_secret[16];

		memcpy(other_secret, secret, 16);
		other_secret[bit / 8] ^= (uint8_t)(1 << bit % 8);
		lb_hash_key_init(&other_key, other_secret);
		lb_hash_flows(&other_key, &flow, &other, 1);
		assert_int_not_equal(hash, other);
		n_flips += (unsigned)__builtin_popcountll(hash ^ other);
	}
	// binomial: 8192 bits, standard deviation 45
	assert_in_range(n_flips, 4096 - 226, 4096 + 226);
}

static void sequential_flows_do_not_collide(void **state)
{
	enum { N_FLOWS = 1 << 20, N_BUCKETS = 1 << 16 };
	static uint32_t low[N_BUCKETS], high[N_BUCKETS], middle[N_BUCKETS];

	(void)state;
	for (uint32_t i = 0; i < N_FLOWS; i++) {
		struct lb_flow_key flow = sequential_flow(i);
		uint64_t hash = hash_one(&flow);

		low[hash % N_BUCKETS]++;
		middle[(hash >> 24) % N_BUCKETS]++;
		high[hash >> 48]++;
	}
	assert_uniform(low, N_BUCKETS, N_FLOWS);
	assert_uniform(middle, N_BUCKETS, N_FLOWS);
	assert_uniform(high, N_BUCKETS, N_FLOWS);
}

static void flows_spread_over_all_slots(void **state)
{
	enum { N_FLOWS = 1 << 20 };
	static const uint32_t sizes[] = {2, 3, 101, 65537};
	static uint32_t counts[65537];

	(void)state;
	for (unsigned s = 0; s < 4; s++) {
		memset(counts, 0, sizeof(counts));
		for (uint32_t i = 0; i < N_FLOWS; i++) {
			struct lb_flow_key flow = sequential_flow(i);
			uint32_t slot = lb_hash_slot(hash_one(&flow), sizes[s]);

			assert_true(slot < sizes[s]);
			counts[slot]++;
		}
		assert_uniform(counts, sizes[s], N_FLOWS);
	}
}

static void slots_stay_in_range(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t hash = random_u64();

		assert_int_equal(0, lb_hash_slot(hash, 1));
		assert_true(lb_hash_slot(hash, UINT32_MAX) < UINT32_MAX);
		assert_true(lb_hash_slot(hash, 655373) < 655373);
	}
	assert_true(lb_hash_slot(UINT64_MAX, 655373) < 655373);
}

/*
 * The flow table takes bucket and signature from the two halves of a hash. With one half the same
 * for all, the slots must still be uniform: knowing a bucket tells nothing of the slot.
 */
static void slot_is_independent_of_either_half(void **state)
{
	enum { N = 1 << 18, N_SLOTS = 1009 };
	static const uint64_t fixed[] = {0, 1, 0x80000000, 0xffffffff, 0x12345678};

	(void)state;
	for (unsigned f = 0; f < 5; f++) {
		uint32_t by_high[N_SLOTS] = {0}, by_low[N_SLOTS] = {0};

		for (uint32_t i = 0; i < N; i++) {
			uint64_t half = random_u64() >> 32;

			by_high[lb_hash_slot(half << 32 | fixed[f], N_SLOTS)]++;
			by_low[lb_hash_slot(fixed[f] << 32 | half, N_SLOTS)]++;
		}
		assert_uniform(by_high, N_SLOTS, N);
		assert_uniform(by_low, N_SLOTS, N);
	}
}

/* The reverse: flows of a single slot must spread over all buckets and signatures. */
static void flows_of_one_slot_spread_over_all_buckets(void **state)
{
	enum { N = 1 << 23, N_SLOTS = 101, N_BUCKETS = 1 << 10 };
	static const uint32_t slots[] = {0, 1, 50, 100};
	static uint32_t low[4][N_BUCKETS], low_top[4][N_BUCKETS], high[4][N_BUCKETS],
		high_low[4][N_BUCKETS];
	uint32_t n[4] = {0};

	(void)state;
	for (uint32_t i = 0; i < N; i++) {
		uint64_t hash = random_u64();
		uint32_t slot = lb_hash_slot(hash, N_SLOTS);

		for (unsigned s = 0; s < 4; s++) {
			if (slot != slots[s])
				continue;
			n[s]++;
			low[s][hash % N_BUCKETS]++;
			low_top[s][(hash >> 22) % N_BUCKETS]++;
			high_low[s][(hash >> 32) % N_BUCKETS]++;
			high[s][hash >> 54]++;
		}
	}
	for (unsigned s = 0; s < 4; s++) {
		assert_uniform(low[s], N_BUCKETS, n[s]);
		assert_uniform(low_top[s], N_BUCKETS, n[s]);
		assert_uniform(high_low[s], N_BUCKETS, n[s]);
		assert_uniform(high[s], N_BUCKETS, n[s]);
	}
}

static void bytes_of_every_length_and_place_matter(void **state)
{
	uint8_t bytes[64] = {0};
	uint64_t seen[65 + 64 * 8];
	unsigned n = 0;

	(void)state;
	for (unsigned len = 0; len <= 64; len++) // zeros: only the length differs
		seen[n++] = lb_hash_bytes(bytes, len, 0);
	for (unsigned bit = 0; bit < 64 * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		seen[n++] = lb_hash_bytes(bytes, sizeof(bytes), 0);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(seen[i], seen[j]);
}

static void bytes_are_read_wherever_they_lie(void **state)
{
	uint8_t *bytes;

	(void)state;
	for (unsigned len = 0; len <= 24; len++)
		for (unsigned offset = 0; offset < 8; offset++) {
			// an allocation of its own: a byte too many is an error under
			// AddressSanitizer
			bytes = malloc(offset + len + (offset + len == 0));
			assert_non_null(bytes);
			for (unsigned i = 0; i < len; i++)
				bytes[offset + i] = (uint8_t)(i * 7);
			assert_int_equal(
				lb_hash_bytes((const uint8_t[]){0, 7, 14, 21, 28, 35, 42, 49, 56,
						      63, 70, 77, 84, 91, 98, 105, 112, 119, 126,
						      133, 140, 147, 154, 161},
					len, 5),
				lb_hash_bytes(bytes + offset, len, 5));
			free(bytes);
		}
}

static void bytes_spread_and_seeds_separate(void **state)
{
	enum { N = 1 << 20, N_BUCKETS = 4096 };
	static uint32_t low[N_BUCKETS], high[N_BUCKETS], both[N_BUCKETS];
	char name[16];

	(void)state;
	for (uint32_t i = 0; i < N; i++) {
		int len = snprintf(name, sizeof(name), "api-%u", i);
		uint64_t a = lb_hash_bytes(name, (size_t)len, 1),
			 b = lb_hash_bytes(name, (size_t)len, 2);

		low[a % N_BUCKETS]++;
		high[a >> 52]++;
		both[a % 64 * 64 + b % 64]++; // jointly uniform: independent
	}
	assert_uniform(low, N_BUCKETS, N);
	assert_uniform(high, N_BUCKETS, N);
	assert_uniform(both, N_BUCKETS, N);
}

static int setup(void **state)
{
	(void)state;
	lb_hash_key_init(&key, secret);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_keys_are_aes_of_counters),
		cmocka_unit_test(values_are_the_same_in_every_release),
		cmocka_unit_test(portable_path_gives_the_same),
		cmocka_unit_test(value_does_not_depend_on_the_burst),
		cmocka_unit_test(short_keys_give_the_same),
		cmocka_unit_test(every_input_bit_flips_half_of_the_output),
		cmocka_unit_test(secret_changes_everything),
		cmocka_unit_test(sequential_flows_do_not_collide),
		cmocka_unit_test(flows_spread_over_all_slots),
		cmocka_unit_test(slots_stay_in_range),
		cmocka_unit_test(slot_is_independent_of_either_half),
		cmocka_unit_test(flows_of_one_slot_spread_over_all_buckets),
		cmocka_unit_test(bytes_of_every_length_and_place_matter),
		cmocka_unit_test(bytes_are_read_wherever_they_lie),
		cmocka_unit_test(bytes_spread_and_seeds_separate),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
