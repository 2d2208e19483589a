/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_MODEL_H
#define LB_CONTROL_MODEL_H

#include <limits.h>

#include <sys/queue.h>

#include "control/agent.h"
#include "control/config.h"
#include "control/dp.h"
#include "control/events.h"
#include "control/forwarding.h"
#include "control/health.h"
#include "control/ids.h"
#include "control/names.h"
#include "control/nexthop.h"
#include "control/parser.h"
#include "control/rest.h"
#include "control/table.h"

/*
 * The running state: the config in force and, for each of its services and backends, what goes
 * beyond the config: ids, health, effective state, the lookup table, and what the data plane was
 * last told. Everything belongs to the loop's thread.
 *
 * Changes flow one way. A config is applied (model.c), health or admin state changes an effective
 * state (model.c), the service is marked dirty; at the end of the loop turn each dirty service is
 * compared with what the data plane was told, and the difference is sent in an order that loses no
 * packet (push.c).
 */

struct lb_service;
struct lb_model;

/* What the counters of a backend did in a second; see passive.h. */
struct lb_passive_second {
	uint64_t new_flows, out_pkts, resets;
};

struct lb_backend {
	struct lb_service *service;
	const struct lb_config_backend *config; /* in model->running */
	struct lb_endpoint endpoint;            /* with the service's key what the id stands for */
	uint16_t id;
	uint64_t born; /* model->n_born when it came: no other has it, while ids come again */
	bool blocked; /* its endpoint is still another id's at the data plane */
	bool kept;    /* used while a config is applied */

	struct lb_health_check *check;
	enum lb_health_state health;
	enum lb_backend_state effective;
	bool eligible; /* for the table that is wanted */
	uint8_t ramp;  /* slow start: per cent of its weight; 0: none under way (ramp.h) */
	uint64_t ramp_began_ns; /* CLOCK_MONOTONIC */
	TAILQ_ENTRY(lb_backend) ramp_link;
	bool was_judged;        /* its state is no longer that of the daemon's start */
	uint64_t since_ns;   /* CLOCK_REALTIME of the last change of `effective` */
	bool suspect;              /* what passes says that it does not answer; see passive.h */
	char suspect_why[64];      /* of the last suspicion */
	uint64_t suspect_ns;       /* of that one; CLOCK_MONOTONIC; 0: there was none */
	bool is_seen;              /* passive.c has looked at its counters: `seen`, `second` */
	struct lb_passive_second seen, second;

	uint8_t agent_percent; /* of its weight, as it asks for itself; 100: all */
	struct lb_health_check *agent; /* backend_agent.c's; NULL: none */
	enum lb_agent_admin agent_admin;
	enum lb_agent_oper agent_oper;
	enum { LB_WEIGHT_BY_CONFIG, LB_WEIGHT_BY_HEADER, LB_WEIGHT_BY_AGENT } weight_by;
	char agent_says[64];

	struct lb_nexthop *nexthop;          /* a reference; NULL: none known */
	const char *nexthop_why;             /* then: why not */
	uint32_t n_slots;                    /* of service->table, if its counts are valid */
	struct lb_backend_counters baseline; /* of the id when it was assigned */

	bool sent; /* the data plane was told of it, last as sent_msg */
	struct lb_msg_backend sent_msg;
	TAILQ_ENTRY(lb_backend) gone_link; /* in service->gone */
	LIST_ENTRY(lb_backend) endpoint_link; /* then: in model->gone_endpoints */
};

struct lb_service {
	struct lb_model *model;
	const struct lb_config_service *config;
	struct lb_service_key key; /* with the mode what the id stands for */
	enum lb_mode mode;
	uint16_t id;
	uint64_t born; /* as a backend's */
	struct lb_backend **backends; /* in the order of the config */
	size_t n_backends;
	/* Backends that the config lost and the data plane still has. */
	TAILQ_HEAD(, lb_backend) gone;

	bool kept;       /* used while a config is applied */
	bool vip_is_own; /* an address of this host, whose kernel may answer too */

	bool dirty;
	bool blocked;           /* one of its backends is */
	bool table_pending;     /* a publication is not answered yet */
	struct lb_table *table; /* as last published, or wanted while the data plane is down */
	bool counted;           /* n_slots of the backends are those of `table` */
	uint32_t table_version; /* of `table` */
	uint32_t live_version;  /* that the data plane confirmed; 0: none */
	uint64_t n_flows;       /* active when the last data plane went away */
	uint64_t stage_at_ns;   /* CLOCK_MONOTONIC: next moves of those that wait in it; 0: none do */
	int active_tier;        /* -1: none */
	enum lb_health_ignored health_ignored;
	const char *state;      /* "ok", "degraded", "down"; NULL: not judged yet */
	uint64_t baseline_no_backend;
	struct lb_health_histogram durations; /* of its backends' checks, since it is there */

	bool sent;
	struct lb_msg_service sent_msg;
};

/* A command that the data plane did not take. */
struct lb_refusal {
	uint64_t time_ns;
	const char *op;
	char subject[160];
	int status;
};
#define LB_N_REFUSALS 16u

/* Somebody who waits until the data plane has answered everything; see sync.h. */
struct lb_settle_waiter {
	TAILQ_ENTRY(lb_settle_waiter) link;
	void (*settled)(void *arg);
	void *arg;
};

#define LB_GONE_BUCKETS 65536u

struct lb_model {
	struct event_base *base;
	char instance[LB_INSTANCE_MAX + 1];
	char run_dir[PATH_MAX];
	char *config_file;
	uint64_t file_hash;            /* of the content of config_file when it was last loaded */
	struct lb_config *file_config; /* that content, parsed */
	uint64_t started_ns;
	bool is_starting; /* until the first config is in force */
	size_t n_resumed; /* changes on top of config_file, taken over at start */

	struct lb_config *config;  /* as it was written */
	struct lb_config *running; /* the same, or with addresses for host names: what objects refer to */
	struct lb_names *names;
	struct lb_parser *parser;
	struct event *renew; /* active when the addresses of names have changed */
	uint8_t secret[16];
	bool secret_refused; /* the data plane has another one, and flows by it */
	uint8_t refused_secret[16]; /* the one that it refused, if so */
	uint8_t dp_secret[16];      /* the last one that a data plane took: a config without one means this */
	bool dp_secret_known;       /* false: none took one yet, dp_secret is what the first may have */
	struct lb_ids *service_ids, *backend_ids;
	struct lb_rest *rest; /* of backend_ids */
	uint64_t n_born; /* services and backends that ever came */
	struct lb_service **services; /* in the order of the config */
	size_t n_services;
	struct lb_service *service_by_id[LB_MAX_SERVICES];
	struct lb_backend *backend_by_id[LB_MAX_BACKENDS + 1u];
	uint32_t slot_counts[LB_MAX_BACKENDS + 1u]; /* scratch of push.c, by backend id */
	size_t n_gone;                /* in service->gone of all services that stay */
	LIST_HEAD(, lb_backend) gone_endpoints[LB_GONE_BUCKETS]; /* they by the hash of their endpoint */

	struct lb_events *events;
	struct lb_health *health;
	struct lb_dp *dp;
	struct lb_nexthops *nexthops;
	struct lb_forwarding forwarding;
	struct lb_announce *announce; /* NULL in tests */
	uint64_t boot_id;     /* of the data plane last attached */
	uint64_t attached_ns; /* CLOCK_MONOTONIC */
	bool is_mirror_old;   /* of this region: nothing was written into it yet but what changed since */

	size_t n_object_events; /* of the config that is being applied */

	struct event *flush; /* active when something is dirty */
	struct event *ramp;  /* next step of a slow start */
	TAILQ_HEAD(, lb_backend) ramping;
	struct event *tick;  /* every second */
	TAILQ_HEAD(, lb_settle_waiter) waiters;
	struct lb_refusal refusals[LB_N_REFUSALS];
	uint64_t n_refusals; /* since start; the newest is at (n_refusals - 1) % LB_N_REFUSALS */
	uint64_t n_refusals_at_sync;  /* when the last sync began */
	struct event *resync;         /* pending after a refusal */
	unsigned resync_step;         /* how many syncs were refused in a row */
	uint64_t dp_events_window_ns; /* limit of what the data plane may put into the event log */
	unsigned n_dp_events;
};

/**
 * A model without services, attached to the data plane if there is one.
 * @param run_dir where state is kept; it exists.
 * @return 0; -ENOMEM, -EINVAL instance name, or -errno.
 */
int lb_model_create(struct event_base *base, const char *instance, const char *run_dir,
	const char *config_file, struct lb_model **out);
void lb_model_destroy(struct lb_model *model);

/**
 * Put @p config in force: assign ids, save, then change the running state and let the data plane
 * know.
 * @param config on success it belongs to the model.
 * @param cause  of the events: "api", "reload", "start"; a literal.
 * @return 0; -EBUSY it changes the secret under a running data plane; -EAGAIN the ids that it needs rest
 * (control/rest.h), error->retry_s says how long; -ENOSPC more ids than there are; -errno of saving; on failure @p error is set and nothing has changed.
 */
int lb_model_apply(struct lb_model *model, struct lb_config *config, const char *cause,
	struct lb_config_error *error);

/** Whether lb_model_apply() would refuse @p config for what it says. @return 0; -EBUSY as there,
 * with @p error. */
int lb_model_check(const struct lb_model *model, const struct lb_config *config,
	struct lb_config_error *error);

/** What the data plane does: `changed` also where `all` is configured and some worker's table is short of room. */
enum lb_tracking lb_model_tracking_now(const struct lb_service *service);

/** Find by name; NULL: none. */
struct lb_service *lb_model_service(const struct lb_model *model, const char *name);
struct lb_backend *lb_model_backend(const struct lb_service *service, const char *name);

/** Health and admin state say something new: recompute what follows. @p cause as in events. */
void lb_model_update_backend(struct lb_backend *backend, const char *cause);

/** Each second: let go of addresses that host names have lost and no flow needs. */
void lb_model_sweep_names(struct lb_model *model);

/**
 * The state of a backend in one word for people, with its reason into @p why (empty: there is none to tell):
 * "up", "suspect", "draining", "disabled", "down", "unknown" (not checked yet).
 */
const char *lb_backend_condition(const struct lb_backend *backend, char *why, size_t why_bytes);

/**
 * Let the backend take part with @p percent (0..100) of its configured weight: what it asks for itself, by
 * an agent for instance. 0: no new flows. The mirror keeps it over a restart. The base table stays;
 * a hash scheduler lets it give up slots of its own and moves no others. @p cause as in events.
 */
void lb_model_set_agent_weight(struct lb_backend *backend, unsigned percent, const char *cause);

/** Per cent of its configured weight that a backend has now: slow start and its own wish. */
unsigned lb_model_weight_percent(const struct lb_backend *backend);

/** "SERVICE/BACKEND" into @p buf of @p bytes. */
char *lb_backend_label(const struct lb_backend *backend, char *buf, size_t bytes);

/*
 * The names under which ids are kept: what a service (or backend) is to the data plane and may not
 * change while it has its id.
 */
#define LB_SERVICE_ID_KEY_MAX 80
#define LB_BACKEND_ID_KEY_MAX 144
void lb_service_id_key(
	const struct lb_service_key *key, enum lb_mode mode, char buf[LB_SERVICE_ID_KEY_MAX]);
void lb_backend_id_key(const struct lb_service_key *key, enum lb_mode mode,
	const struct lb_endpoint *endpoint, char buf[LB_BACKEND_ID_KEY_MAX]);

#endif
