/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/config.h"
#include "control/lbctl_api.h"
#include "control/lbctl_args.h"
#include "lb/shm.h"

/*
 * lbctl completion bash|zsh, and the hidden `lbctl __complete WORD... CURRENT` that both scripts
 * call: what may stand at the cursor is known here, once, from the table of commands and from the
 * daemon. The scripts only hand words over. A line "<file>" asks the shell for its own completion
 * of file names.
 */

/* Longer than this nobody waits for a completion. */
#define TIMEOUT_MS 1000u
#define FILE_MARK "<file>"

/*
 * bash splits words at the characters of COMP_WORDBREAKS, which has "=" and ":"; names of backends
 * have colons. So the line is split at blanks here, and of each candidate the part is given that
 * follows the last break character, which is what bash replaces.
 */
static const char bash_script[] =
	"# bash completion for lbctl\n"
	"_lbctl() {\n"
	"\tlocal line=${COMP_LINE:0:COMP_POINT} current candidate "
	"breaks=${COMP_WORDBREAKS//[^=:]/}\n"
	"\tlocal prefix= words\n"
	"\tread -ra words <<<\"$line\"\n"
	"\t[[ $line == *[[:blank:]] ]] && words+=(\"\")\n"
	"\tcurrent=${words[-1]}\n"
	"\t[[ -n $breaks ]] && prefix=${current%\"${current##*[$breaks]}\"}\n"
	"\tCOMPREPLY=()\n"
	"\twhile IFS= read -r candidate; do\n"
	"\t\tif [[ $candidate == '" FILE_MARK "' ]]; then\n"
	"\t\t\tcompopt -o default 2>/dev/null\n"
	"\t\telif [[ $candidate == \"$current\"* ]]; then\n"
	"\t\t\tCOMPREPLY+=(\"${candidate#\"$prefix\"}\")\n"
	"\t\t\t[[ $candidate == *= ]] && compopt -o nospace 2>/dev/null\n"
	"\t\tfi\n"
	"\tdone < <(\"${words[0]}\" __complete \"${words[@]:1}\" 2>/dev/null)\n"
	"\treturn 0\n"
	"}\n"
	"complete -F _lbctl lbctl\n";

static const char zsh_script[] = "#compdef lbctl\n"
				 "# zsh completion for lbctl\n"
				 "_lbctl() {\n"
				 "\tlocal -a candidates settings\n"
				 "\tlocal ret=1\n"
				 "\tcandidates=(\"${(@f)$(\"${words[1]}\" __complete "
				 "\"${(@Q)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
				 "\tcandidates=(${candidates:#})\n"
				 "\tif (( ${candidates[(Ie)" FILE_MARK "]} )); then\n"
				 "\t\t_files\n"
				 "\t\treturn\n"
				 "\tfi\n"
				 "\tsettings=(${(M)candidates:#*=})\n"
				 "\tcandidates=(${candidates:#*=})\n"
				 "\t(( $#settings )) && compadd -S '' -a settings && ret=0\n"
				 "\t(( $#candidates )) && compadd -a candidates && ret=0\n"
				 "\treturn ret\n"
				 "}\n"
				 "if [[ $funcstack[1] == _lbctl ]]; then\n"
				 "\t_lbctl \"$@\"\n"
				 "else\n"
				 "\tcompdef _lbctl lbctl\n"
				 "fi\n";

/* Keys of the configuration file that "set" and "add" take. Only offered, never checked: the daemon
 * does that. */
static const char *const service_keys[] = {
	"vip=", // these three "add" has from its operands
	"port=",
	"protocol=",
	"mode=",
	"scheduler=",
	"max_load=",
	"table_size=",
	"tracking=",
	"client_address=",
	"mss=",
	"idle_timeout=",
	"on_empty=",
	"min_healthy=",
	"panic_threshold=",
	"slow_start=",
	"gue_port=",
	"health_check.type=",
	"health_check.port=",
	"health_check.path=",
	"health_check.host=",
	"health_check.expect_status=",
	"health_check.expect_body=",
	"health_check.weight_header=",
	"health_check.sni=",
	"health_check.verify=",
	"health_check.ca_file=",
	"health_check.send=",
	"health_check.expect=",
	"health_check.query=",
	"health_check.record=",
	"health_check.command=",
	"health_check.interval=",
	"health_check.timeout=",
	"health_check.rise=",
	"health_check.fall=",
	"agent.port=",
	"agent.interval=",
	"agent.timeout=",
	"agent.send=",
	"passive.enabled=",
	"passive.min_flows=",
	"passive.refused_percent=",
	NULL,
};
#define N_ADDRESS_KEYS 3

/* A backend has these, and the "health_check." ones of a service. */
static const char *const backend_keys[] = {
	"address=",
	"port=",
	"weight=",
	"tier=",
	"backup=",
	"state=",
	NULL,
};
/* Keys whose values are words: by the functions that the configuration is read with. */
static const char *protocol_name(unsigned i)
{
	return i == 0 ? "tcp" : "udp";
}

static const char *bool_name(unsigned i)
{
	return i == 0 ? "true" : "false";
}

static const char *mss_name(unsigned i)
{
	return i == 0 ? "auto" : "none";
}

static const struct {
	const char *key;
	const char *(*name)(unsigned value);
	unsigned n;
} word_keys[] = {
	{"protocol=", protocol_name, 2},
	{"mode=", lb_mode_name, LB_MODE_N},
	{"scheduler=", lb_scheduler_name, LB_SCHED_N},
	{"tracking=", lb_tracking_name, LB_TRACKING_N},
	{"client_address=", lb_client_address_name, LB_CLIENT_ADDRESS_N},
	{"mss=", mss_name, 2},
	{"on_empty=", lb_on_empty_name, LB_ON_EMPTY_N},
	{"state=", lb_admin_state_name, LB_ADMIN_DISABLED + 1},
	{"backup=", bool_name, 2},
	{"health_check.type=", lb_check_type_name, LB_CHECK_TYPE_N},
	{"health_check.verify=", bool_name, 2},
	{"health_check.weight_header=", bool_name, 2},
	{"health_check.record=", lb_check_record_name, LB_CHECK_N_RECORDS},
	{"passive.enabled=", bool_name, 2},
};

static const char *const shells[] = {"bash", "zsh", NULL};
static const char *const on_off[] = {"on", "off", NULL};

enum lbctl_exit lbctl_completion_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	const char *shell = args->operands[0];

	if (strcmp(shell, "bash") == 0)
		fputs(bash_script, stdout);
	else if (strcmp(shell, "zsh") == 0)
		fputs(zsh_script, stdout);
	else
		return lbctl_error(
			ctl, LBCTL_USAGE, NULL, NULL, "no completion for '%s': bash or zsh", shell);
	return LBCTL_OK;
}

static void offer(const char *candidate, const char *current)
{
	if (strncmp(candidate, current, strlen(current)) == 0)
		puts(candidate);
}

static void offer_all(const char *const *candidates, const char *current)
{
	for (; *candidates != NULL; candidates++)
		offer(*candidates, current);
}

// Keys of @p keys that begin with @p prefix; where a key is typed up to its "=", its values.
static void offer_settings(const char *const *keys, const char *prefix, const char *current)
{
	for (; *keys != NULL; keys++) {
		size_t n = strlen(*keys), k = 0;

		if (strncmp(*keys, prefix, strlen(prefix)) != 0)
			continue;
		if (strncmp(*keys, current, n) != 0) {
			offer(*keys, current);
			continue;
		}
		while (k < sizeof(word_keys) / sizeof(word_keys[0]) &&
			strcmp(word_keys[k].key, *keys) != 0)
			k++;
		for (unsigned i = 0;
			k < sizeof(word_keys) / sizeof(word_keys[0]) && i < word_keys[k].n; i++) {
			char *setting = lbctl_text_printf("%s%s", *keys, word_keys[k].name(i));

			offer(setting, current);
			free(setting);
		}
	}
}

// The instances whose daemons have a socket; @p option stands before each.
static void offer_instances(const char *option, const char *current)
{
	DIR *dir = opendir(lbctl_run_dir());
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		char *path =
			lbctl_text_printf("%s/%s/control.sock", lbctl_run_dir(), entry->d_name);
		char *word = lbctl_text_printf("%s%s", option, entry->d_name);

		if (lb_instance_valid(entry->d_name) && access(path, F_OK) == 0)
			offer(word, current);
		free(word);
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
}

// Names out of an array of the answer to @p path. What a shell could take for more than a name is
// left out.
static void offer_names(
	const struct lbctl *ctl, const char *path, const char *array, const char *current)
{
	static const char harmless[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:[]-";
	const json_t *object;
	json_t *answer;
	size_t i;

	if (lbctl_api_get(ctl, path, &answer) != LBCTL_OK)
		return;
	json_array_foreach (json_object_get(answer, array), i, object) {
		const char *name = lbctl_json_text(object, "name");

		if (*name != '\0' && *name != '-' && name[strspn(name, harmless)] == '\0')
			offer(name, current);
	}
	json_decref(answer);
}

// The @p i-th word of @p kinds, or its last one; @p n_bytes its length.
static const char *operand_kind(const char *kinds, size_t i, size_t *n_bytes)
{
	for (;; i--) {
		*n_bytes = strcspn(kinds, " ");
		if (i == 0 || kinds[*n_bytes] == '\0')
			return kinds;
		kinds += *n_bytes + 1;
	}
}

static void offer_operand(const struct lbctl *ctl, const struct lbctl_command *command,
	const char *const *operands, size_t n_operands, const char *current)
{
	size_t n_bytes;
	const char *kind_text = operand_kind(command->complete, n_operands, &n_bytes);
	char *kind = lbctl_text_printf("%.*s", (int)n_bytes, kind_text), *path;

	if (n_operands >= command->n_max) {
		free(kind);
		return;
	}
	if (strcmp(kind, "service") == 0) {
		offer_names(ctl, "/v1/services", "services", current);
	} else if (strcmp(kind, "backend") == 0 && n_operands > 0) {
		path = lbctl_api_path("/v1/backends?service=%s", operands[0]);
		offer_names(ctl, path, "backends", current);
		free(path);
	} else if (strcmp(kind, "new-service-key") == 0) {
		offer_settings(service_keys + N_ADDRESS_KEYS, "", current);
	} else if (strcmp(kind, "service-key") == 0) {
		offer_settings(service_keys, "", current);
	} else if (strcmp(kind, "backend-key") == 0) {
		offer_settings(backend_keys, "", current);
		offer_settings(service_keys, "health_check.", current);
	} else if (strcmp(kind, "shell") == 0) {
		offer_all(shells, current);
	} else if (strcmp(kind, "on-off") == 0) {
		offer_all(on_off, current);
	} else if (strcmp(kind, "file") == 0) {
		puts(FILE_MARK);
	}
	free(kind);
}

static void offer_options(const struct lbctl_option *option, size_t n_max, const char *current)
{
	for (; n_max > 0 && option->name != NULL; option++, n_max--)
		offer(option->name, current);
}

// Words that may begin a command, or follow @p noun in one.
static void offer_commands(const char *noun, const char *current)
{
	size_t n = noun != NULL ? strlen(noun) + 1 : 0;
	char offered[64] = "";

	for (const struct lbctl_command *c = lbctl_commands; c->words != NULL; c++) {
		char *word;

		if (noun != NULL && (strncmp(c->words, noun, n - 1) != 0 || c->words[n - 1] != ' '))
			continue;
		word = lbctl_text_printf("%.*s", (int)strcspn(c->words + n, " "), c->words + n);
		// The commands of one noun stand together: it is offered once.
		if (strcmp(word, offered) != 0)
			offer(word, current);
		snprintf(offered, sizeof(offered), "%s", word);
		free(word);
	}
}

// Whether @p word is an option that takes the next word as its value.
static bool takes_value(const struct lbctl_command *command, const char *word)
{
	const struct lbctl_option *option;

	for (option = lbctl_global_options; option->name != NULL; option++) {
		if (strcmp(word, option->name) == 0)
			return option->value != NULL;
	}
	for (size_t i = 0;
		command != NULL && i < LBCTL_MAX_OPTIONS && command->options[i].name != NULL; i++) {
		if (strcmp(word, command->options[i].name) == 0)
			return command->options[i].value != NULL;
	}
	return false;
}

/* What was typed before the cursor, taken apart without a word about errors. */
struct typed {
	const struct lbctl_command *command;
	const char **operands; /* with the command's words before it is known */
	size_t n_operands;
	const char *instance;
	bool value_next; /* the cursor is at an option's value */
};

static void read_typed(struct typed *typed, char **words, size_t n_words)
{
	for (size_t i = 0; i < n_words; i++) {
		size_t n_used;

		typed->value_next = false;
		if (strncmp(words[i], "--instance=", 11) == 0)
			typed->instance = words[i] + 11;
		if (words[i][0] == '-' && words[i][1] != '\0') {
			if (!takes_value(typed->command, words[i]))
				continue;
			typed->value_next = i + 1 == n_words;
			if (!typed->value_next && strcmp(words[i], "--instance") == 0)
				typed->instance = words[i + 1];
			i++;
			continue;
		}
		typed->operands[typed->n_operands++] = words[i];
		if (typed->command != NULL && strchr(typed->command->words, ' ') != NULL)
			continue;
		// "flows" may become "flows flush" with its next word.
		if (typed->command != NULL && typed->n_operands > 1)
			continue;
		if (typed->command != NULL) {
			const char *both[2] = {typed->command->words, words[i]};
			const struct lbctl_command *longer = lbctl_command_find(both, 2, &n_used);

			if (n_used == 2) {
				typed->command = longer;
				typed->n_operands = 0;
			}
			continue;
		}
		typed->command = lbctl_command_find(typed->operands, typed->n_operands, &n_used);
		if (typed->command != NULL)
			typed->n_operands = 0;
	}
}

enum lbctl_exit lbctl_completion_words(struct lbctl *ctl, char **words, size_t n_words)
{
	struct typed typed = {0};
	const char *current = n_words > 0 ? words[n_words - 1] : "";

	lbctl_api_set_quiet(true);
	typed.operands = lbctl_text_realloc(NULL, (n_words + 1) * sizeof(typed.operands[0]));
	if (n_words > 0)
		read_typed(&typed, words, n_words - 1);
	ctl->timeout_ms = TIMEOUT_MS;
	if (typed.instance != NULL && lb_instance_valid(typed.instance))
		ctl->instance = typed.instance;
	ctl->socket_path = lbctl_text_printf("%s/%s/control.sock", lbctl_run_dir(), ctl->instance);
	if (typed.value_next && strcmp(words[n_words - 2], "--instance") == 0) {
		offer_instances("", current);
	} else if (typed.value_next) {
		;
	} else if (strncmp(current, "--instance=", strlen("--instance=")) == 0) {
		offer_instances("--instance=", current);
	} else if (current[0] == '-') {
		offer_options(lbctl_global_options, SIZE_MAX, current);
		if (typed.command != NULL)
			offer_options(typed.command->options, LBCTL_MAX_OPTIONS, current);
	} else if (typed.command == NULL) {
		if (typed.n_operands <= 1)
			offer_commands(typed.n_operands == 1 ? typed.operands[0] : NULL, current);
	} else {
		if (typed.n_operands == 0 && lbctl_command_is_noun(typed.command->words))
			offer_commands(typed.command->words, current);
		offer_operand(ctl, typed.command, typed.operands, typed.n_operands, current);
	}
	free(typed.operands);
	return LBCTL_OK;
}
