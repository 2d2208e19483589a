/* SPDX-License-Identifier: BSD-3-Clause */
/* What the keys of a config mean: from tree to objects, one object at a time. */
#include "control/config_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb/maglev.h"
#include "lb/shm.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* What the config can say and this version cannot do yet. Taking a line out is all it takes to allow it. */
static const struct {
	const char *key, *value;
} unsupported[] = {
	{"mode", "fullnat"},
	{"scheduler", "ring"}, {"scheduler", "rr"}, {"scheduler", "wrr"}, {"scheduler", "lc"},
	{"scheduler", "wlc"}, {"scheduler", "p2c"}, {"scheduler", "source"},
	{"client_address", "toa"}, {"client_address", "proxy_v2"},
	{"on_empty", "reset"}, {"on_empty", "last_resort"},
	{"slow_start", ""}, /* any but 0s */
	{"type", "https"}, {"type", "udp"}, {"type", "dns"}, {"type", "exec"},
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
	return interval_ms < LB_CONFIG_DEFAULT_TIMEOUT_MS ? interval_ms :
		LB_CONFIG_DEFAULT_TIMEOUT_MS;
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

int lb_config_check_init(struct lb_config_check *check, enum lb_check_type type)
{
	*check = (struct lb_config_check){
		.type = type,
		.expect_status_min = LB_CONFIG_DEFAULT_STATUS_MIN,
		.expect_status_max = LB_CONFIG_DEFAULT_STATUS_MAX,
		.interval_ms = LB_CONFIG_DEFAULT_INTERVAL_MS,
		.timeout_ms = LB_CONFIG_DEFAULT_TIMEOUT_MS,
		.rise = LB_CONFIG_DEFAULT_RISE,
		.fall = LB_CONFIG_DEFAULT_FALL,
	};
	if (type != LB_CHECK_HTTP && type != LB_CHECK_HTTPS)
		return 0;
	check->path = strdup("/");
	return check->path ? 0 : -ENOMEM;
}

void lb_config_check_fini(struct lb_config_check *check)
{
	free(check->path);
	free(check->host);
	free(check->expect_body);
	check->path = check->host = check->expect_body = NULL;
}

/* In a change, null or an empty text takes an optional value back to its default. */
static bool is_reset(const struct lb_config_reader *reader, const struct lb_node *node)
{
	return !reader->rc && !reader->file && node && node->kind == LB_NODE_SCALAR &&
		(node->is_null || node->len_bytes == 0);
}

static bool is_path(const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c <= ' ' || *c > '~')
			return false;
	return text[0] == '/';
}

static bool is_host(const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c <= ' ' || *c > '~' || strchr("/?#@\\\"<>", *c))
			return false;
	return true;
}

/*
 * A substring may have line breaks, but no characters that YAML cannot carry unescaped: C0 and C1 controls,
 * U+2028 and U+2029, byte-order marks and non-characters (YAML 1.1, section 5.1).
 */
static bool is_body_text(const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if ((*c < ' ' && !strchr("\t\n\r", *c)) || *c == 0x7f)
			return false;
		if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f)
			return false;
		if (c[0] == 0xe2 && c[1] == 0x80 && (c[2] == 0xa8 || c[2] == 0xa9))
			return false;
		if (c[0] == 0xef && c[1] == 0xbb && c[2] == 0xbf)
			return false;
		if (c[0] == 0xef && c[1] == 0xbf && c[2] >= 0xbe)
			return false;
	}
	return true;
}

enum {
	C_TYPE, C_PORT, C_PATH, C_HOST, C_EXPECT_STATUS, C_EXPECT_BODY, C_INTERVAL, C_TIMEOUT,
	C_RISE, C_FALL, C_N
};
static const char *const check_keys[C_N] = {
	"type", "port", "path", "host", "expect_status", "expect_body", "interval", "timeout",
	"rise", "fall",
};

static bool check_key_applies(enum lb_check_type type, unsigned key)
{
	if (key == C_TYPE)
		return true;
	if (type == LB_CHECK_NONE)
		return false;
	return type == LB_CHECK_HTTP || key < C_PATH || key > C_EXPECT_BODY;
}

static void read_optional_string(struct lb_config_reader *reader, const struct lb_node *node,
	size_t max_bytes, bool (*is_ok)(const char *text), const char *expected, const char *reset,
	char **value)
{
	char *copy = NULL;

	if (!is_reset(reader, node)) {
		lb_config_read_string(reader, node, max_bytes, is_ok, expected, value);
		return;
	}
	if (reset) {
		copy = strdup(reset);
		if (!copy) {
			reader->rc = -ENOMEM;
			return;
		}
	}
	free(*value);
	*value = copy;
}

static void read_check_values(struct lb_config_reader *reader, const struct lb_node *const *v,
	struct lb_config_check *check)
{
	if (is_reset(reader, v[C_PORT]))
		check->port = 0;
	else
		lb_config_read_u16(reader, v[C_PORT], 1, 65535, &check->port);
	read_optional_string(reader, v[C_PATH], LB_CONFIG_MAX_PATH_BYTES, is_path,
		"a path that begins with / (at most 1024 characters, no spaces)", "/",
		&check->path);
	read_optional_string(reader, v[C_HOST], LB_CONFIG_MAX_HOST_BYTES, is_host,
		"a host name, with :PORT if need be", NULL, &check->host);
	read_optional_string(reader, v[C_EXPECT_BODY], LB_CONFIG_MAX_BODY_BYTES, is_body_text,
		"a text of 1..1024 bytes without control characters", NULL, &check->expect_body);
	lb_config_read_status(reader, v[C_EXPECT_STATUS], &check->expect_status_min,
		&check->expect_status_max);
	lb_config_read_duration(reader, v[C_INTERVAL], LB_CONFIG_MIN_INTERVAL_MS,
		LB_CONFIG_MAX_INTERVAL_MS, &check->interval_ms);
	lb_config_read_duration(reader, v[C_TIMEOUT], LB_CONFIG_MIN_TIMEOUT_MS,
		LB_CONFIG_MAX_INTERVAL_MS, &check->timeout_ms);
	lb_config_read_u32(reader, v[C_RISE], 1, LB_CONFIG_MAX_RISE_FALL, &check->rise);
	lb_config_read_u32(reader, v[C_FALL], 1, LB_CONFIG_MAX_RISE_FALL, &check->fall);
}

/* @check is initialised; without `type` the keys given change what it has. */
static void read_check(struct lb_config_reader *reader, const struct lb_node *node, bool is_new,
	struct lb_config_check *check)
{
	char timeout[LB_CONFIG_DURATION_BYTES], interval[LB_CONFIG_DURATION_BYTES];
	const struct lb_node *v[C_N];
	unsigned type = check->type;

	if (!node || lb_config_read_keys(reader, node, check_keys, C_N, v))
		return;
	lb_config_read_enum(reader, v[C_TYPE], "type", lb_config_check_type_text, LB_CHECK_TYPE_N,
		&type);
	if (type != check->type) {
		lb_config_check_fini(check);
		if (lb_config_check_init(check, (enum lb_check_type)type)) {
			reader->rc = -ENOMEM;
			return;
		}
		is_new = true;
	}
	for (unsigned i = 0; i < C_N; i++)
		if (v[i] && !check_key_applies(check->type, i))
			lb_config_fail_key(reader, v[i], "key \"%s\" has no meaning with type %s",
				check_keys[i], lb_check_type_name(check->type));
	read_check_values(reader, v, check);
	if (reader->rc)
		return;
	if (is_new && !v[C_TIMEOUT])
		check->timeout_ms = lb_config_default_timeout_ms(check->interval_ms);
	if (check->timeout_ms > check->interval_ms)
		lb_config_fail(reader, v[C_TIMEOUT] ? v[C_TIMEOUT] : v[C_INTERVAL],
			"expected a timeout no longer than the interval, found timeout %s and interval %s",
			lb_config_format_duration(check->timeout_ms, timeout),
			lb_config_format_duration(check->interval_ms, interval));
}

enum { B_NAME, B_ADDRESS, B_PORT, B_WEIGHT, B_TIER, B_BACKUP, B_STATE, B_N };
static const char *const backend_keys[B_N] = {
	"name", "address", "port", "weight", "tier", "backup", "state",
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
	lb_config_read_addr(reader, node, "a backend", &backend->endpoint.addr);
	lb_config_read_string(reader, node, LB_ADDR_STRLEN, NULL, "an address", &backend->address);
}

int lb_config_read_backend(struct lb_config_reader *reader, const struct lb_node *node, bool is_new,
	const struct lb_config_service *service, struct lb_config_backend *backend)
{
	const struct lb_node *v[B_N];
	char name[LB_ENDPOINT_STRLEN];
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
	if (!reader->rc && !backend->name) {
		backend->name = strdup(lb_config_default_name(&backend->endpoint, name));
		if (!backend->name)
			reader->rc = -ENOMEM;
	}
	return reader->rc;
}

enum {
	S_NAME, S_VIP, S_PORT, S_PROTOCOL, S_MODE, S_SCHEDULER, S_TABLE_SIZE, S_TRACKING,
	S_CLIENT_ADDRESS, S_IDLE_TIMEOUT, S_ON_EMPTY, S_MIN_HEALTHY, S_SLOW_START, S_GUE_PORT,
	S_HEALTH_CHECK, S_BACKENDS, S_N
};
static const char *const service_keys[S_N] = {
	"name", "vip", "port", "protocol", "mode", "scheduler", "table_size", "tracking",
	"client_address", "idle_timeout", "on_empty", "min_healthy", "slow_start", "gue_port",
	"health_check", "backends",
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

static void read_slow_start(struct lb_config_reader *reader, const struct lb_node *node,
	uint32_t *value_ms)
{
	uint32_t ms = *value_ms;

	lb_config_read_duration(reader, node, 0, LB_CONFIG_MAX_INTERVAL_MS, &ms);
	if (ms && lb_config_is_unsupported("slow_start", ""))
		lb_config_fail(reader, node,
			"slow_start: not supported by this version, leave it out");
	else
		*value_ms = ms;
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

/* The service's port has changed, and the backends' cannot be another. */
static void move_port(struct lb_config_service *service, uint16_t from_be)
{
	for (size_t i = 0; i < service->n_backends; i++)
		if (service->backends[i].endpoint.port_be == from_be)
			service->backends[i].endpoint.port_be = service->key.port_be;
}

/* A check has to know where to connect to. */
static void require_check_port(struct lb_config_reader *reader, const struct lb_node *node,
	const struct lb_node *const *v, const struct lb_config_service *service)
{
	if (service->key.port_be || service->check.port || service->check.type == LB_CHECK_NONE)
		return;
	lb_config_fail(reader, v[S_HEALTH_CHECK] ? v[S_HEALTH_CHECK] :
		v[S_PORT] ? v[S_PORT] : node,
		"with port all a %s check needs a port of its own: give health_check: {port: PORT} or "
		"health_check: {type: none}", lb_check_type_name(service->check.type));
}

static int init_service(struct lb_config_service *service, const struct lb_node *node)
{
	*service = (struct lb_config_service){
		.mode = LB_MODE_NAT,
		.scheduler = LB_SCHED_MAGLEV,
		.table_size = LB_CONFIG_DEFAULT_TABLE_SIZE,
		.tracking = LB_TRACKING_ALL,
		.min_healthy = 1,
		.line = node->line,
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
	read_slow_start(reader, v[S_SLOW_START], &service->slow_start_ms);
	read_gue_port(reader, v[S_GUE_PORT], service);
	if (!is_new && lb_mode_keeps_port(service->mode))
		move_port(service, old_port_be);
	read_check(reader, v[S_HEALTH_CHECK], is_new, &service->check);
	if (!reader->rc)
		require_check_port(reader, node, v, service);
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
	for (child = node->first; child && !reader->rc; child = child->next)
		lb_config_read_service(reader, child, true, &config->services[child->index]);
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

int lb_config_read(struct lb_config_reader *reader, struct lb_config *config)
{
	enum { HASH_SECRET, LOCAL_ADDRESSES, GATEWAY, SERVICES, N_KEYS };
	static const char *const keys[N_KEYS] = {
		"hash_secret", "local_addresses", "gateway", "services",
	};
	const struct lb_node *v[N_KEYS];

	if (lb_config_read_keys(reader, reader->root, keys, N_KEYS, v))
		return reader->rc;
	require(reader, reader->root, v[SERVICES], "services", "a config");
	lb_config_read_secret(reader, v[HASH_SECRET], config->secret);
	config->has_secret = v[HASH_SECRET];
	read_local_addresses(reader, v[LOCAL_ADDRESSES], config);
	read_gateway(reader, v[GATEWAY], config);
	read_services(reader, v[SERVICES], config);
	return reader->rc;
}
