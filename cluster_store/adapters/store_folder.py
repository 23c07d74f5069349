"""A store's folder: what lies where in it, and the lock that makes its one writer.

cluster.db      the event log and its projection (SQLite)
keys/           the machine's three private keys
lock            held (flock) by whoever writes, with their process id for people to read
node.sock       where a running daemon answers commands
former-*.db     what this machine was before it joined a cluster
former-*.json   its settings then, as a configuration file
modes.json      the level that each person chose to work on
drafts/*.json   what each person has staged and not committed
former-*/       the store that a restored backup took the place of
damaged-*.db    the database that a repaired one took the place of
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cluster_store.core.errors import StoreError, StoreLocked


class StoreFolder(NamedTuple):
    """The paths of one store."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file; a store exists exactly when it does."""
        return self.root / "cluster.db"

    @property
    def keys(self) -> Path:
        """The folder of private keys."""
        return self.root / "keys"

    @property
    def socket(self) -> Path:
        """The daemon's local socket."""
        return self.root / "node.sock"

    @property
    def drafts(self) -> Path:
        """The folder of what people have staged; there is none before anybody has."""
        return self.root / "drafts"

    @property
    def joining(self) -> Path:
        """The log of a cluster that is being joined, until it takes the database's place."""
        return self.root / "joining.db"

    @property
    def has_remains(self) -> bool:
        """Whether a store is here, or what is left of one. Raises StoreError where that cannot be seen."""
        try:
            return self.database.exists() or self.keys.exists()
        except OSError as error:
            raise StoreError(
                f"{self.root} cannot be read: {error.strerror}", "run this as the user that the store belongs to"
            ) from error

    @property
    def repairing(self) -> Path:
        """What could be saved of a damaged database, until it takes that one's place."""
        return self.root / "repairing.db"

    def free(self, name: str, ending: str = "") -> Path:
        """Return a name for something that is kept here, with a number where something has that name already."""
        names = itertools.chain((name,), (f"{name}-{number}" for number in itertools.count(2)))
        return next(path for one in names if not (path := self.root / f"{one}{ending}").exists())

    @contextmanager
    def lock(self, what: str) -> Iterator[None]:
        """Hold the store for writing, without waiting.

        Args:
            what: what for, shown to whoever is locked out.

        Raises:
            StoreLocked: somebody else holds it; says who.
            StoreError: the folder cannot be written to.
        """
        try:
            handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"the store {self.root} cannot be written to: {error.strerror}", "check who owns the folder"
            ) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
                raise StoreLocked(
                    f"the store {self.root} is held by {holder}", "wait until it is done, or stop that process"
                ) from error
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{what} (process {os.getpid()})\n".encode(), 0)
            yield
        finally:
            os.close(handle)


def stamp() -> str:
    """Return the time for the name of something that is kept."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def give(path: Path, folder: Path) -> None:
    """Let a file, or a folder and what is in it, belong to whom a store's folder belongs: root may have made it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for one in (path, *path.rglob("*")):
            os.chown(one, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
