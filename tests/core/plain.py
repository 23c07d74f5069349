"""Registers as a naive reader keeps them: nothing but the lanes that stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster_store.core.registers import Lane, LaneValue
from cluster_store.core.types import Path, RecordId

Lanes = dict[Path, dict[RecordId, Lane]]


@dataclass(frozen=True)
class Plain:
    """Implements ``Registers`` over a dictionary."""

    lanes: Lanes = field(default_factory=dict)

    def standing(self, path: Path) -> tuple[Lane, ...]:
        """See ``Registers``."""
        return tuple(self.lanes.get(path, {}).values())

    def under(self, prefix: str) -> Iterable[tuple[Path, tuple[Lane, ...]]]:
        """See ``Registers``."""
        return sorted((path, tuple(lanes.values())) for path, lanes in self.lanes.items() if path.startswith(prefix))

    def put(
        self, path: str, value: LaneValue, hybrid: int = 1, record: str = "", *, weak: bool = False, text: str = ""
    ) -> Plain:
        """Let one more lane stand; return the registers themselves. Without ``record`` its id is new."""
        lanes = self.lanes.setdefault(Path(path), {})
        lane_id = RecordId(record or f"{sum(map(len, self.lanes.values())):064x}")
        lanes[lane_id] = Lane(lane_id, value, hybrid, weak, text=text or None)
        return self
