# SPDX-License-Identifier: BSD-3-Clause
"""For the tests of lbctl: a server of our own on a Unix socket, and answers as docs/api.md has them.

    lbctl ----HTTP over RUN_DIR/default/control.sock----> server (a thread of the test)
"""
import http.server
import json
import os
import pathlib
import re
import select
import socketserver
import subprocess
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FULCRUM_BUILD", TOP / "build"))
LBCTL = BUILD / "control" / "lbctl"
NOW_NS = 1753790000123456789
S = 10**9


def counters(**values):
    return {"in_pkts": 1000, "in_bytes": 64000, "out_pkts": 900, "out_bytes": 900000, "new_flows": 10,
            "active_flows": 4, "closing_flows": 1, "resets": 1, **values}


def backend(name, **values):
    doc = {
        "service": "web", "name": name, "id": 17, "address": "10.0.0.11", "port": 8080, "weight": 5, "tier": 0,
        "host": None, "agent": None, "condition": "up", "condition_reason": None,
        "state": "enabled", "effective": "up", "since_ns": NOW_NS - 7500 * S, "slots": 32768, "share": 0.49999,
        "weight_percent": 100,
        "health": {"type": "http", "state": "up", "reason": "ok: HTTP 200", "last_ns": NOW_NS - S, "last_duration_us": 812,
                   "n_checks": 100, "n_failed": 1, "n_successes": 90, "n_failures": 0},
        "nexthop": {"id": 3, "resolved": True, "address": "10.0.0.11", "mac": "02:00:00:00:00:11", "port": 0,
                    "reason": None},
        "counters": counters(),
    }
    doc.update(values)
    return doc


DOWN = backend("api-2", effective="down", share=0.0, slots=0, address="2001:db8::12", weight=3)
DOWN["health"] = dict(DOWN["health"], state="down", reason="connection refused")
DOWN["nexthop"] = dict(DOWN["nexthop"], resolved=False, reason="neighbour unknown")
BACKENDS = [backend("api-1"), DOWN, backend("10.0.0.13:80", effective="drain", state="drain", port=0)]

SERVICE = {
    "name": "web", "id": 0, "vip": "203.0.113.10", "port": 443, "protocol": "tcp", "mode": "nat",
    "scheduler": "maglev", "on_empty": "drop", "state": "degraded", "n_backends": 3, "n_up": 1, "n_drain": 1,
    "n_down": 1, "active_tier": 0, "health_ignored": None, "tracking": "all", "tracking_now": "all",
    "vip_local": False,
    "table": {"n_slots": 65537, "version": 12, "published": True, "n_pending_moves": 0}, "counters": counters(no_backend_pkts=7),
}
SERVICE6 = dict(SERVICE, name="dns", vip="2001:db8::10", port="all", protocol="udp", state="ok", active_tier=None)
WORKER = {"id": 0, "lcore": 1, "rx_pkts": 100, "rx_bytes": 6400, "tx_pkts": 90, "tx_bytes": 5400, "polls": 1000,
          "polls_idle": 750, "events_lost": 0, "flows_used": 4}
PORT = {"id": 0, "name": "net_af_packet0", "driver": "net_af_packet", "ifindex": 7, "ifname": "lb0", "link_up": True,
        "speed_mbps": 10000, "mtu": 1500, "mac": "02:00:00:00:00:01", "n_queues": 2, "rx_pkts": 100,
        "rx_bytes": 6400, "tx_pkts": 90, "tx_bytes": 5400, "rx_missed_pkts": 1, "rx_error_pkts": 0,
        "rx_nombuf_pkts": 2, "tx_error_pkts": 0}
SESSIONS = {"used": 3, "max": 131072, "insert": 10, "expire": 7, "evict": 6, "full": 1, "ports_exhausted": 2, "handed_over": 5,
            "taken_over": 4, "toa_added": 9, "toa_no_room": 0, "toa_removed": 0, "proxy_headers": 0}
LOCALS = [{"address": "192.0.2.10", "usable": True, "ports_used": 3, "ports_free": 64509, "ports_exhausted": 2},
          {"address": "2001:db8::10", "usable": False, "ports_used": 1, "ports_free": 0, "ports_exhausted": 0}]
FULLNAT = {"sessions": SESSIONS, "locals": LOCALS, "workers": [{"id": 0, "sessions": SESSIONS, "locals": LOCALS}]}
REFUSED = {"op": "BACKEND_SET", "subject": "backend web/api-1", "error": "no space left on device",
           "time_ns": NOW_NS - 65 * S}

STATUS = {
    "timestamp_ns": NOW_NS, "instance": "default",
    "control": {"version": "0.1.0", "pid": 812, "started_ns": NOW_NS - 100 * S,
                "config_file": "/etc/fulcrum/fulcrum.yaml", "resumed_changes": 2, "n_services": 1, "n_backends": 3,
                "state_file": "/run/fulcrum/default/state.json"},
    "dataplane": {"state": "up", "reason": None, "since_ns": NOW_NS - 200 * S, "version": "0.1.0", "pid": 790,
                  "boot_id": "9f86d081884c7d65", "started_ns": NOW_NS - 300 * S, "heartbeat_age_ms": 40,
                  "hash_impl": "aes-ni", "n_workers": 2, "n_services": 1, "n_backends": 3, "n_commands": 31,
                  "n_commands_refused": 1, "n_ring_corrupt": 0, "n_pending": 0,
                  "flows": {"used": 1200, "max": 2097152, "adopted": 0}, "refused": [REFUSED], "fullnat": FULLNAT,
                  "workers": [WORKER], "ports": [PORT]},
    "services": [SERVICE, SERVICE6],
    "names": [{"name": "api-3.internal", "state": "resolved", "reason": None, "last_ns": NOW_NS, "next_ns": NOW_NS,
               "addresses": [{"address": "10.0.0.13", "gone": False, "since_ns": NOW_NS}]}],
    "warnings": [{"where": "ports", "message": "port 0 names interface lb9, which is not there", "hint": "look at ip link"}],
}
CONFIG = {"services": [{"name": "web", "vip": "203.0.113.10", "port": 443, "protocol": "tcp", "mode": "nat", "min_healthy": 1,
                        "health_check": {"type": "http", "interval": "2s"},
                        "backends": [{"name": "api-1", "address": "10.0.0.11", "port": 8080, "weight": 5}]}]}
YAML = "services:\n  - name: web\n    vip: 203.0.113.10\n"
STATS = {
    "timestamp_ns": NOW_NS, "dataplane": "up", "boot_id": "9f86d081884c7d65",
    "totals": {"rx_pkts": 1000, "rx_bytes": 64000, "tx_pkts": 990, "tx_bytes": 63000, "forward_pkts": 500,
               "reply_pkts": 490, "host_pkts": 1, "echo_pkts": 0, "drop_pkts": 9, "flows_used": 4, "flows_max": 2097152},
    "flow": {"hit": 900, "miss": 100, "insert": 100, "expire": 5, "evict": 0, "insert_failed": 0, "origin": 3,
             "moved": 2, "tracking_changes": 0, "reset": 1, "reset_lost": 0},
    "answers": {"echo": 0, "too_big": 0, "ttl_expired": 0, "unreachable": 0, "reset": 0, "limited": 0},
    "fullnat": FULLNAT, "workers": [WORKER], "ports": [PORT],
    "services": [{"name": "web", "counters": counters(no_backend_pkts=7),
                  "backends": [{"name": "api-1", "effective": "up", "weight": 5, "counters": counters()},
                               {"name": "api-2", "effective": "down", "weight": 3, "counters": counters()}]}],
}
DROPS = {"timestamp_ns": NOW_NS, "dataplane": "up", "total_pkts": 12,
         "drops": [{"reason": "truncated_l2", "meaning": "frame too short", "pkts": 0},
                   {"reason": "ttl_expired", "meaning": "TTL or hop limit would reach 0", "pkts": 3},
                   {"reason": "fragment", "meaning": "an IP fragment", "pkts": 9}],
         "other": [{"reason": "forward", "meaning": "client to backend, forwarded", "pkts": 500}]}
EVENTS = {"first_seq": 1, "last_seq": 57, "n_lost": 0, "events": [
    {"seq": 56, "time_ns": NOW_NS - S, "kind": "config_applied", "subject": "config", "from": None, "to": None,
     "cause": "api: ~ service web backend api-1: weight 5 -> 3"},
    {"seq": 57, "time_ns": NOW_NS, "kind": "backend_state", "subject": "backend web/api-2", "from": "up",
     "to": "down", "cause": "health: connection refused"}]}
TRACE = {"src": "198.51.100.7:40000", "dst": "203.0.113.10:443", "proto": "tcp", "syn": True, "service": "web",
         "backend": "api-1", "verdict": "forward", "meaning": "client to backend, forwarded", "decision": "slot",
         "why": "slot 4711 of 65537 belongs to api-1, unchanged", "hash": "0123456789abcdef", "slot": 4711,
         "n_slots": 65537, "slot_backend": "api-1", "slot_age_s": 75, "origin": "api-3", "origin_reason": None,
         "table_version": 12,
         "entry": {"worker": 0, "state": "established", "age_s": 3, "local": "192.0.2.10:1055"}}
FLOWS = {"timestamp_ns": NOW_NS, "dataplane": "up", "flows_used": 1200, "flows_max": 2097152,
         "services": [{"name": "web", "active_flows": 1200, "backends": [
             {"name": "api-1", "effective": "up", "active_flows": 200},
             {"name": "api-2", "effective": "up", "active_flows": 1000}]}]}
SESSION_LIST = {"timestamp_ns": NOW_NS, "dataplane": "up", "complete": False, "sessions": [
    {"service": "web", "backend": "api-1", "protocol": "tcp", "client": "198.51.100.7:40000", "vip": "203.0.113.10:443",
     "local": "192.0.2.10:1055", "endpoint": "10.0.0.11:8443", "state": "established", "idle_s": 75, "worker": 1}]}
FLUSHED = {"service": "web", "backend": None, "n_flows": 600}
CHANGE = {"changes": [{"sign": "~", "path": "service web backend api-1", "text": "weight 5 -> 3"},
                      {"sign": "+", "path": "service dns", "text": ""},
                      {"sign": "-", "path": "service old", "text": ""}],
          "n_changes": 3, "dry_run": False, "dataplane": "up", "live": True, "refused": [], "warnings": []}
DRY_RUN = dict(CHANGE, dry_run=True, live=False)
VERSION = {"version": "0.1.0", "api": 1, "instance": "default"}
SERVICES = {"timestamp_ns": NOW_NS, "dataplane": "up", "services": [SERVICE, SERVICE6]}
SHOWN = {"timestamp_ns": NOW_NS, "dataplane": "up", "service": SERVICE, "config": CONFIG["services"][0],
         "backends": BACKENDS}
LISTED = {"timestamp_ns": NOW_NS, "dataplane": "up", "backends": BACKENDS}

# Every command that asks the daemon, with the request that it makes and an answer to it. FILE stands for a file.
COMMANDS = [
    (["status"], "GET", "/v1/status", STATUS),
    (["service", "list"], "GET", "/v1/services", SERVICES),
    (["service", "show", "web"], "GET", "/v1/services/web", SHOWN),
    (["service", "add", "dns", "203.0.113.53:53/udp"], "POST", "/v1/services", CHANGE),
    (["service", "set", "web", "min_healthy=2"], "PATCH", "/v1/services/web", CHANGE),
    (["service", "del", "web"], "DELETE", "/v1/services/web", CHANGE),
    (["backend", "list"], "GET", "/v1/backends", LISTED),
    (["backend", "list", "web"], "GET", "/v1/backends?service=web", LISTED),
    (["backend", "add", "web", "10.0.0.15:8080"], "POST", "/v1/services/web/backends", CHANGE),
    (["backend", "set", "web", "api-1", "weight=3"], "PATCH", "/v1/services/web/backends/api-1", CHANGE),
    (["backend", "del", "web", "api-1"], "DELETE", "/v1/services/web/backends/api-1", CHANGE),
    (["backend", "drain", "web", "api-1"], "PATCH", "/v1/services/web/backends/api-1", CHANGE),
    (["backend", "enable", "web", "api-1"], "PATCH", "/v1/services/web/backends/api-1", CHANGE),
    (["backend", "disable", "web", "api-1"], "PATCH", "/v1/services/web/backends/api-1", CHANGE),
    (["apply", "FILE"], "PUT", "/v1/config?file=FILE", CHANGE),
    (["apply", "--dry-run", "FILE"], "PUT", "/v1/config?dry_run=1&file=FILE", DRY_RUN),
    (["diff", "FILE"], "POST", "/v1/diff?file=FILE", DRY_RUN),
    (["config"], "GET", "/v1/config", CONFIG),
    (["stats"], "GET", "/v1/stats", STATS),
    (["stats", "--interval", "100ms"], "GET", "/v1/stats", STATS),
    (["drops"], "GET", "/v1/drops", DROPS),
    (["events"], "GET", "/v1/events?limit=1000", EVENTS),
    (["flows"], "GET", "/v1/flows", FLOWS),
    (["flows", "web", "--limit", "1"], "GET", "/v1/flows?service=web", FLOWS),
    (["flows", "--sessions"], "GET", "/v1/sessions?limit=100", SESSION_LIST),
    (["flows", "--sessions", "web", "--limit", "5"], "GET", "/v1/sessions?limit=5&service=web", SESSION_LIST),
    (["flows", "flush", "web"], "POST", "/v1/flows/flush", FLUSHED),
    (["trace", "198.51.100.7:40000", "203.0.113.10:443/tcp"], "GET",
     "/v1/trace?src=198.51.100.7%3A40000&dst=203.0.113.10%3A443&proto=tcp", TRACE),
]
IDS = ["-".join(c[0]) for c in COMMANDS]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers server.answer: (status, document or bytes), or a function of method, path and body that returns it."""

    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "lbctl"

    def log_message(self, *args):
        pass

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, body, self.headers.get("Content-Type")))
        answer = self.server.answer
        status, answer = answer(self.command, self.path, body) if callable(answer) else answer
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # lbctl was ended, as a test of it wants

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any


class RawHandler(socketserver.BaseRequestHandler):
    """Answers the bytes in server.answer, or lets it write to the socket, whatever is asked; then closes."""

    def handle(self):
        self.request.recv(65536)
        try:
            if callable(self.server.answer):
                self.server.answer(self.request)
            else:
                self.request.sendall(self.server.answer)
        except (BrokenPipeError, ConnectionResetError):
            pass


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 16


def start_server(run_dir, handler, answer, instance="default"):
    (run_dir / instance).mkdir(exist_ok=True)
    server = UnixServer(str(run_dir / instance / "control.sock"), handler)
    server.answer = answer
    server.requests = []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def stop_server(server):
    server.shutdown()
    server.server_close()
    os.unlink(server.server_address)


def environment(run_dir, **more):
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FULCRUM_RUN_DIR")}
    env.update({"FULCRUM_RUN_DIR": str(run_dir), "TZ": "UTC", "LC_ALL": "C", "TERM": "xterm", **more})
    return env


def lbctl(run_dir, *args, stdin=b"", timeout=60, **env):
    """Run it; the result has .out and .err as text beside .stdout and .stderr."""
    done = subprocess.run([LBCTL, *args], input=stdin, capture_output=True, timeout=timeout,
                          env=environment(run_dir, **env))
    done.out = done.stdout.decode("utf-8", "surrogateescape")
    done.err = done.stderr.decode("utf-8", "surrogateescape")
    return done


def harmless(text):
    """Nothing that a terminal would act on, apart from line ends."""
    return not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\udc80-\udcff]", text)


def with_file(args, run_dir):
    """@args with a file's name for FILE, and that name."""
    path = run_dir / "run.yaml"
    path.write_text(YAML)
    return [str(path) if a == "FILE" else a for a in args], str(path)


def rows(text, title):
    """The rows of the table whose first title is @title, split at two or more blanks."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if re.split(r"  +", line.strip())[0] == title)
    table = []
    for line in lines[first + 1:]:
        if not line:
            break
        table.append(re.split(r"  +", line.strip()))
    return table


def read_until(fd, pattern, seconds=30):
    """What comes out of @fd until @pattern is in it, or up to its end (None)."""
    data, end = b"", time.monotonic() + seconds
    while pattern is None or not re.search(pattern, data):
        ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
        if not ready:
            raise AssertionError(f"waited for {pattern!r}, got {data!r}")
        try:
            more = os.read(fd, 65536)
        except OSError:  # a terminal's other side has ended
            more = b""
        if not more:
            break
        data += more
    assert pattern is None or re.search(pattern, data), f"ended before {pattern!r}: {data!r}"
    return data
