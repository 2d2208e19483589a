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
		.ramp = backend->ramp,
		.less = (uint8_t)(100 - backend->agent_percent),
		.weight_by = (uint8_t)backend->weight_by,
		.agent_admin = (uint8_t)backend->agent_admin,
		.agent_oper = (uint8_t)backend->agent_oper,
	};

	if (mirror == NULL)
		return;
	entry.checksum = lb_shm_mirror_checksum(&entry);
	// a reader that comes in between finds a wrong checksum
	mirror[backend->id] = entry;
}

bool lb_mirror_read(const struct lb_backend *backend, struct lb_mirrored *mirrored)
{
	const struct lb_shm_mirror *mirror = lb_dp_mirror(backend->service->model->dp);
	struct lb_shm_mirror entry;

	if (mirror == NULL)
		return false;
	entry = mirror[backend->id];
	if (entry.key != key_of(backend) || entry.checksum != lb_shm_mirror_checksum(&entry))
		return false;
	*mirrored = (struct lb_mirrored){
		.health = LB_HEALTH_UNKNOWN,
		.ramp = entry.ramp < 100 ? entry.ramp : 0,
		.agent_percent = entry.less <= 100 ? (uint8_t)(100 - entry.less) : 100,
		.weight_by = entry.weight_by <= LB_WEIGHT_BY_AGENT ? entry.weight_by : 0,
		.agent_admin = entry.agent_admin <= LB_AGENT_MAINT ? entry.agent_admin : 0,
		.agent_oper = entry.agent_oper <= LB_AGENT_DOWN ? entry.agent_oper : 0,
	};
	if (entry.health == LB_HEALTH_UP || entry.health == LB_HEALTH_DOWN)
		mirrored->health = (enum lb_health_state)entry.health;
	if (entry.since_s < lb_realtime_ns() / NS_PER_S)
		mirrored->since_ns = entry.since_s * NS_PER_S;
	return true;
}
