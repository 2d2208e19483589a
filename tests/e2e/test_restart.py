# SPDX-License-Identifier: BSD-3-Clause
"""Either daemon dies under load: the traffic does not notice, or hardly."""
import errno

import pytest

import shm
from lab import VIP, sigkill, wait_for


def flaps(lab, since=0):
    """Changes of backends' states after event number `since`, but for their first."""
    return [e for e in lab.events(kind="backend_state") if e["from"] is not None and e["seq"] > since]


@pytest.mark.smoke
def test_killed_control_daemon_is_not_noticed(lab):
    lab.lbctl("backend", "set", "web", "api-2", "weight=7")
    lab.lbctl("backend", "drain", "web", "api-3")
    with lab.load(VIP, 80, "--connections", 200, "--probe-timeout", 5) as load:
        sigkill(lab.control)
        assert lab.lbctl("status", check=False).returncode == 3, "the daemon cannot be reached"
        load.wait_probes(40)
        lab.start_control()
        lab.wait_ready()
        assert "resume" in lab.control.log.read_text(), "the log says that changes were resumed"
        load.wait_probes(20)
        report = load.stop()
    assert (report["broken"], report["moved"]) == ([], [])
    assert [p for p in report["probes"] if p[2] is None] == []
    assert flaps(lab) == []
    backends = lab.backend_list("web")
    assert backends["api-2"]["weight"] == 7
    assert (backends["api-3"]["state"], backends["api-3"]["effective"]) == ("drain", "drain")


def test_restarted_control_daemon_remembers_who_is_down(lab):
    lab.backends[0].kill_nginx()
    for service in ("web", "web6"):
        lab.wait_effective(service, api_1="down")
    with lab.load(VIP, 80, "--connections", 50, "--probe-timeout", 5) as load:
        sigkill(lab.control)
        lab.start_control()
        wait_for(lambda: lab.status()["dataplane"]["state"] == "up", "the sync")
        load.wait_probes(20)
        report = load.stop()
    assert [p for p in report["probes"] if p[2] is None] == [], "nobody is sent to the dead server"
    assert (report["broken"], flaps(lab)) == ([], [])


@pytest.mark.smoke
def test_killed_dataplane_is_back_without_the_control_daemon_restarting(lab):
    control_pid, before = lab.status()["control"]["pid"], lab.events()[-1]["seq"]
    with lab.load(VIP, 80, "--connections", 200, "--timeout", 30) as load:
        load.wait_probes(10)
        sigkill(lab.dataplane)
        wait_for(lambda: lab.lbctl("status", check=False).returncode == 4, "lbctl status to say so")
        assert lab.status()["dataplane"]["state"] == "down"
        # the process is watched: nobody waits for its heartbeat to be old
        event = next(e for e in lab.events() if e["seq"] > before and e["kind"] == "dataplane_state")
        assert (event["to"], "has ended" in event["cause"]) == ("down", True), event
        load.report()
        lab.start_dataplane()
        report = load.wait_probes(20)
        assert lab.lbctl("status", check=False).returncode == 0
        # Every held connection makes at least one request after it.
        requests = report["n_requests"]
        report = wait_for(lambda: (lambda r: r["n_requests"] > requests + 400 and r)(load.report()), "requests")
        load.stop()
    assert (report["broken"], report["moved"]) == ([], [])
    assert lab.status()["control"]["pid"] == control_pid
    assert flaps(lab, before) == [], "health checks do not pass through the data plane"


def test_killed_dataplane_with_a_dead_server_keeps_connections(lab):
    # Flows that began while api-1 was up and api-3 down must still be found at their backends.
    lab.backends[2].kill_nginx()
    lab.wait_effective("web", api_3="down")
    with lab.load(VIP, 80, "--connections", 100, "--timeout", 30) as load:
        lab.backends[2].start_nginx()
        lab.wait_effective("web", api_3="up")
        sigkill(lab.dataplane)
        lab.start_dataplane()
        load.wait_probes(20)
        requests = load.report()["n_requests"]
        wait_for(lambda: load.report()["n_requests"] > requests + 200, "requests")
        report = load.stop()
    assert (report["broken"], report["moved"]) == ([], [])


def test_daemons_stop_on_sigterm_and_leave_nothing(lab):
    assert lab.stop_daemons() == {"control": 0, "dataplane": 0}
    lab.start_dataplane()
    lab.start_control()
    lab.wait_ready()
    assert lab.traffic("requests", VIP, 80, "--count", 20)["failed"] == []


@pytest.mark.smoke
def test_daemon_heals_after_corruption(lab):
    """Beside a running daemon somebody scribbles over the region: traffic goes on, and it all works in the end."""
    with lab.load(VIP, 80, "--connections", 100, "--probe-timeout", 5) as load:
        with shm.Poke(lab) as poke:
            refused = poke.info()["n_commands_refused"]
            status = poke.command("send " + shm.message(0xdead, b"\xff" * 56, seq=0).hex())
            assert status.get("status", -errno.ENOSYS) == -errno.ENOSYS  # the daemon may have taken the reply
            wait_for(lambda: poke.info()["n_commands_refused"] > refused, "the refusal to be counted")
            for command in ("scribble mirror 1", "scribble tables 2", "scribble reply 3", "scribble command 4",
                            "index command tail 12345678", "index reply head 87654321",
                            "index reply tail 1000", "index command head 99"):
                poke.command(command)
        lab.wait_ready()
        # The daemon can still change things: a drain reaches the data plane.
        wait_for(lambda: lab.lbctl("backend", "drain", "web", "api-1", check=False).returncode == 0, "a drain")
        lab.wait_effective("web", api_1="drain")
        at = load.wait_settled(20, without="api-1")["now"]
        load.wait_probes(20)
        report = load.stop()
    assert (report["broken"], report["moved"]) == ([], [])
    assert [p for p in report["probes"] if p[2] is None] == []
    assert "api-1" not in {p[2] for p in report["probes"] if p[0] > at}


def test_daemon_takes_over_from_a_strange_control_side(lab):
    """A killed daemon, nonsense in its name, a new daemon: the sync puts everything right."""
    sigkill(lab.control)
    with shm.Poke(lab) as poke:
        assert poke.send(shm.SERVICE_SET, shm.service(77, "203.0.113.77", 7)) == 0
        assert poke.send(shm.SYNC_BEGIN) == 0  # and no end
        poke.command("scribble mirror 5")
    lab.start_control()
    lab.wait_ready()
    # The service that nobody asked for is gone (the data plane counts once a second).
    wait_for(lambda: (lambda d: (d["n_services"], d["n_backends"]) == (4, 16))(lab.status()["dataplane"]), "4 services")
    report = lab.traffic("requests", VIP, 80, "--count", 100)
    assert report["failed"] == []
