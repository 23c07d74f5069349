"""What happened, in the past tense: the kinds of events and which registers each may write."""

from __future__ import annotations

from typing import Any

import msgspec

from cluster_store.core.registers import Secrets, Write

_SETTINGS = ("setting/", "element/", "kind/")
#: A change of settings may begin a timer, and ends those of what it replaces.
_CHANGE = (*_SETTINGS, "timer/")

#: Kind -> what the paths of its writes may begin with. A record that writes elsewhere is void: its label
#: in the audit log would hide what it does. Part of record format 1.
KINDS: dict[str, tuple[str, ...]] = {
    "MachineInitialised": ("machine/", "user/"),
    "EpochBegun": ("machine/",),
    "MachineChanged": ("machine/",),
    "ClusterCreated": ("cluster/", "group/", "machine/", *_SETTINGS),
    "ClusterRenamed": ("cluster/",),
    "CommunicationChanged": ("cluster/", "machine/"),
    "GroupAdded": ("group/",),
    "GroupRenamed": ("group/",),
    "GroupDeleted": ("group/", "machine/"),
    "MachineAdmitted": ("machine/", "announced/"),
    "MachinesMoved": ("machine/",),
    "MachinesDetached": ("machine/",),
    "MachinesReconnected": ("machine/",),
    "MachinesRemoved": ("machine/",),
    "MachineAnnounced": ("announced/",),
    "AnnouncementWithdrawn": ("announced/",),
    "UserAdded": ("user/",),
    "UserChanged": ("user/",),
    "UserDeleted": ("user/",),
    "SettingSet": _CHANGE,
    "SettingUnset": _CHANGE,
    "ElementsAdded": _CHANGE,
    "ElementsRemoved": _CHANGE,
    "SettingsCopied": _CHANGE,
    "SettingsMoved": _CHANGE,
    "SettingsDeleted": _CHANGE,
    "ConfigLoaded": _CHANGE,
    "ConfigCommitted": _CHANGE,
    "ConfigRolledBack": _CHANGE,
    "ConfigConfirmed": _CHANGE,
    "ConfirmationTimedOut": ("setting/", "element/", "timer/"),
    "SettingExpired": ("setting/", "element/", "timer/"),
    "ConflictSettled": ("cluster/", "group/", "machine/", "user/", *_CHANGE),
}

#: What no person did, but a timer: weak, and able to take its own machine's lanes away only. Part of record format 1.
TIMED_OUT = ("ConfirmationTimedOut", "SettingExpired")

#: The kinds that can begin a feed.
FIRST_KINDS = ("MachineInitialised", "EpochBegun")


class Event(msgspec.Struct, frozen=True):
    """One accepted change, before it is signed."""

    kind: str
    writes: tuple[Write, ...]
    #: For people and auditors; the state never depends on it, except where admission says so.
    params: dict[str, Any] = {}
    #: The values of the secrets it writes, by path; they travel and are kept beside the envelope.
    secrets: Secrets = {}


def misplaced(kind: str, writes: tuple[Write, ...]) -> str:
    """Return why a kind may not make these writes, or ``""``."""
    allowed = KINDS.get(kind)
    if allowed is None:
        return f"is of the unknown kind {kind[:80]!r}"
    for write in writes:
        if not write.path.startswith(allowed):
            return f"is a {kind} but writes {write.path}"
    return ""
