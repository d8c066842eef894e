"""A headless Chromium for tests: opens a page, tells what it did, and takes pictures of it.

`python -m tests.browser PAGE FOLDER` leaves pictures of a page: wide, dark, on a phone, printed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PIPES = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars")
_QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-extensions")
_PATIENCE_S = 60.0
_A4_IN = (8.27, 11.69)


class Browser:
    """One Chromium, spoken to over its debugging pipe: the protocol's JSON, each message ended by a NUL."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._rest, self._last = b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Ask for something and wait for its answer; what happens meanwhile is kept in `events`."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._last:
                assert "error" not in said, f"{method}: {said['error']}"
                return dict(said["result"])
            self.events.append(said)

    def wait_for(self, method: str, session: str) -> None:
        """Wait until something has happened."""
        while not any(e.get("method") == method and e.get("sessionId") == session for e in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._receive], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser said nothing for a minute"
            piece = os.read(self._receive, 1 << 20)
            assert piece, "the browser went away"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    @contextmanager
    def page(self, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> Iterator[Page]:
        """Open a file in a window of its own."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Network", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        page.call("Emulation.setEmulatedMedia", features=scheme)
        page.resize(width, height)
        page.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired", session)
        yield page
        self.call("Target.closeTarget", targetId=target)


class Page:
    """An open page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the page for something."""
        return self._browser.call(method, self._session, **params)

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def value(self, script: str) -> Any:
        """Return what a script of the test (not of the page) comes to."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def requests(self) -> list[str]:
        """Return the addresses that were asked for."""
        sent = self._happened("Network.requestWillBeSent")
        return [str(e["request"]["url"]) for e in sent]

    def complaints(self) -> list[str]:
        """Return what stands in the browser's console: errors of scripts, refusals by the page's own policy."""
        logged = [str(e["entry"]["text"]) for e in self._happened("Log.entryAdded")]
        thrown = [str(e["exceptionDetails"]["text"]) for e in self._happened("Runtime.exceptionThrown")]
        said = [str(e["args"]) for e in self._happened("Runtime.consoleAPICalled")]
        asked = [str(e["message"]) for e in self._happened("Page.javascriptDialogOpening")]
        return [*logged, *thrown, *said, *asked]

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Take a picture of the window, or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def print_to(self, path: Path) -> None:
        """Print the page on A4."""
        width, height = _A4_IN
        done = self.call(
            "Page.printToPDF", preferCSSPageSize=True, printBackground=True, paperWidth=width, paperHeight=height
        )
        path.write_bytes(base64.b64decode(done["data"]))

    def _happened(self, method: str) -> list[Mapping[str, Any]]:
        mine = (e for e in self._browser.events if e.get("sessionId") == self._session)
        return [e["params"] for e in mine if e.get("method") == method]


@contextmanager
def browser(chromium: Path) -> Iterator[Browser]:
    """Start a Chromium with a profile of its own."""
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        args = [sys.executable, "-c", _PIPES, str(their_in), str(their_out), str(chromium)]
        process = subprocess.Popen(
            [*args, *_FLAGS, *_QUIET, f"--user-data-dir={profile}"],
            pass_fds=(their_in, their_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_in)
        os.close(their_out)
        try:
            yield Browser(our_out, our_in)
        finally:
            process.terminate()
            process.wait(10)
            os.close(our_out)
            os.close(our_in)


def pictures(chromium: Path, page: Path, folder: Path) -> None:
    """Leave pictures of a page."""
    folder.mkdir(parents=True, exist_ok=True)
    with browser(chromium) as b:
        for name, width, dark in (
            ("1200", 1200, False),
            ("1200-dark", 1200, True),
            ("390", 390, False),
            ("390-dark", 390, True),
        ):
            with b.page(page, width=width, dark=dark) as p:
                p.picture(folder / f"{name}-first.png")
                p.picture(folder / f"{name}.png", whole=True)
        with b.page(page) as p:
            p.print_to(folder / "print.pdf")


if __name__ == "__main__":
    from tests.servers.find import find_chromium

    pictures(find_chromium(), Path(sys.argv[1]), Path(sys.argv[2]))
