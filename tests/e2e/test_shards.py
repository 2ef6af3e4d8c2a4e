"""Real vLLM, two shards that share no folder, one of them killed: the rows that one process answers, published once."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub_server import HubServer
from tests.support import TOKEN, finished_rows, read_table, run_job, running

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(900)]
SHARDS = 2
REPO = "ana/SmolLM2-135M-Instruct-results"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.add_user("ana", token=TOKEN)
        yield server


def test_two_shards_give_the_rows_of_one_process(
    hub: HubServer, greedy_settings: dict[str, object], greedy_folder: Path, tmp_path: Path
) -> None:
    def machine(index: int) -> dict[str, object]:
        here = {"OUTPUT_DIR": tmp_path / f"machine-{index}", "SHARD_INDEX": index, "SHARD_COUNT": SHARDS, "CANARY": "false"}
        return {**greedy_settings, **hub.environment(TOKEN), **here, "HUB_NAMESPACE": "ana"}

    output = Path(str(machine(0)["OUTPUT_DIR"]))
    with running(tmp_path / "log", machine(0)) as job:
        job.until(lambda: finished_rows(output) or None, 300)
        job.process.send_signal(signal.SIGKILL)
        job.process.wait()
    kept = len(finished_rows(output))
    ended = [run_job(**machine(index)) for index in range(SHARDS)]
    assert [each.code for each in ended] == [0, 0], [each.last for each in ended]
    expected = read_table(greedy_folder)
    assert [each.last["generated_rows"] for each in ended] == [expected.num_rows // 2 - kept, expected.num_rows // 2]

    repo = hub.repo("dataset", REPO)
    files = {path: content for path, content in repo.files().items() if path.endswith(".parquet")}
    assert sorted(files) == [f"data/test-{index:05d}-of-{SHARDS:05d}.parquet" for index in range(SHARDS)]
    assert pa.concat_tables(pq.read_table(pa.BufferReader(files[path])) for path in sorted(files)).equals(expected)
    assert len([commit for commit in repo.history() if commit.title.startswith("Answers of run ")]) == 1
    assert set(repo.branches) == {"main"}
