/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbered packets through a balancer whose gateway is this interface: each must come back once.
 *
 * usage: seq_traffic INTERFACE VIP PORT PPS FLOWS
 *
 * Sends UDP packets of FLOWS flows to VIP:PORT, PPS a second, each with the next number, and ticks
 * off the numbers of those that come back with another destination. For each line on standard input
 * it pauses until nothing comes any more, prints what became of the packets since the line before
 * as a line of JSON (not_taken: came, but this program was too slow), and goes on; at the end of
 * standard input it ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lb/shm.h"

#define MAGIC 0x5e9c0de5u
#define FRAME_BYTES 60u
#define TICK_NS UINT64_C(1000000)
#define MAX_NUMBERS (UINT64_C(1) << 27)
/* A pause ends when nothing has come for QUIET_NS, or PATIENCE_NS after it began if numbers are
 * missing until then. */
#define QUIET_NS UINT64_C(200000000)
#define PATIENCE_NS UINT64_C(2000000000)

struct numbered {
	uint32_t magic;
	uint64_t number;
} __attribute__((packed));

static struct {
	int fd;
	uint32_t vip_be;
	uint16_t port_be;
	uint32_t pps, n_flows;
	uint8_t frame[FRAME_BYTES];
	uint8_t *seen;            /* a bit for each number */
	uint64_t next;            /* to send */
	uint64_t first;           /* sent after the last line */
	uint64_t n_back, n_twice; /* since then */
} traffic;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static uint32_t sum_of(const uint8_t *bytes, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	return sum;
}

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

// Ethernet, IPv4, UDP with 18 bytes.
static void lay_out(void)
{
	static const uint8_t head[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 3, 0x08, 0x00, 0x45, 0, 0,
		46, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 1};
	uint8_t *ip = traffic.frame + 14;

	memcpy(traffic.frame, head, sizeof(head));
	memcpy(ip + 16, &traffic.vip_be, 4);
	put16(ip + 10, fold(sum_of(ip, 20)));
	memcpy(ip + 22, &traffic.port_be, 2);
	put16(ip + 24, 26);
}

static void send_next(void)
{
	struct numbered body = {MAGIC, traffic.next};
	uint8_t *ip = traffic.frame + 14, *udp = ip + 20;
	uint16_t sum;

	put16(udp, (uint16_t)(1024 + traffic.next % traffic.n_flows));
	put16(udp + 6, 0);
	memcpy(udp + 8, &body, sizeof(body));
	sum = fold(sum_of(ip + 12, 8) + sum_of(udp, 26) + 17 + 26);
	put16(udp + 6, sum != 0 ? sum : 0xffff);
	if (send(traffic.fd, traffic.frame, FRAME_BYTES, 0) == FRAME_BYTES)
		traffic.next++;
	else if (errno != ENOBUFS && errno != EAGAIN)
		die("seq_traffic: send");
}

static void tick_off(const uint8_t *frame, ssize_t n)
{
	struct numbered body;

	if (n < (ssize_t)FRAME_BYTES || frame[12] != 0x08 || frame[13] != 0 || frame[23] != 17 ||
		memcmp(frame + 30, &traffic.vip_be, 4) == 0)
		return;
	memcpy(&body, frame + 42, sizeof(body));
	if (body.magic != MAGIC || body.number >= traffic.next)
		return;
	if (body.number < traffic.first) // of before the last line: counted as lost there
		return;
	if (traffic.seen[body.number / 8] >> (body.number % 8) & 1) {
		traffic.n_twice++;
		return;
	}
	traffic.seen[body.number / 8] |= (uint8_t)(1 << body.number % 8);
	traffic.n_back++;
}

static void receive(void)
{
	struct sockaddr_ll from;
	uint8_t frame[2048];

	for (;;) {
		socklen_t from_bytes = sizeof(from);
		ssize_t n = recvfrom(traffic.fd, frame, sizeof(frame), MSG_DONTWAIT,
			(struct sockaddr *)&from, &from_bytes);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0)
			die("seq_traffic: receive");
		if (from.sll_pkttype != PACKET_OUTGOING)
			tick_off(frame, n);
	}
}

static void report(void)
{
	uint64_t start_ns = lb_now_ns(), now_ns = start_ns, n_sent = traffic.next - traffic.first;
	struct tpacket_stats stats = {0};
	socklen_t stats_bytes = sizeof(stats);

	while (now_ns - start_ns < PATIENCE_NS &&
		(traffic.n_back < n_sent || now_ns - start_ns < QUIET_NS)) {
		struct pollfd pollfd = {.fd = traffic.fd, .events = POLLIN};

		(void)poll(&pollfd, 1, 20);
		receive();
		now_ns = lb_now_ns();
	}
	(void)getsockopt(traffic.fd, SOL_PACKET, PACKET_STATISTICS, &stats, &stats_bytes);
	printf("{\"sent\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"twice\": %" PRIu64
	       ", \"not_taken\": %u}\n",
		n_sent, n_sent - traffic.n_back, traffic.n_twice, stats.tp_drops);
	fflush(stdout);
	traffic.first = traffic.next;
	traffic.n_back = traffic.n_twice = 0;
}

static void set_up(char **argv)
{
	struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct in_addr vip;
	int bytes = 64 << 20;

	here.sll_ifindex = (int)if_nametoindex(argv[1]);
	traffic.port_be = htons((uint16_t)atoi(argv[3]));
	traffic.pps = (uint32_t)atoi(argv[4]);
	traffic.n_flows = (uint32_t)atoi(argv[5]);
	if (here.sll_ifindex == 0 || inet_pton(AF_INET, argv[2], &vip) != 1 || traffic.pps < 1 ||
		traffic.n_flows < 1 || traffic.n_flows > 64000) {
		fprintf(stderr, "seq_traffic: bad argument\n");
		exit(2);
	}
	traffic.vip_be = vip.s_addr;
	traffic.seen = calloc(1, MAX_NUMBERS / 8);
	traffic.fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (traffic.seen == NULL || traffic.fd < 0 ||
		setsockopt(traffic.fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0 ||
		bind(traffic.fd, (struct sockaddr *)&here, sizeof(here)) < 0)
		die("seq_traffic");
	lay_out();
}

int main(int argc, char **argv)
{
	uint64_t next_ns, due = 0; /* packets that are due, times 1e9 */
	char line[16];

	if (argc != 6) {
		fprintf(stderr, "usage: seq_traffic INTERFACE VIP PORT PPS FLOWS\n");
		return 2;
	}
	set_up(argv);
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	next_ns = lb_now_ns();
	while (traffic.next < MAX_NUMBERS) {
		struct pollfd pollfds[2] = {
			{.fd = 0, .events = POLLIN}, {.fd = traffic.fd, .events = POLLIN}};
		uint64_t now_ns;

		(void)poll(pollfds, 2, 1);
		receive();
		if (pollfds[0].revents != 0) {
			if (read(0, line, sizeof(line)) <= 0)
				return 0;
			report();
			next_ns = lb_now_ns();
		}
		for (now_ns = lb_now_ns(); next_ns + TICK_NS <= now_ns; next_ns += TICK_NS) {
			// who was not run for long sends no burst to make up for it
			if (now_ns - next_ns > 20 * TICK_NS)
				next_ns = now_ns - TICK_NS;
			for (due += traffic.pps * TICK_NS; due >= 1000000000; due -= 1000000000)
				send_next();
		}
	}
	fprintf(stderr, "seq_traffic: too many packets\n");
	return 1;
}
