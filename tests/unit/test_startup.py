"""How vLLM is told to start, and how the seconds of its start are put together."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from job.engine import startup
from tests.unit.builders import settings


def compilation(requests: int = 10_000, /, **variables: object) -> Any:
    return startup.compilation(settings(**variables).engine, requests).get("compilation_config")


def test_whole_steps_are_graphs_and_nothing_is_compiled() -> None:
    assert compilation(334) == {"mode": 0, "cudagraph_mode": "FULL", "max_cudagraph_capture_size": 336}


def test_a_compiled_model_is_as_vllm_has_it() -> None:
    assert compilation(COMPILE_MODEL="true") == {}


@pytest.mark.parametrize("variables", [{"ENFORCE_EAGER": "true"}, {"ENGINE_ARGS": '{"optimization_level": 2}'}])
def test_whoever_says_how_to_compile_is_left_alone(variables: dict[str, str]) -> None:
    assert compilation(**variables) is None
    assert compilation(5, **variables) is None


def test_what_engine_args_say_of_compilation_comes_first() -> None:
    assert compilation(ENGINE_ARGS='{"compilation_config": {"mode": 3}}') == {"mode": 3}
    given = compilation(8, ENGINE_ARGS='{"compilation_config": {"cudagraph_mode": "FULL_DECODE_ONLY"}}')
    assert given == {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "max_cudagraph_capture_size": 8}
    largest = compilation(ENGINE_ARGS='{"compilation_config": {"max_cudagraph_capture_size": 64}}')
    assert largest == {"mode": 0, "cudagraph_mode": "FULL", "max_cudagraph_capture_size": 64}
    sizes = compilation(5, ENGINE_ARGS='{"compilation_config": {"cudagraph_capture_sizes": [1, 2]}}')
    assert sizes == {"mode": 0, "cudagraph_mode": "FULL", "cudagraph_capture_sizes": [1, 2]}


@pytest.mark.parametrize(("requests", "size"), [(0, 8), (1, 8), (8, 8), (9, 16), (250, 256), (257, 272), (334, 336)])
def test_no_graph_is_captured_for_more_requests_than_there_are(requests: int, size: int) -> None:
    assert compilation(requests)["max_cudagraph_capture_size"] == size


def test_many_requests_have_graphs_for_steps_of_answers_beside_prompts() -> None:
    sizes = compilation(512)["cudagraph_capture_sizes"]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == 2048
    assert [size for size in sizes if size <= 512] == [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)], "as vLLM has them"


def test_workers_are_timed_where_there_are_such_ones() -> None:
    assert startup.worker("cuda") == {"worker_cls": "job.engine.timed_gpu_worker.TimedGpuWorker"}
    assert startup.worker("cpu") == {"worker_cls": "job.engine.timed_cpu_worker.TimedCpuWorker"}
    assert startup.worker("tpu") == {}


def test_the_slowest_worker_counts_and_what_no_one_names_is_the_engines() -> None:
    watch, began = startup.Stopwatch(), time.monotonic() - 20
    with watch.phase("import"):
        pass
    workers = [{"imported": began + 7, "weights": 2.0}, {"imported": began + 6, "weights": 3.0}]
    seconds = watch.with_workers(began, workers)
    assert list(seconds) == ["import", "engine", "spawn", "weights"]
    assert (seconds["spawn"], seconds["weights"]) == (7.0, 3.0)


def test_the_parts_of_a_start_add_up_to_all_of_it() -> None:
    began = time.monotonic() - 20
    seconds = startup.Stopwatch().with_workers(began, [{"imported": began + 4, "weights": 3.0}])
    assert (seconds["spawn"], seconds["weights"]) == (4.0, 3.0)
    assert sum(seconds.values()) == pytest.approx(20, abs=1)


def test_without_workers_of_its_own_the_whole_start_is_one_part() -> None:
    assert list(startup.Stopwatch().with_workers(time.monotonic(), ())) == ["engine"]


def test_weights_are_read_ahead_by_a_thread_and_what_cannot_be_read_is_left_to_the_engine(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 4096)
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    startup.read_ahead(tmp_path)
    for thread in threading.enumerate():
        if thread.name == "read-ahead":
            thread.join(5)
            assert not thread.is_alive()


def test_only_compiled_models_start_one_at_a_time(tmp_path: Path) -> None:
    with startup.alone_in_cache(settings().engine, tmp_path / "cache"):
        assert not (tmp_path / "cache").exists()
    with startup.alone_in_cache(settings(COMPILE_MODEL="true").engine, tmp_path / "cache"):
        other = FileLock(tmp_path / "cache" / "compile.lock")
        with pytest.raises(TimeoutError):
            other.acquire(timeout=0)
    other.acquire(timeout=0)
    other.release()


def test_a_cache_that_cannot_be_written_needs_no_lock(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    with startup.alone_in_cache(settings(COMPILE_MODEL="true").engine, tmp_path / "cache"):
        pass
