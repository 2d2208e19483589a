# SPDX-License-Identifier: BSD-3-Clause
"""What the systemd units promise: the data plane with root's few capabilities, the daemon as a user of its own."""
import re
import shutil
from pathlib import Path

import pytest

import configs
from conftest import finish
from lab import VIP, Lab, run, sigkill

UNITS = Path(__file__).resolve().parent.parent.parent / "scripts"
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
