"""What vLLM asks about a model's class is found out in a fork, and vLLM takes it from there."""

import errno
import os
import signal
import time
from collections.abc import Sequence
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


def test_without_memory_for_a_fork_vllm_is_left_to_find_out(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory() -> int:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(os, "fork", no_memory)
    inspection.fill_cache(model)


def test_a_fork_that_hangs_is_ended_and_leaves_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(names: Sequence[str]) -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)

    monkeypatch.setattr(inspection, "_PATIENCE", 1)
    monkeypatch.setattr(inspection, "_inspect", hang)
    inspection.fill_cache(model)
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_a_signal_ends_the_fork_without_a_word(
    model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def signalled() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.write(1, b"still there")

    from vllm import plugins

    monkeypatch.setattr(plugins, "load_general_plugins", signalled)
    before = signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"the job's own handler"))
    try:
        inspection.fill_cache(model)
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_model_that_does_not_say_what_it_is_is_left_to_vllm(tmp_path: Path) -> None:
    inspection.fill_cache(tmp_path)
    for text in ("{", "[" * 100_000, "[]", '{"architectures": 3}', '{"architectures": [3]}', "{}"):
        (tmp_path / "config.json").write_text(text)
        assert not inspection.architectures(tmp_path)
