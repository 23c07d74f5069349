"""``repair``: what is wrong with a store, what of it can be trusted, and a whole one in its place.

A store is never mended where it stands. What proves itself goes into a fresh file; where that is all there was, or the
other members have brought the rest, the fresh file takes the store's name and the damaged one is kept. Either way the
machine goes on in a new epoch, so that no number is ever used twice, whatever was lost.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

from cluster_store.adapters import sqlite_mending, sqlite_wal
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.sqlite_audit import SqliteAudit
from cluster_store.adapters.sqlite_carving import Carved, carve
from cluster_store.adapters.sqlite_errors import MENDING, translated
from cluster_store.adapters.store_folder import StoreFolder, give, stamp, sync_folder
from cluster_store.core.errors import StoreCorrupt, StoreError, StoreMissing
from cluster_store.core.naming import one_line
from cluster_store.core.records import machine_id
from cluster_store.core.types import MachineId
from cluster_store.mending import REASON, HostKey, Member, Mending, Outcome, Progress, cleared
from cluster_store.ports import Transport
from cluster_store.verify import Report, verify


def repair(
    folder: StoreFolder,
    *,
    from_peers: bool,
    accept_loss: bool,
    member: Member | None,
    transport: Callable[[Keys], Transport],
    host_key: HostKey,
    clock: Callable[[], int],
    progress: Progress,
) -> Outcome:
    """Examine a store, and mend it where that can be done. The caller holds the store's lock.

    Args:
        folder: the store's.
        from_peers: take what is missing from the other members.
        accept_loss: go on with what is left where records are missing.
        member: one to ask besides those that the store knows.
        transport: makes what dials with a machine's keys.
        host_key: returns the host key that is shown at a host and port.
        clock: the wall clock in milliseconds.
        progress: called with a sentence now and then.

    Raises:
        StoreMissing: its keys are lost: nothing can be done about that here.
        PeerError: no member could be asked; nothing is changed.
        StoreError: or one of its kin: the disk is full, for one; nothing is changed.
    """
    keys = _identity(folder)
    progress("reading what is left")
    # First, because SQLite makes the index of the write-ahead log anew, which may tell of more than is there.
    carved = carve(folder.database) if folder.database.exists() else Carved()
    outcome = Outcome(findings=_findings(folder, machine_id(keys.identity_public), progress))
    if not outcome.findings:
        outcome.complete = True
        return outcome
    mending = Mending(folder, keys, carved, outcome, clock, progress)
    with cleared(folder.repairing):
        asyncio.run(mending.salvage(hold_back=from_peers))
        if not outcome.complete and from_peers:
            asyncio.run(mending.take_back(transport(keys), member, host_key))
        elif not outcome.complete and not accept_loss:
            return outcome
        else:
            mending.refuse_nothing()
            sqlite_mending.begin_anew(folder.repairing, REASON)
        outcome.kept = _swap(folder)
        outcome.repaired = True
    return outcome


def refuse_no_store(folder: StoreFolder) -> None:
    """Raise StoreMissing where there is neither a database nor keys: nothing is to be written to such a folder."""
    if not folder.has_remains:
        raise StoreMissing(f"there is no store in {folder.root}", "name another folder with --store")


def _identity(folder: StoreFolder) -> Keys:
    try:
        return Keys.load(folder.keys)
    except StoreMissing as error:
        raise StoreMissing(
            f"{one_line(error.message)}: without its keys this machine can never be itself again",
            "restore a backup, which has them; else 'init' in another folder, under another hostname, and join",
        ) from error


def _findings(folder: StoreFolder, me: MachineId, progress: Progress) -> list[str]:
    """Return what is wrong with a store, in words."""
    if not folder.database.exists():
        return [f"file: {folder.database.name} is not there"]

    def told(what: str, done: int, total: int) -> None:
        progress(f"checking {what}" + (f": {done} of {total}" if total else ""))

    try:
        with SqliteAudit.open(folder.database) as store:
            report = verify(store, every_signature=True, progress=told)
            stranger = not report.found and store.meta().me != me
    except StoreError as error:
        return [f"file: {one_line(error.message)}"]
    return [*_words(report), *(["file: it is the store of another machine than the keys"] if stranger else [])]


def _words(report: Report) -> Iterator[str]:
    for fault in report.faults:
        name = report.name(fault)
        yield f"{fault.kind}: {name}: {fault.text}" if name else f"{fault.kind}: {fault.text}"
    for kind, count in report.untold.items():
        yield f"{kind}: {count} more"


# --- taking the place --------------------------------------------------------------------------------


def _swap(folder: StoreFolder) -> str:
    """Put the fresh store in the place of the damaged one, which keeps a name of its own; return that, if there is one.

    Raises StoreError.
    """
    kept = folder.free(f"damaged-{stamp()}", ".db")
    log, index = sqlite_wal.path_beside(folder.database), sqlite_wal.index_beside(folder.database)
    with translated(folder.root):
        there = folder.database.exists()
        if there:
            os.link(folder.database, kept)
        if log.exists():
            # As long as its index is there, the old file without its log is known for damaged, not taken for a store.
            index.touch(mode=0o600)
            log.rename(sqlite_wal.path_beside(kept))
        give(folder.repairing, folder.root)
        folder.repairing.replace(folder.database)
        index.unlink(missing_ok=True)
        sync_folder(folder.root)
    return str(kept) if there else ""


def damage(folder: StoreFolder) -> StoreError | None:
    """Return what is wrong with a store where something is: what failed over that is no bug of the program."""
    try:
        with SqliteAudit.open(folder.database) as store:
            report = verify(store)
    except StoreMissing:
        return None
    except StoreError as error:
        return error
    if not report.found:
        return None
    fault = next(_words(report))
    return StoreCorrupt(f"{folder.database} is damaged: {fault}", MENDING)
