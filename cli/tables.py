"""Tables and trees for people: wide where nobody's screen sets the width, coloured on a terminal only.

Rich is loaded when something is printed: whoever asks for JSON does not wait for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cluster_store.core.naming import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: Columns where the output is a file or a pipe: nothing is wrapped or cut there.
_UNBOUNDED = 100_000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns' names."""
    from rich import box
    from rich.table import Column, Table

    # What a row is about is never cut; everything else makes room for it.
    first, *others = columns
    heads = [Column(first, no_wrap=True, overflow="ignore"), *(Column(name, overflow="fold") for name in others)]
    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*map(_shown, row))
    _console().print(table)


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and what they stand for, one a line."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(_shown(name, style="bold"), _shown(value))
    _console().print(table)


def print_tree(root: str, branches: Mapping[str, Iterable[str]]) -> None:
    """Print a tree of two levels."""
    from rich.tree import Tree

    tree = Tree(_shown(root, style="bold"))
    for name, leaves in branches.items():
        branch = tree.add(_shown(name))
        for leaf in leaves:
            branch.add(_shown(leaf))
    _console().print(tree)


def _shown(text: str, style: str = "") -> Text:
    from rich.text import Text

    # Not a plain string, in which rich would see markup.
    return Text(one_line(text), style=style)


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _UNBOUNDED, highlight=False)
