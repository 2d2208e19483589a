/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/lbctl_api.h"
#include "control/lbctl_args.h"
#include "control/config.h"

/* lbctl apply|diff|validate|config, version */

// Read a whole file, "-" for standard input; a larger one than the daemon takes is refused here.
static enum lbctl_exit read_file(
	const struct lbctl *ctl, const char *name, char **text, size_t *n_bytes)
{
	bool is_stdin = strcmp(name, "-") == 0;
	FILE *file = is_stdin ? stdin : fopen(name, "re");
	size_t n_allocated = 0;
	int error;

	*text = NULL;
	*n_bytes = 0;
	if (file == NULL)
		return lbctl_error(
			ctl, LBCTL_FAILED, name, NULL, "cannot open: %s", strerror(errno));
	do {
		if (*n_bytes == n_allocated) {
			n_allocated = 2 * n_allocated + 65536;
			*text = lbctl_text_realloc(*text, n_allocated);
		}
		errno = 0;
		*n_bytes += fread(*text + *n_bytes, 1, n_allocated - *n_bytes, file);
	} while (!feof(file) && !ferror(file) && *n_bytes <= LB_CONFIG_MAX_BYTES);
	error = ferror(file) ? (errno ? errno : EIO) : 0;
	if (!is_stdin)
		fclose(file);
	if (error == 0 && *n_bytes <= LB_CONFIG_MAX_BYTES)
		return LBCTL_OK;
	free(*text);
	*text = NULL;
	if (error != 0)
		return lbctl_error(
			ctl, LBCTL_FAILED, name, NULL, "cannot read: %s", strerror(error));
	return lbctl_error(ctl, LBCTL_FAILED, name, NULL,
		"larger than the %u MiB a configuration may have", LB_CONFIG_MAX_BYTES >> 20);
}

static enum lbctl_exit send_file(
	struct lbctl *ctl, const char *name, const char *method, const char *format)
{
	const char *shown_name = strcmp(name, "-") == 0 ? "<stdin>" : name;
	char *path, *text, *answer_text = NULL;
	json_t *answer = NULL;
	size_t n_bytes;
	enum lbctl_exit status = read_file(ctl, name, &text, &n_bytes);

	if (status != LBCTL_OK)
		return status;
	path = lbctl_api_path(format, shown_name);
	status = lbctl_api_raw(ctl, method, path, text, n_bytes, "application/yaml", &answer_text);
	if (status == LBCTL_OK)
		status = lbctl_api_parse(ctl, answer_text, &answer);
	if (status == LBCTL_OK)
		status = lbctl_api_show_changes(ctl, answer);
	json_decref(answer);
	free(answer_text);
	free(path);
	free(text);
	return status;
}

enum lbctl_exit lbctl_apply_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	bool dry_run = lbctl_args_option(args, "--dry-run") != NULL;

	return send_file(ctl, args->operands[0], "PUT",
		dry_run ? "/v1/config?dry_run=1&file=%s" : "/v1/config?file=%s");
}

enum lbctl_exit lbctl_diff_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	return send_file(ctl, args->operands[0], "POST", "/v1/diff?file=%s");
}

static size_t count_backends(const struct lb_config *config)
{
	size_t n = 0;

	for (size_t i = 0; i < config->n_services; i++)
		n += config->services[i]->n_backends;
	return n;
}

enum lbctl_exit lbctl_validate_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	const char *name = strcmp(args->operands[0], "-") == 0 ? "<stdin>" : args->operands[0];
	struct lb_config *config = NULL;
	struct lb_config_error error;
	size_t n_bytes, n_backends;
	json_t *document;
	char *text;
	int rc;
	enum lbctl_exit status = read_file(ctl, args->operands[0], &text, &n_bytes);

	if (status != LBCTL_OK)
		return status;
	rc = lb_config_parse(name, text, n_bytes, &config, &error);
	free(text);
	if (rc < 0)
		return lbctl_error(ctl, LBCTL_FAILED, error.where[0] != '\0' ? error.where : name, NULL, "%s",
			error.message[0] != '\0' ? error.message : strerror(-rc));
	n_backends = count_backends(config);
	if (ctl->json) {
		document = json_pack("{s:s, s:b, s:I, s:I}", "file", name, "valid", 1, "n_services",
			(json_int_t)config->n_services, "n_backends", (json_int_t)n_backends);
		lbctl_api_print(document, false);
		json_decref(document);
	} else {
		char *escaped = lbctl_text_escape(name);

		printf("%s: valid: %zu service%s, %zu backend%s\n", escaped, config->n_services,
			config->n_services == 1 ? "" : "s", n_backends, n_backends == 1 ? "" : "s");
		free(escaped);
	}
	lb_config_free(config);
	return LBCTL_OK;
}

enum lbctl_exit lbctl_config_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	enum lbctl_exit status;
	json_t *answer;
	char *text;

	(void)args;
	if (ctl->json) {
		status = lbctl_api_get(ctl, "/v1/config", &answer);
		if (status == LBCTL_OK)
			lbctl_api_print(answer, false);
		json_decref(answer);
		return status;
	}
	status = lbctl_api_raw(ctl, "GET", "/v1/config?format=yaml", NULL, 0, NULL, &text);
	if (status != LBCTL_OK)
		return status;
	if (ctl->terminal) {
		// Line by line: all but the line ends is escaped. Into a file goes what was
		// received.
		for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;) {
			char *escaped = lbctl_text_escape(line);

			if (rest != NULL || *line != '\0')
				puts(escaped);
			free(escaped);
		}
	} else {
		fputs(text, stdout);
	}
	free(text);
	return LBCTL_OK;
}

enum lbctl_exit lbctl_version_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	json_t *answer, *document;
	enum lbctl_exit status;

	(void)args;
	lbctl_api_set_quiet(true);
	status = lbctl_api_get(ctl, "/v1/version", &answer);
	lbctl_api_set_quiet(false);
	if (ctl->json) {
		document = json_pack("{s:s, s:o?}", "lbctl", LB_VERSION, "control",
			status == LBCTL_OK ? json_incref(answer) : json_null());
		lbctl_api_print(document, false);
		json_decref(document);
	} else {
		lbctl_print_field(ctl, "lbctl", LBCTL_PLAIN, "%s", LB_VERSION);
		if (status == LBCTL_OK)
			lbctl_print_field(ctl, "lb-control", LBCTL_PLAIN, "%s",
				lbctl_json_text(answer, "version"));
		else
			lbctl_print_field(ctl, "lb-control", LBCTL_PLAIN, "not reached at %s",
				ctl->socket_path);
	}
	json_decref(answer);
	return LBCTL_OK;
}
