"""What a machine that left its cluster begins its own log with, so that it goes on doing what it did.

Its effective values become its own, at its own level: what it inherited is flattened. Each event's comment says which
level the values came from. Its users are the cluster's. Its keys, and so its id, are new.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from cluster_store.core.cluster import ADMIN, Cluster, Removed
from cluster_store.core.commands import (
    AddElements,
    AddUser,
    Card,
    ChangeUser,
    Command,
    InitialiseMachine,
    LoadConfig,
    SetSetting,
)
from cluster_store.core.errors import InvalidValue
from cluster_store.core.limits import BATCH_BYTES_TARGET
from cluster_store.core.naming import excerpt, show_level, show_removal
from cluster_store.core.registers import Registers, Secret
from cluster_store.core.settings import effective_settings, is_set
from cluster_store.core.types import Level
from cluster_store.core.values import check_name

#: Keys, or elements of a set, that one event gives values to: far from what an event may write.
_KEYS_PER_EVENT = 1000


class Legacy(msgspec.Struct, frozen=True):
    """What a machine takes with it."""

    #: To be carried out one after the other in an empty store. Where one but the first is refused, since a member
    #: wrote what no command writes, its ``parts`` are to be tried; what has none is lost.
    commands: list[Command]
    #: Keys of secrets whose values were never here, or are erased.
    lost: list[str]


def legacy(registers: Registers, cluster: Cluster, left: Removed, card: Card, salt: bytes) -> Legacy:
    """Return what a machine takes with it.

    A set whose elements were all knocked out has none to take along: it is unset then.

    Args:
        registers: with the scopes of all levels that it inherited from.
        cluster: the read model of these registers.
        left: the machine as it was last.
        card: what it says of itself from now on.
        salt: 16 random bytes.
    """
    told = f"{show_removal(left)}; the cluster was {excerpt(cluster.name)}"
    commands, lost = [_beginning(cluster, left, card, salt, told), *_users(cluster, salt, told)], []
    plain: dict[Level, dict[str, str]] = {}
    for key, value in effective_settings(registers, cluster.levels_for(left.id)).items():
        comment = _comment(value.level, cluster, told)
        if is_set(registers, key):
            elements = [bytes(one).decode() for one in msgspec.json.decode(str(value.value), type=list[msgspec.Raw])]
            pieces = _pieces({one: one for one in elements})
            commands += [AddElements(key=key, elements=tuple(piece), comment=comment) for piece in pieces]
        elif not isinstance(value.value, Secret):
            plain.setdefault(value.level, {})[key] = str(value.value)
        elif value.lane.text is None:
            lost.append(key)
        else:
            commands.append(SetSetting(key=key, value=value.lane.text, secret=True, salt=salt, comment=comment))
    source = f"the cluster {excerpt(cluster.name)}"
    for level, settings in plain.items():
        comment = _comment(level, cluster, told)
        pieces = _pieces(settings)
        commands += [LoadConfig(settings=piece, source=source, salt=salt, comment=comment) for piece in pieces]
    return Legacy(commands, lost)


def parts(command: Command) -> list[Command]:
    """Return two commands that come to the same, none where it is about one thing only."""
    if not isinstance(command, LoadConfig) or len(command.settings) == 1:
        return []
    pairs = list(command.settings.items())
    half = len(pairs) // 2
    return [msgspec.structs.replace(command, settings=dict(some)) for some in (pairs[:half], pairs[half:])]


def subject(command: Command) -> str:
    """Return what a command without parts is about: a key, or a user."""
    if isinstance(command, LoadConfig):
        return next(iter(command.settings))
    if isinstance(command, AddUser | ChangeUser):
        return f"user {command.name if isinstance(command, AddUser) else command.user}"
    assert isinstance(command, AddElements | SetSetting)
    return command.key


def _beginning(cluster: Cluster, left: Removed, card: Card, salt: bytes, told: str) -> Command:
    admin = cluster.users.get(ADMIN)
    own = msgspec.structs.replace(
        card,
        hostname=_name(card.hostname, "hostname", left.id),
        serial=_name(card.serial, "serial number", left.id),
    )
    return InitialiseMachine(card=own, password=admin.password if admin else "", salt=salt, comment=told)


def _name(name: str, what: str, otherwise: str) -> str:
    """Return a name, or another one if a member made it one that cannot be."""
    try:
        return check_name(name, what)
    except InvalidValue:
        return otherwise


def _users(cluster: Cluster, salt: bytes, told: str) -> Iterator[Command]:
    """Yield what lets everybody log in who could; admin is there already, with the password."""
    for user in cluster.users.values():
        comment = f"a user before {told}"
        if user.id != ADMIN:
            yield AddUser(
                name=user.name,
                role=user.role,
                password=user.password,
                keys=user.keys,
                both=user.both,
                salt=salt,
                comment=comment,
            )
        elif user.keys or user.both:
            yield ChangeUser(user=ADMIN, add_keys=user.keys, both=user.both, salt=salt, comment=comment)


def _comment(level: Level, cluster: Cluster, told: str) -> str:
    origin = "set here" if level.startswith("machine/") else f"inherited from {show_level(level, cluster)}"
    return f"{origin} before {told}"


def _pieces(settings: dict[str, str]) -> Iterator[dict[str, str]]:
    """Cut settings into pieces that fit an event each; nothing at all is a piece too."""
    piece: dict[str, str] = {}
    size = 0
    for key, value in settings.items():
        if piece and (len(piece) == _KEYS_PER_EVENT or size + len(value) > BATCH_BYTES_TARGET):
            yield piece
            piece, size = {}, 0
        piece[key] = value
        size += len(value)
    yield piece
