/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/parser.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

struct lb_parse_job {
	STAILQ_ENTRY(lb_parse_job) link;
	char *file;
	struct evbuffer *text;
	lb_parser_done *done; /* the loop's; NULL: nobody waits */
	void *arg;
	/* The thread's until it is in `finished`. */
	int rc;
	struct lb_config *config;
	struct lb_config_error error;
};
STAILQ_HEAD(job_queue, lb_parse_job);

struct lb_parser {
	struct event *readable;
	int event_fd; /* the thread writes, the loop reads */
	bool has_thread;
	pthread_t thread;

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	struct job_queue waiting, finished;
	bool stop;
};

static void job_free(struct lb_parse_job *job)
{
	lb_config_free(job->config);
	evbuffer_free(job->text);
	free(job->file);
	free(job);
}

/* The thread. */

static const char *text_of(struct lb_parse_job *job, size_t *len)
{
	const char *text;

	*len = evbuffer_get_length(job->text);
	text = *len > 0 ? (const char *)evbuffer_pullup(job->text, -1) : "";
	return text;
}

static void parse(struct lb_parse_job *job)
{
	size_t len;
	const char *text = text_of(job, &len);

	job->rc = text != NULL ? lb_config_parse(job->file, text, len, &job->config, &job->error) : -ENOMEM;
	// what the loop compares them by
	for (size_t i = 0; job->rc == 0 && i < job->config->n_services; i++)
		(void)lb_config_service_text(job->config->services[i]);
}

static void *run(void *arg)
{
	struct lb_parser *parser = arg;
	// who does nothing but compute makes way for those who wait, also for a data plane's main lcore on the same CPU
	struct sched_param none = {0};

	(void)sched_setscheduler(0, SCHED_BATCH, &none); // of this thread
	pthread_mutex_lock(&parser->lock);
	while (!parser->stop) {
		struct lb_parse_job *job = STAILQ_FIRST(&parser->waiting);

		if (job == NULL) {
			pthread_cond_wait(&parser->changed, &parser->lock);
			continue;
		}
		STAILQ_REMOVE_HEAD(&parser->waiting, link);
		pthread_mutex_unlock(&parser->lock);
		parse(job);
		pthread_mutex_lock(&parser->lock);
		STAILQ_INSERT_TAIL(&parser->finished, job, link);
		(void)eventfd_write(parser->event_fd, 1);
	}
	pthread_mutex_unlock(&parser->lock);
	return NULL;
}

/* The loop. */

static void on_finished(evutil_socket_t fd, short what, void *arg)
{
	struct lb_parser *parser = arg;
	struct job_queue finished = STAILQ_HEAD_INITIALIZER(finished);
	struct lb_parse_job *job;
	eventfd_t n;
	size_t len;

	(void)what;
	(void)eventfd_read(fd, &n);
	pthread_mutex_lock(&parser->lock);
	STAILQ_CONCAT(&finished, &parser->finished);
	pthread_mutex_unlock(&parser->lock);
	while ((job = STAILQ_FIRST(&finished)) != NULL) {
		struct lb_config *config = job->config;
		const char *text = text_of(job, &len);

		STAILQ_REMOVE_HEAD(&finished, link);
		if (job->done != NULL) {
			job->config = NULL;
			job->done(job->arg, job->rc, config, &job->error, text, len);
		}
		job_free(job);
	}
}

struct lb_parser *lb_parser_create(struct event_base *base)
{
	struct lb_parser *parser = calloc(1, sizeof(*parser));

	if (parser == NULL)
		return NULL;
	STAILQ_INIT(&parser->waiting);
	STAILQ_INIT(&parser->finished);
	pthread_mutex_init(&parser->lock, NULL);
	pthread_cond_init(&parser->changed, NULL);
	parser->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (parser->event_fd >= 0)
		parser->readable = event_new(base, parser->event_fd, EV_READ | EV_PERSIST, on_finished, parser);
	if (parser->readable != NULL && event_add(parser->readable, NULL) == 0)
		return parser;
	lb_parser_destroy(parser);
	return NULL;
}

static void free_all(struct job_queue *queue)
{
	struct lb_parse_job *job;

	while ((job = STAILQ_FIRST(queue)) != NULL) {
		STAILQ_REMOVE_HEAD(queue, link);
		job_free(job);
	}
}

void lb_parser_destroy(struct lb_parser *parser)
{
	if (parser == NULL)
		return;
	pthread_mutex_lock(&parser->lock);
	parser->stop = true;
	pthread_cond_signal(&parser->changed);
	pthread_mutex_unlock(&parser->lock);
	if (parser->has_thread)
		pthread_join(parser->thread, NULL);
	free_all(&parser->waiting);
	free_all(&parser->finished);
	if (parser->readable != NULL)
		event_free(parser->readable);
	if (parser->event_fd >= 0)
		close(parser->event_fd);
	pthread_cond_destroy(&parser->changed);
	pthread_mutex_destroy(&parser->lock);
	free(parser);
}

static bool start_thread(struct lb_parser *parser)
{
	sigset_t all, before;

	if (parser->has_thread)
		return true;
	// signals are the loop's
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	parser->has_thread = pthread_create(&parser->thread, NULL, run, parser) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return parser->has_thread;
}

struct lb_parse_job *lb_parser_submit(struct lb_parser *parser, const char *file, struct evbuffer *text,
	lb_parser_done *done, void *arg)
{
	struct lb_parse_job *job;

	if (!start_thread(parser))
		return NULL;
	job = calloc(1, sizeof(*job));
	if (job == NULL)
		return NULL;
	job->done = done;
	job->arg = arg;
	job->text = evbuffer_new();
	job->file = file != NULL ? strdup(file) : NULL;
	if (job->text == NULL || (file != NULL && job->file == NULL) || evbuffer_add_buffer(job->text, text) < 0) {
		if (job->text != NULL)
			evbuffer_free(job->text);
		free(job->file);
		free(job);
		return NULL;
	}
	pthread_mutex_lock(&parser->lock);
	STAILQ_INSERT_TAIL(&parser->waiting, job, link);
	pthread_cond_signal(&parser->changed);
	pthread_mutex_unlock(&parser->lock);
	return job;
}

void lb_parser_cancel(struct lb_parser *parser, struct lb_parse_job *job)
{
	struct lb_parse_job *waiting;

	job->done = NULL;
	pthread_mutex_lock(&parser->lock);
	STAILQ_FOREACH (waiting, &parser->waiting, link)
		if (waiting == job)
			break;
	if (waiting != NULL)
		STAILQ_REMOVE(&parser->waiting, job, lb_parse_job, link);
	pthread_mutex_unlock(&parser->lock);
	if (waiting != NULL)
		job_free(job);
}
