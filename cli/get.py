"""``get``: one key's effective value, at once.

Scripts and templates ask for single values by the hundred, so ``quick`` understands the command without typer and
reads the store with hardly anything loaded. What it does not understand goes the usual way, with the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .failures import DONE
from .session import Session, print_json, say

if TYPE_CHECKING:
    from cluster_store.adapters.sqlite_reader import StoreReader
    from cluster_store.core.cluster import Cluster
    from cluster_store.core.settings import Value

_SWITCHES = {"--json": "json", "-r": "raw"}
_OPTIONS = {"--machine": "machine", "--level": "level", "--default": "default"}


def quick(arguments: Sequence[str]) -> tuple[Session, dict[str, Any]] | None:
    """Return the session and the parameters of ``get``, None where these arguments are anything less plain."""
    session = Session()
    given: dict[str, Any] = {}
    words: list[str] = []
    rest = list(reversed(arguments))
    while rest:
        word = rest.pop()
        if word == "--store" and rest and not words:
            session.store = rest.pop()
        elif word == "--json":
            session.as_json = True
        elif word == "-r" and words:
            given["raw"] = True
        elif word in _OPTIONS and rest and words:
            given[_OPTIONS[word]] = rest.pop()
        elif word.startswith("-") or not word:
            return None
        elif (not words and word != "get") or len(words) > 1:
            return None
        else:
            words.append(word)
    return (session, {"key": words[1], **given}) if len(words) > 1 else None


def show(
    session: Session,
    key: str,
    *,
    machine: str | None = None,
    level: str | None = None,
    raw: bool = False,
    default: str | None = None,
) -> int:
    """Print a key's value: effective on this machine or the named one, or as one level keeps it.

    Raises:
        NotFound: it is not set, and there is no default.
        ClusterStoreError: there is no such machine or level, or the store cannot be read.
    """
    from cluster_store.core import values
    from cluster_store.core.errors import NotFound
    from cluster_store.core.settings import effective

    values.check_key(key)
    with session.read() as store, store.snapshot():
        cluster = store.cluster()
        if level is None:
            levels = cluster.levels_for(cluster.machine(machine).id if machine else store.me)
        else:
            levels = [cluster.level(level)]
        found = effective(store, levels, key)
        if found is not None:
            _print(session, key, _text(found, key), cluster.show_level(found.level), raw=raw)
            return DONE
        where = f"at {level}" if level else f"for {machine}" if machine else "here"
    if default is None:
        raise NotFound(f"{key} is not set {where}", "'set' gives it a value; --default V prints V instead")
    _print(session, key, values.parse_argument(default), None, raw=raw)
    return DONE
