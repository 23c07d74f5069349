"""What a caller asks for, in the imperative. ``decide`` turns a command into an event or refuses it."""

from __future__ import annotations

from typing import Annotated

import msgspec


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


class CreateCluster(Command, frozen=True, kw_only=True):
    """Make a cluster of this machine alone. ``by`` is ``hostname`` or ``ip``."""

    name: str
    by: str = "hostname"
    salt: bytes


class AdmitMachine(Command, frozen=True, kw_only=True):
    """Let a machine in. An empty group means the only one there is."""

    card: Card
    group: str = ""


class AddGroup(Command, frozen=True, kw_only=True):
    """Add an empty group."""

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


class SettingCommand(Command, frozen=True, kw_only=True):
    """Base of the commands on settings. ``level`` as an operator writes it; None for the default one."""

    level: str | None = None


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


class ChangePassword(Command, frozen=True, kw_only=True):
    """Give a user another password: an argon2id hash."""

    user: str
    password: str
    salt: bytes


AnyCommand = (
    ChangeMachine
    | CreateCluster
    | AdmitMachine
    | AddGroup
    | MoveMachines
    | DetachMachines
    | ReconnectMachines
    | SetSetting
    | UnsetSetting
    | AddElements
    | RemoveElements
    | LoadConfig
    | ChangePassword
    | InitialiseMachine
    | BeginEpoch
)
