"""A fresh log for a machine that leaves: it takes along what it can, whatever members wrote."""

from __future__ import annotations

import pytest

from cluster_store import leaving
from cluster_store.adapters.memory_transport import MemoryNetwork
from cluster_store.core import commands
from cluster_store.core.standalone import Legacy
from tests.sites import SALT, Site


async def alone(name: str, network: MemoryNetwork) -> Site:
    """Return a machine with an empty log."""
    site = Site(network, name)
    await site.open()
    return site


async def test_a_machine_takes_its_settings_and_its_users_along() -> None:
    """Under its new identity it does the same, and the same people may log in."""
    network = MemoryNetwork()
    former, fresh = Site(network, "a"), await alone("a2", network)
    await former.begin()
    await former.command(commands.CreateCluster(name="americas", by="hostname", salt=SALT))
    await former.set("smtp.port", "25")
    operator = commands.AddUser(name="anna", role="operator", password="$argon2id$x", salt=SALT)
    await former.command(operator)
    await former.command(commands.RemoveMachines(machines=("a",)))
    left = leaving.departure_of(former.node)
    assert left is not None
    assert await leaving.furnish(fresh.node, former.node, left, fresh.card()) == []
    assert fresh.get("smtp.port") == "25"
    users = {user.name: (user.role, user.password) for user in fresh.node.replica.cluster.users.values()}
    assert users["anna"] == ("operator", "$argon2id$x")
    assert users["admin"][0] == "administrator"
    for site in (former, fresh):
        await site.end()


async def test_what_no_command_can_write_keeps_nobody_from_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member may have written anything into its records: what is refused is named, and the rest is taken along."""
    network = MemoryNetwork()
    former, fresh = Site(network, "a"), await alone("a2", network)
    await former.begin()
    await former.command(commands.CreateCluster(name="americas", by="hostname", salt=SALT))
    await former.command(commands.RemoveMachines(machines=("a",)))
    settings = {f"key{number}": str(number) for number in range(5)} | {"a..b": "1", "c": "2"}
    given = Legacy(
        [
            commands.InitialiseMachine(card=fresh.card(), salt=SALT),
            commands.AddUser(name="a@b", role="operator", password="$argon2id$x", salt=SALT),
            commands.LoadConfig(settings=settings, source="the cluster", salt=SALT),
            commands.SetSetting(key="", value="1", secret=True, salt=SALT),
            commands.SetSetting(key="last", value="1", salt=SALT),
        ],
        ["password"],
    )
    monkeypatch.setattr(leaving, "legacy", lambda *_: given)
    left = leaving.departure_of(former.node)
    assert left is not None
    lost = await leaving.furnish(fresh.node, former.node, left, fresh.card())
    assert lost == ["password", "user a@b", "a..b", ""]
    assert [fresh.get(key) for key in ("key0", "key4", "c", "last")] == ["0", "4", "2", "1"]
    for site in (former, fresh):
        await site.end()
