# SPDX-License-Identifier: BSD-3-Clause
"""What a backend says of itself by an agent changes what it gets; the words are HAProxy's."""
import os
import socketserver
import threading

from api_daemon import Daemon, wait_for
from netns import Namespace


class Agent:
    """Says `line` to everybody who connects; a context manager."""

    def __init__(self, address, line):
        self.line, self.heard = line, b""
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                outer.heard = self.request.recv(100)
                self.request.sendall(outer.line.encode() + b"\n")

        socketserver.TCPServer.allow_reuse_address = True
        self.server = socketserver.ThreadingTCPServer((address, 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_agent_sets_weight_and_state():
    namespace = Namespace(f"fcagent-{os.getpid()}")
    try:
        namespace.ip("addr add 10.98.0.1/32 dev lo")
        with namespace.entered(), Agent("10.98.0.1", "50% up") as agent:
            config = {
                "gateway": {"mac": "02:00:00:00:00:01", "port": 0},
                "services": [{"name": "web", "vip": "203.0.113.10", "port": 443, "protocol": "tcp", "table_size": 10007,
                              "health_check": {"type": "none"},
                              "agent": {"port": agent.port, "interval": "100ms", "send": "how?\\n"},
                              "backends": [{"name": "a", "address": "10.98.0.1", "weight": 100},
                                           {"name": "b", "address": "10.98.0.2", "weight": 100}]}]}
            with Daemon(config) as daemon:
                daemon.start()

                def until(condition):
                    wait_for(lambda: condition(daemon.backend("web", "a")), lambda: daemon.backend("web", "a"))

                # the other one's agent is not there: its weight is the configured one
                until(lambda b: 0.30 < b["share"] < 0.37)
                assert daemon.backend("web", "a")["weight"] == 100
                assert agent.heard == b"how?\n"
                for line, condition, effective in (("drain", "draining", "drain"), ("maint", "disabled", "down"),
                                                   ("ready", "up", "up"), ("fail # disk", "down", "down"),
                                                   ("what?", "down", "down"), ("up 100%", "up", "up")):
                    agent.line = line
                    until(lambda b, line=line: b["agent"]["says"] == line or line in (b["agent"]["reason"] or ""))
                    until(lambda b, c=condition, e=effective: (b["condition"], b["effective"]) == (c, e))
                until(lambda b: 0.49 < b["share"] < 0.51)
                agent.line = "0%"
                until(lambda b: b["share"] == 0)
                causes = {e["cause"] for e in daemon.get("/v1/events")["events"] if e["kind"] == "backend_weight"}
                assert {"agent: 50% up", "agent: 0%"} <= causes
                daemon.call("PATCH", "/v1/services/web", {"agent": None})
                until(lambda b: b["agent"] is None and 0.49 < b["share"] < 0.51)
    finally:
        namespace.delete()
