"""A recorded run as a picture: one line a machine, one line a link that was in trouble, time from left to right.

It is an SVG document that stands alone: no script, no font, no colour that only one background suits. Whatever is in
it says more when a pointer rests on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, groupby
from textwrap import wrap
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from cluster_store.core.naming import counted, one_line
from cluster_store.simulation.plot_style import GLYPHS, LEGEND, STYLE
from cluster_store.simulation.recording import Mark, Recording, Span, Track

#: Pixels. The chart is what lies between the names on the left and the results on the right.
_LEFT, _WIDTH, _RIGHT = 150, 1080, 120
_ROW, _COPY_ROW, _LINK_ROW, _LEGEND_ROW, _MARGIN = 58, 40, 15, 24, 24
#: Marks closer to each other than this are drawn as one.
_NEAR = 5
#: Links with trouble that are shown; where there are more, those with the most.
_LINKS_MAX = 40
#: Of the marks that are drawn as one, the first of these that is among them is drawn.
_ABOVE = ("conflicting", "accepted", "refused", "unchanged")
_AMONG = ("crash", "start", "damage", "restore", "failed", "clock", "join")
_ORDER = (*_ABOVE, *_AMONG, "word")
#: Words in one hover text, and lines of it.
_TITLE_CHARS, _TITLE_LINES = 300, 12
_TICKS = 10
#: What the time under faults takes of the chart at least: forming and healing can take much longer, and say less.
_FAULTS_SHARE = 0.55
_LINE_CHARS = 200


def draw(recording: Recording) -> str:
    """Return the SVG document of a run that has been played."""
    return _Picture(recording).document()


class _Picture:
    def __init__(self, recording: Recording) -> None:
        assert recording.verdict is not None
        self.recording = recording
        self.verdict = recording.verdict
        self.root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
        #: What has been drawn of what the legend explains.
        self.used: set[str] = set()
        self.phases = _phases(recording)
        self.words = self._words()
        self.top = 118 + 16 * len(self.words)
        self.links = self._troubled()
        #: Host -> the middle of its row.
        self.rows: dict[str, int] = {}
        self.bottom = self.top
        for track in recording.rows():
            height = _COPY_ROW if track.cloned else _ROW
            self.rows[track.name] = self.bottom + height // 2
            self.bottom += height
        self.end = self.bottom + (34 + _LINK_ROW * len(self.links) if self.links else 0)

    def document(self) -> str:
        SubElement(self.root, "style").text = STYLE
        ground = self._draw("rect", "ground", width=_LEFT + _WIDTH + _RIGHT)
        self._header()
        self._axis()
        for track in self.recording.rows():
            self._track(track, self.rows[track.name])
        self._batches()
        for track in self.recording.rows():
            self._marks(track, self.rows[track.name])
        self._link_rows()
        self._violation()
        width, height = _LEFT + _WIDTH + _RIGHT, self._legend() + _MARGIN
        ground.set("height", str(height))
        self.root.attrib |= {"viewBox": f"0 0 {width} {height}", "width": str(width), "height": str(height)}
        indent(self.root)
        return tostring(self.root, encoding="unicode") + "\n"

    # --- words around the chart ------------------------------------------------------------------------

    def _header(self) -> None:
        verdict, options = self.verdict, self.verdict.options
        said = "passed" if verdict.passed else "FAILED"
        title = self._text(_MARGIN, 36, f"Simulation of seed {verdict.seed}: ", "title")
        SubElement(title, "tspan", {"class": "good" if verdict.passed else "bad"}).text = said
        copies = sum(track.cloned for track in self.recording.tracks.values())
        came = counted(len(self.rows) - copies, "machine")
        came += f", {counted(copies, 'copied store')}" if copies else ""
        came += f", {counted(options.events, 'command')}, {counted(verdict.events, 'record')}"
        if verdict.passed:
            came += f", {counted(verdict.conflicts, 'conflict')} left"
            came += f"; one state on all members, digest {verdict.digest[:12]}"
        self._text(_MARGIN, 60, came, "")
        for number, (line, kind) in enumerate(self.words):
            self._text(_MARGIN, 80 + 16 * number, line, kind)

    def _words(self) -> list[tuple[str, str]]:
        """Return the lines under the title, each with its class: what went wrong, and which faults there were."""
        options = self.verdict.options
        faults = ", ".join(f"{name} every {mean / 1000:.1f} s" for name, mean in options.faults.items())
        shown = "No faults."
        if faults:
            shown = f"Faults, on average: {faults}; each lasts about {options.fault_ms / 1000:.1f} s."
        shown += f" {self.recording.end_ms / 1000:.1f} s of virtual time."
        failure = wrap(one_line(self.verdict.failure), _LINE_CHARS, max_lines=3, placeholder=" …")
        return [*((line, "small bad") for line in failure), *((line, "small") for line in wrap(shown, _LINE_CHARS))]

    def _axis(self) -> None:
        for phase, begin, end, left, right in self.phases:
            kind = f"phase {'odd' if phase == 'under faults' else ''}"
            place = {"x": left, "y": self.top - 30, "width": max(0.0, right - left)}
            self._draw("rect", kind, height=self.end - self.top + 30, **place)
            if right - left > 10 * len(phase):
                self._text((left + right) / 2, self.top - 14, phase, "small middle")
            self._draw("line", "border", x1=left, x2=left, y1=self.top - 30, y2=self.end)
            step = _tick((end - begin) * _WIDTH / max(1.0, right - left))
            for at in range(-(-begin // step) * step, end, step):
                self._draw("line", "grid", x1=self._x(at), x2=self._x(at), y1=self.top, y2=self.end)
                self._text(self._x(at), self.end + 16, f"{at / 1000:g} s", "small middle")

    def _legend(self) -> int:
        """Draw it; return where it ends."""
        shown = [(kind, meaning) for kind, meaning in LEGEND if kind in self.used]
        for number, (kind, meaning) in enumerate(shown):
            x, y = _MARGIN + 330 * (number % 4), self.end + 50 + _LEGEND_ROW * (number // 4)
            if kind in GLYPHS:
                self._glyph(kind, x + 14, y - 4)
            elif kind in (*_STATES, "batch"):
                self._draw("line", kind if kind == "batch" else f"life {kind}", x1=x, x2=x + 28, y1=y - 4, y2=y - 4)
            else:
                self._draw("rect", kind, x=x, y=y - 10, width=28, height=10)
            self._text(x + 38, y, meaning, "small")
        return self.end + 50 + _LEGEND_ROW * ((len(shown) - 1) // 4)

    # --- one machine -----------------------------------------------------------------------------------

    def _track(self, track: Track, y: int) -> None:
        self._text(_LEFT - 14, y + 1, _cut(one_line(track.name), 18), "name")
        self._text(_LEFT - 14, y + 16, "a copy" if track.cloned else f"{track.records} records", "small end")
        self._draw("line", "rail", x1=_LEFT, x2=_LEFT + _WIDTH, y1=y, y2=y)
        for span in track.cut.spans:
            height = (_COPY_ROW if track.cloned else _ROW) - 6
            self._bar(span, "isolated", y - height / 2, height, f"{track.name} is cut off from {span.value}")
        for span in track.line.spans:
            place = {"x1": self._x(span.begin), "x2": self._x(span.end), "y1": y, "y2": y}
            words = f"{track.name}: {_STATES[span.value]}"
            self._hover(self._draw("line", f"life {span.value}", **place), _timed(span, words))
        for span in track.full.spans:
            self._bar(span, "full", y + 6, 4, f"{track.name}: its disk is full")
        for span in track.detached.spans:
            self._bar(span, "detached", y + 11, 4, f"{track.name} is detached")
        last = track.line.spans[-1] if track.line.spans else Span(0, 0, "")
        if self.verdict.passed and last.value == "current" and last.end == self.recording.end_ms:
            x = self._x(last.begin)
            agreed = self._glyph("agreed", _LEFT + _WIDTH + 22, y)
            self._hover(agreed, f"{track.name} has every record since {_time(last.begin)}")
            self._text(_LEFT + _WIDTH + 34, y + 4, f"since {last.begin / 1000:.1f} s", "small")
            self._draw("line", "since", x1=x, x2=x, y1=y - 12, y2=y + 12)

    def _marks(self, track: Track, y: int) -> None:
        downs = [span for span in track.line.spans if span.value == "down"]
        marks = [
            *track.marks,
            *(Mark(span.begin, "crash", f"{track.name} is down until {_time(span.end)}") for span in downs),
            *(Mark(span.end, "start", f"{track.name} starts again") for span in downs),
        ]
        for place, some in ((y - 13, _ABOVE), (y, _AMONG), (y + 18, ("word",))):
            self._row_of_marks([mark for mark in marks if mark.kind in some], place)

    def _row_of_marks(self, marks: Iterable[Mark], y: float) -> None:
        """Draw marks of which those that would lie on each other are one."""

        def column(mark: Mark) -> int:
            return int(self._x(mark.at) / _NEAR)

        for _, group in groupby(sorted(marks, key=lambda mark: mark.at), column):
            together = list(group)
            kind = min((mark.kind for mark in together), key=_ORDER.index)
            chosen = next(mark for mark in together if mark.kind == kind)
            words = [f"{_time(mark.at)}  {mark.words}" for mark in together]
            self._hover(self._glyph(kind, self._x(chosen.at), y), *words)

    # --- links -----------------------------------------------------------------------------------------

    def _batches(self) -> None:
        rows = self.rows
        drawn: set[tuple[str, str, int, int]] = set()
        for batch in self.recording.batches:
            begin, end = self._x(batch.sent), self._x(batch.arrived)
            key = (batch.origin, batch.target, round(begin / _NEAR), round(end / _NEAR))
            if key in drawn:
                continue
            drawn.add(key)
            line = self._draw("line", "batch", x1=begin, x2=end, y1=rows[batch.origin], y2=rows[batch.target])
            words = f"{batch.origin} sends {batch.target} {batch.records} records, on their way until"
            self._hover(line, f"{_time(batch.sent)}  {words} {_time(batch.arrived)}")

    def _link_rows(self) -> None:
        if self.links:
            self._text(_LEFT - 14, self.bottom + 18, "links in trouble", "small end")
        for row, (one, two) in enumerate(self.links):
            y = self.bottom + 30 + _LINK_ROW * row
            self._text(_LEFT - 14, y + 9, _cut(one_line(f"{one} ⇄ {two}"), 24), "small end")
            self._draw("line", "grid", x1=_LEFT, x2=_LEFT + _WIDTH, y1=y + 5, y2=y + 5)
            for half, (origin, target) in enumerate(((one, two), (two, one))):
                for span in self._trouble(origin, target):
                    words = _LINK_WORDS[span.value].format(origin, target)
                    self._bar(span, span.value, y + 5 * half, 5, words)

    def _trouble(self, origin: str, target: str) -> list[Span]:
        strip = self.recording.ways.get((origin, target))
        return strip.spans if strip is not None else []

    def _troubled(self) -> list[tuple[str, str]]:
        """Return the pairs of hosts between which something was wrong; of too many, those with the most of it."""
        lengths = {
            (one, two): sum(s.end - s.begin for s in (*self._trouble(one, two), *self._trouble(two, one)))
            for one, two in combinations(self.recording.tracks, 2)
        }
        worst = sorted(lengths, key=lambda pair: -lengths[pair])[:_LINKS_MAX]
        return [pair for pair, length in lengths.items() if length and pair in worst]

    # --- drawing ---------------------------------------------------------------------------------------

    def _violation(self) -> None:
        if self.verdict.passed:
            return
        x, y = self._x(self.recording.end_ms), self.rows.get(self.recording.broken_at, self.top - 12)
        self._draw("line", "violated", x1=x, x2=x, y1=self.top - 30, y2=self.end)
        self._hover(self._glyph("violation", x, y), self.verdict.failure)
        self._text(x + 14, y + 4, f"invariant {self.verdict.invariant}", "small bad")

    def _bar(self, span: Span, kind: str, y: float, height: float, words: str) -> None:
        left = self._x(span.begin)
        width = max(2.0, self._x(span.end) - left)
        self._hover(self._draw("rect", kind, x=left, y=y, width=width, height=height), _timed(span, words))

    def _x(self, at: int) -> float:
        """Return where a moment is: each phase has a scale of its own."""
        _, begin, end, left, right = next(
            (phase for phase in self.phases if phase[1] <= at < phase[2]), self.phases[-1]
        )
        return left + (right - left) * (at - begin) / max(1, end - begin)

    def _draw(self, shape: str, kind: str, **numbers: float) -> Element:
        self.used.update(kind.split())
        return SubElement(self.root, shape, {"class": kind, **{name: f"{each:.5g}" for name, each in numbers.items()}})

    def _glyph(self, kind: str, x: float, y: float) -> Element:
        self.used.add(kind)
        place = {"class": kind, "d": GLYPHS[kind], "transform": f"translate({x:.5g},{y:.5g})"}
        return SubElement(self.root, "path", place)

    def _text(self, x: float, y: float, text: str, kind: str) -> Element:
        element = SubElement(self.root, "text", {"x": f"{x:.5g}", "y": f"{y:.5g}", **({"class": kind} if kind else {})})
        element.text = text
        return element

    @staticmethod
    def _hover(element: Element, *lines: str) -> None:
        shown = [_cut(one_line(line), _TITLE_CHARS) for line in lines[:_TITLE_LINES]]
        more = [f"and {len(lines) - _TITLE_LINES} more"] if len(lines) > _TITLE_LINES else []
        title = Element("title")
        title.text = "\n".join([*shown, *more])
        element.insert(0, title)


_STATES = {
    "joining": "is not a member yet",
    "removed": "is removed from the cluster for good",
    "down": "does not run",
    "paused": "stands still",
    "behind": "lacks records that are on another machine",
    "current": "has every record that is anywhere",
}
#: What is wrong with a link, one way.
_LINK_WORDS = {
    "cut": "nothing passes from {} to {}",
    "slow": "frames from {} to {} take many times longer",
}


def _phases(recording: Recording) -> list[tuple[str, int, int, float, float]]:
    """Return the phases: name, begin and end in milliseconds, left and right in pixels."""
    ends = [*(at for at, _ in recording.phases[1:]), recording.end_ms]
    shares = {
        phase: (end - begin) / recording.end_ms for (begin, phase), end in zip(recording.phases, ends, strict=True)
    }
    usual = shares.get("under faults", 0)
    if 0 < usual < _FAULTS_SHARE:
        rest = (1 - _FAULTS_SHARE) / (1 - usual)
        shares = {phase: _FAULTS_SHARE if phase == "under faults" else share * rest for phase, share in shares.items()}
    found, left = [], float(_LEFT)
    for (begin, phase), end in zip(recording.phases, ends, strict=True):
        right = left + _WIDTH * shares[phase]
        found.append((phase, begin, end, left, right))
        left = right
    return found


def _timed(span: Span, words: str) -> str:
    return f"{_time(span.begin)} to {_time(span.end)}  {words}"


def _time(at: int) -> str:
    return f"{at / 1000:.3f} s"


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def _tick(end: float) -> int:
    """Return a round number of milliseconds that divides a time into about ten parts."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if end <= _TICKS * step * factor:
                return step * factor
        step *= 10
