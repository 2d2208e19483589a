# SPDX-License-Identifier: BSD-3-Clause
"""What docs/ says, as the tests compare it with what is there."""
import pathlib
import re

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


def config_keys(title):
    """The keys of the table below the heading @title of docs/config.md: ["name", "vip", ...]."""
    text = (DOCS / "config.md").read_text()
    section = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text, re.M | re.S).group(1)
    keys = re.findall(r"^\| `([a-z_.]+)` \|", section, re.M)
    assert keys, title
    return keys
