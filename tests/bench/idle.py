#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What --idle-sleep-us costs and saves: the CPU of an idle worker (percent of one), and the round trip of single packets
through lb-dataplane (net_af_packet on a veth pair, a packet every 5 ms)."""
import socket
import struct
import sys
import time
from pathlib import Path

from benchlib import Bench, run_main
from netns import Namespace, veth
from rig import VIP, Balancer, Rig, checksum, config, service, take_place

SLEEPS_US = (0, 20, 50, 200, 1000)


def cpu_s(pid):
    """CPU time of the worker's thread so far."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("rte-worker"):
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    raise AssertionError("no worker thread")


def frame(number):
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, 17, 0, socket.inet_aton("198.18.0.1"),
                     socket.inet_aton(VIP))
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return bytes.fromhex("0200000000020200000000010800") + ip + struct.pack("!HHHHQ", 1024, 53, 26, 0, number) + bytes(10)


def round_trips(sock, n):
    """Microseconds from sending to the kernel's time stamp of what comes back; packets that do not are left out."""
    samples = []
    for number in range(n):
        packet = frame(number)
        start = time.time_ns()
        sock.send(packet)
        while True:
            try:
                data, control, _, _ = sock.recvmsg(2048, 256)
            except TimeoutError:
                break
            # Its destination is a backend now; and it is none that was given up and comes late.
            if data[26:30] == packet[26:30] and data[30:34] != packet[30:34] and data[42:50] == packet[42:50]:
                seconds, nanoseconds = struct.unpack("qq", control[0][2][:16])
                samples.append((seconds * 10**9 + nanoseconds - start) / 1000)
                break
        time.sleep(0.005)
    return samples


def main():
    bench = Bench(__doc__)
    n, seconds = (200, 1) if bench.args.quick else (1000, 3)
    with Rig(take_place()) as rig:
        client, lb = Namespace(f"{rig.id}-client"), Namespace(f"{rig.id}-lb")
        try:
            veth(client, "eth0", lb, "eth0")
            with client.entered():
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                sock.bind(("eth0", 0))
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_TIMESTAMPNS", 35), 1)
            sock.settimeout(0.5)
            for sleep_us in SLEEPS_US:
                name = f"?idle_sleep_us={sleep_us}"
                if not bench.wanted("idle/" + name):
                    continue
                balancer = Balancer(rig, ["--vdev", "net_af_packet0,iface=eth0", "-m", "256"], config(service()),
                                    n_flows=10000, mbuf_bytes=2176, idle_sleep_us=sleep_us, ns=lb)
                pid = balancer.process.pid
                before, before_s = cpu_s(pid), time.monotonic()
                time.sleep(seconds)
                used = 100 * (cpu_s(pid) - before) / (time.monotonic() - before_s)
                bench.result("idle/cpu" + name, "%", [used])
                samples = round_trips(sock, n)
                if len(samples) < n * 0.9:
                    sys.exit(f"only {len(samples)} of {n} packets came back: {balancer.verdicts()}")
                bench.result("idle/round_trip" + name, "us", samples)
                balancer.stop()
                rig.remove_files()
        finally:
            client.delete()
            lb.delete()
    return bench.finish()


if __name__ == "__main__":
    run_main(main)
