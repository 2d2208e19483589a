# SPDX-License-Identifier: BSD-3-Clause
"""What keeps a daemon from starting is an error that says what, and the program ends in order."""
import os
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("FULCRUM_BUILD", Path(__file__).resolve().parent.parent.parent / "build"))


def test_port_that_does_not_start(tmp_path):
    vdev = f"net_memif0,role=client,socket-abstract=no,socket={tmp_path}/nobody-listens"
    name = f"fcstart-{os.getpid()}"
    done = subprocess.run([BUILD / "dataplane/lb-dataplane", "--lcores", "0@0,1@0", "--no-pci", "--no-huge", "-m", "256",
                           "--file-prefix", name, "--vdev", vdev, "--", "--instance", name, "--workers", "1", "--flows", "2000"],
                          env={**os.environ, "FULCRUM_RUN_DIR": str(tmp_path), "FULCRUM_SHM_DIR": str(tmp_path)},
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done
    assert "cannot start net_memif0" in done.stderr


@pytest.mark.parametrize("args, message", [
    ([], "lb-control: --config FILE is missing"),
    (["fulcrum.yaml"], 'lb-control: unexpected argument "fulcrum.yaml": is --config in front of it missing?'),
    (["--config", "f.yaml", "x"], 'lb-control: unexpected argument "x"'),
    (["--config", "f.yaml", "--lisen", "9180"], "unrecognized option '--lisen'"),
    (["--config", "f.yaml", "--instance", "a/b"], 'lb-control: instance name "a/b"'),
    (["--config", "f.yaml", *["--allow-host", "a.example"] * 33], "lb-control: more than 32 --allow-host")], ids=str)
def test_wrong_arguments_of_lb_control_are_named(args, message):
    done = subprocess.run([BUILD / "control/lb-control", *args], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert message in lines[0] and lines[1:] == ["lb-control --help shows how it is used"], done
