/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands: what is not valid is refused with the right error and changes nothing; full sync; the rings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include <netinet/in.h>

#include "dataplane/command.h"
#include "tests/pipeline/pipeline.h"

static struct pipeline pipeline;

static int set_up(void **state)
{
	pipeline_start_eal_alone(512);
	pipeline_start(&pipeline, 1, 4096, 1023);
	lb_ring_attach_consumer(&pipeline.dp.commands, &pipeline.dp.shm.shm->command);
	lb_ring_attach_producer(&pipeline.dp.replies, &pipeline.dp.shm.shm->reply);
	pipeline_sync_begin(&pipeline);
	pipeline_service(&pipeline, 0, "203.0.113.10", 80, IPPROTO_TCP);
	pipeline_service(&pipeline, 1, "2001:db8::10", 80, IPPROTO_TCP);
	pipeline_service(&pipeline, 2, "203.0.113.11", 0, IPPROTO_TCP);
	pipeline_backend(&pipeline, 0, 0, "10.0.0.11", 8080, LB_BACKEND_UP);
	pipeline_backend(&pipeline, 1, 1, "fd00::11", 8080, LB_BACKEND_UP);
	assert_int_equal(pipeline_publish(&pipeline, 0, (uint16_t[]){0, 0, 0}, 3), 0);
	pipeline_sync_end(&pipeline);
	*state = &pipeline;
	return 0;
}

static struct lb_addr addr_of(const char *text)
{
	struct lb_addr addr;

	assert_int_equal(lb_addr_parse(text, &addr), 0);
	return addr;
}

static struct lb_msg service_msg(void)
{
	return (struct lb_msg){.op = LB_OP_SERVICE_SET,
		.service = {.id = 9, .mode = LB_MODE_NAT, .idle_timeout_ms = 5000,
			.key = {.addr = addr_of("203.0.113.99"), .port_be = 80, .proto = IPPROTO_TCP}}};
}

static struct lb_msg backend_msg(void)
{
	return (struct lb_msg){.op = LB_OP_BACKEND_SET,
		.backend = {.id = 9, .service = 0, .addr = addr_of("10.0.0.19"), .port_be = 80, .nexthop = 1,
			.state = LB_BACKEND_UP}};
}

#define REFUSE(make, error, ...)                                                                   \
	do {                                                                                       \
		struct lb_msg m = make();                                                          \
		__VA_ARGS__;                                                                       \
		assert_int_equal(pipeline_command(&pipeline, &m, NULL), error);                    \
		assert_false(pipeline.dp.services[9].in_use);                                      \
		assert_false(pipeline.dp.backends[9].in_use);                                      \
	} while (0)

static void bad_services_are_refused(void **state)
{
	(void)state;
	REFUSE(service_msg, -EINVAL, m.service.id = LB_MAX_SERVICES);
	REFUSE(service_msg, -EINVAL, m.service.id = UINT16_MAX);
	REFUSE(service_msg, -EINVAL, m.service.key.addr = addr_of("224.0.0.1"));
	REFUSE(service_msg, -EINVAL, m.service.key.addr = addr_of("0.0.0.0"));
	REFUSE(service_msg, -EINVAL, m.service.key.proto = IPPROTO_SCTP);
	REFUSE(service_msg, -EINVAL, m.service.key.zero[2] = 1);
	REFUSE(service_msg, -EINVAL, m.service.mode = LB_MODE_N);
	REFUSE(service_msg, -EINVAL, m.service.on_empty = 200);
	REFUSE(service_msg, -EINVAL, m.service.tracking = LB_TRACKING_N);
	REFUSE(service_msg, -EINVAL, m.service.scheduler = LB_SCHED_N);
	REFUSE(service_msg, -EINVAL, m.service.gue_port_be = 1);
	REFUSE(service_msg, -EINVAL, m.service.idle_timeout_ms = LB_IDLE_TIMEOUT_MIN_MS - 1);
	REFUSE(service_msg, -EINVAL, m.service.idle_timeout_ms = LB_IDLE_TIMEOUT_MAX_MS + 1);
	REFUSE(service_msg, -EINVAL, m.service.mode = LB_MODE_GUE); // and no port
	REFUSE(service_msg, -EEXIST, m.service.key = pipeline.dp.services[0].key);
	REFUSE(service_msg, -EBUSY, m.service.id = 0); // another key for a live id
}

static void bad_backends_are_refused(void **state)
{
	(void)state;
	REFUSE(backend_msg, -EINVAL, m.backend.id = LB_BACKEND_NONE);
	REFUSE(backend_msg, -EINVAL, m.backend.service = LB_MAX_SERVICES);
	REFUSE(backend_msg, -ENOENT, m.backend.service = 77);
	REFUSE(backend_msg, -EINVAL, m.backend.addr = addr_of("127.0.0.1"));
	REFUSE(backend_msg, -EAFNOSUPPORT, m.backend.addr = addr_of("fd00::9"));
	REFUSE(backend_msg, -EINVAL, m.backend.port_be = 0);
	REFUSE(backend_msg, -EINVAL, m.backend.service = 2); // all ports: the backend keeps them
	REFUSE(backend_msg, -EINVAL, m.backend.state = LB_BACKEND_STATE_N);
	REFUSE(backend_msg, -EINVAL, m.backend.zero[1] = 9);
	REFUSE(backend_msg, -ENOENT, m.backend.nexthop = 99);
	REFUSE(backend_msg, -ENOENT, m.backend.nexthop = UINT16_MAX);
	REFUSE(backend_msg, -EBUSY, m.backend.id = 0);
	REFUSE(backend_msg, -EEXIST, m.backend.addr = pipeline.dp.backends[0].addr;
		m.backend.port_be = pipeline.dp.backends[0].port_be);
	// A refused backend holds no next hop.
	assert_int_equal(pipeline.dp.fib.info[1].refs, 2);
}

static int local_set(const char *addr, uint16_t index, uint16_t count)
{
	struct lb_msg m = {.op = LB_OP_LOCAL_SET, .local = {.index = index, .count = count}};

	if (addr != NULL)
		m.local.addr = addr_of(addr);
	return pipeline_command(&pipeline, &m, NULL);
}

static void local_addresses_come_into_force_as_a_whole(void **state)
{
	struct lb_msg m = {.op = LB_OP_LOCAL_SET, .local = {.zero = 1}};

	(void)state;
	assert_int_equal(pipeline.dp.locals->n, 0);
	assert_int_equal(local_set("192.0.2.10", 0, 2), 0);
	assert_int_equal(pipeline.dp.locals->n, 0);
	assert_int_equal(local_set("192.0.2.10", 1, 2), -EINVAL); // twice
	assert_int_equal(local_set("192.0.2.11", 2, 3), -EINVAL); // one is left out
	assert_int_equal(local_set("2001:db8::10", 1, 2), 0);
	assert_int_equal(pipeline.dp.locals->n, 2);
	assert_null(pipeline.dp.next_locals);
	assert_memory_equal(lb_local_of_family(pipeline.dp.locals, true), &pipeline.dp.locals->addrs[0], 16);
	assert_memory_equal(lb_local_of_family(pipeline.dp.locals, false), &pipeline.dp.locals->addrs[1], 16);
	assert_int_equal(local_set("192.0.2.12", 1, 2), -EINVAL); // of no list
	assert_int_equal(local_set("127.0.0.1", 0, 1), -EINVAL);
	assert_int_equal(local_set("192.0.2.1", 0, LB_MAX_LOCALS + 1), -EINVAL);
	assert_int_equal(local_set("192.0.2.1", 1, 0), -EINVAL);
	assert_int_equal(local_set("192.0.2.1", 0, 0), -EINVAL);
	assert_int_equal(pipeline_command(&pipeline, &m, NULL), -EINVAL);
	assert_int_equal(pipeline.dp.locals->n, 2);
	assert_int_equal(local_set(NULL, 0, 0), 0);
	assert_int_equal(pipeline.dp.locals->n, 0);
	assert_null(lb_local_of_family(pipeline.dp.locals, true));
	for (uint16_t i = 0; i < LB_MAX_LOCALS; i++) {
		char text[20];

		snprintf(text, sizeof(text), "192.0.2.%u", i + 1);
		assert_int_equal(local_set(text, i, LB_MAX_LOCALS), 0);
	}
	assert_int_equal(pipeline.dp.locals->n, LB_MAX_LOCALS);
}

// Replies of dsr and the tunnels do not come this way: an endpoint may be of many services, but not with a port of its own.
static void endpoints_of_direct_modes_are_shared(void **state)
{
	struct lb_msg service = service_msg(), backend = backend_msg();

	(void)state;
	backend.backend.addr = pipeline.dp.backends[0].addr;
	backend.backend.port_be = pipeline.dp.backends[0].port_be; // nat's
	service.service.mode = LB_MODE_DSR;
	for (uint16_t id = 20; id < 22; id++) {
		service.service.id = backend.backend.service = backend.backend.id = id;
		service.service.key.addr.bytes[15] = (uint8_t)id;
		service.service.key.port_be = backend.backend.port_be;
		assert_int_equal(pipeline_command(&pipeline, &service, NULL), 0);
		assert_int_equal(pipeline_command(&pipeline, &backend, NULL), 0);
	}
	backend.backend.id = 23;
	backend.backend.port_be++;
	assert_int_equal(pipeline_command(&pipeline, &backend, NULL), -EINVAL);
	backend.backend.port_be--;
	backend.backend.addr = addr_of("fd00::9");
	assert_int_equal(pipeline_command(&pipeline, &backend, NULL), -EAFNOSUPPORT);
	for (uint16_t id = 20; id < 22; id++)
		assert_int_equal(pipeline_command(&pipeline,
					 &(struct lb_msg){.op = LB_OP_SERVICE_DEL, .id = id}, NULL),
			0);
	// The nat backend still has its endpoint.
	REFUSE(backend_msg, -EEXIST, m.backend.addr = pipeline.dp.backends[0].addr;
		m.backend.port_be = pipeline.dp.backends[0].port_be);
}

static int publish(struct lb_msg_table table, const uint16_t *slots, uint32_t n_slots)
{
	struct lb_msg msg = {.op = LB_OP_TABLE_PUBLISH, .table = table};

	memcpy(pipeline.dp.shm.shm->tables[1].slots, slots, n_slots * sizeof(*slots));
	return pipeline_command(&pipeline, &msg, NULL);
}

static void bad_tables_are_refused(void **state)
{
	const uint16_t good[] = {0, 0, 0, 0, 0}, foreign[] = {0, 0, 1, 0, 0}, unknown[] = {0, 0, 900, 0, 0};
	struct lb_slot_table *before = pipeline.dp.services[0].table;
	struct lb_msg_table table = {.buffer = 1, .n_slots = 5, .version = 7,
		.checksum = lb_hash_bytes(good, sizeof(good), 7)};
	struct lb_msg_table bad;

	(void)state;
#define WITH(change) (bad = table, (change), bad)
	assert_int_equal(publish(WITH(bad.checksum ^= 1), good, 5), -EBADMSG);
	assert_int_equal(publish(WITH(bad.version = 8), good, 5), -EBADMSG);
	assert_int_equal(publish(WITH(bad.n_slots = 0), good, 5), -EINVAL);
	assert_int_equal(publish(WITH(bad.n_slots = LB_MAGLEV_MAX_SLOTS + 1), good, 5), -EINVAL);
	assert_int_equal(publish(WITH(bad.n_slots = UINT32_MAX), good, 5), -EINVAL);
	assert_int_equal(publish(WITH(bad.buffer = LB_SHM_N_TABLES), good, 5), -EINVAL);
	assert_int_equal(publish(WITH(bad.buffer = UINT16_MAX), good, 5), -EINVAL);
	assert_int_equal(publish(WITH(bad.service = 66), good, 5), -ENOENT);
	assert_int_equal(publish(WITH(bad.service = UINT16_MAX), good, 5), -EINVAL);
	assert_int_equal(publish(WITH(bad.zero = 1), good, 5), -EINVAL);
	assert_int_equal(
		publish(WITH(bad.checksum = lb_hash_bytes(foreign, sizeof(foreign), 7)), foreign, 5), -ERANGE);
	assert_int_equal(
		publish(WITH(bad.checksum = lb_hash_bytes(unknown, sizeof(unknown), 7)), unknown, 5), -ERANGE);
	assert_ptr_equal(pipeline.dp.services[0].table, before);
	assert_int_equal(pipeline.dp.slot_refs[0], 3);
	assert_int_equal(publish(table, good, 5), 0);
	assert_int_equal(pipeline.dp.slot_refs[0], 5);
#undef WITH
}

static void bad_routes_are_refused(void **state)
{
	static const struct {
		const char *prefix;
		uint8_t family, length;
		uint16_t nexthop;
		int error;
	} cases[] = {
		{"10.0.0.0", 4, 8, 2, 0}, {"10.1.0.0", 4, 8, 2, -EINVAL}, {"10.0.0.0", 4, 33, 2, -EINVAL},
		{"10.0.0.0", 6, 8, 2, -EINVAL}, {"fd00::", 4, 8, 2, -EINVAL}, {"fd00::", 6, 129, 2, -EINVAL},
		{"fd00::1", 6, 64, 2, -EINVAL}, {"fd00::1", 6, 128, 2, 0}, {"10.0.0.0", 5, 8, 2, -EINVAL},
		{"10.0.0.0", 4, 9, 0, -EINVAL}, {"10.0.0.0", 4, 9, 500, -ENOENT},
		{"10.0.0.0", 4, 9, UINT16_MAX, -ENOENT},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct lb_msg m = {.op = LB_OP_ROUTE_SET,
			.route = {.prefix = addr_of(cases[i].prefix), .family = cases[i].family,
				.length = cases[i].length, .nexthop = cases[i].nexthop}};

		assert_int_equal(pipeline_command(&pipeline, &m, NULL), cases[i].error);
		m.op = LB_OP_ROUTE_DEL;
		if (cases[i].error == 0)
			assert_int_equal(pipeline_command(&pipeline, &m, NULL), 0);
	}
	assert_int_equal(pipeline_command(&pipeline,
				 &(struct lb_msg){.op = LB_OP_NEXTHOP_DEL, .id = 2}, NULL),
		-EBUSY);
	assert_int_equal(pipeline_command(&pipeline,
				 &(struct lb_msg){.op = LB_OP_NEXTHOP_DEL, .id = UINT16_MAX}, NULL),
		-ENOENT);
	// No DPDK port is there: a next hop cannot name one.
	assert_int_equal(pipeline_command(&pipeline,
				 &(struct lb_msg){.op = LB_OP_NEXTHOP_SET, .nexthop = {.id = 3}}, NULL),
		-EINVAL);
}

static void unknown_and_out_of_place_commands_are_refused(void **state)
{
	(void)state;
	for (unsigned op = LB_OP_N; op < 65536; op += 251)
		assert_int_equal(
			pipeline_command(&pipeline, &(struct lb_msg){.op = (uint16_t)op}, NULL), -ENOSYS);
	assert_int_equal(pipeline_command(&pipeline, &(struct lb_msg){.op = 0}, NULL), -ENOSYS);
	assert_int_equal(
		pipeline_command(&pipeline, &(struct lb_msg){.op = LB_OP_SYNC_END}, NULL), -EINVAL);
	assert_int_equal(pipeline_command(&pipeline,
				 &(struct lb_msg){.op = LB_OP_SECRET_SET, .secret = "another"}, NULL),
		-EBUSY);
	assert_int_equal(pipeline_command(&pipeline,
				 &(struct lb_msg){.op = LB_OP_BACKEND_DEL, .id = 0}, NULL),
		-EBUSY); // the table names it
	assert_int_equal(pipeline_command(&pipeline,
				 &(struct lb_msg){.op = LB_OP_BACKEND_DEL, .id = UINT16_MAX}, NULL),
		-ENOENT);
	assert_int_equal(pipeline_command(&pipeline,
				 &(struct lb_msg){.op = LB_OP_SERVICE_DEL, .id = UINT16_MAX}, NULL),
		-ENOENT);
	assert_int_equal(
		pipeline_command(&pipeline,
			&(struct lb_msg){.op = LB_OP_TRACE, .trace = {.proto = IPPROTO_ICMP}}, NULL),
		-EINVAL);
}

// An id that flow entries may still name is not given to another backend.
static void removed_backend_ids_are_quarantined(void **state)
{
	struct lb_msg add = backend_msg(), other;

	(void)state;
	assert_int_equal(pipeline_command(&pipeline, &add, NULL), 0);
	assert_int_equal(pipeline_command(&pipeline, &(struct lb_msg){.op = LB_OP_BACKEND_DEL, .id = 9}, NULL), 0);
	other = add;
	other.backend.addr = addr_of("10.0.0.20");
	assert_int_equal(pipeline_command(&pipeline, &other, NULL), -EAGAIN);
	assert_int_equal(pipeline_command(&pipeline, &add, NULL), 0); // itself may come back
	assert_int_equal(pipeline_command(&pipeline, &(struct lb_msg){.op = LB_OP_BACKEND_DEL, .id = 9}, NULL), 0);
	pipeline.worker->sweeps++;
	assert_int_equal(pipeline_command(&pipeline, &other, NULL), -EAGAIN);
	pipeline.worker->sweeps++;
	assert_int_equal(pipeline_command(&pipeline, &other, NULL), 0);
	assert_int_equal(pipeline_command(&pipeline, &(struct lb_msg){.op = LB_OP_BACKEND_DEL, .id = 9}, NULL), 0);
}

// The header, which status shows, counts what is in use.
static void assert_header_counts(void)
{
	const struct lb_shm_header *header = &pipeline.dp.shm.shm->header;
	uint32_t n_services = 0, n_backends = 0;

	for (unsigned i = 0; i < LB_MAX_SERVICES; i++)
		n_services += pipeline.dp.services[i].in_use;
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		n_backends += pipeline.dp.backends[i].in_use;
	assert_true(n_services >= 1 && n_backends >= 1);
	lb_command_poll(&pipeline.dp);
	assert_int_equal(header->n_services, n_services);
	assert_int_equal(header->n_backends, n_backends);
}

static void sync_removes_what_it_does_not_mention(void **state)
{
	(void)state;
	pipeline.worker->sweeps += 2;
	pipeline_sync_begin(&pipeline);
	pipeline_service(&pipeline, 0, "203.0.113.10", 80, IPPROTO_TCP);
	pipeline_backend(&pipeline, 0, 0, "10.0.0.11", 8080, LB_BACKEND_UP);
	pipeline_sync_end(&pipeline);
	assert_int_equal(pipeline.dp.locals->n, 0);
	assert_true(pipeline.dp.services[0].in_use);
	assert_non_null(pipeline.dp.services[0].table);
	assert_true(pipeline.dp.backends[0].in_use);
	assert_false(pipeline.dp.services[1].in_use);
	assert_false(pipeline.dp.backends[1].in_use);
	assert_false(pipeline.dp.services[2].in_use);
	assert_int_equal(pipeline.dp.fib.info[1].refs, 1);
	assert_header_counts();
	// What went can come back.
	pipeline_service(&pipeline, 1, "2001:db8::10", 80, IPPROTO_TCP);
	pipeline_backend(&pipeline, 1, 1, "fd00::11", 8080, LB_BACKEND_UP);
	pipeline_service(&pipeline, 2, "203.0.113.11", 0, IPPROTO_TCP);
}

static void the_ring_answers_every_command_once(void **state)
{
	struct lb_shm_header *header = &pipeline.dp.shm.shm->header;
	uint64_t n_before = header->n_commands, n_refused = header->n_commands_refused;
	struct lb_ring commands, replies;
	struct lb_msg reply;
	uint32_t expected = 1000;

	(void)state;
	lb_ring_attach_producer(&commands, &pipeline.dp.shm.shm->command);
	lb_ring_attach_consumer(&replies, &pipeline.dp.shm.shm->reply);
	for (uint32_t i = 0; i < 900; i++)
		assert_true(lb_ring_push(&commands,
			&(struct lb_msg){.seq = 1000 + i, .op = i % 3 == 0 ? 999 : LB_OP_PING}));
	while (lb_command_poll(&pipeline.dp) != 0)
		;
	while (lb_ring_pop(&replies, &reply)) {
		assert_int_equal(reply.seq, expected);
		assert_int_equal(reply.reply.status, (expected - 1000) % 3 == 0 ? -ENOSYS : 0);
		expected++;
	}
	assert_int_equal(expected, 1900);
	assert_int_equal(header->n_commands - n_before, 900);
	assert_int_equal(header->n_commands_refused - n_refused, 300);
}

// Bytes as they come: no crash, and the objects still stand.
static void random_commands_change_nothing_they_should_not(void **state)
{
	uint64_t random = 42;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		struct lb_msg msg;

		for (unsigned k = 0; k < sizeof(msg) / 8; k++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			memcpy((uint8_t *)&msg + 8 * k, &random, 8);
		}
		msg.op %= LB_OP_N + 2;
		if (msg.op == LB_OP_SYNC_BEGIN || msg.op == LB_OP_SYNC_END)
			continue;
		if (msg.op == LB_OP_SERVICE_DEL || msg.op == LB_OP_NEXTHOP_DEL)
			msg.id |= 0x8000;
		lb_command_apply(&pipeline.dp, &msg, &(struct lb_msg){0});
	}
	lb_dp_commit(&pipeline.dp);
	assert_true(pipeline.dp.services[0].in_use);
	assert_true(pipeline.dp.backends[0].in_use);
	assert_non_null(pipeline.dp.services[0].table);
	assert_header_counts();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_services_are_refused),
		cmocka_unit_test(bad_backends_are_refused),
		cmocka_unit_test(endpoints_of_direct_modes_are_shared),
		cmocka_unit_test(local_addresses_come_into_force_as_a_whole),
		cmocka_unit_test(bad_tables_are_refused),
		cmocka_unit_test(bad_routes_are_refused),
		cmocka_unit_test(unknown_and_out_of_place_commands_are_refused),
		cmocka_unit_test(removed_backend_ids_are_quarantined),
		cmocka_unit_test(sync_removes_what_it_does_not_mention),
		cmocka_unit_test(the_ring_answers_every_command_once),
		cmocka_unit_test(random_commands_change_nothing_they_should_not),
	};

	return cmocka_run_group_tests(tests, set_up, pipeline_tear_down);
}
