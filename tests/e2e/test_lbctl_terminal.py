# SPDX-License-Identifier: BSD-3-Clause
"""lbctl on a terminal, following events, and completing words in real shells."""
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse

import pytest

from docs import config_keys
from netns import wait_for
from lbctl_server import (
    LBCTL, NOW_NS, STATUS, VERSION, YAML, Handler, environment, lbctl, read_until, start_server, stop_server)


@pytest.fixture
def run_dir():
    path = pathlib.Path(tempfile.mkdtemp(prefix="lbctl-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def api(run_dir):
    server = start_server(run_dir, Handler, (200, {}))
    yield server
    stop_server(server)


# Terminals


def on_terminal(run_dir, *args, **env):
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(LBCTL, [str(LBCTL), *args], environment(run_dir, **env))
    data = read_until(fd, None)
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), data.decode().replace("\r\n", "\n")


def test_colour_is_for_terminals_only(api, run_dir):
    api.answer = (200, STATUS)
    plain = lbctl(run_dir, "status").out
    status, coloured = on_terminal(run_dir, "status")
    assert status == 0 and "\033[33mdegraded" in coloured
    assert re.sub(r"\033\[\d+m", "", coloured) == plain and "\033" not in plain


@pytest.mark.parametrize("args,env", [(["status"], {"NO_COLOR": "1"}), (["--json", "status"], {})],
                         ids=["NO_COLOR", "--json"])
def test_no_color_and_json_have_no_colour_on_a_terminal(api, run_dir, args, env):
    api.answer = (200, STATUS)
    status, text = on_terminal(run_dir, *args, **env)
    assert status == 0 and "\033" not in text


def test_hostile_config_is_escaped_on_a_terminal_and_whole_in_a_file(api, run_dir):
    api.answer = (200, b"name: \033[2J\nnext: x\n")
    assert lbctl(run_dir, "config").stdout == b"name: \033[2J\nnext: x\n"
    assert on_terminal(run_dir, "config") == (0, "name: \\x1b[2J\nnext: x\n")


# Following


class Follower:
    """`lbctl ARGS` in the background, with what it prints."""

    def __init__(self, run_dir, *args):
        self.process = subprocess.Popen([LBCTL, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=environment(run_dir))

    def wait_for(self, pattern, err=False):
        return read_until((self.process.stderr if err else self.process.stdout).fileno(), pattern)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self.process.stdout.close()
        self.process.stderr.close()


def event(seq, cause):
    return {"seq": seq, "time_ns": NOW_NS, "kind": "backend_state", "subject": "backend web/a", "from": "up",
            "to": "down", "cause": cause}


class EventLog:
    """/v1/events with `since`, `wait` and `limit` as the daemon has them."""

    def __init__(self, *causes):
        self.events = []
        self.n_lost = 0
        self.changed = threading.Condition()
        self.add(*causes)

    def add(self, *causes):
        with self.changed:
            for cause in causes:
                self.events.append(event(len(self.events) + 1, cause))
            self.changed.notify_all()

    def __call__(self, method, path, body):
        if path == "/v1/version":
            return 200, VERSION
        query = {k: int(v[0]) for k, v in urllib.parse.parse_qs(urllib.parse.urlparse(path).query).items()}
        since, limit = query.get("since", 0), query.get("limit", 1000)
        with self.changed:
            self.changed.wait_for(lambda: len(self.events) > since, min(query.get("wait", 0), 2))
            new = self.events[since:]
            return 200, {"first_seq": 1, "last_seq": len(self.events), "n_lost": self.n_lost,
                         "events": new[:limit] if since else new[-limit:]}


def test_follow_shows_the_newest_then_each_new_event_once(api, run_dir):
    api.answer = log = EventLog(*[f"old {i}" for i in range(20)])
    with Follower(run_dir, "events", "--follow", "--limit", "2") as follower:
        first = follower.wait_for(rb"old 19\n")
        assert b"old 18" in first and b"old 17" not in first
        log.add("new a")
        assert follower.wait_for(rb"new a\n").count(b"\n") == 1
        log.add("new b", "new c")
        assert follower.wait_for(rb"new c\n").count(b"\n") == 2
    assert follower.process.returncode == -signal.SIGINT


def test_follow_with_json_is_one_event_a_line(api, run_dir):
    api.answer = log = EventLog()
    with Follower(run_dir, "--json", "events", "--follow") as follower:
        log.add("x")
        assert json.loads(follower.wait_for(rb"\n")) == event(1, "x")


def test_follow_survives_a_restart_of_the_daemon(run_dir):
    server = start_server(run_dir, Handler, EventLog("before 1", "before 2", "before 3"))
    with Follower(run_dir, "--timeout", "4s", "events", "--follow") as follower:
        follower.wait_for(rb"before 3\n")
        stop_server(server)
        follower.wait_for(rb"waiting for lb-control to come back", err=True)
        server = start_server(run_dir, Handler, EventLog("after 1"))  # numbered from 1 again
        assert b"before" not in follower.wait_for(rb"after 1\n")
        follower.wait_for(rb"lb-control is back", err=True)
    stop_server(server)


def test_follow_tells_of_lost_events(api, run_dir):
    api.answer = log = EventLog("x")
    log.n_lost = 3
    with Follower(run_dir, "events", "--follow") as follower:
        follower.wait_for(rb"x\n")
        log.add("y")
        follower.wait_for(rb"3 older events are not in memory any more", err=True)


def test_follow_without_daemon_exits_3(run_dir):
    assert lbctl(run_dir, "events", "--follow").returncode == 3


def test_a_server_that_never_waits_is_not_asked_in_a_rush(api, run_dir):
    at_s = []

    def answer(*_):
        at_s.append(time.monotonic())
        return 200, {"first_seq": 0, "last_seq": -5, "n_lost": 0, "events": []}
    api.answer = answer
    with Follower(run_dir, "events", "--follow"):
        wait_for(lambda: len(at_s) >= 10, "ten requests")
    # A tenth of a second and more between them; nine in a fraction of this would be a rush.
    assert at_s[9] - at_s[0] > 0.3, at_s


# Completion


def complete(run_dir, *words):
    return lbctl(run_dir, "__complete", *words).out.split()


def name_server(method, path, body):
    if path == "/v1/services":
        return 200, {"services": [{"name": n} for n in ("web", "web-2", "dns", "evil$(reboot)", "-x", "\033[2J", 3)]}
    if path == "/v1/backends?service=web":
        return 200, {"backends": [{"name": n} for n in ("api-1", "10.0.0.1:80", "10.0.0.1:81", "a b")]}
    return 404, {"error": {}}


@pytest.mark.parametrize("words,offered", [
    ([""], ["status", "service", "backend", "apply", "diff", "validate", "config", "stats", "top", "drops", "events", "flows", "trace",
            "simulate", "maintenance", "import", "completion", "version"]),
    (["s"], ["status", "service", "stats", "simulate"]),
    (["service", ""], ["list", "show", "add", "set", "del"]),
    (["--json", "--instance", "default", "service", "s"], ["show", "set"]),
    (["service", "show", ""], ["web", "web-2", "dns"]),
    (["service", "show", "w"], ["web", "web-2"]),
    (["service", "show", "web", ""], []),
    (["backend", "drain", "web", ""], ["api-1", "10.0.0.1:80", "10.0.0.1:81"]),
    (["backend", "drain", "web", "10.0.0.1:8"], ["10.0.0.1:80", "10.0.0.1:81"]),
    (["backend", "drain", "web", "api-1", "--w"], ["--wait"]),
    (["backend", "drain", "--wait", ""], []),
    (["backend", "set", "web", "api-1", "we"], ["weight="]),
    (["service", "set", "web", "min_healthy=1", "health_check.t"], ["health_check.type=", "health_check.timeout="]),
    (["service", "set", "web", "p"], ["port=", "protocol=", "panic_threshold=", "passive.enabled=", "passive.min_flows=",
                                      "passive.refused_percent="]),
    (["service", "add", "new", "203.0.113.1:1/tcp", "p"], ["panic_threshold=", "passive.enabled=", "passive.min_flows=",
                                                            "passive.refused_percent="]),
    (["service", "set", "web", "agent."], ["agent.port=", "agent.interval=", "agent.timeout=", "agent.send="]),
    (["service", "set", "web", "mode="], ["mode=nat", "mode=fullnat", "mode=dsr", "mode=ipip", "mode=gue"]),
    (["service", "set", "web", "health_check.type=h"], ["health_check.type=http", "health_check.type=https"]),
    (["service", "set", "web", "min_healthy="], []),
    (["backend", "set", "web", "api-1", "state="], ["state=enabled", "state=drain", "state=disabled"]),
    (["backend", "set", "web", "api-1", "health_check.ver"], ["health_check.verify="]),
    (["backend", "set", "web", "api-1", "health_check.verify=t"], ["health_check.verify=true"]),
    (["--instance", ""], ["default"]),
    (["--instance=d"], ["--instance=default"]),
    (["--instance", "x"], []),
    (["flows", ""], ["flush", "web", "web-2", "dns"]),
    (["flows", "flush", "d"], ["dns"]),
    (["apply", ""], ["<file>"]),
    (["completion", ""], ["bash", "zsh"]),
    (["top", ""], ["web", "web-2", "dns"]),
    (["maintenance", ""], ["on", "off"]),
    (["import", ""], ["nginx"]),
    (["import", "nginx", ""], ["<file>"]),
    (["no", "such", ""], []),
    (["status", "--js"], ["--json"]),
], ids=repr)
def test_completion_offers_what_may_come_next(api, run_dir, words, offered):
    api.answer = name_server
    assert complete(run_dir, *words) == offered


def documented_settings(*titles):
    return [prefix + key + "=" for title, prefix in titles for key in config_keys(title)
            if key not in ("name", "health_check", "agent", "passive", "backends")]


HEALTH = ("`health_check`", "health_check.")


def test_completion_offers_every_setting_of_the_documentation(api, run_dir):
    api.answer = name_server
    settings = documented_settings(("A service", ""), HEALTH, ("`agent`", "agent."), ("`passive`", "passive."))
    assert sorted(complete(run_dir, "service", "set", "web", "")) == sorted(settings)
    assert sorted(complete(run_dir, "service", "add", "new", "203.0.113.1:1/tcp", "")) == sorted(
        set(settings) - {"vip=", "port=", "protocol="})
    assert sorted(complete(run_dir, "backend", "set", "web", "api-1", "")) == sorted(
        documented_settings(("A backend", ""), HEALTH))


def test_completion_without_daemon_is_silent(run_dir):
    done = lbctl(run_dir, "__complete", "service", "show", "")
    assert (done.returncode, done.out, done.err) == (0, "", "")


def bash_completion(run_dir, line):
    script = ('source <("$0" completion bash); COMP_WORDBREAKS=$\' \\t\\n"\\\'><=;|&(:\'; COMP_LINE=$1; '
              'COMP_POINT=${#1}; _lbctl; printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "--norc", "-c", script, LBCTL, line], capture_output=True, text=True,
                          env=environment(run_dir, PATH=f"{LBCTL.parent}:{os.environ['PATH']}"))
    assert done.stderr == "", done
    return done.stdout.split()


def test_bash_completion_gives_the_part_after_a_word_break(api, run_dir):
    api.answer = name_server
    assert bash_completion(run_dir, "lbctl ser") == ["service"]
    assert bash_completion(run_dir, "lbctl backend drain web ") == ["api-1", "10.0.0.1:80", "10.0.0.1:81"]
    assert bash_completion(run_dir, "lbctl backend drain web 10.0.0.1:") == ["80", "81"]
    assert bash_completion(run_dir, "lbctl service set web health_check.ty") == ["health_check.type="]
    assert bash_completion(run_dir, "lbctl service set web scheduler=w") == ["wrr", "wlc"]
    assert bash_completion(run_dir, "lbctl --instance=d") == ["default"]


class Shell:
    """An interactive shell on a terminal."""

    def __init__(self, run_dir, argv, *setup):
        env = dict(environment(run_dir), PATH=f"{LBCTL.parent}:{os.environ['PATH']}", PS1="READY>", HOME=str(run_dir),
                   TERM="dumb")  # without it zsh wraps what it completes in escape sequences
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(run_dir)
            os.execvpe(argv[0], argv, env)
        read_until(self.fd, rb"READY>|[#%] ?")
        for line in setup:
            self.type(line + " ; echo DO''NE\n")
            read_until(self.fd, rb"DONE[^$]*READY>")

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, text):
        return read_until(self.fd, re.escape(text.encode()))

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.fd)
        os.waitpid(self.pid, 0)


SHELLS = {"bash": (["bash", "--norc", "--noprofile", "-i"], "bind 'set enable-bracketed-paste off'",
                   "source <(lbctl completion bash)"),
          "zsh": (["zsh", "-f", "-i"], "PS1='READY>'; unset zle_bracketed_paste; "
                  "autoload -Uz compinit; compinit -D -u", "source <(lbctl completion zsh)")}


@pytest.mark.parametrize("name", SHELLS)
def test_tab_completes_in_an_interactive_shell(api, run_dir, name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    api.answer = name_server
    (run_dir / "a-config.yaml").write_text(YAML)
    argv, *setup = SHELLS[name]
    shell = Shell(run_dir, argv, *setup)
    try:
        # What is typed, and what the shell prints when it completes it: the rest of the word and a blank.
        for typed, rest in [("lbctl vers\t", "ion "), ("lbctl service sh\t", "ow "), ("lbctl service show d\t", "ns "),
                            ("lbctl backend drain web 10.0.0.1:81\t", " "), ("lbctl apply a-con\t", "fig.yaml "),
                            ("lbctl service set web health_check.ty\t", "pe="),
                            ("lbctl service set web scheduler=magl\t", "ev ")]:
            shell.type(typed)
            shell.expect(typed.rstrip("\t") + rest)
            shell.type("\x15")  # kill the line
    finally:
        shell.close()
