/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/hash.h"

#include <endian.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

/*
 * The flow hash. A flow key of IPv4 has 13 bytes that are not always the same, which fit one AES block: whitened, and
 * four rounds with keys of their own. One of IPv6 has three blocks: the source is whitened; after one round the
 * destination is XORed to it, after two more what else there is; four rounds follow. Round keys and blocks go in by one
 * XOR.
 *
 * Each differential trail through four rounds of AES has at least 25 active S-boxes (Daemen and Rijmen, The Design of
 * Rijndael, section 9.5): no difference that an attacker could choose has a greater probability than 2^-150, and he never
 * sees what comes out. With IPv6 a difference of the sources could also be taken back by another before the last four
 * rounds. By that of the ports: four bytes of one column, for which one active byte before MixColumns is enough; it takes
 * four in one column of the round before, and these all 16 of the first: 21 S-boxes, 2^-126. By that of the
 * destinations: with 2^-6 if those of two services are as it needs; but then the services differ, by which their entries
 * are told apart.
 */
#define N_BLOCKS 3
#define N_LAST_ROUNDS 4
#define N_ROUNDS4 4
enum {
	KEY_BLOCKS = 0, /* one for each of the three */
	KEY_SPREAD = KEY_BLOCKS + N_BLOCKS, /* of the round before the last block */
	KEY_LAST,
	KEY_WHITEN4 = KEY_LAST + N_LAST_ROUNDS,
	KEY_ROUNDS4,
	N_KEYS = KEY_ROUNDS4 + N_ROUNDS4
};
static_assert(N_KEYS == LB_HASH_N_ROUND_KEYS, "one round key each");

/* One instruction set's functions, each for any number of keys of one kind. */
struct impl {
	const char *name;
	void (*long_keys)(
		const struct lb_hash_key *key, const struct lb_flow_key *keys, uint64_t *hashes, unsigned n);
	void (*short_keys)(
		const struct lb_hash_key *key, const struct lb_flow_key4 *keys, uint64_t *hashes, unsigned n);
};

/* An AES state: four columns of four bytes, the first byte lowest (FIPS 197, section 3.4). */
struct aes_block {
	uint32_t column[4];
};

/* SubBytes and MixColumns of one byte in row 0: bytes 2s, s, s, 3s, from the lowest. */
static uint32_t round_table[256];

static uint8_t gf_double(uint8_t x)
{
	return (uint8_t)(x << 1 ^ (x & 0x80 ? 0x1b : 0));
}

static uint8_t rotl8(uint8_t x, unsigned n)
{
	return (uint8_t)(x << n | x >> (8 - n));
}

static uint32_t rotl32(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

/* Tables from FIPS 197's definitions: inverses in GF(2^8) by logarithms to the generator 3. */
__attribute__((constructor)) static void init_round_table(void)
{
	uint8_t power[255], logarithm[256] = {0};
	uint8_t x = 1;

	for (unsigned i = 0; i < 255; i++) {
		power[i] = x;
		logarithm[x] = (uint8_t)i;
		x ^= gf_double(x);
	}
	for (unsigned i = 0; i < 256; i++) {
		uint8_t inverse = i == 0 ? 0 : power[(255u - logarithm[i]) % 255u];
		uint8_t s = inverse ^ rotl8(inverse, 1) ^ rotl8(inverse, 2) ^ rotl8(inverse, 3) ^
			    rotl8(inverse, 4) ^ 0x63;
		uint8_t s2 = gf_double(s);

		round_table[i] =
			s2 | (uint32_t)s << 8 | (uint32_t)s << 16 | (uint32_t)(s2 ^ s) << 24;
	}
}

static struct aes_block block_load(const void *bytes)
{
	struct aes_block b;

	memcpy(&b, bytes, sizeof(b));
	for (unsigned i = 0; i < 4; i++)
		b.column[i] = le32toh(b.column[i]);
	return b;
}

static struct aes_block block_xor(struct aes_block a, struct aes_block b)
{
	for (unsigned i = 0; i < 4; i++)
		a.column[i] ^= b.column[i];
	return a;
}

static uint8_t sbox(uint8_t x)
{
	return (uint8_t)(round_table[x] >> 8);
}

static uint8_t row(const struct aes_block *b, unsigned row_idx, unsigned column)
{
	return (uint8_t)(b->column[(column + row_idx) & 3] >> 8 * row_idx); // ShiftRows
}

static uint32_t round_column(const struct aes_block *b, unsigned column)
{
	return round_table[row(b, 0, column)] ^ rotl32(round_table[row(b, 1, column)], 8) ^
	       rotl32(round_table[row(b, 2, column)], 16) ^
	       rotl32(round_table[row(b, 3, column)], 24);
}

/* One round as the AESENC instruction does it. Not a loop: compilers would leave the columns in
 * memory. */
static struct aes_block aes_round(struct aes_block b, struct aes_block key)
{
	return (struct aes_block){{
		key.column[0] ^ round_column(&b, 0),
		key.column[1] ^ round_column(&b, 1),
		key.column[2] ^ round_column(&b, 2),
		key.column[3] ^ round_column(&b, 3),
	}};
}

static struct aes_block aes_last_round(struct aes_block b, struct aes_block key)
{
	struct aes_block out;

	for (unsigned i = 0; i < 4; i++)
		out.column[i] =
			key.column[i] ^ (sbox(row(&b, 0, i)) | (uint32_t)sbox(row(&b, 1, i)) << 8 |
						(uint32_t)sbox(row(&b, 2, i)) << 16 |
						(uint32_t)sbox(row(&b, 3, i)) << 24);
	return out;
}

static struct aes_block aes_next_key(struct aes_block key, uint8_t rcon)
{
	uint32_t last = key.column[3];
	struct aes_block next = key;

	next.column[0] ^=
		rcon ^ (sbox((uint8_t)(last >> 8)) | (uint32_t)sbox((uint8_t)(last >> 16)) << 8 |
			       (uint32_t)sbox((uint8_t)(last >> 24)) << 16 |
			       (uint32_t)sbox((uint8_t)last) << 24);
	for (unsigned i = 1; i < 4; i++)
		next.column[i] ^= next.column[i - 1];
	return next;
}

/* AES-128 (FIPS 197), one block. */
static struct aes_block aes_encrypt(struct aes_block key, struct aes_block b)
{
	uint8_t rcon = 1;

	b = block_xor(b, key);
	for (unsigned i = 1; i < 10; i++, rcon = gf_double(rcon)) {
		key = aes_next_key(key, rcon);
		b = aes_round(b, key);
	}
	return aes_last_round(b, aes_next_key(key, rcon));
}

void lb_hash_key_init(struct lb_hash_key *key, const uint8_t secret[16])
{
	struct aes_block cipher_key = block_load(secret);
	// names the use, so that no other use of the secret can ever expand to the same keys
	uint8_t counter[16] = "fulcrum flow 1";

	memset(key, 0, sizeof(*key));
	for (unsigned i = 0; i < N_KEYS; i++) {
		counter[15] = (uint8_t)i;
		struct aes_block b = aes_encrypt(cipher_key, block_load(counter));

		for (unsigned j = 0; j < 4; j++)
			b.column[j] = htole32(b.column[j]);
		memcpy(key->round_keys[i], &b, sizeof(b));
	}
}

static uint64_t hash_flow_portable(const struct aes_block k[N_KEYS], const struct lb_flow_key *flow)
{
	const uint8_t *bytes = (const uint8_t *)flow;
	struct aes_block b = block_xor(block_load(bytes), k[KEY_BLOCKS]);

	for (unsigned i = 1; i < N_BLOCKS; i++) {
		if (i == N_BLOCKS - 1)
			b = aes_round(b, k[KEY_SPREAD]);
		b = aes_round(b, block_xor(block_load(bytes + 16 * i), k[KEY_BLOCKS + i]));
	}
	for (unsigned i = 0; i < N_LAST_ROUNDS; i++)
		b = aes_round(b, k[KEY_LAST + i]);
	return (b.column[0] ^ b.column[2]) | (uint64_t)(b.column[1] ^ b.column[3]) << 32;
}

static uint64_t hash_flow4_portable(const struct aes_block k[N_KEYS], const struct lb_flow_key4 *flow)
{
	struct aes_block b = block_xor(block_load(flow), k[KEY_WHITEN4]);

	for (unsigned i = 0; i < N_ROUNDS4; i++)
		b = aes_round(b, k[KEY_ROUNDS4 + i]);
	return (b.column[0] ^ b.column[2]) | (uint64_t)(b.column[1] ^ b.column[3]) << 32;
}

static void load_keys(const struct lb_hash_key *key, struct aes_block k[N_KEYS])
{
	for (unsigned i = 0; i < N_KEYS; i++)
		k[i] = block_load(key->round_keys[i]);
}

static void hash_long_portable(
	const struct lb_hash_key *key, const struct lb_flow_key *keys, uint64_t *hashes, unsigned n)
{
	struct aes_block k[N_KEYS];

	load_keys(key, k);
	for (unsigned i = 0; i < n; i++)
		hashes[i] = hash_flow_portable(k, &keys[i]);
}

static void hash_short_portable(
	const struct lb_hash_key *key, const struct lb_flow_key4 *keys, uint64_t *hashes, unsigned n)
{
	struct aes_block k[N_KEYS];

	load_keys(key, k);
	for (unsigned i = 0; i < n; i++)
		hashes[i] = hash_flow4_portable(k, &keys[i]);
}

static const struct impl portable = {"portable", hash_long_portable, hash_short_portable};

#ifdef __x86_64__
#define AESNI __attribute__((target("aes,sse2")))

/* The halves of two blocks, XORed. */
AESNI __attribute__((always_inline)) static inline __m128i fold_two(__m128i a, __m128i b)
{
	return _mm_xor_si128(_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b));
}

/* The halves of each of @p width blocks, XORed. */
AESNI __attribute__((always_inline)) static inline void fold(const __m128i *b, uint64_t *hashes, unsigned width)
{
	unsigned i = 0;

	// In stores as wide as lb_flowtable_buckets()'s loads: narrower ones would make those wait.
#ifdef __AVX2__
	for (; i + 4 <= width; i += 4) {
		__m128i low = fold_two(b[i], b[i + 1]), high = fold_two(b[i + 2], b[i + 3]);

		_mm256_storeu_si256((__m256i *)&hashes[i], _mm256_set_m128i(high, low));
	}
#endif
	for (; i + 2 <= width; i += 2)
		_mm_storeu_si128((__m128i *)&hashes[i], fold_two(b[i], b[i + 1]));
	for (; i < width; i++)
		_mm_storel_epi64((__m128i *)&hashes[i], fold_two(b[i], b[i]));
}

/* @p width keys at once: a round takes 3 to 4 cycles, but two can start in each. */
AESNI __attribute__((always_inline)) static inline void hash_long_aesni_n(
	const __m128i *k, const struct lb_flow_key *keys, uint64_t *hashes, unsigned width)
{
	__m128i b[8];

	for (unsigned i = 0; i < width; i++)
		b[i] = _mm_xor_si128(k[KEY_BLOCKS], _mm_loadu_si128((const __m128i *)&keys[i]));
	for (unsigned j = 1; j < N_BLOCKS; j++) {
		for (unsigned i = 0; j == N_BLOCKS - 1 && i < width; i++)
			b[i] = _mm_aesenc_si128(b[i], k[KEY_SPREAD]);
		for (unsigned i = 0; i < width; i++)
			b[i] = _mm_aesenc_si128(b[i],
				_mm_xor_si128(k[KEY_BLOCKS + j], _mm_loadu_si128((const __m128i *)&keys[i] + j)));
	}
	for (unsigned r = 0; r < N_LAST_ROUNDS; r++)
		for (unsigned i = 0; i < width; i++)
			b[i] = _mm_aesenc_si128(b[i], k[KEY_LAST + r]);
	fold(b, hashes, width);
}

AESNI static void hash_long_aesni(
	const struct lb_hash_key *key, const struct lb_flow_key *keys, uint64_t *hashes, unsigned n)
{
	const __m128i *k = (const __m128i *)key->round_keys;
	unsigned i = 0;

	for (; i + 8 <= n; i += 8)
		hash_long_aesni_n(k, &keys[i], &hashes[i], 8);
	for (; i < n; i++)
		hash_long_aesni_n(k, &keys[i], &hashes[i], 1);
}

AESNI __attribute__((always_inline)) static inline void hash_short_aesni_n(
	const __m128i *k, const struct lb_flow_key4 *keys, uint64_t *hashes, unsigned width)
{
	__m128i b[8];

	for (unsigned i = 0; i < width; i++)
		b[i] = _mm_xor_si128(k[KEY_WHITEN4], _mm_load_si128((const __m128i *)&keys[i]));
	for (unsigned r = 0; r < N_ROUNDS4; r++)
		for (unsigned i = 0; i < width; i++)
			b[i] = _mm_aesenc_si128(b[i], k[KEY_ROUNDS4 + r]);
	fold(b, hashes, width);
}

AESNI static void hash_short_aesni(
	const struct lb_hash_key *key, const struct lb_flow_key4 *keys, uint64_t *hashes, unsigned n)
{
	const __m128i *k = (const __m128i *)key->round_keys;
	unsigned i = 0;

	for (; i + 8 <= n; i += 8)
		hash_short_aesni_n(k, &keys[i], &hashes[i], 8);
	for (; i + 4 <= n; i += 4)
		hash_short_aesni_n(k, &keys[i], &hashes[i], 4);
	for (; i < n; i++)
		hash_short_aesni_n(k, &keys[i], &hashes[i], 1);
}

#if !defined(__VAES__) || !defined(__AVX512F__)
static const struct impl aesni = {"aes-ni", hash_long_aesni, hash_short_aesni};
#endif

#define VAES __attribute__((target("vaes,aes,avx512f")))

/* The halves of each of eight blocks, XORed. */
VAES static inline __m512i fold_eight(__m512i a, __m512i b)
{
	const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);

	a = _mm512_xor_si512(a, _mm512_unpackhi_epi64(a, a));
	b = _mm512_xor_si512(b, _mm512_unpackhi_epi64(b, b));
	return _mm512_permutex2var_epi64(a, even, b);
}

/* The @p n-th block of each of four keys. */
VAES static inline __m512i blocks_of_four(const struct lb_flow_key *keys, unsigned n)
{
	const __m128i *blocks = (const __m128i *)keys + n;
	__m512i four = _mm512_castsi128_si512(_mm_loadu_si128(blocks));

	four = _mm512_inserti32x4(four, _mm_loadu_si128(blocks + N_BLOCKS), 1);
	four = _mm512_inserti32x4(four, _mm_loadu_si128(blocks + 2 * N_BLOCKS), 2);
	return _mm512_inserti32x4(four, _mm_loadu_si128(blocks + 3 * N_BLOCKS), 3);
}

/* Two groups of four keys, since a round takes 4 cycles. */
VAES static unsigned hash_long_vaes8(
	const __m128i *k, const struct lb_flow_key *keys, uint64_t *hashes, unsigned n)
{
	unsigned i = 0;

	for (; i + 8 <= n; i += 8) {
		__m512i round_key = _mm512_broadcast_i32x4(k[KEY_BLOCKS]);
		__m512i a = _mm512_xor_si512(round_key, blocks_of_four(&keys[i], 0));
		__m512i b = _mm512_xor_si512(round_key, blocks_of_four(&keys[i + 4], 0));

		for (unsigned j = 1; j < N_BLOCKS; j++) {
			if (j == N_BLOCKS - 1) {
				round_key = _mm512_broadcast_i32x4(k[KEY_SPREAD]);
				a = _mm512_aesenc_epi128(a, round_key);
				b = _mm512_aesenc_epi128(b, round_key);
			}
			round_key = _mm512_broadcast_i32x4(k[KEY_BLOCKS + j]);
			a = _mm512_aesenc_epi128(a, _mm512_xor_si512(round_key, blocks_of_four(&keys[i], j)));
			b = _mm512_aesenc_epi128(b, _mm512_xor_si512(round_key, blocks_of_four(&keys[i + 4], j)));
		}
		for (unsigned r = 0; r < N_LAST_ROUNDS; r++) {
			round_key = _mm512_broadcast_i32x4(k[KEY_LAST + r]);
			a = _mm512_aesenc_epi128(a, round_key);
			b = _mm512_aesenc_epi128(b, round_key);
		}
		_mm512_storeu_si512(&hashes[i], fold_eight(a, b));
	}
	return i;
}

VAES static unsigned hash_short_vaes8(
	const __m128i *k, const struct lb_flow_key4 *keys, uint64_t *hashes, unsigned n)
{
	const __m512i whiten = _mm512_broadcast_i32x4(k[KEY_WHITEN4]);
	unsigned i = 0;

	for (; i + 8 <= n; i += 8) {
		__m512i a = _mm512_xor_si512(whiten, _mm512_loadu_si512(&keys[i]));
		__m512i b = _mm512_xor_si512(whiten, _mm512_loadu_si512(&keys[i + 4]));

		for (unsigned r = 0; r < N_ROUNDS4; r++) {
			__m512i key = _mm512_broadcast_i32x4(k[KEY_ROUNDS4 + r]);

			a = _mm512_aesenc_epi128(a, key);
			b = _mm512_aesenc_epi128(b, key);
		}
		_mm512_storeu_si512(&hashes[i], fold_eight(a, b));
	}
	return i;
}

VAES static void hash_long_vaes(
	const struct lb_hash_key *key, const struct lb_flow_key *keys, uint64_t *hashes, unsigned n)
{
	unsigned done = hash_long_vaes8((const __m128i *)key->round_keys, keys, hashes, n);

	hash_long_aesni(key, keys + done, hashes + done, n - done);
}

VAES static void hash_short_vaes(
	const struct lb_hash_key *key, const struct lb_flow_key4 *keys, uint64_t *hashes, unsigned n)
{
	unsigned done = hash_short_vaes8((const __m128i *)key->round_keys, keys, hashes, n);

	hash_short_aesni(key, keys + done, hashes + done, n - done);
}

static const struct impl vaes = {"vaes", hash_long_vaes, hash_short_vaes};
#endif

#if defined(__VAES__) && defined(__AVX512F__)
#define impl (&vaes)
#else
static const struct impl *impl = &portable;

#ifdef __x86_64__
// Clang 14, with which the fuzz targets are built, does not know "vaes" as a feature.
static bool cpu_has_vaes(void)
{
	unsigned a, b, c = 0, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_VAES) != 0;
}

__attribute__((constructor)) static void choose_impl(void)
{
	__builtin_cpu_init();
	if (cpu_has_vaes() && __builtin_cpu_supports("avx512f"))
		impl = &vaes;
	else if (__builtin_cpu_supports("aes"))
		impl = &aesni;
}
#endif
#endif

// False at the first word of nearly all keys of IPv6.
static inline bool may_be_short(const struct lb_flow_key *key)
{
	return key->src.u64[0] == 0 && lb_flow_key_is_ipv4(key);
}

/*
 * Sorted by kind first: a register holds several keys of one kind. The kind is the flow's, not the form in which its key
 * is: a packet of IPv4 that was not plain has it in keys[i].
 */
static void hash_mixed(const struct impl *by, const struct lb_hash_key *key, const struct lb_flow_key *keys,
	const struct lb_flow_key4 *keys4, uint32_t short_keys, uint64_t *hashes, unsigned n)
{
	struct lb_flow_key4 sorted4[LB_HASH_MIXED_MAX];
	struct lb_flow_key sorted[LB_HASH_MIXED_MAX];
	uint64_t hashes_of[2][LB_HASH_MIXED_MAX];
	unsigned n_of[2] = {0, 0};
	uint32_t ipv4 = short_keys;

	for (unsigned i = 0; i < n; i++) {
		if (short_keys >> i & 1) {
			sorted4[n_of[1]++] = keys4[i];
		} else if (may_be_short(&keys[i])) {
			sorted4[n_of[1]++] = lb_flow_key_shorten(&keys[i]);
			ipv4 |= UINT32_C(1) << i;
		} else {
			sorted[n_of[0]++] = keys[i];
		}
	}
	if (n_of[0] != 0)
		by->long_keys(key, sorted, hashes_of[0], n_of[0]);
	if (n_of[1] != 0)
		by->short_keys(key, sorted4, hashes_of[1], n_of[1]);
	n_of[0] = n_of[1] = 0;
	for (unsigned i = 0; i < n; i++) {
		unsigned kind = ipv4 >> i & 1;

		hashes[i] = hashes_of[kind][n_of[kind]++];
	}
}

static void hash_flows(const struct impl *by, const struct lb_hash_key *key, const struct lb_flow_key *keys,
	uint64_t *hashes, unsigned n)
{
	struct lb_flow_key4 keys4[LB_HASH_MIXED_MAX];

	for (unsigned done = 0, m; done < n; done += m) {
		uint32_t short_keys = 0;

		m = n - done < LB_HASH_MIXED_MAX ? n - done : LB_HASH_MIXED_MAX;
		for (unsigned i = 0; i < m; i++) {
			if (!may_be_short(&keys[done + i]))
				continue;
			keys4[i] = lb_flow_key_shorten(&keys[done + i]);
			short_keys |= UINT32_C(1) << i;
		}
		if (short_keys == 0)
			by->long_keys(key, keys + done, hashes + done, m);
		else if (short_keys == UINT32_MAX >> (LB_HASH_MIXED_MAX - m))
			by->short_keys(key, keys4, hashes + done, m);
		else
			hash_mixed(by, key, keys + done, keys4, short_keys, hashes + done, m);
	}
}

void lb_hash_flows(
	const struct lb_hash_key *key, const struct lb_flow_key *keys, uint64_t *hashes, unsigned n)
{
	hash_flows(impl, key, keys, hashes, n);
}

void lb_hash_flows4(const struct lb_hash_key *key, const struct lb_flow_key4 *keys, uint64_t *hashes, unsigned n)
{
	impl->short_keys(key, keys, hashes, n);
}

void lb_hash_flows6(const struct lb_hash_key *key, const struct lb_flow_key *keys, uint64_t *hashes, unsigned n)
{
	impl->long_keys(key, keys, hashes, n);
}

void lb_hash_flows_mixed(const struct lb_hash_key *key, const struct lb_flow_key *keys,
	const struct lb_flow_key4 *keys4, uint32_t short_keys, uint64_t *hashes, unsigned n)
{
	hash_mixed(impl, key, keys, keys4, short_keys, hashes, n);
}

void lb_hash_flows_portable(
	const struct lb_hash_key *key, const struct lb_flow_key *keys, uint64_t *hashes, unsigned n)
{
	hash_flows(&portable, key, keys, hashes, n);
}

const char *lb_hash_impl(void)
{
	return impl->name;
}

uint64_t lb_hash_bytes(const void *data, size_t len_bytes, uint64_t seed)
{
	const uint8_t *bytes = data;
	uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ seed;
	uint64_t word;

	// the length goes first, so that the padding of the last word is not ambiguous
	hash = (hash ^ len_bytes) * UINT64_C(0x100000001b3);
	hash ^= hash >> 32;
	for (; len_bytes > 0; len_bytes -= len_bytes < 8 ? len_bytes : 8, bytes += 8) {
		word = 0;
		memcpy(&word, bytes, len_bytes < 8 ? len_bytes : 8);
		// the shift carries the high bits back: a product alone only moves bits upwards
		hash = (hash ^ le64toh(word)) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 32;
	}
	hash = (hash ^ hash >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	hash = (hash ^ hash >> 27) * UINT64_C(0x94d049bb133111eb);
	return hash ^ hash >> 31;
}
