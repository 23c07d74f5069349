"""The benchmarks run, their answers are right, and a wrong one is never reported as fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from rich.table import Table

from benchmarks import report, results
from benchmarks.__main__ import main
from benchmarks.harness import Contestant, Question, Ratio, Size, Stage, Trial, WrongAnswer, ask
from benchmarks.machines import paths_of_settings
from benchmarks.questions import QUESTIONS
from benchmarks.workload import MACHINES, answer, changes, outcome

#: What 500 changes on each of two machines come to. Another value makes every kept result incomparable.
GOLDEN = "bd28c9b31b1ef401e3e7acd2645f4d72dab9b64cca9d1112279fe2fecddf1723"


def contestant(name: str, seconds: Sequence[float], answered: str = "right") -> Contestant:
    """Return somebody who takes so long in each round, whatever the clock says."""
    rounds = iter(seconds)
    return Contestant(name, 10, 100, "right", lambda _: Trial(next(rounds), answered))


def question(prepare: Callable[[Path, Sequence[int]], Stage], rounds: int = 3) -> Question:
    """Return a question about nothing."""
    return Question("race", "A race", "step", "steps", {Size.SMOKE: rounds}, {Size.SMOKE: (10,)}, prepare)


def race(folder: Path, *seconds: Sequence[float], at_most: float | None = None) -> results.Result:
    """Return the result of a race between a hare and a tortoise, who take so long in each round."""
    folder.mkdir()
    hare, tortoise = contestant("hare", seconds[0]), contestant("tortoise", seconds[1])
    at_least = 1.5 if at_most is None else None
    stage = Stage([hare, tortoise], [Ratio(hare, tortoise, at_least, at_most)])
    return results.result_of(Size.SMOKE, 0.0, [ask(question(lambda *_: stage), Size.SMOKE, folder)])


def shown(table: Table) -> str:
    """Return a table as text."""
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_can_be_asked(name: str, tmp_path: Path) -> None:
    """At the smoke size everybody gives the right answer, and there is a ratio between two of them."""
    answered = ask(QUESTIONS[name], Size.SMOKE, tmp_path)
    assert answered.question == name
    assert all(one.each > 0 for one in answered.measured)
    assert answered.compared
    assert not list(tmp_path.iterdir())


def test_a_wrong_answer_is_never_fast(tmp_path: Path) -> None:
    """Whoever did something else than was asked for ends the run instead of winning it."""
    cheat = contestant("cheat", [0.0], "wrong")
    with pytest.raises(WrongAnswer, match=r"cheat at 10 came to wrong, not right"):
        ask(question(lambda *_: Stage([cheat], [])), Size.SMOKE, tmp_path)


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
    assert "at most 1.30: missed" in shown(report.ratios(result.questions[0]))


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
    rows = shown(report.comparison(first, second)).splitlines()
    assert any("hare 10 " in row and "10.0 ms" in row and "30.0 ms" in row and "3.00" in row for row in rows)
    assert any("hare : tortoise 10" in row and "2.00" in row and "0.67" in row and "0.33" in row for row in rows)


def test_results_of_other_work_are_not_compared(tmp_path: Path) -> None:
    """Two figures for different answers have no ratio."""
    first = race(tmp_path / "one", [1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    measured = [msgspec.structs.replace(one, answer="other") for one in first.questions[0].measured]
    other = msgspec.structs.replace(first, questions=[msgspec.structs.replace(first.questions[0], measured=measured)])
    assert shown(report.comparison(first, other)).count("other work") == 3


def test_the_command_keeps_and_compares_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program runs the question that is named, keeps the result, and shows two of them."""
    kept = str(tmp_path / "kept.json")
    assert main(["commit", "--smoke", "--json", kept, "--folder", str(tmp_path)]) == 0
    assert "Durable commits" in capsys.readouterr().out
    assert main(["--compare", kept, kept]) == 0
    assert "one at a time" in capsys.readouterr().out


def test_an_unknown_question_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name is a usage error that tells the right ones."""
    with pytest.raises(SystemExit, match="2"):
        main(["comit"])
    assert "commit" in capsys.readouterr().err
