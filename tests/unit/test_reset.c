/* SPDX-License-Identifier: BSD-3-Clause */
/* RSTs of nat's backends, through the real stages: which flows end by them, at whatever worker, and which go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>

#include "dataplane/reset.h"
#include "tests/unit/fullnat_util.h"

#define N_WORKERS 3u
#define CLIENT4 "198.51.100.7"
#define CLIENT6 "2001:db8:c::7"

/* Service i has backends 2i, which all slots name at first, and 2i + 1. */
static const struct {
	const char *client, *vip, *backends[2];
	uint16_t port, backend_port; /* 0: all; keep the client's */
} services[] = {
	{CLIENT4, "203.0.113.10", {"10.0.0.1", "10.0.0.2"}, 80, 8080},
	{CLIENT6, "2001:db8::10", {"fd00::1", "fd00::2"}, 80, 8080},
	{CLIENT4, "203.0.113.11", {"10.0.0.3", "10.0.0.4"}, 0, 0},
	{CLIENT6, "2001:db8::11", {"fd00::3", "fd00::4"}, 0, 0},
};
#define N_SERVICES (sizeof(services) / sizeof(services[0]))

static struct pipeline pipeline;
static uint16_t next_port;

static int set_up(void **state)
{
	(void)state;
	pipeline_start(&pipeline, N_WORKERS, 8192, 63);
	pipeline_sync_begin(&pipeline);
	for (uint16_t i = 0; i < N_SERVICES; i++) {
		pipeline_service(&pipeline, i, services[i].vip, services[i].port, IPPROTO_TCP);
		for (uint16_t k = 0; k < 2; k++)
			pipeline_backend(&pipeline, (uint16_t)(2 * i + k), i, services[i].backends[k],
				services[i].backend_port, LB_BACKEND_UP);
		publish_some(&pipeline, i, (uint16_t)(2 * i), 1);
	}
	pipeline_sync_end(&pipeline);
	next_port = 20000;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	pipeline_stop(&pipeline);
	return 0;
}

// And a whole round of every sweep: the first may have begun before.
static void pass_time(uint32_t ticks)
{
	advance(&pipeline, ticks);
	advance(&pipeline, 0);
}

// Each worker takes what the others have told it, one of them at a poll.
static void poll_all(void)
{
	for (unsigned n = 0; n < N_WORKERS * 128; n++)
		lb_worker_keep_house(pipeline.dp.workers[n % N_WORKERS], 0);
}

static struct segment from_client(unsigned service, uint16_t port, uint8_t flags)
{
	return segment_of(services[service].client, port, services[service].vip,
		services[service].port != 0 ? services[service].port : 4711, IPPROTO_TCP, flags);
}

// @return whether backend k of the service has the segment that came in at the given worker.
static unsigned send_at(unsigned worker, unsigned service, uint16_t port, uint8_t flags)
{
	struct segment in = from_client(service, port, flags), out;

	assert_int_equal(pass(&pipeline, worker, &in, &out), LB_VERDICT_FORWARD);
	for (unsigned k = 0; k < 2; k++) {
		struct lb_addr addr = addr_of(services[service].backends[k]);

		if (lb_addr_equal(&out.dst, &addr))
			return k;
	}
	fail_msg("to nobody's address");
	return 0;
}

// What backend k says to that client, and what becomes of it, is as without flags.
static void reply_at(unsigned worker, unsigned service, unsigned k, uint16_t port, uint8_t flags)
{
	struct segment asked = from_client(service, port, 0), out;
	struct segment in = segment_of(services[service].backends[k],
		services[service].backend_port != 0 ? services[service].backend_port : asked.dport,
		services[service].client, port, IPPROTO_TCP, flags);

	assert_int_equal(pass(&pipeline, worker, &in, &out), LB_VERDICT_REPLY);
	assert_true(lb_addr_equal(&out.src, &asked.dst));
	assert_int_equal(out.sport, asked.dport);
	assert_int_equal(out.dport, port);
	assert_int_equal(out.flags, flags);
}

static uint16_t connect_at(unsigned worker, unsigned service, unsigned k)
{
	uint16_t port = next_port++;

	assert_int_equal(send_at(worker, service, port, SYN), k);
	assert_int_equal(send_at(worker, service, port, ACK), k);
	return port;
}

static void assert_flows(unsigned service, unsigned k, uint64_t n_active, uint64_t n_closing)
{
	size_t backend = offsetof(struct lb_worker_counters, backends) +
		(2 * service + k) * sizeof(struct lb_backend_counters);

	assert_int_equal(total(&pipeline, backend + offsetof(struct lb_backend_counters, active_flows)), n_active);
	assert_int_equal(total(&pipeline, backend + offsetof(struct lb_backend_counters, closing_flows)), n_closing);
}

/* ---- what ends a flow ---- */

// At the worker that has it, and at each of the others.
static void a_backends_rst_ends_its_flow(void **state)
{
	(void)state;
	for (unsigned n = 0; n < N_SERVICES * N_WORKERS * N_WORKERS; n++) {
		unsigned service = n % N_SERVICES, here = n / N_SERVICES % N_WORKERS, there = n / N_SERVICES / N_WORKERS;
		struct lb_backend_counters *counters = &pipeline.dp.workers[there]->counters->backends[2 * service];
		uint64_t n_ended = TOTAL(flow.reset), n_resets = counters->resets;
		uint16_t port = connect_at(here, service, 0);

		assert_flows(service, 0, 1, 0);
		reply_at(there, service, 0, port, ACK);
		poll_all();
		assert_flows(service, 0, 1, 0);
		reply_at(there, service, 0, port, n % 2 == 0 ? RST : RST | ACK);
		assert_int_equal(counters->resets, n_resets + 1);
		assert_flows(service, 0, here != there, here == there); // a note is under way
		poll_all();
		assert_flows(service, 0, 0, 1);
		assert_int_equal(TOTAL(flow.reset), n_ended + 1);
		pass_time(LB_FLOW_CLOSED_TICKS + 1);
		assert_flows(service, 0, 0, 0);
	}
	assert_int_equal(TOTAL(flow.reset_lost), 0);
}

// Refused: the client's next SYN is a new flow, and need not wait for the old one's time as a handshake.
static void a_refused_connection_ends(void **state)
{
	(void)state;
	for (unsigned service = 0; service < N_SERVICES; service++) {
		uint16_t port = next_port++;

		assert_int_equal(send_at(0, service, port, SYN), 0);
		assert_flows(service, 0, 1, 0);
		reply_at(1, service, 0, port, RST | ACK);
		poll_all();
		assert_flows(service, 0, 0, 1);
		publish_some(&pipeline, (uint16_t)service, (uint16_t)(2 * service + 1), 1);
		assert_int_equal(send_at(0, service, port, SYN), 1);
		assert_flows(service, 0, 0, 0);
		assert_flows(service, 1, 1, 0);
	}
}

// A connection that the client has closed first, with data still on its way that nobody wants.
static void a_half_closed_flow_ends(void **state)
{
	uint16_t port = connect_at(1, 0, 0);

	(void)state;
	send_at(1, 0, port, FIN | ACK);
	assert_flows(0, 0, 0, 1);
	reply_at(0, 0, 0, port, RST);
	poll_all();
	assert_flows(0, 0, 0, 1);
	pass_time(LB_FLOW_CLOSED_TICKS + 1);
	assert_flows(0, 0, 0, 0);
}

// A segment repeated by the backend, or a flood of spoofed ones, does not keep the entry.
static void more_rsts_do_not_keep_it(void **state)
{
	uint16_t port = connect_at(0, 1, 0);

	(void)state;
	for (unsigned n = 0; n <= LB_FLOW_CLOSED_TICKS; n++) {
		assert_flows(1, 0, n == 0, n != 0);
		reply_at(n % 2, 1, 0, port, RST);
		poll_all();
		pass_time(1);
	}
	assert_flows(1, 0, 0, 0);
	assert_int_equal(TOTAL(flow.reset), 1);
}

/* ---- what does not ---- */

static void other_packets_of_a_backend_end_nothing(void **state)
{
	static const uint8_t flags[] = {ACK, PSH | ACK, SYN | ACK, FIN | ACK};

	(void)state;
	for (unsigned service = 0; service < N_SERVICES; service++) {
		uint16_t port = connect_at(0, service, 0);

		for (unsigned n = 0; n < 2 * RTE_DIM(flags); n++)
			reply_at(n % 2, service, 0, port, flags[n / 2]);
		poll_all();
		assert_flows(service, 0, 1, 0);
	}
	assert_int_equal(TOTAL(flow.reset), 0);
}

// Another client's flow, another backend's, a flow that nobody has.
static void a_rst_of_another_flow_ends_nothing(void **state)
{
	(void)state;
	for (unsigned service = 0; service < N_SERVICES; service++) {
		uint16_t port = connect_at(0, service, 0);

		for (unsigned worker = 0; worker < N_WORKERS; worker++) {
			reply_at(worker, service, 0, (uint16_t)(port + 10000), RST);
			reply_at(worker, service, 1, port, RST);
		}
		poll_all();
		assert_flows(service, 0, 1, 0);
	}
	assert_int_equal(TOTAL(flow.reset), 0);
}

/* ---- in one burst ---- */

// A client that resets its connection, and begins anew by the same port before anything has come back, in one burst with
// what it sends then: whichever backend has the SYN has all of it, whatever the slot says by now.
static void rst_syn_and_ack_of_a_burst_stay_together(void **state)
{
	struct lb_worker *worker = pipeline.worker;

	(void)state;
	for (unsigned n = 0; n < 2 * N_SERVICES; n++) {
		static const uint8_t flags[] = {RST, SYN, ACK};
		unsigned service = n % N_SERVICES, has_syn, moved = n >= N_SERVICES;
		uint16_t port = connect_at(0, service, 0);
		struct lb_burst *burst = &worker->burst;

		if (moved)
			publish_some(&pipeline, (uint16_t)service, (uint16_t)(2 * service + 1), 1);
		burst->n = RTE_DIM(flags);
		burst->port = 0;
		for (unsigned i = 0; i < burst->n; i++) {
			struct segment in = from_client(service, port, flags[i]);
			struct frame frame = frame_of(&in);

			burst->mbufs[i] = pipeline_mbuf(&pipeline, frame.bytes, frame.n);
		}
		lb_worker_process(worker);
		for (unsigned i = 0; i < burst->n; i++)
			assert_int_equal(burst->packets[i].verdict, LB_VERDICT_FORWARD);
		has_syn = burst->packets[1].backend - 2 * service;
		assert_int_equal(burst->packets[2].backend, burst->packets[1].backend);
		pipeline_free_burst(&pipeline);
		assert_int_equal(send_at(0, service, port, ACK), has_syn);
		assert_int_equal(send_at(0, service, port, PSH | ACK), has_syn);
	}
}

/* ---- a spoofed one, or one that the client did not accept ---- */

// The live flow goes on where it was, whatever its slot says by now, and counts again.
static void a_live_flow_goes_on_at_its_backend(void **state)
{
	(void)state;
	for (unsigned service = 0; service < N_SERVICES; service++) {
		uint16_t before = connect_at(0, service, 0), since;

		publish_some(&pipeline, (uint16_t)service, (uint16_t)(2 * service + 1), 1);
		assert_int_equal(send_at(0, service, before, ACK), 0);
		since = connect_at(0, service, 1);
		for (unsigned worker = 0; worker < N_WORKERS; worker++) {
			reply_at(worker, service, 0, before, RST);
			reply_at(worker, service, 1, since, RST);
			poll_all();
			assert_flows(service, 0, 0, 1);
			assert_flows(service, 1, 0, 1);
			assert_int_equal(send_at(0, service, before, ACK), 0);
			assert_int_equal(send_at(0, service, since, PSH | ACK), 1);
			assert_flows(service, 0, 1, 0);
			assert_flows(service, 1, 1, 0);
		}
		// and after a silence, too: without its entry it would go elsewhere
		reply_at(1, service, 1, since, RST);
		poll_all();
		pass_time(20);
		assert_int_equal(send_at(0, service, since, ACK), 1);
		assert_flows(service, 1, 1, 0);
	}
}

/* ---- more of them than can be told ---- */

static void more_than_a_worker_is_told_of_are_counted(void **state)
{
	enum { N_FLOWS = 3000 };
	uint16_t first = next_port;

	(void)state;
	for (unsigned n = 0; n < N_FLOWS; n++)
		connect_at(0, 0, 0);
	for (uint16_t n = 0; n < N_FLOWS; n++)
		reply_at(1, 0, 0, (uint16_t)(first + n), RST);
	assert_true(TOTAL(flow.reset_lost) > 0);
	assert_true(TOTAL(flow.reset_lost) < N_FLOWS);
	poll_all();
	assert_int_equal(TOTAL(flow.reset) + TOTAL(flow.reset_lost), N_FLOWS);
	assert_flows(0, 0, TOTAL(flow.reset_lost), TOTAL(flow.reset));
	for (uint16_t n = 0; n < N_FLOWS; n++) // there is room again
		if (n % 100 == 0)
			poll_all();
		else
			reply_at(2, 0, 0, (uint16_t)(first + n), RST);
	poll_all();
	assert_true(TOTAL(flow.reset) > N_FLOWS / 100 * 98);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_backends_rst_ends_its_flow),
		TEST(a_refused_connection_ends),
		TEST(a_half_closed_flow_ends),
		TEST(more_rsts_do_not_keep_it),
		TEST(other_packets_of_a_backend_end_nothing),
		TEST(a_rst_of_another_flow_ends_nothing),
		TEST(rst_syn_and_ack_of_a_burst_stay_together),
		TEST(a_live_flow_goes_on_at_its_backend),
		TEST(more_than_a_worker_is_told_of_are_counted),
	};

	return cmocka_run_group_tests(tests, pipeline_eal_set_up, pipeline_eal_tear_down);
}
