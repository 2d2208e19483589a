#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Packets per second of the real lb-dataplane (nat, established flows, 60-byte UDP packets, one worker) beside
dpdk-testpmd in macswap and io mode: the same device, packets, buffers and CPU. Mpps, and lb as a part of testpmd.

pcap     replayed inside the process by net_pcap (infinite_rx), sent to the same device, which drops
memif    from a testpmd with net_pcap on the other CPU, over memif, zero-copy; what comes back is dropped there
vhost    the same over vhost (generator) and virtio-user
"""
import os
import sys
import time
from contextlib import nullcontext

from benchlib import Bench
from netns import wait_for
from rig import Balancer, Rig, Testpmd, config, service, take_place, write_pcap

# All flows come at once: with less room than this the balancer takes it for a flood and records no more.
ROOM = 20
PROGRAMS = ("testpmd_io", "testpmd_macswap", "lb")


def measure(device, n_samples, seconds):
    """Packets per second sent by a program that runs, n_samples times, in Mpps."""
    rates = []
    time.sleep(0.3)  # the first packets of the flows insert them
    before, before_ns = device.counters(), time.monotonic_ns()
    for _ in range(n_samples):
        time.sleep(seconds)
        now, now_ns = device.counters(), time.monotonic_ns()
        rates.append((now["opackets"] - before["opackets"]) / (now_ns - before_ns) * 1e3)
        before, before_ns = now, now_ns
    return rates


class Pcap:
    """What is measured has a net_pcap port."""

    name = "pcap"

    def __init__(self, rig, path, n_flows):
        self.rig, self.n_flows = rig, n_flows
        # infinite_rx holds one buffer per packet of the file, and copies from there
        self.n_mbufs = n_flows + 8192
        memory_mb = 96 + self.n_mbufs * 512 // (1 << 20)
        self.eal = ["--vdev", f"net_pcap0,rx_pcap={path},infinite_rx=1"]
        self.memory = ["-m", str(memory_mb)], ["-m", str(memory_mb + 128)]

    def start(self, program):
        if program == "lb":
            return Balancer(self.rig, self.eal + self.memory[1], config(service()), n_flows=self.n_flows * ROOM,
                            n_mbufs=self.n_mbufs)
        return Testpmd(self.rig, self.eal + self.memory[0], program.split("_")[1], self.n_mbufs)

    def at_work(self):
        """What is the case while something is measured."""
        return nullcontext()

    def stop(self, device):
        device.stop()


class Memif:
    """A testpmd on the other CPU replays the file over memif. The measured side is the one that copies nothing."""

    name = "memif"
    memory = ["-m", "128"]
    n_mbufs, mbuf_bytes = 16384, 256

    def __init__(self, rig, path, n_flows):
        self.rig, self.n_flows, self.path, self.generator = rig, n_flows, path, None
        self.socket = rig.dir / f"{self.name}.sock"

    def devices(self):
        """EAL's options of (generator, measured); the one that listens first."""
        return (["--vdev", f"net_memif0,role=server,socket-abstract=no,rsize=11,socket={self.socket}"],
                ["--vdev", f"net_memif0,role=client,zero-copy=yes,socket-abstract=no,rsize=11,socket={self.socket}",
                 "--single-file-segments"])

    def start_generator(self, eal):
        """Forwards between net_pcap (port 0, made first) and the channel."""
        self.generator = Testpmd(self.rig, [f"--vdev=net_pcap0,rx_pcap={self.path},infinite_rx=1", *eal, "-m",
                                            str(160 + (self.n_flows + 16384) * 512 // (1 << 20))],
                                 "io", self.n_flows + 16384, cpu=0, name="generator", await_packets=False)
        wait_for(lambda: self.socket.exists() or not self.generator.process.alive(),
                 lambda: f"the generator:\n{self.generator.process.tail()}", 30)

    def start(self, program):
        self.socket.unlink(missing_ok=True)  # of the generator before
        generator, measured = self.devices()
        self.start_generator(generator)
        if program == "lb":
            return Balancer(self.rig, measured + ["-m", "320"], config(service()), n_flows=self.n_flows * ROOM,
                            n_mbufs=self.n_mbufs, mbuf_bytes=self.mbuf_bytes)
        return Testpmd(self.rig, measured + self.memory, program.split("_")[1], self.n_mbufs,
                       mbuf_bytes=self.mbuf_bytes)

    def at_work(self):
        return self.generator.boosted(self.rig.priority - 1)

    def stop(self, device):
        device.stop()
        self.generator.stop()


class Vhost(Memif):
    """The same over vhost (generator) and virtio-user (measured)."""

    name = "vhost"
    mbuf_bytes = 2176  # the driver wants room for its MTU

    def devices(self):
        return (["--vdev", f"net_vhost0,iface={self.socket}"],
                ["--vdev", f"net_virtio_user0,path={self.socket},queue_size=1024", "--single-file-segments"])


def options(parser):
    parser.add_argument("--flows", help="numbers of flows (default: 100000,1000000; --quick: 100000)")


def measure_balancer(device, n_flows, *arguments):
    """As measure(); what the balancer did meanwhile must be what the benchmark is about."""
    wait_for(lambda: device.get("/v1/stats")["workers"][0]["flows_used"] >= 0.99 * n_flows,
             lambda: f"established flows: {device.get('/v1/stats')['workers']}", 30)
    before = device.verdicts()
    rates = measure(device, *arguments)
    verdicts = {reason: n - before[reason] for reason, n in device.verdicts().items() if n != before[reason]}
    if verdicts.get("forward", 0) < 0.999 * sum(verdicts.values()):
        sys.exit(f"the balancer did not forward: {verdicts}")
    return rates


def run(bench, channel, n_rounds, n_samples, seconds):
    base, parameters = f"channel/{channel.name}", f"?flows={channel.n_flows}"
    programs = PROGRAMS if channel.name == "pcap" or not bench.args.quick else PROGRAMS[1:]
    rates = {program: [] for program in programs}
    best = {program: [] for program in programs}
    for _ in range(n_rounds):
        for program in programs:
            device = channel.start(program)
            with channel.at_work():
                if program == "lb":
                    samples = measure_balancer(device, channel.n_flows, n_samples, seconds)
                else:
                    samples = measure(device, n_samples, seconds)
            channel.stop(device)
            rates[program] += samples
            best[program].append(max(samples))
    for program in programs:
        bench.result(f"{base}/{program}{parameters}", "Mpps", rates[program])
    # of each round's best: what disturbs only slows down
    for program in programs[:-1]:
        bench.result(f"{base}/lb_to_{program}{parameters}", "ratio",
                     [lb / other for lb, other in zip(best["lb"], best[program])])


def main():
    bench = Bench(__doc__, options)
    priority = take_place()
    quick = bench.args.quick
    flows = [int(n) for n in (bench.args.flows or ("100000" if quick else "100000,1000000")).split(",")]
    n_rounds, n_samples, seconds = (1, 3, 0.5) if quick else (3, 5, 1)
    with Rig(priority) as rig:
        for n_flows in flows:
            path = write_pcap(rig.dir / f"{n_flows}.pcap", n_flows)
            for kind in (Pcap, Memif, Vhost):
                if bench.wanted(f"channel/{kind.name}?flows={n_flows}"):
                    run(bench, kind(rig, path, n_flows), n_rounds, n_samples, seconds)
            path.unlink()
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
