/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(change_is_that_of_rfc_1624),
		cmocka_unit_test(change_and_change_back_restore_a_checksum),
	};

	return cmocka_run_group_tests_name("checksum", tests, NULL, NULL);
}
