"""Chromium, headless, driven through the DevTools protocol over two pipes: needs nothing but Chromium."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60.0
"""How long an answer may take on a busy machine."""
# Chromium reads commands from file 3 and writes answers to file 4.
_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execvp(sys.argv[3], sys.argv[3:])"
)


@lru_cache
def chromium() -> str | None:
    """Path of the browser, None if there is none that starts."""
    for path in filter(None, map(shutil.which, NAMES)):
        # Some systems put a script in its place that tells how to install it.
        if subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    return None


class Browser:
    """One page. Everything it asks of the network and complains about is kept in `events`."""

    def __init__(self, profile: Path, *, width: int = 1280, height: int = 900) -> None:
        path = chromium()
        assert path is not None
        to_read, self._to_write = os.pipe()
        self._to_read, to_write = os.pipe()
        # Above 4, so that one does not overwrite the other.
        theirs = [_high(to_read), _high(to_write)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *map(str, theirs), path, "--headless=new", "--no-sandbox",
             "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
             "--disable-dev-shm-usage", f"--user-data-dir={profile}", f"--window-size={width},{height}",
             "--remote-debugging-pipe", "about:blank"],
            pass_fds=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for number in theirs:
            os.close(number)
        self.events: list[dict[str, Any]] = []
        self._buffer, self._number, self._session = b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._to_write)  # Chromium ends with its pipe
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to_read)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._to_write, content) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._to_read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._to_read, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, url: str) -> None:
        """Load a page; returns when it has drawn itself."""
        self.call("Page.navigate", url=url)
        end = time.monotonic() + SECONDS
        while not self.run("document.documentElement?.dataset.ready === 'yes'"):
            assert time.monotonic() < end, self.complaints()
            time.sleep(0.05)

    def run(self, code: str) -> Any:
        """Value of a JavaScript expression; promises are awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, *, text: str = "") -> None:
        """One key, as a keyboard sends it."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38,
                 "ArrowRight": 39, "ArrowDown": 40, " ": 32}  # fmt: skip
        text = text or {"Enter": "\r", " ": " "}.get(key, "")
        shared = {"key": key, "code": "Space" if key == " " else key,
                  "windowsVirtualKeyCode": codes.get(key, 0)}  # fmt: skip
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def move(self, x: float, y: float) -> None:
        """The pointer to a place in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def resize(self, width: int, height: int, *, scale: float = 1.0, phone: bool = False) -> None:
        """The size of the window, or of a phone's screen."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=scale, mobile=phone)  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """The system's colour scheme, "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """What the window shows, or the whole page, as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def complaints(self) -> list[Any]:
        """Errors and warnings of the console, uncaught exceptions, log entries."""
        bad = []
        for event in self.events:
            method, values = event.get("method"), event.get("params", {})
            console = method == "Runtime.consoleAPICalled" and values["type"] in (
                "error",
                "warning",
            )
            if console or method in ("Runtime.exceptionThrown", "Log.entryAdded"):
                bad.append(values)
        return bad

    def requests(self) -> list[str]:
        """Addresses asked for, data: addresses left out."""
        found = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in found if not url.startswith("data:")]


def _high(number: int) -> int:
    import fcntl

    copy = fcntl.fcntl(number, fcntl.F_DUPFD, 10)
    os.close(number)
    return copy
