/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_FORWARDING_H
#define LB_CONTROL_FORWARDING_H

#include <stddef.h>
#include <stdint.h>

#include <net/if.h>

/*
 * Where a port leaves the packets to its kernel interface too, a kernel that forwards passes on what the data
 * plane serves: connections fail, and no counter says why. So the switches of these interfaces are read every few
 * seconds, and one that is on, while there are services of its family, is told: event kernel_forwards, a warning.
 */
struct lb_model;

#define LB_FORWARDS_IPV4 1u
#define LB_FORWARDS_IPV6 2u

struct lb_forwarding {
	uint64_t checked_ns; /* CLOCK_MONOTONIC; 0: not yet */
	struct lb_forwarding_interface {
		char name[IF_NAMESIZE];
		unsigned families; /* LB_FORWARDS_*, at least one */
	} *interfaces; /* that forward */
	size_t n;
};

/** Look, if it is time to and a data plane was there, and tell what changed. */
void lb_forwarding_tick(struct lb_model *model);

void lb_forwarding_fini(struct lb_forwarding *forwarding);

#endif
