/* SPDX-License-Identifier: BSD-3-Clause */
/* Schedulers in the real flow stage: what a flow's first packet decides, and what those after it follow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include <netinet/in.h>

#include "dataplane/flow.h"
#include "dataplane/stages.h"
#include "lb/smooth.h"
#include "tests/unit/fullnat_util.h"

#define N 5u         /* backends 0..4 of service 0; 5 is of service 1 */
#define N_SLOTS 251u

static struct pipeline pipeline;
static uint32_t next_client;

static int set_up(void **state)
{
	(void)state;
	pipeline_start(&pipeline, 1, 1024, 63);
	pipeline_sync_begin(&pipeline);
	pipeline_service(&pipeline, 0, "203.0.113.10", 80, IPPROTO_TCP);
	pipeline_service(&pipeline, 1, "203.0.113.11", 80, IPPROTO_TCP);
	for (uint16_t i = 0; i <= N; i++) {
		char addr[16];

		snprintf(addr, sizeof(addr), "10.0.0.%u", 11 + i);
		pipeline_backend(&pipeline, i, i == N, addr, 8080, LB_BACKEND_UP);
	}
	pipeline_sync_end(&pipeline);
	next_client = 0;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	pipeline_stop(&pipeline);
	return 0;
}

// The words of a table over the first n backends: slots in turn, members with weights, the smooth sequence.
static int publish_with(
	enum lb_scheduler scheduler, uint32_t n, const uint32_t *weights, uint16_t max_load, void (*spoil)(uint16_t *))
{
	static uint32_t version = 1000;
	static uint16_t words[N_SLOTS + 2 * N + 4096];
	struct lb_msg msg = {.op = LB_OP_TABLE_PUBLISH};
	bool plain = (scheduler == LB_SCHED_SOURCE || scheduler == LB_SCHED_MAGLEV) && max_load == 0;
	size_t n_words;

	msg.table = (struct lb_msg_table){.n_slots = N_SLOTS, .version = ++version,
		.scheduler = (uint8_t)scheduler, .max_load_percent = max_load, .n_members = plain ? 0 : n};
	for (uint32_t i = 0; i < N_SLOTS; i++)
		words[i] = (uint16_t)(i % n);
	for (uint32_t i = 0; i < msg.table.n_members; i++) {
		words[N_SLOTS + 2 * i] = (uint16_t)i;
		words[N_SLOTS + 2 * i + 1] = (uint16_t)weights[i];
	}
	if (scheduler == LB_SCHED_RR || scheduler == LB_SCHED_WRR || scheduler == LB_SCHED_P2C) {
		msg.table.n_sequence = lb_smooth_length(weights, n);
		assert_int_equal(lb_smooth_fill(weights, n, words + N_SLOTS + 2 * n), 0);
	}
	n_words = N_SLOTS + 2 * msg.table.n_members + msg.table.n_sequence;
	if (spoil != NULL)
		spoil(words);
	memcpy(pipeline.dp.shm.shm->tables[0].slots, words, n_words * 2);
	msg.table.checksum = lb_hash_bytes(words, n_words * 2, version);
	return pipeline_command(&pipeline, &msg, NULL);
}

static void publish(enum lb_scheduler scheduler, uint32_t n, const uint32_t *weights, uint16_t max_load)
{
	assert_int_equal(publish_with(scheduler, n, weights, max_load, NULL), 0);
}

static const uint32_t alike[N] = {1, 1, 1, 1, 1};

static struct lb_flow_key key_of(uint32_t client, uint16_t port, uint8_t proto)
{
	struct lb_flow_key key = {.sport_be = port, .dport_be = 0x5000, .proto = proto};

	key.src.u32[3] = client;
	return key;
}

static uint16_t send_to(uint16_t service, const struct lb_flow_key *key, uint8_t tcp_flags)
{
	struct lb_burst *burst = &pipeline.worker->burst;

	burst->n = burst->n_to_service = 1;
	burst->to_service[0] = 0;
	burst->packets[0] = (struct lb_packet){
		.verdict = LB_VERDICT_FORWARD, .service = service, .tcp_flags = tcp_flags};
	burst->keys[0] = *key;
	lb_stage_flow(pipeline.worker, burst);
	return burst->packets[0].verdict == LB_VERDICT_FORWARD ? burst->packets[0].backend : LB_BACKEND_NONE;
}

static uint16_t send_packet(uint32_t client, uint16_t port, uint8_t tcp_flags)
{
	struct lb_flow_key key = key_of(client, port, IPPROTO_TCP);

	return send_to(0, &key, tcp_flags);
}

// A new connection: SYN and ACK arrive at the same backend.
static uint16_t connect_flow(void)
{
	uint16_t backend = send_packet(++next_client, 1, SYN);

	assert_int_equal(send_packet(next_client, 1, ACK), backend);
	return backend;
}

static uint16_t slot_backend(uint32_t client, uint16_t port)
{
	struct lb_flow_key key = key_of(client, port, IPPROTO_TCP);
	const struct lb_slot_table *table = pipeline.dp.services[0].table;
	uint64_t hash;

	lb_hash_flows(&pipeline.dp.hash_key, &key, &hash, 1);
	hash = lb_flow_slot_hash(&pipeline.dp, 0, &key, hash);
	return table->slots[lb_hash_slot(hash, table->n_slots)].backend;
}

static int64_t n_active(uint16_t backend)
{
	return pipeline.worker->counters->backends[backend].active_flows;
}

static void wrr_follows_the_smooth_sequence(void **state)
{
	static const char expected[] = "abcaabacba";

	(void)state;
	publish(LB_SCHED_WRR, 3, (const uint32_t[]){5, 3, 2}, 0);
	for (unsigned i = 0; i < 30; i++)
		assert_int_equal(connect_flow(), expected[i % 10] - 'a');
}

static void rr_goes_on_after_a_failure(void **state)
{
	(void)state;
	publish(LB_SCHED_RR, 5, alike, 0);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(connect_flow(), i % 5);
	publish(LB_SCHED_RR, 4, alike, 0); // the last one failed
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(connect_flow(), (i + 2) % 4); // the next was 7 % 5
}

static void lc_gives_to_the_least_as_the_flow_table_counts(void **state)
{
	(void)state;
	publish(LB_SCHED_RR, 2, alike, 0);
	for (unsigned i = 0; i < 20; i++)
		connect_flow();
	publish(LB_SCHED_LC, 5, alike, 0);
	for (unsigned i = 0; i < 30; i++)
		assert_in_range(connect_flow(), 2, 4); // until all have ten
	for (uint16_t i = 0; i < 5; i++)
		assert_int_equal(n_active(i), 10);
}

static void p2c_never_takes_the_most_loaded(void **state)
{
	(void)state;
	publish(LB_SCHED_RR, 1, alike, 0);
	for (unsigned i = 0; i < 100; i++)
		connect_flow();
	publish(LB_SCHED_P2C, 5, alike, 0);
	for (unsigned i = 0; i < 100; i++)
		assert_int_not_equal(connect_flow(), 0);
}

static void source_stays_with_a_client_over_ports(void **state)
{
	unsigned n_backends = 0;
	bool seen[N] = {false};

	(void)state;
	publish(LB_SCHED_SOURCE, 5, alike, 0);
	for (uint32_t client = 1; client < 50; client++) {
		uint16_t backend = send_packet(client, 1, SYN);

		for (uint16_t port = 2; port < 12; port++) {
			assert_int_equal(send_packet(client, port, SYN), backend);
			assert_int_equal(send_packet(client, (uint16_t)(port + 100), ACK), backend);
		}
		n_backends += !seen[backend];
		seen[backend] = true;
	}
	assert_int_equal(n_backends, N);
	// nothing of it is pinned: entries are where their slots lead
	assert_int_equal(slot_backend(1, 1), slot_backend(1, 2));
}

static void move_even_slots(uint16_t *words)
{
	for (unsigned i = 0; i < N_SLOTS; i += 2)
		words[i] = (uint16_t)((words[i] + 1) % N);
}

static struct segment segment_from(uint32_t client, uint8_t flags)
{
	struct segment segment = segment_of("198.51.100.0", 1024 + client, "203.0.113.10", 80, IPPROTO_TCP, flags);

	segment.src.bytes[15] = (uint8_t)client;
	return segment;
}

// One plain packet of each of LB_BURST clients, eight parsed at once. @return how many the fast stage has settled.
static unsigned send_plain(uint8_t flags, bool fast)
{
	struct lb_worker *worker = pipeline.worker;

	worker->fetch_ports = 1;
	worker->fast_ports = fast;
	worker->burst.n = LB_BURST;
	worker->burst.port = 0;
	for (uint32_t i = 0; i < LB_BURST; i++) {
		struct segment segment = segment_from(i, flags);
		struct frame frame = frame_of(&segment);

		worker->burst.mbufs[i] = pipeline_mbuf(&pipeline, frame.bytes, frame.n);
		// not to be read unless written
		memset(&worker->burst.keys[i], 0x5a, offsetof(struct lb_flow_key, zero));
	}
	lb_worker_process(worker);
	for (unsigned i = 0; i < LB_BURST; i++)
		assert_int_equal(worker->burst.packets[i].verdict, LB_VERDICT_FORWARD);
	pipeline_free_burst(&pipeline);
	return (unsigned)__builtin_popcount(worker->burst.settled);
}

// Whether a slot has moved under a flow is for the slot of its client to say, not for that of all its key.
static void pins_where_the_client_s_slot_moves(bool fast)
{
	unsigned n_pinned = 0;

	publish(LB_SCHED_SOURCE, 5, alike, 0);
	send_plain(SYN, false);
	send_plain(ACK, false);
	assert_int_equal(publish_with(LB_SCHED_SOURCE, 5, alike, 0, move_even_slots), 0);
	pipeline.worker->tick++; // the first packet of a tick has it looked at
	assert_int_equal(send_plain(ACK, fast), fast ? LB_BURST : 0);
	for (uint32_t i = 0; i < LB_BURST; i++) {
		struct segment segment = segment_from(i, ACK);
		struct lb_flow_key key = {.src = segment.src, .dst = segment.dst, .sport_be = htons(segment.sport),
			.dport_be = htons(segment.dport), .proto = segment.proto};
		uint64_t hash, *entry;
		bool moved;

		lb_hash_flows(&pipeline.dp.hash_key, &key, &hash, 1);
		entry = lb_flowtable_lookup(&pipeline.worker->flowtable, hash, pipeline.worker->tick);
		assert_non_null(entry);
		moved = lb_hash_slot(lb_pick_source_hash(&pipeline.dp.hash_key, &key), N_SLOTS) % 2 == 0;
		assert_int_equal(lb_flow_entry_pinned(*entry), moved);
		n_pinned += moved;
	}
	assert_in_range(n_pinned, 1, LB_BURST - 1);
}

static void source_pins_where_the_client_s_slot_moves(void **state)
{
	(void)state;
	pins_where_the_client_s_slot_moves(false);
}

static void so_it_does_in_the_fast_stage(void **state)
{
	(void)state;
	pins_where_the_client_s_slot_moves(true);
}

static void bound_is_never_exceeded(void **state)
{
	unsigned n_elsewhere = 0, total = 0;

	(void)state;
	publish(LB_SCHED_MAGLEV, 5, alike, 125);
	for (uint32_t client = 1; total < 400; client++) {
		uint16_t backend;

		if (slot_backend(client, 1) != 2) // all want the same one
			continue;
		backend = send_packet(client, 1, SYN);
		total++;
		assert_true(n_active(backend) * 5 * 100 <= 125 * (int64_t)total + 5 * 100);
		assert_int_equal(send_packet(client, 1, ACK), backend);
		n_elsewhere += backend != 2;
	}
	assert_in_range(n_elsewhere, 290, 310); // 2 has a quarter of all
}

static void mid_stream_without_entry_goes_by_the_slot(void **state)
{
	static const enum lb_scheduler all[] = {
		LB_SCHED_RR, LB_SCHED_WRR, LB_SCHED_LC, LB_SCHED_WLC, LB_SCHED_P2C};

	(void)state;
	for (unsigned s = 0; s < 5; s++) {
		publish(all[s], 5, alike, 0);
		for (uint32_t client = 1; client < 100; client++)
			for (unsigned again = 0; again < 3; again++)
				assert_int_equal(send_packet(client, 7, ACK), slot_backend(client, 7));
	}
}

static void under_pressure_all_goes_by_the_slot(void **state)
{
	(void)state;
	publish(LB_SCHED_RR, 5, alike, 0);
	for (unsigned i = 0; i < 50; i++)
		connect_flow();
	pipeline.worker->pressure = true;
	for (uint32_t client = 1000; client < 1100; client++) {
		uint16_t backend = send_packet(client, 1, SYN);

		assert_int_equal(backend, slot_backend(client, 1));
		assert_int_equal(send_packet(client, 1, ACK), backend);
	}
	assert_int_equal(pipeline.worker->counters->flow.used, 50); // none of these is recorded
	for (uint32_t client = 1; client <= 50; client++) // and those before stay
		assert_int_equal(send_packet(client, 1, ACK), (client - 1) % 5);
	pipeline.worker->pressure = false;
	for (uint32_t client = 1000; client < 1100; client++)
		assert_int_equal(send_packet(client, 1, ACK), slot_backend(client, 1));
}

static void flows_beside_their_slot_are_pinned(void **state)
{
	unsigned n_pinned = 0;

	(void)state;
	publish(LB_SCHED_RR, 5, alike, 0);
	for (uint32_t client = 1; client <= 100; client++) {
		struct lb_flow_key key = key_of(client, 1, IPPROTO_TCP);
		uint16_t backend = send_packet(client, 1, SYN);
		uint64_t hash, *entry;

		lb_hash_flows(&pipeline.dp.hash_key, &key, &hash, 1);
		entry = lb_flowtable_lookup(&pipeline.worker->flowtable, hash, pipeline.worker->tick);
		assert_non_null(entry);
		assert_int_equal(lb_flow_entry_pinned(*entry), backend != slot_backend(client, 1));
		n_pinned += lb_flow_entry_pinned(*entry);
		assert_int_equal(send_packet(client, 1, ACK), backend);
		assert_int_equal(lb_flow_entry_pinned(*entry), backend != slot_backend(client, 1));
	}
	assert_in_range(n_pinned, 60, 95);
}

static void who_left_the_table_gets_nothing_new(void **state)
{
	uint16_t backends[10];

	(void)state;
	publish(LB_SCHED_RR, 5, alike, 0);
	for (unsigned i = 0; i < 10; i++)
		backends[i] = connect_flow();
	publish(LB_SCHED_RR, 4, alike, 0);
	pipeline_backend(&pipeline, 4, 0, "10.0.0.15", 8080, LB_BACKEND_DRAIN);
	for (uint32_t client = 1; client <= 10; client++)
		assert_int_equal(send_packet(client, 1, ACK), backends[client - 1]);
	pipeline_backend(&pipeline, 4, 0, "10.0.0.15", 8080, LB_BACKEND_DOWN);
	for (uint32_t client = 1; client <= 10; client++) {
		uint16_t backend = send_packet(client, 1, ACK);

		if (backends[client - 1] == 4)
			assert_in_range(backend, 0, 3); // in mid-stream: its slot's, or that one's origin
		else
			assert_int_equal(backend, backends[client - 1]);
		assert_int_equal(send_packet(client, 1, ACK), backend);
	}
}

static void udp_is_scheduled_by_its_first_packet(void **state)
{
	(void)state;
	publish(LB_SCHED_RR, 5, alike, 0);
	for (uint32_t client = 1; client <= 20; client++) {
		struct lb_flow_key key = key_of(client, 1, IPPROTO_UDP);

		for (unsigned again = 0; again < 3; again++)
			assert_int_equal(send_to(0, &key, 0), (client - 1) % 5);
	}
}

static void a_trace_changes_nothing(void **state)
{
	struct lb_msg msg = {.op = LB_OP_TRACE}, reply = {0};

	(void)state;
	publish(LB_SCHED_RR, 5, alike, 0);
	assert_int_equal(lb_addr_parse("198.51.100.7", &msg.trace.src), 0);
	assert_int_equal(lb_addr_parse("203.0.113.10", &msg.trace.dst), 0);
	msg.trace.sport_be = 0x1234;
	msg.trace.dport_be = htons(80);
	msg.trace.proto = IPPROTO_TCP;
	msg.trace.syn = 1;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pipeline_command(&pipeline, &msg, &reply), 0);
		assert_int_equal(reply.reply.trace.decision, LB_DECISION_SCHEDULER);
		assert_int_equal(reply.reply.trace.backend, 0);
	}
	assert_int_equal(connect_flow(), 0);
	assert_int_equal(pipeline_command(&pipeline, &msg, &reply), 0);
	assert_int_equal(reply.reply.trace.backend, 1);
	msg.trace.syn = 0;
	assert_int_equal(pipeline_command(&pipeline, &msg, &reply), 0);
	assert_int_equal(reply.reply.trace.decision, LB_DECISION_SLOT);
	assert_int_equal(reply.reply.trace.backend, reply.reply.trace.slot_backend);
}

static void spoil_member(uint16_t *words)
{
	words[N_SLOTS + 2 * 4] = N; // of another service
}

static void spoil_unknown(uint16_t *words)
{
	words[N_SLOTS + 2 * 4] = 4000;
}

static void spoil_weight(uint16_t *words)
{
	words[N_SLOTS + 1] = 0;
}

static void spoil_sequence(uint16_t *words)
{
	words[N_SLOTS + 2 * N] = N;
}

static void bad_pick_tables_are_refused_and_change_nothing(void **state)
{
	(void)state;
	publish(LB_SCHED_RR, 5, alike, 0);
	assert_int_equal(publish_with(LB_SCHED_RR, 5, alike, 0, spoil_member), -ERANGE);
	assert_int_equal(publish_with(LB_SCHED_RR, 5, alike, 0, spoil_unknown), -ERANGE);
	assert_int_equal(publish_with(LB_SCHED_RR, 5, alike, 0, spoil_weight), -EINVAL);
	assert_int_equal(publish_with(LB_SCHED_RR, 5, alike, 0, spoil_sequence), -EINVAL);
	assert_int_equal(publish_with(LB_SCHED_MAGLEV, 5, alike, 100, NULL), -EINVAL);
	assert_int_equal(publish_with(LB_SCHED_LC, 5, alike, 125, NULL), -EINVAL);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(connect_flow(), i);
}

static void members_are_not_deleted(void **state)
{
	struct lb_msg msg = {.op = LB_OP_BACKEND_DEL, .id = 4};

	(void)state;
	publish(LB_SCHED_LC, 5, alike, 0);
	assert_int_equal(pipeline_command(&pipeline, &msg, NULL), -EBUSY);
	publish(LB_SCHED_LC, 4, alike, 0);
	assert_int_equal(pipeline_command(&pipeline, &msg, NULL), 0);
	for (unsigned i = 0; i < 20; i++)
		assert_in_range(connect_flow(), 0, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(wrr_follows_the_smooth_sequence),
		TEST(rr_goes_on_after_a_failure),
		TEST(lc_gives_to_the_least_as_the_flow_table_counts),
		TEST(p2c_never_takes_the_most_loaded),
		TEST(source_stays_with_a_client_over_ports),
		TEST(source_pins_where_the_client_s_slot_moves),
		TEST(so_it_does_in_the_fast_stage),
		TEST(bound_is_never_exceeded),
		TEST(mid_stream_without_entry_goes_by_the_slot),
		TEST(under_pressure_all_goes_by_the_slot),
		TEST(flows_beside_their_slot_are_pinned),
		TEST(who_left_the_table_gets_nothing_new),
		TEST(udp_is_scheduled_by_its_first_packet),
		TEST(a_trace_changes_nothing),
		TEST(bad_pick_tables_are_refused_and_change_nothing),
		TEST(members_are_not_deleted),
	};

	return cmocka_run_group_tests(tests, pipeline_eal_set_up, pipeline_eal_tear_down);
}
