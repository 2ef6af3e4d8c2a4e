"""Who runs when: as many models at once as there are slots, and the download of the next one's files meanwhile.

Models that share a GPU start together where each has a fixed part of its memory; where vLLM is to measure what is free, nobody
may take it meanwhile. One thread looks at all of them, some times a second.
"""

import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from job.errors import SettingsError
from job.references import is_local
from scripts.environment import ROOT
from scripts.loop import gpus
from scripts.loop.children import Child, Event, Start
from scripts.loop.gpus import Slot
from scripts.loop.runners import Runner
from scripts.loop.settings import GPU_MEMORY_UTILIZATION, LOGS, METRICS_PORT, LoopSettings, Model, metrics_port
from scripts.loop.summary import Outcome, shown

_TICK_SECONDS = 0.2
_PROGRESS_SECONDS = 30.0  # between two lines about one model that say how far it is
_REPEATED = ("engine_start_progress", "progress")

Say = Callable[[str, str], object]


class Stops(Protocol):
    """Signals that ask the loop to stop."""

    @property
    def count(self) -> int:
        """How many came."""


@dataclass(slots=True)
class _Running:
    """A model at work.

    place: which of those at once it is, from 0; measures: whether its engine takes the memory that it finds free; ready:
    whether it has it by now.
    """

    model: Model
    slot: Slot
    place: int
    child: Child
    started: float
    said: float
    measures: bool
    ready: bool = False
    rows_safe: int | None = None
    last: Event = field(default_factory=dict)


@dataclass(slots=True)
class _Download:
    """The files of a model on their way. weights: how many bytes the weights have, None until it has ended well."""

    model: Model
    child: Child
    weights: int | None = None


@dataclass(frozen=True, slots=True)
class Effects:
    """What the loop does to the world. say: a line about a model."""

    start: Start
    say: Say
    clock: Callable[[], float]
    sleep: Callable[[float], object]


class Loop:
    def __init__(self, settings: LoopSettings, slots: Sequence[Slot], runner: Runner, stops: Stops, effects: Effects) -> None:
        self._settings = settings
        self._free = list(slots)
        self._slots = len(slots)
        self._runner = runner
        self._stops = stops
        self._effects = effects
        self._passed_on = 0
        self._waiting = deque(settings.models)
        self._running: list[_Running] = []
        self._download: _Download | None = None
        self._weights: dict[Model, int | None] = {}
        self._outcomes: dict[Model, Outcome] = {}

    def run(self) -> list[Outcome]:
        """All models to their ends, or to where a signal ends them. In the order in which they were named."""
        while True:
            self._pass_signals_on()
            for running in list(self._running):
                self._look_at(running)
            self._look_at_download()
            if not self._stops.count:
                self._start_what_can_be()
                self._download_ahead()
            if not self._running and not self._download and (self._stops.count or not self._waiting):
                return [self._outcomes.get(model, Outcome(str(model))) for model in self._settings.models]
            self._effects.sleep(_TICK_SECONDS)

    def _pass_signals_on(self) -> None:
        """Each signal once to all that run, as SIGTERM: the first one asks them to stop in order, a second one ends them."""
        count = self._stops.count
        if count == self._passed_on:
            return
        if not self._passed_on:
            self._effects.say("", "stopping: waits for what is being finished; a second signal ends it at once")
        self._passed_on = count
        for child in [running.child for running in self._running] + ([self._download.child] if self._download else []):
            child.send(signal.SIGTERM)

    def _look_at(self, running: _Running) -> None:
        code = running.child.poll()  # before its last events are read, so that none is missed
        for event in running.child.events():
            self._note(running, event)
        if code is not None:
            self._running.remove(running)
            self._free.append(running.slot)
            outcome = self._outcome(running, code)
            self._outcomes[running.model] = outcome
            self._effects.say(running.model.name, f"ended with {code}: {outcome.meaning}")

    def _note(self, running: _Running, event: Event) -> None:
        name = event["event"]
        if name == "run_finished":
            running.last = event
        elif name == "engine_ready":
            running.ready = True
        elif name == "progress":
            running.rows_safe = event.get("rows_safe")
        text = _told(event)
        now = self._effects.clock()
        if text and (name not in _REPEATED or now - running.said >= _PROGRESS_SECONDS):
            running.said = now
            self._effects.say(running.model.name, text)

    def _look_at_download(self) -> None:
        download = self._download
        if not download:
            return
        code = download.child.poll()
        for event in download.child.events():
            if event["event"] == "run_finished":
                download.weights = event.get("weights_bytes")
        if code is None:
            return
        self._download = None
        self._weights[download.model] = download.weights
        if code:  # its own run meets the same, and reports it
            self._effects.say(download.model.name, "was not downloaded ahead")

    def _start_what_can_be(self) -> None:
        while self._waiting and (slot := next((slot for slot in self._free if self._is_quiet(slot, self._waiting[0])), None)):
            model = self._waiting[0]
            if self._download and self._download.model == model:
                return
            if self._needs_weights(slot) and model not in self._weights:
                if not self._download:
                    self._start_download(model)
                return
            self._free.remove(slot)
            self._waiting.popleft()
            self._start(model, slot)

    def _is_quiet(self, slot: Slot, model: Model) -> bool:
        """Whether a start neither disturbs one beside it that is taking its memory, nor is disturbed by it."""
        starting = [running for running in self._running if running.slot.gpus == slot.gpus and not running.ready]
        return not starting or not (self._measures(slot, model) or any(running.measures for running in starting))

    def _measures(self, slot: Slot, model: Model) -> bool:
        """Whether vLLM is to find out by itself how much memory is free, as the size of the weights is not known."""
        return self._needs_weights(slot) and self._weights.get(model, 0) is None

    def _needs_weights(self, slot: Slot) -> bool:
        """Whether the size of a model's weights decides on the size of its KV cache."""
        return slot.shares_gpus and not self._is_echo and "KV_CACHE_MEMORY_BYTES" not in self._settings.environ

    def _start(self, model: Model, slot: Slot) -> None:
        utilization = self._settings.number("GPU_MEMORY_UTILIZATION", GPU_MEMORY_UTILIZATION)
        try:
            memory = gpus.memory(slot, self._settings.environ, utilization, self._weights.get(model))
        except SettingsError as error:
            self._free.append(slot)
            self._outcomes[model] = Outcome(str(model), error.exit_code, message=error.message)
            self._effects.say(model.name, error.message)
            return
        place = min(set(range(self._slots)) - {running.place for running in self._running})
        port = metrics_port(self._settings.environ, place)
        command = self._runner.generate({**self._settings.environ, **model.variables(), **memory, **port}, slot)
        log = self._log(model)
        now = self._effects.clock()
        where = f" on GPU {','.join(gpu.index for gpu in slot.gpus)}" if slot.gpus else ""
        watched = f", its metrics are on port {port[METRICS_PORT]}" if port else ""
        self._effects.say(model.name, f"starts{where}; its log is {shown(log)}{watched}")
        child, measures = self._effects.start(command, log), self._measures(slot, model)
        self._running.append(_Running(model, slot, place, child, started=now, said=now, measures=measures))

    def _download_ahead(self) -> None:
        """Where all that run have what they need, the line is free for the next ones, as many as may start together."""
        if self._download or not self._running or not all(map(self._has_its_files, self._running)):
            return
        ahead = list(self._waiting)[: self._slots]
        if model := next((model for model in ahead if model not in self._weights and self._is_on_hub(model)), None):
            self._start_download(model)

    def _has_its_files(self, running: _Running) -> bool:
        return running.ready or running.model in self._weights

    def _start_download(self, model: Model) -> None:
        command = self._runner.fetch({**self._settings.environ, **model.variables()})
        self._effects.say(model.name, "is being downloaded")
        self._download = _Download(model, self._effects.start(command, self._log(model)))

    def _is_on_hub(self, model: Model) -> bool:
        return not self._is_echo and not is_local(model.id.id)

    @property
    def _is_echo(self) -> bool:
        return self._settings.environ.get("ENGINE") == "echo"

    def _log(self, model: Model) -> Path:
        return self._settings.output / LOGS / f"{model.name}.log"

    def _outcome(self, running: _Running, code: int) -> Outcome:
        last = running.last
        results = last.get("results")
        return Outcome(
            model=str(running.model),
            exit_code=code,
            rows=last.get("rows", running.rows_safe),
            failed_rows=last.get("failed_rows"),
            prompt_tokens=last.get("prompt_tokens"),
            completion_tokens=last.get("completion_tokens"),
            seconds=round(self._effects.clock() - running.started, 1),
            results=str(ROOT / self._runner.on_host(results)) if results else None,
            repo_id=last.get("repo_id"),
            commit=last.get("commit"),
            message=self._runner.on_host(last.get("message", running.child.last_text)),
            log=str(self._log(running.model)),
        )


def _told(event: Event) -> str:
    """An event in words, empty where it is not worth a line; also where an image of another version words it differently."""
    try:
        return _WORDS[event["event"]](event)
    except (KeyError, TypeError, ValueError):
        return ""


def _progress(event: Event) -> str:
    left = event.get("eta_seconds")
    return f"{event['rows_done']} of {event['rows']} rows, {event['tokens_per_second']:,.0f} tokens/s" + (
        f", about {left:,.0f} s to go" if left else ""
    )


_WORDS: Mapping[str, Callable[[Event], str]] = {
    "files_checked": lambda event: f"downloads {event['bytes_to_download'] / 1e9:.1f} GB" if event["bytes_to_download"] else "",
    "resume_found": lambda event: f"goes on after {event['rows_done']} of {event['rows']} rows",
    "engine_starting": lambda event: f"loads the model, for {event['rows_pending']} rows",
    "engine_start_progress": lambda event: f"still loads the model ({event['phase']}, {event['seconds']:.0f} s)",
    "engine_ready": lambda event: f"generates, {event['seconds']:.0f} s after the engine was started",
    "progress": _progress,
    "hub_retry": lambda event: f"waits {event['wait_seconds']:.0f} s for the Hub",
    "upload_retry": lambda event: f"waits {event['wait_seconds']:.0f} s for the Hub",
}
