"""``diff``: what is staged; or two past states, or a past one and the present."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from cluster_store.core.comparison import Between, to_json
from cluster_store.core.impact import impact
from cluster_store.core.impact import to_json as impact_to_json
from cluster_store.core.naming import excerpt, one_line

from . import rehearsal, staging
from .session import say
from .views import AsKnownBy, past

_MOMENTS_MAX = 2


def diff(
    context: typer.Context,
    when: Annotated[
        list[str] | None, typer.Argument(metavar="[WHEN [WHEN]]", help="Two moments; without the second one, now.")
    ] = None,
    as_known_by: AsKnownBy = None,
) -> None:
    """Show what is staged, or compare two moments, or one with now.

    Of what is staged: what it replaces, on which machines the effective values would change and where that is hidden,
    and what was changed since it was staged. Of two moments, what differs is named as clustercheck does: settings by
    level and key, a set's elements one by one. Then, on which machines the effective values changed.
    """
    moments = when or []
    if len(moments) > _MOMENTS_MAX or (as_known_by is not None and not moments):
        context.fail("give nothing, for what is staged; one moment, to compare it with now; or two")
    if not moments:
        staging.show(context.obj)
        return
    with context.obj.read() as store, store.snapshot():
        before = past(store, moments[0], as_known_by)
        if len(moments) == _MOMENTS_MAX or as_known_by is not None:
            between = Between(before, past(store, moments[1] if len(moments) > 1 else None, as_known_by))
        else:
            between = Between(before, store)
    cluster = between.cluster_after
    told = {
        "changes": [to_json(one, cluster) for one in between.differences],
        "impact": impact_to_json(impact(between), cluster),
    }
    context.obj.show(told, lambda: _tell(told))


def _tell(told: dict[str, Any]) -> None:
    from .tables import print_table

    if not told["changes"]:
        say("both say the same")
        return
    rows = [[one_line(one["path"]), _text(one, "old"), _text(one, "new")] for one in told["changes"]]
    print_table(["what", "before", "after"], rows)
    for one in told["impact"]:
        keys = rehearsal.some([change["key"] for change in one["changes"]])
        say(f"effective values changed on {rehearsal.some(one['machines'])}: {keys}")


def _text(change: dict[str, Any], when: str) -> str:
    if not change[f"set_{when}"]:
        return "unset"
    value = change[when]
    return excerpt(value if isinstance(value, str) else msgspec.json.encode(value).decode())
