# SPDX-License-Identifier: BSD-3-Clause
"""lbctl top on a terminal of ours: frames are what stands between the escape sequences "home" and "clear to the end"."""
import copy
import fcntl
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import tempfile
import termios
import time

import pytest

from lbctl_server import LBCTL, S, STATS, Handler, environment, lbctl, start_server, stop_server

QUIET = {"in_pkts": 0, "in_bytes": 0, "out_pkts": 0, "out_bytes": 0, "new_flows": 0, "active_flows": 0, "resets": 0}


class Daemon:
    """/v1/stats of two services; each answer is a second later. dns grows by 1000 packets a second, web by 10."""

    def __init__(self):
        self.n = 0
        self.fails = False

    def __call__(self, method, path, body):
        if self.fails:
            return 500, {"error": {"message": "no", "where": ""}}
        self.n += 1
        stats = copy.deepcopy(STATS)
        stats["timestamp_ns"] += self.n * S
        web = stats["services"][0]
        dns = copy.deepcopy(web)
        dns["name"] = "dns"
        stats["services"].append(dns)
        for service, pps in ((web, 10), (dns, 1000)):
            service["counters"] = dict(QUIET, in_pkts=self.n * pps)
            for i, backend in enumerate(service["backends"]):
                backend["counters"] = dict(QUIET, in_pkts=self.n * pps // 2, active_flows=7 - i)
        return 200, stats


class Top:
    def __init__(self, run_dir, *args, rows=24, columns=100):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(LBCTL, [str(LBCTL), "top", "--interval", "100ms", *args], environment(run_dir))
        self.resize(rows, columns)
        self.data = b""
        self.status = None

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self.fd, keys)

    def wait(self, wanted, seconds=30):
        """The lines of a frame of which @wanted(lines) is true."""
        end, seen = time.monotonic() + seconds, 0
        while True:
            frames = self.data.split(b"\033[H")[1:]
            for frame in frames[seen:]:
                if b"\033[J" not in frame:
                    break
                seen += 1
                text = re.sub(r"\033\[[0-9;?]*[A-Za-z]", lambda m: "*" if m[0] == "\033[7m" else "",
                              frame.split(b"\033[J")[0].decode())
                lines = text.split("\r\n")
                if wanted(lines):
                    self.data = b""
                    return lines
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            assert ready, f"not seen, last: {self.data[-3000:]!r}"
            self.data += os.read(self.fd, 65536)

    def end(self):
        """Read up to the end; the exit status or -signal, and what came last."""
        rest = b""
        while True:
            try:
                more = os.read(self.fd, 65536)
            except OSError:
                break
            if not more:
                break
            rest += more
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return self.status, rest


@pytest.fixture
def run_dir():
    path = pathlib.Path(tempfile.mkdtemp(prefix="lbctl-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def api(run_dir):
    server = start_server(run_dir, Handler, Daemon())
    yield server
    stop_server(server)


@pytest.fixture
def top(api, run_dir):
    top = Top(run_dir)
    yield top
    if top.status is None:
        os.kill(top.pid, signal.SIGKILL)
        top.end()


def has(line, *words):
    return re.split(r"\s+", line.strip(" *"))[:len(words)] == list(words)


def order(lines):
    """Names of services in the table, from above."""
    return [line.strip("* ").split()[0] for line in lines[4:] if " all" in line]


def test_rates_and_states_of_all_services_and_backends(top):
    lines = top.wait(lambda lines: "1.00k" in "".join(lines))
    assert has(lines[3], "SERVICE", "BACKEND", "STATE", "IN")
    web = next(i for i, line in enumerate(lines) if has(line, "web", "all"))
    assert re.search(r"\b10\b", lines[web]) and has(lines[web + 1], "api-1", "up", "5")
    assert has(lines[web + 2], "api-2", "down") and lines[web + 2].rstrip().endswith("6")


def test_keys_sort_select_and_hide(top):
    top.wait(lambda lines: order(lines) == ["dns", "web"] and "*" in lines[4])  # by name
    top.type(b"r")
    top.wait(lambda lines: order(lines) == ["web", "dns"])
    top.type(b"rs")
    lines = top.wait(lambda lines: "sorted by in pkt/s " in lines[2] and order(lines) == ["dns", "web"])
    assert has(lines[4], "dns", "all") and lines[4].startswith("*")
    top.type(b"\r")
    lines = top.wait(lambda lines: "all (hidden)" in lines[4])
    assert "1/2 up" in lines[4]  # what is in trouble shows with its backends hidden too
    assert has(lines[5], "web", "all") and len(lines) == 8
    top.type(b"\033[B\033[B")
    lines = top.wait(lambda lines: lines[6].startswith("*"))
    assert has(lines[6], "api-1")
    top.type(b"t")
    lines = top.wait(lambda lines: "only trouble" in lines[2])
    assert [has(line, "api-2", "down") for line in lines[4:]].count(True) == 2 and "api-1" not in "".join(lines)


def test_pause_keeps_the_screen_and_asks_no_more(top, api):
    top.wait(lambda lines: len(lines) > 8)
    top.type(b"p")
    top.wait(lambda lines: "PAUSED" in lines[0])
    n = len(api.requests)
    time.sleep(0.4)
    assert len(api.requests) <= n + 1
    top.type(b"p")
    top.wait(lambda lines: "PAUSED" not in lines[0])


def test_screen_is_as_large_as_the_terminal(top):
    top.wait(lambda lines: len(lines) > 8)
    top.resize(7, 40)
    lines = top.wait(lambda lines: len(lines) == 7)
    assert max(len(line.strip("*")) for line in lines) <= 40, lines
    top.type(b"G")
    assert top.wait(lambda lines: lines[-1].startswith("*"))


def test_daemon_that_goes_away_and_comes_back(top, api):
    top.wait(lambda lines: len(lines) > 8)
    api.answer.fails = True
    lines = top.wait(lambda lines: "does not answer" in lines[0])
    assert any(has(line, "web", "all") for line in lines)
    api.answer.fails = False
    top.wait(lambda lines: "does not answer" not in lines[0])


@pytest.mark.parametrize("end", [b"q", b"\003", signal.SIGTERM], ids=["q", "^C", "SIGTERM"])
def test_terminal_is_put_back(top, end):
    top.wait(lambda lines: len(lines) > 8)
    if isinstance(end, bytes):
        top.type(end)
    else:
        os.kill(top.pid, end)
    status, rest = top.end()
    assert status == 0 and rest.endswith(b"\033[?25h\033[?1049l")


def test_without_a_terminal_or_daemon_it_says_so(api, run_dir):
    done = lbctl(run_dir, "top")
    assert done.returncode == 2 and "needs a terminal" in done.err and "stats --watch" in done.err
    status, rest = Top(run_dir, "--instance", "other").end()
    assert status == 3 and b"\033[?1049h" not in rest


def test_one_service_alone(api, run_dir):
    top = Top(run_dir, "web")
    lines = top.wait(lambda lines: len(lines) > 5)
    assert order(lines) == ["web"]
    top.type(b"q")
    assert top.end()[0] == 0
