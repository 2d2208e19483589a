# SPDX-License-Identifier: BSD-3-Clause
"""What the systemd units promise: the data plane with root's few capabilities, the daemon as a user of its own."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import configs
from conftest import finish
from lab import VIP, Lab, run, sigkill

TOP = Path(__file__).resolve().parent.parent.parent
UNITS = TOP / "scripts"
BUILD = os.environ.get("FULCRUM_BUILD", TOP / "build")
USER_ID, GROUP_ID = 61999, 61998  # of "fulcrum", in the test's own /etc/group


def capabilities(unit):
    """{"cap_net_admin", ...} of a unit's CapabilityBoundingSet."""
    text = (UNITS / unit).read_text()
    return {name.lower() for name in re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)[1].split()}


def caps_list(names, sign):
    return ",".join(f"{sign}{name.removeprefix('cap_')}" for name in sorted(names))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.parametrize("unit", ["fulcrum-dataplane@.service", "fulcrum-control@.service"])
def test_unit_is_valid(tmp_path, unit):
    for name in ("fulcrum-dataplane@.service", "fulcrum-control@.service"):
        # The programs need not be installed for this.
        text = re.sub(r"^ExecStart=/usr/local/sbin/\S+", "ExecStart=/bin/true", (UNITS / name).read_text(),
                      flags=re.MULTILINE)
        (tmp_path / name.replace("@", "@x")).write_text(text)
    done = run("systemd-analyze", "verify", "--man=no", str(tmp_path / unit.replace("@", "@x")), check=False)
    complaints = [line for line in done.stderr.splitlines() if unit.split("@")[0] in line]
    assert (done.returncode, complaints) == (0, [])


def test_daemons_work_with_the_units_privileges():
    with Lab() as lab:
        for backend in lab.backends:
            backend.start_nginx()
        group = lab.dir / "group"
        group.write_text(Path("/etc/group").read_text() + f"fulcrum:x:{GROUP_ID}:\n")
        with_group = ["unshare", "--mount", "sh", "-ec", f'mount --bind {group} /etc/group; exec "$@"', "sh"]
        dataplane, control = (capabilities(f"fulcrum-{name}@.service") for name in ("dataplane", "control"))
        run_dir = lab.dir / "run" / lab.id
        run_dir.mkdir(parents=True)
        shutil.chown(run_dir, USER_ID, GROUP_ID)
        run_dir.chmod(0o750)
        lab.wrapper = {
            "dataplane": with_group + ["setpriv", f"--regid={GROUP_ID}", "--clear-groups", "--no-new-privs",
                                       f"--bounding-set=-all,{caps_list(dataplane, '+')}"],
            "control": with_group + ["setpriv", f"--reuid={USER_ID}", f"--regid={GROUP_ID}", "--clear-groups",
                                     "--no-new-privs", f"--bounding-set=-all,{caps_list(control, '+')}",
                                     f"--inh-caps={caps_list(control, '+')}",
                                     f"--ambient-caps={caps_list(control, '+')}"]}
        lab.start_all(configs.config(configs.web(lab, 4), configs.web(lab, 6)))
        assert lab.traffic("requests", VIP, 80, "--count", 50)["failed"] == []
        lab.lbctl("backend", "set", "web", "api-1", "weight=1")
        status = Path(f"/proc/{lab.control.pid}/status").read_text()
        assert re.search(rf"^Uid:\t{USER_ID}\t{USER_ID}", status, re.MULTILINE)
        sigkill(lab.control)  # the saved state and the region are readable to the next one too
        lab.start_control()
        lab.wait_ready()
        assert lab.backend_list("web")["api-1"]["weight"] == 1
        finish(lab)


def host_setup(destdir, *args):
    return subprocess.run([TOP / "scripts/host-setup", *args], env={**os.environ, "DESTDIR": destdir, "FULCRUM_BUILD": BUILD},
                          capture_output=True, text=True, timeout=60, check=False)


def files(destdir):
    return {f"/{path.relative_to(destdir)}" for path in destdir.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("args, message", [
    (["install", "--frob"], 'install: unknown option "--frob"'),
    (["install", "edge", "-x"], 'install: unknown option "-x"'),
    (["install", "edge", "core"], 'install: unexpected argument "core"'),
    *((["install", name], f'install: NAME "{name}" is no instance name: 1 to 32 of a-z, 0-9, _ and -')
      for name in ("a/b", "..", "Edge", "a b", "\u00e9dge", "edge\n", "a" * 33)),
    (["uninstall", "edge"], 'uninstall: unexpected argument "edge"'), (["uninstall", "--all"], 'unknown option "--all"'),
    (["bind", "--frob"], 'bind: unknown option "--frob"'), (["unbind", "--force"], 'unbind: unknown option "--force"'),
    (["hugepages", "many"], 'hugepages: N "many"'), (["nics", "-v"], 'nics: unknown option "-v"'),
    (["instal"], 'unknown command "instal"')], ids=str)
def test_host_setup_names_wrong_arguments_and_changes_nothing(tmp_path, args, message):
    done = host_setup(tmp_path, *args)
    assert (done.returncode, done.stdout, files(tmp_path)) == (2, "", set())
    assert message in done.stderr and "host-setup --help shows how it is used" in done.stderr, done


@pytest.mark.parametrize("args", [["--help"], ["install", "--help"], ["install", "edge", "-h"], ["bind", "-h", "--frob"]], ids=str)
def test_host_setup_shows_its_usage(tmp_path, args):
    done = host_setup(tmp_path, *args)
    assert (done.returncode, done.stderr, files(tmp_path)) == (0, "", set())
    assert done.stdout.startswith("usage: scripts/host-setup hugepages N") and "FULCRUM_BUILD=DIR" in done.stdout.splitlines()[-1]


def test_links_of_the_installed_documents_lead_somewhere(tmp_path):
    assert host_setup(tmp_path, "install").returncode == 0
    doc = tmp_path / "usr/local/share/doc/fulcrum"
    documents = list(doc.rglob("*.md"))
    assert {path.name for path in documents} == {"README.md", *(path.name for path in (TOP / "docs").glob("*.md"))}
    dead = set()
    for document in documents:
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text()):
            if not (document.parent / link).exists():
                dead.add(os.path.relpath(document.parent / link, doc))
    # but for those into the source
    assert {link for link in dead if link.split("/")[0] not in ("dataplane", "lb", "control")} <= {"scripts/pktgen"}
    assert (tmp_path / "usr/local/share/man/man8/lb-decap.8").exists() and (tmp_path / "usr/local/sbin/lb-decap").exists()


def test_host_setup_installs_and_uninstalls(tmp_path):
    yaml, env = tmp_path / "etc/fulcrum/edge.yaml", tmp_path / "etc/fulcrum/edge.env"
    done = host_setup(tmp_path, "install", "edge")
    assert done.returncode == 0, done
    installed = files(tmp_path)
    lbctl = tmp_path / "usr/local/bin/lbctl"
    assert run(str(lbctl), "validate", str(yaml)).returncode == 0
    for unit in ("fulcrum-dataplane@.service", "fulcrum-control@.service"):
        text = (tmp_path / "etc/systemd/system" / unit).read_text()
        for name in re.findall(r"^(?:ExecStart=|Documentation=file:)(/\S+)", text, re.MULTILINE):
            assert name in installed, "what the units name is there"
    yaml.write_text("services: []\n")
    assert host_setup(tmp_path, "install", "edge").returncode == 0
    assert yaml.read_text() == "services: []\n", "a config is never replaced"
    # what is in use stays
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "fulcrum-control@edge.service").symlink_to("/etc/systemd/system/fulcrum-control@.service")
    done = host_setup(tmp_path, "uninstall")
    assert (done.returncode, installed - files(tmp_path)) == (1, set())
    assert "systemctl disable --now fulcrum-control@edge.service" in done.stderr
    (wants / "fulcrum-control@edge.service").unlink()
    foreign = tmp_path / "usr/local/sbin/other"
    foreign.write_text("")
    done = host_setup(tmp_path, "uninstall")
    assert (done.returncode, done.stderr) == (0, "") and "Kept: /etc/fulcrum" in done.stdout
    assert files(tmp_path) == {f"/{path.relative_to(tmp_path)}" for path in (yaml, env, foreign)}
    assert not (tmp_path / "usr/local/share/doc/fulcrum").exists()
