/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/config.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/config_internal.h"

const char *lb_check_type_name(enum lb_check_type type)
{
	static const char *const names[] = {"none", "tcp", "http", "https", "udp", "dns", "exec"};

	static_assert(sizeof(names) / sizeof(names[0]) == LB_CHECK_TYPE_N, "one name each");
	return (unsigned)type < LB_CHECK_TYPE_N ? names[type] : "?";
}

const char *lb_admin_state_name(enum lb_admin_state state)
{
	static const char *const names[] = {"enabled", "drain", "disabled"};

	return (unsigned)state <= LB_ADMIN_DISABLED ? names[state] : "?";
}

const char *lb_client_address_name(enum lb_client_address client_address)
{
	static const char *const names[] = {"none", "toa", "proxy_v2"};

	return (unsigned)client_address <= LB_CLIENT_ADDRESS_PROXY_V2 ? names[client_address] : "?";
}

const char *lb_config_check_type_text(unsigned type)
{
	return lb_check_type_name((enum lb_check_type)type);
}

const char *lb_config_admin_text(unsigned state)
{
	return lb_admin_state_name((enum lb_admin_state)state);
}

const char *lb_config_client_address_text(unsigned client_address)
{
	return lb_client_address_name((enum lb_client_address)client_address);
}

const char *lb_config_protocol_name(unsigned proto)
{
	return proto == IPPROTO_UDP ? "udp" : proto == IPPROTO_TCP ? "tcp" : "?";
}

char *lb_config_format_mss(uint16_t mss, char buf[LB_CONFIG_MSS_BYTES])
{
	if (mss == LB_MSS_AUTO || mss == LB_MSS_NONE)
		return strcpy(buf, mss == LB_MSS_AUTO ? "auto" : "none");
	snprintf(buf, LB_CONFIG_MSS_BYTES, "%u", mss);
	return buf;
}

char *lb_config_format_vlan(uint16_t vlan, char buf[LB_CONFIG_VLAN_BYTES])
{
	if (vlan == LB_VLAN_KEEP || vlan == LB_VLAN_NONE)
		return strcpy(buf, vlan == LB_VLAN_KEEP ? "keep" : "none");
	snprintf(buf, LB_CONFIG_VLAN_BYTES, "%u", vlan);
	return buf;
}

char *lb_config_format_ratio(uint16_t percent, char buf[LB_CONFIG_RATIO_BYTES])
{
	if (percent == 0)
		snprintf(buf, LB_CONFIG_RATIO_BYTES, "none");
	else if (percent % 100 == 0)
		snprintf(buf, LB_CONFIG_RATIO_BYTES, "%u", percent / 100);
	else if (percent % 10 == 0)
		snprintf(buf, LB_CONFIG_RATIO_BYTES, "%u.%u", percent / 100, percent % 100 / 10);
	else
		snprintf(buf, LB_CONFIG_RATIO_BYTES, "%u.%02u", percent / 100, percent % 100);
	return buf;
}

char *lb_config_format_duration(uint32_t value_ms, char buf[LB_CONFIG_DURATION_BYTES])
{
	if (value_ms && value_ms % 3600000 == 0)
		snprintf(buf, LB_CONFIG_DURATION_BYTES, "%uh", value_ms / 3600000);
	else if (value_ms && value_ms % 60000 == 0)
		snprintf(buf, LB_CONFIG_DURATION_BYTES, "%um", value_ms / 60000);
	else if (value_ms % 1000 == 0)
		snprintf(buf, LB_CONFIG_DURATION_BYTES, "%us", value_ms / 1000);
	else
		snprintf(buf, LB_CONFIG_DURATION_BYTES, "%ums", value_ms);
	return buf;
}

static int parse_tree(struct lb_config_reader *reader, struct lb_tree *tree, const char *text,
	size_t len)
{
	struct lb_tree_error error;
	int rc = lb_tree_parse(tree, text, len, &error);

	if (rc == -EINVAL) {
		// Not a place in a tree yet, but the same way of telling it.
		struct lb_node node = {.line = error.line, .column = error.column};

		lb_config_fail(reader, &node, "%s", error.message);
	}
	return rc;
}

int lb_config_parse(const char *file, const char *text, size_t len, struct lb_config **out,
	struct lb_config_error *error)
{
	struct lb_config_reader reader = {.file = file ? file : "config", .error = error};
	struct lb_config *config = NULL;
	struct lb_tree tree = {0};
	int rc;

	memset(error, 0, sizeof(*error));
	if (len > LB_CONFIG_MAX_BYTES)
		return lb_config_fail(&reader, NULL, "expected at most %u bytes of text, found %zu",
			LB_CONFIG_MAX_BYTES, len);
	rc = parse_tree(&reader, &tree, text, len);
	if (rc)
		goto out;
	rc = -ENOMEM;
	config = calloc(1, sizeof(*config));
	if (!config)
		goto out;
	reader.root = tree.root;
	rc = lb_config_read(&reader, config);
	if (!rc)
		rc = lb_config_check_all(&reader, config);
	if (rc && rc != -ENOMEM)
		rc = -EINVAL;
out:
	lb_tree_fini(&tree);
	if (rc) {
		lb_config_free(config);
		if (rc == -ENOMEM)
			snprintf(error->message, sizeof(error->message), "out of memory");
		return rc;
	}
	*out = config;
	return 0;
}

/* All of `fd`, at most LB_CONFIG_MAX_BYTES + 1 bytes; its size may be unknown (a pipe). */
static int read_all(int fd, char **text, size_t *len)
{
	size_t size = 64u << 10;
	char *buf = NULL;

	*len = 0;
	for (;;) {
		ssize_t n;

		if (!buf || *len == size) {
			char *more = realloc(buf, buf ? (size *= 2) : size);

			if (!more) {
				free(buf);
				return -ENOMEM;
			}
			buf = more;
		}
		n = read(fd, buf + *len, size - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			n = -errno;
			free(buf);
			return (int)n;
		}
		*len += (size_t)n;
		if (n == 0 || *len > LB_CONFIG_MAX_BYTES) {
			*text = buf;
			return 0;
		}
	}
}

int lb_config_load(const char *file, struct lb_config **out, struct lb_config_error *error)
{
	struct lb_config_reader reader = {.file = file, .error = error};
	char *text = NULL;
	size_t len;
	int fd, rc;

	memset(error, 0, sizeof(*error));
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
		lb_config_fail(&reader, NULL, "cannot be opened: %s", strerror(-rc));
		return rc;
	}
	rc = read_all(fd, &text, &len);
	close(fd);
	if (rc) {
		lb_config_fail(&reader, NULL, "cannot be read: %s", strerror(-rc));
		return rc;
	}
	rc = lb_config_parse(file, text, len, out, error);
	free(text);
	return rc;
}

void lb_config_backend_fini(struct lb_config_backend *backend)
{
	free(backend->name);
	free(backend->address);
	free(backend->host);
	if (backend->check_keys)
		lb_config_check_fini(&backend->check);
}

void lb_config_service_fini(struct lb_config_service *service)
{
	for (size_t i = 0; i < service->n_backends; i++)
		lb_config_backend_fini(&service->backends[i]);
	free(service->backends);
	lb_config_check_fini(&service->check);
	free(service->agent.send);
	free(service->name);
	free(service->text);
}

struct lb_config_service *lb_config_service_new(void)
{
	struct lb_config_service *service = calloc(1, sizeof(*service));

	if (service)
		service->n_refs = 1;
	return service;
}

void lb_config_service_unref(struct lb_config_service *service)
{
	if (!service || --service->n_refs > 0)
		return;
	lb_config_service_fini(service);
	free(service);
}

void lb_config_free(struct lb_config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->n_services; i++)
		lb_config_service_unref(config->services[i]);
	free(config->services);
	free(config->local_addresses);
	free(config->resolvers);
	free(config->interfaces);
	free(config);
}

/* strdup that carries NULL over; false without memory. */
static bool copy_string(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

static bool clone_strings(struct lb_config_service *to, const struct lb_config_service *from)
{
	bool ok = copy_string(&to->name, from->name);

	ok = copy_string(&to->agent.send, from->agent.send) && ok;
	return lb_config_check_copy(&to->check, &from->check) == 0 && ok;
}

int lb_config_backend_clone(struct lb_config_backend *to, const struct lb_config_backend *from)
{
	bool ok;

	*to = *from;
	ok = copy_string(&to->name, from->name);
	ok = copy_string(&to->address, from->address) && ok;
	ok = copy_string(&to->host, from->host) && ok;
	if (from->check_keys)
		ok = lb_config_check_copy(&to->check, &from->check) == 0 && ok;
	return ok ? 0 : -ENOMEM;
}

int lb_config_service_clone(struct lb_config_service *to, const struct lb_config_service *from)
{
	bool ok;

	*to = *from;
	to->n_refs = 1;
	to->text = NULL;
	to->backends = NULL;
	to->n_backends = 0;
	ok = clone_strings(to, from);
	if (from->n_backends)
		to->backends = calloc(from->n_backends, sizeof(*to->backends));
	for (size_t i = 0; to->backends && i < from->n_backends; i++) {
		ok = lb_config_backend_clone(&to->backends[to->n_backends++], &from->backends[i]) == 0 &&
			ok;
	}
	if (ok && to->n_backends == from->n_backends)
		return 0;
	lb_config_service_fini(to);
	memset(to, 0, sizeof(*to));
	return -ENOMEM;
}

struct lb_config *lb_config_clone(const struct lb_config *config)
{
	struct lb_config *copy = calloc(1, sizeof(*copy));
	size_t n_addresses = config->n_local_addresses;

	if (!copy)
		return NULL;
	*copy = *config;
	copy->services = NULL;
	copy->n_services = 0;
	copy->local_addresses = NULL;
	copy->resolvers = NULL;
	copy->interfaces = NULL;
	if (config->n_interfaces) {
		copy->interfaces = calloc(config->n_interfaces, sizeof(*copy->interfaces));
		if (!copy->interfaces)
			goto fail;
		memcpy(copy->interfaces, config->interfaces,
			config->n_interfaces * sizeof(*copy->interfaces));
	}
	if (config->n_resolvers) {
		copy->resolvers = calloc(config->n_resolvers, sizeof(*copy->resolvers));
		if (!copy->resolvers)
			goto fail;
		memcpy(copy->resolvers, config->resolvers,
			config->n_resolvers * sizeof(*copy->resolvers));
	}
	if (n_addresses) {
		copy->local_addresses = calloc(n_addresses, sizeof(*copy->local_addresses));
		if (!copy->local_addresses)
			goto fail;
		memcpy(copy->local_addresses, config->local_addresses,
			n_addresses * sizeof(*copy->local_addresses));
	}
	if (config->n_services) {
		copy->services = calloc(config->n_services, sizeof(*copy->services));
		if (!copy->services)
			goto fail;
	}
	for (size_t i = 0; i < config->n_services; i++) {
		copy->services[i] = config->services[i];
		copy->services[i]->n_refs++;
	}
	copy->n_services = config->n_services;
	return copy;
fail:
	lb_config_free(copy);
	return NULL;
}

struct lb_config_service *lb_config_find_service(const struct lb_config *config, const char *name)
{
	for (size_t i = 0; i < config->n_services; i++)
		if (!strcmp(config->services[i]->name, name))
			return config->services[i];
	return NULL;
}

struct lb_config_backend *lb_config_find_backend(const struct lb_config_service *service,
	const char *name)
{
	for (size_t i = 0; i < service->n_backends; i++)
		if (!strcmp(service->backends[i].name, name))
			return &service->backends[i];
	return NULL;
}
