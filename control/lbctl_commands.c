/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/lbctl.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define SETTINGS_HELP                                                                          \
	"KEY=VALUE sets one key of the configuration file: weight=3, min_healthy=2; a dot\n"   \
	"leads into health_check: health_check.interval=1s. lbctl service show NAME lists\n"   \
	"keys and values."

const struct lbctl_command lbctl_commands[] = {
	{
		.words = "status", .operands = "", .complete = "",
		.summary = "both processes, ports, workers, services in one screen",
		.help = "Exit status 4 while the data plane is not up.",
		.run = lbctl_status_run,
	},
	{
		.words = "service list", .operands = "", .complete = "",
		.summary = "all services, with their state",
		.run = lbctl_service_list_run,
	},
	{
		.words = "service show", .operands = "SERVICE", .n_min = 1, .n_max = 1,
		.complete = "service",
		.summary = "one service: settings, counters, backends",
		.run = lbctl_service_show_run,
	},
	{
		.words = "service add", .operands = "SERVICE VIP:PORT/PROTOCOL [KEY=VALUE]...",
		.n_min = 2, .n_max = UINT_MAX, .complete = "none none new-service-key",
		.summary = "add a service; PORT may be \"all\"",
		.help = "Example: lbctl service add dns 203.0.113.53:53/udp idle_timeout=10s\n"
			SETTINGS_HELP,
		.run = lbctl_service_add_run,
	},
	{
		.words = "service set", .operands = "SERVICE KEY=VALUE...", .n_min = 2,
		.n_max = UINT_MAX,
		.complete = "service service-key",
		.summary = "change settings of a service",
		.help = SETTINGS_HELP,
		.run = lbctl_service_set_run,
	},
	{
		.words = "service del", .operands = "SERVICE", .n_min = 1, .n_max = 1,
		.complete = "service",
		.summary = "remove a service and its backends; their connections end",
		.run = lbctl_service_del_run,
	},
	{
		.words = "backend list", .operands = "[SERVICE]", .n_max = 1, .complete = "service",
		.summary = "all backends, or those of one service",
		.run = lbctl_backend_list_run,
	},
	{
		.words = "backend add", .operands = "SERVICE ADDRESS:PORT", .n_min = 2, .n_max = 2,
		.complete = "service none",
		.summary = "add a backend to a service",
		.options = {
			{"--name", "NAME", "its name (default: ADDRESS:PORT)"},
			{"--weight", "N", "its share of new connections, 0..256 (default: 1)"},
			{"--tier", "N", "0..7: higher tiers are backups (default: 0)"},
		},
		.help = "For IPv6 write [ADDRESS]:PORT. Without :PORT it is the service's; where that has\n"
			"all ports, the backend has none. What is no address is taken for a host name.",
		.run = lbctl_backend_add_run,
	},
	{
		.words = "backend set", .operands = "SERVICE BACKEND KEY=VALUE...", .n_min = 3,
		.n_max = UINT_MAX, .complete = "service backend backend-key",
		.summary = "change settings of a backend",
		.help = "KEY=VALUE sets one key of the configuration file: weight=3, tier=1.",
		.run = lbctl_backend_set_run,
	},
	{
		.words = "backend del", .operands = "SERVICE BACKEND", .n_min = 2, .n_max = 2,
		.complete = "service backend",
		.summary = "remove a backend; its connections end (drain it first)",
		.run = lbctl_backend_del_run,
	},
	{
		.words = "backend drain", .operands = "SERVICE BACKEND", .n_min = 2, .n_max = 2,
		.complete = "service backend",
		.summary = "keep live flows, take no new ones",
		.options = {
			{"--wait", "DURATION", "return when no flow is left, fail after this time"},
		},
		.run = lbctl_backend_drain_run,
	},
	{
		.words = "backend enable", .operands = "SERVICE BACKEND", .n_min = 2, .n_max = 2,
		.complete = "service backend",
		.summary = "end a drain or a disable",
		.run = lbctl_backend_enable_run,
	},
	{
		.words = "backend disable", .operands = "SERVICE BACKEND", .n_min = 2, .n_max = 2,
		.complete = "service backend",
		.summary = "take a backend out at once; its flows move",
		.run = lbctl_backend_disable_run,
	},
	{
		.words = "apply", .operands = "FILE", .n_min = 1, .n_max = 1, .complete = "file",
		.summary = "replace the whole configuration by a file (\"-\": standard input)",
		.options = {{"--dry-run", NULL, "only show what would change"}},
		.run = lbctl_apply_run,
	},
	{
		.words = "diff", .operands = "FILE", .n_min = 1, .n_max = 1, .complete = "file",
		.summary = "show what applying a file would change",
		.run = lbctl_diff_run,
	},
	{
		.words = "validate", .operands = "FILE", .n_min = 1, .n_max = 1, .complete = "file",
		.summary = "whether a file is a valid configuration; needs no daemon",
		.help = "\"-\": standard input. Exit status 1, with line and reason, if it is not. What only a\n"
			"running balancer knows (its ports, whether the file changes hash_secret) is not looked\n"
			"at: lbctl diff does.",
		.run = lbctl_validate_run,
	},
	{
		.words = "config", .operands = "", .complete = "",
		.summary = "print the running configuration as YAML",
		.run = lbctl_config_run,
	},
	{
		.words = "stats", .operands = "", .complete = "",
		.summary = "counters and rates",
		.options = {
			{"--watch", NULL, "show rates again and again, until interrupted"},
			{"--interval", "DURATION", "between two samples: 100ms or more"},
			{"--count", "N", "with --watch: end after N times"},
		},
		.help = "Without an option: counters since the start of the data plane.\n"
			"With --interval: two samples, and the rates between them.",
		.run = lbctl_stats_run,
	},
	{
		.words = "top", .operands = "[SERVICE]", .n_max = 1, .complete = "service",
		.summary = "a live screen: rates, flows and state of each service and backend",
		.options = {{"--interval", "DURATION", "between two samples: 100ms or more (default: 1s)"}},
		.help = "Keys: up, down, page up, page down  select    enter  show or hide its backends\n"
			"      s  sort by the next column         r  reverse        a  all backends or none\n"
			"      t  only what is in trouble         p  pause          q  quit\n"
			"Where there is no terminal: lbctl stats --watch.",
		.run = lbctl_top_run,
	},
	{
		.words = "drops", .operands = "", .complete = "",
		.summary = "every drop reason with its count",
		.run = lbctl_drops_run,
	},
	{
		.words = "events", .operands = "", .complete = "",
		.summary = "state changes with time and cause",
		.options = {
			{"--follow", NULL, "go on with new ones, until interrupted"},
			{"--limit", "N", "at most the newest N (default: 1000, with --follow 10)"},
		},
		.run = lbctl_events_run,
	},
	{
		.words = "flows", .operands = "[SERVICE]", .n_max = 1, .complete = "service",
		.summary = "active flows, per service and backend",
		.options = {
			{"--limit", "N", "only the N backends with the most flows, or N sessions"},
			{"--sessions", NULL, "of mode fullnat: each with its addresses and local port"},
		},
		.help = "The flow table holds signatures, not addresses: flows can be counted,\n"
			"traced and flushed, not listed. Of mode fullnat, whose sessions are exact,\n"
			"--sessions lists 100, or --limit.",
		.run = lbctl_flows_run,
	},
	{
		.words = "flows flush", .operands = "SERVICE [BACKEND]", .n_min = 1, .n_max = 2,
		.complete = "service backend",
		.summary = "forget recorded flows: each goes on where the table says",
		.run = lbctl_flows_flush_run,
	},
	{
		.words = "trace", .operands = "SRC:PORT DST:PORT/PROTOCOL", .n_min = 2, .n_max = 2,
		.complete = "none none",
		.summary = "which backend a packet gets now, and why",
		.options = {{"--mid-stream", NULL, "not the first packet of its connection"}},
		.help = "Example: lbctl trace 198.51.100.7:40000 203.0.113.10:443/tcp",
		.run = lbctl_trace_run,
	},
	{
		.words = "simulate", .operands = "FILE [SERVICE]", .n_min = 1, .n_max = 2,
		.complete = "file none",
		.summary = "balance and disruption of a config's tables, per scheduler",
		.options = {
			{"--remove", "BACKEND,...", "these fail, or leave the config"},
			{"--add", "BACKEND[=WEIGHT],...", "these join (default weight: 1)"},
		},
		.help = "Needs no daemon and touches nothing. BACKEND may be SERVICE/BACKEND. Without\n"
			"--remove and --add the heaviest backend is removed. MOST OVER and UNDER: of all\n"
			"backends, how far a share of new flows is from its weight's. OWN: slots of the\n"
			"backends that go or come, which must move; OTHERS: slots that move besides.\n"
			"Recorded flows stay where they are in any case.",
		.run = lbctl_simulate_run,
	},
	{
		.words = "maintenance", .operands = "[on|off]", .n_max = 1, .complete = "on-off",
		.summary = "withdraw all VIPs or announce them again; without a word: show them",
		.help = "Needs announce.table in the configuration. Live connections go on: their packets\n"
			"come until the routers have turned elsewhere.",
		.run = lbctl_maintenance_run,
	},
	{
		.words = "import nginx", .operands = "FILE", .n_min = 1, .n_max = 1, .complete = "file",
		.summary = "print a configuration made from NGINX upstream and server blocks",
		.options = {
			{"--vip", "ADDRESS", "for servers that listen on any IPv4 address"},
			{"--vip6", "ADDRESS", "for servers that listen on any IPv6 address"},
		},
		.help = "What has no meaning at layer 4 becomes a comment that says where it belongs.\n"
			"Example: lbctl import nginx /etc/nginx/nginx.conf --vip 203.0.113.10 >fulcrum.yaml",
		.run = lbctl_import_nginx_run,
	},
	{
		.words = "completion", .operands = "bash|zsh", .n_min = 1, .n_max = 1,
		.complete = "shell",
		.summary = "print a completion script for a shell",
		.help = "Use it with: source <(lbctl completion bash)",
		.run = lbctl_completion_run,
	},
	{
		.words = "version", .operands = "", .complete = "",
		.summary = "versions of lbctl and, if it can be reached, lb-control",
		.run = lbctl_version_run,
	},
	{.words = NULL},
};

bool lbctl_command_is_noun(const char *noun)
{
	size_t n = strlen(noun);

	for (const struct lbctl_command *c = lbctl_commands; c->words != NULL; c++) {
		if (n > 0 && strncmp(c->words, noun, n) == 0 && c->words[n] == ' ')
			return true;
	}
	return false;
}

const struct lbctl_command *lbctl_command_find(
	const char *const *words, size_t n_words, size_t *n_used)
{
	char both[64];

	for (*n_used = n_words < 2 ? n_words : 2; *n_used > 0; --*n_used) {
		int n = snprintf(both, sizeof(both), "%s%s%s", words[0], *n_used == 2 ? " " : "",
			*n_used == 2 ? words[1] : "");

		if (n < 0 || (size_t)n >= sizeof(both))
			continue;
		for (const struct lbctl_command *c = lbctl_commands; c->words != NULL; c++) {
			// "service list" in one word is no command.
			bool one_word = strchr(c->words, ' ') == NULL;

			if (strcmp(c->words, both) == 0 && one_word == (*n_used == 1))
				return c;
		}
	}
	return NULL;
}
