"""What is done beside the main thread: it goes on by itself, ends with its block, and no fork happens in the middle of it."""

import os
import signal
import threading
import time
from types import FrameType

import pytest
import structlog
from structlog.testing import capture_logs

from job.heartbeat import OutsideForks, beating
from job.shutdown import Interrupted

LONG = 60.0  # seconds; no test waits for so long


def test_it_goes_on_while_the_block_runs_and_not_after_it() -> None:
    beats, third = [], threading.Event()

    def beat() -> None:
        beats.append(threading.current_thread().name)
        if len(beats) == 3:
            third.set()

    with beating(beat, 0):
        assert third.wait(LONG)
    counted = len(beats)
    assert set(beats) == {"heartbeat"}
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}
    assert len(beats) == counted


def test_its_log_lines_have_the_fields_that_are_bound() -> None:
    """Those belong to a thread, and a new one has none."""
    found, beaten = [], threading.Event()

    def beat() -> None:
        found.append(structlog.contextvars.get_contextvars())
        beaten.set()

    structlog.contextvars.bind_contextvars(run_id="abc")
    with beating(beat, 0):
        assert beaten.wait(LONG)
    assert found[0] == {"run_id": "abc"}


def test_the_end_does_not_wait_for_the_next_beat() -> None:
    with beating(lambda: pytest.fail("too soon"), LONG):
        pass


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_waits_for_the_end_of_a_beat_and_the_child_is_free_to_have_its_own() -> None:
    outside_forks = OutsideForks()
    inside, forked, may_end = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    def hold() -> None:
        with outside_forks:
            inside.set()
            may_end.wait(LONG)
            order.append("beat")

    def fork() -> None:
        if not (child := os.fork()):
            with outside_forks:  # would wait for ever, if it were a copy of one that is held
                os._exit(7)
        order.append("fork")
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        forked.set()

    codes: list[int] = []
    holding = threading.Thread(target=hold)
    holding.start()
    assert inside.wait(LONG)
    forking = threading.Thread(target=fork)
    forking.start()
    assert not forked.wait(0.05)
    assert order == []
    may_end.set()
    assert forked.wait(LONG)
    holding.join()
    forking.join()
    assert (order, codes) == (["beat", "fork"], [7])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_signal_takes_neither_the_beat_nor_the_fork_its_turn() -> None:
    """Its handler may raise while the fork waits: the fork goes on after the beat all the same."""
    outside_forks = OutsideForks()
    inside, errors = threading.Event(), []
    order: list[str] = []

    def hold() -> None:
        try:
            with outside_forks:
                inside.set()
                time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.05)
                order.append("beat")
        except RuntimeError as error:
            errors.append(error)

    def handle(number: int, frame: FrameType | None) -> None:
        order.append("signal")
        raise Interrupted

    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        holding = threading.Thread(target=hold)
        holding.start()
        assert inside.wait(LONG)
        if not (child := os.fork()):
            with outside_forks:
                os._exit(7)
        order.append("fork")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        holding.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert (order, errors, code) == (["signal", "beat", "fork"], [], 7)
    with outside_forks:
        pass


def test_what_it_logs_is_logged() -> None:
    beaten = threading.Event()

    def beat() -> None:
        structlog.get_logger().info("beat")
        beaten.set()

    with capture_logs() as logs, beating(beat, 0):
        assert beaten.wait(LONG)
    assert logs[0]["event"] == "beat"
