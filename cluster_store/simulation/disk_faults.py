"""What goes wrong with what is stored."""

from __future__ import annotations

from cluster_store.simulation.damage import flip_document, flip_lane, flip_record
from cluster_store.simulation.disk_log import Trouble
from cluster_store.simulation.scene import Scene

#: How long to wait for an append that can fail, milliseconds.
_APPEND_AWAITED_MS = 5000


async def full(scene: Scene) -> None:
    """Let a disk have no room."""
    host = scene.dice.choice(scene.fleet.hosts)
    log = host.log
    scene.say(host, "its disk is full")
    log.full = True
    await scene.a_while()
    log.full = False
    scene.say(host, "its disk has room")


async def append(scene: Scene) -> None:
    """Let an append end when some of its records are written: with an error, or with the host's power."""
    host = scene.running()
    if host is None:
        return
    process, log = host.process, host.log
    trouble = log.trouble = Trouble(scene.fleet.clock, scene.dice.random(), power_lost=scene.happens(0.5))
    struck = await scene.fleet.clock.until(lambda: trouble.struck.is_set, _APPEND_AWAITED_MS)
    log.trouble = None
    if struck and trouble.power_lost and host.process is process:
        scene.say(host, f"its power fails with {len(log.disk.uncommitted)} records written and not committed")
        await scene.down(host, power_lost=True)


async def flip(scene: Scene) -> None:
    """Flip a bit of a record, while the process runs, or of anything that follows from the records, while it is down.

    Only one disk at a time is damaged, and another member has to be there: what is damaged everywhere is lost, and
    nothing could be demanded any more.
    """
    host = scene.running()
    if host is None or not scene.fleet.can_spare(host):
        return
    kind = scene.dice.choice((flip_record, flip_record, flip_lane, flip_document))
    if kind is not flip_record:
        scene.fleet.crash(host, power_lost=True)
    kind(host.log.disk, scene.dice)
    for damage in host.log.disk.damage:
        scene.say(host, f"a bit flips: {damage}")
    await scene.a_while()
    scene.up(host)


async def restore(scene: Scene) -> None:
    """Keep a copy of a store, or put a store back to an earlier one."""
    host = scene.running()
    if host is None or host.log.disk.damage:
        return
    if not host.backups or scene.happens(0.4):
        scene.say(host, f"is backed up with {len(host.log.disk.records)} records")
        host.backups.append(host.log.disk.copy())
        return
    disk = scene.dice.choice(host.backups).copy()
    noticed = scene.happens(0.5)
    if noticed:
        disk.own = None
    scene.fleet.crash(host, power_lost=scene.happens(0.5))
    sign = "" if noticed else ", without a sign of it"
    scene.say(host, f"is put back from {len(host.log.disk.records)} to {len(disk.records)} records{sign}")
    scene.fleet.discard(host, disk)
    scene.fleet.start(host)
    if scene.happens(0.5):
        await scene.work_at_once(host)
