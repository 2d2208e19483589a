# SPDX-License-Identifier: BSD-3-Clause
"""What keeps lb-dataplane from starting is an error, and the program ends in order."""
import os
import subprocess
from pathlib import Path

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
