/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_CONFIG_INTERNAL_H
#define LB_CONTROL_CONFIG_INTERNAL_H

/* Shared by config*.c only. */

#include <stdarg.h>
#include <stdio.h>

#include "control/config.h"
#include "control/config_node.h"

#define LB_CONFIG_MAX_PATH_BYTES 1024u /* of a check's path */
#define LB_CONFIG_MAX_HOST_BYTES 255u  /* RFC 1035: a name */
#define LB_CONFIG_MAX_BODY_BYTES 1024u /* of expect_body */
#define LB_CONFIG_MIN_INTERVAL_MS 100u
#define LB_CONFIG_MAX_INTERVAL_MS 3600000u
#define LB_CONFIG_MIN_TIMEOUT_MS 10u
#define LB_CONFIG_MIN_SLOW_START_MS 1000u
#define LB_CONFIG_MAX_RISE_FALL 100u

#define LB_CONFIG_DEFAULT_TABLE_SIZE 65537u
#define LB_CONFIG_DEFAULT_GUE_PORT 6080u /* IANA: gue */
#define LB_CONFIG_DEFAULT_WEIGHT 1u
#define LB_CONFIG_DEFAULT_MIN_FLOWS 3u /* of passive */
#define LB_CONFIG_DEFAULT_REFUSED 50u
#define LB_CONFIG_DEFAULT_RESOLVE_MIN_MS 5000u
#define LB_CONFIG_DEFAULT_RESOLVE_MAX_MS 300000u
#define LB_CONFIG_PAYLOAD_EXPECTED                                                                  \
	"a text of 1..1024 bytes without control characters, with \\xHH, \\r, \\n, \\t and \\\\ for others " \
	"(in single quotes)"

#define LB_CONFIG_DEFAULT_NAME_BYTES (LB_CONFIG_HOST_MAX + 8)

/* A text being read: where it is from and what went wrong first. */
struct lb_config_reader {
	const char *file;   /* NULL: an API body */
	const struct lb_node *root; /* NULL: no text */
	/* A change: the object that it is about, to be named first in a conflict. */
	bool has_subject;
	size_t subject_service;
	ssize_t subject_backend; /* -1: the service itself */
	struct lb_config_error *error;
	int rc; /* of the first failure: once set, nothing more is read */
};

/** Refuse @p node (NULL: the root): fill in place and reason, unless something failed before. @return -EINVAL. */
int lb_config_fail(struct lb_config_reader *reader, const struct lb_node *node, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** Where @p node stands, as a failure would tell. */
void lb_config_place(const struct lb_config_reader *reader, const struct lb_node *node, char *buf, size_t bytes);

/** As lb_config_fail(), with the place of the node's key. */
int lb_config_fail_key(struct lb_config_reader *reader, const struct lb_node *node, const char *fmt,
	...) __attribute__((format(printf, 3, 4)));

/**
 * The same for a finding about a whole: the place is key @p key (NULL: the object) of backend @p backend
 * (-1: the service) of service @p service of @p config. @p rc is -EINVAL or -EEXIST.
 */
int lb_config_fail_at(struct lb_config_reader *reader, int rc, const struct lb_config *config,
	size_t service, ssize_t backend, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 7, 8)));

/**
 * Sort the children of mapping @p node by key into @p values (n_keys; absent: NULL). An unknown or
 * duplicate key is refused. @return reader->rc.
 */
int lb_config_read_keys(struct lb_config_reader *reader, const struct lb_node *node,
	const char *const *keys, size_t n_keys, const struct lb_node **values);

/*
 * Readers of one value. Without @p node, or after a failure, they leave the target alone, so that
 * defaults and the present values of a change stay.
 */
void lb_config_read_u32(struct lb_config_reader *reader, const struct lb_node *node, uint32_t min,
	uint32_t max, uint32_t *value);
void lb_config_read_u16(struct lb_config_reader *reader, const struct lb_node *node, uint16_t min,
	uint16_t max, uint16_t *value);
void lb_config_read_bool(struct lb_config_reader *reader, const struct lb_node *node, bool *value);
void lb_config_read_duration(struct lb_config_reader *reader, const struct lb_node *node,
	uint32_t min_ms, uint32_t max_ms, uint32_t *value_ms);
/** A decimal number of at most two places, as per cent: `1.25` is 125. `none`: 0. */
void lb_config_read_ratio(struct lb_config_reader *reader, const struct lb_node *node,
	uint16_t min_percent, uint16_t max_percent, uint16_t *percent);
/** 1..LB_VLAN_MAX, `none`, and `keep` if @p may_keep. */
void lb_config_read_vlan(struct lb_config_reader *reader, const struct lb_node *node, bool may_keep,
	uint16_t *vlan);
/** LB_MSS_MIN..MAX, `auto` or `none`; in a change null or "": auto. */
void lb_config_read_mss(struct lb_config_reader *reader, const struct lb_node *node, uint16_t *mss);
/** 1..65535, or `all`: 0. */
void lb_config_read_port_be(struct lb_config_reader *reader, const struct lb_node *node,
	uint16_t *port_be);
/** One of @p n names, as @p name_of gives them for 0..n-1; refused if this version lacks it. */
void lb_config_read_enum(struct lb_config_reader *reader, const struct lb_node *node,
	const char *key, const char *(*name_of)(unsigned value), unsigned n, unsigned *value);
/** @p what: "a VIP", for the message. */
void lb_config_read_addr(struct lb_config_reader *reader, const struct lb_node *node,
	const char *what, struct lb_addr *addr);
/** A new string of at most @p max_bytes; @p is_ok judges it (NULL: any), @p expected describes it. */
void lb_config_read_string(struct lb_config_reader *reader, const struct lb_node *node,
	size_t max_bytes, bool (*is_ok)(const char *text), const char *expected, char **value);
void lb_config_read_mac(struct lb_config_reader *reader, const struct lb_node *node, uint8_t mac[6]);
void lb_config_read_secret(struct lb_config_reader *reader, const struct lb_node *node,
	uint8_t secret[16]);
/** `200` or `200-399`. */
void lb_config_read_status(struct lb_config_reader *reader, const struct lb_node *node,
	uint16_t *min, uint16_t *max);
/** A service's or backend's name. */
void lb_config_read_name(struct lb_config_reader *reader, const struct lb_node *node, char **name);

/** Describe what stands at @p node for a message ("300", "a list", "nothing") into @p buf. @return @p buf. */
#define LB_CONFIG_FOUND_BYTES 100
const char *lb_config_found(const struct lb_node *node, char buf[LB_CONFIG_FOUND_BYTES]);

/** The one of @p n words that is nearest to @p text if it is near, else NULL. */
const char *lb_config_suggest(const char *text, const char *const *words, size_t n);

/* What the text means: config_read.c. */

/** Read a whole config; @p config is zeroed by the caller and freed by it in every case. */
int lb_config_read(struct lb_config_reader *reader, struct lb_config *config);

/**
 * Read a service. @p is_new: fill in defaults and insist on the required keys; else only the keys given
 * change. @p service is to be freed in every case.
 */
int lb_config_read_service(struct lb_config_reader *reader, const struct lb_node *node, bool is_new,
	struct lb_config_service *service);

/** As lb_config_read_service(), for a backend of @p service. */
int lb_config_read_backend(struct lb_config_reader *reader, const struct lb_node *node, bool is_new,
	const struct lb_config_service *service, struct lb_config_backend *backend);

/** Whether this version refuses @p value (as text) of @p key. */
bool lb_config_is_unsupported(const char *key, const char *value);

/** A backend's name when the config gives none, into @p buf. @return @p buf. */
char *lb_config_backend_default_name(const struct lb_config_backend *backend,
	char buf[LB_CONFIG_DEFAULT_NAME_BYTES]);

/** "ADDRESS:PORT", "[ADDRESS]:PORT", with port 0 "ADDRESS:all", into @p buf. @return @p buf. */
char *lb_config_default_name(const struct lb_endpoint *endpoint, char buf[LB_ENDPOINT_STRLEN]);

uint32_t lb_config_default_idle_ms(uint8_t proto);
uint32_t lb_config_default_timeout_ms(uint32_t interval_ms);

/* Health: config_health.c. */

/** Letters, digits, "-" and "_" in labels of 1..63, no dot at the end, and not what could be a wrong address. */
bool lb_config_is_host_name(const char *text);

/** @p check is initialised; without `type` the keys given change what it has. */
void lb_config_read_check(struct lb_config_reader *reader, const struct lb_node *node, bool is_new,
	struct lb_config_check *check);

/** `health_check` of a backend: the keys given, over the service's check. null: no check of its own. */
void lb_config_read_own_check(struct lb_config_reader *reader, const struct lb_node *node,
	const struct lb_config_service *service, struct lb_config_backend *backend);

/** The service's check has changed: make those of its backends anew. */
void lb_config_rederive_checks(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_service *service);

void lb_config_agent_init(struct lb_config_agent *agent);
void lb_config_read_agent(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_agent *agent);
void lb_config_passive_init(struct lb_config_passive *passive, bool is_tcp);
void lb_config_read_passive(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_passive *passive);

/** @p own_keys 0: what is no default; else: these keys. New references; NULL without memory. */
json_t *lb_config_check_json(const struct lb_config_check *check, uint32_t own_keys);
json_t *lb_config_agent_json(const struct lb_config_agent *agent);
json_t *lb_config_passive_json(const struct lb_config_passive *passive, bool is_tcp);

/** Called for each key; the texts may be equal, or NULL for none. @p is_free: any text, to be quoted if need be. */
typedef void lb_config_differ_fn(void *arg, const char *key, bool is_free, const char *from,
	const char *to);
void lb_config_check_differ(const struct lb_config_check *from, const struct lb_config_check *to,
	lb_config_differ_fn *differ, void *arg);
void lb_config_agent_differ(const struct lb_config_agent *from, const struct lb_config_agent *to,
	lb_config_differ_fn *differ, void *arg);
void lb_config_passive_differ(const struct lb_config_passive *from,
	const struct lb_config_passive *to, lb_config_differ_fn *differ, void *arg);

/* Validation of the whole: config_check.c. */

/**
 * Everything that involves more than one object. @p reader names the text that @p config was read from
 * (lines), or only .error (names). @return 0; -EINVAL; -EEXIST a name, VIP or endpoint is taken; -ENOMEM.
 */
int lb_config_check_all(struct lb_config_reader *reader, const struct lb_config *config);

/**
 * The same for a config that was valid before its service reader->subject_service (with reader->has_subject; else none)
 * was added or changed: by what concerns that one.
 */
int lb_config_check_change(struct lb_config_reader *reader, const struct lb_config *config);

/**
 * Take out of @p config the backends with a host (addresses of names) that could not stand in a config text beside
 * the others, telling why. @return 0; -ENOMEM.
 */
int lb_config_drop_conflicts(struct lb_config *config,
	void (*dropped)(void *arg, const struct lb_config_service *service,
		const struct lb_config_backend *backend, const char *why), void *arg);

/* Lifecycle: config.c. */

/** @return 0; -ENOMEM, with @p to fit for lb_config_backend_fini(). */
int lb_config_backend_clone(struct lb_config_backend *to, const struct lb_config_backend *from);
int lb_config_service_clone(struct lb_config_service *to, const struct lb_config_service *from);
void lb_config_service_fini(struct lb_config_service *service);
/** A zeroed service for one config. NULL without memory. */
struct lb_config_service *lb_config_service_new(void);
/** One config less has it. NULL is allowed. */
void lb_config_service_unref(struct lb_config_service *service);
void lb_config_backend_fini(struct lb_config_backend *backend);

/** Write @p text as a YAML scalar: as it is if every reader takes it for a text, else quoted. */
void lb_config_write_text(FILE *out, const char *text);

/** "1.25" for 125 per cent, without needless zeros; "none" for 0. */
#define LB_CONFIG_RATIO_BYTES 16
char *lb_config_format_ratio(uint16_t percent, char buf[LB_CONFIG_RATIO_BYTES]);

/** "keep", "none" or the number. */
#define LB_CONFIG_VLAN_BYTES 8
char *lb_config_format_vlan(uint16_t vlan, char buf[LB_CONFIG_VLAN_BYTES]);

/** "auto", "none" or the number. */
#define LB_CONFIG_MSS_BYTES 8
char *lb_config_format_mss(uint16_t mss, char buf[LB_CONFIG_MSS_BYTES]);

/** "250ms", "2s", "15m", "1h": the largest unit that divides it. */
#define LB_CONFIG_DURATION_BYTES 16
char *lb_config_format_duration(uint32_t value_ms, char buf[LB_CONFIG_DURATION_BYTES]);
const char *lb_config_protocol_name(unsigned proto);

/** For lb_config_read_enum(): lb_check_type_name() etc. over unsigned. */
const char *lb_config_check_type_text(unsigned type);
const char *lb_config_admin_text(unsigned state);
const char *lb_config_client_address_text(unsigned client_address);

#endif
