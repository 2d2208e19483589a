/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dsr, ipip and gue through the real stages. Whole frames against vectors that scapy made, and every header field of
 * every combination of families against the test's own reading of the RFCs, with checksums summed up in full.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

#include <netinet/in.h>

#include "dataplane/encap.h"
#include "tests/pipeline/pipeline.h"

#define N_SLOTS 13u
#define LOCAL4 "192.0.2.10"
#define LOCAL6 "2001:db8:f::10"
#define GUE_PORT 6080u

/* Service and backend i; each tunnel once per pair of families. */
static const struct {
	enum lb_mode mode;
	const char *vip, *backend;
	uint8_t proto;
	uint16_t port;
} services[] = {
	{LB_MODE_IPIP, "203.0.113.10", "10.0.0.21", IPPROTO_TCP, 80},
	{LB_MODE_IPIP, "2001:db8::10", "10.0.0.22", IPPROTO_TCP, 80},
	{LB_MODE_IPIP, "203.0.113.11", "fd00::21", IPPROTO_TCP, 80},
	{LB_MODE_IPIP, "2001:db8::11", "fd00::22", IPPROTO_TCP, 80},
	{LB_MODE_GUE, "203.0.113.12", "10.0.0.23", IPPROTO_TCP, 80},
	{LB_MODE_GUE, "2001:db8::12", "10.0.0.24", IPPROTO_TCP, 80},
	{LB_MODE_GUE, "203.0.113.13", "fd00::23", IPPROTO_TCP, 80},
	{LB_MODE_GUE, "2001:db8::13", "fd00::24", IPPROTO_TCP, 80},
	{LB_MODE_GUE, "203.0.113.12", "10.0.0.23", IPPROTO_UDP, 53},
	{LB_MODE_GUE, "2001:db8::12", "10.0.0.24", IPPROTO_UDP, 53},
	{LB_MODE_GUE, "203.0.113.13", "fd00::23", IPPROTO_UDP, 53},
	{LB_MODE_GUE, "2001:db8::13", "fd00::24", IPPROTO_UDP, 53},
	{LB_MODE_DSR, "203.0.113.14", "10.0.0.25", IPPROTO_TCP, 80},
	{LB_MODE_DSR, "2001:db8::14", "fd00::25", IPPROTO_TCP, 80},
	{LB_MODE_FULLNAT, "203.0.113.15", "10.0.0.26", IPPROTO_TCP, 80},
};
#define N_SERVICES (sizeof(services) / sizeof(services[0]))
enum { IPIP_4IN4 = 0, GUE_4IN4 = 4, GUE_FIRST = 4, GUE_4IN6 = 6, GUE_UDP_4IN6 = 10, GUE_UDP_6IN6 = 11, DSR4 = 12,
	DSR6 = 13, FULLNAT = 14 };

static struct pipeline pipeline;

struct frame {
	uint8_t bytes[2048];
	unsigned n;
};

static void sync_everything(const char *const *locals, uint16_t n_locals)
{
	uint16_t slots[N_SLOTS];

	pipeline_sync_begin(&pipeline);
	if (n_locals != 0)
		pipeline_locals(&pipeline, locals, n_locals);
	for (uint16_t i = 0; i < N_SERVICES; i++) {
		pipeline_service_of_mode(&pipeline, i, services[i].vip, services[i].port, services[i].proto,
			services[i].mode);
		pipeline_backend(&pipeline, i, i, services[i].backend, services[i].port, LB_BACKEND_UP);
		for (unsigned k = 0; k < N_SLOTS; k++)
			slots[k] = i;
		assert_int_equal(pipeline_publish(&pipeline, i, slots, N_SLOTS), 0);
	}
	pipeline_sync_end(&pipeline);
}

static int set_up(void **state)
{
	pipeline_start_eal_alone(512);
	pipeline_start(&pipeline, 1, 4096, 1023);
	sync_everything((const char *const[]){LOCAL6, LOCAL4}, 2);
	*state = &pipeline;
	return 0;
}

/* Frames. */

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static unsigned get16(const uint8_t *at)
{
	return at[0] * 256u + at[1];
}

// RFC 1071 as written there, over bytes of any number.
static uint32_t add_up(uint32_t sum, const uint8_t *bytes, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		sum += i % 2 == 0 ? bytes[i] * 256u : bytes[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

// Sum of an IP packet's upper layer with its pseudo header: 0xffff if its checksum is right.
static uint32_t l4_sum(const uint8_t *ip, unsigned l4, unsigned n_l4, uint8_t proto)
{
	bool ipv4 = ip[0] >> 4 == 4;
	uint32_t sum = add_up(0, ip + (ipv4 ? 12 : 8), ipv4 ? 8 : 32);

	return add_up(sum + proto + n_l4, ip + l4, n_l4);
}

static struct frame make_to(const char *vip, uint8_t proto, uint16_t port, unsigned sport, unsigned n_payload)
{
	struct frame frame = {.bytes = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xc1}};
	unsigned n_l4 = (proto == IPPROTO_TCP ? 20u : 8u) + n_payload;
	uint8_t *ip = frame.bytes + 14, *l4;
	struct lb_addr from, to;
	bool ipv4;

	assert_int_equal(lb_addr_parse(vip, &to), 0);
	ipv4 = lb_addr_is_ipv4(&to);
	assert_int_equal(lb_addr_parse(ipv4 ? "198.51.100.7" : "2001:db8:c::7", &from), 0);
	put16(frame.bytes + 12, ipv4 ? 0x0800 : 0x86dd);
	l4 = ip + (ipv4 ? 20 : 40);
	if (ipv4) {
		memcpy(ip, (uint8_t[]){0x45, 0xb9, 0, 0, 0x12, 0x34, 0x40, 0, 61, proto}, 10);
		put16(ip + 2, 20 + n_l4);
		memcpy(ip + 12, from.bytes + 12, 4);
		memcpy(ip + 16, to.bytes + 12, 4);
		put16(ip + 10, ~add_up(0, ip, 20) & 0xffff);
	} else {
		memcpy(ip, (uint8_t[]){0x6b, 0x91, 0x23, 0x45, 0, 0, proto, 9}, 8);
		put16(ip + 4, n_l4);
		memcpy(ip + 8, from.bytes, 16);
		memcpy(ip + 24, to.bytes, 16);
	}
	put16(l4, sport);
	put16(l4 + 2, port);
	if (proto == IPPROTO_TCP)
		memcpy(l4 + 12, "\x50\x18", 2);
	else
		put16(l4 + 4, n_l4);
	for (unsigned i = 0; i < n_payload; i++)
		l4[n_l4 - n_payload + i] = (uint8_t)(i * 7 + sport);
	put16(l4 + (proto == IPPROTO_TCP ? 16 : 6), ~l4_sum(ip, (unsigned)(l4 - ip), n_l4, proto) & 0xffff);
	frame.n = (unsigned)(l4 + n_l4 - frame.bytes);
	return frame;
}

static struct frame make(unsigned service, unsigned sport, unsigned n_payload)
{
	return make_to(services[service].vip, services[service].proto, services[service].port, sport, n_payload);
}

static struct lb_burst *burst(void)
{
	return &pipeline.worker->burst;
}

static uint8_t process(struct rte_mbuf *mbuf, struct frame *out)
{
	uint8_t verdict;

	burst()->n = 1;
	burst()->port = 0;
	burst()->mbufs[0] = mbuf;
	lb_worker_process(pipeline.worker);
	verdict = burst()->packets[0].verdict;
	if (verdict == LB_VERDICT_FORWARD)
		assert_int_equal(burst()->packets[0].wire_bytes, mbuf->pkt_len);
	if (out != NULL) {
		const void *bytes = rte_pktmbuf_read(mbuf, 0, mbuf->pkt_len, out->bytes);

		out->n = mbuf->pkt_len;
		if (bytes != out->bytes)
			memcpy(out->bytes, bytes, out->n);
	}
	pipeline_free_burst(&pipeline);
	return verdict;
}

static struct rte_mbuf *mbuf_of(const struct frame *frame)
{
	return pipeline_mbuf(&pipeline, frame->bytes, frame->n);
}

static uint8_t send_one(const struct frame *frame, struct frame *out)
{
	return process(mbuf_of(frame), out);
}

/* Vectors. */

static const struct {
	const char *name, *in, *out;
} vectors[] = {
	{"4in4",
		"0200000000010200000000c1080045b90035123440003d06c490c6336407cb00710a9c4000500000"
		"0001000000025018200096a5000068656c6c6f2066756c6372756d",
		"0200000000b1020000000101080045b900490000400040046dd9c000020a0a00001545b900351234"
		"40003c06c590c6336407cb00710a9c40005000000001000000025018200096a5000068656c6c6f20"
		"66756c6372756d"},
	{"6in4",
		"0200000000010200000000c186dd62a123450021060920010db8000c000000000000000000072001"
		"0db80000000000000000000000109c400050000000010000000250182000a156000068656c6c6f20"
		"66756c6372756d",
		"0200000000b10200000001010800452a005d0000400040296e2ec000020a0a00001662a123450021"
		"060820010db8000c0000000000000000000720010db80000000000000000000000109c4000500000"
		"00010000000250182000a156000068656c6c6f2066756c6372756d"},
	{"4in6",
		"0200000000010200000000c1080045b90035123440003d06c48fc6336407cb00710b9c4000500000"
		"0001000000025018200096a4000068656c6c6f2066756c6372756d",
		"0200000000b102000000010186dd6b9000000035044020010db8000f00000000000000000010fd00"
		"000000000000000000000000002145b90035123440003c06c58fc6336407cb00710b9c4000500000"
		"0001000000025018200096a4000068656c6c6f2066756c6372756d"},
	{"6in6",
		"0200000000010200000000c186dd62a123450021060920010db8000c000000000000000000072001"
		"0db80000000000000000000000119c400050000000010000000250182000a155000068656c6c6f20"
		"66756c6372756d",
		"0200000000b102000000010186dd62a000000049294020010db8000f00000000000000000010fd00"
		"000000000000000000000000002262a123450021060820010db8000c000000000000000000072001"
		"0db80000000000000000000000119c400050000000010000000250182000a155000068656c6c6f20"
		"66756c6372756d"},
	{"dsr4",
		"0200000000010200000000c1080045b90035123440003d06c48cc6336407cb00710e9c4000500000"
		"0001000000025018200096a1000068656c6c6f2066756c6372756d",
		"0200000000b1020000000101080045b90035123440003c06c58cc6336407cb00710e9c4000500000"
		"0001000000025018200096a1000068656c6c6f2066756c6372756d"},
	{"dsr6",
		"0200000000010200000000c186dd62a123450021060920010db8000c000000000000000000072001"
		"0db80000000000000000000000149c400050000000010000000250182000a152000068656c6c6f20"
		"66756c6372756d",
		"0200000000b102000000010186dd62a123450021060820010db8000c000000000000000000072001"
		"0db80000000000000000000000149c400050000000010000000250182000a152000068656c6c6f20"
		"66756c6372756d"},
};

static struct frame from_hex(const char *hex)
{
	struct frame frame = {.n = (unsigned)strlen(hex) / 2};

	for (unsigned i = 0; i < frame.n; i++) {
		unsigned byte;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		frame.bytes[i] = (uint8_t)byte;
	}
	return frame;
}

static void frames_are_those_of_scapy(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		struct frame in = from_hex(vectors[i].in), expected = from_hex(vectors[i].out), out;

		print_message("%s\n", vectors[i].name);
		assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
		assert_int_equal(out.n, expected.n);
		if (strstr(vectors[i].name, "in6") != NULL) { // the flow label is the hash's
			out.bytes[15] &= 0xf0;
			memset(out.bytes + 16, 0, 2);
		}
		assert_memory_equal(out.bytes, expected.bytes, out.n);
	}
}

/* Every field. */

// The packet as it should arrive inside: one hop later.
static void check_inner(const uint8_t *got, const struct frame *sent, unsigned n)
{
	struct frame expected = *sent;
	uint8_t *ip = expected.bytes + 14;

	if (ip[0] >> 4 == 4) {
		ip[8]--;
		memset(ip + 10, 0, 2);
		put16(ip + 10, ~add_up(0, ip, 4u * (ip[0] & 15)) & 0xffff);
	} else {
		ip[7]--;
	}
	assert_memory_equal(got, ip, n);
}

static uint8_t tos_of(const uint8_t *ip)
{
	return ip[0] >> 4 == 4 ? ip[1] : (uint8_t)(ip[0] << 4 | ip[1] >> 4);
}

static void assert_addr(const uint8_t *got, const char *text, bool ipv4)
{
	struct lb_addr addr;

	assert_int_equal(lb_addr_parse(text, &addr), 0);
	assert_memory_equal(got, addr.bytes + (ipv4 ? 12 : 0), ipv4 ? 4 : 16);
}

// @return the outer UDP source port (gue) or the flow label's low bits.
static unsigned check_tunnel(unsigned service, const struct frame *in, const struct frame *out, unsigned n_inner)
{
	bool outer4 = strchr(services[service].backend, '.') != NULL, gue = services[service].mode == LB_MODE_GUE;
	uint8_t inner_proto = in->bytes[14] >> 4 == 4 ? 4 : 41;
	unsigned n_ip = outer4 ? 20 : 40, n_outer = n_ip + (gue ? 12 : 0);
	const uint8_t *ip = out->bytes + 14, *l4 = ip + n_ip;
	uint8_t proto;

	assert_memory_equal(out->bytes, "\x02\x00\x00\x00\x00\xb1\x02\x00\x00\x00\x01\x01", 12);
	assert_int_equal(get16(out->bytes + 12), outer4 ? 0x0800 : 0x86dd);
	assert_int_equal(out->n, 14 + n_outer + n_inner);
	assert_int_equal(tos_of(ip), tos_of(in->bytes + 14));
	if (outer4) {
		assert_int_equal(ip[0], 0x45);
		assert_int_equal(get16(ip + 2), n_outer + n_inner);
		assert_int_equal(get16(ip + 4), 0);
		assert_int_equal(get16(ip + 6), 0x4000); // DF
		assert_int_equal(ip[8], 64);
		assert_int_equal(add_up(0, ip, 20), 0xffff);
		proto = ip[9];
	} else {
		assert_int_equal(ip[0] >> 4, 6);
		assert_int_equal(get16(ip + 4), n_outer - 40 + n_inner);
		assert_int_equal(ip[7], 64);
		proto = ip[6];
	}
	assert_addr(ip + (outer4 ? 12 : 8), outer4 ? LOCAL4 : LOCAL6, outer4);
	assert_addr(ip + (outer4 ? 16 : 24), services[service].backend, outer4);
	assert_int_equal(proto, gue ? IPPROTO_UDP : inner_proto);
	check_inner(ip + n_outer, in, n_inner);
	if (!gue)
		return outer4 ? 0 : get16(ip + 2);
	assert_true(get16(l4) >= 49152);
	assert_int_equal(get16(l4 + 2), GUE_PORT);
	assert_int_equal(get16(l4 + 4), 12 + n_inner);
	if (outer4) {
		assert_int_equal(get16(l4 + 6), 0);
	} else {
		assert_int_not_equal(get16(l4 + 6), 0);
		assert_int_equal(l4_sum(ip, 40, 12 + n_inner, IPPROTO_UDP), 0xffff);
	}
	assert_memory_equal(l4 + 8, ((uint8_t[]){0, inner_proto, 0, 0}), 4);
	return get16(l4);
}

static void every_header_of_every_tunnel_is_right(void **state)
{
	struct frame in, out;

	(void)state;
	for (unsigned service = 0; service < DSR4; service++)
		for (unsigned n = 0; n < 1400; n += 61) {
			in = make(service, 1024 + n, n);
			assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
			check_tunnel(service, &in, &out, in.n - 14);
		}
}

static void entropy_is_the_flows_own(void **state)
{
	static const unsigned tunnels[] = {2, 3, 4, 5, 6, 7}; // all but ipip over IPv4, which has no room for it

	(void)state;
	for (unsigned i = 0; i < sizeof(tunnels) / sizeof(tunnels[0]); i++) {
		unsigned n_different = 0, first = 0;

		for (unsigned flow = 0; flow < 16; flow++) {
			struct frame a = make(tunnels[i], 2000 + flow, 10), b = make(tunnels[i], 2000 + flow, 99);
			struct frame out_a, out_b;
			unsigned value;

			send_one(&a, &out_a);
			send_one(&b, &out_b);
			value = check_tunnel(tunnels[i], &a, &out_a, a.n - 14);
			assert_int_equal(value, check_tunnel(tunnels[i], &b, &out_b, b.n - 14));
			if (flow == 0)
				first = value;
			n_different += value != first;
		}
		assert_true(n_different >= 12);
	}
}

static void padding_is_not_carried(void **state)
{
	struct frame in = make(GUE_4IN4, 3000, 0), out;
	unsigned n = in.n - 14;

	(void)state;
	in.n = 60;
	memset(in.bytes + 14 + n, 0xee, 60 - 14 - n);
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	check_tunnel(GUE_4IN4, &in, &out, n);
}

static void vlan_tag_stays_in_front(void **state)
{
	(void)state;
	for (unsigned service = 0; service < DSR4; service++) {
		struct frame plain = make(service, 3100, 20), in = plain, out;

		memcpy(in.bytes + 12, "\x81\x00\x60\x2a", 4);
		memcpy(in.bytes + 16, plain.bytes + 12, plain.n - 12);
		in.n = plain.n + 4;
		assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
		assert_memory_equal(out.bytes + 12, "\x81\x00\x60\x2a", 4);
		memmove(out.bytes + 12, out.bytes + 16, out.n - 16);
		out.n -= 4;
		check_tunnel(service, &plain, &out, plain.n - 14);
	}
}

// Where the inner checksum cannot stand for the packet, the outer one is right all the same.
static void udp6_checksum_of_odd_packets(void **state)
{
	struct frame in = make(GUE_UDP_4IN6, 3200, 33), out;
	uint8_t *ip = in.bytes + 14;

	(void)state;
	put16(ip + 20 + 6, 0); // no UDP checksum
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	check_tunnel(GUE_UDP_4IN6, &in, &out, in.n - 14);

	in = make(GUE_UDP_4IN6, 3200, 33);
	put16(ip + 20 + 4, 30); // UDP that ends before its IP packet does
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	check_tunnel(GUE_UDP_4IN6, &in, &out, in.n - 14);

	in = make(GUE_UDP_6IN6, 3200, 33); // a destination options header, of padding
	memmove(ip + 48, ip + 40, in.n - 14 - 40);
	memcpy(ip + 40, (uint8_t[]){IPPROTO_UDP, 0, 1, 4, 0, 0, 0, 0}, 8);
	ip[6] = IPPROTO_DSTOPTS;
	in.n += 8;
	put16(ip + 4, in.n - 54);
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	check_tunnel(GUE_UDP_6IN6, &in, &out, in.n - 14);

	in = make(GUE_4IN6, 3200, 33); // IPv4 options
	memmove(ip + 24, ip + 20, in.n - 14 - 20);
	memset(ip + 20, 1, 4);
	ip[0] = 0x46;
	in.n += 4;
	put16(ip + 2, in.n - 14);
	put16(ip + 10, 0);
	put16(ip + 10, ~add_up(0, ip, 24) & 0xffff);
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	check_tunnel(GUE_4IN6, &in, &out, in.n - 14);
}

// A wrong inner checksum does not become right by our doing: the outer one is wrong too.
static void wrong_inner_checksum_is_not_covered_up(void **state)
{
	struct frame in = make(GUE_4IN6, 3300, 50), out;

	(void)state;
	in.bytes[14 + 20 + 20 + 5] ^= 0x40;
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	check_inner(out.bytes + 14 + 52, &in, in.n - 14);
	assert_int_not_equal(l4_sum(out.bytes + 14, 40, 12 + in.n - 14, IPPROTO_UDP), 0xffff);
}

static void a_packet_in_two_segments_is_carried(void **state)
{
	struct frame in = make(GUE_4IN6, 3400, 900), out;
	struct frame front = in, rest = {.n = in.n - 100};
	struct rte_mbuf *head, *tail;

	(void)state;
	front.n = 100;
	memcpy(rest.bytes, in.bytes + 100, rest.n);
	head = mbuf_of(&front);
	tail = mbuf_of(&rest);
	assert_int_equal(rte_pktmbuf_chain(head, tail), 0);
	assert_int_equal(process(head, &out), LB_VERDICT_FORWARD);
	check_tunnel(GUE_4IN6, &in, &out, in.n - 14);
}

/* What cannot be sent. */

static void too_big_is_told_with_what_would_fit(void **state)
{
	(void)state;
	for (unsigned service = 0; service <= DSR6; service++) {
		bool outer4 = strchr(services[service].backend, '.') != NULL;
		unsigned n_outer = services[service].mode == LB_MODE_DSR ? 0 :
			(outer4 ? 20 : 40) + (services[service].mode == LB_MODE_GUE ? 12u : 0);
		unsigned n_headers = make(service, 3500, 0).n - 14;
		struct frame in = make(service, 3500, 1500 - n_outer - n_headers), out;
		unsigned n_answer = in.bytes[12] == 0x08 ? 28 : 48; // its headers

		assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
		assert_int_equal(out.n, 1514);
		in = make(service, 3500, 1500 - n_outer - n_headers + 1);
		assert_int_equal(send_one(&in, &out), LB_VERDICT_TOO_BIG);
		assert_int_equal(burst()->mtus[0], 1500 - n_outer);
		assert_int_equal(burst()->answered, 1);
		assert_int_equal(out.n, 14 + (n_answer == 28 ? 576 : 1280));
		assert_memory_equal(out.bytes + 14 + n_answer, in.bytes + 14, out.n - 14 - n_answer);
		assert_int_equal(out.bytes[14 + n_answer - 2] * 256 + out.bytes[14 + n_answer - 1], 1500 - n_outer);
	}
}

static void a_port_with_no_room_for_the_header_at_all(void **state)
{
	struct frame in = make(GUE_4IN6, 3600, 0);

	(void)state;
	lb_worker_set_mtu(pipeline.worker, 1, 40);
	assert_int_equal(send_one(&in, NULL), LB_VERDICT_TOO_BIG);
	assert_int_equal(burst()->mtus[0], 0);
	lb_worker_set_mtu(pipeline.worker, 1, 1500);
}

static void without_headroom_nothing_is_written(void **state)
{
	struct frame in = make(GUE_4IN6, 3700, 30), out;

	(void)state;
	for (unsigned headroom = 0; headroom < LB_ENCAP_MAX_BYTES; headroom += 17) {
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pipeline.pool);

		mbuf->data_off = (uint16_t)headroom;
		memcpy(rte_pktmbuf_append(mbuf, (uint16_t)in.n), in.bytes, in.n);
		assert_int_equal(process(mbuf, &out), LB_VERDICT_NO_HEADROOM);
		assert_memory_equal(out.bytes, in.bytes, in.n);
	}
}

static void shared_buffers_are_not_written_to(void **state)
{
	struct frame in = make(IPIP_4IN4, 3800, 30), out;
	struct rte_mbuf *original = mbuf_of(&in), *clone = rte_pktmbuf_clone(original, pipeline.pool);

	(void)state;
	assert_non_null(clone);
	assert_int_equal(process(clone, NULL), LB_VERDICT_NO_HEADROOM);
	rte_mbuf_refcnt_update(original, 1);
	assert_int_equal(process(original, &out), LB_VERDICT_NO_HEADROOM);
	assert_memory_equal(out.bytes, in.bytes, in.n);
	assert_int_equal(process(original, NULL), LB_VERDICT_FORWARD); // ours alone again
}

static void an_expiring_packet_goes_nowhere(void **state)
{
	struct frame in = make(IPIP_4IN4, 3950, 0);

	(void)state;
	in.bytes[14 + 8] = 1;
	put16(in.bytes + 24, 0);
	put16(in.bytes + 24, ~add_up(0, in.bytes + 14, 20) & 0xffff);
	assert_int_equal(send_one(&in, NULL), LB_VERDICT_TTL_EXPIRED);
}

static void replies_of_direct_backends_are_the_hosts(void **state)
{
	struct frame in = make(IPIP_4IN4, 3960, 0);
	uint8_t vip[4];

	(void)state;
	// From the backend's endpoint: with nat it would be a reply.
	memcpy(vip, in.bytes + 30, 4);
	memcpy(in.bytes + 26, (uint8_t[]){10, 0, 0, 21}, 4);
	memcpy(in.bytes + 30, (uint8_t[]){198, 51, 100, 7}, 4);
	put16(in.bytes + 34, 80);
	put16(in.bytes + 24, 0);
	put16(in.bytes + 24, ~add_up(0, in.bytes + 14, 20) & 0xffff);
	assert_int_equal(send_one(&in, NULL), LB_VERDICT_HOST);
}

/* Changes while it runs. */

static void headers_follow_the_local_addresses(void **state)
{
	struct frame in = make(GUE_4IN6, 4000, 10), out;
	const struct lb_encap *before = pipeline.dp.encaps;

	(void)state;
	pipeline_locals(&pipeline, (const char *const[]){"192.0.2.99", "2001:db8:f::99", LOCAL6}, 3);
	assert_ptr_not_equal(pipeline.dp.encaps, before); // readers of the old ones had time to finish
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	assert_addr(out.bytes + 14 + 8, "2001:db8:f::99", false);
	assert_int_equal(l4_sum(out.bytes + 14, 40, 12 + in.n - 14, IPPROTO_UDP), 0xffff);
	pipeline_locals(&pipeline, (const char *const[]){LOCAL4}, 1);
	assert_int_equal(send_one(&in, NULL), LB_VERDICT_NO_LOCAL_ADDRESS);
	before = pipeline.dp.encaps;
	pipeline_locals(&pipeline, (const char *const[]){LOCAL4}, 1);
	assert_ptr_equal(pipeline.dp.encaps, before); // nothing new
	pipeline_locals(&pipeline, (const char *const[]){LOCAL6, LOCAL4}, 2);
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	check_tunnel(GUE_4IN6, &in, &out, in.n - 14);
}

static void headers_follow_the_gue_port(void **state)
{
	struct lb_msg msg = {.op = LB_OP_SERVICE_SET,
		.service = {.id = GUE_4IN6, .idle_timeout_ms = 60000, .mode = LB_MODE_GUE,
			.key = pipeline.dp.services[GUE_4IN6].key}};
	struct frame in = make(GUE_4IN6, 4100, 10), out;

	(void)state;
	msg.service.gue_port_be = htons(9999);
	assert_int_equal(pipeline_command(&pipeline, &msg, NULL), 0);
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(get16(out.bytes + 14 + 42), 9999);
	assert_int_equal(l4_sum(out.bytes + 14, 40, 12 + in.n - 14, IPPROTO_UDP), 0xffff);
	msg.service.gue_port_be = htons(GUE_PORT);
	assert_int_equal(pipeline_command(&pipeline, &msg, NULL), 0);
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	check_tunnel(GUE_4IN6, &in, &out, in.n - 14);
}

// RFC 1122, 3.2.2: no error goes to many, even if what is said to have been ours came from there.
static void errors_about_tunnels_are_told_to_hosts_only(void **state)
{
	static const struct {
		uint8_t src[4];
		uint8_t verdict;
	} cases[] = {
		{{198, 51, 100, 7}, LB_VERDICT_TUNNEL_TOO_BIG},
		{{224, 0, 0, 5}, LB_VERDICT_TUNNEL_QUOTE},
		{{255, 255, 255, 255}, LB_VERDICT_TUNNEL_QUOTE},
		{{127, 0, 0, 1}, LB_VERDICT_TUNNEL_QUOTE},
		{{0, 0, 0, 0}, LB_VERDICT_TUNNEL_QUOTE},
		{{203, 0, 113, 10}, LB_VERDICT_TUNNEL_QUOTE}, // the VIP itself
	};
	struct frame in = make(IPIP_4IN4, 2000, 10), sent;
	struct lb_addr local;

	(void)state;
	assert_int_equal(send_one(&in, &sent), LB_VERDICT_FORWARD);
	assert_int_equal(lb_addr_parse(LOCAL4, &local), 0);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct frame error = {.bytes = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xb1, 8, 0, 0x45}, .n = 14 + 28 + 48};
		uint8_t *ip = error.bytes + 14;

		put16(ip + 2, 28 + 48);
		ip[8] = 64;
		ip[9] = IPPROTO_ICMP;
		memcpy(ip + 12, (uint8_t[]){10, 0, 0, 254}, 4);
		memcpy(ip + 16, local.bytes + 12, 4);
		put16(ip + 10, ~add_up(0, ip, 20) & 0xffff);
		memcpy(ip + 20, (uint8_t[]){3, 4, 0, 0, 0, 0}, 6);
		put16(ip + 26, 1400);
		memcpy(ip + 28, sent.bytes + 14, 48);
		memcpy(ip + 28 + 20 + 12, cases[i].src, 4);
		put16(ip + 22, ~add_up(0, ip + 20, 8 + 48) & 0xffff);
		assert_int_equal(send_one(&error, NULL), cases[i].verdict);
		assert_int_equal(burst()->answered != 0, cases[i].verdict == LB_VERDICT_TUNNEL_TOO_BIG);
	}
}

static void trace_says_what_would_happen(void **state)
{
	struct lb_msg msg = {.op = LB_OP_TRACE, .trace = {.sport_be = htons(4200), .dport_be = htons(80),
						.proto = IPPROTO_TCP, .syn = 1}};
	static const uint8_t verdicts[] = {LB_VERDICT_FORWARD, LB_VERDICT_NO_LOCAL_ADDRESS};
	struct lb_msg reply;

	(void)state;
	assert_int_equal(lb_addr_parse("198.51.100.7", &msg.trace.src), 0);
	msg.trace.dst = pipeline.dp.services[GUE_4IN6].key.addr;
	for (unsigned i = 0; i < 2; i++) {
		if (i == 1)
			pipeline_locals(&pipeline, (const char *const[]){LOCAL4}, 1);
		assert_int_equal(pipeline_command(&pipeline, &msg, &reply), 0);
		assert_int_equal(reply.reply.trace.backend, GUE_4IN6);
		assert_int_equal(reply.reply.trace.verdict, verdicts[i]);
	}
	pipeline_locals(&pipeline, (const char *const[]){LOCAL6, LOCAL4}, 2);
	msg.trace.dst = pipeline.dp.services[FULLNAT].key.addr;
	assert_int_equal(pipeline_command(&pipeline, &msg, &reply), 0);
	assert_int_equal(reply.reply.trace.verdict, LB_VERDICT_FORWARD);
	pipeline_locals(&pipeline, (const char *const[]){LOCAL6}, 1);
	assert_int_equal(pipeline_command(&pipeline, &msg, &reply), 0);
	assert_int_equal(reply.reply.trace.verdict, LB_VERDICT_NO_LOCAL_ADDRESS);
	pipeline_locals(&pipeline, (const char *const[]){LOCAL6, LOCAL4}, 2);
}

// What nobody honest sends, in every mode: no crash, no byte read or written beyond its packet, none leaked.
static void random_damage_never_crashes(void **state)
{
	uint64_t random = 0x9e3779b97f4a7c15u;
	unsigned n_forwarded = 0;

	(void)state;
	for (unsigned round = 0; round < 60000; round++) {
		struct frame in = make(round % DSR6, 5000 + round % 99, round % 700);

		for (unsigned n = 0; n < round % 4; n++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			in.bytes[12 + (random >> 8) % (in.n - 12)] ^= (uint8_t)random;
		}
		if (round % 9 == 0)
			in.n = (unsigned)((random >> 32) % (in.n + 1));
		n_forwarded += send_one(&in, NULL) == LB_VERDICT_FORWARD;
	}
	assert_true(n_forwarded > 15000);
	assert_int_equal(rte_mempool_in_use_count(pipeline.pool), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_those_of_scapy),
		cmocka_unit_test(every_header_of_every_tunnel_is_right),
		cmocka_unit_test(entropy_is_the_flows_own),
		cmocka_unit_test(padding_is_not_carried),
		cmocka_unit_test(vlan_tag_stays_in_front),
		cmocka_unit_test(udp6_checksum_of_odd_packets),
		cmocka_unit_test(wrong_inner_checksum_is_not_covered_up),
		cmocka_unit_test(a_packet_in_two_segments_is_carried),
		cmocka_unit_test(too_big_is_told_with_what_would_fit),
		cmocka_unit_test(a_port_with_no_room_for_the_header_at_all),
		cmocka_unit_test(without_headroom_nothing_is_written),
		cmocka_unit_test(shared_buffers_are_not_written_to),
		cmocka_unit_test(an_expiring_packet_goes_nowhere),
		cmocka_unit_test(replies_of_direct_backends_are_the_hosts),
		cmocka_unit_test(headers_follow_the_local_addresses),
		cmocka_unit_test(headers_follow_the_gue_port),
		cmocka_unit_test(errors_about_tunnels_are_told_to_hosts_only),
		cmocka_unit_test(trace_says_what_would_happen),
		cmocka_unit_test(random_damage_never_crashes),
	};

	return cmocka_run_group_tests(tests, set_up, pipeline_tear_down);
}
