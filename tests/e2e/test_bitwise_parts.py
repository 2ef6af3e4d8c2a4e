"""What REPRODUCIBILITY=bitwise replaces in vLLM on a GPU, as far as that can be seen without one."""

import pytest

from job.engine import determinism
from job.errors import SettingsError

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]  # vLLM's, as it is imported


def test_what_is_replaced_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the sampler's, which only a machine with Triton has."""
    monkeypatch.setattr(determinism, "REPLACED", determinism.REPLACED[1:])
    determinism.check_replaceable()


def test_a_vllm_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(determinism, "REPLACED", [("vllm.v1.sample.ops.topk_topp_sampler", "gone")])
    with pytest.raises(SettingsError, match="needs gone in vllm"):
        determinism.check_replaceable()
    monkeypatch.setattr(determinism, "REPLACED", [("vllm.gone", "gone")])
    with pytest.raises(SettingsError, match="or REPRODUCIBILITY=seeded"):
        determinism.check_replaceable()


def test_shapes_of_vllms_table_keep_their_tiles_and_all_others_get_these() -> None:
    from vllm.model_executor.determinism.batch_invariant_configs import _BATCH_INVARIANT_MATMUL_TUNED_CONFIGS

    from job.engine.bitwise_matmul import TILES, _EveryShape

    known = _BATCH_INVARIANT_MATMUL_TUNED_CONFIGS["hopper"]
    table = _EveryShape(known)
    assert table.get((6144, 4096)) is TILES
    assert all(table.get(shape) is tiles for shape, tiles in known.items())
