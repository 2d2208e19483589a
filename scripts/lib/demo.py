# SPDX-License-Identifier: BSD-3-Clause
"""The tour that scripts/demo gives; the set-up is the tests' own (tests/e2e/lab.py, nginx.conf.in)."""
import json
import shlex
import signal
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tests/e2e"))

from lab import CLIENT, VIP, Lab, remove_leftover, wait_for  # noqa: E402

PREFIX = "fcdemo"
MARK = "kept-by"  # a file in the directory of a demo that --keep left up: which clone's it is
WEIGHTS = {"api-1": 5, "api-2": 3, "api-3": 2}
INTERVAL_MS, TIMEOUT_MS, FALL = 500, 400, 2

INTRODUCTION = f"""\
Fulcrum: a client, a balancer and four NGINX servers, each in a network namespace of its own.

   client                 lb                                    servers
   {CLIENT}  ───  lb-dataplane (DPDK) + lb-control  ───  api-1  weight 5    nginx :8080
                          VIP {VIP}:80                  api-2  weight 3      location /api/ ->
                                                                api-3  weight 2      application
                                                                api-4  backup
"""

CONFIG = f"""\
services:
  - name: web
    vip: {VIP}
    port: 80
    protocol: tcp
    mode: nat
    health_check:
      type: http
      path: /healthz
      interval: {INTERVAL_MS}ms
      timeout: {TIMEOUT_MS}ms
      rise: 2
      fall: {FALL}
    backends:
      - {{name: api-1, address: 10.2.0.11, port: 8080, weight: 5}}
      - {{name: api-2, address: 10.2.0.12, port: 8080, weight: 3}}
      - {{name: api-3, address: 10.2.0.13, port: 8080, weight: 2}}
      - {{name: api-4, address: 10.2.0.14, port: 8080, backup: true}}
"""


def step(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def say(text=""):
    print("   " + text.replace("\n", "\n   "), flush=True)


def start(lab):
    step("1. Starting servers, data plane and control daemon")
    for backend in lab.backends:
        backend.start_nginx()
    lab.start_all(CONFIG)
    say(f"config: {lab.config_file}")
    say(f"up: lb-dataplane (pid {lab.dataplane.pid}), lb-control (pid {lab.control.pid}), "
        f"{len(lab.backends)} servers healthy")


def show_distribution(lab):
    n = 3000
    step(f"2. {n} HTTP requests over {n} connections to http://{VIP}/api/")
    report = lab.traffic("requests", VIP, 80, "--count", n, "--concurrency", 100, "--path", "/api/demo")
    total = sum(report["backends"].values())
    say("server   weight   configured   measured")
    for backend in lab.backends:
        weight = WEIGHTS.get(backend.name)
        share = (weight or 0) / sum(WEIGHTS.values())
        measured = report["backends"].get(backend.name, 0) / max(total, 1)
        say(f"{backend.name:<9}{weight or 'backup':>6}{share:>12.1%}{measured:>11.1%}   {'#' * round(40 * measured)}")
    say(f"{total} answered, {len(report['failed'])} failed. Each connection's server follows from a hash of its addresses "
        "and ports:\nthe shares are those of a fair draw, to about 1 %.")
    return bool(total) and not report["failed"]


def show_client_address(lab):
    step("3. Whom does the application see?")
    done = lab.get(f"http://{VIP}/api/whoami")
    say(f"$ curl http://{VIP}/api/whoami       (from {CLIENT})")
    say(done.stdout.strip())
    seen = json.loads(done.stdout)["x_real_ip"]
    say(f"NGINX sets X-Real-IP from the connection: {seen} is the client's own address, through an L4 balancer."
        if seen == CLIENT else f"X-Real-IP is {seen}, but the client is {CLIENT}!")
    return seen == CLIENT


def show_failover(lab):
    victim = lab.backends[1]
    step(f"4. Killing {victim.name} (nginx, pid {victim.nginx.pid}) under load")
    with lab.load(VIP, 80, "--connections", 200, "--probe-interval", 0.02) as load:
        held = load.first["open"]
        say(f"200 connections are open ({', '.join(f'{name}: {n}' for name, n in sorted(held.items()))}), "
            "and 50 new ones a second come")
        load.wait_probes(25)
        victim.kill_nginx()
        killed_at = time.monotonic()
        lab.wait_effective("web", **{victim.name: "down"})
        load.wait_probes(50)
        wait_for(lambda: len(load.report()["broken"]) >= held[victim.name], "the dead connections to be noticed")
        report = load.stop()
    lost = [p for p in report["probes"] if p[0] > killed_at and p[2] is None]
    others = [b for b in report["broken"] if b["backend"] != victim.name]
    n_after = len([p for p in report["probes"] if p[0] > killed_at])
    promise_s = (INTERVAL_MS * FALL + TIMEOUT_MS) / 1000
    say(f"failover time          {max((p[1] for p in lost), default=killed_at) - killed_at:.2f} s until the last new "
        f"connection failed (interval x fall + timeout = {promise_s:.1f} s)")
    say(f"requests lost          {len(lost)} of {n_after} on new connections, "
        f"{len(report['broken'])} on the open ones of {victim.name}")
    say(f"other servers          {sum(n for name, n in held.items() if name != victim.name)} open connections, "
        f"{len(others)} broken, {len(report['moved'])} moved")
    for event in lab.events(kind="backend_state", subject=f"backend web/{victim.name}")[-1:]:
        say(f"lbctl events           {event['subject']}: {event['from']} -> {event['to']} ({event['cause']})")
    return not others and not report["moved"]


def show_recovery(lab):
    victim = lab.backends[1]
    step(f"5. Starting {victim.name} again")
    victim.start_nginx()
    lab.wait_effective("web", **{victim.name: "up"})
    report = lab.traffic("requests", VIP, 80, "--count", 300)
    say(f"it is back: {report['backends'].get(victim.name, 0)} of 300 new connections, {len(report['failed'])} failed")
    say()
    say("$ lbctl status")
    say(lab.lbctl("status").stdout.rstrip())
    return not report["failed"]


def show_what_to_try(lab):
    lbctl = f"{lab.build}/control/lbctl --instance {lab.id}"
    step("It stays up. To drive it:")
    say(f"""\
export FULCRUM_RUN_DIR={lab.env['FULCRUM_RUN_DIR']}
alias lbctl='{lbctl}'
lbctl status
lbctl backend list web
lbctl backend drain web api-1
lbctl backend enable web api-1
lbctl trace {CLIENT}:40000 {VIP}:80/tcp""")
    say()
    say(f"as the client:  ip netns exec {lab.client.name} curl http://{VIP}/api/whoami")
    say(f"""\
a killed daemon comes back, in the balancer's namespace, with:
    {shlex.join(map(str, lab.control.command))}
and a killed data plane with:
    {shlex.join(map(str, lab.dataplane.command))}""")
    say("to remove it:   scripts/demo --down")


def kept_demos():
    """{id: clone that left it up; None: unknown, or it is running} of all on this host."""
    demos = {}
    for path in Path("/run/netns").glob(f"{PREFIX}-*-client"):
        lab_id = path.name.rsplit("-", 1)[0]
        marks = list(Path("/tmp").glob(f"{lab_id}-*/{MARK}"))
        demos[lab_id] = marks[0].read_text() if marks else None
    return demos


def down(names):
    """Remove the demos of these names; without any, those that this clone left up. @return exit status."""
    demos = kept_demos()
    unknown = [name for name in names if name not in demos]
    for name in unknown:
        print(f"no demo {name}", file=sys.stderr)
    chosen = [i for i, clone in demos.items() if (i in names if names else clone == str(TOP))]
    for lab_id in chosen:
        remove_leftover(lab_id)
    print(f"removed {len(chosen)} demo{'s' * (len(chosen) != 1)}")
    for lab_id in sorted(set(demos) - set(chosen)):
        print(f"left alone: {lab_id} ({demos[lab_id] or 'not left by --keep'}); "
              f"to remove it: scripts/demo --down {lab_id}")
    return 1 if unknown else 0


def main():
    if "--down" in sys.argv:
        return down(sys.argv[sys.argv.index("--down") + 1:])
    keep, done = "--keep" in sys.argv, False
    print(INTRODUCTION)
    lab = Lab(detached=keep, prefix=PREFIX)
    try:
        start(lab)
        ok = [part(lab) for part in (show_distribution, show_client_address, show_failover, show_recovery)]
        done = all(ok)
        if keep:
            (lab.dir / MARK).write_text(str(TOP))
            show_what_to_try(lab)
    except (AssertionError, RuntimeError) as error:
        print(f"\nThe demo failed: {error}\n\n{lab.describe()}", file=sys.stderr)
    finally:
        if not (keep and done):
            step("Cleaning up")
            lab.close()
            say("namespaces, processes, hugepages and files are gone")
    return 0 if done else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it cleans up
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
