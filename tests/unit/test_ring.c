/* SPDX-License-Identifier: BSD-3-Clause */
/* The message rings: order, back-pressure, two threads, and peers that write what they like. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lb/ring.h"

#define GUARD_BYTES 4096u

/* A ring between two guards that nobody may write to. */
struct guarded_ring {
	uint8_t before[GUARD_BYTES];
	struct lb_ring_shm shm;
	uint8_t after[GUARD_BYTES];
};

static struct guarded_ring guarded;
static struct lb_ring producer, consumer;

static void init_at(uint32_t index)
{
	memset(&guarded, 0x5a, sizeof(guarded));
	guarded.shm.head = guarded.shm.tail = index;
	lb_ring_attach_producer(&producer, &guarded.shm);
	lb_ring_attach_consumer(&consumer, &guarded.shm);
}

static void assert_guards_intact(void)
{
	for (unsigned i = 0; i < GUARD_BYTES; i++) {
		assert_int_equal(0x5a, guarded.before[i]);
		assert_int_equal(0x5a, guarded.after[i]);
	}
}

static struct lb_msg message(uint32_t seq)
{
	struct lb_msg msg = {.seq = seq, .op = LB_OP_TRACE};

	for (unsigned i = 0; i < sizeof(msg.payload); i++)
		msg.payload[i] = (uint8_t)(seq * 31 + i);
	return msg;
}

static void push(uint32_t seq)
{
	struct lb_msg msg = message(seq);

	assert_true(lb_ring_push(&producer, &msg));
}

static void assert_pops(uint32_t seq)
{
	struct lb_msg expected = message(seq), got;

	assert_true(lb_ring_pop(&consumer, &got));
	assert_memory_equal(&expected, &got, sizeof(got));
}

static void assert_empty(void)
{
	struct lb_msg msg;

	assert_false(lb_ring_pop(&consumer, &msg));
}

static void messages_come_out_in_order(void **state)
{
	(void)state;
	init_at(0);
	assert_empty();
	for (uint32_t i = 0; i < 5 * LB_RING_CAPACITY; i += 3) {
		for (uint32_t j = 0; j < 3; j++)
			push(i + j);
		for (uint32_t j = 0; j < 3; j++)
			assert_pops(i + j);
		assert_empty();
	}
	assert_guards_intact();
	assert_int_equal(0, producer.n_corrupt + consumer.n_corrupt);
}

static void full_ring_refuses(void **state)
{
	struct lb_msg msg = message(0);

	(void)state;
	init_at(UINT32_MAX - LB_RING_CAPACITY / 2); // the indexes wrap underway
	for (uint32_t i = 0; i < LB_RING_CAPACITY; i++) {
		assert_int_equal(LB_RING_CAPACITY - i, lb_ring_space(&producer));
		push(i);
	}
	assert_int_equal(0, lb_ring_space(&producer));
	assert_false(lb_ring_push(&producer, &msg));
	assert_pops(0);
	assert_int_equal(1, lb_ring_space(&producer));
	push(LB_RING_CAPACITY);
	assert_false(lb_ring_push(&producer, &msg));
	for (uint32_t i = 1; i <= LB_RING_CAPACITY; i++)
		assert_pops(i);
	assert_empty();
	assert_guards_intact();
	assert_int_equal(0, producer.n_corrupt + consumer.n_corrupt);
}

static void restarted_side_goes_on_where_it_was(void **state)
{
	(void)state;
	init_at(77);
	for (uint32_t i = 0; i < 10; i++)
		push(i);
	assert_pops(0);
	memset(&producer, 0xee, sizeof(producer));
	lb_ring_attach_producer(&producer, &guarded.shm);
	push(10);
	memset(&consumer, 0xee, sizeof(consumer));
	lb_ring_attach_consumer(&consumer, &guarded.shm);
	for (uint32_t i = 1; i <= 10; i++)
		assert_pops(i);
	assert_empty();
}

#define N_MESSAGES 3000000u

static void *produce(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < N_MESSAGES;) {
		struct lb_msg msg = {.seq = i, .op = LB_OP_PING};

		memset(msg.payload, (int)(i & 0xff), sizeof(msg.payload));
		if (lb_ring_push(&producer, &msg))
			i++;
		else
			sched_yield();
	}
	return NULL;
}

static void two_threads_lose_and_tear_nothing(void **state)
{
	pthread_t thread;
	struct lb_msg msg;

	(void)state;
	init_at(UINT32_MAX - N_MESSAGES / 2);
	assert_int_equal(0, pthread_create(&thread, NULL, produce, NULL));
	for (uint32_t i = 0; i < N_MESSAGES;) {
		bool intact = true;

		if (!lb_ring_pop(&consumer, &msg)) {
			sched_yield();
			continue;
		}
		for (unsigned j = 0; j < sizeof(msg.payload); j++)
			intact &= msg.payload[j] == (i & 0xff);
		if (msg.seq != i || !intact)
			fail_msg("message %u came as %u%s", i, msg.seq, intact ? "" : ", torn");
		i++;
	}
	pthread_join(thread, NULL);
	assert_empty();
	assert_int_equal(0, producer.n_corrupt + consumer.n_corrupt);
	assert_guards_intact();
}

/* After any corruption: within a few tries by both sides, messages pass again, in order. */
static void assert_heals(void)
{
	struct lb_msg msg = message(1);

	for (unsigned i = 0; i < 4; i++) {
		lb_ring_push(&producer, &msg);
		while (lb_ring_pop(&consumer, &msg))
			;
	}
	for (uint32_t i = 0; i < LB_RING_CAPACITY; i++)
		push(i);
	for (uint32_t i = 0; i < LB_RING_CAPACITY; i++)
		assert_pops(i);
	assert_empty();
	assert_guards_intact();
}

static void producer_survives_a_wrong_head(void **state)
{
	static const uint32_t wrong[] = {
		1, 2, LB_RING_CAPACITY, 0x7fffffff, 0x80000000, UINT32_MAX - 5000};

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct lb_msg msg = message(0);

		init_at(1000);
		guarded.shm.head = 1000 + wrong[i]; // more popped than pushed, or too few
		assert_int_equal(0, lb_ring_space(&producer));
		assert_int_equal(1, producer.n_corrupt);
		assert_false(lb_ring_push(&producer, &msg));
		assert_int_equal(2, producer.n_corrupt);
		assert_heals();
	}
}

static void consumer_skips_to_a_wrong_tail(void **state)
{
	static const uint32_t wrong[] = {LB_RING_CAPACITY + 1, 0x7fffffff, 0x80000000, UINT32_MAX};

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		init_at(1000);
		push(1);
		guarded.shm.tail = 1000 + wrong[i];
		assert_empty();
		assert_int_equal(1, consumer.n_corrupt);
		assert_int_equal(1000 + wrong[i], guarded.shm.head);
		assert_empty();
		assert_int_equal(1, consumer.n_corrupt);
		assert_heals();
	}
}

static void plausible_wrong_tail_yields_no_more_than_a_ring(void **state)
{
	struct lb_msg msg;
	unsigned n = 0;

	(void)state;
	init_at(0);
	guarded.shm.tail = LB_RING_CAPACITY;
	while (lb_ring_pop(&consumer, &msg))
		n++;
	assert_int_equal(LB_RING_CAPACITY, n);
	assert_heals();
}

static uint32_t random_state = 1;

static uint32_t random_u32(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state ^ random_state >> 15;
}

static void scribbled_indexes_never_lead_outside(void **state)
{
	struct lb_msg msg = message(9);

	(void)state;
	init_at(0);
	for (unsigned i = 0; i < 2000000; i++) {
		uint32_t r = random_u32();

		if (r % 7 == 0)
			guarded.shm.tail = r % 2 ? random_u32() : guarded.shm.tail + r % 5000;
		if (r % 11 == 0)
			guarded.shm.head = r % 2 ? random_u32() : guarded.shm.head - r % 5000;
		if (r % 13 == 0)
			guarded.shm.messages[r % LB_RING_CAPACITY].seq = r;
		assert_in_range(lb_ring_space(&producer), 0, LB_RING_CAPACITY);
		lb_ring_push(&producer, &msg);
		lb_ring_pop(&consumer, &msg);
	}
	assert_true(producer.n_corrupt > 0 && consumer.n_corrupt > 0);
	assert_heals();
}

static bool scribbling;

static void *scribble(void *arg)
{
	uint32_t seed = 7;

	(void)arg;
	while (__atomic_load_n(&scribbling, __ATOMIC_RELAXED)) {
		seed = seed * 1664525u + 1013904223u;
		__atomic_store_n(seed & 0x10000 ? &guarded.shm.tail : &guarded.shm.head,
			seed >> (seed & 31), __ATOMIC_RELAXED);
		if ((seed & 0xf0000) == 0)
			sched_yield();
	}
	return NULL;
}

static void scribbling_thread_does_no_lasting_harm(void **state)
{
	struct lb_msg msg = message(3);
	pthread_t thread;

	(void)state;
	init_at(0);
	scribbling = true;
	assert_int_equal(0, pthread_create(&thread, NULL, scribble, NULL));
	for (unsigned i = 0; i < 1000000; i++) {
		lb_ring_push(&producer, &msg);
		lb_ring_pop(&consumer, &msg);
	}
	__atomic_store_n(&scribbling, false, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_heals();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_come_out_in_order),
		cmocka_unit_test(full_ring_refuses),
		cmocka_unit_test(restarted_side_goes_on_where_it_was),
		cmocka_unit_test(two_threads_lose_and_tear_nothing),
		cmocka_unit_test(producer_survives_a_wrong_head),
		cmocka_unit_test(consumer_skips_to_a_wrong_tail),
		cmocka_unit_test(plausible_wrong_tail_yields_no_more_than_a_ring),
		cmocka_unit_test(scribbled_indexes_never_lead_outside),
		cmocka_unit_test(scribbling_thread_does_no_lasting_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
