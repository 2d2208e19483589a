/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_DP_H
#define LB_CONTROL_DP_H

#include <stdbool.h>

#include <event2/event.h>

#include "lb/shm.h"

/*
 * The daemon's end of the shared-memory region: attaches to it, notices when it is gone, hung or
 * replaced, keeps commands in order, waits for their replies, drains the workers' events. It knows
 * nothing of what the commands mean.
 *
 *   DOWN --region there, heartbeat fresh, PING answered--> SYNCING --SYNC_END answered--> UP
 *   any  --its process ended, region replaced, heartbeat old, or no answer for a second--> DOWN
 *
 * An old heartbeat alone is no death while workers go on polling: the main lcore lacks CPU. Up to 10 s that is borne with.
 *
 * Commands are pushed in the order in which they were given; those that the ring has no room for,
 * and table publications for which no buffer is free, wait in memory. On the way to DOWN all are
 * forgotten (their reply functions hear -ENOTCONN): the next sync sends everything that is still
 * wanted. All functions belong to the loop's thread.
 */
struct lb_dp;

enum lb_dp_state { LB_DP_DOWN, LB_DP_SYNCING, LB_DP_UP };

struct lb_dp_callbacks {
	/* The region was mapped (first sight of this data plane); its mirror may be read. May be
	 * NULL. */
	void (*attached)(void *arg);
	/* May the sync begin? Asked at every tick, for at most a second. NULL: yes. */
	bool (*may_sync)(void *arg);
	/* Send every object now; called between SYNC_BEGIN and SYNC_END. Not 0: out of memory, the
	 * sync is given up. */
	int (*sync)(void *arg);
	void (*state_changed)(
		void *arg, enum lb_dp_state from, enum lb_dp_state to, const char *reason);
	/* A message from worker @p worker's ring: its fields are not to be trusted. */
	void (*event)(void *arg, unsigned worker, const struct lb_msg *event);
	/* A command without a reply function of its own, or a sync, was refused. */
	void (*refused)(void *arg, const struct lb_msg *command, int status);
	/* Some replies came in; at most once per tick. May be NULL. */
	void (*progress)(void *arg);
};

/**
 * @param status 0 or -errno as the data plane replied; -ENOTCONN it went away before it did; -EIO
 * it skipped this command's reply. -ENOMEM or what the fill function returned: never sent.
 * @param reply  NULL with -ENOTCONN, -EIO and commands never sent.
 */
typedef void lb_dp_reply_fn(
	void *arg, const struct lb_msg *command, int status, const struct lb_msg *reply);

/** Writes @p n_slots backend ids; called when a table buffer is free, before @p arg goes to the
 * free function. @return 0 or -errno. */
typedef int lb_dp_fill_fn(void *arg, uint16_t *words, uint32_t n_words);

/**
 * Begin to look for the region of @p instance; the first attempt is made here, later ones from the
 * loop.
 * @return 0; -EINVAL bad instance name; -ENOMEM.
 */
int lb_dp_create(struct event_base *base, const char *instance,
	const struct lb_dp_callbacks *callbacks, void *arg, struct lb_dp **out);
/** Forgets all commands (their reply functions hear -ENOTCONN). NULL is allowed. */
void lb_dp_destroy(struct lb_dp *dp);

enum lb_dp_state lb_dp_state(const struct lb_dp *dp);
/** Why it is down; "" otherwise. */
const char *lb_dp_reason(const struct lb_dp *dp);
/** CLOCK_REALTIME since when it is in this state. */
uint64_t lb_dp_since_ns(const struct lb_dp *dp);
/** The region as last attached, also while down; NULL: none was. Content is not to be trusted. */
const struct lb_shm_map *lb_dp_map(const struct lb_dp *dp);
/** For the mirror, the one part that the daemon writes outside of this module. */
struct lb_shm_mirror *lb_dp_mirror(const struct lb_dp *dp);
/** Its heartbeat is missing, but its workers go on: its main lcore gets no CPU. */
bool lb_dp_is_stalled(const struct lb_dp *dp);
/** Commands that are not answered yet, those in memory included. */
size_t lb_dp_n_pending(const struct lb_dp *dp);
/** Replies that fitted no command, since start. */
uint64_t lb_dp_n_bad_replies(const struct lb_dp *dp);

/**
 * Queue a copy of @p command (its seq is set here). While the data plane is down it is dropped:
 * -ENOTCONN.
 * @param reply  called once, from the loop; NULL: the refused callback on failure.
 * @return 0; -ENOTCONN; -ENOMEM.
 */
int lb_dp_send(struct lb_dp *dp, const struct lb_msg *command, lb_dp_reply_fn *reply, void *arg);

/**
 * Between two of many commands: put what there is room for into the ring now and take what was answered, so that the data
 * plane works while the next ones are made. Reply functions may be called.
 */
void lb_dp_pump(struct lb_dp *dp);

/**
 * Queue a TABLE_PUBLISH.
 * @param table    service, sizes, version and scheduler; the rest is filled in.
 * @param fill     called when its turn has come with the number of words (slots and pick table); what it
 * writes is copied into the shared buffer.
 * @param fill_free called once with @p fill_arg, also when this function fails; NULL: nothing to
 * free.
 * @return as lb_dp_send(); -EINVAL sizes out of range.
 */
int lb_dp_publish(struct lb_dp *dp, const struct lb_msg_table *table,
	lb_dp_fill_fn *fill, void (*fill_free)(void *arg), void *fill_arg, lb_dp_reply_fn *reply,
	void *arg);

/** Sync again although it is up: after a refusal, for example. Does nothing unless it is UP. */
void lb_dp_resync(struct lb_dp *dp);

const char *lb_dp_state_name(enum lb_dp_state state);

#endif
