"""What is about one split is replaced in a card's metadata, and all else is kept."""

from typing import Any

import pytest
import yaml

from job.metadata import merged

FEATURES = [{"name": "instruction", "dtype": "string"}]


def info(split: str, rows: int = 3, features: object = FEATURES) -> dict[str, Any]:
    """What `datasets` says of one split."""
    return {
        "features": features,
        "splits": [{"name": split, "num_bytes": 10 * rows, "num_examples": rows}],
        "download_size": rows,
        "dataset_size": 10 * rows,
    }


def _card(metadata: dict[str, Any], body: str = "") -> str:
    return f"---\n{yaml.safe_dump(metadata)}---\n{body}"


def _merged(card: str, config: str = "default", split: str = "test", rows: int = 3, paths: tuple[str, ...] = ()) -> Any:
    front, _ = merged(card, config, split, info(split, rows), paths)
    return yaml.safe_load(front)


def _files(*splits: str, folder: str = "data") -> list[dict[str, str]]:
    return [{"split": split, "path": f"{folder}/{split}-*"} for split in splits]


def test_a_new_card_has_one_configuration_and_its_split() -> None:
    assert _merged("") == {
        "configs": [{"config_name": "default", "data_files": _files("test")}],
        "dataset_info": info("test"),
    }


def test_the_same_split_again_replaces_what_was_said_of_it() -> None:
    assert _merged(_card(_merged("")), rows=5)["dataset_info"] == info("test", 5)
    assert _merged(_card(_merged("", rows=5)), rows=5) == _merged("", rows=5)


def test_another_split_is_added_to_its_configuration() -> None:
    found = _merged(_card(_merged("")), split="dev", rows=2)
    assert found["configs"] == [{"config_name": "default", "data_files": _files("test", "dev")}]
    assert [(each["name"], each["num_examples"]) for each in found["dataset_info"]["splits"]] == [("test", 3), ("dev", 2)]
    assert found["dataset_info"]["dataset_size"] == 50
    assert "download_size" not in found["dataset_info"]


def test_another_configuration_is_added_and_each_has_its_name() -> None:
    found = _merged(_card(_merged("")), config="main")
    assert found["configs"] == [
        {"config_name": "default", "data_files": _files("test")},
        {"config_name": "main", "data_files": _files("test", folder="main")},
    ]
    assert found["dataset_info"] == [{"config_name": "default"} | info("test"), {"config_name": "main"} | info("test")]
    assert _merged(_card(found), config="main", rows=9)["dataset_info"][1] == {"config_name": "main"} | info("test", 9)


def test_the_only_configuration_may_have_a_name() -> None:
    assert _merged("", config="main")["dataset_info"] == {"config_name": "main"} | info("test")


def test_all_else_in_the_metadata_is_kept_in_its_order() -> None:
    found = _merged("---\nlicense: mit\nlanguage:\n- en\nconfigs:\n- config_name: default\n  default: true\n---\n")
    assert list(found) == ["license", "language", "configs", "dataset_info"]
    assert found["configs"] == [{"config_name": "default", "default": True, "data_files": _files("test")}]


def test_the_text_below_is_given_back_as_it_is() -> None:
    body = "\n# My words\n\n---\na: rule\n---\n"
    assert merged(_card({"license": "mit"}, body), "default", "test", info("test"), ())[1] == body
    assert merged("# No metadata\n", "default", "test", info("test"), ())[1] == "# No metadata\n"
    assert merged("---\r\nlicense: mit\r\n---\r\nwords\r\n", "default", "test", info("test"), ())[1] == "words\r\n"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"train": "a/*.parquet"}, [{"split": "train", "path": "a/*.parquet"}]),
        ("a.parquet", [{"split": "train", "path": "a.parquet"}]),
        (["a.parquet", "b.parquet"], [{"split": "train", "path": ["a.parquet", "b.parquet"]}]),
        ([{"split": "dev", "path": "dev.parquet"}], [{"split": "dev", "path": "dev.parquet"}]),
        (None, []),
    ],
)
def test_data_files_may_have_any_form_that_datasets_reads(given: object, kept: list[dict[str, Any]]) -> None:
    card = _card({"configs": [{"config_name": "default", "data_files": given}]})
    assert _merged(card)["configs"][0]["data_files"] == [*kept, *_files("test")]


def test_splits_that_no_card_names_are_named_now_that_one_is() -> None:
    paths = ("README.md", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/notes.txt")
    assert _merged("", paths=paths)["configs"] == [{"config_name": "default", "data_files": _files("train", "test")}]
    assert _merged("", config="main", paths=paths)["configs"] == [
        {"config_name": "default", "data_files": _files("train")},
        {"config_name": "main", "data_files": _files("test", folder="main")},
    ]


def test_another_split_with_other_columns_is_refused() -> None:
    front, _ = merged("", "default", "dev", info("dev", features=[{"name": "other", "dtype": "string"}]), ())
    with pytest.raises(ValueError, match="its split dev has other columns than this run's test"):
        merged(f"---\n{front}---\n", "default", "test", info("test"), ())


def test_the_same_split_may_change_its_columns() -> None:
    front, _ = merged("", "default", "test", info("test", features=[]), ())
    assert _merged(f"---\n{front}---\n")["dataset_info"] == info("test")


@pytest.mark.parametrize(
    "top",
    [
        "a: [",
        "- a list",
        "just words",
        "configs: words",
        "configs: [words]",
        "dataset_info: words",
        "dataset_info: {splits: words}",
        "dataset_info: {splits: [{name: dev}]}",
        "configs: {a: b}",
        "a: !!python/object:os.system x",
    ],
)
def test_metadata_that_cannot_be_merged_is_refused_in_words(top: str) -> None:
    with pytest.raises(ValueError, match=r"its README\.md|has other columns"):
        merged(f"---\n{top}\n---\n", "default", "test", info("test"), ())


def test_what_others_wrote_stays_as_they_wrote_it() -> None:
    """Python would read a falsehood, a number, minutes and a date."""
    theirs = 'language:\n- no\nversion: 1.10\nstart: 12:30\ndate: 2024-01-01\npretty_name: "1.0"\nlicense: mit\n'
    front, body = merged(f"---\n{theirs}---\nText\n", "default", "test", info("test"), ())
    assert front.startswith(theirs)
    assert merged(f"---\n{front}---\n{body}", "default", "test", info("test"), ()) == (front, "Text\n")


@pytest.mark.parametrize("front", ["date: 2024-99-01", "? [a]\n: b"])
def test_values_that_are_none_are_no_yaml(front: str) -> None:
    with pytest.raises(ValueError, match=r"the metadata at the top of its README\.md is no YAML"):
        merged(f"---\n{front}\n---\n", "default", "test", info("test"), ())


@pytest.mark.parametrize(
    ("card", "paths", "says"),
    [
        ("Words\n", ("README.md", "train.csv"), r"does not name the data that is there \(train\.csv\)"),
        (
            _card({"configs": [{"config_name": "default", "data_dir": "d"}]}),
            (),
            "configuration default in its README.md has a data_dir",
        ),
        (
            _card({"configs": [{"config_name": "human", "data_files": [{"split": "test", "path": ["h/a.csv"]}]}]}),
            ("h/a.csv",),
            r"its first configuration is not in Parquet \(h/a\.csv\)",
        ),
    ],
)
def test_a_repository_whose_readers_would_miss_something_is_refused(card: str, paths: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _merged(card, paths=paths)


def test_manifests_and_data_in_their_usual_place_hide_nothing() -> None:
    assert _merged("", paths=("run.json", "run-dev.json", "data/test-00000-of-00001.parquet", "notes/a.csv"))
    assert _merged("", paths=("run.json", "a/run.json", "notes.txt", "image.png"))
