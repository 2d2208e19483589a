# SPDX-License-Identifier: BSD-3-Clause
"""For the tests of the API: lb-control in a directory of its own, with or without a data plane that has no NIC.

    test ----HTTP over DIR/run/INSTANCE/control.sock----> lb-control ----DIR/shm/lb.INSTANCE----> lb-dataplane (net_null)
"""
import http.client
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FULCRUM_BUILD", TOP / "build"))
CONTROL = BUILD / "control" / "lb-control"
DATAPLANE = BUILD / "dataplane" / "lb-dataplane"
PATIENCE_S = 30
_count = itertools.count(1)

BASIC = {
    "gateway": {"mac": "02:00:00:00:00:01", "port": 0},
    "services": [
        {"name": "web", "vip": "203.0.113.10", "port": 443, "protocol": "tcp", "mode": "nat", "table_size": 1009,
         "health_check": {"type": "none"},
         "backends": [{"name": "api-1", "address": "10.0.0.11", "port": 8080, "weight": 5},
                      {"name": "api-2", "address": "10.0.0.12", "port": 8080, "weight": 3},
                      {"address": "10.0.0.13", "port": 8080, "weight": 2},
                      {"name": "spare", "address": "10.0.0.14", "port": 8080, "backup": True}]},
        {"name": "dns", "vip": "2001:db8::53", "port": "all", "protocol": "udp", "mode": "nat", "table_size": 251,
         "health_check": {"type": "none"}, "backends": [{"name": "[2001:db8::1]:0", "address": "2001:db8:1::1"}]},
    ],
}


def wait_for(condition, what, timeout_s=PATIENCE_S):
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, f"no {what() if callable(what) else what}"
        time.sleep(0.02)
    return value


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout=PATIENCE_S):
        super().__init__("fulcrum", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """lb-control and what it needs; a context manager."""

    def __init__(self, config=None):
        # not below pytest's tmp_path: a socket's path has at most 107 characters
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="fcapi-"))
        (self.dir / "shm").mkdir()
        self.instance = f"api-{os.getpid()}-{next(_count)}"
        self.env = {**os.environ, "FULCRUM_RUN_DIR": str(self.dir / "run"), "FULCRUM_SHM_DIR": str(self.dir / "shm")}
        self.run_dir = self.dir / "run" / self.instance
        self.socket = self.run_dir / "control.sock"
        self.config_file = self.dir / "fulcrum.yaml"
        self.write(config if config is not None else BASIC)
        self.log = self.dir / "control.log"
        self.control = self.dataplane = None

    def write(self, config):
        self.config_file.write_text(config if isinstance(config, str) else json.dumps(config, indent=1))

    def command(self, *options):
        return [CONTROL, "--instance", self.instance, "--config", self.config_file, *options]

    def start(self, *options):
        with open(self.log, "ab") as log:
            self.control = subprocess.Popen(self.command(*options), env=self.env, stderr=log, stdout=log)

        def answers():
            assert self.control.poll() is None, self.log.read_text()
            try:
                return self.get("/v1/version")["instance"] == self.instance
            except (OSError, http.client.HTTPException):
                return False
        wait_for(answers, lambda: f"answer:\n{self.log.read_text()}")
        return self

    def stop(self, sig=signal.SIGTERM):
        self.control.send_signal(sig)
        status = self.control.wait(PATIENCE_S)
        self.control = None
        return status

    def start_dataplane(self):
        cpu = min(os.sched_getaffinity(0))
        with open(self.dir / "dataplane.log", "ab") as log:
            self.dataplane = subprocess.Popen(
                [DATAPLANE, "--lcores", f"0@{cpu},1@{cpu}", "--no-huge", "--no-pci", "-m", "256", "--file-prefix",
                 self.instance, "--vdev", "net_null0", "--", "--instance", self.instance, "--flows", "65536",
                 "--idle-sleep-us", "1000"], env=self.env, stdout=log, stderr=log)
        wait_for(lambda: self.dataplane.poll() is not None or self.state() == "up",
                 lambda: f"data plane: {(self.dir / 'dataplane.log').read_text()}")
        assert self.dataplane.poll() is None, (self.dir / "dataplane.log").read_text()

    def state(self):
        return self.get("/v1/status")["dataplane"]["state"]

    # -- requests

    def request(self, method, path, body=None, headers=None, timeout=PATIENCE_S):
        """@return (status, headers, body as bytes)."""
        connection = Connection(self.socket, timeout)
        try:
            if body is not None and not isinstance(body, (str, bytes)):
                body = json.dumps(body)
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def call(self, method, path, body=None, status=200, **kwargs):
        """A request whose answer is JSON with this status. @return the document."""
        got, headers, text = self.request(method, path, body, **kwargs)
        assert got == status, (method, path, got, text)
        assert headers["Content-Type"] == "application/json"
        assert text.endswith(b"\n")
        return json.loads(text)

    def get(self, path, **kwargs):
        return self.call("GET", path, **kwargs)

    def refused(self, method, path, status, code, body=None):
        """A request that is answered with an error. @return the error."""
        error = self.call(method, path, body, status)["error"]
        assert set(error) == {"code", "message", "where"}
        assert error["code"] == code, error
        assert error["message"]
        return error

    def backend(self, service, name):
        return next(b for b in self.get(f"/v1/backends?service={service}")["backends"] if b["name"] == name)

    # -- the end

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        try:
            for process in (self.control, self.dataplane):
                if process is not None and process.poll() is None:
                    process.terminate()
                    assert process.wait(PATIENCE_S) == 0, self.log.read_text()
            log = self.log.read_text(errors="replace") if self.log.exists() else ""
            assert "Sanitizer" not in log and "runtime error" not in log, log
        finally:
            for process in (self.control, self.dataplane):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()
            shutil.rmtree(self.dir)
            shutil.rmtree(f"/run/dpdk/{self.instance}", ignore_errors=True)


def kind(value):
    return {bool: "bool", int: "number", float: "number", str: "text", dict: "object", list: "list"}[type(value)]


def check_shape(real, example, path=""):
    """`real` has exactly the keys of the documented example, with values of the same kind (or null on either side)."""
    if real is None or example is None:
        return
    if path.endswith(".port"):
        return  # a number or "all"
    assert kind(real) == kind(example), path
    if isinstance(example, dict):
        assert set(real) == set(example), path
        for key in example:
            check_shape(real[key], example[key], f"{path}.{key}")
    if isinstance(example, list) and example:
        for index, item in enumerate(real):
            check_shape(item, example[0], f"{path}[{index}]")
