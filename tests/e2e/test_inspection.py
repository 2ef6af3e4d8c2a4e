"""What vLLM asks about a model's class is found out in a fork, and vLLM takes it from there."""

from pathlib import Path

import pytest

from job.engine import inspection

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]  # vLLM's, as it is imported


@pytest.mark.parametrize("stray", [None, "NoSuchModel"])
def test_vllm_needs_no_process_of_its_own_to_ask(
    stray: str | None, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.models import registry

    def another_process(found: object) -> None:
        pytest.fail(f"vLLM starts a process for {found}")

    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
    monkeypatch.setattr(registry, "_run_in_subprocess", another_process)
    names = [*([stray] if stray else []), *inspection.architectures(model)]
    (tmp_path / "config.json").write_text(f'{{"architectures": {names}}}'.replace("'", '"'))
    inspection.fill_cache(tmp_path)
    assert registry.ModelRegistry.models["LlamaForCausalLM"].inspect_model_cls().is_text_generation_model
    assert registry._run_in_subprocess is another_process, "only the fork's is replaced"


def test_a_model_that_does_not_say_what_it_is_is_left_to_vllm(tmp_path: Path) -> None:
    inspection.fill_cache(tmp_path)
    for text in ("{", "[]", '{"architectures": 3}', '{"architectures": [3]}', "{}"):
        (tmp_path / "config.json").write_text(text)
        assert not inspection.architectures(tmp_path)
