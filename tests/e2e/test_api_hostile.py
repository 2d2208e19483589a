# SPDX-License-Identifier: BSD-3-Clause
"""lb-control against clients that do as they please, and against its own surroundings: options, sockets, files."""
import json
import os
import random
import re
import socket
import stat
import subprocess
import time

import pytest

from api_daemon import BASIC, CONTROL, TOP, Connection, Daemon, wait_for

pytestmark = pytest.mark.smoke


@pytest.fixture
def daemon():
    with Daemon() as daemon:
        yield daemon


def run_to_end(daemon, *options, command=None):
    done = subprocess.run(command or daemon.command(*options), env=daemon.env, capture_output=True, text=True,
                          timeout=60)
    assert "Sanitizer" not in done.stderr, done.stderr
    return done


def raw(daemon):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(20)
    sock.connect(str(daemon.socket))
    return sock


# Clients


def test_garbage_on_the_socket_does_no_harm(daemon):
    daemon.start()
    rng = random.Random(1)
    pieces = [b"GET ", b"PUT ", b"/v1/status", b"/v1/%", b"?%zz=", b" HTTP/1.1", b" HTTP/9.9", b"\r\n", b"\n", b"\0",
              b"Content-Length: ", b"-1", b"99999999999999999999", b"Transfer-Encoding: chunked", b"ffffffffffffffff\r\n",
              b"Host: x", b": ", b"{", b"A" * 5000, bytes(range(256))]
    for _ in range(300):
        with raw(daemon) as sock:
            try:
                sock.sendall(b"".join(rng.choices(pieces, k=rng.randrange(1, 12))))
                if rng.random() < 0.5:
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(10000)
            except OSError:
                pass  # it may hang up at any time
    assert daemon.get("/v1/version")["api"] == 1


def test_random_documents_are_refused_or_taken_but_never_break_it(daemon):
    daemon.start()
    rng = random.Random(2)
    keys = ["name", "vip", "port", "protocol", "mode", "weight", "tier", "backup", "state", "address", "backends",
            "health_check", "type", "interval", "timeout", "min_healthy", "table_size", "idle_timeout", "\u20ac", ""]
    values = [None, True, -1, 0, 1, 3, 1e99, 2**53, "", "web", "api-1", "203.0.113.10", "10.0.0.11", "2001:db8::1", "tcp",
              "nat", "all", "2s", "\0", "x" * 300, "\ud83d\ude00", "drain", "enabled"]

    def document(depth):
        pick = rng.random()
        if depth > 0 and pick < 0.5:
            return {rng.choice(keys): document(depth - 1) for _ in range(rng.randrange(5))}
        if depth > 0 and pick < 0.6:
            return [document(depth - 1) for _ in range(rng.randrange(3))]
        return rng.choice(values)

    paths = [("POST", "/v1/services"), ("PATCH", "/v1/services/web"), ("POST", "/v1/services/web/backends"),
             ("PATCH", "/v1/services/web/backends/api-1"), ("PUT", "/v1/config"), ("POST", "/v1/diff"),
             ("POST", "/v1/flows/flush")]
    for _ in range(400):
        method, path = rng.choice(paths)
        body = {rng.choice(keys): document(3) for _ in range(rng.randrange(4))}
        status, _, text = daemon.request(method, path, body)
        assert status in (200, 201, 400, 404, 409, 503), (method, path, body, text)
    assert daemon.call("PUT", "/v1/config", BASIC)["dataplane"] == "down"


def test_headers_and_bodies_have_limits(daemon):
    daemon.start()
    with raw(daemon) as sock:
        sock.sendall(b"GET /v1/version HTTP/1.1\r\n")
        try:
            for _ in range(100):
                sock.sendall(b"X: " + b"y" * 1000 + b"\r\n")
            answer = sock.recv(1000)
        except OSError:
            answer = b""
        assert b"200" not in answer.split(b"\r\n")[0]
    with raw(daemon) as sock:
        sock.sendall(b"PUT /v1/config HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")
        assert b"413" in sock.recv(1000).split(b"\r\n")[0]
    # a large but allowed config is read whole and then judged
    error = daemon.refused("PUT", "/v1/config", 400, "invalid", "services:\n" + "# x\n" * 1_000_000)
    assert "request" in error["where"]


def test_an_error_on_the_last_line_changes_nothing(daemon):
    """The largest config that is promised."""
    lines = ["services:"]
    for i in range(4000):
        lines += [f"  - {{name: s-{i}, vip: 198.{18 + i // 32000}.{i // 250}.{i % 250 + 1}, port: 80, protocol: tcp, table_size: 31,",
                  "     health_check: {type: none}, backends: ["]
        lines += [f"      {{name: b-{j}, address: 10.{i % 250}.{i // 250}.{j}, port: 80}}," for j in range(1, 16)]
        lines += [f"      {{name: b-16, address: {f'10.{i % 250}.{i // 250}.16' if i < 3999 else '10.255.0.16'}, port: 80}}]}}"]
    daemon.start()
    before = daemon.get("/v1/config"), (daemon.run_dir / "state.json").read_bytes(), daemon.get("/v1/events")["last_seq"]
    services = [(s["id"], s["table"]) for s in daemon.get("/v1/services")["services"]]
    text = "\n".join(lines)
    for old, new, reason in (("10.255.0.16, port: 80}", "10.255.0.16, port: 80, wieght: 3}", "wieght"),
                             ("10.255.0.16", "10.0.0.1", "overlaps with backend b-1 of service s-0")):
        assert text.count(old) == 1
        error = daemon.refused("PUT", "/v1/config?file=big.yaml", 400, "invalid", text.replace(old, new))
        assert error["where"] == f"big.yaml:{len(lines)}" and reason in error["message"], error
    assert (daemon.get("/v1/config"), (daemon.run_dir / "state.json").read_bytes(),
            daemon.get("/v1/events")["last_seq"]) == before
    assert [(s["id"], s["table"]) for s in daemon.get("/v1/services")["services"]] == services


def test_silent_connections_leave_room_for_others(daemon):
    daemon.start()
    silent = [raw(daemon) for _ in range(100)]
    assert daemon.get("/v1/version")["api"] == 1
    for sock in silent:
        sock.close()
    # beyond the limit clients wait until others have gone
    silent = [raw(daemon) for _ in range(160)]
    with raw(daemon) as sock:
        sock.sendall(b"GET /v1/version HTTP/1.1\r\nConnection: close\r\n\r\n")
        for other in silent:
            other.close()
        assert b"200 OK" in sock.recv(1000)
    n_open = lambda: len(os.listdir(f"/proc/{daemon.control.pid}/fd"))  # noqa: E731
    wait_for(lambda: n_open() < 40, lambda: f"closing: {n_open()} files are open")


def test_many_requests_on_one_connection(daemon):
    daemon.start()
    connection = Connection(daemon.socket)
    for path, status in [("/v1/version", 200), ("/nothing", 404), ("/v1/status", 200), ("/v1/services/x", 404)] * 10:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == status
        answer.read()
    connection.close()


# Metrics

SAMPLE = re.compile(r'^fulcrum_[a-z0-9_]+(\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\})? -?[0-9]+(\.[0-9]+)?$')


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_listen_serves_metrics_and_what_only_shows(daemon):
    port = free_port()
    daemon.start("--listen", f"127.0.0.1:{port}")

    def fetch(request):
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            sock.sendall(request.encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := sock.recv(65536):
                answer += data
        return answer.decode()

    head, body = fetch("GET /metrics").split("\r\n\r\n", 1)
    assert "200 OK" in head and "text/plain; version=0.0.4" in head
    names = set()
    for line in body.splitlines():
        if line.startswith("# TYPE "):
            assert line.split()[2] not in names, f"twice: {line}"
            names.add(line.split()[2])
        elif not line.startswith("#"):
            assert SAMPLE.match(line), line
            name = re.split("[{ ]", line)[0]
            assert {name, re.sub("_(bucket|sum|count)$", "", name)} & names, line
    assert 'fulcrum_backend_up{service="web",backend="api-1"} 1' in body
    assert 'fulcrum_drops_total{reason="ttl_expired"} 0' in body
    assert "fulcrum_dataplane_up 0" in body
    assert daemon.request("GET", "/metrics")[2].decode().splitlines()[0] == body.splitlines()[0]
    head, body = fetch("GET /").split("\r\n\r\n", 1)
    assert "200 OK" in head and "default-src 'none'" in head and body.startswith("<!DOCTYPE html>")
    for path in ("version", "status", "services", "services/web", "backends", "stats", "drops", "events"):
        assert fetch(f"GET /v1/{path}").split()[1] == "200", path
    for request in ("GET /v1/config", "PUT /v1/config", "POST /v1/diff", "POST /v1/services", "PATCH /v1/services/web",
                    "DELETE /v1/services/web", "PATCH /v1/services/web/backends/api-1", "POST /v1/flows/flush",
                    "GET /v1/flows", "GET /v1/trace", "POST /metrics", "POST /", "GET //", "GET /v1", "GET /v1/"):
        assert fetch(request).split()[1] in ("404", "405"), request
    # nobody keeps one of the few connections of this side with a wait for the next event
    last = json.loads(fetch("GET /v1/events").split("\r\n\r\n", 1)[1])["last_seq"]
    assert json.loads(fetch(f"GET /v1/events?since={last}&wait=60").split("\r\n\r\n", 1)[1])["events"] == []
    # somebody who takes all connections of this side does not touch the API
    hogs = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(60)]
    assert daemon.get("/v1/version")["api"] == 1
    assert len(os.listdir(f"/proc/{daemon.control.pid}/fd")) < 80
    for hog in hogs:
        hog.close()
    assert "200 OK" in fetch("GET /metrics")


def test_listen_answers_only_under_names_of_its_own(daemon):
    """Against a page whose own name its owner lets resolve to our address (DNS rebinding)."""
    port = free_port()
    daemon.start("--listen", str(port), "--allow-host", "edge.example.com", "--allow-host", "lb")

    def status_of(host, path="/v1/status"):
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            lines = [f"GET {path} HTTP/1.0"] + ([f"Host: {host}"] if host is not None else [])
            sock.sendall("\r\n".join(lines + ["", ""]).encode())
            answer = b""
            while data := sock.recv(65536):
                answer += data
        head, body = answer.split(b"\r\n\r\n", 1)
        if b" 421 " in head.split(b"\r\n")[0]:
            error = json.loads(body)["error"]
            assert (error["code"], error["where"]) == ("wrong_host", "Host") and "--allow-host" in error["message"]
        return int(head.split()[1])

    for host in (None, "localhost", "LocalHost:80", f"127.0.0.1:{port}", "192.0.2.7", "[::1]", f"[2001:db8::1]:{port}",
                 "edge.example.com", f"Edge.Example.com:{port}", "edge.example.com.", "lb", socket.gethostname()):
        assert status_of(host) == 200, host
    for host in ("attacker.example", f"attacker.example:{port}", "localhost.attacker.example", "127.0.0.1.attacker.example",
                 "edge.example.com.attacker.example", "", "[::1", "[::1]x", "127.0.0.1:80@attacker.example", "1.2.3", "x" * 300,
                 "attacker.example:80:80", "lb:80x"):
        assert status_of(host) == 421, host
    for path in ("/", "/metrics", "/v1/events", "/nowhere"):
        assert status_of("attacker.example", path) == 421, path
    assert daemon.get("/v1/version", headers={"Host": "attacker.example"})["api"] == 1  # no browser gets at a socket


def test_long_answers_stop_nobody(daemon):
    """Thousands of backends, told to one who reads, one who does not, one who leaves, and while they go away."""
    services = [{"name": f"s-{i}", "vip": f"198.18.0.{i + 1}", "port": 80, "protocol": "tcp", "table_size": 31,
                 "health_check": {"type": "none"},
                 "backends": [{"name": f"b-{j}", "address": f"10.{i}.{j // 250}.{j % 250 + 1}", "port": 80}
                              for j in range(20)]} for i in range(200)]
    daemon.write({"services": services})
    daemon.start()
    names = [(s["name"], b["name"]) for s in services for b in s["backends"]]

    def ask():
        sock = raw(daemon)
        sock.sendall(b"GET /v1/backends HTTP/1.0\r\n\r\n")
        return sock
    stuck, leaver = ask(), ask()
    leaver.close()
    assert [(b["service"], b["name"]) for b in daemon.get("/v1/backends")["backends"]] == names
    assert [(b["service"], b["name"]) for b in daemon.get("/v1/backends?service=s-7")["backends"]] == \
        [name for name in names if name[0] == "s-7"]
    with ask() as reader:
        daemon.call("DELETE", "/v1/services/s-100")
        answer = b""
        while data := reader.recv(1 << 20):
            answer += data
    told = [(b["service"], b["name"]) for b in json.loads(answer.split(b"\r\n\r\n", 1)[1])["backends"]]
    assert set(names) - set(told) <= {name for name in names if name[0] == "s-100"}
    assert told == [name for name in names if name in set(told)]
    stuck.close()


# Surroundings


def test_the_socket_is_for_owner_and_group(daemon):
    daemon.start()
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660
    assert stat.S_IMODE((daemon.run_dir / "state.json").stat().st_mode) == 0o600
    daemon.stop()
    assert not daemon.socket.exists()


def test_one_daemon_per_instance(daemon):
    daemon.start()
    done = run_to_end(daemon)
    assert done.returncode == 1 and "another lb-control" in done.stderr
    assert daemon.get("/v1/version")["api"] == 1


def test_a_socket_left_by_a_dead_daemon_is_replaced(daemon):
    daemon.start()
    daemon.stop(9)
    assert daemon.socket.exists()
    daemon.start()


def test_a_foreign_file_in_the_place_of_the_socket_is_left_alone(daemon):
    daemon.run_dir.mkdir(parents=True)
    daemon.socket.write_text("precious")
    done = run_to_end(daemon)
    assert done.returncode == 1 and "not a socket" in done.stderr
    assert daemon.socket.read_text() == "precious"


BAD_OPTIONS = [
    ([], 2, "--config FILE is missing"), (["--config"], 2, "'--config' requires an argument"),
    (["--config", "x", "more"], 2, 'unexpected argument "more"'), (["--frobnicate"], 2, "'--frobnicate'"),
    (["--config", "x", "--instance", "No Such"], 2, "instance name"),
    (["--config", "x", "--instance", "../up"], 2, "instance name"),
    (["--config", "/nonexistent/file"], 1, "/nonexistent/file"),
    (["--config", "/"], 1, "cannot be read"),
]


@pytest.mark.parametrize("options,status,message", BAD_OPTIONS, ids=[" ".join(o[0]) or "none" for o in BAD_OPTIONS])
def test_bad_options_are_refused(daemon, options, status, message):
    done = run_to_end(daemon, command=[CONTROL, *options])
    assert done.returncode == status and message in done.stderr, done.stderr


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "192.0.2.1:9100", "0", "99999"])
def test_bad_listen_addresses_are_refused(daemon, address):
    done = run_to_end(daemon, "--listen", address)
    assert done.returncode == 1 and address in done.stderr


def test_a_bad_config_ends_the_start_with_file_line_and_reason(daemon):
    daemon.write("services:\n  - name: web\n    vip: 203.0.113.10\n    port: 70000\n    protocol: tcp\n"
                 "    backends: [{address: 10.0.0.1, port: 1}]\n")
    done = run_to_end(daemon)
    assert done.returncode == 1 and f"{daemon.config_file}:4" in done.stderr and "70000" in done.stderr


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "not ours"])
def test_a_damaged_state_file_is_reported_set_aside_and_ignored(daemon, damage):
    daemon.start()
    daemon.call("PATCH", "/v1/services/web/backends/api-1", {"weight": 7})
    daemon.stop()
    path = daemon.run_dir / "state.json"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes({"truncate": content[:-10], "flip": content, "empty": b"", "not ours": b'{"config": {}}'}[damage])
    daemon.start()
    assert daemon.backend("web", "api-1")["weight"] == 5
    assert f"{path} is ignored" in daemon.log.read_text()
    assert (daemon.run_dir / "state.json.corrupt").exists()


def test_a_change_that_cannot_be_saved_is_refused(daemon):
    daemon.start()
    (daemon.run_dir / "state.json.new").mkdir()  # cannot be opened for writing, not even by root
    error = daemon.refused("PATCH", "/v1/services/web/backends/api-1", 500, "internal", {"weight": 7})
    assert "state.json" in error["message"]
    assert daemon.backend("web", "api-1")["weight"] == 5
    (daemon.run_dir / "state.json.new").rmdir()
    daemon.call("PATCH", "/v1/services/web/backends/api-1", {"weight": 7})


def test_systemd_is_told(daemon):
    path = daemon.dir / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(20)
        daemon.env["NOTIFY_SOCKET"] = str(path)
        daemon.start()
        assert b"READY=1" in sock.recv(1000)
        daemon.control.send_signal(1)
        assert b"RELOADING=1" in sock.recv(1000)
        assert b"READY=1" in sock.recv(1000)
        assert daemon.stop() == 0
        assert b"STOPPING=1" in sock.recv(1000)


def test_it_stops_at_once_with_clients_waiting(daemon):
    daemon.start()
    last = daemon.get("/v1/events")["last_seq"]
    waiting = []
    for _ in range(10):
        connection = Connection(daemon.socket)
        connection.request("GET", f"/v1/events?since={last}&wait=60")
        waiting.append(connection)
    time.sleep(0.2)
    assert daemon.stop() == 0
    for connection in waiting:
        connection.close()


def test_the_grafana_dashboard_asks_for_metrics_that_exist(daemon):
    daemon.start()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)", daemon.request("GET", "/metrics")[2].decode(), re.M))
    exported = {name + "_bucket" if kind == "histogram" else name for name, kind in types.items()}
    board = json.loads((TOP / "scripts" / "grafana-dashboard.json").read_text())
    expressions = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    asked = set(re.findall(r"fulcrum_\w+", " ".join(expressions)))
    assert len(asked) > 20 and asked <= exported, asked - exported
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_promtool_understands_what_the_grafana_dashboard_asks(tmp_path):
    board = json.loads((TOP / "scripts" / "grafana-dashboard.json").read_text())
    rules = [{"record": f"x:panel_{panel['id']}_{target['refId']}",
              "expr": target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$service", ".*")}
             for panel in board["panels"] for target in panel["targets"]]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and f"{len(rules)} rules found" in done.stdout, done


def test_promtool_finds_nothing_wrong_with_the_metrics(daemon):
    daemon.start()
    done = subprocess.run(["promtool", "check", "metrics"], input=daemon.request("GET", "/metrics")[2],
                          capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
