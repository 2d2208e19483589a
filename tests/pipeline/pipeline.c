/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/pipeline/pipeline.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_malloc.h>

#include "dataplane/command.h"
#include "dataplane/flowmem.h"
#include "dataplane/frag.h"
#include "dataplane/history.h"
#include "lb/log.h"

#define CHECK(what)                                                                                \
	do {                                                                                       \
		int rc_ = (what);                                                                  \
		if (rc_ < 0) {                                                                     \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #what, strerror(-rc_)); \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

void pipeline_start_eal(const char *const *eal_args)
{
	char *args[32] = {(char *)(uintptr_t)"pipeline"};
	int n = 1;
	cpu_set_t cpus;

	for (; *eal_args != NULL && n < 31; eal_args++)
		args[n++] = (char *)(uintptr_t)*eal_args;
	lb_log_set_level(LB_LOG_WARN);
	if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0)
		CHECK(-errno);
	CHECK(rte_eal_init(n, args));
	// EAL has bound this thread to the first CPU, as it would in every program that runs at the same time
	if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0)
		CHECK(-errno);
}

void pipeline_start_eal_alone(unsigned memory_mb)
{
	char memory[16];
	const char *const eal_args[] = {"--no-huge", "-m", memory, "--no-pci", "--no-telemetry", "-l", "0", "--log-level",
		"error", "--no-shconf", NULL};

	snprintf(memory, sizeof(memory), "%u", memory_mb);
	if (getenv("FULCRUM_SHM_DIR") == NULL)
		setenv("FULCRUM_SHM_DIR", "/dev/shm", 1);
	pipeline_start_eal(eal_args);
}

int pipeline_eal_set_up(void **state)
{
	(void)state;
	pipeline_start_eal_alone(512);
	return 0;
}

int pipeline_eal_tear_down(void **state)
{
	(void)state;
	return rte_eal_cleanup();
}

int pipeline_tear_down(void **state)
{
	pipeline_stop(*state);
	return rte_eal_cleanup();
}

static struct lb_worker *make_worker(struct lb_dp *dp, unsigned idx)
{
	struct lb_worker *worker = rte_zmalloc("worker", sizeof(*worker), 64);

	if (worker == NULL)
		CHECK(-ENOMEM);
	worker->frags = lb_frag_create(SOCKET_ID_ANY);
	if (worker->frags == NULL)
		CHECK(-ENOMEM);
	worker->dp = dp;
	worker->idx = (uint16_t)idx;
	worker->n_ports = 2;
	worker->tick = dp->tick;
	worker->now_s = dp->now_s;
	worker->counters = &dp->shm.shm->workers[idx];
	lb_ring_attach_producer(&worker->events, &dp->shm.shm->events[idx]);
	for (unsigned port = 0; port < 2; port++) {
		const uint8_t mac[6] = {2, 0, 0, 0, (uint8_t)port, 1};

		worker->port_macs[port] = LB_MAC_ANY;
		lb_worker_set_mtu(worker, port, 1500);
		lb_worker_set_mac(worker, port, mac);
	}
	return worker;
}

void pipeline_start(
	struct pipeline *pipeline, unsigned n_workers, uint64_t n_flows, unsigned n_mbufs)
{
	struct lb_dp *dp = &pipeline->dp;
	char instance[LB_INSTANCE_MAX];

	memset(pipeline, 0, sizeof(*pipeline));
	CHECK(lb_dp_init(dp, n_workers));
	dp->flows_per_worker = n_flows;
	dp->sessions_per_worker = n_flows;
	pipeline->pool = rte_pktmbuf_pool_create(
		"mbufs", n_mbufs, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (pipeline->pool == NULL)
		CHECK(-ENOMEM);
	snprintf(instance, sizeof(instance), "pipeline-%d", (int)getpid());
	CHECK(lb_shm_create(&dp->shm, instance, n_workers));
	dp->tick = 1000;
	dp->now_s = 2000;
	for (unsigned i = 0; i < n_workers; i++)
		dp->workers[i] = make_worker(dp, i);
	pipeline->worker = dp->workers[0];
	CHECK(lb_flowmem_map(dp));
}

static void unlink_memory(const struct lb_dp *dp)
{
	for (unsigned i = 0; i < dp->n_workers; i++) {
		char flows[192], sessions[192];

		snprintf(flows, sizeof(flows), "%s.flows.%u", dp->shm.path, i);
		unlink(flows);
		snprintf(sessions, sizeof(sessions), "%s.sessions.%u", dp->shm.path, i);
		unlink(sessions);
	}
	for (uint16_t id = 0; id < LB_MAX_SERVICES; id++)
		if (dp->services[id].in_use)
			lb_history_forget(dp, id);
}

static void end(struct pipeline *pipeline, bool unlink_files)
{
	struct lb_dp *dp = &pipeline->dp;

	lb_flowmem_unmap(dp);
	if (unlink_files)
		unlink_memory(dp);
	for (unsigned i = 0; i < dp->n_workers; i++) {
		lb_frag_destroy(dp->workers[i]->frags);
		rte_free(dp->workers[i]);
	}
	lb_shm_detach(&dp->shm, unlink_files);
	rte_mempool_free(pipeline->pool);
	lb_dp_fini(dp);
}

void pipeline_stop(struct pipeline *pipeline)
{
	end(pipeline, true);
}

void pipeline_leave(struct pipeline *pipeline)
{
	end(pipeline, false);
}

static void free_own(struct lb_burst *burst)
{
	for (unsigned i = 0; i < burst->n; i++)
		if ((burst->held >> i & 1) == 0)
			rte_pktmbuf_free(burst->mbufs[i]);
	burst->n = 0;
}

struct rte_mbuf *pipeline_mbuf(struct pipeline *pipeline, const void *bytes, unsigned n)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pipeline->pool);
	void *at = mbuf != NULL ? rte_pktmbuf_append(mbuf, (uint16_t)n) : NULL;

	if (at == NULL)
		abort();
	memcpy(at, bytes, n);
	return mbuf;
}

static void free_memory(void *bytes, void *memory)
{
	(void)bytes;
	free(memory);
}

struct rte_mbuf *pipeline_mbuf_exact(struct pipeline *pipeline, const void *bytes, unsigned n)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pipeline->pool);
	// DPDK's bookkeeping of the memory goes first
	unsigned n_info = RTE_ALIGN_CEIL((unsigned)sizeof(struct rte_mbuf_ext_shared_info), 64u);
	uint8_t *memory = malloc(n_info + LB_EXACT_HEADROOM + n);
	struct rte_mbuf_ext_shared_info *info = (void *)memory;

	if (mbuf == NULL || memory == NULL)
		abort();
	info->free_cb = free_memory;
	info->fcb_opaque = memory;
	rte_mbuf_ext_refcnt_set(info, 1);
	rte_pktmbuf_attach_extbuf(mbuf, memory + n_info, (uintptr_t)memory + n_info, (uint16_t)(LB_EXACT_HEADROOM + n), info);
	mbuf->data_off = LB_EXACT_HEADROOM;
	mbuf->data_len = (uint16_t)n;
	mbuf->pkt_len = n;
	memcpy(rte_pktmbuf_mtod(mbuf, void *), bytes, n);
	return mbuf;
}

void pipeline_free_burst(struct pipeline *pipeline)
{
	free_own(&pipeline->worker->burst);
	while (lb_frag_release(pipeline->worker, &pipeline->worker->burst)) {
		lb_worker_process(pipeline->worker);
		free_own(&pipeline->worker->burst);
	}
}

void pipeline_expire_fragments(struct pipeline *pipeline)
{
	pipeline->dp.tick = pipeline->worker->tick + LB_FRAG_TICKS;
	do
		lb_worker_keep_house(pipeline->worker, 0);
	while (pipeline->worker->frags_due);
}

int pipeline_command(struct pipeline *pipeline, const struct lb_msg *command, struct lb_msg *reply)
{
	struct lb_msg unused;
	int rc = lb_command_apply(&pipeline->dp, command, reply != NULL ? reply : &unused);

	lb_dp_commit(&pipeline->dp);
	return rc;
}

int pipeline_publish(struct pipeline *pipeline, uint16_t service, const uint16_t *slots,
	uint32_t n_slots)
{
	return pipeline_publish_of(pipeline, service, LB_SCHED_MAGLEV, slots, n_slots);
}

int pipeline_publish_of(struct pipeline *pipeline, uint16_t service, enum lb_scheduler scheduler, const uint16_t *slots,
	uint32_t n_slots)
{
	static uint32_t version;
	struct lb_msg msg = {.op = LB_OP_TABLE_PUBLISH};

	memcpy(pipeline->dp.shm.shm->tables[0].slots, slots, n_slots * sizeof(*slots));
	version++;
	msg.table = (struct lb_msg_table){.service = service,
		.n_slots = n_slots,
		.version = version,
		.scheduler = (uint8_t)scheduler,
		.checksum = lb_hash_bytes(slots, n_slots * sizeof(*slots), version)};
	return pipeline_command(pipeline, &msg, NULL);
}

void pipeline_sync_begin(struct pipeline *pipeline)
{
	static const char *const defaults[] = {"0.0.0.0", "::"};
	struct lb_msg nexthop = {.op = LB_OP_NEXTHOP_SET};

	CHECK(pipeline_command(pipeline, &(struct lb_msg){.op = LB_OP_SYNC_BEGIN}, NULL));
	CHECK(pipeline_command(pipeline,
		&(struct lb_msg){.op = LB_OP_SECRET_SET, .secret = "0123456789abcdef"}, NULL));
	nexthop.nexthop = (struct lb_msg_nexthop){
		.id = 1, .port = 1, .mac = {2, 0, 0, 0, 0, 0xb1}, .resolved = 1};
	for (uint16_t id = 1; id <= 2; id++) {
		// No ports: the command would check them against DPDK's.
		CHECK(lb_fib_nexthop_set(&pipeline->dp.fib, &nexthop.nexthop, 2));
		nexthop.nexthop = (struct lb_msg_nexthop){
			.id = 2, .port = 0, .mac = {2, 0, 0, 0, 0, 0xc1}, .resolved = 1};
	}
	for (unsigned i = 0; i < 2; i++) {
		struct lb_msg route = {.op = LB_OP_ROUTE_SET,
			.route = {.family = i == 0 ? 4 : 6, .nexthop = 2}};

		if (i == 0)
			CHECK(lb_addr_parse(defaults[i], &route.route.prefix));
		CHECK(pipeline_command(pipeline, &route, NULL));
	}
}

void pipeline_sync_end(struct pipeline *pipeline)
{
	CHECK(pipeline_command(pipeline, &(struct lb_msg){.op = LB_OP_SYNC_END}, NULL));
}

void pipeline_service_of_mode(struct pipeline *pipeline, uint16_t id, const char *vip, uint16_t port,
	uint8_t proto, enum lb_mode mode)
{
	struct lb_msg msg = {.op = LB_OP_SERVICE_SET,
		.service = {.id = id, .idle_timeout_ms = 60000, .mode = (uint8_t)mode}};

	CHECK(lb_addr_parse(vip, &msg.service.key.addr));
	msg.service.key.port_be = rte_cpu_to_be_16(port);
	msg.service.key.proto = proto;
	msg.service.gue_port_be = mode == LB_MODE_GUE ? RTE_BE16(6080) : 0;
	msg.service.mss = lb_mode_has_mss(mode, proto) ? LB_MSS_AUTO : LB_MSS_NONE;
	CHECK(pipeline_command(pipeline, &msg, NULL));
}

void pipeline_service(struct pipeline *pipeline, uint16_t id, const char *vip, uint16_t port,
	uint8_t proto)
{
	pipeline_service_of_mode(pipeline, id, vip, port, proto, LB_MODE_NAT);
}

void pipeline_locals(struct pipeline *pipeline, const char *const *addrs, uint16_t n)
{
	struct lb_msg msg = {.op = LB_OP_LOCAL_SET};

	for (uint16_t i = 0; i < n; i++) {
		msg.local = (struct lb_msg_local){.index = i, .count = n};
		CHECK(lb_addr_parse(addrs[i], &msg.local.addr));
		CHECK(pipeline_command(pipeline, &msg, NULL));
	}
}

void pipeline_backend(struct pipeline *pipeline, uint16_t id, uint16_t service, const char *addr,
	uint16_t port, enum lb_backend_state state)
{
	struct lb_msg msg = {.op = LB_OP_BACKEND_SET,
		.backend = {.id = id, .service = service, .nexthop = 1, .state = (uint8_t)state}};

	CHECK(lb_addr_parse(addr, &msg.backend.addr));
	msg.backend.port_be = rte_cpu_to_be_16(port);
	CHECK(pipeline_command(pipeline, &msg, NULL));
}
