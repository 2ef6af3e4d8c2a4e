"""What the log calls safe is there: after SIGKILL, after a power cut, and where two things go wrong at once.

`python -m tests.power` does the first two for as long as one likes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from job import pipeline
from job.effects import Effects
from job.errors import EngineError, JobError, StoppedError
from job.plan import ChooseBackend
from job.protocols import Engine
from job.records import Completion
from job.settings import Settings
from job.shutdown import StopSignal
from tests.integration.lossy_disk import Call, LossyDisk, restore, tree_of
from tests.integration.power_cuts import PowerCuts
from tests.integration.promises import Promise, kill_after_promises
from tests.integration.system_calls import record, why_not
from tests.support import ECHO, finished_rows, results_folder
from tests.wrapped import WrappedEngine, wrapping

needs_a_record = pytest.mark.skipif(bool(why_not()), reason=f"nothing records system calls: {why_not()}")


@pytest.mark.slow
def test_rows_that_the_log_called_safe_are_there_after_a_kill(tmp_path: Path) -> None:
    report = kill_after_promises(tmp_path, tries=2, seed=1)
    assert report.violations == []
    assert report.unkept > 0, "every row that was finished was on disk by the kill: this proves little"


@pytest.mark.slow
@needs_a_record
def test_what_the_log_called_safe_is_there_after_a_power_cut(tmp_path: Path) -> None:
    """Also where a second process trusts what a first one, killed in a commit, had not synced."""
    campaign = PowerCuts(tmp_path, rows=100, seed=4)
    campaign.chain(cuts_a_record=60, records=2, ends=["SIGKILL"])
    report = campaign.report
    assert report.violations == []
    assert report.identical == 1
    assert min(report.hot, report.with_rows, report.with_results) > 0


def after(script: str, root: Path, disk: LossyDisk) -> LossyDisk:
    """The disk after a script that works in the folder `root`."""
    program = f"from job.disk import *\nroot = Path({str(root)!r})\n{script}"
    code, calls = record([sys.executable, "-c", program], {}, root, root.parent)
    assert code == 0, (root.parent / "stdout").read_text()
    for call in calls:
        disk.apply(call)
    assert disk.now() == tree_of(root)
    return disk


@needs_a_record
def test_a_file_written_whole_in_a_new_folder_outlasts_a_power_cut(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    disk = after("make_folder(root / 'a' / 'b'); write_whole(root / 'a' / 'b' / 'x.json', 'new')", root, LossyDisk(root))
    assert disk.after_power_cut(None) == {"a": None, "a/b": None, "a/b/x.json": b"new"}


@needs_a_record
def test_a_parquet_file_in_a_new_folder_outlasts_a_power_cut(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    script = """
from job.results import result_columns, write_data
write_data(root, "data/x.parquet", result_columns(1), iter([]), iter([]), seed=0, num_samples=1)
"""
    left = after(script, root, LossyDisk(root)).after_power_cut(None)
    assert left == tree_of(root)
    assert set(left) == {"data", "data/x.parquet"}


@needs_a_record
def test_a_folder_that_was_there_is_put_on_the_disk_too(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    disk = LossyDisk(root)
    disk.apply(Call("make_folder", root / "a"))
    restore(disk.now(), root)
    assert after("make_folder(root / 'a')", root, disk).after_power_cut(None) == {"a": None}


def test_a_promise_is_kept_or_it_is_said_how_not() -> None:
    row: tuple[object, ...] = ("a",)
    events = [{"event": "resume_found", "rows_done": 1}, {"event": "progress", "rows_done": 9, "rows_safe": 2}]
    promise = Promise().and_then(events)
    assert promise == Promise(rows=2)
    assert promise.broken_by({0: row, 1: row}, {0: row, 1: row}) == ""
    assert promise.broken_by({0: row}, {0: row, 1: row}) == "2 rows were called safe, and 1 are there"
    assert promise.broken_by({0: row, 1: ("b",)}, {0: row, 1: row}) == "rows differ from an undisturbed run's: [1]"
    assert promise.and_then([{"event": "run_finished", "message": "stopped: 3 of 9 rows are safe in x."}]) == Promise(rows=3)
    assert promise.and_then([{"event": "run_finished", "exit_code": 0}]) == Promise(rows=2, results=True)


class FallingEngine(WrappedEngine):
    """Answers a row, loses the run to another process, answers one more, and dies."""

    def __init__(self, engine: Engine, output: Path, stop: StopSignal, signal: str | None) -> None:
        super().__init__(engine)
        self.window = 1
        self._output = output
        self._stop = stop
        self._signal = signal
        self._answered = 0

    def harvest(self) -> Sequence[Completion]:
        self._answered += 1
        if self._answered == 2:
            while not finished_rows(self._output):
                pass
            (note,) = self._output.glob("*/*/shard-*/holder.json")
            note.write_text("{}")
        if self._answered == 3:
            if self._signal:
                self._stop.request(self._signal)
            raise EngineError("the engine died. Try another one.")
        return super().harvest()


def falling(output: Path, stop: StopSignal, signal: str | None) -> ChooseBackend:
    return wrapping(lambda engine: FallingEngine(engine, output, stop, signal))


@pytest.mark.parametrize(
    ("signal", "error", "begin", "end"),
    [
        (None, EngineError, "the engine died. Try another one. ", ""),
        ("SIGTERM", StoppedError, "stopped by SIGTERM: ", " Run the same command again to go on."),
    ],
    ids=["the engine dies", "a signal ends the engine"],
)
def test_rows_that_could_not_be_written_are_not_called_safe(
    signal: str | None, error: type[JobError], begin: str, end: str, three_rows: Path, output: Path
) -> None:
    stop = StopSignal()
    rows_alone = {**ECHO, "CANARY": "false"}  # the engine counts what it answers
    settings = Settings.from_env({**rows_alone, "DATASET_ID": str(three_rows), "OUTPUT_DIR": str(output)})
    effects = Effects(stop, falling(output, stop, signal), bind_log=lambda **_: None)
    with pytest.raises(error) as caught:
        pipeline.run(settings, effects)
    assert len(finished_rows(output)) == 1
    assert caught.value.message == f"{begin}1 of 3 rows are safe in {results_folder(output)}.{end}"
