"""Verifying a store three ways, beside a loop that only checks its signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_sign_open

from benchmarks import stores
from benchmarks.harness import Contestant, Goal, Place, Question, Ratio, Role, Size, Stage, Trial
from benchmarks.machines import machine, records_in
from benchmarks.workload import MACHINES
from cluster_store.bootstrap import audit
from cluster_store.core.chain import Chain
from cluster_store.core.records import decode, sealed_message
from cluster_store.verify import verify

#: Envelopes and seals, or seals and what they sign.
Records = Sequence[tuple[bytes, bytes]]
#: Checks one seal: (seal, message). Raises where it is none.
_Check = Callable[[bytes, bytes], object]


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    goals: list[Goal] = []
    checks = _libraries()
    for scale in scales:
        # Every record under a seal of its own: the most that there is to check.
        store = stores.full(place.shelf, scale, 1)
        records = records_in(store)
        chain = Contestant("by chain", scale, scale, _said(scale, 1), partial(_chain, store))
        whole = Contestant("verify", scale, scale, _said(scale, 1), partial(_verify, store, every=False))
        every = "verify --every-signature"
        each = Contestant(every, scale, scale, _said(scale, scale), partial(_verify, store, every=True))
        hashes = Contestant("hashes alone", scale, scale, _said(scale, 0), partial(_hash, records), Role.FLOOR)
        messages = [(seal, sealed_message(decode(data, seal).envelope, data)) for data, seal in records]
        limits = []
        for library, check in checks.items():
            run = partial(_check_all, check, messages)
            name = f"signatures alone, {library}"
            limits.append(Contestant(name, scale, scale, _said(scale, scale), run, Role.FLOOR))
        contestants += [chain, whole, each, hashes, *limits]
        ratios += [Ratio(each, limits[0], at_least=0.85), Ratio(chain, hashes)]
        goals += [Goal(chain, at_least=200_000), Goal(whole, at_least=45_000), Goal(limits[0], at_least=20_000)]
    return Stage(contestants, ratios, goals)


def _libraries() -> dict[str, _Check]:
    """Return what checks a seal of the first machine, by library, the fastest first."""
    key = machine(MACHINES[0]).keys.identity_public
    return {
        "PyNaCl": lambda seal, message: crypto_sign_open(seal + message, key),
        "cryptography": Ed25519PublicKey.from_public_bytes(key).verify,
    }


def _chain(store: Path, folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    """Check that every record is the one that its successor and the last seal vouch for."""
    begun = perf_counter()
    with audit(store) as audited:
        meta = audited.meta()
        chain = Chain(meta.cluster)
        faults = [fault for row, _ in audited.rows() for fault in (*chain.check(row), *chain.check_seal())]
        faults += chain.finish(meta.count, meta.log_hash)
    return Trial(perf_counter() - begun, _said(chain.position, chain.signatures, len(faults)))


def _verify(store: Path, folder: Path, *, every: bool) -> Trial:  # noqa: ARG001 - it only reads
    begun = perf_counter()
    with audit(store) as audited:
        report = verify(audited, every_signature=every)
    return Trial(perf_counter() - begun, _said(report.records, report.signatures, report.found))


def _hash(records: Records, folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    begun = perf_counter()
    ids = {sha256(envelope + seal).digest() for envelope, seal in records}
    return Trial(perf_counter() - begun, _said(len(ids), 0))


def _check_all(check: _Check, messages: Records, folder: Path) -> Trial:  # noqa: ARG001 - it only reads
    begun = perf_counter()
    for seal, message in messages:
        check(seal, message)
    return Trial(perf_counter() - begun, _said(len(messages), len(messages)))


def _said(records: int, signatures: int, faults: int = 0) -> str:
    return f"{records} records, {signatures} signatures, {faults} faults"


QUESTION = Question(
    name="verify",
    title="`cluster-store verify`, every record under a seal of its own",
    operation="record",
    scale="records",
    rounds={Size.SMOKE: 1, Size.REAL: 3},
    scales={Size.SMOKE: (100,), Size.REAL: (10_000,), Size.LONG: (10_000, 50_000)},
    prepare=_prepare,
)
