/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_FULLNAT_UTIL_H
#define TESTS_FULLNAT_UTIL_H

#include "dataplane/fullnat.h"
#include "tests/pipeline/pipeline.h"

/*
 * Packets for the tests of mode fullnat, made from a description and read back into one. What is read is checked:
 * lengths, IPv4 and L4 checksums, by DPDK's own functions.
 */
struct segment {
	struct lb_addr src, dst;
	uint16_t sport, dport; /* host order */
	uint8_t proto;
	uint8_t flags;
	uint8_t ttl;           /* 0: 64 */
	uint8_t traffic_class;
	uint32_t seq, ack;
	uint8_t options[40];
	unsigned n_options;
	uint8_t payload[1600];
	unsigned n_payload;
	bool dont_fragment;  /* read only */
	bool no_checksum;    /* UDP over IPv4 */
};

struct frame {
	uint8_t bytes[2048];
	unsigned n;
};

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

struct lb_addr addr_of(const char *text);
struct segment segment_of(const char *src, unsigned sport, const char *dst, unsigned dport, uint8_t proto,
	uint8_t flags);
void set_payload(struct segment *segment, const void *bytes, unsigned n);
void set_options(struct segment *segment, const void *bytes, unsigned n);
struct frame frame_of(const struct segment *segment);
struct segment read_frame(const struct frame *frame);

/** A packet's answer: from where it went, to where it came from, with the given flags. */
struct segment answer_to(const struct segment *segment, uint8_t flags);

/**
 * One packet through worker @p idx. If it is handed over, the worker that it goes to has it then. @return its verdict; and
 * what came out of it, if it is forwarded (@p out may be NULL).
 */
uint8_t pass(struct pipeline *pipeline, unsigned idx, const struct segment *in, struct segment *out);
uint8_t pass_frame(struct pipeline *pipeline, unsigned idx, const struct frame *in, struct frame *out);

/** A fullnat service and the given local addresses (a NULL-terminated list). */
void fullnat_service(struct pipeline *pipeline, uint16_t id, const char *vip, uint16_t port, uint8_t proto,
	enum lb_client_address client_address);
int fullnat_locals(struct pipeline *pipeline, const char *const *addrs);

/** A counter of all workers together. @param offset in struct lb_worker_counters */
uint64_t total(const struct pipeline *pipeline, size_t offset);
#define TOTAL(field) total(&pipeline, offsetof(struct lb_worker_counters, field))

/** Time passes, every worker's sweep ends a round (which may have begun before), and fragments have waited too long. */
void advance(struct pipeline *pipeline, uint32_t ticks);

/** Every slot of the service's table names one of @p n backends from @p first on. */
void publish_some(struct pipeline *pipeline, uint16_t service, uint16_t first, unsigned n);

#endif
