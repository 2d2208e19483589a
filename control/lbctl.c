/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/lbctl.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "control/lbctl_args.h"
#include "control/lbctl_table.h"
#include "control/lbctl_text.h"
#include "lb/shm.h"

#define RUN_DIR "/run/fulcrum"

/*
 * Longest wait for an answer. The daemon answers a change within 2 s of the data plane's silence,
 * and a config of thousands of services in a few seconds; an event wait is at most 60 s.
 */
#define TIMEOUT_MS 90000u
#define MAX_TIMEOUT_MS 86400000u

const char *lbctl_run_dir(void)
{
	const char *run_dir = getenv("FULCRUM_RUN_DIR");

	return run_dir != NULL && *run_dir != '\0' ? run_dir : RUN_DIR;
}

static void print_message(const char *where, const char *message)
{
	char *escaped_where = lbctl_text_escape(where);
	char *escaped = lbctl_text_escape(message);

	// What was printed up to now comes first, also where both go to one file.
	fflush(stdout);
	fprintf(stderr, "lbctl: %s: %s\n", escaped_where, escaped);
	free(escaped);
	free(escaped_where);
}

// As it is; what is no UTF-8 as it would be shown.
static json_t *text_json(const char *text)
{
	json_t *json = text != NULL ? json_string(text) : json_null();
	char *escaped;

	if (json == NULL) {
		escaped = lbctl_text_escape(text);
		json = json_string(escaped);
		free(escaped);
	}
	return json;
}

// With --json: one document a line, on standard error, so that standard output has the command's own or nothing.
static void print_json(const char *kind, const char *where, const char *message, const char *hint, int status)
{
	json_t *body = json_pack("{s:o, s:o, s:o}", "where", text_json(where), "message", text_json(message), "hint",
		text_json(hint));
	json_t *json = json_pack("{s:o}", kind, body);

	if (status >= 0)
		json_object_set_new(body, "exit_status", json_integer(status));
	fflush(stdout);
	json_dumpf(json, stderr, JSON_ENSURE_ASCII | JSON_COMPACT);
	fputc('\n', stderr);
	json_decref(json);
}

static const char *place(const struct lbctl *ctl, const char *where)
{
	if (where != NULL && *where != '\0')
		return where;
	return ctl->words != NULL ? ctl->words : "arguments";
}

enum lbctl_exit lbctl_error(const struct lbctl *ctl, enum lbctl_exit status, const char *where,
	const char *hint, const char *format, ...)
{
	char *message = NULL, *escaped;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&message, format, args);
	va_end(args);
	if (n < 0)
		return status;
	if (ctl->json) {
		print_json("error", place(ctl, where), message, hint, (int)status);
		free(message);
		return status;
	}
	print_message(place(ctl, where), message);
	free(message);
	if (hint != NULL) {
		escaped = lbctl_text_escape(hint);
		fprintf(stderr, "  hint: %s\n", escaped);
		free(escaped);
	}
	return status;
}

void lbctl_note(const struct lbctl *ctl, const char *where, const char *format, ...)
{
	char *message = NULL;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&message, format, args);
	va_end(args);
	if (n < 0)
		return;
	if (ctl->json)
		print_json("note", place(ctl, where), message, NULL, -1);
	else
		print_message(place(ctl, where), message);
	free(message);
}

static void print_options(const struct lbctl_option *option, size_t n_max)
{
	for (; n_max > 0 && option->name != NULL; option++, n_max--) {
		char *left = lbctl_text_printf("%s%s%s", option->name, option->value ? " " : "",
			option->value ? option->value : "");

		printf("  %-22s %s\n", left, option->help);
		free(left);
	}
}

// All commands, or those that begin with @p noun.
static void print_help(const char *noun)
{
	size_t n = noun != NULL ? strlen(noun) : 0;

	puts("lbctl: drives a Fulcrum load balancer through the API of lb-control\n\n"
	     "usage: lbctl [OPTION]... COMMAND ...\n\ncommands:");
	for (const struct lbctl_command *c = lbctl_commands; c->words != NULL; c++) {
		bool wanted =
			noun == NULL || (strncmp(c->words, noun, n) == 0 && c->words[n] == ' ');

		if (wanted)
			printf("  %-16s %s\n", c->words, c->summary);
	}
	puts("\noptions of every command:");
	print_options(lbctl_global_options, SIZE_MAX);
	puts("\nlbctl COMMAND --help shows a command's own arguments; the manual is lbctl(1).\n"
	     "exit status: 0 done, 1 refused or failed, 2 usage, 3 lb-control cannot be reached,\n"
	     "             4 lb-control is up but the data plane is not");
}

static enum lbctl_exit print_command_help(const struct lbctl_command *command)
{
	printf("%s\n\nusage: lbctl %s%s%s%s\n", command->summary, command->words,
		*command->operands ? " " : "", command->operands,
		command->options[0].name != NULL ? " [OPTION]..." : "");
	if (command->options[0].name != NULL) {
		puts("\noptions:");
		print_options(command->options, LBCTL_MAX_OPTIONS);
	}
	if (command->help != NULL)
		printf("\n%s\n", command->help);
	return LBCTL_OK;
}

// Settle what the environment and the global options say. Needs to be freed: socket_path.
static enum lbctl_exit set_up(struct lbctl *ctl, const struct lbctl_globals *globals)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	uint64_t timeout_ms;

	if (globals->instance != NULL)
		ctl->instance = globals->instance;
	if (!lb_instance_valid(ctl->instance))
		return lbctl_error(ctl, LBCTL_USAGE, "--instance", NULL,
			"'%s' is no instance name: 1 to %d of a-z, 0-9, _ and -", ctl->instance,
			LB_INSTANCE_MAX);
	if (globals->timeout != NULL) {
		if (lbctl_text_parse_duration(globals->timeout, &timeout_ms) != 0 ||
			timeout_ms < 1 || timeout_ms > MAX_TIMEOUT_MS)
			return lbctl_error(ctl, LBCTL_USAGE, "--timeout", NULL,
				"'%s' is no duration of 1ms..%us", globals->timeout,
				MAX_TIMEOUT_MS / 1000);
		ctl->timeout_ms = (unsigned)timeout_ms;
	}
	ctl->json = globals->json;
	ctl->terminal = isatty(STDOUT_FILENO) == 1;
	ctl->screen = ctl->terminal && (term == NULL || strcmp(term, "dumb") != 0);
	ctl->colour = ctl->screen && !ctl->json && (no_color == NULL || *no_color == '\0');
	ctl->socket_path = lbctl_text_printf("%s/%s/control.sock", lbctl_run_dir(), ctl->instance);
	return LBCTL_OK;
}

static enum lbctl_exit dispatch(
	struct lbctl *ctl, const struct lbctl_args *args, const struct lbctl_globals *globals)
{
	const struct lbctl_command *command = args->command;
	enum lbctl_exit status;

	if (globals->version) {
		puts("lbctl " LB_VERSION);
		return LBCTL_OK;
	}
	if (globals->help && command != NULL)
		return print_command_help(command);
	if (globals->help) {
		print_help(ctl->words);
		return LBCTL_OK;
	}
	if (command == NULL)
		return lbctl_error(ctl, LBCTL_USAGE, NULL, "lbctl --help lists the commands",
			"a command is missing");
	status = set_up(ctl, globals);
	if (status == LBCTL_OK)
		status = command->run(ctl, args);
	return status;
}

// A full disk or a closed pipe must not look like success.
static enum lbctl_exit finish_output(const struct lbctl *ctl, enum lbctl_exit status)
{
	bool failed = ferror(stdout) != 0;

	if (fflush(stdout) != 0 || failed)
		return lbctl_error(ctl, LBCTL_FAILED, "standard output", NULL, "cannot write: %s",
			strerror(errno));
	return status;
}

int main(int argc, char **argv)
{
	struct lbctl ctl = {.instance = "default", .timeout_ms = TIMEOUT_MS};
	struct lbctl_globals globals = {0};
	struct lbctl_args args = {0};
	enum lbctl_exit status;

	// The daemon's texts are UTF-8, whatever the user's locale is.
	setlocale(LC_CTYPE, "C.UTF-8");
	if (argc >= 2 && strcmp(argv[1], "__complete") == 0) {
		status = lbctl_completion_words(&ctl, argv + 2, (size_t)argc - 2);
		free(ctl.socket_path);
		return (int)status;
	}
	if (argc < 1)
		return LBCTL_USAGE;
	// Before the arguments are understood: what is wrong with them is told in the same way.
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		ctl.json |= strcmp(argv[i], "--json") == 0;
	status = lbctl_args_init(&ctl, &args, &globals, argc - 1, argv + 1);
	if (status == LBCTL_OK)
		status = dispatch(&ctl, &args, &globals);
	lbctl_args_fini(&args);
	free(ctl.socket_path);
	return (int)finish_output(&ctl, status);
}
