# SPDX-License-Identifier: BSD-3-Clause
"""lbctl with the real lb-control: first without a data plane, then in the lab. Also holds the answers that the
other tests of lbctl are made with against those of the daemon."""
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import tempfile

import pytest

from lab import CLIENT, VIPS, wait_for
from lbctl_server import (
    BUILD, CHANGE, DROPS, EVENTS, FLOWS, FLUSHED, LBCTL, LISTED, SERVICES, SHOWN, STATS, STATUS, TOP, TRACE, VERSION,
    environment, lbctl, rows)

CONFIG = """services:
  - name: web
    vip: 203.0.113.10
    port: 443
    protocol: tcp
    mode: nat
    health_check: {type: none}
    backends:
      - {name: api-1, address: 10.0.0.11, port: 8080, weight: 5}
      - {name: api-2, address: 10.0.0.12, port: 8080, weight: 3}
"""


class Daemon:
    """lb-control alone, for `lbctl --instance NAME`."""

    def __init__(self):
        self.run_dir = pathlib.Path(tempfile.mkdtemp(prefix="lbctl-"))
        self.instance = f"lbctl-{os.getpid()}"
        self.config = self.run_dir / "fulcrum.yaml"
        self.config.write_text(CONFIG)
        self.process = None

    def start(self):
        with open(self.run_dir / "log", "ab") as log:
            self.process = subprocess.Popen(
                [BUILD / "control/lb-control", "--instance", self.instance, "--config", self.config],
                stdout=log, stderr=log, env=environment(self.run_dir))
        wait_for(lambda: self.run("version", "--json").out.find('"control": {') > 0,
                 lambda: (self.run_dir / "log").read_text(), 20, 0.05)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0, (self.run_dir / "log").read_text()

    def run(self, *args, **kwargs):
        return lbctl(self.run_dir, "--instance", self.instance, *args, **kwargs)

    def ok(self, *args, status=0, **kwargs):
        done = self.run(*args, **kwargs)
        assert done.returncode == status, (args, done)
        return done

    def json(self, *args, status=0):
        return json.loads(self.ok("--json", *args, status=status).stdout)


@pytest.fixture
def daemon():
    daemon = Daemon()
    try:
        daemon.start()
        yield daemon
        daemon.stop()
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        shutil.rmtree(daemon.run_dir)


@pytest.fixture
def run_dir():
    path = pathlib.Path(tempfile.mkdtemp(prefix="lbctl-"))
    yield path
    shutil.rmtree(path)


def missing(expected, got, path=""):
    """Keys of @expected that @got has not, at any depth; null on either side stands for anything."""
    if expected is None or got is None:
        return []
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return [path]
        return [m for key in expected for m in (
            missing(expected[key], got[key], f"{path}.{key}") if key in got else [f"{path}.{key}"])]
    if isinstance(expected, list):
        if not isinstance(got, list):
            return [path]
        return [m for i, item in enumerate(got) for m in missing(expected[0], item, f"{path}[{i}]")]
    same = isinstance(got, (int, float)) if isinstance(expected, (int, float)) else isinstance(got, type(expected))
    return [] if same or path.endswith(".port") else [f"{path}: {got!r} is of another type than {expected!r}"]


def test_the_comparison_finds_differences():
    assert missing({"a": [{"b": 1}]}, {"a": [{"b": 2}, {"c": 2}]}) == [".a[1].b"]
    assert missing({"a": 1}, {"a": "1"}) and missing({"a": {}}, {"a": []}) and not missing({"a": 1}, {"a": None, "b": 0})


def test_answers_have_the_keys_and_types_of_the_documentation(daemon):
    for args, expected, status in [
            (["status"], STATUS, 4), (["service", "list"], SERVICES, 0), (["service", "show", "web"], SHOWN, 0),
            (["backend", "list"], LISTED, 0), (["backend", "list", "web"], LISTED, 0), (["stats"], STATS, 4),
            (["drops"], DROPS, 4), (["events"], EVENTS, 0), (["backend", "set", "web", "api-1", "weight=4"], CHANGE, 0),
            (["diff", str(daemon.config)], CHANGE, 0)]:
        expected = dict(expected, config={}) if "config" in expected else expected
        assert missing(expected, daemon.json(*args, status=status)) == [], args
    assert missing(VERSION, daemon.json("version")["control"]) == []


def test_each_view_is_shown_without_a_data_plane(daemon):
    out = daemon.ok("status", status=4).out
    assert re.search(r"^data plane +down for ", out, re.M)
    assert rows(out, "SERVICE")[0][:2] == ["web", "203.0.113.10:443/tcp"]
    assert [row[1] for row in rows(daemon.ok("backend", "list").out, "SERVICE")] == ["api-1", "api-2"]
    assert "health_check.type=none" in daemon.ok("service", "show", "web").out
    assert "daemon_started" in daemon.ok("events").out
    for args in (["stats"], ["drops"]):
        assert daemon.ok(*args, status=4).out
    for args in (["flows"], ["flows", "flush", "web"], ["trace", "198.51.100.7:1", "203.0.113.10:443/tcp"]):
        done = daemon.ok(*args, status=4)
        assert "data plane" in done.err and done.out == ""


def test_changes_are_made_and_shown(daemon):
    assert daemon.ok("service", "add", "dns", "[2001:db8::53]:all/udp", "health_check.type=none",
                     "idle_timeout=10s").out.startswith("+ service dns")
    daemon.ok("service", "set", "web", "min_healthy=2", "health_check.type=http", "health_check.expect_body=200")
    daemon.ok("backend", "add", "web", "10.0.0.13:8080", "--name", "api-3", "--weight", "2", "--tier", "1")
    daemon.ok("backend", "add", "dns", "[2001:db8::1]")
    daemon.ok("backend", "add", "web", "10.0.0.14:80")
    daemon.ok("backend", "set", "web", "10.0.0.14:80", "weight=9", "backup=true")
    daemon.ok("backend", "set", "web", "10.0.0.14:80", "tier=2")
    daemon.ok("backend", "drain", "web", "api-1")
    daemon.ok("backend", "disable", "web", "api-2")
    daemon.ok("backend", "del", "web", "api-3")
    shown = daemon.json("service", "show", "web")
    assert shown["config"]["min_healthy"] == 2 and shown["config"]["health_check"]["expect_body"] == "200"
    assert {b["name"]: (b["state"], b["weight"], b["tier"]) for b in shown["backends"]} == {
        "api-1": ("drain", 5, 0), "api-2": ("disabled", 3, 0), "10.0.0.14:80": ("enabled", 9, 2)}
    assert daemon.json("service", "show", "dns")["service"]["port"] == "all"
    assert daemon.ok("backend", "drain", "web", "api-1").out == "no change\n"
    daemon.ok("backend", "enable", "web", "api-2")
    causes = "\n".join(e["cause"] or "" for e in daemon.json("events")["events"])
    assert "state disabled -> enabled" in causes
    daemon.ok("service", "del", "dns")
    assert [s["name"] for s in daemon.json("service", "list")["services"]] == ["web"]


def test_changes_outlive_the_daemon(daemon):
    daemon.ok("backend", "set", "web", "api-1", "weight=7")
    before = daemon.ok("config").stdout
    daemon.stop()
    daemon.start()
    assert daemon.ok("config").stdout == before and b"weight: 7" in before
    assert daemon.json("status", status=4)["control"]["resumed_changes"] == 1


def test_the_printed_config_applies_without_a_change(daemon):
    daemon.ok("service", "add", "dns", "203.0.113.53:53/udp", "idle_timeout=10s")
    daemon.ok("backend", "add", "dns", "10.0.0.53:53", "--weight", "0")
    saved = daemon.run_dir / "saved.yaml"
    saved.write_bytes(daemon.ok("config").stdout)
    assert daemon.ok("diff", str(saved)).out == "no change\n"
    as_json = daemon.run_dir / "saved.json"
    as_json.write_bytes(daemon.ok("config", "--json").stdout)
    assert daemon.ok("diff", str(as_json)).out == "no change\n"
    assert "- service dns" in daemon.ok("apply", "--dry-run", str(daemon.config)).out
    assert len(daemon.json("service", "list")["services"]) == 2
    assert "- service dns" in daemon.ok("apply", str(daemon.config)).out
    assert len(daemon.json("service", "list")["services"]) == 1


@pytest.mark.parametrize("args,where,reason", [
    (["service", "set", "web", "min_healthy=x"], "min_healthy", "x"),
    (["service", "set", "web", "table_size=65536"], "table_size", "prime"),
    (["service", "set", "web", "health_check.type=tcp", "health_check.fall=0"], "health_check.fall", "0"),
    (["service", "set", "web", "frob=1"], "", "frob"),
    (["backend", "set", "web", "api-1", "weight=300"], "weight", "300"),
    (["backend", "set", "web", "api-1", "weight="], "weight", ""),
    (["backend", "set", "web", "api-9", "weight=3"], "", "api-9"),
    (["backend", "add", "web", "10.0.0.11:8080"], "", "10.0.0.11:8080"),
    (["backend", "add", "web", "10.0.0.9:80", "--name", "api-1"], "", "taken"),
    (["backend", "add", "web", "[2001:db8::1]:80"], "", "IPv4"),
    (["service", "add", "x", "203.0.113.10:443/tcp"], "", "taken"),
    (["service", "add", "x", "203.0.113.11:443/sctp"], "protocol", "sctp"),
    (["service", "show", "nope"], "", "nope"),
    (["service", "del", ".."], "", ".."),
    (["backend", "list", "nope"], "", 'no service "nope"'),
    (["flows", "flush", "nope"], "", 'no service "nope"'),
    (["flows", "flush", "web", "nope"], "", 'no backend "nope" in service web'),
    (["trace", "198.51.100.7:99999", "203.0.113.10:443/tcp"], "src", "expected ADDRESS:PORT"),
    (["trace", "x:1", "203.0.113.10:443/tcp"], "src", "found x:1"),
    (["trace", "198.51.100.7:1", "203.0.113.10:443/sctp"], "proto", "expected tcp or udp, found sctp"),
    (["trace", "198.51.100.7:1", "[2001:db8::1]:1/tcp"], "dst", "source's family"),
    (["maintenance", "on"], "announce", "no announce.table"),
    (["service", "set", "web", "min_healthy=" + "9" * 400], "min_healthy", "1..65535"),
    (["service", "set", "web", "idle_timeout=99999999999999999999h"], "idle_timeout", "duration"),
    (["backend", "add", "web", "a\nb:80"], "address", "address"),
    (["backend", "add", "web", "münchen.example:80"], "address", "münchen.example"),
    (["backend", "add", "web", "10.0.0.9:80", "--name", "\033[2J"], "name", "found ?[2J"),
    (["backend", "add", "web", "10.0.0.9:80", "--name", "x" * 64], "name", "63"),
    (["service", "add", "x" * 100000, "203.0.113.11:443/tcp"], "", "4096 bytes"),
], ids=lambda v: "-".join(v)[:60] if isinstance(v, list) else "")
def test_refusals_name_place_and_reason_and_change_nothing(daemon, args, where, reason):
    before = daemon.ok("config").stdout
    done = daemon.ok(*args, status=1)
    assert done.err.startswith(f"lbctl: {where}") and reason in done.err and done.out == ""
    assert daemon.ok("config").stdout == before


def test_a_wrong_file_is_refused_with_its_line(daemon):
    bad = daemon.run_dir / "bad.yaml"
    bad.write_text(CONFIG.replace("weight: 3", "weight: 300"))
    for args in (["apply", str(bad)], ["diff", str(bad)], ["apply", "--dry-run", str(bad)]):
        done = daemon.ok(*args, status=1)
        assert re.match(rf"lbctl: {bad}:{CONFIG[:CONFIG.index('weight: 3')].count(chr(10)) + 1}: .*300", done.err)


NGINX = TOP / "tests" / "data" / "nginx"


@pytest.mark.parametrize("name", ["classic.conf", "full.conf", "nasty/nginx.conf"])
def test_what_is_imported_from_nginx_is_applied(daemon, name):
    imported = daemon.ok("import", "nginx", str(NGINX / name), "--vip", "203.0.113.7", "--vip6", "2001:db8::7")
    daemon.ok("apply", "-", stdin=imported.stdout)
    services = daemon.json("service", "list")["services"]
    made = daemon.json("import", "nginx", str(NGINX / name), "--vip", "203.0.113.7", "--vip6", "2001:db8::7")
    assert len(services) == made["n_services"] > 0
    assert [line.startswith("lbctl: ") and made["left_out"][0]["why"] in line for line in imported.err.splitlines()] == (
        [True] if made["left_out"] else [])
    assert sum(s["n_backends"] for s in services) <= made["n_backends"]  # host names have no addresses here
    assert "203.0.113.7" in {s["vip"] for s in services}


@pytest.mark.parametrize("word,n_words", [('""', 4000), ("'" + "x" * 2000 + "'", 50), ("\"\\\"\"", 3000)],
                         ids=["empty", "long", "escaped"])
def test_words_take_the_memory_of_their_length(run_dir, word, n_words):
    """4 MB of quoted words in 200 MB: each took what was left of the file at first."""
    text = ("x " + (word + " ") * n_words + ";\n").encode()
    (run_dir / "nginx.conf").write_bytes(text * (4_000_000 // len(text)))
    done = subprocess.run(
        [LBCTL, "import", "nginx", run_dir / "nginx.conf"], capture_output=True, timeout=60, env=environment(run_dir),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20)))
    assert done.returncode == 0, done.stderr


# In the lab: with a data plane, servers and traffic


def test_answers_of_the_data_plane_have_the_documented_keys(shared_lab):
    lab = shared_lab
    for args, expected in [
            (["status"], STATUS), (["service", "show", "web"], dict(SHOWN, config={})), (["stats"], STATS),
            (["flows"], FLOWS), (["flows", "web"], FLOWS), (["flows", "flush", "web", "api-4"], FLUSHED),
            (["trace", f"{CLIENT}:40000", f"{VIPS[4]}:80/tcp"], TRACE)]:
        assert missing(expected, lab.lbctl_json(*args)) == [], args
    status = lab.lbctl_json("status")["dataplane"]
    assert (status["n_services"], status["n_backends"]) == (4, 16)


def test_trace_names_the_backend_that_then_serves(shared_lab):
    lab = shared_lab
    for port in range(42000, 42010):
        traced = lab.lbctl_json("trace", f"{CLIENT}:{port}", f"{VIPS[4]}:80/tcp")
        before = {b["name"]: b["counters"]["new_flows"] for b in lab.backend_list("web").values()}
        lab.client.run("curl", "-sS", "--fail", "--max-time", 30, "--local-port", port, f"http://{VIPS[4]}/")
        after = {b["name"]: b["counters"]["new_flows"] for b in lab.backend_list("web").values()}
        assert [name for name in after if after[name] > before[name]] == [traced["backend"]]
        held = lab.lbctl_json("trace", "--mid-stream", f"{CLIENT}:{port}", f"{VIPS[4]}:80/tcp")
        assert held["decision"] == "entry" and held["backend"] == traced["backend"]


def test_trace_says_what_became_of_the_origin(shared_lab):
    lab = shared_lab

    def traced(backend, reason):
        def look():
            trace = lab.lbctl_json("trace", f"{CLIENT}:43000", f"{VIPS[4]}:5300/udp")
            return trace if trace["slot_backend"] == backend and reason in (trace["origin_reason"] or "") else None
        return wait_for(look, lambda: f"{backend}, {reason}: {lab.lbctl('trace', f'{CLIENT}:43000', f'{VIPS[4]}:5300/udp').stdout}")

    lab.lbctl("service", "add", "origin", f"{VIPS[4]}:5300/udp", "health_check.type=none", "idle_timeout=1h")
    try:
        lab.lbctl("backend", "add", "origin", "10.2.0.21:5300", "--name", "old")
        assert traced("old", "the slot has had no other backend within the idle timeout")["slot_age_s"] is None
        lab.lbctl("backend", "add", "origin", "10.2.0.22:5300", "--name", "new")
        lab.lbctl("backend", "disable", "origin", "old")
        wait_for(lambda: traced("new", "")["origin"] == "old", "old as the origin")
        assert traced("new", "")["origin_reason"] is None
        lab.lbctl("backend", "del", "origin", "old")
        assert traced("new", "not in the config any more")["origin"] is None
        lab.lbctl("service", "set", "origin", "idle_timeout=1s")
        traced("new", "longer ago than the idle timeout of 1 s")
    finally:
        lab.lbctl("service", "del", "origin")


def test_drain_waits_for_the_flows_of_the_data_plane(shared_lab):
    lab = shared_lab
    lab.lbctl("flows", "flush", "web")
    lab.get(f"http://{VIPS[4]}/")
    # curl is gone before both sides' FINs are at the balancer
    busy = wait_for(lambda: next((n for n, b in lab.backend_list("web").items() if b["counters"]["closing_flows"] == 1), None),
                    "the flow to close")
    done = lab.lbctl("backend", "drain", "web", busy, "--wait", "0s", check=False)
    assert done.returncode == 1 and "1 that is closing" in done.stderr
    # its client has closed: the entry stays for a minute or more, which nobody has to wait for
    done = lab.lbctl("backend", "drain", "web", busy, "--wait", "30s")
    assert done.stdout.endswith("0 active flows left, 1 closing\ndrained: no flow is left\n")
    assert lab.backend_list("web")[busy]["counters"]["closing_flows"] == 1
    lab.lbctl("backend", "enable", "web", busy)
    assert lab.effective("web")[busy] == "up"
