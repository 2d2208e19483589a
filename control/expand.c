/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/expand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/config_internal.h"
#include "control/mem.h"

static bool has_hosts(const struct lb_config_service *service)
{
	for (size_t i = 0; i < service->n_backends; i++)
		if (service->backends[i].is_host)
			return true;
	return false;
}

static size_t n_addresses(const struct lb_names *names, const struct lb_config_backend *backend)
{
	struct lb_name_info info;

	if (!backend->is_host)
		return 1;
	return lb_names_lookup(names, backend->address, &info) ? info.n_addresses : 0;
}

/* One address of @p from as a backend. */
static int derive(const struct lb_config_backend *from, const struct lb_name_address *address,
	struct lb_config_backend *to)
{
	char text[LB_ADDR_STRLEN], *name;
	int rc = lb_config_backend_clone(to, from);

	if (rc != 0)
		return rc;
	lb_addr_format(&address->addr, text);
	if (asprintf(&name, "%s/%s", from->name, text) < 0)
		return -1;
	free(to->name);
	to->name = name;
	to->host = to->address; // takes the text over
	to->address = strdup(text);
	to->is_host = false;
	to->is_gone = address->gone;
	to->endpoint.addr = address->addr;
	if (address->gone && to->admin == LB_ADMIN_ENABLED)
		to->admin = LB_ADMIN_DRAIN;
	return to->address != NULL ? 0 : -1;
}

/* Replace the backends of @p service. On failure it owns what it had and more: to be freed. */
static int expand_service(struct lb_config_service *service, const struct lb_names *names)
{
	struct lb_config_backend *old = service->backends;
	size_t n_old = service->n_backends, n = 0;
	int rc = 0;

	for (size_t i = 0; i < n_old; i++)
		n += n_addresses(names, &old[i]);
	service->backends = lb_xcalloc(n, sizeof(*service->backends));
	service->n_backends = 0;
	for (size_t i = 0; i < n_old; i++) {
		struct lb_name_info info = {.n_addresses = 0};

		if (!old[i].is_host) {
			service->backends[service->n_backends++] = old[i];
			continue;
		}
		(void)lb_names_lookup(names, old[i].address, &info);
		for (size_t j = 0; j < info.n_addresses && rc == 0; j++)
			rc = derive(&old[i], &info.addresses[j],
				&service->backends[service->n_backends++]);
		lb_config_backend_fini(&old[i]);
	}
	free(old);
	return rc;
}

/* Let @p running have a copy of its own of service @p i, with addresses for names. */
static int expand_own(struct lb_config *running, size_t i, const struct lb_names *names)
{
	struct lb_config_service *service = lb_config_service_new();

	if (service == NULL)
		return -1;
	if (lb_config_service_clone(service, running->services[i]) != 0) {
		free(service);
		return -1;
	}
	lb_config_service_unref(running->services[i]);
	running->services[i] = service;
	return expand_service(service, names);
}

struct lb_config *lb_expand(const struct lb_config *config, const struct lb_names *names,
	lb_expand_dropped_fn *dropped, void *arg)
{
	struct lb_config *running = NULL;

	for (size_t i = 0; i < config->n_services; i++) {
		if (!has_hosts(config->services[i]))
			continue;
		if (running == NULL)
			running = lb_config_clone(config);
		if (running == NULL || expand_own(running, i, names) != 0) {
			lb_config_free(running);
			return NULL;
		}
	}
	if (running == NULL)
		return (struct lb_config *)config;
	if (lb_config_drop_conflicts(running, dropped, arg) == 0)
		return running;
	lb_config_free(running);
	return NULL;
}
