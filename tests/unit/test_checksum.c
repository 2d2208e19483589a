/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dataplane/checksum.h"

// RFC 1624, eqn. 3, as it is written there.
static uint16_t by_the_book(uint16_t checksum, uint16_t change)
{
	uint32_t sum = (uint32_t)(uint16_t)~checksum + change;

	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void change_is_that_of_rfc_1624(void **state)
{
	(void)state;
	// every checksum with changes that cover both ends, zeros of either kind and a stride of odd ones
	for (uint32_t checksum = 0; checksum <= UINT16_MAX; checksum++) {
		for (uint32_t change = 0; change <= UINT16_MAX; change += change < 8 || change > 65520 ? 1 : 251)
			if (lb_checksum_change((uint16_t)checksum, (uint16_t)change) !=
				by_the_book((uint16_t)checksum, (uint16_t)change))
				fail_msg("checksum %04x, change %04x: %04x, not %04x", checksum, change,
					lb_checksum_change((uint16_t)checksum, (uint16_t)change),
					by_the_book((uint16_t)checksum, (uint16_t)change));
	}
}

static void change_and_change_back_restore_a_checksum(void **state)
{
	const uint16_t words[] = {0x0000, 0x0001, 0x1234, 0x8000, 0xfffe};

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		for (unsigned j = 0; j < 5; j++) {
			uint16_t there = lb_sum_change(words[i], words[j]), back = lb_sum_change(words[j], words[i]);

			// 0 is not among the checksums that an IPv4 header with an address can have
			for (uint32_t checksum = 1; checksum < UINT16_MAX; checksum += 97)
				assert_int_equal(lb_checksum_change(
							 lb_checksum_change((uint16_t)checksum, there), back),
					checksum);
		}
	}
}

#define N_BYTES 64u

static struct rte_mbuf segment_of(uint8_t *bytes, uint16_t n, struct rte_mbuf *next)
{
	return (struct rte_mbuf){.buf_addr = bytes, .data_len = n, .next = next};
}

// As words of one piece, the last byte of an odd number as the first of a word.
static uint16_t sum_of(const uint8_t *bytes, unsigned n)
{
	uint8_t copy[N_BYTES + 2] = {0};

	memcpy(copy, bytes, n);
	return lb_sum_words(copy, (n + 1) / 2);
}

// Wherever segments begin and end. Zeros of either kind are one.
static void sum_of_a_chain_is_that_of_one_piece(void **state)
{
	uint8_t bytes[N_BYTES];

	(void)state;
	for (unsigned i = 0; i < N_BYTES; i++)
		bytes[i] = (uint8_t)(255 - i * i % 7); // large: every sum carries
	for (uint16_t first = 0; first <= N_BYTES; first++)
		for (uint16_t second = 0; first + second <= N_BYTES; second++) {
			struct rte_mbuf c = segment_of(bytes + first + second, (uint16_t)(N_BYTES - first - second), NULL);
			struct rte_mbuf b = segment_of(bytes + first, second, &c), a = segment_of(bytes, first, &b);

			for (unsigned offset = 0; offset < N_BYTES; offset += 5)
				for (unsigned n = 0; offset + n <= N_BYTES; n += 3)
					assert_int_equal(lb_sum_mbuf(&a, offset, n), sum_of(bytes + offset, n));
			assert_int_equal(lb_sum_mbuf(&a, N_BYTES, 8), 0);
			assert_int_equal(lb_sum_mbuf(&a, 60, 100), sum_of(bytes + 60, 4));
		}
}

// Wherever it lies, and in whatever type it was written.
static void an_ipv4_header_sums_up_as_dpdk_says(void **state)
{
	uint64_t random = 1;

	(void)state;
	for (unsigned n = 0; n < 100000; n++) {
		uint8_t bytes[sizeof(struct rte_ipv4_hdr) + 8], *at = bytes + n % 8;
		struct rte_ipv4_hdr ip;

		for (unsigned i = 0; i < sizeof(ip); i++) {
			random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
			at[i] = n % 16 == 0 ? 0xff : n % 16 == 1 ? 0 : (uint8_t)(random >> 56); // every sum carries; none does
		}
		at[0] = 0x45;
		at[10] = at[11] = 0;
		memcpy(&ip, at, sizeof(ip));
		assert_int_equal(lb_checksum_ipv4(at), rte_ipv4_cksum(&ip));
		ip.hdr_checksum = lb_checksum_ipv4(at);
		assert_int_equal(lb_checksum_ipv4(&ip), 0); // one that is right sums up to all ones
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_ipv4_header_sums_up_as_dpdk_says),
		cmocka_unit_test(sum_of_a_chain_is_that_of_one_piece),
		cmocka_unit_test(change_is_that_of_rfc_1624),
		cmocka_unit_test(change_and_change_back_restore_a_checksum),
	};

	return cmocka_run_group_tests_name("checksum", tests, NULL, NULL);
}
