import resource
import signal
import time
from contextlib import suppress

import pytest

from job.bounds import OutOfTime, bounded

MB = 2**20


def endless() -> None:
    while True:
        with suppress(Exception):  # as a filter may
            sum(range(1000))


def test_what_does_not_end_is_left_when_its_time_is_over() -> None:
    started = time.process_time()
    with pytest.raises(OutOfTime), bounded(0.2, 100 * MB):
        endless()
    assert 0.1 < time.process_time() - started < 2


def test_what_fills_the_memory_is_left_before_it_does() -> None:
    with pytest.raises(MemoryError), bounded(10, 100 * MB):
        bytes(200 * MB)
    assert len(bytes(200 * MB)) == 200 * MB


def test_everything_is_as_it_was_afterwards() -> None:
    before = signal.getsignal(signal.SIGPROF), resource.getrlimit(resource.RLIMIT_AS)
    with bounded(10, 100 * MB):
        assert signal.getitimer(signal.ITIMER_PROF)[0] > 0
    assert (signal.getsignal(signal.SIGPROF), resource.getrlimit(resource.RLIMIT_AS)) == before
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0
