/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fuzz target of mode fullnat with inputs of our own, so that every run of the tests looks for more than its corpus
 * holds: connections as they are, with some packets damaged, repeated, out of order or of any numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fuzz.h"

#define N_INPUTS 30000u

static uint64_t random_state = 88172645463325252u;

static unsigned next_random(unsigned below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)((random_state >> 16) % below);
}

static size_t put_number(uint8_t *at)
{
	if (next_random(12) != 0) {
		at[0] = (uint8_t)next_random(80);
		return 1;
	}
	at[0] = 255; // far away, or where numbers wrap
	for (unsigned i = 1; i < 5; i++)
		at[i] = (uint8_t)(next_random(2) ? 255 * next_random(2) : next_random(256));
	return 5;
}

static size_t put_options(uint8_t *at)
{
	static const uint8_t kinds[] = {0, 1, 1, 2, 3, 4, 5, 8, 254, 254, 254};
	unsigned n_words = next_random(11);
	size_t n = 1;

	at[0] = (uint8_t)n_words;
	while (n < 1 + 4 * n_words) {
		at[n++] = kinds[next_random(sizeof(kinds))];
		if (n < 1 + 4 * n_words && next_random(2))
			at[n++] = (uint8_t)next_random(next_random(8) ? 22 : 256);
	}
	return 1 + 4 * n_words;
}

// One packet in the fuzz target's form.
static size_t put_packet(uint8_t *at, unsigned service, unsigned nth)
{
	static const uint8_t flags[] = {0x10, 0x10, 0x18, 0x11, 0x02, 0x04, 0x12, 0x14, 0x01, 0x19};
	uint8_t what = (uint8_t)(service | (nth % 3 == 1 ? 0x10 : 0));
	size_t n = 0;

	what |= (uint8_t)((next_random(6) == 0) << 5 | (next_random(5) == 0) << 6 | (next_random(20) == 0) << 7);
	at[n++] = what;
	at[n++] = nth == 0 ? 0x02 : nth == 1 ? 0x12 : flags[next_random(sizeof(flags))];
	n += put_number(at + n);
	n += put_number(at + n);
	n += put_options(at + n);
	at[n++] = (uint8_t)(next_random(4) ? next_random(30) : next_random(256));
	if (what & 0x40)
		at[n++] = (uint8_t)(30 + next_random(100));
	if (what & 0x20) {
		unsigned n_edits = 1 + next_random(3);

		at[n++] = (uint8_t)(n_edits - 1);
		for (unsigned i = 0; i < n_edits; i++) {
			at[n++] = (uint8_t)next_random(100);
			at[n++] = (uint8_t)(next_random(2) ? 1u << next_random(8) : next_random(256));
		}
	}
	return n;
}

static void connections_with_anything_in_them(void **state)
{
	uint8_t input[40 * 80];

	(void)state;
	for (unsigned i = 0; i < N_INPUTS; i++) {
		unsigned n_packets = 1 + next_random(30);
		size_t n = 0;

		for (unsigned nth = 0; nth < n_packets; nth++)
			n += put_packet(input + n, i % 16, nth);
		assert_true(n <= sizeof(input));
		assert_int_equal(LLVMFuzzerTestOneInput(input, n), 0);
	}
}

static void bytes_without_a_plan(void **state)
{
	uint8_t input[600];

	(void)state;
	for (unsigned i = 0; i < N_INPUTS / 4; i++) {
		size_t n = next_random(sizeof(input));

		for (size_t k = 0; k < n; k++)
			input[k] = (uint8_t)next_random(256);
		assert_int_equal(LLVMFuzzerTestOneInput(input, n), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connections_with_anything_in_them),
		cmocka_unit_test(bytes_without_a_plan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
