/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_ANSWER_H
#define LB_DATAPLANE_ANSWER_H

#include "lb/shm.h"

/*
 * Packets that the balancer sends itself. Each takes the place of the packet that it answers, and takes a token: so
 * many a second, per worker, so that no stranger can have us send more than that. A limit of its own for each of
 * three kinds: a flood of echo requests does not keep hosts from learning their path's MTU.
 */
#define LB_ANSWER_ECHOES_PER_S 1000u /* echo replies */
#define LB_ANSWER_ERRORS_PER_S 1000u /* ICMP errors; as many as Linux sends (icmp_msgs_per_sec) */
#define LB_ANSWER_RESETS_PER_S 5000u /* TCP RSTs: what the clients of a dead backend send, spread over a second */

enum lb_answer_limit { LB_ANSWER_LIMIT_ECHO, LB_ANSWER_LIMIT_ERROR, LB_ANSWER_LIMIT_RESET, LB_ANSWER_LIMIT_N };

/* What is left of this second. Private to its worker. */
struct lb_answer_tokens {
	uint32_t second; /* lb_worker.now_s of the last refill */
	uint32_t left[LB_ANSWER_LIMIT_N];
};

#endif
