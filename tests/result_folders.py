"""Results folders as a finished run leaves them, with answers of our own: written by the job's own code, without a run."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa

from job import identity, manifest
from job.disk import json_text
from job.layout import MANIFEST, data_path
from job.records import ANSWERED, Completion, FinishReason, ResultRow, Source
from job.results import result_columns, write_data
from job.settings import Settings
from job.shards import Shard

COMMIT = "a" * 40
_TABLE_ROWS = 512


@dataclass(frozen=True, slots=True)
class Answer:
    """A sample of a row; its tokens are its words, unless they are given."""

    text: str | None
    reason: FinishReason = "stop"
    tokens: int | None = None

    def completion(self, position: int, sample: int) -> Completion:
        words = len((self.text or "").split())
        return Completion(position, sample, self.text, self.reason, words if self.tokens is None else self.tokens)


@dataclass(frozen=True, slots=True)
class Made:
    """What a run is to be like. settings: environment variables, beside those of model and dataset."""

    model: str = "org/model-a"
    dataset_commit: str = COMMIT
    settings: Mapping[str, object] = field(default_factory=dict)
    generated_rows: int | None = None


def write_results(
    folder: Path,
    rows: Iterable[tuple[Mapping[str, object], Sequence[Answer]]],
    made: Made = Made(),
) -> Path:
    """Write a results folder of these rows: source columns (text, `instruction` among them) and samples of each."""
    environ = {"MODEL_ID": made.model, "DATASET_ID": "org/data", "PUSH_TO_HUB": "false"}
    settings = Settings.from_env(environ | {name: str(value) for name, value in made.settings.items()})
    model, dataset = Source(made.model, COMMIT, local=False), Source("org/data", made.dataset_commit, local=False)
    template = {"template": settings.prompt.prompt_template, "text": "{instruction}"}
    who = identity.describe(settings, model, dataset, template, {"name": "echo", "version": "1"})
    samples, path = settings.sampling.num_samples, data_path("default", settings.data.dataset_split, Shard(0, 1))
    ahead = iter(rows)
    first = next(ahead)
    source = pa.schema({name: pa.string() for name in first[0]})
    tables, finished = _Feed(chain([first], ahead), source).streams()
    schema = pa.schema([*source, *result_columns(samples)])
    written = write_data(folder, path, schema, tables, finished, seed=0, num_samples=samples)
    described = manifest.build(
        identity=who,
        model=model,
        adapter=None,
        dataset=dataset,
        tally=written.tally,
        generated_rows=written.tally.rows if made.generated_rows is None else made.generated_rows,
        files=[written.file],
        seconds={"plan": 1.5, "prompts": 2.0, "engine_start": 30.0, "engine_start.weights": 12.0, "generation": 60.0},
        engine={"name": "echo", "version": "1", "device": "NVIDIA H100", "dtype": "bfloat16"},
        image=None,
    )
    (folder / "identity.json").write_text(who.as_json(), encoding="utf-8")
    (folder / MANIFEST).write_text(json_text(described), encoding="utf-8")
    return folder


def change_manifest(folder: Path, **values: object) -> None:
    """Put other values into run.json, by their names."""
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


class _Feed:
    """Gives the source's tables and the rows of each, so that a large set is never in memory as a whole."""

    def __init__(self, rows: Iterator[tuple[Mapping[str, object], Sequence[Answer]]], schema: pa.Schema) -> None:
        self._rows = rows
        self._schema = schema
        self._finished: list[ResultRow] = []
        self._position = 0

    def streams(self) -> tuple[Iterator[pa.Table], Iterator[ResultRow]]:
        return self._tables(), self._results()

    def _tables(self) -> Iterator[pa.Table]:
        while batch := list(islice(self._rows, _TABLE_ROWS)):
            self._finished = [self._result(columns, answers) for columns, answers in batch]
            yield pa.Table.from_pylist([dict(columns) for columns, _ in batch], schema=self._schema)

    def _results(self) -> Iterator[ResultRow]:
        while self._finished:
            yield self._finished.pop(0)

    def _result(self, columns: Mapping[str, object], answers: Sequence[Answer]) -> ResultRow:
        position, prompt = self._position, f"### Instruction:\n{columns['instruction']}\n\n### Response:\n"
        self._position += 1
        done = tuple(answer.completion(position, sample) for sample, answer in enumerate(answers))
        assert all((each.text is not None) == (each.finish_reason in ANSWERED) for each in done)
        return ResultRow(position, prompt, len(prompt.split()), done)
