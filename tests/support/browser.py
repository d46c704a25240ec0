"""Debian's Chromium without a window, driven over WebDriver (W3C) by its chromedriver. Standard library only."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Self

from support.patience import PATIENCE_S

_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


class Browser:
    """One window, with an empty profile in `directory`; `with` ends it and its driver."""

    def __init__(self, directory: Path) -> None:
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # The names that Chromium's own start-up and crash files go by.
            env={"PATH": "/usr/bin:/bin", "HOME": str(directory), "TMPDIR": str(directory)},
        )
        self._session = ""
        try:
            self._at = f"http://127.0.0.1:{self._port()}"
            options = {"args": [*_ARGUMENTS, f"--user-data-dir={directory / 'profile'}"]}
            wanted = {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            begun = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{begun['sessionId']}"
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        try:
            if self._session:
                self._ask("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait(PATIENCE_S)
            if self._driver.stdout:
                self._driver.stdout.close()

    def go(self, url: str) -> None:
        """Open a page, until it has loaded."""
        self._ask("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        """What the body of a function returns that runs in the page."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def text(self) -> str:
        """What somebody reads on the page."""
        return str(self.run("return document.body.innerText"))

    def source(self) -> str:
        """The page as it is now, without asking any script of it."""
        return str(self._ask("GET", f"{self._session}/source"))

    def forget(self) -> None:
        """Leave the page, and what its console and its requests were."""
        self.go("about:blank")
        self.complaints()
        self.requested()

    def devtools(self, command: str, **parameters: object) -> Any:
        """A command of the Chrome DevTools protocol."""
        return self._ask("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screen(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """The size of the page, in CSS pixels, and what its owner prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        preferred = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.devtools("Emulation.setEmulatedMedia", features=preferred)

    def complaints(self) -> list[str]:
        """What its console said since it was asked last: violations of the policy, errors of scripts and of loading."""
        return [entry["message"] for entry in self._log("browser")]

    def requested(self) -> list[str]:
        """Every URL that was asked for since it was asked last."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def picture(self, file: Path) -> None:
        """The whole page as PNG."""
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(taken["data"]))

    # -- below ------------------------------------------------------------------------------------------------

    def _log(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("POST", f"{self._session}/se/log", {"type": kind})
        return found

    def _port(self) -> int:
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            if said := re.search(r"started successfully on port (\d+)", line):
                return int(said[1])
        raise AssertionError("chromedriver did not start")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        octets = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._at}{path}", octets, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)["value"]
