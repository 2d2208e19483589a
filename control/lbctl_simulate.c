/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lbctl simulate: what a config's tables would be, by the code that builds them, without a daemon. Each
 * scheduler is tried on each service: how evenly it spreads, and what moves when backends come or go.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/config.h"
#include "control/lbctl_api.h"
#include "control/lbctl_args.h"
#include "control/table.h"
#include "lb/pick.h"

#define N_PLACED 20000u /* flows placed, none of which ends, where the table alone does not say the shares */

/* "[SERVICE/]NAME[=WEIGHT]" of --remove or --add. */
struct change {
	char *service; /* NULL: any that has it, or all */
	char *name;
	uint32_t weight;
	bool used;
};

struct changes {
	struct change *removals, *additions;
	size_t n_removals, n_additions;
	char *default_removal; /* with neither: the heaviest backend; of the service at hand */
};

/* One service with its backends, and the added ones behind them. */
struct subject {
	const struct lb_config_service *config;
	struct lb_table_member *members;
	size_t n, n_configured;
	bool *removed, *added; /* by member */
};

/* A table as published, and who has how much of it. */
struct trial {
	struct lb_table *table;
	uint16_t *words;
	double *shares; /* by member */
};

struct moved {
	double own, others; /* of all slots */
};

/* ---- arguments ---- */

static void changes_free(struct change *changes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(changes[i].service);
		free(changes[i].name);
	}
	free(changes);
}

static enum lbctl_exit parse_change(
	const struct lbctl *ctl, const char *option, const char *text, bool with_weight, struct change *change)
{
	const char *slash = strchr(text, '/');
	const char *name = slash != NULL ? slash + 1 : text;
	const char *equals = with_weight ? strchr(name, '=') : NULL;
	uint64_t weight = 1;

	*change = (struct change){0};
	if (equals != NULL &&
		lbctl_text_parse_number(equals + 1, 0, LB_CONFIG_MAX_WEIGHT, &weight) != 0)
		return lbctl_error(ctl, LBCTL_USAGE, option, NULL,
			"'%s': expected a weight 0..%u after =", text, LB_CONFIG_MAX_WEIGHT);
	change->weight = (uint32_t)weight;
	change->service = slash != NULL ? strndup(text, (size_t)(slash - text)) : NULL;
	change->name = equals != NULL ? strndup(name, (size_t)(equals - name)) : strdup(name);
	if (change->name == NULL || (slash != NULL && change->service == NULL))
		return lbctl_error(ctl, LBCTL_FAILED, option, NULL, "out of memory");
	if (change->name[0] == '\0' || strlen(change->name) > LB_CONFIG_NAME_MAX)
		return lbctl_error(ctl, LBCTL_USAGE, option, NULL,
			"'%s': expected [SERVICE/]BACKEND%s", text, with_weight ? "[=WEIGHT]" : "");
	return LBCTL_OK;
}

/* The comma-separated list of an option. */
static enum lbctl_exit parse_changes(const struct lbctl *ctl, const struct lbctl_args *args,
	const char *option, bool with_weight, struct change **changes, size_t *n)
{
	const char *value = lbctl_args_option(args, option);
	char *copy, *rest, *text;
	enum lbctl_exit status = LBCTL_OK;

	*changes = NULL;
	*n = 0;
	if (value == NULL)
		return LBCTL_OK;
	copy = rest = lbctl_text_copy(value);
	while (status == LBCTL_OK && (text = strsep(&rest, ",")) != NULL) {
		*changes = lbctl_text_realloc(*changes, (*n + 1) * sizeof(**changes));
		status = parse_change(ctl, option, text, with_weight, &(*changes)[(*n)++]);
	}
	free(copy);
	return status;
}

static bool is_for(const struct change *change, const struct subject *subject)
{
	return change->service == NULL || strcmp(change->service, subject->config->name) == 0;
}

/* ---- subject ---- */

static void subject_fini(struct subject *subject)
{
	free(subject->members);
	free(subject->removed);
	free(subject->added);
}

static enum lb_backend_state state_of(const struct lb_config_backend *backend)
{
	if (backend->admin == LB_ADMIN_ENABLED)
		return LB_BACKEND_UP;
	return backend->admin == LB_ADMIN_DRAIN ? LB_BACKEND_DRAIN : LB_BACKEND_DOWN;
}

static ssize_t find_member(const struct subject *subject, const char *name)
{
	for (size_t i = 0; i < subject->n; i++)
		if (strcmp(subject->members[i].name, name) == 0)
			return (ssize_t)i;
	return -1;
}

static enum lbctl_exit subject_init(const struct lbctl *ctl, struct subject *subject,
	const struct lb_config_service *config, struct changes *changes)
{
	size_t room = config->n_backends + changes->n_additions + 1;

	*subject = (struct subject){.config = config,
		.members = lbctl_text_realloc(NULL, room * sizeof(*subject->members)),
		.removed = lbctl_text_realloc(NULL, room),
		.added = lbctl_text_realloc(NULL, room)};
	memset(subject->removed, 0, room);
	memset(subject->added, 0, room);
	for (size_t i = 0; i < config->n_backends; i++)
		subject->members[subject->n++] = (struct lb_table_member){
			.name = config->backends[i].name,
			.weight = config->backends[i].weight,
			.tier = config->backends[i].tier,
			.id = (uint16_t)i,
			.state = state_of(&config->backends[i]),
		};
	subject->n_configured = subject->n;
	for (size_t i = 0; i < changes->n_removals; i++) {
		ssize_t at = find_member(subject, changes->removals[i].name);

		if (!is_for(&changes->removals[i], subject) || at < 0)
			continue;
		changes->removals[i].used = true;
		subject->removed[at] = true;
	}
	for (size_t i = 0; i < changes->n_additions; i++) {
		struct change *addition = &changes->additions[i];

		if (!is_for(addition, subject))
			continue;
		if (find_member(subject, addition->name) >= 0)
			return lbctl_error(ctl, LBCTL_FAILED, "--add", NULL,
				"service %s has a backend %s already", config->name, addition->name);
		addition->used = true;
		subject->added[subject->n] = true;
		subject->members[subject->n] = (struct lb_table_member){.name = addition->name,
			.weight = addition->weight,
			.id = (uint16_t)subject->n,
			.state = LB_BACKEND_UP};
		subject->n++;
	}
	return LBCTL_OK;
}

/* With neither --remove nor --add: the heaviest of the first that serve. */
static void remove_heaviest(struct subject *subject)
{
	ssize_t heaviest = -1;

	for (size_t i = 0; i < subject->n; i++) {
		const struct lb_table_member *member = &subject->members[i];

		if (member->state != LB_BACKEND_UP)
			continue;
		if (heaviest < 0 || member->tier < subject->members[heaviest].tier ||
			(member->tier == subject->members[heaviest].tier &&
				member->weight > subject->members[heaviest].weight))
			heaviest = (ssize_t)i;
	}
	if (heaviest >= 0)
		subject->removed[heaviest] = true;
}

/* ---- trials ---- */

static void trial_fini(struct trial *trial)
{
	lb_table_unref(trial->table);
	free(trial->words);
	free(trial->shares);
	*trial = (struct trial){0};
}

/* Give @p n_flows to whom the pick table says: shares of the flows. */
static enum lbctl_exit place_flows(
	const struct lbctl *ctl, const struct subject *subject, struct trial *trial)
{
	struct lb_msg_table msg;
	struct lb_pick_spec spec;
	struct lb_pick *pick = NULL;
	struct lb_slot_table *slots;
	int64_t *active = lbctl_text_realloc(NULL, (subject->n + 1) * sizeof(*active));
	uint8_t *states = lbctl_text_realloc(NULL, LB_MAX_BACKENDS + 1);
	uint32_t n_flows = N_PLACED;
	uint64_t random = 1;
	void *mem;

	lb_table_describe(trial->table, &msg);
	spec = (struct lb_pick_spec){msg.scheduler, msg.max_load_percent, msg.n_members, msg.n_sequence};
	mem = aligned_alloc(64, lb_pick_bytes(&spec, 1));
	slots = aligned_alloc(64, (lb_slots_bytes(msg.n_slots) + 63) & ~UINT64_C(63));
	if (mem != NULL && slots != NULL) {
		memset(mem, 0, lb_pick_bytes(&spec, 1));
		pick = lb_pick_init(mem, &spec, trial->words + msg.n_slots, 1, NULL);
		lb_slots_adopt(slots, NULL, trial->words, msg.n_slots, 1, 60, 60);
	}
	if (subject->n * 100 > n_flows)
		n_flows = (uint32_t)subject->n * 100;
	if (msg.n_sequence != 0)
		n_flows = (n_flows + msg.n_sequence - 1) / msg.n_sequence * msg.n_sequence;
	memset(active, 0, (subject->n + 1) * sizeof(*active));
	memset(states, LB_BACKEND_UP, LB_MAX_BACKENDS + 1);
	for (uint32_t i = 0; pick != NULL && i < n_flows; i++) {
		struct lb_pick_view view = {.table = slots, .backend_state = states, .active = active,
			.active_stride = sizeof(*active)};
		uint16_t id;

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		view.slot = lb_hash_slot(random, msg.n_slots);
		id = lb_pick_choose(pick, 0, &view, true);
		id = id != LB_BACKEND_NONE ? id : trial->words[view.slot];
		active[id]++;
	}
	for (size_t i = 0; i < subject->n; i++)
		trial->shares[i] = (double)active[i] / n_flows;
	free(active);
	free(states);
	free(slots);
	free(mem);
	return pick != NULL ? LBCTL_OK : lbctl_error(ctl, LBCTL_FAILED, NULL, NULL, "out of memory");
}

/* @p present: which members the config has; @p failed: which of these are down (NULL: none). */
static enum lbctl_exit trial_run(const struct lbctl *ctl, const struct subject *subject,
	enum lb_scheduler scheduler, const bool *absent, const bool *failed, const struct lb_table *like,
	struct trial *trial)
{
	const struct lb_config_service *config = subject->config;
	struct lb_table_spec spec = {.scheduler = scheduler, .n_slots = config->table_size,
		.max_load_percent = lb_pick_is_hash(scheduler) ? config->max_load_percent : 0};
	struct lb_table_member *members =
		lbctl_text_realloc(NULL, (subject->n + 1) * sizeof(*members));
	bool *eligible = lbctl_text_realloc(NULL, subject->n + 1);
	struct lb_msg_table msg;
	size_t n = 0;
	int rc = -ENOMEM;

	*trial = (struct trial){0};
	for (size_t i = 0; i < subject->n; i++) {
		if (absent[i])
			continue;
		members[n] = subject->members[i];
		if (failed != NULL && failed[i])
			members[n].state = LB_BACKEND_DOWN;
		n++;
	}
	lb_table_eligible(members, n, config->min_healthy, eligible);
	trial->table = lb_table_create(&spec, members, n, eligible, like);
	free(members);
	free(eligible);
	if (trial->table != NULL) {
		trial->words = lbctl_text_realloc(
			NULL, lb_table_n_words(trial->table) * sizeof(*trial->words));
		trial->shares = lbctl_text_realloc(NULL, (subject->n + 1) * sizeof(*trial->shares));
		memset(trial->shares, 0, (subject->n + 1) * sizeof(*trial->shares));
		rc = lb_table_fill(trial->table, trial->words);
	}
	if (rc < 0)
		return lbctl_error(ctl, LBCTL_FAILED, config->name, NULL, "cannot build a table: %s",
			strerror(-rc));
	lb_table_describe(trial->table, &msg);
	if (msg.n_members != 0)
		return place_flows(ctl, subject, trial);
	for (uint32_t i = 0; i < msg.n_slots; i++)
		if (trial->words[i] != LB_MAGLEV_EMPTY)
			trial->shares[trial->words[i]] += 1.0 / msg.n_slots;
	return LBCTL_OK;
}

/* Slots that differ: those of backends that @p is_changed marks, and the rest. */
static struct moved compare(const struct subject *subject, const struct trial *before,
	const struct trial *after, const bool *is_changed)
{
	uint32_t n_slots = lb_table_n_slots(before->table), n_own = 0, n_others = 0;

	for (uint32_t i = 0; i < n_slots; i++) {
		uint16_t from = before->words[i], to = after->words[i];

		if (from == to)
			continue;
		if ((from < subject->n && is_changed[from]) || (to < subject->n && is_changed[to]))
			n_own++;
		else
			n_others++;
	}
	return (struct moved){(double)n_own / n_slots, (double)n_others / n_slots};
}

/* ---- results ---- */

/* What a share should be: by weight among those that have one, or alike. */
static void wanted_shares(
	const struct subject *subject, enum lb_scheduler scheduler, const struct trial *trial, double *wanted)
{
	bool alike = scheduler == LB_SCHED_RR || scheduler == LB_SCHED_LC;
	double sum = 0;

	for (size_t i = 0; i < subject->n; i++) {
		wanted[i] = trial->shares[i] > 0 ? (alike ? 1 : subject->members[i].weight) : 0;
		sum += wanted[i];
	}
	for (size_t i = 0; i < subject->n; i++)
		wanted[i] = sum > 0 ? wanted[i] / sum : 0;
}

/* What the change @p change, which marks members @p is_changed, makes of @p before: moves, and the shares afterwards. */
static json_t *change_json(const char *change, const struct subject *subject, const struct trial *before,
	const struct trial *after, const bool *is_changed)
{
	struct moved moved = compare(subject, before, after, is_changed);
	json_t *list = json_array();

	for (size_t i = 0; i < subject->n; i++)
		if (!subject->added[i] || strcmp(change, "add") == 0)
			json_array_append_new(list,
				json_pack("{s:s, s:I, s:I, s:f}", "name", subject->members[i].name, "weight",
					(json_int_t)subject->members[i].weight, "tier",
					(json_int_t)subject->members[i].tier, "share_percent",
					after->shares[i] * 100));
	return json_pack("{s:s, s:f, s:f, s:o}", "change", change, "own_percent", moved.own * 100,
		"others_percent", moved.others * 100, "backends", list);
}

static json_t *backends_json(const struct subject *subject, const struct trial *trial, const double *wanted)
{
	json_t *list = json_array();

	for (size_t i = 0; i < subject->n_configured; i++)
		json_array_append_new(list,
			json_pack("{s:s, s:I, s:I, s:f, s:f}", "name", subject->members[i].name,
				"weight", (json_int_t)subject->members[i].weight, "tier",
				(json_int_t)subject->members[i].tier, "share_percent",
				trial->shares[i] * 100, "wanted_percent", wanted[i] * 100));
	return list;
}

/* What @p scheduler makes of the service, and of its changes; NULL after a message. */
static json_t *scheduler_json(const struct lbctl *ctl, const struct subject *subject,
	enum lb_scheduler scheduler, struct trial *base, const struct lb_table *like)
{
	struct trial other = {0};
	bool *absent = lbctl_text_realloc(NULL, subject->n + 1);
	double *wanted = lbctl_text_realloc(NULL, (subject->n + 1) * sizeof(*wanted));
	bool any_removed = memchr(subject->removed, true, subject->n) != NULL;
	bool any_added = memchr(subject->added, true, subject->n) != NULL;
	json_t *changes = json_array(), *json = NULL;
	double over = 0, under = 0;
	enum lbctl_exit status;

	status = trial_run(ctl, subject, scheduler, subject->added, NULL, like, base);
	if (status == LBCTL_OK && any_removed) {
		status = trial_run(ctl, subject, scheduler, subject->added, subject->removed, base->table, &other);
		if (status == LBCTL_OK)
			json_array_append_new(changes, change_json("fail", subject, base, &other, subject->removed));
		trial_fini(&other);
		for (size_t i = 0; i < subject->n; i++)
			absent[i] = subject->added[i] || subject->removed[i];
		if (status == LBCTL_OK)
			status = trial_run(ctl, subject, scheduler, absent, NULL, NULL, &other);
		if (status == LBCTL_OK)
			json_array_append_new(changes, change_json("remove", subject, base, &other, subject->removed));
		trial_fini(&other);
	}
	if (status == LBCTL_OK && any_added) {
		memset(absent, 0, subject->n);
		status = trial_run(ctl, subject, scheduler, absent, NULL, NULL, &other);
		if (status == LBCTL_OK)
			json_array_append_new(changes, change_json("add", subject, base, &other, subject->added));
		trial_fini(&other);
	}
	if (status == LBCTL_OK) {
		wanted_shares(subject, scheduler, base, wanted);
		for (size_t i = 0; i < subject->n; i++) {
			double ratio = wanted[i] > 0 ? base->shares[i] / wanted[i] - 1 : 0;

			over = ratio > over ? ratio : over;
			under = ratio < under ? ratio : under;
		}
		json = json_pack("{s:s, s:b, s:f, s:f, s:o, s:O}", "scheduler",
			lb_scheduler_name(scheduler), "configured",
			scheduler == subject->config->scheduler, "most_over_percent", over * 100,
			"most_under_percent", 0 - under * 100 /* never -0 */, "backends",
			backends_json(subject, base, wanted), "changes", changes);
	}
	json_decref(changes);
	free(absent);
	free(wanted);
	return json;
}

static json_t *names_json(const struct subject *subject, const bool *flags)
{
	json_t *list = json_array();

	for (size_t i = 0; i < subject->n; i++)
		if (flags[i])
			json_array_append_new(list, json_string(subject->members[i].name));
	return list;
}

static json_t *service_json(const struct lbctl *ctl, const struct subject *subject)
{
	// those with the same Maglev population follow each other: it is built once
	static const enum lb_scheduler order[LB_SCHED_N] = {LB_SCHED_MAGLEV, LB_SCHED_SOURCE,
		LB_SCHED_WRR, LB_SCHED_WLC, LB_SCHED_P2C, LB_SCHED_RR, LB_SCHED_LC, LB_SCHED_RING};
	json_t *schedulers = json_array();
	struct trial trials[LB_SCHED_N] = {0};
	bool ok = true;

	for (unsigned i = 0; i < LB_SCHED_N && ok; i++) {
		json_t *one = scheduler_json(ctl, subject, order[i], &trials[i],
			i > 0 ? trials[i - 1].table : NULL);

		ok = one != NULL;
		json_array_append_new(schedulers, one);
	}
	for (unsigned i = 0; i < LB_SCHED_N; i++)
		trial_fini(&trials[i]);
	if (!ok) {
		json_decref(schedulers);
		return NULL;
	}
	return json_pack("{s:s, s:s, s:I, s:o, s:o, s:o}", "name", subject->config->name, "scheduler",
		lb_scheduler_name(subject->config->scheduler), "n_slots",
		(json_int_t)subject->config->table_size, "removed", names_json(subject, subject->removed),
		"added", names_json(subject, subject->added), "schedulers", schedulers);
}

/* ---- for people ---- */

static char *join(const json_t *names)
{
	char *text = lbctl_text_copy("");
	const json_t *name;
	size_t i;

	json_array_foreach (names, i, name) {
		char *longer = lbctl_text_printf("%s%s%s", text, i > 0 ? ", " : "", json_string_value(name));

		free(text);
		text = longer;
	}
	return text;
}

static void add_changes(struct lbctl_table *table, const json_t *scheduler, const json_t *shown)
{
	const json_t *change;
	size_t i;

	json_array_foreach (shown, i, change) {
		const json_t *mine = json_array_get(json_object_get(scheduler, "changes"), i);

		lbctl_table_addf(table, LBCTL_PLAIN, "%.2f %%", lbctl_json_number(mine, "own_percent"));
		lbctl_table_addf(table, LBCTL_PLAIN, "%.2f %%", lbctl_json_number(mine, "others_percent"));
	}
}

static void print_schedulers(const struct lbctl *ctl, const json_t *service)
{
	struct lbctl_column columns[9] = {{"SCHEDULER", false}, {"MOST OVER", true}, {"MOST UNDER", true}};
	static const struct {
		const char *change, *own;
	} titles[] = {{"fail", "FAIL: OWN"}, {"remove", "REMOVE: OWN"}, {"add", "ADD: OWN"}};
	const json_t *schedulers = json_object_get(service, "schedulers"), *scheduler, *change;
	const json_t *changes = json_object_get(json_array_get(schedulers, 0), "changes");
	struct lbctl_table *table;
	size_t n = 3, i;

	json_array_foreach (changes, i, change)
		for (size_t t = 0; t < 3; t++)
			if (strcmp(titles[t].change, lbctl_json_text(change, "change")) == 0) {
				columns[n++] = (struct lbctl_column){titles[t].own, true};
				columns[n++] = (struct lbctl_column){"OTHERS", true};
			}
	table = lbctl_table_create(columns, n);
	json_array_foreach (schedulers, i, scheduler) {
		bool configured = lbctl_json_true(scheduler, "configured");

		lbctl_table_addf(table, configured ? LBCTL_BOLD : LBCTL_PLAIN, "%s%s",
			lbctl_json_text(scheduler, "scheduler"), configured ? " *" : "");
		lbctl_table_addf(table, LBCTL_PLAIN, "%.2f %%",
			lbctl_json_number(scheduler, "most_over_percent"));
		lbctl_table_addf(table, LBCTL_PLAIN, "%.2f %%",
			lbctl_json_number(scheduler, "most_under_percent"));
		add_changes(table, scheduler, changes);
	}
	lbctl_table_print(table, stdout, 0, ctl->colour);
	lbctl_table_destroy(table);
}

static void add_share(struct lbctl_table *table, const json_t *backend, const char *key)
{
	if (backend == NULL)
		lbctl_table_add(table, LBCTL_PLAIN, NULL);
	else
		lbctl_table_addf(table, LBCTL_PLAIN, "%.2f %%", lbctl_json_number(backend, key));
}

/* Shares now and after each change. Those that come with one have none now. */
static void print_backends(const struct lbctl *ctl, const json_t *scheduler)
{
	struct lbctl_column columns[8] = {
		{"BACKEND", false}, {"WEIGHT", true}, {"TIER", true}, {"SHARE", true}, {"WANTED", true}};
	static const struct {
		const char *change, *title;
	} titles[] = {{"fail", "IF IT FAILS"}, {"remove", "AFTER REMOVE"}, {"add", "AFTER ADD"}};
	const json_t *backends = json_object_get(scheduler, "backends"), *all = backends;
	const json_t *changes = json_object_get(scheduler, "changes"), *change, *backend;
	size_t n_columns = 5, i, k;
	struct lbctl_table *table;

	json_array_foreach (changes, i, change) {
		for (size_t t = 0; t < 3; t++)
			if (strcmp(titles[t].change, lbctl_json_text(change, "change")) == 0)
				columns[n_columns++] = (struct lbctl_column){titles[t].title, true};
		if (json_array_size(json_object_get(change, "backends")) > json_array_size(all))
			all = json_object_get(change, "backends");
	}
	table = lbctl_table_create(columns, n_columns);
	json_array_foreach (all, i, backend) {
		lbctl_table_add(table, LBCTL_PLAIN, lbctl_json_text(backend, "name"));
		lbctl_table_addf(table, LBCTL_PLAIN, "%.0f", lbctl_json_number(backend, "weight"));
		lbctl_table_addf(table, LBCTL_PLAIN, "%.0f", lbctl_json_number(backend, "tier"));
		add_share(table, json_array_get(backends, i), "share_percent");
		add_share(table, json_array_get(backends, i), "wanted_percent");
		json_array_foreach (changes, k, change)
			add_share(table, json_array_get(json_object_get(change, "backends"), i), "share_percent");
	}
	lbctl_table_print(table, stdout, 0, ctl->colour);
	lbctl_table_destroy(table);
}

static void print_service(const struct lbctl *ctl, const json_t *service)
{
	char *removed = join(json_object_get(service, "removed"));
	char *added = join(json_object_get(service, "added"));
	const json_t *scheduler;
	size_t i;

	lbctl_print_field(ctl, "service", LBCTL_BOLD, "%s", lbctl_json_text(service, "name"));
	lbctl_print_field(ctl, "table", LBCTL_PLAIN, "%.0f slots, scheduler %s (*)",
		lbctl_json_number(service, "n_slots"), lbctl_json_text(service, "scheduler"));
	if (*removed != '\0')
		lbctl_print_field(ctl, "removed", LBCTL_PLAIN, "%s", removed);
	if (*added != '\0')
		lbctl_print_field(ctl, "added", LBCTL_PLAIN, "%s", added);
	free(removed);
	free(added);
	putchar('\n');
	json_array_foreach (json_object_get(service, "schedulers"), i, scheduler)
		if (lbctl_json_true(scheduler, "configured"))
			print_backends(ctl, scheduler);
	putchar('\n');
	print_schedulers(ctl, service);
}

/* ---- command ---- */

static enum lbctl_exit check_used(const struct lbctl *ctl, const struct changes *changes)
{
	for (size_t i = 0; i < changes->n_removals; i++)
		if (!changes->removals[i].used)
			return lbctl_error(ctl, LBCTL_FAILED, "--remove", NULL,
				"no service that is looked at has a backend %s%s%s",
				changes->removals[i].service != NULL ? changes->removals[i].service : "",
				changes->removals[i].service != NULL ? "/" : "", changes->removals[i].name);
	for (size_t i = 0; i < changes->n_additions; i++)
		if (!changes->additions[i].used)
			return lbctl_error(ctl, LBCTL_FAILED, "--add", NULL, "no service %s is looked at",
				changes->additions[i].service);
	return LBCTL_OK;
}

static enum lbctl_exit simulate(const struct lbctl *ctl, const struct lb_config *config,
	const char *only, struct changes *changes, json_t *services)
{
	enum lbctl_exit status = LBCTL_OK;

	for (size_t i = 0; i < config->n_services && status == LBCTL_OK; i++) {
		struct subject subject;
		json_t *json;

		if (only != NULL && strcmp(config->services[i]->name, only) != 0)
			continue;
		status = subject_init(ctl, &subject, config->services[i], changes);
		if (changes->n_removals == 0 && changes->n_additions == 0)
			remove_heaviest(&subject);
		json = status == LBCTL_OK ? service_json(ctl, &subject) : NULL;
		if (json != NULL)
			json_array_append_new(services, json);
		else
			status = LBCTL_FAILED;
		subject_fini(&subject);
	}
	if (status == LBCTL_OK && only != NULL && json_array_size(services) == 0)
		return lbctl_error(ctl, LBCTL_FAILED, only, NULL, "the file has no such service");
	return status == LBCTL_OK ? check_used(ctl, changes) : status;
}

static void print_services(const struct lbctl *ctl, const json_t *services)
{
	const json_t *service;
	size_t i;

	json_array_foreach (services, i, service) {
		if (i > 0)
			putchar('\n');
		print_service(ctl, service);
	}
	if (json_array_size(services) == 0)
		puts("no services");
}

enum lbctl_exit lbctl_simulate_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	const char *file = args->operands[0], *only = lbctl_args_operand(args, 1);
	struct changes changes = {0};
	struct lb_config *config = NULL;
	struct lb_config_error error;
	json_t *services = json_array(), *document;
	enum lbctl_exit status;
	int rc;

	status = parse_changes(ctl, args, "--remove", false, &changes.removals, &changes.n_removals);
	if (status == LBCTL_OK)
		status = parse_changes(ctl, args, "--add", true, &changes.additions, &changes.n_additions);
	if (status == LBCTL_OK) {
		rc = lb_config_load(file, &config, &error);
		if (rc < 0)
			status = lbctl_error(ctl, LBCTL_FAILED, error.where[0] != '\0' ? error.where : file,
				NULL, "%s", error.message[0] != '\0' ? error.message : strerror(-rc));
	}
	if (status == LBCTL_OK)
		status = simulate(ctl, config, only, &changes, services);
	if (status == LBCTL_OK && ctl->json) {
		document = json_pack("{s:s, s:O}", "file", file, "services", services);
		lbctl_api_print(document, false);
		json_decref(document);
	} else if (status == LBCTL_OK) {
		print_services(ctl, services);
	}
	json_decref(services);
	changes_free(changes.removals, changes.n_removals);
	changes_free(changes.additions, changes.n_additions);
	lb_config_free(config);
	return status;
}
