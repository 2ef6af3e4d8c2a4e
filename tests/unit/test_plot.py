"""The plot of answer lengths: its bars are looked at in the pixels."""

import io
from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from job.lengths import by_reason
from job.plot import bin_edges, lengths_png

BLUE, AMBER, PURPLE = (0, 0x72, 0xB2), (0xE6, 0x9F, 0), (0xAA, 0x33, 0x77)


def counts(
    stop: dict[int, int], length: dict[int, int] | None = None, repetition: dict[int, int] | None = None
) -> dict[str, Any]:
    runaways = {name: each for name, each in (("length", length), ("repetition", repetition)) if each}
    lengths = Counter(stop)
    for each in runaways.values():
        lengths.update(each)
    reasons = {name: sum(each.values()) for name, each in ({"stop": stop} | runaways).items() if each}
    return {"lengths": dict(lengths), "finish_reasons": reasons, "runaway_lengths": runaways}


def columns(png: bytes, colour: tuple[int, int, int]) -> Any:
    """Where from left to right a colour is, without the legend at the top, as shares of the width."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))[60:]
    return np.flatnonzero((pixels == colour).all(axis=2).any(axis=0)) / pixels.shape[1]


def test_the_same_counts_give_the_same_bytes_and_they_are_few() -> None:
    many = counts({tokens: 1 + tokens % 97 for tokens in range(1, 4096)}, {4096: 500}, dict.fromkeys(range(9, 4000), 3))
    image = lengths_png(many)
    assert image == lengths_png(many)
    assert image != lengths_png(counts(dict.fromkeys(range(1, 4096), 1)))
    assert len(image) < 60_000
    assert Image.open(io.BytesIO(image)).size == (1200, 480)


def test_counts_as_a_manifest_has_them_give_the_same_plot() -> None:
    ours = counts({5: 2, 40: 1}, {64: 3})
    read = {
        "lengths": {str(tokens): number for tokens, number in ours["lengths"].items()},
        "finish_reasons": ours["finish_reasons"],
        "runaway_lengths": {"length": {"64": 3}},
    }
    assert lengths_png(read) == lengths_png(ours)


def test_short_answers_are_on_the_left_and_each_reason_has_its_colour() -> None:
    image = lengths_png(counts({10: 5, 20: 5}, {1000: 5}, {500: 5}))
    blue, purple, amber = (columns(image, colour) for colour in (BLUE, PURPLE, AMBER))
    assert blue.max() < 0.15
    assert 0.4 < purple.min() < purple.max() < 0.65
    assert amber.min() > 0.9


def test_the_ground_is_opaque_and_light() -> None:
    image = Image.open(io.BytesIO(lengths_png(counts({1: 1})))).convert("RGBA")
    assert image.getchannel("A").getextrema() == (255, 255)
    assert image.getpixel((20, 240)) == (255, 255, 255, 255)


def test_without_what_tells_runaways_apart_all_answers_are_drawn_alike() -> None:
    old = {name: value for name, value in counts({10: 5}, {1000: 5}).items() if name != "runaway_lengths"}
    assert by_reason(old) == {"": {10: 5, 1000: 5}}
    image = lengths_png(old)
    assert columns(image, BLUE).max() > 0.9
    assert len(columns(image, AMBER)) == 0


def test_answers_are_counted_by_how_they_ended() -> None:
    assert by_reason(counts({7: 2, 9: 1}, {9: 4})) == {"stop": {7: 2, 9: 1}, "length": {9: 4}}
    assert by_reason(counts({}, {9: 4})) == {"length": {9: 4}}
    assert by_reason(counts({7: 2})) == {"stop": {7: 2}}
    assert by_reason(counts({})) == {}


@pytest.mark.parametrize("longest", [0, 1, 7, 49, 50, 99, 100, 4095, 4096, 131072])
def test_bins_are_of_one_round_width_and_hold_the_longest(longest: int) -> None:
    edges = bin_edges(longest)
    width = edges[1] - edges[0]
    assert edges[0] == 0
    assert edges[-2] <= longest < edges[-1]
    assert str(width).rstrip("0") in ("1", "2", "5")
    assert len(edges) <= 51
    assert width == 1 or len(edges) > 20


@pytest.mark.parametrize("only", [{0: 1}, {1: 1}, {131072: 3}, {1: 10_000_000, 131072: 1}])
def test_anything_can_be_drawn(only: dict[int, int]) -> None:
    assert len(columns(lengths_png(counts(only)), BLUE)) > 0
