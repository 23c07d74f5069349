"""``repair``: what a damaged store has lost, and a whole one in its place."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_store import bootstrap

from . import network
from .failures import BAD, DONE
from .progress import progress_line
from .session import note, say

if TYPE_CHECKING:
    from cluster_store.mending import FeedState, Member, Outcome

#: Findings that people are shown; ``verify`` shows all of them.
_SHOWN_MAX = 5


def repair(
    context: typer.Context,
    from_peers: Annotated[
        bool, typer.Option("--from-peers", help="Take what is missing from the other members.")
    ] = False,
    member: Annotated[
        str, typer.Option("--from", metavar="HOST[:PORT]", help="A member to ask, where the store names none.")
    ] = "",
    fingerprint: Annotated[
        str, typer.Option("--fingerprint", metavar="SHA256:...", help="The host key to expect there.")
    ] = "",
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on with what is left, where nobody has the rest.")
    ] = False,
) -> int:
    """Say what a damaged store has lost, and make a whole one of it.

    Where every record is there, what follows from them is made again at once. Where records are missing,
    it says which, and changes nothing without one of the options. The damaged database is always kept, and the
    machine goes on in a new epoch. Exit status 3: the store is damaged still.
    """
    from cluster_store.mending import Member

    if bool(member) != bool(fingerprint):
        context.fail("--from and --fingerprint go together")
    named: Member | None = None
    if member:
        host, port = network.host_and_port(member)
        named = Member(host, port, fingerprint)
    with _own_records_untold(), progress_line() as progress:
        outcome = bootstrap.repair(
            context.obj.root,
            from_peers=from_peers or named is not None,
            accept_loss=accept_loss,
            member=named,
            progress=progress,
        )
    healthy = not outcome.findings
    context.obj.show({**_plain(outcome), "healthy": healthy}, lambda: _tell(outcome))
    if not healthy and not outcome.repaired:
        for line in _next(outcome):
            note(line)
    return DONE if healthy or outcome.repaired else BAD


@contextmanager
def _own_records_untold() -> Iterator[None]:
    """Leave out of the log that this machine's own records come back: that is what the repair is for."""
    logger = logging.getLogger("cluster_store")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _plain(outcome: Outcome) -> dict[str, object]:
    import msgspec

    plain: dict[str, object] = msgspec.to_builtins(outcome)
    feeds = [{**msgspec.to_builtins(feed), "lost": feed.lost} for feed in outcome.feeds]
    return {**plain, "feeds": feeds}


def _tell(outcome: Outcome) -> None:
    if not outcome.findings:
        say("nothing is wrong with the store")
        return
    for finding in outcome.findings[:_SHOWN_MAX]:
        say(finding)
    if len(outcome.findings) > _SHOWN_MAX:
        say(f"{len(outcome.findings) - _SHOWN_MAX} more findings: 'cluster-store verify' shows them")
    expected = "" if outcome.expected is None else f" of {outcome.expected}"
    say(f"{outcome.salvaged}{expected} records could be read and prove themselves")
    for hostname, count in outcome.taken_back.items():
        say(f"{count} records came from {hostname}")
    for hostname, why in outcome.not_asked.items():
        say(f"{hostname} could not be asked: {why}")
    for feed in outcome.feeds:
        if feed.lost:
            say(_gap(feed))
    for path in outcome.secrets_lost:
        say(f"the value of the secret {path} is lost: set it again")
    if outcome.repaired:
        kept = f"; the damaged database is kept as {outcome.kept}" if outcome.kept else ""
        say(f"a whole store is in place{kept}")


def _gap(feed: FeedState) -> str:
    first = feed.up_to + 1
    numbers = f"number {first}" if feed.known == first else f"numbers {first} to {feed.known}"
    behind = f"; {len(feed.behind_a_gap)} of them could be read and wait for those before" if feed.behind_a_gap else ""
    return f"missing of {feed.hostname}, epoch {feed.epoch}: {numbers}{behind}"


def _next(outcome: Outcome) -> Iterator[str]:
    """Yield what an operator can do."""
    if outcome.members:
        yield f"'cluster-store repair --from-peers' takes it back from those that have it: {', '.join(outcome.members)}"
    else:
        yield "'cluster-store repair --from HOST:PORT --fingerprint SHA256:...' takes it back from a member"
        yield "where nobody has it: restore a backup, or go on with what is left with --accept-loss"
