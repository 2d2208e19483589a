# SPDX-License-Identifier: BSD-3-Clause
"""The MSS clamp, with real clients and servers.

The balancer's port towards the client has an MTU of 1400: that is what `auto` goes by. A second way to the client, over
the switch, takes 1280 bytes and drops what is longer without a word, as a path whose ICMP errors are filtered does: only
a number helps there.
"""
import socket

import pytest
from scapy.all import IP, TCP, Ether, IPv6

import configs
from conftest import finish
from lab import CLIENTS, VIPS, Lab, wait_for
from test_fullnat import LOCALS, start_nginx
from wire import Wire

# name: (client's family, backends' family, mode, client_address, bytes that are added to a client's segments)
SERVICES = {"nat4": (4, 4, "nat", None, 0), "nat6": (6, 6, "nat", None, 0),
            "fullnat4": (4, 4, "fullnat", None, 0), "fullnat64": (6, 4, "fullnat", None, 0),
            "toa46": (4, 6, "fullnat", "toa", 8), "proxy6": (6, 6, "fullnat", "proxy_v2", 52)}
HEADERS = {4: 40, 6: 60}
PORT_MTU, PATH_MTU = 1400, 1280
FILE_BYTES = 2_000_000


def port_of(name):
    return 8000 + list(SERVICES).index(name)


def service(lab, name, mss):
    client, server, mode, address, _ = SERVICES[name]
    backend = lab.backends[0]
    port = 8081 if address == "proxy_v2" else 8080
    return {"name": name, "vip": VIPS[client], "port": port_of(name), "protocol": "tcp", "mode": mode, "mss": mss,
            "health_check": {"type": "none"}, "table_size": 251,
            "backends": [{"name": backend.name, "address": backend.addresses[server], "port": port}],
            **({"client_address": address} if address else {})}


@pytest.fixture(scope="module")
def lab():
    with Lab(n_backends=1) as lab:
        lab.connect_client()
        lab.lb.ip("route add blackhole 192.0.2.0/24", "route add blackhole 2001:db8:a::/64", f"link set vethc mtu {PORT_MTU}")
        lab.switch.ip(f"link set pclient mtu {PATH_MTU}")
        for backend in lab.backends:
            start_nginx(backend)
            (lab.dir / backend.name / "big").write_bytes(bytes(FILE_BYTES))
        lab.start_all(configs.config(*[service(lab, name, "auto") for name in SERVICES],
                                     local_addresses=list(LOCALS.values())))
        yield lab
        finish(lab)


def set_mss(lab, value, *names):
    for name in names or SERVICES:
        lab.lbctl("service", "set", name, f"mss={value}")


def syns(lab, name):
    """One connection; @return the MSS in the SYN at the server and in the SYN/ACK at the client."""
    client, server, _, _, _ = SERVICES[name]
    layer = {4: IP, 6: IPv6}
    backend = lab.backends[0]
    far, near = Wire(backend.ns, "eth0"), Wire(lab.client, "eth0")

    def is_syn(frame, family, flags, **fields):
        packet = Ether(frame)
        return layer[family] in packet and TCP in packet and packet[TCP].flags == flags and all(
            getattr(packet[TCP], field) == value for field, value in fields.items())

    try:
        far.flush()
        near.flush()
        with lab.client.entered():
            with socket.create_connection((VIPS[client], port_of(name)), 30):
                pass
        to_server = far.expect(lambda f: is_syn(f, server, "S"))
        to_client = near.expect(lambda f: is_syn(f, client, "SA", sport=port_of(name)))
    finally:
        far.close()
        near.close()
    return [dict(Ether(frame)[TCP].options)["MSS"] for frame in (to_server, to_client)]


def download(lab, name, timeout_s=60):
    client = SERVICES[name][0]
    host = f"[{VIPS[6]}]" if client == 6 else VIPS[4]
    return lab.client.run("curl", "-sS", "--fail", "--max-time", timeout_s, "-o", lab.dir / "got", "-w", "%{size_download}",
                          f"http://{host}:{port_of(name)}/big", check=False)


@pytest.mark.smoke
@pytest.mark.parametrize("name", SERVICES)
def test_auto_is_what_the_ports_have_room_for(lab, name):
    client, server, _, _, n_added = SERVICES[name]
    set_mss(lab, "auto", name)
    to_server, to_client = syns(lab, name)
    limit = min(PORT_MTU - HEADERS[client], 1500 - HEADERS[server])
    assert to_server == limit
    assert to_client == min(limit, 1500 - HEADERS[server]) - n_added


def test_none_leaves_it_alone(lab):
    set_mss(lab, "none")
    assert syns(lab, "nat4") == [1460, 1460]
    assert syns(lab, "nat6") == [1440, 1440]
    assert lab.service("nat4")["mode"] == "nat"
    assert "mss" in lab.lbctl("service", "show", "nat4").stdout
    assert lab.lbctl_json("service", "show", "nat4")["config"]["mss"] == "none"


def test_a_number_gets_through_a_path_that_is_silent(lab):
    # What the ports allow is too long for this path: the download hangs. That shows that the rest tests something.
    set_mss(lab, "auto")
    lab.lb.ip("route replace default via 10.2.0.2", "route replace default via 2001:db8:2::2")
    near = Wire(lab.client, "eth1")
    try:
        wait_for(lambda: (download(lab, "nat4", 1), near.received(lambda f: TCP in Ether(f)))[1], "replies over the switch")
        assert download(lab, "nat4", 2).returncode == 28

        set_mss(lab, PATH_MTU - 60)
        for name in SERVICES:
            done = download(lab, name)
            assert (done.returncode, done.stdout) == (0, str(FILE_BYTES)), (name, done.stderr)
    finally:
        near.close()
        lab.lb.ip("route replace default via 10.1.0.2", "route replace default via 2001:db8:1::2")


@pytest.mark.parametrize("name", SERVICES)
def test_a_number_is_for_both_directions(lab, name):
    set_mss(lab, 1200, name)
    wait_for(lambda: syns(lab, name) == [1200, 1200 - SERVICES[name][4]], "both")


def test_a_wrong_one_is_refused(lab):
    done = lab.lbctl("service", "set", "nat4", "mss=87", check=False)
    assert done.returncode == 1
    assert "expected a whole number 88..65495, auto or none" in done.stderr
    wait_for(lambda: lab.status()["dataplane"]["state"] == "up", "the data plane")
