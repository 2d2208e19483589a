/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plays the control side of an instance's shared memory, well or badly, for the end-to-end tests.
 *
 *   shm_poke INSTANCE     then one command per line on stdin, one JSON answer per line on stdout:
 *
 *   info                          counters of the header
 *   verdicts                      packets by fate, over all workers
 *   send HEX                      push the 64 bytes as a command; {"seq", "op", "status"} of its reply
 *   slots BUFFER N ID...          fill a table buffer's first N slots with the ids, round robin; the
 *                                 {"checksum"} that TABLE_PUBLISH wants with version VERSION 1
 *   index RING SIDE VALUE         overwrite a published index: RING command|reply, SIDE head|tail
 *   scribble WHAT SEED            random bytes over WHAT: command|reply (the messages), tables, mirror
 *
 * Numbers are decimal or 0x hexadecimal. A line that makes no sense ends the program with status 2.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lb/hash.h"
#include "lb/shm.h"

#define REPLY_WAIT_MS 2000

struct poke {
	struct lb_shm_map map;
	struct lb_ring commands, replies;
};

static void die(const char *what)
{
	fprintf(stderr, "shm_poke: %s\n", what);
	exit(2);
}

static uint64_t number(char **rest)
{
	char *word = strtok_r(NULL, " \n", rest), *end;
	uint64_t value;

	if (word == NULL)
		die("a number is missing");
	value = strtoull(word, &end, 0);
	if (*end != '\0')
		die("not a number");
	return value;
}

static void info(struct poke *poke)
{
	const struct lb_shm_header *header = &poke->map.shm->header;

	printf("{\"n_commands\": %" PRIu64 ", \"n_commands_refused\": %" PRIu64
	       ", \"n_ring_corrupt\": %" PRIu64 ", \"n_services\": %u, \"n_backends\": %u}\n",
		header->n_commands, header->n_commands_refused, header->n_ring_corrupt,
		header->n_services, header->n_backends);
}

static void verdicts(struct poke *poke)
{
	for (unsigned v = 0; v < LB_VERDICT_N; v++) {
		uint64_t n_pkts = 0;

		for (unsigned i = 0; i < poke->map.n_workers; i++)
			n_pkts += poke->map.shm->workers[i].verdicts[v];
		printf("%s\"%s\": %" PRIu64, v == 0 ? "{" : ", ", lb_verdict_name(v), n_pkts);
	}
	printf("}\n");
}

static void parse_hex(const char *hex, struct lb_msg *msg)
{
	uint8_t *bytes = (uint8_t *)msg;

	if (hex == NULL || strlen(hex) != 2 * sizeof(*msg))
		die("send wants 128 hexadecimal digits");
	for (size_t i = 0; i < sizeof(*msg); i++)
		if (sscanf(hex + 2 * i, "%2hhx", &bytes[i]) != 1)
			die("not hexadecimal");
}

static void send_command(struct poke *poke, char **rest)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	struct lb_msg msg;

	parse_hex(strtok_r(NULL, " \n", rest), &msg);
	while (lb_ring_pop(&poke->replies, &(struct lb_msg){0}))
		; // of commands that nobody waited for
	if (!lb_ring_push(&poke->commands, &msg)) {
		printf("{\"error\": \"ring full\"}\n");
		return;
	}
	lb_shm_wake(poke->map.shm);
	for (int i = 0; i < REPLY_WAIT_MS; i++) {
		if (lb_ring_pop(&poke->replies, &msg)) {
			printf("{\"seq\": %u, \"op\": %u, \"status\": %d}\n", msg.seq, msg.op,
				msg.reply.status);
			return;
		}
		nanosleep(&pause, NULL);
	}
	printf("{\"error\": \"no reply\"}\n");
}

static void fill_slots(struct poke *poke, char **rest)
{
	uint64_t buffer = number(rest), n = number(rest), n_ids = 0;
	uint16_t ids[64], *slots;
	char *word;

	if (buffer >= LB_SHM_N_TABLES || n > LB_MAGLEV_MAX_SLOTS)
		die("no such buffer, or too many slots");
	while ((word = strtok_r(NULL, " \n", rest)) != NULL && n_ids < 64)
		ids[n_ids++] = (uint16_t)strtoul(word, NULL, 0);
	if (n_ids == 0)
		die("slots wants ids");
	slots = poke->map.shm->tables[buffer].slots;
	for (uint64_t i = 0; i < n; i++)
		slots[i] = ids[i % n_ids];
	printf("{\"checksum\": %" PRIu64 "}\n", lb_hash_bytes(slots, n * sizeof(*slots), 1));
}

static void overwrite_index(struct poke *poke, char **rest)
{
	const char *ring_name = strtok_r(NULL, " \n", rest), *side = strtok_r(NULL, " \n", rest);
	struct lb_ring_shm *ring;

	if (ring_name == NULL || side == NULL)
		die("index wants a ring and a side");
	ring = strcmp(ring_name, "reply") == 0 ? &poke->map.shm->reply : &poke->map.shm->command;
	__atomic_store_n(strcmp(side, "head") == 0 ? &ring->head : &ring->tail, (uint32_t)number(rest),
		__ATOMIC_RELEASE);
	lb_shm_wake(poke->map.shm);
	printf("{}\n");
}

static void scribble(struct poke *poke, char **rest)
{
	struct lb_shm *shm = poke->map.shm;
	const char *what = strtok_r(NULL, " \n", rest);
	uint64_t state = number(rest) | 1;
	uint64_t *words;
	size_t n_bytes;

	if (strcmp(what, "command") == 0) {
		words = (uint64_t *)shm->command.messages;
		n_bytes = sizeof(shm->command.messages);
	} else if (strcmp(what, "reply") == 0) {
		words = (uint64_t *)shm->reply.messages;
		n_bytes = sizeof(shm->reply.messages);
	} else if (strcmp(what, "tables") == 0) {
		words = (uint64_t *)shm->tables;
		n_bytes = sizeof(shm->tables);
	} else if (strcmp(what, "mirror") == 0) {
		words = (uint64_t *)shm->mirror;
		n_bytes = sizeof(shm->mirror);
	} else {
		die("scribble over what?");
		return;
	}
	for (size_t i = 0; i < n_bytes / sizeof(*words); i++) {
		state ^= state << 13; // xorshift64 (Marsaglia 2003)
		state ^= state >> 7;
		state ^= state << 17;
		words[i] = state;
	}
	printf("{}\n");
}

int main(int argc, char **argv)
{
	struct poke poke;
	char why[200] = "", line[400], *rest;
	int rc;

	if (argc != 2)
		die("usage: shm_poke INSTANCE");
	rc = lb_shm_attach(&poke.map, argv[1], why, sizeof(why));
	if (rc < 0) {
		fprintf(stderr, "shm_poke: cannot attach: %s %s\n", strerror(-rc), why);
		return 1;
	}
	lb_ring_attach_producer(&poke.commands, &poke.map.shm->command);
	lb_ring_attach_consumer(&poke.replies, &poke.map.shm->reply);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		const char *word = strtok_r(line, " \n", &rest);

		if (word == NULL)
			continue;
		if (strcmp(word, "info") == 0)
			info(&poke);
		else if (strcmp(word, "verdicts") == 0)
			verdicts(&poke);
		else if (strcmp(word, "send") == 0)
			send_command(&poke, &rest);
		else if (strcmp(word, "slots") == 0)
			fill_slots(&poke, &rest);
		else if (strcmp(word, "index") == 0)
			overwrite_index(&poke, &rest);
		else if (strcmp(word, "scribble") == 0)
			scribble(&poke, &rest);
		else
			die("no such command");
		fflush(stdout);
	}
	lb_shm_detach(&poke.map, false);
	return 0;
}
