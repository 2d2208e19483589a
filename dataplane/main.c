/* SPDX-License-Identifier: BSD-3-Clause */
/* lb-dataplane: start-up, the main lcore's loop, shutdown. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_pdump.h>
#include <rte_version.h>

#include "dataplane/command.h"
#include "dataplane/flowmem.h"
#include "dataplane/frag.h"
#include "dataplane/port.h"
#include "dataplane/resume.h"
#include "dataplane/telemetry.h"
#include "dataplane/worker.h"
#include "lb/log.h"
#include "lb/notify.h"

#define TOPIC "main"

// The clock that workers see advances at least this often.
#define WAIT_MS 50u
#define PORTS_NS UINT64_C(1000000000)

struct options {
	const char *instance;
	unsigned n_workers; /* 0: one per worker lcore */
	uint64_t n_flows;
	uint64_t n_sessions;
	uint32_t idle_sleep_us;
	uint32_t n_mbufs; /* at least; 0: what the ports' queues need */
	uint16_t mbuf_bytes;
	bool promiscuous;
};

static struct lb_dp dp;

static void on_signal(int signal_number)
{
	(void)signal_number;
	atomic_store(&dp.stop, true);
}

static void usage(FILE *out)
{
	fprintf(out,
		"usage: lb-dataplane [EAL options] -- [--instance NAME] [--workers N] [--flows N] [--sessions N]\n"
		"                    [--idle-sleep-us N] [--mbufs N] [--mbuf-size N] [--promiscuous]\n"
		"  --instance NAME     name of the shared-memory region (default: default)\n"
		"  --workers N         worker lcores to use (default: all but the main one)\n"
		"  --flows N           flows that can be tracked, over all workers (default: 1000000)\n"
		"  --sessions N        fullnat connections at a time, over all workers (default: 262144)\n"
		"  --idle-sleep-us N   sleep so long after a poll that brought nothing (default: 0, never)\n"
		"  --mbufs N           packet buffers, at least (default: what the ports' queues need)\n"
		"  --mbuf-size N       bytes of a packet buffer, 128 of them headroom (default: 2176)\n"
		"  --promiscuous       take frames whatever their destination MAC address\n"
		"  --version, --help\n");
}

static bool parse_number(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *out >= min && *out <= max)
		return true;
	fprintf(stderr, "lb-dataplane: --%s: '%s' is not a number from %" PRIu64 " to %" PRIu64 "\n", name,
		text, min, max);
	return false;
}

// @return 0; 1: done (help, version); -EINVAL.
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = {{"instance", required_argument, NULL, 'i'},
		{"workers", required_argument, NULL, 'w'}, {"flows", required_argument, NULL, 'f'},
		{"sessions", required_argument, NULL, 'S'},
		{"idle-sleep-us", required_argument, NULL, 's'}, {"mbufs", required_argument, NULL, 'm'},
		{"mbuf-size", required_argument, NULL, 'b'}, {"promiscuous", no_argument, NULL, 'p'},
		{"version", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'}, {0}};
	uint64_t number;
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		bool ok = true;

		switch (c) {
		case 'i':
			options->instance = optarg;
			ok = lb_instance_valid(optarg);
			if (!ok)
				fprintf(stderr, "lb-dataplane: --instance: '%s' is not 1 to %d of [a-z0-9_-]\n",
					optarg, LB_INSTANCE_MAX);
			break;
		case 'w':
			ok = parse_number("workers", optarg, 1, LB_SHM_MAX_WORKERS, &number);
			options->n_workers = (unsigned)number;
			break;
		case 'f':
			ok = parse_number("flows", optarg, 1024, UINT64_C(1) << 32, &number);
			options->n_flows = number;
			break;
		case 'S':
			ok = parse_number("sessions", optarg, 1024, UINT64_C(1) << 30, &number);
			options->n_sessions = number;
			break;
		case 's':
			ok = parse_number("idle-sleep-us", optarg, 0, 100000, &number);
			options->idle_sleep_us = (uint32_t)number;
			break;
		case 'm':
			ok = parse_number("mbufs", optarg, 1024, 1u << 27, &number);
			options->n_mbufs = (uint32_t)number;
			break;
		case 'b':
			ok = parse_number("mbuf-size", optarg, RTE_PKTMBUF_HEADROOM + 64, UINT16_MAX, &number);
			options->mbuf_bytes = (uint16_t)number;
			break;
		case 'p':
			options->promiscuous = true;
			break;
		case 'v':
			printf("lb-dataplane %s (%s)\n", LB_VERSION, rte_version());
			return 1;
		case 'h':
			usage(stdout);
			return 1;
		default:
			ok = false;
		}
		if (!ok)
			return -EINVAL;
	}
	if (optind < argc) {
		fprintf(stderr, "lb-dataplane: unexpected argument '%s'\n", argv[optind]);
		return -EINVAL;
	}
	return 0;
}

static void advance_clock(void)
{
	uint64_t now_ns = lb_now_ns();

	atomic_store_explicit(&dp.tick, lb_flow_tick(now_ns), memory_order_relaxed);
	atomic_store_explicit(
		&dp.now_s, (uint32_t)(now_ns / UINT64_C(1000000000)), memory_order_relaxed);
}

static int start_ports(const struct options *options, unsigned n_ports)
{
	// +1: pools of 2^n - 1 use their memory best
	unsigned n_needed = rte_align32pow2(lb_port_mbufs(n_ports, dp.n_workers)) - 1;
	unsigned n_mbufs = RTE_MAX(n_needed, options->n_mbufs);
	struct rte_mempool *pool =
		rte_pktmbuf_pool_create("mbufs", n_mbufs, 256, 0, options->mbuf_bytes, SOCKET_ID_ANY);
	int rc = 0;

	if (pool == NULL) {
		lb_log(LB_LOG_ERROR, TOPIC,
			"no memory for %u packet buffers: reserve huge pages, or give EAL more (-m MB)", n_mbufs);
		return -ENOMEM;
	}
	for (uint16_t port = 0; rc == 0 && port < n_ports; port++) {
		rc = lb_port_start(port, dp.n_workers, pool);
		if (rc == 0 && options->promiscuous)
			rte_eth_promiscuous_enable(port); // virtio-user cannot, and delivers everything
	}
	return rc;
}

static int make_workers(const struct options *options, unsigned n_ports)
{
	unsigned lcore = rte_get_next_lcore(-1, 1, 0);

	for (unsigned i = 0; i < dp.n_workers; i++, lcore = rte_get_next_lcore(lcore, 1, 0)) {
		struct lb_worker *worker = rte_zmalloc_socket(
			"worker", sizeof(*worker), 64, (int)rte_lcore_to_socket_id(lcore));

		if (worker == NULL)
			return -ENOMEM;
		worker->frags = lb_frag_create((int)rte_lcore_to_socket_id(lcore));
		if (worker->frags == NULL) {
			rte_free(worker);
			return -ENOMEM;
		}
		worker->dp = &dp;
		worker->idx = (uint16_t)i;
		worker->lcore = lcore;
		worker->n_ports = (uint16_t)n_ports;
		worker->idle_sleep_us = options->idle_sleep_us;
		for (uint16_t port = 0; port < n_ports; port++)
			lb_port_tell_worker(port, worker, options->promiscuous);
		dp.workers[i] = worker;
	}
	return 0;
}

// A second data plane on the same instance would take the region away from the first.
static bool already_running(const char *instance)
{
	struct lb_shm_map map;
	uint32_t pid;

	if (lb_shm_attach(&map, instance, NULL, 0) != 0)
		return false;
	pid = lb_shm_owner(map.shm);
	if (pid != 0)
		lb_log(LB_LOG_ERROR, TOPIC, "instance '%s' is already running, pid %" PRIu32, instance, pid);
	lb_shm_detach(&map, false);
	return pid != 0;
}

static int make_region(const struct options *options, unsigned n_ports)
{
	struct lb_shm_header *header;
	int rc = lb_shm_create(&dp.shm, options->instance, dp.n_workers);

	if (rc < 0) {
		lb_log(LB_LOG_ERROR, TOPIC, "cannot make the shared-memory region of '%s': %s",
			options->instance, strerror(-rc));
		return rc;
	}
	header = &dp.shm.shm->header;
	header->n_ports = n_ports;
	header->flows_max = options->n_flows;
	snprintf(header->version, sizeof(header->version), "%s", LB_VERSION);
	snprintf(header->hash_impl, sizeof(header->hash_impl), "%s", lb_hash_impl());
	lb_ring_attach_consumer(&dp.commands, &dp.shm.shm->command);
	lb_ring_attach_producer(&dp.replies, &dp.shm.shm->reply);
	for (unsigned i = 0; i < dp.n_workers; i++) {
		dp.workers[i]->counters = &dp.shm.shm->workers[i];
		dp.workers[i]->counters->lcore = dp.workers[i]->lcore;
		lb_ring_attach_producer(&dp.workers[i]->events, &dp.shm.shm->events[i]);
	}
	for (uint16_t port = 0; port < n_ports; port++)
		lb_port_describe(port, &header->ports[port]);
	lb_shm_heartbeat(dp.shm.shm, LB_SIDE_DATA);
	return 0;
}

static void describe_ports(unsigned n_ports)
{
	for (uint16_t port = 0; port < n_ports; port++) {
		struct lb_shm_port *line = &dp.shm.shm->header.ports[port];

		if (lb_port_describe(port, line))
			lb_log(LB_LOG_INFO, TOPIC, "port %u (%s): link %s", port, line->name,
				line->link_up ? "up" : "down");
	}
}

static void count_objects(struct lb_shm_header *header)
{
	uint32_t n_services = 0, n_backends = 0;

	for (unsigned i = 0; i < LB_MAX_SERVICES; i++)
		n_services += dp.services[i].in_use;
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		n_backends += dp.backends[i].in_use;
	header->n_services = n_services;
	header->n_backends = n_backends;
}

static void main_loop(unsigned n_ports)
{
	struct lb_shm *shm = dp.shm.shm;
	uint64_t ports_ns = 0, heartbeat_ns = 0;

	while (!atomic_load(&dp.stop)) {
		uint32_t seen = __atomic_load_n(&shm->header.command_futex, __ATOMIC_ACQUIRE);
		unsigned n = lb_command_poll(&dp);
		uint64_t now_ns = lb_now_ns();

		advance_clock();
		if (now_ns - heartbeat_ns >= LB_SHM_HEARTBEAT_NS) {
			lb_shm_heartbeat(shm, LB_SIDE_DATA);
			heartbeat_ns = now_ns;
		}
		if (now_ns - ports_ns >= PORTS_NS) {
			describe_ports(n_ports);
			count_objects(&shm->header);
			ports_ns = now_ns;
		}
		if (!lb_resume_step(&dp) && n == 0)
			lb_shm_wait(shm, seen, WAIT_MS);
	}
}

static int start(const struct options *options)
{
	unsigned n_ports = rte_eth_dev_count_avail();
	unsigned n_lcores = rte_lcore_count() - 1;
	int rc;

	if (n_ports == 0 || n_ports > LB_SHM_MAX_PORTS) {
		lb_log(LB_LOG_ERROR, TOPIC, "%u DPDK ports: 1 to %u are needed (bind a NIC, or --vdev)", n_ports,
			LB_SHM_MAX_PORTS);
		return -ENODEV;
	}
	if (n_lcores == 0 || options->n_workers > n_lcores) {
		lb_log(LB_LOG_ERROR, TOPIC, "%u workers need %u lcores beside the main one, EAL has %u (-l, --lcores)",
			RTE_MAX(options->n_workers, 1u), RTE_MAX(options->n_workers, 1u), n_lcores);
		return -EINVAL;
	}
	if (already_running(options->instance))
		return -EBUSY;
	dp.n_workers = options->n_workers != 0 ? options->n_workers : n_lcores;
	dp.flows_per_worker = (options->n_flows + dp.n_workers - 1) / dp.n_workers;
	dp.sessions_per_worker = (options->n_sessions + dp.n_workers - 1) / dp.n_workers;
	rc = lb_dp_init(&dp, dp.n_workers);
	if (rc < 0) {
		lb_log(LB_LOG_ERROR, TOPIC, "no memory for the tables: reserve huge pages, or give EAL more (-m MB)");
		return rc;
	}
	advance_clock();
	rc = start_ports(options, n_ports);
	if (rc == 0)
		rc = make_workers(options, n_ports);
	if (rc == 0)
		rc = make_region(options, n_ports);
	if (rc == 0)
		rc = lb_flowmem_map(&dp);
	return rc;
}

/*
 * What looks in from outside: dpdk-telemetry.py and dpdk-dumpcap. Neither is worth not forwarding for: pdump
 * wants EAL's multi-process mode (not --in-memory), telemetry may be off.
 */
static void open_to_observers(const char *instance)
{
	int rc = lb_telemetry_init(&dp, instance);

	if (rc < 0)
		lb_log(LB_LOG_WARN, TOPIC, "no telemetry: %s", strerror(-rc));
	rc = rte_pdump_init();
	if (rc < 0)
		lb_log(LB_LOG_WARN, TOPIC, "dpdk-dumpcap cannot capture: %s", rte_strerror(rte_errno));
}

static void shut_down(unsigned n_ports)
{
	lb_telemetry_fini();
	rte_eal_mp_wait_lcore();
	rte_pdump_uninit();
	for (uint16_t port = 0; port < n_ports; port++) {
		rte_eth_dev_stop(port);
		rte_eth_dev_close(port);
	}
	lb_flowmem_unmap(&dp);
	// The files stay: the next data plane adopts the flows and carries the mirror over.
	if (dp.shm.shm != NULL) {
		dp.shm.shm->header.side[LB_SIDE_DATA].heartbeat_ns = 0;
		lb_shm_detach(&dp.shm, false);
	}
	for (unsigned i = 0; i < dp.n_workers && dp.workers[i] != NULL; i++) {
		lb_frag_destroy(dp.workers[i]->frags);
		rte_free(dp.workers[i]);
	}
	lb_dp_fini(&dp);
}

int main(int argc, char **argv)
{
	struct options options = {
		.instance = "default", .n_flows = 1000000, .n_sessions = 262144, .mbuf_bytes = RTE_MBUF_DEFAULT_BUF_SIZE};
	struct sigaction action = {.sa_handler = on_signal};
	unsigned n_ports = 0;
	int rc;

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return parse_options(2, (char *[]){argv[0], argv[i][1] == 'h' ? "--help" : argv[i], NULL},
				       &options) < 0;
	rc = rte_eal_init(argc, argv);
	if (rc < 0) {
		lb_log(LB_LOG_ERROR, TOPIC, "EAL does not start: %s", rte_strerror(rte_errno));
		return 1;
	}
	rc = parse_options(argc - rc, argv + rc, &options);
	if (rc != 0) {
		rte_eal_cleanup();
		return rc < 0 ? 2 : 0;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	rc = start(&options);
	n_ports = rte_eth_dev_count_avail();
	if (rc == 0)
		open_to_observers(options.instance);
	for (unsigned i = 0; rc == 0 && i < dp.n_workers; i++)
		rc = rte_eal_remote_launch(lb_worker_run, dp.workers[i], dp.workers[i]->lcore);
	if (rc == 0) {
		lb_log(LB_LOG_INFO, TOPIC, "instance '%s': %u ports, %u workers, %" PRIu64 " flows, hash by %s",
			options.instance, n_ports, dp.n_workers, options.n_flows, lb_hash_impl());
		lb_notify("READY=1");
		main_loop(n_ports);
		lb_notify("STOPPING=1");
	}
	atomic_store(&dp.stop, true);
	shut_down(n_ports);
	rte_eal_cleanup();
	return rc == 0 ? 0 : 1;
}
