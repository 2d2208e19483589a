/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of what crosses the rings: complete, distinct, and "?" for what a hostile peer makes up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lb/msg.h"
#include "lb/verdict.h"

typedef const char *name_fn(unsigned value);

static void check_names(name_fn *name, unsigned first, unsigned n, const char *allowed)
{
	for (unsigned i = first; i < n; i++) {
		assert_true(strlen(name(i)) > 1);
		assert_int_equal(strlen(name(i)), strspn(name(i), allowed));
		for (unsigned j = first; j < i; j++)
			assert_string_not_equal(name(i), name(j));
	}
	for (unsigned i = 0; i < first; i++)
		assert_string_equal("?", name(i));
	for (unsigned i = n; i < n + 300; i++)
		assert_string_equal("?", name(i));
	assert_string_equal("?", name(UINT16_MAX));
	assert_string_equal("?", name(UINT32_MAX));
}

static void names_are_complete_and_distinct(void **state)
{
	const char *upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_";
	const char *lower = "abcdefghijklmnopqrstuvwxyz0123456789_";

	(void)state;
	check_names(lb_op_name, LB_OP_PING, LB_OP_N, upper);
	check_names(lb_event_name, LB_EVENT_TRACKING, LB_EVENT_PORT_LINK + 1, upper);
	check_names(lb_mode_name, 0, LB_MODE_N, lower);
	check_names(lb_scheduler_name, 0, LB_SCHED_N, lower);
	check_names(lb_on_empty_name, 0, LB_ON_EMPTY_N, lower);
	check_names(lb_tracking_name, 0, LB_TRACKING_N, lower);
	check_names(lb_backend_state_name, 0, LB_BACKEND_STATE_N, lower);
	check_names(lb_decision_name, 0, LB_DECISION_N, lower);
	check_names(lb_verdict_name, 0, LB_VERDICT_N, lower); // also labels of metrics
}

static void names_belong_to_their_values(void **state)
{
	(void)state;
	assert_string_equal("TABLE_PUBLISH", lb_op_name(LB_OP_TABLE_PUBLISH));
	assert_string_equal("FLOWS_COUNT", lb_op_name(LB_OP_FLOWS_COUNT));
	assert_string_equal("PORT_LINK", lb_event_name(LB_EVENT_PORT_LINK));
	assert_string_equal("gue", lb_mode_name(LB_MODE_GUE));
	assert_string_equal("source", lb_scheduler_name(LB_SCHED_SOURCE));
	assert_string_equal("last_resort", lb_on_empty_name(LB_ON_EMPTY_LAST_RESORT));
	assert_string_equal("changed", lb_tracking_name(LB_TRACKING_CHANGED));
	assert_string_equal("drain", lb_backend_state_name(LB_BACKEND_DRAIN));
	assert_string_equal("reply", lb_decision_name(LB_DECISION_REPLY));
	assert_string_equal("ttl_expired", lb_verdict_name(LB_VERDICT_TTL_EXPIRED));
}

static void every_verdict_has_a_meaning(void **state)
{
	(void)state;
	for (unsigned i = 0; i < LB_VERDICT_N; i++)
		assert_true(strlen(lb_verdict_meaning(i)) > 10);
	assert_string_equal("?", lb_verdict_meaning(LB_VERDICT_N));
	assert_string_equal("?", lb_verdict_meaning(UINT32_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_complete_and_distinct),
		cmocka_unit_test(names_belong_to_their_values),
		cmocka_unit_test(every_verdict_has_a_meaning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
