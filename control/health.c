/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/health.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "control/health_internal.h"
#include "lb/log.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

#define MAX_OPEN_FILES (1u << 20) // the event loop keeps arrays as long as the highest descriptor
#define RESERVED_FILES 256u       // for the API's clients, files, netlink
#define MIN_IN_FLIGHT 16u

#define FIRST_MIN_MS 50u // until the first probe of a check without a state
#define FIRST_MAX_MS 200u
#define FIRST_PER_MS 5u // first probes; one by HTTP costs about 0.1 ms
#define SPREAD_MAX_MS 1000u
#define EXTRA_GAP_NS (100 * NS_PER_MS) // so that a flood of suspicions is no flood of probes
#define STALL_NS (100 * NS_PER_MS)     // a timer later than this tells of a loop that stood still

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

// xorshift64*: spreads timers, guards nothing
static uint64_t random_below(struct lb_health *health, uint64_t n)
{
	uint64_t x = health->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	health->random = x;
	return n ? (x * UINT64_C(2685821657736338717) >> 11) % n : 0;
}

static uint32_t raise_open_files(void)
{
	struct rlimit limit;
	rlim_t want;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return MIN_IN_FLIGHT;
	want = limit.rlim_max < MAX_OPEN_FILES ? limit.rlim_max : MAX_OPEN_FILES;
	if (limit.rlim_cur < want) {
		limit.rlim_cur = want;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			getrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur < RESERVED_FILES + MIN_IN_FLIGHT)
		return MIN_IN_FLIGHT;
	return limit.rlim_cur < MAX_OPEN_FILES ? (uint32_t)limit.rlim_cur - RESERVED_FILES
					       : MAX_OPEN_FILES - RESERVED_FILES;
}

/* ---- the parameters of a check ---- */

static int copy_config(struct lb_config_check *to, const struct lb_config_check *from)
{
	int rc = lb_config_check_copy(to, from);

	// The engine stays sane under any numbers; the config refuses such ones with a message.
	to->interval_ms = to->interval_ms ? to->interval_ms : 1;
	to->timeout_ms = to->timeout_ms ? to->timeout_ms : 1;
	to->rise = to->rise ? to->rise : 1;
	to->fall = to->fall ? to->fall : 1;
	return rc;
}

static const struct lb_health_ops *find_ops(enum lb_check_type type)
{
	static const struct lb_health_ops *const ops[] = {
		[LB_CHECK_TCP] = &lb_check_tcp_ops,
		[LB_CHECK_HTTP] = &lb_check_http_ops,
		[LB_CHECK_HTTPS] = &lb_check_http_ops,
		[LB_CHECK_UDP] = &lb_check_udp_ops,
		[LB_CHECK_DNS] = &lb_check_dns_ops,
		[LB_CHECK_EXEC] = &lb_check_exec_ops,
		[LB_CHECK_AGENT] = &lb_check_agent_ops,
	};

	return (unsigned)type < sizeof(ops) / sizeof(ops[0]) ? ops[type] : NULL;
}

uint16_t lb_health_check_port_be(
	const struct lb_health_check *check, const struct lb_config_check *config)
{
	return config->port ? htobe16(config->port) : check->endpoint.port_be;
}

socklen_t lb_health_check_address(const struct lb_health_check *check,
	const struct lb_config_check *config, struct sockaddr_storage *address)
{
	const struct lb_addr *addr = &check->endpoint.addr;
	uint16_t port_be = lb_health_check_port_be(check, config);
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
	struct sockaddr_in *in = (struct sockaddr_in *)address;

	if (lb_addr_is_ipv4(addr)) {
		*in = (struct sockaddr_in){.sin_family = AF_INET,
			.sin_port = port_be,
			.sin_addr.s_addr = lb_addr_ipv4_be(addr)};
		return sizeof(*in);
	}
	*in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port_be};
	memcpy(&in6->sin6_addr, addr->bytes, sizeof(addr->bytes));
	return sizeof(*in6);
}

/* ---- schedule ---- */

static void arm(struct event *event, uint64_t at_ns)
{
	uint64_t now = now_ns();
	uint64_t wait_us = at_ns > now ? (at_ns - now + 999) / 1000 : 0;
	struct timeval wait = {(time_t)(wait_us / 1000000), (suseconds_t)(wait_us % 1000000)};

	event_add(event, &wait);
}

static uint64_t interval_ns(const struct lb_health_check *check)
{
	return check->config.interval_ms * NS_PER_MS;
}

// Points of the grid that passed while the loop stood still are left out, not made up for.
static void plan_next(struct lb_health_check *check)
{
	uint64_t interval = interval_ns(check), now = now_ns();

	check->grid_ns += interval;
	if (check->grid_ns <= now)
		check->grid_ns += ((now - check->grid_ns) / interval + 1) * interval;
	check->due_ns =
		check->grid_ns - interval / 40 + random_below(check->health, interval / 20 + 1);
	arm(&check->due, check->due_ns);
}

static void plan_extra(struct lb_health_check *check, uint64_t at_ns)
{
	if (at_ns >= check->due_ns)
		return; // the regular one is as good
	check->extra = true;
	arm(&check->due, at_ns);
}

// A grid with a phase of its own, and a first probe between @min_ms and @max_ms from now, later for
// large fleets.
static void plan_first(struct lb_health_check *check, uint32_t min_ms, uint32_t max_ms)
{
	struct lb_health *health = check->health;
	uint32_t fleet_ms = health->stats.n_checks / FIRST_PER_MS;
	uint64_t spread_ns = ((max_ms > fleet_ms ? max_ms : fleet_ms) - min_ms) * NS_PER_MS;

	check->grid_ns = now_ns() + random_below(health, interval_ns(check));
	check->due_ns = check->grid_ns;
	check->extra = false;
	arm(&check->due, check->due_ns);
	plan_extra(check, now_ns() + min_ms * NS_PER_MS + random_below(health, spread_ns + 1));
}

/* ---- one probe ---- */

static const char *find_invalid(const struct lb_health_check *check)
{
	if (!check->ops->needs_no_port && lb_health_check_port_be(check, &check->config) == 0)
		return "no port to check";
	return check->ops->invalid ? check->ops->invalid(check->probe) : NULL;
}

static struct lb_health_queue *lane_of(const struct lb_health_check *check)
{
	return &check->health->lanes[check->ops->lane];
}

static void start_probe(struct lb_health_check *check)
{
	struct lb_health *health = check->health;
	const char *invalid;
	char text[96];
	int rc;

	check->started_ns = now_ns();
	check->deadline_ns = check->started_ns + check->config.timeout_ms * NS_PER_MS;
	check->in_flight = true;
	check->extended = false;
	health->stats.n_in_flight++;
	lane_of(check)->n_in_flight++;
	health->stats.n_probes++;
	arm(&check->deadline, check->deadline_ns);
	invalid = find_invalid(check);
	if (invalid) {
		lb_health_result(check, LB_HEALTH_FAILED, "%s", invalid);
		return;
	}
	rc = check->ops->start(check->probe);
	if (rc < 0 && check->ops->start_fails_us)
		lb_health_result(check, LB_HEALTH_NOT_JUDGED, "not checked: cannot run it: %s",
			strerror_r(-rc, text, sizeof(text)));
	else if (rc < 0)
		lb_health_result_errno(check, -rc);
}

static void begin(struct lb_health_check *check)
{
	struct lb_health_queue *lane = lane_of(check);

	if (lane->n_in_flight < lane->max_in_flight) {
		start_probe(check);
		return;
	}
	TAILQ_INSERT_TAIL(&lane->waiting, check, waiting_link);
	check->waiting = true;
	lane->n_waiting++;
	check->health->stats.n_waiting++;
}

static void leave_queue(struct lb_health_check *check)
{
	if (!check->waiting)
		return;
	TAILQ_REMOVE(&lane_of(check)->waiting, check, waiting_link);
	check->waiting = false;
	lane_of(check)->n_waiting--;
	check->health->stats.n_waiting--;
}

static void kick_lane(struct lb_health_queue *lane)
{
	uint32_t n = lane->n_waiting; // those that fail at once may come back: one round

	while (n-- && lane->n_waiting && lane->n_in_flight < lane->max_in_flight) {
		struct lb_health_check *check = TAILQ_FIRST(&lane->waiting);

		leave_queue(check);
		start_probe(check);
	}
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
	struct lb_health *health = arg;

	(void)fd, (void)what;
	for (unsigned i = 0; i < LB_HEALTH_N_LANES; i++)
		kick_lane(&health->lanes[i]);
}

// From what a datagram takes on a local wire to the longest that anybody would wait for an answer.
const uint32_t lb_health_bounds_us[LB_HEALTH_N_BOUNDS] = {250, 500, 1000, 2500, 5000, 10000, 25000,
	50000, 100000, 250000, 500000, 1000000, 2500000, 10000000};

static void count(struct lb_health_histogram *histogram, uint64_t us)
{
	unsigned i = 0;

	while (i < LB_HEALTH_N_BOUNDS && us > lb_health_bounds_us[i])
		i++;
	histogram->n[i]++;
	histogram->sum_us += us;
}

static void note_lateness(struct lb_health_check *check)
{
	struct lb_health_stats *stats = &check->health->stats;
	uint64_t now = now_ns();
	uint64_t late_us = now > check->due_ns ? (now - check->due_ns) / 1000 : 0;

	count(&stats->late, late_us);
	if (late_us > stats->max_late_us)
		stats->max_late_us = late_us < UINT32_MAX ? (uint32_t)late_us : UINT32_MAX;
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
	struct lb_health_check *check = arg;

	(void)fd, (void)what;
	if (check->extra) {
		check->extra = false;
		arm(&check->due, check->due_ns);
	} else {
		note_lateness(check);
		plan_next(check);
	}
	if (check->in_flight)
		check->again = true;
	else if (!check->waiting)
		begin(check);
}

static void end_probe(struct lb_health_check *check)
{
	struct lb_health *health = check->health;

	check->in_flight = false;
	health->stats.n_in_flight--;
	lane_of(check)->n_in_flight--;
	event_del(&check->deadline);
	// Not from here: a start that fails at once would call us again, as deep as the queue.
	if (health->stats.n_waiting)
		event_active(&health->kick, EV_TIMEOUT, 0);
}

/*
 * When the loop stood still (a big config applied, the machine suspended), what came for the probe
 * in the meantime could not be read: it gets back what it lost, once, as that tells nothing of the
 * backend.
 */
static bool extend_deadline(struct lb_health_check *check, uint64_t now)
{
	uint64_t late = now - check->deadline_ns, timeout = check->config.timeout_ms * NS_PER_MS;

	if (check->extended || late < STALL_NS)
		return false;
	check->extended = true;
	check->deadline_ns = now + (late < timeout ? late : timeout);
	return true;
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct lb_health_check *check = arg;
	const char *phase;
	uint64_t now = now_ns();

	(void)fd, (void)what;
	// The loop's clock is coarse and cached: its timers may be some milliseconds early.
	if (now < check->deadline_ns || extend_deadline(check, now)) {
		arm(&check->deadline, check->deadline_ns);
		return;
	}
	phase = check->ops->phase(check->probe);
	check->ops->cancel(check->probe);
	if (check->ops->may_be_silent && check->ops->may_be_silent(check->probe)) {
		lb_health_result(check, LB_HEALTH_OK, "ok: no answer, and no refusal");
		return;
	}
	lb_health_result(check, LB_HEALTH_FAILED, "timeout after %u ms while %s",
		check->config.timeout_ms, phase);
}

/* ---- judgement ---- */

// @return whether the state changed
static bool judge(struct lb_health_check *check, bool ok)
{
	struct lb_health_status *status = &check->status;
	enum lb_health_state old = status->state;

	status->n_checks++;
	if (ok) {
		status->n_failures = 0;
		status->n_successes += status->n_successes < UINT32_MAX;
		if (old == LB_HEALTH_UNKNOWN || status->n_successes >= check->config.rise)
			status->state = LB_HEALTH_UP;
	} else {
		status->n_failed++;
		status->n_successes = 0;
		status->n_failures += status->n_failures < UINT32_MAX;
		if (old == LB_HEALTH_UNKNOWN || status->n_failures >= check->config.fall)
			status->state = LB_HEALTH_DOWN;
	}
	return status->state != old;
}

static void plan_after(struct lb_health_check *check, enum lb_health_result result)
{
	uint64_t interval = interval_ns(check);

	if (result == LB_HEALTH_NOT_JUDGED)
		plan_extra(check, now_ns() + (interval < NS_PER_S ? interval : NS_PER_S));
	else if (check->again)
		plan_extra(check, now_ns());
	check->again = false;
}

void lb_health_report(struct lb_health_check *check, const struct lb_agent_words *words,
	const char *text)
{
	if (check->reported)
		check->reported(check->arg, check, words, text);
}

void lb_health_result(
	struct lb_health_check *check, enum lb_health_result result, const char *format, ...)
{
	struct lb_health_status *status = &check->status;
	uint64_t duration_us = (now_ns() - check->started_ns) / 1000;
	bool changed = false;
	va_list args;

	va_start(args, format);
	vsnprintf(status->reason, sizeof(status->reason), format, args);
	va_end(args);
	status->last_ns = wall_ns();
	status->last_duration_us = duration_us < UINT32_MAX ? (uint32_t)duration_us : UINT32_MAX;
	end_probe(check);
	plan_after(check, result);
	if (result == LB_HEALTH_NOT_JUDGED)
		check->health->stats.n_not_judged++;
	else if (check->histogram)
		count(check->histogram, duration_us);
	if (result != LB_HEALTH_NOT_JUDGED)
		changed = judge(check, result == LB_HEALTH_OK);
	if (changed) {
		// outlives a check destroyed in the callback
		struct lb_health_status copy = *status;

		check->changed(check->arg, check, &copy);
	}
}

bool lb_health_is_own_fault(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

void lb_health_result_errno(struct lb_health_check *check, int error)
{
	char text[96];
	const char *message = strerror_r(error, text, sizeof(text));

	// "Connection refused" within a sentence
	snprintf(text, sizeof(text), "%c%s", message[0] | 0x20, message[0] ? message + 1 : "");
	if (lb_health_is_own_fault(error))
		lb_health_result(check, LB_HEALTH_NOT_JUDGED, "not checked: %s", text);
	else
		lb_health_result(check, LB_HEALTH_FAILED, "%s", text);
}

int lb_health_socket(int family, int type)
{
	static const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM &&
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

/* ---- what is public ---- */

int lb_health_create(struct event_base *base, struct lb_health **out)
{
	struct lb_health *health = calloc(1, sizeof(*health));
	int rc;

	if (!health)
		return -ENOMEM;
	health->base = base;
	health->lanes[LB_HEALTH_LANE_SOCKET].max_in_flight = raise_open_files();
	health->lanes[LB_HEALTH_LANE_EXEC].max_in_flight = LB_HEALTH_MAX_PROGRAMS;
	TAILQ_INIT(&health->checks);
	for (unsigned i = 0; i < LB_HEALTH_N_LANES; i++)
		TAILQ_INIT(&health->lanes[i].waiting);
	if (getrandom(&health->random, sizeof(health->random), GRND_NONBLOCK) < 0 ||
		!health->random)
		health->random = now_ns() | 1;
	evtimer_assign(&health->kick, base, on_kick, health);
	rc = lb_health_http_create(base, &health->http);
	if (rc == 0)
		rc = lb_health_exec_create(base, &health->exec);
	if (rc < 0) {
		if (health->http)
			lb_health_http_destroy(health->http);
		free(health);
		return rc;
	}
	*out = health;
	return 0;
}

void lb_health_destroy(struct lb_health *health)
{
	struct lb_health_check *check;

	if (!health)
		return;
	while ((check = TAILQ_FIRST(&health->checks)))
		lb_health_check_destroy(check);
	event_del(&health->kick);
	lb_health_http_destroy(health->http);
	lb_health_exec_destroy(health->exec);
	free(health);
}

void lb_health_stats(const struct lb_health *health, struct lb_health_stats *stats)
{
	*stats = health->stats;
}

static void stop(struct lb_health_check *check)
{
	event_del(&check->due);
	leave_queue(check);
	if (check->in_flight) {
		check->ops->cancel(check->probe);
		end_probe(check);
	}
	check->again = false;
	check->extra = false;
}

// For a check that became LB_CHECK_NONE and so UP: changed() is called from the loop as ever.
static void on_freed_of_duty(evutil_socket_t fd, short what, void *arg)
{
	struct lb_health_check *check = arg;
	struct lb_health_status copy = check->status;

	(void)fd, (void)what;
	check->changed(check->arg, check, &copy);
}

// Take @config (its strings too) and start by it.
static int adopt(struct lb_health_check *check, struct lb_config_check *config)
{
	const struct lb_health_ops *ops = find_ops(config->type);
	void *probe = ops ? ops->create(check, config) : NULL;

	if (ops && !probe)
		return -ENOMEM;
	stop(check);
	if (check->ops)
		check->ops->destroy(check->probe);
	check->health->stats.n_checks += (uint32_t)(ops != NULL) - (uint32_t)(check->ops != NULL);
	check->ops = ops;
	check->probe = probe;
	lb_config_check_fini(&check->config);
	check->config = *config;
	evtimer_assign(&check->due, check->health->base, ops ? on_due : on_freed_of_duty, check);
	return 0;
}

struct lb_health_check *lb_health_check_create(struct lb_health *health,
	const struct lb_config_check *config, const struct lb_endpoint *endpoint,
	enum lb_health_state initial, lb_health_changed_fn *changed, void *arg)
{
	struct lb_health_check *check = calloc(1, sizeof(*check));
	struct lb_config_check copy;

	if (!check)
		return NULL;
	check->health = health;
	check->endpoint = *endpoint;
	check->changed = changed;
	check->arg = arg;
	check->status.state = initial;
	evtimer_assign(&check->due, health->base, on_due, check);
	evtimer_assign(&check->deadline, health->base, on_deadline, check);
	if (copy_config(&copy, config) < 0) {
		free(check);
		return NULL;
	}
	if (adopt(check, &copy) < 0) {
		lb_config_check_fini(&copy);
		free(check);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&health->checks, check, link);
	if (!check->ops && initial == LB_HEALTH_UNKNOWN)
		check->status.state = LB_HEALTH_UP;
	if (check->ops && initial == LB_HEALTH_UNKNOWN)
		plan_first(check, FIRST_MIN_MS, FIRST_MAX_MS);
	else if (check->ops)
		plan_first(check, 0, SPREAD_MAX_MS);
	return check;
}

void lb_health_check_destroy(struct lb_health_check *check)
{
	if (!check)
		return;
	stop(check);
	if (check->ops) {
		check->ops->destroy(check->probe);
		check->health->stats.n_checks--;
	}
	TAILQ_REMOVE(&check->health->checks, check, link);
	lb_config_check_fini(&check->config);
	free(check);
}

int lb_health_check_update(struct lb_health_check *check, const struct lb_config_check *config)
{
	struct lb_config_check copy;
	struct timeval at_once = {0, 0};

	if (copy_config(&copy, config) < 0)
		return -ENOMEM;
	if (lb_config_check_equal(&copy, &check->config)) {
		lb_config_check_fini(&copy);
		return 0;
	}
	if (adopt(check, &copy) < 0) {
		lb_config_check_fini(&copy);
		return -ENOMEM;
	}
	if (check->ops) {
		plan_first(check, 0, SPREAD_MAX_MS);
		return 0;
	}
	check->status.n_successes = check->status.n_failures = 0;
	snprintf(check->status.reason, sizeof(check->status.reason), "not checked any more");
	if (check->status.state != LB_HEALTH_UP) {
		check->status.state = LB_HEALTH_UP;
		event_add(&check->due, &at_once);
	}
	return 0;
}

void lb_health_check_on_report(struct lb_health_check *check, lb_health_reported_fn *reported)
{
	check->reported = reported;
}

void lb_health_check_measure(struct lb_health_check *check, struct lb_health_histogram *histogram)
{
	check->histogram = histogram;
}

void lb_health_check_name(
	struct lb_health_check *check, const char *service_name, const char *backend_name)
{
	check->service_name = service_name;
	check->backend_name = backend_name;
}

void lb_health_check_now(struct lb_health_check *check)
{
	if (!check->ops || check->waiting)
		return;
	if (check->in_flight)
		check->again = true;
	else
		plan_extra(check, check->started_ns + EXTRA_GAP_NS);
}

void lb_health_check_status(const struct lb_health_check *check, struct lb_health_status *status)
{
	*status = check->status;
}

const char *lb_health_state_name(enum lb_health_state state)
{
	switch (state) {
	case LB_HEALTH_UP:
		return "up";
	case LB_HEALTH_DOWN:
		return "down";
	default:
		return "unknown";
	}
}
