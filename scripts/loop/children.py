"""A started command: its log in a file, its events out of that, and its end, which the end of the loop brings too."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from scripts.loop.runners import Command

Event = Mapping[str, Any]
_BOUND = Path(__file__).with_name("bound.py")
_LONGEST_TEXT = 500


class Child(Protocol):
    """What the loop needs of a command that runs."""

    @property
    def last_text(self) -> str:
        """The last line that was no event: how something that is not the job says why it failed."""

    def events(self) -> Sequence[Event]:
        """What it logged since the last call."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs. A signal that ended it counts from 128 on, as in a shell."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""


def bound_to_this(argv: Sequence[str], at_the_end: signal.Signals) -> list[str]:
    """A command that gets a signal when this process ends, however that comes."""
    return [sys.executable, "-I", "-S", str(_BOUND), str(os.getpid()), str(int(at_the_end)), *argv]


Start = Callable[[Command, Path], Child]


class StartedChild:
    """A process whose standard output and error are appended to its log.

    It reads from nothing, and has a process group of its own: what a terminal sends to the loop, the loop passes on once.
    """

    def __init__(self, command: Command, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        bound = bound_to_this(command.argv, command.at_the_end)
        with log.open("ab") as file:
            self._log, self._read = log, file.tell()
            self._process = subprocess.Popen(
                bound, env=command.environ, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, process_group=0
            )
        self.last_text = ""

    def events(self) -> Sequence[Event]:
        with self._log.open("rb") as file:
            file.seek(self._read)
            whole, _, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + 1 if whole else 0
        events = []
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if isinstance(event, dict) and str(event.get("logger")).startswith("job"):
                events.append({"event": "", **event})
            elif text := line.decode(errors="replace").strip():
                self.last_text = text[:_LONGEST_TEXT]
        return events

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is None:
            return None
        return code if code >= 0 else 128 - code

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
