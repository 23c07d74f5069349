"""The benchmarks run, their answers are right, and a wrong one is never reported as fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from rich.table import Table

from benchmarks import page, report, results, servers
from benchmarks.__main__ import main
from benchmarks.harness import (
    Answered,
    Contestant,
    Goal,
    Part,
    Place,
    Question,
    Ratio,
    Size,
    Stage,
    Trial,
    Unit,
    WrongAnswer,
    ask,
)
from benchmarks.machines import paths_of_settings
from benchmarks.questions import QUESTIONS
from benchmarks.workload import MACHINES, answer, changes, outcome

#: What 500 changes on each of two machines come to. Another value makes every kept result incomparable.
GOLDEN = "bd28c9b31b1ef401e3e7acd2645f4d72dab9b64cca9d1112279fe2fecddf1723"


def contestant(name: str, seconds: Sequence[float], answered: str = "right") -> Contestant:
    """Return somebody who takes so long in each round, whatever the clock says."""
    rounds = iter(seconds)
    return Contestant(name, 10, 100, "right", lambda _: Trial(next(rounds), answered))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the stores that several questions need, made once."""
    return tmp_path_factory.mktemp("shelf")


def question(prepare: Callable[[Place, Sequence[int]], Stage], rounds: int = 3) -> Question:
    """Return a question about nothing."""
    return Question("race", "A race", "step", "steps", {Size.SMOKE: rounds}, {Size.SMOKE: (10,)}, prepare)


def race(folder: Path, *seconds: Sequence[float], at_most: float | None = None) -> results.Result:
    """Return the result of a race between a hare and a tortoise, who take so long in each round."""
    folder.mkdir()
    hare, tortoise = contestant("hare", seconds[0]), contestant("tortoise", seconds[1])
    at_least = 1.5 if at_most is None else None
    stage = Stage([hare, tortoise], [Ratio(hare, tortoise, at_least, at_most)])
    return results.result_of(Size.SMOKE, 0.0, [ask(question(lambda *_: stage), Size.SMOKE, folder, folder)])


def shown(table: Table) -> str:
    """Return a table as text."""
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def asked(name: str, folder: Path, shelf: Path) -> Answered:
    """Ask a question at the smoke size, after which nothing is left in its folder."""
    answered = ask(QUESTIONS[name], Size.SMOKE, folder, shelf)
    assert answered.question == name
    assert all(one.each > 0 for one in answered.measured)
    assert not list(folder.iterdir())
    return answered


@pytest.mark.parametrize("name", [name for name, one in QUESTIONS.items() if not one.daemons])
def test_every_question_can_be_asked(name: str, tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the smoke size everybody gives the right answer. No server of others is started here, and that is said."""
    monkeypatch.setattr(servers, "find", lambda _: None)
    answered = asked(name, tmp_path, shelf)
    assert (name == "commit") == any("etcd" in why for why in answered.missing)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, one in QUESTIONS.items() if one.daemons or name == "commit"])
def test_every_question_about_daemons_can_be_asked(name: str, tmp_path: Path, shelf: Path) -> None:
    """The same with daemons, and with the servers of others that are installed."""
    asked(name, tmp_path, shelf)


def test_a_wrong_answer_is_never_fast(tmp_path: Path) -> None:
    """Whoever did something else than was asked for ends the run instead of winning it."""
    cheat = contestant("cheat", [0.0], "wrong")
    with pytest.raises(WrongAnswer, match=r"cheat at 10 came to wrong, not right"):
        ask(question(lambda *_: Stage([cheat])), Size.SMOKE, tmp_path, tmp_path)


def test_a_wrong_answer_is_said_and_the_others_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half an hour's work is not lost for one who cheats; the exit status tells that somebody did."""
    honest, cheat = contestant("hare", [1.0, 1.0, 1.0]), contestant("cheat", [0.0], "wrong")
    stages = {"cheating": Stage([cheat]), "race": Stage([honest])}
    asked_for = {name: question(lambda *_, one=stage: one) for name, stage in stages.items()}
    monkeypatch.setattr("benchmarks.__main__.QUESTIONS", asked_for)
    kept = tmp_path / "kept.json"
    assert main(["--smoke", "--json", str(kept), "--folder", str(tmp_path)]) == 1
    assert "wrong: cheating: cheat at 10 came to wrong, not right" in capsys.readouterr().out
    assert [one.measured[0].contestant for one in results.read(kept).questions] == ["hare"]


def test_the_work_never_changes() -> None:
    """Results of different days and machines are about the same changes, or their comparison would mean nothing."""
    work = [changes(hostname, 500) for hostname in MACHINES[:2]]
    assert answer(outcome(paths_of_settings(), *work)) == GOLDEN


def test_ratios_are_taken_round_by_round(tmp_path: Path) -> None:
    """A host that is slow for one round slows both contestants, and changes no ratio."""
    result = race(tmp_path / "one", [1.0, 10.0, 2.0], [2.0, 20.0, 4.0])
    (compared,) = result.questions[0].compared
    assert compared.values == [2.0, 2.0, 2.0]
    assert compared.met


def test_a_bound_from_above_is_about_times(tmp_path: Path) -> None:
    """``at_most`` asks how much longer it takes, and is missed by whoever takes longer."""
    result = race(tmp_path / "one", [3.0, 3.0, 3.0], [2.0, 2.0, 2.0], at_most=1.3)
    (compared,) = result.questions[0].compared
    assert compared.value == pytest.approx(1.5)
    assert not compared.met
    assert "at most 1.30: missed" in shown(report.comparisons(result.questions[0]))


def test_a_goal_is_about_one_contestant(tmp_path: Path) -> None:
    """So many a second, so much at most, or so much more than another one: what it is of is said with it."""
    hare, tortoise = contestant("hare", [1.0, 2.0, 3.0]), contestant("tortoise", [2.0, 4.0, 6.0])
    goals = [Goal(hare, at_least=60.0), Goal(hare, at_most=0.01), Goal(tortoise, at_most=0.03, above=hare)]
    answered = ask(question(lambda *_: Stage([hare, tortoise], goals=goals)), Size.SMOKE, tmp_path, tmp_path)
    assert [(one.kind, one.met) for one in answered.compared] == [("a second", False), ("each", False), ("above", True)]
    assert [one.value for one in answered.compared] == pytest.approx([50.0, 0.02, 0.02])


def test_what_is_measured_has_its_unit(tmp_path: Path) -> None:
    """Bytes are no times, and what a trial measures beside its amount stands by itself."""
    parts = (Part("packed", Unit.BYTES, 10),)
    trial = Trial(4_000_000.0, "right", {"packed": 500.0})
    box = Contestant("box", 10, 1, "right", lambda _: trial, unit=Unit.BYTES, parts=parts)
    stage = Stage([box], goals=[Goal(box.part("packed"), at_most=80)])
    answered = ask(question(lambda *_: stage), Size.SMOKE, tmp_path, tmp_path)
    assert [(one.contestant, one.each) for one in answered.measured] == [("box", 4e6), ("box, packed", 50.0)]
    assert "3.8 MiB" in shown(report.amounts(answered))
    assert "at most 80 bytes: met" in shown(report.comparisons(answered))


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    """What is kept is what was measured, with where and with what."""
    result = race(tmp_path / "one", [1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    results.write(result, tmp_path / "kept.json")
    assert results.read(tmp_path / "kept.json") == result
    assert result.versions.keys() >= {"python", "sqlite", "automerge", "cluster-store"}


def test_two_results_stand_side_by_side(tmp_path: Path) -> None:
    """The comparison says how many times as long each one took."""
    first = race(tmp_path / "one", [1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    second = race(tmp_path / "two", [3.0, 3.0, 3.0], [2.0, 2.0, 2.0])
    rows = shown(report.side_by_side(first, second)).splitlines()
    assert any("hare 10 " in row and "10.0 ms" in row and "30.0 ms" in row and "3.00" in row for row in rows)
    assert any("hare : tortoise 10" in row and "2.00" in row and "0.67" in row and "0.33" in row for row in rows)


def test_results_of_other_work_are_not_compared(tmp_path: Path) -> None:
    """Two figures for different answers have no ratio."""
    first = race(tmp_path / "one", [1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    measured = [msgspec.structs.replace(one, answer="other") for one in first.questions[0].measured]
    other = msgspec.structs.replace(first, questions=[msgspec.structs.replace(first.questions[0], measured=measured)])
    assert shown(report.side_by_side(first, other)).count("other work") == 3


def test_the_page_says_what_was_wanted_and_what_came_out(tmp_path: Path) -> None:
    """Each target with its figure and whether it is met, what the notes explain, and what did not pay."""
    result = race(tmp_path / "one", [3.0, 3.0, 3.0], [2.0, 2.0, 2.0], at_most=1.3)
    text = page.page(result, "# Notes\n\n## race\n\nIt is uphill.\n\n## What did not pay\n\nShoes.\n")
    assert "| [race](#race) | hare : tortoise 10 | times | at most 1.30 | 1.50 | missed |" in text
    assert "0 of 1 targets are met." in text
    assert text.index("It is uphill.") < text.index("## What did not pay\n\nShoes.")


def test_the_page_has_a_picture_of_each_question(tmp_path: Path) -> None:
    """A kept result is enough to write it, and the same result makes the same files."""
    pytest.importorskip("matplotlib")
    result = race(tmp_path / "one", [1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    results.write(result, tmp_path / "kept.json")
    assert main(["--from", str(tmp_path / "kept.json"), "--write-docs", "--docs", str(tmp_path)]) == 0
    picture = (tmp_path / "performance" / "race.svg").read_text(encoding="utf-8")
    assert "tortoise" in picture
    page.write(result, tmp_path)
    assert (tmp_path / "performance" / "race.svg").read_text(encoding="utf-8") == picture


def test_the_notes_are_about_questions() -> None:
    """What explains the figures of a question stands under its name, or it would never be shown."""
    headings = {line[3:] for line in page.NOTES.read_text(encoding="utf-8").splitlines() if line.startswith("## ")}
    assert headings - {"What did not pay"} <= QUESTIONS.keys()


def test_the_command_keeps_and_compares_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program runs the question that is named, keeps the result, and shows two of them."""
    kept = str(tmp_path / "kept.json")
    assert main(["past", "--smoke", "--json", kept, "--folder", str(tmp_path)]) == 0
    assert "in the middle of a log" in capsys.readouterr().out
    assert main(["--compare", kept, kept]) == 0
    assert "one fold of the log" in capsys.readouterr().out


def test_an_unknown_question_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name is a usage error that tells the right ones."""
    with pytest.raises(SystemExit, match="2"):
        main(["comit"])
    assert "commit" in capsys.readouterr().err
