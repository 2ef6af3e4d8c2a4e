"""What the processes of a shard spent on it, in a file beside its results: a run that was stopped, or killed, costs what all of
its processes cost, and the one that ends it knows only its own seconds.

A process notes its own while it answers, so that SIGKILL costs the last seconds of the account and no more. It counts from the
moment that it has loaded the model: what only publishes, or finds everything done, is no cost of the answers.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from job.budget import Spent
from job.disk import json_text, write_whole
from job.files import read_json

SPENT = "spent.json"
_NOTE_SECONDS = 10
_SPENT = TypeAdapter(list[Spent])


class Spending:
    """The account of one shard, for as long as this process works on it."""

    def __init__(
        self, folder: Path, elapsed: Callable[[], float], facts: Callable[[], Mapping[str, object]], earlier_rows: int
    ) -> None:
        """elapsed: seconds since this process began; facts: what its engine says of itself, empty before it is loaded;
        earlier_rows: how many rows had their answers before it."""
        self._path = folder / SPENT
        self._elapsed, self._facts = elapsed, facts
        self._earlier_rows = earlier_rows
        self._earlier: Sequence[Spent] = _read(self._path)
        self._noted: float | None = None

    def note(self) -> None:
        """Write down what was spent, unless that was done a moment ago. For the journal, after each group of rows."""
        if self._noted is None or self._elapsed() - self._noted >= _NOTE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write down what was spent. Where the disk does not take it the account lacks it; the answers go on."""
        with suppress(OSError):
            if facts := self._facts():
                self._noted = self._elapsed()
                write_whole(self._path, json_text({"processes": [each.model_dump() for each in self._all(facts)]}))

    @property
    def processes(self) -> Sequence[Spent]:
        """What each process spent, this one until now."""
        facts = self._facts()
        return self._all(facts) if facts else self._earlier

    def _all(self, facts: Mapping[str, object]) -> Sequence[Spent]:
        gpus = facts.get("gpus")
        known = gpus if isinstance(gpus, int) and gpus >= 0 else 0  # the file may be another's
        return [*self._earlier, Spent(seconds=round(self._elapsed(), 3), gpus=known, earlier_rows=self._earlier_rows)]


def _read(path: Path) -> Sequence[Spent]:
    """What is not readable was never noted, and a link is not ours: then the first process that is known has rows before it."""
    if path.is_symlink():
        return []
    try:
        return _SPENT.validate_python(read_json(path)["processes"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return []
