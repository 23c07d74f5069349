"""The decision that settles conflicts: one of the values that stand becomes the value, and replaces all of them.

Two people may settle one conflict in two ways while apart. That is a conflict again, between the two.
"""

from __future__ import annotations

from cluster_store.core import commands
from cluster_store.core.admission import key_path
from cluster_store.core.decision import Context, Decision, replace, to_text, write_secret
from cluster_store.core.errors import InvalidValue, Refused
from cluster_store.core.events import KINDS, Event
from cluster_store.core.registers import Secret, Secrets, Write, valid_path
from cluster_store.core.types import MachineId, Path

_KIND = "ConflictSettled"
#: What the paths of settings that can be in conflict begin with.
SETTINGS = ("setting/", "kind/")


def settle(command: commands.SettleConflicts, context: Context) -> Decision:
    """Settle conflicts, and note what was looked into. Raises Refused where somebody wrote meanwhile."""
    writes: list[Write] = []
    secrets: Secrets = {}
    for one in command.settlements:
        write, beside = _settled(one, command.salt, context)
        writes.append(write)
        secrets |= beside
    for noted in command.acknowledged:
        machine = MachineId(noted.machine)
        if context.cluster.machine_or_removed(machine) is None:
            raise InvalidValue(f"there is no machine {noted.machine[:80]}")
        path = Path(f"machine/{machine}/acknowledged")
        writes.append(replace(context.registers, path, to_text(sorted(set(noted.signs)))))
    told = {"paths": [write.path for write in writes], "writes": len(writes)}
    if not writes:
        return Decision(None, told)
    return Decision(Event(_KIND, tuple(writes), {"registers": len(writes)}, secrets), told)


def settle_settings(command: commands.SettleSettings, context: Context) -> Decision:
    """Settle conflicts of settings, and of nothing else. Raises as ``settle``."""
    if command.acknowledged or not all(path.startswith(SETTINGS) for path in command.paths):
        raise InvalidValue("this is about more than settings")
    return settle(command, context)


def _settled(one: commands.Settlement, salt: bytes, context: Context) -> tuple[Write, Secrets]:
    path = Path(one.path)
    if not valid_path(path) or not path.startswith(KINDS[_KIND]) or path.endswith("/removed"):
        raise Refused(f"{path[:80]} is nothing that is settled so", "give the change again that is to count")
    if path.startswith("machine/") and path == key_path(MachineId(path.split("/")[1])):
        raise Refused("a machine's key is never settled", "remove the machine, and let it join with a new one")
    lanes = context.registers.standing(path)
    if sorted(lane.id for lane in lanes) != sorted(one.standing):
        raise Refused(f"{path} was changed meanwhile", "run 'clustercheck' again")
    if not one.event:
        return replace(context.registers, path, None), {}
    chosen = next((lane for lane in lanes if lane.id == one.event), None)
    if chosen is None:
        raise InvalidValue(f"the event {one.event[:80]} wrote nothing that stands at {path}")
    if not isinstance(chosen.value, Secret):
        return replace(context.registers, path, chosen.value), {}
    if chosen.text is None:
        raise Refused(f"the value of the secret at {path} is not on this machine", "set it anew, or settle it there")
    return write_secret(path, chosen.text, salt, context)
