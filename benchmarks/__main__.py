"""Ask the questions, or show two results side by side.

python -m benchmarks                       all questions at their real sizes: minutes
python -m benchmarks merge --smoke         one, at the size that only shows that it works
python -m benchmarks --json FILE           and keep the result
python -m benchmarks --compare FILE FILE   two kept results
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import report, results
from benchmarks.harness import Size, WrongAnswer, ask
from benchmarks.questions import QUESTIONS

#: Where temporary files outlive a restart, and so are on a disk: in memory an fsync would cost nothing.
_ON_DISK = Path("/var/tmp")  # noqa: S108 - only a folder of our own in it is used


_WIDTH = 120


def main(arguments: list[str]) -> int:
    """Do what the arguments ask for; return the exit status, 1 where somebody gave a wrong answer."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Ask how fast cluster-store is.")
    parser.add_argument("question", nargs="*", help=f"{', '.join(QUESTIONS)}; all of them where none is named")
    parser.add_argument("--smoke", action="store_true", help="a few seconds' work; the figures mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the result in a file")
    parser.add_argument("--folder", type=Path, default=_ON_DISK, help="work below this folder (default: %(default)s)")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="FILE", help="show two kept results side by side")
    options = parser.parse_args(arguments)
    # In a file or a pipe there is no width to keep to.
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    if options.compare:
        console.print(report.comparison(*map(results.read, options.compare)))
        return 0
    if unknown := [name for name in options.question if name not in QUESTIONS]:
        parser.error(f"there is no question {unknown[0]}; there are {', '.join(QUESTIONS)}")
    size = Size.SMOKE if options.smoke else Size.REAL
    load = os.getloadavg()[0]
    answered = []
    for name in options.question or QUESTIONS:
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as folder:
            try:
                answered.append(ask(QUESTIONS[name], size, Path(folder)))
            except WrongAnswer as wrong:
                console.print(f"wrong: {name}: {wrong}", style="bold red")
                return 1
        console.print(report.speeds(answered[-1]), report.ratios(answered[-1]))
    if options.json:
        results.write(results.result_of(size, load, answered), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
