/* SPDX-License-Identifier: BSD-3-Clause */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "control/import_internal.h"
#include "control/lbctl_text.h"
#include "lb/msg.h"

/*
 * Which services lb-control would refuse, and why: by themselves, or beside those before them. What
 * is printed as a configuration has to load.
 */

/* An endpoint of a backend, and the first good service that has it. */
struct endpoint {
	const char *address, *protocol;
	unsigned port;
	const struct lb_import_service *owner;
};

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_endpoints(const void *a, const void *b)
{
	const struct endpoint *x = a, *y = b;
	int order = strcmp(x->address, y->address);

	if (order == 0)
		order = (x->port > y->port) - (x->port < y->port);
	return order != 0 ? order : strcmp(x->protocol, y->protocol);
}

/* Of one service alone; NULL: none. */
static const char *own_fault(const struct lb_import_service *service)
{
	bool vip_is_6 = strchr(service->vip, ':') != NULL;
	unsigned char bytes[4];

	if (service->n_backends == 0)
		return "it has no backend left";
	for (size_t i = 0; i < service->n_backends; i++) {
		const char *address = service->backends[i].address;
		bool is_4 = inet_pton(AF_INET, address, bytes) == 1;

		if (strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0 ||
			lb_import_is_localhost(address))
			return "a backend is the NGINX host itself (loopback): name its address";
		if (vip_is_6 ? is_4 : strchr(address, ':') != NULL)
			return "mode nat needs backends of the VIP's family: give addresses of its "
			       "own, or take "
			       "mode fullnat with local_addresses";
	}
	return NULL;
}

/* VIPs of good services, sorted; to be freed. */
static char **collect_vips(const struct lb_import *import, size_t *n)
{
	char **vips = lbctl_text_realloc(NULL, (import->n_services + 1) * sizeof(*vips));

	*n = 0;
	for (size_t i = 0; i < import->n_services; i++)
		if (import->services[i].unusable == NULL)
			vips[(*n)++] = import->services[i].vip;
	qsort(vips, *n, sizeof(*vips), compare_texts);
	return vips;
}

static void find_vips_among_backends(struct lb_import *import)
{
	size_t n;
	char **vips = collect_vips(import, &n);

	for (size_t i = 0; i < import->n_services; i++) {
		struct lb_import_service *service = &import->services[i];

		for (size_t k = 0; k < service->n_backends && service->unusable == NULL; k++)
			if (bsearch(&service->backends[k].address, vips, n, sizeof(*vips),
				    compare_texts) != NULL)
				service->unusable = lbctl_text_printf(
					"%s is a VIP: a backend needs an address of its own",
					service->backends[k].address);
	}
	free(vips);
}

/* Each endpoint of good services once, sorted; to be freed. */
static struct endpoint *collect_endpoints(const struct lb_import *import, size_t *n)
{
	struct endpoint *endpoints;
	size_t n_all = 0, n_kept = 0;

	for (size_t i = 0; i < import->n_services; i++)
		n_all += import->services[i].n_backends;
	endpoints = lbctl_text_realloc(NULL, (n_all + 1) * sizeof(*endpoints));
	n_all = 0;
	for (size_t i = 0; i < import->n_services; i++) {
		const struct lb_import_service *service = &import->services[i];

		for (size_t k = 0; k < service->n_backends && service->unusable == NULL; k++)
			endpoints[n_all++] =
				(struct endpoint){.address = service->backends[k].address,
					.port = service->backends[k].port,
					.protocol = service->protocol};
	}
	qsort(endpoints, n_all, sizeof(*endpoints), compare_endpoints);
	for (size_t i = 0; i < n_all; i++)
		if (n_kept == 0 || compare_endpoints(&endpoints[n_kept - 1], &endpoints[i]) != 0)
			endpoints[n_kept++] = endpoints[i];
	*n = n_kept;
	return endpoints;
}

static struct endpoint *find_endpoint(struct endpoint *endpoints, size_t n,
	const struct lb_import_service *service, const struct lb_import_backend *backend)
{
	struct endpoint wanted = {
		.address = backend->address, .port = backend->port, .protocol = service->protocol};

	return bsearch(&wanted, endpoints, n, sizeof(wanted), compare_endpoints);
}

/* Mode nat knows a reply by its endpoint: the first service that has one keeps it. */
static void find_shared_endpoints(struct lb_import *import)
{
	size_t n;
	struct endpoint *endpoints = collect_endpoints(import, &n);

	for (size_t i = 0; i < import->n_services; i++) {
		struct lb_import_service *service = &import->services[i];
		size_t n_backends = service->unusable == NULL ? service->n_backends : 0;

		for (size_t k = 0; k < n_backends && service->unusable == NULL; k++) {
			const struct endpoint *found =
				find_endpoint(endpoints, n, service, &service->backends[k]);

			if (found->owner == NULL)
				continue;
			service->is_fullnat = true;
			service->unusable = lbctl_text_printf(
				"%s port %u is a backend of service %s above, and mode nat tells replies by "
				"their endpoint. To have both: let the backends listen on another port for "
				"this one; or take the # away here (mode fullnat) and name an address of the "
				"balancer that backends can reach in local_addresses. Backends see that one "
				"then, and the client's by client_address: proxy_v2 (NGINX: listen ... "
				"proxy_protocol) or toa",
				found->address, found->port, found->owner->name);
		}
		for (size_t k = 0; k < n_backends && service->unusable == NULL; k++)
			find_endpoint(endpoints, n, service, &service->backends[k])->owner =
				service;
	}
	free(endpoints);
}

void lb_import_find_faults(struct lb_import *import)
{
	size_t n_backends = 0;

	for (size_t i = 0; i < import->n_services; i++) {
		const char *fault = own_fault(&import->services[i]);

		if (fault != NULL)
			import->services[i].unusable = lbctl_text_copy(fault);
	}
	find_vips_among_backends(import);
	find_shared_endpoints(import);
	for (size_t i = 0; i < import->n_services; i++) {
		struct lb_import_service *service = &import->services[i];

		if (service->unusable != NULL)
			continue;
		n_backends += service->n_backends;
		if (n_backends <= LB_MAX_BACKENDS)
			continue;
		n_backends -= service->n_backends;
		service->unusable = lbctl_text_printf(
			"with it there would be more than %u backends in all", LB_MAX_BACKENDS);
	}
}
