/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_NETLINK_H
#define LB_CONTROL_NETLINK_H

#include <linux/netlink.h>

#include "lb/addr.h"

/*
 * NETLINK_ROUTE messages (rtnetlink(7)) to and from structs. No sockets, no state. Messages are
 * taken for hostile: each length is checked before what it covers is read, and nothing past
 * nlmsg_len is.
 */

#define LB_NETLINK_REQUEST_BYTES 128u /* room enough for any request built here */
#define LB_NETLINK_MAX_HOPS 32u       /* of a multipath route are read, the rest ignored */

struct lb_netlink_link {
	uint32_t ifindex;
	bool up; /* administratively, and has a carrier */
};

struct lb_netlink_hop {
	uint32_t ifindex;       /* 0: none given */
	struct lb_addr gateway; /* all zero: connected */
	bool usable;            /* neither dead nor without link, as the kernel sees it */
};

struct lb_netlink_route {
	uint8_t family; /* 4, 6 */
	uint8_t length; /* of the prefix in bits, 0..32 or 0..128 */
	uint8_t tos;
	uint8_t type;   /* RTN_* */
	bool cloned;    /* a cached exception, no route */
	bool sourced;   /* depends on the source address as well */
	uint32_t table; /* RT_TABLE_* */
	uint32_t metric;
	struct lb_addr prefix;
	uint32_t n_hops; /* 1 but for multipath; 0: blackholes and the like */
	struct lb_netlink_hop hops[LB_NETLINK_MAX_HOPS];
};

struct lb_netlink_neighbour {
	uint32_t ifindex;
	struct lb_addr addr;
	uint16_t state; /* NUD_* */
	bool unicast;   /* neither multicast, nor broadcast, nor local, nor a proxy entry */
	bool has_mac;   /* of 6 bytes and not all zero */
	uint8_t mac[6];
};

/**
 * Parse RTM_{NEW,DEL}LINK, _ROUTE, _NEIGH. @p nlh has nlmsg_len readable bytes (mnl_nlmsg_ok()).
 * @return 0; -EAFNOSUPPORT: of another family than IPv4, IPv6 (an IPv4-mapped IPv6 address counts
 * as such); -EBADMSG: a length or a value that cannot be.
 */
int lb_netlink_parse_link(const struct nlmsghdr *nlh, struct lb_netlink_link *link);
int lb_netlink_parse_route(const struct nlmsghdr *nlh, struct lb_netlink_route *route);
int lb_netlink_parse_neighbour(const struct nlmsghdr *nlh, struct lb_netlink_neighbour *neighbour);

/**
 * Build a request for a whole table: RTM_GETLINK (family AF_UNSPEC), RTM_GETROUTE, RTM_GETNEIGH.
 * @param buf    LB_NETLINK_REQUEST_BYTES bytes, 4-aligned.
 * @param table  RT_TABLE_*, for routes: heeded where NETLINK_GET_STRICT_CHK is, else all are sent.
 * @return @p buf.
 */
struct nlmsghdr *lb_netlink_build_dump(
	void *buf, uint16_t type, uint8_t family, uint8_t table, uint32_t seq);

/**
 * Build the request that makes the kernel resolve, or confirm, a neighbour as if it had a packet
 * for it. Never for a permanent entry: Linux since 5.16 takes that property from it.
 */
struct nlmsghdr *lb_netlink_build_use(
	void *buf, uint32_t ifindex, const struct lb_addr *addr, uint32_t seq);

#endif
