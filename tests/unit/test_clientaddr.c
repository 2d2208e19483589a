/* SPDX-License-Identifier: BSD-3-Clause */
/* TOA options and PROXY headers, in mode fullnat, through the real stages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>

#include "dataplane/checksum.h"
#include "tests/unit/fullnat_util.h"

/*
 * Services, each with backend n of its number: 0, 1 toa from IPv4 and IPv6; 2, 3 proxy_v2 from IPv4 and IPv6; 4, 5
 * proxy_v2 over UDP; 6 none; 7 toa and 8 proxy_v2 from IPv6 to IPv4.
 */
static struct pipeline pipeline;

static const struct {
	const char *client, *vip, *backend;
	uint16_t port;
	uint8_t proto;
	enum lb_client_address what;
} services[] = {
	{"198.51.100.7", "203.0.113.10", "10.0.0.1", 80, IPPROTO_TCP, LB_CLIENT_ADDRESS_TOA},
	{"2001:db8:c::7", "2001:db8::10", "fd00::1", 80, IPPROTO_TCP, LB_CLIENT_ADDRESS_TOA},
	{"198.51.100.7", "203.0.113.10", "10.0.0.2", 81, IPPROTO_TCP, LB_CLIENT_ADDRESS_PROXY_V2},
	{"2001:db8:c::7", "2001:db8::10", "fd00::2", 81, IPPROTO_TCP, LB_CLIENT_ADDRESS_PROXY_V2},
	{"198.51.100.7", "203.0.113.10", "10.0.0.3", 53, IPPROTO_UDP, LB_CLIENT_ADDRESS_PROXY_V2},
	{"2001:db8:c::7", "2001:db8::10", "fd00::3", 53, IPPROTO_UDP, LB_CLIENT_ADDRESS_PROXY_V2},
	{"198.51.100.7", "203.0.113.10", "10.0.0.4", 82, IPPROTO_TCP, LB_CLIENT_ADDRESS_NONE},
	{"2001:db8:c::7", "2001:db8::10", "10.0.0.5", 83, IPPROTO_TCP, LB_CLIENT_ADDRESS_TOA},
	{"2001:db8:c::7", "2001:db8::10", "10.0.0.6", 84, IPPROTO_TCP, LB_CLIENT_ADDRESS_PROXY_V2},
};
#define N_SERVICES (sizeof(services) / sizeof(services[0]))
#define ISN 0xfffffff0u /* wraps soon */

static unsigned next_port = 20000;

static int set_up(void **state)
{
	static const char *const locals[] = {"192.0.2.1", "2001:db8:1::1", NULL};

	pipeline_start_eal_alone(512);
	pipeline_start(&pipeline, 1, 8192, 1023);
	pipeline_sync_begin(&pipeline);
	assert_int_equal(fullnat_locals(&pipeline, locals), 0);
	for (uint16_t i = 0; i < N_SERVICES; i++) {
		fullnat_service(&pipeline, i, services[i].vip, services[i].port, services[i].proto,
			services[i].what);
		pipeline_backend(&pipeline, i, i, services[i].backend, 8080, LB_BACKEND_UP);
		publish_some(&pipeline, i, i, 1);
	}
	pipeline_sync_end(&pipeline);
	*state = &pipeline;
	return 0;
}

static struct segment from_client(unsigned service, unsigned sport, uint8_t flags, uint32_t rel)
{
	struct segment s = segment_of(services[service].client, sport, services[service].vip,
		services[service].port, services[service].proto, flags);

	s.seq = ISN + rel;
	s.ack = flags & ACK ? 7001 : 0;
	return s;
}

static uint8_t pass_one(const struct segment *in, struct segment *out)
{
	return pass(&pipeline, 0, in, out);
}

// The option as the TOA modules want it, of a client of this service.
static unsigned toa_of(unsigned service, unsigned sport, uint8_t *option)
{
	struct lb_addr client = addr_of(services[service].client);
	unsigned n_addr = lb_addr_is_ipv4(&client) ? 4 : 16;

	option[0] = 254;
	option[1] = (uint8_t)(4 + n_addr);
	option[2] = (uint8_t)(sport >> 8);
	option[3] = (uint8_t)sport;
	memcpy(option + 4, client.bytes + 16 - n_addr, n_addr);
	return 4 + n_addr;
}

static unsigned proxy_of(unsigned service, unsigned sport, uint8_t *header)
{
	struct lb_addr client = addr_of(services[service].client), vip = addr_of(services[service].vip);
	bool ipv4 = lb_addr_is_ipv4(&client);
	unsigned n_addr = ipv4 ? 4 : 16;

	memcpy(header, "\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A\x21", 13);
	header[13] = (uint8_t)((ipv4 ? 0x10 : 0x20) + (services[service].proto == IPPROTO_TCP ? 1 : 2));
	header[14] = 0;
	header[15] = ipv4 ? 12 : 36;
	memcpy(header + 16, client.bytes + 16 - n_addr, n_addr);
	memcpy(header + 16 + n_addr, vip.bytes + 16 - n_addr, n_addr);
	header += 16 + 2 * n_addr;
	header[0] = (uint8_t)(sport >> 8);
	header[1] = (uint8_t)sport;
	header[2] = (uint8_t)(services[service].port >> 8);
	header[3] = (uint8_t)services[service].port;
	return 20 + 2 * n_addr;
}

static const uint8_t linux_syn[20] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7};
static const uint8_t timestamps[12] = {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8};

static void toa_is_in_the_first_segments(void **state)
{
	static const unsigned which[] = {0, 1, 7};

	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		unsigned service = which[k], sport = next_port++, n;
		uint8_t toa[20];
		struct segment in = from_client(service, sport, SYN, 0), out, back, seen;

		n = toa_of(service, sport, toa);
		set_options(&in, linux_syn, sizeof(linux_syn));
		assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
		assert_int_equal(out.n_options, 20 + n);
		assert_memory_equal(out.options, toa, n);
		assert_memory_equal(out.options + n, linux_syn, 20);
		assert_int_equal(out.seq, ISN);
		back = answer_to(&out, SYN | ACK);
		back.ack = ISN + 1;
		set_options(&back, linux_syn, sizeof(linux_syn));
		assert_int_equal(pass_one(&back, &seen), LB_VERDICT_REPLY);
		assert_int_equal(seen.options[2] << 8 | seen.options[3], 1460 - n); // room for the option
		assert_memory_equal(seen.options + 4, linux_syn + 4, 16);
		for (unsigned i = 0; i < 3; i++) { // handshake's end, data, data again
			in = from_client(service, sport, ACK, 1);
			set_options(&in, timestamps, sizeof(timestamps));
			set_payload(&in, "GET / HTTP/1.1\r\n", i == 0 ? 0 : 15);
			assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
			assert_int_equal(out.n_options, 12 + n);
			assert_memory_equal(out.options, toa, n);
			assert_memory_equal(out.options + n, timestamps, 12);
			assert_int_equal(out.n_payload, in.n_payload);
			assert_memory_equal(out.payload, in.payload, in.n_payload);
		}
		back.flags = ACK;
		back.n_options = 0;
		assert_int_equal(pass_one(&back, NULL), LB_VERDICT_REPLY);
		assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
		assert_int_equal(out.n_options, 12); // the server has it by now
	}
}

static void toa_without_room_is_left_out_and_counted(void **state)
{
	struct lb_session_counters *counters = &pipeline.worker->counters->sessions;
	uint64_t before = counters->toa_no_room;
	struct segment in = from_client(0, next_port++, SYN, 0), out;
	static const uint8_t full[40] = {8, 10, 0, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t data[1460];

	(void)state;
	set_options(&in, full, 36);
	assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.n_options, 36);
	assert_int_equal(counters->toa_no_room, before + 1);
	in = from_client(0, in.sport, ACK, 1);
	set_payload(&in, data, 1460);
	assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.n_options, 0);
	assert_int_equal(counters->toa_no_room, before + 2);
	set_payload(&in, data, 1452);
	assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.n_options, 8);
}

// Whatever the service's client_address is: a backend with a TOA module believes what it finds.
static void what_clients_forge_is_removed(void **state)
{
	static const uint8_t forged[32] = {1, 254, 8, 0, 80, 10, 0, 0, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 254, 8, 0,
		80, 10, 0, 0, 1, 0, 254, 8, 1, 1};
	static const unsigned which[] = {0, 2, 6, 7, 8};

	(void)state;
	for (unsigned k = 0; k < 5; k++) {
		unsigned at;
		struct segment in = from_client(which[k], next_port++, SYN, 0), out;

		set_options(&in, forged, sizeof(forged));
		assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
		at = out.n_options - 32; // ours, if it fits
		for (unsigned i = 1; i < 9; i++)
			assert_int_equal(out.options[at + i], 1);
		assert_memory_equal(out.options + at + 9, forged + 9, 10); // the timestamps
		for (unsigned i = 19; i < 27; i++)
			assert_int_equal(out.options[at + i], 1);
	}
	assert_true(pipeline.worker->counters->sessions.toa_removed >= 5);
}

static void udp_has_the_header_in_its_first_datagram(void **state)
{
	(void)state;
	for (unsigned service = 4; service <= 5; service++)
		for (unsigned plain = 0; plain <= (service == 4); plain++) {
			unsigned sport = next_port++, n;
			uint8_t header[52];
			struct segment in = from_client(service, sport, 0, 0), out;

			n = proxy_of(service, sport, header);
			in.no_checksum = plain;
			set_payload(&in, "a query", 7);
			assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
			assert_int_equal(out.n_payload, n + 7);
			assert_memory_equal(out.payload, header, n);
			assert_memory_equal(out.payload + n, "a query", 7);
			assert_int_equal(out.no_checksum, plain);
			assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
			assert_int_equal(out.n_payload, 7);
		}
}

static void a_first_datagram_that_no_longer_fits_is_dropped_by_name(void **state)
{
	static const uint8_t bytes[1472];
	struct segment in = from_client(4, next_port++, 0, 0);

	(void)state;
	set_payload(&in, bytes, 1472 - 27);
	assert_int_equal(pass_one(&in, NULL), LB_VERDICT_TOO_BIG);
	set_payload(&in, bytes, 1472 - 28);
	assert_int_equal(pass_one(&in, NULL), LB_VERDICT_FORWARD);
}

static void handshake(unsigned service, unsigned sport, struct segment *at_backend)
{
	struct segment in = from_client(service, sport, SYN, 0), back, seen;
	uint8_t header[52];
	unsigned n = proxy_of(service, sport, header);

	set_options(&in, linux_syn, sizeof(linux_syn));
	assert_int_equal(pass_one(&in, at_backend), LB_VERDICT_FORWARD);
	assert_int_equal(at_backend->seq, ISN);
	assert_int_equal(at_backend->n_payload, 0);
	back = answer_to(at_backend, SYN | ACK);
	back.ack = ISN + 1;
	set_options(&back, linux_syn, sizeof(linux_syn));
	assert_int_equal(pass_one(&back, &seen), LB_VERDICT_REPLY);
	assert_int_equal(seen.ack, ISN + 1);
	assert_int_equal(seen.options[2] << 8 | seen.options[3], 1460 - n);
}

static void the_handshakes_ack_brings_the_header(void **state)
{
	static const unsigned which[] = {2, 3, 8};

	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		unsigned service = which[k], sport = next_port++, n;
		uint8_t header[52];
		struct segment in, out, syn_out, back, seen;

		n = proxy_of(service, sport, header);
		handshake(service, sport, &syn_out);
		for (unsigned i = 0; i < 2; i++) { // lost on its way: comes again
			in = from_client(service, sport, ACK, 1);
			set_options(&in, timestamps, sizeof(timestamps));
			assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
			assert_int_equal(out.seq, ISN + 1);
			assert_int_equal(out.n_payload, n);
			assert_memory_equal(out.payload, header, n);
			assert_memory_equal(out.options, timestamps, 12);
		}
		// A server that speaks first acknowledges the header with it.
		back = answer_to(&syn_out, ACK | PSH);
		back.seq = 7001;
		back.ack = ISN + 1 + n;
		set_payload(&back, "220 hello", 9);
		assert_int_equal(pass_one(&back, &seen), LB_VERDICT_REPLY);
		assert_int_equal(seen.ack, ISN + 1);
		assert_int_equal(seen.seq, 7001);
		in = from_client(service, sport, ACK, 1);
		assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
		assert_int_equal(out.seq, ISN + 1 + n);
		assert_int_equal(out.n_payload, 0);
	}
}

static void a_fin_and_a_reset_without_data(void **state)
{
	uint8_t header[52];
	unsigned sport = next_port++, n = proxy_of(2, sport, header);
	struct segment in, out, syn_out;

	(void)state;
	handshake(2, sport, &syn_out);
	in = from_client(2, sport, RST, 1); // the backend has nothing yet
	assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.seq, ISN + 1);
	assert_int_equal(out.n_payload, 0);
	sport = next_port++;
	n = proxy_of(2, sport, header);
	handshake(2, sport, &syn_out);
	in = from_client(2, sport, FIN | ACK, 1);
	assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.seq, ISN + 1);
	assert_int_equal(out.n_payload, n);
	assert_memory_equal(out.payload, header, n);
	in = from_client(2, sport, RST, 2);
	assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
	assert_int_equal(out.seq, ISN + 2 + n);
}

static void data_in_a_syn_comes_after_the_header(void **state)
{
	struct segment in = from_client(3, next_port++, SYN, 0), out;

	(void)state;
	for (unsigned n = 0; n < 9; n++) {
		set_payload(&in, "too early", n);
		assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
		assert_int_equal(out.n_payload, 0);
	}
}

static void sack_blocks_are_in_the_clients_numbers(void **state)
{
	unsigned sport = next_port++;
	struct segment in, syn_out, back, seen;
	uint32_t edges[4], expected[4];
	uint8_t options[20] = {1, 5, 18}; // at an odd place

	(void)state;
	handshake(2, sport, &syn_out);
	in = from_client(2, sport, ACK, 1);
	pass_one(&in, NULL);
	for (unsigned i = 0; i < 4; i++) {
		edges[i] = rte_cpu_to_be_32(ISN + 1 + 28 + 1000 * (i + 1));
		expected[i] = rte_cpu_to_be_32(ISN + 1 + 1000 * (i + 1));
	}
	memcpy(options + 3, edges, 16);
	back = answer_to(&syn_out, ACK);
	back.ack = ISN + 1 + 28;
	set_options(&back, options, sizeof(options));
	assert_int_equal(pass_one(&back, &seen), LB_VERDICT_REPLY);
	assert_memory_equal(seen.options + 3, expected, 16);
	assert_int_equal(seen.ack, ISN + 1);
}

static uint64_t random_state = 88172645463325252u;

static uint32_t next_random(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 16) % below);
}

#define STREAM 4000u

/*
 * A client that sends its stream in pieces of any size and in any order, over a path that loses some; a server that
 * puts together what it gets and acknowledges it, sometimes in vain. The server's stream is header and data; the
 * client is never told of more than it sent, nor of less than the server has.
 */
static void streams_arrive_behind_the_header_whatever_is_lost(void **state)
{
	static uint8_t stream[STREAM], got[STREAM + 52];
	static bool has[STREAM + 52];

	(void)state;
	for (unsigned i = 0; i < STREAM; i++)
		stream[i] = (uint8_t)(i * 7 + i / 251);
	for (unsigned round = 0; round < 300; round++) {
		static const unsigned which[] = {2, 3, 8};
		unsigned service = which[round % 3], sport = next_port++, n_acked = 0, n_in_order = 0;
		uint8_t header[52];
		unsigned n = proxy_of(service, sport, header);
		struct segment in, out, syn_out, back, seen;

		memset(has, 0, sizeof(has));
		handshake(service, sport, &syn_out);
		while (n_acked < STREAM) {
			// From what is not acknowledged, sometimes from before or a bare ACK.
			unsigned from = n_acked + next_random(3) * next_random(800);
			unsigned n_bytes = next_random(10) == 0 ? 0 : 1 + next_random(1300);

			from = from > STREAM ? n_acked : from;
			n_bytes = from + n_bytes > STREAM ? STREAM - from : n_bytes;
			in = from_client(service, sport, ACK, 1 + from);
			set_payload(&in, stream + from, n_bytes);
			assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD);
			if (next_random(3) == 0)
				continue; // lost
			for (unsigned i = 0; i < out.n_payload; i++) {
				uint32_t at = out.seq - (ISN + 1) + i;

				assert_true(at < STREAM + n);
				assert_true(!has[at] || got[at] == out.payload[i]);
				has[at] = true;
				got[at] = out.payload[i];
			}
			while (n_in_order < STREAM + n && has[n_in_order])
				n_in_order++;
			back = answer_to(&syn_out, ACK);
			back.ack = ISN + 1 + n_in_order;
			assert_int_equal(pass_one(&back, &seen), LB_VERDICT_REPLY);
			assert_int_equal(seen.ack, ISN + 1 + (n_in_order > n ? n_in_order - n : 0));
			if (next_random(3) != 0)
				n_acked = seen.ack - (ISN + 1);
		}
		assert_memory_equal(got, header, n);
		assert_memory_equal(got + n, stream, STREAM);
	}
}

// A checksum that is zero on the way, with the header but not the lengths, or with both but not the addresses.
static void proxy_over_udp_keeps_the_checksum(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		unsigned service = 4 + round % 2, sport = next_port++;
		struct segment in = from_client(service, sport, 0, 0), out;
		unsigned at = service == 4 ? 40 : 60;
		uint8_t header[52], payload[2] = {0};
		unsigned n = proxy_of(service, sport, header);
		uint16_t checksum, word, lengths = htons((uint16_t)(2 * n));
		struct frame frame;

		set_payload(&in, payload, 2);
		frame = frame_of(&in);
		memcpy(&checksum, frame.bytes + at, 2);
		word = lb_checksum_change(checksum, lb_sum_words(header, n / 2));
		if (round >= 2)
			word = lb_checksum_change(word, lengths);
		set_payload(&in, &word, 2);
		assert_int_equal(pass_one(&in, &out), LB_VERDICT_FORWARD); // and its checksum is right
		assert_false(out.no_checksum);
		assert_int_equal(out.n_payload, n + 2);
	}
}

static void random_options_never_crash(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 50000; round++) {
		unsigned service = round % 4;
		struct segment in = from_client(service, 40000 + round % 50, round % 5 ? ACK : SYN, next_random(60));
		struct segment out, back;
		struct frame frame, after;

		in.n_options = 4 * next_random(11);
		for (unsigned i = 0; i < in.n_options; i++)
			in.options[i] = (uint8_t)(next_random(3) ? next_random(9) : next_random(256));
		frame = frame_of(&in);
		if (pass_frame(&pipeline, 0, &frame, &after) != LB_VERDICT_FORWARD)
			continue;
		out = read_frame(&after); // its checksums are right
		back = answer_to(&out, round % 3 ? ACK : SYN | ACK);
		back.ack = in.seq + 1 + next_random(60);
		set_options(&back, in.options, in.n_options);
		frame = frame_of(&back);
		assert_int_equal(pass_frame(&pipeline, 0, &frame, &after), LB_VERDICT_REPLY);
		read_frame(&after);
	}
	assert_int_equal(rte_mempool_in_use_count(pipeline.pool), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(toa_is_in_the_first_segments),
		cmocka_unit_test(toa_without_room_is_left_out_and_counted),
		cmocka_unit_test(what_clients_forge_is_removed),
		cmocka_unit_test(udp_has_the_header_in_its_first_datagram),
		cmocka_unit_test(a_first_datagram_that_no_longer_fits_is_dropped_by_name),
		cmocka_unit_test(the_handshakes_ack_brings_the_header),
		cmocka_unit_test(a_fin_and_a_reset_without_data),
		cmocka_unit_test(data_in_a_syn_comes_after_the_header),
		cmocka_unit_test(sack_blocks_are_in_the_clients_numbers),
		cmocka_unit_test(streams_arrive_behind_the_header_whatever_is_lost),
		cmocka_unit_test(proxy_over_udp_keeps_the_checksum),
		cmocka_unit_test(random_options_never_crash),
	};

	return cmocka_run_group_tests(tests, set_up, pipeline_tear_down);
}
