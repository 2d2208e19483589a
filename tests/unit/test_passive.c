/* SPDX-License-Identifier: BSD-3-Clause */
/* The rule by which counters tell that a backend does not answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/passive.h"

static const struct lb_config_passive config = {.enabled = true, .min_flows = 3, .refused_percent = 50};

static const struct second {
	const char *name;
	struct lb_passive_second before, last;
	const char *why;
} seconds[] = {
	{"idle", {0, 0, 0}, {0, 0, 0}, NULL},
	{"healthy", {10, 40, 0}, {10, 40, 0}, NULL},
	{"refuses all", {0, 0, 0}, {10, 10, 10}, "it resets clients' new connections"},
	{"refuses all, others go on", {10, 60, 10}, {10, 18, 10}, "it resets clients' new connections"},
	{"refuses a few", {10, 40, 4}, {10, 40, 4}, NULL},
	{"ends each connection by a reset", {10, 60, 10}, {10, 60, 10}, NULL},
	{"too few to tell", {2, 0, 0}, {2, 2, 2}, NULL},
	{"silent", {5, 0, 0}, {0, 0, 0}, "no answer to clients"},
	{"silent since a moment", {5, 20, 0}, {5, 0, 0}, NULL},
	{"answers late", {5, 0, 0}, {0, 5, 0}, NULL},
	{"silent, too few", {2, 0, 0}, {2, 0, 0}, NULL},
	{"more resets than packets, as counters are read one after the other", {0, 0, 0}, {3, 2, 3},
		"it resets clients' new connections"},
};

static void counters_tell_who_does_not_answer(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++) {
		const char *why = lb_passive_judge(&config, &seconds[i].before, &seconds[i].last);

		if ((why == NULL) != (seconds[i].why == NULL) ||
			(why != NULL && strcmp(why, seconds[i].why) != 0))
			fail_msg("%s: %s", seconds[i].name, why != NULL ? why : "nothing");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(counters_tell_who_does_not_answer)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
