/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/fake_dp.h"

static int service_set(struct fake_dp *fake, const struct lb_msg_service *msg)
{
	struct fake_service *service = &fake->services[msg->id % LB_MAX_SERVICES];

	if (msg->id >= LB_MAX_SERVICES || msg->mode >= LB_MODE_N ||
		msg->idle_timeout_ms < LB_IDLE_TIMEOUT_MIN_MS ||
		msg->idle_timeout_ms > LB_IDLE_TIMEOUT_MAX_MS)
		return -EINVAL;
	for (unsigned i = 0; i < LB_MAX_SERVICES; i++)
		if (i != msg->id && fake->services[i].in_use &&
			memcmp(&fake->services[i].msg.key, &msg->key, sizeof(msg->key)) == 0)
			return -EEXIST;
	if (service->in_use && (service->msg.mode != msg->mode ||
				       memcmp(&service->msg.key, &msg->key, sizeof(msg->key)) != 0))
		return -EBUSY;
	service->in_use = service->mentioned = true;
	service->msg = *msg;
	return 0;
}

static int service_del(struct fake_dp *fake, uint16_t id)
{
	if (id >= LB_MAX_SERVICES || !fake->services[id].in_use)
		return -ENOENT;
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		if (fake->backends[i].msg.service == id)
			fake->backends[i].in_use = false;
	free(fake->services[id].slots);
	fake->services[id] = (struct fake_service){0};
	return 0;
}

static bool is_named(const struct fake_dp *fake, uint16_t id)
{
	const struct fake_service *service = &fake->services[fake->backends[id].msg.service];

	for (uint32_t i = 0; service->slots != NULL && i < service->n_slots; i++)
		if (service->slots[i] == id)
			return true;
	return false;
}

static int backend_set(struct fake_dp *fake, const struct lb_msg_backend *msg)
{
	struct fake_backend *backend = &fake->backends[msg->id];

	if (msg->id >= LB_MAX_BACKENDS || msg->service >= LB_MAX_SERVICES ||
		msg->state >= LB_BACKEND_STATE_N)
		return -EINVAL;
	if (!fake->services[msg->service].in_use)
		return -ENOENT;
	if (msg->nexthop == LB_NEXTHOP_HOST)
		return -EINVAL;
	if (msg->nexthop >= LB_MAX_NEXTHOPS || (msg->nexthop != 0 && !fake->nexthops[msg->nexthop]))
		return -ENOENT;
	if (backend->in_use && (backend->msg.service != msg->service ||
				       !lb_addr_equal(&backend->msg.addr, &msg->addr) ||
				       backend->msg.port_be != msg->port_be))
		return -EBUSY;
	for (unsigned i = 0; !backend->in_use && i < LB_MAX_BACKENDS; i++)
		if (lb_mode_owns_endpoints(fake->services[msg->service].msg.mode) &&
			fake->backends[i].in_use &&
			fake->services[fake->backends[i].msg.service].msg.mode ==
				fake->services[msg->service].msg.mode &&
			fake->backends[i].msg.port_be == msg->port_be &&
			lb_addr_equal(&fake->backends[i].msg.addr, &msg->addr) &&
			fake->services[fake->backends[i].msg.service].msg.key.proto ==
				fake->services[msg->service].msg.key.proto)
			return -EEXIST;
	if (backend->in_use && backend->msg.state == LB_BACKEND_UP && msg->state != LB_BACKEND_UP &&
		is_named(fake, msg->id))
		fake->n_losses++;
	backend->in_use = backend->mentioned = true;
	backend->msg = *msg;
	return 0;
}

static int backend_del(struct fake_dp *fake, uint16_t id)
{
	if (id >= LB_MAX_BACKENDS || !fake->backends[id].in_use)
		return -ENOENT;
	if (is_named(fake, id))
		return -EBUSY;
	fake->backends[id].in_use = false;
	return 0;
}

static int table_publish(struct fake_dp *fake, const struct lb_msg_table *msg)
{
	struct fake_service *service = &fake->services[msg->service % LB_MAX_SERVICES];
	size_t bytes = (msg->n_slots + 2 * msg->n_members + msg->n_sequence) * sizeof(uint16_t);
	uint16_t *slots;

	if (msg->service >= LB_MAX_SERVICES || msg->buffer >= LB_SHM_N_TABLES ||
		msg->n_slots < LB_MAGLEV_MIN_SLOTS || msg->n_slots > LB_MAGLEV_MAX_SLOTS)
		return -EINVAL;
	if (!service->in_use)
		return -ENOENT;
	slots = malloc(bytes);
	assert_non_null(slots);
	memcpy(slots, fake->map.shm->tables[msg->buffer].slots, bytes);
	if (lb_hash_bytes(slots, bytes, msg->version) != msg->checksum) {
		free(slots);
		return -EBADMSG;
	}
	for (uint32_t i = 0; i < msg->n_slots; i++) {
		if (slots[i] == LB_MAGLEV_EMPTY ||
			(fake->backends[slots[i]].in_use &&
				fake->backends[slots[i]].msg.service == msg->service))
			continue;
		free(slots);
		return -ERANGE;
	}
	free(service->slots);
	service->slots = slots;
	service->n_slots = msg->n_slots;
	service->version = msg->version;
	return 0;
}

static int nexthop_set(struct fake_dp *fake, const struct lb_msg_nexthop *msg)
{
	if (msg->id == 0 || msg->id >= LB_NEXTHOP_HOST)
		return -EINVAL;
	fake->nexthops[msg->id] = 1;
	fake->nexthop_mentioned[msg->id] = true;
	fake->nexthop_msgs[msg->id] = *msg;
	return 0;
}

static int nexthop_del(struct fake_dp *fake, uint16_t id)
{
	if (id == 0 || id >= LB_NEXTHOP_HOST || !fake->nexthops[id])
		return -ENOENT;
	for (size_t i = 0; i < fake->n_routes; i++)
		if (fake->routes[i].msg.nexthop == id)
			return -EBUSY;
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		if (fake->backends[i].in_use && fake->backends[i].msg.nexthop == id)
			return -EBUSY;
	fake->nexthops[id] = 0;
	return 0;
}

static struct fake_route *find_route(struct fake_dp *fake, const struct lb_msg_route *msg)
{
	for (size_t i = 0; i < fake->n_routes; i++) {
		struct fake_route *route = &fake->routes[i];

		if (route->msg.family == msg->family && route->msg.length == msg->length &&
			lb_addr_equal(&route->msg.prefix, &msg->prefix))
			return route;
	}
	return NULL;
}

static int route_set(struct fake_dp *fake, const struct lb_msg_route *msg)
{
	struct fake_route *route = find_route(fake, msg);

	if (msg->nexthop == LB_NEXTHOP_NONE || msg->zero != 0)
		return -EINVAL;
	if (msg->nexthop != LB_NEXTHOP_HOST &&
		(msg->nexthop >= LB_MAX_NEXTHOPS || !fake->nexthops[msg->nexthop]))
		return -ENOENT;
	if (route == NULL && fake->n_routes == FAKE_MAX_ROUTES)
		return -ENOSPC;
	if (route == NULL)
		route = &fake->routes[fake->n_routes++];
	*route = (struct fake_route){.mentioned = true, .msg = *msg};
	return 0;
}

static int route_del(struct fake_dp *fake, const struct lb_msg_route *msg)
{
	struct fake_route *route = find_route(fake, msg);

	if (route == NULL)
		return -ENOENT;
	*route = fake->routes[--fake->n_routes];
	return 0;
}

static int sync_begin(struct fake_dp *fake)
{
	for (size_t i = 0; i < fake->n_routes; i++)
		fake->routes[i].mentioned = false;
	for (unsigned i = 0; i < LB_MAX_SERVICES; i++)
		fake->services[i].mentioned = false;
	for (unsigned i = 0; i < LB_MAX_BACKENDS; i++)
		fake->backends[i].mentioned = false;
	memset(fake->nexthop_mentioned, 0, sizeof(fake->nexthop_mentioned));
	fake->syncing = true;
	return 0;
}

static int sync_end(struct fake_dp *fake)
{
	if (!fake->syncing)
		return -EINVAL;
	fake->syncing = false;
	fake->synced = true;
	for (uint16_t i = 0; i < LB_MAX_SERVICES; i++)
		if (fake->services[i].in_use && !fake->services[i].mentioned)
			service_del(fake, i);
	for (uint16_t i = 0; i < LB_MAX_BACKENDS; i++)
		if (fake->backends[i].in_use && !fake->backends[i].mentioned)
			backend_del(fake, i);
	for (size_t i = fake->n_routes; i-- > 0;)
		if (!fake->routes[i].mentioned)
			route_del(fake, &fake->routes[i].msg);
	for (uint16_t i = 1; i < LB_NEXTHOP_HOST; i++)
		if (fake->nexthops[i] && !fake->nexthop_mentioned[i])
			nexthop_del(fake, i);
	fake->map.shm->header.synced = 1;
	return 0;
}

static int execute(struct fake_dp *fake, const struct lb_msg *msg)
{
	switch (msg->op) {
	case LB_OP_SYNC_BEGIN:
		return sync_begin(fake);
	case LB_OP_SYNC_END:
		return sync_end(fake);
	case LB_OP_SECRET_SET:
		if (fake->keep_secret && fake->has_secret && memcmp(fake->secret, msg->secret, sizeof(fake->secret)) != 0)
			return -EBUSY;
		memcpy(fake->secret, msg->secret, sizeof(fake->secret));
		fake->has_secret = true;
		return 0;
	case LB_OP_SERVICE_SET:
		return service_set(fake, &msg->service);
	case LB_OP_SERVICE_DEL:
		return service_del(fake, msg->id);
	case LB_OP_BACKEND_SET:
		return backend_set(fake, &msg->backend);
	case LB_OP_BACKEND_DEL:
		return backend_del(fake, msg->id);
	case LB_OP_TABLE_PUBLISH:
		return table_publish(fake, &msg->table);
	case LB_OP_NEXTHOP_SET:
		return nexthop_set(fake, &msg->nexthop);
	case LB_OP_NEXTHOP_DEL:
		return nexthop_del(fake, msg->id);
	case LB_OP_ROUTE_SET:
		return route_set(fake, &msg->route);
	case LB_OP_ROUTE_DEL:
		return route_del(fake, &msg->route);
	default:
		return msg->op > 0 && msg->op < LB_OP_N ? 0 : -EINVAL;
	}
}

static void note(struct fake_dp *fake, const struct lb_msg *msg, int status)
{
	if (fake->n_log == fake->n_allocated) {
		fake->n_allocated = fake->n_allocated > 0 ? 2 * fake->n_allocated : 1024;
		fake->log = realloc(fake->log, fake->n_allocated * sizeof(*fake->log));
		fake->statuses =
			realloc(fake->statuses, fake->n_allocated * sizeof(*fake->statuses));
		assert_non_null(fake->log);
		assert_non_null(fake->statuses);
	}
	fake->log[fake->n_log] = *msg;
	fake->statuses[fake->n_log++] = status;
}

static void push_reply(struct fake_dp *fake, const struct lb_msg *reply)
{
	while (!lb_ring_push(&fake->reply, reply) && !fake->stop)
		usleep(100);
}

static void answer(struct fake_dp *fake, const struct lb_msg *msg)
{
	struct lb_msg reply = {.seq = msg->seq, .op = msg->op};
	bool refuse = fake->refuse_op == msg->op && fake->refuse_count > 0;
	bool skip = fake->skip_op == msg->op;

	pthread_mutex_lock(&fake->lock);
	if (refuse) {
		fake->refuse_count--;
		reply.reply.status = fake->refuse_status;
	} else {
		reply.reply.status = execute(fake, msg);
		if (reply.reply.status < 0)
			fake->n_refused++;
	}
	note(fake, msg, reply.reply.status);
	pthread_mutex_unlock(&fake->lock);
	for (; fake->garbage > 0; fake->garbage--) {
		struct lb_msg garbage;

		memset(&garbage, 0xa5 + fake->garbage, sizeof(garbage));
		garbage.seq = msg->seq - 1000 - (uint32_t)fake->garbage;
		push_reply(fake, &garbage);
	}
	if (skip)
		fake->skip_op = 0;
	else
		push_reply(fake, &reply);
}

static void beat(struct fake_dp *fake)
{
	struct lb_shm_header *header = &fake->map.shm->header;

	if (fake->pid == 0) {
		lb_shm_heartbeat(fake->map.shm, LB_SIDE_DATA);
		return;
	}
	__atomic_store_n(&header->side[LB_SIDE_DATA].pid, fake->pid, __ATOMIC_RELAXED);
	__atomic_store_n(&header->side[LB_SIDE_DATA].heartbeat_ns, lb_now_ns(), __ATOMIC_RELEASE);
}

static void *run(void *arg)
{
	struct fake_dp *fake = arg;
	struct lb_msg msg;

	while (!fake->stop) {
		uint32_t seen = lb_shm_wait_seen(fake->map.shm);

		if (!fake->dead)
			beat(fake);
		while (!fake->dead && !fake->hang && !fake->stop &&
			lb_ring_pop(&fake->command, &msg))
			answer(fake, &msg);
		if (fake->dead || fake->hang)
			usleep(2000);
		else
			lb_shm_wait(fake->map.shm, seen, 20);
	}
	return NULL;
}

struct fake_dp *fake_dp_start(const char *instance, unsigned n_workers)
{
	struct fake_dp *fake = calloc(1, sizeof(*fake));

	assert_non_null(fake);
	assert_int_equal(lb_shm_create(&fake->map, instance, n_workers), 0);
	pthread_mutex_init(&fake->lock, NULL);
	lb_ring_attach_consumer(&fake->command, &fake->map.shm->command);
	lb_ring_attach_producer(&fake->reply, &fake->map.shm->reply);
	assert_int_equal(pthread_create(&fake->thread, NULL, run, fake), 0);
	return fake;
}

void fake_dp_stop(struct fake_dp *fake, bool unlink_file)
{
	fake->stop = true;
	pthread_join(fake->thread, NULL);
	lb_shm_detach(&fake->map, unlink_file);
	for (unsigned i = 0; i < LB_MAX_SERVICES; i++)
		free(fake->services[i].slots);
	pthread_mutex_destroy(&fake->lock);
	free(fake->log);
	free(fake->statuses);
	free(fake);
}

void fake_dp_event(struct fake_dp *fake, unsigned worker, const struct lb_msg *event)
{
	struct lb_ring ring;

	lb_ring_attach_producer(&ring, &fake->map.shm->events[worker]);
	assert_true(lb_ring_push(&ring, event));
}

size_t fake_dp_count(struct fake_dp *fake, unsigned op)
{
	size_t n = 0;

	pthread_mutex_lock(&fake->lock);
	for (size_t i = 0; i < fake->n_log; i++)
		n += fake->log[i].op == op;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

size_t fake_dp_find(struct fake_dp *fake, size_t from, unsigned op)
{
	size_t found = SIZE_MAX;

	pthread_mutex_lock(&fake->lock);
	for (size_t i = from; i < fake->n_log && found == SIZE_MAX; i++)
		if (fake->log[i].op == op)
			found = i;
	pthread_mutex_unlock(&fake->lock);
	return found;
}

char *fake_dp_shm_dir(void)
{
	char *dir = strdup("/tmp/fulcrum-test-XXXXXX");

	assert_non_null(dir);
	assert_non_null(mkdtemp(dir));
	setenv("FULCRUM_SHM_DIR", dir, 1);
	return dir;
}

void fake_dp_remove_dir(char *dir)
{
	DIR *handle = opendir(dir);
	struct dirent *entry;
	char path[600];

	while (handle != NULL && (entry = readdir(handle)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		unlink(path);
	}
	if (handle != NULL)
		closedir(handle);
	rmdir(dir);
	free(dir);
}
