"""Breaking the engine for real, to see what a panic does to those who use a document."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, cast

from automerge import core

from cluster_store.core.document import Document


class PanickingEngine:
    """Stands where a document keeps its engine's document; whatever is asked of it ends in a panic of the engine.

    The binding panics when asked for a key with an unpaired surrogate. Unlike writing a counter, which panics
    too, this leaves nothing behind that crashes the process when it is freed.
    """

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        return _panic


def break_engine(document: Document) -> None:
    """Let the document's next call meet a panic."""
    document._door.engine = cast("core.Document", PanickingEngine())


def _panic(*arguments: object) -> NoReturn:
    core.Document(b"\x00").get(core.ROOT, "\ud800")
    raise AssertionError("the engine did not panic")
