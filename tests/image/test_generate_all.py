"""`make generate-all` with containers of the image, by podman."""

import signal
from pathlib import Path

import pytest

from tests.image.podman import Image, podman, settings_of_podman
from tests.integration.loops import looping, run_loop
from tests.support import read_table, write_jsonl

pytestmark = [pytest.mark.slow, pytest.mark.image]


def loop_settings(image: Image, folder: Path, **more: object) -> dict[str, object]:
    rows = write_jsonl(folder / "rows.jsonl", [{"instruction": f"Count to {number}."} for number in range(40)])
    ours = {"RUNNER": "podman", "IMAGE": image.name, "MODEL_IDS": "org/first org/second", "ENGINE": "echo", "DATASET_ID": rows}
    return {**settings_of_podman(), **ours, "OUTPUT_DIR": folder / "results", **more}


def test_each_model_has_a_container_of_its_own(image: Image, tmp_path: Path) -> None:
    ended = run_loop(loop_settings(image, tmp_path))
    assert (ended.code, ended.codes, ended.err) == (0, [0, 0], "")
    for name in ("first", "second"):
        assert read_table(tmp_path / "results" / name / "latest").num_rows == 40
        assert str(tmp_path / "results" / name) in str(ended.of(f"org/{name}")["results"])


def test_a_signal_ends_the_container_in_order(image: Image, tmp_path: Path) -> None:
    slow = {"ENGINE_ARGS": '{"delay_seconds": 0.5, "window": 2}', "SHUTDOWN_GRACE_SECONDS": 1}
    with looping(loop_settings(image, tmp_path, **slow)) as loop:
        loop.says("generates")
        loop.process.send_signal(signal.SIGTERM)
        ended = loop.end()
    assert (ended.code, ended.codes) == (75, [75, None])
    assert podman("ps", "--all", "--quiet", "--filter", "label=answers-job") == ""
