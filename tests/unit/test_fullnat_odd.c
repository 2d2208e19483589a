/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode fullnat, what is no plain TCP or UDP, over four workers: ICMP errors and fragments that RSS brings to another
 * one than their session's, what TOA and PROXY headers mean for what an error says, who makes way when there is no room.
 * Bytes in all mixes of families: tests/vectors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>

#include <rte_ip.h>

#include "dataplane/frag.h"
#include "tests/unit/fullnat_util.h"

#define N_WORKERS 4u
#define N_SESSIONS 20000u /* of a worker: more than it has ports to one backend, less than to two */
#define CLIENT4 "198.51.100.7"
#define CLIENT6 "2001:db8:c::7"
#define ROUTER4 "192.0.2.99"
#define ROUTER6 "2001:db8:99::1"

/* Backend n of service n; the last is of mode nat, with backends 20 and 21. */
static const struct {
	const char *client, *vip, *backend, *local;
	uint16_t port, backend_port;
	uint8_t proto, client_address;
} services[] = {
	{CLIENT4, "203.0.113.10", "10.0.0.11", "192.0.2.1", 80, 8080, IPPROTO_TCP, LB_CLIENT_ADDRESS_NONE},
	{CLIENT6, "2001:db8::10", "10.0.0.12", "192.0.2.1", 80, 8080, IPPROTO_TCP, LB_CLIENT_ADDRESS_NONE},
	{CLIENT4, "203.0.113.10", "10.0.0.13", "192.0.2.1", 53, 5353, IPPROTO_UDP, LB_CLIENT_ADDRESS_NONE},
	{CLIENT4, "203.0.113.10", "fd00::14", "2001:db8:1::1", 54, 5353, IPPROTO_UDP, LB_CLIENT_ADDRESS_NONE},
	{CLIENT4, "203.0.113.10", "10.0.0.15", "192.0.2.1", 81, 8080, IPPROTO_TCP, LB_CLIENT_ADDRESS_PROXY_V2},
	{CLIENT4, "203.0.113.10", "10.0.0.16", "192.0.2.1", 82, 8080, IPPROTO_TCP, LB_CLIENT_ADDRESS_TOA},
	{CLIENT6, "2001:db8::10", "fd00::17", "2001:db8:1::1", 82, 8080, IPPROTO_TCP, LB_CLIENT_ADDRESS_TOA},
	{CLIENT4, "203.0.113.10", "10.0.0.18", "192.0.2.1", 55, 5353, IPPROTO_UDP, LB_CLIENT_ADDRESS_PROXY_V2},
	{CLIENT4, "203.0.113.10", "10.0.0.19", "192.0.2.1", 83, 8080, IPPROTO_TCP, LB_CLIENT_ADDRESS_NONE},
};
#define N_SERVICES (sizeof(services) / sizeof(services[0]))
enum { PLAIN = 0, MIXED = 1, DATAGRAMS = 2, TO_IPV6 = 3, PROXY = 4, TOA4 = 5, TOA6 = 6, PROXY_UDP = 7, OTHER = 8, NAT = 15 };

static struct pipeline pipeline;

static void configure(void)
{
	static const char *const locals[] = {"192.0.2.1", "2001:db8:1::1", NULL};

	pipeline_sync_begin(&pipeline);
	assert_int_equal(fullnat_locals(&pipeline, locals), 0);
	for (uint16_t i = 0; i < N_SERVICES; i++) {
		fullnat_service(&pipeline, i, services[i].vip, services[i].port, services[i].proto,
			services[i].client_address);
		pipeline_backend(&pipeline, i, i, services[i].backend, services[i].backend_port, LB_BACKEND_UP);
		publish_some(&pipeline, i, i, 1);
	}
	pipeline_service(&pipeline, NAT, "203.0.113.30", 80, IPPROTO_TCP);
	pipeline_backend(&pipeline, 20, NAT, "10.0.1.20", 80, LB_BACKEND_UP);
	pipeline_backend(&pipeline, 21, NAT, "10.0.1.21", 80, LB_BACKEND_UP);
	publish_some(&pipeline, NAT, 20, 1);
	pipeline_sync_end(&pipeline);
}

static int set_up(void **state)
{
	pipeline_start_eal_alone(768);
	pipeline_start(&pipeline, N_WORKERS, N_SESSIONS, 4095);
	configure();
	*state = &pipeline;
	return 0;
}

static void assert_nothing_is_left(void)
{
	advance(&pipeline, 40);
	assert_int_equal(TOTAL(sessions.used), 0);
	assert_int_equal(TOTAL(locals[0].ports_used), 0);
	assert_int_equal(TOTAL(locals[1].ports_used), 0);
	assert_int_equal(rte_mempool_in_use_count(pipeline.pool), 0);
}

/* What comes out of all workers on account of a burst. */
struct output {
	unsigned n, worker[64];
	struct frame frames[64];
	uint8_t verdicts[64]; /* of every packet that is settled, in the order in which it was */
	unsigned n_verdicts;
};

static void take_out(struct lb_worker *worker, struct output *output)
{
	struct lb_burst *burst = &worker->burst;

	for (unsigned i = 0; i < burst->n; i++) {
		uint8_t verdict = burst->packets[i].verdict;
		struct rte_mbuf *mbuf = burst->mbufs[i];

		if ((burst->held >> i & 1) || verdict == LB_VERDICT_TAKEN)
			continue;
		output->verdicts[output->n_verdicts++ % 64] = verdict;
		if (verdict == LB_VERDICT_FORWARD || verdict == LB_VERDICT_REPLY || (burst->answered >> i & 1)) {
			struct frame *frame = &output->frames[output->n % 64];

			assert_true(mbuf->pkt_len <= sizeof(frame->bytes) && mbuf->nb_segs == 1);
			frame->n = mbuf->pkt_len;
			memcpy(frame->bytes, rte_pktmbuf_mtod(mbuf, void *), frame->n);
			output->worker[output->n++ % 64] = worker->idx;
		}
		rte_pktmbuf_free(mbuf);
	}
	burst->n = 0;
}

static void process(struct lb_worker *worker, struct output *output)
{
	do {
		lb_worker_process(worker);
		take_out(worker, output);
	} while (lb_frag_release_more(worker, &worker->burst));
}

static void pass_frames(unsigned idx, const struct frame *frames, unsigned n, struct output *output)
{
	struct lb_worker *worker = pipeline.dp.workers[idx];

	memset(output, 0, sizeof(*output));
	for (unsigned i = 0; i < n; i++)
		worker->burst.mbufs[i] = pipeline_mbuf(&pipeline, frames[i].bytes, frames[i].n);
	worker->burst.n = n;
	worker->burst.port = 0;
	process(worker, output);
	for (unsigned i = 0; i < N_WORKERS; i++)
		while (lb_handover_take(pipeline.dp.workers[i], &pipeline.dp.workers[i]->burst) != 0)
			process(pipeline.dp.workers[i], output);
}

static uint8_t pass_odd(unsigned idx, const struct frame *frame, struct output *output)
{
	pass_frames(idx, frame, 1, output);
	return output->n_verdicts == 1 ? output->verdicts[0] : LB_VERDICT_N;
}

static struct segment first_of(unsigned service, unsigned sport, uint8_t flags)
{
	struct segment s = segment_of(services[service].client, sport, services[service].vip, services[service].port,
		services[service].proto, services[service].proto == IPPROTO_TCP ? flags : 0);

	s.seq = 1000;
	set_payload(&s, "hello, world", flags & SYN ? 0 : 12);
	return s;
}

/* ICMP errors. */

static bool is_ipv4(const struct frame *frame)
{
	return frame->bytes[12] == 0x08;
}

static uint8_t *icmp_of(struct frame *frame)
{
	return frame->bytes + 14 + (is_ipv4(frame) ? 20 : 40);
}

// The quoted packet, and its L4 header.
static uint8_t *quoted_ip(struct frame *frame)
{
	return icmp_of(frame) + 8;
}

static uint8_t *quoted_l4(struct frame *frame)
{
	return quoted_ip(frame) + (is_ipv4(frame) ? 20 : 40);
}

static uint16_t load16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t load32(const uint8_t *at)
{
	return (uint32_t)load16(at) << 16 | load16(at + 2);
}

static void finish_icmp(struct frame *frame)
{
	uint8_t *l3 = frame->bytes + 14, *icmp = icmp_of(frame);
	uint16_t sum;

	memset(icmp + 2, 0, 2);
	sum = is_ipv4(frame) ? (uint16_t)~rte_raw_cksum(icmp, frame->n - 34) : rte_ipv6_udptcp_cksum((void *)l3, icmp);
	memcpy(icmp + 2, &sum, 2);
}

// Too big, if mtu is not 0, or time exceeded, from @p src to whom the packet in @p quoted came from, n bytes of its L4.
static struct frame error_about(const char *src, const struct frame *quoted, unsigned n_l4, uint32_t mtu)
{
	struct frame frame = {.bytes = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 0xc1}};
	bool ipv4 = is_ipv4(quoted);
	unsigned n_header = ipv4 ? 20 : 40, n_quoted = n_header + n_l4;
	uint8_t *l3 = frame.bytes + 14, *icmp = l3 + n_header;
	struct lb_addr from = addr_of(src);

	assert_true(14 + n_quoted <= quoted->n);
	memcpy(frame.bytes + 12, quoted->bytes + 12, 2);
	frame.n = 14 + n_header + 8 + n_quoted;
	memset(icmp, 0, 8);
	if (ipv4) {
		struct rte_ipv4_hdr *ip = (void *)l3;

		*ip = (struct rte_ipv4_hdr){.version_ihl = 0x45, .time_to_live = 64, .next_proto_id = IPPROTO_ICMP,
			.total_length = rte_cpu_to_be_16((uint16_t)(frame.n - 14)), .src_addr = lb_addr_ipv4_be(&from)};
		memcpy(&ip->dst_addr, quoted->bytes + 14 + 12, 4);
		ip->hdr_checksum = rte_ipv4_cksum(ip);
		icmp[0] = mtu != 0 ? 3 : 11;
		icmp[1] = mtu != 0 ? 4 : 0;
		icmp[6] = (uint8_t)(mtu >> 8);
		icmp[7] = (uint8_t)mtu;
	} else {
		struct rte_ipv6_hdr *ip = (void *)l3;

		*ip = (struct rte_ipv6_hdr){.vtc_flow = RTE_BE32(0x60000000), .hop_limits = 64, .proto = IPPROTO_ICMPV6,
			.payload_len = rte_cpu_to_be_16((uint16_t)(frame.n - 54))};
		memcpy(ip->src_addr, &from, 16);
		memcpy(ip->dst_addr, quoted->bytes + 14 + 8, 16);
		icmp[0] = mtu != 0 ? 2 : 3;
		icmp[6] = (uint8_t)(mtu >> 8);
		icmp[7] = (uint8_t)mtu;
	}
	memcpy(icmp + 8, quoted->bytes + 14, n_quoted);
	finish_icmp(&frame);
	return frame;
}

static void assert_icmp_is_right(struct frame *frame, const char *src, const char *dst)
{
	struct lb_addr from = addr_of(src), to = addr_of(dst);
	struct frame copy = *frame;
	uint8_t *l3 = frame->bytes + 14;

	if (is_ipv4(frame)) {
		struct rte_ipv4_hdr *ip = (void *)l3;

		assert_int_equal((uint16_t)~rte_raw_cksum(ip, 20), 0);
		assert_int_equal(ip->src_addr, lb_addr_ipv4_be(&from));
		assert_int_equal(ip->dst_addr, lb_addr_ipv4_be(&to));
		assert_int_equal((uint16_t)~rte_raw_cksum(quoted_ip(frame), 20), 0);
	} else {
		assert_memory_equal(l3 + 8, &from, 16);
		assert_memory_equal(l3 + 24, &to, 16);
	}
	finish_icmp(&copy);
	assert_memory_equal(icmp_of(&copy), icmp_of(frame), 4);
}

/* A session that has begun: what the backend got first, and what the client and the backend send then. */
struct session {
	struct segment at_backend;
	struct frame reply_at_client, request_at_backend;
};

static struct session begin(unsigned service, unsigned sport, unsigned worker)
{
	struct segment in = first_of(service, sport, SYN), back, got;
	struct session session;

	assert_int_equal(pass(&pipeline, worker, &in, &session.at_backend), LB_VERDICT_FORWARD);
	back = answer_to(&session.at_backend, services[service].proto == IPPROTO_TCP ? SYN | ACK : 0);
	back.ack = 1001;
	assert_int_equal(pass(&pipeline, worker, &back, &got), LB_VERDICT_REPLY);
	session.reply_at_client = frame_of(&got);
	session.request_at_backend = frame_of(&session.at_backend);
	return session;
}

// Whichever worker RSS brings them to, to the backend and to the client; also when little is quoted.
static void errors_reach_the_worker_that_has_the_session(void **state)
{
	static const unsigned which[] = {PLAIN, MIXED, DATAGRAMS, TO_IPV6, PROXY, TOA4, TOA6};
	struct output output;

	(void)state;
	for (unsigned w = 0; w < RTE_DIM(which); w++)
		for (unsigned owner = 0; owner < N_WORKERS; owner++) {
			unsigned s = which[w];
			struct session session = begin(s, 30000 + owner, owner);
			bool client4 = is_ipv4(&session.reply_at_client);
			bool server4 = lb_addr_is_ipv4(&session.at_backend.dst);

			for (unsigned at = 0; at < N_WORKERS; at++) {
				struct frame error = error_about(
					client4 ? ROUTER4 : ROUTER6, &session.reply_at_client, 8, at % 2 ? 1400 : 0);

				assert_int_equal(pass_odd(at, &error, &output), LB_VERDICT_FORWARD);
				assert_int_equal(output.n, 1);
				assert_int_equal(output.worker[0], owner);
				assert_icmp_is_right(&output.frames[0], services[s].local, services[s].backend);
				assert_int_equal(load16(quoted_l4(&output.frames[0])), services[s].backend_port);
				assert_int_equal(load16(quoted_l4(&output.frames[0]) + 2), session.at_backend.sport);

				error = error_about(server4 ? "10.9.9.9" : "fd00:9::9", &session.request_at_backend, 8,
					at % 2 ? 1400 : 0);
				assert_int_equal(pass_odd(at, &error, &output), LB_VERDICT_REPLY);
				assert_int_equal(output.n, 1);
				assert_int_equal(output.worker[0], owner);
				assert_icmp_is_right(&output.frames[0], services[s].vip, services[s].client);
				assert_int_equal(load16(quoted_l4(&output.frames[0])), 30000 + owner);
				assert_int_equal(load16(quoted_l4(&output.frames[0]) + 2), services[s].port);
			}
		}
	assert_true(TOTAL(sessions.handed_over) >= 2 * RTE_DIM(which) * N_WORKERS * (N_WORKERS - 1));
	assert_int_equal(TOTAL(sessions.handed_over), TOTAL(sessions.taken_over));
	assert_nothing_is_left();
}

// What a router behind us says of a segment, told to the client: its MTU and its sequence number.
static void assert_told(struct session *session, unsigned service, uint32_t mtu, uint32_t told, uint32_t seq)
{
	struct output output;
	struct frame error =
		error_about(is_ipv4(&session->request_at_backend) ? "10.9.9.9" : "fd00:9::9", &session->request_at_backend, 20, mtu);

	assert_int_equal(pass_odd(1, &error, &output), LB_VERDICT_REPLY);
	assert_icmp_is_right(&output.frames[0], services[service].vip, services[service].client);
	assert_int_equal(load16(icmp_of(&output.frames[0]) + 6), told);
	assert_int_equal(load32(quoted_l4(&output.frames[0]) + 4), seq);
}

static void send_one(struct session *session, unsigned service, unsigned sport, uint32_t seq, uint8_t flags)
{
	struct segment in = first_of(service, sport, flags), out;

	in.seq = seq;
	assert_int_equal(pass(&pipeline, 2, &in, &out), LB_VERDICT_FORWARD);
	session->at_backend = out;
	session->request_at_backend = frame_of(&out);
}

static void proxy_headers_count_in_what_the_client_is_told(void **state)
{
	struct session session = begin(PROXY, 31000, 2);
	struct segment back;
	struct output output;
	struct frame error;

	(void)state;
	assert_told(&session, PROXY, 1400, 1400, 1000); // its SYN has no header
	send_one(&session, PROXY, 31000, 1001, ACK);
	assert_int_equal(session.at_backend.n_payload, 28 + 12);
	assert_told(&session, PROXY, 1400, 1400 - 28, 1001);
	send_one(&session, PROXY, 31000, 1013, ACK);
	assert_int_equal(session.at_backend.seq, 1013 + 28);
	assert_told(&session, PROXY, 1400, 1400, 1013);
	assert_told(&session, PROXY, 80, 80, 1013);
	back = answer_to(&session.at_backend, ACK);
	back.ack = 1013 + 28;
	assert_int_equal(pass(&pipeline, 2, &back, &back), LB_VERDICT_REPLY);
	assert_int_equal(back.ack, 1013);
	send_one(&session, PROXY, 31000, 1001, ACK); // the same again: no header by now, and shifted
	assert_told(&session, PROXY, 1400, 1400, 1001);
	// What the backend sent acknowledged in its own numbers.
	session.reply_at_client = frame_of(&back);
	error = error_about(ROUTER4, &session.reply_at_client, 20, 1300);
	assert_int_equal(pass_odd(0, &error, &output), LB_VERDICT_FORWARD);
	assert_icmp_is_right(&output.frames[0], services[PROXY].local, services[PROXY].backend);
	assert_int_equal(load32(quoted_l4(&output.frames[0]) + 8), 1013 + 28);
	assert_int_equal(load16(icmp_of(&output.frames[0]) + 6), 1300);
	assert_nothing_is_left();
}

// Quoted whole, so that its checksum can be checked: it is the client's own packet once more.
static void a_quoted_segment_is_the_one_that_was_sent(void **state)
{
	struct segment in = first_of(PROXY, 31500, SYN), out, quoted;
	struct frame sent, error, inner = {.bytes = {[12] = 0x08}};
	struct output output;

	(void)state;
	pass(&pipeline, 0, &in, NULL);
	in = first_of(PROXY, 31500, ACK);
	pass(&pipeline, 0, &in, NULL);
	in.seq = 5000;
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
	sent = frame_of(&out);
	error = error_about("10.9.9.9", &sent, sent.n - 34, 1400);
	assert_int_equal(pass_odd(3, &error, &output), LB_VERDICT_REPLY);
	inner.n = 14 + output.frames[0].n - 14 - 28;
	memcpy(inner.bytes + 14, quoted_ip(&output.frames[0]), inner.n - 14);
	quoted = read_frame(&inner); // checks its checksums
	assert_int_equal(quoted.seq, 5000);
	assert_int_equal(quoted.sport, 31500);
	assert_memory_equal(&quoted.dst, &in.dst, 16);
	assert_memory_equal(quoted.payload, in.payload, in.n_payload);
	assert_nothing_is_left();
}

static void toa_options_count_while_they_are_added(void **state)
{
	struct session session = begin(TOA4, 32000, 2), six = begin(TOA6, 32000, 2);
	struct segment back;

	(void)state;
	send_one(&session, TOA4, 32000, 1001, ACK);
	assert_int_equal(session.at_backend.n_options, 8);
	assert_told(&session, TOA4, 1400, 1392, 1001);
	assert_told(&session, TOA4, 70, 68, 1001); // never less than IPv4's least
	back = answer_to(&session.at_backend, ACK);
	assert_int_equal(pass(&pipeline, 2, &back, NULL), LB_VERDICT_REPLY);
	assert_told(&session, TOA4, 1400, 1400, 1001);

	// A client at IPv6's least MTU cannot make room: it gets its segment through without the option.
	send_one(&six, TOA6, 32000, 1001, ACK);
	assert_int_equal(six.at_backend.n_options, 20);
	assert_told(&six, TOA6, 1280, 1280, 1001);
	send_one(&six, TOA6, 32000, 1001, ACK);
	assert_int_equal(six.at_backend.n_options, 0);
	assert_nothing_is_left();
}

/* Fragments. */

// A datagram or segment in pieces of @p n_piece bytes (a multiple of 8) of IPv4 data.
static unsigned cut(const struct segment *s, unsigned n_piece, struct frame *pieces)
{
	struct frame whole = frame_of(s);
	unsigned n_data = whole.n - 34, n = 0;

	assert_true(is_ipv4(&whole));
	for (unsigned from = 0; from < n_data; from += n_piece, n++) {
		unsigned n_bytes = RTE_MIN(n_piece, n_data - from);
		struct rte_ipv4_hdr *ip = (void *)(pieces[n].bytes + 14);

		memcpy(pieces[n].bytes, whole.bytes, 34);
		memcpy(pieces[n].bytes + 34, whole.bytes + 34 + from, n_bytes);
		pieces[n].n = 34 + n_bytes;
		ip->total_length = rte_cpu_to_be_16((uint16_t)(20 + n_bytes));
		ip->packet_id = RTE_BE16(4711);
		ip->fragment_offset = rte_cpu_to_be_16((uint16_t)(from / 8 | (from + n_bytes < n_data ? 0x2000 : 0)));
		ip->hdr_checksum = 0;
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	}
	return n;
}

// The datagram that they make, whatever their order.
static struct segment put_together(const struct output *output)
{
	struct frame whole = output->frames[0];
	struct rte_ipv4_hdr *ip = (void *)(whole.bytes + 14);

	whole.n = 34;
	for (unsigned i = 0; i < output->n; i++) {
		const struct frame *piece = &output->frames[i];
		unsigned from = (load16(piece->bytes + 20) & 0x1fffu) * 8;

		assert_memory_equal(piece->bytes + 26, whole.bytes + 26, 8); // the addresses
		assert_int_equal((uint16_t)~rte_raw_cksum(piece->bytes + 14, 20), 0);
		memcpy(whole.bytes + 34 + from, piece->bytes + 34, piece->n - 34);
		whole.n = RTE_MAX(whole.n, 34 + from + piece->n - 34);
	}
	ip->fragment_offset = 0;
	ip->total_length = rte_cpu_to_be_16((uint16_t)(whole.n - 14));
	ip->hdr_checksum = 0;
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	return read_frame(&whole);
}

static void fragments_go_to_the_worker_that_has_the_session(void **state)
{
	static uint8_t bytes[1400];
	struct frame pieces[8], reversed[8];
	struct output output;

	(void)state;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	for (unsigned owner = 0; owner < N_WORKERS; owner++) {
		struct session session = begin(DATAGRAMS, 33000 + owner, owner);
		struct segment in = first_of(DATAGRAMS, 33000 + owner, 0), back = answer_to(&session.at_backend, 0), got;

		set_payload(&in, bytes, sizeof(bytes));
		set_payload(&back, bytes, sizeof(bytes));
		for (unsigned at = 0; at < N_WORKERS; at++)
			for (unsigned turn = 0; turn < 4; turn++) {
				bool is_reply = turn & 1;
				unsigned n = cut(is_reply ? &back : &in, 400, pieces);

				for (unsigned i = 0; i < n; i++)
					reversed[i] = pieces[n - 1 - i];
				pass_frames(at, turn & 2 ? reversed : pieces, n, &output);
				assert_int_equal(output.n, n);
				for (unsigned i = 0; i < n; i++)
					assert_int_equal(output.worker[i], owner);
				got = put_together(&output);
				assert_int_equal(got.n_payload, sizeof(bytes));
				assert_memory_equal(got.payload, bytes, sizeof(bytes));
				assert_int_equal(is_reply ? got.dport : got.sport,
					is_reply ? 33000 + owner : session.at_backend.sport);
			}
	}
	assert_int_equal(TOTAL(sessions.used), N_WORKERS);
	assert_nothing_is_left();
}

// The other way round: the session is where fragments come, and what is whole goes there as long as it is.
static void whole_datagrams_go_to_the_session_of_fragments(void **state)
{
	struct segment in = first_of(DATAGRAMS, 33400, 0), whole = in, first, got;
	struct frame pieces[4], frame;
	uint8_t bytes[600] = {0};
	struct output output;

	(void)state;
	set_payload(&in, bytes, sizeof(bytes));
	assert_int_equal(cut(&in, 400, pieces), 2);
	pass_frames(2, pieces, 2, &output);
	assert_int_equal(output.n, 2);
	first = put_together(&output);
	frame = frame_of(&whole);
	for (unsigned at = 0; at < N_WORKERS; at++) {
		assert_int_equal(pass_odd(at, &frame, &output), LB_VERDICT_FORWARD);
		assert_int_equal(output.worker[0], 2);
		got = read_frame(&output.frames[0]);
		assert_int_equal(got.sport, first.sport);
	}
	assert_int_equal(TOTAL(sessions.used), 1);
	assert_int_equal(pipeline.dp.workers[2]->n_fragment_sessions, 1);
	advance(&pipeline, 40);
	assert_int_equal(pipeline.dp.workers[2]->n_fragment_sessions, 0);
	assert_int_equal(pass_odd(1, &frame, &output), LB_VERDICT_FORWARD);
	assert_int_equal(output.worker[0], 1);
	assert_nothing_is_left();
}

// They come one burst each, over time; the session's end is theirs too.
static void fragments_end_with_their_session(void **state)
{
	struct segment in = first_of(PLAIN, 33500, SYN), rst;
	struct frame pieces[8];
	struct output output;
	uint8_t bytes[600] = {0};

	(void)state;
	pass(&pipeline, 0, &in, NULL);
	in = first_of(PLAIN, 33500, ACK);
	pass(&pipeline, 0, &in, NULL);
	set_payload(&in, bytes, sizeof(bytes));
	assert_int_equal(cut(&in, 240, pieces), 3);
	assert_int_equal(pass_odd(0, &pieces[0], &output), LB_VERDICT_FORWARD);
	assert_int_equal(pass_odd(0, &pieces[1], &output), LB_VERDICT_FORWARD);
	rst = first_of(PLAIN, 33500, RST);
	pass(&pipeline, 0, &rst, NULL);
	pipeline_backend(&pipeline, PLAIN, PLAIN, services[PLAIN].backend, 8080, LB_BACKEND_DOWN);
	in = first_of(PLAIN, 33500, ACK);
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_NO_SESSION);
	assert_int_equal(pass_odd(0, &pieces[2], &output), LB_VERDICT_NO_SESSION);
	pipeline_backend(&pipeline, PLAIN, PLAIN, services[PLAIN].backend, 8080, LB_BACKEND_UP);
	assert_nothing_is_left();
}

// A fragment anywhere in the burst is no reason to settle the whole packets of it once more.
static void a_fragment_leaves_the_rest_of_the_burst_alone(void **state)
{
	struct session session = begin(DATAGRAMS, 34000, 1);
	struct segment in = first_of(DATAGRAMS, 34000, 0), back = answer_to(&session.at_backend, 0),
		       nat = segment_of(CLIENT4, 34000, "203.0.113.30", 80, IPPROTO_TCP, SYN);
	struct frame frames[6], pieces[4];
	uint8_t bytes[600] = {0};
	struct output output;

	(void)state;
	frames[0] = frame_of(&in);
	frames[2] = frame_of(&back);
	frames[4] = frame_of(&nat);
	set_payload(&in, bytes, sizeof(bytes));
	assert_int_equal(cut(&in, 400, pieces), 2);
	frames[1] = pieces[0];
	frames[3] = pieces[1];
	frames[5] = frames[0];
	pass_frames(1, frames, 6, &output);
	assert_int_equal(output.n, 6);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(output.verdicts[i], i == 2 ? LB_VERDICT_REPLY : LB_VERDICT_FORWARD);
	assert_nothing_is_left();
}

// It cannot be put into a datagram in fragments, but in one that comes whole.
static void a_fragmented_first_datagram_cannot_have_a_proxy_header(void **state)
{
	struct segment in = first_of(PROXY_UDP, 34500, 0), out;
	struct frame pieces[4];
	uint8_t bytes[600] = {0};
	struct output output;

	(void)state;
	set_payload(&in, bytes, sizeof(bytes));
	assert_int_equal(cut(&in, 400, pieces), 2);
	assert_int_equal(pass_odd(0, &pieces[0], &output), LB_VERDICT_FRAGMENT);
	assert_int_equal(pass_odd(0, &pieces[1], &output), LB_VERDICT_FRAGMENT);
	assert_int_equal(pass(&pipeline, 0, &in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.n_payload, sizeof(bytes) + 28);
	pass_frames(0, pieces, 2, &output); // told by now
	assert_int_equal(output.n, 2);
	assert_int_equal(put_together(&output).n_payload, sizeof(bytes));
	assert_nothing_is_left();
}

/* Who makes way. */

static void establish(unsigned service, unsigned sport)
{
	struct segment in = first_of(service, sport, SYN);

	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
	in.flags = ACK;
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
}

// A flood of SYNs holds every port to the backend, but for those of connections; a new client gets through.
static void syns_give_their_ports_back_to_others(void **state)
{
	uint32_t n = LB_PORTS_ALL / N_WORKERS, n_established = 100;
	uint64_t evicted = TOTAL(sessions.evicted), exhausted = TOTAL(sessions.ports_exhausted);
	struct segment in, out;
	uint32_t n_refused = 0;

	(void)state;
	for (uint32_t i = 0; i < n_established; i++)
		establish(PLAIN, 1024 + i);
	for (uint32_t i = 0; i < 2 * n; i++) {
		struct segment got;

		in = first_of(PLAIN, 2000 + i, SYN);
		if (pass(&pipeline, 0, &in, &got) == LB_VERDICT_FORWARD)
			out = got;
		else
			n_refused++;
	}
	// Sixteen are looked at for each, and those that stay lie side by side, to be passed over twice at most.
	assert_in_range(n_refused, 1, 2 * (n_established / 16 + 1));
	assert_int_equal(TOTAL(sessions.evicted) - evicted, 2 * n - n_refused - (n - n_established));
	assert_int_equal(TOTAL(sessions.ports_exhausted) - exhausted, n_refused);
	assert_int_equal(TOTAL(locals[0].ports_used), n);
	// The last one is answered, and goes on; so do those that were there before.
	in = answer_to(&out, SYN | ACK);
	assert_int_equal(pass(&pipeline, 3, &in, NULL), LB_VERDICT_REPLY);
	in = first_of(PLAIN, 2000 + 2 * n - 1, ACK); // it was not refused
	assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
	for (uint32_t i = 0; i < n_established; i++) {
		in = first_of(PLAIN, 1024 + i, ACK);
		assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
	}
	assert_nothing_is_left();
}

// The same for the table, over two backends.
static void syns_give_their_entries_back_to_others(void **state)
{
	uint64_t evicted = TOTAL(sessions.evicted), full = TOTAL(sessions.full);
	uint32_t n_established = 3000; // with the SYNs fewer than there are ports
	struct segment in;

	(void)state;
	for (uint32_t i = 0; i < n_established; i++)
		establish(PLAIN, 1024 + i);
	for (uint32_t i = 0; i < 12000; i++)
		for (unsigned k = 0; k < 2; k++) {
			in = first_of(k == 0 ? PLAIN : OTHER, 10000 + i, SYN);
			pass(&pipeline, 0, &in, NULL);
		}
	assert_int_equal(TOTAL(sessions.used), N_SESSIONS);
	assert_int_equal(TOTAL(sessions.full) + TOTAL(sessions.evicted) - full - evicted,
		n_established + 24000 - N_SESSIONS);
	assert_true(TOTAL(sessions.full) - full < 100); // where many that stay lie side by side
	for (uint32_t i = 0; i < n_established; i++) {
		in = first_of(PLAIN, 1024 + i, ACK);
		assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_FORWARD);
	}
	assert_nothing_is_left();
}

static void established_ones_never_make_way(void **state)
{
	uint64_t evicted = TOTAL(sessions.evicted), full = TOTAL(sessions.full);
	uint64_t dropped = TOTAL(verdicts[LB_VERDICT_SESSIONS_FULL]);
	struct segment in;

	(void)state;
	for (uint32_t i = 0; i < N_SESSIONS / 2; i++) {
		establish(PLAIN, 1024 + i);
		establish(OTHER, 1024 + i);
	}
	for (uint32_t i = 0; i < 1000; i++) {
		in = first_of(PLAIN, 40000 + i, SYN);
		assert_int_equal(pass(&pipeline, 0, &in, NULL), LB_VERDICT_SESSIONS_FULL);
	}
	assert_int_equal(TOTAL(sessions.evicted), evicted);
	assert_int_equal(TOTAL(sessions.full) - full, 1000);
	assert_int_equal(TOTAL(verdicts[LB_VERDICT_SESSIONS_FULL]) - dropped, 1000);
	assert_int_equal(TOTAL(sessions.used), N_SESSIONS);
	assert_nothing_is_left();
}

// In the other modes the entry may be another worker's too: there its backend is known, not by the slot.
static void errors_find_entries_of_other_workers(void **state)
{
	struct segment syn = segment_of(CLIENT4, 35000, "203.0.113.30", 80, IPPROTO_TCP, SYN), back;
	struct frame sent, error;
	struct output output;

	(void)state;
	assert_int_equal(pass(&pipeline, 1, &syn, NULL), LB_VERDICT_FORWARD);
	publish_some(&pipeline, NAT, 21, 1);
	back = answer_to(&syn, ACK);
	sent = frame_of(&back);
	syn.flags = ACK;
	for (unsigned i = 0; i < 3; i++) { // the slots have forgotten; the connection has not
		advance(&pipeline, 20);
		assert_int_equal(pass(&pipeline, 1, &syn, NULL), LB_VERDICT_FORWARD);
	}
	error = error_about(ROUTER4, &sent, 8, 1400);
	for (unsigned at = 0; at < N_WORKERS; at++) {
		assert_int_equal(pass_odd(at, &error, &output), LB_VERDICT_FORWARD);
		assert_int_equal(load32(output.frames[0].bytes + 30), 0x0a000114); // 10.0.1.20
	}
	publish_some(&pipeline, NAT, 20, 1);
	assert_nothing_is_left();
}

static uint64_t next_random(void)
{
	static uint64_t random = 0x9e3779b97f4a7c15u;

	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	return random;
}

// Errors and fragments with bytes changed, and cut off, at any worker.
static void random_damage_never_crashes(void **state)
{
	static struct output output;
	struct session sessions[N_SERVICES];
	unsigned n_sent = 0;

	(void)state;
	for (unsigned i = 0; i < N_SERVICES; i++)
		sessions[i] = begin(i, 36000, i % N_WORKERS);
	for (unsigned round = 0; round < 40000; round++) {
		unsigned s = round % N_SERVICES;
		struct frame *quoted = round & 16 ? &sessions[s].reply_at_client : &sessions[s].request_at_backend;
		struct frame pieces[8] = {0};

		if (round % 3 != 0) {
			pieces[0] = error_about(is_ipv4(quoted) ? ROUTER4 : ROUTER6, quoted,
				RTE_MIN(8u + round % 13, quoted->n - (is_ipv4(quoted) ? 34 : 54)), round & 32 ? round % 1500 : 0);
		} else {
			struct segment in = first_of(s % 4 == MIXED ? PLAIN : s % 4, 36000, ACK);

			cut(&in, 16, pieces);
			pieces[0] = pieces[round % 2];
		}
		for (unsigned n = 0; n < round % 4; n++) {
			uint64_t random = next_random();

			pieces[0].bytes[12 + (random >> 8) % (pieces[0].n - 12)] ^= (uint8_t)random;
		}
		if (round % 7 == 0)
			pieces[0].n = (unsigned)(next_random() % (pieces[0].n + 1));
		pass_frames(round % N_WORKERS, pieces, 1, &output);
		for (unsigned i = 0; i < output.n_verdicts; i++)
			assert_true(output.verdicts[i] < LB_VERDICT_N);
		n_sent += output.n;
	}
	assert_true(n_sent > 4000);
	assert_nothing_is_left();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_reach_the_worker_that_has_the_session),
		cmocka_unit_test(proxy_headers_count_in_what_the_client_is_told),
		cmocka_unit_test(a_quoted_segment_is_the_one_that_was_sent),
		cmocka_unit_test(toa_options_count_while_they_are_added),
		cmocka_unit_test(fragments_go_to_the_worker_that_has_the_session),
		cmocka_unit_test(whole_datagrams_go_to_the_session_of_fragments),
		cmocka_unit_test(fragments_end_with_their_session),
		cmocka_unit_test(a_fragment_leaves_the_rest_of_the_burst_alone),
		cmocka_unit_test(a_fragmented_first_datagram_cannot_have_a_proxy_header),
		cmocka_unit_test(syns_give_their_ports_back_to_others),
		cmocka_unit_test(syns_give_their_entries_back_to_others),
		cmocka_unit_test(established_ones_never_make_way),
		cmocka_unit_test(errors_find_entries_of_other_workers),
		cmocka_unit_test(random_damage_never_crashes),
	};

	return cmocka_run_group_tests(tests, set_up, pipeline_tear_down);
}
