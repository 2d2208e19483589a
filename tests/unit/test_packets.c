/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets through the real stages: what is forwarded comes out right to the last bit of its checksums, what
 * is not is dropped under its own reason, and nothing that a hostile sender can write crashes a worker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "dataplane/history.h"
#include "dataplane/stages.h"
#include "tests/pipeline/pipeline.h"

/*
 * client 198.51.100.7 / 2001:db8:c::7
 *   service 0: 203.0.113.10:80/tcp        -> backend 0: 10.0.0.11:8080
 *   service 1: 203.0.113.10:53/udp        -> backend 1: 10.0.0.12:53
 *   service 2: [2001:db8::10]:80/tcp      -> backend 2: [fd00::11]:8080
 *   service 3: 203.0.113.20:all/tcp       -> backend 3: 10.0.0.13:all
 *   service 4: 203.0.113.30:80/tcp        no table
 *   service 5: [2001:db8::10]:53/udp      -> backend 5: [fd00::12]:5353
 */
#define N_SLOTS 13u

static struct pipeline pipeline;

struct frame {
	uint8_t bytes[2048];
	unsigned n;
};

static void publish_one(uint16_t service, uint16_t backend)
{
	uint16_t slots[N_SLOTS];

	for (unsigned i = 0; i < N_SLOTS; i++)
		slots[i] = backend;
	assert_int_equal(pipeline_publish(&pipeline, service, slots, N_SLOTS), 0);
}

static int set_up(void **state)
{
	pipeline_start_eal_alone(512);
	pipeline_start(&pipeline, 1, 4096, 1023);
	pipeline_sync_begin(&pipeline);
	pipeline_service(&pipeline, 0, "203.0.113.10", 80, IPPROTO_TCP);
	pipeline_service(&pipeline, 1, "203.0.113.10", 53, IPPROTO_UDP);
	pipeline_service(&pipeline, 2, "2001:db8::10", 80, IPPROTO_TCP);
	pipeline_service(&pipeline, 3, "203.0.113.20", 0, IPPROTO_TCP);
	pipeline_service(&pipeline, 4, "203.0.113.30", 80, IPPROTO_TCP);
	pipeline_service(&pipeline, 5, "2001:db8::10", 53, IPPROTO_UDP);
	pipeline_backend(&pipeline, 0, 0, "10.0.0.11", 8080, LB_BACKEND_UP);
	pipeline_backend(&pipeline, 1, 1, "10.0.0.12", 53, LB_BACKEND_UP);
	pipeline_backend(&pipeline, 2, 2, "fd00::11", 8080, LB_BACKEND_UP);
	pipeline_backend(&pipeline, 3, 3, "10.0.0.13", 0, LB_BACKEND_UP);
	pipeline_backend(&pipeline, 5, 5, "fd00::12", 5353, LB_BACKEND_UP);
	for (uint16_t i = 0; i < 6; i++)
		if (i != 4)
			publish_one(i, i);
	pipeline_sync_end(&pipeline);
	*state = &pipeline;
	return 0;
}

static void finish_checksums(struct frame *frame)
{
	bool ipv4 = frame->bytes[12] == 0x08;
	void *ip = frame->bytes + 14;
	uint8_t *l4 = frame->bytes + 14 + (ipv4 ? 20 : 40);
	uint8_t proto = ipv4 ? frame->bytes[23] : frame->bytes[20];
	unsigned at = proto == IPPROTO_TCP ? 16 : 6;
	uint16_t sum;

	memset(l4 + at, 0, 2);
	sum = ipv4 ? rte_ipv4_udptcp_cksum(ip, l4) : rte_ipv6_udptcp_cksum(ip, l4);
	memcpy(l4 + at, &sum, 2);
	if (ipv4) {
		memset(frame->bytes + 24, 0, 2);
		sum = rte_ipv4_cksum(ip);
		memcpy(frame->bytes + 24, &sum, 2);
	}
}

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

// A well-formed packet with n_payload bytes of data and right checksums.
static struct frame make(const char *src, unsigned sport, const char *dst, unsigned dport, uint8_t proto,
	uint8_t tcp_flags, unsigned n_payload)
{
	struct frame frame = {.bytes = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 0xc1}};
	unsigned l4_bytes = (proto == IPPROTO_TCP ? 20u : 8u) + n_payload;
	struct lb_addr from, to;
	bool ipv4;
	uint8_t *l3 = frame.bytes + 14, *l4;

	assert_int_equal(lb_addr_parse(src, &from), 0);
	assert_int_equal(lb_addr_parse(dst, &to), 0);
	ipv4 = lb_addr_is_ipv4(&from);
	put16(frame.bytes + 12, ipv4 ? 0x0800 : 0x86dd);
	l4 = l3 + (ipv4 ? 20 : 40);
	if (ipv4) {
		l3[0] = 0x45;
		put16(l3 + 2, 20 + l4_bytes);
		l3[8] = 64;
		l3[9] = proto;
		memcpy(l3 + 12, from.bytes + 12, 4);
		memcpy(l3 + 16, to.bytes + 12, 4);
	} else {
		l3[0] = 0x60;
		put16(l3 + 4, l4_bytes);
		l3[6] = proto;
		l3[7] = 64;
		memcpy(l3 + 8, from.bytes, 16);
		memcpy(l3 + 24, to.bytes, 16);
	}
	put16(l4, sport);
	put16(l4 + 2, dport);
	if (proto == IPPROTO_TCP) {
		l4[12] = 0x50;
		l4[13] = tcp_flags;
	} else {
		put16(l4 + 4, l4_bytes);
	}
	for (unsigned i = 0; i < n_payload; i++)
		l4[l4_bytes - n_payload + i] = (uint8_t)(i * 7 + 1);
	frame.n = (unsigned)(l4 + l4_bytes - frame.bytes);
	finish_checksums(&frame);
	return frame;
}

#define CLIENT4 "198.51.100.7"
#define CLIENT6 "2001:db8:c::7"
#define VIP4 "203.0.113.10"
#define VIP6 "2001:db8::10"
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

// Send frames as one burst through the stages (not tx). The mbufs stay in the burst for inspection.
static void send_burst(const struct frame *frames, unsigned n)
{
	struct lb_burst *burst = &pipeline.worker->burst;

	burst->n = n;
	burst->port = 0;
	for (unsigned i = 0; i < n; i++)
		burst->mbufs[i] = pipeline_mbuf(&pipeline, frames[i].bytes, frames[i].n);
	lb_worker_process(pipeline.worker);
}

static void free_burst(void)
{
	pipeline_free_burst(&pipeline);
}

// Verdict of one frame; *out (may be NULL) receives its bytes afterwards.
static uint8_t send_one(const struct frame *frame, struct frame *out)
{
	struct lb_burst *burst = &pipeline.worker->burst;
	uint8_t verdict;

	send_burst(frame, 1);
	verdict = burst->packets[0].verdict;
	if (out != NULL) {
		out->n = burst->mbufs[0]->pkt_len;
		memcpy(out->bytes, rte_pktmbuf_mtod(burst->mbufs[0], void *), out->n);
	}
	free_burst();
	return verdict;
}

// The frame that nat must make of one, built from scratch, with everything else as sent.
static struct frame expect_nat(const struct frame *sent, const char *src, unsigned sport, const char *dst,
	unsigned dport, const uint8_t dst_mac[6], uint8_t src_mac_last)
{
	struct frame frame = *sent;
	bool ipv4 = sent->bytes[12] == 0x08;
	struct lb_addr from, to;
	uint8_t *l4 = frame.bytes + 14 + (ipv4 ? 20 : 40);

	lb_addr_parse(src, &from);
	lb_addr_parse(dst, &to);
	memcpy(frame.bytes, dst_mac, 6);
	memcpy(frame.bytes + 6, (uint8_t[]){2, 0, 0, 0, src_mac_last, 1}, 6);
	if (ipv4) {
		frame.bytes[14 + 8]--;
		memcpy(frame.bytes + 14 + 12, from.bytes + 12, 4);
		memcpy(frame.bytes + 14 + 16, to.bytes + 12, 4);
	} else {
		frame.bytes[14 + 7]--;
		memcpy(frame.bytes + 14 + 8, from.bytes, 16);
		memcpy(frame.bytes + 14 + 24, to.bytes, 16);
	}
	put16(l4, sport);
	put16(l4 + 2, dport);
	finish_checksums(&frame);
	return frame;
}

static const uint8_t backend_mac[6] = {2, 0, 0, 0, 0, 0xb1};
static const uint8_t client_mac[6] = {2, 0, 0, 0, 0, 0xc1};

static void assert_frames_equal(const struct frame *got, const struct frame *expected)
{
	assert_int_equal(got->n, expected->n);
	assert_memory_equal(got->bytes, expected->bytes, expected->n);
}

static void nat_rewrites_both_ways(void **state)
{
	static const struct {
		const char *client, *vip, *backend;
		unsigned vip_port, backend_port;
		uint8_t proto;
	} cases[] = {
		{CLIENT4, VIP4, "10.0.0.11", 80, 8080, IPPROTO_TCP},
		{CLIENT4, VIP4, "10.0.0.12", 53, 53, IPPROTO_UDP},
		{CLIENT6, VIP6, "fd00::11", 80, 8080, IPPROTO_TCP},
		{CLIENT6, VIP6, "fd00::12", 53, 5353, IPPROTO_UDP},
		{CLIENT4, "203.0.113.20", "10.0.0.13", 4711, 4711, IPPROTO_TCP},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned n_payload = 0; n_payload < 300; n_payload += 37) {
			unsigned sport = 1024 + n_payload * 101 + i;
			struct frame in = make(cases[i].client, sport, cases[i].vip, cases[i].vip_port,
				cases[i].proto, SYN, n_payload);
			struct frame back = make(cases[i].backend, cases[i].backend_port, cases[i].client,
				sport, cases[i].proto, SYN | ACK, n_payload);
			struct frame expected = expect_nat(&in, cases[i].client, sport, cases[i].backend,
				cases[i].backend_port, backend_mac, 1);
			struct frame out;

			assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
			assert_frames_equal(&out, &expected);
			expected = expect_nat(&back, cases[i].vip, cases[i].vip_port, cases[i].client,
				sport, client_mac, 0);
			assert_int_equal(send_one(&back, &out), LB_VERDICT_REPLY);
			assert_frames_equal(&out, &expected);
		}
	}
}

static void vlan_tag_options_and_padding_are_kept(void **state)
{
	struct frame plain = make(CLIENT4, 5000, VIP4, 80, IPPROTO_TCP, ACK, 10), in, out;

	(void)state;
	in = plain; // VLAN 5
	memmove(in.bytes + 18, plain.bytes + 14, plain.n - 14);
	memcpy(in.bytes + 12, (uint8_t[]){0x81, 0, 0, 5, 8, 0}, 6);
	in.n += 4;
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.n, in.n);
	assert_memory_equal(out.bytes + 12, in.bytes + 12, 6);
	assert_memory_equal(out.bytes + 18 + 16, ((uint8_t[]){10, 0, 0, 11}), 4);

	in = plain; // Ethernet padding
	in.n += 20;
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.n, in.n);

	in = plain; // 4 bytes of options: three NOPs and an end
	memmove(in.bytes + 38, plain.bytes + 34, plain.n - 34);
	memcpy(in.bytes + 34, (uint8_t[]){1, 1, 1, 0}, 4);
	in.n += 4;
	in.bytes[14] = 0x46;
	put16(in.bytes + 16, in.n - 14);
	put16(in.bytes + 24, 0);
	put16(in.bytes + 24, (uint16_t)~__builtin_bswap16(rte_raw_cksum(in.bytes + 14, 24)));
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	assert_memory_equal(out.bytes + 34, in.bytes + 34, 4);
	assert_int_equal(rte_raw_cksum(out.bytes + 14, 24), 0xffff);
}

static void udp_zero_checksum_stays_zero(void **state)
{
	struct frame in = make(CLIENT4, 5001, VIP4, 53, IPPROTO_UDP, 0, 12), out;

	(void)state;
	put16(in.bytes + 40, 0);
	assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.bytes[40] << 8 | out.bytes[41], 0);
}

// Incremental: whatever is wrong with an L4 checksum is still wrong at the backend, which then drops it.
static void wrong_l4_checksum_stays_wrong(void **state)
{
	(void)state;
	for (unsigned port = 2000; port < 2500; port++) {
		struct frame in = make(CLIENT4, port, VIP4, 80, IPPROTO_TCP, ACK, 6), out;

		in.bytes[50] ^= 0x40;
		assert_int_equal(send_one(&in, &out), LB_VERDICT_FORWARD);
		assert_int_not_equal(
			rte_ipv4_udptcp_cksum_verify((void *)(out.bytes + 14), out.bytes + 34), 0);
	}
}

struct malformed {
	const char *name;
	uint8_t expected;
	void (*spoil)(struct frame *frame);
};

static void fix_ip(struct frame *f)
{
	put16(f->bytes + 24, 0);
	put16(f->bytes + 24,
		(uint16_t)~__builtin_bswap16(rte_raw_cksum(f->bytes + 14, (f->bytes[14] & 15u) * 4u)));
}

#define SPOIL(id, ...)                                                                             \
	static void id(struct frame *f)                                                            \
	{                                                                                          \
		__VA_ARGS__;                                                                       \
	}
SPOIL(len_0, f->n = 0)
SPOIL(len_13, f->n = 13)
SPOIL(len_14, f->n = 14)
SPOIL(len_33, f->n = 33)
SPOIL(len_34, f->n = 34; put16(f->bytes + 16, 20); fix_ip(f))
SPOIL(len_53, f->n = 53; put16(f->bytes + 16, 39); fix_ip(f))
SPOIL(vlan_cut, put16(f->bytes + 12, 0x8100); f->n = 17)
SPOIL(vlan_two, memcpy(f->bytes + 12, ((uint8_t[]){0x81, 0, 0, 5, 0x81, 0}), 6))
SPOIL(vlan_ad, put16(f->bytes + 12, 0x88a8))
SPOIL(arp, put16(f->bytes + 12, 0x0806))
SPOIL(lldp, put16(f->bytes + 12, 0x88cc))
SPOIL(version_6, f->bytes[14] = 0x65)
SPOIL(version_0, f->bytes[14] = 0x05)
SPOIL(ihl_4, f->bytes[14] = 0x44)
SPOIL(ihl_0, f->bytes[14] = 0x40)
SPOIL(ihl_15_cut, f->bytes[14] = 0x4f; f->n = 60)
SPOIL(total_0, put16(f->bytes + 16, 0); fix_ip(f))
SPOIL(total_19, put16(f->bytes + 16, 19); fix_ip(f))
SPOIL(total_long, put16(f->bytes + 16, f->n - 14 + 1); fix_ip(f))
SPOIL(total_max, put16(f->bytes + 16, 65535); fix_ip(f))
SPOIL(total_cuts_l4, put16(f->bytes + 16, 39); fix_ip(f))
SPOIL(sum_bad, f->bytes[24] ^= 1)
SPOIL(sum_zero, put16(f->bytes + 24, 0))
SPOIL(src_zero, memset(f->bytes + 26, 0, 4); fix_ip(f))
SPOIL(src_loopback, f->bytes[26] = 127; fix_ip(f))
SPOIL(src_multicast, f->bytes[26] = 224; fix_ip(f))
SPOIL(src_class_e, f->bytes[26] = 250; fix_ip(f))
SPOIL(src_broadcast, memset(f->bytes + 26, 255, 4); fix_ip(f))
SPOIL(land, memcpy(f->bytes + 26, f->bytes + 30, 4); fix_ip(f))
SPOIL(more_fragments, f->bytes[20] = 0x20; f->bytes[17]--; fix_ip(f))
SPOIL(last_fragment, f->bytes[21] = 0x10; fix_ip(f))
SPOIL(ttl_1, f->bytes[22] = 1; fix_ip(f))
SPOIL(ttl_0, f->bytes[22] = 0; fix_ip(f))
SPOIL(icmp, f->bytes[23] = 1; fix_ip(f))
SPOIL(sctp, f->bytes[23] = 132; fix_ip(f))
SPOIL(gre, f->bytes[23] = 47; fix_ip(f))
SPOIL(tcp_offset_4, f->bytes[46] = 0x40)
SPOIL(tcp_offset_0, f->bytes[46] = 0)
SPOIL(tcp_offset_long, f->bytes[46] = 0xf0)
SPOIL(tcp_null, f->bytes[47] = 0)
SPOIL(tcp_only_psh, f->bytes[47] = PSH)
SPOIL(tcp_syn_fin, f->bytes[47] = SYN | FIN)
SPOIL(tcp_syn_rst, f->bytes[47] = SYN | RST)
SPOIL(tcp_all, f->bytes[47] = 0xff)
SPOIL(sport_0, put16(f->bytes + 34, 0))
SPOIL(dport_0, put16(f->bytes + 36, 0))
SPOIL(dport_other, put16(f->bytes + 36, 81))
SPOIL(dst_other, f->bytes[33] = 99; fix_ip(f))
SPOIL(dst_no_table, f->bytes[33] = 30; fix_ip(f))
SPOIL(options_lsrr, f->bytes[14] = 0x46; f->bytes[34] = 131; f->bytes[35] = 4; fix_ip(f))
SPOIL(options_ssrr, f->bytes[14] = 0x46; f->bytes[34] = 137; f->bytes[35] = 4; fix_ip(f))
SPOIL(options_len_0, f->bytes[14] = 0x46; f->bytes[34] = 7; f->bytes[35] = 0; fix_ip(f))
SPOIL(options_long, f->bytes[14] = 0x46; f->bytes[34] = 7; f->bytes[35] = 5; fix_ip(f))
SPOIL(options_cut, f->bytes[14] = 0x46; memcpy(f->bytes + 34, ((uint8_t[]){1, 1, 1, 7}), 4); fix_ip(f))

static const struct malformed malformed_ipv4[] = {
	{"empty", LB_VERDICT_TRUNCATED_L2, len_0},
	{"13 bytes", LB_VERDICT_TRUNCATED_L2, len_13},
	{"Ethernet alone", LB_VERDICT_TRUNCATED_L3, len_14},
	{"19 bytes of IP", LB_VERDICT_TRUNCATED_L3, len_33},
	{"no TCP", LB_VERDICT_TRUNCATED_L4, len_34},
	{"19 bytes of TCP", LB_VERDICT_TRUNCATED_L4, len_53},
	{"VLAN tag cut", LB_VERDICT_TRUNCATED_L2, vlan_cut},
	{"two VLAN tags", LB_VERDICT_VLAN_STACKED, vlan_two},
	{"802.1ad", LB_VERDICT_VLAN_STACKED, vlan_ad},
	{"ARP", LB_VERDICT_HOST, arp},
	{"LLDP", LB_VERDICT_HOST, lldp},
	{"version 6", LB_VERDICT_IP_BAD_VERSION, version_6},
	{"version 0", LB_VERDICT_IP_BAD_VERSION, version_0},
	{"IHL 4", LB_VERDICT_IP_BAD_HEADER_LENGTH, ihl_4},
	{"IHL 0", LB_VERDICT_IP_BAD_HEADER_LENGTH, ihl_0},
	{"IHL beyond the frame", LB_VERDICT_TRUNCATED_L3, ihl_15_cut},
	{"total length 0", LB_VERDICT_IP_BAD_LENGTH, total_0},
	{"total length below the header", LB_VERDICT_IP_BAD_LENGTH, total_19},
	{"total length one too long", LB_VERDICT_IP_BAD_LENGTH, total_long},
	{"total length 65535", LB_VERDICT_IP_BAD_LENGTH, total_max},
	{"total length cuts TCP", LB_VERDICT_TRUNCATED_L4, total_cuts_l4},
	{"IP checksum wrong", LB_VERDICT_IP_BAD_CHECKSUM, sum_bad},
	{"IP checksum zero", LB_VERDICT_IP_BAD_CHECKSUM, sum_zero},
	{"source 0.0.0.0", LB_VERDICT_IP_BAD_ADDRESS, src_zero},
	{"source loopback", LB_VERDICT_IP_BAD_ADDRESS, src_loopback},
	{"source multicast", LB_VERDICT_IP_BAD_ADDRESS, src_multicast},
	{"source class E", LB_VERDICT_IP_BAD_ADDRESS, src_class_e},
	{"source broadcast", LB_VERDICT_IP_BAD_ADDRESS, src_broadcast},
	{"LAND", LB_VERDICT_IP_BAD_ADDRESS, land},
	{"first fragment, not a multiple of 8", LB_VERDICT_FRAGMENT_BAD, more_fragments},
	{"fragment that waits", LB_VERDICT_FRAGMENT, last_fragment},
	{"TTL 1", LB_VERDICT_TTL_EXPIRED, ttl_1},
	{"TTL 0", LB_VERDICT_TTL_EXPIRED, ttl_0},
	{"ICMP", LB_VERDICT_VIP_PROTOCOL, icmp},
	{"SCTP", LB_VERDICT_VIP_PROTOCOL, sctp},
	{"GRE", LB_VERDICT_VIP_PROTOCOL, gre},
	{"TCP data offset 4", LB_VERDICT_TCP_BAD_HEADER, tcp_offset_4},
	{"TCP data offset 0", LB_VERDICT_TCP_BAD_HEADER, tcp_offset_0},
	{"TCP data offset beyond", LB_VERDICT_TCP_BAD_HEADER, tcp_offset_long},
	{"TCP no flags", LB_VERDICT_TCP_BAD_FLAGS, tcp_null},
	{"TCP PSH alone", LB_VERDICT_TCP_BAD_FLAGS, tcp_only_psh},
	{"TCP SYN FIN", LB_VERDICT_TCP_BAD_FLAGS, tcp_syn_fin},
	{"TCP SYN RST", LB_VERDICT_TCP_BAD_FLAGS, tcp_syn_rst},
	{"TCP every flag", LB_VERDICT_TCP_BAD_FLAGS, tcp_all},
	{"source port 0", LB_VERDICT_PORT_ZERO, sport_0},
	{"destination port 0", LB_VERDICT_PORT_ZERO, dport_0},
	{"VIP, other port", LB_VERDICT_VIP_NO_SERVICE, dport_other},
	{"not a VIP", LB_VERDICT_HOST, dst_other},
	{"service without a table", LB_VERDICT_NO_TABLE, dst_no_table},
	{"loose source route", LB_VERDICT_IP_OPTIONS_BAD, options_lsrr},
	{"strict source route", LB_VERDICT_IP_OPTIONS_BAD, options_ssrr},
	{"option of length 0", LB_VERDICT_IP_OPTIONS_BAD, options_len_0},
	{"option beyond the header", LB_VERDICT_IP_OPTIONS_BAD, options_long},
	{"option without length", LB_VERDICT_IP_OPTIONS_BAD, options_cut},
};

// Insert an extension header of 8 bytes in front of the L4 header (IPv6 frames without others).
static void insert_ext(struct frame *f, uint8_t type, const uint8_t ext[8])
{
	memmove(f->bytes + 62, f->bytes + 54, f->n - 54);
	memcpy(f->bytes + 54, ext, 8);
	f->bytes[54] = f->bytes[20];
	f->bytes[20] = type;
	f->n += 8;
	put16(f->bytes + 18, f->n - 54);
}

SPOIL(v6_cut, f->n = 53)
SPOIL(v6_only, f->n = 54; put16(f->bytes + 18, 0))
SPOIL(v6_version_4, f->bytes[14] = 0x40)
SPOIL(v6_length_long, put16(f->bytes + 18, f->n - 54 + 1))
SPOIL(v6_length_0, put16(f->bytes + 18, 0))
SPOIL(v6_src_unspecified, memset(f->bytes + 22, 0, 16))
SPOIL(v6_src_multicast, f->bytes[22] = 0xff)
SPOIL(v6_src_mapped, memset(f->bytes + 22, 0, 16); memset(f->bytes + 32, 255, 2); f->bytes[37] = 9)
SPOIL(v6_dst_mapped, memset(f->bytes + 38, 0, 16); memset(f->bytes + 48, 255, 2); f->bytes[53] = 9)
SPOIL(v6_land, memcpy(f->bytes + 22, f->bytes + 38, 16))
SPOIL(v6_hop_1, f->bytes[21] = 1)
SPOIL(v6_fragment, f->bytes[19]--; f->n--; insert_ext(f, 44, ((uint8_t[8]){0, 0, 0, 1, 0, 0, 0, 9})))
SPOIL(v6_routing, insert_ext(f, 43, ((uint8_t[8]){0, 0, 0, 1})))
SPOIL(v6_ext_long, insert_ext(f, 60, ((uint8_t[8]){0, 200})))
SPOIL(v6_hop_by_hop_second, insert_ext(f, 0, ((uint8_t[8]){0})); insert_ext(f, 60, ((uint8_t[8]){0})))
SPOIL(v6_nine, for (int i = 0; i < 9; i++) insert_ext(f, 60, ((uint8_t[8]){0})))
SPOIL(v6_icmp, f->bytes[20] = 58)
SPOIL(v6_no_next, f->bytes[20] = 59)
SPOIL(v6_tcp_cut, put16(f->bytes + 18, 19))
SPOIL(v6_ext_at_end, f->bytes[20] = 60; f->n = 58; put16(f->bytes + 18, 4))

static const struct malformed malformed_ipv6[] = {
	{"39 bytes of IPv6", LB_VERDICT_TRUNCATED_L3, v6_cut},
	{"no TCP", LB_VERDICT_TRUNCATED_L4, v6_only},
	{"version 4", LB_VERDICT_IP_BAD_VERSION, v6_version_4},
	{"payload length too long", LB_VERDICT_IP_BAD_LENGTH, v6_length_long},
	{"payload length 0", LB_VERDICT_TRUNCATED_L4, v6_length_0},
	{"source unspecified", LB_VERDICT_IP_BAD_ADDRESS, v6_src_unspecified},
	{"source multicast", LB_VERDICT_IP_BAD_ADDRESS, v6_src_multicast},
	{"source IPv4-mapped", LB_VERDICT_IP_BAD_ADDRESS, v6_src_mapped},
	{"destination IPv4-mapped", LB_VERDICT_IP_BAD_ADDRESS, v6_dst_mapped},
	{"LAND", LB_VERDICT_IP_BAD_ADDRESS, v6_land},
	{"hop limit 1", LB_VERDICT_TTL_EXPIRED, v6_hop_1},
	{"first fragment, not a multiple of 8", LB_VERDICT_FRAGMENT_BAD, v6_fragment},
	{"routing header with segments left", LB_VERDICT_IP6_ROUTING, v6_routing},
	{"extension header too long", LB_VERDICT_IP6_EXT_HEADERS, v6_ext_long},
	{"hop-by-hop not first", LB_VERDICT_IP6_EXT_HEADERS, v6_hop_by_hop_second},
	{"nine extension headers", LB_VERDICT_IP6_EXT_HEADERS, v6_nine},
	{"ICMPv6", LB_VERDICT_VIP_PROTOCOL, v6_icmp},
	{"no next header", LB_VERDICT_VIP_PROTOCOL, v6_no_next},
	{"19 bytes of TCP", LB_VERDICT_TRUNCATED_L4, v6_tcp_cut},
	{"extension header cut", LB_VERDICT_IP6_EXT_HEADERS, v6_ext_at_end},
};

static unsigned n_wrong;

static void try_malformed(const struct malformed *m, struct frame frame, const char *what)
{
	uint8_t verdict;

	m->spoil(&frame);
	verdict = send_one(&frame, NULL);
	if (verdict != m->expected) {
		print_error("%s %s: %s instead of %s\n", what, m->name, lb_verdict_name(verdict),
			lb_verdict_name(m->expected));
		n_wrong++;
	}
}

static void malformed_packets_are_dropped_by_name(void **state)
{
	(void)state;
	n_wrong = 0;
	for (unsigned i = 0; i < sizeof(malformed_ipv4) / sizeof(malformed_ipv4[0]); i++)
		try_malformed(&malformed_ipv4[i], make(CLIENT4, 6000, VIP4, 80, IPPROTO_TCP, ACK, 20), "IPv4");
	for (unsigned i = 0; i < sizeof(malformed_ipv6) / sizeof(malformed_ipv6[0]); i++)
		try_malformed(&malformed_ipv6[i], make(CLIENT6, 6000, VIP6, 80, IPPROTO_TCP, ACK, 20), "IPv6");
	assert_int_equal(n_wrong, 0);
}

static void udp_lengths_are_checked(void **state)
{
	static const struct {
		unsigned length;
		uint8_t expected;
	} cases[] = {{0, LB_VERDICT_UDP_BAD_LENGTH}, {7, LB_VERDICT_UDP_BAD_LENGTH},
		{8, LB_VERDICT_FORWARD}, {20, LB_VERDICT_FORWARD}, {21, LB_VERDICT_UDP_BAD_LENGTH},
		{65535, LB_VERDICT_UDP_BAD_LENGTH}};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct frame frame = make(CLIENT4, 6000, VIP4, 53, IPPROTO_UDP, 0, 12);

		put16(frame.bytes + 38, cases[i].length);
		assert_int_equal(send_one(&frame, NULL), cases[i].expected);
	}
}

static void ipv6_extension_headers_are_passed(void **state)
{
	struct frame frame = make(CLIENT6, 6001, VIP6, 80, IPPROTO_TCP, ACK, 9), out;

	(void)state;
	insert_ext(&frame, 60, (uint8_t[8]){0, 0, 1, 4});
	insert_ext(&frame, 0, (uint8_t[8]){0, 0, 1, 4});
	assert_int_equal(send_one(&frame, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.bytes[38], 0xfd); // destination is the backend
	assert_int_equal(out.bytes[70 + 2] << 8 | out.bytes[70 + 3], 8080);
}

// A flow stays with its backend when the table changes; what has no entry follows the slot's origin.
static void flows_stay_when_the_table_changes(void **state)
{
	struct frame tracked = make(CLIENT4, 7000, "203.0.113.20", 99, IPPROTO_TCP, SYN, 0), out;
	struct frame untracked = make(CLIENT4, 7001, "203.0.113.20", 99, IPPROTO_TCP, ACK, 0);
	struct frame fresh = make(CLIENT4, 7002, "203.0.113.20", 99, IPPROTO_TCP, SYN, 0);

	(void)state;
	send_one(&tracked, NULL);
	pipeline_backend(&pipeline, 6, 3, "10.0.0.16", 0, LB_BACKEND_UP);
	publish_one(3, 6);
	tracked.bytes[47] = ACK;
	finish_checksums(&tracked);
	send_one(&tracked, &out);
	assert_int_equal(out.bytes[33], 13);
	send_one(&untracked, &out);
	assert_int_equal(out.bytes[33], 13);
	send_one(&fresh, &out);
	assert_int_equal(out.bytes[33], 16);
	// The old backend dies: its flows, and only they, move.
	pipeline_backend(&pipeline, 3, 3, "10.0.0.13", 0, LB_BACKEND_DOWN);
	send_one(&tracked, &out);
	assert_int_equal(out.bytes[33], 16);
	pipeline_backend(&pipeline, 3, 3, "10.0.0.13", 0, LB_BACKEND_UP);
	publish_one(3, 3);
	fresh.bytes[47] = ACK;
	finish_checksums(&fresh);
	send_one(&fresh, &out);
	assert_int_equal(out.bytes[33], 16);
}

static void a_syn_does_not_move_a_live_connection(void **state)
{
	struct frame frame = make(CLIENT4, 7100, "203.0.113.20", 99, IPPROTO_TCP, SYN, 0), out;

	(void)state;
	publish_one(3, 3);
	send_one(&frame, NULL);
	frame.bytes[47] = ACK;
	finish_checksums(&frame);
	send_one(&frame, &out);
	assert_int_equal(out.bytes[33], 13);
	publish_one(3, 6);
	frame.bytes[47] = SYN; // spoofed
	finish_checksums(&frame);
	send_one(&frame, &out);
	assert_int_equal(out.bytes[33], 13);
	frame.bytes[47] = RST | ACK; // the client's own: over
	finish_checksums(&frame);
	send_one(&frame, &out);
	assert_int_equal(out.bytes[33], 13);
	frame.bytes[47] = SYN;
	finish_checksums(&frame);
	send_one(&frame, &out);
	assert_int_equal(out.bytes[33], 16);
	publish_one(3, 3);
}

// The balancer's own health checks come from a backend's endpoint too: they are the kernel's.
static void replies_to_the_host_are_left_alone(void **state)
{
	struct lb_msg route = {.op = LB_OP_ROUTE_SET,
		.route = {.family = 4, .length = 32, .nexthop = LB_NEXTHOP_HOST}};
	struct frame check = make("10.0.0.11", 8080, "10.0.0.1", 40000, IPPROTO_TCP, SYN | ACK, 0), out;
	struct frame reply = make("10.0.0.11", 8080, CLIENT4, 40000, IPPROTO_TCP, SYN | ACK, 0);

	(void)state;
	assert_int_equal(lb_addr_parse("10.0.0.1", &route.route.prefix), 0);
	assert_int_equal(pipeline_command(&pipeline, &route, NULL), 0);
	assert_int_equal(send_one(&check, &out), LB_VERDICT_HOST);
	assert_frames_equal(&out, &check);
	assert_int_equal(send_one(&reply, NULL), LB_VERDICT_REPLY);
	route.op = LB_OP_ROUTE_DEL;
	assert_int_equal(pipeline_command(&pipeline, &route, NULL), 0);
	assert_int_equal(send_one(&check, NULL), LB_VERDICT_REPLY);
}

// What comes from an endpoint is a reply, but to a VIP; and its route is that of its own client, whoever is beside it.
static void packets_of_an_endpoint_go_where_they_are_sent(void **state)
{
	const struct {
		struct frame frame;
		uint8_t verdict;
	} cases[] = {
		{make("10.0.0.11", 8080, CLIENT4, 40000, IPPROTO_TCP, ACK, 0), LB_VERDICT_REPLY},
		{make("10.0.0.11", 8080, "10.0.0.1", 40000, IPPROTO_TCP, ACK, 0), LB_VERDICT_HOST}, // by its route
		{make("10.0.0.11", 8081, CLIENT4, 40000, IPPROTO_TCP, ACK, 0), LB_VERDICT_HOST},
		{make("10.0.0.21", 8080, CLIENT4, 40000, IPPROTO_TCP, ACK, 0), LB_VERDICT_HOST},
		{make("10.0.0.13", 4711, CLIENT4, 40000, IPPROTO_TCP, ACK, 0), LB_VERDICT_REPLY}, // of all ports
		{make("10.0.0.12", 53, VIP4, 53, IPPROTO_UDP, 0, 8), LB_VERDICT_FORWARD},
		{make("10.0.0.11", 8080, VIP4, 81, IPPROTO_TCP, ACK, 0), LB_VERDICT_VIP_NO_SERVICE},
		{make("10.0.0.11", 8080, "203.0.113.20", 99, IPPROTO_TCP, SYN, 0), LB_VERDICT_FORWARD}, // all ports
		{make("fd00::11", 8080, CLIENT6, 40000, IPPROTO_TCP, ACK, 0), LB_VERDICT_REPLY},
		{make("fd00::11", 8080, VIP6, 81, IPPROTO_TCP, ACK, 0), LB_VERDICT_VIP_NO_SERVICE},
		{make("fd00::11", 8081, CLIENT6, 40000, IPPROTO_TCP, ACK, 0), LB_VERDICT_HOST},
	};
	const unsigned n_cases = sizeof(cases) / sizeof(cases[0]);
	struct lb_msg route = {.op = LB_OP_ROUTE_SET,
		.route = {.family = 4, .length = 32, .nexthop = LB_NEXTHOP_HOST}};
	struct lb_worker *worker = pipeline.worker;
	unsigned picks[LB_BURST];
	struct frame frames[LB_BURST];

	(void)state;
	assert_int_equal(lb_addr_parse("10.0.0.1", &route.route.prefix), 0);
	assert_int_equal(pipeline_command(&pipeline, &route, NULL), 0);
	for (unsigned round = 0; round < 300; round++) {
		unsigned n = 1 + (round * 7) % LB_BURST, first = round % n_cases;

		memset(worker->burst.keys, 0xee, sizeof(worker->burst.keys)); // of a burst before
		memset(worker->burst.keys4, 0xee, sizeof(worker->burst.keys4));
		worker->fetch_ports = round / 3 % 2;
		worker->fast_ports = worker->stranger_ports = round / 5 % 2;
		for (unsigned i = 0; i < n; i++) {
			picks[i] = round % 4 == 0 ? first : (first + i * (1 + round % 5)) % n_cases;
			frames[i] = cases[picks[i]].frame;
		}
		send_burst(frames, n);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(worker->burst.packets[i].verdict, cases[picks[i]].verdict);
		free_burst();
	}
	route.op = LB_OP_ROUTE_DEL;
	assert_int_equal(pipeline_command(&pipeline, &route, NULL), 0);
}

static uint64_t flows_of(uint16_t backend)
{
	return (uint64_t)pipeline.worker->counters->backends[backend].active_flows;
}

static void a_flush_removes_the_flows_of_one_backend(void **state)
{
	struct lb_msg flush = {.op = LB_OP_FLOWS_FLUSH, .flush = {.service = 0, .backend = 0}}, reply = {0};
	struct frame frame;
	uint64_t n_others;

	(void)state;
	for (unsigned port = 9000; port < 9100; port++) {
		frame = make(CLIENT4, port, VIP4, 80, IPPROTO_TCP, SYN, 0);
		assert_int_equal(send_one(&frame, NULL), LB_VERDICT_FORWARD);
		frame = make(CLIENT6, port, VIP6, 80, IPPROTO_TCP, SYN, 0);
		assert_int_equal(send_one(&frame, NULL), LB_VERDICT_FORWARD);
	}
	assert_true(flows_of(0) >= 100);
	n_others = flows_of(2);
	assert_true(n_others >= 100);
	assert_int_equal(pipeline_command(&pipeline, &flush, &reply), 0);
	assert_int_equal(reply.reply.n_flows, flows_of(0));
	assert_int_equal(pipeline_command(&pipeline, &flush, &reply), -EAGAIN); // one at a time
	for (unsigned i = 0; i < 10000 && pipeline.worker->flushes != pipeline.dp.flushes; i++)
		lb_worker_keep_house(pipeline.worker, 0);
	assert_int_equal(flows_of(0), 0);
	assert_int_equal(flows_of(2), n_others);
	assert_int_equal(pipeline_command(&pipeline, &flush, &reply), 0);
	flush.flush.backend = 2; // of another service
	assert_int_equal(pipeline_command(&pipeline, &flush, &reply), -ENOENT);
	for (unsigned i = 0; i < 10000 && pipeline.worker->flushes != pipeline.dp.flushes; i++)
		lb_worker_keep_house(pipeline.worker, 0);
}

// The slots that changed before a restart, or during it, still lead old flows to their origin.
static void slot_history_outlives_a_restart(void **state)
{
	struct frame old_flow = make(CLIENT4, 9200, "203.0.113.20", 99, IPPROTO_TCP, ACK, 0), out;
	struct lb_service *service = &pipeline.dp.services[3];

	(void)state;
	publish_one(3, 3);
	pipeline.dp.now_s += 1000; // nothing is in transition
	pipeline.worker->now_s += 1000;
	lb_history_save(&pipeline.dp, 3);
	rte_free(service->table);
	service->table = NULL;
	service->resumes = true;
	memset(pipeline.dp.slot_refs, 0, (LB_MAX_BACKENDS + 1) * sizeof(pipeline.dp.slot_refs[0]));
	publish_one(3, 6); // a change that came while the data plane was down
	assert_int_equal(send_one(&old_flow, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.bytes[33], 13);
}

// The longest timeout is valid, and so is what was kept with it.
static void history_with_the_longest_timeout_is_kept(void **state)
{
	struct lb_msg msg = {.op = LB_OP_SERVICE_SET,
		.service = {.id = 3, .idle_timeout_ms = LB_IDLE_TIMEOUT_MAX_MS, .mode = LB_MODE_NAT,
			.key = pipeline.dp.services[3].key}};
	struct lb_slot_table *kept;

	(void)state;
	assert_int_equal(pipeline_command(&pipeline, &msg, NULL), 0);
	publish_one(3, 3);
	assert_int_equal(pipeline.dp.services[3].table->transition_s, LB_IDLE_TIMEOUT_MAX_MS / 1000);
	kept = lb_history_load(&pipeline.dp, 3);
	assert_non_null(kept);
	free(kept);
}

// How many of @p n new flows are recorded after their SYNs.
static uint64_t new_flows(uint32_t n)
{
	static uint32_t n_sent;
	uint64_t n_before = pipeline.worker->counters->flow.insert;

	for (uint32_t i = 0; i < n; i++, n_sent++) {
		struct frame syn = make(CLIENT4, 10000 + n_sent, "203.0.113.20", 99, IPPROTO_TCP, SYN, 0);

		assert_int_equal(send_one(&syn, NULL), LB_VERDICT_FORWARD);
	}
	return pipeline.worker->counters->flow.insert - n_before;
}

static void ticks_pass(uint32_t n)
{
	while (n-- > 0) {
		pipeline.dp.tick++;
		pipeline.dp.now_s += LB_FLOW_TICK_MS / 1000;
		do
			lb_worker_keep_house(pipeline.worker, 0);
		while (pipeline.worker->sweep_left != 0);
	}
}

// The table is far from full, but at this rate it would be full within the life of a SYN.
static void fast_growth_turns_tracking_for_a_while(void **state)
{
	struct lb_worker *worker = pipeline.worker;
	uint64_t n_max = lb_flowtable_capacity(&worker->flowtable), n_turns;
	uint32_t n_few = (uint32_t)(n_max / LB_FLOW_SYN_TICKS / 4);

	(void)state;
	ticks_pass(LB_IDLE_TIMEOUT_MAX_MS / LB_FLOW_TICK_MS + 20); // no slot in transition, no entry left
	assert_int_equal(worker->counters->flow.used, 0);
	assert_false(worker->pressure);
	n_turns = worker->counters->flow.tracking_changes;
	for (unsigned i = 0; i < 40; i++) { // ten times what the table would hold, but they go as they come
		assert_int_equal(new_flows(n_few), n_few);
		ticks_pass(1);
	}
	assert_int_equal(worker->counters->flow.tracking_changes, n_turns);
	assert_int_equal(new_flows(n_few * 5), n_few * 5);
	assert_true(worker->counters->flow.used < n_max * 3 / 4);
	lb_worker_keep_house(worker, 1);
	assert_true(worker->pressure);
	assert_int_equal(new_flows(n_few), 0);
	ticks_pass(LB_FLOW_SYN_TICKS);
	assert_int_equal(new_flows(n_few), 0);
	ticks_pass(1);
	assert_false(worker->pressure);
	assert_int_equal(new_flows(n_few), n_few);
	assert_int_equal(worker->counters->flow.tracking_changes, n_turns + 2);
}

// Millions are the fuzzers' business; this keeps the stages honest under the sanitizers in every run.
static void random_damage_never_crashes(void **state)
{
	struct frame frames[LB_BURST];
	uint64_t random = 0x9e3779b97f4a7c15u;
	unsigned n_forwarded = 0;

	(void)state;
	for (unsigned round = 0; round < 4000; round++) {
		for (unsigned i = 0; i < LB_BURST; i++) {
			frames[i] = i % 2 == 0 ? make(CLIENT4, 8000 + round, VIP4, i % 4 ? 80 : 53,
							 i % 4 ? IPPROTO_TCP : IPPROTO_UDP, ACK, i * 3)
						: make(CLIENT6, 8000 + round, VIP6, 80, IPPROTO_TCP, ACK, i * 3);
			for (unsigned n = 0; n < i % 5; n++) {
				random ^= random << 13;
				random ^= random >> 7;
				random ^= random << 17;
				frames[i].bytes[12 + (random >> 8) % (frames[i].n - 12)] ^= (uint8_t)random;
			}
			if (i % 7 == 0)
				frames[i].n = (unsigned)((random >> 32) % (frames[i].n + 1));
		}
		send_burst(frames, LB_BURST);
		for (unsigned i = 0; i < LB_BURST; i++) {
			uint8_t verdict = pipeline.worker->burst.packets[i].verdict;

			assert_true(verdict < LB_VERDICT_N);
			n_forwarded += verdict == LB_VERDICT_FORWARD;
		}
		free_burst();
	}
	assert_true(n_forwarded > 4000); // the damage did not leave nothing to forward
	pipeline_expire_fragments(&pipeline);
	assert_int_equal(rte_mempool_in_use_count(pipeline.pool), 0);
}

// Headers damaged in a few places; the IPv4 checksum is right again half of the time.
static struct frame make_odd(unsigned round, uint64_t *random)
{
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP};
	static const uint8_t odd_bytes[] = {0, 1, 5, 6, 17, 0x45, 0x46, 0x50, 0x7f, 0x80, 0xe0, 0xff};
	bool ipv4 = round % 2 == 0;
	struct frame frame = make(ipv4 ? CLIENT4 : CLIENT6, 8000, ipv4 ? VIP4 : VIP6, 80,
		protos[round / 2 % 2], ACK, round % 3 * 10);

	for (unsigned n = 0; n < round % 4; n++) {
		*random ^= *random << 13;
		*random ^= *random >> 7;
		*random ^= *random << 17;
		frame.bytes[14 + (*random >> 8) % (ipv4 ? 36 : 56)] =
			(*random & 64) ? odd_bytes[*random % sizeof(odd_bytes)] : (uint8_t)*random;
	}
	if (ipv4 && round / 4 % 2 == 0) {
		memset(frame.bytes + 24, 0, 2);
		put16(frame.bytes + 24, rte_be_to_cpu_16(rte_ipv4_cksum((void *)(frame.bytes + 14))));
	}
	if (round % 8 == 7)
		frame.n = (unsigned)((*random >> 32) % (frame.n + 1));
	return frame;
}

// The short way through the parser takes no tagged packet, so that the other one must find the same.
static void plain_packets_are_parsed_as_tagged_ones(void **state)
{
	struct lb_burst *burst = &pipeline.worker->burst;
	uint64_t random = 0x2545f4914f6cdd1du;
	unsigned n_good = 0, n_bad = 0;

	(void)state;
	burst->n = 2;
	burst->port = 0;
	assert_int_equal(rte_pktmbuf_alloc_bulk(pipeline.pool, burst->mbufs, 2), 0);
	for (unsigned round = 0; round < 400000; round++) {
		struct frame frame = make_odd(round, &random);
		const struct lb_packet *plain = &burst->packets[0], *tagged = &burst->packets[1];

		if (frame.n < 14)
			continue;
		for (unsigned i = 0; i < 2; i++) {
			uint8_t *bytes = rte_pktmbuf_mtod(burst->mbufs[i], uint8_t *);

			memcpy(bytes, frame.bytes, 12);
			memcpy(bytes + 12, (uint8_t[]){0x81, 0, 0, 1}, 4);
			memcpy(bytes + 12 + 4 * i, frame.bytes + 12, frame.n - 12);
			burst->mbufs[i]->data_len = (uint16_t)(frame.n + 4 * i);
			burst->mbufs[i]->pkt_len = frame.n + 4 * i;
		}
		lb_stage_parse(pipeline.worker, burst);
		assert_int_equal(plain->verdict, tagged->verdict);
		assert_int_equal(burst->n_ip, plain->verdict == LB_VERDICT_FORWARD ? 2 : 0);
		n_bad += plain->verdict != LB_VERDICT_FORWARD;
		if (plain->verdict != LB_VERDICT_FORWARD)
			continue;
		assert_int_equal(plain->pending, tagged->pending);
		assert_int_equal(plain->family, tagged->family);
		assert_int_equal(plain->wire_bytes + 4, tagged->wire_bytes);
		assert_int_equal(plain->l3 + 4, tagged->l3);
		assert_int_equal(plain->l4 + 4, tagged->l4);
		if (plain->pending == LB_VERDICT_FRAGMENT || plain->pending == LB_VERDICT_VIP_PROTOCOL)
			continue; // no ports
		assert_int_equal(plain->tcp_flags, tagged->tcp_flags);
		assert_memory_equal(&burst->keys[0], &burst->keys[1], sizeof(burst->keys[0]));
		n_good++;
	}
	free_burst();
	assert_true(n_good > 100000 && n_bad > 50000);
}

// A packet of @p ip_bytes to the service or, as a reply, from its backend; IPv4 with DF if @p df.
static struct frame sized(bool ipv4, bool reply, unsigned ip_bytes, bool df)
{
	unsigned n_payload = ip_bytes - (ipv4 ? 40 : 60);
	struct frame frame = reply ? make(ipv4 ? "10.0.0.11" : "fd00::11", 8080, ipv4 ? CLIENT4 : CLIENT6, 6001,
					     IPPROTO_TCP, ACK, n_payload)
				   : make(ipv4 ? CLIENT4 : CLIENT6, 6001, ipv4 ? VIP4 : VIP6, 80, IPPROTO_TCP, ACK,
					     n_payload);

	if (ipv4 && df)
		frame.bytes[14 + 6] = 0x40;
	finish_checksums(&frame);
	return frame;
}

static void too_big_for_the_next_link_is_told(void **state)
{
	struct lb_worker *worker = pipeline.worker;
	const struct lb_burst *burst = &worker->burst;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		bool ipv4 = i & 1, reply = i & 2, df = i & 4;
		unsigned out_port = reply ? 0 : 1, n_headers = ipv4 ? 28 : 48;
		struct frame fits = sized(ipv4, reply, 600, df), in = sized(ipv4, reply, 601, df), out;

		lb_worker_set_mtu(worker, out_port, 600);
		assert_int_equal(send_one(&fits, NULL), reply ? LB_VERDICT_REPLY : LB_VERDICT_FORWARD);
		assert_int_equal(send_one(&in, &out), LB_VERDICT_TOO_BIG);
		lb_worker_set_mtu(worker, out_port, 1500);
		if (ipv4 && !df) {
			assert_int_equal(burst->answered, 0); // RFC 1191, section 4: only with DF
			continue;
		}
		assert_int_equal(burst->answered, 1);
		// as it came, TTL and addresses included, quoted back to its sender
		assert_memory_equal(
			out.bytes + 14 + n_headers, in.bytes + 14, RTE_MIN(out.n, in.n) - 14 - n_headers);
		assert_memory_equal(out.bytes + 14 + (ipv4 ? 16 : 24), in.bytes + 14 + (ipv4 ? 12 : 8), ipv4 ? 4 : 16);
		assert_int_equal(out.bytes[14 + n_headers - 2] * 256 + out.bytes[14 + n_headers - 1],
			ipv4 ? 600 : 1280);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nat_rewrites_both_ways),
		cmocka_unit_test(too_big_for_the_next_link_is_told),
		cmocka_unit_test(vlan_tag_options_and_padding_are_kept),
		cmocka_unit_test(udp_zero_checksum_stays_zero),
		cmocka_unit_test(wrong_l4_checksum_stays_wrong),
		cmocka_unit_test(malformed_packets_are_dropped_by_name),
		cmocka_unit_test(udp_lengths_are_checked),
		cmocka_unit_test(ipv6_extension_headers_are_passed),
		cmocka_unit_test(flows_stay_when_the_table_changes),
		cmocka_unit_test(a_syn_does_not_move_a_live_connection),
		cmocka_unit_test(replies_to_the_host_are_left_alone),
		cmocka_unit_test(packets_of_an_endpoint_go_where_they_are_sent),
		cmocka_unit_test(a_flush_removes_the_flows_of_one_backend),
		cmocka_unit_test(slot_history_outlives_a_restart),
		cmocka_unit_test(history_with_the_longest_timeout_is_kept),
		cmocka_unit_test(fast_growth_turns_tracking_for_a_while),
		cmocka_unit_test(random_damage_never_crashes),
		cmocka_unit_test(plain_packets_are_parsed_as_tagged_ones),
	};

	return cmocka_run_group_tests(tests, set_up, pipeline_tear_down);
}
