/* SPDX-License-Identifier: BSD-3-Clause */
#include "dataplane/resume.h"

#include <stdlib.h>

#include "dataplane/flowmem.h"
#include "dataplane/fullnat.h"
#include "dataplane/worker.h"
#include "lb/log.h"

#define TOPIC "resume"
/* Commands wait no longer than that. Most of the time goes here: a table that control publishes costs least when it is in
 * place already. */
#define STEP_NS UINT64_C(10000000)

struct lb_resumed {
	uint64_t n_flows;
	uint16_t service;
};

static int with_most_flows_first(const void *a, const void *b)
{
	const struct lb_resumed *left = a, *right = b;

	if (left->n_flows != right->n_flows)
		return left->n_flows < right->n_flows ? 1 : -1;
	return left->service - right->service; // qsort() is not stable
}

static uint64_t flows_of(const struct lb_dp *dp, uint16_t backend)
{
	int64_t n = 0;

	for (unsigned i = 0; i < dp->n_workers; i++)
		n += dp->workers[i]->counters->backends[backend].active_flows;
	return n > 0 ? (uint64_t)n : 0;
}

static void list_services(struct lb_dp *dp)
{
	uint32_t *place = malloc(LB_MAX_SERVICES * sizeof(*place));

	lb_resume_fini(dp);
	dp->resumed = malloc(LB_MAX_SERVICES * sizeof(*dp->resumed));
	for (uint16_t id = 0; place != NULL && dp->resumed != NULL && id < LB_MAX_SERVICES; id++) {
		place[id] = dp->n_resumed;
		if (dp->services[id].in_use && dp->services[id].resumes)
			dp->resumed[dp->n_resumed++] = (struct lb_resumed){.service = id};
	}
	for (uint16_t id = 0; dp->n_resumed != 0 && id < LB_MAX_BACKENDS; id++) {
		uint16_t service = dp->backends[id].service;

		if (dp->backends[id].in_use && dp->services[service].resumes)
			dp->resumed[place[service]].n_flows += flows_of(dp, id);
	}
	if (dp->n_resumed != 0)
		qsort(dp->resumed, dp->n_resumed, sizeof(*dp->resumed), with_most_flows_first);
	free(place);
}

void lb_resume_begin(struct lb_dp *dp)
{
	if (dp->live)
		return;
	lb_flowmem_adopt(dp);
	lb_fullnat_adopt(dp);
	atomic_store_explicit(&dp->live, true, memory_order_release);
	lb_dp_commit(dp);
	dp->shm.shm->header.synced = 1;
	lb_log(LB_LOG_INFO, TOPIC, "forwarding begins: %u services, %u backends", dp->n_services, dp->n_backends);
	list_services(dp);
}

uint16_t lb_resume_list(const struct lb_dp *dp, uint32_t i)
{
	return dp->resumed != NULL && i < dp->n_resumed - dp->next_resumed
		       ? dp->resumed[dp->next_resumed + i].service
		       : UINT16_MAX;
}

bool lb_resume_step(struct lb_dp *dp)
{
	uint64_t until_ns;

	if (dp->resumed == NULL)
		return false;
	for (until_ns = lb_now_ns() + STEP_NS; dp->next_resumed < dp->n_resumed && lb_now_ns() < until_ns;)
		dp->n_taken += lb_table_resume(dp, dp->resumed[dp->next_resumed++].service);
	if (dp->next_resumed < dp->n_resumed)
		return true;
	lb_log(LB_LOG_INFO, TOPIC, "%u of %u services go on with the tables that were kept", dp->n_taken,
		dp->n_resumed);
	lb_resume_fini(dp);
	return false;
}

void lb_resume_fini(struct lb_dp *dp)
{
	free(dp->resumed);
	dp->resumed = NULL;
	dp->n_resumed = dp->next_resumed = dp->n_taken = 0;
}
