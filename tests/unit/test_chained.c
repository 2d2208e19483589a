/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets in two segments, as a NIC with small buffers delivers them: cut anywhere, they fare as in one, or are dropped
 * under a name. Each segment's memory ends where it does, so that the sanitizer sees what is read beyond. (Mode fullnat's
 * are cut by test_hostile.c.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>

#include <rte_ip.h>

#include "tests/unit/fullnat_util.h"

#define CLIENT4 "198.51.100.7"
#define CLIENT6 "2001:db8:c::7"
#define VIP4 "203.0.113.10"
#define VIP6 "2001:db8::10"

/* Service i has backend i. */
static const struct {
	const char *client, *vip, *backend;
	enum lb_mode mode;
	uint8_t proto;
} services[] = {
	{CLIENT4, VIP4, "10.0.0.1", LB_MODE_NAT, IPPROTO_TCP},
	{CLIENT6, VIP6, "fd00::1", LB_MODE_NAT, IPPROTO_TCP},
	{CLIENT4, VIP4, "10.0.0.2", LB_MODE_NAT, IPPROTO_UDP},
	{CLIENT6, VIP6, "fd00::2", LB_MODE_NAT, IPPROTO_UDP},
	{CLIENT4, VIP4, "10.0.0.3", LB_MODE_DSR, IPPROTO_TCP},
	{CLIENT6, VIP6, "fd00::3", LB_MODE_DSR, IPPROTO_TCP},
	{CLIENT4, VIP4, "10.0.0.4", LB_MODE_IPIP, IPPROTO_TCP},
	{CLIENT6, VIP6, "fd00::4", LB_MODE_IPIP, IPPROTO_TCP},
	{CLIENT4, VIP4, "fd00::5", LB_MODE_IPIP, IPPROTO_UDP},
	{CLIENT6, VIP6, "10.0.0.5", LB_MODE_IPIP, IPPROTO_UDP},
	{CLIENT4, VIP4, "10.0.0.6", LB_MODE_GUE, IPPROTO_TCP},
	{CLIENT6, VIP6, "fd00::6", LB_MODE_GUE, IPPROTO_TCP},
	{CLIENT4, VIP4, "fd00::7", LB_MODE_GUE, IPPROTO_UDP},
	{CLIENT6, VIP6, "10.0.0.7", LB_MODE_GUE, IPPROTO_UDP},
};
#define N_SERVICES (sizeof(services) / sizeof(services[0]))
#define PORT(i) ((uint16_t)(8000u + (i)))

static struct pipeline pipeline;

static int set_up(void **state)
{
	static const char *const locals[] = {"192.0.2.1", "2001:db8:1::1"};

	pipeline_start_eal_alone(512);
	pipeline_start(&pipeline, 1, 8192, 1023);
	pipeline_sync_begin(&pipeline);
	pipeline_locals(&pipeline, locals, 2);
	for (uint16_t i = 0; i < N_SERVICES; i++) {
		pipeline_service_of_mode(&pipeline, i, services[i].vip, PORT(i), services[i].proto, services[i].mode);
		pipeline_backend(&pipeline, i, i, services[i].backend,
			services[i].mode == LB_MODE_NAT ? 8080 : PORT(i), LB_BACKEND_UP);
		publish_some(&pipeline, i, i, 1);
	}
	pipeline_sync_end(&pipeline);
	*state = &pipeline;
	return 0;
}

struct fate {
	uint8_t verdict;
	bool answered;
	struct frame frame;
};

static struct fate fate_of(const struct frame *frame, unsigned n_first)
{
	struct lb_burst *burst = &pipeline.worker->burst;
	struct rte_mbuf *mbuf = pipeline_mbuf_exact(&pipeline, frame->bytes, n_first);
	struct fate fate = {0};
	const uint8_t *got;

	if (n_first < frame->n)
		assert_int_equal(
			rte_pktmbuf_chain(mbuf, pipeline_mbuf_exact(&pipeline, frame->bytes + n_first, frame->n - n_first)), 0);
	burst->n = 1;
	burst->port = 0;
	burst->mbufs[0] = mbuf;
	lb_worker_process(pipeline.worker);
	fate.verdict = burst->packets[0].verdict;
	fate.answered = burst->answered & 1;
	if ((burst->held & 1) == 0) {
		rte_mbuf_sanity_check(mbuf, 1);
		assert_true(mbuf->pkt_len <= sizeof(fate.frame.bytes));
		fate.frame.n = mbuf->pkt_len;
		got = rte_pktmbuf_read(mbuf, 0, mbuf->pkt_len, fate.frame.bytes);
		assert_non_null(got);
		if (got != fate.frame.bytes)
			memcpy(fate.frame.bytes, got, mbuf->pkt_len);
	}
	pipeline_free_burst(&pipeline);
	return fate;
}

static bool goes_out(const struct fate *fate)
{
	return fate->verdict == LB_VERDICT_FORWARD || fate->verdict == LB_VERDICT_REPLY || fate->answered;
}

static void nothing_to_check(const struct frame *frame)
{
	(void)frame;
}

static void its_sums_are_right(const struct frame *frame)
{
	read_frame(frame);
}

static void its_icmp_sum_is_right(const struct frame *frame)
{
	assert_int_equal(rte_raw_cksum(frame->bytes + 34, frame->n - 34), 0xffff);
}

/*
 * Cut at every place. Behind the first @p n_headers bytes the packet fares as whole; what is cut within them may be left as
 * it is where it need not be changed (MSS, a quoted packet's checksum), but is then right in itself, as @p check says.
 * @return at how many places it goes out.
 */
static unsigned cut_anywhere(const struct frame *frame, unsigned n_headers, void (*check)(const struct frame *frame))
{
	struct fate whole = fate_of(frame, frame->n);
	unsigned n_out = 0;

	for (unsigned n_first = 1; n_first < frame->n; n_first++) {
		struct fate cut = fate_of(frame, n_first);

		if (!goes_out(&cut)) {
			// under a name of its own, or it is not for us, and the kernel has it unchanged
			assert_true(cut.verdict < LB_VERDICT_N && strcmp(lb_verdict_name(cut.verdict), "?") != 0);
			if (cut.verdict == LB_VERDICT_HOST)
				assert_memory_equal(cut.frame.bytes, frame->bytes, frame->n);
			continue;
		}
		assert_int_equal(cut.verdict, whole.verdict);
		assert_int_equal(cut.answered, whole.answered);
		assert_int_equal(cut.frame.n, whole.frame.n);
		if (n_first >= n_headers)
			assert_memory_equal(cut.frame.bytes, whole.frame.bytes, whole.frame.n);
		else if (memcmp(cut.frame.bytes, whole.frame.bytes, whole.frame.n) != 0)
			check(&cut.frame);
		n_out++;
	}
	return n_out;
}

static struct segment from_client(unsigned i, uint8_t flags)
{
	static const char payload[] = "sixty bytes of payload, so that there is something to be cut.";
	struct segment segment = segment_of(
		services[i].client, 4711, services[i].vip, PORT(i), services[i].proto, flags);

	set_payload(&segment, payload, 60);
	return segment;
}

static void every_mode_bears_a_cut_packet(void **state)
{
	static const uint8_t options[8] = {2, 4, 5, 0xb4, 4, 2, 1, 1};

	(void)state;
	for (unsigned i = 0; i < N_SERVICES; i++) {
		for (unsigned n = 0; n < 3; n++) {
			struct segment segment = from_client(i, n == 0 ? SYN : ACK);
			struct frame frame;
			unsigned n_headers;

			if (n < 2 && services[i].proto == IPPROTO_TCP)
				set_options(&segment, options, sizeof(options));
			frame = frame_of(&segment);
			// Once the headers are in the first segment nothing is in the way.
			n_headers = frame.n - 60;
			assert_in_range(cut_anywhere(&frame, n_headers,
						services[i].mode == LB_MODE_NAT ? its_sums_are_right : nothing_to_check),
				60, frame.n);
		}
	}
}

static void replies_of_nat_bear_it(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_SERVICES; i++) {
		struct segment segment = from_client(i, ACK), reply;
		struct frame frame;

		if (services[i].mode != LB_MODE_NAT)
			continue;
		for (unsigned n = 0; n < 3; n++) {
			reply = answer_to(&segment, n == 0 ? (SYN | ACK) : n == 1 ? ACK : RST);
			reply.src = addr_of(services[i].backend);
			reply.sport = 8080;
			set_payload(&reply, segment.payload, 60);
			frame = frame_of(&reply);
			assert_in_range(cut_anywhere(&frame, frame.n - 60, its_sums_are_right), 60, frame.n);
		}
	}
}

static void put_sum(uint8_t *at, const uint8_t *data, unsigned n)
{
	uint16_t sum = (uint16_t)~rte_raw_cksum(data, n);

	memcpy(at, &sum, 2);
}

// Each a datagram of its own: a fragment that comes twice is refused.
static void first_fragment_bears_it(const struct frame *whole, enum lb_mode mode)
{
	unsigned n_out = 0;

	for (unsigned n_first = 1; n_first < whole->n; n_first++) {
		struct frame frame = *whole;
		uint8_t *l3 = frame.bytes + 14;
		struct fate fate;

		l3[4] = (uint8_t)mode;
		l3[5] = (uint8_t)n_first;
		l3[6] = 0x20;
		memset(l3 + 10, 0, 2);
		put_sum(l3 + 10, l3, 20);
		fate = fate_of(&frame, n_first);
		if (!goes_out(&fate))
			continue;
		assert_int_equal(fate.verdict, LB_VERDICT_FORWARD);
		assert_true(fate.frame.n >= frame.n);
		n_out++;
	}
	if ((whole->n - 34) % 8 == 0) // as fragments but the last are
		assert_in_range(n_out, 60, whole->n);
	else
		assert_int_equal(n_out, 0);
	pipeline_expire_fragments(&pipeline);
	pipeline_free_burst(&pipeline);
}

// The side path: echo to a VIP, an ICMP error about a flow, fragments, TTL that ends.
static void the_side_path_bears_it(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_SERVICES; i++) {
		struct segment segment = from_client(i, ACK);
		struct frame frame = frame_of(&segment), quoted;
		uint8_t *l3 = frame.bytes + 14;

		segment.ttl = 1;
		quoted = frame_of(&segment);
		cut_anywhere(&quoted, 0, nothing_to_check);
		if (!lb_addr_is_ipv4(&segment.src))
			continue;
		first_fragment_bears_it(&frame, services[i].mode);
		// an echo request of the same length
		l3[6] = 0;
		l3[9] = IPPROTO_ICMP;
		memset(l3 + 10, 0, 2);
		put_sum(l3 + 10, l3, 20);
		memset(l3 + 20, 0, 8);
		l3[20] = 8;
		put_sum(l3 + 22, l3 + 20, frame.n - 34);
		assert_true(fate_of(&frame, frame.n).answered);
		assert_int_equal(cut_anywhere(&frame, 0, nothing_to_check), 0); // in one piece or not at all
		// an error, "fragmentation needed", that quotes what the VIP has sent to the client
		segment = from_client(i, ACK);
		segment = answer_to(&segment, ACK);
		set_payload(&segment, "as sent", 7);
		quoted = frame_of(&segment);
		memset(l3 + 20, 0, 8);
		l3[20] = 3;
		l3[21] = 4;
		l3[26] = 5;
		memcpy(l3 + 28, quoted.bytes + 14, RTE_MIN(frame.n - 42, quoted.n - 14));
		memset(l3 + 22, 0, 2);
		put_sum(l3 + 22, l3 + 20, frame.n - 34);
		assert_in_range(cut_anywhere(&frame, 80, its_icmp_sum_is_right), 1, frame.n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_mode_bears_a_cut_packet),
		cmocka_unit_test(replies_of_nat_bear_it),
		cmocka_unit_test(the_side_path_bears_it),
	};

	return cmocka_run_group_tests(tests, set_up, pipeline_tear_down);
}
