# SPDX-License-Identifier: BSD-3-Clause
"""The API's large documents: written and sent in slices, while the config changes, to clients that read slowly, not at
all, or leave.

    reader ----GET: reads the head, nothing more until the change is made----> lb-control: has about 1 MB ready, waits
"""
import json
import os
import re
import socket

import pytest

from api_daemon import Connection, Daemon, wait_for
from schemas import validate
from test_api_hostile import free_port, raw

pytestmark = pytest.mark.smoke
N = 4000  # services, each with a backend: every document is larger than what a reader is sent in advance
PATHS = ("/v1/backends", "/v1/services", "/v1/stats", "/v1/status", "/metrics")


def config(prefix, net, n=N):
    services = [{"name": f"{prefix}-{i}", "vip": f"{net}.{i // 250}.{i % 250 + 1}", "port": 80, "protocol": "tcp",
                 "table_size": 31, "health_check": {"type": "none"},
                 "backends": [{"name": f"{prefix}-{i}", "address": f"10.{net[-2:]}.{i // 250}.{i % 250 + 1}", "port": 80}]}
                for i in range(n)]
    return {"services": services}


NAMES = [f"a-{i}" for i in range(N)]


@pytest.fixture(scope="module")
def running():
    with Daemon(config("a", "198.18")) as daemon:
        yield daemon.start()


@pytest.fixture
def daemon(running):
    running.call("PUT", "/v1/config", {"services": "none"})  # there are ids for 4096 services, at any time
    running.call("PUT", "/v1/config", config("a", "198.18"))
    return running


class Reader:
    """Has asked, and read the head of the answer, but no more than comes with it."""

    def __init__(self, daemon, path):
        self.path, self.connection = path, Connection(daemon.socket)
        self.connection.request("GET", path)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.headers["Transfer-Encoding"] == "chunked"  # its size is not known yet

    def document(self):
        """The rest; of /metrics the services that each metric tells of, in their order."""
        text = self.answer.read().decode()
        self.connection.close()
        if self.path != "/metrics":
            return json.loads(text)
        metrics = {}
        for name, service in re.findall(r'^fulcrum_(\w+)\{service="([^"]+)"', text, re.M):
            if not name.startswith("check_duration_seconds"):  # many lines each
                metrics.setdefault(name, []).append(service)
        return metrics

    def told(self):
        """Lists of the names of services that it tells of."""
        document = self.document()
        if self.path == "/metrics":
            return list(document.values()) + [[]] * (16 - len(document))
        key = "backends" if self.path == "/v1/backends" else "services"
        validate(self.path.rsplit("/", 1)[1], {**document, key: document[key][:20] + document[key][-20:]})
        if self.path == "/v1/stats":
            assert all([b["name"] for b in s["backends"]] in ([s["name"]], []) for s in document["services"])
        return [[entry["name"] for entry in document[key]]]


def test_documents_are_whole_and_several_at_once(daemon):
    readers = [Reader(daemon, path) for path in PATHS + PATHS]
    for reader in readers:
        assert all(told == NAMES for told in reader.told()), reader.path


def test_what_goes_while_a_document_is_written_is_missing_and_nothing_else(daemon):
    readers = [Reader(daemon, path) for path in PATHS]
    gone = {"a-3950", "a-3999"}
    for name in gone:
        daemon.call("DELETE", f"/v1/services/{name}")
    daemon.call("POST", "/v1/services", config("new", "198.19", 1)["services"][0], 201)
    daemon.call("PATCH", "/v1/services/a-3970/backends/a-3970", {"weight": 7})
    for reader in readers:
        if reader.path == "/v1/backends":
            backends = {b["name"]: b for b in reader.document()["backends"]}
            assert list(backends) == [name for name in NAMES if name not in gone]
            assert (backends["a-3970"]["weight"], backends["a-3971"]["weight"]) == (7, 1)  # as it is at its turn
            continue
        *others, last = reader.told()
        assert last == [name for name in NAMES if name not in gone], reader.path
        assert all([name for name in told if name not in gone] == last for told in others)


def test_what_came_in_the_place_of_another_is_not_told_of(daemon):
    """All services go, and others get the ids that have become free."""
    readers = [Reader(daemon, path) for path in PATHS]
    ids = {s["id"] for s in daemon.get("/v1/services")["services"]}
    daemon.call("PUT", "/v1/config", {"services": "none"})
    daemon.call("PUT", "/v1/config", config("b", "198.19"))
    assert ids & {s["id"] for s in daemon.get("/v1/services")["services"]}
    for reader in readers:
        told = reader.told()
        assert len(told[-1]) < N, reader.path  # the change came in the middle
        assert all(names == NAMES[:len(names)] for names in told), reader.path


@pytest.mark.parametrize("path", ["/v1/config", "/v1/config?format=yaml"])
def test_a_config_is_the_one_of_the_moment_in_which_it_was_asked_for(daemon, path):
    many = config("a", "198.18")  # larger than what is ready in advance
    for i, service in enumerate(many["services"]):
        service["backends"] = [{"name": f"api-{i}-{j}", "address": f"10.{j}.{i // 250}.{i % 250 + 1}"} for j in range(6)]
    daemon.call("PUT", "/v1/config", many)
    status, _, before = daemon.request("GET", path)
    reader = Reader(daemon, path)
    daemon.call("PUT", "/v1/config", {"services": "none"})
    daemon.call("POST", "/v1/services", config("new", "198.19", 1)["services"][0], 201)
    assert (status, reader.answer.read()) == (200, before)
    reader.connection.close()
    assert b"new-0" in daemon.request("GET", path)[2]


def test_a_connection_is_kept_after_a_long_answer(daemon):
    connection = Connection(daemon.socket)
    for _ in range(2):
        connection.request("GET", "/v1/backends")
        assert len(json.loads(connection.getresponse().read())["backends"]) == N
    body = json.dumps(config("a", "198.18"), indent=8)  # larger than what is read ahead of an answer
    assert len(body) > 1 << 20
    connection.request("PUT", "/v1/config", body)
    assert json.loads(connection.getresponse().read())["n_changes"] == 0
    connection.close()


def test_an_old_client_gets_no_chunks(daemon):
    with raw(daemon) as sock:
        sock.sendall(b"GET /v1/backends HTTP/1.0\r\n\r\n")
        answer = b""
        while data := sock.recv(1 << 20):
            answer += data
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b"chunked" not in head
    assert [b["name"] for b in json.loads(body)["backends"]] == NAMES


def rss_bytes(daemon):
    with open(f"/proc/{daemon.control.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def n_fds(daemon):
    return len(os.listdir(f"/proc/{daemon.control.pid}/fd"))


def at_rest(value):
    """What it is once it changes no more."""
    values = []

    def is_steady():
        values.append(value())
        return len(values) > 25 and len(set(values[-25:])) == 1
    wait_for(is_steady, lambda: f"rest: {values[-25:]}")
    return values[-1]


def test_readers_that_stop_cost_little_and_stall_nothing(daemon):
    """Many of them: what is ready for each is limited, checks and other answers go on; they leave nothing behind."""
    checked = config("checked", "198.19", 1)["services"][0]
    checked["health_check"] = {"type": "exec", "command": ["/bin/true"], "interval": "100ms", "timeout": "100ms"}
    daemon.call("POST", "/v1/services", checked, 201)
    Reader(daemon, "/metrics").document()
    before, fds = rss_bytes(daemon), at_rest(lambda: n_fds(daemon))
    readers = [Reader(daemon, "/metrics") for _ in range(60)]

    times = set()

    def has_gone_on():  # also where a program may not be started
        times.add(daemon.backend("checked-0", "checked-0")["health"]["last_ns"])
        return len(times) > 5
    wait_for(has_gone_on, "checks while clients do not read")
    # a document is some 8 MB; each reader may have one of them ready (ASan keeps more)
    assert at_rest(lambda: rss_bytes(daemon) >> 20) - (before >> 20) < 60 * 4
    for reader in readers:
        reader.answer.close()
        reader.connection.close()
    wait_for(lambda: n_fds(daemon) <= fds, "end of the connections of clients that left")


def test_who_sends_instead_of_reading_is_not_listened_to(daemon):
    hogs = [raw(daemon) for _ in range(5)]
    n_sent = 0
    for hog in hogs:
        hog.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert hog.recv(10).startswith(b"HTTP/1.1 ")
        hog.settimeout(0.2)
        try:
            for _ in range(40):
                hog.sendall(b"x" * 100000)
                n_sent += 100000
        except TimeoutError:
            pass
    assert n_sent < 5 * 1000000  # what is in the kernel, too
    assert daemon.get("/v1/version")["api"] == 1
    for hog in hogs:
        hog.close()


def test_a_reader_from_afar_that_stops_is_let_go():
    port = free_port()
    with Daemon(config("a", "198.18", 1000)) as daemon:
        daemon.start("--listen", str(port))
        fds = at_rest(lambda: n_fds(daemon))
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(10).startswith(b"HTTP/1.1 ")
            assert n_fds(daemon) > fds
            wait_for(lambda: n_fds(daemon) <= fds, "end of the connection", 60)
