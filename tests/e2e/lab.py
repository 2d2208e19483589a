# SPDX-License-Identifier: BSD-3-Clause
"""A balancer with real clients and servers around it, in network namespaces of its own.

     client                      lb                        switch        be1 .. beN
   +-----------------+   +-----------------------+   +---------------+   +-------------+
   | lo: 198.51.100.10|   |                       |   |   bridge      |   | nginx :8080 |
   |      eth0 .2 ----+---+-- vethc .1   vethb .1-+---+-- p0     p1 --+---+-- eth0 .1N  |
   |  10.1.0.0/24     |   |   lb-dataplane        |   |         ..    |   | 10.2.0.0/24 |
   +-----------------+   |   lb-control          |   +---------------+   +-------------+
                         +-----------------------+
   VIPs 203.0.113.0/24 and 2001:db8:f::/64 are routed to the lb by the client and on no interface. IPv6 has the
   same host numbers in 2001:db8:1::/64 (client), 2001:db8:2::/64 (backends); the client is 2001:db8:c::10.

The client stands for the router of a data centre: the lb's default route. The kernel of the lb sees a copy of each
packet (net_af_packet), so it forwards nothing and drops what is for a VIP in silence (blackhole route).
"""
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from netns import PATIENCE_S, LineReader, Namespace, run, veth, wait_for

PREFIX = "fc"
HERE = Path(__file__).resolve().parent
CLIENT, CLIENT6 = "198.51.100.10", "2001:db8:c::10"
VIP, VIP6 = "203.0.113.10", "2001:db8:f::10"
VIPS = {4: VIP, 6: VIP6}
CLIENTS = {4: CLIENT, 6: CLIENT6}
PYTHON = "/usr/bin/python3"

_count = itertools.count(1)


class Backend:
    """A server's namespace; index counts from 1."""

    def __init__(self, lab, index):
        self.lab, self.index, self.name = lab, index, f"api-{index}"
        self.address, self.address6 = f"10.2.0.{10 + index}", f"2001:db8:2::{10 + index:x}"
        self.addresses = {4: self.address, 6: self.address6}
        self.nginx = None
        self.ns = Namespace(f"{lab.id}-be{index}")
        veth(lab.switch, f"p{index}", self.ns, "eth0")
        lab.switch.ip(f"link set p{index} master bridge0")
        self.ns.ip(f"addr add {self.address}/24 dev eth0", f"addr add {self.address6}/64 dev eth0 nodad",
                   "route add default via 10.2.0.1", "route add default via 2001:db8:2::1")

    def start_nginx(self, port=8080):
        """An NGINX L7 tier on `port` as people set it up, with the application behind /api/."""
        root = self.lab.dir / self.name
        root.mkdir(exist_ok=True)
        config = root / "nginx.conf"
        config.write_text((HERE / "nginx.conf.in").read_text()
                          .replace("@NAME@", self.name).replace("@PORT@", str(port)))
        self.nginx = self.lab.start(self.ns, self.name, ["nginx", "-p", root, "-e", root / "error.log", "-c", config])
        wait_for(lambda: self.listens(port), f"nginx on {self.name}:\n{self.nginx.tail()}")
        return self.nginx

    def listens(self, port):
        with self.ns.entered(), socket.socket() as sock:
            return sock.connect_ex((self.address, port)) == 0

    def start_udp_echo(self, port=5353):
        echo = self.lab.start(self.ns, f"{self.name}-udp", [PYTHON, HERE / "udp_echo.py", self.name, port])
        wait_for(lambda: "ready" in echo.log.read_text(), f"udp_echo on {self.name}")
        return echo

    def serve_directly(self, vips, gateway="10.2.0.2", gateway6="2001:db8:2::2"):
        """What a backend of dsr, ipip or gue needs: the VIPs on lo without ARP for them, and a way to the clients."""
        with self.ns.entered():
            Path("/proc/sys/net/ipv4/conf/all/arp_ignore").write_text("1")
            Path("/proc/sys/net/ipv4/conf/all/arp_announce").write_text("2")
        self.ns.ip(*[f"addr add {vip}/{128 if ':' in vip else 32} dev lo{' nodad' if ':' in vip else ''}" for vip in vips],
                   f"route replace default via {gateway}", f"route replace default via {gateway6}")

    def start_decap(self, *options):
        """lb-decap on eth0, up to its readiness. Only one at a time by this name."""
        return self.lab.start_notifying(self.ns, f"{self.name}-decap", [
            self.lab.build / "dataplane/lb-decap", "--interface", "eth0", *options])

    def decap(self, *options, check=True):
        """Run lb-decap to its end."""
        return self.ns.run(self.lab.build / "dataplane/lb-decap", "--interface", "eth0", *options, check=check)

    def decap_stats(self):
        """{fate: packets} of the lb-decap that runs."""
        return {line.split()[0]: int(line.split()[1]) for line in self.decap("--stats").stdout.splitlines()}

    def kill_nginx(self):
        self.nginx.kill_group()

    def link(self, up):
        """Plug or pull the cable, at the switch's end."""
        self.lab.switch.ip(f"link set p{self.index} {'up' if up else 'down'}")


class Lab:
    """The topology; a context manager that leaves nothing behind.

    @param n_backends servers, without anything running on them.
    @param detached   processes outlive the caller (demo --keep).
    @param prefix     of the names of everything it makes; then come the caller's pid and a count.
    """

    def __init__(self, n_backends=4, detached=False, n_workers=1, prefix=PREFIX):
        if os.geteuid():
            raise RuntimeError("network namespaces need root")
        self.n_workers, self.detached = n_workers, detached
        self.build = Path(os.environ.get("FULCRUM_BUILD", HERE.parent.parent / "build"))
        remove_stale()
        self.id = f"{prefix}-{os.getpid()}-{next(_count):03}"
        self.dir = Path(tempfile.mkdtemp(prefix=f"{self.id}-"))
        self.dir.chmod(0o755)
        self.env = {"FULCRUM_RUN_DIR": str(self.dir / "run")}
        self.config_file = self.dir / "fulcrum.yaml"
        self.processes, self.namespaces, self.backends = [], [], []
        self.dataplane = self.control = None
        self.raw_ports = False  # True: by libpcap; net_af_packet has the kernel reassemble IPv4 fragments
        self.control_options = []  # of lb-control, beside --instance and --config
        self.wrapper = {}  # {"dataplane": [...], "control": [...]}: what starts the daemon in its stead
        try:
            self._make_namespaces(n_backends)
        except BaseException:
            self.close()
            raise

    def _make_namespaces(self, n_backends):
        self.client = Namespace(f"{self.id}-client")
        self.lb = Namespace(f"{self.id}-lb")
        self.switch = Namespace(f"{self.id}-switch")
        self.namespaces += [self.client, self.lb, self.switch]
        veth(self.client, "eth0", self.lb, "vethc")
        veth(self.lb, "vethb", self.switch, "p0")
        self.switch.ip("link add bridge0 type bridge", "link set bridge0 up", "link set p0 master bridge0")
        self.client.ip(
            f"addr add {CLIENT}/32 dev lo", f"addr add {CLIENT6}/128 dev lo nodad",
            "addr add 10.1.0.2/24 dev eth0", "addr add 2001:db8:1::2/64 dev eth0 nodad",
            f"route add 203.0.113.0/24 via 10.1.0.1 src {CLIENT}",
            f"route add 2001:db8:f::/64 via 2001:db8:1::1 src {CLIENT6}")
        self.lb.ip(
            "addr add 10.1.0.1/24 dev vethc", "addr add 2001:db8:1::1/64 dev vethc nodad",
            "addr add 10.2.0.1/24 dev vethb", "addr add 2001:db8:2::1/64 dev vethb nodad",
            "route add default via 10.1.0.2", "route add default via 2001:db8:1::2",
            "route add blackhole 203.0.113.0/24", "route add blackhole 2001:db8:f::/64")
        for index in range(1, n_backends + 1):
            self.add_backend(index)

    def add_backend(self, index):
        backend = Backend(self, index)
        self.namespaces.append(backend.ns)
        self.backends.append(backend)
        return backend

    # -- processes

    def start(self, ns, name, command, **kwargs):
        process = ns.start(name, command, self.dir / f"{name}.log", env=self.env, detached=self.detached, **kwargs)
        self.processes.append(process)
        return process

    def connect_client(self, mtu=1500):
        """A second cable, from the client to the switch, for answers that do not pass the balancer. @param mtu of all
        links."""
        veth(self.client, "eth1", self.switch, "pclient")
        self.switch.ip("link set pclient master bridge0")
        self.client.ip("addr add 10.2.0.2/24 dev eth1", "addr add 2001:db8:2::2/64 dev eth1 nodad")
        self.client.ip(f"link set eth0 mtu {mtu}", f"link set eth1 mtu {mtu}")
        self.lb.ip(f"link set vethc mtu {mtu}", f"link set vethb mtu {mtu}")
        self.switch.ip(f"link set pclient mtu {mtu}", *[f"link set p{i} mtu {mtu}" for i in range(len(self.backends) + 1)])
        for backend in self.backends:
            backend.ns.ip(f"link set eth0 mtu {mtu}")

    def _start_notifying(self, name, command):
        return self.start_notifying(self.lb, name, command)

    def start_notifying(self, ns, name, command):
        """Start a daemon and wait until it says READY=1, as systemd would. `wrapper`: words in front of it."""
        command = self.wrapper.get(name, []) + command
        path = self.dir / f"{name}.notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(path))
            path.chmod(0o666)  # as systemd's: the daemon may be another user
            sock.settimeout(0.1)
            self.env["NOTIFY_SOCKET"] = str(path)
            try:
                process = self.start(ns, name, command)
            finally:
                del self.env["NOTIFY_SOCKET"]

            def ready():
                if not process.alive():
                    raise AssertionError(f"{name} ended with {process.popen.returncode}:\n{process.tail()}")
                try:
                    return b"READY=1" in sock.recv(1000)
                except TimeoutError:
                    return False

            wait_for(ready, lambda: f"READY=1 from {name}:\n{process.tail()}", PATIENCE_S, 0)
        return process

    def start_dataplane(self):
        cpus = sorted(os.sched_getaffinity(0))
        lcores = ",".join(f"{i}@{cpus[i % len(cpus)]}" for i in range(self.n_workers + 1))
        # The driver's rings of 512 frames hold 8 ms of a gigabit: with less than a core for the worker, TCP loses
        # every tenth segment to them.
        ports = [f"net_pcap{i},iface={iface},phy_mac=1" if self.raw_ports else
                 f"net_af_packet{i},iface={iface},qpairs={self.n_workers},framecnt=4096,blocksz=65536"
                 for i, iface in enumerate(("vethc", "vethb"))]
        command = [self.build / "dataplane/lb-dataplane", "--lcores", lcores, "--no-pci", "--file-prefix", self.id,
                   "-m", "256"]
        for port in ports:
            command += ["--vdev", port]
        command += ["--", "--instance", self.id, "--workers", self.n_workers, "--flows", "65536",
                    "--idle-sleep-us", "50"]
        self.dataplane = self._start_notifying("dataplane", command)
        return self.dataplane

    def start_control(self):
        self.control = self._start_notifying("control", [
            self.build / "control/lb-control", "--instance", self.id, "--config", self.config_file,
            *self.control_options])
        return self.control

    def write_config(self, config):
        """@param config YAML text, or a dict (JSON is YAML)."""
        self.config_file.write_text(config if isinstance(config, str) else json.dumps(config, indent=1))

    def start_all(self, config):
        """Data plane and daemon on `config`, up to the first working packet of every service."""
        self.write_config(config)
        self.start_dataplane()
        self.start_control()
        self.wait_ready()

    # -- lbctl

    def lbctl(self, *arguments, check=True):
        """Run lbctl; @return CompletedProcess. Its socket is a file: no namespace needed."""
        return run(str(self.build / "control/lbctl"), "--instance", self.id, *map(str, arguments), check=check,
                   env={**os.environ, **self.env})

    def lbctl_json(self, *arguments):
        """The JSON document of a command, whatever its exit status."""
        done = self.lbctl("--json", *arguments, check=False)
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise AssertionError(f"lbctl --json {arguments}: status {done.returncode}: {done.stdout!r} "
                                 f"{done.stderr!r}") from None

    def api(self, path):
        """GET from the daemon's API: what lbctl shows, without a process per question."""
        connection = http.client.HTTPConnection("fulcrum", timeout=PATIENCE_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE_S)
        try:
            connection.sock.connect(f"{self.env['FULCRUM_RUN_DIR']}/{self.id}/control.sock")
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        assert response.status == 200, f"GET {path}: {response.status} {body!r}"
        return json.loads(body) if response.headers["Content-Type"].startswith("application/json") else body.decode()

    def status(self):
        return self.api("/v1/status")

    def backend_list(self, service):
        return {b["name"]: b for b in self.api(f"/v1/backends?service={service}")["backends"]}

    def service(self, name):
        return self.api(f"/v1/services/{name}")["service"]

    def apply(self, config):
        """`lbctl apply` of a config as for write_config(), then wait until all of it works."""
        self.write_config(config)
        self.lbctl("apply", self.config_file)
        self.wait_ready()

    def effective(self, service):
        """Effective state of each backend: {"api-1": "up", ...}."""
        return {name: b["effective"] for name, b in self.backend_list(service).items()}

    def wait_effective(self, service, timeout_s=PATIENCE_S, **expected):
        """Wait until backends are in these states: wait_effective("web", api_1="down")."""
        expected = {name.replace("_", "-"): state for name, state in expected.items()}
        wait_for(lambda: expected.items() <= self.effective(service).items(),
                 lambda: f"{service}: {expected}, have {self.effective(service)}", timeout_s)

    def wait_ready(self, timeout_s=PATIENCE_S):
        """Data plane in sync, every enabled backend up with its next hop, every table published."""
        def unready():
            status = self.status()
            if status["dataplane"]["state"] != "up":
                return [f"data plane {status['dataplane']['state']}: {status['dataplane']['reason']}"]
            reasons = [f"service {s['name']}: table" for s in status["services"] if not s["table"]["published"]]
            for b in self.api("/v1/backends")["backends"]:
                name = f"{b['service']}/{b['name']}"
                if b["state"] == "enabled" and b["effective"] != "up":
                    reasons.append(f"{name} is {b['effective']}: {b['health']['reason']}")
                if not b["nexthop"]["resolved"]:
                    reasons.append(f"{name} next hop: {b['nexthop']['reason']}")
            return reasons
        last = []

        def ready():
            last[:] = unready()
            return not last
        wait_for(ready, lambda: f"readiness, missing: {last}", timeout_s)

    def drops(self):
        """{reason: packets} of every drop reason and of the fates that are no drops."""
        answer = self.api("/v1/drops")
        return {row["reason"]: row["pkts"] for row in answer["drops"] + answer["other"]}

    def events(self, **match):
        return [event for event in self.api("/v1/events")["events"]
                if all(event[key] == value for key, value in match.items())]

    # -- traffic

    def traffic(self, what, host, port, *options, timeout_s=120):
        """Run traffic.py in the client to its end. @return its report."""
        done = self.client.run(PYTHON, HERE / "traffic.py", what, host, port, *options, timeout=timeout_s)
        return json.loads(done.stdout)

    def load(self, host, port, *options):
        return LoadProcess(self, host, port, options)

    def get(self, url):
        """One HTTP request by curl from the client."""
        return self.client.run("curl", "-sS", "--fail", "--max-time", PATIENCE_S, url)

    # -- the end

    def describe(self):
        """Everything that helps to understand a failure."""
        parts = []
        for arguments in (["status"], ["backend", "list"], ["drops"], ["events"]):
            try:
                done = self.lbctl(*arguments, check=False, )
                parts.append(f"--- lbctl {' '.join(arguments)}\n{done.stdout}{done.stderr}")
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                parts.append(f"--- lbctl {' '.join(arguments)}: {error}")
        for process in self.processes:
            state = "running" if process.alive() else f"ended with {process.popen.returncode}"
            parts.append(f"--- {process.name} ({state}): {' '.join(process.command[4:])}\n{process.tail()}")
        return "\n".join(parts)

    def stop_daemons(self):
        """Stop daemons that run; @return their exit status by name (both stop on SIGTERM with 0)."""
        return {p.name: p.stop() for p in (self.control, self.dataplane) if p and p.alive()}

    def sanitizer_reports(self):
        """What AddressSanitizer or UBSan said in any daemon's log."""
        return [f"{p.name}:\n{p.tail(80)}" for p in self.processes if p.name in ("dataplane", "control") and
                any(mark in p.log.read_text(errors="replace") for mark in ("Sanitizer", "runtime error:"))]

    def close(self):
        for process in reversed(self.processes):
            process.kill_group()
        for ns in self.namespaces:
            ns.delete()
        remove_files(self.id)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def remove_files(lab_id):
    """Shared memory, hugepages, DPDK's run-time directory and temporary files of a lab."""
    for pattern in (f"dev/hugepages/*{lab_id}*", f"dev/shm/*{lab_id}*", f"run/dpdk/{lab_id}",
                    f"{tempfile.gettempdir().lstrip('/')}/{lab_id}-*"):
        for path in Path("/").glob(pattern):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def remove_leftover(lab_id):
    """All of a lab that was left running, found by its namespaces' names: processes, namespaces, files."""
    namespaces = [path.name for path in Path("/run/netns").glob(f"{lab_id}-*")]
    for name in namespaces:
        for pid in run("ip", "netns", "pids", name, check=False).stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
    for name in namespaces:
        run("ip", "netns", "del", name, check=False)
    remove_files(lab_id)


def remove_stale():
    """Labs of tests that were killed before they could tidy up: their process is gone."""
    for path in Path("/run/netns").glob(f"{PREFIX}-*-*-client"):
        lab_id = path.name.rsplit("-", 1)[0]
        if not Path(f"/proc/{lab_id.split('-')[1]}").exists():
            remove_leftover(lab_id)


class LoadProcess:
    """`traffic.py load` running in the client; a context manager."""

    def __init__(self, lab, host, port, options):
        self.process = lab.start(lab.client, "load", [PYTHON, HERE / "traffic.py", "load", host, port, *options],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.reader, self.n_read = LineReader(self.process.popen.stdout), 0
        self.first = self._read()

    def _read(self):
        line = self.reader.wait_line(self.n_read, PATIENCE_S)
        assert line is not None, f"load generator silent:\n{self.process.tail()}"
        self.n_read += 1
        return json.loads(line)

    def _command(self, command):
        self.process.popen.stdin.write(command.encode() + b"\n")
        self.process.popen.stdin.flush()
        return self._read()

    def report(self):
        return self._command("report")

    def stop(self):
        report = self._command("stop")
        self.process.popen.wait(PATIENCE_S)
        return report

    def wait_probes(self, n):
        """Until n more probes have ended well after now. @return the report."""
        since = time.monotonic()

        def enough():
            report = self.report()
            good = [p for p in report["probes"] if p[0] >= since and p[2] is not None]
            return report if len(good) >= n else None
        return wait_for(enough, f"{n} good probes", interval_s=0.1)

    def wait_settled(self, n, without):
        """Until the last n probes that began from now on have ended well, none of them at the backend `without`.
        @return the report; what begins after its "now" has no such excuse."""
        since = time.monotonic()

        def settled():
            report = self.report()
            last = [p[2] for p in report["probes"] if p[0] >= since][-n:]
            return report if len(last) == n and not {None, without} & set(last) else None
        return wait_for(settled, f"{n} good probes in a row without {without}", interval_s=0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill_group()
        self.process.popen.stdin.close()


def sigkill(process):
    """SIGKILL by pid; returns once the process is gone."""
    os.kill(process.pid, signal.SIGKILL)
    process.popen.wait()


__all__ = ["Lab", "Backend", "PYTHON", "run", "sigkill", "wait_for", "VIP", "VIP6", "VIPS", "CLIENT", "CLIENT6",
           "CLIENTS"]
