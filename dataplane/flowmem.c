/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the flow tables live. Main lcore only. */
#include "dataplane/flowmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_cycles.h>

#include "dataplane/worker.h"
#include "lb/log.h"

#define TOPIC "flowtable"
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)
#define FLUSH_WAIT_US 500u
#define FLUSH_WAITS 400u

// A file of another size is emptied first: what it holds does not fit.
static int open_file(const char *path, uint64_t size_bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
		close(fd);
		return -EPERM;
	}
	if (((uint64_t)st.st_size != size_bytes && ftruncate(fd, 0) < 0) ||
		ftruncate(fd, (off_t)size_bytes) < 0 || fallocate(fd, 0, 0, (off_t)size_bytes) < 0) {
		int rc = -errno;

		close(fd);
		unlink(path);
		return rc;
	}
	return fd;
}

int lb_flowmem_map_file(const struct lb_dp *dp, const char *what, unsigned idx, uint64_t n_bytes,
	void **out, uint64_t *out_bytes)
{
	uint64_t size_bytes = RTE_ALIGN_CEIL(n_bytes, HUGE_PAGE_BYTES);
	char path[192];
	void *mem;
	int fd;

	snprintf(path, sizeof(path), "%s.%s.%u", dp->shm.path, what, idx);
	fd = open_file(path, size_bytes);
	if (fd < 0) {
		lb_log(LB_LOG_ERROR, TOPIC, "cannot make %s (%" PRIu64 " bytes): %s%s", path, size_bytes,
			strerror(-fd), fd == -ENOSPC ? ": reserve more huge pages (vm.nr_hugepages)" : "");
		return fd;
	}
	mem = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	if (mem == MAP_FAILED)
		return -errno;
	*out = mem;
	*out_bytes = size_bytes;
	return 0;
}

int lb_flowmem_map(struct lb_dp *dp)
{
	for (unsigned i = 0; i < dp->n_workers; i++) {
		int rc = lb_flowmem_map_file(dp, "flows", i, lb_flowtable_bytes(dp->flows_per_worker),
			&dp->workers[i]->flow_mem, &dp->workers[i]->flow_mem_bytes);

		if (rc < 0)
			return rc;
	}
	return 0;
}

void lb_flowmem_unmap(struct lb_dp *dp)
{
	// A start that failed early has not made all of them.
	for (unsigned i = 0; i < dp->n_workers && dp->workers[i] != NULL; i++) {
		if (dp->workers[i]->flow_mem != NULL)
			munmap(dp->workers[i]->flow_mem, dp->workers[i]->flow_mem_bytes);
		if (dp->workers[i]->session_mem != NULL)
			munmap(dp->workers[i]->session_mem, dp->workers[i]->session_mem_bytes);
	}
}

void lb_flowmem_adopt(struct lb_dp *dp)
{
	uint64_t secret_id = lb_hash_bytes(dp->secret, sizeof(dp->secret), 1);
	uint64_t n_adopted = 0;

	for (unsigned i = 0; i < dp->n_workers; i++) {
		struct lb_worker *worker = dp->workers[i];
		struct lb_flowtable_config config = {
			.mem = worker->flow_mem,
			.mem_bytes = worker->flow_mem_bytes,
			.n_flows = dp->flows_per_worker,
			.secret_id = secret_id,
			.idle_ticks = dp->idle_ticks,
			.active = &worker->counters->backends[0].active_flows,
			.closing = &worker->counters->backends[0].closing_flows,
			.active_stride = sizeof(worker->counters->backends[0]),
			.counters = &worker->counters->flow,
			.worker = i,
			.n_workers = dp->n_workers,
		};
		char why[128];
		int64_t n = lb_flowtable_init(&worker->flowtable, &config, dp->tick, why, sizeof(why));

		if (n < 0)
			rte_panic("flow table of worker %u: %s\n", i, strerror((int)-n)); // checked at start
		n_adopted += (uint64_t)n;
		lb_log(LB_LOG_INFO, TOPIC, "worker %u: %" PRId64 " flows adopted, room for %" PRIu64 "%s%s", i,
			n, lb_flowtable_capacity(&worker->flowtable), why[0] != '\0' ? "; " : "", why);
	}
	dp->shm.shm->header.adopted_flows = (uint32_t)RTE_MIN(n_adopted, (uint64_t)UINT32_MAX);
}

static int check(const struct lb_dp *dp, const struct lb_msg_flush *msg)
{
	if (msg->zero != 0 || msg->service >= LB_MAX_SERVICES)
		return -EINVAL;
	if (!dp->services[msg->service].in_use)
		return -ENOENT;
	if (msg->backend != LB_BACKEND_NONE &&
		(!dp->backends[msg->backend].in_use || dp->backends[msg->backend].service != msg->service))
		return -ENOENT;
	return 0;
}

int lb_flowmem_count(const struct lb_dp *dp, const struct lb_msg_flush *msg, uint64_t *n_flows)
{
	int rc = check(dp, msg);
	int64_t n = 0;

	for (unsigned id = 0; rc == 0 && id < LB_MAX_BACKENDS; id++) {
		if (!dp->backends[id].in_use || dp->backends[id].service != msg->service ||
			(msg->backend != LB_BACKEND_NONE && msg->backend != id))
			continue;
		for (unsigned i = 0; i < dp->n_workers; i++)
			n += dp->workers[i]->counters->backends[id].active_flows +
			     dp->workers[i]->counters->backends[id].closing_flows;
	}
	*n_flows = (uint64_t)RTE_MAX(n, 0);
	return rc;
}

// Whether a flush is still going on at some worker, which reads the flags.
static bool is_flushing(const struct lb_dp *dp)
{
	for (unsigned i = 0; i < dp->n_workers; i++)
		if (atomic_load_explicit(&dp->workers[i]->flushes, memory_order_acquire) != dp->flushes)
			return true;
	return false;
}

int lb_flowmem_flush(struct lb_dp *dp, const struct lb_msg_flush *msg, uint64_t *n_flows)
{
	int rc = lb_flowmem_count(dp, msg, n_flows);

	// One that has just begun takes milliseconds; less than control would miss a heartbeat for.
	for (unsigned i = 0; rc == 0 && i < FLUSH_WAITS && is_flushing(dp); i++)
		rte_delay_us_sleep(FLUSH_WAIT_US);
	if (rc == 0 && is_flushing(dp))
		rc = -EAGAIN;
	if (rc < 0)
		return rc;
	for (unsigned id = 0; id < LB_MAX_BACKENDS; id++)
		dp->flush[id] = dp->backends[id].in_use && dp->backends[id].service == msg->service &&
				(msg->backend == LB_BACKEND_NONE || msg->backend == id);
	atomic_fetch_add_explicit(&dp->flushes, 1, memory_order_release);
	return 0;
}
