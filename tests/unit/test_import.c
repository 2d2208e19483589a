/* SPDX-License-Identifier: BSD-3-Clause */
/* NGINX configurations of tests/data/nginx, whole and damaged; what is made of them is loaded as a config. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

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
	const struct lb_config_service *service = &config->services[0];

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
	assert_non_null(strstr(yaml, "# Left out: its backends' endpoints"));
	assert_non_null(strstr(yaml, "# Left out: mode nat needs backends of the VIP's family"));
	for (size_t i = 0; i < config->n_services; i++)
		assert_null(find(&import, config->services[i].name)->unusable);
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
		cmocka_unit_test(wrong_syntax_names_its_line),
		cmocka_unit_test(file_that_includes_itself_is_refused),
		cmocka_unit_test(damaged_files_give_an_error_or_a_config),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
