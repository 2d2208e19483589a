/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/sim/sim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <sys/mman.h>

#include <rte_eal.h>
#include <rte_malloc.h>

#include "dataplane/flowmem.h"
#include "dataplane/history.h"
#include "dataplane/stages.h"
#include "lb/maglev.h"
#include "lb/stage.h"
#include "tests/pipeline/pipeline.h"

#define STEP_MS 100u
#define WHEEL 8192u /* steps: intervals between packets are shorter than this */
#define NONE UINT32_MAX
#define TCP_SYN 0x02u
#define TCP_ACK 0x10u
#define TCP_FIN 0x11u
#define MAX_SERVERS 1024u
#define HUGE_PAGE_BYTES (2ul << 20)

struct flow {
	uint32_t next;      /* in the free list */
	uint32_t id;        /* its 5-tuple */
	uint32_t end_step;
	uint32_t epoch;     /* of its backend when it began */
	uint16_t backend;   /* of its first packet; LB_BACKEND_NONE: it has sent none */
	uint16_t max_interval_steps;
	uint8_t service;
	uint8_t worker;
	bool shaken; /* past the SYN */
	bool broken;
};

/* Flows due in the same step. In arrays, so that they can be fetched from memory ahead of time. */
struct chunk {
	uint32_t next; /* in its wheel bucket, or free list */
	uint32_t n;
	uint32_t flows[30];
};

struct server {
	enum { SERVER_ABSENT, SERVER_UP, SERVER_DRAIN, SERVER_DOWN } state;
	uint32_t weight;
	uint32_t epoch;       /* counts its deaths */
	uint32_t live_weight; /* in the table last published; 0: it was not eligible */
	uint64_t n_new;
	double n_expected;
	char name[16];
};

static struct {
	const struct sim_config *config;
	struct sim_result *result;
	struct pipeline pipeline;
	uint64_t random;
	uint32_t step; /* since start */
	uint32_t next_id;
	uint32_t next_flood_id;
	uint64_t n_new_since_change;
	struct flow *flows;
	uint32_t n_flows_room;
	uint32_t free;
	struct chunk *chunks;
	uint32_t free_chunk;
	uint32_t wheel[WHEEL]; /* first chunk per step */
	struct server servers[MAX_SERVERS];
	struct lb_maglev *maglev; /* over servers that are not absent; NULL: to be built */
	uint16_t *slots, *target; /* as published; as wanted */
	uint32_t n_waiting, next_stage_step; /* excess moves, see lb/stage.h */
	bool failed_over;
} sim;

static uint64_t next_random(void)
{
	sim.random ^= sim.random << 13;
	sim.random ^= sim.random >> 7;
	return sim.random ^= sim.random << 17;
}

static uint32_t random_below(uint32_t n)
{
	return (uint32_t)(((unsigned __int128)next_random() * n) >> 64);
}

static double random_unit(void)
{
	return ((double)(next_random() >> 11) + 0.5) / 9007199254740992.0;
}

static void check(int rc, const char *what)
{
	if (rc < 0) {
		fprintf(stderr, "sim: %s: %s\n", what, strerror(-rc));
		abort();
	}
}

/* ---- servers and tables ---- */

static uint16_t backend_id(unsigned service, unsigned server)
{
	return (uint16_t)(service * MAX_SERVERS + server);
}

static void set_backend(unsigned service, unsigned server, enum lb_backend_state state)
{
	char addr[32];

	snprintf(addr, sizeof(addr), "10.%u.%u.%u", service, server / 250, server % 250 + 1);
	pipeline_backend(&sim.pipeline, backend_id(service, server), (uint16_t)service, addr, 80, state);
}

static void build_maglev(unsigned service)
{
	struct lb_maglev_node nodes[MAX_SERVERS];
	uint32_t n = 0;

	for (unsigned i = 0; i < sim.config->n_backends; i++)
		if (sim.servers[i].state != SERVER_ABSENT)
			nodes[n++] = (struct lb_maglev_node){.name = sim.servers[i].name,
				.weight = sim.servers[i].weight, .id = backend_id(service, i), .base = true};
	lb_maglev_destroy(sim.maglev);
	check(lb_maglev_create(sim.config->n_slots, nodes, n, &sim.maglev), "maglev");
}

// Drop what the data plane knows of the slots' past, as a balancer without history would.
static void forget_history(void)
{
	for (unsigned service = 0; service < 2; service++) {
		struct lb_slot_table *table = sim.pipeline.dp.services[service].table;

		for (uint32_t i = 0; table != NULL && i < table->n_slots; i++)
			table->slots[i].changed_s = 0;
	}
}

// Those of whom nothing has changed since the table was published; from now on that is what they are now.
static struct lb_stage_settled settle(unsigned service)
{
	struct lb_stage_settled settled = {0};

	for (unsigned i = 0; i < sim.config->n_backends; i++) {
		struct server *server = &sim.servers[i];
		uint32_t weight = server->state == SERVER_UP ? server->weight : 0;

		if (weight != 0 && server->live_weight == weight)
			lb_stage_settle(&settled, backend_id(service, i));
		server->live_weight = weight;
	}
	return settled;
}

// Take the next step towards the target; @p budget: of moves that no change of a server asks for.
static void move_slots(unsigned service, uint32_t budget)
{
	struct lb_stage_settled settled = settle(service);
	bool staged = sim.config->strategy == SIM_OURS && !sim.config->at_once;
	struct lb_stage_step next;
	bool was_waiting = sim.n_waiting > 0;

	sim.n_waiting = lb_stage_move(
		sim.slots, sim.target, sim.config->n_slots, &settled, staged ? budget : UINT32_MAX);
	if (sim.n_waiting > 0 && (budget > 0 || !was_waiting)) {
		next = lb_stage_next(sim.config->n_slots, sim.n_waiting, sim.config->idle_timeout_s * 1000);
		sim.next_stage_step = sim.step + next.after_ms / STEP_MS;
	}
}

static void publish_slots(unsigned service)
{
	check(pipeline_publish(&sim.pipeline, (uint16_t)service, sim.slots, sim.config->n_slots), "publish");
	if (sim.config->strategy != SIM_OURS || sim.config->bug == SIM_BUG_STALE_HISTORY)
		forget_history();
}

static void publish(unsigned service)
{
	bool eligible[MAX_SERVERS];
	uint32_t n = 0;

	for (unsigned i = 0; i < sim.config->n_backends; i++)
		if (sim.servers[i].state != SERVER_ABSENT)
			eligible[n++] = sim.servers[i].state == SERVER_UP;
	check(lb_maglev_fill(sim.maglev, eligible, sim.target), "fill");
	move_slots(service, 0);
	publish_slots(service);
}

static void take_stage_step(void)
{
	struct lb_stage_step step = lb_stage_next(
		sim.config->n_slots, sim.n_waiting, sim.config->idle_timeout_s * 1000);

	move_slots(0, step.budget);
	publish_slots(0);
}

static unsigned count_servers(int state)
{
	unsigned n = 0;

	for (unsigned i = 0; i < sim.config->n_backends; i++)
		n += (int)sim.servers[i].state == state;
	return n;
}

// New flows since the last change should have spread by weight over the servers that were up.
static void settle_balance(void)
{
	double weight_sum = 0;

	for (unsigned i = 0; i < sim.config->n_backends; i++)
		if (sim.servers[i].state == SERVER_UP)
			weight_sum += 1 + i % 4;
	for (unsigned i = 0; i < sim.config->n_backends; i++)
		if (sim.servers[i].state == SERVER_UP)
			sim.servers[i].n_expected +=
				(double)sim.n_new_since_change * (1 + i % 4) / weight_sum;
	sim.n_new_since_change = 0;
}

static void add_server(unsigned i)
{
	bool is_new = sim.servers[i].state == SERVER_ABSENT;

	sim.servers[i].state = SERVER_UP;
	set_backend(0, i, LB_BACKEND_UP);
	if (is_new)
		build_maglev(0);
	publish(0);
}

static void take_server(unsigned i, bool drain)
{
	sim.servers[i].state = drain ? SERVER_DRAIN : SERVER_DOWN;
	publish(0);
	set_backend(0, i, drain ? LB_BACKEND_DRAIN : LB_BACKEND_DOWN);
	if (!drain)
		sim.servers[i].epoch++;
}

// One change: a server comes (new or back) or goes (fails, or is drained). At most a fifth are away.
static void change_backends(bool addition)
{
	uint32_t n = sim.config->n_backends;
	bool add = addition || sim.config->only_additions || count_servers(SERVER_UP) < n * 4 / 5 ||
		   (count_servers(SERVER_UP) < n && (next_random() & 1));
	unsigned i = random_below(n);

	if (add && count_servers(SERVER_UP) == n)
		return;
	settle_balance();
	while ((sim.servers[i].state != SERVER_UP) != add)
		i = (i + 1) % n;
	if (sim.config->bug == SIM_BUG_WEIGHTS) {
		for (unsigned k = 0; k < n; k++)
			sim.servers[k].weight = 1;
		build_maglev(0);
	}
	if (add)
		add_server(i);
	else
		take_server(i, next_random() & 1);
	sim.result->n_changes++;
}

/* ---- flows ---- */

static void schedule(uint32_t idx, uint32_t step)
{
	uint32_t *bucket = &sim.wheel[step % WHEEL];
	struct chunk *chunk;

	if (*bucket == NONE || sim.chunks[*bucket].n == RTE_DIM(chunk->flows)) {
		uint32_t new = sim.free_chunk;

		sim.free_chunk = sim.chunks[new].next;
		sim.chunks[new] = (struct chunk){.next = *bucket};
		*bucket = new;
	}
	chunk = &sim.chunks[*bucket];
	chunk->flows[chunk->n++] = idx;
}

static double life_min_s(void)
{
	return 2.0 * (sim.config->life_scale != 0 ? sim.config->life_scale : 1);
}

// Pareto, shape 1.3, from 2 s on: a mean of 8.7 s, and one in 400 lives longer than 200 s; cut at 4 h.
static double lifetime_s(void)
{
	return fmin(life_min_s() * pow(random_unit(), -1 / 1.3), 14400);
}

static void begin_flow(double life_s, uint32_t first_step)
{
	uint32_t idx = sim.free;
	struct flow *flow = &sim.flows[idx];
	static const uint16_t intervals_s[4] = {1, 10, 60, 1000};
	uint32_t max_s = intervals_s[next_random() % 4];

	if (idx == NONE)
		return; // room for twice the mean number: does not happen
	sim.free = flow->next;
	if (max_s < sim.config->interval_min_s)
		max_s = sim.config->interval_min_s;
	if (max_s > sim.config->idle_timeout_s * 9 / 10)
		max_s = sim.config->idle_timeout_s * 9 / 10;
	*flow = (struct flow){.id = sim.next_id,
		.end_step = first_step + (uint32_t)(life_s * 1000 / STEP_MS),
		.backend = LB_BACKEND_NONE,
		.max_interval_steps = (uint16_t)(max_s * 1000 / STEP_MS),
		.service = sim.config->two_services ? sim.next_id & 1 : 0,
		.worker = sim.config->failover && !sim.failed_over ? sim.next_id >> 1 & 1 : 0};
	sim.next_id++;
	schedule(idx, first_step);
	sim.result->n_flows++;
}

static void end_flow(uint32_t idx)
{
	sim.flows[idx].next = sim.free;
	sim.free = idx;
}

// Two services: a pair of flows has the same key, as if the hash did not tell their VIPs apart.
static struct lb_flow_key key_of(uint32_t id, bool flood)
{
	struct lb_flow_key key = {.proto = IPPROTO_TCP, .sport_be = 1, .dport_be = 1};

	key.src.u32[0] = flood;
	key.src.u32[3] = sim.config->two_services ? id >> 1 : id;
	return key;
}

static struct lb_worker *worker_of(const struct flow *flow)
{
	return sim.pipeline.dp.workers[sim.failed_over ? 0 : flow->worker];
}

static void judge(struct flow *flow, const struct lb_packet *packet)
{
	uint16_t backend = packet->backend;
	bool first = flow->backend == LB_BACKEND_NONE;

	sim.result->n_packets++;
	if (packet->verdict != LB_VERDICT_FORWARD) {
		sim.result->dropped++;
		return;
	}
	sim.result->foreign += backend / MAX_SERVERS != flow->service;
	if (first) {
		flow->backend = backend;
		flow->epoch = sim.servers[backend % MAX_SERVERS].epoch;
		if (flow->service == 0) {
			sim.servers[backend % MAX_SERVERS].n_new++;
			sim.n_new_since_change++;
		}
		return;
	}
	if (flow->epoch != sim.servers[flow->backend % MAX_SERVERS].epoch && flow->service == 0) {
		sim.result->failed++;
		flow->end_step = 0; // its server is dead: so is the flow
		return;
	}
	if (backend != flow->backend && !flow->broken) {
		flow->broken = true;
		sim.result->broken++;
		flow->end_step = 0;
	}
}

// (b): whatever is not in the table is put there, in place of what was idle for longest.
static void track(struct lb_worker *worker, const struct lb_burst *burst)
{
	for (unsigned k = 0; k < burst->n; k++)
		if (burst->packets[k].verdict == LB_VERDICT_FORWARD &&
			lb_flowtable_lookup(&worker->flowtable, burst->hashes[k], worker->tick) == NULL)
			lb_flowtable_insert(&worker->flowtable, burst->hashes[k],
				burst->packets[k].backend, LB_FLOW_ESTABLISHED, worker->tick, true);
}

static void run_stage(struct lb_worker *worker)
{
	struct lb_burst *burst = &worker->burst;

	for (unsigned i = 0; i < burst->n; i++)
		burst->to_service[i] = (uint8_t)i;
	burst->n_to_service = burst->n;
	if (sim.config->strategy != SIM_OURS)
		worker->pressure = sim.config->strategy == SIM_HASH;
	lb_stage_flow(worker, burst);
	if (sim.config->strategy == SIM_TRACK)
		track(worker, burst);
}

static void put_packet(struct lb_burst *burst, const struct lb_flow_key *key, uint8_t service,
	uint8_t tcp_flags)
{
	burst->keys[burst->n] = *key;
	burst->packets[burst->n] = (struct lb_packet){
		.verdict = LB_VERDICT_FORWARD, .family = 4, .tcp_flags = tcp_flags, .service = service};
	burst->n++;
}

static void flood(struct lb_worker *worker, unsigned n)
{
	struct lb_burst *burst = &worker->burst;

	while (n > 0) {
		for (burst->n = 0; burst->n < LB_BURST && n > 0; n--) {
			struct lb_flow_key key = key_of(sim.next_flood_id++, true);

			put_packet(burst, &key, 0, TCP_SYN);
		}
		run_stage(worker);
	}
}

static uint8_t flags_of(const struct flow *flow)
{
	if (flow->backend == LB_BACKEND_NONE)
		return TCP_SYN;
	return sim.step >= flow->end_step ? TCP_FIN : TCP_ACK;
}

// After its packet: over, or the next one is due at a random time.
static void go_on(uint32_t idx)
{
	struct flow *flow = &sim.flows[idx];
	uint32_t wait = flow->shaken ? 1 + random_below(flow->max_interval_steps) : 1;

	flow->shaken = true; // the handshake's last packet follows the SYN at once
	if (flow->end_step <= sim.step) {
		end_flow(idx);
		return;
	}
	// The FIN comes when the flow ends.
	if (sim.step + wait > flow->end_step)
		wait = flow->end_step - sim.step;
	schedule(idx, sim.step + wait);
}

static void send_burst(struct lb_worker *worker, const uint32_t *members)
{
	struct lb_burst *burst = &worker->burst;

	if (burst->n == 0)
		return;
	run_stage(worker);
	for (unsigned k = 0; k < burst->n; k++) {
		judge(&sim.flows[members[k]], &burst->packets[k]);
		go_on(members[k]);
	}
	burst->n = 0;
}

// Every packet of this step, in bursts per worker.
static void send_packets(void)
{
	uint32_t members[2][LB_BURST];
	uint32_t chunk_idx = sim.wheel[sim.step % WHEEL];

	sim.wheel[sim.step % WHEEL] = NONE;
	for (unsigned w = 0; w < sim.pipeline.dp.n_workers; w++)
		sim.pipeline.dp.workers[w]->burst.n = 0;
	while (chunk_idx != NONE) {
		struct chunk *chunk = &sim.chunks[chunk_idx];
		uint32_t next = chunk->next;

		for (uint32_t i = 0; next != NONE && i < sim.chunks[next].n; i++)
			rte_prefetch0(&sim.flows[sim.chunks[next].flows[i]]);
		for (uint32_t i = chunk->n; i-- > 0;) {
			struct flow *flow = &sim.flows[chunk->flows[i]];
			struct lb_worker *worker = worker_of(flow);
			struct lb_flow_key key = key_of(flow->id, false);

			members[worker->idx][worker->burst.n] = chunk->flows[i];
			put_packet(&worker->burst, &key, flow->service, flags_of(flow));
			if (worker->burst.n == LB_BURST)
				send_burst(worker, members[worker->idx]);
		}
		chunk->next = sim.free_chunk;
		sim.free_chunk = chunk_idx;
		chunk_idx = next;
	}
	for (unsigned w = 0; w < sim.pipeline.dp.n_workers; w++)
		send_burst(sim.pipeline.dp.workers[w], members[w]);
}

/* ---- the run ---- */

static void set_clock(void)
{
	uint64_t now_ms = 2000000 + (uint64_t)sim.step * STEP_MS;
	struct lb_dp *dp = &sim.pipeline.dp;

	dp->tick = (uint32_t)(now_ms / LB_FLOW_TICK_MS);
	dp->now_s = (uint32_t)(now_ms / 1000);
	for (unsigned w = 0; w < dp->n_workers; w++) {
		struct lb_worker *worker = dp->workers[w];

		worker->now_s = dp->now_s;
		do
			lb_worker_keep_house(worker, 0);
		while (worker->sweep_left != 0);
		if (worker->counters->flow.used > sim.result->entries_max)
			sim.result->entries_max = worker->counters->flow.used;
	}
}

// As after SIGKILL and a start: a new process knows nothing but what is in the files.
static void restart(void)
{
	struct lb_dp *dp = &sim.pipeline.dp;

	for (unsigned service = 0; service < 2; service++) {
		rte_free(dp->services[service].table);
		dp->services[service].table = NULL;
		dp->services[service].resumes = true;
	}
	memset(dp->slot_refs, 0, (LB_MAX_BACKENDS + 1) * sizeof(dp->slot_refs[0]));
	for (unsigned w = 0; w < dp->n_workers; w++)
		memset(dp->workers[w]->counters, 0, sizeof(*dp->workers[w]->counters));
	dp->live = false;
	publish(0);
	lb_flowmem_adopt(dp);
	dp->live = true;
}

static void set_up(void)
{
	const struct sim_config *config = sim.config;
	struct pipeline *pipeline = &sim.pipeline;
	unsigned n_services = config->two_services ? 2 : 1;
	struct lb_msg service = {.op = LB_OP_SERVICE_SET,
		.service = {.idle_timeout_ms = config->idle_timeout_s * 1000, .mode = LB_MODE_NAT,
			.key = {.addr = lb_addr_from_ipv4(htonl(0xcb007101)), .port_be = htons(80),
				.proto = IPPROTO_TCP}}};

	pipeline_start(pipeline, config->failover ? 2 : 1, config->table_flows, 63);
	pipeline_sync_begin(pipeline);
	for (unsigned i = 0; i < config->n_backends; i++) {
		struct server *server = &sim.servers[i];

		// A tenth of the servers is not there yet; with additions only, half.
		bool absent = config->only_additions ? i % 2 == 1 : i % 10 == 9;

		// one of each weight in turn
		if (config->returns || config->joins)
			absent = i == 8 + config->seed % 4;

		*server = (struct server){.weight = 1 + i % 4,
			.state = !absent ? SERVER_UP : config->returns ? SERVER_DOWN : SERVER_ABSENT};
		snprintf(server->name, sizeof(server->name), "server-%u", i);
	}
	for (unsigned s = n_services; s-- > 0;) { // service 0 last: its maglev is kept
		service.service.id = (uint16_t)s;
		service.service.key.port_be = htons((uint16_t)(80 + s));
		check(pipeline_command(pipeline, &service, NULL), "service");
		for (unsigned i = 0; i < config->n_backends; i++)
			if (sim.servers[i].state != SERVER_ABSENT)
				set_backend(s, i,
					sim.servers[i].state == SERVER_UP ? LB_BACKEND_UP : LB_BACKEND_DOWN);
		build_maglev(s);
		for (unsigned i = 0; i < config->n_backends; i++)
			sim.servers[i].live_weight = 0; // the first table has none to follow
		publish(s);
	}
	pipeline_sync_end(pipeline);
	if (config->bug == SIM_BUG_COLLISION)
		for (unsigned i = 0; i < config->n_backends; i++)
			pipeline->dp.backends[backend_id(1, i)].service =
				pipeline->dp.backends[backend_id(0, i)].service;
}

// Flows that are alive at the start: their SYNs come over the first idle timeout.
static void populate(void)
{
	for (uint32_t i = 0; i < sim.config->n_flows; i++)
		begin_flow(lifetime_s() * 4, random_below(sim.config->idle_timeout_s * 1000 / STEP_MS));
}

static void events_of_step(uint32_t warm_up_steps, uint32_t half_steps, double *arrivals, double *floods,
	double *changes)
{
	const struct sim_config *config = sim.config;
	double mean_life_s = life_min_s() * 1.3 / 0.3;
	double rate = config->n_flows / mean_life_s * STEP_MS / 1000;
	uint32_t minute = 60000 / STEP_MS;
	bool changing = sim.step >= warm_up_steps;

	for (*arrivals += rate; *arrivals >= 1; *arrivals -= 1)
		begin_flow(lifetime_s(), sim.step);
	if (changing)
		*floods += rate * config->flood_per_flow;
	flood(sim.pipeline.worker, (unsigned)*floods);
	*floods -= floor(*floods);
	if (changing && !config->no_changes_before_failover)
		*changes += config->changes_per_minute / minute;
	for (; *changes >= 1; *changes -= 1)
		change_backends(false);
	if (config->failover && config->changes_per_minute > 0 && config->no_changes_before_failover &&
		sim.step == half_steps - (config->change_before_failover_s != 0
							 ? config->change_before_failover_s * 1000 / STEP_MS
							 : minute / 2))
		change_backends(true);
	if (sim.n_waiting > 0 && sim.step >= sim.next_stage_step)
		take_stage_step();
	if (sim.step == half_steps && config->restart)
		restart();
	if (sim.step == half_steps && config->failover)
		sim.failed_over = true;
}

// Zeroed memory in huge pages where the kernel has some: flows are visited in random order.
static void *allocate(size_t n, size_t size)
{
	size_t n_bytes = RTE_ALIGN_CEIL(n * size, HUGE_PAGE_BYTES);
	void *mem = aligned_alloc(HUGE_PAGE_BYTES, n_bytes);

	if (mem == NULL)
		check(-ENOMEM, "flows");
	madvise(mem, n_bytes, MADV_HUGEPAGE);
	return memset(mem, 0, n_bytes);
}

static void allocate_flows(uint32_t n_flows)
{
	uint32_t n_chunks;

	sim.n_flows_room = n_flows * 3 + 1000;
	n_chunks = sim.n_flows_room / RTE_DIM(sim.chunks->flows) + WHEEL + 1;
	sim.flows = allocate(sim.n_flows_room, sizeof(*sim.flows));
	for (uint32_t i = 0; i < sim.n_flows_room; i++)
		sim.flows[i].next = i + 1 < sim.n_flows_room ? i + 1 : NONE;
	sim.chunks = allocate(n_chunks, sizeof(*sim.chunks));
	for (uint32_t i = 0; i < n_chunks; i++)
		sim.chunks[i].next = i + 1;
	memset(sim.wheel, 0xff, sizeof(sim.wheel));
}

void sim_run(const struct sim_config *config, struct sim_result *result)
{
	uint32_t warm_up_steps = config->warm_up_s * 1000 / STEP_MS;
	uint32_t n_steps = warm_up_steps + config->duration_s * 1000 / STEP_MS;
	uint32_t half_steps = warm_up_steps + (n_steps - warm_up_steps) / 2;
	double arrivals = 0, floods = 0, changes = 0;

	memset(&sim, 0, sizeof(sim));
	*result = (struct sim_result){0};
	sim.config = config;
	sim.result = result;
	sim.random = config->seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	if (config->n_backends > MAX_SERVERS)
		check(-EINVAL, "servers");
	allocate_flows(config->n_flows);
	sim.slots = allocate(config->n_slots, sizeof(*sim.slots));
	sim.target = allocate(config->n_slots, sizeof(*sim.target));
	set_up();
	populate();
	for (sim.step = 0; sim.step < n_steps; sim.step++) {
		set_clock();
		events_of_step(warm_up_steps, half_steps, &arrivals, &floods, &changes);
		send_packets();
	}
	result->n_waiting = sim.n_waiting;
	settle_balance();
	for (unsigned i = 0; i < config->n_backends; i++)
		if (sim.servers[i].n_expected > 400)
			result->imbalance = fmax(result->imbalance,
				fabs((double)sim.servers[i].n_new / sim.servers[i].n_expected - 1));
	lb_maglev_destroy(sim.maglev);
	free(sim.slots);
	free(sim.target);
	free(sim.flows);
	free(sim.chunks);
	pipeline_stop(&sim.pipeline);
}

void sim_init(void)
{
	pipeline_start_eal_alone(1024);
}

void sim_fini(void)
{
	rte_eal_cleanup();
}
