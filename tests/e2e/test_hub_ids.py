"""Everything by its name on the Hub: model, dataset and results, through real vLLM and the real clients over sockets."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import BESIDE_ANOTHER, QUESTIONS
from tests.hub_server import HubServer, Repository
from tests.reproducing import carry_out, command_in
from tests.support import Outcome, environment, parquet_bytes, read_table, results_folder, run_job

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

TOKEN = "hf_only_of_the_test_hub"
NEVER_SAID = '["\\n\\n\\"it\'s\\" $HOME `x`", "```|", "<!-- \u202e -->"]'
LOAD = """
import json, sys
from datasets import load_dataset
print(json.dumps(load_dataset(sys.argv[1], split="test", revision=sys.argv[2]).to_list()))
"""


@dataclass(frozen=True, slots=True)
class HubRun:
    """A run by Hub ids, and the Hub after it. `variables` are the client's, with a cache that is warm now."""

    hub: HubServer
    model: Repository
    variables: Mapping[str, object]
    outcome: Outcome
    folder: Path

    @property
    def results(self) -> Repository:
        return self.hub.repo("dataset", "ana/smol-results")


@pytest.fixture(scope="module")
def hub_run(model: Path, greedy_settings: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubRun]:
    output = tmp_path_factory.mktemp("by-id")
    with HubServer(part_size=64 * 2**20) as hub:
        hub.add_user("ana", token=TOKEN)
        repo = hub.add_repo("model", "ana/smol", folder=model, private=True)
        rows = Path(str(greedy_settings["DATASET_ID"])).read_text(encoding="utf-8")
        hub.add_repo("dataset", "ana/questions", files={"test.jsonl": rows}, private=True)
        ids = {"MODEL_ID": "ana/smol", "DATASET_ID": "ana/questions", "HUB_NAMESPACE": "ana", "OUTPUT_DIR": output}
        variables = greedy_settings | ids | {"STOP": NEVER_SAID, "CANARY": "false"} | hub.environment(TOKEN)
        outcome = run_job(**variables)
        assert outcome.code == 0, outcome.last
        yield HubRun(hub, repo, variables, outcome, results_folder(output))


def test_the_answers_are_those_of_the_same_files_on_this_machine(hub_run: HubRun, greedy_folder: Path) -> None:
    by_id, local = read_table(hub_run.folder), read_table(greedy_folder)
    assert by_id["instruction"].to_pylist() == QUESTIONS
    assert by_id.to_pylist() == local.to_pylist()


def test_published_is_what_lies_in_the_folder(hub_run: HubRun) -> None:
    files = hub_run.results.files()
    plot = "images/default/test-lengths.png"
    assert set(files) == {".gitattributes", "README.md", "run.json", "data/test-00000-of-00001.parquet", plot}
    assert files[plot] == (hub_run.folder / plot).read_bytes()
    assert files["data/test-00000-of-00001.parquet"] == parquet_bytes(hub_run.folder)
    assert files["run.json"] == (hub_run.folder / "run.json").read_bytes()
    assert hub_run.results.private
    assert [commit.title for commit in hub_run.results.history()] == [
        f"Answers of run {hub_run.folder.name}",
        "initial commit",
    ]
    assert hub_run.outcome.last["commit"] == hub_run.results.head()


def test_loaded_back_from_the_hub_the_rows_are_equal(hub_run: HubRun) -> None:
    variables = environment(**hub_run.hub.environment(TOKEN))
    command = [sys.executable, "-c", LOAD, "ana/smol-results", hub_run.results.head()]
    loaded = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(loaded.stdout) == read_table(hub_run.folder).to_pylist()


def test_the_commits_of_model_and_dataset_are_recorded(hub_run: HubRun) -> None:
    manifest: dict[str, Any] = json.loads((hub_run.folder / "run.json").read_text(encoding="utf-8"))
    data = hub_run.hub.repo("dataset", "ana/questions").head()
    assert manifest["model"] == {"name": "ana/smol", "commit": hub_run.model.head(), "local": False}
    assert manifest["dataset"] == {"name": "ana/questions", "commit": data, "local": False}
    facts = manifest["identity"]["facts"]
    assert facts["model"] == {"id": "ana/smol", "commit": hub_run.model.head()}
    card = hub_run.results.files()["README.md"].decode()
    assert f"| model | `ana/smol` at `{hub_run.model.head()}` |" in card
    assert f"| dataset | `ana/questions` at `{data}`, split `test` |" in card


def test_the_command_on_the_card_makes_the_same_bytes(hub_run: HubRun, tmp_path: Path) -> None:
    """As somebody else would: in another folder, with an empty cache."""
    command = command_in(hub_run.results.files()["README.md"].decode())
    mine = {**hub_run.hub.environment(TOKEN), **BESIDE_ANOTHER, "CANARY": "false"}
    again = carry_out(command, tmp_path / "elsewhere", **mine)
    assert again.code == 0, again.events[-1]
    assert again.events[-1]["generated_rows"] == len(QUESTIONS)
    assert again.folder.name == hub_run.folder.name
    assert parquet_bytes(again.folder) == hub_run.results.files()["data/test-00000-of-00001.parquet"]


def test_on_a_cpu_seconds_are_counted_and_no_gpu(hub_run: HubRun) -> None:
    manifest: dict[str, Any] = json.loads((hub_run.folder / "run.json").read_text(encoding="utf-8"))
    assert manifest["engine"]["gpus"] == 0
    assert (manifest["budget"]["processes"], manifest["budget"]["gpu_seconds"]) == (1, 0)
    assert manifest["budget"]["seconds"] > manifest["seconds"]["engine_start"] + manifest["seconds"]["generation"]


@pytest.fixture(scope="module")
def pinned_run(hub_run: HubRun) -> tuple[Outcome, list[str]]:
    """The model at its commit, with another answer to how much is promised; and the paths that were asked for."""
    before = len(hub_run.hub.requests)
    pinned = {"MODEL_REVISION": hub_run.model.head(), "MAX_TOKENS": 4, "PUSH_TO_HUB": "false"}
    outcome = run_job(**{**hub_run.variables, **pinned, "REPRODUCIBILITY": "seeded", "CANARY": "true"})
    assert outcome.code == 0, outcome.last
    return outcome, [seen.path for seen in hub_run.hub.requests[before:]]


def test_a_pinned_model_that_is_in_the_cache_needs_no_request(pinned_run: tuple[Outcome, list[str]]) -> None:
    outcome, asked = pinned_run
    assert outcome.of("engine_ready")
    assert outcome.last["generated_rows"] == len(QUESTIONS)
    assert asked
    assert not [path for path in asked if "ana/smol" in path]


def test_where_no_bytes_are_promised_the_canary_counts(pinned_run: tuple[Outcome, list[str]]) -> None:
    outcome, _ = pinned_run
    engine = json.loads((Path(outcome.last["results"]) / "run.json").read_text(encoding="utf-8"))["engine"]
    assert engine["dtype"] == "bfloat16"
    assert engine["canary"]["judged"] == 8
    assert 0 <= engine["canary"]["differing"] <= 8
    assert outcome.of("canary_answered")[0]["differing"] == engine["canary"]["differing"]
