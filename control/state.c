/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "control/mem.h"
#include "control/store.h"
#include "lb/log.h"

#define HASH_SEED 3u
#define NO_OWNER UINT32_MAX /* of an id: no service's */
#define HEX64 "%016" PRIx64
/* Changes named in the log at start. */
#define MAX_LOGGED 50u

static void state_path(const struct lb_model *model, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.*s/" LB_STATE_FILE, PATH_MAX - 32, model->run_dir);
}

/* Saving. */

/* Takes @p text; NULL: there was no memory for it. */
static void write_and_free(FILE *out, char *text, bool *failed)
{
	if (text != NULL)
		fputs(text, out);
	else
		*failed = true;
	free(text);
}

static void write_hex(FILE *out, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%02x", bytes[i]);
}

static void write_state(FILE *out, const struct lb_model *model, const struct lb_config *config, bool *failed)
{
	char *text = lb_config_to_text(config), *file_text = NULL;
	json_t *names = lb_names_to_json(model->names);

	fprintf(out, "{\"file_hash\":\"" HEX64 "\",\"secret\":\"", model->file_hash);
	write_hex(out, model->secret, sizeof(model->secret));
	// without it a secret in the file could not be taken out again: nobody else knows the one that we made
	fprintf(out, "\",\"%s\":\"", model->dp_secret_known ? "dataplane_secret" : "earlier_secret");
	write_hex(out, model->dp_secret, sizeof(model->dp_secret));
	fputs("\",\"service_ids\":", out);
	lb_ids_write(model->service_ids, out);
	fputs(",\"backend_ids\":", out);
	lb_ids_write(model->backend_ids, out);
	// what the file said, to tell later which changes on top of it were dropped
	if (model->file_config != NULL) {
		file_text = lb_config_to_text(model->file_config);
		*failed |= file_text == NULL;
	}
	if (file_text != NULL && text != NULL && strcmp(file_text, text) != 0)
		fprintf(out, ",\"file_config\":%s", file_text);
	free(file_text);
	fputs(",\"config\":", out);
	write_and_free(out, text, failed);
	fputs(",\"names\":", out);
	write_and_free(out, json_dumps(names, JSON_COMPACT), failed);
	json_decref(names);
	fputc('}', out);
	*failed |= ferror(out) != 0;
}

int lb_state_save(
	const struct lb_model *model, const struct lb_config *config, char *why, size_t why_bytes)
{
	char path[PATH_MAX], *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	bool failed = out == NULL;
	int rc;

	if (out != NULL) {
		write_state(out, model, config, &failed);
		failed |= fclose(out) != 0;
	}
	if (failed) {
		free(text);
		snprintf(why, why_bytes, "out of memory");
		return -ENOMEM;
	}
	state_path(model, path);
	rc = lb_store_save_text(path, text, len, why, why_bytes);
	free(text);
	return rc;
}

/* Loading. */

struct saved {
	bool valid;
	uint64_t file_hash;
	bool has_secret;
	uint8_t secret[16], dp_secret[16];
	bool dp_secret_known;
	struct lb_config *config;
	struct lb_config *file_config; /* NULL: the same as config */
};

static bool parse_hex(const json_t *json, uint8_t *bytes, size_t n)
{
	const char *text = json_string_value(json);

	if (text == NULL || strlen(text) != 2 * n || strspn(text, "0123456789abcdef") != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++)
		sscanf(text + 2 * i, "%2hhx", &bytes[i]);
	return true;
}

static struct lb_config *parse_config(const json_t *json, struct lb_config_error *error)
{
	char *text = json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);
	struct lb_config *config = NULL;

	if (text == NULL)
		return NULL;
	if (lb_config_parse(LB_STATE_FILE, text, strlen(text), &config, error) < 0)
		config = NULL;
	free(text);
	return config;
}

/* @return whether all of it made sense. */
static bool take_state(struct lb_model *model, const json_t *json, struct saved *saved, char *why,
	size_t why_bytes)
{
	const json_t *file_config = json_object_get(json, "file_config");
	struct lb_config_error error = {.message = "no config in it"};
	uint8_t hash[8];

	snprintf(why, why_bytes, "file_hash, secret or ids are missing or wrong");
	if (!parse_hex(json_object_get(json, "file_hash"), hash, sizeof(hash)) ||
		!parse_hex(json_object_get(json, "secret"), saved->secret, sizeof(saved->secret)) ||
		lb_ids_from_json(model->service_ids, json_object_get(json, "service_ids")) < 0 ||
		lb_ids_from_json(model->backend_ids, json_object_get(json, "backend_ids")) < 0)
		return false;
	saved->has_secret = true;
	saved->dp_secret_known = parse_hex(
		json_object_get(json, "dataplane_secret"), saved->dp_secret, sizeof(saved->dp_secret));
	if (!saved->dp_secret_known &&
		!parse_hex(json_object_get(json, "earlier_secret"), saved->dp_secret, sizeof(saved->dp_secret)))
		memcpy(saved->dp_secret, saved->secret, sizeof(saved->dp_secret)); // of a version that did not save it
	lb_names_from_json(model->names, json_object_get(json, "names"));
	for (unsigned i = 0; i < 8; i++)
		saved->file_hash = saved->file_hash << 8 | hash[i];
	saved->config = parse_config(json_object_get(json, "config"), &error);
	if (saved->config == NULL) {
		snprintf(why, why_bytes, "%s: %s", error.where, error.message);
		return false;
	}
	if (file_config != NULL)
		saved->file_config = parse_config(file_config, &error);
	return true;
}

static void load_state(struct lb_model *model, struct saved *saved)
{
	json_t *json = NULL;
	char path[PATH_MAX], why[900];
	int rc;

	state_path(model, path);
	rc = lb_store_load(path, &json, why, sizeof(why));
	if (rc == 0) {
		saved->valid = take_state(model, json, saved, why, sizeof(why));
		if (!saved->valid)
			rc = -EBADMSG;
	}
	json_decref(json);
	if (rc < 0 && rc != -ENOENT)
		lb_log(LB_LOG_ERROR, "state",
			"%s is ignored (a damaged file is kept as %s.corrupt): %s", path,
			LB_STATE_FILE, why);
}

static int read_text(const char *path, char **text, size_t *len, struct lb_config_error *error)
{
	size_t n_allocated = 0;
	ssize_t got = 1;
	int fd, rc = 0;

	*text = NULL;
	*len = 0;
	snprintf(error->where, sizeof(error->where), "%s", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		rc = -errno;
	while (rc == 0 && got != 0) {
		if (*len == n_allocated) {
			n_allocated = n_allocated > 0 ? 2 * n_allocated : 65536;
			*text = lb_xrealloc(*text, n_allocated, 1);
		}
		got = read(fd, *text + *len, n_allocated - *len);
		if (got < 0 && errno != EINTR)
			rc = -errno;
		*len += got > 0 ? (size_t)got : 0;
		if (*len > LB_CONFIG_MAX_BYTES)
			rc = -EFBIG;
	}
	if (fd >= 0)
		close(fd);
	if (rc < 0) {
		snprintf(error->message, sizeof(error->message), "cannot be read: %s",
			strerror(-rc));
		free(*text);
		*text = NULL;
	}
	return rc;
}

static int load_file(
	const char *path, struct lb_config **config, uint64_t *hash, struct lb_config_error *error)
{
	char *text;
	size_t len;
	int rc = read_text(path, &text, &len, error);

	if (rc < 0)
		return rc;
	*hash = lb_hash_bytes(text, len, HASH_SEED);
	rc = lb_config_parse(path, text, len, config, error);
	free(text);
	return rc;
}

/* Starting. */

struct logged {
	const char *what;
	size_t n;
};

static void log_difference(void *arg, char sign, const char *path, const char *text)
{
	struct logged *logged = arg;

	if (logged->n++ < MAX_LOGGED)
		lb_log(LB_LOG_INFO, "state", "%s: %c %s: %s", logged->what, sign, path, text);
}

static struct lb_config *clone_config(const struct lb_config *config)
{
	struct lb_config *clone = lb_config_clone(config);

	if (clone == NULL)
		abort(); // as in lb_xcalloc()
	return clone;
}

/* @return the config to run: @p file, or what was saved. The other is freed. */
static struct lb_config *choose(struct lb_model *model, struct lb_config *file, struct saved *saved)
{
	struct logged resumed = {.what = "resumed"}, dropped = {.what = "dropped"};

	if (saved->valid && saved->file_hash == model->file_hash) {
		model->n_resumed = lb_config_diff(file, saved->config, log_difference, &resumed);
		lb_log(LB_LOG_INFO, "state", "resumed the running config: %zu changes on top of %s",
			model->n_resumed, model->config_file);
		lb_config_share(saved->config, file);
		lb_config_free(file);
		file = saved->config;
		saved->config = NULL;
	} else if (saved->valid && saved->file_config != NULL) {
		lb_config_diff(saved->file_config, saved->config, log_difference, &dropped);
		lb_log(LB_LOG_WARN, "state",
			"%s has changed and wins: %zu changes that were made while "
			"running are dropped",
			model->config_file, dropped.n);
	}
	lb_config_free(saved->config);
	lb_config_free(saved->file_config);
	return file;
}

static int choose_secret(
	struct lb_model *model, const struct lb_config *config, const struct saved *saved)
{
	if (config->has_secret)
		memcpy(model->secret, config->secret, sizeof(model->secret));
	else if (saved->has_secret)
		memcpy(model->secret, saved->dp_secret, sizeof(model->secret));
	else if (getrandom(model->secret, sizeof(model->secret), 0) != sizeof(model->secret))
		return -EIO;
	memcpy(model->dp_secret, saved->has_secret ? saved->dp_secret : model->secret, sizeof(model->dp_secret));
	model->dp_secret_known = saved->dp_secret_known;
	return 0;
}

/* The data plane may have had it until now. */
static void free_id(struct lb_model *model, uint32_t id)
{
	(void)lb_ids_del_of(model->backend_ids, lb_ids_key(model->backend_ids, id), NO_OWNER);
	lb_rest_add(model->rest, id);
}

/* Ids that nothing of the first config claimed. */
static void purge_ids(struct lb_model *model)
{
	for (uint32_t id = 0; id < LB_MAX_SERVICES; id++)
		if (model->service_by_id[id] == NULL && lb_ids_key(model->service_ids, id) != NULL)
			(void)lb_ids_del(model->service_ids, lb_ids_key(model->service_ids, id));
	for (uint32_t id = 0; id < LB_MAX_BACKENDS; id++)
		if (model->backend_by_id[id] == NULL && lb_ids_key(model->backend_ids, id) != NULL)
			free_id(model, id);
}

int lb_state_start(struct lb_model *model, struct lb_config_error *error)
{
	struct saved saved = {0};
	struct lb_config *config = NULL;
	int rc = load_file(model->config_file, &config, &model->file_hash, error);

	if (rc < 0)
		return rc;
	model->file_config = clone_config(config);
	load_state(model, &saved);
	config = choose(model, config, &saved);
	rc = choose_secret(model, config, &saved);
	if (rc < 0)
		snprintf(error->message, sizeof(error->message), "no random numbers: %s",
			strerror(-rc));
	else
		rc = lb_model_apply(model, config, "start", error);
	if (rc < 0) {
		lb_config_free(config);
		return rc;
	}
	purge_ids(model);
	model->is_starting = false;
	return 0;
}

// @p config, of the --config file's content with this hash: put in force it is what later changes are on top of.
static int apply_file(struct lb_model *model, struct lb_config *config, uint64_t hash, const char *cause,
	struct lb_config_error *error)
{
	struct lb_config *old_file = model->file_config;
	uint64_t old_hash = model->file_hash;
	int rc;

	model->file_config = clone_config(config);
	model->file_hash = hash;
	rc = lb_model_apply(model, config, cause, error);
	if (rc < 0) {
		lb_config_free(model->file_config);
		model->file_config = old_file;
		model->file_hash = old_hash;
		return rc;
	}
	lb_config_free(old_file);
	return 0;
}

struct reload {
	struct lb_model *model;
	lb_state_reloaded *done;
	void *arg;
};

static int put_in_force(struct lb_model *model, struct lb_config *config, const char *text, size_t len,
	struct lb_config_error *error)
{
	size_t n_changes;
	int rc;

	lb_config_share(config, model->config);
	n_changes = lb_config_diff(model->config, config, NULL, NULL);
	rc = apply_file(model, config, lb_hash_bytes(text, len, HASH_SEED), "reload", error);
	if (rc < 0)
		lb_config_free(config);
	else if (n_changes == 0) // others are told one by one
		lb_log(LB_LOG_INFO, "state", "reload: %s says what is in force: no change", model->config_file);
	return rc;
}

static void on_parsed(void *arg, int rc, struct lb_config *config, const struct lb_config_error *error, const char *text,
	size_t len)
{
	struct lb_config_error refused = *error;
	struct reload *reload = arg;

	if (rc == 0)
		rc = put_in_force(reload->model, config, text, len, &refused);
	reload->done(reload->arg, rc, &refused);
	free(reload);
}

void lb_state_reload(struct lb_model *model, lb_state_reloaded *done, void *arg)
{
	struct reload *reload = lb_xcalloc(1, sizeof(*reload));
	struct evbuffer *buffer = evbuffer_new();
	struct lb_config_error error = {0};
	char *text;
	size_t len;
	int rc = read_text(model->config_file, &text, &len, &error);

	*reload = (struct reload){.model = model, .done = done, .arg = arg};
	if (rc == 0 && (buffer == NULL || evbuffer_add(buffer, text, len) < 0 ||
			       lb_parser_submit(model->parser, model->config_file, buffer, on_parsed, reload) == NULL)) {
		rc = -ENOMEM;
		snprintf(error.message, sizeof(error.message), "cannot be parsed: no memory, or no thread");
	}
	if (rc < 0) {
		done(arg, rc, &error);
		free(reload);
	}
	free(text);
	if (buffer != NULL)
		evbuffer_free(buffer);
}

int lb_state_apply(struct lb_model *model, struct lb_config *config, const char *text, size_t len,
	const char *cause, struct lb_config_error *error)
{
	struct lb_config_error unread;
	bool is_file = false;
	size_t file_len;
	char *file;

	if (read_text(model->config_file, &file, &file_len, &unread) == 0) {
		is_file = file_len == len && memcmp(file, text, len) == 0;
		free(file);
	}
	return is_file ? apply_file(model, config, lb_hash_bytes(text, len, HASH_SEED), cause, error)
		       : lb_model_apply(model, config, cause, error);
}
