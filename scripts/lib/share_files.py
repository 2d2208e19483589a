# SPDX-License-Identifier: BSD-3-Clause
"""A plugin of pytest: several runs side by side share the files of tests, each file is run by who comes to it first.

FULCRUM_SHARE=DIR:INDEX/COUNT   DIR: empty at the beginning, the same for all COUNT runs; this one is INDEX, from 0

Tests of one file stay together and in order, as do the fixtures of their module. Each run begins elsewhere, and
goes round.
"""
import os

import pytest

directory, _, part = os.environ["FULCRUM_SHARE"].rpartition(":")
index, count = map(int, part.split("/"))
ours = {}  # file: whether it is this run's


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    files = list(dict.fromkeys(item.path for item in items))
    first = len(files) * index // count
    turn = {path: i for i, path in enumerate(files[first:] + files[:first])}
    items.sort(key=lambda item: turn[item.path])


def take(path):
    try:
        open(os.path.join(directory, path.name), "x").close()
    except FileExistsError:
        return False
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    if item.path not in ours:
        ours[item.path] = take(item.path)
    return None if ours[item.path] else True  # True: it is dealt with
