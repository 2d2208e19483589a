/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/lbctl_args.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "control/lbctl_api.h"
#include "control/lbctl_text.h"

const struct lbctl_option lbctl_global_options[] = {
	{"--instance", "NAME", "the instance of lb-control to talk to (default: default)"},
	{"--timeout", "DURATION", "longest wait for an answer of lb-control (default: 90s)"},
	{"--json", NULL, "print one JSON document instead of tables"},
	{"--help", NULL, "print help, of the command if one is given"},
	{"--version", NULL, "print lbctl's own version"},
	{NULL, NULL, NULL},
};

static enum lbctl_exit usage(const struct lbctl *ctl, const char *format, const char *arg)
{
	char *message = lbctl_text_printf("%s '%s'", format, arg);
	char *hint = lbctl_text_printf("lbctl %s%s--help shows how it is used",
		ctl->words ? ctl->words : "", ctl->words ? " " : "");
	enum lbctl_exit status = lbctl_error(ctl, LBCTL_USAGE, NULL, hint, "%s", message);

	free(hint);
	free(message);
	return status;
}

/* One walk over argv. */
struct walk {
	char **argv;
	int argc, i;
};

// Whether @p arg is the option @p name; @p value is set to what follows "=", or NULL.
static bool is_option(const char *arg, const char *name, const char **value)
{
	size_t n = strlen(name);

	if (strncmp(arg, name, n) != 0 || (arg[n] != '\0' && arg[n] != '='))
		return false;
	*value = arg[n] == '=' ? arg + n + 1 : NULL;
	return true;
}

// The value of the option at the walk's place: after "=", or the next argument; "" for a flag; NULL
// after a message.
static const char *take_value(const struct lbctl *ctl, struct walk *walk,
	const struct lbctl_option *option, const char *value)
{
	if (option->value == NULL) {
		if (value == NULL)
			return "";
		usage(ctl, "this option takes no value:", walk->argv[walk->i]);
		return NULL;
	}
	if (value != NULL)
		return value;
	if (walk->i + 1 >= walk->argc) {
		usage(ctl, "a value is missing after", option->name);
		return NULL;
	}
	return walk->argv[++walk->i];
}

static enum lbctl_exit take_global(
	const struct lbctl *ctl, struct lbctl_globals *globals, struct walk *walk, bool *taken)
{
	const char *arg = walk->argv[walk->i];
	const struct lbctl_option *option;
	const char *value = NULL;

	*taken = true;
	if (strcmp(arg, "-h") == 0) {
		globals->help = true;
		return LBCTL_OK;
	}
	for (option = lbctl_global_options; option->name != NULL; option++) {
		if (is_option(arg, option->name, &value))
			break;
	}
	if (option->name == NULL) {
		*taken = false;
		return LBCTL_OK;
	}
	value = take_value(ctl, walk, option, value);
	if (value == NULL)
		return LBCTL_USAGE;
	if (strcmp(option->name, "--instance") == 0)
		globals->instance = value;
	else if (strcmp(option->name, "--timeout") == 0)
		globals->timeout = value;
	else if (strcmp(option->name, "--json") == 0)
		globals->json = true;
	else if (strcmp(option->name, "--version") == 0)
		globals->version = true;
	else
		globals->help = true;
	return LBCTL_OK;
}

static enum lbctl_exit unknown_option(
	const struct lbctl *ctl, const struct lbctl_command *command, const char *arg);

static enum lbctl_exit take_option(
	const struct lbctl *ctl, struct lbctl_args *args, struct walk *walk)
{
	const char *arg = walk->argv[walk->i];
	const struct lbctl_option *option;
	const char *value = NULL;

	for (size_t i = 0; i < LBCTL_MAX_OPTIONS; i++) {
		option = &args->command->options[i];
		if (option->name == NULL)
			break;
		if (!is_option(arg, option->name, &value))
			continue;
		if (args->values[i] != NULL)
			return usage(ctl, "given twice:", option->name);
		args->values[i] = take_value(ctl, walk, option, value);
		return args->values[i] != NULL ? LBCTL_OK : LBCTL_USAGE;
	}
	return unknown_option(ctl, args->command, arg);
}

/*
 * How far @p typed is from @p word: letters to put in, take out or exchange, or neighbours that changed places
 * (optimal string alignment). Words longer than MAX_GUESSED are no slip of a finger.
 */
#define MAX_GUESSED 24u
static unsigned distance(const char *typed, const char *word)
{
	size_t n_typed = strlen(typed), n_word = strlen(word);
	unsigned rows[MAX_GUESSED + 1][MAX_GUESSED + 1];

	if (n_typed > MAX_GUESSED || n_word > MAX_GUESSED)
		return UINT_MAX;
	for (unsigned k = 0; k <= n_word; k++)
		rows[0][k] = k;
	for (size_t i = 1; i <= n_typed; i++) {
		rows[i][0] = (unsigned)i;
		for (size_t k = 1; k <= n_word; k++) {
			unsigned best = rows[i - 1][k - 1] + (typed[i - 1] != word[k - 1]);
			bool swapped = i > 1 && k > 1 && typed[i - 1] == word[k - 2] && typed[i - 2] == word[k - 1];

			if (rows[i - 1][k] + 1 < best)
				best = rows[i - 1][k] + 1;
			if (rows[i][k - 1] + 1 < best)
				best = rows[i][k - 1] + 1;
			if (swapped && rows[i - 2][k - 2] + 1 < best)
				best = rows[i - 2][k - 2] + 1;
			rows[i][k] = best;
		}
	}
	return rows[n_typed][n_word];
}

/* The nearest word up to now to what was typed. */
struct guess {
	const char *typed;
	char word[MAX_GUESSED + 1];
	unsigned distance;
};

// @p n: the first so many letters of @p word are meant.
static void guess_add(struct guess *guess, const char *word, size_t n)
{
	char copy[MAX_GUESSED + 1];
	unsigned far;

	if (n > MAX_GUESSED)
		return;
	memcpy(copy, word, n);
	copy[n] = '\0';
	far = distance(guess->typed, copy);
	// Up to a third of the letters may be wrong.
	if (far >= guess->distance || far > (n + 2) / 3)
		return;
	guess->distance = far;
	strcpy(guess->word, copy);
}

// The first word of a command (@p noun NULL), or the one after @p noun, that may have been meant;
// "" none.
static struct guess guess_command(const char *typed, const char *noun)
{
	struct guess guess = {.typed = typed, .distance = UINT_MAX};
	size_t n_noun = noun != NULL ? strlen(noun) + 1 : 0;

	for (const struct lbctl_command *c = lbctl_commands; c->words != NULL; c++) {
		const char *word = c->words + n_noun;

		if (noun == NULL ||
			(strncmp(c->words, noun, n_noun - 1) == 0 && c->words[n_noun - 1] == ' '))
			guess_add(&guess, word, strcspn(word, " "));
	}
	return guess;
}

static struct guess guess_option(const struct lbctl_command *command, const char *typed)
{
	char name[MAX_GUESSED + 2];
	struct guess guess = {.typed = name, .distance = UINT_MAX};

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(typed, "="), typed);
	for (const struct lbctl_option *o = lbctl_global_options; o->name != NULL; o++)
		guess_add(&guess, o->name, strlen(o->name));
	for (size_t i = 0;
		command != NULL && i < LBCTL_MAX_OPTIONS && command->options[i].name != NULL; i++)
		guess_add(&guess, command->options[i].name, strlen(command->options[i].name));
	guess.typed = typed;
	return guess;
}

static enum lbctl_exit unknown_option(
	const struct lbctl *ctl, const struct lbctl_command *command, const char *arg)
{
	struct guess guess = guess_option(command, arg);

	if (guess.word[0] == '\0')
		return usage(ctl, "unknown option", arg);
	return lbctl_error(ctl, LBCTL_USAGE, NULL, NULL, "unknown option '%s', did you mean %s?",
		arg, guess.word);
}

// No command is named by these words: say which of them is wrong, and what it could have been.
static enum lbctl_exit unknown_command(
	const struct lbctl *ctl, const char *const *words, size_t n_words)
{
	struct guess guess = guess_command(words[0], NULL);
	char *verbs = lbctl_text_copy("");
	size_t n = strlen(words[0]);

	if (!lbctl_command_is_noun(words[0])) {
		free(verbs);
		return lbctl_error(ctl, LBCTL_USAGE, words[0], "lbctl --help lists the commands",
			guess.word[0] != '\0' ? "no such command, did you mean %s?"
					      : "no such command",
			guess.word);
	}
	for (const struct lbctl_command *c = lbctl_commands; c->words != NULL; c++) {
		char *longer;

		if (strncmp(c->words, words[0], n) != 0 || c->words[n] != ' ')
			continue;
		longer = lbctl_text_printf("%s%s%s", verbs, *verbs ? ", " : "", c->words + n + 1);
		free(verbs);
		verbs = longer;
	}
	if (n_words >= 2)
		guess = guess_command(words[1], words[0]);
	if (n_words < 2)
		lbctl_error(ctl, LBCTL_USAGE, words[0], NULL, "say what to do: %s", verbs);
	else if (guess.word[0] != '\0')
		lbctl_error(ctl, LBCTL_USAGE, words[0], NULL,
			"there is no '%s' here, did you mean %s?", words[1], guess.word);
	else
		lbctl_error(ctl, LBCTL_USAGE, words[0], NULL, "there is no '%s' here, only %s",
			words[1], verbs);
	free(verbs);
	return LBCTL_USAGE;
}

/*
 * The command: its one or two words come first but for global options, which are taken on the way.
 * @param is_word  set at the indexes of argv that are its words.
 */
static enum lbctl_exit find_command(
	struct lbctl *ctl, struct lbctl_args *args, int argc, char **argv, bool *is_word)
{
	struct lbctl_globals ignored = {0};
	struct walk walk = {.argv = argv, .argc = argc};
	const char *words[2];
	int indexes[2];
	size_t n_words = 0, n_used = 0;

	for (; walk.i < argc && n_words < 2; walk.i++) {
		bool taken = false;

		if (argv[walk.i][0] != '-') {
			indexes[n_words] = walk.i;
			words[n_words++] = argv[walk.i];
			continue;
		}
		if (take_global(ctl, &ignored, &walk, &taken) != LBCTL_OK)
			return LBCTL_USAGE;
		if (!taken)
			break;
	}
	if (n_words == 0)
		return LBCTL_OK;
	args->command = lbctl_command_find(words, n_words, &n_used);
	if (args->command == NULL && ignored.help && n_words == 1 &&
		lbctl_command_is_noun(words[0])) {
		ctl->words = words[0];
		is_word[indexes[0]] = true;
		return LBCTL_OK;
	}
	if (args->command == NULL)
		return unknown_command(ctl, words, n_words);
	ctl->words = args->command->words;
	for (size_t i = 0; i < n_used; i++)
		is_word[indexes[i]] = true;
	return LBCTL_OK;
}

static enum lbctl_exit take_arguments(const struct lbctl *ctl, struct lbctl_args *args,
	struct lbctl_globals *globals, int argc, char **argv, const bool *is_word)
{
	struct walk walk = {.argv = argv, .argc = argc};
	bool operands_only = false;

	for (; walk.i < argc; walk.i++) {
		const char *arg = argv[walk.i];
		bool taken = false;

		if (is_word[walk.i])
			continue;
		if (operands_only || arg[0] != '-' || arg[1] == '\0') {
			args->operands[args->n_operands++] = arg;
			continue;
		}
		if (strcmp(arg, "--") == 0) {
			operands_only = true;
			continue;
		}
		if (take_global(ctl, globals, &walk, &taken) != LBCTL_OK)
			return LBCTL_USAGE;
		if (!taken && args->command == NULL)
			return unknown_option(ctl, NULL, arg);
		if (!taken && take_option(ctl, args, &walk) != LBCTL_OK)
			return LBCTL_USAGE;
	}
	return LBCTL_OK;
}

static enum lbctl_exit check_operands(const struct lbctl *ctl, const struct lbctl_args *args)
{
	const struct lbctl_command *command = args->command;

	if (args->n_operands < command->n_min) {
		char *hint =
			lbctl_text_printf("usage: lbctl %s %s", command->words, command->operands);

		lbctl_error(ctl, LBCTL_USAGE, NULL, hint, "too few arguments");
		free(hint);
		return LBCTL_USAGE;
	}
	if (args->n_operands > command->n_max)
		return usage(ctl, "one argument too many:", args->operands[command->n_max]);
	return LBCTL_OK;
}

enum lbctl_exit lbctl_args_init(struct lbctl *ctl, struct lbctl_args *args,
	struct lbctl_globals *globals, int argc, char **argv)
{
	bool *is_word = lbctl_text_realloc(NULL, (size_t)(argc + 1) * sizeof(is_word[0]));
	enum lbctl_exit status;

	memset(is_word, 0, (size_t)(argc + 1) * sizeof(is_word[0]));
	*args = (struct lbctl_args){0};
	args->operands = lbctl_text_realloc(NULL, (size_t)(argc + 1) * sizeof(args->operands[0]));
	status = find_command(ctl, args, argc, argv, is_word);
	if (status == LBCTL_OK)
		status = take_arguments(ctl, args, globals, argc, argv, is_word);
	if (status == LBCTL_OK && args->command != NULL && !globals->help && !globals->version)
		status = check_operands(ctl, args);
	free(is_word);
	return status;
}

void lbctl_args_fini(struct lbctl_args *args)
{
	free(args->operands);
	args->operands = NULL;
	args->n_operands = 0;
}

const char *lbctl_args_operand(const struct lbctl_args *args, size_t i)
{
	return i < args->n_operands ? args->operands[i] : NULL;
}

const char *lbctl_args_option(const struct lbctl_args *args, const char *name)
{
	for (size_t i = 0; i < LBCTL_MAX_OPTIONS && args->command->options[i].name != NULL; i++) {
		if (strcmp(args->command->options[i].name, name) == 0)
			return args->values[i];
	}
	return NULL;
}

enum lbctl_exit lbctl_args_number(const struct lbctl *ctl, const struct lbctl_args *args,
	const char *name, uint64_t min, uint64_t max, uint64_t *value)
{
	const char *text = lbctl_args_option(args, name);

	if (text == NULL || lbctl_text_parse_number(text, min, max, value) == 0)
		return LBCTL_OK;
	return lbctl_error(ctl, LBCTL_USAGE, name, NULL,
		"'%s' is not a whole number in %" PRIu64 "..%" PRIu64, text, min, max);
}

enum lbctl_exit lbctl_args_duration(const struct lbctl *ctl, const struct lbctl_args *args,
	const char *name, uint64_t min_ms, uint64_t *ms)
{
	const char *text = lbctl_args_option(args, name);
	uint64_t parsed;
	int r;

	if (text == NULL)
		return LBCTL_OK;
	r = lbctl_text_parse_duration(text, &parsed);
	if (r == 0 && parsed >= min_ms) {
		*ms = parsed;
		return LBCTL_OK;
	}
	if (r == -EINVAL)
		return lbctl_error(ctl, LBCTL_USAGE, name, NULL,
			"'%s' is not a duration: a whole number and one of ms, s, m, h, d", text);
	return lbctl_error(ctl, LBCTL_USAGE, name, NULL,
		"'%s' is out of range: %" PRIu64 "ms..%" PRIu64 "d", text, min_ms,
		LBCTL_TEXT_DURATION_MAX_MS / 86400000);
}

enum lbctl_exit lbctl_args_path(const struct lbctl *ctl, const struct lbctl_args *args, size_t n,
	const char *format, char **path)
{
	*path = NULL;
	for (size_t i = 0; i < n; i++) {
		if (args->operands[i][0] == '\0')
			return lbctl_error(ctl, LBCTL_USAGE, NULL, NULL,
				"argument %zu is an empty name", i + 1);
	}
	*path = n == 1 ? lbctl_api_path(format, args->operands[0])
		       : lbctl_api_path(format, args->operands[0], args->operands[1]);
	return LBCTL_OK;
}

enum lbctl_exit lbctl_args_put_text(
	const struct lbctl *ctl, json_t *object, const char *key, const char *text)
{
	if (*text == '\0')
		return lbctl_error(ctl, LBCTL_USAGE, key, NULL, "is empty");
	if (json_object_set_new(object, key, json_string(text)) != 0)
		return lbctl_error(ctl, LBCTL_USAGE, key, NULL, "'%s' is not UTF-8", text);
	return LBCTL_OK;
}

// Put @p value (taken over) at "a.b" in @p object. @return whether the key is well formed and was
// free.
static bool put_setting(json_t *object, const char *key, size_t n_key, json_t *value)
{
	const char *dot = memchr(key, '.', n_key);
	size_t n_group = dot != NULL ? (size_t)(dot - key) : 0;
	json_t *group;

	if (dot != NULL) {
		group = json_object_getn(object, key, n_group);
		if (group == NULL && n_group > 0) {
			group = json_object();
			json_object_setn_new(object, key, n_group, group);
			group = json_object_getn(object, key, n_group);
		}
		object = group; // NULL without memory or where the key is not UTF-8
		key = dot + 1;
		n_key -= n_group + 1;
	}
	if (!json_is_object(object) || n_key == 0 || memchr(key, '.', n_key) != NULL ||
		json_object_getn(object, key, n_key) != NULL) {
		json_decref(value);
		return false;
	}
	return json_object_setn_new(object, key, n_key, value) == 0;
}

enum lbctl_exit lbctl_args_settings(
	const struct lbctl *ctl, const struct lbctl_args *args, size_t first, json_t *object)
{
	for (size_t i = first; i < args->n_operands; i++) {
		const char *text = args->operands[i];
		const char *equals = strchr(text, '=');
		json_t *value;

		if (equals == NULL || equals == text)
			return lbctl_error(ctl, LBCTL_USAGE, text, NULL,
				"expected KEY=VALUE, such as weight=3 or health_check.interval=1s");
		value = json_string(equals + 1);
		if (value == NULL)
			return lbctl_error(ctl, LBCTL_USAGE, text, NULL, "the value is not UTF-8");
		if (!put_setting(object, text, (size_t)(equals - text), value))
			return lbctl_error(ctl, LBCTL_USAGE, text, NULL,
				"this key is malformed or given twice");
	}
	return LBCTL_OK;
}

enum lbctl_exit lbctl_args_split_endpoint(
	const struct lbctl *ctl, const char *text, bool port_optional, char **address, char **port)
{
	const char *hint = "write ADDRESS:PORT, for IPv6 [ADDRESS]:PORT";
	const char *start = text, *end, *colon;

	if (*text == '[') {
		start = text + 1;
		end = strchr(start, ']');
		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return lbctl_error(ctl, LBCTL_USAGE, text, hint, "no ']' before the port");
		colon = end[1] == ':' ? end + 1 : NULL;
	} else {
		colon = strchr(text, ':');
		if (colon != NULL && strchr(colon + 1, ':') != NULL)
			return lbctl_error(ctl, LBCTL_USAGE, text, hint,
				"an IPv6 address stands in brackets here");
		end = colon != NULL ? colon : text + strlen(text);
	}
	if (end == start)
		return lbctl_error(ctl, LBCTL_USAGE, text, hint, "the address is missing");
	if (colon == NULL ? !port_optional : colon[1] == '\0')
		return lbctl_error(ctl, LBCTL_USAGE, text, hint, "the port is missing");
	*address = lbctl_text_printf("%.*s", (int)(end - start), start);
	*port = colon != NULL ? lbctl_text_copy(colon + 1) : NULL;
	return LBCTL_OK;
}
