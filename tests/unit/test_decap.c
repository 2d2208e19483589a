/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lb-decap's XDP program, run by the kernel on packets of the test's making (BPF_PROG_TEST_RUN): what comes out, which
 * fate was counted, and that no length that a hostile sender writes leads it astray. Skipped where BPF may not be loaded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "dataplane/lb_decap.h"
#include "dataplane/lb_decap.skel.h"
#include "lb/addr.h"

#define PASS 2u /* XDP_PASS */
#define DROP 1u

static struct lb_decap_bpf *skeleton;

struct frame {
	uint8_t bytes[2048];
	unsigned n;
};

static int no_output(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
	return 0;
}

static int set_up(void **state)
{
	static const char *const ours[] = {"10.0.0.21", "fd00::21"};
	uint8_t one = 1;

	(void)state;
	libbpf_set_print(no_output);
	skeleton = lb_decap_bpf__open();
	assert_non_null(skeleton);
	skeleton->rodata->gue_port = 7000;
	if (lb_decap_bpf__load(skeleton) < 0) {
		if (errno == EPERM || errno == EACCES || errno == ENOSYS) {
			fprintf(stderr, "SKIP: BPF programs cannot be loaded here: %s\n", strerror(errno));
			exit(77);
		}
		fail_msg("the verifier refuses the program: %s", strerror(errno));
	}
	for (unsigned i = 0; i < 2; i++) {
		struct lb_addr addr;

		assert_int_equal(lb_addr_parse(ours[i], &addr), 0);
		assert_int_equal(bpf_map_update_elem(bpf_map__fd(skeleton->maps.addresses), &addr, &one, BPF_ANY), 0);
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	lb_decap_bpf__destroy(skeleton);
	return 0;
}

static uint64_t count_of(uint32_t fate)
{
	uint64_t values[1024] = {0}, sum = 0;
	int n = libbpf_num_possible_cpus();

	assert_in_range(n, 1, 1024);
	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skeleton->maps.counters), &fate, values), 0);
	for (int i = 0; i < n; i++)
		sum += values[i];
	return sum;
}

static uint32_t run(const struct frame *in, struct frame *out)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in->bytes, .data_size_in = in->n, .data_out = out->bytes,
		.data_size_out = sizeof(out->bytes), .repeat = 1);

	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(skeleton->progs.lb_decap), &opts), 0);
	out->n = opts.data_size_out;
	return opts.retval;
}

/* The frame meets @p fate, and that is what is counted. */
static void expect(const struct frame *in, uint32_t fate, uint32_t action, struct frame *out)
{
	uint64_t before[LB_DECAP_FATE_N];

	for (uint32_t i = 0; i < LB_DECAP_FATE_N; i++)
		before[i] = count_of(i);
	assert_int_equal(run(in, out), action);
	for (uint32_t i = 0; i < LB_DECAP_FATE_N; i++)
		assert_int_equal(count_of(i) - before[i], i == fate);
}

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put_sum(uint8_t *ip)
{
	unsigned n = 4u * (ip[0] & 15);
	uint32_t sum = 0;

	put16(ip + 10, 0);
	for (unsigned i = 0; i < n; i += 2)
		sum += ip[i] * 256u + ip[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(ip + 10, ~sum & 0xffff);
}

/* An IP header of @p family in front of @p n bytes. @return its length. */
static unsigned put_ip(uint8_t *ip, unsigned family, uint8_t tos, uint8_t proto, const char *dst, unsigned n)
{
	struct lb_addr to;

	assert_int_equal(lb_addr_parse(dst, &to), 0);
	if (family == 4) {
		memcpy(ip, (uint8_t[]){0x45, tos, 0, 0, 0, 0, 0x40, 0, 64, proto, 0, 0, 192, 0, 2, 10}, 16);
		put16(ip + 2, 20 + n);
		memcpy(ip + 16, to.bytes + 12, 4);
		put_sum(ip);
		return 20;
	}
	memset(ip, 0, 40);
	put16(ip, 0x6000u | (unsigned)tos << 4);
	put16(ip + 4, n);
	ip[6] = proto;
	ip[7] = 64;
	memcpy(ip + 8, "\x20\x01\x0d\xb8", 4);
	memcpy(ip + 24, to.bytes, 16);
	return 40;
}

struct shape {
	unsigned outer, inner; /* families */
	bool gue, vlan;
	uint8_t outer_ecn, inner_ecn;
};

static unsigned l2_of(const struct shape *s)
{
	return s->vlan ? 18 : 14;
}

static unsigned outer_of(const struct shape *s)
{
	return (s->outer == 4 ? 20u : 40u) + (s->gue ? 12u : 0);
}

/* The packet inside, with @p ecn. @return its length. */
static unsigned put_inner(const struct shape *s, uint8_t *at, uint8_t ecn)
{
	unsigned n = put_ip(at, s->inner, 0xb8 | ecn, IPPROTO_UDP, s->inner == 4 ? "203.0.113.10" : "2001:db8::10", 40);

	memset(at + n, 0x5a, 40);
	return n + 40;
}

static struct frame make(const struct shape *s)
{
	struct frame frame = {.bytes = {2, 0, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 1}};
	unsigned l2 = l2_of(s), n = put_inner(s, frame.bytes + l2 + outer_of(s), s->inner_ecn);
	uint8_t proto = s->inner == 4 ? 4 : 41, *outer = frame.bytes + l2, *udp;

	if (s->vlan)
		memcpy(frame.bytes + 12, "\x81\x00\x60\x07", 4);
	put16(frame.bytes + l2 - 2, s->outer == 4 ? 0x0800 : 0x86dd);
	put_ip(outer, s->outer, s->outer_ecn, s->gue ? IPPROTO_UDP : proto, s->outer == 4 ? "10.0.0.21" : "fd00::21",
		n + (s->gue ? 12 : 0));
	if (s->gue) {
		udp = outer + outer_of(s) - 12;
		put16(udp, 50000);
		put16(udp + 2, 7000);
		put16(udp + 4, 12 + n);
		udp[9] = proto;
	}
	frame.n = l2 + outer_of(s) + n;
	return frame;
}

/* Tests. */

static void every_tunnel_is_unwrapped(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		struct shape s = {.outer = i & 1 ? 6 : 4, .inner = i & 2 ? 6 : 4, .gue = i & 4, .vlan = i & 8};
		struct frame in = make(&s), out;
		uint8_t expected[256];
		unsigned n, l2 = l2_of(&s);

		expect(&in, s.gue ? LB_DECAP_GUE : LB_DECAP_IPIP, PASS, &out);
		memcpy(expected, in.bytes, l2);
		put16(expected + l2 - 2, s.inner == 4 ? 0x0800 : 0x86dd);
		n = put_inner(&s, expected + l2, 0);
		assert_int_equal(out.n, l2 + n);
		assert_memory_equal(out.bytes, expected, out.n);
	}
}

/* RFC 6040, figure 4: rows are the inner field, columns the outer one (0, ECT(0) = 2, ECT(1) = 1, CE = 3). */
static void ecn_is_combined_as_rfc_6040_says(void **state)
{
	static const int result[4][4] = { // [inner][outer], by value
		{0, 0, 0, -1}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}};

	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		struct shape s = {.outer = i & 1 ? 6 : 4, .inner = i & 2 ? 6 : 4, .outer_ecn = i >> 2 & 3,
			.inner_ecn = (uint8_t)(i >> 4)};
		int ecn = result[s.inner_ecn][s.outer_ecn];
		struct frame in = make(&s), out;
		uint8_t expected[256];

		if (ecn < 0) {
			expect(&in, LB_DECAP_ECN_DROPPED, DROP, &out);
			continue;
		}
		expect(&in, LB_DECAP_IPIP, PASS, &out);
		put_inner(&s, expected, (uint8_t)ecn);
		assert_memory_equal(out.bytes + 14, expected, out.n - 14); // with the right header checksum
	}
}

static void assert_untouched(struct frame *in, uint32_t fate)
{
	struct frame out;

	expect(in, fate, PASS, &out);
	assert_int_equal(out.n, in->n);
	assert_memory_equal(out.bytes, in->bytes, in->n);
}

static void everything_else_passes_untouched(void **state)
{
	struct shape ip4 = {.outer = 4, .inner = 4}, ip6 = {.outer = 6, .inner = 6}, gue = {.outer = 4, .inner = 4, .gue = true};
	struct frame f;

	(void)state;
#define CASE(shape, fate, ...) f = make(&(shape)); __VA_ARGS__; assert_untouched(&f, fate)
	CASE(ip4, LB_DECAP_NOT_OURS, f.bytes[33] = 99);
	CASE(ip6, LB_DECAP_NOT_OURS, f.bytes[53] = 99);
	CASE(ip4, LB_DECAP_PASS, f.bytes[23] = IPPROTO_TCP);
	CASE(ip6, LB_DECAP_PASS, f.bytes[20] = IPPROTO_ICMPV6);
	CASE(ip4, LB_DECAP_PASS, put16(f.bytes + 12, 0x0806));
	CASE(ip4, LB_DECAP_PASS, f.bytes[14] = 0x44);
	CASE(ip4, LB_DECAP_PASS, f.bytes[14] = 0x65);
	CASE(ip4, LB_DECAP_FRAGMENT, put16(f.bytes + 20, 0x2000));
	CASE(ip4, LB_DECAP_FRAGMENT, put16(f.bytes + 20, 0x0001));
	CASE(ip4, LB_DECAP_MALFORMED, put16(f.bytes + 16, 1500));           // beyond the frame
	CASE(ip4, LB_DECAP_MALFORMED, put16(f.bytes + 16, 19));             // below its header
	CASE(ip4, LB_DECAP_MALFORMED, put16(f.bytes + 14 + 20 + 2, 61));    // inner beyond outer
	CASE(ip4, LB_DECAP_MALFORMED, put16(f.bytes + 14 + 20 + 2, 19));
	CASE(ip4, LB_DECAP_MALFORMED, f.bytes[14 + 20] = 0x65);
	CASE(ip4, LB_DECAP_MALFORMED, f.bytes[14 + 20] = 0x44);
	CASE(ip6, LB_DECAP_MALFORMED, put16(f.bytes + 14 + 40 + 4, 41));
	CASE(ip6, LB_DECAP_MALFORMED, f.bytes[14 + 40] = 0x45);
	CASE(gue, LB_DECAP_PASS, put16(f.bytes + 14 + 22, 7001));           // another port
	CASE(gue, LB_DECAP_GUE_UNKNOWN, f.bytes[14 + 28] = 0x40);           // version 1
	CASE(gue, LB_DECAP_GUE_UNKNOWN, f.bytes[14 + 28] = 0x20);           // control message
	CASE(gue, LB_DECAP_GUE_UNKNOWN, f.bytes[14 + 28] = 0x01);           // options
	CASE(gue, LB_DECAP_GUE_UNKNOWN, f.bytes[14 + 29] = 17);
	CASE(gue, LB_DECAP_GUE_UNKNOWN, f.bytes[14 + 31] = 1);              // flags
	CASE(gue, LB_DECAP_MALFORMED, put16(f.bytes + 14 + 24, 11));
	CASE(gue, LB_DECAP_MALFORMED, put16(f.bytes + 14 + 24, 73));        // UDP beyond IP
	CASE(gue, LB_DECAP_MALFORMED, put16(f.bytes + 14 + 24, 71));        // inner beyond UDP
#undef CASE
}

static void cut_off_frames_pass(void **state)
{
	struct shape shapes[] = {{.outer = 4, .inner = 6, .gue = true}, {.outer = 6, .inner = 4, .vlan = true}};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct frame in = make(&shapes[i]), out;

		for (unsigned n = in.n; in.n > 14; in.n--) {
			assert_int_equal(run(&in, &out), PASS);
			if (in.n < n)
				assert_int_equal(out.n, in.n); // not unwrapped
		}
	}
}

/* Outer IPv4 options are skipped. */
static void outer_options_are_taken_off_too(void **state)
{
	struct shape s = {.outer = 4, .inner = 4};
	struct frame in = make(&s), out;
	unsigned n = in.n - 34;

	(void)state;
	memmove(in.bytes + 14 + 60, in.bytes + 34, n);
	memset(in.bytes + 34, 1, 40);
	in.bytes[14] = 0x4f;
	in.n += 40;
	put16(in.bytes + 16, in.n - 14);
	put_sum(in.bytes + 14);
	expect(&in, LB_DECAP_IPIP, PASS, &out);
	assert_int_equal(out.n, 14 + n);
	assert_memory_equal(out.bytes + 14, in.bytes + 14 + 60, n);
}

static void random_damage_is_survived(void **state)
{
	uint64_t random = 0x9e3779b97f4a7c15u;

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		struct shape s = {.outer = round & 1 ? 6 : 4, .inner = round & 2 ? 6 : 4, .gue = round & 4, .vlan = round & 8};
		struct frame in = make(&s), out;
		uint32_t action;

		for (unsigned i = 0; i < 1 + round % 4; i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			in.bytes[12 + (random >> 8) % (in.n - 12)] ^= (uint8_t)random;
		}
		action = run(&in, &out);
		assert_true(action == PASS || action == DROP);
		assert_true(out.n <= in.n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_tunnel_is_unwrapped),
		cmocka_unit_test(ecn_is_combined_as_rfc_6040_says),
		cmocka_unit_test(everything_else_passes_untouched),
		cmocka_unit_test(cut_off_frames_pass),
		cmocka_unit_test(outer_options_are_taken_off_too),
		cmocka_unit_test(random_damage_is_survived),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
