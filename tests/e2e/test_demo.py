# SPDX-License-Identifier: BSD-3-Clause
"""The demo tells the truth, and neither it nor a lab of the tests leaves anything behind."""
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from lab import Lab, run, wait_for

TOP = Path(__file__).resolve().parent.parent.parent
DEMO = TOP / "scripts/demo"


def traces(lab_id):
    """Whatever bears a lab's name: namespaces, files, processes."""
    found = [path for pattern in ("run/netns/*", "dev/hugepages/*", "dev/shm/*", "run/dpdk/*", "tmp/*")
             for path in Path("/").glob(pattern) if lab_id in path.name]
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if lab_id.encode() in cmdline.read_bytes():
                found.append(cmdline)
        except OSError:
            pass
    return found


def wait_no_traces(lab_id):
    """Killed processes of a group end one after the other."""
    wait_for(lambda: traces(lab_id) == [], lambda: f"nothing to be left: {traces(lab_id)}")


def test_tour():
    done = run(str(DEMO), timeout=180)
    shares = dict(re.findall(r"(api-\d) +\S+ +[\d.]+% +([\d.]+)%", done.stdout))
    assert shares.keys() == {"api-1", "api-2", "api-3", "api-4"}
    for name, wanted in (("api-1", 50), ("api-2", 30), ("api-3", 20), ("api-4", 0)):
        assert abs(float(shares[name]) - wanted) < 4, shares
    assert '"x_real_ip": "198.51.100.10"' in done.stdout
    assert re.search(r"other servers +\d+ open connections, 0 broken, 0 moved", done.stdout)
    config = re.search(r"config: /tmp/(fcdemo-\d+-\d+)-", done.stdout)
    wait_no_traces(config[1])


def test_keep_and_down():
    out = run(str(DEMO), "--keep", timeout=180).stdout
    lab_id = re.search(r"--instance (fcdemo-\d+-\d+)'", out)[1]
    try:
        assert traces(lab_id)
        run_dir = re.search(r"export FULCRUM_RUN_DIR=(\S+)", out)[1]
        program, instance = re.search(r"alias lbctl='(.*) (--instance \S+)'", out).groups()
        commands = re.findall(r"^ +lbctl (.*)$", out[out.index("It stays up"):], re.MULTILINE)
        assert len(commands) == 5
        for command in commands:
            run(program, *instance.split(), *command.split(), env={**os.environ, "FULCRUM_RUN_DIR": run_dir})
        curl = re.search(r"as the client: +(.*)", out)[1]
        assert "198.51.100.10" in run(*curl.split()).stdout
        # Another clone's, and one that is not kept but runs, are left alone.
        with Lab(n_backends=0, prefix="fcdemo") as running, Lab(n_backends=0, prefix="fcdemo") as other:
            (other.dir / "kept-by").write_text("/another/clone")
            out = run(str(DEMO), "--down").stdout
            assert "removed 1 demo\n" in out
            wait_no_traces(lab_id)
            for lab, reason in ((running, "not left by --keep"), (other, "/another/clone")):
                assert f"left alone: {lab.id} ({reason}); to remove it: scripts/demo --down {lab.id}" in out
                assert traces(lab.id)
            assert "removed 1 demo\n" in run(str(DEMO), "--down", other.id).stdout
            assert traces(running.id) and Path(f"/run/netns/{other.id}-client").exists() is False
            assert run(str(DEMO), "--down", "fcdemo-0-0", check=False).returncode == 1
    finally:
        run(str(DEMO), "--down")
    wait_no_traces(lab_id)


def test_interrupted_demo_cleans_up():
    process = subprocess.Popen([DEMO], stdout=subprocess.PIPE, text=True, start_new_session=True)
    lab_id = None
    for line in process.stdout:
        if match := re.search(r"/tmp/(fcdemo-\d+-\d+)-", line):
            lab_id = match[1]
            break
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    assert process.wait(30) == 143
    assert lab_id
    wait_no_traces(lab_id)


@pytest.mark.parametrize("end", ["close", "SIGKILL"])
def test_lab_leaves_nothing(end):
    if end == "close":
        with Lab(n_backends=1) as lab:
            lab.backends[0].start_nginx()
            lab.start_dataplane()
            lab_id = lab.id
    else:
        script = ("from lab import *\nlab = Lab(n_backends=1)\nlab.backends[0].start_nginx()\n"
                  "lab.start_dataplane()\nprint(lab.id, flush=True)\nos.kill(os.getpid(), 9)\n")
        done = run("/usr/bin/python3", "-c", "import os\n" + script, check=False, cwd=Path(__file__).parent)
        lab_id = done.stdout.strip()
        assert lab_id, done
        with Lab(n_backends=0):
            pass  # the next lab removes what a killed one left
    wait_no_traces(lab_id)
