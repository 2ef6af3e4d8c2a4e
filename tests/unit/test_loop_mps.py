"""A service for models that share a GPU: when there is one, and that it ends. A script stands in for NVIDIA's daemon."""

import os
import stat
from pathlib import Path

import pytest

from scripts.loop import mps
from scripts.loop.gpus import Gpu, Slot, slots

GPUS = [Gpu(str(number), f"GPU-{number}", 80 << 30) for number in range(2)]
DAEMON = """#!/bin/sh
if [ "$1" = -f ]; then
    echo "$CUDA_MPS_PIPE_DIRECTORY ${CUDA_VISIBLE_DEVICES-all} $CUDA_DEVICE_ORDER" > "$NOTES/started"
    echo $$ > "$NOTES/pid"
    [ ! -e "$NOTES/refuse" ] || { echo "no device"; exit 1; }
    touch "$CUDA_MPS_PIPE_DIRECTORY/control"
    while [ ! -e "$NOTES/quit" ]; do sleep 0.05; done
else
    grep quit > "$NOTES/quit"
fi
"""


@pytest.fixture
def control(tmp_path: Path) -> str:
    path = tmp_path / "control"
    path.write_text(DAEMON)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("places", "environ", "containers", "expected"),
    [
        (slots(GPUS[:1], 3, 1), {}, False, True),
        (slots(GPUS, 3, 1), {}, False, True),
        (slots(GPUS, 2, 1), {}, False, False),
        (slots(GPUS[:1], 1, 1), {}, False, False),
        ([Slot((), 3)] * 3, {}, False, False),
        (slots(GPUS[:1], 3, 1), {"MPS": "off"}, False, False),
        (slots(GPUS[:1], 3, 1), {mps.PIPES: "/tmp/theirs"}, False, False),
        (slots(GPUS[:1], 3, 1), {}, True, False),
    ],
)
def test_processes_that_share_a_gpu_have_a_service(
    places: list[Slot], environ: dict[str, str], containers: bool, expected: bool
) -> None:
    assert mps.wanted(places, environ, containers=containers) == expected


def test_an_echo_needs_no_gpu() -> None:
    assert not mps.wanted(slots(GPUS[:1], 3, 1), {"ENGINE": "echo"}, containers=False)


def test_a_service_of_the_machine_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mps, "DEFAULT_PIPES", tmp_path)
    assert mps.wanted(slots(GPUS[:1], 3, 1), {}, containers=False)
    (tmp_path / "control").touch()
    assert not mps.wanted(slots(GPUS[:1], 3, 1), {}, containers=False)


def test_a_service_runs_with_the_block_and_knows_all_gpus(control: str, tmp_path: Path) -> None:
    environ, said = {"PATH": os.environ["PATH"], "NOTES": str(tmp_path), "CUDA_VISIBLE_DEVICES": "1"}, list[str]()
    with mps.service(environ, said.append, control) as variables:
        folder = variables[mps.PIPES]
        assert (tmp_path / "started").read_text() == f"{folder} all PCI_BUS_ID\n"
    assert (tmp_path / "quit").read_text() == "quit\n"
    assert not Path(folder).exists()
    assert not said
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_service_that_does_not_start_is_done_without(control: str, tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    said: list[str] = []
    with mps.service({"PATH": os.environ["PATH"], "NOTES": str(tmp_path)}, said.append, control) as variables:
        assert variables == {}
    assert said == ["MPS did not start, so models take turns on a GPU: no device"]


def test_where_there_is_no_mps_nothing_is_set() -> None:
    with mps.service({}, print, "no-such-command") as variables:
        assert variables == {}
