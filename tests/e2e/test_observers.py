# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's own tools look into a running data plane: telemetry's socket and dpdk-dumpcap."""
import json
import signal
import socket
import subprocess

import pytest
from scapy.all import IP, TCP, rdpcap

import configs
from lab import CLIENT, VIP, Lab, wait_for

PORTS = list(range(20000, 20005))  # of the clients that are to be captured


@pytest.fixture(scope="module")
def lab():
    with Lab(n_workers=2) as lab:
        for backend in lab.backends:
            backend.start_nginx()
        lab.start_all(configs.config(configs.web(lab, 4)))
        yield lab
        assert set(lab.stop_daemons().values()) == {0}


def ask(lab, command):
    """The answer of telemetry to `command`; None: an error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(30)
        sock.connect(f"/var/run/dpdk/{lab.id}/dpdk_telemetry.v2")
        sock.recv(4096)  # its greeting
        sock.send(command.encode())
        return json.loads(sock.recv(65536))[command.split(",")[0]]


def test_telemetry_tells_what_the_api_tells(lab):
    lab.traffic("requests", VIP, 80, "--count", 200, "--concurrency", 10)
    info = ask(lab, "/fulcrum/info")
    assert (info["instance"], info["workers"], info["live"], info["services"]) == (lab.id, 2, "yes", 1)
    assert ask(lab, "/fulcrum/workers") == [0, 1]
    workers = [ask(lab, f"/fulcrum/worker,{i}") for i in (0, 1)]
    assert sum(w["flow_insert"] for w in workers) == 200
    stats = lab.api("/v1/stats")
    backends = {b["id"]: b for b in lab.api("/v1/backends")["backends"]}
    for number, backend in backends.items():
        told = ask(lab, f"/fulcrum/backend,{number}")
        assert (told["address"], told["port"], told["state"]) == (backend["address"], 8080, "up")
        assert told["new_flows"] == backend["counters"]["new_flows"]
    assert sum(ask(lab, f"/fulcrum/backend,{n}")["new_flows"] for n in backends) == 200
    service = ask(lab, f"/fulcrum/service,{lab.service('web')['id']}")
    assert (service["vip"], service["port"], service["mode"]) == (VIP, 80, "nat")
    verdicts = ask(lab, "/fulcrum/verdicts")
    assert verdicts["forward"] >= stats["totals"]["forward_pkts"] > 800 and "ttl_expired" in verdicts


@pytest.mark.parametrize("command", ["/fulcrum/worker", "/fulcrum/worker,2", "/fulcrum/worker,-1", "/fulcrum/worker,0x0",
                                     "/fulcrum/backend,65535", "/fulcrum/backend,99999999999999999999",
                                     "/fulcrum/service,4095", "/fulcrum/service,4096", "/fulcrum/service,a" + "b" * 900])
def test_wrong_parameters_are_errors(lab, command):
    assert ask(lab, command) is None


def test_dumpcap_sees_both_directions(lab):
    capture = lab.dir / "capture.pcapng"
    with open(lab.dir / "dumpcap.log", "w") as log:
        dumpcap = subprocess.Popen(["dpdk-dumpcap", f"--file-prefix={lab.id}", "-i", "0", "-w", str(capture)],
                                   stdout=log, stderr=log)
    try:
        wait_for(lambda: capture.exists() and capture.stat().st_size > 0,
                 lambda: (lab.dir / "dumpcap.log").read_text())
        header = capture.stat().st_size

        def captures():  # some time after it has made its file
            lab.traffic("requests", VIP, 80, "--count", 1)
            return capture.stat().st_size > header
        wait_for(captures, lambda: (lab.dir / "dumpcap.log").read_text())
        lab.traffic("requests", VIP, 80, "--count", 5, "--concurrency", 1, "--source", CLIENT, "--source-port", PORTS[0])

        def has(flags, **fields):
            seen = [p for p in rdpcap(str(capture)) if TCP in p and IP in p and p[TCP].flags == flags]
            return sorted(p[TCP].sport if flags == "S" else p[TCP].dport for p in seen if all(
                p[IP].fields[key] == value for key, value in fields.items()) and {p[TCP].sport, p[TCP].dport} & set(PORTS))
        wait_for(lambda: has("S", src=CLIENT, dst=VIP) == has("SA", src=VIP, dst=CLIENT) == PORTS,
                 lambda: f"both directions, have {rdpcap(str(capture))}")
    finally:
        dumpcap.send_signal(signal.SIGINT)
        dumpcap.wait(30)
    lab.traffic("requests", VIP, 80, "--count", 20, "--concurrency", 1)  # and it goes on without it
