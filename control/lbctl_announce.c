/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/lbctl_api.h"
#include "control/lbctl_args.h"

/* lbctl maintenance */

static void print_announce(const struct lbctl *ctl, const json_t *answer)
{
	static const struct lbctl_column columns[] = {{"VIP", false}, {"ANNOUNCED", false}, {"NOTE", false}};
	bool maintenance = lbctl_json_true(answer, "maintenance");
	char *table_number = lbctl_json_format(json_object_get(answer, "table"));
	struct lbctl_table *table = lbctl_table_create(columns, 3);
	const json_t *vip;
	size_t i;

	lbctl_print_field(ctl, "maintenance", maintenance ? LBCTL_YELLOW : LBCTL_PLAIN, "%s",
		maintenance ? "on" : "off");
	lbctl_print_field(ctl, "table", LBCTL_PLAIN, "%s",
		*table_number != '\0' ? table_number : "none: the config has no announce.table");
	json_array_foreach (json_object_get(answer, "vips"), i, vip) {
		bool announced = lbctl_json_true(vip, "announced");

		lbctl_cell_value(table, LBCTL_PLAIN, vip, "vip");
		lbctl_table_add(table, announced ? LBCTL_GREEN : LBCTL_YELLOW, announced ? "yes" : "no");
		lbctl_cell_value(table, LBCTL_PLAIN, vip, "reason");
	}
	if (lbctl_table_n_rows(table) > 0) {
		fputc('\n', stdout);
		lbctl_table_print(table, stdout, 0, ctl->colour);
	}
	lbctl_table_destroy(table);
	free(table_number);
}

enum lbctl_exit lbctl_maintenance_run(struct lbctl *ctl, const struct lbctl_args *args)
{
	const char *word = lbctl_args_operand(args, 0);
	enum lbctl_exit status;
	json_t *answer, *body;

	if (word == NULL) {
		status = lbctl_api_get(ctl, "/v1/announce", &answer);
	} else if (strcmp(word, "on") == 0 || strcmp(word, "off") == 0) {
		body = json_pack("{s:b}", "on", strcmp(word, "on") == 0);
		status = lbctl_api_request(ctl, "PUT", "/v1/maintenance", body, &answer);
		json_decref(body);
	} else {
		return lbctl_error(ctl, LBCTL_USAGE, NULL, NULL, "expected on or off, found '%s'", word);
	}
	if (status != LBCTL_OK)
		return status;
	if (ctl->json)
		lbctl_api_print(answer, false);
	else
		print_announce(ctl, answer);
	json_decref(answer);
	return LBCTL_OK;
}
