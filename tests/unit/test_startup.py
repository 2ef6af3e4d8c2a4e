"""How vLLM is told to start, and how the seconds of its start are put together."""

import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from job.engine import startup
from job.stopwatch import Stopwatch
from tests.unit.builders import problems, settings


def compilation(requests: int = 10_000, capability: int | None = startup.HOPPER, /, **variables: object) -> Any:
    return startup.compilation(settings(**variables).engine, requests, capability).get("compilation_config")


def test_on_hopper_steps_without_prompts_are_graphs_and_nothing_is_compiled() -> None:
    """With prompts in its graphs, vLLM 0.32 answers with noise there: benchmarks/RESULTS.md, section reproducibility."""
    assert compilation(334) == {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "max_cudagraph_capture_size": 336}
    assert not startup.compiles(settings().engine, startup.HOPPER)


@pytest.mark.parametrize("capability", [8, 10, None])
def test_elsewhere_a_model_is_compiled_as_vllm_has_it(capability: int | None) -> None:
    assert compilation(10_000, capability) is None
    assert compilation(5, capability) == {"max_cudagraph_capture_size": 8}
    assert startup.compiles(settings().engine, capability)


@pytest.mark.parametrize("capability", [8, startup.HOPPER])
def test_whoever_says_whether_to_compile_is_heard(capability: int) -> None:
    assert compilation(10_000, capability, COMPILE_MODEL="true") is None
    assert startup.compiles(settings(COMPILE_MODEL="true").engine, capability)
    assert compilation(334, capability, COMPILE_MODEL="false") == compilation(334)
    assert not startup.compiles(settings(COMPILE_MODEL="false").engine, capability)


@pytest.mark.parametrize(
    "engine_args",
    [
        '{"optimization_level": 2}',
        '{"compilation_config": {"cudagraph_mode": "PIECEWISE"}}',
        '{"compilation_config": 3}',
        '{"max_cudagraph_capture_size": 64}',
        '{"cudagraph_capture_sizes": [1, 2, 4]}',
    ],
)
@pytest.mark.parametrize("requests", [5, 10_000])
def test_engine_args_that_say_how_to_compile_are_left_alone(requests: int, engine_args: str) -> None:
    assert compilation(requests, ENGINE_ARGS=engine_args) is None
    assert startup.compiles(settings(ENGINE_ARGS=engine_args).engine, startup.HOPPER), "perhaps: so it has the cache alone"


def test_without_graphs_there_is_nothing_to_say() -> None:
    assert compilation(5, ENFORCE_EAGER="true") is None


def test_a_model_that_is_compiled_and_is_not_is_refused() -> None:
    assert "does nothing with ENFORCE_EAGER" in problems(ENFORCE_EAGER="true", COMPILE_MODEL="true")["COMPILE_MODEL"]


@pytest.mark.parametrize(("requests", "size"), [(0, 8), (1, 8), (8, 8), (9, 16), (250, 256), (257, 272), (334, 336)])
def test_no_graph_is_captured_for_more_requests_than_there_are(requests: int, size: int) -> None:
    assert compilation(requests)["max_cudagraph_capture_size"] == size


def test_many_requests_have_graphs_for_as_many_as_are_answered_at_once() -> None:
    sizes = compilation(512)["cudagraph_capture_sizes"]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == 1024
    assert [size for size in sizes if size <= 512] == [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)], "as vLLM has them"


@pytest.mark.parametrize("requests", [5, 10_000])
def test_with_tokens_that_are_guessed_ahead_a_few_requests_make_large_steps(requests: int) -> None:
    engine_args = '{"speculative_config": {"method": "ngram", "num_speculative_tokens": 4}}'
    assert compilation(requests, ENGINE_ARGS=engine_args) == compilation(10_000)
    assert compilation(requests, 8, ENGINE_ARGS=engine_args) is None


def test_workers_are_timed_where_there_are_such_ones() -> None:
    assert startup.worker("cuda") == {"worker_cls": "job.engine.timed_gpu_worker.TimedGpuWorker"}
    assert startup.worker("cpu") == {"worker_cls": "job.engine.timed_cpu_worker.TimedCpuWorker"}
    assert startup.worker("tpu") == {}


def test_the_slowest_worker_counts_and_what_no_one_names_is_the_engines() -> None:
    watch, began = Stopwatch(), time.monotonic() - 20
    with watch.phase("import"):
        pass
    workers = [{"imported": began + 7, "weights": 2.0}, {"imported": began + 6, "weights": 3.0}]
    seconds = startup.start_seconds(watch, began, workers)
    assert list(seconds) == ["import", "engine", "spawn", "weights"]
    assert (seconds["spawn"], seconds["weights"]) == (7.0, 3.0)


def test_the_parts_of_a_start_add_up_to_all_of_it() -> None:
    began = time.monotonic() - 20
    seconds = startup.start_seconds(Stopwatch(), began, [{"imported": began + 4, "weights": 3.0}])
    assert (seconds["spawn"], seconds["weights"]) == (4.0, 3.0)
    assert sum(seconds.values()) == pytest.approx(20, abs=1)


def test_without_workers_of_its_own_the_whole_start_is_one_part() -> None:
    assert list(startup.start_seconds(Stopwatch(), time.monotonic(), ())) == ["engine"]


def test_weights_are_read_ahead_by_a_thread_and_what_cannot_be_read_is_left_to_the_engine(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 4096)
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    thread = startup.read_ahead(tmp_path)
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive()


def test_weights_that_would_fill_the_memory_are_not_read_ahead(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(1 << 42)
    assert startup.read_ahead(tmp_path) is None


def test_compiled_models_start_one_at_a_time(tmp_path: Path) -> None:
    with startup.alone_in_cache(tmp_path / "cache"):
        other = FileLock(tmp_path / "cache" / "compile.lock")
        with pytest.raises(TimeoutError):
            other.acquire(timeout=0)
    other.acquire(timeout=0)
    other.release()


@pytest.mark.parametrize("in_the_way", ["cache", "cache/compile.lock"])
def test_a_cache_that_cannot_be_written_needs_no_lock(tmp_path: Path, in_the_way: str) -> None:
    """Of a root that may write anywhere: a file where the folder should be, and a folder where the lock should be."""
    if in_the_way == "cache":
        (tmp_path / in_the_way).write_text("a file")
    else:
        (tmp_path / in_the_way).mkdir(parents=True)
    with startup.alone_in_cache(tmp_path / "cache"):
        pass
