"""What docs/hub.md tells people to run, run: its commands through make and a shell, its Python against published results."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import HubServer
from tests.support import ECHO, ROOT, environment, run_job, typed

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
TOKEN = "hf_only_of_the_test_hub"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def _shell(commands: str, **variables: object) -> str:
    """With the token in the place of the dots."""
    return typed(commands.replace("hf_...", TOKEN), **variables)


@pytest.fixture
def hub() -> HubServer:
    return HubServer()


def test_the_commands_publish_and_rehearse(hub: HubServer, three_rows: Path, output: Path) -> None:
    publish, rehearse = _blocks("bash")
    with hub:
        hub.add_user("my-name", token=TOKEN)
        client = hub.environment()
        client.pop("HF_TOKEN")
        settings = {**ECHO, **client, "DATASET_ID": three_rows, "OUTPUT_DIR": output}
        assert "Q: " in _shell(publish, **settings)
        assert len(hub.repo("dataset", "my-name/echo-model-results").history()) == 2
        shown = _shell(rehearse, **settings, HF_TOKEN=TOKEN, SEED=1)
        assert "Q: " not in shown
        assert [json.loads(line)["event"] for line in shown.splitlines()][-2:] == ["dry_run", "run_finished"]
        assert len(hub.repo("dataset", "my-name/echo-model-results").history()) == 2


def test_the_evaluation_step_sees_the_answers_side_by_side(hub: HubServer, three_rows: Path, output: Path) -> None:
    (step,) = _blocks("python")
    with hub:
        hub.add_user("my-name", token=TOKEN)
        settings = {"ENGINE": "echo", "DATASET_ID": three_rows, "OUTPUT_DIR": output, "HUB_NAMESPACE": "my-name"}
        settings |= hub.environment(TOKEN)
        for model in ("TwinLlama-3.1-8B", "TwinLlama-3.1-8B-DPO"):
            assert run_job(**settings, MODEL_ID=f"mlabonne/{model}").code == 0
        done = subprocess.run(
            [sys.executable, "-c", step], env=environment(**settings), capture_output=True, text=True, check=True, timeout=120
        )
    assert "Count to three.\n  TwinLlama-3.1-8B: [" in done.stdout
    assert done.stdout.count("  TwinLlama-3.1-8B-DPO: [") == 3
