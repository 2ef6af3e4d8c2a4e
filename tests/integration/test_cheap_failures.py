"""What is wrong with the names and rights that a run needs is found before a model is loaded, within seconds."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.hub_server import HubServer, Repository
from tests.integration.publishing import TOKEN
from tests.support import Outcome, run_job

pytestmark = pytest.mark.slow

MODEL: dict[str, str | bytes] = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": b"weights" * 100}
ROWS = "".join(json.dumps({"instruction": text}) + "\n" for text in ("Say hello.", "Count to three."))
LIMIT_SECONDS = 10.0

CASES: dict[str, tuple[int, Mapping[str, object], str]] = {
    "a wrong column": (65, {"INSTRUCTION_COLUMN": "question"}, "INSTRUCTION_COLUMN=question: no such column"),
    "a read-only token": (77, {"HF_TOKEN": "hf_read"}, "ana/m-results: the account ana may not write there with this HF_TOKEN"),
    "a missing model": (78, {"MODEL_ID": "ana/none"}, "MODEL_ID='ana/none': no model of this name on the Hub"),
    "a missing dataset": (78, {"DATASET_ID": "ana/none"}, "DATASET_ID='ana/none': no dataset of this name on the Hub"),
    "a gated model": (77, {"MODEL_ID": "bo/gated"}, "MODEL_ID=bo/gated: is gated. Accept its terms on its page"),
    "a public repository": (77, {"HUB_REPO_ID": "ana/public"}, "ana/public is public, and HUB_PRIVATE=true"),
}


@pytest.fixture
def repositories(hub: HubServer) -> list[Repository]:
    hub.add_token("ana", "hf_read", "read")
    return [
        hub.add_repo("model", "ana/m", files=MODEL),
        hub.add_repo("model", "bo/gated", files=MODEL, gated="manual"),
        hub.add_repo("dataset", "ana/d", files={"test.jsonl": ROWS}),
        hub.add_repo("dataset", "ana/public"),
    ]


def run_on(hub: HubServer, output: Path, variables: Mapping[str, object]) -> Outcome:
    names = {"MODEL_ID": "ana/m", "DATASET_ID": "ana/d", "HUB_NAMESPACE": "ana", "OUTPUT_DIR": output}
    return run_job(**{**names, **hub.environment(TOKEN), **variables})


@pytest.mark.parametrize("case", CASES)
def test_it_is_found_before_the_model_is_loaded(
    hub: HubServer, repositories: list[Repository], output: Path, case: str
) -> None:
    code, variables, message = CASES[case]
    heads = [repository.head() for repository in repositories]
    outcome = run_on(hub, output, variables)
    assert outcome.code == code
    assert message in outcome.last["message"]
    assert outcome.stderr == ""
    assert not outcome.of("engine_starting")
    assert not hub.seen("GET", "/objects/")
    assert {seen.method for seen in hub.requests} <= {"GET", "HEAD"}
    assert [repository.head() for repository in repositories] == heads
    assert outcome.seconds < LIMIT_SECONDS
