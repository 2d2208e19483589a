# SPDX-License-Identifier: BSD-3-Clause
"""Mode fullnat with real stacks: every family on either side, TCP and UDP, over two workers."""
import hashlib
import json
import socket
import subprocess

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

import configs
import lbctl_server as documented
from api_daemon import check_shape
from conftest import finish
from lab import CLIENTS, PYTHON, VIPS, Lab, sigkill, wait_for
from wire import Wire

LOCALS = {4: "192.0.2.1", 6: "2001:db8:a::1"}
MIXES = [(client, server) for client in (4, 6) for server in (4, 6)]
BIG = 20_000_000
NGINX = """
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
error_log error.log warn;
events { worker_connections 8192; }
http {
	access_log off;
	client_body_temp_path tmp_body;
	proxy_temp_path tmp_proxy;
	fastcgi_temp_path tmp_fastcgi;
	uwsgi_temp_path tmp_uwsgi;
	scgi_temp_path tmp_scgi;
	server {
		listen 8080 backlog=4096;
		listen [::]:8080 ipv6only=on backlog=4096;
		location = /big { alias @ROOT@/big; }
		location / {
			add_header X-Backend @NAME@;
			return 200 "$remote_addr";
		}
	}
	log_format proxied "$proxy_protocol_addr $proxy_protocol_port $remote_addr $request_length";
	server {
		listen 8081 proxy_protocol backlog=4096;
		listen [::]:8081 proxy_protocol ipv6only=on backlog=4096;
		access_log proxied.log proxied;
		client_max_body_size 0;
		location = /big { alias @ROOT@/big; }
		location / {
			add_header X-Backend @NAME@;
			return 200 "$proxy_protocol_addr $proxy_protocol_server_addr $proxy_protocol_server_port";
		}
	}
}
"""


def start_nginx(backend):
    root = backend.lab.dir / backend.name
    root.mkdir(exist_ok=True)
    (root / "big").write_bytes(bytes(i * 7 % 251 for i in range(1000)) * (BIG // 1000))
    config = root / "nginx.conf"
    config.write_text(NGINX.replace("@NAME@", backend.name).replace("@ROOT@", str(root)))
    backend.nginx = backend.lab.start(backend.ns, backend.name,
                                      ["nginx", "-p", root, "-e", root / "error.log", "-c", config])
    wait_for(lambda: backend.listens(8080), f"nginx on {backend.name}:\n{backend.nginx.tail()}")


def service(lab, name, client, server, port, protocol, backend_port, **extra):
    """A service for clients of one family with backends of another, or the same."""
    return {"name": f"{name}-{client}{server}", "vip": VIPS[client], "port": port, "protocol": protocol,
            "mode": "fullnat", "health_check": {"type": "none"},
            "backends": [{"name": b.name, "address": b.addresses[server], "port": backend_port}
                         for b in lab.backends], **extra}


def config(lab, *extra):
    services = []
    for client, server in MIXES:
        services.append(service(lab, "web", client, server, 8000 + server, "tcp", 8080))
        services.append(service(lab, "dns", client, server, 5300 + server, "udp", 5353))
        services.append(service(lab, "proxied", client, server, 8100 + server, "tcp", 8081, client_address="proxy_v2"))
        services.append(service(lab, "toa", client, server, 8200 + server, "tcp", 8080, client_address="toa"))
    return configs.config(*services, *extra, local_addresses=list(LOCALS.values()))


@pytest.fixture(scope="module")
def lab():
    with Lab(n_backends=2, n_workers=2) as lab:
        # Backends need a route to the local addresses, and none to the clients.
        lab.lb.ip("route add blackhole 192.0.2.0/24", "route add blackhole 2001:db8:a::/64")
        for backend in lab.backends:
            backend.ns.ip("route del default", "route del ::/0",
                          "route add 192.0.2.0/24 via 10.2.0.1", "route add 2001:db8:a::/64 via 2001:db8:2::1")
            start_nginx(backend)
            backend.start_udp_echo()
        (lab.dir / "upload").write_bytes(bytes(300_000))
        lab.start_all(config(lab))
        yield lab
        finish(lab)


@pytest.mark.smoke
@pytest.mark.parametrize("client,server", MIXES)
def test_short_connections_and_datagrams(lab, client, server):
    report = lab.traffic("requests", VIPS[client], 8000 + server, "--count", 1000)
    assert report["failed"] == []
    assert set(report["backends"]) == {"api-1", "api-2"}
    assert set(report["bodies"]) == {LOCALS[server]}, "the server sees the local address"
    report = lab.traffic("udp", VIPS[client], 5300 + server, "--flows", 100, "--repeat", 3)
    for flow in report["flows"]:
        assert (flow["lost"], len(set(flow["backends"]))) == (0, 1)
        assert flow["clients"] == [LOCALS[server]]


@pytest.mark.parametrize("client,server", MIXES)
def test_20_megabytes_by_curl(lab, client, server):
    host = f"[{VIPS[6]}]" if client == 6 else VIPS[4]
    target = lab.dir / "download"
    lab.client.run("curl", "-sS", "--fail", "--max-time", 60, "-o", target, f"http://{host}:{8000 + server}/big")
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(
        (lab.dir / "api-1" / "big").read_bytes()).digest()


@pytest.mark.parametrize("client,server", MIXES)
def test_nginx_learns_the_client_by_proxy_protocol(lab, client, server):
    report = lab.traffic("requests", VIPS[client], 8100 + server, "--count", 200)
    assert report["failed"] == []
    assert set(report["backends"]) == {"api-1", "api-2"}
    assert set(report["bodies"]) == {f"{CLIENTS[client]} {VIPS[client]} {8100 + server}"}
    logs = "".join((lab.dir / b.name / "proxied.log").read_text() for b in lab.backends).splitlines()
    assert all(line.split()[0] in CLIENTS.values() and line.split()[2] in LOCALS.values() for line in logs)
    assert sum(line.startswith(CLIENTS[client] + " ") for line in logs) >= 200
    # Full-sized segments behind the header, both ways.
    host = f"[{VIPS[6]}]" if client == 6 else VIPS[4]
    digest = hashlib.sha256((lab.dir / "api-1" / "big").read_bytes()).digest()
    target = lab.dir / "download"
    lab.client.run("curl", "-sS", "--fail", "--max-time", 60, "-o", target, "--data-binary",
                   f"@{lab.dir / 'upload'}", "-X", "GET", f"http://{host}:{8100 + server}/big")
    assert hashlib.sha256(target.read_bytes()).digest() == digest


@pytest.mark.parametrize("client,server", MIXES)
def test_toa_is_seen_on_the_wire(lab, client, server):
    wires = [Wire(b.ns, "eth0") for b in lab.backends]
    try:
        report = lab.traffic("requests", VIPS[client], 8200 + server, "--count", 20)
        assert report["failed"] == []
        frames = [Ether(f) for wire in wires for f in wire.received(lambda f: True)]
    finally:
        for wire in wires:
            wire.close()
    layer = IP if server == 4 else IPv6
    segments = [f[TCP] for f in frames
                if TCP in f and layer in f and f[TCP].dport == 8080 and f[layer].src == LOCALS[server]]
    address = socket.inet_pton(socket.AF_INET if client == 4 else socket.AF_INET6, CLIENTS[client])
    told = {flags: {dict(s.options).get(254) for s in segments if s.flags == flags} - {None}
            for flags in ("S", "A", "PA")}
    assert all(254 in dict(s.options) for s in segments if s.flags == "S")
    assert told["S"] == told["A"] == told["PA"], "client port and address, the same in all of a connection's"
    assert len(told["S"]) == 20 and {option[2:] for option in told["S"]} == {address}, told


def test_replies_reach_the_worker_that_has_the_session(lab):
    workers = lab.api("/v1/stats")["workers"]
    assert all(worker["flows_used"] == 0 for worker in workers)  # nothing of fullnat is in the flow tables
    assert lab.drops().get("ports_exhausted", 0) == 0


def test_sessions_and_ports_are_shown(lab):
    client = lab.start(lab.client, "holders", [
        PYTHON, "-c", "import socket,sys\n"
        f"s=[socket.create_connection(('{VIPS[4]}', 8004)) for _ in range(40)]\n"
        "print('open', flush=True)\nsys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: "open" in client.log.read_text(), "the connections")

        def established():  # the client has sent the last ACKs: they have to arrive
            sessions = lab.api("/v1/sessions?limit=1000&service=web-44")["sessions"]
            return sum(s["state"] == "established" for s in sessions) == 40
        wait_for(established, "the sessions")
        stats = lab.lbctl_json("stats")
        fullnat = stats["fullnat"]
        check_shape({"fullnat": fullnat}, {"fullnat": documented.FULLNAT})
        assert len(fullnat["workers"]) == 2
        sessions, ports = fullnat["sessions"], {local["address"]: local for local in fullnat["locals"]}
        assert set(ports) == set(LOCALS.values())
        assert sessions["used"] == sum(local["ports_used"] for local in ports.values()) >= 40
        assert ports[LOCALS[4]]["ports_used"] >= 40 and ports[LOCALS[4]]["usable"]
        # Of each family 3 endpoints at each of 2 backends: 8080, 8081, and 5353 by UDP; 64512 ports towards each.
        for local in ports.values():
            assert local["ports_used"] + local["ports_free"] == 6 * 64512
        for key in ("used", "insert", "handed_over"):
            assert sum(worker["sessions"][key] for worker in fullnat["workers"]) == sessions[key]
        assert sessions["handed_over"] == sessions["taken_over"]
        assert "sessions" in lab.lbctl("status").stdout
        listed = lab.lbctl_json("flows", "--sessions", "web-44", "--limit", "1000")
        check_shape(listed, documented.SESSION_LIST)
        mine = [s for s in listed["sessions"] if s["state"] == "established"]
        assert len(mine) == 40 and listed["complete"], listed
        assert len({s["client"] for s in mine}) == len({(s["local"], s["endpoint"]) for s in mine}) == 40
        for server in lab.backends:
            peers = server.ns.run("ss", "-Htn", "state", "established", "sport", "=", ":8080").stdout.split()
            for s in (s for s in mine if s["backend"] == server.name):
                assert s["local"] in peers and s["endpoint"] == f"{server.addresses[4]}:8080"
        few = lab.lbctl_json("flows", "--sessions", "--limit", "3")
        assert len(few["sessions"]) == 3 and not few["complete"]
        metrics = lab.api("/metrics")
        assert f'fulcrum_fullnat_ports_used{{worker="0",local="{LOCALS[4]}"}}' in metrics
        checked = subprocess.run(["promtool", "check", "metrics"], input=metrics, text=True, capture_output=True,
                                 timeout=60)
        assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr
    finally:
        client.kill_group()


def test_drain_flows_and_trace_know_the_sessions(lab):
    client = lab.start(lab.client, "holder", [
        PYTHON, "-c", "import socket,sys\n"
        f"s=socket.socket(); s.bind(('{CLIENTS[4]}', 33333)); s.connect(('{VIPS[4]}', 8004))\n"
        "s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print('open', s.recv(1), flush=True)\n"
        "sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: "open" in client.log.read_text(), "the connection")
        trace = lab.lbctl_json("trace", f"{CLIENTS[4]}:33333", f"{VIPS[4]}:8004/tcp")
        assert trace["decision"] == "entry", trace
        local, port = trace["entry"]["local"].rsplit(":", 1)
        assert local == LOCALS[4] and "session" in trace["why"]
        # The backend sees that very port, and the answer to it is traced to the same session.
        server = lab.backends[[b.name for b in lab.backends].index(trace["backend"])]
        assert f"{LOCALS[4]}:{port}" in server.ns.run("ss", "-Htn", "sport", "=", ":8080").stdout
        reply = lab.lbctl_json("trace", f"{server.addresses[4]}:8080", f"{LOCALS[4]}:{port}/tcp")
        assert (reply["decision"], reply["service"], reply["verdict"]) == ("reply", "web-44", "reply"), reply
        assert reply["entry"]["worker"] == trace["entry"]["worker"]
        backend = trace["backend"]
        assert lab.backend_list("web-44")[backend]["counters"]["active_flows"] >= 1
        refused = lab.lbctl("backend", "drain", "web-44", backend, "--wait", "1s", check=False)
        assert refused.returncode == 1
    finally:
        client.kill_group()
    lab.lbctl("flows", "flush", "web-44")
    lab.lbctl("backend", "drain", "web-44", backend, "--wait", "10s")
    lab.lbctl("backend", "enable", "web-44", backend)


def test_connections_outlive_a_restart_of_the_data_plane(lab):
    with lab.load(VIPS[4], 8004, "--connections", 50) as load:
        sigkill(lab.dataplane)
        lab.start_dataplane()
        requests = load.report()["n_requests"]
        wait_for(lambda: load.report()["n_requests"] > requests + 100, "requests")
        report = load.stop()
    assert report["broken"] == []


def test_a_config_without_a_local_address_is_refused(lab):
    wanted = json.loads(lab.config_file.read_text())
    wanted["local_addresses"] = [LOCALS[4]]
    path = lab.dir / "wrong.yaml"
    path.write_text(json.dumps(wanted, indent=1))
    done = lab.lbctl("apply", path, check=False)
    assert done.returncode == 1
    assert "expected one in local_addresses, found none" in done.stderr
