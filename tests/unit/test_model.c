/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The running state against a fake data plane that refuses what breaks the rules: after any change
 * it must hold what the config says, with no command refused and no moment in which packets would
 * be lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/mirror.h"
#include "control/model.h"
#include "control/push.h"
#include "control/ramp.h"
#include "control/state.h"
#include "control/store.h"
#include "control/sync.h"
#include "lb/log.h"
#include "tests/unit/fake_dp.h"

#define INSTANCE "test-model"
#define PATIENCE_NS UINT64_C(30000000000)
#define N_SLOTS 251

static bool in_namespace; /* a network of its own */
static struct event_base *base;
static struct lb_model *model;
static char *dir; /* region, state and config */
static char config_path[64];

#define WAIT(condition)                                          \
	do {                                                     \
		uint64_t give_up_ns = lb_now_ns() + PATIENCE_NS; \
		while (!(condition) && lb_now_ns() < give_up_ns) \
			event_base_loop(base, EVLOOP_ONCE);      \
		assert_true(condition);                          \
	} while (0)

/* Configs. */

static void append(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What the API tells; new reference. */
static json_t *events_json(const struct lb_events *of, uint64_t since, uint32_t limit)
{
	struct lb_writer out = {0};
	json_t *json;

	lb_events_write(of, since, limit, &out);
	json = json_loadb(out.text, out.len, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(json);
	lb_writer_fini(&out);
	return json;
}

static void append(char **text, const char *format, ...)
{
	size_t len = strlen(*text);
	va_list args;

	*text = realloc(*text, len + 400);
	assert_non_null(*text);
	va_start(args, format);
	vsnprintf(*text + len, 400, format, args);
	va_end(args);
}

static void add_service(char **text, const char *name, unsigned vip, const char *more)
{
	append(text,
		"  - {name: %s, vip: 203.0.113.%u, port: 80, protocol: tcp, mode: nat, table_size: "
		"%d, "
		"health_check: {type: none}%s, backends: [",
		name, vip, N_SLOTS, more);
}

static struct lb_config *parse(const char *text)
{
	struct lb_config *config = NULL;
	struct lb_config_error error;

	if (lb_config_parse("test", text, strlen(text), &config, &error) < 0)
		fail_msg("%s: %s\n%s", error.where, error.message, text);
	return config;
}

static void write_config(const char *text)
{
	FILE *file = fopen(config_path, "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

/* 2 services with 3 backends each; a static gateway, since nobody here has the neighbours. */
static const char basic[] =
	"gateway: {mac: 02:00:00:00:00:01, port: 0}\n"
	"services:\n"
	"  - {name: web, vip: 203.0.113.1, port: 80, protocol: tcp, mode: nat, table_size: 251,\n"
	"     health_check: {type: none}, backends: [\n"
	"      {name: a, address: 10.0.0.1, port: 80, weight: 5}, {name: b, address: 10.0.0.2, "
	"port: 80, weight: 3},\n"
	"      {name: c, address: 10.0.0.3, port: 80, backup: true}]}\n"
	"  - {name: dns, vip: 203.0.113.2, port: 53, protocol: udp, mode: nat, table_size: 251,\n"
	"     health_check: {type: none}, backends: [{name: a, address: 10.0.0.1, port: 53}]}\n";

/* @p text with @p what once replaced; valid until the next call. */
static const char *strreplaced(const char *text, const char *what, const char *with)
{
	static char out[4096];
	const char *at = strstr(text, what);

	assert_non_null(at);
	snprintf(out, sizeof(out), "%.*s%s%s", (int)(at - text), text, with, at + strlen(what));
	return out;
}

static void start_model(void)
{
	struct lb_config_error error = {0};

	assert_int_equal(lb_model_create(base, INSTANCE, dir, config_path, &model), 0);
	if (lb_state_start(model, &error) < 0)
		fail_msg("%s: %s", error.where, error.message);
}

static int setup(void **state)
{
	(void)state;
	dir = fake_dp_shm_dir();
	snprintf(config_path, sizeof(config_path), "%s/config.yaml", dir);
	base = event_base_new();
	assert_non_null(base);
	write_config(basic);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lb_model_destroy(model);
	model = NULL;
	event_base_free(base);
	fake_dp_remove_dir(dir);
	return 0;
}

static int apply(struct lb_config *config)
{
	struct lb_config_error error = {0};
	int rc = lb_model_apply(model, config, "test", &error);

	if (rc < 0)
		lb_config_free(config);
	return rc;
}

static int set_backend(const char *service, const char *backend, const char *json_text)
{
	struct lb_config *config = lb_config_clone(model->config);
	json_t *json = json_loads(json_text, 0, NULL);
	struct lb_config_error error = {0};

	assert_non_null(json);
	if (lb_config_backend_set(config, service, backend, json, &error) < 0)
		fail_msg("%s: %s", error.where, error.message);
	json_decref(json);
	return apply(config);
}

static void on_settled(void *arg)
{
	*(bool *)arg = true;
}

static void settle(void)
{
	bool settled = false;
	struct lb_settle_waiter waiter = {.settled = on_settled, .arg = &settled};

	lb_sync_wait_settled(model, &waiter);
	WAIT(settled);
}

static struct fake_dp *start_synced(void)
{
	struct fake_dp *fake = fake_dp_start(INSTANCE, 1);

	start_model();
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	settle();
	return fake;
}

static bool in_table(const struct fake_service *service, uint16_t id)
{
	for (uint32_t i = 0; i < service->n_slots; i++)
		if (service->slots[i] == id)
			return true;
	return false;
}

/* The fake holds exactly what the model wants, and nothing went wrong on the way. */
static void check_agreement(struct fake_dp *fake)
{
	unsigned n_services = 0, n_backends = 0;

	pthread_mutex_lock(&fake->lock);
	assert_int_equal(fake->n_refused, 0);
	assert_int_equal(fake->n_losses, 0);
	for (size_t i = 0; i < model->n_services; i++) {
		const struct lb_service *service = model->services[i];
		const struct fake_service *theirs = &fake->services[service->id];

		assert_true(theirs->in_use);
		assert_memory_equal(
			&theirs->msg.key, &service->config->key, sizeof(theirs->msg.key));
		assert_int_equal(theirs->msg.idle_timeout_ms, service->config->idle_timeout_ms);
		assert_non_null(theirs->slots);
		assert_int_equal(theirs->n_slots, service->config->table_size);
		assert_int_equal(theirs->version, service->table_version);
		assert_int_equal(service->live_version, service->table_version);
		for (size_t j = 0; j < service->n_backends; j++) {
			const struct lb_backend *backend = service->backends[j];
			const struct fake_backend *other = &fake->backends[backend->id];

			assert_true(other->in_use);
			assert_int_equal(other->msg.service, service->id);
			assert_int_equal(other->msg.state, backend->effective);
			assert_int_equal(other->msg.weight, backend->config->weight);
			assert_memory_equal(&other->msg.addr, &backend->config->endpoint.addr, 16);
			assert_int_equal(other->msg.port_be, backend->config->endpoint.port_be);
			assert_int_not_equal(other->msg.nexthop, LB_NEXTHOP_NONE);
			if (backend->effective != LB_BACKEND_UP || backend->config->weight == 0)
				assert_false(in_table(theirs, backend->id));
			n_backends++;
		}
	}
	for (unsigned i = 0; i < LB_MAX_SERVICES; i++)
		n_services += fake->services[i].in_use;
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		n_backends -= fake->backends[i].in_use;
	pthread_mutex_unlock(&fake->lock);
	assert_int_equal(n_services, model->n_services);
	assert_int_equal(n_backends, 0);
	assert_int_equal(model->n_gone, 0);
	for (unsigned i = 0; i < LB_GONE_BUCKETS; i++)
		assert_null(LIST_FIRST(&model->gone_endpoints[i]));
}

static struct lb_backend *backend_of(const char *service, const char *name)
{
	struct lb_backend *backend = lb_model_backend(lb_model_service(model, service), name);

	assert_non_null(backend);
	return backend;
}

static void on_reloaded(void *arg, int rc, const struct lb_config_error *error)
{
	assert_true(rc == 0 || error->message[0] != '\0');
	*(int *)arg = rc;
}

static void reload(int wanted)
{
	int rc = 1;

	lb_state_reload(model, on_reloaded, &rc);
	WAIT(rc != 1);
	assert_int_equal(rc, wanted);
}

static size_t n_default_routes(struct fake_dp *fake)
{
	size_t n = 0;

	pthread_mutex_lock(&fake->lock);
	for (size_t i = 0; i < fake->n_routes; i++)
		n += fake->routes[i].msg.length == 0;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

/* Number of events of @p kind about @p subject that led to state @p to. */
static size_t n_events(const char *kind, const char *subject, const char *to)
{
	json_t *json = events_json(model->events, 0, LB_EVENTS_CAPACITY), *event;
	size_t i, n = 0;

	json_array_foreach (json_object_get(json, "events"), i, event) {
		const char *state = json_string_value(json_object_get(event, "to"));

		n += strcmp(json_string_value(json_object_get(event, "kind")), kind) == 0 &&
		     strcmp(json_string_value(json_object_get(event, "subject")), subject) == 0 &&
		     state != NULL && strcmp(state, to) == 0;
	}
	json_decref(json);
	return n;
}

/* Tests. */

static size_t n_sent(struct fake_dp *fake, const struct lb_addr *addr, uint16_t index, uint16_t count)
{
	size_t n = 0;

	pthread_mutex_lock(&fake->lock);
	for (size_t i = 0; i < fake->n_log; i++)
		n += fake->log[i].op == LB_OP_LOCAL_SET && fake->log[i].local.index == index &&
		     fake->log[i].local.count == count &&
		     lb_addr_equal(&fake->log[i].local.addr, addr);
	pthread_mutex_unlock(&fake->lock);
	return n;
}

static void local_addresses_are_told_when_they_change(void **state)
{
	static const struct lb_addr none;
	struct fake_dp *fake = start_synced();
	struct lb_config *config;
	struct lb_addr addrs[2];

	(void)state;
	assert_int_equal(n_sent(fake, &none, 0, 0), 1); // the sync's: there are none
	assert_int_equal(lb_addr_parse("192.0.2.10", &addrs[0]), 0);
	assert_int_equal(lb_addr_parse("2001:db8::10", &addrs[1]), 0);
	config = lb_config_clone(model->config);
	config->local_addresses = malloc(sizeof(addrs));
	memcpy(config->local_addresses, addrs, sizeof(addrs));
	config->n_local_addresses = 2;
	assert_int_equal(apply(config), 0);
	settle();
	assert_int_equal(n_sent(fake, &addrs[0], 0, 2), 1);
	assert_int_equal(n_sent(fake, &addrs[1], 1, 2), 1);
	assert_int_equal(apply(lb_config_clone(model->config)), 0); // nothing new
	settle();
	assert_int_equal(n_sent(fake, &addrs[0], 0, 2), 1);
	lb_dp_resync(model->dp);
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	settle();
	assert_int_equal(n_sent(fake, &addrs[0], 0, 2), 2);
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

static void a_start_tells_everything(void **state)
{
	struct fake_dp *fake = start_synced();
	size_t secret, nexthop, route, service, backend, objects, table, end;

	(void)state;
	check_agreement(fake);
	secret = fake_dp_find(fake, 0, LB_OP_SECRET_SET);
	nexthop = fake_dp_find(fake, 0, LB_OP_NEXTHOP_SET);
	route = fake_dp_find(fake, 0, LB_OP_ROUTE_SET);
	service = fake_dp_find(fake, 0, LB_OP_SERVICE_SET);
	backend = fake_dp_find(fake, 0, LB_OP_BACKEND_SET);
	objects = fake_dp_find(fake, 0, LB_OP_SYNC_OBJECTS);
	table = fake_dp_find(fake, 0, LB_OP_TABLE_PUBLISH);
	end = fake_dp_find(fake, 0, LB_OP_SYNC_END);
	assert_int_equal(fake_dp_find(fake, objects, LB_OP_BACKEND_SET), SIZE_MAX);
	assert_true(secret < nexthop && nexthop < route && route < service && service < backend &&
		    backend < objects && objects < table && table < end && end != SIZE_MAX);
	assert_memory_equal(fake->secret, model->secret, 16);
	assert_int_equal(n_default_routes(fake), 2);
	fake_dp_stop(fake, true);
}

static void one_that_leaves_is_out_of_the_table_first(void **state)
{
	static const char *const changes[] = {
		"{\"state\": \"drain\"}", "{\"state\": \"disabled\"}"};
	struct fake_dp *fake = start_synced();

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		size_t from, table, backend;

		assert_int_equal(set_backend("web", "a", "{\"state\": \"enabled\"}"), 0);
		settle();
		from = fake->n_log;
		assert_int_equal(set_backend("web", "a", changes[i]), 0);
		settle();
		table = fake_dp_find(fake, from, LB_OP_TABLE_PUBLISH);
		backend = fake_dp_find(fake, from, LB_OP_BACKEND_SET);
		assert_true(table < backend && backend != SIZE_MAX);
		check_agreement(fake);
	}
	// and one that comes is there before the table names it
	{
		size_t from = fake->n_log, backend, table;

		assert_int_equal(set_backend("web", "a", "{\"state\": \"enabled\"}"), 0);
		settle();
		backend = fake_dp_find(fake, from, LB_OP_BACKEND_SET);
		table = fake_dp_find(fake, from, LB_OP_TABLE_PUBLISH);
		assert_true(backend < table && table != SIZE_MAX);
	}
	fake_dp_stop(fake, true);
}

static void the_backup_takes_over_and_gives_back(void **state)
{
	struct fake_dp *fake = start_synced();
	const struct fake_service *service = &fake->services[lb_model_service(model, "web")->id];
	uint16_t backup = backend_of("web", "c")->id;

	(void)state;
	assert_false(in_table(service, backup));
	assert_int_equal(set_backend("web", "a", "{\"state\": \"disabled\"}"), 0);
	assert_int_equal(set_backend("web", "b", "{\"weight\": 0}"), 0);
	settle();
	assert_true(in_table(service, backup));
	assert_int_equal(lb_model_service(model, "web")->active_tier, 1);
	check_agreement(fake);
	assert_int_equal(set_backend("web", "b", "{\"weight\": 1}"), 0);
	settle();
	assert_false(in_table(service, backup));
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

/* Two services whose backends change places at once: each endpoint belongs to another until that
 * lets go. */
static void endpoints_may_change_places(void **state)
{
	static const char before[] = "gateway: {mac: 02:00:00:00:00:01, port: 0}\nservices:\n"
				     "  - {name: x, vip: 203.0.113.1, port: 80, protocol: tcp, "
				     "mode: nat, table_size: 251, health_check: "
				     "{type: none}, backends: [{name: a, address: 10.0.0.1, port: "
				     "80}, {name: b, address: 10.0.0.2, port: 80}]}\n"
				     "  - {name: y, vip: 203.0.113.2, port: 80, protocol: tcp, "
				     "mode: nat, table_size: 251, health_check: "
				     "{type: none}, backends: [{name: a, address: 10.0.0.3, port: "
				     "80}, {name: b, address: 10.0.0.4, port: 80}]}\n";
	static const char after[] = "gateway: {mac: 02:00:00:00:00:01, port: 0}\nservices:\n"
				    "  - {name: y, vip: 203.0.113.1, port: 80, protocol: tcp, "
				    "mode: nat, table_size: 251, health_check: "
				    "{type: none}, backends: [{name: a, address: 10.0.0.3, port: "
				    "80}, {name: b, address: 10.0.0.2, port: 80}]}\n"
				    "  - {name: x, vip: 203.0.113.2, port: 80, protocol: tcp, "
				    "mode: nat, table_size: 251, health_check: "
				    "{type: none}, backends: [{name: b, address: 10.0.0.1, port: "
				    "80}, {name: c, address: 10.0.0.4, port: 80}]}\n";
	struct fake_dp *fake;

	(void)state;
	write_config(before);
	fake = start_synced();
	check_agreement(fake);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(apply(parse(i % 2 ? before : after)), 0);
		settle();
		check_agreement(fake);
	}
	fake_dp_stop(fake, true);
}

/* A random config over a small world, so that everything collides with everything. */
static char *random_config(void)
{
	char *text = strdup("gateway: {mac: 02:00:00:00:00:01, port: 0}\nservices:\n");
	unsigned n_services = 1 + (unsigned)random() % 5;
	bool vip_used[8] = {false}, endpoint_used[20] = {false};

	for (unsigned s = 0; s < n_services; s++) {
		unsigned vip = (unsigned)random() % 8, n_backends = (unsigned)random() % 6, n = 0;
		char name[16], more[80];

		if (vip_used[vip])
			continue;
		vip_used[vip] = true;
		snprintf(name, sizeof(name), "s%u", s);
		snprintf(more, sizeof(more), ", min_healthy: %ld, idle_timeout: %lds",
			1 + random() % 3, 1 + random() % 3);
		add_service(&text, name, vip + 1, more);
		for (unsigned b = 0; b <= n_backends; b++) {
			static const char *const states[] = {
				"enabled", "enabled", "enabled", "drain", "disabled"};
			unsigned endpoint = (unsigned)random() % 20;

			if (endpoint_used[endpoint])
				continue;
			endpoint_used[endpoint] = true;
			append(&text,
				"%s{name: b%u, address: 10.0.0.%u, port: 80, weight: %ld, tier: "
				"%ld, state: %s}",
				n++ ? ", " : "", b, endpoint + 1, random() % 4, random() % 3,
				states[random() % 5]);
		}
		if (n == 0) // an empty list is an error: one that nobody else can have
			append(&text, "{name: only, address: 10.0.1.%u, port: 80}", vip + 1);
		append(&text, "]}\n");
	}
	return text;
}

/* Every endpoint goes to the next service, at once: each waits for the one that had it. */
static void many_endpoints_may_go_round(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	for (unsigned turn = 0; turn < 3; turn++) {
		char *text = strdup("");

		append(&text, "gateway: {mac: 02:00:00:00:00:01, port: 0}\nservices:\n");
		for (unsigned i = 0; i < 30; i++) {
			char name[16];

			snprintf(name, sizeof(name), "s-%u", i);
			add_service(&text, name, i + 1, "");
			for (unsigned j = 0; j < 8; j++)
				append(&text, "%s{name: b%u, address: 10.0.%u.%u, port: 80}", j > 0 ? ", " : "", j,
					(i + turn) % 30, j + 1);
			append(&text, "]}\n");
		}
		assert_int_equal(apply(parse(text)), 0);
		free(text);
		settle();
		check_agreement(fake);
	}
	assert_int_equal(model->n_refusals, 0);
	fake_dp_stop(fake, true);
}

static void any_config_may_follow_any_other(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	srandom(7);
	for (int i = 0; i < 400; i++) {
		char *text = random_config();

		assert_int_equal(apply(parse(text)), 0);
		free(text);
		// several in one loop turn, or while commands of the one before are on their way
		if (random() % 3 == 0)
			event_base_loop(base, EVLOOP_NONBLOCK);
		if (random() % 3 != 0)
			continue;
		settle();
		check_agreement(fake);
	}
	settle();
	check_agreement(fake);
	assert_int_equal(model->n_refusals, 0);
	fake_dp_stop(fake, true);
}

static void a_restarted_data_plane_gets_everything_again(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	srandom(8);
	for (int i = 0; i < 3; i++) {
		char *text = random_config();

		fake_dp_stop(fake, i % 2);
		WAIT(lb_dp_state(model->dp) == LB_DP_DOWN);
		assert_int_equal(apply(parse(text)), 0); // accepted while it is down
		free(text);
		settle();
		fake = fake_dp_start(INSTANCE, 1);
		WAIT(lb_dp_state(model->dp) == LB_DP_UP);
		settle();
		check_agreement(fake);
	}
	fake_dp_stop(fake, true);
}

static unsigned n_fills_to_fail;

int __real_lb_table_fill(struct lb_table *table, uint16_t *words);
int __wrap_lb_table_fill(struct lb_table *table, uint16_t *words);
int __wrap_lb_table_fill(struct lb_table *table, uint16_t *words)
{
	if (n_fills_to_fail == 0)
		return __real_lb_table_fill(table, words);
	n_fills_to_fail--;
	return -ENOMEM;
}

/* One table of a sync that cannot be made costs that table, not the connection. */
static void a_table_that_fails_in_a_sync_is_tried_again(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	fake_dp_stop(fake, true);
	WAIT(lb_dp_state(model->dp) == LB_DP_DOWN);
	settle();
	n_fills_to_fail = 1;
	fake = fake_dp_start(INSTANCE, 1);
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	assert_int_equal(n_fills_to_fail, 0);
	assert_int_equal(n_events("dataplane_state", "dataplane", "down"), 1);
	assert_int_equal(model->n_refusals, 1);
	WAIT(model->services[0]->live_version == model->services[0]->table_version &&
		model->services[1]->live_version == model->services[1]->table_version);
	settle();
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

static void services_that_had_flows_get_their_tables_first(void **state)
{
	struct fake_dp *fake = start_synced();
	uint16_t web = lb_model_service(model, "web")->id, dns = lb_model_service(model, "dns")->id;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint16_t first = i == 0 ? dns : web;
		size_t table;

		fake->map.shm->workers[0].backends[backend_of("dns", "a")->id].active_flows = i == 0 ? 3 : 0;
		fake->map.shm->workers[0].backends[backend_of("web", "b")->id].active_flows = i == 0 ? 2 : 1;
		fake_dp_stop(fake, true);
		WAIT(lb_dp_state(model->dp) == LB_DP_DOWN);
		fake = fake_dp_start(INSTANCE, 1);
		WAIT(lb_dp_state(model->dp) == LB_DP_UP);
		settle();
		table = fake_dp_find(fake, 0, LB_OP_TABLE_PUBLISH);
		assert_int_equal(fake->log[table].table.service, first);
		check_agreement(fake);
	}
	fake_dp_stop(fake, true);
}

static void a_restarted_daemon_keeps_ids_and_removes_the_rest(void **state)
{
	struct fake_dp *fake = start_synced();
	uint16_t id = backend_of("web", "b")->id, service = lb_model_service(model, "web")->id;
	char *text = random_config();

	(void)state;
	assert_int_equal(set_backend("web", "a", "{\"weight\": 9}"), 0);
	settle();
	lb_model_destroy(model);
	start_model();
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	settle();
	assert_int_equal(model->n_resumed, 1);
	assert_int_equal(backend_of("web", "b")->id, id);
	assert_int_equal(lb_model_service(model, "web")->id, service);
	assert_int_equal(backend_of("web", "a")->config->weight, 9);
	check_agreement(fake);
	// another file while it was away: what the data plane has beyond it goes
	lb_model_destroy(model);
	write_config(text);
	free(text);
	start_model();
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	settle();
	assert_int_equal(model->n_resumed, 0);
	assert_null(lb_model_service(model, "web"));
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

/* Without its state a daemon uses other ids for the same endpoints: refused at first, then put
 * right. */
static void a_daemon_without_its_state_gets_there_too(void **state)
{
	struct fake_dp *fake = start_synced();
	char path[80];

	(void)state;
	lb_model_destroy(model);
	snprintf(path, sizeof(path), "%s/" LB_STATE_FILE, dir);
	assert_int_equal(unlink(path), 0);
	start_model();
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	WAIT(fake_dp_count(fake, LB_OP_SYNC_END) >= 3 && lb_dp_n_pending(model->dp) == 0);
	settle();
	fake->n_refused = fake->n_losses = 0;
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

static void a_refusal_is_told_and_tried_again(void **state)
{
	struct fake_dp *fake = start_synced();
	json_t *events;
	char *text;

	(void)state;
	fake->refuse_status = -ENOSPC;
	fake->refuse_op = LB_OP_BACKEND_SET;
	fake->refuse_count = 1;
	assert_int_equal(set_backend("web", "b", "{\"weight\": 200}"), 0);
	settle();
	assert_int_equal(model->n_refusals, 1);
	assert_string_equal(model->refusals[0].subject, "backend web/b");
	assert_string_equal(model->refusals[0].op, "BACKEND_SET");
	assert_int_equal(model->refusals[0].status, -ENOSPC);
	events = events_json(model->events, 0, 1000);
	text = json_dumps(events, 0);
	assert_non_null(strstr(text, "dataplane_refused"));
	free(text);
	json_decref(events);
	WAIT(fake->backends[backend_of("web", "b")->id].msg.weight == 200);
	settle();
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

static void health_comes_from_the_mirror_after_a_restart(void **state)
{
	struct fake_dp *fake;
	struct lb_shm_mirror *mirror;

	(void)state;
	write_config("gateway: {mac: 02:00:00:00:00:01, port: 0}\n"
		     "services:\n"
		     "  - {name: web, vip: 203.0.113.1, port: 80, protocol: tcp, mode: nat, "
		     "table_size: 251,\n"
		     "     health_check: {type: tcp, interval: 1h, timeout: 1h}, backends: [\n"
		     "      {name: a, address: 192.0.2.1, port: 80}, {name: b, address: 192.0.2.2, "
		     "port: 80},\n"
		     "      {name: c, address: 192.0.2.3, port: 80}]}\n");
	fake = start_synced();
	// nothing is known at first
	assert_int_equal(backend_of("web", "a")->effective, LB_BACKEND_DOWN);
	backend_of("web", "a")->health = LB_HEALTH_UP;
	lb_mirror_write(backend_of("web", "a"));
	backend_of("web", "b")->health = LB_HEALTH_UP;
	lb_mirror_write(backend_of("web", "b"));
	mirror = &fake->map.shm->mirror[backend_of("web", "b")->id];
	lb_model_destroy(model);
	mirror->health ^= 3; // a damaged entry is not believed
	start_model();
	assert_int_equal(backend_of("web", "a")->effective, LB_BACKEND_UP);
	assert_int_equal(backend_of("web", "b")->effective, LB_BACKEND_DOWN);
	assert_int_equal(backend_of("web", "c")->effective, LB_BACKEND_DOWN);
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	settle();
	check_agreement(fake);
	assert_true(in_table(
		&fake->services[lb_model_service(model, "web")->id], backend_of("web", "a")->id));
	fake_dp_stop(fake, true);
}

static void a_secret_does_not_change_under_a_running_data_plane(void **state)
{
	static const char secret[] = "hash_secret: 000102030405060708090a0b0c0d0e0f\n";
	char text[sizeof(secret) + sizeof(basic)];
	struct fake_dp *fake = start_synced();
	uint8_t before[16];

	(void)state;
	memcpy(before, model->secret, 16);
	snprintf(text, sizeof(text), "%s%s", secret, basic);
	assert_int_equal(apply(parse(text)), -EBUSY);
	assert_memory_equal(model->secret, before, 16);
	assert_int_equal(fake_dp_count(fake, LB_OP_SECRET_SET), 1);
	fake_dp_stop(fake, true);
	WAIT(lb_dp_state(model->dp) == LB_DP_DOWN);
	assert_int_equal(apply(parse(text)), 0);
	assert_int_equal(model->secret[15], 15);
	// without one in the config it is the last one that a data plane took, for the flows that are kept
	assert_int_equal(apply(parse(basic)), 0);
	assert_memory_equal(model->secret, before, 16);
	assert_int_equal(apply(parse(text)), 0);
	fake = fake_dp_start(INSTANCE, 2);
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	assert_int_equal(apply(parse(basic)), 0);
	assert_int_equal(model->secret[15], 15);
	lb_model_destroy(model);
	start_model();
	assert_int_equal(model->secret[15], 15);
	fake_dp_stop(fake, true);
}

/* The daemon starts anew on a file with this in front of it. */
static void restart_with(const char *before)
{
	char text[200 + sizeof(basic)];

	snprintf(text, sizeof(text), "%s%s", before, basic);
	write_config(text);
	lb_model_destroy(model);
	start_model();
}

/* The file got a secret that the data plane does not take: without it, all is as it was. */
static void a_refused_secret_can_be_taken_out(void **state)
{
	static const char secret[] = "hash_secret: 000102030405060708090a0b0c0d0e0f\n";
	static const char third[] = "hash_secret: 000102030405060708090a0b0c0d0eff\n";
	char text[sizeof(third) + sizeof(basic)];
	struct fake_dp *fake;
	uint8_t before[16];
	size_t n_sent;

	(void)state;
	write_config(basic);
	fake = start_synced();
	fake->keep_secret = true;
	memcpy(before, model->secret, 16);
	for (unsigned how = 0; how < 3; how++) {

		for (unsigned i = 0; i < 2; i++) { // also when it was saved more than once
			restart_with(secret);
			WAIT(model->secret_refused && lb_dp_state(model->dp) == LB_DP_UP);
			assert_int_equal(model->secret[15], 15);
			// to say it again and again would not change it
			assert_int_equal(model->n_refusals, 1);
			assert_false(event_pending(model->resync, EV_TIMEOUT, NULL));
			n_sent = fake_dp_count(fake, LB_OP_SECRET_SET);
			lb_dp_resync(model->dp);
			WAIT(fake_dp_count(fake, LB_OP_SECRET_SET) > n_sent);
			settle();
			assert_int_equal(model->n_refusals, 1);
		}
		snprintf(text, sizeof(text), "%s%s", third, basic);
		assert_int_equal(apply(parse(text)), -EBUSY);
		assert_int_equal(model->secret[15], 15);
		if (how == 0)
			restart_with("");
		else if (how == 2)
			assert_int_equal(apply(parse(basic)), 0);
		else {
			write_config(basic);
			reload(0);
		}
		assert_memory_equal(model->secret, before, 16);
		WAIT(!model->secret_refused && lb_dp_state(model->dp) == LB_DP_UP);
		settle();
		assert_false(model->secret_refused);
		assert_memory_equal(fake->secret, before, 16);
	}
	fake_dp_stop(fake, true);
}

static void a_failed_save_changes_nothing(void **state)
{
	struct fake_dp *fake = start_synced();
	char path[80];
	uint32_t n_ids = lb_ids_count(model->backend_ids);
	size_t n_log = fake->n_log;

	(void)state;
	snprintf(path, sizeof(path), "%s/" LB_STATE_FILE ".new", dir);
	assert_int_equal(mkdir(path, 0700), 0); // cannot be written, also not by root
	assert_true(set_backend("web", "b", "{\"weight\": 77}") < 0);
	assert_true(apply(parse("services:\n  - {name: n, vip: 203.0.113.9, port: 1, protocol: "
				"tcp, mode: nat, "
				"backends: [{name: n, address: 10.9.9.9, port: 1}]}\n")) < 0);
	assert_int_equal(backend_of("web", "b")->config->weight, 3);
	assert_int_equal(lb_ids_count(model->backend_ids), n_ids);
	settle();
	assert_int_equal(fake->n_log, n_log);
	rmdir(path);
	assert_int_equal(set_backend("web", "b", "{\"weight\": 77}"), 0);
	settle();
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

static void a_corrupt_state_file_is_set_aside(void **state)
{
	char path[80], aside[100];
	FILE *file;

	(void)state;
	snprintf(path, sizeof(path), "%s/" LB_STATE_FILE, dir);
	snprintf(aside, sizeof(aside), "%s.corrupt", path);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs("fulcrum-state 1 0123456789abcdef\n{\"config\": {}}", file);
	fclose(file);
	start_model();
	assert_int_equal(model->n_services, 2);
	assert_int_equal(access(aside, F_OK), 0);
}

static void hostile_events_are_bounded(void **state)
{
	struct fake_dp *fake = start_synced();
	uint64_t before = lb_events_last(model->events);

	(void)state;
	srandom(9);
	for (unsigned i = 0; i < 2000; i++) {
		struct lb_msg event;

		for (unsigned word = 0; word < sizeof(event) / 4; word++)
			((uint32_t *)&event)[word] = (uint32_t)random();
		event.op = (uint16_t)(random() % 6);
		fake_dp_event(fake, 0, &event);
		if (i % 200 == 0)
			WAIT(fake->map.shm->events[0].head == fake->map.shm->events[0].tail);
	}
	WAIT(fake->map.shm->events[0].head == fake->map.shm->events[0].tail);
	assert_in_range(lb_events_last(model->events) - before, 1, 500);
	fake_dp_stop(fake, true);
}

static void change_service(const char *json_text);

static void set_turns(struct fake_dp *fake, unsigned worker, uint64_t n)
{
	__atomic_store_n(&fake->map.shm->workers[worker].flow.tracking_changes, n, __ATOMIC_RELAXED);
}

/* One worker of two that is short of room is enough; told by an event too. */
static void tracking_is_what_the_workers_do(void **state)
{
	struct fake_dp *fake = fake_dp_start(INSTANCE, 2);
	struct lb_msg event = {.op = LB_EVENT_TABLE_PRESSURE, .pressure = {.n_used = 9, .n_max = 10, .on = 1}};
	struct lb_service *service;

	(void)state;
	start_model();
	service = lb_model_service(model, "web");
	assert_int_equal(lb_model_tracking_now(service), LB_TRACKING_ALL);
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	settle();
	assert_int_equal(lb_model_tracking_now(service), LB_TRACKING_ALL);
	set_turns(fake, 0, 2);
	assert_int_equal(lb_model_tracking_now(service), LB_TRACKING_ALL);
	set_turns(fake, 1, 7);
	fake_dp_event(fake, 1, &event);
	assert_int_equal(lb_model_tracking_now(service), LB_TRACKING_CHANGED);
	WAIT(n_events("table_pressure", "worker 1", "changed") == 1);
	set_turns(fake, 1, 8);
	assert_int_equal(lb_model_tracking_now(service), LB_TRACKING_ALL);
	change_service("{\"tracking\": \"changed\"}");
	assert_int_equal(lb_model_tracking_now(lb_model_service(model, "web")), LB_TRACKING_CHANGED);
	fake_dp_stop(fake, true);
}

static void a_vip_that_is_the_hosts_own_is_told(void **state)
{
	struct lb_addr vip;
	struct fake_dp *fake;

	(void)state;
	if (!in_namespace)
		skip();
	assert_int_equal(system("ip link set lo up && ip address add 203.0.113.1/32 dev lo"), 0);
	fake = start_synced();
	WAIT(n_events("vip_local", "service web", "local") == 1);
	assert_int_equal(system("ip address add 203.0.113.2/32 dev lo"), 0);
	WAIT(n_events("vip_local", "service dns", "local") == 1);
	assert_int_equal(system("ip address del 203.0.113.1/32 dev lo"), 0);
	WAIT(n_events("vip_local", "service web", "ok") == 1);
	// the VIP of one that comes by config
	assert_int_equal(system("ip address add 203.0.113.7/32 dev lo"), 0);
	assert_int_equal(lb_addr_parse("203.0.113.7", &vip), 0);
	WAIT(lb_nexthops_is_own(model->nexthops, &vip) && lb_nexthops_is_ready(model->nexthops));
	event_base_loop(base, EVLOOP_NONBLOCK);
	assert_int_equal(
		apply(parse("gateway: {mac: 02:00:00:00:00:01, port: 0}\nservices:\n"
			    "  - {name: new, vip: 203.0.113.7, port: 80, protocol: tcp, mode: nat, "
			    "table_size: 251, health_check: "
			    "{type: none}, backends: [{name: a, address: 10.0.0.1, port: 80}]}\n")),
		0);
	WAIT(n_events("vip_local", "service new", "local") == 1);
	settle();
	check_agreement(fake); // it is served all the same
	assert_int_equal(n_events("vip_local", "service web", "local"), 1);
	assert_int_equal(n_events("vip_local", "service dns", "ok"), 0);
	assert_int_equal(system("ip address flush dev lo"), 0);
	fake_dp_stop(fake, true);
}

/* Health as a check would say it. */
static void set_health(const char *service, const char *name, enum lb_health_state health)
{
	struct lb_backend *backend = backend_of(service, name);

	backend->health = health;
	lb_model_update_backend(backend, "test");
}

static size_t n_slots_of(struct fake_dp *fake, const char *name)
{
	const struct fake_service *service = &fake->services[lb_model_service(model, "web")->id];
	uint16_t id = backend_of("web", name)->id;
	size_t n = 0;

	pthread_mutex_lock(&fake->lock);
	for (uint32_t i = 0; i < service->n_slots; i++)
		n += service->slots[i] == id;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

static unsigned state_of(struct fake_dp *fake, const char *name)
{
	return fake->backends[backend_of("web", name)->id].msg.state;
}

static void change_service(const char *json_text)
{
	struct lb_config *config = lb_config_clone(model->config);
	json_t *json = json_loads(json_text, 0, NULL);
	struct lb_config_error error = {0};

	assert_non_null(json);
	if (lb_config_service_set(config, "web", json, &error) < 0)
		fail_msg("%s: %s", error.where, error.message);
	json_decref(json);
	assert_int_equal(apply(config), 0);
	settle();
}

/* What they share is what they had: it is neither compared nor sent again. */
static void a_change_leaves_other_services_alone(void **state)
{
	const struct lb_config_service *dns_config, *web_config;
	struct lb_service *web, *dns;
	struct lb_config_service *swap;
	struct lb_config *config;
	struct lb_config_error error;
	json_t *more = json_loads("{\"name\": \"new\", \"vip\": \"203.0.113.9\", \"port\": 80, "
				  "\"protocol\": \"tcp\"}", 0, NULL);
	char *yaml;

	(void)state;
	start_synced();
	web = lb_model_service(model, "web");
	dns = lb_model_service(model, "dns");
	web_config = web->config;
	dns_config = dns->config;
	assert_int_equal(set_backend("web", "a", "{\"weight\": 4}"), 0);
	assert_true(web->dirty);
	assert_false(dns->dirty);
	assert_ptr_equal(dns->config, dns_config);
	assert_ptr_not_equal(web->config, web_config);
	settle();
	// nor does a whole config, in another order and with a service more
	web_config = web->config;
	yaml = lb_config_to_yaml(model->config);
	config = parse(yaml);
	free(yaml);
	swap = config->services[0];
	assert_ptr_not_equal(swap, web_config);
	config->services[0] = config->services[1];
	config->services[1] = swap;
	assert_int_equal(lb_config_service_add(config, more, &error), 0);
	json_decref(more);
	assert_int_equal(apply(config), 0);
	assert_false(web->dirty);
	assert_false(dns->dirty);
	assert_true(lb_model_service(model, "new")->dirty);
	assert_ptr_equal(model->services[0], dns);
	assert_ptr_equal(model->services[1], web);
	assert_ptr_equal(web->config, web_config);
	settle();
}

static void without_anybody_healthy_all_may_be_used(void **state)
{
	struct fake_dp *fake = start_synced();

	(void)state;
	for (const char *name = "a"; *name <= 'c'; name = *name == 'a' ? "b" : *name == 'b' ? "c" : "d")
		set_health("web", name, LB_HEALTH_DOWN);
	settle();
	assert_int_equal(n_slots_of(fake, "a") + n_slots_of(fake, "b") + n_slots_of(fake, "c"), 0);
	change_service("{\"on_empty\": \"last_resort\"}");
	assert_int_equal(n_slots_of(fake, "a") + n_slots_of(fake, "b"), N_SLOTS);
	assert_int_equal(state_of(fake, "a"), LB_BACKEND_UP);
	assert_int_equal(state_of(fake, "c"), LB_BACKEND_DOWN); // a backup
	assert_int_equal(n_events("service_panic", "service web", "last_resort"), 1);
	assert_int_equal(lb_model_service(model, "web")->health_ignored, LB_HEALTH_LAST_RESORT);
	set_health("web", "a", LB_HEALTH_UP);
	settle();
	assert_int_equal(n_slots_of(fake, "a"), N_SLOTS);
	assert_int_equal(state_of(fake, "b"), LB_BACKEND_DOWN);
	assert_int_equal(n_events("service_panic", "service web", "off"), 1);
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

static void below_the_threshold_health_is_ignored(void **state)
{
	struct fake_dp *fake = start_synced();
	size_t n_a = n_slots_of(fake, "a");

	(void)state;
	change_service("{\"panic_threshold\": 50}");
	set_health("web", "a", LB_HEALTH_DOWN); // 3 of 8 are left
	settle();
	assert_int_equal(n_slots_of(fake, "a"), n_a);
	assert_int_equal(state_of(fake, "a"), LB_BACKEND_UP);
	assert_int_equal(n_events("service_panic", "service web", "panic"), 1);
	lb_dp_resync(model->dp);
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	settle();
	assert_int_equal(state_of(fake, "a"), LB_BACKEND_UP);
	change_service("{\"panic_threshold\": 30}");
	assert_int_equal(n_slots_of(fake, "a"), 0);
	assert_int_equal(state_of(fake, "a"), LB_BACKEND_DOWN);
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

static void who_comes_back_starts_slowly(void **state)
{
	struct fake_dp *fake = start_synced();
	size_t n_full = n_slots_of(fake, "a"), n, n_before;

	(void)state;
	change_service("{\"slow_start\": \"1s\"}");
	lb_dp_resync(model->dp);
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	settle();
	assert_int_equal(n_events("slow_start", "backend web/a", "ramp"), 0); // no start of anything
	set_health("web", "a", LB_HEALTH_DOWN);
	settle();
	set_health("web", "a", LB_HEALTH_UP);
	settle();
	n_before = n_slots_of(fake, "a");
	assert_in_range(n_before, 1, n_full - 1);
	assert_int_equal(n_events("slow_start", "backend web/a", "ramp"), 1);
	while (n_events("slow_start", "backend web/a", "full") == 0) {
		event_base_loop(base, EVLOOP_ONCE);
		n = n_slots_of(fake, "a");
		assert_true(n >= n_before);
		n_before = n;
	}
	settle();
	assert_int_equal(n_slots_of(fake, "a"), n_full);
	assert_int_equal(lb_model_weight_percent(backend_of("web", "a")), 100);
	// one that is drained and comes back was never cold; one that fails meanwhile begins anew
	assert_int_equal(set_backend("web", "a", "{\"state\": \"drain\"}"), 0);
	assert_int_equal(set_backend("web", "a", "{\"state\": \"enabled\"}"), 0);
	settle();
	assert_int_equal(n_events("slow_start", "backend web/a", "ramp"), 1);
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

static void a_backend_may_ask_for_less(void **state)
{
	struct fake_dp *fake = start_synced();
	size_t n_full = n_slots_of(fake, "a");

	(void)state;
	lb_model_set_agent_weight(backend_of("web", "a"), 50, "test");
	settle();
	assert_in_range(n_slots_of(fake, "a"), n_full / 2, n_full * 5 / 6); // 2.5 : 3
	lb_model_set_agent_weight(backend_of("web", "a"), 0, "test");
	settle();
	assert_int_equal(n_slots_of(fake, "a"), 0);
	assert_int_equal(state_of(fake, "a"), LB_BACKEND_UP); // its flows go on
	lb_model_set_agent_weight(backend_of("web", "a"), 1000, "test");
	settle();
	assert_int_equal(n_slots_of(fake, "a"), n_full);
	assert_int_equal(n_events("backend_weight", "backend web/a", "100 %"), 1);
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

/* A backend in the middle of its slow start, another with less weight by its own wish: neither is seen to move. */
static void weights_come_from_the_mirror_after_a_restart(void **state)
{
	static const char config[] =
		"gateway: {mac: 02:00:00:00:00:01, port: 0}\n"
		"services:\n"
		"  - {name: web, vip: 203.0.113.1, port: 80, protocol: tcp, table_size: 251,\n"
		"     slow_start: 1h, agent: {port: 9, interval: 1h, timeout: 1h},\n"
		"     health_check: {type: none}, backends: [\n"
		"      {name: a, address: 192.0.2.1, port: 80}, {name: b, address: 192.0.2.2, port: 80},\n"
		"      {name: c, address: 192.0.2.3, port: 80}, {name: d, address: 192.0.2.4, port: 80}]}\n";
	struct fake_dp *fake;
	struct lb_backend *b;
	size_t n_a, n_b;

	(void)state;
	write_config(config);
	fake = start_synced();
	lb_ramp_resume(backend_of("web", "a"), 55);
	lb_mirror_write(backend_of("web", "a"));
	b = backend_of("web", "b");
	b->weight_by = LB_WEIGHT_BY_AGENT;
	lb_model_set_agent_weight(b, 30, "test");
	backend_of("web", "c")->agent_admin = LB_AGENT_DRAIN;
	backend_of("web", "d")->agent_oper = LB_AGENT_DOWN;
	lb_model_update_backend(backend_of("web", "c"), "test");
	lb_model_update_backend(backend_of("web", "d"), "test");
	lb_push_touch(b->service);
	settle();
	n_a = n_slots_of(fake, "a");
	n_b = n_slots_of(fake, "b");
	lb_model_destroy(model);
	start_model();
	assert_int_equal(lb_model_weight_percent(backend_of("web", "a")), 55);
	assert_int_equal(lb_model_weight_percent(backend_of("web", "b")), 30);
	assert_int_equal(backend_of("web", "c")->effective, LB_BACKEND_DRAIN);
	assert_int_equal(backend_of("web", "d")->effective, LB_BACKEND_DOWN);
	WAIT(lb_dp_state(model->dp) == LB_DP_UP);
	settle();
	check_agreement(fake);
	assert_int_equal(n_slots_of(fake, "a"), n_a);
	assert_int_equal(n_slots_of(fake, "b"), n_b);
	assert_int_equal(n_slots_of(fake, "c") + n_slots_of(fake, "d"), 0);
	// what an agent said is forgotten with the agent
	lb_model_destroy(model);
	write_config(strreplaced(config, "agent: {port: 9, interval: 1h, timeout: 1h}", "min_healthy: 1"));
	start_model();
	assert_int_equal(lb_model_weight_percent(backend_of("web", "a")), 55);
	assert_int_equal(lb_model_weight_percent(backend_of("web", "b")), 100);
	assert_int_equal(backend_of("web", "c")->effective, LB_BACKEND_UP);
	assert_int_equal(backend_of("web", "d")->effective, LB_BACKEND_UP);
	fake_dp_stop(fake, true);
}

static void another_scheduler_is_another_table(void **state)
{
	static const char *const schedulers[] = {"wrr", "ring", "lc", "source", "p2c", "rr", "wlc", "maglev"};
	struct fake_dp *fake = start_synced();

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		char json[64];

		snprintf(json, sizeof(json), "{\"scheduler\": \"%s\"}", schedulers[i]);
		change_service(json);
		check_agreement(fake);
	}
	change_service("{\"max_load\": 1.25}");
	check_agreement(fake);
	fake_dp_stop(fake, true);
}

/* A service with so many backends. */
static struct lb_config *fleet_config(unsigned n)
{
	char *text = strdup("gateway: {mac: 02:00:00:00:00:01, port: 0}\nservices:\n");
	struct lb_config *config;

	append(&text, "  - {name: web, vip: 203.0.113.1, port: 80, protocol: tcp, mode: nat,"
		      " table_size: 4093, health_check: {type: none}, backends: [");
	for (unsigned i = 0; i < n; i++)
		append(&text, "%s{name: n%u, address: 10.0.0.%u, port: 80}", i > 0 ? ", " : "", i, i + 1);
	append(&text, "]}\n");
	config = parse(text);
	free(text);
	return config;
}

static void moves_that_nothing_asks_for_go_in_steps(void **state)
{
	struct fake_dp *fake = start_synced();
	struct lb_service *service;
	uint32_t n_waiting;
	size_t n_published;

	(void)state;
	assert_int_equal(apply(fleet_config(40)), 0);
	settle();
	service = lb_model_service(model, "web");
	assert_int_equal(apply(fleet_config(41)), 0);
	settle();
	check_agreement(fake);
	n_waiting = lb_table_n_waiting(service->table);
	assert_true(n_waiting > 4);
	assert_true(n_slots_of(fake, "n40") >= 4093 / 41);
	assert_true(service->stage_at_ns > lb_now_ns());
	n_published = fake_dp_count(fake, LB_OP_TABLE_PUBLISH);
	lb_push_tick(model); // not yet
	settle();
	assert_int_equal(lb_table_n_waiting(service->table), n_waiting);
	assert_int_equal(fake_dp_count(fake, LB_OP_TABLE_PUBLISH), n_published);
	while (service->stage_at_ns != 0) {
		service->stage_at_ns = 1; // as if the time had come
		lb_push_tick(model);
		settle();
		assert_true(lb_table_n_waiting(service->table) < n_waiting);
		n_waiting = lb_table_n_waiting(service->table);
		check_agreement(fake);
	}
	assert_int_equal(n_waiting, 0);
	fake_dp_stop(fake, true);
}

static struct lb_config *without_b(void)
{
	return parse(strreplaced(basic, "{name: b, address: 10.0.0.2, port: 80, weight: 3},\n", ""));
}

/* So its connections go on, whether the data plane has lost it yet or not. */
static void a_backend_that_comes_back_is_the_one_it_was(void **state)
{
	struct fake_dp *fake = start_synced();
	uint16_t id = backend_of("web", "b")->id;
	size_t n_deleted;

	(void)state;
	assert_int_equal(apply(without_b()), 0);
	settle();
	assert_int_equal(fake_dp_count(fake, LB_OP_BACKEND_DEL), 1);
	assert_int_equal(apply(parse(basic)), 0);
	assert_int_equal(backend_of("web", "b")->id, id);
	settle();
	check_agreement(fake);
	n_deleted = fake_dp_count(fake, LB_OP_BACKEND_DEL);
	assert_int_equal(apply(without_b()), 0);
	assert_int_equal(apply(parse(basic)), 0);
	assert_int_equal(backend_of("web", "b")->id, id);
	settle();
	check_agreement(fake);
	assert_int_equal(fake_dp_count(fake, LB_OP_BACKEND_DEL), n_deleted);
	fake_dp_stop(fake, true);
}

/* @p n backends, others for each @p set. */
static struct lb_config *with_many(unsigned set, unsigned n)
{
	char *text = malloc(200 + (size_t)n * 60);
	size_t len;
	struct lb_config *config;

	assert_non_null(text);
	len = (size_t)sprintf(text, "services:\n  - {name: s, vip: 203.0.113.9, port: 80, protocol: tcp, mode: dsr, "
				    "health_check: {type: none}, backends: [\n");
	for (unsigned i = 0; i < n; i++)
		len += (size_t)sprintf(text + len, "{name: b%u, address: 10.%u.%u.%u},\n", i, set, i / 250, i % 250 + 1);
	strcpy(text + len, "]}\n");
	config = parse(text);
	free(text);
	return config;
}

static int apply_with(struct lb_config *config, struct lb_config_error *error)
{
	int rc = lb_model_apply(model, config, "test", error);

	if (rc < 0)
		lb_config_free(config);
	return rc;
}

static void a_file_that_is_wrong_or_missing_changes_nothing(void **state)
{
	(void)state;
	start_model();
	write_config("services: 5\n");
	reload(-EINVAL);
	unlink(config_path);
	reload(-ENOENT);
	assert_int_equal(model->n_services, 2);
	write_config("services: none\n");
	reload(0);
	assert_int_equal(model->n_services, 0);
}

static void ids_of_backends_that_went_are_not_anybodys(void **state)
{
	enum { N = 30000 };
	struct lb_config_error error = {0};
	uint16_t id;

	(void)state;
	start_model();
	assert_int_equal(apply(with_many(1, N)), 0);
	id = backend_of("s", "b7")->id;
	assert_int_equal(apply(with_many(2, N)), 0);
	// more than are left, and than would be left
	assert_int_equal(apply_with(with_many(3, N), &error), -EAGAIN);
	assert_int_equal(error.retry_s, 0); // nobody is there who could say
	assert_non_null(strstr(error.message, "30000 backends are new, and there are ids for 5"));
	assert_int_equal(apply_with(with_many(3, N + 6000), &error), -ENOSPC);
	assert_non_null(strstr(error.message, "replace at most 35535 at a time"));
	assert_int_equal(lb_ids_count(model->backend_ids), N);
	// back again: that goes, at once
	assert_int_equal(apply(with_many(1, N)), 0);
	assert_int_equal(backend_of("s", "b7")->id, id);
	assert_int_equal(lb_ids_count(model->backend_ids), N);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_start_tells_everything),
		TEST(a_change_leaves_other_services_alone),
		TEST(local_addresses_are_told_when_they_change),
		TEST(one_that_leaves_is_out_of_the_table_first),
		TEST(the_backup_takes_over_and_gives_back),
		TEST(without_anybody_healthy_all_may_be_used),
		TEST(below_the_threshold_health_is_ignored),
		TEST(who_comes_back_starts_slowly),
		TEST(a_backend_may_ask_for_less),
		TEST(another_scheduler_is_another_table),
		TEST(moves_that_nothing_asks_for_go_in_steps),
		TEST(endpoints_may_change_places),
		TEST(many_endpoints_may_go_round),
		TEST(any_config_may_follow_any_other),
		TEST(a_restarted_data_plane_gets_everything_again),
		TEST(a_table_that_fails_in_a_sync_is_tried_again),
		TEST(services_that_had_flows_get_their_tables_first),
		TEST(a_restarted_daemon_keeps_ids_and_removes_the_rest),
		TEST(a_daemon_without_its_state_gets_there_too),
		TEST(a_refusal_is_told_and_tried_again),
		TEST(health_comes_from_the_mirror_after_a_restart),
		TEST(weights_come_from_the_mirror_after_a_restart),
		TEST(a_secret_does_not_change_under_a_running_data_plane),
		TEST(a_refused_secret_can_be_taken_out),
		TEST(a_backend_that_comes_back_is_the_one_it_was),
		TEST(a_file_that_is_wrong_or_missing_changes_nothing),
		TEST(ids_of_backends_that_went_are_not_anybodys),
		TEST(a_failed_save_changes_nothing),
		TEST(a_corrupt_state_file_is_set_aside),
		TEST(hostile_events_are_bounded),
		TEST(tracking_is_what_the_workers_do),
		TEST(a_vip_that_is_the_hosts_own_is_told),
	};

	lb_log_set_level(getenv("LB_TEST_VERBOSE") != NULL ? LB_LOG_DEBUG : LB_LOG_ERROR);
	in_namespace =
		unshare(CLONE_NEWNET) == 0; // of root: the machine's addresses do not matter then
	return cmocka_run_group_tests(tests, NULL, NULL);
}
