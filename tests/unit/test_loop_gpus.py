"""Who gets which GPUs, from what nvidia-smi says, and how much of their memory."""

from pathlib import Path

import pytest

from job.errors import SettingsError
from scripts.loop.gpus import QUERY, WORKING_MEMORY, Gpu, Slot, check, found_gpus, memory, parsed, slots

GB = 10**9
MIB = 2**20
ANSWER = """\
0, GPU-11111111-aaaa, 143771
1, GPU-22222222-bbbb, 143771
2, GPU-33333333-cccc, 81559
"""


def cards(number: int, memory_bytes: int | None = 80 * GB) -> list[Gpu]:
    return [Gpu(str(index), f"GPU-{index}", memory_bytes) for index in range(number)]


def places(number_of_gpus: int, parallel: int, gpus_each: int = 1) -> list[tuple[str, int]]:
    found = slots(cards(number_of_gpus), parallel, gpus_each)
    return [("".join(gpu.index for gpu in slot.gpus), slot.share) for slot in found]


def test_nvidia_smi_is_read() -> None:
    assert parsed(ANSWER, None)[2] == Gpu("2", "GPU-33333333-cccc", 81559 * MIB)
    assert [gpu.memory for gpu in parsed("0, GPU-1, [N/A]\n", None)] == [None]
    assert parsed("", None) == []


def test_the_driver_is_asked_and_without_one_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found_gpus(None) == []
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = '{' '.join(QUERY[1:])}' ] && printf '%s' '{ANSWER}'\n")
    program.chmod(0o755)
    assert [gpu.index for gpu in found_gpus(None)] == ["0", "1", "2"]
    assert [gpu.index for gpu in found_gpus("1")] == ["1"]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert found_gpus(None) == []


@pytest.mark.parametrize(
    ("visible", "indexes"), [("2,0", "20"), ("GPU-2222", "1"), ("", ""), ("-1", ""), ("7", ""), ("NoDevFiles", "")]
)
def test_cuda_visible_devices_chooses_among_them(visible: str, indexes: str) -> None:
    assert "".join(gpu.index for gpu in parsed(ANSWER, visible)) == indexes


def test_a_model_that_runs_alone_has_all_gpus() -> None:
    assert places(4, 1) == [("0123", 1)]


def test_several_models_have_a_gpu_each_as_far_as_there_are_some() -> None:
    assert places(4, 3) == [("0", 1), ("1", 1), ("2", 1)]
    assert places(2, 3) == [("0", 2), ("1", 1), ("0", 2)]
    assert places(1, 3) == [("0", 3)] * 3


def test_a_model_over_several_gpus_has_that_many() -> None:
    assert places(5, 3, gpus_each=2) == [("01", 2), ("23", 1), ("01", 2)]


def test_a_model_over_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(SettingsError, match="TENSOR_PARALLEL_SIZE='4': is more than the 2 GPUs that are here"):
        slots(cards(2), 2, 4)


def test_without_a_gpu_models_share_the_cpu() -> None:
    assert slots([], 2, 1) == [Slot((), 2)] * 2


def test_models_on_one_gpu_have_a_fixed_cache_in_their_part_of_it() -> None:
    slot = Slot(tuple(cards(1, 90 * GB)), 3)
    chosen = memory(slot, {}, 0.9, 16 * GB)
    assert chosen["GPU_MEMORY_UTILIZATION"] == "0.3000"
    assert int(chosen["KV_CACHE_MEMORY_BYTES"]) == 27 * GB - 16 * GB - WORKING_MEMORY


def test_weights_are_spread_over_the_gpus_of_a_model() -> None:
    chosen = memory(Slot(tuple(cards(2, 40 * GB)), 2), {}, 0.9, 16 * GB)
    assert int(chosen["KV_CACHE_MEMORY_BYTES"]) == 18 * GB - 8 * GB - WORKING_MEMORY


def test_a_cache_that_was_asked_for_stays_and_vllms_check_of_free_memory_does_not_trip() -> None:
    slot = Slot(tuple(cards(1)), 3)
    assert memory(slot, {"KV_CACHE_MEMORY_BYTES": "5"}, 0.9, 16 * GB) == {"GPU_MEMORY_UTILIZATION": "0.3000"}
    assert memory(slot, {}, 0.9, None) == {"GPU_MEMORY_UTILIZATION": "0.3000"}


def test_the_part_is_small_enough_for_the_last_one_to_start() -> None:
    """All others hold their whole parts by then."""
    for share in range(2, 12):
        part = float(memory(Slot(tuple(cards(1)), share), {}, 0.9, None)["GPU_MEMORY_UTILIZATION"])
        assert part * share <= 0.901


@pytest.mark.parametrize("slot", [Slot(tuple(cards(1)), 1), Slot((), 3)])
def test_a_model_that_shares_no_gpu_keeps_its_settings(slot: Slot) -> None:
    assert memory(slot, {}, 0.9, 16 * GB) == {}


def test_models_that_do_not_fit_side_by_side_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"PARALLEL='3': leaves 7\.2 GB of each GPU .* its weights are 16\.0 GB"):
        memory(Slot(tuple(cards(1, 24 * GB)), 3), {}, 0.9, 16 * GB)


@pytest.mark.parametrize("slot", [Slot((), 2), Slot(tuple(cards(1, None)), 2)], ids=["CPU", "unknown memory"])
def test_where_memory_cannot_be_divided_the_cache_has_to_be_given(slot: Slot) -> None:
    with pytest.raises(SettingsError, match="KV_CACHE_MEMORY_BYTES: is required"):
        check(slot, {})
    check(slot, {"KV_CACHE_MEMORY_BYTES": "1000"})
    check(slot, {"ENGINE": "echo"})
    check(Slot(slot.gpus, 1), {})
    check(Slot(tuple(cards(1)), 2), {})
