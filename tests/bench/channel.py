#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Packets per second of the real lb-dataplane (nat, established flows, 60-byte UDP packets, one worker) beside
dpdk-testpmd in macswap and io mode: the same device, packets, buffers and CPU. Mpps, and lb as a part of testpmd.

pcap     replayed inside the process by net_pcap (infinite_rx), sent to the same device, which drops
memif    from a testpmd with net_pcap on the other CPU, over memif, zero-copy; what comes back is dropped there
vhost    the same over vhost (generator) and virtio-user

Where the environment's PKTGEN names the binary of Pktgen-DPDK, that replays the file in place of the generating testpmd, and
the results have generator=pktgen in their names.
"""
import os
import shutil
import sys
import time
from contextlib import nullcontext

from benchlib import Bench, run_main
from rig import Balancer, Pktgen, Rig, Testpmd, config, log_of, service, take_place, wait_alive, write_pcap

# All flows come at once: with less room than this the balancer takes it for a flood and records no more.
ROOM = 20
PROGRAMS = ("testpmd_io", "testpmd_macswap", "lb")
PKTGEN_MB = 512


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

    name, parameters, generator = "pcap", "", None

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
    """A generator on the other CPU replays the file over memif. The measured side is the one that copies nothing."""

    name = "memif"
    memory = ["-m", "128"]
    n_mbufs, mbuf_bytes = 16384, 256

    def __init__(self, rig, path, n_flows, pktgen=None):
        self.rig, self.n_flows, self.path, self.pktgen = rig, n_flows, path, pktgen
        self.generator, self.parameters = None, "&generator=pktgen" if pktgen else ""
        self.socket = rig.dir / f"{self.name}.sock"

    def devices(self):
        """EAL's options of (generator, measured); the one that listens first."""
        return (["--vdev", f"net_memif0,role=server,socket-abstract=no,rsize=11,socket={self.socket}"],
                ["--vdev", f"net_memif0,role=client,zero-copy=yes,socket-abstract=no,rsize=11,socket={self.socket}",
                 "--single-file-segments"])

    def start_generator(self, eal):
        if self.pktgen:
            # pools of 24 576 packets for each of its ways to send, and a buffer per packet of the file
            self.generator = Pktgen(self.rig, self.pktgen, [*eal, "-m", str(PKTGEN_MB + self.n_flows * 512 // (1 << 20))],
                                    self.path)
        else:  # forwards between net_pcap (port 0, made first) and the channel
            n_mbufs = self.n_flows + 16384
            self.generator = Testpmd(self.rig, [f"--vdev=net_pcap0,rx_pcap={self.path},infinite_rx=1", *eal, "-m",
                                                str(160 + n_mbufs * 512 // (1 << 20))],
                                     "io", n_mbufs, name="generator", is_measured=False)
        # a port that is not started yet refuses the other side, which does not ask again
        wait_alive(self.generator.process, lambda: self.socket.exists() and self.generator.is_started())

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


def await_flows(device, channel):
    """Until the balancer has an entry of every flow."""
    def is_established():
        if channel.generator and not channel.generator.process.alive():
            sys.exit(f"the generator ended:\n{log_of(channel.generator.process)}")
        return device.get("/v1/stats")["workers"][0]["flows_used"] >= 0.99 * channel.n_flows
    try:
        wait_alive(device.process, is_established)
    except AssertionError as error:
        sys.exit(f"not every flow came: {device.get('/v1/stats')['workers']}\n{error}" +
                 (f"\n\nthe generator:\n{log_of(channel.generator.process)}" if channel.generator else ""))


def measure_balancer(device, *arguments):
    """As measure(); what the balancer did meanwhile must be what the benchmark is about."""
    before = device.verdicts()
    rates = measure(device, *arguments)
    verdicts = {reason: n - before[reason] for reason, n in device.verdicts().items() if n != before[reason]}
    # tx_full: the other side did not take packets back in time; testpmd loses those as well
    n_all, n_full = sum(verdicts.values()), verdicts.get("tx_full", 0)
    if n_all == 0 or verdicts.get("forward", 0) < 0.999 * (n_all - n_full) or n_full > n_all / 2:
        sys.exit(f"the balancer did not forward: {verdicts}")
    return rates


def run(bench, channel, n_rounds, n_samples, seconds):
    base, parameters = f"channel/{channel.name}", f"?flows={channel.n_flows}{channel.parameters}"
    ratio = {program: f"{base}/lb_to_{program}{parameters}" for program in PROGRAMS[:-1]}
    programs = PROGRAMS if channel.name == "pcap" or not bench.args.quick else PROGRAMS[1:]
    programs = [program for program in programs
                if bench.wanted(f"{base}/{program}{parameters}") or bench.wanted(ratio.get(program, ratio[PROGRAMS[1]]))]
    rates = {program: [] for program in programs}
    best = {program: [] for program in programs}
    for _ in range(n_rounds):
        for program in programs:
            device = channel.start(program)
            if program == "lb":
                await_flows(device, channel)
            with channel.at_work():  # not before: the link comes up by threads that have no such priority
                samples = (measure_balancer if program == "lb" else measure)(device, n_samples, seconds)
            channel.stop(device)
            rates[program] += samples
            best[program].append(max(samples))
    for program in programs:
        bench.result(f"{base}/{program}{parameters}", "Mpps", rates[program])
    # of each round's best: what disturbs only slows down
    for program in programs[:-1]:
        if "lb" in programs:
            bench.result(ratio[program], "ratio", [lb / other for lb, other in zip(best["lb"], best[program])])


def find_pktgen():
    """The program that PKTGEN names; None: testpmd generates."""
    name = os.environ.get("PKTGEN")
    if name and not shutil.which(name):
        sys.exit(f"PKTGEN={name}: no such program")
    return name and shutil.which(name)


def main():
    bench = Bench(__doc__, options)
    pktgen, priority = find_pktgen(), take_place()
    quick = bench.args.quick
    flows = [int(n) for n in (bench.args.flows or ("100000" if quick else "100000,1000000")).split(",")]
    n_rounds, n_samples, seconds = (1, 3, 0.5) if quick else (3, 5, 1)
    with Rig(priority) as rig:
        for n_flows in flows:
            path = write_pcap(rig.dir / f"{n_flows}.pcap", n_flows)
            for channel in (Pcap(rig, path, n_flows), Memif(rig, path, n_flows, pktgen), Vhost(rig, path, n_flows, pktgen)):
                run(bench, channel, n_rounds, n_samples, seconds)
            path.unlink()
    return bench.finish()


if __name__ == "__main__":
    run_main(main)
