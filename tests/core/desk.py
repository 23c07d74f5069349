"""One machine's registers and the commands that are decided over them, without records, logs or links."""

from __future__ import annotations

from cluster_store.core import commands
from cluster_store.core.cluster import Cluster
from cluster_store.core.decide import decide
from cluster_store.core.decision import Context, Decision
from cluster_store.core.errors import ClusterStoreError
from cluster_store.core.events import Event, misplaced
from cluster_store.core.registers import LaneValue
from cluster_store.core.rules import read
from cluster_store.core.settings import effective_settings
from cluster_store.core.types import Epoch, Path
from tests.core.builders import identity
from tests.core.plain import Plain

SALT = b"0123456789abcdef"


def card(name: str) -> commands.Card:
    """Return what a machine says of itself."""
    return commands.Card(
        key=identity(name).key.hex(),
        hostname=name,
        serial=f"S-{name}",
        version="9.0",
        ssh_port=22,
        ccs_port=2222,
        listen="",
        host_key=f"ssh-ed25519 host-{name}",
        client_key=f"ssh-ed25519 client-{name}",
    )


class Desk:
    """Decides commands and applies their events to plain registers."""

    def __init__(self, name: str) -> None:
        self.me = identity(name).id
        self.registers = Plain()
        self.now = 1_700_000_000_000

    @property
    def cluster(self) -> Cluster:
        """The read model."""
        return read(self.registers)

    @staticmethod
    def path(text: str) -> Path:
        """Return a register's path."""
        return Path(text)

    def decide(self, command: commands.Command) -> Decision:
        """Decide a command; nothing changes."""
        context = Context(self.registers, self.cluster, self.me, "os:root", self.now, Epoch("e" * 16))
        return decide(command, context)

    def do(self, command: commands.Command) -> Event | None:
        """Decide a command and apply its event; return it, None where nothing has to change."""
        self.now += 1000
        event = self.decide(command).event
        if event is not None:
            assert misplaced(event.kind, event.writes) == ""
            assert event.writes
            for one in event.writes:
                lanes = self.registers.lanes.setdefault(one.path, {})
                for gone in one.replaced:
                    del lanes[gone]
                if not isinstance(one.value, bool):
                    text = event.secrets.get(one.path, (b"", ""))[1]
                    self.registers.put(one.path, one.value, self.now, f"{self.now:064x}", text=text)
        return event

    def refusal(self, command: commands.Command) -> str:
        """Return the words in which a command is refused."""
        try:
            decision = self.decide(command)
        except ClusterStoreError as error:
            return error.describe()
        raise AssertionError(f"not refused: {decision}")

    def set(self, key: str, value: str, level: str | None = None, *, secret: bool = False) -> Event | None:
        """Set a key to a JSON text."""
        return self.do(commands.SetSetting(key=key, value=value, level=level, secret=secret, salt=SALT))

    def values(self) -> dict[str, LaneValue]:
        """Return what is effective on this machine."""
        found = effective_settings(self.registers, self.cluster.levels_for(self.me))
        return {key: value.value for key, value in found.items()}
