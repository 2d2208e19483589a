# SPDX-License-Identifier: BSD-3-Clause
"""The API of lb-control as docs/api.md has it: documents, changes, errors, events. No network is needed."""
import copy
import json
import threading
import time
import urllib.parse

import pytest

import lbctl_server as documented
from api_daemon import BASIC, Connection, Daemon, check_shape

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def shared():
    """A daemon without a data plane; tests leave its config as it was."""
    with Daemon() as daemon:
        yield daemon.start()


@pytest.fixture
def daemon():
    with Daemon() as daemon:
        yield daemon.start()


@pytest.fixture(scope="module")
def live():
    """A daemon with a data plane."""
    with Daemon() as daemon:
        daemon.start().start_dataplane()
        yield daemon


DOCUMENTS = [
    ("/v1/version", documented.VERSION), ("/v1/status", documented.STATUS), ("/v1/services", documented.SERVICES),
    ("/v1/backends", documented.LISTED), ("/v1/backends?service=web", documented.LISTED),
    ("/v1/stats", documented.STATS), ("/v1/drops", documented.DROPS), ("/v1/events", documented.EVENTS),
]


@pytest.mark.parametrize("path,example", DOCUMENTS, ids=[d[0] for d in DOCUMENTS])
def test_documents_have_the_documented_keys(shared, path, example):
    check_shape(shared.get(path), example)


@pytest.mark.parametrize("path,example", DOCUMENTS + [("/v1/flows", documented.FLOWS)],
                         ids=[d[0] for d in DOCUMENTS] + ["/v1/flows"])
def test_documents_have_the_documented_keys_with_a_data_plane(live, path, example):
    document = live.get(path)
    check_shape(document, example)
    assert document.get("dataplane", "up") in ("up",) or document["dataplane"]["state"] == "up"


def test_one_service(shared):
    document = shared.get("/v1/services/web")
    assert set(document) == set(documented.SHOWN)
    check_shape(document["service"], documented.SERVICE)
    check_shape(document["backends"], documented.BACKENDS)
    assert document["config"]["name"] == "web" and len(document["config"]["backends"]) == 4
    assert [b["name"] for b in document["backends"]] == ["api-1", "api-2", "10.0.0.13:8080", "spare"]
    assert document["service"]["state"] == "ok" and document["service"]["active_tier"] == 0
    assert [round(b["share"], 2) for b in document["backends"]] == [0.5, 0.3, 0.2, 0.0]
    assert sum(b["slots"] for b in document["backends"]) == document["service"]["table"]["n_slots"] == 1009


def test_a_down_data_plane_is_told(shared):
    dataplane = shared.get("/v1/status")["dataplane"]
    assert dataplane["state"] == "down" and "no shared-memory region" in dataplane["reason"]
    assert dataplane["pid"] is None and dataplane["boot_id"] is None and dataplane["workers"] == []
    assert shared.get("/v1/stats")["boot_id"] is None
    for method, path, body in [("GET", "/v1/flows", None), ("POST", "/v1/flows/flush", {"service": "web"}),
                               ("GET", "/v1/trace?src=198.51.100.7:4000&dst=203.0.113.10:443", None)]:
        assert "down" in shared.refused(method, path, 503, "dataplane_down", body)["message"]


# Changes


def test_a_change_is_listed_live_and_durable(daemon):
    answer = daemon.call("PATCH", "/v1/services/web/backends/api-1", {"weight": 7})
    check_shape(answer, documented.CHANGE)
    assert answer["changes"] == [{"sign": "~", "path": "service web backend api-1", "text": "weight 5 -> 7"}]
    assert answer["dataplane"] == "down" and answer["live"] is False
    ids = {b["name"]: b["id"] for b in daemon.get("/v1/backends")["backends"]}
    daemon.stop(9)
    daemon.start()
    assert daemon.backend("web", "api-1")["weight"] == 7
    assert daemon.get("/v1/status")["control"]["resumed_changes"] == 1
    assert {b["name"]: b["id"] for b in daemon.get("/v1/backends")["backends"]} == ids


def test_the_file_wins_when_it_has_changed(daemon):
    daemon.call("PATCH", "/v1/services/web/backends/api-1", {"weight": 7})
    daemon.stop()
    daemon.write({**BASIC, "services": BASIC["services"][:1]})
    daemon.start()
    assert daemon.backend("web", "api-1")["weight"] == 5
    assert [s["name"] for s in daemon.get("/v1/services")["services"]] == ["web"]
    assert daemon.get("/v1/status")["control"]["resumed_changes"] == 0
    assert "dropped: ~ service web backend api-1: weight 5 -> 7" in daemon.log.read_text()


def test_changes_on_top_of_an_applied_file_outlive_a_restart(daemon):
    """Edit the file given to --config, apply it, change something: as people do."""
    edited = {**BASIC, "services": BASIC["services"][:1]}
    daemon.write(edited)
    daemon.call("PUT", "/v1/config", daemon.config_file.read_text())
    daemon.call("PATCH", "/v1/services/web/backends/api-1", {"weight": 7})
    daemon.stop(9)
    daemon.start()
    assert daemon.backend("web", "api-1")["weight"] == 7
    assert daemon.get("/v1/status")["control"]["resumed_changes"] == 1
    # another file applied is a change on top of --config's, and goes when that is edited
    daemon.call("PUT", "/v1/config", json.dumps(BASIC))
    daemon.write({**edited, "local_addresses": ["192.0.2.1"]})
    daemon.stop(9)
    daemon.start()
    assert daemon.backend("web", "api-1")["weight"] == 5
    assert [s["name"] for s in daemon.get("/v1/services")["services"]] == ["web"]


@pytest.mark.parametrize("extra, where", [
    ({"gateway": {"mac": "02:00:00:00:00:01", "port": 7}}, "gateway.port"),
    ({"ports": [{"port": 7, "vlan": 5}]}, "ports"),
    ({"ports": [{"port": 9, "interfaces": [{"name": "eth9", "vlan": 9}]}]}, "ports")])
def test_ports_that_are_not_there_are_refused(daemon, extra, where):
    daemon.start_dataplane()
    before = daemon.get("/v1/config")
    for path in ("/v1/config?dry_run=1", "/v1/config"):
        error = daemon.refused("PUT", path, 400, "invalid", {**BASIC, **extra})
        assert error["where"] == where and "only 0..0" in error["message"]
    assert daemon.get("/v1/config") == before


def test_a_touched_file_with_the_same_content_does_not_count_as_changed(daemon):
    daemon.call("DELETE", "/v1/services/dns")
    daemon.stop()
    daemon.config_file.write_text(daemon.config_file.read_text())
    daemon.start()
    assert [s["name"] for s in daemon.get("/v1/services")["services"]] == ["web"]


def test_sighup_loads_the_file_and_a_bad_one_changes_nothing(daemon):
    config = copy.deepcopy(BASIC)
    config["services"][0]["backends"][0]["weight"] = 9
    daemon.write(config)
    daemon.control.send_signal(1)
    wait(daemon, lambda: daemon.backend("web", "api-1")["weight"] == 9)
    assert "no change" not in daemon.log.read_text()
    daemon.control.send_signal(1)
    wait(daemon, lambda: f"reload: {daemon.config_file} says what is in force: no change" in daemon.log.read_text())
    config["services"][0]["backends"][0]["weight"] = 900
    daemon.write(config)
    daemon.control.send_signal(1)
    wait(daemon, lambda: [e for e in daemon.get("/v1/events")["events"] if e["kind"] == "config_refused"])
    event = daemon.get("/v1/events")["events"][-1]
    assert str(daemon.config_file) in event["cause"] and "weight" in event["cause"]
    assert daemon.backend("web", "api-1")["weight"] == 9
    # the reloaded content is now the file that running changes are on top of
    config["services"][0]["backends"][0]["weight"] = 9
    daemon.write(config)
    daemon.call("PATCH", "/v1/services/web/backends/api-1", {"weight": 10})
    daemon.stop()
    daemon.start()
    assert daemon.backend("web", "api-1")["weight"] == 10


def wait(daemon, condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, daemon.log.read_text()
        time.sleep(0.02)


def test_services_and_backends_come_and_go(daemon):
    new = {"name": "new", "vip": "203.0.113.99", "port": 80, "protocol": "tcp", "mode": "nat",
           "health_check": {"type": "none"}, "backends": [{"name": "n", "address": "10.9.0.1", "port": 80}]}
    assert daemon.call("POST", "/v1/services", new, 201)["n_changes"] >= 1
    assert daemon.get("/v1/services/new")["service"]["state"] == "ok"
    assert daemon.call("POST", "/v1/services/new/backends", {"address": "10.9.0.2", "port": "81"}, 201)["n_changes"] == 1
    name = urllib.parse.quote("10.9.0.2:81", safe="")
    assert daemon.backend("new", "10.9.0.2:81")["weight"] == 1
    daemon.call("PATCH", f"/v1/services/new/backends/{name}", {"weight": "200", "state": "drain"})
    backend = daemon.backend("new", "10.9.0.2:81")
    assert (backend["weight"], backend["state"], backend["effective"], backend["slots"]) == (200, "drain", "drain", 0)
    daemon.call("PATCH", f"/v1/services/new/backends/{name}", {"state": "disabled"})
    assert daemon.backend("new", "10.9.0.2:81")["effective"] == "down"
    daemon.call("PATCH", f"/v1/services/new/backends/{name}", {"state": "enabled"})
    assert daemon.backend("new", "10.9.0.2:81")["effective"] == "up"
    daemon.call("DELETE", f"/v1/services/new/backends/{name}")
    daemon.call("PATCH", "/v1/services/new", {"min_healthy": 2, "idle_timeout": "1m"})
    config = daemon.get("/v1/services/new")["config"]
    assert (config["min_healthy"], config["idle_timeout"]) == (2, "1m")
    daemon.call("DELETE", "/v1/services/new")
    daemon.refused("GET", "/v1/services/new", 404, "not_found")
    # an IPv6 name, percent-encoded
    daemon.call("PATCH", "/v1/services/dns/backends/%5B2001:db8::1%5D:0", {"weight": 4})
    assert daemon.get("/v1/backends?service=dns")["backends"][0]["weight"] == 4


def test_a_config_survives_the_round_trip_in_both_formats(daemon):
    for headers, query in [({}, ""), ({"Accept": "application/yaml"}, ""), ({}, "?format=yaml"), ({}, "?format=json")]:
        status, answer, text = daemon.request("GET", f"/v1/config{query}", headers=headers)
        is_yaml = bool(headers) or query == "?format=yaml"
        assert status == 200
        assert answer["Content-Type"] == ("application/yaml" if is_yaml else "application/json")
        assert daemon.call("PUT", "/v1/config", text)["n_changes"] == 0


def test_a_dry_run_and_a_diff_change_nothing(daemon):
    config = copy.deepcopy(BASIC)
    config["services"][0]["backends"][0]["weight"] = 6
    del config["services"][1]
    answers = [daemon.call("PUT", "/v1/config?dry_run=1", config), daemon.call("POST", "/v1/diff", config)]
    assert answers[0] == answers[1]
    check_shape(answers[0], documented.DRY_RUN)
    assert {(c["sign"], c["path"]) for c in answers[0]["changes"]} >= {
        ("~", "service web backend api-1"), ("-", "service dns")}
    assert answers[0]["dry_run"] is True
    assert daemon.backend("web", "api-1")["weight"] == 5 and daemon.get("/v1/services/dns")
    applied = daemon.call("PUT", "/v1/config", config)
    assert applied["changes"] == answers[0]["changes"] and applied["dry_run"] is False
    assert daemon.backend("web", "api-1")["weight"] == 6
    daemon.refused("GET", "/v1/services/dns", 404, "not_found")


WEB = "/v1/services/web"
REFUSED = [  # method, path, body, status, code, part of where, part of the message
    ("GET", "//", None, 404, "not_found", None, "path"),
    ("GET", "/v1", None, 404, "not_found", None, "path"),
    ("GET", "/v1/status/x", None, 404, "not_found", None, "path"),
    ("GET", "/v1/services/web/backends/api-1/x/y/z", None, 404, "not_found", None, "path"),
    ("GET", "/v1/services/%00", None, 404, "not_found", None, "path"),
    ("GET", "/v1/services/nobody", None, 404, "not_found", None, "nobody"),
    ("GET", "/v1/backends?service=nobody", None, 404, "not_found", "service", "nobody"),
    ("DELETE", "/v1/status", None, 405, "method_not_allowed", None, "method"),
    ("PUT", "/v1/services/web", {}, 405, "method_not_allowed", None, "method"),
    ("POST", "/metrics", {}, 405, "method_not_allowed", None, "method"),
    ("GET", "/v1/config?format=xml", None, 400, "invalid", "format", "xml"),
    ("GET", "/v1/events?since=-1", None, 400, "invalid", "since", "integer"),
    ("GET", "/v1/events?since=9999999999999999999999", None, 400, "invalid", "since", "integer"),
    ("GET", "/v1/events?wait=61", None, 400, "invalid", "wait", "0..60"),
    ("GET", "/v1/events?limit=0", None, 400, "invalid", "limit", "1.."),
    ("GET", "/v1/trace", None, 400, "invalid", "src", "found nothing"),
    ("GET", "/v1/trace?src=1.2.3.4:5", None, 400, "invalid", "dst", "found nothing"),
    ("GET", "/v1/trace?src=1.2.3.4&dst=203.0.113.10:443", None, 400, "invalid", "src", "1.2.3.4"),
    ("GET", "/v1/trace?src=1.2.3.4:5&dst=[2001:db8::53]:53", None, 400, "invalid", "dst", "family"),
    ("GET", "/v1/trace?src=1.2.3.4:5&dst=203.0.113.10:443&proto=icmp", None, 400, "invalid", "proto", "icmp"),
    ("GET", "/v1/trace?src=1.2.3.4:5&dst=203.0.113.10:443&syn=2", None, 400, "invalid", "syn", "0..1"),
    ("POST", "/v1/flows/flush", "", 400, "invalid", "request", "JSON"),
    ("POST", "/v1/flows/flush", {"backend": "api-1"}, 400, "invalid", "request", "service"),
    ("POST", "/v1/flows/flush", {"service": "web", "x": 1}, 400, "invalid", "request", "x"),
    ("POST", "/v1/flows/flush", {"service": "nobody"}, 404, "not_found", None, "nobody"),
    ("POST", "/v1/flows/flush", {"service": "web", "backend": "nobody"}, 404, "not_found", None, "nobody"),
    ("PATCH", WEB, "", 400, "invalid", "request:1", "JSON"),
    ("PATCH", WEB, "{", 400, "invalid", "request:1", "JSON"),
    ("PATCH", WEB, "{}{}", 400, "invalid", "request:1", "JSON"),
    ("PATCH", WEB, "[1]", 400, "invalid", "request:1", "object"),
    ("PATCH", WEB, b"\xff\xfe", 400, "invalid", "request", "JSON"),
    ("PATCH", WEB, '{"min_healthy": 1, "min_healthy": 2}', 400, "invalid", "request:1", "duplicate"),
    ("PATCH", WEB, {"min_healthy": -1}, 400, "invalid", "min_healthy", "-1"),
    ("PATCH", WEB, {"no_such_key": 1}, 400, "invalid", "", "no_such_key"),
    ("PATCH", WEB, {"table_size": 1000}, 400, "invalid", "table_size", "prime"),
    ("PATCH", WEB, {"health_check": {"type": "magic"}}, 400, "invalid", "type", "magic"),
    ("PATCH", "/v1/services/nobody", {"min_healthy": 1}, 404, "not_found", None, "nobody"),
    ("PATCH", WEB + "/backends/api-1", {"weight": 300}, 400, "invalid", "weight", "300"),
    ("PATCH", WEB + "/backends/api-1", {"weight": "heavy"}, 400, "invalid", "weight", "heavy"),
    ("PATCH", WEB + "/backends/api-1", {"state": "asleep"}, 400, "invalid", "state", "asleep"),
    ("PATCH", WEB + "/backends/nobody", {"weight": 3}, 404, "not_found", None, "nobody"),
    ("DELETE", WEB + "/backends/nobody", None, 404, "not_found", None, "nobody"),
    ("DELETE", "/v1/services/nobody", None, 404, "not_found", None, "nobody"),
    ("POST", WEB + "/backends", {"name": "api-1", "address": "10.0.0.99", "port": 1}, 409, "conflict", None, "api-1"),
    ("POST", WEB + "/backends", {"name": "x", "address": "256.0.0.1", "port": 1}, 400, "invalid", "address", "256"),
    ("POST", "/v1/services", {**BASIC["services"][0], "name": "other"}, 409, "conflict", None, "203.0.113.10"),
    ("POST", "/v1/services", {**BASIC["services"][0], "vip": "203.0.113.98"}, 409, "conflict", None, "web"),
    ("PUT", "/v1/config", "", 400, "invalid", "request", ""),
    ("PUT", "/v1/config?file=my.yaml", "services:\n  - name: web\n    ports: 1\n", 400, "invalid", "my.yaml:3",
     "ports"),
    ("PUT", "/v1/config?dry_run=1", "services: 5\n", 400, "invalid", "request:1", ""),
    ("POST", "/v1/diff", "a: [1\n", 400, "invalid", "request:", ""),
    ("PATCH", WEB, {"name": "x" * (1 << 20)}, 413, "too_large", None, "1048576"),
]


@pytest.mark.parametrize("method,path,body,status,code,where,message", REFUSED,
                         ids=[f"{i}-{r[0]}-{r[1][:40]}" for i, r in enumerate(REFUSED)])
def test_what_is_wrong_is_refused_with_place_and_reason(shared, method, path, body, status, code, where, message):
    before = shared.get("/v1/config")
    error = shared.refused(method, path, status, code, body)
    assert message in error["message"], error
    if where is not None:
        assert where in (error["where"] or ""), error
    assert shared.get("/v1/config") == before


# Events


def test_events_tell_what_happened_and_why(daemon):
    last = daemon.get("/v1/events")["last_seq"]
    daemon.call("PATCH", "/v1/services/web/backends/api-1", {"state": "drain"})
    events = daemon.get(f"/v1/events?since={last}")["events"]
    assert [(e["kind"], e["subject"], e["from"], e["to"]) for e in events] == [
        ("config_applied", "config", None, None), ("backend_state", "backend web/api-1", "up", "drain")]
    assert events[0]["cause"] == "api: ~ service web backend api-1: state enabled -> drain"
    assert events[1]["cause"] == "api"
    assert all(e["time_ns"] > 1.6e18 for e in events)
    assert [e["seq"] for e in daemon.get("/v1/events?limit=1")["events"]] == [events[-1]["seq"]]


def test_a_waiting_follower_is_woken_by_the_next_event(daemon):
    last = daemon.get("/v1/events")["last_seq"]
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(daemon.get(f"/v1/events?since={last}&wait=60")))
               for _ in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    assert answers == []
    # one that goes away while it waits must not disturb the others
    gone = Connection(daemon.socket)
    gone.request("GET", f"/v1/events?since={last}&wait=60")
    gone.close()
    daemon.call("PATCH", "/v1/services/web/backends/api-1", {"weight": 1})
    for thread in threads:
        thread.join(20)
    assert len(answers) == 5
    assert all([e["kind"] for e in a["events"]] == ["config_applied"] for a in answers)


def test_a_wait_ends_without_an_event(shared):
    last = shared.get("/v1/events")["last_seq"]
    answer = shared.get(f"/v1/events?since={last}&wait=1")
    assert answer["events"] == [] and answer["last_seq"] == last
    # from before a restart: told at once
    assert shared.get(f"/v1/events?since={last + 100}&wait=60")["last_seq"] == last


# With a data plane


def test_a_change_is_live_when_it_is_answered(live):
    for weight in (6, 5):
        answer = live.call("PATCH", "/v1/services/web/backends/api-1", {"weight": weight})
        assert answer["dataplane"] == "up" and answer["live"] is True and answer["refused"] == []
        service = live.get("/v1/services/web")["service"]
        assert service["table"]["published"] is True
    status = live.get("/v1/status")["dataplane"]
    assert status["n_pending"] == 0 and status["n_services"] == 2 and status["n_backends"] == 5
    assert status["n_commands_refused"] == 0


def test_a_trace_names_the_backend_and_why(live):
    answer = live.get("/v1/trace?src=198.51.100.7:4000&dst=203.0.113.10:443&proto=tcp&syn=1")
    check_shape(answer, documented.TRACE)
    assert answer["service"] == "web" and answer["decision"] == "slot" and answer["verdict"] == "forward"
    assert answer["backend"] in ("api-1", "api-2", "10.0.0.13:8080") and answer["backend"] == answer["slot_backend"]
    assert answer["n_slots"] == 1009 and str(answer["slot"]) in answer["why"] and answer["backend"] in answer["why"]
    again = live.get("/v1/trace?src=198.51.100.7:4000&dst=203.0.113.10:443")
    assert {**again, "slot_age_s": 0, "why": ""} == {**answer, "slot_age_s": 0, "why": ""}
    nobody = live.get("/v1/trace?src=198.51.100.7:4000&dst=203.0.113.10:444")
    check_shape(nobody, documented.TRACE)
    assert (nobody["service"], nobody["backend"], nobody["decision"]) == (None, None, "none")
    assert nobody["verdict"] == "vip_no_service" and nobody["slot"] is None
    six = live.get("/v1/trace?src=[2001:db8:9::1]:4000&dst=[2001:db8::53]:53&proto=udp")
    assert six["service"] == "dns" and six["syn"] is False


def test_flows_are_counted_and_flushed(live):
    flows = live.get("/v1/flows")
    assert flows["flows_max"] >= 65536 and [s["name"] for s in flows["services"]] == ["web", "dns"]
    answer = live.call("POST", "/v1/flows/flush", {"service": "web"})
    check_shape(answer, documented.FLUSHED)
    assert live.call("POST", "/v1/flows/flush", {"service": "web", "backend": "api-1"})["backend"] == "api-1"


def test_the_secret_stays_while_the_data_plane_runs(live):
    config = live.get("/v1/config")
    other = {**config, "hash_secret": "00" * 16}
    for method, path in (("PUT", "/v1/config"), ("POST", "/v1/diff")):
        error = live.refused(method, path, 409, "conflict", other)
        assert error["where"] == "request:1" and "hash_secret: it cannot change" in error["message"] and "stop the data plane" in error["message"]
    assert live.get("/v1/config") == config


def test_a_restarted_daemon_disturbs_nothing(live):
    live.call("PATCH", "/v1/services/web/backends/api-2", {"weight": 4})
    before = live.get("/v1/trace?src=198.51.100.7:4000&dst=203.0.113.10:443")
    refused = live.get("/v1/status")["dataplane"]["n_commands_refused"]
    live.stop(9)
    live.start()
    wait(live, lambda: live.state() == "up")
    after = live.get("/v1/trace?src=198.51.100.7:4000&dst=203.0.113.10:443")
    assert after["backend"] == before["backend"] and after["slot"] == before["slot"]
    assert live.get("/v1/status")["dataplane"]["n_commands_refused"] == refused
    events = live.get("/v1/events")["events"]
    assert not [e for e in events if e["kind"] == "backend_state" and e["from"] is not None]
    live.call("PATCH", "/v1/services/web/backends/api-2", {"weight": 3})


def test_the_data_plane_may_come_and_go(daemon):
    daemon.start_dataplane()
    boot = daemon.get("/v1/stats")["boot_id"]
    daemon.dataplane.kill()
    daemon.dataplane.wait()
    wait(daemon, lambda: daemon.state() == "down")
    assert "has ended" in daemon.get("/v1/status")["dataplane"]["reason"]
    answer = daemon.call("PATCH", "/v1/services/web/backends/api-1", {"weight": 50})
    assert answer["live"] is False and answer["dataplane"] == "down"
    daemon.start_dataplane()
    assert daemon.get("/v1/stats")["boot_id"] != boot
    assert daemon.get("/v1/services/web")["service"]["table"]["published"] is True
    daemon.dataplane.terminate()
    assert daemon.dataplane.wait(20) == 0
    wait(daemon, lambda: daemon.state() == "down")


def test_answers_are_one_json_document(shared):
    status, headers, text = shared.request("GET", "/v1/status")
    assert status == 200 and headers["Cache-Control"] == "no-store"
    json.loads(text)
