/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Validation of a config as a whole: what no object can know by itself. Everything that must be unique goes
 * through one hash set, so that 65 535 backends cost 65 535 probes.
 */
#include "control/config_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lb/hash.h"

/* Under which heading a key is unique. */
enum scope {
	SCOPE_SERVICE_NAME,
	SCOPE_VIP_KEY,       /* VIP, port, protocol */
	SCOPE_VIP,           /* the address alone */
	SCOPE_NAT_ENDPOINT,  /* address, port, protocol over all nat services: names the service of a reply */
	SCOPE_NAT_SOME_PORT, /* address and protocol: some endpoint with a port of its own */
	SCOPE_BACKEND,       /* the address alone */
	SCOPE_OF_SERVICE,    /* + 2 * index: its backends' names; + 1: its backends' endpoints */
};

struct entry {
	const char *name; /* or NULL: .key */
	struct lb_service_key key;
	uint32_t scope;
	uint32_t is_used;
	uint32_t service;
	int32_t backend; /* -1: the service itself */
};

struct set {
	struct entry *entries;
	size_t mask;
	uint64_t seed; /* so that nobody can write a config of collisions */
};

static int set_init(struct set *set, size_t n_max)
{
	size_t size = 16;

	while (size < 2 * n_max)
		size *= 2;
	set->mask = size - 1;
	if (getrandom(&set->seed, sizeof(set->seed), GRND_NONBLOCK) < 0)
		set->seed = (uintptr_t)set;
	set->entries = calloc(size, sizeof(*set->entries));
	return set->entries ? 0 : -ENOMEM;
}

static bool same_key(const struct entry *a, const struct entry *b)
{
	if (a->scope != b->scope || !a->name != !b->name)
		return false;
	return a->name ? !strcmp(a->name, b->name) : !memcmp(&a->key, &b->key, sizeof(a->key));
}

/* The place of `wanted`: an entry with its key, or a free one. */
static struct entry *set_probe(const struct set *set, const struct entry *wanted)
{
	uint64_t seed = set->seed + wanted->scope;
	uint64_t hash = wanted->name ? lb_hash_bytes(wanted->name, strlen(wanted->name), seed) :
		lb_hash_bytes(&wanted->key, sizeof(wanted->key), seed);
	size_t i = hash & set->mask;

	while (set->entries[i].is_used && !same_key(&set->entries[i], wanted))
		i = (i + 1) & set->mask;
	return &set->entries[i];
}

static const struct entry *set_lookup(const struct set *set, const struct entry *wanted)
{
	const struct entry *entry = set_probe(set, wanted);

	return entry->is_used ? entry : NULL;
}

/* @return the entry that was there before, or NULL if `wanted` is in now. */
static const struct entry *set_add(struct set *set, const struct entry *wanted)
{
	struct entry *entry = set_probe(set, wanted);

	if (entry->is_used)
		return entry;
	*entry = *wanted;
	entry->is_used = 1;
	return NULL;
}

struct check {
	struct lb_config_reader *reader;
	const struct lb_config *config;
	struct set set;
};

/* "backend api-1 of service web (line 12)", for the other side of a conflict. */
#define OTHER_BYTES 200
static const char *other(const struct check *check, const struct entry *entry,
	char buf[OTHER_BYTES])
{
	const struct lb_config_service *service = check->config->services[entry->service];
	unsigned line = service->line;
	char at[24] = "";

	if (entry->backend >= 0)
		line = service->backends[entry->backend].line;
	if (check->reader->file && line)
		snprintf(at, sizeof(at), " (line %u)", line);
	if (entry->backend >= 0)
		snprintf(buf, OTHER_BYTES, "backend %s of service %s%s",
			service->backends[entry->backend].name, service->name, at);
	else
		snprintf(buf, OTHER_BYTES, "service %s%s", service->name, at);
	return buf;
}

/*
 * Of two entries in conflict the later one is at fault; in a change it is the one that is being changed.
 * Puts that one into `at`, the other one into `with`.
 */
static void blame(const struct check *check, struct entry *at, struct entry *with)
{
	const struct lb_config_reader *reader = check->reader;
	struct entry swap = *at;

	if (!reader->has_subject || with->service != reader->subject_service)
		return;
	if (reader->subject_backend >= 0 ? with->backend != reader->subject_backend :
		at->service == reader->subject_service)
		return;
	*at = *with;
	*with = swap;
}

static const char *key_text(const struct lb_service_key *key, char buf[LB_ENDPOINT_STRLEN + 8])
{
	struct lb_endpoint endpoint = {.addr = key->addr, .port_be = key->port_be};

	lb_config_default_name(&endpoint, buf);
	strcat(buf, "/");
	strcat(buf, lb_config_protocol_name(key->proto));
	return buf;
}

static int check_service(struct check *check, uint32_t index)
{
	const struct lb_config_service *service = check->config->services[index];
	struct entry entry = {.name = service->name, .scope = SCOPE_SERVICE_NAME, .service = index,
		.backend = -1};
	char text[OTHER_BYTES], key[LB_ENDPOINT_STRLEN + 8];
	const struct entry *taken = set_add(&check->set, &entry);

	if (taken)
		return lb_config_fail_at(check->reader, -EEXIST, check->config, index, -1, "name",
			"the name \"%s\" is taken by %s", service->name,
			other(check, taken, text));
	entry.name = NULL;
	entry.scope = SCOPE_VIP_KEY;
	entry.key = service->key;
	taken = set_add(&check->set, &entry);
	if (taken) {
		struct entry with = *taken;

		blame(check, &entry, &with);
		return lb_config_fail_at(check->reader, -EEXIST, check->config, entry.service, -1,
			"vip", "%s is taken by %s", key_text(&service->key, key),
			other(check, &with, text));
	}
	entry.scope = SCOPE_VIP;
	entry.key = (struct lb_service_key){.addr = service->key.addr};
	set_add(&check->set, &entry);
	if (service->client_address != LB_CLIENT_ADDRESS_NONE && service->mode != LB_MODE_FULLNAT)
		return lb_config_fail_at(check->reader, -EINVAL, check->config, index, -1,
			"client_address", "%s goes only with mode fullnat, not with mode %s",
			lb_client_address_name(service->client_address), lb_mode_name(service->mode));
	if (service->client_address == LB_CLIENT_ADDRESS_TOA && service->key.proto != IPPROTO_TCP)
		return lb_config_fail_at(check->reader, -EINVAL, check->config, index, -1,
			"client_address", "toa is a TCP option: it does not go with protocol udp");
	if (service->n_backends > service->table_size)
		return lb_config_fail_at(check->reader, -EINVAL, check->config, index, -1,
			"table_size", "expected at least as many slots as backends (%zu; better 100 "
			"times as many), found %u", service->n_backends, service->table_size);
	return 0;
}

/* What the mode asks of a backend's address, by itself. */
static int check_family(struct check *check, uint32_t index, int32_t backend_idx)
{
	const struct lb_config_service *service = check->config->services[index];
	const struct lb_config_backend *backend = &service->backends[backend_idx];
	bool is_ipv4 = lb_addr_is_ipv4(&service->key.addr);
	bool backend_is_ipv4 = lb_addr_is_ipv4(&backend->endpoint.addr);

	if (!backend->is_host && is_ipv4 != backend_is_ipv4 &&
		(service->mode == LB_MODE_NAT || service->mode == LB_MODE_DSR))
		return lb_config_fail_at(check->reader, -EINVAL, check->config, index, backend_idx,
			"address", "expected an %s address like the VIP's (mode %s), found %s",
			is_ipv4 ? "IPv4" : "IPv6", lb_mode_name(service->mode), backend->address);
	if (service->mode == LB_MODE_DSR && check->config->has_gateway)
		return lb_config_fail_at(check->reader, -EINVAL, check->config, index, backend_idx,
			"address", "mode dsr sends to the backend's own MAC address, and gateway sends "
			"everything to one: expected a config without gateway");
	if ((!lb_mode_is_tunnel(service->mode) && service->mode != LB_MODE_FULLNAT) || backend->is_host)
		return 0;
	for (size_t i = 0; i < check->config->n_local_addresses; i++)
		if (lb_addr_is_ipv4(&check->config->local_addresses[i]) == backend_is_ipv4)
			return 0;
	return lb_config_fail_at(check->reader, -EINVAL, check->config, index, backend_idx,
		"address", "mode %s sends to %s from an %s address of this host: expected one in "
		"local_addresses, found none", lb_mode_name(service->mode), backend->address,
		backend_is_ipv4 ? "IPv4" : "IPv6");
}

static const char *port_text(uint16_t port_be, char buf[8])
{
	snprintf(buf, 8, port_be ? "%u" : "all", ntohs(port_be));
	return buf;
}

/* What the mode asks of a backend's port, by itself. */
static int check_port(struct check *check, uint32_t index, int32_t backend_idx)
{
	const struct lb_config_service *service = check->config->services[index];
	const struct lb_config_backend *backend = &service->backends[backend_idx];
	char wanted[8], found[8];

	if (lb_mode_keeps_port(service->mode)) {
		if (backend->endpoint.port_be == service->key.port_be)
			return 0;
		return lb_config_fail_at(check->reader, -EINVAL, check->config, index, backend_idx,
			"port", "expected no port or the service's (%s), as mode %s does not rewrite "
			"it, found %s", port_text(service->key.port_be, wanted),
			lb_mode_name(service->mode), port_text(backend->endpoint.port_be, found));
	}
	if (service->key.port_be == 0 && backend->endpoint.port_be != 0)
		return lb_config_fail_at(check->reader, -EINVAL, check->config, index, backend_idx,
			"port", "expected all or no port at all, as the service has port all (mode %s "
			"keeps the packet's port), found %u", lb_mode_name(service->mode),
			ntohs(backend->endpoint.port_be));
	if (service->key.port_be != 0 && backend->endpoint.port_be == 0)
		return lb_config_fail_at(check->reader, -EINVAL, check->config, index, backend_idx,
			"port", "expected a port 1..65535 (all only goes with a service of port all), "
			"found all");
	return 0;
}

/*
 * A reply of a nat backend is known by its source alone, so that an endpoint, or all ports of an address
 * and one of them, cannot serve two services.
 */
static const struct entry *nat_conflict(struct check *check, const struct entry *entry)
{
	struct entry wanted = *entry;
	const struct entry *taken = set_add(&check->set, entry);

	if (taken)
		return taken;
	wanted.key.port_be = 0;
	if (entry->key.port_be != 0) {
		taken = set_lookup(&check->set, &wanted);
		wanted.scope = SCOPE_NAT_SOME_PORT;
		set_add(&check->set, &wanted);
		return taken;
	}
	wanted.scope = SCOPE_NAT_SOME_PORT;
	return set_lookup(&check->set, &wanted);
}

static int check_endpoint(struct check *check, struct entry *entry)
{
	const struct lb_config_service *service = check->config->services[entry->service];
	const struct lb_config_backend *backend = &service->backends[entry->backend];
	char text[OTHER_BYTES], key[LB_ENDPOINT_STRLEN + 8];
	const struct entry *taken;
	struct entry with;

	entry->name = NULL;
	entry->key = (struct lb_service_key){.addr = backend->endpoint.addr,
		.port_be = backend->endpoint.port_be, .proto = service->key.proto};
	if (lb_mode_owns_endpoints(service->mode)) {
		entry->scope = SCOPE_NAT_ENDPOINT;
		taken = nat_conflict(check, entry);
	} else {
		entry->scope = SCOPE_OF_SERVICE + 2 * entry->service + 1;
		taken = set_add(&check->set, entry);
	}
	if (!taken)
		return 0;
	with = *taken;
	blame(check, entry, &with);
	// What was found may be a key for several ports: the text is the endpoint's own.
	service = check->config->services[entry->service];
	entry->key.port_be = service->backends[entry->backend].endpoint.port_be;
	key_text(&entry->key, key);
	if (with.service == entry->service)
		return lb_config_fail_at(check->reader, -EEXIST, check->config, entry->service,
			entry->backend, "address", "endpoint %s is taken by %s", key,
			other(check, &with, text));
	return lb_config_fail_at(check->reader, -EEXIST, check->config, entry->service,
		entry->backend, "address", "endpoint %s overlaps with %s: two nat services cannot share "
		"an endpoint, as replies are told apart by it", key, other(check, &with, text));
}

/* A backend with the address of a VIP would be sent packets that come back to us. */
static int check_not_vip(struct check *check, const struct entry *entry)
{
	const struct lb_config_backend *backend =
		&check->config->services[entry->service]->backends[entry->backend];
	struct entry vip = {.scope = SCOPE_VIP, .key.addr = backend->endpoint.addr};
	const struct entry *taken = set_lookup(&check->set, &vip);
	struct entry at = *entry, with;
	char text[OTHER_BYTES];

	if (!taken)
		return 0;
	with = *taken;
	blame(check, &at, &with);
	if (at.backend < 0)
		return lb_config_fail_at(check->reader, -EINVAL, check->config, at.service, -1,
			"vip", "%s is the address of %s: a backend needs an address of its own",
			backend->address, other(check, &with, text));
	return lb_config_fail_at(check->reader, -EINVAL, check->config, at.service, at.backend,
		"address", "%s is the VIP of %s: a backend needs an address of its own",
		backend->address, other(check, &with, text));
}

static int check_backend(struct check *check, uint32_t index, int32_t backend_idx)
{
	const struct lb_config_service *service = check->config->services[index];
	const struct lb_config_backend *backend = &service->backends[backend_idx];
	struct entry entry = {.name = backend->name, .scope = SCOPE_OF_SERVICE + 2 * index,
		.service = index, .backend = backend_idx};
	const struct entry *taken = set_add(&check->set, &entry);
	char text[OTHER_BYTES];
	int rc;

	if (taken)
		return lb_config_fail_at(check->reader, -EEXIST, check->config, index, backend_idx,
			"name", "the name \"%s\" is taken by %s", backend->name,
			other(check, taken, text));
	rc = backend->is_host ? 0 : check_not_vip(check, &entry);
	if (rc)
		return rc;
	rc = check_family(check, index, backend_idx);
	if (!rc)
		rc = check_port(check, index, backend_idx);
	if (backend->is_host)
		return rc;
	if (!rc)
		rc = check_endpoint(check, &entry);
	entry.scope = SCOPE_BACKEND;
	entry.name = NULL;
	entry.key = (struct lb_service_key){.addr = backend->endpoint.addr};
	if (!rc)
		set_add(&check->set, &entry);
	return rc;
}

/* A local address is ours to send from: neither a VIP nor a backend. */
static int check_local_address(struct check *check, size_t i)
{
	static const struct {
		enum scope scope;
		const char *what;
	} others[] = {{SCOPE_VIP, "the VIP"}, {SCOPE_BACKEND, "the address"}};
	const struct lb_config *config = check->config;
	const struct lb_node *node = lb_node_at(lb_node_get(check->reader->root, "local_addresses"), i);
	char text[OTHER_BYTES];

	for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++) {
		struct entry wanted = {.scope = others[k].scope, .key.addr = config->local_addresses[i]};
		const struct entry *taken = set_lookup(&check->set, &wanted);

		if (!taken)
			continue;
		if (node)
			return lb_config_fail(check->reader, node, "%s is %s of %s", node->text,
				others[k].what, other(check, taken, text));
		return lb_config_fail_at(check->reader, -EINVAL, config, taken->service,
			taken->backend, taken->backend < 0 ? "vip" : "address",
			"the address is one of local_addresses");
	}
	return 0;
}

static int check_local_addresses(struct check *check)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < check->config->n_local_addresses; i++)
		rc = check_local_address(check, i);
	return rc;
}

static int check_objects(struct check *check)
{
	const struct lb_config *config = check->config;
	int rc = 0;

	// VIPs first: a backend may collide with that of a later service.
	for (uint32_t i = 0; !rc && i < config->n_services; i++)
		rc = check_service(check, i);
	for (uint32_t i = 0; !rc && i < config->n_services; i++)
		for (uint32_t j = 0; !rc && j < config->services[i]->n_backends; j++)
			rc = check_backend(check, i, (int32_t)j);
	return rc ? rc : check_local_addresses(check);
}

int lb_config_check_all(struct lb_config_reader *reader, const struct lb_config *config)
{
	struct check check = {.reader = reader, .config = config};
	size_t n_backends = 0;
	int rc;

	for (size_t i = 0; i < config->n_services; i++) {
		n_backends += config->services[i]->n_backends;
		if (n_backends > LB_MAX_BACKENDS)
			return lb_config_fail_at(reader, -EINVAL, config, i, -1, "backends",
				"expected at most %u backends in all services together, found more",
				LB_MAX_BACKENDS);
	}
	if (config->n_services > LB_MAX_SERVICES)
		return lb_config_fail_at(reader, -EINVAL, config, LB_MAX_SERVICES, -1, NULL,
			"expected at most %u services, found more", LB_MAX_SERVICES);
	if (set_init(&check.set, 3 * config->n_services + 4 * n_backends))
		return -ENOMEM;
	rc = check_objects(&check);
	free(check.set.entries);
	return rc;
}

/* Whether backend @p entry of another service may be in conflict with the subject, whose keys are in the set. */
static bool may_collide(const struct check *check, const struct lb_config_service *service,
	const struct lb_config_backend *backend)
{
	struct entry wanted = {.scope = SCOPE_VIP, .key.addr = backend->endpoint.addr};

	if (backend->is_host)
		return false;
	if (set_lookup(&check->set, &wanted))
		return true;
	if (!lb_mode_owns_endpoints(service->mode))
		return false;
	wanted.key.port_be = backend->endpoint.port_be;
	wanted.key.proto = service->key.proto;
	wanted.scope = SCOPE_NAT_ENDPOINT;
	if (set_lookup(&check->set, &wanted))
		return true;
	wanted.key.port_be = 0;
	if (backend->endpoint.port_be == 0)
		wanted.scope = SCOPE_NAT_SOME_PORT;
	return set_lookup(&check->set, &wanted);
}

/* The subject by itself, then all others beside it; a second look at the whole tells what is wrong. */
static bool is_surely_valid(struct check *check)
{
	const struct lb_config *config = check->config;
	uint32_t subject = (uint32_t)check->reader->subject_service;

	if (check_service(check, subject) != 0)
		return false;
	for (uint32_t j = 0; j < config->services[subject]->n_backends; j++)
		if (check_backend(check, subject, (int32_t)j) != 0)
			return false;
	if (check_local_addresses(check) != 0)
		return false;
	for (uint32_t i = 0; i < config->n_services; i++) {
		const struct lb_config_service *service = config->services[i];
		struct entry name = {.name = service->name, .scope = SCOPE_SERVICE_NAME};
		struct entry key = {.scope = SCOPE_VIP_KEY, .key = service->key};
		struct entry vip = {.scope = SCOPE_BACKEND, .key.addr = service->key.addr};

		if (i == subject)
			continue;
		if (set_lookup(&check->set, &name) || set_lookup(&check->set, &key) ||
			set_lookup(&check->set, &vip))
			return false;
		for (size_t j = 0; j < service->n_backends; j++)
			if (may_collide(check, service, &service->backends[j]))
				return false;
	}
	return true;
}

int lb_config_check_change(struct lb_config_reader *reader, const struct lb_config *config)
{
	struct lb_config_error error = {.where = ""};
	struct lb_config_reader quiet = *reader;
	struct check check = {.reader = &quiet, .config = config};
	size_t n_backends = 0;
	bool is_valid;

	if (!reader->has_subject)
		return 0; // one less collides with nobody
	for (size_t i = 0; i < config->n_services; i++)
		n_backends += config->services[i]->n_backends;
	if (n_backends > LB_MAX_BACKENDS || config->n_services > LB_MAX_SERVICES)
		return lb_config_check_all(reader, config);
	quiet.error = &error;
	if (set_init(&check.set, 3 + 4 * config->services[reader->subject_service]->n_backends))
		return -ENOMEM;
	is_valid = is_surely_valid(&check);
	free(check.set.entries);
	return is_valid ? 0 : lb_config_check_all(reader, config);
}

/* Whether a derived backend may stay; those of the text come first. */
static bool may_stay(struct check *check, uint32_t index, int32_t backend_idx)
{
	const struct lb_config *config = check->config;
	struct lb_config_error *error = check->reader->error;
	const struct lb_config_backend *backend = &config->services[index]->backends[backend_idx];

	check->reader->rc = 0;
	memset(error, 0, sizeof(*error));
	for (size_t i = 0; i < config->n_local_addresses; i++) {
		if (!lb_addr_equal(&config->local_addresses[i], &backend->endpoint.addr))
			continue;
		snprintf(error->message, sizeof(error->message), "the address is one of local_addresses");
		return false;
	}
	return check_backend(check, index, backend_idx) == 0;
}

/* The gone ones last: where two names meet on an address, it is that of the one that has it. */
static void sift(struct check *check, uint32_t index, bool gone,
	void (*dropped)(void *arg, const struct lb_config_service *service,
		const struct lb_config_backend *backend, const char *why), void *arg)
{
	struct lb_config_service *service = check->config->services[index];

	for (size_t i = 0; i < service->n_backends; i++) {
		struct lb_config_backend *backend = &service->backends[i];

		if (!backend->host || backend->is_gone != gone || may_stay(check, index, (int32_t)i))
			continue;
		dropped(arg, service, backend, check->reader->error->message);
		backend->weight = UINT32_MAX; // marks it
	}
}

static void remove_marked(struct lb_config_service *service)
{
	size_t n = 0;

	for (size_t i = 0; i < service->n_backends; i++) {
		if (service->backends[i].weight == UINT32_MAX)
			lb_config_backend_fini(&service->backends[i]);
		else
			service->backends[n++] = service->backends[i];
	}
	service->n_backends = n;
}

int lb_config_drop_conflicts(struct lb_config *config,
	void (*dropped)(void *arg, const struct lb_config_service *service,
		const struct lb_config_backend *backend, const char *why), void *arg)
{
	struct lb_config_error error;
	struct lb_config_reader reader = {.error = &error};
	struct check check = {.reader = &reader, .config = config};
	size_t n_backends = 0;

	for (size_t i = 0; i < config->n_services; i++)
		n_backends += config->services[i]->n_backends;
	if (set_init(&check.set, 3 * (config->n_services + n_backends)))
		return -ENOMEM;
	for (uint32_t i = 0; i < config->n_services; i++)
		(void)check_service(&check, i);
	for (uint32_t i = 0; i < config->n_services; i++)
		for (uint32_t j = 0; j < config->services[i]->n_backends; j++)
			if (!config->services[i]->backends[j].host)
				(void)check_backend(&check, i, (int32_t)j);
	for (uint32_t i = 0; i < config->n_services; i++)
		sift(&check, i, false, dropped, arg);
	for (uint32_t i = 0; i < config->n_services; i++)
		sift(&check, i, true, dropped, arg);
	for (size_t i = 0; i < config->n_services; i++)
		remove_marked(config->services[i]);
	free(check.set.entries);
	return 0;
}
