/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_PIPELINE_H
#define TESTS_PIPELINE_H

#include "dataplane/worker.h"

/*
 * The data plane without its ports and without its main loop: the real objects, commands and stages, one
 * worker, driven by the caller. For unit tests and benchmarks. One per process.
 */
struct pipeline {
	struct lb_dp dp;
	struct lb_worker *worker; /* the first */
	struct rte_mempool *pool;
};

/** Start EAL with @p eal_args (NULL-terminated, after the program's name). Aborts if it does not. */
void pipeline_start_eal(const char *const *eal_args);

/**
 * Start EAL for a program of tests: @p memory_mb of memory and no hugepages, nothing that another program could see; regions
 * are in /dev/shm, if $FULCRUM_SHM_DIR says nothing else. Aborts if it does not.
 */
void pipeline_start_eal_alone(unsigned memory_mb);

/** Fixtures of a group whose tests each make their pipeline: EAL up with 512 MB, and down. @return 0 */
int pipeline_eal_set_up(void **state);
int pipeline_eal_tear_down(void **state);

/** The end of a group with one pipeline, of which *@p state is the address: pipeline_stop(), then EAL's end. @return 0 */
int pipeline_tear_down(void **state);

/**
 * Make region, tables and @p n_workers workers that take frames for every MAC on ports 0 and 1, with
 * room for @p n_flows each. Aborts with a message if something is missing.
 */
void pipeline_start(
	struct pipeline *pipeline, unsigned n_workers, uint64_t n_flows, unsigned n_mbufs);
void pipeline_stop(struct pipeline *pipeline);

/** As pipeline_stop(), but files are left for the next one: a data plane that ended. */
void pipeline_leave(struct pipeline *pipeline);

/** A buffer of the pool with @p n bytes of a frame in it. @return never NULL. */
struct rte_mbuf *pipeline_mbuf(struct pipeline *pipeline, const void *bytes, unsigned n);

/**
 * The same in memory outside the pool, as some NICs have it: LB_EXACT_HEADROOM bytes in front of the frame, none behind it, so
 * that a sanitizer sees what is read beyond. @return never NULL.
 */
struct rte_mbuf *pipeline_mbuf_exact(struct pipeline *pipeline, const void *bytes, unsigned n);
#define LB_EXACT_HEADROOM 128u

/** Free what the worker's burst holds, as if it had been sent, and process what that releases. */
void pipeline_free_burst(struct pipeline *pipeline);

/** Let the time pass after which no fragment is waited for. */
void pipeline_expire_fragments(struct pipeline *pipeline);

/** Apply one command and end the batch, as the ring would. @return its status; *reply may be NULL. */
int pipeline_command(struct pipeline *pipeline, const struct lb_msg *command, struct lb_msg *reply);

/** Write @p slots into buffer 0 and publish them. @return the command's status. */
int pipeline_publish(struct pipeline *pipeline, uint16_t service, const uint16_t *slots,
	uint32_t n_slots);
/** The same with a scheduler that needs nothing but slots: maglev, ring, source. */
int pipeline_publish_of(struct pipeline *pipeline, uint16_t service, enum lb_scheduler scheduler, const uint16_t *slots,
	uint32_t n_slots);


/**
 * A first sync with a secret, next hop 1 (port 1, 02:00:00:00:00:b1) for backends and next hop 2 (port 0,
 * 02:00:00:00:00:c1) as default route of both families. The caller goes on with services and ends it by
 * pipeline_sync_end(). Aborts on refusal.
 */
void pipeline_sync_begin(struct pipeline *pipeline);
void pipeline_sync_end(struct pipeline *pipeline);

/** Service @p id and backend @p id of it; aborts on refusal. Addresses as text, port 0: all. */
void pipeline_service(struct pipeline *pipeline, uint16_t id, const char *vip, uint16_t port,
	uint8_t proto);
void pipeline_service_of_mode(struct pipeline *pipeline, uint16_t id, const char *vip, uint16_t port,
	uint8_t proto, enum lb_mode mode); /* gue: port 6080 */
void pipeline_backend(struct pipeline *pipeline, uint16_t id, uint16_t service, const char *addr,
	uint16_t port, enum lb_backend_state state);

/** The local addresses, @p n of them (1 or more). */
void pipeline_locals(struct pipeline *pipeline, const char *const *addrs, uint16_t n);

#endif
