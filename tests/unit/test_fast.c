/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The short ways of the packet path against the long ones. Worker 0 takes them (eight packets parsed at once, flows under
 * way settled ahead of the stages, or simple misses beside them), worker 1 is told before each burst that its port brings
 * nothing of the kind. Both get the same packets, and must have the same to show for it: packets to the last byte, flow
 * tables, counters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <netinet/in.h>

#include <rte_eal.h>
#include <rte_ip.h>

#include "dataplane/frag.h"
#ifdef __AVX2__
#include "dataplane/parse_eight.h"
#endif
#include "dataplane/stages.h"
#include "lb/decide.h"
#include "tests/unit/fullnat_util.h"

#define N_SLOTS 61u
#define N_SLOTS_BYTES 4096u /* more than they take: a page */
#define N_BACKENDS 4u /* of each service: service * N_BACKENDS + 0 .. 3 */
#define MTU 600

static const struct service {
	const char *vip;
	unsigned port;
	uint8_t proto;
	enum lb_mode mode;
} services[] = {
	{"203.0.113.10", 80, IPPROTO_TCP, LB_MODE_NAT},
	{"203.0.113.10", 53, IPPROTO_UDP, LB_MODE_NAT},
	{"2001:db8::10", 80, IPPROTO_TCP, LB_MODE_NAT},
	{"2001:db8::10", 53, IPPROTO_UDP, LB_MODE_NAT},
	{"2001:db8::10", 80, IPPROTO_UDP, LB_MODE_NAT},
	{"203.0.113.20", 0, IPPROTO_TCP, LB_MODE_NAT},
	{"203.0.113.30", 80, IPPROTO_TCP, LB_MODE_DSR},
	{"203.0.113.30", 80, IPPROTO_UDP, LB_MODE_IPIP},
	{"2001:db8::30", 80, IPPROTO_TCP, LB_MODE_GUE},
};
#define N_SERVICES RTE_DIM(services)

static struct pipeline pipeline;
static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint32_t next_random(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 32) % n);
}

static void set_backend(unsigned id, enum lb_backend_state backend_state)
{
	const struct service *service = &services[id / N_BACKENDS];
	bool ipv4 = strchr(service->vip, ':') == NULL;
	char addr[64];

	if (lb_mode_is_tunnel(service->mode)) // through either family
		ipv4 = id % 2 == 0;
	snprintf(addr, sizeof(addr), ipv4 ? "10.0.%u.%u" : "fd00:%u::%u", id / N_BACKENDS, 10 + id % N_BACKENDS);
	pipeline_backend(&pipeline, (uint16_t)id, (uint16_t)(id / N_BACKENDS), addr,
		service->port == 0 || lb_mode_keeps_port(service->mode) ? (uint16_t)service->port : 8080, backend_state);
}

static void publish(unsigned service)
{
	uint16_t slots[N_SLOTS];

	for (unsigned i = 0; i < N_SLOTS; i++)
		slots[i] = (uint16_t)(service * N_BACKENDS + next_random(N_BACKENDS));
	assert_int_equal(pipeline_publish_of(&pipeline, (uint16_t)service, next_random(4) == 0 ? LB_SCHED_SOURCE : LB_SCHED_MAGLEV,
				 slots, N_SLOTS), 0);
}

static int set_up(void **state)
{
	static const char *const eal_args[] = {"--no-huge", "-m", "512", "--no-pci", "--no-telemetry", "-l",
		"0", "--log-level", "error", "--no-shconf", NULL};
	static const char *const locals[] = {"192.0.2.1", "2001:db8:1::1", NULL};

	(void)state;
	if (getenv("FULCRUM_SHM_DIR") == NULL)
		setenv("FULCRUM_SHM_DIR", "/dev/shm", 1);
	pipeline_start_eal(eal_args);
	pipeline_start(&pipeline, 2, 512, 1023);
	pipeline_sync_begin(&pipeline);
	assert_int_equal(fullnat_locals(&pipeline, locals), 0);
	for (unsigned i = 0; i < N_SERVICES; i++) {
		pipeline_service_of_mode(&pipeline, (uint16_t)i, services[i].vip, (uint16_t)services[i].port,
			services[i].proto, services[i].mode);
		for (unsigned k = 0; k < N_BACKENDS; k++)
			set_backend(i * N_BACKENDS + k, LB_BACKEND_UP);
		publish(i);
	}
	pipeline_sync_end(&pipeline);
	for (unsigned i = 0; i < 2; i++)
		lb_worker_set_mtu(pipeline.dp.workers[i], 1, MTU);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	pipeline_stop(&pipeline);
	return rte_eal_cleanup();
}

static void set_ipv4_checksum(struct frame *frame)
{
	uint16_t sum;

	memset(frame->bytes + 24, 0, 2);
	sum = (uint16_t)~rte_raw_cksum(frame->bytes + 14, 20); // rte_ipv4_cksum() reads a union, which bytes are not
	memcpy(frame->bytes + 24, &sum, 2);
}

static struct frame with_traffic_class(struct frame frame, uint8_t traffic_class)
{
	if (frame.bytes[12] == 0x08) {
		frame.bytes[15] = traffic_class;
		set_ipv4_checksum(&frame);
	} else {
		frame.bytes[14] |= traffic_class >> 4;
		frame.bytes[15] |= (uint8_t)(traffic_class << 4);
	}
	return frame;
}

static const struct service *popular; /* nearly all packets are its; NULL: they are all services' */
static bool is_alone;                 /* really all are, if they are undamaged */
static const struct service *second;  /* but for a few of this one; NULL: none */
static bool leaves_keys;              /* of earlier bursts: who reads one may take it for this packet's */
static unsigned first_port = 1024;    /* of clients */

// Mid-stream most of the time; a few flows, so that they meet again, and again in one burst.
static struct frame random_packet(unsigned n_ports)
{
	static const uint8_t flags[] = {SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, PSH | ACK, ACK | 0x20, ACK | 0x40};
	const struct service *service =
		popular != NULL && (is_alone || next_random(20) != 0) ? popular : &services[next_random(N_SERVICES)];
	bool ipv4;
	uint16_t port;
	struct segment segment;

	if (is_alone && popular != NULL && second != NULL && next_random(8) == 0)
		service = second;
	ipv4 = strchr(service->vip, ':') == NULL;
	port = (uint16_t)(service->port != 0 ? service->port : is_alone ? 1 : 1 + next_random(3));
	segment = segment_of(ipv4 ? "198.51.100.7" : "2001:db8:c::7", first_port + next_random(n_ports),
		service->vip, port, service->proto,
		service->proto != IPPROTO_TCP ? 0 : next_random(3) == 0 ? flags[next_random(RTE_DIM(flags))] : ACK);

	if (service->proto == IPPROTO_TCP && next_random(3) == 0) // MSS 1460; padded, 536
		set_options(&segment, "\2\4\5\xb4\1\1\2\4\2\x18\1\1" + (next_random(2) == 0 ? 0 : 4), next_random(2) == 0 ? 4 : 8);
	segment.n_payload = next_random(30);
	if (next_random(40) == 0)
		segment.n_payload = MTU - 100 + next_random(200);
	if (next_random(40) == 0)
		segment.ttl = 1;
	segment.no_checksum = ipv4 && service->proto == IPPROTO_UDP && next_random(2) == 0;
	if (next_random(40) == 0 && !lb_mode_keeps_port(service->mode)) { // a backend's answer
		unsigned id = (unsigned)(service - services) * N_BACKENDS + next_random(N_BACKENDS);

		segment.dst = segment.src;
		segment.dport = segment.sport;
		segment.src = pipeline.dp.backends[id].addr;
		segment.sport = (uint16_t)(service->port != 0 ? 8080 : port);
		segment.flags &= (uint8_t)~RST; // of which workers tell each other
	}
	if (!is_alone && next_random(30) == 0) // the host's
		(void)lb_addr_parse(ipv4 ? "192.0.2.77" : "2001:db8:77::1", &segment.dst);
	return with_traffic_class(frame_of(&segment), (uint8_t)(next_random(4) == 0 ? next_random(256) : 0));
}
// Wherever what parse looks at lies. An IPv4 header's checksum is right again half of the time.
static void damage(struct frame *frame)
{
	static const uint8_t odd_bytes[] = {0, 1, 2, 4, 5, 6, 8, 17, 20, 0x45, 0x46, 0x50, 0x60, 0x7f, 0x80, 0xe0, 0xff};
	bool ipv4 = frame->bytes[12] == 0x08;

	for (unsigned n = 1 + next_random(2); n > 0; n--)
		frame->bytes[next_random(10) == 0 ? next_random(14) : 14 + next_random(ipv4 ? 36 : 56)] =
			next_random(2) == 0 ? odd_bytes[next_random(RTE_DIM(odd_bytes))] : (uint8_t)next_random(256);
	if (next_random(10) == 0) // to itself
		memcpy(frame->bytes + (ipv4 ? 30 : 38), frame->bytes + (ipv4 ? 26 : 22), ipv4 ? 4 : 16);
	if (!ipv4 && next_random(10) == 0) { // to or from what begins with zeros, or an IPv4 address in its mapped form
		uint8_t *addr = frame->bytes + 22 + next_random(2) * 16;

		memset(addr, 0, 1 + next_random(13));
		if (next_random(2) == 0)
			memcpy(addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
	}
	if (ipv4 && next_random(2) == 0)
		set_ipv4_checksum(frame);
	if (next_random(8) == 0)
		frame->n = next_random(frame->n + 1);
}

static void add_tag(struct frame *frame)
{
	memmove(frame->bytes + 16, frame->bytes + 12, frame->n - 12);
	memcpy(frame->bytes + 12, "\x81\x00\x00\x07", 4);
	frame->n += 4;
}

static void make_fragment(struct frame *frame)
{
	if (frame->bytes[12] != 0x08 || frame->n < 60)
		return;
	frame->bytes[14 + 6] = 0x20; // more of them, which never come
	set_ipv4_checksum(frame);
}

// Some frames, the same for both workers, are in buffers with little room before them, shared ones, or two each.
static struct rte_mbuf *odd_buffer_of(const struct frame *frame)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pipeline.pool), *tail;
	unsigned n_tail = 0, kind = (unsigned)(lb_hash_bytes(frame->bytes, frame->n, 0) % 100);

	assert_non_null(mbuf);
	if (kind == 0)
		mbuf->data_off = (uint16_t)(frame->bytes[frame->n - 1] % 64);
	if (kind == 1 && (frame->bytes[20] & 0x3f) == 0)
		rte_mbuf_refcnt_set(mbuf, 2);
	if (kind == 2 && frame->n > 62)
		n_tail = 1 + frame->n % 8;
	memcpy(rte_pktmbuf_append(mbuf, (uint16_t)(frame->n - n_tail)), frame->bytes, frame->n - n_tail);
	if (n_tail != 0) {
		tail = rte_pktmbuf_alloc(pipeline.pool);
		assert_non_null(tail);
		memcpy(rte_pktmbuf_append(tail, (uint16_t)n_tail), frame->bytes + frame->n - n_tail, n_tail);
		assert_int_equal(rte_pktmbuf_chain(mbuf, tail), 0);
	}
	return mbuf;
}

static struct rte_mbuf *buffer_of(const struct frame *frame)
{
	return pipeline_mbuf(&pipeline, frame->bytes, frame->n);
}

static void fill(struct lb_worker *worker, const struct frame *frames, unsigned n,
	struct rte_mbuf *(*make_buffer)(const struct frame *frame))
{
	struct lb_burst *burst = &worker->burst;

	burst->n = n;
	burst->port = 0;
	for (unsigned i = 0; i < n; i++) {
		burst->mbufs[i] = make_buffer(&frames[i]);
		if (leaves_keys)
			continue;
		memset(&burst->keys[i], 0x5a, offsetof(struct lb_flow_key, zero)); // who reads a key that is not there, notices
		memset(&burst->keys4[i], 0xa5, sizeof(burst->keys4[i]));
	}
}

static void free_burst(struct lb_worker *worker)
{
	for (unsigned i = 0; i < worker->burst.n; i++) {
		if (worker->burst.held >> i & 1)
			continue;
		rte_mbuf_refcnt_set(worker->burst.mbufs[i], 1);
		rte_pktmbuf_free(worker->burst.mbufs[i]);
	}
	worker->burst.n = 0;
}

static void compare_bursts(unsigned round)
{
	const struct lb_burst *fast = &pipeline.dp.workers[0]->burst, *slow = &pipeline.dp.workers[1]->burst;

	for (unsigned i = 0; i < fast->n; i++) {
		const struct lb_packet *packet = &fast->packets[i];

		if (packet->verdict != slow->packets[i].verdict)
			fail_msg("round %u, packet %u: verdict %s, not %s", round, i, lb_verdict_name(packet->verdict),
				lb_verdict_name(slow->packets[i].verdict));
		assert_int_equal(fast->mbufs[i]->pkt_len, slow->mbufs[i]->pkt_len);
		assert_int_equal(fast->mbufs[i]->data_len, slow->mbufs[i]->data_len);
		assert_memory_equal(rte_pktmbuf_mtod(fast->mbufs[i], void *), rte_pktmbuf_mtod(slow->mbufs[i], void *),
			fast->mbufs[i]->data_len);
		if (packet->verdict == LB_VERDICT_TOO_BIG && packet->pending == 0) { // its sender is told
			assert_int_equal(packet->service, slow->packets[i].service);
			assert_memory_equal(&fast->keys[i], &slow->keys[i], sizeof(fast->keys[i]));
		}
		if (packet->verdict != LB_VERDICT_FORWARD && packet->verdict != LB_VERDICT_REPLY)
			continue;
		assert_int_equal(packet->wire_bytes, slow->packets[i].wire_bytes);
		assert_true(fast->nexthops[i] == slow->nexthops[i]);
		if ((fast->settled & ~fast->misses) >> i & 1)
			continue; // nobody asks for its backend any more: the packet has it
		assert_int_equal(packet->backend, slow->packets[i].backend);
		if (packet->verdict == LB_VERDICT_FORWARD)
			assert_int_equal(packet->service, slow->packets[i].service);
	}
	assert_int_equal(fast->answered, slow->answered);
	assert_int_equal(fast->held, slow->held);
}

static void compare_workers(void)
{
	const struct lb_worker *fast = pipeline.dp.workers[0], *slow = pipeline.dp.workers[1];

	assert_memory_equal(&fast->counters->flow, &slow->counters->flow, sizeof(fast->counters->flow));
	assert_memory_equal(fast->counters->verdicts, slow->counters->verdicts, sizeof(fast->counters->verdicts));
	assert_memory_equal(fast->counters->backends, slow->counters->backends,
		N_SERVICES * N_BACKENDS * sizeof(fast->counters->backends[0]));
	assert_memory_equal(fast->counters->services, slow->counters->services,
		N_SERVICES * sizeof(fast->counters->services[0]));
	assert_memory_equal(fast->flowtable.buckets, slow->flowtable.buckets,
		fast->flowtable.n_buckets * sizeof(fast->flowtable.buckets[0]));
}

/*
 * An entry that is another's, as if two flows had the same bucket and signature. Not while entries are in their second
 * bucket: of several such the two workers may record the flows in another order.
 */
static void mistake_an_entry(void)
{
	const struct lb_flowtable *table = &pipeline.dp.workers[0]->flowtable;
	uint32_t bucket = next_random(table->n_buckets), way = next_random(LB_FLOWTABLE_WAYS);
	uint16_t backend = (uint16_t)next_random(N_SERVICES * N_BACKENDS);

	for (unsigned i = 0; i < 2; i++) {
		struct lb_flowtable *its = &pipeline.dp.workers[i]->flowtable;

		if (its->buckets[bucket].entries[way] != 0)
			lb_flowtable_move(its, &its->buckets[bucket].entries[way], backend);
	}
}

// Time passes, backends come and go, slots move.
static void change_something(unsigned round)
{
	static const enum lb_backend_state states[] = {LB_BACKEND_UP, LB_BACKEND_UP, LB_BACKEND_DRAIN, LB_BACKEND_DOWN};
	static const uint16_t mss[] = {LB_MSS_NONE, LB_MSS_AUTO, LB_MSS_AUTO, LB_MSS_MIN};
	unsigned service = next_random(N_SERVICES);

	if (round % 5 == 0) {
		pipeline.dp.tick++;
		pipeline.dp.now_s += 2;
	}
	if (round % 11 == 0)
		set_backend(next_random(N_SERVICES * N_BACKENDS), states[next_random(RTE_DIM(states))]);
	if (round % 13 == 0)
		publish(service);
	if (round % 7 == 0) {
		pipeline.dp.services[service].tracking = (uint8_t)(next_random(4) == 0 ? LB_TRACKING_CHANGED : LB_TRACKING_ALL);
		if (services[service].mode == LB_MODE_NAT)
			pipeline.dp.services[service].mss = mss[next_random(RTE_DIM(mss))];
	}
	if (round % 17 == 0) // where it sends is not known for a while
		atomic_store(&pipeline.dp.backends[next_random(N_SERVICES * N_BACKENDS)].nexthop, LB_NEXTHOP_UNRESOLVED);
	for (unsigned i = 0; i < 2; i++)
		lb_worker_keep_house(pipeline.dp.workers[i], 1);
}

// New flows in each burst do not make the workers record less, nor fill the table.
static void keep_room(unsigned round)
{
	static uint8_t all[LB_MAX_BACKENDS + 1];

	memset(all, 1, sizeof(all));
	for (unsigned i = 0; i < 2; i++) {
		struct lb_worker *worker = pipeline.dp.workers[i];

		worker->pressure = false;
		if (round % 16 == 0)
			(void)lb_flowtable_purge(&worker->flowtable, all);
	}
}

/*
 * @param n_ports of clients: flows. With few, one comes several times in a burst; with as many as the flow table has room
 * for, or others in each burst (@p are_new), entries are moved and replaced; fragments, which have their turn after the
 * settled packets, are then left out, as two entries may be after the same free way.
 */
static void hold_against_each_other(
	unsigned n_rounds, unsigned n_ports, bool are_new, unsigned *n_settled, unsigned *n_missed, unsigned *n_left)
{
	bool crowded = n_ports > 3 || are_new;

	for (unsigned round = 0; round < n_rounds; round++) {
		bool mostly_hits = next_random(2) == 0;
		struct frame frames[LB_BURST];
		unsigned n = round % 8 == 0 ? 1 + next_random(LB_BURST) : LB_BURST;

		first_port = are_new ? 1024 + round * n_ports : 1024;
		popular = round % 2 == 0 ? &services[next_random(N_SERVICES)] : NULL;
		is_alone = next_random(2) == 0;
		second = next_random(2) == 0 ? &services[next_random(N_SERVICES)] : NULL;
		leaves_keys = next_random(2) == 0;
		for (unsigned i = 0; i < n; i++) {
			frames[i] = random_packet(n_ports);
			if (next_random(12) == 0)
				damage(&frames[i]);
			if (!crowded && next_random(30) == 0)
				make_fragment(&frames[i]);
			if (next_random(30) == 0 && frames[i].n > 14)
				add_tag(&frames[i]);
		}
		for (unsigned i = 0; i < 2; i++) {
			struct lb_worker *worker = pipeline.dp.workers[i];

			worker->fetch_ports = i == 0;
			worker->fast_ports = i == 0 && mostly_hits;
			worker->stranger_ports = i == 1 && round % 4 < 2;
			fill(worker, frames, n, odd_buffer_of);
			lb_worker_process(worker);
			lb_count_verdicts(worker, &worker->burst);
		}
		*n_settled += (unsigned)__builtin_popcount(pipeline.dp.workers[0]->burst.settled);
		n_missed[mostly_hits] += (unsigned)__builtin_popcount(pipeline.dp.workers[0]->burst.misses);
		*n_left += pipeline.dp.workers[0]->burst.n_to_service;
		assert_int_equal(pipeline.dp.workers[1]->burst.settled, 0);
		if (!mostly_hits) { // with more of them, what tunnels refuse is not counted
			assert_int_equal(pipeline.dp.workers[0]->fetch_ports, pipeline.dp.workers[1]->fetch_ports);
			assert_int_equal(pipeline.dp.workers[0]->fast_ports, pipeline.dp.workers[1]->fast_ports);
		}
		compare_bursts(round);
		compare_workers();
		for (unsigned i = 0; i < 2; i++)
			free_burst(pipeline.dp.workers[i]);
		for (unsigned i = 0; i < 2 && !crowded; i++)
			mistake_an_entry();
		change_something(round);
		if (are_new)
			keep_room(round);
	}
	popular = second = NULL;
	is_alone = leaves_keys = false;
}

static void flows_under_way_go_as_they_would_through_every_stage(void **state)
{
	unsigned n_settled = 0, n_missed[2] = {0, 0} /* with few hits, with many */, n_left = 0;

	(void)state;
	hold_against_each_other(6000, 3, false, &n_settled, n_missed, &n_left);
	hold_against_each_other(6000, 200, false, &n_settled, n_missed, &n_left);
	hold_against_each_other(4000, 20000, false, &n_settled, n_missed, &n_left);
	hold_against_each_other(4000, 8, true, &n_settled, n_missed, &n_left);
	// All ways are taken, or nothing was compared.
	assert_true(n_settled > 15000 && n_missed[0] > 20000 && n_missed[1] > 20000 && n_left > 20000);
}

// SYN and ACK in bursts of their own, then @p frames in one. @return the state of the flow's entry, which is removed.
static enum lb_flow_state state_after(struct lb_worker *worker, struct segment segment, const struct frame *frames,
	unsigned n, uint32_t settled)
{
	bool is_fast = worker == pipeline.dp.workers[0];
	enum lb_flow_state state;
	uint64_t hash, *entry;

	for (unsigned i = 0; i < 2; i++) {
		struct frame frame;

		segment.flags = i == 0 ? SYN : ACK;
		frame = frame_of(&segment);
		fill(worker, &frame, 1, buffer_of);
		lb_worker_process(worker);
		free_burst(worker);
	}
	worker->fetch_ports = worker->fast_ports = is_fast;
	fill(worker, frames, n, buffer_of);
	lb_worker_process(worker);
	assert_int_equal(worker->burst.settled, is_fast ? settled : 0);
	hash = worker->burst.hashes[0]; // of the first that was left: the same flow
	free_burst(worker);
	entry = lb_flowtable_lookup(&worker->flowtable, hash, worker->tick);
	assert_non_null(entry);
	state = lb_flow_entry_state(*entry);
	lb_flowtable_del(&worker->flowtable, entry); // both workers begin alike
	memset(&worker->counters->flow, 0, sizeof(worker->counters->flow));
	memset(worker->counters->backends, 0, N_BACKENDS * sizeof(worker->counters->backends[0]));
	return state;
}

// A segment behind an RST of its own flow says that the RST was not accepted: the flow goes on. So it does behind one in pieces.
static void what_follows_an_rst_revives_its_flow(void **state)
{
	struct segment segment = segment_of("198.51.100.9", 5000, services[0].vip, 80, IPPROTO_TCP, ACK), rst = segment;
	struct frame frames[3] = {frame_of(&segment), {.n = 0}, frame_of(&segment)};

	(void)state;
	for (unsigned k = 0; k < N_BACKENDS; k++)
		set_backend(k, LB_BACKEND_UP);
	rst.flags = RST;
	rst.n_payload = 12; // with the header, a multiple of 8
	for (unsigned in_pieces = 2; in_pieces-- > 0;) { // at first: no RST's flags are left in the burst
		frames[1] = frame_of(&rst);
		if (in_pieces)
			make_fragment(&frames[1]);
		for (unsigned w = 0; w < 2; w++) {
			struct lb_worker *worker = pipeline.dp.workers[w];

			assert_int_equal(state_after(worker, segment, frames, 3, 1), LB_FLOW_ESTABLISHED);
			if (!in_pieces) // a piece is not taken twice
				assert_int_equal(state_after(worker, segment, frames, 2, 1), LB_FLOW_CLOSED);
		}
	}
}

// One packet of a flow without an entry, whatever its slot is like, against what lb_decide_miss() says.
static void check_miss(const struct segment *segment, unsigned id, const struct lb_slot *slot, bool begins)
{
	struct lb_worker *worker = pipeline.dp.workers[0];
	struct lb_service *service = &pipeline.dp.services[id];
	struct lb_slot_table *table = service->table;
	uint64_t n_new = 0, n_used = worker->counters->flow.used;
	struct frame frame = frame_of(segment);
	struct lb_choice choice;

	for (unsigned i = 0; i < N_SLOTS; i++)
		table->slots[i] = *slot;
	if (slot->backend != LB_SLOT_NONE)
		n_new = worker->counters->backends[slot->backend].new_flows;
	choice = lb_decide_miss(slot, table->transition_s, worker->now_s, services[id].proto == IPPROTO_TCP, begins,
		worker->pressure ? LB_TRACKING_CHANGED : service->tracking, false, pipeline.dp.backend_states);
	worker->fetch_ports = 1;
	worker->fast_ports = 0;
	fill(worker, &frame, 1, buffer_of);
	lb_worker_process(worker);
	if (choice.backend == LB_BACKEND_NONE) {
		assert_int_equal(worker->burst.packets[0].verdict, LB_VERDICT_NO_BACKEND);
	} else {
		assert_int_equal(worker->burst.packets[0].verdict, LB_VERDICT_FORWARD);
		assert_int_equal(worker->burst.packets[0].backend, choice.backend);
		if (choice.backend == slot->backend)
			assert_int_equal(worker->counters->backends[slot->backend].new_flows - n_new, begins);
	}
	assert_int_equal(worker->counters->flow.used - n_used, choice.record);
	if (choice.record) {
		uint64_t *entry = lb_flowtable_lookup(&worker->flowtable, worker->burst.hashes[0], worker->tick);

		assert_non_null(entry);
		assert_int_equal(lb_flow_entry_backend(*entry), choice.backend);
		assert_int_equal(lb_flow_entry_pinned(*entry), choice.pinned);
		assert_int_equal(lb_flow_entry_state(*entry), services[id].proto == IPPROTO_UDP ? LB_FLOW_UDP
							      : begins			    ? LB_FLOW_SYN
											: LB_FLOW_ESTABLISHED);
		lb_flowtable_del(&worker->flowtable, entry);
	}
	free_burst(worker);
}

static void slots_are_followed_as_decided(void **state)
{
	static const uint8_t flags[] = {SYN, ACK, SYN | ACK, PSH | ACK};
	struct lb_worker *worker = pipeline.dp.workers[0];
	struct lb_slot_table *tables[2], kept[2];
	struct lb_slot kept_slots[2][N_SLOTS];

	(void)state;
	for (unsigned id = 0; id < 2; id++) { // TCP, UDP
		tables[id] = pipeline.dp.services[id].table;
		kept[id] = *tables[id];
		memcpy(kept_slots[id], tables[id]->slots, sizeof(kept_slots[id]));
	}
	for (unsigned round = 0; round < 4000; round++) {
		unsigned id = round % 2;
		uint16_t first = (uint16_t)(id * N_BACKENDS);
		struct lb_slot slot = {.backend = (uint16_t)(first + next_random(N_BACKENDS)),
			.origin = (uint16_t)(first + next_random(N_BACKENDS)),
			.changed_s = next_random(2) == 0 ? 0 : worker->now_s + 1 - next_random(120)};
		uint8_t tcp_flags = id == 0 ? flags[next_random(RTE_DIM(flags))] : 0;
		struct segment segment = segment_of("198.51.100.77", 2000 + round, services[id].vip, services[id].port,
			services[id].proto, tcp_flags);

		if (next_random(6) == 0)
			slot.backend = LB_SLOT_NONE;
		if (next_random(6) == 0)
			slot.origin = LB_SLOT_NONE;
		pipeline.dp.services[id].tracking = (uint8_t)(next_random(2) == 0 ? LB_TRACKING_ALL : LB_TRACKING_CHANGED);
		worker->pressure = next_random(3) == 0;
		check_miss(&segment, id, &slot, id == 1 || tcp_flags == SYN);
	}
	worker->pressure = false;
	for (unsigned id = 0; id < 2; id++) {
		pipeline.dp.services[id].tracking = LB_TRACKING_ALL;
		*tables[id] = kept[id];
		memcpy(tables[id]->slots, kept_slots[id], sizeof(kept_slots[id]));
		memset(&worker->counters->services[id], 0, sizeof(worker->counters->services[id]));
	}
	memset(&worker->counters->flow, 0, sizeof(worker->counters->flow));
	memset(worker->counters->backends, 0, 2 * N_BACKENDS * sizeof(worker->counters->backends[0]));
}

static void compare_parsed(const struct lb_packet *one, const struct lb_packet *eight,
	const struct lb_flow_key *one_key, const struct lb_flow_key *eight_key)
{
	assert_int_equal(one->verdict, eight->verdict);
	if (one->verdict != LB_VERDICT_FORWARD)
		return;
	assert_int_equal(one->pending, eight->pending);
	assert_int_equal(one->family, eight->family);
	assert_int_equal(one->l3, eight->l3);
	assert_int_equal(one->wire_bytes, eight->wire_bytes);
	if (one->pending == LB_VERDICT_FRAGMENT || one->pending == LB_VERDICT_VIP_PROTOCOL)
		return; // no ports
	assert_int_equal(one->l4, eight->l4);
	assert_int_equal(one->tcp_flags, eight->tcp_flags);
	assert_memory_equal(one_key, eight_key, sizeof(*one_key));
}

// What of the packets is in their first segment: parse is not to read more.
static void shorten(struct lb_burst *burst, const uint16_t *first_bytes)
{
	for (unsigned i = 0; i < burst->n; i++) {
		struct rte_mbuf *mbuf = burst->mbufs[i];

		mbuf->data_len = (uint16_t)RTE_MIN(mbuf->data_len, first_bytes[i]);
	}
}

static void eight_packets_are_parsed_as_each_alone(void **state)
{
	struct lb_worker *worker = pipeline.dp.workers[0];
	struct lb_burst *burst = &worker->burst;
	unsigned n_good = 0, n_bad = 0, n_ipv4 = 0, n_short = 0, n_plain6 = 0, n_all6 = 0;

	(void)state;
	for (unsigned round = 0; round < 30000; round++) {
		struct frame frames[8];
		struct lb_packet packets[8];
		struct lb_flow_key keys[8];
		uint8_t list[8], family = 0;
		uint16_t first_bytes[8];
		unsigned n_ip = 0;

		// a port with a MAC of its own takes what is for that; half of the frames have it
		worker->port_macs[0] = round % 2 == 0 ? LB_MAC_ANY : 0x010000000002;
		for (unsigned i = 0; i < 8; i++) {
			do
				frames[i] = random_packet(1000);
			while (round % 5 == 0 && i != 0 && frames[i].bytes[12] != family);
			family = frames[i].bytes[12];
			if (next_random(2) == 0)
				memcpy(frames[i].bytes, "\x02\0\0\0\0\x01", 6);
			if (next_random(round % 4 + 1) != 0)
				damage(&frames[i]);
			first_bytes[i] = next_random(20) == 0 ? (uint16_t)next_random(100) : UINT16_MAX;
			fill(worker, &frames[i], 1, buffer_of);
			shorten(burst, &first_bytes[i]);
			lb_stage_parse(worker, burst);
			packets[i] = burst->packets[0];
			keys[i] = burst->keys[0];
			list[n_ip] = (uint8_t)i;
			n_ip += burst->n_ip;
			n_ipv4 += burst->n_ip && packets[i].family == 4;
			free_burst(worker);
		}
		fill(worker, frames, 8, buffer_of);
		shorten(burst, first_bytes);
		lb_stage_parse(worker, burst);
		assert_int_equal(burst->n_ip, n_ip);
		assert_memory_equal(burst->ip_list, list, n_ip);
		n_all6 += burst->plain6 == 0xff;
		assert_int_equal(burst->plain6 & burst->short_keys, 0);
		for (unsigned i = 0; i < 8; i++) {
			bool is_short = burst->short_keys >> i & 1;
			struct lb_flow_key key = is_short ? lb_flow_key_lengthen(&burst->keys4[i]) : burst->keys[i];

			compare_parsed(&packets[i], &burst->packets[i], &keys[i], &key);
			if (burst->plain6 >> i & 1) {
				assert_true(packets[i].verdict == LB_VERDICT_FORWARD && packets[i].l4 == 54);
				assert_true(packets[i].family == 6 && packets[i].pending == 0);
				n_plain6++;
			}
			if (!is_short)
				continue;
			assert_true(packets[i].family == 4 && packets[i].pending == 0);
			n_short++;
		}
		free_burst(worker);
		n_good += n_ip;
		n_bad += 8 - n_ip;
	}
	worker->port_macs[0] = LB_MAC_ANY;
	assert_true(n_good > 80000 && n_bad > 20000 && n_ipv4 > 50000 && n_short > 40000);
	assert_true(n_plain6 > 30000 && n_all6 > 100);
}

#ifdef __AVX2__
// Stores of eight keys at once are no secret to the compiler: it may know the keys, of which it reads a member.
static void what_eight_keys_hold_is_read_by_member(void **state)
{
	uint32_t ports = 0x12340000u | (uint16_t)(next_random(60000) + 1);
	struct lb_flow_key keys[8];
	unsigned n_wrong = 0;

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		keys[i].sport_be = 0;
	lb_eight_store_ends(keys, _mm256_set1_epi32((int)ports), _mm256_set1_epi32(IPPROTO_TCP));
	for (unsigned i = 0; i < 8; i++) // without a call in between, before which everything is stored
		n_wrong += keys[i].sport_be == 0;
	assert_int_equal(n_wrong, 0);
}
#endif

/*
 * On a port where most are strangers: those to a VIP whose entry is not in the line in which its probe begins, as that is
 * full, are none; nor is ICMP, which may be about a backend.
 */
static void a_full_line_hides_no_vip(void **state)
{
	struct lb_worker *worker = pipeline.dp.workers[0];
	struct lb_burst *burst = &worker->burst;
	struct lb_keymap *before = atomic_load(&pipeline.dp.service_map), *map = lb_keymap_clone(before, 200);
	struct segment segment = segment_of("198.51.100.11", 5000, "192.0.2.77", 53, IPPROTO_UDP, 0);
	struct frame frames[LB_BURST];
	unsigned n_vips = 0;
	uint32_t line = 0;

	(void)state;
	assert_non_null(map);
	for (uint32_t host = 1; n_vips < 2 * LB_KEYMAP_WAYS; host++) {
		struct lb_service_key key = {.addr = lb_addr_from_ipv4(htonl(0xc6120000 + host)), .port_be = htons(53),
			.proto = IPPROTO_UDP};
		uint32_t its = lb_keymap_line_idx(map, lb_keymap_hash(&key.addr, 0, 0));

		if (n_vips != 0 && its != line)
			continue;
		line = its;
		lb_keymap_add(map, &key, 1);
		segment.dst = key.addr;
		frames[n_vips++] = frame_of(&segment);
	}
	(void)lb_addr_parse("192.0.2.77", &segment.dst);
	for (unsigned i = n_vips; i < LB_BURST; i++)
		frames[i] = frame_of(&segment);
	frames[LB_BURST - 1].bytes[14 + 9] = IPPROTO_ICMP;
	set_ipv4_checksum(&frames[LB_BURST - 1]);
	atomic_store(&pipeline.dp.service_map, map);
	worker->fetch_ports = worker->fast_ports = 0;
	worker->stranger_ports = 1;
	fill(worker, frames, LB_BURST, buffer_of);
	lb_worker_process(worker);
	for (unsigned i = 0; i < LB_BURST; i++) // service 1 has another VIP
		assert_int_equal(burst->packets[i].verdict, i < n_vips ? LB_VERDICT_VIP_NO_SERVICE : LB_VERDICT_HOST);
	assert_int_equal(worker->stranger_ports, 1);
	assert_int_equal(burst->n_odd, 1);
	free_burst(worker);
	atomic_store(&pipeline.dp.service_map, before);
	lb_keymap_destroy(map);
}

/* Whoever shares the burst: a flow that comes with a tag and one that comes in fragments are that flow without. */
static void a_flow_of_ipv4_is_one_with_tag_in_pieces_and_without(void **state)
{
	uint16_t backends[LB_BURST];

	(void)state;
	for (unsigned k = 0; k < N_BACKENDS; k++)
		set_backend(N_BACKENDS + k, LB_BACKEND_UP);
	publish(1);
	for (unsigned w = 0; w < 2; w++) {
		struct lb_worker *worker = pipeline.dp.workers[w];
		struct lb_burst *burst = &worker->burst;

		for (unsigned round = 0; round < 3; round++) { // tagged alone, half of them tagged, some in fragments
			struct frame frames[LB_BURST];

			for (unsigned i = 0; i < LB_BURST; i++) {
				struct segment segment = segment_of("198.51.100.11", 5000 + i, services[1].vip, 53, IPPROTO_UDP, 0);

				segment.n_payload = 40;
				frames[i] = frame_of(&segment);
				frames[i].bytes[14 + 5] = (uint8_t)i; // datagrams of their own
				set_ipv4_checksum(&frames[i]);
				if (round == 2 && i % 3 == 0)
					make_fragment(&frames[i]);
				if (round == 0 || (round == 1 && i % 2 == 0))
					add_tag(&frames[i]);
			}
			worker->fetch_ports = round > 0;
			worker->fast_ports = 0;
			fill(worker, frames, LB_BURST, buffer_of);
			lb_worker_process(worker);
			for (unsigned i = 0; i < LB_BURST; i++) {
				assert_int_equal(burst->packets[i].verdict, LB_VERDICT_FORWARD);
				if (w == 0 && round == 0)
					backends[i] = burst->packets[i].backend;
				assert_int_equal(burst->packets[i].backend, backends[i]);
			}
			free_burst(worker);
		}
	}
}

static uint8_t *slots_page; /* may not be read, until someone tries to */
static struct sigaction action_before;

// As lb_service_del() does, just before the worker reads a slot.
static void take_table_away(int signal)
{
	(void)signal;
	(void)mprotect(slots_page, N_SLOTS_BYTES, PROT_READ);
	atomic_store(&pipeline.dp.services[1].table, NULL);
	(void)sigaction(SIGSEGV, &action_before, NULL); // the next one is no slot's
}

// A service is deleted while a worker is at its packets, whose slots have changed once: by the table in hand, or by none.
static void a_table_may_go_at_any_time(void **state)
{
	struct lb_worker *worker = pipeline.dp.workers[0];
	struct lb_service *service = &pipeline.dp.services[1];
	struct lb_slot_table *before = service->table, *table;
	struct segment segment = segment_of("198.51.100.13", 5000, services[1].vip, services[1].port, IPPROTO_UDP, 0);
	struct frame frame = frame_of(&segment);
	struct sigaction action = {.sa_handler = take_table_away};
	uint8_t *pages = mmap(NULL, 2 * N_SLOTS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(pages != MAP_FAILED);
	slots_page = pages + N_SLOTS_BYTES;
	table = (struct lb_slot_table *)(slots_page - offsetof(struct lb_slot_table, slots));
	memcpy(table, before, offsetof(struct lb_slot_table, slots));
	for (unsigned i = 0; i < N_SLOTS; i++)
		table->slots[i] = (struct lb_slot){.backend = N_BACKENDS, .origin = N_BACKENDS, .changed_s = 1};
	pipeline.dp.now_s += table->transition_s + 1;
	lb_worker_keep_house(worker, 1);
	for (unsigned fetch = 0; fetch < 2; fetch++) { // by the flow stage, by miss.c
		atomic_store(&service->table, table);
		assert_int_equal(mprotect(slots_page, N_SLOTS_BYTES, PROT_NONE), 0);
		assert_int_equal(sigaction(SIGSEGV, &action, &action_before), 0);
		worker->fetch_ports = fetch;
		worker->fast_ports = 0;
		fill(worker, &frame, 1, buffer_of);
		lb_worker_process(worker);
		assert_null(atomic_load(&service->table)); // taken away meanwhile
		assert_int_equal(worker->burst.packets[0].verdict, LB_VERDICT_NO_TABLE);
		free_burst(worker);
	}
	atomic_store(&service->table, before);
	assert_int_equal(munmap(pages, 2 * N_SLOTS_BYTES), 0);
}

/*
 * A service is made anew in another mode, with the ids that it had, and flows of before have entries yet: the fast stage
 * finds their backend, whose outer header is to be replaced with the end of the commands' batch.
 */
static void a_backends_id_does_not_come_back_in_another_mode(void **state)
{
	const unsigned id = 7, first = id * N_BACKENDS;
	struct segment segment = segment_of("198.51.100.12", 5000, services[id].vip, services[id].port, IPPROTO_UDP, 0);
	struct lb_msg_service service = {.id = id, .mode = LB_MODE_GUE, .gue_port_be = RTE_BE16(6080),
		.idle_timeout_ms = 60000, .key = pipeline.dp.services[id].key};
	struct lb_worker *worker = pipeline.dp.workers[0];
	struct frame frame = frame_of(&segment);

	(void)state;
	worker->pressure = false;
	memset(worker->flowtable.buckets, 0, worker->flowtable.n_buckets * sizeof(worker->flowtable.buckets[0]));
	for (unsigned k = 0; k < N_BACKENDS; k++)
		set_backend(first + k, LB_BACKEND_UP);
	publish(id);
	for (unsigned round = 0; round < 3; round++) {
		if (round == 2) {
			assert_int_equal(lb_service_del(&pipeline.dp, id), 0);
			assert_int_equal(lb_service_set(&pipeline.dp, &service), 0);
			for (unsigned k = 0; k < N_BACKENDS; k++) {
				const struct lb_backend *backend = &pipeline.dp.backends[first + k];
				struct lb_msg_backend msg = {.id = (uint16_t)(first + k), .service = id, .addr = backend->addr,
					.port_be = backend->port_be, .state = LB_BACKEND_UP, .nexthop = 1};

				assert_int_equal(lb_backend_set(&pipeline.dp, &msg), -EAGAIN);
			}
		}
		worker->fetch_ports = worker->fast_ports = 1;
		fill(worker, &frame, 1, buffer_of);
		lb_worker_process(worker);
		assert_int_equal(worker->burst.settled, round == 1);
		free_burst(worker);
	}
	lb_dp_commit(&pipeline.dp);
}

// A flow's entry has expired in its second bucket: the next SYN is recorded in its place, behind whatever port.
static void an_expired_entry_in_the_second_bucket_is_not_doubled(void **state)
{
	struct segment segment = segment_of("198.51.100.13", 5000, services[0].vip, services[0].port, IPPROTO_TCP, SYN);
	struct lb_worker *worker = pipeline.dp.workers[0];
	uint16_t slots[N_SLOTS] = {0};
	struct lb_slot_table *table;
	struct lb_flowtable *flowtable = &worker->flowtable;
	struct frame frames[2] = {frame_of(&segment), {.n = 0}};
	uint32_t home = 0, away = 0;
	uint64_t hash = 0;

	(void)state;
	segment.sport++;
	frames[1] = frame_of(&segment);
	worker->pressure = false;
	for (unsigned k = 0; k < N_BACKENDS; k++)
		set_backend(k, LB_BACKEND_UP);
	assert_int_equal(pipeline_publish_of(&pipeline, 0, LB_SCHED_MAGLEV, slots, N_SLOTS), 0);
	table = atomic_load(&pipeline.dp.services[0].table);
	for (unsigned i = 0; i < N_SLOTS; i++)
		table->slots[i].changed_s = 0; // simple misses
	for (unsigned fast = 0; fast < 2; fast++) {
		for (unsigned expired = 0; expired < 2; expired++) {
			memset(flowtable->buckets, 0, flowtable->n_buckets * sizeof(flowtable->buckets[0]));
			worker->counters->flow.used = 0;
			worker->fetch_ports = 1;
			worker->fast_ports = fast;
			if (expired) {
				flowtable->buckets[away].entries[0] =
					lb_flow_entry_make((uint32_t)(hash >> 32), 0, worker->tick - 100, LB_FLOW_SYN);
				lb_flowtable_set_away(flowtable, home);
				worker->counters->flow.used = 1;
			}
			fill(worker, frames, 2, buffer_of);
			lb_worker_process(worker);
			assert_int_equal(worker->burst.misses, expired ? 2 : 3);
			hash = worker->burst.hashes[0];
			free_burst(worker);
			assert_int_equal(worker->counters->flow.used, 2);
			assert_int_equal(lb_flowtable_count(flowtable, LB_BACKEND_NONE), 2);
			assert_non_null(lb_flowtable_lookup(flowtable, hash, worker->tick));
			home = lb_flowtable_first_bucket(flowtable, hash);
			away = lb_flowtable_other_bucket(flowtable, home, (uint32_t)(hash >> 32));
		}
	}
}

// Entries, none of which a flow of the tests has, into all ways of a bucket, or out of them.
static void crowd(struct lb_flowtable *table, uint32_t bucket, bool in)
{
	for (uint32_t way = 0; way < LB_FLOWTABLE_WAYS; way++)
		table->buckets[bucket].entries[way] = in ? lb_flow_entry_make(way + 1, 0, 0, LB_FLOW_UDP) : 0;
}

/*
 * A flow whose entry is in its second bucket: it is settled by the fast stage, but behind an RST, which it revives it from,
 * and goes to its first bucket when there is room.
 */
static void flow_in_its_second_bucket_is_settled(void **state)
{
	struct segment segment = segment_of("198.51.100.14", 5000, services[0].vip, services[0].port, IPPROTO_TCP, SYN);
	struct lb_worker *worker = pipeline.dp.workers[0];
	struct lb_flowtable *table = &worker->flowtable;
	struct frame frames[2] = {frame_of(&segment), {.n = 0}};
	uint32_t home, away;
	uint64_t hash, entry;

	(void)state;
	memset(table->buckets, 0, table->n_buckets * sizeof(table->buckets[0]));
	worker->pressure = false;
	for (unsigned k = 0; k < N_BACKENDS; k++)
		set_backend(k, LB_BACKEND_UP);
	for (unsigned i = 0; i < 2; i++) {
		segment.flags = i == 0 ? SYN : ACK;
		frames[0] = frame_of(&segment);
		worker->fetch_ports = worker->fast_ports = 1;
		fill(worker, frames, 1, buffer_of);
		lb_worker_process(worker);
		hash = worker->burst.hashes[0];
		free_burst(worker);
	}
	entry = *lb_flowtable_lookup(table, hash, worker->tick);
	assert_int_equal(lb_flow_entry_state(entry), LB_FLOW_ESTABLISHED);
	home = lb_flowtable_first_bucket(table, hash);
	away = lb_flowtable_other_bucket(table, home, (uint32_t)(hash >> 32));
	for (unsigned behind_rst = 0; behind_rst < 2; behind_rst++) {
		crowd(table, home, true);
		crowd(table, away, false);
		table->buckets[away].entries[3] = entry;
		lb_flowtable_set_away(table, home);
		segment.flags = behind_rst ? RST : ACK;
		frames[0] = frame_of(&segment);
		segment.flags = ACK;
		frames[1] = frame_of(&segment);
		worker->fetch_ports = worker->fast_ports = 1;
		fill(worker, frames, 2, buffer_of);
		lb_worker_process(worker);
		assert_int_equal(worker->burst.settled, behind_rst ? 0 : 3);
		free_burst(worker);
		assert_int_equal(table->buckets[away].entries[3], entry);
	}
	table->buckets[home].entries[5] = 0;
	fill(worker, frames + 1, 1, buffer_of);
	worker->fetch_ports = worker->fast_ports = 1;
	lb_worker_process(worker);
	assert_int_equal(worker->burst.settled, 1);
	free_burst(worker);
	assert_int_equal(table->buckets[away].entries[3], 0);
	assert_int_equal(table->buckets[home].entries[5], entry);
	crowd(table, home, false);
}

static struct frame fragment_of(const struct segment *segment, uint8_t id, uint8_t flags, uint8_t offset)
{
	struct frame frame = frame_of(segment);

	frame.bytes[14 + 5] = id;
	frame.bytes[14 + 6] = flags;
	frame.bytes[14 + 7] = offset;
	set_ipv4_checksum(&frame);
	return frame;
}

static bool is_held(struct lb_worker *worker, struct frame frame)
{
	bool held;

	fill(worker, &frame, 1, buffer_of);
	lb_worker_process(worker);
	held = worker->burst.held & 1;
	free_burst(worker);
	return held;
}

// A fragment that has waited is nobody's any more when its turn comes. The next datagram's wait all the same.
static void fragments_wait_whatever_became_of_those_before(void **state)
{
	struct segment segment = segment_of("198.51.100.13", 5000, services[1].vip, 53, IPPROTO_UDP, 0);
	struct lb_worker *worker = pipeline.dp.workers[0];
	struct lb_keymap *before = atomic_load(&pipeline.dp.service_map), *none = lb_keymap_create(16);

	(void)state;
	assert_non_null(none);
	segment.n_payload = 40;
	worker->fetch_ports = worker->fast_ports = worker->stranger_ports = 0;
	assert_true(is_held(worker, fragment_of(&segment, 77, 0, 6)));
	assert_false(is_held(worker, fragment_of(&segment, 77, 0x20, 0)));
	assert_true(lb_frag_release_more(worker, &worker->burst));
	assert_int_equal(worker->burst.n, 1);
	atomic_store(&pipeline.dp.service_map, none);
	lb_worker_process(worker);
	atomic_store(&pipeline.dp.service_map, before);
	lb_keymap_destroy(none);
	assert_int_equal(worker->burst.packets[0].verdict, LB_VERDICT_HOST);
	free_burst(worker);
	assert_false(lb_frag_release_more(worker, &worker->burst));
	assert_true(is_held(worker, fragment_of(&segment, 78, 0, 6)));
	assert_false(is_held(worker, fragment_of(&segment, 78, 0x20, 0)));
	assert_true(lb_frag_release_more(worker, &worker->burst));
	lb_worker_process(worker);
	assert_int_equal(worker->burst.packets[0].verdict, LB_VERDICT_FORWARD);
	free_burst(worker);
	assert_false(lb_frag_release_more(worker, &worker->burst));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_follows_an_rst_revives_its_flow), // while the flow table has room
		cmocka_unit_test(slots_are_followed_as_decided),
		cmocka_unit_test(flows_under_way_go_as_they_would_through_every_stage),
		cmocka_unit_test(eight_packets_are_parsed_as_each_alone),
#ifdef __AVX2__
		cmocka_unit_test(what_eight_keys_hold_is_read_by_member),
#endif

		cmocka_unit_test(a_full_line_hides_no_vip),
		cmocka_unit_test(a_flow_of_ipv4_is_one_with_tag_in_pieces_and_without),
		cmocka_unit_test(a_table_may_go_at_any_time),
		cmocka_unit_test(fragments_wait_whatever_became_of_those_before),
		cmocka_unit_test(a_backends_id_does_not_come_back_in_another_mode),
		cmocka_unit_test(an_expired_entry_in_the_second_bucket_is_not_doubled),
		cmocka_unit_test(flow_in_its_second_bucket_is_settled),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
