/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <curl/curl.h>

#include "control/announce.h"
#include "control/api.h"
#include "control/privileges.h"
#include "control/state.h"
#include "lb/log.h"
#include "lb/notify.h"

/*
 * lb-control: one libevent loop. The model (model.c) holds what runs, state.c what survives, dp.c
 * talks to the data plane, api.c to everybody else.
 */

#define RUN_DIR "/run/fulcrum"
#define SOCKET_FILE "control.sock"
#define LOCK_FILE "control.lock"
#define MAX_HOSTS 32u /* of --allow-host */

struct options {
	const char *instance, *config_file, *listen;
	const char *hosts[MAX_HOSTS];
	size_t n_hosts;
};

struct daemon {
	struct options options;
	char run_dir[PATH_MAX - 64];
	int lock_fd;
	struct event_base *base;
	struct lb_model *model;
	struct lb_api *api;
	struct event *signals[3];
};

static const char usage_text[] =
	"usage: lb-control --config FILE [--instance NAME] [--listen ADDR:PORT]\n"
	"                  [--allow-host NAME]... [--verbose]\n"
	"\n"
	"The control plane of Fulcrum: checks backends, builds lookup tables for lb-dataplane, and "
	"serves the\n"
	"API that lbctl speaks. Run-time files are in " RUN_DIR "/NAME, or $FULCRUM_RUN_DIR/NAME.\n"
	"\n"
	"  --config FILE        services and backends (YAML or JSON); SIGHUP loads it again\n"
	"  --instance NAME      the data plane to control (default: default)\n"
	"  --listen ADDR:PORT   serve the dashboard, GET /metrics and what of the API only shows there;\n"
	"                       PORT alone: on 127.0.0.1\n"
	"  --allow-host NAME    a name that --listen may be asked for by, beside addresses, localhost and "
	"the host's\n"
	"                       own name (against DNS rebinding); up to 32\n"
	"  --verbose            log more\n"
	"  --version, --help\n";

static int parse_options(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"instance", required_argument, NULL, 'i'},
		{"listen", required_argument, NULL, 'l'},
		{"allow-host", required_argument, NULL, 'a'},
		{"verbose", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c;

	options->instance = "default";
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			options->config_file = optarg;
			break;
		case 'i':
			options->instance = optarg;
			break;
		case 'l':
			options->listen = optarg;
			break;
		case 'a':
			if (options->n_hosts == MAX_HOSTS) {
				fprintf(stderr, "lb-control: more than %u --allow-host\n", MAX_HOSTS);
				return -EINVAL;
			}
			options->hosts[options->n_hosts++] = optarg;
			break;
		case 'v':
			lb_log_set_level(LB_LOG_DEBUG);
			break;
		case 'V':
			printf("lb-control %s\n", LB_VERSION);
			exit(0);
		case 'h':
			fputs(usage_text, stdout);
			exit(0);
		default: // getopt has said what is wrong
			return -EINVAL;
		}
	}
	if (optind != argc) {
		fprintf(stderr, "lb-control: unexpected argument \"%s\"%s\n", argv[optind],
			options->config_file == NULL ? ": is --config in front of it missing?" : "");
		return -EINVAL;
	}
	if (options->config_file == NULL) {
		fputs("lb-control: --config FILE is missing\n", stderr);
		return -EINVAL;
	}
	if (!lb_instance_valid(options->instance)) {
		fprintf(stderr,
			"lb-control: instance name \"%s\": 1 to %d of a-z, 0-9, \"_\" and \"-\" "
			"are "
			"expected\n",
			options->instance, LB_INSTANCE_MAX);
		return -EINVAL;
	}
	return 0;
}

/* Make the run dir and hold its lock: one daemon per instance. */
static int take_run_dir(struct daemon *daemon)
{
	const char *root = getenv("FULCRUM_RUN_DIR");
	char path[PATH_MAX];

	if (root == NULL || root[0] == '\0')
		root = RUN_DIR;
	if (strlen(root) + LB_INSTANCE_MAX + 2 > sizeof(daemon->run_dir)) {
		lb_log(LB_LOG_ERROR, "main", "$FULCRUM_RUN_DIR is too long");
		return -ENAMETOOLONG;
	}
	snprintf(daemon->run_dir, sizeof(daemon->run_dir), "%s/%s", root, daemon->options.instance);
	if ((mkdir(root, 0755) < 0 && errno != EEXIST) ||
		(mkdir(daemon->run_dir, 0755) < 0 && errno != EEXIST)) {
		lb_log(LB_LOG_ERROR, "main", "cannot make %s: %s", daemon->run_dir,
			strerror(errno));
		return -errno;
	}
	snprintf(path, sizeof(path), "%s/" LOCK_FILE, daemon->run_dir);
	daemon->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (daemon->lock_fd < 0) {
		lb_log(LB_LOG_ERROR, "main", "cannot open %s: %s", path, strerror(errno));
		return -errno;
	}
	if (flock(daemon->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		lb_log(LB_LOG_ERROR, "main", "another lb-control runs instance %s (%s is locked)",
			daemon->options.instance, path);
		return -EBUSY;
	}
	return 0;
}

/* Each health check and each client is a socket. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		lb_log(LB_LOG_WARN, "main", "cannot raise the limit of open files: %s",
			strerror(errno));
}

static void on_stop(evutil_socket_t number, short what, void *arg)
{
	struct daemon *daemon = arg;

	(void)what;
	lb_log(LB_LOG_INFO, "main", "%s: stopping; forwarding goes on",
		number == SIGINT ? "SIGINT" : "SIGTERM");
	lb_notify("STOPPING=1");
	event_base_loopbreak(daemon->base);
}

static void on_reloaded(void *arg, int rc, const struct lb_config_error *error)
{
	struct daemon *daemon = arg;

	if (rc < 0)
		lb_events_add(daemon->model->events, "config_refused", "config", NULL, NULL,
			"%s%s%s", error->where, error->where[0] != '\0' ? ": " : "", error->message);
	lb_notify("READY=1");
}

static void on_reload(evutil_socket_t number, short what, void *arg)
{
	struct daemon *daemon = arg;

	(void)number;
	(void)what;
	lb_notify("RELOADING=1");
	lb_state_reload(daemon->model, on_reloaded, daemon);
}

static int add_signals(struct daemon *daemon)
{
	daemon->signals[0] = evsignal_new(daemon->base, SIGTERM, on_stop, daemon);
	daemon->signals[1] = evsignal_new(daemon->base, SIGINT, on_stop, daemon);
	daemon->signals[2] = evsignal_new(daemon->base, SIGHUP, on_reload, daemon);
	for (unsigned i = 0; i < 3; i++)
		if (daemon->signals[i] == NULL || event_add(daemon->signals[i], NULL) < 0)
			return -ENOMEM;
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

static int start_model(struct daemon *daemon)
{
	struct lb_config_error error = {0};
	int rc;

	rc = lb_model_create(daemon->base, daemon->options.instance, daemon->run_dir,
		daemon->options.config_file, &daemon->model);
	if (rc < 0) {
		lb_log(LB_LOG_ERROR, "main", "cannot start: %s", strerror(-rc));
		return rc;
	}
	lb_events_add(daemon->model->events, "daemon_started", "control", NULL, NULL,
		"version %s, pid %d", LB_VERSION, (int)getpid());
	rc = lb_state_start(daemon->model, &error);
	if (rc < 0)
		lb_log(LB_LOG_ERROR, "main", "%s%s%s", error.where,
			error.where[0] != '\0' ? ": " : "", error.message);
	return rc;
}

static int start_announce(struct daemon *daemon)
{
	int rc = lb_announce_create(daemon->model, &daemon->model->announce);

	if (rc < 0)
		lb_log(LB_LOG_ERROR, "announce", "no netlink socket: %s", strerror(-rc));
	return rc;
}

static int start_api(struct daemon *daemon)
{
	char path[PATH_MAX], why[300];
	int rc;

	snprintf(path, sizeof(path), "%s/" SOCKET_FILE, daemon->run_dir);
	rc = lb_api_create(daemon->model, path, &daemon->api, why, sizeof(why));
	for (size_t i = 0; rc == 0 && i < daemon->options.n_hosts; i++)
		lb_api_allow_host(daemon->api, daemon->options.hosts[i]);
	if (rc == 0 && daemon->options.listen != NULL)
		rc = lb_api_listen_tcp(daemon->api, daemon->options.listen, why, sizeof(why));
	if (rc < 0)
		lb_log(LB_LOG_ERROR, "main", "%s", why);
	return rc;
}

/* With timers of less than a millisecond: see dp.c. */
static struct event_base *new_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base;

	if (config == NULL)
		return NULL;
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

static int start(struct daemon *daemon)
{
	int rc = take_run_dir(daemon);

	if (rc < 0)
		return rc;
	raise_file_limit();
	daemon->base = new_base();
	if (daemon->base == NULL)
		return -ENOMEM;
	rc = add_signals(daemon);
	if (rc == 0)
		rc = start_model(daemon);
	if (rc == 0)
		rc = start_announce(daemon);
	if (rc == 0)
		rc = start_api(daemon);
	if (rc == 0) {
		rc = lb_privileges_drop(); // after the socket was given to its group
		if (rc < 0)
			lb_log(LB_LOG_ERROR, "main", "cannot give up privileges: %s", strerror(-rc));
	}
	return rc;
}

static void stop(struct daemon *daemon)
{
	lb_api_destroy(daemon->api);
	if (daemon->model != NULL)
		lb_announce_destroy(daemon->model->announce);
	lb_model_destroy(daemon->model);
	for (unsigned i = 0; i < 3; i++)
		if (daemon->signals[i] != NULL)
			event_free(daemon->signals[i]);
	if (daemon->base != NULL)
		event_base_free(daemon->base);
	if (daemon->lock_fd >= 0)
		close(daemon->lock_fd);
}

int main(int argc, char **argv)
{
	struct daemon daemon = {.lock_fd = -1};
	int rc;

	if (parse_options(&daemon.options, argc, argv) < 0) {
		fputs("lb-control --help shows how it is used\n", stderr);
		return 2;
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	rc = start(&daemon);
	if (rc == 0) {
		lb_log(LB_LOG_INFO, "main", "instance %s: %zu service%s", daemon.options.instance,
			daemon.model->n_services, daemon.model->n_services == 1 ? "" : "s");
		lb_notify("READY=1");
		event_base_dispatch(daemon.base);
	}
	stop(&daemon);
	curl_global_cleanup();
	libevent_global_shutdown();
	return rc == 0 ? 0 : 1;
}
