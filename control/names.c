/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/names.h"

#include <event2/event_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include "control/dns.h"
#include "control/mem.h"
#include "lb/shm.h"

#define NS_PER_MS UINT64_C(1000000)
#define RETRY_MAX_MS 60000u
#define SPREAD_PER_NAME_US 500u // first questions of many names
#define MAX_CAUSE 300u

struct name {
	TAILQ_ENTRY(name) link;
	struct lb_names *names;
	char *text;
	bool kept, started;
	struct event due;
	struct lb_dns_query *query; /* NULL: none under way */
	enum lb_name_state state;
	char reason[64];
	struct lb_name_address *addresses;
	size_t n_addresses;
	uint64_t last_ns, next_ns;
	uint32_t retry_ms; /* the last pause after a failure; 0: there was none */
};

struct lb_names {
	struct event_base *base;
	struct lb_events *events;
	lb_names_changed_fn *changed;
	void *arg;
	struct lb_dns *dns;
	struct event tell; /* active when `changed` is to be called */
	uint32_t min_ms, max_ms;
	TAILQ_HEAD(, name) list;
	size_t n;
};

static void on_due(evutil_socket_t fd, short what, void *arg);

const char *lb_name_state_name(enum lb_name_state state)
{
	static const char *const names[] = {"unknown", "resolved", "failing"};

	return (unsigned)state <= LB_NAME_FAILING ? names[state] : "?";
}

static struct name *find(const struct lb_names *names, const char *text)
{
	struct name *name;

	TAILQ_FOREACH (name, &names->list, link)
		if (strcasecmp(name->text, text) == 0)
			return name;
	return NULL;
}

static struct name *add(struct lb_names *names, const char *text)
{
	struct name *name = lb_xcalloc(1, sizeof(*name));

	name->names = names;
	name->text = lb_xstrdup(text);
	evtimer_assign(&name->due, names->base, on_due, name);
	TAILQ_INSERT_TAIL(&names->list, name, link);
	names->n++;
	return name;
}

static void drop(struct name *name)
{
	if (name->query != NULL)
		lb_dns_cancel(name->query);
	event_del(&name->due);
	TAILQ_REMOVE(&name->names->list, name, link);
	name->names->n--;
	free(name->addresses);
	free(name->text);
	free(name);
}

/* ---- what is known ---- */

static void tell(struct lb_names *names)
{
	event_active(&names->tell, EV_TIMEOUT, 0);
}

static void set_state(struct name *name, enum lb_name_state state, const char *reason)
{
	char subject[LB_CONFIG_HOST_MAX + 8];

	if (state != name->state || strcmp(reason, name->reason) != 0) {
		snprintf(subject, sizeof(subject), "name %s", name->text);
		lb_events_add(name->names->events, "name", subject, lb_name_state_name(name->state),
			lb_name_state_name(state), reason[0] != '\0' ? "%s%s" : NULL, reason,
			state == LB_NAME_FAILING && name->n_addresses > 0 ?
				": what is known stays" : "");
	}
	name->state = state;
	snprintf(name->reason, sizeof(name->reason), "%s", reason);
}

struct change {
	char text[MAX_CAUSE];
	size_t len;
	unsigned n;
};

static void note(struct change *change, char sign, const struct lb_addr *addr)
{
	char text[LB_ADDR_STRLEN];

	change->n++;
	if (change->len + LB_ADDR_STRLEN + 3 < MAX_CAUSE)
		change->len += (size_t)snprintf(change->text + change->len, MAX_CAUSE - change->len,
			"%s%c%s", change->len > 0 ? " " : "", sign, lb_addr_format(addr, text));
}

static struct lb_name_address *find_address(struct name *name, const struct lb_addr *addr)
{
	for (size_t i = 0; i < name->n_addresses; i++)
		if (lb_addr_equal(&name->addresses[i].addr, addr))
			return &name->addresses[i];
	return NULL;
}

static void add_address(struct name *name, const struct lb_addr *addr, uint64_t since_ns, bool gone)
{
	name->addresses = lb_xrealloc(
		name->addresses, name->n_addresses + 1, sizeof(*name->addresses));
	name->addresses[name->n_addresses++] =
		(struct lb_name_address){.addr = *addr, .since_ns = since_ns, .gone = gone};
}

static bool contains(const struct lb_dns_answer *answer, const struct lb_addr *addr)
{
	for (size_t i = 0; i < answer->n; i++)
		if (lb_addr_equal(&answer->addrs[i], addr))
			return true;
	return false;
}

/* One family was answered, maybe with nothing: let what is known be that. */
static void take_family(
	struct name *name, const struct lb_dns_answer *answer, bool is_ipv4, struct change *change)
{
	uint64_t now_ns = lb_realtime_ns();

	for (size_t i = 0; i < name->n_addresses; i++) {
		struct lb_name_address *known = &name->addresses[i];
		bool gone = !contains(answer, &known->addr);

		if (lb_addr_is_ipv4(&known->addr) != is_ipv4 || known->gone == gone)
			continue;
		known->gone = gone;
		known->since_ns = now_ns;
		note(change, gone ? '-' : '+', &known->addr);
	}
	for (size_t i = 0; i < answer->n; i++) {
		if (find_address(name, &answer->addrs[i]) != NULL ||
			!lb_addr_is_usable(&answer->addrs[i]) ||
			name->n_addresses >= LB_NAMES_MAX_ADDRESSES)
			continue;
		add_address(name, &answer->addrs[i], now_ns, false);
		note(change, '+', &answer->addrs[i]);
	}
}

/* ---- asking ---- */

static void ask_in(struct name *name, uint64_t wait_ms)
{
	struct timeval wait = {(time_t)(wait_ms / 1000), (suseconds_t)(wait_ms % 1000 * 1000)};

	name->next_ns = lb_realtime_ns() + wait_ms * NS_PER_MS;
	event_add(&name->due, &wait);
}

static void ask_again_soon(struct name *name)
{
	uint32_t min_ms = name->names->min_ms, max_ms = name->names->max_ms;

	max_ms = max_ms < RETRY_MAX_MS ? max_ms : RETRY_MAX_MS < min_ms ? min_ms : RETRY_MAX_MS;
	name->retry_ms = name->retry_ms != 0 ? 2 * name->retry_ms : min_ms;
	if (name->retry_ms > max_ms)
		name->retry_ms = max_ms;
	ask_in(name, name->retry_ms);
}

static bool is_answered(const struct lb_dns_answer *answer)
{
	return answer->result != LB_DNS_FAILED;
}

/*
 * An answer without any address, be it NXDOMAIN, is more often an accident (a zone half loaded, a
 * resolver behind the wrong door) than a wish to have no backends: that is said by the config.
 */
static void on_answers(void *arg, const struct lb_dns_answer answers[2])
{
	struct name *name = arg;
	const struct lb_dns_answer *failed = !is_answered(&answers[0]) ? &answers[0] : &answers[1];
	struct change change = {.len = 0};
	char subject[LB_CONFIG_HOST_MAX + 8], reason[64];
	uint64_t ttl_ms = UINT64_MAX;

	name->query = NULL;
	if (answers[0].n == 0 && answers[1].n == 0) {
		set_state(name, LB_NAME_FAILING,
			is_answered(failed) ? answers[0].reason : failed->reason);
		ask_again_soon(name);
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (!is_answered(&answers[i]))
			continue;
		take_family(name, &answers[i], i == 0, &change);
		if (answers[i].n > 0 && answers[i].ttl_s * UINT64_C(1000) < ttl_ms)
			ttl_ms = answers[i].ttl_s * UINT64_C(1000);
	}
	name->last_ns = lb_realtime_ns();
	snprintf(reason, sizeof(reason), "%s: %s", failed == &answers[0] ? "A" : "AAAA",
		failed->reason);
	set_state(name, is_answered(failed) ? LB_NAME_RESOLVED : LB_NAME_FAILING,
		is_answered(failed) ? "" : reason);
	if (change.n > 0) {
		snprintf(subject, sizeof(subject), "name %s", name->text);
		lb_events_add(name->names->events, "name_addresses", subject, NULL, NULL, "%s",
			change.text);
		tell(name->names);
	}
	if (!is_answered(failed)) {
		ask_again_soon(name);
		return;
	}
	name->retry_ms = 0;
	ttl_ms = ttl_ms < name->names->min_ms ? name->names->min_ms : ttl_ms;
	ask_in(name, ttl_ms > name->names->max_ms ? name->names->max_ms : ttl_ms);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
	struct name *name = arg;

	(void)fd, (void)what;
	name->next_ns = 0;
	name->query = lb_dns_ask(name->names->dns, name->text, on_answers, name);
	if (name->query == NULL)
		ask_again_soon(name);
}

static void on_tell(evutil_socket_t fd, short what, void *arg)
{
	struct lb_names *names = arg;

	(void)fd, (void)what;
	names->changed(names->arg);
}

/* ---- what is public ---- */

int lb_names_create(struct event_base *base, struct lb_events *events, lb_names_changed_fn *changed,
	void *arg, struct lb_names **out)
{
	struct lb_names *names = lb_xcalloc(1, sizeof(*names));
	int rc = lb_dns_create(base, &names->dns);

	if (rc < 0) {
		free(names);
		return rc;
	}
	names->base = base;
	names->events = events;
	names->changed = changed;
	names->arg = arg;
	TAILQ_INIT(&names->list);
	evtimer_assign(&names->tell, base, on_tell, names);
	*out = names;
	return 0;
}

void lb_names_destroy(struct lb_names *names)
{
	if (names == NULL)
		return;
	while (!TAILQ_EMPTY(&names->list))
		drop(TAILQ_FIRST(&names->list));
	event_del(&names->tell);
	lb_dns_destroy(names->dns);
	free(names);
}

static void mark(struct lb_names *names, const struct lb_config *config)
{
	for (size_t i = 0; i < config->n_services; i++) {
		for (size_t j = 0; j < config->services[i]->n_backends; j++) {
			const struct lb_config_backend *backend = &config->services[i]->backends[j];
			struct name *name;

			if (!backend->is_host)
				continue;
			name = find(names, backend->address);
			if (name == NULL)
				name = add(names, backend->address);
			name->kept = true;
		}
	}
}

int lb_names_add(struct lb_names *names, const struct lb_config *config)
{
	mark(names, config);
	return 0;
}

void lb_names_adopt(struct lb_names *names, const struct lb_config *config)
{
	bool other_servers = lb_dns_set_servers(names->dns, config->resolvers, config->n_resolvers);
	struct name *name, *next;
	uint64_t wait_us = 0;

	names->min_ms = config->resolve_min_ms;
	names->max_ms = config->resolve_max_ms;
	TAILQ_FOREACH (name, &names->list, link)
		name->kept = false;
	mark(names, config);
	for (name = TAILQ_FIRST(&names->list); name != NULL; name = next) {
		next = TAILQ_NEXT(name, link);
		if (!name->kept) {
			drop(name);
			continue;
		}
		if (name->started && !other_servers)
			continue;
		name->started = true;
		if (name->query == NULL)
			ask_in(name, wait_us / 1000);
		wait_us += SPREAD_PER_NAME_US;
	}
}

static void fill_info(const struct name *name, struct lb_name_info *info)
{
	*info = (struct lb_name_info){
		.name = name->text,
		.state = name->state,
		.reason = name->reason,
		.addresses = name->addresses,
		.n_addresses = name->n_addresses,
		.last_ns = name->last_ns,
		.next_ns = name->next_ns,
	};
}

bool lb_names_lookup(const struct lb_names *names, const char *text, struct lb_name_info *info)
{
	const struct name *name = find(names, text);

	if (name == NULL)
		return false;
	fill_info(name, info);
	return true;
}

bool lb_names_is_empty(const struct lb_names *names)
{
	return TAILQ_EMPTY(&names->list);
}

void lb_names_each(
	const struct lb_names *names, void (*fn)(void *arg, const struct lb_name_info *info), void *arg)
{
	struct lb_name_info info;
	const struct name *name;

	TAILQ_FOREACH (name, &names->list, link) {
		fill_info(name, &info);
		fn(arg, &info);
	}
}

void lb_names_mark_busy(struct lb_names *names, const char *text, const struct lb_addr *addr)
{
	struct name *name = find(names, text);
	struct lb_name_address *address = name != NULL ? find_address(name, addr) : NULL;

	if (address != NULL)
		address->busy = true;
}

void lb_names_sweep(struct lb_names *names, uint64_t linger_ns)
{
	uint64_t now_ns = lb_realtime_ns();
	struct name *name;
	bool swept = false;

	TAILQ_FOREACH (name, &names->list, link) {
		for (size_t i = name->n_addresses; i-- > 0;) {
			struct lb_name_address *address = &name->addresses[i];

			if (address->gone && !address->busy &&
				now_ns > address->since_ns + linger_ns) {
				memmove(address, address + 1,
					(--name->n_addresses - i) * sizeof(*address));
				swept = true;
				continue;
			}
			address->busy = false;
		}
	}
	if (swept)
		tell(names);
}

/* ---- over restarts ---- */

json_t *lb_names_to_json(const struct lb_names *names)
{
	json_t *json = json_object();
	const struct name *name;
	char text[LB_ADDR_STRLEN];

	TAILQ_FOREACH (name, &names->list, link) {
		json_t *list = json_array();

		for (size_t i = 0; i < name->n_addresses; i++) {
			const struct lb_name_address *address = &name->addresses[i];

			json_array_append_new(list,
				json_pack("{s:s, s:I}", "address",
					lb_addr_format(&address->addr, text), "gone_ns",
					address->gone ? (json_int_t)address->since_ns :
						(json_int_t)0));
		}
		json_object_set_new(json, name->text, list);
	}
	return json;
}

static void read_address(struct name *name, const json_t *json)
{
	const char *text = json_string_value(json_object_get(json, "address"));
	json_int_t gone_ns = json_integer_value(json_object_get(json, "gone_ns"));
	struct lb_addr addr;

	if (text == NULL || lb_addr_parse(text, &addr) != 0 || !lb_addr_is_usable(&addr) ||
		find_address(name, &addr) != NULL || name->n_addresses >= LB_NAMES_MAX_ADDRESSES)
		return;
	add_address(name, &addr, gone_ns > 0 ? (uint64_t)gone_ns : lb_realtime_ns(), gone_ns > 0);
}

void lb_names_from_json(struct lb_names *names, const json_t *json)
{
	const char *text;
	json_t *list, *address;
	size_t i;

	json_object_foreach ((json_t *)json, text, list) {
		struct name *name;

		if (strlen(text) > LB_CONFIG_HOST_MAX || find(names, text) != NULL)
			continue;
		name = add(names, text);
		json_array_foreach (list, i, address)
			read_address(name, address);
	}
}
