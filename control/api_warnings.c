/* SPDX-License-Identifier: BSD-3-Clause */
#include <net/if.h>
#include <string.h>

#include "control/api.h"
#include "control/json.h"
#include "control/sync.h"

#define MAX_SHOWN 8u /* of the interfaces, or services, that one thing is wrong with */

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

/* @p families: one of LB_FORWARDS_*. */
static void warn_of_forwarding(
	json_t *list, const struct lb_forwarding *forwarding, unsigned families, const char *family, const char *hint)
{
	char names[MAX_SHOWN * (IF_NAMESIZE + 2)] = "", message[sizeof(names) + 160], more[32] = "";
	size_t n = 0, len = 0;

	for (size_t i = 0; i < forwarding->n; i++) {
		if ((forwarding->interfaces[i].families & families) == 0 || n++ >= MAX_SHOWN)
			continue;
		len += (size_t)snprintf(
			names + len, sizeof(names) - len, "%s%s", len > 0 ? ", " : "", forwarding->interfaces[i].name);
	}
	if (n == 0)
		return;
	if (n > MAX_SHOWN)
		snprintf(more, sizeof(more), " and %zu more", n - MAX_SHOWN);
	snprintf(message, sizeof(message),
		"the kernel forwards %s packets that it receives on %s%s, those of services too: connections fail", family,
		names, more);
	add(list, "forwarding", message, hint);
}

/* Once for each VIP. */
static void warn_of_vips(json_t *list, const struct lb_model *model, const struct lb_config *config)
{
	static const char hint[] = "take it off the interface (ip address del): the VIP is routed to this host, not its own";
	char where[sizeof("service ") + LB_CONFIG_NAME_MAX], vip[LB_ADDR_STRLEN], message[LB_ADDR_STRLEN + 100];
	const struct lb_addr *last = NULL;
	size_t n = 0;

	if (config == NULL || !lb_nexthops_is_ready(model->nexthops))
		return;
	for (size_t i = 0; i < config->n_services; i++) {
		const struct lb_addr *addr = &config->services[i]->key.addr;

		if ((last != NULL && lb_addr_equal(addr, last)) || !lb_nexthops_is_own(model->nexthops, addr))
			continue;
		last = addr;
		if (n++ >= MAX_SHOWN)
			continue;
		snprintf(where, sizeof(where), "service %s", config->services[i]->name);
		snprintf(message, sizeof(message), "its VIP %s is an address of this host, whose kernel may answer clients too",
			lb_addr_format(addr, vip));
		add(list, where, message, hint);
	}
	if (n > MAX_SHOWN) {
		snprintf(message, sizeof(message), "%zu more VIPs are addresses of this host", n - MAX_SHOWN);
		add(list, "services", message, hint);
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
	warn_of_vips(list, model, config);
	warn_of_forwarding(list, &model->forwarding, LB_FORWARDS_IPV4, "IPv4",
		"sysctl -w net/ipv4/conf/INTERFACE/forwarding=0 for each, or net.ipv4.ip_forward=0 for all");
	warn_of_forwarding(list, &model->forwarding, LB_FORWARDS_IPV6, "IPv6", "sysctl -w net.ipv6.conf.all.forwarding=0");
	return list;
}
