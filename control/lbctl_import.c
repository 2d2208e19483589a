/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/config.h"
#include "control/import.h"
#include "control/lbctl_api.h"
#include "control/lbctl_args.h"
#include "lb/addr.h"

/* lbctl import nginx: prints a configuration, touches nothing, needs no daemon. */

static json_t *notes_json(json_t *array, const char *service, const struct lb_import_notes *notes)
{
	for (size_t i = 0; i < notes->n; i++)
		json_array_append_new(
			array, json_pack("{s:s?, s:s+, s:s+, s:s+}", "service", service, "where",
				       notes->notes[i].where, "", "directive", notes->notes[i].what,
				       "", "note", notes->notes[i].why, ""));
	return array;
}

static void print_json(const struct lb_import *import, const char *yaml)
{
	size_t n_backends, n_services = lb_import_count(import, &n_backends);
	json_t *notes = notes_json(json_array(), NULL, &import->notes), *left_out = json_array(),
	       *document;

	for (size_t i = 0; i < import->n_services; i++) {
		const struct lb_import_service *service = &import->services[i];

		notes_json(notes, service->name, &service->notes);
		if (service->unusable != NULL)
			json_array_append_new(
				left_out, json_pack("{s:s, s:s}", "service", service->name, "why",
						  service->unusable));
	}
	document =
		json_pack("{s:s, s:i, s:i, s:o, s:o}", "yaml", yaml, "n_services", (int)n_services,
			"n_backends", (int)n_backends, "left_out", left_out, "notes", notes);
	lbctl_api_print(document, false);
	json_decref(document);
}

// Standard output is often a file that nobody reads at once.
static void tell_left_out(const struct lbctl *ctl, const struct lb_import *import, const char *file)
{
	const struct lb_import_service *first = NULL;
	size_t n = 0;

	for (size_t i = import->n_services; i-- > 0;)
		if (import->services[i].unusable != NULL) {
			first = &import->services[i];
			n++;
		}
	if (n == 1)
		lbctl_note(ctl, NULL, "%s: service %s is left out, as a comment: %s", file, first->name, first->unusable);
	else if (n > 1)
		lbctl_note(ctl, NULL, "%s: %zu services are left out, as comments that say why: the first is %s: %s", file, n,
			first->name, first->unusable);
}

// --vip ADDRESS, one of each family at most, for servers that listen on any address.
static enum lbctl_exit take_vip(const struct lbctl *ctl, const struct lbctl_args *args,
	const char *option, bool want_ipv4, char text[LB_ADDR_STRLEN], const char **vip)
{
	const char *given = lbctl_args_option(args, option);
	struct lb_addr addr;

	*vip = NULL;
	if (given == NULL)
		return LBCTL_OK;
	if (lb_addr_parse(given, &addr) < 0 || lb_addr_is_ipv4(&addr) != want_ipv4)
		return lbctl_error(ctl, LBCTL_USAGE, option, NULL, "'%s' is no IPv%d address", given,
			want_ipv4 ? 4 : 6);
	if (!lb_addr_is_usable(&addr))
		return lbctl_error(ctl, LBCTL_USAGE, option, NULL, "'%s' is no address that clients could "
			"connect to from elsewhere", given);
	*vip = lb_addr_format(&addr, text);
	return LBCTL_OK;
}

// What is printed has to load; that it does is tested, but not with every file in the world.
static enum lbctl_exit check_result(const struct lbctl *ctl, const char *yaml, size_t n_bytes)
{
	struct lb_config *config = NULL;
	struct lb_config_error error;

	if (lb_config_parse("output", yaml, n_bytes, &config, &error) == 0) {
		lb_config_free(config);
		return LBCTL_OK;
	}
	return lbctl_error(ctl, LBCTL_FAILED, error.where[0] != '\0' ? error.where : NULL,
		"mend this line of the output by hand, and report it as a fault of lbctl, please",
		"lb-control would refuse what was made: %s", error.message);
}

enum lbctl_exit lbctl_import_nginx_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	const char *file = args->operands[0];
	struct lb_import import = {0};
	struct lb_nginx nginx = {0};
	char *error = NULL, *yaml = NULL, vip4[LB_ADDR_STRLEN], vip6[LB_ADDR_STRLEN];
	size_t n_bytes;
	FILE *out;
	enum lbctl_exit status = take_vip(ctl, args, "--vip", true, vip4, &import.vip4);

	if (status == LBCTL_OK)
		status = take_vip(ctl, args, "--vip6", false, vip6, &import.vip6);
	if (status != LBCTL_OK)
		return status;
	if (lb_nginx_read(file, &nginx, &error) < 0) {
		lb_nginx_fini(&nginx);
		status = lbctl_error(ctl, LBCTL_FAILED, NULL, NULL, "%s", error);
		free(error);
		return status;
	}
	lb_import_nginx(&import, &nginx);
	out = open_memstream(&yaml, &n_bytes);
	if (out == NULL) {
		status = lbctl_error(ctl, LBCTL_FAILED, NULL, NULL, "%s", strerror(errno));
	} else {
		lb_import_print(out, &import, file);
		fclose(out);
		if (ctl->json)
			print_json(&import, yaml);
		else
			fputs(yaml, stdout);
		status = check_result(ctl, yaml, n_bytes);
		tell_left_out(ctl, &import, file);
		if (import.n_services == 0)
			lbctl_note(
				ctl, NULL, "%s has no upstream and no server that passes on", file);
	}
	free(yaml);
	lb_import_fini(&import);
	lb_nginx_fini(&nginx);
	return status;
}
