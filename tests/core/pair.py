"""A cluster of two machines, as records: Anna began it and let Bert in; nobody knows Cleo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cluster_store.core.records import Envelope, Record
from tests.core.builders import admitting, beginning, first_record, following, identity, sealed, write

ANNA, BERT, CLEO = identity("anna"), identity("bert"), identity("cleo")
FIRST = first_record(ANNA)
ADMISSION = sealed(admitting(FIRST, BERT), ANNA)
JOINED = sealed(beginning(BERT, ADMISSION), BERT)
BANNER = "setting/cluster/smtp.banner"
#: The id of a record that nobody has.
ABSENT = "ab" * 32


def setting(record: Record, value: str = '"x"', *replaced: str, **fields: Any) -> Envelope:
    """Return an envelope after a record, by its author, that sets the banner."""
    return following(record, **{"writes": (write(BANNER, value, *replaced),), **fields})


def removing(record: Record, *machines: str, left: Sequence[str] = (ANNA.id,), **fields: Any) -> Envelope:
    """Return an envelope after a record, by its author, that removes machines."""
    told = msgspec.json.encode(list(left)).decode()
    writes = tuple(write(f"machine/{machine}/removed", told) for machine in machines)
    return following(record, **{"kind": "MachinesRemoved", "writes": writes, **fields})
