"""The command on a published card, taken out of it and typed into a shell: it makes the same bytes."""

import json
from pathlib import Path

import pytest

from job.reproduction import TEMPLATE_FILE
from tests.integration.publishing import IMAGE, TOKEN, Scene
from tests.reproducing import Repeated, carry_out, command_in, parsed
from tests.support import parquet_bytes, read_table, write_jsonl

pytestmark = pytest.mark.slow

COLUMN = 'the "question" | it\'s `$HOME`'
ROWS = [{COLUMN: f"Count to {number}.\n\n'Then' \"stop\". ✓", "id": number, "x_y": "kept", "z": 0} for number in range(12)]
DATASET = "ana/rows"
AWKWARD: dict[str, object] = {
    "INSTRUCTION_COLUMN": COLUMN,
    "DROP_COLUMNS": "z",
    "PROMPT_TEMPLATE": "chat",
    "SYSTEM_PROMPT": 'You\'re "kind".\n```\n<!-- answers to default/test: end -->\r\n\tBe brief! \\n $x `y` | ✓\n',
    "STOP": '["\\n\\n", "it\'s \\"so\\"", "```", "|"]',
    "TEMPERATURE": 0.3333333333333333,
    "NUM_SAMPLES": 2,
    "SEED": 2**63 - 1,
    "MAX_TOKENS": 17,
    "REPETITION_DETECTION": '{"max_pattern_size": 3, "min_count": 4}',
    "MAX_MODEL_LEN": 2048,
    "DTYPE": "float16",
    "MAX_ROWS": 7,
    "ENGINE_ARGS": '{"window": 3}',
}


@pytest.fixture
def on_hub(scene: Scene) -> Scene:
    """A scene whose dataset is on the Hub."""
    content = "".join(json.dumps(row) + "\n" for row in ROWS)
    scene.hub.add_repo("dataset", DATASET, files={"test.jsonl": content}, private=True)
    scene.variables |= {"MODEL_ID": "ana/echo-model", "DATASET_ID": DATASET, "INSTRUCTION_COLUMN": COLUMN}
    return scene


def card_of(scene: Scene) -> str:
    return scene.repo().files()["README.md"].decode()


def repeated(scene: Scene, command: str) -> Repeated:
    """Carried out by somebody who may read the dataset, and has nothing else."""
    return carry_out(command, scene.folder / "elsewhere", **scene.hub.environment(TOKEN))


def check_same(scene: Scene, again: Repeated, first: Path) -> None:
    assert again.code == 0, again.events[-1]
    assert again.folder.name == first.name
    assert again.folder != first
    assert read_table(again.folder).to_pylist() == read_table(first).to_pylist()
    assert parquet_bytes(again.folder) == parquet_bytes(first) == scene.repo().files()["data/test-00000-of-00001.parquet"]
    digests = {json.loads((folder / "identity.json").read_text())["digest"] for folder in (again.folder, first)}
    assert len(digests) == 1


@pytest.mark.parametrize("settings", [{}, AWKWARD], ids=["as by default", "awkward"])
def test_the_command_makes_the_same_bytes(settings: dict[str, object], on_hub: Scene) -> None:
    outcome = on_hub.run(**settings)
    assert outcome.code == 0, outcome.last
    on_hub.hub.repo("dataset", DATASET).commit({"test.jsonl": '{"instruction": "another"}\n'}, "Change it")
    command = command_in(card_of(on_hub))
    assert TOKEN not in command
    check_same(on_hub, repeated(on_hub, command), Path(outcome.last["results"]))


def test_a_template_comes_with_the_command(on_hub: Scene) -> None:
    template = on_hub.folder / "mine.jinja"
    template.write_text("It's ```\n{{ id }} | {{ x_y }}\n$HOME '' \"\"\n\n", encoding="utf-8")
    outcome = on_hub.run(PROMPT_TEMPLATE=template)
    assert outcome.code == 0, outcome.last
    command = command_in(card_of(on_hub))
    assert str(template) not in card_of(on_hub)
    template.unlink()
    again = repeated(on_hub, command)
    check_same(on_hub, again, Path(outcome.last["results"]))
    assert (on_hub.folder / "elsewhere" / TEMPLATE_FILE).exists()


def test_rows_that_failed_fail_again(on_hub: Scene) -> None:
    outcome = on_hub.run(ENGINE_ARGS='{"fail_every": 5}', MAX_FAILED_ROWS=10)
    assert outcome.last["failed_rows"] == 2
    check_same(on_hub, repeated(on_hub, command_in(card_of(on_hub))), Path(outcome.last["results"]))


def test_of_local_files_the_card_tells_the_digest_and_no_path(scene: Scene) -> None:
    outcome = scene.run()
    manifest = json.loads((Path(outcome.last["results"]) / "run.json").read_text())
    card, command = card_of(scene), command_in(card_of(scene))
    assert f"`{manifest['dataset']['commit']}`" in card
    assert str(scene.folder) not in card
    mine = write_jsonl(scene.folder / "my-copy.jsonl", [json.loads(line) for line in scene.data.read_text().splitlines()])
    check_same(scene, repeated(scene, command.replace("./path/of/the/dataset.jsonl", str(mine))), Path(outcome.last["results"]))


def test_the_card_is_sound_whatever_the_settings_hold(on_hub: Scene) -> None:
    """Its tables have the cells that they should, its sections are there once, and a second publication finds them."""
    for seed in (1, 2):
        outcome = on_hub.run(**AWKWARD | {"SEED": seed})
        assert outcome.code == 0, outcome.last
        tokens = parsed(card_of(on_hub))
        headings = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
        assert headings == [
            "Answers of ana/echo-model",
            "What was run",
            "Columns",
            "The same answers again",
            "What these answers do not tell",
        ]
        assert [token.info for token in tokens if token.type == "fence"] == ["python", "bash"]
        cells = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "td_open"]
        assert "seed" in cells
        assert cells[cells.index("seed") + 1] == str(seed)
        values = [child for token in tokens for child in token.children or () if child.type == "image"]
        assert [image.attrs["src"] for image in values] == [IMAGE]
        reasons = ", ".join(f"{reason} {number}" for reason, number in outcome.last["finish_reasons"].items())
        assert values[0].content.endswith(f"; {reasons}.")
