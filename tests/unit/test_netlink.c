/* SPDX-License-Identifier: BSD-3-Clause */
/* Netlink messages: what they say, and that no bytes make their parsers read beyond them. */
#include <linux/if.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>
#include <libmnl/libmnl.h>

#include "control/kernel_internal.h"

#define N_MUTATIONS 200000

static uint64_t random_state = 0x7e57;

static uint32_t random_below(size_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((random_state >> 33) % n);
}

static struct lb_addr address(const char *text)
{
	struct lb_addr addr;

	assert_int_equal(lb_addr_parse(text, &addr), 0);
	return addr;
}

static void assert_addr(const struct lb_addr *addr, const char *text)
{
	char buf[LB_ADDR_STRLEN];

	assert_string_equal(lb_addr_format(addr, buf), text);
}

static void put_addr(struct nlmsghdr *nlh, uint16_t type, const char *text)
{
	struct lb_addr addr = address(text);
	bool is_ipv4 = lb_addr_is_ipv4(&addr);

	mnl_attr_put(nlh, type, is_ipv4 ? 4 : 16, addr.bytes + (is_ipv4 ? 12 : 0));
}

/* ---- messages as the kernel makes them ---- */

union message {
	struct nlmsghdr nlh;
	uint32_t words[512];
};

static struct nlmsghdr *put_route(union message *message, uint8_t family, uint8_t length)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(message->words);
	struct rtmsg *header = mnl_nlmsg_put_extra_header(nlh, sizeof(*header));

	nlh->nlmsg_type = RTM_NEWROUTE;
	header->rtm_family = family;
	header->rtm_dst_len = length;
	header->rtm_table = RT_TABLE_MAIN;
	header->rtm_type = RTN_UNICAST;
	return nlh;
}

static void put_hop(struct nlmsghdr *nlh, int ifindex, uint8_t flags, const char *gateway)
{
	struct rtnexthop *hop = (void *)((char *)nlh + nlh->nlmsg_len);

	nlh->nlmsg_len += sizeof(*hop);
	*hop = (struct rtnexthop){.rtnh_ifindex = ifindex, .rtnh_flags = flags};
	put_addr(nlh, RTA_GATEWAY, gateway);
	hop->rtnh_len = (uint16_t)((char *)nlh + nlh->nlmsg_len - (char *)hop);
}

static void make_route(union message *message)
{
	struct nlmsghdr *nlh = put_route(message, AF_INET, 16);

	put_addr(nlh, RTA_DST, "10.5.0.0");
	mnl_attr_put_u32(nlh, RTA_OIF, 7);
	mnl_attr_put_u32(nlh, RTA_TABLE, 1000);
	mnl_attr_put_u32(nlh, RTA_PRIORITY, 42);
	put_addr(nlh, RTA_GATEWAY, "10.0.0.1");
}

static void make_multipath(union message *message)
{
	struct nlmsghdr *nlh = put_route(message, AF_INET6, 32);
	struct nlattr *nest;

	put_addr(nlh, RTA_DST, "fd55::");
	nest = mnl_attr_nest_start(nlh, RTA_MULTIPATH);
	put_hop(nlh, 3, RTNH_F_LINKDOWN, "fd00::3");
	put_hop(nlh, 4, 0, "fd00::4");
	put_hop(nlh, 5, RTNH_F_DEAD, "fd00::5");
	mnl_attr_nest_end(nlh, nest);
}

static void make_via(union message *message)
{
	struct nlmsghdr *nlh = put_route(message, AF_INET, 0);
	struct lb_addr gateway = address("fd00::9");
	uint8_t via[18] = {AF_INET6};

	memcpy(via + 2, gateway.bytes, 16);
	mnl_attr_put_u32(nlh, RTA_OIF, 7);
	mnl_attr_put(nlh, RTA_VIA, sizeof(via), via);
}

static void make_neighbour(union message *message)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(message->words);
	struct ndmsg *header = mnl_nlmsg_put_extra_header(nlh, sizeof(*header));

	nlh->nlmsg_type = RTM_NEWNEIGH;
	*header = (struct ndmsg){.ndm_family = AF_INET6,
		.ndm_ifindex = 7,
		.ndm_state = NUD_STALE,
		.ndm_type = RTN_UNICAST};
	put_addr(nlh, NDA_DST, "fd00::2");
	mnl_attr_put(nlh, NDA_LLADDR, 6, "\x02\0\0\0\0\x22");
	mnl_attr_put_u32(nlh, NDA_PROBES, 1);
}

static void make_link(union message *message)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(message->words);
	struct ifinfomsg *header = mnl_nlmsg_put_extra_header(nlh, sizeof(*header));

	nlh->nlmsg_type = RTM_NEWLINK;
	header->ifi_index = 7;
	header->ifi_flags = IFF_UP | IFF_LOWER_UP;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, "eth7");
}

static void (*const makers[])(union message *message) = {
	make_route, make_multipath, make_via, make_neighbour, make_link};
#define N_MAKERS (sizeof(makers) / sizeof(makers[0]))

/* ---- what they say ---- */

static void routes_are_read(void **state)
{
	union message message;
	struct lb_netlink_route route;

	(void)state;
	make_route(&message);
	assert_int_equal(lb_netlink_parse_route(&message.nlh, &route), 0);
	assert_int_equal(route.family, 4);
	assert_int_equal(route.length, 16);
	assert_int_equal(route.table, 1000); // the attribute, which has room for it
	assert_int_equal(route.metric, 42);
	assert_int_equal(route.type, RTN_UNICAST);
	assert_addr(&route.prefix, "10.5.0.0");
	assert_int_equal(route.n_hops, 1);
	assert_int_equal(route.hops[0].ifindex, 7);
	assert_true(route.hops[0].usable);
	assert_addr(&route.hops[0].gateway, "10.0.0.1");

	make_multipath(&message);
	assert_int_equal(lb_netlink_parse_route(&message.nlh, &route), 0);
	assert_int_equal(route.family, 6);
	assert_int_equal(route.n_hops, 3);
	assert_false(route.hops[0].usable);
	assert_true(route.hops[1].usable);
	assert_false(route.hops[2].usable);
	assert_int_equal(route.hops[1].ifindex, 4);
	assert_addr(&route.hops[1].gateway, "fd00::4");

	make_via(&message);
	assert_int_equal(lb_netlink_parse_route(&message.nlh, &route), 0);
	assert_addr(&route.prefix, "0.0.0.0");
	assert_addr(&route.hops[0].gateway, "fd00::9");
}

static void routes_that_are_no_routes_are_marked(void **state)
{
	union message message;
	struct lb_netlink_route route;
	struct rtmsg *header = (void *)(message.words + MNL_NLMSG_HDRLEN / 4);

	(void)state;
	make_route(&message);
	header->rtm_flags = RTM_F_CLONED;
	header->rtm_src_len = 8;
	header->rtm_tos = 4;
	assert_int_equal(lb_netlink_parse_route(&message.nlh, &route), 0);
	assert_true(route.cloned);
	assert_true(route.sourced);
	assert_int_equal(route.tos, 4);
	make_route(&message);
	header->rtm_flags = RTNH_F_LINKDOWN;
	assert_int_equal(lb_netlink_parse_route(&message.nlh, &route), 0);
	assert_false(route.hops[0].usable);
	make_route(&message);
	mnl_attr_put_u32(&message.nlh, RTA_ENCAP, 0);
	assert_int_equal(lb_netlink_parse_route(&message.nlh, &route), 0);
	assert_false(route.hops[0].usable);
	make_route(&message);
	header->rtm_family = AF_MPLS;
	assert_int_equal(lb_netlink_parse_route(&message.nlh, &route), -EAFNOSUPPORT);
}

static void neighbours_and_links_are_read(void **state)
{
	union message message;
	struct lb_netlink_neighbour neighbour;
	struct lb_netlink_link link;
	struct ndmsg *header = (void *)(message.words + MNL_NLMSG_HDRLEN / 4);
	struct ifinfomsg *info = (void *)(message.words + MNL_NLMSG_HDRLEN / 4);

	(void)state;
	make_neighbour(&message);
	assert_int_equal(lb_netlink_parse_neighbour(&message.nlh, &neighbour), 0);
	assert_int_equal(neighbour.ifindex, 7);
	assert_int_equal(neighbour.state, NUD_STALE);
	assert_true(neighbour.has_mac);
	assert_true(neighbour.unicast);
	assert_memory_equal(neighbour.mac, "\x02\0\0\0\0\x22", 6);
	assert_addr(&neighbour.addr, "fd00::2");
	header->ndm_type = RTN_MULTICAST;
	assert_int_equal(lb_netlink_parse_neighbour(&message.nlh, &neighbour), 0);
	assert_false(neighbour.unicast);
	make_neighbour(&message);
	header->ndm_flags = NTF_PROXY;
	assert_int_equal(lb_netlink_parse_neighbour(&message.nlh, &neighbour), 0);
	assert_false(neighbour.unicast);

	make_link(&message);
	assert_int_equal(lb_netlink_parse_link(&message.nlh, &link), 0);
	assert_int_equal(link.ifindex, 7);
	assert_true(link.up);
	info->ifi_flags = IFF_UP; // no carrier
	assert_int_equal(lb_netlink_parse_link(&message.nlh, &link), 0);
	assert_false(link.up);
	make_link(&message);
	message.nlh.nlmsg_type = RTM_DELLINK;
	assert_int_equal(lb_netlink_parse_link(&message.nlh, &link), 0);
	assert_false(link.up);
	make_link(&message);
	info->ifi_family = AF_BRIDGE;
	assert_int_equal(lb_netlink_parse_link(&message.nlh, &link), -EAFNOSUPPORT);
}

// One change of a good message each, and what must come of it.
static void impossible_values_are_refused(void **state)
{
	static const struct {
		uint8_t family, length;
		uint16_t type, n;
		int rc;
	} attributes[] = {
		{AF_INET, 24, RTA_DST, 16, -EBADMSG},
		{AF_INET, 24, RTA_DST, 3, -EBADMSG},
		{AF_INET, 24, RTA_DST, 0, -EBADMSG},
		{AF_INET6, 24, RTA_DST, 4, -EBADMSG},
		{AF_INET6, 24, RTA_GATEWAY, 15, -EBADMSG},
		{AF_INET, 24, RTA_OIF, 2, -EBADMSG},
		{AF_INET, 24, RTA_OIF, 8, -EBADMSG},
		{AF_INET, 24, RTA_TABLE, 1, -EBADMSG},
		{AF_INET, 24, RTA_PRIORITY, 0, -EBADMSG},
		{AF_INET, 24, RTA_VIA, 1, -EBADMSG},
		{AF_INET, 24, RTA_VIA, 18, -EAFNOSUPPORT}, // family 0
		{AF_INET, 24, RTA_MULTIPATH, 7, -EBADMSG},
		{AF_INET, 24, RTA_MULTIPATH, 8, -EBADMSG}, // a hop of no length
		{AF_INET, 33, RTA_DST, 4, -EBADMSG},
		{AF_INET6, 129, RTA_DST, 16, -EBADMSG},
		{AF_INET6, 128, RTA_DST, 16, 0},
		{AF_INET, 32, RTA_DST, 4, 0},
		{AF_INET, 24, RTA_MULTIPATH, 0, 0},
	};
	static const uint8_t zeros[32], mapped[16] = {[10] = 0xff, 0xff, 192, 0, 2, 1};
	struct lb_netlink_neighbour neighbour;
	struct lb_netlink_route route;
	union message message;
	struct ndmsg *header = (void *)(message.words + MNL_NLMSG_HDRLEN / 4);

	(void)state;
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
		struct nlmsghdr *nlh =
			put_route(&message, attributes[i].family, attributes[i].length);

		mnl_attr_put(nlh, attributes[i].type, attributes[i].n, zeros);
		if (lb_netlink_parse_route(nlh, &route) != attributes[i].rc)
			fail_msg("attribute %zu", i);
	}
	put_route(&message, AF_INET6, 128);
	mnl_attr_put(&message.nlh, RTA_DST, 16, mapped); // would pass for IPv4
	assert_int_equal(lb_netlink_parse_route(&message.nlh, &route), -EAFNOSUPPORT);

	make_neighbour(&message);
	header->ndm_ifindex = -1;
	assert_int_equal(lb_netlink_parse_neighbour(&message.nlh, &neighbour), -EBADMSG);
	make_neighbour(&message);
	header->ndm_family = AF_INET; // with 16 bytes of address
	assert_int_equal(lb_netlink_parse_neighbour(&message.nlh, &neighbour), -EBADMSG);
	make_neighbour(&message);
	mnl_attr_put(&message.nlh, NDA_LLADDR, 20, zeros); // as of InfiniBand
	assert_int_equal(lb_netlink_parse_neighbour(&message.nlh, &neighbour), 0);
	assert_false(neighbour.has_mac);
	make_neighbour(&message);
	message.nlh.nlmsg_len = MNL_NLMSG_HDRLEN + sizeof(*header); // without an address
	assert_int_equal(lb_netlink_parse_neighbour(&message.nlh, &neighbour), -EBADMSG);
}

static void more_nexthops_than_are_read_do_no_harm(void **state)
{
	struct lb_netlink_route route;
	union {
		struct nlmsghdr nlh;
		uint32_t words[4096];
	} message;
	struct nlattr *nest;

	(void)state;
	put_route((union message *)&message, AF_INET, 0);
	nest = mnl_attr_nest_start(&message.nlh, RTA_MULTIPATH);
	for (int i = 0; i < 100; i++)
		put_hop(&message.nlh, i + 1, 0, "10.0.0.1");
	mnl_attr_nest_end(&message.nlh, nest);
	assert_int_equal(lb_netlink_parse_route(&message.nlh, &route), 0);
	assert_int_equal(route.n_hops, LB_NETLINK_MAX_HOPS);
	assert_int_equal(route.hops[LB_NETLINK_MAX_HOPS - 1].ifindex, LB_NETLINK_MAX_HOPS);
}

static void requests_say_what_is_asked(void **state)
{
	union message message;
	struct lb_netlink_neighbour neighbour;
	struct lb_addr addr = address("10.0.0.2");
	struct nlmsghdr *nlh = lb_netlink_build_use(message.words, 7, &addr, 99);
	struct ndmsg *header = mnl_nlmsg_get_payload(nlh);

	(void)state;
	assert_int_equal(nlh->nlmsg_type, RTM_NEWNEIGH);
	assert_int_equal(nlh->nlmsg_flags, NLM_F_REQUEST | NLM_F_CREATE); // never REPLACE
	assert_int_equal(nlh->nlmsg_seq, 99);
	assert_int_equal(header->ndm_flags, NTF_USE);
	assert_int_equal(lb_netlink_parse_neighbour(nlh, &neighbour), 0);
	assert_int_equal(neighbour.ifindex, 7);
	assert_false(neighbour.has_mac);
	assert_addr(&neighbour.addr, "10.0.0.2");
	assert_true(nlh->nlmsg_len <= LB_NETLINK_REQUEST_BYTES);
	addr = address("fd00::2");
	nlh = lb_netlink_build_use(message.words, 7, &addr, 100);
	assert_int_equal(lb_netlink_parse_neighbour(nlh, &neighbour), 0);
	assert_addr(&neighbour.addr, "fd00::2");

	nlh = lb_netlink_build_dump(message.words, RTM_GETROUTE, AF_INET6, RT_TABLE_LOCAL, 101);
	assert_int_equal(nlh->nlmsg_flags, NLM_F_REQUEST | NLM_F_DUMP);
	assert_int_equal(((struct rtmsg *)mnl_nlmsg_get_payload(nlh))->rtm_family, AF_INET6);
	assert_int_equal(((struct rtmsg *)mnl_nlmsg_get_payload(nlh))->rtm_table, RT_TABLE_LOCAL);
}

/* ---- hostile bytes ---- */

static void parse_all(const struct nlmsghdr *nlh)
{
	struct lb_netlink_neighbour neighbour;
	struct lb_netlink_route route;
	struct lb_netlink_link link;

	if (lb_netlink_parse_route(nlh, &route) == 0) {
		assert_true(route.n_hops <= LB_NETLINK_MAX_HOPS);
		assert_true(route.length <= (route.family == 4 ? 32 : 128));
	}
	if (lb_netlink_parse_neighbour(nlh, &neighbour) == 0)
		assert_true(!neighbour.has_mac || memcmp(neighbour.mac, "\0\0\0\0\0", 6) != 0);
	lb_netlink_parse_link(nlh, &link);
}

// A copy that ends where the message does, so that AddressSanitizer sees a read beyond.
static struct nlmsghdr *copy_exactly(const void *data, size_t n)
{
	void *copy = malloc(n);

	memcpy(copy, data, n);
	return copy;
}

static void truncated_messages_are_not_read_beyond(void **state)
{
	union message message;

	(void)state;
	for (size_t i = 0; i < N_MAKERS; i++) {
		makers[i](&message);
		for (uint32_t n = message.nlh.nlmsg_len; n >= MNL_NLMSG_HDRLEN; n--) {
			struct nlmsghdr *nlh = copy_exactly(&message, n);

			nlh->nlmsg_len = n;
			parse_all(nlh);
			free(nlh);
		}
	}
}

static struct nlmsghdr *mutate(void)
{
	union message message;
	struct nlmsghdr *nlh;
	uint8_t *bytes;
	uint32_t n;

	makers[random_below(N_MAKERS)](&message);
	n = message.nlh.nlmsg_len;
	if (random_below(4) == 0)
		n = MNL_NLMSG_HDRLEN + random_below(n - MNL_NLMSG_HDRLEN + 1);
	nlh = copy_exactly(&message, n);
	nlh->nlmsg_len = n;
	bytes = (uint8_t *)nlh;
	for (uint32_t k = random_below(6); k && n > MNL_NLMSG_HDRLEN; k--) {
		uint32_t at = MNL_NLMSG_HDRLEN + random_below(n - MNL_NLMSG_HDRLEN);

		// lengths are small numbers: near misses find more than any byte
		bytes[at] = (uint8_t)(random_below(2) ? random_below(256)
						      : bytes[at] + random_below(9) - 4);
	}
	return nlh;
}

static void mutated_messages_are_not_read_beyond(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_MUTATIONS; i++) {
		struct nlmsghdr *nlh = mutate();

		parse_all(nlh);
		free(nlh);
	}
}

static void ignore_routes(void *arg)
{
	(void)arg;
}

static void count_neighbour(void *arg, uint32_t ifindex, const struct lb_addr *addr,
	const uint8_t mac[6], bool resolved)
{
	(void)addr, (void)mac, (void)resolved;
	assert_int_equal(ifindex, 7);
	++*(unsigned *)arg;
}

// The same through the whole mirror, in whatever state it is, with random types, flags and sequence
// numbers.
static void mirror_survives_hostile_messages(void **state)
{
	static const struct lb_kernel_callbacks callbacks = {ignore_routes, count_neighbour};
	static const uint16_t types[] = {RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWNEIGH, RTM_DELNEIGH,
		RTM_NEWLINK, RTM_DELLINK, RTM_DELADDR, RTM_DELNEXTHOP, NLMSG_DONE, NLMSG_ERROR,
		NLMSG_NOOP, 0xffff};
	struct event_base *base = event_base_new();
	const uint32_t ifindex = 7;
	struct lb_kernel *kernel;
	unsigned n_told = 0;

	(void)state;
	assert_int_equal(lb_kernel_create(base, &ifindex, 1, &callbacks, &n_told, &kernel), 0);
	for (unsigned i = 0; i < N_MUTATIONS; i++) {
		struct nlmsghdr *nlh = mutate();

		nlh->nlmsg_type = random_below(2)
					  ? nlh->nlmsg_type
					  : types[random_below(sizeof(types) / sizeof(types[0]))];
		nlh->nlmsg_flags = (uint16_t)random_below(0x1000);
		nlh->nlmsg_seq = kernel->dump_seq + (random_below(4) == 0);
		lb_kernel_handle(kernel, nlh);
		free(nlh);
		if (i % 64 == 0)
			event_base_loop(base, EVLOOP_NONBLOCK);
	}
	assert_true(kernel->stats.n_invalid > 0);
	assert_true(n_told > 0);
	lb_kernel_destroy(kernel);
	event_base_free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(routes_are_read),
		cmocka_unit_test(routes_that_are_no_routes_are_marked),
		cmocka_unit_test(neighbours_and_links_are_read),
		cmocka_unit_test(impossible_values_are_refused),
		cmocka_unit_test(more_nexthops_than_are_read_do_no_harm),
		cmocka_unit_test(requests_say_what_is_asked),
		cmocka_unit_test(truncated_messages_are_not_read_beyond),
		cmocka_unit_test(mutated_messages_are_not_read_beyond),
		cmocka_unit_test(mirror_survives_hostile_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
