# SPDX-License-Identifier: BSD-3-Clause
"""The processes that benchmarks measure: lb-dataplane with lb-control, dpdk-testpmd and Pktgen-DPDK, on virtual devices.

The first CPU (of those that we may use, see taskset): main lcores, lb-control, the benchmark itself, and the generator
where there is one. The second: what is measured. Started with real-time priority (chrt -f 10), the measured program keeps
it, so that nobody else takes the CPU from it. A generator's polling thread has it, one below, while something is measured:
the first CPU is left to the rest otherwise.

What is compared is started first and then measured by turns: polling threads whose turn it is not get only what nobody wants.
"""
import http.client
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import benchlib  # noqa: F401  (the path of netns)
from netns import Process, wait_for

STARTUP_S = 60
CPUS = sorted(os.sched_getaffinity(0))[:2]
FIRST_CPU, SECOND_CPU = CPUS[0], CPUS[-1]
VIP = "203.0.113.10"
PEER_MAC = "02:00:00:00:00:01"


def take_place():
    """Move the benchmark itself out of the way. @return the real-time priority it was started with, 0: none."""
    priority = 0
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        priority = os.sched_getparam(0).sched_priority
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.sched_setaffinity(0, {FIRST_CPU})
    return priority


def free_hugepages_mb():
    """MB of free hugepages of the default size."""
    fields = {line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()}
    return fields.get("HugePages_Free", 0) * fields.get("Hugepagesize", 0) // 1024


def require_hugepages(name, eal):
    """Exit with advice if the memory that EAL is to take at once (-m) is not there."""
    wanted_mb = int(eal[eal.index("-m") + 1]) if "-m" in eal else 0
    if wanted_mb > free_hugepages_mb():
        reserved = int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages").read_text())
        more = (wanted_mb - free_hugepages_mb() + 1) // 2 + 64
        sys.exit(f"{name} needs {wanted_mb} MB of hugepages, {free_hugepages_mb()} are free "
                 f"(as root: scripts/host-setup hugepages {reserved + more})")


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xffff) + (total >> 16)
    return 0xffff - ((total & 0xffff) + (total >> 16))


def write_pcap(path, n_flows, vip=VIP, port=53, n_vips=1):
    """60-byte UDP packets to a VIP (or n_vips in a row), one of each flow; checksums as they should be."""
    head = bytes.fromhex("020000000002020000000003") + b"\x08\x00"
    base = struct.unpack("!I", socket.inet_aton(vip))[0]
    record = struct.pack("<IIII", 0, 0, 60, 60)
    with open(path, "wb", buffering=1 << 20) as file:
        file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for flow in range(n_flows):
            ip = struct.pack("!BBHHHBBHII", 0x45, 0, 46, 0, 0, 64, 17, 0, 0x64400000 + (flow >> 14),
                             base + flow % n_vips)
            ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
            udp = struct.pack("!HHHH", 1024 + (flow & 16383), port, 26, 0)
            pseudo = ip[12:20] + struct.pack("!HH", 17, 26) + udp + bytes(18)
            file.write(record + head + ip + udp[:6] + struct.pack("!H", checksum(pseudo) or 0xffff) + bytes(18))
    return path


def telemetry(prefix, command):
    """Ask a DPDK process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(10)
        sock.connect(f"/var/run/dpdk/{prefix}/dpdk_telemetry.v2")
        sock.recv(4096)
        sock.send(command.encode())
        return json.loads(sock.recv(65536))[command.split(",")[0]]


class Rig:
    """A directory, names and processes of one benchmark; a context manager that leaves nothing behind."""

    def __init__(self, priority=0):
        self.id = f"fcbench-{os.getpid()}"
        self.dir = Path(tempfile.mkdtemp(prefix=f"{self.id}-"))
        self.build = Path(os.environ.get("FULCRUM_BUILD", benchlib.TOP / "build"))
        self.priority, self.processes, self.n_started = priority, [], 0
        if len(CPUS) == 1:
            print("only one CPU: what is measured shares it with all else, and figures mean little", file=sys.stderr)

    def start(self, name, command, priority=0, ns=None, **kwargs):
        if ns is not None:
            command = ["ip", "netns", "exec", ns.name, *command]
        if priority > 0:
            command = ["chrt", "-f", str(priority), *command]
        process = Process(name, command, self.dir / f"{name}.log",
                          env={"FULCRUM_RUN_DIR": str(self.dir / "run"), **kwargs.pop("env", {})}, **kwargs)
        self.processes.append(process)
        return process

    def dpdk(self, name, program, eal, arguments, is_measured=True, **kwargs):
        """A DPDK program: its main lcore on the first CPU, a polling lcore on the second (what is measured) or the first.
        @return (process, prefix)."""
        cpu = SECOND_CPU if is_measured else FIRST_CPU
        require_hugepages(name, eal)
        self.n_started += 1
        prefix = f"{self.id}-{name}-{self.n_started}"
        process = self.start(name, [program, "--lcores", f"0@{FIRST_CPU},1@{cpu}", "--no-pci", "--file-prefix", prefix,
                                    *eal, "--", *arguments], self.priority if is_measured else 0, **kwargs)
        return process, prefix

    def remove_files(self):
        for pattern in (f"dev/hugepages/*{self.id}*", f"dev/shm/*{self.id}*", f"run/dpdk/{self.id}*"):
            for path in Path("/").glob(pattern):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill_group()
        self.remove_files()
        shutil.rmtree(self.dir, ignore_errors=True)


def log_of(process):
    """The end of what a process said, without what moves a terminal's cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()78=>][B0]?|[\r\b]", "", process.tail()).strip()


def wait_alive(process, condition, timeout_s=STARTUP_S):
    """Until condition() holds; AssertionError with the process's log once it has ended, or after timeout_s."""
    def ready():
        if not process.alive():
            raise AssertionError(f"{process.name} ended with status {process.popen.returncode}:\n{log_of(process)}")
        try:
            return condition()
        except (OSError, ValueError, KeyError, TypeError):
            return False
    wait_for(ready, lambda: f"{process.name}:\n{log_of(process)}", timeout_s)


def polling_threads(process):
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return [int(task.name) for task in tasks if (task / "comm").read_text().startswith("rte-worker")]


def ran_ns(thread):
    """CPU time that a thread has had."""
    return int(Path(f"/proc/{thread}/schedstat").read_text().split()[0])


class Contest:
    """Programs that run at the same time and are measured by turns, so that all meet the machine as it is then: what else
    runs, and how fast the CPUs are, changes within seconds, which a ratio of two that ran one after the other would show."""

    def __init__(self, priority):
        self.priority, self.threads, self.shares = priority, {}, []

    def enter(self, measured, generator=None):
        """A process, and the generator (a process) that it has, give way until it is their turn()."""
        threads = polling_threads(measured), polling_threads(generator) if generator else []
        self.threads[measured.pid] = threads
        self.rest(measured)
        for task in Path(f"/proc/{generator.pid}/task").iterdir() if generator else ():
            if int(task.name) not in threads[1]:
                os.setpriority(os.PRIO_PROCESS, int(task.name), 19)

    def rest(self, measured):
        for thread in sum(self.threads[measured.pid], []):
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))

    def leave(self, measured):
        """It may end now."""
        for thread in sum(self.threads.pop(measured.pid), []):
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))

    @contextmanager
    def turn(self, measured):
        """The polling threads of a process that has entered, and those of its generator, have their CPUs. How much of
        them they had in fact is added to `shares`."""
        polling = sum(self.threads[measured.pid], [])
        before_ns, had_ns = time.monotonic_ns(), [ran_ns(thread) for thread in polling]
        try:
            if self.priority > 0:  # or we would hardly run
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(self.priority + 1))
            for threads, below in zip(self.threads[measured.pid], (0, 1)):
                value = max(self.priority - below, 0)
                for thread in threads:
                    os.sched_setscheduler(thread, os.SCHED_FIFO if value else os.SCHED_OTHER, os.sched_param(value))
            yield
        finally:
            self.rest(measured)
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        now_ns = time.monotonic_ns()
        self.shares.append(min((ran_ns(thread) - had) / (now_ns - before_ns) for thread, had in zip(polling, had_ns)))


class Poller:
    """A DPDK process (process, prefix) with a port to a measured one (port), or that is measured."""

    def is_started(self):
        return bool(telemetry(self.prefix, f"/ethdev/info,{self.port}")["dev_started"])

    def stop(self):
        self.process.stop()


class Testpmd(Poller):
    """dpdk-testpmd forwarding: what is measured, or a generator between port 0, where packets come from, and port 1."""

    def __init__(self, rig, eal, mode, n_mbufs, name="testpmd", is_measured=True, mbuf_bytes=256):
        self.port = 0 if is_measured else 1
        self.process, self.prefix = rig.dpdk(
            name, "dpdk-testpmd", eal,
            [f"--forward-mode={mode}", "--auto-start", f"--total-num-mbufs={n_mbufs}", f"--mbuf-size={mbuf_bytes}",
             "--rxd=1024", "--txd=1024", "--burst=32", "--no-lsc-interrupt", "--disable-link-check"], is_measured,
            stdin=subprocess.PIPE)
        if is_measured:
            wait_alive(self.process, lambda: self.counters()["ipackets"] > 0)

    def counters(self, port=None):
        return telemetry(self.prefix, f"/ethdev/stats,{self.port if port is None else port}")


class Pktgen(Poller):
    """Pktgen-DPDK (`program`) that replays a capture to its only port for ever; what comes back it drops. Not measured.

    It has no terminal, and no command is given once it sends: its main thread sleeps in a command file, or it would poll
    standard input without a pause, on the CPU of the thread that sends.
    """

    port = 0

    def __init__(self, rig, program, eal, pcap, name="pktgen"):
        commands = rig.dir / "pktgen.pkt"
        commands.write_text("start 0\nsleep 86400\n")
        self.process, self.prefix = rig.dpdk(name, program, eal,
                                             ["-P", "-m", "1.0", "-s", f"0:{pcap}", "-f", commands], is_measured=False,
                                             cwd=rig.dir,
                                             env={"LD_PRELOAD": str(rig.build / "tests/bench/liballow_mtu.so")})


class Balancer:
    """lb-dataplane and lb-control, one worker, on `config` (a dict), in network namespace `ns` (None: ours)."""

    def __init__(self, rig, eal, config, n_flows=1000000, n_mbufs=0, mbuf_bytes=256, idle_sleep_us=0, ns=None):
        self.rig, self.eal, self.port, self.ns = rig, eal, 0, ns
        self.process = self.control = self.prefix = None
        self.instance = f"{rig.id}-{rig.n_started}"
        self.arguments = ["--instance", self.instance, "--workers", "1", "--flows", str(n_flows), "--mbuf-size",
                          str(mbuf_bytes), "--promiscuous", "--idle-sleep-us", str(idle_sleep_us)]
        if n_mbufs:
            self.arguments += ["--mbufs", str(n_mbufs)]
        self.config_file = rig.dir / "fulcrum.json"
        self.config_file.write_text(json.dumps(config))
        self.start_dataplane()
        self.start_control()
        wait_for(self.ready, lambda: f"lb-control:\n{self.control.tail()}\n{self.process.tail()}", STARTUP_S)

    def start_dataplane(self):
        def n_ready():  # not by telemetry: some drivers crash when asked for counters before they are configured
            log = self.rig.dir / "dataplane.log"
            return log.read_text(errors="replace").count(" workers, ") if log.exists() else 0
        n_before = n_ready()
        self.process, self.prefix = self.rig.dpdk("dataplane", self.rig.build / "dataplane/lb-dataplane", self.eal,
                                                  self.arguments, ns=self.ns)
        wait_alive(self.process, lambda: n_ready() > n_before)

    def start_control(self):
        self.control = self.rig.start("control", [self.rig.build / "control/lb-control", "--instance", self.instance,
                                                  "--config", self.config_file], self.rig.priority, ns=self.ns)

    def request(self, method, path, body=None, timeout_s=60):
        """@return (status, document)"""
        connection = http.client.HTTPConnection("fulcrum")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout_s)
        try:
            connection.sock.connect(str(self.rig.dir / "run" / self.instance / "control.sock"))
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def get(self, path):
        status, document = self.request("GET", path)
        if status != 200:
            raise AssertionError(f"GET {path}: {status} {document}")
        return document

    def ready(self):
        for process in (self.process, self.control):
            if not process.alive():
                raise AssertionError(f"{process.name} ended:\n{process.tail()}")
        try:
            status = self.get("/v1/status")
        except OSError:
            return False
        return status["dataplane"]["state"] == "up" and all(s["table"]["published"] for s in status["services"])

    def counters(self):
        return telemetry(self.prefix, f"/ethdev/stats,{self.port}")

    def verdicts(self):
        """{reason: packets} of every fate."""
        answer = self.get("/v1/drops")
        return {row["reason"]: row["pkts"] for row in answer["drops"] + answer["other"]}

    def stop(self):
        self.control.stop()
        self.process.stop()


def service(name="dns", vip=VIP, port=53, protocol="udp", n_backends=16, first=0, **extra):
    """A nat service without health checks, its backends 10.x.y.z:8053 from number `first` on."""
    def address(n):
        return f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}"
    return {"name": name, "vip": vip, "port": port, "protocol": protocol, "mode": "nat",
            "health_check": {"type": "none"},
            "backends": [{"name": f"api-{i}", "address": address(first + i), "port": 8053} for i in range(n_backends)],
            **extra}


def config(*services):
    return {"hash_secret": "000102030405060708090a0b0c0d0e0f", "gateway": {"mac": PEER_MAC, "port": 0},
            "services": list(services)}
