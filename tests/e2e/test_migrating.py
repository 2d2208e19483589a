# SPDX-License-Identifier: BSD-3-Clause
"""docs/migrating.md: its examples are run, and what its tables name exists."""
import re
import shlex
import subprocess

import pytest

from api_daemon import Daemon
from docs import DOCS, config_keys
from lbctl_server import BUILD, LBCTL

TEXT = (DOCS / "migrating.md").read_text()
YAML = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
SHELL = re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S)


def lbctl(daemon, *args, **kwargs):
    return subprocess.run([LBCTL, "--instance", daemon.instance, *args], env=daemon.env, capture_output=True, text=True,
                          timeout=60, **kwargs)


@pytest.fixture(scope="module")
def daemon():
    with Daemon({"services": "none"}) as daemon:
        daemon.start()
        daemon.start_dataplane()
        yield daemon


@pytest.mark.parametrize("text", YAML, ids=lambda t: re.search("name: (.*)", t).group(1))
def test_each_config_is_taken(daemon, text):
    text = re.sub("^hash_secret: .*\n", "", text, flags=re.M)  # that of a running daemon cannot change
    done = lbctl(daemon, "apply", "-", input=text)
    assert done.returncode == 0, done
    lbctl(daemon, "apply", "-", input="services: none\n", check=True)


@pytest.mark.parametrize("text", SHELL)
def test_each_command_is_done(daemon, text):
    for line in text.splitlines():
        program, *args = shlex.split(line)
        done = lbctl(daemon, *args)
        assert program == "lbctl" and done.returncode == 0, (line, done)


def right_columns():
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) == 4 and not set(cells[2]) <= set("- ") and cells[2] != "here":
            yield cells[1], cells[2]


def config_words():
    """Each key of the config, with its group, and without it."""
    words = set()
    for title, group in [("The whole", ""), ("A service", ""), ("A backend", ""), ("`health_check`", "health_check."),
                         ("`agent`", "agent."), ("`passive`", "passive.")]:
        words |= {group + key for key in config_keys(title)}
    return words


def test_what_the_tables_name_exists():
    keys, commands, rows = config_words(), set(), 0
    values = {f"scheduler: {v}" for v in "maglev ring rr wrr lc wlc p2c source".split()}
    values |= {f"mode: {v}" for v in "nat fullnat dsr ipip gue".split()}
    for used, here in right_columns():
        rows += 1
        for code in re.findall("`([^`]*)`", here):
            if code.startswith("lbctl "):
                commands.add(code)
            elif code.startswith("lb-") or code.startswith("--") or code in ("X-LB-Weight", "maglev"):
                continue
            else:
                assert code.split(":")[0] in keys, (used, code)
                assert code in values or code.split(":")[0] not in ("mode", "scheduler"), (used, code)
    assert rows > 120
    for code in commands:
        words = [w for w in code.split()[1:] if w.islower() or w.startswith("--")]
        done = subprocess.run([LBCTL, *[w for w in words if not w.startswith("--")], "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and f"usage: lbctl {' '.join(w for w in words if not w.startswith('--'))}" in done.stdout, code
        assert all(w in done.stdout for w in words if w.startswith("--")), code


def test_options_of_the_daemons_that_it_names_exist():
    for program, folder in (("lb-dataplane", "dataplane"), ("lb-control", "control"), ("lb-decap", "dataplane")):
        usage = subprocess.run([BUILD / folder / program, "--help"], capture_output=True, text=True).stdout
        for option in re.findall(rf"{program} (--[a-z-]+)", TEXT):
            assert option in usage, (program, option)
