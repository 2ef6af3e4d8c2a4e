"""The report's file: what is in it, what could not get out of its place in it, and what is refused with which exit code."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.errors import DatasetError, HubUnavailableError, JobError, OutputError, SettingsError
from job.records import Kind, Source
from job.report import page
from job.report.sources import Hub, folder_of
from job.report.writing import Report, write_report
from tests.result_folders import Answer, Made, change_manifest, write_results

ROWS = [({"instruction": "One?"}, [Answer("An answer.")]), ({"instruction": "Two?"}, [Answer("Another </script> one.")])]


def no_hub() -> NoReturn:
    raise AssertionError("the Hub is not asked")


def results(folder: Path, **made: Any) -> Path:
    return write_results(folder, iter(ROWS), Made(**made))


def report(tmp_path: Path, *folders: Path | str) -> Report:
    return write_report([str(folder) for folder in folders], tmp_path / "report.html", no_hub)


def refusal(tmp_path: Path, *folders: Path | str) -> JobError:
    with pytest.raises(JobError) as caught:
        report(tmp_path, *folders)
    assert not list(tmp_path.glob("report.html*"))
    return caught.value


class FakeHub:
    """A Hub whose datasets are folders here."""

    def __init__(self, folder: Path, error: Exception | None = None) -> None:
        self.api = self
        self.asked: list[tuple[str, ...]] = []
        self._folder, self._error = folder, error

    def resolve(self, kind: Kind, repo_id: str, revision: str) -> Source:
        self.asked.append((kind, repo_id, revision))
        if self._error:
            raise self._error
        return Source(repo_id, "c" * 40, local=False)

    def read(self, attempt: Any, doing: str) -> Any:
        return attempt()

    def snapshot_download(self, repo_id: str, **options: Any) -> str:
        assert options["repo_type"] == "dataset"
        self.asked.append((repo_id, options["revision"], *options["allow_patterns"]))
        return str(self._folder)


def test_the_report_is_one_file_with_a_summary_of_each_run(tmp_path: Path) -> None:
    done = report(tmp_path, results(tmp_path / "a"), results(tmp_path / "b", model="org/other"))
    text = done.path.read_text(encoding="utf-8")
    assert (done.rows, list(done.runs), list(done.warnings)) == (2, ["model-a", "other"], [])
    assert done.bytes == len(text.encode())
    assert text.count('class="run m') == 2
    assert "Not like for like" not in text
    assert not re.search(r"""(src|href)=(?!"data:,"|"#)""", re.sub(r"<script>.*</script>", "", text, flags=re.DOTALL))


def test_the_policy_names_the_script_and_the_style_by_their_digests(tmp_path: Path) -> None:
    text = report(tmp_path, results(tmp_path / "a")).path.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    for name in ("script", "style"):
        (content,) = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src &#39;sha256-{digest}&#39;" in policy[1].replace("'", "&#39;")
    assert "default-src &#39;none&#39;" in policy[1].replace("'", "&#39;")
    assert "unsafe" not in policy[1]
    assert not re.search(r"\son\w+=|\sstyle=", re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL))


def test_no_text_of_a_run_is_in_the_file_as_it_is(tmp_path: Path) -> None:
    folder = results(tmp_path / "a")
    change_manifest(folder, model={"name": "<b>m</b>", "commit": "</title><i>", "local": False})
    text = report(tmp_path, folder).path.read_text(encoding="utf-8")
    assert "Another </script>" not in text
    assert "<b>m</b>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;m&lt;" in text


@pytest.mark.parametrize("text", ["</script>", "<!--", "]]>", "a & b", "\u2028\u2029", '"\\', "é猫\x00"])
def test_json_in_a_block_cannot_end_it_and_reads_back(text: str) -> None:
    block = page.json_block({"runs": [text]})
    assert not set("<>&\u2028\u2029\x00") & set(block)
    assert json.loads(block) == {"runs": [text]}


def test_the_script_does_not_write_html() -> None:
    script = "".join(page._read(name) for name in page.SCRIPTS)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|</script", script)


def test_a_model_s_folder_and_latest_lead_to_the_run(tmp_path: Path) -> None:
    run = results(tmp_path / "model" / "0123456789ab")
    (tmp_path / "model" / "latest").symlink_to(run.name)
    for reference in (run, tmp_path / "model", tmp_path / "model" / "latest"):
        assert folder_of(str(reference), no_hub) == run


def test_results_on_the_hub_are_fetched_at_their_commit(tmp_path: Path) -> None:
    hub = FakeHub(results(tmp_path / "a"))
    assert folder_of("ana/model-results@v1", lambda: hub) == tmp_path / "a"
    assert folder_of("ana/other", lambda: hub) == tmp_path / "a"
    assert [each for each in hub.asked if each[0] == "dataset"] == [
        ("dataset", "ana/model-results", "v1"),
        ("dataset", "ana/other", "main"),
    ]
    assert hub.asked[1:3] == [
        ("ana/model-results", "c" * 40, "run.json"),
        ("ana/model-results", "c" * 40, "run.json", "data/test-00000-of-00001.parquet"),
    ]


def test_a_repository_that_holds_no_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ana/x@main.* has no run\.json"):
        folder_of("ana/x", lambda: FakeHub(tmp_path))


def test_a_hub_that_does_not_answer_is_said_to_be_so(tmp_path: Path) -> None:
    hub: Hub = FakeHub(tmp_path, HubUnavailableError("later"))
    with pytest.raises(HubUnavailableError):
        folder_of("ana/x", lambda: hub)


def test_what_is_no_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for reference in (tmp_path / "empty", tmp_path / "nowhere", "a/b/c", "word"):
        error = refusal(tmp_path, reference)
        assert isinstance(error, SettingsError)
        assert str(reference) in error.message
        assert "run.json" in error.message


def test_a_run_that_is_not_finished_is_to_be_finished_first(tmp_path: Path) -> None:
    folder = results(tmp_path / "a")
    (folder / "run.json").unlink()
    error = refusal(tmp_path, folder)
    assert isinstance(error, DatasetError)
    assert "not finished" in error.message


def test_different_splits_are_not_compared(tmp_path: Path) -> None:
    error = refusal(tmp_path, results(tmp_path / "a"), results(tmp_path / "b", settings={"DATASET_SPLIT": "train"}))
    assert isinstance(error, DatasetError)
    assert "default/test" in error.message
    assert "default/train" in error.message


def test_the_same_results_twice_are_refused(tmp_path: Path) -> None:
    folder = results(tmp_path / "a")
    (tmp_path / "link").symlink_to(folder)
    copy = results(tmp_path / "copy")
    for again in (folder, tmp_path / "link", copy):
        error = refusal(tmp_path, folder, again)
        assert isinstance(error, SettingsError)
        assert "only once" in error.message


@pytest.mark.parametrize("damage", ["cut", "gone", "other", "text"])
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    folder = results(tmp_path / "a")
    (file,) = folder.glob("data/*.parquet")
    content = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(content[:-10])
        case "gone":
            file.unlink()
        case "other":
            file.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        case "text":
            (folder / "run.json").write_text("{", encoding="utf-8")
            file = folder / "run.json"
    error = refusal(tmp_path, folder)
    assert isinstance(error, OutputError)
    assert str(file) in error.message


def test_a_file_that_no_parquet_reader_reads_is_named_even_where_its_digest_is_right(tmp_path: Path) -> None:
    folder = results(tmp_path / "a")
    (file,) = folder.glob("data/*.parquet")
    file.write_bytes(b"PAR1 and nothing more PAR1")
    manifest = json.loads((folder / "run.json").read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    change_manifest(folder, files=[{**manifest["files"][0], "sha256": digest}])
    error = refusal(tmp_path, folder)
    assert isinstance(error, OutputError)
    assert str(file) in error.message


def test_a_report_that_cannot_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--output"):
        write_report([str(results(tmp_path / "a"))], tmp_path / "file" / "report.html", no_hub)


def test_answers_that_are_no_text_are_refused(tmp_path: Path) -> None:
    folder = results(tmp_path / "a")
    (file,) = folder.glob("data/*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.set_column(table.column_names.index("answers"), "answers", pa.array([1, 2])), file)
    described = json.loads((folder / "run.json").read_text())["files"][0]
    change_manifest(folder, files=[described | {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}])
    error = refusal(tmp_path, folder)
    assert isinstance(error, OutputError)
    assert "no text" in error.message
