"""Who runs when: the loop on fake processes and a clock that only its waiting moves."""

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.loop.gpus import Gpu, Slot, slots
from scripts.loop.runners import Processes
from scripts.loop.schedule import Effects, Loop
from scripts.loop.settings import LoopSettings
from scripts.loop.summary import Outcome

GB = 10**9
CPU = [Slot((), 1)]
ONE_GPU = [Gpu("0", "GPU-0", 80 * GB)]
JOB, FETCH = "job", "job.fetch"


@dataclass
class Script:
    """What a fake process does: when its engine is ready and when it ends, in seconds after its start, and how."""

    ready: float = 10
    end: float = 30
    code: int = 0
    last: Mapping[str, Any] | None = field(default_factory=dict)
    grace: float = 5
    first: Sequence[Mapping[str, Any]] = ()


class FakeChild:
    last_text = "the last line of somebody else"

    def __init__(self, script: Script, now: Callable[[], float]) -> None:
        self._script, self._now = script, now
        self._started = now()
        self._end = self._started + script.end
        self._code = script.code
        self._said: set[str] = set()
        self.signals: list[signal.Signals] = []

    def events(self) -> Sequence[Mapping[str, Any]]:
        return list(self._fresh())

    def _fresh(self) -> Iterable[Mapping[str, Any]]:
        script, age = self._script, self._now() - self._started
        if "first" not in self._said:
            self._said.add("first")
            yield from script.first
        if age < script.ready:
            yield {"event": "engine_start_progress", "phase": "engine", "seconds": age}
        if age >= script.ready and script.ready < script.end and "ready" not in self._said:
            self._said.add("ready")
            yield {"event": "engine_ready", "seconds": script.ready}
            yield {"event": "progress", "rows_done": 5, "rows_safe": 4, "rows": 9, "tokens_per_second": 7.0, "eta_seconds": 3}
        if self._now() >= self._end and script.last is not None and "last" not in self._said:
            self._said.add("last")
            yield {"event": "run_finished", **script.last}

    def poll(self) -> int | None:
        return self._code if self._now() > self._end else None

    def send(self, number: signal.Signals) -> None:
        self.signals.append(number)
        self._end = min(self._end, self._now() + (self._script.grace if len(self.signals) == 1 else 0))
        self._code = 75


class World:
    """Processes that are started, with the time and the environment that they were started with."""

    def __init__(self, scripts: Mapping[tuple[str, str], Script] | None = None, stop_at: Sequence[float] = ()) -> None:
        self.now = 0.0
        self.started: list[tuple[float, str, str]] = []
        self.environs: dict[tuple[str, str], Mapping[str, str]] = {}
        self.children: dict[tuple[str, str], FakeChild] = {}
        self.lines: list[str] = []
        self._scripts = scripts or {}
        self._stop_at = stop_at

    @property
    def count(self) -> int:
        """Of signals that ask for a stop."""
        return sum(self.now >= at for at in self._stop_at)

    def run(self, models: str, places: Sequence[Slot] = CPU, **variables: object) -> list[Outcome]:
        settings = LoopSettings.from_env(
            {"MODEL_IDS": models, "OUTPUT_DIR": "/out", "PARALLEL": str(len(places))}
            | {name: str(value) for name, value in variables.items()}
        )
        effects = Effects(self._start, self._say, lambda: self.now, self._sleep)
        return Loop(settings, places, Processes(), self, effects).run()

    def times(self, what: str = JOB) -> dict[str, float]:
        return {model: round(at, 1) for at, kind, model in self.started if kind == what}

    def _start(self, command: Any, log: Path) -> FakeChild:
        key = command.argv[-1], command.environ["MODEL_ID"]
        assert log == Path("/out/logs") / f"{key[1].rpartition('/')[2]}.log"
        self.started.append((self.now, *key))
        self.environs[key] = command.environ
        default = Script(end=20, last={"weights_bytes": 16 * GB}) if key[0] == FETCH else Script()
        self.children[key] = FakeChild(self._scripts.get(key, default), lambda: self.now)
        return self.children[key]

    def _say(self, name: str, text: str) -> None:
        self.lines.append(f"{name}: {text}")

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 10_000, "it does not end"


def codes(outcomes: Sequence[Outcome]) -> list[int | None]:
    return [outcome.exit_code for outcome in outcomes]


def test_one_comes_after_the_other_and_a_failed_one_stops_none() -> None:
    world = World({(JOB, "org/b"): Script(code=78, end=2, last={"message": "wrong"})})
    outcomes = world.run("org/a org/b org/c", ENGINE="echo")
    assert [kind for _, kind, _ in world.started] == [JOB] * 3
    a, b, c = world.times().values()
    assert a == 0
    assert 30 < b < 31
    assert b + 2 < c < b + 3
    assert codes(outcomes) == [0, 78, 0]
    assert (outcomes[1].message, outcomes[1].meaning) == ("wrong", "settings wrong")


def test_the_last_line_of_a_model_is_its_outcome() -> None:
    last = {"rows": 9, "failed_rows": 1, "prompt_tokens": 2, "completion_tokens": 3, "results": "/out/a/01", "message": "m"}
    (outcome,) = World({(JOB, "org/a"): Script(last=last | {"repo_id": "me/a-results", "commit": "c0"})}).run("org/a@v2")
    assert outcome.seconds is not None
    assert 30 <= outcome.seconds < 31
    assert outcome == Outcome(
        "org/a@v2", 0, 9, 1, 2, 3, outcome.seconds, "/out/a/01", "me/a-results", "c0", "m", "/out/logs/a.log"
    )


def test_a_model_that_says_nothing_at_its_end_is_known_by_what_it_said_before() -> None:
    (outcome,) = World({(JOB, "org/a"): Script(code=137, last=None)}).run("org/a")
    assert (outcome.exit_code, outcome.rows, outcome.message) == (137, 4, "the last line of somebody else")


def test_the_next_model_is_downloaded_while_one_generates() -> None:
    world = World()
    assert codes(world.run("org/a org/b org/c")) == [0, 0, 0]
    jobs, downloads = world.times(), world.times(FETCH)
    assert "org/a" not in downloads
    assert 10 <= downloads["org/b"] < 11, "not before the first one has its own weights"
    assert jobs["org/b"] <= downloads["org/c"] < jobs["org/c"]


def test_a_model_starts_when_its_download_has_ended_however_it_ended() -> None:
    slow = Script(end=100, code=69, last={"message": "the Hub is down"})
    world = World({(FETCH, "org/b"): slow})
    assert codes(world.run("org/a org/b")) == [0, 0]
    assert 110 < world.times()["org/b"] < 112
    assert "b: was not downloaded ahead" in world.lines


def test_what_needs_no_download_is_not_downloaded(tmp_path: Path) -> None:
    world = World()
    world.run(f"org/a {tmp_path}")
    world.run("org/a org/b", ENGINE="echo")
    assert not world.times(FETCH)


def test_models_side_by_side_start_together_and_the_next_one_when_one_has_ended() -> None:
    world = World({(JOB, "org/b"): Script(end=2, code=65)})
    outcomes = world.run("org/a org/b org/c org/d", [Slot((), 3)] * 3, ENGINE="echo")
    assert codes(outcomes) == [0, 65, 0, 0]
    *first, d = world.times().values()
    assert first == [0, 0, 0]
    assert 2 < d < 3


def test_a_model_whose_weights_have_no_known_size_starts_alone() -> None:
    """vLLM measures then what is free, which nobody may take meanwhile."""
    world = World({(FETCH, "org/b"): Script(end=5, code=69, last={"message": "the Hub is down"})})
    assert codes(world.run("org/a org/b org/c", slots(ONE_GPU, 3, 1))) == [0, 0, 0]
    a, b, c = world.times().values()
    assert a + 10 <= b
    assert b + 10 <= c
    assert "KV_CACHE_MEMORY_BYTES" not in world.environs[JOB, "org/b"]


def test_models_on_gpus_of_their_own_start_at_once() -> None:
    gpus = [Gpu(str(number), f"GPU-{number}", 80 * GB) for number in range(3)]
    world = World()
    world.run("org/a org/b org/c", slots(gpus, 3, 1))
    assert set(world.times().values()) == {0}
    assert [world.environs[JOB, model]["CUDA_VISIBLE_DEVICES"] for model in ("org/a", "org/b", "org/c")] == ["0", "1", "2"]
    assert "KV_CACHE_MEMORY_BYTES" not in world.environs[JOB, "org/a"]
    assert not world.times(FETCH)


def test_a_gpu_that_waits_for_a_neighbour_keeps_no_other_one_idle() -> None:
    """Two on each of two GPUs, whose weights have no known size: the third waits for the first, and the second has begun."""
    gpus = [Gpu(str(number), f"GPU-{number}", 80 * GB) for number in range(2)]
    failed = Script(end=1, code=69, last=None)
    world = World({(FETCH, model): failed for model in ("org/a", "org/b", "org/c", "org/d")})
    world.run("org/a org/b org/c org/d", slots(gpus, 4, 1))
    a, b, c, d = world.times().values()
    assert max(a, b) < 5
    assert min(c, d) >= a + 10


def test_models_on_one_gpu_are_downloaded_first_for_their_weights_decide_on_their_cache() -> None:
    world = World({(FETCH, "org/b"): Script(end=5, last={"weights_bytes": 8 * GB})})
    assert codes(world.run("org/a org/b", slots(ONE_GPU, 2, 1))) == [0, 0]
    caches = [int(world.environs[JOB, model]["KV_CACHE_MEMORY_BYTES"]) for model in ("org/a", "org/b")]
    assert caches[1] - caches[0] == 8 * GB
    assert world.environs[JOB, "org/a"]["GPU_MEMORY_UTILIZATION"] == "0.4500"
    downloads, jobs = world.times(FETCH), world.times()
    assert downloads["org/a"] == 0
    assert 20 < jobs["org/a"] < 21
    assert jobs["org/a"] <= downloads["org/b"] < jobs["org/a"] + 1
    assert jobs["org/b"] < jobs["org/a"] + 10, "both have a cache of a fixed size: neither waits for the other"


def test_a_cache_that_was_given_needs_no_download() -> None:
    world = World()
    world.run("org/a org/b", slots(ONE_GPU, 2, 1), KV_CACHE_MEMORY_BYTES=5 * GB)
    assert set(world.times().values()) == {0}
    assert world.environs[JOB, "org/b"]["KV_CACHE_MEMORY_BYTES"] == str(5 * GB)


def test_a_model_that_does_not_fit_beside_the_others_is_not_started() -> None:
    world = World({(FETCH, "org/a"): Script(end=5, last={"weights_bytes": 60 * GB})})
    outcomes = world.run("org/a org/b", slots(ONE_GPU, 2, 1))
    assert codes(outcomes) == [78, 0]
    assert "choose a smaller number" in outcomes[0].message
    assert list(world.times()) == ["org/b"]


def test_a_failed_download_leaves_the_failure_to_the_model() -> None:
    world = World({(FETCH, "org/a"): Script(end=1, code=77), (JOB, "org/a"): Script(end=2, code=77, last={"message": "gated"})})
    outcomes = world.run("org/a org/b", slots(ONE_GPU, 2, 1))
    assert (outcomes[0].exit_code, outcomes[0].message) == (77, "gated")
    assert "KV_CACHE_MEMORY_BYTES" not in world.environs[JOB, "org/a"]


def test_a_signal_is_passed_on_once_and_nothing_more_is_started() -> None:
    world = World({(JOB, "org/a"): Script(end=100)}, stop_at=[15])
    outcomes = world.run("org/a org/b org/c")
    assert codes(outcomes) == [75, None, None]
    assert world.children[JOB, "org/a"].signals == [signal.SIGTERM]
    assert world.children[FETCH, "org/b"].signals == [signal.SIGTERM]
    assert 20 < world.now < 21
    assert list(world.times()) == ["org/a"]


def test_a_second_signal_is_passed_on_too() -> None:
    world = World({(JOB, "org/a"): Script(end=1000, grace=500)}, stop_at=[15, 17])
    assert codes(world.run("org/a org/b", ENGINE="echo")) == [75, None]
    assert world.children[JOB, "org/a"].signals == [signal.SIGTERM] * 2
    assert 17 <= world.now < 18


def test_all_that_run_side_by_side_get_the_signal() -> None:
    world = World({(JOB, model): Script(ready=1, end=100) for model in ("org/a", "org/b")}, stop_at=[15])
    assert codes(world.run("org/a org/b org/c", [Slot((), 2)] * 2, ENGINE="echo")) == [75, 75, None]
    assert [world.children[JOB, model].signals for model in ("org/a", "org/b")] == [[signal.SIGTERM]] * 2


def test_a_model_that_is_done_before_the_signal_stays_done() -> None:
    world = World({(JOB, "org/b"): Script(end=100)}, stop_at=[50])
    assert codes(world.run("org/a org/b org/c", ENGINE="echo")) == [0, 75, None]


def test_what_happens_is_said_in_few_lines() -> None:
    world = World()
    world.run("org/a", ENGINE="echo")
    assert world.lines == [
        "a: starts; its log is /out/logs/a.log",
        "a: generates, 10 s after the engine was started",
        "a: ended with 0: done",
    ]


def test_each_model_at_work_has_a_metrics_port_of_its_own_that_is_free_again_when_it_ends() -> None:
    world = World({(JOB, "org/b"): Script(end=2)})
    world.run("org/a org/b org/c org/d", [Slot((), 3)] * 3, ENGINE="echo", METRICS_PORT=9464)
    ports = {model: environ["METRICS_PORT"] for (_, model), environ in world.environs.items()}
    assert ports == {"org/a": "9464", "org/b": "9465", "org/c": "9466", "org/d": "9465"}
    assert "d: starts; its log is /out/logs/d.log, its metrics are on port 9465" in world.lines


def test_a_long_start_is_told_now_and_then() -> None:
    world = World({(JOB, "org/a"): Script(ready=70, end=100)})
    world.run("org/a", ENGINE="echo")
    told = [line for line in world.lines if "still loads" in line]
    assert told == ["a: still loads the model (engine, 30 s)", "a: still loads the model (engine, 60 s)"]


def test_events_of_another_version_of_the_job_are_passed_over() -> None:
    strange: list[Mapping[str, Any]] = [
        {"event": "files_checked"},
        {"event": "progress", "rows_done": "?", "tokens_per_second": None},
    ]
    assert codes(World({(JOB, "org/a"): Script(first=strange)}).run("org/a")) == [0]
