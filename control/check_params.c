/* SPDX-License-Identifier: BSD-3-Clause */
/* The parameters of a check as a value: defaults, copies, comparison. Shared by config and engine. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/config.h"

/* The texts of a check, all of them owned. */
static const size_t texts[] = {
	offsetof(struct lb_config_check, path),
	offsetof(struct lb_config_check, host),
	offsetof(struct lb_config_check, expect_body),
	offsetof(struct lb_config_check, sni),
	offsetof(struct lb_config_check, ca_file),
	offsetof(struct lb_config_check, send),
	offsetof(struct lb_config_check, expect),
	offsetof(struct lb_config_check, query),
};
#define N_TEXTS (sizeof(texts) / sizeof(texts[0]))

static char **text_of(struct lb_config_check *check, size_t i)
{
	return (char **)((char *)check + texts[i]);
}

static const char *const_text_of(const struct lb_config_check *check, size_t i)
{
	return *(char *const *)((const char *)check + texts[i]);
}

int lb_config_check_init(struct lb_config_check *check, enum lb_check_type type)
{
	*check = (struct lb_config_check){
		.type = type,
		.expect_status_min = LB_CHECK_DEFAULT_STATUS_MIN,
		.expect_status_max = LB_CHECK_DEFAULT_STATUS_MAX,
		.verify = true,
		.weight_header = true,
		.record = LB_CHECK_DEFAULT_RECORD,
		.interval_ms = LB_CHECK_DEFAULT_INTERVAL_MS,
		.timeout_ms = LB_CHECK_DEFAULT_TIMEOUT_MS,
		.rise = LB_CHECK_DEFAULT_RISE,
		.fall = LB_CHECK_DEFAULT_FALL,
	};
	if (type == LB_CHECK_HTTP || type == LB_CHECK_HTTPS) {
		check->path = strdup("/");
		return check->path ? 0 : -ENOMEM;
	}
	return 0;
}

void lb_config_check_fini(struct lb_config_check *check)
{
	for (size_t i = 0; i < N_TEXTS; i++) {
		free(*text_of(check, i));
		*text_of(check, i) = NULL;
	}
	free(check->command);
	check->command = NULL;
	check->command_bytes = 0;
}

int lb_config_check_copy(struct lb_config_check *to, const struct lb_config_check *from)
{
	bool failed = false;

	*to = *from;
	for (size_t i = 0; i < N_TEXTS; i++) {
		const char *text = const_text_of(from, i);

		*text_of(to, i) = text ? strdup(text) : NULL;
		failed |= text && !*text_of(to, i);
	}
	to->command = NULL;
	if (from->command) {
		to->command = malloc(from->command_bytes);
		if (to->command)
			memcpy(to->command, from->command, from->command_bytes);
		failed |= !to->command;
	}
	if (!failed)
		return 0;
	lb_config_check_fini(to);
	return -ENOMEM;
}

bool lb_config_check_equal(const struct lb_config_check *a, const struct lb_config_check *b)
{
	for (size_t i = 0; i < N_TEXTS; i++) {
		const char *x = const_text_of(a, i), *y = const_text_of(b, i);

		if (x != y && (!x || !y || strcmp(x, y) != 0))
			return false;
	}
	if (a->command_bytes != b->command_bytes ||
		(a->command_bytes && memcmp(a->command, b->command, a->command_bytes) != 0))
		return false;
	return a->type == b->type && a->port == b->port &&
	       a->expect_status_min == b->expect_status_min &&
	       a->expect_status_max == b->expect_status_max && a->verify == b->verify &&
	       a->weight_header == b->weight_header && a->record == b->record &&
	       a->interval_ms == b->interval_ms && a->timeout_ms == b->timeout_ms &&
	       a->rise == b->rise && a->fall == b->fall;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One escape after the backslash. @return its length in the text; 0: none. */
static size_t unescape_one(const char *text, uint8_t *byte)
{
	switch (text[0]) {
	case 'r':
		*byte = '\r';
		return 1;
	case 'n':
		*byte = '\n';
		return 1;
	case 't':
		*byte = '\t';
		return 1;
	case '\\':
		*byte = '\\';
		return 1;
	case 'x':
		if (hex_digit(text[1]) < 0 || hex_digit(text[2]) < 0)
			return 0;
		*byte = (uint8_t)(hex_digit(text[1]) << 4 | hex_digit(text[2]));
		return 3;
	default:
		return 0;
	}
}

int lb_check_unescape(const char *text, uint8_t *bytes, size_t *n)
{
	*n = 0;
	while (*text) {
		uint8_t byte = (uint8_t)*text;
		size_t len = 1;

		if (*text == '\\') {
			len = unescape_one(text + 1, &byte);
			if (len == 0)
				return -EINVAL;
			len++;
		}
		if (bytes)
			bytes[*n] = byte;
		(*n)++;
		text += len;
	}
	return 0;
}

/* RFC 1035, 3596, 2782, 8659, 9460: what is worth asking a name server for. */
static const struct {
	const char *name;
	uint16_t value;
} records[] = {
	{"A", 1}, {"AAAA", 28}, {"NS", 2}, {"CNAME", 5}, {"SOA", 6}, {"PTR", 12}, {"MX", 15},
	{"TXT", 16}, {"SRV", 33}, {"CAA", 257}, {"HTTPS", 65},
};

const char *lb_check_record_name(unsigned i)
{
	return i < LB_CHECK_N_RECORDS ? records[i].name : "?";
}

uint16_t lb_check_record_value(unsigned i)
{
	static_assert(sizeof(records) / sizeof(records[0]) == LB_CHECK_N_RECORDS, "one each");
	return i < LB_CHECK_N_RECORDS ? records[i].value : 0;
}
