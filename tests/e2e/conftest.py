# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures: a lab with real servers, checked for clean ends; a failing test prints the lab's state."""
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import configs  # noqa: E402
from lab import Lab  # noqa: E402


def pytest_configure(config):
    # In the background of a shell that is not interactive SIGINT is ignored, and so it would be in all that tests start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "smoke: the pass that is also run under the sanitizers")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and call.when in ("setup", "call"):
        for lab in {id(v): v for v in getattr(item, "funcargs", {}).values() if isinstance(v, Lab)}.values():
            report.sections.append(("lab", lab.describe()))


def finish(lab):
    """What every test of a lab asserts at its end: the daemons stop on SIGTERM, and no sanitizer spoke."""
    ended = [p.name for p in (lab.control, lab.dataplane) if p and not p.alive()]
    statuses = lab.stop_daemons()
    assert not lab.sanitizer_reports(), "\n".join(lab.sanitizer_reports())
    assert not ended, f"ended before their time: {ended}\n{lab.describe()}"
    assert set(statuses.values()) <= {0}, f"{statuses}\n{lab.describe()}"


def web_lab():
    """Four NGINX servers behind web (IPv4) and web6 (IPv6), UDP echo behind dns and dns6."""
    with Lab() as lab:
        for backend in lab.backends:
            backend.start_nginx()
            backend.start_udp_echo()
        lab.start_all(configs.config(*[make(lab, family) for make in (configs.web, configs.dns)
                                       for family in (4, 6)]))
        yield lab
        finish(lab)


@pytest.fixture
def lab():
    """A lab of the test's own, which it may break."""
    yield from web_lab()


@pytest.fixture(scope="module")
def shared_lab():
    """A lab shared by the tests of a file: they leave it as it was."""
    yield from web_lab()


@pytest.fixture
def bare_lab():
    """A lab in which nothing runs yet."""
    with Lab() as lab:
        yield lab
        finish(lab)
