"""A log as files for outside auditors: one an event, an index, and a program that checks them without this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import orjson

from cluster_store.core.errors import Refused, StoreError
from cluster_store.core.state import Appended
from cluster_store.core.types import RecordId

#: The program that checks an export, by its name there and among these modules.
_VERIFIER = ("verify.py", "auditor.py")
_EVENTS = "events"


class Export:
    """An export that is being written."""

    def __init__(self, folder: Path) -> None:
        """Begin one in a folder that holds nothing. Raises Refused and StoreError."""
        self._folder = folder
        self._ids: list[RecordId] = []
        with _written(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise Refused(f"{folder} is not empty", "export to a folder that is new or empty")
            (folder / _EVENTS).mkdir()

    def add(self, added: Appended) -> None:
        """Write the next event of the log: its envelope to the byte, and in a second line its seal in hex."""
        record = added.record
        self._ids.append(record.id)
        path = self._folder / _EVENTS / f"{len(self._ids):08}-{record.id[:10]}.event"
        with _written(path):
            path.write_bytes(record.data + b"\n" + record.seal.hex().encode() + b"\n")

    def finish(self, cluster: str, *, complete: bool) -> None:
        """Write the index and the verifier.

        Args:
            cluster: the cluster's id.
            complete: whether it is the whole log.
        """
        name, source = _VERIFIER
        index = {"cluster": cluster, "complete": complete, "events": self._ids}
        with _written(self._folder):
            (self._folder / "index.json").write_bytes(orjson.dumps(index, option=orjson.OPT_INDENT_2) + b"\n")
            text = resources.files("cluster_store").joinpath(source).read_bytes()
            (self._folder / name).write_bytes(text)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}", "choose another folder") from error
