# SPDX-License-Identifier: BSD-3-Clause
"""Benchmarks write one kind of document and compare with an older one. What they measure is not asserted."""
import importlib.machinery
import importlib.util
import json
import os
import re
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
    assert [float(word) for word in lines[0].split()[2:4]] == pytest.approx(
        [now["min"] / 1000, now["median"] / 2000], abs=0.001)
    assert lines[0].endswith("noisy")  # the old median is twice its minimum


@pytest.mark.parametrize("command", [PROGRAM, SCRIPT], ids=["program", "script"])
def test_bad_old_document_is_refused(command, tmp_path):
    path = tmp_path / "old.json"
    for text in (None, "{", "[]", '{"results": 7}'):
        if text is not None:
            path.write_text(text)
        done = run(command, "--compare", path)
        assert done.returncode == 1 and str(path) in done.stderr, (text, done)


# What interface.md promises: a benchmark, a part of its --quick run that is short, names and units that are in it.
PROMISED = {
    "pipeline": ([BUILD / "tests/bench/bench_pipeline", "--quick", "--only", "nat/ipv4/tcp/hit?flows=1000&services=1$"],
                 {"pipeline/nat/ipv4/tcp/hit?flows=1000&services=1": "cycles/packet"}),
    "flowtable": ([BUILD / "tests/bench/bench_flowtable", "--quick", "--only", "?flows=1000000$"],
                  {f"flowtable/{what}?flows=1000000": unit for what, unit in
                   (("lookup", "cycles"), ("rte_hash_lookup", "cycles"), ("insert", "cycles"), ("rte_hash_insert", "cycles"),
                    ("bytes_per_flow", "bytes"))}),
    "tables": ([BUILD / "tests/bench/bench_tables", "--quick", "--only", "backends=1000&slots=65537"],
               {"tables/maglev/build?backends=1000&slots=65537": "ms",
                "tables/maglev/refill?backends=1000&slots=65537&failed=1": "ms"}),
    "sim": ([BUILD / "tests/bench/bench_sim", "--quick", "--only", "ours_quarter", "--", "--rates", "80", "--flows", "1000"],
            {"sim/broken_flows?strategy=ours_quarter&changes_per_minute=80": "flows"}),
    "channel": ([TOP / "tests/bench/channel.py", "--quick", "--flows", "1000", "--only", "channel/pcap/lb?flows=1000$"],
                {"channel/pcap/lb?flows=1000": "Mpps"}),
    "config": ([TOP / "tests/bench/config.py", "--quick", "--services", "20", "--backends", "4"],
               {"config/health_to_workers": "ms", "config/apply?services=20&backends=4": "ms",
                "config/packets_lost?during=health": "packets"}),
    # as on a machine with one CPU
    "idle": (["taskset", "-c", "0", TOP / "tests/bench/idle.py", "--quick", "--only", "idle_sleep_us=50$"],
             {"idle/round_trip?idle_sleep_us=50": "us", "idle/cpu?idle_sleep_us=50": "%"}),
}


def run_at_once(names, directory):
    """What they measure is not looked at. @return {benchmark: what it said}"""
    running = {}
    for name in names:
        command = PROMISED[name][0]
        at = command.index("--quick")
        running[name] = subprocess.Popen([str(w) for w in (*command[:at], "--json", directory / f"{name}.json", *command[at:])],
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    outputs = {name: process.communicate(timeout=150)[0] for name, process in running.items()}
    for name, process in running.items():
        assert process.returncode == 0, f"{name}:\n{outputs[name]}"
    return outputs


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """{benchmark: its document}"""
    directory = tmp_path_factory.mktemp("bench")
    # together they would want more than 2 GB of hugepages
    programs = ("channel", "config", "idle")
    run_at_once(PROMISED.keys() - set(programs), directory)
    assert "only one CPU" in run_at_once(programs, directory)["idle"]
    return {name: json.loads((directory / f"{name}.json").read_text()) for name in PROMISED}


@pytest.mark.parametrize("name", PROMISED)
def test_quick_run_has_the_promised_names(documents, name):
    document = documents[name]
    assert document["commit"] and re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["date"])
    assert document["machine"]["cpu"] and document["machine"]["n_cpus"] >= 1
    found = {result["name"]: result for result in document["results"]}
    for promised, unit in PROMISED[name][1].items():
        result = found[promised]
        assert result["unit"] == unit and result["runs"] >= 1
        assert 0 <= result["min"] <= result["median"] <= result["max"]
    if name == "config":
        assert found["config/packets_lost?during=health"]["sent"] > 0
        # nothing passes without a data plane: losses are seen where there are some
        assert found["config/dataplane_gap?services=20&backends=4"]["min"] > 0


@pytest.mark.parametrize("program, says", [("/nonexistent/pktgen", "PKTGEN=/nonexistent/pktgen: no such program"),
                                           ("broken", "pktgen-lb ended with status 3:\nno such port")])
def test_pktgen_that_does_not_start_is_told(program, says, tmp_path):
    if not program.startswith("/"):
        program = tmp_path / program
        program.write_text("#!/bin/sh\necho no such port\nexit 3\n")
        program.chmod(0o755)
    done = subprocess.run([TOP / "tests/bench/channel.py", "--quick", "--flows", "1000", "--only", "channel/memif/lb?"],
                          env={**os.environ, "PKTGEN": str(program)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and says in done.stderr, done


@pytest.fixture(scope="module")
def report():
    loader = importlib.machinery.SourceFileLoader("bench_report", str(TOP / "scripts/bench-report"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_report", loader))
    loader.exec_module(module)
    return module


def results_of(*rows):
    return {name: {"name": name, "unit": unit, "min": low, "median": middle, "max": high, "runs": 3}
            for name, unit, low, middle, high in rows}


def verdict(report, results, text):
    (row,) = (row for row in report.target_rows(results)[0] if row.startswith(f"| {text} |"))
    return row.split("|")[-2].strip().strip("*")


def test_report_holds_results_against_targets(report):
    flows = "pipeline/nat/ipv4/tcp/hit?flows=1000000&services=1"
    for low, middle, said in ((70, 79, "met"), (70, 81, "best run only"), (81, 90, "missed")):
        assert verdict(report, results_of((flows, "cycles/packet", low, middle, 99)), "the same, 1 million flows") == said
    assert verdict(report, {}, "the same, 1 million flows") == "not measured"
    scaling = "pipeline/nat/ipv4/tcp/scaling?flows=1000000&services=1&workers=2"
    assert verdict(report, results_of((scaling, "times one", 1.7, 1.8, 1.95)),  # the best of such ratios is chance
                   "Two workers to one, 1 million flows") == "missed"
    vhost = "channel/vhost/lb_to_testpmd_macswap?flows=1000000"
    assert verdict(report, results_of((vhost, "ratio", 0.7, 0.8, 0.95)),
                   "Whole program to testpmd macswap, vhost, 1 million flows") == "best run only"
    health = "config/health_to_workers"  # what must hold each time
    assert verdict(report, results_of((health, "ms", 1, 2, 11)),
                   "Health change until every worker uses the new table (slowest, median)") == "missed"
    lost = results_of(("config/packets_lost?during=a", "packets", 0, 0, 0), ("config/packets_lost?during=b", "packets", 1, 1, 1))
    assert verdict(report, lost, "Packets lost by changes") == "missed"


def test_report_puts_several_measurements_together(report, tmp_path):
    name, paths = "pipeline/nat/ipv4/tcp/hit?flows=1000&services=1", []
    for i, (low, middle, high, runs) in enumerate(((50, 60, 70, 1), (40, 80, 90, 3))):
        (row,) = results_of((name, "cycles/packet", low, middle, high)).values()
        paths.append(tmp_path / f"{i}.json")
        paths[-1].write_text(json.dumps({"machine": {"cpu": "x"}, "commit": "c", "date": "d", "results": [{**row, "runs": runs}]}))
    got = report.read(paths)[0][name]
    assert [got[key] for key in ("min", "median", "max", "runs")] == [40, 75, 90, 4]


@pytest.mark.parametrize("costs, said", [
    ((50, 55, 60, 65), "logarithmic or less"), ((50, 50, 50, 100), "cache (L3) at 10 000 000"),
    ((50, 100, 110, 115), "cache (L2) at 100 000"), ((1, 10, 1000, 10000), "more than logarithmic at 100 000")])
def test_report_judges_growth(report, costs, said):
    rows = [(f"pipeline/nat/ipv4/tcp/hit?flows={n}&services=1", "cycles/packet", cost, cost, cost)
            for n, cost in zip((1000, 100000, 1000000, 10000000), costs)]
    lines, worse = report.growth_rows(results_of(*rows), [("L2", 1 << 20), ("L3", 60 << 20)])
    assert said in lines[0] and bool(worse) == ("more than" in said)


def test_report_says_where_huge_pages_are_small_ones_to_the_host(report):
    def said(near, far):
        return "".join(report.describe_pages(results_of(*((name, "cycles/load", cost, cost, cost)
                                                          for name, cost in zip(report.LOADS, (near, far))))))
    assert "11.3 cycles" in said(11.3, 39.5) and "and 39.5" in said(11.3, 39.5)
    assert said(11.3, 12.1) == "" and "".join(report.describe_pages({})) == ""
