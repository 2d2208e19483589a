/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "control/backend_agent.h"
#include "control/counters.h"
#include "control/expand.h"
#include "control/mem.h"
#include "control/mirror.h"
#include "control/push.h"
#include "control/ramp.h"
#include "control/state.h"
#include "control/sync.h"
#include "lb/log.h"

/* Changes of one apply that become events of their own; a whole new config of thousands would fill
 * the log. */
#define MAX_CHANGE_EVENTS 64u

/* Workers sum their counts of flows now and then: no earlier is 0 to be believed. */
#define NAME_LINGER_NS UINT64_C(5000000000)

static void on_nexthops_changed(void *arg);
static void on_nexthop_state(void *arg, const struct lb_nexthop *nexthop);

void lb_service_id_key(
	const struct lb_service_key *key, enum lb_mode mode, char buf[LB_SERVICE_ID_KEY_MAX])
{
	char endpoint[LB_ENDPOINT_STRLEN], *at;

	// as tens of thousands are made at once, not by snprintf(): 203.0.113.10:443/6/nat
	lb_endpoint_format(&key->addr, key->port_be, endpoint);
	at = stpcpy(buf, endpoint);
	*at++ = '/';
	if (key->proto >= 100)
		*at++ = (char)('0' + key->proto / 100);
	if (key->proto >= 10)
		*at++ = (char)('0' + key->proto / 10 % 10);
	*at++ = (char)('0' + key->proto % 10);
	*at++ = '/';
	strcpy(at, lb_mode_name(mode));
}

static_assert(LB_SERVICE_ID_KEY_MAX + 1 + LB_ENDPOINT_STRLEN <= LB_BACKEND_ID_KEY_MAX, "one after the other");

void lb_backend_id_key(const struct lb_service_key *key, enum lb_mode mode,
	const struct lb_endpoint *endpoint, char buf[LB_BACKEND_ID_KEY_MAX])
{
	size_t len;

	lb_service_id_key(key, mode, buf);
	len = strlen(buf);
	buf[len] = ' ';
	lb_endpoint_format(&endpoint->addr, endpoint->port_be, buf + len + 1);
}

char *lb_backend_label(const struct lb_backend *backend, char *buf, size_t bytes)
{
	snprintf(buf, bytes, "%s/%s", backend->service->config->name, backend->config->name);
	return buf;
}

enum lb_tracking lb_model_tracking_now(const struct lb_service *service)
{
	if (lb_counters_any_pressure(lb_dp_map(service->model->dp)))
		return LB_TRACKING_CHANGED;
	return service->config->tracking;
}

struct lb_service *lb_model_service(const struct lb_model *model, const char *name)
{
	for (size_t i = 0; i < model->n_services; i++)
		if (strcmp(model->services[i]->config->name, name) == 0)
			return model->services[i];
	return NULL;
}

struct lb_backend *lb_model_backend(const struct lb_service *service, const char *name)
{
	for (size_t i = 0; i < service->n_backends; i++)
		if (strcmp(service->backends[i]->config->name, name) == 0)
			return service->backends[i];
	return NULL;
}

/* Effective states. */

static enum lb_backend_state effective_of(const struct lb_backend *backend)
{
	if (backend->config->admin == LB_ADMIN_DISABLED || backend->health != LB_HEALTH_UP ||
		lb_backend_agent_is_down(backend))
		return LB_BACKEND_DOWN;
	return backend->config->admin == LB_ADMIN_DRAIN || lb_backend_agent_is_drained(backend) ? LB_BACKEND_DRAIN : LB_BACKEND_UP;
}

const char *lb_backend_condition(const struct lb_backend *backend, char *why, size_t why_bytes)
{
	struct lb_health_status status;

	lb_health_check_status(backend->check, &status);
	snprintf(why, why_bytes, "%s", "");
	if (backend->config->admin == LB_ADMIN_DISABLED) {
		snprintf(why, why_bytes, "by the operator");
		return "disabled";
	}
	if (backend->health != LB_HEALTH_UP) {
		snprintf(why, why_bytes, "%s", status.last_ns != 0 ? status.reason : "not checked yet");
		return backend->health == LB_HEALTH_UNKNOWN ? "unknown" : "down";
	}
	if (lb_backend_agent_is_down(backend)) {
		snprintf(why, why_bytes, "agent: %s", backend->agent_says);
		return backend->agent_admin == LB_AGENT_MAINT ? "disabled" : "down";
	}
	if (backend->effective == LB_BACKEND_DRAIN) {
		if (backend->config->admin != LB_ADMIN_DRAIN)
			snprintf(why, why_bytes, "agent: %s", backend->agent_says);
		else if (backend->config->is_gone)
			snprintf(why, why_bytes, "%s has this address no more", backend->config->host);
		else
			snprintf(why, why_bytes, "by the operator");
		return "draining";
	}
	if (backend->suspect) {
		snprintf(why, why_bytes, "%s", backend->suspect_why);
		return "suspect";
	}
	return lb_backend_state_name(backend->effective);
}

static void event_of_backend(
	struct lb_backend *backend, const char *from, const char *to, const char *cause)
{
	char subject[160] = "backend ";

	lb_backend_label(backend, subject + 8, sizeof(subject) - 8);
	lb_events_add(
		backend->service->model->events, "backend_state", subject, from, to, "%s", cause);
}

/* The backend came (@p from is NULL) or went with a config: of a large one not all are told. */
static void event_of_object(
	struct lb_backend *backend, const char *from, const char *to, const char *cause)
{
	if (backend->service->model->n_object_events++ < MAX_CHANGE_EVENTS)
		event_of_backend(backend, from, to, cause);
}

void lb_model_update_backend(struct lb_backend *backend, const char *cause)
{
	enum lb_backend_state from = backend->effective, to = effective_of(backend);

	if (to == from)
		return;
	backend->effective = to;
	backend->since_ns = lb_realtime_ns();
	event_of_backend(backend, lb_backend_state_name(from), lb_backend_state_name(to), cause);
	if (to == LB_BACKEND_DOWN)
		lb_ramp_cancel(backend);
	else if (from == LB_BACKEND_DOWN && backend->was_judged)
		lb_ramp_begin(backend);
	lb_mirror_write(backend);
	lb_push_touch(backend->service);
}

void lb_model_set_agent_weight(struct lb_backend *backend, unsigned percent, const char *cause)
{
	char subject[160] = "backend ", from[12], to[12];

	percent = percent > 100 ? 100 : percent;
	if (percent == backend->agent_percent)
		return;
	lb_backend_label(backend, subject + 8, sizeof(subject) - 8);
	snprintf(from, sizeof(from), "%u %%", backend->agent_percent);
	snprintf(to, sizeof(to), "%u %%", percent);
	backend->agent_percent = (uint8_t)percent;
	lb_events_add(backend->service->model->events, "backend_weight", subject, from, to, "%s",
		cause);
	lb_mirror_write(backend);
	lb_push_touch(backend->service);
}

unsigned lb_model_weight_percent(const struct lb_backend *backend)
{
	unsigned ramp = backend->ramp != 0 ? backend->ramp : 100;

	return (ramp * backend->agent_percent + 99) / 100;
}

static void on_health_changed(
	void *arg, struct lb_health_check *check, const struct lb_health_status *status)
{
	struct lb_backend *backend = arg;
	char cause[LB_HEALTH_REASON_BYTES + 16];

	(void)check;
	backend->health = status->state;
	snprintf(cause, sizeof(cause), "health: %s", status->reason);
	lb_model_update_backend(backend, cause);
	backend->was_judged = true;
	lb_mirror_write(backend);
}

/* Next hops. */

/*
 * With dsr only the MAC address says for which backend a packet is: a router in between would
 * send it back to us, who have the VIP's traffic.
 */
static void require_on_link(struct lb_backend *backend, const char *old_why)
{
	struct lb_model *model = backend->service->model;
	char subject[160] = "backend ";

	if (backend->nexthop == NULL ||
		(!backend->nexthop->is_static &&
			lb_addr_equal(&backend->nexthop->addr, &backend->endpoint.addr)))
		return;
	lb_nexthops_put(model->nexthops, backend->nexthop);
	backend->nexthop = NULL;
	backend->nexthop_why = LB_NEXTHOP_NOT_ON_LINK;
	if (old_why == backend->nexthop_why)
		return;
	lb_backend_label(backend, subject + 8, sizeof(subject) - 8);
	lb_events_add(model->events, "nexthop", subject, NULL, "unresolved", "%s",
		backend->nexthop_why);
}

static void refresh_nexthop(struct lb_backend *backend)
{
	struct lb_nexthops *nexthops = backend->service->model->nexthops;
	struct lb_nexthop *old = backend->nexthop;
	const char *old_why = backend->nexthop_why;

	backend->nexthop_why = NULL;
	backend->nexthop =
		lb_nexthops_get(nexthops, &backend->endpoint.addr, &backend->nexthop_why);
	if (backend->service->mode == LB_MODE_DSR)
		require_on_link(backend, old_why);
	lb_nexthops_put(nexthops, old);
	if (backend->nexthop != old)
		lb_push_touch(backend->service);
}

/*
 * A VIP should be on no interface: the data plane serves it all the same, but a kernel that sees
 * its packets too takes them for its own and, knowing no such connection, resets it.
 */
static void judge_vip(struct lb_service *service)
{
	struct lb_model *model = service->model;
	char vip[LB_ADDR_STRLEN], subject[80];
	bool is_own;

	if (!lb_nexthops_is_ready(model->nexthops))
		return;
	is_own = lb_nexthops_is_own(model->nexthops, &service->key.addr);
	if (is_own == service->vip_is_own)
		return;
	service->vip_is_own = is_own;
	snprintf(subject, sizeof(subject), "service %s", service->config->name);
	lb_addr_format(&service->key.addr, vip);
	if (is_own)
		lb_log(LB_LOG_WARN, "model",
			"service %s: its VIP %s is a local address of this host, whose kernel may "
			"answer clients too (with resets): take it off the interface",
			service->config->name, vip);
	lb_events_add(model->events, "vip_local", subject, is_own ? NULL : "local",
		is_own ? "local" : "ok",
		is_own ? "%s is an address of this host, whose kernel may answer clients too"
		       : "%s is no address of this host any more",
		vip);
}

static void on_nexthops_changed(void *arg)
{
	struct lb_model *model = arg;

	for (size_t i = 0; i < model->n_services; i++)
		judge_vip(model->services[i]);
	for (size_t i = 0; i < model->n_services; i++)
		for (size_t j = 0; j < model->services[i]->n_backends; j++)
			refresh_nexthop(model->services[i]->backends[j]);
}

static void on_nexthop_state(void *arg, const struct lb_nexthop *nexthop)
{
	struct lb_model *model = arg;
	char subject[80] = "nexthop ";

	lb_nexthops_label(model->nexthops, nexthop->id, subject + 8, sizeof(subject) - 8);
	lb_events_add(model->events, "nexthop", subject, NULL,
		nexthop->resolved ? "resolved" : "unresolved", NULL);
}

/* Objects. */

static struct lb_backend *backend_create(
	struct lb_service *service, uint16_t id, const struct lb_config_backend *config)
{
	struct lb_model *model = service->model;
	struct lb_backend *backend = lb_xcalloc(1, sizeof(*backend));
	struct lb_mirrored was = {.health = LB_HEALTH_UNKNOWN};
	struct lb_health_status status;
	bool is_known;

	backend->service = service;
	backend->config = config;
	backend->id = id;
	backend->born = ++model->n_born;
	backend->endpoint = config->endpoint;
	backend->agent_percent = 100;
	backend->since_ns = lb_realtime_ns();
	// the mirror tells what a restart of the daemon did not see; not of one that was gone, by config, and is back
	is_known = model->is_starting && lb_mirror_read(backend, &was);
	if (was.since_ns != 0)
		backend->since_ns = was.since_ns;
	backend->check = lb_health_check_create(model->health,
		lb_config_check_of(service->config, config), &backend->endpoint, was.health,
		on_health_changed, backend);
	if (backend->check == NULL)
		abort(); // as in lb_xcalloc()
	lb_health_check_measure(backend->check, &service->durations);
	lb_health_check_status(backend->check, &status);
	backend->health = status.state;
	if (model->is_starting && is_known)
		lb_backend_agent_restore(backend, &was);
	backend->effective = effective_of(backend);
	backend->was_judged = !model->is_starting || backend->health != LB_HEALTH_UNKNOWN;
	if (!model->is_starting)
		lb_counters_backend(lb_dp_map(model->dp), id, &backend->baseline);
	backend->baseline.active_flows = backend->baseline.closing_flows = 0;
	model->backend_by_id[id] = backend;
	lb_push_backend_back(backend);
	refresh_nexthop(backend);
	if (!model->is_starting && backend->effective == LB_BACKEND_UP)
		lb_ramp_begin(backend);
	else if (backend->effective != LB_BACKEND_DOWN)
		lb_ramp_resume(backend, was.ramp);
	return backend;
}

static void backend_release(struct lb_backend *backend)
{
	struct lb_model *model = backend->service->model;
	char key[LB_BACKEND_ID_KEY_MAX];

	lb_backend_id_key(&backend->service->key, backend->service->mode, &backend->endpoint, key);
	(void)lb_ids_del_of(model->backend_ids, key, backend->service->id);
	lb_rest_add(model->rest, backend->id);
	if (model->backend_by_id[backend->id] == backend)
		model->backend_by_id[backend->id] = NULL;
	lb_backend_agent_stop(backend);
	lb_health_check_destroy(backend->check);
	backend->check = NULL;
	lb_ramp_cancel(backend);
	lb_nexthops_put(model->nexthops, backend->nexthop);
	backend->nexthop = NULL;
}

static struct lb_service *service_create(
	struct lb_model *model, uint16_t id, const struct lb_config_service *config)
{
	struct lb_service *service = lb_xcalloc(1, sizeof(*service));

	service->model = model;
	service->config = config;
	service->key = config->key;
	service->mode = config->mode;
	service->id = id;
	service->born = ++model->n_born;
	TAILQ_INIT(&service->gone);
	service->active_tier = -1;
	if (!model->is_starting)
		service->baseline_no_backend = lb_counters_no_backend(lb_dp_map(model->dp), id);
	model->service_by_id[id] = service;
	return service;
}

static void service_destroy(struct lb_service *service)
{
	struct lb_model *model = service->model;
	char key[LB_SERVICE_ID_KEY_MAX];

	for (size_t i = 0; i < service->n_backends; i++) {
		backend_release(service->backends[i]);
		free(service->backends[i]);
	}
	lb_service_id_key(&service->key, service->mode, key);
	(void)lb_ids_del(model->service_ids, key);
	if (model->service_by_id[service->id] == service)
		model->service_by_id[service->id] = NULL;
	lb_push_forget_gone(service);
	lb_table_unref(service->table);
	free(service->backends);
	free(service);
}

/* Applying a config: first what can fail (ids, saving), then the change itself, which cannot. */

/*
 * The services that @p config, which is to run, is about: those there are, NULL for those to come. The caller frees.
 * A config shares with the one before what it leaves alone, mostly in the same order: then no key is needed.
 */
static struct lb_service **find_services(const struct lb_model *model, const struct lb_config *config)
{
	struct lb_service **found = lb_xcalloc(config->n_services, sizeof(*found));
	struct lb_service *const *old = model->services;
	char key[LB_SERVICE_ID_KEY_MAX];
	size_t n_old = model->n_services, at = 0;
	uint32_t id;

	for (size_t i = 0; i < config->n_services; i++) {
		const struct lb_config_service *service = config->services[i];

		if (at + 1 < n_old && old[at]->config != service && old[at + 1]->config == service)
			at++; // one is gone
		if (at < n_old && old[at]->config == service) {
			found[i] = old[at++];
			continue;
		}
		lb_service_id_key(&service->key, service->mode, key);
		if (lb_ids_lookup(model->service_ids, key, &id) == 0)
			found[i] = model->service_by_id[id];
		at += at < n_old && found[i] == old[at];
	}
	return found;
}

struct new_ids {
	struct lb_ids *ids;
	struct new_id {
		uint32_t id, owner;
	} *list;
	size_t n;
	size_t n_lacking; /* that are wanted too, and cannot be had */
};

/* @return 0 and @p id, or -ENOSPC: one is lacking. */
static int take_id(struct new_ids *new, const char *key, uint32_t owner, uint32_t *id)
{
	int rc = lb_ids_add_of(new->ids, key, owner, id);

	if (rc == -EEXIST)
		return 0;
	if (rc == -ENOMEM)
		abort(); // as in lb_xcalloc()
	if (rc < 0) {
		new->n_lacking++;
		return rc;
	}
	if ((new->n & (new->n - 1)) == 0)
		new->list = lb_xrealloc(new->list, new->n > 0 ? 2 * new->n : 1, sizeof(*new->list));
	new->list[new->n++] = (struct new_id){*id, owner};
	return 0;
}

struct new_objects {
	struct new_ids services, backends;
};

/* @p found: as find_services() told; services that stay as they are have their ids. @return 0; -ENOSPC: some are lacking. */
static int take_ids(struct lb_model *model, const struct lb_config *config,
	struct lb_service *const *found, struct new_objects *new)
{
	char service_key[LB_SERVICE_ID_KEY_MAX], backend_key[LB_BACKEND_ID_KEY_MAX];

	*new = (struct new_objects){.services.ids = model->service_ids, .backends.ids = model->backend_ids};
	for (size_t i = 0; i < config->n_services; i++) {
		const struct lb_config_service *service = config->services[i];
		uint32_t service_id, id;

		if (found[i] != NULL && found[i]->config == service)
			continue;
		lb_service_id_key(&service->key, service->mode, service_key);
		if (take_id(&new->services, service_key, 0, &service_id) < 0)
			continue;
		for (size_t j = 0; j < service->n_backends; j++) {
			lb_backend_id_key(&service->key, service->mode,
				&service->backends[j].endpoint, backend_key);
			(void)take_id(&new->backends, backend_key, service_id, &id);
		}
	}
	return new->services.n_lacking + new->backends.n_lacking > 0 ? -ENOSPC : 0;
}

static void end_new(struct new_ids *new, bool undo)
{
	for (size_t i = 0; undo && i < new->n; i++)
		(void)lb_ids_del_of(new->ids, lb_ids_key(new->ids, new->list[i].id), new->list[i].owner);
	free(new->list);
}

/* Forget which ids are new; give them back if @p undo. */
static void end_ids(struct new_objects *new, bool undo)
{
	end_new(&new->services, undo);
	end_new(&new->backends, undo);
}

static size_t count_backends(const struct lb_model *model)
{
	size_t n = 0;

	for (size_t i = 0; i < model->n_services; i++)
		n += model->services[i]->n_backends;
	return n;
}

/* Why take_ids() failed, and whether waiting helps. @return -ENOSPC or -EAGAIN. */
static int explain_lack(const struct lb_model *model, const struct new_objects *new, struct lb_config_error *error)
{
	size_t n_new = new->backends.n + new->backends.n_lacking, n_old = count_backends(model);

	if (new->services.n_lacking > 0) {
		snprintf(error->message, sizeof(error->message),
			"%zu services are new (another VIP, port, protocol or mode) beside %zu that run: until it is done both "
			"are there, which is more than %u: replace fewer at a time",
			new->services.n + new->services.n_lacking, model->n_services, LB_MAX_SERVICES);
		return -ENOSPC;
	}
	if (n_old + n_new > LB_MAX_BACKENDS) {
		snprintf(error->message, sizeof(error->message),
			"%zu backends are new (another address or port, or service) beside %zu that run: until it is done both are "
			"there, which is more than %u: replace at most %zu at a time, and wait %u s after each time", n_new,
			n_old, LB_MAX_BACKENDS, LB_MAX_BACKENDS - n_old, 2 * LB_SWEEP_ROUND_S);
		return -ENOSPC;
	}
	error->retry_s = lb_dp_state(model->dp) == LB_DP_UP ?
		lb_rest_wait_s(model->rest, (uint32_t)new->backends.n_lacking) : 0;
	snprintf(error->message, sizeof(error->message),
		"%zu backends are new, and there are ids for %zu: of the %u ids those of backends that went a moment ago are "
		"not used again before no connection can mean them: %s", n_new, new->backends.n, LB_MAX_BACKENDS,
		error->retry_s > 0 ? "" : "once the data plane has been up for half a minute");
	if (error->retry_s > 0)
		snprintf(error->message + strlen(error->message), sizeof(error->message) - strlen(error->message),
			"try again in %u s", error->retry_s);
	return -EAGAIN;
}

static void update_check(struct lb_backend *backend, const char *cause)
{
	struct lb_health_status status;

	if (lb_health_check_update(backend->check,
		    lb_config_check_of(backend->service->config, backend->config)) < 0)
		abort(); // as in lb_xcalloc()
	lb_health_check_status(backend->check, &status);
	backend->health = status.state;
	lb_model_update_backend(backend, cause);
}

/*
 * Let @p service have the backends of its (new) config; those that it loses go to service->gone.
 * @p before: its config until now, which is still there; NULL: it is new.
 */
static void adopt_backends(
	struct lb_service *service, const struct lb_config_service *before, const char *cause)
{
	const struct lb_config_service *config = service->config;
	struct lb_backend **old = service->backends, *backend;
	size_t n_old = service->n_backends;
	char key[LB_BACKEND_ID_KEY_MAX];
	uint32_t id = 0;

	service->backends = lb_xcalloc(config->n_backends, sizeof(*service->backends));
	service->n_backends = config->n_backends;
	for (size_t i = 0; i < n_old; i++)
		old[i]->kept = false;
	for (size_t i = 0; i < config->n_backends; i++) {
		lb_backend_id_key(&service->key, service->mode, &config->backends[i].endpoint, key);
		(void)lb_ids_lookup(service->model->backend_ids, key, &id);
		backend = service->model->backend_by_id[id];
		if (backend == NULL) {
			backend = backend_create(service, (uint16_t)id, &config->backends[i]);
			event_of_object(
				backend, NULL, lb_backend_state_name(backend->effective), cause);
		} else {
			const struct lb_config_check *check =
				before != NULL ? lb_config_check_of(before, backend->config) : NULL;

			backend->config = &config->backends[i];
			if (check == NULL ||
				!lb_config_check_equal(
					check, lb_config_check_of(config, backend->config)))
				update_check(backend, cause);
			lb_model_update_backend(backend, cause);
		}
		backend->kept = true;
		service->backends[i] = backend;
		lb_health_check_name(backend->check, config->name, backend->config->name);
		lb_backend_agent_update(backend);
		lb_mirror_write(backend); // its name may be new
	}
	for (size_t i = 0; i < n_old; i++) {
		if (old[i]->kept)
			continue;
		event_of_object(old[i], lb_backend_state_name(old[i]->effective), NULL, cause);
		backend_release(old[i]);
		lb_push_backend_gone(old[i]);
	}
	free(old);
}

/* @p service NULL: it is new. */
static struct lb_service *adopt_service(struct lb_model *model, struct lb_service *service,
	const struct lb_config_service *config, const char *cause)
{
	char key[LB_SERVICE_ID_KEY_MAX];
	const struct lb_config_service *before = NULL;
	uint32_t id = 0;

	lb_service_id_key(&config->key, config->mode, key);
	(void)lb_ids_lookup(model->service_ids, key, &id);
	if (service == NULL)
		service = service_create(model, (uint16_t)id, config);
	else
		before = service->config;
	service->config = config;
	adopt_backends(service, before, cause);
	judge_vip(service);
	lb_push_touch(service);
	return service;
}

static void delete_service(struct lb_service *service, const char *cause)
{
	for (size_t i = 0; i < service->n_backends; i++)
		event_of_object(service->backends[i],
			lb_backend_state_name(service->backends[i]->effective), NULL, cause);
	lb_push_service_del(service);
	service_destroy(service);
}

static bool same_locals(const struct lb_config *a, const struct lb_config *b)
{
	return a != NULL && a->n_local_addresses == b->n_local_addresses &&
	       (a->n_local_addresses == 0 ||
		       memcmp(a->local_addresses, b->local_addresses,
			       a->n_local_addresses * sizeof(*a->local_addresses)) == 0);
}

/*
 * @p running: what is to run of @p config, which may be the same; both are the model's from here on. @p found: as
 * find_services() told of it.
 */
static void adopt(struct lb_model *model, struct lb_config *config, struct lb_config *running,
	struct lb_service *const *found, const char *cause)
{
	struct lb_config *old_config = model->config, *old_running = model->running;
	struct lb_service **old = model->services;
	size_t n_old = model->n_services;

	for (size_t i = 0; i < n_old; i++)
		old[i]->kept = false;
	for (size_t i = 0; i < running->n_services; i++)
		if (found[i] != NULL)
			found[i]->kept = true;
	// first those that go: their endpoints and VIPs may be wanted by those that come
	for (size_t i = 0; i < n_old; i++)
		if (!old[i]->kept)
			delete_service(old[i], cause);
	lb_nexthops_set_links(
		model->nexthops, config->port_vlans, config->interfaces, config->n_interfaces);
	lb_nexthops_set_gateway(model->nexthops, config->has_gateway ? config->gateway_mac : NULL,
		config->gateway_port);
	model->config = config;
	model->running = running;
	if (!same_locals(old_config, config))
		lb_push_locals(model);
	model->services = lb_xcalloc(running->n_services, sizeof(*model->services));
	for (size_t i = 0; i < running->n_services; i++) {
		bool stays = found[i] != NULL && found[i]->config == running->services[i];

		model->services[i] = stays ? found[i] : adopt_service(model, found[i],
							       running->services[i], cause);
	}
	model->n_services = running->n_services;
	free(old);
	if (old_running != old_config)
		lb_config_free(old_running);
	if (old_config != config)
		lb_config_free(old_config);
}

struct change_log {
	struct lb_model *model;
	const char *cause;
	size_t n;
};

static void log_change(void *arg, char sign, const char *path, const char *text)
{
	struct change_log *log = arg;

	if (log->n++ < MAX_CHANGE_EVENTS)
		lb_events_add(log->model->events, "config_applied", "config", NULL, NULL,
			"%s: %c %s: %s", log->cause, sign, path, text);
}

static void log_changes(struct lb_model *model, const struct lb_config *config, const char *cause)
{
	struct change_log log = {.model = model, .cause = cause};

	if (model->config == NULL)
		return;
	lb_config_diff(model->config, config, log_change, &log);
	if (log.n > MAX_CHANGE_EVENTS)
		lb_events_add(model->events, "config_applied", "config", NULL, NULL,
			"%s: and %zu changes more", cause, log.n - MAX_CHANGE_EVENTS);
}

// Ports that the config names are there, as far as the data plane has told.
static int check_ports(
	const struct lb_model *model, const struct lb_config *config, struct lb_config_error *error)
{
	unsigned n_ports = lb_dp_state(model->dp) == LB_DP_UP ? lb_dp_map(model->dp)->shm->header.n_ports : 0;
	unsigned port = 0;

	if (n_ports == 0 || n_ports > LB_SHM_MAX_PORTS)
		return 0;
	if (config->has_gateway && config->gateway_port >= n_ports) {
		snprintf(error->where, sizeof(error->where), "gateway.port");
		port = config->gateway_port;
	} else {
		for (unsigned i = n_ports; i < LB_SHM_MAX_PORTS && port == 0; i++)
			if (config->port_vlans[i] != LB_VLAN_KEEP)
				port = i;
		for (size_t i = 0; i < config->n_interfaces && port == 0; i++)
			if (config->interfaces[i].port >= n_ports)
				port = config->interfaces[i].port;
		snprintf(error->where, sizeof(error->where), "ports");
	}
	if (port == 0)
		return 0;
	snprintf(error->message, sizeof(error->message), "the data plane has no port %u, only 0..%u", port,
		n_ports - 1);
	return -EINVAL;
}

int lb_model_check(
	const struct lb_model *model, const struct lb_config *config, struct lb_config_error *error)
{
	int rc = model->is_starting ? 0 : check_ports(model, config, error);

	if (rc < 0)
		return rc;
	if (!config->has_secret ||
		memcmp(config->secret, model->secret, sizeof(model->secret)) == 0 ||
		model->is_starting || lb_dp_state(model->dp) == LB_DP_DOWN)
		return 0;
	if (model->secret_refused && (!model->dp_secret_known ||
		memcmp(config->secret, model->dp_secret, sizeof(model->dp_secret)) == 0))
		return 0; // this is, or may be, the one that the data plane has
	snprintf(error->where, sizeof(error->where), "%s",
		config->secret_where[0] != '\0' ? config->secret_where : "hash_secret");
	snprintf(error->message, sizeof(error->message),
		"hash_secret: it cannot change while the data plane runs, as "
		"every connection would move: stop the data plane, apply, and start it again");
	return -EBUSY;
}

/* Names. */

static void on_dropped(void *arg, const struct lb_config_service *service,
	const struct lb_config_backend *backend, const char *why)
{
	struct lb_model *model = arg;
	char subject[200];

	snprintf(subject, sizeof(subject), "backend %s/%s", service->name, backend->name);
	lb_events_add(model->events, "name_left_out", subject, NULL, NULL, "%s", why);
}

/* What is to run of @p config with what is known of its names. */
static struct lb_config *expand(struct lb_model *model, struct lb_config *config)
{
	struct lb_config *running;

	lb_names_add(model->names, config);
	running = lb_expand(config, model->names, on_dropped, model);
	if (running == NULL)
		abort(); // as in lb_xcalloc()
	return running;
}

/* Names have other addresses: let these run. What cannot be saved or numbered is tried again. */
static void on_renew(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval later = {.tv_sec = 5};
	struct lb_model *model = arg;
	struct lb_service **found;
	struct lb_config *running;
	struct new_objects new;
	struct lb_config_error error = {0};
	int rc;

	(void)fd, (void)what;
	if (model->config == NULL)
		return;
	running = expand(model, model->config);
	found = find_services(model, running);
	rc = take_ids(model, running, found, &new);
	if (rc < 0)
		rc = explain_lack(model, &new, &error);
	else
		rc = lb_state_save(model, model->config, error.message, sizeof(error.message));
	end_ids(&new, rc < 0);
	if (rc < 0) {
		lb_log(LB_LOG_ERROR, "model", "addresses of names are not in force yet: %s", error.message);
		lb_config_free(running == model->config ? NULL : running);
		event_add(model->renew, &later);
	} else {
		model->n_object_events = 0;
		adopt(model, model->config, running, found, "dns");
	}
	free(found);
}

static void on_names_changed(void *arg)
{
	struct lb_model *model = arg;
	static const struct timeval soon = {.tv_usec = 100000}; // answers come in twos and more

	if (!event_pending(model->renew, EV_TIMEOUT, NULL))
		event_add(model->renew, &soon);
}

/* An address that its name has lost is forgotten when nothing of ours knows it any more. */
void lb_model_sweep_names(struct lb_model *model)
{
	uint64_t now_ns = lb_realtime_ns();

	if (lb_names_is_empty(model->names))
		return; // a look at tens of thousands of backends takes some ms
	for (size_t i = 0; i < model->n_services; i++) {
		const struct lb_service *service = model->services[i];
		uint64_t idle_ns = service->config->idle_timeout_ms * UINT64_C(1000000);

		for (size_t j = 0; j < service->n_backends; j++) {
			const struct lb_backend *backend = service->backends[j];
			struct lb_backend_counters counters;

			if (!backend->config->is_gone)
				continue;
			lb_counters_backend(lb_dp_map(model->dp), backend->id, &counters);
			// without an entry for each flow none can be counted: then it is time that tells
			if (lb_dp_state(model->dp) != LB_DP_UP || counters.active_flows + counters.closing_flows > 0 ||
				(lb_model_tracking_now(service) != LB_TRACKING_ALL &&
					now_ns < backend->since_ns + idle_ns))
				lb_names_mark_busy(model->names, backend->config->host,
					&backend->endpoint.addr);
		}
	}
	lb_names_sweep(model->names, NAME_LINGER_NS);
}

int lb_model_apply(struct lb_model *model, struct lb_config *config, const char *cause,
	struct lb_config_error *error)
{
	uint8_t old_secret[sizeof(model->secret)];
	struct lb_service **found;
	struct lb_config *running;
	struct new_objects new;
	int rc = lb_model_check(model, config, error);

	if (rc < 0)
		return rc;
	if (model->config != NULL)
		lb_config_share(config, model->config);
	memcpy(old_secret, model->secret, sizeof(old_secret));
	memcpy(model->secret, config->has_secret ? config->secret : model->dp_secret, sizeof(model->secret));
	error->where[0] = '\0';
	running = expand(model, config);
	found = find_services(model, running);
	rc = take_ids(model, running, found, &new);
	if (rc < 0)
		rc = explain_lack(model, &new, error);
	else
		rc = lb_state_save(model, config, error->message, sizeof(error->message));
	end_ids(&new, rc < 0);
	if (rc < 0) {
		memcpy(model->secret, old_secret, sizeof(old_secret));
		if (running != config)
			lb_config_free(running);
		free(found);
		return rc;
	}
	if (memcmp(model->secret, old_secret, sizeof(old_secret)) != 0)
		lb_push_secret(model);
	log_changes(model, config, cause);
	model->n_object_events = 0;
	adopt(model, config, running, found, cause);
	free(found);
	lb_names_adopt(model->names, config);
	if (model->n_object_events > MAX_CHANGE_EVENTS)
		lb_events_add(model->events, "config_applied", "config", NULL, NULL,
			"%s: and %zu backends more came or went", cause,
			model->n_object_events - MAX_CHANGE_EVENTS);
	return 0;
}

/* Life. */

int lb_model_create(struct event_base *base, const char *instance, const char *run_dir,
	const char *config_file, struct lb_model **out)
{
	struct lb_model *model = lb_xcalloc(1, sizeof(*model));
	char path[PATH_MAX];
	uint32_t start = 0;
	int rc = -ENOMEM;

	model->base = base;
	model->started_ns = lb_realtime_ns();
	model->is_starting = true;
	snprintf(model->instance, sizeof(model->instance), "%s", instance);
	snprintf(model->run_dir, sizeof(model->run_dir), "%s", run_dir);
	model->config_file = lb_xstrdup(config_file);
	TAILQ_INIT(&model->waiters);
	// a data plane may have objects of a daemon whose state is lost: begin where they hardly
	// are
	if (getrandom(&start, sizeof(start), 0) < 0)
		start = (uint32_t)lb_now_ns();
	model->events = lb_events_create(LB_EVENTS_CAPACITY);
	if (model->events == NULL ||
		lb_ids_create(0, LB_MAX_SERVICES, start, &model->service_ids) < 0 ||
		lb_ids_create(0, LB_MAX_BACKENDS, start, &model->backend_ids) < 0)
		goto fail;
	model->rest = lb_rest_create(model->backend_ids);
	if (model->rest == NULL)
		goto fail;
	model->parser = lb_parser_create(base);
	if (model->parser == NULL)
		goto fail;
	model->renew = evtimer_new(base, on_renew, model);
	rc = model->renew != NULL ? lb_names_create(base, model->events, on_names_changed, model,
					    &model->names)
				  : -ENOMEM;
	if (rc == 0)
		rc = lb_health_create(base, &model->health);
	if (rc == 0)
		rc = lb_push_init(model);
	if (rc == 0)
		rc = lb_ramp_init(model);
	if (rc == 0)
		rc = lb_sync_init(model);
	if (rc == 0)
		rc = lb_dp_create(base, instance, &lb_sync_dp_callbacks, model, &model->dp);
	if (rc < 0)
		goto fail;
	snprintf(path, sizeof(path), "%.*s/nexthops.json", PATH_MAX - 32, run_dir);
	rc = lb_nexthops_create(base, model->dp, path, on_nexthops_changed, on_nexthop_state, model,
		&model->nexthops);
	if (rc < 0)
		goto fail;
	if (lb_dp_map(model->dp) != NULL)
		lb_nexthops_set_ports(model->nexthops, lb_dp_map(model->dp));
	*out = model;
	return 0;
fail:
	lb_model_destroy(model);
	return rc;
}

void lb_model_destroy(struct lb_model *model)
{
	if (model == NULL)
		return;
	for (size_t i = 0; i < model->n_services; i++)
		service_destroy(model->services[i]);
	free(model->services);
	lb_push_fini(model);
	lb_ramp_fini(model);
	lb_sync_fini(model);
	lb_forwarding_fini(&model->forwarding);
	lb_nexthops_destroy(model->nexthops);
	lb_dp_destroy(model->dp);
	if (model->health != NULL)
		lb_health_destroy(model->health);
	lb_names_destroy(model->names);
	if (model->renew != NULL)
		event_free(model->renew);
	lb_ids_destroy(model->service_ids);
	lb_rest_destroy(model->rest);
	lb_ids_destroy(model->backend_ids);
	lb_events_destroy(model->events);
	lb_parser_destroy(model->parser);
	if (model->running != model->config)
		lb_config_free(model->running);
	lb_config_free(model->config);
	lb_config_free(model->file_config);
	free(model->config_file);
	free(model);
}
