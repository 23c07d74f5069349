"""Two states side by side: which registers say something else, and whose effective values that changed."""

from __future__ import annotations

from typing import Any

import msgspec

from cluster_store.core.cluster import Cluster
from cluster_store.core.history import plain
from cluster_store.core.impact import Foreseen
from cluster_store.core.naming import show_level, show_path
from cluster_store.core.registers import Lane, Registers, Standing, split_setting
from cluster_store.core.rollback import best, value_of
from cluster_store.core.rules import read
from cluster_store.core.timers import PREFIX
from cluster_store.core.types import Path


class Difference(msgspec.Struct, frozen=True):
    """A register that says something else in one state than in another."""

    path: Path
    #: The lane that is its value; None where it has none.
    old: Lane | None
    new: Lane | None


class Between(Foreseen):
    """One state and another, for ``impact``: whoever was a member in both is told of."""

    def __init__(self, before: Registers, after: Registers) -> None:
        """Compare them."""
        now, then = dict(before.under("")), dict(after.under(""))
        self.before, self.after = Standing(now), Standing(then)
        self.cluster_before, self.cluster_after = read(self.before), read(self.after)
        found = [
            Difference(path, best(path, now.get(path, ())), best(path, then.get(path, ())))
            for path in sorted({**dict.fromkeys(now), **dict.fromkeys(then)})
            # Until when a value is to be there is said where what is pending is shown.
            if not path.startswith(PREFIX)
        ]
        #: Sorted by path.
        self.differences = [one for one in found if value_of(one.old) != value_of(one.new)]
        self.paths = dict.fromkeys(one.path for one in self.differences)


def to_json(difference: Difference, cluster: Cluster) -> dict[str, Any]:
    """Return a difference for scripts; ``set_old`` and ``set_new`` tell a value of null from none at all."""
    setting = split_setting(difference.path)
    shown: dict[str, Any] = {"path": show_path(difference.path, cluster)}
    if setting is not None:
        shown |= {"key": setting[1], "level": show_level(setting[0], cluster)}
        shown |= {"element": plain(setting[2])} if setting[2] is not None else {}
    for name, lane in (("old", difference.old), ("new", difference.new)):
        shown |= {name: plain(value_of(lane)), f"set_{name}": value_of(lane) is not None}
    return shown
