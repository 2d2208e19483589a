/* SPDX-License-Identifier: BSD-3-Clause */
/* The session table against a naive model, and what it adopts after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lb/hash.h"
#include "lb/session.h"

#define N 4096u
#define N_BACKENDS 5u

static uint16_t idle_ticks[LB_MAX_BACKENDS + 1];
static int64_t active[LB_MAX_BACKENDS + 1];
static struct lb_session_counters counters;
static struct lb_sessions table;
static void *mem;
static uint32_t n_released;
static unsigned n_asked;

static uint64_t random_state = 88172645463325252u;

static uint32_t next_random(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 16) % below);
}

// What a session is found by: here client address and port, and local address and port.
static bool client_matches(const struct lb_session *session, const void *key)
{
	const struct lb_session *want = key;

	return lb_addr_equal(&session->client, &want->client) &&
	       session->client_port_be == want->client_port_be;
}

static bool reply_matches(const struct lb_session *session, const void *key)
{
	const struct lb_session *want = key;

	return lb_addr_equal(&session->local, &want->local) &&
	       session->local_port_be == want->local_port_be;
}

static uint64_t hash_of(const struct lb_addr *addr, uint16_t port_be, uint64_t seed)
{
	uint8_t bytes[18];

	memcpy(bytes, addr, 16);
	memcpy(bytes + 16, &port_be, 2);
	return lb_hash_bytes(bytes, sizeof(bytes), seed);
}

static void hashes_of(const struct lb_session *session, uint64_t hashes[2])
{
	hashes[LB_SESSION_CLIENT] = hash_of(&session->client, session->client_port_be, 1);
	hashes[LB_SESSION_REPLY] = hash_of(&session->local, session->local_port_be, 2);
}

static struct lb_session *find(const struct lb_session *want, enum lb_session_dir dir, uint32_t tick)
{
	uint64_t hashes[2];

	hashes_of(want, hashes);
	if (dir == LB_SESSION_CLIENT)
		return lb_sessions_find(
			&table, hashes[0], LB_SESSION_CLIENT, tick, client_matches, want);
	return lb_sessions_find(&table, hashes[1], LB_SESSION_REPLY, tick, reply_matches, want);
}

static struct lb_session session_number(uint32_t i)
{
	return (struct lb_session){
		.client = lb_addr_from_ipv4(i * 2654435761u),
		.client_port_be = (uint16_t)i,
		.local = lb_addr_from_ipv4(7),
		.local_port_be = (uint16_t)(i ^ 0x5555),
		.backend = (uint16_t)(i % N_BACKENDS),
		.state = LB_FLOW_ESTABLISHED,
	};
}

static void release(void *ctx, const struct lb_session *session)
{
	assert_ptr_equal(ctx, &n_released);
	assert_int_not_equal(session->local_port_be, 0xffff);
	n_released++;
}

static bool adopt(void *ctx, struct lb_session *session, uint64_t hashes[2])
{
	(void)ctx;
	n_asked++;
	hashes_of(session, hashes);
	return session->backend < N_BACKENDS;
}

static int64_t init(uint32_t n, uint32_t tick, char *why, size_t why_bytes)
{
	struct lb_sessions_config config = {
		.mem = mem,
		.mem_bytes = lb_sessions_bytes(N),
		.n_sessions = n,
		.secret_id = 99,
		.idle_ticks = idle_ticks,
		.active = active,
		.active_stride = sizeof(active[0]),
		.counters = &counters,
		.n_workers = 1,
		.adopt = adopt,
		.release = release,
		.ctx = &n_released,
	};

	memset(active, 0, sizeof(active));
	memset(&counters, 0, sizeof(counters));
	return lb_sessions_init(&table, &config, tick, why, why_bytes);
}

static int fresh(void **state)
{
	(void)state;
	free(mem);
	mem = aligned_alloc(64, (lb_sessions_bytes(N) + 63) & ~UINT64_C(63));
	memset(mem, 0, lb_sessions_bytes(N));
	for (unsigned i = 0; i < N_BACKENDS; i++)
		idle_ticks[i] = 100;
	n_released = 0;
	return init(N, 1000, NULL, 0) == 0 ? 0 : -1;
}

static struct lb_session *insert(const struct lb_session *content, uint32_t tick)
{
	uint64_t hashes[2];

	hashes_of(content, hashes);
	return lb_sessions_insert(&table, content, hashes, tick);
}

static void assert_all_free(void)
{
	for (uint32_t i = 0; i < table.n_buckets; i++)
		for (unsigned way = 0; way < 8; way++)
			assert_int_equal(table.index[i].entries[way], 0);
	for (unsigned i = 0; i < N_BACKENDS; i++)
		assert_int_equal(active[i], 0);
	assert_int_equal(counters.used, 0);
}

// Every entry can be used, is found in both directions, and nothing is left over: three times.
static void it_fills_to_the_last_entry_and_empties(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < N; i++) {
			struct lb_session content = session_number(i + round * 7919);

			assert_null(find(&content, LB_SESSION_CLIENT, 1000));
			assert_non_null(insert(&content, 1000));
		}
		assert_null(insert(&(struct lb_session){.state = LB_FLOW_SYN}, 1000));
		assert_int_equal(counters.full, round + 1);
		assert_int_equal(counters.used, N);
		for (uint32_t i = 0; i < N; i++) {
			struct lb_session content = session_number(i + round * 7919);
			struct lb_session *session = find(&content, LB_SESSION_CLIENT, 1000);

			assert_non_null(session);
			assert_ptr_equal(session, find(&content, LB_SESSION_REPLY, 1000));
			lb_sessions_del(&table, session);
			assert_null(find(&content, LB_SESSION_CLIENT, 1000));
			assert_null(find(&content, LB_SESSION_REPLY, 1000));
		}
		assert_int_equal(n_released, N * (round + 1));
		assert_all_free();
	}
}

struct model {
	bool used;
	uint32_t tick;
	uint8_t state;
};

static uint32_t limit_of(const struct model *m, uint16_t backend)
{
	uint32_t own = m->state == LB_FLOW_SYN    ? LB_FLOW_SYN_TICKS + 1
		       : m->state == LB_FLOW_CLOSED ? LB_SESSION_CLOSED_TICKS + 1
						    : UINT32_MAX;

	return own < idle_ticks[backend] ? own : idle_ticks[backend];
}

// Random insertions, packets, closings, deletions, sweeps and purges, against an array.
static void it_agrees_with_a_model(void **state)
{
	static struct model model[2 * N];
	static uint8_t purge[LB_MAX_BACKENDS + 1];
	uint32_t tick = 65000; // the 16 bits wrap on the way

	(void)state;
	memset(model, 0, sizeof(model));
	for (unsigned step = 0; step < 600000; step++) {
		uint32_t i = next_random(2 * N);
		struct lb_session content = session_number(i);
		struct model *m = &model[i];
		bool live = m->used && tick - m->tick < limit_of(m, content.backend);
		struct lb_session *session = find(&content, LB_SESSION_CLIENT, tick);
		unsigned what = next_random(100);

		assert_int_equal(session != NULL, live);
		assert_ptr_equal(find(&content, LB_SESSION_REPLY, tick), session);
		if (session != NULL && what < 10) {
			lb_sessions_del(&table, session);
			m->used = false;
		} else if (session != NULL && what < 60) {
			m->state = session->state = (uint8_t)(LB_FLOW_SYN + what % 5);
			m->tick = tick;
			session->time = (uint16_t)tick;
		} else if (session == NULL && !m->used) {
			content.state = (uint8_t)(LB_FLOW_SYN + what % 5);
			if (insert(&content, tick) != NULL)
				*m = (struct model){.used = true, .tick = tick, .state = content.state};
			else
				assert_int_equal(counters.used, N);
		}
		if (step % 200 == 0)
			tick++;
		if (step % 50 == 0) {
			lb_sessions_sweep(&table, tick, step % 1000 == 0 ? N : 64);
			// What the sweep ended may be inserted again: ask the table's own entries.
			for (uint32_t k = 0; k < 2 * N; k++)
				model[k].used = model[k].used &&
						tick - model[k].tick < limit_of(&model[k], (uint16_t)(k % N_BACKENDS));
			if (step % 1000 != 0) // some expired ones are still in the way
				lb_sessions_sweep(&table, tick, N);
		}
		if (step % 50000 == 49999) {
			uint16_t backend = (uint16_t)next_random(N_BACKENDS);

			purge[backend] = 1;
			for (uint32_t from = 0; from < N; from += 100)
				lb_sessions_purge_range(&table, purge, from, 100);
			purge[backend] = 0;
			assert_int_equal(active[backend], 0);
			for (uint32_t k = backend; k < 2 * N; k += N_BACKENDS)
				model[k].used = false;
		}
	}
	assert_true(counters.insert > 10000);
	assert_true(counters.expire > 1000);
	idle_ticks[0] = idle_ticks[1] = idle_ticks[2] = idle_ticks[3] = idle_ticks[4] = 0;
	lb_sessions_sweep(&table, tick, N);
	assert_all_free();
	assert_int_equal(n_released, counters.insert);
}

static void sessions_of_a_removed_backend_are_dead(void **state)
{
	struct lb_session content = session_number(3);

	(void)state;
	assert_non_null(insert(&content, 1000));
	idle_ticks[3] = 0;
	assert_null(find(&content, LB_SESSION_CLIENT, 1000));
	assert_int_equal(lb_sessions_sweep(&table, 1000, N), 1);
	assert_int_equal(n_released, 1);
	assert_all_free();
}

static void a_restart_adopts_what_is_alive_and_valid(void **state)
{
	char why[128];

	(void)state;
	for (uint32_t i = 0; i < 3000; i++) {
		struct lb_session content = session_number(i), *session;

		session = insert(&content, i < 1000 ? 1000 : 1090);
		if (i == 1500)
			session->state = LB_FLOW_FREE; // killed while it was made
		if (i == 1501)
			session->state = 0xf0; // garbage
		if (i == 1502)
			session->backend = 777;
	}
	lb_sessions_sweep(&table, 1090, 1);
	n_asked = 0;
	idle_ticks[777] = 100;
	assert_int_equal(init(N, 1110, why, sizeof(why)), 1997);
	assert_string_equal(why, "");
	assert_int_equal(n_asked, 1998); // not: the expired, the free, the garbage
	assert_int_equal(counters.used, 1997);
	for (uint32_t i = 0; i < 3000; i++) {
		struct lb_session content = session_number(i);
		bool there = i >= 1000 && (i < 1500 || i > 1502);

		assert_int_equal(find(&content, LB_SESSION_CLIENT, 1110) != NULL, there);
		assert_int_equal(find(&content, LB_SESSION_REPLY, 1110) != NULL, there);
	}
	for (uint32_t i = 0; i < N - 1997; i++) { // the free list is whole
		struct lb_session content = session_number(10000 + i);

		assert_non_null(insert(&content, 1110));
	}
	assert_null(insert(&(struct lb_session){.state = LB_FLOW_SYN}, 1110));
}

static void what_does_not_fit_is_not_adopted(void **state)
{
	struct lb_session content = session_number(1);
	char why[128];

	(void)state;
	insert(&content, 1000);
	assert_int_equal(init(N - 1, 1000, why, sizeof(why)), 0);
	assert_string_equal(why, "the kept table has another size");
	assert_int_equal(init(N, 1000, why, sizeof(why)), 0);
	insert(&content, 1000);
	assert_int_equal(init(N, 1000 + 65536, why, sizeof(why)), 0);
	assert_string_equal(why, "the kept sessions are too old");
	assert_int_equal(init(0, 1000, why, sizeof(why)), -22);
	assert_int_equal(init(2 * N, 1000, why, sizeof(why)), -22);
}

static int release_mem(void **state)
{
	(void)state;
	free(mem);
	mem = NULL;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(it_fills_to_the_last_entry_and_empties, fresh),
		cmocka_unit_test_setup(it_agrees_with_a_model, fresh),
		cmocka_unit_test_setup(sessions_of_a_removed_backend_are_dead, fresh),
		cmocka_unit_test_setup(a_restart_adopts_what_is_alive_and_valid, fresh),
		cmocka_unit_test_setup(what_does_not_fit_is_not_adopted, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, release_mem);
}
