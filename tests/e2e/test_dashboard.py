# SPDX-License-Identifier: BSD-3-Clause
"""The dashboard of lb-control --listen in headless Chromium, beside the balancer and four real servers."""
import pytest

import configs
from browser import Browser
from lab import VIP, Lab, wait_for
from lbctl_server import backend

ROWS = """
const rows = {};
for (const row of document.querySelectorAll('.backends tr'))
    if (row.cells[1].querySelector('.pill'))
        rows[row.cells[0].firstChild.textContent] = [row.cells[1].querySelector('.pill').textContent, row.cells[2].textContent];
return rows;
"""


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.control_options = ["--listen", "9180"]
        for backend in lab.backends:
            backend.start_nginx()
        lab.start_all(configs.config(configs.web(lab, 4)))
        yield lab
        lab.stop_daemons()


@pytest.fixture(scope="module")
def page(lab):
    """The dashboard with the one service's backends shown."""
    with Browser(lab, lab.lb) as browser:
        browser.open("http://127.0.0.1:9180/")
        wait_for(lambda: browser.script("return document.querySelectorAll('.service').length") == 1, "the service's line")
        browser.script("document.querySelector('.service > button').click()")
        yield browser
        # nothing was blocked by the page's own policy, nothing failed, but for what a test takes away
        assert [e for e in browser.log() if "ERR_CONNECTION" not in e["message"]] == []


def text(page, selector):
    return page.script("return document.querySelector(arguments[0]).textContent", selector)


# When the page first shows a backend down, in its line and in its list of events: by the clock that events have too.
WATCH = """
window.seen = {};
const look = () => {
    for (const row of document.querySelectorAll('.backends tr')) {
        const pill = row.cells[1].querySelector('.pill');
        if (!seen.line && pill && pill.textContent === 'down' && row.cells[0].firstChild.textContent === arguments[0])
            seen.line = Date.now();
    }
    if (!seen.event && document.querySelector('#events').textContent.includes(`backend web/${arguments[0]} up → down`))
        seen.event = Date.now();
};
new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
"""


def test_a_backend_that_fails_is_shown_with_the_reason(lab, page, capsys):
    wait_for(lambda: page.script(ROWS).get("api-2", [""])[0] == "up", "api-2 up")
    page.script(WATCH, "api-2")
    lab.backends[1].kill_nginx()
    wait_for(lambda: page.script(ROWS)["api-2"] == ["down", "connection refused"], lambda: page.script(ROWS))
    # the service's line is of an answer before that of the backends' lines, or after it
    wait_for(lambda: text(page, ".service .pill") == "degraded", lambda: text(page, ".service .pill"))
    wait_for(lambda: "backend web/api-2 up → down" in text(page, "#events"), lambda: text(page, "#events"))
    # What is shown came after what happened, and the events stand in the order of their numbers, the newest first.
    # How long it took is printed: how busy this machine is decides it, so no bound is asserted.
    event_ms = lab.events(kind="backend_state", subject="backend web/api-2", to="down")[-1]["time_ns"] // 10**6
    seen = page.script("return seen")
    assert seen["line"] >= event_ms and seen["event"] >= event_ms
    with capsys.disabled():
        print(f"\ndashboard: a backend's line shows it down {seen['line'] - event_ms} ms after the event, the list of events "
              f"after {seen['event'] - event_ms} ms")

    def both():  # what the page has, and what the API tells
        in_the_page = page.script("return [...document.querySelector('#events').children].map(e => e.textContent)")
        return [e["subject"] for e in reversed(lab.events())][:len(in_the_page)], in_the_page

    def are_the_same():
        expected, in_the_page = both()
        return len(in_the_page) > 3 and all(s in line for s, line in zip(expected, in_the_page, strict=True))
    wait_for(are_the_same, both)
    # the worst comes first
    assert text(page, ".backends tr:nth-child(2) td").startswith("api-2")
    lab.backends[1].start_nginx()
    wait_for(lambda: page.script(ROWS)["api-2"][0] == "up", lambda: page.script(ROWS))


@pytest.mark.parametrize("values,cells", [
    ({}, ["up", "ok: HTTP 200", "5"]), ({"weight_percent": 28, "tier": 1}, ["up", "ok: HTTP 200", "5 at 28 % (tier 1)"]),
    ({"effective": "drain", "weight_percent": 0, "condition": "draining", "condition_reason": "agent: drain # disk"},
     ["drain", "agent: drain # disk", "5 at 0 %"]),
    ({"condition": "suspect", "condition_reason": "3 of 4 refused"}, ["up", "3 of 4 refused", "5"])], ids=str)
def test_a_backends_line_says_by_whose_word_and_with_which_weight(page, values, cells):
    shown = page.script("const cells = backendRow(arguments[0], 0).cells;"
                        "return [cells[1].querySelector('.pill').textContent, cells[2].textContent, cells[3].textContent]",
                        backend("api-1", **values))
    assert shown == cells


def test_tiles_have_names_of_their_own(page):
    names = page.script("return [...document.querySelectorAll('.tile > .dim')].map(e => e.textContent)")
    assert len(names) == len(set(names)) == 5


def test_traffic_moves_the_figures_and_charts(lab, page):
    def entries():  # of the flow table: closed connections stay in it for a while
        return text(page, ".tile:last-child")

    before = page.script("return document.querySelector('.service > button polyline').getAttribute('points')")
    lab.traffic("requests", VIP, 80, "--count", 300, "--concurrency", 20)
    wait_for(lambda: "300 (" in entries(), entries)
    assert page.script("return document.querySelector('.service > button polyline').getAttribute('points')") != before


def test_text_of_the_daemon_is_never_html(page):
    evil = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script>"
    page.script("showEvent({seq: 1e9, time_ns: 0, kind: 'x', subject: arguments[0], from: null, to: arguments[0], "
                "cause: arguments[0]})", evil)
    assert text(page, "#events").count("<script>") == 3 and page.script("return window.hacked") is None
    page.script("document.querySelector('#events').firstChild.remove()")


def test_the_page_is_readable_on_a_phone(page):
    page.emulate(390, 844)
    try:
        wide = page.script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= wide[1], f"scrolls sideways: {wide}"
        assert page.script("return getComputedStyle(document.querySelector('.backends td')).fontSize") == "13px"
        units = page.script("return [...document.querySelectorAll('.service > button .num:not(.wide)')].map(e => "
                            "getComputedStyle(e, '::after').content)")
        assert units == ['" " attr(data-unit)'] * 2 or units == ['" up"', '" pkt/s"'], units
        narrow = page.script("return [...document.querySelectorAll('.backends td:nth-child(3)')].map(e => e.clientWidth)")
        assert min(narrow) >= 80, narrow  # "connection" in one piece
    finally:
        page.of_session("POST", "/goog/cdp/execute", {"cmd": "Emulation.clearDeviceMetricsOverride", "params": {}})


def test_a_daemon_that_is_away_is_told_and_found_again(lab, page):
    assert page.script("return document.querySelector('#alarm').hidden")
    lab.control.kill_group()
    wait_for(lambda: "has not answered for" in text(page, "#alarm"), lambda: text(page, "#alarm"))
    lab.start_control()
    wait_for(lambda: page.script("return document.querySelector('#alarm').hidden"), lambda: text(page, "#alarm"))
    wait_for(lambda: page.script(ROWS).get("api-1", [""])[0] == "up", lambda: page.script(ROWS))
