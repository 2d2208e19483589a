/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packet vectors: frames in, frames and verdicts out, byte for byte, through the real pipeline. The cases are in
 * vectors.json, written by generate.py with scapy, which computes every checksum anew.
 *
 * {"setups": {NAME: {"services": [...], "backends": [...], "locals": [...], "mtus": [of port 0, of port 1],
 *                     "vlans": [towards clients, towards backends]}},
 *  "cases": [{"name", "setup", "states": {BACKEND: STATE}, "steps": [STEP...]}]}
 * STEP: {"in": HEX, "port": N, "verdict": NAME or "held", "out": [[PORT, HEX]...]}: the frame, what becomes of it, and
 * all frames that are sent on account of it; a third element [[OFFSET, LENGTH]...] excepts bytes from the comparison.
 * "wait": before it, the time for which fragments are kept passes. "split": the frame comes in two buffers, the first of
 * so many bytes.
 *
 * Mode fullnat: a case begins without sessions; the ports to each backend are taken from FIRST_LOCAL_PORT on, and packets that
 * become IPv4 are numbered from FIRST_IPV4_ID on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "dataplane/frag.h"
#include "dataplane/fullnat.h"
#include "tests/pipeline/pipeline.h"

#define N_SLOTS 13u
#define MAX_FRAME 2048u
#define FIRST_LOCAL_PORT 30000u
#define FIRST_IPV4_ID 0x4242u

static struct pipeline pipeline;
static json_t *vectors;
static const char *current_setup;

static int hex(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

static unsigned unhex(const char *text, uint8_t *bytes)
{
	unsigned n = (unsigned)strlen(text) / 2;

	assert_true(n <= MAX_FRAME);
	for (unsigned i = 0; i < n; i++)
		bytes[i] = (uint8_t)(hex(text[2 * i]) << 4 | hex(text[2 * i + 1]));
	return n;
}

static unsigned number(const json_t *object, const char *key)
{
	return (unsigned)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value != NULL ? value : "";
}

static unsigned by_name(const char *name, const char *(*name_of)(unsigned), unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(name_of(i), name) == 0)
			return i;
	fail_msg("no such name: %s", name);
	return n;
}

static void command(struct lb_msg msg)
{
	assert_int_equal(pipeline_command(&pipeline, &msg, NULL), 0);
}

static void set_service(const json_t *json)
{
	struct lb_msg msg = {.op = LB_OP_SERVICE_SET,
		.service = {.id = (uint16_t)number(json, "id"), .idle_timeout_ms = 60000}};

	assert_int_equal(lb_addr_parse(text(json, "vip"), &msg.service.key.addr), 0);
	msg.service.key.port_be = rte_cpu_to_be_16((uint16_t)number(json, "port"));
	msg.service.key.proto = (uint8_t)number(json, "proto");
	msg.service.mode = (uint8_t)by_name(text(json, "mode"), lb_mode_name, LB_MODE_N);
	msg.service.client_address = (uint8_t)number(json, "client_address"); // enum lb_client_address
	msg.service.gue_port_be = rte_cpu_to_be_16((uint16_t)number(json, "gue_port"));
	msg.service.mss = (uint16_t)number(json, "mss");
	msg.service.on_empty = (uint8_t)by_name(text(json, "on_empty"), lb_on_empty_name, LB_ON_EMPTY_N);
	command(msg);
}

// Next hops 1 (backends) and 2 (clients) and their rules for VLAN tags: "vlans": [of 2, of 1].
static void set_nexthops(const json_t *vlans)
{
	static const uint8_t macs[2][6] = {{2, 0, 0, 0, 0, 0xb1}, {2, 0, 0, 0, 0, 0xc1}};

	for (uint16_t i = 0; i < 2; i++) {
		struct lb_msg msg = {.op = LB_OP_NEXTHOP_SET,
			.nexthop = {.id = (uint16_t)(i + 1), .port = (uint16_t)(1 - i), .resolved = 1}};

		memcpy(msg.nexthop.mac, macs[i], 6);
		msg.nexthop.vlan = (uint16_t)json_integer_value(json_array_get(vlans, 1u - i));
		assert_int_equal(lb_fib_nexthop_set(&pipeline.dp.fib, &msg.nexthop, 2), 0);
		for (unsigned k = 0; k < LB_MAX_BACKENDS; k++)
			if (pipeline.dp.backends[k].in_use && pipeline.dp.backends[k].nexthop_id == msg.nexthop.id)
				atomic_store(&pipeline.dp.backends[k].nexthop,
					lb_fib_nexthop_word(&pipeline.dp.fib, msg.nexthop.id));
	}
}

static void set_backend(const json_t *json, const char *state)
{
	struct lb_msg msg = {.op = LB_OP_BACKEND_SET,
		.backend = {.id = (uint16_t)number(json, "id"), .service = (uint16_t)number(json, "service"),
			.nexthop = 1}};

	assert_int_equal(lb_addr_parse(text(json, "address"), &msg.backend.addr), 0);
	msg.backend.port_be = rte_cpu_to_be_16((uint16_t)number(json, "port"));
	msg.backend.state = (uint8_t)by_name(state, lb_backend_state_name, LB_BACKEND_STATE_N);
	command(msg);
}

// All slots of a service's table name the backend given as "slot"; null: nobody; missing: no table at all.
static void publish(const json_t *json)
{
	const json_t *slot = json_object_get(json, "slot");
	uint16_t slots[N_SLOTS];

	for (unsigned i = 0; i < N_SLOTS; i++)
		slots[i] = json_is_integer(slot) ? (uint16_t)json_integer_value(slot) : LB_BACKEND_NONE;
	if (slot != NULL)
		assert_int_equal(pipeline_publish(&pipeline, (uint16_t)number(json, "id"), slots, N_SLOTS), 0);
}

static void forget_flows(void)
{
	static uint8_t everyone[LB_MAX_BACKENDS + 1];
	struct lb_worker *worker = pipeline.worker;
	const struct lb_fullnat *fullnat = pipeline.dp.fullnat;

	memset(everyone, 1, sizeof(everyone));
	lb_flowtable_purge(&worker->flowtable, everyone);
	worker->ipv4_id = FIRST_IPV4_ID;
	if (fullnat == NULL)
		return;
	lb_sessions_purge_range(&worker->sessions, everyone, 0, worker->sessions.n_entries);
	for (unsigned id = 0; id < LB_MAX_BACKENDS; id++)
		for (unsigned local = 0; local < LB_MAX_LOCALS; local++) {
			struct lb_ports *ports = lb_fullnat_share(fullnat, worker, (uint16_t)id, local);

			if (ports != NULL)
				lb_ports_skip(ports, lb_ports_index(FIRST_LOCAL_PORT, fullnat->n_shares));
		}
}

static void configure(const char *setup)
{
	const json_t *json = json_object_get(json_object_get(vectors, "setups"), setup), *item;
	const json_t *locals = json_object_get(json, "locals"), *mtus = json_object_get(json, "mtus");
	const char *addrs[4];
	size_t i;

	assert_non_null(json);
	current_setup = setup;
	pipeline_sync_begin(&pipeline);
	pipeline_sync_end(&pipeline); // what the setup before had goes
	pipeline.worker->sweeps += 2; // and its ids are free
	for (i = 0; i < 2; i++)
		lb_worker_set_mtu(pipeline.worker, (unsigned)i, mtus != NULL ? (uint16_t)json_integer_value(json_array_get(mtus, i)) : 1500);
	pipeline_sync_begin(&pipeline);
	assert_true(json_array_size(locals) <= 4);
	json_array_foreach(locals, i, item)
		addrs[i] = json_string_value(item);
	set_nexthops(json_object_get(json, "vlans"));
	pipeline_locals(&pipeline, addrs, (uint16_t)json_array_size(locals));
	json_array_foreach(json_object_get(json, "services"), i, item)
		set_service(item);
	json_array_foreach(json_object_get(json, "backends"), i, item)
		set_backend(item, "up");
	json_array_foreach(json_object_get(json, "services"), i, item)
		publish(item);
	pipeline_sync_end(&pipeline);
}

// The states that the case asks for; everybody else is up.
static void set_states(const json_t *states)
{
	const json_t *setup = json_object_get(json_object_get(vectors, "setups"), current_setup), *item;
	size_t i;

	json_array_foreach(json_object_get(setup, "backends"), i, item) {
		char id[8];
		const char *state;

		snprintf(id, sizeof(id), "%u", number(item, "id"));
		state = json_string_value(json_object_get(states, id));
		set_backend(item, state != NULL ? state : "up");
	}
}

static void print_frame(const char *what, const uint8_t *bytes, unsigned n)
{
	fprintf(stderr, "%s:", what);
	for (unsigned i = 0; i < n; i++)
		fprintf(stderr, "%02x", bytes[i]);
	fprintf(stderr, "\n");
}

// What the third element of an output lists as [offset, length] is the flow's hash: not compared.
static void take_over(const json_t *masks, uint8_t *wanted, const uint8_t *got, unsigned n)
{
	const json_t *mask;
	size_t i;

	json_array_foreach(masks, i, mask) {
		unsigned at = (unsigned)json_integer_value(json_array_get(mask, 0));
		unsigned length = (unsigned)json_integer_value(json_array_get(mask, 1));

		assert_true(at + length <= n);
		memcpy(wanted + at, got + at, length);
	}
}

static void check_frame(const json_t *wanted, unsigned port, struct rte_mbuf *mbuf)
{
	uint8_t bytes[MAX_FRAME], whole[MAX_FRAME];
	const uint8_t *got = rte_pktmbuf_read(mbuf, 0, mbuf->pkt_len, whole);
	unsigned n;

	assert_non_null(got);
	if (wanted == NULL) {
		print_frame("sent", got, mbuf->pkt_len);
		fail_msg("a frame that was not expected");
	}
	n = unhex(json_string_value(json_array_get(wanted, 1)), bytes);
	if (n == mbuf->pkt_len)
		take_over(json_array_get(wanted, 2), bytes, got, n);
	if (n != mbuf->pkt_len || memcmp(bytes, got, n) != 0) {
		print_frame("sent  ", got, mbuf->pkt_len);
		print_frame("wanted", bytes, n);
		fail_msg("another frame than expected");
	}
	assert_int_equal(port, json_integer_value(json_array_get(wanted, 0)));
}

// What tx would do with the burst. @return frames sent, counted from n_out.
static size_t take_out(const json_t *out, size_t n_out)
{
	struct lb_burst *burst = &pipeline.worker->burst;

	for (unsigned i = 0; i < burst->n; i++) {
		uint8_t verdict = burst->packets[i].verdict;

		if (verdict == LB_VERDICT_FORWARD || verdict == LB_VERDICT_REPLY || (burst->answered >> i & 1))
			check_frame(json_array_get(out, n_out++), lb_nexthop_port(burst->nexthops[i]),
				burst->mbufs[i]);
		if ((burst->held >> i & 1) == 0)
			rte_pktmbuf_free(burst->mbufs[i]);
	}
	burst->n = 0;
	return n_out;
}

static struct rte_mbuf *mbuf_of(const uint8_t *bytes, unsigned n)
{
	return pipeline_mbuf(&pipeline, bytes, n);
}

static void take_step(const json_t *step)
{
	struct lb_burst *burst = &pipeline.worker->burst;
	const json_t *out = json_object_get(step, "out");
	uint8_t bytes[MAX_FRAME];
	unsigned n = unhex(text(step, "in"), bytes), n_first = number(step, "split");
	size_t n_out;

	burst->n = 1;
	burst->port = (uint16_t)number(step, "port");
	burst->mbufs[0] = mbuf_of(bytes, n_first != 0 ? n_first : n);
	if (n_first != 0)
		assert_int_equal(rte_pktmbuf_chain(burst->mbufs[0], mbuf_of(bytes + n_first, n - n_first)), 0);
	lb_worker_process(pipeline.worker);
	assert_string_equal((burst->held & 1) ? "held" : lb_verdict_name(burst->packets[0].verdict), text(step, "verdict"));
	n_out = take_out(out, 0);
	while (lb_frag_release(pipeline.worker, burst)) {
		lb_worker_process(pipeline.worker);
		n_out = take_out(out, n_out);
	}
	assert_int_equal(n_out, json_array_size(out));
}

static void run_case(void **state)
{
	const json_t *json = *state, *step;
	unsigned n_free = rte_mempool_avail_count(pipeline.pool);
	size_t i;

	if (current_setup == NULL || strcmp(current_setup, text(json, "setup")) != 0)
		configure(text(json, "setup"));
	set_states(NULL);
	forget_flows();
	pipeline.dp.now_s += 2; // tokens are back
	pipeline.worker->now_s = pipeline.dp.now_s;
	json_array_foreach(json_object_get(json, "steps"), i, step) {
		set_states(json_object_get(step, "states"));
		if (json_object_get(step, "wait") != NULL)
			pipeline_expire_fragments(&pipeline);
		take_step(step);
	}
	pipeline_expire_fragments(&pipeline);
	assert_int_equal(rte_mempool_avail_count(pipeline.pool), n_free);
}

static int set_up(void **state)
{
	(void)state;
	pipeline_start_eal_alone(512);
	pipeline_start(&pipeline, 1, 4096, 1023);
	pipeline_sync_begin(&pipeline);
	pipeline_sync_end(&pipeline);
	return 0;
}

// The state is the case.
static int tear_down(void **state)
{
	*state = &pipeline;
	return pipeline_tear_down(state);
}

int main(void)
{
	json_error_t error;
	const json_t *cases, *one;
	struct CMUnitTest *tests;
	size_t i;
	int n_failed;

	vectors = json_load_file(LB_VECTORS, JSON_REJECT_DUPLICATES, &error);
	if (vectors == NULL) {
		fprintf(stderr, "%s:%d: %s\n", LB_VECTORS, error.line, error.text);
		return 1;
	}
	cases = json_object_get(vectors, "cases");
	tests = calloc(json_array_size(cases), sizeof(*tests));
	if (tests == NULL)
		return 1;
	json_array_foreach(cases, i, one)
		tests[i] = (struct CMUnitTest){.name = text(one, "name"), .test_func = run_case,
			.initial_state = (void *)(uintptr_t)one};
	n_failed = _cmocka_run_group_tests("vectors", tests, json_array_size(cases), set_up, tear_down);
	free(tests);
	json_decref(vectors);
	return n_failed;
}
