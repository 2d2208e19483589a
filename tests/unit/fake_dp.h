/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_TEST_FAKE_DP_H
#define LB_TEST_FAKE_DP_H

#include <pthread.h>
#include <stdatomic.h>

#include "lb/shm.h"

/*
 * A data plane without packets: a thread that makes a real region, stamps its heartbeat, and
 * answers commands as lb/msg.h promises, refusing whatever breaks the rules there. It keeps what it
 * was told and a log of all commands, so that a test can say in which order things came and what is
 * left at the end. Beyond the rules it counts moments in which the real one would lose packets: a
 * backend that leaves `up` while a table still names it.
 */
struct fake_service {
	bool in_use, mentioned;
	struct lb_msg_service msg;
	uint16_t *slots; /* NULL: no table yet */
	uint32_t n_slots, version;
};

struct fake_backend {
	bool in_use, mentioned;
	struct lb_msg_backend msg;
};

struct fake_route {
	bool mentioned;
	struct lb_msg_route msg;
};

#define FAKE_MAX_ROUTES 1024u

struct fake_dp {
	struct lb_shm_map map;
	struct lb_ring command, reply;
	pthread_t thread;
	atomic_bool stop;

	/* What the test sets; any time. */
	atomic_bool hang;     /* takes no commands, but stamps its heartbeat */
	atomic_bool dead;     /* does nothing at all */
	atomic_uint pid;      /* that it says it is; 0: ours */
	atomic_int refuse_op; /* this op is refused with refuse_status, refuse_count times */
	atomic_int refuse_status, refuse_count;
	atomic_bool keep_secret; /* another one than it has is refused, as when packets flow */
	atomic_int skip_op; /* the next command with this op gets no reply */
	atomic_int garbage; /* so many replies with wrong sequence numbers before the next one */

	/* What it knows; under the lock. */
	pthread_mutex_t lock;
	struct fake_service services[LB_MAX_SERVICES];
	struct fake_backend backends[LB_MAX_BACKENDS + 1u];
	uint8_t nexthops[LB_MAX_NEXTHOPS]; /* 1: there */
	bool nexthop_mentioned[LB_MAX_NEXTHOPS];
	struct lb_msg_nexthop nexthop_msgs[LB_MAX_NEXTHOPS];
	struct fake_route routes[FAKE_MAX_ROUTES];
	size_t n_routes;
	struct lb_msg *log;
	int *statuses;
	size_t n_log, n_allocated;
	unsigned n_refused; /* by the rules, not by refuse_op */
	unsigned n_losses;  /* moments of packet loss */
	bool syncing, synced;
	bool has_secret;
	uint8_t secret[16];
};

/** Make the region and start. Asserts that it works. */
struct fake_dp *fake_dp_start(const char *instance, unsigned n_workers);

/** Stop the thread. @param unlink_file as a clean stop does; otherwise the region stays, as after
 * SIGKILL. */
void fake_dp_stop(struct fake_dp *fake, bool unlink_file);

/** Put an event into the ring of @p worker, as that worker. */
void fake_dp_event(struct fake_dp *fake, unsigned worker, const struct lb_msg *event);

/** Number of log entries with @p op. */
size_t fake_dp_count(struct fake_dp *fake, unsigned op);

/** Index of the first log entry at or after @p from with @p op; SIZE_MAX: none. */
size_t fake_dp_find(struct fake_dp *fake, size_t from, unsigned op);

/** Make $FULCRUM_SHM_DIR a new directory, so that tests meet nobody's region; its path, to be
 * removed at the end. */
char *fake_dp_shm_dir(void);
void fake_dp_remove_dir(char *dir);

#endif
