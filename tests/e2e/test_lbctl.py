# SPDX-License-Identifier: BSD-3-Clause
"""lbctl's commands against a server of our own (lbctl_server.py): requests, what is shown, exit statuses, hints."""
import copy
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

import pytest

from lbctl_server import (
    BACKENDS, CHANGE, COMMANDS, CONFIG, DOWN, DROPS, EVENTS, FLOWS, IDS, LBCTL, LISTED, NOW_NS, REFUSED, S, SERVICE, SESSION_LIST,
    SHOWN, STATS, STATUS, TRACE, VERSION, YAML, Handler, backend, counters, environment, harmless, lbctl, rows,
    start_server, stop_server, with_file)


@pytest.fixture
def run_dir():
    # Not below pytest's tmp_path: a socket's path has at most 107 characters.
    path = pathlib.Path(tempfile.mkdtemp(prefix="lbctl-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def api(run_dir):
    server = start_server(run_dir, Handler, (200, {}))
    yield server
    stop_server(server)


# Requests and answers as documented


@pytest.mark.smoke
@pytest.mark.parametrize("args,method,path,answer", COMMANDS, ids=IDS)
def test_each_command_makes_its_request_and_shows_the_answer(api, run_dir, args, method, path, answer):
    api.answer = (200, YAML.encode()) if args == ["config"] else (200, answer)
    args, file = with_file(args, run_dir)
    done = lbctl(run_dir, *args)
    assert done.returncode == 0, done.err
    assert done.err == "" and done.out.endswith("\n") and harmless(done.out)
    if args == ["config"]:
        path += "?format=yaml"
    assert api.requests[-1][:2] == (method, path.replace("FILE", urllib.parse.quote(file, safe="")))


@pytest.mark.parametrize("args,method,path,answer", COMMANDS, ids=IDS)
def test_json_prints_one_document_with_the_keys_of_the_api(api, run_dir, args, method, path, answer):
    api.answer = (200, answer)
    args, _ = with_file(args, run_dir)
    done = lbctl(run_dir, "--json", *args)
    assert done.returncode == 0, done.err
    shown = json.loads(done.stdout)
    assert {k: shown[k] for k in answer} == answer


def test_status_shows_everything_in_one_screen(api, run_dir):
    api.answer = (200, STATUS)
    out = lbctl(run_dir, "status").out
    fields = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines() if re.match(r"[a-z]", line))
    assert fields["control"] == "up for 1m 40s, version 0.1.0, pid 812"
    assert fields["config"] == "/etc/fulcrum/fulcrum.yaml, with 2 running changes resumed at its start"
    assert fields["data plane"] == "up for 3m 20s"
    assert fields["flow table"] == "1200 of 2097152 used (0.1%), 0 adopted at start"
    assert fields["sessions"] == "3 of 131072 used (0.0%), 1 refused for want of room"
    assert fields["local ports"] == "192.0.2.10: 3 used, 64509 free, 2 times none"
    assert re.search(r"^ +2001:db8::10: 1 used, 0 free, 0 times none, takes no new sessions$", out, re.M)
    assert fields["commands"] == "31 taken, 1 refused, 0 pending, 0 corrupt"
    assert fields["refused"] == "1m 5s ago: BACKEND_SET backend web/api-1: no space left on device"
    assert fields["warning"] == "ports: port 0 names interface lb9, which is not there"
    assert fields["holds"] == "1 service, 3 backends"
    assert rows(out, "PORT")[0][:5] == ["0", "net_af_packet0", "lb0", "up", "10000"]
    assert rows(out, "PORT")[0][-2:] == ["3", "0"]  # missed, with no buffer; errors
    assert rows(out, "WORKER")[0] == ["0", "1", "100", "90", "25.0%", "4", "0"]
    services = rows(out, "SERVICE")
    assert services[0] == ["web", "203.0.113.10:443/tcp", "nat", "maglev", "degraded", "1", "1", "1", "0", "all",
                           "4", "7"]
    assert services[1][1] == "[2001:db8::10]:all/udp" and services[1][8] == "-"


def test_status_warns_of_names_that_fail(api, run_dir):
    known = STATUS["names"][0]
    failing = [dict(known, name="a.internal", state="failing", reason="NXDOMAIN", addresses=[]),
               dict(known, name="b.internal", state="failing", reason="timeout")]
    api.answer = (200, dict(STATUS, names=[known, *failing]))
    out = lbctl(run_dir, "status").out
    assert re.search(r"^warning +name a\.internal: NXDOMAIN: no address of it is known$", out, re.M)
    assert re.search(r"^warning +name b\.internal: timeout: the addresses that were known stay$", out, re.M)
    assert known["name"] not in out
    api.answer = (200, dict(STATUS, names=[dict(failing[0], name=f"n{i}.internal") for i in range(20)]))
    assert re.search(r"^ +and 12 more names$", lbctl(run_dir, "status").out, re.M)


def test_stats_show_the_sessions_and_ports_of_fullnat(api, run_dir):
    api.answer = (200, STATS)
    out = lbctl(run_dir, "stats").out
    assert rows(out, "FULLNAT WORKER") == [["0", "3", "131072", "10", "7", "6", "1", "2", "5", "4"]]
    assert rows(out, "LOCAL ADDRESS") == [["192.0.2.10", "0", "3", "64509", "2"], ["2001:db8::10", "0", "1", "0", "0"]]
    api.answer = (200, dict(STATS, fullnat=None))
    assert "FULLNAT" not in lbctl(run_dir, "stats").out


def test_backend_list_shows_state_share_and_reason(api, run_dir):
    api.answer = (200, LISTED)
    table = rows(lbctl(run_dir, "backend", "list").out, "SERVICE")
    assert table[0] == ["web", "api-1", "10.0.0.11:8080", "5", "0", "up", "2h 5m", "up", "50.00%", "4", "-"]
    assert table[1] == ["web", "api-2", "[2001:db8::12]:8080", "3", "0", "down", "2h 5m", "down", "0.00%", "4",
                        "connection refused; next hop: neighbour unknown"]
    assert table[2][2] == "10.0.0.11:all" and table[2][5] == "drain" and table[2][-1] == "drain by operator"


@pytest.mark.parametrize("values,note", [
    (dict(state="drain", effective="drain", condition="draining", condition_reason="api.example.com has this address no more",
          host="api.example.com"), "api.example.com has this address no more"),
    (dict(state="drain", effective="drain", condition="draining", condition_reason="by the operator", host="api.example.com"),
     "drain by operator"),
    (dict(state="drain", effective="down", condition="down", condition_reason="timeout", host="api.example.com",
          health=DOWN["health"]), "drain; connection refused"),
    (dict(effective="drain", condition="draining", condition_reason="agent: drain"), "agent: drain"),
    (dict(effective="down", condition="down", condition_reason="agent: down # disk"), "agent: down # disk"),
    (dict(effective="down", condition="disabled", condition_reason="agent: maint", state="drain"),
     "drain by operator; agent: maint"),
    (dict(condition="suspect", condition_reason="3 of 4 refused"), "suspect: 3 of 4 refused"),
    (dict(weight_percent=37), "at 37% of its weight"),
    (dict(weight_percent=75, agent={"state": "answers", "reason": "ok", "says": "75% up", "last_ns": NOW_NS}),
     "at 75% of its weight; its agent says: 75% up"),
    (dict(effective="drain", condition="draining", condition_reason="agent: 0%", weight_percent=0), "agent: 0%")])
def test_note_says_by_whose_word(api, run_dir, values, note):
    api.answer = (200, dict(LISTED, backends=[backend("api-1", **values)]))
    assert rows(lbctl(run_dir, "backend", "list").out, "SERVICE")[0][-1] == note


def test_service_show_lists_settings_as_service_set_takes_them(api, run_dir):
    api.answer = (200, SHOWN)
    out = lbctl(run_dir, "service", "show", "web").out
    settings = [line.strip() for line in out.splitlines() if line.startswith("  ")]
    assert settings == ["name=web", "vip=203.0.113.10", "port=443", "protocol=tcp", "mode=nat", "min_healthy=1",
                        "health_check.type=http", "health_check.interval=2s"]
    assert [row[1] for row in rows(out, "SERVICE")] == ["api-1", "api-2", "10.0.0.13:80"]


def test_drops_are_sorted_by_count_and_all_there(api, run_dir):
    api.answer = (200, DROPS)
    out = lbctl(run_dir, "drops").out
    assert [row[:2] for row in rows(out, "PKTS")] == [["9", "fragment"], ["3", "ttl_expired"], ["0", "truncated_l2"]]
    assert re.search(r"500 +forward +client to backend", out)


def test_trace_tells_backend_reason_slot_and_entry(api, run_dir):
    api.answer = (200, TRACE)
    out = lbctl(run_dir, "trace", "198.51.100.7:40000", "203.0.113.10:443/tcp").out
    assert re.search(r"^backend +api-1$", out, re.M)
    assert "slot 4711 of 65537 belongs to api-1, unchanged (decision: slot)" in out
    assert re.search(r"^slot changed +1m 15s ago$", out, re.M) and re.search(r"^slot's origin +api-3, where ", out, re.M)
    assert re.search(r"^session +established, last packet 3s ago, worker 0, from 192\.0\.2\.10:1055$", out, re.M)
    api.answer = (200, dict(TRACE, entry=dict(TRACE["entry"], local=None)))
    out = lbctl(run_dir, "trace", "198.51.100.7:40000", "203.0.113.10:443/tcp").out
    assert re.search(r"^flow entry +established, last packet 3s ago, worker 0$", out, re.M)


def test_trace_says_why_there_is_no_origin(api, run_dir):
    api.answer = (200, dict(TRACE, origin=None, origin_reason="the slot has had no other backend within the idle timeout", slot_age_s=None))
    out = lbctl(run_dir, "trace", "198.51.100.7:40000", "203.0.113.10:443/tcp").out
    assert re.search(r"^slot changed +never$", out, re.M)
    assert re.search(r"^slot's origin +none: the slot has had no other backend within the idle timeout$", out, re.M)


def test_trace_mid_stream_asks_for_no_syn(api, run_dir):
    api.answer = (200, TRACE)
    assert lbctl(run_dir, "trace", "--mid-stream", "[2001:db8::7]:4", "[2001:db8::10]:443/tcp").returncode == 0
    query = urllib.parse.parse_qs(urllib.parse.urlparse(api.requests[-1][1]).query)
    assert query == {"src": ["[2001:db8::7]:4"], "dst": ["[2001:db8::10]:443"], "proto": ["tcp"], "syn": ["0"]}


def test_flows_limit_keeps_the_largest(api, run_dir):
    api.answer = (200, FLOWS)
    assert rows(lbctl(run_dir, "flows", "--limit", "1").out, "SERVICE") == [["web", "api-2", "up", "1000"]]


def test_sessions_are_listed_with_their_local_port(api, run_dir):
    api.answer = (200, SESSION_LIST)
    out = lbctl(run_dir, "flows", "--sessions").out
    assert rows(out, "SERVICE")[0] == ["web", "198.51.100.7:40000", "203.0.113.10:443", "192.0.2.10:1055", "api-1",
                                       "10.0.0.11:8443", "tcp", "established", "1m 15s", "1"]
    assert "and more" in out
    api.answer = (200, dict(SESSION_LIST, sessions=[], complete=True))
    assert lbctl(run_dir, "flows", "--sessions").out == "no sessions of mode fullnat\n"


def test_events_show_time_change_and_cause(api, run_dir):
    api.answer = (200, EVENTS)
    lines = lbctl(run_dir, "events").out.splitlines()
    assert re.split(r"  +", lines[1]) == ["2025-07-29 11:53:20.123", "backend_state", "backend web/api-2",
                                          "up -> down", "health: connection refused"]
    assert lines[0].endswith("api: ~ service web backend api-1: weight 5 -> 3")


def test_rates_are_the_growth_between_two_samples(api, run_dir):
    later = copy.deepcopy(STATS)
    later["timestamp_ns"] += 2 * S
    later["totals"]["rx_pkts"] += 5000
    later["totals"]["rx_bytes"] += 250000
    traffic = later["services"][0]["backends"][0]["counters"]
    traffic["in_pkts"] += 3000
    traffic["new_flows"] += 40
    later["services"][0]["backends"].append({"name": "new", "effective": "up", "weight": 1, "counters": counters()})
    samples = iter([STATS, later, STATS, later])
    api.answer = lambda *request: (200, next(samples))
    shown = json.loads(lbctl(run_dir, "--json", "stats", "--interval", "100ms").stdout)
    assert shown["interval_s"] == 2
    assert shown["rates"]["totals"]["rx_pps"] == 2500 and shown["rates"]["totals"]["rx_bps"] == 1000000
    first, _, new = shown["rates"]["services"][0]["backends"]
    assert (first["in_pps"], first["cps"], first["out_pps"]) == (1500, 20, 0)
    assert new["in_pps"] is None  # it has no sample to compare with
    out = lbctl(run_dir, "stats", "--interval", "100ms").out
    assert rows(out, "SERVICE")[1] == ["web", "api-1", "up", "1.50k", "0", "0", "0", "20", "4"]
    assert rows(out, "TOTAL")[0] == ["received", "2.50k", "1.00M"]
    assert rows(out, "SERVICE")[0][:3] == ["web", "all", "2/3 up"]


def test_rates_after_a_restart_of_the_data_plane_are_unknown(api, run_dir):
    samples = iter([STATS, dict(STATS, boot_id="other", timestamp_ns=NOW_NS + S)])
    api.answer = lambda *request: (200, next(samples))
    shown = json.loads(lbctl(run_dir, "--json", "stats", "--interval", "100ms").stdout)
    assert set(shown["rates"]["totals"].values()) == {None}


def test_watch_shows_count_samples_one_document_a_line(api, run_dir):
    times = iter(range(100))
    api.answer = lambda *request: (200, dict(STATS, timestamp_ns=NOW_NS + next(times) * S))
    done = lbctl(run_dir, "--json", "stats", "--watch", "--interval", "100ms", "--count", "3")
    assert [round(json.loads(line)["interval_s"], 3) for line in done.out.splitlines()] == [1, 1, 1]
    out = lbctl(run_dir, "stats", "--watch", "--interval", "100ms", "--count", "2").out
    assert out.count("rates over 1 s") == 2 and "\033" not in out


# Changes


def sent(api):
    return json.loads(api.requests[-1][2])


def test_settings_are_sent_as_typed_and_dots_lead_into_groups(api, run_dir):
    api.answer = (200, CHANGE)
    done = lbctl(run_dir, "service", "set", "web", "min_healthy=2", "health_check.interval=1s",
                 "health_check.expect_body=a=b", "on_empty=")
    assert done.returncode == 0
    assert sent(api) == {"min_healthy": "2", "on_empty": "",
                         "health_check": {"interval": "1s", "expect_body": "a=b"}}
    assert api.requests[-1][3] == "application/json"


def test_service_add_sends_vip_port_and_protocol(api, run_dir):
    api.answer = (201, CHANGE)
    assert lbctl(run_dir, "service", "add", "dns", "[2001:db8::53]:53/udp", "mode=nat").returncode == 0
    assert sent(api) == {"name": "dns", "vip": "2001:db8::53", "port": 53, "protocol": "udp", "mode": "nat"}
    assert lbctl(run_dir, "service", "add", "any", "203.0.113.9:all/tcp").returncode == 0
    assert sent(api)["port"] == "all"


def test_backend_add_sends_what_is_given(api, run_dir):
    api.answer = (201, CHANGE)
    assert lbctl(run_dir, "backend", "add", "web", "[2001:db8::5]:80", "--name=api-5", "--weight", "3",
                 "--tier=1").returncode == 0
    assert sent(api) == {"name": "api-5", "address": "2001:db8::5", "port": 80, "weight": 3, "tier": 1}
    assert lbctl(run_dir, "backend", "add", "all", "10.0.0.5").returncode == 0
    assert sent(api) == {"address": "10.0.0.5"}


@pytest.mark.parametrize("args,note", [
    (["10.0.0.5:80"], None), (["10.0.0.5"], None), (["[2001:db8::5]:80"], None), (["10.0.0.5:80", "--name", "api-5"], None),
    (["api.example.com:80"], "api.example.com: a host name: the addresses that name servers tell become the backends"),
    (["api-5:80", "--name", "x"], "api-5: a host name: the addresses that name servers tell become the backends"),
    (["api-5"], "api-5: taken for a host name: the addresses that name servers tell become the backends; "
     "to name an address: lbctl backend add web ADDRESS:PORT --name api-5")], ids=str)
def test_backend_add_says_what_it_takes_for_a_host_name(api, run_dir, args, note):
    api.answer = (201, CHANGE)
    done = lbctl(run_dir, "backend", "add", "web", *args)
    assert (done.returncode, done.err) == (0, f"lbctl: {note}\n" if note else "")
    api.answer = (404, {"error": {"code": "not_found", "message": 'no service "web"', "where": None}})
    assert "host name" not in lbctl(run_dir, "backend", "add", "web", *args).err, "nothing was taken for anything"


@pytest.mark.parametrize("verb,state", [("drain", "drain"), ("enable", "enabled"), ("disable", "disabled")])
def test_backend_states_are_set(api, run_dir, verb, state):
    api.answer = (200, CHANGE)
    assert lbctl(run_dir, "backend", verb, "web", "api-1").returncode == 0
    assert sent(api) == {"state": state}


def test_names_are_encoded_in_paths(api, run_dir):
    api.answer = (200, CHANGE)
    assert lbctl(run_dir, "backend", "del", "..", "[2001:db8::1]:80").returncode == 0
    assert api.requests[-1][1] == "/v1/services/../backends/%5B2001%3Adb8%3A%3A1%5D%3A80"
    assert lbctl(run_dir, "service", "del", "a/b?c#d%41 \n").returncode == 0
    assert api.requests[-1][1] == "/v1/services/a%2Fb%3Fc%23d%2541%20%0A"


def test_changes_are_listed_with_their_sign(api, run_dir):
    api.answer = (200, CHANGE)
    assert lbctl(run_dir, "backend", "set", "web", "api-1", "weight=3").out.splitlines() == [
        "~ service web backend api-1: weight 5 -> 3", "+ service dns", "- service old", "3 changes"]


def test_no_change_is_said_and_no_error(api, run_dir):
    api.answer = (200, dict(CHANGE, changes=[], n_changes=0))
    done = lbctl(run_dir, "diff", with_file(["FILE"], run_dir)[1])
    assert (done.returncode, done.out) == (0, "no change\n")
    api.answer = (200, dict(CHANGE, changes=[], n_changes=0, live=False, dataplane="down"))
    assert lbctl(run_dir, "backend", "drain", "web", "api-1").err == ""


def test_validate_needs_no_daemon_and_tells_line_and_reason(run_dir):
    path = run_dir / "new.yaml"
    text = "services:\n  - {name: web, vip: 203.0.113.10, port: 80, protocol: tcp, backends: [{address: 10.0.0.1}]}\n"
    path.write_text(text)
    assert lbctl(run_dir, "validate", str(path)).out == f"{path}: valid: 1 service, 1 backend\n"
    done = lbctl(run_dir, "--json", "validate", "-", stdin=b"services: none\n")
    assert (done.returncode, json.loads(done.stdout)) == (
        0, {"file": "<stdin>", "valid": True, "n_services": 0, "n_backends": 0})
    path.write_text(text.replace("port: 80", "prot: 80"))
    done = lbctl(run_dir, "validate", str(path))
    assert (done.returncode, done.out) == (1, "")
    assert done.err == f'lbctl: {path}:2: services[0]: unknown key "prot", did you mean "port"?\n'
    done = lbctl(run_dir, "--json", "validate", "-", stdin=b"services: [\n")
    assert (done.returncode, done.out, json.loads(done.err)["error"]["where"]) == (1, "", "<stdin>:1")
    assert "No such file" in lbctl(run_dir, "validate", str(run_dir / "absent.yaml")).err


def test_a_change_without_data_plane_is_saved_and_says_so(api, run_dir):
    api.answer = (200, dict(CHANGE, live=False, dataplane="down"))
    done = lbctl(run_dir, "backend", "set", "web", "api-1", "weight=3")
    assert done.returncode == 0
    assert done.err == "lbctl: data plane: down: the change is saved and takes effect when it is back\n"


def test_a_change_that_the_data_plane_refuses_fails(api, run_dir):
    api.answer = (200, dict(CHANGE, live=False, refused=[REFUSED]))
    message = "saved, but the data plane refused BACKEND_SET: no space left on device"
    done = lbctl(run_dir, "backend", "set", "web", "api-1", "weight=3")
    assert (done.returncode, done.err) == (1, f"lbctl: backend web/api-1: {message}\n")
    done = lbctl(run_dir, "--json", "backend", "set", "web", "api-1", "weight=3")
    assert done.returncode == 1 and json.loads(done.stdout)["refused"] == [REFUSED]
    assert json.loads(done.err) == {"error": {"where": "backend web/api-1", "message": message, "hint": None,
                                              "exit_status": 1}}


def test_apply_sends_the_file_byte_by_byte(api, run_dir):
    api.answer = (200, CHANGE)
    content = bytes(range(256)) * 8000  # beyond the size where curl would ask for "100 Continue"
    (run_dir / "run.yaml").write_bytes(content)
    assert lbctl(run_dir, "apply", str(run_dir / "run.yaml")).returncode == 0
    assert api.requests[-1][2:] == (content, "application/yaml")
    assert lbctl(run_dir, "apply", "-", stdin=b"services: []\n").returncode == 0
    assert api.requests[-1][1:3] == ("/v1/config?file=%3Cstdin%3E", b"services: []\n")


def test_config_is_printed_as_it_came(api, run_dir):
    api.answer = (200, YAML.encode())
    assert lbctl(run_dir, "config").stdout == YAML.encode()


# Drain with --wait


def draining(active_flows, closing_flows=0, in_pkts=1000, **values):
    doc = backend("api-1", **{"effective": "drain", "state": "drain", **values})
    doc["counters"] = counters(active_flows=active_flows, closing_flows=closing_flows, in_pkts=in_pkts)
    return {"timestamp_ns": NOW_NS, "dataplane": "up", "service": SERVICE, "config": {}, "backends": [DOWN, doc]}


def drain(api, run_dir, looks, *args, wait="10s"):
    looks = iter(looks)
    api.answer = lambda method, *rest: (200, CHANGE if method == "PATCH" else next(looks))
    return lbctl(run_dir, *args, "backend", "drain", "web", "api-1", "--wait", wait)


def test_drain_waits_until_no_flow_is_left(api, run_dir):
    done = drain(api, run_dir, [draining(9, effective="up"), draining(2), draining(1), draining(0)])
    assert done.returncode == 0, done.err
    assert done.out.splitlines()[-3:] == ["2 active flows left", "1 active flow left", "drained: no flow is left"]
    assert [r[:2] for r in api.requests] == [("PATCH", "/v1/services/web/backends/api-1")] + \
        4 * [("GET", "/v1/services/web")]


def test_drain_waits_for_closed_flows_while_packets_come(api, run_dir):
    looks = [draining(1, 2, 50), *(draining(0, 3, 50 + i) for i in range(4))]
    looks += [draining(0, 3, 53)] * 200  # enough for any wait until there were none for a while
    start = time.monotonic()
    done = drain(api, run_dir, looks, wait="60s")
    assert done.returncode == 0, done.err
    assert done.out.splitlines()[-3:] == ["1 active flow left, 2 closing", "0 active flows left, 3 closing",
                                          "drained: no flow is left"]
    assert time.monotonic() - start > 5
    done = drain(api, run_dir, (draining(0, 1, i) for i in range(1000)), wait="500ms")
    assert done.err.splitlines()[0] == "lbctl: api-1: 0 active flows are left when --wait ends, and 1 that is closing"


def test_drain_waits_on_while_daemon_or_data_plane_are_away(api, run_dir):
    """Told once each time; then the wait goes on where it was."""
    down = dict(draining(2), dataplane="down")
    looks = iter([draining(2), down, down, draining(2), draining(1)])
    n_answered, parts = [], {}

    def answer(method, *_):
        if method == "PATCH":
            return 200, CHANGE
        n_answered.append(1)
        if len(n_answered) == 6:  # the daemon goes, in the middle of an answer
            threading.Thread(target=restart, daemon=True).start()
        return 200, next(looks, draining(0) if parts else draining(1))

    def restart():
        stop_server(api)
        time.sleep(1)
        parts["server"] = start_server(run_dir, Handler, (200, draining(0)))
    api.answer = answer
    done = lbctl(run_dir, "backend", "drain", "web", "api-1", "--wait", "25s")
    try:
        assert done.returncode == 0, done.err
        assert done.out.splitlines()[-3:] == ["2 active flows left", "1 active flow left", "drained: no flow is left"]
        socket = f"{run_dir}/default/control.sock"
        assert [line for line in done.err.splitlines() if "wait" in line][:3] == [
            "lbctl: data plane: down: waiting for it to come back", "lbctl: backend drain: the wait goes on",
            f"lbctl: {socket}: waiting for lb-control to come back"]
    finally:
        parts["server"].shutdown()  # its socket is for the fixture to remove
        parts["server"].server_close()


def test_drain_is_bounded_by_its_wait_while_nobody_answers(api, run_dir):
    looks, ended = iter([draining(2)]), threading.Event()

    def answer(method, *_):
        if method == "GET" and next(looks, None) is None:
            ended.wait(60)
        return 200, CHANGE if method == "PATCH" else draining(2)
    api.answer = answer
    try:
        done = lbctl(run_dir, "backend", "drain", "web", "api-1", "--wait", "1s", timeout=50)
    finally:
        ended.set()
    assert (done.returncode, "lb-control cannot be reached" in done.err) == (3, True), done.err


def test_drain_of_one_that_is_down_waits_for_nothing(api, run_dir):
    done = drain(api, run_dir, [draining(9, effective="down")])
    assert (done.returncode, done.out.splitlines()[-1]) == (0, "drained: it is down, no flow goes to it")


def test_drain_with_json_is_one_document(api, run_dir):
    done = drain(api, run_dir, [draining(1), draining(0)], "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["drained"] is True
    done = drain(api, run_dir, [draining(3)], "--json", wait="0s")
    assert done.returncode == 1 and json.loads(done.stdout)["drained"] is False


@pytest.mark.parametrize("look,status,message", [
    (draining(3), 1, "api-1: 3 active flows are left when --wait ends"),
    (draining(1, 2), 1, "api-1: 1 active flow is left when --wait ends, and 2 that are closing"),
    (draining(0, 1), 1, "api-1: 0 active flows are left when --wait ends, and 1 that is closing"),
    (draining(3, effective="up"), 1, "api-1: not draining yet when --wait ends"),
    (draining(3, state="enabled"), 1, "api-1: was enabled again while it was draining"),
    (dict(draining(3), backends=[DOWN]), 1, "api-1: was removed while it was draining"),
    (dict(draining(0), dataplane="down"), 4, "data plane: down: how many flows are left is not known"),
    (dict(draining(0), dataplane="syncing"), 1, "api-1: not draining yet when --wait ends"),
])
def test_drain_that_cannot_end_says_why(api, run_dir, look, status, message):
    done = drain(api, run_dir, [look] * 5, wait="0s")
    assert done.returncode == status
    assert done.err.splitlines()[0] == "lbctl: " + message


# Exit statuses, errors and hints


USAGE = [
    ([], "a command is missing"),
    (["frob"], "frob: no such command"),
    (["service"], "service: say what to do: list, show, add, set, del"),
    (["service", "frob"], "there is no 'frob' here"),
    (["service list"], "no such command"),
    (["service", "show"], "too few arguments"),
    (["service", "show", "a", "b"], "one argument too many: 'b'"),
    (["service", "show", ""], "argument 1 is an empty name"),
    (["service", "add", "a", "203.0.113.1:80"], "203.0.113.1:80: the protocol is missing"),
    (["service", "add", "a", "203.0.113.1:80/"], "the protocol is missing"),
    (["service", "add", "a", "203.0.113.1/tcp"], "the port is missing"),
    (["service", "add", "a", "203.0.113.1:0/tcp"], "port '0' is neither"),
    (["service", "add", "", "203.0.113.1:1/tcp"], "name: is empty"),
    (["service", "set", "web", "weight"], "weight: expected KEY=VALUE"),
    (["service", "set", "web", "=3"], "=3: expected KEY=VALUE"),
    (["service", "set", "web", "a=1", "a=2"], "a=2: this key is malformed or given twice"),
    (["service", "set", "web", "a=1", "a.b=2"], "a.b=2: this key is malformed"),
    (["service", "set", "web", "a.b.c=2"], "a.b.c=2: this key is malformed"),
    (["service", "set", "web", ".a=2"], ".a=2: this key is malformed"),
    (["service", "set", "web", "a.=2"], "a.=2: this key is malformed"),
    (["service", "set", "web", b"a=\xff"], "the value is not UTF-8"),
    (["service", "set", "web", b"\xff=a"], "\\xff=a: this key is malformed"),
    (["service", "set", "web", b"\xff.b=a"], "\\xff.b=a: this key is malformed"),
    (["backend", "add", "web", "2001:db8::1:80"], "an IPv6 address stands in brackets here"),
    (["backend", "add", "web", "[2001:db8::1"], "no ']' before the port"),
    (["backend", "add", "web", "[2001:db8::1]x"], "no ']' before the port"),
    (["backend", "add", "web", ":80"], "the address is missing"),
    (["backend", "add", "web", "10.0.0.1:"], "the port is missing"),
    (["backend", "add", "web", "10.0.0.1:70000"], "port '70000' is not in 1..65535"),
    (["backend", "add", "web", "10.0.0.1:80", "--weight", "257"], "--weight: '257' is not a whole number in 0..256"),
    (["backend", "add", "web", "10.0.0.1:80", "--tier=x"], "--tier: 'x' is not"),
    (["backend", "add", "web", "10.0.0.1:80", "--weight=1", "--weight=2"], "given twice: '--weight'"),
    (["backend", "add", "web", "10.0.0.1:80", "--colour"], "unknown option '--colour'"),
    (["backend", "add", "web", "10.0.0.1:80", "--name", b"\xff"], "name: '\\xff' is not UTF-8"),
    (["backend", "drain", "web", "a", "--wait", "5"], "--wait: '5' is not a duration"),
    (["backend", "drain", "web", "a", "--wait"], "a value is missing after '--wait'"),
    (["apply", "f", "--dry-run=yes"], "this option takes no value: '--dry-run=yes'"),
    (["stats", "--interval", "1ms"], "--interval: '1ms' is out of range"),
    (["stats", "--count", "3"], "--count: has a meaning only with --watch"),
    (["events", "--limit", "0"], "--limit: '0' is not a whole number in 1..4096"),
    (["trace", "198.51.100.7", "203.0.113.10:443/tcp"], "198.51.100.7: the port is missing"),
    (["trace", "198.51.100.7:1", "203.0.113.10:443"], "203.0.113.10:443: the protocol is missing"),
    (["trace", "198.51.100.7:1", "203.0.113.10:443/udp", "--mid-stream"], "--mid-stream: has a meaning only"),
    (["completion", "fish"], "no completion for 'fish'"),
    (["--instance", "../x", "status"], "--instance: '../x' is no instance name"),
    (["--instance"], "a value is missing after '--instance'"),
    (["--timeout", "0s", "status"], "--timeout: '0s' is no duration"),
    (["--frob", "status"], "unknown option '--frob'"),
    (["status", "\033[2J"], "one argument too many: '\\x1b[2J'"),
]


@pytest.mark.parametrize("args,message", USAGE, ids=[repr(u[0]) for u in USAGE])
def test_usage_errors_exit_2_and_name_the_argument(api, run_dir, args, message):
    done = lbctl(run_dir, *args)
    assert done.returncode == 2
    assert done.err.startswith("lbctl: ") and message in done.err and harmless(done.err)
    assert done.out == "" and api.requests == []


def test_options_may_stand_anywhere(api, run_dir):
    api.answer = (200, STATUS)
    for args in (["--json", "status"], ["status", "--json"], ["--instance=default", "status", "--json"]):
        assert json.loads(lbctl(run_dir, *args).stdout) == STATUS
    api.answer = (200, {"backends": []})
    assert json.loads(lbctl(run_dir, "backend", "--json", "list", "--", "--odd-name").stdout) == {"backends": []}
    assert api.requests[-1][1] == "/v1/backends?service=--odd-name"


def test_help_lists_every_command_and_its_options(run_dir):
    done = lbctl(run_dir, "--help")
    assert done.returncode == 0
    for args, *_ in COMMANDS:
        two_words = args[0] in ("service", "backend") or args[1:2] == ["flush"]
        name = " ".join(args[:1 + two_words])
        assert re.search(rf"^  {name}  ", done.out, re.M), name
        shown = lbctl(run_dir, *name.split(), "--help")
        assert shown.returncode == 0 and f"usage: lbctl {name}" in shown.out
    assert "--wait DURATION" in lbctl(run_dir, "backend", "drain", "--help").out
    assert "backend drain" in lbctl(run_dir, "backend", "--help").out


def test_no_daemon_exits_3_and_says_how_to_start_it(run_dir):
    done = lbctl(run_dir, "status")
    assert done.returncode == 3
    assert done.err == (f"lbctl: {run_dir}/default/control.sock: lb-control: cannot connect: No such file or "
                        "directory\n  hint: start it: lb-control --instance default --config FILE (forwarding "
                        "goes on without it)\n")


def test_a_dead_socket_exits_3(run_dir):
    (run_dir / "default").mkdir()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(run_dir / "default" / "control.sock"))
    done = lbctl(run_dir, "status")
    assert done.returncode == 3 and "cannot connect: Connection refused" in done.err


def test_a_missing_instance_names_those_that_are_there(run_dir, api):
    done = lbctl(run_dir, "--instance", "edge", "status")
    assert done.returncode == 3 and f"{run_dir}/edge/control.sock" in done.err
    assert "is it another instance: --instance default" in done.err


def test_the_instance_chooses_the_socket(run_dir):
    server = start_server(run_dir, Handler, (200, STATUS), instance="edge-2")
    try:
        assert lbctl(run_dir, "--instance", "edge-2", "status").returncode == 0
    finally:
        stop_server(server)


def test_proxies_of_the_environment_are_not_used(api, run_dir):
    api.answer = (200, STATUS)
    assert lbctl(run_dir, "status", http_proxy="http://127.0.0.1:9", ALL_PROXY="http://127.0.0.1:9").returncode == 0


def test_a_long_socket_path_is_refused(run_dir):
    done = lbctl(run_dir / ("x" * 120), "status")
    assert done.returncode == 3 and "too long for a socket" in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_a_closed_socket_says_which_group_to_join(run_dir, api):
    os.chmod(run_dir, 0o755)
    os.chmod(run_dir / "default" / "control.sock", 0o600)
    program = shutil.copy(LBCTL, run_dir / "lbctl")  # the build may lie where only root comes
    done = subprocess.run([program, "status"], capture_output=True, text=True, env=environment(run_dir),
                          user=65534, group=65534, extra_groups=[], cwd="/")
    assert done.returncode == 3, done
    assert "Permission denied" in done.stderr and "usermod -aG fulcrum" in done.stderr


@pytest.mark.parametrize("http_status,code,status,hint", [
    (400, "invalid", 1, None), (404, "not_found", 1, None), (405, "method_not_allowed", 1, "version"),
    (409, "conflict", 1, None), (413, "too_large", 1, None), (500, "internal", 1, "log"),
    (502, "dataplane_refused", 1, "lbctl status"), (503, "dataplane_down", 4, "start lb-dataplane"),
    (504, "dataplane_timeout", 4, "lbctl status"),
])
def test_refusals_show_place_reason_and_hint(api, run_dir, http_status, code, status, hint):
    api.answer = (http_status, {"error": {"code": code, "message": "weight: 300 is not in 0..256",
                                          "where": "run.yaml:14"}})
    done = lbctl(run_dir, "service", "set", "web", "weight=300")
    lines = done.err.splitlines()
    assert done.returncode == status and done.out == ""
    assert lines[0] == "lbctl: run.yaml:14: weight: 300 is not in 0..256"
    assert len(lines) == (2 if hint else 1)
    assert hint is None or (lines[1].startswith("  hint: ") and hint in lines[1])


@pytest.mark.parametrize("message,hint", [("no service \"x\"", "lbctl service list"),
                                          ("no backend \"x\" in service web", "lbctl backend list")])
def test_a_wrong_name_is_answered_with_where_to_look(api, run_dir, message, hint):
    api.answer = (404, {"error": {"code": "not_found", "message": message, "where": None}})
    done = lbctl(run_dir, "backend", "del", "web", "x")
    assert done.returncode == 1 and hint in done.err.splitlines()[1]


def test_a_place_is_not_said_twice(api, run_dir):
    api.answer = (400, {"error": {"code": "invalid", "message": "weight: too much", "where": "weight"}})
    assert lbctl(run_dir, "backend", "set", "web", "a", "weight=3").err == "lbctl: weight: too much\n"


def test_a_refusal_without_place_names_the_command(api, run_dir):
    api.answer = (409, {"error": {"code": "conflict", "message": "taken", "where": None}})
    assert lbctl(run_dir, "service", "del", "web").err == "lbctl: service del: taken\n"


def test_status_without_data_plane_prints_and_exits_4(api, run_dir):
    dataplane = {k: None for k in STATUS["dataplane"]}
    dataplane.update(state="down", reason="no shared-memory region of this name", since_ns=NOW_NS - 3 * S,
                     flows={"used": 0, "max": 0, "adopted": 0}, workers=[], ports=[], refused=[])
    api.answer = (200, dict(STATUS, dataplane=dataplane))
    done = lbctl(run_dir, "status")
    assert done.returncode == 4
    assert re.search(r"^data plane +down for 3s: no shared-memory region of this name$", done.out, re.M)
    assert "203.0.113.10:443/tcp" in done.out
    api.answer = (200, dict(STATUS, dataplane=dict(STATUS["dataplane"], state="syncing")))
    assert lbctl(run_dir, "status", "--json").returncode == 4


@pytest.mark.parametrize("args,answer", [(["stats"], STATS), (["drops"], DROPS)], ids=["stats", "drops"])
def test_old_counters_are_shown_as_such(api, run_dir, args, answer):
    api.answer = (200, dict(answer, dataplane="down"))
    done = lbctl(run_dir, *args)
    assert done.returncode == 4 and done.out
    assert done.err == "lbctl: data plane: down: the figures are those last seen\n"


@pytest.mark.parametrize("args", [["flows"], ["flows", "flush", "web"],
                                  ["trace", "198.51.100.7:40000", "203.0.113.10:443/tcp"]], ids=lambda a: a[0])
def test_what_needs_the_data_plane_fails_without_it(api, run_dir, args):
    api.answer = (503, {"error": {"code": "dataplane_down", "message": "the data plane is down", "where": None}})
    done = lbctl(run_dir, *args)
    assert done.returncode == 4 and done.out == "" and "the data plane is down" in done.err


def test_version_shows_both_and_works_alone(api, run_dir):
    api.answer = (200, dict(VERSION, version="9.8.7"))
    own = json.loads(lbctl(run_dir, "version", "--json").stdout)["lbctl"]
    assert re.findall(r"^(\S+) +(\S+)$", lbctl(run_dir, "version").out, re.M) == [("lbctl", own),
                                                                                  ("lb-control", "9.8.7")]
    alone = lbctl(run_dir / "none", "version")
    assert alone.returncode == 0 and "not reached" in alone.out and alone.err == ""
    assert json.loads(lbctl(run_dir / "none", "--json", "version").stdout)["control"] is None


@pytest.mark.parametrize("path,message", [("/nonexistent/x", "No such file"), ("/", "Is a directory")])
def test_an_unreadable_file_fails(api, run_dir, path, message):
    done = lbctl(run_dir, "apply", path)
    assert done.returncode == 1 and done.err.startswith(f"lbctl: {path}: ") and message in done.err
    assert api.requests == []


def test_a_file_too_large_is_refused_before_it_is_sent(api, run_dir):
    with open(run_dir / "big", "wb") as f:
        f.truncate((64 << 20) + 1)
    done = lbctl(run_dir, "apply", str(run_dir / "big"))
    assert done.returncode == 1 and "larger than the 64 MiB" in done.err and api.requests == []


def test_output_that_cannot_be_written_fails(api, run_dir):
    api.answer = (200, STATUS)
    with open("/dev/full", "wb") as full:
        done = subprocess.run([LBCTL, "status"], stdout=full, stderr=subprocess.PIPE, env=environment(run_dir))
    assert done.returncode == 1 and b"cannot write: No space left" in done.stderr
