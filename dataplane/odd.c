/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The side path: packets to a VIP or from a backend that are no plain TCP or UDP, few and unlikely. Each is settled
 * by the file that knows its kind, then they are rewritten together, by the same stage as all others.
 */
#include "dataplane/frag.h"
#include "dataplane/icmp.h"
#include "dataplane/stages.h"
#include "dataplane/worker.h"

static void settle(struct lb_worker *worker, struct lb_burst *burst, unsigned i)
{
	switch (burst->packets[i].pending) {
	case LB_VERDICT_VIP_PROTOCOL:
		if (lb_icmp_is(burst->packets[i].family, burst->keys[i].proto))
			lb_icmp_follow(worker, burst, i);
		break;
	case LB_VERDICT_FRAGMENT:
		lb_frag_follow(worker, burst, i);
		break;
	case LB_VERDICT_TTL_EXPIRED:
		lb_burst_answer(burst, i);
		break;
	default:
		break;
	}
}

void lb_stage_odd(struct lb_worker *worker, struct lb_burst *burst)
{
	lb_frag_learn(worker, burst);
	burst->n_to_service = 0;
	burst->n_to_client = 0;
	for (unsigned k = 0; k < burst->n_odd; k++)
		settle(worker, burst, burst->odd_list[k]);
	lb_stage_rewrite(worker, burst);
}
