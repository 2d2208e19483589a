# SPDX-License-Identifier: BSD-3-Clause
"""The manual pages against what the programs say of themselves with --help."""
import re
import subprocess

import pytest

from docs import DOCS
from lbctl_server import BUILD, LBCTL

PROGRAMS = {"lbctl.1": "control/lbctl", "lb-control.8": "control/lb-control", "lb-dataplane.8": "dataplane/lb-dataplane",
            "lb-decap.8": "dataplane/lb-decap"}


def shown(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rendered(page):
    """The page as text, without overstriking, each paragraph on one line."""
    return re.sub(".\b", "", shown("mandoc", "-Tascii", "-Owidth=500", DOCS / page))


def options(text):
    return set(re.findall(r"--[a-z][a-z0-9-]+", text))


def test_there_is_a_page_for_each_program():
    assert {page.name for page in DOCS.glob("*.[1-8]")} == set(PROGRAMS)


def test_the_pages_are_well_formed():
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", *[DOCS / page for page in PROGRAMS]],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("page", [page for page in PROGRAMS if page != "lbctl.1"])
def test_a_daemons_page_and_its_help_have_the_same_options(page):
    usage, text = shown(BUILD / PROGRAMS[page], "--help"), rendered(page)
    assert len(options(usage)) >= 6
    described = set(re.findall(r"^ +(--[a-z-]+)", text[text.index("DESCRIPTION"):], re.M)) | {"--help", "--version"}
    synopsis = options(text[text.index("SYNOPSIS"):text.index("DESCRIPTION")])
    # "--" ends EAL's options; its own, such as --vdev, are not ours to describe.
    assert described == synopsis == options(usage)


def commands():
    """{"service show": what `lbctl service show --help` says}"""
    names = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  ", shown(LBCTL, "--help"), re.M)
    assert len(names) > 25
    return {name: shown(LBCTL, *name.split(), "--help") for name in names}


def arguments(text):
    """({option: its value}, [operands]) of a usage line or the tag of a page: brackets and dots are left out."""
    found = dict(re.findall(r"(--[a-z0-9-]+) ?((?:[A-Z]+)?)", text))
    rest = re.sub(r"--[a-z0-9-]+ ?[A-Z]*(\[=[A-Z]+\])?(,\.\.\.)?", "", text)
    return found, re.findall(r"[A-Z]+|bash|zsh|\bon\b|\boff\b", rest)


def test_lbctls_page_has_each_command_with_its_options_and_operands():
    text = rendered("lbctl.1")
    listed = commands()
    tags = {}
    for line in re.findall(r"^ {5}([a-z].*)$", text[text.index("   State"):text.index("ENVIRONMENT")], re.M):
        tag = re.split("  +", line)[0]  # after a short one the text follows on the line
        name = next((n for n in sorted(listed, key=len, reverse=True) if re.match(rf"{n}(?= |$)", tag)), None)
        if name is not None:
            tags[name] = tag[len(name):]
    assert set(tags) == set(listed)
    for name, usage in listed.items():
        first = re.search(rf"^usage: lbctl {name}(.*)$", usage, re.M).group(1).replace("[OPTION]...", "")
        its_options = {o: v for o, v in re.findall(r"^  (--[a-z0-9-]+) ?([A-Z]*)", usage, re.M)}
        assert arguments(tags[name]) == (its_options, arguments(first)[1]), name


def test_lbctls_page_has_the_options_of_every_command():
    text = rendered("lbctl.1")
    everywhere = options(shown(LBCTL, "--help").split("options of every command:")[1].split("lbctl COMMAND")[0])
    assert everywhere == set(re.findall(r"^     (?:-h, )?(--[a-z]+)", text, re.M))
