"""``status``: this machine at a glance."""

from __future__ import annotations

from typing import Any

import typer

from cluster_store import bootstrap
from cluster_store.core.digest import digest, lanes_digest
from cluster_store.core.naming import counted, iso_time, show_removal

from .clustercheck import NOBODY, inbox_of, told_by
from .confirm import pending, tell_pending
from .session import Session
from .tables import print_facts


def status(context: typer.Context) -> None:
    """Show this machine, its daemon and its digest.

    Two machines have the same digest exactly when their merged state is the same.
    """
    told = _status(context.obj)
    context.obj.show(told, lambda: _tell(told))


def _tell(told: dict[str, Any]) -> None:
    print_facts({name.replace("_", " "): _word(fact) for name, fact in told.items()})
    tell_pending(told["pending"])


def _status(session: Session) -> dict[str, Any]:
    daemon = bootstrap.ask_daemon(session.root, "status")
    with session.read() as store, store.snapshot():
        cluster = store.cluster()
        machine = cluster.machine_or_removed(store.me)
        assert machine is not None
        left = cluster.departure(store.me)
        group = cluster.groups.get(machine.group)
        found = inbox_of(store, daemon["reached"] if daemon is not None else NOBODY)
        told = {
            "machine": machine.id,
            "hostname": machine.hostname,
            "serial": machine.serial,
            "cluster": cluster.name or None,
            "group": group.name if group else None,
            "serving": False,
            "ssh_port": machine.ssh_port,
            "ccs_port": machine.ccs_port,
            "fingerprint": bootstrap.fingerprint(machine.host_key),
            "records": store.count,
            "digest": digest(cluster, store),
            "lanes_digest": lanes_digest(store),
            "conflicts": len(found.conflicts),
            "problems": len(found.problems) + len(told_by(daemon)),
            "detached": machine.detached is not None,
            "removed": show_removal(left, "this machine") if left is not None else None,
            "epoch": {"reason": machine.epoch_reason, "since": iso_time(machine.epoch_begun)},
            "deaf": None,
            "twin": None,
            "staged": session.staged,
            "pending": pending(store),
        }
    if daemon is not None:
        told |= {name: daemon[name] for name in ("serving", "ssh_port", "ccs_port", "removed", "deaf", "twin")}
    if not told["cluster"] and told["removed"] is None and (former := bootstrap.last_departure(session.root)):
        told["removed"] = show_removal(former, "this machine")
    return told


def _word(fact: Any) -> str:
    if isinstance(fact, list):
        return counted(len(fact), "change") if fact else "nothing"
    if isinstance(fact, dict):
        return " since ".join(filter(None, fact.values()))
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return "none" if fact is None else str(fact)
