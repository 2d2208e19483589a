# SPDX-License-Identifier: BSD-3-Clause
"""What benchmarks that are scripts share; the same options, table and JSON document as bench.h gives to programs."""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tests/e2e"))  # netns.py, lab.py


def _proc_value(path, key):
    for line in Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return None


def _cache_bytes(level):
    done = subprocess.run(["getconf", f"LEVEL{level}_CACHE_SIZE"], capture_output=True, text=True, check=False)
    return int(done.stdout.strip() or 0) if done.returncode == 0 else 0


def machine():
    return {"cpu": _proc_value("/proc/cpuinfo", "model name"), "n_cpus": os.cpu_count(),
            "l2_bytes": _cache_bytes(2), "l3_bytes": _cache_bytes(3),
            "memory": _proc_value("/proc/meminfo", "MemTotal"),
            "hugepages": _proc_value("/proc/meminfo", "HugePages_Total"),
            "arch": platform.machine(), "kernel": platform.release()}


def commit():
    done = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty", "--abbrev=12"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def read_results(path):
    """{name: result} of a document. SystemExit with the reason if it is none."""
    try:
        return {result["name"]: result for result in json.loads(Path(path).read_text())["results"]}
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        sys.exit(f"{path}: not a document of results")


def is_noisy(low, median):
    """As bench.c: something else had a part in most of the runs."""
    return 0 < low and median > 1.2 * low


def compare(old, new, out=sys.stdout):
    """Print new/old of what both lists hold."""
    print(f"\n{'new/old':<76} {'unit':>16} {'min':>8} {'median':>8}", file=out)
    n_common = 0
    for name, result in new.items():
        if name not in old or old[name]["unit"] != result["unit"]:
            continue
        ratios = [f"{result[key] / old[name][key]:.3f}" if old[name][key] else "-" for key in ("min", "median")]
        noisy = "  noisy" if is_noisy(result["min"], result["median"]) or is_noisy(old[name]["min"], old[name]["median"]) else ""
        print(f"{name:<76} {result['unit']:>16} {ratios[0]:>8} {ratios[1]:>8}{noisy}", file=out)
        n_common += 1
    if n_common == 0:
        print("no result has the same name in both", file=out)


class Bench:
    """Options and results of one run. To end with sys.exit(bench.finish())."""

    def __init__(self, description, add_arguments=lambda parser: None):
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--json", metavar="FILE", help="write the results to FILE")
        parser.add_argument("--compare", metavar="OLD.json", help="print ratios new/old at the end")
        parser.add_argument("--quick", action="store_true", help="end within 45 s on two cores")
        parser.add_argument("--only", metavar="TEXT", help="run what has TEXT in its name; TEXT$: ends in it")
        add_arguments(parser)
        self.args = parser.parse_args()
        self.old = read_results(self.args.compare) if self.args.compare else None
        self.results = []
        print(f"{'name':<76} {'unit':>16} {'min':>12} {'median':>12} {'max':>12} {'runs':>5}", flush=True)

    def wanted(self, name):
        only = self.args.only or ""
        return name.endswith(only[:-1]) if only.endswith("$") else only in name

    def result(self, name, unit, samples, **extra):
        """Report a result: one value per run. extra: more keys of its JSON object."""
        values = min(samples), statistics.median(samples), max(samples)
        print(f"{name:<76} {unit:>16} " + " ".join(f"{value:>12.4g}" for value in values) + f" {len(samples):>5}" +
              ("  noisy" if is_noisy(values[0], values[1]) else ""),
              flush=True)
        self.results.append({"name": name, "unit": unit, "min": values[0], "median": values[1], "max": values[2],
                             "runs": len(samples), **extra})

    def finish(self):
        """Write and compare. @return exit status: 0; 1 if nothing was measured or the file cannot be written."""
        if not self.results:
            print("nothing was measured" + (": --only fits no result" if self.args.only else ""), file=sys.stderr)
            return 1
        if self.old is not None:
            compare(self.old, {result["name"]: result for result in self.results})
        if not self.args.json:
            return 0
        document = {"machine": machine(), "commit": commit(),
                    "date": datetime.now(timezone.utc).strftime("%FT%TZ"), "results": self.results}
        try:
            Path(self.args.json).write_text(json.dumps(document, indent=2) + "\n")
        except OSError as error:
            print(f"{self.args.json}: cannot write the results: {error.strerror}", file=sys.stderr)
            return 1
        return 0


def monotonic_ms():
    return time.monotonic_ns() / 1e6


def run_main(main):
    """sys.exit(main()); what a benchmark waited for in vain is said without a stack of calls."""
    if os.geteuid():
        sys.exit(f"{sys.argv[0]}: needs root (hugepages, real-time priority, network namespaces): run it with sudo")
    try:
        sys.exit(main())
    except (AssertionError, RuntimeError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
