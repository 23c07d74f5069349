"""Machines that leave a cluster for good: told at once, told when they come back, and the last one."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.end_to_end.kill_points import CALLS
from tests.end_to_end.machines import PATIENCE_S, Fleet, Machine, converged
from tests.end_to_end.test_kill_points import calls_of, killed, points
from tests.waiting import wait_until

SECRET = "sesame, open"


def behaviour(machine: Machine) -> dict[str, Any]:
    """Return all that a machine is to do, its secret included."""
    found: dict[str, Any] = machine.ask("showconfig")
    return {**found, "relay.password": machine.get("relay.password")}


def alone(machine: Machine) -> bool:
    """Say whether a machine stands alone."""
    return machine.status()["cluster"] is None


def members(machine: Machine) -> list[str]:
    """Return who is in a machine's cluster, sorted."""
    groups = machine.ask("clusterconfig", "list")["groups"]
    return sorted(member["hostname"] for group in groups for member in group["machines"])


def configured(machines: Fleet) -> list[Machine]:
    """Return a cluster with settings of every kind at every level."""
    mx1, mx2, mx3 = machines.cluster("mx1", "mx2", "mx3")
    mx1.do("clusterconfig", "addgroup", "Paris")
    mx1.do("clusterconfig", "setgroup", mx2.hostname, mx3.hostname, "Paris")
    mx1.set("smtp.banner", "the cluster's")
    mx1.set("smtp.port", "25")
    mx1.set("smtp.port", "2525", "group:Paris")
    mx1.set("queue.size", "7", f"machine:{mx2.hostname}")
    mx1.do("add", "relay.domains", "example.com", "example.org", "--level", "cluster", "-m", "why")
    mx1.do("remove", "relay.domains", "example.org", "--level", "group:Paris", "-m", "why")
    mx1.do("set", "relay.password", "--secret", "--password-stdin", "--level", "cluster", "-m", "why", typed=SECRET)
    converged(mx1, mx2, mx3)
    return [mx1, mx2, mx3]


def test_machines_are_removed_and_go_on_alone(machines: Fleet) -> None:
    """Linked, it hears of it at once; away, when it comes back; both do what they did, and may join again."""
    mx1, mx2, mx3 = configured(machines)
    before = [behaviour(mx2), behaviour(mx3)]
    former, kept = mx2.status(), set(mx2.store.glob("former-*.db"))

    mx1.do("clusterconfig", "removemachine", mx2.hostname, "-m", "sold")
    wait_until(lambda: alone(mx2), PATIENCE_S, what="mx2 to stand alone")
    assert behaviour(mx2) == before[0]
    now = mx2.status()
    assert now["removed"].startswith("this machine was removed from the cluster by os:")
    assert f"on {mx1.hostname} at 20" in now["removed"]
    assert now["machine"] != former["machine"]
    assert now["fingerprint"] != former["fingerprint"]
    assert [now[name] for name in ("hostname", "serial", "ssh_port")] == [
        former[name] for name in ("hostname", "serial", "ssh_port")
    ]
    told = mx2.ask("explain", "smtp.port")
    assert "inherited from group:Paris" in str(told)
    assert len(set(mx2.store.glob("former-*.db")) - kept) == 1
    mx2.set("smtp.banner", "its own", f"machine:{mx2.hostname}")
    mx2.verify()
    wait_until(lambda: members(mx3) == [mx1.hostname, mx3.hostname], PATIENCE_S, what="mx3 to hear of it")

    mx3.stop()
    mx1.do("clusterconfig", "removemachine", mx3.hostname)
    mx3.set("queue.size", "9", f"machine:{mx3.hostname}")
    mx3.serve()
    wait_until(lambda: mx3.status()["removed"], PATIENCE_S, what="mx3 to be told")
    assert f"{mx3.hostname} was removed from the cluster by os:" in mx3.status()["removed"]
    assert f"on {mx1.hostname} at 20" in mx3.status()["removed"]
    assert mx3.link(mx1) == "removed"
    wait_until(lambda: "reaches no member that knows of it" in mx3.output.read_text("utf-8"), PATIENCE_S, what="a log")
    # A peer's word is no reason to leave: that is for whoever administers this machine.
    assert members(mx3) == [mx1.hostname, mx3.hostname]
    mx3.do("clusterconfig", "removemachine", mx3.hostname)
    assert alone(mx3)
    assert mx3.status()["serving"]
    assert behaviour(mx3) == {**before[1], "queue.size": 9}
    assert members(mx1) == [mx1.hostname]

    mx2.join(mx1, "--group", "Paris")
    converged(mx1, mx2)
    assert mx2.get("smtp.port") == 2525
    last = behaviour(mx1)
    mx1.do("clusterconfig", "removemachine", mx2.hostname, mx1.hostname)
    wait_until(lambda: alone(mx1) and alone(mx2), PATIENCE_S, what="both to stand alone")
    assert behaviour(mx1) == last


@pytest.mark.skipif(not CALLS, reason="nobody has looked up the numbers of this processor's system calls")
@pytest.mark.timeout(900)
def test_a_departure_killed_anywhere_leaves_a_member_or_a_machine_alone(machines: Fleet) -> None:
    """Log and keys belong together, what it is to do is the same, and the next command finishes what was begun."""
    member = machines.machine("mx1").init()
    member.do("clusterconfig", "create", "americas")
    member.set("smtp.port", "25")
    member.set("smtp.banner", "Paris", "group:Main_Group")
    member.do("add", "relay.domains", "example.com", "--level", "cluster", "-m", "why")
    member.do("set", "relay.password", "--secret", "--password-stdin", "--level", "cluster", "-m", "why", typed=SECRET)
    before = behaviour(member)

    def copy(name: str) -> Machine:
        machine = machines.machine(name)
        shutil.copytree(member.store, machine.store)
        return machine

    leave = ("clusterconfig", "removemachine", member.hostname)
    found = {"member": 0, "removed": 0, "alone": 0}
    for point in points(calls_of(copy("mx0").run(*leave, kill_at=0)), 8):
        machine = copy(f"mx1-{point}")
        outcome = machine.run(*leave, kill_at=point)
        status = machine.status()
        state = "alone" if status["cluster"] is None else "removed" if status["removed"] else "member"
        assert killed(outcome) or state == "alone"
        assert behaviour(machine) == before
        found[state] += 1
        again = machine.run("set", "smtp.helo", "here", "-m", "why")
        if again.status == 1:
            assert ": it stands alone now, with the settings that it had\n" in again.err
            assert alone(machine)
            machine.do("set", "smtp.helo", "here", "-m", "why")
        else:
            assert state != "removed"
        assert behaviour(machine) == {**before, "smtp.helo": "here"}
        machine.verify()
    assert all(found.values()), found
