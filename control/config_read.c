/* SPDX-License-Identifier: BSD-3-Clause */
/* What the keys of a config mean: from tree to objects, one object at a time. */
#include "control/config_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb/maglev.h"
#include "lb/pick.h"
#include "lb/shm.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* What the config can say and this version cannot do yet. Taking a line out is all it takes to allow it. */
static const struct {
	const char *key, *value;
} unsupported[] = {
	{"", ""}, /* nothing at present; no key is empty */
};

bool lb_config_is_unsupported(const char *key, const char *value)
{
	for (size_t i = 0; i < N(unsupported); i++)
		if (!strcmp(unsupported[i].key, key) && !strcmp(unsupported[i].value, value))
			return true;
	return false;
}

uint32_t lb_config_default_idle_ms(uint8_t proto)
{
	return proto == IPPROTO_UDP ? 30000 : 900000;
}

uint32_t lb_config_default_timeout_ms(uint32_t interval_ms)
{
	return interval_ms < LB_CHECK_DEFAULT_TIMEOUT_MS ? interval_ms :
		LB_CHECK_DEFAULT_TIMEOUT_MS;
}

char *lb_config_default_name(const struct lb_endpoint *endpoint, char buf[LB_ENDPOINT_STRLEN])
{
	size_t len;

	lb_endpoint_format(&endpoint->addr, endpoint->port_be, buf);
	len = strlen(buf);
	if (endpoint->port_be == 0)
		snprintf(buf + len - 1, LB_ENDPOINT_STRLEN - len + 1, "all");
	return buf;
}

char *lb_config_backend_default_name(const struct lb_config_backend *backend,
	char buf[LB_CONFIG_DEFAULT_NAME_BYTES])
{
	if (!backend->is_host)
		return lb_config_default_name(&backend->endpoint, buf);
	if (backend->endpoint.port_be)
		snprintf(buf, LB_CONFIG_DEFAULT_NAME_BYTES, "%s:%u", backend->address,
			ntohs(backend->endpoint.port_be));
	else
		snprintf(buf, LB_CONFIG_DEFAULT_NAME_BYTES, "%s:all", backend->address);
	return buf;
}

enum { B_NAME, B_ADDRESS, B_PORT, B_WEIGHT, B_TIER, B_BACKUP, B_STATE, B_HEALTH_CHECK, B_N };
static const char *const backend_keys[B_N] = {
	"name", "address", "port", "weight", "tier", "backup", "state", "health_check",
};

static void require(struct lb_config_reader *reader, const struct lb_node *node,
	const struct lb_node *value, const char *key, const char *what)
{
	if (!value)
		lb_config_fail(reader, node, "%s needs the key \"%s\"", what, key);
}

static void read_tier(struct lb_config_reader *reader, const struct lb_node *const *v,
	struct lb_config_backend *backend)
{
	bool is_backup = false;

	if (v[B_TIER] && v[B_BACKUP])
		lb_config_fail_key(reader, v[B_BACKUP],
			"\"tier\" and \"backup\" together: backup: true is tier: 1, give one of them");
	lb_config_read_u32(reader, v[B_TIER], 0, LB_CONFIG_MAX_TIER, &backend->tier);
	lb_config_read_bool(reader, v[B_BACKUP], &is_backup);
	if (v[B_BACKUP])
		backend->tier = is_backup;
}

/* The name is what an object is known by: to connections, to the API and to other hosts of the fleet. */
static void read_object_name(struct lb_config_reader *reader, const struct lb_node *node,
	bool is_new, char **name)
{
	if (!is_new && node && !reader->rc &&
		(node->kind != LB_NODE_SCALAR || strcmp(node->text, *name)))
		lb_config_fail(reader, node,
			"a name cannot be changed: add a new one and delete \"%s\"", *name);
	else
		lb_config_read_name(reader, node, name);
}

static void read_backend_address(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_backend *backend)
{
	struct lb_addr parsed;

	if (!node || reader->rc)
		return;
	backend->is_host = node->kind == LB_NODE_SCALAR && lb_addr_parse(node->text, &parsed) &&
		lb_config_is_host_name(node->text);
	if (backend->is_host)
		memset(&backend->endpoint.addr, 0, sizeof(backend->endpoint.addr));
	else
		lb_config_read_addr(reader, node, "a backend", &backend->endpoint.addr);
	lb_config_read_string(reader, node, LB_CONFIG_HOST_MAX, NULL, "an address or a host name",
		&backend->address);
}

static void default_backend_name(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_backend *backend)
{
	char name[LB_CONFIG_DEFAULT_NAME_BYTES];

	if (reader->rc || backend->name)
		return;
	lb_config_backend_default_name(backend, name);
	if (strlen(name) > LB_CONFIG_NAME_MAX) {
		lb_config_fail(reader, node, "\"%s\" is too long for a name (at most %u characters): "
			"give the backend a \"name\"", name, LB_CONFIG_NAME_MAX);
		return;
	}
	backend->name = strdup(name);
	if (!backend->name)
		reader->rc = -ENOMEM;
}

/* A check has to know where to connect to. */
static void require_check_port(struct lb_config_reader *reader, const struct lb_node *node,
	uint16_t port_be, const struct lb_config_check *check)
{
	if (reader->rc || port_be || check->port || check->type == LB_CHECK_NONE ||
		check->type == LB_CHECK_EXEC)
		return;
	lb_config_fail(reader, node,
		"with port all a %s check needs a port of its own: give health_check: {port: PORT} or "
		"health_check: {type: none}", lb_check_type_name(check->type));
}

int lb_config_read_backend(struct lb_config_reader *reader, const struct lb_node *node, bool is_new,
	const struct lb_config_service *service, struct lb_config_backend *backend)
{
	const struct lb_node *v[B_N];
	unsigned state = backend->admin;

	if (is_new) {
		*backend = (struct lb_config_backend){.weight = LB_CONFIG_DEFAULT_WEIGHT,
			.endpoint.port_be = service->key.port_be, .line = node->line};
		state = LB_ADMIN_ENABLED;
	}
	if (lb_config_read_keys(reader, node, backend_keys, B_N, v))
		return reader->rc;
	if (is_new)
		require(reader, node, v[B_ADDRESS], "address", "a backend");
	read_object_name(reader, v[B_NAME], is_new, &backend->name);
	read_backend_address(reader, v[B_ADDRESS], backend);
	lb_config_read_port_be(reader, v[B_PORT], &backend->endpoint.port_be);
	lb_config_read_u32(reader, v[B_WEIGHT], 0, LB_CONFIG_MAX_WEIGHT, &backend->weight);
	read_tier(reader, v, backend);
	lb_config_read_enum(reader, v[B_STATE], "state", lb_config_admin_text,
		LB_ADMIN_DISABLED + 1, &state);
	backend->admin = (enum lb_admin_state)state;
	default_backend_name(reader, node, backend);
	lb_config_read_own_check(reader, v[B_HEALTH_CHECK], service, backend);
	if (v[B_HEALTH_CHECK])
		require_check_port(reader, v[B_HEALTH_CHECK], backend->endpoint.port_be,
			lb_config_check_of(service, backend));
	return reader->rc;
}

enum {
	S_NAME, S_VIP, S_PORT, S_PROTOCOL, S_MODE, S_SCHEDULER, S_MAX_LOAD, S_TABLE_SIZE, S_TRACKING,
	S_CLIENT_ADDRESS, S_MSS, S_IDLE_TIMEOUT, S_ON_EMPTY, S_MIN_HEALTHY, S_PANIC_THRESHOLD, S_SLOW_START, S_GUE_PORT,
	S_HEALTH_CHECK, S_AGENT, S_PASSIVE, S_BACKENDS, S_N
};
static const char *const service_keys[S_N] = {
	"name", "vip", "port", "protocol", "mode", "scheduler", "max_load", "table_size", "tracking",
	"client_address", "mss", "idle_timeout", "on_empty", "min_healthy", "panic_threshold", "slow_start", "gue_port",
	"health_check", "agent", "passive", "backends",
};

static void free_backends(struct lb_config_service *service)
{
	for (size_t i = 0; i < service->n_backends; i++)
		lb_config_backend_fini(&service->backends[i]);
	free(service->backends);
	service->backends = NULL;
	service->n_backends = 0;
}

static void read_backends(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_service *service)
{
	char found[LB_CONFIG_FOUND_BYTES];
	const struct lb_node *child;

	if (!node || reader->rc)
		return;
	if (node->kind != LB_NODE_LIST)
		lb_config_fail(reader, node, "expected a list of backends, found %s",
			lb_config_found(node, found));
	else if (node->n_children == 0 && reader->file)
		lb_config_fail(reader, node,
			"an empty list: expected at least one backend (leave the key out for none)");
	else if (node->n_children > LB_MAX_BACKENDS)
		lb_config_fail(reader, node, "expected at most %u backends, found %u",
			LB_MAX_BACKENDS, node->n_children);
	if (reader->rc)
		return;
	free_backends(service);
	if (node->n_children == 0)
		return;
	service->backends = calloc(node->n_children, sizeof(*service->backends));
	if (!service->backends) {
		reader->rc = -ENOMEM;
		return;
	}
	service->n_backends = node->n_children;
	for (child = node->first; child && !reader->rc; child = child->next)
		lb_config_read_backend(reader, child, true, service,
			&service->backends[child->index]);
}

static const char *protocol_name(unsigned i)
{
	return i ? "udp" : "tcp";
}

static void read_service_key(struct lb_config_reader *reader, const struct lb_node *const *v,
	struct lb_service_key *key)
{
	unsigned is_udp = key->proto == IPPROTO_UDP;

	lb_config_read_addr(reader, v[S_VIP], "a VIP", &key->addr);
	lb_config_read_port_be(reader, v[S_PORT], &key->port_be);
	lb_config_read_enum(reader, v[S_PROTOCOL], "protocol", protocol_name, 2, &is_udp);
	key->proto = is_udp ? IPPROTO_UDP : IPPROTO_TCP;
}

static void read_enums(struct lb_config_reader *reader, const struct lb_node *const *v,
	struct lb_config_service *service)
{
	unsigned mode = service->mode, scheduler = service->scheduler,
		 tracking = service->tracking, client = service->client_address,
		 on_empty = service->on_empty;

	lb_config_read_enum(reader, v[S_MODE], "mode", lb_mode_name, LB_MODE_N, &mode);
	lb_config_read_enum(reader, v[S_SCHEDULER], "scheduler", lb_scheduler_name, LB_SCHED_N,
		&scheduler);
	lb_config_read_enum(reader, v[S_TRACKING], "tracking", lb_tracking_name, LB_TRACKING_N,
		&tracking);
	lb_config_read_enum(reader, v[S_CLIENT_ADDRESS], "client_address",
		lb_config_client_address_text, LB_CLIENT_ADDRESS_PROXY_V2 + 1, &client);
	lb_config_read_enum(reader, v[S_ON_EMPTY], "on_empty", lb_on_empty_name, LB_ON_EMPTY_N,
		&on_empty);
	service->mode = (enum lb_mode)mode;
	service->scheduler = (enum lb_scheduler)scheduler;
	service->tracking = (enum lb_tracking)tracking;
	service->client_address = (enum lb_client_address)client;
	service->on_empty = (enum lb_on_empty)on_empty;
}

static void read_table_size(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_service *service)
{
	uint32_t size = service->table_size, below, above;

	lb_config_read_u32(reader, node, LB_MAGLEV_MIN_SLOTS, LB_MAGLEV_MAX_SLOTS, &size);
	if (reader->rc || !node)
		return;
	service->table_size = size;
	if (lb_maglev_is_prime(size))
		return;
	for (below = size; !lb_maglev_is_prime(below); below--)
		;
	for (above = size; !lb_maglev_is_prime(above); above++)
		;
	if (above <= LB_MAGLEV_MAX_SLOTS)
		lb_config_fail(reader, node,
			"expected a prime number, found %u: the nearest are %u and %u", size, below,
			above);
	else
		lb_config_fail(reader, node,
			"expected a prime number, found %u: the nearest is %u", size, below);
}

/* 0s: none. Shorter than a second makes no sense in ten steps. */
static void read_slow_start(struct lb_config_reader *reader, const struct lb_node *node,
	uint32_t *value_ms)
{
	char found[LB_CONFIG_FOUND_BYTES];
	uint32_t ms = *value_ms;

	lb_config_read_duration(reader, node, 0, LB_CONFIG_MAX_INTERVAL_MS, &ms);
	if (ms > 0 && ms < LB_CONFIG_MIN_SLOW_START_MS)
		lb_config_fail(reader, node, "expected 0s (none) or 1s..1h, found %s",
			lb_config_found(node, found));
	else
		*value_ms = ms;
}

static void read_max_load(struct lb_config_reader *reader, const struct lb_node *node, uint16_t *percent)
{
	// in a change, null or an empty text takes it back to its default
	if (!reader->rc && !reader->file && node && node->kind == LB_NODE_SCALAR &&
		(node->is_null || node->len_bytes == 0))
		*percent = 0;
	else
		lb_config_read_ratio(
			reader, node, LB_PICK_MAX_LOAD_MIN, LB_PICK_MAX_LOAD_MAX, percent);
}

/* What chooses per flow has to remember each flow. */
static void check_scheduler(struct lb_config_reader *reader, const struct lb_node *node,
	const struct lb_node *const *v, const struct lb_config_service *service)
{
	const char *scheduler = lb_scheduler_name(service->scheduler);
	bool is_hash = lb_pick_is_hash(service->scheduler);

	if (service->max_load_percent && !is_hash)
		lb_config_fail(reader, v[S_MAX_LOAD] ? v[S_MAX_LOAD] : v[S_SCHEDULER],
			"max_load has no meaning with scheduler %s: it is for maglev, ring and source",
			scheduler);
	else if (service->tracking == LB_TRACKING_CHANGED && !is_hash)
		lb_config_fail(reader, v[S_TRACKING] ? v[S_TRACKING] : v[S_SCHEDULER],
			"scheduler %s needs tracking: all, as it chooses flow by flow and packets that "
			"follow find their backend by the record only", scheduler);
	else if (service->tracking == LB_TRACKING_CHANGED && service->max_load_percent)
		lb_config_fail(reader, v[S_TRACKING] ? v[S_TRACKING] :
			v[S_MAX_LOAD] ? v[S_MAX_LOAD] : node,
			"max_load needs tracking: all, as loads are counted by recorded flows");
}

/* A port of mode gue only; a change to another mode forgets it. */
static void read_gue_port(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_service *service)
{
	if (reader->rc)
		return;
	if (service->mode != LB_MODE_GUE) {
		if (node)
			lb_config_fail(reader, node, "only with mode gue, not with mode %s",
				lb_mode_name(service->mode));
		service->gue_port = 0;
		return;
	}
	if (service->gue_port == 0)
		service->gue_port = LB_CONFIG_DEFAULT_GUE_PORT;
	lb_config_read_u16(reader, node, 1, UINT16_MAX, &service->gue_port);
}

/* Where both directions pass only; a change to another mode or protocol forgets it. */
static void read_mss(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_service *service)
{
	if (reader->rc)
		return;
	if (lb_mode_has_mss(service->mode, service->key.proto)) {
		lb_config_read_mss(reader, node, &service->mss);
		return;
	}
	if (node && service->key.proto != IPPROTO_TCP)
		lb_config_fail(reader, node, "only with protocol tcp");
	else if (node)
		lb_config_fail(reader, node, "only with modes nat and fullnat, not with mode %s: the "
			"backends' packets do not pass here", lb_mode_name(service->mode));
	service->mss = LB_MSS_AUTO;
}

/* The service's port has changed, and the backends' cannot be another. */
static void move_port(struct lb_config_service *service, uint16_t from_be)
{
	for (size_t i = 0; i < service->n_backends; i++)
		if (service->backends[i].endpoint.port_be == from_be)
			service->backends[i].endpoint.port_be = service->key.port_be;
}

static int init_service(struct lb_config_service *service, const struct lb_node *node)
{
	*service = (struct lb_config_service){
		.mode = LB_MODE_NAT,
		.scheduler = LB_SCHED_MAGLEV,
		.table_size = LB_CONFIG_DEFAULT_TABLE_SIZE,
		.tracking = LB_TRACKING_ALL,
		.mss = LB_MSS_AUTO,
		.min_healthy = 1,
		.line = node->line,
		.n_refs = 1,
	};
	return 0;
}

/* What depends on the protocol. */
static void default_service(struct lb_config_reader *reader, struct lb_config_service *service)
{
	bool is_tcp = service->key.proto == IPPROTO_TCP;

	service->idle_timeout_ms = lb_config_default_idle_ms(service->key.proto);
	if (lb_config_check_init(&service->check, is_tcp ? LB_CHECK_TCP : LB_CHECK_NONE))
		reader->rc = -ENOMEM;
	lb_config_agent_init(&service->agent);
	lb_config_passive_init(&service->passive, is_tcp);
}

static void read_health(struct lb_config_reader *reader, const struct lb_node *node, bool is_new,
	const struct lb_node *const *v, struct lb_config_service *service)
{
	lb_config_read_check(reader, v[S_HEALTH_CHECK], is_new, &service->check);
	require_check_port(reader, v[S_HEALTH_CHECK] ? v[S_HEALTH_CHECK] :
		v[S_PORT] ? v[S_PORT] : node, service->key.port_be, &service->check);
	if (v[S_HEALTH_CHECK] && !v[S_BACKENDS])
		lb_config_rederive_checks(reader, v[S_HEALTH_CHECK], service);
	lb_config_read_agent(reader, v[S_AGENT], &service->agent);
	lb_config_read_passive(reader, v[S_PASSIVE], &service->passive);
}

int lb_config_read_service(struct lb_config_reader *reader, const struct lb_node *node, bool is_new,
	struct lb_config_service *service)
{
	const struct lb_node *v[S_N];
	uint16_t old_port_be = service->key.port_be;

	if (is_new)
		init_service(service, node);
	if (lb_config_read_keys(reader, node, service_keys, S_N, v))
		return reader->rc;
	if (is_new)
		for (unsigned i = S_NAME; i <= S_PROTOCOL; i++)
			require(reader, node, v[i], service_keys[i], "a service");
	read_object_name(reader, v[S_NAME], is_new, &service->name);
	read_service_key(reader, v, &service->key);
	if (is_new && !reader->rc)
		default_service(reader, service);
	read_enums(reader, v, service);
	read_table_size(reader, v[S_TABLE_SIZE], service);
	lb_config_read_duration(reader, v[S_IDLE_TIMEOUT], LB_IDLE_TIMEOUT_MIN_MS,
		LB_IDLE_TIMEOUT_MAX_MS, &service->idle_timeout_ms);
	lb_config_read_u32(reader, v[S_MIN_HEALTHY], 1, LB_MAX_BACKENDS, &service->min_healthy);
	lb_config_read_u16(reader, v[S_PANIC_THRESHOLD], 0, 100, &service->panic_threshold);
	read_slow_start(reader, v[S_SLOW_START], &service->slow_start_ms);
	read_max_load(reader, v[S_MAX_LOAD], &service->max_load_percent);
	if (!reader->rc)
		check_scheduler(reader, node, v, service);
	read_gue_port(reader, v[S_GUE_PORT], service);
	read_mss(reader, v[S_MSS], service);
	if (!is_new && lb_mode_keeps_port(service->mode))
		move_port(service, old_port_be);
	read_health(reader, node, is_new, v, service);
	read_backends(reader, v[S_BACKENDS], service);
	return reader->rc;
}

static void read_services(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config *config)
{
	char found[LB_CONFIG_FOUND_BYTES];
	const struct lb_node *child;

	if (reader->rc || (node->kind == LB_NODE_SCALAR && !strcmp(node->text, "none")))
		return;
	if (node->kind != LB_NODE_LIST)
		lb_config_fail(reader, node, "expected a list of services, found %s",
			lb_config_found(node, found));
	else if (node->n_children == 0)
		lb_config_fail(reader, node,
			"an empty list: expected at least one service (write services: none if none is "
			"meant)");
	else if (node->n_children > LB_MAX_SERVICES)
		lb_config_fail(reader, node, "expected at most %u services, found %u",
			LB_MAX_SERVICES, node->n_children);
	if (reader->rc)
		return;
	config->services = calloc(node->n_children, sizeof(*config->services));
	if (!config->services) {
		reader->rc = -ENOMEM;
		return;
	}
	config->n_services = node->n_children;
	for (child = node->first; child && !reader->rc; child = child->next) {
		struct lb_config_service *service = lb_config_service_new();

		config->services[child->index] = service;
		if (service)
			lb_config_read_service(reader, child, true, service);
		else
			reader->rc = -ENOMEM;
	}
}

static void read_local_addresses(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config *config)
{
	char found[LB_CONFIG_FOUND_BYTES];
	const struct lb_node *child;

	if (!node || reader->rc)
		return;
	if (node->kind != LB_NODE_LIST || node->n_children == 0 ||
		node->n_children > LB_CONFIG_MAX_LOCAL_ADDRESSES) {
		lb_config_fail(reader, node, "expected a list of 1..%u addresses, found %s",
			LB_CONFIG_MAX_LOCAL_ADDRESSES, node->kind != LB_NODE_LIST ?
			lb_config_found(node, found) : node->n_children ? "more" : "an empty list");
		return;
	}
	config->local_addresses = calloc(node->n_children, sizeof(*config->local_addresses));
	if (!config->local_addresses) {
		reader->rc = -ENOMEM;
		return;
	}
	for (child = node->first; child && !reader->rc; child = child->next) {
		struct lb_addr *addr = &config->local_addresses[config->n_local_addresses++];

		lb_config_read_addr(reader, child, "a local address", addr);
		for (size_t i = 0; i < child->index; i++)
			if (lb_addr_equal(addr, &config->local_addresses[i]))
				lb_config_fail(reader, child, "address %s is listed twice",
					lb_config_found(child, found));
	}
}

static void read_gateway(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config *config)
{
	static const char *const keys[] = {"mac", "port"};
	const struct lb_node *v[N(keys)];

	if (!node || lb_config_read_keys(reader, node, keys, N(keys), v))
		return;
	require(reader, node, v[0], "mac", "a gateway");
	lb_config_read_mac(reader, v[0], config->gateway_mac);
	lb_config_read_u16(reader, v[1], 0, LB_SHM_MAX_PORTS - 1, &config->gateway_port);
	config->has_gateway = true;
}

/* As the kernel has them (dev_valid_name()), and printable. */
static bool is_interface_name(const char *text)
{
	size_t n = strlen(text);

	if (n == 0 || n > 15 || !strcmp(text, ".") || !strcmp(text, ".."))
		return false;
	for (size_t i = 0; i < n; i++)
		if (text[i] <= ' ' || text[i] > '~' || text[i] == '/' || text[i] == ':')
			return false;
	return true;
}

static void read_interface(struct lb_config_reader *reader, const struct lb_node *node, uint16_t port,
	struct lb_config *config)
{
	static const char *const keys[] = {"name", "vlan"};
	struct lb_config_interface *interface, *list;
	const struct lb_node *v[N(keys)];
	char *name = NULL;

	if (lb_config_read_keys(reader, node, keys, N(keys), v))
		return;
	require(reader, node, v[0], "name", "an interface");
	require(reader, node, v[1], "vlan", "an interface");
	lb_config_read_string(reader, v[0], 15, is_interface_name, "the name of a kernel interface", &name);
	for (size_t i = 0; !reader->rc && i < config->n_interfaces; i++)
		if (!strcmp(config->interfaces[i].name, name))
			lb_config_fail(reader, v[0], "interface %s is listed twice", name);
	if (!reader->rc && config->n_interfaces == LB_CONFIG_MAX_INTERFACES)
		lb_config_fail(reader, node, "expected at most %u interfaces in all", LB_CONFIG_MAX_INTERFACES);
	list = reader->rc ? NULL : realloc(config->interfaces, (config->n_interfaces + 1) * sizeof(*list));
	if (list) {
		config->interfaces = list;
		interface = &list[config->n_interfaces++];
		*interface = (struct lb_config_interface){.port = port};
		snprintf(interface->name, sizeof(interface->name), "%s", name);
		lb_config_read_vlan(reader, v[1], false, &interface->vlan);
	} else if (!reader->rc) {
		reader->rc = -ENOMEM;
	}
	free(name);
}

static void read_port(struct lb_config_reader *reader, const struct lb_node *node, uint32_t *seen,
	struct lb_config *config)
{
	static const char *const keys[] = {"port", "vlan", "interfaces"};
	const struct lb_node *v[N(keys)];
	char found[LB_CONFIG_FOUND_BYTES];
	uint16_t port = 0;

	if (lb_config_read_keys(reader, node, keys, N(keys), v))
		return;
	require(reader, node, v[0], "port", "one of ports");
	lb_config_read_u16(reader, v[0], 0, LB_SHM_MAX_PORTS - 1, &port);
	if (!reader->rc && *seen >> port & 1)
		lb_config_fail(reader, v[0], "port %u is listed twice", port);
	if (reader->rc)
		return;
	*seen |= UINT32_C(1) << port;
	lb_config_read_vlan(reader, v[1], true, &config->port_vlans[port]);
	if (!v[2] || reader->rc)
		return;
	if (v[2]->kind != LB_NODE_LIST || v[2]->n_children == 0)
		lb_config_fail(reader, v[2], "expected a list of interfaces, found %s",
			v[2]->kind != LB_NODE_LIST ? lb_config_found(v[2], found) : "an empty list");
	for (const struct lb_node *child = v[2]->first; child && !reader->rc; child = child->next)
		read_interface(reader, child, port, config);
}

static int compare_interfaces(const void *a, const void *b)
{
	const struct lb_config_interface *x = a, *y = b;

	return x->port != y->port ? (int)x->port - (int)y->port : strcmp(x->name, y->name);
}

static void read_ports(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config *config)
{
	char found[LB_CONFIG_FOUND_BYTES];
	uint32_t seen = 0;

	if (!node || reader->rc)
		return;
	if (node->kind != LB_NODE_LIST || node->n_children == 0)
		lb_config_fail(reader, node, "expected a list of ports, found %s",
			node->kind != LB_NODE_LIST ? lb_config_found(node, found) : "an empty list");
	for (const struct lb_node *child = node->first; child && !reader->rc; child = child->next)
		read_port(reader, child, &seen, config);
	if (!reader->rc && config->n_interfaces)
		qsort(config->interfaces, config->n_interfaces, sizeof(*config->interfaces), compare_interfaces);
}

/* "192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]:53". A loopback address is fine here. */
static void read_resolver(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_endpoint *resolver)
{
	char found[LB_CONFIG_FOUND_BYTES], *text = NULL;

	lb_config_read_string(reader, node, LB_ENDPOINT_STRLEN, NULL,
		"the address of a name server, with :PORT if need be", &text);
	if (reader->rc)
		return;
	if (!lb_addr_parse(text, &resolver->addr))
		resolver->port_be = htons(53);
	else if (lb_endpoint_parse(text, resolver) || resolver->port_be == 0)
		lb_config_fail(reader, node, "expected the address of a name server, with :PORT if "
			"need be, found %s", lb_config_found(node, found));
	free(text);
}

static void read_resolvers(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config *config)
{
	char found[LB_CONFIG_FOUND_BYTES];

	if (!node || reader->rc)
		return;
	if (node->kind != LB_NODE_LIST || node->n_children == 0 ||
		node->n_children > LB_CONFIG_MAX_RESOLVERS) {
		lb_config_fail(reader, node, "expected a list of 1..%u name servers, found %s",
			LB_CONFIG_MAX_RESOLVERS, node->kind != LB_NODE_LIST ?
			lb_config_found(node, found) : node->n_children ? "more" : "an empty list");
		return;
	}
	config->resolvers = calloc(node->n_children, sizeof(*config->resolvers));
	if (!config->resolvers) {
		reader->rc = -ENOMEM;
		return;
	}
	for (const struct lb_node *child = node->first; child && !reader->rc; child = child->next)
		read_resolver(reader, child, &config->resolvers[config->n_resolvers++]);
}

static void read_resolve_times(struct lb_config_reader *reader, const struct lb_node *min,
	const struct lb_node *max, struct lb_config *config)
{
	char a[LB_CONFIG_DURATION_BYTES], b[LB_CONFIG_DURATION_BYTES];

	config->resolve_min_ms = LB_CONFIG_DEFAULT_RESOLVE_MIN_MS;
	config->resolve_max_ms = LB_CONFIG_DEFAULT_RESOLVE_MAX_MS;
	lb_config_read_duration(reader, min, 1000, 3600000, &config->resolve_min_ms);
	lb_config_read_duration(reader, max, 1000, 86400000, &config->resolve_max_ms);
	if (!reader->rc && config->resolve_min_ms > config->resolve_max_ms)
		lb_config_fail(reader, min ? min : max,
			"expected resolve_min no longer than resolve_max, found %s and %s",
			lb_config_format_duration(config->resolve_min_ms, a),
			lb_config_format_duration(config->resolve_max_ms, b));
}

// Not the tables by which the host itself routes: our routes are blackholes.
static void read_announce(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config *config)
{
	static const char *const keys[] = {"table"};
	const struct lb_node *v[N(keys)];

	if (!node || lb_config_read_keys(reader, node, keys, N(keys), v))
		return;
	require(reader, node, v[0], "table", "announce");
	lb_config_read_u32(reader, v[0], 1, UINT32_MAX, &config->announce_table);
	if (!reader->rc && config->announce_table >= RT_TABLE_DEFAULT && config->announce_table <= RT_TABLE_LOCAL)
		lb_config_fail(reader, v[0],
			"expected a routing table of its own, found %u: the host routes by 253 (default), 254 (main) "
			"and 255 (local)", config->announce_table);
}

int lb_config_read(struct lb_config_reader *reader, struct lb_config *config)
{
	enum { HASH_SECRET, LOCAL_ADDRESSES, GATEWAY, PORTS, RESOLVERS, RESOLVE_MIN, RESOLVE_MAX, ANNOUNCE,
		SERVICES, N_KEYS };
	static const char *const keys[N_KEYS] = {
		"hash_secret", "local_addresses", "gateway", "ports", "resolvers", "resolve_min",
		"resolve_max", "announce", "services",
	};
	const struct lb_node *v[N_KEYS];

	if (lb_config_read_keys(reader, reader->root, keys, N_KEYS, v))
		return reader->rc;
	require(reader, reader->root, v[SERVICES], "services", "a config");
	lb_config_read_secret(reader, v[HASH_SECRET], config->secret);
	config->has_secret = v[HASH_SECRET];
	if (v[HASH_SECRET])
		lb_config_place(reader, v[HASH_SECRET], config->secret_where, sizeof(config->secret_where));
	read_local_addresses(reader, v[LOCAL_ADDRESSES], config);
	read_gateway(reader, v[GATEWAY], config);
	read_ports(reader, v[PORTS], config);
	read_resolvers(reader, v[RESOLVERS], config);
	read_resolve_times(reader, v[RESOLVE_MIN], v[RESOLVE_MAX], config);
	read_announce(reader, v[ANNOUNCE], config);
	read_services(reader, v[SERVICES], config);
	return reader->rc;
}
