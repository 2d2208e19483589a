/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/mirror.h"

#include <stdio.h>
#include <string.h>

#define KEY_SEED 2u
#define NS_PER_S UINT64_C(1000000000)

static uint64_t key_of(const struct lb_backend *backend)
{
	char names[2 * LB_CONFIG_NAME_MAX + LB_ADDR_STRLEN + 3];
	size_t len = strlen(backend->service->config->name) + 1;

	snprintf(names, sizeof(names), "%s%c%s", backend->service->config->name, '\0',
		backend->config->name);
	len += strlen(backend->config->name);
	return lb_hash_bytes(names, len < sizeof(names) ? len : sizeof(names), KEY_SEED);
}

void lb_mirror_write(const struct lb_backend *backend)
{
	struct lb_shm_mirror *mirror = lb_dp_mirror(backend->service->model->dp);
	struct lb_shm_mirror entry = {
		.key = key_of(backend),
		.since_s = backend->since_ns / NS_PER_S,
		.health = (uint8_t)backend->health,
	};

	if (mirror == NULL)
		return;
	entry.checksum = lb_shm_mirror_checksum(&entry);
	// a reader that comes in between finds a wrong checksum
	mirror[backend->id] = entry;
}

void lb_mirror_read(
	const struct lb_backend *backend, enum lb_health_state *health, uint64_t *since_ns)
{
	const struct lb_shm_mirror *mirror = lb_dp_mirror(backend->service->model->dp);
	struct lb_shm_mirror entry;
	uint64_t now_ns = lb_realtime_ns();

	if (mirror == NULL)
		return;
	entry = mirror[backend->id];
	if (entry.key != key_of(backend) || entry.checksum != lb_shm_mirror_checksum(&entry))
		return;
	if (entry.health != LB_HEALTH_UP && entry.health != LB_HEALTH_DOWN)
		return;
	*health = (enum lb_health_state)entry.health;
	if (entry.since_s < now_ns / NS_PER_S)
		*since_ns = entry.since_s * NS_PER_S;
}
