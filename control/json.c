/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/json.h"

#include <stdlib.h>
#include <string.h>

json_t *lb_json_text(const char *text)
{
	json_t *json;
	char *ascii;

	if (text == NULL || text[0] == '\0')
		return json_null();
	json = json_string(text);
	if (json != NULL)
		return json;
	ascii = strdup(text);
	if (ascii == NULL)
		return NULL;
	for (char *c = ascii; *c != '\0'; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	json = json_string(ascii);
	free(ascii);
	return json;
}

json_t *lb_json_u64(uint64_t value)
{
	return json_integer(value <= INT64_MAX ? (json_int_t)value : INT64_MAX);
}

json_t *lb_json_time(uint64_t time_ns)
{
	return time_ns > 0 ? lb_json_u64(time_ns) : json_null();
}
