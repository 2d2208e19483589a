/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DATAPLANE_STAGES_H
#define LB_DATAPLANE_STAGES_H

#include "dataplane/burst.h"

struct lb_worker;

/*
 * The stages of the packet path, in order; each takes the whole burst. A packet leaves the path when a stage
 * sets its verdict to something other than FORWARD or REPLY. Worker only.
 */

/** Headers checked, keys filled (see burst->short_keys): burst->ip_list. Everything else has its verdict. */
void lb_stage_parse(struct lb_worker *worker, struct lb_burst *burst);

/** Whether parse drops packets with such addresses: nobody is to be answered there. Worker. */
bool lb_source_is_bad(const struct lb_flow_key *key);

/** All of the burst hashed, if it is likely to be for services: what the flow stage needs is on its way. */
void lb_stage_fetch(struct lb_worker *worker, struct lb_burst *burst);

/**
 * Packets of flows under way leave ip_list of the worker's burst, and need no further stage: `settled`. Those of which it has
 * found no entry are looked at by lb_stage_miss_find().
 */
void lb_stage_fast(struct lb_worker *worker);

/**
 * Simple misses (miss.h) among the packets in @p candidates, a bit each, leave ip_list of the worker's burst, for
 * lb_stage_miss_settle(): where hits are few, all of them; else those of which the fast stage has found no entry.
 */
void lb_stage_miss_find(struct lb_worker *worker, uint32_t candidates);

/** After the flow stage: those are recorded and rewritten; what is left of that to do is in burst->to_service. */
void lb_stage_miss_settle(struct lb_worker *worker);

/** For a service: burst->to_service; from a nat backend: burst->to_client; else the host's or dropped. */
void lb_stage_classify(struct lb_worker *worker, struct lb_burst *burst);

/** A backend for each packet of burst->to_service: flow table, else lookup table and slot history. */
void lb_stage_flow(struct lb_worker *worker, struct lb_burst *burst);

/** Between classify and flow, once there is a fullnat service: settles what is mode fullnat's, see fullnat.c. */
void lb_stage_fullnat(struct lb_worker *worker, struct lb_burst *burst);

/** Addresses, ports, TTL, checksums and MACs of both lists; fills burst->nexthops. */
void lb_stage_rewrite(struct lb_worker *worker, struct lb_burst *burst);

/** Every packet counted under its verdict. Part of tx, by itself for the benchmark. */
void lb_count_verdicts(struct lb_worker *worker, const struct lb_burst *burst);

/** What is no plain TCP or UDP packet: burst->odd_list. Called only if there is such a packet. */
void lb_stage_odd(struct lb_worker *worker, struct lb_burst *burst);

/** Tell senders why their packets are not forwarded: burst->answer_list. Called only if it is not empty. */
void lb_stage_answer(struct lb_worker *worker, struct lb_burst *burst);

/** Count verdicts, hand forwarded packets to the ports' transmit buffers, free the rest. */
void lb_stage_tx(struct lb_worker *worker, struct lb_burst *burst);

#endif
