/* SPDX-License-Identifier: BSD-3-Clause */
/* Config to JSON, and that JSON to YAML, so that there is one place that knows what is written. */
#include "control/config_internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* An object being filled; a failure is remembered until the end. */
struct filling {
	json_t *object; /* NULL: failed */
};

static void put(struct filling *f, const char *key, json_t *value)
{
	if (!f->object) {
		json_decref(value);
	} else if (json_object_set_new(f->object, key, value)) {
		json_decref(f->object);
		f->object = NULL;
	}
}

static void put_text(struct filling *f, const char *key, const char *text)
{
	put(f, key, json_string(text));
}

static void put_number(struct filling *f, const char *key, uint32_t value)
{
	put(f, key, json_integer(value));
}

static void put_duration(struct filling *f, const char *key, uint32_t value_ms)
{
	char buf[LB_CONFIG_DURATION_BYTES];

	put_text(f, key, lb_config_format_duration(value_ms, buf));
}

static void put_port(struct filling *f, uint16_t port_be)
{
	if (port_be)
		put_number(f, "port", ntohs(port_be));
	else
		put_text(f, "port", "all");
}

/* The weight is always there: shares are what a reader looks for. */
static json_t *backend_json(const struct lb_config_backend *backend)
{
	struct filling f = {json_object()};
	char name[LB_CONFIG_DEFAULT_NAME_BYTES];

	if (strcmp(backend->name, lb_config_backend_default_name(backend, name)))
		put_text(&f, "name", backend->name);
	put_text(&f, "address", backend->address);
	if (backend->endpoint.port_be)
		put_port(&f, backend->endpoint.port_be);
	put_number(&f, "weight", backend->weight);
	if (backend->tier)
		put_number(&f, "tier", backend->tier);
	if (backend->admin != LB_ADMIN_ENABLED)
		put_text(&f, "state", lb_admin_state_name(backend->admin));
	if (backend->check_keys)
		put(&f, "health_check", lb_config_check_json(&backend->check, backend->check_keys));
	return f.object;
}

static json_t *backends_json(const struct lb_config_service *service)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < service->n_backends; i++) {
		if (json_array_append_new(list, backend_json(&service->backends[i]))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* Beside the check; nothing where it says what goes without saying. */
static void put_health(struct filling *f, const struct lb_config_service *service)
{
	json_t *passive = lb_config_passive_json(&service->passive,
		service->key.proto == IPPROTO_TCP);

	put(f, "health_check", lb_config_check_json(&service->check, 0));
	if (service->agent.port)
		put(f, "agent", lb_config_agent_json(&service->agent));
	if (json_object_size(passive) > 0)
		put(f, "passive", json_incref(passive));
	json_decref(passive);
}

/* All but the backends. */
static json_t *service_head_json(const struct lb_config_service *service)
{
	struct filling f = {json_object()};
	char vip[LB_ADDR_STRLEN];

	put_text(&f, "name", service->name);
	put_text(&f, "vip", lb_addr_format(&service->key.addr, vip));
	put_port(&f, service->key.port_be);
	put_text(&f, "protocol", lb_config_protocol_name(service->key.proto));
	put_text(&f, "mode", lb_mode_name(service->mode));
	if (service->scheduler != LB_SCHED_MAGLEV)
		put_text(&f, "scheduler", lb_scheduler_name(service->scheduler));
	if (service->max_load_percent)
		put(&f, "max_load", json_real(service->max_load_percent / 100.0));
	if (service->table_size != LB_CONFIG_DEFAULT_TABLE_SIZE)
		put_number(&f, "table_size", service->table_size);
	if (service->tracking != LB_TRACKING_ALL)
		put_text(&f, "tracking", lb_tracking_name(service->tracking));
	if (service->client_address != LB_CLIENT_ADDRESS_NONE)
		put_text(&f, "client_address", lb_client_address_name(service->client_address));
	if (service->mss == LB_MSS_NONE)
		put_text(&f, "mss", "none");
	else if (service->mss != LB_MSS_AUTO)
		put_number(&f, "mss", service->mss);
	if (service->idle_timeout_ms != lb_config_default_idle_ms(service->key.proto))
		put_duration(&f, "idle_timeout", service->idle_timeout_ms);
	if (service->on_empty != LB_ON_EMPTY_DROP)
		put_text(&f, "on_empty", lb_on_empty_name(service->on_empty));
	if (service->min_healthy != 1)
		put_number(&f, "min_healthy", service->min_healthy);
	if (service->panic_threshold)
		put_number(&f, "panic_threshold", service->panic_threshold);
	if (service->slow_start_ms)
		put_duration(&f, "slow_start", service->slow_start_ms);
	if (service->gue_port && service->gue_port != LB_CONFIG_DEFAULT_GUE_PORT)
		put_number(&f, "gue_port", service->gue_port);
	put_health(&f, service);
	return f.object;
}

static json_t *service_json(const struct lb_config_service *service)
{
	struct filling f = {service_head_json(service)};

	if (service->n_backends)
		put(&f, "backends", backends_json(service));
	return f.object;
}

static json_t *services_json(const struct lb_config *config)
{
	json_t *list;

	if (config->n_services == 0)
		return json_string("none");
	list = json_array();
	for (size_t i = 0; list && i < config->n_services; i++) {
		if (json_array_append_new(list, service_json(config->services[i]))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *local_addresses_json(const struct lb_config *config)
{
	json_t *list = json_array();
	char text[LB_ADDR_STRLEN];

	for (size_t i = 0; list && i < config->n_local_addresses; i++) {
		lb_addr_format(&config->local_addresses[i], text);
		if (json_array_append_new(list, json_string(text))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *gateway_json(const struct lb_config *config)
{
	const uint8_t *m = config->gateway_mac;
	struct filling f = {json_object()};
	char mac[18];

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		m[5]);
	put_text(&f, "mac", mac);
	put_number(&f, "port", config->gateway_port);
	return f.object;
}

static void put_vlan(struct filling *f, uint16_t vlan)
{
	if (vlan == LB_VLAN_NONE)
		put_text(f, "vlan", "none");
	else if (vlan != LB_VLAN_KEEP)
		put_number(f, "vlan", vlan);
}

static bool append(json_t **list, json_t *item)
{
	if (!item || !*list || json_array_append_new(*list, item)) {
		json_decref(*list);
		*list = NULL;
	}
	return *list;
}

static json_t *interfaces_json(const struct lb_config *config, unsigned port)
{
	json_t *list = json_array();

	for (size_t i = 0; i < config->n_interfaces; i++) {
		struct filling f = {NULL};

		if (config->interfaces[i].port != port)
			continue;
		f.object = json_object();
		put_text(&f, "name", config->interfaces[i].name);
		put_vlan(&f, config->interfaces[i].vlan);
		if (!append(&list, f.object))
			break;
	}
	return list;
}

static bool port_has_interfaces(const struct lb_config *config, unsigned port)
{
	for (size_t i = 0; i < config->n_interfaces; i++)
		if (config->interfaces[i].port == port)
			return true;
	return false;
}

/* Ports of which something is said; NULL: of none. */
static json_t *ports_json(const struct lb_config *config, bool *any)
{
	json_t *list = json_array();

	*any = false;
	for (unsigned port = 0; port < LB_SHM_MAX_PORTS; port++) {
		bool has_interfaces = port_has_interfaces(config, port);
		struct filling f = {NULL};

		if (config->port_vlans[port] == LB_VLAN_KEEP && !has_interfaces)
			continue;
		*any = true;
		f.object = json_object();
		put_number(&f, "port", port);
		put_vlan(&f, config->port_vlans[port]);
		if (has_interfaces)
			put(&f, "interfaces", interfaces_json(config, port));
		if (!append(&list, f.object))
			break;
	}
	return list;
}

static json_t *resolvers_json(const struct lb_config *config)
{
	json_t *list = json_array();
	char text[LB_ENDPOINT_STRLEN];

	for (size_t i = 0; list && i < config->n_resolvers; i++) {
		const struct lb_endpoint *resolver = &config->resolvers[i];

		if (resolver->port_be == htons(53))
			lb_addr_format(&resolver->addr, text);
		else
			lb_endpoint_format(&resolver->addr, resolver->port_be, text);
		if (json_array_append_new(list, json_string(text))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *announce_json(const struct lb_config *config)
{
	struct filling f = {json_object()};

	put_number(&f, "table", config->announce_table);
	return f.object;
}

json_t *lb_config_globals_json(const struct lb_config *config)
{
	struct filling f = {json_object()};
	char secret[33];
	json_t *ports;
	bool has_ports;

	if (config->has_secret) {
		for (size_t i = 0; i < sizeof(config->secret); i++)
			snprintf(secret + 2 * i, 3, "%02x", config->secret[i]);
		put_text(&f, "hash_secret", secret);
	}
	if (config->n_local_addresses)
		put(&f, "local_addresses", local_addresses_json(config));
	if (config->has_gateway)
		put(&f, "gateway", gateway_json(config));
	ports = ports_json(config, &has_ports);
	if (has_ports)
		put(&f, "ports", ports);
	else
		json_decref(ports);
	if (config->n_resolvers)
		put(&f, "resolvers", resolvers_json(config));
	if (config->resolve_min_ms != LB_CONFIG_DEFAULT_RESOLVE_MIN_MS)
		put_duration(&f, "resolve_min", config->resolve_min_ms);
	if (config->resolve_max_ms != LB_CONFIG_DEFAULT_RESOLVE_MAX_MS)
		put_duration(&f, "resolve_max", config->resolve_max_ms);
	if (config->announce_table)
		put(&f, "announce", announce_json(config));
	return f.object;
}

json_t *lb_config_to_json(const struct lb_config *config)
{
	struct filling f = {lb_config_globals_json(config)};

	put(&f, "services", services_json(config));
	return f.object;
}

static char *dump(json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15)) : NULL;

	json_decref(json);
	return text;
}

/* As backend_json(): of tens of thousands a tree each takes half a second. Names and addresses need no escapes. */
static bool write_backend_text(FILE *out, const struct lb_config_backend *backend)
{
	char name[LB_CONFIG_DEFAULT_NAME_BYTES], *check;

	fputc_unlocked('{', out);
	if (strcmp(backend->name, lb_config_backend_default_name(backend, name))) {
		fputs_unlocked("\"name\":\"", out);
		fputs_unlocked(backend->name, out);
		fputs_unlocked("\",", out);
	}
	fputs_unlocked("\"address\":\"", out);
	fputs_unlocked(backend->address, out);
	fputc_unlocked('"', out);
	if (backend->endpoint.port_be)
		fprintf(out, ",\"port\":%u", ntohs(backend->endpoint.port_be));
	fprintf(out, ",\"weight\":%u", backend->weight);
	if (backend->tier)
		fprintf(out, ",\"tier\":%u", backend->tier);
	if (backend->admin != LB_ADMIN_ENABLED)
		fprintf(out, ",\"state\":\"%s\"", lb_admin_state_name(backend->admin));
	if (backend->check_keys) {
		check = dump(lb_config_check_json(&backend->check, backend->check_keys));
		if (!check)
			return false;
		fprintf(out, ",\"health_check\":%s", check);
		free(check);
	}
	fputc_unlocked('}', out);
	return true;
}

static char *service_text(const struct lb_config_service *service)
{
	char *head = dump(service_head_json(service)), *text = NULL;
	size_t len;
	FILE *out = head && service->n_backends ? open_memstream(&text, &len) : NULL;
	bool failed = false;

	if (!out) {
		if (head && service->n_backends == 0)
			return head;
		free(head);
		return NULL;
	}
	head[strlen(head) - 1] = '\0'; // the brace
	fputs(head, out);
	free(head);
	for (size_t i = 0; i < service->n_backends; i++) {
		fputs(i ? "," : ",\"backends\":[", out);
		failed |= !write_backend_text(out, &service->backends[i]);
	}
	fputs("]}", out);
	failed |= ferror(out) != 0;
	failed |= fclose(out) != 0;
	if (!failed)
		return text;
	free(text);
	return NULL;
}

const char *lb_config_service_text(struct lb_config_service *service)
{
	if (!service->text)
		service->text = service_text(service);
	return service->text;
}

char *lb_config_to_text(const struct lb_config *config)
{
	char *globals = dump(lb_config_globals_json(config)), *text = NULL;
	size_t len;
	FILE *out = globals ? open_memstream(&text, &len) : NULL;
	bool failed = !out;

	if (out) {
		globals[strlen(globals) - 1] = '\0'; // the brace
		fprintf(out, "%s%s\"services\":", globals, globals[1] ? "," : "");
		fputs(config->n_services ? "" : "\"none\"", out);
		for (size_t i = 0; i < config->n_services; i++) {
			const char *service = lb_config_service_text(config->services[i]);

			fputc(i ? ',' : '[', out);
			fputs(service ? service : "", out);
			failed |= !service;
		}
		fputs(config->n_services ? "]}" : "}", out);
		failed |= ferror(out) != 0;
		failed |= fclose(out) != 0;
	}
	free(globals);
	if (!failed)
		return text;
	free(text);
	return NULL;
}

/* Words that other YAML readers take for something else than a text. */
static bool is_special_word(const char *text)
{
	static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "y", "n",
		"null", "nan", "inf", "infinity"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcasecmp(text, words[i]))
			return true;
	return false;
}

/* Whether no reader of YAML could take the unquoted text for a number, a date or syntax. */
static bool is_safe_plain(const char *text)
{
	size_t n_digits = strspn(text, "0123456789");
	char *end;

	if (!isalnum((unsigned char)text[0]) && text[0] != '/')
		return false;
	for (const char *c = text; *c; c++)
		if (!(isascii(*c) && isalnum(*c)) && !strchr("._/-", *c))
			return false;
	if (n_digits == 0)
		return !is_special_word(text);
	if (n_digits == 4 && text[4] == '-')
		return false;
	strtod(text, &end);
	return *end && !(text[0] == '0' && isalpha((unsigned char)text[1])) && !strchr(text, '_');
}

void lb_config_write_text(FILE *out, const char *text)
{
	if (is_safe_plain(text)) {
		fputs(text, out);
		return;
	}
	fputc('"', out);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			fprintf(out, "\\%c", *c);
		else if (*c < ' ' || *c == 0x7f)
			fprintf(out, "\\x%02x", *c);
		else
			fputc(*c, out);
	}
	fputc('"', out);
}

static void write_flow(FILE *out, json_t *value)
{
	const char *key, *separator = "";
	json_t *child;
	size_t i;

	if (json_is_object(value)) {
		fputc('{', out);
		json_object_foreach(value, key, child) {
			fprintf(out, "%s%s: ", separator, key);
			write_flow(out, child);
			separator = ", ";
		}
		fputc('}', out);
	} else if (json_is_array(value)) {
		fputc('[', out);
		json_array_foreach(value, i, child) {
			fputs(separator, out);
			write_flow(out, child);
			separator = ", ";
		}
		fputc(']', out);
	} else if (json_is_boolean(value)) {
		fputs(json_is_true(value) ? "true" : "false", out);
	} else if (json_is_real(value)) {
		fprintf(out, "%.15g", json_real_value(value));
	} else if (json_is_string(value)) {
		lb_config_write_text(out, json_string_value(value));
	} else {
		fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	}
}

static void write_indent(FILE *out, unsigned indent)
{
	fprintf(out, "%*s", (int)indent, "");
}

/* A mapping, one key per line; `first` stands before the first key ("- " in a list). */
static void write_block(FILE *out, json_t *object, unsigned indent, const char *first)
{
	const char *key;
	json_t *child;

	json_object_foreach(object, key, child) {
		write_indent(out, *first ? indent - 2 : indent);
		fprintf(out, "%s%s:", first, key);
		first = "";
		if (!strcmp(key, "health_check")) {
			fputc('\n', out);
			write_block(out, child, indent + 2, "");
		} else {
			fputc(' ', out);
			write_flow(out, child);
			fputc('\n', out);
		}
	}
}

/* Takes @p object. */
static bool write_taken_block(FILE *out, json_t *object, unsigned indent, const char *first)
{
	if (!object)
		return false;
	write_block(out, object, indent, first);
	json_decref(object);
	return true;
}

bool lb_config_write_yaml_globals(FILE *out, const struct lb_config *config)
{
	bool done = write_taken_block(out, lb_config_globals_json(config), 0, "");

	fputs(config->n_services ? "services:\n" : "services: none\n", out);
	return done;
}

bool lb_config_write_yaml_service(FILE *out, const struct lb_config_service *service)
{
	bool done = write_taken_block(out, service_head_json(service), 4, "- ");

	if (service->n_backends)
		fputs("    backends:\n", out);
	return done;
}

bool lb_config_write_yaml_backend(FILE *out, const struct lb_config_backend *backend)
{
	json_t *json = backend_json(backend);

	if (!json)
		return false;
	fputs("      - ", out);
	write_flow(out, json);
	fputc('\n', out);
	json_decref(json);
	return true;
}

char *lb_config_to_yaml(const struct lb_config *config)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	bool done;

	if (!out)
		return NULL;
	done = lb_config_write_yaml_globals(out, config);
	for (size_t i = 0; i < config->n_services; i++) {
		const struct lb_config_service *service = config->services[i];

		done &= lb_config_write_yaml_service(out, service);
		for (size_t j = 0; j < service->n_backends; j++)
			done &= lb_config_write_yaml_backend(out, &service->backends[j]);
	}
	done &= !ferror(out);
	if (fclose(out) || !done) {
		free(text);
		return NULL;
	}
	return text;
}
