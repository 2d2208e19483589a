/* SPDX-License-Identifier: BSD-3-Clause */
/* The MSS clamp, through the real stages: clients on port 0, backends on port 1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include <netinet/in.h>

#include "dataplane/checksum.h"
#include "dataplane/mss.h"
#include "dataplane/stages.h"
#include "tests/unit/fullnat_util.h"

static struct pipeline pipeline;

/* Service i has backend i. */
static const struct {
	const char *client, *vip, *backend;
	enum lb_mode mode;
	enum lb_client_address what;
	unsigned n_added; /* in front of what a client sends */
} services[] = {
	{"198.51.100.7", "203.0.113.10", "10.0.0.1", LB_MODE_NAT, LB_CLIENT_ADDRESS_NONE, 0},
	{"2001:db8:c::7", "2001:db8::10", "fd00::1", LB_MODE_NAT, LB_CLIENT_ADDRESS_NONE, 0},
	{"198.51.100.7", "203.0.113.10", "10.0.0.2", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_NONE, 0},
	{"2001:db8:c::7", "2001:db8::10", "fd00::2", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_NONE, 0},
	{"198.51.100.7", "203.0.113.10", "10.0.0.3", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_TOA, 8},
	{"2001:db8:c::7", "2001:db8::10", "fd00::3", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_TOA, 20},
	{"198.51.100.7", "203.0.113.10", "10.0.0.4", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_PROXY_V2, 28},
	{"2001:db8:c::7", "2001:db8::10", "fd00::4", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_PROXY_V2, 52},
	{"2001:db8:c::7", "2001:db8::10", "10.0.0.5", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_NONE, 0},
	{"198.51.100.7", "203.0.113.10", "fd00::5", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_NONE, 0},
	{"2001:db8:c::7", "2001:db8::10", "10.0.0.6", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_PROXY_V2, 52},
	{"198.51.100.7", "203.0.113.10", "10.0.0.7", LB_MODE_DSR, LB_CLIENT_ADDRESS_NONE, 0},
};
#define N_SERVICES (sizeof(services) / sizeof(services[0]))
#define N_CLAMPED (N_SERVICES - 1)
#define DSR N_CLAMPED
#define PORT(i) ((uint16_t)(8000u + (i)))

static unsigned next_port = 20000;

static int set_service(unsigned i, unsigned mss)
{
	struct lb_msg msg = {.op = LB_OP_SERVICE_SET,
		.service = {.id = (uint16_t)i, .idle_timeout_ms = 60000, .mode = (uint8_t)services[i].mode,
			.client_address = (uint8_t)services[i].what, .mss = (uint16_t)mss,
			.key = {.addr = addr_of(services[i].vip), .port_be = rte_cpu_to_be_16(PORT(i)),
				.proto = IPPROTO_TCP}}};

	return pipeline_command(&pipeline, &msg, NULL);
}

static void set_all(unsigned mss, uint16_t client_mtu, uint16_t backend_mtu)
{
	for (unsigned i = 0; i < N_CLAMPED; i++)
		assert_int_equal(set_service(i, mss), 0);
	lb_worker_set_mtu(pipeline.worker, 0, client_mtu);
	lb_worker_set_mtu(pipeline.worker, 1, backend_mtu);
}

static int set_up(void **state)
{
	static const char *const locals[] = {"192.0.2.1", "2001:db8:1::1", NULL};

	pipeline_start_eal_alone(512);
	pipeline_start(&pipeline, 1, 8192, 1023);
	pipeline_sync_begin(&pipeline);
	assert_int_equal(fullnat_locals(&pipeline, locals), 0);
	for (unsigned i = 0; i < N_SERVICES; i++) {
		assert_int_equal(set_service(i, 0), 0);
		pipeline_backend(&pipeline, (uint16_t)i, (uint16_t)i, services[i].backend, PORT(i),
			LB_BACKEND_UP);
		publish_some(&pipeline, (uint16_t)i, (uint16_t)i, 1);
	}
	pipeline_sync_end(&pipeline);
	*state = &pipeline;
	return 0;
}

static uint8_t pass_at(uint16_t port, const struct frame *in, struct frame *out)
{
	struct lb_burst *burst = &pipeline.worker->burst;
	struct rte_mbuf *mbuf = pipeline_mbuf(&pipeline, in->bytes, in->n);
	burst->n = 1;
	burst->port = port;
	burst->mbufs[0] = mbuf;
	lb_worker_process(pipeline.worker);
	out->n = mbuf->pkt_len;
	memcpy(out->bytes, rte_pktmbuf_mtod(mbuf, void *), out->n);
	rte_pktmbuf_free(mbuf);
	return burst->packets[0].verdict;
}

// One segment through, read back: the checksums are looked at there.
static struct segment passed(uint16_t port, const struct segment *in, uint8_t verdict)
{
	struct frame frame = frame_of(in), after;

	assert_int_equal(pass_at(port, &frame, &after), verdict);
	return read_frame(&after);
}

static struct segment syn_of(unsigned i, const uint8_t *options, unsigned n)
{
	struct segment s = segment_of(services[i].client, next_port++, services[i].vip, PORT(i), IPPROTO_TCP, SYN);

	s.seq = 1000;
	set_options(&s, options, n);
	return s;
}

static unsigned mss_of(const struct segment *s)
{
	for (unsigned k = 0; k + 4 <= s->n_options; k++)
		if (s->options[k] == 2 && s->options[k + 1] == 4)
			return s->options[k + 2] * 256u + s->options[k + 3];
	return 0;
}

static void with_mss(uint8_t option[4], unsigned mss)
{
	option[0] = 2;
	option[1] = 4;
	option[2] = (uint8_t)(mss >> 8);
	option[3] = (uint8_t)mss;
}

/* What a SYN with @p client's and a SYN/ACK with @p backend's MSS become on the other side. */
static void shake_hands(unsigned i, unsigned client, unsigned backend, unsigned *at_backend, unsigned *at_client)
{
	uint8_t option[4];
	struct segment in, out, back;

	with_mss(option, client);
	in = syn_of(i, option, 4);
	out = passed(0, &in, LB_VERDICT_FORWARD);
	*at_backend = mss_of(&out);
	back = answer_to(&out, SYN | ACK);
	back.seq = 7000;
	back.ack = 1001;
	with_mss(option, backend);
	set_options(&back, option, 4);
	out = passed(1, &back, LB_VERDICT_REPLY);
	*at_client = mss_of(&out);
}

static unsigned headers(const char *addr)
{
	struct lb_addr a = addr_of(addr);

	return lb_addr_is_ipv4(&a) ? 40 : 60;
}

static void a_number_lowers_both_directions(void **state)
{
	unsigned at_backend, at_client;

	(void)state;
	set_all(1200, 1500, 1500);
	for (unsigned i = 0; i < N_CLAMPED; i++) {
		shake_hands(i, 1440, 1440, &at_backend, &at_client);
		assert_int_equal(at_backend, 1200);
		assert_int_equal(at_client, 1200 - services[i].n_added); // taken off once
	}
}

static void it_is_never_raised(void **state)
{
	static const unsigned small[] = {1199, 1200, 536, 1, 0};
	unsigned at_backend, at_client;

	(void)state;
	set_all(1200, 1500, 1500);
	for (unsigned i = 0; i < N_CLAMPED; i++)
		for (unsigned k = 0; k < 5; k++) {
			unsigned told = small[k] >= 88 + services[i].n_added ? small[k] - services[i].n_added : small[k];

			shake_hands(i, small[k], small[k], &at_backend, &at_client);
			assert_int_equal(at_backend, small[k]);
			assert_int_equal(at_client, told);
		}
}

/* Segments cross both ports: what the smaller one has room for, with the headers of the family that it has there. */
static void auto_is_what_both_ports_have_room_for(void **state)
{
	static const uint16_t mtus[][2] = {{1500, 1500}, {1400, 1500}, {1500, 1400}, {9000, 1500}, {1280, 9000}};
	unsigned at_backend, at_client;

	(void)state;
	for (unsigned m = 0; m < 5; m++) {
		set_all(LB_MSS_AUTO, mtus[m][0], mtus[m][1]);
		for (unsigned i = 0; i < N_CLAMPED; i++) {
			unsigned a = mtus[m][0] - headers(services[i].vip), b = mtus[m][1] - headers(services[i].backend);

			shake_hands(i, 8960, 8960, &at_backend, &at_client);
			assert_int_equal(at_backend, a < b ? a : b);
			assert_int_equal(at_client, (a < b ? a : b) - services[i].n_added);
		}
	}
}

static void a_number_is_no_licence_to_exceed_the_mtu(void **state)
{
	unsigned at_backend, at_client;

	(void)state;
	set_all(8000, 1500, 1500);
	shake_hands(0, 9000, 9000, &at_backend, &at_client);
	assert_int_equal(at_backend, 1460);
	assert_int_equal(at_client, 1460);
}

static void absurd_mtus_do_not_reach_below_the_least(void **state)
{
	static const uint16_t mtus[] = {0, 39, 40, 43, 44, 68, 127};
	unsigned at_backend, at_client;
	struct segment in, out;
	uint8_t option[4];

	(void)state;
	for (unsigned k = 0; k < RTE_DIM(mtus); k++) {
		set_all(LB_MSS_AUTO, 1500, 1500);
		lb_worker_set_mtu(pipeline.worker, 0, mtus[k]);
		if (mtus[k] >= 44) { // what a SYN/ACK with its option takes
			shake_hands(0, 1460, 1460, &at_backend, &at_client);
			assert_int_equal(at_client, 88);
		} else {
			with_mss(option, 1460);
			in = syn_of(0, option, 4);
			out = passed(0, &in, LB_VERDICT_FORWARD);
			at_backend = mss_of(&out);
		}
		assert_int_equal(at_backend, 88);
	}
}

static void none_leaves_it_alone(void **state)
{
	unsigned at_backend, at_client;

	(void)state;
	set_all(LB_MSS_NONE, 1500, 1500);
	for (unsigned i = 0; i < N_CLAMPED; i++) {
		shake_hands(i, 65535, 65535, &at_backend, &at_client);
		assert_int_equal(at_backend, 65535);
		assert_int_equal(at_client, 65535 - services[i].n_added);
	}
}

// Only the client's SYN passes, and what it limits does not go through us.
static void other_modes_are_left_alone(void **state)
{
	uint8_t option[4];
	struct segment in, out;
	struct frame frame, after;

	(void)state;
	set_all(536, 1500, 1500);
	with_mss(option, 9000);
	in = syn_of(DSR, option, 4);
	frame = frame_of(&in);
	assert_int_equal(pass_at(0, &frame, &after), LB_VERDICT_FORWARD);
	out = read_frame(&after);
	assert_int_equal(mss_of(&out), 9000);
	assert_int_equal(set_service(DSR, 1000), -EINVAL);
	assert_int_equal(set_service(DSR, LB_MSS_AUTO), -EINVAL);
}

/* Options as stacks write them, at even and odd places, and as nobody does: in, and what they become with 1000. */
static void options_of_all_kinds(void **state)
{
	static const struct {
		uint8_t n, in[40], out[40];
	} cases[] = {
		{0, {0}, {0}},
		{20, {2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7},
			{2, 4, 3, 0xe8, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}},
		{8, {1, 2, 4, 5, 0xb4, 1, 1, 1}, {1, 2, 4, 3, 0xe8, 1, 1, 1}}, // at an odd place
		{8, {3, 3, 7, 2, 4, 0xff, 0xff, 0}, {3, 3, 7, 2, 4, 3, 0xe8, 0}}, // again
		{8, {2, 4, 5, 0xb4, 2, 4, 0x23, 0x28}, {2, 4, 3, 0xe8, 2, 4, 3, 0xe8}}, // twice
		{8, {2, 4, 0, 100, 2, 4, 0x23, 0x28}, {2, 4, 0, 100, 2, 4, 3, 0xe8}}, // the second only
		{4, {2, 4, 3, 0xe9}, {2, 4, 3, 0xe8}},
		{4, {2, 3, 5, 0xb4}, {2, 3, 5, 0xb4}},	// not 4 long
		{4, {2, 2, 5, 0xb4}, {2, 2, 5, 0xb4}},
		{4, {2, 0, 5, 0xb4}, {2, 0, 5, 0xb4}},	// malformed
		{4, {2, 1, 5, 0xb4}, {2, 1, 5, 0xb4}},
		{4, {2, 5, 5, 0xb4}, {2, 5, 5, 0xb4}},	// beyond the end
		{8, {1, 1, 1, 1, 1, 2, 4, 9}, {1, 1, 1, 1, 1, 2, 4, 9}}, // cut off
		{8, {1, 1, 1, 1, 1, 1, 1, 2}, {1, 1, 1, 1, 1, 1, 1, 2}},
		{8, {0, 0, 0, 0, 2, 4, 5, 0xb4}, {0, 0, 0, 0, 2, 4, 5, 0xb4}}, // behind the end of the list
		{8, {77, 0, 2, 4, 5, 0xb4, 1, 1}, {77, 0, 2, 4, 5, 0xb4, 1, 1}}, // behind a malformed one
		{8, {77, 4, 9, 9, 2, 4, 5, 0xb4}, {77, 4, 9, 9, 2, 4, 3, 0xe8}}, // behind an unknown one
	};

	(void)state;
	set_all(1000, 1500, 1500);
	for (unsigned i = 0; i < N_CLAMPED; i++) {
		if (services[i].what != LB_CLIENT_ADDRESS_NONE)
			continue; // options and data are added to those
		for (unsigned k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
			struct segment in = syn_of(i, cases[k].in, cases[k].n), out, back;

			out = passed(0, &in, LB_VERDICT_FORWARD);
			assert_int_equal(out.n_options, cases[k].n);
			assert_memory_equal(out.options, cases[k].out, cases[k].n);
			back = answer_to(&out, SYN | ACK);
			set_options(&back, cases[k].in, cases[k].n);
			out = passed(1, &back, LB_VERDICT_REPLY);
			assert_memory_equal(out.options, cases[k].out, cases[k].n);
		}
	}
}

static void only_syns_are_looked_at(void **state)
{
	uint8_t option[4];
	struct segment in, out;

	(void)state;
	set_all(536, 1500, 1500);
	with_mss(option, 1460);
	for (unsigned i = 0; i < N_CLAMPED; i++) {
		if (services[i].what != LB_CLIENT_ADDRESS_NONE)
			continue;
		in = syn_of(i, option, 4);
		out = passed(0, &in, LB_VERDICT_FORWARD);
		assert_int_equal(mss_of(&out), 536);
		in.flags = ACK;
		out = passed(0, &in, LB_VERDICT_FORWARD);
		assert_int_equal(mss_of(&out), 1460);
	}
}

// A wrong checksum stays as wrong as it was.
static void wrong_checksums_stay_wrong(void **state)
{
	static const uint16_t errors[] = {1, 0x40, 0x1234, 0xfffe};
	uint8_t option[4];

	(void)state;
	set_all(536, 1500, 1500);
	with_mss(option, 1460);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < 4; k++) {
			unsigned at = 14 + (i == 0 ? 20u : 40u) + 16;
			struct segment in = syn_of(i, option, 4);
			struct frame frame = frame_of(&in), right, wrong;
			uint16_t sums[2];

			assert_int_equal(pass_at(0, &frame, &right), LB_VERDICT_FORWARD);
			memcpy(&sums[0], frame.bytes + at, 2);
			sums[0] = lb_sum_add(sums[0], errors[k]);
			memcpy(frame.bytes + at, &sums[0], 2);
			assert_int_equal(pass_at(0, &frame, &wrong), LB_VERDICT_FORWARD);
			memcpy(&sums[0], right.bytes + at, 2);
			memcpy(&sums[1], wrong.bytes + at, 2);
			assert_int_equal(lb_sum_change(sums[0], sums[1]), errors[k]);
			memcpy(wrong.bytes + at, &sums[0], 2);
			assert_memory_equal(wrong.bytes, right.bytes, right.n);
		}
}

// A header that goes on in another segment of the buffer is left alone, and nothing beyond the first is read.
static void a_header_in_two_segments(void **state)
{
	struct lb_burst *burst = &pipeline.worker->burst;
	uint8_t option[4];
	struct segment in;
	struct frame frame;
	struct rte_mbuf *first = rte_pktmbuf_alloc(pipeline.pool), *second = rte_pktmbuf_alloc(pipeline.pool);

	(void)state;
	set_all(536, 1500, 1500);
	with_mss(option, 1460);
	in = syn_of(0, option, 4);
	frame = frame_of(&in);
	assert_non_null(first);
	assert_non_null(second);
	memcpy(rte_pktmbuf_append(first, 54), frame.bytes, 54);
	memcpy(rte_pktmbuf_append(second, 4), frame.bytes + 54, 4);
	assert_int_equal(rte_pktmbuf_chain(first, second), 0);
	burst->n = 1;
	burst->port = 0;
	burst->mbufs[0] = first;
	lb_worker_process(pipeline.worker);
	assert_int_equal(burst->packets[0].verdict, LB_VERDICT_FORWARD);
	assert_memory_equal(rte_pktmbuf_mtod(second, uint8_t *), option, 4);
	rte_pktmbuf_free(first);
}

// SYNs among other packets of a burst, of services with limits of their own.
static void each_service_has_its_own(void **state)
{
	struct lb_burst *burst = &pipeline.worker->burst;
	uint8_t option[4];

	(void)state;
	set_all(LB_MSS_NONE, 1500, 1500);
	for (unsigned i = 0; i < N_CLAMPED; i++)
		assert_int_equal(set_service(i, 600 + i), 0);
	with_mss(option, 1460);
	burst->n = N_CLAMPED;
	burst->port = 0;
	for (unsigned i = 0; i < N_CLAMPED; i++) {
		struct segment in = syn_of(i, option, 4);
		struct frame frame = frame_of(&in);

		burst->mbufs[i] = pipeline_mbuf(&pipeline, frame.bytes, frame.n);
	}
	lb_worker_process(pipeline.worker);
	for (unsigned i = 0; i < N_CLAMPED; i++) {
		struct frame after = {.n = burst->mbufs[i]->pkt_len};
		struct segment out;

		assert_int_equal(burst->packets[i].verdict, LB_VERDICT_FORWARD);
		memcpy(after.bytes, rte_pktmbuf_mtod(burst->mbufs[i], void *), after.n);
		out = read_frame(&after);
		assert_int_equal(mss_of(&out), 600 + i);
	}
	pipeline_free_burst(&pipeline);
}

/*
 * A plain packet of IPv4 has its key in the short form alone. By that, one of TCP is clamped; one of UDP is not, though what
 * it has where TCP has its header reads like a SYN with the option.
 */
static void the_short_key_tells_the_protocol(void **state)
{
	static const uint8_t like_a_syn[16] = {[4] = 0x60, SYN, [12] = 2, 4, 1460 >> 8, 1460 & 0xff};
	struct lb_burst *burst = &pipeline.worker->burst;
	uint8_t option[4], *at;
	struct frame frames[2];
	struct segment segment;

	(void)state;
	set_all(536, 1500, 1500);
	with_mss(option, 1460);
	segment = syn_of(0, option, 4);
	frames[0] = frame_of(&segment);
	segment = segment_of(services[0].client, next_port++, services[0].vip, PORT(0), IPPROTO_UDP, 0);
	set_payload(&segment, like_a_syn, sizeof(like_a_syn));
	frames[1] = frame_of(&segment);
	burst->n = 2;
	burst->port = 0;
	for (unsigned i = 0; i < 2; i++)
		burst->mbufs[i] = pipeline_mbuf(&pipeline, frames[i].bytes, frames[i].n);
	lb_stage_parse(pipeline.worker, burst);
	assert_int_equal(burst->short_keys, 3);
	for (unsigned i = 0; i < 2; i++) { // of an earlier burst, as it were
		burst->keys[i].proto = i == 0 ? IPPROTO_UDP : IPPROTO_TCP;
		lb_mss_clamp(pipeline.worker, burst, i, &pipeline.dp.backends[0], 0, 1);
		at = rte_pktmbuf_mtod_offset(burst->mbufs[i], uint8_t *, 34 + 20);
		with_mss(option, i == 0 ? 536 : 1460);
		assert_memory_equal(at, option, 4);
	}
	assert_memory_equal(rte_pktmbuf_mtod(burst->mbufs[1], void *), frames[1].bytes, frames[1].n);
	pipeline_free_burst(&pipeline);
}

static void bounds_are_checked(void **state)
{
	static const unsigned wrong[] = {1, 87, LB_MSS_MAX + 1, 65534};
	static const unsigned right[] = {0, 88, 536, LB_MSS_MAX, LB_MSS_AUTO};
	struct lb_msg udp = {.op = LB_OP_SERVICE_SET, .service = {.id = 100, .idle_timeout_ms = 60000, .mss = 1000,
		.key = {.addr = addr_of("203.0.113.77"), .port_be = rte_cpu_to_be_16(53), .proto = IPPROTO_UDP}}};

	(void)state;
	for (unsigned k = 0; k < 4; k++)
		assert_int_equal(set_service(0, wrong[k]), -EINVAL);
	for (unsigned k = 0; k < 5; k++)
		assert_int_equal(set_service(0, right[k]), 0);
	assert_int_equal(pipeline_command(&pipeline, &udp, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_number_lowers_both_directions),
		cmocka_unit_test(it_is_never_raised),
		cmocka_unit_test(auto_is_what_both_ports_have_room_for),
		cmocka_unit_test(a_number_is_no_licence_to_exceed_the_mtu),
		cmocka_unit_test(absurd_mtus_do_not_reach_below_the_least),
		cmocka_unit_test(none_leaves_it_alone),
		cmocka_unit_test(other_modes_are_left_alone),
		cmocka_unit_test(options_of_all_kinds),
		cmocka_unit_test(only_syns_are_looked_at),
		cmocka_unit_test(wrong_checksums_stay_wrong),
		cmocka_unit_test(a_header_in_two_segments),
		cmocka_unit_test(each_service_has_its_own),
		cmocka_unit_test(the_short_key_tells_the_protocol),
		cmocka_unit_test(bounds_are_checked),
	};

	return cmocka_run_group_tests_name("mss", tests, set_up, pipeline_tear_down);
}
