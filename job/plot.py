"""The plot of a card: how long the answers are, by how they ended. From the counts of a manifest to the bytes of a PNG. Pure.

The same counts give the same bytes, with one version of matplotlib: neither the time nor a person's settings of it are in them.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from job.lengths import by_reason

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_BINS = 50
_WIDTHS = (1, 2, 5)
# Colours that also differ for people who see few, on a ground of their own: a page may be light or dark.
_COLOURS = {"stop": "#0072b2", "length": "#e69f00", "repetition": "#aa3377", "": "#0072b2"}
_INK, _FAINT = "#24292f", "#d0d7de"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.labelpad": 6,
    "axes.edgecolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.handlelength": 1,
    "legend.handleheight": 1,
}


def lengths_png(counts: Mapping[str, Any]) -> bytes:
    """A histogram, of at least one answer. counts: a tally's values by their names, also as they are read from a manifest."""
    # Here, as it takes half a second: a run that ends before its results needs none of it.
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(mpl.rcParamsDefault):
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(8, 3.2), dpi=150, facecolor="white", edgecolor=_FAINT, linewidth=2)
        figure.set_layout_engine("constrained", w_pad=0.14, h_pad=0.1)
        FigureCanvasAgg(figure)
        _draw(figure, by_reason(counts))
        image = io.BytesIO()
        figure.savefig(image, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
    return image.getvalue()


def _draw(figure: "Figure", lengths: Mapping[str, Mapping[int, int]]) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    edges = bin_edges(max(max(each) for each in lengths.values()))
    width = edges[1] - edges[0]
    left = [edge - 0.5 for edge in edges] if width == 1 else list(edges)  # a bar of one length stands at that number
    axes = figure.add_subplot()
    below = [0] * (len(edges) - 1)
    for reason, answers in lengths.items():
        heights = _binned(answers, edges)
        label = f"{reason or 'answers'} {sum(heights):,}"
        bars = axes.bar(left[:-1], heights, width, below, align="edge", label=label, color=_COLOURS[reason])
        for bar in bars:
            bar.set(edgecolor="white", linewidth=0.5)
        below = [one + other for one, other in zip(below, heights, strict=True)]
    axes.set(xlim=(left[0], left[-1]), xlabel="tokens of an answer", ylabel="answers")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    figure.legend(loc="outside upper left", ncols=len(lengths))


def bin_edges(longest: int) -> Sequence[int]:
    """Where bins begin, and the end of the last: of one round width in tokens, so that the longest is in the last."""
    scale = 1
    while True:
        for width in (step * scale for step in _WIDTHS):
            if longest // width < _MOST_BINS:
                return range(0, (longest // width + 1) * width + 1, width)
        scale *= 10


def _binned(lengths: Mapping[int, int], edges: Sequence[int]) -> list[int]:
    counts = [0] * (len(edges) - 1)
    for tokens, answers in lengths.items():
        counts[tokens // (edges[1] - edges[0])] += answers
    return counts
