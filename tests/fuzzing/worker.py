"""Runs cases with `job.main.main` in a process of its own, thousands in one, which is replaced when it dies or hangs."""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import structlog

from tests.fuzzing.case import INSIDE, Case
from tests.fuzzing.job import effects
from tests.support import ROOT

HANG_SECONDS = 100.0  # until a worker is ended: long, as other things may keep the machine busy
ADDRESS_BYTES = 12 * 2**30  # what a case that eats memory gets, before the machine suffers
NOWHERE = "http://127.0.0.1:9"  # nothing listens there
PROMISE = "run the same command again to answer"  # of a damaged row, which is answered anew then
STARTS_AGAIN = 12
Bases = Mapping[str, Mapping[str, str]]
INSIDE_PARTS = INSIDE.split("/")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case came to.

    seconds: of the processor, where it is the worker's; again: how often it was started again, as its last line asked for;
    code: the exit code, below 0 where a signal ended the process, None where it had to be ended; threads: of the job that were
    left over; peak: memory that it took, in bytes; beside: what it wrote outside of its folder; parquet: the results, where
    there are some.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    peak: int = 0
    threads: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    parquet: bytes | None = None
    again: int = 0


class Worker:
    """A process that runs one case after the other, in a folder of its own. Use as a context manager."""

    def __init__(self, folder: Path, bases: Bases, starts: Mapping[str, Path]) -> None:
        """bases: variables of every case, by area; starts: run folders by name that cases may begin with."""
        self._folder = folder
        self._bases = bases
        self._starts = starts
        self._process: Any = None
        self._pipe: Any = None
        self.deaths = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def run(self, case: Case) -> Outcome:
        if self._process is None:
            self._start()
        started = time.monotonic()
        self._pipe.send(case)
        outcome: Outcome | None = None
        with suppress(EOFError, ConnectionError):
            if self._pipe.poll(HANG_SECONDS):
                outcome = self._pipe.recv()
        if outcome:
            return outcome
        hung = self._process.exitcode is None and time.monotonic() - started >= HANG_SECONDS
        self._end()
        code = None if hung else self._code
        out, err = ((self._folder / name).read_text(errors="backslashreplace") for name in ("stdout", "stderr"))
        self.deaths += 1
        return Outcome(code, out, err, time.monotonic() - started)

    def run_process(self, case: Case) -> Outcome:
        """The same case in a process of its own, `python -m tests.fuzzing.job`."""
        folder = self._folder / "alone"
        shutil.rmtree(folder, ignore_errors=True)
        here = case.lay_out(folder, self._starts)
        environ = case.environ(here, {**self._bases[case.area], **_surroundings(self._folder)})
        environ["PYTHONPATH"] = str(ROOT)
        command = [sys.executable, "-m", "tests.fuzzing.job"]
        started = time.monotonic()
        with subprocess.Popen(
            command, cwd=here, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                out, err = process.communicate(timeout=HANG_SECONDS)
                code: int | None = process.returncode
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                code = None
        seconds = time.monotonic() - started
        outcome = Outcome(code, _text(out), _text(err), seconds, beside=_beside(folder), parquet=_parquet(here))
        shutil.rmtree(folder, ignore_errors=True)
        return outcome

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(theirs, self._folder, self._bases, self._starts), daemon=True)
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        if self._process is not None:
            self._pipe.close()  # its end
            self._process.join(2)
            if self._process.exitcode is None:
                self._process.kill()
                self._process.join()
            self._code = self._process.exitcode
        self._process = None


def _text(written: bytes) -> str:
    return written.decode(errors="backslashreplace")


def serve(pipe: Connection, folder: Path, bases: Bases, starts: Mapping[str, Path]) -> None:
    """The worker's side: cases in, outcomes out, until the pipe is closed."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number, name in ((1, "stdout"), (2, "stderr")):  # native code writes there too
        file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    from job.main import LIBRARY_DEFAULTS, QUIET_DEFAULTS

    os.environ.clear()
    os.environ.update(_surroundings(folder) | LIBRARY_DEFAULTS | QUIET_DEFAULTS)
    with suppress(EOFError):
        while True:
            pipe.send(_run(pipe.recv(), folder, bases, starts))


def _surroundings(folder: Path) -> dict[str, str]:
    """Of a process: nothing of this machine's but what it needs, and no Hub."""
    for name in ("home", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    own = {"HOME": folder / "home", "HF_HOME": folder / "hf", "TMPDIR": folder / "tmp"}
    return {name: str(path) for name, path in own.items()} | {"PATH": os.environ.get("PATH", ""), "HF_ENDPOINT": NOWHERE}


def _run(case: Case, folder: Path, bases: Bases, starts: Mapping[str, Path]) -> Outcome:
    from job.main import main
    from job.shutdown import StopSignal

    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    here = case.lay_out(work, starts)
    os.chdir(here)
    before = _peak_reset()
    threads = set(threading.enumerate())
    started = time.process_time()
    again = -1
    while again < 0 or (again < STARTS_AGAIN and case.start and PROMISE in (folder / "stdout").read_text(errors="replace")):
        again += 1
        for descriptor in (1, 2):
            os.ftruncate(descriptor, 0)
        code = main(case.environ(here, bases[case.area]), StopSignal(), **effects())
        sys.stdout.flush()
        sys.stderr.flush()
    seconds = time.process_time() - started
    peak = _memory("VmHWM") - before
    structlog.contextvars.clear_contextvars()
    os.chdir(folder)
    left = _settled(lambda: tuple(each.name for each in threading.enumerate() if each not in threads and _is_ours(each)))
    out, err = ((folder / name).read_text(encoding="utf-8", errors="backslashreplace") for name in ("stdout", "stderr"))
    outcome = Outcome(code, out, err, seconds, peak, left, _beside(work), _parquet(here), again)
    shutil.rmtree(work, ignore_errors=True)
    if case.area == "datasets":
        shutil.rmtree(folder / "hf" / "datasets", ignore_errors=True)
    return outcome


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name in ("run-lock", "journal")


def _settled(look: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """What is still seen after a moment."""
    deadline = time.monotonic() + 1
    while (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return seen


def _peak_reset() -> int:
    """The memory of this process, in bytes; the kernel measures the peak from here on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmHWM")


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{name}:"))


def _beside(work: Path) -> tuple[str, ...]:
    expected, inner = INSIDE_PARTS[0], work / INSIDE_PARTS[0]
    found = [each.name for each in work.iterdir() if each.name != expected]
    return tuple(found + [each.name for each in inner.iterdir() if each.name != INSIDE_PARTS[1]])


def _parquet(here: Path) -> bytes | None:
    """The results of the run that `latest` leads to; None where there is no such file."""
    files = [file for file in here.glob("results/*/*/data/*.parquet") if file.is_file() and "latest" not in file.parts]
    return files[0].read_bytes() if len(files) == 1 else None
