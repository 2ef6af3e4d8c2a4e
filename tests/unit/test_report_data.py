"""What the report says of its runs, and how their rows become pages: pure, and from folders that a run could have written."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from job.errors import OutputError
from job.report.comparison import Mismatches, differences, warnings
from job.report.figures import figures
from job.report.pages import PAGE_ROWS, Pages
from job.report.rows import Cell, Row, Sample, rows
from job.report.runs import Run, labelled, parsed
from tests.result_folders import Answer, Made, change_manifest, write_results

TWO = [({"instruction": "One?"}, [Answer("first answer")]), ({"instruction": "Two?"}, [Answer("a b c", "length")])]


def run_of(folder: Path, **made: Any) -> Run:
    write_results(folder, iter(TWO), Made(**made))
    return Run(str(folder), parsed("run.json", json.loads((folder / "run.json").read_text())))


def unpacked(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(text), -zlib.MAX_WBITS))


def row(position: int, *texts: str | None, instruction: str = "Do it.", prompts: Sequence[str] = ()) -> Row:
    cells = tuple(
        Cell(instruction, prompts[place] if prompts else "a prompt", 2, (Sample(text, "error" if text is None else "stop", 3),))
        for place, text in enumerate(texts)
    )
    return Row(position, instruction, {}, cells)


def test_names_are_those_of_the_models(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, model=f"org/{name}") for name in ("a", "b")]
    assert [run.label for run in labelled(runs)] == ["a", "b"]


def test_runs_of_one_model_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / str(seed), settings={"SEED": seed, "TEMPERATURE": 0.5}) for seed in (1, 2)]
    assert [run.label for run in labelled(runs)] == ["seed 1", "seed 2"]
    other = run_of(tmp_path / "other", model="org/other")
    assert [run.label for run in labelled([*runs, other])] == ["model-a, seed 1", "model-a, seed 2", "other"]


def test_runs_that_differ_in_nothing_are_numbered(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / str(number)) for number in (1, 2)]
    assert [run.label for run in labelled(runs)] == ["model-a #1", "model-a #2"]


def test_equal_settings_are_like_for_like(tmp_path: Path) -> None:
    runs = labelled([run_of(tmp_path / name, model=f"org/{name}") for name in ("a", "b")])
    assert differences(runs) == []
    assert warnings(runs, [], Mismatches()) == []


def test_sampling_prompt_and_dataset_make_runs_unlike_and_the_engine_does_not(tmp_path: Path) -> None:
    changed = {"TEMPERATURE": 0, "PROMPT_TEMPLATE": "chat", "ENFORCE_EAGER": "true"}
    runs = labelled([run_of(tmp_path / "a"), run_of(tmp_path / "b", settings=changed, dataset_commit="b" * 40)])
    found = differences(runs)
    assert {each.name: each.unlike for each in found} == {
        "dataset.commit": True,
        "prompt.template": True,
        "sampling.temperature": True,
        "enforce_eager": False,
    }
    assert found[-1].name == "enforce_eager"
    told = warnings(runs, found, Mismatches())
    assert any("position" in each for each in told)
    assert any("sampling (temperature)" in each for each in told)
    assert len(told) == 3


def test_rows_that_do_not_match_are_told(tmp_path: Path) -> None:
    runs = labelled([run_of(tmp_path / name, model=f"org/{name}") for name in ("a", "b")])
    told = warnings(runs, [], Mismatches(absent=1, instructions=2, prompts=3))
    assert [each.split()[0] for each in told] == ["Not", "2", "3"]


def test_figures_count_runaways_lengths_and_speed(tmp_path: Path) -> None:
    (each,) = figures([run_of(tmp_path / "a")])
    assert each.answers.runaways == 1
    assert each.tokens_per_second == pytest.approx(5 / 60)
    assert [phase.name for phase in each.phases] == ["plan", "prompts", "engine_start", "generation"]
    assert sum(phase.share for phase in each.phases) == pytest.approx(1)
    assert [(bar.low, bar.answers) for bar in each.bars if bar.answers] == [(2, 1), (3, 1)]


def test_a_resumed_run_has_no_speed(tmp_path: Path) -> None:
    (each,) = figures([run_of(tmp_path / "a", generated_rows=1)])
    assert each.tokens_per_second is None


def test_histograms_have_the_same_bins_however_long_the_answers(tmp_path: Path) -> None:
    long = write_results(tmp_path / "long", iter([({"instruction": "x"}, [Answer("x", "stop", 4096)])]), Made("org/long"))
    runs = [run_of(tmp_path / "a"), Run(str(long), parsed("run.json", json.loads((long / "run.json").read_text())))]
    one, other = figures(runs)
    assert [(bar.low, bar.high) for bar in one.bars] == [(bar.low, bar.high) for bar in other.bars]
    assert sum(bar.answers for bar in other.bars) == 1
    assert other.bars[-1].high >= 4096


@pytest.mark.parametrize(
    "values",
    [
        {"files": [{"path": "../../secret.parquet", "rows": 1, "sha256": "x"}]},
        {"files": [{"path": "/etc/secret.parquet", "rows": 1, "sha256": "x"}]},
        {"files": [{"path": "run.json", "rows": 1, "sha256": "x"}]},
        {"counts": None},
        {"seconds": {"plan": -1}},
        {"seconds": {"plan": "<b>"}},
        {"identity": []},
        {"counts": {"rows": 10**400}},
    ],
)
def test_a_manifest_that_no_run_wrote_is_refused(tmp_path: Path, values: Mapping[str, object]) -> None:
    run_of(tmp_path)
    change_manifest(tmp_path, **values)
    with pytest.raises(OutputError, match=r"run\.json"):
        parsed("run.json", json.loads((tmp_path / "run.json").read_text()))


def test_rows_are_matched_by_position_and_absent_ones_are_none(tmp_path: Path) -> None:
    long = [({"instruction": f"{number}?", "id": str(number)}, [Answer(f"answer {number}")]) for number in range(600)]
    folders = [write_results(tmp_path / "a", iter(long)), write_results(tmp_path / "b", iter(long[:10]))]
    manifests = [parsed("", json.loads((folder / "run.json").read_text())) for folder in folders]
    found = list(rows(folders, manifests))
    assert [each.position for each in found] == list(range(600))
    assert found[9].cells[1] is not None
    assert found[9].cells[1].samples == (Sample("answer 9", "stop", 2),)
    assert found[10].cells[1] is None
    assert found[10].others == {"id": "10"}


def test_samples_are_kept_apart(tmp_path: Path) -> None:
    two = [({"instruction": "x"}, [Answer("one"), Answer("two words", "length")])]
    folder = write_results(tmp_path, iter(two), Made(settings={"NUM_SAMPLES": 2}))
    (found,) = rows([folder], [parsed("", json.loads((folder / "run.json").read_text()))])
    assert found.cells[0] is not None
    assert [(each.text, each.reason, each.tokens) for each in found.cells[0].samples] == [
        ("one", "stop", 1),
        ("two words", "length", 2),
    ]


def test_pages_give_back_what_went_in_and_the_index_says_where() -> None:
    pages = Pages(2)
    made = [unpacked(page) for page in pages.of(row(number, f"a{number}", f"b{number}") for number in range(450))]
    assert [len(page) for page in made] == [PAGE_ROWS, PAGE_ROWS, 50]
    index = unpacked(pages.index())
    assert index["starts"] == [0, 200, 400]
    assert index["rows"] == 450
    assert made[2][1] == ["Do it.", {}, [["a prompt", 2, [["a401", "stop", 3]]], [0, 2, [["b401", "stop", 3]]]]]


def test_long_rows_make_short_pages() -> None:
    pages = Pages(1)
    assert len(list(pages.of(row(number, "x" * 400_000) for number in range(4)))) == 2


def test_the_index_says_who_answers_alike_and_how_answers_end() -> None:
    pages = Pages(3)
    list(
        pages.of([row(0, "same", "other", "same"), row(1, None, None, None), Row(2, "x", {}, (None, *row(2, "y", "y").cells))])
    )
    index = unpacked(pages.index())
    assert index["groups"] == ["010", "000", "011"]
    assert index["reasons"] == [[1, 16, 0], [1, 16, 1], [1, 16, 1]]
    assert index["tokens"][0] == [3, 3, -1]


def test_prompts_are_kept_once_where_they_are_the_same() -> None:
    pages = Pages(3)
    (page,) = (unpacked(page) for page in pages.of([row(0, "a", "b", "c", prompts=["p", "q", "p"])]))
    assert [cell[0] for cell in page[0][2]] == ["p", "q", 0]
    assert pages.mismatches == Mismatches(prompts=1)
