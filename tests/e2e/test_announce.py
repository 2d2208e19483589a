# SPDX-License-Identifier: BSD-3-Clause
"""VIPs in a routing table of the kernel, as BIRD or FRR would export them, while they may attract traffic."""
from pathlib import Path

import pytest

import configs
from lab import VIP, VIP6, Lab, wait_for
from netns import run

TABLE = 4242


def routes(lab):
    """The VIPs announced in lab.table, by the kernel's own word."""
    found = set()
    for family in ("-4", "-6"):
        done = run("ip", "-n", lab.lb.name, family, "route", "show", "table", str(lab.table), check=False)
        for line in done.stdout.splitlines():
            words = line.split()
            if words[0] == "blackhole" and ("proto 70" in line):
                found.add(words[1])
    return found


def wait_routes(lab, *vips):
    wait_for(lambda: routes(lab) == set(vips), lambda: f"{vips}, have {routes(lab)}")


def wait_monitor(lab, monitor, address):
    """Until it has told of a route that is made now, in a table of its own, and so of all before."""
    def told():
        lab.lb.ip(f"route add blackhole {address}/32 table 4343", f"route del blackhole {address}/32 table 4343")
        return address in monitor.log.read_text()
    wait_for(told, "ip monitor")


def config(lab, table=TABLE):
    return {"announce": {"table": table}, **configs.config(configs.web(lab, 4), configs.web(lab, 6))}


def events(lab):
    return [(e["subject"], e["to"], e["cause"]) for e in lab.api("/v1/events")["events"] if e["kind"] == "announcement"]


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.table = TABLE
        for backend in lab.backends:
            backend.start_nginx()
        # somebody else's route in the same table, and one of ours that a daemon before us has left
        lab.lb.ip(f"route add blackhole 192.0.2.7/32 table {TABLE} proto static",
                  f"route add blackhole 192.0.2.8/32 table {TABLE} proto 70")
        lab.start_all(config(lab))
        yield lab
        wait_routes(lab, VIP, VIP6)
        assert set(lab.stop_daemons().values()) == {0}
        assert routes(lab) == {VIP, VIP6}  # forwarding goes on without the daemon


def test_vips_are_announced_and_others_routes_left_alone(lab):
    wait_routes(lab, VIP, VIP6)
    shown = lab.lbctl("maintenance").stdout
    assert VIP in shown and VIP6 in shown and shown.split()[:2] == ["maintenance", "off"]
    assert "192.0.2.7" in run("ip", "-n", lab.lb.name, "route", "show", "table", str(TABLE)).stdout
    assert f'fulcrum_vip_announced{{vip="{VIP}"}} 1' in lab.api("/metrics")


def test_maintenance_withdraws_and_outlives_a_restart(lab):
    wait_routes(lab, VIP, VIP6)
    answer = lab.lbctl_json("maintenance", "on")
    assert routes(lab) == set() and answer["maintenance"] is True
    assert {v["reason"] for v in answer["vips"]} == {"maintenance"}
    assert lab.traffic("requests", VIP, 80, "--count", 20, "--concurrency", 5)["failed"] == []  # who comes is served
    assert (f"vip {VIP}", "withdrawn", "maintenance") in events(lab)
    lab.control.kill_group()
    lab.start_control()
    assert lab.lbctl_json("maintenance")["maintenance"] is True and routes(lab) == set()
    lab.lbctl("maintenance", "off")
    wait_routes(lab, VIP, VIP6)


def test_restart_of_the_daemon_withdraws_nothing(lab):
    wait_routes(lab, VIP, VIP6)
    monitor = lab.start(lab.lb, "monitor", ["ip", "monitor", "route"])
    wait_monitor(lab, monitor, "192.0.2.9")
    lab.control.kill_group()
    assert routes(lab) == {VIP, VIP6}
    lab.start_control()
    wait_for(lambda: lab.status()["dataplane"]["state"] == "up", "in sync")
    wait_for(lambda: lab.effective("web")["api-1"] == "up", "healthy")
    wait_monitor(lab, monitor, "192.0.2.10")
    monitor.stop()
    assert [line for line in monitor.log.read_text().splitlines() if f"table {TABLE}" in line] == []
    assert events(lab) == []


def test_dead_data_plane_withdraws_until_it_is_back(lab):
    wait_routes(lab, VIP, VIP6)
    lab.dataplane.kill_group()
    wait_routes(lab)
    assert any("data plane is down" in cause for *_, cause in events(lab))
    lab.start_dataplane()
    wait_routes(lab, VIP, VIP6)


def test_vip_without_a_healthy_backend_is_withdrawn(lab):
    wait_routes(lab, VIP, VIP6)
    for backend in lab.backends:
        lab.lbctl("backend", "disable", "web6", backend.name)
    wait_routes(lab, VIP)
    for backend in lab.backends:
        lab.lbctl("backend", "enable", "web6", backend.name)
    wait_routes(lab, VIP, VIP6)


def test_another_table_moves_the_routes_and_none_removes_them(lab):
    wait_routes(lab, VIP, VIP6)
    lab.apply(config(lab, 100))
    wait_routes(lab)
    lab.table = 100
    wait_routes(lab, VIP, VIP6)
    lab.apply(configs.config(configs.web(lab, 4)))
    wait_routes(lab)
    refused = lab.lbctl("maintenance", "on", check=False)
    assert refused.returncode == 1 and "announce.table" in refused.stderr
    lab.table = TABLE
    lab.apply(config(lab))
    wait_routes(lab, VIP, VIP6)


def test_the_daemon_keeps_no_privilege_that_it_does_not_need(lab):
    def capabilities(which):
        status = (Path("/proc") / str(lab.control.pid) / "status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(which)), 16)

    # CAP_DAC_READ_SEARCH 2, CAP_KILL 5, CAP_SETGID 6, CAP_SETUID 7, CAP_NET_ADMIN 12
    assert {which: capabilities(which) for which in ("CapEff", "CapPrm", "CapBnd")} == dict.fromkeys(
        ("CapEff", "CapPrm", "CapBnd"), 1 << 2 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 12)
    assert capabilities("NoNewPrivs") == 1
    # what needs root's help at run time still works: a reload, and a neighbour that is to be resolved
    lab.lbctl("backend", "add", "web", "10.2.0.99:80")
    wait_for(lambda: lab.backend_list("web")["10.2.0.99:80"]["nexthop"] is not None, "a next hop")
    lab.lbctl("backend", "del", "web", "10.2.0.99:80")


def pids_of(marker):
    """Processes with this word in their command line."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in path.read_bytes().decode(errors="replace").split("\0"):
                found.add(int(path.parent.name))
        except OSError:
            pass  # has ended meanwhile
    return found


def test_programs_as_checks_run_as_nobody_and_are_ended(lab):
    """By a daemon that was started by root, with what it has kept."""
    marker = f"hang-{lab.control.pid}"
    show = "echo $(id -u) $(grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status | cut -f2 | sort -u); exit 1"
    hang = ["/bin/sh", "-c", "sleep 600; exit 0", marker]
    checks = [["/bin/sh", "-c", show], hang, ["/bin/true"], ["/nonexistent/program"]]
    service = configs.web(lab, 4)
    service["health_check"] = {"type": "exec", "command": ["/bin/true"], "interval": "500ms", "timeout": "300ms"}
    for backend, command in zip(service["backends"], checks):
        backend["health_check"] = {"command": command}
    lab.write_config(configs.config(service))
    lab.lbctl("apply", lab.config_file)
    names = [b["name"] for b in service["backends"]]

    def health(i):
        return lab.backend_list("web")[names[i]]["health"]
    nobody = "65534 " + "0" * 16  # and no capability
    wait_for(lambda: health(0)["reason"].strip('"').endswith(nobody), lambda: str(health(0)))
    wait_for(lambda: "time" in health(1)["reason"], lambda: str(health(1)))
    wait_for(lambda: health(2)["state"] == "up", lambda: str(health(2)))
    wait_for(lambda: health(3)["reason"].startswith("not checked"), lambda: str(health(3)))
    lab.apply(config(lab))
    wait_for(lambda: not pids_of(marker), lambda: f"end of {pids_of(marker)}")
