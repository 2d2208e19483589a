# SPDX-License-Identifier: BSD-3-Clause
"""Wrong configs are refused with file, line and reason, and change nothing; right ones are live at once."""
import json
import re
from pathlib import Path

import pytest

import configs
from lab import VIP

DATA = Path(__file__).resolve().parent.parent / "data/config"
WRONG = sorted((DATA / "wrong").glob("*"))


def running(lab):
    """What must not change: the config, and the tables that the data plane has."""
    return lab.api("/v1/config?format=yaml"), [(s["name"], s["id"], s["table"]) for s in lab.status()["services"]]


def expected(path):
    """(line or None, text) of the first line of a wrong config: '# line 4: an alias'."""
    match = re.match(rb"# line (\d+|\?): (.*)", path.read_bytes())
    return (match[1].decode(), match[2].decode()) if match else (None, "")


def test_the_table_of_wrong_configs_is_there():
    assert len(WRONG) >= 40


@pytest.mark.parametrize("path", WRONG, ids=[path.stem for path in WRONG])
def test_wrong_config_is_refused(shared_lab, path):
    before = running(shared_lab)
    done = shared_lab.lbctl("apply", path, check=False)
    assert done.returncode == 1
    line, text = expected(path)
    assert f"{path}:{line}: " in done.stderr if line and line != "?" else str(path) in done.stderr, done.stderr
    assert text in done.stderr
    assert running(shared_lab) == before


def test_traffic_goes_on_after_all_of_them(shared_lab):
    report = shared_lab.traffic("requests", VIP, 80, "--count", 100)
    assert report["failed"] == []


def test_a_file_that_is_not_there(shared_lab):
    before = running(shared_lab)
    done = shared_lab.lbctl("apply", "/nonexistent/fulcrum.yaml", check=False)
    assert (done.returncode, "/nonexistent/fulcrum.yaml" in done.stderr) == (1, True)
    assert running(shared_lab) == before


def test_daemon_does_not_start_with_a_wrong_config(bare_lab):
    path = next(p for p in WRONG if "weight" in p.name)
    done = bare_lab.lb.run(bare_lab.build / "control/lb-control", "--instance", bare_lab.id, "--config", path,
                           check=False, timeout=60)
    assert done.returncode != 0
    assert f"{path}:{expected(path)[0]}: " in done.stderr


def test_diff_and_dry_run_change_nothing(shared_lab):
    lab = shared_lab
    config = json.loads(lab.config_file.read_text())
    config["services"][0]["backends"][0]["weight"] = 9
    other = lab.dir / "other.yaml"
    other.write_text(json.dumps(config))
    before = running(lab)
    for arguments in (["diff", other], ["apply", other, "--dry-run"]):
        done = lab.lbctl(*arguments, check=False)
        assert "weight 5 -> 9" in done.stdout, done
    assert running(lab) == before


@pytest.mark.smoke
def test_apply_replaces_everything_without_breaking_connections(lab):
    with lab.load(VIP, 80, "--connections", 100) as load:
        web = configs.web(lab, 4)
        web["backends"][0]["weight"] = 1
        lab.apply(configs.config(web))
        assert [s["name"] for s in lab.status()["services"]] == ["web"]
        assert lab.backend_list("web")["api-1"]["weight"] == 1
        load.wait_probes(20)
        report = load.stop()
    assert (report["broken"], report["moved"]) == ([], [])
    assert [p for p in report["probes"] if p[2] is None] == []


def test_running_config_can_be_applied_again(shared_lab):
    saved = shared_lab.dir / "saved.yaml"
    saved.write_text(shared_lab.lbctl("config").stdout)
    before = running(shared_lab)
    shared_lab.lbctl("apply", saved)
    assert running(shared_lab)[0] == before[0]
