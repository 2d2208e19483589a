/* SPDX-License-Identifier: BSD-3-Clause */
#include <net/if.h>
#include <string.h>

#include "control/api.h"
#include "control/json.h"
#include "control/sync.h"

static void add(json_t *list, const char *where, const char *message, const char *hint)
{
	json_array_append_new(list, json_pack("{s:s, s:o, s:s}", "where", where, "message",
					    lb_json_text(message), "hint", hint));
}

/* The data plane keeps to the secret that it was started with. */
static void warn_of_secret(json_t *list, const struct lb_model *model)
{
	if (model->secret_refused)
		add(list, "hash_secret", LB_OTHER_SECRET, LB_OTHER_SECRET_HINT);
}

static void warn_of_interfaces(json_t *list, const struct lb_config *config)
{
	char message[120];

	for (size_t i = 0; config != NULL && i < config->n_interfaces; i++) {
		if (if_nametoindex(config->interfaces[i].name) != 0)
			continue;
		snprintf(message, sizeof(message), "port %u names interface %s, which is not there: nothing is reached by it",
			config->interfaces[i].port, config->interfaces[i].name);
		add(list, "ports", message, "ip link shows the interfaces of lb-control's network namespace");
	}
}

json_t *lb_api_warnings_json(const struct lb_model *model, const struct lb_config *config)
{
	json_t *list = json_array();

	if (lb_dp_is_stalled(model->dp))
		add(list, "data plane", "no heartbeat, but its workers go on: its main lcore gets no CPU, and changes wait",
			"give lcore 0 of lb-dataplane a CPU that others leave alone at times");
	warn_of_secret(list, model);
	warn_of_interfaces(list, config);
	return list;
}
