"""The canary in a whole run: what it stops, what it records, and all that it leaves alone."""

import json
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from job import pipeline
from job.effects import Effects
from job.errors import EngineError, SettingsError
from job.records import Completion, Request, RunSummary
from job.settings import Settings
from job.shutdown import StopSignal
from tests.integration.moody import Mood, moody, saying, shy, steady
from tests.support import ECHO, finished_rows, results_folder, run_job, running, write_jsonl

PROMPTS, IN_COMPANY = 8, 128


def answer(variables: Mapping[str, object], mood: Mood = steady, fed: list[Request] | None = None) -> RunSummary:
    """A run in this process."""
    settings = Settings.from_env({name: str(value) for name, value in variables.items()})
    choose = moody(mood, [] if fed is None else fed)
    return pipeline.run(settings, Effects(StopSignal(), choose, bind_log=lambda **_: None))


@pytest.fixture
def variables(three_rows: Path, output: Path) -> dict[str, object]:
    return {**ECHO, "DATASET_ID": three_rows, "OUTPUT_DIR": output, "REPRODUCIBILITY": "bitwise"}


def manifest(output: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((results_folder(output) / "run.json").read_text(encoding="utf-8"))
    return facts


def test_rows_follow_where_no_answer_changed_and_nothing_of_it_is_among_them(
    variables: dict[str, object], output: Path
) -> None:
    fed: list[Request] = []
    with capture_logs() as logs:
        summary = answer(variables, fed=fed)
    events = [line["event"] for line in logs]
    assert events[events.index("engine_starting") :][:3] == ["engine_starting", "canary_answered", "engine_ready"]
    sung = logs[events.index("canary_answered")]
    assert (sung["judged"], sung["differing"]) == (PROMPTS, 0)
    assert [request.position for request in fed[PROMPTS + IN_COMPANY :]] == [0, 1, 2]
    assert {request.max_tokens for request in fed[: PROMPTS + IN_COMPANY]} == {16}
    assert sorted(finished_rows(output)) == [0, 1, 2]
    assert (summary.tally.rows, summary.generated_rows) == (3, 3)
    assert [line["rows_done"] for line in logs if line["event"] == "progress"][-1] == 3
    found = manifest(output)
    record = found["engine"]["canary"]
    assert (record["prompts"], record["judged"], record["differing"], record["in_company"]) == (8, 8, 0, 128)
    assert json.loads((results_folder(output) / "engine.json").read_text()) == found["engine"]
    assert found["seconds"]["canary"] == summary.seconds["canary"] == sung["seconds"]
    assert found["counts"]["rows"] == 3


def test_a_promise_that_is_not_kept_ends_the_run_before_its_rows(variables: dict[str, object], output: Path) -> None:
    fed: list[Request] = []
    with pytest.raises(EngineError) as caught:
        answer(variables, shy, fed)
    assert caught.value.exit_code == 70
    message = caught.value.message
    assert message.startswith("REPRODUCIBILITY=bitwise is not kept here: 8 of 8 fixed prompts got another answer in company")
    assert (
        "Take REPRODUCIBILITY=seeded, which does not promise it, or report this with: name echo, version 1, device" in message
    )
    assert message.endswith(f"0 of 3 rows are safe in {results_folder(output)}.")
    assert len(fed) == PROMPTS + IN_COMPANY
    assert finished_rows(output) == {}
    assert not (results_folder(output) / "engine.json").exists()


def test_rows_that_are_finished_stay_when_a_later_engine_does_not_keep_it(variables: dict[str, object], output: Path) -> None:
    answer({**variables, "MAX_ROWS": 2})
    before, facts = finished_rows(output), (results_folder(output) / "engine.json").read_bytes()
    with pytest.raises(EngineError) as caught:
        answer(variables, shy)
    assert caught.value.message.endswith(f"2 of 3 rows are safe in {results_folder(output)}.")
    assert finished_rows(output) == before
    assert (results_folder(output) / "engine.json").read_bytes() == facts
    assert answer(variables).generated_rows == 1


def test_where_nothing_is_promised_it_is_counted_and_said(variables: dict[str, object], output: Path) -> None:
    with capture_logs() as logs:
        answer({**variables, "REPRODUCIBILITY": "seeded"}, shy)
    (sung,) = (line for line in logs if line["event"] == "canary_answered")
    assert (sung["log_level"], sung["judged"], sung["differing"]) == ("info", 8, 8)
    (alarm,) = (line for line in logs if line["event"] == "canary_alarming")
    assert (alarm["log_level"], alarm["alone"]) == ("warning", f"{alarm['in_company']} (alone)")
    assert "ENFORCE_EAGER=true" in alarm["remedy"]
    assert manifest(output)["engine"]["canary"]["differing"] == 8
    card = (results_folder(output) / "README.md").read_text(encoding="utf-8")
    assert "| canary | 8 of 8 fixed prompts got another answer in company than alone, within 16 tokens: so do some" in card
    assert sorted(finished_rows(output)) == [0, 1, 2]


def rounding(completion: Completion, in_flight: int) -> Completion:
    """Half of the prompts get other answers alone."""
    return shy(completion, in_flight) if completion.position >= -4 else completion


def test_as_many_changes_as_rounding_may_make_are_no_alarm(variables: dict[str, object]) -> None:
    with capture_logs() as logs:
        answer({**variables, "REPRODUCIBILITY": "seeded"}, rounding)
    (sung,) = (line for line in logs if line["event"] == "canary_answered")
    assert sung["differing"] == 4
    assert "canary_alarming" not in [line["event"] for line in logs]


def not_answering(completion: Completion, _in_flight: int) -> Completion:
    """The prompts of the canary, but for its first three."""
    return completion if completion.position >= -3 else replace(completion, text=None, finish_reason="error", error="no room")


@pytest.mark.parametrize("level", ["bitwise", "seeded"])
def test_prompts_without_an_answer_stop_nothing(level: str, variables: dict[str, object], output: Path) -> None:
    with capture_logs() as logs:
        answer({**variables, "REPRODUCIBILITY": level}, not_answering)
    (warning,) = (line for line in logs if line["event"] == "canary_not_judged")
    assert (warning["log_level"], warning["prompts"], warning["error"]) == ("warning", 5, "no room")
    record = manifest(output)["engine"]["canary"]
    assert (record["judged"], record["differing"], record["answered"]) == (3, 0, None)
    assert len(finished_rows(output)) == 3


@pytest.mark.parametrize("level", ["bitwise", "seeded"])
def test_a_run_goes_on_only_where_the_canary_sings_as_before(level: str, variables: dict[str, object], output: Path) -> None:
    run = {**variables, "REPRODUCIBILITY": level}
    answer({**run, "MAX_ROWS": 2})
    if level == "seeded":
        assert answer(run, saying("!")).generated_rows == 1
        return
    with pytest.raises(SettingsError) as caught:
        answer(run, saying("!"))
    assert caught.value.message.startswith(
        "REPRODUCIBILITY='bitwise': the rows that are finished were answered by an engine that gave other answers to the "
        "canary's prompts than this one. Go on there, begin anew in another OUTPUT_DIR, or take REPRODUCIBILITY=seeded"
    )
    assert len(finished_rows(output)) == 2
    assert answer(run).generated_rows == 1


@pytest.mark.parametrize("earlier", [None, "chirp", {"answered": "0" * 64}])
def test_an_earlier_engine_of_which_nothing_is_known_is_taken_for_the_same(
    earlier: object, variables: dict[str, object], output: Path
) -> None:
    answer({**variables, "MAX_ROWS": 2})
    path = results_folder(output) / "engine.json"
    facts = json.loads(path.read_text())
    del facts["canary"]
    path.write_text(json.dumps(facts if earlier is None else {**facts, "canary": earlier}))
    assert answer(variables, saying("!")).generated_rows == 1


def test_shards_whose_canaries_sing_differently_are_not_joined(variables: dict[str, object], output: Path) -> None:
    def shard(index: int, words: str, level: str) -> RunSummary:
        run = {**variables, "REPRODUCIBILITY": level, "SHARD_INDEX": index, "SHARD_COUNT": 3}
        return answer(run, saying(words))

    for level in ("seeded", "bitwise"):
        shard(0, "", level)
        shard(1, "!", level)
        if level == "seeded":
            assert not shard(2, "", level).missing_shards
    with pytest.raises(SettingsError, match="shards 0 and 1 gave different answers to the canary's prompts"):
        shard(2, "", "bitwise")


def test_it_may_be_left_out(variables: dict[str, object], output: Path) -> None:
    fed: list[Request] = []
    answer({**variables, "CANARY": "false"}, shy, fed)
    assert [request.position for request in fed] == [0, 1, 2]
    assert "canary" not in manifest(output)["engine"]
    assert "canary" not in manifest(output)["seconds"]
    assert "| canary |" not in (results_folder(output) / "README.md").read_text(encoding="utf-8")
    with_it = answer(variables)
    assert with_it.folder == results_folder(output), "it is part of the identity"
    assert "canary" not in with_it.seconds, "nothing was left to be answered"


def dying(completion: Completion, in_flight: int) -> Completion:
    if in_flight > 1:
        raise EngineError("vLLM died: it was killed. The same command goes on.")
    return completion


def test_an_engine_that_dies_of_it_ends_the_run_as_ever(variables: dict[str, object], output: Path) -> None:
    answer({**variables, "MAX_ROWS": 2})
    with pytest.raises(EngineError) as caught:
        answer(variables, dying)
    safe = f"2 of 3 rows are safe in {results_folder(output)}."
    assert caught.value.message == f"vLLM died: it was killed. The same command goes on. {safe}"
    assert len(finished_rows(output)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_at_once(number: signal.Signals, three_rows: Path, tmp_path: Path, output: Path) -> None:
    slow = {"ENGINE_ARGS": '{"delay_seconds": 600}', "MAX_TOKENS": 16, "SHUTDOWN_GRACE_SECONDS": 60}
    variables = {**ECHO, "DATASET_ID": three_rows, "OUTPUT_DIR": output, **slow}
    with running(tmp_path / "log", variables) as job:
        job.event("engine_starting")
        with pytest.raises(AssertionError, match="nothing after"):
            job.event("canary_answered", 0.3)
        job.process.send_signal(number)
        stopped = job.end(20)
    assert stopped.code == stopped.last["exit_code"] == 75
    assert stopped.last["message"] == (
        f"stopped by {number.name}: 0 of 3 rows are safe in {results_folder(output)}. Run the same command again to go on."
    )
    assert stopped.stderr == ""
    assert finished_rows(output) == {}


@pytest.mark.slow
def test_a_complete_run_and_a_rehearsal_have_none(three_rows: Path, output: Path, tmp_path: Path) -> None:
    variables = {**ECHO, "DATASET_ID": three_rows, "OUTPUT_DIR": output}
    assert run_job(**variables).of("canary_answered")
    assert not run_job(**variables).of("canary_answered")
    other = write_jsonl(tmp_path / "other.jsonl", [{"instruction": "Count."}])
    assert not run_job(**{**variables, "DATASET_ID": other}, DRY_RUN="true").of("canary_answered")
