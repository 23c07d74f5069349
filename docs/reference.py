"""Write ``docs/cli.md`` from the commands themselves.

    python docs/reference.py            writes the page
    python docs/reference.py --check    exit status 1 if the page is not what would be written

What a command takes is asked of the objects that parse it, not of the help that a library lays out from them, so the
page does not change with that library.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from cluster_store_cli import failures, program
from cluster_store_cli.catalogue import FAMILIES, SECTIONS, Entry
from cluster_store_cli.session import STORE_VARIABLE
from typer.core import TyperArgument, TyperCommand, TyperGroup

PAGE = Path(__file__).with_name("cli.md")
_WIDTH = 120

_PREFACE = f"""\
<!-- Written by docs/reference.py from the commands themselves: change those, and run it again. -->

# Commands

`cluster-store COMMAND` works on the store of one machine. `clusterconfig OPERATION` is the same as
`cluster-store clusterconfig OPERATION`. Names of commands, operations, groups and machines may be written in any case.

## Everywhere

| option | meaning |
|---|---|
{{everywhere}}

`--store` stands before the command, `--json` before or after it. With `--json` a command that shows something prints
one JSON document on standard output; `log` prints one on each line. Messages and progress go to standard error, so what
is on standard output can be piped.

| word | meaning |
|---|---|
| `KEY` | a setting's name: parts joined by dots, such as `smtp.banner` |
| `VALUE`, `ELEMENT` | JSON, or a bare word, which is a string: `100` is a number; `1.10` and `yes` are strings |
| `LEVEL` | `cluster`, `group:NAME` or `machine:NAME`; an id for NAME where two share it, or its owner is gone |
| `EVENT` | an event's id, a beginning of it of 6 characters or more that no other event shares, or `MACHINE#NUMBER` |
| `WHEN` | an `EVENT`, or a time in ISO 8601 such as `2026-03-01T12:00:00Z` |
| `FILE` | a path; `-` is standard input or output |

### Exit status

| status | meaning |
|---|---|
| {failures.DONE} | done |
| {failures.REFUSED} | refused, and nothing was changed, or failed; standard error says why, and what to do |
| {failures.USAGE} | the command line is wrong |
| {failures.BAD} | the command worked, and what it looked for is bad; only where a command below says so |
| {failures.INTERRUPTED} | interrupted from the keyboard |
| {failures.NOBODY_READS} | whoever read standard output went away |

### Environment

| variable | meaning |
|---|---|
| `{STORE_VARIABLE}` | the store's folder, where `--store` does not name it |
| `NO_COLOR` | if set, no colour; there is none in a file or a pipe in any case |

Neither is needed. Without `--store` and `{STORE_VARIABLE}` the store is where the platform keeps a user's data: on
Linux `$XDG_DATA_HOME/cluster-store`, or `~/.local/share/cluster-store`.
"""


def page() -> str:
    """Return the page."""
    everywhere = _table(program._group("cluster-store"))  # noqa: SLF001 - the program itself is what is described
    parts = [_PREFACE.format(everywhere="\n".join(everywhere))]
    for title, entries in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name, entry in entries.items():
            parts.append("\n".join(_family(name, entry) if name in FAMILIES else _command(name, entry, name)))
    return "\n".join(parts)


def _family(name: str, entry: Entry) -> Iterator[str]:
    yield f"### `{name}`\n\n{entry.help}\n"
    for operation, its_entry in FAMILIES[name].items():
        yield from _command(operation, its_entry, f"{name} {operation}", depth=4)


def _command(name: str, entry: Entry, words: str, depth: int = 3) -> Iterator[str]:
    command = program._command(name, entry)  # noqa: SLF001 - the same
    yield f"{'#' * depth} `{words}`\n"
    yield f"{entry.help}\n"
    yield f"```\n{_usage(words, command)}\n```\n"
    rows = list(_table(command))
    if rows:
        yield from ("| takes | meaning |", "|---|---|", *rows, "")
    for paragraph in (command.help or "").split("\n\n")[1:]:
        yield textwrap.fill(" ".join(paragraph.split()), _WIDTH, break_on_hyphens=False) + "\n"


def _own(command: TyperCommand | TyperGroup) -> list[Any]:
    """Return what a command takes apart from what every command takes."""
    if isinstance(command, TyperGroup):
        return list(command.params)
    return [parameter for parameter in command.params if parameter.name not in ("json", "version")]


def _usage(words: str, command: TyperCommand) -> str:
    """Return one line of usage, broken where it is too long."""
    pieces = []
    for parameter in sorted(_own(command), key=lambda one: not isinstance(one, TyperArgument)):
        shown = _shown(parameter, command, parameter.opts[:1])
        more = "..." if getattr(parameter, "multiple", False) and not isinstance(parameter, TyperArgument) else ""
        pieces.append(shown + more if parameter.required else f"[{shown}]{more}")
    start = f"cluster-store {words} "
    # What cannot be broken must not hold a blank while lines are filled.
    filled = textwrap.fill(
        start + " ".join(piece.replace(" ", "\0") for piece in pieces),
        _WIDTH,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
        break_long_words=False,
    )
    return filled.replace("\0", " ")


def _table(command: TyperCommand | TyperGroup) -> Iterator[str]:
    for parameter in _own(command):
        meaning = " ".join((parameter.help or "").split())
        default = parameter.default
        if isinstance(default, Enum):
            default = default.value
        if default not in (None, False, "") and not callable(default):
            meaning += f" Otherwise `{default}`."
        shown = _shown(parameter, command, [*parameter.opts, *parameter.secondary_opts])
        yield f"| `{_in_cell(shown)}` | {_in_cell(meaning)} |"


def _in_cell(text: str) -> str:
    return text.replace("|", r"\|")


def _shown(parameter: Any, command: TyperCommand | TyperGroup, names: Sequence[str]) -> str:
    """Return an argument or option as it is written: its names, and what stands for its value."""
    metavar = parameter.metavar or _choices(parameter, command) or parameter.name.upper()
    if isinstance(parameter, TyperArgument):
        return f"{metavar}..." if parameter.nargs == -1 and "..." not in metavar else metavar
    shown = ", ".join(names)
    return shown if parameter.is_flag else f"{shown} {metavar}"


def _choices(parameter: Any, command: TyperCommand | TyperGroup) -> str:
    """Return the values of an option that takes one of a few, ``a|b|c``."""
    hints = get_type_hints(command.callback) if command.callback else {}
    hint = hints.get(parameter.name)
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return "|".join(str(member.value) for member in kind)
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the module's docstring says, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    text = page()
    if not parser.parse_args(arguments).check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/cli.md: is not what the commands are now; run 'python docs/reference.py'")
    return 1


if __name__ == "__main__":
    sys.exit(main())
