"""What is started for a model: arguments, environment, and which of it a container gets."""

import signal
from pathlib import Path

import pytest

from job.errors import SettingsError
from scripts.image_name import image_name
from scripts.loop.gpus import Gpu, Slot
from scripts.loop.runners import PYTHON, Command, Containers, Processes, choose
from scripts.loop.settings import LoopSettings
from tests.support import TOKEN

CPU = Slot((), 1)
TWO_GPUS = Slot((Gpu("0", "GPU-0", 1), Gpu("3", "GPU-3", 1)), 1)
ENVIRON = {"MODEL_ID": "org/a", "DATASET_ID": "org/rows", "HF_TOKEN": TOKEN, "PATH": "/bin", "MODEL_IDS": "org/a", "HOME": "/h"}


def containers(engine: str = "docker", user: tuple[int, int] = (1000, 1001)) -> Containers:
    return Containers(engine, "answers-job:1", Path("/data/out"), Path("/data/hf"), 20, user)


def values(command: Command, option: str) -> list[str]:
    return [value for name, value in zip(command.argv, command.argv[1:], strict=False) if name == option]


def test_a_process_gets_the_environment_as_it_is() -> None:
    command = Processes().generate(ENVIRON, CPU)
    assert command == Command((str(PYTHON), "-m", "job"), ENVIRON, signal.SIGKILL)
    assert Processes().fetch(ENVIRON).argv == (str(PYTHON), "-m", "job.fetch")


def test_a_process_sees_its_gpus_only() -> None:
    environ = Processes().generate(ENVIRON, TWO_GPUS).environ
    assert (environ["CUDA_VISIBLE_DEVICES"], environ["CUDA_DEVICE_ORDER"]) == ("0,3", "PCI_BUS_ID")


def test_a_container_gets_names_and_no_values() -> None:
    command = containers().generate(
        {**ENVIRON, "VLLM_USE_X": "1", "HTTPS_PROXY": "http://u:p@proxy", "HF_HUB_CACHE": "/x"}, CPU
    )
    assert command.argv[:2] == ("docker", "run")
    assert command.argv[-1] == "answers-job:1"
    names = ["DATASET_ID", "HF_HOME", "HF_TOKEN", "HTTPS_PROXY", "MODEL_ID", "OUTPUT_DIR", "VLLM_USE_X"]
    assert values(command, "--env") == names
    assert TOKEN not in " ".join(command.argv)
    assert "proxy" not in " ".join(command.argv)
    assert command.environ.items() >= {("HF_TOKEN", TOKEN), ("OUTPUT_DIR", "/results"), ("HF_HOME", "/cache"), ("HOME", "/h")}
    assert command.at_the_end is signal.SIGTERM


def test_a_container_is_the_callers_and_has_time_to_stop() -> None:
    command = containers().generate(ENVIRON, CPU)
    assert values(command, "--user") == ["1000:1001"]
    assert values(command, "--volume") == ["/data/out:/results", "/data/hf:/cache"]
    assert values(command, "--stop-timeout") == ["35"]
    assert values(command, "--pull") == ["never"]
    assert "--rm" in command.argv
    assert not {"--gpus", "--device", "--userns"} & set(command.argv)


@pytest.mark.parametrize(("port", "published"), [("9464", ["9464:9464"]), ("0", []), ("", []), ("x", [])])
def test_a_containers_metrics_are_on_the_same_port_of_the_host(port: str, published: list[str]) -> None:
    environ = {**ENVIRON, "METRICS_PORT": port}
    assert values(containers().generate(environ, CPU), "--publish") == published
    assert not values(containers().fetch(environ), "--publish")


def test_docker_and_podman_name_gpus_in_their_own_ways() -> None:
    assert values(containers().generate(ENVIRON, TWO_GPUS), "--gpus") == ['"device=0,3"']
    podman = containers("podman").generate(ENVIRON, TWO_GPUS)
    assert values(podman, "--device") == ["nvidia.com/gpu=0", "nvidia.com/gpu=3"]
    assert values(podman, "--userns") == ["keep-id"]
    assert not values(containers("podman", user=(0, 0)).generate(ENVIRON, TWO_GPUS), "--userns")


def test_files_of_this_machine_are_in_the_container_under_their_own_path(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("")
    command = containers().generate(
        {**ENVIRON, "DATASET_ID": str(tmp_path / "." / "rows.jsonl"), "PROMPT_TEMPLATE": "chat"}, CPU
    )
    assert values(command, "--volume")[2:] == [f"{rows}:{rows}:ro"]
    assert command.environ["DATASET_ID"] == str(rows)
    missing = containers().generate({**ENVIRON, "DATASET_ID": str(tmp_path / "none.jsonl")}, CPU)
    assert len(values(missing, "--volume")) == 2, "the engine would make a folder of this name"


def test_a_download_in_a_container_needs_no_gpu() -> None:
    command = containers().fetch(ENVIRON)
    assert command.argv[-5:] == ("--entrypoint", "python", "answers-job:1", "-m", "job.fetch")


def test_results_in_a_container_have_a_place_on_the_host() -> None:
    assert containers().on_host("/results/a/0123") == "/data/out/a/0123"
    assert containers().on_host("4 rows are safe in /results/a/0123. Run") == "4 rows are safe in /data/out/a/0123. Run"
    assert containers().on_host("/elsewhere, /my/results/a") == "/elsewhere, /my/results/a"


def loop_settings(**variables: str) -> LoopSettings:
    return LoopSettings.from_env({"MODEL_IDS": "org/a", **variables})


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that has no image but `there`, the only program on PATH."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = info ] || [ "$3" = there ] || { echo "No such image: $3" >&2; exit 1; }\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


def refusal(**variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        choose(loop_settings(**variables), has_gpu=True)
    return str(caught.value)


def test_a_gpu_and_an_engine_make_containers(engine: Path, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "hf"
    chosen = choose(loop_settings(IMAGE="there", HF_HOME=str(cache)), has_gpu=True)
    assert isinstance(chosen, Containers)
    assert (chosen.engine, chosen.image, chosen.cache) == ("docker", "there", cache)
    assert cache.is_dir()
    assert isinstance(choose(loop_settings(RUNNER="docker", IMAGE="there", HF_HOME=str(cache)), has_gpu=False), Containers)


def test_without_a_gpu_there_are_processes(engine: Path) -> None:
    assert isinstance(choose(loop_settings(), has_gpu=False), Processes)


def test_a_client_without_its_daemon_is_no_engine(engine: Path) -> None:
    engine.write_text("#!/bin/sh\necho 'no daemon' >&2\nexit 1\n")
    assert isinstance(choose(loop_settings(), has_gpu=True), Processes)
    assert refusal(RUNNER="docker", IMAGE="there") == "RUNNER='docker': does not work here: no daemon"
    engine.unlink()
    assert isinstance(choose(loop_settings(), has_gpu=True), Processes)
    assert refusal(RUNNER="docker", IMAGE="there") == "RUNNER='docker': does not work here: it is not installed"


def test_the_image_is_named_and_never_pulled(engine: Path) -> None:
    assert refusal().startswith(f"IMAGE='{image_name({})}': docker has no such image")
    assert refusal(IMAGE="no/image").startswith("IMAGE='no/image': docker has no such image (No such image: no/image)")
