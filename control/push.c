/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/push.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "control/counters.h"
#include "control/mem.h"
#include "control/state.h"
#include "control/sync.h"
#include "lb/log.h"
#include "lb/stage.h"

static bool is_connected(const struct lb_model *model)
{
	return lb_dp_state(model->dp) != LB_DP_DOWN;
}

void lb_push_touch(struct lb_service *service)
{
	service->dirty = true;
	event_active(service->model->flush, EV_TIMEOUT, 0);
}

/* What the data plane is to be told. */

static void service_msg(const struct lb_service *service, struct lb_msg *msg)
{
	const struct lb_config_service *config = service->config;

	*msg = (struct lb_msg){
		.op = LB_OP_SERVICE_SET,
		.service =
			{
				.key = service->key,
				.id = service->id,
				.mode = (uint8_t)config->mode,
				.on_empty = (uint8_t)config->on_empty,
				.tracking = (uint8_t)config->tracking,
				.scheduler = (uint8_t)config->scheduler,
				.gue_port_be = htons(config->gue_port),
				.idle_timeout_ms = config->idle_timeout_ms,
				.client_address = (uint8_t)config->client_address,
				.mss = lb_mode_has_mss(config->mode, service->key.proto)
					? config->mss : (uint16_t)LB_MSS_NONE,
			},
	};
}

/* With health ignored, who is not up serves all the same. */
static enum lb_backend_state wanted_state(const struct lb_backend *backend)
{
	if (backend->service->health_ignored != LB_HEALTH_HEEDED && backend->eligible)
		return LB_BACKEND_UP;
	return backend->effective;
}

static void backend_msg(const struct lb_backend *backend, struct lb_msg *msg)
{
	*msg = (struct lb_msg){
		.op = LB_OP_BACKEND_SET,
		.backend =
			{
				.addr = backend->endpoint.addr,
				.port_be = backend->endpoint.port_be,
				.id = backend->id,
				.service = backend->service->id,
				.nexthop = backend->nexthop != NULL ? backend->nexthop->id
								    : LB_NEXTHOP_NONE,
				.state = (uint8_t)wanted_state(backend),
				.weight = backend->config->weight,
			},
	};
}

static void send_service(struct lb_service *service)
{
	struct lb_msg msg;

	service_msg(service, &msg);
	if (service->sent && memcmp(&service->sent_msg, &msg.service, sizeof(msg.service)) == 0)
		return;
	if (lb_dp_send(service->model->dp, &msg, NULL, NULL) == 0) {
		service->sent = true;
		service->sent_msg = msg.service;
	}
}

static void send_backend(struct lb_backend *backend)
{
	struct lb_msg msg;

	backend_msg(backend, &msg);
	if (backend->sent && memcmp(&backend->sent_msg, &msg.backend, sizeof(msg.backend)) == 0)
		return;
	if (lb_dp_send(backend->service->model->dp, &msg, NULL, NULL) == 0) {
		backend->sent = true;
		backend->sent_msg = msg.backend;
	}
}

/* Backends that are to go. */

static uint32_t bucket_of(const struct lb_endpoint *endpoint)
{
	return lb_hash_bytes(&endpoint->addr, sizeof(endpoint->addr), endpoint->port_be) % LB_GONE_BUCKETS;
}

static void gone_add(struct lb_backend *backend)
{
	struct lb_model *model = backend->service->model;

	TAILQ_INSERT_TAIL(&backend->service->gone, backend, gone_link);
	LIST_INSERT_HEAD(&model->gone_endpoints[bucket_of(&backend->endpoint)], backend, endpoint_link);
	model->n_gone++;
}

static void gone_del(struct lb_backend *backend)
{
	TAILQ_REMOVE(&backend->service->gone, backend, gone_link);
	LIST_REMOVE(backend, endpoint_link);
	backend->service->model->n_gone--;
	free(backend);
}

/* Whether one of them still has @p backend's endpoint at the data plane. */
static bool is_blocked(const struct lb_backend *backend)
{
	const struct lb_model *model = backend->service->model;
	const struct lb_backend *gone;

	if (!lb_mode_owns_endpoints(backend->service->mode))
		return false;
	LIST_FOREACH (gone, &model->gone_endpoints[bucket_of(&backend->endpoint)], endpoint_link)
		if (lb_mode_owns_endpoints(gone->service->mode) &&
			gone->endpoint.port_be == backend->endpoint.port_be &&
			lb_addr_equal(&gone->endpoint.addr, &backend->endpoint.addr))
			return true;
	return false;
}

static bool leaves(const struct lb_backend *backend)
{
	return backend->sent && backend->sent_msg.state == LB_BACKEND_UP &&
	       wanted_state(backend) != LB_BACKEND_UP;
}

/* Tables. */

static struct lb_table_member member_of(const struct lb_backend *backend)
{
	bool usable = !backend->blocked && backend->config->admin == LB_ADMIN_ENABLED;
	struct lb_table_member member = {
		.name = backend->config->name,
		.weight = backend->config->weight,
		.tier = backend->config->tier,
		.id = backend->id,
		.state = backend->blocked ? LB_BACKEND_DOWN : backend->effective,
		.usable = usable,
		.ramp = backend->ramp,
		.share = backend->agent_percent,
	};

	// who asks for nothing takes no new flows, as when draining; but is not down
	if (backend->agent_percent == 0) {
		member.state = member.state == LB_BACKEND_UP ? LB_BACKEND_DRAIN : member.state;
		member.usable = false;
	}
	return member;
}

/* Who is to serve. */
static void judge_backends(struct lb_service *service)
{
	const struct lb_config_service *config = service->config;
	struct lb_table_policy policy = {.min_healthy = config->min_healthy,
		.panic_threshold = config->panic_threshold,
		.last_resort = config->on_empty == LB_ON_EMPTY_LAST_RESORT};
	size_t n = service->n_backends;
	struct lb_table_member *members = lb_xcalloc(n, sizeof(*members));
	bool *eligible = lb_xcalloc(n, sizeof(*eligible));

	for (size_t i = 0; i < n; i++)
		members[i] = member_of(service->backends[i]);
	service->active_tier =
		lb_table_judge(members, n, &policy, eligible, &service->health_ignored);
	for (size_t i = 0; i < n; i++)
		service->backends[i]->eligible = eligible[i];
	free(members);
	free(eligible);
}

/* What service->table should be, by judge_backends(); a reference. */
static struct lb_table *wanted_table(struct lb_service *service)
{
	struct lb_table_spec spec = {.scheduler = service->config->scheduler,
		.n_slots = service->config->table_size,
		.max_load_percent = service->config->max_load_percent};
	size_t n = service->n_backends;
	struct lb_table_member *members = lb_xcalloc(n, sizeof(*members));
	bool *eligible = lb_xcalloc(n, sizeof(*eligible));
	struct lb_table *table;

	for (size_t i = 0; i < n; i++) {
		members[i] = member_of(service->backends[i]);
		eligible[i] = service->backends[i]->eligible;
	}
	table = lb_table_create(&spec, members, n, eligible, service->table);
	free(members);
	free(eligible);
	if (table == NULL)
		abort(); // as in lb_xcalloc()
	return table;
}

/* @p slots are a table's own: they name backends of the service, or nobody. */
static void count_slots(struct lb_service *service, const uint16_t *slots)
{
	uint32_t *counts = service->model->slot_counts;

	for (size_t i = 0; i < service->n_backends; i++)
		counts[service->backends[i]->id] = 0;
	for (uint32_t i = 0; i < lb_table_n_slots(service->table); i++)
		counts[slots[i]]++;
	for (size_t i = 0; i < service->n_backends; i++)
		service->backends[i]->n_slots = counts[service->backends[i]->id];
	service->counted = true;
}

void lb_push_count_slots(struct lb_service *service)
{
	uint16_t *slots;

	if (service->counted || service->table == NULL)
		return;
	slots = lb_xcalloc(lb_table_n_words(service->table), sizeof(*slots));
	if (lb_table_fill(service->table, slots) == 0)
		count_slots(service, slots);
	free(slots);
}

static int fill(void *arg, uint16_t *words, uint32_t n_words)
{
	(void)n_words; // as lb_table_describe() said
	return lb_table_fill(arg, words);
}

static void free_fill(void *arg)
{
	lb_table_unref(arg);
}

static void on_published(
	void *arg, const struct lb_msg *command, int status, const struct lb_msg *reply)
{
	struct lb_model *model = arg;
	struct lb_service *service;

	(void)reply;
	// the service may be gone, or its id another's by now
	service = model->service_by_id[command->table.service % LB_MAX_SERVICES];
	if (service != NULL && service->table_pending &&
		service->table_version == command->table.version) {
		service->table_pending = false;
		if (status == 0)
			service->live_version = command->table.version;
		if (service->dirty)
			lb_push_touch(service);
	}
	if (status < 0 && status != -ENOTCONN)
		lb_sync_refused(model, command, status);
}

/* Versions go up over all services, so that a late reply never fits another service with a reused
 * id. */
static uint32_t next_version(void)
{
	static uint32_t version;

	return ++version;
}

static void publish(struct lb_service *service)
{
	struct lb_model *model = service->model;
	struct lb_msg_table msg;
	int rc;

	lb_table_describe(service->table, &msg);
	msg.service = service->id;
	msg.version = service->table_version;
	rc = lb_dp_publish(model->dp, &msg, fill, free_fill, lb_table_ref(service->table),
		on_published, model);
	service->table_pending = rc == 0;
}

static void set_table(struct lb_service *service, struct lb_table *table)
{
	lb_table_unref(service->table);
	service->table = table;
	service->table_version = next_version();
	service->counted = false;
}

/* Moves that wait: when the next of them are due, if that is not known. */
static void schedule_stage(struct lb_service *service)
{
	uint32_t n_waiting = lb_table_n_waiting(service->table);

	if (n_waiting == 0)
		service->stage_at_ns = 0;
	else if (service->stage_at_ns == 0)
		service->stage_at_ns = lb_now_ns() +
				       lb_stage_next(lb_table_n_slots(service->table), n_waiting,
					       service->config->idle_timeout_ms)
						       .after_ms *
					       UINT64_C(1000000);
}

static bool is_stage_due(const struct lb_service *service)
{
	return service->stage_at_ns != 0 && lb_now_ns() >= service->stage_at_ns;
}

/* Let the next few go. @return as update_table(). */
static bool take_stage(struct lb_service *service)
{
	struct lb_stage_step step = lb_stage_next(lb_table_n_slots(service->table),
		lb_table_n_waiting(service->table), service->config->idle_timeout_ms);
	struct lb_table *table = lb_table_step(service->table, step.budget);

	if (table == NULL)
		abort(); // as in lb_xcalloc()
	set_table(service, table);
	service->stage_at_ns = 0;
	schedule_stage(service);
	return true;
}

/* Take the wanted table as the service's, or a step towards it. @return whether it is another one
 * than before. */
static bool update_table(struct lb_service *service)
{
	struct lb_table *table = wanted_table(service);

	if (lb_table_equal(table, service->table)) {
		lb_table_unref(table);
		return is_stage_due(service) && take_stage(service);
	}
	if (service->table != NULL)
		(void)lb_table_follow(table, service->table); // or all moves at once
	set_table(service, table);
	schedule_stage(service);
	return true;
}

void lb_push_tick(struct lb_model *model)
{
	for (size_t i = 0; i < model->n_services; i++)
		if (is_stage_due(model->services[i]))
			lb_push_touch(model->services[i]);
}

/* State of the service as a whole, for people. */

static const char *judge_service(const struct lb_service *service)
{
	if (service->active_tier < 0)
		return "down";
	for (size_t i = 0; i < service->n_backends; i++)
		if (service->backends[i]->config->admin == LB_ADMIN_ENABLED &&
			service->backends[i]->effective != LB_BACKEND_UP)
			return "degraded";
	return "ok";
}

static void tier_text(int tier, char text[12])
{
	if (tier < 0)
		text[0] = '\0';
	else
		snprintf(text, 12, "%d", tier);
}

/* What a service was before its backends were judged anew. */
struct verdict {
	int tier;
	enum lb_health_ignored ignored;
};

static struct verdict judge(struct lb_service *service)
{
	struct verdict before = {service->active_tier, service->health_ignored};

	judge_backends(service);
	return before;
}

static void tell_ignored(struct lb_service *service, const char *subject, enum lb_health_ignored old)
{
	const char *from = old != LB_HEALTH_HEEDED ? lb_health_ignored_name(old) : "off";
	const char *to = lb_health_ignored_name(service->health_ignored);

	if (service->health_ignored == LB_HEALTH_PANIC)
		lb_events_add(service->model->events, "service_panic", subject, from, to,
			"less than %u %% of the backends' weight is healthy: health is ignored",
			service->config->panic_threshold);
	else if (service->health_ignored == LB_HEALTH_LAST_RESORT)
		lb_events_add(service->model->events, "service_panic", subject, from, to,
			"no backend is healthy: all are used");
	else
		lb_events_add(service->model->events, "service_panic", subject, from, "off",
			"health is heeded again");
}

static void tell_changes(struct lb_service *service, const struct verdict *before)
{
	const char *state = judge_service(service);
	char subject[80], from[12], to[12];
	int old_tier = before->tier;

	snprintf(subject, sizeof(subject), "service %s", service->config->name);
	if (before->ignored != service->health_ignored)
		tell_ignored(service, subject, before->ignored);
	if (service->state != NULL && old_tier != service->active_tier) {
		tier_text(old_tier, from);
		tier_text(service->active_tier, to);
		lb_events_add(service->model->events, "service_tier", subject, from, to, NULL);
	}
	if (service->state == NULL || strcmp(service->state, state) != 0)
		lb_events_add(service->model->events, "service_state", subject, service->state,
			state, NULL);
	service->state = state;
}

/* Sending differences. */

static void delete_gone(struct lb_service *service)
{
	struct lb_model *model = service->model;
	struct lb_backend *backend;
	bool freed = false;

	while ((backend = TAILQ_FIRST(&service->gone)) != NULL) {
		struct lb_msg msg = {.op = LB_OP_BACKEND_DEL, .id = backend->id};

		if (backend->sent)
			(void)lb_dp_send(model->dp, &msg, NULL, NULL);
		gone_del(backend);
		freed = true;
	}
	for (size_t i = 0; i < model->n_services && freed; i++)
		if (model->services[i]->blocked)
			lb_push_touch(model->services[i]);
}

void lb_push_forget_gone(struct lb_service *service)
{
	struct lb_backend *backend;

	while ((backend = TAILQ_FIRST(&service->gone)) != NULL)
		gone_del(backend);
}

static void drop_all_gone(struct lb_model *model)
{
	for (size_t i = 0; i < model->n_services && model->n_gone > 0; i++)
		lb_push_forget_gone(model->services[i]);
}

static void push_service(struct lb_service *service)
{
	struct verdict before;
	bool table_changed;

	service->blocked = false;
	send_service(service);
	for (size_t i = 0; i < service->n_backends; i++) {
		struct lb_backend *backend = service->backends[i];

		backend->blocked = !backend->sent && is_blocked(backend);
		service->blocked |= backend->blocked;
	}
	before = judge(service);
	for (size_t i = 0; i < service->n_backends; i++)
		if (!service->backends[i]->blocked && !leaves(service->backends[i]))
			send_backend(service->backends[i]);
	table_changed = update_table(service);
	tell_changes(service, &before);
	if (table_changed)
		publish(service);
	for (size_t i = 0; i < service->n_backends; i++)
		if (!service->backends[i]->blocked)
			send_backend(service->backends[i]);
	delete_gone(service);
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct lb_model *model = arg;

	(void)fd;
	(void)what;
	for (size_t i = 0; i < model->n_services; i++) {
		struct lb_service *service = model->services[i];
		struct verdict before;

		// with a table on its way all else waits too: what follows it in order must not
		// overtake it
		if (!service->dirty || service->table_pending)
			continue;
		service->dirty = false;
		if (is_connected(model)) {
			push_service(service);
		} else {
			before = judge(service);
			update_table(service);
			tell_changes(service, &before);
		}
	}
	lb_sync_settle(model);
}

void lb_push_service_del(struct lb_service *service)
{
	struct lb_model *model = service->model;
	struct lb_msg msg = {.op = LB_OP_SERVICE_DEL, .id = service->id};

	lb_push_forget_gone(service);
	if (service->sent)
		(void)lb_dp_send(model->dp, &msg, NULL, NULL);
}

void lb_push_backend_gone(struct lb_backend *backend)
{
	struct lb_model *model = backend->service->model;

	if (!backend->sent || !is_connected(model)) {
		free(backend);
		return;
	}
	gone_add(backend);
}

void lb_push_backend_back(struct lb_backend *backend)
{
	struct lb_backend *gone;

	TAILQ_FOREACH (gone, &backend->service->gone, gone_link) {
		if (gone->id != backend->id)
			continue;
		backend->sent = gone->sent;
		backend->sent_msg = gone->sent_msg;
		gone_del(gone);
		return;
	}
}

/* The data plane flows by @p secret from now on. */
static void note_dp_secret(struct lb_model *model, const uint8_t secret[16])
{
	char why[300];

	if (model->dp_secret_known && memcmp(model->dp_secret, secret, sizeof(model->dp_secret)) == 0)
		return;
	memcpy(model->dp_secret, secret, sizeof(model->dp_secret));
	model->dp_secret_known = true;
	if (model->config != NULL && lb_state_save(model, model->config, why, sizeof(why)) < 0)
		lb_log(LB_LOG_ERROR, "push", "the data plane's hash secret is not saved yet: %s", why);
}

static void on_secret(void *arg, const struct lb_msg *command, int status, const struct lb_msg *reply)
{
	struct lb_model *model = arg;

	bool is_again = model->secret_refused &&
		memcmp(model->refused_secret, command->secret, sizeof(command->secret)) == 0;

	(void)reply;
	model->secret_refused = status == -EBUSY;
	if (status == 0)
		note_dp_secret(model, command->secret);
	if (status == -EBUSY) {
		memcpy(model->refused_secret, command->secret, sizeof(command->secret));
		if (memcmp(model->dp_secret, command->secret, sizeof(command->secret)) == 0)
			model->dp_secret_known = false; // somebody else gave it another one
	}
	if (status < 0 && status != -ENOTCONN && !(status == -EBUSY && is_again))
		lb_sync_refused(model, command, status);
}

static int send_secret(struct lb_model *model)
{
	struct lb_msg msg = {.op = LB_OP_SECRET_SET};

	memcpy(msg.secret, model->secret, sizeof(model->secret));
	return lb_dp_send(model->dp, &msg, on_secret, model);
}

void lb_push_secret(struct lb_model *model)
{
	(void)send_secret(model);
}

static int send_locals(struct lb_model *model)
{
	const struct lb_config *config = model->config;
	size_t n = config != NULL ? config->n_local_addresses : 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < (n > 0 ? n : 1); i++) {
		struct lb_msg msg = {.op = LB_OP_LOCAL_SET,
			.local = {.index = (uint16_t)i, .count = (uint16_t)n}};

		if (n > 0)
			msg.local.addr = config->local_addresses[i];
		rc = lb_dp_send(model->dp, &msg, NULL, NULL);
	}
	return rc;
}

void lb_push_locals(struct lb_model *model)
{
	(void)send_locals(model);
}

static int with_most_flows_first(const void *a, const void *b)
{
	const struct lb_service *left = *(struct lb_service *const *)a, *right = *(struct lb_service *const *)b;

	if (left->n_flows != right->n_flows)
		return left->n_flows < right->n_flows ? 1 : -1;
	return left->id - right->id;
}

static int publish_all(struct lb_model *model)
{
	size_t n = model->n_services;
	struct lb_service **services = lb_xcalloc(n, sizeof(struct lb_service *));
	int rc = 0;

	for (size_t i = 0; i < n; i++)
		services[i] = model->services[i];
	if (n > 0)
		qsort(services, n, sizeof(struct lb_service *), with_most_flows_first);
	for (size_t i = 0; i < n && rc == 0; i++) {
		services[i]->dirty = false;
		update_table(services[i]);
		publish(services[i]);
		rc = services[i]->table_pending ? 0 : -ENOMEM;
		lb_dp_pump(model->dp);
	}
	free(services);
	return rc;
}

int lb_push_everything(struct lb_model *model)
{
	struct lb_msg objects = {.op = LB_OP_SYNC_OBJECTS};
	int rc = send_secret(model);

	if (rc == 0)
		rc = send_locals(model);
	if (rc == 0)
		rc = lb_nexthops_sync(model->nexthops);
	drop_all_gone(model); // not mentioned: SYNC_END removes them
	for (size_t i = 0; i < model->n_services && rc == 0; i++) {
		model->services[i]->sent = model->services[i]->blocked = false;
		send_service(model->services[i]);
		rc = model->services[i]->sent ? 0 : -ENOMEM;
		lb_dp_pump(model->dp);
	}
	for (size_t i = 0; i < model->n_services && rc == 0; i++) {
		struct lb_service *service = model->services[i];
		struct verdict before;

		for (size_t j = 0; j < service->n_backends; j++)
			service->backends[j]->sent = service->backends[j]->blocked = false;
		before = judge(service);
		for (size_t j = 0; j < service->n_backends && rc == 0; j++) {
			send_backend(service->backends[j]);
			rc = service->backends[j]->sent ? 0 : -ENOMEM;
		}
		lb_dp_pump(model->dp);
		tell_changes(service, &before);
	}
	if (rc == 0)
		rc = lb_dp_send(model->dp, &objects, NULL, NULL);
	return rc == 0 ? publish_all(model) : rc;
}

/* The counters are of the data plane that goes: they may be anything, and only an order comes of them. */
static uint64_t count_flows(const struct lb_service *service)
{
	const struct lb_shm_map *map = lb_dp_map(service->model->dp);
	struct lb_backend_counters counters;
	uint64_t n = 0;

	for (size_t i = 0; i < service->n_backends; i++) {
		lb_counters_backend(map, service->backends[i]->id, &counters);
		n += (uint64_t)counters.active_flows;
	}
	return n;
}

void lb_push_disconnected(struct lb_model *model)
{
	drop_all_gone(model);
	for (size_t i = 0; i < model->n_services; i++) {
		struct lb_service *service = model->services[i];

		service->table_pending = service->blocked = false;
		service->live_version = 0;
		service->n_flows = count_flows(service);
		for (size_t j = 0; j < service->n_backends; j++)
			service->backends[j]->sent = service->backends[j]->blocked = false;
		service->sent = false;
		lb_push_touch(service);
	}
}

int lb_push_init(struct lb_model *model)
{
	model->flush = evtimer_new(model->base, on_flush, model);
	return model->flush != NULL ? 0 : -ENOMEM;
}

void lb_push_fini(struct lb_model *model)
{
	if (model->flush != NULL)
		event_free(model->flush);
	model->flush = NULL;
}
