/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/dp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lb/log.h"

#define NS_PER_US UINT64_C(1000)
#define TICK_US 50000u      /* at rest: half of LB_SHM_HEARTBEAT_NS */
#define BUSY_TICK_US 200u   /* while replies are expected: this direction has no wake-up, and a sync has some 70 rounds
			       of a ring's length at 64 000 backends, then 500 of all table buffers at 4 000 services */
#define PROBE_TICK_US 5000u
#define ABSENT_TICK_US 10000u /* while nothing forwards, a new region is waited for */
#define NO_ANSWER_NS LB_SHM_DEAD_NS
/* For how long the heartbeat may be missing while workers go on: the main lcore lacks CPU, and what matters is that packets
 * pass. Beyond that it hangs, and takes no changes any more. */
#define STALL_MAX_NS UINT64_C(10000000000)
#define MAY_SYNC_WAIT_NS UINT64_C(1000000000)
#define SYNC_RETRY_NS UINT64_C(1000000000)
#define MAX_EVENTS_PER_TICK 256u /* of one worker: a scribbled ring must not hold the loop */
static_assert(TICK_US * NS_PER_US <= LB_SHM_HEARTBEAT_NS, "our heartbeat keeps its promise");

struct command {
	STAILQ_ENTRY(command) link;
	struct lb_msg msg;
	lb_dp_reply_fn *reply;
	void *arg;
	lb_dp_fill_fn *fill; /* TABLE_PUBLISH: not NULL */
	void (*fill_free)(void *arg);
	void *fill_arg;
	bool has_buffer; /* msg.table.buffer is ours until the reply */
};
STAILQ_HEAD(command_queue, command);

struct lb_dp {
	struct event *tick;
	char instance[LB_INSTANCE_MAX + 1];
	struct lb_dp_callbacks callbacks;
	void *arg;

	enum lb_dp_state state;
	char reason[200];
	uint64_t since_ns;

	bool attached;
	struct lb_shm_map map;
	struct lb_ring command, replies, events[LB_SHM_MAX_WORKERS];

	struct command_queue waiting;  /* not in the ring yet */
	struct command_queue inflight; /* in the ring; consecutive seqs */
	size_t n_waiting, n_inflight;
	uint32_t next_seq;
	uint64_t progress_ns; /* last reply, or first command into an empty ring */
	uint64_t n_bad_replies;
	bool kicked;

	bool buffer_busy[LB_SHM_N_TABLES];
	uint16_t *scratch; /* a table is filled here: the region may change under our hands */

	/* The process behind the heartbeat, to notice its end at once. */
	int pid_fd;          /* -1: not watched */
	uint32_t pid;        /* that is watched, or was; 0: none yet */
	struct event *ended; /* pending while pid_fd is there */
	uint64_t polls, polls_ns; /* of all workers; CLOCK_MONOTONIC when they last went on */
	bool stalled;             /* no heartbeat, but the workers go on */
	uint64_t last_beat_ns; /* the heartbeat found at its end: the last one; 0: it lives */

	bool probing, probed; /* while DOWN: a PING is in the ring; it was answered */
	uint64_t probe_ns, probed_ns;
	bool sync_in_flight;
	uint64_t sync_retry_ns; /* 0: none due */
	uint64_t slow_ns;       /* last heartbeat and look at the file */
	struct lb_log_limit limit;
};

static void go_down(struct lb_dp *dp, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

const char *lb_dp_state_name(enum lb_dp_state state)
{
	static const char *const names[] = {"down", "syncing", "up"};

	return (unsigned)state < 3 ? names[state] : "?";
}

static void set_state(struct lb_dp *dp, enum lb_dp_state state, const char *reason)
{
	enum lb_dp_state from = dp->state;

	snprintf(dp->reason, sizeof(dp->reason), "%s", reason);
	if (from == state)
		return;
	dp->state = state;
	dp->since_ns = lb_realtime_ns();
	dp->callbacks.state_changed(dp->arg, from, state, reason);
}

static void kick(struct lb_dp *dp)
{
	if (dp->kicked)
		return;
	dp->kicked = true;
	event_active(dp->tick, EV_TIMEOUT, 0);
}

/* Commands. */

static void command_free(struct command *command)
{
	if (command->fill_free != NULL)
		command->fill_free(command->fill_arg);
	free(command);
}

/* The command is in no queue any more; its reply function may queue others. */
static void complete(
	struct lb_dp *dp, struct command *command, int status, const struct lb_msg *reply)
{
	if (command->has_buffer)
		dp->buffer_busy[command->msg.table.buffer] = false;
	if (command->reply != NULL)
		command->reply(command->arg, &command->msg, status, reply);
	else if (status < 0 && status != -ENOTCONN)
		dp->callbacks.refused(dp->arg, &command->msg, status);
	command_free(command);
}

static void forget_all(struct lb_dp *dp, struct command_queue *queue, size_t *n)
{
	struct command_queue taken = STAILQ_HEAD_INITIALIZER(taken);
	struct command *command;

	STAILQ_CONCAT(&taken, queue);
	*n = 0;
	while ((command = STAILQ_FIRST(&taken)) != NULL) {
		STAILQ_REMOVE_HEAD(&taken, link);
		// what the data plane may still read of a table buffer is settled by the next PING
		command->has_buffer = false;
		complete(dp, command, -ENOTCONN, NULL);
	}
}

static void go_down(struct lb_dp *dp, const char *format, ...)
{
	char reason[sizeof(dp->reason)];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	dp->probing = dp->probed = false;
	dp->sync_in_flight = false;
	dp->sync_retry_ns = 0;
	set_state(dp, LB_DP_DOWN, reason);
	forget_all(dp, &dp->inflight, &dp->n_inflight);
	forget_all(dp, &dp->waiting, &dp->n_waiting);
}

static int enqueue(struct lb_dp *dp, const struct command *template)
{
	struct command *command = malloc(sizeof(*command));

	if (command == NULL)
		return -ENOMEM;
	*command = *template;
	STAILQ_INSERT_TAIL(&dp->waiting, command, link);
	dp->n_waiting++;
	kick(dp);
	return 0;
}

static int free_buffer(const struct lb_dp *dp)
{
	for (unsigned i = 0; i < LB_SHM_N_TABLES; i++)
		if (!dp->buffer_busy[i])
			return (int)i;
	return -ENOBUFS;
}

static uint64_t n_words(const struct lb_msg_table *table)
{
	return (uint64_t)table->n_slots + (uint64_t)table->n_members * 2 + table->n_sequence;
}

/* @return 0; -ENOBUFS: later; else the fill function's refusal. */
static int fill_table(struct lb_dp *dp, struct command *command)
{
	struct lb_msg_table *table = &command->msg.table;
	uint32_t n = (uint32_t)n_words(table); // lb_dp_publish() has looked at it
	int buffer = free_buffer(dp), rc;

	if (buffer < 0)
		return buffer;
	rc = command->fill(command->fill_arg, dp->scratch, n);
	if (rc < 0)
		return rc == -ENOBUFS ? -EIO : rc;
	memcpy(dp->map.shm->tables[buffer].slots, dp->scratch, n * sizeof(*dp->scratch));
	table->buffer = (uint16_t)buffer;
	table->checksum = lb_hash_bytes(dp->scratch, n * sizeof(*dp->scratch), table->version);
	dp->buffer_busy[buffer] = true;
	command->has_buffer = true;
	return 0;
}

/* Move commands from memory into the ring while there is room (and a buffer, for a table). */
static void pump(struct lb_dp *dp)
{
	struct command *command;
	bool pushed = false;

	while ((command = STAILQ_FIRST(&dp->waiting)) != NULL && lb_ring_space(&dp->command) > 0) {
		int rc = command->fill != NULL ? fill_table(dp, command) : 0;

		if (rc == -ENOBUFS)
			break;
		STAILQ_REMOVE_HEAD(&dp->waiting, link);
		dp->n_waiting--;
		if (rc < 0) {
			complete(dp, command, rc, NULL);
			continue;
		}
		command->msg.seq = dp->next_seq++;
		lb_ring_push(&dp->command, &command->msg);
		if (dp->n_inflight++ == 0)
			dp->progress_ns = lb_now_ns();
		STAILQ_INSERT_TAIL(&dp->inflight, command, link);
		pushed = true;
	}
	if (pushed)
		lb_shm_wake(dp->map.shm);
}

/* The data plane answers in order: what is before the answered command in the queue has lost its
 * reply. */
static void match_reply(struct lb_dp *dp, const struct lb_msg *reply)
{
	struct command *command = STAILQ_FIRST(&dp->inflight);
	uint32_t n_before;
	int status = reply->reply.status;

	n_before = command != NULL ? reply->seq - command->msg.seq : UINT32_MAX;
	if (n_before >= dp->n_inflight) {
		// also the replies to the commands of a daemon that died
		dp->n_bad_replies++;
		lb_log_limited(&dp->limit, LB_LOG_DEBUG, "dp",
			"a reply with sequence number %u, which is "
			"none of the %zu expected",
			reply->seq, dp->n_inflight);
		return;
	}
	if (status > 0 || status < -4095)
		status = -EPROTO;
	for (uint32_t i = 0; i <= n_before && (command = STAILQ_FIRST(&dp->inflight)) != NULL;
		i++) {
		STAILQ_REMOVE_HEAD(&dp->inflight, link);
		dp->n_inflight--;
		complete(dp, command, i < n_before ? -EIO : status, i < n_before ? NULL : reply);
	}
	dp->progress_ns = lb_now_ns();
}

static bool take_replies(struct lb_dp *dp)
{
	uint32_t n_corrupt = dp->replies.n_corrupt;
	struct lb_msg reply;
	unsigned n = 0;

	while (n < LB_RING_CAPACITY && lb_ring_pop(&dp->replies, &reply)) {
		match_reply(dp, &reply);
		n++;
	}
	if (dp->replies.n_corrupt != n_corrupt)
		lb_log_limited(&dp->limit, LB_LOG_WARN, "dp",
			"the reply ring's index is out of range: "
			"replies were lost");
	return n > 0;
}

static void take_events(struct lb_dp *dp)
{
	struct lb_msg event;

	for (unsigned worker = 0; worker < dp->map.n_workers; worker++)
		for (unsigned n = 0;
			n < MAX_EVENTS_PER_TICK && lb_ring_pop(&dp->events[worker], &event); n++)
			dp->callbacks.event(dp->arg, worker, &event);
}

/* Syncing. */

static void sync_done(
	void *arg, const struct lb_msg *command, int status, const struct lb_msg *reply)
{
	struct lb_dp *dp = arg;

	(void)reply;
	dp->sync_in_flight = false;
	if (status == -ENOTCONN)
		return;
	if (status == 0) {
		set_state(dp, LB_DP_UP, "");
		return;
	}
	dp->callbacks.refused(dp->arg, command, status);
	dp->sync_retry_ns = lb_now_ns() + SYNC_RETRY_NS;
}

static void begin_sync(struct lb_dp *dp)
{
	struct command begin = {.msg.op = LB_OP_SYNC_BEGIN};
	struct command end = {.msg.op = LB_OP_SYNC_END, .reply = sync_done, .arg = dp};

	dp->sync_retry_ns = 0;
	if (dp->state == LB_DP_DOWN)
		set_state(dp, LB_DP_SYNCING, "");
	// after half of the objects there must be no SYNC_END, which would remove the other half
	if (enqueue(dp, &begin) < 0 || dp->callbacks.sync(dp->arg) < 0 || enqueue(dp, &end) < 0)
		go_down(dp, "out of memory in a sync");
	else
		dp->sync_in_flight = true;
}

void lb_dp_resync(struct lb_dp *dp)
{
	if (dp->state == LB_DP_UP && !dp->sync_in_flight)
		begin_sync(dp);
}

/* The end of the process. */

static void unwatch(struct lb_dp *dp)
{
	if (dp->pid_fd < 0)
		return;
	event_del(dp->ended);
	close(dp->pid_fd);
	dp->pid_fd = -1;
}

static uint64_t heartbeat_ns(const struct lb_dp *dp)
{
	return __atomic_load_n(
		&dp->map.shm->header.side[LB_SIDE_DATA].heartbeat_ns, __ATOMIC_RELAXED);
}

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
	struct lb_dp *dp = arg;

	(void)fd, (void)what;
	unwatch(dp);
	if (!dp->attached)
		return;
	dp->last_beat_ns = heartbeat_ns(dp);
	go_down(dp, "its process (pid %" PRIu32 ") has ended", dp->pid);
}

/*
 * The pid is the data plane's word, and may be of another pid namespace: a stranger's end is taken for its own until
 * the next heartbeat, which costs a sync. So each pid is watched but once. Without a pidfd (an older kernel, no
 * such process here, no permission) the heartbeat alone tells.
 */
static void watch(struct lb_dp *dp)
{
	uint32_t pid = __atomic_load_n(
		&dp->map.shm->header.side[LB_SIDE_DATA].pid, __ATOMIC_RELAXED);

	if (pid == dp->pid || pid == 0 || pid > INT32_MAX)
		return;
	unwatch(dp);
	dp->pid = pid;
	dp->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (dp->pid_fd < 0)
		return;
	if (event_assign(dp->ended, event_get_base(dp->tick), dp->pid_fd, EV_READ, on_ended, dp) < 0 ||
		event_add(dp->ended, NULL) < 0) {
		close(dp->pid_fd);
		dp->pid_fd = -1;
	}
}

/* Attachment. */

static void attach(struct lb_dp *dp)
{
	struct lb_shm *shm;
	char why[160] = "";
	int rc = lb_shm_attach(&dp->map, dp->instance, why, sizeof(why));

	if (rc == -ENOENT) {
		go_down(dp, "no shared-memory region of instance %s: is lb-dataplane running?",
			dp->instance);
		return;
	}
	if (rc < 0) {
		go_down(dp, "cannot attach its shared-memory region: %s", why);
		return;
	}
	shm = dp->map.shm;
	dp->attached = true;
	dp->last_beat_ns = 0;
	dp->polls = dp->polls_ns = 0;
	dp->stalled = false;
	lb_ring_attach_producer(&dp->command, &shm->command);
	lb_ring_attach_consumer(&dp->replies, &shm->reply);
	for (unsigned i = 0; i < dp->map.n_workers; i++)
		lb_ring_attach_consumer(&dp->events[i], &shm->events[i]);
	lb_log(LB_LOG_INFO, "dp", "attached %s: %u workers", dp->map.path, dp->map.n_workers);
	if (dp->callbacks.attached != NULL)
		dp->callbacks.attached(dp->arg);
}

static void detach(struct lb_dp *dp)
{
	unwatch(dp);
	dp->pid = 0;
	lb_shm_detach(&dp->map, false);
	dp->attached = false;
}

static void probe_done(
	void *arg, const struct lb_msg *command, int status, const struct lb_msg *reply)
{
	struct lb_dp *dp = arg;

	(void)command;
	(void)reply;
	if (status == -ENOTCONN)
		return;
	dp->probing = false;
	if (status < 0)
		return;
	// all that was in the ring before is done: no buffer is being read, not even on behalf of a
	// dead daemon
	memset(dp->buffer_busy, 0, sizeof(dp->buffer_busy));
	dp->probed = true;
	dp->probed_ns = lb_now_ns();
}

/* DOWN, but the heartbeat is there: does it answer, and may we sync? */
static void probe(struct lb_dp *dp, uint64_t now_ns)
{
	struct command ping = {.msg.op = LB_OP_PING, .reply = probe_done, .arg = dp};

	if (dp->probed) {
		if (dp->callbacks.may_sync == NULL || dp->callbacks.may_sync(dp->arg) ||
			now_ns - dp->probed_ns > MAY_SYNC_WAIT_NS)
			begin_sync(dp);
		return;
	}
	if (dp->probing && now_ns - dp->probe_ns > NO_ANSWER_NS) {
		go_down(dp, "its heartbeat is there, but it answers no command");
	}
	if (!dp->probing && enqueue(dp, &ping) == 0) {
		dp->probing = true;
		dp->probe_ns = now_ns;
	}
}

/* Whether workers went on within the time after which a heartbeat is missed. */
static bool workers_go_on(struct lb_dp *dp, uint64_t now_ns)
{
	uint64_t polls = 0;

	for (unsigned i = 0; i < dp->map.n_workers; i++)
		polls += __atomic_load_n(&dp->map.shm->workers[i].polls, __ATOMIC_RELAXED);
	if (polls != dp->polls)
		dp->polls_ns = now_ns;
	dp->polls = polls;
	return dp->polls_ns != 0 && now_ns - dp->polls_ns <= LB_SHM_DEAD_NS;
}

/* The heartbeat is missing. @return whether that is only for want of CPU. */
static bool is_stalled(struct lb_dp *dp, bool go_on, uint64_t age_ns)
{
	if (dp->state == LB_DP_DOWN || !go_on || age_ns > STALL_MAX_NS)
		return false;
	if (!dp->stalled)
		lb_log(LB_LOG_WARN, "dp", "no heartbeat for %" PRIu64 ".%" PRIu64 " s, but its workers go on: its main "
			"lcore gets no CPU", age_ns / 1000000000, age_ns / 100000000 % 10);
	dp->stalled = true;
	return true;
}

static void judge(struct lb_dp *dp)
{
	uint64_t now_ns = lb_now_ns(); // not before the replies that were just taken
	uint64_t age_ns = lb_shm_heartbeat_age_ns(dp->map.shm, LB_SIDE_DATA);

	bool go_on = workers_go_on(dp, now_ns);

	if (age_ns <= LB_SHM_DEAD_NS)
		watch(dp);
	if (dp->last_beat_ns != 0 && heartbeat_ns(dp) == dp->last_beat_ns)
		return;
	dp->last_beat_ns = 0;
	if (age_ns > LB_SHM_DEAD_NS && age_ns != UINT64_MAX && is_stalled(dp, go_on, age_ns))
		return;
	if (dp->stalled && age_ns <= LB_SHM_DEAD_NS)
		dp->progress_ns = now_ns; // it could not answer meanwhile
	dp->stalled = false;
	if (age_ns == UINT64_MAX) {
		go_down(dp, "no heartbeat yet");
	} else if (age_ns > LB_SHM_DEAD_NS) {
		go_down(dp, "no heartbeat for %" PRIu64 ".%" PRIu64 " s", age_ns / 1000000000,
			age_ns / 100000000 % 10);
	} else if (dp->state == LB_DP_DOWN) {
		probe(dp, now_ns);
	} else if (dp->n_inflight > 0 && now_ns - dp->progress_ns > NO_ANSWER_NS) {
		go_down(dp, "its heartbeat is there, but %zu commands are not answered",
			dp->n_inflight);
	} else if (dp->sync_retry_ns != 0 && now_ns > dp->sync_retry_ns) {
		begin_sync(dp);
	}
}

/* How often the region's file is looked at, and a heartbeat stamped. */
static unsigned slow_us(const struct lb_dp *dp)
{
	return dp->state == LB_DP_DOWN ? ABSENT_TICK_US : TICK_US;
}

static void run_attached(struct lb_dp *dp, uint64_t now_ns)
{
	bool progress;

	if (now_ns - dp->slow_ns >= slow_us(dp) * NS_PER_US) {
		dp->slow_ns = now_ns;
		if (lb_shm_replaced(&dp->map)) {
			go_down(dp, "it was restarted");
			detach(dp);
			attach(dp);
			if (!dp->attached)
				return;
		}
		lb_shm_heartbeat(dp->map.shm, LB_SIDE_CONTROL);
	}
	progress = take_replies(dp);
	take_events(dp);
	judge(dp);
	pump(dp);
	if (progress && dp->callbacks.progress != NULL)
		dp->callbacks.progress(dp->arg);
}

static unsigned next_tick_us(const struct lb_dp *dp, uint64_t now_ns)
{
	if (dp->n_inflight + dp->n_waiting == 0)
		return slow_us(dp);
	if (dp->state != LB_DP_DOWN)
		return BUSY_TICK_US;
	return now_ns - dp->probe_ns < 2 * TICK_US * NS_PER_US ? PROBE_TICK_US : TICK_US;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct lb_dp *dp = arg;
	uint64_t now_ns = lb_now_ns();
	struct timeval delay = {0};

	(void)fd;
	(void)what;
	dp->kicked = false;
	if (!dp->attached)
		attach(dp);
	if (dp->attached)
		run_attached(dp, now_ns);
	delay.tv_usec = (suseconds_t)next_tick_us(dp, now_ns);
	if (!dp->kicked)
		event_add(dp->tick, &delay);
}

/* The public side. */

int lb_dp_create(struct event_base *base, const char *instance,
	const struct lb_dp_callbacks *callbacks, void *arg, struct lb_dp **out)
{
	struct lb_dp *dp;

	if (!lb_instance_valid(instance))
		return -EINVAL;
	dp = calloc(1, sizeof(*dp));
	if (dp == NULL)
		return -ENOMEM;
	dp->callbacks = *callbacks;
	dp->arg = arg;
	dp->since_ns = lb_realtime_ns();
	STAILQ_INIT(&dp->waiting);
	STAILQ_INIT(&dp->inflight);
	snprintf(dp->instance, sizeof(dp->instance), "%s", instance);
	// so that the replies to an earlier daemon's commands are not taken for ours
	if (getrandom(&dp->next_seq, sizeof(dp->next_seq), 0) < 0)
		dp->next_seq = (uint32_t)lb_now_ns();
	dp->scratch = malloc(sizeof(struct lb_shm_table));
	dp->tick = evtimer_new(base, on_tick, dp);
	dp->pid_fd = -1;
	dp->ended = event_new(base, -1, 0, on_ended, dp);
	if (dp->scratch == NULL || dp->tick == NULL || dp->ended == NULL) {
		lb_dp_destroy(dp);
		return -ENOMEM;
	}
	*out = dp; // the callbacks may ask for it
	attach(dp);
	kick(dp);
	return 0;
}

void lb_dp_destroy(struct lb_dp *dp)
{
	if (dp == NULL)
		return;
	forget_all(dp, &dp->inflight, &dp->n_inflight);
	forget_all(dp, &dp->waiting, &dp->n_waiting);
	if (dp->tick != NULL)
		event_free(dp->tick);
	if (dp->attached)
		detach(dp);
	if (dp->ended != NULL)
		event_free(dp->ended);
	free(dp->scratch);
	free(dp);
}

enum lb_dp_state lb_dp_state(const struct lb_dp *dp)
{
	return dp->state;
}

const char *lb_dp_reason(const struct lb_dp *dp)
{
	return dp->reason;
}

uint64_t lb_dp_since_ns(const struct lb_dp *dp)
{
	return dp->since_ns;
}

const struct lb_shm_map *lb_dp_map(const struct lb_dp *dp)
{
	return dp->attached ? &dp->map : NULL;
}

struct lb_shm_mirror *lb_dp_mirror(const struct lb_dp *dp)
{
	return dp->attached ? dp->map.shm->mirror : NULL;
}

bool lb_dp_is_stalled(const struct lb_dp *dp)
{
	return dp->stalled;
}

size_t lb_dp_n_pending(const struct lb_dp *dp)
{
	return dp->n_waiting + dp->n_inflight;
}

uint64_t lb_dp_n_bad_replies(const struct lb_dp *dp)
{
	return dp->n_bad_replies;
}

int lb_dp_send(struct lb_dp *dp, const struct lb_msg *msg, lb_dp_reply_fn *reply, void *arg)
{
	struct command command = {.msg = *msg, .reply = reply, .arg = arg};

	return dp->state == LB_DP_DOWN ? -ENOTCONN : enqueue(dp, &command);
}

void lb_dp_pump(struct lb_dp *dp)
{
	if (!dp->attached || dp->state == LB_DP_DOWN)
		return;
	(void)take_replies(dp);
	pump(dp);
}

int lb_dp_publish(struct lb_dp *dp, const struct lb_msg_table *table,
	lb_dp_fill_fn *fill, void (*fill_free)(void *arg), void *fill_arg, lb_dp_reply_fn *reply,
	void *arg)
{
	struct command command = {
		.msg =
			{
				.op = LB_OP_TABLE_PUBLISH,
				.table = *table,
			},
		.reply = reply,
		.arg = arg,
		.fill = fill,
		.fill_free = fill_free,
		.fill_arg = fill_arg,
	};
	int rc;

	if (table->n_slots == 0 || table->n_slots > LB_MAGLEV_MAX_SLOTS ||
		n_words(table) > LB_SHM_TABLE_WORDS)
		rc = -EINVAL;
	else if (dp->state == LB_DP_DOWN)
		rc = -ENOTCONN;
	else
		rc = enqueue(dp, &command);
	if (rc < 0 && fill_free != NULL)
		fill_free(fill_arg);
	return rc;
}
