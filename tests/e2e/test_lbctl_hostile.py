# SPDX-License-Identifier: BSD-3-Clause
"""lbctl against answers that nobody should send: it ends with an error or shows what there is, and nothing of it
reaches the terminal unescaped."""
import json
import pathlib
import random
import shutil
import tempfile
import threading

import pytest

from lbctl_server import (
    COMMANDS, SHOWN, STATUS, Handler, RawHandler, harmless, lbctl, start_server, stop_server, with_file)


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


def endless_headers(s):
    s.sendall(b"HTTP/1.1 200 OK\r\n")
    for i in range(20000):
        s.sendall(b"X-%d: %s\r\n" % (i, b"x" * 1000))


RAW = {
    "nothing": (b"", 3),
    "no http": (b"SSH-2.0-OpenSSH_9.2\r\n", 1),
    "http 0.9": (b"{}", 1),
    "cut body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", 1),
    "no body": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1),
    "bad chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 1),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", 1),
    "negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[]", 1),
    "status 999": (b"HTTP/1.1 999 X\r\nContent-Length: 2\r\n\r\n{}", 1),
    "escape in status": (b"HTTP/1.1 500 \033[2J\r\nContent-Length: 2\r\n\r\n{}", 1),
    "error is a number": (b"HTTP/1.1 503 X\r\nContent-Length: 13\r\n\r\n{\"error\": 13}", 4),
    "endless headers": (endless_headers, 1),
}


@pytest.mark.smoke
@pytest.mark.parametrize("name", RAW)
def test_answers_that_are_no_http_are_refused(run_dir, name):
    answer, status = RAW[name]
    server = start_server(run_dir, RawHandler, answer)
    try:
        done = lbctl(run_dir, "--timeout", "10s", "status")
    finally:
        stop_server(server)
    assert done.returncode == status, done
    assert done.err.startswith("lbctl: ") and harmless(done.err) and done.out == ""


BAD_JSON = {
    "text": b"hello", "array": b"[1, 2]", "number": b"1", "null": b"null", "cut": b'{"services": [',
    "trailing": b'{} {}', "deep": b'{"a":' + b"[" * 200000, "huge integer": b'{"pid": 1' + b"0" * 400 + b"}",
    "huge real": b'{"pid": 1e999}', "bad utf-8": b'{"x": "\xff\xfe"}', "nul": b'{"x": "\\u0000"}',
    "raw nul": b'{"x": "\0"}', "surrogate": b'{"x": "\\ud800"}', "nan": b'{"x": NaN}',
    "escape": b'{"\x1b[2J": 1', "control": b'{"x": "\x1b[2J"}',
}


@pytest.mark.smoke
@pytest.mark.parametrize("name", BAD_JSON)
def test_answers_that_are_no_json_object_are_refused(api, run_dir, name):
    api.answer = (200, BAD_JSON[name])
    done = lbctl(run_dir, "status")
    assert done.returncode == 1
    assert "the answer is no JSON object" in done.err and harmless(done.err) and done.out == ""


def test_a_server_that_says_nothing_is_given_up(run_dir):
    stop = threading.Event()
    server = start_server(run_dir, RawHandler, lambda s: stop.wait(20))
    try:
        done = lbctl(run_dir, "--timeout", "200ms", "status")
    finally:
        stop.set()
        stop_server(server)
    assert done.returncode == 3 and "no answer within 200 ms" in done.err


def test_unknown_and_repeated_keys_do_no_harm(api, run_dir):
    api.answer = (200, b'{"services": 1, "services": [], "new": {"\\u001b[2J": "\\u001b[2J"}}')
    done = lbctl(run_dir, "service", "list")
    assert done.returncode == 0 and done.out.startswith("no services")


def test_hostile_keys_of_settings_are_escaped(api, run_dir):
    api.answer = (200, dict(SHOWN, config={"\033[2J": "\033[2J", "a": {"b\n": {"c": {"d": {"e": {"f": 1}}}}}}))
    done = lbctl(run_dir, "service", "show", "web")
    assert done.returncode == 0 and harmless(done.out) and "\\x1b[2J=\\x1b[2J" in done.out


EVIL = "\033[2J\033]0;x\a\r\n\t\u009b31m\u202ex"
BAD_VALUES = [None, True, -1, 0, 2**63 - 1, -2**63, 1e308, -1e308, 5e-324, "", EVIL, "%s%n%d", "y" * 5000, [],
              [[[1]]], {}, {"a": {"a": {"a": {"a": {"a": {}}}}}}]


def places(value, path=()):
    """Paths of every value below @value, parents first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield path + (key,)
        yield from places(child, path + (key,))


def parent_of(doc, path):
    for key in path[:-1]:
        doc = doc[key]
    return doc


def mutants(answer, seed):
    """Answers with one bad value for every leaf, then with bad values here and there, then with keys gone."""
    rng = random.Random(seed)
    paths = list(places(answer))
    leaves = [p for p in paths if not isinstance(parent_of(answer, p)[p[-1]], (dict, list))]

    def mutant(chosen, value=None, remove=False):
        doc = json.loads(json.dumps(answer))  # not deepcopy: parts of answers are shared
        for path in sorted(chosen, key=len, reverse=True):
            parent = parent_of(doc, path)
            if remove and isinstance(parent, dict):
                del parent[path[-1]]
            elif not remove:
                parent[path[-1]] = value if value in BAD_VALUES else rng.choice(BAD_VALUES)
        return doc

    for value in BAD_VALUES:
        yield mutant(leaves, value)
    for _ in range(8):
        yield mutant(rng.sample(paths, min(len(paths), 6)), value=mutant)
    for _ in range(3):
        yield mutant(rng.sample(paths, len(paths) // 4), remove=True)


SHOWING = [c for c in COMMANDS if c[0][0] not in ("config", "apply") and c[0][:2] not in (
    ["service", "set"], ["service", "del"], ["backend", "set"], ["backend", "del"], ["backend", "enable"],
    ["backend", "disable"], ["backend", "add"], ["backend", "drain"]) and c[0] != ["backend", "list", "web"]]


@pytest.mark.parametrize("args,method,path,answer", SHOWING, ids=["-".join(c[0]) for c in SHOWING])
def test_wrong_types_and_hostile_texts_neither_crash_nor_reach_the_terminal(api, run_dir, args, method, path, answer):
    args, _ = with_file(args, run_dir)
    for doc in mutants(answer, seed=path):
        api.answer = (200, doc)
        done = lbctl(run_dir, *args)
        assert done.returncode in (0, 1, 4), (done, doc)
        assert harmless(done.out) and harmless(done.err), (done, doc)


def test_json_of_hostile_texts_is_ascii_and_whole(api, run_dir):
    api.answer = (200, {"dataplane": {"state": "up"}, EVIL: [EVIL]})
    done = lbctl(run_dir, "--json", "status")
    assert harmless(done.out) and done.out.isascii()
    assert json.loads(done.out) == {"dataplane": {"state": "up"}, EVIL: [EVIL]}


def test_hostile_errors_are_escaped(api, run_dir):
    evil = EVIL + "\nlbctl: fine"
    api.answer = (400, {"error": {"code": evil, "message": evil, "where": evil}})
    done = lbctl(run_dir, "service", "del", evil)
    assert done.returncode == 1 and harmless(done.err) and len(done.err.splitlines()) == 1


def test_large_answers_are_shown(api, run_dir):
    services = [dict(STATUS["services"][0], name=f"service-{i}") for i in range(4096)]
    api.answer = (200, {"dataplane": "up", "services": services})
    done = lbctl(run_dir, "service", "list")
    assert done.returncode == 0 and len(done.out.splitlines()) == 4097
