/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "control/health.h"

static void engine_is_made_and_destroyed(void **state)
{
	struct event_base *base = event_base_new();
	struct lb_health *health;

	(void)state;
	assert_int_equal(lb_health_create(base, &health), 0);
	lb_health_destroy(health);
	event_base_free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(engine_is_made_and_destroyed)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
