/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

int lb_addr_parse(const char *text, struct lb_addr *addr)
{
	struct in_addr ipv4;
	struct lb_addr ipv6;

	if (inet_pton(AF_INET, text, &ipv4) == 1) {
		*addr = lb_addr_from_ipv4(ipv4.s_addr);
		return 0;
	}
	if (inet_pton(AF_INET6, text, ipv6.bytes) != 1 || lb_addr_is_ipv4(&ipv6))
		return -EINVAL;
	*addr = ipv6;
	return 0;
}

/* @return the end, which is not terminated. */
static char *put_number(char *at, unsigned number)
{
	char digits[10];
	unsigned n = 0;

	do
		digits[n++] = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	while (n > 0)
		*at++ = digits[--n];
	return at;
}

char *lb_addr_format(const struct lb_addr *addr, char *buf)
{
	char *at = buf;

	if (!lb_addr_is_ipv4(addr)) {
		inet_ntop(AF_INET6, addr->bytes, buf, LB_ADDR_STRLEN);
		return buf;
	}
	// a config has tens of thousands: inet_ntop() takes ten times as long
	for (unsigned i = 12; i < 16; i++) {
		at = put_number(at, addr->bytes[i]);
		*at++ = i < 15 ? '.' : '\0';
	}
	return buf;
}

/* Decimal digits only, no sign, no space, no leading zero: one spelling for one port. */
static int port_parse(const char *text, uint16_t *port_be)
{
	uint32_t port = 0;
	size_t len = strlen(text);

	if (len < 1 || len > 5 || (text[0] == '0' && len > 1))
		return -EINVAL;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		port = port * 10 + (uint32_t)(*text - '0');
	}
	if (port > UINT16_MAX)
		return -EINVAL;
	*port_be = htons((uint16_t)port);
	return 0;
}

int lb_endpoint_parse(const char *text, struct lb_endpoint *endpoint)
{
	bool bracketed = text[0] == '[';
	const char *begin = text + bracketed;
	const char *end = bracketed ? strchr(text, ']') : strrchr(text, ':');
	struct lb_endpoint parsed;
	char addr[LB_ADDR_STRLEN];

	if (end == NULL || (size_t)(end - begin) >= sizeof(addr))
		return -EINVAL;
	memcpy(addr, begin, (size_t)(end - begin));
	addr[end - begin] = '\0';
	if (bracketed && *++end != ':')
		return -EINVAL;
	if (lb_addr_parse(addr, &parsed.addr) < 0 || port_parse(end + 1, &parsed.port_be) < 0)
		return -EINVAL;
	// "[192.0.2.1]:80" and "2001:db8::1:80": the brackets tell the families apart
	if (lb_addr_is_ipv4(&parsed.addr) == bracketed)
		return -EINVAL;
	*endpoint = parsed;
	return 0;
}

char *lb_endpoint_format(const struct lb_addr *addr, uint16_t port_be, char *buf)
{
	bool bracketed = !lb_addr_is_ipv4(addr);
	char *at = buf;

	if (bracketed)
		*at++ = '[';
	lb_addr_format(addr, at);
	at += strlen(at);
	if (bracketed)
		*at++ = ']';
	*at++ = ':';
	*put_number(at, ntohs(port_be)) = '\0';
	return buf;
}

static bool ipv4_is_usable(uint32_t ipv4)
{
	uint32_t net = ipv4 >> 24;

	return net != 0 && net != 127 && (net & 0xf0) != 0xe0 && ipv4 != UINT32_MAX;
}

bool lb_addr_is_usable(const struct lb_addr *addr)
{
	static const struct lb_addr unspecified, loopback = {.bytes = {[15] = 1}};

	if (lb_addr_is_ipv4(addr))
		return ipv4_is_usable(ntohl(lb_addr_ipv4_be(addr)));
	if (addr->bytes[0] == 0xff || (addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80))
		return false;
	return !lb_addr_equal(addr, &unspecified) && !lb_addr_equal(addr, &loopback);
}
