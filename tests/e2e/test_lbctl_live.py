# SPDX-License-Identifier: BSD-3-Clause
"""lbctl against the real thing: every command that shows something tells what the API and the wire say."""
import json

import pytest

from lab import CLIENT, VIP, sigkill, wait_for

SHOWS = {"status": "/v1/status", "service list": "/v1/services", "service show web": "/v1/services/web",
         "backend list": "/v1/backends", "backend list web": "/v1/backends?service=web", "stats": "/v1/stats",
         "drops": "/v1/drops", "events": "/v1/events", "flows": "/v1/flows", "config": "/v1/config"}


def keys(document):
    """The shape of a JSON document: its keys, all the way down (of lists, the first element's)."""
    if isinstance(document, dict):
        return {key: keys(value) for key, value in document.items()}
    return [keys(document[0])] if isinstance(document, list) and document else None


@pytest.mark.parametrize("command", SHOWS)
def test_json_is_the_apis(shared_lab, command):
    assert keys(shared_lab.lbctl_json(*command.split())) == keys(shared_lab.api(SHOWS[command]))


@pytest.mark.parametrize("command", list(SHOWS) + ["version"])
def test_text_form_shows_something(shared_lab, command):
    done = shared_lab.lbctl(*command.split())
    assert done.stdout.strip() and not done.stderr


def test_trace_tells_where_the_connection_goes(shared_lab):
    # Before the connection is made: which server will answer it?
    for port in range(30000, 30010):
        trace = shared_lab.lbctl_json("trace", f"{CLIENT}:{port}", f"{VIP}:80/tcp")
        assert (trace["service"], trace["verdict"], trace["decision"]) == ("web", "forward", "slot")
        report = shared_lab.traffic("requests", VIP, 80, "--count", 1, "--source", CLIENT, "--source-port", port)
        assert report["backends"] == {trace["backend"]: 1}


def test_counters_count_what_was_sent(shared_lab):
    before = shared_lab.backend_list("dns")
    shared_lab.traffic("udp", VIP, 53, "--flows", 100, "--repeat", 2)
    after = wait_for(lambda: (lambda now: now if sum(
        now[n]["counters"]["out_pkts"] - before[n]["counters"]["out_pkts"] for n in now) == 200 else None)(
            shared_lab.backend_list("dns")), "200 answers to be counted")

    def grown(key):
        return sum(after[name]["counters"][key] - before[name]["counters"][key] for name in after)

    assert (grown("in_pkts"), grown("new_flows"), grown("active_flows")) == (200, 100, 100)


def test_exit_status(lab):
    assert lab.lbctl("status", check=False).returncode == 0
    assert lab.lbctl("backend", "drain", "web", "nobody", check=False).returncode == 1
    assert lab.lbctl("frobnicate", check=False).returncode == 2
    sigkill(lab.dataplane)
    wait_for(lambda: lab.lbctl("status", check=False).returncode == 4, "status 4")
    # A change is still accepted, and waits for the data plane.
    done = lab.lbctl("--json", "backend", "set", "web", "api-1", "weight=4", check=False)
    assert json.loads(done.stdout)["live"] is False
    sigkill(lab.control)
    assert lab.lbctl("status", check=False).returncode == 3
    lab.start_dataplane()
    lab.start_control()
    lab.wait_ready()
    assert lab.backend_list("web")["api-1"]["weight"] == 4


def test_backend_drain_waits_until_nobody_is_left(shared_lab):
    lab = shared_lab
    report = lab.traffic("udp", VIP, 53, "--flows", 100, "--repeat", 1)  # some to each of the four
    assert len(report["flows"]) == 100
    done = lab.lbctl("backend", "drain", "dns", "api-1", "--wait", "500ms", check=False)
    assert done.returncode == 1, "UDP flows live for 30 s: it gives up"
    assert lab.lbctl_json("flows", "flush", "dns", "api-1")["n_flows"] > 0
    lab.lbctl("backend", "drain", "dns", "api-1", "--wait", "10s")
    lab.lbctl("backend", "enable", "dns", "api-1")
