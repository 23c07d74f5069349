"""Ask the questions, or show what was answered before.

python -m benchmarks                                all questions at their real sizes: some ten minutes
python -m benchmarks merge --smoke                  one, at the size that only shows that it works
python -m benchmarks --json FILE --write-docs       all, keep the result, and write docs/performance.md from it
python -m benchmarks --from FILE --write-docs       the same from a kept result
python -m benchmarks --compare FILE FILE            two kept results side by side
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import page, report, results
from benchmarks.harness import Answered, Size, WrongAnswer, ask
from benchmarks.questions import QUESTIONS

#: Where temporary files outlive a restart, and so are on a disk: in memory an fsync would cost nothing.
_ON_DISK = Path("/var/tmp")  # noqa: S108 - only a folder of our own in it is used

_WIDTH = 120


def main(arguments: list[str]) -> int:
    """Do what the arguments ask for; return the exit status, 1 where somebody gave a wrong answer."""
    options = _options(arguments)
    # In a file or a pipe there is no width to keep to.
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    if options.compare:
        console.print(report.side_by_side(*map(results.read, options.compare)))
        return 0
    if options.kept:
        result, wrong = results.read(options.kept), False
        for answered in result.questions:
            _show(console, answered)
    else:
        load = os.getloadavg()[0]
        size = Size.SMOKE if options.smoke else Size.LONG if options.long else Size.REAL
        names = options.question or list(QUESTIONS)
        answers: list[Answered] = []
        for answered in _ask_all(names, size, options.folder, console):
            _show(console, answered)
            answers.append(answered)
            if options.json:
                # After each, so that who stops a long run keeps what was answered.
                results.write(results.result_of(size, load, answers), options.json)
        result = results.result_of(size, load, answers)
        wrong = len(answers) < len(names)
    if options.write_docs:
        page.write(result, options.docs)
    return int(wrong)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Ask how fast cluster-store is.")
    parser.add_argument("question", nargs="*", help=f"{', '.join(QUESTIONS)}; all of them where none is named")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--smoke", action="store_true", help="a few seconds' work; the figures mean nothing")
    sizes.add_argument("--long", action="store_true", help="the largest scales too: half an hour and more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the result in a file")
    parser.add_argument("--folder", type=Path, default=_ON_DISK, help="work below this folder (default: %(default)s)")
    parser.add_argument("--from", dest="kept", type=Path, metavar="FILE", help="ask nothing: show a kept result")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="FILE", help="show two kept results side by side")
    parser.add_argument("--write-docs", action="store_true", help="write the page on performance and its pictures")
    parser.add_argument("--docs", type=Path, default=page.DOCS, help="into this folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.question if name not in QUESTIONS]:
        parser.error(f"there is no question {unknown[0]}; there are {', '.join(QUESTIONS)}")
    return options


def _ask_all(names: Sequence[str], size: Size, folder: Path, console: Console) -> Iterator[Answered]:
    """Yield the answers to questions, asked one after the other. Of one that somebody answers wrong, that is said."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-", dir=folder) as room,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        shelf, work = Path(room, "shelf"), Path(room, "work")
        shelf.mkdir()
        work.mkdir()
        bar = progress.add_task("")
        for number, name in enumerate(names, 1):

            def tell(who: str, done: int, whole: int, what: str = f"{number}/{len(names)} {name}") -> None:
                progress.update(bar, description=f"{what}: {who}", completed=done, total=whole)

            try:
                yield ask(QUESTIONS[name], size, work, shelf, tell)
            except WrongAnswer as wrong:
                console.print(f"wrong: {name}: {wrong}", style="bold red", markup=False)
                shutil.rmtree(work)
                work.mkdir()


def _show(console: Console, answered: Answered) -> None:
    console.print(report.amounts(answered), report.comparisons(answered))
    for missing in answered.missing:
        console.print(f"not here: {missing}", markup=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
