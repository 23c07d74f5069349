"""Verifying a whole store, beside a loop that only hashes its records and one that only checks its signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.harness import Contestant, Question, Ratio, Size, Stage, Trial
from benchmarks.machines import FOUNDING_RECORDS, Machine, commit_in_bursts, found_cluster, machine, records_in
from benchmarks.workload import MACHINES, Change, changes
from cluster_store.bootstrap import audit
from cluster_store.core.records import decode, sealed_message
from cluster_store.verify import verify

Records = Sequence[tuple[bytes, bytes]]


def _prepare(folder: Path, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    author = machine(MACHINES[0])
    for scale in scales:
        store = folder / str(scale)
        store.mkdir()
        asyncio.run(_fill(author, store, changes(author.hostname, scale - FOUNDING_RECORDS)))
        records = records_in(store)
        once = Contestant("verify", scale, scale, _said(scale, 1), partial(_verify, store, every=False))
        every = Contestant("every signature", scale, scale, _said(scale, scale), partial(_verify, store, every=True))
        hashes = Contestant("hashes alone", scale, scale, _said(scale, 0), partial(_hash, records))
        check = _signature_checks(author, records)
        seals = Contestant("signatures alone", scale, scale, _said(scale, scale), partial(_check, check))
        contestants += [once, every, hashes, seals]
        ratios += [Ratio(every, seals, at_least=0.85), Ratio(once, hashes)]
    return Stage(contestants, ratios)


async def _fill(author: Machine, folder: Path, work: Sequence[Change]) -> None:
    """Make a store in which every record has a seal."""
    node = await found_cluster(author, folder)
    await commit_in_bursts(node, work, 1)
    await node.close()


def _verify(store: Path, folder: Path, *, every: bool) -> Trial:  # noqa: ARG001 - it only reads
    begun = perf_counter()
    with audit(store) as audited:
        report = verify(audited, every_signature=every)
    return Trial(perf_counter() - begun, _said(report.records, report.signatures, report.found))


def _hash(records: Records, folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    begun = perf_counter()
    ids = {sha256(envelope + seal).digest() for envelope, seal in records}
    return Trial(perf_counter() - begun, _said(len(ids), 0))


def _signature_checks(author: Machine, records: Records) -> list[Callable[[], None]]:
    """Return what checks each record's seal, or raises."""
    key = Ed25519PublicKey.from_public_bytes(author.keys.identity_public)
    return [
        partial(key.verify, seal, sealed_message(decode(envelope, seal).envelope, envelope))
        for envelope, seal in records
    ]


def _check(checks: Sequence[Callable[[], None]], folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    begun = perf_counter()
    for check in checks:
        check()
    return Trial(perf_counter() - begun, _said(len(checks), len(checks)))


def _said(records: int, signatures: int, faults: int = 0) -> str:
    return f"{records} records, {signatures} signatures, {faults} faults"


QUESTION = Question(
    name="verify",
    title="`cluster-store verify`, every record under a seal of its own",
    operation="record",
    scale="records",
    rounds={Size.SMOKE: 1, Size.REAL: 5},
    scales={Size.SMOKE: (300,), Size.REAL: (10_000,)},
    prepare=_prepare,
)
