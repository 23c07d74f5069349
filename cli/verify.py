"""``verify``: whether the store is what was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cluster_store import bootstrap
from cluster_store.core.chain import Fault
from cluster_store.core.errors import ClusterStoreError
from cluster_store.core.naming import counted, one_line
from cluster_store.core.types import MachineId
from cluster_store.verify import Report
from cluster_store.verify import verify as check

from .failures import BAD, DONE
from .progress import progress_bar
from .session import Session, note, say


def verify(
    context: typer.Context,
    every_signature: Annotated[
        bool,
        typer.Option("--every-signature", help="Check every seal, not only each feed's last, which covers the others."),
    ] = False,
) -> int:
    """Check that the store is what was written.

    Hashes, chains, signatures, the tables and documents that follow from the records, and the file itself.
    Where a daemon runs, also whether any peer that it heard has more of what this machine wrote than this store has.
    Exit status 3: it is not. Then the first bad record is named, and what can still be relied on.
    """
    # Asked first: what a peer had by then is in the store that is read afterwards.
    heard = _heard(context.obj)
    with bootstrap.audit(context.obj.root) as store, progress_bar("verifying") as progress:
        report = check(store, every_signature=every_signature, progress=progress)
    for peer, told in heard.items():
        report.compare(report.hostnames.get(peer, peer), told["own"])
    behind = {report.hostnames.get(peer, peer): told["behind"] for peer, told in heard.items()}
    context.obj.show({**_to_json(report), "peers_ahead": behind}, lambda: _tell(report, behind))
    return BAD if report.found else DONE


def _heard(session: Session) -> dict[MachineId, Any]:
    """Return what a running daemon has heard of each peer; nothing where none answers, whatever is wrong with it."""
    try:
        daemon = bootstrap.ask_daemon(session.root, "status")
    except ClusterStoreError as error:
        note(f"not compared with peers: {one_line(error.message)}")
        return {}
    # A daemon that was started before this program was upgraded tells nothing of it.
    return {} if daemon is None else daemon.get("heard", {})


def _to_json(report: Report) -> dict[str, Any]:
    first = report.first
    return {
        "passed": not report.found,
        "records": report.records,
        "signatures": report.signatures,
        "documents": report.documents,
        "findings": [_finding(fault, report) for fault in report.faults],
        "more": report.untold,
        "first_bad": _finding(first, report) if first else None,
        "trustworthy": report.trustworthy(),
    }


def _finding(fault: Fault, report: Report) -> dict[str, Any]:
    return {
        "kind": fault.kind,
        "text": fault.text,
        "position": fault.position,
        "event": fault.record or None,
        "machine": report.hostnames.get(fault.machine, fault.machine) or None,
        "machine_id": fault.machine or None,
        "seq": fault.seq,
    }


def _tell(report: Report, behind: Mapping[str, int]) -> None:
    for peer, count in behind.items():
        if count:
            note(f"{one_line(peer)} has {counted(count, 'record')} more, which a link will bring: that is no fault")
    if not report.found:
        say(
            f"all is as it was written: {counted(report.records, 'record')}, "
            f"{counted(report.documents, 'document')}, {counted(report.signatures, 'signature')} checked"
            + (f", compared with {counted(len(behind), 'peer')}" if behind else "")
        )
        return
    for fault in report.faults:
        name = report.name(fault)
        say(f"{fault.kind}: {name}: {fault.text}" if name else f"{fault.kind}: {fault.text}")
    for kind, count in report.untold.items():
        say(f"{kind}: {count} more")
    if report.first is not None:
        say(f"the first bad record is {report.name(report.first)}")
    say(f"still trustworthy: {report.trustworthy()}")
    note("run 'cluster-store repair': it says what is lost, and how to get it back")
