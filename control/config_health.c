/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the config says of health: checks (of a service, and what a backend changes of it), the agent, passive
 * suspicion. One table of a check's keys serves reading, writing and comparing.
 */
#include "control/config_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define N(array) (sizeof(array) / sizeof((array)[0]))
#define BIT(n) (1u << (n))

#define ANY (BIT(LB_CHECK_TCP) | BIT(LB_CHECK_EXEC) | WEB | BIT(LB_CHECK_UDP) | BIT(LB_CHECK_DNS))
#define WEB (BIT(LB_CHECK_HTTP) | BIT(LB_CHECK_HTTPS))

enum {
	C_TYPE, C_PORT, C_PATH, C_HOST, C_SNI, C_VERIFY, C_CA_FILE, C_EXPECT_STATUS, C_EXPECT_BODY,
	C_WEIGHT_HEADER, C_SEND, C_EXPECT, C_QUERY, C_RECORD, C_COMMAND, C_INTERVAL, C_TIMEOUT,
	C_RISE, C_FALL, C_N
};

static bool is_path(const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c <= ' ' || *c > '~')
			return false;
	return text[0] == '/';
}

static bool is_host(const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c <= ' ' || *c > '~' || strchr("/?#@\\\"<>", *c))
			return false;
	return true;
}

/*
 * A substring may have line breaks, but no characters that YAML cannot carry unescaped: C0 and C1 controls,
 * U+2028 and U+2029, byte-order marks and non-characters (YAML 1.1, section 5.1).
 */
static bool is_body_text(const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if ((*c < ' ' && !strchr("\t\n\r", *c)) || *c == 0x7f)
			return false;
		if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f)
			return false;
		if (c[0] == 0xe2 && c[1] == 0x80 && (c[2] == 0xa8 || c[2] == 0xa9))
			return false;
		if (c[0] == 0xef && c[1] == 0xbb && c[2] == 0xbf)
			return false;
		if (c[0] == 0xef && c[1] == 0xbf && c[2] >= 0xbe)
			return false;
	}
	return true;
}

static bool is_payload(const char *text)
{
	size_t n;

	return is_body_text(text) && lb_check_unescape(text, NULL, &n) == 0;
}

/* A name to ask for: labels of 1..63 printable characters; "." is the root. */
static bool is_query(const char *text)
{
	if (!strcmp(text, "."))
		return true;
	while (*text) {
		size_t n = strcspn(text, ".");

		if (n == 0 || n > 63)
			return false;
		for (size_t i = 0; i < n; i++)
			if (text[i] <= ' ' || text[i] > '~' || strchr("\\\"", text[i]))
				return false;
		text += n + (text[n] == '.');
	}
	return true;
}

#define MAX_COMMAND_ARGS 64u
#define MAX_COMMAND_BYTES 4096u

static const struct text_key {
	unsigned key;
	size_t offset, max_bytes;
	bool (*is_ok)(const char *text);
	const char *expected, *reset;
} text_keys[] = {
	{C_PATH, offsetof(struct lb_config_check, path), LB_CONFIG_MAX_PATH_BYTES, is_path,
		"a path that begins with / (at most 1024 characters, no spaces)", "/"},
	{C_HOST, offsetof(struct lb_config_check, host), LB_CONFIG_MAX_HOST_BYTES, is_host,
		"a host name, with :PORT if need be", NULL},
	{C_SNI, offsetof(struct lb_config_check, sni), LB_CONFIG_HOST_MAX, lb_config_is_host_name,
		"a host name without a port", NULL},
	{C_CA_FILE, offsetof(struct lb_config_check, ca_file), LB_CONFIG_MAX_PATH_BYTES, is_path,
		"the absolute path of a PEM file (at most 1024 characters, no spaces)", NULL},
	{C_EXPECT_BODY, offsetof(struct lb_config_check, expect_body), LB_CONFIG_MAX_BODY_BYTES,
		is_body_text, "a text of 1..1024 bytes without control characters", NULL},
	{C_SEND, offsetof(struct lb_config_check, send), LB_CONFIG_MAX_BODY_BYTES, is_payload,
		LB_CONFIG_PAYLOAD_EXPECTED, NULL},
	{C_EXPECT, offsetof(struct lb_config_check, expect), LB_CONFIG_MAX_BODY_BYTES, is_payload,
		LB_CONFIG_PAYLOAD_EXPECTED, NULL},
	{C_QUERY, offsetof(struct lb_config_check, query), LB_CONFIG_HOST_MAX, is_query,
		"a domain name (labels of at most 63 characters), or \".\"", NULL},
};

static const struct {
	const char *name;
	uint32_t types; /* bits of enum lb_check_type that it has a meaning with */
} keys[C_N] = {
	[C_TYPE] = {"type", UINT32_MAX},
	[C_PORT] = {"port", ANY},
	[C_PATH] = {"path", WEB},
	[C_HOST] = {"host", WEB},
	[C_SNI] = {"sni", BIT(LB_CHECK_HTTPS)},
	[C_VERIFY] = {"verify", BIT(LB_CHECK_HTTPS)},
	[C_CA_FILE] = {"ca_file", BIT(LB_CHECK_HTTPS)},
	[C_EXPECT_STATUS] = {"expect_status", WEB},
	[C_EXPECT_BODY] = {"expect_body", WEB},
	[C_WEIGHT_HEADER] = {"weight_header", WEB},
	[C_SEND] = {"send", BIT(LB_CHECK_UDP)},
	[C_EXPECT] = {"expect", BIT(LB_CHECK_UDP)},
	[C_QUERY] = {"query", BIT(LB_CHECK_DNS)},
	[C_RECORD] = {"record", BIT(LB_CHECK_DNS)},
	[C_COMMAND] = {"command", BIT(LB_CHECK_EXEC)},
	[C_INTERVAL] = {"interval", ANY},
	[C_TIMEOUT] = {"timeout", ANY},
	[C_RISE] = {"rise", ANY},
	[C_FALL] = {"fall", ANY},
};

static bool applies(enum lb_check_type type, unsigned key)
{
	return keys[key].types & BIT(type);
}

static char **text_at(struct lb_config_check *check, const struct text_key *key)
{
	return (char **)((char *)check + key->offset);
}

static const char *const_text_at(const struct lb_config_check *check, const struct text_key *key)
{
	return *(char *const *)((const char *)check + key->offset);
}

/* Reading. */

bool lb_config_is_host_name(const char *text)
{
	const char *last = text;

	if (strlen(text) > LB_CONFIG_HOST_MAX)
		return false;
	for (const char *label = text; *label;) {
		size_t n = strcspn(label, ".");

		if (n == 0 || n > 63 || label[0] == '-' || label[n - 1] == '-')
			return false;
		for (size_t i = 0; i < n; i++)
			if (!isascii(label[i]) || !(isalnum(label[i]) || strchr("-_", label[i])))
				return false;
		last = label;
		label += n;
		if (*label == '.' && *++label == '\0')
			return false; // names are absolute here: the dot at the end goes without saying
	}
	// What ends in a number is an address gone wrong (WHATWG URL, "ends in a number checker");
	// localhost is loopback (RFC 6761, 6.3).
	return *last && last[strspn(last, "0123456789")] && strcasecmp(last, "localhost");
}

/* In a change, null or an empty text takes an optional value back to its default. */
static bool is_reset(const struct lb_config_reader *reader, const struct lb_node *node)
{
	return !reader->rc && !reader->file && node && node->kind == LB_NODE_SCALAR &&
		(node->is_null || node->len_bytes == 0);
}

static void read_optional_text(struct lb_config_reader *reader, const struct lb_node *node,
	const struct text_key *key, char **value)
{
	char *copy = NULL;

	if (!is_reset(reader, node)) {
		lb_config_read_string(reader, node, key->max_bytes, key->is_ok, key->expected, value);
		return;
	}
	if (key->reset) {
		copy = strdup(key->reset);
		if (!copy) {
			reader->rc = -ENOMEM;
			return;
		}
	}
	free(*value);
	*value = copy;
}

/* Append one argument with its NUL. */
static void read_argument(struct lb_config_reader *reader, const struct lb_node *node, bool is_first,
	struct lb_config_check *check)
{
	char *text = NULL, *more;
	size_t n;

	lb_config_read_string(reader, node, LB_CONFIG_MAX_PATH_BYTES, is_first ? is_path : is_body_text,
		is_first ? "the absolute path of a program (no spaces: arguments are items of a list)" :
		"a text of 1..1024 bytes without control characters", &text);
	if (reader->rc)
		goto out;
	n = strlen(text) + 1;
	if (check->command_bytes + n > MAX_COMMAND_BYTES) {
		lb_config_fail(reader, node, "expected at most %u bytes of program and arguments",
			MAX_COMMAND_BYTES);
		goto out;
	}
	more = realloc(check->command, check->command_bytes + n);
	if (!more) {
		reader->rc = -ENOMEM;
		goto out;
	}
	memcpy(more + check->command_bytes, text, n);
	check->command = more;
	check->command_bytes += (uint32_t)n;
out:
	free(text);
}

static void read_command(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_check *check)
{
	char found[LB_CONFIG_FOUND_BYTES];

	if (!node || reader->rc)
		return;
	free(check->command);
	check->command = NULL;
	check->command_bytes = 0;
	if (node->kind == LB_NODE_SCALAR)
		read_argument(reader, node, true, check);
	else if (node->kind != LB_NODE_LIST || node->n_children == 0 ||
		node->n_children > MAX_COMMAND_ARGS)
		lb_config_fail(reader, node,
			"expected a program, or a list of it and its arguments (at most %u), found %s",
			MAX_COMMAND_ARGS, lb_config_found(node, found));
	else
		for (const struct lb_node *child = node->first; child && !reader->rc;
			child = child->next)
			read_argument(reader, child, child->index == 0, check);
}

static void read_values(struct lb_config_reader *reader, const struct lb_node *const *v,
	struct lb_config_check *check)
{
	unsigned record = check->record;

	if (is_reset(reader, v[C_PORT]))
		check->port = 0;
	else
		lb_config_read_u16(reader, v[C_PORT], 1, 65535, &check->port);
	for (size_t i = 0; i < N(text_keys); i++)
		read_optional_text(reader, v[text_keys[i].key], &text_keys[i],
			text_at(check, &text_keys[i]));
	lb_config_read_bool(reader, v[C_VERIFY], &check->verify);
	lb_config_read_bool(reader, v[C_WEIGHT_HEADER], &check->weight_header);
	lb_config_read_status(reader, v[C_EXPECT_STATUS], &check->expect_status_min,
		&check->expect_status_max);
	lb_config_read_enum(reader, v[C_RECORD], "record", lb_check_record_name, LB_CHECK_N_RECORDS,
		&record);
	check->record = (uint16_t)record;
	read_command(reader, v[C_COMMAND], check);
	lb_config_read_duration(reader, v[C_INTERVAL], LB_CONFIG_MIN_INTERVAL_MS,
		LB_CONFIG_MAX_INTERVAL_MS, &check->interval_ms);
	lb_config_read_duration(reader, v[C_TIMEOUT], LB_CONFIG_MIN_TIMEOUT_MS,
		LB_CONFIG_MAX_INTERVAL_MS, &check->timeout_ms);
	lb_config_read_u32(reader, v[C_RISE], 1, LB_CONFIG_MAX_RISE_FALL, &check->rise);
	lb_config_read_u32(reader, v[C_FALL], 1, LB_CONFIG_MAX_RISE_FALL, &check->fall);
}

/* The keys of @node, with their type; @return false after a failure. */
static bool read_keys(struct lb_config_reader *reader, const struct lb_node *node,
	enum lb_check_type *type, const struct lb_node **v)
{
	const char *names[C_N];
	unsigned new_type = *type;

	for (unsigned i = 0; i < C_N; i++)
		names[i] = keys[i].name;
	if (lb_config_read_keys(reader, node, names, C_N, v))
		return false;
	lb_config_read_enum(reader, v[C_TYPE], "type", lb_config_check_type_text, LB_CHECK_TYPE_N,
		&new_type);
	*type = (enum lb_check_type)new_type;
	for (unsigned i = 0; i < C_N; i++)
		if (v[i] && !applies(*type, i))
			lb_config_fail_key(reader, v[i], "key \"%s\" has no meaning with type %s",
				keys[i].name, lb_check_type_name(*type));
	return !reader->rc;
}

/* What a type cannot do without, and what belongs together. */
static void judge(struct lb_config_reader *reader, const struct lb_node *node,
	const struct lb_node *const *v, const struct lb_config_check *check)
{
	char timeout[LB_CONFIG_DURATION_BYTES], interval[LB_CONFIG_DURATION_BYTES];

	if (reader->rc)
		return;
	if (check->type == LB_CHECK_DNS && !check->query)
		lb_config_fail(reader, node, "a dns check needs the key \"query\", the name to ask for");
	else if (check->type == LB_CHECK_EXEC && !check->command)
		lb_config_fail(reader, node, "an exec check needs the key \"command\", the program to run");
	else if (check->timeout_ms > check->interval_ms)
		lb_config_fail(reader, v[C_TIMEOUT] ? v[C_TIMEOUT] :
			v[C_INTERVAL] ? v[C_INTERVAL] : node,
			"expected a timeout no longer than the interval, found timeout %s and interval %s",
			lb_config_format_duration(check->timeout_ms, timeout),
			lb_config_format_duration(check->interval_ms, interval));
}

static bool restart(struct lb_config_reader *reader, enum lb_check_type type,
	struct lb_config_check *check)
{
	lb_config_check_fini(check);
	if (lb_config_check_init(check, type))
		reader->rc = -ENOMEM;
	return !reader->rc;
}

void lb_config_read_check(struct lb_config_reader *reader, const struct lb_node *node, bool is_new,
	struct lb_config_check *check)
{
	const struct lb_node *v[C_N];
	enum lb_check_type type = check->type;

	if (!node || reader->rc || !read_keys(reader, node, &type, v))
		return;
	if (type != check->type) {
		if (!restart(reader, type, check))
			return;
		is_new = true;
	}
	read_values(reader, v, check);
	if (is_new && !v[C_TIMEOUT])
		check->timeout_ms = lb_config_default_timeout_ms(check->interval_ms);
	judge(reader, node, v, check);
}

/* What a backend changes of its service's check. */

static int copy_key(struct lb_config_check *to, const struct lb_config_check *from, unsigned key)
{
	for (size_t i = 0; i < N(text_keys); i++) {
		const char *text = const_text_at(from, &text_keys[i]);
		char *copy;

		if (text_keys[i].key != key)
			continue;
		copy = text ? strdup(text) : NULL;
		if (text && !copy)
			return -ENOMEM;
		free(*text_at(to, &text_keys[i]));
		*text_at(to, &text_keys[i]) = copy;
		return 0;
	}
	switch (key) {
	case C_PORT:
		to->port = from->port;
		break;
	case C_VERIFY:
		to->verify = from->verify;
		break;
	case C_WEIGHT_HEADER:
		to->weight_header = from->weight_header;
		break;
	case C_EXPECT_STATUS:
		to->expect_status_min = from->expect_status_min;
		to->expect_status_max = from->expect_status_max;
		break;
	case C_RECORD:
		to->record = from->record;
		break;
	case C_COMMAND:
		free(to->command);
		to->command_bytes = from->command_bytes;
		to->command = malloc(from->command_bytes + 1);
		if (!to->command)
			return -ENOMEM;
		if (from->command)
			memcpy(to->command, from->command, from->command_bytes);
		break;
	case C_INTERVAL:
		to->interval_ms = from->interval_ms;
		break;
	case C_TIMEOUT:
		to->timeout_ms = from->timeout_ms;
		break;
	case C_RISE:
		to->rise = from->rise;
		break;
	case C_FALL:
		to->fall = from->fall;
		break;
	default:
		break;
	}
	return 0;
}

/* Make backend->check of the service's check and the backend's own keys. */
static int derive(const struct lb_config_service *service, struct lb_config_backend *backend)
{
	struct lb_config_check own = backend->check;
	uint32_t given = backend->check_keys;
	bool is_other = (given & BIT(C_TYPE)) && own.type != service->check.type;
	int rc = is_other ? lb_config_check_init(&backend->check, own.type) :
		lb_config_check_copy(&backend->check, &service->check);

	for (unsigned i = 0; i < C_N && !rc; i++)
		if ((given & BIT(i)) && applies(backend->check.type, i))
			rc = copy_key(&backend->check, &own, i);
	if (!(given & BIT(C_TIMEOUT)) &&
		(is_other || backend->check.timeout_ms > backend->check.interval_ms))
		backend->check.timeout_ms = lb_config_default_timeout_ms(backend->check.interval_ms);
	lb_config_check_fini(&own);
	return rc;
}

static void forget(struct lb_config_backend *backend)
{
	if (backend->check_keys)
		lb_config_check_fini(&backend->check);
	memset(&backend->check, 0, sizeof(backend->check));
	backend->check_keys = 0;
}

void lb_config_read_own_check(struct lb_config_reader *reader, const struct lb_node *node,
	const struct lb_config_service *service, struct lb_config_backend *backend)
{
	const struct lb_node *v[C_N];
	enum lb_check_type type = backend->check_keys ? backend->check.type : service->check.type;

	if (!node || reader->rc)
		return;
	if (is_reset(reader, node)) {
		forget(backend);
		return;
	}
	if (!read_keys(reader, node, &type, v))
		return;
	if (!backend->check_keys && lb_config_check_init(&backend->check, type)) {
		reader->rc = -ENOMEM;
		return;
	}
	backend->check_keys |= BIT(C_TYPE); // owns its memory from here on, whatever follows
	if (!v[C_TYPE] && type == service->check.type)
		backend->check_keys &= ~BIT(C_TYPE);
	for (unsigned i = 0; i < C_N; i++)
		if (v[i] && !is_reset(reader, v[i]))
			backend->check_keys |= BIT(i);
		else if (v[i] || !applies(type, i))
			backend->check_keys &= ~BIT(i);
	backend->check.type = type;
	read_values(reader, v, &backend->check);
	if (!reader->rc && backend->check_keys == 0 && reader->file)
		lb_config_fail(reader, node, "an empty mapping: leave it out to have the service's check");
	if (!reader->rc && derive(service, backend))
		reader->rc = -ENOMEM;
	judge(reader, node, v, &backend->check);
	if (backend->check_keys == 0) {
		lb_config_check_fini(&backend->check);
		memset(&backend->check, 0, sizeof(backend->check));
	}
}

void lb_config_rederive_checks(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_service *service)
{
	const struct lb_node *none[C_N] = {NULL};

	for (size_t i = 0; i < service->n_backends && !reader->rc; i++) {
		struct lb_config_backend *backend = &service->backends[i];
		enum lb_check_type type;

		if (!backend->check_keys)
			continue;
		type = backend->check_keys & BIT(C_TYPE) ? backend->check.type : service->check.type;
		for (unsigned j = 0; j < C_N && !reader->rc; j++)
			if ((backend->check_keys & BIT(j)) && !applies(type, j))
				lb_config_fail(reader, node,
					"backend %s has a \"%s\" of its own, which has no meaning with "
					"type %s: change the backend first", backend->name, keys[j].name,
					lb_check_type_name(type));
		if (!reader->rc && derive(service, backend))
			reader->rc = -ENOMEM;
		judge(reader, node, none, &backend->check);
	}
}

const struct lb_config_check *lb_config_check_of(const struct lb_config_service *service,
	const struct lb_config_backend *backend)
{
	return backend->check_keys ? &backend->check : &service->check;
}

/* The agent, and passive suspicion. */

static const struct text_key agent_send = {
	C_SEND, 0, LB_CONFIG_MAX_BODY_BYTES, is_payload, LB_CONFIG_PAYLOAD_EXPECTED, NULL};

void lb_config_agent_init(struct lb_config_agent *agent)
{
	*agent = (struct lb_config_agent){.interval_ms = LB_CHECK_DEFAULT_INTERVAL_MS,
		.timeout_ms = LB_CHECK_DEFAULT_TIMEOUT_MS};
}

void lb_config_read_agent(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_agent *agent)
{
	enum { PORT, INTERVAL, TIMEOUT, SEND, N_KEYS };
	static const char *const names[N_KEYS] = {"port", "interval", "timeout", "send"};
	char timeout[LB_CONFIG_DURATION_BYTES], interval[LB_CONFIG_DURATION_BYTES];
	const struct lb_node *v[N_KEYS];
	bool is_new = agent->port == 0;

	if (!node || reader->rc)
		return;
	if (is_reset(reader, node)) {
		free(agent->send);
		lb_config_agent_init(agent);
		return;
	}
	if (lb_config_read_keys(reader, node, names, N_KEYS, v))
		return;
	if (is_new && !v[PORT])
		lb_config_fail(reader, node, "an agent needs the key \"port\"");
	lb_config_read_u16(reader, v[PORT], 1, 65535, &agent->port);
	lb_config_read_duration(reader, v[INTERVAL], LB_CONFIG_MIN_INTERVAL_MS,
		LB_CONFIG_MAX_INTERVAL_MS, &agent->interval_ms);
	if (is_new)
		agent->timeout_ms = lb_config_default_timeout_ms(agent->interval_ms);
	lb_config_read_duration(reader, v[TIMEOUT], LB_CONFIG_MIN_TIMEOUT_MS,
		LB_CONFIG_MAX_INTERVAL_MS, &agent->timeout_ms);
	read_optional_text(reader, v[SEND], &agent_send, &agent->send);
	if (!reader->rc && agent->timeout_ms > agent->interval_ms)
		lb_config_fail(reader, v[TIMEOUT] ? v[TIMEOUT] : v[INTERVAL],
			"expected a timeout no longer than the interval, found timeout %s and interval %s",
			lb_config_format_duration(agent->timeout_ms, timeout),
			lb_config_format_duration(agent->interval_ms, interval));
}

void lb_config_passive_init(struct lb_config_passive *passive, bool is_tcp)
{
	*passive = (struct lb_config_passive){.enabled = is_tcp,
		.min_flows = LB_CONFIG_DEFAULT_MIN_FLOWS, .refused_percent = LB_CONFIG_DEFAULT_REFUSED};
}

void lb_config_read_passive(struct lb_config_reader *reader, const struct lb_node *node,
	struct lb_config_passive *passive)
{
	enum { ENABLED, MIN_FLOWS, REFUSED, N_KEYS };
	static const char *const names[N_KEYS] = {"enabled", "min_flows", "refused_percent"};
	const struct lb_node *v[N_KEYS];

	if (!node || reader->rc || lb_config_read_keys(reader, node, names, N_KEYS, v))
		return;
	lb_config_read_bool(reader, v[ENABLED], &passive->enabled);
	lb_config_read_u32(reader, v[MIN_FLOWS], 1, 1000000, &passive->min_flows);
	lb_config_read_u32(reader, v[REFUSED], 1, 100, &passive->refused_percent);
}

/* Writing. */

static void status_text(const struct lb_config_check *check, char text[16])
{
	snprintf(text, 16, "%u-%u", check->expect_status_min, check->expect_status_max);
}

static json_t *command_json(const struct lb_config_check *check)
{
	json_t *list = json_array();

	for (uint32_t at = 0; list && at < check->command_bytes;
		at += (uint32_t)strlen(check->command + at) + 1)
		json_array_append_new(list, json_string(check->command + at));
	return list;
}

/* The value of a key as the config has it; NULL: it has none. */
static json_t *value_json(const struct lb_config_check *check, unsigned key)
{
	char text[LB_CONFIG_DURATION_BYTES];

	for (size_t i = 0; i < N(text_keys); i++)
		if (text_keys[i].key == key)
			return const_text_at(check, &text_keys[i]) ?
				json_string(const_text_at(check, &text_keys[i])) : NULL;
	switch (key) {
	case C_TYPE:
		return json_string(lb_check_type_name(check->type));
	case C_PORT:
		return check->port ? json_integer(check->port) : NULL;
	case C_VERIFY:
		return json_boolean(check->verify);
	case C_WEIGHT_HEADER:
		return json_boolean(check->weight_header);
	case C_EXPECT_STATUS:
		status_text(check, text);
		return json_string(text);
	case C_RECORD:
		return json_string(lb_check_record_name(check->record));
	case C_COMMAND:
		return check->command ? command_json(check) : NULL;
	case C_INTERVAL:
		return json_string(lb_config_format_duration(check->interval_ms, text));
	case C_TIMEOUT:
		return json_string(lb_config_format_duration(check->timeout_ms, text));
	case C_RISE:
		return json_integer(check->rise);
	default:
		return json_integer(check->fall);
	}
}

/* Whether @check says the same of @key as one of its type that says nothing. */
static bool is_default(const struct lb_config_check *check, unsigned key)
{
	switch (key) {
	case C_TYPE:
		return false;
	case C_PATH:
		return !check->path || !strcmp(check->path, "/");
	case C_VERIFY:
		return check->verify;
	case C_WEIGHT_HEADER:
		return check->weight_header;
	case C_EXPECT_STATUS:
		return check->expect_status_min == LB_CHECK_DEFAULT_STATUS_MIN &&
			check->expect_status_max == LB_CHECK_DEFAULT_STATUS_MAX;
	case C_RECORD:
		return check->record == LB_CHECK_DEFAULT_RECORD;
	case C_INTERVAL:
		return check->interval_ms == LB_CHECK_DEFAULT_INTERVAL_MS;
	case C_TIMEOUT:
		return check->timeout_ms == lb_config_default_timeout_ms(check->interval_ms);
	case C_RISE:
		return check->rise == LB_CHECK_DEFAULT_RISE;
	case C_FALL:
		return check->fall == LB_CHECK_DEFAULT_FALL;
	default:
		return false; // without a value it is left out anyway
	}
}

json_t *lb_config_check_json(const struct lb_config_check *check, uint32_t own_keys)
{
	json_t *object = json_object();

	for (unsigned i = 0; object && i < C_N; i++) {
		json_t *value;

		if (own_keys ? !(own_keys & BIT(i)) : is_default(check, i) || !applies(check->type, i))
			continue;
		value = value_json(check, i);
		if (value && json_object_set_new(object, keys[i].name, value)) {
			json_decref(object);
			object = NULL;
		}
	}
	return object;
}

json_t *lb_config_agent_json(const struct lb_config_agent *agent)
{
	char text[LB_CONFIG_DURATION_BYTES];
	json_t *object = json_object();
	int rc = json_object_set_new(object, "port", json_integer(agent->port));

	if (agent->interval_ms != LB_CHECK_DEFAULT_INTERVAL_MS)
		rc |= json_object_set_new(object, "interval",
			json_string(lb_config_format_duration(agent->interval_ms, text)));
	if (agent->timeout_ms != lb_config_default_timeout_ms(agent->interval_ms))
		rc |= json_object_set_new(object, "timeout",
			json_string(lb_config_format_duration(agent->timeout_ms, text)));
	if (agent->send)
		rc |= json_object_set_new(object, "send", json_string(agent->send));
	if (!rc)
		return object;
	json_decref(object);
	return NULL;
}

json_t *lb_config_passive_json(const struct lb_config_passive *passive, bool is_tcp)
{
	json_t *object = json_object();
	int rc = object ? 0 : -1;

	if (passive->enabled != is_tcp)
		rc |= json_object_set_new(object, "enabled", json_boolean(passive->enabled));
	if (passive->min_flows != LB_CONFIG_DEFAULT_MIN_FLOWS)
		rc |= json_object_set_new(object, "min_flows", json_integer(passive->min_flows));
	if (passive->refused_percent != LB_CONFIG_DEFAULT_REFUSED)
		rc |= json_object_set_new(object, "refused_percent",
			json_integer(passive->refused_percent));
	if (!rc)
		return object;
	json_decref(object);
	return NULL;
}

/* Comparing. */

/* A value as a text to be shown, into @buf; NULL: none. */
static const char *value_text(const struct lb_config_check *check, unsigned key, char *buf, size_t bytes)
{
	json_t *value = value_json(check, key);
	size_t n = 0;

	if (!value)
		return key == C_PORT ? "the backend's" : NULL;
	if (json_is_string(value))
		snprintf(buf, bytes, "%s", json_string_value(value));
	else if (json_is_boolean(value))
		snprintf(buf, bytes, "%s", json_is_true(value) ? "true" : "false");
	else if (json_is_integer(value))
		snprintf(buf, bytes, "%lld", (long long)json_integer_value(value));
	else
		for (size_t i = 0; i < json_array_size(value) && n < bytes; i++)
			n += (size_t)snprintf(buf + n, bytes - n, "%s%s", i ? " " : "",
				json_string_value(json_array_get(value, i)));
	json_decref(value);
	return buf;
}

static bool is_text(unsigned key)
{
	for (size_t i = 0; i < N(text_keys); i++)
		if (text_keys[i].key == key)
			return true;
	return key == C_COMMAND;
}

void lb_config_check_differ(const struct lb_config_check *from, const struct lb_config_check *to,
	lb_config_differ_fn *differ, void *arg)
{
	char a[MAX_COMMAND_BYTES + 1], b[MAX_COMMAND_BYTES + 1], name[40];

	for (unsigned i = 0; i < C_N; i++) {
		const char *x = NULL, *y = NULL;

		if (!applies(from->type, i) && !applies(to->type, i))
			continue;
		x = value_text(from, i, a, sizeof(a));
		y = value_text(to, i, b, sizeof(b));
		snprintf(name, sizeof(name), "health_check.%s", keys[i].name);
		differ(arg, name, is_text(i), x, y);
	}
}

void lb_config_agent_differ(const struct lb_config_agent *from, const struct lb_config_agent *to,
	lb_config_differ_fn *differ, void *arg)
{
	char a[LB_CONFIG_DURATION_BYTES], b[LB_CONFIG_DURATION_BYTES];

	snprintf(a, sizeof(a), "%u", from->port);
	snprintf(b, sizeof(b), "%u", to->port);
	differ(arg, "agent.port", false, from->port ? a : NULL, to->port ? b : NULL);
	differ(arg, "agent.interval", false, lb_config_format_duration(from->interval_ms, a),
		lb_config_format_duration(to->interval_ms, b));
	differ(arg, "agent.timeout", false, lb_config_format_duration(from->timeout_ms, a),
		lb_config_format_duration(to->timeout_ms, b));
	differ(arg, "agent.send", true, from->send, to->send);
}

void lb_config_passive_differ(const struct lb_config_passive *from,
	const struct lb_config_passive *to, lb_config_differ_fn *differ, void *arg)
{
	char a[16], b[16];

	differ(arg, "passive.enabled", false, from->enabled ? "true" : "false",
		to->enabled ? "true" : "false");
	snprintf(a, sizeof(a), "%u", from->min_flows);
	snprintf(b, sizeof(b), "%u", to->min_flows);
	differ(arg, "passive.min_flows", false, a, b);
	snprintf(a, sizeof(a), "%u", from->refused_percent);
	snprintf(b, sizeof(b), "%u", to->refused_percent);
	differ(arg, "passive.refused_percent", false, a, b);
}
