"""What goes wrong with hosts, their processes, clocks and versions."""

from __future__ import annotations

from cluster_store.simulation.host import Host
from cluster_store.simulation.scene import Scene

_DAY_MS = 24 * 3600 * 1000
#: 2099-12-31, milliseconds since 1970.
_LAST_DAY_MS = 4_102_358_400_000
#: How long to wait for a machine to be in the middle of a sync, milliseconds, and how closely to watch.
_SYNC_AWAITED_MS, _SYNC_WATCHED_MS = 5000, 3


async def crash(scene: Scene) -> None:
    """Kill a process or cut the power of its host, and start it again."""
    await scene.down(scene.dice.choice(scene.fleet.hosts), power_lost=scene.happens(0.5))


async def midsync(scene: Scene) -> None:
    """Kill a process while it takes in another one's log, or while its peer does, and start it again."""

    def syncing() -> list[Host]:
        return [host for host in scene.fleet.hosts if host.is_in_the_middle_of_a_sync]

    if await scene.fleet.clock.until(lambda: bool(syncing()), _SYNC_AWAITED_MS, _SYNC_WATCHED_MS):
        host = scene.dice.choice(syncing())
        scene.say(host, "is in the middle of a sync")
        peers = [other for other in scene.fleet.members if other.has_link_to(host.machine)]
        victim = scene.dice.choice(peers) if peers and scene.happens(0.3) else host
        await scene.down(victim, power_lost=scene.happens(0.5))


async def pause(scene: Scene) -> None:
    """Let a process stand still."""
    host = scene.dice.choice(scene.fleet.members) if scene.fleet.members else None
    if host is not None and host.process is not None:
        length = scene.length_ms()
        scene.say(host, f"stands still for {length} ms")
        host.process.life.asleep_until = scene.fleet.clock.now + length
        if scene.happens(0.3):
            for end in host.process.links.values():
                scene.fleet.network.give_up(end.other, scene.dice.randint(0, length))
        await scene.a_while()


async def clock(scene: Scene) -> None:
    """Let a wall clock jump."""
    host = scene.dice.choice(scene.fleet.hosts)
    now = scene.fleet.beginning_ms + scene.fleet.clock.now
    host.offset_ms = scene.dice.choice(
        (
            0,
            scene.dice.randint(-5000, 5000),
            scene.dice.randint(-400, 400) * _DAY_MS,
            scene.dice.randint(0, 1000) - now,
            _LAST_DAY_MS - now,
        )
    )
    scene.say(host, f"its clock jumps by {host.offset_ms} ms")


async def clone(scene: Scene) -> None:
    """Run a copy of a store as a second instance, for a while or until the end."""
    host = scene.running()
    if host is None or host.log.disk.damage:
        return
    disk = (scene.dice.choice(host.backups) if host.backups else host.log.disk).copy()
    if scene.happens(0.5):
        disk.own = None
    scene.say(host, f"is cloned with {len(disk.records)} records")
    copy = scene.fleet.clone(host, disk)
    scene.fleet.start(copy)
    if scene.happens(0.5):
        await scene.work_at_once(copy)
    await scene.a_while()
    if scene.happens(0.7):
        scene.fleet.remove(copy)


async def faulty(scene: Scene) -> None:
    """Let a member write a record that must count for nothing: it stops nobody, and nothing that comes after it."""
    host = scene.running()
    if host is not None and host.process is not None:
        scene.say(host, "writes a faulty record")
        host.process.misbehave(scene.dice)


async def upgrade(scene: Scene) -> None:
    """Give some machines another platform version; the others follow one by one, until all links are open again."""
    version = scene.fleet.next_version()
    hosts = list(scene.fleet.hosts)
    scene.dice.shuffle(hosts)
    for host in hosts:
        host.version = version
        scene.say(host, f"is upgraded to {version}")
        await scene.a_while()
