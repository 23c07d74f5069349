"""All kinds of bad inputs that are tried."""

from __future__ import annotations

from tests.hostile.contents import CONTENTS
from tests.hostile.frames import FRAMES
from tests.hostile.kinds import Kind
from tests.hostile.messages import MESSAGES
from tests.hostile.records import RECORDS

KINDS: list[Kind] = [*FRAMES, *MESSAGES, *RECORDS, *CONTENTS]
