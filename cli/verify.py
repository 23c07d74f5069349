"""``verify``: whether the store is what was written."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster_store import bootstrap
from cluster_store.core.chain import Fault
from cluster_store.core.naming import counted
from cluster_store.verify import Report
from cluster_store.verify import verify as check

from .failures import BAD, DONE
from .progress import progress_bar
from .session import note, say


def verify(
    context: typer.Context,
    every_signature: Annotated[
        bool,
        typer.Option("--every-signature", help="Check every seal, not only each feed's last, which covers the others."),
    ] = False,
) -> int:
    """Check that the store is what was written.

    Hashes, chains, signatures, the tables and documents that follow from the records, and the file itself.
    Exit status 3: it is not. Then the first bad record is named, and what can still be relied on.
    """
    with bootstrap.audit(context.obj.root) as store, progress_bar("verifying") as progress:
        report = check(store, every_signature=every_signature, progress=progress)
    context.obj.show(_to_json(report), lambda: _tell(report))
    return BAD if report.found else DONE


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


def _tell(report: Report) -> None:
    if not report.found:
        say(
            f"all is as it was written: {counted(report.records, 'record')}, "
            f"{counted(report.documents, 'document')}, {counted(report.signatures, 'signature')} checked"
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
