/* SPDX-License-Identifier: BSD-3-Clause */
#include "config_util.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/config_internal.h"
#include "lb/pick.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

uint32_t random_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)((random_next(state) >> 32) % n);
}

static uint32_t random_in(uint64_t *state, uint32_t min, uint32_t max)
{
	return min + random_below(state, max - min + 1);
}

static bool chance(uint64_t *state, uint32_t percent)
{
	return random_below(state, 100) < percent;
}

/* A text of 1..max_pieces pieces. */
static char *random_text(uint64_t *state, const char *const *pieces, uint32_t n_pieces,
	uint32_t max_pieces)
{
	uint32_t n = random_in(state, 1, max_pieces);
	char buf[256] = "";

	while (n--)
		strcat(buf, pieces[random_below(state, n_pieces)]);
	return strdup(buf);
}

/* Unique by `unique`, otherwise as odd as a name may be. */
static char *random_name(uint64_t *state, unsigned unique)
{
	static const char *const heads[] = {"web", "null", "true", "1e", "0x", "~", "[a]:", "2001-01-",
		".5", "_", "12:30:", "api-", "NO"};
	char buf[64];

	snprintf(buf, sizeof(buf), "%s%u", heads[random_below(state, N(heads))], unique);
	// Once without a number, so that the word itself has to be kept a name.
	if (unique == 0)
		buf[strlen(buf) - 1] = '\0';
	if (buf[0] == '~')
		buf[0] = ':';
	return strdup(buf);
}

static uint32_t random_duration(uint64_t *state, uint32_t min_ms, uint32_t max_ms)
{
	static const uint32_t units_ms[] = {1, 10, 1000, 60000, 3600000};
	uint32_t unit = units_ms[random_below(state, N(units_ms))];
	uint32_t value = random_in(state, min_ms, max_ms) / unit * unit;

	return value < min_ms ? min_ms : value;
}

static void random_http(uint64_t *state, struct lb_config_check *check)
{
	static const char *const path[] = {"/", "a", "?", "#", "=", "\"", "\\", ": ", "%20", "'", "}"};
	static const char *const host[] = {"a", "example.", "com", ":8443", "[::1]", "-", "10."};
	static const char *const body[] = {"ok", "\"", "\\", "\n", "\t", "\r", ": ", " #", "\xc3\xbc",
		"\xf0\x9f\x98\x80", "{", "- ", "'", "&", "*", "null", " ", "%", "\xe2\x80\xa7"};
	char *tail = random_text(state, path, N(path), 6), *space;
	char buf[300];

	while ((space = strchr(tail, ' ')))
		*space = '+';
	snprintf(buf, sizeof(buf), "/%s", tail);
	free(tail);
	free(check->path);
	check->path = strdup(buf);
	if (chance(state, 50))
		check->host = random_text(state, host, N(host), 4);
	if (chance(state, 50))
		check->expect_body = random_text(state, body, N(body), 12);
	if (chance(state, 50)) {
		check->expect_status_min = (uint16_t)random_in(state, 100, 599);
		check->expect_status_max = (uint16_t)random_in(state, check->expect_status_min, 599);
	}
}

static void random_command(uint64_t *state, struct lb_config_check *check)
{
	static const char *const args[] = {"-x", "\"", "\\", "a b", "$HOME", "'", "--", "\n", "%p", ": "};
	uint32_t n = random_below(state, 4);

	check->command = calloc(1, 1024);
	strcpy(check->command, "/usr/bin/check");
	check->command_bytes = (uint32_t)strlen(check->command) + 1;
	while (n--) {
		char *arg = random_text(state, args, N(args), 4);

		strcpy(check->command + check->command_bytes, arg);
		check->command_bytes += (uint32_t)strlen(arg) + 1;
		free(arg);
	}
}

/* What only one type has. */
static void random_special(uint64_t *state, struct lb_config_check *check)
{
	static const char *const payload[] = {"ping", "\\x00", "\\xfF", "\\r\\n", "\\\\", "\"", "'", " ", "#",
		"\xc3\xbc", "\n"};
	static const char *const names[] = {"a.", "b-c.", "_d.", "1."};
	char *head;

	if (check->type == LB_CHECK_HTTPS) {
		check->verify = chance(state, 50);
		check->sni = chance(state, 50) ? strdup("sni.example.com") : NULL;
		check->ca_file = chance(state, 50) ? strdup("/etc/ssl/ca.pem") : NULL;
	} else if (check->type == LB_CHECK_UDP) {
		check->send = chance(state, 70) ? random_text(state, payload, N(payload), 6) : NULL;
		check->expect = chance(state, 50) ? random_text(state, payload, N(payload), 6) : NULL;
	} else if (check->type == LB_CHECK_DNS) {
		head = random_text(state, names, N(names), 5);
		check->query = calloc(1, 100);
		snprintf(check->query, 100, "%sexample.com", head);
		free(head);
		check->record = (uint16_t)random_below(state, LB_CHECK_N_RECORDS);
	} else if (check->type == LB_CHECK_EXEC) {
		random_command(state, check);
	}
}

static void random_agent(uint64_t *state, struct lb_config_service *service)
{
	bool is_tcp = service->key.proto == IPPROTO_TCP;

	service->agent = (struct lb_config_agent){.interval_ms = 2000, .timeout_ms = 1000};
	if (chance(state, 30)) {
		service->agent.port = (uint16_t)random_in(state, 1, 65535);
		service->agent.interval_ms = random_duration(state, 100, 3600000);
		service->agent.timeout_ms = random_duration(state, 10, service->agent.interval_ms);
		service->agent.send = chance(state, 50) ? strdup("how are you?\\n") : NULL;
	}
	service->passive = (struct lb_config_passive){.enabled = is_tcp, .min_flows = 3,
		.refused_percent = 50};
	if (chance(state, 30))
		service->passive = (struct lb_config_passive){.enabled = chance(state, 50),
			.min_flows = random_in(state, 1, 1000000),
			.refused_percent = random_in(state, 1, 100)};
}

static void random_check(uint64_t *state, struct lb_config_service *service)
{
	struct lb_config_check *check = &service->check;

	lb_config_check_init(check, (enum lb_check_type)random_below(state, LB_CHECK_TYPE_N));
	random_agent(state, service);
	if (check->type == LB_CHECK_NONE)
		return;
	random_special(state, check);
	if (service->key.port_be == 0 || chance(state, 30))
		check->port = (uint16_t)random_in(state, 1, 65535);
	if (chance(state, 50)) {
		check->interval_ms = random_duration(state, 100, 3600000);
		check->timeout_ms = random_duration(state, 10, check->interval_ms);
		check->rise = random_in(state, 1, 100);
		check->fall = random_in(state, 1, 100);
	}
	if (check->type == LB_CHECK_HTTP || check->type == LB_CHECK_HTTPS) {
		check->weight_header = chance(state, 50);
		random_http(state, check);
	}
}

/* Checks of their own for some backends, by the way of a change, as their keys are known to the config only. */
static void random_own_checks(uint64_t *state, struct lb_config *config)
{
	static const char *const own[] = {
		"{'health_check': {'rise': 7}}", "{'health_check': {'interval': '200ms', 'fall': 1}}",
		"{'health_check': {'type': 'exec', 'command': ['/bin/true', 'x y']}}",
		"{'health_check': {'type': 'dns', 'port': 53, 'query': 'a.example.com', 'timeout': '300ms'}}",
		"{'health_check': {'type': 'none'}}", "{'health_check': {'port': 9}}",
	};

	for (size_t i = 0; i < config->n_services; i++) {
		struct lb_config_service *service = config->services[i];
		struct lb_config_error error;
		char text[128];
		json_t *json;

		if (service->n_backends == 0 || chance(state, 50))
			continue;
		strcpy(text, own[random_below(state, N(own))]);
		for (char *c = text; *c; c++)
			*c = *c == '\'' ? '"' : *c;
		json = json_loads(text, 0, NULL);
		// may have no meaning with the service's check: then it stays as it is
		(void)lb_config_backend_set(config, service->name, service->backends[0].name, json,
			&error);
		json_decref(json);
	}
}

static struct lb_addr make_addr(bool is_ipv6, unsigned a, unsigned b, unsigned c)
{
	struct lb_addr addr = {.bytes = {0x20, 0x01, 0x0d, 0xb8, [13] = (uint8_t)a,
		[14] = (uint8_t)b, [15] = (uint8_t)c}};

	return is_ipv6 ? addr : lb_addr_from_ipv4(htonl(10u << 24 | a << 16 | b << 8 | c));
}

static void random_backend(uint64_t *state, const struct lb_config_service *service,
	unsigned index, unsigned backend_idx, struct lb_config_backend *backend)
{
	bool is_ipv6 = lb_mode_is_tunnel(service->mode) ? chance(state, 50)
		: !lb_addr_is_ipv4(&service->key.addr);
	char text[LB_CONFIG_HOST_MAX + 8];

	backend->endpoint.addr = make_addr(is_ipv6, 1 + index, random_below(state, 256),
		backend_idx);
	if (lb_mode_keeps_port(service->mode))
		backend->endpoint.port_be = service->key.port_be;
	else if (service->key.port_be)
		backend->endpoint.port_be = htons((uint16_t)random_in(state, 1, 65535));
	backend->is_host = chance(state, 20);
	if (backend->is_host) {
		snprintf(text, sizeof(text), "api-%u.internal", backend_idx);
		backend->address = strdup(text);
		memset(&backend->endpoint.addr, 0, sizeof(backend->endpoint.addr));
	} else {
		backend->address = strdup(lb_addr_format(&backend->endpoint.addr, text));
	}
	if (chance(state, 70) || !service->key.port_be)
		backend->name = random_name(state, backend_idx);
	else if (backend->is_host && asprintf(&backend->name, "%s:%u", backend->address,
		ntohs(backend->endpoint.port_be)) > 0)
		;
	else
		backend->name = strdup(lb_endpoint_format(&backend->endpoint.addr,
			backend->endpoint.port_be, text));
	backend->weight = random_below(state, 257);
	backend->tier = chance(state, 30) ? random_below(state, 8) : 0;
	backend->admin = (enum lb_admin_state)random_below(state, 3);
}

/* One of those that the config allows. */
static enum lb_mode random_mode(uint64_t *state, const struct lb_config *config)
{
	bool has[2] = {false, false};

	for (size_t i = 0; i < config->n_local_addresses; i++)
		has[lb_addr_is_ipv4(&config->local_addresses[i])] = true;
	if (has[0] && has[1] && chance(state, 60))
		return chance(state, 50) ? LB_MODE_IPIP : LB_MODE_GUE;
	return !config->has_gateway && chance(state, 30) ? LB_MODE_DSR : LB_MODE_NAT;
}

static void random_service(uint64_t *state, const struct lb_config *config, unsigned index,
	struct lb_config_service *service)
{
	static const uint32_t sizes[] = {7, 251, 65537, 65537, 655373};

	service->name = random_name(state, index);
	service->key.addr = make_addr(chance(state, 30), 0, index, 1);
	service->key.port_be = chance(state, 20) ? 0 : htons((uint16_t)random_in(state, 1, 65535));
	service->key.proto = chance(state, 50) ? IPPROTO_TCP : IPPROTO_UDP;
	service->mode = random_mode(state, config);
	if (service->mode == LB_MODE_GUE)
		service->gue_port = chance(state, 50) ? 6080 : (uint16_t)random_in(state, 1, 65535);
	service->table_size = sizes[random_below(state, N(sizes))];
	service->tracking = (enum lb_tracking)random_below(state, LB_TRACKING_N);
	service->mss = LB_MSS_AUTO;
	if (lb_mode_has_mss(service->mode, service->key.proto) && chance(state, 60))
		service->mss = chance(state, 30) ? LB_MSS_NONE : (uint16_t)random_in(state, LB_MSS_MIN, LB_MSS_MAX);
	service->idle_timeout_ms = chance(state, 50) ?
		random_duration(state, LB_IDLE_TIMEOUT_MIN_MS, LB_IDLE_TIMEOUT_MAX_MS) :
		chance(state, 50) ? 900000 : 30000;
	service->min_healthy = chance(state, 50) ? 1 : random_in(state, 1, 65535);
	service->scheduler = (enum lb_scheduler)random_below(state, LB_SCHED_N);
	if (!lb_pick_is_hash(service->scheduler))
		service->tracking = LB_TRACKING_ALL;
	else if (service->tracking == LB_TRACKING_ALL && chance(state, 30))
		service->max_load_percent = (uint16_t)random_in(state, 101, 1000);
	service->panic_threshold = chance(state, 30) ? (uint16_t)random_in(state, 0, 100) : 0;
	service->slow_start_ms = chance(state, 30) ? random_duration(state, 1000, 3600000) : 0;
	service->on_empty = chance(state, 30) ? LB_ON_EMPTY_LAST_RESORT : LB_ON_EMPTY_DROP;
	random_check(state, service);
	service->n_backends = random_below(state, 7);
	if (service->n_backends)
		service->backends = calloc(service->n_backends, sizeof(*service->backends));
	for (unsigned i = 0; i < service->n_backends; i++)
		random_backend(state, service, index, i, &service->backends[i]);
}

struct lb_config *config_random(uint64_t *state)
{
	struct lb_config *config = calloc(1, sizeof(*config));

	config->has_secret = chance(state, 50);
	for (size_t i = 0; config->has_secret && i < sizeof(config->secret); i++)
		config->secret[i] = (uint8_t)random_next(state);
	config->announce_table = chance(state, 30) ? 256 + random_below(state, 1000000) : 0;
	config->has_gateway = chance(state, 50);
	if (config->has_gateway) {
		for (size_t i = 1; i < 6; i++)
			config->gateway_mac[i] = (uint8_t)random_next(state);
		config->gateway_mac[0] = 2;
		config->gateway_port = (uint16_t)random_below(state, 32);
	}
	for (unsigned i = 0; i < LB_SHM_MAX_PORTS; i++) {
		if (!chance(state, 5))
			continue;
		config->port_vlans[i] = (uint16_t)random_below(state, LB_VLAN_NONE + 1);
		config->interfaces = realloc(config->interfaces, (config->n_interfaces + 1) * sizeof(*config->interfaces));
		config->interfaces[config->n_interfaces] = (struct lb_config_interface){
			.port = (uint16_t)i, .vlan = (uint16_t)random_in(state, 1, LB_VLAN_NONE)};
		snprintf(config->interfaces[config->n_interfaces++].name, 16, "eth%u.%u", i, random_below(state, 5000));
	}
	config->n_local_addresses = random_below(state, 4);
	if (config->n_local_addresses)
		config->local_addresses = calloc(config->n_local_addresses, sizeof(struct lb_addr));
	for (unsigned i = 0; i < config->n_local_addresses; i++)
		config->local_addresses[i] = make_addr(chance(state, 50), 200, 0, i + 1);
	config->n_services = random_below(state, 7);
	if (config->n_services)
		config->services = calloc(config->n_services, sizeof(*config->services));
	for (unsigned i = 0; i < config->n_services; i++)
		random_service(state, config, i, config->services[i] = lb_config_service_new());
	config->n_resolvers = random_below(state, 3);
	if (config->n_resolvers)
		config->resolvers = calloc(config->n_resolvers, sizeof(*config->resolvers));
	for (unsigned i = 0; i < config->n_resolvers; i++)
		config->resolvers[i] = (struct lb_endpoint){
			.addr = make_addr(chance(state, 50), 201, 0, i + 1),
			.port_be = htons((uint16_t)(chance(state, 50) ? 53 : random_in(state, 1, 65535)))};
	config->resolve_min_ms = chance(state, 50) ? 5000 : random_duration(state, 1000, 200000);
	config->resolve_max_ms = chance(state, 50) ? 300000 : random_duration(state, 200000, 86400000);
	random_own_checks(state, config);
	return config;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_backend(const struct lb_config_backend *a, const struct lb_config_backend *b)
{
	return same_text(a->name, b->name) && same_text(a->address, b->address) &&
		lb_addr_equal(&a->endpoint.addr, &b->endpoint.addr) &&
		a->endpoint.port_be == b->endpoint.port_be && a->weight == b->weight &&
		a->tier == b->tier && a->admin == b->admin && a->is_host == b->is_host &&
		a->check_keys == b->check_keys &&
		(!a->check_keys || lb_config_check_equal(&a->check, &b->check));
}

static bool same_agent(const struct lb_config_service *a, const struct lb_config_service *b)
{
	return a->agent.port == b->agent.port && a->agent.interval_ms == b->agent.interval_ms &&
		a->agent.timeout_ms == b->agent.timeout_ms &&
		same_text(a->agent.send, b->agent.send) &&
		a->passive.enabled == b->passive.enabled &&
		a->passive.min_flows == b->passive.min_flows &&
		a->passive.refused_percent == b->passive.refused_percent;
}

static bool same_service(const struct lb_config_service *a, const struct lb_config_service *b)
{
	if (!same_text(a->name, b->name) || memcmp(&a->key, &b->key, sizeof(a->key)) ||
		a->mode != b->mode || a->scheduler != b->scheduler ||
		a->table_size != b->table_size || a->tracking != b->tracking ||
		a->client_address != b->client_address || a->mss != b->mss ||
		a->idle_timeout_ms != b->idle_timeout_ms || a->on_empty != b->on_empty ||
		a->min_healthy != b->min_healthy || a->slow_start_ms != b->slow_start_ms ||
		a->max_load_percent != b->max_load_percent ||
		a->panic_threshold != b->panic_threshold ||
		a->gue_port != b->gue_port ||
		!lb_config_check_equal(&a->check, &b->check) || !same_agent(a, b) ||
		a->n_backends != b->n_backends)
		return false;
	for (size_t i = 0; i < a->n_backends; i++)
		if (!same_backend(&a->backends[i], &b->backends[i]))
			return false;
	return true;
}

bool config_equal(const struct lb_config *a, const struct lb_config *b)
{
	if (a->has_secret != b->has_secret || memcmp(a->secret, b->secret, sizeof(a->secret)) ||
		a->announce_table != b->announce_table || a->has_gateway != b->has_gateway || memcmp(a->gateway_mac, b->gateway_mac, 6) ||
		a->gateway_port != b->gateway_port || a->n_interfaces != b->n_interfaces ||
		memcmp(a->port_vlans, b->port_vlans, sizeof(a->port_vlans)) || a->n_services != b->n_services ||
		a->n_local_addresses != b->n_local_addresses ||
		a->n_resolvers != b->n_resolvers || a->resolve_min_ms != b->resolve_min_ms ||
		a->resolve_max_ms != b->resolve_max_ms)
		return false;
	for (size_t i = 0; i < a->n_interfaces; i++)
		if (!same_text(a->interfaces[i].name, b->interfaces[i].name) ||
			a->interfaces[i].port != b->interfaces[i].port || a->interfaces[i].vlan != b->interfaces[i].vlan)
			return false;
	for (size_t i = 0; i < a->n_resolvers; i++)
		if (!lb_addr_equal(&a->resolvers[i].addr, &b->resolvers[i].addr) ||
			a->resolvers[i].port_be != b->resolvers[i].port_be)
			return false;
	for (size_t i = 0; i < a->n_local_addresses; i++)
		if (!lb_addr_equal(&a->local_addresses[i], &b->local_addresses[i]))
			return false;
	for (size_t i = 0; i < a->n_services; i++)
		if (!same_service(a->services[i], b->services[i]))
			return false;
	return true;
}

/* Takes `text`. */
static const char *parses_to(const struct lb_config *config, char *text)
{
	static char problem[1000];
	struct lb_config_error error;
	struct lb_config *again;
	bool equal;

	if (!text)
		return "no text";
	if (lb_config_parse("again", text, strlen(text), &again, &error)) {
		snprintf(problem, sizeof(problem), "%s: %s", error.where, error.message);
		free(text);
		return problem;
	}
	free(text);
	equal = config_equal(config, again) && lb_config_diff(config, again, NULL, NULL) == 0;
	lb_config_free(again);
	return equal ? NULL : "parses to another config";
}

const char *config_round_trip(const struct lb_config *config)
{
	const char *problem = parses_to(config, lb_config_to_yaml(config));
	json_t *json, *saved;
	char *text;

	if (problem)
		return problem;
	json = lb_config_to_json(config);
	problem = parses_to(config, json_dumps(json, JSON_INDENT(1)));
	if (!problem)
		problem = parses_to(config, json_dumps(json, JSON_COMPACT));
	// what is saved comes another way
	text = lb_config_to_text(config);
	saved = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (!problem && (!saved || !json_equal(saved, json)))
		problem = "is another config as one line of text";
	json_decref(saved);
	json_decref(json);
	free(text);
	return problem;
}
