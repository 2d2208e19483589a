/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/kernel.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include <libmnl/libmnl.h>

#include "control/kernel_internal.h"
#include "lb/log.h"

#define NS_PER_MS UINT64_C(1000000)

#define READ_BYTES 65536u      // the kernel makes dump messages of up to 32 KiB
#define MAX_ERRNO 4095         // of Linux
#define MAX_READS 32u          // in one turn of the loop
#define SOCKET_BYTES (4 << 20) // of notifications that may wait while the loop is busy
#define DEBOUNCE_MS 10u        // changes of routes come in series
#define RETRY_MS 100u          // after a request that the kernel did not take
#define MAX_RETRY_MS 1000u
#define DUMP_MS 10000u  // a dump that takes longer got lost
#define MAX_TRIES 5u    // of an interrupted dump; then it is taken, and another one follows
#define ROUTES_SHARE 5u // dumps of routes take at most a sixth of the time

#define ALL_DUMPS ((1u << DUMP_N) - 1)
#define LOCAL_DUMPS (1u << DUMP_LOCALS4 | 1u << DUMP_LOCALS6)
#define ROUTE_DUMPS (1u << DUMP_ROUTES4 | 1u << DUMP_ROUTES6)

static const struct {
	uint16_t type;
	uint8_t family;
	uint8_t table;
} dumps[DUMP_N] = {
	[DUMP_LINKS] = {RTM_GETLINK, AF_UNSPEC, 0},
	[DUMP_LOCALS4] = {RTM_GETROUTE, AF_INET, RT_TABLE_LOCAL},
	[DUMP_LOCALS6] = {RTM_GETROUTE, AF_INET6, RT_TABLE_LOCAL},
	[DUMP_ROUTES4] = {RTM_GETROUTE, AF_INET, RT_TABLE_MAIN},
	[DUMP_ROUTES6] = {RTM_GETROUTE, AF_INET6, RT_TABLE_MAIN},
	[DUMP_NEIGHBOURS4] = {RTM_GETNEIGH, AF_INET, 0},
	[DUMP_NEIGHBOURS6] = {RTM_GETNEIGH, AF_INET6, 0},
};

static struct lb_log_limit resync_limit, invalid_limit, refused_limit, dump_limit;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void arm_ms(struct event *event, uint64_t wait_ms)
{
	struct timeval wait = {(time_t)(wait_ms / 1000), (suseconds_t)(wait_ms % 1000 * 1000)};

	event_add(event, &wait);
}

struct lb_kernel_interface *lb_kernel_find_interface(
	const struct lb_kernel *kernel, uint32_t ifindex)
{
	for (size_t i = 0; i < kernel->n_interfaces; i++) {
		if (kernel->interfaces[i].ifindex == ifindex)
			return &kernel->interfaces[i];
	}
	return NULL;
}

int lb_kernel_send(struct lb_kernel *kernel, const struct nlmsghdr *nlh)
{
	return mnl_socket_sendto(kernel->socket, nlh, nlh->nlmsg_len) < 0 ? -errno : 0;
}

/* ---- reports ---- */

void lb_kernel_deliver_soon(struct lb_kernel *kernel)
{
	event_active(&kernel->deliver, EV_TIMEOUT, 0);
}

static void on_deliver(evutil_socket_t fd, short what, void *arg)
{
	struct lb_kernel *kernel = arg;

	(void)fd, (void)what;
	if (kernel->routes_changed) {
		kernel->routes_changed = false;
		kernel->callbacks.routes_changed(kernel->arg);
	}
	lb_kernel_neighbours_deliver(kernel);
}

static bool is_known(const struct lb_kernel_routes *routes)
{
	return routes->known[0] && routes->known[1];
}

// The first complete sets are told even if they are empty.
static void rebuild(struct lb_kernel *kernel, struct lb_kernel_routes *routes)
{
	int rc = lb_kernel_routes_build(kernel, routes);

	if (rc < 0)
		lb_log(LB_LOG_ERROR, "kernel", "no memory for %zu routes",
			routes->dumped[0].n + routes->dumped[1].n);
	if (!is_known(&kernel->locals) ||
		(kernel->dumps & ROUTE_DUMPS && !is_known(&kernel->routes)))
		return;
	if (rc <= 0 && kernel->routes_told)
		return;
	kernel->routes_told = true;
	kernel->routes_changed = true;
	lb_kernel_deliver_soon(kernel);
}

/* ---- dumps: one at a time, as the kernel demands ---- */

static void want(struct lb_kernel *kernel, unsigned which, uint64_t wait_ms)
{
	kernel->wanted |= which & kernel->dumps;
	if (kernel->wanted && kernel->running < 0 &&
		!event_pending(&kernel->next_dump, EV_TIMEOUT, NULL))
		arm_ms(&kernel->next_dump, wait_ms);
}

static void start_dump(struct lb_kernel *kernel, int which)
{
	uint32_t buf[LB_NETLINK_REQUEST_BYTES / sizeof(uint32_t)];
	const struct nlmsghdr *nlh;
	int rc;

	kernel->dump_seq = ++kernel->seq;
	nlh = lb_netlink_build_dump(
		buf, dumps[which].type, dumps[which].family, dumps[which].table, kernel->dump_seq);
	rc = lb_kernel_send(kernel, nlh);
	if (rc < 0) {
		arm_ms(&kernel->next_dump, RETRY_MS);
		return;
	}
	kernel->wanted &= ~(1u << which);
	kernel->running = which;
	kernel->interrupted = false;
	kernel->dump_started_ns = now_ns();
	lb_kernel_routes_abandon(&kernel->routes);
	lb_kernel_routes_abandon(&kernel->locals);
	for (size_t i = 0; i < kernel->n_interfaces; i++)
		kernel->interfaces[i].seen = false;
	if (which == DUMP_NEIGHBOURS4 || which == DUMP_NEIGHBOURS6)
		lb_kernel_neighbours_dump_begin(kernel);
	arm_ms(&kernel->next_dump, DUMP_MS);
}

// When the first dump of @which may begin.
static uint64_t not_before(const struct lb_kernel *kernel, unsigned which)
{
	uint64_t locals = which & LOCAL_DUMPS ? kernel->locals.not_before_ns : UINT64_MAX;
	uint64_t routes = which & ROUTE_DUMPS ? kernel->routes.not_before_ns : UINT64_MAX;

	if (which & ~(LOCAL_DUMPS | ROUTE_DUMPS))
		return 0;
	return locals < routes ? locals : routes;
}

// The dump wanted first, in the order of the enum (links before routes, which depend on them).
static void start_wanted(struct lb_kernel *kernel)
{
	uint64_t now = now_ns();

	for (int which = 0; which < DUMP_N; which++) {
		if (kernel->wanted & 1u << which && not_before(kernel, 1u << which) <= now) {
			start_dump(kernel, which);
			return;
		}
	}
	if (kernel->wanted)
		arm_ms(&kernel->next_dump,
			(not_before(kernel, kernel->wanted) - now) / NS_PER_MS + 1);
}

static void on_next_dump(evutil_socket_t fd, short what, void *arg)
{
	struct lb_kernel *kernel = arg;

	(void)fd, (void)what;
	if (kernel->running >= 0) {
		lb_log_limited(
			&dump_limit, LB_LOG_WARN, "kernel", "a dump did not end, asking again");
		kernel->wanted |= 1u << kernel->running;
		kernel->running = -1;
	}
	start_wanted(kernel);
}

// The running dump was refused or void: again, after a while.
static void retry_dump(struct lb_kernel *kernel)
{
	uint64_t wait_ms = (uint64_t)RETRY_MS << (kernel->n_tries < 4 ? kernel->n_tries : 4);

	kernel->n_tries++;
	kernel->wanted |= 1u << kernel->running;
	kernel->running = -1;
	arm_ms(&kernel->next_dump, wait_ms < MAX_RETRY_MS ? wait_ms : MAX_RETRY_MS);
}

static void set_link(struct lb_kernel *kernel, struct lb_kernel_interface *interface, bool up)
{
	interface->seen = true;
	if (interface->up == up)
		return;
	interface->up = up;
	// Those that lost their link go now; what comes in their place needs the dump.
	rebuild(kernel, &kernel->routes);
	want(kernel, ROUTE_DUMPS, DEBOUNCE_MS);
}

static struct lb_kernel_routes *table_of(struct lb_kernel *kernel, int which)
{
	return which == DUMP_LOCALS4 || which == DUMP_LOCALS6 ? &kernel->locals : &kernel->routes;
}

static void adopt_routes(struct lb_kernel *kernel, int which)
{
	struct lb_kernel_routes *routes = table_of(kernel, which);
	uint64_t now = now_ns();

	routes->not_before_ns = now + ROUTES_SHARE * (now - kernel->dump_started_ns);
	lb_kernel_routes_adopt(routes, dumps[which].family == AF_INET6);
	rebuild(kernel, routes);
}

static void take_dump(struct lb_kernel *kernel, int which)
{
	kernel->stats.n_dumps++;
	kernel->n_tries = 0;
	kernel->running = -1;
	switch (which) {
	case DUMP_LINKS:
		for (size_t i = 0; i < kernel->n_interfaces; i++) {
			if (!kernel->interfaces[i].seen)
				set_link(kernel, &kernel->interfaces[i], false);
		}
		break;
	case DUMP_LOCALS4:
	case DUMP_LOCALS6:
	case DUMP_ROUTES4:
	case DUMP_ROUTES6:
		adopt_routes(kernel, which);
		break;
	case DUMP_NEIGHBOURS4:
	case DUMP_NEIGHBOURS6:
		if (!lb_kernel_neighbours_dump_end(kernel, which - DUMP_NEIGHBOURS4))
			kernel->wanted |= 1u << which;
		break;
	default:
		break;
	}
	event_del(&kernel->next_dump);
	start_wanted(kernel);
}

static void end_dump(struct lb_kernel *kernel, int error)
{
	bool interrupted = kernel->interrupted || error == EINTR;

	// No such table or protocol: nothing is in it.
	if (error == ENOENT || error == EOPNOTSUPP || error == EAFNOSUPPORT)
		error = 0;
	kernel->stats.n_interrupted += interrupted;
	if (error && !interrupted) {
		if (error != EBUSY) // one that was given up still runs
			lb_log_limited(&dump_limit, LB_LOG_WARN, "kernel", "a dump was refused: %s",
				strerror(error));
		retry_dump(kernel);
	} else if (interrupted && (error || kernel->n_tries < MAX_TRIES)) {
		retry_dump(kernel);
	} else {
		// A table that never stands still: better what there is than nothing, and on.
		if (interrupted)
			kernel->wanted |= 1u << kernel->running;
		take_dump(kernel, kernel->running);
	}
}

void lb_kernel_want_neighbours(struct lb_kernel *kernel, unsigned family)
{
	want(kernel, 1u << (DUMP_NEIGHBOURS4 + family), DEBOUNCE_MS);
}

// Notifications were lost, so nothing that is held is certain.
static void resync(struct lb_kernel *kernel, const char *reason)
{
	uint64_t now = now_ns();
	bool often = now - kernel->resynced_ns < MAX_RETRY_MS * NS_PER_MS;

	kernel->resynced_ns = now;
	kernel->stats.n_resyncs++;
	lb_log_limited(&resync_limit, LB_LOG_WARN, "kernel", "%s: everything is read anew", reason);
	kernel->neighbours.synced[0] = false;
	kernel->neighbours.synced[1] = false;
	kernel->running = -1;
	kernel->wanted = kernel->dumps;
	event_del(&kernel->next_dump);
	arm_ms(&kernel->next_dump, often ? RETRY_MS : DEBOUNCE_MS);
}

/* ---- messages ---- */

static void handle_link(struct lb_kernel *kernel, const struct lb_netlink_link *link)
{
	struct lb_kernel_interface *interface = lb_kernel_find_interface(kernel, link->ifindex);

	if (interface)
		set_link(kernel, interface, link->up);
}

static bool is_running(const struct lb_kernel *kernel, unsigned which)
{
	return kernel->running >= 0 && which & 1u << kernel->running;
}

static void handle_route(struct lb_kernel *kernel, const struct nlmsghdr *nlh,
	const struct lb_netlink_route *route, bool in_dump)
{
	uint16_t flags = nlh->nlmsg_flags;

	if (in_dump) {
		if (lb_kernel_routes_take(kernel, table_of(kernel, kernel->running), route) < 0)
			kernel->interrupted = true; // tried again
		return;
	}
	// The kernel does not tell of a table of routes that it changed during a dump, and may
	// leave out some that are none of the change: so there any change counts.
	if (is_running(kernel, ROUTE_DUMPS) ||
		lb_kernel_routes_concerned(kernel, &kernel->routes, route, flags))
		want(kernel, ROUTE_DUMPS, DEBOUNCE_MS);
	if (is_running(kernel, LOCAL_DUMPS) ||
		lb_kernel_routes_concerned(kernel, &kernel->locals, route, flags))
		want(kernel, LOCAL_DUMPS, DEBOUNCE_MS);
}

static int dispatch(struct lb_kernel *kernel, const struct nlmsghdr *nlh, bool in_dump)
{
	struct lb_netlink_neighbour neighbour;
	struct lb_netlink_route route;
	struct lb_netlink_link link;
	int rc = 0;

	switch (nlh->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		rc = lb_netlink_parse_link(nlh, &link);
		if (rc == 0)
			handle_link(kernel, &link);
		if (nlh->nlmsg_type == RTM_DELLINK) // takes its local routes with it, silently
			want(kernel, LOCAL_DUMPS, DEBOUNCE_MS);
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		rc = lb_netlink_parse_route(nlh, &route);
		if (rc == 0)
			handle_route(kernel, nlh, &route, in_dump);
		break;
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		rc = lb_netlink_parse_neighbour(nlh, &neighbour);
		if (rc == 0)
			lb_kernel_neighbours_update(
				kernel, &neighbour, nlh->nlmsg_type == RTM_DELNEIGH);
		break;
	case RTM_DELADDR: // takes routes that prefer it as a source, on older kernels silently
		want(kernel, LOCAL_DUMPS | ROUTE_DUMPS, DEBOUNCE_MS);
		break;
	case RTM_NEWNEXTHOP:
	case RTM_DELNEXTHOP:
		want(kernel, ROUTE_DUMPS, DEBOUNCE_MS);
		break;
	default:
		break;
	}
	return rc == -EBADMSG ? rc : 0;
}

static void handle_control(struct lb_kernel *kernel, const struct nlmsghdr *nlh)
{
	bool of_dump = kernel->running >= 0 && nlh->nlmsg_seq == kernel->dump_seq;
	int error = 0;

	if (mnl_nlmsg_get_payload_len(nlh) >= sizeof(error))
		memcpy(&error, mnl_nlmsg_get_payload(nlh), sizeof(error));
	error = error < -MAX_ERRNO ? EPROTO : error < 0 ? -error : 0;
	if (of_dump && (nlh->nlmsg_type == NLMSG_DONE || error)) {
		end_dump(kernel, error);
	} else if (nlh->nlmsg_type == NLMSG_ERROR && error) {
		kernel->stats.n_refused++;
		lb_log_limited(&refused_limit, LB_LOG_WARN, "kernel",
			"the kernel refused to resolve a neighbour: %s", strerror(error));
	}
}

void lb_kernel_handle(struct lb_kernel *kernel, const struct nlmsghdr *nlh)
{
	bool in_dump = kernel->running >= 0 && nlh->nlmsg_flags & NLM_F_MULTI &&
		       nlh->nlmsg_seq == kernel->dump_seq;

	if (in_dump && nlh->nlmsg_flags & NLM_F_DUMP_INTR)
		kernel->interrupted = true;
	if (nlh->nlmsg_type == NLMSG_DONE || nlh->nlmsg_type == NLMSG_ERROR) {
		handle_control(kernel, nlh);
	} else if (nlh->nlmsg_flags & NLM_F_MULTI && !in_dump) {
		return; // of a dump that was given up
	} else if (dispatch(kernel, nlh, in_dump) < 0) {
		kernel->stats.n_invalid++;
		lb_log_limited(&invalid_limit, LB_LOG_WARN, "kernel",
			"message of type %u with an impossible length or value", nlh->nlmsg_type);
	}
}

static int read_once(struct lb_kernel *kernel)
{
	static uint8_t buf[READ_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct sockaddr_nl from = {0};
	struct iovec part = {buf, sizeof(buf)};
	struct msghdr message = {
		.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &part, .msg_iovlen = 1};
	ssize_t n = recvmsg(mnl_socket_get_fd(kernel->socket), &message, MSG_DONTWAIT);
	const struct nlmsghdr *nlh = (const void *)buf;
	int left = (int)n;

	if (n < 0)
		return -errno;
	if (from.nl_pid != 0)
		return 0; // not the kernel
	if (message.msg_flags & MSG_TRUNC)
		return -ENOBUFS;
	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left))
		lb_kernel_handle(kernel, nlh);
	return 0;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct lb_kernel *kernel = arg;
	int rc = 0;

	(void)fd, (void)what;
	for (unsigned i = 0; i < MAX_READS && rc == 0; i++)
		rc = read_once(kernel);
	if (rc == -ENOBUFS)
		resync(kernel, "the kernel's notifications were too many");
	else if (rc < 0 && rc != -EAGAIN && rc != -EINTR)
		resync(kernel, strerror(-rc));
}

/* ---- what is public ---- */

static int open_socket(struct lb_kernel *kernel)
{
	static const int groups[] = {RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
		RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_NEIGH};
	// Neighbours, of which there is much to say, are last: without interfaces nobody listens.
	size_t n_groups = sizeof(groups) / sizeof(groups[0]) - (kernel->n_interfaces ? 0 : 1);
	int yes = 1, bytes = SOCKET_BYTES, group = RTNLGRP_NEXTHOP, fd;

	kernel->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (!kernel->socket)
		return -errno;
	if (mnl_socket_bind(kernel->socket, 0, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	fd = mnl_socket_get_fd(kernel->socket);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	// Kernels before 4.20 have neither, and dump all tables; before 5.3 no nexthop objects.
	mnl_socket_setsockopt(kernel->socket, NETLINK_GET_STRICT_CHK, &yes, sizeof(yes));
	mnl_socket_setsockopt(kernel->socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group));
	for (size_t i = 0; i < n_groups; i++) {
		group = groups[i];
		if (mnl_socket_setsockopt(
			    kernel->socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
			return -errno;
	}
	return 0;
}

int lb_kernel_create(struct event_base *base, const uint32_t *ifindexes, size_t n_ifindexes,
	const struct lb_kernel_callbacks *callbacks, void *arg, struct lb_kernel **out)
{
	struct lb_kernel *kernel = calloc(1, sizeof(*kernel));
	int rc = -ENOMEM;

	if (!kernel)
		return -ENOMEM;
	kernel->base = base;
	kernel->callbacks = *callbacks;
	kernel->arg = arg;
	kernel->running = -1;
	kernel->seq = (uint32_t)time(NULL);
	kernel->locals.local = true;
	kernel->dumps = n_ifindexes ? ALL_DUMPS : LOCAL_DUMPS;
	kernel->interfaces = calloc(n_ifindexes + 1, sizeof(*kernel->interfaces));
	if (!kernel->interfaces || lb_kernel_neighbours_init(&kernel->neighbours) < 0)
		goto fail;
	for (size_t i = 0; i < n_ifindexes; i++)
		kernel->interfaces[kernel->n_interfaces++].ifindex = ifindexes[i];
	rc = open_socket(kernel);
	if (rc < 0)
		goto fail;
	evtimer_assign(&kernel->deliver, base, on_deliver, kernel);
	evtimer_assign(&kernel->next_dump, base, on_next_dump, kernel);
	event_assign(&kernel->readable, base, mnl_socket_get_fd(kernel->socket),
		EV_READ | EV_PERSIST, on_readable, kernel);
	rc = -ENOMEM;
	if (event_add(&kernel->readable, NULL) < 0)
		goto fail;
	want(kernel, kernel->dumps, 0);
	*out = kernel;
	return 0;
fail:
	if (kernel->socket)
		mnl_socket_close(kernel->socket);
	lb_kernel_neighbours_fini(kernel);
	free(kernel->interfaces);
	free(kernel);
	return rc;
}

void lb_kernel_destroy(struct lb_kernel *kernel)
{
	if (!kernel)
		return;
	event_del(&kernel->readable);
	event_del(&kernel->deliver);
	event_del(&kernel->next_dump);
	lb_kernel_neighbours_fini(kernel);
	lb_kernel_routes_fini(&kernel->routes);
	lb_kernel_routes_fini(&kernel->locals);
	mnl_socket_close(kernel->socket);
	free(kernel->interfaces);
	free(kernel);
}

bool lb_kernel_is_complete(const struct lb_kernel *kernel)
{
	return kernel->wanted == 0 && kernel->running < 0 && kernel->stats.n_dumps > 0 &&
	       !event_pending(&kernel->deliver, EV_TIMEOUT, NULL);
}

void lb_kernel_stats(const struct lb_kernel *kernel, struct lb_kernel_stats *stats)
{
	*stats = kernel->stats;
}
