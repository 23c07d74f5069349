"""The picture of a run: what happened is in it, it is a document that any viewer takes, and it stays small."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import msgspec
import pytest

from cluster_store.simulation import plot, plot_style
from cluster_store.simulation.collisions import collisions
from cluster_store.simulation.invariants import Invariants, Violation
from cluster_store.simulation.options import FAULTS, Options, draw
from cluster_store.simulation.recording import Recording
from cluster_store.simulation.run import Run

SVG = "{http://www.w3.org/2000/svg}"

#: Fault -> the class of what it leaves in the picture.
SHOWN = {
    "cut": "cut",
    "oneway": "cut",
    "slow": "slow",
    "crash": "crash",
    "midsync": "crash",
    "pause": "paused",
    "clock": "clock",
    "full": "full",
    "append": "failed",
    "flip": "damage",
    "restore": "restore",
}


def options_of(seed: int, **changed: object) -> Options:
    """Return the options of a small run."""
    return msgspec.structs.replace(draw(seed, machines=3, events=20, faults=()), removals_at=(), **changed)


def recorded(seed: int, options: Options) -> Recording:
    """Return a run that has been played."""
    recording = Recording(seed, options)
    recording.play()
    return recording


def drawn(recording: Recording) -> ET.Element:
    """Return the picture of a run, parsed."""
    return ET.fromstring(plot.draw(recording))  # noqa: S314 - what is parsed was written here


def classes(picture: ET.Element) -> set[str]:
    """Return the classes of everything that is drawn, but for what only explains it."""
    return {name for element in picture.iter() if len(element) for name in element.get("class", "").split()}


def words(picture: ET.Element) -> str:
    """Return all words of a picture, a line each."""
    return "\n".join(filter(None, (element.text for element in picture.iter() if element.tag != f"{SVG}style")))


def test_whoever_looks_changes_nothing() -> None:
    """A run that is recorded is the run that was not."""
    options = draw(21, machines=3, events=20)
    recording = Recording(21, options)
    assert recording.play().trace_digest == Run(21, options).play().trace_digest


@pytest.mark.parametrize("fault", SHOWN)
def test_each_fault_is_seen(fault: str) -> None:
    """What a fault does to a machine or a link has its shape, with words for the pointer."""
    # Some strike only where they can: a machine that was backed up, or that takes in another one's log.
    seeds = range(7, 17)
    options = {seed: options_of(seed, faults={fault: 400}, event_ms=400, fault_ms=1000) for seed in seeds}
    assert any(SHOWN[fault] in classes(drawn(recorded(seed, options[seed]))) for seed in seeds)


def test_every_fault_is_in_the_picture_or_in_its_words() -> None:
    """No fault is left out by mistake: a copy has a line of its own, and words tell of the others."""
    assert FAULTS.keys() - SHOWN.keys() == {"clone", "faulty", "upgrade"}
    told = words(drawn(recorded(7, options_of(7, faults={"clone": 400, "faulty": 400, "upgrade": 400}, event_ms=400))))
    assert "a copy" in told
    assert "faulty" in told
    assert "version" in told


def test_a_passed_run_says_so_and_ends_with_all_machines_alike() -> None:
    """Title, axis, names and the moment from which each machine had everything."""
    recording = recorded(3, options_of(3))
    picture = drawn(recording)
    told = words(picture)
    assert "Simulation of seed 3: " in told
    assert "passed" in told
    assert "0 s" in told
    for name, track in recording.tracks.items():
        assert track.line.spans[-1].value == "current"
        assert name in told
        assert f"{name} has every record since" in told


def test_writes_that_collided_stand_out() -> None:
    """Exactly the accepted changes whose values stood beside each other are drawn as such."""
    seed = next(seed for seed in range(20) if Run(seed, options_of(seed, faults={"cut": 300})).play().conflicts)
    recording = recorded(seed, options_of(seed, faults={"cut": 300}))
    found = collisions([host.log.disk for host in recording.fleet.hosts])
    marked = [mark for track in recording.tracks.values() for mark in track.marks if mark.kind == "conflicting"]
    assert found
    assert len(marked) == len({lane.id for one in found for lane in one.conflict.lanes})
    assert "conflicting" in classes(drawn(recording))


def test_a_violation_is_marked_where_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends there, and words that no document may hold as they are do no harm."""

    def broken(invariants: Invariants) -> None:
        if invariants._fleet.clock.steps == 200:
            raise Violation(3, "bert", "<&> \x1b[31m")

    monkeypatch.setattr(Invariants, "check_step", broken)
    recording = recorded(1, options_of(1, founders=3, joins_ms=()))
    assert recording.broken_at == "bert"
    picture = drawn(recording)
    mark = next(element for element in picture.iter(f"{SVG}path") if element.get("class") == "violation")
    name = next(element for element in picture.iter(f"{SVG}text") if element.text == "bert")
    height = float(mark.get("transform", "").partition(",")[2].rstrip(")"))
    assert abs(height - float(name.get("y", ""))) < 5
    assert "FAILED" in words(picture)
    assert "\x1b" not in words(picture)
    assert "<&>" in words(picture)


def test_a_long_run_makes_no_large_picture() -> None:
    """What lies close together is drawn as one, and the words of it are cut."""
    options = options_of(1, machines=2, founders=2, joins_ms=(), events=400, event_ms=20)
    assert len(plot.draw(recorded(1, options))) < 400_000


def test_dark_and_light_colour_the_same_things() -> None:
    """Nothing vanishes on one of the two backgrounds, and everything in the legend has a colour."""
    themes = [set(re.findall(r"\.(\w+)", theme)) for theme in (plot_style._LIGHT, plot_style._DARK)]
    assert themes[0] == themes[1]
    assert {kind for kind, _ in plot_style.LEGEND} <= themes[0]
    assert plot_style.GLYPHS.keys() <= themes[0]
