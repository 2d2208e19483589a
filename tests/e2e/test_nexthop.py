# SPDX-License-Identifier: BSD-3-Clause
"""Next hops and routes follow the kernel of the balancer: neighbours, clients on the same link, routes, a static gateway."""
import pytest

import configs
from lab import PYTHON, VIP, VIPS, wait_for

ON_LINK = {4: "10.1.0.2", 6: "2001:db8:1::2"}


def backend(lab, name="api-1", service="web"):
    return lab.backend_list(service)[name]


@pytest.mark.parametrize("family", [4, 6])
def test_clients_on_the_same_link_get_their_replies(shared_lab, family):
    """A connected network is no route with one next hop: each neighbour is a host route."""
    report = shared_lab.traffic("requests", VIPS[family], 80, "--count", 50, "--source", ON_LINK[family])
    assert report["failed"] == []
    assert {body.split()[1] for body in report["bodies"]} == {ON_LINK[family]}


def test_forgotten_neighbours_are_asked_again_without_a_loss(shared_lab):
    with shared_lab.load(VIP, 80, "--connections", "20", "--probe-timeout", "3") as load:
        for _ in range(5):
            for dev in ("vethb", "vethc"):  # it may give up: entries come back while it deletes
                shared_lab.lb.run("ip", "neigh", "flush", "dev", dev, check=False)
            load.wait_probes(5)
        report = load.stop()
    assert report["broken"] == [] and all(p[2] for p in report["probes"])
    wait_for(lambda: all(b["nexthop"]["resolved"] for b in shared_lab.backend_list("web").values()), "next hops")


def move(server, mac):
    """Give the server another MAC address and let it announce itself, as failover software does."""
    server.ns.ip(f"link set eth0 address {mac}", "route replace default via 10.2.0.1",
                 "route replace default via 2001:db8:2::1")
    announce = ("import socket\n"
                "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
                "s.bind(('eth0', 0))\n"
                f"mac, ip = bytes.fromhex('{mac.replace(':', '')}'), socket.inet_aton('{server.address}')\n"
                "s.send(b'\\xff' * 6 + mac + bytes.fromhex('08060001080006040001') + mac + ip + bytes(6) + ip)\n")
    server.ns.run(PYTHON, "-c", announce)


def test_a_server_with_a_new_mac_address_is_found(shared_lab):
    server = shared_lab.backends[0]
    old, new = server.ns.mac("eth0"), "02:00:00:00:aa:01"
    assert backend(shared_lab)["nexthop"]["mac"] == old
    try:
        move(server, new)
        wait_for(lambda: backend(shared_lab)["nexthop"]["mac"] == new,
                 lambda: f"new MAC: {backend(shared_lab)['nexthop']}")
        report = shared_lab.traffic("requests", VIP, 80, "--count", 60)
        assert report["failed"] == [] and "api-1" in report["backends"]
    finally:
        move(server, old)
        wait_for(lambda: backend(shared_lab)["nexthop"]["mac"] == old, "old MAC")
        shared_lab.wait_ready()


def test_a_route_that_goes_and_comes_back(shared_lab):
    lab = shared_lab
    lab.lb.ip("route del default")
    try:
        def dropped():
            before = lab.drops()["no_route"]
            lab.traffic("requests", VIP, 80, "--count", 2, "--timeout", "0.3")
            return lab.drops()["no_route"] > before
        wait_for(dropped, lambda: f"drops for want of a route: {lab.drops()}")
    finally:
        lab.lb.ip("route add default via 10.1.0.2")
    wait_for(lambda: lab.traffic("requests", VIP, 80, "--count", 5, "--timeout", "0.5")["failed"] == [], "replies")


def test_a_more_specific_route_is_taken(shared_lab):
    """Replies to the client go where its own route says; with that gone, back to the default route."""
    lab = shared_lab
    lab.lb.ip("route add 198.51.100.0/24 via 10.2.0.14")  # a server, which has no use for them
    try:
        wait_for(lambda: lab.traffic("requests", VIP, 80, "--count", 2, "--timeout", "0.3")["failed"], "misrouting")
    finally:
        lab.lb.ip("route del 198.51.100.0/24")
    wait_for(lambda: lab.traffic("requests", VIP, 80, "--count", 5, "--timeout", "0.5")["failed"] == [], "replies")


def test_a_static_gateway_replaces_the_kernel_and_goes_again(lab):
    config = configs.config(*[make(lab, family) for make in (configs.web, configs.dns) for family in (4, 6)])
    lab.write_config({**config, "gateway": {"mac": lab.client.mac("eth0"), "port": 0}})
    lab.lbctl("apply", lab.config_file)
    # The kernel's next hops stay in force until the restarted mirror has had its first dump.
    wait_for(lambda: all(b["nexthop"]["address"] is None for b in lab.backend_list("web").values()), "the gateway")
    for b in lab.backend_list("web").values():
        assert b["nexthop"] == {"id": b["nexthop"]["id"], "resolved": True, "address": None,
                                "mac": lab.client.mac("eth0"), "port": 0, "reason": None}
    lab.write_config(config)
    lab.lbctl("apply", lab.config_file)
    wait_for(lambda: backend(lab)["nexthop"]["address"] == lab.backends[0].address, "the kernel's next hop")
    lab.wait_ready()
    report = lab.traffic("requests", VIP, 80, "--count", 50)
    assert report["failed"] == []
    assert lab.status()["dataplane"]["n_commands_refused"] == 0
