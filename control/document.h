/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_DOCUMENT_H
#define LB_CONTROL_DOCUMENT_H

#include "control/api.h"
#include "control/writer.h"

/*
 * Answers about every service or backend. There may be tens of thousands: such a document is written in slices of a
 * few milliseconds, over turns of the loop in which checks and everybody else have theirs, and sent as it is
 * written. Who reads slowly is waited for, so that little of it is in memory at any time.
 *
 * What the model is about may change between two slices. A document tells of the services and backends that there
 * were when it began, each at most once and in the order of that moment, each as it is when its turn comes. One that
 * has gone by then is left out; one that has come since is not told of, even if it has the name or the id of
 * another.
 */
struct lb_document {
	struct lb_writer out;
	struct lb_model *model;
	const struct lb_document_part *part; /* that is being written */
	void *state;                         /* the parts' */

	/* document.c's. */
	struct lb_api_request *request;
	const struct lb_document_part *end;
	const char *content_type;
	void (*free_state)(void *state);
	struct evbuffer *body; /* written and not handed over yet */
	struct document_walk *walk;
	bool is_sent;          /* its beginning, in chunks */
	bool is_queued, waits; /* for its turn; for its reader */
	TAILQ_ENTRY(lb_document) link;
};

/*
 * A part of a document (where the first has a `more`, each has): its begin; what it has of each service (its beginning, its backends, its end), if it has
 * anything; its end. Whatever a function does not write is missing; each is called in one go, so it must not write
 * about all services or backends. NULL: nothing.
 */
struct lb_document_part {
	void (*begin)(struct lb_document *document);
	void (*service)(struct lb_document *document, struct lb_service *service);
	void (*backend)(struct lb_document *document, struct lb_backend *backend);
	void (*service_end)(struct lb_document *document); /* the service itself may have gone */
	/* In the place of services: the next piece of what the state holds. @return false: that was all. */
	bool (*more)(struct lb_document *document);
	void (*end)(struct lb_document *document);
	const void *arg;
};

/**
 * Answer with the document that @p parts (of static life) make.
 * @param content_type a literal.
 * @param service      only of this one; NULL: of all. The first part's `begin` and `service` are called for it
 *                     before this returns.
 * @param state        for the parts, with @p free_state to free it; may be NULL.
 */
void lb_document_reply(struct lb_api_request *request, const char *content_type,
	const struct lb_document_part *parts, size_t n_parts, const struct lb_service *service, void *state,
	void (*free_state)(void *state));

/* The documents of one API that wait for their next slice. */
struct lb_documents;

/** NULL without memory. */
struct lb_documents *lb_documents_create(struct event_base *base);
/** None of its documents may be left. NULL is allowed. */
void lb_documents_destroy(struct lb_documents *documents);

#endif
