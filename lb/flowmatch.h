/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_FLOWMATCH_H
#define LB_FLOWMATCH_H

#include <stdbool.h>
#include <stdint.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

/*
 * Comparison of a bucket's eight entries with a signature (their high 32 bits), all at once: bit w
 * of the result stands for way w. One body per instruction set, all compiled into every x86-64
 * build, so that a test can hold them against each other; lb_flow_match() and lb_flow_match_free()
 * are the best that the build's -march has. Little endian is assumed where the halves of a word are
 * addressed.
 */

#ifdef __AVX512F__
#define LB_FLOW_AVX512 /* the build's own flags have it: no attribute, so that it is inlined */
#else
#define LB_FLOW_AVX512 __attribute__((target("avx512f")))
#endif
#ifdef __AVX2__
#define LB_FLOW_AVX2
#else
#define LB_FLOW_AVX2 __attribute__((target("avx2")))
#endif
#ifdef __SSE4_1__
#define LB_FLOW_SSE
#else
#define LB_FLOW_SSE __attribute__((target("sse4.1")))
#endif

static inline uint32_t lb_flow_match_scalar(const uint64_t entries[8], uint32_t signature)
{
	uint32_t mask = 0;

	for (unsigned way = 0; way < 8; way++)
		mask |= (uint32_t)((uint32_t)(entries[way] >> 32) == signature) << way;
	return mask;
}

static inline uint32_t lb_flow_match_free_scalar(const uint64_t entries[8])
{
	uint32_t mask = 0;

	for (unsigned way = 0; way < 8; way++)
		mask |= (uint32_t)(entries[way] == 0) << way;
	return mask;
}

#ifdef __x86_64__

/*
 * GCC 12.2 can spill the zero extension of a mask register as one byte (kmovb to memory) and read
 * it back as four, so that ways beyond 7 match: seen at -O1 with sanitizers. Having the byte in a
 * general register first leaves it nothing to spill but the byte.
 */
static inline uint32_t lb_flow_mask_bits(uint8_t mask)
{
	__asm__("" : "+r"(mask));
	return mask;
}

LB_FLOW_AVX512 static inline uint32_t lb_flow_match_avx512(
	const uint64_t entries[8], uint32_t signature)
{
	__m512i high = _mm512_srli_epi64(_mm512_load_si512(entries), 32);

	return lb_flow_mask_bits(_mm512_cmpeq_epi64_mask(high, _mm512_set1_epi64(signature)));
}

LB_FLOW_AVX512 static inline uint32_t lb_flow_match_free_avx512(const uint64_t entries[8])
{
	__m512i words = _mm512_load_si512(entries);

	return lb_flow_mask_bits(_mm512_testn_epi64_mask(words, words));
}

// A 32-bit comparison sets the sign of each 64-bit lane from its high half, which is what
// movemask_pd collects.
LB_FLOW_AVX2 static inline uint32_t lb_flow_match_avx2(
	const uint64_t entries[8], uint32_t signature)
{
	const __m256i *lines = (const __m256i *)entries;
	__m256i wanted = _mm256_set1_epi32((int)signature);
	__m256i low = _mm256_cmpeq_epi32(_mm256_load_si256(lines), wanted);
	__m256i high = _mm256_cmpeq_epi32(_mm256_load_si256(lines + 1), wanted);

	return (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(low)) |
	       (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4;
}

LB_FLOW_AVX2 static inline uint32_t lb_flow_match_free_avx2(const uint64_t entries[8])
{
	const __m256i *lines = (const __m256i *)entries;
	__m256i zero = _mm256_setzero_si256();
	__m256i low = _mm256_cmpeq_epi64(_mm256_load_si256(lines), zero);
	__m256i high = _mm256_cmpeq_epi64(_mm256_load_si256(lines + 1), zero);

	return (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(low)) |
	       (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4;
}

LB_FLOW_SSE static inline uint32_t lb_flow_match_sse(const uint64_t entries[8], uint32_t signature)
{
	const __m128i *lines = (const __m128i *)entries;
	__m128i wanted = _mm_set1_epi32((int)signature);
	uint32_t mask = 0;

	for (unsigned i = 0; i < 4; i++) {
		__m128i equal = _mm_cmpeq_epi32(_mm_load_si128(lines + i), wanted);

		mask |= (uint32_t)_mm_movemask_pd(_mm_castsi128_pd(equal)) << (2 * i);
	}
	return mask;
}

LB_FLOW_SSE static inline uint32_t lb_flow_match_free_sse(const uint64_t entries[8])
{
	const __m128i *lines = (const __m128i *)entries;
	__m128i zero = _mm_setzero_si128();
	uint32_t mask = 0;

	for (unsigned i = 0; i < 4; i++) {
		__m128i equal = _mm_cmpeq_epi64(_mm_load_si128(lines + i), zero);

		mask |= (uint32_t)_mm_movemask_pd(_mm_castsi128_pd(equal)) << (2 * i);
	}
	return mask;
}

#endif /* __x86_64__ */

/*
 * 512 bits only where VAES says that the CPU is of Ice Lake's or Zen 4's age or later: those before
 * (Skylake-SP, Cascade Lake) lower their clock and lose a port while such instructions run, which
 * costs the packet path a tenth.
 */
#if defined(__AVX512F__) && defined(__VAES__)
#define LB_FLOW_MATCH_IMPL avx512
#elif defined(__AVX2__)
#define LB_FLOW_MATCH_IMPL avx2
#elif defined(__SSE4_1__)
#define LB_FLOW_MATCH_IMPL sse
#else
#define LB_FLOW_MATCH_IMPL scalar
#endif
#define LB_FLOW_CONCAT_(a, b) a##b
#define LB_FLOW_CONCAT(a, b) LB_FLOW_CONCAT_(a, b)

/** Ways of the 64-byte aligned bucket whose signature is @p signature; a free entry's is 0. */
static inline uint32_t lb_flow_match(const uint64_t entries[8], uint32_t signature)
{
	return LB_FLOW_CONCAT(lb_flow_match_, LB_FLOW_MATCH_IMPL)(entries, signature);
}

/** Whether any way of @p a has signature @p in_a, or any of @p b @p in_b: in fewer instructions than which one it is. */
static inline bool lb_flow_match_any(const uint64_t a[8], uint32_t in_a, const uint64_t b[8], uint32_t in_b)
{
#if defined(__AVX2__)
	const __m256i *lines_a = (const __m256i *)a, *lines_b = (const __m256i *)b;
	__m256i wanted_a = _mm256_set1_epi32((int)in_a), wanted_b = _mm256_set1_epi32((int)in_b);
	__m256i found_a = _mm256_or_si256(_mm256_cmpeq_epi32(_mm256_load_si256(lines_a), wanted_a),
		_mm256_cmpeq_epi32(_mm256_load_si256(lines_a + 1), wanted_a));
	__m256i found_b = _mm256_or_si256(_mm256_cmpeq_epi32(_mm256_load_si256(lines_b), wanted_b),
		_mm256_cmpeq_epi32(_mm256_load_si256(lines_b + 1), wanted_b));

	return _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_or_si256(found_a, found_b))) != 0;
#else
	return (lb_flow_match(a, in_a) | lb_flow_match(b, in_b)) != 0;
#endif
}

/** Ways of the 64-byte aligned bucket whose signatures are odd. */
static inline uint32_t lb_flow_odd(const uint64_t entries[8])
{
#if defined(__AVX2__)
	const __m256i *lines = (const __m256i *)entries;
	__m256i low = _mm256_slli_epi64(_mm256_load_si256(lines), 31);
	__m256i high = _mm256_slli_epi64(_mm256_load_si256(lines + 1), 31);

	return (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(low)) |
	       (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4;
#else
	uint32_t odd = 0;

	for (unsigned way = 0; way < 8; way++)
		odd |= (uint32_t)(entries[way] >> 32 & 1) << way;
	return odd;
#endif
}

/** Ways of the 64-byte aligned bucket that are free. */
static inline uint32_t lb_flow_match_free(const uint64_t entries[8])
{
	return LB_FLOW_CONCAT(lb_flow_match_free_, LB_FLOW_MATCH_IMPL)(entries);
}

#endif
