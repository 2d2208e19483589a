/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/forwarding.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control/counters.h"
#include "control/mem.h"
#include "control/model.h"
#include "lb/log.h"

#define CHECK_NS UINT64_C(3000000000)

static const char *const states[] = {"ok", "ipv4", "ipv6", "ipv4 ipv6"}; /* by LB_FORWARDS_* */
static const char *const families[] = {"", "IPv4", "IPv6", "IPv4 and IPv6"};

static bool is_on(const char *path)
{
	char text[4];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text));
	close(fd);
	return n > 0 && text[0] != '0';
}

/*
 * Whether the kernel receives what the driver does. Not so with tap, whose kernel interface is the other end of
 * the cable, and drivers that share a NIC with the kernel: there it has what the data plane does not take.
 */
static bool is_shared(const struct lb_shm_port *port)
{
	static const char *const drivers[] = {"net_af_packet", "net_af_xdp", "net_pcap"};
	char driver[sizeof(port->driver) + 1];

	lb_counters_text(driver, sizeof(driver), port->driver, sizeof(port->driver));
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
		if (strcmp(driver, drivers[i]) == 0)
			return true;
	return false;
}

static unsigned families_served(const struct lb_model *model)
{
	unsigned served = 0;

	for (size_t i = 0; i < model->n_services; i++)
		served |= lb_addr_is_ipv4(&model->services[i]->key.addr) ? LB_FORWARDS_IPV4 : LB_FORWARDS_IPV6;
	return served;
}

/* Add @p name, an interface that is there, if it forwards something of @p served. */
static void look_at(struct lb_forwarding *found, const char *name, unsigned served)
{
	char path[sizeof("/proc/sys/net/ipv4/conf//forwarding") + IF_NAMESIZE];

	// an IPv4 packet is forwarded if its interface says so; of IPv6 one switch says it for all
	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%.*s/forwarding", IF_NAMESIZE - 1, name);
	if ((served & LB_FORWARDS_IPV4) != 0 && !is_on(path))
		served &= ~LB_FORWARDS_IPV4;
	for (size_t i = 0; i < found->n; i++)
		if (strcmp(found->interfaces[i].name, name) == 0)
			return;
	if (served == 0)
		return;
	snprintf(found->interfaces[found->n].name, IF_NAMESIZE, "%s", name);
	found->interfaces[found->n++].families = served;
}

static void look(const struct lb_model *model, unsigned n_ports, struct lb_forwarding *found)
{
	const struct lb_shm_port *ports = lb_dp_map(model->dp)->shm->header.ports;
	const struct lb_config *config = model->config;
	size_t n_named = config != NULL ? config->n_interfaces : 0;
	unsigned served = families_served(model);
	char name[IF_NAMESIZE];

	if ((served & LB_FORWARDS_IPV6) != 0 && !is_on("/proc/sys/net/ipv6/conf/all/forwarding"))
		served &= ~LB_FORWARDS_IPV6;
	found->interfaces = lb_xcalloc(n_ports + n_named + 1, sizeof(*found->interfaces));
	for (unsigned i = 0; i < n_ports; i++) {
		uint32_t ifindex = *(const volatile uint32_t *)&ports[i].ifindex;

		if (ports[i].in_use && ifindex != 0 && is_shared(&ports[i]) && if_indextoname(ifindex, name) != NULL)
			look_at(found, name, served);
	}
	for (size_t i = 0; i < n_named; i++) {
		const struct lb_config_interface *interface = &config->interfaces[i];

		if (interface->port < n_ports && is_shared(&ports[interface->port]) &&
			if_nametoindex(interface->name) != 0)
			look_at(found, interface->name, served);
	}
}

static unsigned families_of(const struct lb_forwarding *of, const char *name)
{
	for (size_t i = 0; i < of->n; i++)
		if (strcmp(of->interfaces[i].name, name) == 0)
			return of->interfaces[i].families;
	return 0;
}

static void tell(struct lb_model *model, const char *name, unsigned from, unsigned to)
{
	char subject[IF_NAMESIZE + 16];

	if (from == to)
		return;
	if ((to & ~from) != 0)
		lb_log(LB_LOG_WARN, "forwarding",
			"interface %s: the kernel forwards %s packets from it, those of services too, and so breaks "
			"connections: switch its forwarding off",
			name, families[to]);
	else
		lb_log(LB_LOG_INFO, "forwarding", "interface %s: the kernel forwards no %s packets of services any more",
			name, families[from & ~to]);
	snprintf(subject, sizeof(subject), "interface %s", name);
	if (to != 0)
		lb_events_add(model->events, "kernel_forwards", subject, states[from], states[to],
			"the kernel forwards %s packets from it, those of services too", families[to]);
	else
		lb_events_add(model->events, "kernel_forwards", subject, states[from], states[to],
			"the kernel forwards no packets of services from it any more");
}

void lb_forwarding_tick(struct lb_model *model)
{
	struct lb_forwarding *known = &model->forwarding;
	const struct lb_shm_map *map = lb_dp_map(model->dp);
	struct lb_forwarding found = {.checked_ns = lb_now_ns()};
	unsigned n_ports;

	if (map == NULL || (known->checked_ns != 0 && found.checked_ns - known->checked_ns < CHECK_NS))
		return;
	n_ports = *(const volatile uint32_t *)&map->shm->header.n_ports;
	if (n_ports == 0)
		return; // it has only begun to start
	look(model, n_ports > LB_SHM_MAX_PORTS ? LB_SHM_MAX_PORTS : n_ports, &found);
	for (size_t i = 0; i < found.n; i++)
		tell(model, found.interfaces[i].name, families_of(known, found.interfaces[i].name),
			found.interfaces[i].families);
	for (size_t i = 0; i < known->n; i++)
		if (families_of(&found, known->interfaces[i].name) == 0)
			tell(model, known->interfaces[i].name, known->interfaces[i].families, 0);
	lb_forwarding_fini(known);
	*known = found;
}

void lb_forwarding_fini(struct lb_forwarding *forwarding)
{
	free(forwarding->interfaces);
	*forwarding = (struct lb_forwarding){0};
}
