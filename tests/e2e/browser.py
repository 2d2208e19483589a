# SPDX-License-Identifier: BSD-3-Clause
"""Headless Chromium in a lab's namespace, driven through chromedriver's HTTP interface (W3C WebDriver)."""
import base64
import http.client
import json
import socket

from netns import wait_for

PORT = 9515
# Nothing may try to leave the namespace; as root Chromium has no sandbox.
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
           "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
           "--disable-dev-shm-usage", "--hide-scrollbars"]


class Browser:
    """A context manager; one window."""

    def __init__(self, lab, namespace, width=1280, height=860):
        self.namespace, self.session = namespace, None
        profile = lab.dir / "chromium"
        self.driver = lab.start(namespace, "chromedriver", ["chromedriver", f"--port={PORT}"])
        wait_for(self._listens, lambda: f"chromedriver: {self.driver.tail()}", 20)
        options = OPTIONS + [f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        self.session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"args": options}}}})["sessionId"]

    def _listens(self):
        with self.namespace.entered(), socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", PORT)) == 0

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        with self.namespace.entered():
            connection.connect()
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            value = json.loads(response.read())["value"]
        finally:
            connection.close()
        assert response.status == 200, value
        return value

    def of_session(self, method, path, body=None):
        return self.call(method, f"/session/{self.session}{path}", body)

    def open(self, url):
        self.of_session("POST", "/url", {"url": url})

    def script(self, text, *args):
        """What `text`, the body of a function, returns."""
        return self.of_session("POST", "/execute/sync", {"script": text, "args": args})

    def resize(self, width, height):
        self.of_session("POST", "/window/rect", {"width": width, "height": height})

    def emulate(self, width, height):
        """A phone's screen: narrower than a window may be."""
        self.of_session("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}})

    def log(self):
        """What the page wrote to the console: errors of its own and blocked loads."""
        return self.of_session("POST", "/se/log", {"type": "browser"})

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.of_session("GET", "/screenshot")))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            if self.session is not None:
                self.of_session("DELETE", "")
        finally:
            self.driver.stop()
