/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The oracle: a deterministic discrete-event simulation in virtual time that drives the real flow stage, flow
 * table, slot history, Maglev and commands, and checks every packet of every flow against the backend
 * of the flow's first packet.
 *
 * Flows arrive at a constant rate, live for a heavy-tailed time (Pareto) and send packets at random intervals of
 * up to the idle timeout. Backends fail, drain, and come back. A flow is *broken* if a packet of it goes
 * to another backend than its first, unless its backend has failed: those are counted apart and end.
 */
enum sim_strategy {
	SIM_HASH,  /* (a) hashing only: nothing recorded, no slot history */
	SIM_TRACK, /* (b) every flow recorded in a table of limited size, the least recently seen replaced */
	SIM_OURS,  /* (c) */
};

/* Bugs that the oracle must find. */
enum sim_bug {
	SIM_BUG_NONE,
	SIM_BUG_STALE_HISTORY, /* tables are adopted without their history */
	SIM_BUG_COLLISION,     /* a hit on another service's entry is believed */
	SIM_BUG_WEIGHTS,       /* a change resets the weights of all backends to 1 */
};

struct sim_config {
	enum sim_strategy strategy;
	enum sim_bug bug;
	uint64_t seed;
	uint32_t n_backends;      /* servers, weights 1 to 4 in turn */
	uint32_t n_slots;
	uint32_t n_flows;         /* live at a time */
	uint32_t table_flows;     /* what the flow table has room for */
	uint32_t idle_timeout_s;
	uint32_t warm_up_s;       /* before the first change */
	uint32_t duration_s;      /* after it */
	uint32_t life_scale;      /* flows live so many times as long; 0: once */
	uint32_t interval_min_s;  /* raises the longest time between packets of flows below that; 0: 1 s */
	double changes_per_minute;
	double flood_per_flow;    /* spoofed SYNs per legitimate new flow */
	bool restart;             /* the data plane restarts half way, adopting table and slots */
	bool failover;            /* half the flows are another balancer's, which dies half way */
	bool two_services;        /* the same clients use two services; hashes collide on purpose */
	bool only_additions;      /* no failure, no drain: backends only come (back) */
	bool no_changes_before_failover; /* but one addition in the minute before */
	bool at_once;         /* no staged moves (lb/stage.h): a table is published as it is wanted */
	uint32_t change_before_failover_s; /* how long before it that addition is made; 0: 30 s */
	bool returns;         /* one server is away at first, configured and down: it comes back */
	bool joins;           /* one server is away at first, and is added by config */
};

struct sim_result {
	uint64_t n_flows, n_packets; /* begun; sent */
	uint64_t n_changes;
	uint64_t broken;      /* flows */
	uint64_t failed;      /* flows whose backend failed */
	uint64_t foreign;     /* packets to a backend of another service */
	uint64_t dropped;     /* packets without a backend */
	uint64_t entries_max; /* in use in the flow table, at most */
	uint64_t evicted_established;
	uint32_t n_waiting;   /* moves that wait at the end */
	double imbalance;     /* of new flows: largest relative deviation from a backend's weight */
};

/** Run a simulation. One per process at a time; EAL must not be up. Aborts if it cannot be set up. */
void sim_run(const struct sim_config *config, struct sim_result *result);

/** Start and stop what all runs share (EAL). */
void sim_init(void);
void sim_fini(void);

#endif
