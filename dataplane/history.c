/* SPDX-License-Identifier: BSD-3-Clause */
#include "dataplane/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lb/log.h"

#define TOPIC "history"
#define MAGIC UINT64_C(0x31736c6f74734c46) /* version in the first digit */

static struct lb_log_limit failures;

/* A file: this, then the lb_slot_table as it is in memory. */
struct header {
	uint64_t magic;
	struct lb_service_key key;
	uint64_t table_bytes;
	uint64_t checksum; /* lb_hash_bytes(table, table_bytes, magic) */
};

static void path_of(const struct lb_dp *dp, uint16_t service_id, const char *suffix, char path[192])
{
	const char *dir = getenv("FULCRUM_SHM_DIR");
	const char *name = strrchr(dp->shm.path, '/');

	snprintf(path, 192, "%s%s.slots.%u%s", dir != NULL ? dir : "/dev/shm",
		name != NULL ? name : "/lb", service_id, suffix);
}

static int write_all(int fd, const void *bytes, uint64_t n_bytes)
{
	const uint8_t *at = bytes;

	while (n_bytes != 0) {
		ssize_t n = write(fd, at, n_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		n_bytes -= (uint64_t)n;
	}
	return 0;
}

void lb_history_save(const struct lb_dp *dp, uint16_t service_id)
{
	const struct lb_slot_table *table = dp->services[service_id].table;
	struct header header = {.magic = MAGIC, .key = dp->services[service_id].key,
		.table_bytes = lb_slots_bytes(table->n_slots)};
	char path[192], temporary[192];
	int fd, rc;

	path_of(dp, service_id, "", path);
	path_of(dp, service_id, ".new", temporary);
	unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	rc = fd < 0 ? -errno : 0;
	header.checksum = lb_hash_bytes(table, header.table_bytes, MAGIC);
	if (rc == 0)
		rc = write_all(fd, &header, sizeof(header));
	if (rc == 0)
		rc = write_all(fd, table, header.table_bytes);
	if (fd >= 0)
		close(fd);
	if (rc == 0 && rename(temporary, path) < 0)
		rc = -errno;
	if (rc < 0) {
		unlink(temporary);
		lb_log_limited(&failures, LB_LOG_WARN, TOPIC,
			"cannot keep the slots of service %u in %s: %s", service_id, path, strerror(-rc));
	}
}

static struct lb_slot_table *read_table(int fd, const struct header *header)
{
	struct lb_slot_table *table;
	uint64_t n_read = 0;

	if (header->table_bytes > lb_slots_bytes(LB_MAGLEV_MAX_SLOTS) ||
		header->table_bytes < sizeof(*table))
		return NULL;
	table = aligned_alloc(64, (header->table_bytes + 63) & ~UINT64_C(63));
	while (table != NULL && n_read < header->table_bytes) {
		ssize_t n = read(fd, (uint8_t *)table + n_read, header->table_bytes - n_read);

		if (n <= 0)
			break;
		n_read += (uint64_t)n;
	}
	if (table == NULL || n_read == header->table_bytes)
		return table;
	free(table);
	return NULL;
}

struct lb_slot_table *lb_history_load(const struct lb_dp *dp, uint16_t service_id)
{
	const struct lb_service *service = &dp->services[service_id];
	struct lb_slot_table *table = NULL;
	struct header header;
	struct stat st;
	char path[192];
	int fd;

	path_of(dp, service_id, "", path);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
		read(fd, &header, sizeof(header)) == (ssize_t)sizeof(header) && header.magic == MAGIC &&
		memcmp(&header.key, &service->key, sizeof(header.key)) == 0)
		table = read_table(fd, &header);
	close(fd);
	if (table != NULL && (lb_hash_bytes(table, header.table_bytes, MAGIC) != header.checksum ||
				     !lb_slots_valid(table, header.table_bytes, dp->now_s))) {
		free(table);
		table = NULL;
	}
	if (table == NULL)
		lb_log(LB_LOG_INFO, TOPIC, "the kept slots of service %u do not fit: ignored", service_id);
	return table;
}

void lb_history_forget(const struct lb_dp *dp, uint16_t service_id)
{
	char path[192];

	path_of(dp, service_id, "", path);
	unlink(path);
}
