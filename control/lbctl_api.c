/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/lbctl_api.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "control/lbctl_http.h"

static bool quiet;

void lbctl_api_set_quiet(bool is_quiet)
{
	quiet = is_quiet;
}

// RFC 3986 section 2.3: what needs no escape. All else of a name is data.
static char *append_encoded(char *out, const char *text)
{
	static const char unreserved[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

	for (; *text != '\0'; text++) {
		if (strchr(unreserved, *text) != NULL)
			*out++ = *text;
		else
			out += sprintf(out, "%%%02X", (unsigned char)*text);
	}
	return out;
}

char *lbctl_api_path(const char *format, ...)
{
	size_t n_bytes = strlen(format) + 1;
	va_list args;
	char *path, *out;

	va_start(args, format);
	for (const char *c = format; (c = strstr(c, "%s")) != NULL; c += 2)
		n_bytes += 3 * strlen(va_arg(args, const char *));
	va_end(args);
	path = out = lbctl_text_realloc(NULL, n_bytes);
	va_start(args, format);
	while (*format != '\0') {
		if (format[0] == '%' && format[1] == 's') {
			out = append_encoded(out, va_arg(args, const char *));
			format += 2;
		} else {
			*out++ = *format++;
		}
	}
	va_end(args);
	*out = '\0';
	return path;
}

/*
 * What to do when the daemon does not answer at the instance's socket: start it, or name another
 * instance whose socket is there. In new memory.
 */
static char *unreachable_hint(const struct lbctl *ctl, int error)
{
	char *hint, *run_dir, *slash, *others = lbctl_text_copy("");
	struct dirent *entry;
	DIR *dir;

	if (error == -EACCES || error == -EPERM) {
		free(others);
		return lbctl_text_copy("the socket belongs to root and group fulcrum: use sudo, or "
				       "join the group (usermod -aG fulcrum USER)");
	}
	if (error == -ETIMEDOUT || error == -ECONNRESET) {
		free(others);
		return lbctl_text_copy("look at lb-control's log; forwarding goes on without it");
	}
	run_dir = lbctl_text_copy(ctl->socket_path);
	for (int i = 0; i < 2 && (slash = strrchr(run_dir, '/')) != NULL; i++)
		*slash = '\0';
	dir = opendir(run_dir);
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		char *path = lbctl_text_printf("%s/%s/control.sock", run_dir, entry->d_name);
		struct stat st;

		if (entry->d_name[0] != '.' && strcmp(entry->d_name, ctl->instance) != 0 &&
			stat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
			char *longer = lbctl_text_printf("%s --instance %s", others, entry->d_name);

			free(others);
			others = longer;
		}
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
	hint = lbctl_text_printf(
		"start it: lb-control --instance %s --config FILE (forwarding goes on "
		"without it)%s%s",
		ctl->instance, *others ? "; or is it another instance:" : "", others);
	free(others);
	free(run_dir);
	return hint;
}

static enum lbctl_exit transport_error(const struct lbctl *ctl, int error, const char *reason)
{
	char *hint;

	if (error == -EPROTO || error == -EFBIG || error == -ENOMEM) {
		if (!quiet)
			lbctl_error(ctl, LBCTL_FAILED, ctl->socket_path,
				"is it lb-control of this version that listens there?", "%s",
				reason);
		return LBCTL_FAILED;
	}
	if (quiet)
		return LBCTL_UNREACHABLE;
	hint = unreachable_hint(ctl, error);
	lbctl_error(ctl, LBCTL_UNREACHABLE, ctl->socket_path, hint, "lb-control: %s", reason);
	free(hint);
	return LBCTL_UNREACHABLE;
}

static const char *refusal_hint(long status, const char *where, const char *message)
{
	switch (status) {
	case 409:
		if (strcmp(where, "announce") == 0)
			return "add announce: {table: N} to the configuration, then lbctl apply it";
		if (strstr(message, " is taken by service") != NULL)
			return "lbctl service list shows the services";
		if (strstr(message, " is taken by backend") != NULL)
			return "lbctl backend list shows the backends of each service";
		return NULL;
	case 404:
		if (strncmp(message, "no backend", strlen("no backend")) == 0)
			return "lbctl backend list shows the backends of each service";
		if (strncmp(message, "no service", strlen("no service")) == 0)
			return "lbctl service list shows the services";
		if (*message != '\0' && strcmp(message, "no such path") != 0)
			return NULL; // it knows the path, but not what is named
		return "does lb-control have the same version? lbctl version shows both";
	case 405:
		return "does lb-control have the same version? lbctl version shows both";
	case 500:
		return "look at lb-control's log";
	case 502:
		return "lbctl status shows what the data plane refused";
	case 503:
		return "start lb-dataplane; lbctl status shows why it is not seen";
	case 504:
		return "lbctl status shows how the data plane does";
	default:
		return NULL;
	}
}

// An answer that is not 2xx.
static enum lbctl_exit refused(
	const struct lbctl *ctl, const struct lbctl_http_response *response)
{
	enum lbctl_exit status = response->status == 503 || response->status == 504
					 ? LBCTL_NO_DATAPLANE
					 : LBCTL_FAILED;
	json_t *answer = json_loadb(response->body, response->body_bytes, 0, NULL);
	const json_t *error = json_object_get(answer, "error");
	const char *where = lbctl_json_text(error, "where");
	const char *message = lbctl_json_text(error, "message");
	const char *hint = refusal_hint(response->status, where, message);
	size_t n_where = strlen(where);

	// "weight: weight: out of range" says it once too often.
	if (n_where > 0 && strncmp(message, where, n_where) == 0 &&
		strncmp(message + n_where, ": ", 2) == 0)
		message += n_where + 2;

	if (quiet)
		;
	else if (*message != '\0')
		lbctl_error(ctl, status, *where ? where : NULL, hint, "%s", message);
	else
		lbctl_error(ctl, status, NULL, hint,
			"lb-control answers HTTP status %ld without a reason", response->status);
	json_decref(answer);
	return status;
}

enum lbctl_exit lbctl_api_raw(const struct lbctl *ctl, const char *method, const char *path,
	const char *body, size_t body_bytes, const char *content_type, char **text)
{
	const struct lbctl_http_request request = {
		.socket_path = ctl->socket_path,
		.method = method,
		.path = path,
		.body = body,
		.body_bytes = body_bytes,
		.content_type = content_type,
		.timeout_ms = ctl->timeout_ms,
	};
	struct lbctl_http_response response;
	enum lbctl_exit status = LBCTL_OK;
	char reason[256];
	int r;

	*text = NULL;
	r = lbctl_http(&request, &response, reason, sizeof(reason));
	if (r < 0) {
		status = transport_error(ctl, r, reason);
	} else if (response.status < 200 || response.status > 299) {
		status = refused(ctl, &response);
	} else {
		*text = response.body;
		response.body = NULL;
	}
	lbctl_http_response_fini(&response);
	return status;
}

enum lbctl_exit lbctl_api_parse(const struct lbctl *ctl, const char *text, json_t **object)
{
	json_error_t error;

	*object = json_loads(text, 0, &error);
	if (json_is_object(*object))
		return LBCTL_OK;
	if (!quiet)
		lbctl_error(ctl, LBCTL_FAILED, ctl->socket_path,
			"is it lb-control of this version that listens there?",
			"the answer is no JSON object: %s",
			*object == NULL ? error.text : "another value");
	json_decref(*object);
	*object = NULL;
	return LBCTL_FAILED;
}

enum lbctl_exit lbctl_api_request(const struct lbctl *ctl, const char *method, const char *path,
	const json_t *body, json_t **answer)
{
	char *body_text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	enum lbctl_exit status;
	char *text;

	*answer = NULL;
	if (body != NULL && body_text == NULL)
		return lbctl_error(ctl, LBCTL_FAILED, NULL, NULL, "out of memory");
	status = lbctl_api_raw(ctl, method, path, body_text,
		body_text != NULL ? strlen(body_text) : 0, "application/json", &text);
	if (status == LBCTL_OK)
		status = lbctl_api_parse(ctl, text, answer);
	free(text);
	free(body_text);
	return status;
}

enum lbctl_exit lbctl_api_get(const struct lbctl *ctl, const char *path, json_t **answer)
{
	return lbctl_api_request(ctl, "GET", path, NULL, answer);
}

void lbctl_api_wait(const struct lbctl *ctl)
{
	const struct timespec pause = {.tv_sec = 1};
	json_t *answer = NULL;

	lbctl_note(ctl, ctl->socket_path, "waiting for lb-control to come back");
	lbctl_api_set_quiet(true);
	while (lbctl_api_get(ctl, "/v1/version", &answer) != LBCTL_OK)
		nanosleep(&pause, NULL);
	lbctl_api_set_quiet(false);
	json_decref(answer);
	lbctl_note(ctl, ctl->socket_path, "lb-control is back");
}

void lbctl_api_print(const json_t *value, bool one_line)
{
	// ASCII only: what is a control character somewhere stays an escape in the document.
	json_dumpf(value, stdout, JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15) | (one_line ? JSON_COMPACT : JSON_INDENT(2)));
	putchar('\n');
}

enum lbctl_exit lbctl_api_check_dataplane(const struct lbctl *ctl, const json_t *answer)
{
	const char *state = lbctl_json_text(answer, "dataplane");

	if (strcmp(state, "down") == 0) {
		lbctl_note(ctl, "data plane", "down: the figures are those last seen");
		return LBCTL_NO_DATAPLANE;
	}
	if (strcmp(state, "syncing") == 0)
		lbctl_note(ctl, "data plane", "syncing: not everything has arrived there yet");
	return LBCTL_OK;
}

// What the data plane made of a change that is saved.
static enum lbctl_exit check_live(const struct lbctl *ctl, const json_t *answer)
{
	const json_t *refusals = json_object_get(answer, "refused"), *refusal;
	size_t i;

	json_array_foreach (refusals, i, refusal)
		lbctl_error(ctl, LBCTL_FAILED, lbctl_json_text(refusal, "subject"), NULL,
			"saved, but the data plane refused %s: %s", lbctl_json_text(refusal, "op"),
			lbctl_json_text(refusal, "error"));
	if (json_array_size(refusals) > 0)
		return LBCTL_FAILED;
	if (lbctl_json_true(answer, "live") || lbctl_json_true(answer, "dry_run") ||
		json_array_size(json_object_get(answer, "changes")) == 0)
		return LBCTL_OK;
	if (strcmp(lbctl_json_text(answer, "dataplane"), "down") == 0)
		lbctl_note(ctl, "data plane",
			"down: the change is saved and takes effect when it is back");
	else
		lbctl_note(ctl, "data plane",
			"has not answered yet: the change is saved and on its way");
	return LBCTL_OK;
}

enum lbctl_exit lbctl_api_show_changes(const struct lbctl *ctl, const json_t *answer)
{
	static const enum lbctl_colour colours[] = {LBCTL_GREEN, LBCTL_RED, LBCTL_YELLOW};
	const json_t *changes = json_object_get(answer, "changes"), *change, *warning;
	bool dry_run = lbctl_json_true(answer, "dry_run");
	size_t i, n = json_array_size(changes);

	if (ctl->json) {
		lbctl_api_print(answer, false);
		return check_live(ctl, answer);
	}
	json_array_foreach (json_object_get(answer, "warnings"), i, warning)
		lbctl_note(ctl, lbctl_json_text(warning, "where"), "warning: %s; %s", lbctl_json_text(warning, "message"),
			lbctl_json_text(warning, "hint"));
	json_array_foreach (changes, i, change) {
		const char *sign = lbctl_json_text(change, "sign");
		const char *kind = *sign ? strchr("+-~", *sign) : NULL;
		const char *text = lbctl_json_text(change, "text");
		char *line = lbctl_text_printf("%s %s%s%s", sign, lbctl_json_text(change, "path"),
			*text ? ": " : "", text);
		char *escaped = lbctl_text_escape(line);
		bool coloured = ctl->colour && kind != NULL;

		printf("%s%s%s\n", coloured ? lbctl_table_sequence(colours[kind - "+-~"]) : "",
			escaped, coloured ? lbctl_table_sequence(LBCTL_PLAIN) : "");
		free(escaped);
		free(line);
	}
	if (n == 0)
		puts("no change");
	else
		printf("%zu change%s%s\n", n, n == 1 ? "" : "s",
			dry_run ? " (nothing is changed: only shown)" : "");
	return check_live(ctl, answer);
}

enum lbctl_exit lbctl_api_change(
	const struct lbctl *ctl, const char *method, const char *path, const json_t *body)
{
	json_t *answer;
	enum lbctl_exit status = lbctl_api_request(ctl, method, path, body, &answer);

	if (status == LBCTL_OK)
		status = lbctl_api_show_changes(ctl, answer);
	json_decref(answer);
	return status;
}
