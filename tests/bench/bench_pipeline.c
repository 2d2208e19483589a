/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cycles per packet of the real stages, all that a worker does but for the NIC: parse, classify, flow, rewrite, with counters.
 * Packets are laid out afresh before each timed stretch of 64 bursts, so their bytes are in the cache, as a NIC that writes to
 * the last-level cache leaves them, only nearer. Flows come in random order, and the flow table of each worker has room for a
 * million, which is the default of lb-dataplane, or for all of them, whichever is more. What comes out is checked in every
 * stretch. Mode fullnat comes last, since its stage sees every packet from the first such service on. With two workers, each
 * has a core, a flow table and half of the flows, as RSS would share them out.
 *
 * Two things are the machine's and not the stages', and kept out where it can be told. Buffers of packets are small, but in
 * one scenario: a hypervisor may give huge pages in small ones, and then packets in buffers of 2 KB need more translations than
 * a CPU remembers (measure_loads()). And a stretch does not count if the core was slower than it has been (core_is_slow()).
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "dataplane/flowmem.h"
#include "dataplane/fullnat.h"
#include "dataplane/stages.h"
#include "lb/maglev.h"
#include "tests/bench/bench.h"
#include "tests/pipeline/pipeline.h"

#define STRETCH_BURSTS 64u
#define STRETCH_PKTS (STRETCH_BURSTS * LB_BURST)
#define N_SLOTS 65537u
#define RUNS 7u
#define DEFAULT_BACKENDS 10u // not named in results
#define NEW_IN 8u // KIND_MIX: one packet in so many is the SYN of a new flow
#define ISN 0x10000u // of either side
#define BUFFER_BYTES 256u // behind the headroom: 60 bytes and what modes put into them
#define LARGE_BYTES 2048u

enum kind { KIND_HIT, KIND_MISS, KIND_SYN, KIND_OTHER, KIND_REPLY, KIND_MIX };
static const char *const kind_names[] = {"hit", "miss", "syn", "other", "reply", "mix"};

struct scenario {
	enum kind kind;
	unsigned family;
	uint8_t proto;
	uint32_t n_flows;
	unsigned n_services;
	unsigned n_backends;
	enum lb_mode mode; // default: nat
	enum lb_client_address client_address; // mode fullnat
	unsigned backend_family; // likewise; default: the clients'
	bool large_buffers;
};

// A worker and the packets it is given.
struct lane {
	struct lb_worker *worker;
	struct rte_mbuf *buffers[2][STRETCH_PKTS]; /* small ones, large ones */
	struct rte_mbuf **mbufs; /* the scenario's */
	uint32_t n_new; /* KIND_MIX: SYNs so far */
	uint64_t best_spin; /* see core_is_slow(); 0: none yet */
	unsigned idx, n; /* takes every n-th flow, from idx on */
};

#define MAX_LANES 2u

static struct pipeline pipeline;
static struct lane lanes[MAX_LANES];
static unsigned n_lanes = 1; /* that there are cores for */
static uint32_t *order; /* flow numbers in random order */
static const struct lb_session **replied; /* of mode fullnat, KIND_REPLY: whose replies are laid out */
static uint32_t n_replied;
static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

static void vip_of(const struct scenario *s, unsigned service, char *text, size_t n_bytes)
{
	snprintf(text, n_bytes, s->family == 4 ? "198.18.%u.%u" : "2001:db8:0:%x::%x", service / 250,
		service % 250 + 1);
}

static unsigned family_of_backends(const struct scenario *s)
{
	return s->backend_family != 0 ? s->backend_family : s->family;
}

static bool changes_port(const struct scenario *s)
{
	return !lb_mode_keeps_port(s->mode);
}

static void backend_of(const struct scenario *s, unsigned service, unsigned backend, char *text,
	size_t n_bytes)
{
	unsigned n = service * s->n_backends + backend;

	snprintf(text, n_bytes, family_of_backends(s) == 4 ? "10.%u.%u.%u" : "fd00:%x:%x::%x", n / 62500,
		n / 250 % 250, n % 250 + 1);
}

static void sweep_sessions(struct lb_worker *worker)
{
	if (pipeline.dp.fullnat != NULL)
		lb_sessions_sweep(&worker->sessions, worker->tick, worker->sessions.n_entries);
}

static void set_service(const struct scenario *s, uint16_t id, const char *vip)
{
	struct lb_msg msg = {.op = LB_OP_SERVICE_SET,
		.service = {.id = id, .idle_timeout_ms = 60000, .mode = (uint8_t)s->mode,
			.client_address = (uint8_t)s->client_address,
			.gue_port_be = s->mode == LB_MODE_GUE ? RTE_BE16(6080) : 0,
			.key = {.port_be = RTE_BE16(80), .proto = s->proto}}};

	if (lb_addr_parse(vip, &msg.service.key.addr) < 0 || pipeline_command(&pipeline, &msg, NULL) < 0)
		abort();
}

// Services with their backends and Maglev tables; replaces what the scenario before had.
static void configure(const struct scenario *s)
{
	struct lb_maglev_node *nodes = calloc(s->n_backends, sizeof(*nodes));
	bool *eligible = calloc(s->n_backends, sizeof(*eligible));
	uint32_t n_slots = s->n_services == 1 ? N_SLOTS : 4093;
	uint16_t *slots = calloc(n_slots, sizeof(*slots));
	char (*names)[64] = calloc(s->n_backends, sizeof(*names));

	pipeline_sync_begin(&pipeline);
	pipeline_sync_end(&pipeline); // nothing mentioned: all gone
	pipeline_sync_begin(&pipeline);
	// Ids of the scenario before may still be named by flow entries: wait as a sweep would.
	for (unsigned i = 0; i < n_lanes; i++) {
		struct lb_worker *worker = lanes[i].worker;

		lb_flowtable_sweep(&worker->flowtable, worker->tick, worker->flowtable.n_buckets);
		sweep_sessions(worker);
		worker->sweeps += 2;
	}
	// Ports for a million sessions of mode fullnat; tunnels take the first of a family.
	pipeline_locals(&pipeline, (const char *const[]){"192.0.2.10", "2001:db8:ffff::10", "192.0.2.11",
		"2001:db8:ffff::11", "192.0.2.12", "2001:db8:ffff::12", "192.0.2.13", "2001:db8:ffff::13"}, 8);
	for (unsigned service = 0; service < s->n_services; service++) {
		struct lb_maglev *maglev;
		char text[64];

		vip_of(s, service, text, sizeof(text));
		set_service(s, (uint16_t)service, text);
		for (unsigned i = 0; i < s->n_backends; i++) {
			uint16_t id = (uint16_t)(service * s->n_backends + i);

			backend_of(s, service, i, names[i], sizeof(names[i]));
			pipeline_backend(&pipeline, id, (uint16_t)service, names[i],
				changes_port(s) ? 8080 : 80, LB_BACKEND_UP);
			nodes[i] = (struct lb_maglev_node){
				.name = names[i], .weight = 1, .id = id, .base = true};
			eligible[i] = true;
		}
		if (lb_maglev_create(n_slots, nodes, s->n_backends, &maglev) < 0 ||
			lb_maglev_fill(maglev, eligible, slots) < 0 ||
			pipeline_publish(&pipeline, (uint16_t)service, slots, n_slots) < 0)
			abort();
		lb_maglev_destroy(maglev);
	}
	pipeline_sync_end(&pipeline);
	free(nodes);
	free(eligible);
	free(slots);
	free(names);
}

static void lay_out_l3(const struct scenario *s, unsigned family, uint8_t *l3, const struct lb_addr *src,
	const struct lb_addr *dst, uint16_t l4_bytes)
{
	if (family == 4) {
		struct rte_ipv4_hdr *ip = (void *)l3;

		*ip = (struct rte_ipv4_hdr){.version_ihl = 0x45, .time_to_live = 64,
			.next_proto_id = s->proto,
			.total_length = rte_cpu_to_be_16((uint16_t)(20 + l4_bytes)),
			.src_addr = lb_addr_ipv4_be(src), .dst_addr = lb_addr_ipv4_be(dst)};
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	} else {
		struct rte_ipv6_hdr *ip = (void *)l3;

		*ip = (struct rte_ipv6_hdr){.vtc_flow = RTE_BE32(0x60000000), .hop_limits = 64,
			.proto = s->proto, .payload_len = rte_cpu_to_be_16(l4_bytes)};
		memcpy(ip->src_addr, src, 16);
		memcpy(ip->dst_addr, dst, 16);
	}
}

// The connection as a fullnat backend sees it, and its answer.
static struct lb_flow_key key_of_reply(uint32_t flow)
{
	return lb_fullnat_reply_key(&pipeline.dp, replied[flow % n_replied]);
}

// What the client sends as flow number `flow`, or what answers it.
static struct lb_flow_key key_of(const struct scenario *s, uint32_t flow, const struct lb_addr *dsts)
{
	struct lb_addr client = lb_addr_from_ipv4(rte_cpu_to_be_32(0x64000000u + (flow >> 14)));
	struct lb_addr dst = dsts[flow % s->n_services];
	uint16_t port_be = rte_cpu_to_be_16((uint16_t)(1024 + (flow & 16383)));

	if (s->mode == LB_MODE_FULLNAT && s->kind == KIND_REPLY)
		return key_of_reply(flow);
	if (s->family == 6)
		client = (struct lb_addr){.u32 = {RTE_BE32(0x20010db8), 1, 0, client.u32[3]}};
	if (s->kind == KIND_OTHER)
		dst.bytes[13] ^= 0x80;
	if (s->kind == KIND_REPLY)
		return (struct lb_flow_key){.src = dst, .dst = client, .sport_be = RTE_BE16(8080), .dport_be = port_be};
	return (struct lb_flow_key){.src = client, .dst = dst, .sport_be = port_be, .dport_be = RTE_BE16(80)};
}

// One packet of flow number `flow`, 60 bytes or what the headers need.
static void lay_out(const struct scenario *s, struct rte_mbuf *mbuf, uint32_t flow,
	const struct lb_addr *dsts, bool syn)
{
	uint8_t *frame = (uint8_t *)mbuf->buf_addr + RTE_PKTMBUF_HEADROOM;
	unsigned family = s->kind == KIND_REPLY ? family_of_backends(s) : s->family;
	uint8_t *l4 = frame + 14 + (family == 4 ? 20 : 40);
	uint16_t l4_bytes = s->proto == IPPROTO_TCP ? 20 : 26;
	struct lb_flow_key key = key_of(s, flow, dsts);
	uint16_t length = (uint16_t)RTE_MAX(l4 + l4_bytes - frame, 60);

	memset(frame, 2, 12);
	frame[12] = family == 4 ? 0x08 : 0x86;
	frame[13] = family == 4 ? 0x00 : 0xdd;
	lay_out_l3(s, family, frame + 14, &key.src, &key.dst, l4_bytes);
	memset(l4, 0, l4_bytes);
	memcpy(l4, &key.sport_be, 2);
	memcpy(l4 + 2, &key.dport_be, 2);
	if (s->proto == IPPROTO_TCP) {
		struct rte_tcp_hdr *tcp = (void *)l4;

		tcp->data_off = 0x50;
		tcp->tcp_flags = syn ? 0x02 : 0x10;
		tcp->sent_seq = rte_cpu_to_be_32(syn ? ISN : ISN + 1000);
		tcp->recv_ack = rte_cpu_to_be_32(syn ? 0 : ISN + 1000);
		tcp->cksum = family == 4 ? rte_ipv4_udptcp_cksum((void *)(frame + 14), tcp)
					    : rte_ipv6_udptcp_cksum((void *)(frame + 14), tcp);
	} else {
		struct rte_udp_hdr *udp = (void *)l4;

		udp->dgram_len = rte_cpu_to_be_16(l4_bytes);
		udp->dgram_cksum = family == 4 ? rte_ipv4_udptcp_cksum((void *)(frame + 14), udp)
						: rte_ipv6_udptcp_cksum((void *)(frame + 14), udp);
	}
	mbuf->data_off = RTE_PKTMBUF_HEADROOM;
	mbuf->data_len = length;
	mbuf->pkt_len = length;
}

// Bytes of the outer headers, which are of the family of the inner one.
static unsigned outer_bytes(const struct scenario *s)
{
	if (!lb_mode_is_tunnel(s->mode))
		return 0;
	return (s->family == 4 ? 20 : 40) + (s->mode == LB_MODE_GUE ? 12 : 0);
}

static void fail(const char *what)
{
	fprintf(stderr, "bench_pipeline: wrong output: %s\n", what);
	abort();
}

// Bytes of the PROXY header, or of the TOA option.
static unsigned told_bytes(const struct scenario *s)
{
	bool is_ipv4 = s->family == 4;

	return s->client_address == LB_CLIENT_ADDRESS_TOA	 ? is_ipv4 ? 8 : 20
	       : s->client_address == LB_CLIENT_ADDRESS_PROXY_V2 ? is_ipv4 ? 28 : 52
								 : 0;
}

// Mode fullnat: both sides' addresses and ports, and the numbers behind a PROXY header.
static void check_fullnat(const struct scenario *s, const struct lb_worker *worker, unsigned i, const uint8_t *l4,
	bool syn)
{
	const struct lb_burst *burst = &worker->burst;
	const struct lb_backend *backend = &worker->dp->backends[burst->packets[i].backend];
	const struct rte_tcp_hdr *tcp = (const void *)l4;
	unsigned family = s->kind == KIND_REPLY ? s->family : family_of_backends(s);
	const uint8_t *dst = l4 - (family == 4 ? 4 : 16), *src = dst - (family == 4 ? 4 : 16);
	const struct lb_addr *wanted = s->kind == KIND_REPLY ? &backend->vip : &backend->addr;
	unsigned n_told = told_bytes(s);
	uint32_t shift = s->client_address == LB_CLIENT_ADDRESS_PROXY_V2 && !syn ? n_told : 0;

	if (memcmp(s->kind == KIND_REPLY ? src : dst, wanted->bytes + (family == 4 ? 12 : 0), family == 4 ? 4 : 16) != 0)
		fail("address");
	if (s->kind != KIND_REPLY &&
		memcmp(src, worker->dp->locals->addrs[family == 4 ? 0 : 1].bytes + (family == 4 ? 12 : 0),
			family == 4 ? 3 : 15) != 0)
		fail("local address");
	if (s->kind == KIND_REPLY && (backend->service >= s->n_services || *(const uint16_t *)l4 != RTE_BE16(80)))
		fail("VIP's port");
	if (s->proto != IPPROTO_TCP)
		return;
	if (rte_be_to_cpu_32(s->kind == KIND_REPLY ? tcp->recv_ack : tcp->sent_seq) !=
		(syn ? ISN : ISN + 1000) + (s->kind == KIND_REPLY ? -shift : shift))
		fail("sequence number");
	if (syn && s->client_address == LB_CLIENT_ADDRESS_TOA && (l4[20] != 254 || l4[21] != n_told))
		fail("TOA option");
}

// What came out of the last burst must be what the mode is to make of it.
static void check(const struct scenario *s, const struct lane *lane, bool syn)
{
	const struct lb_burst *burst = &lane->worker->burst;
	uint8_t expected = s->kind == KIND_OTHER   ? LB_VERDICT_HOST
			   : s->kind == KIND_REPLY ? LB_VERDICT_REPLY
						   : LB_VERDICT_FORWARD;

	for (unsigned i = 0; i < burst->n; i++) {
		const uint8_t *frame = rte_pktmbuf_mtod(burst->mbufs[i], const uint8_t *);
		const struct rte_ipv4_hdr *outer = (const void *)(frame + 14);
		const struct rte_ipv4_hdr *ip = (const void *)(frame + 14 + outer_bytes(s));
		unsigned family = s->kind == KIND_REPLY ? s->family : lb_mode_is_tunnel(s->mode) ? s->family
													: family_of_backends(s);
		const uint8_t *l4 = (const uint8_t *)ip + (family == 4 ? 20 : 40);
		uint16_t port, port_wanted = changes_port(s) ? RTE_BE16(8080) : RTE_BE16(80);

		if (burst->packets[i].verdict != expected)
			fail(lb_verdict_name(burst->packets[i].verdict));
		if (expected == LB_VERDICT_HOST)
			continue;
		if (family == 4 && rte_ipv4_cksum(outer) != 0)
			fail("outer IP checksum");
		if (s->family == 6 && s->mode == LB_MODE_GUE &&
			rte_ipv6_udptcp_cksum_verify((const void *)outer, frame + 54) != 0)
			fail("outer UDP checksum");
		memcpy(&port, l4 + (s->kind == KIND_REPLY ? 0 : 2), 2);
		if (port != (s->kind == KIND_REPLY ? RTE_BE16(80) : port_wanted))
			fail("port");
		if (family == 4 && rte_ipv4_cksum(ip) != 0)
			fail("IP checksum");
		if (s->mode == LB_MODE_FULLNAT)
			check_fullnat(s, lane->worker, i, l4, syn);
		if ((family == 4 ? rte_ipv4_udptcp_cksum_verify(ip, l4)
					: rte_ipv6_udptcp_cksum_verify((const void *)ip, l4)) != 0)
			fail("TCP or UDP checksum");
	}
}

#define SPIN_ROUNDS 500u // less than a microsecond
#define SLOW 1.15

/*
 * Cycles of a loop of which nothing waits and that has nothing to do with memory: how fast the core is now. It is slower while
 * another guest of the host is on the core's other thread, or has made the host lower the clock.
 */
static uint64_t spin_cycles(void)
{
	uint64_t a = 0, b = 0, c = 0, d = 0, start = rte_rdtsc_precise();

	for (unsigned i = 0; i < SPIN_ROUNDS; i++)
		for (unsigned k = 0; k < 4; k++) {
			a++, b++, c++, d++;
			__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d)); // one by one
		}
	return rte_rdtsc_precise() - start;
}

// Whether the lane's core is slower than it has been.
static bool core_is_slow(struct lane *lane)
{
	uint64_t now = spin_cycles();

	if (lane->best_spin == 0 || now < lane->best_spin)
		lane->best_spin = now;
	return (double)now > SLOW * (double)lane->best_spin;
}

struct stretch {
	uint64_t cycles;
	bool slow; /* its core was, before or after it */
};

// Run a stretch of the lane's flows, from its @p from-th on, through the stages.
static struct stretch run_stretch(
	const struct scenario *s, struct lane *lane, const struct lb_addr *dsts, uint64_t from, bool syn)
{
	struct lb_burst *burst = &lane->worker->burst;
	struct stretch done;
	uint64_t start;

	for (unsigned i = 0; i < STRETCH_PKTS; i++) {
		bool is_new = s->kind == KIND_MIX && i % NEW_IN == NEW_IN - 1;
		uint32_t flow = is_new ? s->n_flows + lane->n_new++ : order[((from + i) * lane->n + lane->idx) % s->n_flows];

		lay_out(s, lane->mbufs[i], flow, dsts, syn || is_new);
	}
	done.slow = core_is_slow(lane);
	start = rte_rdtsc_precise();
	for (unsigned b = 0; b < STRETCH_BURSTS; b++) {
		burst->n = LB_BURST;
		burst->port = 0;
		memcpy(burst->mbufs, lane->mbufs + b * LB_BURST, LB_BURST * sizeof(lane->mbufs[0]));
		for (unsigned i = 0; i < LB_BURST; i++)
			rte_prefetch0(rte_pktmbuf_mtod(burst->mbufs[i], void *));
		lb_worker_process(lane->worker);
		lb_count_verdicts(lane->worker, burst);
	}
	done.cycles = rte_rdtsc_precise() - start;
	done.slow |= core_is_slow(lane);
	check(s, lane, syn);
	return done;
}

// And what the tables remember of them until the second round of the sweep.
static void forget_flows(void)
{
	static uint8_t everyone[LB_MAX_BACKENDS + 1];

	memset(everyone, 1, sizeof(everyone));
	for (unsigned i = 0; i < n_lanes; i++) {
		struct lb_worker *worker = lanes[i].worker;

		lb_flowtable_purge(&worker->flowtable, everyone);
		for (unsigned round = 0; round < 2; round++)
			lb_flowtable_sweep(&worker->flowtable, worker->tick, worker->flowtable.n_buckets);
		if (pipeline.dp.fullnat != NULL)
			lb_sessions_purge_range(&worker->sessions, everyone, 0, worker->sessions.n_entries);
	}
}

#define DEFAULT_FLOWS 1000000u

// Empty tables with room for so many flows and an eighth more.
static void fit_tables(uint32_t n_flows)
{
	uint64_t room = RTE_MAX(n_flows, DEFAULT_FLOWS) * UINT64_C(9) / 8;

	forget_flows();
	if (pipeline.dp.flows_per_worker == room)
		return;
	pipeline.dp.flows_per_worker = room;
	lb_flowmem_adopt(&pipeline.dp);
}

// One run of one lane, on its core.
struct run {
	const struct scenario *s;
	struct lane *lane;
	const struct lb_addr *dsts;
	uint64_t n_pkts;
	bool syn;
	double cycles; /* per packet: the result */
	bool slow; /* its core was, most of the time: cycles are those of all packets, not of those in the rest */
};

static int run_lane(void *arg)
{
	struct run *run = arg;
	uint64_t n_stretches = RTE_MAX(run->n_pkts / STRETCH_PKTS, 1u), n_quiet = 0;
	uint64_t all = 0, quiet = 0;

	for (uint64_t i = 0; i < n_stretches; i++) {
		struct stretch done = run_stretch(run->s, run->lane, run->dsts, i * STRETCH_PKTS, run->syn);

		all += done.cycles;
		if (!done.slow) {
			quiet += done.cycles;
			n_quiet++;
		}
	}
	run->slow = n_quiet * 8 < n_stretches;
	run->cycles = (double)(run->slow ? all : quiet) / (double)((run->slow ? n_stretches : n_quiet) * STRETCH_PKTS);
	return 0;
}

// One run of @p n lanes at once: cycles per packet of the slowest, over n_pkts each. @param slow whether a core was.
static double run_once(
	const struct scenario *s, const struct lb_addr *dsts, uint64_t n_pkts, unsigned n, bool syn, bool *slow)
{
	struct run runs[MAX_LANES];
	double cycles = 0;

	*slow = false;
	for (unsigned i = 0; i < n; i++) {
		lanes[i].n = n;
		runs[i] = (struct run){
			.s = s, .lane = &lanes[i], .dsts = dsts, .n_pkts = n_pkts, .syn = syn};
	}
	for (unsigned i = 1; i < n; i++)
		rte_eal_remote_launch(run_lane, &runs[i], lanes[i].worker->lcore);
	run_lane(&runs[0]);
	for (unsigned i = 1; i < n; i++)
		rte_eal_wait_lcore(lanes[i].worker->lcore);
	for (unsigned i = 0; i < n; i++) {
		cycles = RTE_MAX(cycles, runs[i].cycles);
		*slow |= runs[i].slow;
	}
	return cycles;
}

static unsigned n_slow_runs;  // all in all: taken for results none the less
static unsigned patience; // likewise: how many more may be made again

// The same; again after a while, if a core was slow.
static double run(const struct scenario *s, const struct lb_addr *dsts, uint64_t n_pkts, unsigned n, bool syn)
{
	double cycles;
	bool slow;

	for (;;) {
		cycles = run_once(s, dsts, n_pkts, n, syn, &slow);
		if (!slow || patience == 0)
			break;
		patience--;
		rte_delay_us_sleep(200000);
		if (s->kind == KIND_MISS)
			forget_flows();
	}
	n_slow_runs += slow;
	return cycles;
}

static void shuffle(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t j = (uint32_t)(((unsigned __int128)next_random() * (i + 1)) >> 64);
		uint32_t swap = order[i];

		order[i] = order[j];
		order[j] = swap;
	}
}

static void name_of(const struct scenario *s, const char *kind, unsigned n_workers, char *name, size_t n_bytes)
{
	static const char *const client_addresses[] = {"", "&client_address=toa", "&client_address=proxy_v2"};
	char backends[32] = "", workers[32] = "", buffer[32] = "";
	const char *other_family = s->backend_family == 0 || s->backend_family == s->family ? ""
				   : s->backend_family == 4				     ? "&backend_family=4"
											     : "&backend_family=6";

	if (s->n_backends != DEFAULT_BACKENDS)
		snprintf(backends, sizeof(backends), "&backends=%u", s->n_backends);
	if (n_workers != 1)
		snprintf(workers, sizeof(workers), "&workers=%u", n_workers);
	if (s->large_buffers)
		snprintf(buffer, sizeof(buffer), "&buffer=%u", LARGE_BYTES);
	snprintf(name, n_bytes, "pipeline/%s/ipv%u/%s/%s?flows=%u&services=%u%s%s%s%s%s", lb_mode_name(s->mode),
		s->family, s->proto == IPPROTO_TCP ? "tcp" : "udp", kind, s->n_flows, s->n_services,
		client_addresses[s->client_address], other_family, backends, workers, buffer);
}

// In cycles per packet.
static void report(const char *name, double *samples)
{
	double min = samples[0];

	for (unsigned i = 1; i < RUNS; i++)
		min = RTE_MIN(min, samples[i]);
	snprintf(bench.note, sizeof(bench.note), "%7.1f Mpps", (double)rte_get_tsc_hz() / min / 1e6);
	bench_result_add(name, "cycles/packet", samples, RUNS);
	bench.note[0] = '\0';
}

/*
 * The first worker's sessions as they are after the handshake and a segment of the backend, which tells that the client's
 * address has arrived.
 */
static void establish(void)
{
	struct lb_sessions *sessions = &lanes[0].worker->sessions;

	n_replied = 0;
	for (uint32_t i = 0; i < sessions->n_entries; i++) {
		struct lb_session *session = &sessions->entries[i];

		if (session->state == LB_FLOW_FREE)
			continue;
		if (session->state == LB_FLOW_SYN)
			session->state = LB_FLOW_ESTABLISHED;
		session->flags |= LB_SESSION_TOLD | LB_SESSION_HEARD;
		replied[n_replied++] = session;
	}
}

// Services, destinations and, for hits, the flows that @p n_workers will meet.
static void prepare(const struct scenario *s, struct lb_addr *dsts, unsigned n_workers)
{
	char text[64];

	configure(s);
	fit_tables(s->n_flows);
	for (unsigned i = 0; i < n_lanes; i++)
		lanes[i].mbufs = lanes[i].buffers[s->large_buffers];
	shuffle(s->n_flows);
	for (unsigned i = 0; i < s->n_services; i++) {
		if (s->kind == KIND_REPLY && s->mode != LB_MODE_FULLNAT)
			backend_of(s, i, 0, text, sizeof(text));
		else
			vip_of(s, i, text, sizeof(text));
		if (lb_addr_parse(text, &dsts[i]) < 0)
			abort();
	}
	if (s->kind == KIND_HIT || s->kind == KIND_MIX || (s->kind == KIND_REPLY && s->mode == LB_MODE_FULLNAT)) {
		struct scenario begin = *s;

		begin.kind = KIND_HIT;
		run_once(&begin, dsts, s->n_flows / n_workers + STRETCH_PKTS, n_workers, true, &(bool){false});
	}
	if (s->mode == LB_MODE_FULLNAT)
		establish();
}

static void measure(const struct scenario *s)
{
	uint64_t n_pkts = bench.quick ? 1u << 19 : 1u << 21;
	struct lb_addr *dsts = calloc(s->n_services, sizeof(*dsts));
	bool syn = s->kind == KIND_MISS || s->kind == KIND_SYN;
	double samples[RUNS];
	char name[128];

	name_of(s, kind_names[s->kind], 1, name, sizeof(name));
	if (!bench_wanted(name)) {
		free(dsts);
		return;
	}
	prepare(s, dsts, 1);
	lanes[0].worker->pressure = s->kind == KIND_SYN; // nothing is recorded, as under a flood
	if (s->kind == KIND_MISS) // each flow once
		n_pkts = RTE_MIN(n_pkts, (uint64_t)s->n_flows);
	lanes[0].n_new = 0;
	if (s->kind == KIND_MIX) // the table has room for the new flows of all runs
		n_pkts = RTE_MIN(n_pkts, UINT64_C(1) << 19);
	for (unsigned i = 0; i < RUNS; i++) {
		if (s->kind == KIND_MISS)
			forget_flows();
		samples[i] = run(s, dsts, n_pkts, 1, syn);
	}
	lanes[0].worker->pressure = false;
	report(name, samples);
	free(dsts);
}

// The second core is not left to others, nor the first one's clock raised, while one worker is measured alone.
static atomic_bool alone_done;

static int spin(void *unused)
{
	while (!atomic_load_explicit(&alone_done, memory_order_relaxed))
		rte_pause();
	return unused != NULL;
}

static double run_alone(struct run *run)
{
	atomic_store(&alone_done, false);
	rte_eal_remote_launch(spin, NULL, lanes[1].worker->lcore);
	run_lane(run);
	atomic_store(&alone_done, true);
	rte_eal_wait_lcore(lanes[1].worker->lcore);
	return run->cycles;
}

// Two workers at once against one, in turns: cycles per packet of the slower one, and what two forward of what one does.
static void measure_workers(const struct scenario *s)
{
	uint64_t n_pkts = bench.quick ? 1u << 19 : 1u << 21;
	struct lb_addr *dsts = calloc(s->n_services, sizeof(*dsts));
	double two[RUNS], ratio[RUNS];
	char name[128], ratio_name[128];

	name_of(s, kind_names[s->kind], 2, name, sizeof(name));
	name_of(s, "scaling", 2, ratio_name, sizeof(ratio_name));
	if (n_lanes == 2 && (bench_wanted(name) || bench_wanted(ratio_name))) {
		prepare(s, dsts, 2);
		for (unsigned i = 0; i < RUNS; i++) {
			struct run alone = {.s = s, .lane = &lanes[0], .dsts = dsts, .n_pkts = n_pkts};

			two[i] = run(s, dsts, n_pkts, 2, false);
			ratio[i] = 2 * run_alone(&alone) / two[i]; // the same half of the flows
		}
		report(name, two);
		bench_result_add(ratio_name, "times one", ratio, RUNS);
	}
	free(dsts);
}

// Last: what comes after it pays for its stage too.
static void measure_fullnat(void)
{
	uint32_t n_flows = 100000;

	for (unsigned family = 4; family <= 6; family += 2) {
		for (enum lb_client_address told = 0; told < LB_CLIENT_ADDRESS_N; told++) {
			measure(&(struct scenario){KIND_HIT, family, IPPROTO_TCP, n_flows, 1, 10, LB_MODE_FULLNAT, told, 0});
			if (bench.quick && family == 6 && told != LB_CLIENT_ADDRESS_NONE)
				continue;
			measure(&(struct scenario){KIND_REPLY, family, IPPROTO_TCP, n_flows, 1, 10, LB_MODE_FULLNAT, told, 0});
			if (told != LB_CLIENT_ADDRESS_PROXY_V2) // whose SYNs are as those of none
				measure(&(struct scenario){
					KIND_MISS, family, IPPROTO_TCP, n_flows, 1, 10, LB_MODE_FULLNAT, told, 0});
		}
		measure(&(struct scenario){KIND_HIT, family, IPPROTO_UDP, n_flows, 1, 10, LB_MODE_FULLNAT, 0, 0});
		measure(&(struct scenario){KIND_HIT, family, IPPROTO_TCP, n_flows, 1, 10, LB_MODE_FULLNAT, 0, 10 - family});
		measure(&(struct scenario){KIND_REPLY, family, IPPROTO_TCP, n_flows, 1, 10, LB_MODE_FULLNAT, 0, 10 - family});
		for (n_flows = 1000; !bench.quick && n_flows <= 1000000; n_flows *= 1000)
			measure(&(struct scenario){KIND_HIT, family, IPPROTO_TCP, n_flows, 1, 10, LB_MODE_FULLNAT, 0, 0});
		n_flows = 100000;
	}
}

#define LOAD_LINES 2048u // 128 KB
#define LOADS 200000u

/*
 * Cycles of a load that waits for the one before, in random order of lines that lie so many bytes @p apart in huge pages and
 * fit into the L2 cache. Where translation is for free, as with huge pages that are such to the host too, lines side by side
 * and lines of other small pages cost the same.
 */
static void measure_loads(unsigned apart)
{
	uint8_t *memory = rte_malloc(NULL, (size_t)LOAD_LINES * apart, 4096);
	double samples[RUNS];
	char name[64];

	snprintf(name, sizeof(name), "pipeline/machine/load?lines=%u&apart=%u", LOAD_LINES, apart);
	if (!bench_wanted(name)) {
		rte_free(memory);
		return;
	}
	if (memory == NULL)
		abort();
	shuffle(LOAD_LINES);
	for (unsigned i = 0; i < LOAD_LINES; i++)
		*(void **)(void *)(memory + (size_t)order[i] * apart) = memory + (size_t)order[(i + 1) % LOAD_LINES] * apart;
	for (unsigned i = 0; i < RUNS; i++) {
		void *volatile *at = (void *)memory;
		uint64_t start = rte_rdtsc_precise();

		for (unsigned k = 0; k < LOADS; k++)
			at = *at;
		samples[i] = (double)(rte_rdtsc_precise() - start) / LOADS;
		if (at == NULL)
			abort();
	}
	bench_result_add(name, "cycles/load", samples, RUNS);
	rte_free(memory);
}

// One pool for each size and lane: what a lane takes lies side by side.
static void take_buffers(struct lane *lane, bool large)
{
	uint16_t n_bytes = (uint16_t)(RTE_PKTMBUF_HEADROOM + (large ? LARGE_BYTES : BUFFER_BYTES));
	struct rte_mempool *pool;
	char name[32];

	snprintf(name, sizeof(name), "lane-%u-%u", lane->idx, n_bytes);
	pool = rte_pktmbuf_pool_create(name, STRETCH_PKTS, 0, 0, n_bytes, SOCKET_ID_ANY);
	if (pool == NULL || rte_pktmbuf_alloc_bulk(pool, lane->buffers[large], STRETCH_PKTS) != 0)
		abort();
}

static void give_buffers(struct lane *lane)
{
	for (unsigned large = 0; large < 2; large++) {
		struct rte_mempool *pool = lane->buffers[large][0]->pool;

		rte_pktmbuf_free_bulk(lane->buffers[large], STRETCH_PKTS);
		rte_mempool_free(pool);
	}
}

// The lanes that there are cores for: the main lcore, and one more.
static void set_up_lanes(void)
{
	unsigned lcore = rte_get_next_lcore(rte_lcore_id(), 1, 0);

	n_lanes = lcore < RTE_MAX_LCORE ? 2 : 1;
	for (unsigned i = 0; i < n_lanes; i++) {
		lanes[i].worker = pipeline.dp.workers[i];
		lanes[i].worker->lcore = i == 0 ? rte_lcore_id() : lcore;
		lanes[i].idx = i;
		lanes[i].n = 1;
		take_buffers(&lanes[i], false);
		take_buffers(&lanes[i], true);
	}
}

int main(int argc, char **argv)
{
	const char *lcores = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? "0,1" : "0";
	const char *const eal_args[] = {"--in-memory", "--no-pci", "--no-telemetry", "-l", lcores, "-m", "512",
		"--log-level", "error", NULL};
	static const uint32_t flows[] = {1, 1000, 100000, 1000000, 10000000};
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP};
	uint32_t max_flows, n_sessions;

	bench_parse_args(argc, argv);
	patience = bench.quick ? 20 : 200;
	max_flows = bench.quick ? 1000000 : 10000000;
	order = malloc(max_flows * sizeof(*order));
	pipeline_start_eal(eal_args);
	pipeline_start(&pipeline, rte_lcore_count(), max_flows + max_flows / 8, 8191);
	n_sessions = bench.quick ? 150000 : 1125000;
	pipeline.dp.sessions_per_worker = n_sessions;
	replied = malloc(n_sessions * sizeof(*replied));
	if (order == NULL || replied == NULL)
		abort();
	set_up_lanes();
	pipeline_sync_begin(&pipeline);
	pipeline_sync_end(&pipeline);
	measure_loads(64);
	measure_loads(4096 + 64);
	for (unsigned family = 4; family <= 6; family += 2) {
		for (unsigned i = 0; i < RTE_DIM(flows) * 2; i++) {
			uint32_t n_flows = flows[i % RTE_DIM(flows)];
			uint8_t proto = protos[i / RTE_DIM(flows)];

			if (n_flows > max_flows ||
				(bench.quick && (n_flows == 1 || (proto == IPPROTO_UDP && n_flows != 100000))))
				continue;
			measure(&(struct scenario){KIND_HIT, family, proto, n_flows, 1, 10});
		}
		for (uint32_t n_flows = 1000000; n_flows <= max_flows; n_flows *= 10) {
			measure(&(struct scenario){KIND_MISS, family, IPPROTO_TCP, n_flows, 1, 10});
			measure(&(struct scenario){KIND_SYN, family, IPPROTO_TCP, n_flows, 1, 10});
		}
		measure(&(struct scenario){KIND_REPLY, family, IPPROTO_TCP, 100000, 1, 10});
		measure(&(struct scenario){KIND_MIX, family, IPPROTO_TCP, 100000, 1, 10});
		measure(&(struct scenario){KIND_OTHER, family, IPPROTO_TCP, 100000, 1, 10});
		for (enum lb_mode mode = LB_MODE_DSR; mode <= LB_MODE_GUE; mode++)
			for (unsigned i = 0; i < RTE_DIM(protos); i++)
				measure(&(struct scenario){KIND_HIT, family, protos[i], 100000, 1, 10, mode});
	}
	measure(&(struct scenario){KIND_HIT, 4, IPPROTO_TCP, 100000, 1, 1000});
	measure(&(struct scenario){KIND_HIT, 4, IPPROTO_TCP, 100000, 100, 10});
	measure(&(struct scenario){KIND_HIT, 4, IPPROTO_TCP, 100000, 1000, 10});
	for (uint32_t n_flows = 1000; n_flows <= 1000000; n_flows *= 1000)
		measure(&(struct scenario){KIND_HIT, 4, IPPROTO_TCP, n_flows, 1, 10, .large_buffers = true});
	measure_workers(&(struct scenario){KIND_HIT, 4, IPPROTO_TCP, 100000, 1, 10});
	measure_workers(&(struct scenario){KIND_HIT, 4, IPPROTO_TCP, 1000000, 1, 10});
	measure_fullnat();
	for (unsigned i = 0; i < n_lanes; i++)
		give_buffers(&lanes[i]);
	pipeline_stop(&pipeline);
	rte_eal_cleanup();
	if (n_slow_runs != 0)
		fprintf(stderr, "bench_pipeline: during %u runs a core was slower than at its best nearly all the time\n", n_slow_runs);
	free(replied);
	free(order);
	return bench_finish();
}
