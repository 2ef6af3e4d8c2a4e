import os
import signal
import subprocess
import sys
import time

import pytest

from job import shutdown
from job.shutdown import Interrupted, StopSignal, listening
from tests.processes import descendants
from tests.support import ROOT

ALARM_SECONDS = 0.1
GRACE_SECONDS = 0.25  # over when the alarm rings for the third time

# Says when it listens, then when the first signal came, and waits for the second one.
LISTENER = """
import time
from job.shutdown import StopSignal, listening
stop = StopSignal(60)
with listening(stop):
    print("ready", flush=True)
    while not stop.signal:
        time.sleep(0.01)
    print(stop.signal, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _quick_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process the alarm rings five times as often, so that less is waited for."""
    monkeypatch.setattr(shutdown, "_ALARM_SECONDS", ALARM_SECONDS)


class FakeClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_asked_for_at_first() -> None:
    clock = FakeClock()
    stop = StopSignal(20, clock)
    clock.now += 10**9
    assert stop.signal is None
    assert not stop.grace_is_over


def test_the_grace_begins_with_the_request() -> None:
    clock = FakeClock()
    stop = StopSignal(20, clock)
    clock.now += 50
    stop.request("SIGTERM")
    assert stop.signal == "SIGTERM"
    clock.now += 19.9
    assert not stop.grace_is_over
    clock.now += 0.1
    assert stop.grace_is_over


def test_no_grace_is_over_at_once() -> None:
    stop = StopSignal(0, FakeClock())
    stop.request("SIGINT")
    assert stop.grace_is_over


def test_a_grace_without_an_end_is_no_error() -> None:
    stop = StopSignal(1e300)
    with listening(stop):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(1.5 * ALARM_SECONDS)
        assert not stop.grace_is_over
    assert stop.signal == "SIGTERM"
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_becomes_a_request_and_the_second_one_ends_the_process(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop = StopSignal(20)
    with listening(stop):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # as `timeout` does, to the process and to its group
        assert stop.signal == number.name
        time.sleep(1.5 * ALARM_SECONDS)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_handlers_are_put_back_where_the_block_fails() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError), listening(StopSignal(20)):
        raise KeyError
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_signal_breaks_off_a_block_that_does_not_look_at_it() -> None:
    stop = StopSignal(20)
    reached: list[str] = []

    def block() -> None:
        with stop.interrupting():
            reached.append("inside")
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("after the signal")

    with listening(stop):
        with pytest.raises(Interrupted):
            block()
        assert (reached, stop.signal) == (["inside"], "SIGTERM")
        with pytest.raises(Interrupted):
            block()
    assert reached == ["inside"]


def test_the_end_of_the_grace_breaks_off_a_block_that_waits_for_it() -> None:
    """As an engine that hangs does; what comes in time is not broken off."""
    stop = StopSignal(GRACE_SECONDS)
    reached: list[str] = []

    def block() -> None:
        with stop.interrupting_after_grace():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("after the signal")
            time.sleep(60)

    with listening(stop):
        started = time.monotonic()
        with pytest.raises(Interrupted):
            block()
        assert GRACE_SECONDS < time.monotonic() - started < 5
        with pytest.raises(Interrupted):
            block()
    assert reached == ["after the signal"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_what_is_left_at_once_and_takes_long_to_end_is_broken_off_when_the_grace_is_over() -> None:
    stop = StopSignal(GRACE_SECONDS)

    def block() -> None:
        with stop.interrupting():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                time.sleep(60)  # such as a wait for threads

    with listening(stop):
        started = time.monotonic()
        with pytest.raises(Interrupted):
            block()
        assert GRACE_SECONDS < time.monotonic() - started < 5


def test_a_block_that_waits_for_the_grace_is_left_alone_without_a_signal() -> None:
    stop = StopSignal(0)
    with listening(stop):
        with stop.interrupting_after_grace():
            stop.ring()
        stop.ring()
    assert stop.signal is None


def test_a_signal_after_the_block_is_a_flag_again() -> None:
    stop = StopSignal(20)
    with listening(stop):
        with stop.interrupting():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == "SIGTERM"


@pytest.mark.slow
def test_a_process_ends_at_the_second_signal() -> None:
    with subprocess.Popen([sys.executable, "-c", LISTENER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "SIGTERM\n"
        time.sleep(0.6)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_process_of_a_container_ends_at_the_second_signal(number: signal.Signals) -> None:
    """The kernel drops a signal to process 1 that has no handler."""
    if os.geteuid() != 0:
        pytest.skip("a PID namespace needs root")
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", LISTENER]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (first,) = descendants(process.pid)
        os.kill(first, number)
        assert process.stdout.readline() == f"{number.name}\n"
        time.sleep(0.6)
        os.kill(first, number)
        assert process.wait(timeout=10) == 128 + number
