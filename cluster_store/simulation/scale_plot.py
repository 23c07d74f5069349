"""How changes spread in a large fleet, as a picture: a curve for each state of the fleet, time from left to right."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from cluster_store.simulation.scale import Report, Spread

#: Pixels: the chart, and what is around it.
_WIDTH, _HEIGHT = 760, 320
_LEFT, _TOP, _BOTTOM, _RIGHT = 70, 84, 104, 40
_TICKS = 8
_STYLE = """
text { font: 13px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #1f2328 }
.title { font-size: 18px; font-weight: 600 } .middle { text-anchor: middle } .end { text-anchor: end }
.ground { fill: #ffffff } .grid { stroke: #e4e8ec } .curve { fill: none; stroke-width: 2.5; stroke-linejoin: round }
.first { stroke: #1a7f64 } .second { stroke: #cf222e; stroke-dasharray: 2 5 }
.third { stroke: #0969da; stroke-dasharray: 9 5 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .ground { fill: #0d1117 } .grid { stroke: #21272e }
.first { stroke: #3fb58f } .second { stroke: #f85149 } .third { stroke: #58a6ff } }
"""


def draw(report: Report) -> str:
    """Return the SVG document of how changes spread in a fleet."""
    curves = (
        ("first", "all machines run", report.single),
        ("second", f"{report.dead} machines just died, and nobody knows", report.dead_at_once),
        ("third", "others stand in for the dead", report.dead_later),
    )
    longest = max(spread.arrivals[-1] for _, _, spread in curves)
    width, height = _LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BOTTOM
    box = {"viewBox": f"0 0 {width} {height}", "width": str(width), "height": str(height)}
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", **box})
    SubElement(root, "style").text = _STYLE
    _shape(root, "rect", "ground", width=width, height=height)
    _text(root, _LEFT, 34, f"How a change spreads among {report.machines:,} machines", "title")
    _text(root, _LEFT, 58, "share of the machines on which it is durable, by seconds since it was made", "")
    _grid(root, longest)
    for number, (kind, what, spread) in enumerate(curves):
        SubElement(root, "polyline", {"class": f"curve {kind}", "points": _points(spread, longest)})
        y = _TOP + _HEIGHT + 46 + 20 * number
        _shape(root, "line", f"curve {kind}", x1=_LEFT, x2=_LEFT + 40, y1=y - 4, y2=y - 4)
        _text(root, _LEFT + 52, y, f"{what}: {spread.seconds_mean:g} s, {spread.hops_mean:g} hops", "")
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _points(spread: Spread, longest: float) -> str:
    steps = [0.0, *spread.arrivals]
    places = [(_LEFT + _WIDTH * at / longest, _level(share / (len(steps) - 1))) for share, at in enumerate(steps)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _level(share: float) -> float:
    return _TOP + _HEIGHT * (1 - share)


def _grid(root: Element, longest: float) -> None:
    for share in range(0, 101, 25):
        y = _level(share / 100)
        _shape(root, "line", "grid", x1=_LEFT, x2=_LEFT + _WIDTH, y1=y, y2=y)
        _text(root, _LEFT - 10, y + 4, f"{share} %", "end")
    for tick in range(_TICKS + 1):
        x = _LEFT + _WIDTH * tick / _TICKS
        _text(root, x, _TOP + _HEIGHT + 20, f"{longest * tick / _TICKS:.2f}", "middle")


def _shape(root: Element, tag: str, kind: str, **places: float) -> None:
    SubElement(root, tag, {"class": kind, **{name: f"{value:g}" for name, value in places.items()}})


def _text(root: Element, x: float, y: float, said: str, kind: str) -> None:
    SubElement(root, "text", {"x": f"{x:g}", "y": f"{y:g}", "class": kind}).text = said
