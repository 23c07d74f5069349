"""``featurekey``: what makes clusters possible on old platform versions."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster_store.core.commands import ChangeMachine
from cluster_store.core.requirements import FREE_VERSION, needs_feature_key

from .parameters import Comment
from .session import Session, note, say


def featurekey(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="The key; left out, it is shown.")] = None,
    comment: Comment = "",
) -> None:
    """Show or set this machine's feature key.

    Platform versions before 8.5.6 make clusters and join them only with one. Whether a key is genuine is for the
    platform to say: any text is taken, and kept with what this machine says of itself.
    """
    session: Session = context.obj
    with session.read() as store:
        machine = store.cluster().machine_or_removed(store.me)
    assert machine is not None
    needed = needs_feature_key(machine.version)
    free = ".".join(map(str, FREE_VERSION))
    if not needed:
        note(f"this machine runs version {machine.version}, which needs no feature key: only those before {free} do")
    told = {"platform_version": machine.version, "needed": needed}
    if key is not None:
        result = session.submit(ChangeMachine(feature_key=key, comment=comment))
        session.report({**result, **told, "feature_key": key}, "the feature key is set")
        return
    session.show({**told, "feature_key": machine.feature_key or None}, lambda: say(machine.feature_key or "none"))
