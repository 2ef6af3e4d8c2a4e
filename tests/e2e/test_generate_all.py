"""`make generate-all` with real vLLM, and models that come from a Hub."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ENGINE, QUESTIONS
from tests.hub_server import HubServer
from tests.integration.loops import looping
from tests.support import write_jsonl

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(600)]

TOKEN = "hf_only_of_the_test_hub"
WEIGHTS = "/objects/models/ana/"


def events(output: Path, name: str) -> list[dict[str, Any]]:
    lines = (output / "logs" / f"{name}.log").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_next_model_is_downloaded_while_one_generates(model: Path, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "questions.jsonl", [{"instruction": text} for text in QUESTIONS])
    with HubServer(part_size=64 * 2**20) as hub:
        hub.add_user("ana", token=TOKEN)
        for name in ("one", "two"):
            hub.add_repo("model", f"ana/{name}", folder=model, files={"NAME": name})
        variables = {
            **ENGINE,
            **hub.environment(TOKEN),
            "MODEL_IDS": "ana/one ana/two",
            "RUNNER": "process",
            "DATASET_ID": rows,
            "OUTPUT_DIR": tmp_path / "results",
            "PROMPT_TEMPLATE": "chat",
            "TEMPERATURE": 0,
            "MAX_TOKENS": 128,
            "PROGRESS_SECONDS": 0,
            "CANARY": "false",
        }
        with looping(variables) as loop:
            loop.says("one  generates")
            loop.says("two  is being downloaded")
            loop.says("one  ended with 0")
            loop.says("two  starts")
            fetched = len(hub.seen("GET", f"{WEIGHTS}two"))
            loop.says("two  loads the model")
            loop.process.send_signal(signal.SIGTERM)
            ended = loop.end()
        assert len(hub.seen("GET", f"{WEIGHTS}two")) == fetched > 0
    assert (ended.code, ended.codes) == (75, [0, 75])
    first, second = events(loop.output, "one"), events(loop.output, "two")
    (generating,) = (event for event in first if event["event"] == "engine_ready")
    assert generating["timestamp"] < second[0]["timestamp"] < first[-1]["timestamp"]
    (download,) = (event for event in second if event["event"] == "files_fetched")
    assert download["bytes"] > 200_000_000
    needed = [event["bytes_to_download"] for event in second if event["event"] == "files_checked"]
    assert needed == [pytest.approx(download["bytes"], abs=1000), 0], "the model's own run found all of it in the cache"
