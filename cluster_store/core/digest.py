"""Two hashes that tell whether two machines agree: one of what can be read, one of every lane that stands.

Equal version vectors imply both equal. Equal digests say that the merged states are the same, whichever way
each machine came to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec
import orjson

from cluster_store.core.cluster import Cluster, User
from cluster_store.core.registers import Lane, LaneValue, Registers, Secret, winner
from cluster_store.core.settings import PRESENT, SET_KIND, element_lane


def digest(cluster: Cluster, registers: Registers) -> str:
    """Return the hash of the readable view, 64 hex digits.

    The view is the cluster's name and way of naming machines, its groups, its machines with all that is said of
    them, the machines that were removed, the users, and each level's own settings. The secrets among these are
    in it as the hashes that the log has.

    Args:
        cluster: the read model of these registers.
        registers: all of them.
    """
    view = {
        "cluster": [cluster.name, cluster.by],
        "groups": [[group.id, group.name] for group in cluster.groups.values()],
        "machines": [msgspec.to_builtins(machine) for machine in cluster.machines.values()],
        "removed": sorted((machine.id, machine.hostname) for machine in cluster.removed.values()),
        "users": [[user.id, _user_hash(user)] for _, user in sorted(cluster.users.items())],
        "settings": list(_settings(registers)),
    }
    return sha256(orjson.dumps(view)).hexdigest()


def lanes_digest(registers: Registers) -> str:
    """Return the hash of every standing lane: path, record and value; 64 hex digits."""
    total = sha256()
    for path, lanes in registers.under(""):
        for lane in sorted(lanes, key=lambda lane: lane.id):
            total.update(orjson.dumps([path, lane.id, _plain(lane.value)]))
    return total.hexdigest()


def _settings(registers: Registers) -> Iterable[list[Any]]:
    """Yield path and value of what each level says of itself.

    A key is either plain or a set, whichever the winner of its kind says; what was once written to it as the
    other shows nowhere and is no part of the view.
    """
    sets = {path.removeprefix("kind/") for path, lanes in registers.under("kind/") if _wins(lanes, SET_KIND)}
    for path, lanes in registers.under("setting/"):
        lane = winner(lanes)
        if lane is not None and lane.value is not None and path.rpartition("/")[2] not in sets:
            yield [path, _plain(lane.value)]
    for path, lanes in registers.under("element/"):
        lane = element_lane(lanes)
        if lane is not None and lane.value is not None and path.split("/")[-2] in sets:
            yield [path, lane.value == PRESENT]


def _wins(lanes: Iterable[Lane], value: str) -> bool:
    lane = winner(lanes)
    return lane is not None and lane.value == value


def _plain(value: LaneValue) -> str | list[str] | None:
    # A secret's hash must not look like a value that somebody wrote in its place.
    return [value.secret] if isinstance(value, Secret) else value


def _user_hash(user: User) -> str:
    return sha256(orjson.dumps(msgspec.to_builtins(user))).hexdigest()
