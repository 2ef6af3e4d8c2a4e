"""What users get wrong: each mistake ends soon, with the exit code and a last line that say what it was and what to do."""

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import (
    ECHO,
    Outcome,
    finished_rows,
    journal_of,
    parquet_bytes,
    read_table,
    results_folder,
    run_job,
    write_jsonl,
)

pytestmark = pytest.mark.slow
TOKEN = "hf_neverToBeShown123"
THREE = [{"instruction": text, "id": number} for number, text in enumerate(["Say hello.", "Count to three.", "Name a colour."])]
LLAMA = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'
TOO_LONG = "word " * 400


class Ground:
    """Where a case is prepared. What it sets up beyond files goes with `stack`."""

    def __init__(self, folder: Path, finished: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.output = folder / "results"
        self.stack = stack
        self._finished = finished

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def finished_run(self) -> Path:
        """Results of the three rows, complete. Returns the journal."""
        shutil.copytree(self._finished, self.output, symlinks=True)
        journal = journal_of(self.output)
        assert journal is not None
        return journal

    def mounted(self, *options: str) -> Path:
        """A small file system of its own."""
        if os.geteuid() or not shutil.which("mount"):
            pytest.skip("only root can mount a file system")
        target = self.folder / "mount"
        target.mkdir()
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", target], capture_output=True, text=True
        )
        if mount.returncode:
            pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
        self.stack.callback(unmount, target)
        return target


def unmount(target: Path) -> None:
    subprocess.run(["umount", "--lazy", target], check=True)


Prepare = Callable[[Ground], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Case:
    """A mistake. prepare: makes its files and gives its variables (None: unset); says: what the last line has to hold."""

    name: str
    code: int
    prepare: Prepare
    says: Sequence[str]


def given(**variables: object) -> Prepare:
    return lambda ground: variables


def dataset(name: str, content: str | bytes, **more: object) -> Prepare:
    return lambda ground: {"DATASET_ID": ground.file(name, content), **more}


def rows(*values: object, **more: object) -> Prepare:
    """A dataset with these instructions."""
    return lambda ground: {
        "DATASET_ID": write_jsonl(ground.folder / "rows.jsonl", [{"instruction": value} for value in values]),
        **more,
    }


def template(content: str | bytes) -> Prepare:
    return lambda ground: {"PROMPT_TEMPLATE": ground.file("prompt.jinja", content)}


def model(**files: str) -> Prepare:
    """A model folder for the real engine, with these files; `_` in a name stands for a dot."""

    def prepare(ground: Ground) -> Mapping[str, object]:
        folder = ground.folder / "model"
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_text(content)
        return {"ENGINE": "vllm", "MODEL_ID": folder}

    return prepare


def empty_parquet(ground: Ground) -> Mapping[str, object]:
    path = ground.folder / "rows.parquet"
    pq.write_table(pa.table({"instruction": pa.array([], pa.string())}), path)
    return {"DATASET_ID": path}


def cut_parquet(ground: Ground) -> Mapping[str, object]:
    path = ground.folder / "rows.parquet"
    pq.write_table(pa.table({"instruction": ["a", "b"]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    return {"DATASET_ID": path}


def misspelt_file(ground: Ground) -> Mapping[str, object]:
    for name in ("questions.jsonl", "answers.csv", "notes.txt"):
        ground.file(name, "x")
    return {"DATASET_ID": ground.folder / "question.jsonl"}


def empty_folder(ground: Ground) -> Mapping[str, object]:
    (ground.folder / "data").mkdir()
    return {"DATASET_ID": ground.folder / "data"}


def other_splits(ground: Ground) -> Mapping[str, object]:
    for split in ("train", "validation"):
        ground.file(f"data/{split}.jsonl", '{"instruction": "a"}\n')
    return {"DATASET_ID": ground.folder / "data"}


def below_a_file(variable: str) -> Prepare:
    return lambda ground: {variable: ground.file("file", "x") / "folder"}


def full_disk(ground: Ground) -> Mapping[str, object]:
    target = ground.mounted("size=16k")
    (target / "filler").write_bytes(bytes(16 * 1024))
    return {"OUTPUT_DIR": target / "results"}


def disk_full_of_prompts(ground: Ground) -> Mapping[str, object]:
    data = write_jsonl(ground.folder / "many.jsonl", [{"instruction": f"Count to {number}."} for number in range(600)])
    return {"OUTPUT_DIR": ground.mounted("size=96k") / "results", "DATASET_ID": data}


def full_cache(ground: Ground) -> Mapping[str, object]:
    data = write_jsonl(ground.folder / "big.jsonl", [{"instruction": os.urandom(1000).hex()} for _ in range(100)])
    return {"HF_HOME": ground.mounted("size=64k") / "hf", "DATASET_ID": data}


def read_only_disk(ground: Ground) -> Mapping[str, object]:
    return {"OUTPUT_DIR": ground.mounted("size=64k", "ro") / "results"}


def garbled_journal(ground: Ground) -> Mapping[str, object]:
    ground.finished_run().write_bytes(os.urandom(8192))
    return {}


def cut_journal(ground: Ground) -> Mapping[str, object]:
    journal = ground.finished_run()
    journal.write_bytes(journal.read_bytes()[:4096])
    return {}


def other_database(ground: Ground) -> Mapping[str, object]:
    journal = ground.finished_run()
    journal.unlink()
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute("CREATE TABLE bookmarks(url TEXT)")
    return {}


def changed_in_the_journal(statement: str) -> Prepare:
    """A finished run whose results are to be written again, from a journal that was tampered with."""

    def prepare(ground: Ground) -> Mapping[str, object]:
        journal = ground.finished_run()
        (results_folder(ground.output) / "run.json").unlink()
        with closing(sqlite3.connect(journal)) as connection, connection:
            connection.execute(statement)
        return {}

    return prepare


def locked(ground: Ground) -> Mapping[str, object]:
    shard = ground.finished_run().parent
    file = ground.stack.enter_context((shard / "lock").open("r+"))
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    note = {"holder": "process 4711 on elsewhere", "kernel": "", "device": 0, "token": ""}
    (shard / "holder.json").write_text(json.dumps(note))
    return {}


SETTINGS = [
    Case("no MODEL_ID", 78, given(MODEL_ID=None), ["MODEL_ID: is required", "a Hub id such as", "or a local folder"]),
    Case("empty MODEL_ID", 78, given(MODEL_ID=""), ["MODEL_ID: is required"]),
    Case("no DATASET_ID", 78, given(DATASET_ID=None), ["DATASET_ID: is required", "a Hub id such as", ".jsonl"]),
    Case("word for a number", 78, given(TEMPERATURE="warm"), ["TEMPERATURE='warm'", "valid number", "0 is greedy"]),
    Case("NaN", 78, given(TEMPERATURE="nan"), ["TEMPERATURE='nan'", "finite number"]),
    Case("fraction for a whole number", 78, given(SEED="1.5"), ["SEED='1.5'", "valid integer"]),
    Case("above the range", 78, given(TOP_P="1.5"), ["TOP_P='1.5'", "less than or equal to 1"]),
    Case("below the range", 78, given(MAX_FAILED_ROWS="-1"), ["MAX_FAILED_ROWS='-1'", "greater than or equal to 0"]),
    Case("no yes or no", 78, given(TRUST_REMOTE_CODE="maybe"), ["TRUST_REMOTE_CODE='maybe'", "valid boolean"]),
    Case("unknown choice", 78, given(DTYPE="float8"), ["DTYPE='float8'", "should be", "'bfloat16'"]),
    Case("unknown engine", 78, given(ENGINE="tgi"), ["ENGINE='tgi'", "'vllm' or 'echo'"]),
    Case("unknown log format", 78, given(LOG_FORMAT="xml"), ["LOG_FORMAT='xml'", "'json' or 'console'"]),
    Case(
        "STOP is no JSON",
        78,
        given(STOP='["a'),
        ["STOP='[\"a'", "Unterminated string", 'a JSON list of strings such as `["###"'],
    ),
    Case("STOP holds a number", 78, given(STOP='["a", 1]'), ["STOP=", "valid string", "a JSON list of strings"]),
    Case("STOP holds nothing", 78, given(STOP='[""]'), ["STOP=", "empty string", "end every answer at once"]),
    Case(
        "ENGINE_ARGS is no JSON", 78, given(ENGINE_ARGS="{window: 3}"), ["ENGINE_ARGS=", "double quotes", 'such as `{"max_num']
    ),
    Case("ENGINE_ARGS is a list", 78, given(ENGINE_ARGS="[1]"), ["ENGINE_ARGS='[1]'", "dictionary", "JSON object such as"]),
    Case(
        "ENGINE_ARGS says what a variable says",
        78,
        given(ENGINE_ARGS='{"max_model_len": 128}'),
        ["ENGINE_ARGS=", '{"max_model_len": 128}', "is set by MAX_MODEL_LEN: use that variable"],
    ),
    Case(
        "unknown switch of the echo engine",
        78,
        given(ENGINE_ARGS='{"windw": 3}'),
        ["ENGINE_ARGS", "windw", "not permitted", "It takes delay_seconds, fail_every, window"],
    ),
    Case(
        "SYSTEM_PROMPT without chat", 78, given(SYSTEM_PROMPT="Be brief."), ["SYSTEM_PROMPT=", "PROMPT_TEMPLATE=chat", "unset"]
    ),
    Case(
        "slice of a split", 78, given(DATASET_SPLIT="test[:10]"), ["DATASET_SPLIT='test[:10]'", "not the name", "use MAX_ROWS"]
    ),
    Case(
        "several problems at once",
        78,
        given(MODEL_ID=None, TOP_P="7", NUM_SAMPLES="0", STOP="[", DATASET_SPLIT="a b", SYSTEM_PROMPT="Be brief."),
        [
            "MODEL_ID: is required",
            "TOP_P='7'",
            "NUM_SAMPLES='0'",
            "STOP='['",
            "DATASET_SPLIT='a b'",
            "SYSTEM_PROMPT='Be brief.'",
        ],
    ),
]
MEND = "Mend it, or give another DATASET_ID"
DATASETS = [
    Case("jsonl cut off", 65, dataset("a.jsonl", '{"instruction": "a"}\n{"instr'), ["DATASET_ID=", "a.jsonl", "row 1", MEND]),
    Case("jsonl with a line of text", 65, dataset("a.jsonl", '{"instruction": "a"}\nb\n'), ["DATASET_ID=", "row 1", MEND]),
    Case(
        "jsonl in Latin-1",
        65,
        dataset("a.jsonl", '{"instruction": "d\xe9j\xe0"}\n'.encode("latin-1")),
        ["column instruction", "Invalid UTF8", "index 0", "Save the dataset as UTF-8"],
    ),
    Case(
        "another column in Latin-1",
        65,
        dataset("a.jsonl", '{"instruction": "a", "note": "caf\xe9"}\n'.encode("latin-1")),
        ["column note", "Invalid UTF8", "Save the dataset as UTF-8"],
    ),
    Case("json cut off", 65, dataset("a.json", '[{"instruction": "a"}, {'), ["DATASET_ID=", "a.json", "cannot be read", MEND]),
    Case("csv with an open quote", 65, dataset("a.csv", 'instruction\n"a\nb\n'), ["a.csv", "EOF inside string", MEND]),
    Case("csv with one cell too many", 65, dataset("a.csv", "instruction,id\na,1\nb,2,3\n"), ["a.csv", "in line 3", MEND]),
    Case("csv in Latin-1", 65, dataset("a.csv", "instruction\nd\xe9j\xe0\n".encode("latin-1")), ["a.csv", "utf-8", MEND]),
    Case("parquet is garbage", 65, dataset("a.parquet", b"\x00garbage" * 50), ["a.parquet", "not a parquet file", MEND]),
    Case("parquet cut off", 65, cut_parquet, ["rows.parquet", "corrupted", MEND]),
    Case("parquet without rows", 65, empty_parquet, ["rows.parquet", "split test has no rows"]),
    Case("empty file", 65, dataset("a.jsonl", ""), ["DATASET_ID=", "a.jsonl: the file is empty"]),
    Case("csv with a header only", 65, dataset("a.csv", "instruction,id\n"), ["DATASET_ID=", "split test has no rows"]),
    Case("blank lines only", 65, dataset("a.jsonl", "\n\n\n"), ["DATASET_ID=", "split test has no rows"]),
    Case("blank csv", 65, dataset("a.csv", "\n\n\n"), ["DATASET_ID=", "split test has no rows"]),
    Case("empty folder", 65, empty_folder, ["DATASET_ID=", "has no rows", "doesn't contain any data files"]),
    Case("unknown suffix", 65, dataset("a.txt", "a"), ["a.txt: .txt suffix", "readable are .csv, .json, .jsonl, .parquet"]),
    Case("missing file", 65, misspelt_file, ["question.jsonl: no such file", "has: answers.csv, questions.jsonl"]),
    Case("missing split", 65, other_splits, ["DATASET_SPLIT=test", "Unknown split", "['train', 'validation']"]),
]
COLUMNS = [
    Case(
        "missing column",
        65,
        given(INSTRUCTION_COLUMN="question"),
        ["INSTRUCTION_COLUMN=question", "no such column", "The columns are: instruction, id"],
    ),
    Case(
        "column of numbers", 65, given(INSTRUCTION_COLUMN="id"), ["INSTRUCTION_COLUMN=id", "int64, not text", "Choose a text"]
    ),
    Case("column of lists", 65, rows(["a"], ["b"]), ["INSTRUCTION_COLUMN=instruction", "not text", "Choose a text column"]),
    Case("column of mixed types", 65, rows("a", 3, ["b"]), ["INSTRUCTION_COLUMN=instruction", "not text", "Choose a text"]),
    Case("column of nulls", 65, rows(None, None), ["INSTRUCTION_COLUMN=instruction", "null, not text", "Choose a text"]),
    Case(
        "null instruction",
        65,
        rows("a", None, "c"),
        ["1 of 3 rows cannot be answered", "row 1: column instruction is null", "Mend them, or set MAX_FAILED_ROWS=1"],
    ),
    Case(
        "instruction too long",
        65,
        rows("a", "b", TOO_LONG, MAX_MODEL_LEN=128),
        ["1 of 3 rows cannot be answered", "row 2", "no room for an answer in MAX_MODEL_LEN=128", "set MAX_FAILED_ROWS=1"],
    ),
    Case(
        "more failures than allowed",
        65,
        rows(None, "b", TOO_LONG, None, MAX_MODEL_LEN=128, MAX_FAILED_ROWS=2),
        ["3 of 4 rows", "MAX_FAILED_ROWS=2", "row 0: column instruction is null", "row 2", "set MAX_FAILED_ROWS=3"],
    ),
    Case(
        "drop of an unknown column",
        65,
        given(DROP_COLUMNS="idd"),
        ["DROP_COLUMNS=idd", "no such column", "are: instruction, id"],
    ),
    Case(
        "columns with our names",
        65,
        dataset("a.jsonl", '{"instruction": "a", "answers": "b", "prompt": "c", "id": 1}\n', DROP_COLUMNS="id"),
        ["answers, prompt", "Leave them out with DROP_COLUMNS=id,answers,prompt, or rename them"],
    ),
]
TEMPLATES = [
    Case(
        "missing template",
        78,
        given(PROMPT_TEMPLATE="prompt.jinja"),
        ["PROMPT_TEMPLATE='prompt.jinja'", "neither", "No such file"],
    ),
    Case(
        "name of no template", 78, given(PROMPT_TEMPLATE="chatml"), ["PROMPT_TEMPLATE='chatml'", "is neither alpaca nor chat"]
    ),
    Case("invalid template", 78, template("{{ instruction "), ["PROMPT_TEMPLATE=", "prompt.jinja", "no valid Jinja template"]),
    Case("unknown filter", 78, template("{{ instruction | shout }}"), ["PROMPT_TEMPLATE=", "no valid Jinja", "'shout'"]),
    Case(
        "template with an unknown column",
        78,
        template("{{ instruction }} {{ context }}"),
        ["PROMPT_TEMPLATE=", "uses context", "the columns are: instruction, id"],
    ),
    Case("template in Latin-1", 78, template(b"d\xe9j\xe0 {{ instruction }}"), ["PROMPT_TEMPLATE=", "cannot be read", "utf-8"]),
    Case(
        "template that fails", 65, template("{{ instruction / 2 }}"), ["3 of 3 rows", "row 0: the template failed", "Mend them"]
    ),
]
OUTPUTS = [
    Case(
        "output below a file", 73, below_a_file("OUTPUT_DIR"), ["file/folder", "Not a directory", "choose another OUTPUT_DIR"]
    ),
    Case("output below /proc", 73, given(OUTPUT_DIR="/proc/results"), ["/proc/results", "choose another OUTPUT_DIR"]),
    Case("output on a full disk", 73, full_disk, ["mount/results", "No space left on device. Make room"]),
    Case("disk fills with prompts", 73, disk_full_of_prompts, ["mount/results", "No space left on device. Make room"]),
    Case("output on a read-only disk", 73, read_only_disk, ["mount/results", "Read-only file system", "another OUTPUT_DIR"]),
    Case("cache below a file", 73, below_a_file("HF_HOME"), ["HF_HOME", "Not a directory", "set HF_HOME to a folder"]),
    Case("cache on a full disk", 73, full_cache, ["HF_HOME", "No space left on device", "Make room there"]),
    Case("journal is garbage", 73, garbled_journal, ["journal.sqlite: the journal is damaged", "move it away and run again"]),
    Case("journal cut off", 73, cut_journal, ["journal.sqlite: the journal is damaged", "move it away and run again"]),
    Case(
        "journal of another program", 73, other_database, ["journal.sqlite is another program's", "move it away and run again"]
    ),
    Case(
        "journal of another run",
        73,
        changed_in_the_journal("UPDATE run SET identity = 'feedfacefeedface'"),
        ["journal.sqlite holds rows of another run (feedfacefeed)", "move it away and run again"],
    ),
    Case(
        "journal with a garbled row",
        73,
        changed_in_the_journal("UPDATE finished SET completions = '[{' WHERE position = 1"),
        ["journal.sqlite: 1 rows are damaged, the first of them row 1", "run the same command again to answer them anew"],
    ),
    Case("run held by another process", 75, locked, ["is being worked on by process 4711 on elsewhere", "wait for it to end"]),
]
MODELS = [
    Case(
        "no model folder",
        78,
        given(ENGINE="vllm", MODEL_ID="./nothing"),
        ["MODEL_ID='./nothing'", "no such folder", "config.json"],
    ),
    Case(
        "model is a file",
        78,
        lambda ground: {"ENGINE": "vllm", "MODEL_ID": ground.file("m", "")},
        ["MODEL_ID=", "no such folder"],
    ),
    Case("model without config.json", 78, model(), ["MODEL_ID=", "the folder has no config.json"]),
    Case(
        "model without weights",
        78,
        model(config_json=LLAMA),
        ["MODEL_ID=", "no weights (*.safetensors)", "convert them", "ENGINE_ARGS"],
    ),
    Case(
        "model without tokenizer",
        78,
        model(config_json=LLAMA, model_safetensors=""),
        ["MODEL_ID=", "its tokenizer cannot be loaded", "Check that tokenizer.json"],
    ),
]
CASES = [*SETTINGS, *DATASETS, *COLUMNS, *TEMPLATES, *OUTPUTS, *MODELS]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a finished run over the three rows."""
    folder = tmp_path_factory.mktemp("finished")
    outcome = run_job(**ECHO, DATASET_ID=write_jsonl(folder / "three.jsonl", THREE), OUTPUT_DIR=folder / "results")
    assert outcome.code == 0
    return folder / "results"


def run_with(folder: Path, variables: Mapping[str, object]) -> Outcome:
    """The echo engine on three rows, but for these variables."""
    base = {
        **ECHO,
        "DATASET_ID": write_jsonl(folder / "three.jsonl", THREE),
        "OUTPUT_DIR": folder / "results",
        "HF_TOKEN": TOKEN,
    }
    return run_job(**{name: value for name, value in {**base, **variables}.items() if value is not None})


def patience() -> float:
    """Seconds that a case may take: 20, and more on a machine that is busy with other things."""
    return 20.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_mistake_is_explained(case: Case, tmp_path: Path, finished: Path) -> None:
    with ExitStack() as stack:
        outcome = run_with(tmp_path, case.prepare(Ground(tmp_path, finished, stack)))
    assert outcome.code == case.code, outcome.last
    assert (outcome.last["event"], outcome.last["exit_code"]) == ("run_finished", case.code)
    assert [part for part in case.says if part not in outcome.last["message"]] == [], outcome.last["message"]
    assert not outcome.of("engine_ready")
    said = json.dumps(outcome.events) + outcome.stderr
    assert "Traceback" not in said
    assert TOKEN not in said
    assert outcome.stderr == ""
    assert outcome.seconds < patience()


def test_the_mistakes_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_misspelt_variable_is_named_beside_the_mistake_it_causes(tmp_path: Path) -> None:
    outcome = run_with(tmp_path, {"TEMPRATURE": "0", "INSTRUCTION_COLUMN": "question"})
    assert [(event["variable"], event["meant"]) for event in outcome.of("unknown_variable")] == [("TEMPRATURE", "TEMPERATURE")]
    assert outcome.code == 65


BadRows = tuple[list[str | None], list[str], dict[str, object]]
BAD_ROWS: dict[str, BadRows] = {
    "null": ([None], ["error"], {}),
    "too long": ([TOO_LONG], ["too_long"], {"MAX_MODEL_LEN": 128}),
    "null and too long": ([None, TOO_LONG], ["error", "too_long"], {"MAX_MODEL_LEN": 128}),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_rows_that_cannot_be_answered_are_recorded_where_that_is_allowed(bad: str, tmp_path: Path, output: Path) -> None:
    instructions, reasons, more = BAD_ROWS[bad]
    count = len(instructions)
    data = write_jsonl(
        tmp_path / "rows.jsonl", [{"instruction": text} for text in ["Say hello.", *instructions, "Say goodbye."]]
    )
    outcome = run_with(tmp_path, {"DATASET_ID": data, "MAX_FAILED_ROWS": count, **more})
    assert (outcome.code, outcome.last["failed_rows"], outcome.last["rows"]) == (0, count, count + 2)
    assert [(event["position"], event["reason"]) for event in outcome.of("row_failed")] == list(enumerate(reasons, 1))
    table = read_table(results_folder(output))
    assert table["instruction"].to_pylist() == ["Say hello.", *instructions, "Say goodbye."]
    assert table["finish_reason"].to_pylist() == ["stop", *reasons, "stop"]
    answers = table["answers"].to_pylist()
    assert ["Say hello." in str(answers[0]), "Say goodbye." in str(answers[-1])] == [True, True]
    assert answers[1:-1] == [None] * count
    assert table["completion_tokens"].to_pylist()[1:-1] == [0] * count


def test_rows_that_fail_in_the_engine_alone_are_tried_again(tmp_path: Path, output: Path) -> None:
    """The job says so at the end, with everything else safe and written."""
    count, every = 12, 5
    data = write_jsonl(tmp_path / "rows.jsonl", [{"instruction": f"Count to {number}."} for number in range(count)])
    bad = list(range(every - 1, count, every))
    run = {"DATASET_ID": data, "ENGINE_ARGS": json.dumps({"fail_every": every})}
    outcome = run_with(tmp_path, run)
    folder = results_folder(output)
    assert outcome.code == outcome.last["exit_code"] == 65
    for part in (
        f"{len(bad)} of {count} rows",
        "MAX_FAILED_ROWS=0",
        f"safe in {folder}",
        "the same command tries only the failed",
    ):
        assert part in outcome.last["message"]
    answers = read_table(folder)["answers"].to_pylist()
    assert [position for position, answer in enumerate(answers) if answer is None] == bad
    before, written = finished_rows(output), parquet_bytes(folder)
    again = run_with(tmp_path, run)
    assert again.code == 65
    assert again.of("resume_found")[0]["rows_done"] == count - len(bad)
    assert again.of("preflight_passed")[0]["rows_pending"] == len(bad)
    assert [event["position"] for event in again.of("row_failed")] == bad
    assert finished_rows(output) == before
    assert parquet_bytes(folder) == written
    allowed = run_with(tmp_path, {**run, "MAX_FAILED_ROWS": len(bad)})
    assert (allowed.code, allowed.last["failed_rows"]) == (0, len(bad))


def test_rows_outlive_a_disk_that_fills_up(tmp_path: Path, finished: Path) -> None:
    count = 600
    data = write_jsonl(tmp_path / "many.jsonl", [{"instruction": f"Count to {number}."} for number in range(count)])
    with ExitStack() as stack:
        mount = Ground(tmp_path, finished, stack).mounted("size=340k")
        run = {"DATASET_ID": data, "OUTPUT_DIR": mount / "results", "ENGINE_ARGS": '{"delay_seconds": 0.01, "window": 16}'}
        full = run_with(tmp_path, run)
        assert full.code == full.last["exit_code"] == 73
        assert "journal.sqlite: the disk is full: make room and run the same command again" in full.last["message"]
        assert full.stderr == ""
        safe = finished_rows(mount / "results")
        assert 0 < len(safe) < count
        subprocess.run(["mount", "-o", "remount,size=2m", mount], check=True)
        resumed = run_with(tmp_path, run)
        assert (resumed.code, resumed.last["generated_rows"]) == (0, count - len(safe))
        assert safe.items() <= finished_rows(mount / "results").items()
        assert read_table(results_folder(mount / "results")).num_rows == count
