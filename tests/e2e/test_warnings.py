# SPDX-License-Identifier: BSD-3-Clause
"""What the config wants and the host does not have, though nothing was refused: status, apply and diff say it."""
import json
import os
import signal

import pytest

from configs import SECRET, config, web
from lab import Lab, sigkill, wait_for
from conftest import finish


@pytest.fixture(scope="module")
def small_lab():
    with Lab(n_backends=1) as lab:
        lab.backends[0].start_nginx()
        lab.start_all(config(web(lab, 4)))
        yield lab
        finish(lab)


def warnings(lab, *command):
    return [(w["where"], w["message"]) for w in lab.lbctl_json(*(command or ("status",)))["warnings"]]


def test_an_interface_that_is_not_there(small_lab):
    lab = small_lab
    assert warnings(lab) == []
    lab.write_config(config(web(lab, 4), ports=[{"port": 0, "interfaces": [{"name": "nosuch0", "vlan": 7}]}]))
    for command in ("diff", "apply"):
        done = lab.lbctl(command, lab.config_file)
        assert "lbctl: ports: warning: port 0 names interface nosuch0, which is not there" in done.stderr
        assert (command == "apply") == bool(warnings(lab))
    assert "warning" in lab.lbctl("status").stdout and "nosuch0" in lab.lbctl("status").stdout
    lab.write_config(config(web(lab, 4)))
    assert "warning" not in lab.lbctl("apply", lab.config_file).stderr
    assert warnings(lab) == []


def forwarding_warnings(lab):
    return [message for where, message in warnings(lab) if where == "forwarding"]


def test_a_kernel_that_forwards(small_lab):
    """What the services' families are, and nothing of a family without service; told when it begins and ends."""
    lab = small_lab
    told = "the kernel forwards {} packets that it receives on {}, those of services too: connections fail".format

    def states(interface):
        return [(e["from"], e["to"]) for e in lab.events(kind="kernel_forwards", subject=f"interface {interface}")]

    lab.lb.run("sysctl", "-w", "net.ipv6.conf.all.forwarding=1")
    lab.lb.run("sysctl", "-w", "net.ipv4.ip_forward=1")
    wait_for(lambda: forwarding_warnings(lab) == [told("IPv4", "vethc, vethb")], lambda: lab.lbctl("status").stdout)
    assert states("vethc") == states("vethb") == [("ok", "ipv4")]
    assert "WARN forwarding: interface vethc: the kernel forwards IPv4 packets" in lab.control.log.read_text()
    out = lab.lbctl("status").stdout
    assert "those of services too" in out and "net/ipv4/conf/INTERFACE/forwarding=0" in out
    lab.write_config(config(web(lab, 4), web(lab, 6)))
    assert "forwarding: warning: the kernel forwards IPv4" in lab.lbctl("apply", lab.config_file).stderr
    wait_for(lambda: forwarding_warnings(lab) == [told(f, "vethc, vethb") for f in ("IPv4", "IPv6")],
             lambda: lab.lbctl("status").stdout)
    lab.lb.run("sysctl", "-w", "net/ipv4/conf/vethc/forwarding=0")
    wait_for(lambda: forwarding_warnings(lab) == [told("IPv4", "vethb"), told("IPv6", "vethc, vethb")],
             lambda: lab.lbctl("status").stdout)
    lab.lb.run("sysctl", "-w", "net.ipv6.conf.all.forwarding=0")
    lab.lb.run("sysctl", "-w", "net.ipv4.ip_forward=0")
    wait_for(lambda: warnings(lab) == [], lambda: lab.lbctl("status").stdout)
    for interface in ("vethc", "vethb"):
        seen = states(interface)
        assert (seen[0], seen[-1][1]) == (("ok", "ipv4"), "ok")
        assert all(before[1] == after[0] for before, after in zip(seen, seen[1:])), "no change was left out"
        assert f"INFO forwarding: interface {interface}: the kernel forwards no " in lab.control.log.read_text()
    lab.write_config(config(web(lab, 4)))
    lab.lbctl("apply", lab.config_file)


def test_another_secret_than_the_data_plane_has(small_lab):
    lab = small_lab
    lab.config_file.write_text("# another secret\nhash_secret: " + "f0" * 16 +
                               "\nservices: " + json.dumps([web(lab, 4)]) + "\n")
    for command in ("diff", "apply"):  # while the daemon runs it is refused, and where it stands is told
        done = lab.lbctl(command, lab.config_file, check=False)
        assert done.returncode == 1
        assert f"{lab.config_file}:2: hash_secret: it cannot change while the data plane runs" in done.stderr
    sigkill(lab.control)
    lab.start_control()
    lab.wait_ready()
    message = "the data plane runs with another one than the configuration's, and goes on with that"
    wait_for(lambda: warnings(lab) == [("hash_secret", message)], lambda: lab.lbctl("status").stdout)
    out = lab.lbctl("status").stdout
    assert "restart lb-dataplane" in out and "SECRET_SET hash_secret" in out
    for command in ("diff", "apply"):
        done = lab.lbctl(command, lab.config_file)
        assert f"lbctl: hash_secret: warning: {message}; restart lb-dataplane" in done.stderr
        assert "no change" in done.stdout
    told = [e["cause"] for e in lab.api("/v1/events")["events"] if e["kind"] == "dataplane_refused"]
    assert len(told) == 1 and message in told[0] and "restart lb-dataplane" in told[0]
    # A third one is refused like the second one was.
    third = lab.config_file.with_name("third.yaml")
    third.write_text(lab.config_file.read_text().replace("f0" * 16, "0f" * 16))
    for command in (("diff",), ("apply", "--dry-run"), ("apply",)):
        done = lab.lbctl(*command, third, check=False)
        assert done.returncode == 1
        assert f"{third}:2: hash_secret: it cannot change while the data plane runs" in done.stderr
    # Back to what it has.
    lab.write_config(config(web(lab, 4)))
    lab.lbctl("apply", lab.config_file)
    wait_for(lambda: warnings(lab) == [], lambda: lab.lbctl("status").stdout)
    # Or the data plane takes the new one at its next start.
    lab.write_config({**config(web(lab, 4)), "hash_secret": "f0" * 16})
    assert SECRET != "f0" * 16
    sigkill(lab.control)
    lab.start_control()
    lab.wait_ready()
    wait_for(lambda: warnings(lab) != [], lambda: lab.lbctl("status").stdout)
    sigkill(lab.dataplane)
    lab.start_dataplane()
    lab.wait_ready()
    wait_for(lambda: warnings(lab) == [], lambda: lab.lbctl("status").stdout)


def test_a_secret_too_many_is_taken_out_again():
    """A file without hash_secret gets one, and only lb-control is restarted: without it all is as it was."""
    with Lab(n_backends=1) as lab:
        lab.backends[0].start_nginx()
        without = {"services": [web(lab, 4)]}
        lab.start_all(without)
        for how in ("restart", "reload", "apply"):
            lab.write_config({**without, "hash_secret": SECRET})
            sigkill(lab.control)
            lab.start_control()
            lab.wait_ready()
            wait_for(lambda: warnings(lab) != [], lambda: lab.lbctl("status").stdout)
            lab.write_config(without)
            if how == "restart":
                sigkill(lab.control)
                lab.start_control()
            elif how == "reload":
                os.kill(lab.control.pid, signal.SIGHUP)
            else:
                lab.lbctl("apply", lab.config_file)
            lab.wait_ready()
            wait_for(lambda: warnings(lab) == [], lambda: lab.lbctl("status").stdout)
        sigkill(lab.dataplane)
        lab.start_dataplane()
        lab.wait_ready()
        log = lab.dataplane.log.read_text()
        assert "flows adopted" in log and "another hash secret" not in log
        assert warnings(lab) == []
        finish(lab)
