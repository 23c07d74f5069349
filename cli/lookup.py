"""What ``get`` does, without typer and with hardly anything else loaded.

Scripts and templates ask for single values by the hundred. ``quick`` understands the plain forms of the command;
whatever else the arguments say goes the usual way, through ``get.py``, to the same ``show``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .failures import DONE, is_text
from .session import Session, print_json, say

if TYPE_CHECKING:
    from cluster_store.core.settings import Value

    from .views import View

_OPTIONS = {"--machine": "machine", "--level": "level", "--default": "default"}


def quick(arguments: Sequence[str]) -> tuple[Session, dict[str, Any]] | None:
    """Return the session and the parameters of ``show``, None where the arguments are anything less plain."""
    if not is_text(arguments):
        return None
    session = Session()
    given: dict[str, Any] = {}
    words: list[str] = []
    rest = list(reversed(arguments))
    while rest:
        word = rest.pop()
        if word == "--store" and rest and not words and session.login is None:
            session.store = rest.pop()
        elif word == "--json":
            session.as_json = True
        elif word == "-r" and words:
            given["raw"] = True
        elif word in _OPTIONS and rest and words:
            given[_OPTIONS[word]] = rest.pop()
        elif word and not word.startswith("-"):
            words.append(word)
        else:
            return None
    if len(words) != 2 or words[0] != "get" or {"machine", "level"} <= given.keys():  # noqa: PLR2004 - get KEY
        return None
    return session, {"key": words[1], **given}


def show(
    session: Session,
    key: str,
    *,
    machine: str | None = None,
    level: str | None = None,
    default: str | None = None,
    raw: bool = False,
    at: str | None = None,
    as_known_by: str | None = None,
) -> int:
    """Print a key's value: the effective one here or on a named machine, or the one that a level keeps.

    Args:
        session: where to look, and how to answer.
        key: the key.
        machine: a machine's name or id; None is this one.
        level: as an operator writes it; with it ``machine`` means nothing.
        default: printed where the key is not set.
        raw: print a string without its quotes.
        at: when, None for now.
        as_known_by: a machine's name or id; None is what is known here.

    Raises:
        NotFound: the key is not set and there is no default.
        ClusterStoreError: there is no such machine or level, or the store cannot be read.
    """
    _load_msgspec()
    from cluster_store.core import values
    from cluster_store.core.errors import NotFound
    from cluster_store.core.naming import show_level
    from cluster_store.core.settings import effective

    values.check_key(key)
    with _view(session, at, as_known_by) as store:
        cluster = store.cluster()
        if level is not None:
            levels, where = [cluster.level(level)], f"at {level}"
        else:
            levels = cluster.levels_for(cluster.machine(machine).id if machine else store.me)
            where = f"for {machine}" if machine else "for this machine"
        found = effective(store, levels, key)
        shown = show_level(found.level, cluster) if found else None
    if found is not None:
        text = secret_text(session, key, found)
    elif default is not None:
        text = values.parse_argument(default)
    else:
        raise NotFound(
            f"{key} {'is' if at is None else 'was'} not set {where}",
            f"'set {key} VALUE' sets it; 'get --default VALUE' does without",
        )
    if session.as_json:
        import msgspec

        print_json({"key": key, "value": msgspec.Raw(text.encode()), "level": shown})
    else:
        say(values.show(text) if raw else text)
    return DONE


def _load_msgspec() -> None:
    """Import msgspec without ``typing_extensions``.

    It takes that where it is installed, and with it a third of what this command would load; ``typing`` has the same.
    """
    name = "typing_extensions"
    if name in sys.modules:
        return
    sys.modules[name] = None  # type: ignore[assignment] # this is how a module is hidden from ``import``
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules[name]


@contextmanager
def _view(session: Session, at: str | None, known_by: str | None) -> Iterator[View]:
    if at is None and known_by is None:
        with session.read() as store, store.snapshot():
            yield store
    else:
        from .views import view

        with view(session, at, known_by) as past:
            yield past


def secret_text(session: Session, key: str, value: Value) -> str:
    """Return a value's JSON text, that of a secret too where whoever asks may see it. Raises NotFound and Refused."""
    from cluster_store.core.errors import NotFound, Refused

    if isinstance(value.value, str):
        return value.value
    if not session.sees_secrets:
        raise Refused(f"{key} is secret", "an administrator can see its value")
    if value.lane.text is None:
        raise NotFound(f"{key} is secret and its value is not in this store", f"set it again: 'set {key} --secret'")
    return value.lane.text
