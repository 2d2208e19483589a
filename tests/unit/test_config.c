/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each file of tests/data/config/wrong is a case: its first line says on which line the reason has to
 * point, and a part of the reason. Those of tests/data/config/right have their values checked here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_util.h"

#define WRONG LB_TEST_DATA "/config/wrong/"
#define RIGHT LB_TEST_DATA "/config/right/"

static void wrong_config_is_refused(void **state)
{
	struct lb_config *config = (struct lb_config *)(uintptr_t)1;
	char file[400], head[400], where[420];
	struct lb_config_error error;
	const char *fragment;
	unsigned line;
	FILE *in;

	snprintf(file, sizeof(file), WRONG "%s", (const char *)*state);
	in = fopen(file, "r");
	assert_non_null(in);
	assert_non_null(fgets(head, sizeof(head), in));
	fclose(in);
	assert_int_equal(sscanf(head, "# line %u: ", &line), 1);
	fragment = strstr(head, ": ") + 2;
	head[strcspn(head, "\n")] = '\0';
	assert_true(strlen(fragment) > 3);

	assert_int_equal(lb_config_load(file, &config, &error), -EINVAL);
	assert_ptr_equal(config, (void *)1);
	snprintf(where, sizeof(where), "%s:%u", file, line);
	assert_int_equal(error.line, line);
	assert_string_equal(error.where, where);
	if (!strstr(error.message, fragment))
		fail_msg("expected \"%s\" in \"%s\"", fragment, error.message);
}

static struct lb_config *load(const char *name)
{
	struct lb_config *config = NULL;
	struct lb_config_error error;
	char file[400];
	const char *problem;

	snprintf(file, sizeof(file), RIGHT "%s", name);
	if (lb_config_load(file, &config, &error))
		fail_msg("%s: %s", error.where, error.message);
	problem = config_round_trip(config);
	if (problem)
		fail_msg("%s: %s", name, problem);
	return config;
}

static int parse(const char *text, size_t len, struct lb_config_error *error)
{
	struct lb_config *config;
	int rc = lb_config_parse("t", text, len, &config, error);

	if (!rc)
		lb_config_free(config);
	return rc;
}

static void assert_addr(const struct lb_addr *addr, const char *text)
{
	char buf[LB_ADDR_STRLEN];

	assert_string_equal(lb_addr_format(addr, buf), text);
}

static void every_key_is_read(void **state)
{
	struct lb_config *config = load("interface.yaml");
	const struct lb_config_service *web = lb_config_find_service(config, "web");
	const struct lb_config_backend *b = web->backends;

	(void)state;
	assert_true(config->has_secret);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(config->secret[i], i);
	assert_int_equal(config->n_local_addresses, 2);
	assert_addr(&config->local_addresses[0], "192.0.2.10");
	assert_addr(&config->local_addresses[1], "2001:db8::10");
	assert_true(config->has_gateway);
	assert_memory_equal(config->gateway_mac, "\x02\0\0\0\0\x01", 6);
	assert_int_equal(config->gateway_port, 3);
	assert_int_equal(config->port_vlans[0], LB_VLAN_NONE);
	assert_int_equal(config->port_vlans[1], LB_VLAN_KEEP);
	assert_int_equal(config->port_vlans[3], 7);
	assert_int_equal(config->n_interfaces, 2);
	assert_string_equal(config->interfaces[0].name, "eth0.8"); // sorted
	assert_int_equal(config->interfaces[0].port, 3);
	assert_int_equal(config->interfaces[0].vlan, LB_VLAN_NONE);
	assert_string_equal(config->interfaces[1].name, "eth0.9");
	assert_int_equal(config->interfaces[1].vlan, 9);
	assert_int_equal(config->n_services, 1);
	assert_addr(&web->key.addr, "203.0.113.10");
	assert_int_equal(web->key.port_be, htons(443));
	assert_int_equal(web->key.proto, IPPROTO_TCP);
	assert_int_equal(web->mode, LB_MODE_NAT);
	assert_int_equal(web->scheduler, LB_SCHED_MAGLEV);
	assert_int_equal(web->table_size, 4099);
	assert_int_equal(web->tracking, LB_TRACKING_CHANGED);
	assert_int_equal(web->client_address, LB_CLIENT_ADDRESS_NONE);
	assert_int_equal(web->mss, 1380);
	assert_int_equal(web->idle_timeout_ms, 20 * 60 * 1000);
	assert_int_equal(web->on_empty, LB_ON_EMPTY_DROP);
	assert_int_equal(web->min_healthy, 2);
	assert_int_equal(web->slow_start_ms, 0);
	assert_int_equal(web->line, 7);
	assert_int_equal(web->check.type, LB_CHECK_HTTP);
	assert_int_equal(web->check.port, 8081);
	assert_string_equal(web->check.path, "/healthz?full=1");
	assert_string_equal(web->check.host, "api.example.com:8443");
	assert_string_equal(web->check.expect_body, "it's \"ok\": yes");
	assert_int_equal(web->check.expect_status_min, 200);
	assert_int_equal(web->check.expect_status_max, 299);
	assert_int_equal(web->check.interval_ms, 5000);
	assert_int_equal(web->check.timeout_ms, 250);
	assert_int_equal(web->check.rise, 1);
	assert_int_equal(web->check.fall, 100);
	assert_int_equal(web->n_backends, 5);
	assert_string_equal(b[0].name, "api-1");
	assert_string_equal(b[0].address, "10.0.0.11");
	assert_addr(&b[0].endpoint.addr, "10.0.0.11");
	assert_int_equal(b[0].endpoint.port_be, htons(8080));
	assert_int_equal(b[0].weight, 256);
	assert_int_equal(b[0].tier, 0);
	assert_int_equal(b[0].admin, LB_ADMIN_ENABLED);
	assert_int_equal(b[0].line, 33);
	assert_int_equal(b[1].weight, 0);
	assert_int_equal(b[1].admin, LB_ADMIN_DRAIN);
	assert_int_equal(b[2].tier, 7);
	assert_int_equal(b[2].admin, LB_ADMIN_DISABLED);
	assert_int_equal(b[3].tier, 1);
	assert_int_equal(b[4].tier, 0);
	assert_ptr_equal(lb_config_find_backend(web, "api-5"), &b[4]);
	assert_null(lb_config_find_backend(web, "api-6"));
	assert_null(lb_config_find_service(config, "web2"));
	lb_config_free(config);
}

static void defaults_are_filled_in(void **state)
{
	struct lb_config *config = load("defaults.yaml");
	struct lb_config_service *const *s = config->services;

	(void)state;
	assert_false(config->has_secret);
	assert_false(config->has_gateway);
	assert_int_equal(config->n_services, 5);
	assert_int_equal(s[0]->mode, LB_MODE_NAT);
	assert_int_equal(s[0]->scheduler, LB_SCHED_MAGLEV);
	assert_int_equal(s[0]->table_size, 65537);
	assert_int_equal(s[0]->tracking, LB_TRACKING_ALL);
	assert_int_equal(s[0]->client_address, LB_CLIENT_ADDRESS_NONE);
	assert_int_equal(s[0]->mss, LB_MSS_AUTO);
	assert_int_equal(s[0]->idle_timeout_ms, 15 * 60 * 1000);
	assert_int_equal(s[0]->on_empty, LB_ON_EMPTY_DROP);
	assert_int_equal(s[0]->min_healthy, 1);
	assert_int_equal(s[0]->check.type, LB_CHECK_TCP);
	assert_int_equal(s[0]->check.port, 0);
	assert_int_equal(s[0]->check.interval_ms, 2000);
	assert_int_equal(s[0]->check.timeout_ms, 1000);
	assert_int_equal(s[0]->check.rise, 2);
	assert_int_equal(s[0]->check.fall, 3);
	assert_string_equal(s[0]->backends[0].name, "10.0.0.1:80");
	assert_int_equal(s[0]->backends[0].endpoint.port_be, htons(80));
	assert_int_equal(s[0]->backends[0].weight, 1);
	assert_string_equal(s[0]->backends[1].name, "10.0.0.1:8080");
	// The default timeout gives way to a short interval.
	assert_int_equal(s[1]->check.interval_ms, 500);
	assert_int_equal(s[1]->check.timeout_ms, 500);
	assert_string_equal(s[1]->backends[0].name, "[2001:db8::1]:80");
	assert_string_equal(s[1]->backends[0].address, "2001:DB8::1");
	assert_int_equal(s[2]->key.proto, IPPROTO_UDP);
	assert_int_equal(s[2]->check.type, LB_CHECK_NONE);
	assert_int_equal(s[2]->idle_timeout_ms, 30 * 1000);
	assert_int_equal(s[2]->n_backends, 0);
	assert_int_equal(s[3]->key.port_be, 0);
	assert_string_equal(s[3]->backends[0].name, "10.0.0.1:all");
	assert_int_equal(s[3]->backends[1].endpoint.port_be, 0);
	assert_int_equal(s[4]->check.type, LB_CHECK_TCP);
	assert_int_equal(s[4]->check.port, 22);
	lb_config_free(config);
}

static void json_is_accepted(void **state)
{
	struct lb_config *config = load("minimal.json");
	const struct lb_config_service *web = config->services[0];

	(void)state;
	assert_int_equal(config->secret[0], 0xff);
	assert_int_equal(config->gateway_port, 0);
	assert_string_equal(web->check.path, "/");
	assert_string_equal(web->check.expect_body, "\xc3\xbc/\n");
	assert_int_equal(web->check.expect_status_min, 204);
	assert_int_equal(web->check.expect_status_max, 204);
	assert_int_equal(web->backends[0].weight, 3);
	assert_int_equal(web->backends[0].tier, 1);
	lb_config_free(config);
}

static void no_services_can_be_meant(void **state)
{
	struct lb_config *config = load("none.yaml");
	char *yaml = lb_config_to_yaml(config);

	(void)state;
	assert_int_equal(config->n_services, 0);
	assert_string_equal(yaml, "services: none\n");
	free(yaml);
	lb_config_free(config);
}

static void yaml_is_written_as_documented(void **state)
{
	struct lb_config *config = load("interface.yaml");
	char *yaml = lb_config_to_yaml(config);

	(void)state;
	assert_string_equal(yaml,
		"hash_secret: 000102030405060708090a0b0c0d0e0f\n"
		"local_addresses: [192.0.2.10, \"2001:db8::10\"]\n"
		"gateway: {mac: \"02:00:00:00:00:01\", port: 3}\n"
		"ports: [{port: 0, vlan: none}, {port: 3, vlan: 7, interfaces: [{name: eth0.8, vlan: none}, "
		"{name: eth0.9, vlan: 9}]}]\n"
		"services:\n"
		"  - name: web\n"
		"    vip: 203.0.113.10\n"
		"    port: 443\n"
		"    protocol: tcp\n"
		"    mode: nat\n"
		"    table_size: 4099\n"
		"    tracking: changed\n"
		"    mss: 1380\n"
		"    idle_timeout: 20m\n"
		"    min_healthy: 2\n"
		"    health_check:\n"
		"      type: http\n"
		"      port: 8081\n"
		"      path: \"/healthz?full=1\"\n"
		"      host: \"api.example.com:8443\"\n"
		"      expect_status: 200-299\n"
		"      expect_body: \"it's \\\"ok\\\": yes\"\n"
		"      interval: 5s\n"
		"      timeout: 250ms\n"
		"      rise: 1\n"
		"      fall: 100\n"
		"    backends:\n"
		"      - {name: api-1, address: 10.0.0.11, port: 8080, weight: 256}\n"
		"      - {name: api-2, address: 10.0.0.12, port: 8080, weight: 0, state: drain}\n"
		"      - {name: api-3, address: 10.0.0.13, port: 8080, weight: 1, tier: 7, state: disabled}\n"
		"      - {name: api-4, address: 10.0.0.14, port: 8080, weight: 1, tier: 1}\n"
		"      - {name: api-5, address: 10.0.0.15, port: 8080, weight: 1}\n");
	free(yaml);
	lb_config_free(config);
}

/* What the page shows as YAML is a config, whole. */
static void examples_of_the_documentation_parse(void **state)
{
	char *text = malloc(1u << 20), *at, *end;
	FILE *in = fopen(LB_TEST_DATA "/../../docs/config.md", "r");
	struct lb_config_error error;
	unsigned n = 0;

	(void)state;
	assert_non_null(in);
	text[fread(text, 1, (1u << 20) - 1, in)] = '\0';
	fclose(in);
	for (at = text; (at = strstr(at, "```yaml\n")); at = end) {
		at += strlen("```yaml\n");
		end = strstr(at, "```");
		assert_non_null(end);
		if (parse(at, (size_t)(end - at), &error))
			fail_msg("example %u: %s: %s", n, error.where, error.message);
		end += 3;
		n++;
	}
	assert_true(n >= 3);
	free(text);
}

static void clone_is_equal_and_independent(void **state)
{
	struct lb_config *config = load("interface.yaml");
	struct lb_config *clone = lb_config_clone(config);

	(void)state;
	assert_true(config_equal(config, clone));
	assert_ptr_equal(clone->services[0], config->services[0]); // a change costs what it changes
	assert_ptr_not_equal(clone->services, config->services);
	assert_ptr_not_equal(clone->local_addresses, config->local_addresses);
	lb_config_free(config);
	assert_string_equal(clone->services[0]->backends[4].name, "api-5");
	lb_config_free(clone);
	lb_config_free(NULL);
}

static void unreadable_file_is_refused(void **state)
{
	struct lb_config_error error;
	struct lb_config *config;

	(void)state;
	assert_int_equal(lb_config_load("/nonexistent/fulcrum.yaml", &config, &error), -ENOENT);
	assert_string_equal(error.where, "/nonexistent/fulcrum.yaml");
	assert_string_equal(error.message, "cannot be opened: No such file or directory");
	assert_int_equal(lb_config_load("/", &config, &error), -EISDIR);
	assert_string_equal(error.message, "cannot be read: Is a directory");
}

static void file_from_a_pipe_is_read_whole(void **state)
{
	char text[] = "services: none\n", file[40];
	struct lb_config_error error;
	struct lb_config *config;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], text, sizeof(text) - 1), sizeof(text) - 1);
	close(fds[1]);
	snprintf(file, sizeof(file), "/dev/fd/%d", fds[0]);
	assert_int_equal(lb_config_load(file, &config, &error), 0);
	lb_config_free(config);
	close(fds[0]);
}

static void texts_that_no_file_here_can_hold(void **state)
{
	static const char utf16[] = "\xff\xfes\0e\0r\0v\0";
	struct lb_config_error error;
	char *large;

	(void)state;
	assert_int_equal(parse("", 0, &error), -EINVAL);
	assert_string_equal(error.where, "t:1");
	assert_string_equal(error.message, "the text is empty");
	assert_int_equal(parse("\xef\xbb\xbf", 3, &error), -EINVAL);
	assert_int_equal(parse(utf16, sizeof(utf16) - 1, &error), -EINVAL);
	assert_int_equal(error.line, 1);
	assert_int_equal(parse("\n\n\xff", 3, &error), -EINVAL);
	assert_string_equal(error.where, "t:3");
	large = calloc(1, LB_CONFIG_MAX_BYTES + 1);
	assert_int_equal(parse(large, LB_CONFIG_MAX_BYTES + 1, &error), -EINVAL);
	assert_non_null(strstr(error.message, "expected at most 67108864 bytes"));
	free(large);
}

/* A JSON text that was cut off anywhere is refused, and on a line that it has. */
static void every_cut_off_json_is_refused(void **state)
{
	struct lb_config *config = load("interface.yaml");
	json_t *json = lb_config_to_json(config);
	char *text = json_dumps(json, JSON_INDENT(1));
	struct lb_config_error error;
	unsigned n_lines = 1;

	(void)state;
	for (size_t len = 0; text[len]; len++) {
		assert_int_equal(parse(text, len, &error), -EINVAL);
		assert_in_range(error.line, 1, n_lines);
		n_lines += text[len] == '\n';
	}
	assert_int_equal(parse(text, strlen(text), &error), 0);
	free(text);
	json_decref(json);
	lb_config_free(config);
}

/* Beyond the number of nodes that any config could need, reading stops. */
static void endless_lists_are_refused(void **state)
{
	size_t len = 4u << 20;
	char *text = malloc(len + 1);
	struct lb_config_error error;

	(void)state;
	for (size_t i = 0; i < len; i += 2)
		memcpy(text + i, i ? "1," : "[ ", 2);
	assert_int_equal(parse(text, len, &error), -EINVAL);
	assert_string_equal(error.message, "too many values");
	free(text);
}

static void too_many_services_are_refused(void **state)
{
	size_t size = 1u << 20, used;
	char *text = malloc(size);
	struct lb_config_error error;

	(void)state;
	used = (size_t)snprintf(text, size, "services:\n");
	for (unsigned i = 0; i <= LB_MAX_SERVICES; i++) {
		if (i == LB_MAX_SERVICES)
			assert_int_equal(parse(text, used, &error), 0);
		used += (size_t)snprintf(text + used, size - used,
			"- {name: s%u, vip: 10.0.%u.%u, port: 80, protocol: tcp}\n", i, i >> 8, i & 255);
	}
	assert_int_equal(parse(text, used, &error), -EINVAL);
	assert_string_equal(error.message,
		"services: expected at most 4096 services, found 4097");
	free(text);
}

/* Two services with `n` backends together. */
static char *many_backends(unsigned n)
{
	size_t size = 80 * (size_t)n + 1000, used = 0;
	char *text = malloc(size);

	for (unsigned i = 0; i < n; i++) {
		if (i == 0 || i == n / 2)
			used += (size_t)snprintf(text + used, size - used,
				"%s- name: s%u\n  vip: 192.0.2.1\n  port: %u\n  protocol: udp\n  backends:\n",
				i ? "" : "services:\n", i, i + 1);
		used += (size_t)snprintf(text + used, size - used, "  - {address: 10.%u.%u.%u}\n",
			i >> 16, i >> 8 & 255, i & 255);
	}
	return text;
}

static void too_many_backends_are_refused(void **state)
{
	char *most = many_backends(LB_MAX_BACKENDS), *more = many_backends(LB_MAX_BACKENDS + 1);
	struct lb_config_error error;

	(void)state;
	assert_int_equal(parse(most, strlen(most), &error), 0);
	assert_int_equal(parse(more, strlen(more), &error), -EINVAL);
	assert_string_equal(error.message, "services[1].backends: expected at most 65535 backends in "
		"all services together, found more");
	free(most);
	free(more);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct CMUnitTest *)a)->name, ((const struct CMUnitTest *)b)->name);
}

/* One test for each file of a directory, named after it. */
static struct CMUnitTest *wrong_tests(size_t *n)
{
	struct CMUnitTest *tests = NULL;
	struct dirent *entry;
	DIR *dir = opendir(WRONG);

	*n = 0;
	while (dir && (entry = readdir(dir))) {
		char *name;

		if (entry->d_name[0] == '.')
			continue;
		name = strdup(entry->d_name);
		tests = reallocarray(tests, *n + 1, sizeof(*tests));
		tests[(*n)++] = (struct CMUnitTest){.name = name,
			.test_func = wrong_config_is_refused, .initial_state = name};
	}
	if (dir)
		closedir(dir);
	if (tests)
		qsort(tests, *n, sizeof(*tests), by_name);
	return tests;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key_is_read),
		cmocka_unit_test(defaults_are_filled_in),
		cmocka_unit_test(json_is_accepted),
		cmocka_unit_test(no_services_can_be_meant),
		cmocka_unit_test(yaml_is_written_as_documented),
		cmocka_unit_test(examples_of_the_documentation_parse),
		cmocka_unit_test(clone_is_equal_and_independent),
		cmocka_unit_test(unreadable_file_is_refused),
		cmocka_unit_test(file_from_a_pipe_is_read_whole),
		cmocka_unit_test(texts_that_no_file_here_can_hold),
		cmocka_unit_test(every_cut_off_json_is_refused),
		cmocka_unit_test(endless_lists_are_refused),
		cmocka_unit_test(too_many_services_are_refused),
		cmocka_unit_test(too_many_backends_are_refused),
	};
	size_t n_wrong;
	struct CMUnitTest *wrong = wrong_tests(&n_wrong);
	int failed = cmocka_run_group_tests_name("config", tests, NULL, NULL);

	// Without its data this program would pass by testing nothing.
	if (n_wrong < 60) {
		fprintf(stderr, "only %zu wrong configs in %s\n", n_wrong, WRONG);
		failed++;
	} else {
		failed += _cmocka_run_group_tests("config_wrong", wrong, n_wrong, NULL, NULL);
	}
	for (size_t i = 0; i < n_wrong; i++)
		free(wrong[i].initial_state);
	free(wrong);
	return failed;
}
