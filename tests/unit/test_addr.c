/* SPDX-License-Identifier: BSD-3-Clause */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lb/addr.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof(*(array)))

static void addresses_survive_parse_and_format(void **state)
{
	static const char *const texts[] = {"0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "::1",
		"2001:db8::1", "fe80::1", "ff02::1", "2001:db8:1:2:3:4:5:6", "64:ff9b::c000:201"};
	char buf[LB_ADDR_STRLEN];
	struct lb_addr addr;

	(void)state;
	for (unsigned i = 0; i < N_ELEMENTS(texts); i++) {
		assert_int_equal(0, lb_addr_parse(texts[i], &addr));
		assert_int_equal(strchr(texts[i], ':') == NULL, lb_addr_is_ipv4(&addr));
		assert_string_equal(texts[i], lb_addr_format(&addr, buf));
		assert_ptr_equal(buf, lb_addr_format(&addr, buf));
	}
}

static void ipv4_is_held_in_mapped_form(void **state)
{
	static const uint8_t mapped[16] = {[10] = 0xff, 0xff, 192, 0, 2, 1};
	struct lb_addr parsed, made = lb_addr_from_ipv4(inet_addr("192.0.2.1"));

	(void)state;
	assert_int_equal(0, lb_addr_parse("192.0.2.1", &parsed));
	assert_memory_equal(mapped, parsed.bytes, 16);
	assert_true(lb_addr_equal(&parsed, &made));
	assert_int_equal(inet_addr("192.0.2.1"), lb_addr_ipv4_be(&parsed));
}

static void longest_texts_fit(void **state)
{
	struct lb_addr addr;
	char buf[LB_ENDPOINT_STRLEN];

	(void)state;
	memset(addr.bytes, 0xee, sizeof(addr.bytes));
	lb_endpoint_format(&addr, UINT16_MAX, buf);
	assert_string_equal("[eeee:eeee:eeee:eeee:eeee:eeee:eeee:eeee]:65535", buf);
}

static void what_is_no_address_is_refused(void **state)
{
	static const char *const texts[] = {"", " ", "192.0.2", "192.0.2.256", "192.0.2.1 ",
		" 192.0.2.1", "192.0.2.01", "0xc0000201", "3221225985", "192.0.2.1.",
		"192.0.2.1/24", "[2001:db8::1]", "2001:db8::1%eth0", "2001:db8::1/64", "2001:db8",
		"::g", ":::", "1:2:3:4:5:6:7:8:9", "::ffff:192.0.2.1", "::ffff:c000:201",
		"0:0:0:0:0:ffff:1.2.3.4", "localhost", "2001:db8::1::2", "fe80::1%1"};
	struct lb_addr addr, untouched;

	(void)state;
	memset(&addr, 0x5a, sizeof(addr));
	untouched = addr;
	for (unsigned i = 0; i < N_ELEMENTS(texts); i++) {
		assert_int_equal(-EINVAL, lb_addr_parse(texts[i], &addr));
		assert_true(lb_addr_equal(&addr, &untouched));
	}
}

static void endpoints_survive_parse_and_format(void **state)
{
	static const char *const texts[] = {"192.0.2.1:80", "192.0.2.1:0", "10.0.0.1:65535",
		"10.0.0.1:9", "[2001:db8::1]:443", "[::1]:1", "[fe80::1]:0"};
	char buf[LB_ENDPOINT_STRLEN];
	struct lb_endpoint endpoint;

	(void)state;
	for (unsigned i = 0; i < N_ELEMENTS(texts); i++) {
		assert_int_equal(0, lb_endpoint_parse(texts[i], &endpoint));
		assert_string_equal(
			texts[i], lb_endpoint_format(&endpoint.addr, endpoint.port_be, buf));
	}
	assert_int_equal(0, lb_endpoint_parse("192.0.2.1:258", &endpoint));
	assert_int_equal(htons(258), endpoint.port_be);
}

static void what_is_no_endpoint_is_refused(void **state)
{
	static const char *const texts[] = {"", ":", ":80", "192.0.2.1",
		"192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:99999", "192.0.2.1:100000",
		"192.0.2.1:4294967376", "192.0.2.1:-1", "192.0.2.1:+80", "192.0.2.1: 80",
		"192.0.2.1:80 ", "192.0.2.1:080", "192.0.2.1:00", "192.0.2.1:http", "192.0.2.1:8O",
		"[192.0.2.1]:80", "2001:db8::1:80", "2001:db8::1", "[2001:db8::1]",
		"[2001:db8::1]80", "[2001:db8::1]:", "[2001:db8::1", "[]:80", "[:80",
		"[2001:db8::1]]:80", "[::ffff:192.0.2.1]:80", "192.0.2.1:80:90",
		"[1111:1111:1111:1111:1111:1111:1111:1111:1111:1111]:80"};
	struct lb_endpoint endpoint, untouched;

	(void)state;
	memset(&endpoint, 0x5a, sizeof(endpoint));
	untouched = endpoint;
	for (unsigned i = 0; i < N_ELEMENTS(texts); i++) {
		assert_int_equal(-EINVAL, lb_endpoint_parse(texts[i], &endpoint));
		assert_memory_equal(&untouched, &endpoint, sizeof(endpoint));
	}
}

static void only_unicast_addresses_are_usable(void **state)
{
	static const char *const usable[] = {"192.0.2.1", "10.0.0.1", "1.0.0.0", "223.255.255.255",
		"169.254.1.1", "126.255.255.255", "128.0.0.1", "240.0.0.1", "2001:db8::1",
		"fc00::1", "::2", "fec0::1", "fe7f::1"};
	static const char *const unusable[] = {"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255",
		"224.0.0.1", "239.255.255.255", "255.255.255.255", "::", "::1", "ff02::1",
		"ff0e::1", "fe80::1", "febf::1"};
	struct lb_addr addr;

	(void)state;
	for (unsigned i = 0; i < N_ELEMENTS(usable); i++) {
		assert_int_equal(0, lb_addr_parse(usable[i], &addr));
		assert_true(lb_addr_is_usable(&addr));
	}
	for (unsigned i = 0; i < N_ELEMENTS(unusable); i++) {
		assert_int_equal(0, lb_addr_parse(unusable[i], &addr));
		assert_false(lb_addr_is_usable(&addr));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_survive_parse_and_format),
		cmocka_unit_test(ipv4_is_held_in_mapped_form),
		cmocka_unit_test(longest_texts_fit),
		cmocka_unit_test(what_is_no_address_is_refused),
		cmocka_unit_test(endpoints_survive_parse_and_format),
		cmocka_unit_test(what_is_no_endpoint_is_refused),
		cmocka_unit_test(only_unicast_addresses_are_usable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
