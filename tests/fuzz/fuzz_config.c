/* SPDX-License-Identifier: BSD-3-Clause */
/* Any text: refused with a reason, or taken and written so that it parses back to its equal. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "config_util.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct lb_config_error error;
	struct lb_config *config;
	const char *problem;
	int rc = lb_config_parse("input", (const char *)data, len, &config, &error);

	if (rc == -ENOMEM)
		return 0;
	if (rc) {
		if (rc != -EINVAL || !error.where[0] || !error.message[0])
			abort();
		return 0;
	}
	problem = config_round_trip(config);
	if (problem) {
		fprintf(stderr, "%s\n", problem);
		abort();
	}
	lb_config_free(config);
	return 0;
}
