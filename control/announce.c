/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/announce.h"

#include <errno.h>
#include <limits.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>

#include "control/mem.h"
#include "control/netlink.h"
#include "control/store.h"
#include "lb/log.h"

#define TOPIC "announce"
#define FILE_NAME "maintenance.json" /* in the run dir */

// From the death of a data plane, or of a VIP's last backend, to the withdrawal: what a router's own detection
// (BFD) takes. Comparing costs less than a microsecond per service.
#define PERIOD_MS 100

// A daemon that starts has not seen the data plane yet: what is announced stays for so long.
#define GRACE_NS UINT64_C(3000000000)

/* A VIP, wanted or in the kernel's table. Sorted by address. */
struct vip {
	struct lb_addr addr;
	bool wanted, installed;
	const char *reason; /* why it is not wanted; NULL: it is */
	int error;          /* of the last change of its route, told once */
};

struct lb_announce {
	struct lb_model *model;
	struct mnl_socket *netlink;
	uint32_t seq;
	struct event *timer;
	struct vip *vips;
	size_t n_vips;
	uint32_t table; /* that `installed` is about; 0: none read yet */
	uint64_t started_ns; /* CLOCK_MONOTONIC */
	bool seen;           /* the data plane, since we started */
	bool maintenance;
};

bool lb_announce_is_configured(const struct lb_announce *announce)
{
	return announce->model->config != NULL && announce->model->config->announce_table != 0;
}

bool lb_announce_maintenance(const struct lb_announce *announce)
{
	return announce->maintenance;
}

/* Routes. */

static struct nlmsghdr *build_route(
	char *buf, uint16_t type, uint16_t flags, uint32_t table, const struct lb_addr *addr, uint32_t seq)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct rtmsg *rtm;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	nlh->nlmsg_seq = seq;
	rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	rtm->rtm_family = lb_addr_is_ipv4(addr) ? AF_INET : AF_INET6;
	rtm->rtm_dst_len = lb_addr_is_ipv4(addr) ? 32 : 128;
	rtm->rtm_table = RT_TABLE_UNSPEC; // in RTA_TABLE, which has 32 bits
	rtm->rtm_protocol = LB_ANNOUNCE_PROTOCOL;
	rtm->rtm_scope = RT_SCOPE_UNIVERSE;
	rtm->rtm_type = RTN_BLACKHOLE;
	if (lb_addr_is_ipv4(addr))
		mnl_attr_put_u32(nlh, RTA_DST, lb_addr_ipv4_be(addr));
	else
		mnl_attr_put(nlh, RTA_DST, 16, addr);
	mnl_attr_put_u32(nlh, RTA_TABLE, table);
	return nlh;
}

// The kernel answers a change before sendto() returns: nothing is waited for.
static int request(struct lb_announce *announce, struct nlmsghdr *nlh, mnl_cb_t callback, void *arg)
{
	unsigned port = mnl_socket_get_portid(announce->netlink);
	char buf[32768];
	ssize_t n;
	int rc;

	if (mnl_socket_sendto(announce->netlink, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(announce->netlink, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		rc = mnl_cb_run(buf, (size_t)n, nlh->nlmsg_seq, port, callback, arg);
	} while (rc > 0);
	return rc < 0 ? -errno : 0;
}

static int change_route(struct lb_announce *announce, uint32_t table, const struct lb_addr *addr, bool add)
{
	char buf[256];
	int rc = request(announce,
		build_route(buf, add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_REPLACE : 0, table,
			addr, ++announce->seq),
		NULL, NULL);

	return !add && (rc == -ESRCH || rc == -ENOENT) ? 0 : rc;
}

static int compare_vips(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct lb_addr)); // both begin with the address
}

static struct vip *find_vip(const struct lb_announce *announce, const struct lb_addr *addr)
{
	return bsearch(addr, announce->vips, announce->n_vips, sizeof(*announce->vips), compare_vips);
}

static struct vip *add_vip(struct lb_announce *announce, const struct lb_addr *addr)
{
	struct vip *vip = find_vip(announce, addr);
	size_t i = announce->n_vips;

	if (vip != NULL)
		return vip;
	announce->vips = lb_xrealloc(announce->vips, announce->n_vips + 1, sizeof(*announce->vips));
	while (i > 0 && compare_vips(addr, &announce->vips[i - 1]) < 0)
		i--;
	memmove(&announce->vips[i + 1], &announce->vips[i],
		(announce->n_vips++ - i) * sizeof(*announce->vips));
	announce->vips[i] = (struct vip){.addr = *addr};
	return &announce->vips[i];
}

static int on_route(const struct nlmsghdr *nlh, void *arg)
{
	struct lb_announce *announce = arg;
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct lb_netlink_route route;

	if (nlh->nlmsg_type != RTM_NEWROUTE || lb_netlink_parse_route(nlh, &route) < 0)
		return MNL_CB_OK;
	if (route.table == announce->table && rtm->rtm_protocol == LB_ANNOUNCE_PROTOCOL &&
		route.type == RTN_BLACKHOLE && route.length == (route.family == 4 ? 32 : 128) && !route.cloned)
		add_vip(announce, &route.prefix)->installed = true;
	return MNL_CB_OK;
}

// What is in the table already, from a daemon before us. The kernel sends this table alone (strict checking).
static int read_table(struct lb_announce *announce)
{
	static const uint8_t families[] = {AF_INET, AF_INET6};
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		char buf[256];
		struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
		struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));

		nlh->nlmsg_type = RTM_GETROUTE;
		nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
		nlh->nlmsg_seq = ++announce->seq;
		rtm->rtm_family = families[i];
		mnl_attr_put_u32(nlh, RTA_TABLE, announce->table);
		rc = request(announce, nlh, on_route, announce);
	}
	return rc == -ENOENT ? 0 : rc; // there is no such table yet
}

/* Which VIPs. */

// Why @p service does not serve; NULL: it does.
static const char *idle_reason(const struct lb_service *service)
{
	return service->active_tier >= 0 ? NULL : "no backend of its services can serve";
}

static const char no_service[] = "no service has it";

static void want_vips(struct lb_announce *announce, const char *reason)
{
	struct lb_model *model = announce->model;

	for (size_t i = 0; i < announce->n_vips; i++) {
		announce->vips[i].wanted = false;
		announce->vips[i].reason = no_service;
	}
	for (size_t i = 0; i < model->n_services; i++) {
		const char *why = reason != NULL ? reason : idle_reason(model->services[i]);
		struct vip *vip = add_vip(announce, &model->services[i]->key.addr);

		if (vip->wanted)
			continue;
		vip->wanted = why == NULL;
		vip->reason = why;
	}
}

static void tell(struct lb_announce *announce, struct vip *vip, int rc)
{
	char text[LB_ADDR_STRLEN], subject[LB_ADDR_STRLEN + 8];

	lb_addr_format(&vip->addr, text);
	snprintf(subject, sizeof(subject), "vip %s", text);
	if (rc == 0)
		lb_events_add(announce->model->events, "announcement", subject,
			vip->wanted ? "withdrawn" : "announced", vip->wanted ? "announced" : "withdrawn", "%s",
			vip->reason != NULL ? vip->reason : "it can be served");
	else if (rc != vip->error)
		lb_log(LB_LOG_ERROR, TOPIC, "%s: cannot change its route in table %u: %s", text, announce->table,
			strerror(-rc));
	vip->error = rc;
}

static void settle(struct lb_announce *announce)
{
	size_t n = 0;

	for (size_t i = 0; i < announce->n_vips; i++) {
		struct vip *vip = &announce->vips[i];
		int rc;

		if (vip->wanted == vip->installed)
			continue;
		rc = change_route(announce, announce->table, &vip->addr, vip->wanted);
		tell(announce, vip, rc);
		if (rc == 0)
			vip->installed = vip->wanted;
	}
	for (size_t i = 0; i < announce->n_vips; i++) // forget those that no service has any more
		if (announce->vips[i].installed || announce->vips[i].reason != no_service)
			announce->vips[n++] = announce->vips[i];
	announce->n_vips = n;
}

// The config names another table, or none: the routes go from the old one.
static void leave_table(struct lb_announce *announce)
{
	want_vips(announce, "it is announced elsewhere, or not at all");
	if (announce->table != 0)
		settle(announce);
	announce->n_vips = 0;
	announce->table = 0;
}

static void update(struct lb_announce *announce)
{
	struct lb_model *model = announce->model;
	uint32_t table = model->config != NULL ? model->config->announce_table : 0;
	enum lb_dp_state state = lb_dp_state(model->dp);
	int rc;

	if (announce->table != 0 && announce->table != table)
		leave_table(announce);
	if (table == 0)
		return;
	if (announce->table == 0) {
		announce->table = table;
		rc = read_table(announce);
		if (rc < 0)
			lb_log(LB_LOG_WARN, TOPIC, "cannot read routing table %u: %s", table, strerror(-rc));
	}
	announce->seen |= state != LB_DP_DOWN;
	if (!announce->maintenance &&
		(state == LB_DP_SYNCING || (!announce->seen && lb_now_ns() - announce->started_ns < GRACE_NS)))
		return; // a restart of either side: what holds goes on holding
	want_vips(announce, announce->maintenance ? "maintenance"
			    : state == LB_DP_DOWN ? "the data plane is down"
						  : NULL);
	settle(announce);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	update(arg);
}

/* Maintenance. */

static void file_path(const struct lb_announce *announce, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.4000s/" FILE_NAME, announce->model->run_dir);
}

static void load(struct lb_announce *announce)
{
	char path[PATH_MAX], why[300];
	json_t *document = NULL;
	int rc;

	file_path(announce, path);
	rc = lb_store_load(path, &document, why, sizeof(why));
	if (rc < 0 && rc != -ENOENT)
		lb_log(LB_LOG_WARN, TOPIC, "%s: %s: maintenance is off", path, why);
	announce->maintenance = json_is_true(json_object_get(document, "maintenance"));
	if (announce->maintenance)
		lb_log(LB_LOG_WARN, TOPIC, "maintenance is on, as it was: no VIP is announced");
	json_decref(document);
}

int lb_announce_set_maintenance(struct lb_announce *announce, bool on, char *why, size_t why_bytes)
{
	char path[PATH_MAX];
	json_t *document;
	int rc;

	if (on == announce->maintenance)
		return 0;
	file_path(announce, path);
	document = json_pack("{s:b}", "maintenance", on);
	rc = document != NULL ? lb_store_save(path, document, why, why_bytes) : -ENOMEM;
	json_decref(document);
	if (rc < 0)
		return rc;
	announce->maintenance = on;
	lb_events_add(announce->model->events, "maintenance", "vips", on ? "off" : "on", on ? "on" : "off", "api");
	update(announce);
	return 0;
}

void lb_announce_each(const struct lb_announce *announce,
	void (*fn)(void *arg, const struct lb_announced_vip *vip), void *arg)
{
	for (size_t i = 0; lb_announce_is_configured(announce) && i < announce->n_vips; i++) {
		const struct vip *vip = &announce->vips[i];
		struct lb_announced_vip told = {
			.is_announced = vip->installed,
			.reason = vip->error != 0 ? strerror(-vip->error) : vip->reason,
		};

		lb_addr_format(&vip->addr, told.address);
		fn(arg, &told);
	}
}

static void write_vip(void *arg, const struct lb_announced_vip *vip)
{
	struct lb_writer *out = arg;

	lb_writer_open(out, NULL, '{');
	lb_writer_string(out, "vip", vip->address);
	lb_writer_bool(out, "announced", vip->is_announced);
	lb_writer_string(out, "reason", vip->reason);
	lb_writer_close(out, '}');
}

void lb_announce_write(const struct lb_announce *announce, struct lb_writer *out)
{
	lb_writer_open(out, NULL, '{');
	if (lb_announce_is_configured(announce))
		lb_writer_u64(out, "table", announce->model->config->announce_table);
	else
		lb_writer_null(out, "table");
	lb_writer_bool(out, "maintenance", announce->maintenance);
	lb_writer_open(out, "vips", '[');
	lb_announce_each(announce, write_vip, out);
	lb_writer_close(out, ']');
	lb_writer_close(out, '}');
}

int lb_announce_create(struct lb_model *model, struct lb_announce **out)
{
	static const struct timeval period = {.tv_usec = PERIOD_MS * 1000};
	struct lb_announce *announce = lb_xcalloc(1, sizeof(*announce));
	int rc = -ENOMEM, one = 1;

	announce->model = model;
	announce->started_ns = lb_now_ns();
	announce->netlink = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (announce->netlink == NULL || mnl_socket_bind(announce->netlink, 0, MNL_SOCKET_AUTOPID) < 0)
		rc = -errno;
	else
		announce->timer = event_new(model->base, -1, EV_PERSIST, on_timer, announce);
	if (announce->timer == NULL || event_add(announce->timer, &period) < 0) {
		lb_announce_destroy(announce);
		return rc;
	}
	// without it (Linux before 4.20) all tables come, and are sorted out here
	mnl_socket_setsockopt(announce->netlink, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
	load(announce);
	update(announce);
	*out = announce;
	return 0;
}

void lb_announce_destroy(struct lb_announce *announce)
{
	if (announce == NULL)
		return;
	if (announce->timer != NULL)
		event_free(announce->timer);
	if (announce->netlink != NULL)
		mnl_socket_close(announce->netlink);
	free(announce->vips);
	free(announce);
}
