/* SPDX-License-Identifier: BSD-3-Clause */
/* Single values of a config: reading them, and saying what is wrong with them. */
#include "control/config_internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Copy what may be printed, in one line and at most `max` bytes. */
static void printable(const char *text, size_t max, char *buf)
{
	size_t n = strlen(text), used = 0;

	for (size_t i = 0; i < n && used < max; i++)
		buf[used++] = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i];
	// Cut between characters, not within one.
	if (used == max && used < n)
		while (used > 0 && ((unsigned char)text[used] & 0xc0) == 0x80)
			used--;
	buf[used] = '\0';
	if (used < n)
		strcat(buf, "...");
}

const char *lb_config_found(const struct lb_node *node, char buf[LB_CONFIG_FOUND_BYTES])
{
	char text[64];

	if (node->kind == LB_NODE_LIST)
		return strcpy(buf, "a list");
	if (node->kind == LB_NODE_MAP)
		return strcpy(buf, "a mapping");
	if (!node->len_bytes)
		return strcpy(buf, node->is_plain ? "nothing" : "an empty text");
	printable(node->text, 48, text);
	snprintf(buf, LB_CONFIG_FOUND_BYTES, node->is_plain ? "%s" : "the text \"%s\"", text);
	return buf;
}

#define PATH_BYTES 200

static void set_where(struct lb_config_reader *reader, unsigned line, const char *path)
{
	struct lb_config_error *error = reader->error;

	if (reader->file && line)
		snprintf(error->where, sizeof(error->where), "%s:%u", reader->file, line);
	else if (reader->file)
		snprintf(error->where, sizeof(error->where), "%s", reader->file);
	else
		snprintf(error->where, sizeof(error->where), "%s", path);
}

void lb_config_place(const struct lb_config_reader *reader, const struct lb_node *node, char *buf, size_t bytes)
{
	struct lb_config_error error = {0};
	struct lb_config_reader copy = {.file = reader->file, .error = &error};
	char path[PATH_BYTES];

	lb_node_path(node, path, sizeof(path));
	set_where(&copy, node->line, path);
	snprintf(buf, bytes, "%s", error.where);
}

static void vfail(struct lb_config_reader *reader, unsigned line, unsigned column, const char *path,
	const char *fmt, va_list args)
{
	struct lb_config_error *error = reader->error;
	int used = 0;

	if (reader->rc)
		return;
	reader->rc = -EINVAL;
	set_where(reader, line, path);
	error->line = line;
	error->column = column;
	// In a file the line is the place, and the path says what stands there.
	error->message[0] = '\0';
	if (reader->file && *path)
		used = snprintf(error->message, sizeof(error->message), "%s: ", path);
	vsnprintf(error->message + used, sizeof(error->message) - (size_t)used, fmt, args);
}

int lb_config_fail(struct lb_config_reader *reader, const struct lb_node *node, const char *fmt, ...)
{
	char path[PATH_BYTES] = "";
	va_list args;

	if (node)
		lb_node_path(node, path, sizeof(path));
	va_start(args, fmt);
	vfail(reader, node ? node->line : 0, node ? node->column : 0, path, fmt, args);
	va_end(args);
	return reader->rc;
}

int lb_config_fail_key(struct lb_config_reader *reader, const struct lb_node *node, const char *fmt,
	...)
{
	char path[PATH_BYTES];
	va_list args;

	lb_node_path(node->parent, path, sizeof(path));
	va_start(args, fmt);
	vfail(reader, node->key_line, node->key_column, path, fmt, args);
	va_end(args);
	return reader->rc;
}

int lb_config_fail_at(struct lb_config_reader *reader, int rc, const struct lb_config *config,
	size_t service, ssize_t backend, const char *key, const char *fmt, ...)
{
	const struct lb_config_service *svc = config->services[service];
	const struct lb_node *node, *inner;
	char path[PATH_BYTES];
	unsigned line = 0, column = 0;
	va_list args;

	if (reader->rc)
		return reader->rc;
	if (reader->file) {
		node = lb_node_at(lb_node_get(reader->root, "services"), service);
		if (backend >= 0)
			node = lb_node_at(lb_node_get(node, "backends"), (size_t)backend);
		inner = key ? lb_node_get(node, key) : NULL;
		if (inner)
			node = inner;
		lb_node_path(node, path, sizeof(path));
		line = node->line;
		column = node->column;
	} else {
		snprintf(path, sizeof(path), "service %s%s%s%s%s", svc->name,
			backend >= 0 ? " backend " : "",
			backend >= 0 ? svc->backends[backend].name : "", key ? " " : "",
			key ? key : "");
	}
	va_start(args, fmt);
	vfail(reader, line, column, path, fmt, args);
	va_end(args);
	reader->rc = rc;
	return rc;
}

/* Edit distance with transpositions (optimal string alignment), of short words. */
#define MAX_WORD 24
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned d[MAX_WORD + 1][MAX_WORD + 1];

	for (unsigned i = 0; i <= n; i++)
		d[i][0] = i;
	for (unsigned j = 0; j <= m; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
			best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	}
	return d[n][m];
}

const char *lb_config_suggest(const char *text, const char *const *words, size_t n)
{
	const char *nearest = NULL;
	size_t len = strlen(text);
	unsigned best = len < 4 ? 1 : 2;

	if (len > MAX_WORD)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		unsigned d = strlen(words[i]) > MAX_WORD ? best + 1 : distance(text, words[i]);

		if (d < best || (d == best && !nearest)) {
			best = d;
			nearest = words[i];
		}
	}
	return nearest;
}

static int unknown_key(struct lb_config_reader *reader, const struct lb_node *node,
	const char *const *keys, size_t n_keys)
{
	const char *near = lb_config_suggest(node->key, keys, n_keys);
	char key[64], all[300];
	size_t used = 0;

	printable(node->key, 48, key);
	if (near)
		return lb_config_fail_key(reader, node,
			"unknown key \"%s\", did you mean \"%s\"?", key, near);
	if (!strcmp(key, "<<"))
		return lb_config_fail_key(reader, node, "a merge key (<<): not supported");
	all[0] = '\0';
	for (size_t i = 0; i < n_keys && used < sizeof(all); i++)
		used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "",
			keys[i]);
	return lb_config_fail_key(reader, node, "unknown key \"%s\", expected one of: %s", key,
		all);
}

int lb_config_read_keys(struct lb_config_reader *reader, const struct lb_node *node,
	const char *const *keys, size_t n_keys, const struct lb_node **values)
{
	char found[LB_CONFIG_FOUND_BYTES];

	for (size_t i = 0; i < n_keys; i++)
		values[i] = NULL;
	if (reader->rc)
		return reader->rc;
	if (node->kind != LB_NODE_MAP)
		return lb_config_fail(reader, node, "expected a mapping (KEY: VALUE), found %s",
			lb_config_found(node, found));
	for (const struct lb_node *child = node->first; child; child = child->next) {
		size_t i = 0;

		while (i < n_keys && strcmp(keys[i], child->key))
			i++;
		if (i == n_keys)
			return unknown_key(reader, child, keys, n_keys);
		if (values[i])
			return lb_config_fail_key(reader, child,
				"duplicate key \"%s\", first given on line %u", keys[i],
				values[i]->key_line);
		values[i] = child;
	}
	return 0;
}

/* Whether there is a scalar to read; null where a value is needed is refused. */
static bool is_scalar(struct lb_config_reader *reader, const struct lb_node *node,
	const char *expected)
{
	char found[LB_CONFIG_FOUND_BYTES];

	if (!node || reader->rc)
		return false;
	if (node->kind == LB_NODE_SCALAR && !node->is_null)
		return true;
	lb_config_fail(reader, node, "expected %s, found %s", expected,
		lb_config_found(node, found));
	return false;
}

static void refuse(struct lb_config_reader *reader, const struct lb_node *node,
	const char *expected)
{
	char found[LB_CONFIG_FOUND_BYTES];

	lb_config_fail(reader, node, "expected %s, found %s", expected,
		lb_config_found(node, found));
}

/* Decimal digits without sign, leading zero or more than 10 places; -EINVAL else. */
static int parse_digits(const char *text, size_t len, uint64_t *value)
{
	uint64_t v = 0;

	if (len == 0 || len > 10 || (text[0] == '0' && len > 1))
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		v = v * 10 + (uint64_t)(text[i] - '0');
	}
	*value = v;
	return 0;
}

void lb_config_read_u32(struct lb_config_reader *reader, const struct lb_node *node, uint32_t min,
	uint32_t max, uint32_t *value)
{
	char expected[64];
	uint64_t v;

	snprintf(expected, sizeof(expected), "a whole number %u..%u", min, max);
	if (!is_scalar(reader, node, expected))
		return;
	if (!node->is_plain || parse_digits(node->text, node->len_bytes, &v) || v < min || v > max)
		refuse(reader, node, expected);
	else
		*value = (uint32_t)v;
}

void lb_config_read_u16(struct lb_config_reader *reader, const struct lb_node *node, uint16_t min,
	uint16_t max, uint16_t *value)
{
	uint32_t v = *value;

	lb_config_read_u32(reader, node, min, max, &v);
	*value = (uint16_t)v;
}

void lb_config_read_bool(struct lb_config_reader *reader, const struct lb_node *node, bool *value)
{
	if (!is_scalar(reader, node, "true or false"))
		return;
	if (node->is_plain && !strcmp(node->text, "true"))
		*value = true;
	else if (node->is_plain && !strcmp(node->text, "false"))
		*value = false;
	else
		refuse(reader, node, "true or false");
}

static uint64_t unit_ms(const char *unit)
{
	static const struct {
		const char *name;
		uint64_t value_ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (!strcmp(unit, units[i].name))
			return units[i].value_ms;
	return 0;
}

void lb_config_read_duration(struct lb_config_reader *reader, const struct lb_node *node,
	uint32_t min_ms, uint32_t max_ms, uint32_t *value_ms)
{
	char found[LB_CONFIG_FOUND_BYTES], min[LB_CONFIG_DURATION_BYTES],
		max[LB_CONFIG_DURATION_BYTES];
	size_t n_digits;
	uint64_t v = 0, unit;

	if (!is_scalar(reader, node, "a duration such as 500ms, 2s, 15m or 1h"))
		return;
	n_digits = strspn(node->text, "0123456789");
	unit = unit_ms(node->text + n_digits);
	if (!parse_digits(node->text, n_digits, &v) && n_digits == node->len_bytes)
		lb_config_fail(reader, node,
			"expected a duration, found %s without a unit: write %ss for seconds or %sms for "
			"milliseconds", lb_config_found(node, found), node->text, node->text);
	else if (parse_digits(node->text, n_digits, &v) || !unit)
		lb_config_fail(reader, node,
			"expected a duration (a whole number with ms, s, m or h, such as 500ms), found %s",
			lb_config_found(node, found));
	else if (v * unit < min_ms || v * unit > max_ms)
		lb_config_fail(reader, node, "expected a duration %s..%s, found %s",
			lb_config_format_duration(min_ms, min),
			lb_config_format_duration(max_ms, max), lb_config_found(node, found));
	else
		*value_ms = (uint32_t)(v * unit);
}

/*
 * "2", "1.5", "1.25" as per cent; -EINVAL else. JSON writers make 3.8100000000000001 of 3.81: what is
 * nearest to two decimals is taken for these.
 */
static int parse_ratio(const char *text, size_t len, uint64_t *percent)
{
	double value;

	if (len == 0 || len > 24 || strspn(text, "0123456789.") != len || text[0] == '.' ||
		text[len - 1] == '.' || strchr(text, '.') != strrchr(text, '.') ||
		(text[0] == '0' && len > 1 && text[1] != '.'))
		return -EINVAL;
	value = strtod(text, NULL) * 100;
	if (value > UINT16_MAX)
		return -EINVAL;
	*percent = (uint64_t)(value + 0.5);
	return value - (double)*percent > -1e-6 && value - (double)*percent < 1e-6 ? 0 : -EINVAL;
}

void lb_config_read_ratio(struct lb_config_reader *reader, const struct lb_node *node,
	uint16_t min_percent, uint16_t max_percent, uint16_t *percent)
{
	char expected[80], min[LB_CONFIG_RATIO_BYTES], max[LB_CONFIG_RATIO_BYTES];
	uint64_t v;

	snprintf(expected, sizeof(expected), "a number %s..%s of at most two decimals, or none",
		lb_config_format_ratio(min_percent, min), lb_config_format_ratio(max_percent, max));
	if (!is_scalar(reader, node, expected))
		return;
	if (!strcmp(node->text, "none"))
		*percent = 0;
	else if (!node->is_plain || parse_ratio(node->text, node->len_bytes, &v) ||
		v < min_percent || v > max_percent)
		refuse(reader, node, expected);
	else
		*percent = (uint16_t)v;
}

void lb_config_read_vlan(struct lb_config_reader *reader, const struct lb_node *node, bool may_keep,
	uint16_t *vlan)
{
	const char *expected = may_keep ? "a VLAN 1..4094, keep or none" : "a VLAN 1..4094 or none";
	uint64_t v;

	if (!is_scalar(reader, node, expected))
		return;
	if (!strcmp(node->text, "none"))
		*vlan = LB_VLAN_NONE;
	else if (may_keep && !strcmp(node->text, "keep"))
		*vlan = LB_VLAN_KEEP;
	else if (!node->is_plain || parse_digits(node->text, node->len_bytes, &v) || v < 1 ||
		v > LB_VLAN_MAX)
		refuse(reader, node, expected);
	else
		*vlan = (uint16_t)v;
}

void lb_config_read_mss(struct lb_config_reader *reader, const struct lb_node *node, uint16_t *mss)
{
	char expected[64];
	uint64_t v;

	// in a change, null or an empty text takes it back to its default
	if (!reader->rc && !reader->file && node && node->kind == LB_NODE_SCALAR &&
		(node->is_null || node->len_bytes == 0)) {
		*mss = LB_MSS_AUTO;
		return;
	}
	snprintf(expected, sizeof(expected), "a whole number %u..%u, auto or none", LB_MSS_MIN,
		LB_MSS_MAX);
	if (!is_scalar(reader, node, expected))
		return;
	if (!strcmp(node->text, "none"))
		*mss = LB_MSS_NONE;
	else if (!strcmp(node->text, "auto"))
		*mss = LB_MSS_AUTO;
	else if (!node->is_plain || parse_digits(node->text, node->len_bytes, &v) ||
		v < LB_MSS_MIN || v > LB_MSS_MAX)
		refuse(reader, node, expected);
	else
		*mss = (uint16_t)v;
}

void lb_config_read_port_be(struct lb_config_reader *reader, const struct lb_node *node,
	uint16_t *port_be)
{
	uint64_t v;

	if (!is_scalar(reader, node, "a port 1..65535 or all"))
		return;
	if (!strcmp(node->text, "all"))
		*port_be = 0;
	else if (!node->is_plain || parse_digits(node->text, node->len_bytes, &v) || v < 1 ||
		v > 65535)
		refuse(reader, node, "a port 1..65535 or all");
	else
		*port_be = htons((uint16_t)v);
}

#define MAX_ENUM 16
void lb_config_read_enum(struct lb_config_reader *reader, const struct lb_node *node,
	const char *key, const char *(*name_of)(unsigned value), unsigned n, unsigned *value)
{
	char found[LB_CONFIG_FOUND_BYTES], all[200];
	const char *names[MAX_ENUM], *near;
	size_t used = 0, n_names = 0;

	all[0] = '\0';
	for (unsigned i = 0; i < n; i++) {
		if (lb_config_is_unsupported(key, name_of(i)))
			continue;
		names[n_names++] = name_of(i);
		used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s",
			n_names > 1 ? " | " : "", name_of(i));
	}
	if (!is_scalar(reader, node, all))
		return;
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(node->text, name_of(i)))
			continue;
		if (lb_config_is_unsupported(key, name_of(i)))
			lb_config_fail(reader, node,
				"%s %s: not supported by this version, expected %s", key,
				node->text, all);
		else
			*value = i;
		return;
	}
	near = lb_config_suggest(node->text, names, n_names);
	if (near)
		lb_config_fail(reader, node, "expected %s, found %s, did you mean %s?", all,
			lb_config_found(node, found), near);
	else
		refuse(reader, node, all);
}

/* What is wrong with a text that is no address, or NULL if nothing comes to mind. */
static const char *addr_hint(const char *text)
{
	struct lb_endpoint endpoint;
	const char *c = text;

	if (!lb_endpoint_parse(text, &endpoint))
		return "the port has a key of its own";
	if (strchr(text, '/'))
		return "a prefix length has no place here";
	if (strchr(text, '%'))
		return "a zone (%) is not supported";
	if (!strncasecmp(text, "::ffff:", 7))
		return "write an IPv4-mapped address as IPv4";
	if (text[0] == '[')
		return "without the brackets";
	if (!strcasecmp(text, "localhost"))
		return "a loopback address has no place here";
	if (strchr(text, ':') || !text[strspn(text, "0123456789.")])
		return NULL;
	while (isalnum((unsigned char)*c) || *c == '.' || *c == '-' || *c == '_')
		c++;
	return *c ? NULL : "a host name has no place here";
}

void lb_config_read_addr(struct lb_config_reader *reader, const struct lb_node *node,
	const char *what, struct lb_addr *addr)
{
	char found[LB_CONFIG_FOUND_BYTES];
	struct lb_addr parsed;
	const char *hint;

	if (!is_scalar(reader, node, "an IPv4 or IPv6 address"))
		return;
	if (lb_addr_parse(node->text, &parsed)) {
		hint = addr_hint(node->text);
		lb_config_fail(reader, node, "expected an IPv4 or IPv6 address, found %s%s%s",
			lb_config_found(node, found), hint ? ": " : "", hint ? hint : "");
	} else if (!lb_addr_is_usable(&parsed)) {
		lb_config_fail(reader, node,
			"%s cannot be %s: expected a unicast address that is neither unspecified, "
			"loopback nor link-local", lb_config_found(node, found), what);
	} else {
		*addr = parsed;
	}
}

void lb_config_read_string(struct lb_config_reader *reader, const struct lb_node *node,
	size_t max_bytes, bool (*is_ok)(const char *text), const char *expected, char **value)
{
	char *copy;

	if (!is_scalar(reader, node, expected))
		return;
	if (node->len_bytes == 0 || node->len_bytes > max_bytes || (is_ok && !is_ok(node->text))) {
		refuse(reader, node, expected);
		return;
	}
	copy = strdup(node->text);
	if (!copy) {
		reader->rc = -ENOMEM;
		return;
	}
	free(*value);
	*value = copy;
}

static bool is_name(const char *text)
{
	bool only_dots = true;

	// A path segment of dots would be folded away on its way to the API.
	for (const char *c = text; *c; c++) {
		if (!(isascii(*c) && isalnum(*c)) && !strchr("._:[]-", *c))
			return false;
		only_dots = only_dots && *c == '.';
	}
	return !only_dots && text[0] != '-';
}

void lb_config_read_name(struct lb_config_reader *reader, const struct lb_node *node, char **name)
{
	static_assert(LB_CONFIG_NAME_MAX == 63, "the message says so");

	lb_config_read_string(reader, node, LB_CONFIG_NAME_MAX, is_name,
		"a name of 1..63 characters A-Z a-z 0-9 . _ : [ ] - that does not begin with -", name);
}

/* Bytes of `n` pairs of hexadecimal digits with `separator` (0: none) between; -EINVAL else. */
static int parse_hex(const char *text, char separator, uint8_t *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		uint8_t byte = 0;

		if (i && separator && *text++ != separator)
			return -EINVAL;
		for (int nibble = 0; nibble < 2; nibble++) {
			const char *digit = *text ? strchr(digits, tolower((unsigned char)*text)) :
				NULL;

			if (!digit)
				return -EINVAL;
			byte = (uint8_t)(byte << 4 | (digit - digits));
			text++;
		}
		bytes[i] = byte;
	}
	return *text ? -EINVAL : 0;
}

void lb_config_read_mac(struct lb_config_reader *reader, const struct lb_node *node, uint8_t mac[6])
{
	static const uint8_t zero[6];
	const char *expected = "a unicast MAC address such as 02:00:00:00:00:01";
	uint8_t bytes[6];

	if (!is_scalar(reader, node, expected))
		return;
	if (parse_hex(node->text, ':', bytes, 6) || (bytes[0] & 1) || !memcmp(bytes, zero, 6))
		refuse(reader, node, expected);
	else
		memcpy(mac, bytes, 6);
}

void lb_config_read_secret(struct lb_config_reader *reader, const struct lb_node *node,
	uint8_t secret[16])
{
	uint8_t bytes[16];

	if (!is_scalar(reader, node, "32 hexadecimal digits"))
		return;
	// A message may end up in a log: it does not repeat what was meant to be secret.
	if (parse_hex(node->text, 0, bytes, 16))
		lb_config_fail(reader, node,
			"expected 32 hexadecimal digits, found %u characters%s", node->len_bytes,
			node->len_bytes == 32 ? " of which some are none" : "");
	else
		memcpy(secret, bytes, 16);
}

void lb_config_read_status(struct lb_config_reader *reader, const struct lb_node *node,
	uint16_t *min, uint16_t *max)
{
	const char *expected = "an HTTP status 100..599 or a range such as 200-399";
	uint64_t low, high;
	size_t n;

	if (!is_scalar(reader, node, expected))
		return;
	n = strcspn(node->text, "-");
	if (parse_digits(node->text, n, &low))
		low = 0;
	high = low;
	if (node->text[n] == '-' &&
		parse_digits(node->text + n + 1, node->len_bytes - n - 1, &high))
		high = 0;
	if (low < 100 || high > 599 || low > high) {
		refuse(reader, node, expected);
		return;
	}
	*min = (uint16_t)low;
	*max = (uint16_t)high;
}
