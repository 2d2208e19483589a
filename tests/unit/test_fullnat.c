/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode fullnat through the real stages, with four workers: what is rewritten, which ports are taken and given back, who
 * gets the replies, what a restart leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include <netinet/in.h>

#include <rte_ip.h>
#include <rte_malloc.h>

#include "dataplane/flowmem.h"
#include "tests/unit/fullnat_util.h"

#define N_WORKERS 4u
#define CLIENT4 "198.51.100.7"
#define CLIENT6 "2001:db8:c::7"
#define VIP4 "203.0.113.10"
#define VIP6 "2001:db8::10"
#define LOCAL4 "192.0.2.1"
#define LOCAL6 "2001:db8:1::1"

/*
 * Services: 0 VIP4:80/tcp and 1 VIP4:53/udp to IPv4; 2 VIP6:80/tcp and 3 VIP6:53/udp to IPv6; 4 VIP4:81/tcp and 5
 * VIP4:54/udp to IPv6; 6 VIP6:81/tcp and 7 VIP6:54/udp to IPv4; backend n of service n. 8: VIP4:443/tcp to the endpoint
 * of backend 0. 9: VIP4 (.20), all ports, tcp. Big: 10, VIP4:8000/tcp, four backends from 100 on.
 */
static struct pipeline pipeline;
static const char *const both_locals[] = {LOCAL4, LOCAL6, NULL};

static const struct {
	const char *client, *vip, *backend, *local;
	uint16_t port, backend_port;
	uint8_t proto;
} services[] = {
	{CLIENT4, VIP4, "10.0.0.11", LOCAL4, 80, 8080, IPPROTO_TCP},
	{CLIENT4, VIP4, "10.0.0.12", LOCAL4, 53, 5353, IPPROTO_UDP},
	{CLIENT6, VIP6, "fd00::11", LOCAL6, 80, 8080, IPPROTO_TCP},
	{CLIENT6, VIP6, "fd00::12", LOCAL6, 53, 5353, IPPROTO_UDP},
	{CLIENT4, VIP4, "fd00::13", LOCAL6, 81, 8080, IPPROTO_TCP},
	{CLIENT4, VIP4, "fd00::14", LOCAL6, 54, 5353, IPPROTO_UDP},
	{CLIENT6, VIP6, "10.0.0.13", LOCAL4, 81, 8080, IPPROTO_TCP},
	{CLIENT6, VIP6, "10.0.0.14", LOCAL4, 54, 5353, IPPROTO_UDP},
	{CLIENT4, VIP4, "10.0.0.11", LOCAL4, 443, 8080, IPPROTO_TCP},
};
#define N_SERVICES (sizeof(services) / sizeof(services[0]))
#define ALL_PORTS 9u
#define BIG 10u
#define BIG_BACKEND 100u

static void configure(void)
{
	pipeline_sync_begin(&pipeline);
	assert_int_equal(fullnat_locals(&pipeline, both_locals), 0);
	for (uint16_t i = 0; i < N_SERVICES; i++) {
		fullnat_service(&pipeline, i, services[i].vip, services[i].port, services[i].proto,
			LB_CLIENT_ADDRESS_NONE);
		pipeline_backend(&pipeline, i, i, services[i].backend, services[i].backend_port, LB_BACKEND_UP);
		publish_some(&pipeline, i, i, 1);
	}
	fullnat_service(&pipeline, ALL_PORTS, "203.0.113.20", 0, IPPROTO_TCP, LB_CLIENT_ADDRESS_NONE);
	pipeline_backend(&pipeline, ALL_PORTS, ALL_PORTS, "10.0.0.11", 0, LB_BACKEND_UP);
	publish_some(&pipeline, ALL_PORTS, ALL_PORTS, 1);
	fullnat_service(&pipeline, BIG, VIP4, 8000, IPPROTO_TCP, LB_CLIENT_ADDRESS_NONE);
	for (uint16_t i = 0; i < 4; i++) {
		char text[32];

		snprintf(text, sizeof(text), "10.0.1.%u", i + 1);
		pipeline_backend(&pipeline, (uint16_t)(BIG_BACKEND + i), BIG, text, 80, LB_BACKEND_UP);
	}
	publish_some(&pipeline, BIG, BIG_BACKEND, 4);
	pipeline_sync_end(&pipeline);
}

static int set_up(void **state)
{
	pipeline_start_eal_alone(768);
	pipeline_start(&pipeline, N_WORKERS, 66000, 8191);
	configure();
	*state = &pipeline;
	return 0;
}

static void assert_nothing_is_left(void)
{
	advance(&pipeline, 40); // longer than every timeout
	assert_int_equal(TOTAL(sessions.used), 0);
	assert_int_equal(TOTAL(locals[0].ports_used), 0);
	assert_int_equal(TOTAL(locals[1].ports_used), 0);
	for (unsigned id = 0; id < LB_MAX_BACKENDS; id++)
		assert_int_equal(TOTAL(backends[id].active_flows), 0);
	for (uint32_t p = 0; p < pipeline.dp.fullnat_own->n_pools; p++)
		for (unsigned local = 0; local < 2; local++)
			for (unsigned i = 0; i < N_WORKERS; i++) {
				uint8_t *shares = pipeline.dp.fullnat_own->all_pools[p]->shares[local];

				if (shares != NULL)
					assert_int_equal(
						((struct lb_ports *)(shares +
							 i * pipeline.dp.fullnat_own->share_bytes))->n_used, 0);
			}
	assert_int_equal(rte_mempool_in_use_count(pipeline.pool), 0);
}

static struct segment first_of(unsigned service, unsigned sport, uint8_t flags)
{
	struct segment s = segment_of(services[service].client, sport, services[service].vip,
		services[service].port, services[service].proto, flags);

	s.seq = 1000;
	s.ack = 5000;
	s.traffic_class = 0xb9;
	set_payload(&s, "hello, world", flags & SYN ? 0 : 12);
	return s;
}

static void assert_addrs(const struct segment *s, const char *src, const char *dst)
{
	struct lb_addr from = addr_of(src), to = addr_of(dst);

	assert_memory_equal(&s->src, &from, 16);
	assert_memory_equal(&s->dst, &to, 16);
}

// All families and protocols, every mix: to the backend from a local address, and back from the VIP.
static void both_sides_are_rewritten_both_ways(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_SERVICES; i++)
		for (unsigned worker = 0; worker < N_WORKERS; worker++) {
			bool is_tcp = services[i].proto == IPPROTO_TCP;
			struct segment in = first_of(i, 40000 + worker, is_tcp ? SYN : 0), out, back, at_client;

			assert_int_equal(pass(&pipeline, worker, &in, &out), LB_VERDICT_FORWARD);
			assert_addrs(&out, services[i].local, services[i].backend);
			assert_int_equal(out.dport, services[i].backend_port);
			assert_int_equal(out.sport % N_WORKERS, worker);
			assert_true(out.sport >= 1024);
			assert_int_equal(out.n_payload, in.n_payload);
			assert_memory_equal(out.payload, in.payload, in.n_payload);
			back = answer_to(&out, is_tcp ? SYN | ACK : 0);
			back.traffic_class = 0x20;
			set_payload(&back, "goodbye", is_tcp ? 0 : 7);
			for (unsigned at = 0; at < N_WORKERS; at++) { // whichever RSS brings it to
				assert_int_equal(pass(&pipeline, at, &back, &at_client), LB_VERDICT_REPLY);
				assert_addrs(&at_client, services[i].vip, services[i].client);
				assert_int_equal(at_client.sport, services[i].port);
				assert_int_equal(at_client.dport, 40000 + worker);
				assert_int_equal(at_client.n_payload, back.n_payload);
				assert_memory_equal(at_client.payload, back.payload, back.n_payload);
			}
			if (is_tcp) {
				struct segment ack = first_of(i, 40000 + worker, ACK), out2;

				assert_int_equal(pass(&pipeline, worker, &ack, &out2), LB_VERDICT_FORWARD);
				assert_int_equal(out2.sport, out.sport);
				assert_int_equal(out2.seq, 1000);
				assert_int_equal(out2.ack, 5000);
			}
		}
	assert_int_equal(TOTAL(sessions.used), N_SERVICES * N_WORKERS);
	assert_int_equal(TOTAL(sessions.handed_over), N_SERVICES * N_WORKERS * (N_WORKERS - 1));
	assert_int_equal(TOTAL(sessions.taken_over), TOTAL(sessions.handed_over));
	assert_nothing_is_left();
}

static void udp_without_a_checksum_gets_one_in_ipv6(void **state)
{
	struct segment in = first_of(5, 41000, 0), out, back;

	(void)state;
	in.no_checksum = true;
	for (unsigned n = 0; n < 20; n++) {
		set_payload(&in, "0123456789abcdefghijk", n);
		assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD); // verified in there
	}
	in = first_of(1, 41000, 0);
	in.no_checksum = true;
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
	assert_true(out.no_checksum);
	back = answer_to(&out, 0);
	back.no_checksum = true;
	assert_int_equal(pass(&pipeline, 0, &back, &out), LB_VERDICT_REPLY);
	assert_true(out.no_checksum);
	assert_nothing_is_left();
}

static void a_large_packet_translated_to_ipv4_is_not_to_be_fragmented(void **state)
{
	static const uint8_t bytes[1300];
	struct segment in = first_of(7, 41001, 0), out;

	(void)state;
	set_payload(&in, bytes, 1232);
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD); // 1 260 bytes
	assert_false(out.dont_fragment);
	set_payload(&in, bytes, 1233);
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
	assert_true(out.dont_fragment);
	assert_nothing_is_left();
}

// Larger by 20 bytes, an IPv4 packet may no longer fit: its sender can be told what would have.
static void what_no_longer_fits_as_ipv6_is_dropped_by_name(void **state)
{
	static const uint8_t bytes[1500];
	struct segment in = first_of(5, 41003, 0);

	(void)state;
	set_payload(&in, bytes, 1500 - 48);
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
	set_payload(&in, bytes, 1500 - 47);
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_TOO_BIG);
	assert_int_equal(pipeline.dp.workers[0]->burst.mtus[0], 1480);
	assert_nothing_is_left();
}

// IPv4 options and IPv6 extension headers have no counterpart; the VLAN tag stays.
static void what_has_no_counterpart_is_left_out(void **state)
{
	struct segment in = first_of(5, 41002, 0), out;
	struct frame plain = frame_of(&in), frame = plain, after;
	struct rte_ipv4_hdr *ip = (void *)(frame.bytes + 18);

	(void)state;
	// Ethernet, tag, 24 bytes of IPv4, UDP.
	memcpy(frame.bytes + 12, (uint8_t[]){0x81, 0, 0, 7, 8, 0}, 6);
	memcpy(frame.bytes + 18, plain.bytes + 14, 20);
	memset(frame.bytes + 38, 1, 4);
	memcpy(frame.bytes + 42, plain.bytes + 34, plain.n - 34);
	frame.n = plain.n + 8;
	ip->version_ihl = 0x46;
	ip->total_length = rte_cpu_to_be_16((uint16_t)(frame.n - 18));
	ip->hdr_checksum = 0;
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	assert_int_equal(pass_frame(&pipeline, 0, &frame, &after), LB_VERDICT_FORWARD);
	assert_memory_equal(after.bytes + 12, ((uint8_t[]){0x81, 0, 0, 7, 0x86, 0xdd}), 6);
	memmove(after.bytes + 12, after.bytes + 16, after.n - 16);
	after.n -= 4;
	out = read_frame(&after);
	assert_addrs(&out, LOCAL6, "fd00::14");
	assert_memory_equal(out.payload, in.payload, in.n_payload);
	assert_nothing_is_left();
}

static void what_has_no_session_is_dropped_by_name(void **state)
{
	struct segment in = first_of(0, 42000, ACK), out, stray;

	(void)state;
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_NO_SESSION);
	in.flags = SYN | ACK;
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_NO_SESSION);
	in.flags = RST;
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_NO_SESSION);
	assert_int_equal(TOTAL(sessions.used), 0);
	in.flags = SYN;
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
	stray = answer_to(&out, ACK);
	stray.sport++; // not what the session is with
	assert_int_equal(pass(&pipeline, 0, &stray, NULL), LB_VERDICT_NO_SESSION);
	stray = answer_to(&out, ACK);
	stray.src = addr_of("10.0.0.99");
	assert_int_equal(pass(&pipeline, 0, &stray, NULL), LB_VERDICT_NO_SESSION);
	stray = answer_to(&out, 0);
	stray.proto = IPPROTO_UDP;
	assert_int_equal(pass(&pipeline, 0, &stray, NULL), LB_VERDICT_NO_SESSION);
	stray = answer_to(&out, ACK);
	stray.ttl = 1;
	assert_int_equal(pass(&pipeline, 0, &stray, NULL), LB_VERDICT_TTL_EXPIRED);
	assert_nothing_is_left();
}

// The client closes, the backend closes; the port is kept for late segments, then free.
static void a_closed_session_keeps_its_port_a_little(void **state)
{
	struct segment in = first_of(0, 43000, SYN), out, back;

	(void)state;
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
	back = answer_to(&out, SYN | ACK);
	pass(&pipeline, 0, &back, NULL);
	in = first_of(0, 43000, ACK);
	pass(&pipeline, 0, &in, NULL);
	in.flags = FIN | ACK;
	pass(&pipeline, 0, &in, NULL);
	advance(&pipeline, 20); // half-closed: longer than a minute, shorter than the idle timeout
	back.flags = ACK;
	assert_int_equal(pass(&pipeline, 0, &back, NULL), LB_VERDICT_REPLY);
	back.flags = FIN | ACK;
	assert_int_equal(pass(&pipeline, 0, &back, NULL), LB_VERDICT_REPLY);
	in.flags = ACK;
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
	assert_int_equal(pass(&pipeline, 0, &back, NULL), LB_VERDICT_REPLY); // again
	advance(&pipeline, 4);
	assert_int_equal(TOTAL(sessions.used), 0);
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_NO_SESSION);
	assert_nothing_is_left();
}

static void a_client_may_use_its_port_again(void **state)
{
	struct segment in = first_of(0, 43001, SYN), out, again;

	(void)state;
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(pass(&pipeline, 0, &in, &again), LB_VERDICT_FORWARD); // sent again
	assert_int_equal(again.sport, out.sport);
	in.flags = ACK;
	pass(&pipeline, 0, &in, NULL);
	in.flags = SYN; // spoofed or late: leaves the session alone
	assert_int_equal(pass(&pipeline, 0, &in, &again), LB_VERDICT_FORWARD);
	assert_int_equal(again.sport, out.sport);
	in.flags = RST | ACK;
	assert_int_equal(pass(&pipeline, 0, &in, &again), LB_VERDICT_FORWARD);
	assert_int_equal(again.sport, out.sport);
	in.flags = SYN;
	assert_int_equal(pass(&pipeline, 0, &in, &again), LB_VERDICT_FORWARD);
	assert_int_not_equal(again.sport, out.sport); // a fresh one: the backend may not know yet
	assert_int_equal(TOTAL(sessions.used), 1);
	assert_nothing_is_left();
}

static void an_idle_session_ends(void **state)
{
	struct segment in = first_of(0, 43002, SYN), udp = first_of(1, 43002, 0);

	(void)state;
	pass(&pipeline, 0, &in, NULL);
	in.flags = ACK;
	pass(&pipeline, 0, &in, NULL);
	pass(&pipeline, 0, &udp, NULL);
	advance(&pipeline, 29);
	assert_int_equal(TOTAL(sessions.used), 2);
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
	advance(&pipeline, 10);
	assert_int_equal(TOTAL(sessions.used), 1); // the service's idle timeout is 60 s
	assert_nothing_is_left();
}

// Two services, and one for all ports, to one endpoint: no two sessions may look alike to the backend.
static void services_may_share_an_endpoint(void **state)
{
	static bool taken[65536];
	struct segment out;

	(void)state;
	memset(taken, 0, sizeof(taken));
	for (unsigned i = 0; i < 3000; i++) {
		static const unsigned which[] = {0, 8, ALL_PORTS};
		struct segment in = first_of(0, 10000 + i, SYN);

		in.dport = which[i % 3] == 8 ? 443 : in.dport;
		if (which[i % 3] == ALL_PORTS) {
			in.dst = addr_of("203.0.113.20");
			in.dport = 8080;
		}
		assert_int_equal(pass(&pipeline, 1, &in, &out), LB_VERDICT_FORWARD);
		assert_addrs(&out, LOCAL4, "10.0.0.11");
		assert_int_equal(out.dport, 8080);
		assert_false(taken[out.sport]);
		taken[out.sport] = true;
	}
	assert_nothing_is_left();
}

/*
 * The ports of two pools of one endpoint, handed out going round, meet: there is a way past those that the other has, from
 * wherever that happens.
 */
static void pools_that_meet_go_around_each_other(void **state)
{
	struct lb_fullnat *fullnat = pipeline.dp.fullnat_own;
	struct lb_ports *one = lb_fullnat_share(fullnat, pipeline.dp.workers[1], 0, 0);
	struct lb_ports *all = lb_fullnat_share(fullnat, pipeline.dp.workers[1], ALL_PORTS, 0);
	struct segment in, out;

	(void)state;
	for (unsigned round = 0; round < 60; round++) {
		lb_ports_skip(all, round * 997);
		lb_ports_skip(one, round * 997 + 1000);
		for (unsigned i = 0; i < 1500; i++) {
			in = first_of(0, 10000 + i, SYN);
			assert_int_equal(pass(&pipeline, 1, &in, &out), LB_VERDICT_FORWARD);
		}
		for (unsigned i = 0; i < 1010; i++) {
			in = first_of(0, 10000 + i, SYN);
			in.dst = addr_of("203.0.113.20");
			in.dport = 8080;
			assert_int_equal(pass(&pipeline, 1, &in, &out), LB_VERDICT_FORWARD);
		}
		assert_int_equal(TOTAL(sessions.used), 2510);
		advance(&pipeline, 40);
	}
	assert_int_equal(TOTAL(sessions.evicted), 0);
	assert_nothing_is_left();
}

// All ports of one pool are taken, where the sessions that look alike are of another: these are left alone.
static void a_full_pool_takes_nothing_from_its_neighbour(void **state)
{
	struct lb_fullnat *fullnat = pipeline.dp.fullnat_own;
	struct lb_ports *one = lb_fullnat_share(fullnat, pipeline.dp.workers[1], 0, 0);
	struct lb_ports *all = lb_fullnat_share(fullnat, pipeline.dp.workers[1], ALL_PORTS, 0);
	uint64_t evicted = TOTAL(sessions.evicted);
	uint32_t begin = one->cursor;
	struct segment in;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		in = first_of(0, 10000 + i, SYN);
		assert_int_equal(pass(&pipeline, 1, &in, NULL), LB_VERDICT_FORWARD);
	}
	while (lb_ports_take(all) != LB_PORTS_NONE)
		;
	lb_ports_skip(all, begin);
	in = first_of(0, 10000, SYN);
	in.dst = addr_of("203.0.113.20");
	in.dport = 8080;
	assert_int_equal(pass(&pipeline, 1, &in, NULL), LB_VERDICT_PORTS_EXHAUSTED);
	assert_int_equal(TOTAL(sessions.evicted), evicted);
	assert_int_equal(TOTAL(sessions.used), 40);
	for (uint32_t idx = 0; idx < all->n_ports; idx++)
		lb_ports_give(all, idx);
	assert_int_equal(pass(&pipeline, 1, &in, NULL), LB_VERDICT_FORWARD);
	assert_nothing_is_left();
}

static struct segment big_segment(uint32_t i, uint8_t flags)
{
	struct segment s = {.src = lb_addr_from_ipv4(rte_cpu_to_be_32(0x64400000 + i / 50000)),
		.dst = addr_of(VIP4), .sport = (uint16_t)(1024 + i % 50000), .dport = 8000,
		.proto = IPPROTO_TCP, .flags = flags, .ttl = 64};

	return s;
}

/* What the backends know of the connections: the client of each of their (backend, local port). */
#define N_BIG 200000u
static uint32_t *owner_of; /* [4][65536], number of the connection + 1 */

static uint32_t *owner_at(const struct segment *at_backend)
{
	return &owner_of[(at_backend->dst.bytes[15] - 1u) * 65536 + at_backend->sport];
}

static void open_one(uint32_t i, struct segment *at_backend)
{
	unsigned worker = (unsigned)(i * 2654435761u >> 16) % N_WORKERS; // as RSS would spread them
	struct segment in = big_segment(i, SYN), back, at_client;

	assert_int_equal(pass(&pipeline, worker, &in, at_backend), LB_VERDICT_FORWARD);
	assert_int_equal(*owner_at(at_backend), 0);
	*owner_at(at_backend) = i + 1;
	back = answer_to(at_backend, SYN | ACK);
	// RSS brings the reply anywhere.
	assert_int_equal(pass(&pipeline, i % N_WORKERS, &back, &at_client), LB_VERDICT_REPLY);
	assert_memory_equal(&at_client.dst, &in.src, 16);
	assert_int_equal(at_client.dport, in.sport);
	in.flags = ACK;
	assert_int_equal(pass(&pipeline, worker, &in, NULL), LB_VERDICT_FORWARD);
}

static void close_one(uint32_t i, bool by_reset)
{
	unsigned worker = (unsigned)(i * 2654435761u >> 16) % N_WORKERS;
	struct segment in = big_segment(i, by_reset ? RST | ACK : FIN | ACK), at_backend, back, at_client;

	assert_int_equal(pass(&pipeline, worker, &in, &at_backend), LB_VERDICT_FORWARD);
	assert_int_equal(*owner_at(&at_backend), i + 1);
	*owner_at(&at_backend) = 0;
	if (by_reset)
		return;
	back = answer_to(&at_backend, FIN | ACK);
	assert_int_equal(pass(&pipeline, (i + 1) % N_WORKERS, &back, &at_client), LB_VERDICT_REPLY);
	assert_memory_equal(&at_client.dst, &in.src, 16);
	assert_int_equal(at_client.dport, in.sport);
}

/*
 * 200 000 connections at a time over one local address, four backends and four workers, opened and closed three
 * times: every reply finds its client, whichever worker it comes to, and nothing is left.
 */
static void two_hundred_thousand_connections_three_times(void **state)
{
	struct segment at_backend;
	uint64_t handed_over = TOTAL(sessions.handed_over);
	uint64_t no_session = TOTAL(verdicts[LB_VERDICT_NO_SESSION]);

	(void)state;
	owner_of = calloc(4 * 65536, sizeof(*owner_of));
	for (unsigned round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < N_BIG; i++)
			open_one(i, &at_backend);
		assert_int_equal(TOTAL(sessions.used), N_BIG);
		assert_int_equal(TOTAL(locals[0].ports_used), N_BIG);
		for (uint32_t i = 0; i < N_BIG; i++)
			close_one(i, i % 5 == 0);
		advance(&pipeline, 4); // a while later their ports are free again
		assert_int_equal(TOTAL(sessions.used), 0);
		assert_int_equal(TOTAL(locals[0].ports_used), 0);
	}
	assert_int_equal(TOTAL(sessions.ports_exhausted), 0);
	assert_int_equal(TOTAL(sessions.full), 0);
	assert_int_equal(TOTAL(verdicts[LB_VERDICT_NO_SESSION]), no_session);
	assert_true(TOTAL(sessions.handed_over) - handed_over > N_BIG);
	assert_nothing_is_left();
	free(owner_of);
}

// All of one worker's ports to one endpoint: the next is refused and counted; after one closes it works again.
static void exhausted_ports_are_counted_and_come_back(void **state)
{
	uint32_t n = LB_PORTS_ALL / N_WORKERS;
	struct segment in, out;

	(void)state;
	for (uint32_t i = 0; i < n; i++) {
		in = first_of(0, 1024 + i, SYN);
		assert_int_equal(pass(&pipeline, 2, &in, &out), LB_VERDICT_FORWARD);
		in.flags = ACK;
		assert_int_equal(pass(&pipeline, 2, &in, &out), LB_VERDICT_FORWARD);
	}
	in = first_of(0, 60000, SYN);
	assert_int_equal(pass(&pipeline, 2, &in, &out), LB_VERDICT_PORTS_EXHAUSTED);
	assert_int_equal(pipeline.dp.workers[2]->counters->sessions.ports_exhausted, 1);
	assert_int_equal(pipeline.dp.workers[2]->counters->locals[0].ports_exhausted, 1);
	assert_int_equal(pipeline.dp.workers[2]->counters->locals[0].ports_used, n);
	assert_int_equal(pass(&pipeline, 1, &in, &out), LB_VERDICT_FORWARD); // another worker has its own
	in = first_of(6, 60000, SYN); // another endpoint, same worker
	assert_int_equal(pass(&pipeline, 2, &in, &out), LB_VERDICT_FORWARD);
	in = first_of(0, 1024 + 77, RST | ACK);
	assert_int_equal(pass(&pipeline, 2, &in, &out), LB_VERDICT_FORWARD);
	advance(&pipeline, 3);
	in = first_of(0, 60000, SYN);
	assert_int_equal(pass(&pipeline, 2, &in, &in), LB_VERDICT_FORWARD);
	assert_int_equal(in.sport, out.sport); // the only one free
	assert_nothing_is_left();
}

static struct lb_msg_trace_reply trace_of(const struct segment *s)
{
	struct lb_msg msg = {.op = LB_OP_TRACE, .trace = {.src = s->src, .dst = s->dst,
		.sport_be = rte_cpu_to_be_16(s->sport), .dport_be = rte_cpu_to_be_16(s->dport),
		.proto = s->proto, .syn = (s->flags & (SYN | ACK)) == SYN}}, reply;

	assert_int_equal(pipeline_command(&pipeline, &msg, &reply), 0);
	return reply.reply.trace;
}

// The trace is asked first, then the packet is sent. @return what the trace said.
static struct lb_msg_trace_reply foretold(unsigned worker, const struct segment *in, struct segment *out)
{
	struct lb_msg_trace_reply trace = trace_of(in);

	assert_int_equal(pass(&pipeline, worker, in, out), trace.verdict);
	return trace;
}

static unsigned worker_of(uint32_t i)
{
	return (unsigned)(i * 2654435761u >> 16) % N_WORKERS;
}

static uint8_t open_established(uint32_t i, struct segment *at_backend)
{
	struct segment in = big_segment(i, SYN);
	uint8_t verdict = pass(&pipeline, worker_of(i), &in, at_backend);

	in.flags = ACK;
	if (verdict == LB_VERDICT_FORWARD)
		assert_int_equal(pass(&pipeline, worker_of(i), &in, NULL), LB_VERDICT_FORWARD);
	return verdict;
}

// A port is taken per backend endpoint: four backends have four times as many. With all of them taken, at every worker,
// the next connection is refused and counted, foretold by a trace, and works again after one to its backend closes.
static void every_port_of_an_address_may_be_taken(void **state)
{
	const uint32_t n_all = 4 * LB_PORTS_ALL;
	uint32_t n_open = 0, n_refused = 0, i = 0;
	struct segment at_backend, in;
	uint32_t last_at[4][N_WORKERS] = {0}; // of each backend and worker, the newest connection
	uint64_t exhausted = TOTAL(sessions.ports_exhausted);

	(void)state;
	for (; n_open < n_all; i++) {
		uint8_t verdict = open_established(i, &at_backend);

		assert_true(i < 2 * n_all);
		if (verdict == LB_VERDICT_FORWARD)
			last_at[at_backend.dst.bytes[15] - 1][worker_of(i)] = i;
		else
			assert_int_equal(verdict, LB_VERDICT_PORTS_EXHAUSTED);
		n_open += verdict == LB_VERDICT_FORWARD;
		n_refused += verdict == LB_VERDICT_PORTS_EXHAUSTED;
	}
	assert_int_equal(TOTAL(locals[0].ports_used), n_all);
	assert_int_equal(TOTAL(sessions.used), n_all);
	assert_int_equal(TOTAL(sessions.ports_exhausted) - exhausted, n_refused);
	for (unsigned k = 0; k < 40; k++, n_refused++) {
		in = big_segment(i + k, SYN);
		assert_int_equal(foretold(worker_of(i + k), &in, NULL).verdict, LB_VERDICT_PORTS_EXHAUSTED);
	}
	assert_int_equal(TOTAL(sessions.ports_exhausted) - exhausted, n_refused);
	assert_int_equal(TOTAL(sessions.full), 0);
	for (unsigned backend = 0; backend < 4; backend++) { // at worker 3
		in = big_segment(last_at[backend][3], RST | ACK);
		assert_int_equal(pass(&pipeline, 3, &in, &at_backend), LB_VERDICT_FORWARD);
		assert_int_equal(at_backend.dst.bytes[15], backend + 1);
	}
	advance(&pipeline, 3);
	assert_int_equal(TOTAL(locals[0].ports_used), n_all - 4);
	for (n_open = 0; n_open < 4; i++) {
		in = big_segment(i, SYN);
		n_open += pass(&pipeline, 3, &in, &at_backend) == LB_VERDICT_FORWARD;
	}
	assert_int_equal(TOTAL(locals[0].ports_used), n_all);
	assert_nothing_is_left();
}

static void a_trace_foretells_what_happens(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_SERVICES; i++) {
		bool is_tcp = services[i].proto == IPPROTO_TCP;
		struct segment in = first_of(i, 51000, is_tcp ? ACK : 0), out, back;
		struct lb_msg_trace_reply trace;

		if (is_tcp) {
			assert_int_equal(foretold(1, &in, NULL).verdict, LB_VERDICT_NO_SESSION);
			in.flags = SYN;
		}
		trace = foretold(1, &in, &out);
		assert_int_equal(trace.decision, LB_DECISION_SLOT);
		assert_int_equal(trace.backend, i);
		assert_int_equal(trace.worker, UINT16_MAX);
		assert_int_equal(trace.local_port_be, 0);
		in.flags = is_tcp ? ACK : 0;
		trace = foretold(1, &in, NULL);
		assert_int_equal(trace.decision, LB_DECISION_ENTRY);
		assert_int_equal(trace.worker, 1);
		assert_int_equal(rte_be_to_cpu_16(trace.local_port_be), out.sport);
		assert_memory_equal(&pipeline.dp.shm.shm->header.locals[trace.local_idx], &out.src, 16);
		back = answer_to(&out, is_tcp ? SYN | ACK : 0);
		trace = foretold(2, &back, NULL);
		assert_int_equal(trace.verdict, LB_VERDICT_REPLY);
		assert_int_equal(trace.service, i);
		assert_int_equal(trace.worker, 1);
		back.dport = (uint16_t)(out.sport + N_WORKERS);
		assert_int_equal(foretold(2, &back, NULL).verdict, LB_VERDICT_NO_SESSION);
		if (!is_tcp)
			continue;
		in.flags = RST;
		pass(&pipeline, 1, &in, NULL);
		in.flags = ACK; // still the same connection, but a new one is another
		assert_int_equal(trace_of(&in).decision, LB_DECISION_ENTRY);
		in.flags = SYN;
		assert_int_equal(foretold(1, &in, NULL).decision, LB_DECISION_SLOT);
	}
	assert_nothing_is_left();
}

static void a_trace_foretells_refusals(void **state)
{
	static const char *const only6[] = {LOCAL6, NULL};
	struct segment in = first_of(0, 51500, SYN), out, back;
	struct lb_msg route = {.op = LB_OP_ROUTE_DEL, .route = {.family = 4, .prefix = addr_of("0.0.0.0")}};

	(void)state;
	assert_int_equal(foretold(0, &in, &out).verdict, LB_VERDICT_FORWARD);
	back = answer_to(&out, SYN | ACK);
	assert_int_equal(pipeline_command(&pipeline, &route, NULL), 0);
	assert_int_equal(foretold(0, &back, NULL).verdict, LB_VERDICT_NO_ROUTE);
	route.op = LB_OP_ROUTE_SET;
	route.route.nexthop = 2;
	assert_int_equal(pipeline_command(&pipeline, &route, NULL), 0);
	pipeline_backend(&pipeline, 0, 0, "10.0.0.11", 8080, LB_BACKEND_DOWN);
	in.flags = ACK;
	assert_int_equal(foretold(0, &in, NULL).verdict, LB_VERDICT_NO_SESSION);
	pipeline_backend(&pipeline, 0, 0, "10.0.0.11", 8080, LB_BACKEND_UP);
	in = first_of(0, 51501, SYN);
	assert_int_equal(fullnat_locals(&pipeline, only6), 0);
	assert_int_equal(foretold(0, &in, NULL).verdict, LB_VERDICT_NO_LOCAL_ADDRESS);
	assert_int_equal(fullnat_locals(&pipeline, both_locals), 0);
	assert_nothing_is_left();
}

static struct lb_msg_session next_session(struct lb_msg_session_query *query)
{
	struct lb_msg msg = {.op = LB_OP_SESSION_NEXT, .session_query = *query}, reply;

	assert_int_equal(pipeline_command(&pipeline, &msg, &reply), 0);
	query->worker = reply.reply.session.next_worker;
	query->entry = reply.reply.session.next_entry;
	return reply.reply.session;
}

// A walk over all sessions meets each once; every one's local port is the one that its backend saw.
static void sessions_are_listed_one_by_one(void **state)
{
	static uint16_t seen[N_SERVICES][200]; // local port by service and client port
	struct lb_msg_session_query query = {.service = UINT16_MAX}, of_one = {.service = 2};
	struct lb_msg bad = {.op = LB_OP_SESSION_NEXT, .session_query = {.service = LB_MAX_SERVICES}};
	struct segment in, out;
	unsigned n = 0;

	(void)state;
	assert_int_equal(pipeline_command(&pipeline, &bad, NULL), -EINVAL);
	bad.session_query = (struct lb_msg_session_query){.zero = 1};
	assert_int_equal(pipeline_command(&pipeline, &bad, NULL), -EINVAL);
	for (unsigned i = 0; i < N_SERVICES; i++)
		for (unsigned k = 0; k < 200; k++) {
			in = first_of(i, 52000 + k, services[i].proto == IPPROTO_TCP ? SYN : 0);
			assert_int_equal(pass(&pipeline, k % N_WORKERS, &in, &out), LB_VERDICT_FORWARD);
			seen[i][k] = out.sport;
		}
	while (query.worker != UINT16_MAX) {
		struct lb_msg_session session = next_session(&query);
		unsigned k = rte_be_to_cpu_16(session.client_port_be) - 52000u;
		struct lb_addr client;

		if (!session.found)
			continue;
		assert_true(session.service < N_SERVICES && k < 200);
		client = addr_of(services[session.service].client);
		assert_memory_equal(&session.client, &client, 16);
		assert_int_equal(session.backend, session.service);
		assert_int_equal(session.worker, k % N_WORKERS);
		assert_int_equal(rte_be_to_cpu_16(session.vip_port_be), services[session.service].port);
		assert_int_equal(rte_be_to_cpu_16(session.local_port_be), seen[session.service][k]);
		seen[session.service][k] = 0; // not twice
		n++;
	}
	assert_int_equal(n, N_SERVICES * 200);
	for (n = 0; of_one.worker != UINT16_MAX;) {
		struct lb_msg_session session = next_session(&of_one);

		n += session.found && session.service == 2;
		assert_true(!session.found || session.service == 2);
	}
	assert_int_equal(n, 200);
	query = (struct lb_msg_session_query){.worker = 9999, .entry = UINT32_MAX, .service = UINT16_MAX};
	assert_false(next_session(&query).found);
	assert_int_equal(query.worker, UINT16_MAX);
	assert_nothing_is_left();
}

// Sums of the places that have this address.
static uint64_t ports_told(const char *local)
{
	const struct lb_shm_header *header = &pipeline.dp.shm.shm->header;
	struct lb_addr addr = addr_of(local);
	uint64_t n = 0;

	for (unsigned i = 0; i < LB_MAX_LOCALS; i++)
		n += lb_addr_equal(&header->locals[i], &addr) ? header->local_ports[i] : 0;
	return n;
}

static void the_region_tells_how_many_ports_there_are(void **state)
{
	static const char *const only6[] = {LOCAL6, NULL};
	const uint64_t each = LB_PORTS_ALL / N_WORKERS;
	struct lb_msg del = {.op = LB_OP_BACKEND_DEL, .id = 60};

	(void)state;
	assert_int_equal(ports_told(LOCAL4), 9 * each); // endpoints, see above
	assert_int_equal(ports_told(LOCAL6), 4 * each);
	pipeline_backend(&pipeline, 60, 0, "10.0.0.11", 8080, LB_BACKEND_UP); // known
	assert_int_equal(ports_told(LOCAL4), 9 * each);
	assert_int_equal(pipeline_command(&pipeline, &del, NULL), 0);
	assert_int_equal(ports_told(LOCAL4), 9 * each);
	advance(&pipeline, 1);
	advance(&pipeline, 1);
	pipeline_backend(&pipeline, 60, 0, "10.0.0.60", 8080, LB_BACKEND_UP);
	assert_int_equal(ports_told(LOCAL4), 10 * each);
	assert_int_equal(fullnat_locals(&pipeline, only6), 0);
	assert_int_equal(ports_told(LOCAL4), 0);
	assert_int_equal(ports_told(LOCAL6), 4 * each);
	assert_int_equal(pipeline_command(&pipeline, &del, NULL), 0);
	assert_int_equal(fullnat_locals(&pipeline, both_locals), 0);
	assert_int_equal(ports_told(LOCAL4), 9 * each);
	advance(&pipeline, 1);
	advance(&pipeline, 1);
	assert_nothing_is_left();
}

// Those that were opened go on when the address is no longer listed; new ones take another.
static void a_removed_local_address_keeps_its_sessions(void **state)
{
	static const char *const other[] = {"192.0.2.2", LOCAL6, NULL};
	static const char *const none[] = {NULL};
	struct segment in = first_of(0, 44000, SYN), out, back;

	(void)state;
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(fullnat_locals(&pipeline, other), 0);
	back = answer_to(&out, SYN | ACK);
	assert_int_equal(pass(&pipeline, 1, &back, NULL), LB_VERDICT_REPLY);
	in.flags = ACK;
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
	in = first_of(0, 44001, SYN);
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
	assert_addrs(&out, "192.0.2.2", "10.0.0.11");
	assert_int_equal(fullnat_locals(&pipeline, none), 0);
	in = first_of(0, 44002, SYN);
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_NO_LOCAL_ADDRESS);
	advance(&pipeline, 40);
	assert_int_equal(fullnat_locals(&pipeline, both_locals), 0);
	in = first_of(0, 44002, SYN);
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
	assert_addrs(&out, LOCAL4, "10.0.0.11");
	assert_nothing_is_left();
}

static void more_local_addresses_than_fit_over_time(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		char text[32];
		const char *addrs[] = {text, NULL};
		struct segment in = first_of(0, 45000, SYN), out;

		snprintf(text, sizeof(text), "192.0.2.%u", round + 10);
		assert_int_equal(fullnat_locals(&pipeline, addrs), 0);
		assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
		in.flags = RST;
		pass(&pipeline, 0, &in, NULL);
		advance(&pipeline, 40);
	}
	assert_int_equal(fullnat_locals(&pipeline, both_locals), 0);
	assert_nothing_is_left();
}

static void sessions_of_a_backend_that_is_down_end(void **state)
{
	struct segment in = first_of(0, 46000, SYN), udp = first_of(1, 46000, 0);

	(void)state;
	pass(&pipeline, 0, &in, NULL);
	in.flags = ACK;
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
	assert_int_equal(pass(&pipeline, 0, &udp, NULL), LB_VERDICT_FORWARD);
	pipeline_backend(&pipeline, 0, 0, "10.0.0.11", 8080, LB_BACKEND_DRAIN);
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
	pipeline_backend(&pipeline, 0, 0, "10.0.0.11", 8080, LB_BACKEND_DOWN);
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_NO_SESSION);
	pipeline_backend(&pipeline, 0, 0, "10.0.0.11", 8080, LB_BACKEND_UP);
	assert_nothing_is_left();
}

static void a_flush_ends_the_sessions_of_one_service(void **state)
{
	struct lb_msg msg = {.op = LB_OP_FLOWS_FLUSH, .flush = {.service = 0, .backend = LB_BACKEND_NONE}}, reply;
	struct segment in;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		for (unsigned service = 0; service < 2; service++) {
			in = first_of(service, 47000 + i, service == 0 ? SYN : 0);
			pass(&pipeline, i % N_WORKERS, &in, NULL);
		}
	assert_int_equal(pipeline_command(&pipeline, &msg, &reply), 0);
	assert_int_equal(reply.reply.n_flows, 100);
	for (unsigned k = 0; k < 2000; k++)
		for (unsigned i = 0; i < N_WORKERS; i++)
			lb_worker_keep_house(pipeline.dp.workers[i], 0);
	assert_int_equal(TOTAL(sessions.used), 100);
	assert_int_equal(TOTAL(backends[0].active_flows), 0);
	assert_int_equal(TOTAL(backends[1].active_flows), 100);
	assert_nothing_is_left();
}

// An id is not given to another backend while a session may mean the old one.
static void a_removed_backends_id_waits_for_its_sessions(void **state)
{
	struct lb_msg del = {.op = LB_OP_BACKEND_DEL, .id = 0},
		      set = {.op = LB_OP_BACKEND_SET, .backend = {.id = 0, .service = 0,
			.addr = addr_of("10.0.0.77"), .port_be = RTE_BE16(8080), .state = LB_BACKEND_UP,
			.nexthop = 1}};
	struct segment in = first_of(0, 47500, SYN), out;

	(void)state;
	pass(&pipeline, 0, &in, NULL);
	pipeline_backend(&pipeline, 50, 0, "10.0.0.50", 8080, LB_BACKEND_UP);
	publish_some(&pipeline, 0, 50, 1);
	assert_int_equal(pipeline_command(&pipeline, &del, NULL), 0);
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD); // a new one, elsewhere
	assert_addrs(&out, LOCAL4, "10.0.0.50");
	assert_int_equal(pipeline_command(&pipeline, &set, NULL), -EAGAIN);
	advance(&pipeline, 1);
	assert_int_equal(pipeline_command(&pipeline, &set, NULL), -EAGAIN);
	advance(&pipeline, 1);
	assert_int_equal(pipeline_command(&pipeline, &set, NULL), 0);
	assert_int_equal(pipeline_command(&pipeline, &del, NULL), 0);
	advance(&pipeline, 1);
	advance(&pipeline, 1);
	pipeline_backend(&pipeline, 0, 0, "10.0.0.11", 8080, LB_BACKEND_UP);
	publish_some(&pipeline, 0, 0, 1);
	del.id = 50;
	assert_int_equal(pipeline_command(&pipeline, &del, NULL), 0);
	assert_nothing_is_left();
}

// As after the end of the process: new workers, the same files.
static void restart(void)
{
	struct lb_dp *dp = &pipeline.dp;

	lb_flowmem_unmap(dp);
	lb_fullnat_fini(dp);
	dp->live = false;
	for (unsigned i = 0; i < N_WORKERS; i++) {
		memset(&dp->workers[i]->counters->sessions, 0, sizeof(dp->workers[i]->counters->sessions));
		memset(dp->workers[i]->counters->locals, 0, sizeof(dp->workers[i]->counters->locals));
		memset(dp->workers[i]->counters->backends, 0, sizeof(dp->workers[i]->counters->backends));
		memset(&dp->workers[i]->sessions, 0, sizeof(dp->workers[i]->sessions));
		dp->workers[i]->session_mem = NULL;
	}
	for (unsigned i = 0; i < LB_MAX_SERVICES; i++)
		if (dp->services[i].in_use) {
			rte_free(dp->services[i].table);
			dp->services[i].table = NULL;
			dp->services[i].in_use = false;
			dp->services[i].idle_ticks = 0;
		}
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		dp->backends[i].in_use = false;
	memset(dp->quarantine, 0, (LB_MAX_BACKENDS + 1) * sizeof(dp->quarantine[0]));
	memset(dp->slot_refs, 0, (LB_MAX_BACKENDS + 1) * sizeof(dp->slot_refs[0]));
	lb_keymap_destroy(dp->service_map);
	lb_keymap_destroy(dp->next_service_map);
	dp->service_map = lb_keymap_create(64);
	dp->next_service_map = NULL;
	assert_int_equal(lb_flowmem_map(dp), 0);
	configure();
}

static void sessions_outlive_a_restart(void **state)
{
	struct segment in, out[N_SERVICES][N_WORKERS], back;

	(void)state;
	for (unsigned i = 0; i < N_SERVICES; i++)
		for (unsigned worker = 0; worker < N_WORKERS; worker++) {
			in = first_of(i, 48000, services[i].proto == IPPROTO_TCP ? SYN : 0);
			in.sport = (uint16_t)(48000 + worker);
			assert_int_equal(pass(&pipeline, worker, &in, &out[i][worker]), LB_VERDICT_FORWARD);
		}
	lb_sessions_sweep(&pipeline.dp.workers[0]->sessions, pipeline.dp.tick, 1);
	restart();
	assert_int_equal(TOTAL(sessions.used), N_SERVICES * N_WORKERS);
	assert_int_equal(TOTAL(backends[0].active_flows), N_WORKERS);
	for (unsigned i = 0; i < N_SERVICES; i++)
		for (unsigned worker = 0; worker < N_WORKERS; worker++) {
			struct segment again;

			back = answer_to(&out[i][worker], ACK);
			assert_int_equal(pass(&pipeline, 3, &back, &again), LB_VERDICT_REPLY);
			assert_addrs(&again, services[i].vip, services[i].client);
			assert_int_equal(again.dport, 48000 + worker);
			in = first_of(i, 48000 + worker, ACK);
			assert_int_equal(pass(&pipeline, worker, &in, &again), LB_VERDICT_FORWARD);
			assert_int_equal(again.sport, out[i][worker].sport);
			// and its port is not given to another
			for (unsigned k = 0; k < 50; k++) {
				in = first_of(i, 49000 + k, services[i].proto == IPPROTO_TCP ? SYN : 0);
				assert_int_equal(pass(&pipeline, worker, &in, &again), LB_VERDICT_FORWARD);
				assert_int_not_equal(again.sport, out[i][worker].sport);
			}
		}
	assert_nothing_is_left();
}

static void a_full_ring_is_a_named_drop(void **state)
{
	struct segment in = first_of(0, 50000, SYN), out, back;
	struct frame frame;
	struct lb_worker *worker = pipeline.dp.workers[1];
	unsigned n_taken = 0, n_full = 0;

	(void)state;
	pass(&pipeline, 0, &in, &out);
	back = answer_to(&out, ACK);
	frame = frame_of(&back);
	for (unsigned i = 0; i < 4200; i++) {
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pipeline.pool);
		uint8_t verdict;

		memcpy(rte_pktmbuf_append(mbuf, (uint16_t)frame.n), frame.bytes, frame.n);
		worker->burst.n = 1;
		worker->burst.port = i % 2; // two ports take turns
		worker->burst.mbufs[0] = mbuf;
		lb_worker_process(worker);
		verdict = worker->burst.packets[0].verdict;
		n_taken += verdict == LB_VERDICT_TAKEN;
		n_full += verdict == LB_VERDICT_HANDOVER_FULL;
		if (verdict != LB_VERDICT_TAKEN)
			rte_pktmbuf_free(mbuf);
	}
	assert_int_equal(n_taken + n_full, 4200);
	assert_true(n_full > 0 && n_taken >= 4000);
	worker = pipeline.dp.workers[0];
	while (lb_handover_take(worker, &worker->burst) != 0) {
		lb_worker_process(worker);
		for (unsigned i = 0; i < worker->burst.n; i++) {
			assert_int_equal(worker->burst.packets[i].verdict, LB_VERDICT_REPLY);
			rte_pktmbuf_free(worker->burst.mbufs[i]);
			n_taken--;
		}
	}
	assert_int_equal(n_taken, 0);
	assert_nothing_is_left();
}

// The local address may be the host's own too: what is not a session's is then left to the kernel.
static void packets_to_the_hosts_own_address_are_left_alone(void **state)
{
	struct lb_msg route = {.op = LB_OP_ROUTE_SET,
		.route = {.family = 4, .length = 32, .nexthop = LB_NEXTHOP_HOST, .prefix = addr_of(LOCAL4)}};
	struct segment check = segment_of("10.0.0.11", 8080, LOCAL4, 40000, IPPROTO_TCP, SYN | ACK);

	(void)state;
	assert_int_equal(pass(&pipeline, 0, &check, NULL), LB_VERDICT_NO_SESSION);
	assert_int_equal(pipeline_command(&pipeline, &route, NULL), 0);
	assert_int_equal(pass(&pipeline, 0, &check, NULL), LB_VERDICT_HOST);
	route.op = LB_OP_ROUTE_DEL;
	assert_int_equal(pipeline_command(&pipeline, &route, NULL), 0);
	assert_nothing_is_left();
}

static void random_damage_never_crashes(void **state)
{
	uint64_t random = 0x9e3779b97f4a7c15u;
	unsigned n_forwarded = 0;

	(void)state;
	for (unsigned round = 0; round < 60000; round++) {
		unsigned service = round % N_SERVICES;
		struct segment in = first_of(service, 1024 + round % 100,
			services[service].proto == IPPROTO_TCP ? (round % 3 ? ACK : SYN) : 0);
		struct segment reply_in = segment_of(services[service].backend, services[service].backend_port,
			services[service].local, 1024 + round % 64512, services[service].proto, ACK);
		struct frame frame = frame_of(round % 2 ? &in : &reply_in);
		uint8_t verdict;

		for (unsigned n = 0; n < round % 4; n++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			frame.bytes[12 + (random >> 8) % (frame.n - 12)] ^= (uint8_t)random;
		}
		if (round % 7 == 0)
			frame.n = (unsigned)((random >> 32) % (frame.n + 1));
		verdict = pass_frame(&pipeline, round % N_WORKERS, &frame, NULL);
		assert_true(verdict < LB_VERDICT_N);
		n_forwarded += verdict == LB_VERDICT_FORWARD;
	}
	assert_true(n_forwarded > 4000);
	assert_nothing_is_left();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_sides_are_rewritten_both_ways),
		cmocka_unit_test(udp_without_a_checksum_gets_one_in_ipv6),
		cmocka_unit_test(a_large_packet_translated_to_ipv4_is_not_to_be_fragmented),
		cmocka_unit_test(what_no_longer_fits_as_ipv6_is_dropped_by_name),
		cmocka_unit_test(what_has_no_counterpart_is_left_out),
		cmocka_unit_test(what_has_no_session_is_dropped_by_name),
		cmocka_unit_test(a_closed_session_keeps_its_port_a_little),
		cmocka_unit_test(a_client_may_use_its_port_again),
		cmocka_unit_test(an_idle_session_ends),
		cmocka_unit_test(services_may_share_an_endpoint),
		cmocka_unit_test(pools_that_meet_go_around_each_other),
		cmocka_unit_test(two_hundred_thousand_connections_three_times),
		cmocka_unit_test(exhausted_ports_are_counted_and_come_back),
		cmocka_unit_test(every_port_of_an_address_may_be_taken),
		cmocka_unit_test(a_trace_foretells_what_happens),
		cmocka_unit_test(a_trace_foretells_refusals),
		cmocka_unit_test(sessions_are_listed_one_by_one),
		cmocka_unit_test(the_region_tells_how_many_ports_there_are),
		cmocka_unit_test(a_removed_local_address_keeps_its_sessions),
		cmocka_unit_test(more_local_addresses_than_fit_over_time),
		cmocka_unit_test(sessions_of_a_backend_that_is_down_end),
		cmocka_unit_test(a_flush_ends_the_sessions_of_one_service),
		cmocka_unit_test(a_removed_backends_id_waits_for_its_sessions),
		cmocka_unit_test(sessions_outlive_a_restart),
		cmocka_unit_test(a_full_ring_is_a_named_drop),
		cmocka_unit_test(packets_to_the_hosts_own_address_are_left_alone),
		cmocka_unit_test(random_damage_never_crashes),
		cmocka_unit_test(a_full_pool_takes_nothing_from_its_neighbour),
	};

	return cmocka_run_group_tests(tests, set_up, pipeline_tear_down);
}
