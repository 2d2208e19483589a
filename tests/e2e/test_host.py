# SPDX-License-Identifier: BSD-3-Clause
"""The balancer is a host too: what its own kernel asks the servers (health checks above all) is answered from the
same endpoints as clients are, and these answers are the kernel's. Nobody here is a client of the VIPs."""
from collections import Counter

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

import configs
from conftest import finish
from lab import VIP, VIPS, Lab, wait_for
from wire import Wire

OWN = {4: "10.2.0.1", 6: "2001:db8:2::1"}


def ip_of(frame):
    packet = Ether(frame)
    return packet[IP] if IP in packet else packet[IPv6] if IPv6 in packet else None


def is_from_a_vip(frame):
    """As an answer to the balancer itself would be if it were taken for one to a client."""
    ip = ip_of(frame)
    return ip is not None and ip.src in VIPS.values()


class Watch:
    """What servers answer to the balancer, and what leaves the balancer, on both links."""

    def __init__(self, lab):
        self.lab = lab
        self.inside = Wire(lab.lb, "vethb")
        self.outside = [Wire(lab.client, "eth0"), Wire(lab.switch, "p0")]
        self.answers = Counter()

    def take_answers(self):
        """{server address: TCP segments from its port 8080 to the balancer} since the start."""
        for frame in self.inside.received(lambda f: True):
            ip = ip_of(frame)
            if ip is not None and TCP in ip and ip[TCP].sport == 8080:
                self.answers[ip.src] += 1
        return self.answers

    def wait_answers(self, n):
        """Until n segments more came from every server."""
        addresses = [a for b in self.lab.backends for a in b.addresses.values()]
        seen = Counter(self.take_answers())
        wait_for(lambda: all(self.take_answers()[a] - seen[a] >= n for a in addresses),
                 lambda: f"{n} answers each, have {self.answers - seen}", interval_s=0.1)

    def leaked(self):
        """Frames that left the balancer with a VIP as their source."""
        return [Ether(f).summary() for wire in self.outside for f in wire.received(is_from_a_vip)]

    def close(self):
        for wire in [self.inside, *self.outside]:
            wire.close()


def routes_none(lab):
    lab.lb.ip("route del default via 10.1.0.2", "route del default via 2001:db8:1::2")
    return {}


def routes_default(_lab):
    return {}


def routes_gateway(lab):
    return {"gateway": {"mac": lab.client.mac("eth0"), "port": 0}}


@pytest.fixture(scope="module", params=[routes_none, routes_default, routes_gateway],
                ids=["without_default_route", "with_default_route", "with_static_gateway"])
def watch(request):
    """A lab watched from before its daemons start."""
    with Lab() as lab:
        for backend in lab.backends:
            backend.start_nginx()
        extra = request.param(lab)
        watch = Watch(lab)
        lab.start_all(configs.config(*[configs.web(lab, family) for family in (4, 6)], **extra))
        yield watch
        watch.close()
        finish(lab)


@pytest.mark.smoke
def test_answers_to_health_checks_are_left_to_the_kernel(watch):
    watch.wait_answers(20)
    drops = watch.lab.drops()
    assert drops["no_route"] == 0, drops
    assert drops["reply"] == 0, drops
    assert drops["host"] >= 20 * 2 * len(watch.lab.backends), "the data plane saw them"
    assert watch.leaked() == []
    assert set(watch.lab.effective("web").values()) == {"up"}


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_address_that_comes_later_is_the_hosts_too(watch, family):
    lab, address = watch.lab, {4: "10.2.0.77", 6: "2001:db8:2::77"}[family]
    lab.lb.ip(f"addr add {address}/{24 if family == 4 else 64} dev vethb" + (" nodad" if family == 6 else ""))
    server = lab.backends[0].addresses[family]
    url = f"http://{server if family == 4 else f'[{server}]'}:8080/healthz"

    def asks_without_trace():
        before = lab.drops()
        lab.lb.run("curl", "-sS", "--fail", "--max-time", 30, "--interface", address, "-o", "/dev/null", url)
        after = lab.drops()
        assert after["host"] > before["host"]
        return not watch.leaked() and all(after[r] == before[r] for r in ("no_route", "reply"))

    wait_for(asks_without_trace, f"{address} to be known as the host's")


def test_vip_on_an_interface_is_told(watch):
    lab = watch.lab
    assert lab.events(kind="vip_local") == []
    lab.lb.ip(f"addr add {VIP}/32 dev lo")
    event = wait_for(lambda: lab.events(kind="vip_local"), "the event")[0]
    assert (event["subject"], event["to"]) == ("service web", "local")
    assert VIP in event["cause"]
    warning = {"where": "service web",
               "message": f"its VIP {VIP} is an address of this host, whose kernel may answer clients too"}
    status = lab.lbctl_json("status")
    assert [{k: w[k] for k in warning} for w in status["warnings"]] == [warning]
    assert {s["name"]: s["vip_local"] for s in status["services"]} == {"web": True, "web6": False}
    assert f"warning: {warning['message']}" in lab.lbctl("service", "set", "web", "idle_timeout=5m").stderr
    assert warning["message"] in lab.lbctl("status").stdout
    assert "the VIP is an address of this host" in lab.lbctl("service", "show", "web").stdout
    assert "the VIP is an address of this host" not in lab.lbctl("service", "show", "web6").stdout
    assert f"WARN model: service web: its VIP {VIP} is a local address" in lab.control.log.read_text()
    lab.lb.ip(f"addr del {VIP}/32 dev lo")
    wait_for(lambda: [e["to"] for e in lab.events(kind="vip_local")] == ["local", "ok"], "its end")
    status = lab.lbctl_json("status")
    assert status["warnings"] == [] and not any(s["vip_local"] for s in status["services"])
