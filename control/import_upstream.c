/* SPDX-License-Identifier: BSD-3-Clause */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "control/config_internal.h"
#include "control/import_internal.h"
#include "control/lbctl_text.h"
#include "lb/addr.h"
#include "lb/hash.h"
#include "lb/msg.h"

#define MAX_WEIGHT 256u
#define MAX_FALL 100u
#define TLS "TLS passes through unread: it ends on the backends, or on the NGINX tier behind us"
#define HEADERS "headers are layer 7: set them on the NGINX tier behind us"
#define RETRY "retries are layer 7; health checks take a dead backend out, live connections stay"
#define CONTENT "content and redirects are layer 7: they belong on the NGINX tier behind us"
#define PROCESS "about the NGINX process itself: nothing to set here"

/* By beginning of the directive's name, the first that fits; the last fits all. */
static const struct {
	const char *prefix, *why;
} reasons[] = {
	{"location", "routing by path is layer 7: it belongs on the NGINX tier behind us"},
	{"server_name", "host names are layer 7: all that comes to the VIP and port goes to these "
			"backends"},
	{"ssl_preread", "routing by the TLS name (SNI) belongs on the NGINX tier behind us"},
	{"ssl", TLS},
	{"proxy_ssl", TLS},
	{"http2", TLS},
	{"http3", TLS},
	{"proxy_set_header", HEADERS},
	{"proxy_hide_header", HEADERS},
	{"proxy_pass_header", HEADERS},
	{"add_header", HEADERS},
	{"real_ip", "mode nat keeps the client's address: not needed behind us"},
	{"set_real_ip", "mode nat keeps the client's address: not needed behind us"},
	{"proxy_protocol", "mode nat keeps the client's address; in mode fullnat see "
			   "client_address: proxy_v2"},
	{"proxy_bind", "mode nat keeps the client's address: not needed"},
	{"proxy_cache", "caching belongs on the NGINX tier behind us"},
	{"proxy_next_upstream", RETRY},
	{"proxy_connect_timeout", RETRY},
	{"proxy_read_timeout", "between client and backend; ours is idle_timeout"},
	{"proxy_send_timeout", "between client and backend; ours is idle_timeout"},
	{"proxy_buffer", "packets are not buffered here"},
	{"proxy_", "about NGINX as a proxy: it belongs on the NGINX tier behind us"},
	{"health_check",
		"see health_check in docs/config.md: type http with path, interval, rise, fall"},
	{"match", "see health_check in docs/config.md: expect_status and expect_body"},
	{"keepalive", "connections to backends are the clients' own: nothing to keep"},
	{"zone", "shared memory of NGINX workers: not needed"},
	{"sticky", "cookies are layer 7; scheduler source keeps a client on its backend"},
	{"queue", "connections are not queued here; see max_load"},
	{"resolver", "host names are resolved by lb-control"},
	{"limit_", "limits per request belong on the NGINX tier behind us"},
	{"auth", "authentication belongs on the NGINX tier behind us"},
	{"allow", "access lists belong on a firewall before us or on the NGINX tier behind us"},
	{"deny", "access lists belong on a firewall before us or on the NGINX tier behind us"},
	{"access_log",
		"request logs belong on the NGINX tier behind us; see lbctl events and stats"},
	{"error_log",
		"request logs belong on the NGINX tier behind us; see lbctl events and stats"},
	{"log_", "request logs belong on the NGINX tier behind us"},
	{"gzip", CONTENT},
	{"root", CONTENT},
	{"index", CONTENT},
	{"try_files", CONTENT},
	{"return", CONTENT},
	{"rewrite", CONTENT},
	{"if", CONTENT},
	{"map", "variables are layer 7: the NGINX tier behind us"},
	{"geo", "variables are layer 7: the NGINX tier behind us"},
	{"include", "the file could not be read: what it says is missing here"},
	{"worker_", PROCESS},
	{"events", PROCESS},
	{"user", PROCESS},
	{"pid", PROCESS},
	{"daemon", PROCESS},
	{"load_module", PROCESS},
	{"", "has no meaning at layer 4: if it is needed, it belongs on the NGINX tier behind us"},
};

void lb_import_note_rest(struct lb_import_notes *notes, const struct lb_nginx_directive *directive)
{
	const char *name = directive->words[0];
	struct lb_import_list list;
	size_t i = 0;

	while (strncmp(name, reasons[i].prefix, strlen(reasons[i].prefix)) != 0)
		i++;
	lb_import_note(notes, directive, "%s",
		directive->problem != NULL ? directive->problem : reasons[i].why);
	// What stands in other blocks (map, types, if ...) are not directives, or only make sense
	// there.
	if (strcmp(name, "location") != 0)
		return;
	list = lb_import_children(directive);
	for (i = 0; i < list.n; i++)
		if (strcmp(list.items[i]->words[0], "proxy_pass") != 0)
			lb_import_note_rest(notes, list.items[i]);
	free(list.items);
}

// What a "proxy_pass" names, without scheme and path.
static const char *target_of(const struct lb_nginx_directive *pass, size_t *n_bytes)
{
	const char *target = pass->n_words > 1 ? pass->words[1] : "",
		   *scheme = strstr(target, "://");

	if (scheme != NULL)
		target = scheme + 3;
	*n_bytes = strcspn(target, "/$");
	if (*n_bytes == 0)
		*n_bytes = strlen(target);
	return target;
}

static bool passes_to_the_same(
	const struct lb_nginx_directive *a, const struct lb_nginx_directive *b)
{
	size_t n_a, n_b;
	const char *x = target_of(a, &n_a), *y = target_of(b, &n_b);

	return n_a == n_b && strncmp(x, y, n_a) == 0;
}

static void note_passes(struct lb_import_notes *notes, const struct lb_nginx_directive *block,
	const struct lb_nginx_directive *pass)
{
	struct lb_import_list list = lb_import_children(block);

	for (size_t i = 0; i < list.n; i++) {
		const struct lb_nginx_directive *d = list.items[i];

		if (strcmp(d->words[0], "location") == 0 && d->is_block)
			note_passes(notes, d, pass);
		else if (strcmp(d->words[0], "proxy_pass") == 0 && !passes_to_the_same(d, pass))
			lb_import_note(notes, d,
				"another upstream by path is layer 7, and here all goes to the "
				"backends "
				"below; to keep both, keep NGINX and make its hosts the backends");
	}
	free(list.items);
}

static bool parse_port(const char *text, unsigned *port)
{
	uint64_t value;

	if (lbctl_text_parse_number(text, 1, 65535, &value) != 0)
		return false;
	*port = (unsigned)value;
	return true;
}

// Addresses in the one form that all compare equal in; host names in small letters.
static void to_canonical(char **host)
{
	struct lb_addr addr;
	char text[LB_ADDR_STRLEN];

	if (lb_addr_parse(*host, &addr) == 0) {
		lb_addr_format(&addr, text);
		free(*host);
		*host = lbctl_text_copy(text);
		return;
	}
	for (char *c = *host; *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
}

bool lb_import_split(
	const char *text, unsigned port_default, bool port_alone, char **host, unsigned *port)
{
	const char *end = *text == '[' ? strchr(text, ']') : NULL, *colon;

	*host = NULL;
	*port = port_default;
	if (*text == '[') {
		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return false;
		colon = end[1] == ':' ? end + 1 : NULL;
		text++;
	} else {
		if (port_alone && text[strspn(text, "0123456789")] == '\0') {
			*host = lbctl_text_copy("*");
			return parse_port(text, port);
		}
		colon = strchr(text, ':');
		end = colon != NULL ? colon : text + strlen(text);
		if (colon != NULL && strchr(colon + 1, ':') != NULL)
			return false;
	}
	if (colon != NULL ? !parse_port(colon + 1, port) : *port == 0)
		return false;
	*host = lbctl_text_printf("%.*s", (int)(end - text), text);
	to_canonical(host);
	return **host != '\0';
}

// "NAME=VALUE" of a server's parameters. @return VALUE, NULL if it is another parameter.
static const char *value_of(const char *word, const char *name)
{
	size_t n = strlen(name);

	return strncmp(word, name, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

// NGINX writes 10, 10s, 500ms, 1m30s, "1h 30m"; 0: it is none of these.
static uint64_t parse_time_ms(const char *text)
{
	static const struct {
		char name[3];
		uint64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
		{"w", 604800000}, {"M", 2592000000}, {"y", 31536000000}};
	uint64_t sum_ms = 0;

	while (*text != '\0') {
		size_t n_digits = strspn(text, "0123456789"), n_unit, i = 0;
		uint64_t number = strtoull(text, NULL, 10),
			 unit_ms = 1000; // without a unit: seconds

		text += n_digits;
		n_unit = strcspn(text, "0123456789 ");
		while (n_unit > 0 && i < sizeof(units) / sizeof(units[0]) &&
			(strlen(units[i].name) != n_unit ||
				memcmp(units[i].name, text, n_unit) != 0))
			i++;
		if (n_digits == 0 || n_digits > 9 || i == sizeof(units) / sizeof(units[0]))
			return 0;
		if (n_unit > 0)
			unit_ms = units[i].ms;
		sum_ms +=
			number * unit_ms; // nine digits and a word of NGINX's length: far from 2^64
		text += n_unit;
		text += strspn(text, " ");
		if (sum_ms > UINT64_C(1000000000000))
			return UINT64_C(1000000000000);
	}
	return sum_ms;
}

// A time of NGINX's as one of ours within @p min_ms..@p max_ms; NULL after a note.
static char *duration(struct lb_import_notes *notes, const struct lb_nginx_directive *d,
	const char *text, uint64_t min_ms, uint64_t max_ms)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
	uint64_t ms = parse_time_ms(text), fit_ms = ms < min_ms   ? min_ms
						    : ms > max_ms ? max_ms
								  : ms;
	char *found;
	size_t i = 0;

	if (ms == 0) {
		lb_import_note(notes, d, "%s is no time, or none at all: left out", text);
		return NULL;
	}
	while (fit_ms % units[i].ms != 0)
		i++;
	found = lbctl_text_printf("%" PRIu64 "%s", fit_ms / units[i].ms, units[i].name);
	if (fit_ms != ms)
		lb_import_note(
			notes, d, "%s is beyond what there is here: %s instead", text, found);
	return found;
}

void lb_import_note_server(struct lb_import_service *service,
	const struct lb_nginx_directive *server, const struct lb_nginx_directive *pass)
{
	struct lb_import_notes *notes = &service->notes;
	struct lb_import_list list = lb_import_children(server);

	for (size_t i = 0; i < list.n; i++) {
		const char *name = list.items[i]->words[0];

		if (strcmp(name, "listen") == 0 || list.items[i] == pass ||
			strcmp(name, "proxy_pass") == 0)
			continue;
		if (strcmp(name, "proxy_timeout") == 0 && list.items[i]->n_words == 2 &&
			service->idle_timeout == NULL) {
			service->idle_timeout = duration(
				notes, list.items[i], list.items[i]->words[1], 1000, 7200000);
			continue;
		}
		// "location / { proxy_pass ...; }" and nothing else has become the service.
		if (strcmp(name, "location") == 0 && list.items[i]->n_children == 1 &&
			&list.items[i]->children[0] == pass &&
			strcmp(list.items[i]->words[list.items[i]->n_words - 1], "/") == 0)
			continue;
		lb_import_note_rest(notes, list.items[i]);
	}
	free(list.items);
	note_passes(notes, server, pass);
}

struct server_options {
	bool no_passive; /* max_fails=0 */
	unsigned max_fails;
};

static void read_option(struct lb_import_service *service, struct lb_import_backend *backend,
	const struct lb_nginx_directive *d, const char *word, struct server_options *options)
{
	uint64_t number;
	const char *value;

	if (strcmp(word, "backup") == 0) {
		backend->backup = true;
	} else if (strcmp(word, "down") == 0) {
		backend->down = true;
	} else if ((value = value_of(word, "weight")) != NULL) {
		if (lbctl_text_parse_number(value, 1, UINT32_MAX, &number) == 0)
			backend->weight = (unsigned)number;
		else
			lb_import_note(
				&service->notes, d, "weight=%s is no weight: taken as 1", value);
	} else if ((value = value_of(word, "max_fails")) != NULL) {
		if (lbctl_text_parse_number(value, 0, 1000000, &number) == 0 &&
			number > options->max_fails)
			options->max_fails = (unsigned)number;
	} else if (value_of(word, "fail_timeout") != NULL) {
		lb_import_note(&service->notes, d,
			"%s: backends are checked all the time; fall and rise count checks in a "
			"row",
			word);
	} else if ((value = value_of(word, "slow_start")) != NULL) {
		if (service->slow_start == NULL && strcmp(value, "0") != 0) {
			service->slow_start = duration(&service->notes, d, value, 1000, 3600000);
			lb_import_note(&service->notes, d,
				"%s: here it is the same for all backends", word);
		}
	} else if (value_of(word, "max_conns") != NULL) {
		lb_import_note(&service->notes, d,
			"%s: there is no limit per backend; see max_load", word);
	} else if (strcmp(word, "resolve") != 0) {
		lb_import_note(&service->notes, d, "%s: has no meaning at layer 4", word);
	}
}

// Backends are compared each with each: by this first, or an upstream of tens of thousands would
// take a minute.
static uint64_t endpoint_hash(const struct lb_import_backend *backend)
{
	return lb_hash_bytes(backend->address, strlen(backend->address), backend->port);
}

static bool has_endpoint(
	const struct lb_import_service *service, const struct lb_import_backend *backend)
{
	for (size_t i = 0; i < service->n_backends; i++)
		if (service->backends[i].hash == backend->hash &&
			service->backends[i].port == backend->port &&
			strcmp(service->backends[i].address, backend->address) == 0)
			return true;
	return false;
}

static bool has_name(const struct lb_import_service *service, const char *name)
{
	for (size_t i = 0; i < service->n_backends; i++)
		if (service->backends[i].name != NULL &&
			strcmp(service->backends[i].name, name) == 0)
			return true;
	return false;
}

// A host name is the backend's name too, shortened if it is too long for one; an address names
// itself.
static char *backend_name(
	const struct lb_import_service *service, const char *address, unsigned port)
{
	unsigned char bytes[16];
	char *name;

	if (inet_pton(AF_INET, address, bytes) == 1 || inet_pton(AF_INET6, address, bytes) == 1)
		return NULL;
	name = lbctl_text_printf("%.57s", address);
	for (size_t n = 0; has_name(service, name); n++) {
		free(name);
		name = n == 0 && strlen(address) <= 57
			       ? lbctl_text_printf("%s:%u", address, port)
			       : lbctl_text_printf("%.50s-%zu", address, service->n_backends + n);
	}
	return name;
}

bool lb_import_is_localhost(const char *host)
{
	size_t n = strlen(host), n_name = strlen("localhost");

	return n >= n_name && strcmp(host + n - n_name, "localhost") == 0 &&
	       (n == n_name || host[n - n_name - 1] == '.');
}

// The dot at the end of an absolute name goes.
static bool is_host(char *name)
{
	size_t n = strlen(name);

	if (n > 1 && name[n - 1] == '.')
		name[n - 1] = '\0';
	return lb_config_is_host_name(name);
}

static bool is_address_or_host(char *text)
{
	struct lb_addr addr;

	if (lb_addr_parse(text, &addr) == 0) // loopback has a reason of its own later
		return lb_addr_is_usable(&addr) || strncmp(text, "127.", 4) == 0 ||
		       strcmp(text, "::1") == 0;
	return is_host(text) || lb_import_is_localhost(text);
}

static void add_backend(struct lb_import_service *service, const struct lb_nginx_directive *d,
	const char *endpoint, unsigned port_default, struct server_options *options)
{
	struct lb_import_backend backend = {.weight = 1};
	bool is_unix = strncmp(endpoint, "unix:", 5) == 0;

	if (is_unix ||
		!lb_import_split(endpoint, port_default, false, &backend.address, &backend.port)) {
		lb_import_note(&service->notes, d,
			is_unix ? "a Unix socket cannot be a backend"
				: "cannot be understood as an address and a port");
		free(backend.address);
		return;
	}
	if (!is_address_or_host(backend.address)) {
		lb_import_note(&service->notes, d, "no address and no host name");
		free(backend.address);
		return;
	}
	for (size_t i = 2; options != NULL && i < d->n_words; i++) {
		if (value_of(d->words[i], "service") != NULL) {
			lb_import_note(&service->notes, d,
				"ports out of SRV records are not followed: name host and port");
			free(backend.address);
			return;
		}
		read_option(service, &backend, d, d->words[i], options);
	}
	if (service->n_backends >= LB_MAX_BACKENDS) {
		lb_import_note(&service->notes, d, "left out: a balancer has at most %u backends",
			LB_MAX_BACKENDS);
		free(backend.address);
		return;
	}
	backend.hash = endpoint_hash(&backend);
	if (has_endpoint(service, &backend)) {
		lb_import_note(&service->notes, d, "twice in its upstream: taken once");
		free(backend.address);
		return;
	}
	backend.name = backend_name(service, backend.address, backend.port);
	service->backends = lbctl_text_realloc(
		service->backends, (service->n_backends + 1) * sizeof(*service->backends));
	service->backends[service->n_backends++] = backend;
}

static void set_hash(struct lb_import_service *service, const struct lb_nginx_directive *d)
{
	const char *key = d->n_words > 1 ? d->words[1] : "";

	if (strcmp(key, "$remote_addr") == 0 || strcmp(key, "$binary_remote_addr") == 0) {
		service->scheduler = "source";
		return;
	}
	service->scheduler = "maglev";
	if (strstr(key, "remote_addr") == NULL || strstr(key, "remote_port") == NULL)
		lb_import_note(&service->notes, d,
			"not known at layer 4: maglev hashes addresses and ports; hash by it on "
			"the NGINX tier");
}

// Everything of an upstream that is no server.
static void read_method(struct lb_import_service *service, const struct lb_nginx_directive *d)
{
	const char *name = d->words[0];

	if (strcmp(name, "least_conn") == 0)
		service->scheduler = "wlc";
	else if (strcmp(name, "least_time") == 0) {
		service->scheduler = "wlc";
		lb_import_note(&service->notes, d,
			"response times are not seen at layer 4: by connections instead");
	} else if (strcmp(name, "ip_hash") == 0)
		service->scheduler = "source";
	else if (strcmp(name, "hash") == 0)
		set_hash(service, d);
	else if (strcmp(name, "random") == 0)
		service->scheduler =
			d->n_words > 1 && strcmp(d->words[1], "two") == 0 ? "p2c" : "maglev";
	else
		lb_import_note_rest(&service->notes, d);
}

// Weights beyond ours are scaled down together.
static void fit_weights(struct lb_import_service *service, const struct lb_nginx_directive *block)
{
	unsigned max = 0;

	for (size_t i = 0; i < service->n_backends; i++)
		if (service->backends[i].weight > max)
			max = service->backends[i].weight;
	if (max <= MAX_WEIGHT)
		return;
	for (size_t i = 0; i < service->n_backends; i++) {
		uint64_t weight = (uint64_t)service->backends[i].weight * MAX_WEIGHT / max;

		service->backends[i].weight = weight > 0 ? (unsigned)weight : 1;
	}
	lb_import_note(
		&service->notes, block, "weights up to %u are scaled to 1..%u", max, MAX_WEIGHT);
}

void lb_import_upstream_backends(struct lb_import_scan *scan, struct lb_import_service *service,
	struct lb_import_upstream *upstream)
{
	struct lb_import_list list = lb_import_children(upstream->block);
	struct server_options options = {0};
	size_t n_notes = service->notes.n;

	service->name = lb_import_name(scan->import, upstream->name, upstream->n_used);
	for (size_t i = 0; i < list.n; i++) {
		const struct lb_nginx_directive *d = list.items[i];

		if (strcmp(d->words[0], "server") == 0 && d->n_words > 1)
			add_backend(
				service, d, d->words[1], upstream->is_stream ? 0 : 80, &options);
		else
			read_method(service, d);
	}
	if (options.max_fails > 0)
		service->fall = options.max_fails < MAX_FALL ? options.max_fails : MAX_FALL;
	fit_weights(service, upstream->block);
	if (upstream->n_used++ > 0) // they stand at the first service of this upstream
		lb_import_notes_cut(&service->notes, n_notes);
	free(list.items);
}

static struct lb_import_upstream *find_upstream(
	struct lb_import_scan *scan, const char *name, size_t n_bytes, bool is_stream)
{
	for (size_t i = 0; i < scan->n_upstreams; i++) {
		struct lb_import_upstream *upstream = &scan->upstreams[i];

		if ((upstream->is_either || upstream->is_stream == is_stream) &&
			strlen(upstream->name) == n_bytes &&
			strncmp(upstream->name, name, n_bytes) == 0)
			return upstream;
	}
	return NULL;
}

void lb_import_target(struct lb_import_scan *scan, struct lb_import_service *service,
	const struct lb_nginx_directive *pass, bool is_stream)
{
	const char *target = pass->words[1], *scheme = strstr(target, "://");
	bool tls = strncmp(target, "https:", 6) == 0 || strncmp(target, "grpcs:", 6) == 0;
	struct lb_import_upstream *upstream;
	size_t n_bytes;
	char *endpoint;

	if (scheme != NULL)
		target = scheme + 3;
	n_bytes = strncmp(target, "unix:", 5) == 0 ? strlen(target) : strcspn(target, "/");
	if (tls)
		lb_import_note(&service->notes, pass, TLS);
	upstream = find_upstream(scan, target, n_bytes, is_stream);
	if (upstream == NULL) // "http://api$request_uri" is passed to api all the same
		upstream = find_upstream(scan, target, strcspn(target, "/$"), is_stream);
	if (upstream != NULL) {
		lb_import_upstream_backends(scan, service, upstream);
		return;
	}
	endpoint = lbctl_text_printf("%.*s", (int)n_bytes, target);
	service->name = lb_import_name(scan->import, endpoint, 0);
	if (strchr(endpoint, '$') != NULL)
		lb_import_note(&service->notes, pass,
			"an upstream chosen by a variable is layer 7: it belongs on the NGINX tier "
			"behind us");
	else
		add_backend(service, pass, endpoint, is_stream ? 0 : tls ? 443 : 80, NULL);
	free(endpoint);
}
