/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_RING_H
#define LB_RING_H

#include <stdbool.h>

#include "lb/msg.h"

/*
 * Single-producer single-consumer ring of messages in memory shared with a process that is not
 * trusted. Unlike rte_ring it keeps neither its size nor its mask in that memory: the capacity is a
 * constant of the code, each side owns its own index in private memory and only publishes it, and
 * what the other side published is checked to be at most a ring's length away. A scribbling peer
 * can lose or forge messages (which are validated), but never make us read or write outside the
 * ring.
 */
#define LB_RING_CAPACITY 1024u /* messages; a power of two */

/* The part in shared memory. */
struct lb_ring_shm {
	uint32_t tail
		__attribute__((aligned(64))); /* producer: wo, consumer: ro; messages ever pushed */
	uint32_t head
		__attribute__((aligned(64))); /* consumer: wo, producer: ro; messages ever popped */
	struct lb_msg messages[LB_RING_CAPACITY] __attribute__((aligned(64)));
};

/* One side's private view. */
struct lb_ring {
	struct lb_ring_shm *shm;
	uint32_t own;       /* our index: tail for a producer, head for a consumer */
	uint32_t n_corrupt; /* times the peer's index was out of range */
};

/** Attach as producer or consumer, taking over our side's published index. Not thread-safe. */
void lb_ring_attach_producer(struct lb_ring *ring, struct lb_ring_shm *shm);
void lb_ring_attach_consumer(struct lb_ring *ring, struct lb_ring_shm *shm);

/** Free places. 0 also when the peer's index is out of range (n_corrupt counts it). Producer. */
unsigned lb_ring_space(struct lb_ring *ring);

/** Append a copy of @p msg. @return true; false if the ring is full. Producer. */
bool lb_ring_push(struct lb_ring *ring, const struct lb_msg *msg);

/**
 * Take the oldest message into @p msg. @return true; false if the ring is empty or the peer's index
 * is out of range: then the consumer skips to the published tail, losing what was in between.
 * Consumer.
 */
bool lb_ring_pop(struct lb_ring *ring, struct lb_msg *msg);

#endif
