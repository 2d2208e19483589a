/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/api.h"

#include <errno.h>
#include <stdio.h>

#include "control/document.h"
#include "control/json.h"
#include "control/mem.h"
#include "control/state.h"
#include "control/sync.h"

#define SETTLE_S 2 /* how long a change waits for the data plane */

/* What a config changes, as the answer has it: there may be tens of thousands, of which a tree takes a second. */
struct changes {
	struct lb_writer list; /* the array, without its brackets */
	size_t n;
};

/* A change that is in force here and on its way to the data plane. */
struct change {
	struct lb_api_request *request;
	int status;
	struct changes *changes;
	uint64_t n_refusals_before;
	struct lb_settle_waiter waiter;
	bool waiting; /* the waiter is in the model's list */
	struct event *deadline;
};

static void add_change(void *arg, char sign, const char *path, const char *text)
{
	char sign_text[2] = {sign, '\0'};
	struct changes *changes = arg;

	lb_writer_open(&changes->list, NULL, '{');
	lb_writer_string(&changes->list, "sign", sign_text);
	lb_writer_string(&changes->list, "path", path);
	lb_writer_string(&changes->list, "text", text);
	lb_writer_close(&changes->list, '}');
	changes->n++;
}

static struct changes *changes_of(const struct lb_model *model, const struct lb_config *config)
{
	struct changes *changes = lb_xcalloc(1, sizeof(*changes));

	lb_config_diff(model->config, config, add_change, changes);
	return changes;
}

static void changes_free(struct changes *changes)
{
	lb_writer_fini(&changes->list);
	free(changes);
}

/* Takes @p changes, and answers. */
static void answer_with(struct lb_api_request *request, int status, const struct lb_config *config, struct changes *changes,
	bool dry_run, uint64_t n_refusals_before, bool settled)
{
	const struct lb_model *model = request->model;
	struct lb_writer out = {0};
	json_t *refused = json_array();
	uint64_t first = n_refusals_before;
	bool live;

	if (model->n_refusals - first > LB_N_REFUSALS)
		first = model->n_refusals - LB_N_REFUSALS;
	for (uint64_t i = first; i < model->n_refusals; i++)
		json_array_append_new(
			refused, lb_api_refusal_json(&model->refusals[i % LB_N_REFUSALS]));
	live = !dry_run && settled && lb_dp_state(model->dp) == LB_DP_UP &&
	       model->n_refusals == n_refusals_before;
	lb_writer_open(&out, NULL, '{');
	lb_writer_open(&out, "changes", '[');
	if (changes->n > 0)
		lb_writer_bytes(&out, changes->list.text, changes->list.len);
	out.failed |= changes->list.failed;
	lb_writer_close(&out, ']');
	lb_writer_u64(&out, "n_changes", changes->n);
	lb_writer_bool(&out, "dry_run", dry_run);
	lb_writer_string(&out, "dataplane", lb_dp_state_name(lb_dp_state(model->dp)));
	lb_writer_bool(&out, "live", live);
	lb_writer_json(&out, "refused", refused);
	lb_writer_json(&out, "warnings", lb_api_warnings_json(model, config));
	lb_writer_close(&out, '}');
	changes_free(changes);
	lb_api_reply_written(request, status, &out);
}

static void on_cancel(struct lb_api_request *request)
{
	struct change *change = request->state;

	if (change->waiting)
		lb_sync_cancel_wait(request->model, &change->waiter);
	event_free(change->deadline);
	if (change->changes != NULL)
		changes_free(change->changes);
	free(change);
}

static void answer_change(struct change *change, bool settled)
{
	struct lb_api_request *request = change->request;
	struct changes *changes = change->changes;

	change->changes = NULL;
	answer_with(request, change->status, request->model->config, changes, false, change->n_refusals_before, settled);
}

static void on_settled(void *arg)
{
	struct change *change = arg;

	change->waiting = false;
	answer_change(change, true);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	answer_change(arg, false);
}

/* Takes @p changes. */
static void answer_when_settled(
	struct lb_api_request *request, int status, struct changes *changes, uint64_t n_refusals)
{
	static const struct timeval delay = {.tv_sec = SETTLE_S};
	struct change *change = lb_xcalloc(1, sizeof(*change));

	*change = (struct change){
		.request = request,
		.status = status,
		.changes = changes,
		.n_refusals_before = n_refusals,
		.waiter = {.settled = on_settled, .arg = change},
		.waiting = true,
		.deadline = evtimer_new(request->model->base, on_deadline, change),
	};
	if (change->deadline == NULL)
		abort(); // as in lb_xcalloc()
	event_add(change->deadline, &delay);
	request->state = change;
	request->cancel = on_cancel;
	lb_sync_wait_settled(request->model, &change->waiter);
}

static void answer_failure(
	struct lb_api_request *request, int rc, const struct lb_config_error *error)
{
	char retry_after[12];

	switch (rc) {
	case -EINVAL:
		lb_api_error(request, 400, "invalid", error->where, "%s", error->message);
		break;
	case -ENOENT:
		lb_api_error(request, 404, "not_found", error->where, "%s", error->message);
		break;
	case -EEXIST:
	case -EBUSY:
	case -ENOSPC:
		lb_api_error(request, 409, "conflict", error->where, "%s", error->message);
		break;
	case -EAGAIN:
		snprintf(retry_after, sizeof(retry_after), "%u", error->retry_s);
		if (error->retry_s > 0)
			evhttp_add_header(evhttp_request_get_output_headers(request->http), "Retry-After", retry_after);
		lb_api_error(request, 429, "too_soon", error->where, "%s", error->message);
		break;
	default:
		lb_api_error(request, 500, "internal", error->where, "%s",
			error->message[0] != '\0' ? error->message : strerror(-rc));
		break;
	}
}

/* Put @p config (taken) in force and answer. @p text: what it was parsed from; NULL: an edit. */
static void apply(struct lb_api_request *request, struct lb_config *config, const char *text, size_t len,
	int status)
{
	struct lb_model *model = request->model;
	uint64_t n_refusals = model->n_refusals;
	struct lb_config_error error = {0};
	struct changes *changes = changes_of(model, config);
	int rc = text != NULL ? lb_state_apply(model, config, text, len, "api", &error)
			      : lb_model_apply(model, config, "api", &error);

	if (rc == 0) {
		answer_when_settled(request, status, changes, n_refusals);
		return;
	}
	changes_free(changes);
	lb_config_free(config);
	answer_failure(request, rc, &error);
}

/* Whole configs. */

/*
 * The config in force, as a document in slices: of the moment in which it was asked for, whatever is applied meanwhile.
 * Services are shared with what comes after and do not change.
 */
struct snapshot {
	struct lb_config *config;
	size_t service, backend; /* to be written next; of the service its beginning if the backend is 0 */
	FILE *yaml;              /* writes into the document; NULL: it is JSON */
};

static void snapshot_free(void *state)
{
	struct snapshot *snapshot = state;

	if (snapshot->yaml != NULL)
		fclose(snapshot->yaml);
	lb_config_free(snapshot->config);
	free(snapshot);
}

static void begin_json(struct lb_document *document)
{
	const struct snapshot *snapshot = document->state;
	json_t *globals = lb_config_globals_json(snapshot->config), *value;
	const char *key;

	lb_writer_open(&document->out, NULL, '{');
	document->out.failed |= globals == NULL;
	json_object_foreach (globals, key, value)
		lb_writer_json(&document->out, key, json_incref(value));
	json_decref(globals);
	if (snapshot->config->n_services > 0)
		lb_writer_open(&document->out, "services", '[');
	else
		lb_writer_string(&document->out, "services", "none");
}

static bool more_json(struct lb_document *document)
{
	struct snapshot *snapshot = document->state;

	if (snapshot->service == snapshot->config->n_services)
		return false;
	// which is there since it was saved
	lb_writer_raw(&document->out, NULL, lb_config_service_text(snapshot->config->services[snapshot->service++]));
	return true;
}

static void end_json(struct lb_document *document)
{
	const struct snapshot *snapshot = document->state;

	if (snapshot->config->n_services > 0)
		lb_writer_close(&document->out, ']');
	lb_writer_close(&document->out, '}');
	lb_writer_text(&document->out, "\n");
}

static ssize_t write_yaml(void *arg, const char *bytes, size_t n)
{
	struct lb_document *document = arg;

	lb_writer_bytes(&document->out, bytes, n);
	return document->out.failed ? 0 : (ssize_t)n;
}

static void wrote(struct lb_document *document, bool done)
{
	const struct snapshot *snapshot = document->state;

	document->out.failed |= fflush(snapshot->yaml) != 0 || !done;
}

static void begin_yaml(struct lb_document *document)
{
	struct snapshot *snapshot = document->state;

	snapshot->yaml = fopencookie(document, "w", (cookie_io_functions_t){.write = write_yaml});
	if (snapshot->yaml == NULL)
		abort(); // as in lb_xcalloc()
	wrote(document, lb_config_write_yaml_globals(snapshot->yaml, snapshot->config));
}

static bool more_yaml(struct lb_document *document)
{
	struct snapshot *snapshot = document->state;
	const struct lb_config_service *service;
	bool done = true;

	if (snapshot->service == snapshot->config->n_services)
		return false;
	service = snapshot->config->services[snapshot->service];
	if (snapshot->backend == 0)
		done = lb_config_write_yaml_service(snapshot->yaml, service);
	if (snapshot->backend < service->n_backends)
		done &= lb_config_write_yaml_backend(snapshot->yaml, &service->backends[snapshot->backend++]);
	if (snapshot->backend == service->n_backends) {
		snapshot->service++;
		snapshot->backend = 0;
	}
	wrote(document, done);
	return true;
}

static void reply_config(struct lb_api_request *request, bool is_yaml)
{
	static const struct lb_document_part json[] = {{.begin = begin_json, .more = more_json, .end = end_json}},
		yaml[] = {{.begin = begin_yaml, .more = more_yaml}};
	struct snapshot *snapshot = lb_xcalloc(1, sizeof(*snapshot));

	snapshot->config = lb_config_clone(request->model->config);
	if (snapshot->config == NULL)
		abort(); // as in lb_xcalloc()
	lb_document_reply(request, is_yaml ? "application/yaml" : "application/json", is_yaml ? yaml : json, 1, NULL,
		snapshot, snapshot_free);
}

void lb_api_config_get(struct lb_api_request *request)
{
	const struct evkeyvalq *headers = evhttp_request_get_input_headers(request->http);
	const char *accept = evhttp_find_header(headers, "Accept");
	const char *format = lb_api_param(request, "format");
	bool yaml = accept != NULL && strstr(accept, "yaml") != NULL;

	if (format != NULL && strcmp(format, "yaml") != 0 && strcmp(format, "json") != 0) {
		lb_api_error(request, 400, "invalid", "format", "format is not json or yaml: %s",
			format);
		return;
	}
	if (format != NULL)
		yaml = strcmp(format, "yaml") == 0;
	reply_config(request, yaml);
}

/* A whole config that is being parsed. */
struct parsing {
	struct lb_api_request *request;
	struct lb_parse_job *job; /* NULL: it is parsed */
	bool is_dry_run;
};

static void on_cancel_parsing(struct lb_api_request *request)
{
	struct parsing *parsing = request->state;

	if (parsing->job != NULL)
		lb_parser_cancel(request->model->parser, parsing->job);
	free(parsing);
}

static void answer_diff(struct lb_api_request *request, struct lb_config *config)
{
	struct lb_config_error error = {0};
	int rc = lb_model_check(request->model, config, &error);

	if (rc < 0)
		answer_failure(request, rc, &error);
	else
		answer_with(request, 200, config, changes_of(request->model, config), true, request->model->n_refusals,
			false);
	lb_config_free(config);
}

static void on_parsed(void *arg, int rc, struct lb_config *config, const struct lb_config_error *error, const char *text,
	size_t len)
{
	struct parsing *parsing = arg;
	struct lb_api_request *request = parsing->request;
	bool is_dry_run = parsing->is_dry_run;

	parsing->job = NULL;
	on_cancel_parsing(request);
	request->cancel = NULL;
	if (rc < 0) {
		answer_failure(request, rc, error);
		return;
	}
	lb_config_share(config, request->model->config);
	if (is_dry_run)
		answer_diff(request, config);
	else
		apply(request, config, text, len, 200);
}

static void take_config(struct lb_api_request *request, bool is_dry_run)
{
	struct parsing *parsing = lb_xcalloc(1, sizeof(*parsing));

	parsing->request = request;
	parsing->is_dry_run = is_dry_run;
	parsing->job = lb_parser_submit(request->model->parser,
		lb_api_param(request, "file") != NULL ? lb_api_param(request, "file") : "request",
		evhttp_request_get_input_buffer(request->http), on_parsed, parsing);
	if (parsing->job == NULL) {
		free(parsing);
		lb_api_reply(request, 500, NULL);
		return;
	}
	request->state = parsing;
	request->cancel = on_cancel_parsing;
}

void lb_api_config_diff(struct lb_api_request *request)
{
	take_config(request, true);
}

void lb_api_config_put(struct lb_api_request *request)
{
	take_config(request, lb_api_flag(request, "dry_run"));
}

/* Single objects: a copy of the running config is edited, then put in force as a whole. */

typedef int edit_fn(struct lb_api_request *request, struct lb_config *config, json_t *body,
	struct lb_config_error *error);

static void edit(struct lb_api_request *request, edit_fn *fn, bool has_body, int status)
{
	json_t *body = has_body ? lb_api_body_object(request) : NULL;
	struct lb_config_error error = {0};
	struct lb_config *config;
	int rc;

	if (has_body && body == NULL)
		return;
	config = lb_config_clone(request->model->config);
	rc = config != NULL ? fn(request, config, body, &error) : -ENOMEM;
	json_decref(body);
	if (rc == 0) {
		apply(request, config, NULL, 0, status);
		return;
	}
	lb_config_free(config);
	answer_failure(request, rc, &error);
}

static int add_service(struct lb_api_request *request, struct lb_config *config, json_t *body,
	struct lb_config_error *error)
{
	(void)request;
	return lb_config_service_add(config, body, error);
}

static int set_service(struct lb_api_request *request, struct lb_config *config, json_t *body,
	struct lb_config_error *error)
{
	return lb_config_service_set(config, request->segments[2], body, error);
}

static int del_service(struct lb_api_request *request, struct lb_config *config, json_t *body,
	struct lb_config_error *error)
{
	(void)body;
	return lb_config_service_del(config, request->segments[2], error);
}

static int add_backend(struct lb_api_request *request, struct lb_config *config, json_t *body,
	struct lb_config_error *error)
{
	return lb_config_backend_add(config, request->segments[2], body, error);
}

static int set_backend(struct lb_api_request *request, struct lb_config *config, json_t *body,
	struct lb_config_error *error)
{
	return lb_config_backend_set(
		config, request->segments[2], request->segments[4], body, error);
}

static int del_backend(struct lb_api_request *request, struct lb_config *config, json_t *body,
	struct lb_config_error *error)
{
	(void)body;
	return lb_config_backend_del(config, request->segments[2], request->segments[4], error);
}

void lb_api_service_add(struct lb_api_request *request)
{
	edit(request, add_service, true, 201);
}

void lb_api_service_set(struct lb_api_request *request)
{
	edit(request, set_service, true, 200);
}

void lb_api_service_del(struct lb_api_request *request)
{
	edit(request, del_service, false, 200);
}

void lb_api_backend_add(struct lb_api_request *request)
{
	edit(request, add_backend, true, 201);
}

void lb_api_backend_set(struct lb_api_request *request)
{
	edit(request, set_backend, true, 200);
}

void lb_api_backend_del(struct lb_api_request *request)
{
	edit(request, del_backend, false, 200);
}
