from contextlib import suppress

from job.stopwatch import Stopwatch
from tests.unit.builders import FakeClock


def test_seconds_so_far_have_those_of_the_phase_of_now() -> None:
    clock = FakeClock()
    watch = Stopwatch(clock)
    assert watch.so_far() == {}
    with watch.phase("first"):
        clock.now += 2
    with watch.phase("second"):
        clock.now += 3
        assert watch.current == ("second", 102.0)
        assert watch.so_far() == {"first": 2.0, "second": 3.0}
        assert watch.seconds == {"first": 2.0}
    clock.now += 9
    assert watch.so_far() == {"first": 2.0, "second": 3.0}


def test_a_phase_that_fails_ends_as_well_and_the_one_around_it_goes_on() -> None:
    clock = FakeClock()
    watch = Stopwatch(clock)
    with watch.phase("around"):
        clock.now += 1
        with suppress(OSError), watch.phase("within"):
            clock.now += 2
            raise OSError
        assert watch.current == ("around", 100.0)
    assert watch.so_far() == {"within": 2.0, "around": 3.0}
