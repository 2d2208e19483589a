/* SPDX-License-Identifier: BSD-3-Clause */
/* What is different between two configs, for people and for the log of events. */
#include "control/config_internal.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb/hash.h"

/* Services or backends by name. Both begin with their name. */
static_assert(offsetof(struct lb_config_service, name) == 0, "index_lookup relies on it");
static_assert(offsetof(struct lb_config_backend, name) == 0, "index_lookup relies on it");

struct index {
	const char *base; /* of the objects, or of pointers to them */
	size_t n, stride_bytes;
	bool is_indirect;
	uint32_t *slots; /* index + 1; 0: free. NULL: without memory, by looking at each */
	size_t mask;
};

static const void *object_at(const struct index *index, size_t i)
{
	const void *object = index->base + i * index->stride_bytes;

	if (index->is_indirect)
		memcpy(&object, object, sizeof(object));
	return object;
}

static const char *name_at(const struct index *index, size_t i)
{
	const char *name;

	memcpy(&name, object_at(index, i), sizeof(name));
	return name;
}

static size_t first_slot(const struct index *index, const char *name)
{
	return lb_hash_bytes(name, strlen(name), 0) & index->mask;
}

static void index_fill(struct index *index)
{
	size_t size = 4;

	while (size < 2 * index->n)
		size *= 2;
	index->slots = calloc(size, sizeof(uint32_t));
	index->mask = size - 1;
	for (size_t i = 0; index->slots && i < index->n; i++) {
		size_t slot = first_slot(index, name_at(index, i));

		while (index->slots[slot])
			slot = (slot + 1) & index->mask;
		index->slots[slot] = (uint32_t)i + 1;
	}
}

static void index_backends(struct index *index, const struct lb_config_service *service)
{
	*index = (struct index){.base = (const char *)service->backends, .n = service->n_backends,
		.stride_bytes = sizeof(*service->backends)};
	index_fill(index);
}

static void index_services(struct index *index, struct lb_config_service *const *services, size_t n)
{
	*index = (struct index){.base = (const char *)services, .n = n,
		.stride_bytes = sizeof(*services), .is_indirect = true};
	index_fill(index);
}

static const void *index_lookup(const struct index *index, const char *name)
{
	if (!index->slots) {
		for (size_t i = 0; i < index->n; i++)
			if (!strcmp(name_at(index, i), name))
				return object_at(index, i);
		return NULL;
	}
	for (size_t slot = first_slot(index, name); index->slots[slot];
		slot = (slot + 1) & index->mask)
		if (!strcmp(name_at(index, index->slots[slot] - 1), name))
			return object_at(index, index->slots[slot] - 1);
	return NULL;
}

static void index_fini(struct index *index)
{
	free(index->slots);
}

struct diff {
	lb_config_diff_fn *fn;
	void *arg;
	size_t n;
	// the object looked at: a service, one of its backends, or else something by its name
	const struct lb_config_service *service;
	const struct lb_config_backend *backend;
	const char *global;
};

static void tell(struct diff *diff, char sign, const char *text)
{
	char path[200];

	diff->n++;
	if (!diff->fn)
		return;
	if (diff->service)
		snprintf(path, sizeof(path), "service %s%s%s", diff->service->name,
			diff->backend ? " backend " : "", diff->backend ? diff->backend->name : "");
	else
		snprintf(path, sizeof(path), "%s", diff->global);
	diff->fn(diff->arg, sign, path, text);
}

/* Text of a scalar as the YAML form has it; what has no value is "none". */
#define SCALAR_BYTES (4 * LB_CONFIG_MAX_BODY_BYTES + 8)
static const char *scalar(const char *text, char buf[SCALAR_BYTES])
{
	FILE *out;

	if (!text)
		return "none";
	out = fmemopen(buf, SCALAR_BYTES, "w");
	if (!out)
		return text;
	lb_config_write_text(out, text);
	fputc('\0', out);
	fclose(out);
	return buf;
}

static void differ(struct diff *diff, const char *key, const char *from, const char *to)
{
	char a[SCALAR_BYTES], b[SCALAR_BYTES], text[2 * SCALAR_BYTES + 64];

	if (from == to || (from && to && !strcmp(from, to)))
		return;
	snprintf(text, sizeof(text), "%s %s -> %s", key, scalar(from, a), scalar(to, b));
	tell(diff, '~', text);
}

static void differ_number(struct diff *diff, const char *key, uint32_t from, uint32_t to)
{
	char text[80];

	if (from == to)
		return;
	snprintf(text, sizeof(text), "%s %u -> %u", key, from, to);
	tell(diff, '~', text);
}

static void differ_duration(struct diff *diff, const char *key, uint32_t from_ms, uint32_t to_ms)
{
	char a[LB_CONFIG_DURATION_BYTES], b[LB_CONFIG_DURATION_BYTES];

	if (from_ms != to_ms)
		differ(diff, key, lb_config_format_duration(from_ms, a),
			lb_config_format_duration(to_ms, b));
}

static void differ_mss(struct diff *diff, uint16_t from, uint16_t to)
{
	char text[64], a[LB_CONFIG_MSS_BYTES], b[LB_CONFIG_MSS_BYTES];

	if (from == to)
		return;
	snprintf(text, sizeof(text), "mss %s -> %s", lb_config_format_mss(from, a), lb_config_format_mss(to, b));
	tell(diff, '~', text);
}

static const char *port_text(uint16_t port, const char *zero, char buf[8])
{
	if (!port)
		return zero;
	snprintf(buf, 8, "%u", port);
	return buf;
}

static void differ_port(struct diff *diff, const char *key, uint16_t from, uint16_t to,
	const char *zero)
{
	char a[8], b[8], text[80];

	if (from == to)
		return;
	snprintf(text, sizeof(text), "%s %s -> %s", key, port_text(from, zero, a),
		port_text(to, zero, b));
	tell(diff, '~', text);
}

static void differ_of(void *arg, const char *key, bool is_free, const char *from, const char *to)
{
	char text[80];

	if (is_free) {
		differ(arg, key, from, to);
	} else if (from != to && (!from || !to || strcmp(from, to))) {
		snprintf(text, sizeof(text), "%s %s -> %s", key, from ? from : "none", to ? to : "none");
		tell(arg, '~', text);
	}
}

/* What a backend says of its check itself, as one text. */
static char *own_check_text(const struct lb_config_backend *backend)
{
	json_t *json = lb_config_check_json(&backend->check, backend->check_keys);
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;

	json_decref(json);
	return text;
}

static void diff_own_check(struct diff *diff, const struct lb_config_backend *from,
	const struct lb_config_backend *to)
{
	char *a = from->check_keys ? own_check_text(from) : NULL;
	char *b = to->check_keys ? own_check_text(to) : NULL;
	char text[2 * LB_CONFIG_MAX_BODY_BYTES];

	if (a != b && (!a || !b || strcmp(a, b))) {
		snprintf(text, sizeof(text), "health_check %s -> %s", a ? a : "the service's",
			b ? b : "the service's");
		tell(diff, '~', text);
	}
	free(a);
	free(b);
}

static void diff_backend(struct diff *diff, const struct lb_config_backend *from,
	const struct lb_config_backend *to)
{
	char a[LB_ADDR_STRLEN], b[LB_ADDR_STRLEN];

	if (from->is_host || to->is_host)
		differ(diff, "address", from->address, to->address);
	else if (!lb_addr_equal(&from->endpoint.addr, &to->endpoint.addr))
		differ(diff, "address", lb_addr_format(&from->endpoint.addr, a),
			lb_addr_format(&to->endpoint.addr, b));
	differ_port(diff, "port", ntohs(from->endpoint.port_be), ntohs(to->endpoint.port_be),
		"all");
	differ_number(diff, "weight", from->weight, to->weight);
	differ_number(diff, "tier", from->tier, to->tier);
	differ(diff, "state", lb_admin_state_name(from->admin), lb_admin_state_name(to->admin));
	diff_own_check(diff, from, to);
}

/* A backend that comes or goes. */
static void tell_backend(struct diff *diff, char sign, const struct lb_config_backend *backend)
{
	char text[160 + LB_CONFIG_HOST_MAX], endpoint[LB_CONFIG_DEFAULT_NAME_BYTES], tier[20] = "";

	if (backend->tier)
		snprintf(tier, sizeof(tier), ", tier %u", backend->tier);
	snprintf(text, sizeof(text), "%s, weight %u%s%s%s",
		lb_config_backend_default_name(backend, endpoint), backend->weight, tier,
		backend->admin != LB_ADMIN_ENABLED ? ", " : "",
		backend->admin != LB_ADMIN_ENABLED ? lb_admin_state_name(backend->admin) : "");
	tell(diff, sign, text);
}

static void diff_backends(struct diff *diff, const struct lb_config_service *from,
	const struct lb_config_service *to)
{
	struct index old, new;

	index_backends(&old, from);
	index_backends(&new, to);
	for (size_t i = 0; i < from->n_backends; i++) {
		const struct lb_config_backend *backend = &from->backends[i];
		const struct lb_config_backend *now = index_lookup(&new, backend->name);

		diff->backend = backend;
		if (now)
			diff_backend(diff, backend, now);
		else
			tell_backend(diff, '-', backend);
	}
	for (size_t i = 0; i < to->n_backends; i++) {
		const struct lb_config_backend *backend = &to->backends[i];

		if (index_lookup(&old, backend->name))
			continue;
		diff->backend = backend;
		tell_backend(diff, '+', backend);
	}
	diff->backend = NULL;
	index_fini(&old);
	index_fini(&new);
}

static void diff_service(struct diff *diff, const struct lb_config_service *from,
	const struct lb_config_service *to)
{
	char a[LB_ADDR_STRLEN], b[LB_ADDR_STRLEN];

	if (!lb_addr_equal(&from->key.addr, &to->key.addr))
		differ(diff, "vip", lb_addr_format(&from->key.addr, a),
			lb_addr_format(&to->key.addr, b));
	differ_port(diff, "port", ntohs(from->key.port_be), ntohs(to->key.port_be), "all");
	differ(diff, "protocol", lb_config_protocol_name(from->key.proto),
		lb_config_protocol_name(to->key.proto));
	differ(diff, "mode", lb_mode_name(from->mode), lb_mode_name(to->mode));
	differ(diff, "scheduler", lb_scheduler_name(from->scheduler),
		lb_scheduler_name(to->scheduler));
	differ(diff, "max_load", lb_config_format_ratio(from->max_load_percent, a),
		lb_config_format_ratio(to->max_load_percent, b));
	differ_number(diff, "table_size", from->table_size, to->table_size);
	differ(diff, "tracking", lb_tracking_name(from->tracking), lb_tracking_name(to->tracking));
	differ(diff, "client_address", lb_client_address_name(from->client_address),
		lb_client_address_name(to->client_address));
	differ_mss(diff, from->mss, to->mss);
	differ_duration(diff, "idle_timeout", from->idle_timeout_ms, to->idle_timeout_ms);
	differ(diff, "on_empty", lb_on_empty_name(from->on_empty), lb_on_empty_name(to->on_empty));
	differ_number(diff, "min_healthy", from->min_healthy, to->min_healthy);
	differ_number(diff, "panic_threshold", from->panic_threshold, to->panic_threshold);
	differ_duration(diff, "slow_start", from->slow_start_ms, to->slow_start_ms);
	differ_port(diff, "gue_port", from->gue_port, to->gue_port, "none");
	lb_config_check_differ(&from->check, &to->check, differ_of, diff);
	lb_config_agent_differ(&from->agent, &to->agent, differ_of, diff);
	lb_config_passive_differ(&from->passive, &to->passive, differ_of, diff);
	diff_backends(diff, from, to);
}

/* A service that comes or goes, with its backends. */
static void tell_service(struct diff *diff, char sign, const struct lb_config_service *service)
{
	struct lb_endpoint vip = {.addr = service->key.addr, .port_be = service->key.port_be};
	char text[160], endpoint[LB_ENDPOINT_STRLEN];

	snprintf(text, sizeof(text), "%s/%s, %s, %zu backend%s",
		lb_config_default_name(&vip, endpoint), lb_config_protocol_name(service->key.proto),
		lb_mode_name(service->mode), service->n_backends,
		service->n_backends == 1 ? "" : "s");
	tell(diff, sign, text);
}

/* What two configs share at both ends makes no difference. */
static void trim(const struct lb_config *from, const struct lb_config *to, size_t *first,
	size_t *n_from, size_t *n_to)
{
	*first = 0;
	*n_from = from->n_services;
	*n_to = to->n_services;
	while (*first < *n_from && *first < *n_to && from->services[*first] == to->services[*first])
		(*first)++;
	while (*n_from > *first && *n_to > *first &&
		from->services[*n_from - 1] == to->services[*n_to - 1]) {
		(*n_from)--;
		(*n_to)--;
	}
	*n_from -= *first;
	*n_to -= *first;
}

static void diff_services(struct diff *diff, const struct lb_config *from,
	const struct lb_config *to)
{
	size_t first, n_from, n_to;
	struct index old, new;

	trim(from, to, &first, &n_from, &n_to);
	if (n_from + n_to == 0)
		return;
	index_services(&old, from->services + first, n_from);
	index_services(&new, to->services + first, n_to);
	for (size_t i = first; i < first + n_from; i++) {
		const struct lb_config_service *service = from->services[i];
		const struct lb_config_service *now = index_lookup(&new, service->name);

		diff->service = service;
		if (!now)
			tell_service(diff, '-', service);
		else if (now != service)
			diff_service(diff, service, now);
	}
	for (size_t i = first; i < first + n_to; i++) {
		diff->service = to->services[i];
		if (!index_lookup(&old, diff->service->name))
			tell_service(diff, '+', diff->service);
	}
	diff->service = NULL;
	index_fini(&old);
	index_fini(&new);
}

void lb_config_share(struct lb_config *config, const struct lb_config *other)
{
	size_t first, n_new, n_old;
	struct index old;

	trim(other, config, &first, &n_old, &n_new);
	if (n_old == 0 || n_new == 0)
		return;
	index_services(&old, other->services + first, n_old);
	for (size_t i = first; i < first + n_new; i++) {
		struct lb_config_service *service = config->services[i];
		struct lb_config_service *same =
			(struct lb_config_service *)index_lookup(&old, service->name);
		const char *a, *b;

		if (!same || same == service)
			continue;
		a = lb_config_service_text(service);
		b = lb_config_service_text(same);
		if (!a || !b || strcmp(a, b))
			continue;
		same->n_refs++;
		config->services[i] = same;
		lb_config_service_unref(service);
	}
	index_fini(&old);
}

static bool has_local_address(const struct lb_config *config, const struct lb_addr *addr)
{
	for (size_t i = 0; i < config->n_local_addresses; i++)
		if (lb_addr_equal(&config->local_addresses[i], addr))
			return true;
	return false;
}

static void diff_local_addresses(struct diff *diff, char sign, const struct lb_config *has,
	const struct lb_config *has_not)
{
	char text[LB_ADDR_STRLEN];

	diff->global = "local_addresses";
	for (size_t i = 0; i < has->n_local_addresses; i++)
		if (!has_local_address(has_not, &has->local_addresses[i]))
			tell(diff, sign, lb_addr_format(&has->local_addresses[i], text));
}

static bool has_resolver(const struct lb_config *config, const struct lb_endpoint *resolver)
{
	for (size_t i = 0; i < config->n_resolvers; i++)
		if (config->resolvers[i].port_be == resolver->port_be &&
			lb_addr_equal(&config->resolvers[i].addr, &resolver->addr))
			return true;
	return false;
}

static void diff_resolvers(struct diff *diff, char sign, const struct lb_config *has,
	const struct lb_config *has_not)
{
	char text[LB_ENDPOINT_STRLEN];

	diff->global = "resolvers";
	for (size_t i = 0; i < has->n_resolvers; i++)
		if (!has_resolver(has_not, &has->resolvers[i]))
			tell(diff, sign, lb_endpoint_format(&has->resolvers[i].addr,
				has->resolvers[i].port_be, text));
}

static const char *gateway_text(const struct lb_config *config, char buf[40])
{
	const uint8_t *m = config->gateway_mac;

	if (!config->has_gateway)
		return "none";
	snprintf(buf, 40, "%02x:%02x:%02x:%02x:%02x:%02x port %u", m[0], m[1], m[2], m[3], m[4],
		m[5], config->gateway_port);
	return buf;
}

static const struct lb_config_interface *interface_of(const struct lb_config *config, const char *name)
{
	for (size_t i = 0; i < config->n_interfaces; i++)
		if (!strcmp(config->interfaces[i].name, name))
			return &config->interfaces[i];
	return NULL;
}

static void diff_ports(struct diff *diff, const struct lb_config *from, const struct lb_config *to)
{
	char path[16], text[80], a[LB_CONFIG_VLAN_BYTES], b[LB_CONFIG_VLAN_BYTES];

	diff->global = path;
	for (unsigned port = 0; port < LB_SHM_MAX_PORTS; port++) {
		if (from->port_vlans[port] == to->port_vlans[port])
			continue;
		snprintf(path, sizeof(path), "port %u", port);
		snprintf(text, sizeof(text), "vlan %s -> %s", lb_config_format_vlan(from->port_vlans[port], a),
			lb_config_format_vlan(to->port_vlans[port], b));
		tell(diff, '~', text);
	}
	diff->global = NULL;
}

/* Interfaces of @p from that @p to has otherwise, or not. @p sign: of those that it has not. */
static void diff_interfaces(struct diff *diff, char sign, const struct lb_config *from,
	const struct lb_config *to)
{
	char path[32], text[80], a[LB_CONFIG_VLAN_BYTES], b[LB_CONFIG_VLAN_BYTES];

	diff->global = path;
	for (size_t i = 0; i < from->n_interfaces; i++) {
		const struct lb_config_interface *x = &from->interfaces[i], *y = interface_of(to, x->name);

		snprintf(path, sizeof(path), "interface %s", x->name);
		if (!y) {
			snprintf(text, sizeof(text), "port %u vlan %s", x->port, lb_config_format_vlan(x->vlan, a));
			tell(diff, sign, text);
		} else if (sign == '-' && (x->port != y->port || x->vlan != y->vlan)) {
			snprintf(text, sizeof(text), "port %u vlan %s -> port %u vlan %s", x->port,
				lb_config_format_vlan(x->vlan, a), y->port, lb_config_format_vlan(y->vlan, b));
			tell(diff, '~', text);
		}
	}
	diff->global = NULL;
}

static void diff_globals(struct diff *diff, const struct lb_config *from,
	const struct lb_config *to)
{
	char a[40], b[40], text[100];

	// The values themselves stay out of logs.
	diff->global = "hash_secret";
	if (from->has_secret != to->has_secret)
		tell(diff, to->has_secret ? '+' : '-', "the secret of the flow hash");
	else if (from->has_secret && memcmp(from->secret, to->secret, sizeof(to->secret)))
		tell(diff, '~', "another secret of the flow hash");
	diff_local_addresses(diff, '-', from, to);
	diff_local_addresses(diff, '+', to, from);
	diff->global = "gateway";
	snprintf(text, sizeof(text), "%s -> %s", gateway_text(from, a), gateway_text(to, b));
	if (from->has_gateway != to->has_gateway ||
		(to->has_gateway && strcmp(a, b)))
		tell(diff, '~', text);
	diff_ports(diff, from, to);
	diff_interfaces(diff, '-', from, to);
	diff_interfaces(diff, '+', to, from);
	diff_resolvers(diff, '-', from, to);
	diff_resolvers(diff, '+', to, from);
	diff->global = "resolvers";
	differ_duration(diff, "resolve_min", from->resolve_min_ms, to->resolve_min_ms);
	differ_duration(diff, "resolve_max", from->resolve_max_ms, to->resolve_max_ms);
	diff->global = "announce";
	if (from->announce_table != 0 && to->announce_table != 0) {
		differ_number(diff, "table", from->announce_table, to->announce_table);
	} else if (from->announce_table != to->announce_table) {
		snprintf(text, sizeof(text), "table %u", from->announce_table + to->announce_table);
		tell(diff, to->announce_table != 0 ? '+' : '-', text);
	}
}

size_t lb_config_diff(const struct lb_config *from, const struct lb_config *to,
	lb_config_diff_fn *fn, void *arg)
{
	struct diff diff = {.fn = fn, .arg = arg};

	diff_globals(&diff, from, to);
	diff_services(&diff, from, to);
	return diff.n;
}
