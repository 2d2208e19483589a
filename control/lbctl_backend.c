/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/lbctl_api.h"
#include "control/lbctl_args.h"
#include "control/lbctl_views.h"
#include "lb/addr.h"
#include "lb/shm.h"

/* lbctl backend list|add|set|del|drain|enable|disable */

#define DRAIN_POLL_MS 250
#define MIN_LOOK_MS 1000u
#define DRAIN_QUIET_NS UINT64_C(5000000000)

// What an operator should know beyond the states: why it is down, that it cannot be sent to, that it has not all of
// its weight.
static char *backend_note(const json_t *backend)
{
	const json_int_t percent = lbctl_json_integer(backend, "weight_percent", 100);
	const char *says = lbctl_json_text(json_object_get(backend, "agent"), "says");
	const json_t *health = json_object_get(backend, "health");
	const json_t *nexthop = json_object_get(backend, "nexthop");
	const char *state = lbctl_json_text(backend, "state");
	const char *reason = lbctl_json_text(health, "reason");
	const char *condition = lbctl_json_text(backend, "condition");
	const char *why_unresolved = lbctl_json_text(nexthop, "reason");
	bool unresolved = json_is_false(json_object_get(nexthop, "resolved"));
	bool healthy = strcmp(lbctl_json_text(health, "state"), "up") == 0;
	const char *why = lbctl_json_text(backend, "condition_reason");
	bool draining = strcmp(condition, "draining") == 0;
	bool chosen = strcmp(state, "enabled") != 0 && *state != '\0';
	// An address that its name has no more is drained too, but by nobody's word: what is down does not tell.
	bool doubtful = *lbctl_json_text(backend, "host") != '\0' && strcmp(why, "by the operator") != 0;
	bool gone = chosen && draining && doubtful;

	// "ok", "ok: HTTP 200"
	if (strncmp(reason, "ok", 2) == 0 && healthy)
		reason = "";
	if (strcmp(condition, "suspect") == 0)
		return lbctl_text_printf("suspect: %s", why);
	if (gone || (draining && !chosen) || strncmp(why, "agent: ", strlen("agent: ")) == 0)
		reason = why;
	chosen = chosen && !gone;
	if (percent < 100 && strcmp(condition, "up") == 0 && *reason == '\0' && !unresolved)
		return lbctl_text_printf("at %" JSON_INTEGER_FORMAT "%% of its weight%s%s", percent,
			*says ? "; its agent says: " : "", says);
	return lbctl_text_printf("%s%s%s%s%s%s%s", chosen ? state : "",
		chosen && !doubtful ? " by operator" : "", chosen && (*reason || unresolved) ? "; " : "", reason,
		*reason && unresolved ? "; " : "", unresolved ? "next hop: " : "",
		unresolved ? (*why_unresolved ? why_unresolved : "unresolved") : "");
}

void lbctl_view_backends(
	const struct lbctl *ctl, const json_t *backends, const json_t *answer, int indent)
{
	static const struct lbctl_column columns[] = {
		{"SERVICE", false},
		{"BACKEND", false},
		{"ADDRESS", false},
		{"WEIGHT", true},
		{"TIER", true},
		{"STATE", false},
		{"SINCE", true},
		{"HEALTH", false},
		{"SHARE", true},
		{"FLOWS", true},
		{"NOTE", false},
	};
	struct lbctl_table *table =
		lbctl_table_create(columns, sizeof(columns) / sizeof(columns[0]));
	const json_t *backend;
	size_t i;

	json_array_foreach (backends, i, backend) {
		const json_t *health = json_object_get(backend, "health");
		const char *state = lbctl_json_text(backend, "effective");
		const char *health_state = lbctl_json_text(health, "state");
		bool checked = strcmp(lbctl_json_text(health, "type"), "none") != 0;
		double share = lbctl_json_number(backend, "share");
		char *endpoint = lbctl_json_endpoint(backend, "address");
		char *note = backend_note(backend);

		lbctl_cell_value(table, LBCTL_PLAIN, backend, "service");
		lbctl_cell_value(table, LBCTL_PLAIN, backend, "name");
		lbctl_table_add(table, LBCTL_PLAIN, endpoint);
		lbctl_cell_value(table, LBCTL_PLAIN, backend, "weight");
		lbctl_cell_value(table, LBCTL_PLAIN, backend, "tier");
		lbctl_table_add(table, lbctl_state_colour(state), state);
		lbctl_cell_span(
			table, lbctl_json_span_s(backend, "since_ns", answer, "timestamp_ns"));
		lbctl_table_add(table, checked ? lbctl_state_colour(health_state) : LBCTL_DIM,
			checked ? health_state : "unchecked");
		if (share >= 0 && share <= 1)
			lbctl_table_addf(table, LBCTL_PLAIN, "%.2f%%", share * 100);
		else
			lbctl_table_add(table, LBCTL_PLAIN, NULL);
		lbctl_cell_value(
			table, LBCTL_PLAIN, json_object_get(backend, "counters"), "active_flows");
		lbctl_table_add(table, LBCTL_PLAIN, note);
		free(note);
		free(endpoint);
	}
	lbctl_table_print(table, stdout, indent, ctl->colour);
	lbctl_table_destroy(table);
}

enum lbctl_exit lbctl_backend_list_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	const char *service = lbctl_args_operand(args, 0);
	const json_t *backends;
	json_t *answer;
	char *path;
	enum lbctl_exit status;

	if (service == NULL)
		path = lbctl_text_copy("/v1/backends");
	else if ((status = lbctl_args_path(ctl, args, 1, "/v1/backends?service=%s", &path)) !=
		 LBCTL_OK)
		return status;
	status = lbctl_api_get(ctl, path, &answer);
	free(path);
	if (status != LBCTL_OK)
		return status;
	backends = json_object_get(answer, "backends");
	if (ctl->json) {
		lbctl_api_print(answer, false);
	} else {
		lbctl_api_check_dataplane(ctl, answer);
		if (json_array_size(backends) > 0)
			lbctl_view_backends(ctl, backends, answer, 0);
		else
			puts("no backends: lbctl backend add makes some");
	}
	json_decref(answer);
	return LBCTL_OK;
}

static enum lbctl_exit put_number(const struct lbctl *ctl, const struct lbctl_args *args,
	const char *option, uint64_t max, json_t *object)
{
	enum lbctl_exit status;
	uint64_t number = 0;

	if (lbctl_args_option(args, option) == NULL)
		return LBCTL_OK;
	status = lbctl_args_number(ctl, args, option, 0, max, &number);
	if (status == LBCTL_OK)
		json_object_set_new(
			object, option + strlen("--"), json_integer((json_int_t)number));
	return status;
}

static enum lbctl_exit put_endpoint(const struct lbctl *ctl, const char *text, json_t *object)
{
	char *address, *port;
	enum lbctl_exit status = lbctl_args_split_endpoint(ctl, text, true, &address, &port);
	uint64_t number;

	if (status != LBCTL_OK)
		return status;
	status = lbctl_args_put_text(ctl, object, "address", address);
	if (port != NULL && lbctl_text_parse_number(port, 1, 65535, &number) != 0)
		status = lbctl_error(
			ctl, LBCTL_USAGE, text, NULL, "port '%s' is not in 1..65535", port);
	else if (port != NULL)
		json_object_set_new(object, "port", json_integer((json_int_t)number));
	free(port);
	free(address);
	return status;
}

// What is no address is a host name; who did not mean that should hear of it now, not from events.
static void tell_host_name(const struct lbctl *ctl, const struct lbctl_args *args, const char *address)
{
	struct lb_addr addr;

	if (address == NULL || lb_addr_parse(address, &addr) == 0)
		return;
	if (strchr(address, '.') != NULL || lbctl_args_option(args, "--name") != NULL)
		lbctl_note(ctl, address, "a host name: the addresses that name servers tell become the backends");
	else
		lbctl_note(ctl, address, "taken for a host name: the addresses that name servers tell become the "
			"backends; to name an address: lbctl backend add %s ADDRESS:PORT --name %s",
			args->operands[0], address);
}

enum lbctl_exit lbctl_backend_add_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	const char *name = lbctl_args_option(args, "--name");
	json_t *body = json_object();
	char *path;
	enum lbctl_exit status = lbctl_args_path(ctl, args, 1, "/v1/services/%s/backends", &path);

	if (status == LBCTL_OK && name != NULL)
		status = lbctl_args_put_text(ctl, body, "name", name);
	if (status == LBCTL_OK)
		status = put_endpoint(ctl, args->operands[1], body);
	if (status == LBCTL_OK)
		status = put_number(ctl, args, "--weight", 256, body);
	if (status == LBCTL_OK)
		status = put_number(ctl, args, "--tier", 7, body);
	if (status == LBCTL_OK)
		status = lbctl_api_change(ctl, "POST", path, body);
	if (status == LBCTL_OK)
		tell_host_name(ctl, args, json_string_value(json_object_get(body, "address")));
	free(path);
	json_decref(body);
	return status;
}

#define BACKEND_PATH "/v1/services/%s/backends/%s"

enum lbctl_exit lbctl_backend_set_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	json_t *body = json_object();
	char *path;
	enum lbctl_exit status = lbctl_args_path(ctl, args, 2, BACKEND_PATH, &path);

	if (status == LBCTL_OK)
		status = lbctl_args_settings(ctl, args, 2, body);
	if (status == LBCTL_OK)
		status = lbctl_api_change(ctl, "PATCH", path, body);
	free(path);
	json_decref(body);
	return status;
}

enum lbctl_exit lbctl_backend_del_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	char *path;
	enum lbctl_exit status = lbctl_args_path(ctl, args, 2, BACKEND_PATH, &path);

	if (status == LBCTL_OK)
		status = lbctl_api_change(ctl, "DELETE", path, NULL);
	free(path);
	return status;
}

static enum lbctl_exit change_state(
	struct lbctl *ctl, const struct lbctl_args *args, const char *state)
{
	json_t *body = json_object();
	char *path;
	enum lbctl_exit status = lbctl_args_path(ctl, args, 2, BACKEND_PATH, &path);

	json_object_set_new(body, "state", json_string(state));
	if (status == LBCTL_OK)
		status = lbctl_api_change(ctl, "PATCH", path, body);
	free(path);
	json_decref(body);
	return status;
}

enum lbctl_exit lbctl_backend_enable_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	return change_state(ctl, args, "enabled");
}

enum lbctl_exit lbctl_backend_disable_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	return change_state(ctl, args, "disabled");
}

// The backend of @p name in the answer of /v1/services/NAME; NULL: it is gone.
static const json_t *find_backend(const json_t *answer, const char *name)
{
	const json_t *backend;
	size_t i;

	json_array_foreach (json_object_get(answer, "backends"), i, backend) {
		if (strcmp(lbctl_json_text(backend, "name"), name) == 0)
			return backend;
	}
	return NULL;
}

// What is known of a draining backend.
struct drain {
	json_int_t n_open, n_closing; // flows; -1: not known yet
	json_int_t in_pkts;           // from clients
	bool is_down;                 // nothing goes to it: its flows are over or elsewhere
	enum lbctl_exit away;         // LBCTL_UNREACHABLE, LBCTL_NO_DATAPLANE: nothing is known just now; else LBCTL_OK
};

static enum lbctl_exit tell_away(const struct lbctl *ctl, enum lbctl_exit away)
{
	if (away == LBCTL_NO_DATAPLANE)
		return lbctl_error(ctl, away, "data plane", "lbctl status shows why; the backend stays in drain",
			"down: how many flows are left is not known");
	return lbctl_error(ctl, away, ctl->socket_path, "look at lb-control; the backend stays in drain",
		"lb-control cannot be reached: how many flows are left is not known");
}

// One look at it. @return LBCTL_OK; or after a message.
static enum lbctl_exit poll_drain(
	const struct lbctl *ctl, const char *path, const char *name, struct drain *drain)
{
	json_t *answer;
	const json_t *backend, *counters;
	enum lbctl_exit status;

	*drain = (struct drain){.n_open = -1, .n_closing = -1, .in_pkts = -1};
	lbctl_api_set_quiet(true);
	status = lbctl_api_get(ctl, path, &answer);
	lbctl_api_set_quiet(false);
	if (status == LBCTL_FAILED) // say why
		status = lbctl_api_get(ctl, path, &answer);
	if (status == LBCTL_UNREACHABLE || status == LBCTL_NO_DATAPLANE) {
		drain->away = status;
		return LBCTL_OK;
	}
	if (status != LBCTL_OK)
		return status;
	backend = find_backend(answer, name);
	if (backend == NULL) {
		status = lbctl_error(
			ctl, LBCTL_FAILED, name, NULL, "was removed while it was draining");
	} else if (strcmp(lbctl_json_text(backend, "state"), "enabled") == 0) {
		status = lbctl_error(
			ctl, LBCTL_FAILED, name, NULL, "was enabled again while it was draining");
	} else if (strcmp(lbctl_json_text(answer, "dataplane"), "down") == 0) {
		drain->away = LBCTL_NO_DATAPLANE;
	} else if (strcmp(lbctl_json_text(answer, "dataplane"), "up") == 0 &&
		   strcmp(lbctl_json_text(backend, "effective"), "up") != 0) {
		counters = json_object_get(backend, "counters");
		drain->n_open = lbctl_json_integer(counters, "active_flows", -1);
		drain->n_closing = lbctl_json_integer(counters, "closing_flows", 0);
		drain->in_pkts = lbctl_json_integer(counters, "in_pkts", -1);
		drain->is_down = strcmp(lbctl_json_text(backend, "effective"), "down") == 0;
	}
	json_decref(answer);
	return status;
}

static enum lbctl_exit give_up(const struct lbctl *ctl, const char *name, const struct drain *drain)
{
	static const char hint[] = "wait again with the same command, or end them with lbctl flows flush";

	if (drain->away != LBCTL_OK)
		return tell_away(ctl, drain->away);
	if (drain->n_open < 0)
		return lbctl_error(ctl, LBCTL_FAILED, name, "lbctl backend list shows its state",
			"not draining yet when --wait ends");
	if (drain->n_closing > 0)
		return lbctl_error(ctl, LBCTL_FAILED, name, hint,
			"%" JSON_INTEGER_FORMAT " active flow%s left when --wait ends, and %" JSON_INTEGER_FORMAT
			" that %s closing", drain->n_open, drain->n_open == 1 ? " is" : "s are", drain->n_closing,
			drain->n_closing == 1 ? "is" : "are");
	return lbctl_error(ctl, LBCTL_FAILED, name, hint,
		"%" JSON_INTEGER_FORMAT " active flow%s left when --wait ends", drain->n_open,
		drain->n_open == 1 ? " is" : "s are");
}

// Whether nobody needs it any more. A client that has closed may still acknowledge what it is sent: those flows are
// over when no packet has come for a while.
static bool is_drained(const struct drain *drain, json_int_t *in_pkts, uint64_t *quiet_since_ns)
{
	uint64_t now_ns = lb_now_ns();

	if (drain->in_pkts != *in_pkts || *quiet_since_ns == 0) {
		*in_pkts = drain->in_pkts;
		*quiet_since_ns = now_ns;
	}
	if (drain->is_down)
		return true;
	return drain->n_open == 0 &&
	       (drain->n_closing == 0 || now_ns - *quiet_since_ns >= DRAIN_QUIET_NS);
}

// Once each time that something goes or comes back.
static void tell_turn(const struct lbctl *ctl, enum lbctl_exit away)
{
	if (away == LBCTL_UNREACHABLE)
		lbctl_note(ctl, ctl->socket_path, "waiting for lb-control to come back");
	else if (away == LBCTL_NO_DATAPLANE)
		lbctl_note(ctl, "data plane", "down: waiting for it to come back");
	else
		lbctl_note(ctl, "backend drain", "the wait goes on");
}

static enum lbctl_exit wait_drained(
	const struct lbctl *ctl, const struct lbctl_args *args, uint64_t wait_ms)
{
	const struct timespec pause = {.tv_nsec = DRAIN_POLL_MS * 1000000L};
	const uint64_t end_ns = lb_now_ns() + wait_ms * UINT64_C(1000000);
	const char *name = args->operands[1];
	struct drain drain = {.n_open = -1}, shown = {.n_open = -1};
	struct lbctl look = *ctl;
	json_int_t in_pkts = -1;
	uint64_t quiet_since_ns = 0;
	char *path;
	enum lbctl_exit status = lbctl_args_path(ctl, args, 1, "/v1/services/%s", &path);

	while (status == LBCTL_OK) {
		const enum lbctl_exit was_away = drain.away;
		const uint64_t now_ns = lb_now_ns();

		// an answer that does not come must not hold it beyond its time
		look.timeout_ms = now_ns < end_ns ? (unsigned)((end_ns - now_ns) / 1000000 + 1) : MIN_LOOK_MS;
		look.timeout_ms = look.timeout_ms < MIN_LOOK_MS ? MIN_LOOK_MS : look.timeout_ms;
		look.timeout_ms = look.timeout_ms > ctl->timeout_ms ? ctl->timeout_ms : look.timeout_ms;
		status = poll_drain(&look, path, name, &drain);
		if (status != LBCTL_OK || (drain.away == LBCTL_OK &&
						  is_drained(&drain, &in_pkts, &quiet_since_ns)))
			break;
		if (!ctl->json && drain.n_open >= 0 &&
			(drain.n_open != shown.n_open || drain.n_closing != shown.n_closing)) {
			printf("%" JSON_INTEGER_FORMAT " active flow%s left", drain.n_open,
				drain.n_open == 1 ? "" : "s");
			if (drain.n_closing > 0)
				printf(", %" JSON_INTEGER_FORMAT " closing", drain.n_closing);
			putchar('\n');
			fflush(stdout);
			shown = drain;
		}
		if (lb_now_ns() >= end_ns)
			status = give_up(ctl, name, &drain);
		else if (drain.away != was_away)
			tell_turn(ctl, drain.away);
		if (status == LBCTL_OK)
			nanosleep(&pause, NULL);
	}
	free(path);
	if (status == LBCTL_OK && !ctl->json)
		puts(drain.is_down ? "drained: it is down, no flow goes to it" :
			"drained: no flow is left");
	return status;
}

enum lbctl_exit lbctl_backend_drain_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	bool wait = lbctl_args_option(args, "--wait") != NULL;
	json_t *body, *answer = NULL;
	uint64_t wait_ms = 0;
	char *path;
	enum lbctl_exit status = lbctl_args_duration(ctl, args, "--wait", 0, &wait_ms);

	if (!wait || status != LBCTL_OK)
		return status != LBCTL_OK ? status : change_state(ctl, args, "drain");
	status = lbctl_args_path(ctl, args, 2, BACKEND_PATH, &path);
	if (status != LBCTL_OK)
		return status;
	body = json_pack("{s:s}", "state", "drain");
	status = lbctl_api_request(ctl, "PATCH", path, body, &answer);
	json_decref(body);
	free(path);
	// The document of --json is one: it is printed when the wait is over, with how that ended.
	if (status == LBCTL_OK && !ctl->json)
		status = lbctl_api_show_changes(ctl, answer);
	if (status == LBCTL_OK)
		status = wait_drained(ctl, args, wait_ms);
	if (answer != NULL && ctl->json) {
		json_object_set_new(answer, "drained", json_boolean(status == LBCTL_OK));
		lbctl_api_show_changes(ctl, answer);
	}
	json_decref(answer);
	return status;
}
