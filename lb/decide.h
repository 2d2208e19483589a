/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_DECIDE_H
#define LB_DECIDE_H

#include "lb/flowtable.h"
#include "lb/slots.h"

/*
 * Which backend a packet goes to (design, section 7), in this order:
 *   1. flow-table hit on a backend that is up or draining: that backend, unless a new connection
 *      begins on one that is over (lb_decide_entry_holds);
 *   2. TCP SYN: the slot's backend; recorded at once if the slot is in transition;
 *   3. TCP mid-stream: the slot's origin if it is in transition and the origin is alive, else the
 *      slot's backend; recorded if the slot is in transition;
 *   4. UDP: the slot's backend.
 * `tracking: all` also records the SYNs and UDP flows of other slots. It does not record mid-stream
 * packets there: they lead to the slot's backend with or without an entry, and a flood of them
 * would cost memory. Pure functions, shared by the data plane and the simulator.
 *
 * *Overload*: more flows of slots in transition than the table has room for, so that entries that
 * mattered have been lost. Step 3 rests on every SYN being recorded; where that fails, a flow
 * without an entry is likelier to be younger than its slot's last change than older than its first
 * one, and goes to the slot's backend, as it would without slot history. What is recorded is the
 * same; pinned are then only flows whose slot has another backend, so that those go last.
 */

struct lb_choice {
	uint16_t backend; /* LB_BACKEND_NONE: nobody serves the slot */
	uint8_t decision; /* enum lb_decision: NONE, SLOT or ORIGIN */
	bool record;      /* insert it (or move the entry whose backend is down) */
	bool pinned;      /* with LB_FLOW_PINNED */
};

/** Whether flows that @p backend has may go on: up or draining. */
static inline bool lb_decide_alive(const uint8_t *backend_state, uint16_t backend)
{
	return backend_state[backend] == LB_BACKEND_UP ||
	       backend_state[backend] == LB_BACKEND_DRAIN;
}

/**
 * Step 1: whether a packet that found @p entry goes to the entry's backend.
 * @param backend_state enum lb_backend_state of that backend.
 * @param is_syn SYN without ACK: a new connection begins if the entry's is over, and goes where
 * the slot says.
 */
static inline bool lb_decide_entry_holds(uint64_t entry, uint8_t backend_state, bool is_syn)
{
	enum lb_flow_state state = lb_flow_entry_state(entry);

	if (backend_state == LB_BACKEND_DOWN)
		return false;
	return !is_syn || (state != LB_FLOW_FIN && state != LB_FLOW_CLOSED);
}

/**
 * Steps 2 to 4: where a packet goes that found no entry, or one that does not hold.
 * @param is_syn SYN without ACK; ignored unless @p is_tcp.
 * @param tracking what is in force now, be it by pressure. @param overload see above.
 * @param backend_state enum lb_backend_state per id, LB_MAX_BACKENDS + 1 of them; LB_BACKEND_NONE's
 * is DOWN.
 */
static inline struct lb_choice lb_decide_miss(const struct lb_slot *slot, uint32_t transition_s,
	uint32_t now_s, bool is_tcp, bool is_syn, enum lb_tracking tracking, bool overload,
	const uint8_t *backend_state)
{
	bool in_transition = lb_slot_in_transition(slot, transition_s, now_s);
	bool mid_stream = is_tcp && !is_syn;
	struct lb_choice choice = {
		.backend = slot->backend,
		.decision = LB_DECISION_SLOT,
		.pinned = in_transition && !overload,
		.record = in_transition || (tracking == LB_TRACKING_ALL && !mid_stream),
	};

	if (mid_stream && in_transition && !overload && slot->origin != LB_SLOT_NONE &&
		lb_decide_alive(backend_state, slot->origin)) {
		choice.backend = slot->origin;
		choice.decision = LB_DECISION_ORIGIN;
	}
	if (choice.backend == LB_BACKEND_NONE) {
		choice.decision = LB_DECISION_NONE;
		choice.record = false;
	}
	return choice;
}

/**
 * Whether the entry of a live flow is to be pinned from now on: without it, the flow would go
 * elsewhere, or may once the slot's transition is over. Asked at the first packet of each tick
 * while the table has slots in transition: an entry that is not pinned when its slot changes has
 * the slot's origin as its backend, and a flow that is alive sends a packet before the transition
 * ends.
 */
static inline bool lb_decide_pinned(uint16_t backend, const struct lb_slot *slot,
	uint32_t transition_s, uint32_t now_s, bool overload)
{
	return slot->backend != backend ||
	       (!overload && lb_slot_in_transition(slot, transition_s, now_s));
}

/* TCP flags as in byte 13 of the header (RFC 9293, section 3.1). */
#define LB_TCP_FIN 0x01u
#define LB_TCP_SYN 0x02u
#define LB_TCP_RST 0x04u
#define LB_TCP_ACK 0x10u

/** Whether these are a SYN's flags, not a SYN/ACK's: a connection begins. */
static inline bool lb_tcp_is_syn(uint8_t tcp_flags)
{
	return (tcp_flags & (LB_TCP_SYN | LB_TCP_ACK)) == LB_TCP_SYN;
}

/**
 * The state of a TCP flow's entry after a packet from the client that goes to the entry's backend.
 * @param state before; FREE: no entry yet, or one that does not hold.
 *
 * A SYN leaves an established flow what it is: a spoofed or late one must neither move a live
 * connection nor make its entry one that a flood may replace. If it is honest, the backend
 * challenges it (RFC 9293, section 3.10.7.4), the client answers with an RST, and its next SYN
 * starts anew, as it does on any other state: the port is used again. A segment after an RST shows
 * that the RST was not the client's, or not accepted, so that the flow goes on; after a FIN only
 * acknowledgements follow.
 */
static inline enum lb_flow_state lb_flow_tcp_state(enum lb_flow_state state, uint8_t tcp_flags)
{
	if (tcp_flags & LB_TCP_RST)
		return LB_FLOW_CLOSED;
	if (lb_tcp_is_syn(tcp_flags))
		return state == LB_FLOW_ESTABLISHED ? LB_FLOW_ESTABLISHED : LB_FLOW_SYN;
	if (tcp_flags & LB_TCP_FIN || state == LB_FLOW_FIN)
		return LB_FLOW_FIN;
	return LB_FLOW_ESTABLISHED;
}

#endif
