/* SPDX-License-Identifier: BSD-3-Clause */
#include "dataplane/telemetry.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_common.h>
#include <rte_telemetry.h>

#include "dataplane/worker.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* telemetry's thread and the main lcore at its end */
static const struct lb_dp *the_dp; /* NULL: it is going down */
static const char *the_instance;

static uint64_t read_word(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

// A parameter as a whole number below @p n. @return -EINVAL: it is none.
static int parse_id(const char *params, unsigned n, unsigned *id)
{
	unsigned long value;
	char *end;

	if (params == NULL || params[0] < '0' || params[0] > '9')
		return -EINVAL;
	errno = 0;
	value = strtoul(params, &end, 10);
	if (*end != '\0' || errno != 0 || value >= n)
		return -EINVAL;
	*id = (unsigned)value;
	return 0;
}

static int on_info(const char *params, struct rte_tel_data *data)
{
	const struct lb_shm_header *header = &the_dp->shm.shm->header;

	(void)params;
	rte_tel_data_start_dict(data);
	rte_tel_data_add_dict_string(data, "version", LB_VERSION);
	rte_tel_data_add_dict_string(data, "instance", the_instance);
	rte_tel_data_add_dict_string(data, "region", the_dp->shm.path);
	rte_tel_data_add_dict_string(data, "live", atomic_load(&the_dp->live) ? "yes" : "no");
	rte_tel_data_add_dict_u64(data, "workers", the_dp->n_workers);
	rte_tel_data_add_dict_u64(data, "ports", header->n_ports);
	rte_tel_data_add_dict_u64(data, "services", header->n_services);
	rte_tel_data_add_dict_u64(data, "backends", header->n_backends);
	rte_tel_data_add_dict_u64(data, "flows_max", header->flows_max);
	return 0;
}

static int on_workers(const char *params, struct rte_tel_data *data)
{
	(void)params;
	rte_tel_data_start_array(data, RTE_TEL_INT_VAL);
	for (unsigned i = 0; i < the_dp->n_workers; i++)
		rte_tel_data_add_array_int(data, (int)i);
	return 0;
}

static int on_worker(const char *params, struct rte_tel_data *data)
{
	const struct lb_worker_counters *counters;
	unsigned id;

	if (parse_id(params, the_dp->n_workers, &id) < 0)
		return -EINVAL;
	counters = the_dp->workers[id]->counters;
	rte_tel_data_start_dict(data);
	rte_tel_data_add_dict_u64(data, "lcore", counters->lcore);
	rte_tel_data_add_dict_u64(data, "rx_pkts", read_word(&counters->rx_pkts));
	rte_tel_data_add_dict_u64(data, "rx_bytes", read_word(&counters->rx_bytes));
	rte_tel_data_add_dict_u64(data, "tx_pkts", read_word(&counters->tx_pkts));
	rte_tel_data_add_dict_u64(data, "tx_bytes", read_word(&counters->tx_bytes));
	rte_tel_data_add_dict_u64(data, "polls", read_word(&counters->polls));
	rte_tel_data_add_dict_u64(data, "polls_idle", read_word(&counters->polls_idle));
	rte_tel_data_add_dict_u64(data, "events_lost", read_word(&counters->events_lost));
	rte_tel_data_add_dict_u64(data, "flows_used", read_word(&counters->flow.used));
	rte_tel_data_add_dict_u64(data, "flow_hit", read_word(&counters->flow.hit));
	rte_tel_data_add_dict_u64(data, "flow_miss", read_word(&counters->flow.miss));
	rte_tel_data_add_dict_u64(data, "flow_insert", read_word(&counters->flow.insert));
	rte_tel_data_add_dict_u64(data, "flow_expire", read_word(&counters->flow.expire));
	rte_tel_data_add_dict_u64(data, "flow_evict", read_word(&counters->flow.evict));
	rte_tel_data_add_dict_u64(data, "sessions_used", read_word(&counters->sessions.used));
	rte_tel_data_add_dict_u64(data, "sessions_max", read_word(&counters->sessions.capacity));
	return 0;
}

static int on_verdicts(const char *params, struct rte_tel_data *data)
{
	(void)params;
	rte_tel_data_start_dict(data);
	for (unsigned i = 0; i < LB_VERDICT_N; i++) {
		uint64_t n = 0;

		for (unsigned k = 0; k < the_dp->n_workers; k++)
			n += read_word(&the_dp->workers[k]->counters->verdicts[i]);
		rte_tel_data_add_dict_u64(data, lb_verdict_name(i), n);
	}
	return 0;
}

static int on_service(const char *params, struct rte_tel_data *data)
{
	const struct lb_service *service;
	char text[LB_ADDR_STRLEN];
	unsigned id;

	if (parse_id(params, LB_MAX_SERVICES, &id) < 0 || !the_dp->services[id].in_use)
		return -EINVAL;
	service = &the_dp->services[id];
	lb_addr_format(&service->key.addr, text);
	rte_tel_data_start_dict(data);
	rte_tel_data_add_dict_string(data, "vip", text);
	rte_tel_data_add_dict_u64(data, "port", rte_be_to_cpu_16(service->key.port_be));
	rte_tel_data_add_dict_u64(data, "protocol", service->key.proto);
	rte_tel_data_add_dict_string(data, "mode", lb_mode_name(service->mode));
	rte_tel_data_add_dict_string(data, "scheduler", lb_scheduler_name(service->scheduler));
	rte_tel_data_add_dict_string(data, "tracking", lb_tracking_name(service->tracking));
	return 0;
}

static int on_backend(const char *params, struct rte_tel_data *data)
{
	const struct lb_backend *backend;
	uint64_t in_pkts = 0, out_pkts = 0, new_flows = 0;
	char text[LB_ADDR_STRLEN];
	unsigned id;

	if (parse_id(params, LB_MAX_BACKENDS, &id) < 0 || !the_dp->backends[id].in_use)
		return -EINVAL;
	backend = &the_dp->backends[id];
	for (unsigned k = 0; k < the_dp->n_workers; k++) {
		const struct lb_backend_counters *counters = &the_dp->workers[k]->counters->backends[id];

		in_pkts += read_word(&counters->in_pkts);
		out_pkts += read_word(&counters->out_pkts);
		new_flows += read_word(&counters->new_flows);
	}
	lb_addr_format(&backend->addr, text);
	rte_tel_data_start_dict(data);
	rte_tel_data_add_dict_string(data, "address", text);
	rte_tel_data_add_dict_u64(data, "port", rte_be_to_cpu_16(backend->port_be));
	rte_tel_data_add_dict_u64(data, "service", backend->service);
	rte_tel_data_add_dict_string(data, "state", lb_backend_state_name(atomic_load(&backend->state)));
	rte_tel_data_add_dict_u64(data, "in_pkts", in_pkts);
	rte_tel_data_add_dict_u64(data, "out_pkts", out_pkts);
	rte_tel_data_add_dict_u64(data, "new_flows", new_flows);
	return 0;
}

static const struct {
	const char *command, *help;
	int (*answer)(const char *params, struct rte_tel_data *data);
} commands[] = {
	{"/fulcrum/info", "Version, instance, counts of objects. No parameter", on_info},
	{"/fulcrum/workers", "Ids of the workers. No parameter", on_workers},
	{"/fulcrum/worker", "Counters of a worker and its flow table. Parameter: worker id", on_worker},
	{"/fulcrum/verdicts", "Packets by what became of them, drops by reason. No parameter", on_verdicts},
	{"/fulcrum/service", "A service. Parameter: service id", on_service},
	{"/fulcrum/backend", "A backend with its counters. Parameter: backend id", on_backend},
};

static int on_command(const char *cmd, const char *params, struct rte_tel_data *data)
{
	int rc = -ENODEV;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; the_dp != NULL && i < RTE_DIM(commands); i++)
		if (strcmp(commands[i].command, cmd) == 0)
			rc = commands[i].answer(params, data);
	pthread_mutex_unlock(&lock);
	return rc;
}

int lb_telemetry_init(const struct lb_dp *dp, const char *instance)
{
	the_dp = dp;
	the_instance = instance;
	for (unsigned i = 0; i < RTE_DIM(commands); i++) {
		int rc = rte_telemetry_register_cmd(commands[i].command, on_command, commands[i].help);

		if (rc < 0)
			return rc;
	}
	return 0;
}

void lb_telemetry_fini(void)
{
	pthread_mutex_lock(&lock);
	the_dp = NULL;
	pthread_mutex_unlock(&lock);
}
