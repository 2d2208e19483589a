# SPDX-License-Identifier: BSD-3-Clause
"""A server dies, comes back, is drained: only its own connections notice."""
import time

import pytest

from lab import VIP, VIPS, wait_for


def since(report, at):
    """Probes that began after `at`: (good, failed)."""
    probes = [p for p in report["probes"] if p[0] >= at]
    return [p for p in probes if p[2] is not None], [p for p in probes if p[2] is None]


@pytest.fixture
def whole_lab(shared_lab):
    """The file's own lab, for tests that leave it as it was: every server is up at the beginning."""
    shared_lab.wait_ready()
    return shared_lab


@pytest.mark.smoke
@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_killed_server_takes_only_its_own_connections(lab, family):
    service = "web" if family == 4 else "web6"
    with lab.load(VIPS[family], 80, "--connections", 200) as load:
        load.wait_probes(10)
        lab.backends[1].kill_nginx()
        lab.wait_effective(service, api_2="down")
        left_at = load.wait_settled(20, without="api-2")["now"]
        load.wait_probes(20)
        # Each held connection finds out at its next request.
        wait_for(lambda: len(load.report()["broken"]) >= load.first["open"]["api-2"], "the dead connections")
        report = load.stop()
    assert {b["backend"] for b in report["broken"]} == {"api-2"}, report["broken"]
    assert len(report["broken"]) == load.first["open"]["api-2"]
    assert report["moved"] == []
    good, failed = since(report, left_at)
    assert (failed, "api-2" in {p[2] for p in good}) == ([], False)


def test_unplugged_server_is_left(whole_lab):
    lab = whole_lab
    # No RST, no refusal: silence. A probe that meets the dead server times out; later ones do not.
    with lab.load(VIP, 80, "--connections", 100, "--timeout", 3) as load:
        load.wait_probes(10)
        lab.backends[0].link(up=False)
        pulled_at = time.monotonic()
        lab.wait_effective("web", api_1="down")
        left_at = load.wait_settled(20, without="api-1")["now"]
        report = load.wait_probes(20)
        good, failed = since(report, pulled_at)
        assert failed and all(p[0] < left_at for p in failed), failed[-1:]
        assert {p[2] for p in good} == {"api-2", "api-3"}
        lab.backends[0].link(up=True)
        lab.wait_effective("web", api_1="up")
        wait_for(lambda: "api-1" in {p[2] for p in load.report()["probes"][-40:]}, "api-1 to serve again")
        report = load.stop()
    assert {b["backend"] for b in report["broken"]} <= {"api-1"}, report["broken"]


def test_backup_serves_while_all_primaries_are_down(lab):
    for backend in lab.backends[:3]:
        backend.kill_nginx()
    lab.wait_effective("web", api_1="down", api_2="down", api_3="down", api_4="up")
    wait_for(lambda: lab.service("web")["active_tier"] == 1, "the backup tier to join")
    report = lab.traffic("requests", VIP, 80, "--count", 100)
    assert (report["backends"], report["failed"]) == ({"api-4": 100}, [])
    lab.backends[1].start_nginx()
    lab.wait_effective("web", api_2="up")
    wait_for(lambda: lab.service("web")["active_tier"] == 0, "the backup tier to leave")
    report = lab.traffic("requests", VIP, 80, "--count", 100)
    assert (report["backends"], report["failed"]) == ({"api-2": 100}, [])


def test_recovery_moves_no_connection(whole_lab):
    lab = whole_lab
    lab.backends[2].kill_nginx()
    lab.wait_effective("web", api_3="down")
    with lab.load(VIP, 80, "--connections", 200) as load:
        assert "api-3" not in load.first["open"]
        lab.backends[2].start_nginx()
        lab.wait_effective("web", api_3="up")
        wait_for(lambda: "api-3" in {p[2] for p in load.report()["probes"]}, "api-3 to get new connections")
        report = load.stop()
    assert (report["broken"], report["moved"]) == ([], [])
    assert report["open"] == load.first["open"]


def test_drained_server_keeps_what_it_has_and_gets_nothing_new(whole_lab):
    lab = whole_lab
    with lab.load(VIP, 80, "--connections", 200) as load:
        held = load.first["open"]["api-1"]
        assert held > 0
        lab.lbctl("backend", "drain", "web", "api-1")
        assert lab.effective("web")["api-1"] == "drain"
        drained_at = load.wait_settled(20, without="api-1")["now"]  # the workers have its table
        load.wait_probes(40)
        # Open connections go on: each makes a request every half second.
        requests = load.report()["n_requests"]
        report = wait_for(lambda: (lambda r: r["n_requests"] > requests + 400 and r)(load.report()), "requests")
        good, failed = since(report, drained_at)
        assert failed == []
        assert {p[2] for p in good} == {"api-2", "api-3"}
        assert report["open"]["api-1"] == held
        assert lab.backend_list("web")["api-1"]["counters"]["active_flows"] >= held
        lab.lbctl("backend", "enable", "web", "api-1")
        wait_for(lambda: "api-1" in {p[2] for p in load.report()["probes"][-40:]}, "new connections to api-1")
        report = load.stop()
    assert (report["broken"], report["moved"]) == ([], [])


def test_weight_and_backend_changes_break_nothing(lab):
    with lab.load(VIP, 80, "--connections", 200) as load:
        lab.lbctl("backend", "set", "web", "api-1", "weight=1")
        lab.lbctl("backend", "set", "web", "api-3", "weight=9")
        extra = lab.add_backend(5)
        extra.start_nginx()
        lab.lbctl("backend", "add", "web", f"{extra.address}:8080", "--weight", "4")
        lab.wait_ready()
        wait_for(lambda: "api-5" in {p[2] for p in load.report()["probes"]}, "api-5 to get connections")
        report = load.stop()
    assert (report["broken"], report["moved"]) == ([], [])
    assert [p for p in report["probes"] if p[2] is None] == []
