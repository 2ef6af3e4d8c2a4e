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


def test_shapes_of_vllms_table_keep_their_tiles_and_all_others_get_these(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from vllm.model_executor.determinism import batch_invariant, batch_invariant_configs

    from job.engine import bitwise_matmul

    known = batch_invariant_configs._BATCH_INVARIANT_MATMUL_TUNED_CONFIGS["hopper"]
    monkeypatch.setattr(batch_invariant_configs, "_TUNED_MATMUL_CONFIGS_FOR_DEVICE", known)
    monkeypatch.setattr(batch_invariant_configs, "_TUNED_MATMUL_CONFIGS_RESOLVED", True)
    monkeypatch.setattr(batch_invariant, "_get_matmul_config", batch_invariant_configs._get_matmul_config)
    monkeypatch.setattr("vllm.utils.platform_utils.num_compute_units", lambda: 132)
    bitwise_matmul.use_tiles()

    default = {"BLOCK_SIZE_M": 128}
    chosen = batch_invariant._get_matmul_config
    assert chosen(10, 6144, 4096, torch.bfloat16, default) == bitwise_matmul.tile(10, 6144, 132).config()
    assert chosen(10, 6144, 4096, torch.float16, default) is default, "whose bits were not measured"
    assert chosen(10, 6144, 4096, torch.float32, default) is default
    for columns, depth in known:
        theirs = batch_invariant_configs._get_matmul_config(10, columns, depth, torch.bfloat16, default)
        assert chosen(10, columns, depth, torch.bfloat16, default) == theirs
