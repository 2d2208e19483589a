/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_PARSE_EIGHT_H
#define LB_DATAPLANE_PARSE_EIGHT_H

#include <immintrin.h>

#include "dataplane/burst.h"

/*
 * parse_plain() of parse.c for eight packets of one family at once. Their headers are turned by 90 degrees: a register holds the
 * same four bytes of all eight, so that each check is made once. What is bad of a packet, whatever it is, collects in its
 * lane of one register. AVX2; lanes are packets 0 to 3 in the low half, 4 to 7 in the high half, as what unpacks does.
 */

/* Bytes of a TCP packet without options. Shorter frames are left to others. */
#define LB_EIGHT_MIN_BYTES (RTE_ETHER_HDR_LEN + 20u + 20u)
#define LB_EIGHT_MIN_BYTES6 (RTE_ETHER_HDR_LEN + 40u + 20u)

/* 16 bytes of packets i and i + 4, for i from 0 to 3. */
struct lb_eight_rows {
	__m256i r[4];
};

static inline __attribute__((always_inline)) struct lb_eight_rows lb_eight_load(
	const uint8_t *const *at, unsigned offset)
{
	struct lb_eight_rows rows;

	__asm__ volatile("" ::: "memory"); // not sooner: there are no registers to keep them in
	for (unsigned i = 0; i < 4; i++)
		rows.r[i] = _mm256_inserti128_si256(
			_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(at[i] + offset))),
			_mm_loadu_si128((const __m128i *)(at[i + 4] + offset)), 1);
	return rows;
}

/* The @p n-th four bytes of each row: of eight packets. */
static inline __attribute__((always_inline)) __m256i lb_eight_column(const struct lb_eight_rows *rows, unsigned n)
{
	__m256i a = n < 2 ? _mm256_unpacklo_epi32(rows->r[0], rows->r[1]) : _mm256_unpackhi_epi32(rows->r[0], rows->r[1]);
	__m256i b = n < 2 ? _mm256_unpacklo_epi32(rows->r[2], rows->r[3]) : _mm256_unpackhi_epi32(rows->r[2], rows->r[3]);

	return n % 2 == 0 ? _mm256_unpacklo_epi64(a, b) : _mm256_unpackhi_epi64(a, b);
}

/*
 * What the lanes are compared with, in memory: compilers would make each constant anew for every eight packets, in three
 * instructions.
 */
struct lb_eight_constants {
	uint32_t ethertype_mask[8], ethertype[8]; /* of IPv4, with version and header length behind it */
	uint32_t byte[8], fragment_mask[8];       /* offset and more-fragments bit */
	uint32_t words_sign[8], words_one[8], words_bias[8];
	uint32_t word[8];
	uint32_t n1[8], n2[8], n8[8], n20[8], n31[8], n34[8], n54[8], n60[8], n127[8], n223[8];
	uint32_t tcp[8], udp[8], flags_good[8], flags_mask[8], family[8], offsets[8];
	uint32_t ethertype6_mask[8], ethertype6[8], n74[8], family6[8], offsets6[8];
	uint32_t be16_0[8], be16_2[8]; /* two bytes in network order, from byte 0 or 2 of each lane on */
};

#define LB_EIGHT_ALL(n) {n, n, n, n, n, n, n, n}
#define LB_EIGHT_BE16(at) \
	{0x80800001u + (at), 0x80800405u + (at), 0x80800809u + (at), 0x80800c0du + (at), 0x80800001u + (at), \
		0x80800405u + (at), 0x80800809u + (at), 0x80800c0du + (at)}
/** @p good: a bit for each combination of five TCP flags that may stand together. */
#define LB_EIGHT_CONSTANTS(good)                                                                              \
	{                                                                                                     \
		.ethertype_mask = LB_EIGHT_ALL(0xffffffu), .ethertype = LB_EIGHT_ALL(0x450008u),              \
		.byte = LB_EIGHT_ALL(0xffu), .fragment_mask = LB_EIGHT_ALL(0xff3f0000u),                      \
		.words_sign = LB_EIGHT_ALL(0x80008000u), .words_one = LB_EIGHT_ALL(0x00010001u),              \
		.words_bias = LB_EIGHT_ALL(5u * 65536u), .word = LB_EIGHT_ALL(0xffffu), .n1 = LB_EIGHT_ALL(1u), \
		.n2 = LB_EIGHT_ALL(2u), .n8 = LB_EIGHT_ALL(8u), .n20 = LB_EIGHT_ALL(20u),                     \
		.n31 = LB_EIGHT_ALL(31u), .n34 = LB_EIGHT_ALL(34u), .n54 = LB_EIGHT_ALL(54u), .n60 = LB_EIGHT_ALL(60u), \
		.n127 = LB_EIGHT_ALL(127u), .n223 = LB_EIGHT_ALL(223u), .tcp = LB_EIGHT_ALL(IPPROTO_TCP),     \
		.udp = LB_EIGHT_ALL(IPPROTO_UDP), .flags_good = LB_EIGHT_ALL(good),                           \
		.flags_mask = LB_EIGHT_ALL(0xff000000u), .family = LB_EIGHT_ALL(4u << 16),                    \
		.offsets = LB_EIGHT_ALL(RTE_ETHER_HDR_LEN | (RTE_ETHER_HDR_LEN + 20u) << 16),                 \
		.ethertype6_mask = LB_EIGHT_ALL(0xf0ffffu), .ethertype6 = LB_EIGHT_ALL(0x60dd86u),            \
		.n74 = LB_EIGHT_ALL(LB_EIGHT_MIN_BYTES6), .family6 = LB_EIGHT_ALL(6u << 16),                  \
		.offsets6 = LB_EIGHT_ALL(RTE_ETHER_HDR_LEN | (RTE_ETHER_HDR_LEN + 40u) << 16),                \
		.be16_0 = LB_EIGHT_BE16(0u), .be16_2 = LB_EIGHT_BE16(0x0202u),                                \
	}

/* Destination MACs that are taken, as lanes of their first four and next two bytes. */
struct lb_eight_mac {
	__m256i mask_low, mask_high, low, high;
};

static inline struct lb_eight_mac lb_eight_mac(uint64_t mask, uint64_t mac)
{
	return (struct lb_eight_mac){
		.mask_low = _mm256_set1_epi32((int)mask),
		.mask_high = _mm256_set1_epi32((int)(mask >> 32)),
		.low = _mm256_set1_epi32((int)mac),
		.high = _mm256_set1_epi32((int)(mac >> 32)),
	};
}

#define LB_EIGHT(name) (*(const __m256i *)(const void *)k->name)

/* Not 0 where two of the lanes differ, of the bits in @p mask. */
static inline __attribute__((always_inline)) __m256i lb_eight_differ(__m256i lanes, __m256i mask, __m256i wanted)
{
	return _mm256_xor_si256(_mm256_and_si256(lanes, mask), wanted);
}

/* Sum of both 16-bit words of each lane, less 65536: they are multiplied as signed. */
static inline __attribute__((always_inline)) __m256i lb_eight_words(
	const struct lb_eight_constants *k, __m256i lanes)
{
	return _mm256_madd_epi16(_mm256_xor_si256(lanes, LB_EIGHT(words_sign)), LB_EIGHT(words_one));
}

static inline __attribute__((always_inline)) __m256i lb_eight_fold(const struct lb_eight_constants *k, __m256i sum)
{
	return _mm256_add_epi32(_mm256_and_si256(sum, LB_EIGHT(word)), _mm256_srli_epi32(sum, 16));
}

static inline __attribute__((always_inline)) __m256i lb_eight_any(__m256i a, __m256i b, __m256i c)
{
	return _mm256_or_si256(_mm256_or_si256(a, b), c);
}

/* Four columns as eight rows of 16 bytes. */
static inline __attribute__((always_inline)) void lb_eight_store(
	void *rows, __m256i column0, __m256i column1, __m256i column2, __m256i column3)
{
	__m256i head[2] = {_mm256_unpacklo_epi32(column0, column1), _mm256_unpackhi_epi32(column0, column1)};
	__m256i tail[2] = {_mm256_unpacklo_epi32(column2, column3), _mm256_unpackhi_epi32(column2, column3)};
	__m128i *row = rows;

	for (unsigned i = 0; i < 4; i++) {
		__m256i pair = i % 2 == 0 ? _mm256_unpacklo_epi64(head[i / 2], tail[i / 2])
					  : _mm256_unpackhi_epi64(head[i / 2], tail[i / 2]);

		_mm_store_si128(&row[i], _mm256_castsi256_si128(pair));
		_mm_store_si128(&row[i + 4], _mm256_extracti128_si256(pair, 1));
	}
}
static_assert(sizeof(struct lb_packet) == 16 && sizeof(struct lb_flow_key4) == 16, "a row each");

static inline __attribute__((always_inline)) void lb_eight_store_packets(
	struct lb_packet *packets, __m256i first, __m256i offsets, __m256i bytes)
{
	lb_eight_store(packets, first, offsets, _mm256_setzero_si256(), bytes); // service and backend come later
}

/* Source, source port; destination, its port and protocol: see struct lb_flow_key4. */
static inline __attribute__((always_inline)) void lb_eight_store_keys(const struct lb_eight_constants *k,
	struct lb_flow_key4 *keys, __m256i src, __m256i dst, __m256i ports, __m256i proto)
{
	lb_eight_store(keys, src, _mm256_and_si256(ports, LB_EIGHT(word)), dst,
		_mm256_or_si256(_mm256_srli_epi32(ports, 16), _mm256_slli_epi32(proto, 16)));
}

/* Where eight packets are, and how long. */
struct lb_eight_frames {
	const uint8_t *at[8];
	__m256i bytes; /* of each as it was on the wire */
};

/* @p n_min: at most so many bytes of each are read; shorter ones become packets of nothing. */
static inline __attribute__((always_inline)) void lb_eight_find(struct lb_eight_frames *frames,
	struct rte_mbuf *const *mbufs, const struct lb_eight_constants *k, unsigned n_min)
{
	static const uint8_t too_short[LB_EIGHT_MIN_BYTES6]; // neither IPv4 nor IPv6
	const uint8_t *metas[8];
	struct lb_eight_rows rows;
	__m256i lanes;

	for (unsigned i = 0; i < 8; i++) {
		metas[i] = (const uint8_t *)mbufs[i];
		frames->at[i] = rte_pktmbuf_mtod(mbufs[i], const uint8_t *);
	}
	rows = lb_eight_load(metas, offsetof(struct rte_mbuf, packet_type));
	static_assert(offsetof(struct rte_mbuf, pkt_len) == offsetof(struct rte_mbuf, packet_type) + 4 &&
			      offsetof(struct rte_mbuf, data_len) == offsetof(struct rte_mbuf, packet_type) + 8,
		"columns 1 and 2");
	frames->bytes = lb_eight_column(&rows, 1);
	lanes = _mm256_and_si256(lb_eight_column(&rows, 2), LB_EIGHT(word));
	lanes = _mm256_cmpgt_epi32(n_min == LB_EIGHT_MIN_BYTES ? LB_EIGHT(n54) : LB_EIGHT(n74), lanes);
	if (unlikely(_mm256_movemask_epi8(lanes) != 0))
		for (unsigned i = 0; i < 8; i++)
			if (mbufs[i]->data_len < n_min)
				frames->at[i] = too_short;
}

/* Lanes that are not 0 where the frame is not for us. @p rows: from the frame's first byte on. */
static inline __attribute__((always_inline)) __m256i lb_eight_not_ours(
	const struct lb_eight_rows *rows, const struct lb_eight_mac *mac)
{
	return _mm256_or_si256(lb_eight_differ(lb_eight_column(rows, 0), mac->mask_low, mac->low),
		lb_eight_differ(lb_eight_column(rows, 1), mac->mask_high, mac->high));
}

/* Lanes that are not 0 where a UDP header is wrong, or it is not UDP. @p lanes: its length and checksum. */
static inline __attribute__((always_inline)) __m256i lb_eight_udp_wrong(
	const struct lb_eight_constants *k, __m256i lanes, __m256i proto, __m256i l4_bytes)
{
	lanes = _mm256_shuffle_epi8(lanes, LB_EIGHT(be16_0));
	return lb_eight_any(_mm256_cmpgt_epi32(LB_EIGHT(n8), lanes), _mm256_cmpgt_epi32(lanes, l4_bytes),
		_mm256_xor_si256(proto, LB_EIGHT(udp)));
}

/*
 * Lanes that are not 0 where the layer 4 header is wrong. @p wrong: as lb_eight_udp_wrong() says. @p lanes: in their high
 * bytes a TCP header's length and flags; in the end its flags alone, if it is one.
 */
static inline __attribute__((always_inline)) __m256i lb_eight_l4_wrong(
	const struct lb_eight_constants *k, __m256i wrong, __m256i *lanes, __m256i proto, __m256i l4_bytes)
{
	__m256i is_tcp = _mm256_cmpeq_epi32(proto, LB_EIGHT(tcp));
	__m256i bytes = _mm256_and_si256(_mm256_srli_epi32(*lanes, 18), LB_EIGHT(n60)); // of its header
	__m256i bad = _mm256_or_si256(_mm256_cmpgt_epi32(LB_EIGHT(n20), bytes), _mm256_cmpgt_epi32(bytes, l4_bytes));
	__m256i good = _mm256_and_si256(_mm256_srli_epi32(*lanes, 24), LB_EIGHT(n31));

	good = _mm256_and_si256(_mm256_srlv_epi32(LB_EIGHT(flags_good), good), LB_EIGHT(n1));
	bad = _mm256_or_si256(bad, _mm256_cmpeq_epi32(good, _mm256_setzero_si256()));
	*lanes = _mm256_and_si256(_mm256_and_si256(*lanes, is_tcp), LB_EIGHT(flags_mask));
	return _mm256_blendv_epi8(wrong, bad, is_tcp);
}

/* A bit for each lane that is 0. */
static inline uint32_t lb_eight_zeros(__m256i lanes)
{
	lanes = _mm256_cmpeq_epi32(lanes, _mm256_setzero_si256());
	return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(lanes));
}

/*
 * Packets and keys of eight packets, of which those that are plain, right and IPv4 have what parse() gives them, the keys in
 * their short form, and their bit in the result; of the others both hold nothing of use. In an order in which little is to
 * be remembered.
 */
static inline __attribute__((always_inline)) uint32_t lb_parse_eight4(struct rte_mbuf *const *mbufs,
	const struct lb_eight_constants *k, const struct lb_eight_mac *mac, struct lb_packet *packets,
	struct lb_flow_key4 *keys)
{
	struct lb_eight_frames frames;
	struct lb_eight_rows rows;
	__m256i lanes, bad, wrong, sum, src, dst, ports, l4_bytes, proto;

	__asm__("" : "+r"(k)); // not to be looked through
	lb_eight_find(&frames, mbufs, k, LB_EIGHT_MIN_BYTES);

	rows = lb_eight_load(frames.at, 0);
	bad = _mm256_or_si256(lb_eight_not_ours(&rows, mac),
		lb_eight_differ(lb_eight_column(&rows, 3), LB_EIGHT(ethertype_mask), LB_EIGHT(ethertype)));

	rows = lb_eight_load(frames.at, RTE_ETHER_HDR_LEN);
	lanes = lb_eight_column(&rows, 0); // version to length
	sum = lb_eight_words(k, lanes);
	l4_bytes = _mm256_sub_epi32(_mm256_shuffle_epi8(lanes, LB_EIGHT(be16_2)), LB_EIGHT(n20));
	lanes = lb_eight_column(&rows, 1); // id and fragment
	sum = _mm256_add_epi32(sum, lb_eight_words(k, lanes));
	bad = lb_eight_any(bad, _mm256_and_si256(lanes, LB_EIGHT(fragment_mask)),
		_mm256_cmpgt_epi32(l4_bytes, _mm256_sub_epi32(frames.bytes, LB_EIGHT(n34))));
	lanes = lb_eight_column(&rows, 2); // TTL, protocol, checksum
	sum = _mm256_add_epi32(sum, lb_eight_words(k, lanes));
	proto = _mm256_and_si256(_mm256_srli_epi32(lanes, 8), LB_EIGHT(byte));
	bad = _mm256_or_si256(bad, _mm256_cmpgt_epi32(LB_EIGHT(n2), _mm256_and_si256(lanes, LB_EIGHT(byte))));
	src = lb_eight_column(&rows, 3);
	sum = _mm256_add_epi32(sum, lb_eight_words(k, src));
	lanes = _mm256_and_si256(src, LB_EIGHT(byte)); // first octet: see octet_is_bad_source in parse.c
	bad = lb_eight_any(bad, _mm256_cmpgt_epi32(lanes, LB_EIGHT(n223)),
		_mm256_or_si256(_mm256_cmpeq_epi32(lanes, _mm256_setzero_si256()),
			_mm256_cmpeq_epi32(lanes, LB_EIGHT(n127))));

	rows = lb_eight_load(frames.at, 30);
	dst = lb_eight_column(&rows, 0);
	sum = _mm256_add_epi32(_mm256_add_epi32(sum, lb_eight_words(k, dst)), LB_EIGHT(words_bias));
	sum = lb_eight_fold(k, lb_eight_fold(k, sum));
	bad = lb_eight_any(bad, _mm256_cmpeq_epi32(dst, src), _mm256_xor_si256(sum, LB_EIGHT(word)));
	ports = lb_eight_column(&rows, 1);
	bad = _mm256_or_si256(bad, _mm256_cmpeq_epi16(ports, _mm256_setzero_si256()));
	lb_eight_store_keys(k, keys, src, dst, ports, proto);
	wrong = lb_eight_udp_wrong(k, lb_eight_column(&rows, 2), proto, l4_bytes);

	rows = lb_eight_load(frames.at, 32);
	lanes = lb_eight_column(&rows, 3);
	bad = _mm256_or_si256(bad, lb_eight_l4_wrong(k, wrong, &lanes, proto, l4_bytes));
	lb_eight_store_packets(packets, _mm256_or_si256(lanes, LB_EIGHT(family)), LB_EIGHT(offsets), frames.bytes);
	return lb_eight_zeros(bad);
}

/* 16 bytes of eight packets into one member of each of their keys. */
static inline __attribute__((always_inline)) void lb_eight_store_addrs(
	struct lb_flow_key *keys, size_t member, const struct lb_eight_rows *rows)
{
	for (unsigned i = 0; i < 4; i++) {
		_mm_storeu_si128((__m128i *)((uint8_t *)&keys[i] + member), _mm256_castsi256_si128(rows->r[i]));
		_mm_storeu_si128((__m128i *)((uint8_t *)&keys[i + 4] + member), _mm256_extracti128_si256(rows->r[i], 1));
	}
}

/* Ports, protocol, zeros: what parse() stores at once. */
static inline __attribute__((always_inline)) void lb_eight_store_ends(
	struct lb_flow_key *keys, __m256i ports, __m256i proto)
{
	__m256i ends[2] = {_mm256_unpacklo_epi32(ports, proto), _mm256_unpackhi_epi32(ports, proto)};

	for (unsigned i = 0; i < 2; i++) {
		__m128i low = _mm256_castsi256_si128(ends[i]), high = _mm256_extracti128_si256(ends[i], 1);

		// Not _mm_storel_pd() and _mm_storeh_pd(), to GCC plain doubles, which are no ports: it would not wait for them.
		_mm_storel_epi64((__m128i *)(void *)&keys[2 * i].sport_be, low);
		_mm_storeh_pi((__m64 *)(void *)&keys[2 * i + 1].sport_be, _mm_castsi128_ps(low));
		_mm_storel_epi64((__m128i *)(void *)&keys[2 * i + 4].sport_be, high);
		_mm_storeh_pi((__m64 *)(void *)&keys[2 * i + 5].sport_be, _mm_castsi128_ps(high));
	}
}

/* Lanes that are all ones where the 16 bytes of both are the same. */
static inline __attribute__((always_inline)) __m256i lb_eight_same(
	const struct lb_eight_rows *a, const struct lb_eight_rows *b)
{
	__m256i same[4];

	for (unsigned i = 0; i < 4; i++)
		same[i] = _mm256_cmpeq_epi32(a->r[i], b->r[i]);
	same[0] = _mm256_packs_epi16(_mm256_packs_epi32(same[0], same[1]), _mm256_packs_epi32(same[2], same[3]));
	return _mm256_cmpeq_epi32(same[0], _mm256_set1_epi32(-1));
}

/*
 * The same of IPv6. Addresses that begin with 16 zero bits (unspecified, loopback, mapped and others that are nobody's) are
 * left to others. What lies behind `zeros` of the keys is not written.
 */
static inline __attribute__((always_inline)) uint32_t lb_parse_eight6(struct rte_mbuf *const *mbufs,
	const struct lb_eight_constants *k, const struct lb_eight_mac *mac, struct lb_packet *packets,
	struct lb_flow_key *keys)
{
	struct lb_eight_frames frames;
	struct lb_eight_rows rows, dst;
	__m256i lanes, bad, wrong, ports, l4_bytes, proto;

	__asm__("" : "+r"(k)); // not to be looked through
	lb_eight_find(&frames, mbufs, k, LB_EIGHT_MIN_BYTES6);

	rows = lb_eight_load(frames.at, 0);
	bad = _mm256_or_si256(lb_eight_not_ours(&rows, mac),
		lb_eight_differ(lb_eight_column(&rows, 3), LB_EIGHT(ethertype6_mask), LB_EIGHT(ethertype6)));

	rows = lb_eight_load(frames.at, RTE_ETHER_HDR_LEN + 4);
	lanes = lb_eight_column(&rows, 0); // length, protocol, hop limit
	l4_bytes = _mm256_shuffle_epi8(lanes, LB_EIGHT(be16_0));
	proto = _mm256_and_si256(_mm256_srli_epi32(lanes, 16), LB_EIGHT(byte));
	bad = lb_eight_any(bad, _mm256_cmpgt_epi32(LB_EIGHT(n2), _mm256_srli_epi32(lanes, 24)),
		_mm256_cmpgt_epi32(l4_bytes, _mm256_sub_epi32(frames.bytes, LB_EIGHT(n54))));

	rows = lb_eight_load(frames.at, RTE_ETHER_HDR_LEN + 8);
	lb_eight_store_addrs(keys, offsetof(struct lb_flow_key, src), &rows);
	lanes = _mm256_and_si256(lb_eight_column(&rows, 0), LB_EIGHT(word));
	bad = lb_eight_any(bad, _mm256_cmpeq_epi32(lanes, _mm256_setzero_si256()), // nobody's, or multicast
		_mm256_cmpeq_epi32(_mm256_and_si256(lanes, LB_EIGHT(byte)), LB_EIGHT(byte)));
	dst = lb_eight_load(frames.at, RTE_ETHER_HDR_LEN + 24);
	lb_eight_store_addrs(keys, offsetof(struct lb_flow_key, dst), &dst);
	lanes = _mm256_and_si256(lb_eight_column(&dst, 0), LB_EIGHT(word));
	bad = lb_eight_any(bad, _mm256_cmpeq_epi32(lanes, _mm256_setzero_si256()), lb_eight_same(&rows, &dst));

	rows = lb_eight_load(frames.at, RTE_ETHER_HDR_LEN + 40);
	ports = lb_eight_column(&rows, 0);
	bad = _mm256_or_si256(bad, _mm256_cmpeq_epi16(ports, _mm256_setzero_si256()));
	lb_eight_store_ends(keys, ports, proto);
	wrong = lb_eight_udp_wrong(k, lb_eight_column(&rows, 1), proto, l4_bytes);
	lanes = _mm256_slli_epi32(lb_eight_column(&rows, 3), 16);
	bad = _mm256_or_si256(bad, lb_eight_l4_wrong(k, wrong, &lanes, proto, l4_bytes));
	lb_eight_store_packets(packets, _mm256_or_si256(lanes, LB_EIGHT(family6)), LB_EIGHT(offsets6), frames.bytes);
	return lb_eight_zeros(bad);
}

#endif
