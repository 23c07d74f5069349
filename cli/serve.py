"""``serve``: the daemon, in the foreground."""

from __future__ import annotations

import logging
import sys
from typing import Any

import typer

from cluster_store import bootstrap

from .session import Session, say


def serve(context: typer.Context) -> None:
    """Run the daemon in the foreground, until SIGTERM.

    It prints one line when it accepts connections, and what an operator should hear of on standard error.
    """
    # Only here, because it brings the merge engine along.
    from cluster_store.ports import host_port

    session: Session = context.obj
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")

    def ready(about: dict[str, Any]) -> None:
        where = host_port(about["listen"], about["ssh_port"])
        session.show(about, lambda: say(f"{about['hostname']} accepts connections at {where}, {about['fingerprint']}"))
        sys.stdout.flush()

    bootstrap.serve(session.root, ready)
