/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lb-decap: loads lb_decap.bpf.c on a backend's interface and keeps it there. The program hangs on a BPF link that this
 * process holds: when the process ends, in whatever way, the kernel takes both away.
 */
#include "dataplane/lb_decap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "dataplane/lb_decap.skel.h"
#include "lb/addr.h"
#include "lb/log.h"
#include "lb/notify.h"

#define TOPIC "lb-decap"
#define PROGRAM "lb_decap"
#define MAX_GIVEN 64u

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE };

static const char usage_text[] =
	"usage: lb-decap --interface IF [--mode native|generic] [--gue-port N] [--address ADDR]...\n"
	"       lb-decap --interface IF --stats | --detach\n"
	"\n"
	"On a backend: unwraps what a Fulcrum balancer sends in mode ipip or gue (IPv4 or IPv6 in\n"
	"either), by XDP on IF. Runs until SIGTERM or SIGINT and leaves nothing behind.\n"
	"\n"
	"  --interface IF    where the balancer's packets arrive\n"
	"  --mode MODE       native: in the driver; generic: in the kernel's stack, any driver\n"
	"                    (default: native, else generic)\n"
	"  --gue-port N      UDP port of GUE (default 6080)\n"
	"  --address ADDR    unwrap packets to this address (default: all addresses of IF, as they change)\n"
	"  --stats           print what the lb-decap that runs on IF has counted\n"
	"  --detach          take it off IF; its process ends\n"
	"  --version, --help\n";

struct options {
	const char *interface;
	unsigned ifindex;
	uint32_t mode; // XDP_FLAGS_*_MODE; 0: native, else generic
	uint16_t gue_port;
	struct lb_addr given[MAX_GIVEN];
	unsigned n_given;
	bool stats, detach;
};

/* Options. */

static int usage_error(const char *what, const char *value)
{
	fprintf(stderr, "lb-decap: %s%s%s\n%s", what, value != NULL ? ": " : "", value != NULL ? value : "",
		usage_text);
	return EXIT_USAGE;
}

static int take_option(struct options *options, int c, const char *value)
{
	char *end;
	long port;

	switch (c) {
	case 'i':
		options->interface = value;
		return 0;
	case 'm':
		if (strcmp(value, "native") != 0 && strcmp(value, "generic") != 0)
			return usage_error("expected --mode native or generic", value);
		options->mode = value[0] == 'n' ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
		return 0;
	case 'g':
		port = strtol(value, &end, 10);
		if (*value == '\0' || *end != '\0' || port < 1 || port > UINT16_MAX)
			return usage_error("expected --gue-port 1..65535", value);
		options->gue_port = (uint16_t)port;
		return 0;
	case 'a':
		if (options->n_given == MAX_GIVEN)
			return usage_error("too many addresses", value);
		if (lb_addr_parse(value, &options->given[options->n_given++]) < 0)
			return usage_error("expected an IPv4 or IPv6 address", value);
		return 0;
	case 's':
		options->stats = true;
		return 0;
	case 'd':
		options->detach = true;
		return 0;
	case 'V':
		puts("lb-decap " LB_VERSION);
		return -1;
	case 'h':
		fputs(usage_text, stdout);
		return -1;
	default:
		return usage_error("wrong option", NULL);
	}
}

// @return 0: go on; -1: all is done; else an exit status.
static int parse_options(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{"interface", required_argument, NULL, 'i'}, {"mode", required_argument, NULL, 'm'},
		{"gue-port", required_argument, NULL, 'g'}, {"address", required_argument, NULL, 'a'},
		{"stats", no_argument, NULL, 's'}, {"detach", no_argument, NULL, 'd'},
		{"version", no_argument, NULL, 'V'}, {"help", no_argument, NULL, 'h'}, {0},
	};
	int c, rc;

	*options = (struct options){.gue_port = LB_DECAP_GUE_PORT};
	opterr = 0;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		rc = take_option(options, c, optarg);
		if (rc != 0)
			return rc;
	}
	if (optind < argc)
		return usage_error("unexpected", argv[optind]);
	if (options->interface == NULL)
		return usage_error("--interface is missing", NULL);
	if (options->stats && options->detach)
		return usage_error("--stats and --detach: one of them", NULL);
	options->ifindex = if_nametoindex(options->interface);
	if (options->ifindex == 0) {
		fprintf(stderr, "lb-decap: interface %s: %s\n", options->interface, strerror(errno));
		return EXIT_FAILED;
	}
	return 0;
}

/* What hangs on an interface already. */

// Id and name of the XDP program on @p ifindex; 0: none.
static uint32_t query(unsigned ifindex, char name[BPF_OBJ_NAME_LEN])
{
	LIBBPF_OPTS(bpf_xdp_query_opts, opts);
	struct bpf_prog_info info = {0};
	uint32_t n_info = sizeof(info), id;
	int fd;

	name[0] = '\0';
	if (bpf_xdp_query((int)ifindex, 0, &opts) < 0)
		return 0;
	id = opts.prog_id != 0 ? opts.prog_id : opts.drv_prog_id != 0 ? opts.drv_prog_id : opts.skb_prog_id;
	fd = id != 0 ? bpf_prog_get_fd_by_id(id) : -1;
	if (fd < 0)
		return id;
	if (bpf_obj_get_info_by_fd(fd, &info, &n_info) == 0)
		memcpy(name, info.name, BPF_OBJ_NAME_LEN);
	close(fd);
	return id;
}

// Our program's id on the interface; 0, having said so: none is there.
static uint32_t find_running(const struct options *options)
{
	char name[BPF_OBJ_NAME_LEN];
	uint32_t id = query(options->ifindex, name);

	if (id != 0 && strcmp(name, PROGRAM) == 0)
		return id;
	fprintf(stderr, "lb-decap: none runs on %s\n", options->interface);
	return 0;
}

// Say who is in the way, if anybody is.
static bool is_taken(const struct options *options)
{
	char name[BPF_OBJ_NAME_LEN];
	uint32_t id = query(options->ifindex, name);

	if (id == 0)
		return false;
	lb_log(LB_LOG_ERROR, TOPIC, "%s has an XDP program already (id %u, \"%s\"), which is left alone: %s",
		options->interface, id, name,
		strcmp(name, PROGRAM) == 0 ? "another lb-decap runs there" : "take it off first");
	return true;
}

/*
 * The link by which program @p prog_id is attached: its fd, or -ENOENT. By the program and not by the interface's number,
 * as other network namespaces have the same numbers.
 */
static int find_link(uint32_t prog_id)
{
	uint32_t id = 0;

	while (bpf_link_get_next_id(id, &id) == 0) {
		struct bpf_link_info link = {0};
		uint32_t n_link = sizeof(link);
		int fd = bpf_link_get_fd_by_id(id);

		if (fd < 0)
			continue;
		if (bpf_obj_get_info_by_fd(fd, &link, &n_link) == 0 && link.type == BPF_LINK_TYPE_XDP &&
			link.prog_id == prog_id)
			return fd;
		close(fd);
	}
	return -ENOENT;
}

/* Counters. */

static int read_counters(int map_fd, uint64_t counts[LB_DECAP_FATE_N])
{
	int n_cpus = libbpf_num_possible_cpus();
	uint64_t *values;

	if (n_cpus <= 0)
		return -EINVAL;
	values = calloc((size_t)n_cpus, sizeof(*values));
	if (values == NULL)
		return -ENOMEM;
	for (uint32_t fate = 0; fate < LB_DECAP_FATE_N; fate++) {
		counts[fate] = 0;
		if (bpf_map_lookup_elem(map_fd, &fate, values) < 0)
			memset(values, 0, (size_t)n_cpus * sizeof(*values));
		for (int i = 0; i < n_cpus; i++)
			counts[fate] += values[i];
	}
	free(values);
	return 0;
}

// Our map "counters" among the maps of program @p prog_id: its fd, or -ENOENT.
static int find_counters(uint32_t prog_id)
{
	uint32_t map_ids[8] = {0}, n_info;
	struct bpf_prog_info prog = {.nr_map_ids = 8, .map_ids = (uintptr_t)map_ids};
	int fd = bpf_prog_get_fd_by_id(prog_id), rc;

	if (fd < 0)
		return fd;
	n_info = sizeof(prog);
	rc = bpf_obj_get_info_by_fd(fd, &prog, &n_info);
	close(fd);
	for (uint32_t i = 0; rc == 0 && i < prog.nr_map_ids && i < 8; i++) {
		struct bpf_map_info map = {0};

		n_info = sizeof(map);
		fd = bpf_map_get_fd_by_id(map_ids[i]);
		if (fd < 0)
			continue;
		if (bpf_obj_get_info_by_fd(fd, &map, &n_info) == 0 && strcmp(map.name, "counters") == 0 &&
			map.type == BPF_MAP_TYPE_PERCPU_ARRAY && map.value_size == 8 &&
			map.max_entries == LB_DECAP_FATE_N)
			return fd;
		close(fd);
	}
	return -ENOENT;
}

static int show_stats(const struct options *options)
{
	static const struct {
		const char *name, *meaning;
	} fates[LB_DECAP_FATE_N] = {
#define X(id, name, meaning) {name, meaning},
		LB_DECAP_FATES(X)
#undef X
	};
	uint64_t counts[LB_DECAP_FATE_N];
	uint32_t prog_id = find_running(options);
	int map_fd;

	if (prog_id == 0)
		return EXIT_FAILED;
	map_fd = find_counters(prog_id);
	if (map_fd < 0 || read_counters(map_fd, counts) < 0) {
		fprintf(stderr, "lb-decap: the counters on %s cannot be read (of another version?)\n",
			options->interface);
		return EXIT_FAILED;
	}
	close(map_fd);
	for (unsigned i = 0; i < LB_DECAP_FATE_N; i++)
		printf("%-12s %14" PRIu64 "  %s\n", fates[i].name, counts[i], fates[i].meaning);
	return EXIT_OK;
}

static int detach(const struct options *options)
{
	uint32_t prog_id = find_running(options);
	int fd, rc;

	if (prog_id == 0)
		return EXIT_FAILED;
	fd = find_link(prog_id);
	rc = fd < 0 ? fd : bpf_link_detach(fd);
	if (fd >= 0)
		close(fd);
	if (rc < 0)
		fprintf(stderr, "lb-decap: cannot be taken off %s: %s\n", options->interface, strerror(-rc));
	return rc < 0 ? EXIT_FAILED : EXIT_OK;
}

/* Addresses. */

struct addresses {
	struct lb_addr list[LB_DECAP_MAX_ADDRESSES];
	unsigned n;
};

static bool has(const struct addresses *addresses, const struct lb_addr *addr)
{
	for (unsigned i = 0; i < addresses->n; i++)
		if (lb_addr_equal(&addresses->list[i], addr))
			return true;
	return false;
}

static int discover(const struct options *options, struct addresses *found)
{
	struct ifaddrs *all;

	found->n = 0;
	if (getifaddrs(&all) < 0)
		return -errno;
	for (struct ifaddrs *i = all; i != NULL && found->n < LB_DECAP_MAX_ADDRESSES; i = i->ifa_next) {
		struct lb_addr addr;

		if (i->ifa_addr == NULL || strcmp(i->ifa_name, options->interface) != 0)
			continue;
		if (i->ifa_addr->sa_family == AF_INET)
			addr = lb_addr_from_ipv4(((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr.s_addr);
		else if (i->ifa_addr->sa_family == AF_INET6)
			memcpy(&addr, &((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr, sizeof(addr));
		else
			continue;
		if (!has(found, &addr))
			found->list[found->n++] = addr;
	}
	freeifaddrs(all);
	return 0;
}

// Make the map hold exactly @p wanted; @p present is what it has.
static void update_addresses(int map_fd, struct addresses *present, const struct addresses *wanted)
{
	char text[LB_ADDR_STRLEN];
	uint8_t one = 1;

	for (unsigned i = 0; i < wanted->n; i++) {
		if (has(present, &wanted->list[i]))
			continue;
		if (bpf_map_update_elem(map_fd, &wanted->list[i], &one, BPF_ANY) < 0)
			lb_log(LB_LOG_ERROR, TOPIC, "%s: %s", lb_addr_format(&wanted->list[i], text), strerror(errno));
		else
			lb_log(LB_LOG_INFO, TOPIC, "unwraps what comes to %s", lb_addr_format(&wanted->list[i], text));
	}
	for (unsigned i = 0; i < present->n; i++) {
		if (has(wanted, &present->list[i]))
			continue;
		bpf_map_delete_elem(map_fd, &present->list[i]);
		lb_log(LB_LOG_INFO, TOPIC, "no longer %s", lb_addr_format(&present->list[i], text));
	}
	*present = *wanted;
}

/* Running. */

// The program on the interface; @return the link's fd, or -errno of the last mode tried.
static int attach(const struct options *options, int prog_fd)
{
	uint32_t modes[] = {XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE};
	int fd = -EINVAL;

	for (unsigned i = 0; i < 2; i++) {
		const char *name = modes[i] == XDP_FLAGS_DRV_MODE ? "native" : "generic";
		LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = modes[i]);

		if (options->mode != 0 && options->mode != modes[i])
			continue;
		fd = bpf_link_create(prog_fd, (int)options->ifindex, BPF_XDP, &opts);
		if (fd >= 0) {
			lb_log(LB_LOG_INFO, TOPIC, "runs on %s in %s mode", options->interface, name);
			return fd;
		}
		lb_log(i == 0 && options->mode == 0 ? LB_LOG_WARN : LB_LOG_ERROR, TOPIC,
			"%s: %s mode is not possible: %s", options->interface, name, strerror(-fd));
	}
	return fd;
}

static bool is_attached(int link_fd)
{
	struct bpf_link_info info = {0};
	uint32_t n_info = sizeof(info);

	// A link whose interface went, or that was detached, names none.
	return bpf_obj_get_info_by_fd(link_fd, &info, &n_info) == 0 && info.xdp.ifindex != 0;
}

// Until a signal, or until the program was taken off. @return exit status.
static int stay(const struct options *options, int link_fd, int map_fd)
{
	static struct addresses present, wanted;
	static const struct timespec second = {.tv_sec = 1};
	bool is_first = true;
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	memcpy(wanted.list, options->given, sizeof(options->given));
	wanted.n = options->n_given;
	for (;;) {
		if (options->n_given != 0 || discover(options, &wanted) == 0)
			update_addresses(map_fd, &present, &wanted);
		if (is_first)
			lb_notify("READY=1");
		is_first = false;
		if (sigtimedwait(&signals, NULL, &second) > 0)
			return EXIT_OK;
		if (!is_attached(link_fd)) {
			lb_log(LB_LOG_ERROR, TOPIC, "was taken off %s, or the interface is gone", options->interface);
			return EXIT_FAILED;
		}
	}
}

static int print_nothing(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
	return 0;
}

static int run(const struct options *options)
{
	struct lb_decap_bpf *skeleton;
	int link_fd, status;

	if (is_taken(options))
		return EXIT_FAILED;
	skeleton = lb_decap_bpf__open();
	if (skeleton == NULL) {
		lb_log(LB_LOG_ERROR, TOPIC, "the XDP program cannot be opened: %s", strerror(errno));
		return EXIT_FAILED;
	}
	skeleton->rodata->gue_port = options->gue_port;
	status = EXIT_FAILED;
	if (lb_decap_bpf__load(skeleton) < 0) {
		lb_log(LB_LOG_ERROR, TOPIC, "the kernel does not take the XDP program: %s%s", strerror(errno),
			errno == EPERM ? " (needs CAP_BPF and CAP_NET_ADMIN: run it as root)" : "");
	} else {
		link_fd = attach(options, bpf_program__fd(skeleton->progs.lb_decap));
		if (link_fd >= 0) {
			status = stay(options, link_fd, bpf_map__fd(skeleton->maps.addresses));
			close(link_fd);
		}
	}
	lb_decap_bpf__destroy(skeleton);
	return status;
}

int main(int argc, char **argv)
{
	struct options options;
	int rc = parse_options(&options, argc, argv);

	if (rc != 0)
		return rc < 0 ? EXIT_OK : rc;
	libbpf_set_print(print_nothing);
	if (options.stats)
		return show_stats(&options);
	if (options.detach)
		return detach(&options);
	return run(&options);
}
