"""``init``: the store of this machine, alone and in no cluster."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from cluster_store import bootstrap
from cluster_store.core.commands import Card
from cluster_store.core.values import check_name

from . import network, prompts
from .parameters import CcsPort, Interfaces, Listen, PasswordStdin, PlatformVersion, SshPort
from .session import note, say


def init(
    context: typer.Context,
    hostname: Annotated[str, typer.Option("--hostname", metavar="NAME", help="What other machines call this one.")],
    serial: Annotated[str, typer.Option("--serial", metavar="S", help="Serial number; otherwise from its id.")] = "",
    interface: Interfaces = None,
    platform_version: PlatformVersion = None,
    ssh_port: SshPort = None,
    ccs_port: CcsPort = None,
    listen: Listen = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Make the store of this machine.

    It gets its keys and stands alone, until it creates a cluster or joins one. The first interface's address is
    the one that peers dial when the cluster talks by IP, and where the machine listens without --listen.
    """
    session = context.obj
    check_name(hostname, "hostname")
    interfaces = network.interfaces(interface or [])
    address = network.address(listen) if listen else ""
    ports = network.choose_ports(address or next(iter(interfaces.values()), ""), (ssh_port, ccs_port))
    version = platform_version or metadata.version("cluster-store")

    def describe(own: dict[str, str]) -> Card:
        return Card(
            **{**own, "serial": serial or own["serial"]},
            hostname=hostname,
            interfaces=interfaces,
            version=version,
            ssh_port=ports[0],
            ccs_port=ports[1],
            listen=address,
        )

    password = ""
    if password_stdin or prompts.at_terminal():
        password = prompts.new_password("admin", from_stdin=password_stdin)
    made = bootstrap.initialise(session.root, describe, password)
    for usual, wanted, port in zip(network.USUAL_PORTS, (ssh_port, ccs_port), ports, strict=True):
        if wanted is None and port != usual:
            note(f"port {usual} cannot be had here, so this machine takes {port} instead")
    prompts.warn_of_short(password)
    if not password:
        note("admin has no password yet, so nobody can join through this machine: 'cluster-store passwd' gives one")

    def words() -> None:
        say(f"{made['hostname']}, serial number {made['serial']}: its store is in {session.root}")
        say(f"SSH port {made['ssh_port']}, CCS port {made['ccs_port']}; 'cluster-store serve' begins to listen")

    session.show(made, words)
