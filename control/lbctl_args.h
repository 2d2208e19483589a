/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_LBCTL_ARGS_H
#define LB_CONTROL_LBCTL_ARGS_H

#include <jansson.h>

#include "control/lbctl.h"

/*
 * A command's arguments: operands in order, options by name. Options may stand anywhere, as
 * "--name VALUE" or "--name=VALUE"; what follows "--" is an operand. Pointers into argv, nothing
 * is copied.
 */
struct lbctl_args {
	const char **operands;
	size_t n_operands;
	const struct lbctl_command *command;
	const char *values[LBCTL_MAX_OPTIONS]; /* of the command's options; NULL: not given */
};

/** What the global options said. */
struct lbctl_globals {
	const char *instance, *timeout; /* NULL: not given */
	bool json, help, version;
};

/**
 * Take @p argv apart (argc of them, the program's name not among them), for the command that its
 * first words name.
 * @param args  the result, with .command NULL if no command was named (--help and --version alone,
 * or "service --help", when ctl->words is the noun). Fini it.
 * @return LBCTL_OK, or LBCTL_USAGE after an error message that names the bad argument.
 */
enum lbctl_exit lbctl_args_init(struct lbctl *ctl, struct lbctl_args *args,
	struct lbctl_globals *globals, int argc, char **argv);
void lbctl_args_fini(struct lbctl_args *args);

/** The operand at @p i, NULL if there are not as many. */
const char *lbctl_args_operand(const struct lbctl_args *args, size_t i);

/**
 * The value of option @p name: NULL not given, "" for a flag. The command must have this option.
 */
const char *lbctl_args_option(const struct lbctl_args *args, const char *name);

/**
 * The value of a numeric option: @p value is left alone if it is not given.
 * @return LBCTL_OK; LBCTL_USAGE after a message.
 */
enum lbctl_exit lbctl_args_number(const struct lbctl *ctl, const struct lbctl_args *args,
	const char *name, uint64_t min, uint64_t max, uint64_t *value);

/** The same for a duration, in ms, @p min_ms..LBCTL_TEXT_DURATION_MAX_MS. */
enum lbctl_exit lbctl_args_duration(const struct lbctl *ctl, const struct lbctl_args *args,
	const char *name, uint64_t min_ms, uint64_t *ms);

/**
 * A path of the API with the first @p n operands (1 or 2) in the place of "%s", percent-encoded.
 * @param path  in new memory, to be freed; NULL unless LBCTL_OK.
 * @return LBCTL_OK; LBCTL_USAGE after a message: a name is empty (its path would be another
 * object's).
 */
enum lbctl_exit lbctl_args_path(const struct lbctl *ctl, const struct lbctl_args *args, size_t n,
	const char *format, char **path);

/**
 * Set a string in a body. @return LBCTL_OK; LBCTL_USAGE after a message: @p text is empty or not
 * UTF-8.
 */
enum lbctl_exit lbctl_args_put_text(
	const struct lbctl *ctl, json_t *object, const char *key, const char *text);

/**
 * Put "KEY=VALUE" of the operands from @p first on into @p object, as strings (the daemon knows the
 * types); "health_check.interval=1s" becomes {"health_check": {"interval": "1s"}}.
 * @return LBCTL_OK; LBCTL_USAGE after a message: no "=", empty key, key given twice.
 */
enum lbctl_exit lbctl_args_settings(
	const struct lbctl *ctl, const struct lbctl_args *args, size_t first, json_t *object);

/**
 * Split "ADDRESS:PORT" or "[ADDRESS6]:PORT": at the last colon, brackets taken off. Without a port
 * (allowed only with @p port_optional) *@p port is NULL.
 * @param address, port  new strings, to be freed by the caller, when LBCTL_OK.
 * @return LBCTL_OK; LBCTL_USAGE after a message that says how it is written.
 */
enum lbctl_exit lbctl_args_split_endpoint(
	const struct lbctl *ctl, const char *text, bool port_optional, char **address, char **port);

#endif
