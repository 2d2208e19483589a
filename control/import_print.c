/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "control/import.h"
#include "control/lbctl_text.h"

static void print_notes(FILE *out, const struct lb_import_notes *notes, const char *indent)
{
	for (size_t i = 0; i < notes->n; i++) {
		// Line breaks and escape sequences of a quoted word must not leave the comment.
		char *what = lbctl_text_escape(notes->notes[i].what);
		char *why = lbctl_text_escape(notes->notes[i].why);
		char *where = lbctl_text_escape(notes->notes[i].where);

		fprintf(out, "%s# %s: %s\n%s#     %s\n", indent, where, what, indent, why);
		free(where);
		free(why);
		free(what);
	}
}

static void print_backend(FILE *out, const char *begin, const struct lb_import_backend *backend)
{
	bool quoted = strchr(backend->address, ':') != NULL;

	fprintf(out, "%s      - {", begin);
	if (backend->name != NULL)
		fprintf(out, "name: \"%s\", ", backend->name);
	fprintf(out, "address: %s%s%s, port: %u, weight: %u", quoted ? "\"" : "", backend->address,
		quoted ? "\"" : "", backend->port, backend->weight);
	fprintf(out, "%s%s}\n", backend->backup ? ", backup: true" : "",
		backend->down ? ", state: disabled" : "");
}

// An unusable service is printed as a comment, so that the whole stays a valid configuration.
static void print_service(FILE *out, const struct lb_import_service *service)
{
	const char *begin = service->unusable != NULL ? "#" : "";

	fputc('\n', out);
	if (service->unusable != NULL)
		fprintf(out, "# Left out: %s.\n", service->unusable);
	print_notes(out, &service->notes, "  ");
	fprintf(out, "%s  - name: %s\n%s    vip: \"%s\"%s\n%s    port: %u\n%s    protocol: %s\n",
		begin, service->name, begin, service->vip,
		service->vip_given ? "" : "   # no address was given: put your VIP here", begin,
		service->port, begin, service->protocol);
	fprintf(out, "%s    mode: %s\n%s    scheduler: %s\n", begin, service->is_fullnat ? "fullnat" : "nat", begin,
		service->scheduler);
	if (service->idle_timeout != NULL)
		fprintf(out, "%s    idle_timeout: %s\n", begin, service->idle_timeout);
	if (service->slow_start != NULL)
		fprintf(out, "%s    slow_start: %s\n", begin, service->slow_start);
	if (service->check != NULL && service->fall > 0)
		fprintf(out, "%s    health_check: {type: %s, fall: %u}\n", begin, service->check,
			service->fall);
	else if (service->check != NULL)
		fprintf(out, "%s    health_check: {type: %s}\n", begin, service->check);
	if (service->n_backends > 0)
		fprintf(out, "%s    backends:\n", begin);
	for (size_t i = 0; i < service->n_backends; i++)
		print_backend(out, begin, &service->backends[i]);
}

size_t lb_import_count(const struct lb_import *import, size_t *n_backends)
{
	size_t n = 0;

	*n_backends = 0;
	for (size_t i = 0; i < import->n_services; i++) {
		n += import->services[i].unusable == NULL;
		if (import->services[i].unusable == NULL)
			*n_backends += import->services[i].n_backends;
	}
	return n;
}

void lb_import_print(FILE *out, const struct lb_import *import, const char *file)
{
	size_t n_backends, n_services = lb_import_count(import, &n_backends);
	char *name = lbctl_text_escape(file);

	fprintf(out,
		"# Made from %s by lbctl import nginx: %zu service%s, %zu backend%s.\n"
		"# Try it with: lbctl validate FILE, lbctl simulate FILE, lbctl diff FILE.\n",
		name, n_services, n_services == 1 ? "" : "s", n_backends,
		n_backends == 1 ? "" : "s");
	free(name);
	fputs(n_services > 0 ? "services:\n" : "services: none\n", out);
	for (size_t i = 0; i < import->n_services; i++)
		print_service(out, &import->services[i]);
	if (import->notes.n > 0)
		fputs("\n# Not part of any service:\n", out);
	print_notes(out, &import->notes, "");
}
