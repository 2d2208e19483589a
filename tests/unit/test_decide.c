/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "lb/decide.h"

enum { NEW = 10, OLD = 20, T = 60, CHANGED_AT = 1000 };

static uint8_t backend_state[LB_MAX_BACKENDS + 1u];
static const struct lb_slot moved = {.backend = NEW, .origin = OLD, .changed_s = CHANGED_AT + 1};
static const struct lb_slot stable = {.backend = NEW, .origin = OLD, .changed_s = 0};
static const struct lb_slot empty = {
	.backend = LB_SLOT_NONE, .origin = LB_SLOT_NONE, .changed_s = 0};
static const struct lb_slot emptied = {
	.backend = LB_SLOT_NONE, .origin = OLD, .changed_s = CHANGED_AT + 1};
static const struct lb_slot filled = {
	.backend = NEW, .origin = LB_SLOT_NONE, .changed_s = CHANGED_AT + 1};

enum packet { SYN, MID_STREAM, UDP };

static void expect(const struct lb_slot *slot, enum packet packet, enum lb_tracking tracking,
	uint16_t backend, enum lb_decision decision, bool record)
{
	// For UDP, whatever the caller says of SYN is ignored
	struct lb_choice choice = lb_decide_miss(slot, T, CHANGED_AT + 10, packet != UDP,
		packet != MID_STREAM, tracking, false, backend_state);

	assert_int_equal(choice.backend, backend);
	assert_int_equal(choice.decision, decision);
	assert_int_equal(choice.record, record);
}

static int all_up(void **state)
{
	(void)state;
	memset(backend_state, LB_BACKEND_DOWN, sizeof(backend_state));
	backend_state[NEW] = LB_BACKEND_UP;
	backend_state[OLD] = LB_BACKEND_UP;
	return 0;
}

static void stable_slot_serves_and_records_what_tracking_says(void **state)
{
	(void)state;
	expect(&stable, SYN, LB_TRACKING_ALL, NEW, LB_DECISION_SLOT, true);
	expect(&stable, SYN, LB_TRACKING_CHANGED, NEW, LB_DECISION_SLOT, false);
	expect(&stable, UDP, LB_TRACKING_ALL, NEW, LB_DECISION_SLOT, true);
	expect(&stable, UDP, LB_TRACKING_CHANGED, NEW, LB_DECISION_SLOT, false);
	expect(&stable, MID_STREAM, LB_TRACKING_ALL, NEW, LB_DECISION_SLOT, false);
	expect(&stable, MID_STREAM, LB_TRACKING_CHANGED, NEW, LB_DECISION_SLOT, false);
}

static void slot_in_transition_records_everything(void **state)
{
	(void)state;
	for (enum lb_tracking tracking = LB_TRACKING_ALL; tracking <= LB_TRACKING_CHANGED;
		tracking++) {
		expect(&moved, SYN, tracking, NEW, LB_DECISION_SLOT, true);
		expect(&moved, MID_STREAM, tracking, OLD, LB_DECISION_ORIGIN, true);
		expect(&moved, UDP, tracking, NEW, LB_DECISION_SLOT, true);
	}
}

static void origin_serves_while_draining_but_not_when_down(void **state)
{
	(void)state;
	backend_state[OLD] = LB_BACKEND_DRAIN;
	expect(&moved, MID_STREAM, LB_TRACKING_CHANGED, OLD, LB_DECISION_ORIGIN, true);
	backend_state[OLD] = LB_BACKEND_DOWN;
	expect(&moved, MID_STREAM, LB_TRACKING_CHANGED, NEW, LB_DECISION_SLOT, true);
	backend_state[OLD] = 0xff; // no valid state
	expect(&moved, MID_STREAM, LB_TRACKING_CHANGED, NEW, LB_DECISION_SLOT, true);
}

static void slot_serves_whatever_its_backends_state(void **state)
{
	(void)state;
	// on_empty: last_resort fills a table with backends that are down
	backend_state[NEW] = LB_BACKEND_DOWN;
	expect(&stable, SYN, LB_TRACKING_ALL, NEW, LB_DECISION_SLOT, true);
	expect(&moved, SYN, LB_TRACKING_ALL, NEW, LB_DECISION_SLOT, true);
}

static void empty_slot_serves_only_flows_of_its_origin(void **state)
{
	(void)state;
	for (enum packet packet = SYN; packet <= UDP; packet++)
		expect(&empty, packet, LB_TRACKING_ALL, LB_BACKEND_NONE, LB_DECISION_NONE, false);
	expect(&emptied, SYN, LB_TRACKING_ALL, LB_BACKEND_NONE, LB_DECISION_NONE, false);
	expect(&emptied, UDP, LB_TRACKING_ALL, LB_BACKEND_NONE, LB_DECISION_NONE, false);
	expect(&emptied, MID_STREAM, LB_TRACKING_ALL, OLD, LB_DECISION_ORIGIN, true);
	backend_state[LB_BACKEND_NONE] = LB_BACKEND_UP; // must not matter
	expect(&filled, MID_STREAM, LB_TRACKING_ALL, NEW, LB_DECISION_SLOT, true);
	expect(&empty, MID_STREAM, LB_TRACKING_ALL, LB_BACKEND_NONE, LB_DECISION_NONE, false);
}

static void transition_ends(void **state)
{
	struct lb_choice choice;

	(void)state;
	choice = lb_decide_miss(
		&moved, T, CHANGED_AT + T - 1, true, false, LB_TRACKING_CHANGED, false, backend_state);
	assert_int_equal(choice.backend, OLD);
	choice = lb_decide_miss(
		&moved, T, CHANGED_AT + T + 1, true, false, LB_TRACKING_CHANGED, false, backend_state);
	assert_int_equal(choice.backend, NEW);
	assert_false(choice.record);
	choice = lb_decide_miss(
		&moved, T, CHANGED_AT + T + 1, true, true, LB_TRACKING_CHANGED, false, backend_state);
	assert_false(choice.record);
}

static void entry_holds_while_its_backend_lives(void **state)
{
	uint64_t entry = lb_flow_entry_make(1, OLD, 5, LB_FLOW_ESTABLISHED);

	(void)state;
	assert_true(lb_decide_entry_holds(entry, LB_BACKEND_UP, false));
	assert_true(lb_decide_entry_holds(entry, LB_BACKEND_DRAIN, false));
	assert_false(lb_decide_entry_holds(entry, LB_BACKEND_DOWN, false));
	assert_false(lb_decide_entry_holds(entry, LB_BACKEND_DOWN, true));
}

// Be the SYN spoofed or sent twice: only where the connection is over does a new one begin.
static void syn_takes_only_entries_of_ended_connections(void **state)
{
	(void)state;
	for (unsigned before = LB_FLOW_SYN; before < LB_FLOW_STATE_N; before++) {
		uint64_t entry = lb_flow_entry_make(1, OLD, 5, before);
		bool is_over = before == LB_FLOW_FIN || before == LB_FLOW_CLOSED;

		assert_true(lb_decide_entry_holds(entry, LB_BACKEND_UP, false));
		assert_int_equal(lb_decide_entry_holds(entry, LB_BACKEND_UP, true), !is_over);
	}
}

static void tcp_states_follow_the_flags(void **state)
{
	static const struct {
		uint8_t flags;
		enum lb_flow_state
			after[LB_FLOW_STATE_N]; /* by state before; 0: the same for all */
	} rows[] = {
		{LB_TCP_SYN, {LB_FLOW_SYN, LB_FLOW_SYN, LB_FLOW_ESTABLISHED, LB_FLOW_SYN, LB_FLOW_SYN}},
		{LB_TCP_RST, {LB_FLOW_CLOSED}},
		{LB_TCP_RST | LB_TCP_ACK, {LB_FLOW_CLOSED}},
		{LB_TCP_FIN | LB_TCP_ACK, {LB_FLOW_FIN}},
		{LB_TCP_SYN | LB_TCP_ACK,
			{LB_FLOW_ESTABLISHED, LB_FLOW_ESTABLISHED, LB_FLOW_ESTABLISHED, LB_FLOW_FIN,
				LB_FLOW_ESTABLISHED}},
		{LB_TCP_ACK, {LB_FLOW_ESTABLISHED, LB_FLOW_ESTABLISHED, LB_FLOW_ESTABLISHED,
				     LB_FLOW_FIN, LB_FLOW_ESTABLISHED}},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (unsigned before = LB_FLOW_FREE; before <= LB_FLOW_CLOSED; before++) {
			enum lb_flow_state after = rows[i].after[before] != 0
							   ? rows[i].after[before]
							   : rows[i].after[0];

			assert_int_equal(lb_flow_tcp_state(before, rows[i].flags), after);
		}
}

// Where SYNs could not be recorded, a flow without an entry goes to the slot's backend.
static void overload_trusts_no_origin(void **state)
{
	struct lb_slot slot = {.backend = NEW, .origin = OLD, .changed_s = CHANGED_AT + 1};
	struct lb_choice choice = lb_decide_miss(
		&slot, T, CHANGED_AT + 10, true, false, LB_TRACKING_CHANGED, true, backend_state);

	(void)state;
	assert_int_equal(choice.backend, NEW);
	assert_true(choice.record);
	assert_false(choice.pinned);
	assert_true(lb_decide_pinned(OLD, &slot, T, CHANGED_AT + 10, true));
	assert_false(lb_decide_pinned(NEW, &slot, T, CHANGED_AT + 10, true));
	assert_true(lb_decide_pinned(NEW, &slot, T, CHANGED_AT + 10, false));
	assert_false(lb_decide_pinned(NEW, &slot, T, CHANGED_AT + T + 1, false));
	assert_true(lb_decide_pinned(OLD, &slot, T, CHANGED_AT + T + 1, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(stable_slot_serves_and_records_what_tracking_says, all_up),
		cmocka_unit_test_setup(slot_in_transition_records_everything, all_up),
		cmocka_unit_test_setup(origin_serves_while_draining_but_not_when_down, all_up),
		cmocka_unit_test_setup(slot_serves_whatever_its_backends_state, all_up),
		cmocka_unit_test_setup(empty_slot_serves_only_flows_of_its_origin, all_up),
		cmocka_unit_test_setup(transition_ends, all_up),
		cmocka_unit_test_setup(entry_holds_while_its_backend_lives, all_up),
		cmocka_unit_test(syn_takes_only_entries_of_ended_connections),
		cmocka_unit_test_setup(tcp_states_follow_the_flags, all_up),
		cmocka_unit_test(overload_trusts_no_origin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
