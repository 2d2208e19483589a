#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Thousands of backends checked every second by one lb-control, without a data plane: how late checks begin (against
their plan), how long the API takes to answer meanwhile, and what of a CPU it costs.

    lb-control --GET /healthz each second--> 10.99.0.0/16:8080, all of them one nginx, in a namespace of their own
"""
import http.client
import json
import os
import re
import shutil
import socket
import tempfile
import time
from pathlib import Path

from benchlib import TOP, Bench, run_main
from netns import Namespace, wait_for

BUILD = Path(os.environ.get("FULCRUM_BUILD", TOP / "build"))
PATHS = ("/v1/status", "/v1/services/s-0", "/v1/backends?service=s-0", "/v1/backends", "/metrics")
NGINX = """daemon off; worker_processes 1; error_log stderr crit; pid {dir}/nginx.pid; worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
server {{ listen 8080 backlog=4096; location / {{ return 200 "ok"; }} }} }}
"""


class Rig:
    """Daemon and servers; a context manager."""

    def __init__(self, n_backends, interval_ms, check_type):
        self.n_backends, self.dir = n_backends, Path(tempfile.mkdtemp(prefix="fcchk-"))
        self.dir.chmod(0o755)
        self.instance = f"chk-{os.getpid()}"
        self.ns = Namespace(f"fcchk-{os.getpid()}")
        self.processes = []
        self.ns.ip("route add local 10.99.0.0/16 dev lo")
        (self.dir / "nginx.conf").write_text(NGINX.format(dir=self.dir))
        (self.dir / "fulcrum.yaml").write_text(json.dumps(self.config(interval_ms, check_type)))
        self.env = {"FULCRUM_RUN_DIR": str(self.dir / "run"), "FULCRUM_SHM_DIR": str(self.dir)}

    def config(self, interval_ms, check_type):
        check = {"type": check_type, "interval": f"{interval_ms}ms", "timeout": f"{interval_ms}ms"}
        if check_type == "http":
            check["path"] = "/healthz"
        services = []
        for first in range(0, self.n_backends, 100):
            backends = [{"name": f"b-{i}", "address": f"10.99.{i // 250}.{1 + i % 250}", "port": 8080}
                        for i in range(first, min(first + 100, self.n_backends))]
            services.append({"name": f"s-{first // 100}", "vip": f"203.0.113.{1 + first // 100}", "port": 80,
                             "protocol": "tcp", "table_size": 10007, "health_check": check, "backends": backends})
        return {"gateway": {"mac": "02:00:00:00:00:01"}, "services": services}

    def start(self):
        self.processes.append(self.ns.start("nginx", ["nginx", "-p", self.dir, "-e", "stderr", "-c",
                                                      self.dir / "nginx.conf"], self.dir / "nginx.log"))
        self.control = self.ns.start("control", [BUILD / "control/lb-control", "--instance", self.instance, "--config",
                                                 self.dir / "fulcrum.yaml"], self.dir / "control.log", env=self.env)
        self.processes.append(self.control)
        wait_for((self.dir / "run" / self.instance / "control.sock").exists,
                 lambda: f"lb-control:\n{self.control.tail()}", 30)
        wait_for(lambda: self.n_up() == self.n_backends,
                 lambda: f"{self.n_backends} up, have {self.n_up()}:\n{self.control.tail()}", 60, 0.5)

    def get(self, path):
        connection = http.client.HTTPConnection("fulcrum", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.dir / "run" / self.instance / "control.sock"))
        connection.request("GET", path)
        body = connection.getresponse().read()
        connection.close()
        return body

    def n_up(self):
        try:
            return sum(s["n_up"] for s in json.loads(self.get("/v1/services"))["services"])
        except ConnectionRefusedError:  # bound, but not listening yet
            return 0

    def cpu_s(self):
        fields = Path(f"/proc/{self.control.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.stop()
        self.ns.delete()
        shutil.rmtree(self.dir)


def late_buckets(text):
    """[(bound in ms, probes that began no later)], without the last bound."""
    return [(float(bound) * 1e3, int(n)) for bound, n in
            re.findall(r'^fulcrum_check_late_seconds_bucket{le="([0-9.e-]+)"} (\d+)$', text, re.M)]


def count_of(text):
    return int(re.search(r"^fulcrum_check_late_seconds_count (\d+)$", text, re.M).group(1))


def worst(before, after, n):
    """The smallest bound that all probes between two readings kept; the largest bound if some kept none."""
    kept = [bound for (bound, new), (_, old) in zip(after, before) if new - old >= n]
    return min(kept, default=after[-1][0])


def measure(rig, seconds):
    """@return (bound of the lateness in ms of each second, {path: [ms]}, CPU in %, probes per second)."""
    late, answers = [], {path: [] for path in PATHS}
    text = rig.get("/metrics").decode()
    began, cpu, first = time.monotonic(), rig.cpu_s(), count_of(text)
    while time.monotonic() < began + seconds:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            for path in PATHS:
                before = time.monotonic()
                rig.get(path)
                answers[path].append((time.monotonic() - before) * 1e3)
            time.sleep(0.05)
        old, text = text, rig.get("/metrics").decode()
        late.append(worst(late_buckets(old), late_buckets(text), count_of(text) - count_of(old)))
    elapsed = time.monotonic() - began
    return late, answers, 100 * (rig.cpu_s() - cpu) / elapsed, (count_of(text) - first) / elapsed


def main():
    def options(parser):
        parser.add_argument("--backends", type=int, default=2000)
        parser.add_argument("--interval-ms", type=int, default=1000)
        parser.add_argument("--type", choices=["http", "tcp"], default="http")
        parser.add_argument("--seconds", type=int, help="to measure (default 30, with --quick 10)")

    bench = Bench(__doc__, options)
    args = bench.args
    what = f"type={args.type}&backends={args.backends}&interval_ms={args.interval_ms}"
    with Rig(args.backends, args.interval_ms, args.type) as rig:
        rig.start()
        time.sleep(2)
        late, answers, cpu, rate = measure(rig, args.seconds or (10 if args.quick else 30))
    bench.result(f"checks/late?{what}", "ms", late)
    for path, values in answers.items():
        bench.result(f"checks/api{path.replace('?', '/')}?{what}", "ms", values)
    bench.result(f"checks/rate?{what}", "1/s", [rate])
    bench.result(f"checks/cpu?{what}", "%", [cpu])
    return bench.finish()


if __name__ == "__main__":
    run_main(main)
