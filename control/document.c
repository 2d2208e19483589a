/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/document.h"

#include "control/mem.h"

#define SLICE_NS UINT64_C(2000000) /* of all documents together, in a turn of the loop */
/* Steps between two looks at the clock. A step is some 100 ns (a line of /metrics) to 100 us (counting the slots of a
 * service's table), a look 40 ns. */
#define N_STEPS 8u
/* Of one document, not yet with the kernel: then its reader is waited for. Thousands of backends fit. */
#define MAX_PENDING_BYTES (1u << 20)

static const struct timeval soon = {0}; /* the next turn of the loop */

struct lb_documents {
	struct event *next;
	TAILQ_HEAD(, lb_document) queue;
};

/* The ids of what there was when the document began, and how far it is. */
struct document_walk {
	uint64_t born; /* no object that came later is meant */
	struct {
		uint16_t id;
		uint32_t first; /* of its backends, in backend_ids; that of the next one: their end */
	} *services;
	uint16_t *backend_ids;
	size_t n_services, service, backend;
	bool has_begun; /* the part's begin was called */
	bool is_inside; /* a service, whose beginning was told */
};

/* What is told of. */

static struct document_walk *walk_create(const struct lb_model *model, const struct lb_service *only)
{
	struct document_walk *walk = lb_xcalloc(1, sizeof(*walk));
	size_t n_backends = 0, at = 0;

	for (size_t i = 0; i < model->n_services; i++)
		if (only == NULL || only == model->services[i])
			n_backends += model->services[i]->n_backends;
	walk->born = model->n_born;
	walk->services = lb_xcalloc(model->n_services + 1, sizeof(*walk->services));
	walk->backend_ids = lb_xcalloc(n_backends, sizeof(*walk->backend_ids));
	for (size_t i = 0; i < model->n_services; i++) {
		const struct lb_service *service = model->services[i];

		if (only != NULL && only != service)
			continue;
		walk->services[walk->n_services].id = service->id;
		for (size_t j = 0; j < service->n_backends; j++)
			walk->backend_ids[at++] = service->backends[j]->id;
		walk->services[++walk->n_services].first = (uint32_t)at;
	}
	return walk;
}

static void walk_destroy(struct document_walk *walk)
{
	free(walk->services);
	free(walk->backend_ids);
	free(walk);
}

static bool tell_service(struct lb_document *document)
{
	struct document_walk *walk = document->walk;
	const struct lb_document_part *part = document->part;
	struct lb_service *service;

	if (walk->service == walk->n_services ||
		(part->service == NULL && part->backend == NULL && part->service_end == NULL))
		return false;
	service = document->model->service_by_id[walk->services[walk->service].id];
	if (service == NULL || service->born > walk->born) {
		walk->service++;
		return true;
	}
	walk->backend = walk->services[walk->service].first;
	walk->is_inside = true;
	if (part->service != NULL)
		part->service(document, service);
	return true;
}

static void tell_backend(struct lb_document *document)
{
	struct document_walk *walk = document->walk;
	const struct lb_document_part *part = document->part;
	struct lb_backend *backend;

	if (part->backend != NULL && walk->backend < walk->services[walk->service + 1].first) {
		backend = document->model->backend_by_id[walk->backend_ids[walk->backend++]];
		if (backend != NULL && backend->born <= walk->born)
			part->backend(document, backend);
		return;
	}
	if (part->service_end != NULL)
		part->service_end(document);
	walk->is_inside = false;
	walk->service++;
}

/* @return false: everything is written. */
static bool step(struct lb_document *document)
{
	struct document_walk *walk = document->walk;
	const struct lb_document_part *part = document->part;

	if (part == document->end)
		return false;
	if (!walk->has_begun) {
		walk->has_begun = true;
		walk->service = 0;
		if (part->begin != NULL)
			part->begin(document);
	} else if (part->more != NULL && part->more(document)) {
		// there is more
	} else if (walk->is_inside) {
		tell_backend(document);
	} else if (!tell_service(document)) {
		if (part->end != NULL)
			part->end(document);
		walk->has_begun = false;
		document->part++;
	}
	return true;
}

/* Slices. */

static void enqueue(struct lb_document *document)
{
	struct lb_documents *documents = lb_api_documents(document->request->api);

	TAILQ_INSERT_TAIL(&documents->queue, document, link);
	document->is_queued = true;
	event_add(documents->next, &soon);
}

static void dequeue(struct lb_document *document)
{
	if (!document->is_queued)
		return;
	TAILQ_REMOVE(&lb_api_documents(document->request->api)->queue, document, link);
	document->is_queued = false;
}

static void on_cancel(struct lb_api_request *request)
{
	struct lb_document *document = request->state;

	dequeue(document);
	if (document->free_state != NULL)
		document->free_state(document->state);
	evbuffer_free(document->body);
	lb_writer_fini(&document->out);
	walk_destroy(document->walk);
	free(document);
}

static void on_drained(struct evhttp_connection *connection, void *arg)
{
	struct lb_document *document = arg;

	(void)connection;
	if (document->waits)
		enqueue(document);
	document->waits = false;
}

/* These two free the document. */
static void fail(struct lb_document *document)
{
	if (document->is_sent)
		lb_api_stream_abort(document->request); // the reader sees that the end is missing
	else
		lb_api_reply(document->request, 500, NULL);
}

static void finish(struct lb_document *document)
{
	if (document->is_sent) {
		lb_api_stream(document->request, document->body, NULL, NULL);
		lb_api_stream_end(document->request);
	} else {
		lb_api_reply_buffer(document->request, 200, document->content_type, document->body);
	}
}

static void hand_over(struct lb_document *document)
{
	if (!document->is_sent)
		lb_api_stream_begin(document->request, document->content_type);
	document->is_sent = true;
	lb_api_stream(document->request, document->body, on_drained, document);
	document->waits = lb_api_stream_pending(document->request) >= MAX_PENDING_BYTES;
	if (!document->waits)
		enqueue(document);
}

static void write_slice(struct lb_document *document, uint64_t end_ns)
{
	size_t n_pending = document->is_sent ? lb_api_stream_pending(document->request) : 0;
	bool more = step(document);

	for (unsigned i = 1; more && n_pending + document->out.len < MAX_PENDING_BYTES; i++) {
		if (i % N_STEPS == 0 && lb_now_ns() >= end_ns)
			break;
		more = step(document);
	}
	if (!lb_writer_move(&document->out, document->body))
		fail(document);
	else if (more)
		hand_over(document);
	else
		finish(document);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct lb_documents *documents = arg;
	uint64_t end_ns = lb_now_ns() + SLICE_NS;

	(void)fd, (void)what;
	while (!TAILQ_EMPTY(&documents->queue) && lb_now_ns() < end_ns) {
		struct lb_document *document = TAILQ_FIRST(&documents->queue);

		dequeue(document);
		write_slice(document, end_ns); // which may put it at the end
	}
	if (!TAILQ_EMPTY(&documents->queue))
		event_add(documents->next, &soon);
}

void lb_document_reply(struct lb_api_request *request, const char *content_type,
	const struct lb_document_part *parts, size_t n_parts, const struct lb_service *service, void *state,
	void (*free_state)(void *state))
{
	struct lb_documents *documents = lb_api_documents(request->api);
	struct lb_document *document = lb_xcalloc(1, sizeof(*document));
	bool others_wait = !TAILQ_EMPTY(&documents->queue);

	document->model = request->model;
	document->part = parts;
	document->end = parts + n_parts;
	document->state = state;
	document->free_state = free_state;
	document->request = request;
	document->content_type = content_type;
	document->walk = parts->more == NULL ? walk_create(request->model, service)
					     : lb_xcalloc(1, sizeof(*document->walk));
	document->body = evbuffer_new();
	if (document->body == NULL)
		abort(); // as in lb_xcalloc()
	request->state = document;
	request->cancel = on_cancel;
	// most end here; not the others' time, though, if there are others
	write_slice(document, lb_now_ns() + (others_wait ? 0 : SLICE_NS));
}

struct lb_documents *lb_documents_create(struct event_base *base)
{
	struct lb_documents *documents = lb_xcalloc(1, sizeof(*documents));

	TAILQ_INIT(&documents->queue);
	documents->next = evtimer_new(base, on_turn, documents);
	if (documents->next != NULL)
		return documents;
	free(documents);
	return NULL;
}

void lb_documents_destroy(struct lb_documents *documents)
{
	if (documents == NULL)
		return;
	event_free(documents->next);
	free(documents);
}
