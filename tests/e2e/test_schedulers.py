# SPDX-License-Identifier: BSD-3-Clause
"""Schedulers with real connections: who gets new ones, by turns, by load, by the client's address."""
import json
import math
import os
from collections import Counter

import pytest

import configs
from conftest import finish
from lab import VIP, Lab, run, wait_for


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        for backend in lab.backends:
            backend.start_nginx()
        lab.start_all(configs.config(configs.web(lab, 4)))
        yield lab
        finish(lab)


def use(lab, *settings):
    """Change the service, and forget the flows of what was before: finished ones count for a while."""
    lab.lbctl("service", "set", "web", *settings)
    wait_for(lambda: lab.service("web")["table"]["published"], "the table")
    lab.lbctl("flows", "flush", "web")


def requests(lab, count, *options):
    report = lab.traffic("requests", VIP, 80, "--count", count, *options)
    assert report["failed"] == []
    return report["backends"]


def hold(lab, n):
    """n connections at once: {backend: connections}."""
    with lab.load(VIP, 80, "--connections", n, "--probe-interval", 1000) as load:
        counts = load.first["open"]
        load.stop()
    assert sum(counts.values()) == n
    return counts


def test_rr_and_wrr_are_exact(lab):
    use(lab, "scheduler=rr")
    assert requests(lab, 150) == {"api-1": 50, "api-2": 50, "api-3": 50}
    use(lab, "scheduler=wrr")
    assert requests(lab, 200) == {"api-1": 100, "api-2": 60, "api-3": 40}


def test_lc_gives_to_who_has_least(lab):
    use(lab, "scheduler=lc")
    for name in ("api-2", "api-3"):
        lab.lbctl("backend", "drain", "web", name)
    with lab.load(VIP, 80, "--connections", 30, "--probe-interval", 1000) as load:
        assert load.first["open"] == {"api-1": 30}
        for name in ("api-2", "api-3"):
            lab.lbctl("backend", "enable", "web", name)
        wait_for(lambda: lab.service("web")["table"]["published"], "the table")
        counts = hold(lab, 40)
        load.stop()
    # a probe or two more may have gone anywhere
    assert counts.get("api-1", 0) <= 1 and abs(counts["api-2"] - counts["api-3"]) <= 2, counts


def test_wlc_and_p2c_follow_weights(lab):
    use(lab, "scheduler=wlc")
    counts = hold(lab, 50)
    for name, share in configs.shares().items():
        assert abs(counts[name] - 50 * share) <= 2, counts
    use(lab, "scheduler=p2c")
    counts = hold(lab, 100)
    for name, share in configs.shares().items():
        assert abs(counts[name] - 100 * share) <= 15, counts


def test_source_stays_with_the_client(lab):
    addresses = [f"198.51.100.{i}" for i in range(20, 26)]
    lab.client.ip(*[f"addr add {address}/32 dev lo" for address in addresses])
    use(lab, "scheduler=source")
    seen = Counter()
    for address in addresses:
        counts = requests(lab, 12, "--source", address)
        assert len(counts) == 1, f"{address}: {counts}"
        seen.update(counts.keys())
    assert len(seen) >= 2, seen
    trace = lab.lbctl_json("trace", f"{addresses[0]}:1", f"{VIP}:80/tcp")
    other = lab.lbctl_json("trace", f"{addresses[0]}:4711", f"{VIP}:80/tcp")
    assert trace["slot"] == other["slot"] and trace["hash"] != other["hash"]


def test_max_load_bounds_every_backend(lab):
    # One client: without the bound, all of it would go to one backend.
    use(lab, "scheduler=source", "max_load=1.25")
    counts = hold(lab, 60)
    use(lab, "max_load=none")
    for name, share in configs.shares().items():
        assert counts[name] <= math.ceil(1.25 * share * 62), counts  # 62: and a probe or two
    assert len(counts) == 3


def test_ring_follows_weights_roughly(lab):
    use(lab, "scheduler=ring")
    counts = requests(lab, 600)
    for name, share in configs.shares().items():
        assert abs(counts[name] / 600 - share) < 0.1, counts
    use(lab, "scheduler=maglev")


def test_slow_start_is_told(lab):
    use(lab, "slow_start=1s")

    def starts_slowly():  # seen before it is over
        lab.lbctl("backend", "disable", "web", "api-2")
        lab.lbctl("backend", "enable", "web", "api-2")
        return lab.backend_list("web")["api-2"]["weight_percent"] < 100
    wait_for(starts_slowly, "less than all of its weight")
    wait_for(lambda: lab.events(kind="slow_start", subject="backend web/api-2", to="full"), "the end of it")
    wait_for(lambda: lab.backend_list("web")["api-2"]["weight_percent"] == 100, "all of its weight")
    assert lab.events(kind="slow_start", subject="backend web/api-1") == []
    use(lab, "slow_start=0s")


def test_last_resort_serves_when_nobody_is_healthy(lab):
    use(lab, "scheduler=maglev", "on_empty=last_resort", "health_check.expect_status=500")
    lab.wait_effective("web", api_1="down", api_2="down", api_3="down", api_4="down")
    wait_for(lambda: lab.service("web")["health_ignored"] == "last_resort", "last resort")
    assert set(requests(lab, 60)) == {"api-1", "api-2", "api-3"}
    assert 'fulcrum_service_health_ignored{service="web"} 1' in lab.api("/metrics")
    assert "ignored (last_resort)" in lab.lbctl("service", "show", "web").stdout
    use(lab, "health_check.expect_status=200-399", "on_empty=drop")
    lab.wait_ready()
    wait_for(lambda: lab.service("web")["health_ignored"] is None, "health to be heeded")
    assert [e["to"] for e in lab.events(kind="service_panic")] == ["last_resort", "off"]


def test_what_does_not_go_together_is_refused(lab):
    for settings, reason in ((["scheduler=lc", "tracking=changed"], "scheduler lc needs tracking: all"),
                             (["scheduler=wrr", "max_load=2"], "max_load has no meaning with scheduler wrr"),
                             (["max_load=1"], "1.01..10")):
        done = lab.lbctl("service", "set", "web", *settings, check=False)
        assert done.returncode == 1 and reason in done.stderr, done.stderr
    assert lab.service("web")["tracking"] == "all"


def simulate(tmp_path, *arguments):
    """lbctl simulate without any daemon."""
    build = os.environ.get("FULCRUM_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))
    config = tmp_path / "fulcrum.yaml"
    config.write_text(json.dumps({"services": [
        {"name": "web", "vip": VIP, "port": 80, "protocol": "tcp", "scheduler": "wrr", "backends": [
            {"name": f"api-{i}", "address": f"10.0.0.{i}", "weight": 1 + i % 3} for i in range(1, 21)]}]}))
    return run(os.path.join(build, "control/lbctl"), "simulate", str(config), *arguments,
               check=False, env={**os.environ, "FULCRUM_RUN_DIR": str(tmp_path)})


def test_simulate_compares_schedulers(tmp_path):
    done = simulate(tmp_path, "--json", "--remove", "api-3,web/api-4", "--add", "api-99=3")
    assert done.returncode == 0, done.stderr
    service = json.loads(done.stdout)["services"][0]
    assert (service["removed"], service["added"]) == (["api-3", "api-4"], ["api-99"])
    schedulers = {s["scheduler"]: s for s in service["schedulers"]}
    assert set(schedulers) == {"maglev", "ring", "rr", "wrr", "lc", "wlc", "p2c", "source"}
    for name, scheduler in schedulers.items():
        changes = {c["change"]: c for c in scheduler["changes"]}
        assert scheduler["configured"] == (name == "wrr")
        assert changes["fail"]["others_percent"] == 0, "a failure moves only its own slots"
        assert abs(sum(b["share_percent"] for b in scheduler["backends"]) - 100) < 1e-6
        assert scheduler["most_over_percent"] < (50 if name == "ring" else 5), name
    assert {c["change"]: c["others_percent"] for c in schedulers["ring"]["changes"]} == {
        "fail": 0, "remove": 0, "add": 0}


def test_simulate_shows_shares_before_and_after(tmp_path):
    arguments = ["--remove", "api-3", "--add", "api-99=10"]
    service = json.loads(simulate(tmp_path, "--json", *arguments).stdout)["services"][0]
    for scheduler in service["schedulers"]:
        shares = {c["change"]: {b["name"]: b["share_percent"] for b in c["backends"]} for c in scheduler["changes"]}
        assert set(shares) == {"fail", "remove", "add"}
        for change, after in shares.items():
            assert abs(sum(after.values()) - 100) < 1e-6, (scheduler["scheduler"], change)
            assert ("api-99" in after) == (change == "add") and (after["api-3"] == 0) == (change != "add")
    lines = simulate(tmp_path, *arguments).stdout.splitlines()
    (head,) = (line for line in lines if line.startswith("BACKEND"))
    assert "IF IT FAILS" in head and "AFTER REMOVE" in head and "AFTER ADD" in head
    (added,) = (line.split() for line in lines if line.startswith("api-99"))
    assert added[:7] == ["api-99", "10", "0", "-", "-", "-", "-"]
    total = sum(1 + i % 3 for i in range(1, 21)) + 10
    assert abs(float(added[7]) - 1000 / total) < 0.5


def test_simulate_shows_no_negative_zero(tmp_path):
    for arguments in ([], ["--add", "api-99"]):
        done = simulate(tmp_path, *arguments)
        assert done.returncode == 0 and "0.00 %" in done.stdout and "-0.00" not in done.stdout, done.stdout
        assert "-0.0" not in simulate(tmp_path, "--json", *arguments).stdout


@pytest.mark.parametrize("arguments, reason", [
    (["--remove", "nobody"], "no service that is looked at has a backend nobody"),
    (["--add", "api-1"], "service web has a backend api-1 already"),
    (["--add", "x=999"], "expected a weight 0..256"),
    (["nobody"], "the file has no such service"),
])
def test_simulate_refuses(tmp_path, arguments, reason):
    done = simulate(tmp_path, "--json", *arguments)
    assert done.returncode in (1, 2) and reason in done.stderr, done.stderr
