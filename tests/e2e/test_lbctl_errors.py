# SPDX-License-Identifier: BSD-3-Clause
"""Each command of lbctl where it fails: 2 wrong usage, 1 refused, 3 no daemon, 4 no data plane, with a reason on standard
error that says what to do next; and where it is run oddly: closed output, no terminal, a tiny one, words of any bytes."""
import fcntl
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios

import pytest

from schemas import validate
from lbctl_server import (
    COMMANDS, LBCTL, STATS, STATUS, Handler, environment, harmless, lbctl, read_until, start_server, stop_server,
    with_file)

# More of those that ask the daemon, beside COMMANDS.
ASKING = [c[0] for c in COMMANDS] + [["maintenance"], ["maintenance", "on"], ["events", "--follow"], ["stats", "--watch"],
                                     ["backend", "drain", "web", "api-1", "--wait", "1s"]]
ALONE = {"simulate": ["FILE"], "validate": ["FILE"], "import nginx": ["FILE"], "completion": ["bash"], "version": []}


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


def names(run_dir):
    return set(re.findall(r"^  ([a-z]+(?: [a-z]+)?)  ", lbctl(run_dir, "--help").out, re.M))


def failed(done, status):
    """@done has failed as it should: the lines of its message."""
    assert done.returncode == status, done
    assert done.out == "" and harmless(done.err), done
    lines = done.err.splitlines()
    assert lines[0].startswith("lbctl: ") and all(line.startswith("  hint: ") for line in lines[1:]), done
    return lines


def test_no_command_is_forgotten_here(run_dir):
    listed = names(run_dir)
    asking = {" ".join(args[:n]) for args in ASKING for n in (1, 2)} & listed
    assert asking | set(ALONE) | {"top"} == listed


@pytest.mark.parametrize("args", ASKING, ids=" ".join)
def test_each_command_without_a_daemon_exits_3_and_says_how_to_start_it(run_dir, args):
    lines = failed(lbctl(run_dir, *with_file(args, run_dir)[0]), 3)
    assert "control.sock: lb-control: cannot connect" in lines[0]
    assert lines[1].startswith("  hint: start it: lb-control --instance default --config FILE")


@pytest.mark.parametrize("args", ASKING, ids=" ".join)
def test_each_command_that_is_refused_exits_1_with_place_and_reason(api, run_dir, args):
    api.answer = (400, {"error": {"code": "invalid", "message": "weight: 300 is not in 0..256", "where": "here:1"}})
    assert failed(lbctl(run_dir, *with_file(args, run_dir)[0]), 1)[0] == "lbctl: here:1: weight: 300 is not in 0..256"


@pytest.mark.parametrize("args", ASKING, ids=" ".join)
def test_each_command_that_needs_a_data_plane_exits_4_and_says_what_to_do(api, run_dir, args):
    api.answer = (503, {"error": {"code": "dataplane_down", "message": "the data plane is down", "where": None}})
    lines = failed(lbctl(run_dir, *with_file(args, run_dir)[0]), 4)
    assert "the data plane is down" in lines[0] and "start lb-dataplane" in lines[1]


def test_each_command_has_usage_errors_that_point_to_its_help(api, run_dir):
    for name in names(run_dir):
        lines = failed(lbctl(run_dir, *name.split(), "--no-such-option"), 2)
        assert lines == [f"lbctl: {name}: unknown option '--no-such-option'",
                         f"  hint: lbctl {name} --help shows how it is used"]
        usage = re.search(r"^usage: lbctl (.*)$", lbctl(run_dir, *name.split(), "--help").out, re.M).group(1)
        operands = re.sub(r"\[[^\]]*\]\S*|\.\.\.", "", usage).split()[len(name.split()):]
        for n in range(len(operands)):  # one too few, two too few ...
            lines = failed(lbctl(run_dir, *name.split(), *["x=1"] * n), 2)
            assert lines[0] == f"lbctl: {name}: too few arguments" and lines[1].startswith(f"  hint: usage: lbctl {name}")
        if "..." not in usage:
            assert "one argument too many" in failed(lbctl(run_dir, *name.split(), *["x"] * 9), 2)[0]
    assert api.requests == []


@pytest.mark.parametrize("typed,meant", [
    (["statuss"], "status"), (["stauts"], "status"), (["sttas"], "stats"), (["backned", "list"], "backend"), (["service", "lst"], "list"), (["flows", "flsh"], None),
    (["backend", "drian", "a"], "drain"), (["status", "--jsno"], "--json"), (["stats", "--wacth"], "--watch"),
    (["backend", "add", "a", "b:1", "--wieght=3"], "--weight"), (["frobnicate"], None), (["service", "frob"], None),
    (["status", "--xyz"], None), (["x" * 5000], None), (["status", "--" + "x" * 5000], None)], ids=lambda v: str(v)[:30])
def test_a_slip_of_the_finger_is_told_what_was_meant(api, run_dir, typed, meant):
    api.answer = (404, {})
    done = lbctl(run_dir, *typed)
    assert re.findall(r"did you mean (.*)\?$", done.err, re.M) == ([meant] if meant else [])


@pytest.mark.parametrize("http_status,where,message,hint", [
    (404, None, 'no service "x"', "lbctl service list"), (404, None, 'no backend "y" in service web', "lbctl backend list"),
    (404, None, "no such path", "lbctl version"), (409, "name", 'the name "x" is taken by service x', "lbctl service list"),
    (409, "name", 'the name "y" is taken by backend y of service x', "lbctl backend list"),
    (409, "announce", "nothing is announced", "announce: {table: N}"), (500, None, "disk full", "lb-control's log"),
    (502, None, "BACKEND_SET: no space", "lbctl status"), (504, None, "no answer", "lbctl status")])
def test_refusals_say_what_to_do_next(api, run_dir, http_status, where, message, hint):
    api.answer = (http_status, {"error": {"code": "x", "message": message, "where": where}})
    done = lbctl(run_dir, "service", "set", "x", "a=1")
    assert hint in done.err.splitlines()[1], done.err


def test_a_refused_name_is_not_a_matter_of_versions(api, run_dir):
    api.answer = (404, {"error": {"code": "not_found", "where": None, "message": "10.2.0.11 is an address of api.example.com: "
                                  "change backend api of service byname, which is all of its addresses"}})
    done = lbctl(run_dir, "backend", "drain", "byname", "api/10.2.0.11")
    assert "10.2.0.11 is an address of" in done.err and "version" not in done.err


WORDS = ["", " ", "-", "--", "=", "a=", "\n", "\033[2J\033]0;x\a", "\xff".encode("latin-1"), "münchen", "\u202e",
         "9" * 400, "-9" * 30, "x" * 100000, "%s%n", "../..", "a/b?c#d", "0x10", "1e9", "\U0001f600"]


def test_words_of_any_kind_are_refused_or_sent_whole(api, run_dir):
    """Every operand and every option's value of every command; nothing crashes, no byte reaches the terminal raw."""
    for args in [c[0] for c in COMMANDS] + list(map(lambda n: n[0].split() + n[1], ALONE.items())):
        options = re.findall(r"^  (--[a-z0-9-]+) [A-Z]", lbctl(run_dir, *args[:2 if " ".join(args[:2]) in names(run_dir) else 1],
                                                               "--help").out, re.M)
        word = WORDS[len(" ".join(args)) % len(WORDS)]  # each command with some of them, all of them with some command
        for i in range(1, len(args) + len(options)):
            word = WORDS[(WORDS.index(word) + 1) % len(WORDS)]
            line = args[:i] + [word] + args[i + 1:] if i < len(args) else args + [options[i - len(args)], word]
            if b"\0" in (word if isinstance(word, bytes) else word.encode()):
                continue
            done = lbctl(run_dir, *with_file(line, run_dir)[0])
            assert done.returncode in (0, 1, 2), (line, done)
            assert harmless(done.err) and harmless(done.out), (line, done)


# Output and terminals


@pytest.mark.parametrize("args", [["status"], ["stats", "--watch", "--interval", "100ms"]], ids=" ".join)
def test_a_reader_that_goes_away_ends_it(api, run_dir, args):
    api.answer = (200, STATUS if args == ["status"] else STATS)
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.Popen([LBCTL, *args], stdout=write_end, stderr=subprocess.PIPE, env=environment(run_dir),
                               restore_signals=True)
    os.close(write_end)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGPIPE and err == b""


def test_a_reader_that_goes_away_where_the_signal_is_ignored_is_an_error(api, run_dir):
    api.answer = (200, STATS)
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.Popen([LBCTL, "stats", "--watch", "--interval", "100ms"], stdout=write_end, stderr=subprocess.PIPE,
                               env=environment(run_dir), restore_signals=False,
                               preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN))
    os.close(write_end)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1 and b"standard output: cannot write: Broken pipe" in err


def test_closed_output_is_an_error(api, run_dir):
    api.answer = (200, STATUS)
    done = subprocess.run(f'"{LBCTL}" status >&-', shell=True, capture_output=True, env=environment(run_dir))
    assert done.returncode == 1 and b"standard output: cannot write: Bad file descriptor" in done.stderr


def test_closed_input_is_no_matter_unless_it_is_read(api, run_dir):
    api.answer = (200, STATUS)
    assert subprocess.run(f'"{LBCTL}" status <&-', shell=True, capture_output=True, env=environment(run_dir)).returncode == 0
    done = subprocess.run(f'"{LBCTL}" apply - <&-', shell=True, capture_output=True, env=environment(run_dir))
    assert done.returncode == 1 and b"lbctl: -: cannot read: Bad file descriptor" in done.stderr


def on_terminal(run_dir, *args, rows=24, columns=80, **env):
    fd, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen([LBCTL, *args], stdin=end, stdout=end, stderr=end, env=environment(run_dir, **env))
    os.close(end)
    data = read_until(fd, None)
    os.close(fd)
    return process.wait(20), data.decode().replace("\r\n", "\n")


def test_a_dumb_terminal_gets_plain_text(api, run_dir):
    api.answer = (200, STATUS)
    assert on_terminal(run_dir, "status", TERM="dumb") == (0, lbctl(run_dir, "status").out)
    api.answer = (200, STATS)
    status, text = on_terminal(run_dir, "stats", "--watch", "--interval", "100ms", "--count", "2", TERM="dumb")
    assert status == 0 and "\033" not in text and text.count("rates over") == 2
    status, text = on_terminal(run_dir, "top", TERM="dumb")
    assert status == 2 and "needs a terminal" in text and "\033" not in text


@pytest.mark.parametrize("rows,columns", [(0, 0), (1, 1), (5, 20)])
def test_a_tiny_terminal_gets_all_of_it(api, run_dir, rows, columns):
    api.answer = (200, STATUS)
    status, text = on_terminal(run_dir, "status", rows=rows, columns=columns)
    assert status == 0 and re.sub(r"\033\[\d+m", "", text) == lbctl(run_dir, "status").out


def test_top_without_a_daemon_exits_3(run_dir):
    status, text = on_terminal(run_dir, "top")
    assert status == 3 and "start it: lb-control" in text and "\033[?1049h" not in text


def documents(done):
    """Each line on standard error, as it is with --json."""
    lines = [json.loads(line) for line in done.err.splitlines()]
    for line in lines:
        validate("lbctl_error", line)
    return lines


def test_errors_are_documents_with_json(api, run_dir):
    api.answer = (409, {"error": {"code": "conflict", "message": "taken", "where": None}})
    done = lbctl(run_dir, "--json", "service", "del", "web")
    assert (done.returncode, done.out) == (1, "")
    assert documents(done) == [{"error": {"where": "service del", "message": "taken", "hint": None, "exit_status": 1}}]
    for args in (["nonsense", "--json"], ["--json", "service", "show"], ["--json", "status", "--nope"],
                 ["--instance", "/", "--json", "status"]):
        done = lbctl(run_dir, *args)
        assert (done.returncode, done.out) == (2, "") and documents(done)[0]["error"]["exit_status"] == 2
    done = lbctl(run_dir / "none", "--json", "status")
    assert (done.returncode, done.out) == (3, "") and "start it: lb-control" in documents(done)[0]["error"]["hint"]
    # of what comes from elsewhere nothing is lost, and nothing breaks the document
    api.answer = (400, {"error": {"code": "invalid", "message": "a\n\"b\" \x1b[2J \u202e", "where": "x\ty"}})
    assert documents(lbctl(run_dir, "--json", "status"))[0]["error"]["message"] == "a\n\"b\" \x1b[2J \u202e"
    (run_dir / "\udcff").mkdir()
    assert documents(lbctl(run_dir, "--json", "diff", "\udcff"))[0]["error"]["exit_status"] == 1
    # notes are beside the command's own document
    api.answer = (200, dict(STATS, dataplane="syncing"))
    done = lbctl(run_dir, "--json", "stats")
    assert json.loads(done.out)["dataplane"] == "syncing"
    assert [list(line) for line in documents(done)] == [["note"]]
    assert lbctl(run_dir, "diff", "--", "--json").err.startswith("lbctl: ")  # a file's name
    api.answer = (200, json.dumps(STATUS).encode())
    assert json.loads(lbctl(run_dir, "--json", "status").stdout) == STATUS
