/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_CONFIG_H
#define LB_CONTROL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>

#include <jansson.h>

#include "lb/addr.h"
#include "lb/msg.h"
#include "lb/shm.h"

/*
 * A configuration: what a YAML (or JSON) text says, with defaults filled in and everything validated. It
 * holds no run-time state. Strings and arrays are owned by the config.
 */

#define LB_CONFIG_NAME_MAX 63       /* of names: [A-Za-z0-9._:\[\]-], no leading '-', not only dots */
#define LB_CONFIG_MAX_WEIGHT 256u
#define LB_CONFIG_MAX_TIER 7u
#define LB_CONFIG_MAX_LOCAL_ADDRESSES LB_MAX_LOCALS
#define LB_CONFIG_MAX_RESOLVERS 8u
#define LB_CONFIG_HOST_MAX 253 /* characters of a host name; RFC 1035, 2.3.4 */
#define LB_CONFIG_MAX_BYTES (64u << 20) /* of a config text */

enum lb_check_type {
	LB_CHECK_NONE, LB_CHECK_TCP, LB_CHECK_HTTP, LB_CHECK_HTTPS, LB_CHECK_UDP, LB_CHECK_DNS,
	LB_CHECK_EXEC, LB_CHECK_TYPE_N,
	LB_CHECK_AGENT = LB_CHECK_TYPE_N, /* not for `type`: the engine's, see lb_config_agent */
};

enum lb_admin_state { LB_ADMIN_ENABLED, LB_ADMIN_DRAIN, LB_ADMIN_DISABLED };

#define LB_CHECK_DEFAULT_STATUS_MIN 200u
#define LB_CHECK_DEFAULT_STATUS_MAX 399u
#define LB_CHECK_DEFAULT_INTERVAL_MS 2000u
#define LB_CHECK_DEFAULT_TIMEOUT_MS 1000u /* or the interval, if that is shorter */
#define LB_CHECK_DEFAULT_RISE 2u
#define LB_CHECK_DEFAULT_FALL 3u
#define LB_CHECK_DEFAULT_RECORD 0u /* A */
#define LB_CHECK_N_RECORDS 11u

struct lb_config_check {
	enum lb_check_type type; /* default: tcp for tcp services, none for udp */
	uint16_t port;           /* host byte order; 0: the backend's */
	char *path;              /* http, https: default "/"; else NULL */
	char *host;              /* http, https: Host header; NULL: the backend's address */
	char *expect_body;       /* http, https: substring; NULL: any */
	uint16_t expect_status_min, expect_status_max; /* default 200-399 */
	char *sni;               /* https: name in the handshake and certificate; NULL: that of `host`, or none */
	bool verify;             /* https: the server's certificate; default true */
	char *ca_file;           /* https: whom to trust; NULL: whom the system trusts */
	bool weight_header;      /* http, https: X-LB-Weight is heeded; default true */
	char *send, *expect;     /* udp; agent: send. With escapes, see lb_check_unescape(); NULL: none */
	char *query;             /* dns: the name to ask for */
	uint16_t record;         /* dns: index for lb_check_record_name() */
	char *command;           /* exec: program and arguments, each with its NUL */
	uint32_t command_bytes;  /* of all of them with their NULs */
	uint32_t interval_ms;    /* default 2000 */
	uint32_t timeout_ms;     /* default 1000 or the interval, if that is shorter; at most the interval */
	uint32_t rise, fall;     /* default 2, 3 */
};

/** The defaults of a check of @p type; owns no string yet except the path of http(s). @return 0, -ENOMEM. */
int lb_config_check_init(struct lb_config_check *check, enum lb_check_type type);
void lb_config_check_fini(struct lb_config_check *check);

/** A deep copy into @p to, whatever that held. @return 0; -ENOMEM, with @p to empty. */
int lb_config_check_copy(struct lb_config_check *to, const struct lb_config_check *from);
bool lb_config_check_equal(const struct lb_config_check *a, const struct lb_config_check *b);

/**
 * What a text with \xHH, \r, \n, \t and \\ stands for.
 * @param bytes room for strlen(text) bytes; NULL: only checked and counted.
 * @return 0 and @p n; -EINVAL another escape.
 */
int lb_check_unescape(const char *text, uint8_t *bytes, size_t *n);

/** "A", "AAAA", ... and their numbers in the protocol; "?" and 0 from LB_CHECK_N_RECORDS on. */
const char *lb_check_record_name(unsigned i);
uint16_t lb_check_record_value(unsigned i);

/* Someone beside the backend who tells its weight and state: HAProxy's agent-check. */
struct lb_config_agent {
	uint16_t port; /* host byte order; 0: there is none */
	char *send;    /* with escapes; NULL: it is not asked */
	uint32_t interval_ms, timeout_ms;
};

/* Suspicion by what passes: see passive.c. */
struct lb_config_passive {
	bool enabled;             /* default: for tcp */
	uint32_t min_flows;       /* new flows of a backend in a second that tell something; default 3 */
	uint32_t refused_percent; /* resets per new flow that are a refusal; default 50 */
};

struct lb_config_backend {
	char *name;    /* default: "ADDRESS:PORT", "[ADDRESS]:PORT", with port 0 "ADDRESS:all" */
	char *address; /* as written: an IP address or a host name */
	bool is_host;  /* `address` is a name, endpoint.addr is unspecified */
	char *host;    /* not of a config text: the name that this is an address of (expand.h); else NULL */
	bool is_gone;  /* then: the name has this address no more */
	struct lb_endpoint endpoint; /* port 0 only with a service of port 0 */
	uint32_t weight; /* default 1 */
	uint32_t tier;   /* default 0; `backup: true` is tier 1 */
	enum lb_admin_state admin; /* key `state: enabled | drain | disabled` */
	uint32_t check_keys; /* of its own check: bits of what it says itself; 0: the service's check */
	struct lb_config_check check; /* then: that of the service with those keys changed */
	unsigned line;
};

struct lb_config_service {
	char *name;
	struct lb_service_key key; /* VIP, port (0: all), protocol */
	enum lb_mode mode;
	enum lb_scheduler scheduler;
	uint32_t table_size;
	enum lb_tracking tracking;
	enum lb_client_address client_address;
	uint32_t idle_timeout_ms;
	enum lb_on_empty on_empty;
	uint32_t min_healthy;
	uint32_t slow_start_ms;
	uint16_t mss; /* LB_MSS_NONE, LB_MSS_AUTO, or the largest; AUTO where the mode has no use for it */
	uint16_t gue_port; /* host byte order; 0 but for mode gue: default 6080 */
	uint16_t max_load_percent;  /* 0: none; of maglev, ring, source */
	uint16_t panic_threshold;   /* per cent; 0: never */
	struct lb_config_check check;
	struct lb_config_agent agent;
	struct lb_config_passive passive;
	struct lb_config_backend *backends;
	size_t n_backends;
	unsigned line;
	unsigned n_refs; /* configs that it is in; see lb_config_clone() */
	char *text;      /* lb_config_service_text()'s; NULL: not made yet */
};

/* A kernel interface whose neighbours and routes are reached through a port, beside that port's own. */
#define LB_CONFIG_MAX_INTERFACES 1000u
struct lb_config_interface {
	char name[16]; /* IFNAMSIZ */
	uint16_t port;
	uint16_t vlan; /* LB_VLAN_NONE, or 1..LB_VLAN_MAX */
};

struct lb_config {
	bool has_secret;
	uint8_t secret[16];
	char secret_where[300]; /* the place in its text, as in struct lb_config_error */
	struct lb_addr *local_addresses;
	size_t n_local_addresses;
	bool has_gateway;
	uint8_t gateway_mac[6];
	uint16_t gateway_port; /* DPDK port id */
	uint16_t port_vlans[LB_SHM_MAX_PORTS];   /* LB_VLAN_*, by DPDK port; default KEEP */
	struct lb_config_interface *interfaces; /* those of each port together, ports in their order */
	size_t n_interfaces;
	struct lb_endpoint *resolvers; /* name servers; none: /etc/resolv.conf */
	size_t n_resolvers;
	uint32_t resolve_min_ms, resolve_max_ms; /* bounds of how long an answer is used; default 5s, 5m */
	uint32_t announce_table; /* routing table of the kernel; 0: VIPs are not announced */
	struct lb_config_service **services;
	size_t n_services;
};

/*
 * Where and why something was refused; one line each, for "WHERE: MESSAGE". A text: "FILE:LINE" ("FILE" if the
 * whole of it is meant). A change: the key's path in the body ("weight", "backends[0].weight", "" for the body
 * itself), or, in conflict with others, the object ("service web backend api-1 address").
 */
struct lb_config_error {
	char where[300];
	char message[500]; /* what is wrong and what was expected; also with -ENOMEM */
	unsigned line, column; /* from 1; 0: unknown, or not of a text */
	unsigned retry_s;      /* -EAGAIN of lb_model_apply(): seconds after which it may be taken; 0: unknown */
};

/**
 * Parse and validate @p text (@p len bytes; YAML or JSON; NUL, tabs as indentation, invalid UTF-8, aliases,
 * anchors, duplicate and unknown keys are errors).
 * @param file  name for messages; NULL: "config".
 * @param error cleared first, filled on failure.
 * @return 0 and @p out, to be freed with lb_config_free(); -EINVAL and @p error; -ENOMEM.
 */
int lb_config_parse(const char *file, const char *text, size_t len, struct lb_config **out,
	struct lb_config_error *error);

/** Read a file (at most LB_CONFIG_MAX_BYTES) and parse it. @return as above; -errno of open/read, with @p error. */
int lb_config_load(const char *file, struct lb_config **out, struct lb_config_error *error);

void lb_config_free(struct lb_config *config);

/**
 * A copy that shares the services, which thus may not be changed where they are, but only be put in the place of
 * one another: so a change costs what it changes. NULL without memory.
 */
struct lb_config *lb_config_clone(const struct lb_config *config);

/** Let @p config share the services that @p other has just so (but for their place in a text). */
void lb_config_share(struct lb_config *config, const struct lb_config *other);

/**
 * The service as one line of JSON, as in lb_config_to_json(); made once, and the service's. Two services with the
 * same text are equal. NULL without memory.
 */
const char *lb_config_service_text(struct lb_config_service *service);

/** The whole config as one line of JSON, for a machine; the caller frees. NULL without memory. */
char *lb_config_to_text(const struct lb_config *config);

/**
 * The whole config as YAML text that parses back to an equal config; keys in the order of docs/config.md,
 * defaults left out except mode, the check's type and weights; without services `services: none`. The
 * caller frees. NULL without memory.
 */
char *lb_config_to_yaml(const struct lb_config *config);

/** Its pieces, in their order: what stands before the services, a service without its backends, a backend. @return false: no memory. */
bool lb_config_write_yaml_globals(FILE *out, const struct lb_config *config);
bool lb_config_write_yaml_service(FILE *out, const struct lb_config_service *service);
bool lb_config_write_yaml_backend(FILE *out, const struct lb_config_backend *backend);

/** The same as JSON; new reference. */
json_t *lb_config_to_json(const struct lb_config *config);
/** All of it but the services. */
json_t *lb_config_globals_json(const struct lb_config *config);

/**
 * Changes of one object, as the API takes them: a JSON object with config keys, e.g. {"weight": 3}.
 * A scalar may also be a JSON string, read as an unquoted YAML scalar: {"weight": "3"} (lbctl sends these).
 * null or "" takes an optional text of the check back to its default. A set changes only the keys given; a name
 * cannot be changed. They edit @p config in place after validating the result as a whole; on error nothing has
 * changed. On success, pointers into the config from before are no longer valid.
 * The caller should have refused duplicate keys (JSON_REJECT_DUPLICATES): here they cannot be seen any more.
 * @return 0; -EINVAL bad keys or values, -ENOENT no such service/backend, -EEXIST name, VIP or endpoint taken;
 * -ENOMEM.
 */
int lb_config_service_add(struct lb_config *config, json_t *object, struct lb_config_error *error);
int lb_config_service_set(struct lb_config *config, const char *service, json_t *object,
	struct lb_config_error *error);
int lb_config_service_del(struct lb_config *config, const char *service, struct lb_config_error *error);
int lb_config_backend_add(struct lb_config *config, const char *service, json_t *object,
	struct lb_config_error *error);
int lb_config_backend_set(struct lb_config *config, const char *service, const char *backend,
	json_t *object, struct lb_config_error *error);
int lb_config_backend_del(struct lb_config *config, const char *service, const char *backend,
	struct lb_config_error *error);

/** The check that applies to @p backend: its own or that of @p service. */
const struct lb_config_check *lb_config_check_of(const struct lb_config_service *service,
	const struct lb_config_backend *backend);

/** Find by name, looking at one after the other; NULL: none. */
struct lb_config_service *lb_config_find_service(const struct lb_config *config, const char *name);
struct lb_config_backend *lb_config_find_backend(const struct lb_config_service *service,
	const char *name);

/** Called once per difference between two configs: globals, then services in their order. Texts are one line. */
typedef void lb_config_diff_fn(void *arg, char sign, const char *path, const char *text);

/**
 * Differences, services and backends matched by name. @p sign is '+', '-' or '~'; @p path is e.g.
 * "service web backend api-1"; @p text e.g. "weight 5 -> 3". Order makes no difference; the backends of a
 * service that comes or goes are not told one by one; the secret is never shown. @p fn may be NULL.
 * @return their number.
 */
size_t lb_config_diff(const struct lb_config *from, const struct lb_config *to, lb_config_diff_fn *fn,
	void *arg);

const char *lb_check_type_name(enum lb_check_type type);
const char *lb_admin_state_name(enum lb_admin_state state);
const char *lb_client_address_name(enum lb_client_address client_address);

#endif
