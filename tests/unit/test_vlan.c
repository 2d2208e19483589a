/* SPDX-License-Identifier: BSD-3-Clause */
/* VLAN tags on the way out, beside what the packet vectors have: mode fullnat, buffers, rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include <netinet/in.h>

#include "tests/unit/fullnat_util.h"

#define CLIENT "198.51.100.7"
#define VIP "203.0.113.10"
#define N_NAT 80u     /* service 0: nat; 1: fullnat; 2: fullnat, from IPv4 to IPv6 */
#define N_FULLNAT 81u
#define N_MIXED 82u
#define N_EMPTY 83u   /* 3: on_empty: reset, no backend */

static struct pipeline pipeline;
static unsigned next_port = 20000;

static int set_nexthop(uint16_t id, uint16_t vlan)
{
	struct lb_msg msg = {.op = LB_OP_NEXTHOP_SET,
		.nexthop = {.id = id, .port = id == 1, .mac = {2, 0, 0, 0, 0, id == 1 ? 0xb1 : 0xc1}, .vlan = vlan,
			.resolved = 1}};
	int rc = lb_fib_nexthop_set(&pipeline.dp.fib, &msg.nexthop, 2);

	for (unsigned i = 0; i < 3; i++)
		if (rc == 0 && id == 1)
			atomic_store(&pipeline.dp.backends[i].nexthop, lb_fib_nexthop_word(&pipeline.dp.fib, 1));
	return rc;
}

static int set_up(void **state)
{
	static const char *const locals[] = {"192.0.2.1", "2001:db8:1::1", NULL};
	uint16_t nobody[13];

	pipeline_start_eal_alone(512);
	pipeline_start(&pipeline, 1, 8192, 1023);
	pipeline_sync_begin(&pipeline);
	assert_int_equal(fullnat_locals(&pipeline, locals), 0);
	pipeline_service(&pipeline, 0, VIP, N_NAT, IPPROTO_TCP);
	fullnat_service(&pipeline, 1, VIP, N_FULLNAT, IPPROTO_TCP, LB_CLIENT_ADDRESS_TOA);
	fullnat_service(&pipeline, 2, VIP, N_MIXED, IPPROTO_TCP, LB_CLIENT_ADDRESS_NONE);
	pipeline_service(&pipeline, 3, VIP, N_EMPTY, IPPROTO_TCP);
	pipeline.dp.services[3].on_empty = LB_ON_EMPTY_RESET;
	for (unsigned i = 0; i < 13; i++)
		nobody[i] = LB_BACKEND_NONE;
	assert_int_equal(pipeline_publish(&pipeline, 3, nobody, 13), 0);
	pipeline_backend(&pipeline, 0, 0, "10.0.0.1", 8080, LB_BACKEND_UP);
	pipeline_backend(&pipeline, 1, 1, "10.0.0.2", 8080, LB_BACKEND_UP);
	pipeline_backend(&pipeline, 2, 2, "fd00::1", 8080, LB_BACKEND_UP);
	for (uint16_t i = 0; i < 3; i++)
		publish_some(&pipeline, i, i, 1);
	pipeline_sync_end(&pipeline);
	*state = &pipeline;
	return 0;
}

static struct frame tagged(const struct frame *frame, int tci)
{
	struct frame with = {.n = frame->n + 4};

	if (tci < 0)
		return *frame;
	memcpy(with.bytes, frame->bytes, 12);
	memcpy(with.bytes + 12, (uint8_t[]){0x81, 0, (uint8_t)(tci >> 8), (uint8_t)tci}, 4);
	memcpy(with.bytes + 16, frame->bytes + 12, frame->n - 12);
	return with;
}

/* Take the tag out of the frame. @return it; -1: none. */
static int untag(struct frame *frame)
{
	int tci = frame->bytes[14] << 8 | frame->bytes[15];

	if (frame->bytes[12] != 0x81 || frame->bytes[13] != 0)
		return -1;
	memmove(frame->bytes + 12, frame->bytes + 16, frame->n - 16);
	frame->n -= 4;
	return tci;
}

static uint8_t pass_at(uint16_t port, uint16_t headroom, const struct frame *in, struct frame *out)
{
	struct lb_burst *burst = &pipeline.worker->burst;
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pipeline.pool);

	assert_non_null(mbuf);
	mbuf->data_off = headroom;
	memcpy(rte_pktmbuf_append(mbuf, (uint16_t)in->n), in->bytes, in->n);
	burst->n = 1;
	burst->port = port;
	burst->mbufs[0] = mbuf;
	lb_worker_process(pipeline.worker);
	out->n = mbuf->pkt_len;
	memcpy(out->bytes, rte_pktmbuf_mtod(mbuf, void *), out->n);
	assert_int_equal(burst->packets[0].wire_bytes, out->n);
	rte_pktmbuf_free(mbuf);
	return burst->packets[0].verdict;
}

static int wanted_tci(int tci, uint16_t vlan)
{
	if (vlan == LB_VLAN_KEEP)
		return tci;
	return vlan == LB_VLAN_NONE ? -1 : (tci < 0 ? 0 : tci & 0xf000) | vlan;
}

// A connection through each service, whole headers looked at by read_frame(), with every rule and tag on both sides.
static void both_directions_of_every_mode(void **state)
{
	static const uint16_t rules[][2] = {
		{0, 0}, {100, 200}, {LB_VLAN_NONE, 200}, {100, LB_VLAN_NONE}, {LB_VLAN_NONE, LB_VLAN_NONE}, {1, 4094}};
	static const int tcis[] = {-1, 0, 1, 100, 0x3064, 0xf7d0, 0x1000, 4094};
	static const uint16_t ports[] = {N_NAT, N_FULLNAT, N_MIXED};

	(void)state;
	for (unsigned r = 0; r < 6; r++) {
		assert_int_equal(set_nexthop(2, rules[r][0]), 0);
		assert_int_equal(set_nexthop(1, rules[r][1]), 0);
		for (unsigned t = 0; t < 8; t++)
			for (unsigned p = 0; p < 3; p++) {
				struct segment s = segment_of(CLIENT, next_port++, VIP, ports[p], IPPROTO_TCP, SYN), back;
				struct frame frame, in, out;

				set_payload(&s, "0123456789012345678901234567890123456789", 40);
				frame = frame_of(&s);
				in = tagged(&frame, tcis[t]);
				assert_int_equal(pass_at(0, RTE_PKTMBUF_HEADROOM, &in, &out), LB_VERDICT_FORWARD);
				assert_int_equal(untag(&out), wanted_tci(tcis[t], rules[r][1]));
				assert_memory_equal(out.bytes, "\x02\0\0\0\0\xb1", 6);
				s = read_frame(&out);
				back = answer_to(&s, SYN | ACK);
				set_payload(&back, "0123456789012345678901234567890123456789", 40);
				frame = frame_of(&back);
				in = tagged(&frame, tcis[t]);
				assert_int_equal(pass_at(1, RTE_PKTMBUF_HEADROOM, &in, &out), LB_VERDICT_REPLY);
				assert_int_equal(untag(&out), wanted_tci(tcis[t], rules[r][0]));
				assert_memory_equal(out.bytes, "\x02\0\0\0\0\xc1", 6);
				s = read_frame(&out);
				assert_int_equal(s.sport, ports[p]);
			}
	}
}

// A tag needs 4 bytes in front of the frame: counted where there are fewer, and nothing is written elsewhere.
static void without_headroom_there_is_no_tag(void **state)
{
	struct segment s = segment_of(CLIENT, next_port++, VIP, N_NAT, IPPROTO_TCP, SYN);
	struct frame frame, in, out;

	(void)state;
	assert_int_equal(set_nexthop(1, 200), 0);
	set_payload(&s, "0123456789012345678901234567890123456789", 40);
	frame = frame_of(&s);
	for (uint16_t headroom = 0; headroom < 6; headroom++)
		assert_int_equal(pass_at(0, headroom, &frame, &out),
			headroom < 4 ? LB_VERDICT_NO_HEADROOM : LB_VERDICT_FORWARD);
	in = tagged(&frame, 7); // no room is needed
	assert_int_equal(pass_at(0, 0, &in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(untag(&out), 200);
}

// The same for an answer, which then is not sent.
static void answers_without_headroom_are_not_sent(void **state)
{
	struct segment s = segment_of(CLIENT, next_port++, VIP, N_EMPTY, IPPROTO_TCP, SYN);
	struct frame frame, out;
	struct lb_burst *burst = &pipeline.worker->burst;

	(void)state;
	assert_int_equal(set_nexthop(2, 100), 0);
	pipeline.worker->now_s = ++pipeline.dp.now_s;
	frame = frame_of(&s);
	assert_int_equal(pass_at(0, RTE_PKTMBUF_HEADROOM, &frame, &out), LB_VERDICT_NO_BACKEND);
	assert_int_equal(burst->answered, 1);
	assert_int_equal(untag(&out), 100);
	assert_int_equal(pass_at(0, 0, &frame, &out), LB_VERDICT_NO_BACKEND);
	assert_int_equal(burst->answered, 0);
}

static void rules_are_checked_and_bounded(void **state)
{
	uint32_t n_before = pipeline.dp.fib.n_vlans, n;
	uint16_t vlan = 1;

	(void)state;
	assert_int_equal(set_nexthop(1, LB_VLAN_NONE + 1), -EINVAL);
	assert_int_equal(set_nexthop(1, UINT16_MAX), -EINVAL);
	assert_int_equal(pipeline.dp.fib.n_vlans, n_before);
	while (set_nexthop(1, vlan) == 0)
		vlan++;
	assert_int_equal(set_nexthop(1, vlan), -ENOSPC);
	n = pipeline.dp.fib.n_vlans;
	assert_int_equal(n, LB_FIB_N_VLANS - 1);
	assert_int_equal(lb_fib_vlan(&pipeline.dp.fib, lb_fib_nexthop_word(&pipeline.dp.fib, 1)), vlan - 1);
	assert_int_equal(set_nexthop(1, 3), 0); // those that there are go on
	assert_int_equal(lb_fib_vlan(&pipeline.dp.fib, lb_fib_nexthop_word(&pipeline.dp.fib, 1)), 3);
	assert_int_equal(lb_nexthop_port(lb_fib_nexthop_word(&pipeline.dp.fib, 1)), 1);
	assert_int_equal(set_nexthop(1, LB_VLAN_KEEP), 0);
	assert_int_equal(lb_fib_vlan(&pipeline.dp.fib, lb_fib_nexthop_word(&pipeline.dp.fib, 1)), LB_VLAN_KEEP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_directions_of_every_mode),
		cmocka_unit_test(without_headroom_there_is_no_tag),
		cmocka_unit_test(answers_without_headroom_are_not_sent),
		cmocka_unit_test(rules_are_checked_and_bounded),
	};

	return cmocka_run_group_tests_name("vlan", tests, set_up, pipeline_tear_down);
}
