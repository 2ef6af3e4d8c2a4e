"""DRY_RUN through the real process: everything is checked and estimated, and nothing is done."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.hub_server import HubServer
from tests.integration.publishing import TOKEN
from tests.support import ECHO, Outcome, finished_rows, parquet_bytes, results_folder, run_job, start_job, write_jsonl

pytestmark = pytest.mark.slow

INSTRUCTIONS = ["Say hello.", "Count to three, slowly and in French.", "Name a colour. " * 20]
ROWS = [{"instruction": text, "id": number} for number, text in enumerate(INSTRUCTIONS)]
PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nSay hello.\n\n### Response:\n"
)
WORK = {"engine_starting", "engine_ready", "progress", "results_written", "published"}


def tokens_of(instruction: str) -> int:
    """The echo engine's tokens of a prompt: four bytes each."""
    return -(-len(PROMPT.replace("Say hello.", instruction).encode()) // 4)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "rows.jsonl", ROWS)


@pytest.fixture
def run(rows: Path, output: Path) -> Callable[..., Outcome]:
    def run_with(**variables: object) -> Outcome:
        return run_job(**{**ECHO, "DATASET_ID": rows, "OUTPUT_DIR": output, **variables})

    return run_with


def dry_run(outcome: Outcome) -> Mapping[str, object]:
    (event,) = outcome.of("dry_run")
    return event


def results(folder: Path) -> dict[str, bytes]:
    """What was written at the end of a run."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} | {"data": parquet_bytes(folder)}


def test_what_a_run_would_be_is_told_and_nothing_of_it_done(run: Callable[..., Outcome], output: Path) -> None:
    outcome = run(DRY_RUN="true", MAX_TOKENS=50, MAX_FAILED_ROWS=1)
    assert outcome.code == 0
    assert outcome.stderr == ""
    lengths = [tokens_of(text) for text in INSTRUCTIONS]
    told = dry_run(outcome)
    assert told["prompt"] == PROMPT
    assert (told["rows"], told["failed_rows"], told["prompt_tokens"]) == (3, 0, sum(lengths))
    assert told["most_completion_tokens"] == 150
    assert told["likely_completion_tokens"] is told["likely_generation_seconds"] is None
    (preflight,) = outcome.of("preflight_passed")
    assert preflight["prompt_tokens"] == {"<=64": 2, "<=128": 1}
    assert outcome.last["event"] == "run_finished"
    assert (outcome.last["exit_code"], outcome.last["dry_run"]) == (0, True)
    assert not WORK & {event["event"] for event in outcome.events}
    assert finished_rows(output) == {}
    assert not list(output.rglob("*.parquet"))
    assert not list(output.rglob("run.json"))
    assert not list(output.rglob("latest"))


def test_nothing_on_the_hub_changes(hub: HubServer, output: Path) -> None:
    data = hub.add_repo("dataset", "ana/d", files={"test.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS)})
    before = data.history()
    target = {"DATASET_ID": "ana/d", "OUTPUT_DIR": output, "HUB_NAMESPACE": "ana"}
    outcome = run_job(**ECHO, **target, **hub.environment(TOKEN), DRY_RUN="true")
    assert outcome.code == 0
    assert dry_run(outcome)["rows"] == 3
    assert outcome.of("commits_resolved")[0]["dataset_commit"] == data.head()
    assert {seen.method for seen in hub.requests} == {"GET", "HEAD"}
    assert data.history() == before
    with pytest.raises(KeyError):
        hub.repo("dataset", "ana/echo-model-results")


def test_an_earlier_run_of_the_model_tells_what_is_likely(run: Callable[..., Outcome], output: Path) -> None:
    done = run(ENGINE_ARGS='{"delay_seconds": 0.05}')
    assert done.code == 0
    facts = json.loads((results_folder(output) / "run.json").read_text())
    tokens, seconds = facts["counts"]["completion_tokens"], facts["seconds"]["generation"]
    told = dry_run(run(DRY_RUN="true", SEED=1))
    assert told["rows"] == 3
    assert told["likely_completion_tokens"] == tokens
    assert told["likely_generation_seconds"] == pytest.approx(seconds, abs=0.06)


def test_of_a_finished_run_there_is_nothing_to_do(run: Callable[..., Outcome], output: Path) -> None:
    run()
    folder = results_folder(output)
    before, answers = results(folder), finished_rows(output)
    told = dry_run(outcome := run(DRY_RUN="true"))
    assert outcome.code == 0
    assert (told["rows"], told["prompt"], told["prompt_tokens"], told["most_completion_tokens"]) == (0, None, 0, 0)
    assert outcome.of("resume_found")[0]["rows_done"] == 3
    assert (results(folder), finished_rows(output)) == (before, answers)


def test_of_a_run_that_was_begun_the_rest_is_told(run: Callable[..., Outcome], output: Path) -> None:
    begun = run(ENGINE_ARGS='{"fail_every": 3}')
    assert begun.code == 65
    told = dry_run(run(DRY_RUN="true", ENGINE_ARGS='{"fail_every": 3}'))
    assert (told["rows"], told["prompt_tokens"]) == (1, tokens_of(INSTRUCTIONS[2]))


FAILURES: dict[str, tuple[int, Mapping[str, object]]] = {
    "column": (65, {"INSTRUCTION_COLUMN": "question"}),
    "prompts that are too long": (65, {"MAX_MODEL_LEN": 60}),
    "read-only token": (77, {"HUB_NAMESPACE": "ana", "HF_TOKEN": "hf_read"}),
    "dataset on the Hub": (78, {"DATASET_ID": "ana/none"}),
    "model on the Hub": (78, {"ENGINE": "vllm", "MODEL_ID": "ana/none"}),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_would_fail_fails_in_the_same_words(hub: HubServer, run: Callable[..., Outcome], output: Path, case: str) -> None:
    hub.add_token("ana", "hf_read", "read")
    code, variables = FAILURES[case]
    environment = {**hub.environment(TOKEN), **variables}
    dry, real = run(**environment, DRY_RUN="true"), run(**environment)
    assert dry.code == real.code == code
    assert dry.last["message"] == real.last["message"]
    assert not dry.of("dry_run")
    assert not WORK & {event["event"] for event in [*dry.events, *real.events]}


def test_it_can_be_read_on_a_console(rows: Path, output: Path) -> None:
    variables = {**ECHO, "DATASET_ID": rows, "OUTPUT_DIR": output, "DRY_RUN": "true", "LOG_FORMAT": "console"}
    with start_job(**variables) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    names = [line.split("]", 1)[1].split()[0] for line in lines]
    assert names == [
        "settings_loaded",
        "dataset_loaded",
        "commits_resolved",
        "planned",
        "preflight_passed",
        "dry_run",
        "run_finished",
    ]
    assert "prompt_tokens='<=64 2, <=128 1'" in lines[4]
    assert "rows=3" in lines[5]
    assert "Say hello." in lines[5]
    assert "\x1b" not in out
    assert not out.startswith("{")
