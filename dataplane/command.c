/* SPDX-License-Identifier: BSD-3-Clause */
/* The command ring: validation, dispatch, full sync, replies. Main lcore only. */
#include "dataplane/command.h"

#include <errno.h>
#include <string.h>

#include <rte_ethdev.h>

#include "dataplane/flowmem.h"
#include "dataplane/fullnat.h"
#include "dataplane/resume.h"
#include "dataplane/trace.h"
#include "dataplane/worker.h"
#include "lb/log.h"

#define TOPIC "command"
#define MAX_BATCH 256u

static struct lb_log_limit refusals;

static void grace(void *arg)
{
	struct lb_dp *dp = arg;

	rte_rcu_qsbr_synchronize(dp->qsbr, RTE_QSBR_THRID_INVALID);
}

static int secret_set(struct lb_dp *dp, const uint8_t secret[16])
{
	if (dp->secret_set && memcmp(dp->secret, secret, sizeof(dp->secret)) != 0 && dp->live)
		return -EBUSY; // every flow would get another hash: only a restart may do that
	memcpy(dp->secret, secret, sizeof(dp->secret));
	lb_hash_key_init(&dp->hash_key, secret);
	dp->secret_set = true;
	return 0;
}

static int sync_begin(struct lb_dp *dp)
{
	for (unsigned i = 0; i < LB_MAX_SERVICES; i++)
		dp->services[i].mentioned = false;
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		dp->backends[i].mentioned = false;
	lb_fib_sync_begin(&dp->fib);
	dp->locals_mentioned = false;
	dp->syncing = true;
	return 0;
}

// Control has said all that there is: what it did not mention goes.
static int sync_end(struct lb_dp *dp)
{
	if (!dp->syncing || !dp->secret_set)
		return -EINVAL;
	dp->syncing = false;
	for (uint16_t id = 0; id < LB_MAX_SERVICES; id++)
		if (dp->services[id].in_use && !dp->services[id].mentioned)
			lb_service_del(dp, id);
	for (uint16_t id = 0; id < LB_MAX_BACKENDS; id++)
		if (dp->backends[id].in_use && !dp->backends[id].mentioned)
			lb_backend_del(dp, id); // -EBUSY: a table of its service still names it: it stays
	if (!dp->locals_mentioned)
		lb_local_set(dp, &(struct lb_msg_local){.count = 0});
	lb_fib_sync_end_routes(&dp->fib, grace, dp);
	lb_fib_sync_end_nexthops(&dp->fib);
	lb_resume_begin(dp);
	return 0;
}

// All but the tables has been said. That is enough for the flows that are recorded.
static int sync_objects(struct lb_dp *dp)
{
	if (!dp->syncing || !dp->secret_set)
		return -EINVAL;
	lb_resume_begin(dp);
	return 0;
}

static int nexthop_set(struct lb_dp *dp, const struct lb_msg_nexthop *msg)
{
	int rc = lb_fib_nexthop_set(&dp->fib, msg, rte_eth_dev_count_avail());

	if (rc < 0 || dp->fib.info[msg->id].refs == 0)
		return rc; // nobody names it: spare the walk
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		if (dp->backends[i].in_use && dp->backends[i].nexthop_id == msg->id)
			atomic_store(&dp->backends[i].nexthop, lb_fib_nexthop_word(&dp->fib, msg->id));
	return rc;
}

static int route_set(struct lb_dp *dp, const struct lb_msg_route *msg)
{
	int rc = lb_fib_route_set(&dp->fib, msg);

	if (rc <= 0)
		return rc;
	grace(dp);
	return 0;
}

static int route_del(struct lb_dp *dp, const struct lb_msg_route *msg)
{
	int rc = lb_fib_route_del(&dp->fib, msg);

	if (rc == 0)
		grace(dp);
	return rc;
}

int lb_command_apply(struct lb_dp *dp, const struct lb_msg *command, struct lb_msg *reply)
{
	switch (command->op) {
	case LB_OP_PING:
		return 0;
	case LB_OP_SYNC_BEGIN:
		return sync_begin(dp);
	case LB_OP_SYNC_END:
		return sync_end(dp);
	case LB_OP_SYNC_OBJECTS:
		return sync_objects(dp);
	case LB_OP_SECRET_SET:
		return secret_set(dp, command->secret);
	case LB_OP_SERVICE_SET:
		return lb_service_set(dp, &command->service);
	case LB_OP_SERVICE_DEL:
		return lb_service_del(dp, command->id);
	case LB_OP_BACKEND_SET:
		return lb_backend_set(dp, &command->backend);
	case LB_OP_BACKEND_DEL:
		return lb_backend_del(dp, command->id);
	case LB_OP_TABLE_PUBLISH:
		return lb_table_publish(dp, &command->table);
	case LB_OP_NEXTHOP_SET:
		return nexthop_set(dp, &command->nexthop);
	case LB_OP_NEXTHOP_DEL:
		return lb_fib_nexthop_del(&dp->fib, command->id);
	case LB_OP_ROUTE_SET:
		return route_set(dp, &command->route);
	case LB_OP_ROUTE_DEL:
		return route_del(dp, &command->route);
	case LB_OP_TRACE:
		return lb_trace(dp, &command->trace, &reply->reply.trace);
	case LB_OP_FLOWS_COUNT:
		return lb_flowmem_count(dp, &command->flush, &reply->reply.n_flows);
	case LB_OP_FLOWS_FLUSH:
		return lb_flowmem_flush(dp, &command->flush, &reply->reply.n_flows);
	case LB_OP_LOCAL_SET:
		return lb_local_set(dp, &command->local);
	case LB_OP_SESSION_NEXT:
		return lb_session_next(dp, &command->session_query, &reply->reply.session);
	default:
		return -ENOSYS;
	}
}

unsigned lb_command_poll(struct lb_dp *dp)
{
	struct lb_shm_header *header = &dp->shm.shm->header;
	struct lb_msg replies[MAX_BATCH];
	unsigned room = lb_ring_space(&dp->replies);
	struct lb_msg command;
	unsigned n = 0;

	while (n < RTE_MIN(room, MAX_BATCH) && lb_ring_pop(&dp->commands, &command)) {
		struct lb_msg *reply = &replies[n++];
		int rc;

		*reply = (struct lb_msg){.seq = command.seq, .op = command.op};
		rc = command.worker == 0 ? lb_command_apply(dp, &command, reply) : -EINVAL;
		reply->reply.status = rc;
		header->n_commands++;
		if (rc < 0 && command.op != LB_OP_TRACE) {
			header->n_commands_refused++;
			lb_log_limited(&refusals, LB_LOG_WARN, TOPIC, "refused %s (op %u, seq %u): %s",
				lb_op_name(command.op), command.op, command.seq, strerror(-rc));
		}
	}
	if (n != 0)
		lb_dp_commit(dp);
	for (unsigned i = 0; i < n; i++)
		lb_ring_push(&dp->replies, &replies[i]); // room was there, and only we fill it
	header->n_services = dp->n_services;
	header->n_backends = dp->n_backends;
	header->n_ring_corrupt = dp->commands.n_corrupt + dp->replies.n_corrupt;
	return n;
}
