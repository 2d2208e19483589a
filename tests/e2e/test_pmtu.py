# SPDX-License-Identifier: BSD-3-Clause
"""A client behind a link of 1 280 bytes downloads in every mode and family: the router's ICMP error has to find the one of
two servers that sent too much, whatever has become of the packet since. And full-sized uploads into tunnels, also to a
server behind a router that has less than the balancer knows of.

                    +--- 1500 --- lb ---------+
   far --- 1280 --- client                    switch --- api-1, api-2
                    +--- 1500 ----------------+     |    (answers of dsr, ipip and gue)
                                                    +--- router --- 1400 --- behind
"""
from pathlib import Path

import pytest

import configs
from conftest import finish
from lab import Lab, wait_for
from netns import Namespace, veth

FAR = {4: "10.3.0.2", 6: "2001:db8:3::2"}
LOCALS = {4: "192.0.2.1", 6: "2001:db8:a::1"}
MIXES = [(client, server) for client in (4, 6) for server in (4, 6)]
N_BYTES = 5_000_000
GUE_PORT = 16080
# name: (mode, family of the VIP and of the client, of the backends, client_address)
SERVICES = {f"nat-{f}": ("nat", f, f, None) for f in (4, 6)}
SERVICES |= {f"fullnat-{what}-{c}to{s}": ("fullnat", c, s, what) for what in ("none", "toa", "proxy_v2") for c, s in MIXES}
SERVICES |= {f"dsr-{f}": ("dsr", f, f, None) for f in (4, 6)}
SERVICES |= {f"{mode}-{c}in{s}": (mode, c, s, None) for mode in ("ipip", "gue") for c, s in MIXES}
# The same tunnels to the server behind a router.
SERVICES |= {f"routed-{mode}-{c}in{s}": (mode, c, s, None) for mode in ("ipip", "gue") for c, s in MIXES}
TUNNELS = [name for name, (mode, *_) in SERVICES.items() if mode in ("ipip", "gue")]
DIRECT = [name for name, (mode, *_) in SERVICES.items() if mode in ("dsr", "ipip", "gue")]
ROUTED = [name for name in TUNNELS if name.startswith("routed")]
BEHIND = {4: "10.5.0.2", 6: "2001:db8:5::2"}
NGINX = """
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
error_log error.log warn;
events { }
http {
	access_log off;
	client_body_temp_path body;
	client_max_body_size 0;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen 80;
		listen [::]:80 ipv6only=on;
		listen 8081 proxy_protocol;
		listen [::]:8081 proxy_protocol ipv6only=on;
		root @ROOT@/files;
		location /upload { proxy_pass http://127.0.0.1:8099; }
	}
	server {
		listen 127.0.0.1:8099;
		return 200 "got it";
	}
}
"""


def vip(name):
    index = list(SERVICES).index(name) + 101
    return f"203.0.113.{index}" if SERVICES[name][1] == 4 else f"2001:db8:f::{index}"


def url(name, path):
    return f"http://{vip(name)}/{path}" if SERVICES[name][1] == 4 else f"http://[{vip(name)}]/{path}"


def service(lab, name):
    mode, _, family, client_address = SERVICES[name]
    port = {} if mode in ("dsr", "ipip", "gue") else {"port": 8081 if client_address == "proxy_v2" else 80}
    backends = [{"name": "behind", "address": BEHIND[family]}] if name in ROUTED else [
        {"name": b.name, "address": b.addresses[family], **port} for b in lab.backends]
    return {"name": name, "vip": vip(name), "port": 80, "protocol": "tcp", "mode": mode, "health_check": {"type": "none"},
            "table_size": 251, "backends": backends,
            **({"client_address": client_address} if client_address else {}),
            **({"gue_port": GUE_PORT} if mode == "gue" else {})}


def forward(ns):
    with ns.entered():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")


def add_far(lab):
    far = Namespace(f"{lab.id}-far")
    lab.namespaces.append(far)
    veth(lab.client, "eth2", far, "eth0")
    forward(lab.client)
    lab.client.ip("addr add 10.3.0.1/24 dev eth2", "addr add 2001:db8:3::1/64 dev eth2 nodad", "link set eth2 mtu 1280")
    far.ip("addr add 10.3.0.2/24 dev eth0", "addr add 2001:db8:3::2/64 dev eth0 nodad",
           "route add default via 10.3.0.1", "route add default via 2001:db8:3::1")
    return far


def add_behind(lab):
    """A router on the switch, and a server with a link of 1 400 bytes behind it."""
    lab.router, lab.behind = Namespace(f"{lab.id}-router"), lab.add_backend(3)
    lab.namespaces.append(lab.router)
    lab.backends.remove(lab.behind)
    behind = lab.behind.ns
    lab.switch.ip("link del p3")  # and eth0 with it
    veth(lab.switch, "p3", lab.router, "eth0")
    lab.switch.ip("link set p3 master bridge0")
    veth(lab.router, "eth1", behind, "eth0")
    forward(lab.router)
    lab.router.ip("addr add 10.2.0.50/24 dev eth0", "addr add 2001:db8:2::50/64 dev eth0 nodad",
                  "addr add 10.5.0.1/24 dev eth1", "addr add 2001:db8:5::1/64 dev eth1 nodad", "link set eth1 mtu 1400",
                  "route add default via 10.2.0.2", "route add default via 2001:db8:2::2",
                  *[f"route add {to} via {via}" for to, via in (("192.0.2.0/24", "10.2.0.1"), ("2001:db8:a::/64", "2001:db8:2::1"))])
    behind.ip("addr add 10.5.0.2/24 dev eth0", "addr add 2001:db8:5::2/64 dev eth0 nodad", "link set eth0 mtu 1400",
              "route add default via 10.5.0.1", "route add default via 2001:db8:5::1",
              *[f"addr add {vip(name)}/{128 if SERVICES[name][1] == 6 else 32} dev lo{' nodad' * (SERVICES[name][1] == 6)}"
                for name in ROUTED])
    lab.lb.ip("route add 10.5.0.0/24 via 10.2.0.50", "route add 2001:db8:5::/64 via 2001:db8:2::50")
    start_servers(lab.behind)


def answer_directly(backend):
    backend.ns.ip("route replace default via 10.2.0.2 table 7", "route replace default via 2001:db8:2::2 table 7")


def set_up(backend):
    """VIPs on lo and direct answers from them; anything else by the balancer."""
    backend.serve_directly([vip(name) for name in DIRECT], gateway="10.2.0.1", gateway6="2001:db8:2::1")
    answer_directly(backend)
    backend.ns.ip("rule add from 203.0.113.0/24 lookup 7")
    backend.ns.run("ip", "-6", "rule", "add", "from", "2001:db8:f::/64", "lookup", "7")
    start_servers(backend)


def start_servers(backend):
    root = backend.lab.dir / backend.name
    (root / "files").mkdir(parents=True)
    (root / "files/big").write_bytes(bytes(N_BYTES))
    (root / "nginx.conf").write_text(NGINX.replace("@ROOT@", str(root)))
    nginx = backend.lab.start(backend.ns, backend.name,
                              ["nginx", "-p", root, "-e", root / "error.log", "-c", root / "nginx.conf"])
    wait_for(lambda: ":80 " in backend.ns.run("ss", "-ltnH").stdout, lambda: f"nginx on {backend.name}:\n{nginx.tail()}")
    backend.start_decap("--mode", "generic", "--gue-port", GUE_PORT)


@pytest.fixture(scope="module")
def lab():
    with Lab(n_backends=2, n_workers=2) as lab:
        lab.connect_client()
        lab.far = add_far(lab)
        lab.lb.ip("route add blackhole 192.0.2.0/24", "route add blackhole 2001:db8:a::/64")
        for backend in lab.backends:
            set_up(backend)
        add_behind(lab)
        (lab.dir / "body").write_bytes(bytes(900_000))
        lab.start_all(configs.config(*[service(lab, name) for name in SERVICES], local_addresses=list(LOCALS.values())))
        yield lab
        finish(lab)


def forget(ns):
    """What hosts have learned of paths."""
    ns.run("ip", "-4", "route", "flush", "cache")
    ns.run("ip", "-6", "route", "flush", "cache")


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ROUTED])
def test_a_server_learns_the_clients_mtu(lab, name):
    mode, client, server, _ = SERVICES[name]
    for backend in lab.backends:
        forget(backend.ns)
        answer_directly(backend)  # iproute2 flushes the main table's cache only
    done = lab.far.run("curl", "-sS", "--fail", "--max-time", 60, "-o", "/dev/null", "-w", "%{size_download}", url(name, "big"))
    assert int(done.stdout) == N_BYTES
    # It was the router's error that told the one server, in terms of its own family.
    to = LOCALS[server] if mode == "fullnat" else FAR[client]
    source = ["from", vip(name)] if name in DIRECT else []
    routes = [backend.ns.run("ip", "route", "get", to, *source).stdout for backend in lab.backends]
    mtu = 1280 + (20 if (client, server) == (4, 6) else -20 if (client, server) == (6, 4) else 0) * (mode == "fullnat")
    assert sum(f" mtu {mtu}" in route for route in routes) == 1, routes


@pytest.mark.parametrize("name", TUNNELS)
def test_full_sized_uploads_into_a_smaller_tunnel(lab, name):
    mode, _, outer, _ = SERVICES[name]
    forget(lab.client)
    if name in ROUTED:
        forget(lab.router)
    reason = "tunnel_too_big" if name in ROUTED else "too_big"
    before = lab.drops()[reason]
    done = lab.client.run("curl", "-sS", "--fail", "--max-time", 60, "-H", "Expect:", "--data-binary", f"@{lab.dir / 'body'}",
                          url(name, "upload"))
    assert done.stdout == "got it"
    assert lab.drops()[reason] > before
    mtu = (1400 if name in ROUTED else 1500) - (20 if outer == 4 else 40) - (12 if mode == "gue" else 0)
    assert f" mtu {mtu}" in lab.client.run("ip", "route", "get", vip(name)).stdout
