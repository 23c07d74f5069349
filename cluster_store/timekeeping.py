"""Taking back in time what this machine changed for a while: as it serves, and before whoever writes without a daemon.

Nothing is kept for that but the records: a timer says in its register by which clock it runs, so it is durable with the
change itself, and neither a crash nor a restart can come in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

from cluster_store.core.commands import TakeBack
from cluster_store.core.errors import ClusterStoreError
from cluster_store.core.timers import Timer, remaining
from cluster_store.node import Node

logger = logging.getLogger("cluster_store")

#: Who does it, as the log names them.
USER = "timer"
#: The longest nap, seconds: clocks may be set, and a host may have slept.
_NAP_S = 60.0
#: Before it tries again what did not work, seconds.
_AGAIN_S = 15.0


async def carry_out(node: Node) -> None:
    """Take back what is over by now. Raises ClusterStoreError where that cannot be written."""
    for timer in _own(node):
        if remaining(timer.told, node.boot(), node.now()) <= 0:
            record = await node.record(timer.event)
            paths = tuple(write.path for write in record.envelope.writes)
            await node.submit(TakeBack(event=timer.event, timer=timer.path, paths=paths), USER)


async def keep(node: Node) -> None:
    """Take back whatever is over, in time, until this is cancelled."""
    while True:
        pause = _NAP_S
        try:
            await carry_out(node)
        except ClusterStoreError as error:
            logger.warning("a change whose time is over cannot be taken back yet: %s", error.message)
            pause = _AGAIN_S
        known = _own(node)
        left = (remaining(timer.told, node.boot(), node.now()) / 1000 for timer in known)
        # What is over by now could not be taken back, and waits for the pause.
        seconds = min([pause, *(one for one in left if one > 0)]) if known else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # A new timer may be over before the others.
                await node.wait_for(partial(_differs, node, known))


def _differs(node: Node, known: list[Timer]) -> bool:
    return _own(node) != known


def _own(node: Node) -> list[Timer]:
    """Return the timers that this machine is to see to; whoever is no member any more leaves the cluster first."""
    cluster, me = node.replica.cluster, node.replica.state.me
    return [one for one in cluster.timers.standing if one.machine == me] if me in cluster.machines else []
