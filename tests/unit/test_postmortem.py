"""Why an engine died: what vLLM, torch and the kernel leave becomes a cause and a remedy."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from job.engine.postmortem import Death, LastWords, explained, failed_processes, last_words

FAILED = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}")


def death(*words: str, codes: Mapping[str, int] | None = None, oom_kills: int = 0) -> str:
    return explained(Death(codes or {}, words, oom_kills), FAILED)


# As vLLM 0.32 and torch 2.13 say it.
@pytest.mark.parametrize(
    ("words", "cause", "settings"),
    [
        (
            "ValueError: Free memory on device cuda:0 (3.1/79.2 GiB) on startup is less than desired GPU memory",
            "the GPU has less free memory than GPU_MEMORY_UTILIZATION asks for",
            ["lower GPU_MEMORY_UTILIZATION"],
        ),
        (
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
            "no room was left for the KV cache",
            ["Raise GPU_MEMORY_UTILIZATION or KV_CACHE_MEMORY_BYTES", "lower MAX_MODEL_LEN"],
        ),
        (
            "ValueError: (1.0 GiB KV cache is needed, which is larger than the available KV cache memory (0.5 GiB).",
            "no room was left for the KV cache",
            ["KV_CACHE_MEMORY_BYTES", "lower MAX_MODEL_LEN"],
        ),
        (
            "ValueError: Available memory on node 0 (4.8/6.96 GiB) on kv cache allocation is less than requested memory for kv",
            "the KV cache has no room in the memory of this machine",
            ["Lower KV_CACHE_MEMORY_BYTES"],
        ),
        (
            "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.18 GiB",
            "the GPU's memory ran out",
            ["Lower GPU_MEMORY_UTILIZATION, KV_CACHE_MEMORY_BYTES or MAX_MODEL_LEN", "TENSOR_PARALLEL_SIZE"],
        ),
        (
            "RuntimeError: [enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory",
            "the memory of this machine ran out",
            ["Give the job more memory", "lower KV_CACHE_MEMORY_BYTES"],
        ),
        (
            "ValueError: Failed to find a kernel that can implement the ScaledMM linear layer. Reasons: needs AMX tile support",
            "this device has no kernel for the model's quantisation",
            ["Choose another QUANTIZATION"],
        ),
        (
            "NotImplementedError: FP8 KV cache on CPU requires x86 with AVX-512 or AMX.",
            "this device cannot work with a KV cache in that number format",
            ["Choose another KV_CACHE_DTYPE"],
        ),
        (
            "ValueError: No valid attention backend found for cuda. Reasons: {FLASH_ATTN: [kv_cache_dtype not supported]}.",
            "this device cannot work with a KV cache in that number format",
            ["Choose another KV_CACHE_DTYPE"],
        ),
        (
            "OSError: [Errno 28] No space left on device: '/dev/shm/psm_1'",
            "a disk or the shared memory is full",
            ["/dev/shm", "--shm-size"],
        ),
    ],
)
def test_what_the_engine_said_last_names_the_cause_and_the_settings(words: str, cause: str, settings: list[str]) -> None:
    message = death("ValueError: something before", words, "RuntimeError: Worker failed", codes={"EngineCore": 1})
    assert message.startswith(f"{cause} ({words[:40]}")
    for setting in settings:
        assert setting in message
    assert message.endswith("The same command goes on.")


def test_vllms_own_word_counts_where_no_process_left_any() -> None:
    message = explained(Death({}, [], 0), ValueError("CUDA error: out of memory"))
    assert message.startswith("the GPU's memory ran out (CUDA error: out of memory). Lower GPU_MEMORY_UTILIZATION,")


def test_a_process_that_the_kernel_killed_for_want_of_memory() -> None:
    message = death(codes={"EngineCore": -9}, oom_kills=1)
    assert message.startswith(
        "the kernel killed a process because the memory of this machine or container ran out. Give the job"
    )


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (-9, "EngineCore was killed with SIGKILL, by a person or another program: not for want of memory"),
        (-7, "EngineCore ended with SIGBUS: /dev/shm is full. Enlarge it"),
        (-11, "EngineCore crashed with SIGSEGV. The log lines of vLLM's processes above may say why."),
    ],
)
def test_a_signal_that_ended_a_process(code: int, says: str) -> None:
    assert death(codes={"Worker": -15, "EngineCore": code}).startswith(says)


def test_anything_else_is_said_as_the_first_process_said_it() -> None:
    message = death("KeyError: 'lm_head'", "RuntimeError: Worker failed", codes={"EngineCore": 1})
    assert message.startswith("KeyError: 'lm_head'. The same command goes on")
    assert "log lines of vLLM's processes above say more" in message


def test_exit_codes_are_read_from_vllms_own_words() -> None:
    assert failed_processes(str(FAILED)) == {"EngineCore": 1}
    assert failed_processes("Failed core proc(s): {'EngineCore_DP0': -9, 'EngineCore_DP1': 1}") == {
        "EngineCore_DP0": -9,
        "EngineCore_DP1": 1,
    }
    assert failed_processes("something else: {'a': 1}") == {}


def test_last_words_are_the_errors_in_order_and_half_a_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "last-words.jsonl"
    logger = logging.Logger("engine")  # noqa: LOG001 (not to be known by the name anywhere)
    logger.addHandler(LastWords(path))
    logger.info("all well")
    logger.error("Engine died")
    try:
        raise ValueError("no\nroom")
    except ValueError:
        logger.exception("EngineCore failed to start.")
    with path.open("a") as file:
        file.write('"cut of')
    logger.error("Another process %d", 7)
    logger.error("badly formatted %d", "x")
    with path.open("a") as file:
        file.write('"cut \\"')
    assert last_words(path) == ["Engine died", "ValueError: no\nroom", "Another process 7"]
    assert last_words(tmp_path / "none") == []
