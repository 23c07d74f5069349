"""The decision that settings are again what they were.

What they were is in the log, which no decision reads: whoever asks has worked it out, register by register, and names
the lanes that stood when they did. Where other lanes stand now, it was worked out for another state and is refused.
"""

from __future__ import annotations

from cluster_store.core import commands
from cluster_store.core.decision import Context, Decision
from cluster_store.core.errors import InvalidValue, Refused
from cluster_store.core.events import Event
from cluster_store.core.records import SALT_BYTES, secret_hash
from cluster_store.core.registers import Secret, Secrets, Write, WriteValue, split_setting, valid_path
from cluster_store.core.types import Path, RecordId

#: Events that are named in the one that takes them back; of more, how many they were.
_NAMED_MAX = 64
_SETTINGS = ("setting/", "element/", "kind/")


def roll_back(command: commands.RollBackConfig, context: Context) -> Decision:
    """Let settings be what they were. Raises Refused where one was changed since that was worked out."""
    told = {"events": list(command.events), "writes": len(command.restorations)}
    if not command.restorations:
        return Decision(None, told)
    writes = []
    secrets: Secrets = {}
    for one in command.restorations:
        path = Path(one.path)
        if not path.startswith(_SETTINGS) or not valid_path(path):
            raise InvalidValue(f"'{path[:80]}' is no setting, and only settings can be taken back")
        _check_unchanged(path, one, context)
        value: WriteValue = one.value
        if one.salt:
            if len(one.salt) != SALT_BYTES or not isinstance(one.value, str):
                raise InvalidValue(f"the secret of {path[:80]} has a wrong shape")
            value = Secret(secret_hash(one.salt, one.value))
            secrets[path] = (one.salt, one.value)
        writes.append(Write(path, value, tuple(map(RecordId, one.replaced))))
    params = {"events": list(command.events[:_NAMED_MAX]), "count": len(command.events)}
    return Decision(Event("ConfigRolledBack", tuple(writes), params, secrets), told)


def _check_unchanged(path: Path, one: commands.Restoration, context: Context) -> None:
    standing = sorted(lane.id for lane in context.registers.standing(path))
    if standing != sorted(one.standing) or not {*one.replaced} <= {*standing}:
        setting = split_setting(path)
        what = f"{setting[1]} at {context.cluster.show_level(setting[0])}" if setting else path
        raise Refused(f"{what} was changed meanwhile", "look at it again with --dry-run")
