"""What goes wrong between hosts."""

from __future__ import annotations

from cluster_store.simulation.scene import Scene


async def cut(scene: Scene) -> None:
    """Let nothing pass between two halves, or between two hosts."""
    names = [host.name for host in scene.fleet.hosts]
    scene.dice.shuffle(names)
    if scene.happens(0.5):
        names = names[:2]
    middle = scene.dice.randint(1, max(1, len(names) - 1))
    one, two = names[:middle], names[middle:]
    await _block(scene, [(a, b) for a in one for b in two] + [(b, a) for a in one for b in two])


async def oneway(scene: Scene) -> None:
    """Let nothing pass from one host to another."""
    if len(scene.fleet.hosts) > 1:
        one, two = scene.dice.sample(scene.fleet.hosts, 2)
        await _block(scene, [(one.name, two.name)])


async def _block(scene: Scene, ways: list[tuple[str, str]]) -> None:
    if not ways:
        return
    scene.say(None, "cut: " + ", ".join(f"{one}->{two}" for one, two in ways))
    scene.fleet.network.cut(ways)
    await scene.a_while()
    scene.fleet.network.heal(ways)
    scene.say(None, "healed: " + ", ".join(f"{one}->{two}" for one, two in ways))


async def slow(scene: Scene) -> None:
    """Let a link take much longer one way."""
    if len(scene.fleet.hosts) > 1:
        one, two = scene.dice.sample(scene.fleet.hosts, 2)
        factor = scene.dice.choice((5, 50))
        scene.say(None, f"slow: {one.name}->{two.name} {factor} times")
        scene.fleet.network.slow[one.name, two.name] = factor
        await scene.a_while()
        scene.fleet.network.slow.pop((one.name, two.name), None)
        scene.say(None, f"fast again: {one.name}->{two.name}")
