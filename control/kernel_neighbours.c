/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <linux/neighbour.h>
#include <stdlib.h>
#include <sys/random.h>

#include "control/kernel_internal.h"

#define USABLE (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP)
#define FIRST_BUCKETS 256u

#define STALE_SPREAD_MS 500u  // many go stale together; not many requests in one moment
#define CONFIRM_MS 15000u     // what is in use stays so: half of Linux' usual reachable time
#define BACK_OFF_MIN_MS 1000u // Linux itself asks three times, a second apart
#define BACK_OFF_MAX_MS 30000u
#define LOST_MS 1000u // for one more request and answer before a loss is told
#define UNSYNCED_MS 100u
#define SILENT_ASKS 3u // the fourth comes 7 s after the first, Linux gives up after 3 s

int lb_kernel_neighbours_init(struct lb_kernel_neighbours *neighbours)
{
	neighbours->buckets = calloc(FIRST_BUCKETS, sizeof(*neighbours->buckets));
	if (!neighbours->buckets)
		return -ENOMEM;
	neighbours->n_buckets = FIRST_BUCKETS;
	TAILQ_INIT(&neighbours->changed);
	if (getrandom(&neighbours->hash_key, sizeof(neighbours->hash_key), GRND_NONBLOCK) < 0)
		neighbours->hash_key = (uintptr_t)neighbours;
	return 0;
}

static void arm_ms(struct event *event, uint32_t wait_ms)
{
	struct timeval wait = {wait_ms / 1000, wait_ms % 1000 * 1000};

	event_add(event, &wait);
}

static unsigned family_of(const struct lb_addr *addr)
{
	return lb_addr_is_ipv4(addr) ? 0 : 1;
}

/* ---- entries ---- */

// Who owns an address of the link may choose it: keyed, so that he cannot choose the bucket.
static uint64_t hash(
	const struct lb_kernel_neighbours *neighbours, uint32_t ifindex, const struct lb_addr *addr)
{
	const uint64_t words[3] = {addr->u64[0], addr->u64[1], ifindex};
	uint64_t h = neighbours->hash_key;

	for (unsigned i = 0; i < 3; i++) {
		__uint128_t product = (__uint128_t)(h ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);

		h = (uint64_t)product ^ (uint64_t)(product >> 64) ^ neighbours->hash_key;
	}
	return h;
}

static struct lb_kernel_bucket *bucket_of(
	const struct lb_kernel_neighbours *neighbours, uint32_t ifindex, const struct lb_addr *addr)
{
	return &neighbours->buckets[hash(neighbours, ifindex, addr) & (neighbours->n_buckets - 1)];
}

static struct lb_kernel_neighbour *find(
	const struct lb_kernel_neighbours *neighbours, uint32_t ifindex, const struct lb_addr *addr)
{
	struct lb_kernel_neighbour *neighbour;

	LIST_FOREACH (neighbour, bucket_of(neighbours, ifindex, addr), link) {
		if (neighbour->ifindex == ifindex && lb_addr_equal(&neighbour->addr, addr))
			return neighbour;
	}
	return NULL;
}

// To twice the buckets. Without memory the chains grow longer, that is all.
static void grow(struct lb_kernel_neighbours *neighbours)
{
	uint32_t n_old = neighbours->n_buckets;
	struct lb_kernel_bucket *old = neighbours->buckets;
	struct lb_kernel_bucket *buckets = calloc(2 * (size_t)n_old, sizeof(*buckets));
	struct lb_kernel_neighbour *neighbour;

	if (!buckets)
		return;
	neighbours->buckets = buckets;
	neighbours->n_buckets = 2 * n_old;
	for (uint32_t i = 0; i < n_old; i++) {
		while ((neighbour = LIST_FIRST(&old[i]))) {
			LIST_REMOVE(neighbour, link);
			LIST_INSERT_HEAD(
				bucket_of(neighbours, neighbour->ifindex, &neighbour->addr),
				neighbour, link);
		}
	}
	free(old);
}

static void on_ask(evutil_socket_t fd, short what, void *arg);
static void on_lost(evutil_socket_t fd, short what, void *arg);

static struct lb_kernel_neighbour *add(
	struct lb_kernel *kernel, uint32_t ifindex, const struct lb_addr *addr)
{
	struct lb_kernel_neighbours *neighbours = &kernel->neighbours;
	struct lb_kernel_neighbour *neighbour = calloc(1, sizeof(*neighbour));

	if (!neighbour)
		return NULL;
	neighbour->kernel = kernel;
	neighbour->ifindex = ifindex;
	neighbour->addr = *addr;
	evtimer_assign(&neighbour->ask, kernel->base, on_ask, neighbour);
	evtimer_assign(&neighbour->lost, kernel->base, on_lost, neighbour);
	if (kernel->stats.n_neighbours++ >= neighbours->n_buckets)
		grow(neighbours);
	LIST_INSERT_HEAD(bucket_of(neighbours, ifindex, addr), neighbour, link);
	return neighbour;
}

static void free_neighbour(struct lb_kernel_neighbour *neighbour)
{
	struct lb_kernel *kernel = neighbour->kernel;

	event_del(&neighbour->ask);
	event_del(&neighbour->lost);
	if (neighbour->in_changed) {
		TAILQ_REMOVE(&kernel->neighbours.changed, neighbour, changed_link);
		kernel->neighbours.n_changed--;
	}
	LIST_REMOVE(neighbour, link);
	kernel->stats.n_neighbours--;
	free(neighbour);
}

// Nobody holds it any more: not the kernel, not a watch, not a report to come.
static void free_if_unused(struct lb_kernel_neighbour *neighbour)
{
	if (neighbour->state == 0 && neighbour->n_watches == 0 && !neighbour->in_changed)
		free_neighbour(neighbour);
}

void lb_kernel_neighbours_fini(struct lb_kernel *kernel)
{
	struct lb_kernel_neighbours *neighbours = &kernel->neighbours;
	struct lb_kernel_neighbour *neighbour;

	for (uint32_t i = 0; i < neighbours->n_buckets; i++) {
		while ((neighbour = LIST_FIRST(&neighbours->buckets[i])))
			free_neighbour(neighbour);
	}
	free(neighbours->buckets);
}

/* ---- reports ---- */

static void note_changed(struct lb_kernel_neighbour *neighbour)
{
	struct lb_kernel_neighbours *neighbours = &neighbour->kernel->neighbours;

	if (neighbour->in_changed)
		return;
	neighbour->in_changed = true;
	neighbours->n_changed++;
	TAILQ_INSERT_TAIL(&neighbours->changed, neighbour, changed_link);
	lb_kernel_deliver_soon(neighbour->kernel);
}

static bool is_news(const struct lb_kernel_neighbour *neighbour)
{
	if (neighbour->resolved != neighbour->reported || neighbour->report_anyway)
		return true;
	return neighbour->resolved &&
	       memcmp(neighbour->mac, neighbour->reported_mac, sizeof(neighbour->mac)) != 0;
}

static void deliver_one(struct lb_kernel *kernel, struct lb_kernel_neighbour *neighbour)
{
	struct lb_addr addr = neighbour->addr;
	uint32_t ifindex = neighbour->ifindex;
	bool tell = is_news(neighbour), resolved = neighbour->resolved;
	uint8_t mac[6] = {0};

	TAILQ_REMOVE(&kernel->neighbours.changed, neighbour, changed_link);
	kernel->neighbours.n_changed--;
	neighbour->in_changed = false;
	neighbour->report_anyway = false;
	neighbour->reported = resolved;
	if (resolved)
		memcpy(mac, neighbour->mac, sizeof(mac));
	memcpy(neighbour->reported_mac, mac, sizeof(mac));
	free_if_unused(neighbour);
	if (tell)
		kernel->callbacks.neighbour_changed(kernel->arg, ifindex, &addr, mac, resolved);
}

void lb_kernel_neighbours_deliver(struct lb_kernel *kernel)
{
	struct lb_kernel_neighbours *neighbours = &kernel->neighbours;

	// What the callbacks bring up is for the next turn, or they could keep us here.
	for (uint32_t n = neighbours->n_changed; n && neighbours->n_changed; n--)
		deliver_one(kernel, TAILQ_FIRST(&neighbours->changed));
	if (neighbours->n_changed)
		lb_kernel_deliver_soon(kernel);
}

/* ---- asking ---- */

static uint32_t back_off_ms(uint32_t n_asked)
{
	uint32_t wait_ms = n_asked < 5 ? BACK_OFF_MIN_MS << n_asked : BACK_OFF_MAX_MS;

	return wait_ms < BACK_OFF_MAX_MS ? wait_ms : BACK_OFF_MAX_MS;
}

static void on_ask(evutil_socket_t fd, short what, void *arg)
{
	struct lb_kernel_neighbour *neighbour = arg;
	struct lb_kernel *kernel = neighbour->kernel;
	uint32_t buf[LB_NETLINK_REQUEST_BYTES / sizeof(uint32_t)];

	(void)fd, (void)what;
	// An entry we have not heard of yet may be permanent, which asking would undo.
	if (!kernel->neighbours.synced[family_of(&neighbour->addr)]) {
		arm_ms(&neighbour->ask, UNSYNCED_MS);
		return;
	}
	if (neighbour->state & (NUD_PERMANENT | NUD_NOARP))
		return; // needs none; a change of this is notified
	kernel->stats.n_asked++;
	lb_kernel_send(kernel,
		lb_netlink_build_use(buf, neighbour->ifindex, &neighbour->addr, ++kernel->seq));
	if (neighbour->usable) {
		arm_ms(&neighbour->ask, CONFIRM_MS);
		return;
	}
	// By now the kernel would have told of a failure at least: did we miss the entry?
	if (neighbour->state == 0 && neighbour->n_asked >= SILENT_ASKS)
		lb_kernel_want_neighbours(kernel, family_of(&neighbour->addr));
	arm_ms(&neighbour->ask, back_off_ms(neighbour->n_asked++));
}

static void on_lost(evutil_socket_t fd, short what, void *arg)
{
	struct lb_kernel_neighbour *neighbour = arg;

	(void)fd, (void)what;
	neighbour->resolved = false;
	note_changed(neighbour);
}

/* ---- what the kernel says ---- */

static void become_usable(
	struct lb_kernel_neighbour *neighbour, const uint8_t mac[6], bool went_stale)
{
	memcpy(neighbour->mac, mac, sizeof(neighbour->mac));
	neighbour->resolved = true;
	event_del(&neighbour->lost);
	if (is_news(neighbour))
		note_changed(neighbour);
	if (neighbour->n_watches == 0)
		return;
	if (went_stale)
		arm_ms(&neighbour->ask, (uint32_t)random() % STALE_SPREAD_MS);
	else if (neighbour->n_asked || !event_pending(&neighbour->ask, EV_TIMEOUT, NULL))
		arm_ms(&neighbour->ask, CONFIRM_MS);
	neighbour->n_asked = 0;
}

static void become_unusable(struct lb_kernel_neighbour *neighbour)
{
	if (!neighbour->resolved)
		return; // the back-off goes on
	if (neighbour->n_watches == 0) {
		neighbour->resolved = false;
		note_changed(neighbour);
	} else if (!event_pending(&neighbour->lost, EV_TIMEOUT, NULL)) {
		arm_ms(&neighbour->lost, LOST_MS);
		neighbour->n_asked = 0;
		arm_ms(&neighbour->ask, 0);
	}
}

// May free it.
static void set_state(struct lb_kernel_neighbour *neighbour, uint16_t state, const uint8_t *mac)
{
	bool went_stale = state & NUD_STALE && !(neighbour->state & NUD_STALE);

	neighbour->state = state;
	neighbour->usable = state & USABLE && mac;
	if (neighbour->usable)
		become_usable(neighbour, mac, went_stale);
	else
		become_unusable(neighbour);
	free_if_unused(neighbour);
}

void lb_kernel_neighbours_update(
	struct lb_kernel *kernel, const struct lb_netlink_neighbour *parsed, bool deleted)
{
	struct lb_kernel_neighbour *neighbour;

	if (!parsed->unicast || !lb_kernel_find_interface(kernel, parsed->ifindex))
		return;
	neighbour = find(&kernel->neighbours, parsed->ifindex, &parsed->addr);
	if (!neighbour && !deleted)
		neighbour = add(kernel, parsed->ifindex, &parsed->addr);
	if (!neighbour)
		return;
	neighbour->generation = kernel->neighbours.generation;
	neighbour->n_missed = 0;
	if (deleted)
		set_state(neighbour, 0, NULL);
	else
		set_state(neighbour, parsed->state, parsed->has_mac ? parsed->mac : NULL);
}

void lb_kernel_neighbours_dump_begin(struct lb_kernel *kernel)
{
	kernel->neighbours.generation++;
}

bool lb_kernel_neighbours_dump_end(struct lb_kernel *kernel, unsigned family)
{
	struct lb_kernel_neighbours *neighbours = &kernel->neighbours;
	struct lb_kernel_neighbour *neighbour, *next;
	bool settled = true;

	for (uint32_t i = 0; i < neighbours->n_buckets; i++) {
		for (neighbour = LIST_FIRST(&neighbours->buckets[i]); neighbour; neighbour = next) {
			next = LIST_NEXT(neighbour, link);
			if (family_of(&neighbour->addr) != family || neighbour->state == 0 ||
				neighbour->generation == neighbours->generation)
				continue;
			if (neighbour->n_missed++ == 0)
				settled = false;
			else
				set_state(neighbour, 0, NULL);
		}
	}
	neighbours->synced[family] |= settled;
	return settled;
}

/* ---- watches ---- */

int lb_kernel_watch(struct lb_kernel *kernel, uint32_t ifindex, const struct lb_addr *addr)
{
	struct lb_kernel_neighbour *neighbour;

	if (!lb_kernel_find_interface(kernel, ifindex))
		return -EINVAL;
	neighbour = find(&kernel->neighbours, ifindex, addr);
	if (!neighbour)
		neighbour = add(kernel, ifindex, addr);
	if (!neighbour)
		return -ENOMEM;
	if (neighbour->resolved) {
		neighbour->report_anyway = true;
		note_changed(neighbour);
	}
	if (neighbour->n_watches++)
		return 0;
	kernel->stats.n_watched++;
	neighbour->n_asked = 0;
	if (!neighbour->usable || neighbour->state & NUD_STALE)
		arm_ms(&neighbour->ask, 0);
	else
		arm_ms(&neighbour->ask, CONFIRM_MS);
	return 0;
}

void lb_kernel_unwatch(struct lb_kernel *kernel, uint32_t ifindex, const struct lb_addr *addr)
{
	struct lb_kernel_neighbour *neighbour = find(&kernel->neighbours, ifindex, addr);

	if (!neighbour || neighbour->n_watches == 0 || --neighbour->n_watches)
		return;
	kernel->stats.n_watched--;
	event_del(&neighbour->ask);
	event_del(&neighbour->lost);
	if (neighbour->resolved && !neighbour->usable) {
		neighbour->resolved = false;
		note_changed(neighbour);
	}
	free_if_unused(neighbour);
}
