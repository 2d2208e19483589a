/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_FRAG_H
#define LB_DATAPLANE_FRAG_H

#include "dataplane/worker.h"
#include "lb/addr.h"

/*
 * Fragments of IPv4 and IPv6. Nothing is reassembled: the first fragment of a datagram, which has its ports, takes
 * the way of any packet, and what becomes of it is noted; the others follow it. One that comes before the first
 * waits. Everything is bounded and made at start-up:
 */
#define LB_FRAG_DATAGRAMS 1024u /* under way at a time; the oldest of 4 makes room for another */
#define LB_FRAG_WAYS 4u
#define LB_FRAG_HELD 256u       /* fragments that wait, of all datagrams: at most so many mbufs, 2 KB each */
#define LB_FRAG_HELD_EACH 64u   /* of one: 64 KB are 52 fragments over IPv6's least MTU */
#define LB_FRAG_RANGES 8u       /* stretches of a datagram that have come, with holes between them */
#define LB_FRAG_TICKS 2u        /* 2 to 4 s without another fragment: the rest will not come (RFC 1122 has a host
				 * wait for a minute, but that one has to answer for the memory) */


/* What identifies a datagram (RFC 791; RFC 8200, section 4.5: without the protocol). */
struct lb_frag_key {
	struct lb_addr src, dst;
	uint32_t id;
	uint32_t proto; /* IPv6: 44 */
};

/* One fragment, as its headers say. */
struct lb_frag_piece {
	struct lb_frag_key key;
	uint32_t from, to; /* its data: where in the datagram's */
	uint32_t at;       /* its data: where in the frame */
	bool more;
	uint8_t proto;
};

struct lb_frag_range {
	uint32_t from, to; /* bytes of the datagram's data: from .. to - 1 */
};

/* A datagram that has not come whole. */
struct lb_frag_datagram {
	struct lb_frag_key key;
	uint64_t hash;    /* of the flow, once the first has come */
	uint16_t sport_be, dport_be; /* likewise */
	uint32_t tick;    /* of its last fragment */
	uint32_t serial;  /* tells lives of this place apart */
	uint32_t n_bytes; /* of its data; 0: the last has not come */
	uint16_t service, backend;
	uint16_t n_held;
	uint8_t fate; /* enum lb_verdict of the first fragment; LB_VERDICT_N: it has not come */
	uint8_t proto; /* of the first fragment's L4 header */
	uint8_t owner; /* fate TAKEN: the worker that has the flow's session */
	uint8_t n_ranges;
	bool in_use;
	struct lb_frag_range ranges[LB_FRAG_RANGES];
};

struct lb_frag_held {
	struct rte_mbuf *mbuf; /* NULL: free */
	uint16_t datagram;
	uint16_t port;
	bool released; /* its first has come: to be processed again */
};

/* Private to its worker. */
struct lb_frags {
	uint32_t n_used, n_released;
	uint32_t serial;
	uint32_t swept_tick, sweep_at;
	uint32_t hand; /* held[] is filled round and round: here lies the oldest */
	bool replaying; /* the burst holds released fragments */
	struct {
		bool is_first; /* asked before its headers are rewritten */
		uint16_t datagram; /* that it begins; UINT16_MAX: none, it was dropped */
		uint32_t serial;
	} firsts[LB_BURST]; /* by packet index */
	struct lb_frag_held held[LB_FRAG_HELD];
	struct lb_frag_datagram datagrams[LB_FRAG_DATAGRAMS];
};

/** @return NULL without memory. Main lcore. */
struct lb_frags *lb_frag_create(int socket_id);

/** Frees what waits, too; @p frags may be NULL. Main lcore, when the worker has stopped. */
void lb_frag_destroy(struct lb_frags *frags);

/** Read the headers of fragment @p i. Worker. */
void lb_frag_read(const struct lb_burst *burst, unsigned i, struct lb_frag_piece *piece);

/** Before the flow stage: the first fragments of burst->odd_list join the packets to services and clients. Worker. */
void lb_frag_begin(struct lb_worker *worker, struct lb_burst *burst);

/** After the rewrite stage: note what became of the first ones. Worker. */
void lb_frag_learn(struct lb_worker *worker, struct lb_burst *burst);

/**
 * Then, for each other fragment: into burst->to_service or to_client, as packets of which the IP header alone is
 * rewritten; or dropped; or held: then burst->held has its bit, and tx leaves it alone. Worker.
 */
void lb_frag_follow(struct lb_worker *worker, struct lb_burst *burst, unsigned i);

/** Put fragments that no longer wait into @p burst, instead of receiving one. @return whether there are any. Worker. */
bool lb_frag_release(struct lb_worker *worker, struct lb_burst *burst);

/**
 * The same after each burst: for fragments alone there may be any to release, and after what has been released, whatever
 * became of it, the next burst is a new one. Worker.
 */
static inline bool lb_frag_release_more(struct lb_worker *worker, struct lb_burst *burst)
{
	return unlikely(burst->n_odd != 0 || worker->frags->replaying) && lb_frag_release(worker, burst);
}

/** Give up on datagrams whose time is over, a few at a time. Worker, each poll. */
void lb_frag_sweep(struct lb_worker *worker);

#endif
