/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode fullnat with what clients and backends may send: the input is read as a sequence of segments and datagrams of some
 * connections, whole or damaged, through the real stages. Each frame lies in memory of exactly its size (a sanitizer sees
 * a read beyond it), in one buffer or two. What leaves is checked by code of its own: lengths, checksums, that the
 * data are the client's, and that the backend finds no TOA option but ours.
 *
 * Per packet: | what 1 | flags 1 | sequence number 1 or 5 | acknowledgement 1 or 5 | options 1 + 4 n | data 1 | [split 1]
 * | [damage 1 + 2 n] |, see next_packet().
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>

#include "dataplane/fullnat.h"
#include "fuzz.h"
#include "tests/pipeline/pipeline.h"

#define N_TCP 12u /* client_address x families of client and backend */
#define N_SERVICES 16u /* and proxy_v2 over UDP */
#define CLIENT_PORT 40000u
#define MAX_PACKETS 200u
#define MAX_FRAME 1700u

enum { WHAT_SERVICE = 0x0f, WHAT_REPLY = 0x10, WHAT_DAMAGE = 0x20, WHAT_SPLIT = 0x40, WHAT_OTHER_PORT = 0x80 };

static struct pipeline pipeline;

/* What is known of a service's newest connection. Its local port is 0 before it is known. */
static struct side {
	struct lb_addr client, vip, backend, local;
	uint16_t vip_port, backend_port, local_port;
	uint8_t proto;
	enum lb_client_address told;
} sides[N_SERVICES];

struct input {
	const uint8_t *at, *end;
};

struct frame {
	uint8_t bytes[MAX_FRAME];
	unsigned n, l3, l4, data; /* offsets */
	uint8_t proto;
	bool is_ipv4;
};

/* For the message of a failure. */
static const struct frame *frame_in, *frame_out;

static void print_frame(const char *name, const struct frame *frame)
{
	fprintf(stderr, "%s ", name);
	for (unsigned i = 0; frame != NULL && i < frame->n; i++)
		fprintf(stderr, "%02x", frame->bytes[i]);
	fputc('\n', stderr);
}

static void fail(const char *what)
{
	fprintf(stderr, "fuzz_fullnat: %s\n", what);
	print_frame("in ", frame_in);
	print_frame("out", frame_out);
	abort();
}

static uint8_t byte(struct input *input)
{
	return input->at < input->end ? *input->at++ : 0;
}

// Small ones count from @p base: within a header of the PROXY protocol and near it; others are any.
static uint32_t number(struct input *input, uint32_t base)
{
	uint8_t first = byte(input);
	uint32_t value = 0;

	if (first != 255)
		return base + first - 2;
	for (unsigned i = 0; i < 4; i++)
		value = value << 8 | byte(input);
	return value;
}

static struct lb_addr address(const char *format, unsigned n)
{
	struct lb_addr addr;
	char text[64];

	snprintf(text, sizeof(text), format, n);
	if (lb_addr_parse(text, &addr) < 0)
		abort();
	return addr;
}

static void configure(void)
{
	static const char *const locals[] = {"192.0.2.10", "2001:db8:10::10"};

	pipeline_sync_begin(&pipeline);
	pipeline_locals(&pipeline, locals, 2);
	for (uint16_t i = 0; i < N_SERVICES; i++) {
		bool client4 = i & 1, server4 = i & 2;
		struct side *side = &sides[i];
		struct lb_msg msg = {.op = LB_OP_SERVICE_SET};
		uint16_t slots[13];
		char text[64];

		*side = (struct side){.client = address(client4 ? "198.51.100.%u" : "2001:db8:c::%x", 7),
			.vip = address(client4 ? "203.0.113.%u" : "2001:db8::%x", 10u + i),
			.backend = address(server4 ? "10.0.0.%u" : "fd00::%x", 10u + i),
			.local = address(server4 ? "192.0.2.%u" : "2001:db8:10::%u", 10), .vip_port = 80,
			.backend_port = 8080, .proto = i < N_TCP ? IPPROTO_TCP : IPPROTO_UDP,
			.told = i < N_TCP ? (enum lb_client_address)(i / 4) : LB_CLIENT_ADDRESS_PROXY_V2};
		msg.service = (struct lb_msg_service){.id = i, .idle_timeout_ms = 60000, .mode = LB_MODE_FULLNAT,
			.client_address = (uint8_t)side->told,
			.key = {.addr = side->vip, .port_be = RTE_BE16(80), .proto = side->proto}};
		if (pipeline_command(&pipeline, &msg, NULL) < 0)
			abort();
		pipeline_backend(&pipeline, i, i, lb_addr_format(&side->backend, text), 8080, LB_BACKEND_UP);
		for (unsigned k = 0; k < 13; k++)
			slots[k] = i;
		if (pipeline_publish(&pipeline, i, slots, 13) < 0)
			abort();
	}
	pipeline_sync_end(&pipeline);
}

static void start(void)
{
	if (pipeline.pool != NULL)
		return;
	pipeline_start_eal_alone(512);
	pipeline_start(&pipeline, 1, 4096, 255);
	configure();
}

static void finish(void) __attribute__((destructor));
static void finish(void)
{
	if (pipeline.pool != NULL)
		pipeline_stop(&pipeline); // its files too
}

// Each input begins without connections.
static void forget(void)
{
	static uint8_t everyone[LB_MAX_BACKENDS + 1];

	memset(everyone, 1, sizeof(everyone));
	lb_sessions_purge_range(&pipeline.worker->sessions, everyone, 0, pipeline.worker->sessions.n_entries);
	for (unsigned i = 0; i < N_SERVICES; i++)
		sides[i].local_port = 0;
}

static uint32_t add_up(uint32_t sum, const uint8_t *bytes, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

// Over pseudo header, L4 header and data; 0: right.
static uint16_t l4_sum(const struct frame *frame, unsigned n_l4)
{
	const uint8_t *l3 = frame->bytes + frame->l3;
	uint32_t sum = frame->is_ipv4 ? add_up(0, l3 + 12, 8) : add_up(0, l3 + 8, 32);

	return fold(add_up(sum + frame->proto + n_l4, frame->bytes + frame->l4, n_l4));
}

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

static unsigned get16(const uint8_t *at)
{
	return at[0] * 256u + at[1];
}

static void put_l3(struct frame *frame, const struct lb_addr *src, const struct lb_addr *dst, unsigned n_l4)
{
	uint8_t *l3 = frame->bytes + frame->l3;

	if (frame->is_ipv4) {
		put16(frame->bytes + 12, 0x0800);
		l3[0] = 0x45;
		put16(l3 + 2, 20 + n_l4);
		l3[8] = 64;
		l3[9] = frame->proto;
		memcpy(l3 + 12, src->bytes + 12, 4);
		memcpy(l3 + 16, dst->bytes + 12, 4);
		put16(l3 + 10, fold(add_up(0, l3, 20)));
	} else {
		put16(frame->bytes + 12, 0x86dd);
		l3[0] = 0x60;
		put16(l3 + 4, n_l4);
		l3[6] = frame->proto;
		l3[7] = 64;
		memcpy(l3 + 8, src, 16);
		memcpy(l3 + 24, dst, 16);
	}
}

// A whole packet, with right checksums.
static void next_packet(struct input *input, const struct side *side, uint8_t what, struct frame *frame)
{
	bool is_reply = what & WHAT_REPLY, is_tcp = side->proto == IPPROTO_TCP;
	uint8_t flags = byte(input);
	uint32_t seq = number(input, 1000), ack = number(input, 1000);
	unsigned n_options = byte(input) % 11u * 4u, n_data, n_header;
	uint8_t *l4;

	memset(frame, 0, sizeof(*frame));
	frame->is_ipv4 = lb_addr_is_ipv4(is_reply ? &side->backend : &side->client);
	frame->proto = side->proto;
	frame->l3 = 14;
	frame->l4 = frame->is_ipv4 ? 34 : 54;
	l4 = frame->bytes + frame->l4;
	put16(l4, is_reply ? side->backend_port : CLIENT_PORT + (what & WHAT_OTHER_PORT ? 1 : 0));
	put16(l4 + 2, is_reply ? side->local_port : side->vip_port);
	if (is_tcp) {
		n_header = 20 + n_options;
		put32(l4 + 4, seq);
		put32(l4 + 8, ack);
		l4[12] = (uint8_t)(n_header / 4 << 4);
		l4[13] = flags;
		for (unsigned i = 0; i < n_options; i++)
			l4[20 + i] = byte(input);
	} else {
		n_header = 8;
	}
	n_data = byte(input) * 6u; // up to 1530: larger than the MTU too
	for (unsigned i = 0; i < n_data; i++)
		l4[n_header + i] = (uint8_t)(i * 7 + flags);
	frame->data = frame->l4 + n_header;
	frame->n = frame->data + n_data;
	if (!is_tcp)
		put16(l4 + 4, 8 + n_data);
	memset(frame->bytes, 2, 12);
	put_l3(frame, is_reply ? &side->backend : &side->client, is_reply ? &side->local : &side->vip,
		n_header + n_data);
	if (is_tcp || !frame->is_ipv4 || (flags & 1) == 0) // UDP over IPv4 may have none
		put16(l4 + (is_tcp ? 16 : 6), l4_sum(frame, n_header + n_data));
}

static void damage(struct input *input, struct frame *frame)
{
	for (unsigned n = byte(input) % 8u + 1; n != 0; n--) {
		unsigned at = byte(input) % (frame->n < 100 ? frame->n : 100);
		uint8_t value = byte(input);

		if (at == 0)
			frame->n = 14 + value % (frame->n - 13); // cut off
		else
			frame->bytes[at] ^= value;
	}
}

static struct rte_mbuf *mbuf_of(const struct frame *frame, unsigned n_first)
{
	struct rte_mbuf *mbuf;

	if (n_first == 0 || n_first >= frame->n)
		return pipeline_mbuf_exact(&pipeline, frame->bytes, frame->n);
	mbuf = pipeline_mbuf_exact(&pipeline, frame->bytes, n_first);
	if (rte_pktmbuf_chain(mbuf, pipeline_mbuf_exact(&pipeline, frame->bytes + n_first, frame->n - n_first)) != 0)
		abort();
	return mbuf;
}

// What left, read anew. Everything in it must hang together.
static void read_frame(struct rte_mbuf *mbuf, struct frame *frame)
{
	const uint8_t *got;
	unsigned n_ip;

	memset(frame, 0, sizeof(*frame));
	if (mbuf->pkt_len > MAX_FRAME || mbuf->pkt_len < 14 + 20)
		fail("length of the frame");
	got = rte_pktmbuf_read(mbuf, 0, mbuf->pkt_len, frame->bytes);
	if (got == NULL)
		fail("segments");
	if (got != frame->bytes)
		memcpy(frame->bytes, got, mbuf->pkt_len);
	frame->l3 = get16(frame->bytes + 12) == 0x8100 ? 18 : 14;
	frame->is_ipv4 = frame->bytes[frame->l3] >> 4 == 4;
	frame->l4 = frame->l3 + (frame->is_ipv4 ? (frame->bytes[frame->l3] & 15) * 4u : 40);
	frame->proto = frame->bytes[frame->l3 + (frame->is_ipv4 ? 9 : 6)];
	n_ip = frame->is_ipv4 ? get16(frame->bytes + frame->l3 + 2) : get16(frame->bytes + frame->l3 + 4) + 40;
	if (frame->l3 + n_ip > mbuf->pkt_len)
		fail("length in the IP header");
	if (frame->is_ipv4 && fold(add_up(0, frame->bytes + frame->l3, frame->l4 - frame->l3)) != 0)
		fail("IP checksum");
	frame->n = frame->l3 + n_ip;
}

// Damage may have put an extension header, or another protocol, in: then only the above can be said.
static bool has_plain_l4(const struct frame *frame, const struct side *side)
{
	return frame->proto == side->proto && frame->l4 + (side->proto == IPPROTO_TCP ? 20 : 8) <= frame->n;
}

static void check_l4(struct frame *frame, bool right_sum)
{
	const uint8_t *l4 = frame->bytes + frame->l4;
	unsigned n_l4 = frame->n - frame->l4;

	frame->data = frame->l4 + (frame->proto == IPPROTO_TCP ? (l4[12] >> 4) * 4u : 8);
	if (frame->data > frame->n || frame->data < frame->l4 + 8)
		fail("length of the L4 header");
	if (frame->proto == IPPROTO_UDP && get16(l4 + 4) != n_l4 && right_sum)
		fail("length in the UDP header");
	if (right_sum && (frame->proto == IPPROTO_TCP || get16(l4 + 6) != 0) && l4_sum(frame, n_l4) != 0)
		fail("L4 checksum");
}

// As Linux reads options: kinds without length 0 and 1, nothing behind a malformed one.
static void check_options(const struct frame *frame, const struct frame *in, const struct side *side)
{
	const uint8_t *at = frame->bytes + frame->l4 + 20, *first = at, *end = frame->bytes + frame->data;
	const uint8_t *client = in->bytes + in->l3 + (in->is_ipv4 ? 12 : 8), *port = in->bytes + in->l4;
	unsigned n_addr = in->is_ipv4 ? 4 : 16;

	while (at < end && *at != 0) {
		if (*at == 1) {
			at++;
			continue;
		}
		if (end - at < 2 || at[1] < 2 || at[1] > end - at)
			return;
		if (*at == 254 && (side->told != LB_CLIENT_ADDRESS_TOA || at != first || at[1] != 4 + n_addr ||
					  memcmp(at + 2, port, 2) != 0 || memcmp(at + 4, client, n_addr) != 0))
			fail("a TOA option that is not ours");
		at += at[1];
	}
}

// The data that came in are what goes out, but for a header in front, and for what a SYN brings before that.
static void check_data(const struct frame *in, const struct frame *out, const struct side *side, bool is_reply)
{
	unsigned n_in = in->n - in->data, n_out = out->n - out->data;
	bool is_proxy = side->told == LB_CLIENT_ADDRESS_PROXY_V2 && !is_reply;

	if (is_proxy && side->proto == IPPROTO_TCP && (in->bytes[in->l4 + 13] & 2) != 0) {
		if (n_out != 0)
			fail("data in a SYN");
		return;
	}
	if (is_proxy && n_out != n_in) {
		if (n_out - n_in != (lb_addr_is_ipv4(&side->client) ? 28u : 52u) ||
			memcmp(out->bytes + out->data, "\r\n\r\n\0\r\nQUIT\n\x21", 13) != 0)
			fail("PROXY header");
	} else if (n_in != n_out) {
		fail("length of the data");
	}
	if (memcmp(out->bytes + out->n - n_in, in->bytes + in->data, n_in) != 0)
		fail("data");
}

static void check(struct rte_mbuf *mbuf, const struct frame *in, struct side *side, uint8_t what)
{
	bool is_reply = what & WHAT_REPLY, is_whole = (what & WHAT_DAMAGE) == 0;
	struct frame out;

	frame_in = in;
	frame_out = &out;
	read_frame(mbuf, &out);
	if (out.n - out.l3 > 1500 && in->n - in->l3 <= 1500)
		fail("grown beyond the MTU");
	if (!is_whole && !has_plain_l4(&out, side))
		return;
	check_l4(&out, is_whole);
	if (side->proto == IPPROTO_TCP && !is_reply)
		check_options(&out, in, side);
	if (!is_whole)
		return;
	check_data(in, &out, side, is_reply);
	frame_out = NULL;
	if (!is_reply && (what & WHAT_OTHER_PORT) == 0)
		side->local_port = (uint16_t)get16(out.bytes + out.l4);
}

static void pass(struct rte_mbuf *mbuf, const struct frame *in, struct side *side, uint8_t what)
{
	struct lb_worker *worker = pipeline.worker;
	struct lb_burst *burst = &worker->burst;
	uint8_t verdict;

	burst->n = 1;
	burst->port = 0;
	burst->mbufs[0] = mbuf;
	lb_worker_process(worker);
	verdict = burst->packets[0].verdict;
	if (verdict >= LB_VERDICT_N)
		fail("verdict");
	// Damage may make it a packet of another service, or of another backend.
	if ((verdict == LB_VERDICT_FORWARD || verdict == LB_VERDICT_REPLY) && (burst->held & 1) == 0 &&
		burst->packets[0].service == side - sides && (what & WHAT_REPLY) == (verdict == LB_VERDICT_REPLY) * WHAT_REPLY)
		check(burst->mbufs[0], in, side, what);
	pipeline_free_burst(&pipeline);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input input = {.at = data, .end = data + len};

	start();
	forget();
	for (unsigned n = 0; n < MAX_PACKETS && input.at < input.end; n++) {
		uint8_t what = byte(&input);
		struct side *side = &sides[what & WHAT_SERVICE];
		struct frame frame;
		unsigned n_first;

		next_packet(&input, side, what, &frame);
		n_first = what & WHAT_SPLIT ? byte(&input) : 0;
		if (what & WHAT_DAMAGE)
			damage(&input, &frame);
		pass(mbuf_of(&frame, n_first), &frame, side, what);
	}
	pipeline_expire_fragments(&pipeline);
	if (rte_mempool_in_use_count(pipeline.pool) != 0)
		fail("a buffer is lost");
	return 0;
}
