# SPDX-License-Identifier: BSD-3-Clause
"""dsr, ipip and gue with real clients and servers, and lb-decap on the servers, which answer the client directly.

     client                       lb                        switch          api-1 (lb-decap native), api-2 (generic)
   +--------------+      +------------------+          +------------+      +---------------------------+
   | eth0 --------+------+-> vethc   vethb --+----------+-> p0   p1 --+------+-> eth0   VIPs on lo        |
   | eth1 <-------+------+------------------+----------+- pclient <--+------+-- answers: source is the VIP |
   +--------------+      +------------------+          +------------+      +---------------------------+

All links have an MTU of 1600: downloads take it whole, since they do not pass the balancer; full-sized segments of an
upload do not fit with their outer headers, so that the client has to learn a smaller one.
"""
import hashlib
import socket

import pytest

import configs
from conftest import finish
from lab import CLIENTS, Lab, wait_for
from netns import PATIENCE_S

# name: (mode, family of VIP and client, family of the backends)
MODES = {"dsr-ipv4": ("dsr", 4, 4), "dsr-ipv6": ("dsr", 6, 6),
         "ipip-4in4": ("ipip", 4, 4), "ipip-6in6": ("ipip", 6, 6), "ipip-4in6": ("ipip", 4, 6), "ipip-6in4": ("ipip", 6, 4),
         "gue-ipv4": ("gue", 4, 4), "gue-ipv6": ("gue", 6, 6)}
GUE_PORT, MTU = 16080, 1600
FILE_BYTES = 20_000_000


def vip(name):
    index = list(MODES).index(name) + 101
    return f"203.0.113.{index}" if MODES[name][1] == 4 else f"2001:db8:f::{index}"


def services(lab):
    made = []
    for name, (mode, _, outer) in MODES.items():
        for protocol, port, check in (("tcp", 80, configs.HTTP_CHECK), ("udp", 53, {"type": "none"})):
            made.append({"name": f"{name}-{protocol}", "vip": vip(name), "port": port, "protocol": protocol, "mode": mode,
                         "table_size": 251, "health_check": dict(check),
                         "backends": [{"name": b.name, "address": b.addresses[outer]} for b in lab.backends],
                         **({"gue_port": GUE_PORT} if mode == "gue" else {})})
    return made


@pytest.fixture(scope="module")
def direct_lab():
    with Lab(n_backends=2) as lab:
        lab.connect_client(mtu=MTU)
        for backend in lab.backends:
            files = lab.dir / backend.name / "files"
            files.mkdir(parents=True)
            (files / "20M").write_bytes(hashlib.shake_256(b"fulcrum").digest(FILE_BYTES))
            backend.serve_directly([vip(name) for name in MODES])
            backend.start_nginx(80)
            backend.start_udp_echo(53)
        for backend, how in zip(lab.backends, ("native", "generic")):
            backend.start_decap("--mode", how, "--gue-port", GUE_PORT)
        lab.start_all(configs.config(*services(lab), local_addresses=["10.2.0.1", "2001:db8:2::1"]))
        yield lab
        finish(lab)


def get(host):
    """One request on a connection of its own, from the thread's namespace. @return the body."""
    with socket.create_connection((host, 80), PATIENCE_S) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while part := sock.recv(4096):
            answer += part
    return answer.split(b"\r\n\r\n")[1].decode().strip()


@pytest.mark.parametrize("name", MODES)
def test_traffic(direct_lab, name):
    lab, (mode, family, _) = direct_lab, MODES[name]
    host = vip(name)
    before, drops = [b.decap_stats() for b in lab.backends], lab.drops()

    # 1 000 connections over both servers, who see the client's own address.
    with lab.client.entered():
        assert {get(host) for _ in range(1000)} == {f"{name} {CLIENTS[family]}" for name in ("api-1", "api-2")}

    url = f"http://[{host}]" if family == 6 else f"http://{host}"
    path = lab.dir / f"got-{name}"
    lab.client.run("curl", "-sS", "--fail", "--max-time", 60, "-o", path, f"{url}/files/20M")
    assert path.read_bytes() == (lab.dir / "api-1/files/20M").read_bytes()
    path.unlink()

    report = lab.traffic("udp", host, 53, "--flows", 100, "--repeat", 2)
    assert sum(flow["lost"] for flow in report["flows"]) == 0
    assert all(len(set(flow["backends"])) == 1 and flow["clients"] == [CLIENTS[family]] for flow in report["flows"])

    # The balancer has seen no answer, and what came unwrapped is what it wrapped.
    after = [b.decap_stats() for b in lab.backends]
    n_unwrapped = sum(a[mode] - b[mode] for a, b in zip(after, before)) if mode != "dsr" else 0
    n_forwarded = lab.drops()["forward"] - drops["forward"]
    assert n_forwarded > 4000
    assert n_unwrapped in ((0,) if mode == "dsr" else range(n_forwarded - 10, n_forwarded + 10))
    for stats in after:
        assert {fate: n for fate, n in stats.items() if n and fate not in ("pass", "ipip", "gue")} == {}
    assert lab.drops()["reply"] == 0


@pytest.mark.parametrize("name", [name for name in MODES if MODES[name][0] != "dsr"])
def test_uploads_learn_the_tunnels_mtu(direct_lab, name):
    lab, (mode, family, outer), host = direct_lab, MODES[name], vip(name)
    before = lab.drops()["too_big"]
    body = lab.dir / "upload"
    body.write_bytes(bytes(900_000))
    url = f"http://[{host}]/api/" if family == 6 else f"http://{host}/api/"
    done = lab.client.run("curl", "-sS", "--fail", "--max-time", 60, "-H", "Expect:", "--data-binary", f"@{body}", url)
    assert CLIENTS[family] in done.stdout
    assert lab.drops()["too_big"] > before, "nothing was too big: the test tests nothing"
    mtu = MTU - (20 if outer == 4 else 40) - (12 if mode == "gue" else 0)
    assert f"mtu {mtu}" in lab.client.run("ip", "route", "get", host).stdout


FOREIGN = """#include <linux/bpf.h>
__attribute__((section("xdp"), used)) int foreign(struct xdp_md *ctx) { return XDP_PASS; }
"""


def xdp_of(backend):
    """What `ip link` says of XDP on the server's interface."""
    return [line.strip() for line in backend.ns.run("ip", "-d", "link", "show", "eth0").stdout.splitlines() if "xdp" in line]


def test_lb_decap_comes_and_goes(direct_lab):
    lab = direct_lab
    backend = lab.add_backend(3)
    decap = backend.start_decap("--mode", "generic")
    assert xdp_of(backend)
    assert set(backend.decap_stats()) >= {"ipip", "gue", "pass", "not_ours", "malformed", "fragment", "gue_unknown"}

    # Addresses follow the interface.
    backend.ns.ip("addr add 10.2.0.99/24 dev eth0")
    wait_for(lambda: "unwraps what comes to 10.2.0.99" in decap.tail(), "the new address")

    second = backend.decap(check=False)
    assert second.returncode == 1 and "another lb-decap runs there" in second.stderr

    assert decap.stop() == 0
    assert xdp_of(backend) == [], "SIGTERM leaves nothing behind"
    none = backend.decap("--stats", check=False)
    assert none.returncode == 1 and "none runs on eth0" in none.stderr

    # Not even SIGKILL does.
    decap = backend.start_decap()
    decap.kill_group()
    wait_for(lambda: xdp_of(backend) == [], "the kernel to take it away")

    decap = backend.start_decap()
    backend.decap("--detach")
    assert xdp_of(backend) == []
    assert decap.popen.wait(PATIENCE_S) == 1
    assert "was taken off eth0" in decap.tail()


def test_somebody_elses_program_is_left_alone(direct_lab):
    lab = direct_lab
    backend = lab.add_backend(4)
    source = lab.dir / "foreign.c"
    source.write_text(FOREIGN)
    lab.lb.run("clang", "-O2", "-g", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu", "-c", source, "-o", source.with_suffix(".o"))
    backend.ns.run("ip", "link", "set", "dev", "eth0", "xdpgeneric", "obj", source.with_suffix(".o"), "sec", "xdp")
    before = xdp_of(backend)
    assert before
    refused = backend.decap(check=False)
    assert refused.returncode == 1
    assert "eth0 has an XDP program already" in refused.stderr and '"foreign"' in refused.stderr
    assert xdp_of(backend) == before


@pytest.mark.parametrize("arguments, says", [
    (["--interface", "nosuch0"], "interface nosuch0"),
    ([], "--interface is missing"),
    (["--interface", "lo", "--gue-port", "0"], "expected --gue-port 1..65535: 0"),
    (["--interface", "lo", "--gue-port", "70000"], "expected --gue-port 1..65535"),
    (["--interface", "lo", "--mode", "skb"], "expected --mode native or generic: skb"),
    (["--interface", "lo", "--address", "10.0.0"], "expected an IPv4 or IPv6 address: 10.0.0"),
    (["--interface", "lo", "--stats", "--detach"], "one of them"),
    (["--interface", "lo", "more"], "unexpected: more"),
])
def test_lb_decap_refuses_bad_arguments(direct_lab, arguments, says):
    done = direct_lab.lb.run(direct_lab.build / "dataplane/lb-decap", *arguments, check=False)
    assert done.returncode in (1, 2)
    assert says in done.stderr
