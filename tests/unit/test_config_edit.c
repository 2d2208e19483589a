/* SPDX-License-Identifier: BSD-3-Clause */
/* Changes of one object, and what lb_config_diff() says about them. */
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

#include "config_util.h"

static const char base[] =
	"hash_secret: 000102030405060708090a0b0c0d0e0f\n"
	"local_addresses: [192.0.2.1]\n"
	"services:\n"
	"  - name: web\n"
	"    vip: 203.0.113.10\n"
	"    port: 80\n"
	"    protocol: tcp\n"
	"    health_check: {type: http, path: /a, host: h, expect_body: ok, port: 81, timeout: 2s}\n"
	"    backends:\n"
	"      - {name: a, address: 10.0.0.1, port: 8080, weight: 5}\n"
	"      - {name: b, address: 10.0.0.2, port: 8080, weight: 3}\n"
	"  - name: dns\n"
	"    vip: 203.0.113.10\n"
	"    port: 53\n"
	"    protocol: udp\n"
	"    backends:\n"
	"      - {name: d, address: 10.0.0.1, port: 53}\n";

struct fixture {
	struct lb_config *config; /* changed by the test */
	struct lb_config *before;
	struct lb_config_error error;
	char diff[2000]; /* "~ service web: port 80 -> 81\n..." */
	size_t n_diffs;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (lb_config_parse("base", base, strlen(base), &f->config, &f->error))
		return -1;
	f->before = lb_config_clone(f->config);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	lb_config_free(f->config);
	lb_config_free(f->before);
	free(f);
	return 0;
}

static json_t *object(const char *text)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);

	if (!json)
		fail_msg("the test's JSON is wrong: %s", text);
	return json;
}

static int service_add(struct fixture *f, const char *text)
{
	json_t *json = object(text);
	int rc = lb_config_service_add(f->config, json, &f->error);

	json_decref(json);
	return rc;
}

static int service_set(struct fixture *f, const char *service, const char *text)
{
	json_t *json = object(text);
	int rc = lb_config_service_set(f->config, service, json, &f->error);

	json_decref(json);
	return rc;
}

static int backend_add(struct fixture *f, const char *service, const char *text)
{
	json_t *json = object(text);
	int rc = lb_config_backend_add(f->config, service, json, &f->error);

	json_decref(json);
	return rc;
}

static int backend_set(struct fixture *f, const char *service, const char *backend,
	const char *text)
{
	json_t *json = object(text);
	int rc = lb_config_backend_set(f->config, service, backend, json, &f->error);

	json_decref(json);
	return rc;
}

static void collect(void *arg, char sign, const char *path, const char *text)
{
	struct fixture *f = arg;
	size_t used = strlen(f->diff);

	snprintf(f->diff + used, sizeof(f->diff) - used, "%c %s: %s\n", sign, path, text);
	f->n_diffs++;
}

/* The difference to `before` is exactly `expected`; then `before` is brought up to date. */
static void assert_changed(struct fixture *f, const char *expected)
{
	size_t n;

	f->diff[0] = '\0';
	f->n_diffs = 0;
	n = lb_config_diff(f->before, f->config, collect, f);
	assert_int_equal(n, f->n_diffs);
	assert_string_equal(f->diff, expected);
	assert_null(config_round_trip(f->config));
	lb_config_free(f->before);
	f->before = lb_config_clone(f->config);
}

static void assert_refused(struct fixture *f, int rc, int expected_rc, const char *where,
	const char *fragment)
{
	assert_int_equal(rc, expected_rc);
	assert_true(config_equal(f->before, f->config));
	assert_string_equal(f->error.where, where);
	assert_int_equal(f->error.line, 0);
	if (!strstr(f->error.message, fragment))
		fail_msg("expected \"%s\" in \"%s\"", fragment, f->error.message);
}

static void backend_keys_change_one_by_one(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(backend_set(f, "web", "a", "{\"weight\": 7}"), 0);
	assert_changed(f, "~ service web backend a: weight 5 -> 7\n");
	assert_int_equal(backend_set(f, "web", "a", "{\"state\": \"drain\"}"), 0);
	assert_changed(f, "~ service web backend a: state enabled -> drain\n");
	assert_int_equal(backend_set(f, "web", "a", "{\"state\": \"disabled\"}"), 0);
	assert_changed(f, "~ service web backend a: state drain -> disabled\n");
	assert_int_equal(backend_set(f, "web", "a", "{\"backup\": true}"), 0);
	assert_changed(f, "~ service web backend a: tier 0 -> 1\n");
	assert_int_equal(backend_set(f, "web", "a", "{\"tier\": 4}"), 0);
	assert_changed(f, "~ service web backend a: tier 1 -> 4\n");
	assert_int_equal(backend_set(f, "web", "a", "{\"backup\": false}"), 0);
	assert_changed(f, "~ service web backend a: tier 4 -> 0\n");
	assert_int_equal(backend_set(f, "web", "a", "{\"address\": \"10.0.0.3\", \"port\": 1}"), 0);
	assert_changed(f, "~ service web backend a: address 10.0.0.1 -> 10.0.0.3\n"
		"~ service web backend a: port 8080 -> 1\n");
	assert_int_equal(backend_set(f, "web", "a", "{\"name\": \"a\"}"), 0);
	assert_int_equal(backend_set(f, "web", "a", "{}"), 0);
	assert_changed(f, "");
}

static void backend_comes_and_goes(void **state)
{
	struct fixture *f = *state;
	const struct lb_config_backend *backend;

	assert_int_equal(backend_add(f, "web", "{\"address\": \"10.0.0.9\"}"), 0);
	backend = lb_config_find_backend(f->config->services[0], "10.0.0.9:80");
	assert_non_null(backend);
	assert_int_equal(backend->endpoint.port_be, htons(80));
	assert_int_equal(backend->weight, 1);
	assert_int_equal(backend->line, 0);
	assert_changed(f, "+ service web backend 10.0.0.9:80: 10.0.0.9:80, weight 1\n");
	assert_int_equal(backend_add(f, "web", "{\"name\": \"c\", \"address\": \"10.0.0.9\", "
		"\"port\": 81, \"weight\": 0, \"backup\": true, \"state\": \"drain\"}"), 0);
	assert_changed(f, "+ service web backend c: 10.0.0.9:81, weight 0, tier 1, drain\n");
	assert_int_equal(lb_config_backend_del(f->config, "web", "a", &f->error), 0);
	assert_changed(f, "- service web backend a: 10.0.0.1:8080, weight 5\n");
	assert_int_equal(lb_config_backend_del(f->config, "web", "b", &f->error), 0);
	assert_int_equal(lb_config_backend_del(f->config, "web", "c", &f->error), 0);
	assert_int_equal(lb_config_backend_del(f->config, "web", "10.0.0.9:80", &f->error), 0);
	assert_int_equal(f->config->services[0]->n_backends, 0);
	assert_changed(f, "- service web backend b: 10.0.0.2:8080, weight 3\n"
		"- service web backend 10.0.0.9:80: 10.0.0.9:80, weight 1\n"
		"- service web backend c: 10.0.0.9:81, weight 0, tier 1, drain\n");
}

static void wrong_backend_changes_nothing(void **state)
{
	struct fixture *f = *state;

	assert_refused(f, backend_set(f, "web", "a", "{\"weight\": 300}"), -EINVAL, "weight",
		"expected a whole number 0..256, found 300");
	assert_refused(f, backend_set(f, "web", "a", "{\"weight\": 5.0}"), -EINVAL, "weight",
		"found 5.0");
	assert_refused(f, backend_set(f, "web", "a", "{\"weight\": null}"), -EINVAL, "weight",
		"found null");
	assert_refused(f, backend_set(f, "web", "a", "{\"weight\": [1]}"), -EINVAL, "weight",
		"found a list");
	assert_refused(f, backend_set(f, "web", "a", "{\"wieght\": 1}"), -EINVAL, "",
		"unknown key \"wieght\", did you mean \"weight\"?");
	assert_refused(f, backend_set(f, "web", "a", "{\"name\": \"z\"}"), -EINVAL, "name",
		"a name cannot be changed");
	assert_refused(f, backend_set(f, "web", "a", "{\"tier\": 1, \"backup\": true}"), -EINVAL, "",
		"\"tier\" and \"backup\" together");
	assert_refused(f, backend_set(f, "web", "a", "[]"), -EINVAL, "", "expected a mapping");
	assert_refused(f, backend_set(f, "web", "a", "null"), -EINVAL, "", "expected a mapping");
	assert_refused(f, backend_set(f, "web", "z", "{\"weight\": 1}"), -ENOENT, "",
		"no backend \"z\" in service web");
	assert_refused(f, backend_set(f, "www", "a", "{\"weight\": 1}"), -ENOENT, "",
		"no service \"www\"");
	assert_refused(f, backend_set(f, "web", "a", "{\"address\": \"2001:db8::1\"}"), -EINVAL,
		"service web backend a address", "expected an IPv4 address like the VIP's");
	assert_refused(f, backend_set(f, "web", "a", "{\"address\": \"203.0.113.10\"}"), -EINVAL,
		"service web backend a address", "is the VIP of service web");
	assert_refused(f, backend_set(f, "web", "a", "{\"port\": \"all\"}"), -EINVAL,
		"service web backend a port", "all only goes with a service of port all");
	assert_refused(f, backend_set(f, "web", "a", "{\"address\": \"10.0.0.2\"}"), -EEXIST,
		"service web backend a address", "endpoint 10.0.0.2:8080/tcp is taken by backend b");
	assert_refused(f, backend_add(f, "web", "{\"port\": 80}"), -EINVAL, "",
		"a backend needs the key \"address\"");
	assert_refused(f, backend_add(f, "web", "{\"name\": \"a\", \"address\": \"10.0.0.7\"}"),
		-EEXIST, "service web backend a name", "the name \"a\" is taken by backend a of service web");
	assert_refused(f, lb_config_backend_del(f->config, "web", "z", &f->error), -ENOENT, "",
		"no backend \"z\"");
	assert_refused(f, lb_config_backend_del(f->config, "www", "a", &f->error), -ENOENT, "",
		"no service \"www\"");
}

/* The same endpoint under another protocol is another endpoint; under another service's it is taken. */
static void endpoint_of_another_service_is_taken(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(backend_add(f, "web", "{\"address\": \"10.0.0.1\", \"port\": 53}"), 0);
	assert_changed(f, "+ service web backend 10.0.0.1:53: 10.0.0.1:53, weight 1\n");
	assert_int_equal(service_add(f, "{\"name\": \"new\", \"vip\": \"203.0.113.9\", \"port\": 1, "
		"\"protocol\": \"udp\"}"), 0);
	assert_changed(f, "+ service new: 203.0.113.9:1/udp, nat, 0 backends\n");
	assert_refused(f, backend_add(f, "new", "{\"address\": \"10.0.0.1\", \"port\": 53}"),
		-EEXIST, "service new backend 10.0.0.1:53 address",
		"overlaps with backend d of service dns: two nat services cannot share an endpoint");
	// The one that is changed is at fault, also where it comes first in the config.
	assert_int_equal(service_set(f, "dns", "{\"port\": \"all\", \"backends\": []}"), 0);
	assert_int_equal(backend_add(f, "new", "{\"address\": \"10.0.0.7\"}"), 0);
	assert_changed(f, "~ service dns: port 53 -> all\n"
		"- service dns backend d: 10.0.0.1:53, weight 1\n"
		"+ service new backend 10.0.0.7:1: 10.0.0.7:1, weight 1\n");
	assert_refused(f, backend_add(f, "dns", "{\"name\": \"any\", \"address\": \"10.0.0.7\"}"),
		-EEXIST, "service dns backend any address",
		"endpoint 10.0.0.7:all/udp overlaps with backend 10.0.0.7:1 of service new");
	assert_int_equal(backend_add(f, "dns", "{\"name\": \"any\", \"address\": \"10.0.0.8\"}"), 0);
	assert_changed(f, "+ service dns backend any: 10.0.0.8:all, weight 1\n");
	assert_refused(f, backend_set(f, "new", "10.0.0.7:1", "{\"address\": \"10.0.0.8\"}"),
		-EEXIST, "service new backend 10.0.0.7:1 address",
		"endpoint 10.0.0.8:1/udp overlaps with backend any of service dns");
}

static void service_keys_change_one_by_one(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(service_set(f, "web", "{\"vip\": \"203.0.113.11\"}"), 0);
	assert_changed(f, "~ service web: vip 203.0.113.10 -> 203.0.113.11\n");
	assert_int_equal(service_set(f, "web", "{\"port\": 8080}"), 0);
	assert_changed(f, "~ service web: port 80 -> 8080\n");
	assert_int_equal(service_set(f, "web", "{\"mss\": 1400}"), 0);
	assert_changed(f, "~ service web: mss auto -> 1400\n");
	assert_int_equal(service_set(f, "web", "{\"mss\": \"none\"}"), 0);
	assert_changed(f, "~ service web: mss 1400 -> none\n");
	assert_int_equal(service_set(f, "web", "{\"mss\": null}"), 0);
	assert_changed(f, "~ service web: mss none -> auto\n");
	assert_int_equal(service_set(f, "web", "{\"mss\": \"88\"}"), 0);
	assert_changed(f, "~ service web: mss auto -> 88\n");
	assert_refused(f, service_set(f, "web", "{\"mss\": 87}"), -EINVAL, "mss",
		"expected a whole number 88..65495, auto or none, found 87");
	assert_int_equal(service_set(f, "web", "{\"mss\": \"auto\"}"), 0);
	assert_changed(f, "~ service web: mss 88 -> auto\n");
	assert_int_equal(service_set(f, "web", "{\"protocol\": \"udp\"}"), 0);
	assert_changed(f, "~ service web: protocol tcp -> udp\n");
	assert_int_equal(service_set(f, "web", "{\"mode\": \"nat\", \"scheduler\": \"maglev\", "
		"\"client_address\": \"none\", \"on_empty\": \"drop\", \"slow_start\": \"0s\"}"), 0);
	assert_changed(f, "");
	assert_int_equal(service_set(f, "web", "{\"table_size\": 251}"), 0);
	assert_changed(f, "~ service web: table_size 65537 -> 251\n");
	assert_int_equal(service_set(f, "web", "{\"tracking\": \"changed\"}"), 0);
	assert_changed(f, "~ service web: tracking all -> changed\n");
	assert_int_equal(service_set(f, "web", "{\"idle_timeout\": \"90s\"}"), 0);
	assert_changed(f, "~ service web: idle_timeout 15m -> 90s\n");
	assert_int_equal(service_set(f, "web", "{\"min_healthy\": 2}"), 0);
	assert_changed(f, "~ service web: min_healthy 1 -> 2\n");
}

static void check_keys_change_one_by_one(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(service_set(f, "web", "{\"health_check\": {\"interval\": \"5s\"}}"), 0);
	assert_changed(f, "~ service web: health_check.interval 2s -> 5s\n");
	assert_int_equal(service_set(f, "web", "{\"health_check\": {\"timeout\": \"250ms\"}}"), 0);
	assert_changed(f, "~ service web: health_check.timeout 2s -> 250ms\n");
	assert_int_equal(service_set(f, "web", "{\"health_check\": {\"path\": \"/b\"}}"), 0);
	assert_changed(f, "~ service web: health_check.path /a -> /b\n");
	assert_int_equal(service_set(f, "web", "{\"health_check\": {\"rise\": 1, \"fall\": 9}}"), 0);
	assert_changed(f, "~ service web: health_check.rise 2 -> 1\n"
		"~ service web: health_check.fall 3 -> 9\n");
	assert_int_equal(service_set(f, "web", "{\"health_check\": {\"expect_status\": 204}}"), 0);
	assert_changed(f, "~ service web: health_check.expect_status 200-399 -> 204-204\n");
	assert_int_equal(service_set(f, "web", "{\"health_check\": {\"expect_body\": \"a\\nb\"}}"), 0);
	assert_changed(f, "~ service web: health_check.expect_body ok -> \"a\\x0ab\"\n");
	// null, or an empty text, is how an optional value goes away.
	assert_int_equal(service_set(f, "web", "{\"health_check\": {\"expect_body\": null, "
		"\"host\": \"\", \"path\": \"\", \"port\": null}}"), 0);
	assert_changed(f, "~ service web: health_check.port 81 -> the backend's\n"
		"~ service web: health_check.path /b -> /\n"
		"~ service web: health_check.host h -> none\n"
		"~ service web: health_check.expect_body \"a\\x0ab\" -> none\n");
}

/* What only the old type knew is gone with it, also when it comes back. */
static void another_check_type_starts_from_its_defaults(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(service_set(f, "web", "{\"health_check\": {\"type\": \"tcp\"}}"), 0);
	assert_changed(f, "~ service web: health_check.type http -> tcp\n"
		"~ service web: health_check.port 81 -> the backend's\n"
		"~ service web: health_check.path /a -> none\n"
		"~ service web: health_check.host h -> none\n"
		"~ service web: health_check.expect_body ok -> none\n"
		"~ service web: health_check.timeout 2s -> 1s\n");
	assert_int_equal(service_set(f, "web",
		"{\"health_check\": {\"type\": \"http\", \"interval\": \"200ms\"}}"), 0);
	assert_changed(f, "~ service web: health_check.type tcp -> http\n"
		"~ service web: health_check.path none -> /\n"
		"~ service web: health_check.interval 2s -> 200ms\n"
		"~ service web: health_check.timeout 1s -> 200ms\n");
}

static void backends_can_be_replaced_as_a_whole(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(service_set(f, "web", "{\"backends\": [{\"name\": \"b\", "
		"\"address\": \"10.0.0.2\", \"port\": 8080, \"weight\": 3}, {\"name\": \"e\", "
		"\"address\": \"10.0.0.5\"}]}"), 0);
	assert_changed(f, "- service web backend a: 10.0.0.1:8080, weight 5\n"
		"+ service web backend e: 10.0.0.5:80, weight 1\n");
	assert_int_equal(service_set(f, "web", "{\"backends\": []}"), 0);
	assert_int_equal(f->config->services[0]->n_backends, 0);
}

static void service_comes_and_goes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(service_add(f, "{\"name\": \"ssh\", \"vip\": \"2001:db8::1\", \"port\": 22, "
		"\"protocol\": \"tcp\", \"backends\": [{\"address\": \"2001:db8:1::1\"}]}"), 0);
	assert_changed(f, "+ service ssh: [2001:db8::1]:22/tcp, nat, 1 backend\n");
	assert_int_equal(lb_config_service_del(f->config, "web", &f->error), 0);
	assert_changed(f, "- service web: 203.0.113.10:80/tcp, nat, 2 backends\n");
	assert_int_equal(lb_config_service_del(f->config, "ssh", &f->error), 0);
	assert_int_equal(lb_config_service_del(f->config, "dns", &f->error), 0);
	assert_int_equal(f->config->n_services, 0);
	assert_changed(f, "- service dns: 203.0.113.10:53/udp, nat, 1 backend\n"
		"- service ssh: [2001:db8::1]:22/tcp, nat, 1 backend\n");
	assert_int_equal(service_add(f, "{\"name\": \"ssh\", \"vip\": \"2001:db8::1\", \"port\": 22, "
		"\"protocol\": \"tcp\"}"), 0);
	assert_int_equal(f->config->n_services, 1);
}

static void wrong_service_changes_nothing(void **state)
{
	struct fixture *f = *state;

	assert_refused(f, service_add(f, "{\"name\": \"x\"}"), -EINVAL, "",
		"a service needs the key \"vip\"");
	assert_refused(f, service_add(f, "{\"name\": \"x\", \"vip\": \"203.0.113.9\", \"port\": 1, "
		"\"protocol\": \"tcp\", \"backends\": [{\"address\": \"10.0.0.9\", \"weight\": -1}]}"),
		-EINVAL, "backends[0].weight", "expected a whole number 0..256, found -1");
	assert_refused(f, service_add(f, "{\"name\": \"web\", \"vip\": \"203.0.113.9\", \"port\": 1, "
		"\"protocol\": \"tcp\"}"), -EEXIST, "service web name", "is taken by service web");
	assert_refused(f, service_add(f, "{\"name\": \"x\", \"vip\": \"203.0.113.10\", \"port\": 80, "
		"\"protocol\": \"tcp\"}"), -EEXIST, "service x vip",
		"203.0.113.10:80/tcp is taken by service web");
	assert_refused(f, service_add(f, "{\"name\": \"x\", \"vip\": \"10.0.0.1\", \"port\": 80, "
		"\"protocol\": \"tcp\"}"), -EINVAL, "service x vip",
		"10.0.0.1 is the address of backend a of service web");
	assert_refused(f, service_add(f, "{\"name\": \"x\", \"vip\": \"192.0.2.1\", \"port\": 80, "
		"\"protocol\": \"tcp\"}"), -EINVAL, "service x vip", "one of local_addresses");
	assert_refused(f, service_set(f, "web", "{\"name\": \"www\"}"), -EINVAL, "name",
		"a name cannot be changed");
	assert_refused(f, service_set(f, "web", "{\"mode\": \"snat\"}"), -EINVAL, "mode",
		"expected nat | fullnat | dsr | ipip | gue");
	assert_refused(f, service_set(f, "web", "{\"vip\": \"2001:db8::5\"}"), -EINVAL,
		"service web backend a address", "expected an IPv6 address like the VIP's");
	assert_refused(f, service_set(f, "web", "{\"port\": \"all\"}"), -EINVAL,
		"service web backend a port", "expected all or no port at all");
	assert_refused(f, service_set(f, "web", "{\"port\": 53, \"protocol\": \"udp\"}"), -EEXIST,
		"service web vip", "203.0.113.10:53/udp is taken by service dns");
	assert_refused(f, service_set(f, "web", "{\"table_size\": 65536}"), -EINVAL, "table_size",
		"the nearest are 65521 and 65537");
	assert_refused(f, service_set(f, "web", "{\"health_check\": {\"interval\": \"1s\"}}"),
		-EINVAL, "health_check.interval", "found timeout 2s and interval 1s");
	assert_refused(f, service_set(f, "dns", "{\"health_check\": {\"rise\": 1}}"), -EINVAL,
		"health_check", "key \"rise\" has no meaning with type none");
	assert_refused(f, service_set(f, "dns", "{\"health_check\": null}"), -EINVAL, "health_check",
		"expected a mapping");
	assert_refused(f, service_set(f, "www", "{}"), -ENOENT, "", "no service \"www\"");
	assert_refused(f, lb_config_service_del(f->config, "www", &f->error), -ENOENT, "",
		"no service \"www\"");
	assert_refused(f, service_set(f, "web", "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":"
		"{\"a\":{\"a\":1}}}}}}}}}"), -EINVAL, "", "nested too deeply");
}

/* lbctl sends what was typed: only the daemon knows which key takes what. */
static void scalars_may_be_strings(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(backend_set(f, "web", "a", "{\"weight\": \"9\", \"port\": \"1\", "
		"\"backup\": \"true\"}"), 0);
	assert_changed(f, "~ service web backend a: port 8080 -> 1\n"
		"~ service web backend a: weight 5 -> 9\n"
		"~ service web backend a: tier 0 -> 1\n");
	assert_int_equal(service_set(f, "web", "{\"health_check\": {\"expect_body\": 200}}"), 0);
	assert_changed(f, "~ service web: health_check.expect_body ok -> \"200\"\n");
	assert_refused(f, backend_set(f, "web", "a", "{\"weight\": \"nine\"}"), -EINVAL, "weight",
		"found nine");
	assert_refused(f, backend_set(f, "web", "a", "{\"weight\": \"\"}"), -EINVAL, "weight",
		"found nothing");
}

static void global_differences_are_told(void **state)
{
	static const char other[] = "hash_secret: 000102030405060708090a0b0c0d0eff\n"
		"local_addresses: [192.0.2.2]\ngateway: {mac: 02:00:00:00:00:01, port: 2}\nservices: none";
	struct fixture *f = *state;

	lb_config_free(f->config);
	assert_int_equal(lb_config_parse("other", other, strlen(other), &f->config, &f->error), 0);
	assert_changed(f, "~ hash_secret: another secret of the flow hash\n"
		"- local_addresses: 192.0.2.1\n"
		"+ local_addresses: 192.0.2.2\n"
		"~ gateway: none -> 02:00:00:00:00:01 port 2\n"
		"- service web: 203.0.113.10:80/tcp, nat, 2 backends\n"
		"- service dns: 203.0.113.10:53/udp, nat, 1 backend\n");
	f->config->has_secret = false;
	memset(f->config->secret, 0, sizeof(f->config->secret));
	f->config->gateway_port = 3;
	assert_changed(f, "- hash_secret: the secret of the flow hash\n"
		"~ gateway: 02:00:00:00:00:01 port 2 -> 02:00:00:00:00:01 port 3\n");
	f->config->announce_table = 4242;
	assert_changed(f, "+ announce: table 4242\n");
	f->config->announce_table = 4243;
	assert_changed(f, "~ announce: table 4242 -> 4243\n");
	f->config->announce_table = 0;
	assert_changed(f, "- announce: table 4243\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(backend_keys_change_one_by_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(backend_comes_and_goes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(wrong_backend_changes_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(endpoint_of_another_service_is_taken, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(service_keys_change_one_by_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(check_keys_change_one_by_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(another_check_type_starts_from_its_defaults, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(backends_can_be_replaced_as_a_whole, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(service_comes_and_goes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(wrong_service_changes_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(scalars_may_be_strings, set_up, tear_down),
		cmocka_unit_test_setup_teardown(global_differences_are_told, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("config_edit", tests, NULL, NULL);
}
