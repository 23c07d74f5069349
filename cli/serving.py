"""What ``serve`` does, without typer: what starts a machine again waits for its daemon.

``quick`` understands the plain forms of the command; whatever else the arguments say goes the usual way, through
``serve.py``, to the same ``run``.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import Any

from cluster_store import bootstrap

from .failures import DONE
from .session import Session, say


def quick(arguments: Sequence[str]) -> Session | None:
    """Return the session of a plain ``serve``, None where the arguments are anything else."""
    session = Session()
    serves = False
    rest = list(reversed(arguments))
    while rest:
        word = rest.pop()
        if word == "--store" and rest and rest[-1] and not serves:
            session.store = rest.pop()
        elif word == "--json":
            session.as_json = True
        elif word == "serve" and not serves:
            serves = True
        else:
            return None
    # Somebody who logged in is refused where all who log in are.
    return session if serves and not bootstrap.is_login() else None


def run(session: Session) -> int:
    """Run the daemon until SIGTERM."""
    # What a start loads stays: to look through it for garbage over and over would take a seventh of it.
    gc.disable()
    try:
        _serve(session)
    finally:
        gc.enable()
    return DONE


def _serve(session: Session) -> None:
    import logging

    # Only here, because it brings the merge engine along.
    from cluster_store.ports import host_port

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")

    def ready(about: dict[str, Any]) -> None:
        where = host_port(about["listen"], about["ssh_port"])
        session.show(about, lambda: say(f"{about['hostname']} accepts connections at {where}, {about['fingerprint']}"))
        sys.stdout.flush()
        gc.freeze()
        gc.enable()

    bootstrap.serve(session.root, ready)
