/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_ADDR_H
#define LB_ADDR_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/**
 * An IPv4 or IPv6 address in 16 bytes, network byte order. IPv4 is held in the IPv4-mapped form
 * ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2), so that one code path serves both families; the mapped
 * form is never accepted as text or taken from an IPv6 packet.
 */
struct lb_addr {
	union {
		uint8_t bytes[16];
		uint64_t u64[2];
		uint32_t u32[4];
	};
};
static_assert(sizeof(struct lb_addr) == 16, "lb_addr crosses processes");

/** An address and a port; port 0 stands for every port. */
struct lb_endpoint {
	struct lb_addr addr;
	uint16_t port_be;
};

/** What names a service: VIP, port (0 = every port), IP protocol number. Unused bytes are zero. */
struct lb_service_key {
	struct lb_addr addr;
	uint16_t port_be;
	uint8_t proto;
	uint8_t zero[5];
};
static_assert(sizeof(struct lb_service_key) == 24, "lb_service_key is hashed as bytes");

#define LB_ADDR_STRLEN 46     /* INET6_ADDRSTRLEN */
#define LB_ENDPOINT_STRLEN 56 /* "[" address "]:65535" NUL */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LB_ADDR_V4_PREFIX 0xffff0000u /* bytes 8..11 of a mapped address: 00 00 ff ff */
#else
#define LB_ADDR_V4_PREFIX 0x0000ffffu
#endif

static inline bool lb_addr_is_ipv4(const struct lb_addr *addr)
{
	return addr->u64[0] == 0 && addr->u32[2] == LB_ADDR_V4_PREFIX;
}

static inline struct lb_addr lb_addr_from_ipv4(uint32_t ipv4_be)
{
	struct lb_addr addr = {.u32 = {0, 0, LB_ADDR_V4_PREFIX, ipv4_be}};

	return addr;
}

static inline uint32_t lb_addr_ipv4_be(const struct lb_addr *addr)
{
	return addr->u32[3];
}

static inline bool lb_addr_equal(const struct lb_addr *a, const struct lb_addr *b)
{
	return a->u64[0] == b->u64[0] && a->u64[1] == b->u64[1];
}

/**
 * Parse "192.0.2.1" or "2001:db8::1" (no brackets, no zone, no prefix length).
 * @return 0; -EINVAL if @p text is no address, or an IPv4-mapped IPv6 address.
 */
int lb_addr_parse(const char *text, struct lb_addr *addr);

/** Format into @p buf (LB_ADDR_STRLEN bytes). @return @p buf. */
char *lb_addr_format(const struct lb_addr *addr, char *buf);

/**
 * Parse "192.0.2.1:80", "[2001:db8::1]:80". The port is 0..65535 and must be there.
 * @return 0; -EINVAL if the text is no endpoint.
 */
int lb_endpoint_parse(const char *text, struct lb_endpoint *endpoint);

/** Format into @p buf (LB_ENDPOINT_STRLEN bytes). @return @p buf. */
char *lb_endpoint_format(const struct lb_addr *addr, uint16_t port_be, char *buf);

/**
 * Whether @p addr may be a VIP or a backend: not unspecified, loopback, multicast, broadcast, or (for
 * IPv6) link-local, which would need a zone. @return true if usable.
 */
bool lb_addr_is_usable(const struct lb_addr *addr);

#endif
