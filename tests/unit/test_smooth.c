/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lb/smooth.h"

/* As nginx/src/http/ngx_http_upstream_round_robin.c describes it: the plain form. */
static void naive(const uint32_t *weights, uint32_t n, uint16_t *sequence, uint32_t length)
{
	int64_t *credits = calloc(n, sizeof(*credits)), sum = 0;

	assert_non_null(credits);
	for (uint32_t i = 0; i < n; i++)
		sum += weights[i];
	for (uint32_t step = 0; step < length; step++) {
		uint32_t best = 0;

		for (uint32_t i = 0; i < n; i++) {
			credits[i] += weights[i];
			if (credits[i] > credits[best])
				best = i;
		}
		credits[best] -= sum;
		sequence[step] = (uint16_t)best;
	}
	free(credits);
}

static void check_text(const uint32_t *weights, uint32_t n, const char *expected)
{
	uint16_t sequence[64];
	char text[65] = "";

	assert_int_equal(lb_smooth_length(weights, n), strlen(expected));
	assert_int_equal(lb_smooth_fill(weights, n, sequence), 0);
	for (size_t i = 0; i < strlen(expected); i++)
		text[i] = (char)('a' + sequence[i]);
	assert_string_equal(text, expected);
}

static void sequences_are_those_of_nginx(void **state)
{
	(void)state;
	check_text((uint32_t[]){5, 1, 1}, 3, "aabacaa");
	check_text((uint32_t[]){1, 1, 1}, 3, "abc");
	check_text((uint32_t[]){7, 7, 7}, 3, "abc");
	check_text((uint32_t[]){5, 3, 2}, 3, "abcaabacba");
	check_text((uint32_t[]){1, 2}, 2, "bab");
	check_text((uint32_t[]){10, 20}, 2, "bab");
	check_text((uint32_t[]){256}, 1, "a");
}

static void groups_change_nothing_of_the_plain_form(void **state)
{
	uint16_t *ours = malloc(LB_SMOOTH_MAX * 2), *theirs = malloc(LB_SMOOTH_MAX * 2);

	(void)state;
	srandom(1);
	for (unsigned round = 0; round < 300; round++) {
		uint32_t n = 1 + (uint32_t)random() % 40, weights[40], length;
		uint32_t max = 1 + (uint32_t)random() % (round % 2 ? 256 : 4);

		for (uint32_t i = 0; i < n; i++)
			weights[i] = 1 + (uint32_t)random() % max;
		length = lb_smooth_length(weights, n);
		assert_int_equal(lb_smooth_fill(weights, n, ours), 0);
		naive(weights, n, theirs, length);
		assert_memory_equal(ours, theirs, length * 2);
	}
	free(ours);
	free(theirs);
}

static void check_shares(uint32_t n, uint32_t (*weight)(uint32_t i), double tolerance)
{
	uint32_t *weights = calloc(n, 4), *counts = calloc(n, 4), length;
	uint16_t *sequence = malloc(LB_SMOOTH_MAX * 2);
	double sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += weights[i] = weight(i);
	length = lb_smooth_length(weights, n);
	assert_in_range(length, n, LB_SMOOTH_MAX);
	assert_int_equal(lb_smooth_fill(weights, n, sequence), 0);
	for (uint32_t i = 0; i < length; i++) {
		assert_true(sequence[i] < n);
		counts[sequence[i]]++;
	}
	for (uint32_t i = 0; i < n; i++) {
		double wanted = weights[i] / sum * length;

		assert_true(counts[i] >= 1);
		assert_true(counts[i] >= wanted * (1 - tolerance) - 1);
		assert_true(counts[i] <= wanted * (1 + tolerance) + 1);
	}
	free(weights);
	free(counts);
	free(sequence);
}

static uint32_t mixed(uint32_t i)
{
	return 1 + i * 7 % 256;
}

static uint32_t ramped(uint32_t i)
{
	return 1 + i * 7919 % 25600;
}

static uint32_t one(uint32_t i)
{
	(void)i;
	return 1;
}

static void too_long_sequences_keep_the_shares(void **state)
{
	(void)state;
	check_shares(1000, mixed, 0.05);
	check_shares(1000, ramped, 0.2);
	check_shares(65535, one, 0);
	check_shares(65535, ramped, 2);
}

static void nobody_has_no_sequence(void **state)
{
	(void)state;
	assert_int_equal(lb_smooth_length(NULL, 0), 0);
	assert_int_equal(lb_smooth_fill(NULL, 0, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sequences_are_those_of_nginx),
		cmocka_unit_test(groups_change_nothing_of_the_plain_form),
		cmocka_unit_test(too_long_sequences_keep_the_shares),
		cmocka_unit_test(nobody_has_no_sequence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
