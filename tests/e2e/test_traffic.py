# SPDX-License-Identifier: BSD-3-Clause
"""Real TCP and UDP traffic through the balancer: weights, addresses, throughput, stickiness."""
import json
from collections import Counter

import pytest

import configs
from lab import CLIENTS, PYTHON, VIPS, wait_for

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


def check_shares(counts, weights, tolerance):
    total = sum(counts.values())
    for name, share in configs.shares(weights).items():
        assert abs(counts.get(name, 0) / total - share) <= tolerance, f"{name}: {counts}"


@FAMILIES
@pytest.mark.smoke
def test_http_follows_the_weights_and_shows_the_client(shared_lab, family):
    # With the config's fixed secret, fixed ports make the outcome the same each time; of so many that another hash passes.
    report = shared_lab.traffic("requests", VIPS[family], 80, "--count", 3000, "--path", "/api/whoami",
                                "--source", CLIENTS[family], "--source-port", 20000)
    assert report["failed"] == []
    check_shares(report["backends"], configs.WEIGHTS, 0.03)
    assert "api-4" not in report["backends"], "the backup serves only when the primaries are down"
    for body in report["bodies"]:
        application = json.loads(body)
        assert application["x_real_ip"] == CLIENTS[family]
        assert application["x_forwarded_for"] == CLIENTS[family]


def test_weights_hold_for_ports_of_the_kernels_choice(shared_lab):
    report = shared_lab.traffic("requests", VIPS[4], 80, "--count", 4000)
    assert report["failed"] == []
    check_shares(report["backends"], configs.WEIGHTS, 0.03)


def test_client_on_the_balancers_own_link(shared_lab):
    # Replies go to a neighbour, not by the default route.
    report = shared_lab.traffic("requests", VIPS[4], 80, "--count", 50, "--source", "10.1.0.2", "--path", "/api/")
    assert report["failed"] == []
    assert {json.loads(body)["x_real_ip"] for body in report["bodies"]} == {"10.1.0.2"}


@FAMILIES
@pytest.mark.smoke
def test_udp_flows_stick_to_one_backend(shared_lab, family):
    report = shared_lab.traffic("udp", VIPS[family], 53, "--flows", 1000, "--repeat", 3)
    assert len(report["flows"]) == 1000
    assert sum(flow["lost"] for flow in report["flows"]) == 0
    for flow in report["flows"]:
        assert len(set(flow["backends"])) == 1, "one flow, one backend"
        assert flow["clients"] == [CLIENTS[family]]
    first = Counter(flow["backends"][0] for flow in report["flows"])
    assert set(first) == {"api-1", "api-2", "api-3", "api-4"}


@FAMILIES
def test_large_bodies_arrive_whole(shared_lab, family):
    # More than a window in full-sized segments, both ways.
    lab, size = shared_lab, 3_000_000
    source = lab.dir / "body"
    source.write_bytes(bytes(i * 7 % 251 for i in range(size)))
    server = lab.backends[0]
    script = ("import hashlib,socket,sys\n"
              "s=socket.create_server(('::',9999),family=socket.AF_INET6,dualstack_ipv6=True)\n"
              "print('ready',flush=True)\n"
              "c=s.accept()[0]; data=b''\n"
              f"while len(data)<{size}: data+=c.recv(1<<20)\n"
              "c.sendall(hashlib.sha256(data).hexdigest().encode()+data)\n")
    process = lab.start(server.ns, f"sink{family}", [PYTHON, "-c", script])
    wait_for(lambda: "ready" in process.log.read_text(), "the sink")
    service = {"name": "bulk", "vip": VIPS[family], "port": 9999, "protocol": "tcp", "mode": "nat",
               "health_check": {"type": "none"},
               "backends": [{"name": "sink", "address": server.addresses[family], "port": 9999}]}
    before = json.loads(lab.config_file.read_text())
    lab.apply({**before, "services": before["services"] + [service]})
    try:
        client = ("import hashlib,socket,sys,threading\n"
                  "data=open(sys.argv[1],'rb').read()\n"
                  "s=socket.create_connection((sys.argv[2],9999),30)\n"
                  "s.sendall(data)\n"
                  "back=b''\n"
                  "while len(back)<64+len(data):\n"
                  "  part=s.recv(1<<20); assert part; back+=part\n"
                  "assert back[:64].decode()==hashlib.sha256(data).hexdigest() and back[64:]==data\n")
        lab.client.run(PYTHON, "-c", client, source, VIPS[family], timeout=60)
    finally:
        lab.apply(before)


IPERF_BYTES = 200_000_000


@FAMILIES
def test_iperf3_without_a_retransmission_storm(bare_lab, family):
    lab = bare_lab
    server = lab.backends[0]
    lab.start(server.ns, "iperf3", ["iperf3", "-s", "-p", 5201])
    wait_for(lambda: server.listens(5201), "iperf3")
    # One backend: iperf3's control and data connections have to meet.
    lab.start_all(configs.config({
        "name": "iperf", "vip": VIPS[family], "port": 5201, "protocol": "tcp", "mode": "nat",
        "health_check": {"type": "none"},
        "backends": [{"name": "api-1", "address": server.addresses[family], "port": 5201}]}))
    done = lab.client.run("iperf3", "-c", VIPS[family], "-p", 5201, "-n", IPERF_BYTES, "-J", timeout=120)
    end = json.loads(done.stdout)["end"]
    sent = end["sum_sent"]
    assert sent["bytes"] >= IPERF_BYTES and end["sum_received"]["bytes"] > 0
    assert sent["retransmits"] <= 0.01 * sent["bytes"] / 1400, f"retransmits: {sent}"
