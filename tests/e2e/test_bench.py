# SPDX-License-Identifier: BSD-3-Clause
"""Benchmarks write one kind of document and compare with an older one. What they measure is not asserted."""
import json
import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("FULCRUM_BUILD", TOP / "build"))
# one in C (bench.c), one in Python (benchlib.py) that measures nothing
PROGRAM = [BUILD / "tests/bench/bench_tables", "--quick", "--only", "build?backends=1000&slots=65537&weights"]
SCRIPT = ["/usr/bin/python3", "-c",
          "import sys; sys.path.insert(0, sys.argv.pop(1)); import benchlib\n"
          "bench = benchlib.Bench(__doc__)\n"
          "bench.result('tables/none?a=1', 'ms', [3, 1, 2])\n"
          "sys.exit(bench.finish())", TOP / "tests/bench"]


def run(command, *arguments):
    return subprocess.run([*map(str, command), *map(str, arguments)], capture_output=True, text=True, timeout=60,
                          check=False)


@pytest.mark.parametrize("command", [PROGRAM, SCRIPT], ids=["program", "script"])
def test_json_and_compare(command, tmp_path):
    path = tmp_path / "new.json"
    done = run(command, "--json", path)
    assert done.returncode == 0, done.stderr
    document = json.loads(path.read_text())
    assert {"machine", "commit", "date", "results"} <= document.keys()
    assert {"cpu", "n_cpus", "memory", "kernel"} <= document["machine"].keys()
    (result,) = document["results"]
    assert result["unit"] == "ms" and result["runs"] >= 3
    assert 0 < result["min"] <= result["median"] <= result["max"]

    # against itself made ten times as slow, and something the new one does not have
    old = dict(document, results=[dict(result, min=1000, median=2000), dict(result, name="gone")])
    (tmp_path / "old.json").write_text(json.dumps(old))
    done = run(command, "--json", path, "--compare", tmp_path / "old.json")
    assert done.returncode == 0, done.stderr
    now = json.loads(path.read_text())["results"][0]
    lines = done.stdout.split("new/old")[1].splitlines()[1:]
    assert [line.split()[0] for line in lines] == [result["name"]]
    assert [float(word) for word in lines[0].split()[2:]] == pytest.approx(
        [now["min"] / 1000, now["median"] / 2000], abs=0.001)


@pytest.mark.parametrize("command", [PROGRAM, SCRIPT], ids=["program", "script"])
def test_bad_old_document_is_refused(command, tmp_path):
    path = tmp_path / "old.json"
    for text in (None, "{", "[]", '{"results": 7}'):
        if text is not None:
            path.write_text(text)
        done = run(command, "--compare", path)
        assert done.returncode == 1 and str(path) in done.stderr, (text, done)
