/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_LBCTL_H
#define LB_CONTROL_LBCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * lbctl, the command line: a client of the daemon's API (docs/api.md), nothing more. lbctl.c finds
 * the command in the table of lbctl_commands.c, lbctl_args.c takes its arguments apart, one
 * lbctl_NOUN.c runs it, with lbctl_api.c for requests and errors and lbctl_table.c for what is
 * shown.
 */

/** Exit statuses: a contract with scripts (docs/lbctl.1). */
enum lbctl_exit {
	LBCTL_OK = 0,
	LBCTL_FAILED = 1, /* refused or failed; the reason is on standard error */
	LBCTL_USAGE = 2,
	LBCTL_UNREACHABLE = 3,  /* the daemon cannot be reached */
	LBCTL_NO_DATAPLANE = 4, /* the daemon is up but the data plane is not */
};

/** What holds for the whole run. */
struct lbctl {
	const char *instance;
	char *socket_path;   /* of the API */
	const char *words;   /* the command's, "service show"; NULL before it is known */
	bool json;           /* --json: show JSON documents */
	bool colour;         /* standard output is a terminal that wants colour */
	bool terminal;       /* standard output is a terminal */
	bool screen;         /* ... that places and clears text: not TERM=dumb */
	unsigned timeout_ms; /* longest wait for an answer of the daemon */
};

struct lbctl_option {
	const char *name;  /* "--weight" */
	const char *value; /* what it takes, "N"; NULL: a flag */
	const char *help;
};

#define LBCTL_MAX_OPTIONS 6

struct lbctl_args;

struct lbctl_command {
	const char *words;     /* "stats", "service show" */
	const char *operands;  /* for the usage line: "SERVICE [BACKEND]"; "" none */
	unsigned n_min, n_max; /* how many operands; n_max UINT_MAX: any number */
	const char *complete;  /* kinds of the operands (lbctl_completion.c), last one repeated */
	const char *summary;   /* one line */
	struct lbctl_option options[LBCTL_MAX_OPTIONS]; /* ends at a NULL name */
	const char *help;                               /* more lines for --help; NULL none */
	enum lbctl_exit (*run)(struct lbctl *ctl, const struct lbctl_args *args);
};

/** All commands, in the order of the help; the last has NULL words. */
extern const struct lbctl_command lbctl_commands[];

/** Options that each command takes; the last has a NULL name. */
extern const struct lbctl_option lbctl_global_options[];

/**
 * The command of @p words (n_words of them: what was typed up to now). Two words are tried first.
 * @param n_used  how many words name the command; 0 when there is none.
 * @return the command, or NULL.
 */
const struct lbctl_command *lbctl_command_find(
	const char *const *words, size_t n_words, size_t *n_used);

/** Where the instances' directories are: $FULCRUM_RUN_DIR, or /run/fulcrum. */
const char *lbctl_run_dir(void);

/** Whether some command's first word is @p noun and a second one follows. */
bool lbctl_command_is_noun(const char *noun);

/**
 * Say on standard error what failed: "lbctl: WHERE: MESSAGE", then "  hint: HINT" if there is one.
 * Everything is escaped. @param where NULL: the command. @return @p status, to be returned on.
 */
enum lbctl_exit lbctl_error(const struct lbctl *ctl, enum lbctl_exit status, const char *where,
	const char *hint, const char *format, ...) __attribute__((format(printf, 5, 6)));

/** Say something beside the result on standard error: "lbctl: WHERE: MESSAGE". */
void lbctl_note(const struct lbctl *ctl, const char *where, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/** One per command; each returns an exit status and has printed what there is to say. */
enum lbctl_exit lbctl_status_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_service_list_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_service_show_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_service_add_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_service_set_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_service_del_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_backend_list_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_backend_add_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_backend_set_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_backend_del_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_backend_drain_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_backend_enable_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_backend_disable_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_apply_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_diff_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_validate_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_config_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_stats_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_drops_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_events_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_flows_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_flows_flush_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_trace_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_simulate_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_maintenance_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_top_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_import_nginx_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_completion_run(struct lbctl *ctl, const struct lbctl_args *args);
enum lbctl_exit lbctl_version_run(struct lbctl *ctl, const struct lbctl_args *args);

/**
 * The hidden command behind the completion scripts: print what may stand for the last of @p words
 * (n_words of them, the program's name not among them; the last is the one at the cursor, perhaps
 * empty), one a line.
 */
enum lbctl_exit lbctl_completion_words(struct lbctl *ctl, char **words, size_t n_words);

#endif
