#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""How long changes take to reach every worker, while packets flow, and what is lost meanwhile.

health_to_workers   from the daemon's notice of a failed check to the last packet sent to that backend, under a replay of
                    millions of packets a second (net_pcap, one worker)
lbctl_to_workers    from the start of `lbctl backend disable` to the last packet sent to that backend
lbctl_answered      from the start of `lbctl` to its end, for the same: the change is saved, and in force in every worker
apply               PUT of a whole config, until every worker has every table; apply_cpu: what of it lb-control computed. From the
                    second run on backends come back that were removed a moment ago
resync_control      start of lb-control over a running data plane, until everything has been told again
resync_dataplane    restart of lb-dataplane under a running lb-control, likewise
packets_lost        during=health, lbctl, apply, lbctl_large, resync_control: numbered packets (seq_traffic.c) sent through a veth pair that
                    did not come back, while changes of that kind were made; during=replay: of the replay, those that the
                    balancer itself counts as dropped. All must be 0
dataplane_gap       for how long numbered packets were lost while lb-dataplane was restarted (their number, by their rate), the
                    start of its process included
"""
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchlib import Bench, monotonic_ms, run_main
from netns import Namespace, veth, wait_for
from rig import VIP, Balancer, Rig, config, service, take_place, write_pcap

PPS, N_NUMBERED_FLOWS = 5000, 5000
N_FLOWS = 20000
CHECK = {"type": "tcp", "interval": "100ms", "timeout": "90ms", "rise": 1, "fall": 1}


class Servers:
    """Addresses that answer health checks, in a namespace behind a veth pair; and a client behind another."""

    def __init__(self, rig, n):
        self.lb, self.ns, self.client = (Namespace(f"{rig.id}-{name}") for name in ("lb", "be", "cl"))
        veth(self.lb, "eth0", self.ns, "eth0")
        veth(self.lb, "eth1", self.client, "eth1")
        self.lb.ip("addr add 192.0.2.1/24 dev eth0", "route add 10.0.0.0/8 via 192.0.2.2")
        self.ns.ip("addr add 192.0.2.2/24 dev eth0", *(f"addr add 10.0.0.{i + 1}/32 dev lo" for i in range(n)))
        self.listeners = {}
        for i in range(n):
            self.start(i)

    def start(self, i):
        with self.ns.entered():
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((f"10.0.0.{i + 1}", 8053))
            sock.listen(1024)
            self.listeners[i] = sock

    def stop(self, i):
        self.listeners.pop(i).close()

    def close(self):
        for sock in self.listeners.values():
            sock.close()
        for ns in (self.lb, self.ns, self.client):
            ns.delete()


class Numbered:
    """Numbered packets through the balancer, back to where they came from."""

    def __init__(self, rig, ns):
        self.process = rig.start("numbered", [rig.build / "tests/bench/seq_traffic", "eth1", VIP, "53", str(PPS),
                                              str(N_NUMBERED_FLOWS)], rig.priority + 1 if rig.priority else 0, ns,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.await_return()

    def report(self):
        """What became of the packets since the last report."""
        try:
            self.process.popen.stdin.write(b"\n")
            self.process.popen.stdin.flush()
            return json.loads(self.process.popen.stdout.readline())
        except (BrokenPipeError, ValueError):
            sys.exit(f"the numbered packets ended:\n{self.process.tail()}")

    def await_return(self):
        """Until packets come back. @return how many were lost since the last report."""
        n_lost = 0
        for _ in range(30):
            report = self.report()
            n_lost += report["lost"]
            if report["sent"] > 0 and report["lost"] == 0:
                return n_lost
            time.sleep(0.1)
        sys.exit(f"no packets come back: {report}")


class Losses:
    """Results packets_lost, and what to say if there were some."""

    def __init__(self, bench, numbered, balancer):
        self.bench, self.numbered, self.balancer = bench, numbered, balancer
        self.before = balancer.verdicts()

    def during(self, what):
        report, verdicts = self.numbered.report(), self.balancer.verdicts()
        self.bench.result(f"config/packets_lost?during={what}", "packets", [report["lost"]], sent=report["sent"])
        if report["lost"] or report["twice"]:
            dropped = {reason: n - self.before.get(reason, 0) for reason, n in verdicts.items()
                       if n != self.before.get(reason, 0)}
            print(f"{what}: {report}; the balancer counted {dropped}, its port {self.balancer.counters()}", file=sys.stderr)
        self.before = verdicts


class Setup:
    """A balancer under a replay, one worker. lost(): packets of the service that it dropped since the last call, and the
    number of those that it forwarded."""

    def __init__(self, rig, ns, config_):
        path = write_pcap(rig.dir / "traffic.pcap", N_FLOWS)
        self.rig, self.before = rig, {}
        self.balancer = Balancer(rig, ["--vdev", f"net_pcap0,rx_pcap={path},infinite_rx=1", "-m", "512"], config_,
                                 n_flows=10 * N_FLOWS, n_mbufs=N_FLOWS + 8192, ns=ns)
        self.lost()

    def lost(self):
        now = self.balancer.verdicts()
        sent = now["forward"] - self.before.get("forward", 0)
        lost = {reason: n - self.before.get(reason, 0) for reason, n in now.items()
                if reason not in ("forward", "reply") and n != self.before.get(reason, 0)}
        self.before = now
        return lost, sent


def is_settled(balancer):
    dataplane = balancer.get("/v1/status?services=0")["dataplane"]  # thousands of services would be most of the work
    return dataplane["n_pending"] == 0 and dataplane["state"] == "up" and balancer.ready()


def cpu_ms(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def event_ns(balancer, since_ns, subject, to):
    for event in balancer.get("/v1/events")["events"]:
        if event["time_ns"] > since_ns and (event["kind"], event["subject"], event["to"]) == \
                ("backend_state", subject, to):
            return event["time_ns"]
    return None


class Watch:
    """Watches for the last packet sent to a backend of service dns; made once packets go there."""

    def __init__(self, rig, balancer, name):
        (backend,) = (b for b in balancer.get("/v1/backends?service=dns")["backends"] if b["name"] == name)
        priority = ["chrt", "-f", str(rig.priority)] if rig.priority else []
        self.process = subprocess.Popen([*priority, rig.build / "tests/bench/shm_watch", balancer.instance,
                                         str(backend["id"])], stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            sys.exit(f"no packets go to {name}")

    def last_ns(self):
        """When the last packet was sent there, once none has been for a while."""
        text = self.process.stdout.readline()
        if self.process.wait() != 0:
            sys.exit("packets went on to a backend that is down")
        return int(text)


def fail_and_recover(servers, balancer, i, while_down=lambda: None):
    """Backend i fails a check, and answers again. @return when the daemon noticed."""
    since_ns, subject = time.time_ns(), f"backend dns/api-{i}"
    servers.stop(i)
    failed_ns = wait_for(lambda: event_ns(balancer, since_ns, subject, "down"), "the event", 30)
    while_down()
    servers.start(i)
    wait_for(lambda: event_ns(balancer, failed_ns, subject, "up"), "the recovery", 30)
    return failed_ns


def health_to_workers(rig, balancer, servers, n_runs):
    """ms from the event to the last packet seen at the failed backend."""
    samples, n_tries = [], 0
    while len(samples) < n_runs:
        i = n_tries % len(servers.listeners)
        watch, last = Watch(rig, balancer, f"api-{i}"), []
        failed_ns = fail_and_recover(servers, balancer, i, lambda: last.append(watch.last_ns()))
        n_tries += 1
        # Packets that ended before the event ended for another reason: the worker was not run. That is no sample.
        if last[0] >= failed_ns:
            samples.append((last[0] - failed_ns) / 1e6)
        elif n_tries > 3 * n_runs + 10:
            sys.exit("health_to_workers: others take the worker's CPU (chrt -f 10 gives it one)")
    return samples


def lbctl(balancer, *words):
    """@return (time when it was started, when it ended), ns of the real-time clock."""
    start_ns = time.time_ns()
    done = subprocess.run([balancer.rig.build / "control/lbctl", "--instance", balancer.instance, *words],
                          env={"FULCRUM_RUN_DIR": str(balancer.rig.dir / "run"), "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        sys.exit(f"lbctl {' '.join(words)}: {done.stderr}")
    return start_ns, time.time_ns()


def disable_backend(rig, balancer, n_runs):
    """([ms from lbctl's start to the last packet sent to the backend], [ms until it ended])."""
    to_workers, answered = [], []
    for run in range(n_runs):
        name = f"api-{run % 16}"
        watch = Watch(rig, balancer, name)
        start_ns, end_ns = lbctl(balancer, "backend", "disable", "dns", name)
        to_workers.append((watch.last_ns() - start_ns) / 1e6)
        answered.append((end_ns - start_ns) / 1e6)
        lbctl(balancer, "backend", "enable", "dns", name)
    return to_workers, answered


def put_config(balancer, text, what):
    """ms until a whole config is everywhere."""
    while True:
        start = monotonic_ms()
        status, answer = balancer.request("PUT", "/v1/config", text)
        if status != 429:
            break
        print(f"{what}: {answer['error']['message']}", file=sys.stderr)
        time.sleep(int(re.search(r"try again in (\d+) s", answer["error"]["message"])[1]))
    if status != 200 or answer["refused"]:
        sys.exit(f"PUT /v1/config ({what}): {status} {json.dumps(answer)[:500]}")
    wait_for(lambda: is_settled(balancer), what, 60, 0.01)
    return monotonic_ms() - start


def restart(balancer, process, start, what):
    """ms from the start of the new process until everything is settled."""
    process.stop()
    begin = monotonic_ms()
    start()

    def ready():
        try:
            return is_settled(balancer)
        except (AssertionError, OSError, http.client.HTTPException):
            return False
    wait_for(ready, what, 60, 0.01)
    return monotonic_ms() - begin


def many(n_services, n_backends, table_size):
    services = [service(n_backends=16, table_size=table_size, health_check=CHECK)]
    for i in range(1, n_services):
        services.append(service(f"s-{i}", vip=f"198.18.{i // 250}.{i % 250 + 1}", n_backends=n_backends,
                                first=16 + i * n_backends, table_size=table_size))
    return config(*services)


def all_up(balancer):
    wait_for(lambda: all(b["effective"] == "up" for b in balancer.get("/v1/backends?service=dns")["backends"]),
             "healthy backends", 30)


def measure_replay(bench, rig, servers, small):
    """Changes of one backend under a replay."""
    n_runs = 4 if bench.args.quick else 20
    setup = Setup(rig, servers.lb, small)
    balancer = setup.balancer
    all_up(balancer)
    setup.lost()
    bench.result("config/health_to_workers", "ms", health_to_workers(rig, balancer, servers, n_runs))
    to_workers, answered = disable_backend(rig, balancer, n_runs)
    bench.result("config/lbctl_to_workers", "ms", to_workers)
    bench.result("config/lbctl_answered", "ms", answered)
    lost, sent = setup.lost()
    if sent == 0:
        sys.exit("no packet of the replay was forwarded")
    if lost:
        print(f"replay: dropped {lost}", file=sys.stderr)
    bench.result("config/packets_lost?during=replay", "packets", [sum(lost.values())], sent=sent)
    balancer.stop()


def measure_numbered(bench, rig, servers, small, large, parameters):
    """The same under numbered packets, and what is larger: whole configs, restarts."""
    n_runs = 1 if bench.args.quick else 3
    balancer = Balancer(rig, ["--vdev", "net_af_packet0,iface=eth1,framecnt=4096,blocksz=65536", "-m", "1024"], small,
                        n_flows=10 * N_FLOWS, mbuf_bytes=2176, ns=servers.lb)
    all_up(balancer)
    numbered = Numbered(rig, servers.client)
    losses = Losses(bench, numbered, balancer)
    for i in range(2 * n_runs):
        fail_and_recover(servers, balancer, i)
    losses.during("health")
    disable_backend(rig, balancer, n_runs)
    for change in (("set", "dns", "api-3", "weight=7"), ("drain", "dns", "api-4"), ("enable", "dns", "api-4")):
        lbctl(balancer, "backend", *change)
    losses.during("lbctl")

    samples, computed, back = [], [], []
    for run in range(n_runs):
        if run > 0:
            back.append(put_config(balancer, json.dumps(small), "the small config"))
        before_ms = cpu_ms(balancer.control)
        samples.append(put_config(balancer, json.dumps(large), "the large config"))
        computed.append(cpu_ms(balancer.control) - before_ms)
    bench.result(f"config/apply{parameters}", "ms", samples)
    bench.result(f"config/apply_cpu{parameters}", "ms", computed)
    if back:
        bench.result(f"config/remove_all_but_one{parameters}", "ms", back)
    losses.during("apply")

    to_workers, answered = disable_backend(rig, balancer, 2 * n_runs)
    bench.result(f"config/lbctl_to_workers{parameters}", "ms", to_workers)
    bench.result(f"config/lbctl_answered{parameters}", "ms", answered)
    losses.during("lbctl_large")
    bench.result(f"config/resync_control{parameters}", "ms",
                 [restart(balancer, balancer.control, balancer.start_control, "the new daemon") for _ in range(n_runs)])
    losses.during("resync_control")

    samples, gaps = [], []
    for _ in range(n_runs):
        samples.append(restart(balancer, balancer.process, balancer.start_dataplane, "the new data plane"))
        gaps.append(numbered.await_return() / PPS * 1000)
    bench.result(f"config/resync_dataplane{parameters}", "ms", samples)
    bench.result(f"config/dataplane_gap{parameters}", "ms", gaps)
    balancer.stop()


def main():
    def options(parser):
        parser.add_argument("--services", type=int, default=4000, help="of the large config")
        parser.add_argument("--backends", type=int, default=16, help="of each of its services")
    bench = Bench(__doc__, options)
    args = bench.args
    parameters = f"?services={args.services}&backends={args.backends}"
    small = config(service(n_backends=16, health_check=CHECK))
    large = many(args.services, args.backends, 4093)
    with Rig(take_place()) as rig:
        servers = Servers(rig, 16)
        try:
            if any(map(bench.wanted, ("config/health_to_workers", "config/lbctl_to_workers", "config/lbctl_answered",
                                      "config/packets_lost?during=replay"))):
                measure_replay(bench, rig, servers, small)
                rig.remove_files()
            if any(bench.wanted(f"config/{name}{parameters}") for name in
                   ("apply", "apply_cpu", "lbctl_to_workers", "lbctl_answered", "resync_control", "resync_dataplane", "dataplane_gap",
                    "remove_all_but_one")) or bench.wanted("config/packets_lost?during=health"):
                measure_numbered(bench, rig, servers, small, large, parameters)
        finally:
            servers.close()
    return bench.finish()


if __name__ == "__main__":
    run_main(main)
