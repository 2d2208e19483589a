/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_API_H
#define LB_CONTROL_API_H

#include <event2/http.h>
#include <event2/keyvalq_struct.h>

#include "control/model.h"
#include "control/writer.h"

/*
 * The HTTP API of docs/api.md on a Unix socket, and what of it only shows on a TCP address: listening,
 * limits, routing, answers. The handlers are in api_*.c. A handler answers at once, or holds its
 * request: then it sets `cancel` and answers later from the loop.
 */
struct lb_api;

#define LB_API_MAX_SEGMENTS 6u
#define LB_API_MAX_BODY_BYTES (1u << 20) /* of all bodies that are not a whole config */

struct lb_api_request {
	TAILQ_ENTRY(lb_api_request) link;
	struct lb_api *api;
	struct lb_model *model;
	struct evhttp_request *http;
	struct evhttp_connection *connection;
	char *segments[LB_API_MAX_SEGMENTS]; /* of the path, percent-decoded */
	size_t n_segments;
	bool is_tcp; /* by --listen */
	struct evkeyvalq query;
	void *state; /* the handler's, while it holds the request */
	/* Frees `state`: called once before the request ends, answered or not (the client has
	 * gone). */
	void (*cancel)(struct lb_api_request *request);
};

/**
 * Listen on @p socket_path: mode 0660, group fulcrum where there is one; a socket left by a dead
 * daemon is replaced.
 * @return 0; -EADDRINUSE somebody answers there; -errno; @p why says more.
 */
int lb_api_create(struct lb_model *model, const char *socket_path, struct lb_api **out, char *why,
	size_t why_bytes);

/**
 * Serve what only shows, and the dashboard, on "ADDR:PORT" or "[ADDR6]:PORT" too; "PORT" alone: on
 * 127.0.0.1. @return 0; -EINVAL no such address; -errno; @p why.
 */
int lb_api_listen_tcp(struct lb_api *api, const char *address, char *why, size_t why_bytes);

/** Let the TCP side be asked for by @p name too: see on_request(). The caller keeps the text. */
void lb_api_allow_host(struct lb_api *api, const char *name);

/** Stops listening, removes the socket, ends all connections. NULL is allowed. */
void lb_api_destroy(struct lb_api *api);

struct lb_model *lb_api_model(const struct lb_api *api);

/* For document.c. */
struct lb_documents *lb_api_documents(const struct lb_api *api);

/* For the handlers. Each of these ends the request. */

/** Answer with @p json (stolen; NULL: 500, out of memory). */
void lb_api_reply(struct lb_api_request *request, int status, json_t *json);
void lb_api_reply_text(
	struct lb_api_request *request, int status, const char *content_type, const char *text);
/** What @p body holds is taken. */
void lb_api_reply_buffer(
	struct lb_api_request *request, int status, const char *content_type, struct evbuffer *body);
/** Answer with what was written, JSON, and a newline; the writer is empty then. */
void lb_api_reply_written(struct lb_api_request *request, int status, struct lb_writer *json);
/** @p code as in docs/api.md; @p where may be NULL or "". */
void lb_api_error(struct lb_api_request *request, int status, const char *code, const char *where,
	const char *format, ...) __attribute__((format(printf, 5, 6)));

/*
 * An answer that goes out as it is made: it begins (status 200), goes on, and ends the request, or is broken off, which
 * the client can tell.
 */
void lb_api_stream_begin(struct lb_api_request *request, const char *content_type);
/** What @p body holds is taken. @p drained is called each time that all of it is with the kernel; may be NULL. */
void lb_api_stream(struct lb_api_request *request, struct evbuffer *body,
	void (*drained)(struct evhttp_connection *connection, void *arg), void *arg);
/** Bytes that wait for the client to read. */
size_t lb_api_stream_pending(const struct lb_api_request *request);
void lb_api_stream_end(struct lb_api_request *request);
/** Ends the connection too. */
void lb_api_stream_abort(struct lb_api_request *request);

/** A query parameter; NULL: not given. */
const char *lb_api_param(const struct lb_api_request *request, const char *name);

/** Whether the parameter is there and true (1, true, yes). */
bool lb_api_flag(const struct lb_api_request *request, const char *name);

/** A parameter as an integer 0..max. @return false if it is there and is none: the request has been
 * answered. */
bool lb_api_number(struct lb_api_request *request, const char *name, uint64_t max, uint64_t *value);

/** The body; @p len 0: none. Valid as long as the request. */
const char *lb_api_body(const struct lb_api_request *request, size_t *len);

/** The body as a JSON object, new reference; NULL: it is none, the request has been answered. */
json_t *lb_api_body_object(struct lb_api_request *request);

/** 503 if the data plane is not up. @return false: the request has been answered. */
bool lb_api_need_dataplane(struct lb_api_request *request);

typedef void lb_api_handler(struct lb_api_request *request);

lb_api_handler lb_api_version, lb_api_status, lb_api_services, lb_api_service,
	lb_api_backends;                                                 /* api_status.c */
lb_api_handler lb_api_stats, lb_api_drops, lb_api_flows;                 /* api_stats.c */
lb_api_handler lb_api_events;                                            /* api_events.c */
lb_api_handler lb_api_trace, lb_api_flush;                               /* api_trace.c */
lb_api_handler lb_api_sessions; /* api_sessions.c */
lb_api_handler lb_api_config_get, lb_api_config_put, lb_api_config_diff; /* api_config.c */
lb_api_handler lb_api_service_add, lb_api_service_set, lb_api_service_del;
lb_api_handler lb_api_backend_add, lb_api_backend_set, lb_api_backend_del;
lb_api_handler lb_api_announce, lb_api_maintenance; /* api_announce.c */
lb_api_handler lb_api_metrics;                      /* metrics.c */
lb_api_handler lb_api_dashboard; /* api_dashboard.c */

/* JSON that several handlers have. New references. */
json_t *lb_api_workers_json(const struct lb_model *model);
json_t *lb_api_ports_json(const struct lb_model *model);
/** null: no fullnat service yet. @p map may be NULL. api_fullnat.c */
json_t *lb_api_fullnat_json(const struct lb_shm_map *map);
/** Name of an enum lb_flow_state; "?" out of range. api_trace.c */
const char *lb_api_flow_state_name(unsigned state);
json_t *lb_api_refusal_json(const struct lb_refusal *refusal);
/** What is not as @p config (in force, or proposed; NULL: none) wants it, though nothing was refused. api_warnings.c */
json_t *lb_api_warnings_json(const struct lb_model *model, const struct lb_config *config);
/** Counters of a backend since it has its id. */
void lb_api_backend_counters(
	const struct lb_backend *backend, struct lb_backend_counters *counters);
void lb_api_add_counters(struct lb_backend_counters *sum, const struct lb_backend_counters *one);
/** @p no_backend: a service's, too; NULL: of a backend. */
void lb_api_write_counters(
	struct lb_writer *out, const char *key, const struct lb_backend_counters *counters, const uint64_t *no_backend);

/** The two members that every answer about the running state begins with. */
void lb_api_write_stamp(struct lb_writer *out, const struct lb_model *model);
struct lb_document;
/** The beginning of such an answer as a document, up to the '[' of the part's `arg` (a key; NULL: without). */
void lb_api_document_begin(struct lb_document *document);
/** The end of a document whose last member is an array. */
void lb_api_document_end(struct lb_document *document);

/** Packets to the service that found no backend. */
uint64_t lb_api_no_backend(const struct lb_service *service);

#endif
