# SPDX-License-Identifier: BSD-3-Clause
"""Backends given as host names: what a name server says becomes backends; what it fails to say changes nothing."""
import pytest

from api_daemon import Daemon, wait_for
from dns_server import NXDOMAIN, SERVFAIL, DnsServer

NAME = "api.example.com"


def config(port, **service):
    return {
        "gateway": {"mac": "02:00:00:00:00:01", "port": 0}, "resolvers": [f"127.0.0.1:{port}"],
        "resolve_min": "1s", "resolve_max": "1s",
        "services": [{"name": "web", "vip": "203.0.113.10", "port": 443, "protocol": "tcp", "table_size": 251,
                      "health_check": {"type": "none"},
                      "backends": [{"name": "api", "address": NAME, "port": 8080, "weight": 3},
                                   {"name": "fixed", "address": "10.9.0.9", "port": 8080}], **service}]}


@pytest.fixture
def dns():
    with DnsServer({NAME: ["10.9.0.1", "10.9.0.2", "10.9.0.3"]}) as server:
        yield server


def states(daemon):
    return {b["name"]: b["effective"] for b in daemon.get("/v1/backends")["backends"]}


def name_of(daemon):
    return daemon.get("/v1/status")["names"][0]


def events(daemon, kind):
    return [e for e in daemon.get("/v1/events")["events"] if e["kind"] == kind]


ALL = {"api/10.9.0.1": "up", "api/10.9.0.2": "up", "api/10.9.0.3": "up", "fixed": "up"}


def wait_states(daemon, expected):
    wait_for(lambda: states(daemon) == expected, lambda: f"{expected}, have {states(daemon)}")


def test_addresses_become_backends_and_go_when_no_flow_needs_them(dns):
    with Daemon(config(dns.port)) as daemon:
        daemon.start().start_dataplane()
        wait_states(daemon, ALL)
        assert {b["weight"] for b in daemon.get("/v1/backends")["backends"] if b["host"] == NAME} == {3}
        # the config is as it was written
        assert daemon.get("/v1/config")["services"][0]["backends"][0]["address"] == NAME
        assert daemon.get("/v1/services/web")["config"]["backends"][0]["address"] == NAME
        dns.records[NAME] = ["10.9.0.1", "10.9.0.3", "10.9.0.4"]
        wait_states(daemon, {**ALL, "api/10.9.0.2": "drain", "api/10.9.0.4": "up"})
        gone = daemon.backend("web", "api/10.9.0.2")
        assert (gone["condition"], gone["condition_reason"]) == ("draining", f"{NAME} has this address no more")
        # the data plane has no flow of it
        wait_states(daemon, {k: v for k, v in {**ALL, "api/10.9.0.4": "up"}.items() if k != "api/10.9.0.2"})
        assert events(daemon, "name_addresses")[-1]["cause"] == "-10.9.0.2 +10.9.0.4"
        # what one says of the name is said of its addresses
        daemon.call("PATCH", "/v1/services/web/backends/api", {"state": "drain"})
        assert {s for n, s in states(daemon).items() if n != "fixed"} == {"drain"}
        assert "api.example.com" in daemon.refused(
            "PATCH", "/v1/services/web/backends/api%2F10.9.0.1", 404, "not_found", {"weight": 1})["message"]


def test_failing_name_servers_change_nothing(dns):
    with Daemon(config(dns.port)) as daemon:
        daemon.start()
        wait_states(daemon, ALL)
        for failure, reason in (({"rcode": SERVFAIL}, "no name server gives an answer"), ({"rcode": NXDOMAIN}, "NXDOMAIN")):
            vars(dns).update(failure)
            wait_for(lambda: name_of(daemon)["reason"] == reason, lambda: f"{reason}: {name_of(daemon)}")
            assert states(daemon) == ALL
        dns.rcode, dns.records[NAME] = 0, []
        wait_for(lambda: name_of(daemon)["reason"] == "no address", lambda: f"no address: {name_of(daemon)}")
        assert states(daemon) == ALL
        dns.stop()
        wait_for(lambda: name_of(daemon)["reason"] in ("timeout", "no name server gives an answer"),
                 lambda: f"timeout: {name_of(daemon)}")
        assert states(daemon) == ALL
        assert [e["to"] for e in events(daemon, "name")][:2] == ["resolved", "failing"]
        # nor does a restart without a name server
        daemon.stop()
        daemon.start()
        assert states(daemon) == ALL
        wait_for(lambda: name_of(daemon)["state"] == "failing", lambda: f"failing: {name_of(daemon)}")
        assert states(daemon) == ALL
        # until one is back
        with DnsServer({NAME: ["10.9.0.7"]}, port=dns.port):
            wait_for(lambda: states(daemon).get("api/10.9.0.7") == "up", lambda: f"10.9.0.7: {states(daemon)}")
        dns.stop = lambda: None


def test_addresses_that_cannot_be_backends_are_left_out(dns):
    dns.records[NAME] = ["203.0.113.10", "127.0.0.1", "10.9.0.9", "2001:db8::1", "10.9.0.1"]
    dns.cut = True  # and all of it comes by TCP
    with Daemon(config(dns.port)) as daemon:
        daemon.start()
        wait_states(daemon, {"api/10.9.0.1": "up", "fixed": "up"})
        told = {e["subject"]: e["cause"] for e in events(daemon, "name_left_out")}
        assert "VIP" in told["backend web/api/203.0.113.10"]
        assert "taken by" in told["backend web/api/10.9.0.9"]
        assert "family" in told["backend web/api/2001:db8::1"] or "IPv4" in told["backend web/api/2001:db8::1"]
        n, since = len(events(daemon, "name_left_out")), dns.n_queries
        wait_for(lambda: dns.n_queries >= since + 8, "further questions")
        assert len(events(daemon, "name_left_out")) == n  # not again with each answer
