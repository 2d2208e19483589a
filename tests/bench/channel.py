#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Packets per second of the real lb-dataplane (nat, established flows, 60-byte UDP packets, one worker) beside
dpdk-testpmd in macswap and io mode: the same device, packets, buffers and CPU. Mpps, and lb as a part of testpmd.

pcap     replayed inside the process by net_pcap (infinite_rx), sent to the same device, which drops
memif    from a testpmd with net_pcap on the other CPU, over memif, zero-copy; what comes back is dropped there
vhost    the same over vhost (generator) and virtio-user

Testpmd and lb run at the same time, each with its generator, and are measured by turns. Of memif and vhost, `taken` is the part of
what the generator offered that the program took: near 100 % the program waits for the generator, whose speed it is that is seen.

Where the environment's PKTGEN names the binary of Pktgen-DPDK, that replays the file in place of the generating testpmd, and
the results have generator=pktgen in their names.
"""
import os
import shutil
import statistics
import sys
import time

from benchlib import Bench, run_main
from rig import Balancer, Contest, Pktgen, Rig, Testpmd, config, log_of, service, take_place, wait_alive, write_pcap

# All flows come at once: with less room than this the balancer takes it for a flood and records no more.
ROOM = 20
PROGRAMS = ("testpmd_io", "testpmd_macswap", "lb")
PKTGEN_MB = 512
SETTLE_S = 0.05  # after the other's turn: rings and caches are its own again


class Pcap:
    """What is measured has a net_pcap port."""

    name, generator = "pcap", None

    def __init__(self, rig, path, program, n_flows, pktgen=None):
        self.rig, self.program, self.n_flows, self.device = rig, program, n_flows, None
        # infinite_rx holds one buffer per packet of the file, and copies from there
        self.n_mbufs = n_flows + 8192
        memory_mb = 96 + self.n_mbufs * 512 // (1 << 20)
        self.eal = ["--vdev", f"net_pcap0,rx_pcap={path},infinite_rx=1"]
        self.memory = ["-m", str(memory_mb)], ["-m", str(memory_mb + 128)]

    def start(self):
        if self.program == "lb":
            self.device = Balancer(self.rig, self.eal + self.memory[1], config(service()), n_flows=self.n_flows * ROOM,
                                   n_mbufs=self.n_mbufs)
        else:
            self.device = Testpmd(self.rig, self.eal + self.memory[0], self.program.split("_")[1], self.n_mbufs,
                                  name=self.program)

    def offered(self):
        """Packets that the generator had for the program, None: not known."""
        return None

    def stop(self):
        self.device.stop()


class Memif:
    """A generator on the other CPU replays the file over memif. The measured side is the one that copies nothing."""

    name = "memif"
    memory = ["-m", "128"]
    n_mbufs, mbuf_bytes = 16384, 256

    def __init__(self, rig, path, program, n_flows, pktgen=None):
        self.rig, self.program, self.n_flows, self.path, self.pktgen = rig, program, n_flows, path, pktgen
        self.device = self.generator = None
        self.socket = rig.dir / f"{self.name}-{program}.sock"

    def devices(self):
        """EAL's options of (generator, measured); the one that listens first."""
        return (["--vdev", f"net_memif0,role=server,socket-abstract=no,rsize=11,socket={self.socket}"],
                ["--vdev", f"net_memif0,role=client,zero-copy=yes,socket-abstract=no,rsize=11,socket={self.socket}",
                 "--single-file-segments"])

    def start_generator(self, eal):
        if self.pktgen:
            # pools of 24 576 packets for each of its ways to send, and a buffer per packet of the file
            self.generator = Pktgen(self.rig, self.pktgen, [*eal, "-m", str(PKTGEN_MB + self.n_flows * 512 // (1 << 20))],
                                    self.path, name=f"pktgen-{self.program}")
        else:  # forwards between net_pcap (port 0, made first) and the channel
            n_mbufs = self.n_flows + 16384
            self.generator = Testpmd(self.rig, [f"--vdev=net_pcap0,rx_pcap={self.path},infinite_rx=1", *eal, "-m",
                                                str(160 + n_mbufs * 512 // (1 << 20))],
                                     "io", n_mbufs, name=f"generator-{self.program}", is_measured=False)
        # a port that is not started yet refuses the other side, which does not ask again
        wait_alive(self.generator.process, lambda: self.socket.exists() and self.generator.is_started())

    def start(self):
        self.socket.unlink(missing_ok=True)  # of the generator before
        generator, measured = self.devices()
        self.start_generator(generator)
        if self.program == "lb":
            self.device = Balancer(self.rig, measured + ["-m", "320"], config(service()), n_flows=self.n_flows * ROOM,
                                   n_mbufs=self.n_mbufs, mbuf_bytes=self.mbuf_bytes)
        else:
            self.device = Testpmd(self.rig, measured + self.memory, self.program.split("_")[1], self.n_mbufs,
                                  name=self.program, mbuf_bytes=self.mbuf_bytes)

    def offered(self):
        return None if self.pktgen else self.generator.counters(0)["ipackets"]

    def stop(self):
        self.device.stop()
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


def await_flows(channel):
    """Until the balancer has an entry of every flow."""
    device = channel.device

    def is_established():
        if channel.generator and not channel.generator.process.alive():
            sys.exit(f"the generator ended:\n{log_of(channel.generator.process)}")
        return device.get("/v1/stats")["workers"][0]["flows_used"] >= 0.99 * channel.n_flows
    try:
        wait_alive(device.process, is_established)
    except AssertionError as error:
        sys.exit(f"not every flow came: {device.get('/v1/stats')['workers']}\n{error}" +
                 (f"\n\nthe generator:\n{log_of(channel.generator.process)}" if channel.generator else ""))


def measure(channel, contest, seconds):
    """A turn. @return (Mpps sent, part of what was offered meanwhile that was taken, %; None: not known)"""
    device = channel.device
    # the generator is not asked in the turn: its other threads would have to wait for the one that polls
    offered, taken = channel.offered(), device.counters()["ipackets"]
    with contest.turn(device.process):
        time.sleep(SETTLE_S)
        before_ns, before = time.monotonic_ns(), device.counters()["opackets"]
        time.sleep(seconds)
        now_ns, now = time.monotonic_ns(), device.counters()["opackets"]
    if offered is not None:
        offered, taken = channel.offered() - offered, device.counters()["ipackets"] - taken
    return (now - before) / (now_ns - before_ns) * 1e3, min(100 * taken / offered, 100) if offered else None


def require_forwarding(before, after):
    """What the balancer did meanwhile must be what the benchmark is about."""
    verdicts = {reason: n - before[reason] for reason, n in after.items() if n != before[reason]}
    # tx_full: the other side did not take packets back in time; testpmd loses those as well
    n_all, n_full = sum(verdicts.values()), verdicts.get("tx_full", 0)
    if n_all == 0 or verdicts.get("forward", 0) < 0.999 * (n_all - n_full) or n_full > n_all / 2:
        sys.exit(f"the balancer did not forward: {verdicts}")


def compete(channels, priority, n_samples, seconds):
    """[(Mpps, % taken)] of each of `channels` by turns, each measured n_samples times."""
    contest, samples = Contest(priority), [[] for _ in channels]
    for channel in channels:
        channel.start()
        if channel.program == "lb":
            await_flows(channel)
        contest.enter(channel.device.process, channel.generator and channel.generator.process)
    before = [channel.device.verdicts() if channel.program == "lb" else None for channel in channels]
    for _ in range(n_samples):
        for channel, rates in zip(channels, samples):
            rates.append(measure(channel, contest, seconds))
    share = statistics.median(contest.shares)
    if share < 0.9:
        print(f"{channels[0].name}: the polling threads had {share:.0%} of their CPUs, other work the rest, and that is what the "
              "figures show (chrt -f 10 gives them more, see docs/benchmarking.md)", file=sys.stderr)
    if any(max(rate for rate, _ in rates) == 0 for rates in samples):
        sys.exit(f"{channels[0].name}: nothing was sent in {n_samples} turns")
    for channel, verdicts in zip(channels, before):
        if channel.program == "lb":
            require_forwarding(verdicts, channel.device.verdicts())
    for channel in channels:
        contest.leave(channel.device.process)
        channel.stop()
    return samples


def run(bench, kind, arguments, n_rounds, n_samples, seconds):
    """`kind` of channel, made with `arguments` (rig, path, program, n_flows, pktgen)."""
    rig, path, n_flows, pktgen = arguments
    base, parameters = f"channel/{kind.name}", f"?flows={n_flows}"
    if pktgen and kind is not Pcap:
        parameters += "&generator=pktgen"
    name = {program: f"{base}/{program}{parameters}" for program in PROGRAMS}
    ratio = {program: f"{base}/lb_to_{program}{parameters}" for program in PROGRAMS[:-1]}
    rates, taken, ratios = ({program: [] for program in PROGRAMS} for _ in range(3))
    others = [p for p in (PROGRAMS[:-1] if kind is Pcap or not bench.args.quick else PROGRAMS[1:-1])
              if bench.wanted(name[p]) or bench.wanted(ratio[p])]
    with_lb = bench.wanted(name["lb"]) or any(bench.wanted(ratio[p]) for p in others)
    # two at a time: each may have a buffer for each flow
    pairs = [(other, "lb") if with_lb else (other,) for other in others] or [("lb",)] * with_lb
    for _ in range(n_rounds):
        for pair in pairs:
            samples = compete([kind(rig, path, program, n_flows, pktgen) for program in pair], rig.priority, n_samples, seconds)
            for program, results in zip(pair, samples):
                rates[program] += [rate for rate, _ in results]
                taken[program] += [part for _, part in results if part is not None]
            if len(pair) == 2:
                # of the best: what disturbs only slows down, and by turns both had the same chances
                best = [max(rate for rate, _ in results) for results in samples]
                ratios[pair[0]].append(best[1] / best[0])
    for program in PROGRAMS:
        if rates[program]:
            bench.result(name[program], "Mpps", rates[program])
        if taken[program]:
            bench.result(f"{base}/{program}_taken{parameters}", "%", taken[program])
    for program in PROGRAMS[:-1]:
        if ratios[program]:
            bench.result(ratio[program], "ratio", ratios[program])


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
    n_rounds, n_samples, seconds = (1, 12, 0.1) if quick else (3, 15, 0.3)
    with Rig(priority) as rig:
        for n_flows in flows:
            path = write_pcap(rig.dir / f"{n_flows}.pcap", n_flows)
            for kind in (Pcap, Memif, Vhost):
                run(bench, kind, (rig, path, n_flows, pktgen), n_rounds, n_samples, seconds)
            path.unlink()
    return bench.finish()


if __name__ == "__main__":
    run_main(main)
