"""``machine``: what this machine says of itself."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster_store import bootstrap
from cluster_store.core.cluster import Machine
from cluster_store.core.commands import ChangeMachine

from . import network
from .parameters import CcsPort, Comment, Interfaces, Listen, PlatformVersion, SshPort
from .session import Session
from .tables import print_facts


def show(context: typer.Context) -> None:
    """Show what this machine says of itself.

    Other members know it by this too.
    """
    machine = _this(context.obj)
    told = {
        "machine": machine.id,
        "hostname": machine.hostname,
        "serial": machine.serial,
        "interfaces": machine.interfaces,
        "platform_version": machine.version,
        "ssh_port": machine.ssh_port,
        "ccs_port": machine.ccs_port,
        "listen": machine.listen,
        "fingerprint": bootstrap.fingerprint(machine.host_key),
    }

    def words() -> None:
        interfaces = ", ".join(f"{name}={address}" for name, address in machine.interfaces.items())
        print_facts({name.replace("_", " "): str(fact) for name, fact in {**told, "interfaces": interfaces}.items()})

    context.obj.show(told, words)


def set_(
    context: typer.Context,
    hostname: Annotated[str | None, typer.Option("--hostname", metavar="NAME", help="What others call it.")] = None,
    interface: Interfaces = None,
    platform_version: PlatformVersion = None,
    ssh_port: SshPort = None,
    ccs_port: CcsPort = None,
    listen: Listen = None,
    serial: Annotated[str | None, typer.Option("--serial", metavar="S", help="Its serial number.")] = None,
    comment: Comment = "",
) -> None:
    """Change what this machine says of itself.

    What is not given stays. The interfaces given replace all that it had. A running daemon listens at its new
    place at once; other members dial it there as soon as they hear of it.
    """
    machine = _this(context.obj)
    interfaces = network.interfaces(interface) if interface else None
    address = network.address(listen) if listen else listen
    if all(given is None for given in (hostname, interfaces, platform_version, ssh_port, ccs_port, listen, serial)):
        context.fail("nothing to change was given")
    ssh, ccs = _ports(machine, interfaces, address, ssh_port, ccs_port)
    result = context.obj.submit(
        ChangeMachine(
            hostname=hostname,
            serial=serial,
            interfaces=interfaces,
            version=platform_version,
            ssh_port=ssh,
            ccs_port=ccs,
            listen=address,
            comment=comment,
        )
    )
    ports = {"ssh_port": ssh or machine.ssh_port, "ccs_port": ccs or machine.ccs_port}
    context.obj.report(result, "changed", **ports)


def _this(session: Session) -> Machine:
    """Return this machine, as it was last where it is no member any more."""
    with session.read() as store:
        machine = store.cluster().machine_or_removed(store.me)
    assert machine is not None
    return machine


def _ports(
    machine: Machine, interfaces: dict[str, str] | None, listen: str | None, ssh: int | None, ccs: int | None
) -> tuple[int | None, int | None]:
    """Return the ports to change to, None for those that stay; 0 becomes a free one."""
    if ssh is None and ccs is None:
        return None, None
    at = machine.listen if listen is None else listen
    at = at or next(iter((machine.interfaces if interfaces is None else interfaces).values()), "")
    kept = (machine.ssh_port if ssh is None else ssh, machine.ccs_port if ccs is None else ccs)
    chosen = network.choose_ports(at, kept)
    return (chosen[0] if ssh is not None else None), (chosen[1] if ccs is not None else None)
