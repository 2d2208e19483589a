/* SPDX-License-Identifier: BSD-3-Clause */
/* NGINX configurations of tests/data/nginx, whole and damaged; what is made of them is loaded as a config. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_util.h"
#include "control/import.h"

#define DATA LB_TEST_DATA "/nginx/"

static char *import_file(const char *path, struct lb_import *import)
{
	struct lb_nginx nginx = {0};
	char *error = NULL, *yaml = NULL;
	size_t n_bytes;
	FILE *out;

	if (lb_nginx_read(path, &nginx, &error) < 0)
		fail_msg("%s", error);
	lb_import_nginx(import, &nginx);
	lb_nginx_fini(&nginx);
	out = open_memstream(&yaml, &n_bytes);
	lb_import_print(out, import, path);
	fclose(out);
	return yaml;
}

static struct lb_config *load(const char *yaml)
{
	struct lb_config *config = NULL;
	struct lb_config_error error;

	if (lb_config_parse("imported", yaml, strlen(yaml), &config, &error) < 0)
		fail_msg("%s: %s\n%s", error.where, error.message, yaml);
	return config;
}

static const struct lb_import_service *find(const struct lb_import *import, const char *name)
{
	for (size_t i = 0; i < import->n_services; i++)
		if (strcmp(import->services[i].name, name) == 0)
			return &import->services[i];
	fail_msg("no service %s", name);
	return NULL;
}

static bool has_note(const struct lb_import_notes *notes, const char *what, const char *why)
{
	for (size_t i = 0; i < notes->n; i++)
		if (strstr(notes->notes[i].what, what) && strstr(notes->notes[i].why, why))
			return true;
	return false;
}

static void upstream_of_four_becomes_a_service(void **state)
{
	struct lb_import import = {.vip4 = "203.0.113.10"};
	char *yaml = import_file(DATA "classic.conf", &import);
	struct lb_config *config = load(yaml);
	const struct lb_config_service *service = config->services[0];

	(void)state;
	assert_int_equal(config->n_services, 1);
	assert_string_equal(service->name, "api");
	assert_int_equal(service->n_backends, 4);
	for (unsigned i = 0; i < 4; i++) {
		static const unsigned weights[] = {5, 3, 2, 1};
		char name[32];

		snprintf(name, sizeof(name), "api-%u.internal", i + 1);
		assert_string_equal(service->backends[i].name, name);
		assert_int_equal(service->backends[i].weight, weights[i]);
		assert_int_equal(service->backends[i].tier, i == 3);
	}
	assert_int_equal(service->scheduler, LB_SCHED_WRR);
	lb_config_free(config);
	lb_import_fini(&import);
	free(yaml);
}

static void each_directive_becomes_a_setting_or_a_note(void **state)
{
	struct lb_import import = {0};
	char *yaml = import_file(DATA "full.conf", &import);
	const struct lb_import_service *api = find(&import, "api"), *dns = find(&import, "dns"),
				       *unused = find(&import, "unused"), *dns6 = find(&import, "dns6"),
				       *db = find(&import, "db.internal_5432");
	struct lb_config *config = load(yaml);

	(void)state;
	assert_string_equal(api->vip, "203.0.113.10");
	assert_int_equal(api->port, 443);
	assert_string_equal(api->scheduler, "wlc");
	assert_int_equal(api->fall, 5);
	assert_string_equal(api->slow_start, "30s");
	assert_int_equal(api->n_backends, 4);
	assert_true(api->backends[2].down);
	assert_int_equal(api->backends[2].port, 80);
	assert_true(api->backends[3].backup);
	assert_true(has_note(&api->notes, "server unix:/run/api.sock", "Unix socket"));
	assert_true(has_note(&api->notes, "ssl_certificate ", "TLS"));
	assert_true(has_note(&api->notes, "location ~ ^/v[0-9]{1,3}/files", "layer 7"));
	assert_true(has_note(&api->notes, "proxy_pass http://static/files", "layer 7"));
	assert_true(has_note(&api->notes, "proxy_set_header X-Path ${uri};x", "headers"));
	assert_true(has_note(&api->notes, "server", "second server on this VIP"));
	assert_string_equal(dns->protocol, "udp");
	assert_string_equal(dns->scheduler, "p2c");
	assert_string_equal(dns->idle_timeout, "20s");
	assert_string_equal(dns6->scheduler, "source");
	assert_string_equal(dns6->vip, "2001:db8::53");
	assert_false(db->vip_given);
	assert_int_equal(unused->backends[0].weight, 256);
	assert_int_equal(unused->backends[1].weight, 1);
	assert_true(has_note(&import.notes, "include missing.conf", "cannot read"));
	assert_false(has_note(&import.notes, "include /does/not/exist", ""));
	assert_true(has_note(&import.notes, "listen 127.0.0.1:9000", "loopback"));
	assert_true(has_note(&import.notes, "server", "stays on the NGINX tier"));
	find(&import, "10.0.4.1_8090"); // from an included file
	// Left out, but said: the same backends on another port, and IPv4 backends behind an IPv6 VIP.
	assert_non_null(strstr(yaml, "mode nat tells replies by their endpoint. To have both"));
	assert_non_null(strstr(yaml, "# Left out: mode nat needs backends of the VIP's family"));
	for (size_t i = 0; i < config->n_services; i++)
		assert_null(find(&import, config->services[i]->name)->unusable);
	lb_config_free(config);
	lb_import_fini(&import);
	free(yaml);
}

/* Replies of a shared endpoint cannot be told apart in mode nat; what has to be done for both is said, and works. */
static void two_ports_to_the_same_upstream(void **state)
{
	struct lb_import import = {0};
	char *yaml = import_file(DATA "both.conf", &import), *both, *at;
	struct lb_config *config = load(yaml);

	(void)state;
	assert_int_equal(config->n_services, 1);
	assert_int_equal(config->services[0]->mode, LB_MODE_NAT);
	lb_config_free(config);
	assert_non_null(strstr(yaml, "is a backend of service app above"));
	assert_non_null(strstr(yaml, "local_addresses"));
	both = malloc(strlen(yaml) + 100);
	assert_non_null(both);
	sprintf(both, "local_addresses: [192.0.2.10]\n%s", yaml);
	for (at = strstr(both, "\n#  - name"); at != NULL; at = strstr(at + 1, "\n#  "))
		memmove(at + 1, at + 2, strlen(at + 2) + 1);
	config = load(both);
	assert_int_equal(config->n_services, 2);
	assert_int_equal(config->services[1]->mode, LB_MODE_FULLNAT);
	assert_int_equal(ntohs(config->services[1]->key.port_be), 443);
	assert_int_equal(config->services[1]->n_backends, 2);
	lb_config_free(config);
	lb_import_fini(&import);
	free(both);
	free(yaml);
}

static bool has_backend(const struct lb_import_service *service, const char *address, unsigned port)
{
	for (size_t i = 0; i < service->n_backends; i++)
		if (service->backends[i].port == port && strcmp(service->backends[i].address, address) == 0)
			return true;
	return false;
}

// One of everything that people have in their files: globs, nested maps, ranges, variables, quoted names, both an http and
// a stream upstream of one name.
static void what_real_files_have_is_understood_or_noted(void **state)
{
	struct lb_import import = {.vip4 = "203.0.113.10", .vip6 = "2001:db8:f::10"};
	char *yaml = import_file(DATA "nasty/nginx.conf", &import);
	struct lb_config *config = load(yaml);
	const struct lb_import_service *api = find(&import, "api"), *stream_api = find(&import, "api-4"),
				       *tls = find(&import, "tls");

	(void)state;
	assert_string_equal(api->scheduler, "wlc");
	assert_int_equal(api->port, 443);
	assert_true(has_backend(api, "api-1.internal", 8080));
	assert_true(has_note(&api->notes, "server srv.example.com", "SRV"));
	assert_true(has_note(&api->notes, "sticky", "cookies"));
	assert_string_equal(find(&import, "api-2")->vip, "2001:db8:f::10");
	assert_string_equal(find(&import, "api-3")->protocol, "udp"); // quic
	assert_int_equal(find(&import, "api-3")->notes.n, 0);	      // they stand at the first
	assert_true(has_backend(stream_api, "10.5.0.1", 9000));
	assert_false(has_backend(stream_api, "api-1.internal", 8080));
	assert_string_equal(stream_api->idle_timeout, "1h");
	assert_string_equal(find(&import, "ran")->scheduler, "p2c");
	assert_string_equal(tls->scheduler, "source"); // hash $remote_addr consistent
	assert_string_equal(tls->idle_timeout, "90s"); // 1m30s
	assert_true(has_backend(find(&import, "quoted_name"), "10.4.0.2", 80));
	assert_true(has_backend(find(&import, "from_include"), "10.8.0.2", 80));
	find(&import, "10.9.0.1_6000"); // stream.d/*.conf
	assert_non_null(strstr(find(&import, "empty")->unusable, "no backend left"));
	assert_non_null(strstr(find(&import, "localhost_3000")->unusable, "loopback"));
	assert_true(has_note(&import.notes, "listen $port", "variable"));
	assert_true(has_note(&import.notes, "listen 8090-8100", "range"));
	assert_true(has_note(&import.notes, "listen 10.0.0.1:5000-5010", "range"));
	assert_true(has_note(&import.notes, "listen 999999", "cannot be understood"));
	assert_true(has_note(&import.notes, "listen unix:", "Unix socket"));
	assert_true(has_note(&import.notes, "map $host $backend_name", "variables"));
	lb_config_free(config);
	lb_import_fini(&import);
	free(yaml);
}

static char *write_file(const char *text, size_t n_bytes)
{
	char *name = strdup("/tmp/lb-test-import.XXXXXX");
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n_bytes), n_bytes);
	close(fd);
	return name;
}

static void wrong_syntax_names_its_line(void **state)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
		{"a;\nserver 1", ":2: the directive that begins here has no end"},
		{"http {\n a;\n", ":1: the block that begins here has no \"}\""},
		{"a;\n}\n", ":2: unexpected \"}\": no block is open"},
		{"a b }\n", ":1: unexpected \"}\": the directive before it has no \";\""},
		{"\n{ a; }", ":2: expected a directive"},
		{"a 'b;\n", ":1: the quotation that begins here has no end"},
		{"x_by_lua_block {\n '}' -- }\n", ":1: the block that begins here has no \"}\""},
		{"include a b;", ":1: expected one file name"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *name = write_file(cases[i].text, strlen(cases[i].text)), *error = NULL;
		struct lb_nginx nginx = {0};

		assert_int_equal(lb_nginx_read(name, &nginx, &error), -EINVAL);
		assert_memory_equal(error, name, strlen(name));
		if (strncmp(error + strlen(name), cases[i].error, strlen(cases[i].error)) != 0)
			fail_msg("expected \"%s\", found \"%s\"", cases[i].error, error);
		lb_nginx_fini(&nginx);
		unlink(name);
		free(error);
		free(name);
	}
}

static void file_that_includes_itself_is_refused(void **state)
{
	char folder[] = "/tmp/lb-test-import.XXXXXX", name[64], *error = NULL;
	struct lb_nginx nginx = {0};
	FILE *file;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(name, sizeof(name), "%s/a.conf", folder);
	file = fopen(name, "w");
	fputs("include *.conf;\n", file);
	fclose(file);
	assert_int_equal(lb_nginx_read(name, &nginx, &error), -EINVAL);
	assert_non_null(strstr(error, "too deeply"));
	free(error);
	lb_nginx_fini(&nginx);
	unlink(name);
	rmdir(folder);
}

static struct lb_import import_text(const char *text, char **yaml)
{
	struct lb_import import = {.vip4 = "203.0.113.10", .vip6 = "2001:db8:f::10"};
	char *name = write_file(text, strlen(text));

	*yaml = import_file(name, &import);
	unlink(name);
	free(name);
	lb_config_free(load(*yaml));
	return import;
}

static void times_are_taken_with_all_their_units(void **state)
{
	static const struct {
		const char *nginx, *ours; // NULL: left out
	} times[] = {
		{"10", "10s"}, {"90s", "90s"}, {"1500ms", "1500ms"}, {"1m30s", "90s"}, {"'1h 30m'", "90m"}, {"2h", "2h"},
		{"1d", "2h"}, {"10ms", "1s"}, {"0", NULL}, {"1x", NULL}, {"m", NULL}, {"1m30", "90s"},
		{"99999999999", NULL}, {"999999999y999999999y", "2h"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		struct lb_import import;
		char text[200], *yaml;

		snprintf(text, sizeof(text), "stream { server { listen 53; proxy_pass 10.0.0.1:53; proxy_timeout %s; } }",
			times[i].nginx);
		import = import_text(text, &yaml);
		if (times[i].ours != NULL)
			assert_string_equal(import.services[0].idle_timeout, times[i].ours);
		else
			assert_null(import.services[0].idle_timeout);
		lb_import_fini(&import);
		free(yaml);
	}
}

// What lb-control would refuse in a configuration as a whole, found after all of it is known.
static void conflicts_leave_services_out(void **state)
{
	struct lb_import import;
	char *yaml;

	(void)state;
	import = import_text("stream { server { listen 1; proxy_pass 10.0.0.1:5; } server { listen 10.0.0.1:2; proxy_pass "
			     "10.0.0.2:5; } server { listen 3; proxy_pass 10.0.0.2:5; } server { listen 4; proxy_pass "
			     "[2001:DB8:0::1]:5; } server { listen [::]:5; proxy_pass [2001:db8::1]:5; } }",
		&yaml);
	assert_int_equal(import.n_services, 5);
	assert_non_null(strstr(import.services[0].unusable, "10.0.0.1 is a VIP"));
	assert_null(import.services[1].unusable);
	assert_non_null(strstr(import.services[2].unusable, "a backend of service 10.0.0.2_5 above"));
	assert_non_null(strstr(import.services[3].unusable, "family"));
	assert_null(import.services[4].unusable);
	lb_import_fini(&import);
	free(yaml);
}

static void long_host_names_become_backends_with_short_names(void **state)
{
	static const char host[] = "a-very-long-name-of-a-host-that-is-longer-than-a-name-may-be.internal";
	struct lb_import import;
	char text[1000], *yaml;

	(void)state;
	snprintf(text, sizeof(text), "upstream u { server %s:80; server %s:81; server %s:80 weight=2; server UPPER.Internal.:8080; "
		 "server upper.internal:8080; }", host, host, host);
	import = import_text(text, &yaml);
	assert_int_equal(import.services[0].n_backends, 3);
	assert_string_equal(import.services[0].backends[2].address, "upper.internal");
	lb_import_fini(&import);
	free(yaml);
}

static void target_with_a_variable_behind_the_upstream_is_passed_to_it(void **state)
{
	struct lb_import import;
	char *yaml;

	(void)state;
	import = import_text("upstream a { least_time header; server 10.0.0.1; } upstream b { server 10.0.0.2; } server { location / "
			     "{ proxy_pass http://a$request_uri; } } server { listen 81; location / { proxy_pass http://$b; } }",
		&yaml);
	assert_int_equal(import.n_services, 3);
	assert_true(has_backend(&import.services[0], "10.0.0.1", 80));
	assert_string_equal(import.services[0].scheduler, "wlc");
	assert_non_null(strstr(import.services[1].unusable, "no backend left"));
	assert_true(has_note(&import.services[1].notes, "proxy_pass http://$b", "variable"));
	lb_import_fini(&import);
	free(yaml);
}

static void only_another_upstream_by_path_is_noted(void **state)
{
	struct lb_import import;
	char *yaml;

	(void)state;
	import = import_text("upstream a { server 10.0.0.1; } upstream b { server 10.0.0.2; } server { location / { proxy_pass "
			     "http://a; } location /x { proxy_pass http://a/y; } location /z { proxy_pass http://b; } }",
		&yaml);
	assert_true(has_note(&import.services[0].notes, "proxy_pass http://b", "by path is layer 7"));
	assert_false(has_note(&import.services[0].notes, "proxy_pass http://a", ""));
	lb_import_fini(&import);
	free(yaml);
}

// A server cut out of "stream", without that block around it.
static void server_without_location_is_one_of_stream(void **state)
{
	struct lb_import import;
	char *yaml;

	(void)state;
	import = import_text("upstream dns { server 10.0.0.1:53; } server { listen 53 udp; proxy_pass dns; }", &yaml);
	assert_int_equal(import.n_services, 1);
	assert_true(has_backend(&import.services[0], "10.0.0.1", 53));
	assert_string_equal(import.services[0].protocol, "udp");
	lb_import_fini(&import);
	free(yaml);
}

/* Text of a configuration out of random words, most of them fit for where they stand. */
struct text {
	char bytes[16384];
	size_t n;
	uint64_t random;
};

static void add(struct text *text, const char *word)
{
	if (text->n + strlen(word) < sizeof(text->bytes))
		text->n += (size_t)sprintf(text->bytes + text->n, "%s", word);
}

static const char *one_of(struct text *text, const char *const *words, size_t n)
{
	return words[random_below(&text->random, (uint32_t)n)];
}
#define ONE_OF(text, ...)                                                                                                    \
	one_of(text, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static const char *random_host(struct text *text)
{
	return ONE_OF(text, "10.0.0.1", "10.0.0.2", "10.0.0.3", "[2001:db8::1]", "[2001:DB8:0::1]", "[::1]", "127.0.0.1", "0.0.0.0",
		"localhost", "a.LOCALHOST.", "Api.Internal", "api.internal.", "x_y-z.internal", "-bad", "a..b", "1.2.3", "255.255.255.255",
		"224.0.0.1", "[fe80::1]", "[::ffff:10.0.0.1]", "203.0.113.10", "192.0.2.1", "$host", "unix:/x", "*", "", "[", "x]",
		"thishostnameisfiftyeightcharacterslong-0123456789-01234567", "\"10.0.0.4\"", "0x0a.1", "010.0.0.1");
}

static const char *random_port(struct text *text)
{
	return ONE_OF(text, "", ":80", ":80", ":8080", ":53", ":443", ":0", ":65535", ":65536", ":99999999999999999999", ":-1", ":$p",
		":80-90", ":", ":80x");
}

static void add_upstream(struct text *text)
{
	add(text, "upstream ");
	add(text, ONE_OF(text, "a", "b", "c", "\"d e\"", "..", "-x", "Ã©", "$v"));
	add(text, " { ");
	add(text, ONE_OF(text, "", "least_conn;", "ip_hash;", "hash $remote_addr consistent;", "random two least_conn;", "random;",
			  "hash $uri;", "hash;", "zone z 64k; keepalive 32;", "server;"));
	for (unsigned i = random_below(&text->random, 5); i > 0; i--) {
		add(text, " server ");
		add(text, random_host(text));
		add(text, random_port(text));
		add(text, ONE_OF(text, "", "", " weight=5", " weight=0", " weight=4294967295", " weight=x", " backup", " down",
				  " max_fails=3 fail_timeout=1m", " max_fails=999999", " slow_start=30s", " slow_start=1x",
				  " slow_start=100d", " resolve", " service=_x", " max_conns=5"));
		add(text, ";");
	}
	add(text, " }\n");
}

static void add_server(struct text *text, bool is_stream)
{
	add(text, "server { ");
	for (unsigned i = random_below(&text->random, 3); i > 0; i--) {
		add(text, "listen ");
		add(text, ONE_OF(text, "", "", "10.0.0.1:", "10.0.0.9:", "[::]:", "[2001:DB8::53]:", "*:", "unix:", "127.0.0.1:", "x:"));
		add(text, ONE_OF(text, "80", "443", "8080", "53", "0", "65536", "80-90", "$p", ""));
		add(text, ONE_OF(text, "", " ssl http2 reuseport", " udp", " quic", " default_server", " proxy_protocol",
				  " ipv6only=off"));
		add(text, "; ");
	}
	add(text, ONE_OF(text, "", "proxy_timeout 1m30s; ", "proxy_timeout 1y; ", "proxy_timeout x; ", "ssl_preread on; "));
	add(text, is_stream ? "proxy_pass " : "location / { proxy_pass ");
	if (!is_stream)
		add(text, ONE_OF(text, "http://", "https://", "grpc://", ""));
	if (random_below(&text->random, 2) == 0)
		add(text, ONE_OF(text, "a", "b", "c", "\"d e\"", "..", "-x"));
	else
		add(text, random_host(text)), add(text, random_port(text));
	add(text, is_stream ? "; }\n" : ONE_OF(text, "; } }\n", "/path; } }\n"));
}

static void whatever_is_imported_is_accepted(void **state)
{
	struct text *text = calloc(1, sizeof(*text));
	size_t n_services = 0, n_left_out = 0;

	(void)state;
	text->random = 20261126;
	for (unsigned i = 0; i < 2000; i++) {
		bool is_stream = random_below(&text->random, 2) == 0, is_bare = random_below(&text->random, 4) == 0;
		struct lb_import import = {.vip4 = i % 2 ? "203.0.113.10" : NULL, .vip6 = i % 3 ? "2001:db8:f::10" : NULL};
		struct lb_nginx nginx = {0};
		char *name, *yaml, *error = NULL;

		text->n = 0;
		add(text, is_bare ? "" : is_stream ? "stream {\n" : "http {\n");
		for (unsigned k = random_below(&text->random, 4); k > 0; k--)
			add_upstream(text);
		for (unsigned k = random_below(&text->random, 6); k > 0; k--)
			add_server(text, is_stream);
		add(text, is_bare ? "" : "}\n");
		name = write_file(text->bytes, text->n);
		if (lb_nginx_read(name, &nginx, &error) == 0) {
			yaml = import_file(name, &import);
			lb_config_free(load(yaml));
			n_services += import.n_services;
			for (size_t k = 0; k < import.n_services; k++)
				n_left_out += import.services[k].unusable != NULL;
			lb_import_fini(&import);
			free(yaml);
		}
		lb_nginx_fini(&nginx);
		free(error);
		unlink(name);
		free(name);
	}
	// It is not that everything is left out, or nothing.
	assert_in_range(n_left_out, n_services / 10, n_services * 9 / 10);
	free(text);
}

// Whatever is done to a file, it is refused with a reason, or what is made of it is a valid configuration.
static void damaged_files_give_an_error_or_a_config(void **state)
{
	uint64_t random = 20261123;
	FILE *in = fopen(DATA "full.conf", "r");
	char text[8192];
	size_t n = fread(text, 1, sizeof(text) / 2, in), n_configs = 0;

	(void)state;
	fclose(in);
	for (unsigned i = 0; i < 1000; i++) {
		static const char marks[] = "{};\"' #\n:[]\\$";
		char copy[sizeof(text)], *name, *error = NULL, *yaml = NULL;
		struct lb_import import = {0};
		struct lb_nginx nginx = {0};
		size_t n_copy = n;

		memcpy(copy, text, n);
		for (unsigned k = 0; k < 1 + random_below(&random, 3); k++) {
			size_t at = random_below(&random, (uint32_t)n_copy - 1);

			if (random_below(&random, 2) == 0)
				memmove(copy + at, copy + at + 1, --n_copy - at);
			else
				copy[at] = marks[random_below(&random, sizeof(marks) - 1)];
		}
		name = write_file(copy, n_copy);
		if (lb_nginx_read(name, &nginx, &error) < 0) {
			assert_non_null(strstr(error, name));
		} else {
			yaml = import_file(name, &import);
			lb_config_free(load(yaml));
			n_configs++;
		}
		lb_nginx_fini(&nginx);
		lb_import_fini(&import);
		unlink(name);
		free(yaml);
		free(error);
		free(name);
	}
	assert_in_range(n_configs, 100, 999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(upstream_of_four_becomes_a_service),
		cmocka_unit_test(each_directive_becomes_a_setting_or_a_note),
		cmocka_unit_test(two_ports_to_the_same_upstream),
		cmocka_unit_test(wrong_syntax_names_its_line),
		cmocka_unit_test(file_that_includes_itself_is_refused),
		cmocka_unit_test(damaged_files_give_an_error_or_a_config),
		cmocka_unit_test(what_real_files_have_is_understood_or_noted),
		cmocka_unit_test(times_are_taken_with_all_their_units),
		cmocka_unit_test(conflicts_leave_services_out),
		cmocka_unit_test(long_host_names_become_backends_with_short_names),
		cmocka_unit_test(only_another_upstream_by_path_is_noted),
		cmocka_unit_test(server_without_location_is_one_of_stream),
		cmocka_unit_test(target_with_a_variable_behind_the_upstream_is_passed_to_it),
		cmocka_unit_test(whatever_is_imported_is_accepted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
