"""`make generate-all` with real jobs: several models, one that fails, signals, and nothing that outlives it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.hub_server import HubServer
from tests.integration.loops import Ended, looping, run_loop
from tests.integration.publishing import ROWS, TOKEN, Scene
from tests.processes import assert_gone, command_of
from tests.support import ROOT, environment, write_jsonl

pytestmark = pytest.mark.slow
MODELS = ("org/first", "org/second", "org/third")
MANY = 40


@pytest.fixture
def scene(hub: HubServer, tmp_path: Path) -> Scene:
    """Three models, of which the second one cannot publish: the repository of its results is public."""
    scene = Scene(hub, tmp_path)
    scene.variables |= {"MODEL_IDS": " ".join(MODELS), "RUNNER": "process", "LOG_LEVEL": "INFO"}
    hub.add_repo("dataset", "ana/second-results", private=False)
    return scene


def check_two_of_three_published(scene: Scene, ended: Ended, *, generated: int = ROWS) -> None:
    assert (ended.code, ended.codes, ended.err) == (77, [0, 77, 0], "")
    for name in ("first", "third"):
        repo = f"ana/{name}-results"
        found = ended.of(f"org/{name}")
        assert (found["rows"], found["failed_rows"], found["repo_id"]) == (ROWS, 0, repo)
        assert found["commit"] == scene.commits(repo)[0].oid
        assert len(scene.commits(repo)) == 1
        folder = Path(found["results"])
        assert folder.parent == scene.output / name
        assert scene.rows(repo) == pq.read_table(folder / "data").to_pylist()
        cells = ended.table[f"org/{name}"]
        assert (cells[0], cells[1], cells[2]) == (str(ROWS), "0", f"{found['completion_tokens']:,}")
        assert cells[4:] == ["0 done", repo]
        assert last_line(scene, name)["generated_rows"] == generated
    assert ended.table["org/second"][:3] == ["-", "-", "-"]
    assert ended.table["org/second"][4:] == ["77 no access", "-"]
    assert "org/second: ana/second-results is public" in ended.out
    assert TOKEN not in ended.out + json.dumps(ended.summary)


def last_line(scene: Scene, name: str) -> dict[str, object]:
    """Of a model's log."""
    return dict(json.loads((scene.output / "logs" / f"{name}.log").read_text(encoding="utf-8").splitlines()[-1]))


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_model_that_fails_does_not_stop_the_others_and_the_same_command_again_answers_nothing_twice(
    parallel: int, scene: Scene
) -> None:
    check_two_of_three_published(scene, run_loop({**scene.variables, "PARALLEL": parallel}))
    again = run_loop({**scene.variables, "PARALLEL": parallel})
    check_two_of_three_published(scene, again, generated=0)
    for name in ("first", "third"):
        assert (scene.output / "logs" / f"{name}.log").read_text(encoding="utf-8").count('"engine_ready"') == 1


def slow(scene: Scene, rows: int = MANY, delay: float = 0.2) -> dict[str, object]:
    data = write_jsonl(scene.folder / "many.jsonl", [{"instruction": f"Say {number}."} for number in range(rows)])
    return {
        **scene.variables,
        "MODEL_IDS": "org/first org/third",
        "DATASET_ID": data,
        "ENGINE_ARGS": json.dumps({"delay_seconds": delay, "window": 4}),
        "PROGRESS_SECONDS": 0,
    }


def test_ctrl_c_stops_in_order_and_the_same_command_goes_on(scene: Scene) -> None:
    with looping(slow(scene)) as loop:
        loop.says("generates")
        time.sleep(1)
        children = loop.children()
        loop.interrupt()
        stopped = loop.end()
        assert_gone(children)
    assert (stopped.code, stopped.codes) == (75, [75, None])
    assert stopped.table["org/third"] == ["-", "-", "-", "-", "not started", "-"]
    safe = stopped.of("org/first")["rows"]
    assert 0 < safe < MANY
    assert f"{safe} of {MANY} rows are safe" in stopped.of("org/first")["message"]
    log = (scene.output / "logs" / "first.log").read_text(encoding="utf-8")
    assert log.count('"shutdown_requested"') == 1
    assert "SIGTERM" in log
    resumed = run_loop(slow(scene))
    assert (resumed.code, resumed.codes) == (0, [0, 0])
    assert last_line(scene, "first")["generated_rows"] == MANY - safe
    assert len(scene.rows("ana/first-results")) == MANY


def test_a_second_ctrl_c_ends_at_once(scene: Scene) -> None:
    with looping({**slow(scene, delay=30), "SHUTDOWN_GRACE_SECONDS": 60, "PARALLEL": 2}) as loop:
        loop.says("third  generates")
        loop.interrupt()
        loop.says("stopping")
        time.sleep(1.5)  # a signal that comes at once after another is the same one
        loop.interrupt()
        at = time.monotonic()
        ended = loop.end()
        assert time.monotonic() - at < 5
    assert (ended.code, ended.codes) == (75, [143, 143])


def test_sigkill_of_the_loop_leaves_no_child(scene: Scene) -> None:
    with looping({**slow(scene, delay=30), "PARALLEL": 2}) as loop:
        loop.says("third  generates")
        children = loop.children()
        assert len([pid for pid in children if "-m\0job" in command_of(pid)]) == 2
        loop.process.kill()
        assert_gone(children)


def test_what_is_wrong_with_all_is_said_without_starting_any(scene: Scene) -> None:
    with looping({**scene.variables, "MODEL_IDS": "org/a other/a"}) as loop:
        out, err = loop.process.communicate(timeout=60)
    assert (loop.process.returncode, out) == (78, "")
    assert "both would publish as a-results" in err
    assert not scene.output.exists()


DOCKER = """\
#!{python}
# A docker for tests: it runs the job as a process, with what `docker run` names of the environment, and passes signals on.
import os, signal, subprocess, sys
if sys.argv[1] in ("info", "image"):
    sys.exit(0)
assert sys.argv[1] == "run"
flags = {{"--rm"}}
options, rest = [], sys.argv[2:]
while rest[0].startswith("-"):
    option = rest.pop(0)
    options.append((option, "" if option in flags else rest.pop(0)))
assert rest == ["answers-job:test"], rest
mounts = dict(reversed(value.split(":")[:2]) for option, value in options if option == "--volume")
names = [value for option, value in options if option == "--env"]
environ = {{name: mounts.get(os.environ[name], os.environ[name]) for name in names}}
environ["PATH"] = os.environ["PATH"]
job = subprocess.Popen([sys.executable, "-m", "job"], env=environ)
signal.signal(signal.SIGTERM, lambda number, _frame: job.send_signal(number))
signal.signal(signal.SIGINT, lambda number, _frame: job.send_signal(number))
code = job.wait()
sys.exit(code if code >= 0 else 128 - code)
"""


@pytest.fixture
def docker(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    program = scene.folder / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return {"RUNNER": "docker", "IMAGE": "answers-job:test"}


def test_containers_publish_and_their_results_are_found_on_the_host(scene: Scene, docker: dict[str, object]) -> None:
    check_two_of_three_published(scene, run_loop({**scene.variables, **docker}))


def test_ctrl_c_reaches_a_container_once_and_so_does_the_end_of_the_loop(scene: Scene, docker: dict[str, object]) -> None:
    run = {**slow(scene), **docker}
    with looping(run) as loop:
        loop.says("generates")
        loop.interrupt()
        stopped = loop.end()
    assert (stopped.code, stopped.codes) == (75, [75, None])
    with looping(run) as loop:
        loop.says("generates")
        children = loop.children()
        loop.process.kill()
        assert_gone(children)
    last = last_line(scene, "first")
    assert (last["event"], last["exit_code"]) == ("run_finished", 75), "the job was not asked to stop in order"


def test_a_host_without_our_packages_can_loop(scene: Scene, docker: dict[str, object]) -> None:
    """The Python of a docker host: its own library and nothing else."""
    code = "import sys; sys.argv = ['x']; import runpy; runpy.run_path('scripts/generate-all', run_name='__main__')"
    bare = [sys.executable, "-S", "-c", code]
    done = subprocess.run(bare, cwd=ROOT, env={"MODEL_IDS": "", "PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        78,
        "generate-all: MODEL_IDS: names no model: set it to ids such as `org/one org/two@main`\n",
    )


def test_the_example_of_the_page_works_as_it_is_written(tmp_path: Path) -> None:
    """By make and by whatever Python it finds."""
    page = (ROOT / "docs" / "several-models.md").read_text(encoding="utf-8")
    (command,) = (line for line in page.splitlines() if "ENGINE=echo" in line and line.endswith(" make generate-all"))
    environ = {name: value for name, value in environment(OUTPUT_DIR=tmp_path).items() if name != "LOG_FORMAT"}
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[-3:]] == ["one", "two", "three"]
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"one.log", "two.log", "three.log"}
