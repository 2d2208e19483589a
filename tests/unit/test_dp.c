/* SPDX-License-Identifier: BSD-3-Clause */
/* The connection to the data plane, against a fake one in a thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/dp.h"
#include "lb/log.h"
#include "tests/unit/fake_dp.h"

#define INSTANCE "test-dp"
#define PATIENCE_NS UINT64_C(20000000000)
#define N_SLOTS 251u

/* What the callbacks saw. */
struct seen {
	unsigned n_attached, n_syncs, n_events, n_refused, n_progress;
	int refused_status;
	uint16_t refused_op;
	struct lb_msg last_event;
	unsigned last_worker;
	bool may_not_sync;
	int sync_result;
	unsigned n_replies, n_failed, n_not_connected, n_lost;
	uint32_t next; /* replies must come in the order of the commands */
	bool out_of_order;
	unsigned n_fills, n_frees;
};

static struct event_base *base;
static struct lb_dp *dp;
static struct seen seen;
static char *shm_dir;

static void on_attached(void *arg)
{
	((struct seen *)arg)->n_attached++;
}

static bool on_may_sync(void *arg)
{
	return !((struct seen *)arg)->may_not_sync;
}

static int on_sync(void *arg)
{
	struct seen *s = arg;
	struct lb_msg secret = {.op = LB_OP_SECRET_SET, .secret = "0123456789abcde"};
	struct lb_msg service = {.op = LB_OP_SERVICE_SET, .service = {.idle_timeout_ms = 1000}};

	s->n_syncs++;
	assert_int_equal(lb_dp_send(dp, &secret, NULL, NULL), 0);
	assert_int_equal(lb_dp_send(dp, &service, NULL, NULL), 0);
	return s->sync_result;
}

static void on_state(void *arg, enum lb_dp_state from, enum lb_dp_state to, const char *reason)
{
	(void)arg;
	assert_int_not_equal(from, to);
	assert_true(to != LB_DP_DOWN || reason[0] != '\0');
}

static void on_event(void *arg, unsigned worker, const struct lb_msg *event)
{
	struct seen *s = arg;

	s->n_events++;
	s->last_worker = worker;
	s->last_event = *event;
}

static void on_refused(void *arg, const struct lb_msg *command, int status)
{
	struct seen *s = arg;

	s->n_refused++;
	s->refused_op = command->op;
	s->refused_status = status;
}

static void on_progress(void *arg)
{
	((struct seen *)arg)->n_progress++;
}

static const struct lb_dp_callbacks callbacks = {
	.attached = on_attached,
	.may_sync = on_may_sync,
	.sync = on_sync,
	.state_changed = on_state,
	.event = on_event,
	.refused = on_refused,
	.progress = on_progress,
};

/* Run the loop until @p condition; fail after a while. */
#define WAIT(condition)                                          \
	do {                                                     \
		uint64_t give_up_ns = lb_now_ns() + PATIENCE_NS; \
		while (!(condition) && lb_now_ns() < give_up_ns) \
			event_base_loop(base, EVLOOP_ONCE);      \
		assert_true(condition);                          \
	} while (0)

static void connect_dp(void)
{
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(lb_dp_create(base, INSTANCE, &callbacks, &seen, &dp), 0);
}

static int setup(void **state)
{
	(void)state;
	shm_dir = fake_dp_shm_dir();
	base = event_base_new();
	assert_non_null(base);
	connect_dp();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lb_dp_destroy(dp);
	dp = NULL;
	event_base_free(base);
	fake_dp_remove_dir(shm_dir);
	return 0;
}

static struct fake_dp *start_synced(void)
{
	struct fake_dp *fake = fake_dp_start(INSTANCE, 2);

	WAIT(lb_dp_state(dp) == LB_DP_UP);
	return fake;
}

static void on_reply(
	void *arg, const struct lb_msg *command, int status, const struct lb_msg *reply)
{
	struct seen *s = arg;

	s->n_replies++;
	s->n_failed += status < 0;
	s->n_not_connected += status == -ENOTCONN;
	s->n_lost += status == -EIO;
	assert_int_equal(reply != NULL, status != -ENOTCONN && status != -EIO && status != -ENOMEM);
	if (command->op == LB_OP_FLOWS_COUNT)
		s->out_of_order |= command->flush.zero != s->next++;
}

static void send_numbered(unsigned n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct lb_msg msg = {.op = LB_OP_FLOWS_COUNT, .flush.zero = i};

		assert_int_equal(lb_dp_send(dp, &msg, on_reply, &seen), 0);
	}
}

static void without_a_region_it_is_down_and_says_why(void **state)
{
	struct lb_msg ping = {.op = LB_OP_PING};

	(void)state;
	assert_int_equal(lb_dp_state(dp), LB_DP_DOWN);
	assert_non_null(strstr(lb_dp_reason(dp), "no shared-memory region"));
	assert_null(lb_dp_map(dp));
	assert_int_equal(lb_dp_send(dp, &ping, on_reply, &seen), -ENOTCONN);
	assert_int_equal(seen.n_replies, 0);
	assert_int_equal(
		lb_dp_create(base, "no/name", &callbacks, &seen, &(struct lb_dp *){NULL}), -EINVAL);
}

static void a_region_that_appears_is_synced(void **state)
{
	struct fake_dp *fake = start_synced();
	static const unsigned order[] = {
		LB_OP_PING,
		LB_OP_SYNC_BEGIN,
		LB_OP_SECRET_SET,
		LB_OP_SERVICE_SET,
		LB_OP_SYNC_END,
	};

	(void)state;
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(fake->log[i].op, order[i]);
	assert_int_equal(fake->n_log, 5);
	assert_true(fake->synced);
	assert_int_equal(seen.n_attached, 1);
	assert_int_equal(seen.n_syncs, 1);
	assert_int_equal(lb_dp_n_pending(dp), 0);
	WAIT(fake->map.shm->header.side[LB_SIDE_CONTROL].heartbeat_ns != 0);
	fake_dp_stop(fake, true);
}

static void it_waits_with_the_sync_when_asked_to(void **state)
{
	struct fake_dp *fake = fake_dp_start(INSTANCE, 1);

	(void)state;
	seen.may_not_sync = true;
	WAIT(fake_dp_count(fake, LB_OP_PING) > 0 && lb_dp_n_pending(dp) == 0);
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_ONCE);
	assert_int_equal(lb_dp_state(dp), LB_DP_DOWN);
	seen.may_not_sync = false;
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	fake_dp_stop(fake, true);
}

static void commands_beyond_the_ring_wait_in_order(void **state)
{
	struct fake_dp *fake = start_synced();
	const unsigned n = 5 * LB_RING_CAPACITY;

	(void)state;
	fake->hang = true;
	send_numbered(n);
	event_base_loop(base, EVLOOP_ONCE);
	assert_int_equal(lb_dp_n_pending(dp), n);
	fake->hang = false;
	WAIT(seen.n_replies == n);
	assert_false(seen.out_of_order);
	assert_int_equal(seen.n_failed, 0);
	assert_int_equal(lb_dp_n_pending(dp), 0);
	assert_int_equal(lb_dp_state(dp), LB_DP_UP);
	fake_dp_stop(fake, true);
}

static int fill(void *arg, uint16_t *slots, uint32_t n_slots)
{
	struct seen *s = arg;

	assert_int_equal(n_slots, N_SLOTS);
	for (uint32_t i = 0; i < n_slots; i++)
		slots[i] = LB_MAGLEV_EMPTY;
	s->n_fills++;
	return 0;
}

static int fill_fails(void *arg, uint16_t *slots, uint32_t n_slots)
{
	(void)arg;
	(void)slots;
	(void)n_slots;
	return -ENOMEM;
}

static void free_fill(void *arg)
{
	((struct seen *)arg)->n_frees++;
}

static int publish(uint32_t version, lb_dp_fill_fn *fn)
{
	return lb_dp_publish(dp, &(struct lb_msg_table){.n_slots = N_SLOTS, .version = version}, fn, free_fill, &seen, on_reply, &seen);
}

static void tables_wait_for_a_free_buffer(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	fake->hang = true;
	for (uint32_t i = 1; i <= 30; i++)
		assert_int_equal(publish(i, fill), 0);
	send_numbered(1); // must not overtake the tables
	for (int i = 0; i < 5; i++)
		event_base_loop(base, EVLOOP_ONCE);
	assert_int_equal(seen.n_fills, LB_SHM_N_TABLES);
	fake->hang = false;
	WAIT(seen.n_replies == 31);
	assert_int_equal(
		seen.n_failed, 0); // also says that no buffer was written while it was in use
	assert_int_equal(seen.n_fills, 30);
	assert_int_equal(seen.n_frees, 30);
	assert_int_equal(fake->services[0].version, 30);
	assert_int_equal(fake->log[fake->n_log - 1].op, LB_OP_FLOWS_COUNT);
	fake_dp_stop(fake, true);
}

static void a_table_that_cannot_be_filled_is_not_sent(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	assert_int_equal(publish(1, fill_fails), 0);
	assert_int_equal(publish(2, fill), 0);
	WAIT(seen.n_replies == 2);
	assert_int_equal(seen.n_failed, 1);
	assert_int_equal(seen.n_frees, 2);
	assert_int_equal(fake_dp_count(fake, LB_OP_TABLE_PUBLISH), 1);
	assert_int_equal(lb_dp_publish(dp,
				 &(struct lb_msg_table){.n_slots = LB_MAGLEV_MAX_SLOTS + 1,
					 .version = 1},
				 fill, free_fill, &seen,
				 NULL, NULL),
		-EINVAL);
	assert_int_equal(seen.n_frees, 3);
	fake_dp_stop(fake, true);
}

static void a_refusal_reaches_who_asked(void **state)
{
	struct lb_msg msg = {.op = LB_OP_FLOWS_FLUSH};
	struct fake_dp *fake = start_synced();

	(void)state;
	fake->refuse_status = -ENOSPC;
	fake->refuse_op = LB_OP_FLOWS_FLUSH;
	fake->refuse_count = 2;
	assert_int_equal(lb_dp_send(dp, &msg, NULL, NULL), 0);
	assert_int_equal(lb_dp_send(dp, &msg, on_reply, &seen), 0);
	WAIT(seen.n_replies == 1);
	assert_int_equal(seen.n_failed, 1);
	assert_int_equal(seen.n_refused, 1);
	assert_int_equal(seen.refused_op, LB_OP_FLOWS_FLUSH);
	assert_int_equal(seen.refused_status, -ENOSPC);
	assert_int_equal(lb_dp_state(dp), LB_DP_UP);
	fake_dp_stop(fake, true);
}

static void a_refused_sync_is_tried_again(void **state)
{
	struct fake_dp *fake;

	(void)state;
	fake = fake_dp_start(INSTANCE, 1);
	fake->refuse_status = -EINVAL;
	fake->refuse_count = 1;
	fake->refuse_op = LB_OP_SYNC_END;
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	assert_int_equal(seen.n_refused, 1);
	assert_int_equal(seen.n_syncs, 2);
	fake_dp_stop(fake, true);
}

static void half_a_sync_is_never_ended(void **state)
{
	struct fake_dp *fake = fake_dp_start(INSTANCE, 1);

	(void)state;
	seen.sync_result = -ENOMEM;
	WAIT(seen.n_syncs >= 2);
	assert_int_equal(fake_dp_count(fake, LB_OP_SYNC_END), 0);
	seen.sync_result = 0;
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	fake_dp_stop(fake, true);
}

static void a_lost_reply_fails_its_command_alone(void **state)
{
	struct lb_msg flush = {.op = LB_OP_FLOWS_FLUSH};
	struct fake_dp *fake = start_synced();

	(void)state;
	fake->skip_op = LB_OP_FLOWS_FLUSH;
	send_numbered(3);
	assert_int_equal(lb_dp_send(dp, &flush, on_reply, &seen), 0);
	send_numbered(0);
	for (uint32_t i = 3; i < 6; i++) {
		struct lb_msg msg = {.op = LB_OP_FLOWS_COUNT, .flush.zero = i};

		assert_int_equal(lb_dp_send(dp, &msg, on_reply, &seen), 0);
	}
	WAIT(seen.n_replies == 7);
	assert_int_equal(seen.n_lost, 1);
	assert_int_equal(seen.n_failed, 1);
	assert_false(seen.out_of_order);
	fake_dp_stop(fake, true);
}

static void garbage_in_the_reply_ring_is_counted(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	fake->garbage = 300;
	send_numbered(50);
	WAIT(seen.n_replies == 50);
	assert_int_equal(seen.n_failed, 0);
	assert_int_equal(lb_dp_n_bad_replies(dp), 300);
	fake_dp_stop(fake, true);
}

static void a_status_out_of_range_is_an_error(void **state)
{
	struct lb_msg msg = {.op = LB_OP_FLOWS_FLUSH};
	struct fake_dp *fake = start_synced();

	(void)state;
	fake->refuse_op = LB_OP_FLOWS_FLUSH;
	fake->refuse_count = 2;
	fake->refuse_status = 7;
	assert_int_equal(lb_dp_send(dp, &msg, NULL, NULL), 0);
	WAIT(seen.n_refused == 1);
	assert_int_equal(seen.refused_status, -EPROTO);
	fake->refuse_status = INT32_MIN;
	assert_int_equal(lb_dp_send(dp, &msg, NULL, NULL), 0);
	WAIT(seen.n_refused == 2);
	assert_int_equal(seen.refused_status, -EPROTO);
	fake_dp_stop(fake, true);
}

static void one_that_answers_nothing_is_down_and_comes_back(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	fake->hang = true;
	send_numbered(3 * LB_RING_CAPACITY);
	assert_int_equal(publish(1, fill), 0);
	WAIT(lb_dp_state(dp) == LB_DP_DOWN);
	assert_non_null(strstr(lb_dp_reason(dp), "not answered"));
	assert_int_equal(seen.n_not_connected, 3 * LB_RING_CAPACITY + 1);
	assert_int_equal(seen.n_frees, 1);
	fake->hang = false;
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	assert_int_equal(seen.n_syncs, 2);
	memset(&seen, 0, sizeof(seen));
	send_numbered(10);
	WAIT(seen.n_replies == 10);
	assert_int_equal(seen.n_failed, 0);
	fake_dp_stop(fake, true);
}

static void one_without_a_heartbeat_is_down_and_its_region_stays(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	fake->dead = true;
	WAIT(lb_dp_state(dp) == LB_DP_DOWN);
	assert_non_null(strstr(lb_dp_reason(dp), "no heartbeat"));
	assert_non_null(lb_dp_map(dp));
	assert_non_null(lb_dp_mirror(dp));
	fake->dead = false;
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	fake_dp_stop(fake, true);
}

static void run_for(uint64_t ns, struct fake_dp *fake, uint64_t n_polls)
{
	for (uint64_t end_ns = lb_now_ns() + ns; lb_now_ns() < end_ns;) {
		fake->map.shm->workers[0].polls += n_polls;
		event_base_loop(base, EVLOOP_ONCE);
	}
}

/* Packets pass: that its main lcore gets no CPU is not its end. */
static void one_whose_workers_go_on_is_not_down(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	run_for(LB_SHM_DEAD_NS / 10, fake, 1);
	fake->dead = fake->hang = true;
	send_numbered(10); // nobody answers them meanwhile
	run_for(2 * LB_SHM_DEAD_NS, fake, 1);
	assert_int_equal(lb_dp_state(dp), LB_DP_UP);
	assert_true(lb_dp_is_stalled(dp));
	fake->hang = fake->dead = false;
	WAIT(!lb_dp_is_stalled(dp) && seen.n_replies == 10);
	assert_int_equal(lb_dp_state(dp), LB_DP_UP);
	assert_int_equal(seen.n_syncs, 1);
	// Not for ever: one that takes no changes for so long hangs.
	fake->dead = true;
	usleep(200000); // it stamps no more
	__atomic_store_n(&fake->map.shm->header.side[LB_SIDE_DATA].heartbeat_ns, lb_now_ns() - 20 * LB_SHM_DEAD_NS,
		__ATOMIC_RELEASE);
	run_for(LB_SHM_DEAD_NS / 10, fake, 1);
	assert_int_equal(lb_dp_state(dp), LB_DP_DOWN);
	fake->dead = false;
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	// And one whose workers stand still, too, is down when its heartbeat is missed.
	fake->dead = true;
	WAIT(lb_dp_state(dp) == LB_DP_DOWN);
	assert_non_null(strstr(lb_dp_reason(dp), "no heartbeat"));
	fake->dead = false;
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	fake_dp_stop(fake, true);
}

static void the_end_of_its_process_is_noticed_before_the_heartbeat_is_old(void **state)
{
	struct fake_dp *fake = start_synced();
	pid_t child = fork();
	unsigned n_syncs;

	(void)state;
	if (child == 0) {
		pause();
		_exit(0);
	}
	assert_true(child > 0);
	fake->pid = (unsigned)child;
	WAIT(fake->map.shm->header.side[LB_SIDE_DATA].pid == (uint32_t)child);
	for (unsigned i = 0; i < 5; i++)
		event_base_loop(base, EVLOOP_ONCE); // it looks
	fake->dead = true;
	n_syncs = seen.n_syncs;
	assert_int_equal(kill(child, SIGKILL), 0);
	WAIT(lb_dp_state(dp) == LB_DP_DOWN);
	assert_non_null(strstr(lb_dp_reason(dp), "has ended"));
	for (uint64_t end_ns = lb_now_ns() + 2 * LB_SHM_DEAD_NS; lb_now_ns() < end_ns;)
		event_base_loop(base, EVLOOP_ONCE);
	assert_non_null(strstr(lb_dp_reason(dp), "has ended")); // still the reason
	assert_int_equal(seen.n_syncs, n_syncs);
	// a stranger's end is not its own: there is a heartbeat
	fake->dead = false;
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	assert_int_equal(waitpid(child, NULL, 0), child);
	fake_dp_stop(fake, true);
}

static void a_restarted_one_is_synced_anew(void **state)
{
	struct fake_dp *old = start_synced(), *new;

	(void)state;
	old->hang = true;
	send_numbered(5);
	fake_dp_stop(old, false);
	new = fake_dp_start(INSTANCE, 3);
	WAIT(lb_dp_state(dp) == LB_DP_UP && seen.n_syncs == 2);
	assert_int_equal(seen.n_not_connected, 5);
	assert_int_equal(lb_dp_map(dp)->n_workers, 3);
	assert_int_equal(fake_dp_find(new, 0, LB_OP_SYNC_BEGIN), 1);
	fake_dp_stop(new, true);
	WAIT(lb_dp_state(dp) == LB_DP_DOWN);
}

static void a_restarted_daemon_ignores_the_replies_of_the_old_one(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	fake->hang = true;
	send_numbered(700);
	event_base_loop(base, EVLOOP_ONCE);
	lb_dp_destroy(dp); // as SIGKILL would: its commands are in the ring
	fake->hang = false;
	connect_dp();
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	assert_int_equal(fake_dp_count(fake, LB_OP_FLOWS_COUNT), 700);
	send_numbered(20);
	WAIT(seen.n_replies == 20);
	assert_int_equal(seen.n_failed, 0);
	assert_false(seen.out_of_order);
	fake_dp_stop(fake, true);
}

static void a_foreign_region_is_not_attached(void **state)
{
	struct fake_dp *fake = fake_dp_start(INSTANCE, 1);

	(void)state;
	fake->map.shm->header.abi = LB_SHM_ABI + 1;
	WAIT(strstr(lb_dp_reason(dp), "ABI") != NULL);
	assert_int_equal(seen.n_attached, 0);
	fake->map.shm->header.abi = LB_SHM_ABI;
	WAIT(lb_dp_state(dp) == LB_DP_UP);
	fake_dp_stop(fake, true);
}

static void events_arrive_with_their_worker(void **state)
{
	struct lb_msg event = {.op = LB_EVENT_BACKEND_SUSPECT, .worker = 77, .id = 12};
	struct fake_dp *fake = start_synced();

	(void)state;
	fake_dp_event(fake, 1, &event);
	WAIT(seen.n_events == 1);
	assert_int_equal(seen.last_worker, 1); // the ring's, not what the message claims
	assert_int_equal(seen.last_event.id, 12);
	for (unsigned i = 0; i < LB_RING_CAPACITY; i++)
		fake_dp_event(fake, 0, &event);
	WAIT(seen.n_events == 1 + LB_RING_CAPACITY);
	fake_dp_stop(fake, true);
}

/* Random words over all ring indexes: nothing may crash, and it must work again afterwards. */
static void scribbled_rings_do_no_harm(void **state)
{
	struct fake_dp *fake = start_synced();
	struct lb_shm *shm = fake->map.shm;

	(void)state;
	srandom(3);
	for (int i = 0; i < 60; i++) {
		struct lb_ring_shm *rings[] = {
			&shm->command, &shm->reply, &shm->events[0], &shm->events[1]};
		struct lb_ring_shm *ring = rings[random() % 4];

		if (random() % 2)
			ring->tail = (uint32_t)random();
		else
			ring->head = (uint32_t)random();
		if (lb_dp_state(dp) != LB_DP_DOWN) {
			struct lb_msg msg = {.op = LB_OP_PING};

			assert_int_equal(lb_dp_send(dp, &msg, NULL, NULL), 0);
		}
		event_base_loop(base, EVLOOP_ONCE);
	}
	WAIT(lb_dp_state(dp) == LB_DP_UP && lb_dp_n_pending(dp) == 0);
	memset(&seen, 0, sizeof(seen));
	send_numbered(10);
	WAIT(seen.n_replies == 10);
	fake_dp_stop(fake, true);
}

static void a_resync_on_request_keeps_it_up(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	lb_dp_resync(dp);
	lb_dp_resync(dp); // one is on its way
	assert_int_equal(lb_dp_state(dp), LB_DP_UP);
	WAIT(lb_dp_n_pending(dp) == 0);
	assert_int_equal(fake_dp_count(fake, LB_OP_SYNC_END), 2);
	assert_int_equal(seen.n_syncs, 2);
	fake_dp_stop(fake, true);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(without_a_region_it_is_down_and_says_why),
		TEST(a_region_that_appears_is_synced),
		TEST(it_waits_with_the_sync_when_asked_to),
		TEST(commands_beyond_the_ring_wait_in_order),
		TEST(tables_wait_for_a_free_buffer),
		TEST(a_table_that_cannot_be_filled_is_not_sent),
		TEST(a_refusal_reaches_who_asked),
		TEST(a_refused_sync_is_tried_again),
		TEST(half_a_sync_is_never_ended),
		TEST(a_lost_reply_fails_its_command_alone),
		TEST(garbage_in_the_reply_ring_is_counted),
		TEST(a_status_out_of_range_is_an_error),
		TEST(one_that_answers_nothing_is_down_and_comes_back),
		TEST(one_without_a_heartbeat_is_down_and_its_region_stays),
		TEST(one_whose_workers_go_on_is_not_down),
		TEST(the_end_of_its_process_is_noticed_before_the_heartbeat_is_old),
		TEST(a_restarted_one_is_synced_anew),
		TEST(a_restarted_daemon_ignores_the_replies_of_the_old_one),
		TEST(a_foreign_region_is_not_attached),
		TEST(events_arrive_with_their_worker),
		TEST(scribbled_rings_do_no_harm),
		TEST(a_resync_on_request_keeps_it_up),
	};

	lb_log_set_level(LB_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
