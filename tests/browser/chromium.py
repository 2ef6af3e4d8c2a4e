"""A headless Chromium, driven by its own protocol over a WebSocket: no more packages than the tests have anyway."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
KEYS = {"Escape": 27, "Enter": 13, "Tab": 9}


def found() -> str | None:
    """The browser's program; CHROMIUM names another than the usual ones."""
    wanted = os.environ.get("CHROMIUM")
    return shutil.which(wanted) if wanted else next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. It notes each request that it makes, those apart that the page's policy stops, and each line of its console."""

    def __init__(self, connection: ClientConnection, session: str) -> None:
        self._connection = connection
        self._session = session
        self._number = 0
        self._asked: dict[str, str] = {}
        self.requests: list[str] = []
        self.blocked: list[str] = []
        self.console: list[str] = []
        self.dialogs: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> Any:
        """What the browser answers to a call of its protocol."""
        self._number += 1
        message = {"id": self._number, "sessionId": self._session, "method": method, "params": parameters}
        self._connection.send(json.dumps(message))
        while True:
            got = json.loads(self._connection.recv(timeout=60))
            if got.get("id") == self._number and got.get("sessionId") == self._session:
                assert "error" not in got, got["error"]
                return got["result"]
            self._note(got)

    def open(self, address: str) -> None:
        """Open an address and wait until its script says that it is ready."""
        self.call("Page.navigate", url="about:blank")
        self.requests.clear()
        self.call("Page.navigate", url=address)
        self.until("document.documentElement?.dataset.ready === 'yes'")

    def eval(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, awaited where it is a promise."""
        got = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def until(self, expression: str, seconds: float = 30) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.eval(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"not within {seconds} s: {expression}; console: {self.console}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press and release a key, as a keyboard does."""
        text = {"text": key} if len(key) == 1 else {}
        code = KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def choose(self, identifier: str, value: str) -> None:
        """Set a select or an input, as a person does: with its events."""
        self.eval(
            f"(() => {{ const it = document.getElementById({json.dumps(identifier)}); it.value = {json.dumps(value)};"
            f" for (const name of ['input', 'change']) it.dispatchEvent(new Event(name, {{bubbles: true}})); }})()"
        )

    def looks(self, *, width: int, height: int, scheme: str = "light", mobile: bool = False) -> None:
        """The size of the screen, and whether it is light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self._asked[parameters["requestId"]] = parameters["request"]["url"]
                self.requests.append(parameters["request"]["url"])
            case "Network.loadingFailed" if parameters.get("blockedReason") == "csp":
                self.blocked.append(self._asked[parameters["requestId"]])
            case "Runtime.consoleAPICalled":
                self.console.append(" ".join(str(each.get("value")) for each in parameters["args"]))
            case "Runtime.exceptionThrown":
                self.console.append(f"exception: {parameters['exceptionDetails']}")
            case "Log.entryAdded":
                self.console.append(f"{parameters['entry']['level']}: {parameters['entry']['text']}")
            case "Page.javascriptDialogOpening":
                self.dialogs.append(parameters["message"])
                self._number += 1
                answer = {"method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
                self._connection.send(json.dumps({"id": self._number, "sessionId": self._session, **answer}))


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A browser with one tab while the block runs; what it keeps lies in `folder`."""
    program = found()
    assert program is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"]
    options += ["--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log, cwd=folder)
    try:
        with connect(_address(folder / "profile" / "DevToolsActivePort", process), max_size=None, proxy=None) as connection:
            yield _first_page(connection)
            with suppress(Exception):
                connection.send(json.dumps({"id": 0, "method": "Browser.close"}))
                process.wait(10)
    finally:
        process.kill()
        process.wait()


def _address(port_file: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 60
    while not (port_file.exists() and len(lines := port_file.read_text().split()) == 2):
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        assert time.monotonic() < deadline, "the browser does not say where it listens"
        time.sleep(0.05)
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"


def _first_page(connection: ClientConnection) -> Page:
    def call(number: int, method: str, **parameters: object) -> Any:
        connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (got := json.loads(connection.recv(timeout=60))).get("id") != number:
            pass
        return got["result"]

    targets = call(1_000_001, "Target.getTargets")["targetInfos"]
    target = next(each["targetId"] for each in targets if each["type"] == "page")
    return Page(connection, call(1_000_002, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
