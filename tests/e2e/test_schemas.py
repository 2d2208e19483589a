# SPDX-License-Identifier: BSD-3-Clause
"""Every JSON document of lbctl and of the API against its schema: from a balancer at work, from one without a data
plane, and the answers that the other tests of lbctl are made with."""
import json
import re
import socket
import threading

import pytest

import lbctl_server
from api_daemon import Daemon
from configs import HTTP_CHECK, SECRET, config, web
from docs import config_keys
from lab import CLIENT, VIP, Lab, sigkill, wait_for
from conftest import finish
from schemas import DIALECT, FOLDER, SCHEMAS, validate

NGINX = FOLDER.parent / "data" / "nginx" / "full.conf"
FLOW = [f"{CLIENT}:40000", f"{VIP}:80/tcp"]

# Every command that prints a document, with the schema of it. What they change is undone by one that comes later.
COMMANDS = [
    ("status", ["status"]), ("version", ["version"]), ("config", ["config"]),
    ("services", ["service", "list"]), ("service", ["service", "show", "web"]),
    ("service", ["service", "show", "full"]), ("service", ["service", "show", "named"]),
    ("backends", ["backend", "list"]), ("backends", ["backend", "list", "web"]),
    ("stats", ["stats"]), ("stats", ["stats", "--interval", "100ms"]),
    ("stats", ["stats", "--watch", "--interval", "100ms", "--count", "1"]),
    ("drops", ["drops"]), ("events", ["events"]), ("flows", ["flows"]), ("sessions", ["flows", "--sessions"]), ("flows", ["flows", "web", "--limit", "1"]),
    ("flush", ["flows", "flush", "web"]), ("flush", ["flows", "flush", "web", "api-1"]),
    ("trace", ["trace", *FLOW]), ("trace", ["trace", "--mid-stream", *FLOW]),
    ("trace", ["trace", f"{CLIENT}:40000", f"{VIP}:81/tcp"]), ("trace", ["trace", f"{CLIENT}:40000", f"{VIP}:81/udp"]),
    ("trace", ["trace", "10.2.0.11:8080", f"{CLIENT}:40000/tcp"]), ("trace", ["trace", f"{CLIENT}:1", "192.0.2.1:1/udp"]),
    ("announce", ["maintenance"]), ("announce", ["maintenance", "on"]), ("announce", ["maintenance", "off"]),
    ("change", ["service", "add", "new", f"{VIP}:90/tcp"]), ("change", ["service", "set", "new", "min_healthy=2"]),
    ("change", ["backend", "add", "new", "10.2.0.13:90", "--name", "b", "--weight", "3"]),
    ("change", ["backend", "set", "new", "b", "weight=4"]), ("change", ["backend", "disable", "new", "b"]),
    ("change", ["backend", "enable", "new", "b"]), ("change", ["backend", "drain", "new", "b"]),
    ("change", ["backend", "drain", "new", "b", "--wait", "10s"]), ("change", ["backend", "del", "new", "b"]),
    ("change", ["service", "del", "new"]),
    ("change", ["diff", "CONFIG"]), ("change", ["apply", "--dry-run", "CONFIG"]), ("change", ["apply", "CONFIG"]),
    ("validate", ["validate", "CONFIG"]),
    ("simulate", ["simulate", "CONFIG"]), ("simulate", ["simulate", "CONFIG", "web", "--add", "x=3", "--remove", "api-1"]),
    ("import", ["import", "nginx", str(NGINX)]),
]
# No document: a live screen, and scripts for a shell.
WITHOUT = {"top", "completion"}


class Agent:
    """A backend's agent on the balancer's own host, for a service whose backend is there."""

    def __init__(self, ns, address, port):
        with ns.entered():
            self.socket = socket.create_server((address, port))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            connection.sendall(b"75% # warming up\n")
            connection.close()


@pytest.fixture(scope="module")
def rich_lab():
    """A balancer with something of everything: modes, families, host names, an agent, announced VIPs, traffic."""
    with Lab(n_backends=2) as lab:
        for backend in lab.backends:
            backend.start_nginx()
        agent = Agent(lab.backends[0].ns, lab.backends[0].address, 9000)
        plain = {"protocol": "tcp", "vip": VIP, "health_check": {"type": "none"}}
        lab.write_config(config(
            web(lab, 4, agent={"port": 9000, "interval": "100ms"}, slow_start="1s", on_empty="reset",
                passive={"min_flows": 5}),
            {**plain, "name": "full", "port": 81, "mode": "fullnat", "client_address": "toa",
             "backends": [{"address": "10.2.0.11", "port": 8082}]},
            {**plain, "name": "tunnel", "port": "all", "protocol": "udp", "mode": "ipip", "scheduler": "source",
             "max_load": 1.25, "backends": [{"address": "2001:db8:2::b"}]},
            {**plain, "name": "named", "port": 82, "health_check": dict(HTTP_CHECK), "scheduler": "p2c",
             "backends": [{"name": "x", "address": "x.example", "port": 1}]},
            {**plain, "name": "named6", "port": 83, "vip": "2001:db8:f::10"},
            local_addresses=["10.2.0.100", "2001:db8:2::100"], resolvers=["127.0.0.1:9"], announce={"table": 4242}))
        lab.start_dataplane()
        lab.start_control()
        wait_for(lambda: all(b["effective"] == "up" and b["nexthop"]["resolved"] and
                             b["agent"] and b["agent"]["state"] == "answers"
                             for b in lab.backend_list("web").values() if b["name"] == "api-1"), "web")
        wait_for(lambda: lab.status()["names"][0]["state"] == "failing", "a name server that does not answer")
        lab.traffic("requests", VIP, 80, "--count", 20)
        yield lab
        agent.socket.close()
        finish(lab)


def closed_objects(schema, path=""):
    """(place, schema) of each schema of an object."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield path, schema
        for key, value in schema.items():
            yield from closed_objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for i, value in enumerate(schema):
            yield from closed_objects(value, f"{path}/{i}")


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_valid_and_closed(name):
    schema = SCHEMAS[name]
    DIALECT.check_schema(schema)
    assert schema["$id"] == name
    for path, part in closed_objects(schema):
        assert part["additionalProperties"] is False and set(part.get("required", ())) <= set(part["properties"]), path
    for file, place in re.findall(r'"\$ref": "([a-z_]+\.json)?(?:#/\$defs/(\w+))?"', json.dumps(schema)):
        assert not place or place in SCHEMAS[file or name]["$defs"], (file, place)


def test_a_key_too_many_or_too_few_is_found():
    for broken in (dict(lbctl_server.FLOWS, more=1), {k: v for k, v in lbctl_server.FLOWS.items() if k != "dataplane"},
                   dict(lbctl_server.FLOWS, flows_used="1"), dict(lbctl_server.FLOWS, services=[{"name": "web"}])):
        with pytest.raises(AssertionError):
            validate("flows", broken)


@pytest.mark.parametrize("name,document", [
    ("status", lbctl_server.STATUS), ("services", lbctl_server.SERVICES), ("service", lbctl_server.SHOWN),
    ("backends", lbctl_server.LISTED), ("stats", lbctl_server.STATS), ("drops", lbctl_server.DROPS),
    ("events", lbctl_server.EVENTS), ("flows", lbctl_server.FLOWS), ("flush", lbctl_server.FLUSHED), ("sessions", lbctl_server.SESSION_LIST),
    ("trace", lbctl_server.TRACE), ("change", lbctl_server.CHANGE), ("api_version", lbctl_server.VERSION)],
    ids=lambda v: v if isinstance(v, str) else "")
def test_answers_of_the_tests_own_server_are_of_the_same_form(name, document):
    validate(name, document)


@pytest.mark.parametrize("title,place", [
    ("The whole", ["properties"]), ("A service", ["$defs", "service", "properties"]),
    ("A backend", ["$defs", "backend", "properties"]), ("`health_check`", ["$defs", "health_check", "properties"]),
    ("`agent`", ["$defs", "service", "properties", "agent", "properties"]),
    ("`passive`", ["$defs", "service", "properties", "passive", "properties"])])
def test_the_config_has_the_keys_of_its_documentation(title, place):
    part = SCHEMAS["config.json"]
    for step in place:
        part = part[step]
    documented = {key.split(".")[0] for key in config_keys(title)} - {"backup"}  # written as tier: 1
    assert set(part) == documented


def listed_commands(lab):
    return set(re.findall(r"^  ([a-z]+(?: [a-z]+)?)  ", lab.lbctl("--help").stdout, re.M))


def command_of(args, listed):
    return next(" ".join(args[:n]) for n in (2, 1) if " ".join(args[:n]) in listed)


def patiently(lab, ask):
    """What @ask() returns that is not None; again when a busy machine kept the data plane from answering for a second."""
    for _ in range(5):
        wait_for(lambda: lab.status()["dataplane"]["state"] == "up", "the data plane")
        answer = ask()
        if answer is not None:
            return answer
    raise AssertionError("five times without the data plane")


def document_of(lab, args):
    def ask():
        done = lab.lbctl("--json", *args, check=False)
        assert done.returncode in (0, 4), (args, done)
        return json.loads(done.stdout) if done.returncode == 0 else None
    return patiently(lab, ask)


def test_every_command_is_here(rich_lab):
    listed = listed_commands(rich_lab)
    assert {command_of(args, listed) for _, args in COMMANDS} == listed - WITHOUT


def test_every_document_of_lbctl_is_as_its_schema_says(rich_lab):
    for name, args in COMMANDS:
        args = [str(rich_lab.config_file) if a == "CONFIG" else a for a in args]
        validate(name, document_of(rich_lab, args))


def test_every_document_of_the_api_is_as_its_schema_says(rich_lab):
    for path, name in {"version": "api_version", "status": "status", "services": "services", "services/web": "service",
                       "backends": "backends", "backends?service=full": "backends", "stats": "stats",
                       "drops": "drops", "events": "events", "flows": "flows", "config": "config",
                       "announce": "announce", f"trace?src={CLIENT}:1&dst={VIP}:80&proto=tcp": "trace"}.items():
        def ask(path=path):
            try:
                return rich_lab.api(f"/v1/{path}")
            except AssertionError as error:
                assert ": 50" in str(error)
                return None
        validate(name, patiently(rich_lab, ask))


def test_what_the_lab_has_shows_in_its_documents(rich_lab):
    """What the schemas allow to be null or absent was there to be checked."""
    names = rich_lab.status()["names"]
    assert names[0]["name"] == "x.example" and names[0]["reason"]
    assert rich_lab.backend_list("web")["api-1"]["agent"]["says"].startswith("75%")
    assert rich_lab.api("/v1/announce")["table"] == 4242 and rich_lab.api("/v1/announce")["vips"]
    written = rich_lab.api("/v1/config")
    assert set(written) == {"hash_secret", "local_addresses", "resolvers", "announce", "services"}
    assert {"agent", "passive", "slow_start", "on_empty"} <= set(written["services"][0])
    shown = document_of(rich_lab, ["trace", *FLOW])
    assert shown["service"] == "web" and shown["slot"] is not None


def test_each_line_of_followed_events_is_as_its_schema_says(rich_lab):
    events = rich_lab.lbctl_json("events")["events"]
    assert len({e["kind"] for e in events}) > 5
    for event in events:
        validate("event", event)


def test_documents_without_a_data_plane():
    with Daemon({"hash_secret": SECRET, "services": "none"}) as daemon:
        daemon.start()
        for name in ("status", "services", "backends", "stats", "drops", "events", "announce", "config"):
            validate(name, daemon.get(f"/v1/{name}"))
        validate("change", daemon.call("POST", "/v1/services", {
            "name": "a", "vip": VIP, "port": 1, "protocol": "tcp", "backends": [{"address": "10.0.0.1"}]}, 201))
        for name in ("status", "services", "backends", "stats", "services/a"):
            validate("service" if "/" in name else name, daemon.get(f"/v1/{name}"))
        for method, path, status, body in (
                ("GET", "/v1/flows", 503, None), ("GET", "/v1/services/x", 404, None), ("DELETE", "/v1/status", 405, None),
                ("GET", "/v1/nothing", 404, None), ("POST", "/v1/services", 400, {"name": 1}),
                ("POST", "/v1/services", 409, {"name": "a", "vip": VIP, "port": 2, "protocol": "tcp"}),
                ("PUT", "/v1/maintenance", 409, {"on": True})):
            validate("error", daemon.call(method, path, body, status))


def test_documents_after_the_data_plane_has_died(rich_lab):
    """The last of this file: the lab is without its data plane for a while."""
    lab = rich_lab
    sigkill(lab.dataplane)
    wait_for(lambda: lab.status()["dataplane"]["state"] == "down", "the death to be noticed")
    for name in ("status", "services", "backends", "stats", "drops", "events", "announce"):
        validate(name, lab.api(f"/v1/{name}"))
    lab.start_dataplane()
    wait_for(lambda: lab.status()["dataplane"]["state"] == "up", "the data plane to be back")
    validate("status", lab.status())
