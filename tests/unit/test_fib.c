/* SPDX-License-Identifier: BSD-3-Clause */
/* Routes of the data plane against a naive table, over long series of changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_eal.h>

#include "dataplane/fib.h"

static struct lb_fib fib;

static int set_up(void **state)
{
	static char *args[] = {"test_fib", "--no-huge", "-m", "512", "--no-pci", "--no-telemetry",
		"-l", "0", "--log-level", "error", "--no-shconf", NULL};

	(void)state;
	if (rte_eal_init(11, args) < 0)
		return -1;
	return lb_fib_init(&fib);
}

static int tear_down(void **state)
{
	(void)state;
	lb_fib_fini(&fib);
	return rte_eal_cleanup();
}

static void add_nexthops(unsigned n)
{
	for (uint16_t id = 1; id <= n; id++) {
		struct lb_msg_nexthop msg = {
			.id = id, .mac = {2, 0, 0, 0, 0, (uint8_t)id}, .resolved = 1};

		assert_int_equal(lb_fib_nexthop_set(&fib, &msg, 1), 0);
	}
}

static struct lb_msg_route route(const char *prefix, unsigned length, uint16_t nexthop)
{
	struct lb_msg_route msg = {.length = (uint8_t)length, .nexthop = nexthop};

	assert_int_equal(lb_addr_parse(prefix, &msg.prefix), 0);
	msg.family = lb_addr_is_ipv4(&msg.prefix) ? 4 : 6;
	return msg;
}

static void set(const char *prefix, unsigned length, uint16_t nexthop)
{
	struct lb_msg_route msg = route(prefix, length, nexthop);

	assert_in_range(lb_fib_route_set(&fib, &msg), 0, 1);
}

static void del(const char *prefix, unsigned length)
{
	struct lb_msg_route msg = route(prefix, length, 0);

	assert_int_equal(lb_fib_route_del(&fib, &msg), 0);
}

static uint64_t lookup(const struct lb_addr *addr)
{
	uint64_t id = 0;

	if (lb_addr_is_ipv4(addr)) {
		uint32_t ipv4 = rte_be_to_cpu_32(lb_addr_ipv4_be(addr));

		assert_int_equal(rte_fib_lookup_bulk(fib.ipv4, &ipv4, &id, 1), 0);
	} else {
		uint8_t bytes[1][16];

		memcpy(bytes[0], addr->bytes, 16);
		assert_int_equal(rte_fib6_lookup_bulk(fib.ipv6, bytes, &id, 1), 0);
	}
	return id;
}

static uint64_t lookup_text(const char *text)
{
	struct lb_addr addr;

	assert_int_equal(lb_addr_parse(text, &addr), 0);
	return lookup(&addr);
}

/* The host route of the default gateway itself, and that of a client behind it, go and come. */
static void a_route_like_the_one_above_it_may_go(void **state)
{
	(void)state;
	add_nexthops(3);
	set("0.0.0.0", 0, 1);
	set("::", 0, 1);
	for (int i = 0; i < 3; i++) {
		set("10.1.0.2", 32, 1);
		set("2001:db8:1::2", 128, 1);
		assert_int_equal(lookup_text("10.1.0.2"), 1);
		del("10.1.0.2", 32);
		del("2001:db8:1::2", 128);
		set("10.2.0.11", 32, 2); // had no room once the count of groups was wrong
		set("2001:db8:2::11", 128, 2);
		assert_int_equal(lookup_text("10.2.0.11"), 2);
		assert_int_equal(lookup_text("2001:db8:2::11"), 2);
		del("10.2.0.11", 32);
		del("2001:db8:2::11", 128);
		assert_int_equal(lookup_text("10.2.0.11"), 1);
		assert_int_equal(lookup_text("2001:db8:2::11"), 1);
	}
	del("0.0.0.0", 0);
	del("::", 0);
}

/* A small world in which prefixes nest and next hops repeat. */
#define N_ROUTES 60u

struct naive {
	struct lb_msg_route routes[N_ROUTES];
	bool present[N_ROUTES];
};

static bool covers(const struct lb_msg_route *msg, const struct lb_addr *addr)
{
	unsigned length = msg->family == 4 ? 96u + msg->length : msg->length;

	if ((msg->family == 4) != lb_addr_is_ipv4(addr))
		return false;
	for (unsigned bit = 0; bit < length; bit++)
		if (((msg->prefix.bytes[bit / 8] ^ addr->bytes[bit / 8]) & (0x80u >> (bit % 8))) !=
			0)
			return false;
	return true;
}

static uint64_t naive_lookup(const struct naive *naive, const struct lb_addr *addr)
{
	uint64_t best = LB_NEXTHOP_NONE;
	int length = -1;

	for (unsigned i = 0; i < N_ROUTES; i++) {
		if (naive->present[i] && naive->routes[i].length > length &&
			covers(&naive->routes[i], addr)) {
			best = naive->routes[i].nexthop;
			length = naive->routes[i].length;
		}
	}
	return best;
}

static struct lb_addr random_addr(bool ipv4)
{
	struct lb_addr addr = {.bytes = {0x20, 0x01, 0x0d, 0xb8}};

	if (ipv4)
		return lb_addr_from_ipv4(
			rte_cpu_to_be_32(0x0a000000u | ((uint32_t)random() & 0x30303u)));
	addr.bytes[7] = random() & 3;
	addr.bytes[15] = random() & 3;
	return addr;
}

static void fill_naive(struct naive *naive)
{
	static const uint8_t lengths[2][6] = {{0, 8, 16, 24, 31, 32}, {0, 32, 64, 96, 127, 128}};

	memset(naive, 0, sizeof(*naive));
	for (unsigned i = 0; i < N_ROUTES; i++) {
		bool ipv4 = i % 2;
		struct lb_msg_route *msg = &naive->routes[i];

		msg->family = ipv4 ? 4 : 6;
		msg->length = lengths[!ipv4][(unsigned)random() % 6];
		msg->prefix = random_addr(ipv4);
		for (unsigned bit = msg->length + (ipv4 ? 96u : 0u); bit < 128; bit++)
			msg->prefix.bytes[bit / 8] &= (uint8_t) ~(0x80u >> (bit % 8));
		for (unsigned j = 0; j < i; j++) // the same prefix twice would be one route
			if (naive->routes[j].family == msg->family &&
				naive->routes[j].length == msg->length &&
				lb_addr_equal(&naive->routes[j].prefix, &msg->prefix))
				msg->family = 0;
	}
}

static void random_changes_agree_with_a_naive_table(void **state)
{
	struct naive naive;

	(void)state;
	add_nexthops(3);
	srandom(5);
	fill_naive(&naive);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned i = (unsigned)random() % N_ROUTES;
		struct lb_msg_route *msg = &naive.routes[i];
		struct lb_addr addr = random_addr(random() % 2);

		if (msg->family == 0)
			continue;
		if (random() % 2) {
			msg->nexthop = (uint16_t)(1 + random() % 3);
			assert_in_range(lb_fib_route_set(&fib, msg), 0, 1);
			naive.present[i] = true;
		} else {
			assert_int_equal(
				lb_fib_route_del(&fib, msg), naive.present[i] ? 0 : -ENOENT);
			naive.present[i] = false;
		}
		assert_int_equal(lookup(&addr), naive_lookup(&naive, &addr));
		assert_int_equal(lookup(&msg->prefix), naive_lookup(&naive, &msg->prefix));
	}
	for (unsigned i = 0; i < N_ROUTES; i++)
		if (naive.present[i])
			assert_int_equal(lb_fib_route_del(&fib, &naive.routes[i]), 0);
	for (uint16_t id = 1; id <= 3; id++)
		assert_int_equal(fib.info[id].refs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_route_like_the_one_above_it_may_go),
		cmocka_unit_test(random_changes_agree_with_a_naive_table),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
