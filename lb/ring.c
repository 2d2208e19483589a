/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/ring.h"

#define INDEX_MASK (LB_RING_CAPACITY - 1u)
static_assert((LB_RING_CAPACITY & INDEX_MASK) == 0, "indexes wrap at 2^32");

/*
 * Barriers: (T) the producer's release of `tail` pairs with the consumer's acquire of it: a message
 * is written before it is announced. (H) the consumer's release of `head` pairs with the producer's
 * acquire of it: a message is read before its place is given back.
 *
 * Healing: whoever finds the other's index out of range publishes its own again (producer), or
 * follows the other and publishes that (consumer); an idle consumer repairs a `head` that is not
 * what it wrote. So a single wrong write by anybody costs messages, but never leaves the ring
 * stuck.
 */

void lb_ring_attach_producer(struct lb_ring *ring, struct lb_ring_shm *shm)
{
	*ring = (struct lb_ring){
		.shm = shm,
		.own = __atomic_load_n(&shm->tail, __ATOMIC_ACQUIRE),
	};
}

void lb_ring_attach_consumer(struct lb_ring *ring, struct lb_ring_shm *shm)
{
	*ring = (struct lb_ring){
		.shm = shm,
		.own = __atomic_load_n(&shm->head, __ATOMIC_ACQUIRE),
	};
}

unsigned lb_ring_space(struct lb_ring *ring)
{
	uint32_t head = __atomic_load_n(&ring->shm->head, __ATOMIC_ACQUIRE); // (H)
	uint32_t used = ring->own - head;

	if (used <= LB_RING_CAPACITY)
		return LB_RING_CAPACITY - used;
	ring->n_corrupt++;
	__atomic_store_n(&ring->shm->tail, ring->own, __ATOMIC_RELEASE); // (T)
	return 0;
}

bool lb_ring_push(struct lb_ring *ring, const struct lb_msg *msg)
{
	if (lb_ring_space(ring) == 0)
		return false;
	ring->shm->messages[ring->own & INDEX_MASK] = *msg;
	ring->own++;
	__atomic_store_n(&ring->shm->tail, ring->own, __ATOMIC_RELEASE); // (T)
	return true;
}

static void publish_head(struct lb_ring *ring, uint32_t head)
{
	ring->own = head;
	__atomic_store_n(&ring->shm->head, head, __ATOMIC_RELEASE); // (H)
}

bool lb_ring_pop(struct lb_ring *ring, struct lb_msg *msg)
{
	uint32_t tail = __atomic_load_n(&ring->shm->tail, __ATOMIC_ACQUIRE); // (T)
	uint32_t used = tail - ring->own;

	if (used == 0) {
		if (__atomic_load_n(&ring->shm->head, __ATOMIC_RELAXED) != ring->own)
			publish_head(ring, ring->own);
		return false;
	}
	if (used > LB_RING_CAPACITY) {
		ring->n_corrupt++;
		publish_head(ring, tail);
		return false;
	}
	*msg = ring->shm->messages[ring->own & INDEX_MASK];
	publish_head(ring, ring->own + 1);
	return true;
}
