"""docs/performance.md, written from a result: what was wanted, what was measured, beside whom, and how to repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import fill

from benchmarks import wording
from benchmarks.harness import Answered, Size
from benchmarks.results import Result

_ROOT = Path(__file__).parents[1]
DOCS = _ROOT / "docs"
NOTES = Path(__file__).with_name("notes.md")

_WIDTH = 120
_PICTURES = "performance"
_NOT_PAID = "What did not pay"

_HEAD = """# Performance

How fast cluster-store is, beside what the machine could do at best and beside what else one could use, in one run. This
page is written by that run (`benchmarks/page.py`); what explains the figures is from `benchmarks/notes.md`.

A ratio is taken between two contestants of the same round, and the median of the rounds counts, so that whatever else
the host does slows both down. Every trial ends with a hash of what came out, and a wrong one is no answer. Making
things ready is not timed; making them durable is.
"""

_REPEAT = """## To repeat it

```sh
pip install -e '.[bench]'
apt-get install etcd-server nats-server              # those that are not here are skipped, and named
python -m benchmarks --json result.json --write-docs # everything, some ten minutes, and this page
python -m benchmarks --long                          # the largest scales too
python -m benchmarks merge commit                    # some questions only
python -m benchmarks --smoke                         # whether all of it works
python -m benchmarks --compare one.json other.json   # two results side by side
```

Trials work in a folder below `/var/tmp`, or where `--folder` says: on the disk that is to be measured. Servers of
others listen on loopback, on free ports, and are ended with their trial.
"""


def write(result: Result, docs: Path, notes: Path = NOTES) -> None:
    """Write the page and its pictures into a folder.

    Raises:
        ModuleNotFoundError: matplotlib, which draws, is not here; nothing was written.
    """
    from benchmarks import plot  # noqa: PLC0415 - only who writes the page needs what draws

    pictures = docs / _PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    for answered in result.questions:
        plot.draw(answered, pictures / f"{answered.question}.svg")
    (docs / "performance.md").write_text(page(result, notes.read_text(encoding="utf-8")), encoding="utf-8")


def page(result: Result, notes: str) -> str:
    """Return the page's text."""
    said = _sections(notes)
    parts = [_HEAD, *_host(result), "## Wanted and measured\n", *_targets(result)]
    for answered in result.questions:
        parts += _question(answered, said.get(answered.question, ""))
    if _NOT_PAID in said:
        parts.append(f"## {_NOT_PAID}\n\n{said[_NOT_PAID]}\n")
    return "\n".join([*parts, _REPEAT])


def _sections(notes: str) -> dict[str, str]:
    """Return what stands under each heading of the notes."""
    _, *sections = notes.split("\n## ")
    return {heading: text.strip() for heading, _, text in (section.partition("\n") for section in sections)}


def _host(result: Result) -> Iterator[str]:
    here = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    size = "" if result.size is Size.REAL else f" It was made at the {result.size} size."
    text = (
        f"Made from {result.commit or 'no commit'} at {result.at}, on {result.system}, {result.cores} cores"
        f"{f' of {result.processor}' if result.processor else ''}, with a load of {result.load_before:.1f} from others"
        f" when it began.{size} With {here}."
    )
    yield fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _targets(result: Result) -> Iterator[str]:
    wanted = [(answered, one) for answered in result.questions for one in answered.compared if one.wanted]
    met = sum(one.met for _, one in wanted)
    rows = [
        (
            f"[{answered.question}](#{answered.question})",
            wording.between(one),
            wording.of(one, answered.operation),
            wording.target(one),
            wording.number(one, one.value),
            wording.verdict(one),
        )
        for answered, one in wanted
    ]
    yield f"{met} of {len(wanted)} targets are met.\n"
    yield from _table(("question", "what", "of", "target", "measured", ""), rows)


def _question(answered: Answered, note: str) -> Iterator[str]:
    yield f"## {answered.question}\n\n{answered.title}.\n"
    if note:
        yield f"{note}\n"
    yield f"![{answered.title.replace('`', '')}]({_PICTURES}/{answered.question}.svg)\n"
    yield from _table(
        ("who", answered.scale, f"{answered.operation}s a second", f"one {answered.operation}", "of the rounds"),
        [
            (
                one.contestant,
                wording.thousands(one.scale),
                wording.rate(one),
                wording.amount(one.each, one.unit),
                wording.span(one),
            )
            for one in answered.measured
        ],
    )
    if answered.compared:
        yield from _table(
            ("beside one another", "of", "median", "of the rounds", "target", ""),
            [
                (
                    wording.between(one),
                    wording.of(one, answered.operation),
                    wording.number(one, one.value),
                    f"{wording.number(one, min(one.values))} to {wording.number(one, max(one.values))}",
                    wording.target(one) + (f", stretch {one.stretch:.2f}" if one.stretch is not None else ""),
                    wording.verdict(one),
                )
                for one in answered.compared
            ],
        )
    for missing in answered.missing:
        yield f"Not here: {missing}.\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = [_row(head), _row(["---"] * len(head)), *map(_row, rows)]
    yield "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
