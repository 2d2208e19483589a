# SPDX-License-Identifier: BSD-3-Clause
"""Two workers, each with its own queue of every port and its own flow table."""
import pytest

import configs
from conftest import finish
from lab import VIP, VIPS, Lab, sigkill, wait_for


@pytest.fixture
def lab():
    with Lab(n_workers=2) as lab:
        for backend in lab.backends:
            backend.start_nginx()
            backend.start_udp_echo()
        lab.start_all(configs.config(*[make(lab, family) for make in (configs.web, configs.dns)
                                       for family in (4, 6)]))
        yield lab
        finish(lab)


@pytest.mark.smoke
def test_both_workers_forward_and_flows_stick(lab):
    for family in (4, 6):
        report = lab.traffic("requests", VIPS[family], 80, "--count", 500)
        assert (report["failed"], "api-4" in report["backends"]) == ([], False)
        report = lab.traffic("udp", VIPS[family], 53, "--flows", 300, "--repeat", 4)
        for flow in report["flows"]:
            assert (flow["lost"], len(set(flow["backends"]))) == (0, 1)
    workers = lab.api("/v1/stats")["workers"]
    assert len(workers) == 2
    for worker in workers:
        assert worker["tx_pkts"] > 0 and worker["flows_used"] > 0, workers


def test_changes_reach_every_worker(lab):
    with lab.load(VIP, 80, "--connections", 100) as load:
        lab.lbctl("backend", "drain", "web", "api-1")
        report = load.wait_probes(40)
        at = report["now"]
        lab.backends[1].kill_nginx()
        lab.wait_effective("web", api_2="down")
        wait_for(lambda: len(load.report()["broken"]) >= load.first["open"]["api-2"], "the dead connections")
        report = load.wait_probes(40)
        assert {p[2] for p in report["probes"][-20:]} == {"api-3"}
        sigkill(lab.dataplane)
        lab.start_dataplane()
        load.wait_probes(20)
        requests = load.report()["n_requests"]
        wait_for(lambda: load.report()["n_requests"] > requests + 150, "requests")
        report = load.stop()
    assert {b["backend"] for b in report["broken"]} == {"api-2"}
    assert report["moved"] == []
    assert "api-1" not in {p[2] for p in report["probes"] if p[0] > at}


def test_flows_that_backends_reset_are_over(lab):
    """Replies come to either worker, whichever has the flow; the clients send nothing more."""
    n_flows = 200
    for family, name in ((4, "web"), (6, "web6")):
        report = lab.traffic("requests", VIPS[family], 80, "--count", n_flows, "--path", "/reset")
        assert report["failed"] == ["Connection reset by peer"] * n_flows

        def counters(key, service=name):
            return sum(backend["counters"][key] for backend in lab.backend_list(service).values())
        wait_for(lambda: counters("resets") == n_flows, lambda: f"resets:\n{lab.describe()}")
        assert counters("new_flows") == n_flows
        wait_for(lambda: counters("active_flows") == 0, lambda: f"flows to end:\n{lab.describe()}")
    flow = lab.api("/v1/stats")["flow"]
    assert (flow["reset"], flow["reset_lost"]) == (2 * n_flows, 0)
    lab.lbctl("backend", "drain", "web", "api-1", "--wait", "60s")
    # a live one still counts
    with lab.load(VIP, 80, "--connections", 20) as load:
        wait_for(lambda: counters("active_flows", "web") >= 20, "the load's flows")
        assert load.stop()["broken"] == []
