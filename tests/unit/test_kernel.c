/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel mirror against the real kernel, in network namespaces of its own (needs root):
 *
 *   this process, a namespace per test                a child, another one
 *   veth0 10.0.0.1/24 fd00::1/64  ------------------  peer0 10.0.0.2/24 fd00::2/64,
 * 02:00:00:00:00:02 other0 10.9.0.1/24 (another pair, not mirrored)
 */
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <libmnl/libmnl.h>

#include "control/kernel_internal.h"

#define GUARD_S 20
#define MAX_TOLD 64

// What was last told of a neighbour.
struct told {
	struct lb_addr addr;
	uint8_t mac[6];
	bool resolved;
	unsigned n;
};

struct fixture {
	struct event_base *base;
	struct lb_kernel *kernel;
	uint32_t ifindex;
	pid_t peer;
	unsigned n_routes_changed;
	struct told told[MAX_TOLD];
	size_t n_told;
	bool unwatch_when_told;
};

/* ---- commands ---- */

static int run_command(const char *prefix, const char *format, va_list args)
{
	char command[1024];
	int n = snprintf(command, sizeof(command), "%s", prefix);

	n += vsnprintf(command + n, sizeof(command) - n, format, args);
	assert_in_range(n, 1, sizeof(command) - 1);
	return system(command);
}

static void sh(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void sh(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (run_command("", format, args) != 0)
		fail_msg("command failed: %s", format);
	va_end(args);
}

static void peer(struct fixture *fixture, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void peer(struct fixture *fixture, const char *format, ...)
{
	char prefix[64];
	va_list args;

	snprintf(prefix, sizeof(prefix), "nsenter --net=/proc/%d/ns/net ", (int)fixture->peer);
	va_start(args, format);
	if (run_command(prefix, format, args) != 0)
		fail_msg("command failed in the peer: %s", format);
	va_end(args);
}

/* ---- the mirror ---- */

static struct lb_addr address(const char *text)
{
	struct lb_addr addr;

	assert_int_equal(lb_addr_parse(text, &addr), 0);
	return addr;
}

static void on_routes(void *arg)
{
	((struct fixture *)arg)->n_routes_changed++;
}

static struct told *find_told(struct fixture *fixture, const struct lb_addr *addr)
{
	for (size_t i = 0; i < fixture->n_told; i++) {
		if (lb_addr_equal(&fixture->told[i].addr, addr))
			return &fixture->told[i];
	}
	return NULL;
}

static void on_neighbour(void *arg, uint32_t ifindex, const struct lb_addr *addr,
	const uint8_t mac[6], bool resolved)
{
	static const uint8_t zero[6];
	struct fixture *fixture = arg;
	struct told *told = find_told(fixture, addr);

	assert_int_equal(ifindex, fixture->ifindex);
	assert_true(resolved == (memcmp(mac, zero, sizeof(zero)) != 0));
	if (!told && fixture->n_told < MAX_TOLD)
		told = &fixture->told[fixture->n_told++];
	if (!told)
		return;
	told->addr = *addr;
	memcpy(told->mac, mac, sizeof(told->mac));
	told->resolved = resolved;
	told->n++;
	if (fixture->unwatch_when_told)
		lb_kernel_unwatch(fixture->kernel, ifindex, addr);
}

static void create_mirror(struct fixture *fixture)
{
	static const struct lb_kernel_callbacks callbacks = {on_routes, on_neighbour};

	fixture->ifindex = if_nametoindex("veth0");
	assert_int_not_equal(fixture->ifindex, 0);
	assert_int_equal(lb_kernel_create(fixture->base, &fixture->ifindex, 1, &callbacks, fixture,
				 &fixture->kernel),
		0);
}

static void on_guard(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	*(bool *)arg = true;
}

// The text of an awaited state of things, and whether it has come.
struct awaited {
	const char *text;
	bool (*has_come)(struct fixture *fixture, const struct awaited *awaited);
	const char *addr, *gateway;
	uint8_t mac;
	size_t n;
};

static void dump_state(struct fixture *fixture)
{
	char a[LB_ADDR_STRLEN], b[LB_ADDR_STRLEN];
	size_t n;
	const struct lb_kernel_route *routes = lb_kernel_routes(fixture->kernel, &n);

	for (size_t i = 0; i < n && i < 20; i++)
		print_error("route %s/%u via %s metric %u\n", lb_addr_format(&routes[i].prefix, a),
			routes[i].length, lb_addr_format(&routes[i].gateway, b), routes[i].metric);
	routes = lb_kernel_locals(fixture->kernel, &n);
	for (size_t i = 0; i < n && i < 20; i++)
		print_error(
			"local %s/%u\n", lb_addr_format(&routes[i].prefix, a), routes[i].length);
	for (size_t i = 0; i < fixture->n_told; i++)
		print_error("neighbour %s %s ..:%02x, told %u times\n",
			lb_addr_format(&fixture->told[i].addr, a),
			fixture->told[i].resolved ? "resolved" : "lost", fixture->told[i].mac[5],
			fixture->told[i].n);
	sh("ip neighbour show 1>&2; ip route 1>&2; ip -6 route 1>&2");
}

static bool run(struct fixture *fixture, const struct awaited *awaited, struct timeval at_most)
{
	bool over = false;
	struct event *guard = evtimer_new(fixture->base, on_guard, &over);

	evtimer_add(guard, &at_most);
	while (!(awaited && awaited->has_come(fixture, awaited)) && !over)
		event_base_loop(fixture->base, EVLOOP_ONCE);
	event_free(guard);
	return !over;
}

static void run_until(struct fixture *fixture, struct awaited awaited)
{
	if (run(fixture, &awaited, (struct timeval){GUARD_S, 0}))
		return;
	dump_state(fixture);
	fail_msg("not within %d s: %s %s", GUARD_S, awaited.text, awaited.addr ? awaited.addr : "");
}

static void run_for_ms(struct fixture *fixture, unsigned ms)
{
	run(fixture, NULL, (struct timeval){ms / 1000, ms % 1000 * 1000});
}

static bool is_routed(struct fixture *fixture, const struct awaited *awaited)
{
	struct lb_addr addr = address(awaited->addr), gateway = {0};
	struct lb_kernel_route route;

	if (awaited->gateway)
		gateway = address(awaited->gateway);
	return lb_kernel_lookup(fixture->kernel, &addr, &route) == 0 &&
	       route.ifindex == fixture->ifindex && lb_addr_equal(&route.gateway, &gateway);
}

static bool is_unrouted(struct fixture *fixture, const struct awaited *awaited)
{
	struct lb_addr addr = address(awaited->addr);
	struct lb_kernel_route route;

	return lb_kernel_lookup(fixture->kernel, &addr, &route) == -ENOENT;
}

static bool is_resolved(struct fixture *fixture, const struct awaited *awaited)
{
	struct lb_addr addr = address(awaited->addr);
	const struct told *told = find_told(fixture, &addr);

	return told && told->resolved && told->mac[5] == awaited->mac;
}

static bool is_lost(struct fixture *fixture, const struct awaited *awaited)
{
	struct lb_addr addr = address(awaited->addr);
	const struct told *told = find_told(fixture, &addr);

	return told && !told->resolved;
}

static bool is_local(struct fixture *fixture, const struct awaited *awaited)
{
	struct lb_addr addr = address(awaited->addr);

	return lb_kernel_is_local(fixture->kernel, &addr);
}

static bool is_foreign(struct fixture *fixture, const struct awaited *awaited)
{
	return !is_local(fixture, awaited);
}

static bool are_locals(struct fixture *fixture, const struct awaited *awaited)
{
	size_t n;

	lb_kernel_locals(fixture->kernel, &n);
	return n == awaited->n && fixture->n_routes_changed > 0;
}

static bool are_routes(struct fixture *fixture, const struct awaited *awaited)
{
	size_t n;

	lb_kernel_routes(fixture->kernel, &n);
	return n == awaited->n && fixture->n_routes_changed > 0;
}

static bool is_complete(struct fixture *fixture, const struct awaited *awaited)
{
	(void)awaited;
	return fixture->n_routes_changed > 0 && fixture->kernel->wanted == 0 &&
	       fixture->kernel->running < 0;
}

#define AWAIT_ROUTE(fixture, a, g) \
	run_until(fixture, (struct awaited){"route", is_routed, .addr = a, .gateway = g})
#define AWAIT_NO_ROUTE(fixture, a) \
	run_until(fixture, (struct awaited){"no route", is_unrouted, .addr = a})
#define AWAIT_MAC(fixture, a, m) \
	run_until(fixture, (struct awaited){"neighbour", is_resolved, .addr = a, .mac = m})
#define AWAIT_LOST(fixture, a) run_until(fixture, (struct awaited){"lost", is_lost, .addr = a})
#define AWAIT_N_ROUTES(fixture, n_) \
	run_until(fixture, (struct awaited){"routes", are_routes, .n = n_})
#define AWAIT_LOCAL(fixture, a) run_until(fixture, (struct awaited){"local", is_local, .addr = a})
#define AWAIT_FOREIGN(fixture, a) \
	run_until(fixture, (struct awaited){"not local", is_foreign, .addr = a})
#define AWAIT_N_LOCALS(fixture, n_) \
	run_until(fixture, (struct awaited){"local addresses", are_locals, .n = n_})
#define AWAIT_COMPLETE(fixture) run_until(fixture, (struct awaited){"dumps", is_complete})

static void watch(struct fixture *fixture, const char *text)
{
	struct lb_addr addr = address(text);

	assert_int_equal(lb_kernel_watch(fixture->kernel, fixture->ifindex, &addr), 0);
}

static void unwatch(struct fixture *fixture, const char *text)
{
	struct lb_addr addr = address(text);

	lb_kernel_unwatch(fixture->kernel, fixture->ifindex, &addr);
}

static unsigned times_told(struct fixture *fixture, const char *text)
{
	struct lb_addr addr = address(text);
	const struct told *told = find_told(fixture, &addr);

	return told ? told->n : 0;
}

/* ---- set-up ---- */

// A child in a namespace of its own, which lives until it is killed, or we die.
static pid_t start_peer(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_int_equal(unshare(CLONE_NEWNET), 0); // the last test's goes with all in it
	fixture->peer = start_peer();
	sh("ip link add veth0 type veth peer name peer0 netns %d && "
	   "ip link add other0 type veth peer name other1 && "
	   "sysctl -qw net.ipv6.conf.veth0.accept_dad=0 net.ipv6.conf.all.forwarding=1 && "
	   "ip link set other0 addrgenmode none && ip link set other1 addrgenmode none && "
	   "for i in lo veth0 other0 other1; do ip link set $i up || exit; done && "
	   "ip address add 10.0.0.1/24 dev veth0 && ip address add fd00::1/64 dev veth0 nodad && "
	   "ip address add 10.9.0.1/24 dev other0",
		(int)fixture->peer);
	peer(fixture, "sh -c 'sysctl -qw net.ipv6.conf.peer0.accept_dad=0 && "
		      "ip link set peer0 address 02:00:00:00:00:02 up && "
		      "ip address add 10.0.0.2/24 dev peer0 && "
		      "ip address add fd00::2/64 dev peer0 nodad'");
	fixture->base = event_base_new();
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	lb_kernel_destroy(fixture->kernel);
	event_base_free(fixture->base);
	kill(fixture->peer, SIGKILL);
	waitpid(fixture->peer, NULL, 0);
	free(fixture);
	return 0;
}

/* ---- routes ---- */

static void connected_routes_are_told_at_first(void **state)
{
	struct fixture *fixture = *state;
	const struct lb_kernel_route *routes;
	size_t n;

	create_mirror(fixture);
	assert_null(lb_kernel_routes(fixture->kernel, &n)); // nothing blocks for them
	AWAIT_N_ROUTES(fixture, 3);                         // 10.0.0.0/24 fd00::/64 fe80::/64
	assert_int_equal(fixture->n_routes_changed, 1);
	routes = lb_kernel_routes(fixture->kernel, &n);
	assert_int_equal(routes[0].family, 4);
	assert_int_equal(routes[0].length, 24);
	assert_int_equal(routes[0].ifindex, fixture->ifindex);
	AWAIT_ROUTE(fixture, "10.0.0.77", NULL);
	AWAIT_ROUTE(fixture, "fd00::77", NULL);
	AWAIT_NO_ROUTE(fixture, "10.0.1.1");
	AWAIT_NO_ROUTE(fixture, "fd01::1");
	AWAIT_NO_ROUTE(fixture, "10.9.0.2"); // out of the other interface
}

static void empty_set_is_told_too(void **state)
{
	struct fixture *fixture = *state;

	sh("ip address flush dev veth0; ip route flush dev veth0; ip -6 route flush dev veth0");
	create_mirror(fixture);
	AWAIT_N_ROUTES(fixture, 0);
	assert_int_equal(fixture->n_routes_changed, 1);
}

static void routes_added_and_deleted_are_seen(void **state)
{
	struct fixture *fixture = *state;
	unsigned n;

	create_mirror(fixture);
	AWAIT_N_ROUTES(fixture, 3);
	sh("ip route add default via 10.0.0.2");
	AWAIT_ROUTE(fixture, "8.8.8.8", "10.0.0.2");
	sh("ip -6 route add default via fd00::2");
	AWAIT_ROUTE(fixture, "2001:db8::1", "fd00::2");
	sh("ip route add 10.5.0.0/16 via 10.0.0.3");
	AWAIT_ROUTE(fixture, "10.5.1.1", "10.0.0.3");
	sh("ip route add 10.5.1.0/25 via 10.0.0.4 metric 9"); // longer goes before metric
	AWAIT_ROUTE(fixture, "10.5.1.1", "10.0.0.4");
	AWAIT_ROUTE(fixture, "10.5.1.128", "10.0.0.3");
	sh("ip route add 10.5.0.0/16 via 10.0.0.5 metric 7"); // 0 is lower
	sh("ip route replace 10.5.1.0/25 via 10.0.0.6 metric 9");
	AWAIT_ROUTE(fixture, "10.5.1.1", "10.0.0.6");
	AWAIT_ROUTE(fixture, "10.5.2.2", "10.0.0.3");
	sh("ip route del 10.5.0.0/16 via 10.0.0.3");
	AWAIT_ROUTE(fixture, "10.5.2.2", "10.0.0.5");
	sh("ip -6 route add fd55::/32 via fd00::3; ip -6 route add fd55::7/128 via fd00::4");
	AWAIT_ROUTE(fixture, "fd55::7", "fd00::4");
	AWAIT_ROUTE(fixture, "fd55::8", "fd00::3");
	sh("ip -6 route del fd55::7/128");
	AWAIT_ROUTE(fixture, "fd55::7", "fd00::3");
	sh("ip route add 10.66.0.0/16 via inet6 fd00::2 dev veth0");
	AWAIT_ROUTE(fixture, "10.66.0.1", "fd00::2");
	sh("ip route del default");
	AWAIT_NO_ROUTE(fixture, "8.8.8.8");

	AWAIT_COMPLETE(fixture);
	n = fixture->n_routes_changed;
	sh("ip route add 10.88.0.0/16 via 10.9.0.2; ip route add 10.89.0.0/16 via 10.0.0.2 table "
	   "88");
	sh("ip route add blackhole 10.90.0.0/16; ip -6 route add unreachable fd90::/16");
	sh("ip route add 10.91.0.0/16 via 10.0.0.2 tos 8");
	run_for_ms(fixture, 300);
	assert_int_equal(fixture->n_routes_changed, n);
	AWAIT_NO_ROUTE(fixture, "10.88.0.1");
	AWAIT_NO_ROUTE(fixture, "10.89.0.1");
	AWAIT_NO_ROUTE(fixture, "10.90.0.1");
	AWAIT_NO_ROUTE(fixture, "10.91.0.1");

	sh("ip route replace 10.5.0.0/16 via 10.9.0.2 metric 7"); // taken from us by the other
								  // interface
	AWAIT_NO_ROUTE(fixture, "10.5.2.2");
}

static void first_usable_nexthop_is_taken(void **state)
{
	struct fixture *fixture = *state;

	create_mirror(fixture);
	AWAIT_N_ROUTES(fixture, 3);
	sh("ip route add 10.5.0.0/16 nexthop via 10.9.0.2 nexthop via 10.0.0.3 nexthop via "
	   "10.0.0.4");
	AWAIT_ROUTE(fixture, "10.5.0.1", "10.0.0.3");
	sh("ip -6 route add fd55::/32 nexthop via fd00::3 nexthop via fd00::4");
	AWAIT_ROUTE(fixture, "fd55::1", "fd00::3");
	sh("ip -6 route del fd55::/32 via fd00::3");
	AWAIT_ROUTE(fixture, "fd55::1", "fd00::4");
}

static void nexthop_objects_are_followed(void **state)
{
	struct fixture *fixture = *state;

	create_mirror(fixture);
	AWAIT_N_ROUTES(fixture, 3);
	sh("ip nexthop add id 7 via 10.0.0.3 dev veth0; ip route add 10.5.0.0/16 nhid 7");
	AWAIT_ROUTE(fixture, "10.5.0.1", "10.0.0.3");
	sh("ip nexthop replace id 7 via 10.0.0.4 dev veth0");
	AWAIT_ROUTE(fixture, "10.5.0.1", "10.0.0.4");
	sh("ip nexthop del id 7");
	AWAIT_NO_ROUTE(fixture, "10.5.0.1");
}

static void routes_go_with_their_link_and_address(void **state)
{
	struct fixture *fixture = *state;

	create_mirror(fixture);
	sh("ip route add default via 10.0.0.2; ip address add 10.7.0.1/32 dev veth0");
	sh("ip route add 10.6.0.0/16 via 10.0.0.3 src 10.7.0.1");
	AWAIT_ROUTE(fixture, "10.6.0.1", "10.0.0.3");
	AWAIT_COMPLETE(fixture);
	sh("ip address del 10.7.0.1/32 dev veth0");   // older kernels say nothing of the route
	AWAIT_ROUTE(fixture, "10.6.0.1", "10.0.0.2"); // by default now
	AWAIT_COMPLETE(fixture);
	sh("ip route del default");
	AWAIT_NO_ROUTE(fixture, "10.6.0.1");

	peer(fixture, "ip link set peer0 down"); // carrier lost: Linux keeps the routes
	AWAIT_N_ROUTES(fixture, 0);
	peer(fixture, "ip link set peer0 up");
	AWAIT_ROUTE(fixture, "10.0.0.9", NULL);
	sh("ip link set veth0 down");
	AWAIT_N_ROUTES(fixture, 0);
	sh("ip link set veth0 up");
	AWAIT_ROUTE(fixture, "10.0.0.9", NULL);
	sh("ip link del veth0");
	AWAIT_N_ROUTES(fixture, 0);
}

// A file for `ip -batch`: @n lines of @format, which takes two bytes.
static void write_batch(char path[32], const char *format, unsigned n)
{
	FILE *file;

	strcpy(path, "/tmp/fulcrum-kernel-XXXXXX");
	file = fdopen(mkstemp(path), "w");
	assert_non_null(file);
	for (unsigned i = 0; i < n; i++) {
		fprintf(file, format, i >> 8, i & 0xff);
		fputc('\n', file);
	}
	assert_int_equal(fclose(file), 0);
}

static void table_that_changes_while_it_is_read_ends_up_right(void **state)
{
	struct fixture *fixture = *state;
	char add[32], del[32];
	pid_t pid;
	int status;

	write_batch(add, "route add 20.%u.%u.0/24 via 10.0.0.2", 4096);
	write_batch(del, "route del 20.%u.%u.0/24", 2048);
	create_mirror(fixture);
	pid = fork();
	if (pid == 0) {
		char command[128];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(command, sizeof(command), "ip -batch %s && ip -batch %s", add, del);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, WNOHANG) == 0)
		run_for_ms(fixture, 20);
	unlink(add);
	unlink(del);
	assert_int_equal(status, 0);
	AWAIT_N_ROUTES(fixture, 3 + 2048);
	AWAIT_COMPLETE(fixture);
	AWAIT_N_ROUTES(fixture, 3 + 2048);
	AWAIT_ROUTE(fixture, "20.15.255.1", "10.0.0.2");
	AWAIT_NO_ROUTE(fixture, "20.7.255.1");
}

static bool is_dumping(struct fixture *fixture, const struct awaited *awaited)
{
	return fixture->kernel->running == (int)awaited->n;
}

// What the kernel sends when a table changes during a dump: rare, so a message of its form is put
// in between.
static void interrupt_dump(struct fixture *fixture, enum lb_kernel_dump which)
{
	struct nlmsghdr mark = {.nlmsg_len = sizeof(mark),
		.nlmsg_type = NLMSG_NOOP,
		.nlmsg_flags = NLM_F_MULTI | NLM_F_DUMP_INTR};

	run_until(fixture, (struct awaited){"dump", is_dumping, .n = which});
	mark.nlmsg_seq = fixture->kernel->dump_seq;
	lb_kernel_handle(fixture->kernel, &mark);
}

static void interrupted_dump_is_made_again(void **state)
{
	struct fixture *fixture = *state;

	create_mirror(fixture);
	interrupt_dump(fixture, DUMP_LINKS);
	AWAIT_N_ROUTES(fixture, 3);
	AWAIT_COMPLETE(fixture);
	assert_int_equal(fixture->kernel->stats.n_interrupted, 1);
	assert_true(fixture->kernel->stats.n_dumps >= DUMP_N);
	sh("ip route add default via 10.0.0.2");
	for (int i = 0; i < 3; i++) {
		interrupt_dump(fixture, DUMP_ROUTES4);
		while (fixture->kernel->running == DUMP_ROUTES4)
			event_base_loop(fixture->base, EVLOOP_ONCE);
		AWAIT_NO_ROUTE(fixture, "8.8.8.8"); // not by half a table
	}
	AWAIT_ROUTE(fixture, "8.8.8.8", "10.0.0.2");
	AWAIT_COMPLETE(fixture);
	lb_kernel_want_neighbours(fixture->kernel, 0);
	interrupt_dump(fixture, DUMP_NEIGHBOURS4);
	AWAIT_COMPLETE(fixture);
	assert_int_equal(fixture->kernel->stats.n_interrupted, 5);
}

static void lost_notifications_are_made_up_for(void **state)
{
	struct fixture *fixture = *state;
	char batch[32];
	int bytes = 1;

	create_mirror(fixture);
	watch(fixture, "10.0.0.2");
	AWAIT_MAC(fixture, "10.0.0.2", 2);
	AWAIT_COMPLETE(fixture);
	assert_int_equal(setsockopt(mnl_socket_get_fd(fixture->kernel->socket), SOL_SOCKET,
				 SO_RCVBUF, &bytes, sizeof(bytes)),
		0);
	write_batch(batch, "neigh add 10.0.%u.%u lladdr 02:00:00:00:01:00 nud permanent dev veth0",
		256);
	sh("sed -i '/10.0.0.[012] /d' %s; ip -batch %s", batch, batch); // all but .0 .1 .2
	unlink(batch);
	sh("ip route add default via 10.0.0.2");
	AWAIT_ROUTE(fixture, "8.8.8.8", "10.0.0.2");
	AWAIT_MAC(fixture, "10.0.0.3", 0);
	AWAIT_COMPLETE(fixture);
	assert_true(fixture->kernel->stats.n_resyncs > 0);
	assert_int_equal(fixture->kernel->stats.n_invalid, 0);
	assert_in_range(fixture->kernel->stats.n_neighbours, 254, 270);
	assert_int_equal(times_told(fixture, "10.0.0.2"), 1); // no flap
}

/* ---- local addresses ---- */

static bool has_local(struct fixture *fixture, const char *text)
{
	return is_local(fixture, &(struct awaited){.addr = text});
}

// A mirror that was told of no interface.
static void create_mirror_of_locals(struct fixture *fixture)
{
	static const struct lb_kernel_callbacks callbacks = {on_routes, on_neighbour};

	assert_int_equal(
		lb_kernel_create(fixture->base, NULL, 0, &callbacks, fixture, &fixture->kernel), 0);
}

static void addresses_of_every_interface_are_local(void **state)
{
	static const char *const local[] = {
		"10.0.0.1", "fd00::1", "10.9.0.1", "fe80::77", "192.0.2.1", "2001:db8::1"};
	static const char *const foreign[] = {"10.0.0.2", "fd00::2", "10.0.0.0", "10.0.0.255",
		"fd00::", "127.0.0.1", "127.9.9.9", "::1", "ff02::1", "224.0.0.1",
		"255.255.255.255", "0.0.0.0"};
	struct fixture *fixture = *state;
	const struct lb_kernel_route *locals;
	size_t n;

	sh("ip address add 192.0.2.1/32 dev lo; ip address add 2001:db8::1/128 dev lo");
	sh("ip address add fe80::77/64 dev veth0 nodad");
	create_mirror(fixture);
	assert_null(lb_kernel_locals(fixture->kernel, &n)); // nothing blocks for them
	AWAIT_N_ROUTES(fixture, 3);
	assert_int_equal(fixture->n_routes_changed, 1); // with all that is to be known
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
		if (!has_local(fixture, local[i]))
			fail_msg("%s is not local", local[i]);
	}
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		if (has_local(fixture, foreign[i]))
			fail_msg("%s is local", foreign[i]);
	}
	locals = lb_kernel_locals(fixture->kernel, &n);
	assert_int_equal(n, 7); // and veth0's other fe80::
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(locals[i].family, i < 3 ? 4 : 6);
		assert_int_equal(locals[i].length, i < 3 ? 32 : 128);
	}
}

static void addresses_added_and_deleted_are_seen(void **state)
{
	struct fixture *fixture = *state;
	unsigned n;

	create_mirror(fixture);
	AWAIT_COMPLETE(fixture);
	assert_int_equal(fixture->n_routes_changed, 1);
	sh("ip address add 10.0.0.77/24 dev veth0");
	AWAIT_LOCAL(fixture, "10.0.0.77");
	assert_true(fixture->n_routes_changed > 1);
	sh("ip address add fd00::77/64 dev veth0 nodad; ip address add 10.9.0.77/24 dev other0");
	AWAIT_LOCAL(fixture, "fd00::77");
	AWAIT_LOCAL(fixture, "10.9.0.77");
	sh("ip address add fe80::78/64 dev other0 nodad; ip address add 2001:db8::1/128 dev lo");
	AWAIT_LOCAL(fixture, "fe80::78");
	AWAIT_LOCAL(fixture, "2001:db8::1");
	sh("ip address del 10.0.0.77/24 dev veth0; ip address del fd00::77/64 dev veth0");
	AWAIT_FOREIGN(fixture, "10.0.0.77");
	AWAIT_FOREIGN(fixture, "fd00::77");
	sh("ip address flush dev other0; ip address del 2001:db8::1/128 dev lo");
	AWAIT_FOREIGN(fixture, "10.9.0.77");
	AWAIT_FOREIGN(fixture, "10.9.0.1");
	AWAIT_FOREIGN(fixture, "fe80::78");
	AWAIT_FOREIGN(fixture, "2001:db8::1");

	AWAIT_COMPLETE(fixture);
	n = fixture->n_routes_changed;
	sh("ip address add fe80::79/64 dev veth0 nodad");
	AWAIT_LOCAL(fixture, "fe80::79");
	AWAIT_COMPLETE(fixture);
	assert_true(fixture->n_routes_changed > n);
	n = fixture->n_routes_changed;
	sh("ip address add fe80::79/64 dev other0 nodad"); // which it was already
	sh("ip address add 127.0.0.9/8 dev lo; ip route add local 10.77.0.1 dev veth0 table 88");
	run_for_ms(fixture, 300);
	assert_int_equal(fixture->n_routes_changed, n);
	sh("ip address del fe80::79/64 dev veth0"); // which it still is
	run_for_ms(fixture, 300);
	assert_true(has_local(fixture, "fe80::79"));
}

static void addresses_of_a_link_that_is_down_are_local(void **state)
{
	struct fixture *fixture = *state;

	sh("sysctl -qw net.ipv6.route.skip_notify_on_dev_down=1"); // only the addresses' going is
								   // told then
	create_mirror(fixture);
	AWAIT_COMPLETE(fixture);
	sh("ip link set veth0 down");
	AWAIT_N_ROUTES(fixture, 0);
	AWAIT_FOREIGN(fixture, "fd00::1"); // Linux takes IPv6 addresses away
	AWAIT_COMPLETE(fixture);
	assert_true(has_local(fixture, "10.0.0.1"));
	sh("ip link del veth0");
	AWAIT_FOREIGN(fixture, "10.0.0.1");
}

static void local_prefixes_are_mirrored(void **state)
{
	struct fixture *fixture = *state;

	sh("ip address flush dev other0; sysctl -qw net.ipv6.conf.other0.disable_ipv6=1 "
	   "net.ipv6.conf.other1.disable_ipv6=1");
	sh("ip route add local 198.51.100.0/24 dev other0; ip -6 route add local 2001:db8:5::/64 "
	   "dev lo");
	create_mirror(fixture);
	AWAIT_LOCAL(fixture, "198.51.100.9");
	AWAIT_LOCAL(fixture, "2001:db8:5::9");
	AWAIT_FOREIGN(fixture, "198.51.101.9");
	sh("ip -6 route del local 2001:db8:5::/64 dev lo");
	AWAIT_FOREIGN(fixture, "2001:db8:5::9");
	assert_true(has_local(fixture, "198.51.100.9"));
	sh("ip link del other0"); // Linux says nothing of the route
	AWAIT_FOREIGN(fixture, "198.51.100.9");
}

static void without_interfaces_only_local_addresses_are_mirrored(void **state)
{
	struct fixture *fixture = *state;
	struct lb_addr addr = address("10.0.0.2");
	size_t n;

	sh("ip neigh add 10.0.0.40 lladdr 02:00:00:00:00:40 nud stale dev veth0; ip route add "
	   "default via 10.0.0.2");
	create_mirror_of_locals(fixture);
	AWAIT_N_LOCALS(fixture, 4); // 10.0.0.1 10.9.0.1 fd00::1 fe80::…
	AWAIT_COMPLETE(fixture);
	assert_int_equal(fixture->n_routes_changed, 1);
	assert_int_equal(fixture->kernel->stats.n_dumps, 2);
	assert_null(lb_kernel_routes(fixture->kernel, &n));
	assert_int_equal(lb_kernel_watch(fixture->kernel, if_nametoindex("veth0"), &addr), -EINVAL);
	sh("ip address add 10.0.0.77/24 dev veth0; ip route add 10.5.0.0/16 via 10.0.0.2");
	AWAIT_LOCAL(fixture, "10.0.0.77");
	sh("ip neigh add 10.0.0.41 lladdr 02:00:00:00:00:41 nud stale dev veth0; ip address del "
	   "10.0.0.77/24 dev veth0");
	AWAIT_FOREIGN(fixture, "10.0.0.77");
	run_for_ms(fixture, 100);
	assert_null(lb_kernel_routes(fixture->kernel, &n));
	assert_int_equal(fixture->kernel->stats.n_neighbours, 0);
	assert_int_equal(fixture->n_told, 0);
}

static void lack_of_local_addresses_is_told_too(void **state)
{
	struct fixture *fixture = *state;

	sh("ip address flush dev veth0; ip address flush dev other0");
	create_mirror_of_locals(fixture);
	AWAIT_N_LOCALS(fixture, 0);
	assert_int_equal(fixture->n_routes_changed, 1);
}

static void interrupted_dump_of_locals_is_made_again(void **state)
{
	struct fixture *fixture = *state;

	create_mirror(fixture);
	AWAIT_COMPLETE(fixture);
	sh("ip address add 10.0.0.77/24 dev veth0; ip address del 10.9.0.1/24 dev other0");
	for (int i = 0; i < 3; i++) {
		interrupt_dump(fixture, DUMP_LOCALS4);
		while (fixture->kernel->running == DUMP_LOCALS4)
			event_base_loop(fixture->base, EVLOOP_ONCE);
		assert_false(has_local(fixture, "10.0.0.77")); // not by half a table
		assert_true(has_local(fixture, "10.9.0.1"));
	}
	AWAIT_LOCAL(fixture, "10.0.0.77");
	AWAIT_FOREIGN(fixture, "10.9.0.1");
}

static void local_addresses_survive_lost_notifications(void **state)
{
	struct fixture *fixture = *state;
	char batch[32];
	int bytes = 1;

	create_mirror_of_locals(fixture);
	AWAIT_COMPLETE(fixture);
	assert_int_equal(setsockopt(mnl_socket_get_fd(fixture->kernel->socket), SOL_SOCKET,
				 SO_RCVBUF, &bytes, sizeof(bytes)),
		0);
	write_batch(batch, "address add 10.1.%u.%u/32 dev lo", 300);
	sh("ip -batch %s", batch);
	unlink(batch);
	sh("ip address del 10.9.0.1/24 dev other0; ip address add fd00::77/128 dev lo");
	AWAIT_LOCAL(fixture, "10.1.1.43");
	AWAIT_LOCAL(fixture, "fd00::77");
	AWAIT_FOREIGN(fixture, "10.9.0.1");
	AWAIT_N_LOCALS(fixture, 4 + 300);
	AWAIT_COMPLETE(fixture);
	assert_true(fixture->kernel->stats.n_resyncs > 0);
	assert_int_equal(fixture->kernel->stats.n_invalid, 0);
}

/* ---- neighbours ---- */

static void watched_neighbours_are_resolved(void **state)
{
	struct fixture *fixture = *state;
	struct lb_addr addr = address("10.0.0.2");

	create_mirror(fixture);
	assert_int_equal(
		lb_kernel_watch(fixture->kernel, if_nametoindex("other0"), &addr), -EINVAL);
	watch(fixture, "10.0.0.2");
	watch(fixture, "fd00::2");
	assert_int_equal(fixture->n_told, 0); // never from inside a call
	AWAIT_MAC(fixture, "10.0.0.2", 2);
	AWAIT_MAC(fixture, "fd00::2", 2);
	run_for_ms(fixture, 200);
	assert_int_equal(times_told(fixture, "10.0.0.2"), 1);

	watch(fixture, "10.0.0.2"); // known: told at once, to the new watch
	assert_int_equal(times_told(fixture, "10.0.0.2"), 1);
	run_for_ms(fixture, 100);
	assert_int_equal(times_told(fixture, "10.0.0.2"), 2);
	assert_int_equal(fixture->kernel->stats.n_watched, 2);
	unwatch(fixture, "10.0.0.2");
	assert_int_equal(fixture->kernel->stats.n_watched, 2);
	unwatch(fixture, "10.0.0.2");
	unwatch(fixture, "10.0.0.2"); // once too often
	unwatch(fixture, "10.0.0.99");
	assert_int_equal(fixture->kernel->stats.n_watched, 1);
}

static void neighbour_that_comes_later_is_found(void **state)
{
	struct fixture *fixture = *state;

	create_mirror(fixture);
	watch(fixture, "10.0.0.3");
	watch(fixture, "fd00::3");
	AWAIT_COMPLETE(fixture);
	run_for_ms(fixture, 500);
	assert_int_equal(times_told(fixture, "10.0.0.3") + times_told(fixture, "fd00::3"), 0);
	assert_true(fixture->kernel->stats.n_asked >= 2);
	assert_true(fixture->kernel->stats.n_asked <= 6); // not in a hurry
	peer(fixture, "ip address add 10.0.0.3/24 dev peer0");
	peer(fixture, "ip address add fd00::3/64 dev peer0 nodad");
	AWAIT_MAC(fixture, "10.0.0.3", 2);
	AWAIT_MAC(fixture, "fd00::3", 2);
}

static void change_of_mac_is_told(void **state)
{
	struct fixture *fixture = *state;

	create_mirror(fixture);
	watch(fixture, "10.0.0.2");
	AWAIT_MAC(fixture, "10.0.0.2", 2);
	sh("sysctl -qw net.ipv4.neigh.veth0.locktime=0");
	peer(fixture, "ip link set peer0 address 02:00:00:00:00:22");
	peer(fixture, "ip neigh flush all");
	peer(fixture,
		"bash -c 'echo > /dev/udp/10.0.0.1/9'"); // asks who we are, so tells who it is
	AWAIT_MAC(fixture, "10.0.0.2", 0x22);
	assert_int_equal(times_told(fixture, "10.0.0.2"), 2);
}

static void flushed_table_interrupts_nobody(void **state)
{
	struct fixture *fixture = *state;

	create_mirror(fixture);
	watch(fixture, "10.0.0.2");
	watch(fixture, "fd00::2");
	AWAIT_MAC(fixture, "10.0.0.2", 2);
	AWAIT_MAC(fixture, "fd00::2", 2);
	sh("ip neigh del 10.0.0.2 dev veth0; ip neigh del fd00::2 dev veth0");
	run_for_ms(fixture, 1500);
	assert_int_equal(times_told(fixture, "10.0.0.2"), 1);
	assert_int_equal(times_told(fixture, "fd00::2"), 1);
	sh("ip neigh show 10.0.0.2 dev veth0 | grep -q 02:00:00:00:00:02");
	sh("ip neigh show fd00::2 dev veth0 | grep -q 02:00:00:00:00:02");
}

static void neighbour_that_goes_is_told_and_found_again(void **state)
{
	struct fixture *fixture = *state;

	create_mirror(fixture);
	watch(fixture, "10.0.0.2");
	AWAIT_MAC(fixture, "10.0.0.2", 2);
	peer(fixture, "ip address del 10.0.0.2/24 dev peer0");
	sh("ip neigh del 10.0.0.2 dev veth0");
	AWAIT_LOST(fixture, "10.0.0.2");
	peer(fixture, "ip address add 10.0.0.2/24 dev peer0");
	AWAIT_MAC(fixture, "10.0.0.2", 2);
	assert_int_equal(times_told(fixture, "10.0.0.2"), 3);
	peer(fixture, "ip address del 10.0.0.2/24 dev peer0");
	sh("ip neigh del 10.0.0.2 dev veth0");
	run_for_ms(fixture, 100);
	assert_int_equal(times_told(fixture, "10.0.0.2"), 3); // given a second
	unwatch(fixture, "10.0.0.2");                         // whose end is told at once
	run_for_ms(fixture, 100);
	assert_int_equal(times_told(fixture, "10.0.0.2"), 4);
}

static void unwatched_neighbours_are_told(void **state)
{
	struct fixture *fixture = *state;

	sh("ip neigh add 10.0.0.40 lladdr 02:00:00:00:00:40 nud stale dev veth0");
	sh("ip neigh add 10.9.0.2 lladdr 02:00:00:00:09:02 nud stale dev other0");
	sh("ip neigh add proxy 10.0.0.42 dev veth0");
	create_mirror(fixture);
	AWAIT_MAC(fixture, "10.0.0.40", 0x40);
	sh("ip neigh add 10.0.0.41 lladdr 02:00:00:00:00:41 nud reachable dev veth0");
	AWAIT_MAC(fixture, "10.0.0.41", 0x41);
	sh("bash -c 'echo > /dev/udp/10.0.0.2/9'");
	AWAIT_MAC(fixture, "10.0.0.2", 2);
	sh("ip neigh del 10.0.0.40 dev veth0");
	AWAIT_LOST(fixture, "10.0.0.40");
	sh("bash -c 'echo > /dev/udp/10.0.0.99/9'"); // nobody
	run_for_ms(fixture, 300);
	assert_int_equal(times_told(fixture, "10.0.0.42"), 0);
	assert_int_equal(times_told(fixture, "10.0.0.99"), 0);
	assert_int_equal(times_told(fixture, "10.9.0.2"), 0);
	assert_int_equal(fixture->kernel->stats.n_asked, 0);
}

static void permanent_neighbour_stays_permanent(void **state)
{
	struct fixture *fixture = *state;

	sh("ip neigh add 10.0.0.50 lladdr 02:00:00:00:00:50 nud permanent dev veth0");
	create_mirror(fixture);
	watch(fixture, "10.0.0.50"); // before the first dump
	AWAIT_MAC(fixture, "10.0.0.50", 0x50);
	watch(fixture, "10.0.0.50");
	watch(fixture, "10.0.0.51");
	sh("ip neigh replace 10.0.0.51 lladdr 02:00:00:00:00:51 nud permanent dev veth0");
	AWAIT_MAC(fixture, "10.0.0.51", 0x51);
	run_for_ms(fixture, 1200);
	sh("ip neigh show 10.0.0.50 dev veth0 | grep -q PERMANENT");
	sh("ip neigh show 10.0.0.51 dev veth0 | grep -q PERMANENT");
}

static void stale_neighbour_is_confirmed(void **state)
{
	struct fixture *fixture = *state;

	sh("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 nud stale dev veth0");
	sh("sysctl -qw net.ipv4.neigh.veth0.delay_first_probe_time=1");
	create_mirror(fixture);
	AWAIT_MAC(fixture, "10.0.0.2", 2);
	AWAIT_COMPLETE(fixture);
	assert_int_equal(fixture->kernel->stats.n_asked, 0);
	watch(fixture, "10.0.0.2");
	run_for_ms(fixture, 200);
	assert_int_equal(fixture->kernel->stats.n_asked, 1);
	sh("ip neigh show 10.0.0.2 dev veth0 | grep -Eq 'DELAY|PROBE|REACHABLE'");
	sh("ip neigh change 10.0.0.2 lladdr 02:00:00:00:00:02 nud reachable dev veth0");
	sh("ip neigh change 10.0.0.2 lladdr 02:00:00:00:00:02 nud stale dev veth0"); // goes stale
										     // again
	run_for_ms(fixture, 1000);
	assert_int_equal(fixture->kernel->stats.n_asked, 2);
	assert_int_equal(times_told(fixture, "10.0.0.2"), 2); // at first, and to the watch
}

static void watch_may_end_in_a_callback(void **state)
{
	struct fixture *fixture = *state;

	create_mirror(fixture);
	fixture->unwatch_when_told = true;
	watch(fixture, "10.0.0.2");
	watch(fixture, "fd00::2");
	AWAIT_MAC(fixture, "10.0.0.2", 2);
	AWAIT_MAC(fixture, "fd00::2", 2);
	assert_int_equal(fixture->kernel->stats.n_watched, 0);
	sh("ip link del veth0");
	AWAIT_LOST(fixture, "10.0.0.2");
	AWAIT_LOST(fixture, "fd00::2");
	run_for_ms(fixture, 100);
	assert_int_equal(fixture->kernel->stats.n_neighbours, 0);
}

static void mirror_may_be_destroyed_at_any_moment(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned n_turns = 0; n_turns < 12; n_turns++) {
		create_mirror(fixture);
		watch(fixture, "10.0.0.2");
		watch(fixture, "10.0.0.98");
		for (unsigned i = 0; i < n_turns; i++) {
			event_base_loop(fixture->base, EVLOOP_NONBLOCK);
			usleep(1000);
		}
		lb_kernel_destroy(fixture->kernel); // leaks show under AddressSanitizer
	}
	fixture->kernel = NULL;
	run_for_ms(fixture, 50);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(connected_routes_are_told_at_first),
		T(empty_set_is_told_too),
		T(routes_added_and_deleted_are_seen),
		T(first_usable_nexthop_is_taken),
		T(nexthop_objects_are_followed),
		T(routes_go_with_their_link_and_address),
		T(table_that_changes_while_it_is_read_ends_up_right),
		T(interrupted_dump_is_made_again),
		T(lost_notifications_are_made_up_for),
		T(addresses_of_every_interface_are_local),
		T(addresses_added_and_deleted_are_seen),
		T(addresses_of_a_link_that_is_down_are_local),
		T(local_prefixes_are_mirrored),
		T(without_interfaces_only_local_addresses_are_mirrored),
		T(lack_of_local_addresses_is_told_too),
		T(interrupted_dump_of_locals_is_made_again),
		T(local_addresses_survive_lost_notifications),
		T(watched_neighbours_are_resolved),
		T(neighbour_that_comes_later_is_found),
		T(change_of_mac_is_told),
		T(flushed_table_interrupts_nobody),
		T(neighbour_that_goes_is_told_and_found_again),
		T(unwatched_neighbours_are_told),
		T(permanent_neighbour_stays_permanent),
		T(stale_neighbour_is_confirmed),
		T(watch_may_end_in_a_callback),
		T(mirror_may_be_destroyed_at_any_moment),
	};

	if (unshare(CLONE_NEWNET) < 0) {
		perror("skipped: cannot make a network namespace");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
