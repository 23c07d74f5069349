"""What a caller asks for, in the imperative. ``decide`` turns a command into an event or refuses it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from cluster_store.core.registers import LaneValue, WriteValue
from cluster_store.core.types import Path, RecordId


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of all commands."""

    comment: str = ""


#: A port that can be listened on and dialled, or 0 for any free one.
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine says of itself when it is initialised or wants to join."""

    #: Raw ed25519 identity key, hex.
    key: str
    hostname: str
    serial: str
    interfaces: dict[str, str] = {}
    version: str
    ssh_port: Port
    ccs_port: Port
    listen: str
    #: OpenSSH public key lines.
    host_key: str
    client_key: str
    #: What makes clusters possible on old platform versions; empty for none.
    feature_key: str = ""


class InitialiseMachine(Command, frozen=True, kw_only=True):
    """Begin the log of a new store. ``password`` is an argon2id hash or empty."""

    card: Card
    password: str = ""
    #: 16 random bytes.
    salt: bytes


class BeginEpoch(Command, frozen=True, kw_only=True):
    """Begin a new epoch of this machine's feed: after a join or a repair."""

    reason: str


class ChangeMachine(Command, frozen=True, kw_only=True):
    """Change this machine's own attributes; None leaves one as it is."""

    hostname: str | None = None
    serial: str | None = None
    interfaces: dict[str, str] | None = None
    version: str | None = None
    ssh_port: Port | None = None
    ccs_port: Port | None = None
    listen: str | None = None
    feature_key: str | None = None


class CreateCluster(Command, frozen=True, kw_only=True):
    """Make a cluster of this machine alone. ``by`` is ``hostname`` or ``ip``."""

    name: str
    by: str = "hostname"
    salt: bytes


class AdmitMachine(Command, frozen=True, kw_only=True):
    """Let a machine in. An empty group means the only one there is."""

    card: Card
    group: str = ""


class AnnounceMachine(Command, frozen=True, kw_only=True):
    """Announce a machine that may then join over CCS. ``key`` is its OpenSSH client key line."""

    hostname: str
    serial: str
    key: str


class WithdrawAnnouncement(Command, frozen=True, kw_only=True):
    """Take back the announcement of a machine."""

    hostname: str


class ChangeCommunication(Command, frozen=True, kw_only=True):
    """Change how machines reach each other; None leaves a thing as it is.

    Attributes:
        by: how they name each other, ``hostname`` or ``ip``.
        over: how they talk, ``ssh`` or ``ccs``.
        port: of that transport, on all machines or on ``machine``.
        machine: the one that ``port`` and ``address`` are of.
        address: where others dial it; empty for its hostname or first interface.
    """

    by: str | None = None
    over: str | None = None
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    machine: str | None = None
    address: str | None = None


class AddGroup(Command, frozen=True, kw_only=True):
    """Add an empty group."""

    name: str


class RenameGroup(Command, frozen=True, kw_only=True):
    """Give a group another name."""

    group: str
    name: str


class DeleteGroup(Command, frozen=True, kw_only=True):
    """Delete a group; its machines go to another one. ``to`` may be empty where only one other is left."""

    group: str
    to: str = ""


class SetClusterName(Command, frozen=True, kw_only=True):
    """Give the cluster another name."""

    name: str


class MoveMachines(Command, frozen=True, kw_only=True):
    """Put machines into a group."""

    machines: tuple[str, ...]
    group: str


class DetachMachines(Command, frozen=True, kw_only=True):
    """Detach machines for a while; they stay members."""

    machines: tuple[str, ...]


class ReconnectMachines(Command, frozen=True, kw_only=True):
    """Take detached machines back."""

    machines: tuple[str, ...]


class RemoveMachines(Command, frozen=True, kw_only=True):
    """Remove machines for good. Removing all of them dissolves the cluster."""

    machines: tuple[str, ...]


class SettingCommand(Command, frozen=True, kw_only=True):
    """Base of the commands on settings.

    Attributes:
        level: as an operator writes it; None for the default one.
        lasts: after how many milliseconds it goes back by itself; None for never.
    """

    level: str | None = None
    lasts: int | None = None


class SetSetting(SettingCommand, frozen=True, kw_only=True):
    """Give a key a value (JSON text) at a level. ``salt``: 16 random bytes, used where the value is secret."""

    key: str
    value: str
    secret: bool = False
    salt: bytes


class UnsetSetting(SettingCommand, frozen=True, kw_only=True):
    """Take a key's value away at a level."""

    key: str


class AddElements(SettingCommand, frozen=True, kw_only=True):
    """Add elements (JSON text) to a set-valued key."""

    key: str
    elements: tuple[str, ...]


class RemoveElements(SettingCommand, frozen=True, kw_only=True):
    """Remove elements (JSON text) from a set-valued key, or knock out inherited ones."""

    key: str
    elements: tuple[str, ...]


class LoadConfig(SettingCommand, frozen=True, kw_only=True):
    """Set many keys (JSON text) at a level as one event. ``source`` names the file for the log."""

    settings: dict[str, str]
    source: str
    salt: bytes


class LevelCommand(SettingCommand, frozen=True, kw_only=True):
    """Base of the commands on what a level keeps. ``level`` is where it is kept.

    A key that ends with a dot stands for all keys that begin so.
    """

    keys: tuple[str, ...]


class CopySettings(LevelCommand, frozen=True, kw_only=True):
    """Let another level say the same of some keys. The copy does not depend on what it was made of."""

    target: str | None = None
    salt: bytes


class MoveSettings(LevelCommand, frozen=True, kw_only=True):
    """Let another level say it, and this one no more."""

    target: str | None = None
    salt: bytes


class DeleteSettings(LevelCommand, frozen=True, kw_only=True):
    """Let a level say nothing of some keys any more."""


class Seen(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A register as it stood when a change of it was staged, and what the change makes of it.

    Attributes:
        path: the register.
        stood: the lanes that stood there, by their ids.
        becomes: what a write to it would say; see ``WriteValue``.
    """

    path: Path
    stood: tuple[tuple[RecordId, LaneValue], ...]
    becomes: WriteValue


#: What can wait in a draft. Its level is given, so that it is about the same one whenever it is committed.
Stageable = (
    SetSetting | UnsetSetting | AddElements | RemoveElements | LoadConfig | CopySettings | MoveSettings | DeleteSettings
)


class Staged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One command that waits in a draft."""

    command: Stageable
    #: The registers that it writes, as they were when it was staged, or when whoever commits has looked at them last.
    seen: tuple[Seen, ...]


class CommitConfig(Command, frozen=True, kw_only=True):
    """All that was staged, as one event; refused where it was staged, or looked at last, for another state."""

    staged: tuple[Staged, ...]
    #: Within how many milliseconds somebody has to confirm it; None where it stays anyway.
    confirm_within: int | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The registers that it is about."""
        return tuple(seen.path for one in self.staged for seen in one.seen)


class ConfirmConfig(Command, frozen=True, kw_only=True):
    """Let changes stay that would go back by themselves: they waited for that, or were made for a while.

    Attributes:
        events: their ids.
        paths: the registers that they wrote.
        salt: 16 random bytes, for secrets.
    """

    events: tuple[str, ...]
    paths: tuple[str, ...]
    salt: bytes


class TakeBack(Command, frozen=True, kw_only=True):
    """Take back what is left of a change whose time is over. A machine asks that of itself only.

    Attributes:
        event: its id.
        timer: the register of its timer.
        paths: the registers that it wrote.
    """

    event: str
    timer: str
    paths: tuple[str, ...]


class Restoration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One register of a setting that is to be as it was.

    Attributes:
        path: the register.
        value: JSON text, None for unset; False puts no lane, and only takes away.
        replaced: ids of the lanes that go.
        standing: ids of all lanes that stood when that was worked out.
        salt: 16 bytes where the value is a secret, else none.
    """

    path: str
    value: str | bool | None
    replaced: tuple[str, ...]
    standing: tuple[str, ...]
    salt: bytes = b""


class RollBackConfig(Command, frozen=True, kw_only=True):
    """Give settings back what they were before some events, given by their ids."""

    events: tuple[str, ...]
    restorations: tuple[Restoration, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The registers that it is about."""
        return tuple(one.path for one in self.restorations)


class Settlement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One register that is to have one value.

    Attributes:
        path: the register.
        event: the one whose lane is to be its value; empty to unset it.
        standing: ids of all lanes that stood when that was chosen.
    """

    path: str
    event: str
    standing: tuple[str, ...]


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody looked into what shows that a machine, given by its id, lived twice."""

    machine: str
    signs: tuple[str, ...]


class SettleConflicts(Command, frozen=True, kw_only=True):
    """Let one of several values count, and note what was looked into. ``salt``: 16 random bytes, for secrets."""

    settlements: tuple[Settlement, ...] = ()
    acknowledged: tuple[Acknowledgement, ...] = ()
    salt: bytes

    @property
    def paths(self) -> tuple[str, ...]:
        """The registers that it settles."""
        return tuple(one.path for one in self.settlements)


class SettleSettings(SettleConflicts, frozen=True, kw_only=True):
    """The same, of settings alone."""


class AddUser(Command, frozen=True, kw_only=True):
    """Let somebody log in.

    Attributes:
        role: ``guest``, ``operator`` or ``administrator``.
        password: an argon2id hash, or empty for none.
        keys: OpenSSH public key lines.
        both: whether a login takes key and password.
        salt: 16 random bytes.
    """

    name: str
    role: str
    password: str = ""
    keys: tuple[str, ...] = ()
    both: bool = False
    salt: bytes


class ChangeUser(Command, frozen=True, kw_only=True):
    """Change a user, given by name or id; None leaves what it stands for as it is. ``remove_keys``: fingerprints."""

    user: str
    rename: str | None = None
    role: str | None = None
    password: str | None = None
    add_keys: tuple[str, ...] = ()
    remove_keys: tuple[str, ...] = ()
    both: bool | None = None
    salt: bytes


class ChangePassword(Command, frozen=True, kw_only=True):
    """Give a user another password: an argon2id hash. Everybody may do so for themselves."""

    user: str
    password: str
    salt: bytes


class DeleteUser(Command, frozen=True, kw_only=True):
    """Let somebody log in no more."""

    user: str
    salt: bytes


AnyCommand = (
    ChangeMachine
    | CreateCluster
    | AdmitMachine
    | AnnounceMachine
    | WithdrawAnnouncement
    | ChangeCommunication
    | AddGroup
    | RenameGroup
    | DeleteGroup
    | SetClusterName
    | MoveMachines
    | DetachMachines
    | ReconnectMachines
    | RemoveMachines
    | SetSetting
    | UnsetSetting
    | AddElements
    | RemoveElements
    | LoadConfig
    | CopySettings
    | MoveSettings
    | DeleteSettings
    | CommitConfig
    | ConfirmConfig
    | RollBackConfig
    | SettleConflicts
    | SettleSettings
    | AddUser
    | ChangeUser
    | ChangePassword
    | DeleteUser
    | InitialiseMachine
    | BeginEpoch
)
