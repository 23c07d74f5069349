"""CCS: a listener for machines only, joining without a password, and a running cluster that changes its ways."""

from __future__ import annotations

import socket

from tests.end_to_end.machines import PASSWORD, PATIENCE_S, Fleet, Machine, converged
from tests.waiting import wait_until


def joining_over_ccs(joiner: Machine, member: Machine) -> list[str]:
    """Return the words by which a machine joins over CCS."""
    status = member.status()
    where = f"{member.address}:{status['ccs_port']}"
    return ["clusterconfig", "join", where, "--ccs", "--yes", "--fingerprint", status["fingerprint"]]


def connected(*machines: Machine) -> bool:
    """Say whether every machine has a link to every other one."""
    return all(one.link(other) == "connected" for one in machines for other in machines if one is not other)


def test_a_machine_that_was_announced_joins_without_a_password(machines: Fleet) -> None:
    """Whoever was not announced, or is not the machine that was, stays outside; a fulfilled announcement is gone."""
    first, second = machines.cluster("mx1", "mx2")
    joiner = machines.machine("mx3").init()
    words = joining_over_ccs(joiner, second)
    assert "does not let this machine in" in joiner.refused(*words)
    told = joiner.ask("clusterconfig", "prepjoin", "print")
    stranger = machines.machine("mx4").init()
    key = stranger.ask("clusterconfig", "prepjoin", "print")["key"]
    first.do("clusterconfig", "prepjoin", "new", "mx3", told["serial"], key)
    assert "was announced with the hostname mx3" in stranger.refused(*joining_over_ccs(stranger, first))
    first.do("clusterconfig", "prepjoin", "delete", "mx3")
    assert first.ask("clusterconfig", "prepjoin", "list") == []
    first.do(*told["command"].split(maxsplit=5)[:5], told["key"])
    converged(first, second)
    assert [one["hostname"] for one in second.ask("clusterconfig", "prepjoin", "list")] == [joiner.hostname]
    # Any member lets it in, not only the one where it was announced; people do not get in there at all.
    person = ["clusterconfig", "join", words[2], "--ssh", "--password-stdin", "--yes", *words[5:]]
    assert "does not let admin in" in joiner.refused(*person, typed=PASSWORD + "\n")
    joiner.do(*words)
    joiner.serve()
    converged(first, second, joiner)
    assert first.ask("clusterconfig", "prepjoin", "list") == []
    admitted = next(event for event in first.events() if event["kind"] == "MachineAdmitted" and "mx3" in str(event))
    assert admitted["user"] == f"machine:{joiner.hostname}"
    with socket.create_server((stranger.address, stranger.status()["ccs_port"])):
        stranger.serve()
        is_deaf(stranger)


def is_deaf(machine: Machine) -> None:
    """Insist that a machine says in all three places that somebody else has its CCS port."""
    status = machine.status()
    told = f"nobody gets in over CCS where the record says: cannot listen on {machine.address}:"
    assert (status["ccs_port"], status["problems"]) == (None, 1)
    assert status["deaf"].startswith(told)
    assert machine.links()[machine.name]["reason"] == f"this machine; {status['deaf']}"
    (problem,) = machine.ask("clustercheck", status=3)["problems"]
    assert (problem["kind"], problem["text"]) == ("listener", status["deaf"])


def test_a_running_cluster_changes_transport_and_ports(machines: Fleet) -> None:
    """Links move over, nothing is lost, and a machine that was away finds its way back."""
    first, second, away = machines.cluster("mx1", "mx2", "mx3")
    wait_until(lambda: connected(first, second, away), PATIENCE_S, what="links")
    away.stop()
    ports = machines.machine("other").init().ask("machine", "show")
    first.do("clusterconfig", "communication", "--over", "ccs")
    converged(first, second)
    second.do("clusterconfig", "communication", "--machine", first.hostname, "--port", str(ports["ccs_port"]))
    converged(first, second)
    first.do("clusterconfig", "communication", "--machine", away.hostname, "--port", str(ports["ssh_port"]))
    wait_until(lambda: first.status()["ccs_port"] == ports["ccs_port"], PATIENCE_S, what="the new port")
    away.set("written.while.away", "1")
    first.set("written.meanwhile", "1")
    away.serve()
    converged(first, second, away)
    wait_until(lambda: away.status()["ccs_port"] == ports["ssh_port"], PATIENCE_S, what="the new port there")
    wait_until(lambda: connected(first, second, away), PATIENCE_S, what="links")
    assert first.get("written.while.away") == second.get("written.meanwhile") == 1
    assert away.ask("clusterconfig", "communication")["over"] == "ccs"
