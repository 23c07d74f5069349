"""The guide to clusters and the page for those who come from the appliance: what they quote and name is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cluster_store_cli.catalogue import COMMANDS, FAMILIES
from cluster_store_cli.menus import OPERATIONS

from cluster_store.core import commands
from cluster_store.core.errors import Refused
from cluster_store.core.requirements import check_reconnect
from cluster_store.lookups import check_hostnames
from tests.core.desk import SALT, Desk, card

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = (DOCS / "clustering.md").read_text(encoding="utf-8")
APPLIANCE = (DOCS / "appliance.md").read_text(encoding="utf-8")
LAN = {"Management": "192.0.2.11"}
TAKEN = {"serial": "3A390A7C09C1"}


def card_of(name: str, **fields: Any) -> commands.Card:
    """Return the card of a machine of the guide."""
    facts = {"hostname": f"{name}.example.com", "version": "15.0.0", "interfaces": LAN, **fields}
    return msgspec.structs.replace(card(name), **facts)


def founded(by: str = "hostname") -> Desk:
    """Return the desk of mx2, which made the cluster."""
    desk = Desk("mx2")
    desk.do(commands.InitialiseMachine(card=card_of("mx2", **TAKEN), salt=SALT))
    desk.do(commands.CreateCluster(name="americas", by=by, salt=SALT))
    return desk


@pytest.mark.parametrize(
    ("by", "fields"),
    [
        ("ip", {"version": "8.0.1"}),
        ("ip", {"version": "14.0.0"}),
        ("ip", {"interfaces": {"Data": "192.0.2.13"}}),
        ("ip", {"interfaces": {"Management": ""}}),
        ("hostname", {"hostname": "192.0.2.13"}),
        ("ip", {"hostname": "mx2.example.com"}),
        ("ip", TAKEN),
    ],
)
def test_the_guide_quotes_what_a_join_is_refused_with(by: str, fields: dict[str, Any]) -> None:
    """Each requirement's refusal stands there word for word."""
    desk = founded(by)
    if fields.get("version") == "8.0.1":
        desk = Desk("mx3")
        desk.do(commands.InitialiseMachine(card=card_of("mx3", **fields), salt=SALT))
        refusal = desk.refusal(commands.CreateCluster(name="europe", by=by, salt=SALT))
    else:
        refusal = desk.refusal(commands.AdmitMachine(card=card_of("mx3", **fields)))
    assert f"`{refusal.splitlines()[0]}`" in GUIDE


async def test_the_guide_quotes_what_names_are_refused_with() -> None:
    """A name that cannot be looked up, and an address of the other kind."""

    class Nobody:
        async def addresses(self, hostname: str) -> list[str]:
            return []

        async def hostname(self, address: str) -> str:
            return ""

    with pytest.raises(Refused) as refused:
        await check_hostnames(Nobody(), ["mx3.example.com"], "mx1.example.com")
    assert f"`{refused.value.message}`" in GUIDE
    mixed = commands.ChangeCommunication(machine="mx2.example.com", address="mx2.internal.example")
    assert f"`{founded('ip').refusal(mixed).splitlines()[0]}`" in GUIDE


def test_the_guide_quotes_what_is_refused_of_members() -> None:
    """A removed machine that comes back, and one of another version that is to be taken back."""
    desk = founded()
    desk.do(commands.AdmitMachine(card=card_of("mx1")))
    desk.do(commands.AdmitMachine(card=card_of("mx3")))
    first, _, third = sorted(desk.cluster.machines.values(), key=lambda machine: machine.hostname)
    with pytest.raises(Refused) as refused:
        check_reconnect(msgspec.structs.replace(third, version="15.0.1"), first, {})
    assert f"`{refused.value.message}`" in GUIDE
    desk.do(commands.RemoveMachines(machines=("mx3.example.com",)))
    assert f"`{desk.refusal(commands.AdmitMachine(card=card_of('mx3'))).splitlines()[0]}`" in GUIDE


def test_the_guide_has_a_section_for_each_operation() -> None:
    """In the order of the menu."""
    sections = re.findall(r"^### ([A-Z]+)$", GUIDE.partition("\n## On a member\n")[2], re.MULTILINE)
    assert sections == [name.upper() for name in OPERATIONS]


@pytest.mark.parametrize("page", ["README.md", "docs/clustering.md", "docs/appliance.md"])
def test_pages_name_commands_that_there_are(page: str) -> None:
    """Whatever stands in code after a family's name is one of its operations."""
    prose = re.sub(r"(?ms)^```.*?^```$", "", (DOCS.parent / page).read_text(encoding="utf-8"))
    spans = [span.split() for span in re.findall(r"`([^`\n]+)`", prose)]
    for words in (span for span in spans if len(span) > 1 and span[0] in FAMILIES):
        assert words[1] in FAMILIES[words[0]], " ".join(words)
    assert all(words[1] in COMMANDS for words in spans if words[0] == "cluster-store" and words[1:])


def test_the_page_for_the_appliance_answers_ten_pains() -> None:
    """One row for each."""
    rows = APPLIANCE.partition("\n## What is better\n")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| \d+ \|", rows, re.MULTILINE)) == 10
