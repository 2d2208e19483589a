/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes of one object. Each makes the service anew, validates the config that would result, and only
 * then swaps it in: whatever fails, nothing has changed.
 */
#include "control/config_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct edit {
	struct lb_config *config;
	struct lb_config_reader reader;
	struct lb_tree tree;
	struct lb_config_service service; /* as it will be */
	size_t index;                     /* of the service; n_services: a new one */
};

/* Prepare; `object` NULL: nothing to read. */
static int edit_init(struct edit *edit, struct lb_config *config, json_t *object,
	struct lb_config_error *error)
{
	struct lb_tree_error tree_error;
	int rc = 0;

	memset(edit, 0, sizeof(*edit));
	memset(error, 0, sizeof(*error));
	edit->config = config;
	edit->reader.error = error;
	edit->index = config->n_services;
	edit->reader.subject_backend = -1;
	if (object)
		rc = lb_tree_from_json(&edit->tree, object, &tree_error);
	if (rc == -EINVAL)
		lb_config_fail(&edit->reader, NULL, "%s", tree_error.message);
	edit->reader.root = edit->tree.root;
	return rc;
}

/* Find the service and copy it into edit->service. */
static int edit_find(struct edit *edit, const char *name)
{
	const struct lb_config *config = edit->config;

	for (size_t i = 0; i < config->n_services; i++) {
		if (strcmp(config->services[i]->name, name) != 0)
			continue;
		edit->index = i;
		return lb_config_service_clone(&edit->service, config->services[i]);
	}
	lb_config_fail(&edit->reader, NULL, "no service \"%.*s\"", LB_CONFIG_NAME_MAX, name);
	return -ENOENT;
}

/* "api-3/10.0.0.13" is of the running state only. @return whether that was it. */
static bool tell_address(struct edit *edit, const char *name)
{
	size_t len = strcspn(name, "/");

	for (size_t i = 0; name[len] && i < edit->service.n_backends; i++) {
		const struct lb_config_backend *backend = &edit->service.backends[i];

		if (!backend->is_host || strlen(backend->name) != len ||
			strncmp(backend->name, name, len) != 0)
			continue;
		lb_config_fail(&edit->reader, NULL,
			"%s is an address of %s: change backend %s of service %s, which is all of its "
			"addresses", name + len + 1, backend->address, backend->name,
			edit->service.name);
		return true;
	}
	return false;
}

static struct lb_config_backend *edit_find_backend(struct edit *edit, const char *name)
{
	struct lb_config_backend *backend = lb_config_find_backend(&edit->service, name);

	if (!backend && tell_address(edit, name))
		return NULL;
	if (!backend)
		lb_config_fail(&edit->reader, NULL, "no backend \"%.*s\" in service %s",
			LB_CONFIG_NAME_MAX, name, edit->service.name);
	else
		edit->reader.subject_backend = backend - edit->service.backends;
	return backend;
}

/* Put edit->service (or, with `is_removal`, nothing) in the place of the service at edit->index. */
static int edit_commit(struct edit *edit, bool is_removal)
{
	struct lb_config *config = edit->config;
	struct lb_config candidate = *config;
	size_t n_old = config->n_services, at = edit->index;
	size_t n_gone = at < n_old, n_new = !is_removal;
	struct lb_config_service *service = n_new ? lb_config_service_new() : NULL;
	int rc = -ENOMEM;

	candidate.n_services = n_old - n_gone + n_new;
	candidate.services = calloc(candidate.n_services + 1, sizeof(*candidate.services));
	if (!candidate.services || (n_new && !service))
		goto fail;
	if (at)
		memcpy(candidate.services, config->services, at * sizeof(*config->services));
	if (n_new)
		candidate.services[at] = &edit->service;
	if (at + n_gone < n_old)
		memcpy(candidate.services + at + n_new, config->services + at + n_gone,
			(n_old - at - n_gone) * sizeof(*config->services));
	edit->reader.has_subject = !is_removal;
	edit->reader.subject_service = at;
	rc = lb_config_check_change(&edit->reader, &candidate);
	if (rc)
		goto fail;
	if (n_gone)
		lb_config_service_unref(config->services[at]);
	if (n_new) {
		*service = edit->service;
		service->n_refs = 1;
		candidate.services[at] = service;
		memset(&edit->service, 0, sizeof(edit->service));
	}
	free(config->services);
	config->services = candidate.services;
	config->n_services = candidate.n_services;
	return 0;
fail:
	free(candidate.services);
	lb_config_service_unref(service);
	return rc;
}

static int edit_fini(struct edit *edit, int rc)
{
	if (rc == -ENOMEM)
		snprintf(edit->reader.error->message, sizeof(edit->reader.error->message),
			"out of memory");
	lb_tree_fini(&edit->tree);
	lb_config_service_fini(&edit->service);
	return rc;
}

int lb_config_service_add(struct lb_config *config, json_t *object, struct lb_config_error *error)
{
	struct edit edit;
	int rc = edit_init(&edit, config, object, error);

	if (!rc)
		rc = lb_config_read_service(&edit.reader, edit.tree.root, true, &edit.service);
	if (!rc)
		rc = edit_commit(&edit, false);
	return edit_fini(&edit, rc);
}

int lb_config_service_set(struct lb_config *config, const char *service, json_t *object,
	struct lb_config_error *error)
{
	struct edit edit;
	int rc = edit_init(&edit, config, object, error);

	if (!rc)
		rc = edit_find(&edit, service);
	if (!rc)
		rc = lb_config_read_service(&edit.reader, edit.tree.root, false, &edit.service);
	if (!rc)
		rc = edit_commit(&edit, false);
	return edit_fini(&edit, rc);
}

int lb_config_service_del(struct lb_config *config, const char *service,
	struct lb_config_error *error)
{
	struct edit edit;
	int rc = edit_init(&edit, config, NULL, error);

	if (!rc)
		rc = edit_find(&edit, service);
	if (!rc)
		rc = edit_commit(&edit, true);
	return edit_fini(&edit, rc);
}

int lb_config_backend_add(struct lb_config *config, const char *service, json_t *object,
	struct lb_config_error *error)
{
	struct lb_config_backend *backends;
	struct edit edit;
	int rc = edit_init(&edit, config, object, error);

	if (!rc)
		rc = edit_find(&edit, service);
	if (rc)
		return edit_fini(&edit, rc);
	backends = reallocarray(edit.service.backends, edit.service.n_backends + 1,
		sizeof(*backends));
	if (!backends)
		return edit_fini(&edit, -ENOMEM);
	edit.service.backends = backends;
	edit.reader.subject_backend = (ssize_t)edit.service.n_backends;
	backends += edit.service.n_backends++;
	memset(backends, 0, sizeof(*backends));
	rc = lb_config_read_backend(&edit.reader, edit.tree.root, true, &edit.service, backends);
	if (!rc)
		rc = edit_commit(&edit, false);
	return edit_fini(&edit, rc);
}

int lb_config_backend_set(struct lb_config *config, const char *service, const char *backend,
	json_t *object, struct lb_config_error *error)
{
	struct lb_config_backend *found;
	struct edit edit;
	int rc = edit_init(&edit, config, object, error);

	if (!rc)
		rc = edit_find(&edit, service);
	if (rc)
		return edit_fini(&edit, rc);
	found = edit_find_backend(&edit, backend);
	if (!found)
		return edit_fini(&edit, -ENOENT);
	rc = lb_config_read_backend(&edit.reader, edit.tree.root, false, &edit.service, found);
	if (!rc)
		rc = edit_commit(&edit, false);
	return edit_fini(&edit, rc);
}

int lb_config_backend_del(struct lb_config *config, const char *service, const char *backend,
	struct lb_config_error *error)
{
	struct lb_config_backend *found;
	struct edit edit;
	int rc = edit_init(&edit, config, NULL, error);

	if (!rc)
		rc = edit_find(&edit, service);
	if (rc)
		return edit_fini(&edit, rc);
	found = edit_find_backend(&edit, backend);
	if (!found)
		return edit_fini(&edit, -ENOENT);
	lb_config_backend_fini(found);
	edit.service.n_backends--;
	memmove(found, found + 1,
		(size_t)(edit.service.backends + edit.service.n_backends - found) * sizeof(*found));
	return edit_fini(&edit, edit_commit(&edit, false));
}
