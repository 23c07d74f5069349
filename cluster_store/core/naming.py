"""How registers, levels, times and foreign text are shown to people, wherever they are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cluster_store.core.cluster import Cluster, Removed, User
from cluster_store.core.errors import NotFound
from cluster_store.core.registers import split_setting
from cluster_store.core.types import Level, MachineId, Path, RecordId
from cluster_store.core.values import unquote_part

#: Hex digits of an id that are shown, and more than enough to name the event in a command.
SHORT_ID_DIGITS = 10
#: A value beyond this is cut in a line for people; JSON has all of it.
_SHOWN_CHARS_MAX = 60
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def show_path(path: Path, cluster: Cluster) -> str:
    """Return a register as an operator writes it: ``cluster:KEY``, ``group:NAME:KEY``, ``machine:NAME:KEY``.

    Other registers than settings keep their own path, with names in the place of ids.
    """
    setting = split_setting(path)
    if setting is not None:
        level, key, element = setting
        shown = f"{show_level(level, cluster)}:{key}"
        return shown if element is None else f"{shown}[{element}]"
    kind, owner, *attribute = path.split("/")
    if kind == "user":
        owner = cluster.users[owner].name if owner in cluster.users else unquote_part(owner)
    elif kind in ("group", "machine"):
        owner = show_level(Level(f"{kind}/{owner}"), cluster).partition(":")[2]
    else:
        owner = unquote_part(owner)
    return "/".join((kind, owner, *attribute))


def show_level(level: Level, cluster: Cluster) -> str:
    """Return a level as an operator writes it, with the id where a name is ambiguous or its owner is gone."""
    return cluster.show_level(level)


def tell_level(level: Level, cluster: Cluster) -> str:
    """Return a level for people who only read: a machine that was removed by its last name, not by its id."""
    gone = cluster.removed.get(MachineId(level.partition("/")[2]))
    return f"machine:{gone.hostname} (removed)" if gone is not None and gone.hostname else show_level(level, cluster)


def show_event(machine: MachineId, seq: int, record: RecordId, cluster: Cluster) -> str:
    """Return an event as people speak of it: ``mx1#12 (0123456789)``."""
    return f"{cluster.hostname(machine)}#{seq} ({record[:SHORT_ID_DIGITS]})"


def show_user(user: User) -> str:
    """Return what people may see of a user: name, role, and how they log in, on one line."""
    if user.deleted:
        return f"{excerpt(user.name)}, deleted"
    return f"{excerpt(user.name)}, {user.role}, logs in with {show_login(user)}"


def show_login(user: User) -> str:
    """Return what a user logs in with, ``password or key`` for one; ``nothing`` where they cannot."""
    ways = ["password"] * bool(user.password) + ["key"] * bool(user.keys)
    return (" and " if user.both else " or ").join(ways) or "nothing"


def show_removal(machine: Removed, name: str = "") -> str:
    """Return who removed a machine when, as a sentence without its stop; ``name`` stands for the hostname."""
    told = f"{excerpt(name or machine.hostname or machine.id)} was removed from the cluster"
    if not machine.removed_by:
        return told
    by, on = excerpt(machine.removed_by), excerpt(machine.removed_on)
    return f"{told} by {by} on {on} at {iso_time(machine.removed_at)}"


def machine_ever(name: str, cluster: Cluster) -> MachineId:
    """Return the id of a machine that is a member, or was, by hostname or id. Raises NotFound, Refused (ambiguous)."""
    try:
        return cluster.machine(name).id
    except NotFound:
        gone = [
            machine.id
            for machine in cluster.removed.values()
            if name == machine.id or name.casefold() == machine.hostname.casefold()
        ]
        if len(gone) != 1:
            raise
        return gone[0]


def counted(number: int, what: str) -> str:
    """Return how many of something there are: ``1 record``, ``2 records``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def iso_time(milliseconds: int) -> str:
    """Return a time in ISO 8601, UTC, with milliseconds; one beyond the calendar as its number.

    A machine may claim any time at all for what it writes.
    """
    try:
        moment = _BEGINNING + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return f"{milliseconds}ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def one_line(text: str) -> str:
    """Return foreign text that is safe on a terminal: what is not printable, line ends too, stands escaped."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def excerpt(text: str) -> str:
    """Return the beginning of foreign text, safe on a terminal."""
    return one_line(text if len(text) <= _SHOWN_CHARS_MAX else f"{text[: _SHOWN_CHARS_MAX - 1]}…")
