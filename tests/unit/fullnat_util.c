/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include <netinet/in.h>

#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "dataplane/frag.h"
#include "tests/unit/fullnat_util.h"

struct lb_addr addr_of(const char *text)
{
	struct lb_addr addr;

	assert_int_equal(lb_addr_parse(text, &addr), 0);
	return addr;
}

struct segment segment_of(const char *src, unsigned sport, const char *dst, unsigned dport, uint8_t proto,
	uint8_t flags)
{
	return (struct segment){.src = addr_of(src), .sport = (uint16_t)sport, .dst = addr_of(dst),
		.dport = (uint16_t)dport, .proto = proto, .flags = flags, .ttl = 64};
}

void set_payload(struct segment *segment, const void *bytes, unsigned n)
{
	memcpy(segment->payload, bytes, n);
	segment->n_payload = n;
}

void set_options(struct segment *segment, const void *bytes, unsigned n)
{
	memcpy(segment->options, bytes, n);
	segment->n_options = n;
}

static unsigned put_l4(uint8_t *l4, const struct segment *s)
{
	if (s->proto == IPPROTO_TCP) {
		struct rte_tcp_hdr *tcp = (void *)l4;

		*tcp = (struct rte_tcp_hdr){.src_port = rte_cpu_to_be_16(s->sport),
			.dst_port = rte_cpu_to_be_16(s->dport), .sent_seq = rte_cpu_to_be_32(s->seq),
			.recv_ack = rte_cpu_to_be_32(s->ack), .tcp_flags = s->flags,
			.rx_win = RTE_BE16(0x1234), .data_off = (uint8_t)((20 + s->n_options) / 4 << 4)};
		memcpy(l4 + 20, s->options, s->n_options);
		memcpy(l4 + 20 + s->n_options, s->payload, s->n_payload);
		return 20 + s->n_options + s->n_payload;
	}
	*(struct rte_udp_hdr *)l4 = (struct rte_udp_hdr){.src_port = rte_cpu_to_be_16(s->sport),
		.dst_port = rte_cpu_to_be_16(s->dport),
		.dgram_len = rte_cpu_to_be_16((uint16_t)(8 + s->n_payload))};
	memcpy(l4 + 8, s->payload, s->n_payload);
	return 8 + s->n_payload;
}

static void put_checksum(uint8_t *l4, uint8_t proto, uint16_t sum)
{
	memcpy(l4 + (proto == IPPROTO_TCP ? 16 : 6), &sum, 2);
}

struct frame frame_of(const struct segment *s)
{
	struct frame frame = {.bytes = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 0xc1}};
	uint8_t *l3 = frame.bytes + 14;

	if (lb_addr_is_ipv4(&s->src)) {
		struct rte_ipv4_hdr *ip = (void *)l3;
		unsigned l4_bytes = put_l4(l3 + 20, s);

		frame.bytes[12] = 0x08;
		*ip = (struct rte_ipv4_hdr){.version_ihl = 0x45, .time_to_live = s->ttl,
			.next_proto_id = s->proto, .type_of_service = s->traffic_class,
			.total_length = rte_cpu_to_be_16((uint16_t)(20 + l4_bytes)),
			.src_addr = lb_addr_ipv4_be(&s->src), .dst_addr = lb_addr_ipv4_be(&s->dst)};
		ip->hdr_checksum = rte_ipv4_cksum(ip);
		if (!s->no_checksum)
			put_checksum(l3 + 20, s->proto, rte_ipv4_udptcp_cksum(ip, l3 + 20));
		frame.n = 34 + l4_bytes;
	} else {
		struct rte_ipv6_hdr *ip = (void *)l3;
		unsigned l4_bytes = put_l4(l3 + 40, s);

		frame.bytes[12] = 0x86;
		frame.bytes[13] = 0xdd;
		*ip = (struct rte_ipv6_hdr){.vtc_flow = rte_cpu_to_be_32(6u << 28 | (uint32_t)s->traffic_class << 20),
			.hop_limits = s->ttl, .proto = s->proto,
			.payload_len = rte_cpu_to_be_16((uint16_t)l4_bytes)};
		memcpy(ip->src_addr, &s->src, 16);
		memcpy(ip->dst_addr, &s->dst, 16);
		put_checksum(l3 + 40, s->proto, rte_ipv6_udptcp_cksum(ip, l3 + 40));
		frame.n = 54 + l4_bytes;
	}
	return frame;
}

static void read_l4(struct segment *s, const uint8_t *l4, unsigned n)
{
	if (s->proto == IPPROTO_TCP) {
		const struct rte_tcp_hdr *tcp = (const void *)l4;
		unsigned header = (tcp->data_off >> 4) * 4u;

		assert_in_range(header, 20, n);
		s->sport = rte_be_to_cpu_16(tcp->src_port);
		s->dport = rte_be_to_cpu_16(tcp->dst_port);
		s->seq = rte_be_to_cpu_32(tcp->sent_seq);
		s->ack = rte_be_to_cpu_32(tcp->recv_ack);
		s->flags = tcp->tcp_flags;
		assert_int_equal(tcp->rx_win, RTE_BE16(0x1234));
		set_options(s, l4 + 20, header - 20);
		set_payload(s, l4 + header, n - header);
	} else {
		const struct rte_udp_hdr *udp = (const void *)l4;

		s->sport = rte_be_to_cpu_16(udp->src_port);
		s->dport = rte_be_to_cpu_16(udp->dst_port);
		assert_int_equal(rte_be_to_cpu_16(udp->dgram_len), n);
		s->no_checksum = udp->dgram_cksum == 0;
		set_payload(s, l4 + 8, n - 8);
	}
}

struct segment read_frame(const struct frame *frame)
{
	const uint8_t *l3 = frame->bytes + 14;
	struct segment s = {0};
	bool right;

	if (frame->bytes[12] == 0x08) {
		const struct rte_ipv4_hdr *ip = (const void *)l3;
		struct rte_ipv4_hdr copy = *ip;

		assert_int_equal(ip->version_ihl, 0x45);
		assert_int_equal(rte_be_to_cpu_16(ip->total_length), frame->n - 14);
		copy.hdr_checksum = 0;
		assert_int_equal(rte_ipv4_cksum(&copy), ip->hdr_checksum);
		s.src = lb_addr_from_ipv4(ip->src_addr);
		s.dst = lb_addr_from_ipv4(ip->dst_addr);
		s.ttl = ip->time_to_live;
		s.traffic_class = ip->type_of_service;
		s.proto = ip->next_proto_id;
		s.dont_fragment = (ip->fragment_offset & RTE_BE16(0x4000)) != 0;
		read_l4(&s, l3 + 20, frame->n - 34);
		right = s.no_checksum || rte_ipv4_udptcp_cksum_verify(ip, l3 + 20) == 0;
	} else {
		const struct rte_ipv6_hdr *ip = (const void *)l3;

		assert_int_equal(frame->bytes[12] << 8 | frame->bytes[13], 0x86dd);
		assert_int_equal(rte_be_to_cpu_16(ip->payload_len), frame->n - 54);
		memcpy(&s.src, ip->src_addr, 16);
		memcpy(&s.dst, ip->dst_addr, 16);
		s.ttl = ip->hop_limits;
		s.traffic_class = (uint8_t)(rte_be_to_cpu_32(ip->vtc_flow) >> 20);
		s.proto = ip->proto;
		read_l4(&s, l3 + 40, frame->n - 54);
		right = rte_ipv6_udptcp_cksum_verify(ip, l3 + 40) == 0;
	}
	assert_true(right);
	return s;
}

struct segment answer_to(const struct segment *segment, uint8_t flags)
{
	return (struct segment){.src = segment->dst, .sport = segment->dport, .dst = segment->src,
		.dport = segment->sport, .proto = segment->proto, .flags = flags, .ttl = 64};
}

static uint8_t settle(struct pipeline *pipeline, struct lb_worker *worker, struct frame *out)
{
	struct rte_mbuf *mbuf;
	uint8_t verdict;

	lb_worker_process(worker);
	rte_pktmbuf_free_bulk(worker->burst.mbufs + 1, worker->burst.n - 1);
	mbuf = worker->burst.mbufs[0];
	verdict = worker->burst.packets[0].verdict;
	worker->counters->verdicts[verdict]++;
	if (verdict == LB_VERDICT_TAKEN) {
		for (unsigned i = 0; i < pipeline->dp.n_workers; i++)
			if (lb_handover_take(pipeline->dp.workers[i], &pipeline->dp.workers[i]->burst) != 0)
				return settle(pipeline, pipeline->dp.workers[i], out);
		fail_msg("taken by nobody");
	}
	if (out != NULL) {
		out->n = mbuf->pkt_len;
		memcpy(out->bytes, rte_pktmbuf_mtod(mbuf, void *), out->n);
	}
	rte_pktmbuf_free(mbuf);
	return verdict;
}

uint8_t pass_frame(struct pipeline *pipeline, unsigned idx, const struct frame *in, struct frame *out)
{
	struct lb_worker *worker = pipeline->dp.workers[idx];
	bool ipv4 = in->n > 12 && in->bytes[12] == 0x08;
	struct segment other = segment_of(ipv4 ? "198.51.100.250" : "2001:db8:250::1", 1000,
		ipv4 ? "198.51.100.251" : "2001:db8:251::1", 2000, IPPROTO_UDP, 0);
	struct frame frame = frame_of(&other);
	static unsigned n_passed;

	// Seven of others, so that eight are parsed at once.
	for (unsigned i = 0; i < 8; i++) {
		const struct frame *its = i == 0 ? in : &frame;

		worker->burst.mbufs[i] = pipeline_mbuf(pipeline, its->bytes, its->n);
		memset(&worker->burst.keys[i], 0x5a, offsetof(struct lb_flow_key, zero)); // not to be read unless written
	}
	worker->burst.n = 8;
	worker->burst.port = 0;
	worker->fetch_ports = n_passed++ % 2; // looked for among the services first, or the host's and the backends
	return settle(pipeline, worker, out);
}

uint8_t pass(struct pipeline *pipeline, unsigned idx, const struct segment *in, struct segment *out)
{
	struct frame frame = frame_of(in), after;
	uint8_t verdict = pass_frame(pipeline, idx, &frame, &after);

	if (verdict == LB_VERDICT_FORWARD || verdict == LB_VERDICT_REPLY) {
		struct segment read = read_frame(&after);

		assert_int_equal(read.ttl, in->ttl - 1);
		assert_int_equal(read.traffic_class, in->traffic_class);
		if (out != NULL)
			*out = read;
	}
	return verdict;
}

void fullnat_service(struct pipeline *pipeline, uint16_t id, const char *vip, uint16_t port, uint8_t proto,
	enum lb_client_address client_address)
{
	struct lb_msg msg = {.op = LB_OP_SERVICE_SET,
		.service = {.id = id, .idle_timeout_ms = 60000, .mode = LB_MODE_FULLNAT,
			.client_address = (uint8_t)client_address,
			.key = {.addr = addr_of(vip), .port_be = rte_cpu_to_be_16(port), .proto = proto}}};

	assert_int_equal(pipeline_command(pipeline, &msg, NULL), 0);
}

int fullnat_locals(struct pipeline *pipeline, const char *const *addrs)
{
	struct lb_msg msg = {.op = LB_OP_LOCAL_SET};
	int rc = 0;

	for (; addrs[msg.local.count] != NULL; msg.local.count++)
		;
	for (; rc == 0 && (msg.local.index < msg.local.count || msg.local.count == 0); msg.local.index++) {
		if (msg.local.count != 0)
			msg.local.addr = addr_of(addrs[msg.local.index]);
		rc = pipeline_command(pipeline, &msg, NULL);
		if (msg.local.count == 0)
			break;
	}
	return rc;
}

void publish_some(struct pipeline *pipeline, uint16_t service, uint16_t first, unsigned n)
{
	uint16_t slots[8191];

	for (unsigned i = 0; i < 8191; i++)
		slots[i] = (uint16_t)(first + i % n);
	assert_int_equal(pipeline_publish(pipeline, service, slots, 8191), 0);
}

uint64_t total(const struct pipeline *pipeline, size_t offset)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < pipeline->dp.n_workers; i++)
		n += *(const uint64_t *)((const uint8_t *)pipeline->dp.workers[i]->counters + offset);
	return n;
}

void advance(struct pipeline *pipeline, uint32_t ticks)
{
	pipeline->dp.tick += ticks;
	pipeline->dp.now_s += 2 * ticks;
	for (unsigned i = 0; i < pipeline->dp.n_workers; i++)
		pipeline->dp.workers[i]->now_s = pipeline->dp.now_s;
	for (unsigned i = 0; i < pipeline->dp.n_workers; i++) {
		struct lb_worker *worker = pipeline->dp.workers[i];
		uint32_t sweeps = worker->sweeps;

		// A round takes eight ticks; let these be as long as it needs.
		while (worker->sweeps == sweeps || worker->counters->sweeps != worker->sweeps) {
			worker->tick = 0;
			lb_worker_keep_house(worker, 0);
		}
		for (unsigned k = 0; k < LB_FRAG_DATAGRAMS; k++) { // a few datagrams at a time
			worker->frags_due = true;
			lb_frag_sweep(worker);
		}
	}
}
