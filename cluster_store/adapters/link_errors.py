"""The ways in which a connection fails, in the words that ``connstatus`` shows; one place for every transport.

``where`` is ``host:port`` as ``ports.host_port`` writes it. No text here ever contains a password. A reason may be the
peer's own words, so control characters are taken out: a terminal would obey them.
"""

from __future__ import annotations

import os
import socket

from cluster_store.core.errors import LinkError


def reason(error: Exception) -> str:
    """Return why an attempt failed, in the system's or the library's words."""
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        # asyncio puts the address where the system's words should be.
        return os.strerror(error.errno)
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text).strip()


def no_such_name(where: str, why: str) -> LinkError:
    """The host's name could not be turned into an address."""
    return LinkError(
        "no such name",
        f"cannot look up the name in {where}: {_printable(why)}",
        "Check the spelling, and that this machine's DNS knows the name; an IP address works without it.",
    )


def unreachable(where: str, why: str) -> LinkError:
    """Nothing that speaks our protocol answers there."""
    return LinkError(
        "unreachable",
        f"{where} is unreachable: {_printable(why)}",
        "Check that the other machine runs `cluster-store serve`, its address and port, and the firewalls in between.",
    )


def host_key_changed(where: str, pinned: str, offered: str) -> LinkError:
    """Whoever answers does not hold the key that was recorded or accepted; both are fingerprints."""
    return LinkError(
        "host key changed",
        f"{where} shows the host key {offered}, but {pinned} is the one on record",
        "Another machine may be answering at this address: nothing was sent to it. Compare with `cluster-store status` "
        "on that machine.",
    )


def host_key_refused(where: str, fingerprint: str) -> LinkError:
    """The person, or the fingerprint given, did not accept the key that was shown."""
    return LinkError(
        "host key refused",
        f"the host key {fingerprint} of {where} was not accepted, so no password was sent",
        "Compare it with the fingerprint that `cluster-store status` prints on that machine.",
    )


def authentication_failed(where: str, who: str) -> LinkError:
    """The other side does not know this machine's key, or does not take this password."""
    return LinkError(
        "authentication failed",
        f"{where} does not let {who} in",
        "For a person: check the user name and the password. For a machine: check that it is still a member.",
    )


def dropped(where: str, why: str) -> LinkError:
    """There was a connection, and now there is none."""
    return LinkError(
        "dropped",
        f"the connection with {where} was dropped: {_printable(why)}",
        "It is dialled again by itself; if it stays down, look at the network and at the other machine.",
    )
