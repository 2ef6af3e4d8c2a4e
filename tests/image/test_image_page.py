"""docs/image.md: its commands that run containers are run, with podman as docker, on a Hub of the tests, without a GPU."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from scripts.image_name import image_name
from tests.e2e.conftest import ENGINE, MODEL, QUESTIONS
from tests.hub_server import HubServer
from tests.image.podman import STRANGER, Image, folder_for, podman
from tests.support import ROOT, parquet_bytes, read_table, results_folder

pytestmark = [pytest.mark.slow, pytest.mark.image, pytest.mark.timeout(900)]
PAGE = (ROOT / "docs" / "image.md").read_text(encoding="utf-8")
NAME, DATASET = "mlabonne/TwinLlama-3.1-8B", "mlabonne/llmtwin"
QUICK = {**ENGINE, "PROMPT_TEMPLATE": "chat", "TEMPERATURE": 0, "MAX_TOKENS": 8}
# podman, with what this machine has in the place of what the page asks for: no GPU, another name, a Hub of its own.
DOCKER = """\
#!{python}
import os, sys
words = sys.argv[1:]
if "--gpus" in words:
    del words[words.index("--gpus"):words.index("--gpus") + 2]
more = [] if "--network" in words else ["--network=host"]
more += ["--read-only-tmpfs=false"] if words[0] == "run" else []
at = words.index({name!r}) if {name!r} in words else len(words)
words[at:at + 1] = [*(more + {options!r} if words[0] == "run" else []), {image!r}]
os.execvp("podman", ["podman", *(words if {name!r} in sys.argv else sys.argv[1:])])
"""


def blocks(heading: str) -> str:
    """The commands of a section."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "".join(re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL))


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """Where the page's model is a small one, and both it and the dataset want the page's token."""
    rows = "".join(json.dumps({"instruction": text}) + "\n" for text in QUESTIONS[:3])
    with HubServer() as hub:
        hub.add_user("mlabonne", token="hf_...")
        hub.add_repo("model", NAME, folder=MODEL, private=True)
        hub.add_repo("dataset", DATASET, files={"test.jsonl": rows}, private=True)
        yield hub


@pytest.fixture
def page(image: Image, hub: HubServer, shared: Path) -> Iterator[Mapping[str, str]]:
    """An environment in which `docker` is podman, and the caller is a user without rights."""
    variables = {**QUICK, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": 1, "LOG_FORMAT": "json"}
    options = [f"--env={name}={value}" for name, value in variables.items()]
    folder = shared / "bin"
    folder.mkdir()
    docker = DOCKER.format(python=sys.executable, name=image_name({}), image=image.name, options=options)
    for name, text in {"docker": docker, "id": f"#!/bin/sh\necho {STRANGER}\n"}.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    for name in ("results", "cache"):
        folder_for(STRANGER, shared / name)
    commits = {"MODEL_COMMIT": hub.repo("model", NAME).head(), "DATASET_COMMIT": hub.repo("dataset", DATASET).head()}
    yield {**os.environ, **commits, "PATH": f"{folder}:{os.environ['PATH']}"}
    podman("volume", "rm", "--force", "answers-cache")


def ran(script: str, environ: Mapping[str, str], folder: Path) -> str:
    """What the last container logged."""
    command = ["bash", "-c", f"set -euxo pipefail\n{script}"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_page_shows_every_way_to_run_it() -> None:
    assert "--gpus all" in blocks("Running")
    assert blocks("Without a network").count("docker run") == 3


def test_commands_of_the_page_answer_a_dataset_of_the_hub(page: Mapping[str, str], shared: Path) -> None:
    ran(blocks("Running"), page, shared)
    folder = results_folder(shared / "results")
    assert read_table(folder).num_rows == 3
    assert folder.parent.name == NAME.split("/")[1]
    assert {path.stat().st_uid for path in folder.rglob("*")} == {STRANGER}


def test_commands_of_the_page_fill_a_cache_and_answer_without_a_network(
    page: Mapping[str, str], hub: HubServer, shared: Path
) -> None:
    commands = blocks("Without a network")
    filling, offline = commands.split("docker load", 1)
    preamble = filling.split("mkdir", 1)[0]
    ran(filling, {**page, "HF_TOKEN": "hf_..."}, shared)
    assert not list((shared / "results").rglob("*.parquet"))
    requests = len(hub.requests)
    out = ran(f"{preamble}docker load{offline}", page, shared)
    assert len(hub.requests) == requests
    assert json.loads(out.splitlines()[-1])["exit_code"] == 0
    assert len(parquet_bytes(results_folder(shared / "results"))) > 0
