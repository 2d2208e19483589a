#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""How long changes take to reach every worker, while packets flow (net_pcap replay, one worker), and what is lost.

health_to_workers   from the daemon's notice of a failed check to the last packet sent to that backend
lbctl_to_workers    one PATCH of a backend over the API: saved, table swapped in every worker, answered
apply               PUT of a whole config, until every worker has every table
resync_control      start of lb-control over a running data plane, until everything has been told again
resync_dataplane    restart of lb-dataplane under a running lb-control, likewise (packets pass in between by the old one)
packets_lost        packets of the service dropped by the balancer in all of the above but the last
"""
import http.client
import json
import socket
import subprocess
import sys
import time

from benchlib import Bench, monotonic_ms
from netns import Namespace, veth, wait_for
from rig import Balancer, Rig, config, service, take_place, write_pcap

N_FLOWS = 20000
CHECK = {"type": "tcp", "interval": "100ms", "timeout": "90ms", "rise": 1, "fall": 1}


class Servers:
    """Addresses that answer health checks, in a namespace behind a veth pair."""

    def __init__(self, rig, n):
        self.lb, self.ns = Namespace(f"{rig.id}-lb"), Namespace(f"{rig.id}-be")
        veth(self.lb, "eth0", self.ns, "eth0")
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
        self.lb.delete()
        self.ns.delete()


class Setup:
    """A balancer with traffic. lost(): packets of the service dropped since the last call."""

    def __init__(self, rig, ns, config_, memory_mb):
        self.rig, self.ns, self.memory_mb = rig, ns, memory_mb
        path = write_pcap(rig.dir / "traffic.pcap", N_FLOWS)
        self.eal = ["--vdev", f"net_pcap0,rx_pcap={path},infinite_rx=1", "-m", str(memory_mb)]
        self.balancer = Balancer(rig, self.eal, config_, n_flows=10 * N_FLOWS, n_mbufs=N_FLOWS + 8192, ns=ns)
        self.before = {}
        self.lost()

    def lost(self):
        now = self.balancer.verdicts()
        sent = now["forward"] - self.before.get("forward", 0)
        lost = {reason: n - self.before.get(reason, 0) for reason, n in now.items()
                if reason not in ("forward", "reply") and n != self.before.get(reason, 0)}
        self.before = now
        assert sent > 0, now
        return lost

    def ready(self):
        balancer = self.balancer
        return balancer.ready() and balancer.get("/v1/status")["dataplane"]["n_pending"] == 0


def event_ns(balancer, since_ns, subject, to):
    for event in balancer.get("/v1/events")["events"]:
        if event["time_ns"] > since_ns and (event["kind"], event["subject"], event["to"]) == \
                ("backend_state", subject, to):
            return event["time_ns"]
    return None


def health_to_workers(setup, servers, n_runs):
    """ms from the event to the last packet seen at the failed backend."""
    samples, balancer = [], setup.balancer
    for run in range(n_runs):
        i = run % len(servers.listeners)
        name = f"api-{i}"
        backend = {b["name"]: b for b in balancer.get("/v1/backends?service=dns")["backends"]}[name]
        priority = ["chrt", "-f", str(setup.rig.priority)] if setup.rig.priority else []
        watch = subprocess.Popen([*priority, setup.rig.build / "tests/bench/shm_watch", balancer.instance,
                                  str(backend["id"])], stdout=subprocess.PIPE, text=True)
        if watch.stdout.readline() != "ready\n":
            sys.exit(f"no packets go to {name}")
        since_ns = time.time_ns()
        servers.stop(i)
        last_ns = int(watch.stdout.readline())
        watch.wait()
        failed_ns = wait_for(lambda: event_ns(balancer, since_ns, f"backend dns/{name}", "down"), "the event")
        samples.append(max(last_ns - failed_ns, 0) / 1e6)
        servers.start(i)
        since_ns = failed_ns
        wait_for(lambda: event_ns(balancer, since_ns, f"backend dns/{name}", "up"), "the recovery")
    return samples


def patch_backend(setup, name, n_runs):
    """ms of one change over the API; it answers when every worker has it."""
    samples = []
    for run in range(n_runs):
        start = monotonic_ms()
        status, answer = setup.balancer.request("PATCH", f"/v1/services/{name}/backends/api-1",
                                                json.dumps({"weight": 2 + run % 2}))
        samples.append(monotonic_ms() - start)
        if status != 200 or not answer["live"] or answer["n_changes"] != 1:
            sys.exit(f"PATCH: {status} {answer}")
    return samples


def put_config(setup, text, what):
    """ms until a whole config is everywhere."""
    start = monotonic_ms()
    status, answer = setup.balancer.request("PUT", "/v1/config", text)
    if status != 200 or answer["refused"]:
        sys.exit(f"PUT /v1/config ({what}): {status} {json.dumps(answer)[:500]}")
    wait_for(setup.ready, what, 60, 0.01)
    return monotonic_ms() - start


def restart(setup, process, start, what):
    process.stop()
    begin = monotonic_ms()
    start()

    def ready():
        try:
            return setup.ready()
        except (AssertionError, OSError, http.client.HTTPException):
            return False
    wait_for(ready, what, 60, 0.01)
    return monotonic_ms() - begin


def many(n_services, n_backends, table_size):
    services = [service("dns", n_backends=n_backends, table_size=table_size)]
    for i in range(1, n_services):
        services.append(service(f"s-{i}", vip=f"198.18.{i // 250}.{i % 250 + 1}", n_backends=n_backends,
                                first=i * n_backends, table_size=table_size))
    return config(*services)


def measure_small(bench, rig, total_lost):
    n_backends, n_runs = 16, 4 if bench.args.quick else 20
    servers = Servers(rig, n_backends)
    try:
        setup = Setup(rig, servers.lb, config(service(n_backends=n_backends, health_check=CHECK)), 512)
        wait_for(lambda: all(b["effective"] == "up" for b in setup.balancer.get("/v1/backends")["backends"]),
                 "healthy backends", 20)
        setup.lost()
        bench.result("config/health_to_workers", "ms", health_to_workers(setup, servers, n_runs))
        bench.result("config/lbctl_to_workers", "ms", patch_backend(setup, "dns", n_runs))
        total_lost.append(setup.lost())
        setup.balancer.stop()
    finally:
        servers.close()


def measure_large(bench, rig, total_lost, n_services, n_backends):
    parameters = f"?services={n_services}&backends={n_backends}"
    n_runs = 1 if bench.args.quick else 3
    small, large = (json.dumps(c) for c in (many(1, n_backends, 4093), many(n_services, n_backends, 4093)))
    setup = Setup(rig, None, json.loads(small), 1024)
    samples, back = [], []
    for run in range(n_runs):
        if run > 0:
            back.append(put_config(setup, small, "the small config"))
        samples.append(put_config(setup, large, "the large config"))
    bench.result(f"config/apply{parameters}", "ms", samples)
    if back:
        bench.result(f"config/remove_all_but_one{parameters}", "ms", back)
    bench.result(f"config/lbctl_to_workers{parameters}", "ms", patch_backend(setup, "dns", 3))
    total_lost.append(setup.lost())
    balancer = setup.balancer
    bench.result(f"config/resync_control{parameters}", "ms",
                 [restart(setup, balancer.control, balancer.start_control, "the new daemon") for _ in range(n_runs)])
    total_lost.append(setup.lost())
    bench.result(f"config/resync_dataplane{parameters}", "ms",
                 [restart(setup, balancer.process, balancer.start_dataplane, "the new data plane")
                  for _ in range(n_runs)])
    balancer.stop()


def main():
    def options(parser):
        parser.add_argument("--services", type=int, default=4000, help="of the large config")
        parser.add_argument("--backends", type=int, default=16, help="of each service")
    bench = Bench(__doc__, options)
    lost = []
    with Rig(take_place()) as rig:
        if bench.wanted("config/health_to_workers config/lbctl_to_workers"):
            measure_small(bench, rig, lost)
            rig.remove_files()
        if bench.wanted("config/apply config/resync config/lbctl_to_workers?services"):
            measure_large(bench, rig, lost, bench.args.services, bench.args.backends)
    total = sum(sum(reasons.values()) for reasons in lost)
    if total:
        print(f"lost: {lost}", file=sys.stderr)
    bench.result("config/packets_lost", "packets", [total])
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
