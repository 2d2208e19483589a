/* SPDX-License-Identifier: BSD-3-Clause */
/* The oracle's short set, beside test_sim.c: what takes about as long, more changes than there is room in the flow table for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/sim/short.h"

static void room_for_a_quarter_breaks_fewer_than_tracking(void **state)
{
	static const double rates[] = {12, 30, 80};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct sim_config ours = short_config(SIM_OURS, rates[i], SHORT_FLOWS / 4);
		struct sim_config track = short_config(SIM_TRACK, rates[i], SHORT_FLOWS / 4);

		assert_true(short_run(&ours).broken < short_run(&track).broken);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(room_for_a_quarter_breaks_fewer_than_tracking),
	};

	return cmocka_run_group_tests(tests, short_set_up, short_tear_down);
}
