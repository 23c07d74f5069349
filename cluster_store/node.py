"""The asyncio shell around the replica: performs its effects and feeds the outcomes back. It takes no decision.

One task, the writer, takes commands and received batches one after the other, so at most one append is under
way; commands that arrive meanwhile are decided and appended together. Everything else (greetings,
acknowledgements, reading the log for a peer) goes on beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from cluster_store.core.commands import Command
from cluster_store.core.effects import (
    Append,
    AppendDone,
    AppendFailed,
    ApplyChanges,
    Changed,
    Close,
    Due,
    Effect,
    Input,
    Later,
    LogRead,
    Message,
    Noticed,
    Read,
    Received,
    Records,
    Reply,
    Request,
    Send,
    Submit,
)
from cluster_store.core.errors import ClusterStoreError, EngineError, StoreError
from cluster_store.core.limits import (
    BATCH_BYTES_TARGET,
    BATCH_RECORDS_MAX,
    GROUP_COMMIT_MAX,
    RELAY_PATIENCE_S,
    SECRETS_KEPT_MS,
)
from cluster_store.core.naming import one_line
from cluster_store.core.records import Record, decode
from cluster_store.core.registers import CLUSTER
from cluster_store.core.replica import Replica
from cluster_store.core.state import Needs, State
from cluster_store.core.timers import Boot
from cluster_store.core.types import Epoch, Level, MachineId, RecordId
from cluster_store.documents import Documents
from cluster_store.ports import EventLog

#: Deciding on so many records takes so long that others have a turn before they are appended, and another behind that.
_TURN_RECORDS = 64

logger = logging.getLogger("cluster_store")


class Carrier(Protocol):
    """Whoever holds the links that the replica talks on."""

    def send(self, link: int, message: Message) -> None:
        """Queue a message; order is kept."""

    def close(self, link: int, state: str, reason: str) -> None:
        """Close a link after what is queued, and remember why."""

    def membership_changed(self) -> None:
        """Some register of the cluster scope was written: members, addresses or detachments may differ."""


class NoLinks:
    """The carrier of a node that talks to nobody."""

    def send(self, link: int, message: Message) -> None:
        """Nobody hears it."""

    def close(self, link: int, state: str, reason: str) -> None:
        """There is nothing to close."""

    def membership_changed(self) -> None:
        """Nobody needs to know."""


class Node:
    """One machine's replica, its log and its documents, alive in an event loop."""

    def __init__(
        self, log: EventLog, replica: Replica, clock: Callable[[], int], boot: Callable[[], Boot] = Boot
    ) -> None:
        """Put a shell around a replica; ``open_node`` does the rest.

        Args:
            log: where it keeps its records.
            replica: restored from that log.
            clock: the wall clock in milliseconds.
            boot: the clock since the host's start.
        """
        self.replica = replica
        self.carrier: Carrier = NoLinks()
        self.now = clock
        self.boot = boot
        self.documents = Documents(log, lambda: asyncio.sleep(0))
        self._log = log
        self._numbers = itertools.count(1)
        self._requests: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._commands: list[Request] = []
        self._batches: list[tuple[Received, asyncio.Future[None]]] = []
        self._work = asyncio.Event()
        self._closing = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Condition()
        #: How many wait for a change.
        self._watching = 0
        #: Why nothing can be written any more, and who is to be told.
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._writer = asyncio.create_task(self._write())

    async def start(self) -> None:
        """Load the cluster's registers, so that the read model is there before anybody asks for it."""
        await self.load({CLUSTER})

    async def load(self, scopes: set[Level]) -> None:
        """Load the registers of scopes."""
        while needs := self.replica.state.missing(Needs(scopes)):
            self.replica.learn(await self._log.lookup(needs))

    async def submit(self, command: Command, user: str, auth: str = "local") -> dict[str, Any]:
        """Carry out a command; return its result once it is durable. Raises the error that refused it."""
        if self._closing:
            raise _stopping()
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._requests[number] = future
        self._commands.append(Request(number, command, user, auth))
        self._work.set()
        return await future

    async def receive(self, link: int, message: Message) -> None:
        """Take a batch of records from a link; return when it is durable or refused."""
        if self._closing:
            raise _stopping()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._batches.append((Received(link, message, self.now()), future))
        self._work.set()
        await future

    async def feed(self, given: Input) -> None:
        """Give the replica an input and perform what comes out."""
        if isinstance(given, Received) and isinstance(given.message, Records):
            # Reading a batch takes about as long as judging it.
            self.replica.needs(given)
            await asyncio.sleep(0)
        while needs := self.replica.needs(given):
            self.replica.learn(await self._log.lookup(needs))
        for effect in self.replica.step(given):
            await self._perform(effect)

    async def record(self, record: RecordId) -> Record:
        """Return a record of this machine's log. Raises StoreError where it cannot be read."""
        fact = (await self._log.lookup(Needs(records={record}))).records[record]
        rows = await self._log.read(fact.position - 1, 1, 1) if fact is not None else []
        if not rows:
            raise StoreError(f"the record {record} cannot be read", "run 'cluster-store verify' to see what is wrong")
        return decode(rows[0].item.data, rows[0].item.seal)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the replica holds; it is looked at after every change."""
        self._watching += 1
        try:
            async with self._changed:
                await self._changed.wait_for(condition)
        finally:
            self._watching -= 1

    async def notify(self) -> None:
        """Let those who wait look at their conditions again."""
        if self._watching:
            async with self._changed:
                self._changed.notify_all()

    async def erase_secrets(self) -> None:
        """Erase the values of secrets that were replaced longer ago than anybody may want them back."""
        await self._log.erase_secrets(self.now() - SECRETS_KEPT_MS)

    async def close(self) -> None:
        """Finish the append under way, refuse what is queued, save documents and release the log."""
        self._closing = True
        self._work.set()
        await self._writer
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        try:
            await self.documents.close()
        except (EngineError, StoreError) as error:
            # They are only ahead of their saved forms; the log has all of it.
            logger.warning("documents could not be saved: %s", error.message)
        finally:
            await self._log.close()

    # --- the writer --------------------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            while not self._closing:
                await self._work.wait()
                self._work.clear()
                while (self._commands or self._batches) and not self._closing:
                    await self._write_once()
                    # A quick disk's log appends without giving others a turn.
                    await asyncio.sleep(0)
        except Exception as error:
            # A fault of this program. What is durable is right, what is in memory may not be: whoever runs this ends.
            logger.critical("the writer failed", exc_info=True)
            self.failure = error
            self.on_failure()
        finally:
            self._closing = True
            self._refuse_unanswered()

    def _refuse_unanswered(self) -> None:
        unanswered: list[asyncio.Future[Any]] = [*self._requests.values(), *(done for _, done in self._batches)]
        for future in unanswered:
            if not future.done():
                future.set_exception(_stopping())

    async def _write_once(self) -> None:
        if self._commands:
            group, self._commands = self._commands[:GROUP_COMMIT_MAX], self._commands[GROUP_COMMIT_MAX:]
            try:
                await self.feed(Submit(group, self.now(), Epoch(os.urandom(8).hex()), self.boot()))
            except ClusterStoreError as error:
                for request in group:
                    self._answer(Reply(request.id, error=error))
        if self._batches:
            given, done = self._batches.pop(0)
            try:
                await self.feed(given)
            except ClusterStoreError as error:
                self.carrier.close(given.link, "dropped", error.message)
            finally:
                if not done.done():
                    done.set_result(None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- effects -----------------------------------------------------------------------------------

    async def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Append):
            await self._append(effect)
        elif isinstance(effect, ApplyChanges):
            await self._apply(effect)
        elif isinstance(effect, Reply):
            self._answer(effect)
        elif isinstance(effect, Send):
            self.carrier.send(effect.link, effect.message)
        elif isinstance(effect, Read):
            self._spawn(self._read(effect))
        elif isinstance(effect, Later):
            self._spawn(self._remind(effect))
        elif isinstance(effect, Close):
            self.carrier.close(effect.link, effect.state, effect.reason)
        elif isinstance(effect, Changed):
            await self._tell(effect)
        elif isinstance(effect, Noticed):
            logger.warning("%s", one_line(effect.text))

    async def _tell(self, effect: Changed) -> None:
        if any(not path.startswith(("setting/", "element/", "kind/")) for path in effect.paths):
            self.carrier.membership_changed()
        await self.notify()

    async def _append(self, effect: Append) -> None:
        draft = effect.draft
        many = len(draft.records) > _TURN_RECORDS
        try:
            if many:
                await asyncio.sleep(0)
            await self._log.append(draft)
        except StoreError as error:
            await self.feed(AppendFailed(error))
        else:
            if many:
                await asyncio.sleep(0)
            await self.feed(AppendDone())

    async def _apply(self, effect: ApplyChanges) -> None:
        try:
            await self.documents.apply(effect.changes)
        except (EngineError, StoreError) as error:
            # The change is durable and its lanes are right; the document is read again when next needed.
            logger.error("a document could not be brought up to the log: %s", error.message)

    def _answer(self, reply: Reply) -> None:
        future = self._requests.pop(reply.id, None)
        if future is None or future.done():
            return
        if reply.error is not None:
            future.set_exception(reply.error)
        else:
            future.set_result(reply.result or {})

    async def _read(self, effect: Read) -> None:
        try:
            after = effect.after
            if after is None:
                after = await self._log.first_missing(effect.covered)
            rows = await self._log.read(after, BATCH_RECORDS_MAX, BATCH_BYTES_TARGET)
        except StoreError as error:
            self.carrier.close(effect.link, "dropped", error.message)
            return
        await self.feed(LogRead(effect.link, after, rows))

    async def _remind(self, effect: Later) -> None:
        # With jitter, so that two sides that both wait do not send the same at one moment.
        await asyncio.sleep(RELAY_PATIENCE_S * random.uniform(1.0, 1.5))  # noqa: S311 - hides nothing
        try:
            await self.feed(Due(effect.link))
        except StoreError as error:
            self.carrier.close(effect.link, "dropped", error.message)


def _stopping() -> StoreError:
    return StoreError("the node is stopping", "try again when it is back")


async def open_node(
    log: EventLog,
    me: MachineId,
    sign: Callable[[bytes], bytes],
    clock: Callable[[], int],
    reason: str = "moved",
    boot: Callable[[], Boot] = Boot,
) -> Node:
    """Restore a replica from its log and return it alive."""
    stored = await log.load()
    state = State.restored(me, stored)
    return Node(log, Replica(state, sign, os.urandom(8).hex(), stored.reason or reason), clock, boot)
