/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/import.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/import_internal.h"
#include "control/lbctl_text.h"
#include "lb/addr.h"
#include "lb/msg.h"

/* Where no address is given: addresses for documentation (RFC 5737, RFC 3849), to be replaced. */
#define ANY_VIP4 "192.0.2.1"
#define ANY_VIP6 "2001:db8::1"
#define MAX_NAME 63u /* docs/config.md, "Names" */

/* What one "listen" says. */
struct listen {
	char *vip; /* NULL: not an address and port that we could serve */
	bool vip_given;
	unsigned family, port;
	const char *protocol;
};

void lb_import_note(struct lb_import_notes *notes, const struct lb_nginx_directive *directive,
	const char *format, ...)
{
	char *what = lbctl_text_copy(directive->words[0]), *why = NULL;
	va_list args;

	for (size_t i = 1; i < directive->n_words && strlen(what) < 60; i++) {
		char *longer = lbctl_text_printf("%s %s", what, directive->words[i]);

		free(what);
		what = longer;
	}
	if (strlen(what) > 72) {
		char *shorter = lbctl_text_printf("%.69s...", what);

		free(what);
		what = shorter;
	}
	va_start(args, format);
	if (vasprintf(&why, format, args) < 0)
		why = lbctl_text_copy(format);
	va_end(args);
	notes->notes = lbctl_text_realloc(notes->notes, (notes->n + 1) * sizeof(*notes->notes));
	notes->notes[notes->n++] = (struct lb_import_note){
		.where = lbctl_text_printf("%s:%u", directive->file, directive->line),
		.what = what,
		.why = why,
	};
}

// Append the directives of @p block to @p list, those of its includes in their place.
static void flatten(const struct lb_nginx_directive *block, struct lb_import_list *list)
{
	for (size_t i = 0; i < block->n_children; i++) {
		const struct lb_nginx_directive *child = &block->children[i];

		if (strcmp(child->words[0], "include") == 0 && child->is_block) {
			flatten(child, list);
			continue;
		}
		list->items = lbctl_text_realloc(list->items, (list->n + 1) * sizeof(*list->items));
		list->items[list->n++] = child;
	}
}

struct lb_import_list lb_import_children(const struct lb_nginx_directive *block)
{
	struct lb_import_list list = {0};

	flatten(block, &list);
	return list;
}

static bool is_taken(const struct lb_import *import, const char *name)
{
	for (size_t i = 0; i < import->n_services; i++)
		if (import->services[i].name != NULL && strcmp(import->services[i].name, name) == 0)
			return true;
	return false;
}

char *lb_import_name(const struct lb_import *import, const char *text, unsigned n_before)
{
	char *base = lbctl_text_printf("%.*s", (int)MAX_NAME - 6, *text != '\0' ? text : "service");
	char *name = lbctl_text_copy(base);

	for (char *c = base; *c != '\0'; c++) {
		bool fine = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			    (*c >= '0' && *c <= '9') || *c == '_' || (*c == '.' && c != base) ||
			    (*c == '-' && c != base);

		if (!fine)
			*c = '_';
	}
	strcpy(name, base);
	for (unsigned n = n_before < 1 ? 2 : n_before + 1; n_before > 0 || is_taken(import, name);
		n++) {
		free(name);
		name = lbctl_text_printf("%s-%u", base, n);
		n_before = 0;
	}
	free(base);
	return name;
}

// "5000-5010", "10.0.0.1:5000-5010"
static bool is_range(const char *text)
{
	const char *port = strrchr(text, ':');
	size_t n;

	port = port != NULL ? port + 1 : text;
	n = strspn(port, "0123456789");
	return n > 0 && port[n] == '-' && port[n + 1 + strspn(port + n + 1, "0123456789")] == '\0';
}

/* "80", "*:80", "192.0.2.7:80", "[::]:80", "192.0.2.7", "localhost:80", "unix:/path" */
static void parse_address(struct lb_import *import, const struct lb_nginx_directive *directive,
	struct lb_import_notes *notes, bool is_stream, struct listen *listen)
{
	char *host = NULL;
	unsigned char bytes[16];
	struct lb_addr addr;
	const char *any = import->vip4 != NULL ? import->vip4 : ANY_VIP4;

	if (strncmp(directive->words[1], "unix:", 5) == 0) {
		lb_import_note(notes, directive, "a Unix socket: stays on the NGINX host");
		return;
	}
	if (strchr(directive->words[1], '$') != NULL) {
		lb_import_note(
			notes, directive, "a variable: write the address and port themselves");
		return;
	}
	if (is_range(directive->words[1])) {
		lb_import_note(notes, directive,
			"a range of ports: make a service of each, or one with port: all");
		return;
	}
	if (!lb_import_split(directive->words[1], is_stream ? 0 : 80, true, &host, &listen->port)) {
		lb_import_note(notes, directive, "cannot be understood as an address and a port");
		free(host);
		return;
	}
	listen->family = 4;
	listen->vip_given = true;
	if (strcmp(host, "*") == 0 || *host == '\0' || strcmp(host, "0.0.0.0") == 0) {
		listen->vip_given = import->vip4 != NULL;
	} else if (strcmp(host, "::") == 0) {
		listen->family = 6;
		listen->vip_given = import->vip6 != NULL;
		any = import->vip6 != NULL ? import->vip6 : ANY_VIP6;
	} else if (inet_pton(AF_INET6, host, bytes) == 1) {
		listen->family = 6;
		any = host;
	} else if (inet_pton(AF_INET, host, bytes) == 1) {
		any = host;
	} else {
		lb_import_note(notes, directive, "a VIP is an address, not a host name");
		free(host);
		return;
	}
	if (strncmp(any, "127.", 4) == 0 || strcmp(any, "::1") == 0)
		lb_import_note(
			notes, directive, "loopback: reached from its own host only, no balancer");
	else if (lb_addr_parse(any, &addr) < 0 || !lb_addr_is_usable(&addr))
		lb_import_note(notes, directive, "no unicast address, so no VIP");
	else
		listen->vip = lbctl_text_copy(any);
	free(host);
}

static struct listen parse_listen(struct lb_import *import,
	const struct lb_nginx_directive *directive, struct lb_import_notes *notes, bool is_stream)
{
	struct listen listen = {.protocol = "tcp"};

	if (directive->n_words < 2) {
		lb_import_note(notes, directive, "names no port");
		return listen;
	}
	parse_address(import, directive, notes, is_stream, &listen);
	for (size_t i = 2; i < directive->n_words; i++) {
		const char *word = directive->words[i];

		if (strcmp(word, "udp") == 0)
			listen.protocol = "udp";
		else if (strcmp(word, "ssl") == 0)
			lb_import_note(notes, directive,
				"TLS passes through unread: it ends on the backends, or on the "
				"NGINX tier behind us");
		else if (strcmp(word, "quic") == 0)
			listen.protocol = "udp";
		else if (strcmp(word, "ipv6only=off") == 0)
			lb_import_note(notes, directive,
				"ipv6only=off: a VIP is of one family: give the other one a listen "
				"of its own");
		else if (strcmp(word, "proxy_protocol") == 0)
			lb_import_note(notes, directive,
				"nothing in front of the balancer needs it: packets bear the "
				"client's address");
	}
	return listen;
}

static struct lb_import_service *find_service(struct lb_import *import, const struct listen *listen)
{
	for (size_t i = 0; i < import->n_services; i++) {
		struct lb_import_service *service = &import->services[i];

		if (strcmp(service->vip, listen->vip) == 0 && service->port == listen->port &&
			strcmp(service->protocol, listen->protocol) == 0)
			return service;
	}
	return NULL;
}

// Its name comes with its backends.
static struct lb_import_service *add_service(struct lb_import *import, const struct listen *listen)
{
	struct lb_import_service service = {
		.vip = lbctl_text_copy(listen->vip),
		.vip_given = listen->vip_given,
		.port = listen->port,
		.protocol = listen->protocol,
		.scheduler = "wrr",
		.check = strcmp(listen->protocol, "tcp") == 0 ? "tcp" : NULL,
	};

	import->services = lbctl_text_realloc(
		import->services, (import->n_services + 1) * sizeof(*import->services));
	import->services[import->n_services] = service;
	return &import->services[import->n_services++];
}

// Whether there is no room for another service, which is then noted.
static bool is_full(struct lb_import *import, const struct lb_nginx_directive *directive)
{
	if (import->n_services < LB_MAX_SERVICES)
		return false;
	lb_import_note(&import->notes, directive, "left out: a balancer has at most %u services",
		LB_MAX_SERVICES);
	return true;
}

// What a server passes connections to: "proxy_pass" of its own, of "location /", or of the first
// that has one.
static const struct lb_nginx_directive *find_pass(const struct lb_nginx_directive *server)
{
	struct lb_import_list list = lb_import_children(server);
	const struct lb_nginx_directive *pass = NULL, *first = NULL;

	for (size_t i = 0; i < list.n && pass == NULL; i++) {
		const struct lb_nginx_directive *d = list.items[i], *inner;

		if ((strcmp(d->words[0], "proxy_pass") == 0 ||
			    strcmp(d->words[0], "grpc_pass") == 0) &&
			d->n_words == 2)
			pass = d;
		if (strcmp(d->words[0], "location") != 0 || !d->is_block)
			continue;
		inner = find_pass(d);
		if (inner != NULL && strcmp(d->words[d->n_words - 1], "/") == 0)
			pass = inner;
		if (first == NULL)
			first = inner;
	}
	free(list.items);
	return pass != NULL ? pass : first;
}

static void add_listen(struct lb_import_scan *scan, const struct lb_nginx_directive *server,
	const struct lb_nginx_directive *listen_directive, bool is_stream,
	const struct lb_nginx_directive *pass)
{
	struct lb_import *import = scan->import;
	struct lb_import_notes notes = {0};
	struct listen listen;
	struct lb_import_service *service;
	static char *default_words[] = {(char *)(uintptr_t) "listen", (char *)(uintptr_t) "80"};
	struct lb_nginx_directive eighty = {
		.file = server->file, .line = server->line, .words = default_words, .n_words = 2};

	listen = parse_listen(
		import, listen_directive != NULL ? listen_directive : &eighty, &notes, is_stream);
	if (listen.vip == NULL) {
		lb_import_notes_move(&import->notes, &notes);
		return;
	}
	service = find_service(import, &listen);
	if (service != NULL) {
		lb_import_note(&service->notes, server,
			"a second server on this VIP and port: telling them apart by host name is "
			"layer 7, and here all goes to the first one's backends; to keep both, "
			"keep "
			"NGINX and make its hosts the backends");
		lb_import_notes_move(&service->notes, &notes);
	} else if (is_full(import, server)) {
		lb_import_notes_move(&import->notes, &notes);
		free(listen.vip);
		return;
	} else {
		service = add_service(import, &listen);
		lb_import_notes_move(&service->notes, &notes);
		lb_import_target(scan, service, pass, is_stream);
	}
	if (!scan->server_noted) {
		lb_import_note_server(service, server, pass);
		scan->server_noted = true;
	}
	free(listen.vip);
}

static void add_server(
	struct lb_import_scan *scan, const struct lb_nginx_directive *server, bool is_stream)
{
	struct lb_import_list list = lb_import_children(server);
	const struct lb_nginx_directive *pass = find_pass(server);
	bool listens = false;

	scan->server_noted = false;
	if (pass == NULL)
		lb_import_note(&scan->import->notes, server,
			"answers by itself (files, FastCGI, redirects): stays on the NGINX tier; "
			"to balance that tier "
			"make a service whose backends are its hosts");
	for (size_t i = 0; i < list.n && pass != NULL; i++) {
		if (strcmp(list.items[i]->words[0], "listen") != 0)
			continue;
		listens = true;
		add_listen(scan, server, list.items[i], is_stream, pass);
	}
	if (pass != NULL && !listens && !is_stream) // NGINX's own default
		add_listen(scan, server, NULL, false, pass);
	free(list.items);
}

// An upstream that no server names, as in a file that was cut out of a configuration.
static void add_unused(struct lb_import_scan *scan, struct lb_import_upstream *upstream)
{
	struct lb_import *import = scan->import;
	struct listen listen = {
		.vip = lbctl_text_copy(import->vip4 != NULL ? import->vip4 : ANY_VIP4),
		.vip_given = import->vip4 != NULL,
		.port = 80,
		.protocol = "tcp",
	};
	struct lb_import_service *service;

	if (is_full(import, upstream->block)) {
		free(listen.vip);
		return;
	}
	while (find_service(import, &listen) != NULL)
		listen.port++;
	service = add_service(import, &listen);
	lb_import_note(&service->notes, upstream->block,
		"no server here passes all it gets to it: the VIP's port is a guess, set it");
	lb_import_upstream_backends(scan, service, upstream);
	free(listen.vip);
}

// Whether a server has a "proxy_pass" outside of any location: so do those of stream, and they
// alone.
static bool passes_itself(const struct lb_nginx_directive *server)
{
	struct lb_import_list list = lb_import_children(server);
	bool found = false;

	for (size_t i = 0; i < list.n && !found; i++)
		found = strcmp(list.items[i]->words[0], "proxy_pass") == 0;
	free(list.items);
	return found;
}

// http, stream, or the top of a file that holds neither.
static void scan_block(struct lb_import_scan *scan, const struct lb_nginx_directive *block,
	bool is_stream, bool is_top)
{
	struct lb_import_list list = lb_import_children(block);

	for (size_t i = 0; i < list.n; i++) {
		const struct lb_nginx_directive *d = list.items[i];
		const char *name = d->words[0];

		if (is_top && d->is_block &&
			(strcmp(name, "http") == 0 || strcmp(name, "stream") == 0)) {
			scan_block(scan, d, strcmp(name, "stream") == 0, false);
		} else if (d->is_block && strcmp(name, "upstream") == 0 && d->n_words == 2) {
			scan->upstreams = lbctl_text_realloc(scan->upstreams,
				(scan->n_upstreams + 1) * sizeof(*scan->upstreams));
			scan->upstreams[scan->n_upstreams++] =
				(struct lb_import_upstream){.name = d->words[1],
					.block = d,
					.is_stream = is_stream,
					.is_either = is_top};
		} else if (d->is_block && strcmp(name, "server") == 0) {
			scan->servers = lbctl_text_realloc(
				scan->servers, (scan->n_servers + 1) * sizeof(*scan->servers));
			scan->servers[scan->n_servers++] = (struct lb_import_server){
				.block = d, .is_stream = is_stream || (is_top && passes_itself(d))};
		} else {
			lb_import_note_rest(&scan->import->notes, d);
		}
	}
	free(list.items);
}

void lb_import_nginx(struct lb_import *import, const struct lb_nginx *nginx)
{
	struct lb_import_scan scan = {.import = import};

	scan_block(&scan, &nginx->root, false, true);
	for (size_t i = 0; i < scan.n_servers; i++)
		add_server(&scan, scan.servers[i].block, scan.servers[i].is_stream);
	for (size_t i = 0; i < scan.n_upstreams; i++)
		if (scan.upstreams[i].n_used == 0)
			add_unused(&scan, &scan.upstreams[i]);
	lb_import_find_faults(import);
	free(scan.servers);
	free(scan.upstreams);
}

void lb_import_notes_move(struct lb_import_notes *to, struct lb_import_notes *from)
{
	to->notes = lbctl_text_realloc(to->notes, (to->n + from->n + 1) * sizeof(*to->notes));
	for (size_t i = 0; i < from->n; i++)
		to->notes[to->n++] = from->notes[i];
	free(from->notes);
	*from = (struct lb_import_notes){0};
}

void lb_import_notes_cut(struct lb_import_notes *notes, size_t n)
{
	for (size_t i = n; i < notes->n; i++) {
		free(notes->notes[i].where);
		free(notes->notes[i].what);
		free(notes->notes[i].why);
	}
	notes->n = n < notes->n ? n : notes->n;
}

static void notes_fini(struct lb_import_notes *notes)
{
	lb_import_notes_cut(notes, 0);
	free(notes->notes);
}

void lb_import_fini(struct lb_import *import)
{
	for (size_t i = 0; i < import->n_services; i++) {
		struct lb_import_service *service = &import->services[i];

		for (size_t k = 0; k < service->n_backends; k++) {
			free(service->backends[k].address);
			free(service->backends[k].name);
		}
		free(service->backends);
		free(service->name);
		free(service->vip);
		free(service->idle_timeout);
		free(service->slow_start);
		free(service->unusable);
		notes_fini(&service->notes);
	}
	free(import->services);
	notes_fini(&import->notes);
	*import = (struct lb_import){0};
}
