# SPDX-License-Identifier: BSD-3-Clause
"""One run with everything that happens to a balancer: only connections of removed servers break."""
import pytest

import configs
from lab import Lab, VIP, sigkill, wait_for

N_SERVERS = 8
N_CONNECTIONS = 500


@pytest.fixture
def wide_lab():
    with Lab(n_backends=N_SERVERS) as lab:
        for backend in lab.backends:
            backend.start_nginx()
        yield lab


def config_of(lab, servers):
    service = configs.web(lab, 4)
    service["backends"] = [{"name": b.name, "address": b.addresses[4], "port": 8080, "weight": 1}
                           for b in lab.backends if b.name in servers]
    return configs.config(service)


def everyone_asks_again(load):
    """Each held connection makes at least one more request."""
    n = load.report()["n_requests"]
    wait_for(lambda: load.report()["n_requests"] > n + 2 * N_CONNECTIONS, "requests on every connection", 60)


def test_half_of_the_servers_and_both_daemons_change(wide_lab):
    lab = wide_lab
    before, after = ({f"api-{i}" for i in ids} for ids in ((1, 2, 3, 4, 5, 6), (1, 2, 3, 7, 8)))
    lab.start_all(config_of(lab, before))
    lab.wait_effective("web", **{name.replace("-", "_"): "up" for name in before})
    with lab.load(VIP, 80, "--connections", N_CONNECTIONS, "--timeout", 30, "--probe-timeout", 10) as load:
        assert set(load.first["open"]) == before, "a connection to every server"
        lab.apply(config_of(lab, after))
        lab.wait_effective("web", **{name.replace("-", "_"): "up" for name in after})
        everyone_asks_again(load)

        sigkill(lab.dataplane)
        wait_for(lambda: lab.lbctl("status", check=False).returncode == 4, "lbctl status to say so")
        lab.start_dataplane()
        wait_for(lambda: lab.status()["dataplane"]["state"] == "up", "the sync")
        assert lab.status()["dataplane"]["flows"]["adopted"] >= sum(load.first["open"][name] for name in before & after)
        everyone_asks_again(load)

        sigkill(lab.control)
        lab.start_control()
        lab.wait_ready()
        everyone_asks_again(load)
        report = load.stop()
    assert report["moved"] == []
    assert {b["backend"] for b in report["broken"]} <= before - after, report["broken"]
    assert {name: report["open"][name] for name in before & after} == \
        {name: load.first["open"][name] for name in before & after}
    assert {p[2] for p in report["probes"][-50:]} <= after
