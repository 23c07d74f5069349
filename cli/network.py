"""Addresses and ports as operators write them, and which of this host's can be had."""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket
from collections.abc import Iterable, Sequence

import typer

from cluster_store.core.errors import Refused
from cluster_store.core.values import check_name

#: Where members dial by default, and where announced machines do.
USUAL_PORTS = SSH_PORT, CCS_PORT = 22, 2222
#: Free ports are looked for below those that systems give to outgoing connections, which could take one before
#: the daemon does.
_FREE_PORTS = range(20_000, 32_000)
_ATTEMPTS = 200


def address(text: str) -> str:
    """Return an IP address, an IPv6 one without its brackets. Raises BadParameter."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no IP address") from None


def interfaces(given: Iterable[str]) -> dict[str, str]:
    """Return interface names and addresses of NAME=ADDRESS options, in their order.

    Raises:
        BadParameter: one is not of that form, or a name is there twice.
        InvalidValue: a name cannot be one.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, where = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"'{text}' is not of the form NAME=ADDRESS")
        if check_name(name, "interface name") in found:
            raise typer.BadParameter(f"the interface {name} is named twice")
        found[name] = address(where)
    return found


def host_and_port(text: str, usual: int = SSH_PORT) -> tuple[str, int]:
    """Return host and port of HOST[:PORT], an IPv6 address in brackets; the usual one where there is no port.

    Raises:
        BadParameter: it is not of that form.
    """
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        host = address(host)
        port = port.removeprefix(":") if port.startswith(":") else ("" if not port else "?")
    else:
        host, colon, port = text.partition(":")
        port = port if colon else ""
    if not host or ":" in port:
        raise typer.BadParameter(f"'{text}' is not of the form HOST[:PORT]; an IPv6 address stands in brackets")
    if not port:
        return host, usual
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        raise typer.BadParameter(f"'{port}' is no port")
    return host, int(port)


def choose_ports(listen: str, wanted: Sequence[int | None], taken: Iterable[int] = ()) -> list[int]:
    """Return the ports to listen on.

    Args:
        listen: the address; empty for all.
        wanted: for SSH and CCS: a port, 0 for any free one, None for the usual one if it can be had.
        taken: ports that are no longer free, though nobody listens there yet.

    Raises:
        BadParameter: one port was asked for twice.
        Refused: no free port is found.
    """
    fixed = [port for port in wanted if port]
    if len(set(fixed)) < len(fixed):
        raise typer.BadParameter(f"port {fixed[0]} cannot serve both SSH and CCS")
    used = [*fixed, *taken]
    ports = []
    for usual, port in zip(USUAL_PORTS, wanted, strict=True):
        chosen = port or _free_port(listen, usual if port is None else 0, used)
        used.append(chosen)
        ports.append(chosen)
    return ports


def _free_port(listen: str, usual: int, used: Sequence[int]) -> int:
    if usual and usual not in used and _can_be_had(listen, usual):
        return usual
    for _ in range(_ATTEMPTS):
        port = secrets.choice(_FREE_PORTS)
        if port not in used and _can_be_had(listen, port):
            return port
    raise Refused(f"no free port was found at {listen or 'any address'}", "name two with --ssh-port and --ccs-port")


def _can_be_had(listen: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen, port))
        except OSError as error:
            # An address that this host does not have yet says nothing about the port.
            return error.errno == errno.EADDRNOTAVAIL
    return True
