/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_PORTS_H
#define LB_PORTS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The local ports that one worker may use towards one backend endpoint from one local address: a bitmap
 * of free ones with a summary, so that taking a port touches three words however full it is. Ports are
 * handed out going round: one that was just given back comes last.
 *
 * The low bits of a port name the worker that owns it (the number of workers, rounded up to a power of
 * two), so that a reply which RSS brought to another worker says where it belongs. Each worker's share is
 * its alone: worker: rw; main lcore: before the worker sees it, and n_used at any time.
 */
#define LB_PORTS_FIRST 1024u /* below are the privileged ones, which some servers trust */
#define LB_PORTS_ALL (65536u - LB_PORTS_FIRST)
#define LB_PORTS_NONE UINT32_MAX

struct lb_ports {
	uint32_t n_ports;
	uint32_t n_used;   /* read by the main lcore: one aligned word */
	uint32_t cursor;   /* where the search for a free one begins */
	uint32_t zero;
	uint64_t exhausted; /* times that none was free */
	uint64_t zero2[5];
	uint64_t summary[16]; /* bit w: word w of `free` has a bit */
	uint64_t free[];      /* bit i: port number i of this share is free */
} __attribute__((aligned(64)));

/** Workers rounded up to a power of two: into so many shares the ports are divided. */
static inline uint32_t lb_ports_n_shares(uint32_t n_workers)
{
	return n_workers <= 1 ? 1 : 1u << (32 - __builtin_clz(n_workers - 1));
}

/** The worker that owns @p port (host order); may be >= the number of workers: nobody. */
static inline uint32_t lb_ports_owner(uint16_t port, uint32_t n_shares)
{
	return port & (n_shares - 1);
}

/** The port (host order) of number @p idx of @p worker's share, and back. */
static inline uint16_t lb_ports_number(uint32_t idx, uint32_t worker, uint32_t n_shares)
{
	return (uint16_t)(LB_PORTS_FIRST + idx * n_shares + worker);
}
static inline uint32_t lb_ports_index(uint16_t port, uint32_t n_shares)
{
	return (port - LB_PORTS_FIRST) / n_shares;
}

/** Bytes of one share, a multiple of 64. @p n_shares is a power of two up to 64. */
uint64_t lb_ports_bytes(uint32_t n_shares);

/** All of a share's ports free; the first one to be taken is chosen by @p seed. */
void lb_ports_init(struct lb_ports *ports, uint32_t n_shares, uint32_t seed);

/** Take the next free port. @return its index; LB_PORTS_NONE: all are in use (counted). Worker. */
uint32_t lb_ports_take(struct lb_ports *ports);

/** Go on with the search at @p idx, modulo the number of ports. Worker. */
static inline void lb_ports_skip(struct lb_ports *ports, uint32_t idx)
{
	ports->cursor = idx % ports->n_ports;
}

/** Take exactly @p idx. @return false: it is out of range or in use. Worker. */
bool lb_ports_take_at(struct lb_ports *ports, uint32_t idx);

/** Give @p idx back; one that is free, or out of range, is left alone. Worker. */
void lb_ports_give(struct lb_ports *ports, uint32_t idx);

#endif
