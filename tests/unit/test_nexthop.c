/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Next hops and routes between the real kernel, in a network namespace per test (needs root), and a fake data plane:
 *
 *   veth0 10.0.0.1/16 fd00::1/64, the data plane's port 0 -- veth1, which nobody listens to
 *   lo    192.0.2.1/32
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "control/nexthop.h"
#include "lb/log.h"
#include "tests/unit/fake_dp.h"

#define INSTANCE "test-nexthop"
#define PATIENCE_NS UINT64_C(20000000000)

static const uint8_t gateway_mac[6] = {2, 0, 0, 0, 0, 1};

static struct event_base *base;
static struct fake_dp *fake;
static struct lb_dp *dp;
static struct lb_nexthops *nexthops;
static unsigned n_refused;
static char *dir, path[64];

#define WAIT(condition)                                                                             \
	do {                                                                                        \
		uint64_t give_up_ns = lb_now_ns() + PATIENCE_NS;                                    \
		while (!(condition) && lb_now_ns() < give_up_ns)                                    \
			event_base_loop(base, EVLOOP_ONCE);                                         \
		if (!(condition))                                                                   \
			print_routes();                                                             \
		assert_true(condition);                                                             \
	} while (0)

static void sh(const char *command)
{
	if (system(command) != 0)
		fail_msg("command failed: %s", command);
}

static struct lb_addr address(const char *text)
{
	struct lb_addr addr;

	assert_int_equal(lb_addr_parse(text, &addr), 0);
	return addr;
}

/* What the data plane has. */

static void print_routes(void)
{
	char text[LB_ADDR_STRLEN];

	pthread_mutex_lock(&fake->lock);
	for (size_t i = 0; i < fake->n_routes; i++)
		print_error("%s/%u -> %u\n", lb_addr_format(&fake->routes[i].msg.prefix, text),
			fake->routes[i].msg.length, fake->routes[i].msg.nexthop);
	pthread_mutex_unlock(&fake->lock);
}

/* The next hop of the route to exactly @p text/@p length; LB_NEXTHOP_NONE: no such route. */
static uint16_t route_to(const char *text, uint8_t length)
{
	struct lb_addr prefix = address(text);
	uint16_t nexthop = LB_NEXTHOP_NONE;

	pthread_mutex_lock(&fake->lock);
	for (size_t i = 0; i < fake->n_routes; i++)
		if (fake->routes[i].msg.length == length && lb_addr_equal(&fake->routes[i].msg.prefix, &prefix))
			nexthop = fake->routes[i].msg.nexthop;
	pthread_mutex_unlock(&fake->lock);
	return nexthop;
}

static bool is_node(uint16_t nexthop)
{
	return nexthop != LB_NEXTHOP_NONE && nexthop != LB_NEXTHOP_HOST;
}

/* Position in the log of the first command at or after @p from with @p op for a route to @p text; SIZE_MAX: none. */
static size_t find_route_command(size_t from, unsigned op, const char *text)
{
	struct lb_addr prefix = address(text);
	size_t found = SIZE_MAX;

	pthread_mutex_lock(&fake->lock);
	for (size_t i = from; i < fake->n_log && found == SIZE_MAX; i++)
		if (fake->log[i].op == op && lb_addr_equal(&fake->log[i].route.prefix, &prefix))
			found = i;
	pthread_mutex_unlock(&fake->lock);
	return found;
}

/* Set-up. */

static bool may_sync(void *arg)
{
	(void)arg;
	return lb_nexthops_is_ready(nexthops);
}

static int sync_all(void *arg)
{
	(void)arg;
	return lb_nexthops_sync(nexthops);
}

static void ignore_state(void *arg, enum lb_dp_state from, enum lb_dp_state to, const char *reason)
{
	(void)arg, (void)from, (void)to, (void)reason;
}

static void ignore_event(void *arg, unsigned worker, const struct lb_msg *event)
{
	(void)arg, (void)worker, (void)event;
}

static void count_refused(void *arg, const struct lb_msg *command, int status)
{
	(void)arg;
	print_error("%s: %s\n", lb_op_name(command->op), strerror(-status));
	n_refused++;
}

static const struct lb_dp_callbacks callbacks = {
	.may_sync = may_sync,
	.sync = sync_all,
	.state_changed = ignore_state,
	.event = ignore_event,
	.refused = count_refused,
};

static void ignore_changed(void *arg)
{
	(void)arg;
}

static void ignore_nexthop(void *arg, const struct lb_nexthop *nexthop)
{
	(void)arg, (void)nexthop;
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(unshare(CLONE_NEWNET), 0); // the last test's goes with all in it
	sh("ip link add veth0 type veth peer name veth1 && for i in lo veth0 veth1; do "
	   "ip link set $i addrgenmode none; ip link set $i up || exit; done && "
	   "ip address add 10.0.0.1/16 dev veth0 && ip address add fd00::1/64 dev veth0 nodad && "
	   "ip address add 192.0.2.1/32 dev lo");
	n_refused = 0;
	dir = fake_dp_shm_dir();
	snprintf(path, sizeof(path), "%s/nexthops.json", dir);
	base = event_base_new();
	assert_non_null(base);
	fake = fake_dp_start(INSTANCE, 1);
	assert_int_equal(lb_dp_create(base, INSTANCE, &callbacks, NULL, &dp), 0);
	assert_int_equal(lb_nexthops_create(base, dp, path, ignore_changed, ignore_nexthop, NULL, &nexthops), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lb_nexthops_destroy(nexthops);
	lb_dp_destroy(dp);
	fake_dp_stop(fake, true);
	event_base_free(base);
	fake_dp_remove_dir(dir);
	return 0;
}

/* Let the data plane have one port, @p interface. */
static void use_port(const char *interface)
{
	struct lb_shm_header *header = &fake->map.shm->header;

	header->n_ports = 1;
	header->ports[0].in_use = 1;
	header->ports[0].ifindex = if_nametoindex(interface);
	assert_int_not_equal(header->ports[0].ifindex, 0);
	lb_nexthops_set_ports(nexthops, lb_dp_map(dp));
}

static void wait_synced(void)
{
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	WAIT(lb_dp_n_pending(dp) == 0);
}

static void check_no_harm(void)
{
	WAIT(lb_dp_n_pending(dp) == 0);
	assert_int_equal(n_refused, 0);
	assert_int_equal(fake->n_refused, 0);
}

static void own_addresses_follow_the_kernel(void)
{
	static const char *const own[] = {"10.0.0.1", "192.0.2.1", "fd00::1"};

	for (size_t i = 0; i < 3; i++) {
		uint8_t length = strchr(own[i], ':') != NULL ? 128 : 32;

		assert_int_equal(route_to(own[i], length), LB_NEXTHOP_HOST);
	}
	assert_int_equal(route_to("127.0.0.1", 32), LB_NEXTHOP_NONE);
	assert_int_equal(route_to("::1", 128), LB_NEXTHOP_NONE);
	sh("ip address add 10.0.0.9/16 dev veth0; ip address add fd00::9/64 dev veth0 nodad; "
	   "ip address add fe80::9/64 dev veth0 nodad");
	WAIT(route_to("10.0.0.9", 32) == LB_NEXTHOP_HOST);
	WAIT(route_to("fd00::9", 128) == LB_NEXTHOP_HOST);
	WAIT(route_to("fe80::9", 128) == LB_NEXTHOP_HOST);
	sh("ip address del 10.0.0.9/16 dev veth0; ip address del fd00::9/64 dev veth0; "
	   "ip address del fe80::9/64 dev veth0");
	WAIT(route_to("10.0.0.9", 32) == LB_NEXTHOP_NONE);
	WAIT(route_to("fd00::9", 128) == LB_NEXTHOP_NONE);
	WAIT(route_to("fe80::9", 128) == LB_NEXTHOP_NONE);
	assert_int_equal(route_to("10.0.0.1", 32), LB_NEXTHOP_HOST);
}

/* Tests. */

static void with_a_gateway_own_addresses_are_the_hosts(void **state)
{
	(void)state;
	use_port("veth0");
	lb_nexthops_set_gateway(nexthops, gateway_mac, 0);
	wait_synced();
	own_addresses_follow_the_kernel();
	assert_true(is_node(route_to("0.0.0.0", 0)));
	assert_int_equal(route_to("::", 0), route_to("0.0.0.0", 0));
	// the kernel's routes and neighbours are none of the gateway's business
	sh("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 nud permanent dev veth0; ip route add 10.7.0.0/16 via 10.0.0.2");
	sh("ip address add 10.0.0.9/16 dev veth0");
	WAIT(route_to("10.0.0.9", 32) == LB_NEXTHOP_HOST);
	assert_int_equal(route_to("10.7.0.0", 16), LB_NEXTHOP_NONE);
	assert_int_equal(route_to("10.0.0.2", 32), LB_NEXTHOP_NONE);
	assert_int_equal(fake_dp_count(fake, LB_OP_NEXTHOP_SET), 1);
	check_no_harm();
}

static void with_the_kernels_routes_own_addresses_are_the_hosts(void **state)
{
	(void)state;
	sh("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 nud permanent dev veth0");
	sh("ip route add default via 10.0.0.2");
	use_port("veth0");
	wait_synced();
	own_addresses_follow_the_kernel();
	WAIT(is_node(route_to("10.0.0.2", 32)));
	assert_int_equal(route_to("0.0.0.0", 0), route_to("10.0.0.2", 32));
	assert_int_equal(route_to("::", 0), LB_NEXTHOP_NONE);
	check_no_harm();
}

static void ports_without_interfaces_have_own_addresses(void **state)
{
	(void)state;
	fake->map.shm->header.n_ports = 1; // a NIC that the kernel does not have
	fake->map.shm->header.ports[0].in_use = 1;
	lb_nexthops_set_ports(nexthops, lb_dp_map(dp));
	wait_synced();
	own_addresses_follow_the_kernel();
	check_no_harm();
}

static void first_sync_has_the_own_addresses(void **state)
{
	size_t end;

	(void)state;
	lb_nexthops_set_gateway(nexthops, gateway_mac, 0);
	assert_false(lb_nexthops_is_ready(nexthops));
	wait_synced();
	end = fake_dp_find(fake, 0, LB_OP_SYNC_END);
	assert_int_not_equal(end, SIZE_MAX);
	assert_true(find_route_command(0, LB_OP_ROUTE_SET, "10.0.0.1") < end);
	assert_true(find_route_command(0, LB_OP_ROUTE_SET, "fd00::1") < end);
	assert_true(find_route_command(0, LB_OP_ROUTE_SET, "0.0.0.0") < end);
}

static void own_addresses_stay_the_hosts_when_the_gateway_comes_and_goes(void **state)
{
	size_t from;

	(void)state;
	sh("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 nud permanent dev veth0");
	use_port("veth0");
	wait_synced();
	WAIT(is_node(route_to("10.0.0.2", 32)));
	from = fake->n_log;
	for (int i = 0; i < 3; i++) {
		lb_nexthops_set_gateway(nexthops, gateway_mac, 0);
		WAIT(is_node(route_to("0.0.0.0", 0)) && route_to("10.0.0.2", 32) == LB_NEXTHOP_NONE);
		lb_nexthops_collect(nexthops);
		lb_nexthops_set_gateway(nexthops, NULL, 0);
		WAIT(is_node(route_to("10.0.0.2", 32)) && route_to("0.0.0.0", 0) == LB_NEXTHOP_NONE);
		lb_nexthops_collect(nexthops);
	}
	assert_int_equal(find_route_command(from, LB_OP_ROUTE_DEL, "10.0.0.1"), SIZE_MAX);
	assert_int_equal(find_route_command(from, LB_OP_ROUTE_DEL, "fd00::1"), SIZE_MAX);
	assert_int_equal(route_to("10.0.0.1", 32), LB_NEXTHOP_HOST);
	check_no_harm();
}

static void own_address_goes_before_a_neighbour(void **state)
{
	struct lb_addr addr = address("10.0.0.7"), prefix = address("10.0.8.5");
	struct lb_nexthop *nexthop;
	const char *why = NULL;

	(void)state;
	sh("ip neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 nud permanent dev veth0");
	sh("ip neigh add 10.0.8.5 lladdr 02:00:00:00:08:05 nud permanent dev veth0");
	use_port("veth0");
	wait_synced();
	WAIT(is_node(route_to("10.0.0.7", 32)) && is_node(route_to("10.0.8.5", 32)));
	assert_false(lb_nexthops_is_own(nexthops, &addr));
	sh("ip address add 10.0.0.7/16 dev veth0; ip route add local 10.0.8.0/24 dev lo");
	WAIT(route_to("10.0.0.7", 32) == LB_NEXTHOP_HOST);
	WAIT(route_to("10.0.8.0", 24) == LB_NEXTHOP_HOST && route_to("10.0.8.5", 32) == LB_NEXTHOP_NONE);
	assert_true(lb_nexthops_is_own(nexthops, &addr));
	assert_true(lb_nexthops_is_own(nexthops, &prefix));
	assert_null(lb_nexthops_get(nexthops, &addr, &why));
	assert_string_equal(why, LB_NEXTHOP_OWN);
	sh("ip address del 10.0.0.7/16 dev veth0; ip route del local 10.0.8.0/24 dev lo");
	WAIT(is_node(route_to("10.0.0.7", 32)) && is_node(route_to("10.0.8.5", 32)));
	nexthop = lb_nexthops_get(nexthops, &addr, &why);
	assert_non_null(nexthop);
	assert_true(nexthop->resolved);
	lb_nexthops_put(nexthops, nexthop);
	check_no_harm();
}

static void the_hosts_id_is_never_given_out(void **state)
{
	static bool seen[LB_MAX_NEXTHOPS];
	struct lb_nexthop *held[LB_MAX_NEXTHOPS];
	const char *why = NULL;
	size_t n = 0;

	(void)state;
	memset(seen, 0, sizeof(seen));
	use_port("veth0");
	wait_synced();
	for (uint32_t i = 0; i < LB_MAX_NEXTHOPS; i++) {
		struct lb_addr addr = address("10.0.0.0");
		struct lb_nexthop *nexthop;

		addr.bytes[14] = (uint8_t)((i + 2) >> 8);
		addr.bytes[15] = (uint8_t)(i + 2);
		nexthop = lb_nexthops_get(nexthops, &addr, &why);
		if (nexthop == NULL)
			break;
		assert_true(nexthop->id != LB_NEXTHOP_NONE && nexthop->id < LB_NEXTHOP_HOST);
		assert_false(seen[nexthop->id]);
		seen[nexthop->id] = true;
		held[n++] = nexthop;
	}
	assert_int_equal(n, LB_NEXTHOP_HOST - 1);
	assert_string_equal(why, LB_NEXTHOP_NO_IDS);
	while (n > 0)
		lb_nexthops_put(nexthops, held[--n]);
}

/* The VLAN with which the data plane is to send to exactly this address; UINT16_MAX: no such next hop. */
static uint16_t vlan_to(const char *text, uint8_t length)
{
	uint16_t nexthop = route_to(text, length);

	return is_node(nexthop) ? fake->nexthop_msgs[nexthop].vlan : UINT16_MAX;
}

static uint16_t port_to(const char *text, uint8_t length)
{
	uint16_t nexthop = route_to(text, length);

	return is_node(nexthop) ? fake->nexthop_msgs[nexthop].port : UINT16_MAX;
}

static void vlans_follow_config_and_interfaces(void **state)
{
	uint16_t vlans[LB_SHM_MAX_PORTS] = {5};
	struct lb_config_interface interfaces[] = {{"vl200", 0, 200}, {"vl300", 0, LB_VLAN_NONE}, {"veth0", 0, 9}};

	(void)state;
	sh("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 nud permanent dev veth0");
	lb_nexthops_set_links(nexthops, vlans, interfaces, 3);
	use_port("veth0");
	wait_synced();
	WAIT(vlan_to("10.0.0.2", 32) == 5); // its own interface: the port's, whatever the list says
	// interfaces that come later
	sh("ip link add vl200 type veth peer name vl300 && ip link set vl200 up && ip link set vl300 up && "
	   "ip address add 10.200.0.1/24 dev vl200 && ip address add 10.201.0.1/24 dev vl300 && "
	   "ip neigh add 10.200.0.7 lladdr 02:00:00:00:00:07 nud permanent dev vl200 && "
	   "ip neigh add 10.201.0.7 lladdr 02:00:00:00:00:08 nud permanent dev vl300 && "
	   "ip route add 198.51.100.0/24 via 10.200.0.7");
	WAIT(vlan_to("10.200.0.7", 32) == 200 && vlan_to("198.51.100.0", 24) == 200);
	WAIT(vlan_to("10.201.0.7", 32) == LB_VLAN_NONE);
	WAIT(vlan_to("10.0.0.2", 32) == 5);
	assert_int_equal(port_to("10.200.0.7", 32), 0);
	// another tag for the port, then for an interface
	vlans[0] = 6;
	lb_nexthops_set_links(nexthops, vlans, interfaces, 3);
	WAIT(vlan_to("10.0.0.2", 32) == 6 && vlan_to("10.200.0.7", 32) == 200);
	interfaces[0].vlan = 201;
	lb_nexthops_set_links(nexthops, vlans, interfaces, 3);
	WAIT(vlan_to("10.200.0.7", 32) == 201 && vlan_to("10.0.0.2", 32) == 6);
	// gone from the config, and from the kernel
	lb_nexthops_set_links(nexthops, vlans, interfaces + 1, 2);
	WAIT(route_to("10.200.0.7", 32) == LB_NEXTHOP_NONE);
	WAIT(vlan_to("10.201.0.7", 32) == LB_VLAN_NONE);
	sh("ip link del vl300");
	WAIT(route_to("10.201.0.7", 32) == LB_NEXTHOP_NONE);
	// a port that is not there has no interfaces
	interfaces[0] = (struct lb_config_interface){"veth1", 7, 1};
	lb_nexthops_set_links(nexthops, vlans, interfaces, 1);
	WAIT(vlan_to("10.0.0.2", 32) == 6);
	// a static gateway has its port's
	lb_nexthops_set_gateway(nexthops, gateway_mac, 0);
	WAIT(vlan_to("0.0.0.0", 0) == 6);
	vlans[0] = LB_VLAN_KEEP;
	lb_nexthops_set_links(nexthops, vlans, NULL, 0);
	lb_nexthops_set_gateway(nexthops, gateway_mac, 0);
	WAIT(vlan_to("0.0.0.0", 0) == LB_VLAN_KEEP);
	check_no_harm();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(with_a_gateway_own_addresses_are_the_hosts),
		TEST(with_the_kernels_routes_own_addresses_are_the_hosts),
		TEST(ports_without_interfaces_have_own_addresses),
		TEST(first_sync_has_the_own_addresses),
		TEST(own_addresses_stay_the_hosts_when_the_gateway_comes_and_goes),
		TEST(own_address_goes_before_a_neighbour),
		TEST(the_hosts_id_is_never_given_out),
		TEST(vlans_follow_config_and_interfaces),
	};

	lb_log_set_level(getenv("LB_TEST_VERBOSE") != NULL ? LB_LOG_DEBUG : LB_LOG_ERROR);
	if (unshare(CLONE_NEWNET) < 0) {
		perror("skipped: cannot make a network namespace");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
