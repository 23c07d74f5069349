"""A question's answer as a picture: bars, or lines where the amount of work is what the question varies."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks import wording
from benchmarks.harness import Answered, Measured, Role

_COLOURS = {Role.PRODUCT: "#0969da", Role.PEER: "#bc4c00", Role.FLOOR: "#8c959f"}
_SHAPES = "osD^vP*X"
#: The same figures make the same file, and its text stays text.
_STYLE = {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
#: Where values differ by more than this, only powers of ten are named.
_WIDE = 300
_TITLE_CHARS = 100
_WIDTH_IN, _ROW_IN, _FRAME_IN, _LINES_HEIGHT_IN = 8.0, 0.28, 1.0, 4.0


def draw(answered: Answered, path: Path) -> None:
    """Write a question's answer as SVG: what is in the unit of its first contestant, and above zero."""
    unit = answered.measured[0].unit
    shown = [one for one in answered.measured if one.unit is unit and one.each > 0]
    varied = {one.contestant for one in shown if len({other.scale for other in _of(shown, one.contestant)}) > 1}
    with mpl.rc_context(_STYLE):
        height = _LINES_HEIGHT_IN if varied else _FRAME_IN + _ROW_IN * len(shown)
        figure = Figure(figsize=(_WIDTH_IN, height), layout="constrained")
        axes = figure.add_subplot()
        if varied:
            _lines(axes, shown, answered)
        else:
            _bars(axes, shown)
        measure = axes.yaxis if varied else axes.xaxis
        measure.set_major_formatter(lambda value, _: wording.amount(value, unit))
        measure.set_minor_formatter("")
        if varied:
            values = [one.each for one in shown]
            steps = (1,) if max(values) > _WIDE * min(values) else (1, 2, 5)
            measure.set_major_locator(LogLocator(subs=steps))
        title = f"{answered.title.replace('`', '')}: one {answered.operation}, less is better"
        figure.suptitle("\n".join(wrap(title, _TITLE_CHARS)), x=0.01, ha="left", fontsize=10)
        axes.grid(visible=True, which="major", color="#d8dee4", linewidth=0.6)
        axes.set_axisbelow(True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _of(shown: list[Measured], contestant: str) -> list[Measured]:
    return [one for one in shown if one.contestant == contestant]


def _bars(axes: Axes, shown: list[Measured]) -> None:
    """Draw a bar for each, the first on top, as long as its median; a line through its end spans the rounds."""
    values = [one.each for one in shown]
    least = [one.each - min(one.amounts) / one.operations for one in shown]
    most = [max(one.amounts) / one.operations - one.each for one in shown]
    names = [wording.who(one.contestant, one.scale) for one in shown]
    colours = [_COLOURS[one.role] for one in shown]
    axes.barh(range(len(shown)), values, color=colours, height=0.62, xerr=(least, most), ecolor="#24292f")
    axes.set_yticks(range(len(shown)), names)
    axes.invert_yaxis()
    for row, one in enumerate(shown):
        axes.annotate(
            wording.amount(one.each, one.unit), (max(one.amounts) / one.operations, row), (4, 0),
            textcoords="offset points", va="center",
        )  # fmt: skip
    if max(values) > 10 * min(values):
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 3, max(values) * 6)
    else:
        axes.set_xlim(0, max(values) * 1.25)


def _lines(axes: Axes, shown: list[Measured], answered: Answered) -> None:
    """Draw how each goes on as there is more work, both axes by powers of ten; who has one scale only is a level."""
    for number, name in enumerate(dict.fromkeys(one.contestant for one in shown)):
        same = _of(shown, name)
        colour, shape = _COLOURS[same[0].role], _SHAPES[number % len(_SHAPES)]
        if same[0].scale:
            axes.plot([one.scale for one in same], [one.each for one in same], color=colour, marker=shape, label=name)
        else:
            axes.axhline(same[0].each, color=colour, linestyle=(number, (4, 2)), label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    scales = sorted({one.scale for one in shown if one.scale})
    axes.set_xticks(scales, [wording.thousands(scale) for scale in scales])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(answered.scale)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
