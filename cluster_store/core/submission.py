"""Commands that came in together: each is decided on top of those before it, and what is accepted is one draft.

A refusal is one caller's answer and nobody else's: those behind are decided all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cluster_store.core import commands, decide
from cluster_store.core.authoring import author
from cluster_store.core.cluster import Cluster
from cluster_store.core.decision import Context, Decision
from cluster_store.core.effects import Reply, Request, Submit
from cluster_store.core.errors import ClusterStoreError, Refused
from cluster_store.core.events import FIRST_KINDS
from cluster_store.core.naming import show_removal
from cluster_store.core.rules import read
from cluster_store.core.state import Draft, Needs, State
from cluster_store.core.types import Epoch, Level, MachineId, RecordId

_ALONE = "it stands alone in a moment, with the settings that it had: try again then"


class _NotLoaded(Exception):  # noqa: N818 - never seen outside: the scopes are looked up
    """A command is about scopes that nobody has looked up."""

    def __init__(self, scopes: list[Level]) -> None:
        super().__init__(scopes)
        self.scopes = scopes


class Submission:
    """One batch of commands before a state."""

    def __init__(
        self,
        given: Submit,
        state: State,
        cluster: Cluster,
        heard: Mapping[MachineId, str],
        reason: str,
        sign: Callable[[bytes], bytes],
    ) -> None:
        """Take a batch.

        Args:
            given: the requests, when they are decided, and the epoch to begin where there is none.
            state: what they are decided on; it is not changed.
            cluster: the read model of that state.
            heard: what machines said of their platform versions.
            reason: why a new epoch begins, where one has to.
            sign: makes ed25519 signatures with the machine's identity.
        """
        self._given = given
        self._state = state
        self._cluster = cluster
        self._heard = heard
        self._reason = reason
        self._sign = sign

    def add_needs(self, needs: Needs) -> None:
        """Add what must be looked up before the batch can be decided to what must be anyway."""
        requests = self._given.requests
        for request in requests:
            needs.scopes.update(decide.scopes_of(request.command, self._cluster, self._state.me))
            if isinstance(request.command, commands.TakeBack):
                needs.records.add(RecordId(request.command.event))
        rearranging = any(not isinstance(one.command, commands.SettingCommand) for one in requests[:-1])
        if rearranging and not self._state.missing(needs):
            # A command can change which levels those behind it are about: only deciding them all shows.
            try:
                self._attempt(requests)
            except _NotLoaded as found:
                needs.scopes.update(found.scopes)

    def decided(self) -> tuple[Draft, list[Reply]]:
        """Return the draft, whose last record has a seal, and the reply to each request in their order."""
        draft, replies, accepted = self._attempt(self._given.requests)
        if draft.records and not draft.records[-1].record.seal:
            # Requests behind the last accepted one were refused: seal that one instead.
            draft, again, _ = self._attempt(accepted)
            replies |= again
        return draft, [replies[request.id] for request in self._given.requests]

    def _attempt(self, requests: list[Request]) -> tuple[Draft, dict[int, Reply], list[Request]]:
        """Decide requests one by one, each on top of the ones before, and seal the last record."""
        draft = Draft(self._state)
        replies: dict[int, Reply] = {}
        accepted = []
        unsealed = 0
        for index, request in enumerate(requests):
            context = self._context(draft, request)
            if draft.rearranges:
                scopes = decide.scopes_of(request.command, context.cluster, self._state.me)
                if any(scope not in self._state.scopes for scope in scopes):
                    raise _NotLoaded(scopes)
            try:
                decision = self._decide(draft, request, context)
                if decision.event is None:
                    replies[request.id] = Reply(request.id, {"event": None, "changed": False, **decision.result})
                    continue
                if draft.own is None and decision.event.kind not in FIRST_KINDS:
                    began = decide.begin_epoch(context, self._reason, self._previous_epoch())
                    unsealed = author(draft, began, request, self._given, self._sign, unsealed=unsealed, last=False)
                last = index == len(requests) - 1
                unsealed = author(draft, decision.event, request, self._given, self._sign, unsealed=unsealed, last=last)
            except ClusterStoreError as error:
                replies[request.id] = Reply(request.id, error=error)
                continue
            accepted.append(request)
            event = draft.records[-1].record.id
            replies[request.id] = Reply(request.id, {"event": event, "changed": True, **decision.result})
        return draft, replies, accepted

    def _context(self, draft: Draft, request: Request) -> Context:
        cluster = read(draft) if draft.rearranges else self._cluster
        given = self._given
        return Context(draft, cluster, self._state.me, request.user, given.now, given.epoch, self._heard, given.boot)

    def _decide(self, draft: Draft, request: Request, context: Context) -> Decision:
        left = context.cluster.departure(self._state.me)
        if left is not None:
            raise Refused(show_removal(left, "this machine"), _ALONE)
        if isinstance(request.command, commands.BeginEpoch):
            if draft.records:
                raise Refused("a new epoch begins before any other change", "try again")
            return Decision(decide.begin_epoch(context, request.command.reason, self._previous_epoch()))
        return decide.decide(request.command, context)

    def _previous_epoch(self) -> tuple[Epoch, int] | None:
        """Return the epoch this machine wrote in last, as far as its own log knows, and its newest number."""
        mine = [line for line in self._state.lines.values() if line.machine == self._state.me]
        last = max(mine, key=lambda line: line.position, default=None)
        return (last.epoch, last.seq) if last else None
