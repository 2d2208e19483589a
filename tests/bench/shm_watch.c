/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Says when workers stopped sending to a backend: watches its counters in the shared memory of a running data plane.
 *
 * usage: shm_watch INSTANCE BACKEND_ID
 *
 * Prints "ready" once packets go to the backend, then, when none has for 200 ms, the time (CLOCK_REALTIME, ns) at which
 * the last was seen, and ends. Looks every 50 us or so.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "lb/shm.h"

#define QUIET_NS UINT64_C(200000000)
#define PATIENCE_NS UINT64_C(30000000000)

static uint64_t packets_of(const struct lb_shm_map *map, unsigned long backend)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < map->n_workers; i++)
		n += __atomic_load_n(&map->shm->workers[i].backends[backend].in_pkts, __ATOMIC_RELAXED);
	return n;
}

int main(int argc, char **argv)
{
	static const struct timespec pause = {.tv_nsec = 30000};
	uint64_t start_ns = lb_now_ns(), before, changed_ns = 0;
	struct lb_shm_map map;
	unsigned long backend;
	char why[160];

	if (argc != 3 || (backend = strtoul(argv[2], NULL, 10)) >= LB_MAX_BACKENDS)
		return 2;
	if (lb_shm_attach(&map, argv[1], why, sizeof(why)) < 0) {
		fprintf(stderr, "shm_watch: %s\n", why);
		return 1;
	}
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	before = packets_of(&map, backend);
	while (changed_ns == 0 || lb_realtime_ns() - changed_ns < QUIET_NS) {
		uint64_t now = packets_of(&map, backend);

		if (now != before) {
			if (changed_ns == 0) {
				puts("ready");
				fflush(stdout);
			}
			changed_ns = lb_realtime_ns();
			before = now;
		}
		if (lb_now_ns() - start_ns > PATIENCE_NS)
			return 1;
		nanosleep(&pause, NULL);
	}
	printf("%" PRIu64 "\n", changed_ns);
	lb_shm_detach(&map, false);
	return 0;
}
