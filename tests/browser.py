"""A real browser for tests: headless Chromium through chromedriver, which speaks JSON over HTTP (W3C WebDriver)."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key under which WebDriver hands out elements


def missing_programs() -> str:
    """What must be installed before a browser can be started; empty when all is there."""
    absent = [] if shutil.which("chromium") else ["chromium"]
    return ", ".join(absent if shutil.which("chromedriver") else [*absent, "chromedriver"])


class Browser:
    """One window."""

    def __init__(self, address: str, session: str) -> None:
        self._base = f"{address}/session/{session}"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return _request(method, self._base + path, body)

    def open(self, page: Path) -> None:
        """Loads a report, and waits until its pictures are drawn."""
        self._call("POST", "/url", {"url": page.resolve().as_uri()})
        for _ in range(100):
            if self.run("return 'drawn' in document.documentElement.dataset"):
                return
            time.sleep(0.05)
        raise TimeoutError(f"{page.name} did not draw its pictures within 5 s: {self.complaints()}")

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a piece of JavaScript returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def choose(self, selector: str, text: str) -> None:
        """Picks an option of a select, as a user does."""
        found = self.run(
            """const list = document.querySelector(arguments[0]);
               return [...list.options].find((o) => o.textContent === arguments[1]);""",
            selector,
            text,
        )
        assert found, f"{selector} has no option {text}"
        self._call("POST", f"/element/{found[_ELEMENT]}/click", {})

    def click(self, selector: str) -> None:
        # What sticks to the top of a page may cover an element that the driver takes for visible.
        self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        self._call("POST", f"/element/{self._find(selector)}/click", {})

    def press(self, selector: str, keys: str) -> None:
        self._call("POST", f"/element/{self._find(selector)}/value", {"text": keys})

    def hover(self, selector: str, x: int, y: int) -> None:
        """Moves the mouse to a place relative to the middle of an element."""
        origin = {_ELEMENT: self._find(selector)}
        move = {"type": "pointerMove", "duration": 0, "origin": origin, "x": x, "y": y}
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]}
        self._call("POST", "/actions", {"actions": [mouse]})

    def resize(self, width: int, height: int, *, mobile: bool = False, dark: bool = False) -> None:
        """The size of the page in CSS pixels, and what the page believes of the device."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile}
        self._devtools("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", {"features": [scheme]})

    def screenshot(self) -> bytes:
        """The whole page as PNG, also what lies below the fold."""
        options = {"format": "png", "captureBeyondViewport": True}
        return base64.b64decode(self._devtools("Page.captureScreenshot", options)["data"])

    def complaints(self) -> list[str]:
        """What the console has said since it was last asked: errors and warnings."""
        entries = self._call("POST", "/se/log", {"type": "browser"})
        return [e["message"] for e in entries if e["level"] in ("SEVERE", "WARNING")]

    def close(self) -> None:
        self._call("DELETE", "")

    def _find(self, selector: str) -> str:
        return self._call("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Starts a browser with a fresh profile, and stops it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        [str(shutil.which("chromedriver")), f"--port={port}", "--log-level=OFF"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address)
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--window-size=1280,900",
            f"--user-data-dir={profile}",
        ]
        options = {"binary": shutil.which("chromium"), "args": arguments}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = _request("POST", f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        window = Browser(address, session)
        try:
            yield window
        finally:
            window.close()
    finally:
        driver.terminate()
        driver.wait(timeout=10)


def _wait(address: str) -> None:
    for _ in range(100):
        try:
            if _request("GET", f"{address}/status", None)["ready"]:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError("chromedriver did not start within 10 s")


def _request(method: str, url: str, body: dict[str, Any] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy knows nothing of this machine
    try:
        with direct.open(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:  # the driver answers what went wrong as JSON too
        raise RuntimeError(json.load(error)["value"]["message"].splitlines()[0]) from None
