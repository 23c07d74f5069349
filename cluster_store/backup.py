"""Backups: one file that holds a machine's database and its private keys, and a store made of it again.

The file is a plain tar: ``manifest.json``, ``cluster.db``, the three keys, and what people have staged and not
committed. Unpacked by any other program it is the folder of a store. A restored store begins a new epoch with its first
write, because what this machine wrote after the backup is out there: the peers bring that back, and no number of it is
used again.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from typing import BinaryIO

import msgspec

from cluster_store.adapters import sqlite_mending, sqlite_wal
from cluster_store.adapters.keys import CLIENT_FILE, HOST_FILE, IDENTITY_FILE, Keys
from cluster_store.adapters.sqlite_audit import SqliteAudit
from cluster_store.adapters.sqlite_errors import MENDING, translated
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.adapters.store_folder import StoreFolder, give, stamp, sync_folder
from cluster_store.core.errors import InvalidValue, NotFound, Refused, StoreCorrupt, StoreError
from cluster_store.core.limits import BACKUP_MANIFEST_BYTES_MAX, DRAFT_BYTES_MAX
from cluster_store.core.records import machine_id
from cluster_store.core.types import MachineId
from cluster_store.verify import Report, verify

#: Called with a sentence while it goes on.
Progress = Callable[[str], None]

FORMAT = 1
_MANIFEST = "manifest.json"
_DATABASE = "cluster.db"
_KEYS = tuple(f"keys/{name}" for name in (IDENTITY_FILE, HOST_FILE, CLIENT_FILE))
#: What every backup holds beside the manifest.
_MEMBERS = (_DATABASE, *_KEYS)
#: ... and the drafts of those who have one.
_DRAFT = re.compile(r"drafts/[A-Za-z0-9%._~!$&'()*+,;=:@-]{1,1024}\.json")
_KEY_BYTES_MAX = 16 * 1024
#: Written down with the epoch that a restored store begins.
REASON = "restored"


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file in a backup."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself."""

    format: int
    machine: MachineId
    hostname: str
    #: Id of the cluster's first record, and the cluster's name, empty where the machine stands alone.
    cluster: str
    cluster_name: str
    records: int
    #: Running hash over the log, hex.
    log_hash: str
    #: When it was made, ISO 8601.
    taken: str
    members: dict[str, Member]


class Restored(msgspec.Struct, frozen=True):
    """What came of restoring a backup."""

    manifest: Manifest
    #: Where the store is kept whose place it took, ``""`` where there was none.
    former: str


# --- making one --------------------------------------------------------------------------------------


def save(folder: StoreFolder, target: Path | BinaryIO, *, force: bool, progress: Progress) -> Manifest:
    """Write a backup of a store, while others go on reading and writing it.

    Args:
        folder: the store's.
        target: the file to be, which is there whole or not at all; or a stream.
        force: overwrite that file.
        progress: called with a sentence now and then.

    Raises:
        Refused: there is such a file.
        StoreError: or one of its kin: the store is damaged, there is no room.
    """
    keys = Keys.load(folder.keys)
    beside = folder.root
    if isinstance(target, Path):
        _refuse_target(folder, target, force=force)
        beside = target.absolute().parent
    with _scratch(beside, f".{folder.root.name}.backup-{os.getpid()}") as scratch:
        copy = StoreFolder(scratch)
        sqlite_mending.copy(
            folder.database, copy.database, lambda done, total: progress(f"{done} of {total} pages are copied")
        )
        with translated(scratch):
            copy.keys.mkdir(0o700)
            for name in _KEYS:
                _write(scratch / name, (folder.root / name).read_bytes())
            for draft in sorted(folder.drafts.glob("*.json")):
                copy.drafts.mkdir(0o700, exist_ok=True)
                _write(copy.drafts / draft.name, draft.read_bytes())
        progress("checking the copy")
        manifest = _describe(copy, machine_id(keys.identity_public))
        if not isinstance(target, Path):
            _pack(manifest, scratch, target)
            return manifest
        packed = scratch / "packed"
        with translated(target):
            with open(os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
                _pack(manifest, scratch, file)
                file.flush()
                os.fsync(file.fileno())
            packed.replace(target)
            sync_folder(beside)
    return manifest


def _refuse_target(folder: StoreFolder, target: Path, *, force: bool) -> None:
    if target.absolute().resolve().is_relative_to(folder.root.resolve()):
        raise Refused(f"{target} is in the store's own folder", "a backup belongs somewhere else")
    if not target.absolute().parent.is_dir():
        raise NotFound(f"there is no folder {target.absolute().parent}", "make it, or name another file")
    if target.exists() and not target.is_file():
        raise Refused(f"{target} is not a file", "use - for standard output")
    if target.exists() and not force:
        raise Refused(f"there is a file already: {target}", "name another one, or overwrite it with --force")


@contextmanager
def _scratch(beside: Path, name: str) -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    folder = beside / name
    try:
        folder.mkdir(0o700)
    except OSError as error:
        raise StoreError(f"{beside} cannot be written to: {error.strerror}", "name another folder") from error
    try:
        yield folder
    finally:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        with suppress(FileNotFoundError):
            folder.rmdir()


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _describe(copy: StoreFolder, me: MachineId) -> Manifest:
    """Return the manifest of a copy that is whole. Raises StoreCorrupt where it is not."""
    _refuse_damaged(copy.database, me, "the store")
    with SqliteAudit.open(copy.database) as store:
        meta = store.meta()
    with StoreReader(copy.database) as reader:
        cluster = reader.cluster()
    _remove_index(copy.database)
    return Manifest(
        format=FORMAT,
        machine=me,
        hostname=cluster.hostname(me),
        cluster=meta.cluster,
        cluster_name=cluster.name,
        records=meta.count,
        log_hash=meta.log_hash.hex(),
        taken=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        members={name: _measured(copy.root / name) for name in (*_MEMBERS, *_drafts_in(copy))},
    )


def _drafts_in(folder: StoreFolder) -> list[str]:
    return [f"{folder.drafts.name}/{path.name}" for path in sorted(folder.drafts.glob("*.json"))]


def _refuse_damaged(database: Path, me: MachineId, what: str) -> None:
    with SqliteAudit.open(database) as store:
        report: Report = verify(store)
        if report.found:
            fault = report.first or report.faults[0]
            raise StoreCorrupt(f"{what} is damaged: {report.name(fault)} {fault.text}", MENDING)
        if store.meta().me != me:
            raise StoreCorrupt(f"the database of {what} is another machine's than its keys", MENDING)


def _remove_index(database: Path) -> None:
    """Remove what readers left beside a database that nobody writes to: it is no part of it."""
    sqlite_wal.index_beside(database).unlink(missing_ok=True)
    sqlite_wal.path_beside(database).unlink(missing_ok=True)


def _measured(path: Path) -> Member:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256")
    return Member(path.stat().st_size, digest.hexdigest())


def _pack(manifest: Manifest, folder: Path, file: BinaryIO) -> None:
    described = msgspec.json.format(msgspec.json.encode(manifest))
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_entry(_MANIFEST, len(described)), io.BytesIO(described))
        for path in dict.fromkeys(name.rpartition("/")[0] for name in manifest.members if "/" in name):
            beside = tarfile.TarInfo(path)
            beside.type, beside.mode = tarfile.DIRTYPE, 0o700
            tar.addfile(beside)
        for name in manifest.members:
            with (folder / name).open("rb") as member:
                tar.addfile(_entry(name, manifest.members[name].size), member)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


# --- making a store of one ---------------------------------------------------------------------------


def prepare(folder: StoreFolder) -> None:
    """Make a store's folder if it is not there. Raises StoreError."""
    try:
        folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder.root} cannot be made: {error.strerror}", "choose another folder") from error


def restore(folder: StoreFolder, source: Path | BinaryIO, *, force: bool, progress: Progress) -> Restored:
    """Make a store of a backup. The caller holds the lock of the store's folder.

    Nothing takes effect before all of it is checked: hashes, keys, and the log as ``verify`` checks it.

    Args:
        folder: where the store is to be.
        source: the backup, a file or a stream.
        force: put a store that is there aside, into a folder ``former-TIME`` in its own.
        progress: called with a sentence now and then.

    Raises:
        Refused: there is a store already.
        NotFound: there is no such file.
        InvalidValue: it is no backup, or a damaged one.
        StoreError: or one of its kin: there is no room, for one.
    """
    there = folder.has_remains
    if there and not force:
        raise Refused(
            f"there is already a store in {folder.root}",
            "restore into another folder with --store, or put that one aside with --force",
        )
    with _scratch(folder.root, f"restoring-{os.getpid()}") as scratch:
        progress("unpacking")
        manifest = _unpack(source, StoreFolder(scratch))
        progress(f"checking {manifest.records} records")
        _check(StoreFolder(scratch), manifest)
        sqlite_mending.begin_anew(scratch / _DATABASE, REASON)
        _remove_index(scratch / _DATABASE)
        with translated(folder.root):
            folder.root.chmod(0o700)
            former = _put_aside(folder) if there else ""
            give(scratch, folder.root)
            (scratch / "keys").rename(folder.keys)
            if (scratch / "drafts").exists():
                if folder.drafts.exists():
                    folder.drafts.rename(folder.free(f"former-{stamp()}-drafts"))
                (scratch / "drafts").rename(folder.drafts)
            sync_folder(folder.root)
            # Last: a store is there exactly when its database is.
            (scratch / _DATABASE).rename(folder.database)
            sync_folder(folder.root)
    return Restored(manifest, former)


def _unpack(source: Path | BinaryIO, scratch: StoreFolder) -> Manifest:
    """Unpack a backup, only what belongs to one, and return its manifest. Raises InvalidValue, NotFound, StoreError."""
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return _unpack(file, scratch)
        except FileNotFoundError:
            raise NotFound(f"there is no file {source}", "name a file that 'cluster-store backup' wrote") from None
        except (IsADirectoryError, PermissionError) as error:
            raise NotFound(f"{source} cannot be read: {error.strerror}", "name a file, as a user that may") from error
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            manifest = _manifest(tar)
            with translated(scratch.root):
                scratch.keys.mkdir(0o700)
                if any(map(_DRAFT.fullmatch, manifest.members)):
                    scratch.drafts.mkdir(0o700)
                found = {}
                while (entry := tar.next()) is not None:
                    if not entry.isdir():
                        found[entry.name] = _take(tar, entry, manifest, scratch.root)
    except (tarfile.TarError, EOFError) as error:
        raise _no_backup(f"it is cut off or damaged: {error}") from error
    for name, member in manifest.members.items():
        if found.get(name) != member:
            raise _no_backup(f"{name} is not what was written")
    return manifest


def _manifest(tar: tarfile.TarFile) -> Manifest:
    entry = tar.next()
    file = tar.extractfile(entry) if entry is not None and entry.name == _MANIFEST and entry.isfile() else None
    if entry is None or file is None or entry.size > BACKUP_MANIFEST_BYTES_MAX:
        raise _no_backup("it has no manifest")
    try:
        manifest = msgspec.json.decode(file.read(), type=Manifest)
    except msgspec.MsgspecError as error:
        raise _no_backup(f"its manifest cannot be read: {error}") from error
    if manifest.format > FORMAT:
        raise _no_backup(f"it has format {manifest.format}, this version knows {FORMAT}")
    if sorted(name for name in manifest.members if not _DRAFT.fullmatch(name)) != sorted(_MEMBERS):
        raise _no_backup("its manifest does not name what belongs to a backup")
    return manifest


def _take(tar: tarfile.TarFile, entry: tarfile.TarInfo, manifest: Manifest, folder: Path) -> Member:
    """Write one member of the archive to its place; return what it is."""
    member = manifest.members.get(entry.name)
    file = tar.extractfile(entry) if entry.isfile() else None
    if member is None or file is None or entry.size != member.size or (folder / entry.name).exists():
        raise _no_backup(f"{entry.name[:80]!r} does not belong to it")
    if entry.name in _KEYS and entry.size > _KEY_BYTES_MAX:
        raise _no_backup(f"{entry.name} is no key")
    if _DRAFT.fullmatch(entry.name) and entry.size > DRAFT_BYTES_MAX:
        raise _no_backup(f"{entry.name} is no draft")
    path = folder / entry.name
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:  # noqa: PTH123 - a descriptor
        while chunk := file.read(1 << 20):
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return _measured(path)


def _check(scratch: StoreFolder, manifest: Manifest) -> None:
    me = machine_id(Keys.load(scratch.keys).identity_public)
    if me != manifest.machine:
        raise _no_backup("its keys are another machine's")
    try:
        _refuse_damaged(scratch.database, me, "the backup")
    except StoreCorrupt as error:
        raise InvalidValue(
            error.message, "take another backup; or unpack it with tar and run 'cluster-store repair' on the folder"
        ) from error
    with SqliteAudit.open(scratch.database) as store:
        meta = store.meta()
    if (meta.count, meta.log_hash.hex()) != (manifest.records, manifest.log_hash):
        raise _no_backup("its log is not the one that its manifest tells of")


def _put_aside(folder: StoreFolder) -> str:
    """Move a store, as it is, into a folder of its own; return where that is."""
    former = folder.free(f"former-{stamp()}")
    former.mkdir(0o700)
    # First what makes it a store, so that none is ever there without its write-ahead log.
    beside = (folder.database, sqlite_wal.path_beside(folder.database), sqlite_wal.index_beside(folder.database))
    for path in (*beside, folder.keys, folder.drafts):
        if path.exists():
            path.rename(former / path.name)
    sync_folder(former)
    return str(former)


def _no_backup(why: str) -> InvalidValue:
    return InvalidValue(f"this is no whole backup: {why}", "name a file that 'cluster-store backup' wrote")
