"""A service for models that share a GPU: when there is one, and that it ends. A script stands in for NVIDIA's daemon."""

import os
import stat
import time
from pathlib import Path

import pytest

from scripts.loop import mps
from scripts.loop.gpus import Gpu, Slot, slots

GPUS = [Gpu(str(number), f"GPU-{number}", 80 << 30) for number in range(2)]
DAEMON = """#!/bin/sh
if [ "$1" = -f ]; then
    echo "$CUDA_MPS_PIPE_DIRECTORY ${CUDA_VISIBLE_DEVICES-all} $CUDA_DEVICE_ORDER" > "$NOTES/started"
    echo $$ > "$NOTES/pid"
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


def test_a_service_runs_with_the_block_and_knows_all_gpus(control: str, tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "NOTES": str(tmp_path), "CUDA_VISIBLE_DEVICES": "1"}
    with mps.service(environ, control) as variables:
        deadline = time.monotonic() + 10
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        folder = variables[mps.PIPES]
        assert (tmp_path / "started").read_text() == f"{folder} all PCI_BUS_ID\n"
    assert (tmp_path / "quit").read_text() == "quit\n"
    assert not Path(folder).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_where_there_is_no_mps_nothing_is_set() -> None:
    with mps.service({}, "no-such-command") as variables:
        assert variables == {}
