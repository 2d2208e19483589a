/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is put in front of a packet, by every stage that does so, in buffers of all kinds: ours alone, it may be; where
 * another one's is in the same memory, no byte in front of the packet changes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>

#include "dataplane/checksum.h"
#include "dataplane/headroom.h"
#include "tests/unit/fullnat_util.h"

#define CLIENT4 "198.51.100.7"
#define CLIENT6 "2001:db8:c::7"
#define VIP4 "203.0.113.10"
#define VIP6 "2001:db8::10"
#define PORT(i) ((uint16_t)(8000u + (i)))

/* Service i has backend i. */
static const struct {
	const char *client, *vip, *backend;
	enum lb_mode mode;
	enum lb_client_address told;
	uint8_t proto;
	unsigned n_payload;
	uint8_t verdict;     /* of a packet in a buffer that is ours alone */
	uint8_t verdict_not; /* in one that is not */
	unsigned n_more;     /* bytes that it grows by; 0: it is answered */
} services[] = {
	{CLIENT4, VIP4, "10.0.0.1", LB_MODE_IPIP, 0, IPPROTO_TCP, 30, LB_VERDICT_FORWARD, LB_VERDICT_NO_HEADROOM, 20},
	{CLIENT6, VIP6, "10.0.0.2", LB_MODE_IPIP, 0, IPPROTO_UDP, 30, LB_VERDICT_FORWARD, LB_VERDICT_NO_HEADROOM, 20},
	{CLIENT4, VIP4, "fd00::3", LB_MODE_IPIP, 0, IPPROTO_TCP, 30, LB_VERDICT_FORWARD, LB_VERDICT_NO_HEADROOM, 40},
	{CLIENT6, VIP6, "10.0.0.4", LB_MODE_GUE, 0, IPPROTO_TCP, 30, LB_VERDICT_FORWARD, LB_VERDICT_NO_HEADROOM, 32},
	{CLIENT4, VIP4, "fd00::5", LB_MODE_GUE, 0, IPPROTO_UDP, 30, LB_VERDICT_FORWARD, LB_VERDICT_NO_HEADROOM, 52},
	{CLIENT4, VIP4, "fd00::6", LB_MODE_FULLNAT, 0, IPPROTO_TCP, 30, LB_VERDICT_FORWARD, LB_VERDICT_NO_HEADROOM, 20},
	{CLIENT4, VIP4, "10.0.0.7", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_PROXY_V2, IPPROTO_UDP, 30, LB_VERDICT_FORWARD,
		LB_VERDICT_NO_HEADROOM, 28},
	{CLIENT6, VIP6, "fd00::8", LB_MODE_FULLNAT, LB_CLIENT_ADDRESS_TOA, IPPROTO_TCP, 30, LB_VERDICT_FORWARD,
		LB_VERDICT_FORWARD, 20}, // without its option, then
	{CLIENT6, VIP6, "fd00::9", LB_MODE_NAT, 0, IPPROTO_TCP, 1500, LB_VERDICT_TOO_BIG, LB_VERDICT_TOO_BIG, 0},
	{CLIENT4, VIP4, "10.0.0.10", LB_MODE_NAT, 0, IPPROTO_UDP, 30, LB_VERDICT_FORWARD, LB_VERDICT_NO_HEADROOM, 4},
};
#define N_SERVICES ((unsigned)RTE_DIM(services))
#define TAGGED (N_SERVICES - 1)

enum kind { OWN, OWN_EXTERNAL, REFERENCED, CLONE, CLONED, EXTERNAL_CLONE, EXTERNAL_CLONED, N_KINDS };

static struct pipeline pipeline;
static unsigned next_port = 20000;

static int set_up(void **state)
{
	static const char *const locals[] = {"192.0.2.1", "2001:db8:1::1", NULL};
	struct lb_msg tag = {.op = LB_OP_NEXTHOP_SET,
		.nexthop = {.id = 3, .port = 1, .mac = {2, 0, 0, 0, 0, 0xb2}, .vlan = 100, .resolved = 1}};

	pipeline_start_eal_alone(512);
	pipeline_start(&pipeline, 1, 8192, 1023);
	pipeline_sync_begin(&pipeline);
	assert_int_equal(fullnat_locals(&pipeline, locals), 0);
	assert_int_equal(lb_fib_nexthop_set(&pipeline.dp.fib, &tag.nexthop, 2), 0);
	for (uint16_t i = 0; i < N_SERVICES; i++) {
		if (services[i].mode == LB_MODE_FULLNAT)
			fullnat_service(&pipeline, i, services[i].vip, PORT(i), services[i].proto, services[i].told);
		else
			pipeline_service_of_mode(
				&pipeline, i, services[i].vip, PORT(i), services[i].proto, services[i].mode);
		pipeline_backend(&pipeline, i, i, services[i].backend, PORT(i), LB_BACKEND_UP);
		publish_some(&pipeline, i, i, 1);
	}
	atomic_store(&pipeline.dp.backends[TAGGED].nexthop, lb_fib_nexthop_word(&pipeline.dp.fib, 3));
	pipeline_sync_end(&pipeline);
	*state = &pipeline;
	return 0;
}

/* A frame in a buffer of that kind. *@p other: another one with the same memory, if there is one. */
static struct rte_mbuf *buffer_of(enum kind kind, const struct frame *frame, struct rte_mbuf **other)
{
	bool external = kind == OWN_EXTERNAL || kind == EXTERNAL_CLONE || kind == EXTERNAL_CLONED;
	struct rte_mbuf *mbuf = external ? pipeline_mbuf_exact(&pipeline, frame->bytes, frame->n)
					 : pipeline_mbuf(&pipeline, frame->bytes, frame->n);
	struct rte_mbuf *clone = NULL;

	memset(mbuf->buf_addr, 0xee, mbuf->data_off);
	*other = NULL;
	if (kind == REFERENCED)
		rte_mbuf_refcnt_update(*other = mbuf, 1);
	if (kind < CLONE)
		return mbuf;
	clone = rte_pktmbuf_clone(mbuf, pipeline.pool);
	assert_non_null(clone);
	*other = kind == CLONED || kind == EXTERNAL_CLONED ? clone : mbuf;
	return *other == clone ? mbuf : clone;
}

static void assert_untouched(const struct rte_mbuf *mbuf, const uint8_t *packet)
{
	for (const uint8_t *at = mbuf->buf_addr; at < packet; at++)
		assert_int_equal(*at, 0xee);
}

// One packet of service @p i, whose flow is under way.
static void pass_in(unsigned i, enum kind kind, uint16_t sport, bool is_fast)
{
	struct lb_burst *burst = &pipeline.worker->burst;
	struct segment segment = segment_of(services[i].client, sport, services[i].vip, PORT(i), services[i].proto, ACK);
	bool ours = kind == OWN || kind == OWN_EXTERNAL;
	struct rte_mbuf *mbuf, *other;
	struct frame frame;
	uint8_t *packet;

	segment.n_payload = services[i].n_payload;
	frame = frame_of(&segment);
	mbuf = buffer_of(kind, &frame, &other);
	packet = rte_pktmbuf_mtod(mbuf, uint8_t *);
	assert_int_equal(lb_headroom_is_ours(mbuf, mbuf->data_off), ours);
	assert_false(lb_headroom_is_ours(mbuf, mbuf->data_off + 1u));
	pipeline.worker->fetch_ports = pipeline.worker->fast_ports = is_fast;
	pipeline.worker->now_s = ++pipeline.dp.now_s; // for one more answer
	burst->n = 1;
	burst->port = 0;
	burst->mbufs[0] = mbuf;
	lb_worker_process(pipeline.worker);
	assert_int_equal(burst->packets[0].verdict, ours ? services[i].verdict : services[i].verdict_not);
	assert_int_equal(burst->answered, ours && services[i].n_more == 0);
	if (!ours)
		assert_untouched(mbuf, packet);
	else if (services[i].n_more != 0)
		assert_int_equal(mbuf->pkt_len, frame.n + services[i].n_more);
	else
		assert_true(rte_pktmbuf_mtod(mbuf, uint8_t *) < packet);
	pipeline_free_burst(&pipeline);
	if (other != NULL) // where it was one of the same buffer, there is one reference less by now
		rte_pktmbuf_free(other);
	assert_int_equal(rte_mempool_in_use_count(pipeline.pool), 0);
}

static void begin_flow(unsigned i, uint16_t sport)
{
	struct segment segment = segment_of(services[i].client, sport, services[i].vip, PORT(i), services[i].proto,
		services[i].proto == IPPROTO_TCP ? SYN : 0);
	struct rte_mbuf *other;
	struct frame frame = frame_of(&segment);

	if (services[i].told == LB_CLIENT_ADDRESS_PROXY_V2)
		return; // its first datagram is the one that grows
	pipeline.worker->burst.n = 1;
	pipeline.worker->burst.port = 0;
	pipeline.worker->burst.mbufs[0] = buffer_of(OWN, &frame, &other);
	lb_worker_process(pipeline.worker);
	assert_int_equal(pipeline.worker->burst.packets[0].verdict, LB_VERDICT_FORWARD);
	pipeline_free_burst(&pipeline);
}

static void only_memory_of_ours_is_written_to(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_SERVICES; i++)
		for (enum kind kind = OWN; kind < N_KINDS; kind++)
			for (unsigned is_fast = 0; is_fast < 2; is_fast++) {
				uint16_t sport = (uint16_t)next_port++;

				begin_flow(i, sport);
				pass_in(i, kind, sport, is_fast);
			}
}

// A frame as long as the longest buffer, of service @p i. Its L4 checksum is wrong.
static uint16_t fill_longest(unsigned i, uint16_t sport, uint8_t bytes[UINT16_MAX])
{
	struct segment segment = segment_of(services[i].client, sport, services[i].vip, PORT(i), services[i].proto, ACK);
	struct frame frame = frame_of(&segment);
	bool ipv4 = lb_addr_is_ipv4(&segment.src);
	uint16_t n = UINT16_MAX - LB_EXACT_HEADROOM, n_headers = ipv4 ? 34 : 54, sum;
	rte_be16_t n_l4_be = rte_cpu_to_be_16((uint16_t)(n - n_headers)), n_ip_be = rte_cpu_to_be_16((uint16_t)(n - 14));

	memset(bytes, 0x77, n);
	memcpy(bytes, frame.bytes, frame.n);
	if (services[i].proto == IPPROTO_UDP)
		memcpy(bytes + n_headers + 4, &n_l4_be, 2);
	if (ipv4) {
		memcpy(bytes + 14 + 2, &n_ip_be, 2);
		memset(bytes + 14 + 10, 0, 2);
		sum = lb_checksum_ipv4(bytes + 14);
		memcpy(bytes + 14 + 10, &sum, 2);
	} else {
		memcpy(bytes + 14 + 4, &n_l4_be, 2);
	}
	return n;
}

/*
 * No MTU is too large: lengths of a buffer have 16 bits, and so has what it grows to, which is in the same memory. A port may
 * have 65 535 and more (the loopback does).
 */
static void the_longest_buffers_have_room_for_what_they_become(void **state)
{
	static uint8_t bytes[UINT16_MAX];
	struct lb_burst *burst = &pipeline.worker->burst;

	(void)state;
	for (unsigned port = 0; port < 2; port++)
		lb_worker_set_mtu(pipeline.worker, port, UINT16_MAX);
	for (unsigned i = 0; i < N_SERVICES; i++)
		for (unsigned is_fast = 0; is_fast < 2; is_fast++) {
			uint16_t sport = (uint16_t)next_port++, n = fill_longest(i, sport, bytes);

			begin_flow(i, sport);
			pipeline.worker->fetch_ports = pipeline.worker->fast_ports = is_fast;
			burst->n = 1;
			burst->port = 0;
			burst->mbufs[0] = pipeline_mbuf_exact(&pipeline, bytes, n);
			lb_worker_process(pipeline.worker);
			assert_int_equal(burst->packets[0].verdict, LB_VERDICT_FORWARD);
			assert_int_equal(burst->mbufs[0]->pkt_len, n + services[i].n_more);
			assert_int_equal(burst->mbufs[0]->data_len, n + services[i].n_more);
			assert_int_equal(burst->packets[0].wire_bytes, n + services[i].n_more);
			pipeline_free_burst(&pipeline);
		}
	for (unsigned port = 0; port < 2; port++)
		lb_worker_set_mtu(pipeline.worker, port, 1500);
}

// When the other one is gone, so is the difference.
static void the_last_of_several_may_be(void **state)
{
	struct segment segment = segment_of(CLIENT4, 1, VIP4, PORT(0), IPPROTO_TCP, ACK);
	struct frame frame = frame_of(&segment);
	struct rte_mbuf *mbuf, *other;

	(void)state;
	for (enum kind kind = CLONE; kind < N_KINDS; kind++) {
		mbuf = buffer_of(kind, &frame, &other);
		assert_false(lb_headroom_is_ours(mbuf, 1));
		rte_pktmbuf_free(other);
		assert_int_equal(lb_headroom_is_ours(mbuf, 1), kind != CLONE); // that one is never asked who else there is
		rte_pktmbuf_free(mbuf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_memory_of_ours_is_written_to),
		cmocka_unit_test(the_last_of_several_may_be),
		cmocka_unit_test(the_longest_buffers_have_room_for_what_they_become),
	};

	return cmocka_run_group_tests_name("headroom", tests, set_up, pipeline_tear_down);
}
