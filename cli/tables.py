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
#: Characters of what is a word, such as a hostname's part or a time; JSON can be longer without a blank.
_WORD_MAX = 32
#: The narrowest column in which a sentence can be read, and what stands between columns.
_SENTENCE_MIN, _GAP = 16, 3


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns' names."""
    from rich import box
    from rich.table import Column, Table

    cells = [[_shown(cell) for cell in row] for row in rows]
    by_column = [[name, *(row[at].plain for row in cells)] for at, name in enumerate(columns)]
    words = [at == 0 or _holds_words(texts) for at, texts in enumerate(by_column)]
    heads = [Column(name, no_wrap=word, overflow="fold") for name, word in zip(columns, words, strict=True)]
    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in cells:
        table.add_row(*row)
    console = _console()
    longest = [max(map(len, texts)) for texts in by_column]
    least = [width if word else min(width, _SENTENCE_MIN) for width, word in zip(longest, words, strict=True)]
    if sum(least) + _GAP * (len(columns) - 1) > console.width:
        # Not even with narrow sentences: then a row is as long as it is, and the terminal breaks it.
        console.width = _UNBOUNDED
    console.print(table)


def _holds_words(texts: Sequence[str]) -> bool:
    """Say whether a column, whose name comes first, holds words: they are not broken, sentences make room for them."""
    return all(" " not in text and len(text) <= _WORD_MAX for text in texts[1:])


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
