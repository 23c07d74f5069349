"""What people have staged, each in a file of their own beside the store, durable before anybody is told that it is.

A draft belongs to one person on one machine. It is in no database that a join, a repair or a departure replaces, so it
outlives these, as it outlives a logout and a crash. Values of secrets are in it: it is for the owner's eyes only, and
nothing shows them. A file that cannot be read is set aside under another name, never removed.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from cluster_store.adapters.store_folder import give, stamp, sync_folder
from cluster_store.core.commands import Staged
from cluster_store.core.errors import OverLimit, StoreCorrupt, StoreError, StoreFull
from cluster_store.core.limits import DRAFT_BYTES_MAX
from cluster_store.core.values import quote_part

FORMAT = 1
_ENDING = ".json"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """What is in a draft's file."""

    format: int
    #: Whose it is, as the log names them.
    user: str
    staged: tuple[Staged, ...]


class Draft(msgspec.Struct, frozen=True):
    """What somebody has staged."""

    staged: tuple[Staged, ...] = ()
    #: Another one whenever it was changed, ``""`` where nothing is staged.
    revision: str = ""


class Drafts:
    """The drafts beside one store."""

    def __init__(self, folder: Path) -> None:
        """Look into a folder, which need not be there."""
        self._folder = folder

    def load(self, user: str) -> Draft:
        """Return what somebody has staged.

        Raises:
            StoreCorrupt: their draft is damaged; it was set aside, and nothing is staged any more.
            StoreError: it cannot be read.
        """
        path = self._path(user)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return Draft()
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}", "run this as the store's owner") from error
        try:
            found = msgspec.json.decode(data, type=_File)
            if (found.format, found.user) != (FORMAT, user):
                raise msgspec.ValidationError("it is another one's, or of another version")
        except msgspec.MsgspecError as error:
            raise self._set_aside(path, str(error)) from error
        return Draft(found.staged, sha256(data).hexdigest())

    def save(self, user: str, staged: Sequence[Staged]) -> None:
        """Keep what somebody has staged, whole or not at all. The caller sees to it that nobody else does so.

        Raises:
            OverLimit: it is too much.
            StoreFull: there is no room for it.
            StoreError: it cannot be written.
        """
        data = msgspec.json.encode(_File(FORMAT, user, tuple(staged)))
        if len(data) > DRAFT_BYTES_MAX:
            raise OverLimit(
                f"with it the draft has {len(data)} bytes; the limit is {DRAFT_BYTES_MAX}",
                "commit what is staged first",
            )
        path = self._path(user)
        fresh = path.with_suffix(".new")
        try:
            with suppress(FileExistsError):
                self._folder.mkdir(mode=0o700)
                give(self._folder, self._folder.parent)
                sync_folder(self._folder.parent)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            give(fresh, self._folder)
            fresh.replace(path)
            sync_folder(self._folder)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            if error.errno in _NO_ROOM:
                raise StoreFull(f"there is no room for {path}", "make room on its disk, then try again") from error
            raise StoreError(
                f"{path} cannot be written: {error.strerror}", "see to its disk and to who owns the folder"
            ) from error

    def drop(self, user: str) -> None:
        """Remove somebody's draft. Raises StoreError where that cannot be done."""
        path = self._path(user)
        try:
            path.unlink(missing_ok=True)
            if self._folder.is_dir():
                sync_folder(self._folder)
        except OSError as error:
            raise StoreError(f"{path} cannot be removed: {error.strerror}", "'clearchanges' tries again") from error

    def _path(self, user: str) -> Path:
        return self._folder / f"{quote_part(user)}{_ENDING}"

    def _set_aside(self, path: Path, why: str) -> StoreCorrupt:
        """Let a damaged draft have another name; return the error that says so."""
        names = itertools.chain(("",), (f"-{number}" for number in itertools.count(2)))
        asides = (path.with_suffix(f".damaged-{stamp()}{name}") for name in names)
        aside = next(one for one in asides if not one.exists())
        try:
            path.rename(aside)
            sync_folder(self._folder)
        except OSError as error:
            return StoreCorrupt(f"the draft {path} is damaged, and cannot be set aside: {error.strerror}", why)
        return StoreCorrupt(
            f"the draft {path} was damaged ({why}); nothing is staged any more",
            f"stage the changes again; what is left of it is kept in {aside}",
        )
