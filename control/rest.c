/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/rest.h"

#include <stdlib.h>

#define NS_PER_S UINT64_C(1000000000)
#define N_ROUNDS 2u     /* what the data plane waits for: one may have begun before the backend went */
#define N_BATCHES 48u   /* one a second, for as long as a rest takes, and some more where sweeps are late */
#define BATCH_NS NS_PER_S

/* What began to rest together. */
struct batch {
	uint32_t ticket; /* in `ids` */
	uint32_t n_ids;
	uint64_t since_ns; /* CLOCK_MONOTONIC */
	uint64_t boot_id;  /* of the data plane that `sweeps` are of */
	uint32_t sweeps[LB_SHM_MAX_WORKERS];
};

struct lb_rest {
	struct lb_ids *ids;
	uint32_t ticket; /* of those that have not begun yet */
	uint32_t n_ids;  /* with it */
	uint64_t begun_ns; /* when the last batch began; 0: none did */
	struct batch batches[N_BATCHES]; /* the oldest first */
	unsigned n_batches;
};

struct lb_rest *lb_rest_create(struct lb_ids *ids)
{
	struct lb_rest *rest = calloc(1, sizeof(*rest));

	if (rest == NULL)
		return NULL;
	rest->ids = ids;
	rest->ticket = 1;
	return rest;
}

void lb_rest_destroy(struct lb_rest *rest)
{
	free(rest);
}

void lb_rest_add(struct lb_rest *rest, uint32_t id)
{
	lb_ids_rest(rest->ids, id, rest->ticket);
	rest->n_ids++;
}

static uint64_t boot_id_of(const struct lb_shm_map *map)
{
	return __atomic_load_n(&map->shm->header.boot_id, __ATOMIC_RELAXED);
}

static uint32_t sweeps_of(const struct lb_shm_map *map, unsigned worker)
{
	return __atomic_load_n(&map->shm->workers[worker].sweeps, __ATOMIC_RELAXED);
}

static void begin(struct batch *batch, const struct lb_shm_map *map)
{
	batch->since_ns = lb_now_ns();
	batch->boot_id = boot_id_of(map);
	for (unsigned i = 0; i < map->n_workers; i++)
		batch->sweeps[i] = sweeps_of(map, i);
}

void lb_rest_settled(struct lb_rest *rest, const struct lb_shm_map *map)
{
	uint64_t now_ns = lb_now_ns();
	struct batch *batch = &rest->batches[rest->n_batches];

	// flows and entries outlive a data plane; the next one sweeps them from the sync on that did not mention their backends
	for (unsigned i = 0; i < rest->n_batches; i++)
		if (rest->batches[i].boot_id != boot_id_of(map))
			begin(&rest->batches[i], map);
	if (rest->n_ids == 0 || rest->n_batches == N_BATCHES ||
		(rest->begun_ns != 0 && now_ns - rest->begun_ns < BATCH_NS))
		return;
	*batch = (struct batch){.ticket = rest->ticket, .n_ids = rest->n_ids};
	begin(batch, map);
	rest->n_batches++;
	rest->begun_ns = now_ns;
	rest->n_ids = 0;
	if (++rest->ticket == 0)
		rest->ticket = 1;
}

static bool has_rested(const struct batch *batch, const struct lb_shm_map *map)
{
	if (batch->boot_id != boot_id_of(map))
		return false;
	for (unsigned i = 0; i < map->n_workers; i++)
		if (sweeps_of(map, i) - batch->sweeps[i] < N_ROUNDS)
			return false;
	return true;
}

void lb_rest_tick(struct lb_rest *rest, const struct lb_shm_map *map)
{
	unsigned n_rested = 0;

	while (n_rested < rest->n_batches && has_rested(&rest->batches[n_rested], map))
		lb_ids_rested(rest->ids, rest->batches[n_rested++].ticket);
	rest->n_batches -= n_rested;
	for (unsigned i = 0; n_rested > 0 && i < rest->n_batches; i++)
		rest->batches[i] = rest->batches[i + n_rested];
}

unsigned lb_rest_wait_s(const struct lb_rest *rest, uint32_t n_ids)
{
	// a worker begins to sweep with the clock's next tick, and a batch is looked at once a second
	const unsigned whole_s = N_ROUNDS * LB_SWEEP_ROUND_S + 3;
	uint64_t n = 0;

	for (unsigned i = 0; i < rest->n_batches; i++) {
		uint64_t past_s = (lb_now_ns() - rest->batches[i].since_ns) / NS_PER_S;

		n += rest->batches[i].n_ids;
		if (n >= n_ids)
			return past_s < whole_s ? whole_s - (unsigned)past_s : 1;
	}
	return n + rest->n_ids >= n_ids ? whole_s + 1 : 0;
}
