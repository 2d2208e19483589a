/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/netlink.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>

#define IPV4_BYTES 4u
#define IPV6_BYTES 16u

// Not mnl_attr_for_each(): it rounds nlmsg_len up, past the end of the message.
#define for_each_attr(attr, data, end) \
	for (attr = (const void *)(data); is_attr(attr, end); attr = mnl_attr_next(attr))

static bool is_attr(const struct nlattr *attr, const void *end)
{
	ptrdiff_t left = (const char *)end - (const char *)attr;

	return mnl_attr_ok(attr, (int)left);
}

static const void *after(const struct nlmsghdr *nlh, size_t header_bytes)
{
	return (const char *)nlh + MNL_NLMSG_HDRLEN + header_bytes;
}

static const void *end_of(const struct nlmsghdr *nlh)
{
	return (const char *)nlh + nlh->nlmsg_len;
}

static bool has_payload(const struct nlmsghdr *nlh, size_t bytes)
{
	return nlh->nlmsg_len >= MNL_NLMSG_HDRLEN + bytes;
}

static size_t address_bytes(uint8_t family)
{
	return family == AF_INET ? IPV4_BYTES : IPV6_BYTES;
}

static int get_u32(const struct nlattr *attr, uint32_t *value)
{
	if (mnl_attr_get_payload_len(attr) != sizeof(*value))
		return -EBADMSG;
	memcpy(value, mnl_attr_get_payload(attr), sizeof(*value));
	return 0;
}

static int get_address(const void *data, size_t n, uint8_t family, struct lb_addr *addr)
{
	uint32_t ipv4_be;

	if (n != address_bytes(family))
		return -EBADMSG;
	if (family == AF_INET) {
		memcpy(&ipv4_be, data, sizeof(ipv4_be));
		*addr = lb_addr_from_ipv4(ipv4_be);
		return 0;
	}
	memcpy(addr->bytes, data, IPV6_BYTES);
	return lb_addr_is_ipv4(addr) ? -EAFNOSUPPORT : 0;
}

static int get_address_attr(const struct nlattr *attr, uint8_t family, struct lb_addr *addr)
{
	return get_address(
		mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr), family, addr);
}

static bool is_inet(uint8_t family)
{
	return family == AF_INET || family == AF_INET6;
}

int lb_netlink_parse_link(const struct nlmsghdr *nlh, struct lb_netlink_link *link)
{
	struct ifinfomsg info;

	if (!has_payload(nlh, sizeof(info)))
		return -EBADMSG;
	memcpy(&info, mnl_nlmsg_get_payload(nlh), sizeof(info));
	if (info.ifi_family != AF_UNSPEC)
		return -EAFNOSUPPORT; // AF_BRIDGE tells of ports, AF_INET6 of settings
	if (info.ifi_index <= 0)
		return -EBADMSG;
	link->ifindex = (uint32_t)info.ifi_index;
	link->up = nlh->nlmsg_type == RTM_NEWLINK && info.ifi_flags & IFF_UP &&
		   info.ifi_flags & IFF_LOWER_UP;
	return 0;
}

/* ---- routes ---- */

// The gateway of another family than the route's: struct rtvia, a family and an address.
static int get_via(const struct nlattr *attr, struct lb_addr *gateway)
{
	const uint8_t *data = mnl_attr_get_payload(attr);
	size_t n = mnl_attr_get_payload_len(attr);
	uint16_t family;

	if (n < sizeof(family))
		return -EBADMSG;
	memcpy(&family, data, sizeof(family));
	if (family != AF_INET && family != AF_INET6)
		return -EAFNOSUPPORT;
	return get_address(data + sizeof(family), n - sizeof(family), (uint8_t)family, gateway);
}

static bool is_usable_hop(unsigned flags)
{
	return !(flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN | RTNH_F_UNRESOLVED));
}

// The attributes of one nexthop; @n bytes at @data, which are as the kernel aligns them.
static int parse_hop_attrs(const void *data, size_t n, uint8_t family, struct lb_netlink_hop *hop)
{
	const struct nlattr *attr;
	int rc = 0;

	for_each_attr (attr, data, (const char *)data + n) {
		switch (mnl_attr_get_type(attr)) {
		case RTA_GATEWAY:
			rc = get_address_attr(attr, family, &hop->gateway);
			break;
		case RTA_VIA:
			rc = get_via(attr, &hop->gateway);
			break;
		case RTA_ENCAP: // a tunnel of the kernel's, not ours to build
			hop->usable = false;
			break;
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int parse_multipath(
	const struct nlattr *attr, uint8_t family, struct lb_netlink_route *route)
{
	const uint8_t *data = mnl_attr_get_payload(attr);
	size_t left = mnl_attr_get_payload_len(attr);

	route->n_hops = 0;
	while (left && route->n_hops < LB_NETLINK_MAX_HOPS) {
		struct lb_netlink_hop *hop = &route->hops[route->n_hops++];
		struct rtnexthop header;
		size_t step;
		int rc;

		if (left < sizeof(header))
			return -EBADMSG;
		memcpy(&header, data, sizeof(header));
		if (header.rtnh_len < sizeof(header) || header.rtnh_len > left ||
			header.rtnh_ifindex < 0)
			return -EBADMSG;
		*hop = (struct lb_netlink_hop){.ifindex = (uint32_t)header.rtnh_ifindex,
			.usable = is_usable_hop(header.rtnh_flags)};
		rc = parse_hop_attrs(
			data + sizeof(header), header.rtnh_len - sizeof(header), family, hop);
		if (rc < 0)
			return rc;
		step = RTNH_ALIGN((size_t)header.rtnh_len);
		step = step < left ? step : left;
		data += step;
		left -= step;
	}
	return 0;
}

static int parse_route_attr(
	const struct nlattr *attr, uint8_t family, struct lb_netlink_route *route)
{
	struct lb_netlink_hop *hop = &route->hops[0];

	switch (mnl_attr_get_type(attr)) {
	case RTA_TABLE:
		return get_u32(attr, &route->table);
	case RTA_PRIORITY:
		return get_u32(attr, &route->metric);
	case RTA_DST:
		return get_address_attr(attr, family, &route->prefix);
	case RTA_OIF:
		route->n_hops = 1;
		return get_u32(attr, &hop->ifindex);
	case RTA_GATEWAY:
		return get_address_attr(attr, family, &hop->gateway);
	case RTA_VIA:
		return get_via(attr, &hop->gateway);
	case RTA_ENCAP: // a tunnel of the kernel's, not ours to build
		hop->usable = false;
		return 0;
	default:
		return 0;
	}
}

int lb_netlink_parse_route(const struct nlmsghdr *nlh, struct lb_netlink_route *route)
{
	const struct nlattr *attr, *multipath = NULL;
	struct rtmsg header;
	int rc;

	if (!has_payload(nlh, sizeof(header)))
		return -EBADMSG;
	memcpy(&header, mnl_nlmsg_get_payload(nlh), sizeof(header));
	if (!is_inet(header.rtm_family))
		return -EAFNOSUPPORT;
	if (header.rtm_dst_len > address_bytes(header.rtm_family) * 8)
		return -EBADMSG;
	memset(route, 0, sizeof(*route));
	route->family = header.rtm_family == AF_INET ? 4 : 6;
	route->length = header.rtm_dst_len;
	route->tos = header.rtm_tos;
	route->type = header.rtm_type;
	route->cloned = header.rtm_flags & RTM_F_CLONED;
	route->sourced = header.rtm_src_len > 0;
	route->table = header.rtm_table;
	route->hops[0].usable = is_usable_hop(header.rtm_flags);
	if (header.rtm_family == AF_INET)
		route->prefix = lb_addr_from_ipv4(0); // 0.0.0.0/0 has no RTA_DST
	for_each_attr (attr, after(nlh, sizeof(header)), end_of(nlh)) {
		if (mnl_attr_get_type(attr) == RTA_MULTIPATH)
			multipath = attr;
		rc = parse_route_attr(attr, header.rtm_family, route);
		if (rc < 0)
			return rc;
	}
	return multipath ? parse_multipath(multipath, header.rtm_family, route) : 0;
}

/* ---- neighbours ---- */

static bool is_unicast(const struct ndmsg *header, const struct lb_addr *addr)
{
	if (header->ndm_flags & NTF_PROXY)
		return false;
	if (header->ndm_type != RTN_UNICAST && header->ndm_type != RTN_UNSPEC)
		return false;
	if (lb_addr_is_ipv4(addr))
		return (addr->bytes[12] & 0xf0) != 0xe0;
	return addr->bytes[0] != 0xff;
}

int lb_netlink_parse_neighbour(const struct nlmsghdr *nlh, struct lb_netlink_neighbour *neighbour)
{
	static const uint8_t zero[6];
	const struct nlattr *attr;
	struct ndmsg header;
	bool has_addr = false;
	int rc;

	if (!has_payload(nlh, sizeof(header)))
		return -EBADMSG;
	memcpy(&header, mnl_nlmsg_get_payload(nlh), sizeof(header));
	if (!is_inet(header.ndm_family))
		return -EAFNOSUPPORT;
	if (header.ndm_ifindex < 0)
		return -EBADMSG;
	memset(neighbour, 0, sizeof(*neighbour));
	neighbour->ifindex = (uint32_t)header.ndm_ifindex;
	neighbour->state = header.ndm_state;
	for_each_attr (attr, after(nlh, sizeof(header)), end_of(nlh)) {
		const void *data = mnl_attr_get_payload(attr);

		if (mnl_attr_get_type(attr) == NDA_DST) {
			rc = get_address_attr(attr, header.ndm_family, &neighbour->addr);
			if (rc < 0)
				return rc;
			has_addr = true;
		} else if (mnl_attr_get_type(attr) == NDA_LLADDR) {
			// links that are no Ethernet have others; they resolve to nothing here
			neighbour->has_mac = mnl_attr_get_payload_len(attr) == sizeof(zero) &&
					     memcmp(data, zero, sizeof(zero)) != 0;
			if (neighbour->has_mac)
				memcpy(neighbour->mac, data, sizeof(neighbour->mac));
		}
	}
	if (!has_addr)
		return -EBADMSG;
	neighbour->unicast = is_unicast(&header, &neighbour->addr);
	return 0;
}

/* ---- requests ---- */

struct nlmsghdr *lb_netlink_build_dump(
	void *buf, uint16_t type, uint8_t family, uint8_t table, uint32_t seq)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = seq;
	if (type == RTM_GETLINK) {
		struct ifinfomsg *info = mnl_nlmsg_put_extra_header(nlh, sizeof(*info));

		info->ifi_family = family;
	} else if (type == RTM_GETROUTE) {
		struct rtmsg *route = mnl_nlmsg_put_extra_header(nlh, sizeof(*route));

		route->rtm_family = family;
		route->rtm_table = table;
	} else {
		struct ndmsg *neighbour = mnl_nlmsg_put_extra_header(nlh, sizeof(*neighbour));

		neighbour->ndm_family = family;
	}
	return nlh;
}

struct nlmsghdr *lb_netlink_build_use(
	void *buf, uint32_t ifindex, const struct lb_addr *addr, uint32_t seq)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	bool is_ipv4 = lb_addr_is_ipv4(addr);
	struct ndmsg *header;

	nlh->nlmsg_type = RTM_NEWNEIGH;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE;
	nlh->nlmsg_seq = seq;
	header = mnl_nlmsg_put_extra_header(nlh, sizeof(*header));
	header->ndm_family = is_ipv4 ? AF_INET : AF_INET6;
	header->ndm_ifindex = (int)ifindex;
	header->ndm_state = NUD_NONE;
	header->ndm_flags = NTF_USE;
	mnl_attr_put(nlh, NDA_DST, is_ipv4 ? IPV4_BYTES : IPV6_BYTES,
		addr->bytes + (is_ipv4 ? IPV6_BYTES - IPV4_BYTES : 0));
	return nlh;
}
