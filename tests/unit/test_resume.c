/* SPDX-License-Identifier: BSD-3-Clause */
/* A data plane that is restarted forwards before all is told: what goes on at once, what waits, and that nothing goes elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include <netinet/in.h>

#include "dataplane/flow.h"
#include "dataplane/history.h"
#include "dataplane/resume.h"
#include "dataplane/stages.h"
#include "tests/pipeline/pipeline.h"

#define N_SLOTS 251u
#define N_SERVICES 3u
#define PER_SERVICE 4u /* backends: 4 * service + 0..3 */
#define N_FLOWS 500u
enum { SYN = 2, ACK = 16 };

static struct pipeline pipeline, *const now = &pipeline;

static void tell_service(uint16_t id, enum lb_scheduler scheduler)
{
	struct lb_msg msg = {.op = LB_OP_SERVICE_SET,
		.service = {.id = id, .idle_timeout_ms = 60000, .mode = LB_MODE_NAT, .scheduler = (uint8_t)scheduler,
			.on_empty = LB_ON_EMPTY_RESET}};
	char vip[20];

	snprintf(vip, sizeof(vip), "203.0.113.%u", 10 + id);
	assert_int_equal(lb_addr_parse(vip, &msg.service.key.addr), 0);
	msg.service.key.port_be = rte_cpu_to_be_16(80);
	msg.service.key.proto = IPPROTO_TCP;
	assert_int_equal(pipeline_command(now, &msg, NULL), 0);
}

static void tell_backend(uint16_t id, enum lb_backend_state backend_state)
{
	char addr[20];

	snprintf(addr, sizeof(addr), "10.0.0.%u", 1 + id);
	pipeline_backend(now, id, id / PER_SERVICE, addr, 8080, backend_state);
}

static void tell_objects(enum lb_scheduler scheduler)
{
	pipeline_sync_begin(now);
	for (uint16_t id = 0; id < N_SERVICES; id++)
		tell_service(id, scheduler);
	for (uint16_t id = 0; id < N_SERVICES * PER_SERVICE; id++)
		tell_backend(id, LB_BACKEND_UP);
}

static int tell(enum lb_op op)
{
	return pipeline_command(now, &(struct lb_msg){.op = (uint16_t)op}, NULL);
}

// Slots of a service in turn over the n of its backends from `first` on.
static void publish(uint16_t service, unsigned first, unsigned n, enum lb_scheduler scheduler)
{
	static uint32_t version;
	struct lb_msg msg = {.op = LB_OP_TABLE_PUBLISH,
		.table = {.service = service, .n_slots = N_SLOTS, .version = ++version, .scheduler = (uint8_t)scheduler}};
	uint16_t slots[N_SLOTS];

	for (unsigned i = 0; i < N_SLOTS; i++)
		slots[i] = (uint16_t)(service * PER_SERVICE + first + i % n);
	memcpy(now->dp.shm.shm->tables[0].slots, slots, sizeof(slots));
	msg.table.checksum = lb_hash_bytes(slots, sizeof(slots), version);
	assert_int_equal(pipeline_command(now, &msg, NULL), 0);
	assert_int_equal(now->dp.services[service].table->version, version);
}

static struct lb_packet *send_packet(uint32_t service, uint32_t client, uint8_t tcp_flags)
{
	struct lb_burst *burst = &now->worker->burst;

	burst->n = burst->n_to_service = 1;
	burst->n_answer = 0;
	burst->to_service[0] = 0;
	burst->packets[0] = (struct lb_packet){
		.verdict = LB_VERDICT_FORWARD, .service = (uint16_t)service, .tcp_flags = tcp_flags};
	burst->keys[0] = (struct lb_flow_key){.sport_be = 1, .dport_be = 0x5000, .proto = IPPROTO_TCP};
	burst->keys[0].src.u32[3] = client;
	lb_stage_flow(now->worker, burst);
	return &burst->packets[0];
}

static uint16_t backend_of(uint32_t service, uint32_t client, uint8_t tcp_flags)
{
	const struct lb_packet *packet = send_packet(service, client, tcp_flags);

	return packet->verdict == LB_VERDICT_FORWARD ? packet->backend : LB_BACKEND_NONE;
}

static int set_up_with(enum lb_scheduler scheduler)
{
	pipeline_start(now, 1, 4096, 63);
	tell_objects(scheduler);
	for (uint16_t id = 0; id < N_SERVICES; id++)
		publish(id, 0, PER_SERVICE, scheduler);
	assert_int_equal(tell(LB_OP_SYNC_END), 0);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	return set_up_with(LB_SCHED_MAGLEV);
}

static int set_up_source(void **state)
{
	(void)state;
	return set_up_with(LB_SCHED_SOURCE);
}

// It is gone; the next one finds what it left.
static void restart(void)
{
	pipeline_leave(now);
	pipeline_start(now, 1, 4096, 63);
}

static int tear_down(void **state)
{
	(void)state;
	for (uint16_t id = 0; id < N_SERVICES; id++)
		lb_history_forget(&now->dp, id); // also of one that was told no service after its restart
	pipeline_stop(now);
	return 0;
}

static void resume_all(void)
{
	while (lb_resume_step(&now->dp))
		;
}

/* Tests. */

static void recorded_flows_go_on_before_any_table(void **state)
{
	uint16_t backends[N_FLOWS];

	(void)state;
	for (uint32_t i = 0; i < N_FLOWS; i++) {
		backends[i] = backend_of(i % N_SERVICES, i, SYN);
		assert_int_equal(backend_of(i % N_SERVICES, i, ACK), backends[i]);
	}
	restart();
	tell_objects(LB_SCHED_MAGLEV);
	assert_false(now->dp.live);
	assert_int_equal(now->dp.shm.shm->header.synced, 0);
	assert_int_equal(tell(LB_OP_SYNC_OBJECTS), 0);
	assert_true(now->dp.live);
	assert_int_equal(now->dp.shm.shm->header.synced, 1);
	assert_int_equal(now->dp.shm.shm->header.adopted_flows, N_FLOWS);
	for (uint32_t i = 0; i < N_FLOWS; i++) {
		assert_null(now->dp.services[i % N_SERVICES].table);
		assert_int_equal(backend_of(i % N_SERVICES, i, ACK), backends[i]);
	}
	// Others wait, and are told nothing even where on_empty is reset (tests/vectors).
	assert_int_equal(send_packet(0, N_FLOWS + 1, SYN)->verdict, LB_VERDICT_NO_TABLE);
	assert_int_equal(send_packet(0, N_FLOWS + 1, ACK)->verdict, LB_VERDICT_NO_TABLE);
	resume_all();
	assert_int_not_equal(backend_of(0, N_FLOWS + 1, SYN), LB_BACKEND_NONE);
}

// Nothing is recorded for them (mid-stream): the kept tables and their history alone say where they belong.
static void unrecorded_flows_go_on_by_the_kept_tables(void **state)
{
	uint16_t backends[N_FLOWS];

	(void)state;
	for (uint32_t i = 0; i < N_FLOWS; i++)
		backends[i] = backend_of(i % N_SERVICES, i, ACK);
	publish(0, 1, 3, LB_SCHED_MAGLEV); // its slots are in transition from now on
	memset(now->worker->flowtable.buckets, 0, now->worker->flowtable.n_buckets * sizeof(struct lb_flow_bucket));
	restart();
	tell_objects(LB_SCHED_MAGLEV);
	assert_int_equal(tell(LB_OP_SYNC_OBJECTS), 0);
	assert_int_equal(now->dp.shm.shm->header.adopted_flows, 0);
	resume_all();
	for (uint32_t i = 0; i < N_FLOWS; i++)
		assert_int_equal(backend_of(i % N_SERVICES, i, ACK), backends[i]);
	// And once control's tables are there, one of them another than was kept.
	publish(0, 1, 3, LB_SCHED_MAGLEV);
	publish(1, 1, 3, LB_SCHED_MAGLEV);
	publish(2, 0, PER_SERVICE, LB_SCHED_MAGLEV);
	assert_int_equal(tell(LB_OP_SYNC_END), 0);
	for (uint32_t i = 0; i < N_FLOWS; i++)
		assert_int_equal(backend_of(i % N_SERVICES, i, ACK), backends[i]);
}

static void a_kept_table_whose_backends_are_not_all_up_waits(void **state)
{
	static const enum lb_backend_state states[N_SERVICES] = {LB_BACKEND_UP, LB_BACKEND_DOWN, LB_BACKEND_DRAIN};
	uint16_t backends[N_FLOWS];

	(void)state;
	for (uint32_t i = 0; i < N_FLOWS; i++)
		backends[i] = backend_of(i % N_SERVICES, i, ACK);
	memset(now->worker->flowtable.buckets, 0, now->worker->flowtable.n_buckets * sizeof(struct lb_flow_bucket));
	restart();
	tell_objects(LB_SCHED_MAGLEV);
	for (uint16_t id = 0; id < N_SERVICES; id++)
		tell_backend(id * PER_SERVICE, states[id]);
	assert_int_equal(tell(LB_OP_SYNC_OBJECTS), 0);
	resume_all();
	assert_non_null(now->dp.services[0].table);
	assert_null(now->dp.services[1].table);
	assert_null(now->dp.services[2].table);
	// What was kept is the history of what comes.
	for (uint16_t id = 0; id < N_SERVICES; id++)
		publish(id, id != 0, PER_SERVICE - (id != 0), LB_SCHED_MAGLEV);
	assert_int_equal(tell(LB_OP_SYNC_END), 0);
	for (uint32_t i = 0; i < N_FLOWS; i++) {
		uint32_t service = i % N_SERVICES;
		bool is_lost = service == 1 && backends[i] == service * PER_SERVICE; // its backend is down
		uint16_t backend = backend_of(service, i, ACK);

		if (is_lost)
			assert_int_not_equal(backend, backends[i]);
		else
			assert_int_equal(backend, backends[i]);
	}
}

static void services_with_most_flows_come_first(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 20; i++)
		backend_of(1, i, SYN);
	for (uint32_t i = 0; i < 40; i++)
		backend_of(2, i, SYN);
	restart();
	tell_objects(LB_SCHED_MAGLEV);
	assert_int_equal(tell(LB_OP_SYNC_OBJECTS), 0);
	assert_int_equal(lb_resume_list(&now->dp, 0), 2);
	assert_int_equal(lb_resume_list(&now->dp, 1), 1);
	assert_int_equal(lb_resume_list(&now->dp, 2), 0);
	assert_int_equal(lb_resume_list(&now->dp, 3), UINT16_MAX);
	resume_all();
	assert_int_equal(lb_resume_list(&now->dp, 0), UINT16_MAX);
}

// What a service is between: its first table is control's, or it is gone, before its turn has come.
static void what_changes_before_its_turn_is_left_alone(void **state)
{
	const struct lb_slot_table *published;

	(void)state;
	restart();
	tell_objects(LB_SCHED_MAGLEV);
	assert_int_equal(tell(LB_OP_SYNC_OBJECTS), 0);
	publish(0, 0, 2, LB_SCHED_MAGLEV);
	published = now->dp.services[0].table;
	assert_int_equal(pipeline_command(now, &(struct lb_msg){.op = LB_OP_SERVICE_DEL, .id = 1}, NULL), 0);
	tell_service(1, LB_SCHED_MAGLEV); // anew, while it forwards: nothing is from before
	for (uint16_t id = PER_SERVICE; id < 2 * PER_SERVICE; id++)
		tell_backend(id, LB_BACKEND_UP);
	resume_all();
	assert_ptr_equal(now->dp.services[0].table, published);
	assert_null(now->dp.services[1].table);
	assert_non_null(now->dp.services[2].table);
	for (unsigned i = 0; i < PER_SERVICE; i++)
		assert_int_equal(now->dp.slot_refs[i] + now->dp.slot_refs[8 + i] != 0, true);
	for (unsigned i = PER_SERVICE; i < 2 * PER_SERVICE; i++)
		assert_int_equal(now->dp.slot_refs[i], 0);
}

static void a_table_like_the_one_in_force_replaces_nothing(void **state)
{
	const struct lb_slot_table *kept;
	uint32_t refs;

	(void)state;
	restart();
	tell_objects(LB_SCHED_MAGLEV);
	assert_int_equal(tell(LB_OP_SYNC_OBJECTS), 0);
	resume_all();
	kept = now->dp.services[0].table;
	refs = now->dp.slot_refs[0];
	publish(0, 0, PER_SERVICE, LB_SCHED_MAGLEV);
	assert_ptr_equal(now->dp.services[0].table, kept);
	assert_int_equal(now->dp.slot_refs[0], refs);
	publish(0, 0, 2, LB_SCHED_MAGLEV);
	assert_ptr_not_equal(now->dp.services[0].table, kept);
	kept = now->dp.services[0].table;
	tell_service(0, LB_SCHED_MAGLEV);
	assert_int_equal(pipeline_command(now,
				 &(struct lb_msg){.op = LB_OP_SERVICE_SET,
					 .service = {.key = now->dp.services[0].key, .idle_timeout_ms = 90000}},
				 NULL),
		0);
	publish(0, 0, 2, LB_SCHED_MAGLEV); // T comes with a table
	assert_ptr_not_equal(now->dp.services[0].table, kept);
	assert_int_equal(now->dp.services[0].table->transition_s, 90);
}

// All of a client's flows are at one backend; the kept table is gone through by its address alone.
static void source_affinity_holds_with_the_kept_table(void **state)
{
	uint16_t backends[N_FLOWS];

	(void)state;
	for (uint32_t i = 0; i < N_FLOWS; i++)
		backends[i] = backend_of(0, i, ACK);
	memset(now->worker->flowtable.buckets, 0, now->worker->flowtable.n_buckets * sizeof(struct lb_flow_bucket));
	restart();
	tell_objects(LB_SCHED_SOURCE);
	assert_int_equal(tell(LB_OP_SYNC_OBJECTS), 0);
	resume_all();
	for (uint32_t i = 0; i < N_FLOWS; i++)
		assert_int_equal(backend_of(0, i, ACK), backends[i]);
	publish(0, 0, PER_SERVICE, LB_SCHED_SOURCE);
	for (uint32_t i = 0; i < N_FLOWS; i++)
		assert_int_equal(backend_of(0, i, ACK), backends[i]);
}

static void it_belongs_into_a_sync(void **state)
{
	(void)state;
	assert_int_equal(tell(LB_OP_SYNC_OBJECTS), -EINVAL);
	assert_int_equal(tell(LB_OP_SYNC_BEGIN), 0);
	assert_int_equal(tell(LB_OP_SYNC_OBJECTS), 0); // it forwards already
	restart();
	assert_int_equal(tell(LB_OP_SYNC_BEGIN), 0);
	assert_int_equal(tell(LB_OP_SYNC_OBJECTS), -EINVAL); // without a secret
	assert_false(now->dp.live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(recorded_flows_go_on_before_any_table),
		TEST(unrecorded_flows_go_on_by_the_kept_tables),
		TEST(a_kept_table_whose_backends_are_not_all_up_waits),
		TEST(services_with_most_flows_come_first),
		TEST(what_changes_before_its_turn_is_left_alone),
		TEST(a_table_like_the_one_in_force_replaces_nothing),
		cmocka_unit_test_setup_teardown(source_affinity_holds_with_the_kept_table, set_up_source, tear_down),
		TEST(it_belongs_into_a_sync),
	};

	return cmocka_run_group_tests_name("resume", tests, pipeline_eal_set_up, pipeline_eal_tear_down);
}
